//! Object keys: the bucket's layout, rendered and parsed in one place.
//!
//! A key is `{prefix}{camera}/{date}/{file}`, unless `s3.key` says otherwise. The camera comes first in every [`Template`],
//! so that the bucket can be listed camera by camera. [`escape`] makes each segment safe and never spells two names alike.
//! [`ObjectKey::variant`] is the second key of a capture whose own key is taken, or that was cut off; [`read_variant`]
//! reads it back.
//!
//! A name that would make a key too long for S3 is cut and carries a hash of the whole name. Hashing every key was
//! rejected, because people read these names.

use std::fmt;

use chrono::{DateTime, FixedOffset, NaiveDate};

mod archive;
mod camera;
mod former;
mod heartbeat;
mod spelling;
mod template;

pub use archive::{ARCHIVE, ArchiveFormat, ArchiveObject, Archived, BundleId, archive_key};
pub use camera::CameraName;
pub use former::FormerKey;
pub use heartbeat::{HEARTBEATS, heartbeat_key, heartbeat_prefix, is_heartbeat};
pub use spelling::{bounded, camera_segment, escape, escape_path, escape_tricks, plays_tricks, printable, unescape};
pub use template::Template;

use template::Piece;

/// The longest object key in bytes of UTF-8 (S3 User Guide, "Naming Amazon S3 objects").
pub const MAX_KEY_BYTES: usize = 1024;

/// The most bytes that [`ObjectKey::variant`] adds: `~partial-` and a whole SHA-256 in hexadecimal.
const VARIANT_BYTES: usize = 73;

/// How many hexadecimal digits of a SHA-256 a variant has: the first ones, or all if another capture has the same first.
const HASH_DIGITS: [usize; 2] = [8, 64];

/// The longest event or channel in a key, in bytes; the longest event of any known vendor has 25.
const MAX_WORD_BYTES: usize = 36;

/// Stands for the event or channel of a capture that has none.
const ABSENT: &str = "none";

/// The layout of one bucket: a prefix and a [`Template`].
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    prefix: String,
    template: Template,
}

/// The parts of a capture's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyParts {
    /// The camera's segment.
    pub camera: CameraName,
    /// The date at the camera when the capture was taken.
    pub date: NaiveDate,
    /// The last segment.
    pub file: String,
}

/// The parts of a capture's key whose shape may have no date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerKeyParts {
    /// The camera's segment.
    pub camera: CameraName,
    /// The date at the camera, if the shape has one.
    pub date: Option<NaiveDate>,
    /// The last segment.
    pub file: String,
}

/// The facts about a capture that [`Layout::render`] makes a key of; the words are spelt by [`escape`] already.
#[derive(Debug, Clone, Copy)]
pub struct KeyFields<'a> {
    /// The camera's segment.
    pub camera: &'a str,
    /// When the capture was taken, at the camera's own offset.
    pub taken: DateTime<FixedOffset>,
    /// The event word, if any.
    pub event: Option<&'a str>,
    /// The channel, if any.
    pub channel: Option<&'a str>,
    /// The capture's name, not escaped yet.
    pub file: &'a [u8],
}

impl Layout {
    /// Returns the layout with `prefix` (empty, or ending with `/`) before every key.
    pub fn new(prefix: &str, template: Template) -> Self {
        Self { prefix: prefix.to_owned(), template }
    }

