//! The daemon: wires the parts, and owns signals, readiness, watchdog, reload and drain.
//!
//! Start: folders and lock, the drop folder must be readable, then the loop; READY once the folder is watched and was
//! scanned. A bucket that cannot be reached is a status, not a failed start. Stop: the first signal starts nothing new
//! and waits for what is in work, the second ends the process at once. Reload: a wrong file is refused as a whole. Reload
//! and the signal to look also say that something is mended: what failed is tried at once.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
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

use crate::bucket::{Credentials, Pace};
use crate::clock::Now;
use crate::config::Config;
use crate::ingest::{Command, Ingest, Report};
use crate::site::Site;
use crate::status::{Jobs, Snapshot, State};
use crate::{lock, rotate, schedule};

/// How long uploads in work may take to finish at the end: less than `TimeoutStopSec` of the unit (30 s).
const DRAIN: Duration = Duration::from_secs(20);

/// How long systemd is waited for when it does not read what it is told.
const NOTICE_TIMEOUT: Duration = Duration::from_millis(100);

/// Reads the clocks. Everything else is told what time it is.
#[expect(clippy::disallowed_methods, reason = "this is where real time is read")]
pub fn now() -> Now {
    Now { steady: Instant::now(), wall: SystemTime::now() }
}

/// Runs the daemon until `stop`, without touching signals; `credentials` instead of the standard chain.
///
/// # Errors
/// Where it cannot start, or the loop panicked.
pub async fn run(config: Config, credentials: Option<Credentials>, stop: CancellationToken) -> anyhow::Result<()> {
    // Nobody sends commands; the sender must live, or the loop would see the end of the channel.
    let (_commands, received) = mpsc::channel(1);
    run_with(Arc::new(config), credentials, Pace::new(now), stop, received, Arc::default()).await
}

/// Runs the daemon as a service: by the signals of the process.
///
/// # Errors
/// Where it cannot start, or the loop panicked.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let (commands, received) = mpsc::channel(4);
    let config = Arc::new(config);
    let signals =
        signal_hook_tokio::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1]).context("failed to catch signals")?;
    // One for all configurations: a reload changes the limit of uploads under way, too.
    let pace = Pace::new(now);
    let ready = Arc::new(AtomicBool::new(false));
    let listener = listen(signals, Arc::clone(&config), pace.clone(), stop.clone(), commands, Arc::clone(&ready));
    let _listener = AbortOnDropHandle::new(tokio::spawn(listener));
    run_with(config, None, pace, stop, received, ready).await
}

async fn run_with(
    config: Arc<Config>,
    credentials: Option<Credentials>,
    pace: Pace,
    stop: CancellationToken,
    commands: mpsc::Receiver<Command>,
    ready: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    for folder in [&config.state_dir, &config.runtime_dir] {
        std::fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    }
    let _lock = lock::daemon(&config.runtime_dir)?;
    let path = &config.drop_folder.path;
    std::fs::read_dir(path).with_context(|| {
        format!(
            "failed to read drop folder {} ({}: drop_folder.path); create it, or let the daemon's user read it",
            path.display(),
            config.source.display(),
        )
    })?;
    for key in config.not_in_effect() {
        tracing::warn!("{}: {key} has no effect in this version", config.source.display());
    }
    let site = Arc::new(Site::new(Arc::clone(&config), credentials, pace, now).await);
    tracing::info!("watching {}, storing in {}", path.display(), site.bucket.describe());
    // An outage is a status: nothing waits for the answer but the first capture, which asks again.
    let asked = site.bucket.clone();
    let _asking = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(refusal) = asked.put_condition().await {
            tracing::warn!("{} cannot be tried yet: {refusal}", asked.describe());
        }
    }));
    let ingest = Ingest::new(Arc::clone(&site));
    let (snapshot, snapshots) = watch::channel(ingest.first_snapshot());
    let (sites, current) = watch::channel(site);
    let (jobs, told_jobs) = watch::channel(Jobs::new());
    // Each task ends with this function, however it ends.
    let teller = AbortOnDropHandle::new(tokio::spawn(tell(snapshots, told_jobs, config.runtime_dir.clone(), ready)));
    let runner = schedule::Runner { sites: current, snapshots: snapshot.subscribe(), jobs };
    let running = AbortOnDropHandle::new(tokio::spawn(runner.run(rotate::job, stop.clone())));
    // The teller lives as long as there is a sender: it has yet to tell how a run that is cut off ended.
    let last_words = snapshot.clone();
    let report = Report { snapshot, beat: watchdog(), site: sites };
    let told_stop = stop.clone();
    let _stopping = AbortOnDropHandle::new(tokio::spawn(async move {
        told_stop.cancelled().await;
        notify(&[NotifyState::Stopping]);
    }));
    let ingesting = AbortOnDropHandle::new(tokio::spawn(ingest.run(commands, report, stop, DRAIN)));
    ingesting.await.context("the ingest loop panicked")?;
    running.await.context("the scheduler panicked")?;
    drop(last_words);
    teller.await.context("the status writer panicked")?;
    tracing::info!("stopped");
    Ok(())
}

