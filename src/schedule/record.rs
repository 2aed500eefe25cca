//! What is known of a job's runs, when the next is due, and the file that remembers it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Datelike, TimeDelta, TimeZone, Utc};
use croner::Cron;
use serde::{Deserialize, Serialize};

use super::Ended;
use crate::clock::backoff;
use crate::persist::{self, Purpose};
use crate::status;

/// The file's name below the folder of state.
pub const FILE: &str = "schedule.json";

/// A file longer than this is none of ours: a job has a few hundred bytes.
const LONGEST_FILE_BYTES: u64 = 64 * 1024;

/// A run that lies no further in the future than this has been: a clock that is set back a little must not repeat it.
const AHEAD: TimeDelta = TimeDelta::hours(1);

/// First and longest wait after a run that failed for a reason that passes.
const FIRST_WAIT: Duration = Duration::from_mins(5);
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunEnd {
    /// All was done.
    Done,
    /// Some failed: the next scheduled run tries it again.
    Partly,
    /// It failed for a reason that passes.
    TryLater,
    /// It failed until a human acts.
    NeedsOperator,
    /// The daemon stopped in the midst of it.
    Interrupted,
}

impl RunEnd {
    /// Returns this end with one line for people: what was done, or why it was not.
    pub fn saying(self, outcome: impl Into<String>) -> Ended {
        Ended { end: self, outcome: outcome.into() }
    }
}

/// What is known of the runs of one job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobRecord {
    /// The expression that was followed last; empty while the job was off.
    pub schedule: Option<String>,
    /// From when on scheduled times count: the last run, or since then a new schedule or a clock that went back.
    pub since: Option<DateTime<Utc>>,
    /// When the last run began: what was scheduled until then has been made.
    pub last_begun_at: Option<DateTime<Utc>>,
    /// When the last run that ended did so.
    pub last_ended_at: Option<DateTime<Utc>>,
    /// When the last run in which nothing failed ended.
    pub last_success_at: Option<DateTime<Utc>>,
    /// What became of the last run that ended.
    pub outcome: Option<String>,
    /// How the last run ended; `None` while it runs, and where the daemon was killed in it.
    pub end: Option<RunEnd>,
    /// Runs begun since the last one that need not be tried again.
    pub tries: u32,
}

impl JobRecord {
    /// Counts from `now` where the schedule is another one, or every time that is known lies in the future.
    pub fn settle(&mut self, schedule: &str, now: DateTime<Utc>) {
        let is_new = self.schedule.as_deref().is_some_and(|known| known != schedule);
        if is_new || self.made_until(now).is_none() {
            self.since = Some(now);
        }
        if self.schedule.as_deref() != Some(schedule) {
            self.schedule = Some(schedule.to_owned());
        }
    }

    /// Forgets the schedule: what is not asked for is not missed.
    pub fn turn_off(&mut self) {
        if self.schedule.is_some() {
            self.schedule = Some(String::new());
        }
    }

    /// Until when nothing is missing. A time in the future is not believed, and not forgotten either: the clock may be
    /// wrong for as long as the box has just booted.
    fn made_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        [self.since, self.last_begun_at].into_iter().flatten().filter(|time| *time <= now + AHEAD).max()
    }

    /// The first scheduled time that was not made, which is due if it is not after `now`; `None` where none ever comes.
    ///
    /// However many were missed, the run at the first of them makes them all.
    pub fn next<Z: TimeZone>(&self, cron: &Cron, zone: &Z, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let from = self.made_until(now).unwrap_or(now).with_timezone(zone);
        cron.find_next_occurrence(&from, false).ok().map(|next| next.to_utc())
    }

    /// How long until the last run is tried again, whatever is scheduled; `None` where it need not be.
    pub fn retry_in(&self, now: DateTime<Utc>) -> Option<Duration> {
        let (wait, from) = match self.end {
            Some(RunEnd::Interrupted) => (Duration::ZERO, self.last_ended_at?),
            Some(RunEnd::TryLater) => (self.wait(), self.last_ended_at?),
            // Killed in it. It may have been the job's own doing: no storm of restarts.
            None => (self.wait(), self.last_begun_at?),
            Some(RunEnd::Done | RunEnd::Partly | RunEnd::NeedsOperator) => return None,
        };
        Some(wait.saturating_sub((now - from).to_std().unwrap_or_default()))
    }

    fn wait(&self) -> Duration {
        backoff(self.tries, FIRST_WAIT, LONGEST_WAIT, 0.0)
    }

    /// A run begins.
    pub fn begin(&mut self, now: DateTime<Utc>) {
        // Both: if it turns out to lie in the future, nothing older may count in its place.
        (self.since, self.last_begun_at) = (Some(now), Some(now));
        self.end = None;
        self.tries = self.tries.saturating_add(1);
    }

    /// A run ended.
    pub fn end(&mut self, end: RunEnd, outcome: String, now: DateTime<Utc>) {
        self.last_ended_at = Some(now);
        self.end = Some(end);
        self.outcome = Some(outcome);
        match end {
            RunEnd::Done => {
                self.last_success_at = Some(now);
                self.tries = 0;
            }
            RunEnd::Partly | RunEnd::NeedsOperator => self.tries = 0,
            RunEnd::TryLater => {}
            // That the daemon stops is no failure.
            RunEnd::Interrupted => self.tries = self.tries.saturating_sub(1),
        }
    }

    /// Whether the last run failed, or a part of it.
    pub fn failed(&self) -> bool {
        match self.end {
            Some(RunEnd::Done | RunEnd::Interrupted) => false,
            Some(RunEnd::Partly | RunEnd::TryLater | RunEnd::NeedsOperator) => true,
            None => self.last_begun_at.is_some(),
        }
    }

    /// The job for the status, while no run is under way.
    pub fn job(&self, next_at: Option<DateTime<Utc>>) -> status::Job {
        let was_killed = self.end.is_none() && self.last_begun_at.is_some();
        status::Job {
            next_at,
            running_since: None,
            last_begun_at: self.last_begun_at,
            last_ended_at: self.last_ended_at,
            last_success_at: self.last_success_at,
            outcome: if was_killed {
                Some("failed: the daemon was killed in it".to_owned())
            } else {
                self.outcome.clone()
            },
            failed: self.failed(),
        }
    }

    /// Whether times are such as a clock can have said.
    fn is_plausible(&self) -> bool {
        let times = [self.since, self.last_begun_at, self.last_ended_at, self.last_success_at];
        times.into_iter().flatten().all(|time| (1970..=9999).contains(&time.year()))
    }
}

/// What is known of each job.
pub type JobRecords = BTreeMap<String, JobRecord>;

/// Returns the records in the file at `path`.
///
/// # Errors
/// `NotFound` if the file is missing; `InvalidData` if it is not a schedule.
pub fn read(path: &Path) -> io::Result<JobRecords> {
    let records: JobRecords = persist::read(path, LONGEST_FILE_BYTES)?;
    if records.values().all(JobRecord::is_plausible) {
        Ok(records)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "it holds a time that cannot be"))
    }
}

/// Writes the records to the file at `path`, which then survives a power cut.
///
/// # Errors
/// The error of the file system if the folder cannot be written; the file then has its old content.
pub fn write(path: &Path, records: &JobRecords) -> io::Result<()> {
    persist::write(path, records, Purpose::NextStart)
}
