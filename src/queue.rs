//! The queue: a bounded view of the drop folder, which decides what is uploaded next.
//!
//! It is pure: it is told which files were seen and when, and says what to do next. It holds the newest files up to a
//! capacity. The older ones stay on disk; as soon as there is room, [`Queue::wants_scan`] asks for a scan that finds
//! them again. The newest file goes first, except that every fourth one is the oldest, so that a backlog always makes
//! some progress.
//!
//! A queue that is complete and durable was rejected: the drop folder already is one.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::clock::{Now, backoff};
use crate::config::UploadSettings;
use crate::drop_folder::{FoundFile, Stamp};
use crate::stored::Stored;

mod file;
mod left;
mod ready;
#[cfg(test)]
mod tests;

pub use file::{Due, Eligible, FailedUpload, FileState, Hint, LARGE_BYTES, LastSeen, QueuedFile, SizeClass};

use file::QueueItem;
use left::LeftFiles;
use ready::{First, ReadyFiles};

/// The most files that are held. At some 300 bytes each they take about a megabyte.
pub const CAPACITY: usize = 4096;

/// A file that failed this often while others were stored has trouble of its own: it keeps its own waits when the
/// bucket answers again.
pub const OWN_TROUBLE: u32 = 2;

/// The first wait of a file that somebody had open for writing when its upload began.
const FIRST_RECHECK: Duration = Duration::from_millis(10);

/// The shortest time to settle that is waited for between two looks, so that a `settle` of 0 does not make the loop
/// spin.
const LEAST_SETTLE: Duration = Duration::from_millis(100);

/// A path below the drop folder.
type Name = Arc<Path>;

/// A file with the time of its last modification, to sort files by age.
type Aged = (SystemTime, Name);

/// The files of the drop folder that are known, the state of each, and the order in which they are uploaded.
#[derive(Debug)]
pub struct Queue {
    items: HashMap<Name, QueueItem>,
    ready: ReadyFiles,
    /// All files by age, to know which to leave to a later scan.
    by_age: BTreeSet<Aged>,
    /// The files that settle or back off, by when they are due.
    timers: BTreeSet<(Instant, Name)>,
    capacity: usize,
    settle: Duration,
    /// How many times a file has been asked for.
    turns: u32,
    left_on_disk: bool,
    /// The file that came last.
    newcomer: Option<Name>,
    left: LeftFiles,
}

impl Queue {
    /// Returns an empty queue for `capacity` files, in which a file settles for `settle`.
    pub fn new(capacity: usize, settle: Duration) -> Self {
        Self {
            items: HashMap::new(),
            ready: ReadyFiles::default(),
            by_age: BTreeSet::new(),
            timers: BTreeSet::new(),
            capacity,
            settle,
            turns: 0,
            left_on_disk: false,
            newcomer: None,
            left: LeftFiles::default(),
        }
    }

    /// Returns how many files it holds at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes how long a file settles, for files that are seen from now on.
    pub fn set_settle(&mut self, settle: Duration) {
        self.settle = settle;
    }

    /// Takes in a file that is in the folder now, or updates it.
    pub fn observe(&mut self, found: &FoundFile, hint: Hint, now: Now) {
        let name: Name = Arc::from(found.path.as_path());
        let Some(item) = self.items.get_mut(&name) else {
            return self.admit(&name, found.stamp, hint, now);
        };
        item.last_seen = now.steady;
        if item.state == FileState::Uploading {
            // Another file may have come under the name while this one was taken away: [`Queue::done`] reports it.
            if item.stamp != found.stamp && item.replaced != Some(Hint::Closed) {
                item.replaced = Some(hint);
            }
            return;
        }
        if item.stamp != found.stamp || hint == Hint::Closed && item.may_have_changed() {
            self.forget(&name);
            return self.admit(&name, found.stamp, hint, now);
        }
        if hint == Hint::Closed && item.state == FileState::BackingOff && item.was_open() {
            return self.enqueue(&name);
        }
        let is_quiet = hint == Hint::Closed || now.steady.duration_since(item.quiet_since) >= self.settle;
        if item.state == FileState::Settling && is_quiet {
            self.arrives(&name);
        } else if item.state == FileState::Settling && item.due <= now.steady {
            let due = item.quiet_since + self.settle;
            self.wait(&name, FileState::Settling, due);
        }
    }

