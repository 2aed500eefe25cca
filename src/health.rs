//! Whether all is well: one pure function from all facts to what is wrong, and from that to the state of the daemon.
//!
//! [`judge`] is the only place that decides it. Status, systemd's line, `/healthz`, metrics and alerts read its result, so
//! that none of them says `ok` while another one knows better.
//!
//! A part of the daemon that has noticed something, and can say it best, raises a condition: the loop in its snapshots,
//! any other part on the [`Board`]. What follows from figures (a job that failed, a capture that has waited for too long,
//! a camera that is silent) is worked out here.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

use crate::bucket::{Refusal, Verdict};
use crate::config::{CameraSettings, Config};
use crate::key;
use crate::status::{Condition, ConditionKind, DaemonState, Snapshot, Trouble, Weight};

pub mod rhythm;

pub use rhythm::Rhythms;

/// How far the clock of this box may be off; S3 refuses requests at 15 minutes (S3 API Reference, "Error responses",
/// `RequestTimeTooSkewed`).
const BOX_CLOCK: Duration = Duration::from_mins(5);

/// A scheduled job that has not begun this long after its time is overdue.
const OVERDUE: Duration = Duration::from_hours(6);

/// How long it is told that the daemon was started again after it had crashed.
const RESTARTED: Duration = Duration::from_hours(1);

/// The state folder is short of room below this many free bytes: room for the ledger of some days.
const STATE_SHORT_BYTES: u64 = 16 << 20;

/// The figures that decide when something is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// How long a capture may be only on this box.
    pub exposure: Duration,
    /// How long each camera may send nothing; a camera that is not here may be silent.
    pub silent_after: BTreeMap<String, Duration>,
    /// When each camera sent something last, as far as that is known from before the start.
    pub last_seen: BTreeMap<String, DateTime<Utc>>,
}

impl Limits {
    /// Returns the limits that the configuration sets.
    pub fn of(config: &Config) -> Self {
        let set = |camera: &CameraSettings| Some((key::camera_segment(camera.name.as_bytes()), camera.silent_after?));
        let silent_after = config.cameras.iter().filter_map(set).collect();
        Self { exposure: config.alerts.exposure, silent_after, last_seen: BTreeMap::new() }
    }

    /// Returns these limits with what was learnt of the cameras; what is set counts for more.
    #[must_use]
    pub fn learning(mut self, rhythms: &Rhythms) -> Self {
        for (name, limit) in rhythms.limits() {
            self.silent_after.entry(name.clone()).or_insert(limit);
        }
        self.last_seen = rhythms.last().map(|(name, last)| (name.clone(), last)).collect();
        self
    }
}

/// Conditions that parts of the daemon other than the loop have raised.
#[derive(Debug, Clone, Default)]
pub struct Board(watch::Sender<BTreeMap<(ConditionKind, Option<String>), Condition>>);

impl Board {
    /// Raises a condition, or renews the words of one that is there; that keeps the time at which it began.
    pub fn raise(&self, mut condition: Condition) {
        self.0.send_if_modified(|raised| {
            let subject = (condition.kind, condition.camera.clone());
            let before = raised.get(&subject);
            condition.since = before.map_or(condition.since, |before| before.since);
            if before == Some(&condition) {
                return false;
            }
            raised.insert(subject, condition);
            true
        });
    }

    /// Says that a condition has ended; returns whether there was one.
    pub fn clear(&self, kind: ConditionKind, camera: Option<&str>) -> bool {
        self.0.send_if_modified(|raised| raised.remove(&(kind, camera.map(str::to_owned))).is_some())
    }

    /// Returns the conditions that are raised now.
    pub fn raised(&self) -> Vec<Condition> {
        self.0.borrow().values().cloned().collect()
    }

    /// Returns a receiver that is told of each change.
    pub fn changes(&self) -> watch::Receiver<BTreeMap<(ConditionKind, Option<String>), Condition>> {
        self.0.subscribe()
    }
}

/// Fills in what the facts of a snapshot mean: its conditions, its state, and its trouble.
///
/// `before` are the conditions of the snapshot before: one that goes on keeps the time at which it began.
pub fn judge(snapshot: &mut Snapshot, before: &[Condition], limits: &Limits) {
    snapshot.conditions = conditions(snapshot, before, limits);
    snapshot.state = state(snapshot);
    snapshot.trouble = trouble(&snapshot.conditions);
}

