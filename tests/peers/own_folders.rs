//! The daemon's own folders inside the drop folder, by a bind mount.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::daemon::{BINARY, wait_for};
use crate::household::{Household, LONG, Shot};

/// Mounts for the program that follows, and for nobody else.
fn mounted(mounts: &[(&Path, &Path)]) -> Vec<String> {
    let mounts = mounts.iter().map(|(from, to)| format!("mount --bind {} {} && ", from.display(), to.display()));
    in_own_mounts(&format!("{}exec \"$@\"", mounts.collect::<String>()))
}

/// Runs the program that follows by a script, in a mount namespace of its own.
pub(crate) fn in_own_mounts(script: &str) -> Vec<String> {
    ["unshare", "--mount", "--propagation", "private", "setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", script, "sh"]
        .map(str::to_owned)
        .to_vec()
}

/// Mounts something in the drop folder as the daemon sees it, and nobody else.
fn mount_for(house: &Household, what: &[&str], at: &str) {
    let mut command = Command::new("nsenter");
    command.arg(format!("--mount=/proc/{}/ns/mnt", house.pid())).args(["--", "mount"]).args(what);
    assert!(command.arg(house.drop_folder.join(at)).status().unwrap().success());
}

#[test]
fn a_bind_mount_of_our_own_folders_into_the_drop_folder_is_refused_by_every_command() {
    let mut house = Household::new();
    house.start("days: 1, min_free: 0");
    house.kill();
    let config = house.drop_folder.parent().unwrap().join("config.yaml");
    let (drop_folder, state) = (&house.drop_folder, &house.state);
    fs::create_dir_all(drop_folder.join("CAM/sub")).unwrap();
    fs::create_dir_all(state.join("kept/CAM")).unwrap();
    let inside = drop_folder.join("CAM/sub");
    for (name, from, to, key) in [
        ("state is a folder of the drop folder", drop_folder.join("CAM"), state.clone(), "state_dir"),
        ("the drop folder shows state", state.clone(), inside.clone(), "state_dir"),
        ("it shows a part of it", state.join("kept/CAM"), inside.clone(), "state_dir"),
        ("it shows what is around it", state.parent().unwrap().to_owned(), inside, "state_dir"),
        ("kept is the drop folder", drop_folder.clone(), state.join("kept"), "keep.path"),
    ] {
        let words = mounted(&[(&from, &to)]);
        let checked = Command::new(&words[0])
            .args(&words[1..])
            .arg(BINARY)
            .arg("--config")
            .arg(&config)
            .arg("check")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), Some(2), "{name}: {said}");
        assert!(said.contains(&format!(": {key} ")) || said.contains(&format!(": {key}:")), "{name}: {said}");
    }
}

#[test]
fn what_a_bind_mount_brings_in_while_the_daemon_runs_is_no_capture() {
    let mut house = Household::new();
    fs::create_dir_all(house.drop_folder.join("CAM/late")).unwrap();
    fs::create_dir_all(house.drop_folder.join("CAM/part")).unwrap();
    let words = mounted(&[]);
    house.start_through(&words.iter().map(String::as_str).collect::<Vec<_>>(), "days: 1, min_free: 0");
    let (first, second) = (Shot::new("CAM", 1, 2000), Shot::new("CAM", 2, 2000));
    house.lay_down(&first).unwrap();
    wait_for("a local copy", LONG, || house.state.join("kept").join(first.key()).exists().then_some(()));
    for (from, to) in [(house.state.clone(), "CAM/late"), (house.state.join("kept/CAM"), "CAM/part")] {
        mount_for(&house, &["--bind", from.to_str().unwrap()], to);
    }
    house.wait_for_status("two folders of ours", |status| status.waiting.left_alone == 2);
    house.lay_down(&second).unwrap();
    wait_for("the second picture", LONG, || house.holds(&second).then_some(()));
    house.wait_for_status("a look at everything", |status| status.waiting.left_alone == 2);
    assert_eq!(house.s3.keys().len(), 2, "{:?}", house.s3.keys());
}

/// The watch lies on what is hidden now, and nothing but the table of mounts tells of that.
#[test]
fn a_disk_that_is_mounted_in_the_drop_folder_is_watched() {
    let mut house = Household::new();
    house.rescan = "1h";
    fs::create_dir_all(house.drop_folder.join("CAM")).unwrap();
    let words = mounted(&[]);
    house.start_through(&words.iter().map(String::as_str).collect::<Vec<_>>(), "days: 1, min_free: 0");
    mount_for(&house, &["-t", "tmpfs", "disk"], "CAM");
    house.drop_folder =
        Path::new(&format!("/proc/{}/root", house.pid())).join(house.drop_folder.strip_prefix("/").unwrap());
    for number in 0..2 {
        let shot = Shot::new("CAM", number, 2000);
        house.lay_down(&shot).unwrap();
        wait_for("a picture on the new disk", LONG, || house.holds(&shot).then_some(()));
    }
}
