//! When jobs run: by cron in the time zone of the system, one at a time. Missed runs are made up by one run.
//!
//! The beginning of a run is written to [`FILE`] before the run starts. So a restart, however late, sees which runs are
//! missing, and a job that kills the daemon is not started again immediately. [`croner`] decides which times a clock
//! repeats in autumn or leaves out in spring; each scheduled time has at most one run. A time in the file that lies in
//! the future was written by a wrong clock, and does not count for as long as it is in the future.
//!
//! A job runs only after the first scan, and only while the ingest loop can reach the bucket, as far as it knows. If a
//! capture is ready at the start, it is stored first: it shows whether the bucket stores. When the daemon stops, the
//! job is told to stop, and is ended soon after; a job must be safe to end anywhere.
//!
//! Sleeping until the computed time was rejected, because a wall clock can be set and a box can sleep. Instead, what is
//! due is computed again with each snapshot of the loop, once a second.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Local, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Now;
use crate::config::{Access, Config, Schedule};
use crate::message;
use crate::site::{Site, SiteInForce};
use crate::status::{DaemonState, Jobs, Snapshot};

mod record;
#[cfg(test)]
mod tests;

pub use record::{FILE, JobRecord, JobRecords, RunEnd, read, write};

/// The job that rotates.
pub const ROTATE: &str = "rotate";

/// How long a job may take to end after it was told to stop.
const GRACE: Duration = Duration::from_secs(1);

/// How a run ended, with one line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub end: RunEnd,
    /// What was done, or why it was not.
    pub outcome: String,
}

impl Ended {
    /// Returns the end of a run that was told to stop.
    pub fn interrupted() -> Self {
        RunEnd::Interrupted.saying("interrupted by a stop of the daemon; it runs again at the next start")
    }
}

/// Runs the job when it is due.
#[derive(Debug)]
pub struct Runner {
    /// The site in force, and how many times somebody has asked to try again what failed.
    pub sites: watch::Receiver<SiteInForce>,
    /// The snapshots of the ingest loop, which come at least once a second.
    pub snapshots: watch::Receiver<Snapshot>,
    /// Gets the state of the jobs when it changes.
    pub jobs: watch::Sender<Jobs>,
}

impl Runner {
    /// Runs `job` by its schedule until `stop`, or until the loop is gone.
    pub async fn run<F>(mut self, job: impl Fn(Arc<Site>, CancellationToken) -> F + Send, stop: CancellationToken)
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let SiteInForce { mut site, mut retries_asked } = self.sites.borrow_and_update().clone();
        let mut course = Course::load(&site).await;
        loop {
            let current = self.sites.borrow_and_update().clone();
            course.asked |= current.retries_asked != retries_asked;
            (site, retries_asked) = (current.site, current.retries_asked);
            let now = (site.clock)();
            let due = course.follow(&site.config, now).await;
            self.tell(course.jobs());
            if due && may_start(&self.snapshots.borrow()) && !stop.is_cancelled() {
                course.begin(now).await;
                self.tell(course.jobs());
                let run = AbortOnDropHandle::new(tokio::spawn(job(Arc::clone(&site), stop.child_token())));
                let ended = attend(run, &stop).await;
                course.end(ended, (site.clock)()).await;
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                alive = self.snapshots.changed() => if alive.is_err() { break },
                Ok(()) = self.sites.changed() => {}
            }
        }
    }

    fn tell(&self, jobs: Jobs) {
        self.jobs.send_if_modified(|known| {
            let is_new = *known != jobs;
            *known = jobs;
            is_new
        });
    }
}

/// Returns whether a job may start: the first scan is finished, the bucket seems to be in reach, and a capture has been
/// stored if one is ready.
fn may_start(snapshot: &Snapshot) -> bool {
    let Snapshot { waiting, stored, .. } = snapshot;
    let is_untried = stored.captures == 0 && waiting.queued + waiting.uploading > 0;
    matches!(snapshot.state, DaemonState::Ok | DaemonState::Degraded) && !snapshot.link_down && !is_untried
}

