//! A capture that is in the bucket: what the queue, the ledger, the status and the local copies are told of it.

use std::time::Duration;

use crate::capture::Capture;
use crate::drop_folder::Stamp;
use crate::key::ObjectKey;

/// A capture that is in the bucket.
#[derive(Debug, Clone)]
pub struct Stored {
    /// What it is.
    pub capture: Capture,
    /// Where it is.
    pub key: ObjectKey,
    /// Bytes.
    pub size: u64,
    /// From the file's last change to the confirmation.
    pub elapsed: Duration,
    /// Whether it was there before.
    pub again: bool,
    /// Whether it was cut off.
    pub partial: bool,
    /// The file as it was when it was read, or as a failed disposal left it.
    pub stamp: Stamp,
    /// Of the bytes.
    pub sha256: [u8; 32],
    /// Whether the ledger has its line.
    pub written: bool,
    /// Why the local file could not be disposed of, if so; it stays, and [`crate::ingest::dispose_one`] tries again.
    pub left: Option<String>,
    /// Why the local file was removed without a copy that was wanted, or a line in the ledger, if so.
    pub not_kept: Option<String>,
}
