//! The versions of a bucket that keeps them: what is under the objects that everybody sees.
//!
//! The current objects stay in [`State::objects`]. What they covered and the markers that hide them lie here, for each key
//! oldest first. So a bucket that keeps no versions pays nothing for them.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::{Duration, SystemTime};

use s3s::dto::{DeleteMarkerEntry, ETag, ListObjectVersionsInput, ListObjectVersionsOutput, ObjectVersion};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::{MemoryS3, Object, State, Versions, store};

/// The id of what was stored before the bucket kept versions.
pub(crate) const NULL: &str = "null";

/// A version that is not the current object.
#[derive(Debug, Clone)]
pub(crate) enum Older {
    /// An object that something newer covers.
    Object(Box<Object>),
    /// A marker: it hides what is under it while it is the newest.
    Marker { id: String, since: SystemTime },
}

impl Older {
    fn id(&self) -> &str {
        match self {
            Self::Object(object) => &object.version_id,
            Self::Marker { id, .. } => id,
        }
    }

    fn since(&self) -> SystemTime {
        match self {
            Self::Object(object) => object.last_modified,
            Self::Marker { since, .. } => *since,
        }
    }
}

impl MemoryS3 {
    /// Takes the versions that are old ones for longer than this, by the store's clock.
    pub(crate) fn expire_older(&self, than: Duration) {
        self.wire.shared.change(|state| state.expire_older(state.stored_now() - than));
    }
}

/// What became of a deletion.
pub(super) struct Deletion {
    /// The version that was erased, or the marker that was made.
    pub(super) version: Option<String>,
    /// Whether that is a marker.
    pub(super) marker: bool,
}

impl State {
    pub(super) fn keep_versions(&mut self, versions: Versions) {
        self.versions = versions;
        if versions == Versions::None {
            self.older.clear();
            self.objects.values_mut().for_each(|object| NULL.clone_into(&mut object.version_id));
        }
    }

    /// Puts an object in front of what is under its key; returns its version.
    pub(super) fn place(&mut self, key: String, mut object: Object) -> Option<String> {
        if self.versions == Versions::None {
            self.objects.insert(key, object);
            return None;
        }
        let id = self.next_version();
        object.version_id.clone_from(&id);
        if let Some(covered) = self.objects.insert(key.clone(), object) {
            self.older.entry(key).or_default().push(Older::Object(Box::new(covered)));
        }
        Some(id)
    }

    /// Deletes an object, or one version of it.
    pub(super) fn delete(&mut self, key: &str, version: Option<&str>) -> Deletion {
        match version {
            Some(id) => self.erase(key, id),
            None => self.hide(key),
        }
    }

    /// Deletes an object: for good where there are no versions, otherwise by a marker in front of it.
    fn hide(&mut self, key: &str) -> Deletion {
        let object = self.objects.remove(key);
        if self.versions == Versions::None {
            return Deletion { version: None, marker: false };
        }
        let id = self.next_version();
        let marker = Older::Marker { id: id.clone(), since: self.stored_now() };
        self.older
            .entry(key.to_owned())
            .or_default()
            .extend(object.map(Box::new).map(Older::Object).into_iter().chain([marker]));
        Deletion { version: Some(id), marker: true }
    }

    /// Erases one version, or takes one marker away; one that is not there counts as erased.
    fn erase(&mut self, key: &str, id: &str) -> Deletion {
        let mut marker = false;
        if self.objects.get(key).is_some_and(|object| object.version_id == id) {
            self.objects.remove(key);
        } else if let Some(older) = self.older.get_mut(key)
            && let Some(at) = older.iter().position(|version| version.id() == id)
        {
            marker = matches!(older.remove(at), Older::Marker { .. });
        }
        // What was under it is in front now.
        if !self.objects.contains_key(key)
            && let Some(older) = self.older.get_mut(key)
        {
            match older.pop() {
                Some(Older::Object(object)) => drop(self.objects.insert(key.to_owned(), *object)),
                Some(marker) => older.push(marker),
                None => {}
            }
            if older.is_empty() {
                self.older.remove(key);
            }
        }
        Deletion { version: Some(id.to_owned()), marker }
    }

    /// Returns an object, or one version of it.
    pub(super) fn find(&self, key: &str, version: Option<&str>) -> S3Result<&Object> {
        let Some(id) = version else { return self.objects.get(key).ok_or_else(store::no_such_key) };
        if let Some(object) = self.objects.get(key).filter(|object| object.version_id == id) {
            return Ok(object);
        }
        let older = self.older.get(key).and_then(|older| older.iter().find(|version| version.id() == id));
        match older {
            Some(Older::Object(object)) => Ok(object),
            Some(Older::Marker { .. }) => {
                Err(s3_error!(MethodNotAllowed, "The specified method is not allowed against this resource."))
            }
            None => Err(S3Error::with_message(S3ErrorCode::NoSuchVersion, "The specified version does not exist.")),
        }
    }

