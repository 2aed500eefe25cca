//! The daemon: it connects the parts and owns signals, readiness, watchdog, reload and drain.
//!
//! * Start: if the state folder cannot be written, the run-time folder takes its place. It creates its folders, takes the lock, checks that the drop folder can be read, and starts the loop. It is
//!   ready once the folder is watched and has been scanned. A bucket out of reach is a matter for the status, not a
//!   failed start.
//! * Stop: after the first signal nothing new starts and the uploads under way are finished; the second signal ends the
//!   process immediately.
//! * Reload (SIGHUP): a wrong configuration is refused as a whole.
//! * Look (SIGUSR1): everything is looked at again. This signal and a reload also say that something is mended, so what
//!   failed is tried again immediately.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::alerts::Alerts;
use crate::bucket::{Credentials, Pace};
use crate::clock::Now;
use crate::config::{Config, LogSettings};
use crate::health::{self, Board, Limits};
use crate::heartbeat::Heart;
use crate::ingest::{Ingest, Instruction, Report};
use crate::lock::{FolderLock, LockError};
use crate::message;
use crate::mqtt::Mqtt;
use crate::site::{Site, SiteInForce};
use crate::status::{Condition, ConditionKind, DaemonState, Jobs, Snapshot};
use crate::{credentials, disk, ftp_logins, lock, metrics, owner, rotate, schedule, service};

mod cameras;
mod contact;

use cameras::Cameras;

/// How long the uploads under way may take at the end; less than `TimeoutStopSec` of the unit (30 s).
const DRAIN: Duration = Duration::from_secs(20);

/// How often and how soon the lock of the drop folder is tried again at the start: for longer than the second after which a
/// daemon knows that its folder is gone.
const LOCK_ATTEMPTS: u32 = 15;
const LOCK_AGAIN: Duration = Duration::from_millis(100);

/// How often `status.json` is written while nothing is new but the time: the next start tells by it when this one ended.
const STATUS_AGAIN: TimeDelta = TimeDelta::seconds(5);

/// How often to look whether the file with the key has changed.
const KEY_LOOK: Duration = Duration::from_secs(1);

/// The file whose variables systemd gives to the service, as the shipped unit has it.
const ENVIRONMENT: &str = "/etc/hk-aws/environment";

/// How long to wait for systemd if it does not read what it is told.
const NOTICE_TIMEOUT: Duration = Duration::from_millis(100);

/// Returns the time of both clocks; almost everything else gets the time from its caller.
#[expect(clippy::disallowed_methods, reason = "this is where real time is read")]
pub fn now() -> Now {
    Now { steady: Instant::now(), wall: SystemTime::now() }
}

/// Runs the daemon until `stop`, and leaves the signals of the process alone.
///
/// `credentials` replace the standard AWS chain. `clock` is [`now`], except where somebody wants to see what a day brings
/// and has no day.
///
/// # Errors
/// An error for the owner if the daemon cannot start, or if one of its tasks panicked.
pub async fn run(
    config: Config,
    credentials: Option<Credentials>,
    clock: fn() -> Now,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let board = Board::default();
    let (config, _) = settle_state(config, &board, clock().wall.into());
    // Nobody sends instructions, but the sender must live: without it, the loop would see the end of the channel.
    let (_instructions, received) = mpsc::channel(1);
    let ready = Arc::default();
    run_with(Arc::new(config), credentials, Pace::new(clock), stop, received, ready, board).await
}

/// Runs the daemon as a service, which the signals of the process control.
///
/// # Errors
/// An error for the owner if the daemon cannot start, or if one of its tasks panicked.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let (instructions, received) = mpsc::channel(4);
    let board = Board::default();
    let (config, lacks_state) = settle_state(config, &board, now().wall.into());
    let config = Arc::new(config);
    let signals =
        signal_hook_tokio::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1]).context("failed to catch signals")?;
    // One for all configurations, so that a reload changes the limit of the uploads under way, too.
    let pace = Pace::new(now);
    let _watching_key = AbortOnDropHandle::new(tokio::spawn(watch_key(instructions.clone())));
    let logins = ftp_logins::watch(board.clone(), now, stop.clone());
    let _watching_logins = AbortOnDropHandle::new(tokio::spawn(logins));
    let ready = Arc::new(AtomicBool::new(false));
    let listener = Listener {
        config: Arc::clone(&config),
        lacks_state,
        pace: pace.clone(),
        stop: stop.clone(),
        instructions,
        ready: Arc::clone(&ready),
        board: board.clone(),
    };
    let _listening = AbortOnDropHandle::new(tokio::spawn(listener.listen(signals)));
    run_with(config, None, pace, stop, received, ready, board).await
}

