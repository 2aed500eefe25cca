//! The bucket that the template makes: it belongs to one account, and its policy lets the box overwrite nothing.

use std::collections::BTreeSet;

use chrono::{Days, Utc};
use hk_aws::bucket::PROBE;
use serde_json::Value;

use super::{Said, Site};
use crate::support::s3::{Fault, Versions};
use crate::support::site::bytes;

const ACCOUNT: &str = "111122223333";
const OWNED: &str = ", account: 111122223333";
const SECTIONS: &str = "keep: {min_free: 1MiB}\nrotate: {archive: {class: GLACIER}, expire: null}\n";

/// The name of a picture that was taken so many days ago.
fn picture(days: u64, number: u32) -> String {
    let date = (Utc::now() - Days::new(days)).format("%Y%m%d");
    format!("192.168.1.64_01_{date}1200{number:02}000_MOTION_DETECTION.jpg")
}

/// Runs a command that must succeed.
async fn well(site: &Site, arguments: &[&str]) -> Said {
    let said = site.run(arguments).await;
    assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
    said
}

/// What was asked of the bucket, trials included.
fn operations(site: &Site) -> BTreeSet<&'static str> {
    site.s3.look(|state| state.requests().iter().map(|request| request.operation).collect())
}

#[tokio::test]
async fn every_request_names_the_account_that_must_own_the_bucket() {
    let site = Site::start_with(OWNED, SECTIONS).await;
    site.s3.give_to(ACCOUNT);
    site.drop_file(&format!("CAM/{}", picture(40, 1)), b"old");
    site.drop_file("CAM/clip.mp4", &bytes(1, 17 << 20));
    well(&site, &["upload"]).await;
    site.s3.insert(&format!("CAM/{}", picture(2, 2)), "unsorted");
    well(&site, &["arrange"]).await;
    well(&site, &["rotate"]).await;
    let today = Utc::now().date_naive();
    let archived = (today - Days::new(40)).to_string();
    let to = site.path("to").into_os_string().into_string().unwrap();
    well(&site, &["get", "CAM", &(today - Days::new(2)).to_string(), "--to", &to]).await;
    well(&site, &["restore", "CAM", &archived, "--yes"]).await;
    // What a thief can do without the template fails here; it is asked for all the same.
    site.run(&["doctor"]).await;
    site.s3.deny_overwriting();
    well(&site, &["doctor"]).await;

    let asked = operations(&site);
    for operation in [
        "PutObject",
        "CreateMultipartUpload",
        "UploadPart",
        "CompleteMultipartUpload",
        "AbortMultipartUpload",
        "ListMultipartUploads",
        "ListObjectsV2",
        "HeadObject",
        "GetObject",
        "CopyObject",
        "RestoreObject",
        "DeleteObject",
        "DeleteObjects",
        "GetBucketVersioning",
        "GetObjectLockConfiguration",
    ] {
        assert!(asked.contains(operation), "{operation} is not among {asked:?}");
    }
    site.s3.look(|state| {
        for request in state.requests() {
            assert_eq!(request.expected_owner.as_deref(), Some(ACCOUNT), "{request:?}");
        }
    });

    let site = Site::start_with("", SECTIONS).await;
    site.drop_file("CAM/a.jpg", b"a");
    well(&site, &["upload"]).await;
    site.s3.look(|state| assert!(state.requests().iter().all(|request| request.expected_owner.is_none())));
}