/// Returns what is wrong, the worst first.
pub fn conditions(facts: &Snapshot, before: &[Condition], limits: &Limits) -> Vec<Condition> {
    let mut found: Vec<Condition> = Vec::new();
    for condition in facts.raised.iter().cloned().chain(derived(facts, limits)) {
        // Whoever raised it first has the better words.
        match found.iter_mut().find(|known| known.subject() == condition.subject()) {
            Some(known) => known.since = known.since.min(condition.since),
            None => found.push(condition),
        }
    }
    if facts.stored.captures > 0 {
        found.retain(|condition| condition.kind != ConditionKind::BucketUntried);
    }
    for condition in &mut found {
        if let Some(known) = before.iter().find(|known| known.subject() == condition.subject()) {
            condition.since = condition.since.min(known.since);
        }
    }
    found.sort_by(|one, other| {
        let order = |condition: &Condition| (condition.kind, condition.since);
        order(one).cmp(&order(other)).then_with(|| one.camera.cmp(&other.camera))
    });
    found
}

/// Returns the state that follows from the conditions of a snapshot.
fn state(snapshot: &Snapshot) -> DaemonState {
    let conditions = &snapshot.conditions;
    if snapshot.stopping {
        DaemonState::Stopping
    } else if !snapshot.scanned {
        DaemonState::Starting
    } else if conditions.iter().any(|condition| condition.kind.weight() > Weight::Notice) {
        DaemonState::Degraded
    } else if conditions.iter().any(|condition| condition.kind == ConditionKind::BucketUntried) {
        DaemonState::Starting
    } else {
        DaemonState::Ok
    }
}

/// Returns one trouble that tells of all conditions, since the earliest of them; `None` if all is well.
fn trouble(conditions: &[Condition]) -> Option<Trouble> {
    let told = || conditions.iter().filter(|condition| condition.kind.weight() > Weight::Notice);
    let since = told().map(|condition| condition.since).min()?;
    let join = |texts: Vec<String>| texts.join("; ");
    let advice = told().filter(|condition| !condition.advice.is_empty()).map(|condition| condition.advice.clone());
    Some(Trouble { since, reason: join(told().map(Condition::in_full).collect()), advice: join(advice.collect()) })
}

/// Returns what follows from the figures of a snapshot.
fn derived(facts: &Snapshot, limits: &Limits) -> Vec<Condition> {
    let mut found = Vec::new();
    found.extend(exposure(facts, limits));
    found.extend(files(facts));
    found.extend(disks(facts));
    found.extend(jobs(facts));
    found.extend(clocks(facts));
    found.extend(silence(facts, limits));
    found.extend(restarted(facts));
    found
}

fn exposure(facts: &Snapshot, limits: &Limits) -> Option<Condition> {
    let oldest = facts.oldest_only_here.as_ref()?;
    let since = oldest.since.checked_add_signed(delta(limits.exposure))?;
    (since <= facts.at).then(|| {
        let sentence =
            format!("a picture has been only on this box for {}: {}", in_words(facts.at - oldest.since), oldest.path);
        let advice = "hk-aws status says why it waits";
        Condition::new(ConditionKind::Exposure, since, sentence, advice)
    })
}

fn files(facts: &Snapshot) -> Vec<Condition> {
    let mut found = Vec::new();
    let waiting = &facts.waiting;
    if waiting.unreadable > 0 {
        let sentence = format!(
            "{} in the drop folder cannot be read",
            count(waiting.unreadable, "file or folder", "files or folders")
        );
        let advice = "let the user of the service read them: hk-aws status names them";
        found.push(Condition::new(ConditionKind::Unreadable, facts.at, sentence, advice));
    }
    if waiting.set_aside > 0 {
        let sentence = format!(
            "{} could not be stored and {} moved away",
            count(waiting.set_aside, "file", "files"),
            if waiting.set_aside == 1 { "was" } else { "were" }
        );
        let advice = "hk-aws status says why; send them with `hk-aws upload --set-aside`, or delete them from the folder set-aside";
        found.push(Condition::new(ConditionKind::SetAside, facts.at, sentence, advice));
    }
    found
}

fn disks(facts: &Snapshot) -> Option<Condition> {
    let free = facts.state_free_bytes.filter(|free| *free < STATE_SHORT_BYTES)?;
    let sentence = format!("the disk of the state folder is nearly full: {} MiB are free", free >> 20);
    let advice = "make room on it: hk-aws cannot remember what it has stored, and files stay in the drop folder";
    Some(Condition::new(ConditionKind::StateShort, facts.at, sentence, advice))
}

