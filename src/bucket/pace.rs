//! The pace of uploads: `upload.bandwidth`, shared by all request bodies, retries included.
//!
//! A token bucket hands out small pieces, to the newest capture first and every fourth to whoever has waited longest: so
//! a fresh picture overtakes a clip in mid-flight, and every clip still progresses, because S3 hangs up on a request that
//! sends nothing for some 20 s (`RequestTimeout`). What counts are the bytes of bodies; heads and TLS come on top. The
//! times of a timetable are those of the system's zone, as its clock shows them: on the day it is set back, the hour that
//! comes twice is treated alike both times.
//!
//! What a job sends, such as a bundle, has no capture's age: it waits while anything else is under way, limit or not, but
//! for a trickle that keeps S3 from hanging up.
//!
//! A limit for each upload was rejected: eight of them know nothing of each other. So was a task that hands out: every
//! body that waits is woken by its own timer and serves whoever is first, so that nobody's end can stop the others.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Local, NaiveTime, TimeZone};
use tokio::time::Sleep;

use crate::clock::Now;
use crate::config::{Bandwidth, UploadSettings};

/// The most bytes of one grant: at 512 KiB/s an eighth of a second.
const MOST_PIECE_BYTES: u64 = 64 * 1024;
const LEAST_PIECE_BYTES: u64 = 256;

/// A second carries about so many grants, or one for each body that waits, where that makes no smaller and no larger ones.
const PIECES_A_SECOND: usize = 16;

/// What was not sent may be made up for, for so long: timers may be a second late and nothing is lost, and no minute carries a
/// fortieth too much.
const BURST: Duration = Duration::from_millis(1500);

/// How late a body that waits may learn that the timetable or the configuration has changed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A job's body sends a piece at least so often, however many captures go first: S3 hangs up after some 20 s.
const TRICKLE: Duration = Duration::from_secs(5);

const NANOS: u128 = 1_000_000_000;

/// Who waits: the time of the capture's file, or none for a job, then who asked first.
type Rank = (Option<SystemTime>, u64);

/// How fast all uploads together may send; cloned, it is the same.
#[derive(Debug, Clone)]
pub struct Pace {
    shared: Arc<Mutex<Shared>>,
    clock: fn() -> Now,
}

#[derive(Debug)]
struct Shared {
    bandwidth: Option<Bandwidth>,
    line: Line,
    wakers: HashMap<Rank, Waker>,
    bodies: u64,
    /// Bodies of captures under way.
    captures: u64,
}

impl Pace {
    /// No limit, until [`Pace::set`].
    pub fn new(clock: fn() -> Now) -> Self {
        let line = Line::new(clock().steady);
        let shared = Shared { bandwidth: None, line, wakers: HashMap::new(), bodies: 0, captures: 0 };
        Self { shared: Arc::new(Mutex::new(shared)), clock }
    }

    /// Changes the limit, for bodies in mid-flight too.
    pub fn set(&self, bandwidth: Option<Bandwidth>) {
        let now = (self.clock)();
        let mut shared = self.shared();
        shared.bandwidth = bandwidth;
        shared.serve(now);
    }

