//! The archive of a camera-day with its versions: which of them belong in front, and what its bundles hold.
//!
//! A bundle or an index that was deleted may have come back with other bytes: from a thief, or from the rotation, which
//! takes back an index that has no bundle. The oldest index that can be read and fits a bundle belongs in front, together
//! with that bundle: nobody can put something under a key before it was there.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::TryStreamExt;

use super::decide::{self, Window};
use super::passing;
use crate::bucket::{KeyVersions, Refusal, Version};
use crate::bundle::Index;
use crate::holdings::ObjectIdentity;
use crate::key::{ArchiveFormat, ArchiveObject, Archived, BundleId};
use crate::site::Site;

/// The size in bytes of the largest index that is read: that of a hundred thousand captures is a third of it.
const MOST_OF_AN_INDEX: u64 = 64 << 20;

/// How many contents of one index are read.
const MOST_INDEXES: usize = 16;

/// The versions of all bundles and indexes of a camera-day.
#[derive(Debug, Default)]
pub(super) struct ArchiveVersions {
    pub(super) parts: BTreeMap<BundleId, PartVersions>,
}

/// The versions of a part.
#[derive(Debug, Default)]
pub(super) struct PartVersions {
    pub(super) index: Option<KeyVersions>,
    pub(super) bundles: Vec<(ArchiveFormat, KeyVersions)>,
}

/// The versions of a part that belong in front.
#[derive(Debug, Default)]
pub(super) struct Fronts {
    /// The id of the index's version, and the index.
    pub(super) index: Option<(String, Index)>,
    /// The id of the bundle's version that the index describes.
    bundle: Option<String>,
}

impl ArchiveVersions {
    pub(super) fn insert(&mut self, Archived { part, what }: Archived, versions: KeyVersions) {
        let part = self.parts.entry(part).or_default();
        match what {
            ArchiveObject::Bundle(format) => part.bundles.push((format, versions)),
            ArchiveObject::Index => part.index = Some(versions),
        }
    }
}

impl PartVersions {
    /// Returns the objects of the part.
    pub(super) fn keys(&self) -> impl Iterator<Item = (Option<ArchiveFormat>, &KeyVersions)> {
        let bundles = self.bundles.iter().map(|(format, versions)| (Some(*format), versions));
        self.index.iter().map(|index| (None, index)).chain(bundles)
    }

    /// Returns whether something of the part was hidden, and whether there is a choice of what belongs in front.
    pub(super) fn hidden(&self, window: Window) -> (bool, bool) {
        let hides = self.keys().any(|(_, key)| decide::has_hidden(&key.versions, window));
        let has_choice = self.keys().any(|(_, key)| decide::candidates(&key.versions, window).len() > 1);
        (hides, has_choice)
    }

    /// Finds the versions that belong in front.
    ///
    /// # Errors
    /// A [`Refusal`] if the bucket refuses everything or does not answer.
    pub(super) async fn fronts(&self, site: &Site, part: &BundleId, window: Window) -> Result<Fronts, Refusal> {
        let mut readable = Fronts::default();
        let Some(versions) = &self.index else { return Ok(readable) };
        for version in oldest_first(versions, window).take(MOST_INDEXES) {
            let Some(index) = read(site, &versions.key, version, part).await? else { continue };
            let bundle = self.bundle_of(site, &index, window).await?;
            let fits = bundle.is_some();
            if fits || readable.index.is_none() {
                readable = Fronts { index: Some((version.id.clone(), index)), bundle };
            }
            if fits {
                break;
            }
        }
        Ok(readable)
    }

