//! Reads the paths that cameras write, by one ordered table of the vendors' names.
//!
//! A row is data: a pattern for the whole path below the drop folder, with named groups. The groups are `device` (the
//! camera's name for itself), `channel`, `event`, and for the camera's wall clock `stamp`, or `date` and `time`, of which
//! only the digits count. The first row wins that matches and whose stamp is a time that exists and the first one in the
//! name. Rows with a stamp come before those without, and a vendor's longer stamps before any shorter one. One row reads
//! the stamps of any vendor by their grammar.
//!
//! A path that no row reads a time in may tell it in its folders, or as the seconds since 1970.
//!
//! Paths are not split at `_` or `.`: names contain `_` freely, and IP addresses look like some vendors' times. Instead, each
//! pattern is built around its stamp. A trait for each vendor was rejected: vendors differ in spelling, not in behaviour.

use std::path::Path;
use std::sync::LazyLock;

use chrono::{FixedOffset, NaiveDate, NaiveDateTime, Offset, TimeDelta, Timelike, Utc};

use super::TakenFrom;
use crate::config::CameraSettings;
use crate::key;

mod dated;
mod search;
mod stamp;
mod table;

use dated::Dated;
use search::{GROUPS, NamingMatch, RowMatcher, STAMP, TABLE, name_at};
pub(super) use stamp::offset;
use table::Clock::{self, AnyStamp, Four, Two};
use table::{NAMINGS, Naming};

/// What a path tells about its capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathReading {
    /// The vendor of the row that matched; `None`: no row did, or one for any vendor.
    pub vendor: Option<&'static str>,
    /// The device's name for itself, as a key segment.
    pub device: Option<String>,
    /// The channel as written, as a part of a key.
    pub channel: Option<String>,
    /// The time.
    pub stamp: Option<PathTime>,
    /// The event word, as a part of a key.
    pub event: Option<String>,
    /// Where in the path the vendor's own tree begins; the length of the path if nothing was read.
    pub tree_at: usize,
}

impl PathReading {
    /// Returns the reading of a path that tells nothing.
    fn nothing(path: &[u8]) -> Self {
        let end = path.len();
        Self { vendor: None, device: None, channel: None, stamp: None, event: None, tree_at: end }
    }
}

/// The time that a path tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathTime {
    /// The camera's wall clock.
    pub wall: NaiveDateTime,
    /// The offset of that clock from UTC; `None`: the path does not tell it.
    pub offset: Option<FixedOffset>,
    /// [`TakenFrom::Name`] if the file's own name tells all of it, otherwise [`TakenFrom::Folder`].
    pub from: TakenFrom,
    /// Whether it is a number of seconds since 1970. Other numbers look the same, so only the arrival can confirm it.
    pub is_epoch: bool,
}

impl PathTime {
    /// Returns the time of a wall clock whose offset nothing tells.
    fn of_wall(wall: NaiveDateTime, from: TakenFrom) -> Self {
        Self { wall, offset: None, from, is_epoch: false }
    }
}

/// What became of a path at one row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// The row reads the path.
    Reads(PathReading),
    /// The path has another shape.
    OtherShape,
    /// The stamp is not a time that exists; these are its digits.
    NoTime(String),
    /// The row is not tried, because the camera has another vendor.
    OtherVendor,
    /// The row would read the path, but an earlier row does.
    TooLate,
}

/// Compiles the table now, which takes some ten milliseconds, instead of when the first path is read.
pub fn prepare() {
    LazyLock::force(&TABLE);
}

/// Reads a path below the drop folder. `vendor` is `auto`, or only that vendor's rows and those for any vendor are tried.
pub fn read(path: &Path, vendor: &str) -> PathReading {
    let bytes = path.as_os_str().as_encoded_bytes();
    let Some(table) = &*TABLE else { return PathReading::nothing(bytes) };
    let first = table.first(bytes);
    let mut reading = (NAMINGS[first..].iter().zip(&table.matchers[first..]))
        .filter(|(row, _)| is_asked(row, vendor))
        .find_map(|(row, matcher)| match try_row(row, matcher, bytes) {
            Trial::Reads(reading) => Some(reading),
            _ => None,
        })
        .unwrap_or_else(|| PathReading::nothing(bytes));
    if reading.stamp.is_none() {
        let _is_read = reading.read_folders(bytes) || reading.read_epoch(bytes);
    }
    reading.channel = reading.channel.or_else(|| labelled_channel(bytes));
    reading
}

