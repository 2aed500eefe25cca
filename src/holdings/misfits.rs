//! Objects that fit no layout: those of other programs, and captures whose keys had another shape before.

use futures_util::stream::{Stream, TryStreamExt};
use serde::Serialize;

use super::error::HoldingsError;
use crate::bucket::{Entry, Object, PROBE, Refusal};
use crate::key::{self, ARCHIVE, CameraName, HEARTBEATS};
use crate::site::Site;

/// How many objects of a folder are looked at: a page of a listing.
const MOST_COUNTED: usize = 1000;

/// Objects that fit no layout.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Misfits {
    /// Their number.
    pub objects: u64,
    /// Whether there may be more than these.
    pub more: bool,
    /// The key of the first.
    pub first: Option<String>,
}

impl Misfits {
    /// Counts an object.
    pub fn count(&mut self, key: &str) {
        if key.ends_with(PROBE) || key.ends_with('/') || key::is_heartbeat(key) {
            return;
        }
        self.objects += 1;
        self.first.get_or_insert_with(|| key.to_owned());
    }

    /// Adds others.
    pub fn add(&mut self, others: Self) {
        self.objects += others.objects;
        self.more |= others.more;
        self.first = self.first.take().or(others.first);
    }

    /// Returns one line about them; `None` if there are none.
    pub fn line(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        // Anybody who can store an object there chooses its key.
        let first = key::printable(first);
        let (objects, more) = (self.objects, if self.more { " or more" } else { "" });
        let fit = if objects == 1 && !self.more { "object fits" } else { "objects fit" };
        Some(format!(
            "{objects}{more} {fit} no layout of keys, such as {first}: if these are captures, name the shape of their keys in \
             s3.former_keys"
        ))
    }

    /// Counts those directly in a folder, and those in folders below it that are not `known` by their names.
    async fn look_around(
        &mut self,
        site: &Site,
        folder: &str,
        known: impl Fn(&str) -> bool,
    ) -> Result<(), HoldingsError> {
        let mut entries = std::pin::pin!(site.bucket.entries(folder));
        while let Some(entry) = entries.try_next().await.map_err(|error| listing(site, error))? {
            match entry {
                Entry::Object(object) if !site.reads(&object.key) => self.count(&object.key),
                Entry::Object(_) => {}
                Entry::Folder(below) if known(below[folder.len()..].trim_end_matches('/')) => {}
                Entry::Folder(below) => self.look(site, site.bucket.objects(&below)).await?,
            }
        }
        Ok(())
    }

    /// Counts those among the first objects of a listing.
    async fn look(
        &mut self,
        site: &Site,
        objects: impl Stream<Item = Result<Object, Refusal>>,
    ) -> Result<(), HoldingsError> {
        let mut objects = std::pin::pin!(objects);
        let mut seen = 0;
        while let Some(object) = objects.try_next().await.map_err(|error| listing(site, error))? {
            if !site.reads(&object.key) {
                self.count(&object.key);
            }
            seen += 1;
            if seen == MOST_COUNTED {
                self.more = true;
                break;
            }
        }
        Ok(())
    }
}

/// Looks for misfits beside the folders of `cameras`, which are all in the bucket; where there is none, in the whole bucket.
/// At most 1,000 objects of a folder are looked at.
///
/// # Errors
/// [`HoldingsError::Refused`] if the bucket cannot be listed.
pub async fn beside_cameras(site: &Site, cameras: &[CameraName]) -> Result<Misfits, HoldingsError> {
    let mut misfits = Misfits::default();
    if cameras.is_empty() {
        misfits.look(site, site.bucket.objects("")).await?;
        return Ok(misfits);
    }
    for prefix in site.prefixes().keys() {
        let is_camera = |folder: &str| folder == HEARTBEATS || CameraName::read(folder).is_some();
        misfits.look_around(site, prefix, is_camera).await?;
    }
    Ok(misfits)
}

/// Looks for misfits in a camera's folders, without a look into those that are days. At most 1,000 objects of a folder are
/// looked at.
///
/// # Errors
/// [`HoldingsError::Refused`] if the camera cannot be listed.
pub async fn of_camera(site: &Site, camera: &str) -> Result<Misfits, HoldingsError> {
    let mut misfits = Misfits::default();
    for (prefix, layout) in site.prefixes() {
        let below = layout.camera_prefix(camera);
        let by_date = || site.layouts().filter(|layout| layout.prefix() == prefix && layout.has_date_folders());
        let is_day = |folder: &str| by_date().any(|layout| layout.parse(&format!("{below}{folder}/file")).is_some());
        misfits.look_around(site, &below, |folder| folder == ARCHIVE || is_day(folder)).await?;
    }
    Ok(misfits)
}

/// Returns the error of a listing, with the bucket that it is about.
pub(super) fn listing(site: &Site, refusal: Refusal) -> HoldingsError {
    HoldingsError::from(refusal).about(site.bucket.describe())
}
