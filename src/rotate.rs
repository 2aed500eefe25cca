//! The rotation: looks at the bucket, decides by [`retention`], and acts, one camera-day after the other.
//!
//! The bucket is listed twice: once as a whole to see what is due, with one camera-day in memory at a time, and each day
//! that is due once more just before it is touched. The second look decides. Nothing is remembered in between, so a run
//! may end anywhere and the next one goes on.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::NaiveDate;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::bucket::{Object, RefusalKind, Verdict};
use crate::config::{Access, Config};
use crate::holdings::{self, BundleObject, DayArchive, HoldingsError, MOST_HELD, Misfits, load_index};
use crate::key::CameraName;
use crate::lock;
use crate::message;
use crate::retention::prices::STANDARD;
use crate::retention::{
    self, Action, BundleClass, Candidate, Copies, Doubt, Kind, Requests, RetentionPolicy, RotationStep, Summary,
    Urgent, bundle_classes,
};
use crate::schedule::{Ended, RunEnd};
use crate::site::Site;
use crate::verify;

mod apply;
mod cameras;
mod survey;
mod time;

pub use apply::apply;
pub use cameras::{OtherFolder, Others};
pub use time::RotationTime;

use survey::DaysAtHand;

/// The most names that one page of a listing holds (S3 API Reference, `ListObjectsV2`).
const NAMES_A_PAGE: u64 = 1000;

/// A plan: the steps, their cost, and what the operator should know of what is not done.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// The camera-days to work on, in order.
    #[serde(skip)]
    pub steps: Vec<DayStep>,
    /// The time by which it was decided.
    #[serde(skip)]
    pub time: RotationTime,
    /// Whether objects in the bucket may be locked.
    #[serde(skip)]
    pub locks: bool,
    /// All of it in rows.
    #[serde(flatten)]
    pub summary: Summary,
    /// The requests that it took to look at the bucket; they are not among the rows.
    pub looks: Requests,
    /// What the bundles cost in their class, and what they would cost in others; empty if there are none.
    pub bundle_classes: Vec<BundleClass>,
    /// What has to be downloaded to be bundled.
    pub to_download: PlannedDownload,
    /// What is in the bucket and none of `rotate.cameras`: nothing of it is touched.
    pub others: Others,
    /// What lies in the folders of the cameras that were looked at and fits no layout of keys: nothing of it is touched.
    pub misfits: Misfits,
    /// What the operator should know of the bucket and the settings.
    pub notes: BTreeSet<String>,
    /// The first day that is not old enough yet.
    #[serde(skip)]
    pub not_due: Option<NotDue>,
}

/// A day that is not old enough yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotDue {
    /// The day.
    pub date: NaiveDate,
    /// The day from which something is done with it.
    pub from: NaiveDate,
}

/// One action on one camera-day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayStep {
    /// What is done.
    pub action: Action,
    /// The camera.
    pub camera: String,
    /// The date, at the camera.
    pub date: NaiveDate,
}

/// Captures to bundle that have no local copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct PlannedDownload {
    /// Their bytes.
    pub bytes: u64,
    /// The dollars that downloading them costs.
    pub dollars: f64,
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rotated {
    /// Camera-days that got a bundle now, or whose bundle was finished now.
    pub bundled_days: u64,
    /// Captures that went into bundles.
    pub bundled: u64,
    /// The bytes of the bundles that were made.
    pub bundle_bytes: u64,
    /// Objects whose class changed.
    pub transitioned: u64,
    /// Objects that expired.
    pub expired: u64,
    /// Captures that had to be downloaded because no local copy had them.
    pub fetched: u64,
    /// The bytes of these captures.
    pub fetched_bytes: u64,
    /// Local copies that were given up.
    pub local_copies: u64,
    /// Camera-days that are due and wait for a later run.
    pub waiting: u64,
    /// What is in the bucket and none of `rotate.cameras`: nothing of it was touched.
    pub others: Others,
    /// What lies in the folders of the cameras that were looked at and fits no layout of keys: nothing of it was touched.
    pub misfits: Misfits,
    /// What the clocks of the box and of the store say, if they differ: the store's decided.
    pub clocks: Option<String>,
    /// What failed, or was left as it is, and why.
    pub failures: Vec<String>,
}

