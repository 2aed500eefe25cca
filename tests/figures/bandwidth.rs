//! Whether `upload.bandwidth` holds over a minute, and how long a picture takes past the clips that fill it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::picture::{CAPTURE_BYTES, capture};
use super::{START, STOP, Store};

const MINUTE: Duration = Duration::from_mins(1);
/// Longer than the bucket of credit that stands full before the first byte.
const RUN_UP: Duration = Duration::from_secs(5);
/// A clip takes minutes by itself.
const CLIP_BYTES: usize = 200 << 20;
const CLIPS: usize = 8;
/// A picture every two seconds takes a tenth of the slower limit.
const INTERVAL: Duration = Duration::from_secs(2);

/// Measures and prints.
pub(crate) async fn measure(store: &Store) -> anyhow::Result<()> {
    println!(
        "\nbandwidth: {CLIPS} clips of {} MiB wait, a picture of {CAPTURE_BYTES} bytes every {INTERVAL:?}",
        CLIP_BYTES >> 20
    );
    println!("{:<14}{:>22}{:>10}{:>34}", "limit", "bodies in a minute", "of it", "picture to stored, ms: p50, max");
    for (limit, bytes) in [("1MiB/s", 1 << 20), ("8MiB/s", 8 << 20)] {
        let server = Store::in_memory().await;
        let region = store.region.clone();
        measure_limit(&Store { region, ..server }, limit, bytes).await?;
    }
    Ok(())
}

async fn measure_limit(store: &Store, limit: &str, rate: u64) -> anyhow::Result<()> {
    let server = store.ours.as_ref().context("bandwidth needs the server in memory")?;
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    let drop_folder = folder.path().join("drop-folder");
    std::fs::create_dir_all(drop_folder.join("CAM"))?;
    for number in 0..CLIPS {
        std::fs::write(
            drop_folder.join(format!("CAM/clip-{number}.mp4")),
            vec![b'0' + u8::try_from(number)?; CLIP_BYTES],
        )?;
    }
    let mut daemon = store.start_daemon(folder.path(), &format!("upload:\n  bandwidth: {limit}\n"))?;
    daemon.ready(START).await?;
    tokio::time::sleep(RUN_UP).await;

    let received = || server.requests().iter().map(|request| request.bytes).sum::<u64>();
    let (begin, before) = (Instant::now(), received());
    let mut dropped = Vec::new();
    while begin.elapsed() < MINUTE {
        let name = format!("picture-{:03}.jpg", dropped.len());
        std::fs::write(drop_folder.join("CAM").join(&name), capture(dropped.len())?)?;
        dropped.push((name, Instant::now()));
        let next = INTERVAL * u32::try_from(dropped.len())?;
        tokio::time::sleep(next.min(MINUTE).saturating_sub(begin.elapsed())).await;
    }
    let sent = received() - before;
    print(limit, sent, rate, &times(&server.requests(), &dropped));
    // What is left is of no interest, and would take a while.
    clear(&drop_folder)?;
    daemon.stop(STOP).await.ok();
    Ok(())
}

/// From the end of writing to the answer, sorted.
fn times(requests: &[super::s3::Request], dropped: &[(String, Instant)]) -> Vec<Duration> {
    let answered = |name: &str| {
        let request = requests.iter().find(|request| request.key.ends_with(name) && request.status == Some(200))?;
        request.answered
    };
    let took = |(name, at): &(String, Instant)| Some(answered(name)?.saturating_duration_since(*at));
    let mut times: Vec<Duration> = dropped.iter().filter_map(took).collect();
    times.sort_unstable();
    times
}

fn print(limit: &str, sent: u64, rate: u64, times: &[Duration]) {
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let share = sent as f64 / (rate * MINUTE.as_secs()) as f64 * 100.0;
    let at = |index: usize| times.get(index).map_or(0, Duration::as_millis);
    let (median, longest) = (at(times.len() / 2), at(times.len().saturating_sub(1)));
    println!("{limit:<14}{sent:>22}{share:>9.2}%{median:>26}{longest:>8}  (n = {})", times.len());
}

fn clear(drop_folder: &Path) -> anyhow::Result<()> {
    std::fs::remove_dir_all(drop_folder).context("failed to take the clips away")
}
