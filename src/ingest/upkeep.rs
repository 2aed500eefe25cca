//! What the loop does for the disks of this box: old local copies are removed in time, and the owner hears of a disk
//! before it is full.
//!
//! Each change of state is one line of the log, whatever the number of files.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use tokio::task::JoinHandle;

use super::{Site, Stored};
use crate::clock::Now;
use crate::config::{Config, KeepSettings};
use crate::kept::GivenUp;
use crate::key::escape_path;
use crate::message;
use crate::queue::Queue;
use crate::service;
use crate::status::{Condition, ConditionKind};

/// How often local copies are compared with the limits of the configuration.
const EVERY: Duration = Duration::from_hours(1);

/// How often local copies are given up while the disk of the drop folder is short of room.
const WHILE_SHORT: Duration = Duration::from_mins(1);

/// The number of different reasons for stored files that stay after which no more are logged.
const MOST_REASONS: usize = 4;

/// The log says that local copies are kept again once none has been refused for this long.
const KEPT_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// The state of the disks as far as the log has told it.
#[derive(Debug)]
pub(super) struct Upkeep {
    /// The run under way that lets local copies give way.
    run: Option<JoinHandle<GivenUp>>,
    run_began: Option<Instant>,
    next_run: Instant,
    /// When the disk of the drop folder became short of room.
    short: Option<Instant>,
    /// The shortage, once local copies have nothing more to give.
    alarm: Option<Condition>,
    /// Why stored files stay in the drop folder.
    left: Option<Condition>,
    left_reasons: BTreeSet<String>,
    /// The missing disk of the local copies.
    no_copies: Option<Condition>,
    /// How many files were removed here without the local copy or the ledger line that they should have.
    not_kept: u64,
    /// When that happened last, until copies are kept again.
    refused: Option<Instant>,
    /// Why copies are not kept, until they are again.
    not_keeping: Option<Condition>,
}

impl Upkeep {
    pub(super) fn new(now: Now) -> Self {
        Self {
            run: None,
            run_began: None,
            next_run: now.steady,
            short: None,
            alarm: None,
            left: None,
            left_reasons: BTreeSet::new(),
            no_copies: None,
            not_kept: 0,
            refused: None,
            not_keeping: None,
        }
    }

    /// Looks at the disks, and starts a run if one is due; returns an error that was logged.
    pub(super) fn look(&mut self, site: &Arc<Site>, queue: &Queue, now: Now) -> Option<String> {
        if queue.left() == 0 && self.left.take().is_some() {
            self.left_reasons.clear();
            tracing::info!("no stored file is left in the drop folder any more");
        }
        let ended = self.ended();
        let said = match site.shortage() {
            None => {
                self.short = None;
                if self.alarm.take().is_some() {
                    tracing::info!("the drop folder's disk has room again");
                }
                None
            }
            Some(reason) => self.runs_short(site, &reason, queue.count(), ended, now),
        };
        if self.run.is_none() && now.steady >= self.next_run {
            let site = Arc::clone(site);
            self.run = Some(tokio::task::spawn_blocking(move || {
                if let Err(error) = site.compress_ledger(now) {
                    tracing::warn!(message_id = message::LEDGER, "failed to compress old ledger: {error}");
                }
                site.kept.give_way(now)
            }));
            self.run_began = Some(now.steady);
            self.next_run = now.steady + if self.short.is_some() { WHILE_SHORT } else { EVERY };
        }
        said
    }

    /// Looks whether local copies have their disk; returns an error that was logged.
    pub(super) fn look_at_copies(&mut self, site: &Site, now: Now) -> Option<String> {
        let Some(disk) = site.kept.missing_disk() else {
            if self.no_copies.take().is_some() {
                // What refused the copies was that the disk was away.
                (self.refused, self.not_keeping) = (None, None);
                tracing::info!("the disk of the local copies is mounted again");
            }
            return None;
        };
        if self.no_copies.is_some() {
            return None;
        }
        let path = site.config.keep.path.display();
        let reason = format!("no local copies are kept in {path}: its disk is not mounted at {}", disk.display());
        let advice = "mount it again, or say with `systemctl reload hk-aws` that it is to stay like this".to_owned();
        let message = format!("{reason}; {advice}; captures are uploaded all the same");
        tracing::error!(message_id = message::COPIES_MISSING, "{message}");
        self.no_copies = Some(Condition::new(ConditionKind::CopiesMissing, now.wall.into(), reason, advice));
        Some(message)
    }

