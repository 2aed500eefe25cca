//! A drop folder with pictures, and a store in memory beside it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::picture::capture;
use crate::s3::{ACCESS_KEY, MemoryS3, REGION, SECRET_KEY};

const BUCKET: &str = "captures";

pub(crate) struct Site {
    folder: TempDir,
    s3: Option<MemoryS3>,
    /// The server's own, so that its threads are not the program's.
    runtime: Runtime,
}

impl Site {
    pub(crate) fn new(pictures: usize) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let s3 = runtime.block_on(MemoryS3::start_without_bytes(BUCKET));
        let folder = TempDir::with_prefix("hk-aws-cost-").unwrap();
        let camera = folder.path().join("drop/CAM-EXT-001");
        fs::create_dir_all(&camera).unwrap();
        let first = chrono::Local::now() - chrono::TimeDelta::hours(1);
        for number in 0..pictures {
            let taken = first + chrono::TimeDelta::milliseconds(1001 * i64::try_from(number).unwrap());
            let name = format!("192.168.1.64_01_{}_MOTION_DETECTION.jpg", taken.format("%Y%m%d%H%M%S%3f"));
            fs::write(camera.join(name), capture(number).unwrap()).unwrap();
        }
        let site = Self { folder, s3: Some(s3), runtime };
        fs::write(site.config(), site.text()).unwrap();
        site
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config.yaml")
    }

    /// The settings of a box as it is shipped: the local copies are kept.
    fn text(&self) -> String {
        let at = self.folder.path().display();
        format!(
            "drop_folder: {{path: '{at}/drop', settle: 0s}}\nstate_dir: '{at}/state'\nruntime_dir: '{at}/run'\n\
             s3: {{bucket: {BUCKET}, region: {REGION}, endpoint_url: '{}', path_style: true}}\n\
             # The machine's disk may be full.\nkeep: {{min_free: 0}}\n",
            self.s3.as_ref().unwrap().endpoint()
        )
    }

    /// The command `upload` behind a program that watches it, if there is one.
    pub(crate) fn command(&self, watching: &[&str]) -> Command {
        self.command_of(watching, &["--quiet", "upload"])
    }

    /// A command of the program behind one that watches it.
    pub(crate) fn command_of(&self, watching: &[&str], arguments: &[&str]) -> Command {
        let binary = env!("CARGO_BIN_EXE_hk-aws");
        let line = [watching, &[binary]].concat();
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).arg("--config").arg(self.config()).args(arguments);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.folder.path());
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command.env("AWS_EC2_METADATA_DISABLED", "true").stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    pub(crate) fn upload(&self) {
        assert!(self.command(&[]).status().unwrap().success());
    }

    /// How many requests the store got.
    pub(crate) fn requests(&self) -> u64 {
        self.s3.as_ref().unwrap().look(|state| state.requests().len()) as u64
    }

    pub(crate) fn objects(&self) -> usize {
        self.s3.as_ref().unwrap().look(|state| state.objects().len())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // What it ends with belongs to its runtime.
        let _inside = self.runtime.enter();
        drop(self.s3.take());
    }
}
