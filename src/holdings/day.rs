//! A camera-day: its loose captures, its bundles and their indexes, and the listings that find them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use futures_util::stream::{StreamExt, TryStreamExt};

use super::loose::{Found, LooseStream, PartAt};
use super::misfits::listing;
use super::{AT_ONCE, HoldingsError, Misfits};
use crate::bucket::Object;
use crate::config;
use crate::key::{ARCHIVE, ArchiveFormat, ArchiveObject, CameraName};
use crate::site::Site;

/// What the bucket holds of a camera-day.
#[derive(Debug, Clone, Default)]
pub struct Day {
    /// The captures that lie loose, in the order of their keys.
    pub loose: Vec<Object>,
    /// The bundles and their indexes.
    pub archive: DayArchive,
}

/// The archive of one camera-day.
#[derive(Debug, Clone, Default)]
pub struct DayArchive {
    /// Its parts, by number.
    pub parts: BTreeMap<PartAt, ArchivedPart>,
}

/// One part of an archive: a bundle and its index, and archives of other programs that have the same name in another
/// format.
#[derive(Debug, Clone, Default)]
pub struct ArchivedPart {
    /// The bundles, one of each format at most, in the order of their keys. Of several, the index tells which one it
    /// describes; the others are archives of other programs, such as the scripts that came before this one. If there is
    /// none, the index is an intention that the next run carries out.
    pub bundles: Vec<BundleObject>,
    /// The index; the scripts that came before this program wrote none.
    pub index: Option<Object>,
}

/// A bundle, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleObject {
    /// The object.
    pub object: Object,
    /// Its format.
    pub format: ArchiveFormat,
}

/// All days of one camera, from one listing of it.
#[derive(Debug, Default)]
pub struct CameraListing {
    /// The archive, by day.
    pub archives: BTreeMap<NaiveDate, DayArchive>,
    /// How many objects were listed.
    pub objects: u64,
    /// Those of them that fit no layout.
    pub misfits: Misfits,
}

impl DayArchive {
    /// Returns the highest number that a part has; 0 if there is no part.
    pub fn last_part(&self) -> u32 {
        self.parts.keys().map(|at| at.part.part).max().unwrap_or(0)
    }

    /// Returns all bundles and indexes.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.parts.values().flat_map(|part| part.bundles.iter().map(|bundle| &bundle.object).chain(&part.index))
    }

    /// Returns whether there is a bundle, and not only an index.
    pub fn has_bundle(&self) -> bool {
        self.parts.values().any(|part| !part.bundles.is_empty())
    }

    fn insert(&mut self, at: PartAt, what: ArchiveObject, object: Object) {
        let part = self.parts.entry(at).or_default();
        match what {
            ArchiveObject::Bundle(format) => part.bundles.push(BundleObject { object, format }),
            ArchiveObject::Index => part.index = Some(object),
        }
    }
}

impl ArchivedPart {
    /// Returns the bundle of this format: the one that an index with this format describes.
    pub fn bundle_in(&self, format: ArchiveFormat) -> Option<&BundleObject> {
        self.bundles.iter().find(|bundle| bundle.format == format)
    }
}

impl Day {
    /// Looks at a camera-day: first at the loose captures, then at the archive. A capture that a rotation moves into a
    /// bundle meanwhile is seen in one of the two, or in both.
    ///
    /// # Errors
    /// [`HoldingsError::Refused`] if it cannot be listed: nothing is known of the day then.
    pub async fn look(site: &Site, camera: &str, date: NaiveDate) -> Result<Self, HoldingsError> {
        let loose = loose(site, camera, date).await?;
        Ok(Self { loose, archive: archive(site, camera, date).await? })
    }

    /// Looks at several days of a camera, with one listing of its archive if there is more than one day.
    ///
    /// # Errors
    /// As [`Day::look`].
    pub async fn look_at_all(
        site: &Site,
        camera: &str,
        dates: &BTreeSet<NaiveDate>,
    ) -> Result<BTreeMap<NaiveDate, Self>, HoldingsError> {
        let listing = futures_util::stream::iter(dates.iter().copied())
            .map(async |date| Ok::<_, HoldingsError>((date, loose(site, camera, date).await?)));
        let listed: Vec<(NaiveDate, Vec<Object>)> = listing.buffered(AT_ONCE).try_collect().await?;
        let mut archives = match dates.first() {
            Some(date) if dates.len() == 1 => BTreeMap::from([(*date, archive(site, camera, *date).await?)]),
            _ => archives(site, camera).await?,
        };
        let day = |(date, loose)| (date, Self { loose, archive: archives.remove(&date).unwrap_or_default() });
        Ok(listed.into_iter().map(day).collect())
    }
}

/// Returns the cameras in the bucket. A folder whose name no camera can have is none.
///
/// # Errors
/// [`HoldingsError::Refused`] if the bucket cannot be listed.
pub async fn cameras(site: &Site) -> Result<Vec<CameraName>, HoldingsError> {
    let mut cameras = BTreeSet::new();
    let prefixes = site.prefixes();
    for prefix in prefixes.keys() {
        let folders: Vec<String> =
            site.bucket.folders(prefix).try_collect().await.map_err(|error| listing(site, error))?;
        // A folder on the way to another prefix is no camera.
        let is_on_the_way = |folder: &str| prefixes.keys().any(|other| other != prefix && other.starts_with(folder));
        let folders = folders.iter().filter(|folder| !is_on_the_way(folder));
        // The folder of a key that begins with `/` has no name.
        cameras.extend(folders.filter_map(|folder| CameraName::read(folder[prefix.len()..].trim_end_matches('/'))));
    }
    Ok(cameras.into_iter().collect())
}

