//! The heartbeat: what it says, where it goes, and that its end raises an alarm somewhere else.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use chrono::{DateTime, TimeDelta, Utc};
use hk_aws::bucket::{Credentials, PROBE, Pace};
use hk_aws::clock::Now;
use hk_aws::health::Board;
use hk_aws::heartbeat::{Heart, Heartbeat};
use hk_aws::ingest::Ingest;
use hk_aws::site::{self, SiteInForce};
use hk_aws::status::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::support::alarm::{Alarm, times};
use crate::support::s3::{ACCESS_KEY, Fault, SECRET_KEY};
use crate::support::service::{Answer, Service};
use crate::support::site::{DEADLINE, Settings, Site, bytes, picture};

const PORCH: Settings = Settings { drop: "", s3: "", rest: "heartbeat: {every: 1s, name: porch}" };

fn settings(rest: String) -> Settings {
    Settings { rest: rest.leak(), ..PORCH }
}

/// The heartbeats in the bucket, oldest first.
fn heartbeats(site: &Site) -> Vec<Heartbeat> {
    let read = |state: &crate::support::s3::State| {
        let of = |(key, object): (&String, &crate::support::s3::Object)| {
            key.contains("heartbeat/").then(|| serde_json::from_slice(object.bytes.as_ref().unwrap()).unwrap())
        };
        state.objects().iter().filter_map(of).collect()
    };
    site.s3.look(read)
}

async fn wait_for_heartbeats(site: &Site, number: usize) -> Vec<Heartbeat> {
    let is_one = |key: &&String| key.contains("heartbeat/");
    site.s3.wait_for(|state| state.objects().keys().filter(is_one).count() >= number, DEADLINE).await;
    heartbeats(site)
}

#[tokio::test]
async fn the_heartbeat_says_how_the_box_is_and_counts_on_after_a_restart() {
    let service = Service::start().await;
    let rest = format!("heartbeat: {{every: 1s, name: porch, url: '{}/ping/uuid-1'}}", service.url());
    let mut site = Site::new(Settings { s3: "prefix: home, access: write-only", ..settings(rest) }).await;
    site.start().await;
    site.write(format!("CAM/{}", picture(1)), &bytes(1, 2000));
    site.s3.wait_for(|state| state.objects().keys().any(|key| key.ends_with(".jpg")), DEADLINE).await;
    let before = heartbeats(&site).len();
    let found = wait_for_heartbeats(&site, before + 2).await;
    site.stop().await;
    let last = found.last().unwrap();
    assert_eq!((last.host.as_str(), last.every_seconds, last.waiting), ("porch", 1, Some(0)), "{last:?}");
    assert_eq!((last.exposure_seconds, last.trouble.as_ref()), (Some(0), None));
    assert_eq!(last.cameras["CAM"].taken_at.to_rfc3339(), "2026-02-24T12:00:01+00:00");
    let numbers = |found: &[Heartbeat]| found.iter().map(|beat| beat.sequence.unwrap()).collect::<Vec<_>>();
    let count = heartbeats(&site).len() as u64;
    assert_eq!(numbers(&heartbeats(&site)), (1..=count).collect::<Vec<_>>());
    let keys = site.s3.keys();
    let key = keys.iter().find(|key| key.contains("heartbeat/")).unwrap();
    assert!(key.starts_with("home/heartbeat/porch/20") && hk_aws::key::is_heartbeat(key), "{key}");
    let object = site.s3.object(key).unwrap();
    assert_eq!((object.storage_class.as_str(), object.content_type.as_deref()), ("STANDARD", Some("application/json")));
    // Besides the trial of the store, a box that may only write has put and nothing else.
    let others = site.s3.look(|state| {
        let of = |request: &&crate::support::s3::Request| !request.is_probe() && request.operation != "PutObject";
        state.requests().iter().filter(of).map(|request| request.operation).collect::<Vec<_>>()
    });
    assert_eq!(others, [""; 0]);
    let posted = service.posted();
    assert!(posted.iter().all(|posted| posted.method == "POST" && posted.path == "/ping/uuid-1"), "{posted:?}");
    assert_eq!(posted[0].json()["box"], "porch");
    site.start().await;
    let found = wait_for_heartbeats(&site, usize::try_from(count).unwrap() + 1).await;
    assert_eq!(found.last().unwrap().sequence, Some(count + 1), "no number comes twice");
}

