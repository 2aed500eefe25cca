//! State files: small JSON files that the daemon replaces as a whole.
//!
//! The new content goes into a file beside the old one, which is then renamed into place. A reader therefore sees the
//! old content or the new one, never a part of either, and a crash at any point leaves a readable file. Truncating the
//! file and writing it again was rejected: a crash in between would leave nothing.
//!
//! The file beside it always has the same name, so that the next write replaces the one that a crash left. This is
//! why only one process may write a state file at a time.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::owner;

/// What a state file is for, which decides how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The next start reads it: it is synced together with its folder, so that it survives a power cut.
    NextStart,
    /// Other programs read it while the daemon runs: it is not synced, and every user of the box may read it (mode
    /// 0644).
    Report,
}

/// Writes `value` as JSON to the file at `path`, whole or not at all.
///
/// # Errors
/// The error of the file system if the folder cannot be written; the file then has its old content.
#[expect(clippy::disallowed_methods, reason = "a state file is renamed into place")]
pub fn write(path: &Path, value: &impl Serialize, purpose: Purpose) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    let temporary = beside(path);
    let mut file = owner::open(&temporary, File::options().create(true).write(true).truncate(true))?;
    file.write_all(&text)?;
    match purpose {
        // Before the rename: after a power cut the name must not lead to bytes that never reached the disk.
        Purpose::NextStart => file.sync_all()?,
        Purpose::Report => file.set_permissions(Permissions::from_mode(0o644))?,
    }
    std::fs::rename(temporary, path)?;
    match (purpose, path.parent()) {
        (Purpose::NextStart, Some(folder)) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Returns the value in the file at `path`, of which at most `longest_bytes` are read.
///
/// # Errors
/// `NotFound` if the file is missing, `InvalidData` if it is damaged, too long or not of this type; otherwise the error
/// of the file system.
pub fn read<T: DeserializeOwned>(path: &Path, longest_bytes: u64) -> io::Result<T> {
    let mut text = Vec::new();
    File::open(path)?.take(longest_bytes).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Returns the path of the file that is written first: `schedule.json.new` for `schedule.json`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_as_a_whole_and_the_rest_of_a_crash_goes() {
        for purpose in [Purpose::NextStart, Purpose::Report] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state.json");
            std::fs::write(folder.path().join("state.json.new"), [0; 9999]).unwrap();
            for value in [vec![1, 2, 3], vec![4]] {
                write(&path, &value, purpose).unwrap();
                assert_eq!(read::<Vec<u32>>(&path, 1000).unwrap(), value);
            }
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_report_can_be_read_by_every_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write(&path, &1, Purpose::Report).unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn an_error_tells_a_missing_file_from_a_damaged_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let kind = |path: &Path| read::<Vec<u32>>(path, 10).unwrap_err().kind();
        assert_eq!(kind(&path), io::ErrorKind::NotFound);
        for damaged in ["", "[1", "\0\0", "{\"a\": 1}", "[1, 2, 3, 4, 5]"] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(kind(&path), io::ErrorKind::InvalidData, "{damaged:?}");
        }
    }
}
