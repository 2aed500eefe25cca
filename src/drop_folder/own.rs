//! The folders of hk-aws's own, which no scan reads: a link or a mount can bring one into the drop folder, and then every
//! local copy would be uploaded, kept and uploaded again.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::place::{self, Place};

/// Our own folders, wherever they are seen. All clones know the same.
#[derive(Debug, Clone, Default)]
pub(super) struct OwnFolders {
    paths: Vec<PathBuf>,
    /// The device and inode of each, and of every mount below the drop folder that shows a part of one.
    known: Arc<Mutex<HashSet<(u64, u64)>>>,
}

impl OwnFolders {
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, known: Arc::default() }
    }

    /// Looks again where our folders are: a mount may have come since.
    pub(super) fn renew(&self, drop_folder: &Path) {
        if self.paths.is_empty() {
            return;
        }
        let mounted = self.mounted_below(drop_folder).unwrap_or_default();
        // A folder that does not exist yet cannot be seen anywhere.
        let found = self.paths.iter().chain(&mounted).filter_map(|path| rustix::fs::stat(path).ok());
        let known = found.map(|stat| (stat.st_dev, stat.st_ino)).collect();
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// Returns the mounts below the drop folder that show a part of one of our folders. A mount that shows more than one
    /// of them needs nothing: the scan comes to the folder itself.
    fn mounted_below(&self, drop_folder: &Path) -> std::io::Result<Vec<PathBuf>> {
        let mounts = place::mounts()?;
        let incoming = Place::of(drop_folder, &mounts)?;
        let own: Vec<Place> = self.paths.iter().filter_map(|path| Place::of(path, &mounts).ok()).collect();
        Ok(place::mounts_below(drop_folder, &mounts)?
            // The drop folder itself may be in our state folder.
            .filter(|mount| !incoming.holds(&mount.place) && own.iter().any(|own| own.holds(&mount.place)))
            .map(|mount| mount.point.clone())
            .collect())
    }

    /// Returns whether an open folder is one of ours.
    pub(super) fn contains(&self, folder: impl AsFd) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        !known.is_empty() && rustix::fs::fstat(folder).is_ok_and(|stat| known.contains(&(stat.st_dev, stat.st_ino)))
    }
}
