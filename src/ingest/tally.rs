//! What the loop counts and remembers for the status.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, FixedOffset, Utc};

use super::Stored;
use super::clock_offset::ClockWatch;
use super::survey::SurveyKind;
use crate::capture;
use crate::drop_folder::{FoundFile, Sight, UNREADABLE};
use crate::key::escape_path;
use crate::queue::{FileState, Queue};
use crate::set_aside::SetAside;
use crate::status::{self, Snapshot};

/// The most cameras that are remembered: whoever may push can make up any number of names.
const MOST_CAMERAS: usize = 1000;

/// The number of errors that are remembered.
const LAST_ERRORS: usize = 10;

/// The counts since the start, and those of the last full scan.
#[derive(Debug)]
pub(super) struct IngestTally {
    pub(super) started_at: DateTime<Utc>,
    pub(super) stored: status::StoredTotals,
    pub(super) cameras: BTreeMap<String, status::CameraStatus>,
    pub(super) counters: Arc<status::Counters>,
    pub(super) clocks: BTreeMap<String, ClockWatch>,
    last_errors: VecDeque<status::LastError>,
    set_aside: SetAside,
    /// What the last full scan found, and what looks have found since.
    counted: ScanCounts,
    /// What the full scan under way has found so far.
    counting: ScanCounts,
}

/// What a full scan found.
#[derive(Debug, Default)]
struct ScanCounts {
    files: u64,
    bytes: u64,
    ignored: u64,
    left_alone: u64,
    unreadable: u64,
    oldest: Option<(SystemTime, PathBuf)>,
    not_uploaded: Vec<status::FileStatus>,
    /// How many captures had been stored when it began.
    stored_before: u64,
}

/// The files that wait, in the queue and on disk.
#[derive(Debug, Default)]
pub(super) struct WaitReport {
    pub(super) waiting: status::WaitingCounts,
    pub(super) files: Vec<status::FileStatus>,
    pub(super) oldest: Option<status::OnlyHere>,
}

impl IngestTally {
    /// Returns empty counts; of some clocks something was said before the start.
    pub(super) fn new(started_at: DateTime<Utc>, clocks: BTreeMap<String, ClockWatch>) -> Self {
        Self {
            started_at,
            stored: status::StoredTotals::default(),
            cameras: BTreeMap::new(),
            counters: Arc::default(),
            clocks,
            last_errors: VecDeque::new(),
            set_aside: SetAside::default(),
            counted: ScanCounts::default(),
            counting: ScanCounts::default(),
        }
    }

    /// Counts a stored capture. If there are too many cameras, the one that stored nothing for longest is forgotten.
    pub(super) fn remember_stored(&mut self, stored: &Stored, at: DateTime<Utc>) {
        self.stored.captures += 1;
        self.stored.bytes += stored.size;
        let taken = stored.capture.taken;
        let new = status::CameraStatus {
            captures: 0,
            newest_day: None,
            last_taken_at: taken,
            last_stored_at: at,
            wrong_clock: None,
            clock_offset: self.clocks.get(&stored.capture.camera).and_then(|clock| clock.said().cloned()),
        };
        if self.cameras.len() >= MOST_CAMERAS && !self.cameras.contains_key(&stored.capture.camera) {
            let quietest = self.cameras.iter().min_by_key(|(_, camera)| camera.last_stored_at);
            if let Some(quietest) = quietest.map(|(name, _)| name.clone()) {
                self.cameras.remove(&quietest);
                self.clocks.remove(&quietest);
            }
        }
        let camera = self.cameras.entry(stored.capture.camera.clone()).or_insert(new);
        camera.captures += 1;
        camera.last_taken_at = camera.last_taken_at.max(taken);
        camera.last_stored_at = at;
        let date = taken.date_naive();
        let day = camera.newest_day.get_or_insert(status::DayCount { date, captures: 0 });
        if day.date < date {
            *day = status::DayCount { date, captures: 0 };
        }
        day.captures += u64::from(day.date == date);
        let delay = (at - capture::arrival(stored.stamp.modified)).to_std().unwrap_or_default();
        self.counters().stored(&stored.capture.camera, stored.capture.event.as_deref(), stored.size, delay);
    }

    /// Returns the counters; whoever has a snapshot keeps the ones in it.
    pub(super) fn counters(&mut self) -> &mut status::Counters {
        Arc::make_mut(&mut self.counters)
    }

    /// Counts a time of a camera's clock that is not believed; returns whether it is the first of this camera.
    pub(super) fn doubt(&mut self, camera: &str, told: DateTime<FixedOffset>) -> bool {
        let Some(camera) = self.cameras.get_mut(camera) else { return false };
        let captures = camera.wrong_clock.as_ref().map_or(0, |wrong| wrong.captures);
        camera.wrong_clock = Some(status::WrongClock { captures: captures + 1, last_said: told, is_now: true });
        captures == 0
    }

    /// Takes note of a time of a camera's clock that is believed.
    pub(super) fn believe(&mut self, camera: &str) {
        if let Some(wrong) = self.cameras.get_mut(camera).and_then(|camera| camera.wrong_clock.as_mut()) {
            wrong.is_now = false;
        }
    }

    /// Holds a capture's time against its arrival; returns whether what is to be said of its camera's clock has changed.
    pub(super) fn watch_clock(&mut self, stored: &Stored) -> bool {
        let capture = &stored.capture;
        let clock = self.clocks.entry(capture.camera.clone()).or_default();
        let has_changed = clock.see(capture, capture::arrival(stored.stamp.modified));
        if let Some(camera) = self.cameras.get_mut(&capture.camera) {
            camera.clock_offset = clock.said().cloned();
        }
        has_changed
    }

