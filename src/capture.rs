//! Classifies the files in the drop folder: which camera took a file, when, and because of what event.
//!
//! Classification is pure: it takes the path below the drop folder, the time that the content tells, and the time of
//! arrival. It uses the first of these that is known:
//! * for the camera: the configured one whose `match` fits, the first folder outside a vendor's own tree, the device's name
//!   for itself in the file name, `unknown`;
//! * for the time: the file's name, its folders, its content, its arrival. A time that is impossible given the arrival is
//!   not believed, unless the arrival itself is impossible because the box's clock was not set. If only a folder tells the
//!   day, the arrival on that day tells the time, and otherwise it is unknown.
//!
//! A camera's clock does not tell its zone. Three rules, each tested, find the instant in the camera's zone:
//! * a time that exists once is that instant;
//! * in the hour that autumn repeats, it is the instant nearer to the arrival, or the first one if there is no arrival;
//! * a time that spring skips comes from a camera without DST: it is read with the offset before the change.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Datelike, FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime};
use chrono::{Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use crate::config::{CameraSettings, Config};
use crate::key::{self, KeyFields};

pub mod content;
mod folders;
mod kind;
pub mod media;
pub mod naming;
mod stored_name;

use content::ContentTime;
use folders::Folder;
use media::Readable;
use naming::PathTime;

pub use kind::Media;
pub use stored_name::{StoredName, read_stored, tells_day_alone};

/// The camera of a file that tells no camera.
const UNKNOWN: &str = "unknown";

/// An earlier year comes from a clock that was reset, the camera's or the box's: they start again in 1970 or 2000.
const FIRST_YEAR: i32 = 2010;

/// How far a camera's clock may be ahead, because it is wrong or set to another zone.
///
/// A number in a name counts the seconds since 1970 if it differs by less than this from the arrival.
const MAX_AHEAD: TimeDelta = TimeDelta::days(1);

/// What a path tells, before its time is settled.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting<'a> {
    /// The camera, as a segment of a key.
    pub camera: String,
    /// The source of [`Sighting::camera`].
    pub camera_from: CameraFrom,
    /// What the table of names, or the camera's own pattern, reads in the path.
    pub reading: naming::PathReading,
    /// The kind of file, by its name.
    pub media: Media,
    /// The camera's zone.
    pub zone: Tz,
    /// The day that a folder names, if one does.
    day: Option<NaiveDate>,
    /// A time that is longer than this before the arrival is not believed; `None`: any time before is.
    max_clock_skew: Option<Duration>,
    /// The parts of the path without the camera's own folder.
    below: Vec<&'a [u8]>,
    /// The meaning of each folder in `below`.
    folders: Vec<Folder>,
    /// The settings of a camera whose own pattern read the path.
    own: Option<Box<CameraSettings>>,
    /// Whether it is a local copy of ours that somebody has put back: DATE/FILE with our own name.
    is_ours: bool,
}

/// One picture or clip of a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// The camera, as a segment of a key.
    pub camera: String,
    /// When it was taken, in the camera's zone; if only the day is known, the last second of that day.
    pub taken: DateTime<FixedOffset>,
    /// The source of [`Capture::taken`].
    pub taken_from: TakenFrom,
    /// Whether only the day is known.
    pub is_day_only: bool,
    /// The camera's own time, if that is not believed.
    pub camera_time: Option<DateTime<FixedOffset>>,
    /// The event word, as a part of a key.
    pub event: Option<String>,
    /// The channel, as written.
    pub channel: Option<String>,
    /// The vendor whose names have this shape.
    pub vendor: Option<&'static str>,
    /// The kind of file.
    pub media: Media,
    /// The name for the key, not escaped yet: the file's own if that tells the full time, otherwise time and path.
    pub file: Vec<u8>,
}

/// The sources of a capture's camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CameraFrom {
    /// The group `camera` of the configured pattern.
    Pattern,
    /// The configured camera whose `match` fits.
    Match,
    /// The first folder outside a vendor's own tree.
    Folder,
    /// The device's name for itself, in the file's name.
    Device,
    /// Nothing tells the camera.
    Nothing,
}

/// The sources of a capture's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TakenFrom {
    /// The file's own name.
    Name,
    /// Its folders, with or without its name.
    Folder,
    /// Its content.
    Content,
    /// The file's modification time.
    Arrival,
}

impl TakenFrom {
    /// Returns the word for metadata and for `classify`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Folder => "folder",
            Self::Content => "content",
            Self::Arrival => "arrival",
        }
    }
}

