//! Files objects that lie unsorted directly below a camera, as older scripts left them, into date folders.
//!
//! The date comes from the name, otherwise from the object's metadata, never from a clock. An object without a date stays.
//! The store copies each object itself. The copy is compared with its source, and only then the source is deleted.
//!
//! # Crashes
//! All state is in the bucket. If a run ends between copy and deletion, the next one finds the source beside its copy and
//! goes on from there. A target that holds other bytes is never touched, and its source stays.

use std::ops::ControlFlow;

use chrono::{DateTime, FixedOffset};
use futures_util::stream::{StreamExt, TryChunksError, TryStreamExt};
use serde::Serialize;

use crate::bucket::{Copied, CopyRequest, Head, Object, PROBE, Refusal, RestoreState, is_cold};
use crate::capture;
use crate::holdings::HoldingsError;
use crate::key::{KeyFields, ObjectKey};
use crate::site::Site;

/// How many copies are under way together; the store does the work.
const AT_ONCE: usize = 8;

/// The work ends after this number of failures in a row that are no fault of the objects.
const REFUSALS: usize = 10;

/// Objects that are copied before their sources are deleted, with one request.
const BATCH: usize = 1000;

/// What to do where a policy denies copies.
const WITH_OWNERS_CREDENTIALS: &str = "run `hk-aws arrange` with the owner's credentials";

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ArrangeOutcome {
    /// It lies under its new key alone.
    Moved,
    /// It would be moved.
    Planned,
    /// It stays: its new key holds other bytes.
    Conflict,
    /// It stays: nothing tells its date.
    Undated,
    /// It stays: its class must be restored before it can be copied.
    Cold,
    /// It stays for another reason.
    Failed,
}

impl ArrangeOutcome {
    /// Returns whether it is still where it should not be.
    pub fn stays(self) -> bool {
        !matches!(self, Self::Moved | Self::Planned)
    }
}

/// An object that lies unsorted, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Arranged {
    /// Its key.
    pub key: String,
    /// The key that it has now, or should have.
    pub to: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// What became of it.
    pub outcome: ArrangeOutcome,
    /// Why it stays, and what to do.
    pub why: Option<String>,
}

/// Why an object stays where it is.
enum Stays {
    /// For a reason of its own.
    Because(ArrangeOutcome, String),
    /// The bucket refuses.
    Refused(Refusal),
}

/// An object that stays, with the key that it should have if that is known.
struct Stayed {
    target: Option<ObjectKey>,
    why: Stays,
}

impl From<Refusal> for Stayed {
    fn from(refusal: Refusal) -> Self {
        Self { target: None, why: Stays::Refused(refusal) }
    }
}

/// Whether objects are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArrangeMode {
    /// They are moved.
    Move,
    /// It is only said where they would go.
    DryRun,
}

