//! A folder of pictures into the bucket: each program in turn, in each round against a fresh server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::child::{self, Cost};
use super::picture::capture_of;
use super::s3::REGION;
use super::seaweed::{BUCKET, Seaweed};
use super::{median, number, programs};

const PICTURES: usize = 2000;
/// The sizes of the pictures in bytes, evenly between these.
const BYTES: std::ops::Range<usize> = 150_000..250_000;
const ROUNDS: usize = 3;

/// What moves the pictures.
#[derive(Debug, Clone)]
enum Program {
    Limit,
    S5cmd,
    Rclone,
    AwsCli,
    HkAws { name: String, binary: PathBuf },
}

impl Program {
    fn all() -> Vec<Self> {
        let ours = |name: &str, binary: PathBuf| Self::HkAws { name: name.to_owned(), binary };
        let mut all = vec![Self::Limit, Self::S5cmd, Self::Rclone, Self::AwsCli];
        if let Some(other) = std::env::var_os("HK_AWS_BENCH_OTHER") {
            all.push(ours("another build of `hk-aws upload`", other.into()));
        }
        all.push(ours("`hk-aws upload`", env!("CARGO_BIN_EXE_hk-aws").into()));
        all
    }

    fn name(&self) -> &str {
        match self {
            Self::Limit => "the limit: bare HTTP PUT, unsigned, 16 connections",
            Self::S5cmd => "`s5cmd mv`",
            Self::Rclone => "`rclone move`",
            Self::AwsCli => "`aws s3 mv`",
            Self::HkAws { name, .. } => name,
        }
    }

    /// The beginning of the keys under which it stores.
    fn prefix(&self) -> &str {
        match self {
            Self::Limit => "limit/",
            Self::S5cmd => "s5cmd/",
            Self::Rclone => "rclone/",
            Self::AwsCli => "aws/",
            Self::HkAws { name, .. } if name.starts_with("another") => "other/",
            Self::HkAws { .. } => "hk-aws/",
        }
    }

    /// The command that moves what is in `home/drop/CAM-EXT-001`, with the program's own defaults.
    fn command(&self, endpoint: &str, home: &Path) -> anyhow::Result<Command> {
        let pictures = home.join("drop/CAM-EXT-001");
        let target = format!("s3://{BUCKET}/{}", self.prefix());
        let mut command = match self {
            Self::Limit => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["bare-put", endpoint, BUCKET]).arg(pictures);
                command
            }
            Self::S5cmd => {
                let mut command = Command::new(programs::find_s5cmd()?);
                command.args(["--endpoint-url", endpoint, "mv"]).arg(format!("{}/", pictures.display())).arg(target);
                command
            }
            Self::Rclone => {
                let mut command = Command::new(programs::find("rclone"));
                command.args(["move", "--s3-provider=SeaweedFS", "--s3-env-auth", "--s3-region", REGION]);
                command.args(["--s3-endpoint", endpoint]).arg(pictures);
                command.arg(format!(":s3:{BUCKET}/{}", self.prefix()));
                command
            }
            Self::AwsCli => {
                let mut command = Command::new(programs::find("aws"));
                command.args(["--endpoint-url", endpoint, "s3", "mv", "--recursive", "--only-show-errors"]);
                command.arg(pictures).arg(target);
                command
            }
            Self::HkAws { binary, .. } => {
                let mut command = Command::new(binary);
                command.arg("--config").arg(configure(endpoint, home, self.prefix())?).args(["--quiet", "upload"]);
                command
            }
        };
        child::isolate(&mut command, home);
        Ok(command)
    }
}

/// Writes the configuration of a box that keeps no copies, as the others keep none.
fn configure(endpoint: &str, home: &Path, prefix: &str) -> anyhow::Result<PathBuf> {
    let at = home.display();
    let text = format!(
        "drop_folder: {{path: '{at}/drop', settle: 0s}}\nstate_dir: '{at}/state'\nruntime_dir: '{at}/run'\n\
         s3: {{bucket: {BUCKET}, region: {REGION}, endpoint_url: '{endpoint}', path_style: true, prefix: {prefix}}}\n\
         keep: {{days: 0}}\n"
    );
    let file = home.join("config.yaml");
    fs::write(&file, text).context("failed to write the configuration")?;
    Ok(file)
}

