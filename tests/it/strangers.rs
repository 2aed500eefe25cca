//! Something answers in the store's place, or the store is not the one that was asked: no capture is lost or overwritten.

use std::time::Duration;

use futures_util::future::join_all;
use hk_aws::bucket::PROBE;

use crate::support::s3::{Conditions, Fault, MemoryS3};
use crate::support::site::{DATE, DEADLINE, Settings, Site, bytes, key, picture, sha256};

const NONE: Settings = Settings { drop: "", s3: "", rest: "keep: {days: 0}" };
const WRITE_ONLY: Settings = Settings { s3: "access: write-only", ..NONE };
const WITHOUT_CHECKSUM: Settings = Settings { s3: "checksum: when_required", ..NONE };

const CLIP: &str = "192.168.1.64_01_20260224120000000_1.mp4";
const CLIP_BYTES: usize = 16 << 20;

const PAGE: &str = "<!DOCTYPE html><html><head><title>Welcome<br></head><body>Please log in & pay";
const HTML: Headers = &[("content-type", "text/html; charset=utf-8")];
const HTML_WITH_ETAG: Headers = &[("content-type", "text/html"), ("etag", "\"5f3e-61a\"")];
const ETAG: Headers = &[("etag", "\"d41d8cd98f00b204e9800998ecf8427e\"")];

type Headers = &'static [(&'static str, &'static str)];

/// What says 200 to whatever it is asked.
const WELCOMES: [(u16, Headers, &str); 5] =
    [(200, HTML, PAGE), (204, &[], ""), (200, &[], ""), (200, ETAG, ""), (200, HTML_WITH_ETAG, PAGE)];

async fn site(conditions: Conditions, settings: Settings) -> Site {
    let s3 = MemoryS3::start("evidence").await;
    s3.take_conditions(conditions);
    Site::with(s3, settings)
}

fn holds(site: &Site, content: &[u8]) -> bool {
    site.s3.look(|state| state.objects().values().any(|object| object.sha256 == sha256(content)))
}

async fn is_kept_until_it_is_stored(site: &Site, name: &str, content: &[u8], what: &str) {
    let path = site.drop_path(format!("CAM/{name}"));
    site.wait("its end, or trouble", || {
        let status = hk_aws::status::Snapshot::read(&site.path("run")).ok()?;
        (!path.exists() || status.trouble.is_some()).then_some(())
    })
    .await;
    assert!(path.exists() || holds(site, content), "{what}: lost; {:?}", site.s3.keys());
    site.s3.clear_faults();
    site.wait_until_empty().await;
    assert!(holds(site, content), "{what}: {:?}", site.s3.keys());
}

#[tokio::test]
async fn i1_a_look_that_a_stranger_answers_proves_nothing_where_only_a_look_tells_what_is_there() {
    let welcomes = || WELCOMES.into_iter().enumerate();
    let each = [Conditions::Refused, Conditions::Ignored].into_iter().flat_map(|of| welcomes().map(move |at| (of, at)));
    join_all(each.map(async |(conditions, (at, (status, headers, body)))| {
        let mut site = site(conditions, NONE).await;
        site.start().await;
        site.s3.fault(Fault::answer("HeadObject", status, headers, body));
        let (name, size) = if at == 0 { (CLIP.to_owned(), CLIP_BYTES) } else { (picture(1), 1000) };
        let content = bytes(1, size);
        site.write(format!("CAM/{name}"), &content);
        is_kept_until_it_is_stored(&site, &name, &content, &format!("{conditions:?} {status} {headers:?}")).await;
    }))
    .await;
}

