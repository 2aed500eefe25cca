//! The loop: it selects, decides, acts. One owner for the queue; everything that takes time happens elsewhere.
//!
//! Hints and the rescan timer start surveys of the folder, surveys feed the queue, the queue gives out what is due, at
//! most `concurrency` at once and one at a time while the bucket does not answer; large files hold no more than half of
//! the places. What becomes of a file comes back
//! and is judged here, where it is also logged, once.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::bucket::{Patience, Refusal, Verdict};
use crate::clock::{Now, backoff};
use crate::drop_folder::Sight;
use crate::queue::{self, Due, Hint, OWN_TROUBLE, Queue};
use crate::site::Site;
use crate::status::{self, Snapshot};
use crate::stored::Stored;

mod aside;
mod link;
mod one;
mod pass;
mod places;
mod survey;
mod tally;
mod tell;
mod upkeep;

pub use one::{Outcome, dispose_one, ingest_one};
pub use pass::{PassError, PassEvent, PassMode, pass};

use link::{Link, Turn};
use places::Places;
use survey::{Batch, Done, Surveyor};
use tally::Tally;
use upkeep::Upkeep;

/// First and longest wait of a file that fails by itself.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// A stored file that cannot be disposed of is tried again after so long; it costs no request.
const DISPOSE_AGAIN: Duration = Duration::from_secs(5);

/// Why a file that was cut off is still there.
const CUT_OFF: &str = "cut off; what there is is stored, and it waits for the camera to resume or send it again";

/// Most time for uploads in work at the end while the bucket does not answer.
const DRAIN_WHILE_DOWN: Duration = Duration::from_secs(1);

/// How often the drop folder itself is checked to be the one that is watched, and the status is renewed.
const TICK: Duration = Duration::from_secs(1);

/// What the daemon asks of the loop.
#[derive(Debug)]
pub enum Command {
    /// Work by these settings from now on, and try everything that failed.
    Reload(Arc<Site>),
    /// Look at everything, and try everything that failed.
    Look,
}

/// How the loop tells what it does.
pub struct Report {
    /// Renewed every second and on every change of state.
    pub snapshot: watch::Sender<Snapshot>,
    /// Called by the loop itself, at least once a second while it turns.
    pub beat: Box<dyn FnMut(Now) + Send>,
    /// The settings in force: sent when they or the credentials are new, and again with each command.
    pub site: watch::Sender<Arc<Site>>,
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

type Worked = (Outcome, Arc<Site>);

/// How an upload began.
#[derive(Debug)]
struct InWork {
    due: Due,
    site: Arc<Site>,
    /// How many captures had been stored then.
    stored: u64,
    /// How many outages there had been.
    outages: u64,
}

/// The loop's state.
#[derive(Debug)]
pub struct Ingest {
    site: Arc<Site>,
    queue: Queue,
    surveyor: Surveyor,
    link: Link,
    /// Each gives back the site that it worked with.
    uploads: JoinSet<Worked>,
    in_work: HashMap<Id, InWork>,
    scanned_once: bool,
    folder_trouble: Option<status::Trouble>,
    upkeep: Upkeep,
    tally: Tally,
}

impl Ingest {
    /// A loop for the drop folder of `site`; nothing is watched or read yet.
    pub fn new(site: Arc<Site>) -> Self {
        let now = (site.clock)();
        Self {
            queue: Queue::new(queue::CAPACITY, site.config.drop_folder.settle),
            surveyor: Surveyor::new(now),
            link: Link::default(),
            uploads: JoinSet::new(),
            in_work: HashMap::new(),
            scanned_once: false,
            folder_trouble: None,
            upkeep: Upkeep::new(now),
            tally: Tally::new(now.wall.into()),
            site,
        }
    }