    /// Takes in a file that is not in the queue, if there is room or something older can give way.
    fn admit(&mut self, name: &Name, stamp: Stamp, hint: Hint, now: Now) {
        if self.left.is_put_off(name, &stamp) {
            return;
        }
        if self.items.len() >= self.capacity && !self.put_one_off() && !self.make_room(stamp.modified) {
            self.left_on_disk = true;
            return;
        }
        self.by_age.insert((stamp.modified, Arc::clone(name)));
        self.items.insert(Arc::clone(name), QueueItem::new(stamp, now));
        if hint == Hint::Closed || is_quiet(&stamp, self.settle, now.wall) {
            self.arrives(name);
        } else {
            self.wait(name, FileState::Settling, now.steady + self.settle);
        }
    }

    /// Lets a stored file give up its place; returns whether one did.
    fn put_one_off(&mut self) -> bool {
        let is_idle = |name: &Name| self.items.get(name).is_none_or(|item| item.state != FileState::Uploading);
        let Some(name) = self.left.spare(self.capacity, is_idle) else { return false };
        self.let_go(&name);
        true
    }

    /// Lets the stored files that gave up their places in again; returns whether there were any, for a scan to find.
    pub fn dispose_again(&mut self) -> bool {
        !std::mem::take(&mut self.left.fingerprints).is_empty()
    }

    /// Forgets a file that stays in the folder; if it is stored, its fingerprint is kept.
    fn let_go(&mut self, name: &Name) {
        if let Some(item) = self.items.get(name).filter(|_| self.left.contains(name)) {
            self.left.put_off(name, &item.stamp);
        }
        self.forget(name);
    }

    /// Lets go of the oldest file if it is older than `modified`; returns whether it did. The file stays in the folder.
    fn make_room(&mut self, modified: SystemTime) -> bool {
        let oldest = self
            .by_age
            .iter()
            .take_while(|(age, _)| *age < modified)
            .find(|(_, name)| self.items.get(name).is_some_and(|item| item.state != FileState::Uploading))
            .map(|(_, name)| Arc::clone(name));
        let Some(oldest) = oldest else { return false };
        self.left_on_disk = true;
        self.let_go(&oldest);
        true
    }

    /// Returns the next eligible file to upload, which is [`FileState::Uploading`] from now on; `None` if none is
    /// ready.
    pub fn next(&mut self, eligible: Eligible, now: Now) -> Option<Due> {
        self.wake(now);
        self.turns = self.turns.wrapping_add(1);
        let is_backlog_turn = self.turns.is_multiple_of(UploadSettings::BACKLOG_TURN);
        let first = if is_backlog_turn { First::Oldest } else { First::Newest };
        let name = self.ready.pop(first, eligible)?;
        self.give_out(&name)
    }

    /// Returns the file with which to find out whether the bucket stores again; it is [`FileState::Uploading`] from now
    /// on.
    ///
    /// It is the one that failed least often, and the newest of those: a file that fails by itself does not keep the
    /// others waiting, and a capture just taken goes first.
    pub fn next_to_probe(&mut self, now: Now) -> Option<Due> {
        self.wake(now);
        let failures = |name: &Name| self.items.get(name).map_or(0, |item| item.failures);
        let name = self.ready.pop_least_failed(failures)?;
        self.give_out(&name)
    }

    fn give_out(&mut self, name: &Name) -> Option<Due> {
        let item = self.items.get_mut(name)?;
        item.state = FileState::Uploading;
        Some(Due { path: name.to_path_buf(), size: SizeClass::of(item.stamp.size) })
    }

    /// Returns a file as it was last seen, and how long it has been so; `None` if it is not in the queue.
    ///
    /// Its age is counted by the wall clock until it was first seen and by the steady clock since, so that a step of
    /// the wall clock makes no file older.
    pub fn last_seen(&self, path: &Path, now: Now) -> Option<LastSeen> {
        let item = self.items.get(path)?;
        let age = item.stamp.age(item.seen.wall) + now.steady.duration_since(item.seen.steady);
        Some(LastSeen { stamp: item.stamp, age })
    }

    /// Returns whether the file that came last still waits for its first attempt.
    pub fn has_newcomer(&self) -> bool {
        let item = self.newcomer.as_ref().and_then(|name| self.items.get(name));
        item.is_some_and(|item| item.state == FileState::Queued && item.failures == 0)
    }

    /// Queues the files that have backed off for long enough.
    fn wake(&mut self, now: Now) {
        for name in self.due(FileState::BackingOff, now) {
            self.enqueue(&name);
        }
    }

