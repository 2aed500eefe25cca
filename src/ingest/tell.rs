//! What the loop tells: lines of the log when the link changes, and a snapshot for the status.

use super::link::News;
use super::{Ingest, status};
use crate::bucket::Verdict;
use crate::status::Snapshot;

impl Ingest {
    /// Says what is new of the link.
    pub(super) fn say(&mut self, news: &News) {
        let down = self.link.down().cloned();
        let waiting = self.queue.len();
        match (news, down) {
            (News::Down, Some(down)) => {
                let message = format!("nothing can be stored in {}: {}", self.site.bucket.describe(), down.refusal);
                if down.refusal.verdict == Verdict::NeedsOperator {
                    tracing::error!("{message}; every file is kept and tried again");
                } else {
                    tracing::warn!("{message}; every file is kept and tried again");
                }
                self.remember(message);
            }
            (News::StillDown(since), Some(down)) => {
                tracing::warn!(
                    "still nothing can be stored after {} s, {waiting} files wait: {}",
                    since.as_secs(),
                    down.refusal
                );
            }
            (News::Up(outage), _) => {
                tracing::info!("the bucket stores again after {} s, {waiting} files wait", outage.as_secs());
            }
            _ => {}
        }
    }

    /// Remembers an error for the status.
    pub(super) fn remember(&mut self, message: String) {
        let at = self.now().wall.into();
        self.tally.remember_error(message, at);
    }

    /// What the loop does now; `state` as far as the loop does not know better.
    pub(super) fn snapshot(&self, state: status::DaemonState) -> Snapshot {
        let waits = self.tally.waits(&self.queue);
        let down = self.link.outage().map(|down| status::Trouble {
            since: down.since.into(),
            reason: down.refusal.reason.clone(),
            advice: down.refusal.advice.clone(),
        });
        let trouble = self.folder_trouble.clone().or(down);
        let trouble = status::Trouble::both(trouble, self.upkeep.trouble().cloned());
        let state = match state {
            status::DaemonState::Ok if !self.scanned_once => status::DaemonState::Starting,
            status::DaemonState::Ok if trouble.is_some() => status::DaemonState::Degraded,
            state => state,
        };
        Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            at: self.now().wall.into(),
            started_at: self.tally.started_at,
            state,
            bucket: self.site.bucket.describe(),
            trouble,
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
            // The loop knows nothing of them.
            jobs: status::Jobs::new(),
        }
    }

    /// A snapshot before anything happened.
    pub fn first_snapshot(&self) -> Snapshot {
        self.snapshot(status::DaemonState::Starting)
    }
}
