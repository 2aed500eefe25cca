//! Checks of this box: the user, the daemon's own folders, and the room on their disks.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use indicatif::HumanBytes;

use super::{Check, show};

/// The least room for captures, in bytes: a few minutes of them.
const LEAST_BYTES: u64 = 64 << 20;

/// The least room for captures, in files: a few minutes of them.
const LEAST_INODES: u64 = 1000;

/// How the name of a trial file begins; the file is removed again.
const TRIAL: &str = ".hk-aws-doctor-";

/// A folder that the daemon writes to.
pub(super) struct OwnFolder<'a> {
    /// Its name for the owner.
    pub(super) name: &'static str,
    /// Its key in the configuration.
    pub(super) key: &'static str,
    pub(super) path: &'a Path,
}

/// The room on a disk.
#[derive(Debug, Clone, Copy)]
struct FreeRoom {
    bytes: u64,
    /// Free inodes; `None` for a file system that has no fixed number of them.
    inodes: Option<u64>,
}

/// Checks whether this runs as the daemon's user, to whom the state folder belongs.
pub(super) fn user(state_dir: &Path) -> Check {
    let us = rustix::process::geteuid().as_raw();
    match fs::metadata(state_dir).map(|metadata| metadata.uid()) {
        Ok(owner) if owner != us => Check::warn(
            "user",
            format!(
                "runs as user {us}, but {} belongs to user {owner}: every finding is about user {us}",
                show(state_dir)
            ),
        )
        .mend("run it with sudo: then it runs as the service does"),
        _ => Check::ok("user", format!("runs as user {us}")),
    }
}

/// Checks whether a file can be written, synced, renamed and removed in a folder, or where the folder would be created;
/// `shut_out` is what to do if a sandbox is the cause.
pub(super) fn writable(folder: &OwnFolder<'_>, shut_out: Option<&str>) -> Check {
    let there = existing(folder.path);
    match write_and_rename(there) {
        Ok(()) if there == folder.path => Check::ok(folder.name, format!("{} is writable", show(folder.path))),
        Ok(()) => Check::ok(folder.name, format!("{} can be created", show(folder.path))),
        Err(error) => Check::fail(folder.name, format!("failed to write in {}: {error}", show(there))).mend(
            shut_out
                .map_or_else(|| format!("let the daemon's user write there, or correct {}", folder.key), str::to_owned),
        ),
    }
}

fn write_and_rename(folder: &Path) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(TRIAL).tempfile_in(folder)?;
    file.write_all(b"tried by hk-aws doctor\n")?;
    file.as_file().sync_all()?;
    let renamed = file.path().with_extension("renamed");
    file.persist(&renamed).map_err(|error| error.error)?;
    tempfile::TempPath::try_from_path(renamed)?.close()
}

/// Checks whether a disk has room for captures; it warns if fewer than `wanted` bytes are free.
pub(super) fn room(name: &'static str, folder: &Path, wanted: u64) -> Check {
    let there = existing(folder);
    let stat = match rustix::fs::statvfs(there) {
        Ok(stat) => stat,
        Err(error) => {
            return Check::fail(name, format!("failed to read file system of {}: {error}", show(there)))
                .mend("mount it again, or correct the path");
        }
    };
    // Some file systems create inodes as they need them, and report a total of 0.
    let inodes = (stat.f_files > 0).then_some(stat.f_favail);
    judge_room(name, FreeRoom { bytes: stat.f_bavail.saturating_mul(stat.f_frsize), inodes }, wanted)
}

fn judge_room(name: &'static str, room: FreeRoom, wanted: u64) -> Check {
    let files = room.inodes.map(|inodes| format!(", room for {inodes} files")).unwrap_or_default();
    let says = format!("{} free{files}", HumanBytes(room.bytes));
    let mend = "make room: local copies of stored captures may be deleted, the oldest first";
    if room.bytes < LEAST_BYTES || room.inodes.is_some_and(|inodes| inodes < LEAST_INODES) {
        Check::fail(name, says).mend(mend)
    } else if room.bytes < wanted {
        Check::warn(name, format!("{says}, less than keep.min_free ({})", HumanBytes(wanted))).mend(mend)
    } else {
        Check::ok(name, says)
    }
}

/// Returns the folder itself, or the nearest folder above it that exists.
fn existing(folder: &Path) -> &Path {
    folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckOutcome::{Fail, Ok, Warn};

    #[test]
    fn a_disk_fails_when_it_is_full_and_warns_before() {
        let gib = 1 << 30;
        for (bytes, inodes, expected) in [
            (3 * gib, Some(5000), Ok),
            (3 * gib, None, Ok),
            (gib, Some(5000), Warn),
            (1 << 20, Some(5000), Fail),
            (3 * gib, Some(10), Fail),
        ] {
            let check = judge_room("disk", FreeRoom { bytes, inodes }, 2 * gib);
            assert_eq!(check.outcome, expected, "{bytes} {inodes:?}");
            assert_eq!(check.mend.is_empty(), expected == Ok);
        }
    }
}
