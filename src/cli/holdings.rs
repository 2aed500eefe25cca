//! `cameras`, `days`, `list`, `get`: what the bucket holds, loose and in bundles alike.
//!
//! What came of a capture that was cut off is shown, and downloaded with its day, only where no whole one followed. The
//! whole one is known by its key, because a listing tells nothing of metadata and a request for each would be dear.
//!
//! What is in a bundle is told by its index, without a look into the bundle. A capture that lies loose and in a bundle,
//! because a run ended between the two, is one capture: the loose one.

use std::collections::{BTreeSet, HashSet};

use anyhow::{Context as _, bail};
use chrono::NaiveDate;
use futures_util::StreamExt;
use serde::Serialize;

use super::{Day, Out, Partly, parse_date, plain, size, tell};
use crate::archive::{self, Index, Shelf};
use crate::bucket::Object;
use crate::key::ArchiveFormat;
use crate::key::{self, ARCHIVE, BundleId, KeyParts, Variant};
use crate::rotate;
use crate::site::Site;

mod get;
mod list;
mod place;
mod unpack;

pub(super) use get::{Get, Order, Tally, check_room, fetch};
pub(super) use list::List;

/// Requests at the same time: more hide the way to the store and nothing else.
const AT_ONCE: usize = 8;

pub(super) async fn cameras(out: &Out, site: &Site) -> anyhow::Result<()> {
    let cameras = rotate::cameras(site).await?;
    for camera in &cameras {
        #[derive(Serialize)]
        struct Camera<'a> {
            camera: &'a str,
        }
        out.item(&Camera { camera }, plain(camera))?;
    }
    if cameras.is_empty() {
        out.remark(format_args!("no camera in {}", site.bucket.describe()));
    }
    Ok(())
}

pub(super) async fn days(out: &Out, site: &Site, camera: &str) -> anyhow::Result<()> {
    let prefix = site.layout.camera_prefix(camera);
    let mut dates = BTreeSet::new();
    let mut archived = true;
    if site.layout.has_date_folders() {
        let folders = folders(site, &prefix).await?;
        archived = folders.iter().any(|folder| folder[prefix.len()..].trim_end_matches('/') == ARCHIVE);
        // A stranger's folder may look like a date; a capture in it would have to parse as one.
        let parts = |folder: &String| site.layout.parse(&format!("{folder}file"));
        dates.extend(folders.iter().filter_map(parts).map(|parts| parts.date));
    } else {
        let mut captures = Captures::below(site, prefix);
        while let Some(page) = captures.next().await? {
            dates.extend(page.into_iter().map(|(parts, _)| parts.date));
        }
    }
    if archived {
        let shelves = archive::shelves(site, camera).await?;
        dates.extend(shelves.into_iter().filter(|(_, shelf)| has_bundle(shelf)).map(|(date, _)| date));
    }
    if dates.is_empty() {
        bail!("the bucket holds no captures of {camera}; `hk-aws cameras` lists those it has");
    }
    for date in dates {
        #[derive(Serialize)]
        struct Date<'a> {
            camera: &'a str,
            date: NaiveDate,
        }
        out.item(&Date { camera, date }, date)?;
    }
    Ok(())
}

async fn folders(site: &Site, prefix: &str) -> anyhow::Result<Vec<String>> {
    let (mut folders, mut from) = (Vec::new(), None);
    loop {
        let page = site.bucket.list(prefix, true, from).await.with_context(|| site.bucket.describe())?;
        folders.extend(page.folders);
        from = page.next;
        if from.is_none() {
            return Ok(folders);
        }
    }
}

/// The loose captures below a prefix, page by page, in the order of their keys.
struct Captures<'a> {
    site: &'a Site,
    prefix: String,
    from: Option<String>,
    ended: bool,
}

impl<'a> Captures<'a> {
    fn below(site: &'a Site, prefix: String) -> Self {
        Self { site, prefix, from: None, ended: false }
    }

    async fn next(&mut self) -> anyhow::Result<Option<Vec<(KeyParts, Object)>>> {
        if self.ended {
            return Ok(None);
        }
        let Site { bucket, layout, .. } = self.site;
        let page = bucket.list(&self.prefix, false, self.from.take()).await.with_context(|| bucket.describe())?;
        (self.ended, self.from) = (page.next.is_none(), page.next);
        let captures = page.objects.into_iter().filter_map(|object| Some((layout.parse(&object.key)?, object)));
        Ok(Some(captures.collect()))
    }
}

/// A bundle, and what is known of its members.
struct Bundle {
    object: Object,
    format: ArchiveFormat,
    content: Content,
}

/// What is known of a bundle's members.
enum Content {
    Known(Index),
    /// There is no index: the scripts that came before wrote none, or somebody removed it.
    NoIndex,
    /// The index cannot be read.
    Unread(anyhow::Error),
}

fn has_bundle(shelf: &Shelf) -> bool {
    shelf.parts.values().any(|held| held.bundle.is_some())
}

/// The bundles of a day, with their indexes.
async fn open(site: &Site, shelf: Shelf) -> Vec<Bundle> {
    let held = shelf.parts.into_iter().filter_map(|(part, held)| {
        let (object, format) = held.bundle?;
        Some((part, object, format, held.index.is_some()))
    });
    let opened = futures_util::stream::iter(held).map(|(part, object, format, has_index)| async move {
        let members = if has_index { read_index(site, &part, &object, format).await } else { Content::NoIndex };
        Bundle { object, format, content: members }
    });
    opened.buffered(AT_ONCE).collect().await
}

async fn read_index(site: &Site, part: &BundleId, object: &Object, format: ArchiveFormat) -> Content {
    match archive::load_index(site, part).await {
        Ok(index) if index.bundle.format != format => {
            Content::Unread(anyhow::anyhow!("the index of {} is damaged: it describes another bundle", object.key))
        }
        Ok(mut index) => {
            // Where a bucket was copied below another prefix, the bundle moved with its index.
            index.bundle.key.clone_from(&object.key);
            Content::Known(index)
        }
        Err(error) => Content::Unread(error),
    }
}

/// What an object is known by to be the one that was bundled: its key, size and `ETag`.
type Identity = (String, u64, String);

/// Leaves out what came of a cut-off capture where a whole one with its key, or beside that, is there as well; says how
/// many.
fn leave_out_superseded<T>(found: &mut Vec<T>, key: impl Fn(&T) -> &str) -> usize {
    let whole_key = |item: &T| key::read_variant(key(item)).filter(|(_, variant)| *variant == Variant::Partial);
    let mut alone: HashSet<String> = found.iter().filter_map(whole_key).map(|(whole, _)| whole).collect();
    if alone.is_empty() {
        return 0;
    }
    for item in found.iter() {
        alone.remove(key(item));
        if let Some((first, Variant::Whole)) = key::read_variant(key(item)) {
            alone.remove(&first);
        }
    }
    let before = found.len();
    found.retain(|item| whole_key(item).is_none_or(|(whole, _)| alone.contains(&whole)));
    before - found.len()
}

/// The last segment of a key or of a path.
fn last_segment(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `1 capture`, `2 captures`.
fn captures(number: usize) -> String {
    count(number, "capture")
}

/// A number with its noun.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
