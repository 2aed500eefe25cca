//! Local copies after upload: `CAMERA/DATE/file` below one folder, named as in the bucket.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use sha2::{Digest, Sha256};

use crate::bucket::read_through;
use crate::key;

/// Longest file name on the file systems of Linux, in bytes.
const NAME_MAX: usize = 255;

/// Where a local copy belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Here, and nothing is there yet.
    Free(PathBuf),
    /// The same bytes are kept already.
    Held,
}

/// Finds the place of a capture's copy below `folder`; an earlier copy with other bytes stays what it is.
///
/// # Errors
/// Where a copy that is there already cannot be read.
pub fn place(folder: &Path, camera: &str, date: NaiveDate, file: &str, sha256: &[u8; 32]) -> io::Result<Place> {
    let day = folder.join(camera).join(date.to_string());
    let first = key::bounded(file, NAME_MAX);
    let hash = &hex::encode(sha256)[..8];
    let (stem, extension) = first.rsplit_once('.').map_or((first.as_str(), None), |(stem, end)| (stem, Some(end)));
    let suffix = extension.map_or_else(|| format!("~{hash}"), |extension| format!("~{hash}.{extension}"));
    // Cut the stem, not the suffix that tells the two apart.
    let mut keep = stem.len().min(NAME_MAX - suffix.len().min(NAME_MAX));
    while !stem.is_char_boundary(keep) {
        keep -= 1;
    }
    for name in [first.clone(), format!("{}{suffix}", &stem[..keep])] {
        let path = day.join(name);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Place::Free(path)),
            Err(error) => return Err(error),
            Ok(copy) if holds(&copy, sha256)? => return Ok(Place::Held),
            Ok(_) => {}
        }
    }
    Err(io::Error::other(format!("two other files are kept as {first}")))
}

fn holds(copy: &File, sha256: &[u8; 32]) -> io::Result<bool> {
    let mut hash = Sha256::new();
    read_through(copy, 0, copy.metadata()?.len(), |chunk| hash.update(chunk))?;
    Ok(hash.finalize()[..] == sha256[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_lie_by_camera_and_date_and_never_replace_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let date = NaiveDate::from_ymd_opt(2022, 2, 24).unwrap();
        let find = |bytes: &[u8]| place(folder.path(), "CAM", date, "a.jpg", &Sha256::digest(bytes).into()).unwrap();
        let first = folder.path().join("CAM/2022-02-24/a.jpg");
        assert_eq!(find(b"one"), Place::Free(first.clone()));
        std::fs::create_dir_all(first.parent().unwrap()).unwrap();
        std::fs::write(&first, b"one").unwrap();
        assert_eq!(find(b"one"), Place::Held);
        let hash = &hex::encode(Sha256::digest(b"two"))[..8];
        let second = first.with_file_name(format!("a~{hash}.jpg"));
        assert_eq!(find(b"two"), Place::Free(second.clone()));
        std::fs::write(&second, b"two").unwrap();
        assert_eq!(find(b"two"), Place::Held);
    }
}
