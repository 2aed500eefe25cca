//! Local copies after upload, in `CAMERA/DATE/file` below one folder, with the names that they have in the bucket.
//!
//! They are a convenience; the bucket is the record. So they give way, oldest first, by three limits: their age, the
//! bytes that they take together, and the bytes that must stay free. Only a copy that this daemon made is removed: a
//! regular file in that shape whose name and size are in the ledger. No link is followed. A copy that the ledger does
//! not know stays, and the log tells of it once: its line may have been lost in a power cut, and a folder of the
//! owner's may look like ours. A copy of a capture that `verify` found missing in the bucket stays too, because it may be
//! the last one.
//!
//! A copy is not synced: the file is renamed to its place here, which costs a card almost nothing, while a sync would
//! cost a commit of the journal for each picture. After a power cut a recent copy may be empty or cut; its bytes are in
//! the bucket.
//!
//! Asking the bucket before a copy is removed was rejected: the file was confirmed before it became a copy, a box that
//! may only write cannot ask, and a full disk cannot wait for a dead link.

use std::cell::LazyCell;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use chrono::NaiveDate;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use crate::clock::Now;
use crate::config::{Access, Config, KeepSettings};
use crate::disk::Room;
use crate::drop_folder::{ASIDE, system_time};
use crate::message;
use crate::{key, ledger, place, retention};

mod names;
pub mod plan;
#[cfg(test)]
mod tests;

pub use names::{CopyOf, CopyPlace, candidates, place};

use names::names;
use plan::{CopyDay, CopyLimits, plan};

/// The most copies of one day that are held in memory at the same time while they are given up.
const BATCH: usize = if cfg!(test) { 16 } else { 4096 };

/// How long a full disk is not walked again after a run that could give nothing up.
const FRUITLESS: Duration = Duration::from_mins(1);

/// A copy under way that has not changed for this long was left by a crash; its original is still in the drop folder.
const LEFT_BEHIND_AFTER: Duration = Duration::from_hours(1);

/// The value of [`Kept::bytes`] until a run has counted the copies.
const UNCOUNTED: u64 = u64::MAX;

/// The folder of local copies.
#[derive(Debug)]
pub struct Kept {
    keep: KeepSettings,
    zone: chrono_tz::Tz,
    ledger: PathBuf,
    /// The state file that remembers where the disk of the copies is mounted.
    disk_memory: PathBuf,
    /// The device of the folder when its disk was last seen where it belongs.
    device: Mutex<Option<u64>>,
    /// The age at which a day should have its bundle; `None` if this box makes no bundles.
    bundled_after: Option<Duration>,
    /// Only one run at a time.
    memory: Mutex<RunMemory>,
    bytes: AtomicU64,
    stopped: AtomicBool,
}

/// What one run leaves to the next.
#[derive(Debug, Default)]
struct RunMemory {
    /// When a run found nothing to give up although a write needed room.
    fruitless: Option<Instant>,
    reported_unknown: bool,
    /// The example by which the log told of copies that stay because the bucket does not have them.
    reported_missing: Option<PathBuf>,
    reported_clock: bool,
    reported_error: bool,
}

/// What a run gave up.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GivenUp {
    /// The number of copies.
    pub copies: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl GivenUp {
    /// Says what was given up of these days.
    fn of_days(&self, from: NaiveDate, to: NaiveDate) -> String {
        let days = if from == to { from.to_string() } else { format!("{from} to {to}") };
        let (copies, mib) = (self.copies, self.bytes >> 20);
        format!("deleted {copies} local copies of {days} ({mib} MiB) to make room; the bucket has them")
    }
}

/// A run under way.
#[derive(Debug)]
struct Run {
    /// The date of this box, in the zone of the configuration.
    today: NaiveDate,
    now: Now,
    /// The bytes to give up whatever the limits say, because a write needs them; 0 for a run by the limits alone.
    needed: u64,
    given: GivenUp,
    /// The first and last date of what was given up.
    dates: Option<(NaiveDate, NaiveDate)>,
    unknown: u64,
    unknown_example: Option<PathBuf>,
    /// How many copies stay because the bucket does not have them.
    missing: u64,
    missing_example: Option<PathBuf>,
    error: Option<String>,
}

