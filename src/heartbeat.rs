//! The heartbeat: an object, and a ping, that others watch. Who cuts the line or takes the box ends it, and that raises
//! the alarm, because the box cannot.
//!
//! It tells how the box is, but that is not what it is for: it comes only while the loop is alive, so that a daemon that
//! hangs is as silent as one that is gone. A heartbeat that fails is not sent again: the next one is due soon, and the
//! alarm waits for several.
//!
//! One object that is overwritten was rejected: the bucket's policy lets the box overwrite nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, FixedOffset, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bucket::{About, Content, Patience, Precedence, Put, Reader, Source, When};
use crate::config::{HeartbeatSettings, SecretUrl};
use crate::health::Board;
use crate::key::{self, ObjectKey};
use crate::message;
use crate::persist::{self, Purpose};
use crate::post::{Address, Letter, Reply, Sender, Undelivered};
use crate::site::{Site, SiteInForce};
use crate::status::{Condition, ConditionKind, DaemonState, Snapshot, Trouble};

/// The name of the file in the state folder that holds the sequence number.
pub const FILE: &str = "heartbeat.json";

/// The longest file that is read.
const LONGEST_FILE_BYTES: u64 = 1024;

/// How long the bucket may take for a heartbeat.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The loop tells how it is every second. If it has said nothing for this long, it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(30);

/// What a heartbeat says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The name of the box.
    #[serde(rename = "box")]
    pub host: String,
    /// Counts the heartbeats of a box; `None` for a trial.
    pub sequence: Option<u64>,
    /// When it was made.
    pub at: DateTime<Utc>,
    /// The seconds until the next one.
    pub every_seconds: u64,
    /// The program's version.
    pub version: String,
    /// When the daemon started; this and what follows is `None` or empty if no daemon has said so.
    pub started_at: Option<DateTime<Utc>>,
    /// The state of the daemon.
    pub state: Option<DaemonState>,
    /// How many seconds the box's clock is behind the store's, negative if it is ahead, once the store has said.
    pub clock_behind_seconds: Option<i64>,
    /// How many files wait in the drop folder.
    pub waiting: Option<u64>,
    /// Their bytes.
    pub waiting_bytes: Option<u64>,
    /// The age of the oldest capture that is only on this box, in seconds; 0 if there is none.
    pub exposure_seconds: Option<i64>,
    /// The last capture of each camera, also from before the daemon started.
    pub cameras: BTreeMap<String, LastCapture>,
    /// What is wrong, if anything is.
    pub trouble: Option<Trouble>,
}

/// The last capture of a camera.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCapture {
    /// When it was taken.
    pub taken_at: DateTime<FixedOffset>,
    /// When it was stored.
    pub stored_at: DateTime<Utc>,
}

