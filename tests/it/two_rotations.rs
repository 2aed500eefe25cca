//! Two boxes rotate the same bucket together, each a process of its own, and are killed now and then: in the end it holds
//! what one would have left.
//!
//! A box rotates by a command or as a daemon that makes up for a missed run. `HK_AWS_ROTATIONS` sets the number of runs, and
//! makes each one of 20 days; `HK_AWS_ROTATIONS_SEED` begins with another one. `HK_AWS_ROTATIONS_TOGETHER=1` lets them
//! rotate together also at a store that ignores conditions, where that does not hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, Utc};
use hk_aws::bundle::Index;
use hk_aws::schedule::ROTATE;
use hk_aws::status::{Job, Snapshot};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::archive_kill::{Capture, Process, ago, members_of};
use crate::kill::{Chance, Moment};
use crate::process::daemon::{BINARY, Daemon, SOON, wait_for};
use crate::schedule::remember;
use crate::support::s3::{ACCESS_KEY, Conditions, Fault, MemoryS3, REGION, SECRET_KEY};
use crate::support::site::{bytes, sha256};

/// How long each request takes.
const LATENCY: Duration = Duration::from_millis(20);

/// How many days ago the youngest capture was taken.
const YOUNGEST: u64 = 40;

/// Captures of each day before any late one.
const A_DAY: u64 = 3;

/// The requests of one rotation on one day.
const REQUESTS_A_DAY: u64 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn i10_two_rotations_at_once_leave_what_one_would_and_so_do_two_that_are_killed() {
    rotate(Conditions::Honoured, Together::Yes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_at_a_store_that_ignores_conditions_two_boxes_may_rotate_one_after_the_other() {
    let is_asked_for = std::env::var_os("HK_AWS_ROTATIONS_TOGETHER").is_some();
    rotate(Conditions::Ignored, if is_asked_for { Together::Yes } else { Together::No }).await;
}

/// Whether both boxes rotate at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Together {
    Yes,
    No,
}

async fn rotate(conditions: Conditions, together: Together) {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let (runs, days) = number("HK_AWS_ROTATIONS").map_or((2, 5), |runs| (runs, 20));
    let first = number("HK_AWS_ROTATIONS_SEED").unwrap_or(1);
    for seed in first..first + runs {
        let s3 = MemoryS3::start("captures").await;
        s3.take_conditions(conditions);
        let mut place = Place::new(s3, Chance(seed), days, together);
        place.come();
        // Every other run begins with some that are killed.
        let kills = if seed % 2 == 0 { 4 } else { 0 };
        for _ in 0..kills {
            place.rotate_and_kill();
            place.check(seed);
        }
        place.rotate_to_the_end();
        place.check(seed);
        place.s3.clear_faults();
        for host in 0..2 {
            place.start(host, Way::Rotate).finish(&place.hosts);
        }
        place.check_the_end(seed);
        let [indexes, requests] = [place.s3.keys().len() / 2, place.s3.look(|state| state.requests().len())];
        eprintln!("seed {seed}: {} captures in {indexes} bundles after {requests} requests", place.captures.len());
    }
}

/// Two boxes, their bucket, and what was stored there.
struct Place {
    s3: MemoryS3,
    hosts: [Host; 2],
    chance: Chance,
    days: u64,
    together: Together,
    captures: BTreeSet<Capture>,
}

/// The folders of a box.
struct Host(TempDir);

/// How a box rotates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Rotate,
    /// All days are named.
    Archive,
    OlderThan,
    Daemon,
}

/// A rotation under way. Dropping it is SIGKILL.
struct Rotation {
    process: Process,
    host: usize,
    way: Way,
    began: DateTime<Utc>,
}

