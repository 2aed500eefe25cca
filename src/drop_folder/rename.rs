//! A rename that replaces nothing, also where the file system has none.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::stat;

/// How a file system renames a file without replacing another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameWay {
    /// In one step, as local Linux file systems do (rename(2), `RENAME_NOREPLACE`).
    InOneStep,
    /// By a second name, after which the first one is removed: some FUSE and network file systems.
    ByLink,
    /// By a look whether the name is free: file systems that know no links either.
    ByLook,
}

/// Renames a file to a name that is free.
///
/// A crash between the two steps of [`RenameWay::ByLink`] leaves both names, which lead to the same bytes. In
/// [`RenameWay::ByLook`] somebody can create the name between the look and the rename, and would lose his file; hk-aws
/// uses it for names that nobody else knows, and to give a file its own name back.
///
/// # Errors
/// [`Errno::EXIST`] if the name is not free; otherwise the error of the file system. The file then has its old name.
pub(super) fn rename_to_free(
    (from, name): (BorrowedFd<'_>, &OsStr),
    (to, free): (BorrowedFd<'_>, &Path),
) -> Result<RenameWay, Errno> {
    #[expect(clippy::disallowed_methods, reason = "the home of renaming")]
    match rustix::fs::renameat_with(from, name, to, free, RenameFlags::NOREPLACE) {
        // EINVAL, by rename(2), if the file system does not know the flag; the others are those of older kernels.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        done => return done.map(|()| RenameWay::InOneStep),
    }
    match rustix::fs::linkat(from, name, to, free, AtFlags::empty()) {
        Ok(()) => {
            remove(from, Path::new(name)).inspect_err(|_| {
                let _both_stay = remove(to, free);
            })?;
            Ok(RenameWay::ByLink)
        }
        Err(error @ (Errno::EXIST | Errno::XDEV | Errno::NOENT)) => Err(error),
        Err(_) => look_and_rename((from, name), (to, free)),
    }
}

#[expect(clippy::disallowed_methods, reason = "the home of renaming")]
fn look_and_rename(
    (from, name): (BorrowedFd<'_>, &OsStr),
    (to, free): (BorrowedFd<'_>, &Path),
) -> Result<RenameWay, Errno> {
    match rustix::fs::statat(to, free, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => rustix::fs::renameat(from, name, to, free).map(|()| RenameWay::ByLook),
        Ok(_) => Err(Errno::EXIST),
        Err(error) => Err(error),
    }
}

#[expect(clippy::disallowed_methods, reason = "one of two names of a file, which keeps the other")]
fn remove(folder: BorrowedFd<'_>, name: &Path) -> Result<(), Errno> {
    rustix::fs::unlinkat(folder, name, AtFlags::empty())
}

/// Tries how the folder's file system renames, with an empty file of our own that is gone afterwards.
pub(super) fn try_out(folder: BorrowedFd<'_>, path: &Path) -> std::io::Result<RenameWay> {
    let trial = tempfile::Builder::new().prefix(super::ASIDE).tempfile_in(path)?;
    // A daemon that sees it takes it for a file that is being taken away.
    let _locked = rustix::fs::flock(trial.as_file(), rustix::fs::FlockOperation::NonBlockingLockExclusive);
    let name = trial.path().file_name().unwrap_or_default().to_owned();
    let mut other = name.clone();
    other.push("-renamed");
    let way = rename_to_free((folder, &name), (folder, Path::new(&other)))?;
    // Back to the name under which it is removed.
    if stat(folder, &other).is_ok() {
        rename_to_free((folder, &other), (folder, Path::new(&name)))?;
    }
    Ok(way)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    use super::*;

    type Rename = fn((BorrowedFd<'_>, &OsStr), (BorrowedFd<'_>, &Path)) -> Result<RenameWay, Errno>;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test may remove what it made")]
    fn a_name_that_is_taken_is_never_replaced_in_any_way() {
        let folder = tempfile::tempdir().unwrap();
        let root = File::open(folder.path()).unwrap();
        let at = |name: &'static str| (root.as_fd(), OsStr::new(name));
        let to = |name: &'static str| (root.as_fd(), Path::new(name));
        for rename in [rename_to_free as Rename, look_and_rename] {
            fs::write(folder.path().join("a"), b"a").unwrap();
            fs::write(folder.path().join("b"), b"b").unwrap();
            assert_eq!(rename(at("a"), to("b")), Err(Errno::EXIST));
            assert_eq!(fs::read(folder.path().join("b")).unwrap(), b"b");
            rename(at("a"), to("c")).unwrap();
            assert!(!folder.path().join("a").exists());
            assert_eq!(fs::read(folder.path().join("c")).unwrap(), b"a");
            fs::write(folder.path().join("c"), b"again").unwrap();
            assert_eq!(rename(at("b"), to("c")), Err(Errno::EXIST));
            fs::remove_file(folder.path().join("c")).unwrap();
        }
        assert_eq!(try_out(root.as_fd(), folder.path()).unwrap(), RenameWay::InOneStep);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the trial leaves nothing");
    }
}
