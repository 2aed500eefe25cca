//! What the daemon keeps beside the drop folder may be torn, garbage or in the way: it starts all the same, or says what to mend.

use std::fs;
use std::path::Path;

use hk_aws::status::Snapshot;
use rustix::process::Signal;

use crate::process::daemon::{BINARY, Daemon, SOON, wait_for};
use crate::process::{BUCKET, Place, status_of};
use crate::support::s3::MemoryS3;
use crate::support::settings;

/// The log of the daemons of a place.
fn log(place: &Path) -> String {
    fs::read_to_string(place.join("log")).unwrap_or_default()
}

fn stored(store: &MemoryS3, key: &str) {
    wait_for("a stored capture", SOON, || store.object(key));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_the_state_stops_no_start_and_keeps_no_capture_waiting() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    place.configure(&store.endpoint(), "");
    for garbage in [b"".as_slice(), b"\0\0\0\0", b"{\"version\":", &vec![0xFF; 70_000]] {
        let key = place.lay_down(0, "MOTION_DETECTION");
        let date = key.split('/').nth(1).unwrap();
        let ledger = place.path().join(format!("state/ledger/CAM-EXT-001/{date}.jsonl"));
        let others = ["run/status.json", "run/run.lock", "state/schedule.json"].map(|file| place.path().join(file));
        for file in others.iter().chain([&ledger]) {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, garbage).unwrap();
        }
        let _daemon = place.start();
        stored(&store, &key);
        let status = Snapshot::read(&place.path().join("run")).unwrap();
        assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
        wait_for("a line after the garbage", SOON, || {
            hk_aws::ledger::entries(&ledger).unwrap().any(|entry| entry.key == key).then_some(())
        });
        assert!(fs::read(&ledger).unwrap().starts_with(garbage), "nothing is reset in silence");
    }
    assert_eq!(log(place.path()).matches("schedule.json is damaged").count(), 4, "{}", log(place.path()));
    // An empty file is not torn.
    assert_eq!(log(place.path()).matches("was torn by a crash or a full disk").count(), 3, "{}", log(place.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_without_a_state_folder_captures_are_stored_and_none_goes_into_memory() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    place.configure(&store.endpoint(), "  partial_after: 1s\n");
    settings::change(&place.config_file(), "keep: {days: 35}");
    fs::write(place.path().join("state"), "no folder").unwrap();
    fs::write(place.path().join("drop/CAM-EXT-001/empty.jpg"), "").unwrap();
    let daemon = place.start();
    let status = status_of(&place, "trouble", |status| status.trouble.is_some());
    let trouble = status.trouble.unwrap();
    assert!(trouble.reason.contains(place.path().join("state").to_str().unwrap()), "{trouble:?}");
    assert!(log(place.path()).contains(&trouble.reason), "{}", log(place.path()));
    daemon.signal(Signal::HUP);
    let key = place.lay_down(0, "MOTION_DETECTION");
    stored(&store, &key);
    let held = |status: &Snapshot| {
        let empty = status.files.iter().find(|file| file.path.ends_with("empty.jpg"));
        empty
            .and_then(|file| file.reason.clone())
            .is_some_and(|reason| reason.contains("state folder cannot be written"))
    };
    status_of(&place, "an empty file that is held where it is", held);
    let state = place.path().join("run/state");
    assert!(state.join("ledger").is_dir() && !state.join("kept").exists() && !state.join("set-aside").exists());
    let said = log(place.path());
    assert!(said.contains("configuration read again") && !said.contains("refused"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_where_the_status_belongs_is_said_and_nothing_else_suffers() {
    let store = MemoryS3::start(BUCKET).await;
    let place = Place::new();
    place.configure(&store.endpoint(), "");
    fs::create_dir_all(place.path().join("run/status.json/in the way")).unwrap();
    let _daemon = place.start();
    let key = place.lay_down(0, "MOTION_DETECTION");
    stored(&store, &key);
    assert_eq!(log(place.path()).matches("failed to write status").count(), 1);
    fs::remove_dir_all(place.path().join("run/status.json")).unwrap();
    wait_for("the status", SOON, || Snapshot::read(&place.path().join("run")).ok());
    wait_for("a word of it", SOON, || log(place.path()).contains("the status can be written again").then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_cannot_be_taken_names_what_to_mend() {
    let store = MemoryS3::start(BUCKET).await;
    for (lock, command) in [("run.lock", "run"), ("command.lock", "upload")] {
        let place = Place::new();
        place.configure(&store.endpoint(), "");
        fs::create_dir_all(place.path().join("run").join(lock)).unwrap();
        let mut started = Daemon::command(BINARY);
        started.arg("--config").arg(place.config_file()).arg(command);
        started.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
        let mut daemon = Daemon::start(started, place.path());
        assert_eq!(daemon.wait_for_end(SOON).code(), Some(1));
        let said = log(place.path());
        assert!(said.contains(lock) && said.contains("remove what is in its place"), "{said}");
    }
}
