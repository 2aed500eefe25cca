//! `arrange`: unsorted objects of an existing bucket into date folders.

use hk_aws::bucket::PROBE;
use serde_json::{Value, json};

use super::{Said, Site};
use crate::support::s3::{Fault, Object};
use crate::support::site::sha256;

fn name(number: usize) -> String {
    format!("192.168.1.64_01_20220224{:02}{:02}{:02}000_TIMING.jpg", number / 3600, number / 60 % 60, number % 60)
}

fn unsorted(number: usize) -> String {
    format!("CAM/{}", name(number))
}

fn sorted(number: usize) -> String {
    format!("CAM/2022-02-24/{}", name(number))
}

fn bytes(site: &Site, key: &str) -> String {
    String::from_utf8(site.s3.object(key).unwrap().bytes.unwrap().to_vec()).unwrap()
}

fn json_lines(said: &Said) -> Vec<Value> {
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn unsorted_objects_go_into_their_date_folders_and_all_else_stays() {
    let site = Site::start().await;
    site.s3.insert(&unsorted(1), "one");
    site.s3.edit(&unsorted(1), |object| {
        object.storage_class = "GLACIER_IR".into();
        object.metadata.insert("source".into(), "CAM/x".into());
    });
    site.s3.insert(&unsorted(2), "two");
    site.s3.insert("PORCH/20230101T000001_snap.jpg", "porch");
    let others = [
        "CAM/",
        "CAM/.hk-aws-probe",
        "CAM/2022-02-24.index.json",
        "CAM/2022-02-24/20220224T000000_sorted.jpg",
        "CAM/archive/",
        "CAM/archive/2022-02-23.tar.gz",
        "CAM/archive/192.168.1.64_01_20220224000009000_TIMING.jpg",
        "CAM/deeper/192.168.1.64_01_20220224000009000_TIMING.jpg",
        "192.168.1.64_01_20220224000009000_TIMING.jpg",
    ];
    for other in others {
        site.s3.insert(other, "other");
    }
    let before = site.s3.keys();
    let lines = site.lines(&["arrange", "--dry-run"]).await;
    assert_eq!(lines.len(), 3);
    let planned = json!({"key": unsorted(1), "to": sorted(1), "size": 3, "outcome": "planned", "why": null});
    assert_eq!(lines[0], planned);
    assert_eq!(site.s3.keys(), before);
    assert!(site.s3.requests().iter().all(|request| request.operation == "ListObjectsV2"));
    assert!(!site.path("run").exists(), "a dry run touches nothing");

    let said = site.run(&["arrange", "CAM"]).await;
    assert_eq!((said.code, said.out.lines().count()), (0, 2), "{said:?}");
    assert!(said.out.contains(&format!("{} moved to {}", unsorted(2), sorted(2))), "{said:?}");
    assert!(said.err.contains("2 objects moved"), "{said:?}");
    assert_eq!((bytes(&site, &sorted(1)), bytes(&site, &sorted(2))), ("one".into(), "two".into()));
    let moved = site.s3.object(&sorted(1)).unwrap();
    assert_eq!((moved.storage_class.as_str(), moved.metadata["source"].as_str()), ("GLACIER_IR", "CAM/x"));
    assert!(site.s3.object(&unsorted(1)).is_none() && site.s3.object("PORCH/20230101T000001_snap.jpg").is_some());

    assert_eq!(site.lines(&["arrange"]).await.len(), 1);
    assert_eq!(bytes(&site, "PORCH/2023-01-01/20230101T000001_snap.jpg"), "porch");
    for other in others {
        assert_eq!(bytes(&site, other), "other", "{other}");
    }
    let said = site.run(&["arrange"]).await;
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", "nothing lies unsorted\n"), "{said:?}");
    assert_eq!(site.s3.count("GetObject"), 0, "nothing is downloaded");
}

#[tokio::test]
async fn a_layout_of_ones_own_is_followed_with_its_event_and_channel() {
    let site =
        Site::start_with(", prefix: \"home/\", key: \"{camera}/{year}/{month}/{event}-{channel}/{day}_{file}\"", "")
            .await;
    site.s3.insert(&format!("home/{}", unsorted(1)), "one");
    site.lines(&["arrange"]).await;
    assert_eq!(site.s3.keys(), [format!("home/CAM/2022/02/TIMING-01/24_{}", name(1))]);
}

#[tokio::test]
async fn arranging_goes_on_beyond_a_thousand_objects() {
    let site = Site::start().await;
    for number in 0..1005 {
        site.s3.insert(&unsorted(number), number.to_string());
        site.s3.insert(&format!("CAM/{number:04}-x/x"), "a folder between");
    }
    assert_eq!(site.lines(&["arrange", "CAM", "--dry-run"]).await.len(), 1005);
    assert_eq!(site.lines(&["arrange", "CAM"]).await.len(), 1005);
    assert_eq!(site.s3.keys().len(), 2010);
    for number in [0, 1, 999, 1000, 1004] {
        assert_eq!(bytes(&site, &sorted(number)), number.to_string());
    }
    assert!(site.s3.count("DeleteObjects") <= 4, "deleted in batches");
}

#[tokio::test]
async fn what_holds_other_bytes_is_never_replaced_and_its_rival_stays() {
    let site = Site::start().await;
    for (number, there) in [(1, "other"), (2, "othr")] {
        site.s3.insert(&unsorted(number), "mine!");
        site.s3.insert(&sorted(number), there);
    }
    site.s3.insert(&unsorted(3), "free");
    let said = site.run(&["arrange", "--json"]).await;
    assert_eq!(said.code, 3, "{said:?}");
    let outcomes: Vec<Value> = json_lines(&said).iter().map(|line| line["outcome"].clone()).collect();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == "conflict").count(), 2, "{outcomes:?}");
    assert!(said.err.contains(&unsorted(1)) && said.err.contains("holds other bytes"), "{said:?}");
    assert!(said.err.contains("2 of 3 failed"), "{said:?}");
    for (number, there) in [(1, "other"), (2, "othr")] {
        assert_eq!((bytes(&site, &unsorted(number)), bytes(&site, &sorted(number))), ("mine!".into(), there.into()));
    }
    assert_eq!(site.run(&["arrange"]).await.code, 1, "all that is left fails");
}

