//! Object keys: the bucket's layout, rendered and parsed in one place.
//!
//! A key is `{prefix}{camera}/{date}/{file}` unless `s3.key` says otherwise. The camera comes first whatever the
//! template, so that the bucket can be listed camera by camera. Every segment is made safe by [`escape`], which never
//! gives two names one spelling; [`ObjectKey::variant`] is the second key of a capture whose first one is taken or not
//! its due, and [`read_variant`] reads it back.
//!
//! A key that S3 would refuse for its length is cut and carries a hash of the whole name instead. Hashing every key
//! was rejected: people read these names.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use chrono::{DateTime, FixedOffset, NaiveDate};
use regex::Regex;
use sha2::{Digest, Sha256};

mod archive;

pub use archive::{ARCHIVE, ArchiveFormat, ArchiveObject, Archived, BundleId};

/// Longest object key in bytes of UTF-8 (S3 User Guide, "Naming Amazon S3 objects").
pub const MAX_KEY_BYTES: usize = 1024;

/// What [`ObjectKey::variant`] may add: `~partial-` and 8 hexadecimal digits.
const VARIANT_BYTES: usize = 17;

/// Longest camera segment, so that a name always has room beside it.
const MAX_CAMERA_BYTES: usize = 255;

/// Longest event or channel in a key, in bytes; the longest word that is known of a vendor has 25.
const MAX_WORD_BYTES: usize = 64;

/// Most of a template's own text, in bytes: beside a prefix of 513 bytes and the longest of all else, 27 stay for a name.
const MAX_LITERAL_BYTES: usize = 64;

/// The placeholders that a template may use.
const PLACEHOLDERS: [&str; 9] = ["camera", "date", "year", "month", "day", "hour", "event", "channel", "file"];

/// What stands for an event or a channel that a capture does not have.
const ABSENT: &str = "none";

/// The shape of object keys, such as `{camera}/{date}/{file}`.
#[derive(Debug, Clone)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
    pattern: Regex,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Placeholder(&'static str),
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Template {
    type Err = String;

    /// Checks a template; the error says what to change.
    fn from_str(text: &str) -> Result<Self, String> {
        let pieces = split(text)?;
        let has = |name| pieces.contains(&Piece::Placeholder(name));
        if !text.starts_with("{camera}/") {
            return Err("it must start with `{camera}/`; what comes before that belongs in s3.prefix".into());
        }
        if !(has("date") || has("year") && has("month") && has("day")) {
            return Err("it needs `{date}`, or `{year}`, `{month}` and `{day}`".into());
        }
        if !text.ends_with("{file}") {
            return Err("it must end with `{file}`".into());
        }
        if text.contains("//") || text.chars().any(char::is_control) {
            return Err("it must not hold an empty folder (`//`) or a control character".into());
        }
        let literal = |piece: &Piece| if let Piece::Literal(text) = piece { text.len() } else { 0 };
        if pieces.iter().map(literal).sum::<usize>() > MAX_LITERAL_BYTES {
            let most = MAX_LITERAL_BYTES;
            return Err(format!(
                "its own text must have {most} bytes at most; what all keys share belongs in s3.prefix"
            ));
        }
        for pair in pieces.windows(2) {
            if let [Piece::Placeholder(a), Piece::Placeholder(b)] = pair {
                return Err(format!("`{{{a}}}` and `{{{b}}}` need a character between them"));
            }
        }
        let mut seen = Vec::new();
        for piece in &pieces {
            if let Piece::Placeholder(name) = piece {
                if seen.contains(name) {
                    return Err(format!("`{{{name}}}` may stand only once"));
                }
                seen.push(name);
            }
        }
        let pattern = Regex::new(&pattern(&pieces)).map_err(|error| error.to_string())?;
        Ok(Self { text: text.to_owned(), pieces, pattern })
    }
}

fn split(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('{') {
            let (name, tail) = after.split_once('}').ok_or("a `{` has no `}`")?;
            let known = PLACEHOLDERS.iter().find(|known| **known == name).ok_or_else(|| {
                format!(
                    "`{{{name}}}` is no placeholder; known are {}",
                    PLACEHOLDERS.map(|p| format!("{{{p}}}")).join(" ")
                )
            })?;
            pieces.push(Piece::Placeholder(known));
            rest = tail;
        } else {
            let end = rest.find('{').unwrap_or(rest.len());
            pieces.push(Piece::Literal(rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    if pieces.iter().any(|piece| matches!(piece, Piece::Literal(text) if text.contains('}'))) {
        return Err("a `}` has no `{`".into());
    }
    Ok(pieces)
}

fn pattern(pieces: &[Piece]) -> String {
    let body: String = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Literal(text) => regex::escape(text),
            Piece::Placeholder("date") => "(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})".into(),
            Piece::Placeholder("year") => "(?P<year>[0-9]{4})".into(),
            Piece::Placeholder(name @ ("month" | "day" | "hour")) => format!("(?P<{name}>[0-9]{{2}})"),
            Piece::Placeholder(name) => format!("(?P<{name}>[^/]+)"),
        })
        .collect();
    format!("^{body}$")
}

/// The layout of one bucket: a prefix and a [`Template`].
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    prefix: String,
    template: Template,
}

/// What a key says of its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyParts {
    /// The camera's segment.
    pub camera: String,
    /// The capture's own date at the camera.
    pub date: NaiveDate,
    /// The last segment.
    pub file: String,
}

