//! The loop of the daemon: it selects what has happened, decides, and acts. It owns the queue; everything that takes
//! time happens in other tasks.
//!
//! Hints and the rescan timer start surveys of the folder, and surveys feed the queue. The queue gives out the files
//! that are due: at most `concurrency` at the same time, of which large files hold no more than half, and one at a time
//! while the bucket does not answer. The result of each upload comes back to the loop, which judges it and logs it
//! once.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::bucket::{Patience, Verdict};
use crate::clock::Now;
use crate::drop_folder::Sight;
use crate::lock::{self, FolderLock, LockError};
use crate::message;
use crate::place;
use crate::queue::{self, Due, Queue};
use crate::service;
use crate::site::{Site, SiteInForce};
use crate::status::{self, Condition, ConditionKind, Snapshot};
use crate::stored::Stored;

mod aside;
mod claims;
mod clock_offset;
mod earlier;
mod flood;
mod home;
mod join;
mod judge;
mod link;
mod one;
mod outcome;
mod pass;
mod slots;
mod survey;
mod tally;
mod tell;
mod upkeep;

pub use one::{dispose_one, ingest_one};
pub use outcome::{Ingested, NotStored};
pub use pass::{PassError, PassEvent, PassMode, pass};

use aside::AsideCount;
use flood::Floods;
use home::{Home, Waited};
use link::{Demand, Link, NextUpload};
use slots::UploadSlots;
use survey::{Batch, SurveyEnd, SurveyKind, Surveyor};
use tally::IngestTally;
use upkeep::Upkeep;

/// How long the uploads under way may take at the end while the bucket does not answer.
const DRAIN_WHILE_DOWN: Duration = Duration::from_secs(1);

/// How often the loop checks that the drop folder is still the watched one, and renews the status.
const TICK: Duration = Duration::from_secs(1);

/// What the daemon tells the loop to do.
#[derive(Debug)]
pub enum Instruction {
    /// Use this site from now on, and try again everything that failed.
    Reload(Arc<Site>),
    /// Look at everything, and try again everything that failed.
    Look,
}

/// Where the loop reports what it does.
pub struct Report {
    /// Gets a snapshot every second and on every change of state.
    pub snapshot: watch::Sender<Snapshot>,
    /// The loop calls this at least once a second while it runs.
    pub beat: Box<dyn FnMut(Now) + Send>,
    /// Gets the site in force when it is new, when its credentials are, and after each instruction.
    pub site: watch::Sender<SiteInForce>,
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

/// What is done with a file that the queue gives out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// It is uploaded.
    Upload,
    /// It is stored already, and only has to leave the folder.
    Disposal,
}

/// The result of an upload or a disposal.
#[derive(Debug)]
struct Finished {
    result: Result<Ingested, NotStored>,
    /// The site with new credentials, if the upload read them again.
    renewed: Option<Arc<Site>>,
}

/// An upload or disposal under way, and what the loop knew when it began.
#[derive(Debug)]
struct InWork {
    due: Due,
    work: Work,
    site: Arc<Site>,
    /// How many reloads there had been.
    reloads: u64,
    /// How many captures had been stored.
    stored: u64,
    /// How many outages there had been.
    outages: u64,
}

/// The loop and its state.
#[derive(Debug)]
pub struct Ingest {
    site: Arc<Site>,
    /// How many times the site was replaced by a reload.
    reloads: u64,
    queue: Queue,
    surveyor: Surveyor,
    link: Link,
    uploads: JoinSet<Finished>,
    in_work: HashMap<Id, InWork>,
    /// Whether a full scan has finished since the start.
    has_scanned: bool,
    is_stopping: bool,
    folder_trouble: Option<Condition>,
    /// Why nothing can be written in the drop folder, while that is so.
    read_only: Option<Condition>,
    /// The files that the queue holds because they cannot be read.
    unreadable: HashSet<PathBuf>,
    /// What the last snapshot said is wrong.
    conditions: Mutex<Vec<Condition>>,
    /// The lock of the drop folder.
    held: Option<FolderLock>,
    home: Home,
    upkeep: Upkeep,
    aside: AsideCount,
    tally: IngestTally,
    floods: Floods,
}

impl Ingest {
    /// Returns a loop for the drop folder of `site`; nothing is watched or read yet.
    pub fn new(site: Arc<Site>) -> Self {
        Self::with_capacity(site, queue::CAPACITY)
    }