impl PathReading {
    /// Reads the time of a path whose folders tell the date; returns whether it tells one.
    fn read_folders(&mut self, path: &[u8]) -> bool {
        let Some(Dated { wall, offset }) = dated::read(path) else { return false };
        self.stamp = Some(PathTime { offset, ..PathTime::of_wall(wall, TakenFrom::Folder) });
        true
    }

    /// Reads a name that counts the seconds since 1970; returns whether it does.
    fn read_epoch(&mut self, path: &[u8]) -> bool {
        let name = &path[name_at(path)..];
        let Some((wall, begins)) = stamp::epoch(name) else { return false };
        let offset = Some(Utc.fix());
        self.stamp = Some(PathTime { wall, offset, from: TakenFrom::Name, is_epoch: true });
        self.device = self.device.take().or_else(|| device_before(&name[..begins]));
        true
    }
}

/// Returns the shapes that no row describes, in the order in which they are tried, and what became of the path.
fn explain_rest(path: &[u8], is_read: bool) -> [(Option<&'static str>, &'static str, Trial); 2] {
    type Read = fn(&mut PathReading, &[u8]) -> bool;
    let shapes: [(&'static str, Read); 2] = [
        ("date folders/[hh/[mm/]]...hh-mm-ss...", PathReading::read_folders),
        ("...seconds since 1970...", PathReading::read_epoch),
    ];
    let mut is_read = is_read;
    shapes.map(|(shape, read)| {
        let mut reading = PathReading::nothing(path);
        let reads = read(&mut reading, path);
        let trial = match (reads, is_read) {
            (true, false) => Trial::Reads(reading),
            (true, true) => Trial::TooLate,
            (false, _) => Trial::OtherShape,
        };
        is_read |= reads;
        (None, shape, trial)
    })
}

/// Tries every row, and returns for each its vendor, its shape and what became of the path.
pub fn explain(path: &Path, vendor: &str) -> Vec<(Option<&'static str>, &'static str, Trial)> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let matchers = TABLE.as_ref().map_or(&[][..], |table| &table.matchers);
    let (mut is_read, mut is_timed) = (false, false);
    let trial = |(row, matcher): (&'static Naming, &RowMatcher)| {
        let trial = if is_asked(row, vendor) { try_row(row, matcher, bytes) } else { Trial::OtherVendor };
        let trial = match trial {
            Trial::Reads(_) if is_read => Trial::TooLate,
            other => other,
        };
        if let Trial::Reads(reading) = &trial {
            (is_read, is_timed) = (true, reading.stamp.is_some());
        }
        (row.vendor, row.shape, trial)
    };
    let mut trials: Vec<_> = NAMINGS.iter().zip(matchers).map(trial).collect();
    trials.extend(explain_rest(bytes, is_timed));
    trials
}

/// Returns whether a row is tried for cameras of this vendor.
fn is_asked(row: &Naming, vendor: &str) -> bool {
    // Amcrest sells Dahua's cameras.
    let vendor = if vendor == "amcrest" { "dahua" } else { vendor };
    vendor == "auto" || row.vendor.is_none_or(|name| name == vendor)
}

/// Tries one row on a path.
fn try_row(row: &Naming, matcher: &RowMatcher, path: &[u8]) -> Trial {
    if row.clock == AnyStamp {
        return any_stamp(path).map_or(Trial::OtherShape, Trial::Reads);
    }
    let name_at = name_at(path);
    let Some(found) = matcher.find(path, name_at) else { return Trial::OtherShape };
    let clock = found.clock();
    if found.is_end(path, name_at) {
        return Trial::OtherShape;
    }
    let reading = reading(&found, row.vendor, (path, name_at), row.clock);
    if reading.stamp.is_none() && clock.clone().next().is_some() {
        let digits: Vec<_> = clock.map(|(from, to)| String::from_utf8_lossy(&path[from..to])).collect();
        return Trial::NoTime(digits.join(" "));
    }
    Trial::Reads(reading)
}

