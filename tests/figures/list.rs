//! `hk-aws list CAMERA DATE` of a day of 10,000 captures, 9,000 of them in a bundle, and the requests alone for the same
//! answers: by the SDK, one after the other, and nothing is done with what comes.
//!
//! Both are measured with the server beside them and with a server that answers after 30 ms, as one behind a home uplink
//! does. `hk-aws` is a process of its own, whose start is told apart.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chrono::{NaiveDate, Utc};
use tokio::process::Command;

use super::bundle::{self, BUCKET, CAMERA};
use super::s3::{Fault, MemoryS3};

const CAPTURES: usize = 10_000;
/// How many of them are in the bundle.
const BUNDLED: usize = 9_000;
/// Runs of each.
const RUNS: usize = 9;
/// What an answer takes on the way.
const ROUND_TRIP: Duration = Duration::from_millis(30);

/// Measures and prints.
pub(crate) async fn measure() -> anyhow::Result<()> {
    println!("\nlist: a day of {CAPTURES} captures, {BUNDLED} of them in a bundle, {RUNS} runs");
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    let server = MemoryS3::start(BUCKET).await;
    let date = fill(&server, folder.path()).await?;
    println!(
        "{:<28}{:>24}{:>24}{:>10}{:>12}",
        "min/median/max", "requests alone, ms", "list, ms", "ratio", "VmHWM MiB"
    );
    for delay in [Duration::ZERO, ROUND_TRIP] {
        if !delay.is_zero() {
            for operation in ["ListObjectsV2", "GetObject"] {
                server.fault(Fault::delay(operation, delay));
            }
        }
        let (mut bare, mut listed, mut peak) = (Vec::new(), Vec::new(), 0.0_f64);
        for _ in 0..RUNS {
            bare.push(requests_alone(&server, date).await?);
            let mut command = bundle::command(&server, folder.path())?;
            command.args(["list", CAMERA, &date.to_string()]);
            let run = bundle::run(command, &server, folder.path(), CAPTURES).await?;
            ensure!(
                std::fs::read_to_string(folder.path().join("log"))?.lines().count() == CAPTURES,
                "not all are listed"
            );
            listed.push(run.seconds * 1000.0);
            peak = peak.max(run.peak_mib);
        }
        let ratio = median(&mut listed) / median(&mut bare);
        let name = format!("answers after {} ms", delay.as_millis());
        println!("{name:<28}{:>24}{:>24}{ratio:>10.2}{peak:>12.1}", three(&bare), three(&listed));
    }
    server.clear_faults();
    println!("of which to start the program: {:.0} ms", start().await?);
    Ok(())
}

/// Makes the day, and returns it.
async fn fill(server: &MemoryS3, folder: &Path) -> anyhow::Result<NaiveDate> {
    let date = Utc::now().date_naive() - chrono::Days::new(40);
    let put = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            server.insert(&bundle::key(date, number, CAPTURES), number.to_string());
        }
    };
    put(0..BUNDLED);
    let mut command = bundle::command(server, folder)?;
    command.args(["archive", CAMERA, &date.to_string()]);
    bundle::run(command, server, folder, CAPTURES).await?;
    put(BUNDLED..CAPTURES);
    Ok(date)
}

/// Returns how many milliseconds the requests of a list take.
async fn requests_alone(server: &MemoryS3, date: NaiveDate) -> anyhow::Result<f64> {
    let client = server.client();
    let began = Instant::now();
    for prefix in [format!("{CAMERA}/archive/{date}"), format!("{CAMERA}/{date}/")] {
        client.list_objects_v2().bucket(BUCKET).prefix(prefix).send().await?;
    }
    let index = client.get_object().bucket(BUCKET).key(format!("{CAMERA}/archive/{date}.index.json"));
    index.send().await?.body.collect().await?;
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}

/// Returns how many milliseconds the program takes to say its version.
async fn start() -> anyhow::Result<f64> {
    let mut took = Vec::new();
    for _ in 0..RUNS {
        let began = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hk-aws"));
        ensure!(command.arg("--version").stdout(Stdio::null()).status().await?.success(), "it has a version");
        took.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(median(&mut took))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the least, the middle and the greatest of values in order.
fn three(values: &[f64]) -> String {
    format!("{:.0}/{:.0}/{:.0}", values[0], values[values.len() / 2], values[values.len() - 1])
}
