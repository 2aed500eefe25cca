//! The SHA-256 of every object, as the store computed it; of what it has none, the bytes.

use futures_util::StreamExt;

use super::compare::{Judged, Reading, Seen, finding};
use super::look::AT_ONCE;
use super::{Finding, What};
use crate::bucket::{Refusal, Restore};
use crate::site::Site;

/// An object whose SHA-256 is known.
struct Wanted<'a> {
    key: &'a str,
    size: u64,
    sha256: &'a str,
    is_bundle: bool,
    /// How many captures are in it.
    captures: usize,
}

/// What a closer look showed.
enum Shown {
    Same,
    Other(String),
    Gone,
    Unproven(String),
}

/// Looks closer at all that listings found to be there; gives back how many bytes were downloaded.
///
/// # Errors
/// Where the bucket refuses.
pub(super) async fn look_closer(site: &Site, seen: &Seen, judged: &mut Judged) -> anyhow::Result<u64> {
    let wanted = wanted(seen, judged);
    let looks = wanted.iter().map(|wanted| async move { (wanted, show(site, wanted).await) });
    let mut looks = futures_util::stream::iter(looks).buffer_unordered(AT_ONCE);
    let mut downloaded = 0;
    while let Some((wanted, shown)) = looks.next().await {
        let (shown, bytes) = shown?;
        downloaded += bytes;
        let (what, detail) = match shown {
            Shown::Same => continue,
            Shown::Other(why) => (What::Altered, why),
            Shown::Gone => (What::Missing, "it was listed, and is not there".to_owned()),
            Shown::Unproven(why) => (What::Unproven, why),
        };
        if what.is_failure() {
            judged.held = judged.held.saturating_sub(wanted.captures);
        }
        let copy = (!wanted.is_bundle).then(|| (wanted.sha256.to_owned(), wanted.size));
        judged.findings.push(Finding { wanted: copy, ..finding(seen, what, wanted.key, detail) });
    }
    Ok(downloaded)
}

fn wanted<'a>(seen: &'a Seen, judged: &Judged) -> Vec<Wanted<'a>> {
    let is_told = |key: &str| judged.findings.iter().any(|finding| finding.failure && finding.key == key);
    let loose = seen.loose.iter().filter_map(|object| {
        let entry = &seen.known.records.get(&object.key)?.entry;
        let wanted = Wanted { key: &entry.key, size: entry.size, sha256: &entry.sha256, is_bundle: false, captures: 1 };
        (!is_told(&entry.key)).then_some(wanted)
    });
    let bundles = seen.parts.iter().filter_map(|shelved| {
        let (Some(_), None, Reading::Read(index)) = (&shelved.bundle, &shelved.altered, &shelved.index) else {
            return None;
        };
        let bundle = &index.bundle;
        let captures = index.members.len();
        Some(Wanted { key: &bundle.key, size: bundle.size, sha256: &bundle.sha256, is_bundle: true, captures })
    });
    loose.chain(bundles).collect()
}

async fn show(site: &Site, wanted: &Wanted<'_>) -> Result<(Shown, u64), Refusal> {
    let Some(head) = site.bucket.head(wanted.key).await? else { return Ok((Shown::Gone, 0)) };
    if head.size != wanted.size {
        return Ok((Shown::Other(format!("it has {} bytes instead of {}", head.size, wanted.size)), 0));
    }
    if let Some(checksum) = &head.checksum {
        return Ok((compare_sha256(checksum, wanted.sha256), 0));
    }
    // What was written beside it is no proof: it may stand beside other bytes.
    if !matches!(head.restore, Restore::Warm | Restore::Done(_)) {
        let class = &head.storage_class;
        return Ok((Shown::Unproven(format!("the store has no SHA-256 of it, and it lies in {class}")), 0));
    }
    let got = site.bucket.get(wanted.key, None, &mut tokio::io::sink()).await?;
    Ok((compare_sha256(&got.sha256, wanted.sha256), got.size))
}

fn compare_sha256(found: &str, wanted: &str) -> Shown {
    if found == wanted { Shown::Same } else { Shown::Other(format!("its SHA-256 is {found} instead of {wanted}")) }
}
