//! What the ledger knows of a file before it is sent: that it was stored before this start, and which parts of it were
//! stored when it was cut off.
//!
//! A day is read once, at the first file that asks for it, so that a capture costs no more where its day has thousands of
//! lines. One memory serves the whole process, because an upload goes on after a reload has replaced everything else.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::bucket::Content;
use crate::capture::Capture;
use crate::key::{self, ObjectKey};
use crate::ledger::{self, LedgerEntry};

/// The most days that are remembered, and the most captures of all of them: about 10 megabytes.
const MOST_DAYS: usize = 4096;
const MOST_CAPTURES: usize = 500_000;

static DAYS: Mutex<Option<KnownDays>> = Mutex::new(None);

/// The days that are remembered.
#[derive(Debug, Default)]
struct KnownDays {
    days: HashMap<PathBuf, KnownDay>,
    /// How many captures they have together.
    captures: usize,
}

/// What is known of a camera and day.
#[derive(Debug, Default)]
struct KnownDay {
    /// The beginning of the SHA-256 of each capture that was stored before the day was first asked for.
    stored: HashSet<u64>,
    /// The captures that were cut off.
    partials: Vec<LedgerEntry>,
}

/// Returns the parts of a capture that were stored when it was cut off.
pub(super) fn partials(ledger: &Path, capture: &Capture, first_key: &ObjectKey) -> Vec<LedgerEntry> {
    let is_of = |entry: &&LedgerEntry| key::root(&entry.key) == key::root(first_key.as_str());
    with_day(ledger, capture, |day| day.partials.iter().filter(is_of).cloned().collect())
}

/// Returns the line of a file that was stored before its day was first asked for, with the same bytes.
pub(super) fn stored(ledger: &Path, capture: &Capture, sha256: &[u8; 32]) -> Option<LedgerEntry> {
    let sha256 = hex::encode(sha256);
    if !with_day(ledger, capture, |day| day.stored.contains(&beginning(&sha256))) {
        return None;
    }
    let path = ledger::path(ledger, &capture.camera, capture.taken.date_naive());
    ledger::entries(&path).ok()?.find(|entry| entry.sha256 == sha256)
}

/// Remembers a capture that was cut off and has just been written down.
pub(super) fn remember(ledger: &Path, capture: &Capture, entry: LedgerEntry) {
    with_day(ledger, capture, |day| {
        if !day.partials.iter().any(|known| (&known.key, &known.sha256) == (&entry.key, &entry.sha256)) {
            day.partials.push(entry);
        }
    });
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

fn with_day<T>(ledger: &Path, capture: &Capture, ask: impl FnOnce(&mut KnownDay) -> T) -> T {
    let path = ledger::path(ledger, &capture.camera, capture.taken.date_naive());
    let mut days = lock();
    let days = days.get_or_insert_default();
    if days.days.len() >= MOST_DAYS || days.captures >= MOST_CAPTURES {
        *days = KnownDays::default();
    }
    let KnownDays { days, captures } = days;
    let day = days.entry(path).or_insert_with_key(|path| {
        let day = read(path);
        *captures += day.stored.len();
        day
    });
    ask(day)
}

fn read(path: &Path) -> KnownDay {
    let mut day = KnownDay::default();
    // A day without a file has no captures yet.
    for entry in ledger::entries(path).into_iter().flatten() {
        day.stored.insert(beginning(&entry.sha256));
        if entry.partial {
            day.partials.push(entry);
        }
    }
    day
}

fn lock() -> MutexGuard<'static, Option<KnownDays>> {
    // A panic elsewhere leaves the days whole.
    DAYS.lock().unwrap_or_else(PoisonError::into_inner)
}