impl Kept {
    /// Returns the local copies of a configuration; nothing is read yet.
    pub fn new(config: &Config) -> Self {
        Self {
            keep: config.keep.clone(),
            zone: config.timezone,
            ledger: ledger::folder(&config.state_dir),
            disk_memory: config.state_dir.join("kept-disk.json"),
            device: Mutex::default(),
            bundled_after: (config.rotate.archive.as_ref())
                .filter(|_| config.s3.access == Access::ReadWrite)
                .map(|archive| archive.after),
            memory: Mutex::default(),
            bytes: AtomicU64::new(UNCOUNTED),
            stopped: AtomicBool::new(false),
        }
    }

    /// Returns where the disk of the copies was mounted, if it is not mounted any more: copies would fill the disk under the
    /// mount point, and be hidden as soon as it is mounted again.
    pub fn missing_disk(&self) -> Option<PathBuf> {
        if self.keep.days == 0 {
            return None;
        }
        let device = rustix::fs::stat(&self.keep.path).ok().map(|found| found.st_dev);
        let mut known = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        if device.is_some() && *known == device {
            return None;
        }
        // What cannot be looked at is reported by whoever writes there.
        let missing = place::missing_disk(&self.disk_memory, &self.keep.path).unwrap_or(None);
        *known = device.filter(|_| missing.is_none());
        missing
    }

    /// Takes the disk on which the folder is now for the right one: the owner says so.
    pub fn accept_disk(&self) {
        if let Err(error) = place::accept_disk(&self.disk_memory, &self.keep.path) {
            tracing::debug!("failed to remember the disk of the local copies: {error}");
        }
    }

    /// Ends the run under way, and every later one except those that a failed write needs: a process that stops cannot
    /// wait for it.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Returns the bytes of all copies; `None` until they have been counted.
    pub fn bytes(&self) -> Option<u64> {
        Some(self.bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes != UNCOUNTED)
    }

