//! The daemon as a process: what it tells its service manager, how it takes signals, and what its exit codes say.
#![expect(clippy::disallowed_methods, reason = "tests measure real time, and lay files into the drop folder")]
#![expect(clippy::unwrap_used, reason = "a test ends where its ground gives way")]

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use chrono::{TimeDelta, Utc};
use hk_aws::status::{DaemonState, Snapshot};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::s3::{self as store, ACCESS_KEY, Conditions, MemoryS3, REGION, SECRET_KEY};
use crate::support::settings;

#[path = "../peers/daemon.rs"]
pub(crate) mod daemon;

use daemon::{BINARY, Daemon, SOON, wait_for};

pub(crate) const BUCKET: &str = "captures";

/// How often systemd would want to hear from the daemon; it should answer twice as often.
const WATCHDOG: Duration = Duration::from_millis(400);

/// A drop folder, a configuration and everything else that a daemon of its own needs.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = TempDir::with_prefix("hk-aws-process-").unwrap();
        fs::create_dir_all(folder.path().join("drop/CAM-EXT-001")).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.path().join("config.yaml")
    }

    /// Writes a good configuration for a store at `endpoint`; `more` is added to the drop folder's section.
    pub(crate) fn configure(&self, endpoint: &str, more: &str) {
        let folder = self.path().display();
        let config = format!(
            "state_dir: {folder}/state\nruntime_dir: {folder}/run\ntimezone: UTC\nmax_clock_skew: null\n\
             drop_folder:\n  path: {folder}/drop\n{more}\
             s3:\n  bucket: {BUCKET}\n  region: {REGION}\n  endpoint_url: {endpoint}\n  path_style: true\n\
             keep:\n  days: 0\n\
             log:\n  target: stderr\n  level: debug\n"
        );
        fs::write(self.config_file(), config).unwrap();
    }

    /// The command that runs the daemon here, with the keys for the store in memory.
    pub(crate) fn run(&self) -> Command {
        self.run_program(BINARY)
    }

    pub(crate) fn run_program(&self, program: &str) -> Command {
        let mut command = Daemon::command(program);
        command.arg("--config").arg(self.config_file()).arg("run");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command
    }

    /// The command that runs the daemon as somebody to whom the folders belong and the files of the test do not.
    fn run_as_nobody(&self) -> Command {
        let nobody = 65_534;
        // The build may lie where only root may go.
        let copy = self.path().join("hk-aws");
        fs::copy(BINARY, &copy).unwrap();
        let mut command = self.run_program(copy.to_str().unwrap());
        command.uid(nobody).gid(nobody);
        fs::set_permissions(self.path(), Permissions::from_mode(0o777)).unwrap();
        for path in ["drop", "drop/CAM-EXT-001"] {
            std::os::unix::fs::chown(self.path().join(path), Some(nobody), Some(nobody)).unwrap();
        }
        command
    }

    /// Starts the daemon and waits until it is ready.
    pub(crate) fn start(&self) -> Daemon {
        let mut daemon = Daemon::start(self.run(), self.path());
        daemon.wait_for_notice("READY=1", 0);
        daemon
    }

    /// Lays a whole picture into the drop folder, closed an hour ago as far as its times tell; answers its key.
    pub(crate) fn lay_down(&self, number: i64, event: &str) -> String {
        let taken = Utc::now() - TimeDelta::minutes(number);
        let name = format!("192.168.1.64_01_{}_{event}.jpg", taken.format("%Y%m%d%H%M%S%3f"));
        let path = self.path().join("drop/CAM-EXT-001").join(&name);
        // Renamed into place, it is never seen half-written.
        let elsewhere = self.path().join(&name);
        let jpeg = [b"\xFF\xD8".as_slice(), number.to_string().as_bytes(), b"\xFF\xD9"].concat();
        fs::write(&elsewhere, jpeg).unwrap();
        let hour_ago = SystemTime::now() - Duration::from_hours(1);
        File::options().write(true).open(&elsewhere).unwrap().set_modified(hour_ago).unwrap();
        fs::rename(elsewhere, path).unwrap();
        format!("CAM-EXT-001/{}/{name}", taken.format("%Y-%m-%d"))
    }
}

/// An address where nothing listens.
fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn store_that_is_down() -> String {
    format!("http://{}", closed_port())
}

