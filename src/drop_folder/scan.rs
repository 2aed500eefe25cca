//! The scan of the drop folder. It goes depth first and holds one open folder for each level, whatever the number of
//! files.

use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::writer::is_remote;
use super::{ASIDE, DropFolder, EMPTY_FOLDER_AGE, FoundFile, Sight, Stamp};
use super::{admit, describe, open_child, refuse, stat};

/// Why a folder of our own is not read.
const OWN: &str =
    "hk-aws keeps its own files in it, and none of them is a capture: a link or a mount has brought it here";

/// How the reason of a [`Sight::LeftAlone`] begins for a folder that cannot be read.
pub const UNREADABLE: &str = "folder cannot be read";

/// On a file system without locks, a file that was renamed aside this long ago was left by a crash: taking a file away
/// takes milliseconds.
const LEFT_BEHIND_AFTER: Duration = Duration::from_mins(5);

impl DropFolder {
    /// Looks at everything below `below` (empty for the whole folder) for as long as `see` returns `Continue`.
    ///
    /// Removes empty folders that are a day old, except the first folder of a camera. Files come in the order of the
    /// directory, because sorting them would need memory for all of them.
    ///
    /// # Errors
    /// The error of the file system if `below` itself cannot be read; a folder further down that cannot be read is a
    /// [`Sight::LeftAlone`].
    pub fn scan(&self, below: &Path, now: SystemTime, see: &mut dyn FnMut(Sight) -> ControlFlow<()>) -> io::Result<()> {
        if let Some(refused) = self.refuse_folder(below) {
            let _end = see(refused);
            return Ok(());
        }
        self.own.renew(&self.path);
        let folder = self.folder(below)?;
        let is_whole = below.as_os_str().is_empty();
        if is_whole {
            self.empty.scan_begins();
        }
        // Where the times of folders can be believed.
        let device = if is_remote(&folder).unwrap_or(true) { None } else { Some(rustix::fs::fstat(&folder)?.st_dev) };
        let mut going = see(Sight::Folder(below.to_owned(), None));
        let mut stack: Vec<Level> = vec![Level::open(folder, below.to_owned())?];
        while going.is_continue()
            && let Some(level) = stack.last_mut()
        {
            let Some(entry) = level.entries.next() else {
                let done = stack.pop();
                if let (Some(done), Some(parent)) = (done, stack.last_mut()) {
                    let is_gone = self.prunes && done.prune(parent.entries.fd()?, now);
                    if done.is_empty && !is_gone && device == Some(done.before.st_dev) {
                        self.empty.add(&done.before, now);
                    }
                    parent.is_empty &= is_gone;
                }
                continue;
            };
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let path = level.path.join(name);
            let Some(kind) = kind_of(&entry, level.entries.fd()?) else { continue };
            if kind != FileType::Directory {
                level.is_empty = false;
                if let Some(sight) = self.see_file(level.entries.fd()?, path, kind, now) {
                    going = see(sight);
                }
                continue;
            }
            let parent = level.entries.fd()?;
            let is_empty = |stat: &Stat| device == Some(stat.st_dev) && self.empty.has(stat, now);
            if let Some(stat) = stat(parent, name).ok().filter(is_empty) {
                level.is_empty = false;
                going = see(Sight::Folder(path, Some((stat.st_dev, stat.st_ino))));
                continue;
            }
            if let Some(refused) = self.refuse_folder(&path) {
                level.is_empty = false;
                going = see(refused);
                continue;
            }
            match open_child(parent, name) {
                Ok(folder) if self.own.contains(&folder) => {
                    level.is_empty = false;
                    going = see(Sight::LeftAlone(path, OWN.to_owned()));
                }
                Ok(folder) => {
                    // The folder is watched before it is read: a file that comes in between is seen by one of the two.
                    going = see(Sight::Folder(path.clone(), None));
                    stack.push(Level::open(folder, path)?);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    level.is_empty = false;
                    going = see(Sight::LeftAlone(path, format!("{UNREADABLE}: {error}")));
                }
            }
        }
        if is_whole && going.is_continue() {
            self.empty.scan_ends();
        }
        Ok(())
    }

