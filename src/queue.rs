//! What is due now: a bounded view of the drop folder, and no more than that.
//!
//! Pure: it is told what was seen and when, and says what to do next. It holds the newest files up to a capacity; the
//! older ones stay on disk, and once there is room a scan finds them again ([`Queue::wants_scan`]). Newest first, but
//! every fourth turn goes to the oldest, so that a backlog always makes some progress.
//!
//! A queue that is complete and durable was rejected: the folder already is one.
//!
//! A file that is stored but cannot be taken away (its disk has turned read-only) gives its place up to one that is not
//! stored yet; of each of those no more than a fingerprint is held, so that it is not sent again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::clock::{Now, backoff};
use crate::config::UploadSettings;
use crate::drop_folder::{Found, Stamp};
use crate::stored::Stored;

#[cfg(test)]
mod tests;

/// How many files are held. At some 300 bytes each this is about a megabyte.
pub const CAPACITY: usize = 4096;

/// How many stored files keep their place, to find out whether they can be taken away again.
const LEFT_IN_PLACE: usize = 64;

/// How many fingerprints are held, of 8 bytes each: with what a set needs around them, about 5 megabytes.
const FINGERPRINTS: usize = 256 * 1024;

/// A file of this many bytes or more is large: a clip, where pictures are smaller.
pub const LARGE_BYTES: u64 = 4 * 1024 * 1024;

/// A file that failed so often while others did not is in trouble of its own: it is left to its own waits when the bucket
/// answers again.
pub const OWN_TROUBLE: u32 = 2;

/// First wait of a file that was open for writing when its turn came.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// A `settle` of 0 must not turn waiting into spinning.
const LEAST_SETTLE: Duration = Duration::from_millis(100);

/// How a file came to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// A scan came across it.
    Scan,
    /// It was closed after writing, or moved in: whole as far as its writer is concerned.
    Closed,
}

/// Where a file in the queue stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Waits until it has been quiet for a while.
    Settling,
    /// Due.
    Queued,
    /// In work.
    Uploading,
    /// Failed, and waits for its next turn.
    BackingOff,
}

#[derive(Debug)]
struct Item {
    stamp: Stamp,
    state: State,
    /// When this stamp was first seen.
    seen: Now,
    /// When it is taken to have begun to be quiet.
    since: Instant,
    /// When the next look is due; in [`Queue::timers`] while settling or backing off.
    due: Instant,
    /// How often it was open for writing when its turn came.
    asked: u32,
    failures: u32,
    /// Failures between which other files were stored.
    own_failures: u32,
    /// How many files had been stored when it last failed.
    failed_at: Option<u64>,
    reason: Option<String>,
    /// That these very bytes are in the bucket already, where only the rest is left to do.
    stored: Option<Arc<Stored>>,
    last_seen: Instant,
    /// How it was seen as something else while it was in work, if it was.
    seen_in_work: Option<Hint>,
}

type Name = Arc<Path>;

/// See the module's text.
#[derive(Debug)]
pub struct Queue {
    items: HashMap<Name, Item>,
    /// Queued files by age.
    queued: Queued,
    /// All files by age, to know which to leave to a later scan.
    by_age: BTreeSet<(SystemTime, Name)>,
    timers: BTreeSet<(Instant, Name)>,
    capacity: usize,
    settle: Duration,
    turn: u32,
    left_on_disk: bool,
    /// The file that came last.
    newcomer: Option<Name>,
    /// Stored files that could not be disposed of.
    left: BTreeSet<Name>,
    /// Fingerprints of those that gave up their place. A chance of one in 10^13 delays a capture until they are cleared.
    put_off: HashSet<u64>,
    hasher: RandomState,
}

/// Queued files by age, the large ones apart, because they may have to wait where small ones need not.
#[derive(Debug, Default)]
struct Queued {
    small: BTreeSet<(SystemTime, Name)>,
    large: BTreeSet<(SystemTime, Name)>,
}

impl Queued {
    fn of_size(&mut self, size: u64) -> &mut BTreeSet<(SystemTime, Name)> {
        if size >= LARGE_BYTES { &mut self.large } else { &mut self.small }
    }

