//! Where a folder really is, whatever symbolic links and mounts lead to it.
//!
//! Two paths can lead to the same folder: through a link, or through a bind mount. A [`Place`] is the same for both: the
//! file system, and the path within it. Comparing devices and inodes alone was rejected: it does not tell that one folder
//! is inside another.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::persist::{self, Purpose};

/// The most links that are followed for one path, as the kernel does (`path_resolution(7)`).
const MOST_LINKS: u32 = 40;

/// A limit above the longest state file of two paths.
const LONGEST_MEMORY_BYTES: u64 = 64 << 10;

/// A place on a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The device number of the file system, as the table of mounts has it.
    device: String,
    /// The path from the root of the file system.
    path: PathBuf,
}

/// A mount of this process's view of the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The place that can be seen there.
    pub place: Place,
    /// The path where it can be seen.
    pub point: PathBuf,
    /// The type of the file system, such as `ext4`.
    pub file_system: String,
    /// Whether this mount can only be read.
    pub is_read_only: bool,
    /// Whether the file system as a whole can only be read, at whatever mount.
    pub is_disk_read_only: bool,
}

impl Place {
    /// Returns the place of a path, which need not exist yet.
    ///
    /// # Errors
    /// The error of the file system if the path cannot be followed.
    pub fn of(path: &Path, mounts: &[Mount]) -> io::Result<Self> {
        let real = real_path(path, MOST_LINKS)?;
        // Of several mounts on one point, the last one hides the others.
        let mount = mounts
            .iter()
            .filter(|mount| real.starts_with(&mount.point))
            .enumerate()
            .max_by_key(|(number, mount)| (mount.point.components().count(), *number))
            .map(|(_, mount)| mount);
        let Some(mount) = mount else { return Ok(Self { device: String::new(), path: real }) };
        let below = real.strip_prefix(&mount.point).unwrap_or(Path::new(""));
        Ok(Self { device: mount.place.device.clone(), path: mount.place.path.join(below) })
    }

    /// Returns the path from the root of the file system.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether `other` is this place or inside it.
    pub fn holds(&self, other: &Self) -> bool {
        self.device == other.device && other.path.starts_with(&self.path)
    }
}

/// Returns the mounts that this process sees, in the order in which they were made.
///
/// # Errors
/// The error of the file system if `/proc` cannot be read.
pub fn mounts() -> io::Result<Vec<Mount>> {
    MountTable::open()?.read()
}

/// The table of mounts that this process sees, kept open: so the kernel tells whether it has changed.
#[derive(Debug)]
pub struct MountTable(File);

impl MountTable {
    /// Opens the table.
    ///
    /// # Errors
    /// The error of the file system if `/proc` cannot be read.
    pub fn open() -> io::Result<Self> {
        File::open("/proc/self/mountinfo").map(Self)
    }

    /// Returns the mounts, in the order in which they were made.
    ///
    /// # Errors
    /// As [`MountTable::open`].
    pub fn read(&mut self) -> io::Result<Vec<Mount>> {
        let mut table = Vec::new();
        self.0.rewind()?;
        self.0.read_to_end(&mut table)?;
        Ok(read_mounts(&table))
    }

    /// Returns whether the table has changed since it was opened or this was last asked (proc(5): a change is a priority
    /// event); where the system does not say, it has.
    pub fn has_changed(&self) -> bool {
        let mut asked = [PollFd::new(&self.0, PollFlags::PRI)];
        rustix::event::poll(&mut asked, Some(&Timespec::default())).map_or(true, |changed| changed > 0)
    }
}

/// Reads a table of mounts in the form of `/proc/self/mountinfo` (proc(5)).
pub fn read_mounts(table: &[u8]) -> Vec<Mount> {
    table.split(|byte| *byte == b'\n').filter_map(mount).collect()
}