/// Makes sure that the bucket has a camera of which nothing was found, so that a mistyped name is no empty answer. A bucket
/// without any camera is new.
///
/// # Errors
/// [`HoldingsError::NoCamera`] if it has not, [`HoldingsError::Refused`] if the bucket cannot be listed.
pub async fn must_exist(site: &Site, camera: &str) -> Result<(), HoldingsError> {
    let cameras = cameras(site).await?;
    if cameras.is_empty() || cameras.iter().any(|known| **known == *camera) {
        return Ok(());
    }
    let nearest = config::nearest(camera, cameras.iter().map(|known| &**known));
    let nearest = nearest.and_then(CameraName::read);
    Err(HoldingsError::NoCamera { camera: camera.to_owned(), nearest })
}

/// Returns the days on which a camera has captures, loose or in bundles.
///
/// # Errors
/// [`HoldingsError::Refused`] if the camera cannot be listed.
pub async fn days(site: &Site, camera: &str) -> Result<BTreeSet<NaiveDate>, HoldingsError> {
    let found = loose_days(site, camera).await?;
    let mut dates = found.dates;
    if found.may_have_archive {
        let archives = archives(site, camera).await?;
        dates.extend(archives.into_iter().filter(|(_, archive)| archive.has_bundle()).map(|(date, _)| date));
    }
    Ok(dates)
}

/// The days of a camera that have loose captures.
#[derive(Debug)]
pub struct LooseDays {
    /// The days.
    pub dates: BTreeSet<NaiveDate>,
    /// Whether there may be an archive beside them.
    pub may_have_archive: bool,
}

/// Returns the days on which a camera has loose captures.
///
/// # Errors
/// [`HoldingsError::Refused`] if the camera cannot be listed.
pub async fn loose_days(site: &Site, camera: &str) -> Result<LooseDays, HoldingsError> {
    if !site.former.is_empty() || !site.layout.has_date_folders() {
        let mut stream = LooseStream::begin(site, camera, None);
        let mut found = LooseDays { dates: BTreeSet::new(), may_have_archive: false };
        while let Some(object) = stream.next().await? {
            match object {
                Found::Loose(parts, _) => drop(found.dates.insert(parts.date)),
                Found::Archived(..) => found.may_have_archive = true,
            }
        }
        return Ok(found);
    }
    let prefix = site.layout.camera_prefix(camera);
    let folders: Vec<String> =
        site.bucket.folders(&prefix).try_collect().await.map_err(|error| listing(site, error))?;
    // A stranger's folder may look like a date; a capture in it would have to parse as one.
    let parts = folders.iter().filter_map(|folder| site.layout.parse(&format!("{folder}file")));
    let may_have_archive = folders.iter().any(|folder| folder[prefix.len()..].trim_end_matches('/') == ARCHIVE);
    Ok(LooseDays { dates: parts.map(|parts| parts.date).collect(), may_have_archive })
}

/// Returns the captures that lie loose on a camera-day, in the order of their keys.
///
/// # Errors
/// [`HoldingsError::Refused`] if the day cannot be listed.
pub async fn loose(site: &Site, camera: &str, date: NaiveDate) -> Result<Vec<Object>, HoldingsError> {
    let mut stream = LooseStream::begin(site, camera, Some(date));
    let mut loose = Vec::new();
    while let Some(found) = stream.next().await? {
        if let Found::Loose(_, object) = found {
            loose.push(object);
        }
    }
    loose.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(loose)
}

/// Returns the archive of a camera-day.
///
/// # Errors
/// [`HoldingsError::Refused`] if it cannot be listed.
pub async fn archive(site: &Site, camera: &str, date: NaiveDate) -> Result<DayArchive, HoldingsError> {
    Ok(archives_below(site, camera, &format!("{date}.")).await?.remove(&date).unwrap_or_default())
}

/// Returns the archive of a camera, by day.
///
/// # Errors
/// [`HoldingsError::Refused`] if it cannot be listed.
pub async fn archives(site: &Site, camera: &str) -> Result<BTreeMap<NaiveDate, DayArchive>, HoldingsError> {
    archives_below(site, camera, "").await
}

/// Returns the archive of a camera, of names that begin with `start`.
async fn archives_below(
    site: &Site,
    camera: &str,
    start: &str,
) -> Result<BTreeMap<NaiveDate, DayArchive>, HoldingsError> {
    let mut archives = BTreeMap::<NaiveDate, DayArchive>::new();
    for layout in site.prefixes().values() {
        let prefix = format!("{}{start}", layout.archive_prefix(camera));
        let mut objects = std::pin::pin!(site.bucket.objects(&prefix));
        while let Some(object) = objects.try_next().await.map_err(|error| listing(site, error))? {
            if let Some((at, archived)) = PartAt::read(site, &object.key) {
                archives.entry(at.part.date).or_default().insert(at, archived.what, object);
            }
        }
    }
    Ok(archives)
}

/// Lists a camera as a whole, once. `see` gets the loose captures one by one, and is told of the days that are complete
/// after each of them.
///
/// # Errors
/// [`HoldingsError::Refused`] if the camera cannot be listed to its end.
pub async fn list_camera(
    site: &Site,
    camera: &str,
    mut see: impl FnMut(NaiveDate, Object, &LooseStream<'_>),
) -> Result<CameraListing, HoldingsError> {
    let (mut stream, mut archives) = (LooseStream::begin(site, camera, None), BTreeMap::<_, DayArchive>::new());
    while let Some(found) = stream.next().await? {
        match found {
            Found::Loose(parts, object) => see(parts.date, object, &stream),
            Found::Archived(at, archived, object) => {
                archives.entry(at.part.date).or_default().insert(at, archived.what, object);
            }
        }
    }
    Ok(CameraListing { archives, objects: stream.objects, misfits: stream.misfits })
}
