//! Local copies after upload: `CAMERA/DATE/file` below one folder, named as in the bucket.
//!
//! They are a convenience; the bucket is the record. So they give way: by age, by what they take together and by what
//! is free, oldest first. Only what this daemon put here goes: a regular file in that shape whose name and size the
//! ledger has, and no link is followed. A copy that the ledger does not know stays, and the log says so once: after a
//! power cut its line may be lost, and a folder of the operator's own may look like ours.
//!
//! A copy is not synced: it moves here by a rename, which costs a card nothing, while a sync would cost it a journal
//! commit for each picture. After a power cut a young copy may be empty or cut; its bytes are in the bucket.
//!
//! Asking the bucket before a copy goes was rejected: it was confirmed before it came here, a box that may only write
//! cannot ask, and a full disk cannot wait for a dead link.

use std::cell::LazyCell;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use sha2::{Digest, Sha256};

use crate::bucket::read_through;
use crate::clock::Now;
use crate::config::{Access, Config, KeepSettings};
use crate::disk::Room;
use crate::drop_folder::ASIDE;
use crate::{key, ledger, retention};

pub mod plan;
#[cfg(test)]
mod tests;

use self::plan::{Day, Policy, plan};

/// Longest file name on the file systems of Linux, in bytes.
const NAME_MAX: usize = 255;

/// Copies of one day that are held in memory together while they are given up.
const BATCH: usize = if cfg!(test) { 16 } else { 4096 };

/// After a run that could give nothing up, a full disk is not walked again for so long.
const FRUITLESS: Duration = Duration::from_mins(1);

/// A copy under way this long ago was left by a crash: its original is still in the drop folder.
const LEFT_BEHIND_AFTER: Duration = Duration::from_hours(1);

/// Not known yet: no run has counted.
const UNCOUNTED: u64 = u64::MAX;

/// The folder of local copies, and how it gives way.
#[derive(Debug)]
pub struct Kept {
    keep: KeepSettings,
    zone: chrono_tz::Tz,
    ledger: PathBuf,
    /// From which age on a day should have its bundle, where this box makes bundles.
    bundled_after: Option<Duration>,
    /// One run at a time.
    turn: Mutex<Turn>,
    bytes: AtomicU64,
    stopped: AtomicBool,
}

/// What one run leaves to the next.
#[derive(Debug, Default)]
struct Turn {
    fruitless: Option<Instant>,
    said_unknown: bool,
    said_clock: bool,
    said_error: bool,
}

/// What a run did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Copies that are gone.
    pub copies: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A run under way.
#[derive(Debug, Default)]
struct Run {
    given: Given,
    /// The dates of which something went.
    dates: Option<(NaiveDate, NaiveDate)>,
    unknown: u64,
    unknown_example: Option<PathBuf>,
    error: Option<String>,
}

