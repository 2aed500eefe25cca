//! The keys of bundles and their indexes: `CAMERA/archive/DATE.tar`, `DATE.part2.tar`, and `DATE.index.json` beside them.
//!
//! This is the layout of the scripts that this project succeeds; their `archive/DATE.tar.gz` have no index.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::{CameraName, Layout};

/// The folder below a camera that holds its bundles.
pub const ARCHIVE: &str = "archive";

/// The file format of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArchiveFormat {
    /// `tar`; its members can be read one by one.
    #[serde(rename = "tar")]
    Tar,
    /// `tar.gz`
    #[serde(rename = "tar.gz")]
    TarGz,
    /// `tar.zst`
    #[serde(rename = "tar.zst")]
    TarZst,
}

/// Names one part of a camera-day's bundle. A large day has several parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BundleId {
    /// The camera's segment.
    pub camera: CameraName,
    /// The day.
    pub date: NaiveDate,
    /// The number of the part, from 1.
    pub part: u32,
}

/// The kinds of objects in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveObject {
    /// A bundle.
    Bundle(ArchiveFormat),
    /// The index of a bundle.
    Index,
}

/// The parts of an archive's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// The part of the camera-day's bundle.
    pub part: BundleId,
    /// Whether it is the bundle or its index.
    pub what: ArchiveObject,
}

impl ArchiveFormat {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Tar, Self::TarGz, Self::TarZst];

    /// Returns the extension of file names, without the leading dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::TarGz => "tar.gz",
            Self::TarZst => "tar.zst",
        }
    }
}

/// Returns the key of a bundle or of its index after `prefix`, which is empty or ends with `/`.
pub fn archive_key(prefix: &str, part: &BundleId, what: ArchiveObject) -> String {
    let number = if part.part == 1 { String::new() } else { format!(".part{}", part.part) };
    let extension = match what {
        ArchiveObject::Bundle(format) => format.extension(),
        ArchiveObject::Index => "index.json",
    };
    format!("{prefix}{}/{ARCHIVE}/{}{number}.{extension}", part.camera, part.date)
}

impl Layout {
    /// Returns the prefix of all keys in a camera's archive.
    pub fn archive_prefix(&self, camera: &str) -> String {
        format!("{}{ARCHIVE}/", self.camera_prefix(camera))
    }

    /// Returns the key of a bundle or of its index.
    pub fn archive_key(&self, part: &BundleId, what: ArchiveObject) -> String {
        archive_key(&self.prefix, part, what)
    }

    /// Reads the key of a bundle or of its index; `None` for any other key.
    pub fn parse_archive(&self, key: &str) -> Option<Archived> {
        let (camera, file) = key.strip_prefix(&self.prefix)?.split_once('/')?;
        let file = file.strip_prefix(ARCHIVE)?.strip_prefix('/')?;
        let (date, rest) = file.split_at_checked(10)?;
        let date: NaiveDate = date.parse().ok().filter(|parsed: &NaiveDate| parsed.to_string() == date)?;
        let rest = rest.strip_prefix('.')?;
        let (part, extension) = match rest.strip_prefix("part").and_then(|rest| rest.split_once('.')) {
            Some((number, extension)) => {
                let part = number.parse().ok().filter(|part: &u32| *part > 1 && part.to_string() == number)?;
                (part, extension)
            }
            None => (1, rest),
        };
        let bundle =
            ArchiveFormat::ALL.into_iter().find(|format| format.extension() == extension).map(ArchiveObject::Bundle);
        let what = bundle.or((extension == "index.json").then_some(ArchiveObject::Index))?;
        Some(Archived { part: BundleId { camera: CameraName::read(camera)?, date, part }, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_bundles_are_read_back_and_nothing_else_is() {
        let layout = Layout::new("site/", "{camera}/{date}/{file}".parse().unwrap());
        let date = NaiveDate::from_ymd_opt(2022, 2, 24).unwrap();
        for (part, what, expected) in [
            (1, ArchiveObject::Bundle(ArchiveFormat::Tar), "site/CAM/archive/2022-02-24.tar"),
            (1, ArchiveObject::Index, "site/CAM/archive/2022-02-24.index.json"),
            (2, ArchiveObject::Bundle(ArchiveFormat::TarZst), "site/CAM/archive/2022-02-24.part2.tar.zst"),
            (12, ArchiveObject::Index, "site/CAM/archive/2022-02-24.part12.index.json"),
        ] {
            let part = BundleId { camera: CameraName::spell("CAM"), date, part };
            assert_eq!(layout.archive_key(&part, what), expected);
            assert_eq!(layout.parse_archive(expected), Some(Archived { part, what }));
            assert_eq!(layout.parse(expected), None);
        }
        for stranger in [
            "CAM/archive/2022-02-24.tar",
            "site/CAM/archive/2022-02-30.tar",
            "site/CAM/archive/2022-02-24.part1.tar",
            "site/CAM/archive/2022-02-24.part02.tar",
            "site/CAM/archive/2022-02-24.zip",
            "site/CAM/archive/2022-02-24",
            "site/CAM/archive/deeper/2022-02-24.tar",
            "site/CAM/2022-02-24/x.jpg",
        ] {
            assert_eq!(layout.parse_archive(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn nothing_in_an_archive_is_a_capture_whatever_the_template() {
        let layout = Layout::new("", "{camera}/{event}/{date}.{file}".parse().unwrap());
        assert_eq!(layout.parse("CAM/archive/2022-02-24.tar"), None);
        assert!(layout.parse("CAM/MOTION/2022-02-24.tar").is_some());
    }
}
