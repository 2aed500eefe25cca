//! Camera-days become bundles: what is in them, what is asked of the store for them, and what is left when a run breaks off.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use hk_aws::archive::{Downloads, Made, Reads, archive_day};
use hk_aws::bucket::{Credentials, PROBE, Pace, Verdict};
use hk_aws::bundle::Index;
use hk_aws::config::ArchiveSettings;
use hk_aws::holdings::HoldingsError;
use hk_aws::site;
use hk_aws::{daemon, ledger};

use crate::model::bucket::{Lie, forge};
use crate::support::s3::{ACCESS_KEY, Conditions, Fault, MemoryS3, SECRET_KEY, State};
use crate::support::site::{DATE, Settings, Site, bytes, files, key, picture, sha256};

const CAMERA: &str = "CAM";

/// How a day is bundled into a class that must be restored before it can be read.
fn glacier() -> ArchiveSettings {
    ArchiveSettings { class: "GLACIER".to_owned(), ..ArchiveSettings::default() }
}

fn date() -> NaiveDate {
    DATE.parse().unwrap()
}

/// A box whose daemon stored pictures of one day and was stopped; the local copies are there.
async fn stored(settings: Settings, count: u32) -> Site {
    let mut site = Site::new(settings).await;
    for number in 0..count {
        site.write(format!("{CAMERA}/{}", picture(number)), &content(number));
    }
    site.start().await;
    site.wait_until_empty().await;
    site.stop().await;
    site
}

fn content(number: u32) -> Vec<u8> {
    bytes(u64::from(number), 1000 + number as usize)
}

async fn context(site: &Site) -> site::Site {
    let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test");
    site::Site::new(site.config().into(), Some(credentials), Pace::new(daemon::now), daemon::now).await
}

async fn bundle(site: &Site, archive: &ArchiveSettings) -> Result<Made, HoldingsError> {
    bundle_by(&context(site).await, archive).await
}

async fn bundle_by(context: &site::Site, archive: &ArchiveSettings) -> Result<Made, HoldingsError> {
    archive_day(context, archive, CAMERA, date(), &mut Reads::default()).await
}

/// The members of all bundles of the day, by key, as their bytes are by the index.
fn members(s3: &MemoryS3) -> BTreeMap<String, Vec<u8>> {
    let mut members = BTreeMap::new();
    for key in s3.keys().into_iter().filter(|key| key.ends_with(".index.json")) {
        let index: Index = serde_json::from_slice(&s3.object(&key).unwrap().bytes.unwrap()).unwrap();
        let bundle = s3.object(&index.bundle.key).unwrap().bytes.unwrap();
        for member in index.members {
            let (from, length) = (usize::try_from(member.offset).unwrap(), usize::try_from(member.length).unwrap());
            let bytes = bundle[from..from + length].to_vec();
            assert_eq!(sha256(&bytes), member.note.sha256);
            assert_eq!(members.insert(member.note.key, bytes), None);
        }
    }
    members
}

fn expected(count: u32) -> BTreeMap<String, Vec<u8>> {
    (0..count).map(|number| (key(CAMERA, number), content(number))).collect()
}

fn loose(s3: &MemoryS3) -> Vec<String> {
    s3.keys().into_iter().filter(|key| key.starts_with(&format!("{CAMERA}/{DATE}/"))).collect()
}

