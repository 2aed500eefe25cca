//! `cargo bench --bench figures -- [latency|memory|bandwidth|flood|flood-flat|storm|bundle|list|scrape|year]...`: how fast and
//! how small the daemon is. Without a name: the first two; the others take long.
//!
//! The daemon runs as a process of its own, the release build. The store is the S3 server in memory, or another one when
//! `HK_AWS_BENCH_ENDPOINT`, `_BUCKET`, `_ACCESS_KEY` and `_SECRET_KEY` (and `_REGION`) are set; the others need the former,
//! because they look at what it received, or make it refuse connections.
#![expect(clippy::disallowed_methods, reason = "figures are about real time")]
#![expect(clippy::print_stdout, reason = "a table on the standard output is what this is for")]

use std::path::Path;

use anyhow::bail;

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
mod store;
#[path = "../it/support/year.rs"]
mod year;
mod year_long;

use store::{START, STOP, Store};

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
