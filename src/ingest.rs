//! The loop: it selects, decides, acts. One owner for the queue; everything that takes time happens elsewhere.
//!
//! Hints and the rescan timer start surveys of the folder, surveys feed the queue, the queue gives out what is due, at
//! most `concurrency` at once and one at a time while the bucket does not answer. What becomes of a file comes back
//! and is judged here, where it is also logged, once.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::bucket::{Refusal, Verdict};
use crate::drop_folder::{NAME_MAX, OpenError, Sight, Taken};
use crate::queue::{self, Hint, Now, Queue, backoff};
use crate::status::{self, Snapshot};

mod link;
mod one;
mod survey;
mod tally;

pub use one::{Context, Outcome, Stored, ingest_one};

use link::{Link, News};
use survey::{Batch, Done, Surveyor};
use tally::Tally;

/// First and longest wait of a file that fails by itself.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// A stored file that cannot be disposed of is tried again after so long.
const DISPOSE_AGAIN: Duration = Duration::from_mins(1);

/// Why a file that was cut off is still there.
const CUT_OFF: &str = "cut off; what there is is stored, and it waits for the camera to resume or send it again";

/// How often the drop folder itself is checked to be the one that is watched, and the status is renewed.
const TICK: Duration = Duration::from_secs(1);

/// What the daemon asks of the loop.
#[derive(Debug)]
pub enum Command {
    /// Work by these settings from now on.
    Reload(Arc<Context>),
    /// Look at everything.
    Look,
}

/// How the loop tells what it does.
pub struct Report {
    /// Renewed every second and on every change of state.
    pub snapshot: watch::Sender<Snapshot>,
    /// Called by the loop itself, at least once a second while it turns.
    pub beat: Box<dyn FnMut(Now) + Send>,
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

/// The loop's state.
#[derive(Debug)]
pub struct Ingest {
    context: Arc<Context>,
    queue: Queue,
    surveyor: Surveyor,
    link: Link,
    uploads: JoinSet<(PathBuf, Outcome)>,
    upload_paths: HashMap<Id, PathBuf>,
    scanned_once: bool,
    folder_trouble: Option<status::Trouble>,
    tally: Tally,
}

impl Ingest {
    /// A loop for the drop folder of `context`; nothing is watched or read yet.
    pub fn new(context: Arc<Context>) -> Self {
        let now = (context.clock)();
        Self {
            queue: Queue::new(queue::CAPACITY, context.config.drop_folder.settle),
            surveyor: Surveyor::new(now),
            link: Link::default(),
            uploads: JoinSet::new(),
            upload_paths: HashMap::new(),
            scanned_once: false,
            folder_trouble: None,
            tally: Tally::new(now.wall.into()),
            context,
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
                Some(command) = commands.recv() => self.obey(command),
                Some(done) = self.uploads.join_next_with_id() => {
                    let degraded = self.link.down().is_some();
                    self.judge(done);
                    if degraded != self.link.down().is_some() {
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
                    report.snapshot.send_replace(self.snapshot(status::State::Ok));
                }
            }
        }
        report.snapshot.send_replace(self.snapshot(status::State::Stopping));
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
        (self.context.clock)()
    }

    fn next_wake(&self, now: Now) -> Instant {
        let idle = now.steady + TICK;
        let timers = [self.queue.next_wake(), self.link.next_probe(), Some(self.surveyor.next_scan())];
        timers.into_iter().flatten().filter(|wake| *wake > now.steady).fold(idle, Instant::min)
    }

    fn obey(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Look => self.surveyor.scan_soon(now),
            Command::Reload(context) => {
                if context.folder.path() != self.context.folder.path() {
                    self.queue = Queue::new(queue::CAPACITY, context.config.drop_folder.settle);
                }
                self.queue.set_settle(context.config.drop_folder.settle);
                self.context = context;
                self.link = Link::default();
                self.queue.retry_all();
                self.surveyor.watch_anew(&self.context.folder, now);
                self.follow_folder();
            }
        }
    }

    /// Makes sure that the drop folder that is there is the one that is watched.
    fn follow_folder(&mut self) {
        if let Err(error) = self.surveyor.follow(&self.context.folder, self.now()) {
            self.folder_fails(&error);
        }
    }

    fn folder_fails(&mut self, error: &std::io::Error) {
        let reason = format!("failed to read drop folder {}: {error}", self.context.folder.path().display());
        if self.folder_trouble.as_ref().is_none_or(|trouble| trouble.reason != reason) {
            let advice = "make it again or correct drop_folder.path".to_owned();
            tracing::error!("{reason}; {advice}: it is looked for every second");
            self.remember(reason.clone());
            self.folder_trouble = Some(status::Trouble { since: self.now().wall.into(), reason, advice });
        }
    }

    fn start_surveys(&mut self, now: Now) {
        let context = Arc::clone(&self.context);
        if self.surveyor.takes_hints() {
            let settled = self.queue.settled(now);
            self.surveyor.start_look(&context.folder, settled, now);
        }
        let rescan = context.config.drop_folder.rescan;
        if self.surveyor.start_scan(&context.folder, self.queue.wants_scan(), rescan, now) {
            self.tally.scan_begins();
            self.queue.scan_begins();
        }
    }

