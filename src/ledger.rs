//! What was stored: one JSON line a capture, one file a camera-day, `ledger/CAMERA/DATE.jsonl`.
//!
//! Written after the bucket confirmed and before the local file goes, so that a crash in between leaves the file to be
//! found again; [`append`] then sees that its line is there. A line that a crash tore is left as it is and the next
//! one starts on a line of its own. The ledger is a copy of what the bucket knows and can be rebuilt from it: it is not
//! synced, which would wear an SD card out.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use chrono::{DateTime, FixedOffset, Utc};
use serde::{Deserialize, Serialize};

/// One stored capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
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

/// Appends an entry below `folder`; `again` where the object was in the bucket before, so that its line may be there.
///
/// # Errors
/// Where the file cannot be read or written.
pub fn append(folder: &Path, camera: &str, entry: &Entry, again: bool) -> io::Result<()> {
    let folder = folder.join(camera);
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{}.jsonl", entry.taken_at.date_naive()));
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    if again && holds(&file, entry)? {
        return Ok(());
    }
    let mut line = if ends_torn(&mut file)? { b"\n".to_vec() } else { Vec::new() };
    serde_json::to_writer(&mut line, entry)?;
    line.push(b'\n');
    // One write: a line is appended whole or, in a crash, torn at its end.
    file.write_all(&line)
}

fn holds(file: &File, entry: &Entry) -> io::Result<bool> {
    for line in BufReader::new(file).split(b'\n') {
        let known: Result<Entry, _> = serde_json::from_slice(&line?);
        if known.is_ok_and(|known| (&known.key, &known.sha256) == (&entry.key, &entry.sha256)) {
            return Ok(true);
        }
    }
    Ok(false)
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

    fn entry(key: &str) -> Entry {
        let taken_at = DateTime::parse_from_rfc3339("2022-02-24T05:00:00+02:00").unwrap();
        Entry {
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
        let keys: Vec<String> =
            text.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok()).map(|entry| entry.key).collect();
        assert_eq!(keys, ["a", "b"]);
        assert_eq!(text.lines().count(), 3);
    }
}