    /// Returns the prefix before every key: empty, or ending with `/`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the key of a capture: at most [`MAX_KEY_BYTES`] long, with room left for a variant.
    pub fn render(&self, fields: &KeyFields<'_>) -> ObjectKey {
        let mut text = self.prefix.clone();
        for piece in &self.template.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Placeholder("camera") => text.push_str(fields.camera),
                Piece::Placeholder("event") => text.push_str(&segment(fields.event)),
                Piece::Placeholder("channel") => text.push_str(&segment(fields.channel)),
                Piece::Placeholder("file") => {
                    let room = MAX_KEY_BYTES.saturating_sub(text.len() + VARIANT_BYTES);
                    text.push_str(&bounded(&escape(fields.file), room));
                }
                Piece::Placeholder(part) => text.push_str(&date_part(part, fields.taken)),
            }
        }
        ObjectKey(text)
    }

    /// Reads a capture's key; `None` for an object of another layout, such as an archive or a stranger's file, and for one
    /// whose first segment cannot be the name of a camera.
    pub fn parse(&self, key: &str) -> Option<KeyParts> {
        let FormerKeyParts { camera, date, file } = self.split(key)?;
        Some(KeyParts { camera, date: date?, file })
    }

    /// Reads a key as [`Layout::parse`] does, also one of a shape without a date.
    pub fn split(&self, key: &str) -> Option<FormerKeyParts> {
        let key = key.strip_prefix(&self.prefix)?;
        let found = self.template.pattern.captures(key)?;
        let (camera, file) = (found.name("camera")?.as_str(), found.name("file")?.as_str());
        // A template could match the bundles in a camera's archive too.
        if key[camera.len()..].starts_with("/archive/") {
            return None;
        }
        let number = |name| found.name(name).and_then(|m| m.as_str().parse::<u32>().ok());
        let date = match found.name("date") {
            Some(date) => Some(date.as_str().parse().ok()?),
            None if self.template.has_date() => {
                let year = i32::try_from(number("year")?).ok()?;
                Some(NaiveDate::from_ymd_opt(year, number("month")?, number("day")?)?)
            }
            None => None,
        };
        Some(FormerKeyParts { camera: CameraName::read(camera)?, date, file: file.to_owned() })
    }

    /// Returns the prefix of all keys of `camera`.
    pub fn camera_prefix(&self, camera: &str) -> String {
        format!("{}{camera}/", self.prefix)
    }

    /// Returns the prefix of all keys of one camera-day: the template up to its first placeholder that camera and date do
    /// not decide.
    pub fn day_prefix(&self, camera: &str, date: NaiveDate) -> String {
        let taken = date.and_time(chrono::NaiveTime::MIN).and_utc().fixed_offset();
        let mut text = self.prefix.clone();
        for piece in &self.template.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Placeholder("camera") => text.push_str(camera),
                Piece::Placeholder(part @ ("date" | "year" | "month" | "day")) => {
                    text.push_str(&date_part(part, taken));
                }
                Piece::Placeholder(_) => break,
            }
        }
        text
    }

    /// Returns whether the keys of a camera are in the order of their dates: after the camera comes the date, or year, month
    /// and day in this order, before anything else that differs from capture to capture.
    pub fn is_in_date_order(&self) -> bool {
        let places = self.template.pieces.iter().filter_map(|piece| match piece {
            Piece::Placeholder(place) => Some(*place),
            Piece::Literal(_) => None,
        });
        let places: Vec<&str> = places.skip(1).take(3).collect();
        places.first() == Some(&"date") || places == ["year", "month", "day"]
    }

    /// Returns whether the last segment of a key is the file's name and nothing else.
    pub fn has_file_alone(&self) -> bool {
        self.template.text.ends_with("/{file}")
    }

    /// Returns whether all captures lie directly in their camera's folder.
    pub fn is_flat(&self) -> bool {
        self.template.text == "{camera}/{file}"
    }

    /// Returns whether the folder below a camera is its date, so that days can be listed by delimiter.
    pub fn has_date_folders(&self) -> bool {
        self.template.text.starts_with("{camera}/{date}/")
    }
}

/// Returns the segment for an event or a channel.
fn segment(value: Option<&str>) -> String {
    value.map_or_else(|| ABSENT.to_owned(), |value| bounded(value, MAX_WORD_BYTES))
}

/// Renders one of the placeholders that stand for a part of the time.
fn date_part(part: &str, taken: DateTime<FixedOffset>) -> String {
    let format = match part {
        "year" => "%Y",
        "month" => "%m",
        "day" => "%d",
        "hour" => "%H",
        _ => "%Y-%m-%d",
    };
    taken.format(format).to_string()
}

