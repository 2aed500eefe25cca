//! Whether the bucket can be reached. While it cannot, there is one probe at a time instead of a storm of uploads.
//!
//! A failed upload counts against the link until other files are stored while that file fails. From then on the
//! failures are the file's own: they say nothing about the link, and a folder full of such files does not take the link
//! down.

use std::time::{Duration, Instant, SystemTime};

use crate::bucket::{Patience, Refusal, Verdict};
use crate::clock::{Now, backoff};
use crate::queue::OWN_TROUBLE;

/// This many failures in a row take the link down, even if other files were stored in between.
const FAILURES_IN_A_ROW: u32 = 3;

/// An outage is reported once this many attempts have failed: the first upload and at least one probe.
const PROBES_OF_AN_OUTAGE: u32 = 2;

/// The first wait for a probe.
const FIRST_PROBE: Duration = Duration::from_secs(1);
/// The longest wait for a probe of an outage, so that uploads are back at full speed seconds after it ends.
const OUTAGE_PROBE: Duration = Duration::from_secs(5);
/// The longest wait for a probe while the owner must act: few requests, but whoever has just mended it sees it soon.
const OPERATOR_PROBE: Duration = Duration::from_secs(10);

/// A capture that has just come is tried immediately, but not sooner than this after the last failure.
const FRESH_PROBE: Duration = Duration::from_secs(1);

/// One in this many probes waits as long for an answer as an ordinary upload.
const PATIENT_PROBE: u32 = 4;

/// How often the log repeats that an outage goes on.
const REMINDER: Duration = Duration::from_hours(1);

/// An outage that begins this soon after the last report is that of a link that comes and goes: it is not reported anew.
const FLAPPING: Duration = Duration::from_mins(1);

/// The way to the bucket.
#[derive(Debug, Default)]
pub(super) struct Link {
    down: Option<Down>,
    outages: u64,
    failures_in_a_row: u32,
    /// What the log said last, in this outage or an earlier one: an outage that comes and goes is not reported each
    /// time.
    last_report: Option<LastReport>,
}

/// Why and since when nothing can be stored.
#[derive(Debug, Clone)]
pub(super) struct Down {
    pub(super) since: SystemTime,
    /// The last refusal.
    pub(super) refusal: Refusal,
    since_steady: Instant,
    probes: u32,
    next_probe: Instant,
    failed_last: Instant,
    /// Whether a probe is to follow the one under way immediately.
    is_probe_asked_for: bool,
    /// Whether the last probe has told nothing of the bucket so far.
    is_unanswered: bool,
    is_reported: bool,
}

/// An outage as the log reported it.
#[derive(Debug)]
struct LastReport {
    at: Instant,
    verdict: Verdict,
    code: Option<String>,
}

/// What the loop has to upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Demand {
    /// Whether no upload is under way.
    pub(super) is_idle: bool,
    /// Whether there is a file that nobody has tried yet.
    pub(super) has_newcomer: bool,
}

/// What may be uploaded next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextUpload {
    /// Nothing for now.
    Wait,
    /// Any file.
    Any,
    /// One file, to find out whether the bucket stores again.
    Probe(Patience),
}

/// What the log has to report.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing.
    None,
    /// The link is down, or the reason has changed.
    Down,
    /// The link is still down, after this long.
    StillDown(Duration),
    /// The link is up again, after this long.
    Up(Duration),
}

impl Link {
    /// Returns what holds uploads back; `None` while nothing does.
    pub(super) fn down(&self) -> Option<&Down> {
        self.down.as_ref()
    }

    /// Returns what holds uploads back, once a probe has confirmed it.
    pub(super) fn outage(&self) -> Option<&Down> {
        self.down.as_ref().filter(|down| down.probes >= PROBES_OF_AN_OUTAGE)
    }

    /// Returns how often the link has gone down.
    pub(super) fn outages(&self) -> u64 {
        self.outages
    }

    /// Returns what may be uploaded now. While the link is down that is one probe at a time.
    pub(super) fn next_upload(&self, demand: Demand, now: Now) -> NextUpload {
        let (Some(down), Some(due)) = (&self.down, self.next_attempt(demand)) else { return NextUpload::Any };
        if !demand.is_idle || now.steady < due {
            NextUpload::Wait
        } else if down.probes.is_multiple_of(PATIENT_PROBE) {
            // Impatient probes alone would never find a line that has become very slow.
            NextUpload::Probe(Patience::Ordinary)
        } else {
            NextUpload::Probe(Patience::Probe)
        }
    }