    /// Remembers an error, and forgets the oldest if there are too many.
    pub(super) fn remember_error(&mut self, message: String, at: DateTime<Utc>) {
        self.last_errors.push_back(status::LastError { at, message });
        while self.last_errors.len() > LAST_ERRORS {
            self.last_errors.pop_front();
        }
    }

    /// Counts a file that was set aside just now under this path, as it is shown.
    pub(super) fn remember_set_aside(&mut self, path: &str, reason: &str) {
        self.set_aside.files += 1;
        if self.set_aside.named.len() < Snapshot::MOST_FILES {
            self.set_aside.named.push((path.to_owned(), Some(reason.to_owned())));
        }
    }

    /// Replaces the count of what is set aside by what was found on the disk.
    pub(super) fn know_set_aside(&mut self, found: SetAside) {
        self.set_aside = found;
    }

    /// Begins to count a full scan.
    pub(super) fn scan_begins(&mut self) {
        self.counting = ScanCounts { stored_before: self.stored.captures, ..ScanCounts::default() };
    }

    /// Replaces the counts of the last full scan by those of the scan that has just ended.
    pub(super) fn scan_ends(&mut self) {
        self.counted = std::mem::take(&mut self.counting);
    }

    /// Counts a file that a full scan found.
    pub(super) fn see_file(&mut self, found: &FoundFile) {
        let counting = &mut self.counting;
        counting.files += 1;
        counting.bytes += found.stamp.size;
        let modified = found.stamp.modified;
        if counting.oldest.as_ref().is_none_or(|(oldest, _)| modified < *oldest) {
            counting.oldest = Some((modified, found.path.clone()));
        }
    }

    /// Counts what a survey found that is not uploaded.
    pub(super) fn see_other(&mut self, sight: Sight, kind: SurveyKind) {
        let is_unreadable = matches!(&sight, Sight::LeftAlone(_, reason) if reason.starts_with(UNREADABLE));
        let (path, state, reason) = match sight {
            Sight::Ignored(path, pattern) => (path, "ignored", format!("matches {pattern} of drop_folder.ignore")),
            Sight::LeftAlone(path, reason) => (path, "left alone", reason),
            Sight::Folder(..) | Sight::File(_) => return,
        };
        let file = status::FileStatus { path: escape_path(&path), state: state.to_owned(), reason: Some(reason) };
        let counts = match kind {
            SurveyKind::FullScan => &mut self.counting,
            SurveyKind::Look => &mut self.counted,
        };
        let is_full = counts.not_uploaded.len() >= Snapshot::MOST_FILES;
        // A look may find a file that is counted already. It counts only files that are not in the list, so it counts
        // none once the list is full.
        if kind == SurveyKind::Look && (is_full || counts.not_uploaded.contains(&file)) {
            return;
        }
        counts.ignored += u64::from(state == "ignored");
        counts.left_alone += u64::from(state == "left alone");
        counts.unreadable += u64::from(is_unreadable);
        if !is_full {
            counts.not_uploaded.push(file);
        }
    }

    /// Returns the waiting files of the queue, and an estimate of those that it cannot hold.
    pub(super) fn waits(&self, queue: &Queue) -> WaitReport {
        let mut report = WaitReport::default();
        let waiting = &mut report.waiting;
        (waiting.ignored, waiting.left_alone, waiting.set_aside) =
            (self.counted.ignored, self.counted.left_alone, self.set_aside.files);
        waiting.unreadable = self.counted.unreadable;
        let mut oldest = None;
        for file in queue.files() {
            let (count, word) = match file.state {
                FileState::Settling => (&mut waiting.settling, "settling"),
                FileState::Queued => (&mut waiting.queued, "queued"),
                FileState::Uploading => (&mut waiting.uploading, "uploading"),
                FileState::BackingOff => (&mut waiting.backing_off, "backing off"),
            };
            // What is stored counts as that, and the bucket has it.
            if !file.is_left {
                *count += 1;
                waiting.bytes += file.size;
                oldest = oldest.or_else(|| Some((file.modified, file.path.to_owned())));
            }
            if report.files.len() < Snapshot::MOST_FILES {
                let reason = file.reason.map(str::to_owned);
                let (path, state) = (escape_path(file.path), word.to_owned());
                report.files.push(status::FileStatus { path, state, reason });
            }
        }
        if queue.left_on_disk() {
            let gone = self.stored.captures - self.counted.stored_before;
            waiting.on_disk = self.counted.files.saturating_sub(gone + queue.count() as u64);
            // Files on disk are taken to be as large as the files of the last scan on average.
            waiting.bytes += waiting.on_disk * self.counted.bytes.checked_div(self.counted.files).unwrap_or(0);
            oldest = self.counted.oldest.clone().into_iter().chain(oldest).min();
        }
        report.oldest =
            oldest.map(|(since, path)| status::OnlyHere { path: escape_path(&path), since: capture::arrival(since) });
        report
    }

    /// Returns the files that are not uploaded: those set aside, and those that scans and looks found.
    pub(super) fn not_uploaded(&self) -> Vec<status::FileStatus> {
        let set_aside = self.set_aside.named.iter().map(|(path, reason)| status::FileStatus {
            path: path.clone(),
            state: "set aside".to_owned(),
            reason: reason.clone(),
        });
        set_aside.chain(self.counted.not_uploaded.iter().cloned()).collect()
    }

    /// Returns the last errors, newest last.
    pub(super) fn last_errors(&self) -> Vec<status::LastError> {
        self.last_errors.iter().cloned().collect()
    }
}
