//! The files of old days: compressed, or removed once bundles hold their lines.
//!
//! `DATE.jsonl` becomes `DATE.jsonl.gz`, which `zgrep` searches. A line that comes late begins a new `DATE.jsonl` beside it.
//! A crash in between leaves lines in both files, which changes nothing: of a key, the last line counts.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Days, NaiveDate, Utc};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::{BUNDLES, LedgerLine, cameras, days, ends_torn, history, lines, of_camera, open, parse, path, write};
use crate::owner;

/// The most files that one call compresses, so that a daemon that stops need not wait: a run an hour catches up.
const MOST_COMPRESSED: usize = 200;

/// The least age in days at which a file is compressed: nothing is appended to it any more, except by late captures.
const LEAST_DAYS: u64 = 2;

/// The line of a day whose lines were removed, in its camera's file of bundles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Settled {
    /// When they were removed.
    settled_at: DateTime<Utc>,
    /// The day.
    date: NaiveDate,
}

/// Returns the path of the compressed file of a day.
pub(super) fn compressed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    name.into()
}

/// Opens the lines of a day, those of the compressed file first.
///
/// # Errors
/// `NotFound` if there is neither file; otherwise the error of the file system.
pub(super) fn read(path: &Path) -> io::Result<Box<dyn Read>> {
    // In this order: if the file is compressed in between, its lines are seen twice, and not never.
    let new = if_there(path)?;
    let old = read_compressed(path)?;
    match (old, new) {
        (None, None) => Err(io::ErrorKind::NotFound.into()),
        (None, Some(new)) => Ok(Box::new(new)),
        (Some(old), None) => Ok(Box::new(old)),
        (Some(old), Some(new)) => Ok(Box::new(old.chain(new))),
    }
}

/// Opens the lines of the compressed file of a day; `None` if there is none.
///
/// # Errors
/// The error of the file system.
pub(super) fn read_compressed(path: &Path) -> io::Result<Option<MultiGzDecoder<BufReader<File>>>> {
    Ok(if_there(&compressed(path))?.map(|old| MultiGzDecoder::new(BufReader::new(old))))
}

fn if_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Compresses files of days that are older than `keep_days`, at most 200 of them; returns how many.
///
/// # Errors
/// The error of the file system: the file that it is about is as it was.
pub fn compress_old(folder: &Path, keep_days: u32, today: NaiveDate) -> io::Result<usize> {
    let age = Days::new(LEAST_DAYS.max(keep_days.into()));
    let is_old = |date: &NaiveDate| date.checked_add_days(age).is_some_and(|until| until < today);
    let mut done = 0;
    for camera in cameras(folder)? {
        for date in days(folder, &camera)?.into_iter().filter(is_old) {
            let path = path(folder, &camera, date);
            if done < MOST_COMPRESSED && path.exists() {
                compress(&path)?;
                done += 1;
            }
        }
    }
    Ok(done)
}

#[expect(clippy::disallowed_methods, reason = "the compressed file takes the place of the other")]
fn compress(path: &Path) -> io::Result<()> {
    let mut file = open(path)?;
    let (whole, mut aside) = (compressed(path), compressed(path).into_os_string());
    aside.push(".new");
    let mut new = owner::open(Path::new(&aside), OpenOptions::new().create(true).write(true).truncate(true))?;
    if let Some(mut old) = if_there(&whole)? {
        io::copy(&mut old, &mut new)?;
    }
    let is_torn = ends_torn(&mut file)?;
    file.rewind()?;
    let mut encoder = GzEncoder::new(BufWriter::new(new), Compression::default());
    io::copy(&mut file, &mut encoder)?;
    if is_torn {
        encoder.write_all(b"\n")?;
    }
    let new = encoder.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    // Before the other file goes: after a power cut one of them must have the lines.
    new.sync_all()?;
    std::fs::rename(&aside, &whole)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    std::fs::remove_file(path)
}

/// Removes the files of a day if `are_held` says that bundles hold all their lines; returns whether it did.
///
/// A line in the file of bundles tells of it, so that the camera stays one that this box has stored captures of.
///
/// # Errors
/// The error of the file system: the lines are there then, or gone as they may be.
#[expect(clippy::disallowed_methods, reason = "the lines are in bundles and their indexes")]
pub fn settle(
    folder: &Path,
    camera: &str,
    date: NaiveDate,
    settled_at: DateTime<Utc>,
    are_held: impl FnOnce(&mut dyn Iterator<Item = LedgerLine>) -> bool,
) -> io::Result<bool> {
    let path = path(folder, camera, date);
    // Held until the end, so that no line comes in between.
    let file = open(&path)?;
    if !are_held(&mut history(&path)?) {
        if file.metadata()?.len() == 0 {
            std::fs::remove_file(&path)?;
        }
        return Ok(false);
    }
    let bundles = of_camera(folder, camera).join(BUNDLES);
    write(&mut open(&bundles)?, &bundles, &[Settled { settled_at, date }])?;
    match std::fs::remove_file(compressed(&path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::remove_file(&path)?;
    Ok(true)
}

/// Returns whether lines of stored captures of a camera were removed because bundles hold them.
pub(super) fn has_settled(folder: &Path, camera: &str) -> io::Result<bool> {
    let file = if_there(&of_camera(folder, camera).join(BUNDLES))?;
    Ok(file.map(lines).into_iter().flatten().any(|line| parse::<Settled>(&line).is_some()))
}

/// Returns the days that have a file of either kind, by the names in a camera's folder.
pub(super) fn days_of(names: &[String]) -> Vec<NaiveDate> {
    let date = |name: &String| name.strip_suffix(".gz").unwrap_or(name).strip_suffix(".jsonl")?.parse().ok();
    names.iter().filter_map(date).collect::<BTreeSet<_>>().into_iter().collect()
}
