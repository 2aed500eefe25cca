//! Versions: what a bucket that keeps them still has of objects that were deleted or covered.
//!
//! A deletion puts a marker in front of an object, and a put covers it (S3 User Guide, "Retaining multiple versions of
//! objects with S3 Versioning"). Only a deletion that names a version erases it, and one that names a marker takes it away.

use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::types::ObjectIdentifier;
use chrono::{DateTime, Utc};
use futures_util::TryFutureExt;
use futures_util::stream::{self, Stream, TryStreamExt};

use super::pages::{Listed, Marker, PageFacts, WholeAnswer, pages};
use crate::bucket::objects::{self, MOST_DELETED};
use crate::bucket::wire::{time, unquoted};
use crate::bucket::{Bucket, Refusal};

/// What to do where the credentials have no right on versions.
const AS_OWNER: &str = "the box's own keys have no right on versions: run this with the owner's credentials, for example \
                        with AWS_PROFILE, which";

/// The right to erase versions and markers.
const ERASE: &str = "s3:DeleteObjectVersion";

/// All versions of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyVersions {
    /// The key.
    pub key: String,
    /// Its versions and markers, newest first.
    pub versions: Vec<Version>,
}

/// A version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its id; `null` for what was stored while the bucket kept no versions.
    pub id: String,
    /// When it was stored, by the store's clock, which tells whole seconds.
    pub stored_at: DateTime<Utc>,
    /// Whether it is what everybody sees who names no version.
    pub is_latest: bool,
    /// What it holds; `None` for a marker.
    pub content: Option<Content>,
}

/// What a version holds, as a listing describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The number of bytes.
    pub size: u64,
    /// The `ETag` without its quotes.
    pub etag: String,
    /// The storage class, as the store spells it.
    pub storage_class: String,
}

/// A listing of versions under way.
struct Listing<P> {
    pages: P,
    ended: bool,
    /// The last key of the pages so far, which the next page may continue.
    last: Option<Unmerged>,
    /// Keys that are complete, in reverse order.
    complete: Vec<KeyVersions>,
}

/// The versions and the markers of a key, each newest first: the SDK takes them apart.
struct Unmerged {
    key: String,
    objects: Vec<Version>,
    markers: Vec<Version>,
}

impl Bucket {
    /// Streams the versions of all keys that start with `prefix`, key by key. In memory are one page and the versions of
    /// one key.
    ///
    /// # Errors
    /// The stream ends with a [`Refusal`] if the store refuses or does not answer: the keys so far are complete, the rest
    /// is not known.
    pub fn versions(&self, prefix: &str) -> impl Stream<Item = Result<KeyVersions, Refusal>> + use<> {
        let list = self.client.list_object_versions().bucket(&self.config.bucket).prefix(prefix);
        let ask = move |marker: Option<Marker>| {
            let (key, id) = marker.map_or((None, None), |marker| (Some(marker.at), marker.id));
            let page = list.clone().set_key_marker(key).set_version_id_marker(id);
            let page = page.customize().interceptor(WholeAnswer).send();
            page.map_err(|error| Refusal::of("list object versions", &error).needing_as_owner("s3:ListBucketVersions"))
        };
        let listed = Listed { what: "list object versions", prefix: prefix.to_owned(), repeats: true };
        let pages = Box::pin(pages(listed, ask, facts));
        let listing = Listing { pages, ended: false, last: None, complete: Vec::new() };
        stream::try_unfold(listing, async |mut listing| {
            while listing.complete.is_empty() && !listing.ended {
                let page = listing.pages.try_next().await?;
                listing.take(page);
            }
            Ok(listing.complete.pop().map(|versions| (versions, listing)))
        })
    }

    /// Erases versions or takes markers away, each named by its key and id, a thousand in a request; returns those that
    /// could not be erased, each as its key with the reason.
    ///
    /// # Errors
    /// As [`Bucket::delete_all`].
    pub async fn erase_all(&self, versions: &[(&str, &str)]) -> Result<Vec<(String, String)>, Refusal> {
        let identify = |(key, id): &(&str, &str)| ObjectIdentifier::builder().key(*key).version_id(*id).build();
        let mut failed = Vec::new();
        for batch in versions.chunks(MOST_DELETED) {
            let erased = self.delete_identified(batch.iter().map(identify).collect()).await;
            let errors = erased.map_err(|refusal| refusal.needing_as_owner(ERASE))?;
            failed.extend(errors.into_iter().filter_map(objects::kept));
        }
        // AWS refuses each version of a request on its own.
        let advise = |(key, why): (String, String)| {
            let denied = why.starts_with("AccessDenied");
            (key, if denied { format!("{why}; {AS_OWNER} need {ERASE}") } else { why })
        };
        Ok(failed.into_iter().map(advise).collect())
    }
}

impl Refusal {
    /// Returns this refusal of a request about versions with advice for whoever has no right on them.
    pub(super) fn needing_as_owner(self, permission: &str) -> Self {
        if self.code.as_deref() != Some("AccessDenied") {
            return self;
        }
        Self { advice: format!("{AS_OWNER} need {permission}"), ..self }
    }
}