#[tokio::test]
async fn a_ping_says_in_the_words_of_its_service_that_something_is_wrong() {
    let service = Service::start().await;
    let mut site = Site::new(PORCH).await;
    site.s3.fault(Fault::fail("PutObject", 403, "AccessDenied").on_key(|key| !key.ends_with(PROBE)));
    for (path, method, wanted) in [
        ("/ping/uuid-1?rid=1", "POST", "/ping/uuid-1/fail?rid=1"),
        ("/api/push/token?status=up&msg=OK&ping=", "GET", "/api/push/token?status=down&msg="),
    ] {
        site.set(settings(format!("heartbeat: {{name: porch, url: '{}{path}'}}", service.url())));
        let context = site.context().await;
        let settings = context.config.heartbeat.clone().unwrap();
        let mut beat = Heartbeat::new(&settings, None, DateTime::from_timestamp(1_700_000_000, 0).unwrap());
        let failed = beat.put(&context).await.unwrap_err();
        beat.ping(settings.url.as_ref().unwrap(), Some(&failed)).await.unwrap();
        beat.ping(settings.url.as_ref().unwrap(), None).await.unwrap();
        let posted = service.posted();
        let [.., wrong, right] = posted.as_slice() else { panic!("{posted:?}") };
        assert!(wrong.method == method && wrong.path.starts_with(wanted), "{posted:?}");
        assert_eq!(right.path, if method == "GET" { "/api/push/token?status=up&msg=OK" } else { path });
    }
    // What the service answers is shown, but not the secret in its address.
    let url = settings(format!("heartbeat: {{url: '{}/ping/uuid-secret'}}", service.url()));
    site.set(url);
    let context = site.context().await;
    let settings = context.config.heartbeat.clone().unwrap();
    let beat = Heartbeat::new(&settings, None, Utc::now());
    for (answer, said) in [
        (Answer::Echo(404), "127.0.0.1 answers 404: Cannot POST ***"),
        (Answer::Say(200, "<!DOCTYPE html><title>Log in</title>".to_owned()), "answers with a web page"),
        (Answer::Say(302, String::new()), "127.0.0.1 answers 302"),
    ] {
        service.answer([answer]);
        let error = beat.ping(settings.url.as_ref().unwrap(), None).await.unwrap_err();
        assert!(error.contains(said) && !error.contains("secret"), "{error}");
    }
    service.answer([Answer::Say(200, "a".repeat(10 << 20))]);
    assert!(beat.ping(settings.url.as_ref().unwrap(), None).await.unwrap().text.len() < 300);
}

#[tokio::test]
async fn heartbeats_of_one_second_have_keys_of_their_own() {
    let site = Site::new(PORCH).await;
    let context = site.context().await;
    let settings = context.config.heartbeat.clone().unwrap();
    let mut keys = Vec::new();
    for sequence in [1, 2] {
        let mut beat = Heartbeat::new(&settings, None, DateTime::from_timestamp(1_700_000_000, 0).unwrap());
        beat.sequence = Some(sequence);
        keys.push(beat.put(&context).await.unwrap().to_string());
    }
    assert_eq!(keys, ["heartbeat/porch/2023-11-14/221320.json", "heartbeat/porch/2023-11-14/221321.json"]);
}

thread_local! {
    /// The wall clock of this thread, in seconds since 1970.
    static SECONDS: Cell<u64> = const { Cell::new(0) };
}

fn clock() -> Now {
    Now { steady: Instant::now(), wall: UNIX_EPOCH + Duration::from_secs(SECONDS.get()) }
}

/// A box whose time goes by only when the test says so, and the bucket that it sends heartbeats to.
struct Box {
    site: Site,
    snapshot: watch::Sender<Arc<Snapshot>>,
    told: watch::Sender<SiteInForce>,
    heart: Option<AbortOnDropHandle<()>>,
    every: u64,
    sent: usize,
}

impl Box {
    async fn new(every: &str) -> Self {
        // Long before any certificate or lock of this machine matters.
        SECONDS.set(1_700_000_000);
        let site = Site::new(settings(format!("heartbeat: {{every: {every}, name: porch}}"))).await;
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test");
        let config = Arc::new(site.config());
        std::fs::create_dir_all(&config.state_dir).unwrap();
        let every = config.heartbeat.as_ref().unwrap().every.as_secs();
        let context = Arc::new(site::Site::new(config, Some(credentials), Pace::new(hk_aws::daemon::now), clock).await);
        let (snapshot, _) = watch::channel(Arc::new(Ingest::new(Arc::clone(&context)).snapshot()));
        let (told, _) = watch::channel(SiteInForce::new(context));
        Self { site, snapshot, told, heart: None, every, sent: 0 }
    }

    fn start(&mut self) {
        let (sites, told) = (self.told.subscribe(), self.snapshot.subscribe());
        let heart = Heart { sites, told, board: Board::default(), stop: CancellationToken::new() };
        self.heart = Some(AbortOnDropHandle::new(tokio::spawn(heart.run())));
    }

    /// Kills it wherever it is.
    fn kill(&mut self) {
        self.heart = None;
    }

