//! The uploads in parts that this box has begun, written down until they are finished.
//!
//! A crash leaves the parts of an upload in the bucket, where they cost money. Whoever works on the same capture later
//! aborts them; but two boxes may send the same capture, and must not abort each other's upload. So each upload has a file
//! of its own in `STATE_DIR/uploads`, which is locked while somebody works on it. One that nobody has written down is left
//! alone for a day.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};

use crate::owner;

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

    /// Writes down that an upload has begun.
    ///
    /// # Errors
    /// The error of the file system: a crash then leaves the upload for a day.
    pub(super) fn begin(&self, id: &str) -> io::Result<Option<UploadInWork>> {
        let Some(path) = self.path_of(id) else { return Ok(None) };
        if let Some(folder) = path.parent() {
            owner::create_dir_all(folder)?;
        }
        let mut file = owner::open(&path, OpenOptions::new().create(true).write(true).truncate(true))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        writeln!(file, "{id}")?;
        Ok(Some(UploadInWork { path, _locked: file }))
    }

    /// Takes over an upload that this box has begun and that nobody works on; `None` if there is no such upload.
    pub(super) fn take_over(&self, id: &str) -> Option<UploadInWork> {
        let path = self.path_of(id)?;
        let file = File::open(&path).ok()?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(UploadInWork { path, _locked: file })
    }

    /// Returns the path of an upload's file. The store chose the id, so it is no safe name for a file.
    fn path_of(&self, id: &str) -> Option<PathBuf> {
        self.0.as_ref().map(|folder| folder.join(hex::encode(Sha256::digest(id))))
    }
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
    }
}
