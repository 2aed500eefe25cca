//! When jobs run: by cron in the system's zone, one at a time, and what was missed is made up once.
//!
//! The last run is remembered in [`FILE`] before it begins: a restart, however late, sees what is missing, and a job
//! that kills the daemon does not do so again at once. Everything that was missed is made by one run. Times are instants:
//! what a clock repeats in autumn or leaves out in spring is [`croner`]'s to say, and each of its times is made at most
//! once. A time in the future was written by a clock that was wrong; it is not believed while it is.
//!
//! A job runs only while the bucket can be reached as far as the ingest loop knows, after the first scan, and after a
//! first capture where one is ready to go: what has just come goes first, and shows whether the bucket stores. It is
//! told to stop when the daemon stops, and is cut off soon after: a job must be safe to kill anywhere.
//!
//! Waking at the time that was computed was rejected: a wall clock steps, and a box sleeps. What is due is asked anew
//! with each snapshot of the loop, once a second.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Local, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Now;
use crate::config::{Access, Config};
use crate::site::Site;
use crate::status::{DaemonState, Jobs, Snapshot};

mod record;
#[cfg(test)]
mod tests;

pub use record::{FILE, JobRecord, JobRecords, RunEnd, read, write};

/// The job that rotates.
pub const ROTATE: &str = "rotate";

/// How long a job may take to end once the daemon stops.
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
        RunEnd::Interrupted.saying("interrupted by a stop, and done at the next start")
    }
}

/// Runs the job when it is due.
#[derive(Debug)]
pub struct Runner {
    /// The settings in force; sent again, unchanged, they ask for what failed to be tried.
    pub sites: watch::Receiver<Arc<Site>>,
    /// What the ingest loop does, at least once a second.
    pub snapshots: watch::Receiver<Snapshot>,
    /// Told what the jobs do.
    pub jobs: watch::Sender<Jobs>,
}

impl Runner {
    /// Runs `job` by its schedule until `stop`, or until the loop is gone.
    pub async fn run<F>(mut self, job: impl Fn(Arc<Site>, CancellationToken) -> F + Send, stop: CancellationToken)
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let mut site = Arc::clone(&self.sites.borrow_and_update());
        let mut course = Course::load(&site).await;
        let mut told = false;
        loop {
            if std::mem::take(&mut told) || self.sites.has_changed().unwrap_or(false) {
                let current = Arc::clone(&self.sites.borrow_and_update());
                // New credentials alone are no reason: they come by themselves.
                course.asked |= Arc::ptr_eq(&current, &site) || !Arc::ptr_eq(&current.config, &site.config);
                site = current;
            }
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
                Ok(()) = self.sites.changed() => told = true,
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

/// Whether the bucket can be reached, as far as is known.
fn may_start(snapshot: &Snapshot) -> bool {
    let Snapshot { waiting, stored, .. } = snapshot;
    let untried = stored.captures == 0 && waiting.queued + waiting.uploading > 0;
    matches!(snapshot.state, DaemonState::Ok | DaemonState::Degraded) && !snapshot.link_down && !untried
}

/// Waits for the end of a run, and not for long once `stop` is there.
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

/// Whether rotation is the box's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RotatedBy {
    ThisBox,
    /// Nothing is asked for.
    Nobody,
    /// Something is, but the box may neither list nor delete.
    Lifecycle,
}

impl RotatedBy {
    fn by(config: &Config) -> Self {
        let rotate = &config.rotate;
        match (rotate.archive.is_some() || rotate.transition.is_some() || rotate.expire.is_some(), config.s3.access) {
            (false, _) => Self::Nobody,
            (true, Access::ReadWrite) => Self::ThisBox,
            (true, Access::WriteOnly) => Self::Lifecycle,
        }
    }
}

/// The job's course through time: what the file has, and what only this process knows.
#[derive(Debug)]
struct Course {
    path: std::path::PathBuf,
    records: JobRecords,
    /// As they are in the file.
    saved: JobRecords,
    complained: bool,
    wanted: Option<RotatedBy>,
    /// When the last run is tried again. By the steady clock: a step of the other one is no reason.
    retry: Option<(Instant, DateTime<Utc>)>,
    next_at: Option<DateTime<Utc>>,
    running: bool,
    /// Somebody says that something is mended.
    asked: bool,
    /// What the operator was told last.
    said: Option<String>,
}

impl Course {
    async fn load(site: &Site) -> Self {
        let (path, now) = (site.config.state_dir.join(FILE), (site.clock)());
        let file = path.clone();
        let read = tokio::task::spawn_blocking(move || read(&file)).await.unwrap_or_else(|error| Err(error.into()));
        let records = read.unwrap_or_else(|error| {
            // A new box has none.
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!("{} is damaged: {error}; jobs are counted from now on", path.display());
            }
            JobRecords::new()
        });
        let mut course = Self {
            path,
            saved: records.clone(),
            records,
            complained: false,
            wanted: None,
            retry: None,
            next_at: None,
            running: false,
            asked: false,
            said: None,
        };
        course.set_retry(now);
        course
    }

