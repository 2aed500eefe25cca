//! The names of local copies, and the place for a new one.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use sha2::{Digest, Sha256};

use crate::bucket::read_through;
use crate::drop_folder::NAME_MAX;
use crate::key;

/// The capture of which a local copy is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyOf<'a> {
    /// Its camera.
    pub camera: &'a str,
    /// Its date at the camera.
    pub date: NaiveDate,
    /// The last part of its object key.
    pub file: &'a str,
}

impl CopyOf<'_> {
    fn folder(&self, kept: &Path) -> PathBuf {
        kept.join(self.camera).join(self.date.to_string())
    }
}

/// The place for a local copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyPlace {
    /// This path, where nothing is yet.
    Free(PathBuf),
    /// None is needed: the same bytes are kept already.
    Held,
}

/// Returns the place for a local copy below `folder`. An earlier copy with other bytes is not replaced.
///
/// # Errors
/// The error of the file system if a copy that is there already cannot be read; an error of the kind `Other` if both names
/// have other bytes. The capture then gets no copy.
pub fn place(folder: &Path, copy: CopyOf<'_>, sha256: &[u8; 32]) -> io::Result<CopyPlace> {
    let day = copy.folder(folder);
    let names = names(copy.file, &hex::encode(sha256));
    for name in &names {
        let path = day.join(name);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(CopyPlace::Free(path)),
            Err(error) => return Err(error),
            Ok(copy) if holds(&copy, sha256)? => return Ok(CopyPlace::Held),
            Ok(_) => {}
        }
    }
    Err(io::Error::other(format!("two other files are kept already as {}", names[0])))
}

/// Returns the paths below `folder` where the local copy of a capture may be: its own name, and the name beside another
/// copy if its SHA-256 is known (in hexadecimal).
pub fn candidates(folder: &Path, copy: CopyOf<'_>, sha256: Option<&str>) -> Vec<PathBuf> {
    let day = copy.folder(folder);
    let [first, second] = names(copy.file, sha256.unwrap_or_default());
    let mut paths = vec![day.join(first)];
    paths.extend(sha256.map(|_| day.join(second)));
    paths
}

/// Returns the two names that the copy of a file can have: its own, and the one beside another copy of that name, which
/// has the beginning of the SHA-256 (in hexadecimal) in it.
pub(super) fn names(file: &str, sha256: &str) -> [String; 2] {
    let first = key::bounded(file, NAME_MAX);
    let hash = sha256.get(..8).unwrap_or(sha256);
    let (stem, extension) = first.rsplit_once('.').map_or((first.as_str(), None), |(stem, end)| (stem, Some(end)));
    let suffix = extension.map_or_else(|| format!("~{hash}"), |extension| format!("~{hash}.{extension}"));
    // A long name is cut in the stem, because the suffix tells the two apart.
    let mut keep = stem.len().min(NAME_MAX - suffix.len().min(NAME_MAX));
    while !stem.is_char_boundary(keep) {
        keep -= 1;
    }
    let second = format!("{}{suffix}", &stem[..keep]);
    [first, second]
}

fn holds(copy: &File, sha256: &[u8; 32]) -> io::Result<bool> {
    let mut hash = Sha256::new();
    read_through(copy, 0, copy.metadata()?.len(), |chunk| hash.update(chunk))?;
    Ok(hash.finalize()[..] == sha256[..])
}
