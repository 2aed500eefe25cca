//! A snapshot of the daemon: `status.json` holds it, and systemd shows one line of it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, FixedOffset, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::disk::Room;
use crate::persist::{self, Purpose};

mod condition;
mod counters;

pub use condition::{Condition, ConditionKind, Weight};
pub use counters::{Counters, Delays, MOST_CAMERAS, OTHER};

/// The name of the file in the run-time folder.
pub const FILE: &str = "status.json";

/// A limit above the longest snapshot, which lists a few hundred files and a thousand cameras and has about 2 MB.
const LONGEST_FILE_BYTES: u64 = 16 << 20;

/// The daemon at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The program's version.
    pub version: String,
    /// The process id.
    pub pid: u32,
    /// When the snapshot was made.
    pub at: DateTime<Utc>,
    /// When the daemon started.
    pub started_at: DateTime<Utc>,
    /// The state of the daemon.
    pub state: DaemonState,
    /// The bucket that captures go to, for people.
    pub bucket: String,
    /// What is wrong in one text, while something is.
    pub trouble: Option<Trouble>,
    /// What is wrong, the worst first.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// What the parts of the daemon have noticed, from which [`Snapshot::conditions`] follows.
    #[serde(skip)]
    pub raised: Vec<Condition>,
    /// Whether the first scan of the drop folder is finished.
    #[serde(default)]
    pub scanned: bool,
    /// Whether the daemon is stopping.
    #[serde(default)]
    pub stopping: bool,
    /// When the daemon before this one was seen last, if it ended without being told to.
    #[serde(default)]
    pub crashed_after: Option<DateTime<Utc>>,
    /// How many seconds the clock of this box is behind the store's, negative if it is ahead, once the store has said.
    #[serde(default)]
    pub clock_behind_seconds: Option<i64>,
    /// The number of files in the drop folder in each state.
    pub waiting: WaitingCounts,
    /// The oldest capture that is not in the bucket yet.
    pub oldest_only_here: Option<OnlyHere>,
    /// The waiting files of the drop folder, oldest first, at most [`Snapshot::MOST_FILES`].
    pub files: Vec<FileStatus>,
    /// The files that are not uploaded, and why; at most [`Snapshot::MOST_FILES`] set aside and as many others.
    pub not_uploaded: Vec<FileStatus>,
    /// The captures stored since the start.
    pub stored: StoredTotals,
    /// The cameras by name: those of the captures stored since the start, and those that the ledger knows from before.
    pub cameras: BTreeMap<String, CameraStatus>,
    /// The last errors, newest last.
    pub last_errors: Vec<LastError>,
    /// Free bytes on the file system of the drop folder.
    pub drop_folder_free_bytes: Option<u64>,
    /// Free bytes on the file system of the state folder.
    pub state_free_bytes: Option<u64>,
    /// Bytes of all local copies, once they have been counted.
    pub kept_bytes: Option<u64>,
    /// The number of captures since the start that were removed here without a local copy or a ledger line, because
    /// there was no room for it.
    #[serde(default)]
    pub not_kept: u64,
    /// Whether the bucket stores nothing now, as far as the daemon knows; [`Snapshot::trouble`] tells of it only once
    /// it has lasted.
    #[serde(default)]
    pub link_down: bool,
    /// The scheduled jobs.
    #[serde(default)]
    pub jobs: Jobs,
    /// What has been counted since the start, for the metrics.
    #[serde(skip)]
    pub counters: Arc<Counters>,
}

/// The state of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DaemonState {
    /// The first scan is not finished, or the bucket has not answered yet.
    Starting,
    /// Nothing is wrong, as far as the daemon knows, and the bucket was reached.
    Ok,
    /// Something is wrong: [`Snapshot::conditions`] say what.
    Degraded,
    /// The daemon is stopping.
    Stopping,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// When it began.
    pub since: DateTime<Utc>,
    /// What is wrong.
    pub reason: String,
    /// What the owner can do about it.
    pub advice: String,
}

