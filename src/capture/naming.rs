//! How vendors name what their cameras push: one ordered table, tried from the top.
//!
//! A row is data: a pattern over the whole path below the drop folder, and how its named groups read. Groups: `device`
//! (the camera's own name for itself), `channel`, `stamp` or `date` and `time` (the camera's wall clock; what is no
//! digit in them does not count), `event`. The first row that matches and whose stamp is a real time wins. Rows with a
//! stamp stand before those without, and a vendor's longer stamps before any shorter one.
//!
//! Dotted addresses look like some vendors' times and names hold `_` freely, so nothing is split: patterns are anchored
//! on the stamp and read outwards. A trait per vendor was rejected: vendors differ in spelling, not in behaviour.

use std::path::Path;
use std::sync::LazyLock;

use chrono::{NaiveDate, NaiveDateTime, TimeDelta};
use regex::bytes::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, PatternID, meta};

use super::TakenFrom;
use crate::key;

mod table;

use table::Year::{self, Four, Two};
use table::{NAMINGS, Naming, expand};

/// The groups that a pattern may name.
const GROUPS: [&str; 7] = ["device", "channel", "stamp", "date", "time", "event", "taken"];

/// Where in a path the whole match lies, and each of [`GROUPS`].
#[derive(Debug, Default)]
struct NamingMatch {
    begins: usize,
    groups: [Option<(usize, usize)>; GROUPS.len()],
}

/// A row's pattern, ready to search.
struct RowMatcher {
    /// The pattern without [`BEGIN`].
    pattern: meta::Regex,
    /// Whether it is a pattern of the file's name alone.
    of_name: bool,
    /// Which group of the pattern each of [`GROUPS`] is.
    places: [Option<usize>; GROUPS.len()],
}

/// What every row begins with: where a folder's or the file's name does.
const BEGIN: &str = "(?:^|/)";

/// Room for the whole match and the groups of any row.
const MOST_SLOTS: usize = 2 * (GROUPS.len() + 1);

impl RowMatcher {
    fn new(row: &Naming) -> Option<Self> {
        // A row is asked where it matches: a DFA, which only rules that out, would run in vain.
        let config = meta::Config::new().hybrid(false).dfa(false);
        let pattern = build(config, &[expand(row.pattern).strip_prefix(BEGIN)?])?;
        let info = pattern.group_info();
        let places = GROUPS.map(|group| info.to_index(PatternID::ZERO, group));
        (info.slot_len() <= MOST_SLOTS).then(|| Self { places, of_name: row.pattern.starts_with("{name}"), pattern })
    }

    fn find(&self, path: &[u8], name_at: usize) -> Option<NamingMatch> {
        if self.of_name {
            return self.find_at(path, name_at);
        }
        let begins = |at: &usize| *at == 0 || path[at - 1] == b'/';
        (0..=name_at).filter(begins).find_map(|at| self.find_at(path, at))
    }

    fn find_at(&self, path: &[u8], begins: usize) -> Option<NamingMatch> {
        let input = Input::new(path).range(begins..).anchored(Anchored::Yes);
        let mut slots = [None; MOST_SLOTS];
        self.pattern.search_slots(&input, &mut slots)?;
        let place = |group: usize| Some((slots[2 * group]?.get(), slots[2 * group + 1]?.get()));
        Some(NamingMatch { begins, groups: self.places.map(|group| place(group?)) })
    }
}

struct Table {
    readers: Vec<RowMatcher>,
    /// All rows as alternatives from the path's begin: a DFA finds the first of them that matches.
    first: meta::Regex,
}

static TABLE: LazyLock<Option<Table>> = LazyLock::new(|| {
    // A row that does not compile would be found by `every_row_compiles`.
    let patterns: Vec<String> = NAMINGS.iter().map(|row| format!("^(?s:.)*?{}", expand(row.pattern))).collect();
    let first = build(meta::Config::new(), &patterns)?;
    Some(Table { readers: NAMINGS.iter().map(RowMatcher::new).collect::<Option<_>>()?, first })
});

fn build(config: meta::Config, patterns: &[impl AsRef<str>]) -> Option<meta::Regex> {
    let syntax = syntax::Config::new().unicode(false).utf8(false);
    meta::Builder::new().configure(config.utf8_empty(false)).syntax(syntax).build_many(patterns).ok()
}

