//! Decides which objects of the bucket are due to be bundled, moved to a colder class or deleted, and what that costs.
//!
//! Everything here is pure: [`plan_day`] takes the objects of one camera-day, a [`RetentionPolicy`] and a date, and returns
//! [`RotationStep`]s for a person to read or for the rotation to carry out. One camera-day is enough, because a bundle
//! holds one, so a bucket of any size is planned with the memory of one day; [`Summary`] and [`Urgent`] add the days up.
//!
//! * Nothing is touched before it has the configured age in whole days, and no object is in two steps.
//! * An object that is due stays due as time passes. A due bundle or transition can only turn into an expiry.
//! * Expiry counts from the later of two dates: when the capture was taken and when it was stored. Neither a camera's
//!   wrong clock nor a late import deletes anything early.
//! * A clock that is far off plans nothing, see [`believed`].
//! * Prices are shown and decide nothing.
//!
//! S3's own lifecycle rules were rejected: they cannot bundle, they count from the upload alone, and they charge for each
//! picture what a bundle is charged for a whole day.

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

pub use cost::{BundleClass, Cost, Requests, bundle_classes};
pub use summary::{Copies, Later, Row, Summary, Urgent};
pub use warning::{Warning, Why};

/// The largest object that is bundled: the most that one PUT takes (S3 User Guide, "Uploading objects"), less room for the
/// headers of the tar.
pub const LARGEST_MEMBER_BYTES: u64 = (5 << 30) - (1 << 20);

/// The most captures in one bundle: what is known of each of them is in memory while it is made.
pub const MOST_MEMBERS: usize = 10_000;

/// A clock this long after the newest capture is not believed: nobody watches a camera that is silent for two years.
const SILENCE_DAYS: u64 = 730;

/// Two time zones are at most a day apart.
const ZONES: Days = Days::new(1);

/// An object of the bucket, as a listing describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its key.
    pub key: String,
    /// The camera's segment of the key.
    pub camera: String,
    /// The date of the captures, at the camera.
    pub date: NaiveDate,
    /// Its size in bytes.
    pub size: u64,
    /// Its storage class, as the store spells it.
    pub class: String,
    /// When the capture was stored; for a bundle, when its newest member was stored, which is before the bundle was made.
    pub stored_at: DateTime<Utc>,
    /// When the object itself was written. The minimum storage duration of its class counts from then. For a capture this
    /// is `stored_at`, unless the object was copied since.
    pub written_at: DateTime<Utc>,
    /// Whether it is a capture, a bundle or an index.
    pub kind: Kind,
}

/// The kinds of objects that a plan tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One file of a camera.
    Capture,
    /// The captures of a camera-day, or a part of them: `CAMERA/archive/DATE[.partN].tar[.gz|.zst]`.
    Bundle,
    /// The list of a bundle's members: the bundle's key, with or without `.tar[.gz|.zst]`, and `.index.json`.
    Index,
}

/// The settings that decide what happens to old captures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Bundles of camera-days; `None`: no bundles.
    pub archive: Option<config::ArchiveSettings>,
    /// Each object on its own into a colder class; `None`: no transitions. Ignored if `archive` is set.
    pub transition: Option<config::TransitionSettings>,
    /// Deletion; `None`: nothing is deleted.
    pub expire: Option<config::ExpireSettings>,
    /// How long the bucket keeps what is deleted, if it keeps versions; `None`: it keeps none. Only [`Cost::undo`] and a
    /// warning depend on it.
    pub undo: Option<Duration>,
}

impl RetentionPolicy {
    /// Returns the policy of a configuration, for a bucket without versions.
    pub fn of(config: &Config) -> Self {
        let config::RotateSettings { archive, transition, expire, .. } = config.rotate.clone();
        Self { archive, transition, expire, undo: None }
    }

