//! `recover`: what a thief with the box's keys hid, brought back by the owner.

use std::process::Stdio;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use chrono::{DateTime, TimeDelta, Utc};
use hk_aws::key::ArchiveFormat;
use serde_json::Value;

use super::{Said, Site, archive, run, run_measured};
use crate::support::s3::{Fault, OWNERS_ACCESS_KEY, Older, State, Versions};

const DAY: &str = "2022-02-24";

fn key(number: usize) -> String {
    format!(
        "CAM/{DAY}/192.168.1.64_01_20220224{:02}{:02}{:02}000_TIMING.jpg",
        number / 3600,
        number / 60 % 60,
        number % 60
    )
}

/// A bucket as the template makes it.
async fn site() -> Site {
    let site = Site::start().await;
    site.s3.deny_overwriting();
    site
}

impl Site {
    /// Runs `recover` with the owner's credentials.
    async fn recover(&self, arguments: &[&str]) -> Said {
        run(self.command(&[&["recover"], arguments].concat()).env("AWS_ACCESS_KEY_ID", OWNERS_ACCESS_KEY)).await
    }

    /// Runs `recover`, which must succeed, and returns its lines as `KEY OUTCOME TO`, sorted.
    async fn recovered(&self, arguments: &[&str]) -> Vec<String> {
        let said = self.recover(&[&["--json"], arguments].concat()).await;
        assert_eq!(said.code, 0, "{said:?}");
        let line = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            format!("{} {} {}", text("key"), text("outcome"), text("to"))
        };
        let mut lines: Vec<String> = said.out.lines().map(line).collect();
        lines.sort();
        lines
    }

    fn bytes(&self, key: &str) -> String {
        let object = self.s3.object(key).unwrap_or_else(|| panic!("no {key} in {:?}", self.s3.keys()));
        String::from_utf8(object.bytes.unwrap().to_vec()).unwrap()
    }
}

/// Deletes as a thief does.
async fn delete(thief: &Client, key: &str) {
    thief.delete_object().bucket("captures").key(key).send().await.unwrap();
}

/// Puts as a thief does, where the key is free.
async fn put(thief: &Client, key: &str, text: &str) {
    let body = ByteStream::from(text.as_bytes().to_vec());
    thief.put_object().bucket("captures").key(key).body(body).if_none_match("*").send().await.unwrap();
}

#[tokio::test]
async fn i9_whatever_chain_a_thief_makes_every_content_comes_back_and_nothing_twice() {
    let site = site().await;
    let thief = site.s3.client();
    for number in 0..5 {
        site.s3.insert_with(&key(number), format!("evidence {number}"), |object| {
            object.storage_class = "GLACIER_IR".into();
            object.metadata.insert("source".into(), "CAM/x".into());
        });
    }
    for number in 0..4 {
        delete(&thief, &key(number)).await;
    }
    delete(&thief, &key(0)).await;
    put(&thief, &key(1), "junk").await;
    put(&thief, &key(2), "junk").await;
    delete(&thief, &key(2)).await;
    put(&thief, &key(3), "").await;
    let before = site.s3.keys();

    let planned = site.recovered(&["--dry-run"]).await;
    assert_eq!((planned.len(), site.s3.keys()), (5, before), "{planned:?}");
    assert!(!site.path("run").exists(), "a dry run touches nothing");
    let said = site.recover(&["CAM"]).await;
    assert_eq!((said.code, said.out.lines().count()), (0, 5), "{said:?}");
    let lines = said.out.contains(&format!("CAM {DAY} 192.168.1.64_01_20220224000000000_TIMING.jpg was deleted 20"))
        && said.out.contains("it is back under its own name")
        && said.out.contains("it is back as CAM/");
    assert!(lines && said.err.contains("5 objects brought back"), "{said:?}");

    let copy_of = |number: usize| {
        let begins = key(number).replace(".jpg", "~recovered-");
        site.s3.keys().into_iter().find(|key| key.starts_with(&begins)).unwrap()
    };
    assert_eq!(site.bytes(&key(0)), "evidence 0");
    assert_eq!((site.bytes(&key(1)), site.bytes(&copy_of(1))), ("junk".into(), "evidence 1".into()));
    assert_eq!((site.bytes(&key(2)), site.bytes(&copy_of(2))), ("junk".into(), "evidence 2".into()));
    assert_eq!((site.bytes(&key(3)), site.bytes(&copy_of(3))), (String::new(), "evidence 3".into()));
    assert_eq!(site.s3.keys().len(), 8);
    let copy = site.s3.object(&copy_of(1)).unwrap();
    assert_eq!((copy.storage_class.as_str(), copy.metadata["source"].as_str()), ("GLACIER_IR", "CAM/x"));
    let listed = site.lines(&["list", "CAM", DAY]).await;
    assert_eq!(listed.len(), 8, "what came back is found like any capture: {listed:?}");

    let said = site.recover(&[]).await;
    let expected = "nothing is hidden that has to be brought back\n";
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", expected), "{said:?}");
    // The thief still has the keys.
    delete(&thief, &copy_of(1)).await;
    assert_eq!(site.recovered(&[]).await.len(), 1);
    assert_eq!(site.bytes(&copy_of(1)), "evidence 1");
}