/// Why not everything was looked at.
#[derive(Debug, thiserror::Error)]
pub enum ArrangeError {
    /// The camera cannot be listed.
    #[error(transparent)]
    Holdings(#[from] HoldingsError),
    /// Too many failures in a row: the bucket refuses everything, or does not answer. What was not tried stays.
    #[error("stopped after {REFUSALS} failures in a row; what was not tried stays: {0}")]
    GaveUp(Refusal),
    /// Whoever is told what happens wanted no more.
    #[error("the work was ended")]
    Stopped,
}

/// Files what lies unsorted below `camera`; `tell` hears of each object, and may end the work.
///
/// # Errors
/// [`ArrangeError`] if not everything was looked at; what was copied until then is found again by the next call.
pub async fn arrange(
    site: &Site,
    camera: &str,
    mode: ArrangeMode,
    mut tell: impl FnMut(Arranged) -> ControlFlow<()>,
) -> Result<(), ArrangeError> {
    let prefix = site.layout.camera_prefix(camera);
    let listed = site.bucket.objects_in_folder(&prefix);
    let unsorted = listed.try_filter(|object| std::future::ready(is_unsorted(site, &prefix, &object.key)));
    // A batch at a time: what is held does not grow with the camera.
    let mut batches = std::pin::pin!(unsorted.try_chunks(BATCH));
    loop {
        let (batch, failed) = match batches.try_next().await {
            Ok(None) => return Ok(()),
            Ok(Some(batch)) => (batch, None),
            Err(TryChunksError(batch, refusal)) => (batch, Some(refusal)),
        };
        match mode {
            ArrangeMode::DryRun => {
                for object in batch {
                    let target = plan(site, camera, &object).await;
                    told(&mut tell, arranged(object, target, ArrangeOutcome::Planned))?;
                }
            }
            ArrangeMode::Move => move_batch(site, camera, batch, &mut tell).await?,
        }
        if let Some(refusal) = failed {
            return Err(HoldingsError::from(refusal).about(site.bucket.describe()).into());
        }
    }
}

fn told(tell: &mut impl FnMut(Arranged) -> ControlFlow<()>, object: Arranged) -> Result<(), ArrangeError> {
    if tell(object).is_break() { Err(ArrangeError::Stopped) } else { Ok(()) }
}

/// Returns whether an object lies directly below its camera and has no place in the layout.
fn is_unsorted(site: &Site, prefix: &str, key: &str) -> bool {
    let file = key.strip_prefix(prefix).unwrap_or_default();
    let is_ours = file == PROBE || file.ends_with(".index.json");
    !file.is_empty() && !file.contains('/') && !is_ours && site.layout.parse(key).is_none()
}

/// Copies the objects of a batch, and deletes the sources of those whose copy is confirmed.
async fn move_batch(
    site: &Site,
    camera: &str,
    batch: Vec<Object>,
    tell: &mut impl FnMut(Arranged) -> ControlFlow<()>,
) -> Result<(), ArrangeError> {
    let copies = batch.into_iter().map(|object| async move {
        let copied = copy(site, camera, &object).await;
        (object, copied)
    });
    let mut copies = futures_util::stream::iter(copies).buffer_unordered(AT_ONCE);
    let (mut copied, mut in_a_row, mut gave_up) = (Vec::new(), 0, None);
    while let Some((object, result)) = copies.next().await {
        match result {
            Ok(target) => {
                in_a_row = 0;
                copied.push((object, target));
            }
            Err(stayed) => {
                if let Stays::Refused(refusal) = &stayed.why
                    && refusal.concerns_all()
                {
                    in_a_row += 1;
                    gave_up = (in_a_row >= REFUSALS).then(|| refusal.clone());
                }
                told(tell, arranged(object, Err(stayed), ArrangeOutcome::Moved))?;
            }
        }
        if gave_up.is_some() {
            break;
        }
    }
    // What is under way is copied or not; the next call finds out.
    drop(copies);
    delete_sources(site, copied, tell).await?;
    gave_up.map_or(Ok(()), |refusal| Err(ArrangeError::GaveUp(refusal)))
}

async fn delete_sources(
    site: &Site,
    copied: Vec<(Object, ObjectKey)>,
    tell: &mut impl FnMut(Arranged) -> ControlFlow<()>,
) -> Result<(), ArrangeError> {
    let sources: Vec<&Object> = copied.iter().map(|(object, _)| object).collect();
    let mut left = site.bucket.delete_all(&sources).await.map_err(HoldingsError::from)?;
    for (object, target) in copied {
        let why = left.iter().position(|(key, _)| *key == object.key).map(|at| left.swap_remove(at).1);
        let result = match why {
            None => Ok(target),
            Some(why) => Err(Stayed {
                target: Some(target),
                why: Stays::Because(ArrangeOutcome::Failed, format!("copied, but not deleted: {why}")),
            }),
        };
        told(tell, arranged(object, result, ArrangeOutcome::Moved))?;
    }
    Ok(())
}

fn arranged(object: Object, result: Result<ObjectKey, Stayed>, done: ArrangeOutcome) -> Arranged {
    let (to, outcome, why) = match result {
        Ok(to) => (Some(to), done, None),
        Err(Stayed { target, why: Stays::Because(outcome, why) }) => (target, outcome, Some(why)),
        Err(Stayed { target, why: Stays::Refused(refusal) }) => {
            (target, ArrangeOutcome::Failed, Some(refusal.to_string()))
        }
    };
    Arranged { key: object.key, to: to.map(|to| to.to_string()), size: object.size, outcome, why }
}

/// Returns the key that an object should have.
async fn plan(site: &Site, camera: &str, object: &Object) -> Result<ObjectKey, Stayed> {
    let file = object.key.rsplit('/').next().unwrap_or(&object.key);
    let mut written = None;
    if capture::read_stored(camera, file, &site.config).taken.is_none() {
        let head = site.bucket.head(&object.key).await?;
        written = head.and_then(|head| DateTime::parse_from_rfc3339(&head.taken_at?).ok());
    }
    let Some(target) = place(site, camera, file, written) else {
        let why = "neither its name nor its metadata tells when it was taken".to_owned();
        return Err(Stayed { target: None, why: Stays::Because(ArrangeOutcome::Undated, why) });
    };
    let has_place = site.layout.parse(target.as_str()).is_some_and(|parts| parts.camera == camera);
    if target.as_str() == object.key || !has_place {
        let why = Stays::Because(ArrangeOutcome::Failed, "its name gives no key of the layout".to_owned());
        return Err(Stayed { target: Some(target), why });
    }
    Ok(target)
}

/// Returns the key of a file below a camera, by the time of its name, otherwise by the time in its metadata.
fn place(site: &Site, camera: &str, file: &str, written: Option<DateTime<FixedOffset>>) -> Option<ObjectKey> {
    let named = capture::read_stored(camera, file, &site.config);
    let fields = KeyFields {
        camera,
        taken: named.taken.or(written)?,
        event: named.event.as_deref(),
        channel: named.channel.as_deref(),
        file: file.as_bytes(),
    };
    Some(site.layout.render(&fields))
}

/// Makes sure that an object's bytes lie under the key that it should have, and returns that.
async fn copy(site: &Site, camera: &str, object: &Object) -> Result<ObjectKey, Stayed> {
    let target = plan(site, camera, object).await?;
    match copy_to(site, object, &target).await {
        Ok(()) => Ok(target),
        Err(why) => Err(Stayed { target: Some(target), why }),
    }
}

impl From<Refusal> for Stays {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

async fn copy_to(site: &Site, object: &Object, target: &ObjectKey) -> Result<(), Stays> {
    let failed = |why: &str| Err(Stays::Because(ArrangeOutcome::Failed, why.to_owned()));
    if let Some(head) = site.bucket.head(target.as_str()).await? {
        // An earlier run ended before it could delete, or somebody stored something else there.
        if is_copy(site, object, target, &head).await? {
            return Ok(());
        }
        let why = "that key holds other bytes; look at both, and remove the one that is not wanted";
        return Err(Stays::Because(ArrangeOutcome::Conflict, why.to_owned()));
    }
    if is_cold(&object.storage_class) {
        let state = site.bucket.restore_state(&object.key).await?;
        if !matches!(state, Some(RestoreState::Warm | RestoreState::Done(_))) {
            let class = &object.storage_class;
            let why = format!("it lies in {class}, which cannot be copied; restore it, then arrange again");
            return Err(Stays::Because(ArrangeOutcome::Cold, why));
        }
    }
    let request = CopyRequest { source: object, version: None, target: target.as_str(), class: &object.storage_class };
    let copied = site.bucket.copy(request).await.map_err(|refusal| refusal.of_copy(WITH_OWNERS_CREDENTIALS));
    match copied? {
        Copied::Done => {}
        Copied::Changed => return failed("it changed while it was looked at; arrange again"),
        Copied::TooLarge => {
            return failed("it is larger than the 5 GiB that one request can copy; move it by hand");
        }
    }
    match site.bucket.head(target.as_str()).await? {
        Some(head) if is_copy(site, object, target, &head).await? => Ok(()),
        _ => failed("the store does not hold the copy as it was made; nothing is deleted"),
    }
}

/// Returns whether the object at `target` (whose HEAD is `head`) holds the bytes of `object`.
///
/// A copy gets another `ETag` if the object went up in parts or if a KMS key is used. If no SHA-256 of the store tells
/// either, the bytes are read: nothing is deleted on a mere likelihood.
async fn is_copy(site: &Site, object: &Object, target: &ObjectKey, head: &Head) -> Result<bool, Refusal> {
    if let Some(known) = compare(object, head) {
        return Ok(known);
    }
    let Some(source) = site.bucket.head(&object.key).await? else { return Ok(false) };
    if source.etag != object.etag {
        return Ok(false);
    }
    // The SHA-256 in the metadata says only what was sent.
    if let (Some(ours), Some(theirs)) = (&source.md5, &head.md5) {
        return Ok(ours == theirs);
    }
    // A copy has the metadata of its source, whatever bytes it has.
    let ours = site.bucket.proven_sha256(&object.key, None, &source).await?;
    Ok(ours == site.bucket.proven_sha256(target.as_str(), None, head).await?)
}

/// Returns whether the two are the same by size and `ETag`; `None` if these do not tell.
fn compare(object: &Object, head: &Head) -> Option<bool> {
    if object.size != head.size {
        return Some(false);
    }
    (object.etag == head.etag).then_some(true)
}