#[test]
fn ready_comes_after_the_first_scan_and_with_the_store_down() {
    const CAPTURES: u64 = 40;
    let place = Place::new();
    place.configure(&store_that_is_down(), "");
    for number in 0..CAPTURES {
        place.lay_down(number.cast_signed(), "MOTION_DETECTION");
    }
    let _daemon = place.start();
    let status = Snapshot::read(&place.path().join("run")).unwrap();
    let waiting = status.waiting;
    assert_eq!(waiting.settling + waiting.queued + waiting.uploading + waiting.backing_off, CAPTURES);
}

#[test]
fn the_status_line_follows_what_waits() {
    let place = Place::new();
    place.configure(&store_that_is_down(), "");
    let mut daemon = place.start();
    daemon.wait_for_notice("STATUS=", 0);
    let before = daemon.notices();
    place.lay_down(0, "MOTION_DETECTION");
    wait_for("another status", SOON, || {
        daemon.notices().into_iter().find(|line| line.starts_with("STATUS=") && !before.contains(line))
    });
}

#[test]
fn the_watchdog_is_fed_when_it_is_ours() {
    let place = Place::new();
    place.configure(&store_that_is_down(), "");
    // The shell becomes the daemon, and knows its number before.
    let own = ["-c", "WATCHDOG_PID=$$ exec \"$@\"", "sh"];
    let set_for_any = ["-c", "exec \"$@\"", "sh"];
    for prefix in [own, set_for_any] {
        let mut daemon = Daemon::start(through("sh", &prefix, &place.run()), place.path());
        let mut heard = 0;
        for _ in 0..5 {
            heard = daemon.wait_for_notice("WATCHDOG=1", heard);
        }
    }
}

#[test]
fn the_watchdog_is_left_alone_when_it_is_for_another_process() {
    let place = Place::new();
    place.configure(&store_that_is_down(), "");
    let mut command = watched(place.run());
    command.env("WATCHDOG_PID", "1");
    let mut daemon = Daemon::start(command, place.path());
    let ready = daemon.wait_for_notice("READY=1", 0);
    // Long enough to have been fed several times: reloading passes through the loop.
    let begin = Instant::now();
    let mut heard = ready;
    while begin.elapsed() < 3 * WATCHDOG {
        daemon.signal(Signal::HUP);
        heard = daemon.wait_for_notice("RELOADING=1", heard);
        heard = daemon.wait_for_notice("READY=1", heard);
    }
    assert!(!daemon.notices().contains(&"WATCHDOG=1".to_owned()), "{:?}", daemon.notices());
}

/// What wedges the loop is real: a log that nobody reads any more, so that writing a line blocks for ever.
#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_starves_while_the_loop_is_wedged() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    place.configure(&store.endpoint(), "");
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut daemon = Daemon::start_logging_to(watched(place.run()), place.path(), Stdio::from(writer));
    let stalled = Arc::new(AtomicBool::new(false));
    let stall = Arc::clone(&stalled);
    let reading = thread::spawn(move || {
        let mut chunk = [0; 4096];
        while !stall.load(Ordering::Relaxed) && reader.read(&mut chunk).unwrap() > 0 {}
        reader
    });
    let ready = daemon.wait_for_notice("READY=1", 0);
    daemon.wait_for_notice("WATCHDOG=1", ready);

    stalled.store(true, Ordering::Relaxed);
    // Each is worth a line at least, and together they are far more than a pipe holds (64 KiB).
    for number in 0..3000 {
        place.lay_down(number, "MOTION_DETECTION");
    }
    let fed = |daemon: &Daemon| daemon.notices().iter().filter(|line| *line == "WATCHDOG=1").count();
    let (mut last, mut since) = (fed(&daemon), Instant::now());
    wait_for("the watchdog to starve", Duration::from_mins(1), || {
        let now = fed(&daemon);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() > 5 * WATCHDOG).then_some(())
    });

    let heard = daemon.notices().len();
    let mut reader = reading.join().unwrap();
    thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    daemon.wait_for_notice("WATCHDOG=1", heard);
}

#[test]
fn a_signal_to_stop_is_announced_and_ends_in_success() {
    let place = Place::new();
    place.configure(&store_that_is_down(), "");
    for signal in [Signal::TERM, Signal::INT] {
        // In a session of its own it has no terminal at all.
        let mut daemon = Daemon::start(through("setsid", &[], &place.run()), place.path());
        let ready = daemon.wait_for_notice("READY=1", 0);
        daemon.signal(signal);
        assert_eq!(daemon.wait_for_end(SOON).code(), Some(0), "{signal:?}");
        daemon.wait_for_notice("STOPPING=1", ready);
    }
}