    /// Returns the warnings about the policy itself, whatever the bucket holds.
    pub fn warnings(&self) -> Vec<Warning> {
        let moves = match (&self.archive, &self.transition) {
            (Some(archive), _) => Some(("rotate.archive", &archive.class, archive.after)),
            (None, Some(transition)) => Some(("rotate.transition", &transition.class, transition.after)),
            (None, None) => None,
        };
        let mut warnings = Vec::new();
        if let (Some((setting, class, after)), Some(expire)) = (moves, &self.expire) {
            let (days, minimum_days) = (days(expire.after).saturating_sub(days(after)), prices::minimum_days(class));
            if days < minimum_days.into() {
                warnings.push(Warning::new(Why::ShortLived { setting, class: class.clone(), days, minimum_days }));
            }
        }
        let archive = self.archive.as_ref().map(|archive| ("rotate.archive.after", days(archive.after)));
        let expire = self.expire.map(|expire| ("rotate.expire.after", days(expire.after)));
        let first = archive.into_iter().chain(expire).min_by_key(|(_, days)| *days);
        if let (Some((setting, days)), Some(undo)) = (first, self.undo)
            && self::days(undo) > days
        {
            warnings.push(Warning::new(Why::LongUndo { setting, days, undo_days: self::days(undo) }));
        }
        warnings
    }

    /// Returns the warning about captures that leave the class `stored` before its minimum storage duration is over, if
    /// the policy makes them.
    fn leaves_early(&self, stored: &str) -> Option<Warning> {
        let archive = self.archive.as_ref().map(|archive| ("rotate.archive.after", archive.after));
        let transition = self.transition.as_ref().map(|transition| ("rotate.transition.after", transition.after));
        let expire = self.expire.map(|expire| ("rotate.expire.after", expire.after));
        let (setting, after) = archive.or(transition).into_iter().chain(expire).min_by_key(|(_, after)| *after)?;
        let (days, minimum_days) = (days(after), prices::minimum_days(stored));
        let why = Why::StoredShortly { setting, class: stored.to_owned(), days, minimum_days };
        (days < minimum_days.into()).then(|| Warning::new(why))
    }

    /// Returns whether captures of a day can be due by `today`.
    pub fn may_act_on(&self, date: NaiveDate, today: NaiveDate) -> bool {
        self.ages().any(|after| is_due(date, after, today))
    }

    /// Returns the day from which captures of a day can be due; `None` if they never can.
    pub fn acts_from(&self, date: NaiveDate) -> Option<NaiveDate> {
        date.checked_add_days(Days::new(self.ages().map(days).min()?))
    }

    /// Returns the ages at which something is done with captures.
    fn ages(&self) -> impl Iterator<Item = Duration> {
        let archive = self.archive.as_ref().map(|archive| archive.after);
        let transition = self.transition.as_ref().map(|transition| transition.after);
        let expire = self.expire.map(|expire| expire.after);
        archive.into_iter().chain(transition).chain(expire)
    }

    /// Returns the days for which the bucket keeps what is deleted.
    fn undo_days(&self) -> u32 {
        self.undo.map_or(0, |undo| u32::try_from(days(undo)).unwrap_or(u32::MAX))
    }
}

/// Returns the warnings about the settings of a configuration, whatever the bucket holds, as if it keeps versions.
pub fn warnings(config: &Config) -> Vec<Warning> {
    let mut policy = RetentionPolicy { undo: Some(config.s3.undo), ..RetentionPolicy::of(config) };
    if config.s3.access == config::Access::WriteOnly {
        // Nothing is bundled.
        policy.archive = None;
    }
    let mut warnings = policy.warnings();
    warnings.extend(policy.leaves_early(&config.s3.storage_class));
    warnings
}

/// What a step does with its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Deletes them for good.
    Expire,
    /// Puts them into a bundle, confirms the bundle and deletes them; people read it as "bundle".
    #[serde(rename = "bundle")]
    Archive,
    /// Copies each onto itself in a colder class.
    Transition,
    /// Leaves them although they are due: they cannot or should not be touched, and the step's warnings say why.
    Leave,
}

/// One action on objects of one camera-day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RotationStep {
    /// The action.
    pub action: Action,
    /// The camera's segment of their keys.
    pub camera: String,
    /// Their date, at the camera.
    pub date: NaiveDate,
    /// Their keys, sorted. A deletion has bundles and their indexes first, so that one request deletes both.
    pub keys: Vec<String>,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Their number and size, by the class they are in.
    pub from: BTreeMap<String, Amount>,
    /// The class they go to; `None`: the action has no target class.
    pub class: Option<String>,
    /// What the step costs and saves.
    pub cost: Cost,
    /// What the operator should know about the step.
    pub warnings: Vec<Warning>,
}

/// A number of objects and their size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// The number of objects.
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

