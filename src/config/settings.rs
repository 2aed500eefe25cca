//! The one place that knows every key of the file, with its default and its check.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::StoreKind;
use super::file::{YamlContent, YamlNode};
use super::notation::{CENTURY, CENTURY_DAYS, DAY, SECOND};
use super::pattern::{CapturePattern, FolderGlob, Ignore};
use super::problem::{Fault, Problem, Problems, quote};
use super::reader::{Env, GivenValue, KeyPlace, Section, SettingsReader};
use super::sections::{
    Access, ArchiveSettings, CameraSettings, CaptureLines, Checksum, Config, DropFolderSettings, ExpireSettings,
    KeepSettings, LockMode, LogSettings, LogTarget, MetricsSettings, ObjectLock, RotateSettings, RotatedCameras,
    S3Settings, Sse, TransitionSettings, UploadSettings, VENDORS,
};
use super::taken_format::{self, TakenFormat};
use super::{bandwidth, check, notation, told};
use crate::key::{self, ArchiveFormat};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// The size of the largest object (S3 User Guide, "Amazon S3 multipart upload limits").
const OBJECT_BYTES: u64 = 5 << 40;

pub(super) const RESCAN: Duration = Duration::from_mins(1);
pub(super) const SETTLE: Duration = Duration::from_secs(3);
pub(super) const STALLED: Duration = Duration::from_secs(10);
pub(super) const PARTIAL_AFTER: Duration = Duration::from_mins(10);
/// Files that cameras, FTP servers and computers leave beside captures.
pub(super) const IGNORE: [&str; 7] = [
    "DVRWorkDirectory",
    "*.idx",
    "*.tmp",
    "*_",
    ".*",
    "*.{part,filepart,crdownload,db,thumb}",
    "{index.dat,desktop.ini,@eaDir,#recycle}",
];
pub(super) const VENDOR: &str = VENDORS[0];
pub(super) const MAX_CLOCK_SKEW: Duration = Duration::from_hours(24 * 400);
pub(super) const KEY: &str = "{camera}/{date}/{file}";
pub(super) const STORAGE_CLASS: &str = "STANDARD";
pub(super) const LOCK: ObjectLock = ObjectLock { mode: LockMode::Governance, days: 90 };
pub(super) const UNDO: Duration = Duration::from_hours(24 * 30);
pub(super) const CONCURRENCY: u32 = 8;
pub(super) const KEEP_DAYS: u32 = 35;
pub(super) const KEEP_MAX_SIZE: u64 = 50 * GIB;
pub(super) const KEEP_MIN_FREE: u64 = 2 * GIB;
pub(super) const EXPIRE: ExpireSettings = ExpireSettings { after: Duration::from_hours(24 * 365) };
const STATE_DIR: Directory = Directory { key: "state_dir", variable: "STATE_DIRECTORY", default: "/var/lib/hk-aws" };
pub(super) const RUNTIME_DIR: Directory =
    Directory { key: "runtime_dir", variable: "RUNTIME_DIRECTORY", default: "/run/hk-aws" };

impl Default for ArchiveSettings {
    fn default() -> Self {
        Self {
            after: 30 * DAY,
            class: "GLACIER_IR".to_owned(),
            format: ArchiveFormat::Tar,
            max_days_per_run: 1000,
            part_size: 240 * MIB,
        }
    }
}

impl Default for TransitionSettings {
    fn default() -> Self {
        Self { after: 30 * DAY, class: "GLACIER_IR".to_owned(), min_size: 128 << 10 }
    }
}

/// Reads and checks `text`, and fills in the defaults. Messages call the file `source`.
pub(super) fn parse(source: &Path, text: &str, env: Env<'_>) -> Result<Config, Problems> {
    let refuse = |problems| Err(Problems::new(source, problems));
    let root = match super::file::read(text) {
        Ok(Some(root)) if !root.is_null() => root,
        Ok(_) => {
            return refuse(vec![Problem {
                line: Some(1),
                key: String::new(),
                wrong: "nothing is set in the file".to_owned(),
                value: None,
                mend:
                    "write at least drop_folder: {path: /var/lib/cctv/storage} and s3: {bucket: my-video-surveillance}"
                        .to_owned(),
            }]);
        }
        Err(problem) => return refuse(vec![problem]),
    };
    let reader = SettingsReader::new(env);
    let config = read_root(&reader, source, &root);
    let problems = reader.into_problems();
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => refuse(problems),
    }
}

