//! Reads from a file's content when it was taken, for captures whose path does not tell.
//!
//! * JPEG: EXIF, otherwise the text that Mobotix cameras write into a segment (MOBOTIX Community, "JPEG Image Header
//!   Contents"): lines with `DAT` and `TIM`, the wall clock, and with `TIT`, the same moment as seconds since 1970.
//! * PNG: the EXIF in its chunk `eXIf`.
//! * MP4 and MOV: the movie's creation time (ISO/IEC 14496-12, 8.2.2), in seconds since 1904.
//! * MKV and `WebM`: the clip's date (RFC 9559, 5.1.2.12), in nanoseconds since 2001.
//! * AVI: the text of its date, as trail cameras write it.
//! * Dahua's and Xiongmai's streams: the packed date of the first picture (demuxer `dhav` of `FFmpeg`; python-dvr).
//!
//! A time before 2000 or after 2099 comes from a clock that was never set, and counts as no time. The caller compares a later one with
//! the arrival to decide whether to believe it.

use std::io;

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, NaiveDateTime, TimeDelta};

use super::media::{MediaFormat, Readable, Walk, boxes, chunks, ebml, packets};
use super::naming;

mod exif;

/// Other years come from a clock that was never set.
const YEARS: std::ops::RangeInclusive<i32> = 2000..=2099;
/// How much of a JPEG is read, in bytes: two of the longest segments, so that EXIF is found after a large segment.
const JPEG_HEAD_BYTES: u64 = 128 * 1024;
/// Seconds from 1970 to 2001.
const EBML_EPOCH_SECONDS: i64 = 978_307_200;
/// Seconds from 1904 to 1970.
const MOVIE_EPOCH_SECONDS: u64 = 2_082_844_800;

/// A time that a file's content tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentTime {
    /// The camera's wall clock; nothing tells its zone.
    Wall(NaiveDateTime),
    /// An instant, at the offset that the camera's clock had.
    At(DateTime<FixedOffset>),
    /// UTC if the camera follows the standard, but many write their wall clock. The one nearer to the arrival is the likelier.
    UtcOrWall(NaiveDateTime),
}

/// Returns the time that a file's content tells; `None` if it tells none, also because the file is cut off or malformed.
///
/// # Errors
/// The file cannot be read.
pub fn taken(file: &mut dyn Readable) -> io::Result<Option<ContentTime>> {
    let format = MediaFormat::of(file)?;
    let mut walk = Walk::over(file)?;
    let told = match format {
        MediaFormat::Jpeg => walk.read_most(JPEG_HEAD_BYTES).map(|head| jpeg(&head)),
        MediaFormat::Boxes => movie(&mut walk),
        MediaFormat::Dhav { start } => packets::dhav_date(&mut walk, start).map(|date| date.and_then(packed)),
        MediaFormat::Xiongmai => packets::xiongmai_date(&mut walk).map(packed),
        MediaFormat::Png => chunks::png_exif(&mut walk).map(|tiff| exif::taken(&tiff?)),
        MediaFormat::Ebml => ebml::date(&mut walk).map(|date| ebml_time(date?)),
        MediaFormat::Avi => chunks::avi_date(&mut walk).map(|text| text_time(&text?)),
        MediaFormat::Hole | MediaFormat::Other => Ok(None),
    };
    match told {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        told => told,
    }
}

/// Returns the time in the segments of a JPEG.
fn jpeg(head: &[u8]) -> Option<ContentTime> {
    let segments = segments(head);
    let mut exif =
        segments.iter().filter_map(|(marker, data)| data.strip_prefix(b"Exif\0\0").filter(|_| *marker == 0xE1));
    exif.find_map(exif::taken).or_else(|| mobotix(&segments))
}