#[tokio::test]
async fn i9_what_is_put_over_an_object_again_and_again_comes_back_where_no_policy_forbids_it() {
    let site = Site::start().await;
    site.s3.keep_versions(Versions::Kept);
    let thief = site.s3.client();
    site.s3.insert(&key(0), "evidence");
    for junk in ["junk 1", "junk 2", "junk 1", ""] {
        let body = ByteStream::from(junk.as_bytes().to_vec());
        thief.put_object().bucket("captures").key(key(0)).body(body).send().await.unwrap();
    }
    assert_eq!(site.recovered(&[]).await.len(), 3);
    let mut found: Vec<String> = site.s3.keys().iter().map(|key| site.bytes(key)).collect();
    found.sort();
    assert_eq!(found, ["", "evidence", "junk 1", "junk 2"]);
    assert_eq!(site.bytes(&key(0)), "", "what is there stays as it is");
    assert_eq!(site.recovered(&[]).await, [""; 0]);
}

#[tokio::test]
async fn what_the_rotation_bundled_stays_hidden_unless_everything_is_wanted() {
    let site = Site::start().await;
    site.s3.keep_versions(Versions::Kept);
    for number in 0..3 {
        site.s3.insert(&key(number), format!("evidence {number}"));
    }
    site.bundle("CAM", DAY, &archive("GLACIER_IR", ArchiveFormat::Tar)).await;
    let (bundle, index) = (format!("CAM/archive/{DAY}.tar"), format!("CAM/archive/{DAY}.index.json"));
    assert_eq!(site.s3.keys(), [index.clone(), bundle.clone()]);
    let said = site.recover(&[]).await;
    assert!(said.code == 0 && said.out.is_empty() && said.err.contains("3 objects left hidden"), "{said:?}");

    // Bundle and index come back first: what they hold needs nothing more.
    let thief = site.s3.client();
    let original = site.s3.object(&bundle).unwrap().sha256;
    delete(&thief, &bundle).await;
    delete(&thief, &index).await;
    assert_eq!(site.recovered(&["--dry-run"]).await.len(), 2);
    let expected = [&index, &bundle].map(|key| format!("{key} recovered {key}"));
    assert_eq!(site.recovered(&[]).await, expected);

    // Others in their place make room.
    delete(&thief, &bundle).await;
    delete(&thief, &index).await;
    put(&thief, &bundle, "junk in place of a bundle").await;
    put(&thief, &index, "{}").await;
    let lines = site.recovered(&[]).await;
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(site.s3.object(&bundle).unwrap().sha256, original);
    assert_eq!(site.lines(&["list", "CAM", DAY]).await.len(), 3, "its captures are listed from the index");
    assert_eq!(site.run(&["verify"]).await.code, 0);
    delete(&thief, &index).await;
    put(&thief, &index, "").await;
    assert_eq!(site.recovered(&[]).await.len(), 1);
    assert_eq!(site.lines(&["list", "CAM", DAY]).await.len(), 3, "nor does an index without bytes stay in the way");
    assert_eq!(site.recovered(&[]).await, [""; 0]);

    assert_eq!(site.recovered(&["--all"]).await.len(), 3);
    assert_eq!(site.bytes(&key(2)), "evidence 2");
}

