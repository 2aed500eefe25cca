//! What a file in the drop folder is: which camera took it, when, and why.
//!
//! Classification is pure: it takes the path below the drop folder and the time of arrival, and touches nothing.
//! The camera is the configured one whose `match` fits, else the first folder, else what the device calls itself in
//! the name, else `unknown`. The time is the name's, else the arrival's.
//!
//! A camera's clock says no zone. Three rules, each tested:
//! * a time that exists once in the camera's zone is that time;
//! * in the hour that autumn repeats, it is the one of the two that lies nearer to the arrival, else the first;
//! * a time that spring leaves out comes from a camera without DST: it is read with the offset of before the change.

use std::path::{Component, Path};
use std::sync::LazyLock;

use chrono::{DateTime, FixedOffset, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use regex::Regex;
use serde::Serialize;

use crate::config::{Camera, Config};
use crate::key::{self, Fields};

pub mod content;
pub mod media;
pub mod naming;

/// The camera of a file that names none.
const UNKNOWN: &str = "unknown";

/// What was read of one file before its time is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The camera, as a segment of a key.
    pub camera: String,
    /// What the name says.
    pub reading: naming::Reading,
    /// What the file's extension says.
    pub media: Media,
    zone: Tz,
    /// The path below the camera's folder, `/` as `_`.
    local_name: Vec<u8>,
    own_name: Vec<u8>,
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
    /// The event word, raw.
    pub event: Option<String>,
    /// The channel, as written.
    pub channel: Option<String>,
    /// The vendor whose naming it follows.
    pub vendor: Option<&'static str>,
    /// Picture, clip or neither.
    pub media: Media,
    /// The source's name for the key: its own where that carries the full time, else time and path.
    pub file: Vec<u8>,
}

/// Where a capture's time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TakenFrom {
    /// The file's name or folders.
    Name,
    /// The file's modification time.
    Arrival,
}

/// What kind of recording a file's extension promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Media {
    /// A still.
    Picture,
    /// A clip.
    Video,
    /// Anything else: it is stored all the same.
    Other,
}

impl TakenFrom {
    /// The word used in metadata and by `classify`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Arrival => "arrival",
        }
    }
}

/// Reads what `path` (below the drop folder) says by itself.
pub fn sight(path: &Path, config: &Config) -> Sighting {
    sight_of(path, config.cameras.iter().find(|camera| camera.matches.is_match(path)), config)
}

fn sight_of(path: &Path, configured: Option<&Camera>, config: &Config) -> Sighting {
    let own = configured.and_then(|camera| naming::read_own(path, camera.pattern.as_ref()?.regex()));
    let (reading, own_camera) =
        own.unwrap_or_else(|| (naming::read(path, configured.map_or("auto", |camera| &camera.vendor)), None));
    let segments: Vec<&[u8]> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.as_encoded_bytes()),
            _ => None,
        })
        .collect();
    let (own_name, folders) = segments.split_last().map_or((&b""[..], &[][..]), |(name, folders)| (*name, folders));
    let camera = own_camera
        .or_else(|| configured.map(|camera| key::camera_segment(camera.name.as_bytes())))
        .or_else(|| folders.first().map(|folder| key::camera_segment(folder)))
        .or_else(|| reading.device.clone())
        .unwrap_or_else(|| UNKNOWN.to_owned());
    let local_name = segments.get(folders.len().min(1)..).unwrap_or_default().join(&b'_');
    Sighting {
        camera,
        reading,
        media: media(path),
        zone: configured.and_then(|camera| camera.timezone).unwrap_or(config.timezone),
        local_name,
        own_name: own_name.to_vec(),
    }
}

impl Sighting {
    /// The capture, its time settled by the name or else by `arrival`; `None` where neither tells.
    pub fn settle(self, arrival: Option<DateTime<Utc>>) -> Option<Capture> {
        let (taken, taken_from, file) = if let Some(stamp) = self.reading.stamp {
            (resolve(stamp, self.zone, arrival), TakenFrom::Name, self.own_name)
        } else {
            let taken = arrival?.with_timezone(&self.zone).fixed_offset();
            let mut file = taken.format("%Y%m%dT%H%M%S_").to_string().into_bytes();
            file.extend(self.local_name);
            (taken, TakenFrom::Arrival, file)
        };
        Some(Capture {
            camera: self.camera,
            taken,
            taken_from,
            event: self.reading.event,
            channel: self.reading.channel,
            vendor: self.reading.vendor,
            media: self.media,
            file,
        })
    }
}

