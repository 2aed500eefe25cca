//! Failures that can come in floods, such as a thousand files that cannot be read: the log has one line a minute of each
//! kind, with a count.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::clock::Now;
use crate::message;

/// How long further failures of a kind are counted instead of logged.
const QUIET: Duration = Duration::from_mins(1);

/// A kind of failure of single files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flood {
    /// A file was set aside.
    SetAside,
    /// A file could not be set aside.
    NotSetAside,
    /// A file cannot be read.
    Unreadable,
    /// A file is larger than what the store takes.
    TooLarge,
    /// A file is refused while others are stored.
    OwnTrouble,
}

impl Flood {
    /// Returns what is said of those that were counted.
    pub(super) fn more(self) -> &'static str {
        match self {
            Self::SetAside => "files that can never be stored as they are were moved to the folder set-aside",
            Self::NotSetAside => "files could not be set aside",
            Self::Unreadable => "files that cannot be read",
            Self::TooLarge => "files that are larger than what the store takes",
            Self::OwnTrouble => "attempts to store files that are refused while others are stored",
        }
    }

    /// Logs a message of this kind.
    pub(super) fn log(self, text: &str) {
        match self {
            Self::SetAside => tracing::error!(message_id = message::SET_ASIDE, "{text}"),
            Self::NotSetAside => tracing::error!(message_id = message::NOT_SET_ASIDE, "{text}"),
            Self::Unreadable => tracing::error!(message_id = message::UNREADABLE, "{text}"),
            Self::TooLarge => tracing::error!(message_id = message::TOO_LARGE, "{text}"),
            Self::OwnTrouble => tracing::warn!(message_id = message::OWN_TROUBLE, "{text}"),
        }
    }
}

/// The kinds that have been logged in the last minute.
#[derive(Debug, Default)]
pub(super) struct Floods(BTreeMap<Flood, Window>);

#[derive(Debug)]
struct Window {
    until: Instant,
    counted: u64,
}

impl Floods {
    /// Returns whether a failure is to be logged; it is counted otherwise.
    pub(super) fn is_first(&mut self, flood: Flood, now: Now) -> bool {
        if let Some(window) = self.0.get_mut(&flood) {
            window.counted += 1;
            return false;
        }
        self.0.insert(flood, Window { until: now.steady + QUIET, counted: 0 });
        true
    }

    /// Returns the kinds whose minute is over and that had more failures, with their number; another minute begins for
    /// these.
    pub(super) fn over(&mut self, now: Now) -> Vec<(Flood, u64)> {
        self.0.retain(|_, window| window.counted > 0 || now.steady < window.until);
        let over = self.0.iter_mut().filter(|(_, window)| now.steady >= window.until);
        over.map(|(flood, window)| {
            window.until = now.steady + QUIET;
            (*flood, std::mem::take(&mut window.counted))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes, there is one line a minute of a kind, and each failure is either logged or counted.
        #[test]
        fn a_flood_is_one_line_a_minute_with_a_count(gaps in proptest::collection::vec(0u64..20_000, 1..400)) {
            #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
            let start = Now { steady: Instant::now(), wall: SystemTime::UNIX_EPOCH };
            let (mut floods, mut now, mut lines, mut told) = (Floods::default(), start, Vec::new(), 0);
            let failures = gaps.len() as u64;
            let mut gaps = gaps.into_iter();
            let mut next = gaps.next().map(|gap| start.steady + Duration::from_millis(gap));
            // The loop looks once a second.
            for _ in 0..9000 {
                now.steady += Duration::from_secs(1);
                for (_, more) in floods.over(now) {
                    lines.push(now.steady);
                    told += more;
                }
                while next.is_some_and(|at| at <= now.steady) {
                    if floods.is_first(Flood::Unreadable, now) {
                        lines.push(now.steady);
                        told += 1;
                    }
                    next = gaps.next().map(|gap| next.unwrap() + Duration::from_millis(gap));
                }
            }
            prop_assert_eq!(told, failures);
            prop_assert!(lines.windows(2).all(|pair| pair[1] - pair[0] >= QUIET));
        }
    }
}
