//! The index of a bundle: what is in it, where, and how to know that it is whole.

use chrono::{DateTime, FixedOffset, Utc};
use serde::{Deserialize, Serialize};

use crate::key::ArchiveFormat;
use crate::key::BundleId;

/// The version of what is written; another one is not read.
pub const VERSION: u32 = 1;

/// A bundle and its members, as written beside it in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// [`VERSION`].
    pub version: u32,
    /// Camera, date and number.
    #[serde(flatten)]
    pub part: BundleId,
    /// The bundle.
    pub bundle: Bundle,
    /// In the order of the bundle, which is that of time.
    pub members: Vec<Member>,
}

/// The bundle of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Its key.
    pub key: String,
    /// Its format.
    pub format: ArchiveFormat,
    /// Bytes.
    pub size: u64,
    /// Of its bytes, in hexadecimal.
    pub sha256: String,
    /// Of its bytes, in hexadecimal: what a listing shows as its `ETag` where no KMS key is used.
    pub md5: String,
}

/// One capture in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name in the tar.
    pub name: String,
    /// Where the bytes of the bundle begin that hold its content.
    pub offset: u64,
    /// How many bytes of the bundle hold its content: its size, or less where they are compressed.
    pub length: u64,
    /// What else is known of it.
    #[serde(flatten)]
    pub note: Note,
}

/// What is known of a capture besides its place; it goes with it into the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The key it had.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Of its bytes, in hexadecimal.
    pub sha256: String,
    /// When it was taken, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<DateTime<FixedOffset>>,
    /// The event word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// When the store took it.
    pub stored_at: DateTime<Utc>,
    /// The `ETag` of the object that it was, by which that is known to be unchanged.
    pub etag: String,
}

impl Index {
    /// The JSON that is stored.
    ///
    /// # Errors
    /// None that comes about: strings and numbers can be written.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads what is stored as the index of `part`, and holds it against itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8], part: &BundleId) -> Result<Self, String> {
        let index: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if index.version != VERSION {
            return Err(format!("version {} where {VERSION} is known", index.version));
        }
        if index.part != *part {
            return Err(format!("it is of {} {} part {}", index.part.camera, index.part.date, index.part.part));
        }
        let is_inside = |member: &&Member| member.offset.checked_add(member.length) <= Some(index.bundle.size);
        match index.members.iter().find(|member| !is_inside(member)) {
            Some(member) => Err(format!("{} lies beyond the end of the bundle", member.name)),
            None => Ok(index),
        }
    }

    /// When the newest of its members was stored; `None` where it has none.
    pub fn newest_stored(&self) -> Option<DateTime<Utc>> {
        self.members.iter().map(|member| member.note.stored_at).max()
    }
}