/// Reads the map of the whole file; `None` only if a problem was recorded.
fn read_root<'a>(reader: &'a SettingsReader<'a>, source: &Path, root: &'a YamlNode) -> Option<Config> {
    let place = KeyPlace { line: Some(1), key: String::new() };
    let mend = "write drop_folder:, s3: and so on, each with its keys indented below it";
    reader.section(place, Some(root), mend, |top| {
        let drop_folder = top.section("drop_folder", drop_folder);
        let cameras = cameras(top);
        let timezone = timezone(top);
        let max_clock_skew =
            top.optional("max_clock_skew", Some(MAX_CLOCK_SKEW), notation::duration_in(SECOND..=CENTURY));
        let (s3, store) = top.section("s3", s3);
        let upload = top.section("upload", upload);
        let state_dir = directory(top, &STATE_DIR, drop_folder.as_ref());
        let runtime_dir = directory(top, &RUNTIME_DIR, drop_folder.as_ref());
        let keep = top.section("keep", |section| {
            let keep = keep(section, state_dir.as_deref());
            if let (Some(keep), Some(drop_folder)) = (&keep, &drop_folder) {
                keep_apart(section, keep, drop_folder, state_dir.as_deref());
            }
            keep
        });
        let rotate = top.section("rotate", |section| rotate(section, store));
        let alerts = top.section("alerts", told::alerts);
        let heartbeat = top.optional_section("heartbeat", None, "{every: 5m}", told::heartbeat);
        let example = "{url: mqtt://homeassistant.local:1883}";
        let mqtt = top.optional_section("mqtt", None, example, told::mqtt).flatten();
        let metrics = top
            .section("metrics", |section| MetricsSettings { listen: section.optional("listen", None, check::listen) });
        let log = top.section("log", log);
        Some(Config {
            source: source.to_owned(),
            drop_folder: drop_folder?,
            cameras,
            timezone: timezone?,
            max_clock_skew,
            s3: s3?,
            upload,
            keep: keep?,
            rotate,
            alerts,
            heartbeat,
            mqtt,
            metrics,
            log,
            state_dir: state_dir?,
            runtime_dir: runtime_dir?,
        })
    })
}

fn drop_folder(section: &Section<'_>) -> Option<DropFolderSettings> {
    let path = section.required(
        "path",
        "write the folder the cameras' FTP server writes into, such as /var/lib/cctv/storage",
        check::absolute_path,
    );
    let rescan = section.value("rescan", RESCAN, notation::duration_in(Duration::from_millis(100)..=DAY));
    let settle = section.value("settle", SETTLE, notation::duration_in(Duration::ZERO..=Duration::from_hours(1)));
    let stalled = section.value("stalled", STALLED, notation::duration_in(Duration::from_millis(100)..=DAY));
    let partial_after = section.value("partial_after", PARTIAL_AFTER, notation::duration_in(Duration::ZERO..=30 * DAY));
    let example = "a list of globs such as [\"*.tmp\", \".*\"], or [] for none";
    let patterns = match section.texts("ignore", example, |_, text| check::ignore_glob(text)) {
        GivenValue::Here(patterns) => patterns,
        GivenValue::Absent | GivenValue::Wrong => IGNORE.map(str::to_owned).into(),
        GivenValue::Null => {
            section.refuse_null("ignore", &format!("write {example}"));
            Vec::new()
        }
    };
    let ignore = Ignore::new(patterns).map_err(|error| {
        section.refuse(
            "ignore",
            None,
            Fault::new(format!("cannot be compiled: {error}"), "write fewer globs or simpler ones"),
        );
    });
    Some(DropFolderSettings { path: path?, rescan, settle, stalled, partial_after, ignore: ignore.ok()? })
}

