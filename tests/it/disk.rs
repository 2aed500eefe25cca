//! This box's own disks: local copies give way, and trouble here never sends a stored capture again.

use std::fs;
use std::time::Duration;

use hk_aws::status::{DaemonState, Snapshot};

use crate::support::clock::{Clock, Clocked};
use crate::support::s3::{Fault, MemoryS3};
use crate::support::site::{DEADLINE, Settings, Site, bytes, files, key, picture, sha256};

const NONE: Settings = Settings { drop: "", s3: "", rest: "" };

#[tokio::test]
async fn at_the_start_the_oldest_local_copies_give_way_and_status_counts_the_rest() {
    let mut site = Site::started(Settings { rest: "keep: {max_size: 1MiB}", ..NONE }).await;
    for number in 0..6 {
        site.write(format!("CAM/{}", picture(number)), &bytes(number.into(), 300_000));
        // One after the other, so that their age is their order.
        site.wait_until_empty().await;
    }
    site.wait_for_status("copies above what may be kept until the next run", |status| {
        status.kept_bytes == Some(1_800_000) && status.state == DaemonState::Ok
    })
    .await;
    site.stop().await;
    site.start().await;
    site.wait_for_status("copies that are counted", |status| status.kept_bytes == Some(900_000)).await;
    let mut kept = files(&site.path("state/kept"));
    kept.sort();
    assert_eq!(kept, [3, 4, 5].map(|number| site.path("state/kept").join(key("CAM", number))));
    assert_eq!(site.s3.keys().len(), 6);
}

/// Puts something in the way of what follows the confirmation, and takes it away again.
async fn is_stored_once_however_long_its_disposal_fails(obstacle: &str, reason: &str) {
    let mut site = Site::new(NONE).await;
    let obstacle = site.path(obstacle);
    fs::create_dir_all(obstacle.parent().unwrap()).unwrap();
    fs::write(&obstacle, b"in the way").unwrap();
    site.start().await;
    let path = site.write(format!("CAM/{}", picture(1)), b"evidence");
    let status = site
        .wait_for_status("the reason", |status| {
            status.trouble.is_some() && status.files.iter().any(|file| file.reason.is_some())
        })
        .await;
    assert!(status.files[0].reason.as_ref().unwrap().starts_with(reason), "{status:?}");
    assert_eq!((status.state, status.last_errors.len()), (DaemonState::Degraded, 1));
    let waiting = &status.waiting;
    assert_eq!((status.stored.captures, waiting.backing_off, waiting.bytes), (1, 0, 0), "it counts as stored alone");
    assert!(status.oldest_only_here.is_none(), "{status:?}");
    // The second one's turn is after the first one's second.
    site.write(format!("CAM/{}", picture(2)), b"more evidence");
    site.wait_for_keys(&[&key("CAM", 1), &key("CAM", 2)]).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(path.exists());
    fs::remove_file(&obstacle).unwrap();
    site.wait_until_empty().await;
    let status = site.wait_for_status("the end of it", |status| status.state == DaemonState::Ok).await;
    assert_eq!((status.last_errors.len(), status.stored.captures), (1, 2), "said and counted once");
    let asked: Vec<&str> = site.s3.requests().iter().map(|request| request.operation).collect();
    assert_eq!(asked, ["PutObject", "PutObject"]);
    assert_eq!(site.ledger("CAM").len(), 2);
    assert_eq!(site.kept(&key("CAM", 1)), b"evidence");
}

#[tokio::test]
async fn a_capture_whose_ledger_cannot_be_written_is_not_sent_again() {
    is_stored_once_however_long_its_disposal_fails("state/ledger", "stored; failed to write ledger").await;
}

#[tokio::test]
async fn a_capture_whose_local_copy_finds_no_place_is_not_sent_again() {
    is_stored_once_however_long_its_disposal_fails("state/kept/CAM", "stored; failed to dispose of local file").await;
}

#[tokio::test]
async fn i1_a_stored_file_that_changes_while_it_waits_to_be_disposed_of_goes_up_as_it_is_then() {
    let mut site = Site::new(NONE).await;
    fs::create_dir(site.path("state")).unwrap();
    fs::write(site.path("state/ledger"), b"in the way").unwrap();
    site.start().await;
    site.write(format!("CAM/{}", picture(1)), b"before");
    site.wait_for_status("the reason", |status| status.trouble.is_some()).await;
    site.write(format!("CAM/{}", picture(1)), b"after!");
    let beside = key("CAM", 1).replace(".jpg", &format!("~{}.jpg", &sha256(b"after!")[..8]));
    site.wait_for_keys(&[&key("CAM", 1), &beside]).await;
    fs::remove_file(site.path("state/ledger")).unwrap();
    site.wait_until_empty().await;
    assert_eq!(site.kept(&beside), b"after!");
}

