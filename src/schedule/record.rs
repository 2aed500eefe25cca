//! What is known of the runs of a job, when the next one is due, and the file that holds it.

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

/// The name of the file in the state folder.
pub const FILE: &str = "schedule.json";

/// The longest file that is read; a job takes a few hundred bytes.
const LONGEST_FILE_BYTES: u64 = 64 * 1024;

/// A run that seems to have begun up to this far in the future counts all the same: a clock that is set back a little must
/// not repeat it.
const AHEAD: TimeDelta = TimeDelta::hours(1);

/// The first and the longest wait after a run that failed for a reason that passes.
const FIRST_WAIT: Duration = Duration::from_mins(5);
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunEnd {
    /// All was done.
    Done,
    /// Some of it failed; the next scheduled run tries that again.
    Partly,
    /// It failed for a reason that passes, and is tried again soon.
    TryLater,
    /// It failed, and a human must act. It is tried again at the next scheduled time, or when the daemon is told to.
    NeedsOperator,
    /// The daemon stopped while it was running.
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
    /// The cron expression that was followed last; empty while the job is off.
    pub schedule: Option<String>,
    /// Scheduled times count from here on: when the last run began, or when the schedule changed or the clock was set back
    /// after that.
    pub since: Option<DateTime<Utc>>,
    /// When the last run began; it made up for everything that was scheduled until then.
    pub last_begun_at: Option<DateTime<Utc>>,
    /// When a run last ended.
    pub last_ended_at: Option<DateTime<Utc>>,
    /// When the last run in which nothing failed ended.
    pub last_success_at: Option<DateTime<Utc>>,
    /// How the last run that ended did so, for people.
    pub outcome: Option<String>,
    /// How the last run ended; `None` while it runs, and after the daemon was killed during it.
    pub end: Option<RunEnd>,
    /// How many runs have begun since the last one that need not be tried again.
    pub tries: u32,
}

impl JobRecord {
    /// Adopts a schedule. Scheduled times count from `now` on if it is another one, or if every known time lies in the
    /// future.
    pub fn settle(&mut self, schedule: &str, now: DateTime<Utc>) {
        let is_new = self.schedule.as_deref().is_some_and(|known| known != schedule);
        if is_new || self.made_until(now).is_none() {
            self.since = Some(now);
        }
        if self.schedule.as_deref() != Some(schedule) {
            self.schedule = Some(schedule.to_owned());
        }
    }

    /// Forgets the schedule, so that no run is missed while the job is off.
    pub fn turn_off(&mut self) {
        if self.schedule.is_some() {
            self.schedule = Some(String::new());
        }
    }

    /// Returns the time until which no run is missing.
    ///
    /// A time in the future is not believed, but not forgotten either: the clock of a box that has just booted may be
    /// wrong.
    fn made_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        [self.since, self.last_begun_at].into_iter().flatten().filter(|time| *time <= now + AHEAD).max()
    }

    /// Returns the first scheduled time without a run, which is due if it is not after `now`; `None` if there never is one.
    ///
    /// One run makes up for all times that were missed.
    pub fn next<Z: TimeZone>(&self, cron: &Cron, zone: &Z, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let from = self.made_until(now).unwrap_or(now).with_timezone(zone);
        cron.find_next_occurrence(&from, false).ok().map(|next| next.to_utc())
    }

    /// Returns how long to wait before the last run is tried again, whatever is scheduled; `None` if it is not.
    pub fn retry_in(&self, now: DateTime<Utc>) -> Option<Duration> {
        let (wait, from) = match self.end {
            Some(RunEnd::Interrupted) => (Duration::ZERO, self.last_ended_at?),
            Some(RunEnd::TryLater) => (self.wait(), self.last_ended_at?),
            // The daemon was killed during the run, perhaps by the job itself: without a wait, it would be killed at every
            // restart.
            None => (self.wait(), self.last_begun_at?),
            Some(RunEnd::Done | RunEnd::Partly | RunEnd::NeedsOperator) => return None,
        };
        Some(wait.saturating_sub((now - from).to_std().unwrap_or_default()))
    }

    /// Returns the wait after the runs that have failed so far.
    fn wait(&self) -> Duration {
        backoff(self.tries, FIRST_WAIT, LONGEST_WAIT, 0.0)
    }

    /// Records that a run begins.
    pub fn begin(&mut self, now: DateTime<Utc>) {
        // Both, so that no older time counts in its place if `now` turns out to lie in the future.
        (self.since, self.last_begun_at) = (Some(now), Some(now));
        self.end = None;
        self.tries = self.tries.saturating_add(1);
    }

    /// Records how a run ended.
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
            // A stop of the daemon is no failure of the job.
            RunEnd::Interrupted => self.tries = self.tries.saturating_sub(1),
        }
    }

    /// Returns whether the last run failed as a whole or in part.
    pub fn failed(&self) -> bool {
        match self.end {
            Some(RunEnd::Done | RunEnd::Interrupted) => false,
            Some(RunEnd::Partly | RunEnd::TryLater | RunEnd::NeedsOperator) => true,
            None => self.last_begun_at.is_some(),
        }
    }

    /// Returns the job for the status, while no run is under way.
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

    /// Returns whether a clock can have shown all the times.
    fn is_plausible(&self) -> bool {
        let times = [self.since, self.last_begun_at, self.last_ended_at, self.last_success_at];
        times.into_iter().flatten().all(|time| (1970..=9999).contains(&time.year()))
    }
}

/// The records of all jobs by name.
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
