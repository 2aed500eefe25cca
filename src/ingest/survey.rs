//! Looking at the folder off the loop: what is seen comes back in batches, and waits where the loop is busy.
//!
//! There are two kinds of survey, at most one of each at a time: a full scan, and a look at the places that hints name,
//! so that a capture just taken does not wait until a million old ones have been counted.
//!
//! A full scan that only refills the queue breaks off once the queue is full: else a backlog of a million would be
//! looked at again for every few thousand of it.

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
use crate::queue::{CAPACITY, Hint};
use crate::watch::{HintedPaths, Hints, Watch};

/// Sights that travel together.
const BATCH: usize = 256;

/// Batches that wait for the loop before the survey does.
const BATCHES: usize = 8;

/// So many files are looked at, at least, to find the newest among them for the queue: sixteen times what it holds.
const REFILL_LOOK: usize = 16 * CAPACITY;

/// After a full scan the next one waits so many times as long as it took, if that is longer than `rescan`: a scan of a
/// million files must not take the disk away from the uploads. What asks for a scan, such as an overflow, does not wait.
const REST: u32 = 4;

/// How often the folder is looked at in full where no inotify tells of changes.
const POLL: Duration = Duration::from_secs(2);

/// What the clocks may drift apart between two surveys without one of them having been set.
const STEP: Duration = Duration::from_mins(1);

/// What a survey sends back.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) sights: Vec<(Sight, Hint)>,
    pub(super) from_full_scan: bool,
}

/// The end of a survey.
#[derive(Debug)]
pub(super) struct SurveyEnd {
    /// When it began, if it was a full scan.
    pub(super) full_scan: Option<Instant>,
    /// Whether it was broken off: then what it did not come across may be there.
    pub(super) broken_off: bool,
    pub(super) result: io::Result<()>,
}

type SharedWatch = Arc<Mutex<Option<Watch>>>;

/// Watches the drop folder and looks at it.
#[derive(Debug)]
pub(super) struct Surveyor {
    pub(super) hints: Arc<Hints>,
    pub(super) batches: mpsc::Receiver<Batch>,
    pub(super) tasks: JoinSet<SurveyEnd>,
    send: mpsc::Sender<Batch>,
    watch: SharedWatch,
    /// The identity of the folder that is watched; `None` while there is none.
    watched: Option<(u64, u64)>,
    polling: bool,
    scanning: bool,
    looking: bool,
    /// The clocks when they were last compared.
    compared: Now,
    /// When the wall clock was last seen to have stepped.
    stepped: Option<Instant>,
    /// When the next full scan is due; `None` at once.
    next_scan: Option<Instant>,
    /// Tells the scan under way that the queue is full.
    full: Arc<AtomicBool>,
}

impl Surveyor {
    pub(super) fn new(now: Now) -> Self {
        let (send, batches) = mpsc::channel(BATCHES);
        Self {
            hints: Arc::new(Hints::default()),
            batches,
            tasks: JoinSet::new(),
            send,
            watch: Arc::new(Mutex::new(None)),
            watched: None,
            polling: false,
            scanning: false,
            looking: false,
            compared: now,
            stepped: None,
            next_scan: None,
            full: Arc::default(),
        }
    }

    /// When the next full scan is due; `None` where it is now.
    pub(super) fn next_scan(&self) -> Option<Instant> {
        self.next_scan
    }

    /// Whether hints would be taken now.
    pub(super) fn takes_hints(&self) -> bool {
        !self.looking
    }

    /// Asks for a full scan now.
    pub(super) fn scan_soon(&mut self) {
        self.next_scan = None;
    }

