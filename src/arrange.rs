//! Objects that lie unsorted directly below a camera, as the scripts that came before left them, into date folders.
//!
//! The date is the one that the name tells, else the one that was written beside the object; never that of a clock. An
//! object without one stays. Each is copied by the store itself, the copy is held against it, and only then it is deleted.
//!
//! # Crashes
//! All state is in the bucket. What was copied and not deleted is found again beside its copy, which then counts as made;
//! a target that holds other bytes is never touched, and what should have gone there stays.

use anyhow::Context as _;
use chrono::{DateTime, FixedOffset};
use futures_util::StreamExt;
use serde::Serialize;

use crate::bucket::{Copied, Head, Object, PROBE, Refusal, Restore, Verdict, is_cold};
use crate::capture;
use crate::key::{KeyFields, ObjectKey};
use crate::site::Site;

/// Copies at the same time: the store does the work, and each waits for it.
const AT_ONCE: usize = 8;

/// So many failures in a row that are no fault of the objects end the work.
const REFUSALS: usize = 10;

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It lies under its new key alone.
    Moved,
    /// It would.
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

impl Outcome {
    /// Whether it is where it was, and should not be.
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
    /// Bytes.
    pub size: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it stays, and what to do.
    pub why: Option<String>,
}

/// What was done about one object, before its source is deleted.
enum Step {
    Copied(ObjectKey),
    Stays(Option<ObjectKey>, Outcome, String),
    Refused(Option<ObjectKey>, Refusal),
}

impl From<Refusal> for Step {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(None, refusal)
    }
}

/// Files what lies unsorted below `camera`, or only says where it would go; `tell` hears of each object, page by page.
///
/// # Errors
/// Where the bucket cannot be listed or refuses all; what was copied until then is found again by the next call.
pub async fn arrange(
    site: &Site,
    camera: &str,
    dry_run: bool,
    mut tell: impl FnMut(Arranged) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (prefix, mut from) = (site.layout.camera_prefix(camera), None);
    loop {
        // A page at a time: what is held does not grow with the camera.
        let page = site.bucket.list(&prefix, true, from).await.with_context(|| site.bucket.describe())?;
        let unsorted = page.objects.into_iter().filter(|object| is_unsorted(site, &prefix, &object.key));
        if dry_run {
            for object in unsorted {
                let step = plan(site, camera, &object).await.map_or_else(|stays| stays, Step::Copied);
                tell(arranged(object, step, Outcome::Planned))?;
            }
        } else {
            arrange_page(site, camera, unsorted.collect(), &mut tell).await?;
        }
        from = page.next;
        if from.is_none() {
            return Ok(());
        }
    }
}

/// Whether an object lies directly below its camera and has no place in the layout.
fn is_unsorted(site: &Site, prefix: &str, key: &str) -> bool {
    let file = key.strip_prefix(prefix).unwrap_or_default();
    let is_ours = file == PROBE || file.ends_with(".index.json");
    !file.is_empty() && !file.contains('/') && !is_ours && site.layout.parse(key).is_none()
}

async fn arrange_page(
    site: &Site,
    camera: &str,
    unsorted: Vec<Object>,
    tell: &mut impl FnMut(Arranged) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let steps = unsorted.into_iter().map(|object| async move {
        let step = copy(site, camera, &object).await.unwrap_or_else(|step| step);
        (object, step)
    });
    let mut steps = futures_util::stream::iter(steps).buffer_unordered(AT_ONCE);
    let (mut copied, mut in_a_row, mut stopped) = (Vec::new(), 0, None);
    while let Some((object, step)) = steps.next().await {
        match step {
            Step::Copied(target) => {
                in_a_row = 0;
                copied.push((object, target));
            }
            step => {
                if let Step::Refused(_, refusal) = &step
                    && (refusal.verdict == Verdict::NeedsOperator || refusal.code.is_none())
                {
                    in_a_row += 1;
                    stopped = (in_a_row >= REFUSALS).then(|| refusal.clone());
                }
                tell(arranged(object, step, Outcome::Moved))?;
            }
        }
        if stopped.is_some() {
            break;
        }
    }
    // What is under way is copied or not; the next call finds out.
    drop(steps);
    let keys: Vec<&str> = copied.iter().map(|(object, _)| object.key.as_str()).collect();
    let mut left = if keys.is_empty() { Vec::new() } else { site.bucket.delete_all(&keys).await? };
    for (object, target) in copied {
        let why = left.iter().position(|(key, _)| *key == object.key).map(|at| left.swap_remove(at).1);
        let step = match why {
            Some(why) => Step::Stays(Some(target), Outcome::Failed, format!("copied, but not deleted: {why}")),
            None => Step::Copied(target),
        };
        tell(arranged(object, step, Outcome::Moved))?;
    }
    match stopped {
        None => Ok(()),
        Some(refusal) => Err(anyhow::Error::new(refusal)
            .context(format!("stopped after {REFUSALS} failures in a row; what was not tried stays"))),
    }
}

