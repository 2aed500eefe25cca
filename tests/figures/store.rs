//! Where the measured daemon puts its captures.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::Command;

use super::daemon::Daemon;
use super::s3::{ACCESS_KEY, MemoryS3, REGION, SECRET_KEY};

/// How long a start may take until `READY=1`.
pub(crate) const START: Duration = Duration::from_secs(20);
/// How long a stop may take; below systemd's default of 90 s.
pub(crate) const STOP: Duration = Duration::from_mins(1);

/// Where captures go.
pub(crate) struct Store {
    pub(crate) endpoint: String,
    pub(crate) bucket: String,
    pub(crate) region: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    /// The server, where it is ours.
    pub(crate) ours: Option<MemoryS3>,
}

impl Store {
    /// Starts a server that keeps digests only.
    pub(crate) async fn in_memory() -> Self {
        let bucket = "figures".to_owned();
        let server = MemoryS3::start_without_bytes(&bucket).await;
        let [region, access_key, secret_key] = [REGION, ACCESS_KEY, SECRET_KEY].map(str::to_owned);
        Self { endpoint: server.endpoint(), bucket, region, access_key, secret_key, ours: Some(server) }
    }

    /// Returns the store that the environment names, if it names one.
    pub(crate) fn from_environment() -> anyhow::Result<Option<Self>> {
        let Ok(endpoint) = std::env::var("HK_AWS_BENCH_ENDPOINT") else { return Ok(None) };
        let read = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
        Ok(Some(Self {
            endpoint,
            bucket: read("HK_AWS_BENCH_BUCKET")?,
            region: std::env::var("HK_AWS_BENCH_REGION").unwrap_or_else(|_| REGION.to_owned()),
            access_key: read("HK_AWS_BENCH_ACCESS_KEY")?,
            secret_key: read("HK_AWS_BENCH_SECRET_KEY")?,
            ours: None,
        }))
    }

    /// Starts the daemon on `folder/drop-folder` with its defaults but for where things are, and `more`.
    pub(crate) fn start_daemon(&self, folder: &Path, more: &str) -> anyhow::Result<Daemon> {
        let Self { endpoint, bucket, region, .. } = self;
        let at = folder.display();
        let config = format!(
            "drop_folder:\n  path: {at}/drop-folder\n\
             s3:\n  bucket: {bucket}\n  region: {region}\n  endpoint_url: {endpoint}\n  path_style: true\n\
             keep:\n  path: {at}/kept\n\
             state_dir: {at}/state\n\
             runtime_dir: {at}/run\n\
             log:\n  target: stderr\n{more}"
        );
        let file = folder.join("config.yaml");
        std::fs::write(&file, config).context("failed to write the configuration")?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_hk-aws"));
        command.arg("--config").arg(file).arg("run");
        Daemon::start(command, folder, &self.access_key, &self.secret_key)
    }
}