    fn record(&mut self) -> &mut JobRecord {
        self.records.entry(ROTATE.to_owned()).or_default()
    }

    fn set_retry(&mut self, now: Now) {
        let retry = self.record().retry_in(now.wall.into());
        self.retry = retry.map(|wait| (now.steady + wait, (now.wall + wait).into()));
    }

    /// Keeps up with settings and clocks; whether a run is due.
    async fn follow(&mut self, config: &Config, now: Now) -> bool {
        let (wanted, wall) = (RotatedBy::by(config), now.wall.into());
        if self.wanted.replace(wanted) != Some(wanted) && wanted == RotatedBy::Lifecycle {
            tracing::info!(
                "rotation is the work of the bucket's lifecycle where the box may only write (s3.access: write-only): see \
                 hk-aws aws-template"
            );
        }
        let schedule = &config.rotate.schedule;
        if wanted == RotatedBy::ThisBox {
            self.record().settle(schedule.as_str(), wall);
            self.save().await;
        } else {
            self.record().turn_off();
            self.save().await;
            return false;
        }
        let scheduled = self.record().next(schedule.cron(), &Local, wall);
        self.next_at = scheduled.into_iter().chain(self.retry.map(|(_, at)| at)).min();
        self.asked &= self.record().failed();
        self.asked
            || scheduled.is_some_and(|next| next <= wall)
            || self.retry.is_some_and(|(retry, _)| retry <= now.steady)
    }

    async fn begin(&mut self, now: Now) {
        tracing::info!("{ROTATE} begins");
        self.record().begin(now.wall.into());
        (self.running, self.asked, self.next_at) = (true, false, None);
        // Before the first act: the next start knows of it whatever becomes of this process.
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

    fn say(&mut self, end: RunEnd, outcome: &str, now: Now) {
        let said = self.said.take();
        match end {
            RunEnd::Done | RunEnd::Interrupted => tracing::info!("{ROTATE}: {outcome}"),
            RunEnd::Partly => tracing::warn!("{ROTATE}, in part: {outcome}"),
            RunEnd::TryLater => {
                let wait = self.retry.map_or(0, |(at, _)| at.saturating_duration_since(now.steady).as_secs() / 60);
                tracing::warn!("{ROTATE} failed: {outcome}; it is tried again in {wait} min");
            }
            RunEnd::NeedsOperator => {
                if said.as_deref() == Some(outcome) {
                    tracing::info!("{ROTATE} failed as before: {outcome}");
                } else {
                    tracing::error!("{ROTATE} failed: {outcome}");
                }
                self.said = Some(outcome.to_owned());
            }
        }
    }

    fn jobs(&mut self) -> Jobs {
        if self.wanted != Some(RotatedBy::ThisBox) {
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

    async fn save(&mut self) {
        // What says nothing yet needs no file.
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
            Err(error) if !std::mem::replace(&mut self.complained, true) => {
                tracing::warn!(
                    "failed to write {}: {error}; jobs run all the same, but a restart may not know of it",
                    self.path.display()
                );
            }
            Err(_) => {}
        }
    }
}
