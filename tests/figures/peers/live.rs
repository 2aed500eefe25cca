//! The daemon at work, a capture after another, and with nothing to do.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::runtime::Runtime;

use super::bare::Connection;
use super::child::{peak, processor_time};
use super::latency::{follow, make_cameras};
use super::picture::{CAPTURE_BYTES, capture};
use super::s3::{ACCESS_KEY, REGION, SECRET_KEY};
use super::seaweed::{BUCKET, Seaweed};
use super::{START, STOP, Store, number};

const SECONDS: usize = 60;
/// What lies between two captures: 50 a second.
const INTERVAL: Duration = Duration::from_millis(20);
/// How many cameras an idle box has, and how many folders they have made.
const CAMERAS: usize = 12;
const FOLDERS: usize = 10_000;
/// How long the daemon is left alone before it counts as idle.
const QUIET: Duration = Duration::from_secs(10);

/// Measures and prints.
pub(crate) fn measure(runtime: &Runtime) -> anyhow::Result<()> {
    let seconds = number("HK_AWS_BENCH_SECONDS", SECONDS)?;
    let count = seconds * 1000 / usize::try_from(INTERVAL.as_millis())?;
    let seaweed = Seaweed::start(runtime);
    let endpoint = seaweed.server.endpoint();
    let bare = put_one_by_one(&endpoint, count)?;
    let [region, access_key, secret_key] = [REGION, ACCESS_KEY, SECRET_KEY].map(str::to_owned);
    let store = Store { endpoint, bucket: BUCKET.to_owned(), region, access_key, secret_key, ours: None };
    let (stored, gone, work) = runtime.block_on(at_work(&store, count))?;
    let idle = runtime.block_on(idle(Duration::from_secs(seconds as u64)))?;

    println!("\nlive: captures of {CAPTURE_BYTES} bytes, {} a second for {seconds} s\n", 1000 / INTERVAL.as_millis());
    println!("| from close after writing | p50, ms | p99, ms | most, ms |\n|---|---|---|---|");
    row("the limit: bare HTTP PUT, unsigned, on a warm connection", &bare);
    row("`hk-aws run`, until it has the answer", &stored);
    row("`hk-aws run`, until the file has left the drop folder", &gone);
    println!("\n| the daemon | CPU | memory, MiB | requests |\n|---|---|---|---|");
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let each = work.cpu * 1000.0 / count as f64;
    println!("| at work | {each:.2} ms a capture | {:.0} | |", work.memory);
    let share = idle.cpu / idle.seconds * 100.0;
    println!(
        "| idle, {CAMERAS} cameras with {FOLDERS} folders | {share:.3} % of a core | {:.0} | {} in {:.0} s |",
        idle.memory, idle.requests, idle.seconds
    );
    Ok(())
}

fn row(name: &str, times: &[Duration]) {
    let at = |percent: usize| {
        let time = times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
        time.map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    };
    println!("| {name} | {:.1} | {:.1} | {:.1} |", at(50), at(99), at(100));
}

/// Puts captures over one connection in the rhythm of the cameras; answers how long each took, the shortest first.
fn put_one_by_one(endpoint: &str, count: usize) -> anyhow::Result<Vec<Duration>> {
    let mut connection = Connection::open(endpoint)?;
    let began = Instant::now();
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let picture = capture(number)?;
        std::thread::sleep((INTERVAL * u32::try_from(number)?).saturating_sub(began.elapsed()));
        let put = Instant::now();
        connection.put(&format!("/{BUCKET}/bare/{number}.jpg"), &picture)?;
        times.push(put.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

/// What the daemon took.
struct Watched {
    seconds: f64,
    cpu: f64,
    memory: f64,
    requests: usize,
}

/// Answers how long each capture took until it was stored, and until it had left the drop folder.
async fn at_work(store: &Store, count: usize) -> anyhow::Result<(Vec<Duration>, Vec<Duration>, Watched)> {
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    let drop_folder = folder.path().join("drop-folder");
    make_cameras(&drop_folder)?;
    let mut daemon = store.start_daemon(folder.path(), "")?;
    daemon.ready(START).await?;
    let (began, before) = (Instant::now(), processor_time(daemon.id()?)?);
    let followed = follow(&mut daemon, &drop_folder, count, INTERVAL).await?;
    let cpu = processor_time(daemon.id()?)? - before;
    let memory = peak(daemon.id()?).context("the daemon lives")?;
    daemon.stop(STOP).await?;
    let watched = Watched { seconds: began.elapsed().as_secs_f64(), cpu, memory, requests: count };
    Ok((followed.stored(folder.path())?, followed.times(), watched))
}

/// Watches a daemon whose cameras send nothing. The server counts the requests, so it is the one in memory.
async fn idle(time: Duration) -> anyhow::Result<Watched> {
    let store = Store::in_memory().await;
    let server = store.ours.as_ref().context("the server is in memory")?;
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    for number in 0..FOLDERS {
        let camera = format!("drop-folder/CAM-EXT-{:03}/{:05}", number % CAMERAS + 1, number / CAMERAS);
        fs::create_dir_all(folder.path().join(camera))?;
    }
    let mut daemon = store.start_daemon(folder.path(), "")?;
    daemon.ready(START).await?;
    tokio::time::sleep(QUIET).await;
    let (began, before) = (Instant::now(), processor_time(daemon.id()?)?);
    let asked = server.requests().len();
    tokio::time::sleep(time).await;
    let cpu = processor_time(daemon.id()?)? - before;
    let seconds = began.elapsed().as_secs_f64();
    let (requests, memory) = (server.requests().len() - asked, peak(daemon.id()?).context("the daemon lives")?);
    daemon.stop(STOP).await?;
    Ok(Watched { seconds, cpu, memory, requests })
}
