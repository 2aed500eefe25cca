//! Bundles and indexes put into the bucket, and confirmed there.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use md5::Md5;
use sha2::{Digest, Sha256};

use crate::bucket::{
    About, Content, Head, Patience, Precedence, Put, Reader, Refusal, RefusalKind, Source, Verdict, When,
};
use crate::bundle::{self, Index, Input};
use crate::config::ArchiveSettings;
use crate::holdings::HoldingsError;
use crate::key::{ArchiveFormat, ObjectKey};
use crate::site::Site;

/// The class of indexes: they are read whenever somebody looks for a picture.
const INDEX_CLASS: &str = "STANDARD";

/// The code that a store gives that knows of classes, but not of the one in a request.
const WRONG_CLASS: &str = "InvalidStorageClass";

/// When a bundle was put that is to be confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PutAt {
    /// Just now: it must be in the class that was asked for.
    Now,
    /// By an earlier run: a lifecycle may have moved it on.
    Earlier,
}

/// An index as the object that it becomes.
pub(super) struct IndexObject {
    key: ObjectKey,
    text: Bytes,
    sha256: [u8; 32],
}

impl IndexObject {
    /// Returns the object of an index under its key.
    ///
    /// # Errors
    /// [`HoldingsError::Local`], never in practice: an index can always be written.
    pub(super) fn of(index: &Index, key: &str) -> Result<Self, HoldingsError> {
        let text =
            index.to_json().map_err(|error| HoldingsError::Local(format!("failed to write an index: {error}")))?;
        let key = ObjectKey::verbatim(key.to_owned());
        Ok(Self { key, sha256: Sha256::digest(&text).into(), text: text.into() })
    }
}

/// Puts an index under `key`, which must be free, and confirms it.
///
/// # Errors
/// [`HoldingsError::Refused`] if it cannot be put, [`HoldingsError::Object`] if the key holds other bytes.
pub async fn store_index(site: &Site, index: &Index, key: &str) -> Result<(), HoldingsError> {
    let object = IndexObject::of(index, key)?;
    is_there(put_index(site, index, &object).await?)
        .map_err(|error| error.about(format_args!("failed to put index {}", object.key)))?;
    if confirm_index(site, &object).await? { Ok(()) } else { Err(gone(&object)) }
}

/// Puts an index, unless there is one under its key.
///
/// # Errors
/// [`HoldingsError::Refused`] if it cannot be put.
pub(super) async fn put_index(site: &Site, index: &Index, object: &IndexObject) -> Result<Put, HoldingsError> {
    let IndexObject { key, text, sha256 } = object;
    let (size, text) = (text.len() as u64, text.clone());
    let source = stream_of(size, *sha256, move || Ok(Box::new(io::Cursor::new(text.clone()))));
    let about = about(index, &source, PutAs { content_type: "application/json", class: INDEX_CLASS });
    let put = put_one(site, key, &source, about).await;
    put.map_err(|error| error.about(format_args!("failed to put index {key}")))
}

/// Returns whether the store holds an index as it was put; false if it is gone.
///
/// # Errors
/// [`HoldingsError::Refused`] if the store cannot be asked, [`HoldingsError::Object`] if it holds something else: nothing
/// may be deleted then.
pub(super) async fn confirm_index(site: &Site, object: &IndexObject) -> Result<bool, HoldingsError> {
    let IndexObject { key, text, sha256 } = object;
    let md5 = hex::encode(Md5::digest(text));
    match site.bucket.head(key.as_str()).await? {
        None => Ok(false),
        Some(head) if has_bytes(site, key.as_str(), &head, (text.len() as u64, &hex::encode(sha256), &md5)).await? => {
            Ok(true)
        }
        Some(_) => {
            Err(HoldingsError::Object(format!("the store does not hold index {key} as it was put; nothing is deleted")))
        }
    }
}

/// Confirms an index after its bundle was confirmed; an index that somebody took for one without a bundle is put again.
///
/// # Errors
/// As [`confirm_index`], and [`HoldingsError::Object`] if the index does not stay.
pub(super) async fn keep_index(site: &Site, index: &Index, object: &IndexObject) -> Result<(), HoldingsError> {
    if confirm_index(site, object).await? {
        return Ok(());
    }
    is_there(put_index(site, index, object).await?)?;
    if confirm_index(site, object).await? { Ok(()) } else { Err(gone(object)) }
}

fn gone(IndexObject { key, .. }: &IndexObject) -> HoldingsError {
    HoldingsError::Object(format!("index {key} is not there after it was put; nothing is deleted"))
}

