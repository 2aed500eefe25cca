//! The rotation: looks at the bucket, decides by [`retention`], and does it, one camera-day after the other.
//!
//! The bucket is listed twice: once as a whole to see what is due, a camera-day in memory at a time, and each day that
//! is due again just before it is touched. What is decided on is what is there then. Nothing is remembered in between, so
//! a run may end anywhere and the next one goes on.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use chrono::{DateTime, NaiveDate, Utc};
use futures_util::StreamExt;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::archive::{self, Shelf, archive_day};
use crate::bucket::{Copied, Object, Refusal, Verdict};
use crate::config::Access;
use crate::ingest::Context;
use crate::kept::Given;
use crate::key::Parts;
use crate::ledger;
use crate::retention::{self, Action, Held, Kind, Oldest, Policy, Step, Summary};

/// How many objects change their class at the same time.
const COPIES_AT_ONCE: usize = 8;

/// What is to be done, what it costs, and what is not done and why.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// The camera-days to work on, in order.
    #[serde(skip)]
    pub steps: Vec<Todo>,
    /// All of it in rows.
    #[serde(flatten)]
    pub summary: Summary,
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
pub fn today(context: &Context) -> NaiveDate {
    let now: DateTime<Utc> = (context.clock)().wall.into();
    now.with_timezone(&context.config.timezone).date_naive()
}

