//! What a process costs.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::s3::{ACCESS_KEY, REGION, SECRET_KEY};

/// Ticks in a second of `/proc/PID/stat` (proc(5)); Linux has no other number on the processors that this runs on.
const TICKS: f64 = 100.0;
/// How often the memory of a process is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What one run of a program took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Seconds from start to end.
    pub(crate) wall: f64,
    /// Seconds of processors, in the program and in the kernel for it, its children's included.
    pub(crate) cpu: f64,
    /// The largest resident set, in MiB.
    pub(crate) memory: f64,
}

/// Gives a command an environment that holds the keys of the store and nothing of the user's.
pub(crate) fn isolate(command: &mut Command, home: &Path) {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command.env("AWS_REGION", REGION).env("AWS_DEFAULT_REGION", REGION).env("AWS_EC2_METADATA_DISABLED", "true");
}

/// Runs a command to its end.
///
/// # Errors
/// It cannot be started, or fails: with what it said.
pub(crate) fn run(command: &mut Command, home: &Path) -> anyhow::Result<Cost> {
    let log = home.join("log");
    let output = File::create(&log)?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| format!("failed to start {command:?}"))?;
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("no process has the id 0")?;
    let mut memory = 0.0_f64;
    // It is not reaped until its times are read.
    let watched = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while waitid(WaitId::Pid(pid), watched)?.is_none() {
        memory = memory.max(peak(child.id()).unwrap_or(0.0));
        std::thread::sleep(LOOK);
    }
    let wall = began.elapsed().as_secs_f64();
    let cpu = processor_time(child.id())?;
    let status = child.wait()?;
    ensure!(status.success(), "{command:?} {status}:\n{}", fs::read_to_string(&log)?);
    Ok(Cost { wall, cpu, memory })
}

/// Returns the largest resident set of a living process so far, in MiB.
pub(crate) fn peak(id: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes / 1024.0)
}

/// Returns the seconds of processors that a process has used, with those of its children that have ended.
///
/// # Errors
/// There is no such process.
pub(crate) fn processor_time(id: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).context("the process has gone")?;
    // The name of the program, in brackets, may hold anything; the state follows, and the times are 11 further on.
    let (_, fields) = stat.rsplit_once(") ").context("a line with a name in brackets")?;
    let times = fields.split(' ').skip(11).take(4).map(str::parse::<f64>);
    Ok(times.sum::<Result<f64, _>>()? / TICKS)
}
