//! What is told of the cameras is true after a restart, and costs the start nothing.

use std::fs;
use std::io::Write as _;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use hk_aws::status::{DayCount, Snapshot};
use rustix::fs::{FileType, Mode};

use crate::support::site::{Settings, Site, files};

fn now() -> DateTime<Utc> {
    hk_aws::daemon::now().wall.into()
}

/// A picture's name, by the clock of a camera that says this.
fn picture(taken: DateTime<Utc>) -> String {
    format!("192.168.1.64_01_{}_MOTION_DETECTION.jpg", taken.format("%Y%m%d%H%M%S%3f"))
}

/// The number of captures of a day, as the status has it.
fn told(status: &Snapshot, camera: &str, day: NaiveDate) -> Option<(u64, u64)> {
    let camera = status.cameras.get(camera)?;
    camera.newest_day.filter(|newest| newest.date == day).map(|DayCount { captures, .. }| (camera.captures, captures))
}

#[tokio::test]
async fn after_a_restart_each_camera_has_its_last_capture_and_what_it_sent_today() {
    let mut site = Site::started(Settings::default()).await;
    // Of a day that does not end while this runs.
    let noon = (now() - TimeDelta::days(1)).date_naive().and_hms_opt(12, 0, 0).unwrap().and_utc();
    for second in 0..3 {
        site.write(format!("CAM/{}", picture(noon + TimeDelta::seconds(second))), b"evidence");
    }
    let day = noon.date_naive();
    let before = site.wait_for_status("3 captures", |status| told(status, "CAM", day) == Some((3, 3))).await;
    for _ in 0..2 {
        site.stop().await;
        site.start().await;
        let after = site.wait_for_status("what was", |status| told(status, "CAM", day) == Some((0, 3))).await;
        let [before, after] = [&before, &after].map(|status| &status.cameras["CAM"]);
        assert_eq!(before.last_taken_at, after.last_taken_at);
        let apart = before.last_stored_at - after.last_stored_at;
        assert!(apart.abs() < TimeDelta::seconds(10), "{apart}: the ledger notes it a moment before or after");
    }
    site.write(format!("CAM/{}", picture(noon + TimeDelta::seconds(9))), b"more evidence");
    site.wait_for_status("one more", |status| told(status, "CAM", day) == Some((1, 4))).await;
}

#[tokio::test]
async fn a_ledger_that_takes_for_ever_to_read_holds_up_neither_the_start_nor_a_capture() {
    let mut site = Site::new(Settings::default()).await;
    let day = now().date_naive();
    let ledger = site.path("state/ledger/QUIET");
    fs::create_dir_all(&ledger).unwrap();
    // Whoever opens it waits until somebody writes.
    let slow = ledger.join(format!("{day}.jsonl"));
    rustix::fs::mknodat(rustix::fs::CWD, &slow, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    site.start().await;
    let name = picture(now());
    site.write(format!("CAM/{name}"), b"evidence");
    site.wait_for_status("the capture", |status| status.stored.captures == 1).await;
    site.wait_until_empty().await;
    assert!(!files(&site.path("state/ledger/CAM")).is_empty());
    // What it says at last is told.
    let line = serde_json::json!({
        "stored_at": now() - TimeDelta::days(1), "taken_at": format!("{day}T00:00:00+00:00"), "key": "k", "size": 1,
        "sha256": "ab", "source": "s",
    });
    let mut writer = fs::OpenOptions::new().write(true).open(&slow).unwrap();
    writeln!(writer, "{line}").unwrap();
    drop(writer);
    site.wait_for_status("the quiet camera", |status| told(status, "QUIET", day) == Some((0, 1))).await;
    fs::remove_file(&slow).unwrap();
    site.stop().await;
}
