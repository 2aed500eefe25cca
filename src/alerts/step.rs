//! When something is told: a pure function of what was told so far, of what is wrong now, and of the time.
//!
//! A condition is told once it has lasted for [`HOLD`], and its end once it has been over for as long. So one that comes and
//! goes is told of once. Messages of one kind are at least [`HOLD`] apart: what falls together, such as twelve cameras
//! behind one switch, is told together. Whatever was told is followed by the message that it is over.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::words::{Message, Phase, Told};
use crate::config::{Config, Quiet};
use crate::retention::prices::{self, RequestKind};
use crate::status::{Condition, ConditionKind, Snapshot, Weight};

/// How long a condition must last before it is told, and be over before that is told.
pub const HOLD: TimeDelta = TimeDelta::minutes(10);

/// When the owner is reminded first, and how often after that.
const FIRST_REMINDER: TimeDelta = TimeDelta::hours(1);
const REMINDERS: TimeDelta = TimeDelta::days(1);

/// What the owner has set.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    host: String,
    quiet: Option<Quiet>,
    digest: Option<NaiveTime>,
    mute: Vec<String>,
    zone: Tz,
    class: String,
}

impl Rules {
    /// Returns the rules of a configuration for a box of this name.
    pub fn of(config: &Config, host: &str) -> Self {
        Self {
            host: host.to_owned(),
            quiet: config.alerts.quiet,
            digest: config.alerts.digest,
            mute: config.alerts.mute.clone(),
            zone: config.timezone,
            class: config.s3.storage_class.clone(),
        }
    }

    /// Returns whether a message of this kind has to wait.
    fn is_quiet(&self, kind: ConditionKind, now: DateTime<Utc>) -> bool {
        let time = now.with_timezone(&self.zone).time();
        kind.weight() != Weight::Grave && self.quiet.is_some_and(|quiet| quiet.holds(time))
    }

    fn mutes(&self, kind: ConditionKind, camera: Option<&str>) -> bool {
        self.mute.iter().any(|word| {
            let is_both =
                word.rsplit_once(':').is_some_and(|(of, name)| Some(of.trim()) == camera && name.trim() == kind.name());
            word == kind.name() || Some(word.as_str()) == camera || is_both
        })
    }
}

/// What was told so far; it outlives the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    known: Vec<Known>,
    /// When something of a kind was told last.
    spoke: BTreeMap<ConditionKind, DateTime<Utc>>,
    digest: Digest,
}

/// A condition that is there, or was a moment ago, or was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    kind: ConditionKind,
    told: Told,
    /// When it was seen first.
    seen_at: DateTime<Utc>,
    /// Since when it is over.
    gone_at: Option<DateTime<Utc>>,
    /// When the owner was told.
    told_at: Option<DateTime<Utc>>,
    /// How many reminders are behind.
    reminders: i32,
}

/// What the next digest counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Digest {
    /// The day of the last one, in the box's zone.
    last: Option<NaiveDate>,
    captures: BTreeMap<String, u64>,
    bytes: u64,
    /// The daemon's own counters, which begin again with it, when they were looked at last.
    started_at: Option<DateTime<Utc>>,
    seen: BTreeMap<String, u64>,
    seen_bytes: u64,
}

/// Takes note of what is wrong now, and returns what is to be told.
pub fn step(mut state: State, facts: &Snapshot, rules: &Rules, now: DateTime<Utc>) -> (State, Vec<Message>) {
    state.come_back_from_the_future(now);
    state.see(&facts.conditions, now);
    let mut messages: Vec<Message> =
        ConditionKind::ALL.iter().filter_map(|kind| state.speak(*kind, rules, now)).collect();
    state.known.retain(|known| known.told_at.is_some() || known.gone_at.is_none_or(|gone| now - gone < HOLD));
    messages.extend(state.sum_up(facts, rules, now));
    (state, messages)
}

impl State {
    /// Makes times that are still to come those of now: the clock was set back.
    fn come_back_from_the_future(&mut self, now: DateTime<Utc>) {
        for known in &mut self.known {
            known.seen_at = known.seen_at.min(now);
            known.gone_at = known.gone_at.map(|at| at.min(now));
            known.told_at = known.told_at.map(|at| at.min(now));
        }
        for at in self.spoke.values_mut() {
            *at = (*at).min(now);
        }
    }

    fn see(&mut self, conditions: &[Condition], now: DateTime<Utc>) {
        for known in &mut self.known {
            let is_there = conditions.iter().any(|there| known.is(there));
            known.gone_at = if is_there { None } else { known.gone_at.or(Some(now)) };
        }
        for there in conditions.iter().filter(|there| is_told(there.kind)) {
            let (sentence, advice) = (there.in_full(), there.advice.clone());
            let told = Told { camera: there.camera.clone(), sentence, advice, since: there.since };
            match self.known.iter_mut().find(|known| known.is(there)) {
                Some(known) => known.told = told,
                None => self.known.push(Known {
                    kind: there.kind,
                    told,
                    seen_at: now,
                    gone_at: None,
                    told_at: None,
                    reminders: 0,
                }),
            }
        }
    }

