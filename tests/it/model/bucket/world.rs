//! Two boxes, their bucket, and what the model knows of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_s3::Client;
use chrono::{DateTime, Days, NaiveDate, Utc};
use futures_util::future::join_all;
use hk_aws::ingest::{PassEvent, PassMode, pass};
use hk_aws::recover::{LeftHidden, RecoverError, RecoverMode, RecoverOrder, Recovered, Window, recover};
use hk_aws::verify::{Finding, Options, days, verify_day};
use hk_aws::{rotate, site};
use tokio_util::sync::CancellationToken;

use super::operation::{CAMERAS, Content, Effect, FOREIGN, Host, Kind, Operation};
use crate::support::clock::{Clock, context};
use crate::support::s3::{ACCESS_KEY, Fault, MemoryS3, OWNERS_ACCESS_KEY, SECRET_KEY};
use crate::support::site::{DEADLINE, Settings, Site, bytes, sha256};

/// Noon of 1 March 2026, in seconds since 1970.
const BEGIN: i64 = 1_772_366_400;

/// For how long the bucket of the template keeps what was deleted: the default of `s3.undo`.
const UNDO: Duration = Duration::from_hours(30 * 24);

/// The first box names its cameras; the second one finds its own in its ledger and its drop folder.
const SETTINGS: [Settings; 2] = [
    Settings {
        drop: "settle: 0s",
        s3: "",
        rest: "cameras: [{name: CAM-A}, {name: CAM-BOTH}]\nrotate: {archive: {after: 7d}}",
    },
    Settings { drop: "settle: 0s", s3: "", rest: "rotate: {archive: {after: 9d, format: tar.zst}}" },
];

/// A file that a camera sent: the box and the path below its drop folder, and the bytes.
#[derive(Clone)]
struct Sent {
    host: Host,
    path: String,
    bytes: Vec<u8>,
}

pub(super) struct World {
    pub(super) hosts: [Site; 2],
    clock: Clock,
    pub(super) kind: Kind,
    pub(super) has_thief: bool,
    sent: Vec<Sent>,
    /// The SHA-256 of every capture whose box heard that it is stored.
    pub(super) confirmed: BTreeSet<String>,
    /// Those of them that can be read now.
    pub(super) there: BTreeSet<String>,
    /// What really is in the bundles that were looked at, by the hashes of index and bundle.
    pub(super) seen: HashMap<[String; 2], Vec<String>>,
    pub(super) next: u64,
}

