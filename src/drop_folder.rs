//! The drop folder: scan it, open files, take away those that are done. No other room removes or renames a file there.
//!
//! Whoever may write into the folder is not trusted with our files. Every path is walked from the descriptor of the
//! drop folder without following a symbolic link, and a file is opened only after it is known to be a regular one:
//! opening a fifo would hang, and opening a device could do anything.
//!
//! Taking a file away has three steps: rename it aside within its folder; check that the bytes are still those that
//! were read and that nobody has the file open; then remove or move it, or put it back. Where the times of a file do not
//! tell every change, it is read once more in the second step. Checking first and removing
//! afterwards was rejected: an FTP server that opens the file in between would answer "stored" for a picture that is
//! gone. A crash between the steps leaves a name that starts with [`ASIDE`]. Whoever takes a file away holds a lock on
//! it, which the kernel releases when the process dies, so the next scan recognizes what a crash left and the capture
//! is uploaded as usual.
//!
//! Whoever may write into the folder can still swap another file in between the check and the removal. He loses a file
//! that he could have removed himself; the file that he swaps in never becomes a local copy.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::config;
use crate::place;

mod admit;
mod empty;
mod own;
mod rename;
mod scan;
mod take;
mod unfinished;
mod writer;

pub use rename::RenameWay;
pub use scan::UNREADABLE;
pub use take::{Opened, Taken};
pub use writer::Writer;

use empty::EmptyFolders;
use own::OwnFolders;

/// The beginning of a file's name while the file is being taken away.
pub const ASIDE: &str = ".hk-aws-";

/// A folder that has been empty for this long counts as left behind by a camera, and is removed.
pub const EMPTY_FOLDER_AGE: Duration = Duration::from_hours(24);

/// The longest file name on Linux file systems, in bytes (limits.h, `NAME_MAX`).
pub const NAME_MAX: usize = 255;

/// The folder that cameras push into.
#[derive(Debug, Clone)]
pub struct DropFolder {
    path: PathBuf,
    ignore: config::Ignore,
    /// How long a file with a temporary name must be unchanged to be the last of its camera.
    partial_after: Duration,
    /// Whether a scan removes empty folders.
    prunes: bool,
    own: OwnFolders,
    empty: EmptyFolders,
}

/// The name under which a file is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentAs {
    /// The path below the drop folder: the one under which the file was sent, or the one that it was to have.
    pub path: PathBuf,
    /// Whether the file has the temporary name of one that is not complete.
    pub is_unfinished: bool,
}

/// What tells one state of one file from any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The device and the inode.
    pub inode: (u64, u64),
    /// The size in bytes.
    pub size: u64,
    /// The last change of the bytes.
    pub modified: SystemTime,
    /// The last change of bytes, name or owner, which no program can set. For a file with several names it is the last
    /// change of the bytes.
    pub changed: SystemTime,
}

/// What tells one file from any other, also from a later one that gets the same inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// The device and the inode.
    pub inode: (u64, u64),
    /// When it was created, in seconds and nanoseconds; `None` where the file system does not tell.
    pub born: Option<(i64, u32)>,
}

/// A regular file in the drop folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Its path below the drop folder.
    pub path: PathBuf,
    /// Its state now.
    pub stamp: Stamp,
}

/// One thing that a scan finds.
#[derive(Debug)]
pub enum Sight {
    /// A folder. It is reported before it is read, so that it can be watched first. With its device and inode it is one that
    /// was found empty before and has not changed, so that it is not read.
    Folder(PathBuf, Option<(u64, u64)>),
    /// A file to upload.
    File(FoundFile),
    /// A path that the configuration ignores, with the pattern.
    Ignored(PathBuf, String),
    /// Something that is left alone, with the reason.
    LeftAlone(PathBuf, String),
}

/// Why a file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file is not there any more.
    #[error("file is gone")]
    Gone,
    /// The path leads to something other than a regular file, or through a symbolic link.
    #[error("not a regular file: {0}")]
    NotAFile(&'static str),
    /// The rules of the scan reject the file.
    #[error("left alone: {0}")]
    LeftAlone(String),
    /// The system refuses to open it.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Returns the time that a file system tells in seconds and nanoseconds, which have 32 or 64 bits depending on the processor.
pub(crate) fn system_time(seconds: i64, nanos: impl Into<u64>) -> SystemTime {
    let (whole, nanos) = (Duration::from_secs(seconds.unsigned_abs()), Duration::from_nanos(nanos.into()));
    if seconds < 0 { UNIX_EPOCH - whole + nanos } else { UNIX_EPOCH + whole + nanos }
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        let modified = system_time(stat.st_mtime, stat.st_mtime_nsec);
        // Removing one of several names sets the change time that all of them share.
        let has_other_names = stat.st_nlink > 1;
        Self {
            inode: (stat.st_dev, stat.st_ino),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified,
            changed: if has_other_names { modified } else { system_time(stat.st_ctime, stat.st_ctime_nsec) },
        }
    }

    /// Returns how long before `now` the file last changed; zero if that lies in the future.
    pub fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.modified.max(self.changed)).unwrap_or_default()
    }

    /// Returns whether its times are finer than a program can write twice in.
    ///
    /// Some file systems count time in steps of a second or two (ext3, ext4 with inodes of 128 bytes, FAT) or of 10 ms
    /// (exFAT). Others have the nanoseconds of the kernel's clock, which end in so many zeros once in a million times.
    pub fn is_fine(&self) -> bool {
        Self::is_fine_time(self.changed)
    }

    fn is_fine_time(changed: SystemTime) -> bool {
        const COARSE_NANOS: u32 = 1_000_000;
        let nanos = changed.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
        !nanos.is_multiple_of(COARSE_NANOS)
    }

    /// Returns whether the bytes are the same; the name may have changed.
    fn same_bytes(&self, other: &Self) -> bool {
        (self.inode, self.size, self.modified) == (other.inode, other.size, other.modified)
    }
}

