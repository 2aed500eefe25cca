//! The drop folder: scan it, open what lies in it, take away what is done. Nothing else removes or renames a file there.
//!
//! Whoever may write into the folder is not trusted with ours. Every path is walked from the folder's own descriptor
//! without following a symbolic link, and a file is opened only after it is known to be a regular one: opening a fifo
//! would hang, opening a device could do anything. A folder that is swapped for a link between scan and open leads
//! nowhere.
//!
//! Taking away comes in three steps: rename aside within the same folder, look whether the bytes are still the ones
//! that were read and nobody has the file open, and only then remove or move it; else it is put back. Checking first
//! and unlinking after was rejected: an FTP server that opens the file in between answers "stored" for a picture that
//! is gone. A crash between the steps leaves a name that starts with [`ASIDE`], which the next scan takes for what it
//! is: whoever takes a file away holds a lock on it, and the kernel gives a dead process's locks back. The capture then
//! takes its ordinary way again.
//!
//! Whoever may write into the folder can still swap another file in between that look and the removal. He loses a file
//! that he could have removed himself; what he swaps in never gets among the local copies.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use crate::config;

mod admit;
mod writer;

pub use writer::Writer;

/// What the name of a file starts with while it is being taken away.
pub const ASIDE: &str = ".hk-aws-";

/// Where the file system knows no locks, a file renamed aside this long ago was left by a crash: taking away lasts
/// milliseconds.
const LEFT_BEHIND_AFTER: Duration = Duration::from_mins(5);

/// An empty folder this old is one that a camera left behind.
pub const EMPTY_FOLDER_AGE: Duration = Duration::from_hours(24);

/// Longest file name on the file systems of Linux, in bytes (limits.h, `NAME_MAX`).
pub const NAME_MAX: usize = 255;

/// The folder that cameras push into.
#[derive(Debug, Clone)]
pub struct DropFolder {
    path: PathBuf,
    ignore: config::Ignore,
    prunes: bool,
}

/// What distinguishes one state of one file from any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The device and inode.
    pub inode: (u64, u64),
    /// Bytes.
    pub size: u64,
    /// Last change of the bytes.
    pub modified: SystemTime,
    /// Last change of bytes, name or owner, which no program can set; of a file with several names, of its bytes.
    pub changed: SystemTime,
}

/// A regular file in the drop folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Below the drop folder.
    pub path: PathBuf,
    /// As it is now.
    pub stamp: Stamp,
}

/// One thing that a scan comes across.
#[derive(Debug)]
pub enum Sight {
    /// A folder, said before it is read so that it can be watched first.
    Folder(PathBuf),
    /// A file to upload.
    File(Found),
    /// A name that the configuration ignores, with the pattern.
    Ignored(PathBuf, String),
    /// Something that is left alone, with the reason.
    LeftAlone(PathBuf, String),
}

/// Why a file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there any more.
    #[error("file is gone")]
    Gone,
    /// It is no regular file, or the way to it leads through a symbolic link.
    #[error("not a regular file: {0}")]
    NotAFile(&'static str),
    /// It is none that a scan would have taken for a capture.
    #[error("left alone: {0}")]
    LeftAlone(String),
    /// The system refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What became of a file that was to be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is no longer in the drop folder.
    Away,
    /// Somebody changed it or has it open: it is where it was.
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

impl Stamp {
    fn of(stat: &Stat) -> Self {
        let time = |seconds: i64, nanos: u64| {
            let nanos = Duration::from_nanos(nanos);
            let whole = Duration::from_secs(seconds.unsigned_abs());
            if seconds < 0 { UNIX_EPOCH - whole + nanos } else { UNIX_EPOCH + whole + nanos }
        };
        let modified = time(stat.st_mtime, stat.st_mtime_nsec);
        // Taking one of several names away changes the file's change time, for all of them.
        let linked = stat.st_nlink > 1;
        Self {
            inode: (stat.st_dev, stat.st_ino),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified,
            changed: if linked { modified } else { time(stat.st_ctime, stat.st_ctime_nsec) },
        }
    }

    /// How long ago it was last changed by the clock that says `now`; of a time to come, not at all.
    pub fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.modified.max(self.changed)).unwrap_or_default()
    }

    /// Whether the bytes are the same ones; a rename in between does not matter.
    fn same_bytes(&self, other: &Self) -> bool {
        (self.inode, self.size, self.modified) == (other.inode, other.size, other.modified)
    }
}