/// Returns the segments before a JPEG's first scan, as marker and data; the last one may be cut.
fn segments(head: &[u8]) -> Vec<(u8, &[u8])> {
    let mut segments = Vec::new();
    let mut rest = head.get(2..).unwrap_or_default();
    loop {
        rest = match rest {
            [0xFF, fill @ ..] if fill.starts_with(&[0xFF]) => fill,
            // Start of scan, end of image, and markers without a length.
            [0xFF, 0x00..=0x01 | 0xD0..=0xDA, ..] => return segments,
            [0xFF, marker, high, low, data @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low])).saturating_sub(2);
                let (data, rest) = data.split_at_checked(length).unwrap_or((data, &[]));
                segments.push((*marker, data));
                rest
            }
            _ => return segments,
        };
    }
}

/// Returns the time in a Mobotix camera's text. The text may go on in another segment, so all of them are searched.
fn mobotix(segments: &[(u8, &[u8])]) -> Option<ContentTime> {
    let lines = segments.iter().flat_map(|(_, data)| data.split(|byte| !(b' '..=b'~').contains(byte)));
    let value = |key: &[u8]| lines.clone().find_map(|line| line.strip_prefix(key));
    let (clock, fraction) = value(b"TIM=")?.split_at_checked(8)?;
    let wall = wall(date(value(b"DAT=")?)?, time(clock)?, fraction.strip_prefix(b".").unwrap_or_default())?;
    let instant = value(b"TIT=").and_then(|seconds| number(seconds.split(|byte| *byte == b'.').next()?));
    // `TZN` is not used: a zone's name may be ambiguous, as EST is.
    let offset = instant.map(|instant| wall.and_utc().timestamp() - i64::from(instant));
    Some(offset.and_then(|seconds| at(wall, seconds)).unwrap_or(ContentTime::Wall(wall)))
}

/// Returns the creation time of an MP4 or MOV.
fn movie(walk: &mut Walk) -> io::Result<Option<ContentTime>> {
    // Enters `moov` and skips all other boxes.
    while let Some((kind, length)) = boxes::header(walk)? {
        match &kind {
            b"moov" => {}
            b"mvhd" => {
                let [version, ..] = walk.read::<4>()?;
                return Ok(movie_time(match version {
                    0 => u64::from(u32::from_be_bytes(walk.read()?)),
                    _ => u64::from_be_bytes(walk.read()?),
                }));
            }
            _ => walk.skip(length)?,
        }
    }
    Ok(None)
}

/// Returns the time of a movie's creation, in seconds since 1904.
fn movie_time(seconds: u64) -> Option<ContentTime> {
    // Some writers count from 1970. FFmpeg's demuxer `mov` recognises them in the same way.
    let seconds = seconds.checked_sub(MOVIE_EPOCH_SECONDS).unwrap_or(seconds);
    let time = DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0)?.naive_utc();
    plausible(time).map(ContentTime::UtcOrWall)
}

/// Returns the time of a Matroska clip, in nanoseconds since 2001.
fn ebml_time(nanoseconds: i64) -> Option<ContentTime> {
    let seconds = nanoseconds.div_euclid(1_000_000_000) + EBML_EPOCH_SECONDS;
    let fraction = u32::try_from(nanoseconds.rem_euclid(1_000_000_000)).ok()?;
    plausible(DateTime::from_timestamp(seconds, fraction)?.naive_utc()).map(ContentTime::UtcOrWall)
}

/// Returns the time in a text such as `SAT JUL 03 12:26:48 2021` (C, `asctime`) or `2021-07-03 12:26:48`.
fn text_time(text: &[u8]) -> Option<ContentTime> {
    let words = text.split(|byte| byte.is_ascii_whitespace() || *byte == 0).filter(|word| !word.is_empty());
    let words: Vec<&[u8]> = words.collect();
    if let [_, month, day, clock, year, ..] = &*words
        && let Some(month) = month_of(month)
    {
        let date = (i32::try_from(number(year)?).ok()?, month, number(day)?);
        return wall(date, time(clock)?, b"").map(ContentTime::Wall);
    }
    let (time, offset) = naming::time_in(text)?;
    let instant = offset.and_then(|offset| time.and_local_timezone(offset).single());
    plausible(time)?;
    Some(instant.map_or(ContentTime::Wall(time), ContentTime::At))
}