/// The name of one object in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Takes a key that is already spelt as in the bucket, such as one from a listing or an index.
    pub fn verbatim(key: String) -> Self {
        Self(key)
    }

    /// Returns the whole key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the last segment.
    pub fn file(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Returns the key beside this one for a capture that this one cannot hold: a mark with `hash` before the extension.
    ///
    /// `hash` is the capture's SHA-256 in hexadecimal, or its first 8 digits.
    #[must_use]
    pub fn variant(&self, variant: Variant, hash: &str) -> Self {
        let (stem, extension) = split_extension(&self.0);
        let mark = match variant {
            Variant::Partial => PARTIAL,
            Variant::Other => OTHER,
            Variant::Whole => "",
        };
        Self(format!("{stem}~{mark}{hash}{extension}"))
    }
}

/// Returns the key beside `key` for a version of it that was brought back: `~recovered-` and `hash` before the extension.
/// A name that would make the key too long for S3 is cut.
pub fn recovered(key: &str, hash: &str) -> String {
    let (stem, extension) = split_extension(key);
    let mark = format!("~recovered-{hash}{extension}");
    let mut keep = stem.len().min(MAX_KEY_BYTES.saturating_sub(mark.len()));
    while !stem.is_char_boundary(keep) {
        keep -= 1;
    }
    format!("{}{mark}", &stem[..keep])
}

/// Stands before the hash of a [`Variant::Partial`].
const PARTIAL: &str = "partial-";

/// Stands before the hash of a [`Variant::Other`].
const OTHER: &str = "other-";

/// Why an object lies beside the key that it would have had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The capture was cut off: `~partial-` and the SHA-256 of the bytes that came, or its first 8 hexadecimal digits.
    Partial,
    /// The capture is whole, but does not begin with what was stored of a cut-off one of that name, so that it is another
    /// capture: `~other-` and 8 digits.
    Other,
    /// The capture is whole, but its own key held other bytes: `~` and the same. A name that was cut to fit looks like one
    /// with 8 digits.
    Whole,
}

/// Undoes [`ObjectKey::variant`] for a key or its last segment: returns the name without the mark, and the reason;
/// `None` for a name without a mark.
pub fn read_variant(key: &str) -> Option<(String, Variant)> {
    let (stem, extension) = split_extension(key);
    let (stem, tag) = stem.rsplit_once('~').filter(|(stem, _)| !stem.is_empty() && !stem.ends_with('/'))?;
    let (hash, variant) = if let Some(hash) = tag.strip_prefix(PARTIAL) {
        (hash, Variant::Partial)
    } else if let Some(hash) = tag.strip_prefix(OTHER) {
        (hash, Variant::Other)
    } else {
        (tag, Variant::Whole)
    };
    let is_hash =
        HASH_DIGITS.contains(&hash.len()) && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hash.then(|| (format!("{stem}{extension}"), variant))
}

/// Returns a key without any marks of [`ObjectKey::variant`], which is the same for all keys of one capture.
pub fn root(key: &str) -> String {
    let mut root = key.to_owned();
    while let Some((before, _)) = read_variant(&root) {
        root = before;
    }
    root
}

/// Returns a key without its extension; all variants of a [`root`] begin with its stem.
pub fn stem(key: &str) -> &str {
    split_extension(key).0
}

