//! Looks at a camera-day: at the ledger, by listings, and by a HEAD where these leave something open.

use std::io;

use chrono::NaiveDate;
use futures_util::{StreamExt, TryStreamExt};

use super::compare::{IndexState, LedgerDay, SeenDay, SeenPart, Since, compare_bundle, settle};
use crate::bucket::{Object, Refusal, RefusalKind};
use crate::holdings::{self, ArchivedPart, BundleObject, DayArchive, HoldingsError, IndexError, PartAt, load_index};
use crate::key::ArchiveFormat;
use crate::ledger;
use crate::site::Site;

/// Requests under way together.
pub(super) const AT_ONCE: usize = 8;

/// Looks at a day, and at its archive unless that is `listed`; the order is the promise, see the module above.
///
/// # Errors
/// [`HoldingsError::Refused`] if the bucket cannot be asked, [`HoldingsError::Local`] if the ledger cannot be read.
pub(super) async fn look(
    site: &Site,
    camera: &str,
    date: NaiveDate,
    listed: Option<DayArchive>,
) -> Result<SeenDay, HoldingsError> {
    let before = read_ledger(site, camera, date)?;
    let mut loose = holdings::loose(site, camera, date).await?;
    loose.extend(strays(site, camera, date, &before).await?);
    let archive = match listed {
        Some(archive) => archive,
        None => holdings::archive(site, camera, date).await?,
    };
    let mut known = read_ledger(site, camera, date)?;
    for (key, record) in &mut known.records {
        record.fresh = !before.records.contains_key(key);
    }
    let mut parts = Vec::with_capacity(archive.parts.len());
    for (at, archived) in archive.parts {
        parts.extend(seen_parts(site, at, archived, &known).await?);
    }
    Ok(SeenDay { camera: camera.to_owned(), date, known, loose, parts })
}

pub(super) fn read_ledger(site: &Site, camera: &str, date: NaiveDate) -> Result<LedgerDay, HoldingsError> {
    let folder = site.ledger();
    let path = ledger::path(&folder, camera, date);
    let mut known = match ledger::history(&path) {
        Ok(lines) => LedgerDay::read(lines),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            LedgerDay { of_camera: ledger::knows(&folder, camera), ..LedgerDay::default() }
        }
        Err(error) => {
            return Err(HoldingsError::local(format_args!("failed to read ledger {}", path.display()), &error));
        }
    };
    let bundles = ledger::bundles(&folder, camera).filter(|bundle| bundle.date == date);
    known.bundles = bundles.map(|bundle| (bundle.key.clone(), bundle)).collect();
    Ok(known)
}