#[test]
fn a_second_signal_does_not_wait_for_what_is_under_way() {
    let place = Place::new();
    // A store that takes the connection and never answers.
    let store = TcpListener::bind("127.0.0.1:0").unwrap();
    place.configure(&format!("http://{}", store.local_addr().unwrap()), "");
    let mut daemon = place.start();
    place.lay_down(0, "MOTION_DETECTION");
    let (mut request, _) = store.accept().unwrap();
    request.read_exact(&mut [0; 3]).unwrap();
    status_of(&place, "an upload under way", |status| status.waiting.uploading == 1);

    daemon.signal(Signal::TERM);
    daemon.wait_for_notice("STOPPING=1", 0);
    daemon.signal(Signal::TERM);
    daemon.wait_for_end(Duration::from_secs(2));
}

#[test]
fn the_exit_code_says_who_has_to_act() {
    let place = Place::new();
    place.configure(&store_that_is_down(), "");
    let good = place.config_file();
    let file = |name: &str, text: &str| {
        let path = place.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let mut misspelt = settings::load(&good);
    misspelt["s3"]["buket"] = settings::take(&mut misspelt, "s3", "bucket");
    let mut no_drop_folder = settings::load(&good);
    no_drop_folder["drop_folder"]["path"] = place.path().join("nowhere").to_str().unwrap().into();
    let missing = place.path().join("missing.yaml");
    let folder = place.path().to_owned();
    let not_yaml = file("not-yaml.yaml", "drop_folder: [");
    let misspelt = file("misspelt.yaml", &settings::write(&misspelt));
    let no_drop_folder = file("no-drop-folder.yaml", &settings::write(&no_drop_folder));

    let cases: &[(&[&str], Option<&Path>, i32)] = &[
        (&["--help"], None, 0),
        (&["--version"], None, 0),
        (&["check"], Some(&good), 0),
        (&["no-such-command"], None, 2),
        (&["--no-such-flag", "run"], None, 2),
        (&["run"], Some(&missing), 2),
        (&["run"], Some(&folder), 2),
        (&["run"], Some(&not_yaml), 2),
        (&["run"], Some(&misspelt), 2),
        (&["check"], Some(&misspelt), 2),
        (&["run"], Some(&no_drop_folder), 1),
    ];
    for &(arguments, config, code) in cases {
        let mut command = Daemon::command(BINARY);
        command.args(arguments).env("AWS_ACCESS_KEY_ID", "any").env("AWS_SECRET_ACCESS_KEY", "any");
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        let mut daemon = Daemon::start(command, place.path());
        assert_eq!(daemon.wait_for_end(SOON).code(), Some(code), "{arguments:?} with {config:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reloading_takes_good_settings_and_keeps_the_old_ones_over_broken_ones() {
    let store = MemoryS3::start(BUCKET).await;
    let stored = |key: String| {
        let store = &store;
        async move { store.wait_for(|state| state.object(&key).is_some(), SOON).await }
    };
    let place = Place::new();
    place.configure(&store.endpoint(), "  ignore: [\"*_TIMING.jpg\"]\n");
    let mut daemon = place.start();
    let mut reload = |place: &Place| {
        let heard = daemon.notices().len();
        daemon.signal(Signal::HUP);
        let reloading = daemon.wait_for_notice("RELOADING=1", heard);
        daemon.wait_for_notice("READY=1", reloading);
        place.lay_down(0, "MOTION_DETECTION")
    };

    let ignored = place.lay_down(1, "TIMING");
    fs::write(place.config_file(), "drop_folder: [").unwrap();
    stored(reload(&place)).await;
    assert!(store.object(&ignored).is_none(), "ignored as before");

    place.configure(&store.endpoint(), "  ignore: []\n");
    stored(reload(&place)).await;
    stored(ignored).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_without_the_limit_lets_an_upload_in_mid_flight_go() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    place.configure(&store.endpoint(), "");
    let free = fs::read(place.config_file()).unwrap();
    fs::write(place.config_file(), [&free[..], b"upload:\n  bandwidth: 8KiB/s\n"].concat()).unwrap();
    let daemon = place.start();
    let picture = vec![7; 2 << 20];
    fs::write(place.path().join("drop/CAM-EXT-001/picture.jpg"), &picture).unwrap();
    let begun = |bytes| move |state: &store::State| state.requests().iter().any(|request| request.bytes > bytes);
    store.wait_for(begun(8 << 10), SOON).await;
    assert!(!store.look(begun(1 << 20)), "what takes four minutes has just begun");
    fs::write(place.config_file(), free).unwrap();
    daemon.signal(Signal::HUP);
    store.wait_for(|state| state.objects().values().any(|object| object.len == 2 << 20), SOON).await;
    assert_eq!(store.requests().len(), 1, "it went on where it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn being_told_to_look_now_disturbs_nothing() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    place.configure(&store.endpoint(), "");
    let daemon = place.start();
    for number in 0..20 {
        daemon.signal(Signal::USR1);
        let key = place.lay_down(number, "MOTION_DETECTION");
        daemon.signal(Signal::USR1);
        store.wait_for(|state| state.object(&key).is_some(), SOON).await;
    }
    assert_eq!(store.count("PutObject"), 20);
}

/// The command with the service manager's watchdog on.
pub(crate) fn watched(mut command: Command) -> Command {
    command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    command
}

/// Runs `command` with the watchdog on by way of another program.
pub(crate) fn through(program: &str, prefix: &[&str], command: &Command) -> Command {
    let mut wrapped = watched(Daemon::command(program));
    wrapped.args(prefix).arg(command.get_program()).args(command.get_args());
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapped
}

/// What the daemon of a place said of itself last, once it is as `wanted`.
pub(crate) fn status_of(place: &Place, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
    wait_for(what, SOON, || Snapshot::read(&place.path().join("run")).ok().filter(|status| wanted(status)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overflow_of_the_event_queue_means_look_everywhere() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    // Nothing but the overflow itself can make the daemon look.
    place.configure(&store.endpoint(), "  rescan: 24h\n");
    let daemon = place.start();
    let most: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    daemon.signal(Signal::STOP);
    // Two names in turn: the kernel would merge one event with the same one before it.
    let ignored = ["drop/CAM-EXT-001/a.tmp", "drop/CAM-EXT-001/b.tmp"].map(|name| place.path().join(name));
    for number in 0..most {
        File::create(&ignored[number % 2]).unwrap();
    }
    let keys: Vec<String> = (0..20).map(|number| place.lay_down(number, "MOTION_DETECTION")).collect();
    daemon.signal(Signal::CONT);
    store.wait_for(|state| keys.iter().all(|key| state.object(key).is_some()), SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_its_owner_denies_to_us_is_named_and_keeps_nothing_else_waiting() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    // Whether another user's file is still open is not known, so it stays for a while.
    place.configure(&store.endpoint(), "  partial_after: 500ms\n");
    let denied = place.path().join("drop/CAM-EXT-001/denied.jpg");
    fs::write(&denied, "secret").unwrap();
    fs::set_permissions(&denied, Permissions::from_mode(0o000)).unwrap();
    // Root is denied nothing.
    let command = if rustix::process::geteuid().is_root() { place.run_as_nobody() } else { place.run() };
    let _daemon = Daemon::start(command, place.path());
    status_of(&place, "the first scan", |status| status.state != DaemonState::Starting);
    let key = place.lay_down(0, "MOTION_DETECTION");
    store.wait_for(|state| state.object(&key).is_some(), SOON).await;
    // The other file may still be there, too: nobody knows whether it is open.
    status_of(&place, "the denied file", |status| {
        let is_denied = |reason: &String| reason.contains("Permission denied");
        let denied = status.files.iter().find(|file| file.path == "CAM-EXT-001/denied.jpg");
        denied.is_some_and(|file| file.reason.as_ref().is_some_and(is_denied))
    });
    assert!(denied.exists());
    // Nothing tells of the change, and yet it is found.
    fs::set_permissions(&denied, Permissions::from_mode(0o644)).unwrap();
    wait_for("the file that is denied no more", SOON, || (!denied.exists()).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_file_whose_writer_nobody_can_see_is_stored_and_stays_until_it_no_longer_changes() {
    // Only root can run the daemon as somebody who may take no lease of the file.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    place.configure(&store.endpoint(), "  settle: 100ms\n  partial_after: 2s\n");
    let _daemon = Daemon::start(place.run_as_nobody(), place.path());
    status_of(&place, "the first scan", |status| status.state != DaemonState::Starting);
    let path = place.path().join("drop/CAM-EXT-001/20220224050607.jpg");
    let mut writing = File::create(&path).unwrap();
    writing.write_all(b"half").unwrap();
    store.wait_for(|state| state.objects().values().any(|object| object.len == 4), SOON).await;
    let waits = |status: &Snapshot| {
        status.files.iter().any(|file| file.reason.as_ref().is_some_and(|why| why.contains("does not tell")))
    };
    status_of(&place, "the file that waits", waits);
    assert!(path.exists());
    writing.write_all(b" and the rest").unwrap();
    drop(writing);
    store.wait_for(|state| state.objects().values().any(|object| object.len == 17), SOON).await;
    wait_for("the end of the file", SOON, || (!path.exists()).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_store_that_only_the_aws_files_name_is_tried_and_so_is_the_one_that_they_name_next() {
    let stores = [MemoryS3::start(BUCKET).await, MemoryS3::start(BUCKET).await];
    // The first one would keep it from happening, the second one would not.
    stores[1].take_conditions(Conditions::Ignored);
    let place = Place::new();
    place.configure("http://nowhere.invalid", "");
    let text = fs::read_to_string(place.config_file()).unwrap();
    fs::write(place.config_file(), text.replace("  endpoint_url: http://nowhere.invalid\n", "")).unwrap();
    let files = place.path().join("aws.config");
    let name = |store: &MemoryS3| {
        let text =
            format!("[default]\nservices = ours\n[services ours]\ns3 =\n  endpoint_url = {}\n", store.endpoint());
        fs::write(&files, text).unwrap();
    };
    name(&stores[0]);
    let mut command = place.run();
    command.env("AWS_CONFIG_FILE", &files).env_remove("AWS_PROFILE").env_remove("AWS_ENDPOINT_URL");
    let mut daemon = Daemon::start(command, place.path());
    daemon.wait_for_notice("READY=1", 0);
    for (number, store) in stores.iter().enumerate() {
        if number > 0 {
            name(store);
            let heard = daemon.notices().len();
            daemon.signal(Signal::HUP);
            let reloading = daemon.wait_for_notice("RELOADING=1", heard);
            daemon.wait_for_notice("READY=1", reloading);
        }
        for folder in ["a", "b"] {
            let name = format!("drop/CAM-EXT-001/{folder}/192.168.1.64_01_2022022405060{number}000_TIMING.jpg");
            let path = place.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("{folder} {number}")).unwrap();
            wait_for("the end of the file", SOON, || (!path.exists()).then_some(()));
        }
        let captures = store.keys().iter().filter(|key| key.starts_with("CAM-EXT-001/")).count();
        assert_eq!(captures, 2, "{:?}", store.keys());
    }
}

#[test]
fn without_credentials_the_daemon_runs_keeps_every_file_and_says_what_is_missing() {
    let place = Place::new();
    place.configure(&store_that_is_down(), "");
    let mut command = place.run();
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", place.path());
    let mut daemon = Daemon::start(command, place.path());
    daemon.wait_for_notice("READY=1", 0);
    place.lay_down(0, "MOTION_DETECTION");
    let status = status_of(&place, "the trouble", |status| status.trouble.is_some());
    let trouble = status.trouble.unwrap();
    assert!(trouble.advice.contains("credentials"), "{trouble:?}");
    assert_eq!(fs::read_dir(place.path().join("drop/CAM-EXT-001")).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_once_that_a_store_would_overwrite_and_when_it_could_not_be_asked() {
    let store = MemoryS3::start(BUCKET).await;
    store.take_conditions(Conditions::Ignored);
    store.refuse().await;
    let place = Place::new();
    place.configure(&store.endpoint(), "");
    let _daemon = place.start();
    let log = || fs::read_to_string(place.path().join("log")).unwrap();
    let said = |what: &str| log().lines().filter(|line| line.contains(what)).count();
    wait_for("the word that it cannot be tried", SOON, || (said("cannot be tried yet") == 1).then_some(()));
    assert_eq!(said("overwrites all the same"), 0);
    store.accept().await;
    for number in 0..3 {
        let key = place.lay_down(number, "MOTION_DETECTION");
        store.wait_for(|state| state.object(&key).is_some(), SOON).await;
    }
    assert_eq!((said("overwrites all the same"), said("cannot be tried yet")), (1, 1), "{}", log());
    assert!(log().contains("looked at before it is written"), "{}", log());
}
