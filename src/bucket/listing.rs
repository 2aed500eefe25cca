//! Listings: the objects, folders or uploads below a prefix, as a stream. One page of at most 1,000 names is in memory at
//! a time. A listing that breaks off is an error, and never passes for a whole one.

use std::borrow::Cow;

use aws_sdk_s3::operation::list_multipart_uploads::ListMultipartUploadsOutput;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::ObjectStorageClass;
use futures_util::TryFutureExt;
use futures_util::stream::{self, Stream, TryStreamExt};

use super::wire::{time, unquoted};
use super::{Bucket, Refusal};
use pages::{Listed, Marker, PageFacts, WholeAnswer, pages};

mod pages;
mod versions;

pub use versions::{Content as VersionContent, KeyVersions, Version};

/// An object, as a listing describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// The storage class, as the store spells it; only the name of one that the SDK does not know takes memory.
    pub storage_class: Cow<'static, str>,
    /// The `ETag` without its quotes: the MD5 of the bytes if they went up in one request without a KMS key.
    pub etag: String,
    /// When it was stored, by the store's clock.
    pub stored_at: chrono::DateTime<chrono::Utc>,
}

/// What lies directly in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A folder in it, as the prefix of keys, which ends with `/`.
    Folder(String),
    /// An object.
    Object(Object),
}

/// An upload in parts that is not finished, as a listing describes it.
#[derive(Debug)]
pub(super) struct UploadUnderWay {
    pub(super) key: String,
    pub(super) id: String,
    /// When it was begun, by the store's clock.
    pub(super) begun: chrono::DateTime<chrono::Utc>,
}

/// How far down a listing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// All objects whose key starts with the prefix.
    All,
    /// Objects up to the next `/` after the prefix; those below it are summed up as folders.
    OneFolder,
}

impl Bucket {
    /// Streams all objects whose key starts with `prefix`, in the order of their keys.
    ///
    /// # Errors
    /// The stream ends with a [`Refusal`] if the store refuses (kind [`Refused`]), does not answer, or gives pages that do
    /// not make a whole listing ([`NoAnswer`]): the objects so far exist, the rest is not known.
    ///
    /// [`Refused`]: super::RefusalKind::Refused
    /// [`NoAnswer`]: super::RefusalKind::NoAnswer
    pub fn objects(&self, prefix: &str) -> impl Stream<Item = Result<Object, Refusal>> + use<> {
        objects_of(self.pages(prefix, Depth::All))
    }

    /// Streams the objects directly in a folder, in the order of their keys; `prefix` ends with `/`, or is empty.
    ///
    /// # Errors
    /// The stream ends with a [`Refusal`] as that of [`Bucket::objects`] does.
    pub fn objects_in_folder(&self, prefix: &str) -> impl Stream<Item = Result<Object, Refusal>> + use<> {
        objects_of(self.pages(prefix, Depth::OneFolder))
    }

    /// Streams the folders directly below `prefix`, in order, as prefixes of keys that end with `/`.
    ///
    /// # Errors
    /// The stream ends with a [`Refusal`] as that of [`Bucket::objects`] does: the folders so far exist, the rest is
    /// not known.
    pub fn folders(&self, prefix: &str) -> impl Stream<Item = Result<String, Refusal>> + use<> {
        self.pages(prefix, Depth::OneFolder)
            .map_ok(|page| {
                let folders = page.common_prefixes.unwrap_or_default().into_iter().filter_map(|folder| folder.prefix);
                stream::iter(folders.map(Ok))
            })
            .try_flatten()
    }

    /// Streams the objects directly in a folder and the folders in it; `prefix` ends with `/`, or is empty.
    ///
    /// # Errors
    /// The stream ends with a [`Refusal`] as that of [`Bucket::objects`] does.
    pub fn entries(&self, prefix: &str) -> impl Stream<Item = Result<Entry, Refusal>> + use<> {
        let entries = |page: ListObjectsV2Output| {
            let folders = page.common_prefixes.unwrap_or_default().into_iter().filter_map(|folder| folder.prefix);
            let objects = page.contents.unwrap_or_default().into_iter().map(read).map(Entry::Object);
            stream::iter(objects.chain(folders.map(Entry::Folder)).map(Ok).collect::<Vec<_>>())
        };
        self.pages(prefix, Depth::OneFolder).map_ok(entries).try_flatten()
    }

