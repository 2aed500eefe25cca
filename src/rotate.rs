//! The rotation: looks at the bucket, decides by [`retention`], and does it, one camera-day after the other.
//!
//! The bucket is listed twice: once as a whole to see what is due, a camera-day in memory at a time, and each day that
//! is due again just before it is touched. What is decided on is what is there then. Nothing is remembered in between, so
//! a run may end anywhere and the next one goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::archive::{self, Shelf};
use crate::bucket::{Object, Refusal, Verdict};
use crate::config::Access;
use crate::kept::Given;
use crate::key::KeyParts;
use crate::lock;
use crate::retention::{self, Action, Candidate, Kind, Oldest, Requests, RetentionPolicy, RotationStep, Summary};
use crate::schedule::Ended;
use crate::site::Site;

mod apply;

pub use apply::{apply, verdict};

/// The most names that one page of a listing holds (S3 API Reference, `ListObjectsV2`).
const NAMES_A_PAGE: usize = 1000;

/// What is to be done, what it costs, and what is not done and why.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// The camera-days to work on, in order.
    #[serde(skip)]
    pub steps: Vec<Todo>,
    /// Whether objects in the bucket may be locked.
    #[serde(skip)]
    pub locks: bool,
    /// All of it in rows.
    #[serde(flatten)]
    pub summary: Summary,
    /// What it took to look at the bucket, due or not; not among the rows.
    pub looks: Requests,
    /// Bytes of captures to bundle that have no local copy, and the dollars that downloading them costs.
    pub to_download: Download,
    /// What the operator should know of the bucket and the settings.
    pub notes: BTreeSet<String>,
}

/// One action on one camera-day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Todo {
    /// What is done.
    pub action: Action,
    /// The camera.
    pub camera: String,
    /// The date, at the camera.
    pub date: NaiveDate,
}

/// What has to be downloaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Download {
    /// Bytes.
    pub bytes: u64,
    /// Dollars.
    pub dollars: f64,
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Camera-days that were bundled, or of which a bundle was finished.
    pub bundled_days: u64,
    /// Captures that went into bundles.
    pub bundled: u64,
    /// Bytes of the bundles that were made.
    pub bundle_bytes: u64,
    /// Objects whose class changed.
    pub transitioned: u64,
    /// Objects that expired.
    pub expired: u64,
    /// Captures that had to be downloaded for want of a local copy, and their bytes.
    pub fetched: u64,
    /// Their bytes.
    pub fetched_bytes: u64,
    /// Local copies that gave way.
    pub local_copies: u64,
    /// What failed, or was left as it is, and why.
    pub failures: Vec<String>,
}

/// The date at the cameras now.
pub fn today(site: &Site) -> NaiveDate {
    let now: DateTime<Utc> = (site.clock)().wall.into();
    now.with_timezone(&site.config.timezone).date_naive()
}

/// Looks at the bucket, or one camera in it, and decides what is due by `policy`; of the days in `dates` alone, where
/// there are any.
///
/// # Errors
/// Where the bucket cannot be listed, the box may only write, or the clock is not believed.
pub async fn plan(
    site: &Site,
    policy: &RetentionPolicy,
    camera: Option<&str>,
    dates: &[NaiveDate],
) -> anyhow::Result<Plan> {
    if site.config.s3.access == Access::WriteOnly {
        bail!("{WRITE_ONLY}");
    }
    let bundles = Oldest::new(policy.archive.as_ref().map_or(0, |archive| archive.max_days_per_run));
    let today = today(site);
    let mut survey = Survey { site, policy, dates, today, newest: None, bundles, plan: Plan::default() };
    let cameras = if let Some(camera) = camera {
        vec![camera.to_owned()]
    } else {
        let cameras = cameras(site).await?;
        survey.plan.looks.list += (cameras.len() / NAMES_A_PAGE + 1) as u64;
        cameras
    };
    for camera in cameras {
        survey.camera(&camera).await?;
    }
    let Survey { mut plan, newest, bundles, .. } = survey;
    retention::believed(today, newest)?;
    let (bundles, later) = bundles.finish();
    for step in &bundles {
        plan.add(step);
        plan.to_download.count(site, step);
    }
    plan.summary.later = later;
    // What expires goes first, so that it is not bundled with the rest of its day; then the bundles, the oldest first.
    plan.steps.sort_by_key(|step| step.action);
    plan.restrict(site).await?;
    policy.warnings().iter().for_each(|warning| plan.summary.warn(warning));
    Ok(plan)
}