#[tokio::test]
async fn i2_a_stranger_who_answers_at_the_start_decides_nothing_about_the_store() {
    let each = WELCOMES.into_iter().flat_map(|of| [NONE, WITHOUT_CHECKSUM].map(|settings| (of, settings)));
    join_all(each.map(async |((status, headers, body), settings)| {
        let mut site = site(Conditions::Honoured, settings).await;
        site.s3.fault(Fault::answer("PutObject", status, headers, body).on_key(|key| key.ends_with(PROBE)));
        site.start_in_trouble().await;
        let (one, two) = (bytes(1, 1000), bytes(2, 1000));
        site.write(format!("CAM/a/{}", picture(1)), &one);
        site.wait_for_status("the trouble", |status| status.trouble.is_some()).await;
        assert!(site.s3.keys().is_empty());
        site.s3.clear_faults();
        site.wait_until_empty().await;
        site.write(format!("CAM/b/{}", picture(1)), &two);
        site.wait_until_empty().await;
        assert!(holds(&site, &one) && holds(&site, &two), "{status} {headers:?}: {:?}", site.s3.keys());
        let looked = site.s3.requests().iter().filter(|request| request.operation == "HeadObject").count();
        assert_eq!(looked, 0, "the store honours conditions, and the ledger tells of the first one");
    }))
    .await;
}

#[tokio::test]
async fn i1_a_success_of_a_stranger_stores_nothing_whatever_etag_it_has() {
    for headers in [HTML_WITH_ETAG, ETAG, &[("etag", "\"5f3e-61a\"")]] {
        let pictures = [NONE, WITHOUT_CHECKSUM, WRITE_ONLY].map(|of| (of, "PutObject", picture(1), 1000));
        let each = pictures.into_iter().chain([(NONE, "UploadPart", CLIP.to_owned(), CLIP_BYTES)]);
        join_all(each.map(async |(settings, operation, name, size)| {
            let mut site = site(Conditions::Honoured, settings).await;
            site.start().await;
            site.s3.fault(Fault::answer(operation, 200, headers, PAGE));
            let content = bytes(1, size);
            site.write(format!("CAM/{name}"), &content);
            let what = format!("{operation} {headers:?} {settings:?}");
            is_kept_until_it_is_stored(&site, &name, &content, &what).await;
        }))
        .await;
    }
}

#[tokio::test]
async fn i1_a_store_without_request_ids_and_checksums_is_believed_by_its_etags() {
    for settings in [NONE, WRITE_ONLY] {
        let mut site = site(Conditions::Honoured, settings).await;
        site.s3.give_no_request_ids();
        site.s3.ignore_checksums();
        site.start().await;
        let content = bytes(1, 1000);
        site.write(format!("CAM/{}", picture(1)), &content);
        site.wait_until_empty().await;
        site.s3.fault(Fault::answer("PutObject", 200, ETAG, PAGE));
        let content = bytes(2, 1000);
        site.write(format!("CAM/{}", picture(2)), &content);
        is_kept_until_it_is_stored(&site, &picture(2), &content, "an ETag of nothing").await;
    }
}

#[tokio::test]
async fn i1_a_strangers_412_is_no_object_that_is_there() {
    let whole = bytes(1, 1000);
    let cut = [b"\xFF\xD8\xFF\xDA\x00\x02".as_slice(), &[7; 1000]].concat();
    for settings in [NONE, WRITE_ONLY] {
        join_all([&whole, &cut].map(async |content| {
            let mut site = site(Conditions::Honoured, Settings { drop: "partial_after: 0s", ..settings }).await;
            site.start().await;
            site.s3.fault(Fault::answer("PutObject", 412, HTML, PAGE));
            site.write(format!("CAM/{}", picture(1)), content);
            is_kept_until_it_is_stored(&site, &picture(1), content, "412").await;
            assert_eq!(site.s3.keys().iter().filter(|key| !key.ends_with(PROBE)).count(), 1, "{:?}", site.s3.keys());
        }))
        .await;
    }
}

