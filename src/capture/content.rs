//! When was it taken? Told by the content, where the path does not tell.

use chrono::{DateTime, FixedOffset, NaiveDateTime};

/// A time that a file's content tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentTime {
    /// A camera's wall clock, without a zone.
    Wall(NaiveDateTime),
    /// An instant.
    At(DateTime<FixedOffset>),
}

/// Stub until the merge.
pub fn taken(_file: &mut std::fs::File) -> std::io::Result<Option<ContentTime>> {
    Ok(None)
}
