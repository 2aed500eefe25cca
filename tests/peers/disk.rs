//! This box's disks in trouble, for real: full, without inodes, read-only, failing. No capture is lost, none is sent twice,
//! and work goes on by itself.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use hk_aws::status::{ConditionKind, DaemonState};

use crate::camera::{Picture, Session};
use crate::daemon::wait_for;
use crate::ftp_server::{FtpServer, Kind};
use crate::household::{Household, LONG, Shot};
use crate::installation::files;
use crate::memory_s3::Fault;
use crate::volume::Volume;

/// Longer than a stored file waits for another try to dispose of it.
const ANOTHER_TRY: Duration = Duration::from_secs(7);

/// Long enough ago that nothing waits for them to settle.
fn shots(camera: &str, numbers: std::ops::Range<u64>, length: usize) -> Vec<Shot> {
    numbers.map(|number| Shot::new(camera, number, length)).collect()
}

/// Lays pictures down until there is no room; answers those that are whole.
fn lay_down_until_full(house: &Household, length: usize) -> Vec<Shot> {
    let whole: Vec<Shot> =
        (0..).map(|number| Shot::new("CAM", number, length)).take_while(|shot| house.lay_down(shot).is_ok()).collect();
    assert!(whole.len() > 3);
    whole
}

fn all_are_stored_once(house: &Household, shots: &[Shot]) {
    wait_for("every capture in the bucket", LONG, || shots.iter().all(|shot| house.holds(shot)).then_some(()));
    let puts = house.s3.look(|state| {
        let puts = |key: &str| {
            state.requests().iter().filter(|request| request.key == key && request.operation == "PutObject").count()
        };
        shots.iter().map(|shot| puts(&shot.key())).max()
    });
    assert_eq!(puts, Some(1), "a capture that is stored is not sent again");
}

#[test]
fn a_drop_folder_that_runs_full_is_said_before_and_drains_as_soon_as_it_can() {
    let volume = Volume::memory("size=16m");
    let mut house = Household::new();
    house.drop_folder = volume.path();
    house.s3.fault(Fault::fail("PutObject", 503, "SlowDown"));
    house.start("days: 0, min_free: 4MiB");
    let whole = lay_down_until_full(&house, 300_000);
    let status = house.wait_for_status("the alarm", |status| {
        status.trouble.as_ref().is_some_and(|trouble| trouble.reason.contains("runs full"))
    });
    let trouble = status.trouble.unwrap();
    assert!(trouble.reason.contains("SlowDown") && trouble.advice.contains("make room"), "{trouble:?}");
    assert_eq!(status.state, DaemonState::Degraded);
    house.s3.clear_faults();
    house.wait_until_empty();
    house.wait_for_status("the end of the alarm", |status| status.state == DaemonState::Ok);
    wait_for("every capture in the bucket", LONG, || whole.iter().all(|shot| house.holds(shot)).then_some(()));
    assert_eq!(house.said(" ERROR the disk of drop folder"), 1, "{}", house.log());
    assert_eq!(house.said("disk has room again"), 1);
}

#[test]
fn a_drop_folder_without_inodes_is_said_and_drains() {
    let volume = Volume::memory("size=64m,nr_inodes=60");
    let mut house = Household::new();
    house.drop_folder = volume.path();
    house.s3.fault(Fault::fail("PutObject", 503, "SlowDown"));
    house.start("days: 0, min_free: 1MiB");
    let whole = lay_down_until_full(&house, 3000);
    house.wait_until_said("of 60 inodes are free");
    house.s3.clear_faults();
    house.wait_until_empty();
    wait_for("every capture in the bucket", LONG, || whole.iter().all(|shot| house.holds(shot)).then_some(()));
    house.wait_for_status("the end of the alarm", |status| status.state == DaemonState::Ok);
}

