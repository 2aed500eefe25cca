//! A backlog of a million captures, and a storm of new ones: how fast they drain, in how much memory, and how long a
//! capture just taken waits meanwhile.
//!
//! `HK_AWS_BENCH_WAITING` is how many wait, `HK_AWS_BENCH_SECONDS` after how long the drain is cut short.

use std::fs::{self, File};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use chrono::{Local, TimeDelta};
use hk_aws::config::Config;
use hk_aws::drop_folder::{DropFolder, Sight};
use rustix::process::{Pid, Signal, kill_process};

use super::s3::MemoryS3;
use super::{STOP, Store};

/// How many captures wait at the start, and how many in the drain that is held against theirs.
const WAITING: usize = 1_000_000;
const FEW: usize = 20_000;
/// Where they come from: folders as Hikvision's cameras make them, a day each.
const CAMERAS: usize = 12;
const DAYS: usize = 30;
/// How much lies between two new captures: 20 a second.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long a start may take that looks at a million files.
const START: Duration = Duration::from_mins(5);
/// How long nothing may be stored before the drain is given up.
const PATIENCE: Duration = Duration::from_mins(2);
/// The storm: so many captures a second for so long.
const STORM_RATE: usize = 5000;
const STORM: Duration = Duration::from_secs(20);
/// How long the daemon is stopped in mid-storm, so that the kernel's queue of events overflows.
const DEAF: Duration = Duration::from_secs(3);
/// The camera of the captures that come meanwhile.
const FRESH: &str = "CAM-FRESH-001";

/// Measures a backlog in folders as cameras make them, or, `flat`, in a single one.
pub(crate) async fn measure_backlog(flat: bool) -> anyhow::Result<()> {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<usize>()).transpose();
    let waiting = number("HK_AWS_BENCH_WAITING")?.unwrap_or(WAITING);
    let limit = number("HK_AWS_BENCH_SECONDS")?.map_or(Duration::MAX, |seconds| Duration::from_secs(seconds as u64));
    let layout = if flat { "in one folder" } else { "in 360 folders" };
    println!("\nflood: {waiting} captures of 200 bytes to 2 KB wait {layout}; S3 and daemon share the machine");
    let few = drain(FEW, flat, Duration::MAX, false).await?;
    let many = drain(waiting, flat, limit, true).await?;
    println!("{:.0} % of the former", 100.0 * many / few);
    Ok(())
}

