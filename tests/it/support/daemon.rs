//! The daemon as a process of its own, for what shows or measures it from outside.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// A running daemon. Dropping it kills it.
pub(crate) struct Daemon {
    process: Child,
    ready: watch::Receiver<bool>,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` with these keys and nothing else from the user's AWS settings; its log goes into `folder`.
    pub(crate) fn start(
        mut command: Command,
        folder: &Path,
        access_key: &str,
        secret_key: &str,
    ) -> anyhow::Result<Self> {
        let log = folder.join("daemon.log");
        let socket = folder.join("notify");
        let notify = UnixDatagram::bind(&socket).context("failed to bind the notify socket")?;
        let process = command
            .env("NOTIFY_SOCKET", &socket)
            .env("AWS_ACCESS_KEY_ID", access_key)
            .env("AWS_SECRET_ACCESS_KEY", secret_key)
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_PROFILE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).context("failed to create the daemon's log")?)
            // Ctrl-C in the terminal is for the parent, which then stops the daemon.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("failed to start the daemon")?;
        let (sender, ready) = watch::channel(false);
        tokio::spawn(listen(notify, sender));
        Ok(Self { process, ready, log })
    }

    /// Waits until the daemon has said `READY=1`, as systemd would.
    pub(crate) async fn ready(&mut self, deadline: Duration) -> anyhow::Result<()> {
        let mut ready = self.ready.clone();
        let told = async { matches!(tokio::time::timeout(deadline, ready.wait_for(|ready| *ready)).await, Ok(Ok(_))) };
        let in_time = tokio::select! {
            in_time = told => in_time,
            ended = self.ended() => return Err(ended),
        };
        ensure!(in_time, "the daemon was not ready within {deadline:?}; its log ends:\n{}", self.log_tail());
        Ok(())
    }

    /// Waits for an end nobody asked for, and tells of it.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        let ended = self.process.wait().await;
        anyhow!("the daemon ended by itself: {ended:?}; its log ends:\n{}", self.log_tail())
    }

    /// Returns the process id.
    pub(crate) fn id(&self) -> anyhow::Result<u32> {
        self.process.id().context("the daemon has ended")
    }

    /// Asks the daemon to drain (SIGTERM) and waits for its end.
    pub(crate) async fn stop(&mut self, deadline: Duration) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.id()?)?).context("no process has the id 0")?;
        kill_process(pid, Signal::TERM).context("failed to signal the daemon")?;
        let ended = tokio::time::timeout(deadline, self.process.wait()).await;
        let Ok(ended) = ended else {
            bail!("the daemon did not stop within {deadline:?}; its log ends:\n{}", self.log_tail());
        };
        let ended = ended.context("failed to wait for the daemon")?;
        ensure!(ended.success(), "the daemon {ended}; its log ends:\n{}", self.log_tail());
        Ok(())
    }

    /// Returns the last lines of the daemon's log.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// Reads what the daemon tells systemd, for as long as anybody wants to know: a full socket would block the daemon.
async fn listen(notify: UnixDatagram, ready: watch::Sender<bool>) {
    let mut message = [0; 4096];
    while let Ok(len) = tokio::select! { len = notify.recv(&mut message) => len, () = ready.closed() => return } {
        if message[..len].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
            ready.send_replace(true);
        }
    }
}
