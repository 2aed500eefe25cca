//! Makes a capture's name in the bucket, which is the last segment of its key, and reads it back.
//!
//! A name that tells the whole time stays. Any other is made of the time and the path, with `/` as `_`. Several paths may
//! give one such text: one of them has it as it is, the others with a hash of the path. A hash in every name was rejected,
//! because people read these names.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use sha2::{Digest, Sha256};

use super::folders::Folder;
use super::naming::PathReading;
use super::{Sighting, TakenFrom, Told, folders, naming, resolve, resolve_stamp};
use crate::config::{CameraSettings, Config};
use crate::key;

impl Sighting<'_> {
    /// Returns the capture's name for the key: the file's own if that tells the whole time, otherwise time and path.
    ///
    /// Two paths of one camera have the same name only if their folders only repeat what the file's name says.
    pub(super) fn file(&self, told: &Told) -> Vec<u8> {
        let Some((own, folders)) = self.below.split_last() else { return Vec::new() };
        if self.is_ours && told.from == TakenFrom::Name {
            let own = String::from_utf8_lossy(own);
            let first = key::read_variant(&own).map_or_else(|| own.into_owned(), |(first, _)| first);
            return key::unescape(first.as_bytes());
        }
        if self.tells_whole_time(told, own) {
            let name = self.own_name(own, folders, told.taken.naive_local());
            if self.own.as_ref().is_none_or(|settings| self.reads_back(&name, settings)) {
                return name;
            }
        }
        // Several paths give the same text when they are joined: one of them has it unmarked.
        let (path, joined) = (self.below.join(&b'/'), self.below.join(&b'_'));
        let is_unmarked =
            if path == joined { !is_tree(&tree(&joined)) } else { path == tree(&joined) && is_tree(&path) };
        let stamp =
            if told.is_day_only { our_day(told.taken.date_naive()) } else { our_stamp(told.taken.naive_local()) };
        [stamp, if is_unmarked { joined } else { join_marked(&self.below) }].concat()
    }

    /// Returns whether the file's `own` name tells this time to whoever reads it in the bucket.
    fn tells_whole_time(&self, told: &Told, own: &[u8]) -> bool {
        let is_epoch = self.reading.stamp.is_some_and(|stamp| stamp.is_epoch);
        told.from == TakenFrom::Name && !is_epoch && !has_our_stamp(own)
    }

    /// Returns whether a name that the pattern of a camera reads below its own folders is read in the same way without them.
    fn reads_back(&self, name: &[u8], settings: &CameraSettings) -> bool {
        let name = without_mark(String::from_utf8_lossy(name).into_owned());
        let is_known = key::camera_segment(settings.name.as_bytes()) == self.camera;
        read_name(&self.camera, &name, is_known.then_some(settings)).stamp == self.reading.stamp
    }

    /// Returns the file's `own` name, with those of its `folders` that tell more than the name does.
    fn own_name(&self, own: &[u8], folders: &[&[u8]], wall: NaiveDateTime) -> Vec<u8> {
        let channel = self.reading.channel.as_deref();
        let words = [&self.reading.event, &self.reading.device];
        let is_word = |name: &[u8]| {
            name.iter().any(|byte| !byte.is_ascii_punctuation())
                && words.iter().any(|word| word.as_ref().is_some_and(|word| word.as_bytes() == name))
        };
        let is_implied = |(name, folder): &(&&[u8], &Folder)| {
            folder.is_implied(wall, channel, self.media)
                && folders::hour_of_date(name).is_none_or(|hour| hour == wall.hour())
                || is_word(name)
        };
        let telling = folders.iter().zip(&self.folders).filter(|folder| !is_implied(folder));
        let mut parts: Vec<&[u8]> = telling.map(|(name, _)| *name).collect();
        if parts.is_empty() {
            return own.to_vec();
        }
        parts.push(own);
        join_marked(&parts)
    }
}

/// Returns whether a path below the camera's folder is that of a local copy: its date, then a name that is made of time and
/// path. Somebody has put it back into the drop folder, and a second stamp before it would make another capture of it.
pub(super) fn is_ours(below: &[&[u8]]) -> bool {
    let [date, file] = below else { return false };
    let digits = date.iter().filter(|byte| **byte != b'-');
    date.len() == 10 && has_our_stamp(file) && digits.eq(&file[..8])
}

/// Stands before the hash of a path.
const MARK: &str = "~in-";

