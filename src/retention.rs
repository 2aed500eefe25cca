//! Retention: what of the bucket is due to be bundled, moved to a colder class or deleted, and what that costs.
//!
//! Everything here is pure: a listing, a [`RetentionPolicy`] and a date go in, [`RotationStep`]s come out, for a person to read or for
//! the rotation to carry out. A camera-day is the unit, because a bundle holds one; [`plan_day`] knows of nothing else,
//! so that a bucket of any size is gone through with the memory of one day, and [`Summary`] and [`Oldest`] fold.
//!
//! * Nothing is touched before its age, to the day, and nothing stands in two steps.
//! * What is due stays due as time goes on; only that what would be bundled or moved is deleted in the end.
//! * A deletion counts from the capture or from when it was stored, whichever is later: neither a camera's wrong clock
//!   nor a late import deletes anything early.
//! * A clock that is far off plans nothing: [`believed`].
//! * Money is shown and decides nothing.
//!
//! S3's own lifecycle rules would need no plan, but they cannot bundle, count from the upload alone, and pay for each
//! picture what a bundle pays for a day.

mod cost;
pub mod prices;
mod summary;
#[cfg(test)]
mod tests;
mod warning;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, Utc};
use serde::Serialize;

use crate::bucket::{MOST_COPIED, is_cold};
use crate::config::{self, Config};

pub use cost::{Cost, Requests};
pub use summary::{Later, Oldest, Row, Summary, limit};
pub use warning::{Warning, Why};

/// The largest object that is bundled: what one PUT takes (S3 User Guide, "Uploading objects"), less room for headers.
pub const LARGEST_MEMBER_BYTES: u64 = (5 << 30) - (1 << 20);

/// A clock so long after the newest capture is not believed: no camera is silent for two years and still watched.
const SILENCE_DAYS: u64 = 730;

/// Zones are up to a day apart.
const ZONES: Days = Days::new(1);

/// Classes from the warmest to the coldest; of two in one group neither is colder.
const COLDER: [&[&str]; 7] = [
    &["STANDARD"],
    &["INTELLIGENT_TIERING", "REDUCED_REDUNDANCY"],
    &["STANDARD_IA"],
    &["ONEZONE_IA"],
    &["GLACIER_IR"],
    &["GLACIER"],
    &["DEEP_ARCHIVE"],
];

/// An object of the bucket as a listing tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its key.
    pub key: String,
    /// Whose it is.
    pub camera: String,
    /// The date, at the camera.
    pub date: NaiveDate,
    /// Bytes.
    pub size: u64,
    /// The storage class, as the store spells it.
    pub class: String,
    /// When the capture was stored; of a bundle: its newest member, and not the bundle itself.
    pub stored_at: DateTime<Utc>,
    /// When the object itself was written, from which its class's minimum counts; of a capture mostly `stored_at`.
    pub written_at: DateTime<Utc>,
    /// What it is.
    pub kind: Kind,
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What a camera sent.
    Capture,
    /// The captures of a camera-day, or a part of them: `CAMERA/archive/DATE[.partN].tar[.gz|.zst]`.
    Bundle,
    /// What is in a bundle: its key, with or without the ending of its format, and `.index.json`.
    Index,
}

/// What is to become of old captures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Bundles of camera-days.
    pub archive: Option<config::ArchiveSettings>,
    /// Each object on its own into a colder class; not looked at where there are bundles.
    pub transition: Option<config::TransitionSettings>,
    /// Deletion; `None`: never.
    pub expire: Option<config::ExpireSettings>,
}

impl RetentionPolicy {
    /// The policy of a configuration.
    pub fn of(config: &Config) -> Self {
        let config::RotateSettings { archive, transition, expire, .. } = config.rotate.clone();
        Self { archive, transition, expire }
    }

    /// What is amiss with the policy itself, whatever is in the bucket.
    pub fn warnings(&self) -> Vec<Warning> {
        let (Some(archive), Some(expire)) = (&self.archive, &self.expire) else { return Vec::new() };
        let days = days(expire.after).saturating_sub(days(archive.after));
        let minimum_days = prices::minimum_days(&archive.class);
        if days >= minimum_days.into() {
            return Vec::new();
        }
        vec![Warning::new(Why::ShortLived { class: archive.class.clone(), days, minimum_days })]
    }
}

/// What is done in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Deleted for good.
    Expire,
    /// Put into a bundle, confirmed there and deleted; called "bundle" where people read it.
    #[serde(rename = "bundle")]
    Archive,
    /// Copied onto itself in a colder class.
    Transition,
    /// Nothing: it is due, but cannot or should not be touched. The warnings say why.
    Leave,
}