impl Heartbeat {
    /// Returns what there is to say now; `snapshot` is what the daemon said last.
    pub fn new(settings: &HeartbeatSettings, snapshot: Option<&Snapshot>, at: DateTime<Utc>) -> Self {
        let exposure = |snapshot: &Snapshot| {
            let oldest = snapshot.oldest_only_here.as_ref();
            oldest.map_or(TimeDelta::zero(), |oldest| at - oldest.since).num_seconds().max(0)
        };
        let last = |(name, camera): (&String, &crate::status::CameraStatus)| {
            let last = LastCapture { taken_at: camera.last_taken_at, stored_at: camera.last_stored_at };
            (name.clone(), last)
        };
        Self {
            host: host(Some(settings)),
            sequence: None,
            at,
            every_seconds: settings.every.as_secs(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: snapshot.map(|snapshot| snapshot.started_at),
            state: snapshot.map(|snapshot| snapshot.state),
            clock_behind_seconds: snapshot.and_then(|snapshot| snapshot.clock_behind_seconds),
            waiting: snapshot.map(|snapshot| snapshot.waiting.files()),
            waiting_bytes: snapshot.map(|snapshot| snapshot.waiting.bytes),
            exposure_seconds: snapshot.map(exposure),
            cameras: snapshot.map(|snapshot| snapshot.cameras.iter().map(last).collect()).unwrap_or_default(),
            trouble: snapshot.and_then(|snapshot| snapshot.trouble.clone()),
        }
    }

    /// Puts it into the bucket, and returns its key. If another heartbeat has its second, it takes the next one.
    ///
    /// # Errors
    /// Says why it is not there.
    pub async fn put(&mut self, site: &Site) -> Result<ObjectKey, String> {
        for _ in 0..2 {
            let key = key::heartbeat_key(&site.config.s3.prefix, &self.host, self.at);
            let bytes = Bytes::from(serde_json::to_vec_pretty(self).map_err(|error| error.to_string())?);
            let source = Source {
                size: bytes.len() as u64,
                sha256: Sha256::digest(&bytes).into(),
                content: Content::Stream(Arc::new(move || Ok(Box::new(std::io::Cursor::new(bytes.clone())) as Reader))),
                // It is small, and must not wait behind clips.
                precedence: Precedence::Capture(self.at.into()),
            };
            let about = About {
                content_type: "application/json".to_owned(),
                metadata: vec![("sha256", hex::encode(source.sha256))],
                // Other classes bill small objects as large ones.
                class: Some("STANDARD".to_owned()),
                ..About::default()
            };
            let when = When { now: (site.clock)().wall, patience: Patience::Probe };
            let put = tokio::time::timeout(TIMEOUT, site.bucket.put_new(&key, &source, &about, when)).await;
            match put {
                Ok(Ok(Put::Stored | Put::AlreadyThere)) => return Ok(key),
                Ok(Ok(Put::Conflict | Put::Unseen)) => self.at += TimeDelta::seconds(1),
                Ok(Err(refusal)) => return Err(refusal.to_string()),
                Err(_) => return Err(format!("the bucket does not answer within {} s", TIMEOUT.as_secs())),
            }
        }
        Err("other heartbeats have its keys: does another box have this name (heartbeat.name)?".to_owned())
    }

    /// Calls the URL of a service that expects it; `failed` says why the heartbeat is not in the bucket.
    ///
    /// # Errors
    /// [`Undelivered`], or what is wrong with the URL.
    pub async fn ping(&self, url: &SecretUrl, failed: Option<&str>) -> Result<Reply, String> {
        let (address, letter) = self.as_ping(&Address::new(url)?, failed);
        Sender::default().send(&address, letter).await.map_err(|error: Undelivered| error.to_string())
    }

    /// Returns the ping: as Uptime Kuma's push monitors want it if the URL is one of those, otherwise as healthchecks.io
    /// does, with `/fail` after the path if something is wrong, and the heartbeat as the body.
    fn as_ping(&self, address: &Address, failed: Option<&str>) -> (Address, Letter) {
        let wrong = failed.or(self.trouble.as_ref().map(|trouble| trouble.reason.as_str()));
        let (path, query) = address.path().split_once('?').unwrap_or((address.path(), ""));
        if path.contains("/api/push/") {
            let said: String = wrong.unwrap_or("OK").chars().take(200).collect();
            let said = percent_encoding::utf8_percent_encode(&said, percent_encoding::NON_ALPHANUMERIC);
            let status = if wrong.is_some() { "down" } else { "up" };
            return (address.at(&format!("{path}?status={status}&msg={said}")), Letter::get());
        }
        let fail = if wrong.is_some() { "/fail" } else { "" };
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        let body = serde_json::to_value(self).unwrap_or_default();
        (address.at(&format!("{}{fail}{query}", path.trim_end_matches('/'))), Letter::json(&body))
    }
}

/// Returns the name of this box: the one of the configuration, otherwise that of the host.
pub fn host(settings: Option<&HeartbeatSettings>) -> String {
    let system = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    settings.and_then(|settings| settings.name.clone()).unwrap_or_else(system)
}

/// What the file holds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Count {
    sequence: u64,
}