    /// Runs until `stop`, then drains what is in work, for at most `drain`. What is not finished is still in the folder.
    /// Whatever fails is tried again.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut report: Report,
        stop: CancellationToken,
        drain: Duration,
    ) {
        self.follow_folder();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = self.now();
            (report.beat)(now);
            self.start_surveys(now);
            self.start_uploads(now);
            let wake = self.next_wake(now);
            let hints = Arc::clone(&self.surveyor.hints);
            tokio::select! {
                () = stop.cancelled() => break,
                Some(command) = commands.recv() => {
                    self.obey(command);
                    report.site.send_replace(Arc::clone(&self.site));
                }
                Some(done) = self.uploads.join_next_with_id() => {
                    let degraded = self.link.outage().is_some();
                    self.judge(done);
                    self.hand_out_renewed(&report.site);
                    if degraded != self.link.outage().is_some() {
                        report.snapshot.send_replace(self.snapshot(status::State::Ok));
                    }
                }
                Some(done) = self.surveyor.tasks.join_next() => {
                    let first = !self.scanned_once;
                    self.surveyed(done);
                    if first && self.scanned_once {
                        report.snapshot.send_replace(self.snapshot(status::State::Ok));
                    }
                }
                Some(batch) = self.surveyor.batches.recv() => self.observe(batch),
                () = hints.ready(), if self.surveyor.takes_hints() => {}
                () = tokio::time::sleep_until(wake.into()) => {}
                _ = tick.tick() => {
                    self.follow_folder();
                    self.look_at_disks();
                    report.snapshot.send_replace(self.snapshot(status::State::Ok));
                }
            }
        }
        report.snapshot.send_replace(self.snapshot(status::State::Stopping));
        // What hangs in a dead link does not come back to life in time.
        let drain = if self.link.down().is_some() { drain.min(DRAIN_WHILE_DOWN) } else { drain };
        self.site.kept.stop();
        let drained = tokio::time::timeout(drain, async {
            while let Some(done) = self.uploads.join_next_with_id().await {
                (report.beat)(self.now());
                self.judge(done);
            }
        });
        if drained.await.is_err() {
            tracing::warn!("{} uploads are not finished and begin again at the next start", self.uploads.len());
        }
        self.uploads.shutdown().await;
        report.snapshot.send_replace(self.snapshot(status::State::Stopping));
    }

    fn now(&self) -> Now {
        (self.site.clock)()
    }

    fn next_wake(&self, now: Now) -> Instant {
        let idle = now.steady + TICK;
        let probe = self.link.next_turn(self.queue.has_newcomer());
        let timers = [self.queue.next_wake(), probe, self.surveyor.next_scan()];
        timers.into_iter().flatten().filter(|wake| *wake > now.steady).fold(idle, Instant::min)
    }

    fn obey(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Look => {
                self.surveyor.scan_soon();
                self.link.probe_soon(!self.uploads.is_empty(), now);
                self.queue.retry_even_own_trouble();
            }
            Command::Reload(site) => {
                if site.folder.path() != self.site.folder.path() {
                    self.queue = Queue::new(queue::CAPACITY, site.config.drop_folder.settle);
                }
                self.queue.set_settle(site.config.drop_folder.settle);
                self.site = site;
                self.link.reloaded(now);
                self.queue.retry_even_own_trouble();
                self.upkeep.look_soon(now);
                self.surveyor.watch_anew(&self.site.folder);
                self.follow_folder();
            }
        }
    }

    /// Hands the settings out with the credentials that an upload has found.
    fn hand_out_renewed(&self, sites: &watch::Sender<Arc<Site>>) {
        sites.send_if_modified(|known| {
            let is_renewed = !Arc::ptr_eq(known, &self.site);
            *known = Arc::clone(&self.site);
            is_renewed
        });
    }

    /// Makes sure that the drop folder that is there is the one that is watched.
    fn follow_folder(&mut self) {
        if let Err(error) = self.surveyor.follow(&self.site.folder) {
            self.folder_fails(&error);
        }
    }

    /// Makes room in time, and says where there is none.
    fn look_at_disks(&mut self) {
        let (waiting, left, now) = (self.queue.len(), self.queue.left(), self.now());
        if left == 0 && self.queue.dispose_again() {
            self.surveyor.scan_soon();
        }
        let said = self.upkeep.look(&self.site, waiting, left, now);
        if let Some(message) = said {
            self.remember(message);
        }
    }

    fn folder_fails(&mut self, error: &std::io::Error) {
        let reason = format!("failed to read drop folder {}: {error}", self.site.folder.path().display());
        if self.folder_trouble.as_ref().is_none_or(|trouble| trouble.reason != reason) {
            let advice = "make it again or correct drop_folder.path".to_owned();
            tracing::error!("{reason}; {advice}: it is looked for every second");
            self.remember(reason.clone());
            self.folder_trouble = Some(status::Trouble { since: self.now().wall.into(), reason, advice });
        }
    }

    fn start_surveys(&mut self, now: Now) {
        let site = Arc::clone(&self.site);
        if self.surveyor.takes_hints() {
            let settled = self.queue.settled(now);
            self.surveyor.start_look(&site.folder, settled, now);
        }
        let rescan = site.config.drop_folder.rescan;
        if self.surveyor.start_scan(&site.folder, self.queue.wants_scan(), rescan, now) {
            self.tally.scan_begins();
            self.queue.scan_begins();
        }
    }

    fn surveyed(&mut self, done: Result<Done, JoinError>) {
        let done = match done {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Cancelled: the runtime ends, and the loop with it.
                Err(_) => return,
            },
        };
        for batch in self.surveyor.finished(&done, self.now()) {
            self.observe(batch);
        }
        match (done.result, done.full_scan) {
            (Ok(()), Some(_)) if done.broken_off => {}
            (Ok(()), Some(began)) => {
                self.queue.scanned(began);
                self.tally.scan_ends();
                self.scanned_once = true;
                if self.folder_trouble.take().is_some() {
                    tracing::info!("the drop folder can be read again");
                }
            }
            (Ok(()), None) => {}
            (Err(error), _) => self.folder_fails(&error),
        }
    }

    fn observe(&mut self, batch: Batch) {
        let now = self.now();
        for (sight, hint) in batch.sights {
            match sight {
                Sight::File(found) => {
                    self.queue.observe(&found, hint, now);
                    if batch.from_full_scan {
                        self.tally.see_file(&found);
                    }
                }
                other => self.tally.see_other(other, batch.from_full_scan),
            }
        }
        if self.queue.left_on_disk() {
            self.surveyor.queue_is_full();
        }
    }

    fn start_uploads(&mut self, now: Now) {
        let concurrency = self.site.config.upload.concurrency;
        loop {
            let places = self.places();
            let crowded = self.in_work.len() > places::MOST_FOLD * concurrency;
            let (due, patience) = match self.link.turn(places.is_empty(), self.queue.has_newcomer(), now) {
                Turn::Wait => return,
                Turn::Next if crowded => return,
                Turn::Next => {
                    let Some(wanted) = places.wanted(concurrency) else { return };
                    (self.queue.next(wanted, now), Patience::Ordinary)
                }
                Turn::Probe(patience) => (self.queue.next_to_probe(now), patience),
            };
            let Some(due) = due else { return };
            self.link.probe_begins();
            // What needs the operator may have been mended in the AWS files.
            let renew = self.link.down().is_some_and(|down| down.refusal.verdict == Verdict::NeedsOperator);
            let (path, mut site) = (due.path.clone(), Arc::clone(&self.site));
            let (rest, known) = (self.queue.rest(&path, now), self.queue.stored(&path));
            let handle = self.uploads.spawn(async move {
                if let Some(known) = known {
                    return (dispose_one(Arc::clone(&site), path, known, rest).await, site);
                }
                if renew {
                    site = Arc::new(site.renewed().await);
                }
                (ingest_one(Arc::clone(&site), path, rest, patience).await, site)
            });
            let (stored, outages) = (self.tally.stored.captures, self.link.outages());
            self.in_work.insert(handle.id(), InWork { due, site: Arc::clone(&self.site), stored, outages });
        }
    }

    /// The places that are taken. What began before the last outage may hang in it for a while, and while nothing can be
    /// stored, what began with other settings does not hold up the trial of these: neither takes anybody's place.
    fn places(&self) -> Places {
        let up = self.link.down().is_none();
        let counts = |work: &&InWork| work.outages == self.link.outages() && (up || self.is_current(&work.site));
        self.in_work.values().filter(counts).fold(Places::default(), |places, work| places.with(work.due.large))
    }

    /// Whether no reload has made other settings of these.
    fn is_current(&self, site: &Site) -> bool {
        Arc::ptr_eq(&site.config, &self.site.config)
    }

    fn judge(&mut self, done: Result<(Id, Worked), JoinError>) {
        let now = self.now();
        let id = done.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(InWork { due, site: began_with, stored: began, .. }) = self.in_work.remove(&id) else { return };
        let path = due.path;
        let same_folder = began_with.folder.path() == self.site.folder.path();
        let outcome = match done {
            Ok((_, (outcome, site))) => {
                let is_renewed = !Arc::ptr_eq(&site, &began_with);
                if is_renewed && self.is_current(&site) {
                    self.site = site;
                }
                outcome
            }
            Err(error) if same_folder => return self.set_aside(&path, &format!("the upload panicked: {error}"), now),
            Err(error) => return tracing::error!("the upload of {} panicked: {error}", show(&path)),
        };
        if !same_folder {
            // A reload named another drop folder: what is not stored stays in the old one, and the queue knows nothing of it.
            if let Outcome::Stored(stored) | Outcome::Partial(stored, _) = outcome {
                self.tell_stored(&stored, now);
            }
            return;
        }
        match outcome {
            Outcome::Stored(stored) => self.stored(&path, &stored, None, now),
            Outcome::Partial(stored, wait) => self.stored(&path, &stored, Some(wait), now),
            Outcome::Disposed(stored, wait) => self.disposed(&path, &stored, wait, now),
            Outcome::Gone => self.done(&path),
            Outcome::Growing => self.queue.settle_again(&path, "open for writing", now),
            Outcome::Changed => {
                let hint = self.queue.done(&path).unwrap_or(Hint::Scan);
                self.surveyor.hints.at(&path, hint);
            }
            Outcome::Empty(age) => self.empty(&path, age, now),
            Outcome::Refused(refusal) if !self.is_current(&began_with) => {
                self.queue.hold(&path, &refusal.to_string(), now.steady);
            }
            Outcome::Refused(refusal) => self.refused(&path, &refusal, began, now),
            Outcome::Unreadable(reason) => {
                self.queue.failed(&path, began, self.tally.stored.captures, self.link.down().is_some());
                let wait = backoff(self.queue.failures(&path), FIRST_WAIT, LONGEST_WAIT, jitter(now));
                if self.queue.hold(&path, &reason, now.steady + wait) {
                    let message = format!("failed to open {}: {reason}; let the daemon's user read it", show(&path));
                    tracing::error!("{message}");
                    self.remember(message);
                }
            }
        }
    }

    /// Says that a capture is stored.
    fn tell_stored(&mut self, stored: &Stored, now: Now) {
        if !(stored.partial && stored.again) {
            self.tally.remember_stored(stored, now.wall.into());
        }
        let capture = &stored.capture;
        tracing::info!(
            camera = capture.camera,
            key = %stored.key,
            event = capture.event,
            taken_at = capture.taken.to_rfc3339(),
            size_bytes = stored.size,
            elapsed_ms = u64::try_from(stored.elapsed.as_millis()).unwrap_or(u64::MAX),
            "{}{} {}",
            if stored.again { "was stored before:" } else { "stored" },
            if stored.partial { " as far as it came:" } else { "" },
            stored.key,
        );
        if let Some(told) = capture.camera_time
            && self.tally.doubt(&capture.camera, told)
        {
            let message = format!(
                "the clock of camera {} is wrong: of what arrived at {} it says {}; such captures are filed by arrival until \
                 its clock is set",
                capture.camera,
                capture.taken.to_rfc3339(),
                told.to_rfc3339(),
            );
            tracing::warn!(camera = capture.camera, "{message}");
            self.remember(message);
        }
    }

    /// Takes note of a stored capture; `wait` where it was cut off and its file stays for a while.
    fn stored(&mut self, path: &Path, stored: &Stored, wait: Option<Duration>, now: Now) {
        self.tell_stored(stored, now);
        let was_down = self.link.down().is_some();
        let news = self.link.succeeded(now);
        self.say(&news);
        if was_down {
            self.queue.retry_all();
        }
        self.disposed(path, stored, wait, now);
        if wait.is_some() {
            // The camera may have resumed while the part went up, and no event tells of that again.
            self.surveyor.hints.at(path, Hint::Scan);
        }
    }

    /// Lets go of a file that is no longer there, and looks at what came in its place meanwhile.
    fn done(&mut self, path: &Path) {
        if let Some(hint) = self.queue.done(path) {
            self.surveyor.hints.at(path, hint);
        }
    }

    /// Takes note of what became of a stored capture's file; it is in the bucket, only this box can be in trouble.
    fn disposed(&mut self, path: &Path, stored: &Stored, wait: Option<Duration>, now: Now) {
        let keeps = self.site.config.keep.days > 0;
        let said = match (&stored.left, wait) {
            (None, None) => {
                self.done(path);
                self.upkeep.gone(stored, keeps, now)
            }
            (left, wait) => {
                self.queue.remember_stored(path, Arc::new(stored.clone()));
                let (reason, wait) = match left {
                    Some(reason) => (format!("stored; {reason}"), DISPOSE_AGAIN),
                    None => (CUT_OFF.to_owned(), wait.unwrap_or(DISPOSE_AGAIN)),
                };
                self.queue.hold(path, &reason, now.steady + wait);
                left.as_ref().and_then(|reason| self.upkeep.stays(&show(path), reason, now.wall.into()))
            }
        };
        if let Some(message) = said {
            self.remember(message);
        }
    }

    fn empty(&mut self, path: &Path, age: Duration, now: Now) {
        let patience = self.site.config.drop_folder.partial_after;
        match patience.checked_sub(age) {
            None | Some(Duration::ZERO) => self.set_aside(path, "empty", now),
            Some(rest) => {
                self.queue.hold(path, "empty", now.steady + rest);
            }
        }
    }

    fn refused(&mut self, path: &Path, refusal: &Refusal, began: u64, now: Now) {
        if refusal.verdict == Verdict::GiveUpOnThisFile {
            return self.set_aside(path, &refusal.to_string(), now);
        }
        let own = self.queue.failed(path, began, self.tally.stored.captures, self.link.down().is_some());
        let news = self.link.failed(refusal, own, jitter(now), now);
        let until = match self.link.next_probe() {
            Some(probe) if own < OWN_TROUBLE => probe,
            _ => now.steady + backoff(own, FIRST_WAIT, LONGEST_WAIT, jitter(now)),
        };
        // Ever more seldom: it may go on for weeks.
        if own >= OWN_TROUBLE && own.is_power_of_two() {
            tracing::warn!(key = show(path), "{} waits by itself, others are stored: {refusal}", show(path));
        }
        self.say(&news);
        self.queue.hold(path, &refusal.to_string(), until);
    }
}

/// A path as text that cannot play tricks on a terminal or a log.
pub fn show(path: &Path) -> String {
    crate::key::escape_path(path)
}

/// A number in 0..1 that differs from box to box and from moment to moment; no more is asked of it.
fn jitter(now: Now) -> f64 {
    let nanos = now.wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    f64::from(nanos % 1000) / 1000.0
}
