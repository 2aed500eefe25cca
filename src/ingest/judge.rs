//! What the loop does with the result of an upload: the file leaves the queue, waits, or is set aside.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError};

use super::flood::Flood;
use super::home::Waited;
use super::outcome::{Ingested, NotStored};
use super::{Finished, InWork, Ingest, Stored, Work, jitter};
use crate::bucket::{Refusal, Verdict};
use crate::clock::{Now, backoff};
use crate::key::escape_path;
use crate::message;
use crate::queue::{FailedUpload, Hint, OWN_TROUBLE};

/// The first and the longest wait of a file that fails by itself.
const FIRST_WAIT: Duration = Duration::from_secs(1);
pub(super) const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// How long to wait before the next attempt to take away a stored file; an attempt costs no request.
const DISPOSE_AGAIN: Duration = Duration::from_secs(5);

/// Why a file that was uploaded while it was open is still there.
const STALLED: &str = "open for writing, but has not grown for drop_folder.stalled; the part that came is stored";

/// Why a file that was cut off is still there.
const CUT_OFF: &str =
    "cut off; the part that came is stored, and the file waits for the camera to resume or send it again";

/// Why a file is still there of which nobody knows whether it is whole.
const MAY_GROW: &str =
    "stored; the system does not tell whether it is still being written, so it stays for drop_folder.partial_after";

impl Ingest {
    /// Judges the end of an upload or disposal.
    pub(super) fn judge(&mut self, done: Result<(Id, Finished), JoinError>) {
        let now = self.now();
        let id = done.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(work) = self.in_work.remove(&id) else { return };
        let path = work.due.path.as_path();
        self.unreadable.remove(path);
        // If a reload named another drop folder, the queue knows nothing of this file. Unless it is stored it stays in
        // the old folder.
        let is_same_folder = work.site.folder.path() == self.site.folder.path();
        let result = match done {
            Ok((_, finished)) => finished.result,
            Err(error) if is_same_folder => return self.set_aside(path, &format!("the upload panicked: {error}"), now),
            Err(error) => {
                return tracing::error!(
                    message_id = message::PANIC,
                    "the upload of {} panicked: {error}",
                    escape_path(path)
                );
            }
        };
        match result {
            Ok(ingested) if is_same_folder => match work.work {
                Work::Upload => self.stored(path, &ingested, now),
                Work::Disposal => self.disposed(path, &ingested, now),
            },
            Ok(ingested) if work.work == Work::Upload => self.tell_stored(&ingested.stored, now),
            Err(reason) if is_same_folder => self.not_stored(&work, reason, now),
            Ok(_) | Err(_) => {}
        }
    }

    /// Takes note of a capture that has just been stored.
    fn stored(&mut self, path: &Path, ingested: &Ingested, now: Now) {
        self.tell_stored(&ingested.stored, now);
        if let Some(joined) = &ingested.joined {
            self.tell_stored(joined, now);
        }
        let was_down = self.link.down().is_some();
        let news = self.link.succeeded(now);
        self.say(&news);
        if was_down {
            self.queue.retry_all();
        }
        self.disposed(path, ingested, now);
        if ingested.wait.is_some() {
            // The camera may have resumed while the part was uploaded, and no further event will tell of that.
            self.surveyor.hints.at(path, Hint::Scan);
        }
    }

    /// Takes note of what became of a stored capture's file. The capture is in the bucket: only this box can have
    /// trouble.
    fn disposed(&mut self, path: &Path, ingested: &Ingested, now: Now) {
        let Ingested { stored, wait, .. } = ingested;
        let said = match (&stored.left, *wait) {
            (None, None) => {
                self.done(path);
                self.upkeep.gone(stored, &self.site.config.keep, now)
            }
            (None, Some(wait)) => {
                let reason = if stored.open {
                    STALLED
                } else if stored.partial {
                    CUT_OFF
                } else {
                    MAY_GROW
                };
                self.hold_stored(path, stored, reason, now.steady + wait);
                None
            }
            (Some(reason), _) => {
                self.hold_stored(path, stored, &format!("stored; {reason}"), now.steady + DISPOSE_AGAIN);
                self.upkeep.stays(&self.site.config, path, reason, now.wall.into())
            }
        };
        if let Some(message) = said {
            self.remember(message);
        }
    }

    /// Lets a stored file wait in the folder.
    fn hold_stored(&mut self, path: &Path, stored: &Stored, reason: &str, until: std::time::Instant) {
        self.queue.remember_stored(path, Arc::new(stored.clone()));
        self.queue.hold(path, reason, until);
    }

    /// Lets go of a file that is no longer there, and asks for a look at another one that has come in its place.
    pub(super) fn done(&mut self, path: &Path) {
        if let Some(hint) = self.queue.done(path) {
            self.surveyor.hints.at(path, hint);
        }
    }