/// Reads a path with the pattern of a configured camera (groups `camera`, `taken`, `event`, `channel`). Returns the reading
/// and the camera's segment, if the pattern tells it; `None` if there is no pattern or it does not match.
pub fn read_own(path: &Path, settings: &CameraSettings) -> Option<(PathReading, Option<String>)> {
    let path = path.as_os_str().as_encoded_bytes();
    let captures = settings.pattern.as_ref()?.regex().captures(path)?;
    let camera = captures.name("camera").map(|found| key::camera_segment(found.as_bytes()));
    let groups = GROUPS.map(|group| captures.name(group).map(|found| (found.start(), found.end())));
    let name_at = name_at(path);
    let found = NamingMatch { begins: name_at, ends: path.len(), groups };
    let mut reading = reading(&found, None, (path, name_at), Four);
    if let Some(taken) = captures.name("taken") {
        let told = match &settings.taken_format {
            Some(format) => str::from_utf8(taken.as_bytes()).ok().and_then(|text| format.read(text)),
            None => time_in(taken.as_bytes())
                .or_else(|| read_stamp(std::iter::once(taken.as_bytes()), Four).map(|wall| (wall, None))),
        };
        let from = if taken.start() >= name_at { TakenFrom::Name } else { TakenFrom::Folder };
        reading.stamp = told.map(|(wall, offset)| PathTime { offset, ..PathTime::of_wall(wall, from) });
    }
    Some((reading, camera))
}

/// Returns the first whole stamp in any text, and its offset from UTC if the text tells it.
pub(super) fn time_in(text: &[u8]) -> Option<(NaiveDateTime, Option<FixedOffset>)> {
    stamp::first(text).map(|stamp| (stamp.wall, stamp.offset))
}

/// Reads a name by the grammar of stamps.
fn any_stamp(path: &[u8]) -> Option<PathReading> {
    let name_at = name_at(path);
    let name = &path[name_at..];
    let stamp = stamp::first(name)?;
    let (before, after) = (&name[..stamp.begins], &name[stamp.ends..]);
    // A recorder writes its channel before begin and end.
    let (device, channel) = match before {
        [.., b'_', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b'_' | b'-'] if stamp::first(after).is_some() => {
            (&before[..before.len() - 3], Some(key::escape(&[*tens, *ones])))
        }
        _ => (before, None),
    };
    Some(PathReading {
        vendor: None,
        device: device_before(device),
        channel,
        stamp: Some(PathTime { offset: stamp.offset, ..PathTime::of_wall(stamp.wall, TakenFrom::Name) }),
        event: if stamp.is_compact_fraction { word_behind(after) } else { None },
        tree_at: name_at,
    })
}

/// Returns what a device calls itself in the text before a stamp: a separator must follow, because the text could belong
/// to a longer word.
fn device_before(text: &[u8]) -> Option<String> {
    let device = text.trim_ascii_end();
    let end = device.iter().rposition(|byte| !b"_@ .-".contains(byte))? + 1;
    (end < text.len() && !has_long_number(&device[..end])).then(|| key::camera_segment(&device[..end]))
}

/// Returns the word of letters and `_` behind a stamp.
fn word_behind(text: &[u8]) -> Option<String> {
    let begins = text.iter().position(|byte| !b"_ -".contains(byte)).filter(|begins| *begins > 0)?;
    let word = &text[begins..];
    let length = word.iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'_').count();
    let is_word = word[0].is_ascii_alphabetic() && !word.get(length).is_some_and(u8::is_ascii_digit);
    is_word.then(|| key::escape(&word[..length]))
}

/// Returns the channel that a name or a folder calls one, such as `CH01`, `ch_0`, `chan3` or `Channel 2`.
fn labelled_channel(path: &[u8]) -> Option<String> {
    let mut rest = path;
    while let Some(at) = rest.iter().rposition(|byte| matches!(byte, b'h' | b'H')) {
        rest = &path[..at];
        let channel = at.checked_sub(1).and_then(|at| channel_at(path, at));
        if channel.is_some() {
            return channel;
        }
    }
    None
}