    /// Returns a loop as [`Self::new`] does, whose queue holds at most `capacity` files.
    pub fn with_capacity(site: Arc<Site>, capacity: usize) -> Self {
        let now = (site.clock)();
        Self {
            reloads: 0,
            queue: Queue::new(capacity, site.config.drop_folder.settle),
            surveyor: Surveyor::new(now),
            link: Link::default(),
            uploads: JoinSet::new(),
            in_work: HashMap::new(),
            has_scanned: false,
            is_stopping: false,
            folder_trouble: None,
            read_only: None,
            unreadable: HashSet::new(),
            conditions: Mutex::default(),
            held: None,
            home: Home::default(),
            upkeep: Upkeep::new(now),
            aside: AsideCount::new(now),
            tally: IngestTally::new(now.wall.into(), clock_offset::remembered(&site.config.state_dir)),
            floods: Floods::default(),
            site,
        }
    }

    /// Takes over the lock of the drop folder.
    #[must_use]
    pub fn holding(self, lock: FolderLock) -> Self {
        Self { held: Some(lock), ..self }
    }

    /// Runs until `stop`, then waits for the uploads under way, at most for `drain`.
    ///
    /// An upload that is not finished by then leaves its file in the folder. Nothing that fails ends the loop: it is
    /// tried again.
    pub async fn run(
        mut self,
        mut instructions: mpsc::Receiver<Instruction>,
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
                Some(instruction) = instructions.recv() => self.obey(instruction, &report),
                Some(done) = self.uploads.join_next_with_id() => self.upload_ended(done, &report),
                Some(done) = self.surveyor.tasks.join_next() => self.survey_ended(done, &report),
                Some(batch) = self.surveyor.batches.recv() => self.observe(batch),
                () = hints.ready(), if self.surveyor.takes_hints() => {}
                () = tokio::time::sleep_until(wake.into()) => {}
                _ = tick.tick() => {
                    self.follow_folder();
                    self.look_at_disks();
                    self.tell_snapshot(&report);
                }
            }
        }
        self.drain(&mut report, drain).await;
    }

    /// Waits for the uploads under way, at most for `drain`, and ends the others.
    async fn drain(mut self, report: &mut Report, drain: Duration) {
        self.is_stopping = true;
        self.tell_snapshot(report);
        // An upload that hangs in a dead link does not finish in time anyway.
        let drain = if self.link.down().is_some() { drain.min(DRAIN_WHILE_DOWN) } else { drain };
        self.site.kept.stop();
        let drained = tokio::time::timeout(drain, async {
            while let Some(done) = self.uploads.join_next_with_id().await {
                (report.beat)(self.now());
                self.judge(done);
            }
        });
        if drained.await.is_err() {
            tracing::warn!(
                message_id = message::STOPPED_EARLY,
                "{} uploads are not finished and begin again at the next start",
                self.uploads.len()
            );
        }
        self.uploads.shutdown().await;
        self.tell_snapshot(report);
    }

    fn now(&self) -> Now {
        (self.site.clock)()
    }

    /// Returns when the loop has to look again if nothing happens.
    fn next_wake(&self, now: Now) -> Instant {
        let idle = now.steady + TICK;
        let probe = self.link.next_attempt(self.demand(self.slots()));
        let timers = [self.queue.next_wake(), probe, Some(self.surveyor.next_scan())];
        timers.into_iter().flatten().filter(|wake| *wake > now.steady).fold(idle, Instant::min)
    }

    fn obey(&mut self, instruction: Instruction, report: &Report) {
        let now = self.now();
        match instruction {
            Instruction::Look => {
                self.surveyor.scan_soon();
                if self.uploads.is_empty() {
                    self.link.probe_soon(now);
                } else {
                    self.link.probe_after_uploads(now);
                }
            }
            Instruction::Reload(site) => {
                if site.folder.path() != self.site.folder.path() {
                    self.queue = Queue::new(self.queue.capacity(), site.config.drop_folder.settle);
                }
                self.queue.set_settle(site.config.drop_folder.settle);
                self.site = site;
                self.reloads += 1;
                self.link.reloaded(now);
                self.upkeep.look_soon(now);
                self.surveyor.watch_anew(&self.site.folder);
                self.follow_folder();
            }
        }
        self.home.accept(&self.site);
        self.site.kept.accept_disk();
        self.queue.retry_even_own_trouble();
        report.site.send_modify(|told| {
            told.site = Arc::clone(&self.site);
            told.retries_asked += 1;
        });
    }

    /// Makes sure that the drop folder that exists now is the one that is watched.
    fn follow_folder(&mut self) {
        if let Some(held) = &self.held {
            held.let_askers_go();
        }
        let held = match self.site.folder.identity() {
            Ok(identity) => self.hold_folder(identity).map(|()| identity),
            Err(source) => {
                // The inode of a folder that is gone may be that of another daemon's folder soon.
                self.held.take_if(|_| source.kind() == std::io::ErrorKind::NotFound);
                Err(LockError::Folder { path: self.site.folder.path().to_owned(), source })
            }
        };
        match held {
            Ok(identity) => self.surveyor.follow(&self.site.folder, identity),
            Err(LockError::Folder { source, .. }) => {
                self.surveyor.unwatch();
                self.folder_fails(&source);
            }
            Err(error) => {
                self.surveyor.unwatch();
                self.folder_has_trouble(error.to_string(), "until then nothing of it is uploaded here");
            }
        }
    }

    /// Holds the lock of the drop folder that exists now, and gives back that of another one.
    fn hold_folder(&mut self, identity: (u64, u64)) -> Result<(), LockError> {
        if self.held.as_ref().is_none_or(|held| !held.is_of(identity)) {
            self.held = None;
            self.held = Some(lock::drop_folder(self.site.folder.path())?);
        }
        Ok(())
    }

    /// Removes local copies before a disk is full, and reports if there is no room for new captures.
    fn look_at_disks(&mut self) {
        let now = self.now();
        self.count_set_aside(now);
        if self.queue.left() == 0 && self.queue.dispose_again() {
            self.surveyor.scan_soon();
        }
        let said = [
            self.home.look(&self.site, &self.queue, now),
            self.upkeep.look_at_copies(&self.site, now),
            self.upkeep.look(&self.site, &self.queue, now),
        ];
        for message in said.into_iter().flatten() {
            self.remember(message);
        }
        self.look_whether_writable();
        self.tell_floods(now);
    }

    /// Reports that nothing can be written in the drop folder, or that it can again.
    fn look_whether_writable(&mut self) {
        let path = self.site.folder.path();
        let Some(error) = place::why_not_writable(path) else {
            if self.read_only.take().is_some() {
                tracing::info!("the drop folder can be written again");
            }
            return;
        };
        if self.read_only.is_some() {
            return;
        }
        let sentence = format!("hk-aws may not write in drop folder {}, so what is stored stays there", path.display());
        let mend = service::shut_out(&self.site.config);
        let advice =
            mend.unwrap_or_else(|| "mount its disk for writing, or let the service's user write there".to_owned());
        let message = format!("{sentence} ({error}); {advice}");
        tracing::error!(message_id = message::DROP_FOLDER_READ_ONLY, "{message}");
        let since = self.now().wall.into();
        let condition =
            Condition::new(ConditionKind::DropFolderReadOnly, since, sentence, advice).with_detail(error.to_string());
        self.read_only = Some(condition);
        self.remember(message);
    }

    /// Reports that the drop folder cannot be read, unless it has been reported.
    fn folder_fails(&mut self, error: &std::io::Error) {
        let reason = format!("failed to read drop folder {}: {error}", self.site.folder.path().display());
        let mend = service::shut_out(&self.site.config);
        self.folder_has_trouble(reason, mend.as_deref().unwrap_or("create it again or correct drop_folder.path"));
    }

    fn folder_has_trouble(&mut self, reason: String, advice: &str) {
        if self.folder_trouble.as_ref().is_none_or(|trouble| trouble.sentence != reason) {
            tracing::error!(
                message_id = message::DROP_FOLDER_UNREADABLE,
                "{reason}; {advice}; the daemon looks for it every second"
            );
            self.remember(reason.clone());
            let since = self.now().wall.into();
            self.folder_trouble = Some(Condition::new(ConditionKind::DropFolderUnreadable, since, reason, advice));
        }
    }

    fn start_surveys(&mut self, now: Now) {
        let site = Arc::clone(&self.site);
        if self.surveyor.takes_hints() {
            let settled = self.queue.settled(now);
            self.surveyor.start_look(&site.folder, settled, now);
        }
        let has_begun = self.surveyor.start_scan(&site.folder, site.config.drop_folder.rescan, now)
            || self.queue.wants_scan() && self.surveyor.start_refill(&site.folder, now);
        if has_begun {
            self.tally.scan_begins();
            self.queue.scan_begins();
        }
    }

    fn survey_ended(&mut self, done: Result<SurveyEnd, JoinError>, report: &Report) {
        let end = match done {
            Ok(end) => end,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // It was cancelled: the runtime ends, and the loop with it.
                Err(_) => return,
            },
        };
        for batch in self.surveyor.finished(&end, self.now()) {
            self.observe(batch);
        }
        if let Err(error) = end.result {
            return self.folder_fails(&error);
        }
        if end.kind == SurveyKind::Look || end.is_cut_short {
            return;
        }
        let (files, bytes) = self.queue.scanned(end.began);
        self.home.not_found(Waited { files, bytes });
        self.tally.scan_ends();
        if self.folder_trouble.take().is_some() {
            tracing::info!("the drop folder can be read again");
        }
        let is_first = !std::mem::replace(&mut self.has_scanned, true);
        if is_first {
            self.tell_snapshot(report);
        }
    }

    fn observe(&mut self, batch: Batch) {
        let now = self.now();
        for (sight, hint) in batch.sights {
            match sight {
                Sight::File(found) => {
                    self.queue.observe(&found, hint, now);
                    if batch.kind == SurveyKind::FullScan {
                        self.tally.see_file(&found);
                    }
                }
                other => self.tally.see_other(other, batch.kind),
            }
        }
        if self.queue.left_on_disk() {
            self.surveyor.queue_is_full();
        }
    }

    fn start_uploads(&mut self, now: Now) {
        let concurrency = self.site.config.upload.concurrency;
        loop {
            let slots = self.slots();
            let is_crowded = self.in_work.len() > slots::MOST_FOLD * concurrency;
            let (due, patience) = match self.link.next_upload(self.demand(slots), now) {
                NextUpload::Wait => return,
                NextUpload::Any if is_crowded => return,
                NextUpload::Any => {
                    let Some(eligible) = slots.eligible(concurrency) else { return };
                    (self.queue.next(eligible, now), Patience::Ordinary)
                }
                NextUpload::Probe(patience) => (self.queue.next_to_probe(now), patience),
            };
            let Some(due) = due else { return };
            self.link.probe_begins();
            self.start_upload(due, patience, now);
        }
    }

    fn start_upload(&mut self, due: Due, patience: Patience, now: Now) {
        // The owner may have mended the trouble in the AWS files, so they are read again.
        let renews = self.link.down().is_some_and(|down| down.refusal.verdict == Verdict::NeedsOperator);
        let (path, site) = (due.path.clone(), Arc::clone(&self.site));
        let last_seen = self.queue.last_seen(&path, now);
        let (handle, work) = if let Some(stored) = self.queue.stored(&path) {
            let disposal =
                async move { Finished { result: dispose_one(site, path, stored, last_seen).await, renewed: None } };
            (self.uploads.spawn(disposal), Work::Disposal)
        } else {
            let upload = async move {
                let renewed = if renews { Some(Arc::new(site.renewed().await)) } else { None };
                let site = renewed.as_ref().map_or(site, Arc::clone);
                Finished { result: ingest_one(site, path, last_seen, patience).await, renewed }
            };
            (self.uploads.spawn(upload), Work::Upload)
        };
        let in_work = InWork {
            due,
            work,
            site: Arc::clone(&self.site),
            reloads: self.reloads,
            stored: self.tally.stored.captures,
            outages: self.link.outages(),
        };
        self.in_work.insert(handle.id(), in_work);
    }

    /// Returns the slots that are taken.
    ///
    /// Two kinds of uploads hold none: those that began before the last outage, which may hang in it for a while; and,
    /// while nothing can be stored, those that began before a reload, which must not hold up the trial of new settings.
    fn slots(&self) -> UploadSlots {
        let is_up = self.link.down().is_none();
        let holds_slot =
            |work: &&InWork| work.outages == self.link.outages() && (is_up || work.reloads == self.reloads);
        self.in_work.values().filter(holds_slot).fold(UploadSlots::default(), |slots, work| slots.with(work.due.size))
    }

    fn demand(&self, slots: UploadSlots) -> Demand {
        Demand { is_idle: slots.is_empty(), has_newcomer: self.queue.has_newcomer() }
    }

    fn upload_ended(&mut self, done: Result<(Id, Finished), JoinError>, report: &Report) {
        if let Some(site) = self.renewed(&done) {
            self.site = site;
            report.site.send_modify(|told| told.site = Arc::clone(&self.site));
        }
        let was_degraded = self.link.outage().is_some();
        self.judge(done);
        if was_degraded != self.link.outage().is_some() {
            self.tell_snapshot(report);
        }
    }

    /// Returns the site with the credentials that an upload has read again, unless a reload has replaced it meanwhile.
    fn renewed(&self, done: &Result<(Id, Finished), JoinError>) -> Option<Arc<Site>> {
        let (id, finished) = done.as_ref().ok()?;
        let is_current = self.in_work.get(id).is_some_and(|work| work.reloads == self.reloads);
        finished.renewed.as_ref().filter(|_| is_current).map(Arc::clone)
    }
}

/// Returns a number from 0 to 1 that differs from box to box and from moment to moment, which is all that it is for.
fn jitter(now: Now) -> f64 {
    let nanos = now.wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    f64::from(nanos % 1000) / 1000.0
}