#[tokio::test]
async fn what_was_copied_and_not_deleted_is_finished_by_the_next_run() {
    let site = Site::start().await;
    for number in 0..20 {
        site.s3.insert(&unsorted(number), number.to_string());
    }
    site.s3.fault(Fault::reset("DeleteObjects").times(1));
    let said = site.run(&["arrange"]).await;
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    // The reset struck the trial of what the store does with conditional deletes, and left its object.
    assert_eq!(site.s3.keys().iter().filter(|key| !key.ends_with(PROBE)).count(), 40);
    let copies = site.s3.count("CopyObject");
    assert_eq!(site.lines(&["arrange"]).await.len(), 20);
    assert_eq!(site.s3.count("CopyObject"), copies, "nothing is copied twice");
    let expected: Vec<String> = (0..20).map(sorted).collect();
    assert_eq!(site.s3.keys(), expected);
    for number in 0..20 {
        assert_eq!(bytes(&site, &sorted(number)), number.to_string());
    }
}

#[tokio::test]
async fn killed_at_any_request_it_loses_nothing_and_ends_the_same() {
    for operation in ["HeadObject", "CopyObject", "DeleteObjects"] {
        let site = Site::start().await;
        for number in 0..30 {
            site.s3.insert(&unsorted(number), number.to_string());
        }
        let struck = if operation == "DeleteObjects" { String::new() } else { name(9) };
        site.s3.fault(Fault::hang(operation).on_key(move |key| key.ends_with(&struck)));
        let mut child = site.command(&["arrange"]).stdout(std::process::Stdio::null()).spawn().unwrap();
        let asked = |state: &crate::support::s3::State| {
            state.requests().iter().any(|request| request.operation == operation && request.status.is_none())
        };
        site.s3.wait_for(asked, std::time::Duration::from_secs(30)).await;
        child.kill().await.unwrap();
        for number in 0..30 {
            let holds = |key: &str| site.s3.object(key).is_some();
            assert!(holds(&unsorted(number)) || holds(&sorted(number)), "{operation} {number}");
        }
        site.s3.clear_faults();
        let said = site.run(&["arrange"]).await;
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(site.s3.keys(), (0..30).map(sorted).collect::<Vec<_>>(), "{operation}");
        for number in 0..30 {
            assert_eq!(bytes(&site, &sorted(number)), number.to_string());
        }
    }
}

#[tokio::test]
async fn cold_objects_stay_until_they_are_restored() {
    let site = Site::start().await;
    for (number, class) in [(1, "GLACIER"), (2, "DEEP_ARCHIVE")] {
        site.s3.insert(&unsorted(number), "cold");
        site.s3.edit(&unsorted(number), |object| object.storage_class = class.into());
    }
    let said = site.run(&["arrange"]).await;
    assert_eq!((said.code, said.out.as_str(), site.s3.count("CopyObject")), (1, "", 0), "{said:?}");
    assert!(said.err.contains("DEEP_ARCHIVE") && said.err.contains("restore it"), "{said:?}");
    site.s3.edit(&unsorted(1), |object| {
        object.restore = Some("ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2032 00:00:00 GMT\"".into());
    });
    assert_eq!(site.run(&["arrange"]).await.code, 3);
    assert_eq!(site.s3.object(&sorted(1)).unwrap().storage_class, "GLACIER");
    assert_eq!(site.s3.keys(), [unsorted(2), sorted(1)]);
}

