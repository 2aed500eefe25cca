//! From close-after-write to stored.
//!
//! "Stored" is when the daemon had the answer, as its ledger says. When the file's name left the drop folder (inotify) is
//! given too: by then the ledger was written and the file away. For the server in memory the moment of its answer is
//! given as well.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use hk_aws::ledger;
use notify::event::{ModifyKind, RenameMode};
use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use super::daemon::Daemon;
use super::picture::{CAPTURE_BYTES, capture};
use super::{START, STOP, Store};

/// How many captures are written.
const CAPTURES: usize = 1000;
/// How much lies between two of them: 20 a second, as many cameras at a busy moment.
const INTERVAL: Duration = Duration::from_millis(50);
/// How many cameras they come from.
const CAMERAS: usize = 4;
/// What their names begin with.
const ADDRESS: &str = "192.168.1.64";
/// How long the last one may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Measures and prints.
pub(crate) async fn measure(store: &Store) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    let drop_folder = folder.path().join("drop-folder");
    make_cameras(&drop_folder)?;
    let mut daemon = store.start_daemon(folder.path(), "")?;
    daemon.ready(START).await?;
    let followed = follow(&mut daemon, &drop_folder, CAPTURES, INTERVAL).await?;
    daemon.stop(STOP).await?;
    print(store, &followed, &followed.stored(folder.path())?);
    Ok(())
}

/// Makes the folders of the cameras.
pub(crate) fn make_cameras(drop_folder: &Path) -> anyhow::Result<()> {
    for camera in 0..CAMERAS {
        std::fs::create_dir_all(drop_folder.join(camera_name(camera)))?;
    }
    Ok(())
}

/// When the captures were closed, and when they left the drop folder.
pub(crate) struct Followed {
    closed: HashMap<PathBuf, Instant>,
    gone: HashMap<PathBuf, Instant>,
}

impl Followed {
    /// Returns how long each capture was there, the shortest first.
    pub(crate) fn times(&self) -> Vec<Duration> {
        times(&self.closed, &self.gone)
    }

    /// Returns how long after its close each capture was stored, the shortest first, by the ledger of the daemon that
    /// [`Store::start_daemon`] started in `folder`.
    pub(crate) fn stored(&self, folder: &Path) -> anyhow::Result<Vec<Duration>> {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let mut stored = HashMap::new();
        for camera in (0..CAMERAS).map(camera_name) {
            for day in std::fs::read_dir(folder.join("state/ledger").join(camera))? {
                for entry in ledger::entries(&day?.path())? {
                    let ago = wall.duration_since(entry.stored_at.into())?;
                    let at = now.checked_sub(ago).context("the machine was not up yet")?;
                    stored.insert(folder.join("drop-folder").join(entry.source), at);
                }
            }
        }
        anyhow::ensure!(stored.len() == self.closed.len(), "{} are in the ledger", stored.len());
        Ok(times(&self.closed, &stored))
    }
}

/// Writes `captures` into the cameras' folders, one each `interval`, and sees them leave; fails if one stays.
pub(crate) async fn follow(
    daemon: &mut Daemon,
    drop_folder: &Path,
    captures: usize,
    interval: Duration,
) -> anyhow::Result<Followed> {
    let (leaves, mut left) = mpsc::unbounded_channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let now = Instant::now();
        let Ok(event) = event else { return };
        let gone = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)));
        // The daemon may take a file away under another name: only the names that were written count.
        let ours = |path: &PathBuf| gone && file_name(path).is_some_and(|name| name.starts_with(ADDRESS));
        for path in event.paths.into_iter().filter(ours) {
            leaves.send((path, now)).ok();
        }
    })
    .context("failed to make a watch")?;
    watcher.watch(drop_folder, RecursiveMode::Recursive).context("failed to watch the drop folder")?;

    let writing = tokio::spawn(write(drop_folder.to_owned(), captures, interval));
    let mut gone = HashMap::new();
    let gather = async {
        while gone.len() < captures
            && let Some((path, at)) = left.recv().await
        {
            gone.insert(path, at);
        }
    };
    let patience = interval * u32::try_from(captures)? + PATIENCE;
    let in_time = tokio::select! {
        gathered = tokio::time::timeout(patience, gather) => gathered.is_ok(),
        ended = daemon.ended() => return Err(ended),
    };
    let closed = writing.await??;
    anyhow::ensure!(
        in_time,
        "{} captures did not leave the folder; the daemon's log ends:\n{}",
        captures - gone.len(),
        daemon.log_tail()
    );
    Ok(Followed { closed, gone })
}

/// Writes the captures; answers when each was closed.
async fn write(drop_folder: PathBuf, captures: usize, interval: Duration) -> anyhow::Result<HashMap<PathBuf, Instant>> {
    let started = chrono::Local::now();
    let mut closed = HashMap::new();
    let mut clock = tokio::time::interval(interval);
    for number in 0..captures {
        clock.tick().await;
        let taken = started + interval * u32::try_from(number)?;
        let name = format!("{ADDRESS}_01_{}_MOTION_DETECTION.jpg", taken.format("%Y%m%d%H%M%S%3f"));
        let path = drop_folder.join(camera_name(number % CAMERAS)).join(name);
        let mut file = File::create(&path)?;
        file.write_all(&capture(number)?)?;
        // Before the close, not after: the file may be stored before its writer runs again.
        closed.insert(path, Instant::now());
        drop(file);
    }
    Ok(closed)
}

fn camera_name(number: usize) -> String {
    format!("CAM-EXT-{:03}", number + 1)
}

fn print(store: &Store, followed: &Followed, stored: &[Duration]) {
    let rate = 1000 / INTERVAL.as_millis();
    println!("\nlatency: {CAPTURES} captures of {CAPTURE_BYTES} bytes at {rate}/s, to {}", store.endpoint);
    println!("{:<44}{:>9}{:>9}{:>9}{:>7}", "from close-after-write, in ms, until", "p50", "p99", "max", "n");
    row("the daemon has the answer", stored);
    row("the file has left the drop folder", &followed.times());
    let Some(server) = &store.ours else { return };
    let closed = &followed.closed;
    let names: HashMap<_, _> = closed.keys().filter_map(|path| Some((file_name(path)?, path))).collect();
    let requests = server.requests();
    let stored = requests.iter().filter(|request| request.status == Some(200));
    let stored = stored.filter_map(|request| {
        let path = names.get(request.key.rsplit('/').next()?)?;
        Some(((*path).clone(), request.answered?))
    });
    row("S3 has answered", &times(closed, &stored.collect()));
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let each = requests.len() as f64 / CAPTURES as f64;
    println!("requests: {each:.3} a capture ({} PutObject, {} in all)", server.count("PutObject"), requests.len());
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn row(until: &str, times: &[Duration]) {
    let at = |percent: usize| {
        let time = times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
        time.map_or_else(|| "-".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1000.0))
    };
    println!("{until:<44}{:>9}{:>9}{:>9}{:>7}", at(50), at(99), at(100), times.len());
}

fn times(closed: &HashMap<PathBuf, Instant>, ended: &HashMap<PathBuf, Instant>) -> Vec<Duration> {
    let elapsed = |(path, end): (&PathBuf, &Instant)| Some(end.saturating_duration_since(*closed.get(path)?));
    let mut times: Vec<Duration> = ended.iter().filter_map(elapsed).collect();
    times.sort_unstable();
    times
}
