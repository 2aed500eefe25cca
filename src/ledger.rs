//! What was stored: one JSON line a capture, one file a camera-day, `ledger/CAMERA/DATE.jsonl`. What is deleted from the
//! bucket has a line there too, and each bundle one in `ledger/CAMERA/bundles.jsonl`.
//!
//! Written after the bucket confirmed and before the local file goes, so that a crash in between leaves the file to be
//! found again; [`append`] then sees that its line is there. A line that a crash or a full disk tore is left as it is,
//! the next one starts on a line of its own, and the log says so. The ledger is a copy of what the bucket knows and can
//! be rebuilt from it: it is not synced, which would wear an SD card out.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, FixedOffset, NaiveDate, Utc};
use rustix::fs::FlockOperation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// One stored capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// When the bucket confirmed it.
    pub stored_at: DateTime<Utc>,
    /// The object's key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Of the bytes, in hexadecimal.
    pub sha256: String,
    /// When it was taken, at the camera's offset.
    pub taken_at: DateTime<FixedOffset>,
    /// The event word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The path below the drop folder.
    pub source: String,
    /// Whether the recording was cut off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// An object that was deleted, and where its bytes are now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// When it was decided; written before it is done.
    pub removed_at: DateTime<Utc>,
    /// The object's key.
    pub key: String,
    /// The bundle that holds it; `None`: it expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
}

/// One line of a camera-day.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum LedgerLine {
    /// It was stored.
    Stored(Box<LedgerEntry>),
    /// It was to be deleted.
    Removed(Removed),
}

/// A bundle that is confirmed; a line in the file of bundles of its camera.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundled {
    /// When it was confirmed.
    pub bundled_at: DateTime<Utc>,
    /// The bundle's key.
    pub key: String,
    /// The day of its members.
    pub date: NaiveDate,
    /// How many they are.
    pub members: u64,
    /// Bytes of the bundle.
    pub size: u64,
    /// Of the bundle, in hexadecimal.
    pub sha256: String,
}

/// The name of the file of bundles of a camera.
const BUNDLES: &str = "bundles.jsonl";

/// Longest line that is read as an entry, in bytes; a key has at most 1024.
const LONGEST_LINE: u64 = 64 * 1024;

/// Where the ledger lies below the folder of state.
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("ledger")
}

/// The file of one camera-day below the ledger's folder.
pub fn path(folder: &Path, camera: &str, date: NaiveDate) -> PathBuf {
    folder.join(camera).join(format!("{date}.jsonl"))
}

/// Appends an entry below `folder`; `again` where the object was in the bucket before, so that its line may be there.
///
/// # Errors
/// Where the file cannot be read or written; nothing of the line is then left.
pub fn append(folder: &Path, camera: &str, entry: &LedgerEntry, again: bool) -> io::Result<()> {
    let path = path(folder, camera, entry.taken_at.date_naive());
    let known = again.then_some(entry);
    write(&path, std::slice::from_ref(entry), known)
}

/// Takes note of objects of a camera-day that are about to be deleted.
///
/// # Errors
/// As of [`append`].
pub fn append_removed(folder: &Path, camera: &str, date: NaiveDate, removed: &[Removed]) -> io::Result<()> {
    write(&path(folder, camera, date), removed, None)
}

/// Takes note of a bundle.
///
/// # Errors
/// As of [`append`].
pub fn append_bundle(folder: &Path, camera: &str, bundle: &Bundled) -> io::Result<()> {
    write(&folder.join(camera).join(BUNDLES), std::slice::from_ref(bundle), None)
}

/// The days of a camera of which there are bundles, as far as this ledger knows.
pub fn bundled_days(folder: &Path, camera: &str) -> BTreeSet<NaiveDate> {
    bundles(folder, camera).map(|bundle| bundle.date).collect()
}

/// The bundles of a camera, as far as this ledger knows; none where it has no file of them.
pub fn bundles(folder: &Path, camera: &str) -> impl Iterator<Item = Bundled> {
    let file = File::open(folder.join(camera).join(BUNDLES)).ok();
    file.map(lines).into_iter().flatten().filter_map(|line| parse(&line))
}

/// Whether there is anything of a camera.
pub fn knows(folder: &Path, camera: &str) -> bool {
    folder.join(camera).is_dir()
}

