//! How much room a file system has, and which errors mean that it has none.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

/// The share of a file system, as a divisor, below which it can count as short, even if `keep.min_free` asks for more:
/// on an 8 GB card, an alarm at 2 GiB free would never end.
const LEAST_SHARE: u64 = 10;

/// The share of the inodes, as a divisor, below which a file system counts as short: each picture needs an inode.
const LEAST_INODES_SHARE: u64 = 50;

/// The room on one file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Free bytes for ordinary users.
    pub free: u64,
    /// Total bytes.
    pub size: u64,
    /// Free inodes: how many more files can be created.
    pub free_inodes: u64,
    /// Total inodes; 0 if the file system sets no limit.
    pub inodes: u64,
}

impl Room {
    /// Returns the room on the file system of `path`, or of its nearest existing parent; `None` if none can be read.
    pub fn at(path: &Path) -> Option<Self> {
        let stat = path.ancestors().find_map(|path| rustix::fs::statvfs(path).ok())?;
        Some(Self {
            free: stat.f_bavail * stat.f_frsize,
            size: stat.f_blocks * stat.f_frsize,
            free_inodes: stat.f_favail,
            inodes: stat.f_files,
        })
    }

    /// Returns whether `bytes` more leave the room that incoming captures need: `min_free`, or a tenth of a small disk.
    pub fn spares(&self, bytes: u64, min_free: u64) -> bool {
        self.free.saturating_sub(bytes) >= min_free.min(self.size / LEAST_SHARE)
    }

    /// Returns why new captures may soon find no room, if `min_free` bytes should stay free; `None` while there is
    /// enough.
    pub fn shortage(&self, min_free: u64) -> Option<String> {
        if self.free < min_free.min(self.size / LEAST_SHARE) {
            return Some(format!("{} of {} MiB are free", self.free >> 20, self.size >> 20));
        }
        let scarce = self.inodes > 0 && self.free_inodes < self.inodes / LEAST_INODES_SHARE;
        scarce.then(|| format!("{} of {} inodes are free", self.free_inodes, self.inodes))
    }
}

/// The room that unpacking may use up: nobody knows beforehand how much comes out of a compressed file.
#[derive(Clone)]
pub struct RoomLimit {
    free: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
    least_free: u64,
}

/// How many bytes are written between two looks at the room.
const LOOK_AFTER: u64 = 4 << 20;

impl RoomLimit {
    /// Returns a limit that leaves `min_free` bytes free on the file system of `folder`, or half of what is free now if that
    /// is less.
    pub fn in_folder(folder: &Path, min_free: u64) -> Self {
        let folder = folder.to_owned();
        Self::of(move || Some(Room::at(&folder)?.free), min_free)
    }

    /// Returns a limit by what `free` returns: the bytes that are free, if that is known.
    pub fn of(free: impl Fn() -> Option<u64> + Send + Sync + 'static, min_free: u64) -> Self {
        let least_free = free().map_or(0, |free| min_free.min(free / 2));
        Self { free: Arc::new(free), least_free }
    }

    /// Returns a writer into `into` that fails once the limit is reached.
    pub fn hold<W: Write>(&self, into: W) -> Limited<'_, W> {
        Limited { into, limit: self, unchecked: LOOK_AFTER }
    }
}

impl std::fmt::Debug for RoomLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoomLimit").field("least_free", &self.least_free).finish_non_exhaustive()
    }
}

/// A writer that fails once a [`RoomLimit`] is reached.
#[derive(Debug)]
pub struct Limited<'a, W> {
    into: W,
    limit: &'a RoomLimit,
    /// The bytes that were written since the last look; the first write looks.
    unchecked: u64,
}

impl<W: Write> Write for Limited<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.unchecked >= LOOK_AFTER {
            self.unchecked = 0;
            let least = self.limit.least_free;
            if let Some(free) = (self.limit.free)().filter(|free| *free < least.saturating_add(LOOK_AFTER)) {
                return Err(io::Error::new(
                    io::ErrorKind::StorageFull,
                    format!("the disk has {} MiB free, and {} MiB of it must stay", free >> 20, least >> 20),
                ));
            }
        }
        let written = self.into.write(bytes)?;
        self.unchecked += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}

/// Returns whether a write failed because there is no room: removing something may help.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Returns whether a write failed because the file system is read-only.
pub fn is_read_only(error: &io::Error) -> bool {
    errno(error) == Some(Errno::ROFS)
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

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
    fn a_copy_leaves_the_room_that_incoming_captures_need() {
        const MIB: u64 = 1 << 20;
        let disk = |free, size| Room { free, size, free_inodes: 9, inodes: 9 };
        for (room, bytes, min_free, spares) in [
            (disk(3 * MIB, 100 * MIB), MIB, 2 * MIB, true),
            (disk(3 * MIB, 100 * MIB), MIB + 1, 2 * MIB, false),
            // Of a small disk, a tenth.
            (disk(5 * MIB, 40 * MIB), MIB, 2048 * MIB, true),
            (disk(5 * MIB, 40 * MIB), MIB + 1, 2048 * MIB, false),
            (disk(0, 40 * MIB), MIB, 2048 * MIB, false),
            (disk(0, 40 * MIB), MIB, 0, true),
        ] {
            assert_eq!(room.spares(bytes, min_free), spares, "{room:?} {bytes} {min_free}");
        }
        assert!(is_full(&io::Error::from_raw_os_error(28)) && is_full(&io::Error::from_raw_os_error(122)));
    }

    #[test]
    fn what_is_unpacked_leaves_the_room_that_must_stay() {
        use std::sync::Mutex;
        const MIB: u64 = 1 << 20;
        // What is written takes room; of a disk that is almost full, half of the rest stays.
        for (free, min_free, stays) in [(100 * MIB, 40 * MIB, 40 * MIB), (100 * MIB, 2048 * MIB, 50 * MIB)] {
            let written = Arc::new(Mutex::new(0));
            let used = Arc::clone(&written);
            let limit = RoomLimit::of(move || Some(free - *used.lock().unwrap()), min_free);
            let error = loop {
                // Many small files are as large as one.
                let mut file = limit.hold(io::sink());
                match io::copy(&mut io::repeat(0).take(MIB), &mut file) {
                    Ok(bytes) => *written.lock().unwrap() += bytes,
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            let left = free - *written.lock().unwrap();
            assert!(left >= stays && left < stays + 2 * LOOK_AFTER, "{left} of {stays}");
        }
        let unknown = RoomLimit::of(|| None, MIB);
        assert_eq!(io::copy(&mut io::repeat(0).take(9 * MIB), &mut unknown.hold(io::sink())).unwrap(), 9 * MIB);
    }

    #[test]
    fn the_room_of_a_folder_to_come_is_that_of_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = (Room::at(folder.path()).unwrap(), Room::at(&folder.path().join("a/b")).unwrap());
        assert_eq!((here.size, here.inodes), (there.size, there.inodes));
    }
}