fn cameras(top: &Section<'_>) -> Vec<CameraSettings> {
    let GivenValue::Here(items) = top.list("cameras", "a list, each item with a dash: - name: CAM-EXT-001") else {
        return Vec::new();
    };
    let mut cameras: Vec<CameraSettings> = Vec::new();
    for (place, item) in items {
        let camera = top.reader().section(place, Some(item), "write its keys: - name: CAM-EXT-001", |section| {
            let camera = camera(section)?;
            if cameras.iter().any(|other| other.name == camera.name) {
                let fault = Fault::new("is the name of another camera too", "give each camera a name of its own");
                section.refuse("name", Some(quote(&camera.name)), fault);
            }
            Some(camera)
        });
        cameras.extend(camera);
    }
    cameras
}

fn camera(section: &Section<'_>) -> Option<CameraSettings> {
    let name =
        section.required("name", "write the camera's name in the bucket, such as CAM-EXT-001", check::camera_name);
    let matches = match section.optional("match", None, check::camera_glob) {
        Some(glob) => Some(glob),
        None => name.as_ref().and_then(|name| FolderGlob::new(&check::camera_folder(name)).ok()),
    };
    let vendors = VENDORS.map(|vendor| (vendor, vendor));
    let vendor = section.value("vendor", VENDOR, check::choice(&vendors)).to_owned();
    let timezone = section.optional("timezone", None, check::zone);
    let pattern = section.optional("pattern", None, check::capture_pattern);
    let taken_format = section.optional("taken_format", None, TakenFormat::new);
    refuse_timeless(section, pattern.as_ref(), taken_format.as_ref());
    let example = examples(section);
    let silent_after = section.optional("silent_after", None, notation::duration_in(SECOND..=CENTURY));
    Some(CameraSettings {
        name: name?,
        matches: matches?,
        vendor,
        timezone,
        pattern,
        taken_format,
        example,
        silent_after,
    })
}

/// Refuses a pattern that can never give a time although it says where one is, and a format that nothing is read by.
fn refuse_timeless(section: &Section<'_>, pattern: Option<&CapturePattern>, format: Option<&TakenFormat>) {
    let has_taken = |pattern: &CapturePattern| pattern.regex().capture_names().flatten().any(|name| name == "taken");
    match (pattern, format) {
        (Some(pattern), _) if has_taken(pattern) => {
            if taken_format::can_tell_time(pattern.as_str(), format) {
                return;
            }
            let (wrong, mend) = match format {
                Some(format) => (
                    format!("its group taken can never match a time written as {format}"),
                    "make the group match the whole time, or mend taken_format",
                ),
                None => (
                    "its group taken can never give a time".to_owned(),
                    "make the group match from a year of four digits to the second, or say with taken_format how the time is written",
                ),
            };
            section.refuse("pattern", Some(quote(pattern.as_str())), Fault::new(wrong, mend));
        }
        (_, Some(format)) if section.node("pattern").is_none() || pattern.is_some() => {
            let fault = Fault::new("nothing is read by it", "write a pattern with the group (?P<taken>...) too");
            section.refuse("taken_format", Some(quote(&format.to_string())), fault);
        }
        _ => {}
    }
}

/// Returns the example paths of a camera: a list, or a single one.
fn examples(section: &Section<'_>) -> Vec<String> {
    if section.node("example").is_some_and(|node| matches!(node.content, YamlContent::Scalar { .. })) {
        return section.optional("example", None, check::example_path).into_iter().collect();
    }
    match section.texts("example", "a list of paths below the drop folder", |_, text| check::example_path(text)) {
        GivenValue::Here(paths) => paths,
        GivenValue::Absent | GivenValue::Wrong | GivenValue::Null => Vec::new(),
    }
}

fn timezone(top: &Section<'_>) -> Option<chrono_tz::Tz> {
    let tz = top.reader().env("TZ");
    top.parsed("timezone", "system", |text| match text {
        "system" => check::system_zone(tz.as_deref()),
        text => check::zone(text),
    })
}

