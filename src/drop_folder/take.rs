//! An open file of the drop folder, and how it is taken away without losing what somebody else writes.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;

use super::{ASIDE, NAME_MAX, Stamp, Writer, stat, writer};
use crate::owner;

/// What became of a file that was to be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The file is no longer in the drop folder.
    Away,
    /// Somebody has changed it or has it open, so it is still where it was.
    PutBack,
}

/// A file of the drop folder, open for reading.
#[derive(Debug)]
pub struct Opened {
    file: File,
    parent: OwnedFd,
    name: OsString,
    stamp: Stamp,
}

impl Opened {
    pub(super) fn new(file: File, parent: OwnedFd, name: OsString, stamp: Stamp) -> Self {
        Self { file, parent, name, stamp }
    }

    /// Returns the state of the file when it was opened, or when it was put back.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Returns who has the file open for writing.
    pub fn writer(&self) -> Writer {
        writer::writer(&self.file)
    }

    /// Returns whether the file still has the same bytes and the same name.
    pub fn is_unchanged(&self) -> bool {
        let here = rustix::fs::fstat(&self.file).map(|stat| Stamp::of(&stat));
        let there = stat(self.parent.as_fd(), &self.name).map(|stat| Stamp::of(&stat));
        here.is_ok_and(|here| here == self.stamp) && there.is_ok_and(|there| there == self.stamp)
    }

    /// Returns another descriptor of the same file, at its start.
    ///
    /// # Errors
    /// The error of the system if it allows no more descriptors.
    pub fn reader(&self) -> io::Result<File> {
        // Opened by descriptor, it is the same inode, whatever its name is now.
        File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Removes the file, unless it has changed since it was opened or somebody has it open.
    ///
    /// # Errors
    /// The error of the file system; the file is then still there.
    #[expect(clippy::disallowed_methods, reason = "the home of removal; the caller has it confirmed elsewhere")]
    pub fn remove(&mut self) -> io::Result<Taken> {
        let Some(aside) = self.move_aside()? else { return Ok(Taken::PutBack) };
        if let Err(error) = rustix::fs::unlinkat(&self.parent, &aside, AtFlags::empty()) {
            self.put_back(&aside)?;
            return Err(error.into());
        }
        Ok(Taken::Away)
    }

    /// Moves the file to `target`, which must not exist, unless it has changed or somebody has it open.
    ///
    /// Creates the folders of `target`, and copies the file if that is on another file system.
    ///
    /// # Errors
    /// The error of the file system; the file is then still there.
    #[expect(clippy::disallowed_methods, reason = "the home of renaming")]
    pub fn move_to(&mut self, target: &Path) -> io::Result<Taken> {
        let folder = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
        owner::create_dir_all(folder)?;
        if rustix::fs::stat(folder)?.st_dev != self.stamp.inode.0 {
            return self.copy_to(folder, target);
        }
        let Some(aside) = self.move_aside()? else { return Ok(Taken::PutBack) };
        match rustix::fs::renameat_with(&self.parent, &aside, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) if is_file(target, self.stamp.inode) => Ok(Taken::Away),
            // Another file was swapped in at the last moment. Only we may write where it is now, so this check is
            // final.
            Ok(()) => {
                rustix::fs::renameat_with(CWD, target, &self.parent, &aside, RenameFlags::NOREPLACE)?;
                self.put_back(&aside)?;
                Ok(Taken::PutBack)
            }
            Err(error) => {
                self.put_back(&aside)?;
                // The kernel refuses a rename between two mounts of one file system, although the device is the same.
                if error == Errno::XDEV {
                    return self.copy_to(folder, target);
                }
                Err(error.into())
            }
        }
    }

    /// Copies the file to another file system, syncs the copy, and only then removes the original.
    fn copy_to(&mut self, folder: &Path, target: &Path) -> io::Result<Taken> {
        let mut copy = tempfile::Builder::new().prefix(ASIDE).tempfile_in(folder)?;
        let copied = io::copy(&mut self.reader()?, copy.as_file_mut())?;
        if copied != self.stamp.size || !self.is_unchanged() {
            return Ok(Taken::PutBack);
        }
        owner::give(copy.as_file(), copy.path())?;
        copy.as_file().set_modified(self.stamp.modified)?;
        copy.as_file().sync_all()?;
        let copy = copy.persist_noclobber(target).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()?;
        drop(copy);
        // If the removal fails, the next attempt finds that the copy has the same bytes.
        self.remove()
    }

    /// Renames the file aside and returns its new name; `None` if it is not the file that was read, which is put back.
    #[expect(clippy::disallowed_methods, reason = "the home of renaming")]
    fn move_aside(&mut self) -> io::Result<Option<OsString>> {
        if !self.is_unchanged() || self.writer() == Writer::Somebody {
            return Ok(None);
        }
        // Before the rename, so that no scan sees the new name without the lock. If it fails, a scan judges by age.
        let _locked = rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockShared);
        let aside = self.aside();
        if aside != self.name {
            rustix::fs::renameat_with(&self.parent, &self.name, &self.parent, &aside, RenameFlags::NOREPLACE)?;
        }
        // From here on nobody can open the file by its name. Whoever did so before has changed it or shows as a writer.
        let now = Stamp::of(&rustix::fs::fstat(&self.file)?);
        let there = stat(self.parent.as_fd(), &aside).map(|stat| Stamp::of(&stat).inode);
        if now.same_bytes(&self.stamp)
            && there.is_ok_and(|inode| inode == now.inode)
            && self.writer() != Writer::Somebody
        {
            return Ok(Some(aside));
        }
        self.put_back(&aside)?;
        Ok(None)
    }

    /// Returns the name that the file gets while it is taken away, which nobody else knows.
    ///
    /// A file that a crash left aside keeps its name: with the beginning twice, [`sent_as`](super::sent_as) would
    /// remove only one, and the capture would get another key.
    fn aside(&self) -> OsString {
        if self.name.as_bytes().starts_with(ASIDE.as_bytes()) {
            return self.name.clone();
        }
        let mut aside = format!("{ASIDE}{:x}-", self.stamp.inode.1).into_bytes();
        aside.extend(self.name.as_bytes());
        aside.truncate(NAME_MAX);
        OsString::from_vec(aside)
    }

    /// Gives the file its own name back.
    #[expect(clippy::disallowed_methods, reason = "the home of renaming")]
    fn put_back(&mut self, aside: &OsStr) -> io::Result<()> {
        match rustix::fs::renameat_with(&self.parent, aside, &self.parent, &self.name, RenameFlags::NOREPLACE) {
            // A new file has its name, or it had been left aside before: it stays aside, where a scan finds it.
            Err(Errno::EXIST) => return Ok(()),
            other => other?,
        }
        // Our renames changed its change time, which must not look like a change by somebody else.
        let now = Stamp::of(&rustix::fs::fstat(&self.file)?);
        if now.same_bytes(&self.stamp) {
            self.stamp = now;
        }
        Ok(())
    }
}

/// Returns whether `path` itself, and not a file that it links to, has this device and inode.
fn is_file(path: &Path, inode: (u64, u64)) -> bool {
    rustix::fs::lstat(path).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == inode)
}
