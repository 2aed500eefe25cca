//! Each kind of condition is caused for real in a whole daemon, and the message about it arrives at a webhook. What must
//! last for ten minutes does so by a clock that the test sets.
//!
//! What needs a disk, a mount or a name server of its own is caused in the tests with real peers.

use std::time::Duration;

use hk_aws::alerts;
use hk_aws::status::ConditionKind;
use serde_json::Value;

use crate::support::clock::Clock;
use crate::support::s3::Fault;
use crate::support::service::{Answer, Posted, Service};
use crate::support::settings;
use crate::support::site::{Settings, Site, files, key, picture};

/// Where a kind is caused, and told of: the name of a test. A kind that is added does not compile without one.
fn told_by(kind: ConditionKind) -> &'static str {
    match kind {
        ConditionKind::DropFolderUnreadable => "a_drop_folder_that_is_gone_is_told",
        ConditionKind::DropFolderReplaced => "a_drop_disk_that_drops_off_is_told",
        ConditionKind::DropFolderReadOnly => "a_drop_folder_that_turns_read_only_is_told",
        ConditionKind::BucketRefuses => "a_bucket_that_refuses_is_told_with_the_mend_and_so_is_the_end_of_it",
        // The first is never told: after some seconds it is the second.
        ConditionKind::BucketUntried | ConditionKind::BucketUnreachable => "a_bucket_that_does_not_answer_is_told",
        ConditionKind::DropFolderShort => "a_drop_folder_that_runs_full_is_told",
        ConditionKind::Exposure => "a_capture_that_is_only_here_for_too_long_is_told_by_its_name",
        ConditionKind::Unreadable => "a_file_that_the_service_may_not_read_is_told",
        ConditionKind::CannotRemove => "a_stored_file_that_cannot_leave_is_told",
        ConditionKind::SetAside => "a_file_that_was_set_aside_is_told",
        ConditionKind::StateShort => "a_state_folder_that_runs_full_is_told",
        ConditionKind::StateUnwritable => "a_state_folder_that_cannot_be_written_is_told",
        ConditionKind::CopiesMissing => "a_disk_of_copies_that_drops_off_is_told",
        ConditionKind::CopiesRefused => "a_disk_of_copies_that_is_full_is_told",
        ConditionKind::RotationFailed => "a_rotation_that_fails_at_night_is_told",
        ConditionKind::RotationOverdue => "a_rotation_that_finds_no_bucket_for_hours_is_told",
        ConditionKind::BoxClock => "a_clock_of_the_box_that_is_wrong_by_the_answers_of_aws_is_told",
        ConditionKind::CameraSilent => "a_camera_that_falls_silent_is_told_and_so_is_its_return",
        ConditionKind::CameraClock => "a_camera_whose_clock_is_wrong_is_told",
        ConditionKind::FtpLogins => "logins_that_fail_at_a_real_ftp_server_are_told",
        ConditionKind::ReloadRefused => "a_reload_that_was_refused_is_told",
        ConditionKind::MetricsPort => "a_port_of_metrics_that_is_taken_is_told",
        // It is told by everything else.
        ConditionKind::AlertsFail => "a_broken_webhook_is_a_condition_of_its_own",
        ConditionKind::HeartbeatFails => "a_heartbeat_that_fails_is_told",
        ConditionKind::MqttFails => "a_broker_that_is_not_there_is_told",
        ConditionKind::Restarted => "a_daemon_that_crashed_is_told",
    }
}

#[test]
fn each_kind_is_caused_and_told_by_a_test() {
    let tests = [include_str!("alerting.rs"), include_str!("alerts.rs"), include_str!("../peers/alerting.rs")].concat();
    for kind in ConditionKind::ALL {
        let test = told_by(kind);
        assert_eq!(tests.matches(&format!("fn {test}()")).count(), 1, "{test}");
    }
}

/// A daemon whose clock the test sets, and the service that its alerts go to.
pub(crate) struct House {
    pub(crate) site: Site,
    pub(crate) service: Service,
    pub(crate) clock: Clock,
}