    /// Starts a run soon, because the settings are new.
    pub(super) fn look_soon(&mut self, now: Now) {
        self.next_run = now.steady;
    }

    /// Returns what was given up by a run that has just ended; `None` if none has.
    fn ended(&mut self) -> Option<GivenUp> {
        let done = self.run.as_mut()?.now_or_never()?;
        self.run = None;
        Some(done.unwrap_or_else(|error| {
            tracing::error!(
                message_id = message::GIVE_WAY_FAILED,
                "failed to delete old local copies: {error}; it is tried again within the hour"
            );
            GivenUp::default()
        }))
    }

    /// Lets local copies give way first, and raises the alarm once they have nothing more to give.
    fn runs_short(
        &mut self,
        site: &Site,
        reason: &str,
        waiting: usize,
        ended: Option<GivenUp>,
        now: Now,
    ) -> Option<String> {
        let since = *self.short.get_or_insert_with(|| {
            self.next_run = now.steady;
            now.steady
        });
        let given = ended.filter(|_| self.run_began.is_some_and(|began| began >= since))?;
        if given.copies > 0 {
            // It was not enough: captures came meanwhile, or the bytes of a copy are still in use by another name.
            self.next_run = now.steady;
            return None;
        }
        if self.alarm.is_some() {
            return None;
        }
        let reason = format!("the disk of drop folder {} runs full: {reason}", site.folder.path().display());
        let advice = format!(
            "make room on it, or use a larger disk: {waiting} files wait there, and there may be no room for new ones"
        );
        let message = format!("{reason}; {advice}");
        tracing::error!(message_id = message::DROP_FOLDER_SHORT, "{message}");
        self.alarm = Some(Condition::new(ConditionKind::DropFolderShort, now.wall.into(), reason, advice));
        Some(message)
    }

    /// Records that a stored file stays in the drop folder; returns an error that was logged.
    pub(super) fn stays(&mut self, config: &Config, path: &Path, reason: &str, at: DateTime<Utc>) -> Option<String> {
        if self.left_reasons.len() >= MOST_REASONS || !self.left_reasons.insert(reason.to_owned()) {
            return None;
        }
        let mend = service::shut_out(config).unwrap_or_else(|| "let the service's user write there".to_owned());
        let advice = format!("{mend}; the files are then removed, and nothing is sent again");
        let path = escape_path(path);
        let message = format!(
            "{path} is safe in the bucket, but hk-aws cannot delete it here, and maybe others: {reason}; {advice}"
        );
        tracing::error!(message_id = message::CANNOT_REMOVE, "{message}");
        let reason = format!("pictures that are safe in the bucket cannot be deleted here: {reason}");
        let since = self.left.as_ref().map_or(at, |left| left.since);
        self.left = Some(Condition::new(ConditionKind::CannotRemove, since, reason, advice));
        Some(message)
    }

    /// Records that a stored file has left the drop folder; returns a warning that was logged.
    pub(super) fn gone(&mut self, stored: &Stored, keep: &KeepSettings, now: Now) -> Option<String> {
        let Some(reason) = &stored.not_kept else {
            let is_over = |last: Instant| now.steady.saturating_duration_since(last) >= KEPT_AGAIN_AFTER;
            if keep.days > 0 && self.refused.is_some_and(is_over) {
                self.refused = None;
                self.not_keeping = None;
                tracing::info!("local copies are kept again");
            }
            return None;
        };
        self.not_kept += 1;
        if self.refused.replace(now.steady).is_some() {
            return None;
        }
        let message = format!("{reason}; such captures are in the bucket, and their files are removed here anyway");
        tracing::warn!(message_id = message::COPIES_REFUSED, "{message}");
        let advice = "make room on the disk of the local copies; such captures are safe in the bucket";
        self.not_keeping = Some(Condition::new(ConditionKind::CopiesRefused, now.wall.into(), reason, advice));
        Some(message)
    }

    /// Returns how many files were removed here without the local copy or the ledger line that they should have.
    pub(super) fn not_kept(&self) -> u64 {
        self.not_kept
    }

    /// Returns what the owner has to mend.
    pub(super) fn conditions(&self) -> impl Iterator<Item = &Condition> {
        [&self.alarm, &self.left, &self.no_copies, &self.not_keeping].into_iter().flatten()
    }
}