/// The number of files in the drop folder in each state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingCounts {
    /// Files that changed a moment ago and may still grow.
    pub settling: u64,
    /// Files that are ready to be uploaded.
    pub queued: u64,
    /// Files that are being uploaded.
    pub uploading: u64,
    /// Files that failed, or are empty or cut off, and are tried again later.
    pub backing_off: u64,
    /// Files that a later scan takes up, because the queue is full.
    pub on_disk: u64,
    /// Files that waited in the drop folder and cannot be seen now, because another folder is in its place.
    #[serde(default)]
    pub elsewhere: u64,
    /// Bytes of all files counted above, except those elsewhere.
    pub bytes: u64,
    /// Files and folders that `drop_folder.ignore` names.
    pub ignored: u64,
    /// What cannot be a capture, such as a symbolic link, and folders that cannot be read.
    pub left_alone: u64,
    /// Files and folders that cannot be read. Such folders count as left alone, too; such files are tried again.
    #[serde(default)]
    pub unreadable: u64,
    /// Files that are set aside, as they were last counted on the disk.
    pub set_aside: u64,
}

/// A capture that is not in the bucket yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlyHere {
    /// Its path below the drop folder.
    pub path: String,
    /// When it arrived.
    pub since: DateTime<Utc>,
}

/// A file of the drop folder and its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStatus {
    /// Its path below the drop folder.
    pub path: String,
    /// `settling`, `queued`, `uploading`, `backing off`, `ignored`, `left alone` or `set aside`.
    pub state: String,
    /// Why it is in that state, if there is a reason to tell.
    pub reason: Option<String>,
}

/// The captures stored since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTotals {
    /// Their number.
    pub captures: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A camera and its captures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CameraStatus {
    /// The number of captures stored since the start.
    pub captures: u64,
    /// The captures that were taken on the newest day of this camera, by its own clock, also those from before the start.
    #[serde(default)]
    pub newest_day: Option<DayCount>,
    /// When the newest one was taken.
    pub last_taken_at: DateTime<FixedOffset>,
    /// When the last one was stored.
    pub last_stored_at: DateTime<Utc>,
    /// What its clock said, if it was not believed.
    pub wrong_clock: Option<WrongClock>,
    /// How far its clock is steadily off, if it is.
    #[serde(default)]
    pub clock_offset: Option<ClockOffset>,
}

/// A day and its captures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayCount {
    /// The day, at the camera.
    pub date: NaiveDate,
    /// The number of its captures.
    pub captures: u64,
}

/// A camera's clock that is steadily hours or quarters of an hour off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockOffset {
    /// How many seconds it is behind; negative if it is ahead.
    pub behind_seconds: i64,
    /// The zone that would fit.
    pub timezone: Option<String>,
}

impl CameraStatus {
    /// Returns how many captures of today the camera has sent, by its own clock.
    pub fn today(&self, at: DateTime<Utc>) -> u64 {
        let today = at.with_timezone(self.last_taken_at.offset()).date_naive();
        self.newest_day.filter(|day| day.date == today).map_or(0, |day| day.captures)
    }
}

impl WaitingCounts {
    /// Returns the number of files that wait.
    pub fn files(&self) -> u64 {
        self.settling + self.queued + self.uploading + self.backing_off + self.on_disk
    }
}

impl ClockOffset {
    /// Returns what the owner can do about it.
    pub fn mend(&self) -> String {
        match &self.timezone {
            Some(zone) => format!("set the camera's clock, or write timezone: {zone} for it under cameras"),
            None => "set the camera's clock".to_owned(),
        }
    }
}

impl fmt::Display for ClockOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.behind_seconds.unsigned_abs() / 60;
        let direction = if self.behind_seconds < 0 { "ahead" } else { "behind" };
        match (minutes / 60, minutes % 60) {
            (0, minutes) => write!(f, "{minutes} min {direction}"),
            (hours, 0) => write!(f, "{hours} h {direction}"),
            (hours, minutes) => write!(f, "{hours} h {minutes} min {direction}"),
        }
    }
}

