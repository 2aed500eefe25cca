//! Looks at a camera-day: at the ledger, by listings, and by a HEAD where these leave something open.

use std::io;

use anyhow::Context as _;
use chrono::NaiveDate;
use futures_util::{StreamExt, TryStreamExt};

use super::compare::{Known, Reading, Seen, Shelved, Since, compare_bundle, settle};
use crate::archive::{self, Held, Index, Shelf};
use crate::bucket::{Object, Refusal};
use crate::key::ArchiveFormat;
use crate::key::{ArchiveObject, BundleId};
use crate::ledger;
use crate::site::Site;

/// Requests at the same time.
pub(super) const AT_ONCE: usize = 8;

/// The days on which a camera has loose objects.
pub(super) async fn loose_days(site: &Site, camera: &str) -> anyhow::Result<Vec<NaiveDate>> {
    let (prefix, by_folder) = (site.layout.camera_prefix(camera), site.layout.has_date_folders());
    let (mut dates, mut from) = (Vec::new(), None);
    loop {
        let page = site.bucket.list(&prefix, by_folder, from).await.with_context(|| site.bucket.describe())?;
        if by_folder {
            // A stranger's folder may look like a date; a capture in it would have to parse as one.
            let parsed = page.folders.iter().filter_map(|folder| site.layout.parse(&format!("{folder}file")));
            dates.extend(parsed.map(|parts| parts.date));
        } else {
            dates.extend(page.objects.iter().filter_map(|object| Some(site.layout.parse(&object.key)?.date)));
            dates.sort_unstable();
            dates.dedup();
        }
        from = page.next;
        if from.is_none() {
            return Ok(dates);
        }
    }
}

/// Looks at a day; the order is the promise, see the module above.
pub(super) async fn look(site: &Site, camera: &str, date: NaiveDate, shelf: Option<Shelf>) -> anyhow::Result<Seen> {
    let before = read_ledger(site, camera, date)?;
    let mut loose = archive::list_day(site, camera, date).await?;
    loose.extend(strays(site, camera, date, &before).await?);
    let shelf = match shelf {
        Some(shelf) => shelf,
        None => archive::shelf(site, camera, date).await?,
    };
    let mut known = read_ledger(site, camera, date)?;
    for (key, record) in &mut known.records {
        record.fresh = !before.records.contains_key(key);
    }
    let mut parts = Vec::with_capacity(shelf.parts.len());
    for (part, held) in shelf.parts {
        parts.push(shelved(site, part, held, &known).await?);
    }
    Ok(Seen { camera: camera.to_owned(), date, known, loose, parts })
}

fn read_ledger(site: &Site, camera: &str, date: NaiveDate) -> anyhow::Result<Known> {
    let folder = site.ledger();
    let path = ledger::path(&folder, camera, date);
    let mut known = match ledger::history(&path) {
        Ok(lines) => Known::read(lines),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Known { of_camera: ledger::knows(&folder, camera), ..Known::default() }
        }
        Err(error) => return Err(error).with_context(|| format!("failed to read ledger {}", path.display())),
    };
    let bundles = ledger::bundles(&folder, camera).filter(|bundle| bundle.date == date);
    known.bundles = bundles.map(|bundle| (bundle.key.clone(), bundle)).collect();
    Ok(known)
}

/// What was stored under a key that the layout of today does not give.
async fn strays(site: &Site, camera: &str, date: NaiveDate, known: &Known) -> anyhow::Result<Vec<Object>> {
    let is_stray = |key: &&String| {
        site.layout.parse(key).is_none_or(|parts| parts.camera != camera || parts.date != date)
            && known.records[*key].since == Since::Nothing
    };
    let keys = known.records.keys().filter(is_stray);
    let heads = futures_util::stream::iter(keys.map(|key| async move {
        let head = site.bucket.head(key).await?;
        Ok::<_, Refusal>(head.map(|head| Object {
            key: key.clone(),
            size: head.size,
            storage_class: head.storage_class,
            etag: head.etag,
            stored_at: head.stored_at,
        }))
    }));
    let found: Vec<Option<Object>> = heads.buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn shelved(site: &Site, part: BundleId, held: Held, known: &Known) -> anyhow::Result<Shelved> {
    let Held { bundle, index } = held;
    let index_key = site.layout.archive_key(&part, ArchiveObject::Index);
    let index = if index.is_some() { read_index(site, &part, bundle.as_ref(), known).await? } else { Reading::Absent };
    let mut altered = None;
    if let (Some((object, _)), Reading::Read(index)) = (&bundle, &index) {
        altered = match compare_bundle(object, index) {
            Ok(Some(())) => None,
            Ok(None) => match site.bucket.head(&object.key).await? {
                Some(answer) => settle(&answer, index).err(),
                None => Some("it was deleted just now".to_owned()),
            },
            Err(why) => Some(why),
        };
    }
    let foreign = match (&bundle, &index) {
        (Some((object, format)), Reading::Absent) => is_foreign(site, &part, object, *format, known).await?,
        _ => false,
    };
    Ok(Shelved { part, bundle, index_key, index, altered, foreign })
}

async fn read_index(
    site: &Site,
    part: &BundleId,
    bundle: Option<&(Object, ArchiveFormat)>,
    known: &Known,
) -> anyhow::Result<Reading> {
    let index = match archive::load_index(site, part).await {
        Ok(index) => index,
        Err(error) => match error.downcast_ref::<Refusal>().map(|refusal| refusal.code.as_deref()) {
            Some(Some("NoSuchKey")) => return Ok(Reading::Absent),
            None | Some(Some("InvalidObjectState")) => return Ok(Reading::Damaged(format!("{error:#}"))),
            Some(_) => return Err(error),
        },
    };
    Ok(fits(&index, bundle, known).map_or_else(|| Reading::Read(Box::new(index)), Reading::Damaged))
}

/// Why an index is not the one of a bundle, whatever is in that.
fn fits(index: &Index, bundle: Option<&(Object, ArchiveFormat)>, known: &Known) -> Option<String> {
    if let Some((object, format)) = bundle
        && (&index.bundle.key, index.bundle.format) != (&object.key, *format)
    {
        return Some(format!("it tells of {}, and {} is there", index.bundle.key, object.key));
    }
    let confirmed = known.bundles.get(&index.bundle.key);
    let is_other = confirmed.is_some_and(|confirmed| confirmed.sha256 != index.bundle.sha256);
    is_other.then(|| "it tells of other bytes than the ledger, which confirmed the bundle".to_owned())
}

/// Whether the scripts that came before made a bundle that has no index: they wrote `DATE.tar.gz`, and no SHA-256.
async fn is_foreign(
    site: &Site,
    part: &BundleId,
    object: &Object,
    format: ArchiveFormat,
    known: &Known,
) -> anyhow::Result<bool> {
    let went_into = |since: &Since| *since == Since::Bundled(object.key.clone());
    if format != ArchiveFormat::TarGz
        || part.part != 1
        || known.bundles.contains_key(&object.key)
        || known.records.values().any(|record| went_into(&record.since))
    {
        return Ok(false);
    }
    // Ours go up in one request.
    if object.etag.contains('-') {
        return Ok(true);
    }
    Ok(site.bucket.head(&object.key).await?.is_none_or(|head| head.sha256.is_none()))
}