impl World {
    pub(super) async fn new(kind: Kind, clock: Clock) -> Self {
        let first = Site::with(MemoryS3::start("evidence").await, SETTINGS[0]);
        let mut second = Site::with(MemoryS3::start("evidence").await, SETTINGS[1]);
        second.endpoint = Some(first.s3.endpoint());
        match kind {
            Kind::Plain => {}
            Kind::Template => first.s3.deny_overwriting(),
            Kind::WithoutClasses => first.s3.ignore_classes(),
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let world = Self {
            hosts: [first, second],
            clock,
            kind,
            has_thief: false,
            sent: Vec::new(),
            confirmed: BTreeSet::new(),
            there: BTreeSet::new(),
            seen: HashMap::new(),
            next: 0,
        };
        world.step(BEGIN - i64::try_from(now).unwrap());
        world
    }

    pub(super) fn s3(&self) -> &MemoryS3 {
        &self.hosts[0].s3
    }

    pub(super) async fn context(&self, host: Host) -> Arc<site::Site> {
        context(self.hosts[host].config(), ACCESS_KEY).await
    }

    pub(super) fn owner(&self) -> Client {
        self.s3().client_signing_with(OWNERS_ACCESS_KEY, SECRET_KEY)
    }

    /// From now on the bucket is that of the template, and somebody has the box's keys.
    pub(super) fn hand_the_keys_over(&mut self) {
        self.has_thief = true;
        self.s3().deny_overwriting();
    }

    /// Sets all clocks forward.
    fn step(&self, seconds: i64) {
        self.clock.step(seconds);
        let unix = |time: SystemTime| i64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let ahead = unix(self.clock.wall()) - unix(SystemTime::now());
        self.s3().date_stored_ahead(ahead);
        self.s3().date_answers_ahead(ahead);
    }

    pub(super) fn pass(&self, days: u64) {
        self.step(i64::try_from(days * 86_400).unwrap());
        self.s3().expire_older(UNDO);
    }

    fn today(&self) -> NaiveDate {
        DateTime::<Utc>::from(self.clock.wall()).date_naive()
    }

    pub(super) async fn carry_out(&mut self, operation: &Operation) {
        match operation {
            Operation::Capture { host, camera, ago, content } => {
                self.send(*host, CAMERAS[*host][*camera], *ago, *content);
                self.store(*host).await;
            }
            Operation::Pass { days } => self.pass(*days),
            Operation::Rotate(rotations) => self.rotate(rotations).await,
            Operation::Repair(host) => drop(self.verify(*host, true).await),
            Operation::Forget(host) => self.forget(*host),
            Operation::Foreign(at, is_there) => self.foreign(FOREIGN[*at], *is_there).await,
            Operation::Fault { effect, asked, after, times } => {
                self.s3().fault(fault(*effect, asked, *after).times(*times));
            }
            Operation::ClearFaults => self.s3().clear_faults(),
            // It may be that a fault ends it.
            Operation::Recover { all } => drop(self.recover(*all).await),
            Operation::Delete(at) => self.steal(*at).await,
            Operation::Put(at, junk) => self.put_junk(*at, *junk).await,
            Operation::Forge(day, lie) => self.forge(*day, *lie).await,
        }
    }

    /// Lets a camera write a file into the drop folder of a box.
    fn send(&mut self, host: Host, camera: &str, ago: u64, content: Content) {
        self.next += 1;
        let mut body = bytes(self.next, 100);
        // Without 0xFF, which begins the marks of a picture.
        for byte in &mut body {
            *byte &= 0x7F;
        }
        let picture = [b"\xFF\xD8\xFF\xDA\x00\x02", body.as_slice(), b"\xFF\xD9"].concat();
        let date = (self.today() - Days::new(ago)).format("%Y%m%d");
        let path = format!("{camera}/192.168.1.64_01_{date}12{:07}_MOTION_DETECTION.jpg", self.next * 1000 % 3_600_000);
        let earlier = |at: usize| at.checked_rem(self.sent.len()).map(|at| self.sent[at].clone());
        let sent = match content {
            Content::New => None,
            Content::Again(at) => earlier(at),
            Content::Other(at) => earlier(at).map(|sent| Sent { bytes: picture.clone(), ..sent }),
        };
        let sent = sent.unwrap_or(Sent { host, path, bytes: picture });
        // Both boxes may get what their common camera sends.
        let host = if sent.path.starts_with(CAMERAS[host][1]) { host } else { sent.host };
        self.hosts[host].write(&sent.path, &sent.bytes);
        self.sent.push(Sent { host, ..sent });
    }

    /// Stores what is in the drop folders.
    pub(super) async fn store(&mut self, host: Host) {
        let (site, mut stored) = (self.context(host).await, Vec::new());
        let told = |event| {
            if let PassEvent::Done { path, outcome: Ok(_) } = event {
                stored.push(path.to_str().unwrap().to_owned());
            }
            ControlFlow::Continue(())
        };
        pass(&site, Vec::new(), PassMode::Upload, told).await.unwrap();
        for path in stored {
            let sent = self.sent.iter().rfind(|sent| sent.host == host && sent.path == path).unwrap();
            self.confirmed.insert(sha256(&sent.bytes));
        }
    }

    pub(super) async fn rotate(&self, rotations: &[(Host, Option<usize>)]) {
        let before = self.s3().look(|state| state.requests().len());
        let rotating = rotations.iter().map(async |(host, killed)| {
            let rotation = rotate::job(self.context(*host).await, CancellationToken::new());
            let Some(requests) = killed else {
                rotation.await;
                return;
            };
            tokio::select! {
                _ = rotation => {}
                () = self.s3().wait_for(|state| state.requests().len() >= before + requests, DEADLINE) => {}
            }
        });
        join_all(rotating.map(Box::pin)).await;
    }

    /// Lets a box verify its cameras; returns what is wrong.
    pub(super) async fn verify(
        &self,
        host: Host,
        repair: bool,
    ) -> Result<Vec<Finding>, hk_aws::holdings::HoldingsError> {
        let (site, mut wrong) = (self.context(host).await, Vec::new());
        let options = Options { rebuild: repair, resend: repair, ..Options::default() };
        for camera in CAMERAS[host] {
            for (date, archive) in days(&site, camera).await? {
                let verified = verify_day(&site, camera, date, Some(archive), options).await?;
                wrong.extend(verified.findings.into_iter().filter(|finding| finding.failure));
            }
        }
        Ok(wrong)
    }

    fn forget(&self, host: Host) {
        for folder in ["state/kept", "state/ledger"].into_iter().take(2 - host) {
            let _absent = fs::remove_dir_all(self.hosts[host].path(folder));
        }
    }

    async fn foreign(&mut self, key: &str, is_there: bool) {
        let (client, body) = (self.owner(), self.next.to_string());
        self.next += 1;
        // A fault may be in the way.
        if is_there {
            let _put = client.put_object().bucket("evidence").key(key).body(body.into_bytes().into()).send().await;
        } else {
            let _deleted = client.delete_object().bucket("evidence").key(key).send().await;
        }
    }

    pub(super) async fn recover(&self, all: bool) -> Result<(Vec<Recovered>, LeftHidden), RecoverError> {
        let mut told = Vec::new();
        let owner = context(self.hosts[0].config(), OWNERS_ACCESS_KEY).await;
        let order = RecoverOrder { camera: None, window: Window::default(), all, mode: RecoverMode::Recover };
        let recovering = recover(&owner, order, |recovered| {
            told.push(recovered);
            ControlFlow::Continue(())
        });
        let left = Box::pin(recovering).await?;
        Ok((told, left))
    }

    /// The objects of another program.
    pub(super) fn foreign_objects(&self) -> BTreeMap<&'static str, String> {
        let sha256 = |key: &&'static str| Some((*key, self.s3().object(key)?.sha256));
        FOREIGN.iter().filter_map(sha256).collect()
    }
}

fn fault(effect: Effect, asked: &'static str, after: usize) -> Fault {
    let fault = match effect {
        Effect::Unavailable => Fault::fail(asked, 503, "SlowDown"),
        Effect::Denied => Fault::fail(asked, 403, "AccessDenied"),
        Effect::LoseReply => Fault::lose_reply(asked),
        Effect::Reset => Fault::reset(asked),
        Effect::Delay => Fault::delay(asked, Duration::from_millis(5)),
    };
    let passes = AtomicUsize::new(after);
    fault.on_key(move |_| passes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err())
}
