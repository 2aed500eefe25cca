//! Carries decisions out: markers are taken away by the thousand, and the store itself copies.

use std::collections::HashMap;
use std::ops::ControlFlow;

use futures_util::StreamExt;
use sha2::{Digest, Sha256};

use super::decide::{self, Place, Step};
use super::{Happened, RecoverError, RecoverMode, RecoverOutcome, Recovered, Work, passing};
use crate::bucket::{Copied, CopyRequest, Head, MOST_COPIED, Object, Refusal, RestoreState, Version, is_cold};
use crate::key;
use crate::site::Site;

/// How many keys are copied together; the store does the work.
const AT_ONCE: usize = 8;

/// The work ends after this number of failures in a row that are no fault of the objects.
const REFUSALS: usize = 10;

/// What to do where a policy denies copies.
const WITH_OWNERS_CREDENTIALS: &str = "run `hk-aws recover` with the owner's credentials";

/// How much of a hash is in the name of a copy, in hexadecimal digits: more if a name is taken by other bytes.
const HASH_DIGITS: [usize; 4] = [8, 16, 32, 64];

/// What became of a step.
enum Done {
    /// It was done, or would be: the object is under this key.
    At(String),
    /// An earlier run did it.
    Before,
}

/// Why a step was not done.
enum Stays {
    Because(RecoverOutcome, String),
    Refused(Refusal),
}

