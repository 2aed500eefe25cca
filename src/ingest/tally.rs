//! What the loop counts and remembers, for the status.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, FixedOffset, Utc};

use super::Stored;
use crate::capture;
use crate::drop_folder::{FoundFile, Sight};
use crate::key::escape_path;
use crate::queue::{self, Queue};
use crate::status::{self, Snapshot};

/// How many cameras are remembered: whoever may push can make up any number of them.
const MOST_CAMERAS: usize = 1000;

/// How many errors are remembered.
const LAST_ERRORS: usize = 10;

#[derive(Debug)]
pub(super) struct IngestTally {
    pub(super) started_at: DateTime<Utc>,
    pub(super) stored: status::StoredTotals,
    pub(super) cameras: BTreeMap<String, status::CameraStatus>,
    last_errors: VecDeque<status::LastError>,
    set_aside: u64,
    set_aside_files: Vec<status::FileStatus>,
    /// What the last full scan saw, and hints since.
    seen: ScanCounts,
    /// What the full scan under way has seen.
    seeing: ScanCounts,
}

#[derive(Debug, Default)]
struct ScanCounts {
    files: u64,
    bytes: u64,
    ignored: u64,
    left_alone: u64,
    oldest: Option<(SystemTime, PathBuf)>,
    not_uploaded: Vec<status::FileStatus>,
    /// How many captures had been stored before.
    stored_before: u64,
}

/// What the queue holds, and what it cannot hold.
#[derive(Debug, Default)]
pub(super) struct Waits {
    pub(super) waiting: status::WaitingCounts,
    pub(super) files: Vec<status::FileStatus>,
    pub(super) oldest: Option<status::OnlyHere>,
}

impl IngestTally {
    pub(super) fn new(started_at: DateTime<Utc>) -> Self {
        Self {
            started_at,
            stored: status::StoredTotals::default(),
            cameras: BTreeMap::new(),
            last_errors: VecDeque::new(),
            set_aside: 0,
            set_aside_files: Vec::new(),
            seen: ScanCounts::default(),
            seeing: ScanCounts::default(),
        }
    }

    pub(super) fn remember_stored(&mut self, stored: &Stored, at: DateTime<Utc>) {
        self.stored.captures += 1;
        self.stored.bytes += stored.size;
        let taken = stored.capture.taken;
        let new = status::CameraStatus { captures: 0, last_taken_at: taken, last_stored_at: at, wrong_clock: None };
        if self.cameras.len() >= MOST_CAMERAS && !self.cameras.contains_key(&stored.capture.camera) {
            let quietest = self.cameras.iter().min_by_key(|(_, camera)| camera.last_stored_at);
            if let Some(quietest) = quietest.map(|(name, _)| name.clone()) {
                self.cameras.remove(&quietest);
            }
        }
        let camera = self.cameras.entry(stored.capture.camera.clone()).or_insert(new);
        camera.captures += 1;
        camera.last_taken_at = camera.last_taken_at.max(taken);
        camera.last_stored_at = at;
    }

    /// Takes note of a camera's time that is not believed; says whether that is news.
    pub(super) fn doubt(&mut self, camera: &str, told: DateTime<FixedOffset>) -> bool {
        let Some(camera) = self.cameras.get_mut(camera) else { return false };
        let captures = camera.wrong_clock.as_ref().map_or(0, |wrong| wrong.captures);
        camera.wrong_clock = Some(status::WrongClock { captures: captures + 1, last_said: told });
        captures == 0
    }

    pub(super) fn remember_error(&mut self, message: String, at: DateTime<Utc>) {
        self.last_errors.push_back(status::LastError { at, message });
        while self.last_errors.len() > LAST_ERRORS {
            self.last_errors.pop_front();
        }
    }

    pub(super) fn remember_set_aside(&mut self, path: &Path, reason: &str) {
        self.set_aside += 1;
        if self.set_aside_files.len() < Snapshot::MOST_FILES {
            let reason = Some(reason.to_owned());
            self.set_aside_files.push(status::FileStatus {
                path: escape_path(path),
                state: "set aside".to_owned(),
                reason,
            });
        }
    }

