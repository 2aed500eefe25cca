//! The pace of uploads: `upload.bandwidth`, shared by all request bodies, retries included.
//!
//! A token bucket grants small pieces: three of four to the newest capture, the fourth to the body that has waited
//! longest. So a fresh picture overtakes a clip in the middle of its upload, and every clip still makes progress: S3
//! hangs up on a request that sends nothing for some 20 s (`RequestTimeout`). The limit counts the bytes of bodies;
//! headers and TLS come on top. The times of a timetable are the system's local time. When the clock is set back, the
//! limits of the repeated hour apply twice.
//!
//! The body of a job, such as a bundle, waits while any capture goes up, with or without a limit. It only sends a
//! trickle, so that S3 does not hang up.
//!
//! A limit for each upload was rejected: eight uploads know nothing of each other. So was a task that grants the
//! pieces: its failure would stop all uploads. Instead, each waiting body is woken by a timer of its own and serves
//! whoever is first.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Local, NaiveTime, TimeZone};
use tokio::time::Sleep;

use super::turn::NamesInWork;
use crate::clock::Now;
use crate::config::Bandwidth;

mod tokens;

use tokens::{BodyRank, MOST_PIECE_BYTES, TokenBucket};

/// How late a waiting body may learn of a new limit, from the timetable or from the configuration.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long a job's body may be held up by captures before it sends a piece: S3 hangs up after some 20 s.
const TRICKLE: Duration = Duration::from_secs(5);

/// Which uploads go first; a greater one goes before a smaller one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Precedence {
    /// Work of a job, such as a bundle: all captures go first.
    Job,
    /// A capture whose file was last changed at this time: the newest capture goes first.
    Capture(SystemTime),
}

/// The state that all uploads of a process share: how fast they may send together, and which names they work on.
///
/// Clones share the state, and each [`Bucket`](super::Bucket) holds a clone. A reload of the configuration makes a new
/// bucket; the uploads of the old one keep their places and their names.
#[derive(Debug, Clone)]
pub struct Pace {
    state: Arc<Mutex<PaceState>>,
    names: NamesInWork,
    clock: fn() -> Now,
}

#[derive(Debug)]
struct PaceState {
    bandwidth: Option<Bandwidth>,
    tokens: TokenBucket,
    wakers: HashMap<BodyRank, Waker>,
    /// How many bodies there have been.
    bodies: u64,
    /// How many bodies of captures there are now.
    captures: u64,
}

impl Pace {
    /// Returns a pace without a limit, and without names in work.
    pub fn new(clock: fn() -> Now) -> Self {
        let tokens = TokenBucket::new(clock().steady);
        let state = PaceState { bandwidth: None, tokens, wakers: HashMap::new(), bodies: 0, captures: 0 };
        Self { state: Arc::new(Mutex::new(state)), names: NamesInWork::default(), clock }
    }

    /// Sets the limit, also for bodies that are being sent.
    pub fn set(&self, bandwidth: Option<Bandwidth>) {
        let now = (self.clock)();
        let mut state = self.state();
        state.bandwidth = bandwidth;
        state.serve(now);
    }

    /// Returns a place in the queue for a body.
    pub(super) fn enter(&self, precedence: Precedence) -> BodyTurn {
        let mut state = self.state();
        state.bodies += 1;
        state.captures += u64::from(precedence != Precedence::Job);
        let rank = BodyRank { precedence, number: state.bodies };
        BodyTurn { pace: self.clone(), rank, timer: None, held_since: None }
    }

    /// Returns what reads both clocks.
    pub fn clock(&self) -> fn() -> Now {
        self.clock
    }

    /// Shares the names that uploads work on with all processes that have this run-time folder.
    pub fn share_turns(&self, runtime_dir: &Path) {
        self.names.share(runtime_dir);
    }

    /// Returns the names that uploads work on.
    pub(super) fn names(&self) -> &NamesInWork {
        &self.names
    }

    fn state(&self) -> MutexGuard<'_, PaceState> {
        // A panic elsewhere leaves the state whole: every change below is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PaceState {
    /// Grants as many bytes as the limit allows `now`.
    fn serve(&mut self, now: Now) {
        let limit = self.bandwidth.as_ref().and_then(|bandwidth| limit_at(bandwidth, &Local, now.wall));
        self.tokens.set_rate(limit, now.steady);
        for rank in self.tokens.serve(now.steady) {
            if let Some(waker) = self.wakers.remove(&rank) {
                waker.wake();
            }
        }
    }
}

/// A body's place in the queue; dropping it leaves the queue.
#[derive(Debug)]
pub(super) struct BodyTurn {
    pace: Pace,
    rank: BodyRank,
    timer: Option<Pin<Box<Sleep>>>,
    /// Since when captures hold up a job's body.
    held_since: Option<Instant>,
}