/// Why a write-only box does not rotate.
pub const WRITE_ONLY: &str = "s3.access is write-only: this box can neither list nor delete, so it cannot rotate; let the bucket \
     do it by the lifecycle that `hk-aws aws-template` prints";

/// The cameras in the bucket, as segments of keys.
///
/// # Errors
/// Where they cannot be listed.
pub async fn cameras(site: &Site) -> anyhow::Result<Vec<String>> {
    let (prefix, mut cameras, mut from) = (site.layout.prefix(), Vec::new(), None);
    loop {
        let page = site.bucket.list(prefix, true, from).await.with_context(|| site.bucket.describe())?;
        let names = page.folders.iter().map(|folder| folder[prefix.len()..].trim_end_matches('/').to_owned());
        // A key that begins with `/` lies in a folder without a name.
        cameras.extend(names.filter(|name| !name.is_empty()));
        from = page.next;
        if from.is_none() {
            return Ok(cameras);
        }
    }
}

/// A look at the bucket.
struct Survey<'a> {
    site: &'a Site,
    policy: &'a RetentionPolicy,
    dates: &'a [NaiveDate],
    today: NaiveDate,
    newest: Option<NaiveDate>,
    bundles: Oldest,
    plan: Plan,
}

impl Survey<'_> {
    async fn camera(&mut self, camera: &str) -> anyhow::Result<()> {
        let site = self.site;
        let in_order = site.layout.has_date_folders();
        let (mut days, mut shelves) =
            (BTreeMap::<NaiveDate, Vec<Candidate>>::new(), BTreeMap::<NaiveDate, Shelf>::new());
        let mut from = None;
        loop {
            let prefix = site.layout.camera_prefix(camera);
            let page = site.bucket.list(&prefix, false, from).await.with_context(|| site.bucket.describe())?;
            self.plan.looks.list += 1;
            for object in page.objects {
                if let Some(parts) = site.layout.parse(&object.key).filter(|parts| parts.camera == camera) {
                    // Keys come day by day: no more than one is held.
                    if in_order && days.keys().next_back().is_some_and(|last| *last != parts.date) {
                        self.decide(std::mem::take(&mut days));
                    }
                    days.entry(parts.date).or_default().push(held(parts, object));
                } else if let Some(archived) = site.layout.parse_archive(&object.key) {
                    shelves.entry(archived.part.date).or_default().insert(archived, object);
                }
            }
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        self.decide(days);
        for (date, shelf) in shelves {
            let held = held_of(site, self.policy, camera, date, &shelf, self.today).await?;
            self.decide(BTreeMap::from([(date, held)]));
        }
        Ok(())
    }

    fn decide(&mut self, days: BTreeMap<NaiveDate, Vec<Candidate>>) {
        for (date, objects) in days {
            self.newest = self.newest.max(retention::newest(&objects));
            if !self.dates.is_empty() && !self.dates.contains(&date) {
                continue;
            }
            for step in retention::plan_day(&objects, self.policy, self.today) {
                match step.action {
                    Action::Archive => self.bundles.offer(step),
                    _ => self.plan.add(&step),
                }
            }
        }
    }
}

impl Plan {
    /// Which objects they are is looked up again when it is done.
    fn add(&mut self, step: &RotationStep) {
        self.summary.add(step);
        if step.action != Action::Leave {
            self.steps.push(Todo { action: step.action, camera: step.camera.clone(), date: step.date });
        }
    }

