//! What only root can lay into a drop folder, or keep the daemon from taking out of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use hk_aws::status::{DaemonState, FileStatus, Snapshot};
use rustix::fs::{CWD, FileType, makedev};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::camera::{Picture, sha256};
use crate::daemon::{BINARY, Daemon, SOON, wait_for};
use crate::ftp_server::UID;
use crate::memory_s3::{ACCESS_KEY, MemoryS3, REGION, SECRET_KEY};

/// A drop folder of the camera's user, and a store in memory.
struct Place {
    // In the order in which they end.
    s3: MemoryS3,
    _runtime: Runtime,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let s3 = runtime.block_on(MemoryS3::start("captures"));
        let folder = TempDir::with_prefix("hk-aws-hostile-").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let below = folder.path().display();
        let config = format!(
            "drop_folder: {{path: {below}/drop, settle: 200ms}}\nstate_dir: {below}/state\nruntime_dir: {below}/run\n\
             s3: {{bucket: captures, region: {REGION}, endpoint_url: '{}', path_style: true}}\n\
             keep: {{days: 0}}\nlog: {{target: stderr}}\n",
            s3.endpoint()
        );
        fs::write(folder.path().join("config.yaml"), config).unwrap();
        for name in ["drop", "state", "run", "drop/CAM"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            chown(folder.path().join(name), Some(UID), Some(UID)).unwrap();
        }
        Self { s3, _runtime: runtime, folder }
    }

    fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Lays a picture down as the camera's user would.
    fn lay_down(&self, picture: &Picture) -> PathBuf {
        let path = self.path("drop").join(picture.path());
        fs::write(&path, &picture.bytes).unwrap();
        chown(&path, Some(UID), Some(UID)).unwrap();
        path
    }

    /// Starts `program` with this place's configuration.
    fn start(&self, mut command: Command) -> Daemon {
        command.arg("--config").arg(self.path("config.yaml")).arg("run");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        let daemon = Daemon::start(command, self.folder.path());
        // Not READY=1: an ordinary user may not write to our socket.
        self.wait_for_status("the first scan", |status| (status.state != DaemonState::Starting).then_some(()));
        daemon
    }

    fn wait_for_status<T>(&self, what: &str, wanted: impl Fn(Snapshot) -> Option<T>) -> T {
        wait_for(what, SOON, || Snapshot::read(&self.path("run")).ok().and_then(&wanted))
    }

    /// Waits until the bucket holds these and nothing else.
    fn wait_for_pictures(&self, pictures: &[&Picture]) {
        let mut wanted: Vec<String> = pictures.iter().map(|picture| sha256(&picture.bytes)).collect();
        wanted.sort();
        wait_for("the pictures in the bucket", SOON, || {
            let mut stored: Vec<String> =
                self.s3.look(|state| state.objects().values().map(|object| object.sha256.clone()).collect());
            stored.sort();
            (stored == wanted).then_some(())
        });
    }
}

fn reason_of<'a>(files: &'a [FileStatus], path: &str) -> Option<&'a str> {
    files.iter().find(|file| file.path == path)?.reason.as_deref()
}

fn stop(mut daemon: Daemon) {
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_for_end(SOON).code(), Some(0));
}