/// Why the box's clock is not believed, with the remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The clock is before the newest capture.
    #[error(
        "by the clock it is {today}, but the newest capture in the bucket is of {newest}, so nothing is rotated: set the clock"
    )]
    Behind {
        /// The date of the clock.
        today: NaiveDate,
        /// The date of the newest capture.
        newest: NaiveDate,
    },
    /// The clock is further after the newest capture than any camera is silent.
    #[error(
        "by the clock it is {today}, but the newest capture in the bucket is of {newest}, so nothing is rotated: set the \
         clock; if it is right and no capture came for two years, the next capture settles it"
    )]
    Ahead {
        /// The date of the clock.
        today: NaiveDate,
        /// The date of the newest capture.
        newest: NaiveDate,
    },
}

/// Returns what is due by `today` among `objects`, which are all objects of one camera-day: at most one step for each
/// action, in the order of [`Action`].
///
/// `today` must have passed [`believed`].
pub fn plan_day(objects: &[Candidate], policy: &RetentionPolicy, today: NaiveDate) -> Vec<RotationStep> {
    let Some(first) = objects.first() else { return Vec::new() };
    debug_assert!(objects.iter().all(|object| (&object.camera, object.date) == (&first.camera, first.date)));
    let mut due: BTreeMap<Action, Vec<&Candidate>> = BTreeMap::new();
    let mut left = Vec::new();
    for object in objects {
        match decide(object, objects, policy, today) {
            Decision::NotDue => {}
            Decision::Due(action) => due.entry(action).or_default().push(object),
            Decision::Left(why) => {
                due.entry(Action::Leave).or_default().push(object);
                left.push(Warning::about(why, object.size));
            }
        }
    }
    let left = warning::merge(left);
    due.into_iter()
        .map(|(action, mut objects)| {
            objects.sort_by_key(|object| (action == Action::Expire && object.kind == Kind::Capture, &object.key));
            let class = policy.target_class(action);
            let (cost, warnings) = match (action, &policy.archive, &class) {
                (Action::Expire, ..) => cost::of_expiry(&objects, today, policy.undo_days()),
                (Action::Archive, Some(archive), _) => {
                    let (cost, mut warnings) = cost::of_bundle(&objects, archive, today, policy.undo_days());
                    warnings.extend(policy.warnings());
                    (cost, warnings)
                }
                (Action::Transition, _, Some(class)) => cost::of_transition(&objects, class, today),
                _ => (Cost::default(), left.clone()),
            };
            let Candidate { camera, date, .. } = first.clone();
            let (from, bytes) = add_up(&objects);
            let keys = objects.iter().map(|object| object.key.clone()).collect();
            RotationStep { action, camera, date, keys, bytes, from, class, cost, warnings }
        })
        .collect()
}

impl RetentionPolicy {
    /// Returns the class that an action moves objects to; `None`: it moves them nowhere.
    fn target_class(&self, action: Action) -> Option<String> {
        match action {
            Action::Archive => self.archive.as_ref().map(|archive| archive.class.clone()),
            Action::Transition => self.transition.as_ref().map(|transition| transition.class.clone()),
            Action::Expire | Action::Leave => None,
        }
    }
}

/// Returns the objects' number and size by class, and their size together.
fn add_up(objects: &[&Candidate]) -> (BTreeMap<String, Amount>, u64) {
    let mut by_class: BTreeMap<String, Amount> = BTreeMap::new();
    let mut all = Amount::default();
    for object in objects {
        let amount = Amount { objects: 1, bytes: object.size };
        by_class.entry(object.class.clone()).or_default().add(amount);
        all.add(amount);
    }
    (by_class, all.bytes)
}

/// Checks that `today` is possible, given the date of the newest capture in the bucket (see [`newest`]).
///
/// # Errors
/// [`Doubt`] if the clock is before the newest capture or more than two years after it. Nothing may be planned then: a
/// clock that is years ahead would delete everything.
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

/// Returns the latest date that the captures and bundles prove, by their own dates and by the store's clock; `None`: there
/// are none.
///
/// A capture dated after it was stored has its date from a camera's wrong clock: only the day it was stored counts. An
/// index proves nothing, because it may be written years after the last capture.
pub fn newest(objects: &[Candidate]) -> Option<NaiveDate> {
    let proved = |object: &Candidate| {
        let stored = object.stored_at.date_naive();
        let plausible = stored.checked_add_days(ZONES).is_none_or(|latest| object.date <= latest);
        if plausible { stored.max(object.date) } else { stored }
    };
    objects.iter().filter(|object| object.kind != Kind::Index).map(proved).max()
}

