//! Drop folders on file systems that count time coarsely, know no rename that replaces nothing, or come and go.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hk_aws::status::DaemonState;

use crate::camera::{Picture, Session, sha256};
use crate::daemon::wait_for;
use crate::ftp_server::{FtpServer, Kind};
use crate::household::{Household, LONG, Shot};
use crate::installation::files;
use crate::memory_s3::Fault;
use crate::volume::Volume;

/// Waits until so little of a second is over that the next steps take place within it.
fn begin_of_a_second() {
    let over = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_millis();
    while over() > 100 {
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn i1_bytes_that_came_within_one_coarse_stamp_are_neither_removed_nor_kept_under_the_others_name() {
    for (make, keep) in [("mkfs.ext4", "days: 0, min_free: 0"), ("mkfs.ext3", "days: 9, min_free: 0")] {
        let volume = Volume::with_coarse_times(make, 32);
        let mut house = Household::new();
        house.drop_folder = volume.path().join("drop");
        house.start(keep);
        let mut equal = 0;
        // On a busy machine, what is to take place within a second seldom does.
        for number in 0..40 {
            if number >= 3 && equal > 0 {
                break;
            }
            let (first, second) = (Shot::new("CAM", number, 3000), Shot::new("CAM", 100 + number, 3000));
            let path = house.drop_folder.join(first.path());
            let before = house.s3.count("PutObject");
            house.s3.fault(Fault::hang("PutObject").times(1));
            begin_of_a_second();
            house.lay_down(&first).unwrap();
            let stamp = |path: &std::path::Path| {
                let stat = rustix::fs::stat(path).unwrap();
                (stat.st_mtime, stat.st_ctime, stat.st_mtime_nsec, stat.st_ctime_nsec, stat.st_size)
            };
            let one = stamp(&path);
            wait_for("its upload", LONG, || (house.s3.count("PutObject") > before).then_some(()));
            // In place, as vsftpd writes.
            OpenOptions::new().write(true).open(&path).unwrap().write_all(&second.bytes).unwrap();
            equal += u32::from(stamp(&path) == one);
            house.s3.clear_faults();
            house.wait_until_empty();
            let stored =
                |sha256: &str| house.s3.look(|state| state.objects().values().any(|object| object.sha256 == sha256));
            assert!(stored(&second.sha256()), "{make} {keep}: {:?}", house.s3.keys());
        }
        assert!(equal > 0, "no two stamps were the same");
        for copy in files(&house.state.join("kept")) {
            let key = copy.strip_prefix(house.state.join("kept")).unwrap().to_str().unwrap().to_owned();
            assert_eq!(house.s3.object(&key).unwrap().sha256, sha256(&fs::read(&copy).unwrap()), "{key}");
        }
    }
}

#[test]
fn where_no_rename_keeps_from_replacing_files_are_taken_away_all_the_same() {
    for (failing, keep) in [
        ("inject=renameat2:error=EINVAL", "days: 0, min_free: 0"),
        ("inject=renameat2,linkat:error=EINVAL", "days: 9, min_free: 0"),
    ] {
        let mut house = Household::new();
        let through = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat2,linkat", "-e", failing];
        let end = ["setpriv", "--pdeathsig", "KILL", "--"];
        house.start_through(&[&through[..], &end].concat(), keep);
        let shots: Vec<Shot> = (0..5).map(|number| Shot::new("CAM", number, 3000)).collect();
        shots.iter().for_each(|shot| house.lay_down(shot).unwrap());
        house.wait_until_empty();
        assert!(shots.iter().all(|shot| house.holds(shot)), "{failing}: {}", house.log());
        assert_eq!(house.said(" ERROR "), 0, "{}", house.log());
    }
}

#[test]
fn what_could_not_be_taken_away_is_not_sent_again_at_the_next_start() {
    let volume = Volume::ext4(32);
    let mut house = Household::new();
    house.drop_folder = volume.path().join("drop");
    house.start("days: 0, min_free: 0");
    let shots: Vec<Shot> = (0..5).map(|number| Shot::new("CAM", number, 3000)).collect();
    house.s3.fault(Fault::fail("PutObject", 503, "SlowDown"));
    shots.iter().for_each(|shot| house.lay_down(shot).unwrap());
    volume.remount("ro");
    house.s3.clear_faults();
    house.wait_for_objects(5);
    house.wait_for_status("the trouble", |status| status.trouble.is_some() && status.waiting.uploading == 0);
    house.kill();
    let puts = || {
        house.s3.look(|state| {
            state
                .requests()
                .iter()
                .filter(|request| request.operation == "PutObject" && request.key.starts_with("CAM/"))
                .count()
        })
    };
    let sent = puts();
    volume.remount("rw");
    house.start("days: 0, min_free: 0");
    house.wait_until_empty();
    let puts = house.s3.look(|state| {
        state
            .requests()
            .iter()
            .filter(|request| request.operation == "PutObject" && request.key.starts_with("CAM/"))
            .count()
    });
    assert_eq!(puts, sent, "nothing is sent again");
}

#[test]
fn a_disk_that_is_unmounted_and_mounted_within_a_second_is_watched_again() {
    let volume = Volume::ext4(32);
    let mut house = Household::new();
    house.drop_folder = volume.path().join("drop");
    house.rescan = "1h";
    house.start("days: 0, min_free: 0");
    for number in 0..3 {
        let first = Shot::new("CAM", number, 3000);
        house.lay_down(&first).unwrap();
        house.wait_until_empty();
        volume.unmount();
        volume.mount();
        // Seen by its own event: the next full scan is an hour away.
        thread::sleep(Duration::from_millis(1500));
        let second = Shot::new("CAM", 100 + number, 3000);
        house.lay_down(&second).unwrap();
        wait_for("the next picture", Duration::from_secs(20), || house.holds(&second).then_some(()));
    }
    house.wait_for_status("no trouble", |status| status.state == DaemonState::Ok);
}

#[test]
fn a_drop_disk_that_drops_off_is_an_alarm_and_what_waited_is_remembered_by_count() {
    let volume = Volume::ext4(32);
    let mut house = Household::new();
    house.drop_folder = volume.path();
    house.s3.fault(Fault::fail("PutObject", 503, "SlowDown"));
    house.start("days: 0, min_free: 0");
    let shots: Vec<Shot> = (0..4).map(|number| Shot::new("CAM", number, 3000)).collect();
    shots.iter().for_each(|shot| house.lay_down(shot).unwrap());
    // One that is not tried again while the link is down stays queued.
    house.wait_for_status("four that wait", |status| {
        let waiting = &status.waiting;
        status.trouble.is_some() && waiting.uploading == 0 && waiting.queued + waiting.backing_off == 4
    });
    volume.unmount();
    let status = house.wait_for_status("the alarm", |status| status.waiting.elsewhere > 0);
    let trouble = status.trouble.unwrap();
    assert!(trouble.reason.contains("is not the one that it was: 4 files"), "{trouble:?}");
    assert!(trouble.advice.contains("mount its disk again"), "{trouble:?}");
    assert_eq!((status.state, status.waiting.elsewhere), (DaemonState::Degraded, 4));
    // It stays one, however often the other folder is scanned.
    thread::sleep(Duration::from_secs(6));
    house.wait_for_status("the alarm", |status| status.waiting.elsewhere == 4 && status.trouble.is_some());
    volume.mount();
    house.s3.clear_faults();
    house.wait_until_empty();
    wait_for("every picture", LONG, || shots.iter().all(|shot| house.holds(shot)).then_some(()));
    house.wait_for_status("the end of it", |status| status.state == DaemonState::Ok && status.waiting.elsewhere == 0);
}

#[test]
fn no_copy_goes_under_the_mount_point_of_a_disk_that_is_not_there() {
    let volume = Volume::ext4(32);
    let mut house = Household::new();
    let kept = volume.path().join("kept");
    let keep = format!("days: 9, min_free: 0, path: {}", kept.display());
    house.start(&keep);
    let shots: Vec<Shot> = (0..4).map(|number| Shot::new("CAM", number, 3000)).collect();
    house.lay_down(&shots[0]).unwrap();
    wait_for("a copy", LONG, || kept.join(shots[0].key()).exists().then_some(()));
    volume.unmount();
    house.lay_down(&shots[1]).unwrap();
    house.wait_until_empty();
    let status = house.wait_for_status("the alarm", |status| status.trouble.is_some());
    assert!(status.trouble.as_ref().unwrap().reason.contains("no local copies are kept"), "{status:?}");
    // Also after a restart.
    house.kill();
    house.start(&keep);
    house.lay_down(&shots[2]).unwrap();
    house.wait_until_empty();
    house.wait_for_status("the alarm", |status| status.trouble.is_some());
    assert!(files(&volume.path()).is_empty(), "{:?}", files(&volume.path()));
    assert!(shots[..3].iter().all(|shot| house.holds(shot)));
    volume.mount();
    house.wait_for_status("the end of it", |status| status.state == DaemonState::Ok);
    house.lay_down(&shots[3]).unwrap();
    wait_for("a copy", LONG, || kept.join(shots[3].key()).exists().then_some(()));
}

#[test]
fn a_folder_that_fuse_serves_loses_nothing_and_is_emptied() {
    for keep in ["days: 0, min_free: 0", "days: 9, min_free: 0"] {
        let volume = Volume::fuse();
        let mut house = Household::new();
        house.drop_folder = volume.path().join("drop");
        house.start(keep);
        let stored = |house: &Household, sha256: &str| {
            house.s3.look(|state| state.objects().values().any(|object| object.sha256 == sha256))
        };
        let shots: Vec<Shot> = (0..5).map(|number| Shot::new("CAM", number, 3000)).collect();
        shots.iter().for_each(|shot| house.lay_down(shot).unwrap());
        house.wait_until_empty();
        assert!(shots.iter().all(|shot| house.holds(shot)), "{keep}: {}", house.log());
        // Other bytes of the same length, within the second, while the first are sent.
        let (first, second) = (Shot::new("CAM", 10, 3000), Shot::new("CAM", 110, 3000));
        let before = house.s3.count("PutObject");
        house.s3.fault(Fault::hang("PutObject").times(1));
        begin_of_a_second();
        house.lay_down(&first).unwrap();
        wait_for("its upload", LONG, || (house.s3.count("PutObject") > before).then_some(()));
        let path = house.drop_folder.join(first.path());
        OpenOptions::new().write(true).open(path).unwrap().write_all(&second.bytes).unwrap();
        house.s3.clear_faults();
        house.wait_until_empty();
        assert!(stored(&house, &second.sha256()), "{keep}: {:?}", house.s3.keys());
        assert_eq!(house.said(" ERROR "), 0, "{}", house.log());
        // Nothing is sent again at the next start.
        house.kill();
        let sent = house.s3.count("PutObject");
        house.start(keep);
        house.lay_down(&shots[0]).unwrap();
        house.wait_until_empty();
        assert!(house.s3.count("PutObject") <= sent + 1, "{keep}");
    }
}

#[test]
fn both_pictures_that_vsftpd_wrote_under_one_name_into_a_folder_that_fuse_serves_are_stored() {
    let ftp = FtpServer::start(Kind::Vsftpd);
    let (root, namespace) = (ftp.root(), format!("--mount=/proc/{}/ns/mnt", ftp.pid()));
    let source = tempfile::tempdir().unwrap();
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&root).unwrap());
    std::os::unix::fs::chown(source.path(), Some(owner), Some(owner)).unwrap();
    // Inside the server's own namespace, which is all that it sees; it ends with the server.
    let mounted = std::process::Command::new("nsenter")
        .args([&namespace, "--", "bindfs", "-o", "allow_other"])
        .args([source.path(), &root])
        .status()
        .unwrap();
    assert!(mounted.success());
    let mut house = Household::new();
    house.drop_folder =
        std::path::Path::new(&format!("/proc/{}/root", ftp.pid())).join(root.strip_prefix("/").unwrap());
    house.start("days: 9, min_free: 0");
    let first = Picture::take("CAM-EXT-001", 1);
    let second =
        Picture { bytes: first.bytes.iter().map(|byte| byte ^ u8::from(*byte == 0x55)).collect(), ..first.clone() };
    assert!(first.bytes != second.bytes && first.bytes.len() == second.bytes.len());
    let mut session = Session::open(&ftp);
    session.make_folder("CAM-EXT-001");
    begin_of_a_second();
    let stored = |bytes: &[u8]| {
        let sha256 = sha256(bytes);
        house.s3.look(|state| state.objects().values().any(|object| object.sha256 == sha256))
    };
    session.push(&first);
    wait_for("the first", LONG, || stored(&first.bytes).then_some(()));
    session.push(&second);
    house.wait_until_empty();
    assert!(stored(&first.bytes) && stored(&second.bytes), "{:?}", house.s3.keys());
    assert_eq!(house.said(" ERROR "), 0, "{}", house.log());
}