/// Reads what a path below the drop folder tells.
pub fn sight<'a>(path: &'a Path, config: &Config) -> Sighting<'a> {
    sight_of(path, configured(path, config), config)
}

/// Returns the configured camera whose `match` fits a path below the drop folder.
pub fn configured<'a>(path: &Path, config: &'a Config) -> Option<&'a CameraSettings> {
    config.cameras.iter().find(|camera| camera.matches.is_match(path))
}

/// Reads what a path tells, as a file of the `configured` camera.
fn sight_of<'a>(path: &'a Path, configured: Option<&CameraSettings>, config: &Config) -> Sighting<'a> {
    let own = configured.and_then(|camera| naming::read_own(path, camera));
    let read_by = own.as_ref().and(configured).map(|camera| Box::new(camera.clone()));
    let (reading, own_camera) =
        own.unwrap_or_else(|| (naming::read(path, configured.map_or("auto", |camera| &camera.vendor)), None));
    let bytes = path.as_os_str().as_bytes();
    let mut below: Vec<&[u8]> = Vec::with_capacity(8);
    below.extend(bytes.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"." | b"..")));
    let mut folders = folders::read(below.split_last().map_or(&[], |(_, folders)| folders));
    let day = folders.iter().rev().find_map(|folder| if let Folder::Date(date) = folder { Some(*date) } else { None });
    let given = given_folder(&below, &folders, &reading);
    let (camera, camera_from) = match (own_camera, configured, given, &reading.device) {
        (Some(camera), ..) => (camera, CameraFrom::Pattern),
        (_, Some(camera), ..) => (key::camera_segment(camera.name.as_bytes()), CameraFrom::Match),
        (_, _, Some(place), _) => (key::camera_segment(below[place]), CameraFrom::Folder),
        (_, _, _, Some(device)) => (device.clone(), CameraFrom::Device),
        _ => (UNKNOWN.to_owned(), CameraFrom::Nothing),
    };
    let media = kind::of(&below, &reading);
    // The key begins with the camera, so `below` leaves out the folder with its name, or those that its `match` spells out.
    let is_camera = |place: &usize| key::camera_segment(below[*place]) == camera;
    let named = if camera_from == CameraFrom::Folder { given } else { (0..folders.len()).find(is_camera) };
    let spelt = configured.map_or(0, |camera| camera.matches.literal_folders(path).min(folders.len()));
    let own_folders = named.map_or(0..spelt, |place| place..place + 1);
    below.drain(own_folders.clone());
    folders.drain(own_folders);
    Sighting {
        is_ours: stored_name::is_ours(&below),
        camera,
        camera_from,
        media,
        reading,
        zone: configured.and_then(|camera| camera.timezone).unwrap_or(config.timezone),
        day,
        max_clock_skew: config.max_clock_skew,
        below,
        folders,
        own: read_by,
    }
}

/// Returns the index of the first folder that a person named: one outside a vendor's own tree, and not named like the event.
fn given_folder(below: &[&[u8]], folders: &[Folder], reading: &naming::PathReading) -> Option<usize> {
    let mut at = 0;
    (0..folders.len()).find(|&place| {
        let (name, begins) = (below[place], at);
        at += name.len() + 1;
        let event = reading.event.as_ref().is_some_and(|event| event.as_bytes() == name);
        folders[place] == Folder::Given && begins < reading.tree_at && !event
    })
}