    /// A place in the line for the body of a capture of that age, or of a job.
    pub(super) fn enter(&self, age: Option<SystemTime>) -> Turn {
        let mut shared = self.shared();
        shared.bodies += 1;
        shared.captures += u64::from(age.is_some());
        Turn { pace: self.clone(), rank: (age, shared.bodies), timer: None, held_since: None }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // Every change below is whole before anything can panic.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Hands out what there is, by the limit that holds now.
    fn serve(&mut self, now: Now) {
        let limit = self.bandwidth.as_ref().and_then(|bandwidth| limit_at(bandwidth, &Local, now.wall));
        self.line.set_rate(limit, now.steady);
        for rank in self.line.serve(now.steady) {
            if let Some(waker) = self.wakers.remove(&rank) {
                waker.wake();
            }
        }
    }
}

/// A body's place in the line; it is left by dropping it.
#[derive(Debug)]
pub(super) struct Turn {
    pace: Pace,
    rank: Rank,
    timer: Option<Pin<Box<Sleep>>>,
    /// Since when a job's body lets captures go first.
    held_since: Option<Instant>,
}

impl Turn {
    /// How many bytes may be sent now, of `want`: at least one.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, want: u64) -> Poll<u64> {
        loop {
            let now = (self.pace.clock)();
            let pause = {
                let mut shared = self.pace.shared();
                let held = self.rank.0.is_none() && shared.captures > 0;
                let since = if held { *self.held_since.get_or_insert(now.steady) } else { now.steady };
                let waited = now.steady.saturating_duration_since(since);
                let rest = TRICKLE.saturating_sub(waited);
                let pause = if held && !rest.is_zero() {
                    rest
                } else {
                    shared.line.ask(self.rank, if held { want.min(MOST_PIECE_BYTES) } else { want });
                    shared.serve(now);
                    if let Some(bytes) = shared.line.take(self.rank) {
                        (self.timer, self.held_since) = (None, None);
                        return Poll::Ready(bytes);
                    }
                    shared.line.wait()
                };
                shared.wakers.insert(self.rank, context.waker().clone());
                pause.min(LOOK_AGAIN)
            };
            let timer = self.timer.insert(Box::pin(tokio::time::sleep(pause)));
            ready!(timer.as_mut().poll(context));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut shared = self.pace.shared();
        shared.wakers.remove(&self.rank);
        shared.line.leave(self.rank);
        shared.captures -= u64::from(self.rank.0.is_some());
        if shared.captures == 0 {
            // Jobs go on.
            shared.wakers.extract_if(|rank, _| rank.0.is_none()).for_each(|(_, waker)| waker.wake());
        }
    }
}

/// The limit at a moment, in bytes a second; `None`: none.
fn limit_at<Z: TimeZone>(bandwidth: &Bandwidth, zone: &Z, wall: SystemTime) -> Option<u64> {
    match bandwidth {
        Bandwidth::Always(limit) => Some(*limit),
        Bandwidth::Timetable(changes) => {
            let time: NaiveTime = DateTime::<chrono::Utc>::from(wall).with_timezone(zone).time();
            // Before the first change of a day the last one of the day before holds.
            changes.iter().rfind(|change| change.from <= time).or(changes.last())?.limit
        }
    }
}

/// A token bucket and who waits for it; pure.
#[derive(Debug)]
struct Line {
    /// Bytes a second; `None`: no limit.
    rate: Option<u64>,
    /// What may be sent at once, in billionths of a byte.
    credit: u128,
    /// The moment up to which `credit` counts.
    at: Instant,
    waiting: BTreeMap<Rank, Waiting>,
    granted: HashMap<Rank, u64>,
    turn: u64,
}

#[derive(Debug)]
struct Waiting {
    want: u64,
    /// The turn at which it began to wait.
    since: u64,
}

impl Line {
    fn new(now: Instant) -> Self {
        Self { rate: None, credit: 0, at: now, waiting: BTreeMap::new(), granted: HashMap::new(), turn: 0 }
    }

    fn set_rate(&mut self, rate: Option<u64>, now: Instant) {
        self.fill(now);
        if self.rate != rate {
            self.rate = rate;
            self.credit = self.credit.min(self.most());
        }
    }

    /// The most credit.
    fn most(&self) -> u128 {
        u128::from(self.rate.unwrap_or(0)) * BURST.as_nanos()
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_nanos();
        self.at = self.at.max(now);
        self.credit = (self.credit + u128::from(self.rate.unwrap_or(0)) * elapsed).min(self.most());
    }

    /// Joins the line, or stays in it.
    fn ask(&mut self, rank: Rank, want: u64) {
        if !self.granted.contains_key(&rank) {
            let since = self.turn;
            self.waiting.entry(rank).or_insert(Waiting { want, since });
        }
    }

    /// What was granted, once.
    fn take(&mut self, rank: Rank) -> Option<u64> {
        self.granted.remove(&rank)
    }

    fn leave(&mut self, rank: Rank) {
        self.waiting.remove(&rank);
        if let (Some(bytes), Some(_)) = (self.granted.remove(&rank), self.rate) {
            // It is not sent.
            self.credit = (self.credit + u128::from(bytes) * NANOS).min(self.most());
        }
    }