impl DropFolder {
    /// The folder at `path`.
    pub fn new(config: &config::DropFolderSettings) -> Self {
        Self { path: config.path.clone(), ignore: config.ignore.clone(), prunes: true }
    }

    /// The same folder, but that empty folders in it stay: for times when the wall clock does not tell their age.
    #[must_use]
    pub fn without_pruning(&self) -> Self {
        Self { prunes: false, ..self.clone() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The identity of the folder itself: changes when it is deleted and made again, or mounted over.
    ///
    /// # Errors
    /// Where it is missing or unreadable.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::fstat(self.root()?)?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Whether the folder's file system reports what other machines do to it; NFS, SMB, FUSE and 9p do not.
    ///
    /// # Errors
    /// Where it is missing or unreadable.
    pub fn has_inotify(&self) -> io::Result<bool> {
        // statfs(2), "f_type": NFS, SMB, CIFS, SMB2, FUSE, 9p, AFS, Ceph.
        const REMOTE: [u32; 8] =
            [0x6969, 0x517B, 0xFF53_4D42, 0xFE53_4D42, 0x6573_5546, 0x0102_1997, 0x5346_414F, 0x00C3_6400];
        let kind = rustix::fs::fstatfs(self.root()?)?.f_type;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the magic numbers are 32 bits wide"
        )]
        Ok(!REMOTE.contains(&(kind as u32)))
    }