impl Sighting<'_> {
    /// Returns the time that the content tells; `None` if it tells none, or if it was not read because the path tells the time.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn ask(&self, file: &mut dyn Readable) -> io::Result<Option<ContentTime>> {
        if self.reading.stamp.is_some_and(|stamp| !stamp.is_epoch) { Ok(None) } else { content::taken(file) }
    }

    /// Returns the capture of a file with this `content` and this arrival.
    ///
    /// An impossible arrival comes from a box whose own clock was not set and disproves nothing, so the camera's time is
    /// believed as it is. If the camera tells no time, the arrival is used all the same.
    pub fn settle(self, content: Option<ContentTime>, Arrival { at: arrival, now }: Arrival) -> Capture {
        let is_sound = arrival.year() >= FIRST_YEAR && arrival.signed_duration_since(now) <= MAX_AHEAD;
        let evidence = is_sound.then_some(arrival);
        match self.told(content, evidence) {
            Some(told) if evidence.is_none_or(|arrival| self.believes(told.taken, arrival)) => self.capture(told, None),
            doubted => {
                let arrived = arrival.with_timezone(&self.zone).fixed_offset();
                self.capture(Told::of(arrived, TakenFrom::Arrival), doubted.map(|told| told.taken))
            }
        }
    }

    /// Returns the capture by its path alone; `None` if the path does not tell the time.
    pub fn settle_by_path(self) -> Option<Capture> {
        let told = self.told(None, None)?;
        Some(self.capture(told, None))
    }

    /// Returns the time that path and content tell; `None` if they tell none.
    fn told(&self, content: Option<ContentTime>, arrival: Option<DateTime<Utc>>) -> Option<Told> {
        if let Some(stamp) = self.reading.stamp {
            let taken = resolve_stamp(stamp, self.zone, arrival);
            let is_confirmed = || arrival.is_some_and(|arrival| (taken.to_utc() - arrival).abs() < MAX_AHEAD);
            if !stamp.is_epoch || is_confirmed() {
                return Some(Told::of(taken, stamp.from));
            }
        }
        if let Some(content) = content {
            return Some(Told::of(resolve_content(content, self.zone, arrival), TakenFrom::Content));
        }
        // Only a folder tells the day. If the file arrived on that day, its arrival is more precise.
        let day = self.day?;
        let arrived_then = arrival.is_some_and(|arrival| arrival.with_timezone(&self.zone).date_naive() == day);
        let taken = resolve(day.and_hms_opt(23, 59, 59)?, self.zone, arrival);
        (!arrived_then).then_some(Told { taken, from: TakenFrom::Folder, is_day_only: true })
    }

    /// Returns whether a capture that arrived at `arrival` can have been taken at `taken`.
    fn believes(&self, taken: DateTime<FixedOffset>, arrival: DateTime<Utc>) -> bool {
        let ahead = taken.to_utc().signed_duration_since(arrival);
        let past = self.is_ours
            || self.max_clock_skew.is_none_or(|most| {
                taken.year() >= FIRST_YEAR && TimeDelta::from_std(most).is_ok_and(|most| -ahead <= most)
            });
        past && ahead <= MAX_AHEAD
    }

    /// Puts the capture together.
    fn capture(self, told: Told, camera_time: Option<DateTime<FixedOffset>>) -> Capture {
        Capture {
            file: self.file(&told),
            camera: self.camera,
            taken: told.taken,
            taken_from: told.from,
            is_day_only: told.is_day_only,
            camera_time,
            event: self.reading.event,
            channel: self.reading.channel,
            vendor: self.reading.vendor,
            media: self.media,
        }
    }
}

/// A time that a capture may be filed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    taken: DateTime<FixedOffset>,
    from: TakenFrom,
    is_day_only: bool,
}

impl Told {
    fn of(taken: DateTime<FixedOffset>, from: TakenFrom) -> Self {
        Self { taken, from, is_day_only: false }
    }
}

/// When a file arrived, seen from the time when it is classified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When it arrived, see [`arrival`].
    pub at: DateTime<Utc>,
    /// The time now.
    pub now: DateTime<Utc>,
}

/// Returns the arrival of a file that was last changed at `modified`, moved into the years with four digits.
pub fn arrival(modified: SystemTime) -> DateTime<Utc> {
    // 0001-01-02 and 9999-12-30: a day is left at either end, so that every zone has the date.
    let range = -62_135_510_400..=253_402_128_000;
    let seconds = match modified.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    };
    if range.contains(&seconds) {
        return modified.into();
    }
    DateTime::from_timestamp(seconds.clamp(*range.start(), *range.end()), 0).unwrap_or_default()
}

/// Classifies a file that arrived at `arrival`, without reading its content.
pub fn classify(path: &Path, arrival: DateTime<Utc>, config: &Config) -> Capture {
    sight(path, config).settle(None, Arrival { at: arrival, now: arrival })
}

impl Capture {
    /// Returns the facts that make the key of this capture.
    pub fn fields(&self) -> KeyFields<'_> {
        KeyFields {
            camera: &self.camera,
            taken: self.taken,
            event: self.event.as_deref(),
            channel: self.channel.as_deref(),
            file: &self.file,
        }
    }
}

/// Returns the instant of a time in a path, in the camera's zone.
fn resolve_stamp(stamp: PathTime, zone: Tz, arrival: Option<DateTime<Utc>>) -> DateTime<FixedOffset> {
    match stamp.offset.and_then(|offset| stamp.wall.and_local_timezone(offset).single()) {
        // Keys have the date and the time at the camera's zone, whatever zone the name is written in.
        Some(taken) => taken.with_timezone(&zone).fixed_offset(),
        None => resolve(stamp.wall, zone, arrival),
    }
}