/// Splits a key before the extension of its last segment; a name whose only dot is its first character has no extension.
fn split_extension(key: &str) -> (&str, &str) {
    let name_at = key.rfind('/').map_or(0, |slash| slash + 1);
    let dot = key[name_at..].rfind('.').filter(|at| *at > 0).map_or(key.len(), |at| name_at + at);
    key.split_at(dot)
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(prefix: &str, template: &str) -> Layout {
        Layout::new(prefix, template.parse().unwrap())
    }

    fn fields<'a>(camera: &'a str, file: &'a [u8]) -> KeyFields<'a> {
        let taken = DateTime::parse_from_rfc3339("2022-02-24T05:06:07+02:00").unwrap();
        KeyFields { camera, taken, event: Some("MOTION_DETECTION"), channel: None, file }
    }

    #[test]
    fn the_default_layout_files_by_camera_and_date() {
        let key = layout("", "{camera}/{date}/{file}").render(&fields("CAM-EXT-001", b"a.jpg"));
        assert_eq!(key.as_str(), "CAM-EXT-001/2022-02-24/a.jpg");
        let key = layout("home/", "{camera}/{year}/{month}/{day}/{hour}-{event}-{channel}/{file}")
            .render(&fields("C", b"a.jpg"));
        assert_eq!(key.as_str(), "home/C/2022/02/24/05-MOTION_DETECTION-none/a.jpg");
    }

    #[test]
    fn a_listing_prefix_is_what_camera_and_date_decide() {
        let date = NaiveDate::from_ymd_opt(2022, 2, 24).unwrap();
        assert_eq!(layout("p/", "{camera}/{date}/{file}").day_prefix("C", date), "p/C/2022-02-24/");
        assert_eq!(layout("", "{camera}/{event}/{date}/{file}").day_prefix("C", date), "C/");
    }

    #[test]
    fn keys_are_in_the_order_of_dates_if_nothing_that_differs_stands_before_the_date() {
        for (template, in_order) in [
            ("{camera}/{date}/{file}", true),
            ("{camera}/captures/{date}.{event}/{file}", true),
            ("{camera}/{year}/{month}/{day}/{hour}-{event}/{file}", true),
            ("{camera}/{year}-{month}-{day}/{file}", true),
            ("{camera}/{event}/{date}/{file}", false),
            ("{camera}/{day}/{month}/{year}/{file}", false),
            ("{camera}/{year}/{event}/{month}/{day}/{file}", false),
            ("{camera}/{year}/{month}/{channel}/{day}/{file}", false),
            ("{camera}/{hour}/{date}/{file}", false),
        ] {
            assert_eq!(layout("", template).is_in_date_order(), in_order, "{template}");
        }
    }

    proptest! {
        #[test]
        fn keys_of_such_a_layout_are_in_that_order(a in 0..4_000_000_000_i64, b in 0..4_000_000_000_i64, prefix in "([a-z]{1,9}/)?") {
            let layout = layout(&prefix, "{camera}/x/{year}.{month}-{day}/{event}/{file}");
            let key = |seconds| {
                let taken = DateTime::from_timestamp(seconds, 0).unwrap().fixed_offset();
                (taken.date_naive(), layout.render(&KeyFields { taken, ..fields("C", b"a.jpg") }))
            };
            let ((day_a, key_a), (day_b, key_b)) = (key(a), key(b));
            prop_assert_eq!(day_a.cmp(&day_b), key_a.cmp(&key_b));
        }
    }

    #[test]
    fn the_longest_of_everything_fits() {
        let template = format!(
            "{{camera}}/{}{{date}}/{{year}}/{{month}}/{{day}}/{{hour}}-{{event}}-{{channel}}/{{file}}",
            "l".repeat(56)
        );
        let (prefix, camera, word) =
            (format!("{}/", "p".repeat(512)), camera_segment(&[0xE9; 300]), "\u{e9}".repeat(600));
        let taken = DateTime::parse_from_rfc3339("2022-02-24T05:06:07+02:00").unwrap();
        let file = format!("{word}.{}", "e".repeat(15));
        let key = layout(&prefix, &template).render(&KeyFields {
            camera: &camera,
            taken,
            event: Some(&word),
            channel: Some(&word),
            file: file.as_bytes(),
        });
        let longest = key.variant(Variant::Partial, &"12345678".repeat(8));
        assert!(longest.as_str().len() <= MAX_KEY_BYTES, "{} bytes: {longest}", longest.as_str().len());
        assert_eq!(layout(&prefix, &template).parse(longest.as_str()).unwrap().camera, camera.as_str());
    }

    #[test]
    fn a_variant_stands_before_the_extension() {
        for (key, expected) in
            [("c/d/a.b.jpg", "c/d/a.b~1234.jpg"), ("c/d.e/noext", "c/d.e/noext~1234"), ("c/.jpg", "c/.jpg~1234")]
        {
            assert_eq!(ObjectKey(key.into()).variant(Variant::Whole, "1234").as_str(), expected);
        }
    }

    #[test]
    fn what_was_brought_back_is_a_capture_of_the_same_day() {
        let layout = layout("", "{camera}/{date}/{file}");
        let key = recovered("CAM/2022-02-24/a.b.jpg", "0123abcd");
        assert_eq!(key, "CAM/2022-02-24/a.b~recovered-0123abcd.jpg");
        assert_eq!(layout.parse(&key).unwrap().camera, "CAM");
        let longest = format!("CAM/2022-02-24/{}.jpg", "\u{e9}".repeat(502));
        let key = recovered(&longest, "0123abcd");
        assert!(key.len() <= MAX_KEY_BYTES && key.ends_with("\u{e9}~recovered-0123abcd.jpg"), "{key}");
        assert_eq!(root(&key), key, "it is a capture of its own");
    }

    #[test]
    fn all_keys_of_a_capture_have_one_root_and_begin_with_its_stem() {
        for key in [
            "CAM/d/a.mp4",
            "CAM/d/a~0123abcd.mp4",
            "CAM/d/a~partial-0123abcd.mp4",
            "CAM/d/a~0123abcd~partial-4567abcd.mp4",
        ] {
            assert_eq!(root(key), "CAM/d/a.mp4");
            assert!(key.starts_with(stem(&root(key))), "{key}");
        }
        for key in ["CAM/d/a-2.mp4", "CAM/d/a~2.mp4", "CAM/d/a", "CAM/d.x/a"] {
            assert_eq!(root(key), key);
        }
        assert_eq!((stem("CAM/d.x/a"), stem("CAM/d/.a")), ("CAM/d.x/a", "CAM/d/.a"));
    }

    #[test]
    fn a_variant_is_read_back_with_its_reason() {
        for (key, expected) in [
            ("c/d/a.b~partial-0a1b2c3d.jpg", Some(("c/d/a.b.jpg", Variant::Partial))),
            ("a~0a1b2c3d.jpg", Some(("a.jpg", Variant::Whole))),
            ("a~0a1b2c3d~partial-00000000.jpg", Some(("a~0a1b2c3d.jpg", Variant::Partial))),
            ("c/d.e/noext~partial-0a1b2c3d", Some(("c/d.e/noext", Variant::Partial))),
            ("c/.jpg~0a1b2c3d", Some(("c/.jpg", Variant::Whole))),
            ("c/d/a.jpg", None),
            ("c~0a1b2c3d/a.jpg", None),
            ("c/~partial-0a1b2c3d.jpg", None),
            ("a~PROGRA.jpg", None),
            ("a~0A1B2C3D.jpg", None),
            ("a~partial-0a1b2c3.jpg", None),
            ("a~partial-0a1b2c3d0.jpg", None),
            ("a~partial-0a1b2c3\u{e9}.jpg", None),
            ("", None),
        ] {
            assert_eq!(read_variant(key), expected.map(|(key, variant)| (key.to_owned(), variant)), "{key}");
        }
    }

    proptest! {
        #[test]
        fn every_variant_is_read_back(file: Vec<u8>, hash in "[0-9a-f]{8}|[0-9a-f]{64}") {
            let key = layout("", "{camera}/{date}/{file}").render(&fields("C", &file));
            for variant in [Variant::Partial, Variant::Other, Variant::Whole] {
                let made = key.variant(variant, &hash);
                prop_assert_eq!(read_variant(made.as_str()), Some((key.as_str().to_owned(), variant)));
                prop_assert_eq!(read_variant(made.file()), Some((key.file().to_owned(), variant)));
            }
        }

        #[test]
        fn a_key_can_be_read_back_and_fits(camera in "[^/]{1,300}", file: Vec<u8>, prefix in "([a-z]{1,9}/)?") {
            let camera = camera_segment(camera.as_bytes());
            let layout = layout(&prefix, "{camera}/{date}/{file}");
            let key = layout.render(&fields(&camera, &file));
            prop_assert!(key.variant(Variant::Partial, &"0".repeat(64)).as_str().len() <= MAX_KEY_BYTES);
            let parts = layout.parse(key.as_str()).unwrap();
            prop_assert_eq!(parts.camera.to_string(), camera);
            prop_assert_eq!(parts.date.to_string(), "2022-02-24");
            prop_assert_eq!(parts.file.as_str(), key.file());
        }
    }
}
