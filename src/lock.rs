//! The locks of the run-time folder: one daemon, and one command at a time that changes the bucket or the local copies.
//!
//! A process holds a lock for as long as it has the lock's file open. The kernel releases the lock when the process
//! ends, however it ends, so a crash leaves no lock behind.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use crate::owner;

/// The name of the daemon's lock file.
const DAEMON: &str = "run.lock";

/// The name of the commands' lock file.
const COMMAND: &str = "command.lock";

/// Why a lock cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The run-time folder cannot be created.
    #[error("failed to create {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// The lock file cannot be opened.
    #[error("failed to open {}; remove what is in its place, or let hk-aws's user write there: {source}", path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// Another daemon holds the lock.
    #[error("another hk-aws runs already (it holds {}); stop it first", path.display())]
    Taken {
        /// The lock file.
        path: PathBuf,
    },
    /// The wait for another command failed.
    #[error("failed to wait for another command: {source}")]
    Wait {
        /// The error of the system.
        source: io::Error,
    },
}

/// Returns whether a daemon is running with this run-time folder.
pub fn is_daemon_running(folder: &Path) -> bool {
    // Without the file, no daemon has ever run with this folder.
    let held = |file: File| fcntl_getlk(file, &Flock::from(FlockType::ReadLock)).is_ok_and(|lock| lock.is_some());
    File::open(folder.join(DAEMON)).is_ok_and(held)
}

/// Takes the lock for commands that change the bucket or the local copies, and returns its open file.
///
/// Blocks until no other command holds it.
///
/// # Errors
/// [`LockError::Folder`], [`LockError::File`] or [`LockError::Wait`]: the command must not change anything.
pub fn command(folder: &Path) -> Result<File, LockError> {
    owner::create_dir_all(folder).map_err(|source| LockError::Folder { path: folder.to_owned(), source })?;
    let path = folder.join(COMMAND);
    let file = open(&path)?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        tracing::warn!("waiting for another hk-aws command to end (it holds {})", path.display());
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(|error| LockError::Wait { source: error.into() })?;
    }
    Ok(file)
}

/// Takes the lock of the daemon, and returns its open file: only one daemon may use a run-time folder.
///
/// # Errors
/// [`LockError::File`] if the file cannot be opened, [`LockError::Taken`] if another daemon runs: this one must not
/// start.
pub fn daemon(folder: &Path) -> Result<File, LockError> {
    let path = folder.join(DAEMON);
    let file = open(&path)?;
    // A record lock: unlike flock, `is_daemon_running` can ask for it without taking it.
    if rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(LockError::Taken { path });
    }
    Ok(file)
}

/// Opens a lock file and creates it if it is missing; its content does not matter.
fn open(path: &Path) -> Result<File, LockError> {
    let opened = owner::open(path, File::options().create(true).write(true).truncate(false));
    opened.map_err(|source| LockError::File { path: path.to_owned(), source })
}