/// Why a rotation cannot be planned, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The box may neither list nor delete: the bucket's lifecycle has to rotate.
    #[error("{WRITE_ONLY}")]
    WriteOnly,
    /// The clock of this box is not believed: nothing is touched until it is set.
    #[error(transparent)]
    Clock(#[from] Doubt),
    /// The bucket, or this box, cannot go on now.
    #[error(transparent)]
    Holdings(#[from] HoldingsError),
}

impl RotateError {
    /// Returns the bucket's verdict, if the bucket is the cause.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::WriteOnly | Self::Clock(_) => None,
            Self::Holdings(error) => error.verdict(),
        }
    }
}

/// What a plan is about.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope<'a> {
    /// One camera, whether or not it is one of `rotate.cameras`; `None`: all of these.
    pub camera: Option<&'a str>,
    /// These days; empty: all of them.
    pub dates: &'a [NaiveDate],
}

/// Looks at the bucket, and decides by `policy` what is due in `scope`.
///
/// # Errors
/// [`RotateError::Holdings`] if the bucket cannot be listed, and the other kinds if nothing may be rotated at all.
pub async fn plan(site: &Site, policy: &RetentionPolicy, scope: Scope<'_>) -> Result<Plan, RotateError> {
    if site.config.s3.access == Access::WriteOnly {
        return Err(RotateError::WriteOnly);
    }
    let bundles = Urgent::new(policy.archive.as_ref().map_or(0, |archive| archive.max_days_per_run));
    let time = RotationTime::ask(site).await?;
    let today = time.today;
    let policy = &RetentionPolicy { undo: Some(site.config.s3.undo), ..policy.clone() };
    let mut survey = BucketSurvey {
        site,
        policy,
        dates: scope.dates,
        today,
        newest: None,
        first: None,
        bundles,
        waiting: 0,
        plan: Plan { time, ..Plan::default() },
    };
    survey.plan.looks.head.insert(STANDARD.to_owned(), 1);
    let cameras = if let Some(camera) = scope.camera {
        vec![CameraName::spell(camera)]
    } else {
        let (cameras, others) = cameras::split(site).await?;
        let looks = &mut survey.plan.looks.list;
        *looks += (cameras.len() as u64 + others.folders) / NAMES_A_PAGE + 1 + others.named.len() as u64;
        survey.plan.others = others;
        // Each is listed, loose and in its archive, and its index read.
        let to_settle = verify::days_to_settle(site)?.len() as u64;
        survey.plan.looks.list += 2 * to_settle;
        *survey.plan.looks.head.entry(STANDARD.to_owned()).or_default() += to_settle;
        cameras
    };
    for camera in cameras {
        survey.camera(&camera).await?;
    }
    let BucketSurvey { mut plan, newest, first, bundles, waiting, .. } = survey;
    plan.not_due = first.and_then(|date| Some(NotDue { date, from: policy.acts_from(date)? }));
    retention::believed(today, newest)?;
    plan.notes.extend(plan.time.differ.clone());
    let (bundles, later) = bundles.finish();
    for step in &bundles {
        plan.add(step);
        plan.to_download.count(site, step);
    }
    plan.summary.later = later;
    plan.summary.later.days += waiting;
    // What expires goes first, so that it is not bundled with the rest of its day; then the bundles, the most urgent first.
    plan.steps.sort_by_key(|step| step.action);
    policy.warnings().iter().for_each(|warning| plan.summary.warn(warning));
    plan.restrict(site).await?;
    if plan.steps.iter().any(|step| step.action == Action::Archive) {
        plan.bundle_classes =
            policy.archive.as_ref().map_or_else(Vec::new, |archive| bundle_classes(&bundles, archive));
    }
    Ok(plan)
}

/// Why a write-only box does not rotate.
pub const WRITE_ONLY: &str = "s3.access is write-only: this box can neither list nor delete, so it cannot rotate; let the bucket \
     do it by the lifecycle that `hk-aws aws-template` prints";

