//! `cargo bench --bench figures -- [latency|memory|bandwidth|flood|flood-flat|storm|bundle|list|scrape|year]...`: how fast and
//! how small the daemon is. Without a name: the first two; the others take long.
//!
//! The daemon runs as a process of its own, the release build. The store is the S3 server in memory, or another one when
//! `HK_AWS_BENCH_ENDPOINT`, `_BUCKET`, `_ACCESS_KEY` and `_SECRET_KEY` (and `_REGION`) are set; the others need the former,
//! because they look at what it received, or make it refuse connections.
#![expect(clippy::disallowed_methods, reason = "figures are about real time")]
#![expect(clippy::print_stdout, reason = "a table on the standard output is what this is for")]

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::Command;

mod bandwidth;
mod bundle;
#[path = "../it/support/daemon.rs"]
mod daemon;
mod flood;
mod latency;
mod list;
mod memory;
mod picture;
#[path = "../it/support/s3.rs"]
#[expect(dead_code, reason = "the tests need more of it than the figures")]
mod s3;
mod scrape;
#[path = "../it/support/year.rs"]
mod year;
mod year_long;

use daemon::Daemon;
use s3::{ACCESS_KEY, MemoryS3, REGION, SECRET_KEY};

/// How long a start may take until `READY=1`.
const START: Duration = Duration::from_secs(20);
/// How long a stop may take; below systemd's default of 90 s.
const STOP: Duration = Duration::from_mins(1);

/// Where captures go.
struct Store {
    endpoint: String,
    bucket: String,
    region: String,
    access_key: String,
    secret_key: String,
    /// The server, where it is ours.
    ours: Option<MemoryS3>,
}

impl Store {
    async fn in_memory() -> Self {
        let bucket = "figures".to_owned();
        let server = MemoryS3::start_without_bytes(&bucket).await;
        let [region, access_key, secret_key] = [REGION, ACCESS_KEY, SECRET_KEY].map(str::to_owned);
        Self { endpoint: server.endpoint(), bucket, region, access_key, secret_key, ours: Some(server) }
    }

    /// Returns the store that the environment names, if it names one.
    fn from_environment() -> anyhow::Result<Option<Self>> {
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
    fn start_daemon(&self, folder: &Path, more: &str) -> anyhow::Result<Daemon> {
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

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Cargo adds `--bench`.
    let mut names: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if names.is_empty() {
        names = ["latency", "memory"].map(str::to_owned).to_vec();
    }
    if let [name, endpoint, date, folder] = &*names
        && name == "bundle-old"
    {
        return bundle::old_way(endpoint, date, Path::new(folder)).await;
    }
    for name in names {
        match &*name {
            "latency" => {
                let store = match Store::from_environment()? {
                    Some(store) => store,
                    None => Store::in_memory().await,
                };
                latency::measure(&store).await?;
            }
            "memory" => memory::measure(&Store::in_memory().await).await?,
            "bandwidth" => bandwidth::measure(&Store::in_memory().await).await?,
            "flood" => flood::measure_backlog(false).await?,
            "flood-flat" => flood::measure_backlog(true).await?,
            "storm" => flood::measure_storm().await?,
            "bundle" => bundle::measure().await?,
            "list" => list::measure().await?,
            "scrape" => scrape::measure()?,
            "year" => year_long::measure().await?,
            other => bail!(
                "there is no figure {other:?}; there are latency, memory, bandwidth, flood, flood-flat, storm, bundle, list, \
                 scrape and year"
            ),
        }
    }
    Ok(())
}
