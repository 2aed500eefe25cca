//! What a file in the drop folder is: which camera took it, when, and why.
//!
//! Classification is pure: it takes the path below the drop folder, what the content tells of its time, and the time of
//! arrival, and touches nothing. The camera is the configured one whose `match` fits, else the first folder that is not
//! of a vendor's own tree, else what the device calls itself in the name, else `unknown`. The time is the name's, else
//! the folders', else the content's, else the arrival's; one that cannot be, seen from the arrival, is not believed,
//! unless the arrival itself cannot be, because the box's clock was not set.
//!
//! A camera's clock says no zone. Three rules, each tested:
//! * a time that exists once in the camera's zone is that time;
//! * in the hour that autumn repeats, it is the one of the two that lies nearer to the arrival, else the first;
//! * a time that spring leaves out comes from a camera without DST: it is read with the offset of before the change.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Datelike, FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime};
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

pub use kind::Media;
pub use stored_name::{StoredName, read_stored};

/// The camera of a file that names none.
const UNKNOWN: &str = "unknown";

/// Before this year no camera pushed anything that is still of use: a clock that was reset, the camera's or the box's,
/// starts again in 1970, 2000.
const FIRST_YEAR: i32 = 2010;

/// How far a camera's clock, or its zone, may be ahead.
const MAX_AHEAD: TimeDelta = TimeDelta::days(1);

/// What was read of one path before its time is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting<'a> {
    /// The camera, as a segment of a key.
    pub camera: String,
    /// What [`Sighting::camera`] was read from.
    pub camera_from: CameraFrom,
    /// What the path says.
    pub reading: naming::PathReading,
    /// What the file's name promises.
    pub media: Media,
    /// The camera's zone.
    pub zone: Tz,
    /// The day that a folder names.
    day: Option<NaiveDate>,
    /// Past stamps farther from the arrival are not believed.
    max_clock_skew: Option<Duration>,
    /// The path but for the camera's own folder.
    below: Vec<&'a [u8]>,
    /// What the folders among these are.
    folders: Vec<Folder>,
    /// Whether these are known to tell the time by themselves, whatever stood before them.
    is_tree: bool,
}

/// One picture or clip of a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// The camera, as a segment of a key.
    pub camera: String,
    /// When it was taken, at the camera's own offset.
    pub taken: DateTime<FixedOffset>,
    /// What [`Capture::taken`] was read from.
    pub taken_from: TakenFrom,
    /// What the camera says instead, where that is not believed.
    pub camera_time: Option<DateTime<FixedOffset>>,
    /// The event word, raw.
    pub event: Option<String>,
    /// The channel, as written.
    pub channel: Option<String>,
    /// The vendor whose naming it follows.
    pub vendor: Option<&'static str>,
    /// What kind of file it is.
    pub media: Media,
    /// The source's name for the key: its own where that carries the full time, else time and path.
    pub file: Vec<u8>,
}

/// Where the name of a capture's camera comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CameraFrom {
    /// The group `camera` of the configured pattern.
    Pattern,
    /// The configured camera whose `match` fits.
    Match,
    /// The first folder that is not of a vendor's own tree.
    Folder,
    /// What the device calls itself in the file's name.
    Device,
    /// Nothing tells it.
    Nothing,
}

/// Where a capture's time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TakenFrom {
    /// The file's own name.
    Name,
    /// Its folders, alone or with its name.
    Folder,
    /// Its content.
    Content,
    /// The file's modification time.
    Arrival,
}

impl TakenFrom {
    /// The word used in metadata and by `classify`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Folder => "folder",
            Self::Content => "content",
            Self::Arrival => "arrival",
        }
    }
}

/// Reads what `path` (below the drop folder) says by itself.
pub fn sight<'a>(path: &'a Path, config: &Config) -> Sighting<'a> {
    sight_of(path, configured(path, config), config)
}

/// The configured camera whose `match` fits.
pub fn configured<'a>(path: &Path, config: &'a Config) -> Option<&'a CameraSettings> {
    config.cameras.iter().find(|camera| camera.matches.is_match(path))
}

fn sight_of<'a>(path: &'a Path, configured: Option<&CameraSettings>, config: &Config) -> Sighting<'a> {
    let own = configured.and_then(|camera| naming::read_own(path, camera.pattern.as_ref()?.regex()));
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
    // The camera's folders need not be repeated: the one of its name, else those that its `match` spells out.
    let is_camera = |place: &usize| key::camera_segment(below[*place]) == camera;
    let named = if camera_from == CameraFrom::Folder { given } else { (0..folders.len()).find(is_camera) };
    let spelt = configured.map_or(0, |camera| camera.matches.literal_folders(path).min(folders.len()));
    let own_folders = named.map_or(0..spelt, |place| place..place + 1);
    let is_end = own_folders.start == 0;
    below.drain(own_folders.clone());
    folders.drain(own_folders);
    // Where the tree lies in what is left, any vendor's reading of that is the one of the whole path.
    let from_folder = reading.stamp.is_some_and(|stamp| stamp.from == TakenFrom::Folder);
    let left = below.iter().map(|name| name.len() + 1).sum::<usize>();
    let is_tree = configured.is_none() && is_end && from_folder && reading.tree_at + left > bytes.len();
    Sighting {
        camera,
        camera_from,
        media,
        reading,
        zone: configured.and_then(|camera| camera.timezone).unwrap_or(config.timezone),
        day,
        max_clock_skew: config.max_clock_skew,
        below,
        folders,
        is_tree,
    }
}

