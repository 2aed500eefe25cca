//! Signals in the midst of work: what a stop or a reload finds under way is finished or left whole, and never done twice.
#![expect(clippy::disallowed_methods, reason = "tests measure real time, and lay files into the drop folder")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use hk_aws::ledger;
use hk_aws::status::DaemonState;
use rustix::process::Signal;

use crate::process::daemon::{Daemon, SOON, wait_for};
use crate::process::{BUCKET, Place, status_of, through};
use crate::support::s3::{ACCESS_KEY, Fault, MemoryS3, SECRET_KEY};
use crate::support::settings;
use crate::support::site::{bytes, files, ledger_text, sha256};

/// How long systemd waits for the end before it kills.
fn unit_allows() -> Duration {
    let unit = fs::read_to_string("systemd/hk-aws.service").unwrap();
    let seconds = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
    Duration::from_secs(seconds.parse().unwrap())
}

/// Lays a clip in three parts into the drop folder; answers its key.
fn lay_down_clip(place: &Place, number: u32) -> String {
    let name = format!("192.168.1.64_01_2026022412{number:02}00000_1.mp4");
    fs::write(place.path().join(&name), bytes(number.into(), 17 << 20)).unwrap();
    fs::rename(place.path().join(&name), place.path().join("drop/CAM-EXT-001").join(&name)).unwrap();
    format!("CAM-EXT-001/2026-02-24/{name}")
}

/// Writes the settings anew, with `more` in them.
fn change(place: &Place, endpoint: &str, more: &str) {
    place.configure(endpoint, "  rescan: 24h\n");
    settings::change(&place.config_file(), more);
}

/// Every line of the ledger, key by key.
fn ledger_keys(place: &Place) -> Vec<String> {
    let lines = files(&place.path().join("state/ledger")).into_iter().flat_map(|file| {
        let text = ledger_text(&file);
        text.lines().map(|line| serde_json::from_str::<ledger::LedgerEntry>(line).unwrap().key).collect::<Vec<_>>()
    });
    let mut keys: Vec<String> = lines.collect();
    keys.sort_unstable();
    keys
}

/// Each capture is one object and one line of the ledger, and nothing else is anywhere.
fn each_is_there_once(place: &Place, store: &MemoryS3, mut keys: Vec<String>) {
    keys.sort_unstable();
    assert_eq!(store.keys(), keys);
    assert_eq!(ledger_keys(place), keys);
    assert!(store.uploads().is_empty(), "parts are left behind");
    for key in &keys {
        let object = store.object(key).unwrap();
        assert_eq!(object.metadata["sha256"], object.sha256, "{key}");
    }
}