#[test]
fn i1_foreign_files_and_devices_are_left_alone_and_links_of_the_camera_go() {
    let place = Place::new();
    let secret = place.path("secret.jpg");
    fs::write(&secret, b"root's own").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fs::hard_link(&secret, place.path("drop/CAM/before.jpg")).unwrap();
    let daemon = place.start(Daemon::command(BINARY));

    fs::hard_link(&secret, place.path("drop/CAM/after.jpg")).unwrap();
    for (name, kind, device) in
        [("null", FileType::CharacterDevice, makedev(1, 3)), ("loop", FileType::BlockDevice, makedev(7, 0))]
    {
        rustix::fs::mknodat(CWD, place.path("drop/CAM").join(name), kind, 0o666.into(), device).unwrap();
    }
    // As pure-ftpd makes a unique name.
    let own = Picture::take("CAM", 0);
    let hidden = place.path("drop/CAM/.pureftpd-upload.1");
    fs::write(&hidden, &own.bytes).unwrap();
    chown(&hidden, Some(UID), Some(UID)).unwrap();
    fs::hard_link(&hidden, place.path("drop").join(own.path())).unwrap();
    fs::remove_file(&hidden).unwrap();

    place.wait_for_pictures(&[&own]);
    place.wait_for_status("four left alone", |status| {
        let reason = |name: &str| reason_of(&status.not_uploaded, &format!("CAM/{name}"));
        let foreign =
            ["before.jpg", "after.jpg"].iter().all(|name| reason(name).is_some_and(|why| why.contains("else's")));
        let devices = ["null", "loop"].iter().all(|name| reason(name).is_some_and(|why| why.contains("device")));
        (status.waiting.left_alone == 4 && foreign && devices).then_some(())
    });
    stop(daemon);
    assert_eq!(fs::read(&secret).unwrap(), b"root's own");
    assert!(place.path("drop/CAM/before.jpg").exists() && place.path("drop/CAM/after.jpg").exists());
    place.wait_for_pictures(&[&own]);
}

/// A file that not even root can remove, until this goes.
struct Immutable(PathBuf);

impl Immutable {
    fn make(path: PathBuf) -> Self {
        let made = Command::new("chattr").arg("+i").arg(&path).status().unwrap();
        assert!(made.success(), "the file system of {} must know immutable files", path.display());
        Self(path)
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        Command::new("chattr").arg("-i").arg(&self.0).status().ok();
    }
}

#[test]
fn a_file_that_cannot_be_removed_is_stored_and_said_and_the_others_go_on() {
    let place = Place::new();
    let stuck = Picture::take("CAM", 0);
    let path = Immutable::make(place.lay_down(&stuck));
    let daemon = place.start(Daemon::command(BINARY));
    let next = Picture::take("CAM", 1);
    let next_path = place.lay_down(&next);
    place.wait_for_pictures(&[&stuck, &next]);
    place.wait_for_status("the reason", |status| {
        let reason = reason_of(&status.files, &stuck.path())?;
        (status.files.len() == 1 && reason.starts_with("stored; failed to dispose of local file")).then_some(())
    });
    assert!(path.0.exists() && !next_path.exists());
    stop(daemon);
}

#[test]
fn what_an_ordinary_user_may_not_read_or_remove_is_said_and_the_others_go_on() {
    let place = Place::new();
    let (unreadable, stuck, free) = (Picture::take("CAM", 0), Picture::take("LOCKED", 1), Picture::take("CAM", 2));
    let mode = fs::Permissions::from_mode;
    let path = place.lay_down(&unreadable);
    chown(&path, Some(0), Some(0)).unwrap();
    fs::set_permissions(&path, mode(0o600)).unwrap();
    fs::create_dir(place.path("drop/LOCKED")).unwrap();
    fs::set_permissions(place.path("drop/LOCKED"), mode(0o755)).unwrap();
    let stuck_path = place.lay_down(&stuck);
    // The checkout may lie where that user does not get to.
    let program = place.path("hk-aws");
    fs::copy(BINARY, &program).unwrap();
    let mut command = Daemon::command("setpriv");
    command.args([format!("--reuid={UID}"), format!("--regid={UID}"), "--clear-groups".to_owned()]);
    command.args(["--pdeathsig", "KILL", "--"]).arg(&program);
    let daemon = place.start(command);
    place.lay_down(&free);
    place.wait_for_pictures(&[&stuck, &free]);
    place.wait_for_status("both reasons", |status| {
        let unread = reason_of(&status.files, &unreadable.path())?;
        let left = reason_of(&status.files, &stuck.path())?;
        let denied = [unread, left].iter().all(|reason| reason.contains("Permission denied"));
        (status.files.len() == 2 && denied && left.starts_with("stored;")).then_some(())
    });
    assert!(path.exists() && stuck_path.exists());
    stop(daemon);
}
