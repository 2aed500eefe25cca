//! Two boxes rotate the same bucket together, and are killed now and then: in the end it holds what one would have left.
//!
//! The number of runs is set by `HK_AWS_ROTATIONS`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{Days, NaiveDate, Utc};
use hk_aws::bucket::{Credentials, Pace};
use hk_aws::bundle::Index;
use hk_aws::schedule::{Ended, RunEnd};
use hk_aws::{daemon, rotate, site};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::archive_kill::{Capture, members_of};
use crate::kill::Chance;
use crate::support::s3::{ACCESS_KEY, Fault, MemoryS3, SECRET_KEY};
use crate::support::site::{Settings, Site, bytes, sha256};

const DAYS: u64 = 20;

/// Captures of each day before any late one.
const A_DAY: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn i10_two_rotations_at_once_leave_what_one_would_and_so_do_two_that_are_killed() {
    let runs = std::env::var("HK_AWS_ROTATIONS").map_or(4, |runs| runs.parse().unwrap());
    for run in 0..runs {
        let mut place = Place::new(Chance(run + 1)).await;
        place.come();
        place.slow_down();
        // Every other run begins with some that are killed.
        for _ in 0..(run % 2) * 4 {
            place.rotate_and_kill().await;
            place.check_nothing_is_lost(run);
        }
        place.rotate_together().await;
        place.s3().clear_faults();
        place.check_nothing_is_lost(run);
        for host in 0..2 {
            let ended = rotate::job(Box::pin(place.context(host)).await, CancellationToken::new()).await;
            assert_eq!(ended.end, RunEnd::Done, "run {run}: {ended:?}");
        }
        place.check_the_end(run);
    }
}

/// Two boxes, and what was stored in the bucket of the first.
struct Place {
    hosts: [Site; 2],
    chance: Chance,
    captures: BTreeSet<Capture>,
}

impl Place {
    async fn new(mut chance: Chance) -> Self {
        let first = Site::new(Settings { rest: "rotate: {cameras: all}", ..Settings::default() }).await;
        let zstd = "rotate: {cameras: all, archive: {format: tar.zst}}";
        let rest = if chance.below(2) == 0 { zstd } else { "rotate: {cameras: all}" };
        let mut second = Site::new(Settings { rest, ..Settings::default() }).await;
        second.endpoint = Some(first.s3.endpoint());
        Self { hosts: [first, second], chance, captures: BTreeSet::new() }
    }

    fn s3(&self) -> &MemoryS3 {
        &self.hosts[0].s3
    }

    async fn context(&self, host: usize) -> Arc<site::Site> {
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test");
        let config = self.hosts[host].config();
        Arc::new(site::Site::new(config.into(), Some(credentials), Pace::new(daemon::now), daemon::now).await)
    }

    /// Lets the captures of all days come; of some the one box has a copy, of some the other.
    fn come(&mut self) {
        for day in 0..DAYS {
            for number in 0..A_DAY {
                let (key, bytes) = self.store(day, number);
                for host in &self.hosts {
                    if self.chance.below(2) == 0 {
                        let path = host.path("state/kept").join(&key);
                        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                        std::fs::write(path, &bytes).unwrap();
                    }
                }
            }
        }
    }

    fn store(&mut self, day: u64, number: u64) -> (String, Vec<u8>) {
        let date = ago(40 + day);
        let name = format!("192.168.1.64_01_{}12{number:04}000_MOTION_DETECTION.jpg", date.format("%Y%m%d"));
        let (key, bytes) = (format!("CAM/{date}/{name}"), bytes(day * 1000 + number, 500));
        self.captures.insert((key.clone(), sha256(&bytes)));
        self.s3().insert(&key, bytes.clone());
        (key, bytes)
    }

    /// Lets each kind of request take its time.
    fn slow_down(&mut self) {
        for operation in ["ListObjectsV2", "PutObject", "GetObject", "HeadObject", "DeleteObjects"] {
            let delay = Duration::from_millis(self.chance.below(20));
            self.s3().fault(Fault::delay(operation, delay));
        }
    }

