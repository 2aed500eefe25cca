//! The closer look: the SHA-256 of every object as the store computed it, otherwise of the bytes.

use futures_util::StreamExt;

use super::FindingKind;
use super::compare::{IndexState, Judged, LedgerRecord, SeenDay, Since, finding};
use super::look::AT_ONCE;
use crate::bucket::{Refusal, RefusalKind};
use crate::holdings::HoldingsError;
use crate::site::Site;

/// An object whose SHA-256 is known.
struct KnownObject<'a> {
    key: &'a str,
    size: u64,
    sha256: &'a str,
    is_bundle: bool,
    /// How many captures it holds.
    captures: usize,
}

/// What a closer look shows.
enum CloserLook {
    Same,
    Other(String),
    Gone,
    Unproven(String),
}

/// Looks closer at everything that listings found to be there; returns how many bytes were downloaded.
///
/// # Errors
/// [`HoldingsError::Refused`] if the bucket refuses or does not answer: what was not looked at is not judged.
pub(super) async fn look_closer(site: &Site, seen: &SeenDay, judged: &mut Judged) -> Result<u64, HoldingsError> {
    let objects = known_objects(seen, judged);
    let looks = objects.iter().map(|object| async move { (object, look(site, object).await) });
    let mut looks = futures_util::stream::iter(looks).buffer_unordered(AT_ONCE);
    let mut downloaded = 0;
    while let Some((object, shown)) = looks.next().await {
        let (shown, bytes) = shown?;
        downloaded += bytes;
        let (what, detail) = match shown {
            CloserLook::Same => continue,
            CloserLook::Other(why) => (FindingKind::Altered, why),
            CloserLook::Gone => (FindingKind::Missing, "it was listed, and is not there".to_owned()),
            CloserLook::Unproven(why) => (FindingKind::Unproven, why),
        };
        if what.is_failure() {
            judged.held = judged.held.saturating_sub(object.captures);
            let went_into = |record: &&LedgerRecord| record.since == Since::Bundled(object.key.to_owned());
            let members = seen.known.records.values().filter(went_into).map(|record| record.entry.key.clone());
            let capture = (!object.is_bundle).then(|| object.key.to_owned());
            for key in members.chain(capture) {
                let bytes = seen.known.records.get(&key).and_then(|record| judged.there.get_mut(&record.entry.sha256));
                if let Some(number) = bytes.filter(|number| **number > 0) {
                    *number -= 1;
                }
                judged.lost.insert(key, true);
            }
        }
        judged.findings.push(finding(seen, what, object.key, detail));
    }
    judged.find_elsewhere(seen);
    Ok(downloaded)
}

fn known_objects<'a>(seen: &'a SeenDay, judged: &Judged) -> Vec<KnownObject<'a>> {
    let is_told = |key: &str| judged.findings.iter().any(|finding| finding.failure && finding.key == key);
    let loose = seen.loose.iter().filter_map(|object| {
        let entry = &seen.known.records.get(&object.key)?.entry;
        let known =
            KnownObject { key: &entry.key, size: entry.size, sha256: &entry.sha256, is_bundle: false, captures: 1 };
        (!is_told(&entry.key)).then_some(known)
    });
    let bundles = seen.parts.iter().filter_map(|part| {
        let (Some(_), None, IndexState::Sound(index)) = (&part.bundle, &part.altered, &part.index) else {
            return None;
        };
        let bundle = &index.bundle;
        let captures = index.members.len();
        Some(KnownObject { key: &bundle.key, size: bundle.size, sha256: &bundle.sha256, is_bundle: true, captures })
    });
    loose.chain(bundles).collect()
}

async fn look(site: &Site, known: &KnownObject<'_>) -> Result<(CloserLook, u64), Refusal> {
    let Some(head) = site.bucket.head(known.key).await? else { return Ok((CloserLook::Gone, 0)) };
    if head.size != known.size {
        return Ok((CloserLook::Other(format!("it has {} bytes instead of {}", head.size, known.size)), 0));
    }
    if let Some(checksum) = &head.checksum {
        return Ok((compare_sha256(checksum, known.sha256), 0));
    }
    // The SHA-256 in its metadata is no proof: it may stand beside other bytes.
    match site.bucket.get(known.key, None, &mut tokio::io::sink()).await {
        Ok(got) => Ok((compare_sha256(&got.sha256, known.sha256), got.size)),
        Err(refusal) if refusal.kind() == RefusalKind::Cold => {
            let class = &head.storage_class;
            Ok((CloserLook::Unproven(format!("the store has no SHA-256 of it, and it lies in {class}")), 0))
        }
        Err(refusal) => Err(refusal),
    }
}

fn compare_sha256(found: &str, wanted: &str) -> CloserLook {
    if found == wanted {
        CloserLook::Same
    } else {
        CloserLook::Other(format!("its SHA-256 is {found} instead of {wanted}"))
    }
}
