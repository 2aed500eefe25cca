//! The ledger: what was stored, one JSON line for each capture, in one file for each camera and day
//! (`ledger/CAMERA/DATE.jsonl`, and `DATE.jsonl.gz` once the day is older than `keep.days`). An object that is deleted
//! from the bucket gets a line there, too. Each bundle gets a line in `ledger/CAMERA/bundles.jsonl`, and each capture that
//! `verify` found missing one in `ledger/CAMERA/missing.jsonl`. The file of a day goes once bundles and their indexes,
//! which hold the same, are confirmed.
//!
//! A line is written after the bucket has confirmed the capture and before the local file is removed. A crash in
//! between leaves the file, which is found again; [`DayFile::append_once`] then sees that its line is there. A line that a crash
//! or a full disk has torn is left as it is; the next one begins on a line of its own, and the log tells of it. The
//! ledger is a copy of what the bucket knows and can be rebuilt from it, so it is not synced, which would wear out an
//! SD card.

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, FixedOffset, NaiveDate, Utc};
use rustix::fs::FlockOperation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::capture::Capture;
use crate::key::CameraName;
use crate::message;
use crate::owner;

mod day;
mod missing;
mod old;
mod recent;

pub use day::DayFile;
pub use missing::{Found, Missing, append_found, append_missing, missing};
pub use old::{compress_old, settle};
pub use recent::{Recent, recent};

/// The line of a stored capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// When the bucket confirmed the capture.
    pub stored_at: DateTime<Utc>,
    /// The object's key.
    pub key: String,
    /// The size in bytes.
    pub size: u64,
    /// The SHA-256 of the bytes, in hexadecimal.
    pub sha256: String,
    /// When the capture was taken, with the UTC offset of the camera.
    pub taken_at: DateTime<FixedOffset>,
    /// The camera's word for the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The path of the file below the drop folder.
    pub source: String,
    /// Whether the recording was cut off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// The line of an object that is deleted from the bucket, and where its bytes are now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// When the deletion was decided; the line is written before the object is deleted.
    pub removed_at: DateTime<Utc>,
    /// The object's key.
    pub key: String,
    /// The key of the bundle that holds its bytes; `None` if it expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
}

/// The line of a file that was stored, and was then seen again under another name: its writer renamed it just after he
/// had sent it. It was disposed of, and no other object was made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenAgain {
    /// When it was seen again.
    pub seen_again_at: DateTime<Utc>,
    /// The key of the object that holds its bytes.
    pub key: String,
    /// Its last path below the drop folder.
    pub source: String,
}

/// One line in the file of a camera and day.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum LedgerLine {
    /// A capture was stored.
    Stored(Box<LedgerEntry>),
    /// An object was to be deleted.
    Removed(Removed),
}

/// The line of a bundle that the bucket has confirmed, in its camera's file of bundles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundled {
    /// When the bucket confirmed the bundle.
    pub bundled_at: DateTime<Utc>,
    /// The bundle's key.
    pub key: String,
    /// The day of its members.
    pub date: NaiveDate,
    /// The number of its members.
    pub members: u64,
    /// The size of the bundle in bytes.
    pub size: u64,
    /// The SHA-256 of the bundle, in hexadecimal.
    pub sha256: String,
}

/// The name of a camera's file of bundles.
const BUNDLES: &str = "bundles.jsonl";

/// The longest line that is read, in bytes; a key has at most 1024.
const LONGEST_LINE: u64 = 64 * 1024;

/// Returns the folder of the ledger below the state folder.
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("ledger")
}

/// Returns the folder of a camera, which lies in the ledger's `folder` whatever the camera is called.
fn of_camera(folder: &Path, camera: &str) -> PathBuf {
    folder.join(&*CameraName::spell(camera))
}

/// Returns the path of the file of a camera and day; `folder` is the ledger's.
pub fn path(folder: &Path, camera: &str, date: NaiveDate) -> PathBuf {
    of_camera(folder, camera).join(format!("{date}.jsonl"))
}

/// Appends the line of a capture to the file of its day; `folder` is the ledger's.
///
/// # Errors
/// The error of the file system if the file cannot be read or written; it then has no part of the line.
pub fn append(folder: &Path, camera: &str, entry: &LedgerEntry) -> io::Result<()> {
    let path = path(folder, camera, entry.taken_at.date_naive());
    write(&mut open(&path)?, &path, std::slice::from_ref(entry))
}