impl From<Refusal> for Stays {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Carries out what was decided about some keys.
pub(super) async fn apply(
    site: &Site,
    works: Vec<Work>,
    mode: RecoverMode,
    tell: &mut impl FnMut(Recovered) -> ControlFlow<()>,
) -> Result<(), RecoverError> {
    let mut failed = uncover(site, &works, mode).await?;
    for work in &works {
        let uncovers = |step: &&Step| matches!(step, Step::Uncover { .. });
        let Some(step) = work.decision.steps.iter().find(uncovers) else { continue };
        let result = match failed.remove(&work.key.key) {
            None => Ok(Done::At(work.key.key.clone())),
            Some(why) => Err(Stays::Because(RecoverOutcome::Failed, why)),
        };
        told(tell, work.told(*step, result, mode))?;
    }
    let copying = works.iter().map(async |work| (work, copy_all(site, work, mode).await));
    let mut copying = std::pin::pin!(futures_util::stream::iter(copying).buffered(AT_ONCE));
    let mut in_a_row = 0;
    while let Some((work, copied)) = copying.next().await {
        for (step, result) in copied {
            let refusal = match &result {
                Err(Stays::Refused(refusal)) if refusal.concerns_all() => Some(refusal.clone()),
                _ => None,
            };
            in_a_row = if refusal.is_some() { in_a_row + 1 } else { 0 };
            told(tell, work.told(step, result, mode))?;
            if let Some(refusal) = refusal.filter(|_| in_a_row >= REFUSALS) {
                return Err(RecoverError::GaveUp(refusal));
            }
        }
    }
    Ok(())
}

fn told(tell: &mut impl FnMut(Recovered) -> ControlFlow<()>, recovered: Option<Recovered>) -> Result<(), RecoverError> {
    match recovered.map(tell) {
        Some(ControlFlow::Break(())) => Err(RecoverError::Stopped),
        _ => Ok(()),
    }
}

/// Takes the markers away; returns the keys where that failed, with the reason.
async fn uncover(site: &Site, works: &[Work], mode: RecoverMode) -> Result<HashMap<String, String>, RecoverError> {
    let markers = works.iter().flat_map(|work| {
        let under = work.decision.steps.iter().find_map(|step| match step {
            Step::Uncover { version } => Some(*version),
            Step::Copy { .. } => None,
        });
        let markers = &work.key.versions[..under.unwrap_or(0)];
        markers.iter().map(|marker| (work.key.key.as_str(), marker.id.as_str()))
    });
    let markers: Vec<(&str, &str)> = markers.collect();
    if markers.is_empty() || mode == RecoverMode::DryRun {
        return Ok(HashMap::new());
    }
    let failed = site.bucket.erase_all(&markers).await?;
    Ok(failed.into_iter().collect())
}

/// Makes the copies of a key one after the other.
async fn copy_all(site: &Site, work: &Work, mode: RecoverMode) -> Vec<(Step, Result<Done, Stays>)> {
    let mut results = Vec::new();
    let mut is_in_front = false;
    for step in &work.decision.steps {
        if let Step::Copy { version, to: Place::Front } = *step {
            match is_front(site, work, &work.key.versions[version]).await {
                Ok(is_there) => is_in_front = is_there,
                Err(refusal) => return vec![(*step, Err(refusal.into()))],
            }
        }
    }
    for step in &work.decision.steps {
        let Step::Copy { version, to } = *step else { continue };
        let result = if is_in_front && (to == Place::Front || version == 0) {
            Ok(Done::Before)
        } else {
            copy(site, work, &work.key.versions[version], to, mode).await
        };
        // What is in front is only covered after it has a copy.
        let ends = result.is_err() && version == 0;
        results.push((*step, result));
        if ends {
            break;
        }
    }
    results
}

/// Returns whether the object in front holds the bytes of an older version.
async fn is_front(site: &Site, work: &Work, version: &Version) -> Result<bool, Refusal> {
    let Some(front) = work.key.versions.first().filter(|front| front.id != version.id) else { return Ok(false) };
    let (Some(front), Some(content)) = (&front.content, &version.content) else { return Ok(false) };
    if front.size != content.size {
        return Ok(false);
    }
    is_at(site, &work.source(version), &version.id, &work.key.key).await.map(|is_there| is_there == Some(true))
}

async fn copy(site: &Site, work: &Work, version: &Version, to: Place, mode: RecoverMode) -> Result<Done, Stays> {
    let key = &work.key.key;
    let source = work.source(version);
    // A copy that an earlier run put in front has another ETag if the object went up in parts.
    if to == Place::Beside && is_front(site, work, version).await? {
        return Ok(Done::Before);
    }
    let target = match to {
        Place::Front => key.clone(),
        Place::Beside => match free_name(site, &source, &version.id).await? {
            Some(name) => name,
            None => return Ok(Done::Before),
        },
    };
    if source.size > MOST_COPIED {
        let why = format!(
            "it is larger than the 5 GiB that one request can copy: `aws s3api get-object --bucket {} --key KEY \
             --version-id {} FILE` downloads it",
            site.config.s3.bucket, version.id
        );
        return Err(Stays::Because(RecoverOutcome::TooLarge, why));
    }
    if is_cold(&source.storage_class) {
        let state = site.bucket.restore_state_of_version(key, Some(&version.id)).await?;
        if !matches!(state, Some(RestoreState::Done(_) | RestoreState::Warm)) {
            let why = format!(
                "it lies in {}, which cannot be copied: restore this version (`aws s3api restore-object --bucket {} --key \
                 KEY --version-id {} --restore-request Days=7`), then recover again",
                source.storage_class, site.config.s3.bucket, version.id
            );
            return Err(Stays::Because(RecoverOutcome::Cold, why));
        }
    }
    if mode == RecoverMode::DryRun {
        return Ok(Done::At(target));
    }
    let class = &source.storage_class;
    let request = CopyRequest { source: &source, version: Some(&version.id), target: &target, class };
    let copied = site.bucket.copy(request).await.map_err(|refusal| refusal.of_copy(WITH_OWNERS_CREDENTIALS))?;
    match copied {
        Copied::Done => Ok(Done::At(target)),
        Copied::Changed | Copied::TooLarge => {
            let why = "the bucket changed while it was looked at: recover again".to_owned();
            Err(Stays::Because(RecoverOutcome::Failed, why))
        }
    }
}

/// Returns a free key for a copy; `None` if the copy is there already.
async fn free_name(site: &Site, source: &Object, version: &str) -> Result<Option<String>, Stays> {
    let hash = hex::encode(Sha256::digest(&source.etag));
    for digits in HASH_DIGITS {
        let name = key::recovered(&source.key, &hash[..digits]);
        match is_at(site, source, version, &name).await? {
            None => return Ok(Some(name)),
            Some(true) => return Ok(None),
            // Somebody else's: it may have been put there to be in the way.
            Some(false) => {}
        }
    }
    let why = "all names that its copy could have are taken by other objects: rename those".to_owned();
    Err(Stays::Because(RecoverOutcome::Failed, why))
}

/// Returns whether the object under a key holds the bytes of a version; `None` if there is no object. One that cannot be
/// read holds others.
async fn is_at(site: &Site, source: &Object, version: &str, key: &str) -> Result<Option<bool>, Refusal> {
    match passing(site.bucket.head(key).await)? {
        Some(None) => Ok(None),
        Some(Some(head)) => {
            let same = passing(is_same(site, source, version, (key, &head)).await)?;
            Ok(Some(same == Some(true)))
        }
        None => Ok(Some(false)),
    }
}

/// Returns whether an object holds the bytes of a version.
///
/// A copy gets another `ETag` if the object went up in parts or if a KMS key is used. Then the SHA-256 of the store decides,
/// or the bytes are read. The SHA-256 in the metadata is not believed: whoever stores an object chooses it.
async fn is_same(site: &Site, source: &Object, version: &str, (key, head): (&str, &Head)) -> Result<bool, Refusal> {
    if source.size != head.size {
        return Ok(false);
    }
    if source.etag == head.etag {
        return Ok(true);
    }
    let Some(old) = site.bucket.head_version(&source.key, Some(version)).await? else { return Ok(false) };
    let ours = site.bucket.proven_sha256(&source.key, Some(version), &old).await?;
    let theirs = site.bucket.proven_sha256(key, None, head).await?;
    Ok(ours == theirs)
}

impl Work {
    /// Returns a version as an object.
    fn source(&self, Version { stored_at, content, .. }: &Version) -> Object {
        let content = content.as_ref();
        Object {
            key: self.key.key.clone(),
            size: content.map_or(0, |content| content.size),
            storage_class: content.map(|content| content.storage_class.clone()).unwrap_or_default().into(),
            etag: content.map(|content| content.etag.clone()).unwrap_or_default(),
            stored_at: *stored_at,
        }
    }

