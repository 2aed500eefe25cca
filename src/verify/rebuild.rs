//! An index that is lost or damaged, made again from its bundle.

use anyhow::{Context as _, bail};

use super::compare::{Known, Reading, Shelved};
use crate::archive;
use crate::bucket::{Object, Restore};
use crate::key::ArchiveFormat;
use crate::site::Site;

/// The bundle whose index is to be made again, if one is.
pub(super) fn wanted(shelved: &Shelved) -> Option<(Object, ArchiveFormat)> {
    let is_wanted = !shelved.foreign && !matches!(shelved.index, Reading::Read(_));
    shelved.bundle.clone().filter(|_| is_wanted)
}

/// Makes an index again; gives back how many bytes were downloaded for it. The damaged one goes only once the new one
/// is made: ended in between, the index is lost, and the next call makes it.
///
/// # Errors
/// Where the bundle cannot be read or is not whole, with what to do; nothing is then changed.
pub(super) async fn rebuild(
    site: &Site,
    shelved: &Shelved,
    (bundle, format): &(Object, ArchiveFormat),
    known: &Known,
) -> anyhow::Result<u64> {
    let (part, key) = (&shelved.part, &bundle.key);
    let head = site.bucket.head(key).await?.with_context(|| format!("{key} is not there any more"))?;
    match head.restore {
        Restore::Warm | Restore::Done(_) => {}
        Restore::Cold => bail!(
            "the bundle lies in {}: `hk-aws restore {} {}` first, then this again",
            head.storage_class,
            part.camera,
            part.date,
        ),
        Restore::Ongoing => bail!("the bundle is being restored: this again once it is there"),
    }
    let folder = archive::spool(&site.config.state_dir)?;
    let (path, members) = (folder.path().join("bundle"), folder.path().join("members"));
    std::fs::create_dir(&members).context("failed to make a folder to unpack into")?;
    let mut file = tokio::fs::File::create(&path).await.context("failed to make a file to download into")?;
    let got = site.bucket.get(key, None, &mut file).await?;
    let confirmed = known.bundles.get(key).map(|confirmed| &confirmed.sha256);
    if got.expected.iter().chain(confirmed).any(|expected| *expected != got.sha256) {
        bail!("{key} is not the bundle that was stored: it was altered, and nothing is made of it");
    }
    let (of, bundle_key, format) = (part.clone(), key.clone(), *format);
    let rebuilt =
        tokio::task::spawn_blocking(move || archive::rebuild_index(&of, &bundle_key, format, &path, &members));
    let index = rebuilt.await.context("unpacking panicked")?.with_context(|| format!("{key} is damaged as well"))?;
    if matches!(shelved.index, Reading::Damaged(_)) {
        let failed = site.bucket.delete_all(&[&shelved.index_key]).await?;
        if let Some((key, why)) = failed.first() {
            bail!("failed to delete {key}: {why}");
        }
    }
    archive::store_index(site, &index).await?;
    Ok(got.size)
}