impl Kept {
    /// The local copies of a configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            keep: config.keep.clone(),
            zone: config.timezone,
            ledger: ledger::folder(&config.state_dir),
            bundled_after: (config.rotate.archive.as_ref())
                .filter(|_| config.s3.access == Access::ReadWrite)
                .map(|archive| archive.after),
            turn: Mutex::default(),
            bytes: AtomicU64::new(UNCOUNTED),
            stopped: AtomicBool::new(false),
        }
    }

    /// Ends the run under way and any later one that no failed write asks for: a process that stops cannot wait for it.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Bytes of all copies, once they were counted.
    pub fn bytes(&self) -> Option<u64> {
        Some(self.bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes != UNCOUNTED)
    }

    /// Bytes of the copies of one camera-day.
    pub fn bytes_of(&self, camera: &str, date: NaiveDate) -> u64 {
        let folder = self.keep.path.join(camera).join(date.to_string());
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.metadata().ok())
            .filter(std::fs::Metadata::is_file)
            .map(|file| file.len())
            .sum()
    }

    /// Takes note of a copy that came.
    pub fn came(&self, bytes: u64) {
        let add = |known: u64| (known != UNCOUNTED).then(|| known.saturating_add(bytes));
        // Until copies are counted there is nothing to add to.
        let _uncounted = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Gives up what is too old or too much, and at least `more` bytes where there are so many: a write has just
    /// failed. Blocking; the log says what went. Runs wait for each other.
    pub fn give_way(&self, now: Now, more: u64) -> Given {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let in_vain = turn.fruitless.is_some_and(|at| now.steady.saturating_duration_since(at) < FRUITLESS);
        if more > 0 && in_vain || self.must_stop(more) {
            return Given::default();
        }
        let today = chrono::DateTime::<chrono::Utc>::from(now.wall).with_timezone(&self.zone).date_naive();
        let mut run = Run::default();
        match self.walk(now, today, more) {
            Ok(days) => self.give_up(days, today, more, &mut run, &mut turn),
            // Nothing was ever kept.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.bytes.store(0, Ordering::Relaxed),
            Err(error) => {
                run.error = Some(format!("failed to read local copies {}: {error}", self.keep.path.display()));
            }
        }
        if more > 0 {
            turn.fruitless = (run.given.copies == 0).then_some(now.steady);
        }
        run.say(&mut turn);
        run.given
    }

    fn must_stop(&self, more: u64) -> bool {
        more == 0 && self.stopped.load(Ordering::Relaxed)
    }

    fn give_up(&self, mut days: Vec<Day>, today: NaiveDate, more: u64, run: &mut Run, turn: &mut Turn) {
        let believed = plan::believed(today, &days, self.keep.days);
        if believed.is_none() && !days.is_empty() && !turn.said_clock {
            tracing::warn!(
                "by the clock of this box, {today}, every local copy is past keep.days: they stay until the next capture \
                 shows that the clock is right"
            );
        }
        turn.said_clock = believed.is_none() && !days.is_empty();
        let KeepSettings { days: keep_days, max_size, min_free, .. } = self.keep;
        // Counted on from here: a file system may take its time to hand freed blocks out.
        let free = Room::at(&self.keep.path).map_or(u64::MAX, |room| room.free);
        loop {
            let policy = Policy { days: keep_days, max_size, min_free, more: more.saturating_sub(run.given.bytes) };
            let shares = plan(&days, free.saturating_add(run.given.bytes), believed, &policy);
            if shares.is_empty() || self.must_stop(more) {
                break;
            }
            for share in shares {
                let day = &mut days[share.day];
                let whole = share.bytes == day.bytes;
                let stop = || self.must_stop(more);
                let freed = self.give_up_of(day, if whole { u64::MAX } else { share.bytes }, &stop, run);
                day.bytes = day.bytes.saturating_sub(freed);
                // What is left of it cannot be given up; others go instead.
                day.open = !whole && freed >= share.bytes;
            }
        }
        self.bytes.store(days.iter().map(|day| day.bytes).sum(), Ordering::Relaxed);
    }

    /// Gives up at least `wanted` bytes of one day, oldest copies first; answers how many.
    fn give_up_of(&self, day: &Day, wanted: u64, stop: &dyn Fn() -> bool, run: &mut Run) -> u64 {
        let name = day.date.to_string();
        let path = self.keep.path.join(&day.camera).join(&name);
        let before = run.given.bytes;
        let mut work = || -> io::Result<()> {
            let camera = open_below(open_root(&self.keep.path)?.as_fd(), OsStr::new(&day.camera))?;
            let folder = open_below(camera.as_fd(), OsStr::new(&name))?;
            let ledger = ledger::path(&self.ledger, &day.camera, day.date);
            let mut after = None;
            while run.given.bytes - before < wanted && !stop() {
                let batch = oldest(&folder, after.as_ref())?;
                let Some(last) = batch.last().cloned() else { break };
                let known = known(&batch, &ledger);
                for copy in &batch {
                    if run.given.bytes - before >= wanted || stop() {
                        break;
                    }
                    if !known.contains(copy.name.as_str()) {
                        run.unknown += 1;
                        run.unknown_example.get_or_insert_with(|| path.join(&copy.name));
                        continue;
                    }
                    remove(&folder, OsStr::new(&copy.name), AtFlags::empty())?;
                    run.given.copies += 1;
                    run.given.bytes += copy.size;
                    let (from, to) = run.dates.unwrap_or((day.date, day.date));
                    run.dates = Some((from.min(day.date), to.max(day.date)));
                }
                after = Some(last);
            }
            if wanted == u64::MAX {
                // It stays where something else is in it.
                let _not_empty = remove(&camera, OsStr::new(&name), AtFlags::REMOVEDIR);
            }
            Ok(())
        };
        match work() {
            // Somebody else was there first.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let failed = || format!("failed to give up local copies in {}: {error}", path.display());
                run.error.get_or_insert_with(failed);
            }
            Ok(()) => {}
        }
        run.given.bytes - before
    }

    /// Every camera-day that has our shape.
    fn walk(&self, now: Now, today: NaiveDate, more: u64) -> io::Result<Vec<Day>> {
        let root = open_root(&self.keep.path)?;
        let mut days = Vec::new();
        each(&root, |camera, _| {
            let (Ok(folder), Some(camera)) = (open_below(root.as_fd(), camera), camera.to_str()) else { return };
            let is_due = |date| self.bundled_after.is_some_and(|after| retention::is_due(date, after, today));
            // The file of bundles is read for the first day that needs it.
            let bundled = LazyCell::new(|| ledger::bundled_days(&self.ledger, camera));
            // What cannot be read is not ours to judge.
            let _unread = each(&folder, |name, _| {
                let Some(date) = date_of(name).filter(|_| !self.must_stop(more)) else { return };
                let Ok(day) = open_below(folder.as_fd(), name) else { return };
                let bytes = size_of(&day, now).unwrap_or(0);
                let waits = is_due(date) && !bundled.contains(&date);
                days.push(Day { camera: camera.to_owned(), date, bytes, open: true, waits });
            });
        })?;
        Ok(days)
    }
}