    /// Returns what is reported of a folder that is not read; `None` if it is to be read.
    fn refuse_folder(&self, path: &Path) -> Option<Sight> {
        if let Some(pattern) = self.ignore.matches(path) {
            return Some(Sight::Ignored(path.to_owned(), pattern.to_owned()));
        }
        admit::refuse_folder(path).map(|reason| Sight::LeftAlone(path.to_owned(), reason))
    }

    /// Returns what is reported of a file in `parent`; `None` if it is gone or is being taken away.
    pub(super) fn see_file(
        &self,
        parent: BorrowedFd<'_>,
        path: PathBuf,
        kind: FileType,
        now: SystemTime,
    ) -> Option<Sight> {
        let name = path.file_name()?;
        let is_aside = name.as_bytes().starts_with(ASIDE.as_bytes());
        if !is_aside
            && let Some(pattern) = self.ignore.matches(&path)
            && !self.is_last_of_camera(parent, &path, now)
        {
            return Some(Sight::Ignored(path, pattern.to_owned()));
        }
        if kind != FileType::RegularFile {
            return Some(Sight::LeftAlone(path, format!("not a regular file but a {}", describe(kind))));
        }
        // An error means that the file is gone since the directory was read.
        let stat = stat(parent, name).ok()?;
        if let Some(reason) = refuse(&stat, parent) {
            return Some(Sight::LeftAlone(path, reason));
        }
        let stamp = Stamp::of(&stat);
        if is_aside && is_being_taken(parent, name, &stamp, now) {
            return None;
        }
        Some(Sight::File(FoundFile { path, stamp }))
    }
}

impl DropFolder {
    /// Returns whether an ignored file has a temporary name, and nobody has touched it for so long that it will not get
    /// its final one: it is what a camera could still send.
    fn is_last_of_camera(&self, parent: BorrowedFd<'_>, path: &Path, now: SystemTime) -> bool {
        let Some(name) = path.file_name().filter(|_| self.final_path(path).is_some()) else { return false };
        let Ok(stat) = stat(parent, name) else { return false };
        let stamp = Stamp::of(&stat);
        stamp.size > 0 && stamp.age(now) >= self.partial_after
    }
}

/// An open folder of the scan, and how far it has been read.
struct Level {
    entries: Dir,
    path: PathBuf,
    /// The folder before it was read.
    before: Stat,
    /// Whether nothing that stays has been found in it.
    is_empty: bool,
}

impl Level {
    fn open(folder: OwnedFd, path: PathBuf) -> io::Result<Self> {
        let before = rustix::fs::fstat(&folder)?;
        Ok(Self { entries: Dir::new(folder)?, path, before, is_empty: true })
    }

    /// Removes this folder if it is empty and old enough; returns whether it is gone.
    #[expect(clippy::disallowed_methods, reason = "the home of removal; a folder that is not empty is not removed")]
    fn prune(&self, parent: BorrowedFd<'_>, now: SystemTime) -> bool {
        let depth = self.path.components().count();
        let Some(name) = self.path.file_name().filter(|_| self.is_empty && depth > 1) else { return false };
        stat(parent, name)
            .ok()
            .and_then(|stat| now.duration_since(Stamp::of(&stat).modified).ok())
            .is_some_and(|age| age >= EMPTY_FOLDER_AGE)
            && rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).is_ok()
    }
}

/// Returns the kind of an entry of `parent`, as the directory has it or as the file itself tells; `None` if it is gone.
fn kind_of(entry: &DirEntry, parent: BorrowedFd<'_>) -> Option<FileType> {
    match entry.file_type() {
        FileType::Unknown => {
            let stat = stat(parent, OsStr::from_bytes(entry.file_name().to_bytes())).ok()?;
            Some(FileType::from_raw_mode(stat.st_mode))
        }
        known => Some(known),
    }
}

/// Returns whether a running process is taking this file away.
fn is_being_taken(parent: BorrowedFd<'_>, name: &OsStr, stamp: &Stamp, now: SystemTime) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let locked = rustix::fs::openat(parent, name, flags, Mode::empty())
        .and_then(|file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive));
    match locked {
        Ok(()) => false,
        Err(Errno::WOULDBLOCK) => true,
        Err(_) => {
            // A file that changed during the scan is a little younger than `now`; one that is far in the future was
            // renamed before the clock was set back.
            let apart = now.duration_since(stamp.changed).unwrap_or_else(|ahead| ahead.duration());
            apart < LEFT_BEHIND_AFTER
        }
    }
}