/// Measures and prints.
pub(crate) fn measure(runtime: &Runtime) -> anyhow::Result<()> {
    let rounds = number("HK_AWS_BENCH_ROUNDS", ROUNDS)?;
    let programs = Program::all();
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); programs.len()];
    for round in 0..rounds {
        let store = Seaweed::start(runtime);
        // Nobody is always the first, or always after the same other.
        for turn in 0..programs.len() {
            let index = (turn + round) % programs.len();
            costs[index].push(run(&programs[index], &store, runtime)?);
        }
    }
    print(&programs, &costs, rounds);
    Ok(())
}

fn run(program: &Program, store: &Seaweed, runtime: &Runtime) -> anyhow::Result<Cost> {
    let home = TempDir::with_prefix("hk-aws-peers-")?;
    lay_down(&home.path().join("drop/CAM-EXT-001"))?;
    let mut command = program.command(&store.server.endpoint(), home.path())?;
    let cost = child::run(&mut command, home.path())?;
    runtime.block_on(store.expect(program.prefix(), PICTURES))?;
    let left = fs::read_dir(home.path().join("drop")).into_iter().flatten().flatten();
    let left = left.flat_map(|camera| fs::read_dir(camera.path()).into_iter().flatten()).count();
    let expected = if matches!(program, Program::Limit) { PICTURES } else { 0 };
    anyhow::ensure!(left == expected, "{} left {left} pictures", program.name());
    Ok(cost)
}

/// Lays down the pictures, and waits until they are on the disk: it would still be busy with them otherwise.
fn lay_down(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let first = chrono::Local::now() - chrono::TimeDelta::hours(3);
    for number in 0..PICTURES {
        let bytes = BYTES.start + number * BYTES.len() / PICTURES;
        let taken = first + chrono::TimeDelta::milliseconds(i64::try_from(number)? * 3001);
        let name = format!("192.168.1.64_01_{}_MOTION_DETECTION.jpg", taken.format("%Y%m%d%H%M%S%3f"));
        fs::write(folder.join(name), capture_of(number, bytes)?)?;
    }
    rustix::fs::sync();
    Ok(())
}

fn print(programs: &[Program], costs: &[Vec<Cost>], rounds: usize) {
    let middle = |of: fn(&Cost) -> f64, costs: &[Cost]| median(costs.iter().map(of).collect());
    let spread = |costs: &[Cost]| {
        let walls = || costs.iter().map(|cost| cost.wall);
        (walls().fold(f64::INFINITY, f64::min), walls().fold(0.0, f64::max))
    };
    let (limit, s5cmd) = (&costs[0], &costs[1]);
    println!("\nbulk: {PICTURES} pictures of {BYTES:?} bytes, medians of {rounds} rounds (least to most)\n");
    println!(
        "| program | wall, s | CPU, s | memory, MiB | wall / limit | wall / s5cmd | CPU / s5cmd |\n\
         |---|---|---|---|---|---|---|"
    );
    for (program, costs) in programs.iter().zip(costs) {
        let (least, most) = spread(costs);
        let [wall, cpu, memory] =
            [|cost: &Cost| cost.wall, |cost: &Cost| cost.cpu, |cost: &Cost| cost.memory].map(|of| middle(of, costs));
        println!(
            "| {} | {wall:.1} ({least:.1} to {most:.1}) | {cpu:.2} | {memory:.0} | {:.2} | {:.2} | {:.2} |",
            program.name(),
            wall / middle(|cost| cost.wall, limit),
            wall / middle(|cost| cost.wall, s5cmd),
            cpu / middle(|cost| cost.cpu, s5cmd),
        );
    }
}