/// Waits for the end of a run and returns how it ended; after `stop`, it waits for [`GRACE`] at most.
async fn attend(mut run: AbortOnDropHandle<Ended>, stop: &CancellationToken) -> Ended {
    let ended = tokio::select! {
        ended = &mut run => ended,
        () = stop.cancelled() => match tokio::time::timeout(GRACE, run).await {
            Ok(ended) => ended,
            Err(_) => return Ended::interrupted(),
        },
    };
    match ended {
        Ok(ended) if ended.end == RunEnd::Interrupted && !stop.is_cancelled() => {
            RunEnd::TryLater.saying("it broke off")
        }
        Ok(ended) => ended,
        Err(error) if error.is_panic() => {
            RunEnd::NeedsOperator.saying(format!("it panicked: {error}; please report that"))
        }
        // The runtime ends, and the daemon with it.
        Err(_) => Ended::interrupted(),
    }
}

/// Who rotates the captures in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RotatedBy {
    ThisBox,
    /// The configuration asks for no rotation.
    Nobody,
    /// The lifecycle of the bucket, because this box may neither list nor delete.
    Lifecycle,
}

impl RotatedBy {
    fn of(config: &Config) -> Self {
        let rotate = &config.rotate;
        match (rotate.archive.is_some() || rotate.transition.is_some() || rotate.expire.is_some(), config.s3.access) {
            (false, _) => Self::Nobody,
            (true, Access::ReadWrite) => Self::ThisBox,
            (true, Access::WriteOnly) => Self::Lifecycle,
        }
    }
}

/// The state of the job: what the file has of it, and what only this process knows.
#[derive(Debug)]
struct Course {
    path: std::path::PathBuf,
    records: JobRecords,
    /// The records as they are in the file.
    saved: JobRecords,
    /// Whether the log has told that the file cannot be written.
    complained: bool,
    /// When a rotation without a schedule of its own is due.
    nightly: Schedule,
    /// Who rotated when it was last looked at; `None` before the first look.
    rotated_by: Option<RotatedBy>,
    /// When the last run is tried again, if it is.
    retry: Option<Retry>,
    next_at: Option<DateTime<Utc>>,
    running: bool,
    /// Whether somebody says that something is mended.
    asked: bool,
    /// The last failure that needs the owner, as the log told it.
    last_failure: Option<String>,
}

/// When a run is tried again.
#[derive(Debug, Clone, Copy)]
struct Retry {
    /// By the steady clock, which decides: a step of the wall clock is no reason to try.
    due: Instant,
    /// By the wall clock, for people.
    at: DateTime<Utc>,
}

