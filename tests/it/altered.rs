//! Bodies that are changed on their way to a store that checks no checksum: only the bytes that were sent count as stored.

use std::fs::OpenOptions;
use std::io::Write;

use crate::support::s3::{Conditions, Fault, MemoryS3, State};
use crate::support::site::{DATE, DEADLINE, Settings, Site, bytes, key, picture, sha256};

/// The SHA-256 is not sent.
const WITHOUT: Settings = Settings { drop: "", s3: "checksum: when_required", rest: "keep: {days: 0}" };
const WITHOUT_AND_WRITE_ONLY: Settings = Settings { s3: "checksum: when_required, access: write-only", ..WITHOUT };
/// It is sent, and the store neither checks nor repeats it.
const UNCHECKED: Settings = Settings { drop: "", s3: "", rest: "keep: {days: 0}" };
const UNCHECKED_AND_WRITE_ONLY: Settings = Settings { s3: "access: write-only", ..UNCHECKED };

/// Two parts of an upload.
const CLIP_BYTES: usize = 16 << 20;
const CLIP: &str = "192.168.1.64_01_20260224120000000_1.mp4";

async fn started(settings: Settings) -> Site {
    let s3 = MemoryS3::start("evidence").await;
    s3.ignore_checksums();
    let mut site = Site::with(s3, settings);
    site.start().await;
    site
}

fn holds(state: &State, content: &[u8]) -> bool {
    state.objects().values().any(|object| object.sha256 == sha256(content))
}

#[tokio::test]
async fn i1_a_body_that_is_changed_on_the_way_does_not_count_as_stored() {
    for settings in [WITHOUT, WITHOUT_AND_WRITE_ONLY, UNCHECKED, UNCHECKED_AND_WRITE_ONLY] {
        for (operation, name, size) in [("PutObject", picture(1), 1000), ("UploadPart", CLIP.to_owned(), CLIP_BYTES)] {
            if operation == "UploadPart" && settings.s3.contains("write-only") {
                continue;
            }
            let (site, content) = (started(settings).await, bytes(1, size));
            site.s3.fault(Fault::alter_body(operation).times(1));
            site.write(format!("CAM/{name}"), &content);
            site.wait_until_empty().await;
            assert!(site.s3.look(|state| holds(state, &content)), "{settings:?} {operation}: {:?}", site.s3.keys());
            assert!(site.s3.uploads().is_empty());
        }
    }
}

#[tokio::test]
async fn i1_an_object_whose_metadata_alone_is_right_is_not_taken_for_the_capture() {
    let (site, content) = (started(WITHOUT).await, bytes(1, 1000));
    let other = bytes(2, 1000);
    site.s3.insert_with(&key("CAM", 1), other, |object| {
        object.metadata.insert("sha256".to_owned(), sha256(&content));
    });
    site.write(format!("CAM/{}", picture(1)), &content);
    site.wait_until_empty().await;
    assert!(site.s3.look(|state| holds(state, &content)), "{:?}", site.s3.keys());
}

#[tokio::test]
async fn i8_what_another_program_stored_without_a_checksum_is_known_by_its_etag() {
    let (site, content) = (started(WITHOUT).await, bytes(1, 1000));
    site.s3.insert(&key("CAM", 1), content.clone());
    site.write(format!("CAM/{}", picture(1)), &content);
    site.wait_until_empty().await;
    site.wait_for_keys(&[&format!("CAM/{DATE}/{}", picture(1))]).await;
}

#[tokio::test]
async fn i2_bytes_that_come_between_hash_and_put_are_not_stored_with_the_hash_of_the_others() {
    for (name, size) in [(picture(1), 1000), (CLIP.to_owned(), CLIP_BYTES)] {
        let mut site = Site::with(MemoryS3::start("evidence").await, UNCHECKED);
        site.s3.ignore_checksums();
        // A look precedes each put, and is slow.
        site.s3.take_conditions(Conditions::Ignored);
        site.start().await;
        site.s3.fault(Fault::hang("HeadObject").times(1));
        let path = site.write(format!("CAM/{name}"), &bytes(1, size));
        site.s3.wait_for(|state| state.count("HeadObject") == 1, DEADLINE).await;
        OpenOptions::new().write(true).open(path).unwrap().write_all(&bytes(2, size)).unwrap();
        site.s3.clear_faults();
        site.wait_until_empty().await;
        site.s3.look(|state| {
            assert!(holds(state, &bytes(2, size)), "{:?}", state.objects().keys());
            for (key, object) in state.objects() {
                assert_eq!(object.metadata["sha256"], object.sha256, "{key}");
            }
        });
    }
}

#[tokio::test]
async fn i1_what_the_ledger_tells_of_is_sent_again_if_its_object_has_other_bytes_now() {
    let (mut site, content) = (started(UNCHECKED).await, bytes(1, 1000));
    let path = format!("CAM/{}", picture(1));
    site.write(&path, &content);
    site.wait_until_empty().await;
    site.stop().await;
    // Whoever put it there kept what the metadata says.
    site.s3.insert_with(&key("CAM", 1), bytes(2, 1000), |object| {
        object.metadata.insert("sha256".to_owned(), sha256(&content));
    });
    site.write(&path, &content);
    site.start().await;
    site.wait_until_empty().await;
    assert!(site.s3.look(|state| holds(state, &content)), "{:?}", site.s3.keys());
}
