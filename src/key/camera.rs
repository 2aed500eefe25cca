//! The name of a camera, as it stands in keys and in the names of folders.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::camera_segment;
use super::heartbeat::HEARTBEATS;
use super::spelling::{MAX_CAMERA_BYTES, plays_tricks};

/// The name of a camera: one segment of a key.
///
/// Whoever can write to the bucket chooses names there. None that this type holds leads out of a folder or plays tricks on
/// a terminal, so a folder of another name is no camera.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CameraName(String);

impl CameraName {
    /// Spells any name as that of a camera; a name that needs no escape stays as it is.
    pub fn spell(name: &str) -> Self {
        Self(camera_segment(name.as_bytes()))
    }

    /// Takes a name as it stands in the bucket; `None` if it cannot be that of a camera.
    pub fn read(name: &str) -> Option<Self> {
        let is_safe = |character| character != '/' && !plays_tricks(character);
        let is_name =
            name.len() <= MAX_CAMERA_BYTES && name.bytes().any(|byte| byte != b'.') && name.chars().all(is_safe);
        (is_name && name != HEARTBEATS).then(|| Self(name.to_owned()))
    }
}

impl FromStr for CameraName {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::read(name).ok_or("no camera can have this name")
    }
}

impl TryFrom<String> for CameraName {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl From<CameraName> for String {
    fn from(name: CameraName) -> Self {
        name.0
    }
}

impl Deref for CameraName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for CameraName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for CameraName {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for CameraName {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl fmt::Display for CameraName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_name_leads_out_of_a_folder_or_plays_tricks() {
        for name in
            ["", ".", "..", "...", "a/b", "/", "a\nb", "a\0b", "\u{1b}[2J", "a\u{9b}31m", "a\u{202e}b", HEARTBEATS]
        {
            assert_eq!(CameraName::read(name), None, "{name:?}");
            assert!(serde_json::from_value::<CameraName>(name.into()).is_err(), "{name:?}");
        }
        assert_eq!(CameraName::read(&"x".repeat(256)), None);
        for name in ["CAM-EXT-001", ".hidden", "Back yard", "c%FFm", "..%", "caf\u{e9}", "-rf"] {
            assert_eq!(CameraName::read(name).unwrap(), name);
        }
    }

    proptest! {
        #[test]
        fn every_spelling_is_a_name_and_a_name_is_spelt_as_it_is(any: String, bytes: Vec<u8>) {
            prop_assert!(CameraName::read(&CameraName::spell(&any)).is_some());
            prop_assert!(CameraName::read(&camera_segment(&bytes)).is_some());
        }
    }
}