impl Course {
    /// Reads the file; if that is damaged, the runs are counted from now on.
    async fn load(site: &Site) -> Self {
        let (path, now) = (site.config.state_dir.join(FILE), (site.clock)());
        let file = path.clone();
        let read = tokio::task::spawn_blocking(move || read(&file)).await.unwrap_or_else(|error| Err(error.into()));
        let records = read.unwrap_or_else(|error| {
            // A new box has no file.
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(
                    message_id = message::SCHEDULE,
                    "{} is damaged: {error}; jobs are counted from now on",
                    path.display()
                );
            }
            JobRecords::new()
        });
        let mut course = Self {
            path,
            saved: records.clone(),
            records,
            complained: false,
            nightly: Schedule::nightly(&rustix::system::uname().nodename().to_string_lossy()),
            rotated_by: None,
            retry: None,
            next_at: None,
            running: false,
            asked: false,
            last_failure: None,
        };
        course.set_retry(now);
        course
    }

    fn record(&mut self) -> &mut JobRecord {
        self.records.entry(ROTATE.to_owned()).or_default()
    }

    fn set_retry(&mut self, now: Now) {
        let retry = self.record().retry_in(now.wall.into());
        self.retry = retry.map(|wait| Retry { due: now.steady + wait, at: (now.wall + wait).into() });
    }

    /// Follows the settings and the clocks; returns whether a run is due.
    async fn follow(&mut self, config: &Config, now: Now) -> bool {
        let (rotated_by, wall) = (RotatedBy::of(config), now.wall.into());
        if self.rotated_by.replace(rotated_by) != Some(rotated_by) && rotated_by == RotatedBy::Lifecycle {
            tracing::info!(
                "rotation is the work of the bucket's lifecycle where the box may only write (s3.access: write-only): see \
                 hk-aws aws-template"
            );
        }
        if rotated_by != RotatedBy::ThisBox {
            self.record().turn_off();
            self.save().await;
            return false;
        }
        let schedule = config.rotate.schedule.clone().unwrap_or_else(|| self.nightly.clone());
        self.record().settle(schedule.as_str(), wall);
        self.save().await;
        let scheduled = self.record().next(schedule.cron(), &Local, wall);
        self.next_at = scheduled.into_iter().chain(self.retry.map(|retry| retry.at)).min();
        self.asked &= self.record().failed();
        self.asked
            || scheduled.is_some_and(|next| next <= wall)
            || self.retry.is_some_and(|retry| retry.due <= now.steady)
    }

    async fn begin(&mut self, now: Now) {
        tracing::info!("{ROTATE} begins");
        self.record().begin(now.wall.into());
        (self.running, self.asked, self.next_at) = (true, false, None);
        // Before the job does anything, so that the next start knows of the run, whatever becomes of this process.
        self.save().await;
    }

    async fn end(&mut self, ended: Ended, now: Now) {
        let Ended { end, outcome } = ended;
        let shown = match end {
            RunEnd::Done | RunEnd::Interrupted => outcome.clone(),
            RunEnd::Partly => format!("in part: {outcome}"),
            RunEnd::TryLater | RunEnd::NeedsOperator => format!("failed: {outcome}"),
        };
        self.record().end(end, shown, now.wall.into());
        self.running = false;
        self.set_retry(now);
        self.say(end, &outcome, now);
        self.save().await;
    }

    /// Logs how a run ended; the same failure that needs the owner is an error only the first time.
    fn say(&mut self, end: RunEnd, outcome: &str, now: Now) {
        let last_failure = self.last_failure.take();
        match end {
            RunEnd::Done | RunEnd::Interrupted => tracing::info!("{ROTATE}: {outcome}"),
            RunEnd::Partly => tracing::warn!(message_id = message::ROTATION_FAILED, "{ROTATE}, in part: {outcome}"),
            RunEnd::TryLater => {
                let wait = self.retry.map_or(0, |retry| retry.due.saturating_duration_since(now.steady).as_secs() / 60);
                tracing::warn!(
                    message_id = message::ROTATION_FAILED,
                    "{ROTATE} failed: {outcome}; it is tried again in {wait} min"
                );
            }
            RunEnd::NeedsOperator => {
                if last_failure.as_deref() == Some(outcome) {
                    tracing::info!("{ROTATE} failed as before: {outcome}");
                } else {
                    tracing::error!(message_id = message::ROTATION_FAILED, "{ROTATE} failed: {outcome}");
                }
                self.last_failure = Some(outcome.to_owned());
            }
        }
    }

    /// Returns the state of the job for the status.
    fn jobs(&mut self) -> Jobs {
        if self.rotated_by != Some(RotatedBy::ThisBox) {
            return Jobs::new();
        }
        let (running, next_at) = (self.running, self.next_at);
        let record = self.record();
        let mut job = record.job(next_at);
        if running {
            (job.running_since, job.outcome, job.failed) = (record.last_begun_at, record.outcome.clone(), false);
        }
        Jobs::from([(ROTATE.to_owned(), job)])
    }

    /// Writes the file if the records have changed.
    async fn save(&mut self) {
        // A record without any content is not worth a file.
        self.records.retain(|_, record| *record != JobRecord::default());
        if self.records == self.saved {
            return;
        }
        let (path, records) = (self.path.clone(), self.records.clone());
        let written = tokio::task::spawn_blocking(move || write(&path, &records)).await;
        match written.unwrap_or_else(|error| Err(error.into())) {
            Ok(()) => {
                self.saved.clone_from(&self.records);
                if std::mem::take(&mut self.complained) {
                    tracing::info!("the schedule can be written again");
                }
            }
            Err(error) => {
                if !self.complained {
                    tracing::warn!(
                        message_id = message::SCHEDULE,
                        "failed to write {}: {error}; jobs run anyway, but after a restart the daemon may not know of the last run",
                        self.path.display()
                    );
                }
                self.complained = true;
            }
        }
    }
}
