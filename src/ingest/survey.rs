//! Surveys of the drop folder, on threads of their own. What they see comes to the loop in batches, and a survey waits
//! while the loop is busy.
//!
//! There are two kinds, and at most one of each runs at a time: a full scan, and a look at the paths that hints name,
//! so that a capture just taken does not wait until a million old ones have been counted.
//!
//! A full scan that only refills the queue ends as soon as the queue is full. Otherwise a backlog of a million files
//! would be read as a whole for every few thousand of them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::clock::Now;
use crate::drop_folder::{DropFolder, EMPTY_FOLDER_AGE, Sight, Writer};
use crate::message;
use crate::queue::{CAPACITY, Hint};
use crate::watch::{Hints, MountWatch, Watch};

/// The number of sights in a full batch.
const BATCH: usize = 256;

/// The number of batches that can wait for the loop.
const BATCHES: usize = 8;

/// A scan that refills the queue reads at least this many files, to find the newest among them: sixteen times what the
/// queue holds.
const REFILL_LEAST: usize = 16 * CAPACITY;

/// After a full scan the next one waits at least this many times as long as the scan took: a scan of a million files
/// must not keep the disk from the uploads. A scan that something asks for, such as an overflow, does not wait.
const REST: u32 = 4;

/// How often the folder is read in full if inotify does not report its changes.
const POLL: Duration = Duration::from_secs(2);

/// If the wall clock moves against the steady one by more than this between two surveys, somebody has set it.
const STEP: Duration = Duration::from_mins(1);

/// What a survey sends to the loop.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) sights: Vec<(Sight, Hint)>,
    pub(super) kind: SurveyKind,
}

/// The kind of a survey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum SurveyKind {
    /// A scan of everything.
    FullScan,
    /// A look at the paths that hints named.
    Look,
}

/// The end of a survey.
#[derive(Debug)]
pub(super) struct SurveyEnd {
    pub(super) kind: SurveyKind,
    pub(super) began: Instant,
    /// Whether it ended early: then a file that it did not see may be there.
    pub(super) is_cut_short: bool,
    pub(super) result: io::Result<()>,
}

type SharedWatch = Arc<Mutex<Option<Watch>>>;

/// Watches the drop folder and starts the surveys.
#[derive(Debug)]
pub(super) struct Surveyor {
    pub(super) hints: Arc<Hints>,
    pub(super) batches: mpsc::Receiver<Batch>,
    pub(super) tasks: JoinSet<SurveyEnd>,
    send: mpsc::Sender<Batch>,
    watch: SharedWatch,
    mounts: MountWatch,
    /// The identity of the folder that is watched; `None` while there is none.
    watched: Option<(u64, u64)>,
    polling: bool,
    /// The surveys under way.
    running: HashSet<SurveyKind>,
    /// The clocks when they were last compared.
    compared: Now,
    /// When the wall clock was last seen to have been set.
    stepped: Option<Instant>,
    /// When the next full scan is due by the timer.
    next_scan: Instant,
    /// Whether a full scan has been asked for and has not begun.
    is_scan_asked_for: bool,
    /// Tells the scan under way that the queue is full.
    is_queue_full: Arc<AtomicBool>,
}

impl Surveyor {
    /// Returns a surveyor that watches nothing yet and begins with a full scan.
    pub(super) fn new(now: Now) -> Self {
        let (send, batches) = mpsc::channel(BATCHES);
        Self {
            hints: Arc::new(Hints::default()),
            batches,
            tasks: JoinSet::new(),
            send,
            watch: Arc::new(Mutex::new(None)),
            mounts: MountWatch::default(),
            watched: None,
            polling: false,
            running: HashSet::new(),
            compared: now,
            stepped: None,
            next_scan: now.steady,
            is_scan_asked_for: true,
            is_queue_full: Arc::default(),
        }
    }

    /// Returns when the next full scan is due by the timer.
    pub(super) fn next_scan(&self) -> Instant {
        self.next_scan
    }

    /// Returns whether a look at hinted paths can start now.
    pub(super) fn takes_hints(&self) -> bool {
        !self.running.contains(&SurveyKind::Look)
    }

    /// Asks for a full scan as soon as possible.
    pub(super) fn scan_soon(&mut self) {
        self.is_scan_asked_for = true;
    }