impl House {
    /// A house whose daemon is not started.
    pub(crate) async fn new(more: Settings) -> Self {
        let clock = Clock::default();
        clock.govern_this_thread();
        let service = Service::start().await;
        let mut rest = settings::parse(&format!("alerts: {{webhook: '{}/hook'}}", service.url()));
        settings::merge(&mut rest, settings::parse(more.rest));
        let site = Site::new(Settings { rest: settings::write(&rest).leak(), ..more }).await;
        Self { site, service, clock }
    }

    pub(crate) async fn started(more: Settings) -> Self {
        let mut house = Self::new(more).await;
        house.site.start().await;
        house
    }

    /// Lets time go by.
    pub(crate) fn pass(&self, time: Duration) {
        self.clock.step(i64::try_from(time.as_secs()).unwrap());
    }

    /// What the state of alerts remembers of a kind.
    pub(crate) fn remembered(&self, kind: ConditionKind) -> Option<Value> {
        let file = files(&self.site.path("")).into_iter().find(|path| path.ends_with(alerts::FILE))?;
        let memory: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        memory["state"]["known"].as_array()?.iter().find(|known| known["kind"] == kind.name()).cloned()
    }

    /// Waits until a condition holds, lets ten minutes go by, and returns the message about it.
    pub(crate) async fn told(&self, kind: ConditionKind) -> Value {
        self.site.wait(kind.name(), || self.remembered(kind).filter(|known| known["gone_at"].is_null())).await;
        assert!(!self.posted().iter().any(|posted| is(posted, kind, "entered")), "told too early");
        self.pass(Duration::from_secs(601));
        let message = self.wait_for(kind, "entered").await;
        let text = |name: &str| message[name].as_str().unwrap();
        assert!(text("text").starts_with("Since ") && !text("advice").is_empty(), "{message:#}");
        assert!(text("title").len() > text("box").len() + 10, "{message:#}");
        message
    }

    /// Waits until a condition that was told has ended, lets ten minutes go by, and returns the message about its end.
    async fn is_over(&self, kind: ConditionKind) -> Value {
        self.site.wait("its end", || self.remembered(kind).filter(|known| known["gone_at"].is_string())).await;
        self.pass(Duration::from_secs(601));
        self.wait_for(kind, "left").await
    }

    async fn wait_for(&self, kind: ConditionKind, state: &str) -> Value {
        let posted = self.service.wait_for(|posted| posted.iter().any(|posted| is(posted, kind, state))).await;
        posted.iter().find(|posted| is(posted, kind, state)).unwrap().json()
    }

    fn posted(&self) -> Vec<Posted> {
        self.service.posted()
    }

    /// What was told, in order: kinds and states.
    pub(crate) fn all_told(&self) -> Vec<(String, String)> {
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        self.posted().iter().map(|posted| (word(&posted.json()["kind"]), word(&posted.json()["state"]))).collect()
    }

    /// Asserts that this was told, and nothing else.
    fn alone(&self, told: &[(ConditionKind, &str)]) {
        let told: Vec<_> = told.iter().map(|(kind, state)| (kind.name().to_owned(), (*state).to_owned())).collect();
        assert_eq!(self.all_told(), told);
    }

    /// Lets the clock go on until the nightly rotation is due, and some time more.
    async fn pass_the_night(&self, more: Duration) {
        let status =
            self.site.wait_for_status("the time of the rotation", |status| next_rotation(status).is_some()).await;
        let due = next_rotation(&status).unwrap() - chrono::DateTime::<chrono::Utc>::from(self.clock.wall());
        self.pass(due.to_std().unwrap() + more);
    }
}

fn next_rotation(status: &hk_aws::status::Snapshot) -> Option<chrono::DateTime<chrono::Utc>> {
    status.jobs.get(hk_aws::schedule::ROTATE)?.next_at
}