impl Run {
    fn say(&self, turn: &mut Turn) {
        if let Some((from, to)) = self.dates {
            let Given { copies, bytes } = self.given;
            tracing::info!(
                "gave up {copies} local copies ({} MiB) of {from} to {to}; the bucket has them",
                bytes >> 20
            );
        }
        if let (Some(example), false) = (&self.unknown_example, turn.said_unknown) {
            turn.said_unknown = true;
            tracing::warn!(
                "{} files among the local copies are not in the ledger and stay, such as {}: remove them if the bucket has them",
                self.unknown,
                crate::key::escape_path(example),
            );
        }
        if let (Some(error), false) = (&self.error, turn.said_error) {
            tracing::warn!("{error}; they stay");
        }
        turn.said_error = self.error.is_some();
    }
}

/// A file that may be a copy; ordered by age, then by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Copy {
    modified: (i64, u64),
    name: String,
    size: u64,
}

/// The oldest regular files of a day after `after`, at most [`BATCH`], oldest first.
fn oldest(day: &OwnedFd, after: Option<&Copy>) -> io::Result<Vec<Copy>> {
    let mut batch = BinaryHeap::new();
    each(day, |name, stat| {
        let Some(name) = name.to_str().filter(|name| is_regular(stat) && !name.starts_with(ASIDE)) else { return };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let copy = Copy { modified: (stat.st_mtime, stat.st_mtime_nsec), name: name.to_owned(), size };
        if after.is_none_or(|after| copy > *after) {
            batch.push(copy);
            if batch.len() > BATCH {
                batch.pop();
            }
        }
    })?;
    Ok(batch.into_sorted_vec())
}

/// Which of `batch` the ledger of that day has. A power cut may have cut a copy, but none grows.
fn known<'a>(batch: &'a [Copy], ledger: &Path) -> HashSet<&'a str> {
    let Ok(entries) = ledger::entries(ledger) else { return HashSet::new() };
    let copies: HashMap<&str, &'a Copy> = batch.iter().map(|copy| (copy.name.as_str(), copy)).collect();
    entries
        .flat_map(|entry| {
            let file = entry.key.rsplit('/').next().unwrap_or_default();
            names(file, &entry.sha256).map(|name| (name, entry.size))
        })
        .filter_map(|(name, size)| copies.get(name.as_str()).filter(|copy| copy.size <= size))
        .map(|copy| copy.name.as_str())
        .collect()
}

/// Bytes of the regular files of a day; what a crash left of a copy under way goes.
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

/// A folder's name, if it is a date as we write it.
fn date_of(name: &OsStr) -> Option<NaiveDate> {
    let name = name.to_str()?;
    NaiveDate::parse_from_str(name, "%Y-%m-%d").ok().filter(|date| date.to_string() == name)
}

/// Shows every entry of a folder with what it is, links as links.
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

/// Where a local copy belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Here, and nothing is there yet.
    Free(PathBuf),
    /// The same bytes are kept already.
    Held,
}

/// Finds the place of a capture's copy below `folder`; an earlier copy with other bytes stays what it is.
///
/// # Errors
/// Where a copy that is there already cannot be read.
pub fn place(folder: &Path, camera: &str, date: NaiveDate, file: &str, sha256: &[u8; 32]) -> io::Result<Place> {
    let day = folder.join(camera).join(date.to_string());
    let names = names(file, &hex::encode(sha256));
    for name in &names {
        let path = day.join(name);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Place::Free(path)),
            Err(error) => return Err(error),
            Ok(copy) if holds(&copy, sha256)? => return Ok(Place::Held),
            Ok(_) => {}
        }
    }
    Err(io::Error::other(format!("two other files are kept as {}", names[0])))
}

/// Where the copy of a key's file may lie below `folder`: under its own name, or beside another one of that name where
/// its SHA-256 is known.
pub fn candidates(folder: &Path, camera: &str, date: NaiveDate, file: &str, sha256: Option<&str>) -> Vec<PathBuf> {
    let day = folder.join(camera).join(date.to_string());
    let [first, second] = names(file, sha256.unwrap_or_default());
    let mut paths = vec![day.join(first)];
    paths.extend(sha256.map(|_| day.join(second)));
    paths
}

/// The names under which a copy of a key's file may lie: its own, and beside another one of that name.
fn names(file: &str, sha256: &str) -> [String; 2] {
    let first = key::bounded(file, NAME_MAX);
    let hash = sha256.get(..8).unwrap_or(sha256);
    let (stem, extension) = first.rsplit_once('.').map_or((first.as_str(), None), |(stem, end)| (stem, Some(end)));
    let suffix = extension.map_or_else(|| format!("~{hash}"), |extension| format!("~{hash}.{extension}"));
    // Cut the stem, not the suffix that tells the two apart.
    let mut keep = stem.len().min(NAME_MAX - suffix.len().min(NAME_MAX));
    while !stem.is_char_boundary(keep) {
        keep -= 1;
    }
    let second = format!("{}{suffix}", &stem[..keep]);
    [first, second]
}

fn holds(copy: &File, sha256: &[u8; 32]) -> io::Result<bool> {
    let mut hash = Sha256::new();
    read_through(copy, 0, copy.metadata()?.len(), |chunk| hash.update(chunk))?;
    Ok(hash.finalize()[..] == sha256[..])
}
