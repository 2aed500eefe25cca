//! Everything as a user has it: cameras push to vsftpd, the daemon sends what lies in its root on to a store.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::camera::Session;
use crate::daemon::{BINARY, Daemon, SOON, wait_for};
use crate::ftp_server::{self, FtpServer};
use crate::proxy::{Exchange, Proxy};
use crate::store::{ACCESS_KEY, BUCKET, Kind, REGION, SECRET_KEY, Store};

/// How long a whole burst may take to reach the bucket on a loaded machine with two cores.
pub(crate) const BURST: Duration = Duration::from_mins(2);

/// One installation at a time: their times are measured, and each has three servers.
static TURN: Mutex<()> = Mutex::new(());

#[derive(Debug)]
pub(crate) struct Installation {
    // In the order in which they end: whoever sends before whoever receives.
    daemon: Option<Daemon>,
    pub(crate) proxy: Proxy,
    pub(crate) store: Store,
    pub(crate) ftp: FtpServer,
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Installation {
    /// Starts the servers; the daemon follows with [`Self::start_daemon`].
    pub(crate) fn start(kind: Kind) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let store = Store::start(kind);
        let proxy = Proxy::start(&store.endpoint());
        let ftp = FtpServer::start(ftp_server::Kind::Vsftpd);
        let folder = TempDir::with_prefix("hk-aws-peers-").unwrap();
        Self { daemon: None, proxy, store, ftp, folder, _turn: turn }
    }

    /// Starts the daemon, which keeps local copies for `keep_days`, and waits until it is ready.
    pub(crate) fn start_daemon(&mut self, keep_days: u32) {
        let config = self.folder.path().join("config.yaml");
        fs::write(&config, self.config(keep_days)).unwrap();
        let mut command: Command = Daemon::command(BINARY);
        command.arg("--config").arg(config).arg("run");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        let daemon = self.daemon.insert(Daemon::start(command, self.folder.path()));
        daemon.wait_for_notice("READY=1", 0);
        // What is held back or counted from here on is about captures.
        wait_for("the end of the probe", SOON, || {
            self.proxy.probes().iter().find(|probe| probe.method == "DELETE" && probe.answered.is_some()).map(|_| ())
        });
    }

    fn config(&self, keep_days: u32) -> String {
        let (root, folder, endpoint) = (self.ftp.root(), self.folder.path(), self.proxy.endpoint());
        format!(
            "state_dir: {state}\nruntime_dir: {runtime}\ntimezone: {zone}\n\
             drop_folder:\n  path: {root}\n\
             s3:\n  bucket: {BUCKET}\n  region: {REGION}\n  endpoint_url: {endpoint}\n  path_style: true\n\
             keep:\n  days: {keep_days}\n  min_free: 1MiB\n\
             log:\n  target: stderr\n",
            state = folder.join("state").display(),
            runtime = folder.join("run").display(),
            zone = crate::camera::ZONE,
            root = root.display(),
        )
    }

    /// Stops the daemon as systemd does; when this returns, no request can follow.
    pub(crate) fn stop_daemon(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.signal(Signal::TERM);
        let status = daemon.wait_for_end(SOON);
        assert_eq!(status.code(), Some(0), "a daemon that was asked to stop must have succeeded");
    }

    pub(crate) fn session(&self) -> Session {
        Session::open(&self.ftp)
    }

    /// The local copy of what is in the bucket under `key`.
    pub(crate) fn kept(&self, key: &str) -> PathBuf {
        self.folder.path().join("state/kept").join(key)
    }

    /// All files in the local copies.
    pub(crate) fn kept_files(&self) -> Vec<PathBuf> {
        files(&self.folder.path().join("state/kept"))
    }

    /// All files that wait in the drop folder.
    pub(crate) fn waiting_files(&self) -> Vec<PathBuf> {
        files(&self.ftp.root())
    }

    /// Waits until the store has accepted `count` captures and nothing waits in the drop folder.
    pub(crate) fn wait_until_stored(&self, count: usize) {
        let accepted = |exchange: &Exchange| exchange.method == "PUT" && exchange.status == Some(200);
        wait_for(&format!("{count} captures accepted by the store"), BURST, || {
            (self.proxy.exchanges().iter().filter(|exchange| accepted(exchange)).count() >= count).then_some(())
        });
        wait_for("an empty drop folder", SOON, || self.waiting_files().is_empty().then_some(()));
    }

    /// Waits for an answer of the store to a request for `key`, even one that the proxy holds back.
    pub(crate) fn wait_for_answer(&self, key: &str) -> Exchange {
        wait_for(&format!("a request for {key}"), SOON, || {
            self.requests_for(key).into_iter().find(|exchange| exchange.status.is_some())
        })
    }

    /// The requests that were made for `key`.
    pub(crate) fn requests_for(&self, key: &str) -> Vec<Exchange> {
        let path = path_of(key);
        self.proxy.exchanges().into_iter().filter(|exchange| exchange.path == path).collect()
    }
}

/// The path of a key in a request; none of ours needs an escape but the tilde, which AWS leaves as it is.
pub(crate) fn path_of(key: &str) -> String {
    format!("/{BUCKET}/{key}")
}

/// Every file below `folder`, however deep; none where the folder is missing.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(_) => found.push(entry.path()),
            // It was there when the folder was read, and has been disposed of since.
            Err(_) => {}
        }
    }
    found
}