    /// Returns the bytes of the copies of one camera and day.
    pub fn bytes_of(&self, camera: &str, date: NaiveDate) -> u64 {
        let folder = self.keep.path.join(camera).join(date.to_string());
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.metadata().ok())
            .filter(std::fs::Metadata::is_file)
            .map(|file| file.len())
            .sum()
    }

    /// Makes sure that a copy of `bytes` leaves the room that incoming captures need. Between two runs an outage's backlog
    /// could otherwise fill a small disk with copies.
    ///
    /// # Errors
    /// An error that means a full disk: older copies should give way, or there should be no copy.
    pub fn hold_room(&self, bytes: u64) -> io::Result<()> {
        match Room::at(&self.keep.path) {
            Some(room) if !room.spares(bytes, self.keep.min_free) => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("{} MiB of {} MiB are free, and keep.min_free needs them", room.free >> 20, room.size >> 20),
            )),
            _ => Ok(()),
        }
    }

    /// Counts a new copy.
    pub fn came(&self, bytes: u64) {
        let add = |known: u64| (known != UNCOUNTED).then(|| known.saturating_add(bytes));
        // It is an error if nothing has been counted yet: the first run counts this copy as well.
        let _uncounted = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Gives up the copies that are too old or too many, and logs what it gave up; returns their number and bytes.
    ///
    /// Blocks, and waits for another run.
    pub fn give_way(&self, now: Now) -> GivenUp {
        self.run(0, now)
    }

    /// Gives up at least this many bytes, or all copies if they have fewer, because a write has just failed.
    ///
    /// Apart from that, it does what [`Kept::give_way`] does. For a minute after a call that found nothing to give up,
    /// it returns immediately.
    pub fn make_room(&self, bytes: u64, now: Now) -> GivenUp {
        self.run(bytes.max(1), now)
    }

    fn run(&self, needed: u64, now: Now) -> GivenUp {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let was_fruitless = memory.fruitless.is_some_and(|at| now.steady.saturating_duration_since(at) < FRUITLESS);
        if needed > 0 && was_fruitless || self.must_stop(needed) {
            return GivenUp::default();
        }
        let today = chrono::DateTime::<chrono::Utc>::from(now.wall).with_timezone(&self.zone).date_naive();
        let mut run = Run::new(today, needed, now);
        match self.walk(&run) {
            Ok(days) => self.give_up(days, &mut run, &mut memory),
            // No copy was ever kept.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.bytes.store(0, Ordering::Relaxed),
            Err(error) => {
                run.error = Some(format!("failed to read local copies {}: {error}", self.keep.path.display()));
            }
        }
        if needed > 0 {
            memory.fruitless = (run.given.copies == 0).then_some(now.steady);
        }
        run.report(&mut memory);
        run.given
    }

    fn must_stop(&self, needed: u64) -> bool {
        needed == 0 && self.stopped.load(Ordering::Relaxed)
    }

    /// Plans and gives up until the limits are kept or nothing more can go.
    fn give_up(&self, mut days: Vec<CopyDay>, run: &mut Run, memory: &mut RunMemory) {
        let today = run.today;
        let believed = plan::believed(today, &days, self.keep.days);
        if believed.is_none() && !days.is_empty() && !memory.reported_clock {
            tracing::warn!(
                message_id = message::COPIES_CLOCK,
                "by the clock of this box, {today}, every local copy is past keep.days: they stay until the next capture \
                 shows that the clock is right"
            );
        }
        memory.reported_clock = believed.is_none() && !days.is_empty();
        let KeepSettings { days: keep_days, max_size, min_free, .. } = self.keep;
        // The file system may take its time to free blocks, so what is given up is added to this.
        let free = Room::at(&self.keep.path).map_or(u64::MAX, |room| room.free);
        loop {
            let needed = run.needed.saturating_sub(run.given.bytes);
            let limits = CopyLimits { days: keep_days, max_size, min_free, needed };
            let shares = plan(&days, free.saturating_add(run.given.bytes), believed, &limits);
            if shares.is_empty() || self.must_stop(run.needed) {
                break;
            }
            for share in shares {
                let day = &mut days[share.day];
                let freed = self.give_up_share(day, share.bytes, run);
                // What is left of it cannot be given up; other days go instead.
                day.open = share.bytes != day.bytes && freed >= share.bytes;
                day.bytes = day.bytes.saturating_sub(freed);
            }
        }
        self.bytes.store(days.iter().map(|day| day.bytes).sum(), Ordering::Relaxed);
    }

    /// Gives up at least this many bytes of one day, oldest copies first, or the whole day if it has no more; returns
    /// the bytes that it gave up.
    fn give_up_share(&self, day: &CopyDay, bytes: u64, run: &mut Run) -> u64 {
        let before = run.given.bytes;
        let until = if bytes == day.bytes { u64::MAX } else { before + bytes };
        match self.give_up_of(day, until, run) {
            Ok(()) => {}
            // Somebody else has removed the folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let folder = self.folder_of(day);
                run.error
                    .get_or_insert_with(|| format!("failed to give up local copies in {}: {error}", folder.display()));
            }
        }
        run.given.bytes - before
    }

    /// Gives up copies of one day, oldest first, until the run has given up `until` bytes; with `u64::MAX`, the whole
    /// day and its folder.
    fn give_up_of(&self, day: &CopyDay, until: u64, run: &mut Run) -> io::Result<()> {
        let name = day.date.to_string();
        let camera = open_below(open_root(&self.keep.path)?.as_fd(), OsStr::new(&day.camera))?;
        let folder = open_below(camera.as_fd(), OsStr::new(&name))?;
        let ledger = ledger::path(&self.ledger, &day.camera, day.date);
        // If that cannot be read, nothing is given up: any copy may be the last one.
        let missing = self.names_of_missing(day)?;
        let mut after = None;
        while run.given.bytes < until && !self.must_stop(run.needed) {
            let batch = oldest(&folder, after.as_ref())?;
            let Some(last) = batch.last().cloned() else { break };
            let known = known(&batch, &ledger);
            for copy in &batch {
                if run.given.bytes >= until || self.must_stop(run.needed) {
                    break;
                }
                if missing.contains(&copy.name) {
                    run.missing += 1;
                    run.missing_example.get_or_insert_with(|| self.folder_of(day).join(&copy.name));
                } else if known.contains(copy.name.as_str()) {
                    remove(&folder, OsStr::new(&copy.name), AtFlags::empty())?;
                    run.gave_up(copy, day.date);
                } else {
                    run.unknown += 1;
                    run.unknown_example.get_or_insert_with(|| self.folder_of(day).join(&copy.name));
                }
            }
            after = Some(last);
        }
        if until == u64::MAX {
            // It fails, and the folder stays, if something else is in it.
            let _not_empty = remove(&camera, OsStr::new(&name), AtFlags::REMOVEDIR);
        }
        Ok(())
    }

    /// Returns the names that copies of captures can have which `verify` found missing in the bucket.
    fn names_of_missing(&self, day: &CopyDay) -> io::Result<HashSet<String>> {
        let missing = ledger::missing(&self.ledger, &day.camera, day.date)?;
        let name = |missing: &ledger::Missing| names(file_of(&missing.entry.key), &missing.entry.sha256);
        Ok(missing.values().flat_map(name).collect())
    }

    fn folder_of(&self, day: &CopyDay) -> PathBuf {
        self.keep.path.join(&day.camera).join(day.date.to_string())
    }

    /// Returns every camera and day whose folder has a name as we write it.
    fn walk(&self, run: &Run) -> io::Result<Vec<CopyDay>> {
        let root = open_root(&self.keep.path)?;
        let mut days = Vec::new();
        each(&root, |camera, _| {
            let (Ok(folder), Some(camera)) = (open_below(root.as_fd(), camera), camera.to_str()) else { return };
            let is_due = |date| self.bundled_after.is_some_and(|after| retention::is_due(date, after, run.today));
            // Only a day that is due needs the list of bundles, so it is read late.
            let bundled = LazyCell::new(|| ledger::bundled_days(&self.ledger, camera));
            // A folder that cannot be read is left alone.
            let _unread = each(&folder, |name, _| {
                let Some(date) = date_of(name).filter(|_| !self.must_stop(run.needed)) else { return };
                let Ok(day) = open_below(folder.as_fd(), name) else { return };
                let bytes = size_of(&day, run.now).unwrap_or(0);
                let waits = is_due(date) && !bundled.contains(&date);
                days.push(CopyDay { camera: camera.to_owned(), date, bytes, open: true, waits });
            });
        })?;
        Ok(days)
    }
}