    /// Takes out what the bucket itself stands in the way of.
    async fn restrict(&mut self, site: &Site) -> anyhow::Result<()> {
        if self.steps.is_empty() {
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
        if versions && self.steps.iter().any(|step| step.action != Action::Transition) {
            self.notes.insert(HIDDEN.to_owned());
        }
        Ok(())
    }
}

const LOCKED: &str = "nothing is bundled: the bucket locks objects, so what is bundled could not go and would be paid for twice; \
     set rotate.archive: null, and let the bucket's lifecycle change the class";

const VERSIONED: &str = "no class is changed: the bucket keeps versions, so that a change in place makes a new version and the old \
     one is paid for as before; set rotate.transition: null, and let the bucket's lifecycle do it";

const HIDDEN: &str = "the bucket keeps versions: what is deleted is hidden, and paid for until a lifecycle rule for noncurrent \
     versions takes it";

impl Download {
    /// Adds what a day's bundle needs beyond the local copies, as far as a look at their sizes tells.
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

fn held(parts: KeyParts, object: Object) -> Candidate {
    Candidate {
        key: object.key,
        camera: parts.camera,
        date: parts.date,
        size: object.size,
        class: object.storage_class,
        stored_at: object.stored_at,
        written_at: object.stored_at,
        kind: Kind::Capture,
    }
}

/// The bundles of a day as the plan sees them; their members' age is looked up where it decides.
async fn held_of(
    site: &Site,
    policy: &RetentionPolicy,
    camera: &str,
    date: NaiveDate,
    shelf: &Shelf,
    today: NaiveDate,
) -> anyhow::Result<Vec<Candidate>> {
    let mut all = Vec::new();
    for (part, held) in &shelf.parts {
        let Some((bundle, _)) = &held.bundle else { continue };
        let mut stored_at = bundle.stored_at;
        let may_expire = policy.expire.is_some_and(|expire| retention::is_due(date, expire.after, today));
        if held.index.is_some() && may_expire {
            match archive::load_index(site, part).await {
                Ok(index) => stored_at = index.newest_stored().unwrap_or(stored_at),
                // Without it the bundle counts from when it was made, which is later.
                Err(error) if error.downcast_ref::<Refusal>().is_none_or(|refusal| refusal.code.is_some()) => {}
                Err(error) => return Err(error),
            }
        }
        let one = |object: &Object, kind| Candidate {
            key: object.key.clone(),
            camera: camera.to_owned(),
            date,
            size: object.size,
            class: object.storage_class.clone(),
            stored_at,
            written_at: object.stored_at,
            kind,
        };
        all.push(one(bundle, Kind::Bundle));
        all.extend(held.index.iter().map(|index| one(index, Kind::Index)));
    }
    Ok(all)
}

impl Outcome {
    /// What was done, for people.
    pub fn line(&self) -> String {
        let mut parts = vec![format!("{} captures of {} days bundled", self.bundled, self.bundled_days)];
        let more = [
            (self.transitioned, "changed their class"),
            (self.expired, "expired"),
            (self.fetched, "were downloaded for want of a local copy"),
            (self.local_copies, "local copies gave way"),
        ];
        parts.extend(more.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
        parts.join(", ")
    }
}

/// Lets local copies give way, as the daemon does every hour.
pub async fn give_way(site: &Site) -> Given {
    let (kept, now) = (std::sync::Arc::clone(&site.kept), (site.clock)());
    tokio::task::spawn_blocking(move || kept.give_way(now, 0)).await.unwrap_or_default()
}

/// Runs the rotation once, when no other command is at work.
pub async fn job(site: Arc<Site>, stop: CancellationToken) -> Ended {
    let folder = site.config.runtime_dir.clone();
    let locking = tokio::task::spawn_blocking(move || lock::command(&folder));
    let locked = tokio::select! {
        () = stop.cancelled() => return Ended::Interrupted,
        locked = locking => locked,
    };
    let _lock = match locked {
        Ok(Ok(lock)) => lock,
        Ok(Err(error)) => return Ended::NeedsOperator(format!("{error:#}")),
        Err(_) => return Ended::Interrupted,
    };
    let mut outcome = Outcome::default();
    let run = async {
        let policy = RetentionPolicy::of(&site.config);
        let plan = plan(&site, &policy, None, &[]).await?;
        for warning in plan.summary.warnings() {
            tracing::warn!("rotation: {warning}");
        }
        for note in &plan.notes {
            tracing::warn!("rotation: {note}");
        }
        apply(&site, &policy, &plan, &mut outcome, &stop, |_| {}).await?;
        outcome.local_copies = give_way(&site).await.copies;
        anyhow::Ok(plan.summary.later.days)
    };
    let done = run.await;
    for failure in &outcome.failures {
        tracing::warn!("rotation: {failure}");
    }
    let line = outcome.line();
    match done {
        _ if stop.is_cancelled() => Ended::Interrupted,
        Ok(later) => {
            let later = if later == 0 { String::new() } else { format!("; {later} days more wait for the next runs") };
            match outcome.failures.as_slice() {
                [] => Ended::Done(format!("{line}{later}")),
                [first, ..] => Ended::Partly(format!(
                    "{line}{later}; {} failed or were left, such as {first}",
                    outcome.failures.len()
                )),
            }
        }
        Err(error) if verdict(&error) == Some(Verdict::TryLater) => Ended::TryLater(format!("{error:#} ({line})")),
        Err(error) => Ended::NeedsOperator(format!("{error:#} ({line})")),
    }
}
