//! A daemon whose folders lie where a test wants them, and an S3 server in memory that no trouble of its disks reaches.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hk_aws::status::Snapshot;
use rustix::process::Signal;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::daemon::{BINARY, Daemon, wait_for};
use crate::installation::files;
use crate::memory_s3::{ACCESS_KEY, MemoryS3, REGION, SECRET_KEY};

/// How long anything here may take on a loaded machine.
pub(crate) const LONG: Duration = Duration::from_mins(1);

pub(crate) struct Household {
    daemon: Option<Daemon>,
    pub(crate) s3: MemoryS3,
    /// The server's.
    _runtime: Runtime,
    pub(crate) drop_folder: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) run: PathBuf,
    /// How often everything is looked at.
    pub(crate) rescan: &'static str,
    /// Where the daemon looks for the store, if not where it is.
    pub(crate) endpoint: Option<String>,
    /// More keys of the `s3` section, each behind a comma.
    pub(crate) s3_keys: &'static str,
    /// The daemon's binary.
    pub(crate) program: PathBuf,
    folder: TempDir,
}

impl Household {
    /// Everything in one temporary folder until a test says otherwise; nothing is started but the store.
    pub(crate) fn new() -> Self {
        let folder = TempDir::with_prefix("hk-aws-household-").unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let s3 = runtime.block_on(MemoryS3::start_without_bytes("evidence"));
        let [drop_folder, state, run] = ["drop", "state", "run"].map(|name| folder.path().join(name));
        Self {
            daemon: None,
            s3,
            _runtime: runtime,
            drop_folder,
            state,
            run,
            rescan: "5s",
            endpoint: None,
            s3_keys: "",
            program: BINARY.into(),
            folder,
        }
    }

    /// Starts the daemon with this `keep` section and waits until it is ready.
    pub(crate) fn start(&mut self, keep: &str) {
        self.start_through(&[], keep);
    }

    /// Starts the daemon by way of another program.
    pub(crate) fn start_through(&mut self, program: &[&str], keep: &str) {
        fs::create_dir_all(&self.drop_folder).unwrap();
        let config = self.write_config(keep);
        let mut words = program.iter().copied().chain([self.program.to_str().unwrap()]);
        let mut command: Command = Daemon::command(words.next().unwrap());
        command.args(words).arg("--config").arg(config).arg("run");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        let daemon = self.daemon.insert(Daemon::start(command, self.folder.path()));
        daemon.wait_for_notice("READY=1", 0);
    }

    /// Lets the daemon read its configuration again, which has this `keep` section now.
    pub(crate) fn reload(&self, keep: &str) {
        self.write_config(keep);
        self.daemon.as_ref().unwrap().signal(Signal::HUP);
    }

    /// Tells the daemon to stop, and waits until it has.
    pub(crate) fn stop(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.signal(Signal::TERM);
        assert!(daemon.wait_for_end(LONG).success());
    }

    /// A place for what a test makes besides.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn write_config(&self, keep: &str) -> PathBuf {
        let config = self.folder.path().join("config.yaml");
        let text = format!(
            "drop_folder: {{path: {drop}, settle: 300ms, partial_after: 2s, rescan: {rescan}}}\ntimezone: UTC\n\
             s3: {{bucket: evidence, region: {REGION}, endpoint_url: '{endpoint}', path_style: true{more}}}\n\
             state_dir: {state}\nruntime_dir: {run}\nkeep: {{{keep}}}\nmax_clock_skew: null\nlog: {{target: stderr}}\n",
            drop = self.drop_folder.display(),
            rescan = self.rescan,
            endpoint = self.endpoint.clone().unwrap_or_else(|| self.s3.endpoint()),
            more = self.s3_keys,
            state = self.state.display(),
            run = self.run.display(),
        );
        fs::write(&config, text).unwrap();
        config
    }

    /// Ends the daemon wherever it is.
    pub(crate) fn kill(&mut self) {
        self.daemon = None;
    }

    /// The process of the daemon, or of the program through which it was started.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// Everything that the daemons here have logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The lines of the log that hold `words`.
    pub(crate) fn said(&self, words: &str) -> usize {
        self.log().lines().filter(|line| line.contains(words)).count()
    }

    pub(crate) fn wait_until_said(&self, words: &str) {
        wait_for(&format!("the log to say {words:?}"), LONG, || (self.said(words) > 0).then_some(()));
    }

    pub(crate) fn wait_for_status(&self, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        wait_for(what, LONG, || Snapshot::read(&self.run).ok().filter(|status| wanted(status)))
    }

    /// Waits until the bucket holds so many objects.
    pub(crate) fn wait_for_objects(&self, count: usize) {
        wait_for(&format!("{count} objects"), LONG, || (self.s3.keys().len() == count).then_some(()));
    }

    pub(crate) fn wait_until_empty(&self) {
        wait_for("an empty drop folder", LONG, || files(&self.drop_folder).is_empty().then_some(()));
    }

    /// Lays a picture into the drop folder; fails as a writer on a full disk does, and then leaves what there is.
    pub(crate) fn lay_down(&self, shot: &Shot) -> std::io::Result<()> {
        let path = self.drop_folder.join(shot.path());
        fs::create_dir_all(path.parent().unwrap())?;
        fs::write(path, &shot.bytes)
    }

    /// Whether the bucket holds a picture, whole and under its own key.
    pub(crate) fn holds(&self, shot: &Shot) -> bool {
        self.s3.look(|state| state.object(&shot.key()).is_some_and(|object| object.sha256 == shot.sha256()))
    }
}

/// A picture of its own number: its name, and bytes that nothing else has.
#[derive(Debug, Clone)]
pub(crate) struct Shot {
    camera: String,
    name: String,
    pub(crate) bytes: Vec<u8>,
}

impl Shot {
    pub(crate) fn new(camera: &str, number: u64, length: usize) -> Self {
        let (hour, minute, second) = (number / 3_600_000 % 24, number / 60_000 % 60, number / 1000 % 60);
        let name =
            format!("192.168.1.64_01_20260224{hour:02}{minute:02}{second:02}{:03}_MOTION_DETECTION.jpg", number % 1000);
        let mut bytes = b"\xFF\xD8\xFF\xDA\x00\x02".to_vec();
        let mut block = Sha256::digest(format!("{camera} {number}"));
        while bytes.len() < length {
            // FF would begin a marker inside the scan.
            bytes.extend(block.iter().map(|byte| byte & 0x7F));
            block = Sha256::digest(block);
        }
        bytes.extend_from_slice(b"\xFF\xD9");
        Self { camera: camera.to_owned(), name, bytes }
    }

    /// Below the drop folder.
    pub(crate) fn path(&self) -> PathBuf {
        Path::new(&self.camera).join(&self.name)
    }

    pub(crate) fn key(&self) -> String {
        format!("{}/2026-02-24/{}", self.camera, self.name)
    }

    pub(crate) fn sha256(&self) -> String {
        hex::encode(Sha256::digest(&self.bytes))
    }
}
