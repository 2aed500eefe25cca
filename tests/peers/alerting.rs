//! Kinds of conditions that need a disk, a mount, a name server or an FTP server of their own: caused for real in a real
//! daemon, and told to a program. That each has lasted for ten minutes is in the memory of the alerts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use hk_aws::status::ConditionKind;
use serde_json::Value;

use crate::camera::Session;
use crate::daemon::wait_for;
use crate::ftp_server::{FtpServer, Kind, USER};
use crate::household::{Household, LONG, Shot};
use crate::memory::remember;
use crate::memory_s3::Fault;
use crate::own_folders::in_own_mounts;
use crate::volume::Volume;

/// A household that tells of a kind as soon as it is there.
fn telling(kind: ConditionKind) -> (Household, Told) {
    let house = Household::new();
    let told = house.drop_folder.parent().unwrap().join("told");
    (house, Told { kind, file: told })
}

struct Told {
    kind: ConditionKind,
    file: PathBuf,
}

impl Told {
    /// Starts the daemon with these keys of `keep` and a program that writes down what it is told.
    fn start(&self, house: &mut Household, through: &[&str], keep: &str) {
        remember(&house.state, &[(self.kind, None)]);
        let script = format!("cat >>{file}; echo >>{file}", file = self.file.display());
        // The sections of a household end with `keep`.
        house.start_through(through, &format!("{keep}}}\nalerts: {{command: [sh, -c, '{script}']"));
    }

    /// Waits for the message.
    fn message(&self) -> Value {
        let message = wait_for(&format!("an alert: {}", self.kind.name()), LONG, || {
            let text = fs::read_to_string(&self.file).unwrap_or_default();
            // A line that is being written is not whole yet.
            let mut messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            messages.find(|message| message["kind"] == self.kind.name() && message["state"] == "entered")
        });
        let text = |name: &str| message[name].as_str().unwrap();
        assert!(text("text").starts_with("Since ") && !text("advice").is_empty(), "{message:#}");
        message
    }
}

#[test]
fn a_drop_disk_that_drops_off_is_told() {
    let volume = Volume::ext4(32);
    let (mut house, told) = telling(ConditionKind::DropFolderReplaced);
    house.drop_folder = volume.path();
    house.s3.fault(Fault::fail("PutObject", 503, "SlowDown"));
    told.start(&mut house, &[], "days: 0, min_free: 0");
    (0..4).for_each(|number| house.lay_down(&Shot::new("CAM", number, 3000)).unwrap());
    house.wait_for_status("four that wait", |status| {
        let waiting = &status.waiting;
        status.trouble.is_some() && waiting.uploading == 0 && waiting.queued + waiting.backing_off == 4
    });
    volume.unmount();
    let message = told.message();
    assert!(message["text"].as_str().unwrap().contains("4 files"), "{message:#}");
}

#[test]
fn a_drop_folder_that_turns_read_only_is_told() {
    let volume = Volume::ext4(64);
    let (mut house, told) = telling(ConditionKind::DropFolderReadOnly);
    house.drop_folder = volume.path().join("drop");
    told.start(&mut house, &[], "days: 0, min_free: 0");
    volume.remount("ro");
    assert_eq!(told.message()["urgency"], "high");
}

#[test]
fn a_drop_folder_that_runs_full_is_told() {
    let volume = Volume::memory("size=16m");
    let (mut house, told) = telling(ConditionKind::DropFolderShort);
    house.drop_folder = volume.path();
    house.s3.fault(Fault::fail("PutObject", 503, "SlowDown"));
    told.start(&mut house, &[], "days: 0, min_free: 4MiB");
    (0..).take_while(|number| house.lay_down(&Shot::new("CAM", *number, 300_000)).is_ok()).for_each(drop);
    let message = told.message();
    assert!(message["text"].as_str().unwrap().contains("runs full"), "{message:#}");
}

#[test]
fn a_file_that_the_service_may_not_read_is_told() {
    let (mut house, told) = telling(ConditionKind::Unreadable);
    let shot = Shot::new("CAM", 1, 3000);
    house.lay_down(&shot).unwrap();
    let path = house.drop_folder.join(shot.path());
    let stranger = Some(51_237);
    std::os::unix::fs::chown(&path, stranger, stranger).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    // Without these, root is a user like any other.
    let through =
        ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"];
    told.start(&mut house, &through, "days: 0, min_free: 0");
    told.message();
}