/// Joins the parts of a path with `_`, and marks the text with a hash of the path, because another path gives it too.
fn join_marked(parts: &[&[u8]]) -> Vec<u8> {
    let joined = parts.join(&b'_');
    let hash = hex::encode(&Sha256::digest(parts.join(&b'/'))[..4]);
    let own = parts.last().map_or(0, |own| own.len());
    let dot = joined.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > joined.len() - own);
    let (stem, extension) = joined.split_at(dot.unwrap_or(joined.len()));
    [stem, MARK.as_bytes(), hash.as_bytes(), extension].concat()
}

/// Returns the path that a joined text stands for if it has no hash: the vendor's tree that tells the time, if it can be
/// split into one, otherwise the text itself as a name without folders.
fn split(joined: &[u8]) -> Vec<u8> {
    let tree = tree(joined);
    if is_tree(&tree) { tree } else { joined.to_vec() }
}

/// Returns the path with the most folders that a joined text can be split into.
fn tree(joined: &[u8]) -> Vec<u8> {
    let mut tree = String::from_utf8_lossy(joined).into_owned().into_bytes();
    for at in 0..tree.len() {
        // Except in Dahua's folder `pic_001`.
        if tree[at] == b'_' && !tree[..at].ends_with(b"/pic") {
            tree[at] = b'/';
        }
    }
    tree
}

/// Returns whether the folders of a path tell its time.
fn is_tree(path: &[u8]) -> bool {
    let reads = || naming::read(Path::new(OsStr::from_bytes(path)), "auto");
    path.contains(&b'/') && reads().stamp.is_some_and(|stamp| stamp.from == TakenFrom::Folder)
}

/// Returns the start of a name that is made of time and path: `YYYYMMDDThhmmss_`.
fn our_stamp(wall: NaiveDateTime) -> Vec<u8> {
    // Not `format!`, which would take a tenth of the time that a name takes.
    let date = (wall.year().unsigned_abs() * 100 + wall.month()) * 100 + wall.day();
    let time = (wall.hour() * 100 + wall.minute()) * 100 + wall.second();
    let mut stamp = *b"00000000T000000_";
    for (digits, mut number) in [(0..8, date), (9..15, time)] {
        for digit in stamp[digits].iter_mut().rev() {
            *digit += u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
        }
    }
    stamp.to_vec()
}

/// Stands for a time of day that is not known; in the order of names it comes after every time of the day.
const NO_TIME: &[u8] = b"xxxxxx_";

/// Returns the start of a name that is made of day and path: `YYYYMMDDTxxxxxx_`.
fn our_day(date: NaiveDate) -> Vec<u8> {
    let stamp = our_stamp(date.and_time(NaiveTime::MIN));
    [&stamp[..stamp.len() - NO_TIME.len()], NO_TIME].concat()
}

/// Returns whether a name begins like one that is made of time and path.
fn has_our_stamp(name: &[u8]) -> bool {
    let are_digits = |from: usize, to: usize| name[from..to].iter().all(u8::is_ascii_digit);
    name.len() > 15
        && are_digits(0, 8)
        && name[8] == b'T'
        && (are_digits(9, 15) && name[15] == b'_' || &name[9..16] == NO_TIME)
}

/// Returns whether a capture's key, or its name in the bucket, tells its day alone, see [`super::Capture::is_day_only`].
pub fn tells_day_alone(key: &str) -> bool {
    let file = key.rsplit('/').next().unwrap_or(key);
    has_our_stamp(file.as_bytes()) && file.as_bytes()[9..].starts_with(NO_TIME)
}

/// What a capture's name in the bucket tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredName {
    /// When it was taken; `None`: the name does not tell.
    pub taken: Option<DateTime<FixedOffset>>,
    /// The event word, if any.
    pub event: Option<String>,
    /// The channel as written, if any.
    pub channel: Option<String>,
}

/// Reads a capture's name, the last segment `file` of its key: the time is the one before it, otherwise the vendor's in it.
///
/// `camera` is the camera's segment of the key.
pub fn read_stored(camera: &str, file: &str, config: &Config) -> StoredName {
    let file = key::read_variant(file).map_or_else(|| file.to_owned(), |(first, _)| first);
    let unmarked = without_mark(file.clone());
    let (own, tail) = if has_our_stamp(unmarked.as_bytes()) { unmarked.split_at(16) } else { ("", unmarked.as_str()) };
    let configured = config.cameras.iter().find(|known| key::camera_segment(known.name.as_bytes()) == camera);
    let reading = if own.is_empty() {
        read_own_name(camera, tail, unmarked != file, configured)
    } else {
        read_name(camera, &String::from_utf8_lossy(&split(tail.as_bytes())), configured)
    };
    let zone = configured.and_then(|camera| camera.timezone).unwrap_or(config.timezone);
    let ours = NaiveDateTime::parse_from_str(own, "%Y%m%dT%H%M%S_").ok().map(|wall| resolve(wall, zone, None));
    let stamp = reading.stamp.filter(|stamp| own.is_empty() && !stamp.is_epoch);
    StoredName {
        taken: ours.or(stamp.map(|stamp| resolve_stamp(stamp, zone, None))),
        event: reading.event,
        channel: reading.channel,
    }
}