#[tokio::test]
async fn i9_a_forged_bundle_keeps_nothing_hidden_where_everything_is_wanted() {
    let site = Site::start().await;
    site.s3.insert(&key(0), "evidence");
    site.bundle("CAM", DAY, &archive("GLACIER_IR", ArchiveFormat::Tar)).await;
    let (bundle, index) = (format!("CAM/archive/{DAY}.tar"), format!("CAM/archive/{DAY}.index.json"));
    // Whoever can put may put an index that names a capture, beside a bundle that does not hold it.
    let mut forged: Value = serde_json::from_str(&site.bytes(&index)).unwrap();
    let junk = vec![0; usize::try_from(forged["bundle"]["size"].as_u64().unwrap()).unwrap()];
    site.s3.insert(&bundle, junk);
    forged["bundle"]["md5"] = site.s3.object(&bundle).unwrap().etag.into();
    site.s3.insert(&index, forged.to_string());
    site.s3.keep_versions(Versions::Kept);
    site.s3.insert(&key(0), "evidence");
    site.s3.hide(&key(0));
    let said = site.recover(&[]).await;
    assert!(said.out.is_empty() && said.err.contains("--all brings them back too"), "{said:?}");
    assert_eq!(site.recovered(&["--all", "CAM"]).await.len(), 1);
    assert_eq!(site.bytes(&key(0)), "evidence");
}

#[tokio::test]
async fn what_expired_and_what_others_keep_stays_hidden_and_is_counted() {
    let site = Site::start_with("", "rotate: {cameras: all, archive: null, expire: {after: 365d}}\n").await;
    site.s3.keep_versions(Versions::Kept);
    let old = |object: &mut crate::support::s3::Object| {
        object.last_modified =
            DateTime::<Utc>::from(object.last_modified).checked_sub_signed(TimeDelta::days(500)).unwrap().into();
    };
    site.s3.insert_with(&key(0), "expired", old);
    site.s3.insert(&key(1), "imported lately");
    site.s3.insert("backups/db.dump", "another program's");
    site.s3.insert(".hk-aws-probe", "probe");
    let thief = site.s3.client();
    for key in [&key(0), &key(1), "backups/db.dump", ".hk-aws-probe"] {
        delete(&thief, key).await;
    }
    let said = site.recover(&[]).await;
    assert_eq!((said.code, said.out.lines().count()), (0, 1), "{said:?}");
    assert!(said.err.contains("1 object left hidden that the rotation deleted"), "{said:?}");
    assert!(said.err.contains("backups/db.dump") && !said.err.contains("probe"), "{said:?}");
    assert_eq!(site.s3.keys(), [key(1)]);
    assert_eq!(site.recovered(&["--all"]).await.len(), 2);
    assert_eq!(site.s3.keys(), [key(0), key(1), "backups/db.dump".into()]);
}