/// What a path says of its capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathReading {
    /// The vendor whose row matched.
    pub vendor: Option<&'static str>,
    /// What the device calls itself, as a key segment.
    pub device: Option<String>,
    /// The channel, as written.
    pub channel: Option<String>,
    /// The camera's wall clock.
    pub stamp: Option<PathTime>,
    /// The event word, raw.
    pub event: Option<String>,
    /// Where in the path the vendor's own tree begins; the length of the path where nothing was read.
    pub tree_at: usize,
}

impl PathReading {
    fn nothing(path: &[u8]) -> Self {
        Self { vendor: None, device: None, channel: None, stamp: None, event: None, tree_at: path.len() }
    }
}

/// A wall clock that a path tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathTime {
    /// The camera's clock, without a zone.
    pub wall: NaiveDateTime,
    /// [`TakenFrom::Name`] where the file's own name tells all of it, else [`TakenFrom::Folder`].
    pub from: TakenFrom,
}

/// Why a row of the table did or did not read a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// It reads it.
    Reads(PathReading),
    /// The path has another shape.
    OtherShape,
    /// The digits in the place of the stamp are no time.
    NoTime(String),
    /// The camera is of another vendor.
    OtherVendor,
    /// It would read it, but a row before it does.
    TooLate,
}

/// Reads a path below the drop folder; `vendor` is `auto` or leaves only that vendor's rows and anybody's.
pub fn read(path: &Path, vendor: &str) -> PathReading {
    let bytes = path.as_os_str().as_encoded_bytes();
    let Some(table) = &*TABLE else { return PathReading::nothing(bytes) };
    let first = table.first.search_half(&Input::new(bytes)).map_or(NAMINGS.len(), |found| found.pattern().as_usize());
    (NAMINGS[first..].iter().zip(&table.readers[first..]))
        .filter(|(row, _)| is_asked(row, vendor))
        .find_map(|(row, reader)| read_row(row, reader, bytes).ok())
        .unwrap_or_else(|| PathReading::nothing(bytes))
}

/// Tries every row: its vendor, its shape, and what came of it.
pub fn explain(path: &Path, vendor: &str) -> Vec<(Option<&'static str>, &'static str, Trial)> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let readers = TABLE.as_ref().map_or(&[][..], |table| &table.readers);
    let mut read = false;
    let trial = |(row, reader): (&'static Naming, &RowMatcher)| {
        let trial = match () {
            () if !is_asked(row, vendor) => Trial::OtherVendor,
            () => match read_row(row, reader, bytes) {
                Ok(_) if read => Trial::TooLate,
                Ok(reading) => Trial::Reads(reading),
                Err(trial) => trial,
            },
        };
        read |= matches!(trial, Trial::Reads(_));
        (row.vendor, row.shape, trial)
    };
    NAMINGS.iter().zip(readers).map(trial).collect()
}

fn is_asked(row: &Naming, vendor: &str) -> bool {
    // Amcrest's cameras are Dahua's.
    let vendor = if vendor == "amcrest" { "dahua" } else { vendor };
    vendor == "auto" || row.vendor.is_none_or(|name| name == vendor)
}

fn read_row(row: &Naming, reader: &RowMatcher, path: &[u8]) -> Result<PathReading, Trial> {
    let found = reader.find(path, name_at(path)).ok_or(Trial::OtherShape)?;
    let reading = reading(&found, row.vendor, path, row.year);
    let clock = found.clock();
    if reading.stamp.is_none() && clock.clone().next().is_some() {
        let digits: Vec<_> = clock.map(|(from, to)| String::from_utf8_lossy(&path[from..to])).collect();
        return Err(Trial::NoTime(digits.join(" ")));
    }
    Ok(reading)
}

/// Reads a path with the pattern of a camera's own configuration (groups `camera`, `taken`, `event`, `channel`).
pub fn read_own(path: &Path, pattern: &Regex) -> Option<(PathReading, Option<String>)> {
    let path = path.as_os_str().as_encoded_bytes();
    let captures = pattern.captures(path)?;
    let camera = captures.name("camera").map(|found| key::camera_segment(found.as_bytes()));
    let groups = GROUPS.map(|group| captures.name(group).map(|found| (found.start(), found.end())));
    Some((reading(&NamingMatch { begins: name_at(path), groups }, None, path, Four), camera))
}

fn name_at(path: &[u8]) -> usize {
    path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1)
}

impl NamingMatch {
    /// The parts of the stamp.
    fn clock(&self) -> impl Iterator<Item = (usize, usize)> + Clone {
        let [_, _, stamp, date, time, _, taken] = self.groups;
        [stamp, date, time, taken].into_iter().flatten()
    }
}