/// The cameras of which there is anything; none where there is no ledger.
///
/// # Errors
/// Where the folder cannot be read.
pub fn cameras(folder: &Path) -> io::Result<Vec<String>> {
    names(folder)
}

/// The days of a camera that have a file.
///
/// # Errors
/// Where the folder cannot be read.
pub fn days(folder: &Path, camera: &str) -> io::Result<Vec<NaiveDate>> {
    let names = names(&folder.join(camera))?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(".jsonl")?.parse().ok()).collect())
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose()).collect()
}

/// Appends lines to a file, all with one write; none where `known` is there already.
fn write<T: Serialize>(path: &Path, items: &[T], known: Option<&LedgerEntry>) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    // Two lines written at once must not meet where one of them is torn. Given up with the file.
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    if let Some(known) = known
        && holds(&file, known)?
    {
        return Ok(());
    }
    let torn = ends_torn(&mut file)?;
    let mut text = if torn { b"\n".to_vec() } else { Vec::new() };
    for item in items {
        serde_json::to_writer(&mut text, item)?;
        text.push(b'\n');
    }
    let length = file.metadata()?.len();
    // One write: a line is appended whole or, in a crash, torn at its end.
    if let Err(error) = file.write_all(&text) {
        // A disk that is full takes a part of it.
        let _torn_again = file.set_len(length);
        return Err(error);
    }
    if torn {
        tracing::warn!(
            "the last line of {} was torn by a crash or a full disk: it stays as it is, and the ledger goes on after it",
            path.display()
        );
    }
    Ok(())
}

/// The entries of one file; what is none, or was torn, is passed over.
///
/// # Errors
/// Where it cannot be opened; a failure to read ends the entries.
pub fn entries(path: &Path) -> io::Result<impl Iterator<Item = LedgerEntry>> {
    Ok(lines(File::open(path)?).filter_map(|line| parse(&line)))
}

/// What was deleted of one file; all else is passed over.
///
/// # Errors
/// As of [`entries`].
pub fn removed(path: &Path) -> io::Result<impl Iterator<Item = Removed>> {
    Ok(lines(File::open(path)?).filter_map(|line| parse(&line)))
}

/// All lines of one file in their order; what is none, or was torn, is passed over.
///
/// # Errors
/// As of [`entries`].
pub fn history(path: &Path) -> io::Result<impl Iterator<Item = LedgerLine>> {
    Ok(lines(File::open(path)?).filter_map(|line| parse(&line)))
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    serde_json::from_slice(line).ok()
}

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

fn holds(file: &File, entry: &LedgerEntry) -> io::Result<bool> {
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    // A day has thousands of lines: few are worth to be parsed.
    let may_be = |line: &Vec<u8>| std::str::from_utf8(line).is_ok_and(|line| line.contains(&entry.sha256));
    let mut known = lines(file).filter(may_be).filter_map(|line| parse::<LedgerEntry>(&line));
    Ok(known.any(|known| (&known.key, &known.sha256) == (&entry.key, &entry.sha256)))
}

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

    #[test]
    fn a_torn_line_spoils_no_other_and_a_line_is_not_written_twice() {
        let folder = tempfile::tempdir().unwrap();
        append(folder.path(), "CAM", &entry("a"), false).unwrap();
        let path = folder.path().join("CAM/2022-02-24.jsonl");
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"key\": \"torn").unwrap();
        append(folder.path(), "CAM", &entry("b"), true).unwrap();
        append(folder.path(), "CAM", &entry("b"), true).unwrap();
        append(folder.path(), "CAM", &entry("a"), true).unwrap();
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
            append(folder.path(), "CAM", &entry(key), false).unwrap();
        }
        let path = folder.path().join("CAM/2022-02-24.jsonl");
        let whole = std::fs::read(&path).unwrap();
        let line = whole.len() / 3;
        for cut in line..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            append(folder.path(), "CAM", &entry("c"), true).unwrap();
            append(folder.path(), "CAM", &entry("d"), false).unwrap();
            let keys: Vec<String> = entries(&path).unwrap().map(|entry| entry.key).collect();
            // Where only the end of the line is missing, it still tells all.
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
            append(folder.path(), "CAM", &entry("a"), true).unwrap();
            let keys: Vec<String> = entries(&path).unwrap().map(|entry| entry.key).collect();
            assert_eq!(keys, ["a"]);
        }
    }
}