    fn surveyed(&mut self, done: Result<Done, JoinError>) {
        let done = match done {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        for batch in self.surveyor.finished(&done) {
            self.observe(batch);
        }
        match (done.result, done.full_scan) {
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
    }

    fn start_uploads(&mut self, now: Now) {
        let allowed = self.link.allowance(self.context.config.upload.concurrency, now);
        while self.uploads.len() < allowed {
            let Some(path) = self.queue.next(now) else { break };
            let context = Arc::clone(&self.context);
            let task = path.clone();
            let handle = self.uploads.spawn(async move {
                let outcome = ingest_one(context, task.clone()).await;
                (task, outcome)
            });
            self.upload_paths.insert(handle.id(), path);
        }
    }

    fn judge(&mut self, done: Result<(Id, (PathBuf, Outcome)), JoinError>) {
        let now = self.now();
        let (path, outcome) = match done {
            Ok((id, done)) => {
                self.upload_paths.remove(&id);
                done
            }
            Err(error) => {
                let Some(path) = self.upload_paths.remove(&error.id()) else { return };
                return self.set_aside(&path, &format!("the upload panicked: {error}"), now);
            }
        };
        match outcome {
            Outcome::Stored(stored) => self.stored(&path, &stored, None, now),
            Outcome::Partial(stored, wait) => self.stored(&path, &stored, Some(wait), now),
            Outcome::Gone => self.done(&path),
            Outcome::Growing => self.queue.settle_again(&path, "open for writing", now),
            Outcome::Changed => {
                let hint = self.queue.done(&path).unwrap_or(Hint::Scan);
                self.surveyor.hints.at(&path, hint);
            }
            Outcome::Empty(since) => self.empty(&path, since, now),
            Outcome::Refused(refusal) => self.refused(&path, &refusal, now),
            Outcome::Unreadable(reason) => {
                self.queue.failed(&path, self.tally.stored.captures);
                if self.queue.hold(&path, &reason, now.steady + LONGEST_WAIT) {
                    let message = format!("failed to open {}: {reason}; let the daemon's user read it", show(&path));
                    tracing::error!("{message}");
                    self.remember(message);
                }
            }
        }
    }

    /// Takes note of a stored capture; `wait` where it was cut off and its file stays for a while.
    fn stored(&mut self, path: &Path, stored: &Stored, wait: Option<Duration>, now: Now) {
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
        let news = self.link.succeeded(now);
        self.say(&news);
        if news != News::None {
            self.queue.retry_all();
        }
        if let Some(reason) = &stored.left {
            // It is in the bucket; only this box is in trouble.
            if self.queue.hold(path, &format!("stored; {reason}"), now.steady + DISPOSE_AGAIN) {
                tracing::error!("{} is stored, but stays in the drop folder: {reason}", show(path));
                self.remember(format!("{}: {reason}", show(path)));
            }
        } else if let Some(wait) = wait {
            self.queue.hold(path, CUT_OFF, now.steady + wait);
            // The camera may have resumed while the part went up, and no event tells of that again.
            self.surveyor.hints.at(path, Hint::Scan);
        } else {
            self.done(path);
        }
    }

    /// Lets go of a file that is no longer there, and looks at what came in its place meanwhile.
    fn done(&mut self, path: &Path) {
        if let Some(hint) = self.queue.done(path) {
            self.surveyor.hints.at(path, hint);
        }
    }

    fn empty(&mut self, path: &Path, since: SystemTime, now: Now) {
        let patience = self.context.config.drop_folder.partial_after;
        let age = now.wall.duration_since(since).unwrap_or_default();
        match patience.checked_sub(age) {
            None | Some(Duration::ZERO) => self.set_aside(path, "empty", now),
            Some(rest) => {
                self.queue.hold(path, "empty", now.steady + rest);
            }
        }
    }

    fn refused(&mut self, path: &Path, refusal: &Refusal, now: Now) {
        if refusal.verdict == Verdict::GiveUpOnThisFile {
            return self.set_aside(path, &refusal.to_string(), now);
        }
        let own = self.queue.failed(path, self.tally.stored.captures);
        let news = self.link.failed(refusal, own > 0, jitter(now), now);
        let until = match self.link.next_probe() {
            Some(probe) => probe,
            None => now.steady + backoff(own, FIRST_WAIT, LONGEST_WAIT, jitter(now)),
        };
        if own > 0 && self.link.down().is_none() {
            tracing::warn!(key = show(path), "{} waits by itself, others are stored: {refusal}", show(path));
        }
        self.say(&news);
        self.queue.hold(path, &refusal.to_string(), until);
    }

    /// Moves a file that cannot be stored out of the way; its bytes are kept.
    fn set_aside(&mut self, path: &Path, reason: &str, now: Now) {
        let folder = self.context.config.state_dir.join("set-aside");
        // The name may be taken by an earlier one: the second counts on.
        let targets = (0..100).map(|number| aside_place(&folder, path, number));
        let moved = targets.into_iter().find(|target| !target.exists()).ok_or_else(|| "100 are set aside".to_owned());
        let moved = moved.and_then(|target| match self.context.folder.open(path) {
            Ok(opened) => opened.move_to(&target).map(|taken| (taken, target)).map_err(|error| error.to_string()),
            Err(OpenError::Gone) => Ok((Taken::Away, target)),
            Err(error) => Err(error.to_string()),
        });
        match moved {
            Ok((Taken::Away, target)) => {
                let kept = show(target.strip_prefix(&folder).unwrap_or(&target));
                let message = format!(
                    "set aside {} ({reason}); its bytes are kept in {} as {kept}",
                    show(path),
                    folder.display()
                );
                tracing::error!("{message}");
                self.remember(message);
                self.tally.remember_set_aside(path, reason);
                self.done(path);
            }
            Ok((Taken::PutBack, _)) => self.queue.settle_again(path, reason, now),
            Err(error) => {
                if self.queue.hold(path, &format!("{reason}; {error}"), now.steady + LONGEST_WAIT) {
                    tracing::error!("failed to set aside {} ({reason}): {error}", show(path));
                }
            }
        }
    }

    fn say(&mut self, news: &News) {
        let down = self.link.down().cloned();
        let waiting = self.queue.len();
        match (news, down) {
            (News::Down, Some(down)) => {
                let message = format!("nothing can be stored in {}: {}", self.context.bucket.describe(), down.refusal);
                if down.refusal.verdict == Verdict::NeedsOperator {
                    tracing::error!("{message}; every file is kept and tried again");
                } else {
                    tracing::warn!("{message}; every file is kept and tried again");
                }
                self.remember(message);
            }
            (News::StillDown(since), Some(down)) => {
                tracing::warn!(
                    "still nothing can be stored after {} s, {waiting} files wait: {}",
                    since.as_secs(),
                    down.refusal
                );
            }
            (News::Up(outage), _) => {
                tracing::info!("the bucket stores again after {} s, {waiting} files wait", outage.as_secs());
            }
            _ => {}
        }
    }

    fn remember(&mut self, message: String) {
        let at = self.now().wall.into();
        self.tally.remember_error(message, at);
    }

    /// What the loop does now; `state` as far as the loop does not know better.
    fn snapshot(&self, state: status::State) -> Snapshot {
        let waits = self.tally.waits(&self.queue);
        let trouble = self.folder_trouble.clone().or_else(|| {
            self.link.down().map(|down| status::Trouble {
                since: down.since.into(),
                reason: down.refusal.reason.clone(),
                advice: down.refusal.advice.clone(),
            })
        });
        let state = match state {
            status::State::Ok if !self.scanned_once => status::State::Starting,
            status::State::Ok if trouble.is_some() => status::State::Degraded,
            state => state,
        };
        Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            at: self.now().wall.into(),
            started_at: self.tally.started_at,
            state,
            bucket: self.context.bucket.describe(),
            trouble,
            waiting: waits.waiting,
            oldest_only_here: waits.oldest,
            files: waits.files,
            not_uploaded: self.tally.not_uploaded(),
            stored: self.tally.stored.clone(),
            cameras: self.tally.cameras.clone(),
            last_errors: self.tally.last_errors(),
            drop_folder_free_bytes: status::free_bytes(self.context.folder.path()),
            state_free_bytes: status::free_bytes(&self.context.config.state_dir),
        }
    }

    /// A snapshot before anything happened.
    pub fn first_snapshot(&self) -> Snapshot {
        self.snapshot(status::State::Starting)
    }
}

/// Where a file is set aside below `folder`, the `number`-th of its name: under its own path.
fn aside_place(folder: &Path, path: &Path, number: u32) -> PathBuf {
    // Nothing else is in the path of a file that was found; nothing else could lead out of the folder.
    let mut below: PathBuf = path.components().filter(|step| matches!(step, Component::Normal(_))).collect();
    if let (Some(name), true) = (below.file_name(), number > 0) {
        let suffix = format!(".{number}");
        let mut name = name.as_bytes()[..name.len().min(NAME_MAX - suffix.len())].to_vec();
        name.extend(suffix.bytes());
        below.set_file_name(OsString::from_vec(name));
    }
    folder.join(below)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever anybody calls a file, what is set aside lies below its folder, under a name that a disk takes.
        #[test]
        fn what_is_set_aside_stays_in_its_folder(
            steps in proptest::collection::vec(proptest::collection::vec(1u8.., 1..255), 1..5),
            dots in proptest::collection::vec(0usize..5, 0..3),
            number in 0u32..100,
        ) {
            let mut path = PathBuf::from(OsString::from_vec(steps.join(&b'/')));
            for at in dots {
                path = path.iter().take(at).chain(["..".as_ref()]).chain(path.iter().skip(at)).collect();
            }
            let place = aside_place(Path::new("/state/set-aside"), &path, number);
            let below = place.strip_prefix("/state/set-aside").unwrap();
            let normal = |step: Component<'_>| {
                matches!(step, Component::Normal(name) if name.len() <= NAME_MAX && name != "..")
            };
            prop_assert!(below.components().all(normal), "{below:?}");
        }
    }
}