/// Returns the settings, and whose store they name.
fn s3(section: &Section<'_>) -> (Option<S3Settings>, StoreKind) {
    let bucket =
        section.required("bucket", "write the name of the bucket, such as my-video-surveillance", check::bucket);
    let (endpoint_url, store) = match section.given("endpoint_url", check::endpoint) {
        GivenValue::Here(url) => (Some(url), StoreKind::Other),
        GivenValue::Wrong => (None, StoreKind::Other),
        GivenValue::Absent | GivenValue::Null => (None, StoreKind::Aws),
    };
    let region = section.optional("region", None, |text| check::region(text, store));
    let profile = section.optional("profile", None, check::text);
    let path_style = section.value("path_style", false, check::truth);
    let prefix = section.value("prefix", String::new(), check::prefix);
    let template = |text: &str| {
        text.parse::<key::Template>().map_err(|error| Fault::new(error, format!("the default is {KEY:?}")))
    };
    let key = section.parsed("key", KEY, template);
    let former_keys = former_keys(section, &prefix, key.as_ref());
    let storage_class = section.value("storage_class", STORAGE_CLASS.to_owned(), check::storage_class(store));
    let accesses = [("read-write", Access::ReadWrite), ("write-only", Access::WriteOnly)];
    let access = section.value("access", Access::ReadWrite, check::choice(&accesses));
    let checksums = [("always", Checksum::Always), ("when_required", Checksum::WhenRequired)];
    let checksum = section.value("checksum", Checksum::Always, check::choice(&checksums));
    let tags = section.value("tags", false, check::truth);
    let object_lock = section.optional_section("object_lock", None, "{mode: governance, days: 90}", |lock| {
        let modes = [("governance", LockMode::Governance), ("compliance", LockMode::Compliance)];
        ObjectLock {
            mode: lock.value("mode", LOCK.mode, check::choice(&modes)),
            days: lock.value("days", LOCK.days, notation::number_in(1..=CENTURY_DAYS)),
        }
    });
    let sse = sse(section);
    let account = section.optional("account", None, check::account);
    let ca_bundle = section.optional("ca_bundle", None, check::absolute_path);
    let undo = section.value("undo", UNDO, notation::duration_in(DAY..=CENTURY));
    let s3 = bucket.zip(key).map(|(bucket, key)| S3Settings {
        bucket,
        region,
        profile,
        endpoint_url,
        path_style,
        prefix,
        key,
        former_keys,
        storage_class,
        access,
        checksum,
        tags,
        object_lock,
        sse,
        account,
        ca_bundle,
        undo,
    });
    (s3, store)
}

/// Returns the shapes that keys had before. Refuses one that is the present one, or stands there twice.
fn former_keys(section: &Section<'_>, prefix: &str, key: Option<&key::Template>) -> Vec<key::FormerKey> {
    let example = "a list such as [\"{prefix}{camera}/{file}\"], or [] for none";
    let parse = |_: usize, text: &str| {
        let mend = "write the whole shape that keys had, such as old/{camera}/{date}/{file}";
        key::FormerKey::read(text).map_err(|error| Fault::new(error, mend))
    };
    let GivenValue::Here(former) = section.texts("former_keys", example, parse) else { return Vec::new() };
    let mut layouts: Vec<key::Layout> = key.map(|key| key::Layout::new(prefix, key.clone())).into_iter().collect();
    let mut new = Vec::new();
    for shape in former {
        let layout = shape.layout(prefix);
        if layouts.contains(&layout) {
            let fault = Fault::new("is the shape of present keys, or stands there twice", "remove it");
            section.refuse("former_keys", Some(quote(&shape.to_string())), fault);
        }
        layouts.push(layout);
        new.push(shape);
    }
    new
}

fn sse(section: &Section<'_>) -> Option<Sse> {
    let example = "AES256, aws:kms or {kms_key_id: alias/captures}";
    let is_single = section.node("sse").is_none_or(|node| matches!(node.content, YamlContent::Scalar { .. }));
    if is_single {
        let parse = |text: &str| match text {
            "AES256" => Ok(Sse::Aes256),
            "aws:kms" => Ok(Sse::Kms),
            _ => Err(Fault::new("no kind of encryption", format!("write {example}, or null"))),
        };
        return section.optional("sse", None, parse);
    }
    section
        .optional_section("sse", None, example, |sse| {
            sse.required("kms_key_id", "write the id, alias or ARN of the key", check::kms_key)
        })
        .flatten()
        .map(Sse::KmsKey)
}

