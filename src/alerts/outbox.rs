//! Messages that wait to be delivered, in order. They outlive the daemon.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::words::Message;
use crate::clock::backoff;

/// How long a message is worth telling.
const PATIENCE: TimeDelta = TimeDelta::hours(1);

/// The most messages that wait. The state machine makes fewer in an hour.
pub(super) const MOST_WAITING: usize = 100;

/// The first and the longest wait after a failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// The messages that one service has yet to get.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Outbox {
    waiting: VecDeque<Message>,
    #[serde(skip)]
    failures: u32,
    #[serde(skip)]
    next_at: Option<Instant>,
}

/// Two are the same if the same messages wait: the attempts do not outlive the daemon.
impl PartialEq for Outbox {
    fn eq(&self, other: &Self) -> bool {
        self.waiting == other.waiting
    }
}

impl Outbox {
    /// Adds messages; the oldest give way if there are too many.
    pub(super) fn add(&mut self, messages: &[Message]) {
        self.waiting.extend(messages.iter().cloned());
        let excess = self.waiting.len().saturating_sub(MOST_WAITING);
        self.waiting.drain(..excess);
    }

    /// Returns the message to deliver now.
    pub(super) fn due(&self, now: Instant) -> Option<&Message> {
        self.waiting.front().filter(|_| self.next_at.is_none_or(|next| next <= now))
    }

    /// Takes note that the first message was delivered, or never will be.
    pub(super) fn done(&mut self) {
        self.waiting.pop_front();
        self.failures = 0;
        self.next_at = None;
    }

    /// Takes note that the first message could not be delivered; returns how many are given up.
    pub(super) fn failed(&mut self, now: DateTime<Utc>, steady: Instant) -> usize {
        self.failures += 1;
        self.next_at = Some(steady + backoff(self.failures, FIRST_WAIT, LONGEST_WAIT, 0.0));
        let before = self.waiting.len();
        self.waiting.retain(|message| now - message.at < PATIENCE);
        before - self.waiting.len()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}
