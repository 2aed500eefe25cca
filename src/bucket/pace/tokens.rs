//! The token bucket behind the pace: which waiting body may send how much, as a pure function of the time.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::Precedence;
use crate::config::UploadSettings;

/// The most bytes of one grant, unless there is no limit: an eighth of a second at 512 KiB/s.
pub(super) const MOST_PIECE_BYTES: u64 = 64 * 1024;

/// The fewest bytes of one grant, unless a body wants fewer.
const LEAST_PIECE_BYTES: u64 = 256;

/// The grants of a second, as long as pieces stay within their bounds; more if more bodies wait.
const PIECES_A_SECOND: usize = 16;

/// How long unused credit lasts: late timers lose nothing, and any minute stays within 2.5 % of the limit.
const BURST: Duration = Duration::from_millis(1500);

const NANOS: u128 = 1_000_000_000;

/// A body's place among those that wait; the greatest one is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BodyRank {
    pub(super) precedence: Precedence,
    /// The body's number, in the order of arrival.
    pub(super) number: u64,
}

/// Credit that grows at a rate, and the bodies that wait for it.
#[derive(Debug)]
pub(super) struct TokenBucket {
    /// Bytes per second; `None` means no limit.
    rate: Option<u64>,
    /// What may be sent now, in billionths of a byte.
    credit: u128,
    /// The moment up to which `credit` is counted.
    at: Instant,
    pub(super) waiting: BTreeMap<BodyRank, WaitingBody>,
    /// The bytes that were granted and not taken yet.
    pub(super) granted: HashMap<BodyRank, u64>,
    /// The number of grants so far.
    grants: u64,
}

#[derive(Debug)]
pub(super) struct WaitingBody {
    want: u64,
    /// The number of grants when it began to wait.
    since: u64,
}

impl TokenBucket {
    /// Returns a bucket without a limit.
    pub(super) fn new(now: Instant) -> Self {
        Self { rate: None, credit: 0, at: now, waiting: BTreeMap::new(), granted: HashMap::new(), grants: 0 }
    }

    /// Sets the bytes per second from `now` on; `None` means no limit.
    pub(super) fn set_rate(&mut self, rate: Option<u64>, now: Instant) {
        self.fill(now);
        if self.rate != rate {
            self.rate = rate;
            self.credit = self.credit.min(self.most());
        }
    }

    fn most(&self) -> u128 {
        u128::from(self.rate.unwrap_or(0)) * BURST.as_nanos()
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_nanos();
        self.at = self.at.max(now);
        self.credit = (self.credit + u128::from(self.rate.unwrap_or(0)) * elapsed).min(self.most());
    }

    /// Lets a body wait for bytes; one that waits already, or has a grant, keeps its place.
    pub(super) fn ask(&mut self, rank: BodyRank, want: u64) {
        if !self.granted.contains_key(&rank) {
            let since = self.grants;
            self.waiting.entry(rank).or_insert(WaitingBody { want, since });
        }
    }

    /// Returns the bytes that a body was granted, once.
    pub(super) fn take(&mut self, rank: BodyRank) -> Option<u64> {
        self.granted.remove(&rank)
    }

    /// Forgets a body, and takes back what it was granted and has not taken.
    pub(super) fn leave(&mut self, rank: BodyRank) {
        self.waiting.remove(&rank);
        if let (Some(bytes), Some(_)) = (self.granted.remove(&rank), self.rate) {
            self.credit = (self.credit + u128::from(bytes) * NANOS).min(self.most());
        }
    }

    /// Grants as much as the credit allows, and returns whom.
    pub(super) fn serve(&mut self, now: Instant) -> Vec<BodyRank> {
        self.fill(now);
        let mut served = Vec::new();
        while let Some((rank, bytes)) = self.next() {
            let cost = u128::from(bytes) * NANOS;
            if self.rate.is_some() {
                let Some(rest) = self.credit.checked_sub(cost) else { break };
                self.credit = rest;
            }
            self.grants += 1;
            self.waiting.remove(&rank);
            self.granted.insert(rank, bytes);
            served.push(rank);
        }
        served
    }

    /// Returns who is granted bytes next, and how many.
    fn next(&self) -> Option<(BodyRank, u64)> {
        let backlog = (self.grants + 1).is_multiple_of(u64::from(UploadSettings::BACKLOG_TURN));
        let longest = || self.waiting.iter().min_by_key(|(_, waiting)| waiting.since);
        let (rank, waiting) = if backlog { longest() } else { self.waiting.last_key_value() }?;
        let pieces = u64::try_from(self.waiting.len().max(PIECES_A_SECOND)).unwrap_or(u64::MAX);
        let piece = self.rate.map_or(u64::MAX, |rate| (rate / pieces).clamp(LEAST_PIECE_BYTES, MOST_PIECE_BYTES));
        Some((*rank, piece.min(waiting.want)))
    }

