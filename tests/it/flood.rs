//! More than the daemon can hold: files, and folders. It runs as a process of its own, so that its memory can be read.
//!
//! `HK_AWS_FLOOD_FILES` sets how many files wait: beyond 65,536, a scan to refill the queue does not look at them all. The
//! full size, a million files, is a figure: `cargo bench --bench figures -- flood`.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{TimeDelta, Utc};
use hk_aws::queue::CAPACITY;
use hk_aws::status::Snapshot;
use hk_aws::watch::MAX_WATCHES;

use crate::process::Place;
use crate::process::daemon::{SOON, wait_for};
use crate::support::s3::MemoryS3;

/// What the daemon may have in memory, whatever waits (in KiB).
const MOST_KIB: u64 = 64 * 1024;

/// Files that wait where nobody asks for more.
const WAITING: usize = 3 * CAPACITY;

/// How many of them are stored until memory is looked at: the queue was refilled by then.
const STORED: usize = CAPACITY / 4 * 3 + 200;

#[tokio::test(flavor = "multi_thread")]
async fn i6_a_flood_that_waits_is_drained_in_bounded_memory_and_i7_what_is_fresh_goes_first() {
    let store = MemoryS3::start_without_bytes("captures").await;
    let place = Place::new();
    place.configure(&store.endpoint(), "  settle: 100ms\n");
    let waiting = std::env::var("HK_AWS_FLOOD_FILES").map_or(WAITING, |files| files.parse().unwrap());
    let first = Utc::now() - TimeDelta::days(3);
    for number in 0..waiting {
        let taken = first + TimeDelta::milliseconds(3000 * i64::try_from(number).unwrap());
        let folder = place.path().join(format!("drop/CAM-EXT-00{}/{}", number % 9, taken.format("%F")));
        let name = format!("192.168.1.64_01_{}_TIMING.jpg", taken.format("%Y%m%d%H%M%S%3f"));
        if fs::write(folder.join(&name), name.as_bytes()).is_err() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(&name), name.as_bytes()).unwrap();
        }
    }
    let daemon = place.start();
    let mut behind = Vec::new();
    for step in 1..=6 {
        store.wait_for(|state| state.objects().len() >= STORED * step / 6, 6 * SOON).await;
        let fresh = place.lay_down(i64::try_from(step).unwrap(), "MOTION_DETECTION");
        let before = store.look(|state| state.requests().len());
        store.wait_for(|state| state.object(&fresh).is_some(), SOON).await;
        // By the requests, because it may take a while until this is told on a busy machine.
        let at = store.look(|state| state.requests().iter().position(|request| request.key == fresh));
        behind.push(at.unwrap().saturating_sub(before));
    }
    assert!(behind.iter().all(|overtook| *overtook < CAPACITY / 4), "fresh captures waited for {behind:?} others");
    let peak = peak_kib(&place);
    assert!(peak < MOST_KIB, "{peak} KiB");
    let stored = store.look(|state| (state.objects().len(), state.requests().len()));
    assert!(stored.1 < stored.0 + 64, "{} requests for {} objects", stored.1, stored.0);
    // Nothing is both gone from here and not there.
    drop(daemon);
    let left = files_below(&place.path().join("drop"));
    assert!(left + store.look(|state| state.objects().len()) >= waiting + 6);
}

/// Dahua's cameras make a folder a minute.
#[tokio::test(flavor = "multi_thread")]
async fn i6_more_folders_than_can_be_watched_take_no_more_watches_and_the_newest_is_among_them() {
    let store = MemoryS3::start_without_bytes("captures").await;
    let place = Place::new();
    // Nothing but its event can tell of a capture.
    place.configure(&store.endpoint(), "  rescan: 24h\n");
    let minutes = |range: std::ops::Range<usize>| {
        for number in range {
            let (day, minute) = (1 + number / 1440, number % 1440);
            let minute = format!("2026-01-{day:02}/001/jpg/{:02}/{:02}", minute / 60, minute % 60);
            fs::create_dir_all(place.path().join("drop/CAM-EXT-001").join(minute)).unwrap();
        }
    };
    minutes(0..MAX_WATCHES + 500);
    let _daemon = place.start();
    let watches = || {
        let all = watches_of(&place);
        assert!(all <= MAX_WATCHES, "{all} watches");
        all
    };
    let first = watches();
    assert!(first > MAX_WATCHES / 2, "the kernel grants {first} watches");
    let began = Utc::now();
    for number in 1..=3 {
        let taken = began - TimeDelta::minutes(number);
        let folder = place.path().join(format!("drop/CAM-EXT-002/{}", taken.format("%Y-%m-%d/001/jpg/%H/%M")));
        fs::create_dir_all(&folder).unwrap();
        // In its new folder the first is found by a look; the second by an event of that folder.
        for second in ["01", "02"] {
            fs::write(
                folder.join(format!("{second}[M][0@0][0].jpg")),
                [b"\xFF\xD8", second.as_bytes(), b"\xFF\xD9"].concat(),
            )
            .unwrap();
            let left = || (files_below(&folder) == 0).then_some(());
            wait_for("a capture in a new folder to be stored", SOON, left);
        }
        assert_eq!(watches(), first);
    }
    assert_eq!(store.look(|state| state.objects().len()), 6);
}

/// The files that the kernel keeps about the daemon of a place.
fn process(place: &Place) -> PathBuf {
    let status = Snapshot::read(&place.path().join("run")).unwrap();
    Path::new("/proc").join(status.pid.to_string())
}

/// The most that was resident of its memory so far, in KiB.
fn peak_kib(place: &Place) -> u64 {
    let status = fs::read_to_string(process(place).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// How many inotify watches it holds.
fn watches_of(place: &Place) -> usize {
    let infos = fs::read_dir(process(place).join("fdinfo")).unwrap();
    // A descriptor may be closed while we look.
    let texts = infos.filter_map(|info| fs::read_to_string(info.unwrap().path()).ok());
    texts.map(|text| text.lines().filter(|line| line.starts_with("inotify ")).count()).sum()
}

/// How many files there are, those that are just taken away too.
fn files_below(folder: &Path) -> usize {
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                count += 1;
            }
        }
    }
    count
}
