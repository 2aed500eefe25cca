//! How much room a file system has, and which failures mean that it has none.

use std::io;
use std::path::Path;

use rustix::io::Errno;

/// A file system counts as short below this share of its size, however much `keep.min_free` asks for: on a card of
/// 8 GB an alarm at 2 GiB would never end.
const LEAST_SHARE: u64 = 10;

/// A file system counts as short below this share of its inodes: a camera's pictures need one each.
const LEAST_INODES_SHARE: u64 = 50;

/// The room on one file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that ordinary users may still write.
    pub free: u64,
    /// Bytes in all.
    pub size: u64,
    /// Files that may still be made.
    pub free_inodes: u64,
    /// Files in all; 0 where the file system sets no limit.
    pub inodes: u64,
}

impl Room {
    /// Looks at the file system on which `path` lies; a path that is not there yet counts as its nearest folder.
    pub fn at(path: &Path) -> Option<Self> {
        let stat = path.ancestors().find_map(|path| rustix::fs::statvfs(path).ok())?;
        Some(Self {
            free: stat.f_bavail * stat.f_frsize,
            size: stat.f_blocks * stat.f_frsize,
            free_inodes: stat.f_favail,
            inodes: stat.f_files,
        })
    }

    /// Why new captures may soon find no room where `min_free` bytes were to stay free; `None` while they do.
    pub fn shortage(&self, min_free: u64) -> Option<String> {
        if self.free < min_free.min(self.size / LEAST_SHARE) {
            return Some(format!("{} of {} MiB are free", self.free >> 20, self.size >> 20));
        }
        let scarce = self.inodes > 0 && self.free_inodes < self.inodes / LEAST_INODES_SHARE;
        scarce.then(|| format!("{} of {} inodes are free", self.free_inodes, self.inodes))
    }
}

/// Whether a write failed for want of room: giving something up may help.
pub fn is_full(error: &io::Error) -> bool {
    matches!(errno(error), Some(Errno::NOSPC | Errno::DQUOT))
}

/// Whether a write failed because nothing at all can be written there.
pub fn is_read_only(error: &io::Error) -> bool {
    errno(error) == Some(Errno::ROFS)
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_short_of_bytes_or_of_inodes() {
        const GIB: u64 = 1 << 30;
        let card = |free, free_inodes| Room { free, size: 32 * GIB, free_inodes, inodes: 1000 };
        for (room, min_free, short) in [
            (card(3 * GIB, 900), 2 * GIB, None),
            (card(GIB, 900), 2 * GIB, Some("1024 of 32768 MiB are free")),
            (card(GIB, 900), 0, None),
            (card(3 * GIB, 19), 0, Some("19 of 1000 inodes are free")),
            // A small disk need not have as much free as a large one.
            (Room { size: 4 * GIB, ..card(GIB, 900) }, 2 * GIB, None),
            // btrfs counts no inodes.
            (Room { inodes: 0, ..card(3 * GIB, 0) }, 2 * GIB, None),
        ] {
            assert_eq!(room.shortage(min_free).as_deref(), short, "{room:?}");
        }
    }

    #[test]
    fn the_room_of_a_folder_to_come_is_that_of_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = (Room::at(folder.path()).unwrap(), Room::at(&folder.path().join("a/b")).unwrap());
        assert_eq!((here.size, here.inodes), (there.size, there.inodes));
    }
}