    /// Returns the id of the oldest version of a bundle that an index describes.
    async fn bundle_of(&self, site: &Site, index: &Index, window: Window) -> Result<Option<String>, Refusal> {
        let bundle = &index.bundle;
        for (format, versions) in &self.bundles {
            for version in oldest_first(versions, window).filter(|_| *format == bundle.format) {
                let Some(content) = version.content.as_ref().filter(|content| content.size == bundle.size) else {
                    continue;
                };
                if content.etag == bundle.md5 {
                    return Ok(Some(version.id.clone()));
                }
                // With a key of KMS, and where it came in parts, the ETag is no MD5.
                let (key, id) = (&versions.key, Some(version.id.as_str()));
                let Some(Some(head)) = passing(site.bucket.head_version(key, id).await)? else { continue };
                let sha256 = passing(site.bucket.proven_sha256(key, id, &head).await)?;
                if sha256.is_some_and(|sha256| sha256 == bundle.sha256) {
                    return Ok(Some(version.id.clone()));
                }
            }
        }
        Ok(None)
    }
}

impl Fronts {
    /// Returns the id of the version that belongs in front under a key of the part: the oldest one if no index tells.
    pub(super) fn of<'a>(
        &'a self,
        format: Option<ArchiveFormat>,
        versions: &'a KeyVersions,
        window: Window,
    ) -> Option<&'a str> {
        let known = match (format, &self.index) {
            (None, Some((id, _))) => Some(id),
            (Some(format), Some((_, index))) if index.bundle.format == format => self.bundle.as_ref(),
            _ => None,
        };
        let oldest = || oldest_first(versions, window).next().map(|version| version.id.as_str());
        known.map(String::as_str).or_else(oldest)
    }

    /// Returns when the newest member of the bundle was stored.
    pub(super) fn newest_stored(&self) -> Option<DateTime<Utc>> {
        self.index.as_ref()?.1.newest_stored()
    }

    /// Returns what the bundle holds, if it is there or comes back together with its index.
    fn into_members(self) -> impl Iterator<Item = ObjectIdentity> {
        let index = self.index.filter(|_| self.bundle.is_some());
        let members = index.into_iter().flat_map(|(_, index)| index.members);
        members.map(|member| ObjectIdentity::of_note(&member.note))
    }
}

/// Returns the captures that the bundles of a camera-day hold once they are brought back.
///
/// # Errors
/// A [`Refusal`] if the bucket refuses everything or does not answer.
pub(super) async fn members(
    site: &Site,
    camera: &str,
    date: NaiveDate,
    window: Window,
) -> Result<HashSet<ObjectIdentity>, Refusal> {
    let mut keys = std::pin::pin!(site.bucket.versions(&format!("{}{date}.", site.layout.archive_prefix(camera))));
    let mut archive = ArchiveVersions::default();
    while let Some(versions) = keys.try_next().await? {
        if let Some(archived) = site.layout.parse_archive(&versions.key) {
            archive.insert(archived, versions);
        }
    }
    let mut members = HashSet::new();
    for (part, versions) in &archive.parts {
        members.extend(Box::pin(versions.fronts(site, part, window)).await?.into_members());
    }
    Ok(members)
}

/// Returns the contents that may be in front, the one that was there first before the others: what an earlier run brought
/// back is as old as what it was copied from.
fn oldest_first(versions: &KeyVersions, window: Window) -> impl Iterator<Item = &Version> {
    let mut candidates = decide::candidates(&versions.versions, window);
    candidates.sort_by_key(|at| Reverse(decide::first_with_content(&versions.versions, *at)));
    candidates.into_iter().map(|at| &versions.versions[at])
}

/// Reads one version of an index; returns `None` if it is of no use.
async fn read(site: &Site, key: &str, version: &Version, part: &BundleId) -> Result<Option<Index>, Refusal> {
    if version.content.as_ref().is_none_or(|content| content.size > MOST_OF_AN_INDEX) {
        return Ok(None);
    }
    let mut text = Vec::new();
    let got = passing(site.bucket.get_version(key, Some(&version.id), &mut text).await)?;
    let whole = got.filter(|got| got.expected.iter().all(|expected| *expected == got.sha256));
    Ok(whole.and_then(|_| Index::parse(&text, part).ok()))
}