    fn root(&self) -> io::Result<OwnedFd> {
        Ok(rustix::fs::open(&self.path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Looks at everything below `below` (empty for the whole folder), and prunes empty folders that are a day old.
    ///
    /// A camera's own first folder is never pruned. Files come in the order of the directory: nothing is held. It goes
    /// on for as long as `see` says.
    ///
    /// # Errors
    /// Where `below` itself cannot be read; what cannot be read further down is [`Sight::LeftAlone`].
    pub fn scan(&self, below: &Path, now: SystemTime, see: &mut dyn FnMut(Sight) -> ControlFlow<()>) -> io::Result<()> {
        if let Some(pattern) = self.ignore.matches(below) {
            let _end = see(Sight::Ignored(below.to_owned(), pattern.to_owned()));
            return Ok(());
        }
        if let Some(reason) = admit::refuse_folder(below) {
            let _end = see(Sight::LeftAlone(below.to_owned(), reason));
            return Ok(());
        }
        let mut going = see(Sight::Folder(below.to_owned()));
        let mut stack: Vec<Level> = vec![Level::open(open_folder(self.root()?, below)?, below.to_owned())?];
        while going.is_continue()
            && let Some(level) = stack.last_mut()
        {
            let Some(entry) = level.entries.next() else {
                let done = stack.pop();
                if let (Some(done), Some(parent)) = (done, stack.last_mut()) {
                    parent.empty &= self.prunes && done.prune(parent.entries.fd()?, now);
                }
                continue;
            };
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let path = level.path.join(name);
            let kind = match entry.file_type() {
                FileType::Unknown => match stat(level.entries.fd()?, name) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(_) => continue,
                },
                known => known,
            };
            if kind != FileType::Directory {
                level.empty = false;
                if let Some(sight) = self.see_file(level.entries.fd()?, path, name, kind, now) {
                    going = see(sight);
                }
                continue;
            }
            if let Some(pattern) = self.ignore.matches(&path) {
                level.empty = false;
                going = see(Sight::Ignored(path, pattern.to_owned()));
                continue;
            }
            if let Some(reason) = admit::refuse_folder(&path) {
                level.empty = false;
                going = see(Sight::LeftAlone(path, reason));
                continue;
            }
            // Watched before it is read: what arrives in between is seen by one or the other.
            going = see(Sight::Folder(path.clone()));
            match level.entries.fd().map_err(io::Error::from).and_then(|parent| open_child(parent, name)) {
                Ok(folder) => stack.push(Level::open(folder, path)?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    level.empty = false;
                    going = see(Sight::LeftAlone(path, format!("folder cannot be read: {error}")));
                }
            }
        }
        Ok(())
    }

    fn see_file(
        &self,
        parent: BorrowedFd<'_>,
        path: PathBuf,
        name: &OsStr,
        kind: FileType,
        now: SystemTime,
    ) -> Option<Sight> {
        let left_behind = name.as_bytes().starts_with(ASIDE.as_bytes());
        if !left_behind && let Some(pattern) = self.ignore.matches(&path) {
            return Some(Sight::Ignored(path, pattern.to_owned()));
        }
        if kind != FileType::RegularFile {
            return Some(Sight::LeftAlone(path, format!("not a regular file but a {}", describe(kind))));
        }
        // A file that vanished since the directory was read is no sight.
        let stat = stat(parent, name).ok()?;
        if let Some(reason) = refuse(&stat, parent) {
            return Some(Sight::LeftAlone(path, reason));
        }
        let stamp = Stamp::of(&stat);
        if left_behind && is_in_work(parent, name, &stamp, now) {
            return None;
        }
        Some(Sight::File(Found { path, stamp }))
    }

    /// Looks at one path: what is there now, or `None`.
    ///
    /// # Errors
    /// Where the way to it cannot be walked for another reason than that it is not there.
    pub fn look(&self, path: &Path, now: SystemTime) -> io::Result<Option<Sight>> {
        let (Some(name), parent) = (path.file_name(), path.parent().unwrap_or(Path::new(""))) else {
            return Ok(None);
        };
        // A folder above it may be ignored.
        if let Some(pattern) = self.ignore.matches(parent) {
            return Ok(Some(Sight::Ignored(path.to_owned(), pattern.to_owned())));
        }
        let found =
            open_folder(self.root()?, parent).and_then(|parent| stat(parent.as_fd(), name).map(|stat| (parent, stat)));
        match found {
            Err(error) if is_no_way(&error) => Ok(None),
            Err(error) => Err(error),
            Ok((parent, stat)) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Ok(Some(Sight::Folder(path.to_owned()))),
                kind => Ok(self.see_file(parent.as_fd(), path.to_owned(), name, kind, now)),
            },
        }
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`OpenError`]; a link, fifo or device is never opened.
    pub fn open(&self, path: &Path) -> Result<Opened, OpenError> {
        let (Some(name), parent) = (path.file_name(), path.parent().unwrap_or(Path::new(""))) else {
            return Err(OpenError::NotAFile("it has no name"));
        };
        let attempt = || -> io::Result<(OwnedFd, OwnedFd)> {
            let parent = open_folder(self.root()?, parent)?;
            // A path-only descriptor opens nothing: it says what the file is before its driver hears of us.
            let handle =
                rustix::fs::openat(&parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            Ok((parent, handle))
        };
        let (parent, handle) = attempt().map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => OpenError::Gone,
            Some(Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => OpenError::NotAFile("a folder on its way is a link"),
            _ => OpenError::Io(error),
        })?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&handle).map_err(io::Error::from)?.st_mode);
        if kind != FileType::RegularFile {
            return Err(OpenError::NotAFile(describe(kind)));
        }
        let file = File::open(format!("/proc/self/fd/{}", handle.as_raw_fd()))?;
        let stat = rustix::fs::fstat(&file).map_err(io::Error::from)?;
        // Asked again: since the scan another file may have come under the name.
        if let Some(reason) = refuse(&stat, parent.as_fd()) {
            return Err(OpenError::LeftAlone(reason));
        }
        let stamp = Stamp::of(&stat);
        Ok(Opened { file, parent, name: name.to_owned(), stamp })
    }
}

/// The path under which a file was sent: without the mark of having been taken away half-way.
pub fn sent_as(path: &Path) -> PathBuf {
    let original = path.file_name().and_then(|name| {
        let rest = name.as_bytes().strip_prefix(ASIDE.as_bytes())?;
        let dash = rest.iter().position(|byte| *byte == b'-')?;
        // Anybody may make up a name; none may lead elsewhere.
        Some(OsStr::from_bytes(&rest[dash + 1..])).filter(|name| !["", ".", ".."].map(OsStr::new).contains(name))
    });
    original.map_or_else(|| path.to_owned(), |name| path.with_file_name(name))
}