/// What becomes of one object.
enum Decision {
    NotDue,
    Due(Action),
    /// It is due, but is not touched.
    Left(Why),
}

/// Decides about `object`, which is one of the `day`'s.
fn decide(object: &Candidate, day: &[Candidate], policy: &RetentionPolicy, today: NaiveDate) -> Decision {
    if object.kind == Kind::Index {
        let goes = goes_with_its_bundles(object, day, policy, today);
        return if goes { Decision::Due(Action::Expire) } else { Decision::NotDue };
    }
    if expires(object, policy, today) {
        return Decision::Due(Action::Expire);
    }
    match (&policy.archive, &policy.transition) {
        (Some(archive), _) if object.kind == Kind::Capture && is_due(object.date, archive.after, today) => {
            why_not_bundle(object).map_or(Decision::Due(Action::Archive), Decision::Left)
        }
        (None, Some(transition)) if is_due(object.date, transition.after, today) => {
            decide_transition(object, transition)
        }
        _ => Decision::NotDue,
    }
}

/// Decides about an object that is old enough to move.
fn decide_transition(object: &Candidate, transition: &config::TransitionSettings) -> Decision {
    if object.class == transition.class {
        return Decision::NotDue;
    }
    match (prices::coldness(&object.class), prices::coldness(&transition.class)) {
        (Some(from), Some(to)) if from >= to => Decision::NotDue,
        (Some(_), Some(_)) => {
            why_not_transition(object, transition).map_or(Decision::Due(Action::Transition), Decision::Left)
        }
        _ => Decision::Left(Why::UnknownClass { class: object.class.clone(), target: transition.class.clone() }),
    }
}

/// Returns whether `after` has passed since `date`; a part of a day counts as a whole one.
pub fn is_due(date: NaiveDate, after: Duration, today: NaiveDate) -> bool {
    date.checked_add_days(Days::new(days(after))).is_some_and(|due| due <= today)
}

/// Returns the days of a duration, rounded up.
pub fn days(duration: Duration) -> u64 {
    const DAY: Duration = Duration::from_hours(24);
    u64::try_from(duration.as_nanos().div_ceil(DAY.as_nanos())).unwrap_or(u64::MAX)
}

fn expires(object: &Candidate, policy: &RetentionPolicy, today: NaiveDate) -> bool {
    let since = object.date.max(object.stored_at.date_naive());
    policy.expire.is_some_and(|expire| is_due(since, expire.after, today))
}

/// Returns whether all bundles that an index describes expire. An index without a bundle stays: its bundle may be on the
/// way.
fn goes_with_its_bundles(index: &Candidate, day: &[Candidate], policy: &RetentionPolicy, today: NaiveDate) -> bool {
    let Some(stem) = index.key.strip_suffix(".index.json") else { return false };
    let is_its =
        |key: &str| key.strip_prefix(stem).is_some_and(|ending| ["", ".tar", ".tar.gz", ".tar.zst"].contains(&ending));
    let mut bundles = day.iter().filter(|object| object.kind == Kind::Bundle && is_its(&object.key)).peekable();
    bundles.peek().is_some() && bundles.all(|bundle| expires(bundle, policy, today))
}

/// Returns what keeps an object out of a bundle.
fn why_not_bundle(object: &Candidate) -> Option<Why> {
    if is_cold(&object.class) {
        return Some(Why::Unreadable { class: object.class.clone() });
    }
    (object.size > LARGEST_MEMBER_BYTES).then_some(Why::TooLarge { most: LARGEST_MEMBER_BYTES })
}

/// Returns what keeps an object in its class.
fn why_not_transition(object: &Candidate, transition: &config::TransitionSettings) -> Option<Why> {
    if object.size < transition.min_size {
        return Some(Why::TooSmall { least: transition.min_size });
    }
    if is_cold(&object.class) {
        return Some(Why::Unreadable { class: object.class.clone() });
    }
    (object.size > MOST_COPIED).then_some(Why::TooLarge { most: MOST_COPIED })
}