fn is(posted: &Posted, kind: ConditionKind, state: &str) -> bool {
    let message = posted.json();
    message["kind"] == kind.name() && message["state"] == state
}

pub(crate) fn rest(rest: &'static str) -> Settings {
    Settings { rest, ..Settings::default() }
}

pub(crate) fn is_picture(key: &str) -> bool {
    key.ends_with(".jpg")
}

#[tokio::test]
async fn a_drop_folder_that_is_gone_is_told() {
    let house = House::started(Settings::default()).await;
    // Not removed: the daemon's lock goes by the inode, which the folder of another test would then get.
    std::fs::rename(house.site.drop_path(""), house.site.path("elsewhere")).unwrap();
    let message = house.told(ConditionKind::DropFolderUnreadable).await;
    assert_eq!(message["urgency"], "high");
    house.alone(&[(ConditionKind::DropFolderUnreadable, "entered")]);
}

#[tokio::test]
async fn a_bucket_that_refuses_is_told_with_the_mend_and_so_is_the_end_of_it() {
    let mut house = House::new(Settings::default()).await;
    house.site.s3.fault(Fault::fail("PutObject", 403, "AccessDenied").on_key(|_| true));
    house.site.start_in_trouble().await;
    let message = house.told(ConditionKind::BucketRefuses).await;
    assert_eq!(message["urgency"], "high");
    assert!(message["advice"].as_str().unwrap().contains("s3:PutObject"), "{message:#}");
    house.site.s3.clear_faults();
    house.site.write(format!("CAM/{}", picture(1)), b"evidence");
    let message = house.is_over(ConditionKind::BucketRefuses).await;
    assert!(message["text"].as_str().unwrap().starts_with("It is over that "), "{message:#}");
    house.alone(&[(ConditionKind::BucketRefuses, "entered"), (ConditionKind::BucketRefuses, "left")]);
}

#[tokio::test]
async fn a_bucket_that_does_not_answer_is_told() {
    let mut house = House::new(Settings::default()).await;
    house.site.s3.fault(Fault::hang("PutObject").on_key(|_| true));
    // Until then it has not been tried.
    house.site.start_in_trouble().await;
    house.told(ConditionKind::BucketUnreachable).await;
    house.alone(&[(ConditionKind::BucketUnreachable, "entered")]);
}

#[tokio::test]
async fn a_capture_that_is_only_here_for_too_long_is_told_by_its_name() {
    let house = House::started(Settings::default()).await;
    house.site.s3.fault(Fault::hang("PutObject").on_key(is_picture));
    house.site.write(format!("CAM/{}", picture(1)), b"evidence");
    house.site.wait_for_status("the upload", |status| status.oldest_only_here.is_some()).await;
    house.pass(Duration::from_mins(15));
    let message = house.told(ConditionKind::Exposure).await;
    assert!(message["text"].as_str().unwrap().contains(&picture(1)), "{message:#}");
    house.alone(&[(ConditionKind::Exposure, "entered")]);
}

#[tokio::test]
async fn a_stored_file_that_cannot_leave_is_told() {
    let mut house = House::new(Settings::default()).await;
    std::fs::create_dir(house.site.path("state")).unwrap();
    std::fs::write(house.site.path("state/ledger"), b"in the way").unwrap();
    house.site.start().await;
    house.site.write(format!("CAM/{}", picture(1)), b"evidence");
    house.told(ConditionKind::CannotRemove).await;
    house.alone(&[(ConditionKind::CannotRemove, "entered")]);
}

#[tokio::test]
async fn a_file_that_was_set_aside_is_told() {
    let house = House::started(Settings { drop: "partial_after: 0s", ..Settings::default() }).await;
    house.site.write(format!("CAM/{}", picture(1)), b"");
    let message = house.told(ConditionKind::SetAside).await;
    assert_eq!(message["urgency"], "normal");
    house.alone(&[(ConditionKind::SetAside, "entered")]);
}

