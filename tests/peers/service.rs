//! The service as its unit runs it: with a user of its own, and in a sandbox.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use crate::daemon::{BINARY, wait_for};
use crate::household::{Household, LONG, Shot};
use crate::memory_s3::{ACCESS_KEY, SECRET_KEY};
use crate::own_folders::in_own_mounts;

/// Bundles are made from local copies, as the store here keeps no bytes.
const KEEP: &str = "days: 3000, min_free: 0";

/// The user and the group of the service; nobody on the machine has this number.
const SERVICE: u32 = 51_236;

#[test]
fn a_daemon_that_its_sandbox_shuts_out_says_what_to_run() {
    let mut house = Household::new();
    let drop_folder = house.drop_folder.display().to_string();
    // As ProtectSystem=strict does with what no ReadWritePaths names; the FTP server outside can write.
    let script = format!(
        "mount --bind {drop_folder} {drop_folder} && mount -o remount,bind,ro {drop_folder} && export INVOCATION_ID=1 && \
         exec \"$@\""
    );
    let through = in_own_mounts(&script);
    let through: Vec<&str> = through.iter().map(String::as_str).collect();
    house.start_through(&through, "days: 1, min_free: 0");
    let mend = format!(
        "the sandbox of the service only lets it read {drop_folder} (drop_folder.path): run `sudo hk-aws unit-paths`, then \
         `sudo systemctl restart hk-aws`"
    );
    house.wait_until_said(&mend);
    let shot = Shot::new("CAM", 1, 2000);
    house.lay_down(&shot).unwrap();
    wait_for("the picture", LONG, || house.holds(&shot).then_some(()));
    house.wait_until_said("is safe in the bucket, but hk-aws cannot delete it here");
    house.wait_for_status("what to run", |status| {
        status.trouble.as_ref().is_some_and(|trouble| trouble.advice.starts_with(&mend))
    });
}

/// Every file and folder below a folder, and itself.
fn all(folder: &Path) -> Vec<std::path::PathBuf> {
    let below = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = below.flat_map(|path| if path.is_dir() { all(&path) } else { vec![path] });
    std::iter::once(folder.to_owned()).chain(below).collect()
}

#[test]
fn after_roots_commands_the_service_goes_on() {
    let mut house = Household::new();
    let place = house.state.parent().unwrap().to_owned();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
    // Whatever leads to the binary may be closed to the service.
    let program = place.join("hk-aws");
    // By another process: what a test that starts a program meanwhile inherits from us would keep the copy busy (ETXTBSY).
    assert!(Command::new("cp").arg(BINARY).arg(&program).status().unwrap().success());
    house.program.clone_from(&program);
    for folder in [&house.drop_folder, &house.state, &house.run] {
        fs::create_dir(folder).unwrap();
        chown(folder, Some(SERVICE), Some(SERVICE)).unwrap();
    }
    let lay_down = |house: &Household, camera: &str, number: u64| {
        let shot = Shot::new(camera, number, 2000);
        house.lay_down(&shot).unwrap();
        for path in all(&house.drop_folder) {
            chown(path, Some(SERVICE), Some(SERVICE)).unwrap();
        }
    };
    let [user, group] = ["--reuid", "--regid"].map(|word| format!("{word}={SERVICE}"));
    let as_service = ["setpriv", &user, &group, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
    // Root's daemon, too.
    house.start(KEEP);
    house.kill();
    let command = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(&program).arg("--config").arg(place.join("config.yaml")).current_dir("/");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command
    };
    lay_down(&house, "CAM", 1);
    lay_down(&house, "CAM", 2);
    let lines = [&["upload"][..], &["rotate"], &["upload", "--set-aside"]];
    for line in lines {
        let done = command(&["env"]).args(line).output().unwrap();
        assert!(done.status.success(), "{line:?}: {done:?}");
    }
    assert!(!house.s3.keys().is_empty());
    lay_down(&house, "OTHER", 3);
    for line in lines {
        let done = command(&as_service).args(line).output().unwrap();
        assert!(done.status.success(), "{line:?}: {done:?}");
    }
    for folder in [&house.state, &house.run] {
        for path in all(folder) {
            assert_eq!(path.symlink_metadata().unwrap().uid(), SERVICE, "{}", path.display());
        }
    }
    lay_down(&house, "OTHER", 4);
    let mut daemon = command(&as_service).arg("run").spawn().unwrap();
    house.wait_until_empty();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}