/// What is done with objects of one camera-day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RotationStep {
    /// What is done.
    pub action: Action,
    /// Whose objects they are.
    pub camera: String,
    /// Their date, at the camera.
    pub date: NaiveDate,
    /// Their keys in order, but for a deletion bundles and their indexes first, so that one request takes both.
    pub keys: Vec<String>,
    /// Bytes of all of them.
    pub bytes: u64,
    /// How many and how large they are, by the class they are in.
    pub from: BTreeMap<String, Amount>,
    /// The class they go to.
    pub class: Option<String>,
    /// What it costs and saves.
    pub cost: Cost,
    /// What the operator should know of it.
    pub warnings: Vec<Warning>,
}

/// How much of something there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many objects.
    pub objects: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// Why no date is believed, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// Something was stored in the future.
    #[error(
        "this box's clock says {today}, but the newest capture in the bucket is of {newest}, so nothing is rotated: set the clock"
    )]
    Behind {
        /// What the clock says.
        today: NaiveDate,
        /// The newest capture.
        newest: NaiveDate,
    },
    /// Nothing was stored for longer than is likely.
    #[error(
        "this box's clock says {today}, but the newest capture in the bucket is of {newest}, so nothing is rotated: set the \
         clock; if it is right and no capture came for two years, the next capture settles it"
    )]
    Ahead {
        /// What the clock says.
        today: NaiveDate,
        /// The newest capture.
        newest: NaiveDate,
    },
}

/// Decides what is due by `today` of all `objects`, the oldest date first, and by camera within a date.
///
/// # Errors
/// Where the newest of them says that the clock is far off.
pub fn plan(objects: &[Candidate], policy: &RetentionPolicy, today: NaiveDate) -> Result<Vec<RotationStep>, Doubt> {
    believed(today, newest(objects))?;
    let mut days: BTreeMap<(NaiveDate, &str), Vec<&Candidate>> = BTreeMap::new();
    for object in objects {
        days.entry((object.date, &object.camera)).or_default().push(object);
    }
    Ok(days.values().flat_map(|day| steps(day, policy, today)).collect())
}

/// Decides what is due by `today`, which the caller has [`believed`], of all `objects` of one camera-day: at most one
/// step for each action.
pub fn plan_day(objects: &[Candidate], policy: &RetentionPolicy, today: NaiveDate) -> Vec<RotationStep> {
    steps(&objects.iter().collect::<Vec<_>>(), policy, today)
}

fn steps(objects: &[&Candidate], policy: &RetentionPolicy, today: NaiveDate) -> Vec<RotationStep> {
    let Some(first) = objects.first() else { return Vec::new() };
    debug_assert!(objects.iter().all(|object| (&object.camera, object.date) == (&first.camera, first.date)));
    let mut due: BTreeMap<Action, Vec<&Candidate>> = BTreeMap::new();
    let mut left = Vec::new();
    for &object in objects {
        match fate(object, objects, policy, today) {
            Decision::NotDue => {}
            Decision::Due(action) => due.entry(action).or_default().push(object),
            Decision::Left(why) => {
                due.entry(Action::Leave).or_default().push(object);
                left.push(Warning::about(why, object.size));
            }
        }
    }
    due.into_iter()
        .map(|(action, mut objects)| {
            objects.sort_by_key(|object| (action == Action::Expire && object.kind == Kind::Capture, &object.key));
            let (class, (cost, warnings)) = match (action, &policy.archive, &policy.transition) {
                (Action::Expire, ..) => (None, cost::of_expiry(&objects, today)),
                (Action::Archive, Some(archive), _) => {
                    let (cost, mut warnings) = cost::of_bundle(&objects, archive, today);
                    warnings.extend(policy.warnings());
                    (Some(archive.class.clone()), (cost, warnings))
                }
                (Action::Transition, _, Some(transition)) => {
                    (Some(transition.class.clone()), cost::of_transition(&objects, &transition.class, today))
                }
                _ => (None, (Cost::default(), warning::merge(std::mem::take(&mut left)))),
            };
            step(action, &objects, first, class, cost, warnings)
        })
        .collect()
}

/// Whether `today` can be, where the newest capture in the bucket is of `newest`.
///
/// # Errors
/// Where it cannot: nothing may be planned then, because a clock years ahead would delete all there is.
pub fn believed(today: NaiveDate, newest: Option<NaiveDate>) -> Result<(), Doubt> {
    let Some(newest) = newest else { return Ok(()) };
    if today.checked_add_days(ZONES).is_some_and(|today| today < newest) {
        return Err(Doubt::Behind { today, newest });
    }
    if newest.checked_add_days(Days::new(SILENCE_DAYS)).is_some_and(|last| last < today) {
        return Err(Doubt::Ahead { today, newest });
    }
    Ok(())
}

