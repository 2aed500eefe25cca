//! What the loop does for this box's disks: local copies give way in time, and the operator hears before a disk is full.
//!
//! One line a change of state, whatever the number of files.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use tokio::task::JoinHandle;

use super::{Site, Stored};
use crate::clock::Now;
use crate::kept::GivenUp;
use crate::status::Trouble;

/// How often local copies are held against what may be kept.
const EVERY: Duration = Duration::from_hours(1);

/// How often they are asked for room again while the drop folder's disk is short of it.
const WHILE_SHORT: Duration = Duration::from_mins(1);

/// A different reason why stored files stay is said too, but no more than so many.
const MOST_REASONS: usize = 4;

/// Copies are said to be kept again once none was refused for so long.
const KEPT_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// The disks' state as far as it was said.
#[derive(Debug)]
pub(super) struct Upkeep {
    run: Option<JoinHandle<GivenUp>>,
    run_began: Option<Instant>,
    next_run: Instant,
    /// Since when the drop folder's disk is short of room.
    short: Option<Instant>,
    alarm: Option<Trouble>,
    /// Why stored files stay in the drop folder.
    left: Option<Trouble>,
    left_reasons: BTreeSet<String>,
    /// Captures that were removed here without a copy, and when the last one was, while that goes on.
    not_kept: u64,
    refused: Option<Instant>,
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
            not_kept: 0,
            refused: None,
        }
    }

    /// Looks at the disks; `waiting` files are in the queue, of which `left` are stored and stay against our will.
    /// Answers an error that was said.
    pub(super) fn look(&mut self, site: &Arc<Site>, waiting: usize, left: usize, now: Now) -> Option<String> {
        if left == 0 && self.left.take().is_some() {
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
            Some(reason) => self.is_short(site, &reason, waiting, ended, now),
        };
        if self.run.is_none() && now.steady >= self.next_run {
            let site = Arc::clone(site);
            self.run = Some(tokio::task::spawn_blocking(move || site.kept.give_way(now, 0)));
            self.run_began = Some(now.steady);
            self.next_run = now.steady + if self.short.is_some() { WHILE_SHORT } else { EVERY };
        }
        said
    }

    /// Local copies by these settings from now on.
    pub(super) fn look_soon(&mut self, now: Now) {
        self.next_run = now.steady;
    }

    /// What a run gave up that has just ended, if one has.
    fn ended(&mut self) -> Option<GivenUp> {
        let done = self.run.as_mut()?.now_or_never()?;
        self.run = None;
        Some(done.unwrap_or_else(|error| {
            tracing::error!("giving up local copies failed: {error}; it is tried again within the hour");
            GivenUp::default()
        }))
    }

    /// Local copies give way first; it is said once they have nothing more to give.
    fn is_short(
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
            // Captures came meanwhile, or a copy had another name on the disk.
            self.next_run = now.steady;
            return None;
        }
        if self.alarm.is_some() {
            return None;
        }
        let reason = format!("the disk of drop folder {} runs full: {reason}", site.folder.path().display());
        let advice = format!(
            "make room on it, or give it a larger one: {waiting} files wait there, and new ones may find no place"
        );
        let message = format!("{reason}; {advice}");
        tracing::error!("{message}");
        self.alarm = Some(Trouble { since: now.wall.into(), reason, advice });
        Some(message)
    }

    /// A stored file stays in the drop folder; answers an error that was said.
    pub(super) fn stays(&mut self, path: &str, reason: &str, at: DateTime<Utc>) -> Option<String> {
        if self.left_reasons.len() >= MOST_REASONS || !self.left_reasons.insert(reason.to_owned()) {
            return None;
        }
        let advice = "mend that: it goes as soon as it can, and is not sent again".to_owned();
        let message = format!("{path} is stored, but stays in the drop folder, and maybe others: {reason}; {advice}");
        tracing::error!("{message}");
        let reason = format!("stored files stay in the drop folder: {reason}");
        self.left = Some(Trouble { since: self.left.as_ref().map_or(at, |left| left.since), reason, advice });
        Some(message)
    }

    /// A stored file is gone from the drop folder; answers a warning that was said.
    pub(super) fn gone(&mut self, stored: &Stored, keeps: bool, now: Now) -> Option<String> {
        let Some(reason) = &stored.not_kept else {
            let quiet = |last: Instant| now.steady.saturating_duration_since(last) >= KEPT_AGAIN_AFTER;
            if keeps && self.refused.is_some_and(quiet) {
                self.refused = None;
                tracing::info!("local copies are kept again");
            }
            return None;
        };
        self.not_kept += 1;
        if self.refused.replace(now.steady).is_some() {
            return None;
        }
        let message =
            format!("{reason}; captures are in the bucket, and are removed here without what could not be written");
        tracing::warn!("{message}");
        Some(message)
    }

    /// How many captures were removed here without a copy, or a line in the ledger, that was wanted.
    pub(super) fn not_kept(&self) -> u64 {
        self.not_kept
    }

    /// What the operator has to mend.
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.alarm.as_ref().or(self.left.as_ref())
    }
}