impl Run {
    fn new(today: NaiveDate, needed: u64, now: Now) -> Self {
        Self {
            today,
            now,
            needed,
            given: GivenUp::default(),
            dates: None,
            unknown: 0,
            unknown_example: None,
            missing: 0,
            missing_example: None,
            error: None,
        }
    }

    fn gave_up(&mut self, copy: &LocalCopy, date: NaiveDate) {
        self.given.copies += 1;
        self.given.bytes += copy.size;
        let (from, to) = self.dates.unwrap_or((date, date));
        self.dates = Some((from.min(date), to.max(date)));
    }

    /// Logs what the run did; troubles that last are logged once.
    fn report(&self, memory: &mut RunMemory) {
        if let Some((from, to)) = self.dates {
            tracing::info!("{}", self.given.of_days(from, to));
        }
        if let (Some(example), false) = (&self.unknown_example, memory.reported_unknown) {
            memory.reported_unknown = true;
            tracing::warn!(
                message_id = message::COPIES_STAY,
                "{} files among the local copies are not in the ledger and stay, such as {}: remove them if the bucket has them",
                self.unknown,
                key::escape_path(example),
            );
        }
        if let (Some(example), None) = (&self.missing_example, &memory.reported_missing) {
            memory.reported_missing = Some(example.clone());
            tracing::error!(
                message_id = message::COPIES_STAY,
                "{} local copies stay whatever the limits say, such as {}: `hk-aws verify` found their captures missing in the \
                 bucket; `hk-aws verify --resend` sends them again",
                self.missing,
                key::escape_path(example),
            );
        }
        if let (Some(error), false) = (&self.error, memory.reported_error) {
            tracing::warn!(message_id = message::COPIES_STAY, "{error}; they stay");
        }
        memory.reported_error = self.error.is_some();
    }
}

