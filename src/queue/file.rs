//! The files of the queue: their states, and how they are shown to others.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::clock::Now;
use crate::drop_folder::Stamp;
use crate::stored::Stored;

/// A file of this size or more is large: a clip, while pictures are smaller.
pub const LARGE_BYTES: u64 = 4 * 1024 * 1024;

/// How a file was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// A scan found it; it may still be growing.
    Scan,
    /// It was closed after writing, or moved in: its writer is done with it.
    Closed,
}

/// The state of a file in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// It changed a moment ago and may still grow.
    Settling,
    /// It is ready to be uploaded.
    Queued,
    /// It is being uploaded.
    Uploading,
    /// It failed and is tried again later.
    BackingOff,
}

/// Whether a file is large; large files hold only a part of the uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeClass {
    /// Below [`LARGE_BYTES`].
    Small,
    /// [`LARGE_BYTES`] or more.
    Large,
}

impl SizeClass {
    /// Returns the class of a file of `size` bytes.
    pub fn of(size: u64) -> Self {
        if size >= LARGE_BYTES { Self::Large } else { Self::Small }
    }
}

/// Which files may be uploaded next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eligible {
    /// Small and large ones.
    AnySize,
    /// Only those below [`LARGE_BYTES`].
    SmallOnly,
}

/// A file that the queue has given out to be uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Its path below the drop folder.
    pub path: PathBuf,
    /// Its size class.
    pub size: SizeClass,
}

/// A file as the queue knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSeen {
    /// The state of the file when it was last seen.
    pub stamp: Stamp,
    /// How long it has been in that state.
    pub age: Duration,
}

/// What went on around an upload that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedUpload {
    /// How many captures had been stored when it began.
    pub stored_at_start: u64,
    /// How many captures have been stored now.
    pub stored_now: u64,
    /// Whether the bucket stores nothing at the moment.
    pub is_link_down: bool,
}

/// A file of the queue, for `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuedFile<'a> {
    /// Its path below the drop folder.
    pub path: &'a Path,
    /// Its state.
    pub state: FileState,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last modified, which is when it arrived.
    pub modified: SystemTime,
    /// Why it waits, if there is a reason to tell.
    pub reason: Option<&'a str>,
}

/// What the queue knows of one file.
#[derive(Debug)]
pub(super) struct QueueItem {
    pub(super) stamp: Stamp,
    pub(super) state: FileState,
    /// When this stamp was first seen.
    pub(super) seen: Now,
    /// When it is assumed to have stopped changing.
    pub(super) quiet_since: Instant,
    /// When to look at it next; also in [`super::Queue::timers`] while it settles or backs off.
    pub(super) due: Instant,
    /// How often an upload found that somebody still had it open for writing.
    pub(super) found_open: u32,
    /// How often it failed.
    pub(super) failures: u32,
    /// How often it failed while other files were stored.
    pub(super) own_failures: u32,
    /// How many captures had been stored when it last failed.
    pub(super) failed_at: Option<u64>,
    pub(super) reason: Option<String>,
    /// The capture in the bucket, if these very bytes are stored and only the rest of the work is left.
    pub(super) stored: Option<Arc<Stored>>,
    pub(super) last_seen: Instant,
    /// How another file was found under this name while this one was being uploaded.
    pub(super) replaced: Option<Hint>,
}

impl QueueItem {
    /// Returns whether the file was uploaded as far as it came while somebody had it open.
    pub(super) fn was_open(&self) -> bool {
        self.stored.as_ref().is_some_and(|stored| stored.open)
    }

    /// Returns whether a writer that has just closed the file may have changed what is stored of it, although it has the
    /// same stamp.
    pub(super) fn may_have_changed(&self) -> bool {
        self.stored.is_some() && !self.stamp.is_fine()
    }

    /// Returns a file that has just been found.
    pub(super) fn new(stamp: Stamp, now: Now) -> Self {
        Self {
            stamp,
            state: FileState::Settling,
            seen: now,
            quiet_since: now.steady,
            due: now.steady,
            found_open: 0,
            failures: 0,
            own_failures: 0,
            failed_at: None,
            reason: None,
            stored: None,
            last_seen: now.steady,
            replaced: None,
        }
    }
}
