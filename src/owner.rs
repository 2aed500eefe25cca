//! Who owns what is made in the state and run-time folders.
//!
//! A command that root calls works in the folders of the service. What it makes there belongs to the owner of the folder
//! that it is made in; otherwise a lock or a line of the ledger would be closed to the service from then on. A file that is
//! there already is never given away: it may be a link to somebody else's. Dropping root's rights for the whole command was
//! rejected: root's credentials, and the folder of a download, need not be open to the service.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

/// Held while folders are made: until a folder is given away, what is made in it would go to root.
static MAKING: Mutex<()> = Mutex::new(());

/// Creates a folder and those above it that are missing.
///
/// # Errors
/// The error of the file system if one of them cannot be created or given away.
pub fn create_dir_all(folder: &Path) -> io::Result<()> {
    if !is_root() {
        return std::fs::create_dir_all(folder);
    }
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.is_dir();
    let missing: Vec<&Path> = folder.ancestors().take_while(is_missing).collect();
    for folder in missing.into_iter().rev() {
        match std::fs::create_dir(folder) {
            Ok(()) => give_folder(folder)?,
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Opens a file as `options` say, which must create it if it is missing.
///
/// # Errors
/// The error of the file system if it cannot be opened or given away.
pub fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    if !is_root() {
        return options.open(path);
    }
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            give(&file, path)?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

/// Gives a folder that was just made at `path` to the owner of the folder around it.
///
/// # Errors
/// The error of the file system if it cannot be given away.
pub fn give_folder(path: &Path) -> io::Result<()> {
    if !is_root() {
        return Ok(());
    }
    // By descriptor: whoever owns the folder around it may have put a link in its place.
    give(rustix::fs::open(path, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?, path)
}

/// Gives a file that was just made at `path`, and is open, to the owner of its folder.
///
/// # Errors
/// The error of the file system if it cannot be given away.
pub fn give(made: impl AsFd, path: &Path) -> io::Result<()> {
    let Some(around) = path.parent().filter(|_| is_root()) else { return Ok(()) };
    let around = if around.as_os_str().is_empty() { Path::new(".") } else { around };
    let (owner, own) = (rustix::fs::stat(around)?, rustix::fs::fstat(&made)?);
    if (owner.st_uid, owner.st_gid) == (own.st_uid, own.st_gid) {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid));
    match rustix::fs::fchown(&made, Some(user), Some(group)) {
        // On FAT nobody owns anything, and root in a container may not give away.
        Err(Errno::PERM | Errno::OPNOTSUPP) => Ok(()),
        given => Ok(given?),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
