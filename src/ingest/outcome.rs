//! What comes of one file's way to the bucket.

use std::time::Duration;

use crate::bucket::Refusal;
use crate::stored::Stored;

/// A file whose bytes are in the bucket.
#[derive(Debug)]
pub struct Ingested {
    /// The capture as stored.
    pub stored: Box<Stored>,
    /// The whole capture, if the file was the rest of one that had been cut off and was joined with its first part.
    pub joined: Option<Box<Stored>>,
    /// How long the file, which was cut off, still waits for the camera to resume or send it again; `None` if it does
    /// not wait.
    pub wait: Option<Duration>,
}

/// Why a file was not stored.
#[derive(Debug, thiserror::Error)]
pub enum NotStored {
    /// The file is not there any more.
    #[error("the file is gone")]
    Gone,
    /// Somebody has it open for writing, and has not been quiet for long enough.
    #[error("the file is open for writing")]
    Growing,
    /// Whoever had it open when it was stored as far as it came has closed it: it may be whole.
    #[error("the file was closed")]
    Closed,
    /// It is being uploaded under a name that it had before.
    #[error("the file is being uploaded under the name that it had before")]
    InWork,
    /// It changed while it was read: it has to be looked at again.
    #[error("the file changed while it was read")]
    Changed,
    /// It has no bytes, and has had none for this long.
    #[error("the file is empty")]
    Empty(Duration),
    /// The bucket refuses it.
    #[error("{0}")]
    Refused(Refusal),
    /// This box cannot read it.
    #[error("{0}")]
    Unreadable(String),
}

impl Ingested {
    /// Returns whether the file has left the drop folder.
    pub(super) fn is_away(&self) -> bool {
        self.wait.is_none() && self.stored.left.is_none()
    }
}

/// Does `work` on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NotStored> + Send + 'static,
) -> Result<T, NotStored> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // The panic becomes one of this upload, whose file the loop sets aside.
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(NotStored::Unreadable(error.to_string())),
    }
}