    async fn start(&self) -> [JoinHandle<Ended>; 2] {
        let contexts = [Box::pin(self.context(0)).await, Box::pin(self.context(1)).await];
        contexts.map(|context| tokio::spawn(rotate::job(context, CancellationToken::new())))
    }

    /// Waits until so many more requests came, or both rotations have ended.
    async fn wait(&self, before: usize, requests: u64, rotations: &[JoinHandle<Ended>; 2]) {
        let until = before + usize::try_from(requests).unwrap();
        let reached = || {
            let ended = rotations.iter().all(JoinHandle::is_finished);
            (ended || self.s3().look(|state| state.requests().len() >= until)).then_some(())
        };
        self.hosts[0].wait("requests", reached).await;
    }

    async fn rotate_and_kill(&mut self) {
        let before = self.s3().look(|state| state.requests().len());
        let rotations = self.start().await;
        let requests = self.chance.below(200);
        self.wait(before, requests, &rotations).await;
        // Sometimes only one of them dies, and the other goes on.
        let survivor = self.chance.below(3);
        for (host, rotation) in (0..).zip(rotations) {
            if survivor != host {
                rotation.abort();
            }
            // An error is the abort.
            let _ended = rotation.await;
        }
    }

    /// Lets both rotate to the end, while some late captures come.
    async fn rotate_together(&mut self) {
        let before = self.s3().look(|state| state.requests().len());
        let rotations = self.start().await;
        for late in 0..4 {
            let requests = self.chance.below(60) + late * 40;
            self.wait(before, requests, &rotations).await;
            let day = self.chance.below(DAYS);
            self.store(day, A_DAY + late);
        }
        for rotation in rotations {
            let ended = rotation.await.unwrap();
            assert_eq!(ended.end, RunEnd::Done, "{ended:?}");
        }
    }

    /// The captures in bundles, those that lie loose, and the bundles or indexes that have no other half.
    fn holdings(&self) -> (Vec<Capture>, BTreeSet<Capture>, Vec<String>) {
        let objects = self.s3().look(|state| state.objects().clone());
        let (mut archived, mut loose, mut halves) = (Vec::new(), BTreeSet::new(), BTreeMap::<String, u32>::new());
        for (key, object) in &objects {
            if let Some(stem) = key.strip_suffix(".index.json") {
                *halves.entry(stem.to_owned()).or_default() += 1;
                let index: Index = serde_json::from_slice(object.bytes.as_deref().unwrap()).unwrap();
                let bundle = objects.get(&index.bundle.key);
                archived.extend(bundle.map(|b| members_of(&index, b.bytes.as_deref().unwrap())).unwrap_or_default());
            } else if let Some((stem, _)) = key.split_once(".tar") {
                *halves.entry(stem.to_owned()).or_default() += 1;
            } else if key.starts_with("CAM/") {
                loose.insert((key.clone(), object.sha256.clone()));
            }
        }
        let halves = halves.into_iter().filter(|(_, count)| *count != 2).map(|(stem, _)| stem).collect();
        (archived, loose, halves)
    }

    fn check_nothing_is_lost(&self, run: u64) {
        let (archived, loose, _) = self.holdings();
        let there: BTreeSet<&Capture> = archived.iter().chain(&loose).collect();
        let lost: Vec<_> = self.captures.iter().filter(|capture| !there.contains(capture)).collect();
        assert!(lost.is_empty(), "run {run}: {lost:?}\n{:?}", self.s3().keys());
    }

    fn check_the_end(&self, run: u64) {
        let (mut archived, loose, halves) = self.holdings();
        assert!(halves.is_empty(), "run {run}: a bundle or an index alone: {halves:?}");
        assert!(loose.is_empty(), "run {run}: {loose:?}");
        archived.sort();
        assert!(archived.iter().eq(&self.captures), "run {run}: not each once: {archived:?}");
    }
}

fn ago(days: u64) -> NaiveDate {
    Utc::now().date_naive() - Days::new(days)
}
