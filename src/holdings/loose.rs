//! The loose captures of a camera by all layouts, in one stream that tells which days are complete.

use std::pin::Pin;

use chrono::NaiveDate;
use futures_util::stream::{Stream, TryStreamExt};

use super::error::HoldingsError;
use super::misfits::{Misfits, listing};
use crate::bucket::{Object, Refusal};
use crate::key::{ArchiveObject, Archived, BundleId, KeyParts, archive_key};
use crate::site::Site;

/// The most captures that are held where keys are not in the order of days: about 20 MB.
pub const MOST_HELD: usize = 50_000;

/// The loose captures of a camera, or of one of its days. Each object is found once: by the first layout that it fits.
pub struct LooseStream<'a> {
    site: &'a Site,
    camera: String,
    date: Option<NaiveDate>,
    listings: Vec<LayoutListing>,
    /// How many objects were listed.
    pub objects: u64,
    /// The objects that fit no layout.
    pub misfits: Misfits,
}

/// The listing of what one layout may have made.
struct LayoutListing {
    /// The number of the layout.
    layout: usize,
    objects: Pin<Box<dyn Stream<Item = Result<Object, Refusal>> + Send>>,
    /// Whether no earlier listing shows the same objects.
    is_first: bool,
    is_in_order: bool,
    /// The day of the last capture that came by, where keys are in the order of days.
    frontier: Option<NaiveDate>,
    ended: bool,
}

/// An object of a camera.
#[derive(Debug)]
pub enum Found {
    /// A loose capture.
    Loose(KeyParts, Object),
    /// A bundle or an index; only a stream of all days finds them.
    Archived(PartAt, Archived, Object),
}

/// A part of an archive, and where it lies: the prefix of keys may have been another one before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartAt {
    /// The part.
    pub part: BundleId,
    /// The prefix before its key.
    pub prefix: String,
}

impl PartAt {
    /// Reads the key of a bundle or of its index by the first prefix that it fits.
    pub(super) fn read(site: &Site, key: &str) -> Option<(Self, Archived)> {
        let (prefix, archived) =
            site.layouts().find_map(|layout| Some((layout.prefix(), layout.parse_archive(key)?)))?;
        Some((Self { part: archived.part.clone(), prefix: prefix.to_owned() }, archived))
    }

    /// Returns the key of its index, whether it is there or not.
    pub fn index_key(&self) -> String {
        archive_key(&self.prefix, &self.part, ArchiveObject::Index)
    }
}

impl std::fmt::Debug for LooseStream<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LooseStream").field("camera", &self.camera).field("date", &self.date).finish_non_exhaustive()
    }
}

impl<'a> LooseStream<'a> {
    /// Begins a stream; nothing is asked yet. Without a date it is of all days.
    pub fn begin(site: &'a Site, camera: &str, date: Option<NaiveDate>) -> Self {
        let mut listings = Vec::<LayoutListing>::new();
        let mut whole = Vec::new();
        for (at, layout) in site.layouts().enumerate() {
            let prefix = match date {
                Some(date) => layout.day_prefix(camera, date),
                None => layout.camera_prefix(camera),
            };
            let is_first = !whole.contains(&prefix);
            // The folders in it are listed already, or are of no concern.
            let objects: Pin<Box<dyn Stream<Item = _> + Send>> = if layout.is_flat() && (date.is_some() || !is_first) {
                Box::pin(site.bucket.objects_in_folder(&prefix))
            } else {
                Box::pin(site.bucket.objects(&prefix))
            };
            whole.push(prefix);
            let is_in_order = layout.is_in_date_order();
            listings.push(LayoutListing { layout: at, objects, is_first, is_in_order, frontier: None, ended: false });
        }
        Self { site, camera: camera.to_owned(), date, listings, objects: 0, misfits: Misfits::default() }
    }

    /// Returns the next object; `None` after the last one.
    ///
    /// # Errors
    /// [`HoldingsError::Refused`] if the camera cannot be listed further.
    pub async fn next(&mut self) -> Result<Option<Found>, HoldingsError> {
        // What is in no order first, as it is held to the end, then always what is furthest behind.
        let behind = |listing: &&mut LayoutListing| (listing.is_in_order, listing.frontier);
        while let Some(from) = self.listings.iter_mut().filter(|listing| !listing.ended).min_by_key(behind) {
            let Some(object) = from.objects.try_next().await.map_err(|error| listing(self.site, error))? else {
                from.ended = true;
                continue;
            };
            self.objects += 1;
            let is_of_day = |parts: &KeyParts| {
                parts.camera == self.camera.as_str() && self.date.is_none_or(|date| date == parts.date)
            };
            match self.site.read_key(&object.key) {
                Some((layout, parts)) if layout == from.layout => {
                    if from.is_in_order {
                        from.frontier = Some(parts.date);
                    }
                    if is_of_day(&parts) {
                        return Ok(Some(Found::Loose(parts, object)));
                    }
                }
                Some(_) => {}
                None if !from.is_first => {}
                None => match PartAt::read(self.site, &object.key) {
                    Some((at, archived)) if self.date.is_none() && at.part.camera == self.camera.as_str() => {
                        return Ok(Some(Found::Archived(at, archived, object)));
                    }
                    Some(_) => {}
                    None => self.misfits.count(&object.key),
                },
            }
        }
        Ok(None)
    }

    /// Returns whether no more captures of a day or of an earlier one can come.
    pub fn is_complete(&self, date: NaiveDate) -> bool {
        self.listings.iter().all(|listing| listing.ended || listing.frontier.is_some_and(|frontier| date < frontier))
    }

    /// Returns whether captures still come in no order of days, so that no day is complete before.
    pub fn is_in_no_order(&self) -> bool {
        self.listings.iter().any(|listing| !listing.is_in_order && !listing.ended)
    }
}