    /// Returns when the next probe may start; `None` while the link is up.
    pub(super) fn next_attempt(&self, demand: Demand) -> Option<Instant> {
        let down = self.down.as_ref()?;
        let fresh = down.failed_last + FRESH_PROBE;
        let is_early = demand.has_newcomer || down.is_unanswered;
        Some(if is_early { fresh.min(down.next_probe) } else { down.next_probe })
    }

    /// Returns when the next probe is due if no new file comes; `None` while the link is up.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.down.as_ref().map(|down| down.next_probe)
    }

    /// Records that a probe starts.
    ///
    /// If its file turns out to tell nothing of the bucket, because it is empty or gone or has trouble of its own,
    /// another file may follow soon.
    pub(super) fn probe_begins(&mut self) {
        if let Some(down) = &mut self.down {
            down.is_unanswered = true;
        }
    }

    /// Lets a probe start now: somebody says that the trouble is mended.
    pub(super) fn probe_soon(&mut self, now: Now) {
        if let Some(down) = &mut self.down {
            down.next_probe = now.steady;
            down.is_probe_asked_for = false;
        }
    }

    /// Lets a probe start as soon as the uploads under way have ended, which may have begun before the trouble was
    /// mended.
    pub(super) fn probe_after_uploads(&mut self, now: Now) {
        if let Some(down) = &mut self.down {
            down.next_probe = now.steady;
            down.is_probe_asked_for = true;
        }
    }

    /// Begins to use new settings: a probe shows soon whether they are better, and if not, the log says so again.
    pub(super) fn reloaded(&mut self, now: Now) {
        self.probe_soon(now);
        self.last_report = None;
    }

    /// Records that an object was stored, and returns what is new.
    pub(super) fn succeeded(&mut self, now: Now) -> News {
        self.failures_in_a_row = 0;
        match self.down.take() {
            Some(down) if down.is_reported => News::Up(now.steady.duration_since(down.since_steady)),
            _ => News::None,
        }
    }

    /// Records a failed upload, and returns what is new; `own` is how often this file failed while others were stored.
    pub(super) fn failed(&mut self, refusal: &Refusal, own: u32, jitter: f64, now: Now) -> News {
        if own >= OWN_TROUBLE {
            return News::None;
        }
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        let longest = if refusal.verdict == Verdict::NeedsOperator { OPERATOR_PROBE } else { OUTAGE_PROBE };
        let wait = |probes| backoff(probes, FIRST_PROBE, longest, jitter);
        if let Some(down) = &mut self.down {
            down.fails_again(refusal, wait, now);
            return self.report(now);
        }
        if own == 0 || self.failures_in_a_row >= FAILURES_IN_A_ROW {
            self.outages += 1;
            self.down = Some(Down {
                since: now.wall,
                refusal: refusal.clone(),
                since_steady: now.steady,
                probes: 1,
                next_probe: now.steady + wait(1),
                failed_last: now.steady,
                is_probe_asked_for: false,
                is_unanswered: false,
                is_reported: false,
            });
        }
        News::None
    }

    /// Returns what the log has to report of an outage after another failure.
    fn report(&mut self, now: Now) -> News {
        let Some(down) = self.down.as_mut().filter(|down| down.probes >= PROBES_OF_AN_OUTAGE) else {
            return News::None;
        };
        let Refusal { verdict, code, .. } = &down.refusal;
        let is_new = self.last_report.as_ref().is_none_or(|last| {
            let is_same = (last.verdict, &last.code) == (*verdict, code);
            *verdict == Verdict::NeedsOperator && !is_same
        });
        let silence = if down.is_reported { REMINDER } else { FLAPPING };
        let is_recent = |last: &LastReport| now.steady.duration_since(last.at) < silence;
        if !is_new && self.last_report.as_ref().is_some_and(is_recent) {
            return News::None;
        }
        self.last_report = Some(LastReport { at: now.steady, verdict: *verdict, code: code.clone() });
        let was_reported = std::mem::replace(&mut down.is_reported, true);
        if was_reported && !is_new { News::StillDown(now.steady.duration_since(down.since_steady)) } else { News::Down }
    }
}

