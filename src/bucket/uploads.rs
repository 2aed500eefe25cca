//! The uploads in parts that this box has begun, written down until they are finished.
//!
//! A crash leaves the parts of an upload in the bucket, where they cost money. Whoever works on the same capture later
//! aborts them; but two boxes may send the same capture, and must not abort each other's upload. So each upload has a file
//! of its own in `STATE_DIR/uploads`, which is locked while somebody works on it. One that nobody has written down is left
//! alone for a day.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};
use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};

use crate::owner;

/// The most that the clocks of the box and the store can be apart: S3 refuses requests from beyond ("Error responses":
/// `RequestTimeTooSkewed`).
const MOST_SKEW_SECONDS: i64 = 15 * 60;

/// The uploads that are written down below a state folder; none are without one.
#[derive(Debug, Clone, Default)]
pub(super) struct OwnUploads(Option<PathBuf>);

/// An upload in work. Dropping it leaves the file, and lets others take the upload for abandoned.
#[derive(Debug)]
pub(super) struct UploadInWork {
    path: PathBuf,
    _locked: File,
}

impl OwnUploads {
    /// Returns those below a state folder.
    pub(super) fn below(state_dir: &Path) -> Self {
        Self(Some(state_dir.join("uploads")))
    }

    /// Writes down that an upload to `key` is about to begin: after a crash its id may be known to nobody.
    ///
    /// # Errors
    /// The error of the file system: a crash may leave the upload for a day.
    pub(super) fn intend(&self, key: &str, now: SystemTime) -> io::Result<Option<UploadInWork>> {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.write(&of_key(key), &seconds.to_string())
    }

    /// Writes down that an upload has begun.
    ///
    /// # Errors
    /// The error of the file system: a crash then leaves the upload for a day.
    pub(super) fn begin(&self, id: &str) -> io::Result<Option<UploadInWork>> {
        self.write(id, id)
    }

    fn write(&self, name: &str, text: &str) -> io::Result<Option<UploadInWork>> {
        let Some(path) = self.path_of(name) else { return Ok(None) };
        if let Some(folder) = path.parent() {
            owner::create_dir_all(folder)?;
        }
        let mut file = owner::open(&path, OpenOptions::new().create(true).write(true).truncate(true))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        write!(file, "{text}")?;
        Ok(Some(UploadInWork { path, _locked: file }))
    }

    /// Takes over an upload that this box has begun and that nobody works on; `None` if there is no such upload.
    pub(super) fn take_over(&self, id: &str) -> Option<UploadInWork> {
        let path = self.path_of(id)?;
        let file = File::open(&path).ok()?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(UploadInWork { path, _locked: file })
    }

    /// Takes over an upload to `key` of which this box wrote down only that it was about to begin, if it began at that time
    /// by the store's clock; `None` if there is no such upload.
    pub(super) fn take_over_intended(&self, key: &str, initiated: DateTime<Utc>) -> Option<UploadInWork> {
        let intended = self.take_over(&of_key(key))?;
        let seconds: i64 = std::fs::read_to_string(&intended.path).ok()?.parse().ok()?;
        ((initiated.timestamp() - seconds).abs() <= MOST_SKEW_SECONDS).then_some(intended)
    }

    /// Returns the path of an upload's file. The store chose the id, so it is no safe name for a file.
    fn path_of(&self, id: &str) -> Option<PathBuf> {
        self.0.as_ref().map(|folder| folder.join(hex::encode(Sha256::digest(id))))
    }
}

fn of_key(key: &str) -> String {
    format!("to {key}")
}

impl UploadInWork {
    /// Forgets the upload, which is finished.
    #[expect(clippy::disallowed_methods, reason = "the file is this room's own")]
    pub(super) fn end(self) {
        // What stays is small, and says nothing of an upload that is gone.
        let _left = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_taken_over_once_nobody_works_on_it() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = OwnUploads::below(folder.path());
        assert!(uploads.take_over("../id").is_none(), "nobody has begun it");
        let begun = uploads.begin("../id").unwrap().unwrap();
        assert!(uploads.take_over("../id").is_none(), "it is in work");
        drop(begun);
        uploads.take_over("../id").unwrap().end();
        assert!(uploads.take_over("../id").is_none(), "it is finished");
        assert!(OwnUploads::default().begin("id").unwrap().is_none());
        let now = UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        drop(uploads.intend("CAM/a.mp4", now).unwrap());
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        assert!(uploads.take_over_intended("CAM/a.mp4", at(1_001_000)).is_none(), "somebody else's");
        assert!(uploads.take_over_intended("CAM/b.mp4", at(1_000_001)).is_none());
        uploads.take_over_intended("CAM/a.mp4", at(1_000_001)).unwrap().end();
        assert!(uploads.take_over_intended("CAM/a.mp4", at(1_000_001)).is_none());
    }
}