impl DropFolder {
    /// Returns the drop folder of a configuration; nothing is opened yet.
    pub fn new(config: &config::DropFolderSettings) -> Self {
        let (path, ignore) = (config.path.clone(), config.ignore.clone());
        Self {
            path,
            ignore,
            partial_after: config.partial_after,
            prunes: true,
            own: OwnFolders::default(),
            empty: EmptyFolders::default(),
        }
    }

    /// Returns a folder of files that are set aside, which are taken out of it like those of a drop folder.
    pub fn of_set_aside(path: PathBuf) -> Self {
        // Further folders of such files; without the pattern they would be taken for a camera's.
        let ignore = config::Ignore::new(vec![".[0-9]*/**".to_owned()]).unwrap_or_default();
        Self {
            path,
            ignore,
            partial_after: Duration::ZERO,
            prunes: true,
            own: OwnFolders::default(),
            empty: EmptyFolders::default(),
        }
    }

    /// Returns the same folder, except that nothing in these folders of hk-aws's own is a capture, even if a link or a
    /// mount leads from the drop folder to them.
    #[must_use]
    pub fn apart_from(self, own: &[&Path]) -> Self {
        let own = OwnFolders::new(own.iter().map(|path| (*path).to_owned()).collect());
        own.renew(&self.path);
        Self { own, ..self }
    }

    /// Returns the same folder, except that a scan keeps empty folders: for times when the wall clock may be wrong
    /// about their age.
    #[must_use]
    pub fn without_pruning(&self) -> Self {
        Self { prunes: false, ..self.clone() }
    }

    /// Returns the name under which a file is stored: that of [`sent_as`], or the final one of a file that is ignored
    /// because its name is temporary.
    pub fn stored_as(&self, path: &Path) -> SentAs {
        let path = sent_as(path);
        let finished = self.ignore.matches(&path).and_then(|_| self.final_path(&path));
        SentAs { is_unfinished: finished.is_some(), path: finished.unwrap_or(path) }
    }

    /// Returns the final name of a file with a temporary one, unless the final one is ignored too.
    fn final_path(&self, path: &Path) -> Option<PathBuf> {
        unfinished::final_path(path).filter(|path| self.ignore.matches(path).is_none())
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the device and inode of the folder, which differ after it was deleted and created again or mounted over.
    ///
    /// # Errors
    /// The error of the file system if the folder is missing or unreadable.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::fstat(self.handle()?)?;
        match place::why_not_readable(&self.path) {
            Some(error) => Err(error),
            None => Ok((stat.st_dev, stat.st_ino)),
        }
    }

    /// Returns the id of the file system and the inode of the folder. They stay the same if its disk is mounted again, also
    /// if the disk is another device then (statvfs(3), `f_fsid`).
    ///
    /// # Errors
    /// The error of the file system if the folder is missing or unreadable.
    pub fn home(&self) -> io::Result<(u64, u64)> {
        let root = self.handle()?;
        Ok((rustix::fs::fstatvfs(&root)?.f_fsid, rustix::fs::fstat(&root)?.st_ino))
    }

    /// Returns whether inotify reports all changes in the folder.
    ///
    /// Network file systems, such as NFS, SMB, FUSE and 9p, do not report the changes that other machines make.
    ///
    /// # Errors
    /// The error of the file system if the folder is missing or unreadable.
    pub fn has_inotify(&self) -> io::Result<bool> {
        Ok(!writer::is_remote(self.root()?)?)
    }

    /// Tries how a file in the folder is renamed without replacing another one, with a file of our own that is gone
    /// afterwards.
    ///
    /// # Errors
    /// The error of the file system if nothing can be created or renamed there.
    pub fn try_rename(&self) -> io::Result<RenameWay> {
        rename::try_out(self.root()?.as_fd(), &self.path)
    }