/// What [`Layout::render`] needs of a capture; its words are [`escape`]d already.
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
    /// The source's name, raw.
    pub file: &'a [u8],
}

impl Layout {
    /// A layout with `prefix` (empty, or ending with `/`) before every key.
    pub fn new(prefix: &str, template: Template) -> Self {
        Self { prefix: prefix.to_owned(), template }
    }

    /// The prefix before every key: empty, or ending with `/`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key of a capture; at most [`MAX_KEY_BYTES`] long, with room left for a variant.
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

    /// Reads a key back; `None` for an object that is not laid out this way (an archive, a stranger's file).
    pub fn parse(&self, key: &str) -> Option<KeyParts> {
        let key = key.strip_prefix(&self.prefix)?;
        let found = self.template.pattern.captures(key)?;
        // What lies in a camera's archive is no capture, whatever the template.
        if key[found["camera"].len()..].starts_with("/archive/") {
            return None;
        }
        let number = |name| found.name(name).and_then(|m| m.as_str().parse::<u32>().ok());
        let date = match found.name("date") {
            Some(date) => date.as_str().parse().ok()?,
            None => NaiveDate::from_ymd_opt(i32::try_from(number("year")?).ok()?, number("month")?, number("day")?)?,
        };
        Some(KeyParts { camera: found["camera"].to_owned(), date, file: found["file"].to_owned() })
    }

    /// What every key of `camera` starts with.
    pub fn camera_prefix(&self, camera: &str) -> String {
        format!("{}{camera}/", self.prefix)
    }

    /// What every key of one camera-day starts with: as much of the template as a camera and a date decide.
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

    /// Whether the folder below a camera is its date, so that days can be listed by delimiter.
    pub fn has_date_folders(&self) -> bool {
        self.template.text.starts_with("{camera}/{date}/")
    }
}

fn segment(value: Option<&str>) -> String {
    value.map_or_else(|| ABSENT.to_owned(), |value| bounded(value, MAX_WORD_BYTES))
}

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

impl From<String> for ObjectKey {
    /// Takes a key as it is.
    fn from(key: String) -> Self {
        Self(key)
    }
}

impl ObjectKey {
    /// The whole key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    pub fn file(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The key beside this one, with a mark before the extension: where a capture goes that this one cannot hold.
    /// `hash` is 8 hexadecimal digits of its SHA-256.
    #[must_use]
    pub fn variant(&self, variant: Variant, hash: &str) -> Self {
        let (stem, extension) = split_extension(&self.0);
        let mark = if variant == Variant::Partial { PARTIAL } else { "" };
        Self(format!("{stem}~{mark}{hash}{extension}"))
    }
}

/// Before the hash of what is a [`Variant::Partial`].
const PARTIAL: &str = "partial-";

