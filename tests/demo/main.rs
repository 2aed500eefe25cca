//! `cargo run --release --example demo`: what the daemon does, in ten seconds and on this machine alone.
//!
//! Simulated cameras write real JPEGs into a drop folder, the real daemon sends them to an S3 server in memory, and each
//! arrival is a line on the screen. The daemon runs in a process of its own, which is this program once more: cargo
//! builds no other binary for an example.
#![expect(clippy::disallowed_methods, reason = "the demo measures real time")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser as _;
use hk_aws::config::Config;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

mod camera;
#[path = "../it/support/daemon.rs"]
mod daemon;
#[path = "../it/support/s3.rs"]
#[expect(dead_code, reason = "the tests need more of it than the demo")]
mod s3;
mod screen;

use camera::{Camera, Captures, Habit};
use daemon::Daemon;
use s3::{ACCESS_KEY, MemoryS3, REGION, SECRET_KEY};
use screen::{Arrival, Screen, Summary};

const BUCKET: &str = "my-video-surveillance";
/// How long the last captures may take to arrive once the cameras have stopped.
const DRAIN: Duration = Duration::from_secs(20);

const CAMERAS: [Camera; 4] = [
    Camera { name: "CAM-EXT-001", address: "192.168.1.64", habit: Habit::Bursts },
    Camera { name: "CAM-EXT-002", address: "192.168.1.65", habit: Habit::ThinLink },
    Camera { name: "CAM-INT-001", address: "192.168.1.66", habit: Habit::Now },
    Camera { name: "CAM-INT-002", address: "192.168.1.67", habit: Habit::BreaksOff },
];

