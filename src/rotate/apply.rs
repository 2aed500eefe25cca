//! Carries a plan out: one action on one camera-day at a time, on what is there then.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::{DayStep, Plan, Rotated, RotationTime, VERSIONED, bundles, capture};
use crate::archive::{Reads, archive_day, clear_spools};
use crate::bucket::{Copied, CopyRequest, Object, Verdict};
use crate::holdings::{self, HoldingsError};
use crate::ledger;
use crate::message;
use crate::retention::{self, Action, Candidate, RetentionPolicy};
use crate::site::Site;

/// How many objects change their class together.
const COPIES_AT_ONCE: usize = 8;

/// After how many steps in a row that fail alike nothing more is tried.
const SEVERAL: u32 = 3;
/// What to do where a policy denies copies.
const BY_LIFECYCLE: &str = "let the lifecycle of that template change the class, or run `hk-aws rotate` with the owner's \
                            credentials";

/// Carries a plan out. `tell` hears of each step before it begins.
///
/// # Errors
/// [`HoldingsError::Refused`] if nothing more can be done now, if the last day has to be tried again, or if the store does
/// not have the class that bundles or captures were to get; what was done is in `rotated`. What failed of one day is there too, and ends nothing.
pub async fn apply(
    site: &Site,
    policy: &RetentionPolicy,
    plan: &Plan,
    rotated: &mut Rotated,
    stop: &CancellationToken,
    mut tell: impl FnMut(&DayStep),
) -> Result<(), HoldingsError> {
    clear_spools(&site.config.state_dir);
    rotated.others = plan.others.clone();
    rotated.misfits = plan.misfits.clone();
    rotated.waiting = plan.summary.later.days;
    rotated.clocks.clone_from(&plan.time.differ);
    let mut wrong_class = None;
    let (mut refused, mut failing, mut reads) = (BTreeSet::new(), Failing::default(), Reads::default());
    for step in &plan.steps {
        if stop.is_cancelled() {
            return Ok(());
        }
        // The same refusal would meet every day that is left.
        if refused.contains(&step.action) {
            rotated.waiting += 1;
            continue;
        }
        tell(step);
        let mut work = StepWork { site, policy, time: &plan.time, step, rotated, reads: &mut reads };
        let done = match step.action {
            Action::Archive => work.archive().await,
            Action::Transition => work.transition().await,
            Action::Expire => work.expire(plan).await,
            Action::Leave => Ok(()),
        };
        let Err(error) = done else {
            rotated.failures.extend(failing.ended());
            continue;
        };
        let ends = failing.again(&error);
        let error = error.about(format_args!("{} {}", step.camera, step.date));
        match error.verdict() {
            Some(Verdict::TryLater) => {
                rotated.failures.extend(failing.later.replace(error).map(|before| before.to_string()));
                if ends {
                    break;
                }
            }
            Some(Verdict::NeedsOperator) => {
                if ends {
                    refused.insert(step.action);
                }
                if failing.is_of_the_class() {
                    wrong_class = Some(error);
                } else {
                    rotated.failures.push(error.to_string());
                }
            }
            Some(Verdict::GiveUpOnThisFile) | None => rotated.failures.push(error.to_string()),
        }
    }
    wrong_class.or(failing.later).map_or(Ok(()), Err)
}

/// The steps that failed one after the other: one of them may be about one object, several that fail alike are not.
#[derive(Default)]
struct Failing {
    /// What the store answered.
    alike: Option<(Verdict, Option<String>)>,
    steps: u32,
    /// The last failure, if it passes by itself and nothing has succeeded since.
    later: Option<HoldingsError>,
}

impl Failing {
    /// Counts a failure; returns whether the next step would fail too.
    fn again(&mut self, error: &HoldingsError) -> bool {
        let HoldingsError::Refused { refusal, .. } = error else { return false };
        let alike = Some((refusal.verdict, refusal.code.clone()));
        self.steps = if self.alike == alike { self.steps + 1 } else { 1 };
        self.alike = alike;
        let names_the_cause = refusal.verdict == Verdict::NeedsOperator && refusal.code.is_some();
        names_the_cause || refusal.is_of_the_store() || self.steps >= SEVERAL
    }