/// Returns the keys that begin with `stem` and are in the file of a camera and day, each with the SHA-256 that was stored
/// there last; none if it cannot be read.
pub fn stored_under(folder: &Path, camera: &str, date: NaiveDate, stem: &str) -> HashMap<String, String> {
    let Ok(file) = old::read(&path(folder, camera, date)) else { return HashMap::new() };
    // Parsing each line would cost more than all the rest; quotes and backslashes in a key are spelled otherwise in a line.
    let spelled = serde_json::to_string(stem).unwrap_or_default();
    let begin = &spelled[..spelled.len().saturating_sub(1)];
    let may_be = |line: &Vec<u8>| std::str::from_utf8(line).is_ok_and(|line| line.contains(begin));
    let found = lines(file).filter(may_be);
    let entries = found.filter_map(|line| parse::<LedgerEntry>(&line));
    entries.filter(|entry| entry.key.starts_with(stem)).map(|entry| (entry.key, entry.sha256)).collect()
}

/// Appends the line of a file that was stored as `capture` and then seen again under another name.
///
/// # Errors
/// The same as of [`append`].
pub fn append_seen_again(folder: &Path, capture: &Capture, seen: &SeenAgain) -> io::Result<()> {
    let path = path(folder, &capture.camera, capture.taken.date_naive());
    write(&mut open(&path)?, &path, std::slice::from_ref(seen))
}

/// Appends the lines of objects of a camera and day that are about to be deleted.
///
/// # Errors
/// The same as of [`append`]: nothing may be deleted.
pub fn append_removed(folder: &Path, camera: &str, date: NaiveDate, removed: &[Removed]) -> io::Result<()> {
    let path = path(folder, camera, date);
    write(&mut open(&path)?, &path, removed)
}

/// Appends the line of a bundle to its camera's file of bundles.
///
/// # Errors
/// The same as of [`append`].
pub fn append_bundle(folder: &Path, camera: &str, bundle: &Bundled) -> io::Result<()> {
    let path = of_camera(folder, camera).join(BUNDLES);
    write(&mut open(&path)?, &path, std::slice::from_ref(bundle))
}

/// Returns the days of a camera that have a bundle, as far as the ledger knows.
pub fn bundled_days(folder: &Path, camera: &str) -> BTreeSet<NaiveDate> {
    bundles(folder, camera).map(|bundle| bundle.date).collect()
}

/// Returns the bundles of a camera, as far as the ledger knows; none if there is no file of them.
pub fn bundles(folder: &Path, camera: &str) -> impl Iterator<Item = Bundled> {
    let file = File::open(of_camera(folder, camera).join(BUNDLES)).ok();
    file.map(lines).into_iter().flatten().filter_map(|line| parse(&line))
}

/// Returns whether the ledger has anything of a camera.
pub fn knows(folder: &Path, camera: &str) -> bool {
    of_camera(folder, camera).is_dir()
}

/// Returns the cameras that the ledger has anything of; none if there is no ledger. A file or folder whose name no camera
/// can have is skipped.
///
/// # Errors
/// The error of the file system if the folder cannot be read.
pub fn cameras(folder: &Path) -> io::Result<Vec<CameraName>> {
    Ok(names(folder)?.iter().filter_map(|name| CameraName::read(name)).collect())
}

/// Returns the cameras of which the ledger has a stored capture; none if there is no ledger.
///
/// A camera that this box only bundled or deleted something of is not among them.
///
/// # Errors
/// The error of the file system if the folder or a file cannot be read.
pub fn cameras_with_captures(folder: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for camera in names(folder)? {
        for date in days(folder, &camera)? {
            if entries(&path(folder, &camera, date))?.next().is_some() {
                found.push(camera.clone());
                break;
            }
        }
        if found.last() != Some(&camera) && old::has_settled(folder, &camera)? {
            found.push(camera);
        }
    }
    Ok(found)
}

/// Returns the days of a camera that have a file.
///
/// # Errors
/// The error of the file system if the folder cannot be read.
pub fn days(folder: &Path, camera: &str) -> io::Result<Vec<NaiveDate>> {
    Ok(old::days_of(&names(&of_camera(folder, camera))?))
}

/// Returns the names in a folder that are valid text; none if the folder is missing.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose()).collect()
}

/// Opens a file of the ledger, which is created if it is missing, and locks it until it is closed.
fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        owner::create_dir_all(folder)?;
    }
    loop {
        let file = owner::open(path, OpenOptions::new().read(true).append(true).create(true))?;
        // Without the lock, a line could begin where another one that is written at the same time is torn.
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        // While this waited, the file may have been compressed and removed.
        if rustix::fs::fstat(&file)?.st_nlink > 0 {
            return Ok(file);
        }
    }
}