fn upload(section: &Section<'_>) -> UploadSettings {
    let concurrency = section.value("concurrency", CONCURRENCY, notation::number_in(1..=256));
    let bandwidth = section.optional("bandwidth", None, bandwidth::read);
    UploadSettings { concurrency: usize::try_from(concurrency).unwrap_or(1), bandwidth }
}

/// A directory of the daemon's own.
pub(super) struct Directory {
    key: &'static str,
    /// The environment variable in which systemd names the directory that it made; several are separated by colons.
    pub(super) variable: &'static str,
    pub(super) default: &'static str,
}

/// Returns the directory that the file names, otherwise the one that systemd made, otherwise the default. Refuses one inside
/// the drop folder.
fn directory(
    top: &Section<'_>,
    Directory { key, variable, default }: &Directory,
    drop_folder: Option<&DropFolderSettings>,
) -> Option<PathBuf> {
    let directory = match top.given(key, check::absolute_path) {
        GivenValue::Here(path) => path,
        GivenValue::Wrong => return None,
        GivenValue::Absent | GivenValue::Null => match top.reader().env(variable).filter(|list| !list.is_empty()) {
            None => PathBuf::from(default),
            Some(list) => {
                let first = list.split(':').next().unwrap_or_default();
                let refuse = |fault: Fault| {
                    let mend = format!("set {key} in the file, or {variable} to an absolute path");
                    let wrong = format!("the environment variable {variable}: {}", fault.wrong);
                    top.refuse(key, Some(quote(&list)), Fault::new(wrong, mend));
                };
                check::absolute_path(first).map_err(refuse).ok()?
            }
        },
    };
    if let Some(folder) = drop_folder
        && directory.starts_with(&folder.path)
    {
        let wrong = format!("lies inside drop_folder.path {}", quote(&folder.path.to_string_lossy()));
        let mend = "write a directory outside it: what lies there would be uploaded";
        top.refuse(key, Some(quote(&directory.to_string_lossy())), Fault::new(wrong, mend));
    }
    Some(directory)
}

fn keep(section: &Section<'_>, state_dir: Option<&Path>) -> Option<KeepSettings> {
    let path = match section.given("path", check::absolute_path) {
        GivenValue::Here(path) => Some(path),
        GivenValue::Wrong => None,
        GivenValue::Absent | GivenValue::Null => state_dir.map(|state_dir| state_dir.join("kept")),
    };
    let days = section.value("days", KEEP_DAYS, notation::number_in(0..=CENTURY_DAYS));
    let max_size = section.optional("max_size", Some(KEEP_MAX_SIZE), notation::size_in(MIB..=u64::MAX));
    let min_free = section.value("min_free", KEEP_MIN_FREE, notation::size);
    Some(KeepSettings { path: path?, days, max_size, min_free })
}

/// Refuses a folder for local copies in which they would be uploaded again, or in which clearing up would delete other
/// files.
fn keep_apart(section: &Section<'_>, keep: &KeepSettings, drop_folder: &DropFolderSettings, state_dir: Option<&Path>) {
    let (kept, incoming) = (&keep.path, &drop_folder.path);
    let outside = "write a directory outside it, or leave the key out to have the folder kept in state_dir";
    let folder = quote(&incoming.to_string_lossy());
    let (wrong, mend) = if kept.starts_with(incoming) {
        (format!("lies inside drop_folder.path {folder}: copies would be uploaded again"), outside)
    } else if incoming.starts_with(kept) {
        (format!("holds drop_folder.path {folder}: what waits there is no copy"), "write a directory for copies alone")
    } else if state_dir.is_some_and(|state_dir| state_dir.starts_with(kept)) {
        ("holds state_dir".to_owned(), "write a directory for copies alone")
    } else {
        return;
    };
    // A default inside the drop folder follows a state directory that was refused already.
    let is_written = matches!(section.given("path", |_| Ok(())), GivenValue::Here(()));
    if is_written || !kept.starts_with(incoming) {
        section.refuse("path", Some(quote(&kept.to_string_lossy())), Fault::new(wrong, mend));
    }
}