    /// Watches the folder if it is not the one that is watched: deleted, made again or mounted over.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) fn follow(&mut self, folder: &DropFolder) -> io::Result<()> {
        let identity = folder.identity().inspect_err(|_| self.watched = None)?;
        if self.watched != Some(identity) {
            self.watch_anew(folder);
            self.watched = Some(identity);
        }
        Ok(())
    }

    /// Starts without a watch; the full scan that follows covers every folder.
    pub(super) fn watch_anew(&mut self, folder: &DropFolder) {
        let started = if folder.has_inotify().unwrap_or(true) {
            Watch::start(folder.path(), Arc::clone(&self.hints)).map_err(|error| error.to_string())
        } else {
            Err("its file system does not tell of changes".to_owned())
        };
        if let (Err(reason), false) = (&started, self.polling) {
            tracing::warn!("the drop folder is read every {} s instead of being watched: {reason}", POLL.as_secs());
        }
        self.polling = started.is_err();
        self.watch = Arc::new(Mutex::new(started.ok()));
        self.watched = None;
        self.scan_soon();
    }

    /// Starts a full scan if one is due, or one to refill the queue if that is `wanted`; says whether it did.
    pub(super) fn start_scan(&mut self, folder: &DropFolder, wanted: bool, rescan: Duration, now: Now) -> bool {
        let due = self.next_scan.is_none_or(|next| now.steady >= next);
        if !(due || wanted) || self.scanning || self.watched.is_none() {
            return false;
        }
        self.scanning = true;
        self.full = Arc::default();
        let refill = if due {
            self.next_scan = Some(now.steady + if self.polling { rescan.min(POLL) } else { rescan });
            None
        } else {
            Some(Refill { least: REFILL_LOOK, full: Arc::clone(&self.full) })
        };
        self.start(folder, HintedPaths { everywhere: true, ..HintedPaths::default() }, refill, now);
        true
    }

    /// Takes note that the queue is full.
    pub(super) fn queue_is_full(&self) {
        self.full.store(true, Ordering::Relaxed);
    }

    /// Starts to look where hints point, and at the `settled` files.
    pub(super) fn start_look(&mut self, folder: &DropFolder, settled: Vec<PathBuf>, now: Now) {
        let mut places = self.hints.take();
        if std::mem::take(&mut places.everywhere) {
            self.scan_soon();
        }
        places.paths.extend(settled.into_iter().map(|path| (path, Hint::Scan)));
        if !places.paths.is_empty() {
            self.looking = true;
            self.start(folder, places, None, now);
        }
    }

    /// Whether the wall clock tells the age of folders: a step makes a fresh one look old, until a day has passed
    /// after which any that looks old is.
    fn knows_ages(&mut self, now: Now) -> bool {
        let before = std::mem::replace(&mut self.compared, now);
        let expected = before.wall + now.steady.duration_since(before.steady);
        let apart = now.wall.duration_since(expected).unwrap_or_else(|behind| behind.duration());
        if apart > STEP {
            self.stepped = Some(now.steady);
        }
        self.stepped.is_none_or(|stepped| now.steady.duration_since(stepped) >= EMPTY_FOLDER_AGE)
    }

    fn start(&mut self, folder: &DropFolder, places: HintedPaths, refill: Option<Refill>, now: Now) {
        let folder = if self.knows_ages(now) { folder.clone() } else { folder.without_pruning() };
        let (watch, send) = (Arc::clone(&self.watch), self.send.clone());
        self.tasks.spawn_blocking(move || {
            let mut survey = SurveyRun::new(&folder, &watch, &send, places.everywhere, refill);
            let result = survey.look(&places, now.wall);
            SurveyEnd { full_scan: places.everywhere.then_some(now.steady), broken_off: survey.broken_off, result }
        });
    }

    /// Takes note of the end of a survey, and gives back what it had sent before.
    pub(super) fn finished(&mut self, done: &SurveyEnd, now: Now) -> Vec<Batch> {
        if let Some(began) = done.full_scan {
            self.scanning = false;
            let rested = now.steady + now.steady.duration_since(began) * REST;
            self.next_scan = self.next_scan.map(|next| next.max(rested));
        } else {
            self.looking = false;
        }
        if done.result.is_err() {
            // Made again, the folder can have the inode that it had before: only the failure tells.
            self.watched = None;
        }
        std::iter::from_fn(|| self.batches.try_recv().ok()).collect()
    }
}

/// When a scan that refills the queue has seen enough.
#[derive(Debug)]
struct Refill {
    /// Files that are looked at in any case.
    least: usize,
    /// Whether the queue is full.
    full: Arc<AtomicBool>,
}

struct SurveyRun<'a> {
    folder: &'a DropFolder,
    watch: &'a SharedWatch,
    batch: Vec<(Sight, Hint)>,
    send: &'a mpsc::Sender<Batch>,
    full: bool,
    refill: Option<Refill>,
    files: usize,
    broken_off: bool,
}