    /// A descriptor that reads nothing: the daemon looks every second, and its own watch would wake it for each opening.
    fn handle(&self) -> io::Result<OwnedFd> {
        Ok(rustix::fs::open(&self.path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    fn root(&self) -> io::Result<OwnedFd> {
        Ok(rustix::fs::open(&self.path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Opens a folder below the drop folder without following a link anywhere on the way.
    ///
    /// It goes step by step: openat2(2) would need one call, but containers and older kernels refuse it.
    fn folder(&self, below: &Path) -> io::Result<OwnedFd> {
        let root = self.root()?;
        if self.own.contains(&root) {
            return Err(io::Error::other("hk-aws keeps its own files in it (state_dir, runtime_dir or keep.path)"));
        }
        below.components().try_fold(root, |folder, step| match step {
            Component::Normal(name) => {
                let folder = open_child(folder.as_fd(), name)?;
                if self.own.contains(&folder) { Err(Errno::XDEV.into()) } else { Ok(folder) }
            }
            Component::CurDir => Ok(folder),
            // The error of openat2 for a path that leads out of the folder.
            _ => Err(Errno::XDEV.into()),
        })
    }

    /// Returns what is at a path now; `None` if nothing is, or if the path leads through a symbolic link.
    ///
    /// # Errors
    /// The error of the file system if the path cannot be walked for any other reason.
    pub fn look(&self, path: &Path, now: SystemTime) -> io::Result<Option<Sight>> {
        let (Some(name), parent) = (path.file_name(), path.parent().unwrap_or(Path::new(""))) else {
            return Ok(None);
        };
        // A pattern may match a folder above it.
        if let Some(pattern) = self.ignore.matches(parent) {
            return Ok(Some(Sight::Ignored(path.to_owned(), pattern.to_owned())));
        }
        let found = self.folder(parent).and_then(|parent| stat(parent.as_fd(), name).map(|stat| (parent, stat)));
        match found {
            Err(error) if leads_nowhere(&error) => Ok(None),
            Err(error) => Err(error),
            Ok((parent, stat)) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Ok(Some(Sight::Folder(path.to_owned(), None))),
                kind => Ok(self.see_file(parent.as_fd(), path.to_owned(), kind, now)),
            },
        }
    }

    /// Opens a file for reading; a symbolic link, fifo or device is never opened.
    ///
    /// # Errors
    /// [`OpenError::Gone`] if nothing is there; [`OpenError::NotAFile`] and [`OpenError::LeftAlone`] if something is
    /// there that is no capture; [`OpenError::Io`] if the system refuses, so that the file waits for the owner.
    pub fn open(&self, path: &Path) -> Result<Opened, OpenError> {
        let (Some(name), parent) = (path.file_name(), path.parent().unwrap_or(Path::new(""))) else {
            return Err(OpenError::NotAFile("it has no name"));
        };
        let attempt = || -> io::Result<(OwnedFd, OwnedFd)> {
            let parent = self.folder(parent)?;
            // A path-only descriptor does not open the file: it tells what the file is before a driver learns of us.
            let handle =
                rustix::fs::openat(&parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            Ok((parent, handle))
        };
        let (parent, handle) = attempt().map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => OpenError::Gone,
            Some(Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => OpenError::NotAFile("a folder on its way is a link"),
            _ => OpenError::Io(error),
        })?;
        let stat = rustix::fs::fstat(&handle).map_err(io::Error::from)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::RegularFile {
            return Err(OpenError::NotAFile(describe(kind)));
        }
        let file = File::open(format!("/proc/self/fd/{}", handle.as_raw_fd()))?;
        // Checked again, because another file may have come under the name since the scan.
        if let Some(reason) = refuse(&stat, parent.as_fd()) {
            return Err(OpenError::LeftAlone(reason));
        }
        Ok(Opened::new(file, parent, name.to_owned(), Stamp::of(&stat)))
    }
}

/// Returns the path under which a file was sent, without the beginning that its name gets while it is taken away.
pub fn sent_as(path: &Path) -> PathBuf {
    let original = path.file_name().and_then(|name| {
        let rest = name.as_bytes().strip_prefix(ASIDE.as_bytes())?;
        let dash = rest.iter().position(|byte| *byte == b'-')?;
        // Anybody can create such a name; it must not lead to another folder.
        Some(OsStr::from_bytes(&rest[dash + 1..])).filter(|name| !["", ".", ".."].map(OsStr::new).contains(name))
    });
    original.map_or_else(|| path.to_owned(), |name| path.with_file_name(name))
}

/// Returns why a regular file in `parent` is no capture; `None` if it is one.
fn refuse(stat: &Stat, parent: BorrowedFd<'_>) -> Option<String> {
    let owner = || rustix::fs::fstat(parent).ok().map(|folder| folder.st_uid);
    let capacity = || rustix::fs::fstatvfs(parent).ok().map(|system| system.f_blocks.saturating_mul(system.f_frsize));
    admit::refuse(stat, owner, capacity)
}

/// Returns what `name` in `parent` is, without following a link.
fn stat(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Stat> {
    Ok(rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn open_child(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// Returns whether an error means that the path leads nowhere, or through something that is no folder of ours.
fn leads_nowhere(error: &io::Error) -> bool {
    let known = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(known, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV))
}

fn describe(kind: FileType) -> &'static str {
    match kind {
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        FileType::Directory => "folder",
        _ => "special file",
    }
}