    /// Watches the folder if it is not the one that is watched, because it was deleted, created again or mounted over.
    pub(super) fn follow(&mut self, folder: &DropFolder, identity: (u64, u64)) {
        // A disk that was unmounted and mounted again has the same identity, and no watch.
        if self.mounts.has_changed(folder.path()) || self.watched != Some(identity) {
            self.watch_anew(folder);
            self.mounts = MountWatch::start(folder.path());
            self.watched = Some(identity);
        }
    }

    /// Starts no more surveys until [`Surveyor::follow`] has found the folder.
    pub(super) fn unwatch(&mut self) {
        self.watched = None;
    }

    /// Replaces the watch by an empty one, and asks for the full scan that adds every folder to it.
    pub(super) fn watch_anew(&mut self, folder: &DropFolder) {
        let started = if folder.has_inotify().unwrap_or(true) {
            Watch::start(folder.path(), Arc::clone(&self.hints)).map_err(|error| error.to_string())
        } else {
            Err("its file system does not tell of changes".to_owned())
        };
        if let (Err(reason), false) = (&started, self.polling) {
            tracing::warn!(
                message_id = message::WATCH,
                "the drop folder is read every {} s instead of being watched: {reason}",
                POLL.as_secs()
            );
        }
        self.polling = started.is_err();
        self.watch = Arc::new(Mutex::new(started.ok()));
        self.watched = None;
        self.scan_soon();
    }

    /// Starts a full scan if one is due or asked for; returns whether it did.
    pub(super) fn start_scan(&mut self, folder: &DropFolder, rescan: Duration, now: Now) -> bool {
        let is_due = self.is_scan_asked_for || now.steady >= self.next_scan;
        if !is_due || !self.can_scan() {
            return false;
        }
        self.is_scan_asked_for = false;
        self.next_scan = now.steady + if self.polling { rescan.min(POLL) } else { rescan };
        self.start(folder, Extent::Everything, now);
        true
    }

    /// Starts a full scan that ends as soon as the queue is full; returns whether it did.
    pub(super) fn start_refill(&mut self, folder: &DropFolder, now: Now) -> bool {
        if !self.can_scan() {
            return false;
        }
        self.is_queue_full = Arc::default();
        let refill = Refill { least: REFILL_LEAST, is_queue_full: Arc::clone(&self.is_queue_full) };
        self.start(folder, Extent::UntilFull(refill), now);
        true
    }

    fn can_scan(&self) -> bool {
        !self.running.contains(&SurveyKind::FullScan) && self.watched.is_some()
    }

    /// Tells a scan that refills the queue that it is full.
    pub(super) fn queue_is_full(&self) {
        self.is_queue_full.store(true, Ordering::Relaxed);
    }

    /// Starts a look at the paths that hints name and at the `settled` files.
    pub(super) fn start_look(&mut self, folder: &DropFolder, settled: Vec<PathBuf>, now: Now) {
        let hinted = self.hints.take();
        if hinted.everywhere {
            self.scan_soon();
        }
        let mut paths = hinted.paths;
        paths.extend(settled.into_iter().map(|path| (path, Hint::Scan)));
        if !paths.is_empty() {
            self.start(folder, Extent::Hinted(paths), now);
        }
    }

    /// Returns whether the wall clock tells the age of folders.
    ///
    /// For a day after somebody has set the clock it does not, because a new folder may look old.
    fn knows_ages(&mut self, now: Now) -> bool {
        let before = std::mem::replace(&mut self.compared, now);
        let expected = before.wall + now.steady.duration_since(before.steady);
        let apart = now.wall.duration_since(expected).unwrap_or_else(|behind| behind.duration());
        if apart > STEP {
            self.stepped = Some(now.steady);
        }
        self.stepped.is_none_or(|stepped| now.steady.duration_since(stepped) >= EMPTY_FOLDER_AGE)
    }

    fn start(&mut self, folder: &DropFolder, extent: Extent, now: Now) {
        let folder = if self.knows_ages(now) { folder.clone() } else { folder.without_pruning() };
        let (watch, send, kind) = (Arc::clone(&self.watch), self.send.clone(), extent.kind());
        self.running.insert(kind);
        self.tasks.spawn_blocking(move || {
            let mut survey = SurveyRun::new(&folder, &watch, &send, extent);
            let result = survey.run(now.wall);
            SurveyEnd { kind, began: now.steady, is_cut_short: survey.is_cut_short, result }
        });
    }

