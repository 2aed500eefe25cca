//! Makes a capture's name in the bucket, which is the last segment of its key, and reads it back.
//!
//! A name that tells the whole time stays. Any other is made of the time and the path, with `/` as `_`. Several paths may
//! give one such text: one of them has it as it is, the others with a hash of the path. A hash in every name was rejected,
//! because people read these names.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Datelike, FixedOffset, NaiveDateTime, Timelike};
use sha2::{Digest, Sha256};

use super::folders::Folder;
use super::{Sighting, TakenFrom, naming, resolve, sight_of};
use crate::config::Config;
use crate::key;

impl Sighting<'_> {
    /// Returns the capture's name for the key: the file's own if that tells the whole time, otherwise time and path.
    ///
    /// Two paths of one camera have the same name only if the file's own name tells its device and time, or if their
    /// folders only repeat what the file's name says.
    pub(super) fn file(&self, taken: DateTime<FixedOffset>, taken_from: TakenFrom) -> Vec<u8> {
        let Some((own, folders)) = self.below.split_last() else { return Vec::new() };
        if self.is_ours && taken_from == TakenFrom::Name {
            let own = String::from_utf8_lossy(own);
            let first = key::read_variant(&own).map_or_else(|| own.into_owned(), |(first, _)| first);
            return key::unescape(first.as_bytes());
        }
        if taken_from == TakenFrom::Name && !has_our_stamp(own) {
            return self.own_name(own, folders, taken.naive_local());
        }
        debug_assert!(
            !self.is_tree || is_tree(&self.below.join(&b'/')),
            "`is_tree` agrees with reading the rest of the path by itself"
        );
        // Several paths give the same text when they are joined: one of them has it unmarked.
        let (path, joined) = (self.below.join(&b'/'), self.below.join(&b'_'));
        let is_unmarked = if path == joined {
            !is_tree(&tree(&joined))
        } else {
            path == tree(&joined) && (self.is_tree || is_tree(&path))
        };
        [our_stamp(taken.naive_local()), if is_unmarked { joined } else { join_marked(&self.below) }].concat()
    }

    /// Returns the file's `own` name, with those of its `folders` that tell more than the name does.
    fn own_name(&self, own: &[u8], folders: &[&[u8]], wall: NaiveDateTime) -> Vec<u8> {
        if self.reading.device.is_some() {
            return own.to_vec();
        }
        let channel = self.reading.channel.as_deref();
        let event = self.reading.event.as_ref().map(String::as_bytes);
        let is_implied =
            |(name, folder): &(&&[u8], &Folder)| folder.is_implied(wall, channel, self.media) || event == Some(name);
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
    let digits: Vec<u8> = date.iter().copied().filter(|byte| *byte != b'-').collect();
    date.len() == 10 && digits.len() == 8 && has_our_stamp(file) && file.starts_with(&digits)
}

/// Stands before the hash of a path.
const MARK: &str = "~in-";

/// Joins the parts of a path with `_`, and marks the text with a hash of the path, because another path gives it too.
fn join_marked(parts: &[&[u8]]) -> Vec<u8> {
    let joined = parts.join(&b'_');
    let hash = hex::encode(Sha256::digest(parts.join(&b'/')));
    let own = parts.last().map_or(0, |own| own.len());
    let dot = joined.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > joined.len() - own);
    let (stem, extension) = joined.split_at(dot.unwrap_or(joined.len()));
    [stem, MARK.as_bytes(), &hash.as_bytes()[..8], extension].concat()
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
    let (date, time) = (wall.date(), wall.time());
    let date = (i64::from(date.year()) * 100 + i64::from(date.month())) * 100 + i64::from(date.day());
    let time = (time.hour() * 100 + time.minute()) * 100 + time.second();
    format!("{date:08}T{time:06}_").into_bytes()
}

/// Returns whether a name begins like one that is made of time and path.
fn has_our_stamp(name: &[u8]) -> bool {
    name.len() > 15
        && name[..15].iter().enumerate().all(|(at, byte)| if at == 8 { *byte == b'T' } else { byte.is_ascii_digit() })
        && name[15] == b'_'
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
    let mut file = key::read_variant(file).map_or_else(|| file.to_owned(), |(first, _)| first);
    if let Some((stem, rest)) = file.rsplit_once(MARK)
        && rest.len() >= 8
        && rest.as_bytes()[..8].iter().all(u8::is_ascii_hexdigit)
    {
        file = format!("{stem}{}", &rest[8..]);
    }
    let (own, tail) = if has_our_stamp(file.as_bytes()) { file.split_at(16) } else { ("", file.as_str()) };
    let configured = config.cameras.iter().find(|known| key::camera_segment(known.name.as_bytes()) == camera);
    // A pattern of the camera's own may match the folder too, which probably had the camera's name.
    let read = |name: &str| {
        // Not `Path::join`: a name that a stranger wrote may begin with `/`.
        let path = PathBuf::from(format!("{camera}/{name}"));
        let reading = sight_of(&path, configured, config).reading;
        let nothing = reading.stamp.is_none() && reading.event.is_none();
        // The capture may be older than the camera's present configuration.
        if nothing { naming::read(&path, "auto") } else { reading }
    };
    let reading = if own.is_empty() { read(tail) } else { read(&String::from_utf8_lossy(&split(tail.as_bytes()))) };
    let ours = NaiveDateTime::parse_from_str(own, "%Y%m%dT%H%M%S_").ok();
    let zone = configured.and_then(|camera| camera.timezone).unwrap_or(config.timezone);
    StoredName {
        taken: ours.or(reading.stamp.map(|stamp| stamp.wall)).map(|wall| resolve(wall, zone, None)),
        event: reading.event,
        channel: reading.channel,
    }
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