async fn run_with(
    config: Arc<Config>,
    credentials: Option<Credentials>,
    pace: Pace,
    stop: CancellationToken,
    instructions: mpsc::Receiver<Instruction>,
    ready: Arc<AtomicBool>,
    board: Board,
) -> anyhow::Result<()> {
    let _lock = prepare(&config)?;
    let crashed_after = crashed_after(&config.runtime_dir);
    let folder_lock = hold(&config.drop_folder.path).await?;
    // Boxed: it is large, and whoever starts the daemon holds it.
    let clock = pace.clock();
    let site = Arc::new(Box::pin(Site::new(Arc::clone(&config), credentials, pace, clock)).await);
    tracing::info!("watching {}, storing in {}", site.folder.path().display(), site.bucket.describe());
    let ingest = Ingest::new(Arc::clone(&site)).holding(folder_lock);
    let (snapshot, snapshots) = watch::channel(ingest.snapshot());
    let (told_site, sites) = watch::channel(SiteInForce::new(site));
    let first_contact = contact::reach(sites.clone(), snapshots.clone(), board.clone());
    let _reaching = AbortOnDropHandle::new(tokio::spawn(first_contact));
    let (jobs, told_jobs) = watch::channel(Jobs::new());
    // Whole snapshots, as `status.json` has them.
    let (told, _) = watch::channel(Arc::new(snapshot.borrow().clone()));
    // Each task ends together with this function, however that ends.
    let alerts = Alerts { sites: sites.clone(), told: told.subscribe(), board: board.clone(), stop: stop.clone() };
    let _alerting = AbortOnDropHandle::new(tokio::spawn(alerts.run()));
    let leave = CancellationToken::new();
    let mqtt = Mqtt { sites: sites.clone(), told: told.subscribe(), board: board.clone(), stop: leave.clone() };
    let telling_home = AbortOnDropHandle::new(tokio::spawn(mqtt.run()));
    let (told_whole, on_board) = (told.subscribe(), board.clone());
    let _answering = config.metrics.listen.map(|listen| {
        let scrapes = metrics::serve(listen, told.subscribe(), sites.clone(), board.clone());
        AbortOnDropHandle::new(tokio::spawn(scrapes))
    });
    let teller = Teller { folder: config.runtime_dir.clone(), crashed_after, sites: sites.clone(), board, told, ready };
    let telling = AbortOnDropHandle::new(tokio::spawn(teller.run(snapshots, told_jobs)));
    let heart = Heart { sites: sites.clone(), told: told_whole, board: on_board, stop: stop.clone() };
    let _beating = AbortOnDropHandle::new(tokio::spawn(heart.run()));
    let runner = schedule::Runner { sites, snapshots: snapshot.subscribe(), jobs };
    let scheduling = AbortOnDropHandle::new(tokio::spawn(runner.run(rotate::job, stop.clone())));
    // This sender keeps the status writer alive after the loop has ended: it has yet to write how a job that was told
    // to stop has ended.
    let last_sender = snapshot.clone();
    let report = Report { snapshot, beat: watchdog(), site: told_site };
    let ingesting = AbortOnDropHandle::new(tokio::spawn(ingest.run(instructions, report, stop, DRAIN)));
    ingesting.await.context("the ingest loop panicked")?;
    scheduling.await.context("the scheduler panicked")?;
    drop(last_sender);
    telling.await.context("the status writer panicked")?;
    // Last, so that it tells of all that was stored.
    leave.cancel();
    telling_home.await.context("the task for Home Assistant panicked")?;
    tracing::info!("stopped");
    Ok(())
}

