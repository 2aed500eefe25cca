//! The commands as users call them: the program itself as a child, its exit code, its stdout, its stderr.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hk_aws::archive::{Made, Reads, archive_day};
use hk_aws::bucket::{Credentials, Pace};
use hk_aws::config::{ArchiveSettings, Config};
use hk_aws::drop_folder::{DropFolder, Writer};
use hk_aws::key::ArchiveFormat;
use hk_aws::site;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::s3::{ACCESS_KEY, MemoryS3, REGION, SECRET_KEY};

mod arrange;
mod as_root;
mod aws_template;
mod broken_listing;
mod check;
mod classify;
mod doctor;
mod former_keys;
mod holdings;
mod holdings_archived;
mod holdings_calls;
mod key;
mod ledger;
mod messages;
mod mistyped;
mod recover;
mod resend;
mod restore;
mod rotate;
mod rotate_cameras;
mod status;
mod strange_names;
mod template_bucket;
mod upload;
mod verify;

/// A box with a configuration, a drop folder and a bucket of its own.
struct Site {
    folder: TempDir,
    s3: MemoryS3,
}

/// What a command left behind.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Site {
    async fn start() -> Self {
        Self::start_with("", "").await
    }

    /// A site with more keys in the `s3` section (`, key: value`), and more sections.
    async fn start_with(s3_keys: &str, sections: &str) -> Self {
        let (folder, s3) = (tempfile::tempdir().unwrap(), MemoryS3::start("captures").await);
        let site = Self { folder, s3 };
        std::fs::create_dir(site.path("drop")).unwrap();
        let config = format!(
            "drop_folder: {{path: {drop}, settle: 0s}}\n\
             s3: {{bucket: captures, region: {REGION}, endpoint_url: \"{endpoint}\", path_style: true{s3_keys}}}\n\
             timezone: Europe/Kyiv\nmax_clock_skew: null\nstate_dir: {state}\nruntime_dir: {run}\n{sections}",
            drop = site.path("drop").display(),
            endpoint = site.s3.endpoint(),
            state = site.path("state").display(),
            run = site.path("run").display(),
        );
        std::fs::write(site.path("config.yaml"), config).unwrap();
        site
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Puts a file into the drop folder.
    fn drop_file(&self, below: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path("drop").join(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        // A child that another test has just begun holds what was open here until it is its own program.
        let folder = DropFolder::of_set_aside(self.path("drop"));
        while folder.open(Path::new(below)).is_ok_and(|opened| opened.writer() == Writer::Somebody) {
            std::thread::sleep(Duration::from_millis(1));
        }
        path
    }

    /// The library's view of this site.
    async fn context(&self) -> site::Site {
        let config = Config::load(&self.path("config.yaml")).unwrap();
        std::fs::create_dir_all(&config.state_dir).unwrap();
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test");
        let now = hk_aws::daemon::now;
        site::Site::new(Arc::new(config), Some(credentials), Pace::new(now), now).await
    }

    /// Bundles a camera-day.
    async fn bundle(&self, camera: &str, date: &str, archive: &ArchiveSettings) -> Made {
        let made = archive_day(&self.context().await, archive, camera, date.parse().unwrap(), &mut Reads::default())
            .await
            .unwrap();
        assert!(made.left.is_empty() && !made.bundles.is_empty(), "{made:?}");
        made
    }

    fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = hk_aws(arguments);
        command.env("HK_AWS_CONFIG", self.path("config.yaml"));
        command
    }

    async fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Said {
        run(&mut self.command(arguments)).await
    }

    /// Runs a command that must succeed with one JSON object a line.
    async fn lines(&self, arguments: &[&str]) -> Vec<Value> {
        let said = self.run(&[&["--json"], arguments].concat()).await;
        assert_eq!(said.code, 0, "{said:?}");
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// How a day is bundled, into one part.
fn archive(class: &str, format: ArchiveFormat) -> ArchiveSettings {
    let (after, class) = (Duration::ZERO, class.to_owned());
    ArchiveSettings { after, class, format, max_days_per_run: 31, part_size: 240 << 20 }
}

/// The program, knowing of this machine nothing but its credentials.
pub(crate) fn hk_aws<A: AsRef<OsStr>>(arguments: &[A]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hk-aws"));
    command.args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

async fn run(command: &mut Command) -> Said {
    Said::of(command.output().await.unwrap())
}

/// Runs a command; returns what it left behind, and the most that was resident of its memory, in KiB.
async fn run_measured(command: &mut Command) -> (Said, u64) {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id().unwrap());
    let (mut output, mut peak) = (std::pin::pin!(child.wait_with_output()), 0);
    loop {
        if let Ok(output) = tokio::time::timeout(Duration::from_millis(10), &mut output).await {
            return (Said::of(output.unwrap()), peak);
        }
        // Once it has ended it has no memory.
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak = peak.max(resident.map_or(0, |kib| kib.parse().unwrap()));
    }
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn wrong_usage_ends_with_2_and_says_nothing_on_stdout() {
    let site = Site::start().await;
    for line in [
        &[][..],
        &["uplaod"],
        &["list"],
        &["get", "CAM", "2022-02-24"],
        &["get", "CAM", "yesterday", "--to", "x"],
        &["list", "CAM", "2022-02-30"],
        &["list", "CAM", "--from", "noon"],
        &["classify"],
        &["cameras", "--quiet", "--verbose"],
        &["cameras", "--frobnicate"],
    ] {
        let said = site.run(line).await;
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{line:?}: {said:?}");
        assert!(said.err.contains("Usage") || said.err.contains("--help"), "{line:?}: {said:?}");
    }
    let said = site.run(&["list", "CAM", "yesterday"]).await;
    assert!(said.err.contains("YYYY-MM-DD"), "{said:?}");
}

#[tokio::test]
async fn version_and_help_need_no_configuration() {
    let said = run(&mut hk_aws(&["--version"])).await;
    assert_eq!((said.code, said.out.trim_end()), (0, concat!("hk-aws ", env!("CARGO_PKG_VERSION"))), "{said:?}");
    for line in [&["--help"][..], &["help"], &["upload", "--help"], &["help", "get"]] {
        let said = run(&mut hk_aws(line)).await;
        assert!(said.code == 0 && said.err.is_empty() && said.out.contains("Usage: hk-aws"), "{said:?}");
    }
}

#[tokio::test]
async fn a_reader_who_leaves_early_is_no_failure() {
    let site = Site::start().await;
    for number in 0..2000 {
        site.s3.insert(&format!("CAM/2022-02-24/20220224T050607_{number}.jpg"), "x");
    }
    site.drop_file("CAM/a.jpg", b"x");
    let to = site.path("got").into_os_string().into_string().unwrap();
    for line in [
        &["list", "CAM"][..],
        &["--json", "list", "CAM"],
        &["cameras"],
        &["days", "CAM"],
        &["check"],
        &["classify", "CAM/a.jpg"],
        &["upload", "--dry-run"],
        &["get", "CAM", "2022-02-24", "20220224T050607_7.jpg", "--to", &to],
    ] {
        let mut child = site.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().await.unwrap();
        let noise = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), noise.as_str()), (Some(0), ""), "{line:?}");
    }
}