impl Down {
    /// Records another failure; `wait` returns how long to wait for the next probe after this number of probes.
    fn fails_again(&mut self, refusal: &Refusal, wait: impl Fn(u32) -> Duration, now: Now) {
        // Uploads that were under way when the link went down are no probes.
        let is_fresh = now.steady.duration_since(self.failed_last) >= FRESH_PROBE;
        if now.steady >= self.next_probe || is_fresh {
            self.probes += 1;
            self.next_probe = now.steady + wait(self.probes);
        }
        if std::mem::take(&mut self.is_probe_asked_for) {
            self.next_probe = now.steady;
        }
        self.failed_last = now.steady;
        self.is_unanswered = false;
        self.refusal = refusal.clone();
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

    /// The demand of a loop in each situation.
    const BUSY: Demand = Demand { is_idle: false, has_newcomer: false };
    const BUSY_NEWCOMER: Demand = Demand { is_idle: false, has_newcomer: true };
    const IDLE: Demand = Demand { is_idle: true, has_newcomer: false };
    const IDLE_NEWCOMER: Demand = Demand { is_idle: true, has_newcomer: true };

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
            assert_eq!(link.next_upload(BUSY, now) == NextUpload::Any, link.down().is_none());
            if link.next_upload(IDLE, now) != NextUpload::Wait {
                patient += i32::from(link.next_upload(IDLE, now) == NextUpload::Probe(Patience::Ordinary));
                said.push(link.failed(&refusal, 0, 0.0, now));
            }
            now = later(now, 1);
        }
        assert!((58..70).contains(&said.len()), "{} probes in five minutes", said.len());
        assert!((14..=17).contains(&patient), "{patient} of {} would find a very slow line", said.len());
        assert_eq!(said[..2], [News::None, News::Down], "said once a probe has confirmed it");
        assert_eq!(said.iter().filter(|news| **news != News::None).count(), 1, "{said:?}");
        assert_eq!(link.succeeded(now), News::Up(Duration::from_mins(5)));
        assert_eq!(link.next_upload(BUSY, now), NextUpload::Any);
        assert_eq!(link.outages(), 1);
    }

    #[test]
    fn twelve_hours_of_an_outage_are_one_line_an_hour_between_the_first_and_the_last() {
        let (mut link, refusal) = (Link::default(), refusal(Verdict::TryLater, "SlowDown"));
        let mut now = start();
        let mut said = Vec::new();
        for _ in 0..12 * 720 {
            said.push(link.failed(&refusal, 0, 0.0, now));
            now = later(now, 5);
        }
        said.retain(|news| *news != News::None);
        assert_eq!(said[0], News::Down);
        assert!(said[1..].iter().all(|news| matches!(news, News::StillDown(_))), "{said:?}");
        assert_eq!(said.len(), 12, "{said:?}");
        assert_eq!(link.succeeded(now), News::Up(Duration::from_hours(12)));
        // The next one is told, too.
        let next = later(now, 600);
        link.failed(&refusal, 0, 0.0, next);
        assert_eq!(link.failed(&refusal, 0, 0.0, later(next, 2)), News::Down);
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
        assert_eq!(link.next_upload(IDLE, soon), NextUpload::Wait);
        assert_eq!(link.next_upload(IDLE_NEWCOMER, soon), NextUpload::Probe(Patience::Probe));
        assert_eq!(link.next_upload(BUSY_NEWCOMER, soon), NextUpload::Wait, "one at a time");
        link.failed(&refusal, 0, 0.0, soon);
        assert_eq!(link.next_upload(IDLE_NEWCOMER, soon), NextUpload::Wait);
        assert_eq!(link.next_attempt(IDLE_NEWCOMER), Some(soon.steady + FRESH_PROBE));
        link.probe_begins();
        assert_eq!(
            link.next_upload(IDLE, later(soon, 1)),
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
        assert_eq!(link.next_upload(IDLE, soon), NextUpload::Wait);
        link.probe_after_uploads(soon);
        link.failed(&refusal, 0, 0.0, soon);
        assert_eq!(link.next_upload(IDLE, soon), NextUpload::Probe(Patience::Probe));
        link.failed(&refusal, 0, 0.0, soon);
        assert_eq!(link.next_upload(IDLE, soon), NextUpload::Wait, "once");
        link.reloaded(soon);
        assert_eq!(link.next_upload(IDLE, soon), NextUpload::Probe(Patience::Probe), "one, as before the reload");
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