/// Reads the English short name of a month.
fn month_of(name: &[u8]) -> Option<u32> {
    const MONTHS: &[u8] = b"janfebmaraprmayjunjulaugsepoctnovdec";
    let place = MONTHS.chunks(3).position(|month| month.eq_ignore_ascii_case(name))?;
    u32::try_from(place + 1).ok()
}

/// Returns the time of a date that is packed as in [`packets`].
fn packed(date: u32) -> Option<ContentTime> {
    let [year, month, day, hour, minute, second] = packets::unpack(date);
    let year = i32::try_from(year).ok()? + 2000;
    wall((year, month, day), (hour, minute, second), b"").map(ContentTime::Wall)
}

/// Returns the wall clock of a date, a time and the digits of a fraction of a second; second 60 is the next minute.
fn wall(date: (i32, u32, u32), time: (u32, u32, u32), fraction: &[u8]) -> Option<NaiveDateTime> {
    let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).chain([b'0'; 9].iter()).take(9);
    let nanoseconds = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    let over = u32::from(time.2 == 60);
    let day = NaiveDate::from_ymd_opt(date.0, date.1, date.2)?;
    let taken = day.and_hms_nano_opt(time.0, time.1, time.2 - over, nanoseconds)?;
    plausible(taken.checked_add_signed(TimeDelta::seconds(i64::from(over)))?)
}

/// Returns the instant of a wall clock that is `ahead` of UTC, in seconds; `None` if no zone has that offset.
fn at(wall: NaiveDateTime, ahead: i64) -> Option<ContentTime> {
    wall.and_local_timezone(naming::offset(ahead)?).single().map(ContentTime::At)
}

/// Returns the time unless it comes from a clock that was never set.
fn plausible(time: NaiveDateTime) -> Option<NaiveDateTime> {
    YEARS.contains(&time.year()).then_some(time)
}

/// Reads a date such as `2024-02-03`, with any character between the numbers.
fn date(text: &[u8]) -> Option<(i32, u32, u32)> {
    let year = i32::try_from(number(text.get(..4)?)?).ok()?;
    Some((year, number(text.get(5..7)?)?, number(text.get(8..10)?)?))
}

/// Reads a time such as `04:05:06`, with any character between the numbers.
fn time(text: &[u8]) -> Option<(u32, u32, u32)> {
    Some((number(text.get(..2)?)?, number(text.get(3..5)?)?, number(text.get(6..8)?)?))
}