#[test]
fn what_vsftpd_answers_451_for_is_stored_as_far_as_it_came_and_the_next_one_whole() {
    let ftp = FtpServer::start(Kind::Vsftpd);
    // Inside the server's own namespace, which is all that it sees.
    let inside = |program: &str, arguments: &[&str]| {
        let namespace = format!("--mount=/proc/{}/ns/mnt", ftp.pid());
        let status = Command::new("nsenter").args([&namespace, "--", program]).args(arguments).status().unwrap();
        assert!(status.success(), "{program} {arguments:?}");
    };
    let root = ftp.root();
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&root).unwrap());
    inside(
        "mount",
        &["-t", "tmpfs", "-o", &format!("size=4m,uid={owner},gid={owner}"), "tmpfs", root.to_str().unwrap()],
    );
    let mut house = Household::new();
    house.drop_folder = Path::new(&format!("/proc/{}/root", ftp.pid())).join(root.strip_prefix("/").unwrap());
    house.s3.fault(Fault::fail("PutObject", 503, "SlowDown"));
    house.start("days: 0, min_free: 1MiB");

    let pictures: Vec<Picture> = (0..40).map(|number| Picture::take("CAM-EXT-001", number)).collect();
    let mut session = Session::open(&ftp);
    session.make_folder("CAM-EXT-001");
    let refused = pictures.iter().position(|picture| session.try_push(picture).is_err()).expect("a disk that is full");
    assert!(refused > 0);
    house.wait_until_said(" ERROR the disk of drop folder");
    house.s3.clear_faults();
    house.wait_until_empty();
    session.push(&pictures[refused]);
    house.wait_until_empty();
    let stored = |picture: &Picture| house.s3.object(&picture.key()).map(|object| object.sha256);
    for picture in &pictures[..=refused] {
        assert_eq!(stored(picture), Some(crate::camera::sha256(&picture.bytes)), "{}", picture.key());
    }
}

#[test]
fn local_copies_give_way_and_every_capture_is_stored_where_the_disk_of_state_is_small() {
    let volume = Volume::memory("size=4m");
    let mut house = Household::new();
    house.state = volume.path().join("state");
    house.run = volume.path().join("run");
    fs::create_dir_all(&house.run).unwrap();
    house.start("days: 36500, max_size: null, min_free: 0");
    let captures = shots("CAM", 0..100, 200_000);
    captures.iter().for_each(|shot| house.lay_down(shot).unwrap());
    house.wait_until_empty();
    all_are_stored_once(&house, &captures);
    let kept = files(&house.state.join("kept"));
    assert!(!kept.is_empty() && kept.len() <= 20, "{} copies", kept.len());
    assert!(house.said("local copies of") > 0, "{}", house.log());
    assert_eq!(house.said(" ERROR "), 0, "{}", house.log());
    house.wait_for_status("a count of copies", |status| status.kept_bytes.is_some_and(|bytes| bytes < 4 << 20));
}

#[test]
fn on_one_disk_local_copies_give_way_before_the_alarm() {
    let volume = Volume::memory("size=32m");
    let mut house = Household::new();
    house.drop_folder = volume.path().join("drop");
    house.state = volume.path().join("state");
    // What is kept may take all but 3 MiB, of which a tenth of the disk would be an alarm.
    house.start("days: 36500, max_size: null, min_free: 3MiB");
    for round in 0..20 {
        let captures = shots("CAM", round * 10..(round + 1) * 10, 200_000);
        captures.iter().for_each(|shot| house.lay_down(shot).unwrap());
        house.wait_until_empty();
        all_are_stored_once(&house, &captures);
        // The next look is a second away.
        let free = || hk_aws::disk::Room::at(&volume.path()).unwrap().free;
        wait_for("room", LONG, || (free() >= 3 << 20).then_some(()));
    }
    assert!(house.said("local copies of") > 0, "{}", house.log());
    assert_eq!(house.said("runs full"), 0, "{}", house.log());
}