    /// Lists versions by key, and those of a key newest first, from a version on that was listed before.
    pub(super) fn list_versions(&self, input: ListObjectVersionsInput, most: i32) -> ListObjectVersionsOutput {
        let prefix = input.prefix.clone().unwrap_or_default();
        let limit = usize::try_from(input.max_keys.unwrap_or(most).clamp(0, most)).unwrap_or_default();
        let (key_marker, id_marker) = (input.key_marker.as_deref(), input.version_id_marker.as_deref());
        let from = key_marker.map_or(&*prefix, |marker| marker.max(&prefix));
        let range = (Bound::Included(from), Bound::Unbounded);
        // Of a large bucket only what may be on the page is looked at; of the first key nothing may be left to list.
        let ours =
            |key: &&String| key.starts_with(&prefix) && (id_marker.is_some() || Some(key.as_str()) != key_marker);
        let current = self.objects.range::<str, _>(range).map(|(key, _)| key).filter(ours).take(limit + 2);
        let older = self.older.range::<str, _>(range).map(|(key, _)| key).filter(ours).take(limit + 2);
        let keys: BTreeSet<&String> = current.chain(older).collect();
        let (mut versions, mut delete_markers, mut last, mut is_truncated) = (vec![], vec![], None, false);
        'keys: for key in keys {
            let mut skips = id_marker.is_some() && Some(key.as_str()) == key_marker;
            let current = self.objects.get(key).cloned().map(Box::new).map(Older::Object);
            let older = self.older.get(key).into_iter().flatten().rev().cloned();
            for (place, version) in current.into_iter().chain(older).enumerate() {
                if skips {
                    skips = Some(version.id()) != id_marker;
                    continue;
                }
                if versions.len() + delete_markers.len() == limit {
                    is_truncated = true;
                    break 'keys;
                }
                last = Some((key.clone(), version.id().to_owned()));
                match version {
                    Older::Object(object) => versions.push(list_entry(key, &object, place == 0)),
                    Older::Marker { id, since } => delete_markers.push(DeleteMarkerEntry {
                        key: Some(key.clone()),
                        version_id: Some(id),
                        is_latest: Some(place == 0),
                        last_modified: Some(whole_seconds(since).into()),
                        ..Default::default()
                    }),
                }
            }
        }
        let (next_key_marker, next_version_id_marker) = last.filter(|_| is_truncated).unzip();
        ListObjectVersionsOutput {
            versions: Some(versions),
            delete_markers: Some(delete_markers),
            is_truncated: Some(is_truncated),
            next_key_marker,
            next_version_id_marker,
            name: Some(input.bucket),
            prefix: input.prefix,
            key_marker: input.key_marker,
            version_id_marker: input.version_id_marker,
            max_keys: i32::try_from(limit).ok(),
            ..Default::default()
        }
    }

    /// Takes the versions that became old ones before a time, as the lifecycle of `aws-template` does.
    fn expire_older(&mut self, before: SystemTime) {
        for (key, older) in &mut self.older {
            let mut hidden_at = self.objects.get(key).map(|object| object.last_modified);
            let mut left = Vec::new();
            for version in std::mem::take(older).into_iter().rev() {
                let since = version.since();
                let stays = matches!(version, Older::Marker { .. }) || hidden_at.is_none_or(|hidden| hidden >= before);
                hidden_at = Some(since);
                left.extend(stays.then_some(version));
            }
            left.reverse();
            *older = left;
        }
        // A marker that hides nothing goes too.
        self.older.retain(|_, older| older.iter().any(|version| matches!(version, Older::Object(_))));
    }

    fn next_version(&mut self) -> String {
        self.last_version += 1;
        format!("version-{}", self.last_version)
    }
}

fn list_entry(key: &str, object: &Object, is_latest: bool) -> ObjectVersion {
    ObjectVersion {
        key: Some(key.to_owned()),
        version_id: Some(object.version_id.clone()),
        is_latest: Some(is_latest),
        size: Some(store::signed(object.len)),
        e_tag: Some(ETag::Strong(object.etag.clone())),
        last_modified: Some(whole_seconds(object.last_modified).into()),
        storage_class: Some(object.storage_class.clone().into()),
        ..Default::default()
    }
}

/// What S3 tells of a time, so that several versions of a key may have the same.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}
