//! The settings, section by section, as the rest of the program sees them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::alerts::{AlertsSettings, HeartbeatSettings};
use super::bandwidth::Bandwidth;
use super::mqtt::MqttSettings;
use super::notation;
use super::pattern::{CapturePattern, FolderGlob, Ignore};
use super::taken_format::TakenFormat;
use crate::key::{ArchiveFormat, FormerKey, Template};

/// Every setting of the daemon, checked, with the defaults filled in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// The file that was read.
    #[serde(skip)]
    pub source: PathBuf,
    /// The folder where the cameras' files arrive.
    pub drop_folder: DropFolderSettings,
    /// The cameras that have settings of their own; a file belongs to the first whose glob matches it.
    pub cameras: Vec<CameraSettings>,
    /// The time zone of every camera without one of its own.
    #[serde(serialize_with = "serialize_zone")]
    pub timezone: chrono_tz::Tz,
    /// How long before a file's arrival the time in its name may be and still be believed; `None`: any time before.
    #[serde(serialize_with = "notation::serialize_optional_duration")]
    pub max_clock_skew: Option<Duration>,
    /// The bucket, and how objects are stored in it.
    pub s3: S3Settings,
    /// How many uploads run together, and how fast.
    pub upload: UploadSettings,
    /// The local copies of uploaded files.
    pub keep: KeepSettings,
    /// What happens to old captures in the bucket.
    pub rotate: RotateSettings,
    /// Who is told when something breaks or works again.
    pub alerts: AlertsSettings,
    /// An object that shows from outside that the box is alive; `None`: none is written.
    pub heartbeat: Option<HeartbeatSettings>,
    /// The broker through which Home Assistant is told; `None`: it is not.
    pub mqtt: Option<MqttSettings>,
    /// Figures for Prometheus.
    pub metrics: MetricsSettings,
    /// The log.
    pub log: LogSettings,
    /// The folder of the local copies, the ledger, the files that were set aside and the schedule.
    pub state_dir: PathBuf,
    /// The folder of the status and the locks.
    pub runtime_dir: PathBuf,
}

/// The folder where the cameras' files arrive, and how long to wait until a file is complete.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DropFolderSettings {
    /// The folder that the FTP server writes into.
    pub path: PathBuf,
    /// The time between two scans of the whole folder, which run whatever inotify reports.
    #[serde(serialize_with = "notation::serialize_duration")]
    pub rescan: Duration,
    /// How long a file must be unchanged to count as complete, if nobody was seen closing it.
    #[serde(serialize_with = "notation::serialize_duration")]
    pub settle: Duration,
    /// How long a file that is open for writing may not grow until what there is of it goes up, marked as partial.
    #[serde(serialize_with = "notation::serialize_duration")]
    pub stalled: Duration,
    /// How long a cut-off file waits for the camera to resume or resend it.
    #[serde(serialize_with = "notation::serialize_duration")]
    pub partial_after: Duration,
    /// The files that are not captures; they stay where they are.
    pub ignore: Ignore,
}

/// The settings of one camera.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CameraSettings {
    /// The camera's name in the bucket: one segment of a key.
    pub name: String,
    /// Matches the files of this camera, below the drop folder.
    #[serde(rename = "match")]
    pub matches: FolderGlob,
    /// The vendor whose file names the camera writes: one of [`VENDORS`].
    pub vendor: String,
    /// The time zone of the camera's clock; `None`: [`Config::timezone`].
    #[serde(serialize_with = "serialize_optional_zone")]
    pub timezone: Option<chrono_tz::Tz>,
    /// A pattern for the file names, tried before the vendor's.
    pub pattern: Option<CapturePattern>,
    /// How the pattern's group `taken` tells the time; `None`: from a year of four digits to the second.
    pub taken_format: Option<TakenFormat>,
    /// Paths below the drop folder; `check` shows what each of them gives.
    pub example: Vec<String>,
    /// How long nothing may arrive before an alert is due; `None`: as its own rhythm says.
    #[serde(serialize_with = "notation::serialize_optional_duration")]
    pub silent_after: Option<Duration>,
}

