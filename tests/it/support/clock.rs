//! A wall clock that the test sets, and the library's loop by it, in threads of its own, so that a kill leaves none behind.
//!
//! The steady clock and the timers are the real ones: what is shown here is that nothing else is waited by.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hk_aws::bucket::{Credentials, Pace};
use hk_aws::clock::Now;
use hk_aws::config::Config;
use hk_aws::ingest::{Ingest, Instruction, Report};
use hk_aws::status::Snapshot;
use hk_aws::{queue, site};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::s3::{ACCESS_KEY, SECRET_KEY};
use super::site::DEADLINE;

/// Long enough to see a drain, short enough for what hangs.
const DRAIN: Duration = Duration::from_millis(200);

/// How many seconds the wall clock is ahead of the real one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock(Arc<AtomicI64>);

thread_local! {
    static CLOCK: RefCell<Clock> = RefCell::default();
}

impl Clock {
    /// Sets the clock forward, or back.
    pub(crate) fn step(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Sets the clock to a time.
    pub(crate) fn set(&self, time: SystemTime) {
        let unix = |time: SystemTime| i64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        self.0.store(unix(time) - unix(SystemTime::now()), Ordering::SeqCst);
    }

    /// Lets what runs in this thread go by it.
    pub(crate) fn govern_this_thread(&self) {
        CLOCK.set(self.clone());
    }

    /// What it says.
    pub(crate) fn wall(&self) -> SystemTime {
        let ahead = self.0.load(Ordering::SeqCst);
        let by = Duration::from_secs(ahead.unsigned_abs());
        if ahead < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
    }
}

/// The clocks of the daemon whose thread asks.
pub(crate) fn now() -> Now {
    Now { steady: Instant::now(), wall: CLOCK.with_borrow(Clock::wall) }
}

/// A running loop. Dropping it kills it.
pub(crate) struct Clocked {
    runtime: Option<Runtime>,
    running: Option<JoinHandle<()>>,
    commands: mpsc::Sender<Instruction>,
    stop: CancellationToken,
    pub(crate) snapshots: watch::Receiver<Snapshot>,
}

impl Clocked {
    pub(crate) async fn start(config: Config, clock: &Clock) -> Self {
        Self::start_as(config, clock, queue::CAPACITY, || {}).await
    }

    /// Starts a loop whose queue holds fewer files than the daemon's.
    pub(crate) async fn start_with_capacity(config: Config, clock: &Clock, capacity: usize) -> Self {
        Self::start_as(config, clock, capacity, || {}).await
    }

    /// Starts a loop that does this first in each of its threads.
    pub(crate) async fn start_in(
        config: Config,
        clock: &Clock,
        each_thread: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self::start_as(config, clock, queue::CAPACITY, each_thread).await
    }

    async fn start_as(
        config: Config,
        clock: &Clock,
        capacity: usize,
        each_thread: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        std::fs::create_dir_all(&config.state_dir).unwrap();
        let clock = clock.clone();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .on_thread_start(move || {
                CLOCK.set(clock.clone());
                each_thread();
            })
            .enable_all()
            .build()
            .unwrap();
        let (commands, received) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let told = stop.clone();
        let (running, snapshots) = runtime
            .spawn(async move {
                let context = context(config, ACCESS_KEY).await;
                let ingest = Ingest::with_capacity(Arc::clone(&context), capacity);
                let (snapshot, snapshots) = watch::channel(ingest.snapshot());
                let report = Report {
                    snapshot,
                    beat: Box::new(|_| {}),
                    site: watch::Sender::new(site::SiteInForce::new(context)),
                };
                (tokio::spawn(ingest.run(received, report, told, DRAIN)), snapshots)
            })
            .await
            .unwrap();
        Self { runtime: Some(runtime), running: Some(running), commands, stop, snapshots }
    }

    /// Gives it other settings, as SIGHUP does.
    pub(crate) async fn reload(&self, config: Config) {
        let context = self.runtime.as_ref().unwrap().spawn(context(config, ACCESS_KEY)).await.unwrap();
        self.commands.send(Instruction::Reload(context)).await.unwrap();
    }

    /// Lets it look at everything, as SIGUSR1 does.
    pub(crate) async fn look(&self) {
        self.commands.send(Instruction::Look).await.unwrap();
    }

    /// Stops it as SIGTERM does.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.running.take().unwrap()).await.unwrap().unwrap();
    }

    /// Whether the loop is gone, which only a panic can bring about.
    pub(crate) fn has_ended(&self) -> bool {
        self.running.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Waits until what it says of itself is as wanted.
    pub(crate) async fn wait_for(&mut self, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let told = tokio::time::timeout(DEADLINE, self.snapshots.wait_for(|snapshot| wanted(snapshot))).await;
        let found = told.ok().map(|found| found.unwrap().clone());
        found.unwrap_or_else(|| panic!("no {what}; it says {:#?}", *self.snapshots.borrow()))
    }
}

impl Drop for Clocked {
    fn drop(&mut self) {
        let runtime = self.runtime.take();
        // What blocks is finished, nothing that waits is; a thread of its own, because a runtime may not wait in another.
        std::thread::spawn(move || drop(runtime)).join().unwrap();
    }
}

/// The library's site with somebody's credentials, by the clock of the thread that asks.
pub(crate) async fn context(config: Config, access_key: &str) -> Arc<site::Site> {
    let credentials = Credentials::new(access_key, SECRET_KEY, None, None, "test");
    Arc::new(site::Site::new(Arc::new(config), Some(credentials), Pace::new(now), now).await)
}
