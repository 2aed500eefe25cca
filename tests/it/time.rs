//! Clocks that are wrong, and clocks that are set: the box's own, S3's, and the hour that comes twice.
//!
//! What waits, waits by the steady clock; the wall clock is asked only for the age of what was there before.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hk_aws::drop_folder::{DropFolder, Sight};
use hk_aws::status::{DaemonState, Snapshot};

use crate::support::clock::{Clock, Clocked};
use crate::support::s3::Fault;
use crate::support::site::{DATE, DEADLINE, Settings, Site, files, key, picture, sha256};

const NONE: Settings = Settings { drop: "", s3: "", rest: "" };

const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;

/// The beginning of a picture.
const PART: &[u8] = b"\xFF\xD8\xFF\xDA\x00\x02half";

/// What the file that came at a time in seconds since 1970 looks like on the box.
fn arrives(site: &Site, below: &str, bytes: &[u8], seconds: u64) -> PathBuf {
    let outside = site.path("outside");
    fs::write(&outside, bytes).unwrap();
    fs::File::open(&outside).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    let path = site.drop_path(below);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::rename(outside, &path).unwrap();
    path
}

fn partial_key(number: u32) -> String {
    key("CAM", number).replace(".jpg", &format!("~partial-{}.jpg", &sha256(PART)[..8]))
}

fn waits_for_the_rest(status: &Snapshot) -> bool {
    status.files.iter().any(|file| file.reason.as_ref().is_some_and(|why| why.contains("waits for the camera")))
}

#[tokio::test]
async fn what_came_before_the_boxs_clock_was_set_is_filed_by_what_the_camera_says() {
    let site = Site::started(Settings { rest: "max_clock_skew: 400d", ..NONE }).await;
    // A reply that is lost: the second attempt must come to the same key.
    site.s3.fault(Fault::lose_reply("PutObject").times(1));
    arrives(&site, &format!("CAM/{}", picture(1)), b"in 1970", 25);
    arrives(&site, &format!("CAM/{}", picture(2)), b"in 2056", 2_730_000_000);
    arrives(&site, "CAM/2026-02-24/motion.jpg", b"a day's folder", 30);
    arrives(&site, "CAM/motion.jpg", b"nothing tells", 35);
    site.wait_until_empty().await;
    let keys = site.s3.keys();
    let [undated, first, second, dated] = &keys[..] else { panic!("{keys:?}") };
    assert_eq!((first, second), (&key("CAM", 1), &key("CAM", 2)));
    assert!(dated.starts_with(&format!("CAM/{DATE}/20260224Txxxxxx_2026-02-24_motion")), "{dated}");
    assert_eq!(undated, "CAM/1970-01-01/19700101T000035_motion.jpg");
    let status = site.wait_for_status("four stored", |status| status.stored.captures == 4).await;
    assert_eq!(status.cameras["CAM"].wrong_clock, None, "it is not the camera's clock that was wrong");
}

#[tokio::test]
async fn a_box_that_boots_in_1970_sends_everything_once_its_clock_is_set() {
    let site = Site::new(Settings { drop: "partial_after: 1s", ..NONE }).await;
    let clock = Clock::default();
    clock.set(UNIX_EPOCH + Duration::from_secs(20));
    // Seen from S3, the box is as far behind.
    site.s3.set_clock_ahead(56 * YEAR);
    let mut daemon = Clocked::start(site.config(), &clock).await;
    let paths = [picture(1), picture(2), "motion.jpg".to_owned()].map(|name| format!("CAM/{name}"));
    for (path, seconds) in paths.iter().zip(30..) {
        arrives(&site, path, path.as_bytes(), seconds);
    }
    arrives(&site, &format!("CAM/{}", picture(3)), PART, 40);
    let status = daemon.wait_for("the trouble", |status| status.trouble.is_some()).await;
    let trouble = status.trouble.unwrap();
    assert!(
        trouble.reason.contains("RequestTimeTooSkewed") && trouble.advice.contains("clock of this box"),
        "{trouble:?}"
    );
    assert_eq!((status.state, files(&site.drop_path("")).len()), (DaemonState::Degraded, 4));
    site.s3.set_clock_ahead(0);
    clock.set(SystemTime::now());
    site.wait_until_empty().await;
    site.wait_for_keys(&[&key("CAM", 1), &key("CAM", 2), &partial_key(3), "CAM/1970-01-01/19700101T000032_motion.jpg"])
        .await;
    daemon
        .wait_for("the end of the trouble", |status| status.trouble.is_none() && status.state == DaemonState::Ok)
        .await;
    let requests = site.s3.requests().len();
    assert!(requests < 20, "{requests} requests for four captures: a storm");
}