    /// Returns what there is to tell of a step; `None` if an earlier run did it.
    fn told(&self, step: Step, result: Result<Done, Stays>, mode: RecoverMode) -> Option<Recovered> {
        let (Step::Uncover { version: at } | Step::Copy { version: at, .. }) = step;
        let version = &self.key.versions[at];
        let (to, outcome, why) = match result {
            Ok(Done::Before) => return None,
            Ok(Done::At(to)) if mode == RecoverMode::DryRun => (Some(to), RecoverOutcome::Planned, None),
            Ok(Done::At(to)) => (Some(to), RecoverOutcome::Recovered, None),
            Err(Stays::Because(outcome, why)) => (None, outcome, Some(why)),
            Err(Stays::Refused(refusal)) => (None, RecoverOutcome::Failed, Some(refusal.to_string())),
        };
        let (at, happened) = match decide::hidden(&self.key.versions, at) {
            Some((at, true)) => (at, Happened::Deleted),
            Some((at, false)) => (at, Happened::Covered),
            None => (version.stored_at, Happened::InTheWay),
        };
        Some(Recovered {
            key: self.key.key.clone(),
            camera: self.camera.clone(),
            date: self.date,
            version: version.id.clone(),
            size: version.content.as_ref().map_or(0, |content| content.size),
            happened,
            at,
            to,
            outcome,
            why,
        })
    }
}