    /// Returns whether the last failure was that the store does not have the class that it was asked for.
    fn is_of_the_class(&self) -> bool {
        matches!(&self.alike, Some((_, Some(code))) if code == "InvalidStorageClass")
    }

    /// Begins anew after a success; returns the failure that ended nothing.
    fn ended(&mut self) -> Option<String> {
        std::mem::take(self).later.map(|error| error.to_string())
    }
}

/// Why nothing is deleted where locks cannot be seen.
const UNSEEN_LOCKS: &str = "nothing is deleted: the bucket locks objects, and these credentials may not see which; allow \
     s3:GetObjectRetention and s3:GetObjectLegalHold";

/// One step at work.
struct StepWork<'a> {
    site: &'a Site,
    policy: &'a RetentionPolicy,
    time: &'a RotationTime,
    step: &'a DayStep,
    rotated: &'a mut Rotated,
    reads: &'a mut Reads,
}

impl StepWork<'_> {
    async fn archive(&mut self) -> Result<(), HoldingsError> {
        let (Some(archive), DayStep { camera, date, .. }) = (&self.policy.archive, self.step) else { return Ok(()) };
        let made = archive_day(self.site, archive, camera, *date, self.reads).await?;
        if made.downloads.objects > 0 {
            let cost = format!(" (about ${:.2})", retention::prices::egress(made.downloads.bytes));
            tracing::warn!(
                message_id = message::DOWNLOADED,
                camera,
                "{camera} {date}: {} captures of {} MiB were downloaded to be bundled{}, as they have no local copy",
                made.downloads.objects,
                made.downloads.bytes >> 20,
                if self.site.bucket.is_aws().await? { &cost } else { "" },
            );
        }
        let (mib, bundles) = (made.bytes >> 20, made.bundles.len());
        tracing::info!(camera, "{camera} {date}: {}", bundled(made.members, made.deleted, bundles, mib));
        self.rotated.bundled_days += u64::from(made.members + made.deleted > 0);
        self.rotated.bundled += made.members;
        self.rotated.bundle_bytes += made.bytes;
        self.rotated.fetched += made.downloads.objects;
        self.rotated.fetched_bytes += made.downloads.bytes;
        self.rotated.failures.extend(made.left);
        Ok(())
    }

    /// Returns the loose captures of the day for which the action is due now, as they are now.
    async fn due(&self) -> Result<Vec<Object>, HoldingsError> {
        let DayStep { action, camera, date } = self.step;
        let there = holdings::loose(self.site, camera, *date).await?;
        let all: Vec<Candidate> = there.iter().map(|object| capture(camera, *date, object.clone())).collect();
        let steps = retention::plan_day(&all, self.policy, self.time.today);
        let keys: BTreeSet<String> =
            steps.into_iter().filter(|step| step.action == *action).flat_map(|step| step.keys).collect();
        Ok(there.into_iter().filter(|object| keys.contains(&object.key)).collect())
    }

    async fn transition(&mut self) -> Result<(), HoldingsError> {
        let Some(transition) = &self.policy.transition else { return Ok(()) };
        let objects = self.due().await?;
        let bucket = &self.site.bucket;
        // If the bucket does not tell whether it keeps versions, its objects do.
        if let Some(first) = objects.first()
            && bucket.head(&first.key).await?.is_some_and(|head| head.version.is_some())
        {
            return Err(HoldingsError::Object(VERSIONED.to_owned()));
        }
        let copying = objects.into_iter().map(|object| async move {
            let request = CopyRequest { source: &object, version: None, target: &object.key, class: &transition.class };
            let copied = bucket.copy(request).await;
            (object.key, copied)
        });
        let mut copying = futures_util::stream::iter(copying).buffer_unordered(COPIES_AT_ONCE);
        while let Some((key, copied)) = copying.next().await {
            match copied.map_err(|refusal| refusal.of_copy(BY_LIFECYCLE))? {
                Copied::Done => self.rotated.transitioned += 1,
                // The next run sees what it is now.
                Copied::Changed => {}
                Copied::TooLarge => {
                    self.rotated.failures.push(format!("{key}: larger than the 5 GiB that one request can copy"));
                }
            }
        }
        Ok(())
    }

    async fn expire(&mut self, plan: &Plan) -> Result<(), HoldingsError> {
        let (site, DayStep { camera, date, .. }) = (self.site, self.step);
        let mut due = self.due().await?;
        let archive = holdings::archive(site, camera, *date).await?;
        let bundles = bundles(site, self.policy, &archive, self.time.today).await?;
        let steps = retention::plan_day(&bundles, self.policy, self.time.today);
        let archived: BTreeMap<&str, &Object> = archive.objects().map(|object| (object.key.as_str(), object)).collect();
        // A bundle before its index: an index alone is an intention that is taken back, a bundle alone would be a riddle.
        let expired = steps.iter().filter(|step| step.action == Action::Expire).flat_map(|step| &step.keys);
        due.extend(expired.filter_map(|key| archived.get(key.as_str()).copied()).cloned());
        let due = if plan.locks { self.unlocked(due).await? } else { due };
        if due.is_empty() {
            return Ok(());
        }
        let removed_at = (site.clock)().wall.into();
        let removed = due.iter().map(|object| ledger::Removed { removed_at, key: object.key.clone(), bundle: None });
        let removed: Vec<ledger::Removed> = removed.collect();
        ledger::append_removed(&site.ledger(), camera, *date, &removed)
            .map_err(|error| HoldingsError::local("failed to write ledger; nothing is deleted", &error))?;
        let failed = site.bucket.delete_all(&due.iter().collect::<Vec<_>>()).await?;
        self.rotated.expired += (due.len() - failed.len()) as u64;
        self.rotated.failures.extend(failed.into_iter().map(|(key, why)| format!("{key}: not deleted: {why}")));
        tracing::info!(camera, "{} objects of {camera} {date} expired", due.len());
        Ok(())
    }

    /// Returns the objects that no lock holds, and notes the others.
    async fn unlocked(&mut self, due: Vec<Object>) -> Result<Vec<Object>, HoldingsError> {
        let Some(first) = due.first() else { return Ok(due) };
        if !self.site.bucket.sees_locks(&first.key).await? {
            return Err(HoldingsError::Object(UNSEEN_LOCKS.to_owned()));
        }
        let mut free = Vec::new();
        for object in due {
            let key = &object.key;
            let Some(head) = self.site.bucket.head(key).await? else { continue };
            match head.locked_until {
                Some(until) if until > self.time.now => {
                    self.rotated.failures.push(format!("{key}: a lock holds it until {}", until.date_naive()));
                }
                _ => free.push(object),
            }
        }
        Ok(free)
    }
}

/// Says what became of a day that was due to be bundled.
fn bundled(members: u64, deleted: u64, bundles: usize, mib: u64) -> String {
    match (members, deleted) {
        (0, 0) => "there was nothing to bundle".to_owned(),
        (0, deleted) => format!("finished an earlier bundle; deleted the {deleted} single files that it contains"),
        (members, deleted) => format!(
            "bundled {members} captures into {bundles} bundles of {mib} MiB, and deleted their {deleted} single files"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_that_was_only_finished_is_said_to_be_that() {
        let finished = "finished an earlier bundle; deleted the 3 single files that it contains";
        assert_eq!(bundled(0, 3, 0, 0), finished);
        assert_eq!(bundled(0, 0, 0, 0), "there was nothing to bundle");
        assert!(bundled(9, 8, 1, 2).starts_with("bundled 9 captures into 1 bundles of 2 MiB, and deleted their 8"));
    }
}
