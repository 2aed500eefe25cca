//! Who owns what is made in the state and run-time folders.
//!
//! A command that root calls works in the folders of the service. What it makes there belongs to the owner of the folder
//! that it is made in; otherwise a lock or a line of the ledger would be closed to the service from then on. A file that is
//! there already is never given away: it may be a link to somebody else's. Dropping root's rights for the whole command was
//! rejected: root's credentials, and the folder of a download, need not be open to the service.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

/// The user that the unit runs as.
const SERVICE: &str = "hk-aws";

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
        // A link that the service put there would lead root to a file that the service could not open.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            options.clone().custom_flags(libc::O_NOFOLLOW).open(path)
        }
        Err(error) => Err(error),
    }
}

/// Gives a folder that was just made at `path` to the owner of the folder around it; where that is root, to the service's
/// user, if there is one: it is a folder of the configuration, which the service could not use otherwise.
///
/// # Errors
/// The error of the file system if it cannot be given away.
pub fn give_folder(path: &Path) -> io::Result<()> {
    if !is_root() {
        return Ok(());
    }
    // By descriptor: whoever owns the folder around it may have put a link in its place.
    let made = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    give_to(&made, owner_around(path)?.or_else(service_user))
}

/// Gives a file that was just made at `path`, and is open, to the owner of its folder.
///
/// # Errors
/// The error of the file system if it cannot be given away.
pub fn give(made: impl AsFd, path: &Path) -> io::Result<()> {
    if is_root() { give_to(made, owner_around(path)?) } else { Ok(()) }
}

/// Returns the owner of the folder around a path; `None` if that is root.
fn owner_around(path: &Path) -> io::Result<Option<(Uid, Gid)>> {
    let Some(around) = path.parent() else { return Ok(None) };
    let around = if around.as_os_str().is_empty() { Path::new(".") } else { around };
    let owner = rustix::fs::stat(around)?;
    Ok((owner.st_uid != 0).then(|| (Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid))))
}

/// Returns the user and the group of the service, by the name that its unit has.
fn service_user() -> Option<(Uid, Gid)> {
    find_user(&std::fs::read_to_string("/etc/passwd").ok()?)
}

/// Finds [`SERVICE`] in a table of users (passwd(5)).
fn find_user(table: &str) -> Option<(Uid, Gid)> {
    let line = table.lines().find_map(|line| line.strip_prefix(SERVICE)?.strip_prefix(':'))?;
    let mut numbers = line.split(':').skip(1).map(str::parse);
    let (Some(Ok(user)), Some(Ok(group))) = (numbers.next(), numbers.next()) else { return None };
    (user != 0).then(|| (Uid::from_raw(user), Gid::from_raw(group)))
}

fn give_to(made: impl AsFd, owner: Option<(Uid, Gid)>) -> io::Result<()> {
    let Some((user, group)) = owner else { return Ok(()) };
    match rustix::fs::fchown(&made, Some(user), Some(group)) {
        // On FAT nobody owns anything, and root in a container may not give away.
        Err(Errno::PERM | Errno::OPNOTSUPP) => Ok(()),
        given => Ok(given?),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_user_is_found_by_its_name() {
        let found = |table: &str| find_user(table).map(|(user, group)| (user.as_raw(), group.as_raw()));
        let table = "root:x:0:0::/root:/bin/sh\nhk-aws-2:x:7:7::/:/bin/false\nhk-aws:x:997:996::/:/bin/false\n";
        assert_eq!(found(table), Some((997, 996)));
        for table in ["", "hk-aws", "hk-aws:x:a:b::/:", "hk-aws:x:0:0::/:/bin/sh\n", "xhk-aws:x:5:5::/:\n"] {
            assert_eq!(found(table), None, "{table}");
        }
    }
}