/// The first folder that somebody gave its name: not one of a vendor's own tree, nor one named like the event.
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
    /// Asks the content for the time, where the path does not tell it.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn ask(&self, file: &mut File) -> io::Result<Option<ContentTime>> {
        if self.reading.stamp.is_some() { Ok(None) } else { content::taken(file) }
    }

    /// The capture of a file that arrived at `arrival`, where it is `now`.
    ///
    /// An arrival that cannot be comes from a box whose own clock was not set, and disproves nothing: what the camera
    /// says is then believed as it is. Where the camera says nothing, there is no other time to go by.
    pub fn settle(self, content: Option<ContentTime>, arrival: DateTime<Utc>, now: DateTime<Utc>) -> Capture {
        let is_sound = arrival.year() >= FIRST_YEAR && arrival.signed_duration_since(now) <= MAX_AHEAD;
        let evidence = is_sound.then_some(arrival);
        match self.told(content, evidence) {
            Some((taken, from)) if evidence.is_none_or(|arrival| self.believes(taken, arrival)) => {
                self.capture(taken, from, None)
            }
            doubted => {
                let arrived = arrival.with_timezone(&self.zone).fixed_offset();
                self.capture(arrived, TakenFrom::Arrival, doubted.map(|(taken, _)| taken))
            }
        }
    }

    /// The capture by what the path says alone; `None` where it does not tell the time.
    pub fn settle_by_path(self) -> Option<Capture> {
        let (taken, from) = self.told(None, None)?;
        Some(self.capture(taken, from, None))
    }

    /// What path and content say of the time.
    fn told(
        &self,
        content: Option<ContentTime>,
        arrival: Option<DateTime<Utc>>,
    ) -> Option<(DateTime<FixedOffset>, TakenFrom)> {
        if let Some(stamp) = self.reading.stamp {
            return Some((resolve(stamp.wall, self.zone, arrival), stamp.from));
        }
        if let Some(content) = content {
            return Some((resolve_content(content, self.zone, arrival), TakenFrom::Content));
        }
        // The day alone. On that day itself the arrival knows better.
        let day = self.day?;
        let arrived_then = arrival.is_some_and(|arrival| arrival.with_timezone(&self.zone).date_naive() == day);
        (!arrived_then).then(|| (resolve(day.and_time(NaiveTime::MIN), self.zone, arrival), TakenFrom::Folder))
    }

    /// Whether a camera's clock can have said `taken` rightly of what arrived at `arrival`.
    fn believes(&self, taken: DateTime<FixedOffset>, arrival: DateTime<Utc>) -> bool {
        let ahead = taken.to_utc().signed_duration_since(arrival);
        let past = self.max_clock_skew.is_none_or(|most| {
            taken.year() >= FIRST_YEAR && TimeDelta::from_std(most).is_ok_and(|most| -ahead <= most)
        });
        past && ahead <= MAX_AHEAD
    }

    fn capture(
        self,
        taken: DateTime<FixedOffset>,
        taken_from: TakenFrom,
        camera_time: Option<DateTime<FixedOffset>>,
    ) -> Capture {
        Capture {
            file: self.file(taken, taken_from),
            camera: self.camera,
            taken,
            taken_from,
            camera_time,
            event: self.reading.event,
            channel: self.reading.channel,
            vendor: self.reading.vendor,
            media: self.media,
        }
    }
}

/// The arrival of a file that was last changed at `modified`, within the years that are written with four digits.
pub fn arrival(modified: SystemTime) -> DateTime<Utc> {
    // A day short of the ends, for every zone's sake: 0001-01-02 and 9999-12-30.
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

/// Classifies a file that arrived at `arrival`, without a look into it.
pub fn classify(path: &Path, arrival: DateTime<Utc>, config: &Config) -> Capture {
    sight(path, config).settle(None, arrival, arrival)
}

impl Capture {
    /// What a key needs of this capture.
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

/// The instant that a file's content means.
fn resolve_content(content: ContentTime, zone: Tz, arrival: Option<DateTime<Utc>>) -> DateTime<FixedOffset> {
    match content {
        ContentTime::At(taken) => taken,
        ContentTime::Wall(wall) => resolve(wall, zone, arrival),
        ContentTime::UtcOrWall(time) => {
            // The standard says UTC, many cameras write their wall clock: the arrival tells which, if there is one.
            let (utc, wall) = (time.and_utc().with_timezone(&zone).fixed_offset(), resolve(time, zone, arrival));
            let distance = |taken: DateTime<FixedOffset>| arrival.map(|arrival| (arrival - taken.to_utc()).abs());
            if distance(wall) < distance(utc) { wall } else { utc }
        }
    }
}

/// The instant that a camera's wall clock means, by the rules in the module's text.
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
            // No zone skips more than a day (Samoa, 2011), so a day and a bit earlier the old offset was in force.
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
        let path = Path::new("CAM-EXT-001/sub/192.168.1.64_01_20220224050607089_MOTION_DETECTION.jpg");
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
            let capture = sight(Path::new(path), &config).settle(None, at(arrival), now);
            (capture.taken.date_naive().to_string(), capture.taken_from, capture.camera_time.is_some())
        };
        let told = |from| ("2026-02-24".to_owned(), from, false);
        let name = "CAM/192.168.1.64_01_20260224120000000_MOTION_DETECTION.jpg";
        for arrival in ["1970-01-01T00:01:00Z", "2009-12-31T23:59:59Z", "2056-02-24T12:00:00Z"] {
            assert_eq!(settle(name, arrival, now), told(TakenFrom::Name), "{arrival}");
            assert_eq!(settle("CAM/2026-02-24/a.jpg", arrival, now), told(TakenFrom::Folder), "{arrival}");
        }
        // The clock has not been set since: what arrived before it was lost lies ahead.
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