/// Classifies a file that arrived at `arrival`.
pub fn classify(path: &Path, arrival: DateTime<Utc>, config: &Config) -> Capture {
    // With an arrival there is always a time; the fallback satisfies the type alone.
    let sighting = sight(path, config);
    sighting.clone().settle(Some(arrival)).unwrap_or_else(|| Capture {
        camera: sighting.camera,
        taken: arrival.fixed_offset(),
        taken_from: TakenFrom::Arrival,
        event: None,
        channel: None,
        vendor: None,
        media: sighting.media,
        file: sighting.own_name,
    })
}

/// Reads the last segment of a key back, as far as it tells the time: our own stamp before it, or the vendor's in it.
pub fn read_stored(camera: &str, file: &str, config: &Config) -> Option<Capture> {
    static OWN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^([0-9]{8}T[0-9]{6})_(.*)$").ok());
    static BESIDE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"~(?:partial-)?[0-9a-f]{8}(\.[^.]*)?$").ok());
    let file = BESIDE.as_ref()?.replace(file, "$1");
    // A pattern of the camera's own may want its folder; which one it was, its name tells best.
    let path = Path::new(camera).join(file.as_ref());
    let configured = config.cameras.iter().find(|known| key::camera_segment(known.name.as_bytes()) == camera);
    let mut sighting = sight_of(&path, configured, config);
    if sighting.reading.stamp.is_none() {
        // Stored before the camera was configured as it is now.
        sighting.reading = naming::read(&path, "auto");
    }
    if let Some(own) = OWN.as_ref()?.captures(&file) {
        sighting.reading.stamp = NaiveDateTime::parse_from_str(&own[1], "%Y%m%dT%H%M%S").ok();
    }
    sighting.settle(None)
}

impl Capture {
    /// What a key needs of this capture.
    pub fn fields(&self) -> Fields<'_> {
        Fields {
            camera: &self.camera,
            taken: self.taken,
            event: self.event.as_deref(),
            channel: self.channel.as_deref(),
            file: &self.file,
        }
    }
}

fn media(path: &Path) -> Media {
    let guess = mime_guess::from_path(path).first_raw().unwrap_or_default();
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    match (guess.split('/').next(), extension.as_deref()) {
        (Some("image"), _) => Media::Picture,
        (Some("video"), _) | (_, Some("dav" | "h264" | "h265" | "264" | "265")) => Media::Video,
        _ => Media::Other,
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

    fn config(cameras: &str) -> Config {
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
        let capture = classify(Path::new("garage/a/b.dav"), at("2022-07-01T22:00:01Z"), &config(""));
        assert_eq!((capture.camera.as_str(), capture.taken_from), ("garage", TakenFrom::Arrival));
        assert_eq!(capture.file, b"20220702T010001_a_b.dav");
        assert_eq!(capture.media, Media::Video);
    }

    #[test]
    fn a_stored_name_is_read_back_by_the_pattern_of_its_camera_else_by_any_vendors() {
        let config = config(
            "cameras:\n  - {name: Porch, timezone: America/New_York, vendor: dahua, \
             pattern: '^Porch/(?P<event>[a-z]+)-(?P<taken>[0-9]{8}-[0-9]{6})'}\n",
        );
        let read = |camera: &str, file: &str| {
            let capture = read_stored(camera, file, &config)?;
            Some((capture.taken.to_rfc3339(), capture.event.unwrap_or_default()))
        };
        let found = |taken: &str, event: &str| Some((taken.to_owned(), event.to_owned()));
        assert_eq!(read("Porch", "cat-20240102-030405.jpg"), found("2024-01-02T03:04:05-05:00", "cat"));
        let name = "10.0.0.1_01_20240102030405000_TIMING";
        assert_eq!(read("Porch", &format!("{name}.jpg")), found("2024-01-02T03:04:05-05:00", "TIMING"));
        assert_eq!(read("Yard", &format!("{name}~partial-0a1b2c3d.jpg")), found("2024-01-02T03:04:05+02:00", "TIMING"));
        assert_eq!(read("Yard", "20240102T030405_cat.jpg"), found("2024-01-02T03:04:05+02:00", ""));
        assert_eq!(read("Yard", "cat-20240102-030405.jpg"), None);
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
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"c\xffm/\xe9\n.jpg"));
        let capture = classify(path, at("2022-02-24T03:06:10Z"), &config(""));
        assert_eq!(capture.camera, "c%FFm");
        assert_eq!(capture.file, b"20220224T050610_\xe9\n.jpg");
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
