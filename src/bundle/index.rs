//! The index of a bundle: its members, where each lies, and the checksums of all of it.

use chrono::{DateTime, FixedOffset, Utc};
use serde::{Deserialize, Serialize};

use crate::key::ArchiveFormat;
use crate::key::BundleId;

/// The version of the format of an index; an index of another version is not read.
pub const VERSION: u32 = 1;

/// A bundle and its members, as written beside it in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// The version of the format, [`VERSION`].
    pub version: u32,
    /// Camera, date and number of the bundle.
    #[serde(flatten)]
    pub part: BundleId,
    /// The bundle.
    pub bundle: Bundle,
    /// Its members in the order of the bundle: the order in which they were taken.
    pub members: Vec<Member>,
}

/// The bundle that an index describes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Its key.
    pub key: String,
    /// Its format.
    pub format: ArchiveFormat,
    /// Its size in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// The MD5 of its bytes, in hexadecimal: its `ETag` in a listing, unless a KMS key encrypts it.
    pub md5: String,
}

/// One capture in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FlatMember")]
pub struct Member {
    /// Its name in the tar.
    pub name: String,
    /// The first byte of the bundle that holds its content.
    pub offset: u64,
    /// How many bytes of the bundle hold its content: its size, or fewer if they are compressed.
    pub length: u64,
    /// Everything else that is known of it.
    #[serde(flatten)]
    pub note: Note,
}

/// What is known of a capture, wherever it lies; it goes into the bundle together with the capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The key that it had while it lay loose.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// When it was taken, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<DateTime<FixedOffset>>,
    /// The event word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// When the store took it.
    pub stored_at: DateTime<Utc>,
    /// The `ETag` that its object had: a loose object with another one has changed since.
    pub etag: String,
}

/// A member as it is read: what is flattened is read field by field only after all of it was held, which takes longer
/// than the rest of a list.
#[derive(Deserialize)]
struct FlatMember {
    name: String,
    offset: u64,
    length: u64,
    key: String,
    size: u64,
    sha256: String,
    #[serde(default)]
    taken_at: Option<DateTime<FixedOffset>>,
    #[serde(default)]
    event: Option<String>,
    stored_at: DateTime<Utc>,
    etag: String,
}

impl From<FlatMember> for Member {
    fn from(flat: FlatMember) -> Self {
        let FlatMember { name, offset, length, key, size, sha256, taken_at, event, stored_at, etag } = flat;
        Self { name, offset, length, note: Note { key, size, sha256, taken_at, event, stored_at, etag } }
    }
}

impl Index {
    /// Returns the JSON that is stored.
    ///
    /// # Errors
    /// Never in practice: strings and numbers can always be written.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads the JSON that is stored as the index of `part`, and checks that it agrees with itself.
    ///
    /// # Errors
    /// Says what is wrong with it: the index is damaged then.
    pub fn parse(text: &[u8], part: &BundleId) -> Result<Self, String> {
        let index: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if index.version != VERSION {
            return Err(format!("version {} where {VERSION} is known", index.version));
        }
        if index.part != *part {
            return Err(format!("it is of {} {} part {}", index.part.camera, index.part.date, index.part.part));
        }
        let is_inside =
            |member: &&Member| member.offset.checked_add(member.length).is_some_and(|end| end <= index.bundle.size);
        match index.members.iter().find(|member| !is_inside(member)) {
            Some(member) => Err(format!("{} lies beyond the end of the bundle", member.name)),
            None => Ok(index),
        }
    }

    /// Returns when the newest of its members was stored; `None` if it has no members.
    pub fn newest_stored(&self) -> Option<DateTime<Utc>> {
        self.members.iter().map(|member| member.note.stored_at).max()
    }
}