    /// Returns the files that may have settled: they have to be looked at again.
    pub fn settled(&mut self, now: Now) -> Vec<PathBuf> {
        let due = self.due(FileState::Settling, now);
        for name in &due {
            // A look that fails must not be repeated immediately.
            self.wait(name, FileState::Settling, now.steady + self.settle.max(LEAST_SETTLE));
        }
        due.iter().map(|name| name.to_path_buf()).collect()
    }

    /// Returns the files in `state` whose wait is over.
    fn due(&self, state: FileState, now: Now) -> Vec<Name> {
        self.timers
            .iter()
            .take_while(|(due, _)| *due <= now.steady)
            .filter(|(_, name)| self.items.get(name).is_some_and(|item| item.state == state))
            .map(|(_, name)| Arc::clone(name))
            .collect()
    }

    /// Returns when the next wait of a file is over, so that [`Queue::next`] or [`Queue::settled`] has it; `None` if
    /// none waits.
    pub fn next_wake(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Forgets a file that is uploaded, set aside or gone.
    ///
    /// Returns a hint if another file was seen under its name meanwhile: that one has to be looked at.
    pub fn done(&mut self, path: &Path) -> Option<Hint> {
        let replaced = self.items.get(path).and_then(|item| item.replaced);
        self.forget(&Arc::from(path));
        replaced
    }

    /// Lets a file that somebody had open for writing settle again: first for a moment, then for ever longer.
    ///
    /// For a moment, because the kernel reports a close before it stops counting the writer: a file that was just
    /// closed can look open. `most` is the longest wait.
    pub fn settle_again(&mut self, path: &Path, reason: &str, most: Duration, now: Now) {
        let Some(item) = self.items.get_mut(path) else { return };
        item.found_open += 1;
        let longest = self.settle.min(most).max(LEAST_SETTLE);
        let wait = backoff(item.found_open, FIRST_RECHECK, longest, 0.0);
        // If it has not changed by then, it is due, however long `settle` is.
        item.quiet_since = (now.steady + wait).checked_sub(self.settle).unwrap_or(now.steady);
        item.reason = Some(reason.to_owned());
        self.wait(&Arc::from(path), FileState::Settling, now.steady + wait);
    }

    /// Counts a failed upload, and returns how often the file failed while others were stored.
    ///
    /// 0 means that the bucket, or the way to it, may be the cause; from [`OWN_TROUBLE`] on, the file is. The caller
    /// must then call [`Queue::hold`].
    pub fn failed(&mut self, path: &Path, failure: FailedUpload) -> u32 {
        let Some(item) = self.items.get_mut(path) else { return 0 };
        item.failures += 1;
        let others_were_stored = item.failed_at.unwrap_or(failure.stored_at_start) < failure.stored_now;
        // A file that is known for its own trouble waits ever longer, even if no other files come.
        let has_own_trouble = item.own_failures >= OWN_TROUBLE && !failure.is_link_down;
        if others_were_stored || has_own_trouble {
            item.own_failures += 1;
        }
        item.failed_at = Some(failure.stored_now);
        item.own_failures
    }

    /// Returns how often a file failed, whatever the cause.
    pub fn failures(&self, path: &Path) -> u32 {
        self.items.get(path).map_or(0, |item| item.failures)
    }

    /// Lets a file wait until a known time; returns whether the reason differs from the one before.
    pub fn hold(&mut self, path: &Path, reason: &str, until: Instant) -> bool {
        let name: Name = Arc::from(path);
        let before = self.items.get_mut(&name).and_then(|item| item.reason.replace(reason.to_owned()));
        self.wait(&name, FileState::BackingOff, until);
        before.as_deref() != Some(reason)
    }

    /// Remembers that a file is stored, so that its next turn does not upload it again.
    ///
    /// This is forgotten together with the file, and when the file changes.
    pub fn remember_stored(&mut self, path: &Path, stored: Arc<Stored>) {
        let Some((name, item)) = self.items.get_key_value(path) else { return };
        let (name, before) = (Arc::clone(name), item.stamp.modified);
        self.by_age.remove(&(before, Arc::clone(&name)));
        self.by_age.insert((stored.stamp.modified, Arc::clone(&name)));
        let Some(item) = self.items.get_mut(&name) else { return };
        // A failed attempt to take it away has changed its times, which is no change by anybody else.
        item.stamp = stored.stamp;
        if stored.left.is_some() {
            self.left.insert(name);
        }
        item.stored = Some(stored);
    }

    /// Returns the capture of a file that is stored already.
    pub fn stored(&self, path: &Path) -> Option<Arc<Stored>> {
        self.items.get(path)?.stored.as_ref().map(Arc::clone)
    }

    /// Returns how many files of the queue are stored but could not be taken out of the folder.
    pub fn left(&self) -> usize {
        self.left.in_queue()
    }

    /// Queues all files that failed because of the bucket, which answers again; those with trouble of their own wait
    /// on.
    pub fn retry_all(&mut self) {
        self.retry(|item| item.own_failures < OWN_TROUBLE);
    }

    /// Queues all files that failed, whatever the cause: somebody says that it is mended.
    pub fn retry_even_own_trouble(&mut self) {
        self.retry(|_| true);
    }

    fn retry(&mut self, which: impl Fn(&QueueItem) -> bool) {
        let names: Vec<Name> = self
            .items
            .iter()
            .filter(|(_, item)| item.state == FileState::BackingOff && item.failures > 0 && which(item))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in names {
            self.enqueue(&name);
        }
    }

    /// Forgets the files that a full scan which began at `began` did not find; returns their number and bytes.
    pub fn scanned(&mut self, began: Instant) -> (u64, u64) {
        let gone: Vec<(Name, u64)> = self
            .items
            .iter()
            .filter(|(_, item)| item.state != FileState::Uploading && item.last_seen < began)
            .map(|(name, item)| (Arc::clone(name), item.stamp.size))
            .collect();
        for (name, _) in &gone {
            self.forget(name);
        }
        (gone.len() as u64, gone.iter().map(|(_, size)| size).sum())
    }

    /// Begins a full scan: [`Queue::left_on_disk`] tells from now on whether this one finds more than there is room
    /// for.
    pub fn scan_begins(&mut self) {
        self.left_on_disk = false;
    }

    /// Returns whether files were left on disk for which there is room now.
    pub fn wants_scan(&self) -> bool {
        self.left_on_disk && self.items.len().saturating_sub(self.left()) <= self.capacity / 4
    }

    /// Returns whether files were left on disk, so that [`Queue::files`] are not all.
    pub fn left_on_disk(&self) -> bool {
        self.left_on_disk || !self.left.fingerprints.is_empty()
    }

    /// Returns how many files are in the queue, in any state.
    pub fn count(&self) -> usize {
        self.items.len()
    }

    /// Returns every file in the queue, oldest first.
    pub fn files(&self) -> impl Iterator<Item = QueuedFile<'_>> {
        self.by_age.iter().filter_map(|(_, name)| {
            let item = self.items.get(name)?;
            Some(QueuedFile {
                path: name,
                state: item.state,
                size: item.stamp.size,
                modified: item.stamp.modified,
                reason: item.reason.as_deref(),
                is_left: self.left.contains(name),
            })
        })
    }