impl BodyTurn {
    /// Returns how many of the next `want` bytes may be sent now: at least one.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, want: u64) -> Poll<u64> {
        loop {
            let now = (self.pace.clock)();
            let pause = {
                let mut state = self.pace.state();
                let held = self.is_job() && state.captures > 0;
                let since = if held { *self.held_since.get_or_insert(now.steady) } else { now.steady };
                let waited = now.steady.saturating_duration_since(since);
                let rest = TRICKLE.saturating_sub(waited);
                let pause = if held && !rest.is_zero() {
                    rest
                } else {
                    state.tokens.ask(self.rank, if held { want.min(MOST_PIECE_BYTES) } else { want });
                    state.serve(now);
                    if let Some(bytes) = state.tokens.take(self.rank) {
                        (self.timer, self.held_since) = (None, None);
                        return Poll::Ready(bytes);
                    }
                    state.tokens.wait()
                };
                state.wakers.insert(self.rank, context.waker().clone());
                pause.min(LOOK_AGAIN)
            };
            let timer = self.timer.insert(Box::pin(tokio::time::sleep(pause)));
            ready!(timer.as_mut().poll(context));
        }
    }

    fn is_job(&self) -> bool {
        self.rank.precedence == Precedence::Job
    }
}

impl Drop for BodyTurn {
    fn drop(&mut self) {
        let mut state = self.pace.state();
        state.wakers.remove(&self.rank);
        state.tokens.leave(self.rank);
        state.captures -= u64::from(!self.is_job());
        if state.captures == 0 {
            // Nothing holds up the jobs any more.
            let jobs = state.wakers.extract_if(|rank, _| rank.precedence == Precedence::Job);
            jobs.for_each(|(_, waker)| waker.wake());
        }
    }
}

/// Returns the limit at a moment, in bytes per second; `None` means no limit.
fn limit_at<Z: TimeZone>(bandwidth: &Bandwidth, zone: &Z, wall: SystemTime) -> Option<u64> {
    match bandwidth {
        Bandwidth::Always(limit) => Some(*limit),
        Bandwidth::Timetable(changes) => {
            let time: NaiveTime = DateTime::<chrono::Utc>::from(wall).with_timezone(zone).time();
            // Until the first change of a day, the last change of the day before applies.
            changes.iter().rfind(|change| change.from <= time).or(changes.last())?.limit
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::Europe::Kyiv;

    use crate::config::BandwidthChange;

    use super::*;

    const EPOCH: Precedence = Precedence::Capture(SystemTime::UNIX_EPOCH);

    #[tokio::test(start_paused = true)]
    async fn i7_a_job_lets_captures_go_first_but_for_a_trickle() {
        let begin = stopped_clock().steady;
        let elapsed = || stopped_clock().steady - begin;
        let pace = Pace::new(stopped_clock);
        let mut job = pace.enter(Precedence::Job);
        let mut ask = async |want: u64| std::future::poll_fn(|context| job.poll(context, want)).await;
        assert_eq!((ask(1 << 20).await, elapsed()), (1 << 20, Duration::ZERO), "nothing else is under way");
        let capture = pace.enter(EPOCH);
        assert_eq!(ask(1 << 20).await, MOST_PIECE_BYTES);
        assert_eq!(elapsed(), TRICKLE);
        drop(capture);
        assert_eq!((ask(1 << 20).await, elapsed()), (1 << 20, TRICKLE));
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
            // That day has no 3:30: its limit begins with the time that follows the gap.
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

    /// Returns tokio's time on both clocks, which moves only in sleeps; the wall clock begins at 8:45, local time.
    #[expect(clippy::disallowed_methods, reason = "the time is tokio's, and stands still")]
    fn stopped_clock() -> Now {
        static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let steady = tokio::time::Instant::now().into_std();
        let morning = Local.with_ymd_and_hms(2026, 2, 24, 8, 45, 0).unwrap();
        Now { steady, wall: SystemTime::from(morning) + (steady - *BEGIN.get_or_init(|| steady)) }
    }

    async fn send(turn: &mut BodyTurn, mut bytes: u64) {
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
        let mut turn = pace.enter(EPOCH);
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
        let mut dropped = pace.enter(Precedence::Capture(SystemTime::UNIX_EPOCH + Duration::from_secs(9)));
        let asked = std::future::poll_fn(|context| Poll::Ready(dropped.poll(context, 1 << 20))).await;
        assert_eq!(asked, Poll::Pending);
        drop(dropped);
        let begin = stopped_clock().steady;
        send(&mut pace.enter(EPOCH), 10 * 1024).await;
        assert!((9..=10).contains(&(stopped_clock().steady - begin).as_secs()));
        let state = pace.state();
        assert!(state.wakers.is_empty() && state.tokens.waiting.is_empty() && state.tokens.granted.is_empty());
    }
}
