//! The daemon: it connects the parts and owns signals, readiness, watchdog, reload and drain.
//!
//! * Start: it creates its folders, takes the lock, checks that the drop folder can be read, and starts the loop. It is
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
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use futures_util::StreamExt;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::bucket::{Bucket, Credentials, Pace};
use crate::clock::Now;
use crate::config::Config;
use crate::ingest::{Ingest, Instruction, Report};
use crate::lock::{FolderLock, LockError};
use crate::site::{Site, SiteInForce};
use crate::status::{DaemonState, Jobs, Snapshot};
use crate::{credentials, lock, owner, rotate, schedule, service};

/// How long the uploads under way may take at the end; less than `TimeoutStopSec` of the unit (30 s).
const DRAIN: Duration = Duration::from_secs(20);

/// How often and how soon the lock of the drop folder is tried again at the start.
const LOCK_ATTEMPTS: u32 = 4;
const LOCK_AGAIN: Duration = Duration::from_millis(100);

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
/// `credentials` replace the standard AWS chain.
///
/// # Errors
/// An error for the owner if the daemon cannot start, or if one of its tasks panicked.
pub async fn run(config: Config, credentials: Option<Credentials>, stop: CancellationToken) -> anyhow::Result<()> {
    // Nobody sends instructions, but the sender must live: without it, the loop would see the end of the channel.
    let (_instructions, received) = mpsc::channel(1);
    run_with(Arc::new(config), credentials, Pace::new(now), stop, received, Arc::default()).await
}

/// Runs the daemon as a service, which the signals of the process control.
///
/// # Errors
/// An error for the owner if the daemon cannot start, or if one of its tasks panicked.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let (instructions, received) = mpsc::channel(4);
    let config = Arc::new(config);
    let signals =
        signal_hook_tokio::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1]).context("failed to catch signals")?;
    // One for all configurations, so that a reload changes the limit of the uploads under way, too.
    let pace = Pace::new(now);
    let ready = Arc::new(AtomicBool::new(false));
    let _watching_key = AbortOnDropHandle::new(tokio::spawn(watch_key(instructions.clone())));
    let listener = Listener {
        config: Arc::clone(&config),
        pace: pace.clone(),
        stop: stop.clone(),
        instructions,
        ready: Arc::clone(&ready),
    };
    let _listening = AbortOnDropHandle::new(tokio::spawn(listener.listen(signals)));
    run_with(config, None, pace, stop, received, ready).await
}