#[tokio::test]
async fn a_closed_stderr_changes_no_exit_code() {
    let site = Site::start().await;
    site.drop_file("CAM/empty.jpg", b"");
    for (line, code) in [
        (&["list", "CAM"][..], 0),
        (&["days", "CAM"], 1),
        (&["get", "CAM", "2022-02-24", "x.jpg", "--to", "/nowhere"], 1),
        (&["upload"], 1),
        (&["--config", "/nowhere/config.yaml", "check"], 2),
    ] {
        let mut child = site.command(line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stderr.take());
        assert_eq!(child.wait().await.unwrap().code(), Some(code), "{line:?}");
    }
}

#[tokio::test]
async fn a_bucket_that_does_not_answer_is_named_with_what_to_do() {
    let site = Site::start().await;
    site.s3.refuse().await;
    for line in
        [&["cameras"][..], &["days", "CAM"], &["list", "CAM"], &["get", "CAM", "2022-02-24", "--to", "/nowhere"]]
    {
        let said = site.run(line).await;
        assert_eq!((said.code, said.out.as_str(), said.err.lines().count()), (1, "", 1), "{said:?}");
        assert!(said.err.contains("s3://captures at http://127.0.0.1:"), "{said:?}");
        assert!(said.err.contains("failed to list objects") && said.err.contains("refused"), "{said:?}");
    }
    site.s3.accept().await;
    let said =
        run(site.command(&["cameras"]).env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY")).await;
    assert!(said.code == 1 && said.err.contains("credentials"), "{said:?}");
    let said = run(site.command(&["cameras"]).env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7STRANGE")).await;
    assert!(said.code == 1 && said.err.contains("renew the AWS key"), "{said:?}");
}