/// Appends lines to the file that is open at `path`, all with one write.
fn write<T: Serialize>(file: &mut File, path: &Path, items: &[T]) -> io::Result<()> {
    let (length, is_torn) = (file.metadata()?.len(), ends_torn(file)?);
    write_behind(file, path, (length, is_torn), items).map(drop)
}

/// Appends lines to a file of this length, whose last line may have no end; returns the new length.
fn write_behind<T: Serialize>(
    file: &mut File,
    path: &Path,
    (length, is_torn): (u64, bool),
    items: &[T],
) -> io::Result<u64> {
    let mut text = if is_torn { b"\n".to_vec() } else { Vec::new() };
    for item in items {
        serde_json::to_writer(&mut text, item)?;
        text.push(b'\n');
    }
    // One write, so that a crash can tear only the end of what is appended.
    if let Err(error) = file.write_all(&text) {
        // A full disk may have taken a part of it.
        let _torn_again = file.set_len(length);
        return Err(error);
    }
    if is_torn {
        tracing::warn!(
            message_id = message::LEDGER,
            "the last line of {} was torn by a crash or a full disk: it stays as it is, and the ledger goes on after it",
            path.display()
        );
    }
    Ok(length + text.len() as u64)
}

/// Returns the captures in one file, in their order. Other lines, and lines that cannot be parsed, are skipped.
///
/// # Errors
/// The error of the file system if the file cannot be opened. If it cannot be read further, the entries end.
pub fn entries(path: &Path) -> io::Result<impl Iterator<Item = LedgerEntry>> {
    Ok(lines(old::read(path)?).filter_map(|line| parse(&line)))
}

/// Returns the key of each capture in one file, and when it was taken, in their order: half the work of all its entries.
///
/// # Errors
/// The same as of [`entries`].
pub fn times(path: &Path) -> io::Result<impl Iterator<Item = (String, DateTime<FixedOffset>)>> {
    #[derive(Deserialize)]
    struct Taken {
        key: String,
        taken_at: DateTime<FixedOffset>,
    }
    Ok(lines(old::read(path)?).filter_map(|line| parse(&line)).map(|Taken { key, taken_at }| (key, taken_at)))
}

/// Returns the deleted objects in one file, in their order. Other lines, and lines that cannot be parsed, are skipped.
///
/// # Errors
/// The same as of [`entries`].
pub fn removed(path: &Path) -> io::Result<impl Iterator<Item = Removed>> {
    Ok(lines(old::read(path)?).filter_map(|line| parse(&line)))
}

/// Returns all lines of one file in their order. Lines that cannot be parsed are skipped.
///
/// # Errors
/// The same as of [`entries`].
pub fn history(path: &Path) -> io::Result<impl Iterator<Item = LedgerLine>> {
    Ok(lines(old::read(path)?).filter_map(|line| parse(&line)))
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    serde_json::from_slice(line).ok()
}

/// Returns the lines of a file until its end or an error; a line that is too long comes in several parts.
fn lines(file: impl Read) -> impl Iterator<Item = Vec<u8>> {
    let mut reader = BufReader::new(file);
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        match reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(1..) => Some(line),
            _ => None,
        }
    })
}

/// Returns whether a day has the line of a capture: one with the same key and SHA-256.
fn holds(path: &Path, entry: &LedgerEntry) -> io::Result<bool> {
    // A day has thousands of lines; only those that may match are parsed.
    let may_be = |line: &Vec<u8>| std::str::from_utf8(line).is_ok_and(|line| line.contains(&entry.sha256));
    let mut known = lines(old::read(path)?).filter(may_be).filter_map(|line| parse::<LedgerEntry>(&line));
    Ok(known.any(|known| (&known.key, &known.sha256) == (&entry.key, &entry.sha256)))
}