    pub(super) fn scan_begins(&mut self) {
        self.seeing = ScanCounts { stored_before: self.stored.captures, ..ScanCounts::default() };
    }

    pub(super) fn scan_ends(&mut self) {
        self.seen = std::mem::take(&mut self.seeing);
    }

    /// Counts a file that a full scan came across.
    pub(super) fn see_file(&mut self, found: &FoundFile) {
        let seeing = &mut self.seeing;
        seeing.files += 1;
        seeing.bytes += found.stamp.size;
        let age = found.stamp.modified;
        if seeing.oldest.as_ref().is_none_or(|(oldest, _)| age < *oldest) {
            seeing.oldest = Some((age, found.path.clone()));
        }
    }

    /// Takes note of what is not uploaded.
    pub(super) fn see_other(&mut self, sight: Sight, from_full_scan: bool) {
        let (path, state, reason) = match sight {
            Sight::Ignored(path, pattern) => (path, "ignored", format!("matches {pattern} of drop_folder.ignore")),
            Sight::LeftAlone(path, reason) => (path, "left alone", reason),
            Sight::Folder(_) | Sight::File(_) => return,
        };
        let seen = if from_full_scan { &mut self.seeing } else { &mut self.seen };
        let file = status::FileStatus { path: escape_path(&path), state: state.to_owned(), reason: Some(reason) };
        // A hint may tell of the same file again; beyond the list only a full scan counts.
        let full = seen.not_uploaded.len() >= Snapshot::MOST_FILES;
        let known = !full && !from_full_scan && seen.not_uploaded.contains(&file);
        if from_full_scan || !full && !known {
            seen.ignored += u64::from(state == "ignored");
            seen.left_alone += u64::from(state == "left alone");
        }
        if !full && !known {
            seen.not_uploaded.push(file);
        }
    }

    /// Counts what waits.
    pub(super) fn waits(&self, queue: &Queue) -> Waits {
        let mut waits = Waits::default();
        let waiting = &mut waits.waiting;
        (waiting.ignored, waiting.left_alone, waiting.set_aside) =
            (self.seen.ignored, self.seen.left_alone, self.set_aside);
        let mut oldest = None;
        for place in queue.places() {
            let (count, word) = match place.state {
                queue::FileState::Settling => (&mut waiting.settling, "settling"),
                queue::FileState::Queued => (&mut waiting.queued, "queued"),
                queue::FileState::Uploading => (&mut waiting.uploading, "uploading"),
                queue::FileState::BackingOff => (&mut waiting.backing_off, "backing off"),
            };
            *count += 1;
            waiting.bytes += place.size;
            oldest = oldest.or_else(|| Some((place.modified, place.path.to_owned())));
            if waits.files.len() < Snapshot::MOST_FILES {
                let reason = place.reason.map(str::to_owned);
                waits.files.push(status::FileStatus { path: escape_path(place.path), state: word.to_owned(), reason });
            }
        }
        if queue.left_on_disk() {
            let gone = self.stored.captures - self.seen.stored_before;
            waiting.on_disk = self.seen.files.saturating_sub(gone + queue.len() as u64);
            // As large as the files of the last scan were on the average.
            waiting.bytes += waiting.on_disk * self.seen.bytes.checked_div(self.seen.files).unwrap_or(0);
            oldest = self.seen.oldest.clone().into_iter().chain(oldest).min();
        }
        waits.oldest =
            oldest.map(|(since, path)| status::OnlyHere { path: escape_path(&path), since: capture::arrival(since) });
        waits
    }

    pub(super) fn not_uploaded(&self) -> Vec<status::FileStatus> {
        self.set_aside_files.iter().chain(&self.seen.not_uploaded).cloned().collect()
    }

    pub(super) fn last_errors(&self) -> Vec<status::LastError> {
        self.last_errors.iter().cloned().collect()
    }
}