#[test]
fn a_state_folder_that_runs_full_is_told() {
    let volume = Volume::memory("size=64m");
    let (mut house, told) = telling(ConditionKind::StateShort);
    house.state = volume.path().join("state");
    told.start(&mut house, &[], "days: 0, min_free: 0");
    volume.fill(8 << 20);
    let message = told.message();
    assert!(message["text"].as_str().unwrap().contains("MiB are free"), "{message:#}");
}

#[test]
fn a_disk_of_copies_that_drops_off_is_told() {
    let volume = Volume::ext4(32);
    let (mut house, told) = telling(ConditionKind::CopiesMissing);
    let kept = volume.path().join("kept");
    told.start(&mut house, &[], &format!("days: 9, min_free: 0, path: {}", kept.display()));
    let shot = Shot::new("CAM", 0, 3000);
    house.lay_down(&shot).unwrap();
    wait_for("a copy", LONG, || kept.join(shot.key()).exists().then_some(()));
    volume.unmount();
    house.lay_down(&Shot::new("CAM", 1, 3000)).unwrap();
    told.message();
}

#[test]
fn a_disk_of_copies_that_is_full_is_told() {
    let copies = Volume::memory("size=1m");
    let (mut house, told) = telling(ConditionKind::CopiesRefused);
    told.start(&mut house, &[], &format!("days: 36500, min_free: 0, path: {}", copies.path().display()));
    copies.fill(0);
    house.lay_down(&Shot::new("CAM", 0, 50_000)).unwrap();
    told.message();
}

#[test]
fn a_clock_of_the_box_that_is_wrong_by_the_answers_of_aws_is_told() {
    let (mut house, told) = telling(ConditionKind::BoxClock);
    // No clock but that of AWS is believed. So for this daemon, a name of AWS leads to the store here.
    let names = house.drop_folder.parent().unwrap().join("hosts");
    let aws = "s3.us-east-1.amazonaws.com";
    fs::write(&names, format!("127.0.0.1 localhost {aws}\n")).unwrap();
    let port = house.s3.endpoint().rsplit(':').next().unwrap().to_owned();
    house.endpoint = Some(format!("http://{aws}:{port}"));
    house.s3.date_answers_ahead(630);
    let through = in_own_mounts(&format!("mount --bind {} /etc/hosts && exec \"$@\"", names.display()));
    let through: Vec<&str> = through.iter().map(String::as_str).collect();
    told.start(&mut house, &through, "days: 0, min_free: 0");
    house.lay_down(&Shot::new("CAM", 0, 3000)).unwrap();
    let message = told.message();
    assert!(message["text"].as_str().unwrap().contains("10 min behind"), "{message:#}");
}

#[test]
fn logins_that_fail_at_a_real_ftp_server_are_told() {
    for kind in [Kind::PureFtpdAsDocumented, Kind::VsftpdAsDocumented] {
        let ftp = FtpServer::start_with_journal(kind);
        let (mut house, told) = telling(ConditionKind::FtpLogins);
        // Where the journal is.
        let namespace = format!("--mount=/proc/{}/ns/mnt", ftp.pid());
        told.start(
            &mut house,
            &["nsenter", &namespace, "setpriv", "--pdeathsig", "KILL", "--"],
            "days: 0, min_free: 0",
        );
        wait_for("a reader of the journal", LONG, || {
            let threads = fs::read_dir(format!("/proc/{}/task", house.pid())).unwrap().flatten();
            let children = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
            let is_one =
                |id: &str| fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name == "journalctl\n");
            children
                .flat_map(|ids| ids.split_whitespace().map(is_one).collect::<Vec<_>>())
                .any(|is_one| is_one)
                .then_some(())
        });
        // It begins with what comes, so the first failures may come before it is there.
        let message = wait_for("the alert", LONG, || {
            assert!(suppaftp::FtpStream::connect(ftp.address()).unwrap().login(USER, "wrong").is_err());
            fs::exists(&told.file).unwrap().then(|| told.message())
        });
        let text = message["text"].as_str().unwrap();
        let client = if kind == Kind::PureFtpdAsDocumented {
            "user camera from localhost"
        } else {
            "user camera from 127.0.0.1"
        };
        assert!(text.contains(client) && !text.contains("wrong"), "{kind:?}: {message:#}");
        if kind == Kind::PureFtpdAsDocumented {
            drop(Session::open(&ftp));
            house.wait_for_status("the end of it", |status| {
                status.conditions.iter().all(|condition| condition.kind != ConditionKind::FtpLogins)
            });
        }
    }
}