async fn all_are_stored(place: &Place, store: &MemoryS3, keys: &[String]) {
    store.wait_for(|state| keys.iter().all(|key| state.object(key).is_some()), 3 * SOON).await;
    wait_for("an empty drop folder", SOON, || files(&place.path().join("drop")).is_empty().then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_stop_in_the_midst_of_uploads_finishes_them_and_the_next_start_does_the_rest() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    place.configure(&store.endpoint(), "");
    store.fault(Fault::delay("PutObject", Duration::from_secs(1)));
    store.fault(Fault::delay("UploadPart", Duration::from_secs(1)));
    let mut keys: Vec<String> = (0..120).map(|number| place.lay_down(number, "MOTION_DETECTION")).collect();
    keys.extend((1..3).map(|number| lay_down_clip(&place, number)));
    let mut daemon = place.start();
    store.wait_for(|state| state.objects().len() > 5 && state.count("UploadPart") > 0, SOON).await;

    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_for_end(unit_allows()).code(), Some(0));
    let (stored, asked) = (store.keys().len(), store.requests());
    assert!(stored < keys.len(), "nothing new was started");
    assert!(asked.iter().all(|request| request.status.is_some()), "all that was under way was answered");
    assert_eq!(files(&place.path().join("drop")).len(), keys.len() - stored);
    assert_eq!(ledger_keys(&place), store.keys(), "what was stored is written down");

    store.clear_faults();
    let _daemon = place.start();
    all_are_stored(&place, &store, &keys).await;
    each_is_there_once(&place, &store, keys);
    assert_eq!((store.count("PutObject"), store.count("CompleteMultipartUpload")), (120, 2), "each was sent once");
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_stop_abandons_what_hangs_in_time_and_the_next_start_clears_up() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    place.configure(&store.endpoint(), "");
    store.fault(Fault::hang("PutObject"));
    store.fault(Fault::hang("CompleteMultipartUpload"));
    let keys = vec![place.lay_down(1, "MOTION_DETECTION"), lay_down_clip(&place, 1)];
    let mut daemon = place.start();
    store.wait_for(|state| state.count("PutObject") == 1 && state.count("CompleteMultipartUpload") == 1, SOON).await;
    let begin = Instant::now();
    daemon.signal(Signal::TERM);
    // On a loaded machine the limit is met all the same, or systemd would kill.
    assert_eq!(daemon.wait_for_end(unit_allows()).code(), Some(0));
    assert!(begin.elapsed() > Duration::from_secs(10), "what is under way may well come to its end");
    assert_eq!(files(&place.path().join("drop")).len(), 2);
    assert_eq!(store.uploads().len(), 1);
    store.refuse().await;
    store.clear_faults();
    store.accept().await;
    let _daemon = place.start();
    all_are_stored(&place, &store, &keys).await;
    each_is_there_once(&place, &store, keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_dead_link() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    place.configure(&store.endpoint(), "");
    store.fault(Fault::fail("PutObject", 503, "SlowDown").times(2));
    store.fault(Fault::hang("PutObject"));
    let mut daemon = place.start();
    place.lay_down(1, "MOTION_DETECTION");
    store.wait_for(|state| state.count("PutObject") == 3, SOON).await;
    let begin = Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_for_end(unit_allows()).code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    assert_eq!(files(&place.path().join("drop")).len(), 1);
}

/// Sends SIGHUP and waits until it is done.
fn reload(daemon: &mut Daemon) {
    let heard = daemon.notices().len();
    daemon.signal(Signal::HUP);
    let reloading = daemon.wait_for_notice("RELOADING=1", heard);
    daemon.wait_for_notice("READY=1", reloading);
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_reloads_in_the_midst_of_a_flood_lose_nothing_and_double_nothing() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    place.configure(&store.endpoint(), "");
    store.fault(Fault::delay("PutObject", Duration::from_millis(100)));
    let mut daemon = place.start();
    let mut keys = Vec::new();
    for round in 0..12 {
        keys.extend((0..20).map(|number| place.lay_down(round * 20 + number, "MOTION_DETECTION")));
        match round % 3 {
            0 => change(&place, &store.endpoint(), "keep: {days: 7}\nupload: {concurrency: 2}"),
            1 => change(&place, &store.endpoint(), "s3: {storage_class: GLACIER_IR}\nupload: {concurrency: 16}"),
            _ => change(&place, &store.endpoint(), ""),
        }
        reload(&mut daemon);
    }
    keys.push(lay_down_clip(&place, 1));
    reload(&mut daemon);
    all_are_stored(&place, &store, &keys).await;
    assert_eq!(store.count("PutObject"), 240, "each was sent once");
    let classes: BTreeSet<String> = store.keys().iter().map(|key| store.object(key).unwrap().storage_class).collect();
    assert_eq!(classes.len(), 2, "the settings took effect");
    each_is_there_once(&place, &store, keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_at_a_reload_is_finished_by_the_old_settings() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    place.configure(&store.endpoint(), "");
    let mut daemon = place.start();
    store.fault(Fault::hang("PutObject").times(1));
    let before = place.lay_down(1, "MOTION_DETECTION");
    store.wait_for(|state| state.count("PutObject") == 1, SOON).await;
    change(&place, &store.endpoint(), "s3: {storage_class: GLACIER_IR}\nkeep: {days: 7}");
    reload(&mut daemon);
    let after = place.lay_down(2, "MOTION_DETECTION");
    store.wait_for(|state| state.object(&after).is_some(), SOON).await;
    store.clear_faults();
    all_are_stored(&place, &store, std::slice::from_ref(&before)).await;
    assert_eq!(store.object(&before).unwrap().storage_class, "STANDARD");
    assert_eq!(store.object(&after).unwrap().storage_class, "GLACIER_IR");
    let kept = place.path().join("state/kept");
    assert!(kept.join(&after).exists() && !kept.join(&before).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_reload_to_another_drop_folder_mixes_nothing_up() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    change(&place, &store.endpoint(), "upload: {concurrency: 1}");
    let mut daemon = place.start();
    store.fault(Fault::hang("PutObject").times(1));
    let key = place.lay_down(1, "MOTION_DETECTION");
    store.wait_for(|state| state.count("PutObject") == 1, SOON).await;
    // The very name, with other bytes, waits in the new folder when the old one's upload ends.
    let name = key.rsplit('/').next().unwrap();
    let other = place.path().join("other/CAM-EXT-001").join(name);
    fs::create_dir_all(other.parent().unwrap()).unwrap();
    fs::write(&other, b"other bytes").unwrap();
    let other_folder =
        format!("drop_folder: {{path: '{}'}}\nupload: {{concurrency: 1}}", place.path().join("other").display());
    change(&place, &store.endpoint(), &other_folder);
    reload(&mut daemon);
    status_of(&place, "the other file", |status| status.waiting.queued == 1);
    store.clear_faults();
    let beside = key.replace(".jpg", &format!("~{}.jpg", &sha256(b"other bytes")[..8]));
    store.wait_for(|state| state.object(&beside).is_some(), SOON).await;
    wait_for("both folders empty", SOON, || {
        ["drop", "other"].iter().all(|folder| files(&place.path().join(folder)).is_empty()).then_some(())
    });
    each_is_there_once(&place, &store, vec![key, beside]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_mended_something_says_so_by_a_signal_and_it_is_tried_at_once() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    place.configure(&store.endpoint(), "");
    store.fault(Fault::fail("PutObject", 403, "AccessDenied"));
    let daemon = place.start();
    let key = place.lay_down(1, "MOTION_DETECTION");
    // By then the next probe is 4 s away at least.
    for signal in [Signal::USR1, Signal::HUP] {
        let asked = store.count("PutObject");
        store.wait_for(|state| state.count("PutObject") >= asked.max(4), SOON).await;
        let asked = store.count("PutObject");
        let begin = Instant::now();
        daemon.signal(signal);
        store.wait_for(|state| state.count("PutObject") > asked, SOON).await;
        assert!(begin.elapsed() < Duration::from_secs(3), "{signal:?}: {:?}", begin.elapsed());
    }
    store.clear_faults();
    daemon.signal(Signal::USR1);
    store.wait_for(|state| state.object(&key).is_some(), SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_names_a_better_endpoint_does_not_wait_for_the_dead_one() {
    let (dead, store) = (MemoryS3::start(BUCKET).await, MemoryS3::start(BUCKET).await);
    let place = Place::new();
    place.configure(&dead.endpoint(), "");
    dead.fault(Fault::fail("PutObject", 503, "SlowDown").times(4));
    dead.fault(Fault::hang("PutObject"));
    let mut daemon = place.start();
    let keys = vec![place.lay_down(1, "MOTION_DETECTION"), place.lay_down(2, "MOTION_DETECTION")];
    dead.wait_for(|state| state.count("PutObject") == 5, SOON).await;
    change(&place, &store.endpoint(), "");
    reload(&mut daemon);
    store.wait_for(|state| state.objects().len() == 1, SOON).await;
    // What hung is refused at last by the one, and goes to the other.
    dead.refuse().await;
    all_are_stored(&place, &store, &keys).await;
    each_is_there_once(&place, &store, keys);
}

fn write_credentials(place: &Place, access_key: &str, secret_key: &str) {
    let text = format!("[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n");
    // As the tools that renew them do.
    fs::write(place.path().join("new-credentials"), text).unwrap();
    fs::rename(place.path().join("new-credentials"), place.path().join("credentials")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_renewed_on_disk_are_used_without_a_restart() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    place.configure(&store.endpoint(), "");
    let mut command = place.run();
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    command.env("AWS_SHARED_CREDENTIALS_FILE", place.path().join("credentials"));
    let _daemon = Daemon::start(command, place.path());
    let key = place.lay_down(1, "MOTION_DETECTION");
    let advises = |what: &'static str| {
        status_of(&place, what, |status| status.trouble.as_ref().is_some_and(|trouble| trouble.advice.contains(what)));
    };
    advises("put it into ");
    write_credentials(&place, ACCESS_KEY, "the wrong secret");
    advises("the secret key does not fit");
    fs::write(place.path().join("credentials"), "[default]\naws_access_key_id = half a fi").unwrap();
    advises("put it into ");
    write_credentials(&place, ACCESS_KEY, SECRET_KEY);
    store.wait_for(|state| state.object(&key).is_some(), SOON).await;
    // The renewed ones stay in use.
    let more: Vec<String> = (2..9).map(|number| place.lay_down(number, "MOTION_DETECTION")).collect();
    all_are_stored(&place, &store, &more).await;
    status_of(&place, "the end of the trouble", |status| status.state == DaemonState::Ok && status.trouble.is_none());
    let log = fs::read_to_string(place.path().join("log")).unwrap();
    assert!(log.lines().filter(|line| line.contains("ERROR")).count() <= 4, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_mended_in_the_file_is_used_without_a_restart() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    place.configure(&store.endpoint(), "");
    let mut command = place.run();
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    command.env("HK_AWS_CREDENTIALS", place.path().join("credentials"));
    let daemon = Daemon::start(command, place.path());
    let key = place.lay_down(1, "MOTION_DETECTION");
    let advises = |what: &'static str| {
        status_of(&place, what, |status| status.trouble.as_ref().is_some_and(|trouble| trouble.advice.contains(what)));
    };
    advises("put it into");
    fs::write(place.path().join("credentials"), "aws_access_key_id = AKIA\n").unwrap();
    advises("write the line [default] above it");
    write_credentials(&place, ACCESS_KEY, "the wrong secret");
    advises("the secret key does not fit");
    write_credentials(&place, ACCESS_KEY, SECRET_KEY);
    store.wait_for(|state| state.object(&key).is_some(), SOON).await;
    daemon.signal(Signal::HUP);
    let log = || fs::read_to_string(place.path().join("log")).unwrap();
    let says = "after a change of /etc/hk-aws/environment, restart the service";
    wait_for("what a reload does not read", SOON, || log().contains(says).then_some(()));
    assert!(log().contains("chmod 640"), "everybody may read it: {}", log());
}

/// A notification socket that nobody reads, full to the brim.
fn full_socket(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    sender.connect(path).unwrap();
    while sender.send(b"STATUS=full\n").is_ok() {}
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_manager_that_does_not_listen_holds_up_neither_work_nor_stop() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    place.configure(&store.endpoint(), "");
    let address = place.path().join("deaf");
    let socket = full_socket(&address);
    let deaf = format!("NOTIFY_SOCKET={} WATCHDOG_PID=$$ exec \"$@\"", address.display());
    let mut daemon = Daemon::start(through("sh", &["-c", &deaf, "sh"], &place.run()), place.path());
    let keys: Vec<String> = (0..30).map(|number| place.lay_down(number, "MOTION_DETECTION")).collect();
    all_are_stored(&place, &store, &keys).await;
    daemon.signal(Signal::HUP);
    let key = place.lay_down(30, "MOTION_DETECTION");
    store.wait_for(|state| state.object(&key).is_some(), SOON).await;

    // It listens again, and hears what matters, however late.
    socket.set_read_timeout(Some(SOON)).unwrap();
    let mut datagram = [0; 4096];
    wait_for("READY=1", SOON, || {
        let length = socket.recv(&mut datagram).unwrap();
        datagram[..length].starts_with(b"READY=1").then_some(())
    });
    let _full = UnixDatagram::unbound().and_then(|sender| {
        sender.set_nonblocking(true)?;
        sender.connect(&address)?;
        while sender.send(b"STATUS=full\n").is_ok() {}
        Ok(())
    });
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_for_end(SOON).code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_to_another_drop_folder_and_back_send_nothing_twice_whatever_the_prefix() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    place.configure(&store.endpoint(), "");
    let mut daemon = place.start();
    let other = place.path().join("other");
    fs::create_dir(&other).unwrap();
    store.fault(Fault::delay("PutObject", Duration::from_millis(300)));
    for number in 0..40 {
        place.lay_down(number, "MOTION_DETECTION");
    }
    store.wait_for(|state| state.count("PutObject") > 8, SOON).await;
    let away = format!("drop_folder: {{path: '{}'}}\ns3: {{prefix: away}}", other.display());
    for more in [away.as_str(), "s3: {prefix: back}", away.as_str(), ""] {
        change(&place, &store.endpoint(), more);
        reload(&mut daemon);
    }
    wait_for("an empty drop folder", SOON, || files(&place.path().join("drop")).is_empty().then_some(()));
    let names: BTreeSet<String> = store.keys().iter().map(|key| key.rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!((names.len(), store.keys().len()), (40, 40), "{:?}", store.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_a_drop_folder_says_who_watches_it_and_ends() {
    let store = MemoryS3::start(BUCKET).await;
    let (first, second) = (Place::new(), Place::new());
    first.configure(&store.endpoint(), "");
    let daemon = first.start();
    // By another path, and with another mode.
    let link = second.path().join("link");
    std::os::unix::fs::symlink(first.path().join("drop"), &link).unwrap();
    for (path, more) in [(first.path().join("drop"), ""), (link, "s3: {access: write-only}")] {
        second.configure(&store.endpoint(), "");
        settings::change(&second.config_file(), &format!("drop_folder: {{path: '{}'}}\n{more}", path.display()));
        let ended = second.run().output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success(), "{said}");
        assert!(said.contains(&format!("process {}", daemon.id())) && said.contains("drop folder"), "{said}");
    }
    let key = first.lay_down(1, "MOTION_DETECTION");
    store.wait_for(|state| state.object(&key).is_some(), SOON).await;
    drop(daemon);
    let mut daemon = second.start();
    daemon.signal(Signal::TERM);
    daemon.wait_for_end(SOON);
}
