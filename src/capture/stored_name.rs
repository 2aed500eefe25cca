//! What a capture is called in the bucket: the last segment of its key, made and read back.
//!
//! A name that tells the whole time stays. Any other is made of time and path, `/` as `_`; the text stands for one of the
//! paths that give it, and is marked with a hash for the others. Hashing all was rejected: people read these names.

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
    /// The source's name for the key: its own, where that tells the whole time.
    ///
    /// No two paths of a camera have one, but where a name that tells its device and its time lies in several folders,
    /// or in folders that only repeat what it says.
    pub(super) fn file(&self, taken: DateTime<FixedOffset>, taken_from: TakenFrom) -> Vec<u8> {
        let Some((own, folders)) = self.below.split_last() else { return Vec::new() };
        if taken_from == TakenFrom::Name && !has_our_stamp(own) {
            if self.reading.device.is_some() {
                return own.to_vec();
            }
            let (wall, channel) = (taken.naive_local(), self.reading.channel.as_deref());
            let event = self.reading.event.as_ref().map(String::as_bytes);
            let implied = |(name, folder): &(&&[u8], &Folder)| {
                folder.is_implied(wall, channel, self.media) || event == Some(name)
            };
            let told = folders.iter().zip(&self.folders).filter(|folder| !implied(folder));
            let mut parts: Vec<&[u8]> = told.map(|(name, _)| *name).collect();
            let marked = !parts.is_empty();
            parts.push(own);
            return join(&parts, marked);
        }
        debug_assert!(!self.is_tree || is_tree(&self.below.join(&b'/')), "a tree is one by itself");
        // One text can be joined from several paths: it stands for one of them, the others are marked.
        let (path, joined) = (self.below.join(&b'/'), self.below.join(&b'_'));
        let stands = if path == joined {
            !is_tree(&tree(&joined))
        } else {
            path == tree(&joined) && (self.is_tree || is_tree(&path))
        };
        [our_stamp(taken.naive_local()), join(&self.below, !stands)].concat()
    }
}

/// Before the hash of a path whose text another path gives as well.
const MARK: &str = "~in-";

/// Joins parts with `_`; `marked` with a hash of what they were, because another path gives the same text.
fn join(parts: &[&[u8]], marked: bool) -> Vec<u8> {
    let joined = parts.join(&b'_');
    if !marked {
        return joined;
    }
    let hash = hex::encode(Sha256::digest(parts.join(&b'/')));
    let own = parts.last().map_or(0, |own| own.len());
    let dot = joined.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > joined.len() - own);
    let (stem, extension) = joined.split_at(dot.unwrap_or(joined.len()));
    [stem, MARK.as_bytes(), &hash.as_bytes()[..8], extension].concat()
}

/// The path for which a joined one stands: the tree of a vendor whose folders tell the time if it can be one, else a
/// name without folders.
fn split(joined: &[u8]) -> Vec<u8> {
    let tree = tree(joined);
    if is_tree(&tree) { tree } else { joined.to_vec() }
}

/// The path with the most folders that a joined one can stand for.
fn tree(joined: &[u8]) -> Vec<u8> {
    let mut tree = String::from_utf8_lossy(joined).into_owned().into_bytes();
    for at in 0..tree.len() {
        // Dahua's `pic_001`.
        if tree[at] == b'_' && !tree[..at].ends_with(b"/pic") {
            tree[at] = b'/';
        }
    }
    tree
}

/// Whether a path tells its time by folders.
fn is_tree(path: &[u8]) -> bool {
    let reads = || naming::read(Path::new(OsStr::from_bytes(path)), "auto");
    path.contains(&b'/') && reads().stamp.is_some_and(|stamp| stamp.from == TakenFrom::Folder)
}

/// `YYYYMMDDThhmmss_`.
fn our_stamp(wall: NaiveDateTime) -> Vec<u8> {
    let (date, time) = (wall.date(), wall.time());
    let date = (i64::from(date.year()) * 100 + i64::from(date.month())) * 100 + i64::from(date.day());
    let time = (time.hour() * 100 + time.minute()) * 100 + time.second();
    format!("{date:08}T{time:06}_").into_bytes()
}

/// Whether a name begins as ours do that are made of time and path.
fn has_our_stamp(name: &[u8]) -> bool {
    name.len() > 15
        && name[..15].iter().enumerate().all(|(at, byte)| if at == 8 { *byte == b'T' } else { byte.is_ascii_digit() })
        && name[15] == b'_'
}

/// What the last segment of a key tells of its capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredName {
    /// When it was taken.
    pub taken: Option<DateTime<FixedOffset>>,
    /// The event word.
    pub event: Option<String>,
    /// The channel, as written.
    pub channel: Option<String>,
}

/// Reads the last segment of a key back: our own stamp before it, or the vendor's in it.
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
    // A pattern of the camera's own may want its folder; which one it was, its name tells best.
    let read = |name: &str| {
        // Not joined: a stranger's name may begin with `/`.
        let path = PathBuf::from(format!("{camera}/{name}"));
        let reading = sight_of(&path, configured, config).reading;
        let nothing = reading.stamp.is_none() && reading.event.is_none();
        // Stored before the camera was configured as it is now.
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