/// What the kernel knows of a file's writers, as a hint.
///
/// A file that is open may just be closing, and was told of before anybody listened: whoever uploads it asks again.
fn closed(folder: &DropFolder, sight: &Sight) -> Hint {
    match sight {
        Sight::File(found) if found.stamp.size > 0 => match folder.open(&found.path).map(|opened| opened.writer()) {
            Ok(Writer::Nobody | Writer::Somebody) => Hint::Closed,
            _ => Hint::Scan,
        },
        _ => Hint::Scan,
    }
}

impl<'a> SurveyRun<'a> {
    fn new(
        folder: &'a DropFolder,
        watch: &'a SharedWatch,
        send: &'a mpsc::Sender<Batch>,
        full: bool,
        refill: Option<Refill>,
    ) -> Self {
        Self { folder, watch, batch: Vec::new(), send, full, refill, files: 0, broken_off: false }
    }

    /// Looks at `places` and sends what is there. Blocking: it belongs on a thread of its own.
    fn look(&mut self, places: &HintedPaths, now: SystemTime) -> io::Result<()> {
        if places.everywhere {
            self.with_watch(Watch::scan_begins);
            self.scan(Path::new(""), now)?;
            if !self.broken_off {
                self.with_watch(Watch::scan_ends);
            }
        } else {
            for (path, hint) in &places.paths {
                match self.folder.look(path, now)? {
                    Some(Sight::Folder(path)) => self.scan(&path, now)?,
                    Some(sight) => self.see(sight, *hint),
                    None => {}
                }
            }
        }
        self.flush();
        Ok(())
    }

    fn with_watch<T>(&self, act: impl FnOnce(&mut Watch) -> T) -> Option<T> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(act)
    }

    fn scan(&mut self, below: &Path, now: SystemTime) -> io::Result<()> {
        let folder = self.folder;
        let seen = folder.scan(below, now, &mut |sight| {
            // A new folder is filled before it can be watched: nobody will tell that these files were closed.
            let hint = if self.full { Hint::Scan } else { closed(folder, &sight) };
            self.see(sight, hint);
            self.broken_off = self.has_seen_enough();
            if self.broken_off { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match seen {
            // A folder below that went away in the meantime is no fault; the drop folder itself is.
            Err(error) if below.as_os_str().is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    fn has_seen_enough(&self) -> bool {
        self.refill.as_ref().is_some_and(|refill| self.files >= refill.least && refill.full.load(Ordering::Relaxed))
    }

    fn see(&mut self, sight: Sight, hint: Hint) {
        if let Sight::Folder(path) = &sight {
            if let Some(Err(reason)) = self.with_watch(|watch| watch.cover(path)) {
                tracing::warn!("the folders that were quiet for longest are found by the rescan alone: {reason}");
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
            let batch = Batch { sights: std::mem::take(&mut self.batch), from_full_scan: self.full };
            // The loop is gone: nobody is left to tell.
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
        surveyor.follow(&folder).unwrap();
        let mut scan_for = |surveyor: &mut Surveyor, duration: Duration| {
            if !surveyor.start_scan(&folder, false, minute, now) {
                return false;
            }
            let began = now.steady;
            now.steady += duration;
            let done = SurveyEnd { full_scan: Some(began), broken_off: false, result: Ok(()) };
            surveyor.finished(&done, now);
            now.steady += minute;
            true
        };
        assert!(scan_for(&mut surveyor, Duration::from_secs(1)), "the first");
        assert!(scan_for(&mut surveyor, minute), "a minute later");
        assert!(!scan_for(&mut surveyor, minute), "a minute after one that took a minute");
        surveyor.scan_soon();
        assert!(scan_for(&mut surveyor, minute), "asked for");
        now.steady = surveyor.next_scan().unwrap();
        assert!(surveyor.start_scan(&folder, false, minute, now), "after its rest");
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
        let everywhere = HintedPaths { everywhere: true, ..HintedPaths::default() };
        for (full, least, expected) in [(true, 300, 300), (true, 2000, 1000), (false, 300, 1000)] {
            let (send, mut batches) = mpsc::channel(BATCHES);
            let refill = Refill { least, full: Arc::new(AtomicBool::new(full)) };
            let mut survey = SurveyRun::new(&folder, &watch, &send, true, Some(refill));
            survey.look(&everywhere, SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(survey.broken_off, expected < 1000);
            let seen: usize = std::iter::from_fn(|| batches.try_recv().ok()).map(|batch| batch.sights.len()).sum();
            assert_eq!(seen, expected, "full: {full}, at least {least}");
        }
    }
}
