//! The stolen box, for real: its process is killed or its line is cut, and the alarm that is not on it rings by what a real
//! store holds then.
//!
//! `HK_AWS_STOLEN` is how many boxes are taken; many stand side by side.

use std::fs;

use chrono::{DateTime, Utc};
use tempfile::TempDir;

use crate::alarm::{Alarm, times};
use crate::daemon::{BINARY, Daemon, SOON, wait_for};
use crate::proxy::Proxy;
use crate::store::{ACCESS_KEY, BUCKET, Kind, REGION, SECRET_KEY, Store};

/// The alarm of the template, for a heartbeat every two seconds.
const ALARM: Alarm = Alarm { period_seconds: 2, periods: 3 };

/// How many boxes stand side by side.
const TOGETHER: usize = 10;

/// How late the test may look on a loaded machine.
const SLACK_SECONDS: i64 = 3;

/// What the thief does.
#[derive(Debug, Clone, Copy)]
enum Theft {
    Kill,
    Cut,
    Both,
}

struct Box {
    name: String,
    daemon: Option<Daemon>,
    /// Its line to the store.
    line: Option<Proxy>,
    _folder: TempDir,
}

impl Box {
    fn start(name: String, store: &Store) -> Self {
        let folder = TempDir::with_prefix("hk-aws-stolen-").unwrap();
        let line = Proxy::start(&store.endpoint());
        fs::create_dir(folder.path().join("drop")).unwrap();
        let config = format!(
            "drop_folder: {{path: {place}/drop}}\nstate_dir: {place}/state\nruntime_dir: {place}/run\ntimezone: UTC\n\
             s3: {{bucket: {BUCKET}, region: {REGION}, endpoint_url: '{endpoint}', path_style: true}}\n\
             keep: {{min_free: 0}}\nlog: {{target: stderr}}\nheartbeat: {{every: {every}s, name: {name}}}\n",
            place = folder.path().display(),
            endpoint = line.endpoint(),
            every = ALARM.period_seconds,
        );
        let file = folder.path().join("config.yaml");
        fs::write(&file, config).unwrap();
        let mut command = Daemon::command(BINARY);
        command.arg("--config").arg(file).arg("run");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        let daemon = Daemon::start(command, folder.path());
        Self { name, daemon: Some(daemon), line: Some(line), _folder: folder }
    }

    fn take(&mut self, how: Theft) {
        if matches!(how, Theft::Kill | Theft::Both) {
            // Dropped, it is killed with SIGKILL.
            self.daemon = None;
        }
        if matches!(how, Theft::Cut | Theft::Both) {
            self.line = None;
        }
    }

    /// When its heartbeats were made that the store has.
    fn heartbeats(&self, keys: &[String]) -> Vec<DateTime<Utc>> {
        let own = format!("heartbeat/{}/", self.name);
        times(keys.iter().filter(|key| key.starts_with(&own)))
    }
}

/// Lets boxes live for a while, takes them, and returns for how many seconds each was silent until the alarm rang.
fn take_all(store: &Store, boxes: &mut [Box]) -> Vec<i64> {
    wait_for("four heartbeats of each", SOON, || {
        let keys = store.keys();
        boxes.iter().all(|one| one.heartbeats(&keys).len() >= 4).then_some(())
    });
    let keys = store.keys();
    for one in boxes.iter() {
        assert!(!ALARM.rings(&one.heartbeats(&keys), Utc::now()), "{}: a false alarm", one.name);
    }
    for (one, how) in boxes.iter_mut().zip([Theft::Kill, Theft::Cut, Theft::Both].into_iter().cycle()) {
        one.take(how);
    }
    let mut silent = vec![None; boxes.len()];
    wait_for("all alarms", SOON, || {
        let (now, keys) = (Utc::now(), store.keys());
        for (one, silent) in boxes.iter().zip(&mut silent).filter(|(_, silent)| silent.is_none()) {
            let heartbeats = one.heartbeats(&keys);
            let since = (now - *heartbeats.iter().max().unwrap()).num_seconds();
            if ALARM.rings(&heartbeats, now) {
                *silent = Some(since);
            }
            assert!(since <= ALARM.latest_seconds() + SLACK_SECONDS, "{}: nobody noticed for {since} s", one.name);
        }
        silent.iter().copied().collect()
    })
}

#[test]
fn i11_a_box_that_is_killed_or_cut_off_is_told_of_within_three_periods_every_time() {
    let asked = std::env::var("HK_AWS_STOLEN").map(|boxes| boxes.parse().unwrap());
    let boxes: usize = asked.unwrap_or(6);
    // Half of them at each store.
    for kind in [Kind::SeaweedFs, Kind::Moto] {
        let store = Store::start(kind);
        let mut silent: Vec<i64> = Vec::new();
        while silent.len() < boxes.div_ceil(2) {
            let number = TOGETHER.min(boxes.div_ceil(2) - silent.len());
            let first = silent.len();
            let mut here: Vec<Box> =
                (first..first + number).map(|of| Box::start(format!("box-{of}"), &store)).collect();
            silent.extend(take_all(&store, &mut here));
        }
        let longest = silent.iter().max().unwrap();
        eprintln!(
            "{kind:?}: {} boxes taken, {} alarms, the latest after {longest} s of silence",
            silent.len(),
            silent.len()
        );
    }
}