/// Returns the mounts at or below `folder`.
///
/// # Errors
/// The error of the file system if the path of the folder cannot be followed.
pub fn mounts_below<'a>(folder: &Path, mounts: &'a [Mount]) -> io::Result<impl Iterator<Item = &'a Mount>> {
    let real = real_path(folder, MOST_LINKS)?;
    Ok(mounts.iter().filter(move |mount| mount.point.starts_with(&real)))
}

/// Returns the highest part of the path `folder` that is on the same disk, which is where its disk is mounted, or a link to
/// it. What does not exist yet is on the disk of the folder in which it will be.
///
/// # Errors
/// The error of the file system if the path cannot be followed.
fn disk_of(folder: &Path) -> io::Result<PathBuf> {
    let device = |path: &Path| path.metadata().map(|found| found.dev());
    let mut above = folder.ancestors().skip_while(|path| !path.exists());
    let mut disk = above.next().ok_or(io::ErrorKind::NotFound)?;
    let own = device(disk)?;
    for path in above {
        if device(path)? != own {
            break;
        }
        disk = path;
    }
    Ok(disk.to_owned())
}

/// A folder, and where its disk was mounted when it was last used.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KnownDisk {
    folder: PathBuf,
    disk: PathBuf,
}

/// Returns where the disk of `folder` was mounted, if it is not mounted any more; otherwise remembers in the state file
/// `memory` where it is mounted now.
///
/// # Errors
/// The error of the file system if the folder cannot be followed, or the state file cannot be written.
pub fn missing_disk(memory: &Path, folder: &Path) -> io::Result<Option<PathBuf>> {
    let known: Option<KnownDisk> = persist::read(memory, LONGEST_MEMORY_BYTES).ok();
    let now = KnownDisk { folder: folder.to_owned(), disk: disk_of(folder)? };
    match known {
        // A disk that was mounted since, nearer to the folder, is no loss.
        Some(known) if known.folder == folder && known.disk != now.disk && known.disk.starts_with(&now.disk) => {
            Ok(Some(known.disk))
        }
        Some(known) if known == now => Ok(None),
        _ => persist::write(memory, &now, Purpose::NextStart).map(|()| None),
    }
}

/// Remembers in the state file `memory` where the disk of `folder` is mounted now, whatever was before.
///
/// # Errors
/// As [`missing_disk`].
pub fn accept_disk(memory: &Path, folder: &Path) -> io::Result<()> {
    let now = KnownDisk { folder: folder.to_owned(), disk: disk_of(folder)? };
    persist::write(memory, &now, Purpose::NextStart)
}

/// Reads a line of `/proc/self/mountinfo` (proc(5)): id, parent, device, root, mount point, options, optional fields up to a
/// `-`, type, source, options of the file system.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ').skip(2);
    let device = String::from_utf8_lossy(fields.next()?).into_owned();
    let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
    let is_read_only = |options: &[u8]| options.split(|byte| *byte == b',').any(|option| option == b"ro");
    let options = fields.next()?;
    let mut of_disk = fields.skip_while(|field| *field != b"-").skip(1);
    let file_system = String::from_utf8_lossy(of_disk.next()?).into_owned();
    Some(Mount {
        place: Place { device, path: root },
        point,
        file_system,
        is_read_only: is_read_only(options),
        is_disk_read_only: of_disk.nth(1).is_some_and(is_read_only),
    })
}

/// Turns `\040` and the like back into the characters that they stand for.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let octal = (*first == b'\\').then(|| after.get(..3)).flatten();
        let code = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Returns a path without links. What does not exist yet is taken as it is written, below what exists.
fn real_path(path: &Path, links: u32) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        done => return done,
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path.to_owned()) };
    match path.read_link() {
        // A link to something that does not exist yet.
        Ok(target) if links > 0 => real_path(&parent.join(target), links - 1),
        _ => Ok(real_path(parent, links)?.join(name)),
    }
}

