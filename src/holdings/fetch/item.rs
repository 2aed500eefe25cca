//! One capture that may be downloaded: out of an object, or out of a bundle.

use std::io;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::target;
use crate::bucket::Object;
use crate::bundle::{Index, Member};
use crate::holdings::contents::fetch_member;
use crate::holdings::{HoldingsError, file_of};
use crate::site::Site;

/// One capture that may be downloaded.
#[derive(Debug)]
pub(super) struct FetchItem {
    pub(super) key: String,
    pub(super) file: String,
    pub(super) size: u64,
    /// The storage class of the object, or of the bundle.
    pub(super) class: String,
    /// When the store took it.
    pub(super) stored_at: DateTime<Utc>,
    pub(super) source: FetchSource,
}

/// Where the bytes of a capture lie.
#[derive(Debug)]
pub(super) enum FetchSource {
    Object(Object),
    Member(Arc<Index>, Member),
}

impl FetchItem {
    pub(super) fn of_object(site: &Site, object: Object) -> Self {
        Self {
            key: object.key.clone(),
            file: file_of(site, &object.key),
            size: object.size,
            class: object.storage_class.to_string(),
            stored_at: object.stored_at,
            source: FetchSource::Object(object),
        }
    }

    pub(super) fn of_member(site: &Site, index: &Arc<Index>, member: &Member, class: &str) -> Self {
        Self {
            key: member.note.key.clone(),
            file: file_of(site, &member.note.key),
            size: member.note.size,
            class: class.to_owned(),
            stored_at: member.note.stored_at,
            source: FetchSource::Member(Arc::clone(index), member.clone()),
        }
    }

    /// Returns whether this is what somebody calls `file`: a name, a key, or a name in a bundle.
    pub(super) fn is_called(&self, file: &str) -> bool {
        let in_bundle = matches!(&self.source, FetchSource::Member(_, member) if member.name == file);
        file == self.file || file == self.key || in_bundle
    }

    pub(super) fn known_sha256(&self) -> Option<&str> {
        match &self.source {
            FetchSource::Object(_) => None,
            FetchSource::Member(_, member) => Some(&member.note.sha256),
        }
    }

    pub(super) fn bundle(&self) -> Option<&str> {
        match &self.source {
            FetchSource::Object(_) => None,
            FetchSource::Member(index, _) => Some(&index.bundle.key),
        }
    }
}

/// Returns whether a capture is in the folder already.
///
/// # Errors
/// [`HoldingsError::Object`] if another file has its name.
pub(super) async fn is_there(site: &Site, capture: &FetchItem, path: &Path) -> Result<bool, HoldingsError> {
    if path.symlink_metadata().is_err() {
        return Ok(false);
    }
    let failed = |error: io::Error| HoldingsError::local(format_args!("failed to read {}", path.display()), &error);
    let (file, size) = (path.to_owned(), capture.size);
    let digesting = tokio::task::spawn_blocking(move || target::digest(&file, size));
    let digests = digesting.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed)?;
    let Some(digests) = digests else { return Err(target::in_the_way(path)) };
    let same = match &capture.source {
        FetchSource::Member(_, member) => member.note.sha256 == digests.sha256,
        FetchSource::Object(object) => {
            let head = site.bucket.head(&object.key).await?;
            // What other programs stored has no SHA-256. Its `ETag` is the MD5 if it went up in one request.
            head.is_some_and(|head| head.has(&digests.sha256, &digests.md5) == Some(true))
        }
    };
    if same { Ok(true) } else { Err(target::in_the_way(path)) }
}

/// Downloads one capture, checks it, and only then gives it its name.
pub(super) async fn download(site: &Site, capture: &FetchItem, to: &Path) -> Result<(), HoldingsError> {
    let failed = |error: io::Error| HoldingsError::local(format_args!("failed to write {}", to.display()), &error);
    let Some(folder) = to.parent() else {
        return Err(HoldingsError::Local("there is no folder to download into".to_owned()));
    };
    let part = target::begin(folder)?;
    match &capture.source {
        FetchSource::Object(object) => {
            let mut file = tokio::fs::File::from_std(part.reopen().map_err(failed)?);
            let got = site.bucket.get(&object.key, None, &mut file).await?;
            got.hold_against(object.size).map_err(|altered| HoldingsError::Object(altered.to_string()))?;
        }
        FetchSource::Member(index, member) => {
            fetch_member(site, index, member, part.reopen().map_err(failed)?).await?;
        }
    }
    tokio::fs::File::from_std(part.reopen().map_err(failed)?).sync_all().await.map_err(failed)?;
    target::keep(part, to)
}
