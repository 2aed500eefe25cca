//! What the bucket holds: cameras, their days, and of a day the loose captures, the bundles and the indexes.
//!
//! This is the only room that puts these together. Its calls need neither a command line nor a terminal: they return
//! values, or give them out one day after the other, and tell of their progress.
//!
//! What is in a bundle is told by its index, without a look into the bundle. A capture that lies loose and in a bundle,
//! because a rotation ended between the two, is one capture: the loose one. What came of a capture that was cut off is left
//! out only if a whole one was stored later. The whole one is known by its key, because a listing shows no metadata and a
//! request for each object would be expensive. A whole one that was there before is another capture of the same name.

mod contents;
mod day;
mod error;
mod fetch;
mod list;
mod loose;
pub mod misfits;
pub mod restore;

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::bucket::Object;
use crate::bundle::Note;
use crate::key::{self, Layout, Variant};
use crate::site::Site;

pub use contents::{Contents, OpenedBundle, fetch_member, load_index, open_bundles};
pub use day::{
    ArchivedPart, BundleObject, CameraListing, Day, DayArchive, LooseDays, archive, archives, cameras, days,
    list_camera, loose, loose_days, must_exist,
};
pub use error::{HoldingsError, IndexError};
pub use fetch::{ColdHoldings, FetchError, FetchEvent, FetchOrder, Fetched, FetchedCapture, NoRoom, check_room, fetch};
pub use list::{Holding, ListedDay, Listing, Selection, UnreadBundle};
pub use loose::{Found, LooseStream, MOST_HELD, PartAt};
pub use misfits::Misfits;

/// Requests under way together: enough to hide the distance to the store.
const AT_ONCE: usize = 8;

/// What tells whether an object is the one that was bundled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectIdentity {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its `ETag`.
    pub etag: String,
}

impl ObjectIdentity {
    /// Returns the identity of an object that was listed.
    pub fn of(object: &Object) -> Self {
        Self { key: object.key.clone(), size: object.size, etag: object.etag.clone() }
    }

    /// Returns the identity that a member of a bundle had when it lay loose.
    pub fn of_note(note: &Note) -> Self {
        Self { key: note.key.clone(), size: note.size, etag: note.etag.clone() }
    }
}

/// Leaves out what came of a cut-off capture if a whole one was stored later, under its key or beside it; returns how many.
///
/// `stored` returns an item's key and when the store took it. A store that dates by the second may show both of a cut-off
/// capture and a whole one that followed within that second: neither is known to be the later one.
fn leave_out_superseded<T>(found: &mut Vec<T>, stored: impl Fn(&T) -> (&str, DateTime<Utc>)) -> usize {
    let whole_key = |item: &T| {
        let (whole, variant) = key::read_variant(stored(item).0)?;
        (variant == Variant::Partial).then_some(whole)
    };
    // The key that each cut-off capture would have had, and when the last whole one was stored there.
    let mut last_whole: HashMap<String, Option<DateTime<Utc>>> =
        found.iter().filter_map(whole_key).map(|whole| (whole, None)).collect();
    if last_whole.is_empty() {
        return 0;
    }
    for item in found.iter() {
        let (key, stored_at) = stored(item);
        let beside = key::read_variant(key).filter(|(_, variant)| *variant == Variant::Whole).map(|(first, _)| first);
        for key in [Some(key), beside.as_deref()].into_iter().flatten() {
            if let Some(last) = last_whole.get_mut(key) {
                *last = (*last).max(Some(stored_at));
            }
        }
    }
    let before = found.len();
    found.retain(|item| whole_key(item).is_none_or(|whole| last_whole[&whole] <= Some(stored(item).1)));
    before - found.len()
}

/// Returns the name of a capture: the part of its key that the layout calls so, or its last segment.
fn file_of(site: &Site, key: &str) -> String {
    if site.layouts().all(Layout::has_file_alone) {
        return last_segment(key).to_owned();
    }
    site.read_key(key).map_or_else(|| last_segment(key).to_owned(), |(_, parts)| parts.file)
}

/// Returns the last segment of a key or of a path.
fn last_segment(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