async fn run_with(
    config: Arc<Config>,
    credentials: Option<Credentials>,
    pace: Pace,
    stop: CancellationToken,
    instructions: mpsc::Receiver<Instruction>,
    ready: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let _lock = prepare(&config)?;
    let folder_lock = hold(&config.drop_folder.path).await?;
    // Boxed: it is large, and whoever starts the daemon holds it.
    let site = Arc::new(Box::pin(Site::new(Arc::clone(&config), credentials, pace, now)).await);
    tracing::info!("watching {}, storing in {}", site.folder.path().display(), site.bucket.describe());
    let _trying = AbortOnDropHandle::new(tokio::spawn(try_bucket(site.bucket.clone())));
    let ingest = Ingest::new(Arc::clone(&site)).holding(folder_lock);
    let (snapshot, snapshots) = watch::channel(ingest.snapshot());
    let (told_site, sites) = watch::channel(SiteInForce::new(site));
    let (jobs, told_jobs) = watch::channel(Jobs::new());
    // Each task ends together with this function, however that ends.
    let telling = AbortOnDropHandle::new(tokio::spawn(tell(snapshots, told_jobs, config.runtime_dir.clone(), ready)));
    let runner = schedule::Runner { sites, snapshots: snapshot.subscribe(), jobs };
    let scheduling = AbortOnDropHandle::new(tokio::spawn(runner.run(rotate::job, stop.clone())));
    // This sender keeps the status writer alive after the loop has ended: it has yet to write how a job that was told
    // to stop has ended.
    let last_sender = snapshot.clone();
    let report = Report { snapshot, beat: watchdog(), site: told_site };
    let stopped = stop.clone();
    let _stopping = AbortOnDropHandle::new(tokio::spawn(async move {
        stopped.cancelled().await;
        notify(&[NotifyState::Stopping]);
    }));
    let ingesting = AbortOnDropHandle::new(tokio::spawn(ingest.run(instructions, report, stop, DRAIN)));
    ingesting.await.context("the ingest loop panicked")?;
    scheduling.await.context("the scheduler panicked")?;
    drop(last_sender);
    telling.await.context("the status writer panicked")?;
    tracing::info!("stopped");
    Ok(())
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
    if let Some(mend) = shut_out {
        tracing::error!("captures are stored, but their files cannot be removed or kept here: {mend}");
    }
    for key in config.not_in_effect() {
        tracing::warn!("{}: {key} has no effect in this version", config.source.display());
    }
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

/// Tries what the store can do. Nothing waits for the answer except the first capture, which asks again if this fails.
async fn try_bucket(bucket: Bucket) {
    if let Err(refusal) = bucket.put_condition().await {
        tracing::warn!("{} cannot be tried yet: {refusal}", bucket.describe());
    }
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

/// Passes snapshots on to `status.json` and to systemd until the loop has ended; `ready` tells whether systemd has been
/// told that the daemon is ready.
async fn tell(
    mut snapshots: watch::Receiver<Snapshot>,
    mut jobs: watch::Receiver<Jobs>,
    folder: std::path::PathBuf,
    ready: Arc<AtomicBool>,
) {
    let (mut line, mut complained) = (String::new(), false);
    loop {
        let mut snapshot = snapshots.borrow_and_update().clone();
        snapshot.jobs = jobs.borrow_and_update().clone();
        let (said, state, target) = (snapshot.line(), snapshot.state, folder.clone());
        // The file is written first, so that whoever waits for READY finds it.
        let written = tokio::task::spawn_blocking(move || snapshot.write(&target)).await;
        match written {
            Ok(Err(error)) if !complained => {
                complained = true;
                tracing::warn!("failed to write status in {}: {error}; everything else goes on", folder.display());
            }
            Ok(Ok(())) if complained => {
                complained = false;
                tracing::info!("the status can be written again");
            }
            _ => {}
        }
        if said != line && notify(&[NotifyState::Status(&said)]) {
            line = said;
        }
        // Repeated until systemd hears it: it gives up on a daemon that never says that it is ready.
        if !matches!(state, DaemonState::Starting | DaemonState::Stopping) && !ready.load(Ordering::Acquire) {
            ready.store(notify(&[NotifyState::Ready]), Ordering::Release);
        }
        tokio::select! {
            // Jobs first: the end of the snapshots must not hide the last change of the jobs.
            biased;
            Ok(()) = jobs.changed() => {}
            alive = snapshots.changed() => if alive.is_err() { return },
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
    pace: Pace,
    stop: CancellationToken,
    instructions: mpsc::Sender<Instruction>,
    /// Whether systemd has been told that the daemon is ready.
    ready: Arc<AtomicBool>,
}

impl Listener {
    async fn listen(self, mut signals: signal_hook_tokio::Signals) {
        while let Some(signal) = signals.next().await {
            let instruction = match signal {
                // The loop takes no instructions any more, and a full channel must not delay the second signal.
                SIGHUP | SIGUSR1 if self.stop.is_cancelled() => None,
                SIGHUP => reload(&self.config, &self.pace).await.map(|site| Instruction::Reload(Arc::new(site))),
                SIGUSR1 => Some(Instruction::Look),
                _ if self.stop.is_cancelled() => {
                    tracing::warn!(
                        "stopped immediately by a second signal; files that were not stored yet are still in the drop folder"
                    );
                    std::process::exit(1);
                }
                _ => {
                    tracing::info!("stopping: uploads under way are finished first");
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
}

/// Reads the configuration again and returns its site; `None` if it is refused, so that the old one stays in force.
async fn reload(running: &Config, pace: &Pace) -> Option<Site> {
    let reloading = NotifyState::monotonic_usec_now().ok();
    notify(&[Some(NotifyState::Reloading), reloading].into_iter().flatten().collect::<Vec<_>>());
    let config = match Config::load(&running.source) {
        Ok(config) => config,
        Err(problems) => {
            tracing::error!("configuration refused, the old one stays in force:\n{problems}");
            return None;
        }
    };
    for (key, before, after) in [
        ("state_dir", &running.state_dir, &config.state_dir),
        ("runtime_dir", &running.runtime_dir, &config.runtime_dir),
    ] {
        if before != after {
            tracing::error!("configuration refused, the old one stays in force: {key} changes with a restart only");
            return None;
        }
    }
    if running.log != config.log {
        tracing::warn!("log.target and log.level change with a restart only");
    }
    let source = config.source.display();
    tracing::info!(
        "configuration read again: {source}; the variables for ${{NAME}} are those of the start: after a change of \
         {ENVIRONMENT}, restart the service"
    );
    Some(Site::new(Arc::new(config), None, pace.clone(), now).await)
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