/// Shows hk-aws at work: simulated cameras, the real daemon, S3 in memory. Nothing leaves this machine.
#[derive(clap::Parser)]
#[command(name = "demo")]
struct Arguments {
    /// End after so many seconds instead of at Ctrl-C
    #[arg(long = "for", value_name = "SECONDS", env = "HK_AWS_DEMO_FOR")]
    seconds: Option<u64>,
    /// Be the daemon with this configuration; the demo starts itself so
    #[arg(long, hide = true, value_name = "CONFIG")]
    daemon: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(config) = arguments.daemon {
        Box::pin(start_daemon(&config)).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let folder = tempfile::Builder::new().prefix("hk-aws-demo-").tempdir().context("failed to make a folder")?;
    let outcome = show(folder.path(), arguments.seconds.map(Duration::from_secs)).await;
    folder.close().context("failed to remove the demo's folder")?;
    Ok(if outcome? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the library's daemon until SIGTERM.
async fn start_daemon(config: &Path) -> anyhow::Result<()> {
    // A demo that is killed takes its daemon along.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let mut terminated = signal(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        terminated.recv().await;
        token.cancel();
    });
    hk_aws::daemon::run(Config::load(config)?, None, hk_aws::daemon::now, stop).await
}

/// Runs cameras, daemon and S3 below `folder`; returns whether everything written arrived whole.
async fn show(folder: &Path, end_after: Option<Duration>) -> anyhow::Result<bool> {
    let drop_folder = folder.join("drop-folder");
    for camera in &CAMERAS {
        std::fs::create_dir_all(drop_folder.join(camera.name))?;
    }
    let s3 = MemoryS3::start(BUCKET).await;
    let config = folder.join("config.yaml");
    std::fs::write(&config, configuration(folder, &drop_folder, &s3.endpoint()))?;
    // From before there is a daemon: it does not hear Ctrl-C, and would outlive a demo that ends by it.
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut command = Command::new(std::env::current_exe().context("failed to find this program")?);
    command.arg("--daemon").arg(&config);
    let mut daemon = Daemon::start(command, folder, ACCESS_KEY, SECRET_KEY)?;

    let mut screen = Screen::new();
    screen.open(&drop_folder, &s3.endpoint(), CAMERAS.len(), end_after)?;
    tokio::select! {
        ready = daemon.ready(Duration::from_secs(20)) => { ready?; }
        // Nothing was written yet.
        _ = interrupted.recv() => return Ok(true),
    }

    let captures = Arc::new(Captures::default());
    let cameras = start_cameras(&drop_folder, &captures);
    let mut arrivals =
        Arrivals { s3: &s3, captures: &captures, open: Vec::new(), next: 0, latencies: Vec::new(), bytes: 0 };
    let end = async {
        match end_after {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        shown = arrivals.show(&mut screen, || false) => shown?,
        ended = daemon.ended() => return Err(ended),
        _ = interrupted.recv() => {}
        () = end => {}
    }

    screen.ending()?;
    drop(cameras.stop);
    tokio::task::spawn_blocking(move || cameras.threads.into_iter().try_for_each(|camera| camera.join().ok()))
        .await?
        .context("a camera panicked")?;
    tokio::select! {
        shown = tokio::time::timeout(DRAIN, arrivals.show(&mut screen, || captures.missing().is_empty())) => {
            // Past the deadline, what is missing is told below.
            shown.unwrap_or(Ok(()))?;
        }
        _ = interrupted.recv() => {}
    }
    let Arrivals { latencies, bytes, .. } = arrivals;
    daemon.stop(DRAIN).await?;
    let mut requests = BTreeMap::new();
    for request in s3.requests() {
        *requests.entry(request.operation).or_insert(0) += 1;
    }
    let missing = captures.missing();
    let (objects, probes) = (s3.keys().len(), s3.probes().len());
    screen.close(&Summary { latencies, bytes, requests, probes, missing: &missing, objects })?;
    if !missing.is_empty() {
        screen.note(&format!("the daemon's log ends:\n{}", daemon.log_tail()))?;
    }
    Ok(missing.is_empty())
}

fn configuration(folder: &Path, drop_folder: &Path, endpoint: &str) -> String {
    let (folder, drop_folder) = (folder.display(), drop_folder.display());
    format!(
        "drop_folder:\n  path: {drop_folder}\n\
         s3:\n  bucket: {BUCKET}\n  region: {REGION}\n  endpoint_url: {endpoint}\n  path_style: true\n\
         keep:\n  path: {folder}/kept\n\
         state_dir: {folder}/state\n\
         runtime_dir: {folder}/run\n"
    )
}

/// The cameras' threads. They end when `stop` is dropped.
struct Cameras {
    stop: Vec<mpsc::Sender<()>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

fn start_cameras(drop_folder: &Path, captures: &Arc<Captures>) -> Cameras {
    let start = |camera: &'static Camera| {
        let (stop, stopped) = mpsc::channel();
        let (folder, captures) = (drop_folder.join(camera.name), Arc::clone(captures));
        (stop, std::thread::spawn(move || camera.film(&folder, &captures, &stopped)))
    };
    let (stop, threads) = CAMERAS.iter().map(start).unzip();
    Cameras { stop, threads }
}

/// Follows the server's record of requests and shows what was stored.
struct Arrivals<'a> {
    s3: &'a MemoryS3,
    captures: &'a Captures,
    /// Requests that had no answer yet when they were looked at.
    open: Vec<usize>,
    /// The first request not looked at yet.
    next: usize,
    latencies: Vec<Duration>,
    bytes: u64,
}

impl Arrivals<'_> {
    /// Shows arrivals as they happen, until `done`.
    async fn show(&mut self, screen: &mut Screen, done: impl Fn() -> bool) -> anyhow::Result<()> {
        let mut changes = self.s3.changes();
        loop {
            for (arrival, answered) in self.stored() {
                let capture = self.captures.arrived(&arrival.sha256, answered);
                if let Some(capture) = &capture {
                    self.latencies.push(capture.latency);
                    self.bytes += arrival.len;
                }
                screen.arrival(BUCKET, &arrival, capture.as_ref())?;
            }
            if done() {
                return Ok(());
            }
            changes.changed().await.context("the S3 server has stopped")?;
        }
    }

    /// Takes the objects that were stored since the last look.
    fn stored(&mut self) -> Vec<(Arrival, Instant)> {
        self.s3.look(|state| {
            let requests = state.requests();
            let looked_at = std::mem::take(&mut self.open).into_iter().chain(self.next..requests.len());
            let mut stored = Vec::new();
            for index in looked_at {
                let request = &requests[index];
                let puts = matches!(request.operation, "PutObject" | "CompleteMultipartUpload") && !request.is_probe();
                match (request.answered, request.status, state.object(&request.key)) {
                    (None, ..) => self.open.push(index),
                    (Some(answered), Some(200), Some(object)) if puts => {
                        let (key, sha256) = (request.key.clone(), object.sha256.clone());
                        stored.push((Arrival { key, len: object.len, sha256 }, answered));
                    }
                    _ => {}
                }
            }
            self.next = requests.len();
            stored
        })
    }
}
