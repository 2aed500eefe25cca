//! Looking at the folder off the loop: what is seen comes back in batches, and waits where the loop is busy.
//!
//! There are two kinds of survey, at most one of each at a time: a full scan, and a look at the places that hints name,
//! so that a capture just taken does not wait until a million old ones have been counted.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::drop_folder::{DropFolder, EMPTY_FOLDER_AGE, Sight, Writer};
use crate::queue::{Hint, Now};
use crate::watch::{Hints, Places, Watch};

/// Sights that travel together.
const BATCH: usize = 256;

/// Batches that wait for the loop before the survey does.
const BATCHES: usize = 8;

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
pub(super) struct Done {
    /// When it began, if it was a full scan.
    pub(super) full_scan: Option<Instant>,
    pub(super) result: io::Result<()>,
}

type SharedWatch = Arc<Mutex<Option<Watch>>>;

/// Watches the drop folder and looks at it.
#[derive(Debug)]
pub(super) struct Surveyor {
    pub(super) hints: Arc<Hints>,
    pub(super) batches: mpsc::Receiver<Batch>,
    pub(super) tasks: JoinSet<Done>,
    send: mpsc::Sender<Batch>,
    watch: SharedWatch,
    /// The identity of the folder that is watched; `None` while there is none.
    watched: Option<(u64, u64)>,
    polling: bool,
    scanning: bool,
    looking: bool,
    next_scan: Instant,
    /// The clocks when they were last compared.
    compared: Now,
    /// When the wall clock was last seen to have stepped.
    stepped: Option<Instant>,
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
            next_scan: now.steady,
            compared: now,
            stepped: None,
        }
    }

    /// When the next full scan is due.
    pub(super) fn next_scan(&self) -> Instant {
        self.next_scan
    }

    /// Whether hints would be taken now.
    pub(super) fn takes_hints(&self) -> bool {
        !self.looking
    }

    /// Asks for a full scan now.
    pub(super) fn scan_soon(&mut self, now: Now) {
        self.next_scan = now.steady;
    }

    /// Watches the folder if it is not the one that is watched: deleted, made again or mounted over.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) fn follow(&mut self, folder: &DropFolder, now: Now) -> io::Result<()> {
        let identity = folder.identity().inspect_err(|_| self.watched = None)?;
        if self.watched != Some(identity) {
            self.watch_anew(folder, now);
            self.watched = Some(identity);
        }
        Ok(())
    }

    /// Starts without a watch; the full scan that follows covers every folder.
    pub(super) fn watch_anew(&mut self, folder: &DropFolder, now: Now) {
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
        self.scan_soon(now);
    }

    /// Starts a full scan if one is due or `wanted`; says whether it did.
    pub(super) fn start_scan(&mut self, folder: &DropFolder, wanted: bool, rescan: Duration, now: Now) -> bool {
        let due = wanted || now.steady >= self.next_scan;
        if !due || self.scanning || self.watched.is_none() {
            return false;
        }
        self.scanning = true;
        self.next_scan = now.steady + if self.polling { rescan.min(POLL) } else { rescan };
        self.start(folder, Places { everywhere: true, ..Places::default() }, now);
        true
    }

    /// Starts to look where hints point, and at the `settled` files.
    pub(super) fn start_look(&mut self, folder: &DropFolder, settled: Vec<PathBuf>, now: Now) {
        let mut places = self.hints.take();
        if std::mem::take(&mut places.everywhere) {
            self.scan_soon(now);
        }
        places.paths.extend(settled.into_iter().map(|path| (path, Hint::Scan)));
        if !places.paths.is_empty() {
            self.looking = true;
            self.start(folder, places, now);
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

    fn start(&mut self, folder: &DropFolder, places: Places, now: Now) {
        let folder = if self.knows_ages(now) { folder.clone() } else { folder.without_pruning() };
        let (watch, send) = (Arc::clone(&self.watch), self.send.clone());
        self.tasks.spawn_blocking(move || {
            let result = survey(&folder, &watch, &places, now.wall, &send);
            Done { full_scan: places.everywhere.then_some(now.steady), result }
        });
    }

    /// Takes note of the end of a survey, and gives back what it had sent before.
    pub(super) fn finished(&mut self, done: &Done) -> Vec<Batch> {
        if done.full_scan.is_some() {
            self.scanning = false;
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

struct Survey<'a> {
    folder: &'a DropFolder,
    watch: &'a SharedWatch,
    seen_folders: HashSet<PathBuf>,
    batch: Vec<(Sight, Hint)>,
    send: &'a mpsc::Sender<Batch>,
    full: bool,
}

/// Looks at `places` and sends what is there. Blocking: it belongs on a thread of its own.
fn survey(
    folder: &DropFolder,
    watch: &SharedWatch,
    places: &Places,
    now: SystemTime,
    send: &mpsc::Sender<Batch>,
) -> io::Result<()> {
    let full = places.everywhere;
    let mut survey = Survey { folder, watch, seen_folders: HashSet::new(), batch: Vec::new(), send, full };
    if full {
        survey.scan(Path::new(""), now)?;
        if let Some(watch) = &mut *watch.lock().unwrap_or_else(PoisonError::into_inner) {
            watch.retain(&survey.seen_folders);
        }
    } else {
        for (path, hint) in &places.paths {
            match folder.look(path, now)? {
                Some(Sight::Folder(path)) => survey.scan(&path, now)?,
                Some(sight) => survey.see(sight, *hint),
                None => {}
            }
        }
    }
    survey.flush();
    Ok(())
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

impl Survey<'_> {
    fn scan(&mut self, below: &Path, now: SystemTime) -> io::Result<()> {
        let folder = self.folder;
        let seen = folder.scan(below, now, &mut |sight| {
            // A new folder is filled before it can be watched: nobody will tell that these files were closed.
            let hint = if self.full { Hint::Scan } else { closed(folder, &sight) };
            self.see(sight, hint);
        });
        match seen {
            // A folder below that went away in the meantime is no fault; the drop folder itself is.
            Err(error) if below.as_os_str().is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    fn see(&mut self, sight: Sight, hint: Hint) {
        if let Sight::Folder(path) = &sight {
            if let Some(watch) = &mut *self.watch.lock().unwrap_or_else(PoisonError::into_inner)
                && let Err(reason) = watch.cover(path)
            {
                tracing::warn!("some folders are not watched and are found by the rescan alone: {reason}");
            }
            self.seen_folders.insert(path.clone());
            return;
        }
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
}
