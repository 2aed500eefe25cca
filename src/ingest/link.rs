//! Whether the bucket can be reached: while it can't, one probe at a time instead of a storm.
//!
//! A failure is the link's until others were stored while that file failed. From then on it is the file's own: it says
//! nothing about the link any more, and a folder full of such files takes no link down.

use std::time::{Duration, Instant, SystemTime};

use crate::bucket::{Patience, Refusal, Verdict};
use crate::clock::{Now, backoff};
use crate::queue::OWN_TROUBLE;

/// So many failures in a row mean that it is not the files, though others were stored beside them.
const FAILURES_IN_A_ROW: u32 = 3;

/// A failure that its first probe does not repeat is no outage yet, and nothing is said of it.
const PROBES_OF_AN_OUTAGE: u32 = 2;

const FIRST_PROBE: Duration = Duration::from_secs(1);
/// An outage is probed at least this often, so that full speed is seconds away when it ends.
const OUTAGE_PROBE: Duration = Duration::from_secs(5);
/// What waits for a human need not be asked so often, but whoever has just mended it stands by.
const OPERATOR_PROBE: Duration = Duration::from_secs(10);

/// A capture that has just come is tried at once, or so long after the last failure: what waits may be to blame.
const FRESH_PROBE: Duration = Duration::from_secs(1);

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
    /// What was said last, and when; an outage that comes and goes is not said each time.
    said: Option<(Instant, Verdict, Option<String>)>,
}

/// An outage.
#[derive(Debug, Clone)]
pub(super) struct Down {
    pub(super) since: SystemTime,
    pub(super) refusal: Refusal,
    since_steady: Instant,
    probes: u32,
    next_probe: Instant,
    failed_last: Instant,
    asked_for: bool,
    unanswered: bool,
    said: bool,
}

/// What may be uploaded next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextUpload {
    /// Nothing.
    Wait,
    /// Whatever is next.
    Any,
    /// One file, to see whether the bucket stores again.
    Probe(Patience),
}

/// What is to be said in the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    None,
    /// It is down, or the reason has changed.
    Down,
    /// It is still down.
    StillDown(Duration),
    /// It is up again.
    Up(Duration),
}

impl Link {
    /// What holds uploads back, if something does.
    pub(super) fn down(&self) -> Option<&Down> {
        self.down.as_ref()
    }

    /// What holds uploads back, once a probe has shown that it does.
    pub(super) fn outage(&self) -> Option<&Down> {
        self.down.as_ref().filter(|down| down.probes >= PROBES_OF_AN_OUTAGE)
    }

    /// How often it has gone down.
    pub(super) fn outages(&self) -> u64 {
        self.outages
    }

    /// What may start; a probe only while the link is `idle`. A `newcomer` is a file that nobody has tried yet.
    pub(super) fn turn(&self, idle: bool, newcomer: bool, now: Now) -> NextUpload {
        match (self.next_turn(newcomer), &self.down) {
            (Some(probe), _) if !idle || now.steady < probe => NextUpload::Wait,
            // Impatience alone would never find a line that has become very slow.
            (Some(_), Some(down)) if !down.probes.is_multiple_of(PATIENT_PROBE) => NextUpload::Probe(Patience::Probe),
            (Some(_), _) => NextUpload::Probe(Patience::Ordinary),
            (None, _) => NextUpload::Any,
        }
    }

    /// While it is down: when [`Link::turn`] has something.
    pub(super) fn next_turn(&self, newcomer: bool) -> Option<Instant> {
        let down = self.down.as_ref()?;
        let fresh = down.failed_last + FRESH_PROBE;
        Some(if newcomer || down.unanswered { fresh.min(down.next_probe) } else { down.next_probe })
    }

    /// A probe starts. If its file turns out to say nothing of the bucket, because it is empty or gone or in trouble of its
    /// own, the turn is the next one's.
    pub(super) fn probe_begins(&mut self) {
        if let Some(down) = &mut self.down {
            down.unanswered = true;
        }
    }