fn arranged(object: Object, step: Step, done: Outcome) -> Arranged {
    let (to, outcome, why) = match step {
        Step::Copied(to) => (Some(to), done, None),
        Step::Stays(to, outcome, why) => (to, outcome, Some(why)),
        Step::Refused(to, refusal) => (to, Outcome::Failed, Some(refusal.to_string())),
    };
    Arranged { key: object.key, to: to.map(|to| to.to_string()), size: object.size, outcome, why }
}

/// Where an object belongs; the error says why it stays.
async fn plan(site: &Site, camera: &str, object: &Object) -> Result<ObjectKey, Step> {
    let file = object.key.rsplit('/').next().unwrap_or(&object.key);
    let mut beside = None;
    if capture::read_stored(camera, file, &site.config).taken.is_none() {
        let head = site.bucket.head(&object.key).await?;
        beside = head.and_then(|head| DateTime::parse_from_rfc3339(&head.taken_at?).ok());
    }
    let undated =
        || Step::Stays(None, Outcome::Undated, "neither its name nor its metadata tells when it was taken".into());
    let target = place(site, camera, file, beside).ok_or_else(undated)?;
    if target.as_str() == object.key || site.layout.parse(target.as_str()).is_none_or(|parts| parts.camera != camera) {
        return Err(Step::Stays(Some(target), Outcome::Failed, "its name gives no key of the layout".into()));
    }
    Ok(target)
}

/// The key of a file below a camera by the time of its name, else by what was written `beside` it.
fn place(site: &Site, camera: &str, file: &str, beside: Option<DateTime<FixedOffset>>) -> Option<ObjectKey> {
    let named = capture::read_stored(camera, file, &site.config);
    let fields = KeyFields {
        camera,
        taken: named.taken.or(beside)?,
        event: named.event.as_deref(),
        channel: named.channel.as_deref(),
        file: file.as_bytes(),
    };
    Some(site.layout.render(&fields))
}

/// Makes sure that an object's bytes lie under its new key; the error says why it stays.
async fn copy(site: &Site, camera: &str, object: &Object) -> Result<Step, Step> {
    let target = plan(site, camera, object).await?;
    let stays = |outcome, why: String| Step::Stays(Some(target.clone()), outcome, why);
    let refused = |refusal| Step::Refused(Some(target.clone()), refusal);
    let conflict = "that key holds other bytes; look at both, and remove the one that is not wanted";
    if let Some(head) = site.bucket.head(target.as_str()).await.map_err(refused)? {
        // An earlier run was ended before it could delete, or somebody stored something else there.
        let is_copy = is_copy(site, object, &target, &head).await.map_err(refused)?;
        return if is_copy { Ok(Step::Copied(target)) } else { Err(stays(Outcome::Conflict, conflict.into())) };
    }
    if is_cold(&object.storage_class) {
        let head = site.bucket.head(&object.key).await.map_err(refused)?;
        if !head.is_some_and(|head| matches!(head.restore, Restore::Done(_))) {
            let class = &object.storage_class;
            let why = format!("it lies in {class}, which cannot be copied; restore it, then arrange again");
            return Err(stays(Outcome::Cold, why));
        }
    }
    let copied = site.bucket.copy(&object.key, object.size, &object.etag, target.as_str(), &object.storage_class);
    match copied.await.map_err(refused)? {
        Copied::Done => {}
        Copied::Changed => {
            return Err(stays(Outcome::Failed, "it changed while it was looked at; arrange again".into()));
        }
        Copied::TooLarge => {
            let why = "it is larger than the 5 GiB that one request can copy; move it by hand";
            return Err(stays(Outcome::Failed, why.into()));
        }
    }
    match site.bucket.head(target.as_str()).await.map_err(refused)? {
        Some(head) if is_copy(site, object, &target, &head).await.map_err(refused)? => Ok(Step::Copied(target)),
        _ => Err(stays(Outcome::Failed, "the store does not hold the copy as it was made; nothing is deleted".into())),
    }
}

/// Whether `target`, of which the store says `head`, holds the bytes of `object`.
///
/// What went up in parts gets another `ETag` where it is copied, and so does everything where a KMS key is used. Where
/// no SHA-256 tells either, the bytes are read: nothing is deleted on a mere likelihood.
async fn is_copy(site: &Site, object: &Object, target: &ObjectKey, head: &Head) -> Result<bool, Refusal> {
    if let Some(known) = compare(object, head) {
        return Ok(known);
    }
    let Some(source) = site.bucket.head(&object.key).await? else { return Ok(false) };
    if source.etag != object.etag {
        return Ok(false);
    }
    let (ours, theirs) = (sha256(site, &object.key, &source).await?, sha256(site, target.as_str(), head).await?);
    Ok(ours == theirs)
}

/// Whether the two are the same by size and `ETag`; `None` where these do not tell.
fn compare(object: &Object, head: &Head) -> Option<bool> {
    if object.size != head.size {
        return Some(false);
    }
    (object.etag == head.etag).then_some(true)
}

/// The SHA-256 of an object as the store or its metadata tells it, else of its bytes.
async fn sha256(site: &Site, key: &str, head: &Head) -> Result<String, Refusal> {
    match head.checksum.as_ref().or(head.sha256.as_ref()) {
        Some(told) => Ok(told.clone()),
        None => Ok(site.bucket.get(key, None, &mut tokio::io::sink()).await?.sha256),
    }
}