    /// Waits for the heartbeat that is due.
    async fn beat(&mut self) {
        self.sent += 1;
        let sent = self.sent;
        while self.keys().len() < sent {
            // The loop says how it is.
            self.snapshot.send_modify(|snapshot| Arc::make_mut(snapshot).at += TimeDelta::seconds(1));
            tokio::task::yield_now().await;
        }
    }

    /// Lets time go by.
    async fn pass(&self, seconds: u64) {
        SECONDS.set(SECONDS.get() + seconds);
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    fn keys(&self) -> Vec<String> {
        self.site.s3.keys().into_iter().filter(|key| key.contains("heartbeat/")).collect()
    }

    fn now() -> DateTime<Utc> {
        DateTime::from(UNIX_EPOCH + Duration::from_secs(SECONDS.get()))
    }
}

/// Keeps a paused clock from going by itself while sockets are waited for.
fn hold_the_clock() -> std::sync::mpsc::Sender<()> {
    let (sender, receiver) = std::sync::mpsc::channel();
    tokio::task::spawn_blocking(move || receiver.recv().ok());
    sender
}

#[tokio::test(start_paused = true)]
async fn i11_a_box_that_is_taken_is_told_of_by_an_alarm_that_is_not_on_it() {
    let _held = hold_the_clock();
    let runs = std::env::var("HK_AWS_STOLEN").map_or(20, |runs| runs.parse().unwrap());
    let mut stolen = Box::new("5m").await;
    let alarm = Alarm { period_seconds: 300, periods: 3 };
    for run in 0..runs {
        stolen.start();
        for beat in 0..3 + run % 3 {
            stolen.beat().await;
            assert!(beat < 2 || !alarm.rings(&times(&stolen.keys()), Box::now()), "run {run}: false alarm");
            // At any second of a period.
            stolen.pass(if beat == 0 { stolen.every + run * 7 % 11 } else { stolen.every }).await;
        }
        stolen.beat().await;
        let last = Box::now();
        stolen.pass(run * 37 % 299).await;
        stolen.kill();
        while !alarm.rings(&times(&stolen.keys()), Box::now()) {
            stolen.pass(60).await;
            let silent = (Box::now() - last).num_seconds();
            assert!(silent <= alarm.latest_seconds() + 60, "run {run}: nobody has noticed for {silent} s");
        }
        stolen.pass(1000 + run * 13).await;
    }
}

#[tokio::test(start_paused = true)]
async fn i11_a_week_of_ordinary_life_with_a_restart_a_day_raises_no_alarm() {
    let _held = hold_the_clock();
    let long = std::env::var_os("HK_AWS_WEEK").is_some();
    let mut calm = Box::new(if long { "5m" } else { "1h" }).await;
    let every = i64::try_from(calm.every).unwrap();
    let alarm = Alarm { period_seconds: every, periods: 3 };
    let beats = 7 * 24 * 3600 / calm.every;
    calm.start();
    for beat in 0..beats {
        calm.beat().await;
        assert!(beat < 3 || !alarm.rings(&times(&calm.keys()), Box::now()), "false alarm after {beat} heartbeats");
        if beat * calm.every % (24 * 3600) == 0 {
            // Some minutes of an update, in the middle of the wait.
            calm.pass(calm.every / 2).await;
            calm.kill();
            calm.pass(calm.every / 3).await;
            calm.start();
        } else {
            calm.pass(calm.every).await;
        }
    }
    assert_eq!(calm.keys().len() as u64, beats);
    let times = times(&calm.keys());
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= TimeDelta::seconds(every)), "{times:?}");
}

#[tokio::test]
async fn heartbeats_are_in_no_list() {
    let mut site = Site::started(PORCH).await;
    site.write(format!("CAM/{}", picture(1)), &bytes(1, 2000));
    site.write(format!("heartbeat/{}", picture(2)), &bytes(2, 2000));
    site.s3.wait_for(|state| state.objects().keys().filter(|key| key.ends_with(".jpg")).count() == 2, DEADLINE).await;
    wait_for_heartbeats(&site, 1).await;
    site.stop().await;
    let context = site.context().await;
    let cameras = hk_aws::holdings::cameras(&context).await.unwrap();
    assert_eq!(cameras, ["%68eartbeat", "CAM"], "a camera of that name has another");
    let misfits = hk_aws::holdings::misfits::beside_cameras(&context, &cameras).await.unwrap();
    assert_eq!(misfits.objects, 0, "{misfits:?}");
    site.s3.look(|state| assert!(state.objects().keys().any(|key| key.starts_with("heartbeat/porch/"))));
    let all = hk_aws::holdings::misfits::beside_cameras(&context, &[]).await.unwrap();
    assert_eq!(all.objects, 0, "{all:?}");
}
