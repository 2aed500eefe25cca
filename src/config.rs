//! The configuration: what is written in the file, checked, with every default filled in.
//!
//! A value that reached [`Config`] is right: nothing after this module looks at a setting with suspicion. Everything that is wrong with a
//! file is said at once, each with its line and how to mend it, because an operator on a ladder does not want to find seven mistakes in
//! seven restarts.

mod check;
mod file;
mod notation;
mod pattern;
mod problem;
mod section;
mod settings;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::key::{ArchiveFormat, Template};

pub use pattern::{CapturePattern, FolderGlob, Ignore};
pub use problem::{Problem, Problems};

/// Every setting of the daemon.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// The file that was read.
    #[serde(skip)]
    pub source: PathBuf,
    /// Where the cameras' files arrive.
    pub drop_folder: DropFolderSettings,
    /// Cameras with settings of their own; the first whose glob matches a file wins.
    pub cameras: Vec<CameraSettings>,
    /// The zone of every camera that has none of its own.
    #[serde(serialize_with = "serialize_zone")]
    pub timezone: chrono_tz::Tz,
    /// How far a name's time may lie before the file's arrival and be believed; `None`: however far.
    #[serde(serialize_with = "notation::serialize_optional_duration")]
    pub max_clock_skew: Option<Duration>,
    /// The bucket and how objects are stored in it.
    pub s3: S3Settings,
    /// How much is sent at once.
    pub upload: UploadSettings,
    /// Local copies after upload.
    pub keep: KeepSettings,
    /// What becomes of old captures in the bucket.
    pub rotate: RotateSettings,
    /// Who is told of a change of state.
    pub alerts: AlertsSettings,
    /// An object that proves from outside that the box lives; `None`: none is written.
    pub heartbeat: Option<HeartbeatSettings>,
    /// Figures for Prometheus.
    pub metrics: MetricsSettings,
    /// The journal.
    pub log: LogSettings,
    /// Where local copies, the ledger, what was set aside and the schedule lie.
    pub state_dir: PathBuf,
    /// Where the status and the lock lie.
    pub runtime_dir: PathBuf,
}

/// Where the cameras' files arrive, and when one is whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DropFolderSettings {
    /// The folder the FTP server writes into.
    pub path: PathBuf,
    /// The time between two full looks, whatever inotify says.
    #[serde(serialize_with = "notation::serialize_duration")]
    pub rescan: Duration,
    /// A file nobody was seen closing is complete after this long unchanged.
    #[serde(serialize_with = "notation::serialize_duration")]
    pub settle: Duration,
    /// How long a cut-off file waits for the camera to resume or resend it.
    #[serde(serialize_with = "notation::serialize_duration")]
    pub partial_after: Duration,
    /// What is left lying.
    pub ignore: Ignore,
}

/// One camera's own settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CameraSettings {
    /// The camera's name in the bucket: one component of a key.
    pub name: String,
    /// Which files below the drop folder are this camera's.
    #[serde(rename = "match")]
    pub matches: FolderGlob,
    /// Whose naming the files follow: one of [`VENDORS`].
    pub vendor: String,
    /// The camera's clock; `None`: [`Config::timezone`].
    #[serde(serialize_with = "serialize_optional_zone")]
    pub timezone: Option<chrono_tz::Tz>,
    /// The operator's own reading of the names, before the vendor's.
    pub pattern: Option<CapturePattern>,
    /// An alert is due when nothing came for so long.
    #[serde(serialize_with = "notation::serialize_duration")]
    pub silent_after: Duration,
}

/// What `vendor` may be: `auto` finds out, the others read names as that vendor's cameras write them.
pub const VENDORS: [&str; 14] = [
    "auto",
    "hikvision",
    "dahua",
    "reolink",
    "amcrest",
    "foscam",
    "xiongmai",
    "hi35xx",
    "yi",
    "tvt",
    "axis",
    "vivotek",
    "acti",
    "mobotix",
];

/// The storage classes that `storage_class` and `class` may name in AWS's own buckets (S3 API Reference, `PutObject`,
/// `x-amz-storage-class`), except those of Outposts and of directory buckets.
pub const STORAGE_CLASSES: [&str; 8] = [
    "STANDARD",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER_IR",
    "GLACIER",
    "DEEP_ARCHIVE",
    "REDUCED_REDUNDANCY",
];