/// The values of `vendor`: `auto` recognises any vendor's names, the others only those of one vendor.
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
    /// The region; `None`: the one that the standard AWS chain finds (environment, profile, instance).
    pub region: Option<String>,
    /// A profile in the AWS files; `None`: the one that the standard AWS chain finds.
    pub profile: Option<String>,
    /// The URL of another store that speaks S3; `None`: AWS.
    pub endpoint_url: Option<String>,
    /// Whether the bucket's name is in the path of a URL instead of the host.
    pub path_style: bool,
    /// The start of every key: empty, or ending in exactly one `/`.
    pub prefix: String,
    /// The shape of keys after the prefix.
    #[serde(serialize_with = "serialize_displayed")]
    pub key: Template,
    /// The shapes that keys had before: captures under them are still read.
    #[serde(serialize_with = "serialize_all_displayed")]
    pub former_keys: Vec<FormerKey>,
    /// The storage class of new objects.
    pub storage_class: String,
    /// What the box may do in the bucket.
    pub access: Access,
    /// Which requests carry a checksum.
    pub checksum: Checksum,
    /// Whether objects are tagged with camera and event.
    pub tags: bool,
    /// The lock of each new object; `None`: the bucket's default.
    pub object_lock: Option<ObjectLock>,
    /// The server-side encryption to ask for; `None`: the bucket's default.
    pub sse: Option<Sse>,
    /// The 12 digits of the account that owns the bucket, which S3 compares on each request; `None`: it compares nothing.
    pub account: Option<String>,
    /// A file of certificates in PEM to trust besides the system's; `None`: that of `AWS_CA_BUNDLE`, if it is set.
    pub ca_bundle: Option<PathBuf>,
    /// How long the template's bucket keeps what was deleted or covered.
    #[serde(serialize_with = "notation::serialize_duration")]
    pub undo: Duration,
}

/// What the box may do in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Put, read, list and delete.
    ReadWrite,
    /// Put, and nothing else: a thief who has the box can neither read nor delete.
    WriteOnly,
}

/// Which requests carry a checksum of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksum {
    /// All of them.
    Always,
    /// Only those that S3 refuses without one, for stores that do not understand checksums.
    WhenRequired,
}

/// An S3 Object Lock retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ObjectLock {
    /// Who may lift it.
    pub mode: LockMode,
    /// Its length, in days from the upload.
    pub days: u32,
}

/// Who may lift a lock before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    /// Everybody who has `s3:BypassGovernanceRetention`.
    Governance,
    /// Nobody, not even the root user.
    Compliance,
}

/// The server-side encryption of new objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sse {
    /// Keys that S3 manages.
    Aes256,
    /// The account's default KMS key for S3.
    Kms,
    /// This KMS key: its id, alias or ARN.
    KmsKey(String),
}

/// How many uploads run together, and how fast.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UploadSettings {
    /// The most uploads at the same time.
    pub concurrency: usize,
    /// The limit for all uploads together; `None`: as fast as the line is.
    pub bandwidth: Option<Bandwidth>,
}

impl UploadSettings {
    /// Every fourth turn goes to what has waited longest, the others to the newest capture: among the files in the queue,
    /// and among the uploads that share a limited `bandwidth`. So a backlog always makes some progress.
    pub const BACKLOG_TURN: u32 = 4;
}

/// The local copies of uploaded files.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeepSettings {
    /// Their folder; in it they are `CAMERA/DATE/file`.
    pub path: PathBuf,
    /// How many days they stay; 0: a file is deleted as soon as the bucket has it.
    pub days: u32,
    /// The most bytes that they may take together; `None`: no limit.
    #[serde(serialize_with = "notation::serialize_optional_size")]
    pub max_size: Option<u64>,
    /// The bytes to leave free on their file system.
    #[serde(serialize_with = "notation::serialize_size")]
    pub min_free: u64,
}

/// What happens to old captures in the bucket, and when.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RotateSettings {
    /// When the rotation runs, in the system's time zone; `None`: [`Schedule::nightly`].
    pub schedule: Option<Schedule>,
    /// The cameras that it may touch.
    pub cameras: RotatedCameras,
    /// Bundles of camera-days; `None`: no bundles. Never set together with `transition`.
    pub archive: Option<ArchiveSettings>,
    /// Each object on its own into a colder class; `None`: no transitions.
    pub transition: Option<TransitionSettings>,
    /// Deletion; `None`: nothing is deleted.
    pub expire: Option<ExpireSettings>,
}