    fn not_stored(&mut self, work: &InWork, reason: NotStored, now: Now) {
        let path = work.due.path.as_path();
        match reason {
            NotStored::Gone => {
                let bytes = self.queue.last_seen(path, now).map_or(0, |seen| seen.stamp.size);
                self.home.not_found(Waited { files: 1, bytes });
                self.done(path);
            }
            NotStored::Growing => self.settle_again(path, "open for writing", now),
            NotStored::InWork => self.settle_again(path, "being uploaded under the name that it had before", now),
            NotStored::Changed => {
                let hint = self.queue.done(path).unwrap_or(Hint::Scan);
                self.surveyor.hints.at(path, hint);
            }
            NotStored::Closed => {
                self.queue.done(path);
                self.surveyor.hints.at(path, Hint::Closed);
            }
            NotStored::Empty(age) => self.empty(path, age, now),
            // The settings that were refused are not in force any more: it is tried by the new ones immediately.
            NotStored::Refused(refusal) if work.reloads != self.reloads => {
                self.queue.hold(path, &refusal.to_string(), now.steady);
            }
            NotStored::Refused(refusal) => self.refused(work, &refusal, now),
            NotStored::Unreadable(reason) => self.unreadable(work, &reason, now),
        }
    }

    pub(super) fn settle_again(&mut self, path: &Path, reason: &str, now: Now) {
        self.queue.settle_again(path, reason, self.site.config.drop_folder.stalled, now);
    }

    /// Lets an empty file wait for its camera, then sets it aside.
    fn empty(&mut self, path: &Path, age: Duration, now: Now) {
        let patience = self.site.config.drop_folder.partial_after;
        match patience.checked_sub(age) {
            None | Some(Duration::ZERO) => self.set_aside(path, "empty", now),
            Some(rest) => {
                self.queue.hold(path, "empty", now.steady + rest);
            }
        }
    }

    fn refused(&mut self, work: &InWork, refusal: &Refusal, now: Now) {
        let path = work.due.path.as_path();
        self.tally.counters().failed(refusal.verdict.name());
        if refusal.verdict == Verdict::GiveUpOnThisFile {
            return self.set_aside(path, &refusal.to_string(), now);
        }
        if refusal.is_too_large() {
            return self.too_large(work, refusal, now);
        }
        let own = self.queue.failed(path, self.failed_upload(work));
        let outages = self.link.outages();
        let news = self.link.failed(refusal, own, jitter(now), now);
        if self.link.outages() > outages {
            self.site.bucket.ask_again();
        }
        let until = match self.link.next_probe() {
            Some(probe) if own < OWN_TROUBLE => probe,
            _ => now.steady + backoff(own, FIRST_WAIT, LONGEST_WAIT, jitter(now)),
        };
        // At the 2nd, 4th, 8th time and so on: it may go on for weeks.
        if own >= OWN_TROUBLE && own.is_power_of_two() {
            let path = escape_path(path);
            let message = format!("{path} cannot be stored while others are, and is tried again later: {refusal}");
            self.complain(Flood::OwnTrouble, message, now);
        }
        self.say(&news);
        self.queue.hold(path, &refusal.to_string(), until);
    }

    /// Lets a file wait that is larger than what the store takes in one request. Others go on.
    fn too_large(&mut self, work: &InWork, refusal: &Refusal, now: Now) {
        let path = work.due.path.as_path();
        self.queue.failed(path, self.failed_upload(work));
        let wait = wait_of_too_large(self.queue.failures(path), jitter(now));
        if self.queue.hold(path, &refusal.to_string(), now.steady + wait) {
            let message = format!("{} cannot be stored, and is tried again later: {refusal}", escape_path(path));
            self.complain(Flood::TooLarge, message, now);
        }
    }

    fn unreadable(&mut self, work: &InWork, reason: &str, now: Now) {
        let path = work.due.path.as_path();
        self.queue.failed(path, self.failed_upload(work));
        let wait = backoff(self.queue.failures(path), FIRST_WAIT, LONGEST_WAIT, jitter(now));
        self.unreadable.insert(path.to_owned());
        if self.queue.hold(path, reason, now.steady + wait) {
            let message =
                format!("{} cannot be read: {reason}; let the user of the service read it", escape_path(path));
            self.complain(Flood::Unreadable, message, now);
        }
    }

    fn failed_upload(&self, work: &InWork) -> FailedUpload {
        FailedUpload {
            stored_at_start: work.stored,
            stored_now: self.tally.stored.captures,
            is_link_down: self.link.down().is_some(),
        }
    }
}

/// Returns how long a file waits after this number of tries that were refused for its size: it is tried three times in two
/// minutes, and then ever more rarely, because somebody must raise a limit first.
fn wait_of_too_large(tries: u32, jitter: f64) -> Duration {
    match tries {
        0 | 1 => Duration::from_secs(5),
        2 => Duration::from_secs(30),
        more => backoff(more - 2, Duration::from_mins(4), Duration::from_hours(1), jitter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_tried_three_times_in_two_minutes_and_then_up_to_once_an_hour() {
        for jitter in [0.0, 0.5, 1.0] {
            let waits: Vec<Duration> = (1..20).map(|number| wait_of_too_large(number, jitter)).collect();
            let mut at = Duration::ZERO;
            let early = waits.iter().take_while(|wait| {
                at += **wait;
                at <= Duration::from_mins(2)
            });
            assert_eq!(1 + early.count(), 3, "{waits:?}");
            let longest = waits.iter().max().copied().unwrap();
            assert!(longest <= Duration::from_hours(1) && longest >= Duration::from_mins(30), "{longest:?}");
        }
    }
}