/// What lies beside the key that it would have had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// What came of a capture that was cut off: `~partial-` and 8 hexadecimal digits of its SHA-256.
    Partial,
    /// A whole capture whose own key held other bytes: `~` and the digits. A name that was cut to fit looks the same.
    Whole,
}

/// Takes back [`ObjectKey::variant`], of a key or its last segment: what it was made from, and why.
pub fn read_variant(key: &str) -> Option<(String, Variant)> {
    let (stem, extension) = split_extension(key);
    let (stem, tag) = stem.rsplit_once('~').filter(|(stem, _)| !stem.is_empty() && !stem.ends_with('/'))?;
    let (hash, variant) = match tag.strip_prefix(PARTIAL) {
        Some(hash) => (hash, Variant::Partial),
        None => (tag, Variant::Whole),
    };
    let is_hash = hash.len() == 8 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hash.then(|| (format!("{stem}{extension}"), variant))
}

/// What all keys of one capture have in common: a key without any mark of [`ObjectKey::variant`].
pub fn root(key: &str) -> String {
    let mut root = key.to_owned();
    while let Some((before, _)) = read_variant(&root) {
        root = before;
    }
    root
}

/// A key without its extension: what all variants of a [`root`] begin with.
pub fn stem(key: &str) -> &str {
    split_extension(key).0
}

/// Splits a key before the extension of its last segment; a name that begins with its only dot has none.
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

/// Makes the camera's segment of a key out of a folder or device name.
pub fn camera_segment(raw: &[u8]) -> String {
    let text = escape(raw);
    if text.len() <= MAX_CAMERA_BYTES { text } else { bounded(&text, MAX_CAMERA_BYTES) }
}

/// Spells any bytes as one safe segment of a key; two different inputs never give one output.
///
/// Text stays as it is. Bytes that are not UTF-8, control characters and those that turn the direction of writing, `/`,
/// and the two code points that XML cannot carry (a listing would break) become `%XX` in upper case, and so does a `%`
/// that already looks like that. A name of dots alone is spelt with `%2E`, because HTTP clients resolve `..` in a path.
/// Nothing gives `%`.
pub fn escape(raw: &[u8]) -> String {
    let plain = |byte: &u8| matches!(byte, b' '..=b'$' | b'&'..=b'-' | b'0'..=b'~');
    match str::from_utf8(raw) {
        // Nearly every name. What follows gives the same, more slowly.
        Ok(text) if raw.iter().all(|byte| plain(byte) || *byte == b'.') && raw.iter().any(plain) => text.to_owned(),
        _ => escape_any(raw),
    }
}

fn escape_any(raw: &[u8]) -> String {
    let only_dots = raw.iter().all(|byte| *byte == b'.');
    let mut text = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        let valid = chunk.valid();
        for (at, character) in valid.char_indices() {
            let unsafe_here = match character {
                '%' => looks_escaped(&valid.as_bytes()[at + 1..]) || raw.len() == 1,
                '.' => only_dots,
                '/' | '\u{fffe}' | '\u{ffff}' => true,
                other => plays_tricks(other),
            };
            if unsafe_here {
                push_escaped(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(character);
            }
        }
        push_escaped(&mut text, chunk.invalid());
    }
    if text.is_empty() { "%".to_owned() } else { text }
}

