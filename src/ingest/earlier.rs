//! What the ledger knows of a file before it is sent: that it was stored before this start, which names its day has, and
//! which parts of it were stored when it was cut off.
//!
//! A day is read once, at the first file that asks for it, and after that only as far as it has grown, so that a capture
//! costs no more where its day has thousands of lines. One memory serves the whole process, because an upload goes on after
//! a reload has replaced everything else.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::bucket::Content;
use crate::capture::Capture;
use crate::key::{self, ObjectKey};
use crate::ledger::{self, DayFile, LedgerEntry};

/// The most days that are remembered, and the most captures of all of them: about 10 megabytes.
const MOST_DAYS: usize = 4096;
const MOST_CAPTURES: usize = 250_000;

/// The most files that are kept open.
const MOST_OPEN: usize = 8;

static DAYS: Mutex<Option<KnownDays>> = Mutex::new(None);

/// The days that are remembered.
#[derive(Debug, Default)]
struct KnownDays {
    days: HashMap<PathBuf, KnownDay>,
    /// How many captures they have together.
    captures: usize,
}

/// What is known of a camera and day.
#[derive(Debug)]
struct KnownDay {
    file: DayFile,
    captures: Captures,
}

impl KnownDay {
    fn read(path: &Path) -> Self {
        let mut captures = Captures::default();
        let file = DayFile::new(path.to_owned(), |entry| captures.read(entry));
        Self { file, captures }
    }
}

/// What is known of the captures of a day.
#[derive(Debug, Default)]
struct Captures {
    /// The beginning of the SHA-256 of each capture that this process has not stored itself since the day was first asked for.
    stored: HashSet<u64>,
    /// The hash of the key's root, of each.
    names: HashSet<u64>,
    /// Those that were cut off.
    partials: Vec<LedgerEntry>,
}

impl Captures {
    fn read(&mut self, entry: LedgerEntry) {
        self.stored.insert(beginning(&entry.sha256));
        self.add(entry);
    }

    fn add(&mut self, entry: LedgerEntry) {
        self.names.insert(hash(&key::root(&entry.key)));
        let is_same = |known: &LedgerEntry| (&known.key, &known.sha256) == (&entry.key, &entry.sha256);
        if entry.partial && !self.partials.iter().any(is_same) {
            self.partials.push(entry);
        }
    }
}

/// What the ledger knows of a capture.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The parts of it that were stored when it was cut off.
    pub(super) partials: Vec<LedgerEntry>,
    /// The keys under which something of its name was stored, each with the SHA-256 in hexadecimal.
    pub(super) keys: HashMap<String, String>,
}

/// Returns what the ledger knows of a capture.
pub(super) fn known(ledger: &Path, capture: &Capture, first_key: &ObjectKey) -> Known {
    let root = key::root(first_key.as_str());
    let partials = with_day(ledger, capture, |day| {
        day.file.read_on(|entry| day.captures.read(entry));
        let is_of = |entry: &&LedgerEntry| key::root(&entry.key) == root;
        let has_any = day.captures.names.contains(&hash(&root));
        has_any.then(|| day.captures.partials.iter().filter(is_of).cloned().collect())
    });
    let Some(partials) = partials else { return Known::default() };
    let stem = key::stem(first_key.as_str());
    Known { partials, keys: ledger::stored_under(ledger, &capture.camera, capture.taken.date_naive(), stem) }
}

/// Returns the line of a file that was stored before its day was first asked for, with the same bytes.
pub(super) fn stored(ledger: &Path, capture: &Capture, sha256: &[u8; 32]) -> Option<LedgerEntry> {
    let sha256 = hex::encode(sha256);
    if !with_day(ledger, capture, |day| day.captures.stored.contains(&beginning(&sha256))) {
        return None;
    }
    let path = ledger::path(ledger, &capture.camera, capture.taken.date_naive());
    ledger::entries(&path).ok()?.find(|entry| entry.sha256 == sha256)
}

/// Writes the line of a capture; `once` unless it is there already, for an object that was in the bucket before.
///
/// # Errors
/// The error of the file system if the day cannot be read or written.
pub(super) fn write_down(ledger: &Path, capture: &Capture, entry: LedgerEntry, once: bool) -> io::Result<()> {
    with_day(ledger, capture, |day| {
        let read = |entry| day.captures.read(entry);
        if once { day.file.append_once(&entry, read) } else { day.file.append(&entry, read) }?;
        day.captures.add(entry);
        Ok(())
    })
}

/// Returns whether a content of this size begins with the bytes of a part that was stored.
///
/// # Errors
/// The error of the file system if it cannot be read.
pub(super) fn begins_with(content: &Content, size: u64, part: &LedgerEntry) -> io::Result<bool> {
    Ok(part.size <= size && hex::encode(content.sha256(part.size)?) == part.sha256)
}

fn beginning(sha256: &str) -> u64 {
    sha256.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

fn hash(root: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(root)
}

fn with_day<T>(ledger: &Path, capture: &Capture, ask: impl FnOnce(&mut KnownDay) -> T) -> T {
    let path = ledger::path(ledger, &capture.camera, capture.taken.date_naive());
    let mut known = lock();
    let known = known.get_or_insert_default();
    if known.days.len() >= MOST_DAYS || known.captures >= MOST_CAPTURES {
        *known = KnownDays::default();
    }
    let KnownDays { days, captures } = known;
    let day = days.entry(path).or_insert_with_key(|path| {
        let day = KnownDay::read(path);
        *captures += day.captures.names.len();
        day
    });
    let (before, was_open) = (day.captures.names.len(), day.file.is_open());
    let told = ask(day);
    *captures += day.captures.names.len() - before;
    if !was_open && day.file.is_open() && days.values().filter(|day| day.file.is_open()).count() > MOST_OPEN {
        for day in days.values_mut() {
            day.file.close();
        }
    }
    told
}

fn lock() -> MutexGuard<'static, Option<KnownDays>> {
    // A panic elsewhere leaves the days whole.
    DAYS.lock().unwrap_or_else(PoisonError::into_inner)
}