/// Returns the instant of a time in a file's content, in the camera's zone.
fn resolve_content(content: ContentTime, zone: Tz, arrival: Option<DateTime<Utc>>) -> DateTime<FixedOffset> {
    match content {
        ContentTime::At(taken) => taken.with_timezone(&zone).fixed_offset(),
        ContentTime::Wall(wall) => resolve(wall, zone, arrival),
        ContentTime::UtcOrWall(time) => {
            // The standard says UTC, but many cameras write their wall clock: the one nearer to the arrival is taken.
            let (utc, wall) = (time.and_utc().with_timezone(&zone).fixed_offset(), resolve(time, zone, arrival));
            let distance = |taken: DateTime<FixedOffset>| arrival.map(|arrival| (arrival - taken.to_utc()).abs());
            if distance(wall) < distance(utc) { wall } else { utc }
        }
    }
}

/// Returns the instant of a camera's wall clock in its zone; `arrival` decides in the hour that autumn repeats.
fn resolve(stamp: NaiveDateTime, zone: Tz, arrival: Option<DateTime<Utc>>) -> DateTime<FixedOffset> {
    match zone.from_local_datetime(&stamp) {
        MappedLocalTime::Single(taken) => taken.fixed_offset(),
        MappedLocalTime::Ambiguous(first, second) => {
            let distance = |taken: &DateTime<Tz>, arrival: DateTime<Utc>| (arrival - taken.to_utc()).abs();
            match arrival {
                Some(arrival) if distance(&second, arrival) < distance(&first, arrival) => second.fixed_offset(),
                _ => first.fixed_offset(),
            }
        }
        MappedLocalTime::None => {
            // No zone skips more than a day (Samoa, 2011), so 26 hours earlier the old offset was in force.
            let before = zone.offset_from_utc_datetime(&(stamp - TimeDelta::hours(26))).fix();
            before.from_local_datetime(&stamp).single().unwrap_or_else(|| stamp.and_utc().fixed_offset())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn config(cameras: &str) -> Config {
        let text = format!("drop_folder: {{path: /drop}}\ns3: {{bucket: my-bucket}}\ntimezone: Europe/Kyiv\n{cameras}");
        Config::parse(Path::new("test.yaml"), &text, &|_| None).unwrap()
    }

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn taken(stamp: &str, zone: Tz, arrival: Option<&str>) -> String {
        resolve(stamp.parse().unwrap(), zone, arrival.map(at)).to_rfc3339()
    }

    #[test]
    fn the_first_folder_is_the_camera_and_the_name_tells_the_time() {
        let path = Path::new("CAM-EXT-001/192.168.1.64_01_20220224050607089_MOTION_DETECTION.jpg");
        let capture = classify(path, at("2022-02-24T03:06:10Z"), &config(""));
        assert_eq!(capture.camera, "CAM-EXT-001");
        assert_eq!(capture.taken.to_rfc3339(), "2022-02-24T05:06:07.089+02:00");
        assert_eq!(capture.taken_from, TakenFrom::Name);
        assert_eq!(capture.file, b"192.168.1.64_01_20220224050607089_MOTION_DETECTION.jpg");
        assert_eq!(capture.media, Media::Picture);
    }

    #[test]
    fn without_a_time_in_the_name_the_arrival_and_the_path_make_the_name() {
        let capture = classify(Path::new("garage/a_b.dav"), at("2022-07-01T22:00:01Z"), &config(""));
        assert_eq!((capture.camera.as_str(), capture.taken_from), ("garage", TakenFrom::Arrival));
        assert_eq!(capture.file, b"20220702T010001_a_b.dav");
        assert_eq!(capture.media, Media::Video);
    }

    #[test]
    fn a_file_without_a_folder_belongs_to_the_device_in_its_name_or_to_nobody() {
        let config = config("");
        let arrival = at("2022-02-24T03:06:10Z");
        let capture = classify(Path::new("10.0.0.9_01_20220224050607089_TIMING.jpg"), arrival, &config);
        assert_eq!(capture.camera, "10.0.0.9");
        let capture = classify(Path::new("x.jpg"), arrival, &config);
        assert_eq!((capture.camera.as_str(), &capture.file[..]), ("unknown", &b"20220224T050610_x.jpg"[..]));
    }

    #[test]
    fn a_configured_camera_brings_its_name_zone_and_pattern() {
        let config = config(
            "cameras:\n  - {name: Porch, match: 'p/**', timezone: America/New_York, \
             pattern: '(?P<event>[a-z]+)-(?P<taken>[0-9]{8}-[0-9]{6})'}\n",
        );
        let capture = classify(Path::new("p/x/cat-20240102-030405.bin"), at("2024-01-02T08:04:06Z"), &config);
        assert_eq!((capture.camera.as_str(), capture.event.as_deref()), ("Porch", Some("cat")));
        assert_eq!(capture.taken.to_rfc3339(), "2024-01-02T03:04:05-05:00");
        assert_eq!(capture.media, Media::Other);
    }

    #[test]
    fn names_that_are_no_text_still_make_captures() {
        let path = Path::new(std::ffi::OsStr::from_bytes(b"c\xffm/\xe9\n.jpg"));
        let capture = classify(path, at("2022-02-24T03:06:10Z"), &config(""));
        assert_eq!(capture.camera, "c%FFm");
        assert_eq!(capture.file, b"20220224T050610_\xe9\n.jpg");
    }

    #[test]
    fn an_arrival_that_cannot_be_disproves_nothing() {
        let config = config("max_clock_skew: 400d");
        let now = at("2026-11-22T00:00:00Z");
        let settle = |path: &str, arrival: &str, now| {
            let capture = sight(Path::new(path), &config).settle(None, Arrival { at: at(arrival), now });
            (capture.taken.date_naive().to_string(), capture.taken_from, capture.camera_time.is_some())
        };
        let told = |from| ("2026-02-24".to_owned(), from, false);
        let name = "CAM/192.168.1.64_01_20260224120000000_MOTION_DETECTION.jpg";
        for arrival in ["1970-01-01T00:01:00Z", "2009-12-31T23:59:59Z", "2056-02-24T12:00:00Z"] {
            assert_eq!(settle(name, arrival, now), told(TakenFrom::Name), "{arrival}");
            assert_eq!(settle("CAM/2026-02-24/a.jpg", arrival, now), told(TakenFrom::Folder), "{arrival}");
        }
        // The box's clock was reset and not set since: earlier arrivals are in its future.
        let unset = at("1970-01-01T01:00:00Z");
        assert_eq!(settle(name, "2026-02-24T10:00:02Z", unset), told(TakenFrom::Name));
        assert_eq!(settle(name, "2015-01-02T00:00:00Z", now), ("2015-01-02".into(), TakenFrom::Arrival, true));
        assert_eq!(settle("CAM/a.jpg", "1970-01-01T00:01:00Z", now), ("1970-01-01".into(), TakenFrom::Arrival, false));
    }

    #[test]
    fn an_arrival_beyond_the_calendar_is_one_at_its_end() {
        let year = |seconds: i64| {
            let length = Duration::from_secs(seconds.unsigned_abs());
            let modified = if seconds < 0 { UNIX_EPOCH - length } else { UNIX_EPOCH + length };
            classify(Path::new("a.jpg"), arrival(modified), &config("")).taken.year()
        };
        let far = i64::MAX / 2;
        assert_eq!([1_700_000_000, -1, 253_402_128_001, far, -far].map(year), [2023, 1970, 9999, 9999, 1]);
    }

    #[test]
    fn the_repeated_hour_of_autumn_is_decided_by_the_arrival() {
        let kyiv = chrono_tz::Europe::Kyiv;
        let stamp = "2024-10-27T03:30:00";
        assert_eq!(taken(stamp, kyiv, Some("2024-10-27T00:30:05Z")), "2024-10-27T03:30:00+03:00");
        assert_eq!(taken(stamp, kyiv, Some("2024-10-27T01:30:05Z")), "2024-10-27T03:30:00+02:00");
        assert_eq!(taken(stamp, kyiv, None), "2024-10-27T03:30:00+03:00");
    }

    #[test]
    fn a_time_that_spring_leaves_out_is_read_without_dst() {
        assert_eq!(taken("2024-03-31T03:30:00", chrono_tz::Europe::Kyiv, None), "2024-03-31T03:30:00+02:00");
        assert_eq!(taken("2011-12-30T12:00:00", chrono_tz::Pacific::Apia, None), "2011-12-30T12:00:00-10:00");
        assert_eq!(taken("2024-10-06T02:10:00", chrono_tz::Australia::Lord_Howe, None), "2024-10-06T02:10:00+10:30");
    }
}