    /// Returns the time from the last [`TokenBucket::serve`] to the next grant.
    pub(super) fn wait(&self) -> Duration {
        let (Some((_, bytes)), Some(rate)) = (self.next(), self.rate) else { return Duration::ZERO };
        let lacks = (u128::from(bytes) * NANOS).saturating_sub(self.credit);
        Duration::from_nanos(u64::try_from(lacks.div_ceil(u128::from(rate.max(1)))).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
        Instant::now()
    }

    /// Returns the rank of a capture that was taken `number` seconds after the epoch: the greater, the newer.
    fn capture(number: u64) -> BodyRank {
        let taken = SystemTime::UNIX_EPOCH + Duration::from_secs(number);
        BodyRank { precedence: Precedence::Capture(taken), number }
    }

    fn limited(rate: u64, now: Instant) -> TokenBucket {
        let mut tokens = TokenBucket::new(now);
        tokens.set_rate(Some(rate), now);
        tokens
    }

    #[test]
    fn i7_the_newest_capture_gets_three_grants_of_four_and_the_others_take_turns_at_the_fourth() {
        let now = start();
        let mut tokens = limited(1 << 20, now);
        let mut turns = Vec::new();
        for piece in 1..=16 {
            for number in [1, 2, 3] {
                tokens.ask(capture(number), 1 << 20);
            }
            for rank in tokens.serve(now + Duration::from_secs(1) / 16 * piece) {
                assert_eq!(tokens.take(rank), Some(MOST_PIECE_BYTES));
                turns.push(rank.number);
            }
        }
        assert_eq!(turns, [3, 3, 3, 1, 3, 3, 3, 2, 3, 3, 3, 1, 3, 3, 3, 2]);
    }

    #[test]
    fn without_a_limit_everything_is_granted_at_once() {
        let now = start();
        let mut tokens = TokenBucket::new(now);
        tokens.ask(capture(1), 1 << 30);
        assert_eq!(tokens.serve(now), [capture(1)]);
        assert_eq!(tokens.take(capture(1)), Some(1 << 30));
        assert_eq!(tokens.take(capture(1)), None);
    }

    #[test]
    fn a_limit_begins_without_credit_and_what_is_not_sent_is_given_back() {
        let now = start();
        let mut tokens = TokenBucket::new(now);
        tokens.set_rate(Some(64 * 1024), now + Duration::from_hours(9));
        let now = now + Duration::from_hours(9);
        tokens.ask(capture(1), 1 << 20);
        assert_eq!(tokens.serve(now), []);
        assert_eq!(tokens.wait(), Duration::from_micros(62_500));
        let now = now + tokens.wait();
        assert_eq!(tokens.serve(now), [capture(1)]);
        tokens.leave(capture(1));
        tokens.ask(capture(2), 1 << 20);
        assert_eq!(tokens.serve(now), [capture(2)]);
    }

    #[test]
    fn nobody_waits_for_so_long_that_s3_hangs_up() {
        for (rate, bodies) in [(1024, 8), (16 << 10, 64), (512 << 10, 8), (1 << 20, 256)] {
            let begin = start();
            let mut tokens = limited(rate, begin);
            let (mut now, mut last) = (begin, HashMap::new());
            (0..bodies).for_each(|number| tokens.ask(capture(number), 1 << 30));
            while now < begin + Duration::from_secs(40) {
                for rank in tokens.serve(now) {
                    tokens.take(rank);
                    tokens.ask(rank, 1 << 30);
                    let waited = now - last.insert(rank, now).unwrap_or(begin);
                    assert!(waited < Duration::from_secs(10), "{waited:?} at {rate} with {bodies}");
                }
                now += tokens.wait();
            }
            assert_eq!(last.len() as u64, bodies);
        }
    }

    #[test]
    fn an_idle_night_gives_no_more_than_one_burst() {
        let now = start();
        let mut tokens = limited(64 * 1024, now);
        let morning = now + Duration::from_hours(9);
        let mut granted = 0;
        loop {
            tokens.ask(capture(1), 1 << 20);
            if tokens.serve(morning).is_empty() {
                break;
            }
            granted += tokens.take(capture(1)).unwrap();
        }
        assert_eq!(granted, 96 * 1024);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// While bodies wait, any minute carries the limit, no more and hardly less, whatever they ask for and however
        /// late the timers are.
        #[test]
        fn any_minute_carries_the_limit(
            rate in prop_oneof![1024_u64..4096, 50_000_u64..300_000],
            wants in proptest::collection::vec(prop_oneof![500_u64..2_000, 30_000_u64..300_000, 200_000_000_u64..300_000_000], 1..12),
            late in proptest::collection::vec(0_u64..200, 1..40),
        ) {
            let begin = start();
            let mut tokens = limited(rate, begin);
            let mut sent: Vec<(Duration, u64)> = Vec::new();
            let (mut at, mut asked) = (Duration::ZERO, 0);
            let (end, minute) = (Duration::from_secs(90), Duration::from_mins(1));
            let mut rests: HashMap<u64, u64> = HashMap::new();
            for step in 0.. {
                // Another upload follows each one that is done.
                for want in wants.iter().cycle().skip(step).take(wants.len() - rests.len()) {
                    asked += 1;
                    rests.insert(asked, *want);
                }
                for (number, rest) in &rests {
                    tokens.ask(capture(*number), *rest);
                }
                let served = tokens.serve(begin + at);
                let idle = served.is_empty();
                for rank in served {
                    let bytes = tokens.take(rank).unwrap();
                    prop_assert!(bytes > 0 && bytes <= MOST_PIECE_BYTES);
                    sent.push((at, bytes));
                    let rest = rests.get_mut(&rank.number).unwrap();
                    *rest -= bytes;
                    if *rest == 0 { rests.remove(&rank.number); }
                }
                if at >= end { break; }
                if idle {
                    at += tokens.wait() + Duration::from_millis(late[step % late.len()]);
                }
            }
            for from in [0, 13, 29].map(Duration::from_secs) {
                let inside = sent.iter().filter(|(at, _)| *at >= from && *at < from + minute);
                let bytes: u64 = inside.map(|(_, bytes)| *bytes).sum();
                let full = rate * minute.as_secs();
                prop_assert!(bytes <= full / 100 * 105 && bytes >= full / 100 * 95, "{bytes} of {full} from {from:?}");
            }
        }
    }
}