#[test]
fn the_copies_of_a_backlog_take_no_room_that_incoming_captures_need() {
    // A tenth of a small disk counts, and what was set if that is less.
    for (min_free, least) in [("2GiB", 4 << 20), ("3MiB", 3 << 20)] {
        let volume = Volume::memory("size=40m");
        let mut house = Household::new();
        house.drop_folder = volume.path().join("drop");
        house.state = volume.path().join("state");
        // An outage that has filled the disk.
        let captures = shots("CAM", 0..190, 200_000);
        captures.iter().for_each(|shot| house.lay_down(shot).unwrap());
        house.start(&format!("days: 36500, max_size: null, min_free: {min_free}"));
        house.wait_until_empty();
        let free = hk_aws::disk::Room::at(&volume.path()).unwrap().free;
        assert!(free >= least, "{free} of {least} bytes are free, {} copies", files(&house.state.join("kept")).len());
        all_are_stored_once(&house, &captures);
    }
}

#[test]
fn a_full_disk_of_state_keeps_no_capture_from_the_bucket_and_is_said_once() {
    let volume = Volume::memory("size=24m");
    let mut house = Household::new();
    house.state = volume.path().join("state");
    house.run = volume.path().join("run");
    house.start("days: 0, min_free: 0");
    let ballast = volume.fill(0);
    let captures = shots("CAM", 0..40, 20_000);
    captures.iter().for_each(|shot| house.lay_down(shot).unwrap());
    all_are_stored_once(&house, &captures);
    house.wait_until_said("failed to write status");
    thread::sleep(ANOTHER_TRY);
    assert_eq!(files(&house.drop_folder).len(), captures.len(), "without need nothing goes without its line");
    fs::remove_file(ballast).unwrap();
    house.wait_until_empty();
    house.wait_for_status("the end of the trouble", |status| status.state == DaemonState::Ok);
    all_are_stored_once(&house, &captures);
    assert_eq!(house.said(" ERROR "), 1, "{}", house.log());
    assert_eq!(house.said(" WARN "), 1, "{}", house.log());
    let entries = hk_aws::ledger::entries(&house.state.join("ledger/CAM/2026-02-24.jsonl")).unwrap().count();
    assert_eq!(entries, captures.len());
}

#[test]
fn while_the_drop_folder_runs_short_stored_files_go_even_if_the_disk_of_state_is_full() {
    let (state, drop_folder) = (Volume::memory("size=2m"), Volume::memory("size=8m"));
    let mut house = Household::new();
    house.state = state.path().join("state");
    house.drop_folder = drop_folder.path();
    house.start("days: 36500, min_free: 8MiB");
    state.fill(0);
    let captures = shots("CAM", 0..39, 200_000);
    // The last of them leave less than a tenth free.
    captures.iter().for_each(|shot| house.lay_down(shot).unwrap());
    all_are_stored_once(&house, &captures);
    house.wait_for_status("room", |status| status.not_kept > 0 && status.drop_folder_free_bytes > Some(800 << 10));
    assert_eq!(house.said(" WARN failed to write ledger"), 1, "{}", house.log());
    // Without need, the others stay until their line can be written.
    thread::sleep(ANOTHER_TRY);
    assert!(!files(&house.drop_folder).is_empty());
}

#[test]
fn where_no_copy_finds_room_or_may_be_written_captures_go_without_one() {
    for how in ["full", "ro"] {
        let copies = Volume::memory("size=1m");
        let mut house = Household::new();
        let path = copies.path();
        house.start(&format!("days: 36500, min_free: 0, path: {}", path.display()));
        if how == "full" {
            copies.fill(0);
        } else {
            copies.remount("ro");
        }
        let captures = shots("CAM", 0..20, 50_000);
        captures.iter().for_each(|shot| house.lay_down(shot).unwrap());
        house.wait_until_empty();
        all_are_stored_once(&house, &captures);
        house.wait_for_status("the count", |status| {
            let kinds: Vec<_> = status.conditions.iter().map(|condition| condition.kind).collect();
            status.not_kept == 20 && kinds == [ConditionKind::CopiesRefused]
        });
        assert_eq!(house.said(" WARN failed to keep local copy"), 1, "{}", house.log());
    }
}