fn reading(found: &NamingMatch, vendor: Option<&'static str>, path: &[u8], year: Year) -> PathReading {
    let name_at = name_at(path);
    let [device, channel, .., event, _] = found.groups.map(|group| group.map(|(from, to)| &path[from..to]));
    let from = if found.clock().all(|(from, _)| from >= name_at) { TakenFrom::Name } else { TakenFrom::Folder };
    let wall = read_stamp(found.clock().map(|(from, to)| &path[from..to]), year);
    PathReading {
        vendor,
        // Where the stamp of a name is none, its digits would make every picture a camera.
        device: device.filter(|device| !has_long_number(device)).map(key::camera_segment),
        channel: channel.map(key::escape),
        stamp: wall.map(|wall| PathTime { wall, from }),
        event: event.map(key::escape),
        tree_at: found.begins,
    }
}

fn has_long_number(text: &[u8]) -> bool {
    text.len() >= 14 && text.split(|byte| !byte.is_ascii_digit()).any(|number| number.len() >= 14)
}

/// Reads a wall clock out of the digits of `YYYYMMDDhhmmss[f...]`, whatever stands between them.
///
/// The year must be 1970 to 2099; second 60, which recorders write at the end of a day, is the next minute's start.
fn read_stamp<'a>(parts: impl Iterator<Item = &'a [u8]>, year: Year) -> Option<NaiveDateTime> {
    let mut digits = [0; 20];
    let mut count = 0;
    for part in parts {
        for byte in part.iter().filter(|byte| byte.is_ascii_digit()) {
            *digits.get_mut(count)? = u32::from(byte - b'0');
            count += 1;
        }
    }
    let number = |from: usize, to: usize| digits[from..to].iter().fold(0, |sum, digit| sum * 10 + digit);
    let (year, rest) = match year {
        Four => (number(0, 4), 4),
        // Before 1970 no camera's clock has begun.
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
        assert_eq!(TABLE.as_ref().unwrap().readers.len(), NAMINGS.len());
        for row in NAMINGS {
            assert!(expand(row.pattern).starts_with(BEGIN) && !expand(row.pattern).contains("{name}"));
            assert!(!row.shape.is_empty());
        }
    }

    /// Vendor, device, channel, stamp, event; `-` where there is none.
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

    #[test]
    fn devices_and_what_visible_examples_leave_open_are_read() {
        for (path, expected) in [
            (
                "192.168.0.64_01_20190319093422939_MOTION_DETECTION.jpg",
                ["hikvision", "192.168.0.64", "01", "2019-03-19T09:34:22.939", "MOTION_DETECTION"],
            ),
            (
                "10.4.100.111_101_20150619045051383_TIMING.JPG",
                ["hikvision", "10.4.100.111", "101", "2015-06-19T04:50:51.383", "TIMING"],
            ),
            (
                "192.168.1.64_01_20230712182012676.mp4",
                ["hikvision", "192.168.1.64", "01", "2023-07-12T18:20:12.676", "-"],
            ),
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
            (
                "10.0.0.1_01_20230712182060000_TIMING.jpg",
                ["hikvision", "10.0.0.1", "01", "2023-07-12T18:21:00", "TIMING"],
            ),
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
        ] {
            assert_eq!(told(path), expected, "{path}");
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
        assert_eq!(trials.len(), NAMINGS.len());
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
            let readers = &TABLE.as_ref().unwrap().readers;
            let read = |row: usize| read_row(&NAMINGS[row], &readers[row], name.as_bytes());
            if let Ok(frequent) = read(1) {
                prop_assert_eq!(Ok(frequent), read(2));
            }
        }

        #[test]
        fn the_first_row_that_matches_is_the_first_of_all_that_do(
            path in r"([a-z]{1,3}/)?(2024-05-06/)?(001/)?(jpg/)?[A-Za-z0-9_.]{0,6}_?0?[0-9]?_?(20240506|2024-05-06)?[_-]?(070809(123)?|07\.08\.09)?(\[M\]\[@0\])?(_TIMING)?(\.jpg)?",
        ) {
            let (table, path) = (TABLE.as_ref().unwrap(), path.as_bytes());
            let first = table.first.search_half(&Input::new(path)).map(|found| found.pattern().as_usize());
            let matches = |reader: &RowMatcher| reader.find(path, name_at(path)).is_some();
            prop_assert_eq!(first, table.readers.iter().position(matches));
        }
    }
}