/// Returns the settings if their state folder can be written; otherwise those that do without it, and `true`. The board
/// then says what the owner has to mend.
fn settle_state(config: Config, board: &Board, now: DateTime<Utc>) -> (Config, bool) {
    let folder = config.state_dir.clone();
    let tried = owner::create_dir_all(&folder).and_then(|()| tempfile::tempfile_in(&folder));
    let error = match tried {
        // What is written there copes with a full disk.
        Err(error) if !disk::is_full(&error) => error,
        _ => return (config, false),
    };
    let config = config.without_state_folder();
    let sentence = format!(
        "the state folder {} cannot be written; until it can, captures are stored, the list of them is in {} until the next \
         boot, there are no local copies in the state folder, and the rotation rests",
        folder.display(),
        config.state_dir.display(),
    );
    let advice = "mount it writable, or give it to the daemon's user, then run `systemctl restart hk-aws`";
    let condition = Condition::new(ConditionKind::StateUnwritable, now, sentence, advice);
    let condition = condition.with_detail(error.to_string());
    tracing::error!(message_id = message::STATE_UNWRITABLE, "{}; {advice}", condition.in_full());
    board.raise(condition);
    (config, true)
}

/// Creates the folders, takes the lock of the daemon and returns it, and checks that the drop folder can be read.
fn prepare(config: &Config) -> anyhow::Result<File> {
    let shut_out = service::shut_out(config);
    for folder in [&config.state_dir, &config.runtime_dir] {
        let mend = || shut_out.as_ref().map(|mend| format!("; {mend}")).unwrap_or_default();
        owner::create_dir_all(folder).with_context(|| format!("failed to create {}{}", folder.display(), mend()))?;
    }
    let lock = lock::daemon(&config.runtime_dir)?;
    let path = &config.drop_folder.path;
    std::fs::read_dir(path).map_err(|error| {
        let mend = match (&shut_out, error.kind()) {
            (Some(mend), _) => mend,
            (None, io::ErrorKind::NotFound) => "create it, or correct the path",
            (None, io::ErrorKind::PermissionDenied) => "let the daemon's user read it, and enter the folders above it",
            (None, _) => "correct the path",
        };
        let (path, file) = (path.display(), config.source.display());
        anyhow::anyhow!("failed to read drop folder {path} ({file}: drop_folder.path): {error}; {mend}")
    })?;
    Ok(lock)
}

/// Takes the lock of the drop folder. One that is given back just now is waited for.
async fn hold(drop_folder: &Path) -> Result<FolderLock, LockError> {
    for _ in 0..LOCK_ATTEMPTS {
        match lock::drop_folder(drop_folder) {
            Err(LockError::Watched { .. }) => tokio::time::sleep(LOCK_AGAIN).await,
            done => return done,
        }
    }
    lock::drop_folder(drop_folder)
}

/// Returns when the daemon before this one was seen last, if it ended without being told to. A reboot leaves no trace.
fn crashed_after(runtime_dir: &Path) -> Option<DateTime<Utc>> {
    let last = Snapshot::read(runtime_dir).ok()?;
    (last.state != DaemonState::Stopping && !last.stopping).then_some(last.at)
}

/// Returns the function that tells systemd that the loop runs, four times in the time that systemd allows.
fn watchdog() -> Box<dyn FnMut(Now) + Send> {
    let Some(limit) = sd_notify::watchdog_enabled() else { return Box::new(|_| {}) };
    let mut last: Option<Instant> = None;
    Box::new(move |now| {
        if last.is_none_or(|last| now.steady.duration_since(last) >= limit / 4) {
            last = Some(now.steady);
            notify(&[NotifyState::Watchdog]);
        }
    })
}

/// Puts together what the loop, the jobs and the other parts of the daemon know, and passes it on: to `status.json`, to
/// systemd, and to whoever reads `told`.
struct Teller {
    folder: PathBuf,
    crashed_after: Option<DateTime<Utc>>,
    sites: watch::Receiver<SiteInForce>,
    board: Board,
    /// Gets each whole snapshot, after `status.json` has its news.
    told: watch::Sender<Arc<Snapshot>>,
    /// Whether systemd has been told that the daemon is ready.
    ready: Arc<AtomicBool>,
}