    /// Returns the message of a kind that is due, if one is.
    fn speak(&mut self, kind: ConditionKind, rules: &Rules, now: DateTime<Utc>) -> Option<Message> {
        if self.spoke.get(&kind).is_some_and(|at| now - *at < HOLD) || rules.is_quiet(kind, now) {
            return None;
        }
        let mut due: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        for (at, known) in self.known.iter().enumerate().filter(|(_, known)| known.kind == kind) {
            if let Some(phase) = known.due(rules, now) {
                due.entry(phase).or_default().push(at);
            }
        }
        let (phase, places) = due.pop_first()?;
        let phase = PHASES[usize::from(phase)];
        let told: Vec<&Told> = places.iter().map(|at| &self.known[*at].told).collect();
        let message = Message::about(&rules.host, kind, phase, &told, now);
        for at in places.into_iter().rev() {
            let known = &mut self.known[at];
            match phase {
                Phase::Left => drop(self.known.remove(at)),
                Phase::Reminder => known.reminders = known.reminders_until(now),
                _ => known.told_at = Some(now),
            }
        }
        self.spoke.insert(kind, now);
        Some(message)
    }

    /// Returns the digest if it is due.
    fn sum_up(&mut self, facts: &Snapshot, rules: &Rules, now: DateTime<Utc>) -> Option<Message> {
        let Some(hour) = rules.digest else {
            self.digest = Digest::default();
            return None;
        };
        let digest = &mut self.digest;
        digest.count(facts);
        let local = now.with_timezone(&rules.zone);
        let today = local.date_naive();
        let is_past = local.time() >= hour;
        let last = *digest.last.get_or_insert(if is_past { today } else { today.pred_opt()? });
        if last > today {
            digest.last = Some(today);
        }
        if last >= today || !is_past {
            return None;
        }
        digest.last = Some(today);
        let lines = digest.lines(&rules.class, self.known.iter().filter(|known| known.gone_at.is_none()));
        let total: u64 = self.digest.captures.values().sum();
        self.digest.captures.values_mut().for_each(|count| *count = 0);
        self.digest.bytes = 0;
        let title = format!("{total} captures stored since the last digest");
        Some(Message::new(&rules.host, Phase::Digest, &title, &lines, now))
    }
}

/// In the order in which they are told.
const PHASES: [Phase; 3] = [Phase::Entered, Phase::Left, Phase::Reminder];

impl Known {
    fn is(&self, condition: &Condition) -> bool {
        (self.kind, self.told.camera.as_deref()) == condition.subject()
    }

    /// Returns the place in [`PHASES`] of what is to be told of it.
    fn due(&self, rules: &Rules, now: DateTime<Utc>) -> Option<u8> {
        let is_muted = rules.mutes(self.kind, self.told.camera.as_deref());
        match (self.told_at, self.gone_at) {
            (None, None) => (now - self.seen_at >= HOLD && !is_muted).then_some(0),
            (None, Some(_)) => None,
            (Some(_), Some(gone)) => (now - gone >= HOLD).then_some(1),
            (Some(_), None) => (self.reminders_until(now) > self.reminders && !is_muted).then_some(2),
        }
    }

    /// Returns how many reminders were due until now.
    fn reminders_until(&self, now: DateTime<Utc>) -> i32 {
        let Some(told_at) = self.told_at.filter(|told_at| now - *told_at >= FIRST_REMINDER) else { return 0 };
        let days = (now - told_at - FIRST_REMINDER).num_seconds() / REMINDERS.num_seconds();
        i32::try_from(days).unwrap_or(i32::MAX - 1) + 1
    }
}

impl Digest {
    /// Adds what was stored since the last look.
    fn count(&mut self, facts: &Snapshot) {
        if self.started_at != Some(facts.started_at) {
            self.started_at = Some(facts.started_at);
            self.seen.clear();
            self.seen_bytes = 0;
        }
        for (name, camera) in &facts.cameras {
            let seen = self.seen.insert(name.clone(), camera.captures).unwrap_or(0);
            *self.captures.entry(name.clone()).or_default() += camera.captures.saturating_sub(seen);
        }
        self.bytes += facts.stored.bytes.saturating_sub(self.seen_bytes);
        self.seen_bytes = facts.stored.bytes;
    }

    fn lines<'a>(&self, class: &str, wrong: impl Iterator<Item = &'a Known>) -> Vec<String> {
        let mut wrong = wrong.map(|known| format!("Wrong now: {}.", known.told.sentence)).peekable();
        let mut lines: Vec<String> = Vec::new();
        if wrong.peek().is_none() {
            lines.push("Nothing is wrong.".to_owned());
        }
        lines.extend(wrong);
        let captures: u64 = self.captures.values().sum();
        #[expect(clippy::cast_precision_loss, reason = "nobody pays for so many")]
        let requests = captures as f64 * prices::request(RequestKind::Put, class);
        let month = prices::storage_month(class, self.bytes);
        lines.push(format!("They cost ${requests:.4} to store, and ${month:.4} a month to keep."));
        lines.extend(self.captures.iter().map(|(camera, count)| format!("{camera}: {count}")));
        lines
    }
}

/// Returns whether alerts tell of it. That alerts fail is told by everything else; that nothing was tried yet is nothing.
fn is_told(kind: ConditionKind) -> bool {
    !matches!(kind, ConditionKind::AlertsFail | ConditionKind::BucketUntried)
}