/// Returns the next sequence number and notes it down, so that no number comes twice. A file that cannot be read or written
/// costs only that.
fn next_sequence(state_dir: &Path, last: u64) -> u64 {
    let path = state_dir.join(FILE);
    let noted = persist::read::<Count>(&path, LONGEST_FILE_BYTES).map_or(0, |count| count.sequence);
    let sequence = noted.max(last) + 1;
    if let Err(error) = persist::write(&path, &Count { sequence }, Purpose::NextStart) {
        tracing::debug!("failed to write {}: {error}", path.display());
    }
    sequence
}

/// The task that sends heartbeats.
#[derive(Debug)]
pub struct Heart {
    /// The site in force.
    pub sites: watch::Receiver<SiteInForce>,
    /// How the daemon is.
    pub told: watch::Receiver<Arc<Snapshot>>,
    /// Where it is said that heartbeats fail.
    pub board: Board,
    /// When to end.
    pub stop: CancellationToken,
}

impl Heart {
    /// Sends a heartbeat at once and then regularly, as long as the configuration in force asks for it.
    pub async fn run(mut self) {
        let (mut last, mut sequence) = (None::<Instant>, 0);
        loop {
            let site = Arc::clone(&self.sites.borrow_and_update().site);
            let due = site.config.heartbeat.clone().map(|settings| {
                let at = last.map_or_else(steady, |last| last + settings.every);
                (settings, at)
            });
            let wait = async {
                match &due {
                    Some((_, at)) => tokio::time::sleep_until(*at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                changed = self.sites.changed() => if changed.is_err() { return } else { continue },
                () = wait => {}
            }
            let Some((settings, _)) = due else { continue };
            last = Some(steady());
            let Some(snapshot) = self.living().await else {
                tracing::error!(
                    message_id = message::LOOP_HANGS,
                    "no heartbeat is sent: the loop of the daemon hangs; restart hk-aws"
                );
                continue;
            };
            let mut beat = Heartbeat::new(&settings, Some(&snapshot), (site.clock)().wall.into());
            sequence = next_sequence(&site.config.state_dir, sequence);
            beat.sequence = Some(sequence);
            let put = beat.put(&site).await;
            let pinged = match &settings.url {
                Some(url) => beat.ping(url, put.as_ref().err().map(String::as_str)).await.map(drop),
                None => Ok(()),
            };
            // While the bucket stores nothing, that is told already.
            let put = put.map(drop).or_else(|why| if snapshot.link_down { Ok(()) } else { Err(why) });
            self.say(&beat, put, pinged);
        }
    }

    /// Says once that heartbeats fail, and once that they arrive again.
    fn say(&self, beat: &Heartbeat, put: Result<(), String>, pinged: Result<(), String>) {
        let (what, why) = match (put, pinged) {
            (Ok(()), Ok(())) => {
                if self.board.clear(ConditionKind::HeartbeatFails, None) {
                    tracing::info!("heartbeats arrive again");
                }
                return;
            }
            (Err(why), _) => ("heartbeats do not arrive in the bucket", why),
            (Ok(()), Err(why)) => ("heartbeats do not arrive at heartbeat.url", why),
        };
        let is_new = !self.board.raised().iter().any(|raised| raised.kind == ConditionKind::HeartbeatFails);
        if is_new {
            tracing::warn!(message_id = message::HEARTBEAT_FAILS, "{what}: {why}");
        } else {
            tracing::debug!("{what}: {why}");
        }
        let advice = "try it with `hk-aws heartbeat --test`";
        self.board.raise(Condition::new(ConditionKind::HeartbeatFails, beat.at, what, advice).with_detail(why));
    }

    /// Returns how the daemon is once its loop has said so again; `None` if it says nothing for a while.
    async fn living(&mut self) -> Option<Arc<Snapshot>> {
        let last = self.told.borrow().at;
        let told = tokio::time::timeout(HANGS_AFTER, self.told.wait_for(|told| told.at != last)).await;
        told.ok()?.ok().map(|told| Arc::clone(&told))
    }
}

/// Returns the time by which tokio waits.
#[expect(clippy::disallowed_methods, reason = "waits go by tokio's clock, which tests hold")]
fn steady() -> Instant {
    Instant::now()
}