#[tokio::test]
async fn a_part_that_waits_for_its_camera_is_disposed_of_after_a_restart_too() {
    let mut site = Site::started(NONE).await;
    let part = b"\xFF\xD8\xFF\xDA\x00\x02half";
    site.write(format!("CAM/{}", picture(1)), part);
    let beside = key("CAM", 1).replace(".jpg", &format!("~partial-{}.jpg", &sha256(part)[..8]));
    site.wait_for_keys(&[&beside]).await;
    site.wait_for_status("the part that waits", |status| status.waiting.backing_off == 1).await;
    site.stop().await;
    site.set(Settings { drop: "partial_after: 1s", ..NONE });
    site.start().await;
    site.wait_until_empty().await;
    assert_eq!(site.kept(&beside), part);
    assert_eq!(site.ledger("CAM").len(), 1);
}

#[tokio::test]
async fn an_empty_copy_that_a_power_cut_left_spoils_nothing() {
    let mut site = Site::new(NONE).await;
    let torn = site.path("state/kept").join(key("CAM", 1));
    fs::create_dir_all(torn.parent().unwrap()).unwrap();
    fs::write(&torn, b"").unwrap();
    site.start().await;
    // The camera sends again what it did not see stored.
    site.write(format!("CAM/{}", picture(1)), b"evidence");
    site.wait_until_empty().await;
    let beside = key("CAM", 1).replace(".jpg", &format!("~{}.jpg", &sha256(b"evidence")[..8]));
    assert_eq!(site.kept(&beside), b"evidence");
    assert_eq!(site.s3.keys(), [key("CAM", 1)]);
}

#[tokio::test]
async fn i1_a_link_that_goes_down_between_storing_and_disposing_changes_nothing() {
    let mut site = Site::new(NONE).await;
    fs::create_dir(site.path("state")).unwrap();
    fs::write(site.path("state/ledger"), b"in the way").unwrap();
    site.start().await;
    site.write(format!("CAM/{}", picture(1)), b"evidence");
    site.wait_for_status("the reason", |status| status.trouble.is_some()).await;
    site.s3.fault(Fault::fail("*", 503, "SlowDown"));
    site.write(format!("CAM/{}", picture(2)), b"more evidence");
    let both = |reason: &str| reason.contains("cannot be deleted here") && reason.contains("SlowDown");
    site.wait_for_status("both troubles", |status| {
        status.trouble.as_ref().is_some_and(|trouble| both(&trouble.reason))
    })
    .await;
    fs::remove_file(site.path("state/ledger")).unwrap();
    site.wait("the first file gone", || (files(&site.drop_path("")).len() == 1).then_some(())).await;
    site.wait_for_status("the link alone", |status| {
        status.trouble.as_ref().is_some_and(|trouble| !trouble.reason.contains("cannot be deleted here"))
    })
    .await;
    site.s3.clear_faults();
    site.wait_until_empty().await;
}

#[tokio::test]
async fn i6_more_stored_files_than_the_queue_holds_keep_no_other_from_the_bucket_and_are_not_sent_again() {
    const CAPACITY: usize = 200;
    const COUNT: usize = CAPACITY + 150;
    let s3 = MemoryS3::start_without_bytes("evidence").await;
    let rest = "keep: {days: 0}\nupload: {concurrency: 32}";
    let site = Site::with(s3, Settings { drop: "rescan: 200ms", rest, ..NONE });
    fs::create_dir(site.path("state")).unwrap();
    fs::write(site.path("state/ledger"), b"in the way").unwrap();
    for number in 0..u32::try_from(COUNT).unwrap() {
        site.write(format!("CAM/{}", picture(number)), &number.to_be_bytes());
    }
    let mut daemon = Clocked::start_with_capacity(site.config(), &Clock::default(), CAPACITY).await;
    site.s3.wait_for(|state| state.objects().len() == COUNT, DEADLINE).await;
    let gave_way = |status: &Snapshot| status.stored.captures == COUNT as u64 && status.waiting.on_disk > 0;
    let status = daemon.wait_for("files that gave up their place", gave_way).await;
    assert_eq!(status.state, DaemonState::Degraded);
    // Several scans pass, and several attempts to dispose of what is stored.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(site.s3.count("PutObject"), COUNT);
    fs::remove_file(site.path("state/ledger")).unwrap();
    site.wait_until_empty().await;
    // As after a restart, what had given up its place is compared with the bucket once.
    assert_eq!(site.s3.count("PutObject") - COUNT, site.s3.count("HeadObject"));
    assert!(site.s3.count("HeadObject") <= 250, "{}", site.s3.count("HeadObject"));
    daemon.wait_for("the end of it", |status| status.state == DaemonState::Ok && status.waiting.on_disk == 0).await;
}