#[tokio::test]
async fn i2_a_cache_before_the_store_answers_no_look() {
    for conditions in [Conditions::Refused, Conditions::Ignored] {
        let mut site = site(conditions, NONE).await;
        site.s3.cache_looks();
        site.start().await;
        let (one, two) = (bytes(1, 1000), bytes(2, 1000));
        site.write(format!("CAM/{}", picture(1)), &one);
        site.wait_until_empty().await;
        // Nothing on this box tells of the first one any more.
        std::fs::remove_dir_all(site.path("state/ledger")).unwrap();
        site.write(format!("CAM/{}", picture(1)), &two);
        site.wait_until_empty().await;
        assert!(holds(&site, &one) && holds(&site, &two), "{conditions:?}: {:?}", site.s3.keys());
        // It was deleted meanwhile, and comes again.
        site.s3.remove(&key("CAM", 1));
        site.write(format!("CAM/{}", picture(1)), &one);
        site.wait_until_empty().await;
        assert!(holds(&site, &one), "{conditions:?}: {:?}", site.s3.keys());
    }
}

#[tokio::test]
async fn i3_a_look_that_finds_nothing_after_each_refusal_to_overwrite_is_not_waited_for() {
    let mut site = site(Conditions::Honoured, NONE).await;
    site.start().await;
    site.s3.insert(&key("CAM", 1), "somebody else's");
    site.s3.fault(Fault::fail("HeadObject", 404, "NoSuchKey"));
    let content = bytes(1, 1000);
    site.write(format!("CAM/{}", picture(1)), &content);
    site.wait_until_empty().await;
    assert!(holds(&site, &content) && holds(&site, b"somebody else's"), "{:?}", site.s3.keys());
}

#[tokio::test]
async fn i2_a_store_is_asked_again_after_an_outage() {
    for settings in [NONE, WRITE_ONLY] {
        let each = [(Conditions::Honoured, Conditions::Ignored), (Conditions::Ignored, Conditions::Honoured)];
        join_all(each.map(async |(before, after)| {
            let mut site = site(before, settings).await;
            site.start().await;
            let (one, two, probe) = (bytes(1, 1000), bytes(2, 1000), bytes(3, 10));
            site.write(format!("CAM/{}", picture(1)), &one);
            site.wait_until_empty().await;
            std::fs::remove_dir_all(site.path("state/ledger")).unwrap();
            site.s3.refuse().await;
            site.write(format!("CAM/{}", picture(2)), &probe);
            site.wait_for_status("the outage", |status| status.trouble.is_some()).await;
            // Another one, of another version, takes its place.
            site.s3.take_conditions(after);
            let tried = site.s3.probes().len();
            site.s3.accept().await;
            site.wait_until_empty().await;
            assert!(site.s3.probes().len() > tried, "{before:?} {after:?}");
            site.write(format!("CAM/{}", picture(1)), &two);
            site.wait_until_empty().await;
            let what = format!("{before:?} {after:?} {settings:?}: {:?}", site.s3.keys());
            assert!(holds(&site, &one) && holds(&site, &two) && holds(&site, &probe), "{what}");
        }))
        .await;
    }
}

#[tokio::test]
async fn i2_a_key_that_the_ledger_has_for_other_bytes_is_taken_whatever_the_store_says() {
    for settings in [NONE, WRITE_ONLY] {
        let mut site = site(Conditions::Honoured, settings).await;
        site.start().await;
        let (one, two) = (bytes(1, 1000), bytes(2, 1000));
        site.write(format!("CAM/{}", picture(1)), &one);
        site.wait_until_empty().await;
        // Rolled back, without an outage.
        site.s3.take_conditions(Conditions::Ignored);
        site.write(format!("CAM/{}", picture(1)), &two);
        site.wait_until_empty().await;
        assert!(holds(&site, &one) && holds(&site, &two), "{:?}", site.s3.keys());
    }
}