#[tokio::test]
async fn i4_a_day_becomes_one_bundle_in_its_class_from_local_copies_alone() {
    let site = stored(Settings::default(), 30).await;
    let before = site.s3.requests().len();
    let made = bundle(&site, &glacier()).await.unwrap();
    let key = format!("{CAMERA}/archive/{DATE}.tar");
    assert_eq!((made.members, made.deleted, &made.bundles, &made.left), (30, 30, &vec![key.clone()], &vec![]));
    assert_eq!(made.downloads, Downloads::default());
    let asked: Vec<&str> = site.s3.requests()[before..].iter().map(|request| request.operation).collect();
    assert_eq!(
        asked,
        [
            "ListObjectsV2",
            "ListObjectsV2",
            "PutObject",
            "PutObject",
            "HeadObject",
            "HeadObject",
            "ListObjectsV2",
            "DeleteObjects"
        ]
    );
    assert_eq!(site.s3.keys(), [format!("{CAMERA}/archive/{DATE}.index.json"), key.clone()]);
    assert_eq!(members(&site.s3), expected(30));
    let (bundle, index) = (site.s3.object(&key).unwrap(), site.s3.object(&site.s3.keys()[0]).unwrap());
    assert_eq!((&*bundle.storage_class, &*index.storage_class), ("GLACIER", "STANDARD"));
    assert_eq!((&*bundle.metadata["archive"], &*bundle.metadata["sha256"]), (DATE, &*bundle.sha256));
    let path = ledger::path(&site.path("state/ledger"), CAMERA, date());
    let removed: Vec<_> = ledger::removed(&path).unwrap().map(|line| (line.key, line.bundle.unwrap())).collect();
    assert_eq!(removed, expected(30).into_keys().map(|removed| (removed, key.clone())).collect::<Vec<_>>());
    assert_eq!(ledger::entries(&path).unwrap().count(), 30, "what was stored stays written");
    assert!(ledger::bundled_days(&site.path("state/ledger"), CAMERA).contains(&date()));

    let before = site.s3.requests().len();
    let again = archive_day(&context(&site).await, &glacier(), CAMERA, date(), &mut Reads::default()).await.unwrap();
    assert_eq!((again, site.s3.requests().len()), (Made::default(), before + 1));
}

#[tokio::test]
async fn a_day_larger_than_a_part_and_late_captures_make_more_parts_and_overwrite_none() {
    let mut site = stored(Settings::default(), 30).await;
    let archive = ArchiveSettings { part_size: 40_000, ..glacier() };
    let made = bundle(&site, &archive).await.unwrap();
    assert_eq!(made.bundles.len(), 3, "{made:?}");
    let first = site.s3.object(&format!("{CAMERA}/archive/{DATE}.tar")).unwrap().sha256;
    for number in 30..33 {
        site.write(format!("{CAMERA}/{}", picture(number)), &content(number));
    }
    site.start().await;
    site.wait_until_empty().await;
    site.stop().await;
    let made = bundle(&site, &archive).await.unwrap();
    assert_eq!(made.bundles, [format!("{CAMERA}/archive/{DATE}.part4.tar")]);
    assert_eq!((made.members, made.deleted), (3, 3));
    assert_eq!(site.s3.object(&format!("{CAMERA}/archive/{DATE}.tar")).unwrap().sha256, first);
    assert_eq!((members(&site.s3), loose(&site.s3)), (expected(33), vec![]));
}

