//! The locks of the run-time folder: one daemon, and one command at a time that changes the bucket or the local copies.
//!
//! A lock is held as long as its file is open; the kernel gives it back whatever ends the process.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::process::{Flock, FlockType, fcntl_getlk};

/// The file that the daemon holds.
const DAEMON: &str = "run.lock";

/// The file that a command holds.
const COMMAND: &str = "command.lock";

/// Why a lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The run-time folder cannot be made.
    #[error("failed to create {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The lock's file cannot be opened.
    #[error("failed to open {}; remove what is in its place, or let hk-aws's user write there: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon holds the lock.
    #[error("another hk-aws runs already (it holds {}); stop it first", path.display())]
    Taken {
        /// The file.
        path: PathBuf,
    },
    /// The wait for another command failed.
    #[error("failed to wait for another command: {source}")]
    Wait {
        /// Why.
        source: io::Error,
    },
}

/// Returns whether a daemon works on this run-time folder now.
pub fn is_daemon_running(folder: &Path) -> bool {
    // A folder without the file has never seen a daemon.
    let held = |file: File| fcntl_getlk(file, &Flock::from(FlockType::ReadLock)).is_ok_and(|lock| lock.is_some());
    File::open(folder.join(DAEMON)).is_ok_and(held)
}

/// Takes the lock of commands that change the bucket or the local copies; waits until no other command holds it.
///
/// # Errors
/// [`LockError`], except [`LockError::Taken`]: nothing may be changed then.
pub fn command(folder: &Path) -> Result<File, LockError> {
    std::fs::create_dir_all(folder).map_err(|source| LockError::Folder { path: folder.to_owned(), source })?;
    let path = folder.join(COMMAND);
    let file = open(&path)?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        tracing::warn!("waiting for another hk-aws command to end (it holds {})", path.display());
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(|error| LockError::Wait { source: error.into() })?;
    }
    Ok(file)
}

/// Takes the lock of the daemon, so that one daemon works on one run-time folder.
///
/// # Errors
/// [`LockError::File`], and [`LockError::Taken`] while another daemon runs: this one must not start.
pub fn daemon(folder: &Path) -> Result<File, LockError> {
    let path = folder.join(DAEMON);
    let file = open(&path)?;
    // A record lock, because `is_daemon_running` can ask for it without taking it.
    if rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(LockError::Taken { path });
    }
    Ok(file)
}

/// Opens the file of a lock, and makes it if it is missing; its content does not matter.
fn open(path: &Path) -> Result<File, LockError> {
    let opened = File::options().create(true).write(true).truncate(false).open(path);
    opened.map_err(|source| LockError::File { path: path.to_owned(), source })
}