/// A camera's clock that cannot be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongClock {
    /// The number of captures that were filed by their arrival instead.
    pub captures: u64,
    /// The time that the clock gave for the last of them.
    pub last_said: DateTime<FixedOffset>,
    /// Whether that was the last time that the camera gave: no other has been believed since.
    #[serde(default)]
    pub is_now: bool,
}

/// The scheduled jobs by name.
pub type Jobs = BTreeMap<String, Job>;

/// A scheduled job and its last run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// When it is due next; a time in the past while it waits for the bucket.
    pub next_at: Option<DateTime<Utc>>,
    /// When the run under way began.
    pub running_since: Option<DateTime<Utc>>,
    /// When the last run began; the run under way counts.
    pub last_begun_at: Option<DateTime<Utc>>,
    /// When the last run ended.
    pub last_ended_at: Option<DateTime<Utc>>,
    /// When the last run in which nothing failed ended.
    pub last_success_at: Option<DateTime<Utc>>,
    /// How the last run ended, for people.
    pub outcome: Option<String>,
    /// Whether the last run failed as a whole or in part.
    pub failed: bool,
}

/// An error that was logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// When it was logged.
    pub at: DateTime<Utc>,
    /// The text of the log.
    pub message: String,
}

impl Snapshot {
    /// The length limit of each list of files.
    pub const MOST_FILES: usize = 100;

    /// Returns the line that `systemctl status` shows.
    pub fn line(&self) -> String {
        let stored = format!("{} stored, {} waiting", self.stored.captures, self.waiting.files());
        match self.state {
            DaemonState::Starting if !self.scanned => "looking at the drop folder".to_owned(),
            DaemonState::Starting => format!("waiting for the first answer of the bucket; {stored}"),
            DaemonState::Stopping => format!("stopping; {stored}"),
            DaemonState::Ok => stored,
            DaemonState::Degraded => match self.conditions.first() {
                Some(worst) => format!("{}: {}; {stored}", self.headline(), worst.in_full()),
                None => stored,
            },
        }
    }

    /// Returns the state in the words of people, such as `NOT STORING since 2026-11-28 15:30 UTC`.
    pub fn headline(&self) -> String {
        let since = |condition: &Condition| condition.since.format("since %F %T UTC").to_string();
        match (self.state, self.conditions.first()) {
            (DaemonState::Starting, _) => "STARTING".to_owned(),
            (DaemonState::Stopping, _) => "STOPPING".to_owned(),
            (DaemonState::Degraded, Some(worst)) if worst.kind.stops_storing() => {
                format!("NOT STORING {}", since(worst))
            }
            (DaemonState::Degraded, Some(worst)) => format!("NEEDS ATTENTION {}", since(worst)),
            (DaemonState::Ok | DaemonState::Degraded, _) => "OK".to_owned(),
        }
    }

    /// Writes the snapshot to its file below `folder`.
    ///
    /// # Errors
    /// The error of the file system if the folder cannot be written; the file then has its old content.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        persist::write(&folder.join(FILE), self, Purpose::Report)
    }

    /// Returns whether two snapshots differ in nothing but time and free space, which change all the time.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let Self { at, drop_folder_free_bytes, state_free_bytes, .. } = *other;
        Self { at, drop_folder_free_bytes, state_free_bytes, ..self.clone() } == *other
    }

    /// Returns the last snapshot below `folder`.
    ///
    /// # Errors
    /// `NotFound` if there is no file; `InvalidData` if it is not a snapshot.
    pub fn read(folder: &Path) -> io::Result<Self> {
        persist::read(&folder.join(FILE), LONGEST_FILE_BYTES)
    }
}

/// Returns the free bytes for ordinary users on the file system of `path`; `None` if it cannot be read.
pub fn free_bytes(path: &Path) -> Option<u64> {
    Room::at(path).map(|room| room.free)
}
