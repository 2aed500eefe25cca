//! The locks: one daemon for a run-time folder and one for a drop folder, one command at a time that changes the bucket or
//! the local copies, and one process at a time that works on a name.
//!
//! A process holds a lock for as long as it has the lock's file open. The kernel releases the lock when the process
//! ends, however it ends, so a crash leaves no lock behind.
//!
//! The lock of a drop folder belongs to the folder itself, by its device and inode, so it holds whatever the
//! configurations of two daemons say. It is an abstract socket (unix(7)): a lock file would lie among the captures, and
//! whatever is open in the folder would keep its disk from being unmounted.

use std::fs::File;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};
use sha2::{Digest, Sha256};

use crate::message;
use crate::owner;

/// The name of the daemon's lock file.
const DAEMON: &str = "run.lock";

/// The name of the commands' lock file.
const COMMAND: &str = "command.lock";

/// The folder of the locks of names.
const NAMES: &str = "names";

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
    /// Another daemon watches the drop folder.
    #[error("another hk-aws{} watches drop folder {} already; stop it first, or give each its own drop folder",
        holder.map(|pid| format!(" (process {pid})")).unwrap_or_default(), path.display())]
    Watched {
        /// The drop folder.
        path: PathBuf,
        /// The process that holds the lock, if the kernel tells.
        holder: Option<u32>,
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
        tracing::warn!(
            message_id = message::LOCK,
            "waiting for another hk-aws command to end (it holds {})",
            path.display()
        );
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

/// The lock of a drop folder.
#[derive(Debug)]
pub struct FolderLock {
    /// `None` where the system gives no such lock.
    held: Option<UnixListener>,
    identity: (u64, u64),
}

impl FolderLock {
    /// Returns whether this is the lock of the folder with this device and inode.
    pub fn is_of(&self, identity: (u64, u64)) -> bool {
        self.identity == identity
    }

    /// Lets those go who have asked who holds the lock.
    pub fn let_askers_go(&self) {
        while self.held.as_ref().is_some_and(|held| held.accept().is_ok()) {}
    }
}

/// Takes the lock of a drop folder: only one daemon may watch it.
///
/// # Errors
/// [`LockError::Watched`] if another daemon holds it; [`LockError::Folder`] if the folder cannot be read.
pub fn drop_folder(path: &Path) -> Result<FolderLock, LockError> {
    let unreadable = |source| LockError::Folder { path: path.to_owned(), source };
    let stat = rustix::fs::stat(path).map_err(io::Error::from).map_err(unreadable)?;
    let identity = (stat.st_dev, stat.st_ino);
    let name = format!("hk-aws drop folder {:x}:{:x}", identity.0, identity.1);
    let bound = SocketAddr::from_abstract_name(name).and_then(|name| match UnixListener::bind_addr(&name) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(Err(holder(&name))),
        bound => Ok(Ok(bound?)),
    });
    let held = match bound {
        Ok(Ok(held)) => held.set_nonblocking(true).ok().map(|()| held),
        Ok(Err(Holder::Daemon(holder))) => return Err(LockError::Watched { path: path.to_owned(), holder }),
        Ok(Err(Holder::Stranger(user))) => {
            tracing::warn!(
                message_id = message::LOCK,
                "user {user} holds the lock of drop folder {}: hk-aws cannot see whether another one watches it",
                path.display()
            );
            None
        }
        // A system without abstract sockets.
        Err(_) => None,
    };
    Ok(FolderLock { held, identity })
}

/// Who holds the lock of a drop folder.
enum Holder {
    /// This process, if the kernel tells.
    Daemon(Option<u32>),
    /// A user who has no business with it: anybody can take any such name.
    Stranger(u32),
}

fn holder(name: &SocketAddr) -> Holder {
    let asked = UnixStream::connect_addr(name).and_then(|socket| Ok(rustix::net::sockopt::socket_peercred(socket)?));
    let Ok(told) = asked else { return Holder::Daemon(None) };
    let own = rustix::process::geteuid();
    if told.uid.is_root() || own.is_root() || told.uid == own {
        Holder::Daemon(told.pid.as_raw_nonzero().get().try_into().ok())
    } else {
        Holder::Stranger(told.uid.as_raw())
    }
}

/// The sole right of this process to work on a name; dropping it gives the right back.
#[derive(Debug)]
pub struct NameLock {
    _held: File,
    path: PathBuf,
}

/// Takes the lock of a name, which processes share that have the same run-time folder; `None` while another one holds it.
///
/// # Errors
/// The error of the file system if the lock file cannot be created.
pub fn try_name(folder: &Path, name: &str) -> io::Result<Option<NameLock>> {
    let folder = folder.join(NAMES);
    owner::create_dir_all(&folder)?;
    let path = folder.join(hex::encode(&Sha256::digest(name)[..16]));
    let file = owner::open(&path, File::options().create(true).write(true).truncate(false))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    // Whoever held it before may have removed the file that was opened here.
    let (own, there) = (rustix::fs::fstat(&file)?, rustix::fs::stat(&path));
    let is_there = there.is_ok_and(|there| (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino));
    Ok(is_there.then(|| NameLock { _held: file, path }))
}

impl Drop for NameLock {
    fn drop(&mut self) {
        #[expect(clippy::disallowed_methods, reason = "a lock file, while it is locked")]
        let _stays = std::fs::remove_file(&self.path);
    }
}

/// Opens a lock file and creates it if it is missing; its content does not matter.
fn open(path: &Path) -> Result<File, LockError> {
    let opened = owner::open(path, File::options().create(true).write(true).truncate(false));
    opened.map_err(|source| LockError::File { path: path.to_owned(), source })
}