    /// Records the end of a survey, and returns the batches that are still on their way.
    pub(super) fn finished(&mut self, end: &SurveyEnd, now: Now) -> Vec<Batch> {
        self.running.remove(&end.kind);
        if end.kind == SurveyKind::FullScan {
            let rested = now.steady + now.steady.duration_since(end.began) * REST;
            self.next_scan = self.next_scan.max(rested);
        }
        if end.result.is_err() {
            // A folder that was created again can have the inode that it had before: only the failure shows it.
            self.watched = None;
        }
        std::iter::from_fn(|| self.batches.try_recv().ok()).collect()
    }
}

/// How far a survey looks.
#[derive(Debug)]
enum Extent {
    /// At everything below the drop folder.
    Everything,
    /// At everything, but only until the queue is full.
    UntilFull(Refill),
    /// At these paths and below them.
    Hinted(HashMap<PathBuf, Hint>),
}

impl Extent {
    fn kind(&self) -> SurveyKind {
        match self {
            Self::Everything | Self::UntilFull(_) => SurveyKind::FullScan,
            Self::Hinted(_) => SurveyKind::Look,
        }
    }
}

/// When a scan that refills the queue may end.
#[derive(Debug)]
struct Refill {
    /// The number of files that it reads in any case.
    least: usize,
    is_queue_full: Arc<AtomicBool>,
}

/// A survey under way.
struct SurveyRun<'a> {
    folder: &'a DropFolder,
    watch: &'a SharedWatch,
    send: &'a mpsc::Sender<Batch>,
    extent: Extent,
    batch: Vec<(Sight, Hint)>,
    /// The number of files seen.
    files: usize,
    is_cut_short: bool,
}

/// Returns the hint for a file that a look finds in a folder: whether its writer is done with it.
///
/// A file that is still open may be about to be closed, and its close may have been reported before anybody listened:
/// the upload asks again.
fn hint_of(folder: &DropFolder, sight: &Sight) -> Hint {
    match sight {
        Sight::File(found) if found.stamp.size > 0 => match folder.open(&found.path).map(|opened| opened.writer()) {
            Ok(Writer::Nobody | Writer::Somebody) => Hint::Closed,
            _ => Hint::Scan,
        },
        _ => Hint::Scan,
    }
}

impl<'a> SurveyRun<'a> {
    fn new(folder: &'a DropFolder, watch: &'a SharedWatch, send: &'a mpsc::Sender<Batch>, extent: Extent) -> Self {
        Self { folder, watch, send, extent, batch: Vec::new(), files: 0, is_cut_short: false }
    }

    /// Looks and sends what is there. It blocks, so it needs a thread of its own.
    fn run(&mut self, now: SystemTime) -> io::Result<()> {
        if let Extent::Hinted(paths) = &mut self.extent {
            for (path, hint) in std::mem::take(paths) {
                match self.folder.look(&path, now)? {
                    Some(Sight::Folder(path, _)) => self.scan(&path, now)?,
                    Some(sight) => self.see(sight, hint),
                    None => {}
                }
            }
        } else {
            self.with_watch(Watch::scan_begins);
            self.scan(Path::new(""), now)?;
            if !self.is_cut_short {
                self.with_watch(Watch::scan_ends);
            }
        }
        self.flush();
        Ok(())
    }