    fn pages(&self, prefix: &str, depth: Depth) -> impl Stream<Item = Result<ListObjectsV2Output, Refusal>> + use<> {
        let list = self.client.list_objects_v2().bucket(&self.config.bucket).prefix(prefix);
        let list = list.set_delimiter((depth == Depth::OneFolder).then(|| "/".to_owned()));
        let ask = move |marker: Option<Marker>| {
            let list = list.clone().set_continuation_token(marker.map(|marker| marker.at));
            let page = list.customize().interceptor(WholeAnswer).send();
            page.map_err(|error| Refusal::of("list objects", &error).needing("s3:ListBucket"))
        };
        pages(Listed { what: "list objects", prefix: prefix.to_owned(), repeats: false }, ask, facts)
    }

    /// Streams every upload in parts that is under way and whose key starts with `prefix`.
    ///
    /// # Errors
    /// The stream ends with a [`Refusal`] as that of [`Bucket::objects`] does: the uploads so far exist, the rest is not
    /// known.
    pub(super) fn uploads_under_way(
        &self,
        prefix: &str,
    ) -> impl Stream<Item = Result<UploadUnderWay, Refusal>> + use<> {
        let list = self.client.list_multipart_uploads().bucket(&self.config.bucket).prefix(prefix);
        let ask = move |marker: Option<Marker>| {
            let (key, id) = marker.map_or((None, None), |marker| (Some(marker.at), marker.id));
            let list = list.clone().set_key_marker(key).set_upload_id_marker(id);
            let page = list.customize().interceptor(WholeAnswer).send();
            page.map_err(|error| Refusal::of("list multipart uploads", &error).needing("s3:ListBucketMultipartUploads"))
        };
        let uploads = |page: ListMultipartUploadsOutput| {
            let uploads = page.uploads.unwrap_or_default().into_iter();
            stream::iter(uploads.filter_map(|upload| {
                let begun = time(upload.initiated());
                Some(Ok(UploadUnderWay { key: upload.key?, id: upload.upload_id?, begun }))
            }))
        };
        let listed = Listed { what: "list multipart uploads", prefix: prefix.to_owned(), repeats: true };
        pages(listed, ask, facts_of_uploads).map_ok(uploads).try_flatten()
    }
}

fn facts(page: &ListObjectsV2Output) -> PageFacts<'_> {
    let objects = page.contents().iter().filter_map(|object| object.key()).collect();
    let folders = page.common_prefixes().iter().filter_map(|folder| folder.prefix()).collect();
    PageFacts {
        names: vec![objects, folders],
        truncated: page.is_truncated(),
        next: page.next_continuation_token().map(|token| Marker { at: token.to_owned(), id: None }),
    }
}

fn facts_of_uploads(page: &ListMultipartUploadsOutput) -> PageFacts<'_> {
    let mut keys: Vec<&str> = page.uploads().iter().filter_map(|upload| upload.key()).collect();
    // Some stores list the uploads of a page in the order of their ids.
    keys.sort_unstable();
    let id = page.next_upload_id_marker().map(str::to_owned);
    PageFacts {
        names: vec![keys],
        truncated: page.is_truncated(),
        next: page.next_key_marker().map(|key| Marker { at: key.to_owned(), id }),
    }
}

fn read(object: aws_sdk_s3::types::Object) -> Object {
    Object {
        size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
        storage_class: object.storage_class().map_or(Cow::Borrowed("STANDARD"), class_name),
        etag: unquoted(object.e_tag()),
        stored_at: time(object.last_modified()),
        key: object.key.unwrap_or_default(),
    }
}

fn class_name(class: &ObjectStorageClass) -> Cow<'static, str> {
    let known = ObjectStorageClass::values().iter().find(|known| **known == class.as_str());
    known.map_or_else(|| Cow::Owned(class.as_str().to_owned()), |known| Cow::Borrowed(*known))
}

fn objects_of(
    pages: impl Stream<Item = Result<ListObjectsV2Output, Refusal>>,
) -> impl Stream<Item = Result<Object, Refusal>> {
    let objects = |page: ListObjectsV2Output| {
        let objects = page.contents.unwrap_or_default().into_iter().map(read);
        stream::iter(objects.map(Ok))
    };
    pages.map_ok(objects).try_flatten()
}