/// Puts a bundle under a free key, from the files of its members.
///
/// # Errors
/// [`HoldingsError::Refused`] if it cannot be put, [`HoldingsError::Object`] if the key holds other bytes.
pub(super) async fn put_bundle(
    site: &Site,
    archive: &ArchiveSettings,
    index: &Index,
    inputs: &Arc<[Input]>,
) -> Result<(), HoldingsError> {
    let mut sha256 = [0; 32];
    hex::decode_to_slice(&index.bundle.sha256, &mut sha256)
        .map_err(|error| HoldingsError::Object(format!("failed to read SHA-256: {error}")))?;
    let source = stream_of(index.bundle.size, sha256, {
        let (part, bundle, inputs) = (index.part.clone(), index.bundle.clone(), Arc::clone(inputs));
        move || bundle::open(&part, &bundle, &inputs)
    });
    let content_type = match index.bundle.format {
        ArchiveFormat::Tar => "application/x-tar",
        ArchiveFormat::TarGz => "application/gzip",
        ArchiveFormat::TarZst => "application/zstd",
    };
    let key = ObjectKey::verbatim(index.bundle.key.clone());
    let put = put_one(site, &key, &source, about(index, &source, PutAs { content_type, class: &archive.class })).await;
    put.and_then(is_there).map_err(|error| error.about(format_args!("failed to put bundle {key}")))
}

/// Confirms that the store holds a bundle, whole and in its class.
///
/// # Errors
/// [`HoldingsError::Refused`] if the store cannot be asked, or if the bundle is whole and in the class of captures: then
/// no other bundle may be made of the same captures. [`HoldingsError::Object`] if the bundle is gone or altered. Nothing of
/// it may be deleted in any of these cases.
pub(super) async fn confirm_bundle(
    site: &Site,
    archive: &ArchiveSettings,
    index: &Index,
    put: PutAt,
) -> Result<(), HoldingsError> {
    let bundle = &index.bundle;
    let Some(head) = site.bucket.head(&bundle.key).await? else {
        return Err(HoldingsError::Object(format!("{} is not there", bundle.key)));
    };
    let fits = match has_bytes(site, &bundle.key, &head, (bundle.size, &bundle.sha256, &bundle.md5)).await {
        Err(refusal) if refusal.kind() == RefusalKind::Cold => {
            let why = "the store tells no checksum of it, and it has to be restored before it can be read";
            return Err(HoldingsError::Object(format!("{}: {why}", bundle.key)));
        }
        fits => fits?,
    };
    if !fits {
        return Err(HoldingsError::Object(format!(
            "{} is not the bundle that its index describes: it was altered",
            bundle.key
        )));
    }
    let (class, captures) = (&archive.class, &site.config.s3.storage_class);
    if head.storage_class != *class && (put == PutAt::Now || head.storage_class == *captures) {
        return Err(wrong_class(&bundle.key, &head.storage_class, class).into());
    }
    Ok(())
}

/// Returns the refusal that it amounts to if a store accepts a bundle and ignores its class: every other day would be
/// stored once more too, and nothing would get cheaper.
fn wrong_class(key: &str, is: &str, class: &str) -> Refusal {
    Refusal {
        verdict: Verdict::NeedsOperator,
        code: Some(WRONG_CLASS.to_owned()),
        reason: format!(
            "the store holds {key} in class {is} instead of {class}; nothing is deleted or bundled any more"
        ),
        advice: format!(
            "if it has no such class, write {is} for rotate.archive.class to keep bundles as they are, or null for \
             rotate.archive"
        ),
    }
}

async fn put_one(site: &Site, key: &ObjectKey, source: &Source, about: About) -> Result<Put, HoldingsError> {
    let when = When { now: (site.clock)().wall, patience: Patience::Ordinary };
    Ok(site.bucket.put_new(key, source, &about, when).await?)
}

fn is_there(put: Put) -> Result<(), HoldingsError> {
    match put {
        Put::Stored | Put::AlreadyThere => Ok(()),
        Put::Conflict | Put::Unseen => Err(HoldingsError::Object(
            "the key holds other bytes; look at it with `hk-aws verify`, nothing is deleted".to_owned(),
        )),
    }
}

/// How an object of an archive is stored.
struct PutAs<'a> {
    content_type: &'a str,
    class: &'a str,
}

fn about(index: &Index, source: &Source, PutAs { content_type, class }: PutAs<'_>) -> About {
    let metadata = vec![
        ("camera", index.part.camera.to_string()),
        ("archive", index.part.date.to_string()),
        ("members", index.members.len().to_string()),
        ("sha256", hex::encode(source.sha256)),
    ];
    let tags = vec![("camera", index.part.camera.to_string()), ("archive", index.part.date.to_string())];
    About { content_type: content_type.to_owned(), metadata, tags, class: Some(class.to_owned()) }
}

fn stream_of(size: u64, sha256: [u8; 32], open: impl Fn() -> io::Result<Reader> + Send + Sync + 'static) -> Source {
    Source { content: Content::Stream(Arc::new(open)), size, precedence: Precedence::Job, sha256 }
}

/// Returns whether an object has bytes of this size, SHA-256 and MD5. An `ETag` that is an MD5 is that of the bytes; otherwise
/// the SHA-256 has to be proven.
async fn has_bytes(
    site: &Site,
    key: &str,
    head: &Head,
    (size, sha256, md5): (u64, &str, &str),
) -> Result<bool, Refusal> {
    if head.size != size || head.is(sha256) == Some(false) {
        return Ok(false);
    }
    match &head.md5 {
        Some(etag) => Ok(etag.eq_ignore_ascii_case(md5)),
        None => Ok(site.bucket.proven_sha256(key, None, head).await? == sha256),
    }
}