    /// Grants what can be granted, and says to whom.
    fn serve(&mut self, now: Instant) -> Vec<Rank> {
        self.fill(now);
        let mut served = Vec::new();
        while let Some((rank, bytes)) = self.next() {
            let cost = u128::from(bytes) * NANOS;
            if self.rate.is_some() {
                let Some(rest) = self.credit.checked_sub(cost) else { break };
                self.credit = rest;
            }
            self.turn += 1;
            self.waiting.remove(&rank);
            self.granted.insert(rank, bytes);
            served.push(rank);
        }
        served
    }

    /// Whose turn it is, and how many bytes they get.
    fn next(&self) -> Option<(Rank, u64)> {
        let backlog = (self.turn + 1).is_multiple_of(u64::from(UploadSettings::BACKLOG_TURN));
        let longest = || self.waiting.iter().min_by_key(|(_, waiting)| waiting.since);
        let (rank, waiting) = if backlog { longest() } else { self.waiting.last_key_value() }?;
        let pieces = u64::try_from(self.waiting.len().max(PIECES_A_SECOND)).unwrap_or(u64::MAX);
        let piece = self.rate.map_or(u64::MAX, |rate| (rate / pieces).clamp(LEAST_PIECE_BYTES, MOST_PIECE_BYTES));
        Some((*rank, piece.min(waiting.want)))
    }

