//! What the daemon does now: one snapshot, for `status.json` and systemd's one line.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use chrono::{DateTime, FixedOffset, Utc};
use serde::{Deserialize, Serialize};

use crate::disk::Room;
use crate::persist::{self, Purpose};

/// The file's name below the run-time folder.
pub const FILE: &str = "status.json";

/// More than the longest snapshot: that one lists a few hundred files and a thousand cameras, and has about 2 MB.
const LONGEST_FILE_BYTES: u64 = 16 << 20;

/// The daemon at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The program's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The moment.
    pub at: DateTime<Utc>,
    /// Since when it runs.
    pub started_at: DateTime<Utc>,
    /// How it does.
    pub state: DaemonState,
    /// Where captures go.
    pub bucket: String,
    /// Why they do not, while they do not.
    pub trouble: Option<Trouble>,
    /// Files in the drop folder by what they wait for.
    pub waiting: WaitingCounts,
    /// The oldest capture that exists on this box alone.
    pub oldest_only_here: Option<OnlyHere>,
    /// Files in the drop folder that wait, oldest first, up to [`Snapshot::MOST_FILES`].
    pub files: Vec<FileStatus>,
    /// What is not uploaded, and why, up to [`Snapshot::MOST_FILES`].
    pub not_uploaded: Vec<FileStatus>,
    /// What was stored since the start.
    pub stored: StoredTotals,
    /// Each camera that something came from since the start.
    pub cameras: BTreeMap<String, CameraStatus>,
    /// The last errors, newest last.
    pub last_errors: Vec<LastError>,
    /// Free bytes where the drop folder lies.
    pub drop_folder_free_bytes: Option<u64>,
    /// Free bytes where local copies and state lie.
    pub state_free_bytes: Option<u64>,
    /// Bytes of the local copies, once they were counted.
    pub kept_bytes: Option<u64>,
    /// Captures since the start that were removed here without a copy, or a line in the ledger, for want of room.
    #[serde(default)]
    pub not_kept: u64,
    /// Whether nothing can be stored at the moment, as far as is known; [`Snapshot::trouble`] comes once it has lasted.
    #[serde(default)]
    pub link_down: bool,
    /// What runs by a schedule.
    #[serde(default)]
    pub jobs: Jobs,
}

/// How the daemon does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DaemonState {
    /// The first scan is not done.
    Starting,
    /// All is well.
    Ok,
    /// Captures wait for something that should not be.
    Degraded,
    /// It ends.
    Stopping,
}

/// What keeps captures from being stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Since when.
    pub since: DateTime<Utc>,
    /// What happens.
    pub reason: String,
    /// What to do.
    pub advice: String,
}

/// Files in the drop folder, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingCounts {
    /// Not quiet for long enough.
    pub settling: u64,
    /// Due.
    pub queued: u64,
    /// In work.
    pub uploading: u64,
    /// Failed, or empty, and waiting for another turn.
    pub backing_off: u64,
    /// Left on disk for a later scan, because the queue is full.
    pub on_disk: u64,
    /// Bytes of all of these.
    pub bytes: u64,
    /// Not captures by the configuration.
    pub ignored: u64,
    /// No regular files, or unreadable folders.
    pub left_alone: u64,
    /// Moved to the set-aside folder since the start.
    pub set_aside: u64,
}

/// A capture that is on this box alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlyHere {
    /// Below the drop folder.
    pub path: String,
    /// When it arrived.
    pub since: DateTime<Utc>,
}

/// A file and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStatus {
    /// Below the drop folder.
    pub path: String,
    /// `settling`, `queued`, `uploading`, `backing off`, `ignored`, `left alone` or `set aside`.
    pub state: String,
    /// Why, where there is a reason.
    pub reason: Option<String>,
}

/// What was stored since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTotals {
    /// Captures.
    pub captures: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One camera since the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CameraStatus {
    /// Captures stored.
    pub captures: u64,
    /// When the newest one was taken.
    pub last_taken_at: DateTime<FixedOffset>,
    /// When the last one was stored.
    pub last_stored_at: DateTime<Utc>,
    /// What its clock said that was not believed, if it did.
    pub wrong_clock: Option<WrongClock>,
}

/// A camera's clock that cannot be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongClock {
    /// Captures that were filed by their arrival instead.
    pub captures: u64,
    /// What the clock said of the last of them.
    pub last_said: DateTime<FixedOffset>,
}

/// What runs by a schedule, by name.
pub type Jobs = BTreeMap<String, Job>;

/// A job and its last run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// When it is due next; in the past while it waits for the bucket.
    pub next_at: Option<DateTime<Utc>>,
    /// Since when it runs, while it does.
    pub running_since: Option<DateTime<Utc>>,
    /// When the last run began, the one under way included.
    pub last_begun_at: Option<DateTime<Utc>>,
    /// When the last run ended.
    pub last_ended_at: Option<DateTime<Utc>>,
    /// When the last run in which nothing failed ended.
    pub last_success_at: Option<DateTime<Utc>>,
    /// What became of the last run, for people.
    pub outcome: Option<String>,
    /// Whether it failed, or a part of it.
    pub failed: bool,
}

/// An error, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub message: String,
}

impl Trouble {
    /// One trouble that tells of both.
    pub fn both(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => Some(Self {
                since: one.since.min(other.since),
                reason: format!("{}; {}", one.reason, other.reason),
                advice: format!("{}; {}", one.advice, other.advice),
            }),
            (one, other) => one.or(other),
        }
    }
}

impl Snapshot {
    /// Most files of which path and state are given.
    pub const MOST_FILES: usize = 100;

    /// One line for `systemctl status`.
    pub fn line(&self) -> String {
        let waiting = &self.waiting;
        let count = waiting.settling + waiting.queued + waiting.uploading + waiting.backing_off + waiting.on_disk;
        let stored = format!("{} stored, {count} waiting", self.stored.captures);
        match (&self.trouble, self.state) {
            (_, DaemonState::Starting) => "looking at the drop folder".to_owned(),
            (_, DaemonState::Stopping) => format!("stopping; {stored}"),
            (Some(trouble), _) => {
                format!("{stored}; trouble since {}: {}", trouble.since.format("%F %T UTC"), trouble.reason)
            }
            (None, _) => stored,
        }
    }

    /// Writes the snapshot to its file below `folder`.
    ///
    /// # Errors
    /// The error of the file system if the folder cannot be written; the file then has its old content.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        persist::write(&folder.join(FILE), self, Purpose::Report)
    }

    /// Returns the last snapshot below `folder`.
    ///
    /// # Errors
    /// `NotFound` if there is no file; `InvalidData` if it is not a snapshot.
    pub fn read(folder: &Path) -> io::Result<Self> {
        persist::read(&folder.join(FILE), LONGEST_FILE_BYTES)
    }
}

/// Free bytes for ordinary users where `path` lies.
pub fn free_bytes(path: &Path) -> Option<u64> {
    Room::at(path).map(|room| room.free)
}
