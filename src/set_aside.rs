//! Files that can never be stored as they are: they are moved out of the drop folder and never deleted.
//!
//! They are below the state folder under their own paths; of several with one path, the second and later ones are in folders
//! called `.1`, `.2` and so on. What is there is counted from the disk. Why each file was set aside is in a text file beside
//! the folder, one JSON line for each; if that is lost, the files are still counted and can still be uploaded.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::key::escape_path;
use crate::owner;

/// The name of the folder below the state folder.
const FOLDER: &str = "set-aside";

/// The name of the file of reasons below the state folder.
const REASONS: &str = "set-aside.jsonl";

/// The most files of one path.
const MOST_OF_A_PATH: u32 = 100;

/// The most bytes of the file of reasons that are read: some ten thousand lines.
const MOST_REASON_BYTES: u64 = 4 << 20;

/// The line of a file that was set aside.
#[derive(Debug, Serialize, Deserialize)]
struct Reason {
    at: DateTime<Utc>,
    /// Its path in the folder, as it is shown.
    file: String,
    why: String,
}

/// What is set aside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetAside {
    /// The number of files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first of them by name, as far as a caller wants them: the path in the folder as it is shown, and why it is there.
    pub named: Vec<(String, Option<String>)>,
}

/// Returns the folder of the files that are set aside.
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join(FOLDER)
}

/// Returns a free place for a file of the drop folder; `None` if there are a hundred of its path.
pub fn free_place(state_dir: &Path, path: &Path) -> Option<PathBuf> {
    let folder = folder(state_dir);
    (0..MOST_OF_A_PATH).map(|number| place(&folder, path, number)).find(|target| target.symlink_metadata().is_err())
}

/// Returns the folders in which files are set aside under the paths that they had in the drop folder.
pub fn roots(state_dir: &Path) -> Vec<PathBuf> {
    let folder = folder(state_dir);
    let numbered = (1..MOST_OF_A_PATH).map(|number| folder.join(format!(".{number}")));
    std::iter::once(folder.clone()).chain(numbered).filter(|root| root.is_dir()).collect()
}

/// Writes down why a file was set aside at `place`.
///
/// # Errors
/// The error of the file system: the file is set aside all the same.
pub fn note(state_dir: &Path, place: &Path, why: &str, at: DateTime<Utc>) -> io::Result<()> {
    let reason = Reason { at, file: shown(&folder(state_dir), place), why: why.to_owned() };
    let mut line = serde_json::to_vec(&reason)?;
    line.push(b'\n');
    owner::open(&state_dir.join(REASONS), OpenOptions::new().append(true).create(true))?.write_all(&line)
}

/// Returns what is set aside, with at most `most` names.
///
/// # Errors
/// The error of the file system if a folder cannot be read.
pub fn look(state_dir: &Path, most: usize) -> io::Result<SetAside> {
    let folder = folder(state_dir);
    let (mut found, mut names) = (SetAside::default(), Vec::new());
    let mut folders = vec![folder.clone()];
    while let Some(next) = folders.pop() {
        let entries = match std::fs::read_dir(&next) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.files += 1;
                found.bytes += entry.metadata().map_or(0, |file| file.len());
                // Sorted now and then, so that memory does not grow with the folder.
                names.push(shown(&folder, &entry.path()));
                if names.len() >= 2 * most.max(1) {
                    names.sort();
                    names.truncate(most);
                }
            }
        }
    }
    names.sort();
    names.truncate(most);
    let reasons = if names.is_empty() { HashMap::new() } else { reasons(state_dir) };
    found.named = names.into_iter().map(|name| (name.clone(), reasons.get(&name).cloned())).collect();
    Ok(found)
}

/// Returns why each file was set aside; of several reasons, the last.
fn reasons(state_dir: &Path) -> HashMap<String, String> {
    let Ok(file) = File::open(state_dir.join(REASONS)) else { return HashMap::new() };
    let lines = BufReader::new(file.take(MOST_REASON_BYTES)).lines().map_while(Result::ok);
    lines
        .filter_map(|line| serde_json::from_str::<Reason>(&line).ok())
        .map(|reason| (reason.file, reason.why))
        .collect()
}

/// Returns the path of a file in the folder, as it is shown.
fn shown(folder: &Path, place: &Path) -> String {
    escape_path(place.strip_prefix(folder).unwrap_or(place))
}

/// Returns where a file is set aside: below `folder` under its own path, in the folder of that `number` if it is not 0.
fn place(folder: &Path, path: &Path, number: u32) -> PathBuf {
    let root = if number == 0 { folder.to_owned() } else { folder.join(format!(".{number}")) };
    // The path of a found file has only normal steps; any other could lead out of the folder.
    root.join(path.components().filter(|step| matches!(step, Component::Normal(_))).collect::<PathBuf>())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use proptest::prelude::*;

    use super::*;
    use crate::drop_folder::NAME_MAX;

    proptest! {
        /// Whatever anybody calls a file, what is set aside lies below its folder, under a name that a disk takes.
        #[test]
        fn what_is_set_aside_stays_in_its_folder(
            steps in proptest::collection::vec(proptest::collection::vec(1u8.., 1..255), 1..5),
            dots in proptest::collection::vec(0usize..5, 0..3),
            number in 0u32..100,
        ) {
            let mut path = PathBuf::from(OsString::from_vec(steps.join(&b'/')));
            for at in dots {
                path = path.iter().take(at).chain(["..".as_ref()]).chain(path.iter().skip(at)).collect();
            }
            let place = place(Path::new("/state/set-aside"), &path, number);
            let below = place.strip_prefix("/state/set-aside").unwrap();
            let normal = |step: Component<'_>| {
                matches!(step, Component::Normal(name) if name.len() <= NAME_MAX && name != "..")
            };
            prop_assert!(below.components().all(normal), "{below:?}");
        }
    }
}