    /// How long until the next grant, as of the last [`Line::serve`].
    fn wait(&self) -> Duration {
        let (Some((_, bytes)), Some(rate)) = (self.next(), self.rate) else { return Duration::ZERO };
        let lacks = (u128::from(bytes) * NANOS).saturating_sub(self.credit);
        Duration::from_nanos(u64::try_from(lacks.div_ceil(u128::from(rate.max(1)))).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::Europe::Kyiv;
    use proptest::prelude::*;

    use crate::config::BandwidthChange;

    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
        Instant::now()
    }

    /// The capture that is `number`th by age, the oldest first.
    fn capture(number: u64) -> Rank {
        (Some(SystemTime::UNIX_EPOCH + Duration::from_secs(number)), number)
    }

    fn limited(rate: u64, now: Instant) -> Line {
        let mut line = Line::new(now);
        line.set_rate(Some(rate), now);
        line
    }

    #[test]
    fn i7_the_newest_capture_gets_three_grants_of_four_and_the_others_take_turns_at_the_fourth() {
        let now = start();
        let mut line = limited(1 << 20, now);
        let mut turns = Vec::new();
        for piece in 1..=16 {
            for number in [1, 2, 3] {
                line.ask(capture(number), 1 << 20);
            }
            for rank in line.serve(now + Duration::from_secs(1) / 16 * piece) {
                assert_eq!(line.take(rank), Some(MOST_PIECE_BYTES));
                turns.push(rank.1);
            }
        }
        assert_eq!(turns, [3, 3, 3, 1, 3, 3, 3, 2, 3, 3, 3, 1, 3, 3, 3, 2]);
    }

    #[test]
    fn without_a_limit_everything_is_granted_at_once() {
        let now = start();
        let mut line = Line::new(now);
        line.ask(capture(1), 1 << 30);
        assert_eq!(line.serve(now), [capture(1)]);
        assert_eq!(line.take(capture(1)), Some(1 << 30));
        assert_eq!(line.take(capture(1)), None);
    }

    #[test]
    fn a_limit_begins_without_credit_and_what_is_not_sent_is_given_back() {
        let now = start();
        let mut line = Line::new(now);
        line.set_rate(Some(64 * 1024), now + Duration::from_hours(9));
        let now = now + Duration::from_hours(9);
        line.ask(capture(1), 1 << 20);
        assert_eq!(line.serve(now), []);
        assert_eq!(line.wait(), Duration::from_micros(62_500));
        let now = now + line.wait();
        assert_eq!(line.serve(now), [capture(1)]);
        line.leave(capture(1));
        line.ask(capture(2), 1 << 20);
        assert_eq!(line.serve(now), [capture(2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn i7_a_job_lets_captures_go_first_but_for_a_trickle() {
        let begin = stopped_clock().steady;
        let elapsed = || stopped_clock().steady - begin;
        let pace = Pace::new(stopped_clock);
        let mut job = pace.enter(None);
        let mut ask = async |want: u64| std::future::poll_fn(|context| job.poll(context, want)).await;
        assert_eq!((ask(1 << 20).await, elapsed()), (1 << 20, Duration::ZERO), "nothing else is under way");
        let capture = pace.enter(Some(SystemTime::UNIX_EPOCH));
        assert_eq!(ask(1 << 20).await, MOST_PIECE_BYTES);
        assert_eq!(elapsed(), TRICKLE);
        drop(capture);
        assert_eq!((ask(1 << 20).await, elapsed()), (1 << 20, TRICKLE));
    }

    #[test]
    fn nobody_waits_for_so_long_that_s3_hangs_up() {
        for (rate, bodies) in [(1024, 8), (16 << 10, 64), (512 << 10, 8), (1 << 20, 256)] {
            let begin = start();
            let mut line = limited(rate, begin);
            let (mut now, mut last) = (begin, HashMap::new());
            (0..bodies).for_each(|number| line.ask(capture(number), 1 << 30));
            while now < begin + Duration::from_secs(40) {
                for rank in line.serve(now) {
                    line.take(rank);
                    line.ask(rank, 1 << 30);
                    let waited = now - last.insert(rank, now).unwrap_or(begin);
                    assert!(waited < Duration::from_secs(10), "{waited:?} at {rate} with {bodies}");
                }
                now += line.wait();
            }
            assert_eq!(last.len() as u64, bodies);
        }
    }

    #[test]
    fn an_idle_night_gives_no_more_than_one_burst() {
        let now = start();
        let mut line = limited(64 * 1024, now);
        let morning = now + Duration::from_hours(9);
        let mut granted = 0;
        loop {
            line.ask(capture(1), 1 << 20);
            if line.serve(morning).is_empty() {
                break;
            }
            granted += line.take(capture(1)).unwrap();
        }
        assert_eq!(granted, 96 * 1024);
    }

    fn at(text: &str) -> SystemTime {
        DateTime::parse_from_rfc3339(text).unwrap().into()
    }

    fn timetable(changes: &[(u32, u32, Option<u64>)]) -> Bandwidth {
        let change = |(hour, minute, limit): &(u32, u32, Option<u64>)| BandwidthChange {
            from: NaiveTime::from_hms_opt(*hour, *minute, 0).unwrap(),
            limit: *limit,
        };
        Bandwidth::Timetable(changes.iter().map(change).collect())
    }

    #[test]
    fn a_timetable_goes_by_the_clock_on_the_wall_also_when_that_is_changed() {
        let day = timetable(&[(8, 0, Some(5)), (23, 0, None)]);
        // Kyiv sets its clocks on 2026-03-29 from 3 to 4 and on 2026-10-25 from 4 back to 3.
        let night = timetable(&[(3, 30, Some(7)), (5, 0, Some(9))]);
        for (bandwidth, moment, limit) in [
            (&day, "2026-02-24T07:59:59+02:00", None),
            (&day, "2026-02-24T08:00:00+02:00", Some(5)),
            (&day, "2026-02-24T22:59:59+02:00", Some(5)),
            (&day, "2026-02-24T23:00:00+02:00", None),
            (&day, "2026-02-25T00:00:00+02:00", None),
            (&day, "2026-03-29T07:59:59+03:00", None),
            (&day, "2026-03-29T08:00:00+03:00", Some(5)),
            (&day, "2026-10-25T07:59:59+02:00", None),
            (&day, "2026-10-25T08:00:00+02:00", Some(5)),
            // 3:30 does not come on that day: its limit begins with what comes instead.
            (&night, "2026-03-29T02:59:59+02:00", Some(9)),
            (&night, "2026-03-29T04:00:00+03:00", Some(7)),
            (&night, "2026-03-29T05:00:00+03:00", Some(9)),
            (&night, "2026-10-25T03:29:59+03:00", Some(9)),
            (&night, "2026-10-25T03:30:00+03:00", Some(7)),
            (&night, "2026-10-25T03:29:59+02:00", Some(9)),
            (&night, "2026-10-25T03:30:00+02:00", Some(7)),
            (&night, "2026-10-25T05:00:00+02:00", Some(9)),
        ] {
            assert_eq!(limit_at(bandwidth, &Kyiv, at(moment)), limit, "{moment}");
        }
        assert_eq!(limit_at(&Bandwidth::Always(3), &Kyiv, at("2026-02-24T07:59:59+02:00")), Some(3));
    }

    /// Both clocks as tokio's, which stands still but for sleeping; the wall stands at a quarter to nine, local time.
    #[expect(clippy::disallowed_methods, reason = "the time is tokio's, and stands still")]
    fn stopped_clock() -> Now {
        static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let steady = tokio::time::Instant::now().into_std();
        let morning = Local.with_ymd_and_hms(2026, 2, 24, 8, 45, 0).unwrap();
        Now { steady, wall: SystemTime::from(morning) + (steady - *BEGIN.get_or_init(|| steady)) }
    }

    async fn send(turn: &mut Turn, mut bytes: u64) {
        while bytes > 0 {
            bytes -= std::future::poll_fn(|context| turn.poll(context, bytes)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_in_mid_flight_follows_the_timetable_and_a_new_limit_at_once() {
        let begin = stopped_clock().steady;
        let elapsed = || (stopped_clock().steady - begin).as_secs();
        let pace = Pace::new(stopped_clock);
        pace.set(Some(timetable(&[(8, 0, Some(1024)), (8, 46, None), (9, 0, Some(2048))])));
        let mut turn = pace.enter(Some(SystemTime::UNIX_EPOCH));
        send(&mut turn, 1 << 30).await;
        assert!((60..=61).contains(&elapsed()), "{} s", elapsed());

        pace.set(Some(Bandwidth::Always(1024)));
        let faster = async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            pace.set(Some(Bandwidth::Always(1 << 20)));
        };
        let before = elapsed();
        tokio::join!(send(&mut turn, 5 << 20), faster);
        assert!((14..=16).contains(&(elapsed() - before)), "{} s", elapsed() - before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_dropped_holds_nobody_up() {
        let pace = Pace::new(stopped_clock);
        pace.set(Some(Bandwidth::Always(1024)));
        let mut dropped = pace.enter(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(9)));
        let asked = std::future::poll_fn(|context| Poll::Ready(dropped.poll(context, 1 << 20))).await;
        assert_eq!(asked, Poll::Pending);
        drop(dropped);
        let begin = stopped_clock().steady;
        send(&mut pace.enter(Some(SystemTime::UNIX_EPOCH)), 10 * 1024).await;
        assert!((9..=10).contains(&(stopped_clock().steady - begin).as_secs()));
        let shared = pace.shared();
        assert!(shared.wakers.is_empty() && shared.line.waiting.is_empty() && shared.line.granted.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Whatever is asked and however late the timers are, any minute carries the limit: no more, and hardly less
        /// while somebody waits.
        #[test]
        fn any_minute_carries_the_limit(
            rate in prop_oneof![1024_u64..4096, 50_000_u64..300_000],
            wants in proptest::collection::vec(prop_oneof![500_u64..2_000, 30_000_u64..300_000, 200_000_000_u64..300_000_000], 1..12),
            late in proptest::collection::vec(0_u64..200, 1..40),
        ) {
            let begin = start();
            let mut line = limited(rate, begin);
            let mut sent: Vec<(Duration, u64)> = Vec::new();
            let (mut at, mut asked) = (Duration::ZERO, 0);
            let (end, minute) = (Duration::from_secs(90), Duration::from_mins(1));
            let mut rests: HashMap<u64, u64> = HashMap::new();
            for step in 0.. {
                // Every upload that is done is followed by the next.
                for want in wants.iter().cycle().skip(step).take(wants.len() - rests.len()) {
                    asked += 1;
                    rests.insert(asked, *want);
                }
                for (number, rest) in &rests {
                    line.ask(capture(*number), *rest);
                }
                let served = line.serve(begin + at);
                let idle = served.is_empty();
                for rank in served {
                    let bytes = line.take(rank).unwrap();
                    prop_assert!(bytes > 0 && bytes <= MOST_PIECE_BYTES);
                    sent.push((at, bytes));
                    let rest = rests.get_mut(&rank.1).unwrap();
                    *rest -= bytes;
                    if *rest == 0 { rests.remove(&rank.1); }
                }
                if at >= end { break; }
                if idle {
                    at += line.wait() + Duration::from_millis(late[step % late.len()]);
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