/// The bucket, how it is reached, and how objects are stored in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct S3Settings {
    /// The bucket's name.
    pub bucket: String,
    /// The region; `None`: the standard AWS chain (environment, profile, instance).
    pub region: Option<String>,
    /// A profile in the AWS files; `None`: the standard AWS chain.
    pub profile: Option<String>,
    /// Another store that speaks S3; `None`: AWS.
    pub endpoint_url: Option<String>,
    /// Whether the bucket stands in the path of a URL instead of the host.
    pub path_style: bool,
    /// What every key starts with: empty, or ending in exactly one `/`.
    pub prefix: String,
    /// The shape of keys after the prefix.
    #[serde(serialize_with = "serialize_displayed")]
    pub key: Template,
    /// The storage class of new objects.
    pub storage_class: String,
    /// What the box may do in the bucket.
    pub access: Access,
    /// When a request carries a checksum.
    pub checksum: Checksum,
    /// Whether objects are tagged with camera and event.
    pub tags: bool,
    /// The lock each new object gets; `None`: whatever the bucket's default is.
    pub object_lock: Option<ObjectLock>,
    /// Server-side encryption to ask for; `None`: the bucket's default.
    pub sse: Option<Sse>,
}

/// What the box may do in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Put, read, list and delete.
    ReadWrite,
    /// Put, and nothing else: a stolen box can neither read nor delete.
    WriteOnly,
}

/// When a request carries a checksum of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksum {
    /// With every object.
    Always,
    /// Only where S3 refuses a request without one: for stores that break on checksums.
    WhenRequired,
}

/// An S3 Object Lock retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ObjectLock {
    /// Who may lift it.
    pub mode: LockMode,
    /// Days from the upload.
    pub days: u32,
}

/// Who may lift a lock before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    /// Whoever has `s3:BypassGovernanceRetention`.
    Governance,
    /// Nobody, the root user included.
    Compliance,
}

/// Server-side encryption of new objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sse {
    /// Keys that S3 manages.
    Aes256,
    /// The account's default KMS key for S3.
    Kms,
    /// This KMS key: its id, alias or ARN.
    KmsKey(String),
}

/// How much is sent at once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UploadSettings {
    /// Uploads at the same time.
    pub concurrency: usize,
    /// The limit for all uploads together; `None`: what the line gives.
    pub bandwidth: Option<Bandwidth>,
}

impl UploadSettings {
    /// Every fourth turn goes to what has waited longest, all others to the newest capture: of files in the queue, and of
    /// bytes where `bandwidth` limits them. So a backlog always makes some progress.
    pub const BACKLOG_TURN: u32 = 4;
}

/// How many bytes a second all uploads together may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bandwidth {
    /// Bytes a second, day and night.
    Always(u64),
    /// Changes through the day, by rising time, at least one; the last holds over midnight until the first.
    Timetable(Vec<BandwidthChange>),
}

/// One line of a timetable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BandwidthChange {
    /// When it begins, in the system's zone.
    pub from: chrono::NaiveTime,
    /// Bytes a second; `None`: no limit.
    pub limit: Option<u64>,
}

/// Local copies after upload.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeepSettings {
    /// Where they lie, as `CAMERA/DATE/file`.
    pub path: PathBuf,
    /// How many days they stay; 0: deleted once the bucket has them.
    pub days: u32,
    /// Bytes they may take together; `None`: no limit.
    #[serde(serialize_with = "notation::serialize_optional_size")]
    pub max_size: Option<u64>,
    /// Bytes to leave free on their file system.
    #[serde(serialize_with = "notation::serialize_size")]
    pub min_free: u64,
}

/// What becomes of old captures in the bucket, and when that is looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RotateSettings {
    /// When the rotation runs, in the system's zone.
    pub schedule: Schedule,
    /// Bundles of camera-days; `None`: off. Never together with `transition`.
    pub archive: Option<ArchiveSettings>,
    /// Each object on its own into a colder class; `None`: off.
    pub transition: Option<TransitionSettings>,
    /// When captures go for good; `None`: never.
    pub expire: Option<ExpireSettings>,
}

/// A cron expression of five fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    cron: croner::Cron,
}

impl Schedule {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The compiled expression, to ask for its next time.
    pub fn cron(&self) -> &croner::Cron {
        &self.cron
    }
}

/// How camera-days are bundled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchiveSettings {
    /// A day is bundled once it is this old.
    #[serde(serialize_with = "notation::serialize_duration")]
    pub after: Duration,
    /// The storage class of bundles.
    pub class: String,
    /// The format of bundles.
    pub format: ArchiveFormat,
    /// Camera-days bundled in one run at most.
    pub max_days_per_run: u32,
    /// Bytes of one part of a bundle at most.
    #[serde(serialize_with = "notation::serialize_size")]
    pub part_size: u64,
}

/// How objects move to a colder class in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TransitionSettings {
    /// An object moves once it is this old.
    #[serde(serialize_with = "notation::serialize_duration")]
    pub after: Duration,
    /// The class it moves to.
    pub class: String,
    /// Objects below so many bytes stay.
    #[serde(serialize_with = "notation::serialize_size")]
    pub min_size: u64,
}