/// A look at the bucket.
struct BucketSurvey<'a> {
    site: &'a Site,
    policy: &'a RetentionPolicy,
    dates: &'a [NaiveDate],
    today: NaiveDate,
    newest: Option<NaiveDate>,
    /// The first day that is not old enough yet.
    first: Option<NaiveDate>,
    bundles: Urgent,
    /// Days that are not planned for want of memory.
    waiting: u64,
    plan: Plan,
}

impl BucketSurvey<'_> {
    async fn camera(&mut self, camera: &str) -> Result<(), HoldingsError> {
        let (site, mut at_hand) = (self.site, DaysAtHand::default());
        let listed = holdings::list_camera(site, camera, |date, object, stream| {
            let capture = capture(camera, date, object);
            self.newest = self.newest.max(retention::newest(std::slice::from_ref(&capture)));
            let is_named = self.dates.is_empty() || self.dates.contains(&date);
            if is_named && self.policy.may_act_on(date, self.today) {
                for (date, captures) in at_hand.take(capture, stream) {
                    self.decide(date, &captures);
                }
            } else if is_named && self.first.is_none_or(|first| date < first) {
                self.first = Some(date);
            }
        });
        let listed = listed.await?;
        let (days, waiting) = at_hand.finish();
        for (date, captures) in days {
            self.decide(date, &captures);
        }
        if waiting > 0 {
            self.waiting += waiting;
            self.plan.notes.insert(format!(
                "{camera}: its keys are in no order of days, so that a run plans at most {MOST_HELD} of its captures that are \
                 due, the oldest first: {waiting} days wait; run `hk-aws rotate` again"
            ));
        }
        self.plan.misfits.add(listed.misfits);
        self.plan.looks.list += listed.objects.div_ceil(NAMES_A_PAGE).max(1);
        for (date, archive) in listed.archives {
            let bundles = bundles(site, self.policy, &archive, self.today).await?;
            self.decide(date, &bundles);
        }
        Ok(())
    }

    fn decide(&mut self, date: NaiveDate, objects: &[Candidate]) {
        self.newest = self.newest.max(retention::newest(objects));
        if !self.dates.is_empty() && !self.dates.contains(&date) {
            return;
        }
        for step in retention::plan_day(objects, self.policy, self.today) {
            match step.action {
                Action::Archive => {
                    let copies = self.site.kept.bytes_of(&step.camera, step.date);
                    self.bundles.offer(step, if copies > 0 { Copies::Here } else { Copies::Gone });
                }
                _ => self.plan.add(&step),
            }
        }
    }
}

impl Plan {
    /// Adds one step. Which objects it is about is looked up again when it is carried out.
    fn add(&mut self, step: &RotationStep) {
        self.summary.add(step);
        if step.action != Action::Leave {
            self.steps.push(DayStep { action: step.action, camera: step.camera.clone(), date: step.date });
        }
    }

    /// Drops the steps that a lock or versioning makes pointless, and notes why.
    async fn restrict(&mut self, site: &Site) -> Result<(), HoldingsError> {
        if self.steps.is_empty() {
            self.summary.settle(false);
            return Ok(());
        }
        let locks = site.bucket.locks_objects().await?.unwrap_or(site.config.s3.object_lock.is_some());
        self.locks = locks;
        let versions = locks || site.bucket.keeps_versions().await?.unwrap_or(false);
        let refused = |action: Action| match action {
            Action::Archive if locks => Some(LOCKED),
            Action::Transition if versions => Some(VERSIONED),
            _ => None,
        };
        let (notes, summary) = (&mut self.notes, &mut self.summary);
        self.steps.retain(|step| {
            let reason = refused(step.action);
            notes.extend(reason.map(str::to_owned));
            reason.is_none()
        });
        [Action::Archive, Action::Transition]
            .into_iter()
            .filter(|action| refused(*action).is_some())
            .for_each(|action| summary.remove(action));
        summary.settle(versions);
        if versions && self.steps.iter().any(|step| step.action != Action::Transition) {
            let (days, dollars) = (retention::days(site.config.s3.undo), self.summary.total().undo);
            let cost = format!(": that comes to ${dollars:.4}, which the plan counts");
            self.notes.insert(format!(
                "the bucket keeps versions: what is deleted is hidden, and paid for until a lifecycle rule for noncurrent \
                 versions takes it, after {days} days (s3.undo){}",
                if site.bucket.is_aws().await? { &cost } else { "" }
            ));
        }
        Ok(())
    }
}