fn rotate(section: &Section<'_>, store: StoreKind) -> RotateSettings {
    let schedule = section.optional("schedule", None, check::schedule);
    let transition = section.optional_section("transition", None, "{after: 30d, class: GLACIER_IR}", |section| {
        let default = TransitionSettings::default();
        TransitionSettings {
            after: section.value("after", default.after, notation::duration_in(Duration::ZERO..=CENTURY)),
            class: section.value("class", default.class, check::storage_class(store)),
            min_size: section.value("min_size", default.min_size, notation::size_in(0..=OBJECT_BYTES)),
        }
    });
    // A transition replaces the default bundles.
    let default = if transition.is_none() { Some(ArchiveSettings::default()) } else { None };
    let is_asked_for = section.node("archive").is_some_and(|node| !node.is_null());
    let archive = section
        .optional_section("archive", default, "{after: 30d, class: GLACIER_IR}", |section| archive(section, store));
    if is_asked_for && transition.is_some() {
        let mend = "set one of them to null: an object is bundled or moves on its own, not both";
        section.refuse("transition", None, Fault::new("stands beside rotate.archive", mend));
    }
    let expire = section.optional_section("expire", None, "{after: 365d}", |section| ExpireSettings {
        after: section.value("after", EXPIRE.after, notation::duration_in(DAY..=CENTURY)),
    });
    RotateSettings { schedule, cameras: rotated_cameras(section), archive, transition, expire }
}

fn rotated_cameras(section: &Section<'_>) -> RotatedCameras {
    let key = "cameras";
    if section.node(key).is_none_or(|node| matches!(node.content, YamlContent::Scalar { .. })) {
        let words = [("known", false), ("all", true)];
        let all = section.value(key, false, check::choice(&words));
        return if all { RotatedCameras::All } else { RotatedCameras::Known };
    }
    let example = "known, all or a list of cameras, such as [CAM-EXT-001]";
    let is_empty =
        section.node(key).is_some_and(|node| matches!(&node.content, YamlContent::List(items) if items.is_empty()));
    if is_empty {
        let mend = format!("write {example}; to rotate nothing, set archive, transition and expire to null");
        section.refuse(key, None, Fault::new("an empty list", mend));
    }
    match section.texts(key, example, |_, name| check::camera_name(name)) {
        GivenValue::Here(names) => RotatedCameras::Named(names),
        GivenValue::Absent | GivenValue::Null | GivenValue::Wrong => RotatedCameras::Known,
    }
}

fn archive(section: &Section<'_>, store: StoreKind) -> ArchiveSettings {
    let default = ArchiveSettings::default();
    let formats = [("tar", ArchiveFormat::Tar), ("tar.gz", ArchiveFormat::TarGz), ("tar.zst", ArchiveFormat::TarZst)];
    ArchiveSettings {
        // A day must be over in every time zone before it is bundled.
        after: section.value("after", default.after, notation::duration_in(DAY..=CENTURY)),
        class: section.value("class", default.class, check::storage_class(store)),
        format: section.value("format", default.format, check::choice(&formats)),
        max_days_per_run: section.value(
            "max_days_per_run",
            default.max_days_per_run,
            notation::number_in(1..=CENTURY_DAYS),
        ),
        part_size: section.value("part_size", default.part_size, notation::size_in(5 * MIB..=5 * GIB)),
    }
}

fn log(section: &Section<'_>) -> LogSettings {
    let targets = [("auto", LogTarget::Auto), ("journald", LogTarget::Journald), ("stderr", LogTarget::Stderr)];
    let levels = [
        ("error", tracing::Level::ERROR),
        ("warn", tracing::Level::WARN),
        ("info", tracing::Level::INFO),
        ("debug", tracing::Level::DEBUG),
        ("trace", tracing::Level::TRACE),
    ];
    let captures = [("info", CaptureLines::Info), ("debug", CaptureLines::Debug), ("off", CaptureLines::Off)];
    LogSettings {
        target: section.value("target", LogTarget::Auto, check::choice(&targets)),
        level: section.value("level", tracing::Level::INFO, check::choice(&levels)),
        captures: section.value("captures", CaptureLines::Info, check::choice(&captures)),
    }
}
