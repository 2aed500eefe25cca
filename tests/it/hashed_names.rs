//! Names with a hash: that an object lies under one says nothing about its bytes.

use crate::support::s3::{Conditions, Fault, MemoryS3};
use crate::support::site::{DEADLINE, Settings, Site, bytes, key, picture, sha256};

const NONE: Settings = Settings { drop: "", s3: "", rest: "keep: {days: 0}" };
const WRITE_ONLY: Settings = Settings { s3: "access: write-only", ..NONE };

async fn started(conditions: Conditions, settings: Settings) -> Site {
    let s3 = MemoryS3::start("evidence").await;
    s3.take_conditions(conditions);
    let mut site = Site::with(s3, settings);
    site.start().await;
    site
}

fn beside(key: &str, content: &[u8], mark: &str, digits: usize) -> String {
    let (stem, extension) = key.rsplit_once('.').unwrap();
    format!("{stem}~{mark}{}.{extension}", &sha256(content)[..digits])
}

#[tokio::test]
async fn i1_i2_an_object_under_the_name_with_the_hash_is_not_taken_for_the_capture() {
    let whole = [b"\xFF\xD8".as_slice(), &bytes(1, 1000), b"\xFF\xD9"].concat();
    // Nothing after the start of the scan: the end is missing.
    let cut = [b"\xFF\xD8\xFF\xDA\x00\x02".as_slice(), &[7; 1000]].concat();
    for conditions in [Conditions::Honoured, Conditions::Ignored, Conditions::Refused] {
        for settings in [NONE, WRITE_ONLY] {
            for (content, mark) in [(&whole, ""), (&cut, "partial-")] {
                let site = started(conditions, Settings { drop: "partial_after: 0s", ..settings }).await;
                let (own, first) = (key("CAM", 1), beside(&key("CAM", 1), content, mark, 8));
                site.s3.insert(&own, "somebody else's");
                site.s3.insert(&first, "");
                site.write(format!("CAM/{}", picture(1)), content);
                site.wait_until_empty().await;
                let what = format!("{conditions:?} {settings:?} {mark}: {:?}", site.s3.keys());
                let last = site.s3.object(&beside(&own, content, mark, 64)).expect(&what);
                assert_eq!(last.sha256, sha256(content), "{what}");
                assert_eq!(site.s3.object(&own).unwrap().sha256, sha256(b"somebody else's"), "{what}");
                assert_eq!(site.s3.object(&first).unwrap().len, 0, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn i1_a_file_stays_if_other_objects_have_all_its_names() {
    let content = bytes(1, 1000);
    for conditions in [Conditions::Honoured, Conditions::Ignored] {
        let site = started(conditions, NONE).await;
        let own = key("CAM", 1);
        let names = [own.clone(), beside(&own, &content, "", 8), beside(&own, &content, "", 64)];
        for name in &names {
            site.s3.insert(name, "");
        }
        let path = site.write(format!("CAM/{}", picture(1)), &content);
        site.wait_for_status("the trouble", |status| {
            status.trouble.as_ref().is_some_and(|trouble| trouble.reason.contains("other bytes than its name says"))
        })
        .await;
        assert!(path.exists());
        assert!(names.iter().all(|name| site.s3.object(name).unwrap().len == 0));
        // The owner takes the strange object away.
        site.s3.remove(&names[2]);
        site.wait_until_empty().await;
        assert_eq!(site.s3.object(&names[2]).unwrap().sha256, sha256(&content));
    }
}

#[tokio::test]
async fn i1_a_box_that_may_not_read_believes_no_name_at_a_store_that_checks_nothing() {
    let s3 = MemoryS3::start("evidence").await;
    s3.ignore_checksums();
    let mut site = Site::with(s3, WRITE_ONLY);
    site.start().await;
    let content = bytes(1, 1000);
    site.s3.fault(Fault::alter_body("PutObject"));
    let path = site.write(format!("CAM/{}", picture(1)), &content);
    // Each attempt leaves altered bytes under one more name, and then there is no name left.
    site.wait_for_status("the trouble", |status| {
        status.trouble.as_ref().is_some_and(|trouble| trouble.reason.contains("bytes that this box may not look at"))
    })
    .await;
    assert!(path.exists());
    site.s3.clear_faults();
    site.s3.remove(&beside(&key("CAM", 1), &content, "", 64));
    site.wait_until_empty().await;
    assert!(site.s3.look(|state| state.objects().values().any(|object| object.sha256 == sha256(&content))));
}

#[tokio::test]
async fn i8_what_a_box_that_may_not_read_has_written_down_is_not_stored_twice_after_a_restart() {
    let mut site = Site::started(Settings { drop: "partial_after: 1h", ..WRITE_ONLY }).await;
    let cut = [b"\xFF\xD8\xFF\xDA\x00\x02".as_slice(), &[7; 1000]].concat();
    site.write(format!("CAM/{}", picture(1)), &cut);
    site.s3.wait_for(|state| state.objects().keys().any(|key| key.contains("~partial-")), DEADLINE).await;
    site.wait("its line", || (!site.ledger("CAM").is_empty()).then_some(())).await;
    site.stop().await;
    let keys = site.s3.keys();
    site.start().await;
    site.wait_for_status("the file", |status| status.files.iter().any(|file| file.reason.is_some())).await;
    site.stop().await;
    assert_eq!(site.s3.keys(), keys);
    assert_eq!(site.ledger("CAM").len(), 1);
}