/// Returns the channel whose label begins at `at`, with an `h` behind it.
fn channel_at(path: &[u8], at: usize) -> Option<String> {
    if !path[at].eq_ignore_ascii_case(&b'c') || at > 0 && path[at - 1].is_ascii_alphanumeric() {
        return None;
    }
    let rest = &path[at + 2..];
    let words = [&b"annel"[..], b"an"];
    let is_next = |word: &&&[u8]| rest.get(..word.len()).is_some_and(|next| next.eq_ignore_ascii_case(word));
    let rest = words.iter().find(is_next).map_or(rest, |word| &rest[word.len()..]);
    let rest = if let [b'_' | b'-' | b' ', rest @ ..] = rest { rest } else { rest };
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is_channel = (1..=3).contains(&length) && !rest.get(length).is_some_and(u8::is_ascii_alphanumeric);
    is_channel.then(|| key::escape(&rest[..length]))
}

/// Returns what the groups of a match in a path tell; the file's name begins at `name_at`.
fn reading(
    found: &NamingMatch,
    vendor: Option<&'static str>,
    (path, name_at): (&[u8], usize),
    clock: Clock,
) -> PathReading {
    let [device, channel, .., event] = found.groups.map(|group| group.map(|(from, to)| &path[from..to]));
    let from = if found.clock().all(|(from, _)| from >= name_at) { TakenFrom::Name } else { TakenFrom::Folder };
    let wall = read_stamp(found.clock().map(|(from, to)| &path[from..to]), clock);
    // A stamp to the second may go on.
    let ends = found.groups[STAMP].map(|(_, to)| to).filter(|_| wall.is_some_and(|wall| wall.nanosecond() == 0));
    let exact = wall.zip(ends).map(|(wall, ends)| stamp::behind(path, ends, wall));
    let (wall, offset) = exact.map_or((wall, None), |(wall, offset)| (Some(wall), offset));
    // The word behind a stamp may be its zone.
    let (offset, event) = match event.and_then(stamp::zone_of) {
        Some(zone) => (Some(zone), None),
        None => (offset, event),
    };
    PathReading {
        vendor,
        // A stamp that is not a time could be taken for a device, and every picture for a new camera.
        device: device.filter(|device| !has_long_number(device)).map(key::camera_segment),
        channel: channel.map(key::escape),
        stamp: wall.map(|wall| PathTime { offset, ..PathTime::of_wall(wall, from) }),
        event: event.map(key::escape),
        tree_at: found.begins,
    }
}

/// Returns whether a text contains a number as long as a stamp.
fn has_long_number(text: &[u8]) -> bool {
    text.len() >= 14 && text.split(|byte| !byte.is_ascii_digit()).any(|number| number.len() >= 14)
}