fn jobs(facts: &Snapshot) -> Vec<Condition> {
    let mut found = Vec::new();
    for (name, job) in &facts.jobs {
        if job.failed {
            let since = job.last_ended_at.or(job.last_begun_at).unwrap_or(facts.at);
            let condition = Condition::new(
                ConditionKind::RotationFailed,
                since,
                format!("the last run of the job {name} failed"),
                "hk-aws status says how; `hk-aws rotate` runs it now",
            );
            found.push(match &job.outcome {
                Some(outcome) => condition.with_detail(outcome.clone()),
                None => condition,
            });
        }
        let due = job.next_at.filter(|_| job.running_since.is_none());
        if let Some(since) =
            due.and_then(|due| due.checked_add_signed(delta(OVERDUE))).filter(|since| *since <= facts.at)
        {
            let sentence = format!("the job {name} is overdue");
            let advice = "it waits until the bucket can be reached";
            found.push(Condition::new(ConditionKind::RotationOverdue, since, sentence, advice));
        }
    }
    found
}

fn clocks(facts: &Snapshot) -> Vec<Condition> {
    let mut found = Vec::new();
    let off = facts.clock_behind_seconds.filter(|behind| behind.unsigned_abs() > BOX_CLOCK.as_secs());
    if let Some(behind) = off {
        let by = in_words(TimeDelta::seconds(behind.saturating_abs()));
        let way = if behind > 0 { "behind" } else { "ahead" };
        let sentence = format!("the clock of this box is {by} {way}");
        found.push(Condition::new(ConditionKind::BoxClock, facts.at, sentence, "set it, and keep it right with NTP"));
    }
    for (name, camera) in &facts.cameras {
        let wrong = camera.wrong_clock.as_ref().filter(|wrong| wrong.is_now);
        let condition = if let Some(wrong) = wrong {
            let said = wrong.last_said.format("%F %T");
            let sentence = format!("the clock of camera {name} is wrong: it said {said}");
            Condition::new(
                ConditionKind::CameraClock,
                facts.at,
                sentence,
                "set the camera's clock, and keep it right with NTP",
            )
        } else if let Some(offset) = &camera.clock_offset {
            let sentence = format!("the clock of camera {name} is {offset}");
            Condition::new(ConditionKind::CameraClock, facts.at, sentence, offset.mend())
        } else {
            continue;
        };
        found.push(condition.of_camera(name));
    }
    found
}

fn silence(facts: &Snapshot, limits: &Limits) -> Vec<Condition> {
    let silent = limits.silent_after.iter().filter_map(|(name, limit)| {
        // A camera that has not sent anything yet is counted from the start.
        let before = limits.last_seen.get(name).copied();
        let last = facts.cameras.get(name).map(|camera| camera.last_stored_at).max(before);
        let since = last.unwrap_or(facts.started_at).checked_add_signed(delta(*limit))?;
        // While the bucket stores nothing, nothing is known of the cameras.
        let is_silent = since <= facts.at && !facts.link_down && facts.scanned;
        is_silent.then(|| {
            let quiet = in_words(facts.at - last.unwrap_or(facts.started_at));
            let sentence = format!("camera {name} has sent nothing for {quiet}");
            let advice =
                "check its power, its network, and its FTP settings; if it is gone for good, name it in alerts.mute";
            Condition::new(ConditionKind::CameraSilent, since, sentence, advice).of_camera(name)
        })
    });
    silent.collect()
}

fn restarted(facts: &Snapshot) -> Option<Condition> {
    let last = facts.crashed_after?;
    let is_recent = facts.at - facts.started_at < delta(RESTARTED);
    is_recent.then(|| {
        let sentence =
            format!("hk-aws ended without being told to, after {}, and has begun again", last.format("%F %T UTC"));
        Condition::new(ConditionKind::Restarted, facts.started_at, sentence, "see why: journalctl -u hk-aws")
    })
}

/// Returns what a refusal means for the box, since this time.
pub fn of_refusal(refusal: &Refusal, since: DateTime<Utc>) -> Condition {
    let kind = match refusal.verdict {
        Verdict::NeedsOperator => ConditionKind::BucketRefuses,
        Verdict::TryLater | Verdict::GiveUpOnThisFile => ConditionKind::BucketUnreachable,
    };
    let advice = match refusal.code {
        None if refusal.advice.is_empty() => "check the internet line",
        _ => &refusal.advice,
    };
    Condition::new(kind, since, refusal.sentence(), advice).with_detail(refusal.reason.clone())
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

fn count(number: u64, one: &str, more: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {more}") }
}

/// Returns a time span as people say it: its largest unit, and minutes beside hours.
pub fn in_words(span: TimeDelta) -> String {
    let minutes = span.num_minutes().max(0);
    match (minutes / (24 * 60), minutes / 60, minutes % 60) {
        (0, 0, 0) => format!("{} s", span.num_seconds().max(0)),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (1, ..) => "1 day".to_owned(),
        (days, ..) => format!("{days} days"),
    }
}

#[cfg(test)]
pub(crate) mod tests;
