//! Folders that a scan found empty. Cameras leave thousands of them, a day or an hour each; as long as such a folder has not
//! changed, a scan need not open it again.
//!
//! Its change time says so: the kernel sets it with every entry that comes, and no program can set it back. It proves
//! nothing where others change the folder without our kernel (NFS), or where time goes in coarse steps, so such folders
//! are read by every scan. And because a file system may be worse than its promise, each folder is read in one of
//! [`TURNS`] scans whatever it says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::Stat;

use super::{EMPTY_FOLDER_AGE, Stamp, system_time};

/// Each folder is read in one of so many scans.
const TURNS: u64 = 16;

/// The most folders that are remembered: some 4 MiB.
const MOST: usize = 65_536;

/// A folder that changed this long before a scan cannot change again at the same time by the kernel's clock, whose steps
/// are 10 ms or less.
const SETTLED: Duration = Duration::from_millis(200);

/// The folders that were empty when they were read last. All clones know the same.
#[derive(Debug, Clone, Default)]
pub(super) struct EmptyFolders(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// The number of scans so far.
    scan: u64,
    /// By device and inode.
    folders: HashMap<(u64, u64), Empty>,
}

#[derive(Debug)]
struct Empty {
    changed: SystemTime,
    /// The last scan that met it.
    scan: u64,
}

impl EmptyFolders {
    /// Begins a scan of everything.
    pub(super) fn scan_begins(&self) {
        self.lock().scan += 1;
    }

    /// Ends a scan that has seen everything: a folder that it did not meet is gone.
    pub(super) fn scan_ends(&self) {
        let mut known = self.lock();
        let scan = known.scan;
        known.folders.retain(|_, folder| folder.scan == scan);
    }

    /// Remembers a folder that was read after `stat` was taken, and is empty.
    pub(super) fn add(&self, stat: &Stat, now: SystemTime) {
        let changed = changed(stat);
        let is_settled = now.duration_since(changed).is_ok_and(|age| age >= SETTLED);
        let mut known = self.lock();
        if is_settled && Stamp::is_fine_time(changed) && known.folders.len() < MOST {
            let scan = known.scan;
            known.folders.insert(inode(stat), Empty { changed, scan });
        }
    }

    /// Returns whether a folder is known to be empty still, and not so old that it is to be removed.
    pub(super) fn has(&self, stat: &Stat, now: SystemTime) -> bool {
        let mut known = self.lock();
        let scan = known.scan;
        let Some(empty) = known.folders.get_mut(&inode(stat)) else { return false };
        empty.scan = scan;
        let age = now.duration_since(Stamp::of(stat).modified).unwrap_or_default();
        empty.changed == changed(stat) && age < EMPTY_FOLDER_AGE && !(scan + stat.st_ino).is_multiple_of(TURNS)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn inode(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn changed(stat: &Stat) -> SystemTime {
    system_time(stat.st_ctime, stat.st_ctime_nsec)
}