/// Returns what plans will warn of, as far as the settings tell, each with the key of the setting to change.
pub fn forewarnings(config: &Config) -> Vec<(&'static str, String)> {
    let about = |warning: retention::Warning| Some((warning.why.key()?, warning.to_string()));
    let mut warnings: Vec<_> = retention::warnings(config).into_iter().filter_map(about).collect();
    let of = &config.rotate;
    if config.s3.access == Access::WriteOnly {
        if of.archive.is_some() || of.transition.is_some() || of.expire.is_some() {
            warnings.push(("s3.access", WRITE_ONLY.to_owned()));
        }
        return warnings;
    }
    let locks = config.s3.object_lock.is_some();
    if let Some(archive) = &config.rotate.archive {
        let (kept, after) = (u64::from(config.keep.days), retention::days(archive.after));
        if locks {
            warnings.push(("rotate.archive", LOCKED.to_owned()));
        } else if kept < after {
            let text = format!(
                "local copies go after {kept} days, but are bundled after {after} (rotate.archive.after): what is bundled has \
                 to be downloaded, which costs money; set keep.days to more than {after}"
            );
            warnings.push(("keep.days", text));
        }
    }
    if locks && config.rotate.transition.is_some() {
        warnings.push(("rotate.transition", VERSIONED.to_owned()));
    }
    warnings
}

const LOCKED: &str = "nothing is bundled: the bucket locks objects, so what is bundled could not go and would be paid for twice; \
     set rotate.archive: null, and let the bucket's lifecycle change the class";

const VERSIONED: &str = "this box changes no class: the bucket keeps versions, so that a change in place makes a new version and the \
     old one is paid for as before; the lifecycle that `hk-aws aws-template` prints changes it instead";

impl PlannedDownload {
    /// Adds what a day's bundle needs beyond the local copies, judged by their sizes.
    fn count(&mut self, site: &Site, step: &RotationStep) {
        let here = site.kept.bytes_of(&step.camera, step.date);
        let missing = step.bytes.saturating_sub(here);
        self.bytes += missing;
        if step.bytes > 0 {
            #[expect(clippy::cast_precision_loss, reason = "money is shown with few digits")]
            let share = missing as f64 / step.bytes as f64;
            self.dollars += step.cost.download * share;
        }
    }
}

fn capture(camera: &str, date: NaiveDate, object: Object) -> Candidate {
    Candidate {
        key: object.key,
        camera: camera.to_owned(),
        date,
        size: object.size,
        class: object.storage_class.into_owned(),
        stored_at: object.stored_at,
        written_at: object.stored_at,
        kind: Kind::Capture,
    }
}

/// Returns the bundles and indexes of a day, as the plan sees them. The age of their members is looked up only if it
/// decides.
async fn bundles(
    site: &Site,
    policy: &RetentionPolicy,
    archive: &DayArchive,
    today: NaiveDate,
) -> Result<Vec<Candidate>, HoldingsError> {
    let mut all = Vec::new();
    for (at, archived) in &archive.parts {
        let part = &at.part;
        if archived.bundles.is_empty() {
            continue;
        }
        let mut described = None;
        let may_expire = policy.expire.is_some_and(|expire| retention::is_due(part.date, expire.after, today));
        if archived.index.is_some() && may_expire {
            match load_index(site, at).await {
                Ok(index) => described = index.newest_stored().map(|newest| (index.bundle.format, newest)),
                Err(error) if error.refusal().is_some_and(|refusal| refusal.kind() == RefusalKind::NoAnswer) => {
                    return Err(error.into());
                }
                // Without the index the bundle counts from when it was made, which is later.
                Err(_) => {}
            }
        }
        // An archive of another program beside the bundle counts from when it was made.
        let stored_at = |bundle: &BundleObject| match described {
            Some((format, newest)) if format == bundle.format => newest,
            _ => bundle.object.stored_at,
        };
        let candidate = |object: &Object, kind, stored_at| Candidate {
            stored_at,
            written_at: object.stored_at,
            kind,
            ..capture(&part.camera, part.date, object.clone())
        };
        all.extend(archived.bundles.iter().map(|bundle| candidate(&bundle.object, Kind::Bundle, stored_at(bundle))));
        all.extend(archived.index.iter().map(|index| candidate(index, Kind::Index, index.stored_at)));
    }
    Ok(all)
}