/// The cameras that the rotation may touch; what else lies in the bucket stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RotatedCameras {
    /// Those that this box knows: from the configuration, from the ledger, or as folders of the drop folder.
    Known,
    /// Every folder of the bucket.
    All,
    /// These, by their names in the bucket.
    Named(Vec<String>),
}

/// A cron expression of five fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    pub(super) text: String,
    pub(super) cron: croner::Cron,
}

impl Schedule {
    /// Returns a schedule of once a night, at a minute from 01:00 to 04:59 that differs from host to host, so that two
    /// boxes on one bucket do not rotate at the same time.
    ///
    /// # Panics
    /// Never: the expression is right whatever the host's name is.
    pub fn nightly(host: &str) -> Self {
        let digest = Sha256::digest(host);
        let minute = (u32::from(digest[0]) << 8 | u32::from(digest[1])) % (4 * 60);
        let text = format!("{} {} * * *", minute % 60, 1 + minute / 60);
        let cron = text.parse().expect("it has a minute, an hour and three stars");
        Self { text, cron }
    }

    /// Returns the expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the compiled expression, which knows the next time.
    pub fn cron(&self) -> &croner::Cron {
        &self.cron
    }
}

/// How camera-days are bundled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchiveSettings {
    /// The age at which a day is bundled.
    #[serde(serialize_with = "notation::serialize_duration")]
    pub after: Duration,
    /// The storage class of bundles.
    pub class: String,
    /// The format of bundles.
    pub format: ArchiveFormat,
    /// The most camera-days that one run bundles.
    pub max_days_per_run: u32,
    /// The most bytes in one part of a bundle.
    #[serde(serialize_with = "notation::serialize_size")]
    pub part_size: u64,
}

/// How objects move to a colder class on their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TransitionSettings {
    /// The age at which an object moves.
    #[serde(serialize_with = "notation::serialize_duration")]
    pub after: Duration,
    /// The class it moves to.
    pub class: String,
    /// Smaller objects stay in their class; in bytes.
    #[serde(serialize_with = "notation::serialize_size")]
    pub min_size: u64,
}

/// When captures are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ExpireSettings {
    /// The age at which they are deleted, counted from when they were taken or stored, whichever is later.
    #[serde(serialize_with = "notation::serialize_duration")]
    pub after: Duration,
}

/// Figures for Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MetricsSettings {
    /// The address of `/metrics` and `/healthz`; `None`: nothing listens.
    pub listen: Option<SocketAddr>,
}

/// The log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LogSettings {
    /// Where lines go.
    pub target: LogTarget,
    /// The least important level that is written.
    #[serde(serialize_with = "serialize_level")]
    pub level: tracing::Level,
    /// The level of the line for each stored capture.
    pub captures: CaptureLines,
}

/// The level of the line for each stored capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptureLines {
    /// As any other event.
    Info,
    /// Only where the log has details.
    Debug,
    /// There are none.
    Off,
}

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogTarget {
    /// To the journal if systemd connected stderr to it, otherwise to stderr.
    Auto,
    /// To the journal, with its fields.
    Journald,
    /// To stderr as text.
    Stderr,
}

impl Config {
    /// Returns every setting, defaults included, as YAML that [`Config::load`] reads to the same settings.
    ///
    /// What may be a secret in the URL of a webhook is masked, and a file with a masked URL is refused; a `${VARIABLE}` is written
    /// as it is.
    pub fn effective(&self) -> String {
        // Only a path that is not UTF-8 cannot be written, and none can come from a file.
        serde_yaml::to_string(self).unwrap_or_else(|error| format!("# failed to write the settings: {error}\n"))
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl Serialize for RotatedCameras {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Known => serializer.serialize_str("known"),
            Self::All => serializer.serialize_str("all"),
            Self::Named(names) => serializer.collect_seq(names),
        }
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

fn serialize_all_displayed<S: Serializer>(values: &[FormerKey], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
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