/// Tells systemd that the loop turns, several times in the time it allows.
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

/// Passes snapshots on to `status.json` and to systemd, until the loop is gone; `ready` is whether systemd was told so.
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
        // Written before it is told: whoever waits for READY finds the file.
        let written = tokio::task::spawn_blocking(move || snapshot.write(&target)).await;
        match written {
            Ok(Err(error)) if !complained => {
                complained = true;
                tracing::warn!("failed to write status in {}: {error}; all else goes on", folder.display());
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
        // Until it is heard: systemd gives up on a daemon that never says so.
        if !matches!(state, State::Starting | State::Stopping) && !ready.load(Ordering::Acquire) {
            ready.store(notify(&[NotifyState::Ready]), Ordering::Release);
        }
        tokio::select! {
            // The end of the one must not hide the last word of the others.
            biased;
            Ok(()) = jobs.changed() => {}
            alive = snapshots.changed() => if alive.is_err() { return },
        }
    }
}

async fn listen(
    mut signals: signal_hook_tokio::Signals,
    config: Arc<Config>,
    pace: Pace,
    stop: CancellationToken,
    commands: mpsc::Sender<Command>,
    ready: Arc<AtomicBool>,
) {
    while let Some(signal) = signals.next().await {
        let command = match signal {
            // Nobody takes commands any more, and a full channel must not keep the second signal waiting.
            SIGHUP | SIGUSR1 if stop.is_cancelled() => None,
            SIGHUP => reload(&config, &pace).await.map(|site| Command::Reload(Arc::new(site))),
            SIGUSR1 => Some(Command::Look),
            _ if stop.is_cancelled() => {
                tracing::warn!("stopped at once by a second signal; what was in work is still in the drop folder");
                std::process::exit(1);
            }
            _ => {
                tracing::info!("stopping: uploads in work are finished first");
                stop.cancel();
                None
            }
        };
        if let Some(command) = command
            && commands.send(command).await.is_err()
        {
            return;
        }
        if signal == SIGHUP && ready.load(Ordering::Acquire) {
            // What is not heard now is told with the next snapshot.
            ready.store(notify(&[NotifyState::Ready]), Ordering::Release);
        }
    }
}

/// Reads the configuration again; `None` where it is refused and the old one stays.
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
    tracing::info!("configuration read again: {}", config.source.display());
    Some(Site::new(Arc::new(config), None, pace.clone(), now).await)
}

/// Tells systemd, if it is there; says whether it can be counted on to hear.
fn notify(states: &[NotifyState<'_>]) -> bool {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return true };
    let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
    send_notice(&address, lines.join("\n").as_bytes()).is_ok()
}

/// Sends one datagram to a path, or to the abstract name behind an `@` (`sd_notify(3)`).
///
/// The library's own call waits for as long as nobody reads, which may be for ever: neither the loop nor the end of the
/// daemon may hang on that.
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