/// Whether a character makes a terminal do or show something else than what is written: control characters, separators
/// of lines, and what embeds, overrides or isolates a direction (Unicode Standard Annex #9, 2.1 to 2.4).
pub fn plays_tricks(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Spells a path below the drop folder as text: [`escape`] for each of its parts.
pub fn escape_path(path: &Path) -> String {
    let parts: Vec<String> = path.iter().map(|part| escape(part.as_encoded_bytes())).collect();
    parts.join("/")
}

fn looks_escaped(after: &[u8]) -> bool {
    let hex = |byte: &u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(byte);
    // A `%` at the end of a valid chunk could be completed by an escaped byte only if that began with a digit, and
    // an escape always begins with `%`: two characters decide.
    after.len() >= 2 && after[..2].iter().all(hex)
}

fn push_escaped(text: &mut String, bytes: &[u8]) {
    text.extend(bytes.iter().map(|byte| format!("%{byte:02X}")));
}

/// Cuts `name` to `max` bytes, keeping its extension, and marks the cut with a hash of the whole name.
pub fn bounded(name: &str, max: usize) -> String {
    if name.len() <= max {
        return name.to_owned();
    }
    let hash = hex::encode(Sha256::digest(name.as_bytes()));
    let extension = name.rfind('.').map(|at| &name[at..]).filter(|extension| extension.len() <= 16).unwrap_or_default();
    let mut keep = max.saturating_sub(extension.len() + 9);
    while !name.is_char_boundary(keep) {
        keep -= 1;
    }
    format!("{}~{}{extension}", &name[..keep], &hash[..8])
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
    fn wrong_templates_say_what_to_change() {
        for (text, hint) in [
            ("{date}/{file}", "must start with `{camera}/`"),
            ("{camera}/{file}", "needs `{date}`"),
            ("{camera}/{date}/x", "must end with `{file}`"),
            ("{camera}/{date}{file}", "need a character between them"),
            ("{camera}/{dat}/{date}/{file}", "`{dat}` is no placeholder"),
            ("{camera}/{date}/{date}/{file}", "only once"),
            ("{camera}//{date}/{file}", "empty folder"),
            ("{camera}/{date}/{file", "has no `}`"),
            ("{camera}/}{date}/{file}", "has no `{`"),
        ] {
            let error = text.parse::<Template>().unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
        let error = format!("{{camera}}/{}/{{date}}/{{file}}", "l".repeat(62)).parse::<Template>().unwrap_err();
        assert!(error.contains("64 bytes at most"), "{error}");
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
        let longest = key.variant(Variant::Partial, "12345678");
        assert!(longest.as_str().len() <= MAX_KEY_BYTES, "{} bytes: {longest}", longest.as_str().len());
        assert_eq!(layout(&prefix, &template).parse(longest.as_str()).unwrap().camera, camera);
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

    #[test]
    fn names_are_spelt_safely() {
        for (raw, expected) in [
            (&b"plain name.jpg"[..], "plain name.jpg"),
            (b"a\nb\x1b[31m.jpg", "a%0Ab%1B[31m.jpg"),
            (b"caf\xe9.jpg", "caf%E9.jpg"),
            (b"..", "%2E%2E"),
            (b"100%0A", "100%250A"),
            (b"Back_Wall%Cam", "Back_Wall%Cam"),
            (b"-rf", "-rf"),
            (b"", "%"),
            (b"%", "%25"),
        ] {
            assert_eq!(escape(raw), expected);
        }
    }

    proptest! {
        #[test]
        fn two_names_never_share_a_spelling(a: Vec<u8>, b: Vec<u8>) {
            prop_assert_eq!(a == b, escape(&a) == escape(&b));
            prop_assert_eq!(escape(&a), escape_any(&a));
        }

        #[test]
        fn what_needs_no_escape_is_left_alone_by_either_way(name in "[ -~]{0,6}") {
            prop_assert_eq!(escape(name.as_bytes()), escape_any(name.as_bytes()));
        }

        #[test]
        fn percent_signs_stay_apart(a in "[%0-9A-F./\n]{0,5}", b in "[%0-9A-F./\n]{0,5}") {
            prop_assert_eq!(a == b, escape(a.as_bytes()) == escape(b.as_bytes()));
        }

        #[test]
        fn every_variant_is_read_back(file: Vec<u8>, hash in "[0-9a-f]{8}") {
            let key = layout("", "{camera}/{date}/{file}").render(&fields("C", &file));
            for variant in [Variant::Partial, Variant::Whole] {
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
            prop_assert!(key.variant(Variant::Partial, "12345678").as_str().len() <= MAX_KEY_BYTES);
            let parts = layout.parse(key.as_str()).unwrap();
            prop_assert_eq!(parts.camera, camera);
            prop_assert_eq!(parts.date.to_string(), "2022-02-24");
            prop_assert_eq!(parts.file.as_str(), key.file());
        }
    }
}
