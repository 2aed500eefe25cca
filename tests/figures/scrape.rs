//! What a scrape of the metrics costs the process: its figures are made into text, with 12 cameras and with 200.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hk_aws::bucket::RequestCounts;
use hk_aws::metrics::{self, Format};
use hk_aws::status::Snapshot;

/// How often it is done.
const SCRAPES: u32 = 1000;

/// Measures and prints.
pub(crate) fn measure() -> anyhow::Result<()> {
    println!("\nscrape: {SCRAPES} times the text of the metrics, on one core");
    println!("{:<24}{:>12}{:>16}{:>16}", "cameras", "bytes", "median us", "max us");
    for cameras in [12, 200] {
        for (name, format) in [("0.0.4", Format::Prometheus), ("OpenMetrics", Format::OpenMetrics)] {
            let (snapshot, requests) = (snapshot(cameras)?, RequestCounts::new());
            let bytes = metrics::render(format, &snapshot, &requests).len();
            let mut took: Vec<u128> = (0..SCRAPES)
                .map(|_| {
                    let began = Instant::now();
                    black_box(metrics::render(format, black_box(&snapshot), &requests));
                    began.elapsed().as_micros()
                })
                .collect();
            took.sort_unstable();
            let (median, max) = (took[took.len() / 2], took.last().context("it was done")?);
            println!("{:<24}{bytes:>12}{median:>16}{max:>16}", format!("{cameras}, {name}"));
        }
    }
    Ok(())
}

/// What a daemon tells that has stored two kinds of events of each camera.
fn snapshot(cameras: usize) -> anyhow::Result<Snapshot> {
    let at = "2026-11-28T00:00:00Z";
    let camera = |number: usize| {
        let camera = serde_json::json!({"captures": 1, "last_taken_at": at, "last_stored_at": at, "wrong_clock": null});
        (format!("CAM-EXT-{number:03}"), camera)
    };
    let mut snapshot: Snapshot = serde_json::from_value(serde_json::json!({
        "version": "1.2.3", "pid": 1, "at": at, "started_at": at, "state": "ok", "bucket": "s3://b", "trouble": null,
        "waiting": {
            "settling": 0, "queued": 0, "uploading": 0, "backing_off": 0, "on_disk": 0, "bytes": 0, "ignored": 0,
            "left_alone": 0, "set_aside": 0,
        },
        "oldest_only_here": null, "files": [], "not_uploaded": [], "stored": {"captures": 0, "bytes": 0},
        "cameras": (0..cameras).map(camera).collect::<serde_json::Map<_, _>>(), "last_errors": [],
        "drop_folder_free_bytes": 5, "state_free_bytes": 6, "kept_bytes": 7,
    }))?;
    let counters = Arc::make_mut(&mut snapshot.counters);
    for number in 0..cameras {
        for event in ["MOTION_DETECTION", "LINE_CROSSING_DETECTION"] {
            counters.stored(&format!("CAM-EXT-{number:03}"), Some(event), 200_000, Duration::from_millis(300));
        }
    }
    Ok(snapshot)
}
