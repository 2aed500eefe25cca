//! What is remembered of the cameras from one start to the next.

use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};

use crate::health::{Rhythms, rhythm};
use crate::persist::{self, Purpose};
use crate::status::Snapshot;

/// How often it is written: what a crash loses is as good as nothing.
const WRITTEN: TimeDelta = TimeDelta::minutes(5);

/// The longest file that is read: a thousand cameras have less.
const LONGEST_FILE_BYTES: u64 = 4 << 20;

/// The rhythms of the cameras, and the file that holds them.
pub(super) struct Cameras {
    pub(super) rhythms: Rhythms,
    path: PathBuf,
    written_at: Option<DateTime<Utc>>,
}

impl Cameras {
    /// Reads the file. One that cannot be read costs some days of learning.
    pub(super) fn open(state_dir: &Path, now: DateTime<Utc>) -> Self {
        let path = state_dir.join(rhythm::FILE);
        let rhythms: Rhythms = persist::read(&path, LONGEST_FILE_BYTES).unwrap_or_default();
        Self { rhythms: rhythms.resume(now), path, written_at: None }
    }

    /// Takes note of what the cameras sent.
    pub(super) fn see(&mut self, snapshot: &Snapshot) {
        self.rhythms.see(snapshot);
        if self.written_at.is_none_or(|at| (snapshot.at - at).abs() >= WRITTEN) {
            self.written_at = Some(snapshot.at);
            self.write();
        }
    }

    /// Writes the file.
    pub(super) fn write(&self) {
        if let Err(error) = persist::write(&self.path, &self.rhythms, Purpose::NextStart) {
            tracing::debug!("failed to write {}: {error}", self.path.display());
        }
    }
}