/// Returns a name without the hash of its path, see [`join_marked`].
fn without_mark(name: String) -> String {
    match name.rsplit_once(MARK) {
        Some((stem, rest)) if rest.len() >= 8 && rest.as_bytes()[..8].iter().all(u8::is_ascii_hexdigit) => {
            format!("{stem}{}", &rest[8..])
        }
        _ => name,
    }
}

/// Reads a file's own name. Folders stand before one that `has_folders`: the whole text tells the time, and the name
/// without them may tell the event.
fn read_own_name(camera: &str, name: &str, has_folders: bool, configured: Option<&CameraSettings>) -> PathReading {
    let whole = read_name(camera, name, configured);
    if !has_folders || whole.event.is_some() {
        return whole;
    }
    let tails = name.match_indices('_').map(|(at, _)| &name[at + 1..]);
    let telling = tails.map(|tail| read_name(camera, tail, configured)).find(|tail| tail.event.is_some());
    match telling {
        Some(tail) if tail.stamp == whole.stamp => tail,
        _ => whole,
    }
}

/// Reads a name as a file of this camera, with the camera's own pattern or as any vendor's.
fn read_name(camera: &str, name: &str, configured: Option<&CameraSettings>) -> PathReading {
    // Not `Path::join`: a name that a stranger wrote may begin with `/`. A pattern of the camera's own may match the folder
    // too, which probably had the camera's name.
    let path = PathBuf::from(format!("{camera}/{name}"));
    let own = configured.and_then(|camera| naming::read_own(&path, camera)).map(|(reading, _)| reading);
    let reading = own.unwrap_or_else(|| naming::read(&path, configured.map_or("auto", |camera| &camera.vendor)));
    let nothing = reading.stamp.is_none() && reading.event.is_none();
    // The capture may be older than the camera's present configuration.
    if nothing { naming::read(&path, "auto") } else { reading }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;

    #[test]
    fn a_stored_name_is_read_back_by_the_pattern_of_its_camera_else_by_any_vendors() {
        let config = config(
            "cameras:\n  - {name: Porch, timezone: America/New_York, vendor: dahua, \
             pattern: '^Porch/(?P<event>[a-z]+)-(?P<taken>[0-9]{8}-[0-9]{6})'}\n",
        );
        let read = |camera: &str, file: &str| {
            let told = read_stored(camera, file, &config);
            Some((told.taken?.to_rfc3339(), told.event.unwrap_or_default()))
        };
        let found = |taken: &str, event: &str| Some((taken.to_owned(), event.to_owned()));
        assert_eq!(read("Porch", "cat-20240102-030405.jpg"), found("2024-01-02T03:04:05-05:00", "cat"));
        let name = "10.0.0.1_01_20240102030405000_TIMING";
        assert_eq!(read("Porch", &format!("{name}.jpg")), found("2024-01-02T03:04:05-05:00", "TIMING"));
        assert_eq!(read("Yard", &format!("{name}~partial-0a1b2c3d.jpg")), found("2024-01-02T03:04:05+02:00", "TIMING"));
        assert_eq!(read("Yard", "20240102T030405_cat.jpg"), found("2024-01-02T03:04:05+02:00", ""));
        assert_eq!(read("Yard", "cat-20240102-030405.jpg"), found("2024-01-02T03:04:05+02:00", ""));
        assert_eq!(read("Yard", "cat-2024.jpg"), None);
        let tree = "20240102T030405_2024-01-02_001_jpg_03_04_05[M][0@0][0]";
        assert_eq!(read("Yard", &format!("{tree}.jpg")), found("2024-01-02T03:04:05+02:00", "M"));
        assert_eq!(
            read("Yard", &format!("{tree}~in-0a1b2c3d~partial-0a1b2c3d.jpg")),
            found("2024-01-02T03:04:05+02:00", "M")
        );
    }
}
