//! Brings back what was deleted or covered in a bucket that keeps versions, with the owner's credentials.
//!
//! The versions are listed twice, key by key: first bundles and indexes are brought back, then everything else, because
//! what a bundle holds was deleted by the rotation itself and stays so. What is decided about a key depends on nothing but
//! its versions, the time in question and that.
//!
//! Nothing is erased but markers. A version is copied, never moved, and no object is covered before it has a copy itself.
//!
//! # Crashes
//! All state is in the bucket. A run that ends anywhere is done again: what is in front, and what has a copy with the
//! same bytes, needs nothing any more.

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::TryStreamExt;
use serde::Serialize;

use crate::bucket::{KeyVersions, PROBE, Refusal, Verdict};
use crate::holdings::{HoldingsError, ObjectIdentity};
use crate::key::CameraName;
use crate::retention;
use crate::site::Site;

mod apply;
mod archive;
mod decide;

pub use decide::Window;

use archive::ArchiveVersions;
use decide::{Decision, decide};

/// Steps that are carried out together.
const BATCH: usize = 1000;

/// Days whose members are remembered.
const DAYS_REMEMBERED: usize = 8;

/// How many objects of other programs are named.
const MOST_NAMED: usize = 10;

/// What is to be brought back.
#[derive(Debug, Clone, Copy)]
pub struct RecoverOrder<'a> {
    /// Of this camera; `None`: of all.
    pub camera: Option<&'a CameraName>,
    /// What was hidden in this time.
    pub window: Window,
    /// Also what a bundle holds or what expired, and objects of other programs.
    pub all: bool,
    /// Whether it is brought back.
    pub mode: RecoverMode,
}

/// Whether things are brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoverMode {
    /// They are.
    Recover,
    /// It is only said what would be.
    DryRun,
}

/// What happened to a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Happened {
    /// It was deleted.
    Deleted,
    /// Another object was put over it.
    Covered,
    /// It lies where a bundle or an index belongs, and makes room.
    InTheWay,
}

/// What became of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoverOutcome {
    /// It is back.
    Recovered,
    /// It would be brought back.
    Planned,
    /// It stays an old version: its class must be restored before it can be copied.
    Cold,
    /// It stays an old version: it is too large to be copied by one request.
    TooLarge,
    /// It stays an old version for another reason.
    Failed,
}

impl RecoverOutcome {
    /// Returns whether it is still an old version although it should be back.
    pub fn stays(self) -> bool {
        !matches!(self, Self::Recovered | Self::Planned)
    }
}

/// A version, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// Its key.
    pub key: String,
    /// The camera; `None` for an object of another program.
    pub camera: Option<CameraName>,
    /// The day, at the camera.
    pub date: Option<NaiveDate>,
    /// Its version.
    pub version: String,
    /// Its size in bytes.
    pub size: u64,
    /// What happened to it.
    pub happened: Happened,
    /// When that happened, by the store's clock.
    pub at: DateTime<Utc>,
    /// The key under which it is found now, or would be.
    pub to: Option<String>,
    /// What became of it.
    pub outcome: RecoverOutcome,
    /// Why it stays an old version, and what to do.
    pub why: Option<String>,
}

/// What was left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LeftHidden {
    /// How many captures were left because a bundle holds them, or because they had expired.
    pub by_rotation: usize,
    /// How many hidden objects are none of this program's.
    pub others: usize,
    /// The first of them.
    pub named: Vec<String>,
}

/// Why not everything was looked at.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The bucket refuses, or does not answer.
    #[error(transparent)]
    Refused(#[from] HoldingsError),
    /// The bucket has no versions.
    #[error(
        "{bucket} keeps no versions: what is deleted or covered there is gone. `hk-aws aws-template` prints a bucket that \
         keeps them"
    )]
    NoVersions {
        /// The bucket.
        bucket: String,
    },
    /// Too many failures in a row: the bucket refuses everything, or does not answer.
    #[error("stopped after several failures in a row; what was not tried stays: {0}")]
    GaveUp(Refusal),
    /// Whoever is told what happens wanted no more.
    #[error("the work was ended")]
    Stopped,
}