    /// When the next probe is due.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.down.as_ref().map(|down| down.next_probe)
    }

    /// Lets a probe start now, or after the one that is `under_way` and may have left too early: somebody says that it is
    /// mended.
    pub(super) fn probe_soon(&mut self, under_way: bool, now: Now) {
        if let Some(down) = &mut self.down {
            down.next_probe = now.steady;
            down.asked_for = under_way;
        }
    }

    /// The settings are new: whether they are better shows at once, and is said again if not.
    pub(super) fn reloaded(&mut self, now: Now) {
        self.probe_soon(false, now);
        self.said = None;
    }

    /// An object was stored.
    pub(super) fn succeeded(&mut self, now: Now) -> News {
        self.in_a_row = 0;
        match self.down.take() {
            Some(down) if down.said => News::Up(now.steady.duration_since(down.since_steady)),
            _ => News::None,
        }
    }

    /// A request failed; `own` is how often this file did so while others were stored.
    pub(super) fn failed(&mut self, refusal: &Refusal, own: u32, jitter: f64, now: Now) -> News {
        if own >= OWN_TROUBLE {
            return News::None;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        let longest = if refusal.verdict == Verdict::NeedsOperator { OPERATOR_PROBE } else { OUTAGE_PROBE };
        let Some(down) = &mut self.down else {
            if own == 0 || self.in_a_row >= FAILURES_IN_A_ROW {
                self.outages += 1;
                self.down = Some(Down {
                    since: now.wall,
                    refusal: refusal.clone(),
                    since_steady: now.steady,
                    probes: 1,
                    next_probe: now.steady + backoff(1, FIRST_PROBE, longest, jitter),
                    failed_last: now.steady,
                    asked_for: false,
                    unanswered: false,
                    said: false,
                });
            }
            return News::None;
        };
        // Uploads that were under way when it went down are no probes.
        let fresh = now.steady.duration_since(down.failed_last) >= FRESH_PROBE;
        if now.steady >= down.next_probe || fresh {
            down.probes += 1;
            down.next_probe = now.steady + backoff(down.probes, FIRST_PROBE, longest, jitter);
        }
        if std::mem::take(&mut down.asked_for) {
            down.next_probe = now.steady;
        }
        (down.failed_last, down.unanswered) = (now.steady, false);
        down.refusal = refusal.clone();
        if down.probes < PROBES_OF_AN_OUTAGE {
            return News::None;
        }
        let changed = match &self.said {
            None => true,
            Some((_, verdict, code)) => {
                refusal.verdict == Verdict::NeedsOperator && (*verdict, code) != (refusal.verdict, &refusal.code)
            }
        };
        if !changed && self.said.as_ref().is_some_and(|(at, ..)| now.steady.duration_since(*at) < REMINDER) {
            return News::None;
        }
        self.said = Some((now.steady, refusal.verdict, refusal.code.clone()));
        if std::mem::replace(&mut down.said, true) && !changed {
            News::StillDown(now.steady.duration_since(down.since_steady))
        } else {
            News::Down
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(verdict: Verdict, code: &str) -> Refusal {
        Refusal { verdict, code: Some(code.into()), reason: "refused".into(), advice: String::new() }
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
        let (mut link, refusal) = (Link::default(), refusal(Verdict::TryLater, "SlowDown"));
        let mut now = start();
        let (mut said, mut patient) = (Vec::new(), 0);
        for _ in 0..300 {
            assert_eq!(link.turn(false, false, now) == NextUpload::Any, link.down().is_none());
            if link.turn(true, false, now) != NextUpload::Wait {
                patient += i32::from(link.turn(true, false, now) == NextUpload::Probe(Patience::Ordinary));
                said.push(link.failed(&refusal, 0, 0.0, now));
            }
            now = later(now, 1);
        }
        assert!((58..70).contains(&said.len()), "{} probes in five minutes", said.len());
        assert!((14..=17).contains(&patient), "{patient} of {} would find a very slow line", said.len());
        assert_eq!(said[..2], [News::None, News::Down], "said once a probe has confirmed it");
        let reminders = said.iter().filter(|news| matches!(news, News::StillDown(_))).count();
        assert!((3..=5).contains(&reminders), "{reminders}");
        assert_eq!(said.iter().filter(|news| **news == News::Down).count(), 1);
        assert_eq!(link.succeeded(now), News::Up(Duration::from_mins(5)));
        assert_eq!(link.turn(false, false, now), NextUpload::Any);
        assert_eq!(link.outages(), 1);
    }

    #[test]
    fn a_capture_that_comes_while_it_is_down_is_tried_at_once_but_not_in_a_storm() {
        let (mut link, refusal, mut now) = (Link::default(), refusal(Verdict::NeedsOperator, "x"), start());
        for _ in 0..20 {
            link.failed(&refusal, 0, 0.0, now);
            now = later(now, 10);
        }
        link.failed(&refusal, 0, 0.0, now);
        let soon = later(now, 2);
        assert_eq!(link.turn(true, false, soon), NextUpload::Wait);
        assert_eq!(link.turn(true, true, soon), NextUpload::Probe(Patience::Probe));
        assert_eq!(link.turn(false, true, soon), NextUpload::Wait, "one at a time");
        link.failed(&refusal, 0, 0.0, soon);
        assert_eq!(link.turn(true, true, soon), NextUpload::Wait);
        assert_eq!(link.next_turn(true), Some(soon.steady + FRESH_PROBE));
        link.probe_begins();
        assert_eq!(
            link.turn(true, false, later(soon, 1)),
            NextUpload::Probe(Patience::Probe),
            "a probe that told nothing was none"
        );
    }

    #[test]
    fn whoever_asks_for_a_probe_gets_one_that_starts_after_that() {
        let (mut link, refusal, now) = (Link::default(), refusal(Verdict::NeedsOperator, "x"), start());
        for seconds in [0, 10, 20, 30, 40] {
            link.failed(&refusal, 0, 0.0, later(now, seconds));
        }
        let soon = later(now, 41);
        assert_eq!(link.turn(true, false, soon), NextUpload::Wait);
        link.probe_soon(true, soon);
        link.failed(&refusal, 0, 0.0, soon);
        assert_eq!(link.turn(true, false, soon), NextUpload::Probe(Patience::Probe));
        link.failed(&refusal, 0, 0.0, soon);
        assert_eq!(link.turn(true, false, soon), NextUpload::Wait, "once");
        link.reloaded(soon);
        assert_eq!(link.turn(true, false, soon), NextUpload::Probe(Patience::Probe), "one, as before the reload");
        assert_eq!(link.failed(&refusal, 0, 0.0, soon), News::Down, "said again");
    }

    #[test]
    fn one_poisoned_file_does_not_take_the_link_down_but_three_files_in_a_row_do() {
        let (mut link, refusal, now) = (Link::default(), refusal(Verdict::TryLater, "InternalError"), start());
        for _ in 0..9 {
            link.failed(&refusal, 1, 0.0, now);
            assert!(link.down().is_none());
            link.succeeded(now);
        }
        for downs in [false, false, true] {
            link.failed(&refusal, 1, 0.0, now);
            assert_eq!(link.down().is_some(), downs);
        }
    }

    #[test]
    fn files_with_trouble_of_their_own_say_nothing_about_the_link() {
        let (mut link, refusal, now) = (Link::default(), refusal(Verdict::NeedsOperator, "InvalidArgument"), start());
        for _ in 0..100 {
            assert_eq!(link.failed(&refusal, OWN_TROUBLE, 0.0, now), News::None);
        }
        assert!(link.down().is_none());
    }

    #[test]
    fn a_link_that_comes_and_goes_is_not_said_each_time() {
        let (mut link, refusal) = (Link::default(), refusal(Verdict::TryLater, "SlowDown"));
        let mut now = start();
        let mut said = Vec::new();
        for _ in 0..100 {
            for _ in 0..3 {
                said.push(link.failed(&refusal, 0, 0.0, now));
                now = later(now, 2);
            }
            said.push(link.succeeded(now));
        }
        said.retain(|news| *news != News::None);
        assert!((2..=22).contains(&said.len()), "{} lines in ten minutes", said.len());
    }

    #[test]
    fn what_needs_the_operator_is_said_when_it_turns_up() {
        let (mut link, now) = (Link::default(), start());
        let failed =
            |link: &mut Link, verdict, code, seconds| link.failed(&refusal(verdict, code), 0, 0.0, later(now, seconds));
        assert_eq!(failed(&mut link, Verdict::TryLater, "SlowDown", 0), News::None);
        assert_eq!(failed(&mut link, Verdict::TryLater, "SlowDown", 1), News::Down);
        assert_eq!(failed(&mut link, Verdict::TryLater, "InternalError", 3), News::None);
        assert_eq!(failed(&mut link, Verdict::NeedsOperator, "AccessDenied", 6), News::Down);
        assert_eq!(failed(&mut link, Verdict::NeedsOperator, "AccessDenied", 16), News::None);
        assert_eq!(failed(&mut link, Verdict::NeedsOperator, "NoSuchBucket", 26), News::Down);
    }
}