/// Reads a number that has only digits.
fn number(text: &[u8]) -> Option<u32> {
    if text.iter().all(u8::is_ascii_digit) { str::from_utf8(text).ok()?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn told(bytes: &[u8]) -> Option<ContentTime> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        taken(&mut file).unwrap()
    }

    fn clock(text: &str) -> ContentTime {
        ContentTime::Wall(text.parse().unwrap())
    }

    fn instant(text: &str) -> ContentTime {
        ContentTime::At(text.parse().unwrap())
    }

    fn either(text: &str) -> ContentTime {
        ContentTime::UtcOrWall(text.parse().unwrap())
    }

    fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
        [&[0xFF, marker], &u16::try_from(data.len() + 2).unwrap().to_be_bytes()[..], data].concat()
    }

    fn picture(segments: &[Vec<u8>]) -> Vec<u8> {
        [b"\xFF\xD8", &segments.concat()[..], b"\xFF\xDA\x00\x02scan\xFF\xD9"].concat()
    }

    fn clip(mvhd: &[u8]) -> Vec<u8> {
        let mp4_box = |kind: &[u8; 4], body: &[u8]| {
            [&u32::try_from(body.len() + 8).unwrap().to_be_bytes(), &kind[..], body].concat()
        };
        let index = [mp4_box(b"free", b"moov"), mp4_box(b"mvhd", mvhd)].concat();
        [mp4_box(b"ftyp", b"isom"), mp4_box(b"mdat", b"mvhd"), mp4_box(b"moov", &index)].concat()
    }

    fn pack(date: (u32, u32, u32), time: (u32, u32, u32)) -> [u8; 4] {
        let day = date.0 << 26 | date.1 << 22 | date.2 << 17;
        (day | time.0 << 12 | time.1 << 6 | time.2).to_le_bytes()
    }

    #[test]
    fn a_picture_tells_by_its_exif_wherever_its_segment_stands() {
        let exif = [&b"Exif\0\0"[..], &exif::tests::original(b"2024:02:03 04:05:06\0")].concat();
        let jfif = segment(0xE0, b"JFIF\0Exif\0\0");
        let large = segment(0xE2, &vec![7; 65_533]);
        let comment = segment(0xFE, b"DAT=2021-01-01\nTIM=00:00:00.000\n");
        let fill = vec![0xFF; 3];
        let picture =
            picture(&[jfif, comment, large, segment(0xE1, b"http://ns.adobe.com"), fill, segment(0xE1, &exif)]);
        assert_eq!(told(&picture), Some(clock("2024-02-03T04:05:06")));
        // A picture that was cut off tells all the same, if the time is there.
        assert_eq!(told(&picture[..picture.len() - 11]), Some(clock("2024-02-03T04:05:06")));
    }

    #[test]
    fn a_mobotix_picture_tells_by_its_text() {
        let cases: [(&[u8], Option<ContentTime>); 9] = [
            (
                b"#:M1IMG\nVER=1.0\nPRD=MOBOTIX\nFRM=583466\nDAT=2011-04-11\n\
                  TIM=15:13:36.936\nTZN=EST\nTIT=1302498816.936\n",
                Some(instant("2011-04-11T15:13:36.936+10:00")),
            ),
            (b"DAT=2024-02-03\r\nTIM=04:05:06.5\r\nTZN=GMT+2\r\n", Some(clock("2024-02-03T04:05:06.5"))),
            (b"DAT=2024-02-03\0TIM=04:05:06\0", Some(clock("2024-02-03T04:05:06"))),
            // An instant that fits no zone's clock is not believed.
            (b"DAT=2024-02-03\nTIM=04:05:06.000\nTIT=1302498816.936\n", Some(clock("2024-02-03T04:05:06"))),
            (b"DAT=2024-02-03\nTIM=04:05:06.000\nTIT=x\n", Some(clock("2024-02-03T04:05:06"))),
            (b"DAT=1970-01-01\nTIM=00:00:09.000\n", None),
            (b"XDAT=2024-02-03\nTIM=04:05:06.000\n", None),
            (b"DAT=2024-02-03\nTIM=04:05", None),
            (b"DAT=2024-02-30\nTIM=04:05:06.000\n", None),
        ];
        for (text, expected) in cases {
            let text_of = String::from_utf8_lossy(text);
            assert_eq!(told(&picture(&[segment(0xE0, b"JFIF\0"), segment(0xFE, text)])), expected, "{text_of}");
        }
        let (first, second) = (segment(0xFE, b"DAT=2024-02-03\nTI"), segment(0xFE, b"TIM=04:05:06.007\n"));
        assert_eq!(told(&picture(&[first, second])), Some(clock("2024-02-03T04:05:06.007")));
    }

    #[test]
    fn a_clip_tells_by_its_creation_time_as_utc_or_wall() {
        let created = 1_706_933_106; // 2024-02-03T04:05:06Z
        let since_1904 = created + u32::try_from(MOVIE_EPOCH_SECONDS).unwrap();
        let long = |seconds: u64| [&[1, 0, 0, 0][..], &seconds.to_be_bytes(), &[0; 24]].concat();
        let short = |seconds: u32| [&[0; 4][..], &seconds.to_be_bytes(), &[0; 16]].concat();
        assert_eq!(told(&clip(&short(since_1904))), Some(either("2024-02-03T04:05:06")));
        assert_eq!(told(&clip(&long(since_1904.into()))), Some(either("2024-02-03T04:05:06")));
        assert_eq!(told(&clip(&short(created))), Some(either("2024-02-03T04:05:06")));
        for never_set in [0, 1, 900_000_000, u32::try_from(MOVIE_EPOCH_SECONDS).unwrap()] {
            assert_eq!(told(&clip(&short(never_set))), None, "{never_set}");
        }
        for absurd in [u64::MAX, i64::MAX.cast_unsigned(), 1 << 62] {
            assert_eq!(told(&clip(&long(absurd))), None, "{absurd}");
        }
    }

    #[test]
    fn a_recorders_stream_tells_by_the_date_of_its_first_picture() {
        let dav = |date: [u8; 4]| [b"DHAV\xFD\0\0\0numb\x20\0\0\0", &date[..], b"msec\0\0\0\0"].concat();
        let taken = pack((24, 2, 3), (4, 5, 6));
        assert_eq!(told(&dav(taken)), Some(clock("2024-02-03T04:05:06")));
        let headed = [b"DAHUA", &[0; 0x3FB][..], &dav(taken)].concat();
        assert_eq!(told(&headed), Some(clock("2024-02-03T04:05:06")));
        assert_eq!(told(&dav(pack((24, 12, 31), (23, 59, 60)))), Some(clock("2025-01-01T00:00:00")));
        for none in [[0; 4], [0xFF; 4], pack((24, 13, 3), (4, 5, 6)), pack((24, 2, 3), (24, 5, 6))] {
            assert_eq!(told(&dav(none)), None, "{none:?}");
        }
        let still = [b"\0\0\x01\xFC\x02\x19\x78\x44", &taken[..], &[0; 4]].concat();
        assert_eq!(told(&still), Some(clock("2024-02-03T04:05:06")));
    }

    #[test]
    fn a_matroska_clip_tells_by_its_date_as_utc_or_wall() {
        let element =
            |identifier: &[u8], data: &[u8]| [identifier, &(1 << 56 | data.len() as u64).to_be_bytes(), data].concat();
        let date = |nanoseconds: i64| element(b"\x44\x61", &nanoseconds.to_be_bytes());
        let clip = |info: &[u8]| {
            let body = [element(b"\xEC", &[0; 9]), element(b"\x15\x49\xA9\x66", info)].concat();
            [&b"\x1A\x45\xDF\xA3\x84webm"[..], &element(b"\x18\x53\x80\x67", &body)].concat()
        };
        let since_2001 = (1_706_933_106 - EBML_EPOCH_SECONDS) * 1_000_000_000 + 500_000_000;
        let info = [element(b"\x4D\x80", b"recorder"), date(since_2001)].concat();
        assert_eq!(told(&clip(&info)), Some(either("2024-02-03T04:05:06.5")));
        for none in [date(0), date(-1_000_000_000_000_000_000), date(i64::MIN), date(i64::MAX), Vec::new()] {
            let expected = if none == date(0) { Some(either("2001-01-01T00:00:00")) } else { None };
            assert_eq!(told(&clip(&none)), expected, "{none:?}");
        }
    }

    #[test]
    fn an_avi_tells_by_the_text_of_its_date() {
        let chunk = |kind: &[u8; 4], data: &[u8]| {
            let pad = vec![0; data.len() % 2];
            [&kind[..], &u32::try_from(data.len()).unwrap().to_le_bytes(), data, &pad].concat()
        };
        let avi = |date: &[u8]| {
            let header = [&b"hdrl"[..], &chunk(b"avih", &[0; 56]), &chunk(b"LIST", b"strlodd"), date].concat();
            let chunks = [chunk(b"LIST", &header), chunk(b"LIST", b"movi00dc")].concat();
            chunk(b"RIFF", &[b"AVI ", &chunks[..]].concat())
        };
        for (text, expected) in [
            (&b"SAT FEB 03 04:05:06 2024\n\0"[..], Some(clock("2024-02-03T04:05:06"))),
            (b"Sat Feb  3 04:05:06 2024", Some(clock("2024-02-03T04:05:06"))),
            (b"2024-02-03 04:05:06", Some(clock("2024-02-03T04:05:06"))),
            (b"2024/02/03/ 04:05:06\0", Some(clock("2024-02-03T04:05:06"))),
            (b"2024:02:03 04:05:06 PM", Some(clock("2024-02-03T16:05:06"))),
            (b"2024-02-03T04:05:06+02:00", Some(instant("2024-02-03T04:05:06+02:00"))),
            (b"Thu Jan 01 00:00:09 1970", None),
            (b"SAT FEB 31 04:05:06 2024", None),
            (b"", None),
        ] {
            assert_eq!(told(&avi(&chunk(b"IDIT", text))), expected, "{}", String::from_utf8_lossy(text));
        }
        assert_eq!(told(&avi(&chunk(b"junk", b"2024-02-03 04:05:06"))), None);
    }

    #[test]
    fn a_png_tells_by_its_exif() {
        let exif = exif::tests::original(b"2024:02:03 04:05:06\0");
        let chunk = |kind: &[u8; 4], data: &[u8]| {
            [&u32::try_from(data.len()).unwrap().to_be_bytes(), &kind[..], data, b"CRC!"].concat()
        };
        let chunks = [chunk(b"IHDR", &[0; 13]), chunk(b"eXIf", &exif), chunk(b"IEND", b"")].concat();
        assert_eq!(told(&[b"\x89PNG\r\n\x1a\n", &chunks[..]].concat()), Some(clock("2024-02-03T04:05:06")));
    }

    #[test]
    fn what_does_not_tell_or_breaks_off_is_none() {
        let exif = [&b"Exif\0\0"[..], &exif::tests::original(b"2024:02:03 04:05:06\0")].concat();
        let (picture, clip) = (picture(&[segment(0xE1, &exif)]), clip(&[0, 0, 0, 0, 0xE1, 0, 0, 0]));
        let dav = [b"DHAV\xFD\0\0\0numb\x20\0\0\0", &pack((24, 2, 3), (4, 5, 6))[..]].concat();
        for (whole, needed) in [(&picture, 5 + exif.len()), (&clip, clip.len()), (&dav, dav.len())] {
            assert!(told(whole).is_some());
            assert!((0..needed).all(|length| told(&whole[..length]).is_none()), "{whole:?}");
        }
        for other in [&b""[..], b"some text", b"DAT=2024-02-03\nTIM=04:05:06.000\n", b"\x89PNG\r\n\x1a\n", b"DHAV\xFD"]
        {
            assert_eq!(told(other), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(start in 0usize..9, bytes: Vec<u8>) {
            let head: &[u8] = [
                &b""[..],
                b"\xFF\xD8\xFF\xE1\x02\x00Exif\0\0II*\0\x08\0\0\0",
                b"\xFF\xD8\xFF\xFE\x02\x00DAT=2024-02-03\nTIM=",
                b"\0\0\0\x10ftypisom0000\0\0\0\0moov",
                b"DHAV\xFD",
                b"\0\0\x01\xFC\x02\x19\x78\x44",
                b"\x1A\x45\xDF\xA3\x84webm\x18\x53\x80\x67\xFF\x15\x49\xA9\x66\xFF\x44\x61\x88",
                b"RIFF\x99\0\0\0AVI LIST\x99\0\0\0hdrlIDIT\x1A\0\0\0",
                b"\x89PNG\r\n\x1a\n\0\0\0\x40eXIfII*\0\x08\0\0\0",
            ][start];
            told(&[head, &bytes].concat());
        }

        #[test]
        fn every_packed_date_has_an_answer(date: u32) {
            packed(date);
        }
    }
}