#[tokio::test]
async fn i3_a_clip_whose_completion_is_not_answered_is_not_sent_again() {
    for conditions in [Conditions::Honoured, Conditions::Ignored, Conditions::Refused] {
        let faults = [
            Fault::lose_reply("CompleteMultipartUpload").times(1),
            Fault::fail("CompleteMultipartUpload", 503, "SlowDown").times(1),
            Fault::fail("CompleteMultipartUpload", 200, "InternalError").times(1),
        ];
        join_all(faults.map(async |fault| {
            let mut site = site(conditions, NONE).await;
            site.start().await;
            site.s3.fault(fault);
            let content = bytes(1, CLIP_BYTES);
            site.write(format!("CAM/{CLIP}"), &content);
            site.wait_until_empty().await;
            assert_eq!(site.s3.count("UploadPart"), 2, "{conditions:?}");
            let keys: Vec<String> = site.s3.keys().into_iter().filter(|key| !key.ends_with(PROBE)).collect();
            assert_eq!(keys, [format!("CAM/{DATE}/{CLIP}")]);
            assert!(holds(&site, &content) && site.s3.uploads().is_empty());
        }))
        .await;
    }
}

#[tokio::test]
async fn i3_a_store_that_is_still_at_it_after_the_answer_was_lost_is_waited_for() {
    let mut site = site(Conditions::Honoured, NONE).await;
    site.start().await;
    site.s3.fault(Fault::finish_later("CompleteMultipartUpload", Duration::from_millis(500)).times(1));
    // While it puts the parts together, it knows the upload no more.
    site.s3.fault(Fault::fail("CompleteMultipartUpload", 404, "NoSuchUpload"));
    let content = bytes(1, CLIP_BYTES);
    site.write(format!("CAM/{CLIP}"), &content);
    site.wait_until_empty().await;
    assert_eq!((site.s3.count("UploadPart"), site.s3.count("AbortMultipartUpload")), (2, 0));
    assert!(holds(&site, &content));
}

/// How long the completion takes in the long form.
const LONG: &str = "HK_AWS_SLOW_COMPLETION_SECONDS";

#[tokio::test]
async fn i3_a_completion_may_take_longer_than_any_other_answer() {
    // An ordinary answer is given up after a minute: set it to 75 or more.
    let seconds = std::env::var(LONG).map_or(1, |seconds| seconds.parse().unwrap());
    let mut site = site(Conditions::Honoured, NONE).await;
    site.start().await;
    site.s3.fault(Fault::delay("CompleteMultipartUpload", Duration::from_secs(seconds)));
    site.write(format!("CAM/{CLIP}"), &bytes(1, CLIP_BYTES));
    let stored = |state: &crate::support::s3::State| state.object(&format!("CAM/{DATE}/{CLIP}")).is_some();
    site.s3.wait_for(stored, DEADLINE + Duration::from_secs(seconds)).await;
    site.wait_until_empty().await;
    assert_eq!((site.s3.count("CompleteMultipartUpload"), site.s3.count("AbortMultipartUpload")), (1, 0));
}

#[tokio::test]
async fn i3_two_boxes_that_send_one_clip_do_not_abort_each_others_uploads() {
    for conditions in [Conditions::Honoured, Conditions::Ignored] {
        let mut site = site(conditions, NONE).await;
        let content = bytes(1, CLIP_BYTES);
        // The other box is at it, and slow.
        let own = format!("CAM/{DATE}/{CLIP}");
        let client = site.s3.client();
        let create = || client.create_multipart_upload().bucket("evidence").key(&own);
        let theirs = create().send().await.unwrap().upload_id.unwrap();
        site.start().await;
        site.write(format!("CAM/{CLIP}"), &content);
        site.wait_until_empty().await;
        assert_eq!(site.s3.uploads(), [(own.clone(), theirs.clone())], "{conditions:?}");
        // Nobody has gone on with it for more than a day.
        site.s3.age_uploads(Duration::from_hours(25));
        let young = create().send().await.unwrap().upload_id.unwrap();
        site.write(format!("CAM/{DATE}/{CLIP}"), &bytes(2, CLIP_BYTES));
        site.wait_until_empty().await;
        assert_eq!(site.s3.uploads(), [(own.clone(), young)], "{conditions:?}");
        assert!(!site.path("state/uploads").read_dir().unwrap().any(|_| true), "nothing is left written down");
    }
}