impl From<Refusal> for RecoverError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.into())
    }
}

/// What was decided about a key.
#[derive(Debug)]
struct Work {
    key: KeyVersions,
    camera: Option<CameraName>,
    date: Option<NaiveDate>,
    decision: Decision,
}

/// A run.
struct Run<'a, T> {
    site: &'a Site,
    order: RecoverOrder<'a>,
    tell: T,
    works: Vec<Work>,
    steps: usize,
    left: LeftHidden,
    /// Whether the bucket has versions.
    has_versions: bool,
    /// What the bundles of the last days hold.
    members: VecDeque<(CameraName, NaiveDate, Arc<HashSet<ObjectIdentity>>)>,
}

/// Brings back what an order names; `tell` hears of each version, and may end the work. Returns what was left hidden.
///
/// # Errors
/// [`RecoverError`] if not everything was looked at; the next call goes on.
pub async fn recover(
    site: &Site,
    order: RecoverOrder<'_>,
    tell: impl FnMut(Recovered) -> ControlFlow<()>,
) -> Result<LeftHidden, RecoverError> {
    let mut run = Run {
        site,
        order,
        tell,
        works: Vec::new(),
        steps: 0,
        left: LeftHidden::default(),
        has_versions: false,
        members: VecDeque::new(),
    };
    run.archives().await?;
    run.flush().await?;
    run.loose().await?;
    run.flush().await?;
    if !run.has_versions && site.bucket.keeps_versions().await? == Some(false) {
        return Err(RecoverError::NoVersions { bucket: site.bucket.describe() });
    }
    Ok(run.left)
}