/// Returns why this process may not read a folder; `None` if it may, if the folder is missing, or if the system does not say.
pub fn why_not_readable(folder: &Path) -> Option<io::Error> {
    why_not(folder, rustix::fs::Access::READ_OK)
}

/// Returns why this process may create and remove nothing in a folder; `None` if it may, if the folder is missing, or if the
/// system does not say.
pub fn why_not_writable(folder: &Path) -> Option<io::Error> {
    why_not(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
}

fn why_not(folder: &Path, access: rustix::fs::Access) -> Option<io::Error> {
    let asked = rustix::fs::accessat(rustix::fs::CWD, folder, access, rustix::fs::AtFlags::EACCESS);
    let refused = asked.err().filter(|error| matches!(*error, Errno::ROFS | Errno::ACCESS | Errno::PERM));
    refused.map(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn place(path: &Path, mounts: &[Mount]) -> Place {
        Place::of(path, mounts).unwrap()
    }

    #[test]
    fn a_link_and_what_it_leads_to_are_one_place_even_before_that_exists() {
        let folder = tempfile::tempdir().unwrap();
        let path = |below: &str| folder.path().join(below);
        std::fs::create_dir(path("drop")).unwrap();
        symlink("drop/later", path("link")).unwrap();
        symlink(path("link"), path("link to it")).unwrap();
        symlink("loop", path("loop")).unwrap();
        let mounts = mounts().unwrap();
        let drop = place(&path("drop"), &mounts);
        for inside in ["drop", "drop/later", "link", "link/kept", "link to it/kept/CAM"] {
            assert!(drop.holds(&place(&path(inside), &mounts)), "{inside}");
        }
        for outside in ["", "drop2", "elsewhere/drop"] {
            assert!(!drop.holds(&place(&path(outside), &mounts)), "{outside}");
        }
        assert!(Place::of(&path("loop/a"), &mounts).is_err());
    }

    #[test]
    fn a_disk_that_is_mounted_no_more_is_missing_until_that_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let (memory, drop) = (folder.path().join("disk.json"), folder.path().join("mnt/usb/drop"));
        assert_eq!(missing_disk(&memory, &drop).unwrap(), None, "the first time");
        let disk = disk_of(&drop).unwrap();
        assert!(folder.path().starts_with(&disk));
        assert_eq!(disk_of(&disk).unwrap(), disk);
        let was = |disk: &Path| KnownDisk { folder: drop.clone(), disk: disk.to_owned() };
        let usb = folder.path().join("mnt/usb");
        persist::write(&memory, &was(&usb), Purpose::NextStart).unwrap();
        assert_eq!(missing_disk(&memory, &drop).unwrap(), Some(usb.clone()));
        assert_eq!(missing_disk(&memory, &drop).unwrap(), Some(usb), "it stays missing");
        accept_disk(&memory, &drop).unwrap();
        assert_eq!(missing_disk(&memory, &drop).unwrap(), None);
    }

    #[test]
    fn a_bind_mount_is_the_place_that_it_shows() {
        let table: Vec<Mount> = [
            "27 1 8:1 / / rw - ext4 /dev/sda1 rw",
            "30 27 8:17 / /mnt/my\\040disk rw - ext4 /dev/sdb1 rw",
            "31 27 8:17 /a/drop/state /var/lib/hk-aws rw,relatime shared:1 - ext4 /dev/sdb1 rw",
            "",
        ]
        .iter()
        .filter_map(|line| mount(line.as_bytes()))
        .collect();
        assert_eq!(table[1].point, Path::new("/mnt/my disk"));
        let drop = place(Path::new("/mnt/my disk/a/drop"), &table);
        assert!(drop.holds(&place(Path::new("/var/lib/hk-aws/kept"), &table)));
        assert!(!drop.holds(&place(Path::new("/var/lib"), &table)));
        assert_eq!(mounts_below(Path::new("/mnt"), &table).unwrap().count(), 1);
    }
}
