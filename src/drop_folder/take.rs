//! An open file of the drop folder, and how it is taken away without losing what somebody else writes.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::OnceLock;

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, CWD, FlockOperation, Stat, StatxFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::rename::rename_to_free;
use super::{ASIDE, FileId, NAME_MAX, Stamp, Writer, stat, writer};
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
    /// Whether other machines may write it; asked once, because a file stays where it is.
    is_remote: OnceLock<bool>,
}

impl Opened {
    pub(super) fn new(file: File, parent: OwnedFd, name: OsString, stamp: Stamp) -> Self {
        Self { file, parent, name, stamp, is_remote: OnceLock::new() }
    }

    /// Returns the state of the file when it was opened, or when it was put back.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Returns what tells this file from any other.
    pub fn id(&self) -> FileId {
        let born = rustix::fs::statx(&self.file, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok();
        let born = born.filter(|told| told.stx_mask & StatxFlags::BTIME.bits() != 0);
        FileId { inode: self.stamp.inode, born: born.map(|told| (told.stx_btime.tv_sec, told.stx_btime.tv_nsec)) }
    }

    /// Returns who has the file open for writing.
    pub fn writer(&self) -> Writer {
        writer::writer(&self.file, self.is_remote())
    }

    /// Returns whether other machines may write the file. If nobody can tell, they may.
    fn is_remote(&self) -> bool {
        *self.is_remote.get_or_init(|| writer::is_remote(&self.file).unwrap_or(true))
    }

    /// Returns whether the file still has the same bytes and, as far as its change time tells, the same name: what is taken
    /// away is looked at again.
    pub fn is_unchanged(&self) -> bool {
        rustix::fs::fstat(&self.file).is_ok_and(|stat| Stamp::of(&stat) == self.stamp)
    }

    /// Returns whether the file still has the same bytes, whatever became of its name.
    pub fn has_same_bytes(&self) -> bool {
        rustix::fs::fstat(&self.file).is_ok_and(|stat| Stamp::of(&stat).same_bytes(&self.stamp))
    }

    /// Returns the bytes that the file had when it was opened, which the caller knows to be few.
    ///
    /// # Errors
    /// `UnexpectedEof` if it has become shorter; otherwise the error of the file system.
    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        let size = usize::try_from(self.stamp.size).map_err(io::Error::other)?;
        // Not filled with zeros first: that would take half as long as to read it.
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            let at = bytes.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut bytes), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // It may have grown, and the vector may have room for more.
        bytes.truncate(size);
        Ok(bytes)
    }

    /// Returns another descriptor of the same file, at its start.
    ///
    /// # Errors
    /// The error of the system if it allows no more descriptors.
    pub fn reader(&self) -> io::Result<File> {
        // Opened by descriptor, it is the same inode, whatever its name is now.
        File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Removes the file, whose bytes are `stored` by their SHA-256, unless it has changed since it was opened or somebody
    /// has it open.
    ///
    /// # Errors
    /// The error of the file system; the file is then still there.
    #[expect(clippy::disallowed_methods, reason = "the home of removal; the caller has it confirmed elsewhere")]
    pub fn remove(&mut self, stored: &[u8; 32]) -> io::Result<Taken> {
        let Some(aside) = self.move_aside(Some(stored))? else { return Ok(Taken::PutBack) };
        if let Err(error) = rustix::fs::unlinkat(&self.parent, &aside, AtFlags::empty()) {
            self.put_back(&aside)?;
            return Err(error.into());
        }
        Ok(Taken::Away)
    }

    /// Moves the file to `target`, which must not exist, unless it has changed or somebody has it open. `stored` is the
    /// SHA-256 of its bytes if they are in the bucket, so that no other bytes get the name of a local copy.
    ///
    /// Creates the folders of `target`, and copies the file if that is on another file system.
    ///
    /// # Errors
    /// The error of the file system; the file is then still there.
    pub fn move_to(&mut self, target: &Path, stored: Option<&[u8; 32]>) -> io::Result<Taken> {
        let folder = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let found = rustix::fs::stat(folder).or_else(|_| {
            owner::create_dir_all(folder)?;
            Ok::<_, io::Error>(rustix::fs::stat(folder)?)
        })?;
        if found.st_dev != self.stamp.inode.0 {
            return self.copy_to(folder, target, stored);
        }
        let Some(aside) = self.move_aside(stored)? else { return Ok(Taken::PutBack) };
        match rename_to_free((self.parent.as_fd(), &aside), (CWD, target)) {
            Ok(_) if is_file(target, self.stamp.inode) => Ok(Taken::Away),
            // Another file was swapped in at the last moment. Only we may write where it is now, so this check is
            // final.
            Ok(_) => {
                rename_to_free((CWD, target.as_os_str()), (self.parent.as_fd(), Path::new(&aside)))?;
                self.put_back(&aside)?;
                Ok(Taken::PutBack)
            }
            Err(error) => {
                self.put_back(&aside)?;
                // The kernel refuses a rename between two mounts of one file system, although the device is the same.
                if error == Errno::XDEV {
                    return self.copy_to(folder, target, stored);
                }
                Err(error.into())
            }
        }
    }

    /// Copies the file to another file system, syncs the copy, and only then removes the original.
    fn copy_to(&mut self, folder: &Path, target: &Path, stored: Option<&[u8; 32]>) -> io::Result<Taken> {
        let mut copy = tempfile::Builder::new().prefix(ASIDE).tempfile_in(folder)?;
        let copied = io::copy(&mut self.reader()?, copy.as_file_mut())?;
        let stat = rustix::fs::fstat(&self.file)?;
        let is_known = match stored {
            Some(stored) if !self.stamp_tells(&stat) => digest(File::open(copy.path())?)? == *stored,
            _ => true,
        };
        if copied != self.stamp.size || !is_known || !self.is_unchanged() {
            return Ok(Taken::PutBack);
        }
        owner::give(copy.as_file(), copy.path())?;
        copy.as_file().set_modified(self.stamp.modified)?;
        copy.as_file().sync_all()?;
        let copy = copy.persist_noclobber(target).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()?;
        drop(copy);
        // If the removal fails, the next attempt finds that the copy has the same bytes.
        let copied = stored.map_or_else(|| File::open(target).and_then(digest), |stored| Ok(*stored))?;
        self.remove(&copied)
    }

    /// Renames the file aside and returns its new name; `None` if it is not the file that was read, which is put back.
    ///
    /// The file is read once more, and compared with `stored`, where its stamp can be the same although its bytes are not.
    fn move_aside(&mut self, stored: Option<&[u8; 32]>) -> io::Result<Option<OsString>> {
        if !self.is_unchanged() {
            return Ok(None);
        }
        // Before the rename, so that no scan sees the new name without the lock. If it fails, a scan judges by age.
        let _locked = rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockShared);
        let aside = self.aside();
        if aside != self.name {
            let parent = self.parent.as_fd();
            match rename_to_free((parent, &self.name), (parent, Path::new(&aside))) {
                // Somebody has renamed it, where times are too coarse to tell.
                Err(Errno::NOENT) => return Ok(None),
                done => done?,
            };
        }
        // From here on nobody can open the file by its name. Whoever did so before has changed it or shows as a writer.
        let is_same = self.is_what_was_read(&aside, stored);
        if !matches!(is_same, Ok(true)) {
            self.put_back(&aside)?;
        }
        Ok(is_same?.then_some(aside))
    }

    /// Returns whether the file that was renamed aside is the one that was read, and nobody writes it.
    fn is_what_was_read(&self, aside: &OsStr, stored: Option<&[u8; 32]>) -> io::Result<bool> {
        let own = rustix::fs::fstat(&self.file)?;
        let now = Stamp::of(&own);
        let there = stat(self.parent.as_fd(), aside).map(|stat| Stamp::of(&stat).inode);
        if !now.same_bytes(&self.stamp)
            || there.map_or(true, |inode| inode != now.inode)
            || self.writer() == Writer::Somebody
        {
            return Ok(false);
        }
        match stored {
            Some(stored) if !self.stamp_tells(&own) => Ok(digest(self.reader()?)? == *stored),
            _ => Ok(true),
        }
    }

    /// Returns whether the stamp of the file cannot stay the same while its bytes change.
    ///
    /// It can if times are coarse, if another name leads to the file (the change time is then left out of the stamp), and
    /// on another machine's file system, which may answer from a cache.
    fn stamp_tells(&self, stat: &Stat) -> bool {
        stat.st_nlink == 1 && Stamp::of(stat).is_fine() && self.stamp.is_fine() && !self.is_remote()
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
    fn put_back(&mut self, aside: &OsStr) -> io::Result<()> {
        let parent = self.parent.as_fd();
        match rename_to_free((parent, aside), (parent, Path::new(&self.name))) {
            // A new file has its name, or it had been left aside before: it stays aside, where a scan finds it.
            Err(Errno::EXIST) => return Ok(()),
            other => other?,
        };
        // Our renames changed its change time, which must not look like a change by somebody else.
        let now = Stamp::of(&rustix::fs::fstat(&self.file)?);
        if now.same_bytes(&self.stamp) {
            self.stamp = now;
        }
        Ok(())
    }
}

/// Returns the SHA-256 of a file from where it is to its end.
fn digest(mut file: File) -> io::Result<[u8; 32]> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Returns whether `path` itself, and not a file that it links to, has this device and inode.
fn is_file(path: &Path, inode: (u64, u64)) -> bool {
    rustix::fs::lstat(path).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == inode)
}
