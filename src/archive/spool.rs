//! Folders in the state folder for what has to be downloaded to be worked on.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tempfile::TempDir;
use tokio::fs::File;
use tokio::io::AsyncWrite;

use crate::disk;
use crate::holdings::HoldingsError;
use crate::owner;

/// What the name of such a folder begins with.
const SPOOL: &str = "spool-";

/// Makes a folder for downloads, which is removed together with the value.
///
/// # Errors
/// [`HoldingsError::Local`] if it cannot be made.
pub fn spool(state_dir: &Path) -> Result<TempDir, HoldingsError> {
    owner::create_dir_all(state_dir)
        .map_err(|error| HoldingsError::local(format_args!("failed to create {}", state_dir.display()), &error))?;
    let made = tempfile::Builder::new().prefix(SPOOL).tempdir_in(state_dir);
    let made = made.and_then(|spool| owner::give_folder(spool.path()).map(|()| spool));
    made.map_err(|error| {
        HoldingsError::local(format_args!("failed to make a folder in {}", state_dir.display()), &error)
    })
}

/// A file to download into, which remembers why it could not be written: the store is not the cause then.
pub(super) struct SpoolFile {
    file: File,
    failure: Option<HoldingsError>,
}

impl SpoolFile {
    /// Creates the file.
    ///
    /// # Errors
    /// [`HoldingsError::Local`] if it cannot be created.
    pub(super) async fn create(path: &Path) -> Result<Self, HoldingsError> {
        let file = File::create(path).await;
        let file = file.map_err(|error| HoldingsError::local("failed to make a file to download into", &error))?;
        Ok(Self { file, failure: None })
    }

    /// Gives the room of a broken download back; returns why it broke, if this box is the cause:
    /// [`HoldingsError::Object`] if it does not fit on the disk, [`HoldingsError::Local`] if the disk fails.
    pub(super) async fn give_up(self) -> Option<HoldingsError> {
        // What cannot be cut off goes with the folder.
        let _with_the_folder = self.file.set_len(0).await;
        self.failure
    }

    fn note<T>(&mut self, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &done {
            let failure = HoldingsError::local("failed to write a download", error);
            self.failure =
                Some(if disk::is_full(error) { HoldingsError::Object(failure.to_string()) } else { failure });
        }
        done
    }
}

impl AsyncWrite for SpoolFile {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.file).poll_write(context, bytes);
        self.note(done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.file).poll_flush(context);
        self.note(done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.file).poll_shutdown(context);
        self.note(done)
    }
}

/// Removes the downloads of runs that were killed.
#[expect(clippy::disallowed_methods, reason = "the home of removal of downloads, which are copies")]
pub fn clear_spools(state_dir: &Path) {
    for entry in std::fs::read_dir(state_dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(SPOOL) {
            // No capture's name leads here. A folder that stays costs room, and is tried again.
            let _next_time = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_disk_that_is_full_is_no_refusal_of_the_store() {
        let mut file = SpoolFile::create(Path::new("/dev/full")).await.unwrap();
        let written = match file.write_all(b"a clip").await {
            Ok(()) => file.flush().await,
            failed => failed,
        };
        assert!(written.is_err());
        let failure = file.give_up().await;
        assert!(matches!(&failure, Some(HoldingsError::Object(says)) if says.contains("write")), "{failure:?}");
        let folder = tempfile::tempdir().unwrap();
        let mut file = SpoolFile::create(&folder.path().join("clip")).await.unwrap();
        file.write_all(b"a clip").await.unwrap();
        file.flush().await.unwrap();
        assert_eq!(file.give_up().await, None);
        assert_eq!(std::fs::read(folder.path().join("clip")).unwrap(), b"");
    }
}