impl<T: FnMut(Recovered) -> ControlFlow<()>> Run<'_, T> {
    /// Brings back bundles and indexes.
    async fn archives(&mut self) -> Result<(), RecoverError> {
        let layout = &self.site.layout;
        let prefix = match self.order.camera {
            Some(camera) => layout.archive_prefix(camera),
            None => layout.prefix().to_owned(),
        };
        let mut keys = std::pin::pin!(self.site.bucket.versions(&prefix));
        let mut day = None;
        let mut archive = ArchiveVersions::default();
        while let Some(versions) = keys.try_next().await.map_err(|refusal| self.of_listing(refusal))? {
            let Some(archived) = layout.parse_archive(&versions.key) else { continue };
            let next = Some((archived.part.camera.clone(), archived.part.date));
            if day != next {
                self.archive(std::mem::take(&mut archive)).await?;
                day = next;
            }
            archive.insert(archived, versions);
        }
        self.archive(archive).await
    }

    /// Decides about the archive of a camera-day.
    async fn archive(&mut self, archive: ArchiveVersions) -> Result<(), RecoverError> {
        let window = self.order.window;
        for (part, versions) in archive.parts {
            let (hides, has_choice) = versions.hidden(window);
            if !hides {
                continue;
            }
            let expire = self.site.config.rotate.expire.filter(|_| !self.order.all);
            let fronts = if has_choice || expire.is_some() {
                Box::pin(versions.fronts(self.site, &part, window)).await?
            } else {
                archive::Fronts::default()
            };
            for (format, key) in versions.keys() {
                let in_front = fronts.of(format, key, window);
                let decision = decide(&key.versions, window, in_front, |at| {
                    let stored_at = fronts.newest_stored().unwrap_or(key.versions[at].stored_at);
                    self.has_expired(key, at, part.date, stored_at)
                });
                self.left.by_rotation += decision.left;
                self.push(key.clone(), Some(part.camera.clone()), Some(part.date), decision);
            }
            if self.steps >= BATCH {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Brings back everything else.
    async fn loose(&mut self) -> Result<(), RecoverError> {
        let (layout, window) = (&self.site.layout, self.order.window);
        let prefix =
            self.order.camera.map_or_else(|| layout.prefix().to_owned(), |camera| layout.camera_prefix(camera));
        let mut keys = std::pin::pin!(self.site.bucket.versions(&prefix));
        while let Some(key) = keys.try_next().await.map_err(|refusal| self.of_listing(refusal))? {
            self.has_versions |= key.versions.iter().any(|version| version.id != "null");
            let is_ours = key.key.ends_with(PROBE)
                || crate::key::is_heartbeat(&key.key)
                || layout.parse_archive(&key.key).is_some();
            if is_ours || !decide::has_hidden(&key.versions, window) {
                continue;
            }
            let Some(parts) = layout.parse(&key.key) else {
                self.other(key);
                continue;
            };
            let members = if self.order.all { Arc::default() } else { self.members(&parts.camera, parts.date).await? };
            let decision = decide(&key.versions, window, None, |at| {
                let version = &key.versions[at];
                let Some(content) = version.content.as_ref().filter(|_| !self.order.all) else { return false };
                let identity = ObjectIdentity { key: key.key.clone(), size: content.size, etag: content.etag.clone() };
                let was_deleted = decide::hidden(&key.versions, at).is_some_and(|(_, by_marker)| by_marker);
                was_deleted && members.contains(&identity) || self.has_expired(&key, at, parts.date, version.stored_at)
            });
            self.left.by_rotation += decision.left;
            self.push(key, Some(parts.camera), Some(parts.date), decision);
            if self.steps >= BATCH {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Takes an object that has no place in the layout: it is brought back only if everything is.
    fn other(&mut self, key: KeyVersions) {
        if self.order.all {
            let decision = decide(&key.versions, self.order.window, None, |_| false);
            return self.push(key, None, None, decision);
        }
        self.left.others += 1;
        if self.left.named.len() < MOST_NAMED {
            self.left.named.push(key.key);
        }
    }

    /// Returns whether the rotation deleted a version because of its age.
    fn has_expired(&self, key: &KeyVersions, at: usize, date: NaiveDate, stored_at: DateTime<Utc>) -> bool {
        let Some(expire) = self.site.config.rotate.expire.filter(|_| !self.order.all) else { return false };
        let hidden = decide::hidden(&key.versions, at);
        hidden.is_some_and(|(hidden_at, by_marker)| {
            let hidden_on = hidden_at.with_timezone(&self.site.config.timezone).date_naive();
            by_marker && retention::is_due(date.max(stored_at.date_naive()), expire.after, hidden_on)
        })
    }

    async fn members(
        &mut self,
        camera: &CameraName,
        date: NaiveDate,
    ) -> Result<Arc<HashSet<ObjectIdentity>>, RecoverError> {
        let known = self.members.iter().find(|(of, day, _)| of == camera && *day == date);
        if let Some((_, _, members)) = known {
            return Ok(Arc::clone(members));
        }
        let found = Box::pin(archive::members(self.site, camera, date, self.order.window)).await;
        let members = Arc::new(found.map_err(|refusal| self.of_listing(refusal))?);
        self.members.push_back((camera.clone(), date, Arc::clone(&members)));
        if self.members.len() > DAYS_REMEMBERED {
            self.members.pop_front();
        }
        Ok(members)
    }

    fn of_listing(&self, refusal: Refusal) -> HoldingsError {
        HoldingsError::from(refusal).about(self.site.bucket.describe())
    }

    fn push(&mut self, key: KeyVersions, camera: Option<CameraName>, date: Option<NaiveDate>, decision: Decision) {
        self.steps += decision.steps.len();
        if !decision.steps.is_empty() {
            self.works.push(Work { key, camera, date, decision });
        }
    }

    async fn flush(&mut self) -> Result<(), RecoverError> {
        self.steps = 0;
        apply::apply(self.site, std::mem::take(&mut self.works), self.order.mode, &mut self.tell).await
    }
}

/// Returns an answer, or `None` if the store refused this one object: a thief can store one that nobody else can read.
fn passing<T>(answer: Result<T, Refusal>) -> Result<Option<T>, Refusal> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(refusal) if refusal.is_of_the_store() || refusal.verdict == Verdict::TryLater => Err(refusal),
        Err(_) => Ok(None),
    }
}
