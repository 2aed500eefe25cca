//! Doing what a plan says: one action on one camera-day at a time, on what is there then.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use chrono::{DateTime, NaiveDate, Utc};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::{Outcome, Plan, Todo, VERSIONED, held, held_of, today};
use crate::archive::{self, archive_day};
use crate::bucket::{Copied, Object, Refusal, Verdict};
use crate::key::KeyParts;
use crate::ledger;
use crate::retention::{self, Action, Candidate, RetentionPolicy};
use crate::site::Site;

/// How many objects change their class at the same time.
const COPIES_AT_ONCE: usize = 8;

/// Does what a plan says. `tell` hears of each step before it is begun.
///
/// # Errors
/// Where nothing more can be done now; what was done is in `outcome`.
pub async fn apply(
    site: &Site,
    policy: &RetentionPolicy,
    plan: &Plan,
    outcome: &mut Outcome,
    stop: &CancellationToken,
    mut tell: impl FnMut(&Todo),
) -> anyhow::Result<()> {
    archive::clear_spools(&site.config.state_dir);
    let mut refused = BTreeSet::new();
    for step in &plan.steps {
        if stop.is_cancelled() {
            return Ok(());
        }
        // The same refusal would meet every day that is left.
        if refused.contains(&step.action) {
            continue;
        }
        tell(step);
        let Todo { camera, date, .. } = step;
        let done = match step.action {
            Action::Archive => bundle(site, policy, camera, *date, outcome).await,
            Action::Transition => transition(site, policy, camera, *date, outcome).await,
            Action::Expire => expire(site, policy, plan.locks, camera, *date, outcome).await,
            Action::Leave => Ok(()),
        };
        match done {
            Ok(()) => {}
            Err(error) => match verdict(&error) {
                Some(Verdict::TryLater) => return Err(error.context(format!("{camera} {date}"))),
                Some(Verdict::NeedsOperator) => {
                    refused.insert(step.action);
                    outcome.failures.push(format!("{camera} {date}: {error:#}"));
                }
                _ => outcome.failures.push(format!("{camera} {date}: {error:#}")),
            },
        }
    }
    Ok(())
}

/// What a failure means, if it is the bucket's.
pub fn verdict(error: &anyhow::Error) -> Option<Verdict> {
    error.chain().find_map(|cause| cause.downcast_ref::<Refusal>()).map(|refusal| refusal.verdict)
}

async fn bundle(
    site: &Site,
    policy: &RetentionPolicy,
    camera: &str,
    date: NaiveDate,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let Some(archive) = &policy.archive else { return Ok(()) };
    let made = archive_day(site, archive, camera, date).await?;
    if made.fetched.objects > 0 {
        tracing::warn!(
            camera,
            "{camera} {date}: {} captures of {} MiB were downloaded to be bundled (about ${:.2}), as they have no local copy",
            made.fetched.objects,
            made.fetched.bytes >> 20,
            retention::prices::egress(made.fetched.bytes),
        );
    }
    tracing::info!(
        camera,
        "bundled {camera} {date}: {} captures in {} bundles of {} MiB, {} objects deleted",
        made.members,
        made.bundles.len(),
        made.bytes >> 20,
        made.deleted,
    );
    outcome.bundled_days += u64::from(made.members + made.deleted > 0);
    outcome.bundled += made.members;
    outcome.bundle_bytes += made.bytes;
    outcome.fetched += made.fetched.objects;
    outcome.fetched_bytes += made.fetched.bytes;
    outcome.failures.extend(made.left);
    Ok(())
}

/// What is due now of a day's loose captures, as they are now.
async fn due(
    site: &Site,
    policy: &RetentionPolicy,
    action: Action,
    camera: &str,
    date: NaiveDate,
) -> anyhow::Result<Vec<Object>> {
    let there = archive::list_day(site, camera, date).await?;
    let parts = |object: &Object| KeyParts { camera: camera.to_owned(), date, file: object.key.clone() };
    let all: Vec<Candidate> = there.iter().map(|object| held(parts(object), object.clone())).collect();
    let steps = retention::plan_day(&all, policy, today(site));
    let keys: BTreeSet<String> =
        steps.into_iter().filter(|step| step.action == action).flat_map(|step| step.keys).collect();
    Ok(there.into_iter().filter(|object| keys.contains(&object.key)).collect())
}

async fn transition(
    site: &Site,
    policy: &RetentionPolicy,
    camera: &str,
    date: NaiveDate,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let Some(transition) = &policy.transition else { return Ok(()) };
    let objects = due(site, policy, Action::Transition, camera, date).await?;
    // Where the bucket does not tell whether it keeps versions, its objects do.
    if let Some(first) = objects.first()
        && site.bucket.head(&first.key).await?.is_some_and(|head| head.versioned)
    {
        bail!("{VERSIONED}");
    }
    let copying = objects.into_iter().map(|Object { key, size, etag, .. }| async move {
        let copied = site.bucket.copy(&key, size, &etag, &key, &transition.class).await;
        (key, copied)
    });
    let mut copying = futures_util::stream::iter(copying).buffer_unordered(COPIES_AT_ONCE);
    while let Some((key, copied)) = copying.next().await {
        match copied? {
            Copied::Done => outcome.transitioned += 1,
            // The next run sees what it is now.
            Copied::Changed => {}
            Copied::TooLarge => {
                outcome.failures.push(format!("{key}: larger than the 5 GiB that one request can copy"));
            }
        }
    }
    Ok(())
}

async fn expire(
    site: &Site,
    policy: &RetentionPolicy,
    locks: bool,
    camera: &str,
    date: NaiveDate,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let loose = due(site, policy, Action::Expire, camera, date).await?;
    let mut keys: Vec<String> = loose.into_iter().map(|object| object.key).collect();
    let shelf = archive::shelf(site, camera, date).await?;
    let bundles = held_of(site, policy, camera, date, &shelf, today(site)).await?;
    let steps = retention::plan_day(&bundles, policy, today(site));
    // A bundle before its index: an index alone is an intention that is taken back, a bundle alone would be a riddle.
    keys.extend(steps.into_iter().filter(|step| step.action == Action::Expire).flat_map(|step| step.keys));
    let keys = if locks { unlocked(site, keys, outcome).await? } else { keys };
    if keys.is_empty() {
        return Ok(());
    }
    let removed_at = (site.clock)().wall.into();
    let removed = keys.iter().map(|key| ledger::Removed { removed_at, key: key.clone(), bundle: None });
    let removed: Vec<ledger::Removed> = removed.collect();
    ledger::append_removed(&site.ledger(), camera, date, &removed)
        .context("failed to write ledger; nothing is deleted")?;
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let failed = site.bucket.delete_all(&keys).await?;
    outcome.expired += (keys.len() - failed.len()) as u64;
    outcome.failures.extend(failed.into_iter().map(|(key, why)| format!("{key}: not deleted: {why}")));
    tracing::info!(camera, "{} objects of {camera} {date} expired", keys.len());
    Ok(())
}

/// Those that no lock holds.
async fn unlocked(site: &Site, keys: Vec<String>, outcome: &mut Outcome) -> anyhow::Result<Vec<String>> {
    let now = DateTime::<Utc>::from((site.clock)().wall);
    let mut free = Vec::new();
    for key in keys {
        let Some(head) = site.bucket.head(&key).await? else { continue };
        match head.locked_until {
            Some(until) if until > now => {
                outcome.failures.push(format!("{key}: a lock holds it until {}", until.date_naive()));
            }
            _ => free.push(key),
        }
    }
    Ok(free)
}
