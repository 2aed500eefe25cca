//! Jobs run when they are due: missed runs, a bucket that refuses, failures, panics, stops, other settings.

use std::cell::Cell;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use hk_aws::bucket::{Credentials, Pace};
use hk_aws::clock::Now;
use hk_aws::config::Schedule;
use hk_aws::ingest::Ingest;
use hk_aws::schedule::{self, Ended, FILE, JobRecord, JobRecords, ROTATE, RunEnd, Runner};
use hk_aws::site::{self, SiteInForce};
use hk_aws::status::{DaemonState, Job, Jobs, Snapshot};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::process::daemon::{SOON, wait_for};
use crate::process::{BUCKET, Place, status_of};
use crate::support::s3::{ACCESS_KEY, MemoryS3, SECRET_KEY};
use crate::support::settings;
use crate::support::site::{DEADLINE, Settings, Site, key, picture};

/// The last thing that anybody would wait for.
const NEW_YEAR: Settings = Settings { drop: "", s3: "", rest: "rotate: {schedule: '0 0 1 1 *'}\n" };

thread_local! {
    /// How far both clocks are ahead of the real ones.
    static AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

fn clock() -> Now {
    let ahead = AHEAD.get();
    Now { steady: Instant::now() + ahead, wall: SystemTime::now() + ahead }
}

fn step(minutes: u64) {
    AHEAD.set(AHEAD.get() + Duration::from_mins(minutes));
}

/// Writes what is remembered of the last run: so many days ago, and well.
pub(crate) fn remember(state: &Path, days: i64) {
    std::fs::create_dir_all(state).unwrap();
    let time = Some(Utc::now() - TimeDelta::days(days));
    let record =
        JobRecord { last_begun_at: time, last_ended_at: time, end: Some(RunEnd::Done), ..JobRecord::default() };
    schedule::write(&state.join(FILE), &JobRecords::from([(ROTATE.to_owned(), record)])).unwrap();
}

/// What the job does when it runs next.
#[derive(Debug, Clone)]
enum Act {
    End(Ended),
    Panic,
    /// It ends when it is told to.
    Obey,
    /// It does not.
    Hang,
}

/// A runner whose daemon is the test.
struct Bench {
    acts: Arc<Mutex<VecDeque<Act>>>,
    /// The schedule by which each run was made.
    runs: Arc<Mutex<Vec<String>>>,
    contexts: watch::Sender<SiteInForce>,
    snapshots: watch::Sender<Snapshot>,
    jobs: watch::Receiver<Jobs>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

async fn context(site: &Site, settings: Settings) -> Arc<site::Site> {
    let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test");
    Arc::new(site::Site::new(Arc::new(site.config_of(settings)), Some(credentials), Pace::new(clock), clock).await)
}

impl Bench {
    async fn start(site: &Site, settings: Settings, acts: impl IntoIterator<Item = Act>) -> Self {
        std::fs::create_dir_all(site.path("state")).unwrap();
        let context = context(site, settings).await;
        let first = Ingest::new(Arc::clone(&context)).snapshot();
        let (snapshots, _) = watch::channel(Snapshot { state: DaemonState::Ok, ..first });
        let (contexts, current) = watch::channel(SiteInForce::new(context));
        let (told, jobs) = watch::channel(Jobs::new());
        let runner = Runner { sites: current, snapshots: snapshots.subscribe(), jobs: told };
        let acts = Arc::new(Mutex::new(acts.into_iter().collect::<VecDeque<_>>()));
        let runs = Arc::<Mutex<Vec<String>>>::default();
        let (script, made) = (Arc::clone(&acts), Arc::clone(&runs));
        let job = move |context: Arc<site::Site>, stop: CancellationToken| {
            let act = script.lock().unwrap().pop_front().unwrap_or(Act::End(RunEnd::Done.saying("done")));
            made.lock().unwrap().push(context.config.rotate.schedule.as_ref().unwrap().as_str().to_owned());
            async move {
                match act {
                    Act::End(ended) => return ended,
                    Act::Panic => panic!("it broke"),
                    Act::Obey => stop.cancelled().await,
                    Act::Hang => std::future::pending().await,
                }
                Ended::interrupted()
            }
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(runner.run(job, stop.clone()));
        Self { acts, runs, contexts, snapshots, jobs, stop, running }
    }

    /// Gives it other settings, as the loop does after SIGHUP.
    fn reload(&self, context: Arc<site::Site>) {
        self.contexts.send_modify(|told| {
            told.site = context;
            told.retries_asked += 1;
        });
    }

    fn runs(&self) -> usize {
        self.runs.lock().unwrap().len()
    }

    /// Lets the runner look at the clock, and waits until it says of the job what is wanted.
    async fn wait_for(&mut self, what: &str, wanted: impl Fn(&Job) -> bool) -> Job {
        self.snapshots.send_modify(|_| {});
        let told = self.jobs.wait_for(|jobs| jobs.get(ROTATE).is_some_and(&wanted));
        let told = tokio::time::timeout(DEADLINE, told).await.ok().map(|told| told.unwrap()[ROTATE].clone());
        told.unwrap_or_else(|| panic!("no {what}: {:?}", *self.jobs.borrow()))
    }

    /// Waits until so many runs have ended.
    async fn ended(&mut self, runs: usize) -> Job {
        let before = Arc::clone(&self.runs);
        let is_over = move |job: &Job| before.lock().unwrap().len() == runs && job.running_since.is_none();
        self.wait_for(&format!("end of run {runs}"), |job| is_over(job) && job.last_ended_at >= job.last_begun_at).await
    }

    /// Lets the runner look at the clock often enough to do what it would do.
    async fn settle(&self) {
        for _ in 0..5 {
            self.snapshots.send_modify(|_| {});
            // What it does about a snapshot takes no time, but for the file; which is written when a run begins.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn stop(self) -> Duration {
        let began = Instant::now();
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.running).await.unwrap().unwrap();
        began.elapsed()
    }
}

#[tokio::test]
async fn a_run_that_was_missed_is_made_up_once() {
    let site = Site::new(NEW_YEAR).await;
    remember(&site.path("state"), 800);
    let mut bench = Bench::start(&site, NEW_YEAR, []).await;
    let job = bench.ended(1).await;
    assert_eq!((job.outcome.as_deref(), job.failed), (Some("done"), false), "{job:?}");
    assert!(job.next_at > Some(clock().wall.into()) && job.last_success_at == job.last_ended_at, "{job:?}");
    bench.settle().await;
    assert_eq!(bench.runs(), 1);
    bench.stop().await;
    let mut bench = Bench::start(&site, NEW_YEAR, []).await;
    assert_eq!(bench.wait_for("memory of it", |_| true).await, job, "as it was before");
    bench.settle().await;
    assert_eq!(bench.runs(), 0);
    step(366 * 24 * 60);
    bench.ended(1).await;
}

#[tokio::test]
async fn nothing_runs_at_a_first_start_before_it_is_due() {
    let site = Site::new(NEW_YEAR).await;
    let mut bench = Bench::start(&site, NEW_YEAR, []).await;
    bench.wait_for("next run", |job| job.next_at.is_some()).await;
    bench.settle().await;
    assert_eq!(bench.runs(), 0);
    bench.stop().await;
    // It was down when it would have been due for the first time.
    step(366 * 24 * 60);
    let mut bench = Bench::start(&site, NEW_YEAR, []).await;
    bench.ended(1).await;
}

#[tokio::test]
async fn without_a_schedule_the_rotation_is_due_at_the_minute_of_this_host() {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let nightly = Schedule::nightly(host.trim_end());
    let settings = Settings { drop: "", s3: "", rest: "" };
    let site = Site::new(settings).await;
    let mut bench = Bench::start(&site, settings, []).await;
    bench.wait_for("next run", |job| job.next_at.is_some()).await;
    let records = schedule::read(&site.path("state").join(FILE)).unwrap();
    assert_eq!(records[ROTATE].schedule.as_deref(), Some(nightly.as_str()));
    assert_eq!(bench.runs(), 0);
    bench.stop().await;
}

#[tokio::test]
async fn what_is_due_waits_for_the_scan_and_the_bucket_and_the_captures_that_show_it() {
    let site = Site::new(NEW_YEAR).await;
    remember(&site.path("state"), 800);
    let mut bench = Bench::start(&site, NEW_YEAR, []).await;
    bench.snapshots.send_modify(|snapshot| snapshot.state = DaemonState::Starting);
    bench.wait_for("word of what is due", |job| job.next_at < Some(clock().wall.into())).await;
    bench.settle().await;
    bench.snapshots.send_modify(|snapshot| (snapshot.state, snapshot.waiting.queued) = (DaemonState::Ok, 1));
    bench.settle().await;
    bench.snapshots.send_modify(|snapshot| (snapshot.link_down, snapshot.waiting.queued) = (true, 0));
    bench.settle().await;
    assert_eq!(bench.runs(), 0);
    bench.snapshots.send_modify(|snapshot| snapshot.link_down = false);
    bench.ended(1).await;
}

#[tokio::test]
async fn what_passes_is_tried_again_ever_later_until_it_succeeds() {
    let site = Site::new(NEW_YEAR).await;
    remember(&site.path("state"), 800);
    let later = Act::End(RunEnd::TryLater.saying("no answer"));
    let mut bench = Bench::start(&site, NEW_YEAR, vec![later.clone(); 5]).await;
    for (run, minutes) in [5, 10, 20, 40, 60].into_iter().enumerate() {
        let job = bench.ended(run + 1).await;
        assert_eq!((job.outcome.as_deref(), job.failed), (Some("failed: no answer"), true), "{job:?}");
        step(minutes - 1);
        bench.settle().await;
        assert_eq!(bench.runs(), run + 1, "{minutes} minutes are not over");
        step(1);
    }
    let job = bench.ended(6).await;
    assert!(!job.failed && job.last_success_at.is_some(), "{job:?}");
    step(120);
    bench.settle().await;
    assert_eq!(bench.runs(), 6);
    // From the beginning.
    bench.acts.lock().unwrap().push_back(later);
    step(366 * 24 * 60);
    bench.ended(7).await;
    step(5);
    bench.ended(8).await;
}

#[tokio::test]
async fn what_needs_the_operator_or_panics_or_was_done_in_part_waits_for_the_next_time_or_a_command() {
    for (act, outcome) in [
        (Act::End(RunEnd::NeedsOperator.saying("not allowed; allow it")), "failed: not allowed; allow it"),
        (Act::End(RunEnd::Partly.saying("1 day bundled, CAM 2022-02-24 not")), "in part: 1 day bundled, CAM"),
        (Act::Panic, "failed: it panicked"),
    ] {
        let site = Site::new(NEW_YEAR).await;
        remember(&site.path("state"), 800);
        let mut bench = Bench::start(&site, NEW_YEAR, vec![act; 3]).await;
        let job = bench.ended(1).await;
        assert!(job.failed && job.outcome.as_ref().unwrap().starts_with(outcome), "{job:?}");
        assert_eq!(job.last_success_at, None);
        step(24 * 60);
        bench.settle().await;
        assert_eq!(bench.runs(), 1);
        // Credentials that are renewed are no command.
        let site_before = Arc::clone(&bench.contexts.borrow().site);
        let renewed = Arc::new(site_before.renewed().await);
        bench.contexts.send_modify(|told| told.site = renewed);
        bench.settle().await;
        assert_eq!(bench.runs(), 1);
        // SIGUSR1, and SIGHUP.
        bench.contexts.send_modify(|told| told.retries_asked += 1);
        bench.ended(2).await;
        bench.reload(context(&site, NEW_YEAR).await);
        bench.ended(3).await;
        step(366 * 24 * 60);
        assert!(!bench.ended(4).await.failed);
        bench.reload(context(&site, NEW_YEAR).await);
        bench.settle().await;
        assert_eq!(bench.runs(), 4, "what succeeded is not done again");
    }
}

#[tokio::test]
async fn a_stop_ends_a_run_in_time_and_the_next_start_takes_it_up() {
    for (act, at_most) in [(Act::Obey, 500), (Act::Hang, 1900)] {
        let site = Site::new(NEW_YEAR).await;
        remember(&site.path("state"), 800);
        let mut bench = Bench::start(&site, NEW_YEAR, [act]).await;
        let job = bench.wait_for("run", |job| job.running_since.is_some()).await;
        assert!(!job.failed && job.outcome.is_none(), "{job:?}");
        let took = bench.stop().await;
        assert!(took < Duration::from_millis(at_most), "{took:?}");
        let records = schedule::read(&site.path("state").join(FILE)).unwrap();
        assert_eq!(records[ROTATE].end, Some(RunEnd::Interrupted));
        let mut bench = Bench::start(&site, NEW_YEAR, []).await;
        assert!(!bench.ended(1).await.failed);
    }
}

#[tokio::test]
async fn a_run_that_was_killed_is_taken_up_but_not_in_a_storm_of_restarts() {
    let site = Site::new(NEW_YEAR).await;
    remember(&site.path("state"), 800);
    for wait in [0, 5, 10, 20] {
        let mut bench = Bench::start(&site, NEW_YEAR, [Act::Hang]).await;
        bench.wait_for("word of the last run", |job| wait == 0 || job.failed).await;
        if wait > 0 {
            step(wait - 1);
            bench.settle().await;
            assert_eq!(bench.runs(), 0, "{wait} minutes are not over");
            step(1);
        }
        bench.wait_for("run", |job| job.running_since.is_some()).await;
        bench.running.abort();
        assert!(bench.running.await.unwrap_err().is_cancelled());
    }
}

#[tokio::test]
async fn each_run_is_made_by_the_settings_in_force_and_none_where_none_is_asked_for() {
    const HOURLY: Settings = Settings { drop: "", s3: "", rest: "rotate: {schedule: '0 * * * *'}\n" };
    const OFF: Settings = Settings {
        drop: "",
        s3: "",
        rest: "rotate: {schedule: '0 * * * *', archive: null, transition: null, expire: null}\n",
    };
    const WRITE_ONLY: Settings = Settings { s3: "access: write-only", ..HOURLY };
    let site = Site::new(NEW_YEAR).await;
    remember(&site.path("state"), 800);
    let mut bench = Bench::start(&site, NEW_YEAR, []).await;
    bench.ended(1).await;
    bench.reload(context(&site, HOURLY).await);
    let soon: DateTime<Utc> = (clock().wall + Duration::from_mins(61)).into();
    bench.wait_for("another time", |job| job.next_at.is_some_and(|next| next < soon)).await;
    step(60);
    bench.ended(2).await;
    for none in [OFF, WRITE_ONLY] {
        bench.reload(context(&site, none).await);
        tokio::time::timeout(DEADLINE, bench.jobs.wait_for(Jobs::is_empty)).await.unwrap().unwrap();
        step(24 * 60);
        bench.settle().await;
        bench.reload(context(&site, HOURLY).await);
        bench.wait_for("the job again", |_| true).await;
        bench.settle().await;
        assert_eq!(bench.runs(), 2, "what was not asked for was not missed");
    }
    step(60);
    bench.ended(3).await;
    assert_eq!(*bench.runs.lock().unwrap(), ["0 0 1 1 *", "0 * * * *", "0 * * * *"]);
}

#[tokio::test]
async fn a_schedule_that_cannot_be_written_or_read_keeps_no_job_from_running() {
    let site = Site::new(NEW_YEAR).await;
    // In the way of the file.
    std::fs::create_dir_all(site.path("state").join(FILE).join("x")).unwrap();
    let mut bench = Bench::start(&site, NEW_YEAR, []).await;
    bench.wait_for("next run", |job| job.next_at > Some(clock().wall.into())).await;
    step(366 * 24 * 60);
    bench.ended(1).await;
    bench.settle().await;
    assert_eq!(bench.runs(), 1);
    std::fs::remove_dir_all(site.path("state").join(FILE)).unwrap();
    bench.snapshots.send_modify(|_| {});
    let written = site.wait("the file", || schedule::read(&site.path("state").join(FILE)).ok()).await;
    assert_eq!(written[ROTATE].end, Some(RunEnd::Done));
}

fn rotate(status: &Snapshot) -> Job {
    status.jobs.get(ROTATE).cloned().unwrap_or_default()
}

#[tokio::test]
async fn the_daemon_makes_up_what_it_slept_through_and_the_status_tells_it() {
    let mut site = Site::new(NEW_YEAR).await;
    remember(&site.path("state"), 800);
    site.start().await;
    let is_done = |status: &Snapshot| rotate(status).last_success_at > Some(status.started_at);
    let job = rotate(&site.wait_for_status("the run", is_done).await);
    assert_eq!(job.outcome.as_deref(), Some("0 captures of 0 days bundled"), "{job:?}");
    site.stop().await;
    site.start().await;
    let again = rotate(&site.wait_for_status("the last run", |status| !status.jobs.is_empty()).await);
    assert_eq!(again, job);
    site.stop().await;
}

#[tokio::test]
async fn the_daemon_runs_nothing_while_the_bucket_refuses_and_at_once_when_it_stores() {
    // What was there before the start is ready to go.
    let mut site = Site::new(Settings { drop: "settle: 0s", ..NEW_YEAR }).await;
    remember(&site.path("state"), 800);
    site.write(format!("CAM/{}", picture(1)), b"\xFF\xD8evidence\xFF\xD9");
    site.s3.refuse().await;
    site.start_in_trouble().await;
    let waits =
        |status: &Snapshot| status.link_down && status.trouble.is_some() && rotate(status).next_at < Some(status.at);
    let status = site.wait_for_status("the outage and what is due", waits).await;
    assert!(status.link_down, "{status:?}");
    assert_eq!(rotate(&status).last_ended_at, rotate(&status).last_begun_at);
    site.s3.accept().await;
    site.wait_for_keys(&[&key("CAM", 1)]).await;
    site.wait_for_status("the run", |status| rotate(status).last_success_at.is_some()).await;
    site.stop().await;
}

#[tokio::test]
async fn the_daemon_stops_in_time_in_the_midst_of_a_run() {
    let mut site = Site::new(NEW_YEAR).await;
    remember(&site.path("state"), 800);
    // Another command is at work, and the job waits for it.
    let lock = hk_aws::lock::command(&site.path("run")).unwrap();
    site.start().await;
    site.wait_for_status("the run", |status| rotate(status).running_since.is_some()).await;
    let began = Instant::now();
    site.stop().await;
    let took = began.elapsed();
    drop(lock);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let status = Snapshot::read(&site.path("run")).unwrap();
    assert!(rotate(&status).running_since.is_none() && !rotate(&status).failed, "{:?}", status.jobs);
    site.start().await;
    site.wait_for_status("the run", |status| rotate(status).last_success_at.is_some()).await;
    site.stop().await;
}

/// Writes the settings of a place, with `more` in them.
fn configure(place: &Place, store: &MemoryS3, more: &str) {
    place.configure(&store.endpoint(), "");
    settings::change(&place.config_file(), more);
}

fn said(place: &Place, what: &str) -> usize {
    std::fs::read_to_string(place.path().join("log")).unwrap().matches(what).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_human_must_mend_is_an_error_once_and_a_signal_tries_it_again() {
    let (store, place) = (MemoryS3::start(BUCKET).await, Place::new());
    configure(&place, &store, "rotate: {schedule: '0 0 1 1 *'}");
    remember(&place.path().join("state"), 800);
    let lock = place.path().join("run/command.lock");
    std::fs::create_dir_all(&lock).unwrap();
    let daemon = place.start();
    let failed = |after: Option<DateTime<Utc>>| {
        let status =
            status_of(&place, "the failure", |status| rotate(status).failed && rotate(status).last_ended_at > after);
        let job = rotate(&status);
        assert!(job.outcome.as_ref().unwrap().contains("remove what is in its place"), "{job:?}");
        job.last_ended_at
    };
    let first = failed(Some(Utc::now() - TimeDelta::days(1)));
    daemon.signal(Signal::USR1);
    failed(first);
    // All else goes on.
    let key = place.lay_down(0, "MOTION_DETECTION");
    store.wait_for(|state| state.object(&key).is_some(), SOON).await;
    assert_eq!(said(&place, "ERROR"), 1);
    std::fs::remove_dir(&lock).unwrap();
    daemon.signal(Signal::HUP);
    let status = status_of(&place, "the success", |status| rotate(status).last_success_at > first);
    assert!(!rotate(&status).failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_may_only_write_rotates_nothing_and_says_whose_work_it_is() {
    let (store, place) = (MemoryS3::start(BUCKET).await, Place::new());
    configure(&place, &store, "s3: {access: write-only}");
    remember(&place.path().join("state"), 800);
    let daemon = place.start();
    wait_for("word of it", SOON, || (said(&place, "hk-aws aws-template") == 1).then_some(()));
    daemon.signal(Signal::USR1);
    let key = place.lay_down(0, "MOTION_DETECTION");
    store.wait_for(|state| state.object(&key).is_some(), SOON).await;
    let status = status_of(&place, "the capture", |status| status.stored.captures == 1);
    assert!(status.jobs.is_empty());
    assert_eq!((said(&place, "hk-aws aws-template"), said(&place, "rotate begins")), (1, 0));
}
