//! EXIF (CIPA DC-008, 4.6): a TIFF whose first directory has the time of the last change and points to a second directory
//! with the times when the picture was taken and digitized.
//!
//! This file reads nine tags of two directories. A crate was rejected: the crates read every tag, with as much memory as
//! hostile counts ask for, and the best maintained of them, `kamadak-exif`, has a licence (BSD-2-Clause) that this project
//! does not allow.

use chrono::{Datelike, NaiveDateTime, Timelike};

use super::{ContentTime, at, date, number, plausible, time, wall};
use crate::capture::naming;

/// The tag that points to the directory of EXIF's own tags.
const EXIF_DIRECTORY: u16 = 0x8769;

/// The tags of a time: its seconds, their fraction, its offset from UTC. The first of the three times that is there is
/// used. They mean the same here: a camera digitizes a picture when it takes it, and nobody changes it afterwards.
const ORIGINAL: [u16; 3] = [0x9003, 0x9291, 0x9011];
const DIGITIZED: [u16; 3] = [0x9004, 0x9292, 0x9012];
const CHANGED: [u16; 3] = [0x0132, 0x9290, 0x9010];

/// The most bytes of a text that are read: a time has 20, a fraction may have any number.
const TEXT_BYTES: usize = 32;

/// Returns when the picture of a TIFF was taken.
pub(super) fn taken(tiff: &[u8]) -> Option<ContentTime> {
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let tiff = Tiff { bytes: tiff, little };
    let first = tiff.long(4)?;
    let own = tiff.entry(first, EXIF_DIRECTORY).and_then(|entry| tiff.long(entry + 8));
    let text = |tag: u16| own.into_iter().chain([first]).find_map(|directory| tiff.text(directory, tag));
    [ORIGINAL, DIGITIZED, CHANGED].into_iter().find_map(|[seconds, fraction, offset]| {
        let wall = read(text(seconds)?, text(fraction).unwrap_or_default())?;
        Some(text(offset).and_then(ahead).and_then(|ahead| at(wall, ahead)).unwrap_or(ContentTime::Wall(wall)))
    })
}

/// Reads a time such as `2024:02:03 04:05:06`; `None` for `0000:00:00 00:00:00` and spaces, which mean an unknown time.
/// Some makes write other separators, numbers without leading zeros, or a twelve-hour clock.
fn read(text: &[u8], fraction: &[u8]) -> Option<NaiveDateTime> {
    if let Some((time, _)) = naming::time_in(text) {
        let (date, clock) = ((time.year(), time.month(), time.day()), (time.hour(), time.minute(), time.second()));
        return if time.nanosecond() == 0 { wall(date, clock, fraction) } else { plausible(time) };
    }
    wall(date(text)?, time(text.get(11..)?)?, fraction)
}

/// Reads an offset such as `+02:00`, in seconds ahead of UTC.
fn ahead(text: &[u8]) -> Option<i64> {
    let (sign, text) = text.split_first()?;
    let minutes = i64::from(number(text.get(..2)?)? * 60 + number(text.get(3..5)?)?);
    match sign {
        b'+' => Some(minutes * 60),
        b'-' => Some(minutes * -60),
        _ => None,
    }
}

/// A TIFF. Offsets in it are hostile: reading beyond the end returns `None`.
struct Tiff<'a> {
    bytes: &'a [u8],
    /// Whether its numbers are little-endian.
    little: bool,
}

