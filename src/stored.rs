//! A capture that is in the bucket, as the queue, the ledger, the status and the local copies need to know it.

use std::time::Duration;

use crate::capture::Capture;
use crate::drop_folder::Stamp;
use crate::key::ObjectKey;

/// A capture that is in the bucket.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Stored {
    /// Its camera, time and event.
    pub capture: Capture,
    /// Its object key.
    pub key: ObjectKey,
    /// Its size in bytes.
    pub size: u64,
    /// The time from the file's last change to the bucket's confirmation.
    pub elapsed: Duration,
    /// Whether the object was there already, so that nothing was sent.
    pub again: bool,
    /// Whether the file was cut off, so that the object holds only a part of the recording.
    pub partial: bool,
    /// Whether somebody had the file open for writing, who may still write the rest.
    pub open: bool,
    /// The state of the file when it was read, or after an attempt to take it away failed.
    pub stamp: Stamp,
    /// The SHA-256 of the bytes.
    pub sha256: [u8; 32],
    /// Whether the ledger has a line for it.
    pub written: bool,
    /// Why the file is still in the drop folder, if taking it away failed; that is tried again.
    pub left: Option<String>,
    /// Why the file was removed without the local copy or the ledger line that it should have, if that happened.
    pub not_kept: Option<String>,
}