impl Rotated {
    /// Returns one line that says what was done.
    pub fn line(&self) -> String {
        let mut parts = vec![format!("{} captures of {} days bundled", self.bundled, self.bundled_days)];
        let more = [
            (self.transitioned, "changed their class"),
            (self.expired, "expired"),
            (self.fetched, "were downloaded for want of a local copy"),
            (self.local_copies, "local copies gave way"),
            (self.waiting, "camera-days wait for the next run"),
        ];
        parts.extend(more.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
        parts.join(", ")
    }
}

/// Removes the ledger's files of days that lie wholly in bundles, and gives up local copies that are too old or too many, as
/// the daemon does every hour.
pub async fn tidy(site: &Site, rotated: &mut Rotated) {
    match verify::settle_ledger(site).await {
        Ok(0) => {}
        Ok(days) => tracing::info!("the ledger of {days} camera-days went: their bundles and indexes hold the same"),
        // The next run goes on.
        Err(error) => tracing::warn!(message_id = message::LEDGER, "failed to tidy ledger: {error}"),
    }
    // Last, because a day keeps its ledger while it has local copies, and the plan counted those that had none before.
    let (kept, now) = (Arc::clone(&site.kept), (site.clock)());
    let given = tokio::task::spawn_blocking(move || kept.give_way(now)).await.unwrap_or_default();
    rotated.local_copies = given.copies;
}

/// Runs the rotation once, when no other command is at work.
pub async fn job(site: Arc<Site>, stop: CancellationToken) -> Ended {
    let folder = site.config.runtime_dir.clone();
    let locking = tokio::task::spawn_blocking(move || lock::command(&folder));
    let locked = tokio::select! {
        () = stop.cancelled() => return Ended::interrupted(),
        locked = locking => locked,
    };
    let _lock = match locked {
        Ok(Ok(lock)) => lock,
        Ok(Err(error)) => return RunEnd::NeedsOperator.saying(error.to_string()),
        Err(_) => return Ended::interrupted(),
    };
    let mut rotated = Rotated::default();
    let done = rotate(&site, &stop, &mut rotated).await;
    for failure in &rotated.failures {
        tracing::warn!(message_id = message::ROTATION_FAILED, "rotation: {failure}");
    }
    if stop.is_cancelled() { Ended::interrupted() } else { ended(done, &rotated) }
}

/// Plans and acts.
async fn rotate(site: &Site, stop: &CancellationToken, rotated: &mut Rotated) -> Result<(), RotateError> {
    let policy = RetentionPolicy::of(&site.config);
    let plan = plan(site, &policy, Scope::default()).await?;
    let is_aws = site.bucket.is_aws().await.map_err(HoldingsError::from)?;
    for warning in plan.summary.warnings().filter(|warning| is_aws || !warning.is_price()) {
        tracing::warn!(message_id = message::ROTATION_NOTE, "rotation: {warning}");
    }
    for note in &plan.notes {
        tracing::warn!(message_id = message::ROTATION_NOTE, "rotation: {note}");
    }
    apply(site, &policy, &plan, rotated, stop, |_| {}).await?;
    tidy(site, rotated).await;
    Ok(())
}

fn ended(done: Result<(), RotateError>, rotated: &Rotated) -> Ended {
    let more = rotated.others.line().into_iter().chain(rotated.misfits.line()).chain(rotated.clocks.clone());
    let line = std::iter::once(rotated.line()).chain(more).collect::<Vec<_>>().join("; ");
    match (done, rotated.failures.as_slice()) {
        (Err(error), _) if error.verdict() == Some(Verdict::TryLater) => {
            RunEnd::TryLater.saying(format!("{error} ({line})"))
        }
        (Err(error), _) => RunEnd::NeedsOperator.saying(format!("{error} ({line})")),
        (Ok(()), []) => RunEnd::Done.saying(line),
        (Ok(()), [first, ..]) => {
            let failed = rotated.failures.len();
            RunEnd::Partly.saying(format!("{line}; {failed} failed or were left, such as {first}"))
        }
    }
}