impl Host {
    fn new(s3: &MemoryS3, chance: &mut Chance) -> Self {
        let host = Self(TempDir::with_prefix("hk-aws-two-rotations-").unwrap());
        fs::create_dir_all(host.path("drop/CAM")).unwrap();
        let at = host.0.path().display();
        let format = ["tar", "tar.zst"][usize::try_from(chance.below(2)).unwrap()];
        // By default the copies of such old days give way after the first rotation.
        let keep_days = [35, 100][usize::try_from(chance.below(2)).unwrap()];
        let config = format!(
            "state_dir: {at}/state\nruntime_dir: {at}/run\ntimezone: UTC\ndrop_folder: {{path: {at}/drop}}\n\
             s3: {{bucket: captures, region: {REGION}, endpoint_url: '{}', path_style: true}}\n\
             keep: {{days: {keep_days}, min_free: 0}}\nlog: {{target: stderr}}\n\
             rotate: {{cameras: all, schedule: '0 0 1 1 *', archive: {{format: {format}}}}}\n",
            s3.endpoint()
        );
        fs::write(host.path("config.yaml"), config).unwrap();
        host
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// What the daemon says of the rotation.
    fn job(&self) -> Option<Job> {
        Snapshot::read(&self.path("run")).ok()?.jobs.remove(ROTATE)
    }
}

impl Rotation {
    fn has_ended(&mut self, hosts: &[Host]) -> bool {
        let host = &hosts[self.host];
        let job_has_ended = |job: Job| job.running_since.is_none() && job.last_ended_at >= Some(self.began);
        self.process.has_ended() || self.way == Way::Daemon && host.job().is_some_and(job_has_ended)
    }

    /// Waits until it has ended well.
    fn finish(mut self, hosts: &[Host]) {
        wait_for("the end of a rotation", 2 * SOON, || self.has_ended(hosts).then_some(()));
        let host = &hosts[self.host];
        if self.way == Way::Daemon {
            let job = host.job().unwrap();
            assert!(!job.failed, "{job:?}\n{}", host.log());
            self.process.signal(Signal::TERM);
        }
        assert_eq!(self.process.wait(), 0, "{:?}\n{}", self.way, host.log());
    }
}

impl Place {
    fn new(s3: MemoryS3, mut chance: Chance, days: u64, together: Together) -> Self {
        let hosts = [Host::new(&s3, &mut chance), Host::new(&s3, &mut chance)];
        for operation in ["ListObjectsV2", "PutObject", "GetObject", "HeadObject", "DeleteObjects"] {
            s3.fault(Fault::delay(operation, LATENCY));
        }
        Self { s3, hosts, chance, days, together, captures: BTreeSet::new() }
    }

    /// Lets the captures of all days come; of some the one box has a copy, of some the other.
    fn come(&mut self) {
        for day in 0..self.days {
            for number in 0..A_DAY {
                let (key, bytes) = self.store(day, number);
                for host in &self.hosts {
                    if self.chance.below(2) == 0 {
                        let path = host.path("state/kept").join(&key);
                        fs::create_dir_all(path.parent().unwrap()).unwrap();
                        fs::write(path, &bytes).unwrap();
                    }
                }
            }
        }
    }

    fn store(&mut self, day: u64, number: u64) -> (String, Vec<u8>) {
        let date = ago(YOUNGEST + day);
        let name = format!("192.168.1.64_01_{}12{number:04}000_MOTION_DETECTION.jpg", date.format("%Y%m%d"));
        let (key, bytes) = (format!("CAM/{date}/{name}"), bytes(day * 1000 + number, 500));
        self.captures.insert((key.clone(), sha256(&bytes)));
        self.s3.insert(&key, bytes.clone());
        (key, bytes)
    }

    fn requests(&self) -> usize {
        self.s3.look(|state| state.requests().len())
    }

    fn start(&self, number: usize, way: Way) -> Rotation {
        let host = &self.hosts[number];
        let mut command = Daemon::command(BINARY);
        command.arg("--config").arg(host.path("config.yaml"));
        match way {
            Way::Rotate => command.arg("rotate"),
            Way::Archive => {
                let last: NaiveDate = ago(YOUNGEST);
                command.args(["archive", "CAM"]).arg(format!("{}..{last}", last - Days::new(self.days - 1)))
            }
            Way::OlderThan => command.args(["archive", "--older-than", "30d"]),
            Way::Daemon => {
                // What another daemon said before it was killed.
                let _none = fs::remove_file(host.path("run/status.json"));
                remember(&host.path("state"), 800);
                command.arg("run")
            }
        };
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        let began = Utc::now();
        let log = File::options().create(true).append(true).open(host.path("log")).unwrap();
        Rotation { process: Process::start(command, &log), host: number, way, began }
    }