/// Drains `waiting` captures; answers how many a second. With `fresh`, others come meanwhile, and all is told.
async fn drain(waiting: usize, flat: bool, limit: Duration, fresh: bool) -> anyhow::Result<f64> {
    let store = Store::in_memory().await;
    let server = store.ours.as_ref().context("the server is in memory")?;
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    let drop_folder = folder.path().join("drop-folder");
    fs::create_dir_all(drop_folder.join(FRESH))?;
    let filling = drop_folder.clone();
    let began = Instant::now();
    tokio::task::spawn_blocking(move || fill(&filling, 0..waiting, waiting, flat)).await??;
    if fresh {
        println!(
            "written in {:.1} s; looked at by one scan in {:.2} s",
            began.elapsed().as_secs_f64(),
            scan(&drop_folder)?
        );
    }
    let began = Instant::now();
    let mut daemon = store.start_daemon(folder.path(), "")?;
    daemon.ready(START).await?;
    if fresh {
        println!("READY after {:.1} s", began.elapsed().as_secs_f64());
    }
    let memory = Memory::watch(daemon.id()?);
    let stop = Arc::new(AtomicBool::new(!fresh));
    let arriving = tokio::spawn(arrive(drop_folder, Arc::clone(&stop)));
    let began = Instant::now();
    let before = old(server);
    let (mut done, mut tenth, mut progress, mut tenth_began) = (before, waiting / 10, Instant::now(), began);
    while done < waiting && began.elapsed() < limit {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = old(server);
        if now > done {
            progress = Instant::now();
        }
        done = now;
        ensure!(progress.elapsed() < PATIENCE, "{done} of {waiting} are stored; the log ends:\n{}", daemon.log_tail());
        if fresh && done >= tenth {
            #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
            let rate = (waiting / 10) as f64 / tenth_began.elapsed().as_secs_f64();
            println!(
                "{done:>9} stored after {:>6.1} s, {rate:>6.0}/s; {}",
                began.elapsed().as_secs_f64(),
                memory.tell()
            );
            (tenth, tenth_began) = (tenth + waiting / 10, Instant::now());
        }
    }
    let elapsed = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    let closed = arriving.await??;
    if fresh {
        tell_latency(server, &closed).await;
        println!(
            "{}; {} requests for {} objects",
            memory.tell(),
            server.look(|s| s.requests().len()),
            server.look(|s| s.objects().len())
        );
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let rate = (done - before) as f64 / elapsed.as_secs_f64();
    println!("drain of {waiting}: {rate:.0}/s");
    daemon.stop(STOP).await?;
    Ok(rate)
}

/// Measures a storm of captures into a running daemon.
pub(crate) async fn measure_storm() -> anyhow::Result<()> {
    let store = Store::in_memory().await;
    let server = store.ours.as_ref().context("the server is in memory")?;
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    let drop_folder = folder.path().join("drop-folder");
    fs::create_dir_all(&drop_folder)?;
    let mut daemon = store.start_daemon(folder.path(), "")?;
    daemon.ready(START).await?;
    let memory = Memory::watch(daemon.id()?);
    let pid = Pid::from_raw(i32::try_from(daemon.id()?)?).context("no process has the id 0")?;
    let seconds = usize::try_from(STORM.as_secs())?;
    let count = STORM_RATE * seconds;
    let filling = drop_folder.clone();
    let began = Instant::now();
    let writing = tokio::task::spawn_blocking(move || {
        for second in 0..seconds {
            fill(&filling, second * STORM_RATE..(second + 1) * STORM_RATE, count, false)?;
            std::thread::sleep(Duration::from_secs(second as u64 + 1).saturating_sub(began.elapsed()));
        }
        anyhow::Ok(began.elapsed())
    });
    tokio::time::sleep(STORM / 4).await;
    kill_process(pid, Signal::STOP)?;
    tokio::time::sleep(DEAF).await;
    kill_process(pid, Signal::CONT)?;
    let wrote = writing.await??;
    println!(
        "\nstorm: {count} captures in {:.1} s, the daemon stopped for {} s of it",
        wrote.as_secs_f64(),
        DEAF.as_secs()
    );
    println!("{} stored by its end", server.look(|state| state.objects().len()));
    server.wait_for(|state| state.objects().len() == count, START).await;
    println!("all stored after {:.1} s; {}", began.elapsed().as_secs_f64(), memory.tell());
    println!("{} requests", server.look(|state| state.requests().len()));
    daemon.stop(STOP).await
}

/// How much of the backlog is stored.
fn old(server: &MemoryS3) -> usize {
    server.look(|state| state.objects().len() - state.objects().range(FRESH.to_owned()..format!("{FRESH}~")).count())
}

/// How long one look at everything takes, in seconds.
fn scan(drop_folder: &Path) -> anyhow::Result<f64> {
    let config = format!("drop_folder: {{path: '{}'}}\ns3: {{bucket: figures}}\n", drop_folder.display());
    let config = Config::parse(Path::new("flood.yaml"), &config, &|_| None)?;
    let mut files = 0;
    let began = Instant::now();
    let mut see = |sight| {
        files += u64::from(matches!(sight, Sight::File(_)));
        ControlFlow::Continue(())
    };
    DropFolder::new(&config.drop_folder).scan(Path::new(""), SystemTime::now(), &mut see)?;
    std::hint::black_box(files);
    Ok(began.elapsed().as_secs_f64())
}

/// Lays down captures `numbers` of `all`, as they come from all cameras at once.
fn fill(drop_folder: &Path, numbers: std::ops::Range<usize>, all: usize, flat: bool) -> anyhow::Result<()> {
    let first = Local::now() - TimeDelta::days(i64::try_from(DAYS)?);
    for number in numbers {
        let share = i64::try_from(DAYS * 86_000 * number / all)?;
        let taken = first + TimeDelta::seconds(share) + TimeDelta::milliseconds(i64::try_from(number % 1000)?);
        let name =
            format!("192.168.1.{}_01_{}_MOTION_DETECTION.jpg", number % CAMERAS + 1, taken.format("%Y%m%d%H%M%S%3f"));
        let folder = if flat {
            drop_folder.join("CAM-EXT-001")
        } else {
            drop_folder.join(format!("CAM-EXT-{:03}/{}", number % CAMERAS + 1, taken.format("%F")))
        };
        lay_down(&folder.join(name), number)?;
    }
    Ok(())
}

/// Writes a whole picture of 200 bytes to 2 KB.
fn lay_down(path: &Path, number: usize) -> anyhow::Result<()> {
    let noise = number.to_string().into_bytes();
    let mut picture = b"\xFF\xD8\xFF\xDA\x00\x02".to_vec();
    picture.extend(noise.iter().cycle().take(200 + number % 1800));
    picture.extend(b"\xFF\xD9");
    let mut file = match File::create(path) {
        Err(_) => {
            fs::create_dir_all(path.parent().context("a capture lies in a folder")?)?;
            File::create(path)?
        }
        Ok(file) => file,
    };
    file.write_all(&picture)?;
    Ok(())
}

/// Lays down a capture every [`INTERVAL`] until `stop`; answers when each was closed.
async fn arrive(drop_folder: PathBuf, stop: Arc<AtomicBool>) -> anyhow::Result<Vec<(String, Instant)>> {
    let mut closed = Vec::new();
    let mut clock = tokio::time::interval(INTERVAL);
    while !stop.load(Ordering::Relaxed) {
        clock.tick().await;
        let taken = Local::now();
        let name = format!("192.168.1.64_01_{}_MOTION_DETECTION.jpg", taken.format("%Y%m%d%H%M%S%3f"));
        lay_down(&drop_folder.join(FRESH).join(&name), closed.len())?;
        closed.push((format!("{FRESH}/{}/{name}", taken.format("%F")), Instant::now()));
    }
    Ok(closed)
}

async fn tell_latency(server: &MemoryS3, closed: &[(String, Instant)]) {
    let all_there = |state: &super::s3::State| closed.iter().all(|(key, _)| state.object(key).is_some());
    server.wait_for(all_there, PATIENCE).await;
    let answered: std::collections::HashMap<String, Instant> = server.look(|state| {
        let fresh = state.requests().iter().filter(|request| request.key.starts_with(FRESH));
        fresh.filter_map(|request| Some((request.key.clone(), request.answered?))).collect()
    });
    let waited = closed.iter().filter_map(|(key, at)| Some(answered.get(key)?.saturating_duration_since(*at)));
    let mut waited: Vec<Duration> = waited.collect();
    waited.sort_unstable();
    let at = |percent: usize| {
        waited
            .get((waited.len() * percent / 100).min(waited.len().saturating_sub(1)))
            .map_or(0.0, Duration::as_secs_f64)
            * 1000.0
    };
    println!(
        "captures that came meanwhile, 20/s, from close to S3's answer: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms, n {}",
        at(50),
        at(99),
        at(100),
        waited.len()
    );
}

/// The daemon's resident set, looked at ten times a second.
struct Memory {
    peak: Arc<AtomicU64>,
    now: Arc<AtomicU64>,
    watching: tokio::task::JoinHandle<()>,
}

impl Memory {
    fn watch(pid: u32) -> Self {
        let (peak, now) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (highest, last) = (Arc::clone(&peak), Arc::clone(&now));
        let watching = tokio::spawn(async move {
            while let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) {
                let kibibytes = |name: &str| {
                    let line = status.lines().find_map(|line| line.strip_prefix(name));
                    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
                };
                last.store(kibibytes("VmRSS:"), Ordering::Relaxed);
                highest.store(kibibytes("VmHWM:"), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self { peak, now, watching }
    }

    fn tell(&self) -> String {
        #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
        let mebibytes = |value: &AtomicU64| value.load(Ordering::Relaxed) as f64 / 1024.0;
        format!("VmRSS {:.1} MiB, VmHWM {:.1} MiB", mebibytes(&self.now), mebibytes(&self.peak))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
