//! Whether the bucket can be reached: while it can't, one probe at a time instead of a storm.

use std::time::{Duration, Instant, SystemTime};

use crate::bucket::{Patience, Refusal, Verdict};
use crate::queue::{Now, backoff};

/// So many failures of different files in a row mean that it is not the files.
const FAILURES_IN_A_ROW: u32 = 3;

const FIRST_PROBE: Duration = Duration::from_secs(1);
/// An outage is probed at least this often, so that full speed is seconds away when it ends.
const OUTAGE_PROBE: Duration = Duration::from_secs(5);
/// What waits for a human need not be asked so often.
const OPERATOR_PROBE: Duration = Duration::from_secs(30);

/// Every so many probes one has all the patience of an ordinary upload.
const PATIENT_PROBE: u32 = 4;

/// How often an outage that goes on is said again.
const REMINDER: Duration = Duration::from_mins(1);

/// The way to the bucket.
#[derive(Debug, Default)]
pub(super) struct Link {
    down: Option<Down>,
    outages: u64,
    in_a_row: u32,
}

/// An outage.
#[derive(Debug, Clone)]
pub(super) struct Down {
    pub(super) since: SystemTime,
    pub(super) refusal: Refusal,
    since_steady: Instant,
    probes: u32,
    next_probe: Instant,
    said: Instant,
}

/// What may be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowance {
    /// As much as is configured.
    Full,
    /// One upload, if no other has begun since the outage did.
    Probe(Patience),
    /// Nothing for now.
    None,
}

/// What is to be said in the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    None,
    /// It has just gone down, or the reason has changed.
    Down,
    /// It is still down.
    StillDown(Duration),
    /// It is up again.
    Up(Duration),
}

impl Link {
    /// The outage, if there is one.
    pub(super) fn down(&self) -> Option<&Down> {
        self.down.as_ref()
    }

    /// What may be begun now.
    pub(super) fn allowance(&self, now: Now) -> Allowance {
        match &self.down {
            None => Allowance::Full,
            Some(down) if now.steady < down.next_probe => Allowance::None,
            // Impatience alone would never find a line that has become very slow.
            Some(down) if down.probes.is_multiple_of(PATIENT_PROBE) => Allowance::Probe(Patience::Ordinary),
            Some(_) => Allowance::Probe(Patience::Probe),
        }
    }

    /// How many outages there have been.
    pub(super) fn outages(&self) -> u64 {
        self.outages
    }

    /// When the next probe is due.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.down.as_ref().map(|down| down.next_probe)
    }

    /// An object was stored.
    pub(super) fn succeeded(&mut self, now: Now) -> News {
        self.in_a_row = 0;
        self.down.take().map_or(News::None, |down| News::Up(now.steady.duration_since(down.since_steady)))
    }

    /// A request failed; `own` where other files have been stored since this one failed first.
    pub(super) fn failed(&mut self, refusal: &Refusal, own: bool, jitter: f64, now: Now) -> News {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.down.is_none() && own && self.in_a_row < FAILURES_IN_A_ROW {
            return News::None;
        }
        let longest = if refusal.verdict == Verdict::NeedsOperator { OPERATOR_PROBE } else { OUTAGE_PROBE };
        let Some(down) = &mut self.down else {
            self.outages += 1;
            self.down = Some(Down {
                since: now.wall,
                refusal: refusal.clone(),
                since_steady: now.steady,
                probes: 1,
                next_probe: now.steady + backoff(1, FIRST_PROBE, longest, jitter),
                said: now.steady,
            });
            return News::Down;
        };
        // Uploads that were under way when it went down are no probes.
        if now.steady >= down.next_probe {
            down.probes += 1;
            down.next_probe = now.steady + backoff(down.probes, FIRST_PROBE, longest, jitter);
        }
        let same = (down.refusal.verdict, &down.refusal.code) == (refusal.verdict, &refusal.code);
        down.refusal = refusal.clone();
        if !same {
            down.said = now.steady;
            return News::Down;
        }
        if now.steady.duration_since(down.said) < REMINDER {
            return News::None;
        }
        down.said = now.steady;
        News::StillDown(now.steady.duration_since(down.since_steady))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(verdict: Verdict) -> Refusal {
        Refusal { verdict, code: None, reason: "refused".into(), advice: String::new() }
    }

    fn later(now: Now, seconds: u64) -> Now {
        let by = Duration::from_secs(seconds);
        Now { steady: now.steady + by, wall: now.wall + by }
    }

    fn start() -> Now {
        #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
        Now { steady: Instant::now(), wall: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn while_down_there_is_one_probe_at_a_time_and_the_log_is_quiet() {
        let (mut link, refusal) = (Link::default(), refusal(Verdict::TryLater));
        let mut now = start();
        let mut said = Vec::new();
        let mut probes = 0;
        for _ in 0..300 {
            if link.allowance(now) != Allowance::None {
                assert_eq!(link.allowance(now) == Allowance::Full, probes == 0);
                probes += 1;
                said.push(link.failed(&refusal, false, 0.0, now));
            }
            now = later(now, 1);
        }
        assert!((58..70).contains(&probes), "{probes} probes in five minutes");
        assert_eq!(said[0], News::Down);
        assert!(said.iter().filter(|news| matches!(news, News::StillDown(_))).count() <= 5);
        assert_eq!(link.succeeded(now), News::Up(Duration::from_mins(5)));
        assert_eq!(link.allowance(now), Allowance::Full);
        assert_eq!(link.outages(), 1);
    }

    #[test]
    fn one_poisoned_file_does_not_take_the_link_down_but_three_files_in_a_row_do() {
        let (mut link, refusal, now) = (Link::default(), refusal(Verdict::TryLater), start());
        for _ in 0..9 {
            assert_eq!(link.failed(&refusal, true, 0.0, now), News::None);
            link.succeeded(now);
        }
        let news: Vec<News> = (0..3).map(|_| link.failed(&refusal, true, 0.0, now)).collect();
        assert_eq!(news, [News::None, News::None, News::Down]);
    }

    #[test]
    fn what_needs_the_operator_is_said_when_it_turns_up() {
        let (mut link, now) = (Link::default(), start());
        assert_eq!(link.failed(&refusal(Verdict::TryLater), false, 0.0, now), News::Down);
        assert_eq!(link.failed(&refusal(Verdict::NeedsOperator), false, 0.0, now), News::Down);
        assert_eq!(link.failed(&refusal(Verdict::NeedsOperator), false, 0.0, now), News::None);
    }
}