#[tokio::test]
async fn a_copy_that_is_missing_or_differs_is_fetched_and_no_other() {
    let site = stored(Settings::default(), 5).await;
    std::fs::remove_file(site.path("state/kept").join(key(CAMERA, 1))).unwrap();
    std::fs::write(site.path("state/kept").join(key(CAMERA, 2)), content(1)).unwrap();
    std::fs::write(site.path("state/kept").join(key(CAMERA, 3)), bytes(99, content(3).len())).unwrap();
    let made = bundle(&site, &glacier()).await.unwrap();
    let bytes = [1, 2, 3].iter().map(|number| content(*number).len() as u64).sum();
    assert_eq!(made.downloads, Downloads { objects: 3, bytes });
    assert_eq!(site.s3.count("GetObject"), 3);
    assert_eq!((members(&site.s3), loose(&site.s3)), (expected(5), vec![]));
    let left: Vec<_> =
        files(&site.path("state")).into_iter().filter(|path| path.to_string_lossy().contains("spool")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn i4_an_object_that_changes_while_it_is_bundled_stays() {
    let site = stored(Settings::default(), 5).await;
    let context = context(&site).await;
    let held = Fault::hang("PutObject").on_key(|key| key.ends_with("24.tar"));
    site.s3.fault(held);
    let archive = glacier();
    let bundling = bundle_by(&context, &archive);
    let meddling = async {
        let under_way =
            |state: &crate::support::s3::State| state.requests().iter().any(|request| request.key.ends_with("24.tar"));
        site.s3.wait_for(under_way, crate::support::site::DEADLINE).await;
        site.s3.insert(&key(CAMERA, 2), bytes(77, content(2).len()));
        site.s3.clear_faults();
    };
    let (made, ()) = tokio::join!(bundling, meddling);
    assert_eq!(made.unwrap().deleted, 4);
    assert_eq!(loose(&site.s3), [key(CAMERA, 2)]);
    assert_eq!(site.s3.object(&key(CAMERA, 2)).unwrap().bytes.unwrap(), bytes(77, content(2).len()));
    // It is another capture now, and is bundled as such: from the bucket, because the local copy is not it.
    let made = bundle(&site, &glacier()).await.unwrap();
    assert_eq!((made.members, made.downloads.objects, loose(&site.s3)), (1, 1, vec![]));
}

#[tokio::test]
async fn i4_a_local_copy_that_changes_between_its_digest_and_its_second_reading_is_in_no_bundle() {
    for changed in [bytes(77, content(0).len()), b"shorter".to_vec()] {
        let site = stored(Settings::default(), 5).await;
        let context = context(&site).await;
        // Its ETag is no MD5, so the store is asked for it; four copies are looked at together, and it is the fifth.
        site.s3.edit(&key(CAMERA, 4), |object| object.etag = "0123456789abcdef0123456789abcdef".to_owned());
        site.s3.fault(Fault::hang("HeadObject").on_key(|asked| asked == key(CAMERA, 4)));
        let archive = ArchiveSettings::default();
        let bundling = bundle_by(&context, &archive);
        let meddling = async {
            let asked = |state: &crate::support::s3::State| {
                state
                    .requests()
                    .iter()
                    .any(|request| request.operation == "HeadObject" && request.key == key(CAMERA, 4))
            };
            site.s3.wait_for(asked, crate::support::site::DEADLINE).await;
            std::fs::write(site.path("state/kept").join(key(CAMERA, 0)), &changed).unwrap();
            site.s3.clear_faults();
        };
        let (made, ()) = tokio::join!(bundling, meddling);
        let made = made.unwrap();
        assert_eq!((made.members, made.deleted, loose(&site.s3)), (4, 4, vec![key(CAMERA, 0)]), "{made:?}");
        assert!(made.left.len() == 1 && made.left[0].contains(&key(CAMERA, 0)), "{made:?}");
        // The next run finds the copy of no use, and downloads the capture.
        let made = bundle(&site, &ArchiveSettings::default()).await.unwrap();
        assert_eq!((made.members, made.downloads.objects, loose(&site.s3)), (1, 1, vec![]), "{made:?}");
        assert_eq!(members(&site.s3), expected(5));
    }
}

#[tokio::test]
async fn i4_a_download_without_a_sha256_is_held_against_its_etag_where_that_is_an_md5() {
    let site = stored(Settings::default(), 0).await;
    // As older scripts stored them: without a checksum, in one request, with a KMS key, and in parts.
    for number in 0..4 {
        site.s3.insert(&key(CAMERA, number), content(number));
    }
    site.s3.edit(&key(CAMERA, 2), |object| object.sse = Some("aws:kms".to_owned().into()));
    site.s3.edit(&key(CAMERA, 2), |object| object.etag = "0123456789abcdef0123456789abcdef".to_owned());
    site.s3.edit(&key(CAMERA, 3), |object| object.etag = "0123456789abcdef0123456789abcdef-2".to_owned());
    // This one comes otherwise than it was stored.
    let altered = bytes(77, content(1).len());
    site.s3.edit(&key(CAMERA, 1), |object| object.bytes = Some(altered.clone().into()));
    let made = bundle(&site, &ArchiveSettings::default()).await.unwrap();
    assert_eq!((made.members, made.deleted, loose(&site.s3)), (3, 3, vec![key(CAMERA, 1)]), "{made:?}");
    assert!(made.left.len() == 1 && made.left[0].contains("not the ones that were stored"), "{made:?}");
    site.s3.edit(&key(CAMERA, 1), |object| object.bytes = Some(content(1).into()));
    let made = bundle(&site, &ArchiveSettings::default()).await.unwrap();
    assert_eq!((made.members, loose(&site.s3), members(&site.s3)), (1, vec![], expected(4)), "{made:?}");
}

#[tokio::test]
async fn i4_a_local_copy_that_changes_while_it_is_sent_fails_its_day_alone() {
    let site = stored(Settings::default(), 3).await;
    let context = context(&site).await;
    site.s3.fault(Fault::hang("PutObject").on_key(|key| key.ends_with("index.json")));
    let archive = ArchiveSettings::default();
    let bundling = bundle_by(&context, &archive);
    let meddling = async {
        let put = |state: &crate::support::s3::State| {
            state.requests().iter().any(|request| request.key.ends_with("index.json"))
        };
        site.s3.wait_for(put, crate::support::site::DEADLINE).await;
        std::fs::write(site.path("state/kept").join(key(CAMERA, 0)), bytes(77, content(0).len())).unwrap();
        site.s3.clear_faults();
    };
    let (made, ()) = tokio::join!(bundling, meddling);
    assert!(matches!(&made, Err(HoldingsError::Local(says)) if says.contains(&key(CAMERA, 0))), "{made:?}");
    assert_eq!(loose(&site.s3).len(), 3);
    let made = bundle(&site, &ArchiveSettings::default()).await.unwrap();
    assert_eq!((made.members, loose(&site.s3), members(&site.s3)), (3, vec![], expected(3)), "{made:?}");
}

#[tokio::test]
async fn i4_nothing_is_deleted_where_the_store_does_not_hold_what_was_put() {
    for (class, operation, fault) in [
        ("GLACIER", "PutObject", Fault::fail("PutObject", 500, "InternalError").on_key(|key| key.ends_with("24.tar"))),
        ("GLACIER", "HeadObject", Fault::fail("HeadObject", 404, "NotFound").on_key(|key| key.ends_with("24.tar"))),
        (
            "GLACIER",
            "HeadObject",
            Fault::fail("HeadObject", 403, "Forbidden").on_key(|key| key.ends_with("index.json")),
        ),
        ("GLACIER", "ListObjectsV2", Fault::fail("ListObjectsV2", 503, "SlowDown")),
        (
            "NO_SUCH",
            "PutObject",
            Fault::fail("PutObject", 400, "InvalidStorageClass").on_key(|key| key.ends_with("24.tar")),
        ),
    ] {
        let site = stored(Settings::default(), 3).await;
        site.s3.fault(fault);
        let archive = ArchiveSettings { class: class.to_owned(), ..glacier() };
        let failed = bundle(&site, &archive).await;
        assert!(failed.is_err(), "{operation}: {failed:?}");
        assert_eq!(loose(&site.s3).len(), 3, "{operation}: {failed:?}");
        assert_eq!(site.s3.count("DeleteObjects"), 0);
        site.s3.clear_faults();
        let made = bundle(&site, &glacier()).await.unwrap();
        assert_eq!(
            (made.deleted, loose(&site.s3), members(&site.s3)),
            (3, vec![], expected(3)),
            "{operation}: {made:?}"
        );
    }
}

#[tokio::test]
async fn i4_an_intention_is_carried_out_or_taken_back_and_the_index_of_a_bundle_that_was_taken_away_stays() {
    // Killed between index and bundle.
    let site = stored(Settings::default(), 3).await;
    let cut_off = || Fault::fail("PutObject", 500, "InternalError").on_key(|key| key.ends_with("24.tar"));
    site.s3.fault(cut_off());
    bundle(&site, &glacier()).await.unwrap_err();
    site.s3.clear_faults();
    let index = format!("{CAMERA}/archive/{DATE}.index.json");
    let before = site.s3.object(&index).unwrap().etag;
    assert_eq!(bundle(&site, &glacier()).await.unwrap().deleted, 3);
    assert_eq!(site.s3.object(&index).unwrap().etag, before, "as it was meant");

    // The same, and one of them is another now.
    let site = stored(Settings::default(), 3).await;
    site.s3.fault(cut_off());
    bundle(&site, &glacier()).await.unwrap_err();
    site.s3.clear_faults();
    site.s3.insert(&key(CAMERA, 1), bytes(9, 500));
    // Another box may be at it until the index is older than a day.
    for minutes in [0, 23 * 60 + 50] {
        let age = std::time::Duration::from_mins(minutes);
        site.s3.edit(&index, |object| object.last_modified -= age);
        let made = bundle(&site, &glacier()).await.unwrap();
        assert_eq!((made.members, made.deleted, made.left, loose(&site.s3).len()), (0, 0, vec![], 3));
        assert!(site.s3.object(&index).is_some());
    }
    site.s3.edit(&index, |object| object.last_modified -= std::time::Duration::from_mins(20));
    let made = bundle(&site, &glacier()).await.unwrap();
    assert_eq!((made.deleted, made.downloads.objects, loose(&site.s3)), (3, 1, vec![]));
    assert_eq!(members(&site.s3)[&key(CAMERA, 1)], bytes(9, 500));

    // Somebody took the bundle; then a late capture comes.
    let index = format!("{CAMERA}/archive/{DATE}.part2.index.json");
    let index_of_bundle = site.s3.object(&index).unwrap().etag;
    site.s3.remove(&format!("{CAMERA}/archive/{DATE}.part2.tar"));
    site.s3.insert(&key(CAMERA, 7), content(7));
    let made = bundle(&site, &glacier()).await.unwrap();
    assert!(made.left.iter().any(|left| left.contains("it is gone")), "{made:?}");
    assert_eq!((made.members, site.s3.object(&index).unwrap().etag), (1, index_of_bundle));
}

/// Listings and deletions have a thousand keys each.
#[tokio::test]
async fn i4_a_day_of_several_pages_is_deleted_while_it_is_listed_and_what_changed_meanwhile_stays() {
    let site = Site::new(Settings::default()).await;
    for number in 0..1100 {
        site.s3.insert(&key(CAMERA, number), number.to_string());
    }
    let changed = [key(CAMERA, 3), key(CAMERA, 1050)];
    let others = changed.clone();
    let change = move |state: &mut State| others.iter().for_each(|key| state.replace(key, b"another"));
    site.s3.fault(Fault::meanwhile("PutObject", change).on_key(|key| key.ends_with(".tar")));
    let made = bundle(&site, &glacier()).await.unwrap();
    assert_eq!((made.members, made.deleted, made.left, loose(&site.s3)), (1100, 1098, vec![], changed.to_vec()));
}

/// Two boxes began the day, and one of them was quicker.
#[tokio::test]
async fn i4_an_intention_whose_captures_are_all_in_another_bundle_is_taken_back() {
    let site = stored(Settings::default(), 3).await;
    bundle(&site, &glacier()).await.unwrap();
    let made = site.s3.object(&format!("{CAMERA}/archive/{DATE}.index.json")).unwrap();
    let mut index: Index = serde_json::from_slice(&made.bytes.unwrap()).unwrap();
    (index.part.part, index.bundle.key) = (2, format!("{CAMERA}/archive/{DATE}.part2.tar"));
    let intention = format!("{CAMERA}/archive/{DATE}.part2.index.json");
    site.s3.insert(&intention, index.to_json().unwrap());
    site.s3.edit(&intention, |object| object.last_modified -= std::time::Duration::from_hours(25));
    site.s3.insert(&key(CAMERA, 7), content(7));
    let made = bundle(&site, &glacier()).await.unwrap();
    assert_eq!((made.members, made.deleted, made.left), (1, 1, vec![]));
    assert_eq!(made.bundles, [format!("{CAMERA}/archive/{DATE}.part3.tar")]);
    assert!(site.s3.object(&intention).is_none());
    let all = expected(3).into_iter().chain([(key(CAMERA, 7), content(7))]).collect();
    assert_eq!(members(&site.s3), all);
}

#[tokio::test]
async fn i4_a_store_that_does_not_answer_for_a_bundle_gets_no_second_one() {
    let site = stored(Settings::default(), 3).await;
    site.s3.fault(Fault::fail("DeleteObjects", 503, "SlowDown"));
    bundle(&site, &glacier()).await.unwrap_err();
    site.s3.clear_faults();
    let keys = site.s3.keys();
    for fault in [
        Fault::fail("HeadObject", 503, "SlowDown").on_key(|key| key.ends_with(".tar")),
        Fault::fail("GetObject", 503, "SlowDown").on_key(|key| key.ends_with(".index.json")),
        Fault::reset("GetObject").on_key(|key| key.ends_with(".index.json")),
    ] {
        site.s3.fault(fault);
        let failed = bundle(&site, &glacier()).await;
        assert!(failed.as_ref().is_err_and(|error| error.verdict() == Some(Verdict::TryLater)), "{failed:?}");
        assert_eq!(site.s3.keys(), keys);
        site.s3.clear_faults();
    }
    // This answer is about the index alone: its day is left, and others go on.
    site.s3.fault(Fault::fail("GetObject", 500, "InternalError").on_key(|key| key.ends_with(".index.json")));
    let failed = bundle(&site, &glacier()).await;
    assert!(matches!(&failed, Err(HoldingsError::Object(says)) if says.contains("index.json")), "{failed:?}");
    assert_eq!(site.s3.keys(), keys);
    site.s3.clear_faults();
    let made = bundle(&site, &glacier()).await.unwrap();
    assert_eq!((made.deleted, made.members, loose(&site.s3), members(&site.s3)), (3, 0, vec![], expected(3)));
}

#[tokio::test]
async fn i7_a_rotation_under_way_delays_no_fresh_capture() {
    use hk_aws::schedule::{self, FILE, JobRecord, JobRecords, ROTATE, RunEnd};

    let mut site = Site::new(Settings::default()).await;
    let old: Vec<u8> = bytes(7, 500_000);
    for number in 0..2 {
        site.write(format!("{CAMERA}/{}", picture(number)), &old[number as usize..]);
    }
    site.start().await;
    site.wait_until_empty().await;
    site.stop().await;
    // A run was missed, so it begins at once; its bundle takes 8 s by the limit.
    site.set(Settings { rest: "upload: {bandwidth: 120KiB/s}", ..Settings::default() });
    let time = Some(chrono::Utc::now() - chrono::TimeDelta::days(3));
    let record =
        JobRecord { last_begun_at: time, last_ended_at: time, end: Some(RunEnd::Done), ..JobRecord::default() };
    schedule::write(&site.path("state").join(FILE), &JobRecords::from([(ROTATE.to_owned(), record)])).unwrap();
    site.start().await;
    let sending = |state: &crate::support::s3::State| {
        state.requests().iter().any(|request| request.key.ends_with("24.tar") && request.bytes > 0)
    };
    site.s3.wait_for(sending, crate::support::site::DEADLINE).await;
    let mut slowest = std::time::Duration::ZERO;
    for number in 100..103 {
        let begin = std::time::Instant::now();
        site.write(format!("{CAMERA}/{}", picture(number)), &bytes(u64::from(number), 24_000));
        let stored = |state: &crate::support::s3::State| state.object(&key(CAMERA, number)).is_some();
        site.s3.wait_for(stored, crate::support::site::DEADLINE).await;
        slowest = slowest.max(begin.elapsed());
    }
    let bundle = |state: &crate::support::s3::State| state.object(&format!("{CAMERA}/archive/{DATE}.tar")).is_some();
    eprintln!("the slowest of 3 captures beside a bundle took {slowest:?}");
    assert!(!site.s3.look(bundle), "the bundle was still on its way");
    // By the limit a picture takes 0.2 s, and what settles 0.3 s; a fair share with the bundle would be twice that.
    assert!(slowest < std::time::Duration::from_secs(2), "{slowest:?}");
    site.s3.wait_for(bundle, std::time::Duration::from_mins(1)).await;
    site.stop().await;
}

#[tokio::test]
async fn i4_a_capture_that_is_replaced_after_the_last_look_is_not_deleted() {
    let site = stored(Settings::default(), 3).await;
    let replaced = key(CAMERA, 1);
    let by_another = replaced.clone();
    site.s3.fault(Fault::meanwhile("DeleteObjects", move |state| state.replace(&by_another, b"another")).times(1));
    let made = bundle(&site, &glacier()).await.unwrap();
    assert_eq!((made.members, made.deleted, loose(&site.s3)), (3, 2, vec![replaced.clone()]), "{made:?}");
    assert_eq!(site.s3.object(&replaced).unwrap().sha256, sha256(b"another"));
    assert!(made.left[0].contains("it is not the object that was looked at any more"), "{made:?}");
}

#[tokio::test]
async fn i4_a_store_that_deletes_whatever_the_etag_is_or_refuses_it_is_rotated_all_the_same() {
    for conditions in [Conditions::Ignored, Conditions::Refused] {
        let s3 = MemoryS3::start("evidence").await;
        s3.take_conditions(conditions);
        let mut site = Site::with(s3, Settings::default());
        site.write(format!("{CAMERA}/{}", picture(0)), &content(0));
        site.start().await;
        site.wait_until_empty().await;
        site.stop().await;
        let made = bundle(&site, &glacier()).await.unwrap();
        assert_eq!((made.deleted, loose(&site.s3).len()), (1, 0), "{conditions:?} {made:?}");
        assert!(!site.s3.keys().iter().any(|key| key.ends_with(PROBE)));
    }
}

#[tokio::test]
async fn i4_a_bundle_that_is_changed_on_the_way_deletes_nothing() {
    let unchecked = Settings { s3: "checksum: when_required", ..Settings::default() };
    let site = stored(unchecked, 3).await;
    site.s3.fault(Fault::alter_body("PutObject").on_key(|key| key.ends_with(".tar")).times(1));
    let failed = bundle(&site, &glacier()).await.unwrap_err();
    assert!(failed.to_string().contains("changed on the way"), "{failed}");
    assert_eq!(loose(&site.s3).len(), 3);
    let made = bundle(&site, &glacier()).await.unwrap();
    assert_eq!((made.members, made.deleted), (3, 3), "in another bundle: {made:?}");
    assert!(made.left[0].contains("it was altered"), "{made:?}");
    let second = format!("{CAMERA}/archive/{DATE}.part2.tar");
    assert!(site.s3.object(&second).is_some(), "{:?}", site.s3.keys());
}

/// Found by the model of the bucket: whoever has the box's keys could make the rotation delete captures that no bundle holds.
#[tokio::test]
async fn i4_a_bundle_that_another_put_deletes_only_what_it_really_holds() {
    for lie in [Lie::AnotherBundle, Lie::FalseMembers, Lie::InventedCaptures] {
        let site = stored(Settings::default(), 2).await;
        forge(&site.s3, "CAM", DATE, lie).await;
        let made = bundle(&site, &ArchiveSettings::default()).await.unwrap();
        assert_eq!(made.left.len(), 1, "{lie:?}: {made:?}");
        // They are in a bundle that really holds them, and lie loose no more.
        assert_eq!((made.members, made.deleted), (2, 2), "{lie:?}: {made:?}");
        assert!(made.bundles[0].ends_with(".part2.tar"), "{lie:?}: {made:?}");
    }
}