struct Level {
    entries: Dir,
    path: PathBuf,
    empty: bool,
}

impl Level {
    fn open(folder: OwnedFd, path: PathBuf) -> io::Result<Self> {
        Ok(Self { entries: Dir::new(folder)?, path, empty: true })
    }

    /// Removes this folder if it was left behind; says whether it is gone.
    #[expect(clippy::disallowed_methods, reason = "the home of removal; a folder that is not empty is not removed")]
    fn prune(&self, parent: BorrowedFd<'_>, now: SystemTime) -> bool {
        let depth = self.path.components().count();
        let Some(name) = self.path.file_name().filter(|_| self.empty && depth > 1) else { return false };
        stat(parent, name)
            .ok()
            .and_then(|stat| now.duration_since(Stamp::of(&stat).modified).ok())
            .is_some_and(|age| age >= EMPTY_FOLDER_AGE)
            && rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).is_ok()
    }
}

impl Opened {
    /// The file as it was when it was opened, or put back.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Whether somebody has it open for writing.
    pub fn writer(&self) -> Writer {
        writer::writer(&self.file)
    }

    /// Whether it still is what was opened: the same bytes under the same name.
    pub fn is_unchanged(&self) -> bool {
        let here = rustix::fs::fstat(&self.file).map(|stat| Stamp::of(&stat));
        let there = stat(self.parent.as_fd(), &self.name).map(|stat| Stamp::of(&stat));
        here.is_ok_and(|here| here == self.stamp) && there.is_ok_and(|there| there == self.stamp)
    }

    /// Another descriptor on the same file, at its start.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn reader(&self) -> io::Result<File> {
        // Opening by descriptor finds the same inode whatever its name is now.
        File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Removes the file, unless it changed since it was opened or somebody has it open.
    ///
    /// # Errors
    /// Where the system refuses; the file is then still there.
    #[expect(clippy::disallowed_methods, reason = "the home of removal; the caller has it confirmed elsewhere")]
    pub fn remove(&mut self) -> io::Result<Taken> {
        let Some(aside) = self.move_aside()? else { return Ok(Taken::PutBack) };
        if let Err(error) = rustix::fs::unlinkat(&self.parent, &aside, AtFlags::empty()) {
            self.put_back(&aside)?;
            return Err(error.into());
        }
        Ok(Taken::Away)
    }