/// Returns what was stored under keys that no layout gives.
async fn strays(site: &Site, camera: &str, date: NaiveDate, known: &LedgerDay) -> Result<Vec<Object>, HoldingsError> {
    let is_stray = |key: &&String| {
        site.read_key(key).is_none_or(|(_, parts)| parts.camera != camera || parts.date != date)
            && known.records[*key].since == Since::Nothing
    };
    let keys: Vec<String> = known.records.keys().filter(is_stray).cloned().collect();
    let heads = futures_util::stream::iter(keys.into_iter().map(|key| async move {
        let head = site.bucket.head(&key).await?;
        Ok::<_, Refusal>(head.map(|head| Object {
            key,
            size: head.size,
            storage_class: head.storage_class.into(),
            etag: head.etag,
            stored_at: head.stored_at,
        }))
    }));
    let found: Vec<Option<Object>> = heads.buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Looks at one part: its bundle with its index, and archives of other programs that have its name in another format.
async fn seen_parts(
    site: &Site,
    at: PartAt,
    ArchivedPart { bundles, index: index_object }: ArchivedPart,
    known: &LedgerDay,
) -> Result<Vec<SeenPart>, HoldingsError> {
    let mut index = if index_object.is_some() { read_index(site, &at, known).await? } else { IndexState::Absent };
    let described = described_bundle(site, &at, &bundles, &index, known).await?;
    let mut seen = Vec::new();
    if described.is_none() && index != IndexState::Absent {
        let index = std::mem::replace(&mut index, IndexState::Absent);
        seen.push(seen_part(site, at.clone(), None, index, known).await?);
    }
    for (place, bundle) in bundles.into_iter().enumerate() {
        let is_described = described == Some(place);
        let index = if is_described { std::mem::replace(&mut index, IndexState::Absent) } else { IndexState::Absent };
        seen.push(seen_part(site, at.clone(), Some(bundle), index, known).await?);
    }
    if let Some(described) = seen.iter_mut().find(|part| part.index != IndexState::Absent) {
        described.index_object = index_object;
    }
    Ok(seen)
}

/// Returns which of the bundles of a part its index describes. If a damaged index does not tell, it is one that older
/// scripts did not make.
async fn described_bundle(
    site: &Site,
    at: &PartAt,
    bundles: &[BundleObject],
    index: &IndexState,
    known: &LedgerDay,
) -> Result<Option<usize>, HoldingsError> {
    match index {
        IndexState::Absent => return Ok(None),
        IndexState::Sound(index) => return Ok(bundles.iter().position(|found| found.format == index.bundle.format)),
        IndexState::Damaged(_) if bundles.len() == 1 => return Ok(Some(0)),
        IndexState::Damaged(_) => {}
    }
    for (place, bundle) in bundles.iter().enumerate() {
        if !is_foreign(site, at, bundle, known).await? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

async fn seen_part(
    site: &Site,
    at: PartAt,
    bundle: Option<BundleObject>,
    index: IndexState,
    known: &LedgerDay,
) -> Result<SeenPart, HoldingsError> {
    let index_key = at.index_key();
    let index = match (&bundle, index) {
        (Some(BundleObject { object, .. }), IndexState::Sound(index)) if index.bundle.key != object.key => {
            IndexState::Damaged(format!("it tells of {}, and {} is there", index.bundle.key, object.key))
        }
        (_, index) => index,
    };
    let mut altered = None;
    if let (Some(BundleObject { object, .. }), IndexState::Sound(index)) = (&bundle, &index) {
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
        (Some(bundle), IndexState::Absent) => is_foreign(site, &at, bundle, known).await?,
        _ => false,
    };
    Ok(SeenPart { part: at.part, bundle, index_key, index_object: None, index, altered, foreign })
}

async fn read_index(site: &Site, at: &PartAt, known: &LedgerDay) -> Result<IndexState, HoldingsError> {
    let index = match load_index(site, at).await {
        Ok(index) => index,
        Err(IndexError::Refused(refusal)) => {
            return match refusal.kind() {
                RefusalKind::NoSuchKey => Ok(IndexState::Absent),
                RefusalKind::Cold => Ok(IndexState::Damaged(refusal.to_string())),
                RefusalKind::NoAnswer | RefusalKind::Refused => Err(refusal.into()),
            };
        }
        Err(damaged @ IndexError::Damaged { .. }) => return Ok(IndexState::Damaged(damaged.to_string())),
    };
    let confirmed = known.bundles.get(&index.bundle.key);
    Ok(if confirmed.is_some_and(|confirmed| confirmed.sha256 != index.bundle.sha256) {
        IndexState::Damaged("it tells of other bytes than the ledger, which confirmed the bundle".to_owned())
    } else {
        IndexState::Sound(Box::new(index))
    })
}

/// Returns whether older scripts made a bundle that has no index: they wrote `DATE.tar.gz`, and no SHA-256.
async fn is_foreign(
    site: &Site,
    at: &PartAt,
    BundleObject { object, format }: &BundleObject,
    known: &LedgerDay,
) -> Result<bool, HoldingsError> {
    let went_into = |since: &Since| *since == Since::Bundled(object.key.clone());
    if *format != ArchiveFormat::TarGz
        || at.part.part != 1
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
