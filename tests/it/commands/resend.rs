//! A store that lost captures, as one does that is restored from an older snapshot: their copies here are the last ones.

use std::collections::BTreeMap;
use std::time::Instant;

use chrono::{DateTime, Utc};
use hk_aws::archive::Reads;
use hk_aws::clock::Now;
use hk_aws::key::ArchiveFormat;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Said, Site, archive, names};
use crate::support::s3::Fault;
use crate::support::settings;
use crate::support::site::files;

const DAY: &str = "2022-02-24";

fn key(number: usize) -> String {
    format!("CAM/{DAY}/192.168.1.64_01_202202240506{number:02}000_TIMING.jpg")
}

fn bytes(number: usize) -> Vec<u8> {
    format!("capture {number}").repeat(60_000).into_bytes()
}

/// A site that has stored five captures and keeps copies of them, from now on within this limit.
async fn stored(limit: &str) -> Site {
    let site = Site::start_with("", "keep: {min_free: 0}\n").await;
    for number in 1..=5 {
        site.drop_file(&key(number).replace(&format!("{DAY}/"), ""), &bytes(number));
    }
    let said = site.run(&["upload"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    settings::change(&site.path("config.yaml"), &format!("keep: {{{limit}}}"));
    site
}

/// Lets local copies give way as the daemon does some days later, and in want of room; returns how many stay.
async fn copies_that_stay(site: &Site, needed: u64) -> usize {
    let kept = site.context().await.kept;
    let wall: DateTime<Utc> = "2022-02-26T00:00:00Z".parse().unwrap();
    let now = Now { steady: Instant::now(), wall: wall.into() };
    tokio::task::spawn_blocking(move || {
        if needed > 0 {
            kept.make_room(needed, now);
        } else {
            kept.give_way(now);
        }
    })
    .await
    .unwrap();
    let day = site.path("state/kept/CAM").join(DAY);
    if day.exists() { names(&day).len() } else { 0 }
}

/// What `verify` finds: how often each word.
fn counted(said: &Said) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for line in said.out.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        *counted.entry(line["what"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    counted
}

async fn verify(site: &Site, more: &[&str]) -> (i32, Vec<(String, usize)>) {
    let said = site.run(&[&["--json", "verify"], more].concat()).await;
    assert!(!said.err.contains("panicked"), "{said:?}");
    (said.code, counted(&said).into_iter().collect())
}

fn found(what: &str, number: usize) -> Vec<(String, usize)> {
    vec![(what.to_owned(), number)]
}

#[tokio::test]
async fn copies_of_captures_that_the_bucket_lost_never_give_way_and_are_sent_again() {
    // Whichever limit makes copies go, and whether the captures lay loose or in a bundle.
    for (limit, needed, is_bundled) in [
        ("max_size: 1MiB, min_free: 0", 0, false),
        ("max_size: 1MiB, min_free: 0", 0, true),
        ("days: 1, min_free: 0", 0, true),
        ("min_free: 1024GiB", 0, false),
        ("min_free: 0", u64::MAX, true),
    ] {
        let site = stored(limit).await;
        let lost = if is_bundled {
            site.bundle("CAM", DAY, &archive("GLACIER_IR", ArchiveFormat::Tar)).await;
            site.s3.keys().iter().for_each(|key| site.s3.remove(key));
            5
        } else {
            [2, 3].map(key).iter().for_each(|key| site.s3.remove(key));
            2
        };
        let said = site.run(&["verify"]).await;
        assert!(said.code != 0 && said.out.contains("--resend` sends"), "{limit}: {said:?}");
        assert_eq!(copies_that_stay(&site, needed).await, lost, "{limit}");

        let (code, said) = verify(&site, &["--resend"]).await;
        assert_eq!((code, said), (0, found("resent", lost)), "{limit}");
        for number in (1..=5).filter(|number| is_bundled || [2, 3].contains(number)) {
            let object = site.s3.object(&key(number)).unwrap();
            assert_eq!(object.sha256, hex::encode(Sha256::digest(bytes(number))), "{limit}");
            assert_eq!(object.metadata["sha256"], object.sha256);
            assert_eq!(object.content_type.as_deref(), Some("image/jpeg"));
        }
        assert_eq!(verify(&site, &["--deep"]).await, (0, vec![]), "{limit}");
        assert_eq!(copies_that_stay(&site, u64::MAX).await, 0, "{limit}: the bucket has them");
    }
}

#[tokio::test]
async fn what_was_altered_is_sent_again_beside_it() {
    for (is_deep, same_size) in [(false, false), (true, true)] {
        let site = stored("min_free: 0").await;
        let other = if same_size { vec![7; bytes(4).len()] } else { vec![7] };
        site.s3.insert(&key(4), other);
        let deep = if is_deep { &["--deep"][..] } else { &[] };
        assert_eq!(verify(&site, deep).await, (3, found("altered", 1)));
        // What only a closer look shows stays marked after another look.
        verify(&site, &[]).await;
        assert_eq!(copies_that_stay(&site, u64::MAX).await, 1);
        let (code, mut said) = verify(&site, &[deep, &["--resend"]].concat()).await;
        said.sort();
        assert_eq!((code, said), (3, [found("altered", 1), found("resent", 1)].concat()));
        let hash = &hex::encode(Sha256::digest(bytes(4)))[..8];
        let beside = key(4).replace(".jpg", &format!("~{hash}.jpg"));
        assert_eq!(*site.s3.object(&beside).unwrap().bytes.unwrap(), bytes(4));
        // It is still said, and nothing is sent once more.
        assert_eq!(verify(&site, &[deep, &["--resend"]].concat()).await, (3, found("altered", 1)));
        assert_eq!(copies_that_stay(&site, u64::MAX).await, 0);
    }
}

#[tokio::test]
async fn what_may_not_be_looked_at_does_not_count_as_sent_again() {
    let site = stored("min_free: 0").await;
    site.s3.insert(&key(4), vec![7]);
    // Its keys may list, and not read.
    site.s3.fault(Fault::fail("HeadObject", 403, "AccessDenied"));
    site.s3.fault(Fault::fail("GetObject", 403, "AccessDenied"));
    let (code, said) = verify(&site, &["--resend"]).await;
    site.s3.clear_faults();
    let hash = &hex::encode(Sha256::digest(bytes(4)))[..8];
    let beside = site.s3.object(&key(4).replace(".jpg", &format!("~{hash}.jpg")));
    assert!(code == 3 && said.contains(&("altered".to_owned(), 1)), "{said:?}");
    assert!(copies_that_stay(&site, u64::MAX).await == 1 || *beside.unwrap().bytes.unwrap() == bytes(4), "{said:?}");
}

#[tokio::test]
async fn i4_an_object_that_only_says_that_it_has_the_bytes_of_its_local_copy_is_not_bundled_from_that() {
    let site = stored("min_free: 0").await;
    let other = vec![7; bytes(4).len()];
    site.s3.insert_with(&key(4), other.clone(), |object| {
        object.metadata.insert("sha256".to_owned(), hex::encode(Sha256::digest(bytes(4))));
    });
    let settings = archive("GLACIER_IR", ArchiveFormat::Tar);
    let day = DAY.parse().unwrap();
    let context = site.context().await;
    let _made = hk_aws::archive::archive_day(&context, &settings, "CAM", day, &mut Reads::default()).await;
    let to = site.path("got");
    site.run(&["get", "CAM", DAY, "--to", to.to_str().unwrap()]).await;
    let got = files(&to).iter().any(|file| std::fs::read(file).unwrap() == other);
    let stays = site.s3.object(&key(4)).is_some_and(|object| object.bytes.unwrap() == other);
    assert!(got || stays, "{:?}", site.s3.keys());
}

#[tokio::test]
async fn a_mark_goes_by_itself_once_the_store_has_the_capture_again() {
    for is_gone_for_good in [false, true] {
        let site = stored("min_free: 0").await;
        let object = site.s3.object(&key(1)).unwrap();
        site.s3.remove(&key(1));
        assert_eq!(verify(&site, &["CAM", DAY]).await, (3, found("missing", 1)));
        if !is_gone_for_good {
            site.s3.insert_with(&key(1), object.bytes.unwrap(), |_| {});
            assert_eq!(verify(&site, &["CAM"]).await, (0, vec![]));
        }
        assert_eq!(copies_that_stay(&site, u64::MAX).await, usize::from(is_gone_for_good));
    }
}

#[tokio::test]
async fn a_copy_with_other_bytes_is_not_sent_and_a_store_that_refuses_loses_no_mark() {
    let site = stored("min_free: 0").await;
    [1, 2].map(key).iter().for_each(|key| site.s3.remove(key));
    let cut = site.path("state/kept").join(key(1));
    std::fs::write(&cut, vec![0; bytes(1).len()]).unwrap();
    site.s3.fault(Fault::fail("PutObject", 503, "SlowDown"));
    assert_eq!(verify(&site, &["--resend"]).await, (3, [found("missing", 2), found("unchecked", 1)].concat()));
    assert_eq!(copies_that_stay(&site, u64::MAX).await, 2);
    site.s3.clear_faults();
    let (code, said) = verify(&site, &["--resend"]).await;
    assert_eq!((code, said), (3, [found("missing", 1), found("resent", 1)].concat()));
    assert!(site.s3.object(&key(1)).is_none() && site.s3.object(&key(2)).is_some());
    assert_eq!(copies_that_stay(&site, u64::MAX).await, 1, "what is left of it stays");
}