    fn with_watch<T>(&self, act: impl FnOnce(&mut Watch) -> T) -> Option<T> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(act)
    }

    fn scan(&mut self, below: &Path, now: SystemTime) -> io::Result<()> {
        let (folder, kind) = (self.folder, self.extent.kind());
        let scanned = folder.scan(below, now, &mut |sight| {
            let hint = match kind {
                SurveyKind::FullScan => Hint::Scan,
                // A new folder may be filled before it is watched: no event tells that these files were closed.
                SurveyKind::Look => hint_of(folder, &sight),
            };
            self.see(sight, hint);
            self.is_cut_short = self.has_seen_enough();
            if self.is_cut_short { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match scanned {
            // That a folder further down went away meanwhile is no fault; that the drop folder did is one.
            Err(error) if below.as_os_str().is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    fn has_seen_enough(&self) -> bool {
        match &self.extent {
            Extent::UntilFull(refill) => self.files >= refill.least && refill.is_queue_full.load(Ordering::Relaxed),
            Extent::Everything | Extent::Hinted(_) => false,
        }
    }

    fn see(&mut self, sight: Sight, hint: Hint) {
        if let Sight::Folder(path, unchanged) = &sight {
            let covered = self.with_watch(|watch| match unchanged {
                Some(inode) => watch.keep(path, *inode),
                None => watch.cover(path),
            });
            if let Some(Err(reason)) = covered {
                tracing::warn!(
                    message_id = message::WATCH,
                    "files in the folders that were quiet for longest are found by the rescan only: {reason}"
                );
            }
            return;
        }
        self.files += usize::from(matches!(sight, Sight::File(_)));
        self.batch.push((sight, hint));
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.batch.is_empty() {
            let batch = Batch { sights: std::mem::take(&mut self.batch), kind: self.extent.kind() };
            // An error means that the loop has ended.
            let _unheard = self.send.blocking_send(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn for_a_day_after_a_step_of_the_wall_clock_no_folder_is_known_to_be_old() {
        let hours = Duration::from_hours;
        #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
        let start = Now { steady: Instant::now(), wall: SystemTime::UNIX_EPOCH + hours(500_000) };
        let after = |steady: u64, wall: Duration| Now { steady: start.steady + hours(steady), wall: start.wall + wall };
        let mut surveyor = Surveyor::new(start);
        assert!(surveyor.knows_ages(after(1, hours(1))));
        assert!(surveyor.knows_ages(after(2, hours(2) + Duration::from_secs(30))), "NTP slews a clock");
        assert!(!surveyor.knows_ages(after(3, hours(30 * 365 * 24))));
        assert!(!surveyor.knows_ages(after(26, hours(30 * 365 * 24 + 23))));
        assert!(surveyor.knows_ages(after(27, hours(30 * 365 * 24 + 24))));
        assert!(!surveyor.knows_ages(after(28, hours(28))), "a step back");
    }

    #[tokio::test]
    async fn after_a_scan_that_took_long_the_next_one_waits_unless_it_is_asked_for() {
        let place = tempfile::tempdir().unwrap();
        let folder = drop_folder(place.path());
        let (minute, mut now) = (Duration::from_mins(1), crate::daemon::now());
        let mut surveyor = Surveyor::new(now);
        surveyor.follow(&folder, folder.identity().unwrap());
        let mut scan_for = |surveyor: &mut Surveyor, duration: Duration| {
            if !surveyor.start_scan(&folder, minute, now) {
                return false;
            }
            let began = now.steady;
            now.steady += duration;
            let end = SurveyEnd { kind: SurveyKind::FullScan, began, is_cut_short: false, result: Ok(()) };
            surveyor.finished(&end, now);
            now.steady += minute;
            true
        };
        assert!(scan_for(&mut surveyor, Duration::from_secs(1)), "the first");
        assert!(scan_for(&mut surveyor, minute), "a minute later");
        assert!(!scan_for(&mut surveyor, minute), "a minute after one that took a minute");
        surveyor.scan_soon();
        assert!(scan_for(&mut surveyor, minute), "asked for");
        now.steady = surveyor.next_scan();
        assert!(surveyor.start_scan(&folder, minute, now), "after its rest");
    }

    fn drop_folder(path: &Path) -> DropFolder {
        let text = format!("drop_folder: {{path: '{}'}}\ns3: {{bucket: a-bucket}}\n", path.display());
        DropFolder::new(&Config::parse(Path::new("a.yaml"), &text, &|_| None).unwrap().drop_folder)
    }

    #[test]
    fn a_scan_to_refill_a_queue_breaks_off_once_it_is_full_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..1000 {
            std::fs::write(folder.path().join(format!("{number}.jpg")), "x").unwrap();
        }
        let (folder, watch) = (drop_folder(folder.path()), Arc::new(Mutex::new(None)));
        for (full, least, expected) in [(true, 300, 300), (true, 2000, 1000), (false, 300, 1000)] {
            let (send, mut batches) = mpsc::channel(BATCHES);
            let refill = Refill { least, is_queue_full: Arc::new(AtomicBool::new(full)) };
            let mut survey = SurveyRun::new(&folder, &watch, &send, Extent::UntilFull(refill));
            survey.run(SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(survey.is_cut_short, expected < 1000);
            let seen: usize = std::iter::from_fn(|| batches.try_recv().ok()).map(|batch| batch.sights.len()).sum();
            assert_eq!(seen, expected, "full: {full}, at least {least}");
        }
    }
}
