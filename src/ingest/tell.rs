//! What the loop tells: lines of the log, and snapshots for the status.

use std::sync::{Arc, PoisonError};

use chrono::TimeDelta;

use super::clock_offset::{self, ClockWatch};
use super::flood::Flood;
use super::link::News;
use super::{Ingest, Report, Stored, status};
use crate::bucket::Verdict;
use crate::capture::TakenFrom;
use crate::clock::Now;
use crate::config::CaptureLines;
use crate::health::{self, Limits};
use crate::message;
use crate::status::{DaemonState, Snapshot};

impl Ingest {
    /// Logs that a capture is stored, and counts it.
    pub(super) fn tell_stored(&mut self, stored: &Stored, now: Now) {
        if !(stored.partial && stored.again) {
            self.tally.remember_stored(stored, now.wall.into());
        }
        self.watch_clock(stored);
        let capture = &stored.capture;
        // A level of its own: the line of each picture is worth a search for some, and noise for others.
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    camera = capture.camera,
                    key = %stored.key,
                    event = capture.event,
                    taken_at = capture.taken.to_rfc3339(),
                    size_bytes = stored.size,
                    elapsed_ms = u64::try_from(stored.elapsed.as_millis()).unwrap_or(u64::MAX),
                    "{}{} {}",
                    if stored.again { "was stored before:" } else { "stored" },
                    if stored.partial { " as far as it came:" } else { "" },
                    stored.key,
                )
            };
        }
        match self.site.config.log.captures {
            CaptureLines::Info => line!(info),
            CaptureLines::Debug => line!(debug),
            CaptureLines::Off => {}
        }
        if capture.camera_time.is_none() && capture.taken_from != TakenFrom::Arrival {
            self.tally.believe(&capture.camera);
        }
        if let Some(told) = capture.camera_time
            && self.tally.doubt(&capture.camera, told)
        {
            let message = format!(
                "the clock of camera {} is wrong: it gives {} for a capture that arrived at {}; such captures are filed by \
                 their arrival until the clock is set",
                capture.camera,
                told.to_rfc3339(),
                capture.taken.to_rfc3339(),
            );
            tracing::warn!(message_id = message::CAMERA_CLOCK, camera = capture.camera, "{message}");
            self.remember(message);
        }
    }

    /// Logs once that the clock of a capture's camera is steadily off.
    fn watch_clock(&mut self, stored: &Stored) {
        // What was stored before has been looked at before, and a part may have come long before it was given up.
        if stored.again || stored.partial {
            return;
        }
        if !self.tally.watch_clock(stored) {
            return;
        }
        let clocks = &self.tally.clocks;
        if let Err(error) = clock_offset::remember(&self.site.config.state_dir, clocks) {
            tracing::debug!("failed to remember which clocks are off: {error}");
        }
        let camera = &stored.capture.camera;
        let Some(offset) = clocks.get(camera).and_then(ClockWatch::said) else { return };
        let mend = offset.mend();
        let message = format!("the clock of camera {camera} is steadily {offset} when its pictures arrive: {mend}");
        tracing::warn!(message_id = message::CAMERA_CLOCK, camera, "{message}");
        self.remember(message);
    }

    /// Logs what is new of the link.
    pub(super) fn say(&mut self, news: &News) {
        let down = self.link.down().cloned();
        let waiting = self.queue.count();
        match (news, down) {
            (News::Down, Some(down)) => {
                let condition = health::of_refusal(&down.refusal, down.since.into());
                let message = format!(
                    "nothing can be stored in {}: {}. Pictures wait here and are sent later. What to do: {}",
                    self.site.bucket.describe(),
                    condition.in_full(),
                    condition.advice
                );
                if down.refusal.verdict == Verdict::NeedsOperator {
                    tracing::error!(message_id = message::BUCKET_REFUSES, "{message}");
                } else {
                    tracing::warn!(message_id = message::BUCKET_UNREACHABLE, "{message}");
                }
                self.remember(message);
            }
            (News::StillDown(since), Some(down)) => {
                let condition = health::of_refusal(&down.refusal, down.since.into());
                tracing::warn!(
                    message_id = message::STILL_DOWN,
                    "still nothing can be stored after {}, {waiting} files wait: {}",
                    health::in_words(TimeDelta::from_std(*since).unwrap_or_default()),
                    condition.in_full()
                );
            }
            (News::Up(outage), _) => {
                let outage = health::in_words(TimeDelta::from_std(*outage).unwrap_or_default());
                tracing::info!("the bucket stores again after {outage}, {waiting} files wait");
            }
            _ => {}
        }
    }

    /// Logs a failure of a kind that can come in floods, and remembers it; beyond one in a minute they are counted.
    pub(super) fn complain(&mut self, flood: Flood, message: String, now: Now) {
        if self.floods.is_first(flood, now) {
            flood.log(&message);
            self.remember(message);
        }
    }

    /// Logs how many failures were counted and not logged.
    pub(super) fn tell_floods(&mut self, now: Now) {
        for (flood, more) in self.floods.over(now) {
            flood.log(&format!("{more} more in the last minute: {}", flood.more()));
        }
    }

    /// Remembers the text of an error for the status.
    pub(super) fn remember(&mut self, message: String) {
        let at = self.now().wall.into();
        self.tally.remember_error(message, at);
    }

    /// Sends a snapshot to whoever reads the status.
    pub(super) fn tell_snapshot(&self, report: &Report) {
        report.snapshot.send_replace(self.snapshot());
    }

    /// Returns a snapshot of the loop; before [`Ingest::run`] it says that the daemon is starting.
    pub fn snapshot(&self) -> Snapshot {
        let mut waits = self.tally.waits(&self.queue);
        waits.waiting.elsewhere = self.home.elsewhere();
        waits.waiting.unreadable +=
            self.queue.files().filter(|file| self.unreadable.contains(file.path)).count() as u64;
        let raised = [self.folder_trouble.as_ref(), self.home.condition(), self.read_only.as_ref()];
        let raised = raised.into_iter().flatten().chain(self.upkeep.conditions()).cloned();
        let down = self.link.outage().map(|down| health::of_refusal(&down.refusal, down.since.into()));
        let mut snapshot = Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            at: self.now().wall.into(),
            started_at: self.tally.started_at,
            state: DaemonState::Starting,
            bucket: self.site.bucket.describe(),
            trouble: None,
            conditions: Vec::new(),
            raised: raised.chain(down).collect(),
            scanned: self.has_scanned,
            stopping: self.is_stopping,
            crashed_after: None,
            clock_behind_seconds: self.site.bucket.clock_behind_seconds(),
            waiting: waits.waiting,
            oldest_only_here: waits.oldest,
            files: waits.files,
            not_uploaded: self.tally.not_uploaded(),
            stored: self.tally.stored.clone(),
            cameras: self.tally.cameras.clone(),
            last_errors: self.tally.last_errors(),
            drop_folder_free_bytes: status::free_bytes(self.site.folder.path()),
            state_free_bytes: status::free_bytes(&self.site.config.state_dir),
            kept_bytes: self.site.kept.bytes(),
            not_kept: self.upkeep.not_kept(),
            link_down: self.link.down().is_some(),
            counters: Arc::clone(&self.tally.counters),
            // The scheduler reports them; the loop does not know them.
            jobs: status::Jobs::new(),
        };
        let mut before = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        health::judge(&mut snapshot, &before, &Limits::of(&self.site.config));
        before.clone_from(&snapshot.conditions);
        snapshot
    }
}