/// When captures go for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ExpireSettings {
    /// Counted from the capture or from when it was stored, whichever is later.
    #[serde(serialize_with = "notation::serialize_duration")]
    pub after: Duration,
}

/// Who is told of a change of state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlertsSettings {
    /// A URL that gets JSON by POST.
    pub webhook: Option<Webhook>,
    /// A program and its arguments that gets the same JSON on stdin; at least one word.
    pub command: Option<Vec<String>>,
}

/// A URL that may carry a password, which neither `Debug` nor the effective settings show.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    url: String,
    shown: String,
}

impl Webhook {
    /// The URL to send to, password included: never for a log.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL for people: with its `${ENV}` as written, else with the password masked.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Webhook({:?})", self.shown)
    }
}

/// An object that proves from outside that the box lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HeartbeatSettings {
    /// The time between two of them.
    #[serde(serialize_with = "notation::serialize_duration")]
    pub every: Duration,
}

/// Figures for Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MetricsSettings {
    /// The address of `/metrics` and `/healthz`; `None`: nothing listens.
    pub listen: Option<SocketAddr>,
}

/// The journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LogSettings {
    /// Where lines go.
    pub target: LogTarget,
    /// The least important lines that are written.
    #[serde(serialize_with = "serialize_level")]
    pub level: tracing::Level,
}

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogTarget {
    /// To the journal where systemd connected stderr to it, else to stderr.
    Auto,
    /// To the journal, with its fields.
    Journald,
    /// To stderr as text.
    Stderr,
}

impl Config {
    /// Reads and checks the file at `path`, with the process's environment.
    ///
    /// # Errors
    /// Everything that is wrong with it at once; a file that cannot be read is one problem.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let text = file::open(path).map_err(|problem| Problems::new(path, vec![problem]))?;
        Self::parse(path, &text, &|name| std::env::var(name).ok())
    }

    /// Checks `text`, the content of a file that messages name `source`, with the environment `env`.
    ///
    /// Beside its arguments it looks at the system's time zone, where the setting is `system` and `env` has no `TZ`.
    ///
    /// # Errors
    /// Everything that is wrong with it at once.
    pub fn parse(source: &Path, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        settings::parse(source, text, env)
    }

    /// Writes every setting, defaults included, as a file that [`Config::load`] reads to the same settings.
    ///
    /// A password in the webhook's URL is masked, and such a file is refused; where it is a `${VARIABLE}`, that is written.
    pub fn effective(&self) -> String {
        // A path that is not UTF-8 cannot come from a file, and nothing else can fail to be written.
        serde_yaml::to_string(self).unwrap_or_else(|error| format!("# failed to write the settings: {error}\n"))
    }

    /// The keys that are set, to something that would have an effect, while this version does nothing about them yet.
    pub fn not_in_effect(&self) -> Vec<&'static str> {
        NOT_IN_EFFECT.iter().filter(|(_, asks)| asks(self)).map(|(key, _)| *key).collect()
    }
}

/// Reads a duration as the file writes them, such as `30d`; the error says what is wrong and how to mend it.
///
/// # Errors
/// Where it is none.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    notation::duration(text).map_err(|fault| format!("{}; {}", fault.wrong, fault.mend))
}

/// Whether a configuration asks for something otherwise than the defaults do.
type Asks = fn(&Config) -> bool;

/// The keys whose machinery is not there yet.
const NOT_IN_EFFECT: [(&str, Asks); 5] = [
    ("cameras[].silent_after", |config| {
        config.cameras.iter().any(|camera| camera.silent_after != settings::SILENT_AFTER)
    }),
    ("alerts.webhook", |config| config.alerts.webhook.is_some()),
    ("alerts.command", |config| config.alerts.command.is_some()),
    ("heartbeat", |config| config.heartbeat.is_some()),
    ("metrics.listen", |config| config.metrics.listen.is_some()),
];

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl Serialize for Webhook {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown)
    }
}

impl Serialize for Bandwidth {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&notation::write_bandwidth(self))
    }
}

impl Serialize for Sse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Aes256 => serializer.serialize_str("AES256"),
            Self::Kms => serializer.serialize_str("aws:kms"),
            Self::KmsKey(id) => serializer.collect_map([("kms_key_id", id)]),
        }
    }
}

fn serialize_displayed<S: Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference to the field")]
fn serialize_level<S: Serializer>(level: &tracing::Level, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&level.as_str().to_lowercase())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference to the field")]
fn serialize_zone<S: Serializer>(zone: &chrono_tz::Tz, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(zone.name())
}

#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference to the field"
)]
fn serialize_optional_zone<S: Serializer>(zone: &Option<chrono_tz::Tz>, serializer: S) -> Result<S::Ok, S::Error> {
    zone.map(chrono_tz::Tz::name).serialize(serializer)
}