/// Looks at the bucket, or one camera in it, and decides what is due by `policy`; of the days in `dates` alone, where
/// there are any.
///
/// # Errors
/// Where the bucket cannot be listed, the box may only write, or the clock is not believed.
pub async fn plan(
    context: &Context,
    policy: &Policy,
    camera: Option<&str>,
    dates: &[NaiveDate],
) -> anyhow::Result<Plan> {
    if context.config.s3.access == Access::WriteOnly {
        bail!("{WRITE_ONLY}");
    }
    let bundles = Oldest::new(policy.archive.as_ref().map_or(0, |archive| archive.max_days_per_run));
    let today = today(context);
    let mut survey = Survey { context, policy, dates, today, newest: None, bundles, plan: Plan::default() };
    let cameras = match camera {
        Some(camera) => vec![camera.to_owned()],
        None => cameras(context).await?,
    };
    for camera in cameras {
        survey.camera(&camera).await?;
    }
    let Survey { mut plan, newest, bundles, .. } = survey;
    retention::believed(today, newest)?;
    let (bundles, later) = bundles.finish();
    for step in &bundles {
        plan.add(step);
        plan.to_download.count(context, step);
    }
    plan.summary.later = later;
    // What expires goes first, so that it is not bundled with the rest of its day; then the bundles, the oldest first.
    plan.steps.sort_by_key(|step| step.action);
    plan.restrict(context).await?;
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
pub async fn cameras(context: &Context) -> anyhow::Result<Vec<String>> {
    let (prefix, mut cameras, mut from) = (context.layout.prefix(), Vec::new(), None);
    loop {
        let page = context.bucket.list(prefix, true, from).await.with_context(|| context.bucket.describe())?;
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
    context: &'a Context,
    policy: &'a Policy,
    dates: &'a [NaiveDate],
    today: NaiveDate,
    newest: Option<NaiveDate>,
    bundles: Oldest,
    plan: Plan,
}

impl Survey<'_> {
    async fn camera(&mut self, camera: &str) -> anyhow::Result<()> {
        let context = self.context;
        let in_order = context.layout.has_date_folders();
        let (mut days, mut shelves) = (BTreeMap::<NaiveDate, Vec<Held>>::new(), BTreeMap::<NaiveDate, Shelf>::new());
        let mut from = None;
        loop {
            let prefix = context.layout.camera_prefix(camera);
            let page = context.bucket.list(&prefix, false, from).await.with_context(|| context.bucket.describe())?;
            for object in page.objects {
                if let Some(parts) = context.layout.parse(&object.key).filter(|parts| parts.camera == camera) {
                    // Keys come day by day: no more than one is held.
                    if in_order && days.keys().next_back().is_some_and(|last| *last != parts.date) {
                        self.decide(std::mem::take(&mut days));
                    }
                    days.entry(parts.date).or_default().push(held(parts, object));
                } else if let Some(archived) = context.layout.parse_archive(&object.key) {
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
            let held = held_of(context, self.policy, camera, date, &shelf, self.today).await?;
            self.decide(BTreeMap::from([(date, held)]));
        }
        Ok(())
    }

    fn decide(&mut self, days: BTreeMap<NaiveDate, Vec<Held>>) {
        for (date, objects) in days {
            self.newest = self.newest.max(retention::newest(&objects));
            if !self.dates.is_empty() && !self.dates.contains(&date) {
                continue;
            }
            for step in retention::plan_day(&objects, self.policy, self.today) {
                match step.action {
                    Action::Bundle => self.bundles.offer(step),
                    _ => self.plan.add(&step),
                }
            }
        }
    }
}

impl Plan {
    /// Which objects they are is looked up again when it is done.
    fn add(&mut self, step: &Step) {
        self.summary.add(step);
        if step.action != Action::Leave {
            self.steps.push(Todo { action: step.action, camera: step.camera.clone(), date: step.date });
        }
    }

    /// Takes out what the bucket itself stands in the way of.
    async fn restrict(&mut self, context: &Context) -> anyhow::Result<()> {
        if self.steps.is_empty() {
            return Ok(());
        }
        let locks = locks(context).await?;
        let versions = locks || context.bucket.keeps_versions().await?.unwrap_or(false);
        let refused = |action: Action| match action {
            Action::Bundle if locks => Some(LOCKED),
            Action::Transition if versions => Some(VERSIONED),
            _ => None,
        };
        let (notes, summary) = (&mut self.notes, &mut self.summary);
        self.steps.retain(|step| {
            let reason = refused(step.action);
            notes.extend(reason.map(str::to_owned));
            reason.is_none()
        });
        [Action::Bundle, Action::Transition]
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

/// Whether objects in the bucket may be locked.
async fn locks(context: &Context) -> anyhow::Result<bool> {
    Ok(context.bucket.locks_objects().await?.unwrap_or(context.config.s3.object_lock.is_some()))
}

impl Download {
    /// Adds what a day's bundle needs beyond the local copies, as far as a look at their sizes tells.
    fn count(&mut self, context: &Context, step: &Step) {
        let here = context.kept.bytes_of(&step.camera, step.date);
        let missing = step.bytes.saturating_sub(here);
        self.bytes += missing;
        if step.bytes > 0 {
            #[expect(clippy::cast_precision_loss, reason = "money is shown with few digits")]
            let share = missing as f64 / step.bytes as f64;
            self.dollars += step.cost.download * share;
        }
    }
}

fn held(parts: Parts, object: Object) -> Held {
    Held {
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
    context: &Context,
    policy: &Policy,
    camera: &str,
    date: NaiveDate,
    shelf: &Shelf,
    today: NaiveDate,
) -> anyhow::Result<Vec<Held>> {
    let mut all = Vec::new();
    for (part, held) in &shelf.parts {
        let Some((bundle, _)) = &held.bundle else { continue };
        let mut stored_at = bundle.stored_at;
        let may_expire = policy.expire.is_some_and(|expire| retention::is_due(date, expire.after, today));
        if held.index.is_some() && may_expire {
            match archive::load_index(context, part).await {
                Ok(index) => stored_at = index.newest_stored().unwrap_or(stored_at),
                // Without it the bundle counts from when it was made, which is later.
                Err(error) if error.downcast_ref::<Refusal>().is_none_or(|refusal| refusal.code.is_some()) => {}
                Err(error) => return Err(error),
            }
        }
        let one = |object: &Object, kind| Held {
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

/// Does what a plan says, and then lets local copies give way. `tell` hears of each step before it is begun.
///
/// # Errors
/// Where nothing more can be done now; what was done is in `outcome`.
pub async fn apply(
    context: &Context,
    policy: &Policy,
    plan: &Plan,
    outcome: &mut Outcome,
    stop: &CancellationToken,
    mut tell: impl FnMut(&Todo),
) -> anyhow::Result<()> {
    archive::clear_spools(&context.config.state_dir);
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
            Action::Bundle => bundle(context, policy, camera, *date, outcome).await,
            Action::Transition => transition(context, policy, camera, *date, outcome).await,
            Action::Expire => expire(context, policy, camera, *date, outcome).await,
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
    context: &Context,
    policy: &Policy,
    camera: &str,
    date: NaiveDate,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let Some(archive) = &policy.archive else { return Ok(()) };
    let made = archive_day(context, archive, camera, date).await?;
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
    context: &Context,
    policy: &Policy,
    action: Action,
    camera: &str,
    date: NaiveDate,
) -> anyhow::Result<Vec<Object>> {
    let there = archive::list_day(context, camera, date).await?;
    let parts = |object: &Object| Parts { camera: camera.to_owned(), date, file: object.key.clone() };
    let all: Vec<Held> = there.iter().map(|object| held(parts(object), object.clone())).collect();
    let steps = retention::plan_day(&all, policy, today(context));
    let keys: BTreeSet<String> =
        steps.into_iter().filter(|step| step.action == action).flat_map(|step| step.keys).collect();
    Ok(there.into_iter().filter(|object| keys.contains(&object.key)).collect())
}

async fn transition(
    context: &Context,
    policy: &Policy,
    camera: &str,
    date: NaiveDate,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let Some(transition) = &policy.transition else { return Ok(()) };
    let objects = due(context, policy, Action::Transition, camera, date).await?;
    // Where the bucket does not tell whether it keeps versions, its objects do.
    if let Some(first) = objects.first()
        && context.bucket.head(&first.key).await?.is_some_and(|head| head.versioned)
    {
        bail!("{VERSIONED}");
    }
    let copying = objects.iter().map(|object| async move {
        let Object { key, size, etag, .. } = object;
        let copied = context.bucket.copy(key, *size, etag, key, &transition.class).await;
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
    context: &Context,
    policy: &Policy,
    camera: &str,
    date: NaiveDate,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let loose = due(context, policy, Action::Expire, camera, date).await?;
    let mut keys: Vec<String> = loose.into_iter().map(|object| object.key).collect();
    let shelf = archive::shelf(context, camera, date).await?;
    let bundles = held_of(context, policy, camera, date, &shelf, today(context)).await?;
    let steps = retention::plan_day(&bundles, policy, today(context));
    // A bundle before its index: an index alone is an intention that is taken back, a bundle alone would be a riddle.
    keys.extend(steps.into_iter().filter(|step| step.action == Action::Expire).flat_map(|step| step.keys));
    let keys = if locks(context).await? { unlocked(context, keys, outcome).await? } else { keys };
    if keys.is_empty() {
        return Ok(());
    }
    let removed_at = (context.clock)().wall.into();
    let removed = keys.iter().map(|key| ledger::Removed { removed_at, key: key.clone(), bundle: None });
    let removed: Vec<ledger::Removed> = removed.collect();
    ledger::append_removed(&context.ledger(), camera, date, &removed)
        .context("failed to write ledger; nothing is deleted")?;
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let failed = context.bucket.delete_all(&keys).await?;
    outcome.expired += (keys.len() - failed.len()) as u64;
    outcome.failures.extend(failed.into_iter().map(|(key, why)| format!("{key}: not deleted: {why}")));
    tracing::info!(camera, "{} objects of {camera} {date} expired", keys.len());
    Ok(())
}

/// Those that no lock holds.
async fn unlocked(context: &Context, keys: Vec<String>, outcome: &mut Outcome) -> anyhow::Result<Vec<String>> {
    let now = DateTime::<Utc>::from((context.clock)().wall);
    let mut free = Vec::new();
    for key in keys {
        let Some(head) = context.bucket.head(&key).await? else { continue };
        match head.locked_until {
            Some(until) if until > now => {
                outcome.failures.push(format!("{key}: a lock holds it until {}", until.date_naive()));
            }
            _ => free.push(key),
        }
    }
    Ok(free)
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
pub async fn give_way(context: &Context) -> Given {
    let (kept, now) = (std::sync::Arc::clone(&context.kept), (context.clock)());
    tokio::task::spawn_blocking(move || kept.give_way(now, 0)).await.unwrap_or_default()
}
