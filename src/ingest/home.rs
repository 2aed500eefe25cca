//! Whether the drop folder is the one that it was: its disk may drop off, and then the folder under its mount point is in
//! its place, empty and well.

use std::time::SystemTime;

use super::Site;
use crate::clock::Now;
use crate::message;
use crate::place;
use crate::queue::Queue;
use crate::status::{Condition, ConditionKind};

/// The name of the state file that remembers where the disk of the drop folder is mounted.
const MEMORY: &str = "drop-folder.json";

/// Files and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Waited {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// The drop folder that is the right one, and the alarm while another one is in its place.
#[derive(Debug, Default)]
pub(super) struct Home {
    /// The file system and inode of the right one; `None` until it has been seen.
    identity: Option<(u64, u64)>,
    /// What waited in the right one and has not been found since it was last seen.
    gone: Waited,
    alarm: Option<Condition>,
}

impl Home {
    /// Looks which drop folder is there; returns an error that was logged.
    pub(super) fn look(&mut self, site: &Site, queue: &Queue, now: Now) -> Option<String> {
        // Whoever reads the folder reports that it is missing.
        let identity = site.folder.home().ok()?;
        let Some(own) = self.identity else {
            let missing = place::missing_disk(&site.config.state_dir.join(MEMORY), site.folder.path());
            if let Ok(Some(disk)) = missing {
                return self.raise(site, &format!("its disk is not mounted at {}", disk.display()), now.wall);
            }
            self.is_home(identity);
            return None;
        };
        if own == identity {
            self.is_home(identity);
            return None;
        }
        if self.alarm.is_some() {
            return None;
        }
        let there = |path: &std::path::Path| site.folder.path().join(path).symlink_metadata().is_ok();
        for file in queue.files().filter(|file| !there(file.path)) {
            self.gone.files += 1;
            self.gone.bytes += file.size;
        }
        // Somebody has deleted it and created it again, and nothing waited in it.
        if own.0 == identity.0 && self.gone == Waited::default() {
            self.is_home(identity);
            return None;
        }
        let Waited { files, bytes } = self.gone;
        self.raise(site, &format!("{files} files ({bytes} bytes) waited in the one before"), now.wall)
    }

    /// Counts files that a scan has not found any more, in case it has read another folder.
    pub(super) fn not_found(&mut self, waited: Waited) {
        if self.alarm.is_none() {
            self.gone = Waited { files: self.gone.files + waited.files, bytes: self.gone.bytes + waited.bytes };
        }
    }

    /// Takes the folder that is there now for the right one: the owner says so.
    pub(super) fn accept(&mut self, site: &Site) {
        *self = Self::default();
        if let Err(error) = place::accept_disk(&site.config.state_dir.join(MEMORY), site.folder.path()) {
            tracing::debug!("failed to remember the disk of the drop folder: {error}");
        }
    }

    fn is_home(&mut self, identity: (u64, u64)) {
        if self.alarm.is_some() {
            tracing::info!("the drop folder is the one that it was again");
        }
        *self = Self { identity: Some(identity), ..Self::default() };
    }

    fn raise(&mut self, site: &Site, what: &str, at: SystemTime) -> Option<String> {
        if self.alarm.is_some() {
            return None;
        }
        let reason = format!("drop folder {} is not the one that it was: {what}", site.folder.path().display());
        let advice = "mount its disk again, or say with `systemctl reload hk-aws` that it is to stay like this";
        let message = format!("{reason}; {advice}");
        tracing::error!(message_id = message::DROP_FOLDER_REPLACED, "{message}");
        self.alarm = Some(Condition::new(ConditionKind::DropFolderReplaced, at.into(), reason, advice));
        Some(message)
    }

    /// Returns what waited in the right folder while another one is in its place.
    pub(super) fn elsewhere(&self) -> u64 {
        if self.alarm.is_some() { self.gone.files } else { 0 }
    }

    /// Returns what the owner has to mend; `None` if nothing.
    pub(super) fn condition(&self) -> Option<&Condition> {
        self.alarm.as_ref()
    }
}