/// A file that may be a copy. Copies are sorted by age, then by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct LocalCopy {
    modified: SystemTime,
    name: String,
    size: u64,
}

/// Returns the oldest regular files of a day that come after `after`, oldest first, at most [`BATCH`].
fn oldest(day: &OwnedFd, after: Option<&LocalCopy>) -> io::Result<Vec<LocalCopy>> {
    let mut batch = BinaryHeap::new();
    each(day, |name, stat| {
        let Some(name) = name.to_str().filter(|name| is_regular(stat) && !name.starts_with(ASIDE)) else { return };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let modified = system_time(stat.st_mtime, stat.st_mtime_nsec);
        let copy = LocalCopy { modified, name: name.to_owned(), size };
        if after.is_none_or(|after| copy > *after) {
            batch.push(copy);
            if batch.len() > BATCH {
                batch.pop();
            }
        }
    })?;
    Ok(batch.into_sorted_vec())
}

/// Returns the names in `batch` that the ledger of the day has.
///
/// A copy may be shorter than its line says, because a power cut may have cut it, but not longer.
fn known<'a>(batch: &'a [LocalCopy], ledger: &Path) -> HashSet<&'a str> {
    let Ok(entries) = ledger::entries(ledger) else { return HashSet::new() };
    let copies: HashMap<&str, &'a LocalCopy> = batch.iter().map(|copy| (copy.name.as_str(), copy)).collect();
    entries
        .flat_map(|entry| names(file_of(&entry.key), &entry.sha256).map(|name| (name, entry.size)))
        .filter_map(|(name, size)| copies.get(name.as_str()).filter(|copy| copy.size <= size))
        .map(|copy| copy.name.as_str())
        .collect()
}

fn file_of(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or_default()
}

/// Returns the bytes of the regular files of a day, and removes copies under way that a crash left.
fn size_of(day: &OwnedFd, now: Now) -> io::Result<u64> {
    let wall = now.wall.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut bytes = 0;
    each(day, |name, stat| {
        if !is_regular(stat) {
            return;
        }
        if name.as_bytes().starts_with(ASIDE.as_bytes()) {
            let changed = Duration::from_secs(u64::try_from(stat.st_ctime).unwrap_or(0));
            if wall.checked_sub(changed).is_some_and(|age| age > LEFT_BEHIND_AFTER) {
                let _next_time = remove(day, name, AtFlags::empty());
            }
            return;
        }
        bytes += u64::try_from(stat.st_size).unwrap_or(0);
    })?;
    Ok(bytes)
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Returns the date in a folder's name; `None` if it is not written as we write it.
fn date_of(name: &OsStr) -> Option<NaiveDate> {
    let name = name.to_str()?;
    NaiveDate::parse_from_str(name, "%Y-%m-%d").ok().filter(|date| date.to_string() == name)
}

/// Calls `see` for every entry of a folder; links are not followed.
fn each(folder: &OwnedFd, mut see: impl FnMut(&OsStr, &Stat)) -> io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        if let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            see(name, &stat);
        }
    }
    Ok(())
}

fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn open_below(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?)
}

#[expect(clippy::disallowed_methods, reason = "the home of removal of local copies, which the bucket has")]
fn remove(folder: &OwnedFd, name: &OsStr, flags: AtFlags) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(folder, name, flags)?)
}
