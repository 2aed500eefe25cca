//! Who runs this, where may be written, and how much room there is.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use indicatif::HumanBytes;

use super::{Check, show};

/// Room for the captures of a few minutes.
const LEAST_BYTES: u64 = 64 << 20;
/// As many files.
const LEAST_INODES: u64 = 1000;

/// The prefix of what is written for a moment.
const TRIAL: &str = ".hk-aws-doctor-";

/// Whether this runs as the daemon does.
pub(super) fn user(state_dir: &Path) -> Check {
    let us = rustix::process::geteuid().as_raw();
    match fs::metadata(state_dir).map(|metadata| metadata.uid()) {
        Ok(owner) if owner != us => Check::warn(
            "user",
            format!("runs as user {us}, but {} belongs to user {owner}: all this holds for user {us}", show(state_dir)),
            "run it as the daemon's user, with its rights and its environment",
        ),
        _ => Check::ok("user", format!("runs as user {us}")),
    }
}

/// Whether a file can be written, synced, renamed and removed in a folder, or where it would be made.
pub(super) fn writable(name: &'static str, key: &str, folder: &Path) -> Check {
    let there = existing(folder);
    match write_and_rename(there) {
        Ok(()) if there == folder => Check::ok(name, format!("{} can be written", show(folder))),
        Ok(()) => Check::ok(name, format!("{} can be made", show(folder))),
        Err(error) => Check::fail(
            name,
            format!("failed to write in {}: {error}", show(there)),
            format!("let the daemon's user write there, or correct {key}"),
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

/// Whether there is room for captures; below `wanted` bytes it gets scarce.
pub(super) fn room(name: &'static str, folder: &Path, wanted: u64) -> Check {
    let there = existing(folder);
    let stat = match rustix::fs::statvfs(there) {
        Ok(stat) => stat,
        Err(error) => {
            let says = format!("failed to read file system of {}: {error}", show(there));
            return Check::fail(name, says, "mount it again, or correct the path");
        }
    };
    let (bytes, inodes) = (stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_favail);
    // Some file systems make inodes as they need them, and count none.
    let counts_inodes = stat.f_files > 0;
    let files = if counts_inodes { format!(", room for {inodes} files") } else { String::new() };
    let says = format!("{} free{files}", HumanBytes(bytes));
    judge_room(name, says, bytes, counts_inodes.then_some(inodes), wanted)
}

fn judge_room(name: &'static str, says: String, bytes: u64, inodes: Option<u64>, wanted: u64) -> Check {
    let mend = "make room: what the bucket has may be deleted from the local copies, oldest first";
    if bytes < LEAST_BYTES || inodes.is_some_and(|inodes| inodes < LEAST_INODES) {
        Check::fail(name, says, mend)
    } else if bytes < wanted {
        Check::warn(name, format!("{says}, less than keep.min_free ({})", HumanBytes(wanted)), mend)
    } else {
        Check::ok(name, says)
    }
}

/// The folder, or what is there of the way to it.
fn existing(folder: &Path) -> &Path {
    folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome::{Fail, Ok, Warn};

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
            let check = judge_room("disk", String::new(), bytes, inodes, 2 * gib);
            assert_eq!(check.outcome, expected, "{bytes} {inodes:?}");
            assert_eq!(check.mend.is_empty(), expected == Ok);
        }
    }
}