#[tokio::test]
async fn a_clock_that_s3_refuses_is_said_and_all_goes_once_it_is_set() {
    for ahead in [-6 * HOUR, 6 * HOUR] {
        let site = Site::started(NONE).await;
        site.s3.set_clock_ahead(ahead);
        for number in 0..20 {
            site.write(format!("CAM/{}", picture(number)), &number.to_be_bytes());
        }
        let status = site.wait_for_status("the trouble", |status| status.trouble.is_some()).await;
        assert!(status.trouble.unwrap().advice.contains("clock of this box"));
        assert!(status.last_errors.len() == 1 && site.s3.keys().is_empty());
        site.s3.set_clock_ahead(0);
        site.wait_until_empty().await;
        assert_eq!(site.s3.keys().len(), 20);
    }
}

#[tokio::test]
async fn steps_of_the_wall_clock_make_neither_a_storm_nor_a_stall() {
    let site = Site::new(Settings { drop: "rescan: 1s", ..NONE }).await;
    let clock = Clock::default();
    let mut daemon = Clocked::start(site.config(), &clock).await;
    site.s3.fault(Fault::fail("PutObject", 503, "SlowDown"));
    for number in 0..20 {
        site.write(format!("CAM/{}", picture(number)), &number.to_be_bytes());
    }
    // By turns ahead and back, to before 1970 and beyond 2100.
    let steps = [6 * HOUR, -12 * HOUR, 100 * YEAR, -160 * YEAR, 30 * YEAR, 48 * HOUR, -YEAR];
    let began = Instant::now();
    for step in steps.iter().cycle() {
        clock.step(*step);
        tokio::time::sleep(Duration::from_millis(50)).await;
        if site.s3.count("PutObject") >= 11 {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "no probe any more");
    }
    let asked = site.s3.requests();
    for pair in asked[8..].windows(2) {
        assert!(pair[1].received - pair[0].received > Duration::from_millis(400), "a storm");
    }
    clock.set(UNIX_EPOCH);
    site.s3.clear_faults();
    site.wait_until_empty().await;
    assert_eq!(site.s3.keys().len(), 20);
    daemon.wait_for("the end of the trouble", |status| status.state == DaemonState::Ok).await;
}