#[test]
fn a_drop_folder_that_turns_read_only_sends_nothing_twice_and_goes_on_when_it_can_be_written() {
    let volume = Volume::ext4(64);
    let mut house = Household::new();
    house.drop_folder = volume.path().join("drop");
    house.start("days: 0, min_free: 0");
    house.s3.fault(Fault::fail("PutObject", 503, "SlowDown"));
    let captures = shots("CAM", 0..30, 20_000);
    captures.iter().for_each(|shot| house.lay_down(shot).unwrap());
    volume.remount("ro");
    let tried = house.s3.count("PutObject");
    house.s3.clear_faults();
    house.wait_for_objects(captures.len());
    house.wait_for_status("the trouble", |status| {
        let kinds = [ConditionKind::DropFolderReadOnly, ConditionKind::CannotRemove];
        let has = |kind| status.conditions.iter().any(|condition| condition.kind == kind);
        kinds.into_iter().all(has)
            && status.trouble.as_ref().is_some_and(|trouble| trouble.reason.contains("Read-only file system"))
    });
    thread::sleep(ANOTHER_TRY);
    assert!(house.s3.count("PutObject") <= tried + captures.len() + 8, "an endless upload");
    assert_eq!(files(&house.drop_folder).len(), captures.len());
    volume.remount("rw");
    house.wait_until_empty();
    house.wait_for_status("the end of the trouble", |status| status.state == DaemonState::Ok);
    assert_eq!(house.s3.count("HeadObject"), 0);
    // That nothing can be written there, and that stored files stay because of it.
    assert_eq!(house.said(" ERROR "), 2, "{}", house.log());
    assert_eq!(house.said("no stored file is left"), 1);
    assert_eq!(house.said("the drop folder can be written again"), 1);
}

#[test]
fn state_that_turns_read_only_delays_no_capture_and_is_caught_up_with() {
    let volume = Volume::ext4(64);
    let mut house = Household::new();
    house.state = volume.path().join("state");
    house.start("days: 36500, max_size: null, min_free: 0");
    volume.remount("ro");
    let captures = shots("CAM", 0..30, 20_000);
    captures.iter().for_each(|shot| house.lay_down(shot).unwrap());
    all_are_stored_once(&house, &captures);
    thread::sleep(ANOTHER_TRY);
    all_are_stored_once(&house, &captures);
    volume.remount("rw");
    house.wait_until_empty();
    all_are_stored_once(&house, &captures);
    assert_eq!(files(&house.state.join("kept")).len(), captures.len());
    assert_eq!(house.said(" ERROR "), 1, "{}", house.log());
}

#[test]
fn a_file_that_cannot_be_read_backs_off_by_itself() {
    let mut house = Household::new();
    let (bad, good) = (Shot::new("CAM", 1, 20_000), Shot::new("CAM", 2, 20_000));
    let path = house.drop_folder.join(bad.path());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, &bad.bytes).unwrap();
    let path = path.to_str().unwrap();
    // The daemon ends with its tracer.
    let failing = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-P",
        path,
        "-e",
        "trace=read,pread64",
        "-e",
        "inject=read,pread64:error=EIO",
        "setpriv",
        "--pdeathsig",
        "KILL",
        "--",
    ];
    house.start_through(&failing, "days: 0, min_free: 0");
    let status = house.wait_for_status("the failing file", |status| status.waiting.backing_off == 1);
    assert!(status.files[0].reason.as_ref().unwrap().contains("Input/output error"), "{status:?}");
    house.lay_down(&good).unwrap();
    house.wait_for_objects(1);
    assert!(house.holds(&good) && Path::new(path).exists());
    house.wait_until_said("Input/output error");
    assert_eq!(house.said("Input/output error"), 1, "{}", house.log());
    house.kill();
    house.start("days: 0, min_free: 0");
    house.wait_until_empty();
    assert!(house.holds(&bad));
}

#[test]
fn the_disk_of_a_volume_is_full_when_it_is() {
    let volume = Volume::memory("size=1m");
    volume.fill(0);
    let error = fs::write(volume.path().join("more"), b"more").unwrap_err();
    assert!(hk_aws::disk::is_full(&error));
}