    /// Moves the file to `target`, which must not exist, across file systems if need be; its folders are made.
    ///
    /// # Errors
    /// Where the system refuses; the file is then still there.
    #[expect(clippy::disallowed_methods, reason = "the home of renaming")]
    pub fn move_to(&mut self, target: &Path) -> io::Result<Taken> {
        let folder = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
        std::fs::create_dir_all(folder)?;
        if rustix::fs::stat(folder)?.st_dev != self.stamp.inode.0 {
            return self.copy_to(folder, target);
        }
        let Some(aside) = self.move_aside()? else { return Ok(Taken::PutBack) };
        match rustix::fs::renameat_with(&self.parent, &aside, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) if is_file(target, self.stamp.inode) => Ok(Taken::Away),
            // Swapped in the last moment: nobody but us may write where it is now, so this look is the one that counts.
            Ok(()) => {
                rustix::fs::renameat_with(CWD, target, &self.parent, &aside, RenameFlags::NOREPLACE)?;
                self.put_back(&aside)?;
                Ok(Taken::PutBack)
            }
            Err(error) => {
                self.put_back(&aside)?;
                // One file system can be mounted in two places, and a rename between them is refused all the same.
                if error == Errno::XDEV {
                    return self.copy_to(folder, target);
                }
                Err(error.into())
            }
        }
    }

    /// Copies to another file system, syncs, and only then removes the original.
    fn copy_to(&mut self, folder: &Path, target: &Path) -> io::Result<Taken> {
        let mut copy = tempfile::Builder::new().prefix(ASIDE).tempfile_in(folder)?;
        let copied = io::copy(&mut self.reader()?, copy.as_file_mut())?;
        if copied != self.stamp.size || !self.is_unchanged() {
            return Ok(Taken::PutBack);
        }
        copy.as_file().set_modified(self.stamp.modified)?;
        copy.as_file().sync_all()?;
        let copy = copy.persist_noclobber(target).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()?;
        drop(copy);
        // Should the removal not come about, the copy is found to be the same one next time.
        self.remove()
    }

    /// Renames the file aside and makes sure that it is the one that was read; else puts it back.
    #[expect(clippy::disallowed_methods, reason = "the home of renaming")]
    fn move_aside(&mut self) -> io::Result<Option<OsString>> {
        if !self.is_unchanged() || self.writer() == Writer::Somebody {
            return Ok(None);
        }
        // Before the rename, so that no scan ever sees the name without the lock; without one it judges by age.
        let _shown = rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockShared);
        let aside = self.aside();
        if aside != self.name {
            rustix::fs::renameat_with(&self.parent, &self.name, &self.parent, &aside, RenameFlags::NOREPLACE)?;
        }
        // From here on nobody can open it by its name; who did before shows as a writer or has changed it.
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

    /// The name under which nobody knows the file. What a crash left aside keeps its own: a second mark would not come
    /// off with the first, and the capture would go by another name.
    fn aside(&self) -> OsString {
        if self.name.as_bytes().starts_with(ASIDE.as_bytes()) {
            return self.name.clone();
        }
        let mut aside = format!("{ASIDE}{:x}-", self.stamp.inode.1).into_bytes();
        aside.extend(self.name.as_bytes());
        aside.truncate(NAME_MAX);
        OsString::from_vec(aside)
    }

    #[expect(clippy::disallowed_methods, reason = "the home of renaming")]
    fn put_back(&mut self, aside: &OsStr) -> io::Result<()> {
        match rustix::fs::renameat_with(&self.parent, aside, &self.parent, &self.name, RenameFlags::NOREPLACE) {
            // A new file came under the old name, or there was no other: it stays aside, and a scan finds it.
            Err(Errno::EXIST) => return Ok(()),
            other => other?,
        }
        // The renames changed its change time, which must not pass for somebody else's work.
        let now = Stamp::of(&rustix::fs::fstat(&self.file)?);
        if now.same_bytes(&self.stamp) {
            self.stamp = now;
        }
        Ok(())
    }
}

/// Whether some process is just taking this file away.
fn is_in_work(parent: BorrowedFd<'_>, name: &OsStr, stamp: &Stamp, now: SystemTime) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let locked = rustix::fs::openat(parent, name, flags, Mode::empty())
        .and_then(|file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive));
    match locked {
        Ok(()) => false,
        Err(Errno::WOULDBLOCK) => true,
        Err(_) => {
            // What comes to be while a scan runs is younger than its `now`; far ahead of that is a clock that went back.
            let apart = now.duration_since(stamp.changed).unwrap_or_else(|ahead| ahead.duration());
            apart < LEFT_BEHIND_AFTER
        }
    }
}

/// Why a regular file in `parent` is no capture, if so.
fn refuse(stat: &Stat, parent: BorrowedFd<'_>) -> Option<String> {
    let owner = || rustix::fs::fstat(parent).ok().map(|folder| folder.st_uid);
    let capacity = || rustix::fs::fstatvfs(parent).ok().map(|system| system.f_blocks.saturating_mul(system.f_frsize));
    admit::refuse(stat, owner, capacity)
}

/// Whether `path` itself, not what it may lead to, is that very file.
fn is_file(path: &Path, inode: (u64, u64)) -> bool {
    rustix::fs::lstat(path).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == inode)
}

fn stat(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Stat> {
    Ok(rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn open_child(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// Opens a folder below `root` without following a link anywhere on the way.
///
/// Step by step: openat2(2) would do it in one, but containers and older kernels refuse it.
fn open_folder(root: OwnedFd, below: &Path) -> io::Result<OwnedFd> {
    below.components().try_fold(root, |folder, step| match step {
        Component::Normal(name) => open_child(folder.as_fd(), name),
        Component::CurDir => Ok(folder),
        // As openat2 would answer to a path that leads out.
        _ => Err(Errno::XDEV.into()),
    })
}

fn is_no_way(error: &io::Error) -> bool {
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