#[tokio::test]
async fn a_wall_clock_that_goes_back_delays_no_rescan() {
    let site = Site::new(Settings { drop: "rescan: 1s", ..NONE }).await;
    let ignored = site.write("CAM/x.tmp", b"");
    let clock = Clock::default();
    let mut daemon = Clocked::start(site.config(), &clock).await;
    daemon.wait_for("the ignored file", |status| status.waiting.ignored == 1).await;
    clock.step(-6 * HOUR);
    // Nobody tells of a file that goes: only a full look finds that out.
    fs::remove_file(ignored).unwrap();
    daemon.wait_for("a rescan", |status| status.waiting.ignored == 0).await;
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_disposes_of_nothing_that_waits_for_its_camera() {
    let site = Site::new(Settings { drop: "partial_after: 10m", rest: "upload: {concurrency: 1}", ..NONE }).await;
    let clock = Clock::default();
    let mut daemon = Clocked::start(site.config(), &clock).await;
    site.s3.fault(Fault::hang("PutObject").times(1));
    let part = site.write(format!("CAM/{}", picture(1)), PART);
    site.s3.wait_for(|state| state.count("PutObject") == 1, DEADLINE).await;
    let empty = site.write(format!("CAM/{}", picture(2)), b"");
    daemon.wait_for("the empty file", |status| status.files.len() == 2).await;
    clock.step(6 * HOUR);
    site.s3.clear_faults();
    site.wait_for_keys(&[&partial_key(1)]).await;
    let both = |status: &Snapshot| waits_for_the_rest(status) && status.waiting.backing_off == 2;
    let status = daemon.wait_for("both files that wait", both).await;
    assert_eq!(status.waiting.set_aside, 0);
    assert!(part.exists() && empty.exists());
    fs::write(&part, [PART, b"\xFF\xD9"].concat()).unwrap();
    fs::write(&empty, b"bytes after all").unwrap();
    site.wait_until_empty().await;
    site.wait_for_keys(&[&key("CAM", 1), &partial_key(1), &key("CAM", 2)]).await;
}

#[tokio::test]
async fn a_clock_that_went_back_makes_nothing_wait_for_ever() {
    let site = Site::new(Settings { drop: "partial_after: 1s, settle: 100ms", ..NONE }).await;
    let clock = Clock::default();
    clock.step(-30 * YEAR);
    site.write(format!("CAM/{}", picture(0)), b"whole, and from the future");
    site.write(format!("CAM/{}", picture(1)), PART);
    site.write(format!("CAM/{}", picture(2)), b"");
    let mut daemon = Clocked::start(site.config(), &clock).await;
    site.wait_until_empty().await;
    site.wait_for_keys(&[&key("CAM", 0), &partial_key(1)]).await;
    let status = daemon.wait_for("the empty one set aside", |status| status.waiting.set_aside == 1).await;
    assert_eq!(status.not_uploaded[0].reason.as_deref(), Some("empty"));
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_takes_no_folder_from_under_a_camera() {
    let site = Site::new(NONE).await;
    let ignored = site.write("CAM/x.tmp", b"");
    let clock = Clock::default();
    let mut daemon = Clocked::start(site.config(), &clock).await;
    daemon.wait_for("the ignored file", |status| status.waiting.ignored == 1).await;
    let fresh = site.drop_path("CAM/2026-02-24/12");
    fs::create_dir_all(&fresh).unwrap();
    clock.step(30 * YEAR);
    fs::remove_file(ignored).unwrap();
    daemon.look().await;
    daemon.wait_for("a full look", |status| status.waiting.ignored == 0).await;
    assert!(fresh.exists(), "it was made a moment ago");
}

#[test]
fn what_is_left_aside_is_found_whatever_the_clock_says_but_not_while_it_is_in_work() {
    let place = tempfile::tempdir().unwrap();
    let text = format!("drop_folder: {{path: '{}'}}\ns3: {{bucket: evidence}}\n", place.path().display());
    let config = hk_aws::config::Config::parse(Path::new("t.yaml"), &text, &|_| None).unwrap();
    let folder = DropFolder::new(&config.drop_folder);
    fs::write(place.path().join(".hk-aws-1f-a.jpg"), b"evidence").unwrap();
    let changed = SystemTime::now();
    let found = |now: SystemTime| {
        let mut found = 0;
        folder
            .scan(Path::new(""), now, &mut |sight| {
                found += u32::from(matches!(sight, Sight::File(_)));
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        found
    };
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let in_work = fs::File::open(place.path().join(".hk-aws-1f-a.jpg")).unwrap();
    for (locked, expected) in [(true, 0), (false, 1)] {
        if locked {
            in_work.lock_shared().unwrap();
        } else {
            in_work.unlock().unwrap();
        }
        for clock in [changed, changed + hours(1), changed - hours(1), UNIX_EPOCH] {
            assert_eq!(found(clock), expected, "locked: {locked}, {clock:?}");
        }
    }
}

#[tokio::test]
async fn the_hour_that_comes_twice_and_the_one_that_does_not_come_are_filed_as_they_were() {
    let site =
        Site::started(Settings { rest: "cameras: [{name: CAM, match: 'CAM/**', timezone: Europe/Kyiv}]", ..NONE })
            .await;
    let name = |stamp: &str| format!("192.168.1.64_01_{stamp}_MOTION_DETECTION.jpg");
    // At 01:00 UTC on 2025-10-26 the clocks of Kyiv went from 04:00 to 03:00, and on 2025-03-30 from 03:00 to 04:00.
    let autumn = name("20251026033000000");
    let mut taken = Vec::new();
    for (bytes, seconds) in [(b"summer", 1_761_438_605), (b"winter", 1_761_442_205)] {
        arrives(&site, &format!("CAM/{autumn}"), bytes, seconds);
        site.wait_until_empty().await;
    }
    let skipped = name("20250330033000000");
    arrives(&site, &format!("CAM/{skipped}"), b"spring", 1_743_298_205);
    site.wait_until_empty().await;
    let beside = autumn.replace(".jpg", &format!("~{}.jpg", &sha256(b"winter")[..8]));
    for name in [format!("2025-10-26/{autumn}"), format!("2025-10-26/{beside}"), format!("2025-03-30/{skipped}")] {
        taken.push(site.s3.object(&format!("CAM/{name}")).unwrap().metadata["taken-at"].clone());
    }
    assert_eq!(taken, ["2025-10-26T03:30:00+03:00", "2025-10-26T03:30:00+02:00", "2025-03-30T03:30:00+02:00"]);
}

#[tokio::test]
async fn files_from_before_1970_and_from_the_end_of_days_are_stored() {
    let mut site = Site::new(NONE).await;
    let times = [
        UNIX_EPOCH - Duration::from_secs(1 << 40),
        UNIX_EPOCH - Duration::from_secs(1),
        UNIX_EPOCH + Duration::from_secs(1 << 40),
    ];
    for (number, time) in (0..).zip(times) {
        let path = site.write(format!("CAM/{}", picture(number)), &number.to_be_bytes());
        // A file system keeps what it can of such a time.
        fs::File::open(&path).unwrap().set_modified(time).unwrap();
        fs::File::open(site.write(format!("CAM/{number}.jpg"), &[7, number.to_be_bytes()[3]]))
            .unwrap()
            .set_modified(time)
            .unwrap();
    }
    site.start().await;
    site.wait_until_empty().await;
    assert_eq!(site.s3.keys().len(), 6, "{:?}", site.s3.keys());
    for number in 0..3 {
        assert!(site.s3.object(&key("CAM", number)).is_some(), "{:?}", site.s3.keys());
    }
    site.wait_for_status("six stored", |status| status.stored.captures == 6).await;
}