impl Teller {
    /// Tells until the loop has ended.
    async fn run(self, mut snapshots: watch::Receiver<Snapshot>, mut jobs: watch::Receiver<Jobs>) {
        let (mut line, mut complained, mut before) = (String::new(), false, Vec::new());
        let mut in_file: Option<Arc<Snapshot>> = None;
        let mut raised = self.board.changes();
        let mut cameras = {
            let site = &self.sites.borrow().site;
            Cameras::open(&site.config.state_dir, (site.clock)().wall.into())
        };
        loop {
            raised.mark_unchanged();
            let mut snapshot = snapshots.borrow_and_update().clone();
            snapshot.jobs = jobs.borrow_and_update().clone();
            snapshot.crashed_after = self.crashed_after;
            snapshot.raised.extend(self.board.raised());
            cameras.see(&mut snapshot);
            let limits = Limits::of(&self.sites.borrow().site.config).learning(&cameras.rhythms);
            health::judge(&mut snapshot, &before, &limits);
            before.clone_from(&snapshot.conditions);
            // The file is written first, so that whoever waits for READY finds it.
            let snapshot = Arc::new(snapshot);
            let is_current =
                |file: &Arc<Snapshot>| (snapshot.at - file.at).abs() < STATUS_AGAIN && snapshot.says_the_same_as(file);
            if !in_file.as_ref().is_some_and(is_current) {
                let (file, target) = (Arc::clone(&snapshot), self.folder.clone());
                match tokio::task::spawn_blocking(move || file.write(&target)).await {
                    Ok(Ok(())) => {
                        if std::mem::take(&mut complained) {
                            tracing::info!("the status can be written again");
                        }
                        in_file = Some(Arc::clone(&snapshot));
                    }
                    Ok(Err(error)) if !complained => {
                        complained = true;
                        let folder = self.folder.display();
                        tracing::warn!(
                            message_id = message::STATUS_UNWRITABLE,
                            "failed to write status in {folder}: {error}; everything else goes on"
                        );
                    }
                    _ => {}
                }
            }
            let said = snapshot.line();
            if said != line && notify(&[NotifyState::Status(&said)]) {
                line = said;
            }
            // Repeated until systemd hears it: it gives up on a daemon that never says that it is ready.
            if snapshot.scanned && !snapshot.stopping && !self.ready.load(Ordering::Acquire) {
                self.ready.store(notify(&[NotifyState::Ready]), Ordering::Release);
            }
            self.told.send_replace(snapshot);
            tokio::select! {
                // Jobs first: the end of the snapshots must not hide the last change of the jobs.
                biased;
                Ok(()) = jobs.changed() => {}
                Ok(()) = raised.changed() => {}
                () = cameras.learn() => {}
                alive = snapshots.changed() => if alive.is_err() { return cameras.write() },
            }
        }
    }
}

/// Lets everything be looked at again when the file with the key has changed: what was refused may be allowed now.
async fn watch_key(instructions: mpsc::Sender<Instruction>) {
    let file = credentials::path();
    let mut known = credentials::state(&file);
    loop {
        tokio::time::sleep(KEY_LOOK).await;
        let state = credentials::state(&file);
        if state != known {
            known = state;
            tracing::info!("{} has changed: what failed is tried again", file.display());
            if instructions.send(Instruction::Look).await.is_err() {
                return;
            }
        }
    }
}

/// Turns the signals of the process into instructions for the loop.
struct Listener {
    config: Arc<Config>,
    /// Whether the configuration does without its state folder.
    lacks_state: bool,
    pace: Pace,
    stop: CancellationToken,
    instructions: mpsc::Sender<Instruction>,
    /// Whether systemd has been told that the daemon is ready.
    ready: Arc<AtomicBool>,
    board: Board,
}

