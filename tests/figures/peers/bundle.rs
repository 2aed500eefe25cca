//! A camera-day into one object: `hk-aws archive` from the local copies, beside `tar` that is piped into a bare PUT.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use chrono::{Days, NaiveTime, TimeDelta, Utc};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::child::{self, Cost};
use super::number;
use super::picture::{CAPTURE_BYTES, capture};
use super::s3::REGION;
use super::seaweed::{BUCKET, Seaweed};

const CAPTURES: usize = 10_000;
const CAMERA: &str = "CAM-EXT-001";
/// How old the day is: old enough to be bundled, and young enough that the names are believed.
const AGE: Days = Days::new(40);

/// Measures and prints.
pub(crate) fn measure(runtime: &Runtime) -> anyhow::Result<()> {
    let count = number("HK_AWS_BENCH_BUNDLE", CAPTURES)?;
    let store = Seaweed::start(runtime);
    let endpoint = store.server.endpoint();
    let home = TempDir::with_prefix("hk-aws-peers-")?;
    let date = (Utc::now() - AGE).date_naive();
    let drop_folder = home.path().join("drop").join(CAMERA);
    fs::create_dir_all(&drop_folder)?;
    for number in 0..count {
        let milliseconds = i64::try_from(number * 86_400_000 / count)?;
        let taken = date.and_time(NaiveTime::MIN) + TimeDelta::milliseconds(milliseconds);
        let name = format!("192.168.1.64_01_{}_MOTION_DETECTION.jpg", taken.format("%Y%m%d%H%M%S%3f"));
        fs::write(drop_folder.join(name), capture(number)?)?;
    }
    configure(&endpoint, home.path())?;
    let uploaded = child::run(&mut ours(home.path(), &["--quiet", "upload"]), home.path())?;
    runtime.block_on(store.expect(&format!("{CAMERA}/{date}/"), count))?;
    rustix::fs::sync();

    let kept = home.path().join("state/kept").join(CAMERA).join(date.to_string());
    let limit = child::run(&mut tar(&endpoint, &kept, count, home.path())?, home.path())?;
    let bundled = child::run(&mut ours(home.path(), &["archive", CAMERA, &date.to_string()]), home.path())?;
    runtime.block_on(store.expect(&format!("{CAMERA}/{date}/"), 0))?;

    println!("\nbundle: a day of {count} captures of {CAPTURE_BYTES} bytes, once\n");
    println!("| program | wall, s | CPU, s | memory, MiB | wall / limit |\n|---|---|---|---|---|");
    let row = |name: &str, cost: Cost, memory: &str| {
        let ratio = cost.wall / limit.wall;
        println!("| {name} | {:.1} | {:.2} | {memory} | {ratio:.2} |", cost.wall, cost.cpu);
    };
    row("the limit: `tar` piped into a bare HTTP PUT", limit, "");
    row("`hk-aws upload`, which came before", uploaded, &format!("{:.0}", uploaded.memory));
    row("`hk-aws archive`, with its index, and every member deleted", bundled, &format!("{:.0}", bundled.memory));
    Ok(())
}

fn ours(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hk-aws"));
    command.arg("--config").arg(home.join("config.yaml")).args(arguments);
    child::isolate(&mut command, home);
    command
}

fn configure(endpoint: &str, home: &Path) -> anyhow::Result<()> {
    let at = home.display();
    let text = format!(
        "drop_folder: {{path: '{at}/drop', settle: 0s}}\nstate_dir: '{at}/state'\nruntime_dir: '{at}/run'\ntimezone: UTC\n\
         s3: {{bucket: {BUCKET}, region: {REGION}, endpoint_url: '{endpoint}', path_style: true}}\n\
         # Older than this the copies would go before their day is bundled.\nkeep: {{days: 90}}\n"
    );
    fs::write(home.join("config.yaml"), text).context("failed to write the configuration")
}

/// The shell waits for both, so that the times of both are its children's.
fn tar(endpoint: &str, kept: &Path, count: usize, home: &Path) -> anyhow::Result<Command> {
    // Each member has a head of 512 bytes and is filled up to blocks of 512; the end is two blocks, filled up to a record of
    // 20 (GNU tar's manual, "The Blocking Factor of an Archive").
    let blocks = count * (1 + CAPTURE_BYTES.div_ceil(512)) + 2;
    let bytes = blocks.next_multiple_of(20) * 512;
    let mut command = Command::new("sh");
    // The folder's own entry would be one more member: its files alone are named, by a list.
    command.arg("-c").arg(
        "cd \"$1\" && find . -type f -printf '%P\\n' | tar --format=ustar -cf - -T - | \"$2\" bare-stream \"$3\" \"$4\" \"$5\"",
    );
    command.arg("sh").arg(kept).arg(std::env::current_exe()?).arg(endpoint);
    command.arg(format!("/{BUCKET}/limit.tar")).arg(bytes.to_string());
    child::isolate(&mut command, home);
    Ok(command)
}
