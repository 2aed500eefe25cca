//! `rotate`, `archive`: what is due, what it costs, and doing it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{Days, NaiveDate, Utc};
use hk_aws::clock::Now;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Site;
use crate::support::s3::{Fault, Versions};
use crate::support::settings;

/// The date so many days ago, at the cameras: there it may be tomorrow already.
pub(super) fn ago(days: u64) -> NaiveDate {
    Utc::now().with_timezone(&chrono_tz::Europe::Kyiv).date_naive() - Days::new(days)
}

pub(super) fn name(date: NaiveDate, number: u32) -> String {
    format!("192.168.1.64_01_{}12{:02}{:02}000_MOTION_DETECTION.jpg", date.format("%Y%m%d"), number / 60, number % 60)
}

/// A box that has stored pictures of two cameras, of days so long ago.
pub(super) async fn stored(sections: &str, days: &[u64]) -> Site {
    let site = Site::start_with("", sections).await;
    for camera in ["CAM-1", "CAM-2"] {
        for (at, day) in days.iter().enumerate() {
            for number in 0..=u32::try_from(at).unwrap() {
                site.drop_file(
                    &format!("{camera}/{}", name(ago(*day), number)),
                    format!("{camera} {day} {}", "x".repeat(number as usize + 1)).as_bytes(),
                );
            }
        }
    }
    let said = site.run(&["upload"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    site
}

#[tokio::test]
async fn a_dry_run_says_what_is_due_and_what_it_costs_and_touches_nothing() {
    let site = stored("rotate: {archive: {class: GLACIER}}\n", &[40, 35, 31, 29]).await;
    let (keys, before) = (site.s3.keys(), site.s3.requests().len());
    let said = site.run(&["rotate", "--dry-run"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let lines: Vec<Vec<&str>> = said.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 4, "{said:?}");
    let range = format!("({}..{})", ago(40), ago(31));
    for (line, camera) in [(&lines[1], "CAM-1"), (&lines[2], "CAM-2")] {
        assert_eq!(line[..5], ["bundle", camera, "3", &range, "6"], "{said:?}");
        assert_eq!(line[7], "GLACIER", "{said:?}");
    }
    assert_eq!(lines[3][0], "total", "{said:?}");
    assert!(!said.err.contains("local copy"), "they are here: {said:?}");
    let said = site.run(&["rotate", "--dry-run", "--json"]).await;
    let plan: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((plan["rows"][0]["camera"].as_str(), plan["rows"][0]["objects"].as_u64()), (Some("CAM-1"), Some(6)));
    assert!(plan["rows"][0]["now"].as_f64().unwrap() > 0.0, "{said:?}");
    let (cold, warm) = (&plan["bundle_classes"][0], &plan["bundle_classes"][1]);
    assert_eq!((&cold["class"], &cold["wait"]), (&"GLACIER".into(), &"3 to 5 hours".into()), "{said:?}");
    assert_eq!((&warm["class"], &warm["wait"]), (&"GLACIER_IR".into(), &Value::Null), "{said:?}");
    assert_eq!(site.s3.keys(), keys);
    let asked = site.s3.requests()[before..].to_vec();
    assert!(
        asked.iter().all(|request| request.operation.starts_with("List") || request.operation.starts_with("Get")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_rotation_bundles_what_is_due_and_leaves_the_rest_and_done_again_it_does_nothing() {
    let site = stored("", &[40, 35, 31, 29]).await;
    let said = site.run(&["rotate"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("12 captures of 6 days bundled"), "{said:?}");
    for camera in ["CAM-1", "CAM-2"] {
        for day in [40, 35, 31] {
            for ending in ["tar", "index.json"] {
                let key = format!("{camera}/archive/{}.{ending}", ago(day));
                assert!(site.s3.object(&key).is_some(), "{key}: {:?}", site.s3.keys());
            }
        }
    }
    let loose: Vec<String> = site.s3.keys().into_iter().filter(|key| !key.contains("/archive/")).collect();
    assert_eq!(loose.len(), 8);
    assert!(loose.iter().all(|key| key.contains(&ago(29).to_string())), "{loose:?}");
    // The next run confirms the bundles of days without local copies once more, whose ledger then goes.
    assert_eq!(site.run(&["rotate"]).await.code, 0);
    let (keys, before) = (site.s3.keys(), site.s3.requests().len());
    let said = site.run(&["rotate"]).await;
    assert_eq!((said.code, site.s3.keys()), (0, keys), "{said:?}");
    assert_eq!(site.s3.requests().len(), before + 3, "the cameras, and each of them once: {said:?}");
}

#[tokio::test]
async fn what_expired_goes_and_what_was_stored_late_stays() {
    let site = stored("rotate: {archive: null, expire: {after: 100d}}\n", &[140, 120, 90]).await;
    // As stored on its day; those of 120 days ago came late.
    for key in site.s3.keys() {
        let day = if key.contains(&ago(140).to_string()) { 140 } else { 1 };
        site.s3.edit(&key, |object| object.last_modified -= std::time::Duration::from_hours(24 * day));
    }
    let said = site.run(&["rotate"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("2 expired"), "{said:?}");
    let keys = site.s3.keys();
    assert!(keys.len() == 10 && !keys.iter().any(|key| key.contains(&ago(140).to_string())), "{keys:?}");
    let ledger = std::fs::read_to_string(site.path(&format!("state/ledger/CAM-1/{}.jsonl", ago(140)))).unwrap();
    assert!(ledger.lines().last().unwrap().contains("removed_at"), "{ledger}");
}

#[tokio::test]
async fn what_is_replaced_after_the_last_look_does_not_expire() {
    let site = stored("rotate: {archive: null, expire: {after: 100d}}\n", &[140]).await;
    let keys = site.s3.keys();
    for key in &keys {
        site.s3.edit(key, |object| object.last_modified -= std::time::Duration::from_hours(24 * 140));
    }
    let replaced = keys[0].clone();
    site.s3.fault(Fault::meanwhile("DeleteObjects", move |state| state.replace(&replaced, b"another")).times(1));
    let said = site.run(&["rotate"]).await;
    assert!(said.code != 0 && said.err.contains("not the object that was looked at"), "{said:?}");
    assert_eq!(site.s3.keys(), keys[..1], "{said:?}");
}

#[tokio::test]
async fn a_bundle_and_an_archive_of_the_scripts_of_one_day_expire_on_their_own() {
    let site = stored("", &[140]).await;
    // As stored on its day, so that the members of the bundle are that old.
    for key in site.s3.keys() {
        site.s3.edit(&key, |object| object.last_modified -= std::time::Duration::from_hours(24 * 140));
    }
    let rotate = |settings: &str| settings::change(&site.path("config.yaml"), &format!("rotate: {settings}"));
    rotate("{archive: {after: 30d, class: STANDARD}, expire: null}");
    assert_eq!(site.run(&["rotate"]).await.code, 0);
    let key = |camera: &str, ending: &str| format!("{camera}/archive/{}.{ending}", ago(140));
    // Theirs of one camera came a month ago, and of the other on its day.
    for (camera, days) in [("CAM-1", 30), ("CAM-2", 140)] {
        site.s3.insert_with(&key(camera, "tar.gz"), "theirs", |object| {
            object.last_modified -= std::time::Duration::from_hours(24 * days);
        });
    }
    rotate("{archive: null, expire: {after: 100d}}");
    let said = site.run(&["rotate"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(site.s3.keys(), [key("CAM-1", "index.json"), key("CAM-1", "tar.gz")], "{said:?}");
    // Their archive is no bundle to that index, which goes with it.
    site.s3.edit(&key("CAM-1", "tar.gz"), |object| object.last_modified -= std::time::Duration::from_hours(24 * 100));
    site.s3.insert(&format!("CAM-1/{0}/{1}", ago(0), name(ago(0), 1)), "today");
    assert_eq!(site.run(&["rotate"]).await.code, 0);
    assert_eq!(site.s3.keys().len(), 1, "{:?}", site.s3.keys());
}

#[tokio::test]
async fn each_object_moves_to_the_colder_class_in_place_and_small_ones_stay() {
    let site = stored("rotate: {transition: {after: 30d, class: GLACIER_IR, min_size: 11}}\n", &[40, 35]).await;
    let said = site.run(&["rotate"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    for key in site.s3.keys() {
        let object = site.s3.object(&key).unwrap();
        let moved = object.len >= 11;
        assert_eq!(object.storage_class == "GLACIER_IR", moved, "{key}");
        assert_eq!(object.metadata["camera"], key[..5]);
        assert!(object.checksum.checksum_sha256.is_some(), "{key}");
    }
    assert_eq!(site.s3.count("CopyObject"), 2, "{said:?}");
    let said = site.run(&["rotate"]).await;
    assert_eq!((said.code, site.s3.count("CopyObject")), (0, 2), "{said:?}");
}

#[tokio::test]
async fn named_days_are_bundled_whatever_their_age_but_not_before_they_are_over() {
    let site = stored("", &[5, 3]).await;
    let (day, range) = (ago(5).to_string(), format!("{}..{}", ago(6), ago(3)));
    let said = site.run(&["archive", "CAM-1", &day, "--dry-run"]).await;
    assert!(said.code == 0 && said.out.contains("bundle") && !said.out.contains("CAM-2"), "{said:?}");
    assert!(site.s3.object(&format!("CAM-1/archive/{day}.tar")).is_none());
    let said = site.run(&["archive", "CAM-1", &range]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("3 captures of 2 days"), "{said:?}");
    assert!(said.err.contains(&format!("{}: nothing lies loose", ago(6))), "{said:?}");
    let said = site.run(&["archive", "CAM-2", &ago(0).to_string()]).await;
    assert!(said.code == 1 && said.err.contains("not over yet"), "{said:?}");
    let said = site.run(&["archive", "CAM-9", &day]).await;
    assert!(said.code == 1 && said.err.contains("no camera CAM-9"), "{said:?}");
    let said = site.run(&["archive", "CAM-2", "2022-02-30"]).await;
    assert_eq!(said.code, 2, "{said:?}");
    let said = site.run(&["archive", "--older-than", "4d"]).await;
    assert!(said.code == 0 && said.out.contains("1 captures of 1 days"), "{said:?}");
    assert_eq!(site.run(&["archive"]).await.code, 1);
}

#[tokio::test]
async fn a_write_only_box_says_who_rotates_in_its_place() {
    let site = Site::start_with(", access: write-only", "").await;
    let said = site.run(&["rotate", "--dry-run"]).await;
    assert!(said.code == 1 && said.err.contains("`hk-aws aws-template`"), "{said:?}");
    assert!(site.s3.requests().is_empty());
    let said = site.run(&["check"]).await;
    assert!(said.code == 0 && said.err.contains("`hk-aws aws-template`"), "{said:?}");
}

#[tokio::test]
async fn a_clock_that_is_far_off_rotates_nothing() {
    let site = stored("", &[40]).await;
    for key in site.s3.keys() {
        site.s3.edit(&key, |object| object.last_modified += std::time::Duration::from_hours(24 * 3));
    }
    let said = site.run(&["rotate"]).await;
    assert!(said.code == 1 && said.err.contains("set the clock"), "{said:?}");
    assert_eq!(site.s3.keys().len(), 2);
}

#[tokio::test]
async fn an_outage_in_the_middle_is_said_and_the_next_run_goes_on() {
    let site = stored("", &[40, 35]).await;
    site.s3.fault(Fault::fail("PutObject", 503, "SlowDown").on_key(move |key| key.contains(&ago(35).to_string())));
    let said = site.run(&["rotate"]).await;
    assert!(said.code == 1 && said.err.contains("run it again to go on"), "{said:?}");
    assert_eq!(site.s3.keys().iter().filter(|key| key.contains(".tar")).count(), 2);
    site.s3.clear_faults();
    let said = site.run(&["rotate"]).await;
    assert!(said.code == 0 && said.out.contains("4 captures of 2 days"), "{said:?}");
    assert!(site.s3.keys().iter().all(|key| key.contains("/archive/")));
}

/// The keys of captures that lie loose.
fn loose(site: &Site) -> Vec<String> {
    site.s3.keys().into_iter().filter(|key| !key.contains("/archive/")).collect()
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_left_and_named_and_its_day_and_the_others_go_on() {
    for fault in [
        || Fault::fail("GetObject", 500, "InternalError"),
        || Fault::fail("GetObject", 403, "AccessDenied"),
        || Fault::fail("GetObject", 400, "InvalidRequest"),
        || Fault::reset("GetObject"),
    ] {
        let site = stored("", &[40, 35, 31]).await;
        let key = format!("CAM-1/{}/{}", ago(35), name(ago(35), 0));
        std::fs::remove_file(site.path("state/kept").join(&key)).unwrap();
        let unreadable = key.clone();
        site.s3.fault(fault().on_key(move |key| key == unreadable));
        for again in [false, true] {
            let said = site.run(&["rotate"]).await;
            // The second time nothing else is left to do.
            assert!(said.code == if again { 1 } else { 3 } && said.err.contains(&key), "{said:?}");
            assert_eq!(loose(&site), [key.as_str()], "{said:?}");
            assert_eq!(said.out.contains("11 captures of 6 days bundled"), !again, "{said:?}");
        }
        site.s3.clear_faults();
        let said = site.run(&["rotate"]).await;
        assert_eq!((said.code, loose(&site)), (0, vec![]), "{said:?}");
    }
}

#[tokio::test]
async fn downloads_that_are_refused_on_several_days_alike_are_tried_once_a_day_and_local_copies_are_bundled() {
    let site = stored("", &[40, 39, 38, 37, 36, 35]).await;
    std::fs::remove_dir_all(site.path("state/kept/CAM-1")).unwrap();
    site.s3.fault(Fault::fail("GetObject", 403, "AccessDenied"));
    let said = site.run(&["rotate"]).await;
    assert!(said.code == 3 && said.out.contains("21 captures of 6 days bundled"), "{said:?}");
    assert!(said.err.contains("3 days were refused alike (AccessDenied)"), "{said:?}");
    assert!(loose(&site).len() == 21 && loose(&site).iter().all(|key| key.starts_with("CAM-1/")), "{said:?}");
    // All of the first three days, and one of each other.
    assert_eq!(site.s3.count("GetObject"), 1 + 2 + 3 + 3, "{said:?}");
    site.s3.clear_faults();
    let said = site.run(&["rotate"]).await;
    assert_eq!((said.code, loose(&site)), (0, vec![]), "{said:?}");
}

#[tokio::test]
async fn what_does_not_fit_on_the_disk_is_left_and_named_and_not_downloaded() {
    let site = stored("keep: {min_free: 0}\n", &[40, 35]).await;
    std::fs::remove_dir_all(site.path("state/kept")).unwrap();
    settings::change(&site.path("config.yaml"), "keep: {min_free: 1000TiB}");
    for _ in 0..2 {
        let said = site.run(&["rotate"]).await;
        assert!(said.code == 1 && said.err.contains("keep.min_free is"), "{said:?}");
        assert_eq!((site.s3.count("GetObject"), loose(&site).len()), (0, 6), "{said:?}");
    }
}

#[tokio::test]
async fn i4_a_store_that_ignores_the_class_gets_one_bundle_and_no_more_until_the_class_is_corrected() {
    let site = stored("", &[40, 35, 31]).await;
    site.s3.ignore_classes();
    let bundles = || site.s3.keys().into_iter().filter(|key| key.contains(".tar")).count();
    for night in 0..3 {
        let said = site.run(&["rotate"]).await;
        assert!(said.code == 1 && said.err.contains("write STANDARD for rotate.archive.class"), "{night}: {said:?}");
        assert_eq!((bundles(), loose(&site).len()), (1, 12), "{night}: {:?}", site.s3.keys());
    }
    let context = std::sync::Arc::new(site.context().await);
    let ended = hk_aws::rotate::job(context, tokio_util::sync::CancellationToken::new()).await;
    assert_eq!((ended.end, bundles()), (hk_aws::schedule::RunEnd::NeedsOperator, 1), "{ended:?}");
    // Whoever does as is said has each capture once.
    let config = std::fs::read_to_string(site.path("config.yaml")).unwrap();
    std::fs::write(site.path("config.yaml"), config + "rotate: {archive: {class: STANDARD}}\n").unwrap();
    let said = site.run(&["rotate"]).await;
    assert_eq!((said.code, bundles(), loose(&site)), (0, 6, vec![]), "{said:?}");
}

#[tokio::test]
async fn one_day_that_fails_ends_nothing_and_several_that_fail_alike_end_the_run() {
    let site = stored("", &[40, 35, 31]).await;
    let of = |camera: &'static str| move |key: &str| key.starts_with(camera) && key.ends_with(".tar");
    let one = move |key: &str| of("CAM-1")(key) && key.contains(&ago(40).to_string());
    site.s3.fault(Fault::fail("PutObject", 500, "InternalError").on_key(one));
    let said = site.run(&["rotate"]).await;
    assert!(
        said.code == 3 && said.out.contains("11 captures of 5 days") && said.err.contains("InternalError"),
        "{said:?}"
    );
    site.s3.clear_faults();
    assert_eq!(site.run(&["rotate"]).await.code, 0);

    let site = stored("", &[40, 35, 31]).await;
    site.s3.fault(Fault::fail("PutObject", 500, "InternalError").on_key(of("CAM-")));
    let said = site.run(&["rotate"]).await;
    assert!(said.code == 1 && said.err.contains("run it again to go on"), "{said:?}");
    let tried =
        |request: &crate::support::s3::Request| request.key.ends_with(".tar") && request.operation == "PutObject";
    assert_eq!(site.s3.requests().iter().filter(|request| tried(request)).count(), 3, "{said:?}");
    site.s3.clear_faults();
    assert_eq!((site.run(&["rotate"]).await.code, loose(&site)), (0, vec![]));
}

#[tokio::test]
async fn a_bucket_that_keeps_versions_or_locks_is_not_rotated_in_vain() {
    let site = stored("rotate: {transition: {after: 30d, class: GLACIER_IR, min_size: 0}}\n", &[40]).await;
    site.s3.keep_versions(Versions::Kept);
    let said = site.run(&["rotate"]).await;
    assert!(said.code == 0 && said.err.contains("makes a new version"), "{said:?}");
    assert_eq!(site.s3.count("CopyObject"), 0);

    let site = stored("", &[40]).await;
    site.s3.keep_versions(Versions::Kept);
    let said = site.run(&["rotate", "--dry-run"]).await;
    assert!(said.err.contains("what is deleted is hidden") && said.err.contains("after 30 days (s3.undo)"), "{said:?}");
    site.s3.keep_versions(Versions::Locked);
    let said = site.run(&["rotate"]).await;
    assert!(said.code == 0 && said.err.contains("the bucket locks objects"), "{said:?}");
    assert!(site.s3.keys().iter().all(|key| !key.contains("/archive/")));
}

#[tokio::test]
async fn the_plan_counts_what_a_bucket_with_versions_keeps() {
    let site = Site::start_with(", undo: 60d", "rotate: {archive: {class: STANDARD}, expire: null}\n").await;
    site.drop_file(&format!("CAM/{}", name(ago(70), 1)), &vec![7; 4 << 20]);
    assert_eq!(site.run(&["upload"]).await.code, 0);
    let row = async || -> Value {
        let said = site.run(&["rotate", "--dry-run", "--json"]).await;
        serde_json::from_str::<Value>(&said.out).unwrap()["rows"][0].take()
    };
    let plain = row().await;
    site.s3.keep_versions(Versions::Kept);
    let versioned = row().await;
    let dollars = |row: &Value, of: &str| row[of].as_f64().unwrap();
    let two_months = 2.0 * 0.023 * 4.0 / 1024.0;
    assert!((dollars(&versioned, "undo") - two_months).abs() < 1e-9, "{versioned}");
    assert!((dollars(&versioned, "now") - dollars(&plain, "now") - two_months).abs() < 1e-9, "{plain} {versioned}");
    assert_eq!((dollars(&plain, "undo"), &plain["monthly"]), (0.0, &versioned["monthly"]));
}

#[tokio::test]
async fn what_a_lock_holds_does_not_expire() {
    let site = stored("rotate: {archive: null, expire: {after: 100d}}\n", &[140]).await;
    site.s3.keep_versions(Versions::Locked);
    for key in site.s3.keys() {
        let until = if key.starts_with("CAM-1") { 1 } else { -1 };
        let until = Utc::now() + chrono::TimeDelta::days(until);
        site.s3.edit(&key, |object| {
            object.last_modified -= std::time::Duration::from_hours(24 * 140);
            object.locked_until = Some(std::time::SystemTime::from(until).into());
        });
    }
    let said = site.run(&["rotate"]).await;
    assert!(said.code == 3 && said.out.contains("1 expired") && said.err.contains("a lock holds it until"), "{said:?}");
    assert!(site.s3.keys().len() == 1 && site.s3.keys()[0].starts_with("CAM-1"), "{:?}", site.s3.keys());
}

#[tokio::test]
async fn where_a_lock_cannot_be_seen_nothing_is_deleted() {
    for hidden in ["GetObjectRetention", "GetObjectLegalHold"] {
        let site = stored("rotate: {archive: null, expire: {after: 100d}}\n", &[140]).await;
        site.s3.keep_versions(Versions::Locked);
        for key in site.s3.keys() {
            // To these credentials a HEAD tells of no lock.
            site.s3.edit(&key, |object| object.last_modified -= std::time::Duration::from_hours(24 * 140));
        }
        site.s3.fault(Fault::fail(hidden, 403, "AccessDenied"));
        let (keys, said) = (site.s3.keys(), site.run(&["rotate"]).await);
        assert!(
            said.code == 1 && said.err.contains("allow s3:GetObjectRetention and s3:GetObjectLegalHold"),
            "{said:?}"
        );
        assert_eq!((site.s3.keys(), site.s3.count("DeleteObjects")), (keys, 0), "{said:?}");
        // Once it may be seen, what no lock holds goes.
        site.s3.clear_faults();
        let said = site.run(&["rotate"]).await;
        assert!(said.code == 0 && said.out.contains("2 expired"), "{said:?}");
    }
}

#[tokio::test]
async fn the_plan_in_the_documents_is_one_that_the_program_prints() {
    let site = Site::start().await;
    for camera in ["front-door", "porch"] {
        for number in 0..15 {
            let date = ago([40, 37, 35][number as usize % 3]);
            site.drop_file(&format!("{camera}/{}", name(date, number)), &vec![u8::try_from(number).unwrap(); 200_000]);
        }
    }
    assert_eq!(site.run(&["upload"]).await.code, 0);
    let said = site.run(&["rotate", "--dry-run"]).await;
    // The documents show other days.
    let date = regex::Regex::new("[0-9]{4}-[0-9]{2}-[0-9]{2}").unwrap();
    let document = include_str!("../../../packaging/doc/old-captures.md");
    let plan = document.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    // They show one of AWS. Elsewhere there is no money in it: neither the last two columns nor the lines on classes.
    let money = regex::Regex::new("(?m) +(\\$ now +\\$ a month|[0-9.]+ +[-+][0-9.]+)$|^in .*\\n").unwrap();
    let plan = money.replace_all(plan, "");
    assert_eq!(date.replace_all(&(said.out + &said.err), "DATE"), date.replace_all(&plan, "DATE"));
}

#[tokio::test]
async fn by_default_a_bundle_is_read_at_once_by_every_command_and_nothing_is_ever_deleted() {
    let site = stored("", &[1200]).await;
    for key in site.s3.keys() {
        site.s3.edit(&key, |object| object.last_modified -= std::time::Duration::from_hours(24 * 700));
    }
    let said = site.run(&["rotate"]).await;
    assert!(said.code == 0 && said.out.contains("2 captures of 2 days bundled"), "{said:?}");
    // It is not AWS, whose prices and hours are known.
    assert!(!said.err.contains('$') && !said.err.contains("hours"), "{said:?}");

    let (day, file) = (ago(1200).to_string(), name(ago(1200), 0));
    let bundle = format!("CAM-1/archive/{day}.tar");
    assert_eq!(site.s3.object(&bundle).unwrap().storage_class, "GLACIER_IR");
    let listed = site.lines(&["list", "CAM-1", &day]).await;
    assert_eq!(
        (listed[0]["storage_class"].as_str(), listed[0]["bundle"].as_str()),
        (Some("GLACIER_IR"), Some(&*bundle))
    );
    let to = site.path("got");
    let said = site.run(&["get", "CAM-1", &day, "--to", to.to_str().unwrap()]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(std::fs::read_to_string(to.join(&file)).unwrap(), "CAM-1 1200 x");
    let said = site.run(&["restore", "CAM-1", &day, "--yes"]).await;
    assert_eq!((said.code, site.s3.count("RestoreObject")), (0, 0), "{said:?}");
    let to = site.path("restored");
    let said = site.run(&["restore", "CAM-1", &day, "--to", to.to_str().unwrap()]).await;
    assert_eq!((said.code, site.s3.count("RestoreObject")), (0, 0), "{said:?}");
    assert_eq!(std::fs::read_to_string(to.join(&file)).unwrap(), "CAM-1 1200 x");
    let said = site.run(&["verify", "--deep"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let keys = site.s3.keys();
    let said = site.run(&["rotate"]).await;
    assert_eq!((said.code, site.s3.keys()), (0, keys), "{said:?}");
}

#[tokio::test]
async fn days_that_wait_for_another_run_are_said_and_those_with_local_copies_go_first() {
    let site = stored("rotate: {archive: {max_days_per_run: 2}}\n", &[50, 45, 40]).await;
    for camera in ["CAM-1", "CAM-2"] {
        std::fs::remove_dir_all(site.path(&format!("state/kept/{camera}/{}", ago(50)))).unwrap();
    }
    let said = site.run(&["rotate", "--dry-run"]).await;
    assert!(said.code == 0 && said.err.contains("4 camera-days of"), "a plan is whole: {said:?}");
    for (day, waiting) in [(45, 4), (40, 2), (50, 0)] {
        let said = site.run(&["rotate", "--json"]).await;
        assert_eq!(said.code, if waiting > 0 { 3 } else { 0 }, "{said:?}");
        let outcome: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(
            (outcome["bundled_days"].as_u64(), outcome["waiting"].as_u64()),
            (Some(2), Some(waiting)),
            "{said:?}"
        );
        let words = format!("{waiting} camera-days are due and wait for the next run");
        assert_eq!(said.err.contains(&words), waiting > 0, "{said:?}");
        let loose = site.s3.keys().iter().any(|key| key.contains(&ago(day).to_string()) && !key.contains("/archive/"));
        assert!(!loose, "{day}: {:?}", site.s3.keys());
    }
    // The daemon says it too.
    let site = stored("rotate: {archive: {max_days_per_run: 1}}\n", &[40]).await;
    let ended = hk_aws::rotate::job(std::sync::Arc::new(site.context().await), CancellationToken::new()).await;
    assert!(ended.outcome.contains("1 camera-days wait for the next run"), "{ended:?}");
}

#[tokio::test]
async fn more_cameras_than_days_in_a_month_are_caught_up_in_one_run() {
    let site = Site::start_with("", "rotate: {cameras: all}\n").await;
    for camera in 0..40 {
        site.s3.insert(&format!("CAM-{camera}/{}/{}", ago(40), name(ago(40), 1)), format!("of {camera}"));
    }
    let said = site.run(&["rotate"]).await;
    assert!(said.code == 0 && said.out.contains("40 captures of 40 days bundled"), "{said:?}");
}

#[tokio::test]
async fn where_the_clocks_differ_the_stores_own_decides_what_is_deleted() {
    const DAY: Duration = Duration::from_hours(24);
    // By a clock 400 days ahead all has expired, by one 40 days behind nothing has.
    let ahead: fn() -> Now = || Now { wall: hk_aws::daemon::now().wall + 400 * DAY, ..hk_aws::daemon::now() };
    let behind: fn() -> Now = || Now { wall: hk_aws::daemon::now().wall - 40 * DAY, ..hk_aws::daemon::now() };
    for (clock, what) in [(ahead, "ahead"), (behind, "behind")] {
        let site = stored("rotate: {archive: null, expire: {after: 365d}}\n", &[380, 1]).await;
        for key in site.s3.keys() {
            let days = if key.contains(&ago(380).to_string()) { 380 } else { 1 };
            site.s3.edit(&key, |object| object.last_modified -= days * DAY);
        }
        let context = Arc::new(hk_aws::site::Site { clock, ..site.context().await });
        let ended = hk_aws::rotate::job(Arc::clone(&context), CancellationToken::new()).await;
        for said in ["2 expired", "this box's clock says", "the store's decides what is due"] {
            assert!(ended.outcome.contains(said), "{what}: {ended:?}");
        }
        let keys = site.s3.keys();
        assert!(keys.len() == 4 && keys.iter().all(|key| key.contains(&ago(1).to_string())), "{what}: {keys:?}");
    }
    let site = stored("", &[40]).await;
    for key in site.s3.keys() {
        site.s3.edit(&key, |object| object.last_modified -= 40 * DAY);
    }
    site.s3.date_answers_ahead(-20 * 24 * 3600);
    let said = site.run(&["rotate", "--dry-run"]).await;
    assert!(said.code == 0 && said.err.contains("warning: this box's clock says"), "{said:?}");
    let not_yet = format!("nothing is old enough: the first day is {}, and its turn is on {}", ago(40), ago(10));
    assert!(said.err.contains(&not_yet), "{said:?}");
    let said = site.run(&["archive", "CAM-1", &ago(15).to_string()]).await;
    assert!(said.code == 1 && said.err.contains("is not over yet"), "{said:?}");
}