    /// Starts a rotation of each box, or of one of them if they must not rotate together.
    fn start_some(&mut self) -> Vec<Rotation> {
        let first = usize::try_from(self.chance.below(2)).unwrap();
        let count = if self.together == Together::Yes { 2 } else { 1 };
        let hosts = [first, 1 - first].into_iter().take(count);
        hosts
            .map(|host| {
                let way = match self.chance.below(5) {
                    0 | 1 => Way::Daemon,
                    2 => Way::Rotate,
                    3 => Way::Archive,
                    _ => Way::OlderThan,
                };
                self.start(host, way)
            })
            .collect()
    }

    /// Kills one of them at any moment; another one goes on for a while, or to its end.
    fn rotate_and_kill(&mut self) {
        let before = self.requests();
        let mut rotations = self.start_some();
        while !rotations.is_empty() {
            let requests = 2 * REQUESTS_A_DAY * self.days;
            Moment::random(&mut self.chance, requests)
                .wait(&self.s3, before, || rotations.iter_mut().all(|rotation| rotation.has_ended(&self.hosts)));
            drop(rotations.remove(0));
            if self.chance.below(3) == 0 {
                rotations.drain(..).for_each(|rotation| rotation.finish(&self.hosts));
            }
        }
    }

    /// Lets them rotate to the end, while some late captures come.
    fn rotate_to_the_end(&mut self) {
        let before = self.requests();
        let mut rotations = self.start_some();
        for late in 0..4 {
            let day = self.chance.below(self.days);
            let until = before + usize::try_from((late + self.chance.below(3)) * 2 * self.days).unwrap();
            wait_for("requests", 2 * SOON, || {
                let have_ended = rotations.iter_mut().all(|rotation| rotation.has_ended(&self.hosts));
                (have_ended || self.requests() >= until).then_some(())
            });
            self.store(day, A_DAY + late);
        }
        for rotation in rotations {
            rotation.finish(&self.hosts);
        }
    }

    /// The captures in bundles, those that lie loose, the bundles that no index describes, and the indexes that have no bundle.
    fn holdings(&self) -> Holdings {
        let objects = self.s3.look(|state| state.objects().clone());
        let mut holdings = Holdings::default();
        let mut described = BTreeMap::new();
        for (key, object) in &objects {
            if key.ends_with(".index.json") {
                let index: Index = serde_json::from_slice(object.bytes.as_deref().unwrap()).unwrap();
                match objects.get(&index.bundle.key) {
                    Some(bundle) => holdings.archived.extend(members_of(&index, bundle.bytes.as_deref().unwrap())),
                    None => holdings.intentions.push(key.clone()),
                }
                described.insert(index.bundle.key, key);
            } else if key.starts_with("CAM/") && !key.contains("/archive/") {
                holdings.loose.insert((key.clone(), object.sha256.clone()));
            }
        }
        let bundles = objects.keys().filter(|key| key.contains("/archive/") && key.contains(".tar"));
        holdings.riddles = bundles.filter(|key| !described.contains_key(*key)).cloned().collect();
        holdings
    }

    /// Whenever nothing is at work: nothing is lost, and no bundle is without the index that describes its bytes.
    fn check(&self, seed: u64) {
        let Holdings { archived, loose, riddles, .. } = self.holdings();
        let there: BTreeSet<&Capture> = archived.iter().chain(&loose).collect();
        let lost: Vec<_> = self.captures.iter().filter(|capture| !there.contains(capture)).collect();
        assert!(lost.is_empty(), "seed {seed}: {lost:?}\n{:?}\n{}", self.s3.keys(), self.logs());
        assert!(riddles.is_empty(), "seed {seed}: bundles without an index: {riddles:?}\n{}", self.logs());
    }

    fn check_the_end(&self, seed: u64) {
        self.check(seed);
        let Holdings { mut archived, loose, intentions, .. } = self.holdings();
        assert!(intentions.is_empty(), "seed {seed}: indexes without a bundle: {intentions:?}\n{}", self.logs());
        assert!(loose.is_empty(), "seed {seed}: {loose:?}\n{}", self.logs());
        archived.sort();
        assert!(archived.iter().eq(&self.captures), "seed {seed}: not each once: {archived:?}\n{}", self.logs());
    }

    fn logs(&self) -> String {
        self.hosts.iter().map(Host::log).collect::<Vec<_>>().join("\n")
    }
}

/// What the bucket holds.
#[derive(Default)]
struct Holdings {
    archived: Vec<Capture>,
    loose: BTreeSet<Capture>,
    /// Bundles that no index describes.
    riddles: Vec<String>,
    /// Indexes whose bundle is not there yet.
    intentions: Vec<String>,
}
