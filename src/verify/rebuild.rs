//! An index that is lost or damaged, made again from its bundle.

use super::compare::{IndexState, LedgerDay, SeenPart};
use crate::archive::{spool, store_index};
use crate::bucket::{Object, RestoreState};
use crate::bundle::{self, BundleFile};
use crate::disk::RoomLimit;
use crate::holdings::{BundleObject, HoldingsError};
use crate::owner;
use crate::site::Site;

/// Returns the bundle whose index is to be made again, if there is one.
pub(super) fn bundle_to_index(part: &SeenPart) -> Option<&BundleObject> {
    let has_no_index = !part.foreign && !matches!(part.index, IndexState::Sound(_));
    part.bundle.as_ref().filter(|_| has_no_index)
}

/// Makes an index again; returns how many bytes were downloaded for it. A damaged index is deleted only once the new one
/// is made: if the work ends in between, the index is lost, and the next call makes it.
///
/// # Errors
/// [`HoldingsError`] with what to do, if the bundle cannot be read or is not whole; nothing is changed then.
pub(super) async fn rebuild(
    site: &Site,
    seen: &SeenPart,
    BundleObject { object, format }: &BundleObject,
    known: &LedgerDay,
) -> Result<u64, HoldingsError> {
    let (part, key) = (&seen.part, &object.key);
    let failed = |what: &str, error: &std::io::Error| HoldingsError::local(what, error);
    make_sure_it_can_be_read(site, seen, object).await?;
    let folder = spool(&site.config.state_dir)?;
    let (path, members) = (folder.path().join("bundle"), folder.path().join("members"));
    owner::create_dir_all(&members).map_err(|error| failed("failed to make a folder to unpack into", &error))?;
    let file = tokio::fs::File::create(&path).await;
    let mut file = file.map_err(|error| failed("failed to make a file to download into", &error))?;
    let got = site.bucket.get(key, None, &mut file).await?;
    let confirmed = known.bundles.get(key).map(|confirmed| &confirmed.sha256);
    if got.expected.iter().chain(confirmed).any(|expected| *expected != got.sha256) {
        return Err(HoldingsError::Object(format!(
            "{key} is not the bundle that was stored: it was altered, and nothing is made of it"
        )));
    }
    let bundle = BundleFile { part: part.clone(), key: key.clone(), format: *format, path };
    let room = RoomLimit::in_folder(&members, site.config.keep.min_free);
    let rebuilt = tokio::task::spawn_blocking(move || bundle::rebuild_index(&bundle, &members, &room)).await;
    let index = rebuilt
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|error| HoldingsError::Object(format!("{key} is damaged as well: {error}")))?;
    if let (IndexState::Damaged(_), Some(index)) = (&seen.index, &seen.index_object) {
        let failed = site.bucket.delete_all(&[index]).await?;
        if let Some((key, why)) = failed.first() {
            return Err(HoldingsError::Object(format!("failed to delete {key}: {why}")));
        }
    }
    store_index(site, &index, &seen.index_key).await?;
    Ok(got.size)
}

async fn make_sure_it_can_be_read(site: &Site, seen: &SeenPart, bundle: &Object) -> Result<(), HoldingsError> {
    let Some(state) = site.bucket.restore_state(&bundle.key).await? else {
        return Err(HoldingsError::Object(format!("{} is not there any more", bundle.key)));
    };
    match state {
        RestoreState::Warm | RestoreState::Done(_) => Ok(()),
        RestoreState::Cold => Err(HoldingsError::Object(format!(
            "the bundle lies in {}: `hk-aws restore {} {}` first, then this again",
            bundle.storage_class, seen.part.camera, seen.part.date,
        ))),
        RestoreState::Ongoing => {
            Err(HoldingsError::Object("the bundle is being restored: this again once it is there".to_owned()))
        }
    }
}