/// Returns whether the last line of a file has no end.
fn ends_torn(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key;

    fn entry(key: &str) -> LedgerEntry {
        let taken_at = DateTime::parse_from_rfc3339("2022-02-24T05:00:00+02:00").unwrap();
        LedgerEntry {
            stored_at: taken_at.to_utc(),
            key: key.into(),
            size: 1,
            sha256: "ab".into(),
            taken_at,
            event: None,
            source: key.into(),
            partial: false,
        }
    }

    fn day(folder: &Path) -> DayFile {
        DayFile::new(path(folder, "CAM", entry("a").taken_at.date_naive()), drop)
    }

    #[test]
    fn a_torn_line_spoils_no_other_and_a_line_is_not_written_twice() {
        let folder = tempfile::tempdir().unwrap();
        append(folder.path(), "CAM", &entry("a")).unwrap();
        let path = folder.path().join("CAM/2022-02-24.jsonl");
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"key\": \"torn").unwrap();
        day(folder.path()).append_once(&entry("b"), drop).unwrap();
        day(folder.path()).append_once(&entry("b"), drop).unwrap();
        day(folder.path()).append_once(&entry("a"), drop).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let keys: Vec<String> = text
            .lines()
            .filter_map(|line| serde_json::from_str::<LedgerEntry>(line).ok())
            .map(|entry| entry.key)
            .collect();
        assert_eq!(keys, ["a", "b"]);
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn a_ledger_torn_at_any_byte_goes_on_and_loses_no_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        for key in ["a", "b", "c"] {
            append(folder.path(), "CAM", &entry(key)).unwrap();
        }
        let path = folder.path().join("CAM/2022-02-24.jsonl");
        let whole = std::fs::read(&path).unwrap();
        let line = whole.len() / 3;
        for cut in line..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            day(folder.path()).append_once(&entry("c"), drop).unwrap();
            append(folder.path(), "CAM", &entry("d")).unwrap();
            let keys: Vec<String> = entries(&path).unwrap().map(|entry| entry.key).collect();
            // A line that lacks only its end can still be parsed.
            let expected = if cut + 1 < 2 * line { vec!["a", "c", "d"] } else { vec!["a", "b", "c", "d"] };
            assert_eq!(keys, expected, "cut at {cut}");
            assert!(std::fs::read(&path).unwrap().starts_with(&whole[..cut]), "nothing is reset");
        }
    }

    #[test]
    fn a_ledger_of_any_content_is_passed_over_and_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), "CAM", entry("a").taken_at.date_naive());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        for garbage in [vec![0; 4096], vec![b'{'; 200_000], b"\n\n\xff\xfe{}\n[]".to_vec()] {
            std::fs::write(&path, &garbage).unwrap();
            day(folder.path()).append_once(&entry("a"), drop).unwrap();
            let keys: Vec<String> = entries(&path).unwrap().map(|entry| entry.key).collect();
            assert_eq!(keys, ["a"]);
        }
    }

    #[test]
    fn a_day_is_read_on_as_others_write_into_it_and_its_own_lines_are_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        append(folder.path(), "CAM", &entry("a")).unwrap();
        let (mut first, mut read) = (Vec::new(), Vec::new());
        let date = entry("a").taken_at.date_naive();
        let mut day = DayFile::new(path(folder.path(), "CAM", date), |entry| first.push(entry.key));
        append(folder.path(), "CAM", &entry("b")).unwrap();
        day.read_on(|entry| read.push(entry.key));
        day.append(&entry("c"), |entry| read.push(entry.key)).unwrap();
        append(folder.path(), "CAM", &entry("d")).unwrap();
        day.append(&entry("e"), |entry| read.push(entry.key)).unwrap();
        day.read_on(|entry| read.push(entry.key));
        assert_eq!((first, read.as_slice()), (vec!["a".to_owned()], ["b", "d"].map(str::to_owned).as_slice()));
        // Its file is compressed and gone: the next line begins a new one.
        assert_eq!(compress_old(folder.path(), 0, date + chrono::Days::new(3)).unwrap(), 1);
        day.append(&entry("f"), |_| unreachable!("nothing is new")).unwrap();
        let keys: Vec<String> = entries(&path(folder.path(), "CAM", date)).unwrap().map(|entry| entry.key).collect();
        assert_eq!(keys, ["a", "b", "c", "d", "e", "f"]);
    }

    #[test]
    fn a_key_is_known_whether_its_day_is_compressed_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let key = |name: &str| format!("CAM/2022-02-24/{name}.jpg");
        let day = entry("").taken_at.date_naive();
        append(folder.path(), "CAM", &entry(&key("a"))).unwrap();
        assert_eq!(compress_old(folder.path(), 0, day + chrono::Days::new(3)).unwrap(), 1);
        append(folder.path(), "CAM", &entry(&key("b"))).unwrap();
        for name in ["a", "b"] {
            let known = stored_under(folder.path(), "CAM", day, key::stem(&key(name)));
            assert_eq!(known, HashMap::from([(key(name), "ab".to_owned())]));
        }
    }
}