/// The latest date that captures or bundles of captures prove, by their own dates and by the store's clock.
///
/// A capture of a date after it was stored has that from a camera's wrong clock; when it was stored counts all the same.
/// An index proves nothing: it may be written years after the last capture.
pub fn newest(objects: &[Candidate]) -> Option<NaiveDate> {
    let proved = |object: &Candidate| {
        let stored = object.stored_at.date_naive();
        let plausible = stored.checked_add_days(ZONES).is_none_or(|latest| object.date <= latest);
        if plausible { stored.max(object.date) } else { stored }
    };
    objects.iter().filter(|object| object.kind != Kind::Index).map(proved).max()
}

enum Decision {
    NotDue,
    Due(Action),
    Left(Why),
}

fn fate(object: &Candidate, day: &[&Candidate], policy: &RetentionPolicy, today: NaiveDate) -> Decision {
    if object.kind == Kind::Index {
        let goes = goes_with_its_bundles(object, day, policy, today);
        return if goes { Decision::Due(Action::Expire) } else { Decision::NotDue };
    }
    if expires(object, policy, today) {
        return Decision::Due(Action::Expire);
    }
    let why = match (&policy.archive, &policy.transition) {
        (Some(archive), _) if object.kind == Kind::Capture && is_due(object.date, archive.after, today) => {
            why_not_bundle(object).map_or(Ok(Action::Archive), Err)
        }
        (None, Some(transition))
            if object.class != transition.class && is_due(object.date, transition.after, today) =>
        {
            match (warmth(&object.class), warmth(&transition.class)) {
                (Some(from), Some(to)) if from >= to => return Decision::NotDue,
                (Some(_), Some(_)) => why_not_transition(object, transition).map_or(Ok(Action::Transition), Err),
                _ => Err(Why::UnknownClass { class: object.class.clone(), target: transition.class.clone() }),
            }
        }
        _ => return Decision::NotDue,
    };
    why.map_or_else(Decision::Left, Decision::Due)
}

/// Whether an age of whole days is reached, counted from `date`; what is over a day counts as the next whole one.
pub fn is_due(date: NaiveDate, after: Duration, today: NaiveDate) -> bool {
    date.checked_add_days(Days::new(days(after))).is_some_and(|due| due <= today)
}

fn days(duration: Duration) -> u64 {
    const DAY: Duration = Duration::from_hours(24);
    u64::try_from(duration.as_nanos().div_ceil(DAY.as_nanos())).unwrap_or(u64::MAX)
}

fn expires(object: &Candidate, policy: &RetentionPolicy, today: NaiveDate) -> bool {
    let since = object.date.max(object.stored_at.date_naive());
    policy.expire.is_some_and(|expire| is_due(since, expire.after, today))
}

/// An index without a bundle stays: its bundle may be on the way.
fn goes_with_its_bundles(index: &Candidate, day: &[&Candidate], policy: &RetentionPolicy, today: NaiveDate) -> bool {
    let Some(stem) = index.key.strip_suffix(".index.json") else { return false };
    let is_its =
        |key: &str| key.strip_prefix(stem).is_some_and(|ending| ["", ".tar", ".tar.gz", ".tar.zst"].contains(&ending));
    let mut bundles = day.iter().filter(|object| object.kind == Kind::Bundle && is_its(&object.key)).peekable();
    bundles.peek().is_some() && bundles.all(|bundle| expires(bundle, policy, today))
}

fn why_not_bundle(object: &Candidate) -> Option<Why> {
    if is_cold(&object.class) {
        return Some(Why::Unreadable { class: object.class.clone() });
    }
    (object.size > LARGEST_MEMBER_BYTES).then_some(Why::TooLarge { most: LARGEST_MEMBER_BYTES })
}

fn why_not_transition(object: &Candidate, transition: &config::TransitionSettings) -> Option<Why> {
    if object.size < transition.min_size {
        return Some(Why::TooSmall { least: transition.min_size });
    }
    if is_cold(&object.class) {
        return Some(Why::Unreadable { class: object.class.clone() });
    }
    (object.size > MOST_COPIED).then_some(Why::TooLarge { most: MOST_COPIED })
}

/// The place of a class in [`COLDER`]; `None` for another store's class.
fn warmth(class: &str) -> Option<usize> {
    COLDER.iter().position(|group| group.contains(&class))
}

fn step(
    action: Action,
    objects: &[&Candidate],
    Candidate { camera, date, .. }: &Candidate,
    class: Option<String>,
    cost: Cost,
    warnings: Vec<Warning>,
) -> RotationStep {
    let mut from: BTreeMap<String, Amount> = BTreeMap::new();
    let mut all = Amount::default();
    for object in objects {
        let amount = Amount { objects: 1, bytes: object.size };
        from.entry(object.class.clone()).or_default().add(amount);
        all.add(amount);
    }
    let keys = objects.iter().map(|object| object.key.clone()).collect();
    RotationStep { action, camera: camera.clone(), date: *date, keys, bytes: all.bytes, from, class, cost, warnings }
}