#[tokio::test]
async fn a_bucket_that_a_stranger_made_again_gets_nothing() {
    let site = Site::start_with(OWNED, SECTIONS).await;
    site.s3.give_to("444455556666");
    let picture = site.drop_file("CAM/a.jpg", b"evidence");
    let said = site.run(&["upload"]).await;
    assert!(said.code != 0 && said.err.contains("s3.account"), "{said:?}");
    assert!(picture.exists());
    for command in [&["cameras"][..], &["rotate"], &["doctor"]] {
        let said = site.run(command).await;
        assert!(said.code == 1 && format!("{said:?}").contains("s3.account"), "{command:?}: {said:?}");
    }
    assert_eq!(site.s3.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn i2_where_the_bucket_denies_to_overwrite_all_that_the_box_does_goes_on() {
    let site = Site::start_with("", SECTIONS).await;
    site.s3.deny_overwriting();
    let old = picture(40, 1);
    site.drop_file(&format!("CAM/{old}"), b"old");
    site.drop_file(&format!("CAM/{}", picture(1, 2)), b"new");
    site.drop_file(&format!("CAM/{}", picture(1, 3).replace(".jpg", ".mp4")), &bytes(1, 17 << 20));
    well(&site, &["upload"]).await;
    site.drop_file(&format!("CAM/{}", picture(1, 2)), b"other bytes");
    well(&site, &["upload"]).await;
    let there = site.s3.keys();
    assert!(there.len() == 4 && there.iter().any(|key| key.contains('~')), "{there:?}");
    well(&site, &["rotate"]).await;
    let bundled = format!("CAM/archive/{}", (Utc::now() - Days::new(40)).date_naive());
    let index = format!("{bundled}.index.json");
    assert!(site.s3.object(&format!("{bundled}.tar")).is_some() && site.s3.object(&index).is_some());
    assert!(!site.s3.keys().iter().any(|key| key.ends_with(&old)), "{:?}", site.s3.keys());

    // A damaged index is replaced: it is deleted first.
    site.s3.edit(&format!("{bundled}.tar"), |object| object.storage_class = "STANDARD".into());
    site.s3.insert(&index, "{");
    site.run(&["verify", "--rebuild"]).await;
    well(&site, &["verify"]).await;

    let said = well(&site, &["doctor", "--json"]).await;
    for line in said.out.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if ["put", "conditional writes", "checksums", "rights"].contains(&line["name"].as_str().unwrap()) {
            assert_eq!((&line["outcome"], &line["mend"]), (&"ok".into(), &"".into()), "{line}");
        }
    }
    assert!(!site.s3.keys().iter().any(|key| key.ends_with(PROBE)), "nothing of the trials stays");
    assert_eq!(site.s3.uploads(), []);
}

#[tokio::test]
async fn where_a_policy_denies_copies_it_is_said_what_to_do_instead() {
    let site =
        Site::start_with("", "rotate: {cameras: all, transition: {after: 30d, min_size: 1}, expire: null}\n").await;
    site.s3.deny_overwriting();
    let unsorted = format!("CAM/{}", picture(40, 1));
    site.s3.insert(&unsorted, "unsorted");
    let said = site.run(&["arrange"]).await;
    assert_ne!(said.code, 0, "{said:?}");
    for part in [&unsorted, "lets the box copy nothing", "`hk-aws arrange` with the owner's credentials"] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    assert_eq!(site.s3.keys(), [unsorted.as_str()]);

    // The bucket keeps versions: no copy is tried.
    let copies = site.s3.count("CopyObject");
    let date = (Utc::now() - Days::new(40)).date_naive();
    site.s3.insert(&format!("CAM/{date}/{}", picture(40, 2)), "sorted");
    let said = site.run(&["rotate"]).await;
    assert!(said.err.contains("changes no class") && said.err.contains("aws-template"), "{said:?}");
    assert_eq!(site.s3.count("CopyObject"), copies);

    // A bucket with such a policy that keeps none.
    site.s3.keep_versions(Versions::None);
    let said = site.run(&["rotate"]).await;
    assert_ne!(said.code, 0, "{said:?}");
    for part in ["lets the box copy nothing", "lifecycle", "`hk-aws rotate` with the owner's credentials"] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }

    // Any other refusal has its own advice.
    site.s3.fault(Fault::fail("CopyObject", 503, "SlowDown"));
    let said = site.run(&["rotate"]).await;
    assert!(said.code != 0 && !said.err.contains("copy nothing"), "{said:?}");
}
