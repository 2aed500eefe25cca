//! Which files are in work, and which were stored a moment ago and are still there.
//!
//! A writer may rename a file or give it another date just after he has sent it, while it is uploaded. It is one capture
//! all the same: the file under its new name waits until the upload has ended, and if that has stored it, it is disposed
//! of without another object. Two names that lead to one file together are two captures, and so are two files with the
//! same bytes.
//!
//! One list serves the whole process, because an upload goes on after a reload has replaced everything else.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::drop_folder::FileId;
use crate::stored::Stored;

/// How long after it was stored a file under another name or date counts as the same capture.
const SAME_CAPTURE: Duration = Duration::from_mins(1);

/// The most files that are remembered; each of them takes about a kilobyte.
const MOST: usize = 4096;

static FILES: Mutex<Option<HashMap<FileId, Vec<Entry>>>> = Mutex::new(None);

/// A file under one of its names.
#[derive(Debug)]
struct Entry {
    /// The whole path.
    path: PathBuf,
    state: State,
}

#[derive(Debug)]
enum State {
    InWork,
    Stored(StoredUnder),
}

/// A capture that is stored, and its file that is still there.
#[derive(Debug, Clone)]
pub(super) struct StoredUnder {
    pub(super) stored: Arc<Stored>,
    /// The path below the drop folder under which the file was sent.
    pub(super) path: PathBuf,
    at: Instant,
}

/// The sole right to upload a file; dropping it gives the right back.
#[derive(Debug)]
pub(super) struct Claim {
    id: FileId,
    path: PathBuf,
    /// What is remembered when it is given back.
    stored: Option<StoredUnder>,
}

impl Claim {
    /// Claims the file that is at `path`; `None` if it is in work already, under this name or one that it had before.
    pub(super) fn of(id: FileId, path: PathBuf) -> Option<Self> {
        let mut files = files();
        let entries = files.get_or_insert_default().entry(id).or_default();
        let in_work = |entry: &Entry| matches!(entry.state, State::InWork) && entry.is_same(id, &path);
        if entries.iter().any(in_work) {
            return None;
        }
        entries.push(Entry { path: path.clone(), state: State::InWork });
        Some(Self { id, path, stored: None })
    }

    /// Returns the capture that this file is if it was stored less than a minute ago with the same bytes, under the same
    /// name or one that it has no more.
    pub(super) fn stored_before(&self, sha256: &[u8; 32], now: Instant) -> Option<StoredUnder> {
        let files = files();
        let found = files.as_ref()?.get(&self.id)?.iter().find_map(|entry| match &entry.state {
            State::Stored(under) if under.stored.sha256 == *sha256 && under.is_recent(now) => {
                entry.is_same(self.id, &self.path).then_some(under)
            }
            _ => None,
        });
        found.cloned()
    }

    /// Remembers that the file, which was sent from `path` below the drop folder, is stored and still there.
    pub(super) fn remember(&mut self, stored: Arc<Stored>, path: &Path, at: Instant) {
        self.stored = Some(StoredUnder { stored, path: path.to_owned(), at });
    }

    /// Forgets the file, which has left the drop folder.
    pub(super) fn forget(&mut self) {
        self.stored = None;
        if let Some(entries) = files().as_mut().and_then(|files| files.get_mut(&self.id)) {
            entries.retain(|entry| matches!(entry.state, State::InWork));
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut files = files();
        let Some(files) = files.as_mut() else { return };
        if let Some(entries) = files.get_mut(&self.id) {
            entries.retain(|entry| entry.path != self.path);
            if entries.is_empty() {
                files.remove(&self.id);
            }
        }
        let Some(stored) = self.stored.take() else { return };
        let now = stored.at;
        files.retain(|_, entries| {
            entries.retain(|entry| match &entry.state {
                State::InWork => true,
                State::Stored(under) => under.is_recent(now),
            });
            !entries.is_empty()
        });
        if files.len() < MOST {
            let entry = Entry { path: self.path.clone(), state: State::Stored(stored) };
            files.entry(self.id).or_default().push(entry);
        }
    }
}

impl Entry {
    /// Returns whether the file at `path` is this one: it has the same name, or this name does not lead to it any more.
    fn is_same(&self, id: FileId, path: &Path) -> bool {
        let leads_there = || {
            let found = std::fs::symlink_metadata(&self.path);
            found.is_ok_and(|found| (found.dev(), found.ino()) == id.inode)
        };
        self.path == path || !leads_there()
    }
}

impl StoredUnder {
    fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < SAME_CAPTURE
    }
}

fn files() -> MutexGuard<'static, Option<HashMap<FileId, Vec<Entry>>>> {
    // A panic elsewhere leaves the map whole.
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}