impl<'a> Tiff<'a> {
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..)?.first_chunk().copied()
    }

    fn short(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes(at)?;
        Some(if self.little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn long(&self, at: usize) -> Option<usize> {
        let bytes = self.bytes(at)?;
        usize::try_from(if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }).ok()
    }

    /// Returns the offset of a tag's entry in a directory. An entry is tag, type, count, and the value or its offset.
    fn entry(&self, directory: usize, tag: u16) -> Option<usize> {
        let count = usize::from(self.short(directory)?);
        (0..count)
            .map_while(|index| directory.checked_add(2 + 12 * index).filter(|entry| entry + 12 <= self.bytes.len()))
            .find(|entry| self.short(*entry) == Some(tag))
    }

    /// Returns the text of a tag in a directory, cut to [`TEXT_BYTES`].
    fn text(&self, directory: usize, tag: u16) -> Option<&'a [u8]> {
        let entry = self.entry(directory, tag)?;
        // ASCII, or undefined, which careless writers use.
        if ![2, 7].contains(&self.short(entry + 2)?) {
            return None;
        }
        let length = self.long(entry + 4)?;
        let at = if length <= 4 { entry + 8 } else { self.long(entry + 8)? };
        let text = self.bytes.get(at..)?;
        let whole = length.min(TEXT_BYTES);
        // Of a text that was cut off only the zero at its end may be missing.
        (text.len() + 1 >= whole).then(|| &text[..whole.min(text.len())])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    type Texts<'a> = &'a [(u16, &'a [u8])];

    /// A TIFF with these texts in its first directory and in EXIF's own.
    fn tiff(little: bool, first: Texts, own: Texts) -> Vec<u8> {
        let short = |number: u16| if little { number.to_le_bytes() } else { number.to_be_bytes() };
        let long = |number: usize| {
            let number = u32::try_from(number).unwrap();
            if little { number.to_le_bytes() } else { number.to_be_bytes() }
        };
        let own_at = 8 + 2 + 12 * (first.len() + 1) + 4;
        let mut data_at = own_at + 2 + 12 * own.len() + 4;
        let mut bytes = [if little { b"II*\0" } else { b"MM\0*" }, &long(8)[..]].concat();
        let mut data = Vec::new();
        for (texts, pointer) in [(first, true), (own, false)] {
            bytes.extend(short(u16::try_from(texts.len() + usize::from(pointer)).unwrap()));
            for (tag, text) in texts {
                bytes.extend([short(*tag), short(2)].concat());
                bytes.extend(long(text.len()));
                if text.len() <= 4 {
                    bytes.extend([*text, &[0; 4][text.len()..]].concat());
                } else {
                    bytes.extend(long(data_at));
                    data_at += text.len();
                    data.extend(*text);
                }
            }
            if pointer {
                bytes.extend([&short(EXIF_DIRECTORY)[..], &short(4), &long(1), &long(own_at)].concat());
            }
            bytes.extend([0; 4]);
        }
        [bytes, data].concat()
    }

    /// A TIFF with this `DateTimeOriginal`.
    pub(in crate::capture::content) fn original(text: &[u8]) -> Vec<u8> {
        tiff(true, &[], &[(ORIGINAL[0], text)])
    }

    /// Nothing, an instant, or a wall clock.
    fn told(text: &str) -> Option<ContentTime> {
        let time = || text.parse().map_or_else(|_| ContentTime::Wall(text.parse().unwrap()), ContentTime::At);
        (!text.is_empty()).then(time)
    }

    #[test]
    fn the_time_of_taking_is_believed_first_then_of_digitizing_then_of_change() {
        let [taken_at, digitized, changed] =
            [b"2024:02:03 04:05:06\0", b"2024:02:03 04:05:07\0", b"2024:02:03 04:05:08\0"];
        let unset = b"0000:00:00 00:00:00\0";
        let times: [(Texts, Texts, &str); 5] = [
            (&[(0x0132, changed)], &[(0x9004, digitized), (0x9003, taken_at)], "2024-02-03T04:05:06"),
            (&[(0x0132, changed)], &[(0x9003, unset), (0x9004, digitized)], "2024-02-03T04:05:07"),
            (&[(0x010F, b"Maker\0"), (0x0132, changed)], &[], "2024-02-03T04:05:08"),
            // Some writers put all in one directory.
            (&[(0x9003, taken_at), (0x9291, b"12\0")], &[], "2024-02-03T04:05:06.12"),
            (&[(0x010F, b"2024:02:03 04:05:06\0")], &[], ""),
        ];
        for (first, own, expected) in times {
            for little in [true, false] {
                assert_eq!(taken(&tiff(little, first, own)), told(expected), "{expected}");
            }
        }
    }

    #[test]
    fn fractions_and_offsets_are_read_where_they_make_sense() {
        let times: [([&[u8]; 3], &str); 16] = [
            ([b"2024/02/03 04:05:06 PM\0", b"", b"+02:00\0"], "2024-02-03T16:05:06+02:00"),
            ([b"2024-2-3 4:5:6\0", b"5\0", b""], "2024-02-03T04:05:06.5"),
            ([b"2024:02:03 12.05.06 am", b"", b""], "2024-02-03T00:05:06"),
            ([b"2100:02:03 04:05:06\0", b"", b""], ""),
            ([b"2024:02:03 04:05:06\0", b"089\0", b"+02:00\0"], "2024-02-03T04:05:06.089+02:00"),
            ([b"2024:02:03 04:05:06\0", b"5  \0", b"-03:30\0"], "2024-02-03T04:05:06.5-03:30"),
            ([b"2024:02:03 04:05:06\0", b"1234567891234\0", b"   :  \0"], "2024-02-03T04:05:06.123456789"),
            ([b"2024:02:03 04:05:06\0", b"\0", b"+02:01\0"], "2024-02-03T04:05:06"),
            ([b"2024:02:03 04:05:06\0", b"x", b"+99:00\0"], "2024-02-03T04:05:06"),
            ([b"2024-02-03T04:05:06Z", b"", b"Z\0"], "2024-02-03T04:05:06"),
            ([b"2024:12:31 23:59:60\0", b"5\0", b"\0"], "2025-01-01T00:00:00.5"),
            ([b"0000:00:00 00:00:00\0", b"\0", b"\0"], ""),
            ([b"    :  :     :  :  \0", b"\0", b"\0"], ""),
            ([b"1970:01:01 00:00:09\0", b"\0", b"\0"], ""),
            ([b"2024:02:30 04:05:06\0", b"\0", b"\0"], ""),
            ([b"2024:02:03 04:05\0", b"\0", b"\0"], ""),
        ];
        for ([seconds, fraction, offset], expected) in times {
            let bytes = tiff(false, &[], &[(0x9003, seconds), (0x9291, fraction), (0x9011, offset)]);
            assert_eq!(taken(&bytes), told(expected), "{}", String::from_utf8_lossy(seconds));
        }
    }

    #[test]
    fn hostile_directories_have_an_answer() {
        let bytes = original(b"2024:02:03 04:05:06\0");
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7F, 0xFF] {
                let mut changed = bytes.clone();
                changed[at] = value;
                taken(&changed);
                taken(&changed[..at]);
            }
        }
    }

    proptest! {
        #[test]
        fn any_tiff_has_an_answer(little: bool, bytes: Vec<u8>) {
            taken(&[if little { &b"II*\0\x08\0\0\0"[..] } else { b"MM\0*\0\0\0\x08" }, &bytes].concat());
        }
    }
}