    /// Queues a file that has come or has settled.
    fn arrives(&mut self, name: &Name) {
        // A file that was open for writing is looked at again and again, which makes it no newcomer.
        if self.items.get(name).is_some_and(|item| item.found_open == 0) {
            self.newcomer = Some(Arc::clone(name));
        }
        self.enqueue(name);
    }

    fn enqueue(&mut self, name: &Name) {
        let Some(item) = self.items.get_mut(name) else { return };
        self.timers.remove(&(item.due, Arc::clone(name)));
        item.state = FileState::Queued;
        self.ready.insert(SizeClass::of(item.stamp.size), item.stamp.modified, name);
    }

    fn wait(&mut self, name: &Name, state: FileState, due: Instant) {
        let Some(item) = self.items.get_mut(name) else { return };
        self.timers.remove(&(item.due, Arc::clone(name)));
        self.ready.remove(SizeClass::of(item.stamp.size), item.stamp.modified, name);
        item.state = state;
        item.due = due;
        self.timers.insert((due, Arc::clone(name)));
    }

    fn forget(&mut self, name: &Name) {
        let Some(item) = self.items.remove(name) else { return };
        self.left.remove(name);
        self.timers.remove(&(item.due, Arc::clone(name)));
        self.ready.remove(SizeClass::of(item.stamp.size), item.stamp.modified, name);
        self.by_age.remove(&(item.stamp.modified, Arc::clone(name)));
    }
}

/// Returns whether a file has not changed for `settle` by the wall clock; a file from the future has not.
///
/// The change time counts as well as the modification time, because no FTP command can set it back.
fn is_quiet(stamp: &Stamp, settle: Duration, wall: SystemTime) -> bool {
    [stamp.modified, stamp.changed].iter().all(|time| wall.duration_since(*time).is_ok_and(|age| age >= settle))
}