fn facts(page: &ListObjectVersionsOutput) -> PageFacts<'_> {
    let versions = page.versions().iter().filter_map(|version| version.key()).collect();
    let markers = page.delete_markers().iter().filter_map(|marker| marker.key()).collect();
    let id = page.next_version_id_marker().map(str::to_owned);
    PageFacts {
        names: vec![versions, markers],
        truncated: page.is_truncated(),
        next: page.next_key_marker().map(|key| Marker { at: key.to_owned(), id }),
    }
}

impl<P> Listing<P> {
    /// Takes the versions of the next page; `None` after the last one. All keys except the last are complete.
    fn take(&mut self, page: Option<ListObjectVersionsOutput>) {
        self.ended = page.is_none();
        let page = page.unwrap_or_else(|| ListObjectVersionsOutput::builder().build());
        let objects = page.versions.unwrap_or_default().into_iter().map(|version| {
            let content = Content {
                size: version.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                etag: unquoted(version.e_tag()),
                storage_class: version.storage_class().map_or("STANDARD", |class| class.as_str()).to_owned(),
            };
            let stored_at = time(version.last_modified());
            let is_latest = version.is_latest == Some(true);
            let id = version.version_id.unwrap_or_default();
            (version.key.unwrap_or_default(), Version { id, stored_at, is_latest, content: Some(content) })
        });
        let markers = page.delete_markers.unwrap_or_default().into_iter().map(|marker| {
            let (stored_at, is_latest) = (time(marker.last_modified()), marker.is_latest == Some(true));
            let id = marker.version_id.unwrap_or_default();
            (marker.key.unwrap_or_default(), Version { id, stored_at, is_latest, content: None })
        });
        let (mut objects, mut markers) = (objects.peekable(), markers.peekable());
        let mut complete = Vec::new();
        loop {
            let keys = objects.peek().map(|(key, _)| key).into_iter().chain(markers.peek().map(|(key, _)| key));
            let Some(key) = keys.min().cloned() else { break };
            if self.last.as_ref().is_none_or(|last| last.key != key) {
                let begun = Unmerged { key: key.clone(), objects: Vec::new(), markers: Vec::new() };
                complete.extend(self.last.replace(begun).map(Unmerged::merge));
            }
            let Some(last) = &mut self.last else { break };
            while let Some((_, version)) = objects.next_if(|(next, _)| *next == key) {
                last.objects.push(version);
            }
            while let Some((_, marker)) = markers.next_if(|(next, _)| *next == key) {
                last.markers.push(marker);
            }
        }
        if self.ended {
            complete.extend(self.last.take().map(Unmerged::merge));
        }
        complete.reverse();
        self.complete = complete;
    }
}

impl Unmerged {
    /// Puts the versions of the key in one order. Of a version and a marker of the same second nobody knows which was
    /// first: the marker counts as the newer one, so that it is taken away with those that hide the version.
    fn merge(self) -> KeyVersions {
        let mut versions = Vec::with_capacity(self.objects.len() + self.markers.len());
        let (mut objects, mut markers) = (self.objects.into_iter().peekable(), self.markers.into_iter().peekable());
        loop {
            let object_is_next = match (objects.peek(), markers.peek()) {
                (Some(object), Some(marker)) => {
                    object.is_latest || !marker.is_latest && object.stored_at > marker.stored_at
                }
                (Some(_), None) => true,
                (None, _) => false,
            };
            match if object_is_next { objects.next() } else { markers.next() } {
                Some(version) => versions.push(version),
                None => return KeyVersions { key: self.key, versions },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(id: &str, second: i64, is_latest: bool) -> Version {
        let content = (!id.starts_with('m')).then(|| Content { size: 1, etag: id.into(), storage_class: "S".into() });
        let stored_at = DateTime::from_timestamp(second, 0).unwrap();
        Version { id: id.to_owned(), stored_at, is_latest, content }
    }

    #[test]
    fn versions_and_markers_are_put_in_the_order_of_time_and_the_latest_is_first() {
        for (objects, markers, expected) in [
            (vec![version("b", 5, true), version("a", 1, false)], vec![version("m", 3, false)], "b m a"),
            (vec![version("b", 2, false), version("a", 1, false)], vec![version("m", 2, true)], "m b a"),
            // All in one second.
            (vec![version("b", 2, true), version("a", 2, false)], vec![version("m", 2, false)], "b m a"),
            (vec![version("a", 2, false)], vec![version("m2", 2, true), version("m", 2, false)], "m2 m a"),
            // What went up in parts is dated by its beginning.
            (vec![version("b", 1, true), version("a", 2, false)], vec![version("m", 3, false)], "b m a"),
        ] {
            let merged = Unmerged { key: "k".into(), objects, markers }.merge();
            let ids: Vec<&str> = merged.versions.iter().map(|version| version.id.as_str()).collect();
            assert_eq!(ids.join(" "), expected);
        }
    }
}