#[tokio::test]
async fn a_state_folder_that_cannot_be_written_is_told() {
    let mut house = House::new(Settings::default()).await;
    std::fs::write(house.site.path("state"), b"no folder").unwrap();
    house.site.start().await;
    house.told(ConditionKind::StateUnwritable).await;
    house.alone(&[(ConditionKind::StateUnwritable, "entered")]);
}

#[tokio::test]
async fn a_rotation_that_fails_at_night_is_told() {
    let house = House::started(Settings::default()).await;
    house.site.write(format!("CAM/{}", picture(1)), b"evidence");
    house.site.wait_for_keys(&[&key("CAM", 1)]).await;
    house.site.s3.fault(Fault::fail("ListObjectsV2", 403, "AccessDenied"));
    house.pass_the_night(Duration::from_mins(1)).await;
    let message = house.told(ConditionKind::RotationFailed).await;
    assert!(message["text"].as_str().unwrap().contains("scripted AccessDenied"), "{message:#}");
    house.alone(&[(ConditionKind::RotationFailed, "entered")]);
}

#[tokio::test]
async fn a_rotation_that_finds_no_bucket_for_hours_is_told() {
    let house = House::started(Settings::default()).await;
    house.site.s3.refuse().await;
    house.site.write(format!("CAM/{}", picture(1)), b"evidence");
    house.site.wait_for_status("the outage", |status| status.link_down).await;
    house.pass_the_night(Duration::from_mins(6 * 60 + 1)).await;
    house.told(ConditionKind::RotationOverdue).await;
    house.wait_for(ConditionKind::BucketUnreachable, "entered").await;
    house.wait_for(ConditionKind::Exposure, "entered").await;
    let kinds = ["rotation_overdue", "bucket_unreachable", "exposure"];
    assert!(house.all_told().iter().all(|(kind, _)| kinds.contains(&kind.as_str())), "{:?}", house.all_told());
}

#[tokio::test]
async fn a_camera_that_falls_silent_is_told_and_so_is_its_return() {
    let house = House::started(rest("cameras: [{name: CAM, silent_after: 1h}]")).await;
    house.site.write(format!("CAM/{}", picture(1)), b"evidence");
    house.site.wait_for_status("the picture", |status| status.cameras.contains_key("CAM")).await;
    house.pass(Duration::from_mins(61));
    let message = house.told(ConditionKind::CameraSilent).await;
    assert_eq!(message["camera"], "CAM");
    house.site.write(format!("CAM/{}", picture(2)), b"more evidence");
    assert_eq!(house.is_over(ConditionKind::CameraSilent).await["camera"], "CAM");
    house.alone(&[(ConditionKind::CameraSilent, "entered"), (ConditionKind::CameraSilent, "left")]);
}

#[tokio::test]
async fn a_camera_whose_clock_is_wrong_is_told() {
    let house = House::started(rest("max_clock_skew: 400d")).await;
    house.site.write("CAM/192.168.1.64_01_20000101000000000_MOTION_DETECTION.jpg", b"evidence");
    let message = house.told(ConditionKind::CameraClock).await;
    assert_eq!(message["camera"], "CAM");
    assert!(message["text"].as_str().unwrap().contains("it said 2000-01-01 00:00:00"), "{message:#}");
    house.alone(&[(ConditionKind::CameraClock, "entered")]);
}

#[tokio::test]
async fn a_port_of_metrics_that_is_taken_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = format!("metrics: {{listen: '{}'}}", taken.local_addr().unwrap());
    let house = House::started(rest(metrics.leak())).await;
    house.told(ConditionKind::MetricsPort).await;
    house.alone(&[(ConditionKind::MetricsPort, "entered")]);
}