/// Reads a wall clock from the digits of `YYYYMMDDhhmmss[f...]`, and ignores all other characters; `None` if that time does
/// not exist.
///
/// The year must be 1970 to 2099. Second 60, which recorders write at the end of a day, is the start of the next minute.
fn read_stamp<'a>(parts: impl Iterator<Item = &'a [u8]>, clock: Clock) -> Option<NaiveDateTime> {
    let mut digits = [0; 20];
    let mut count = 0;
    for part in parts {
        for byte in part.iter().filter(|byte| byte.is_ascii_digit()) {
            *digits.get_mut(count)? = u32::from(byte - b'0');
            count += 1;
        }
    }
    let number = |from: usize, to: usize| digits[from..to].iter().fold(0, |sum, digit| sum * 10 + digit);
    let (year, rest) = match clock {
        Four | AnyStamp => (number(0, 4), 4),
        // No camera's clock begins before 1970.
        Two => (number(0, 2) + if number(0, 2) < 70 { 2000 } else { 1900 }, 2),
    };
    if count < rest + 10 || !(1970..=2099).contains(&year) {
        return None;
    }
    let pair = |place: usize| number(rest + 2 * place, rest + 2 * place + 2);
    let millis = number(rest + 10, rest + 13);
    let second = pair(4);
    let time = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, pair(0), pair(1))?.and_hms_milli_opt(
        pair(2),
        pair(3),
        second.min(59),
        millis,
    )?;
    match second {
        0..=59 => Some(time),
        60 => time.checked_add_signed(TimeDelta::seconds(1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reading(path: &str) -> PathReading {
        read(Path::new(path), "auto")
    }

    #[test]
    fn every_row_compiles() {
        assert_eq!(TABLE.as_ref().unwrap().matchers.len(), NAMINGS.len());
        for row in NAMINGS {
            let expanded = table::expand(row.pattern);
            assert!(expanded.starts_with(search::BEGIN) && !expanded.contains("{name}"));
            assert!(!row.shape.is_empty());
        }
    }

    /// Vendor, device, channel, stamp and event; `-` for each that is not told.
    fn told(path: &str) -> [String; 5] {
        let read = reading(path);
        let text = |value: Option<&str>| value.unwrap_or("-").to_owned();
        let stamp = read.stamp.map(|stamp| stamp.wall.format("%Y-%m-%dT%H:%M:%S%.f").to_string());
        [
            text(read.vendor),
            text(read.device.as_deref()),
            text(read.channel.as_deref()),
            text(stamp.as_deref()),
            text(read.event.as_deref()),
        ]
    }

    /// Paths that the published examples of names leave open, with what is told about them.
    const TOLD: &[(&str, [&str; 5])] = &[
        (
            "192.168.0.64_01_20190319093422939_MOTION_DETECTION.jpg",
            ["hikvision", "192.168.0.64", "01", "2019-03-19T09:34:22.939", "MOTION_DETECTION"],
        ),
        (
            "10.4.100.111_101_20150619045051383_TIMING.JPG",
            ["hikvision", "10.4.100.111", "101", "2015-06-19T04:50:51.383", "TIMING"],
        ),
        ("192.168.1.64_01_20230712182012676.mp4", ["hikvision", "192.168.1.64", "01", "2023-07-12T18:20:12.676", "-"]),
        (
            "a/10.0.0.1_02_20230712182012676_FIELDDETECTION_2.jpg",
            ["hikvision", "10.0.0.1", "02", "2023-07-12T18:20:12.676", "FIELDDETECTION"],
        ),
        (
            "10.0.0.1_01_20230712182012676_someNewWord.jpg.1",
            ["hikvision", "10.0.0.1", "01", "2023-07-12T18:20:12.676", "someNewWord"],
        ),
        (
            "front_door_01_20230712182012676_TIMING.jpg",
            ["hikvision", "front_door", "01", "2023-07-12T18:20:12.676", "TIMING"],
        ),
        ("10.0.0.1_01_20230712182012676_UTC.jpg", ["hikvision", "10.0.0.1", "01", "2023-07-12T18:20:12.676", "-"]),
        ("10.0.0.1_01_20230712182060000_TIMING.jpg", ["hikvision", "10.0.0.1", "01", "2023-07-12T18:21:00", "TIMING"]),
        (
            "10.0.0.1_01_20230712182012676_AB12CD_VEHICLE_DETECTION.jpg",
            ["hikvision", "10.0.0.1", "01", "2023-07-12T18:20:12.676", "VEHICLE_DETECTION"],
        ),
        (
            "gg_733804851_20190319124752348_MOTION_DETECTION.jpg",
            ["hikvision", "gg_733804851", "-", "2019-03-19T12:47:52.348", "MOTION_DETECTION"],
        ),
        (
            "10.0.0.1_20230712182012676_AB12CD_VEHICLE_DETECTION.jpg",
            ["hikvision", "10.0.0.1", "-", "2023-07-12T18:20:12.676", "VEHICLE_DETECTION"],
        ),
        (
            "AB12CD_VEHICLE_DETECTION_20230712182012676.jpg",
            ["hikvision", "-", "-", "2023-07-12T18:20:12.676", "VEHICLE_DETECTION"],
        ),
        ("c/2019-05-09/1/dav/23/23.59.60-00.00.30[M][0@0][0].dav", ["dahua", "-", "1", "2019-05-10T00:00:00", "M"]),
        ("c/2019-05-09/pic_001/12.00.01[A][0@0][2].jpg", ["dahua", "-", "001", "2019-05-09T12:00:01", "A"]),
        ("NVR_ch12_sub_20230131000000_20230131235960.mp4", ["dahua", "NVR", "12", "2023-01-31T00:00:00", "-"]),
        ("2024Y05M06D07H/E181M10S50.mp4", ["yi", "-", "-", "-", "-"]),
        ("2024Y05M06D07H/E108M10S50.mp4", ["yi", "-", "-", "2024-05-06T07:08:10", "-"]),
        ("image99-01-15_12-34-56-78.jpg", ["axis", "-", "-", "1999-01-15T12:34:56.780", "-"]),
        ("Den_20260927140305.jpg", ["reolink", "Den", "-", "2026-09-27T14:03:05", "-"]),
        ("01-20260927140305-00.jpg", ["-", "01", "-", "2026-09-27T14:03:05", "-"]),
        ("Porch 2026-09-27 14.03.05 motion.jpg", ["-", "Porch", "-", "2026-09-27T14:03:05", "-"]),
        ("porch-20260927140305123-pir.jpg", ["-", "porch", "-", "2026-09-27T14:03:05.123", "pir"]),
    ];

    #[test]
    fn devices_and_what_visible_examples_leave_open_are_read() {
        for (path, expected) in TOLD {
            assert_eq!(told(path), *expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_time_is_not_taken_for_one() {
        for path in [
            "10.0.0.1_01_20231312182012676_TIMING.jpg",
            "10.0.0.1_01_20230230182012676_TIMING.jpg",
            "10.0.0.1_01_18230712182012676_TIMING.jpg",
            "10.0.0.1_01_2023071218201267699_TIMING.jpg",
            "10.0.0.1_01_20230712182099000_TIMING.jpg",
            "10.20.30.40_01_x.jpg",
            "2024-13-01/001/jpg/06/07/27[M][0@0][0].jpg",
            "cam/A25130106224300.jpg",
            "861551053998357.jpg",
            "",
            "/",
        ] {
            assert_eq!(reading(path).stamp, None, "{path}");
        }
    }

    #[test]
    fn a_vendor_narrows_the_table() {
        let name = Path::new("2026/09/27/Den_00_20260927140305.jpg");
        assert_eq!(read(name, "reolink").vendor, Some("reolink"));
        let other = read(name, "dahua");
        assert_eq!((other.vendor, other.channel), (None, None));
        assert_eq!(other.stamp.unwrap().from, TakenFrom::Name);
        assert_eq!(read(Path::new("c/001_20230818062050_[R][0@0][0].jpg"), "amcrest").vendor, Some("dahua"));
    }

    #[test]
    fn every_row_is_explained() {
        let trials = explain(Path::new("10.0.0.1_01_20231312182012676_TIMING.jpg"), "auto");
        assert_eq!(trials.len(), NAMINGS.len() + 2);
        assert_eq!(trials[1].2, Trial::NoTime("20231312182012676".to_owned()));
        assert!(matches!(trials[NAMINGS.len() - 1].2, Trial::Reads(_)));
        let trials = explain(Path::new("Den_00_20260927140305.jpg"), "reolink");
        assert_eq!(trials[0].2, Trial::OtherVendor);
        assert_eq!(trials[NAMINGS.len() - 1].2, Trial::OtherVendor);
        assert_eq!(trials.iter().filter(|(.., trial)| matches!(trial, Trial::Reads(_))).count(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn the_frequent_shape_is_read_as_the_general_one_would(
            name in r"[0-9a-z._]{1,9}_[0-9]{2,3}_20240[1-9]0[1-9]12[0-5][0-9]{6}(_[A-Za-z._0-9]{0,9})?(\.[a-z]{3})?",
        ) {
            let matchers = &TABLE.as_ref().unwrap().matchers;
            let read = |row: usize| try_row(&NAMINGS[row], &matchers[row], name.as_bytes());
            if let frequent @ Trial::Reads(_) = read(1) {
                prop_assert_eq!(frequent, read(2));
            }
        }

        #[test]
        fn the_first_row_that_matches_is_the_first_of_all_that_do(
            path in r"([a-z]{1,3}/)?(2024-05-06/)?(001/)?(jpg/)?[A-Za-z0-9_.]{0,6}_?0?[0-9]?_?(20240506|2024-05-06)?[_-]?(070809(123)?|07\.08\.09)?(\[M\]\[@0\])?(_TIMING)?(\.jpg)?",
        ) {
            let (table, path) = (TABLE.as_ref().unwrap(), path.as_bytes());
            let matches = |matcher: &RowMatcher| matcher.find(path, name_at(path)).is_some();
            prop_assert_eq!(table.first(path), table.matchers.iter().position(matches).unwrap_or(NAMINGS.len()));
        }
    }
}