#[tokio::test]
async fn only_what_was_hidden_in_the_time_that_is_named_comes_back() {
    let site = Site::start().await;
    site.s3.keep_versions(Versions::Kept);
    let thief = site.s3.client();
    for (number, hours_ago) in [(0, 48), (1, 24), (2, 1)] {
        site.s3.insert(&key(number), "evidence");
        site.s3.date_stored_ahead(-hours_ago * 3600);
        delete(&thief, &key(number)).await;
    }
    let ago = |hours| (Utc::now() - TimeDelta::hours(hours)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let (long_ago, lately) = (ago(30), ago(2));
    for (arguments, expected) in [
        (&["--since", &lately][..], vec![2]),
        (&["--until", &long_ago], vec![0]),
        (&["--since", &long_ago, "--until", &lately], vec![1]),
        (&["--since", "2022-02-24", "--until", "2022-02-25T05:06"], vec![]),
        (&[], vec![0, 1, 2]),
    ] {
        let planned = site.recovered(&[&["--dry-run"], arguments].concat()).await;
        let expected: Vec<String> =
            expected.into_iter().map(|number| format!("{0} planned {0}", key(number))).collect();
        assert_eq!(planned, expected, "{arguments:?}");
    }
    let said = site.recover(&["--since", "yesterday"]).await;
    assert!(said.code == 2 && said.err.contains("YYYY-MM-DD"), "{said:?}");
}

#[tokio::test]
async fn one_camera_alone_comes_back_even_if_nothing_of_it_is_left() {
    let site = site().await;
    let thief = site.s3.client();
    for camera in ["CAM", "CAM-2"] {
        for file in [format!("{camera}/{DAY}/a.jpg"), format!("{camera}/archive/{DAY}.tar.gz")] {
            site.s3.insert(&file, "evidence");
            delete(&thief, &file).await;
        }
    }
    assert_eq!(site.recovered(&["CAM"]).await.len(), 2);
    assert_eq!(site.s3.keys(), [format!("CAM/{DAY}/a.jpg"), format!("CAM/archive/{DAY}.tar.gz")]);
    assert_eq!(site.recovered(&[]).await.len(), 2);
}

#[tokio::test]
async fn cold_versions_and_large_ones_are_named_and_markers_need_no_restore() {
    let site = site().await;
    let thief = site.s3.client();
    for (number, class, len) in [(0, "GLACIER", 8), (1, "DEEP_ARCHIVE", 8), (2, "STANDARD", 6 << 30)] {
        site.s3.insert_with(&key(number), "evidence", |object| {
            object.storage_class = class.into();
            object.len = len;
        });
        delete(&thief, &key(number)).await;
        if number > 0 {
            put(&thief, &key(number), "junk").await;
        }
    }
    let said = site.recover(&["--json"]).await;
    assert_eq!((said.code, said.out.lines().count()), (3, 3), "{said:?}");
    for part in ["DEEP_ARCHIVE", "aws s3api restore-object", "5 GiB", "2 of 3 failed"] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    assert_eq!(site.bytes(&key(0)), "evidence");
    assert_eq!(site.s3.keys().len(), 3);
}

#[tokio::test]
async fn what_lies_under_the_name_of_a_copy_is_compared_and_never_replaced() {
    let site = site().await;
    let thief = site.s3.client();
    site.s3.insert(&key(0), "evidence");
    delete(&thief, &key(0)).await;
    put(&thief, &key(0), "junk").await;
    let planned = site.recovered(&["--dry-run"]).await;
    let name = planned[0].rsplit(' ').next().unwrap().to_owned();
    // As long as the evidence, and with a forged SHA-256 in its metadata.
    let body = ByteStream::from_static(b"ecnedive");
    let sha256 = crate::support::site::sha256(b"evidence");
    let forged =
        thief.put_object().bucket("captures").key(&name).body(body).if_none_match("*").metadata("sha256", sha256);
    forged.send().await.unwrap();
    assert_eq!(site.recovered(&[]).await.len(), 1);
    let longer = site.s3.keys().into_iter().find(|key| key.len() == name.len() + 8).unwrap();
    assert_eq!((site.bytes(&name), site.bytes(&longer)), ("ecnedive".into(), "evidence".into()));
    assert_eq!(site.recovered(&[]).await, [""; 0]);
    // Nor is what nobody can read, such as an object with a thief's own key of encryption.
    site.s3.hide(&longer);
    site.s3.hide(&name);
    site.s3.insert(&name, "ecnedive");
    let unreadable = name.clone();
    site.s3.fault(Fault::fail("HeadObject", 400, "InvalidRequest").on_key(move |key| key == unreadable));
    assert_eq!(site.recovered(&[]).await, [format!("{longer} recovered {longer}")]);
}

#[tokio::test]
async fn the_copy_of_what_went_up_in_parts_has_another_etag_and_is_made_once() {
    let site = site().await;
    let thief = site.s3.client();
    let in_parts = |object: &mut crate::support::s3::Object| object.etag = format!("{}-2", object.etag);
    let index = format!("CAM/archive/{DAY}.tar.gz");
    for key in [&key(0), &index] {
        site.s3.insert_with(key, "a long clip", in_parts);
        delete(&thief, key).await;
        put(&thief, key, "junk").await;
    }
    assert_eq!(site.recovered(&[]).await.len(), 3);
    // What S3 makes of it: a copy that was not made in parts.
    let copies: Vec<String> = site.s3.keys().into_iter().filter(|key| site.bytes(key) == "a long clip").collect();
    assert_eq!(copies.len(), 2, "{copies:?}");
    for copy in &copies {
        site.s3.edit(copy, |object| object.etag = object.etag.replace("-2", ""));
    }
    assert_eq!(site.recovered(&[]).await, [""; 0]);
    assert_eq!(site.s3.keys().len(), 4);
}

#[tokio::test]
async fn killed_anywhere_it_is_run_again_and_ends_the_same() {
    // Each strikes once some of it is done.
    for (operation, number) in [("DeleteObjects", 0), ("CopyObject", 9), ("HeadObject", 9), ("ListObjectVersions", 0)] {
        let site = site().await;
        let thief = site.s3.client();
        for number in 0..20 {
            site.s3.insert(&key(number), number.to_string());
            delete(&thief, &key(number)).await;
            if number % 2 == 1 {
                put(&thief, &key(number), "junk").await;
            }
        }
        let struck = key(number).replace(".jpg", "");
        let whole = matches!(operation, "DeleteObjects" | "ListObjectVersions");
        site.s3.fault(Fault::hang(operation).on_key(move |key| whole || key.starts_with(&struck)));
        let mut command = site.command(&["recover"]);
        let mut child = command.env("AWS_ACCESS_KEY_ID", OWNERS_ACCESS_KEY).stdout(Stdio::null()).spawn().unwrap();
        let asked = |state: &State| {
            state.requests().iter().any(|request| request.operation == operation && request.status.is_none())
        };
        site.s3.wait_for(asked, Duration::from_secs(30)).await;
        child.kill().await.unwrap();
        site.s3.clear_faults();
        site.recovered(&[]).await;
        let found: std::collections::BTreeSet<String> = site.s3.keys().iter().map(|key| site.bytes(key)).collect();
        assert_eq!(found.len(), 21, "{operation}");
        assert_eq!(site.s3.keys().len(), 30, "{operation}");
        assert_eq!(site.recovered(&[]).await, [""; 0], "{operation}");
    }
}

#[tokio::test]
async fn a_bucket_without_versions_and_credentials_without_rights_are_named_with_what_to_do() {
    let plain = Site::start().await;
    plain.s3.insert(&key(0), "evidence");
    let said = plain.recover(&[]).await;
    assert!(said.code == 1 && said.err.contains("keeps no versions") && said.err.contains("aws-template"), "{said:?}");

    let site = site().await;
    site.s3.insert(&key(0), "evidence");
    let said = site.run(&["recover"]).await;
    for part in ["the owner's credentials", "AWS_PROFILE", "s3:ListBucketVersions", "s3://captures"] {
        assert!(said.code == 1 && said.err.contains(part), "{part}: {said:?}");
    }
    delete(&site.s3.client(), &key(0)).await;
    site.s3.fault(Fault::fail("DeleteObjects", 403, "AccessDenied"));
    let said = site.recover(&[]).await;
    assert!(said.code == 1 && said.err.contains("s3:DeleteObjectVersion"), "{said:?}");
    let denied = "<DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Error><Key>CAM/2022-02-24/\
                  192.168.1.64_01_20220224000000000_TIMING.jpg</Key><Code>AccessDenied</Code><Message>Access Denied\
                  </Message></Error></DeleteResult>";
    site.s3.clear_faults();
    site.s3.fault(Fault::answer("DeleteObjects", 200, &[("content-type", "application/xml")], denied));
    let said = site.recover(&[]).await;
    assert!(said.code == 1 && said.err.contains("s3:DeleteObjectVersion") && said.err.contains(&key(0)), "{said:?}");
    site.s3.look(|state| {
        assert!(state.older()[&key(0)].iter().any(|version| matches!(version, Older::Marker { .. })));
    });
}

/// `HK_AWS_VERSIONS` sets the number of versions.
#[tokio::test]
async fn i6_however_many_versions_there_are_memory_is_bounded() {
    let versions: usize = std::env::var("HK_AWS_VERSIONS").map_or(5000, |versions| versions.parse().unwrap());
    let site = Site::start().await;
    site.s3.keep_versions(Versions::Kept);
    // Two versions each, and a third of every hundredth.
    for number in 0..versions / 2 {
        let key = format!("CAM/2022-02-{:02}/{number:06}.jpg", number * 28 / versions + 1);
        site.s3.insert(&key, number.to_string());
        site.s3.hide(&key);
        if number % 100 == 0 {
            site.s3.insert(&key, "junk");
        }
    }
    let begin = std::time::Instant::now();
    let mut command = site.command(&["recover"]);
    let (said, peak) = run_measured(command.env("AWS_ACCESS_KEY_ID", OWNERS_ACCESS_KEY)).await;
    eprintln!("{versions} versions: {:?}, {} MiB at most", begin.elapsed(), peak >> 10);
    assert!(said.code == 0 && peak >> 10 < 100, "{peak} KiB");
    assert_eq!(site.s3.keys().len(), versions / 2 + versions.div_ceil(200));
    assert!(
        site.s3.count("ListObjectVersions") <= 2 * (versions / 900 + 2) + 28,
        "two times page by page, and the archive of each day"
    );
    assert!(site.s3.count("DeleteObjects") <= versions / 1000 + 5, "markers go by the thousand");
}
