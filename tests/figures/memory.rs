//! What the daemon holds in memory: when nothing happens, with a backlog while S3 is away, and while it catches up.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::daemon::Daemon;
use super::picture::{CAPTURE_BYTES, capture};
use super::{START, STOP, Store};

/// How many captures wait.
const WAITING: usize = 100_000;
/// How many cameras they come from; each has one file on disk and hard links to it (ext4 allows 65,000 to a file).
const CAMERAS: usize = 10;
/// How long the daemon is left alone before it is called idle.
const IDLE: Duration = Duration::from_secs(5);
/// How long it is watched with its backlog: past one full look at the folder, which is due every 60 s.
const BACKLOG: Duration = Duration::from_secs(90);
/// How long S3 may be back before the first capture comes, whatever the backoff had grown to.
const RETURN: Duration = Duration::from_mins(5);
/// How long it is watched while it catches up.
const CATCH_UP: Duration = Duration::from_secs(30);

/// Measures and prints.
pub(crate) async fn measure(store: &Store) -> anyhow::Result<()> {
    let server = store.ours.as_ref().context("memory needs the server in memory")?;
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    let drop_folder = folder.path().join("drop-folder");
    std::fs::create_dir_all(&drop_folder)?;
    println!("\nmemory: resident set of the daemon, from /proc/PID/status");
    println!("{:<54}{:>12}{:>12}", "in MiB", "VmRSS", "VmHWM");

    let mut daemon = store.start_daemon(folder.path(), "")?;
    daemon.ready(START).await?;
    tokio::time::sleep(IDLE).await;
    print(&format!("idle, {} s after READY", IDLE.as_secs()), &daemon)?;

    server.refuse().await;
    let linking = drop_folder.clone();
    tokio::task::spawn_blocking(move || fill(&linking)).await??;
    print(&format!("{WAITING} captures of {CAPTURE_BYTES} bytes written, S3 away"), &daemon)?;
    tokio::time::sleep(BACKLOG).await;
    print(&format!("the same, {} s later", BACKLOG.as_secs()), &daemon)?;
    let refused = server.requests().len();

    server.accept().await;
    let back = Instant::now();
    server.wait_for(|state| !state.objects().is_empty(), RETURN).await;
    let first = back.elapsed();
    let before = server.look(|state| state.objects().len());
    tokio::time::sleep(CATCH_UP).await;
    let stored = server.look(|state| state.objects().len()) - before;
    print(&format!("S3 back, {} s into catching up", CATCH_UP.as_secs()), &daemon)?;
    let rate = stored / usize::try_from(CATCH_UP.as_secs())?;
    println!(
        "S3 back: first capture after {:.1} s, then {rate}/s; {refused} requests got through before",
        first.as_secs_f64()
    );
    daemon.stop(STOP).await
}

/// Fills the drop folder with hard links: what waits costs names, not disk.
fn fill(drop_folder: &Path) -> anyhow::Result<()> {
    let start = chrono::Local::now() - chrono::TimeDelta::hours(6);
    for camera in 0..CAMERAS {
        let folder = drop_folder.join(format!("CAM-EXT-{camera:03}"));
        std::fs::create_dir(&folder)?;
        let mut original = None;
        for number in 0..WAITING / CAMERAS {
            let taken = start + chrono::TimeDelta::milliseconds(i64::try_from(number)? * 2000 + i64::try_from(camera)?);
            let name = format!("192.168.1.64_01_{}_MOTION_DETECTION.jpg", taken.format("%Y%m%d%H%M%S%3f"));
            let path = folder.join(name);
            if let Some(original) = &original {
                std::fs::hard_link(original, &path)?;
            } else {
                std::fs::write(&path, capture(camera)?)?;
                original = Some(path);
            }
        }
    }
    Ok(())
}

fn print(when: &str, daemon: &Daemon) -> anyhow::Result<()> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id()?)).context("the daemon has ended")?;
    let mebibytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kibibytes: f64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok())?;
        Some(format!("{:.1}", kibibytes / 1024.0))
    };
    let [rss, peak] = ["VmRSS", "VmHWM"].map(|name| mebibytes(name).unwrap_or_else(|| "-".to_owned()));
    println!("{when:<54}{rss:>12}{peak:>12}");
    Ok(())
}