#[tokio::test]
async fn without_a_date_in_its_name_the_metadata_tells_else_it_stays() {
    let site = Site::start().await;
    site.s3.insert("CAM/front door.jpg", "dated");
    site.s3.edit("CAM/front door.jpg", |object| {
        object.metadata.insert("taken-at".into(), "2021-12-31T23:59:59+02:00".into());
    });
    site.s3.insert("CAM/readme.txt", "undated");
    let said = site.run(&["arrange"]).await;
    assert_eq!((said.code, said.out.lines().count()), (3, 1), "{said:?}");
    assert!(said.err.contains("CAM/readme.txt stays: neither its name nor its metadata"), "{said:?}");
    assert_eq!(site.s3.keys(), ["CAM/2021-12-31/front door.jpg", "CAM/readme.txt"]);
}

/// What S3 does to the `ETag` of an object that went up in parts, or is encrypted with a KMS key, where it is copied.
fn alter_etag(object: &mut Object) {
    object.etag = "0123456789abcdef0123456789abcdef-3".into();
}

#[tokio::test]
async fn where_the_etag_tells_nothing_the_stores_sha256_does_and_else_the_bytes() {
    let site = Site::start().await;
    for number in 1..=6 {
        site.s3.insert(&unsorted(number), "clip");
        site.s3.edit(&unsorted(number), alter_etag);
        site.s3.insert(&sorted(number), if number % 2 == 0 { "pilc" } else { "clip" });
    }
    for number in [1, 2] {
        for key in [unsorted(number), sorted(number)] {
            site.s3.edit(&key, |object| {
                let sha256 = hex::decode(&object.sha256).unwrap();
                object.checksum.checksum_sha256 = Some(aws_smithy_types::base64::encode(sha256));
            });
        }
    }
    // The metadata says only what was sent once; a copy has that of its source, whatever its bytes.
    for number in [5, 6] {
        for key in [unsorted(number), sorted(number)] {
            site.s3.edit(&key, |object| {
                object.metadata.insert("sha256".into(), sha256(b"clip"));
            });
        }
    }
    let said = site.run(&["arrange"]).await;
    assert_eq!((said.code, said.out.lines().count()), (3, 3), "{said:?}");
    let stay = [2, 4, 6].map(unsorted);
    assert_eq!(site.s3.keys(), [&stay[..], &[1, 2, 3, 4, 5, 6].map(sorted)].concat());
    // Of those that went up in parts the store knows no SHA-256 of the whole.
    assert_eq!(site.s3.count("GetObject"), 10, "only where nothing else tells");
}

#[tokio::test]
async fn an_object_that_cannot_be_copied_keeps_no_other_from_it() {
    let site = Site::start().await;
    for number in 0..30 {
        site.s3.insert(&unsorted(number), "x");
    }
    let struck = name(7);
    site.s3.fault(Fault::fail("CopyObject", 200, "InternalError").on_key(move |key| key.ends_with(&struck)));
    let said = site.run(&["arrange"]).await;
    assert_eq!((said.code, said.out.lines().count()), (3, 29), "{said:?}");
    assert!(said.err.contains(&unsorted(7)), "{said:?}");
    assert!(site.s3.object(&unsorted(7)).is_some());
    site.s3.clear_faults();
    assert_eq!(site.lines(&["arrange"]).await.len(), 1);
}

#[tokio::test]
async fn a_bucket_that_refuses_all_is_not_asked_once_an_object() {
    let site = Site::start().await;
    for number in 0..200 {
        site.s3.insert(&unsorted(number), "x");
    }
    site.s3.fault(Fault::fail("CopyObject", 403, "AccessDenied"));
    let said = site.run(&["arrange"]).await;
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    assert!(said.err.contains("stopped after 10 failures in a row") && site.s3.count("CopyObject") < 30, "{said:?}");
    assert_eq!(site.s3.keys().len(), 200);
}

#[tokio::test]
async fn a_box_that_may_only_write_is_refused() {
    let site = Site::start_with(", access: write-only", "").await;
    let said = site.run(&["arrange"]).await;
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    assert!(said.err.contains("s3.access is write-only"), "{said:?}");
    assert_eq!(site.s3.requests().len(), 0);
}
