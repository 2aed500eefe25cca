//! How vendors name what their cameras push: one ordered table, tried from the top.
//!
//! A row is data: a pattern over the whole path below the drop folder, and how its named groups read. Groups:
//! `device` (the camera's own name for itself), `channel`, `stamp` (the camera's wall clock, digits only), `event`.
//! The first row that matches and whose stamp is a real time wins. A trait per vendor was rejected: vendors differ in
//! spelling, not in behaviour.

use std::path::Path;
use std::sync::LazyLock;

use chrono::{NaiveDate, NaiveDateTime, TimeDelta};
use regex::bytes::Regex;

use crate::key;

/// One way in which a vendor writes a path.
#[derive(Debug)]
struct Naming {
    vendor: &'static str,
    pattern: &'static str,
}

/// The table. `[^/]` reads bytes, not characters: names need not be UTF-8.
const NAMINGS: &[Naming] = &[
    // Hikvision's default: IP_CH_YYYYMMDDhhmmssmmm_EVENT[_rule].jpg; a clip has a number, or nothing, for the event.
    // FTP servers that refuse to overwrite add `.1` and so on (STOU).
    Naming {
        vendor: "hikvision",
        pattern: r"(?-u)(?:^|/)(?P<device>[^/]+?)_(?P<channel>[0-9]{2,3})_(?P<stamp>[0-9]{17})(?:_(?P<event>[A-Za-z][^/]*?))?(?:_[0-9]+)?\.[A-Za-z0-9]{2,5}(?:\.[0-9]{1,3})?$",
    },
];

static COMPILED: LazyLock<Vec<(&'static str, Regex)>> = LazyLock::new(|| {
    // A row that does not compile would be found by `every_row_compiles`.
    NAMINGS.iter().filter_map(|row| Some((row.vendor, Regex::new(row.pattern).ok()?))).collect()
});

/// What a path says of its capture.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// The vendor whose row matched.
    pub vendor: Option<&'static str>,
    /// What the device calls itself, as a key segment.
    pub device: Option<String>,
    /// The channel, as written.
    pub channel: Option<String>,
    /// The camera's wall clock.
    pub stamp: Option<NaiveDateTime>,
    /// The event word, raw.
    pub event: Option<String>,
}

/// Reads a path below the drop folder; `vendor` is `auto` or narrows the table to one vendor's rows.
pub fn read(path: &Path, vendor: &str) -> Reading {
    let bytes = path.as_os_str().as_encoded_bytes();
    COMPILED
        .iter()
        .filter(|(name, _)| vendor == "auto" || vendor == *name)
        .find_map(|(name, pattern)| read_with(pattern, bytes, Some(name)).filter(|reading| reading.stamp.is_some()))
        .unwrap_or_default()
}

/// Reads a path with the pattern of a camera's own configuration (groups `camera`, `taken`, `event`, `channel`).
pub fn read_own(path: &Path, pattern: &Regex) -> Option<(Reading, Option<String>)> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let camera = pattern.captures(bytes)?.name("camera").map(|found| key::camera_segment(found.as_bytes()));
    read_with(pattern, bytes, None).map(|reading| (reading, camera))
}

fn read_with(pattern: &Regex, bytes: &[u8], vendor: Option<&'static str>) -> Option<Reading> {
    let found = pattern.captures(bytes)?;
    let group = |name| found.name(name).map(|m| m.as_bytes());
    let text = |name| group(name).map(key::escape);
    Some(Reading {
        vendor,
        device: group("device").map(key::camera_segment),
        channel: text("channel"),
        stamp: group("stamp").or_else(|| group("taken")).and_then(read_stamp),
        event: text("event"),
    })
}

/// Reads a wall clock out of the digits of `YYYYMMDDhhmmss[f...]`, whatever stands between them.
///
/// The year must be 1970 to 2099; second 60, which recorders write at the end of a day, is the next minute's start.
fn read_stamp(raw: &[u8]) -> Option<NaiveDateTime> {
    let digits: Vec<u32> = raw.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| u32::from(byte - b'0')).collect();
    if digits.len() < 14 || digits.len() > 20 {
        return None;
    }
    let number = |range: std::ops::Range<usize>| digits[range].iter().fold(0, |sum, digit| sum * 10 + digit);
    let year = i32::try_from(number(0..4)).ok().filter(|year| (1970..=2099).contains(year))?;
    let mut millis = 0;
    for place in 14..17 {
        millis = millis * 10 + digits.get(place).copied().unwrap_or(0);
    }
    let second = number(12..14);
    let time = NaiveDate::from_ymd_opt(year, number(4..6), number(6..8))?.and_hms_milli_opt(
        number(8..10),
        number(10..12),
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
    use super::*;

    fn reading(path: &str) -> Reading {
        read(Path::new(path), "auto")
    }

    #[test]
    fn every_row_compiles() {
        assert_eq!(COMPILED.len(), NAMINGS.len());
    }

    #[test]
    fn hikvision_default_names_are_read_in_full() {
        for (path, device, channel, stamp, event) in [
            (
                "192.168.0.64_01_20190319093422939_MOTION_DETECTION.jpg",
                "192.168.0.64",
                "01",
                "2019-03-19T09:34:22.939",
                Some("MOTION_DETECTION"),
            ),
            (
                "FrontDoorCamera/192.168.1.51_01_20160505160951242_LINE_CROSSING_DETECTION.jpg",
                "192.168.1.51",
                "01",
                "2016-05-05T16:09:51.242",
                Some("LINE_CROSSING_DETECTION"),
            ),
            (
                "10.4.100.111_101_20150619045051383_TIMING.JPG",
                "10.4.100.111",
                "101",
                "2015-06-19T04:50:51.383",
                Some("TIMING"),
            ),
            ("192.168.1.64_01_20230712182012676_6.mp4", "192.168.1.64", "01", "2023-07-12T18:20:12.676", None),
            ("192.168.1.64_01_20230712182012676.mp4", "192.168.1.64", "01", "2023-07-12T18:20:12.676", None),
            (
                "a/10.0.0.1_02_20230712182012676_FIELDDETECTION_2.jpg",
                "10.0.0.1",
                "02",
                "2023-07-12T18:20:12.676",
                Some("FIELDDETECTION"),
            ),
            (
                "10.0.0.1_01_20230712182012676_someNewWord.jpg.1",
                "10.0.0.1",
                "01",
                "2023-07-12T18:20:12.676",
                Some("someNewWord"),
            ),
            (
                "front_door_01_20230712182012676_TIMING.jpg",
                "front_door",
                "01",
                "2023-07-12T18:20:12.676",
                Some("TIMING"),
            ),
            ("10.0.0.1_01_20230712182060000_TIMING.jpg", "10.0.0.1", "01", "2023-07-12T18:21:00", Some("TIMING")),
        ] {
            let read = reading(path);
            assert_eq!(read.vendor, Some("hikvision"), "{path}");
            assert_eq!(read.device.as_deref(), Some(device), "{path}");
            assert_eq!(read.channel.as_deref(), Some(channel), "{path}");
            assert_eq!(read.stamp, Some(stamp.parse().unwrap()), "{path}");
            assert_eq!(read.event.as_deref(), event, "{path}");
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
            "",
        ] {
            assert_eq!(reading(path), Reading::default(), "{path}");
        }
    }

    #[test]
    fn a_vendor_narrows_the_table() {
        let path = Path::new("10.0.0.1_01_20230712182012676_TIMING.jpg");
        assert_eq!(read(path, "dahua"), Reading::default());
        assert_eq!(read(path, "hikvision").vendor, Some("hikvision"));
    }
}
