//! The marks of captures that `verify` found missing: they were stored, the bucket does not have them, and this box does.
//!
//! Such a local copy may be the last one, so it stays whatever the limits say until the bucket has its bytes again. A store
//! that was restored from an older snapshot lacks the captures of days together.
//!
//! The marks lie apart from the lines of the days, in one file for each camera (`ledger/CAMERA/missing.jsonl`): a day's file
//! may be compressed or given up once a bundle tells the same, and a mark is about the bundle too.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use super::{LedgerEntry, lines, of_camera, open, parse, write};

/// The name of a camera's file of marks.
const MISSING: &str = "missing.jsonl";

/// The line of a capture that was found missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// When it was found missing.
    pub missing_at: DateTime<Utc>,
    /// Whether only a closer look shows it: the key is there, with other bytes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deep: bool,
    /// The line that was written when it was stored.
    #[serde(flatten)]
    pub entry: LedgerEntry,
}

impl Missing {
    /// Returns the day of the capture, at the camera.
    fn date(&self) -> NaiveDate {
        self.entry.taken_at.date_naive()
    }
}

/// The line of a capture that is in the bucket again, or that nobody wants any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// When it was found.
    pub found_at: DateTime<Utc>,
    /// Its key.
    pub key: String,
}

/// One line in the file of marks.
#[derive(Deserialize)]
#[serde(untagged)]
enum MarkLine {
    Missing(Box<Missing>),
    Found(Found),
}

/// Marks captures of a camera as missing; `folder` is the ledger's.
///
/// # Errors
/// The error of the file system if the marks cannot be written; the file then has none of them.
pub fn append_missing(folder: &Path, camera: &str, missing: &[Missing]) -> io::Result<()> {
    append_marks(folder, camera, missing)
}

/// Takes the marks of captures away.
///
/// # Errors
/// The same as of [`append_missing`].
pub fn append_found(folder: &Path, camera: &str, found: &[Found]) -> io::Result<()> {
    append_marks(folder, camera, found)
}

fn append_marks<T: Serialize>(folder: &Path, camera: &str, marks: &[T]) -> io::Result<()> {
    if marks.is_empty() {
        return Ok(());
    }
    let path = of_camera(folder, camera).join(MISSING);
    write(&mut open(&path)?, &path, marks)
}

/// Returns the captures of a camera-day that are marked as missing, by key.
///
/// # Errors
/// The error of the file system if there is a file that cannot be opened: which captures are missing is not known.
pub fn missing(folder: &Path, camera: &str, date: NaiveDate) -> io::Result<BTreeMap<String, Missing>> {
    let file = match File::open(of_camera(folder, camera).join(MISSING)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        file => file?,
    };
    let mut marked = BTreeMap::new();
    for line in lines(file).filter_map(|line| parse(&line)) {
        match line {
            MarkLine::Missing(missing) if missing.date() == date => {
                marked.insert(missing.entry.key.clone(), *missing);
            }
            MarkLine::Missing(_) => {}
            MarkLine::Found(found) => {
                marked.remove(&found.key);
            }
        }
    }
    Ok(marked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stays_until_it_is_taken_away_and_is_of_one_day() {
        let folder = tempfile::tempdir().unwrap();
        let mark = |key: &str, day: u32| {
            let taken_at = DateTime::parse_from_rfc3339(&format!("2022-02-{day}T05:00:00+02:00")).unwrap();
            let (missing_at, key) = (taken_at.to_utc(), key.to_owned());
            let (sha256, source) = ("ab".to_owned(), key.clone());
            let entry = LedgerEntry {
                stored_at: missing_at,
                key,
                size: 1,
                sha256,
                taken_at,
                event: None,
                source,
                partial: false,
            };
            Missing { missing_at, deep: false, entry }
        };
        let found = |key: &str| Found { found_at: DateTime::UNIX_EPOCH, key: key.to_owned() };
        let marked = |day: u32| -> Vec<String> {
            let date = NaiveDate::from_ymd_opt(2022, 2, day).unwrap();
            missing(folder.path(), "CAM", date).unwrap().into_keys().collect()
        };
        assert!(marked(24).is_empty());
        append_missing(folder.path(), "CAM", &[mark("a", 24), mark("b", 24), mark("c", 25)]).unwrap();
        assert_eq!((marked(24), marked(25)), (vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]));
        append_found(folder.path(), "CAM", &[found("a"), found("c")]).unwrap();
        assert_eq!((marked(24), marked(25)), (vec!["b".to_owned()], vec![]));
        append_missing(folder.path(), "CAM", &[mark("a", 24)]).unwrap();
        assert_eq!(marked(24), ["a", "b"]);
        assert!(super::super::days(folder.path(), "CAM").unwrap().is_empty(), "it is no day's file");
    }
}