impl Listener {
    async fn listen(self, mut signals: signal_hook_tokio::Signals) {
        while let Some(signal) = signals.next().await {
            let instruction = match signal {
                // The loop takes no instructions any more, and a full channel must not delay the second signal.
                SIGHUP | SIGUSR1 if self.stop.is_cancelled() => None,
                SIGHUP => self.reload().await.map(|site| Instruction::Reload(Arc::new(site))),
                SIGUSR1 => Some(Instruction::Look),
                _ if self.stop.is_cancelled() => {
                    tracing::warn!(
                        message_id = message::STOPPED_EARLY,
                        "stopped immediately by a second signal; files that were not stored yet are still in the drop folder"
                    );
                    std::process::exit(1);
                }
                _ => {
                    tracing::info!("stopping: uploads under way are finished first");
                    // First: with nothing under way, the process may end as soon as it may stop.
                    notify(&[NotifyState::Stopping]);
                    self.stop.cancel();
                    None
                }
            };
            if let Some(instruction) = instruction
                && self.instructions.send(instruction).await.is_err()
            {
                return;
            }
            if signal == SIGHUP && self.ready.load(Ordering::Acquire) {
                // If systemd does not hear it now, it is told with the next snapshot.
                self.ready.store(notify(&[NotifyState::Ready]), Ordering::Release);
            }
        }
    }

    /// Reads the configuration again and returns its site; `None` if it is refused, so that the old one stays in force.
    async fn reload(&self) -> Option<Site> {
        let reloading = NotifyState::monotonic_usec_now().ok();
        notify(&[Some(NotifyState::Reloading), reloading].into_iter().flatten().collect::<Vec<_>>());
        let config = match read_again(&self.config, self.lacks_state) {
            Ok(config) => config,
            Err(why) => {
                tracing::error!(
                    message_id = message::RELOAD_REFUSED,
                    "configuration refused, the old one stays in force:\n{why}"
                );
                let sentence = "the configuration was refused by the last reload: the old one stays in force";
                let advice = "run `hk-aws check`, mend what it says, then `systemctl reload hk-aws`";
                let condition = Condition::new(ConditionKind::ReloadRefused, now().wall.into(), sentence, advice);
                self.board.raise(condition.with_detail(why));
                return None;
            }
        };
        self.board.clear(ConditionKind::ReloadRefused, None);
        let restart_only = |log: &LogSettings| (log.target, log.level);
        if restart_only(&self.config.log) != restart_only(&config.log) || self.config.metrics != config.metrics {
            tracing::warn!(
                message_id = message::RESTART_NEEDED,
                "log.target, log.level and metrics.listen change with a restart only"
            );
        }
        tracing::info!(
            "configuration read again: {}; the variables for ${{NAME}} are those of the start: after a change of \
             {ENVIRONMENT}, restart the service",
            config.source.display()
        );
        Some(Site::new(Arc::new(config), None, self.pace.clone(), now).await)
    }
}

/// Reads the configuration again for a daemon that runs by `running`.
///
/// # Errors
/// Why it is refused, so that the old one stays in force.
fn read_again(running: &Config, lacks_state: bool) -> Result<Config, String> {
    let mut config = Config::load(&running.source).map_err(|problems| problems.to_string())?;
    if lacks_state {
        config = config.without_state_folder();
    }
    for (key, before, after) in [
        ("state_dir", &running.state_dir, &config.state_dir),
        ("runtime_dir", &running.runtime_dir, &config.runtime_dir),
    ] {
        if before != after {
            return Err(format!("{key} changes with a restart only"));
        }
    }
    Ok(config)
}

/// Tells systemd these states; returns whether it has got them, or is not there at all.
fn notify(states: &[NotifyState<'_>]) -> bool {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return true };
    let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
    send_notice(&address, lines.join("\n").as_bytes()).is_ok()
}

/// Sends one datagram to a path, or to an abstract name, which begins with `@` (`sd_notify(3)`).
///
/// The library's own call waits until somebody reads it, which may be never. Neither the loop nor the end of the daemon
/// may hang on that.
fn send_notice(address: &OsStr, notice: &[u8]) -> io::Result<()> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(NOTICE_TIMEOUT))?;
    socket.connect_addr(&address)?;
    socket.send(notice).map(drop)
}
