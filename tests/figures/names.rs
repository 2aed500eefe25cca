//! `cargo bench --bench names`: how many names one core classifies in a second, the vendor not known beforehand.
//!
//! One element is a whole classification, from a path below the drop folder to the capture; nothing is read from disk.
//! The names are those of the tests, many vendors' in turn, so the figure is not that of the first row that is tried.
//!
//! On a machine that does other work, instructions are the honest figure. With `HK_AWS_NAMES_ROUNDS=N` all names are
//! classified N times and nothing else is done: under `valgrind --tool=callgrind`, the difference between two runs, divided
//! by the rounds and the names between them, is what one name takes.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use criterion::{Criterion, Throughput};
use hk_aws::capture;
use hk_aws::config::Config;

const NAMES: &str = include_str!("../it/names.tsv");

/// The defaults, but for a zone that does not depend on the machine and has a daylight saving time, and for names that
/// are believed although they are years old.
const CONFIG: &str = "drop_folder: {path: /drop}\ns3: {bucket: figures}\ntimezone: Europe/Kyiv\nmax_clock_skew: null\n";

/// Returns the column `path` of the table.
fn paths() -> anyhow::Result<Vec<&'static Path>> {
    let mut lines = NAMES.lines();
    let header = lines.next().context("the table of names is empty")?;
    let column = header.split('\t').position(|name| name == "path").context("the table of names has no paths")?;
    lines.map(|line| line.split('\t').nth(column).map(Path::new).context("a name without a path")).collect()
}

fn main() -> anyhow::Result<()> {
    let config = Config::parse(Path::new("names.yaml"), CONFIG, &|_| None)?;
    let paths = paths()?;
    let arrival: DateTime<Utc> = DateTime::parse_from_rfc3339("2026-11-01T12:00:00Z")?.to_utc();
    if let Ok(rounds) = std::env::var("HK_AWS_NAMES_ROUNDS") {
        for path in (0..rounds.parse()?).flat_map(|_: u32| &paths) {
            black_box(capture::classify(black_box(path), arrival, &config));
        }
        eprintln!("{} names", paths.len());
        return Ok(());
    }
    let mut criterion =
        Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    criterion = criterion.configure_from_args();
    let mut group = criterion.benchmark_group("names");
    group.throughput(Throughput::Elements(paths.len() as u64));
    group.bench_function("classify", |bencher| {
        bencher.iter(|| {
            for path in &paths {
                black_box(capture::classify(black_box(path), arrival, &config));
            }
        });
    });
    group.finish();
    criterion.final_summary();
    Ok(())
}
