//! A camera whose clock is steadily hours off is said once, over restarts too; cameras whose pictures do not agree are not.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use hk_aws::status::{CameraStatus, Snapshot};
use rustix::process::Signal;

use crate::process::daemon::{Daemon, SOON, wait_for};
use crate::process::{BUCKET, Place};
use crate::support::s3::MemoryS3;

/// How many seconds a picture arrives after the time that its name tells, by its number.
type Late = fn(i64) -> i64;

/// Six pictures of each of these cameras arrive on each of these days of February 2026.
fn arrive(place: &Path, days: [u32; 2], cameras: &[(&str, Late)]) {
    for (camera, late) in cameras {
        fs::create_dir_all(place.join("drop").join(camera)).unwrap();
        for (day, number) in days.into_iter().flat_map(|day| (0..6).map(move |number| (day, number))) {
            let arrival: DateTime<Utc> = format!("2026-02-{day:02}T12:{number:02}:30Z").parse().unwrap();
            let taken = arrival - TimeDelta::seconds(late(number));
            let name = taken.format("front_%Y%m%d_%H%M%S.jpg").to_string();
            let outside = place.join(&name);
            fs::write(&outside, [b"\xFF\xD8", name.as_bytes(), camera.as_bytes(), b"\xFF\xD9"].concat()).unwrap();
            File::open(&outside).unwrap().set_modified(arrival.into()).unwrap();
            fs::rename(outside, place.join("drop").join(camera).join(name)).unwrap();
        }
    }
}

/// Waits until this daemon has stored so many captures, and returns what it says of each camera.
fn stored(place: &Path, daemon: &Daemon, captures: u64) -> BTreeMap<String, CameraStatus> {
    let done = |status: &Snapshot| status.pid == daemon.id() && status.stored.captures == captures;
    wait_for("the captures", SOON, || Snapshot::read(&place.join("run")).ok().filter(done)).cameras
}

/// The lines of the log that say that a clock is steadily off.
fn said(place: &Path) -> Vec<String> {
    let log = fs::read_to_string(place.join("log")).unwrap();
    log.lines().filter(|line| line.contains("steadily")).map(str::to_owned).collect()
}

const BEHIND: fn(i64) -> i64 = |number| 3 * 3600 + 2 + number * 9;

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_steadily_off_is_said_once_and_again_only_if_it_was_right_in_between() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    place.configure(&store.endpoint(), "");
    let path = place.path();
    let mut daemon = place.start();
    arrive(
        path,
        [10, 11],
        &[("behind", BEHIND), ("right", |number| 2 + number * 9), ("loose", |number| 3 * 3600 + number * 70)],
    );
    let cameras = stored(path, &daemon, 36);
    let fits = |camera: &CameraStatus| camera.clock_offset.as_ref().and_then(|offset| offset.timezone.clone());
    assert_eq!(fits(&cameras["behind"]).as_deref(), Some("Etc/GMT+3"));
    assert_eq!((fits(&cameras["right"]), fits(&cameras["loose"])), (None, None));
    let lines = said(path);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    for word in ["WARN", "camera behind is steadily 3 h behind", "timezone: Etc/GMT+3"] {
        assert!(lines[0].contains(word), "{word}: {lines:#?}");
    }

    daemon.signal(Signal::TERM);
    assert!(daemon.wait_for_end(SOON).success());
    let daemon = place.start();
    arrive(path, [12, 13], &[("behind", BEHIND)]);
    let cameras = stored(path, &daemon, 12);
    assert_eq!(fits(&cameras["behind"]).as_deref(), Some("Etc/GMT+3"), "the status says it as long as it is so");
    assert_eq!(said(path).len(), 1, "the log said it before");

    arrive(path, [14, 15], &[("behind", |number| 2 + number * 9)]);
    assert_eq!(fits(&stored(path, &daemon, 24)["behind"]), None);
    arrive(path, [16, 17], &[("behind", BEHIND)]);
    stored(path, &daemon, 36);
    assert_eq!(said(path).len(), 2, "somebody had set the clock");
}