#[tokio::test]
async fn a_heartbeat_that_fails_is_told() {
    let monitor = Service::start().await;
    monitor.answer([Answer::Echo(404)]);
    let heartbeat = format!("heartbeat: {{every: 1s, name: porch, url: '{}/ping/uuid-s3cret'}}", monitor.url());
    let house = House::started(rest(heartbeat.leak())).await;
    let message = house.told(ConditionKind::HeartbeatFails).await;
    assert_eq!(message["box"], "porch");
    assert!(!message.to_string().contains("s3cret"), "{message:#}");
    house.alone(&[(ConditionKind::HeartbeatFails, "entered")]);
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_told() {
    let house = House::started(rest("mqtt: {url: 'mqtt://127.0.0.1:1'}")).await;
    house.told(ConditionKind::MqttFails).await;
    house.alone(&[(ConditionKind::MqttFails, "entered")]);
}

#[tokio::test]
async fn a_daemon_that_crashed_is_told() {
    let mut house = House::started(Settings::default()).await;
    house.site.abort().await;
    house.site.start_keeping_status().await;
    let message = house.told(ConditionKind::Restarted).await;
    assert_eq!(message["urgency"], "low");
    house.alone(&[(ConditionKind::Restarted, "entered")]);
}

#[tokio::test]
async fn in_quiet_hours_only_what_is_grave_is_told_and_what_is_muted_never() {
    let alerts = "alerts: {quiet: '22:00-07:00', mute: ['CAM-2: camera_silent', camera_clock]}\nmax_clock_skew: 400d\n\
                  cameras: [{name: CAM-1, silent_after: 1h}, {name: CAM-2, silent_after: 1h}]";
    let mut house = House::new(rest(alerts)).await;
    let today = chrono::Utc::now().date_naive();
    house.clock.set(today.and_hms_opt(22, 30, 0).unwrap().and_utc().into());
    house.site.s3.fault(Fault::fail("PutObject", 403, "AccessDenied").on_key(|key| !is_picture(key)));
    house.site.start_in_trouble().await;
    // It is grave, and wakes people.
    house.told(ConditionKind::BucketRefuses).await;
    house.site.s3.clear_faults();
    house.site.write("CAM-3/192.168.1.64_01_20000101000000000_MOTION_DETECTION.jpg", b"evidence");
    house.is_over(ConditionKind::BucketRefuses).await;
    house.site.wait("the clock", || house.remembered(ConditionKind::CameraClock)).await;
    house.pass(Duration::from_hours(2));
    house.site.wait("the silence", || house.remembered(ConditionKind::CameraSilent)).await;
    house.pass(Duration::from_hours(1));
    house.pass(Duration::from_hours(6));
    let message = house.wait_for(ConditionKind::CameraSilent, "entered").await;
    let at: chrono::DateTime<chrono::Utc> = message["at"].as_str().unwrap().parse().unwrap();
    assert!((7..12).contains(&chrono::Timelike::hour(&at)), "{message:#}");
    assert!(message["camera"] == "CAM-1" && !message.to_string().contains("CAM-2"), "{message:#}");
    let kinds: Vec<String> = house.all_told().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["bucket_refuses", "bucket_refuses", "camera_silent"]);
}

#[tokio::test]
async fn a_reload_that_was_refused_is_told() {
    use crate::process::{Place, daemon::Daemon};
    // The signals of a process belong to the whole of it, so this is a process, and its ten minutes are in its memory.
    let service = Service::start().await;
    let place = Place::new();
    let url = service.url();
    place.configure("http://127.0.0.1:9", &format!("alerts: {{webhook: '{url}/hook', mute: [bucket_unreachable]}}\n"));
    crate::support::memory::remember(&place.path().join("state"), &[(ConditionKind::ReloadRefused, None)]);
    let process: Daemon = place.start();
    let good = std::fs::read_to_string(place.config_file()).unwrap();
    std::fs::write(place.config_file(), good.replace("path_style", "path_stile")).unwrap();
    process.signal(rustix::process::Signal::HUP);
    let is_refused = |posted: &Posted| is(posted, ConditionKind::ReloadRefused, "entered");
    let posted = service.wait_for(|posted| posted.iter().any(is_refused)).await;
    let message = posted.iter().find(|posted| is_refused(posted)).unwrap().json();
    assert!(message["text"].as_str().unwrap().contains("path_stile"), "{message:#}");
}
