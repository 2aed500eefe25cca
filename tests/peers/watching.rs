//! A drop folder that cannot be watched: the kernel refuses inotify to a user namespace of our own.

use std::fs;
use std::time::Duration;

use hk_aws::status::Snapshot;
use tempfile::TempDir;

use crate::daemon::{BINARY, Daemon, SOON, wait_for};

#[test]
fn a_folder_that_cannot_be_watched_is_read_again_and_again_and_the_log_says_so() {
    let place = TempDir::with_prefix("hk-aws-watching-").unwrap();
    let folder = place.path().display();
    fs::create_dir_all(place.path().join("drop/CAM")).unwrap();
    let config = format!(
        "drop_folder: {{path: {folder}/drop, rescan: 24h}}\nstate_dir: {folder}/state\nruntime_dir: {folder}/run\n\
         s3: {{bucket: captures, region: eu-central-1, endpoint_url: 'http://127.0.0.1:9', path_style: true}}\n\
         log: {{target: stderr}}\n"
    );
    fs::write(place.path().join("config.yaml"), config).unwrap();
    let mut command = Daemon::command("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c"]);
    command.arg("echo 0 >/proc/sys/user/max_inotify_instances && exec \"$0\" --config \"$1\" run");
    command.arg(BINARY).arg(place.path().join("config.yaml"));
    command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
    let mut daemon = Daemon::start(command, place.path());
    daemon.wait_for_notice("READY=1", 0);
    fs::write(place.path().join("drop/CAM/a.jpg"), "found by reading").unwrap();
    wait_for("the file in the status", SOON + Duration::from_secs(5), || {
        let status = Snapshot::read(&place.path().join("run")).ok()?;
        status.files.iter().any(|file| file.path == "CAM/a.jpg").then_some(())
    });
    let log = fs::read_to_string(place.path().join("log")).unwrap();
    assert!(log.contains("read every 2 s instead of being watched"), "{log}");
}