    /// Takes out the oldest or the newest.
    fn pop(&mut self, oldest: bool, only_small: bool) -> Option<Name> {
        let end = |files: &BTreeSet<(SystemTime, Name)>| if oldest { files.first() } else { files.last() }.cloned();
        let (small, large) = (end(&self.small), if only_small { None } else { end(&self.large) });
        let found = if oldest { small.into_iter().chain(large).min() } else { small.max(large) }?;
        let _ = self.small.remove(&found) || self.large.remove(&found);
        Some(found.1)
    }
}

/// Which files are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever is due.
    Any,
    /// Only what is below [`LARGE_BYTES`].
    Small,
}

/// A file that is in work now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Below the drop folder.
    pub path: PathBuf,
    /// Whether it has [`LARGE_BYTES`] or more.
    pub large: bool,
}

/// A file's place in the queue, for `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Below the drop folder.
    pub path: &'a Path,
    /// Where it stands.
    pub state: State,
    /// Its bytes.
    pub size: u64,
    /// Its arrival.
    pub modified: SystemTime,
    /// Why it waits, where there is a reason.
    pub reason: Option<&'a str>,
}

impl Queue {
    /// An empty queue for `capacity` files that lets a file settle for `settle`.
    pub fn new(capacity: usize, settle: Duration) -> Self {
        Self {
            items: HashMap::new(),
            queued: Queued::default(),
            by_age: BTreeSet::new(),
            timers: BTreeSet::new(),
            capacity,
            settle,
            turn: 0,
            left_on_disk: false,
            newcomer: None,
            left: BTreeSet::new(),
            put_off: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    /// Changes how long a file settles, for files that are seen from now on.
    pub fn set_settle(&mut self, settle: Duration) {
        self.settle = settle;
    }

    /// Takes note of a file that is in the folder now.
    pub fn observe(&mut self, found: &Found, hint: Hint, now: Now) {
        let name: Name = Arc::from(found.path.as_path());
        let Some(item) = self.items.get_mut(&name) else {
            return self.admit(&name, found.stamp, hint, now);
        };
        item.last_seen = now.steady;
        if item.state == State::Uploading {
            // Another file may have come under the name while this one was taken away: whoever is done looks again.
            if item.stamp != found.stamp && item.seen_in_work != Some(Hint::Closed) {
                item.seen_in_work = Some(hint);
            }
            return;
        }
        if item.stamp != found.stamp {
            self.forget(&name);
            return self.admit(&name, found.stamp, hint, now);
        }
        let quiet = hint == Hint::Closed || now.steady.duration_since(item.since) >= self.settle;
        if item.state == State::Settling && quiet {
            self.arrives(&name);
        } else if item.state == State::Settling && item.due <= now.steady {
            let due = item.since + self.settle;
            self.wait(&name, State::Settling, due);
        }
    }

    fn admit(&mut self, name: &Name, stamp: Stamp, hint: Hint, now: Now) {
        if !self.put_off.is_empty() && self.put_off.contains(&self.fingerprint(name, &stamp)) {
            return;
        }
        if self.items.len() >= self.capacity && !self.put_one_off() && !self.make_room(stamp.modified) {
            self.left_on_disk = true;
            return;
        }
        let item = Item {
            stamp,
            state: State::Settling,
            seen: now,
            since: now.steady,
            due: now.steady,
            asked: 0,
            failures: 0,
            own_failures: 0,
            failed_at: None,
            reason: None,
            stored: None,
            last_seen: now.steady,
            seen_in_work: None,
        };
        self.by_age.insert((stamp.modified, Arc::clone(name)));
        self.items.insert(Arc::clone(name), item);
        if hint == Hint::Closed || is_quiet(&stamp, self.settle, now.wall) {
            self.arrives(name);
        } else {
            self.wait(name, State::Settling, now.steady + self.settle);
        }
    }

    /// Lets go of a file that is stored, and holds on to its fingerprint.
    fn put_one_off(&mut self) -> bool {
        if self.left.len() <= LEFT_IN_PLACE.min(self.capacity / 4) || self.put_off.len() >= FINGERPRINTS {
            return false;
        }
        let in_work = |name: &Name| self.items.get(name).is_some_and(|item| item.state == State::Uploading);
        let Some(name) = self.left.iter().find(|name| !in_work(name)).map(Arc::clone) else { return false };
        self.let_go(&name);
        true
    }

    /// Takes files in again that had given up their place; says whether there are any, for a scan to find.
    pub fn dispose_again(&mut self) -> bool {
        !std::mem::take(&mut self.put_off).is_empty()
    }

    /// Forgets a file that stays in the folder, but not that it is stored.
    fn let_go(&mut self, name: &Name) {
        if let Some(item) = self.items.get(name).filter(|_| self.left.contains(name)) {
            self.put_off.insert(self.fingerprint(name, &item.stamp));
        }
        self.forget(name);
    }

    fn fingerprint(&self, name: &Name, stamp: &Stamp) -> u64 {
        self.hasher.hash_one((name, stamp.inode, stamp.size, stamp.modified, stamp.changed))
    }

    /// Lets go of the oldest file if it is older than `modified`; it stays in the folder.
    fn make_room(&mut self, modified: SystemTime) -> bool {
        let oldest = self
            .by_age
            .iter()
            .take_while(|(age, _)| *age < modified)
            .find(|(_, name)| self.items.get(name).is_some_and(|item| item.state != State::Uploading))
            .map(|(_, name)| Arc::clone(name));
        let Some(oldest) = oldest else { return false };
        self.left_on_disk = true;
        self.let_go(&oldest);
        true
    }

    /// The next file to upload, now in work; `None` while nothing is due that is wanted.
    pub fn next(&mut self, wanted: Wanted, now: Now) -> Option<Due> {
        self.wake(now);
        self.turn = self.turn.wrapping_add(1);
        let backlog = self.turn.is_multiple_of(UploadSettings::BACKLOG_TURN);
        let name = self.queued.pop(backlog, wanted == Wanted::Small)?;
        let item = self.items.get_mut(&name)?;
        item.state = State::Uploading;
        Some(Due { path: name.to_path_buf(), large: item.stamp.size >= LARGE_BYTES })
    }

    /// A file as it was seen, and for how long it has been so: before that by the wall clock, since by the steady one,
    /// so that a step of the wall clock makes nothing older.
    pub fn rest(&self, path: &Path, now: Now) -> Option<(Stamp, Duration)> {
        let item = self.items.get(path)?;
        Some((item.stamp, item.stamp.age(item.seen.wall) + now.steady.duration_since(item.seen.steady)))
    }

    /// The file to find out with whether the bucket stores again, now in work: what failed least, and the newest of that.
    ///
    /// So no file that fails by itself stands in the way of the others, and a capture just taken goes first.
    /// A picture tells sooner than a clip.
    pub fn next_to_probe(&mut self, now: Now) -> Option<Due> {
        self.wake(now);
        let failures = |(_, name): &&(SystemTime, Name)| self.items.get(name).map_or(0, |item| item.failures);
        let small = self.queued.small.iter().rev().min_by_key(failures);
        let large = self.queued.large.iter().rev().min_by_key(failures);
        let place = small.into_iter().chain(large).min_by_key(failures)?.clone();
        let item = self.items.get_mut(&place.1)?;
        self.queued.of_size(item.stamp.size).remove(&place);
        item.state = State::Uploading;
        Some(Due { path: place.1.to_path_buf(), large: item.stamp.size >= LARGE_BYTES })
    }

    /// Whether the file that came last still waits for its first turn.
    pub fn has_newcomer(&self) -> bool {
        let item = self.newcomer.as_ref().and_then(|name| self.items.get(name));
        item.is_some_and(|item| item.state == State::Queued && item.failures == 0)
    }

    /// Queues what has backed off for long enough.
    fn wake(&mut self, now: Now) {
        for name in self.due(State::BackingOff, now) {
            self.enqueue(&name);
        }
    }

    /// Files that have been quiet for long enough, if they still are what they were: look at them again.
    pub fn settled(&mut self, now: Now) -> Vec<PathBuf> {
        let due = self.due(State::Settling, now);
        for name in &due {
            // A look that fails must not come back at once.
            self.wait(name, State::Settling, now.steady + self.settle.max(LEAST_SETTLE));
        }
        due.iter().map(|name| name.to_path_buf()).collect()
    }

    /// Files in `state` whose time has come.
    fn due(&self, state: State, now: Now) -> Vec<Name> {
        self.timers
            .iter()
            .take_while(|(due, _)| *due <= now.steady)
            .filter(|(_, name)| self.items.get(name).is_some_and(|item| item.state == state))
            .map(|(_, name)| Arc::clone(name))
            .collect()
    }

    /// When [`Queue::next`] or [`Queue::settled`] will have something that they do not have yet.
    pub fn next_wake(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Lets go of a file: it is uploaded, set aside or gone. Where something else was seen under its name meanwhile, it
    /// has to be looked at again, with the hint that is given back.
    pub fn done(&mut self, path: &Path) -> Option<Hint> {
        let seen = self.items.get(path).and_then(|item| item.seen_in_work);
        self.forget(&Arc::from(path));
        seen
    }

    /// A file that turned out to be open for writing is asked again soon, then ever more slowly.
    ///
    /// Soon, because the kernel tells of a close before it counts the writer out: a file just closed can look open.
    pub fn settle_again(&mut self, path: &Path, reason: &str, now: Now) {
        let Some(item) = self.items.get_mut(path) else { return };
        item.asked += 1;
        let wait = backoff(item.asked, ASK_AGAIN, self.settle.max(LEAST_SETTLE), 0.0);
        // Unchanged by then, it is due, whatever `settle` says.
        item.since = (now.steady + wait).checked_sub(self.settle).unwrap_or(now.steady);
        item.reason = Some(reason.to_owned());
        self.wait(&Arc::from(path), State::Settling, now.steady + wait);
    }

    /// Takes note of a failure, and says how often the file failed while others were stored: 0 means that the bucket, or
    /// the way to it, may be to blame, and from [`OWN_TROUBLE`] on it is the file. `began` and `stored` are how many files
    /// had been stored when it was taken up and now; `down` is whether the bucket answers nobody. [`Queue::hold`] must
    /// follow.
    pub fn failed(&mut self, path: &Path, began: u64, stored: u64, down: bool) -> u32 {
        let Some(item) = self.items.get_mut(path) else { return 0 };
        item.failures += 1;
        // Known for its own trouble, it waits ever longer, also while nothing else comes.
        if item.failed_at.unwrap_or(began) < stored || item.own_failures >= OWN_TROUBLE && !down {
            item.own_failures += 1;
        }
        item.failed_at = Some(stored);
        item.own_failures
    }

    /// How often a file failed, whatever was to blame.
    pub fn failures(&self, path: &Path) -> u32 {
        self.items.get(path).map_or(0, |item| item.failures)
    }

    /// A file has to wait until a known time. Says whether the reason is a new one.
    pub fn hold(&mut self, path: &Path, reason: &str, until: Instant) -> bool {
        let name: Name = Arc::from(path);
        let before = self.items.get_mut(&name).and_then(|item| item.reason.replace(reason.to_owned()));
        self.wait(&name, State::BackingOff, until);
        before.as_deref() != Some(reason)
    }

    /// Remembers that a file in work is stored, so that its next turn does not send it again. Forgotten with the file, and
    /// as soon as it is another one.
    pub fn remember_stored(&mut self, path: &Path, stored: Arc<Stored>) {
        let Some((name, item)) = self.items.get_key_value(path) else { return };
        let (name, before) = (Arc::clone(name), item.stamp.modified);
        self.by_age.remove(&(before, Arc::clone(&name)));
        self.by_age.insert((stored.stamp.modified, Arc::clone(&name)));
        let Some(item) = self.items.get_mut(&name) else { return };
        // What a failed disposal did to its times is no change.
        item.stamp = stored.stamp;
        if stored.left.is_some() {
            self.left.insert(name);
        }
        item.stored = Some(stored);
    }

    /// What is stored of a file already.
    pub fn stored(&self, path: &Path) -> Option<Arc<Stored>> {
        self.items.get(path)?.stored.as_ref().map(Arc::clone)
    }

    /// How many files of the queue are stored and could not be disposed of.
    pub fn left(&self) -> usize {
        self.left.len()
    }

    /// Queues everything that failed because of the bucket, not of itself: the bucket answers again.
    pub fn retry_all(&mut self) {
        self.retry(|item| item.own_failures < OWN_TROUBLE);
    }

    /// Queues everything that failed, for whatever reason: somebody says that it is mended.
    pub fn retry_even_own_trouble(&mut self) {
        self.retry(|_| true);
    }

    fn retry(&mut self, which: impl Fn(&Item) -> bool) {
        let names: Vec<Name> = self
            .items
            .iter()
            .filter(|(_, item)| item.state == State::BackingOff && item.failures > 0 && which(item))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in names {
            self.enqueue(&name);
        }
    }

    /// Forgets what a full scan that began at `began` did not come across.
    pub fn scanned(&mut self, began: Instant) {
        let gone: Vec<Name> = self
            .items
            .iter()
            .filter(|(_, item)| item.state != State::Uploading && item.last_seen < began)
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in gone {
            self.forget(&name);
        }
    }

    /// A full scan begins: what it cannot hold will be reported by [`Queue::wants_scan`] again.
    pub fn scan_begins(&mut self) {
        self.left_on_disk = false;
    }

    /// Whether files were left on disk for which there is room now.
    pub fn wants_scan(&self) -> bool {
        self.left_on_disk && self.items.len().saturating_sub(self.left.len()) <= self.capacity / 4
    }

    /// Whether files were left on disk, so that [`Queue::places`] is not all.
    pub fn left_on_disk(&self) -> bool {
        self.left_on_disk || !self.put_off.is_empty()
    }

    /// How many files are in the queue, whatever their state.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Every file in the queue, oldest first.
    pub fn places(&self) -> impl Iterator<Item = Place<'_>> {
        self.by_age.iter().filter_map(|(_, name)| {
            let item = self.items.get(name)?;
            Some(Place {
                path: name,
                state: item.state,
                size: item.stamp.size,
                modified: item.stamp.modified,
                reason: item.reason.as_deref(),
            })
        })
    }

    /// Queues a file that came, or has become quiet.
    fn arrives(&mut self, name: &Name) {
        // One that was open for writing is asked again and again: that is no news.
        if self.items.get(name).is_some_and(|item| item.asked == 0) {
            self.newcomer = Some(Arc::clone(name));
        }
        self.enqueue(name);
    }

    fn enqueue(&mut self, name: &Name) {
        let Some(item) = self.items.get_mut(name) else { return };
        self.timers.remove(&(item.due, Arc::clone(name)));
        item.state = State::Queued;
        self.queued.of_size(item.stamp.size).insert((item.stamp.modified, Arc::clone(name)));
    }

    fn wait(&mut self, name: &Name, state: State, due: Instant) {
        let Some(item) = self.items.get_mut(name) else { return };
        self.timers.remove(&(item.due, Arc::clone(name)));
        self.queued.of_size(item.stamp.size).remove(&(item.stamp.modified, Arc::clone(name)));
        item.state = state;
        item.due = due;
        self.timers.insert((due, Arc::clone(name)));
    }

    fn forget(&mut self, name: &Name) {
        let Some(item) = self.items.remove(name) else { return };
        self.left.remove(name);
        self.timers.remove(&(item.due, Arc::clone(name)));
        self.queued.of_size(item.stamp.size).remove(&(item.stamp.modified, Arc::clone(name)));
        self.by_age.remove(&(item.stamp.modified, Arc::clone(name)));
    }
}

/// Whether a file has been quiet for `settle` by the wall clock, which may have stepped: when in doubt, it has not.
///
/// The change time decides with the modification time, because no FTP command can set it back.
fn is_quiet(stamp: &Stamp, settle: Duration, wall: SystemTime) -> bool {
    [stamp.modified, stamp.changed].iter().all(|time| wall.duration_since(*time).is_ok_and(|age| age >= settle))
}
