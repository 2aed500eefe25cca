//! Old days at real servers: bundled, kept through kills, brought back out of Glacier, and left alone where a bucket locks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use chrono::{NaiveDate, TimeDelta, Utc};
use hk_aws::bundle::Index;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::camera::{Picture, ZONE};
use crate::daemon::{BINARY, Daemon};
use crate::installation::files;
use crate::store::{ACCESS_KEY, BUCKET, Kind, REGION, SECRET_KEY, Store};
use crate::volume::Volume;

/// A box without a daemon: its commands, its folders and its store.
struct Box {
    store: Store,
    folder: TempDir,
    /// The folders of the state and of the local copies.
    state: PathBuf,
    kept: PathBuf,
    pictures: BTreeMap<String, Picture>,
}

impl Box {
    fn new(kind: Kind, settings: &str) -> Self {
        let folder = TempDir::with_prefix("hk-aws-archive-").unwrap();
        fs::create_dir(folder.path().join("drop")).unwrap();
        let [state, kept] = ["state", "kept"].map(|name| folder.path().join(name));
        let made = Self { store: Store::start(kind), folder, state, kept, pictures: BTreeMap::new() };
        made.with(BUCKET, settings)
    }

    /// The same box with other settings.
    fn with(self, bucket: &str, settings: &str) -> Self {
        let settings = format!(
            "state_dir: {state}\nruntime_dir: {path}/run\ntimezone: {ZONE}\n\
             drop_folder: {{path: {path}/drop, settle: 0s}}\n\
             s3: {{bucket: {bucket}, region: {REGION}, endpoint_url: '{endpoint}', path_style: true}}\n\
             keep: {{path: {kept}, min_free: 0}}\n{settings}\n",
            path = self.folder.path().display(),
            state = self.state.display(),
            kept = self.kept.display(),
            endpoint = self.store.endpoint(),
        );
        fs::write(self.folder.path().join("config.yaml"), settings).unwrap();
        self
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn command(&self, line: &[&str]) -> Command {
        let mut command: Command = Daemon::command(BINARY);
        command.arg("--config").arg(self.path("config.yaml")).args(line).stdin(Stdio::null());
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command
    }

    /// Runs a command; answers its exit code and all that it said.
    fn run(&self, line: &[&str]) -> (i32, String) {
        let Output { status, stdout, stderr } = self.command(line).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        (status.code().unwrap(), said)
    }

    fn succeeds(&self, line: &[&str]) -> String {
        let (code, said) = self.run(line);
        assert_eq!(code, 0, "{line:?}: {said}");
        said
    }

    /// Stores `count` pictures of a camera that were taken so many days ago.
    fn store(&mut self, camera: &str, days: i64, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let picture = Picture::take(camera, number);
            let name = picture
                .name
                .replace(&picture.taken.format("%Y%m%d").to_string(), &date(days).format("%Y%m%d").to_string());
            let path = self.path("drop").join(camera).join(&name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &picture.bytes).unwrap();
            self.pictures.insert(format!("{camera}/{}/{name}", date(days)), picture);
        }
        self.succeeds(&["-q", "upload"]);
        assert!(files(&self.path("drop")).is_empty());
    }

    /// The bytes of every member of every bundle, by the key that it had, as the index finds them in the bundle.
    fn bundled(&self) -> BTreeMap<String, Vec<u8>> {
        let mut members = BTreeMap::new();
        for key in self.store.keys().iter().filter(|key| key.ends_with("index.json")) {
            let index: Index = serde_json::from_slice(&self.store.get(key).bytes).unwrap();
            let bundle = self.store.get(&index.bundle.key).bytes;
            assert_eq!(hex::encode(Sha256::digest(&bundle)), index.bundle.sha256, "{}", index.bundle.key);
            for member in index.members {
                let at = usize::try_from(member.offset).unwrap();
                let frame = &bundle[at..at + usize::try_from(member.length).unwrap()];
                let mut bytes = Vec::new();
                let frame = std::io::Cursor::new(frame.to_vec());
                let mut content = hk_aws::bundle::unpack(index.bundle.format, frame).unwrap();
                std::io::Read::read_to_end(&mut content, &mut bytes).unwrap();
                assert_eq!(members.insert(member.note.key, bytes), None);
            }
        }
        members
    }

    fn holds_all_in_bundles(&self) {
        let expected: BTreeMap<String, Vec<u8>> =
            self.pictures.iter().map(|(key, picture)| (key.clone(), picture.bytes.clone())).collect();
        assert!(self.bundled() == expected, "{:?}", self.store.keys());
        let loose: Vec<String> = self.store.keys().into_iter().filter(|key| !key.contains("/archive/")).collect();
        assert!(loose.is_empty(), "{loose:?}");
    }

    /// Whether every file that was downloaded is the picture of its name, and none is missing.
    fn were_brought_back(&self, folder: &Path, camera: &str, days: i64) {
        let expected: BTreeMap<&str, &[u8]> = (self.pictures.iter())
            .filter_map(|(key, picture)| {
                Some((key.strip_prefix(&format!("{camera}/{}/", date(days)))?, &*picture.bytes))
            })
            .collect();
        let found: BTreeMap<String, Vec<u8>> = (files(folder).iter())
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()))
            .collect();
        assert!(found.iter().map(|(name, bytes)| (&**name, &**bytes)).eq(expected), "{:?}", found.keys());
    }
}

/// The date so many days ago, at the cameras.
fn date(days: i64) -> NaiveDate {
    (Utc::now() - TimeDelta::days(days)).with_timezone(&ZONE).date_naive()
}

fn a_rotation_that_is_killed_again_and_again_ends_with_every_picture_in_one_bundle(format: &str) {
    let settings = format!("rotate: {{archive: {{after: 30d, class: GLACIER, format: {format}, part_size: 5MiB}}}}");
    let mut site = Box::new(Kind::SeaweedFs, &settings);
    site.store("CAM-EXT-001", 40, 0..12);
    site.store("CAM-EXT-001", 35, 100..103);
    site.store("CAM-EXT-002", 40, 200..206);
    for pause in (0..12).map(|turn| Duration::from_millis(40 + 70 * turn)) {
        let mut child = site.command(&["-q", "rotate"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(pause);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // A late picture of a day that may be bundled already.
    site.store("CAM-EXT-001", 35, 103..104);
    site.succeeds(&["rotate"]);
    site.holds_all_in_bundles();
    let said = site.succeeds(&["rotate"]);
    assert!(said.contains("0 captures of 0 days"), "{said}");
    let said = site.succeeds(&["verify", "--deep"]);
    assert!(!said.contains("missing") && !said.contains("altered"), "{said}");
    assert!(site.store.keys().iter().any(|key| key.contains(".part2.")), "{:?}", site.store.keys());
    for key in site.store.keys() {
        assert_eq!(site.store.class(&key), if key.ends_with("json") { "STANDARD" } else { "GLACIER" }, "{key}");
    }
    assert_eq!(site.store.uploads(), 0);
}

#[test]
fn i4_killed_again_and_again_a_rotation_at_seaweedfs_bundles_every_picture_as_tar() {
    a_rotation_that_is_killed_again_and_again_ends_with_every_picture_in_one_bundle("tar");
}

#[test]
fn i4_killed_again_and_again_a_rotation_at_seaweedfs_bundles_every_picture_as_tar_gz() {
    a_rotation_that_is_killed_again_and_again_ends_with_every_picture_in_one_bundle("tar.gz");
}

#[test]
fn i4_killed_again_and_again_a_rotation_at_seaweedfs_bundles_every_picture_as_tar_zst() {
    a_rotation_that_is_killed_again_and_again_ends_with_every_picture_in_one_bundle("tar.zst");
}

#[test]
fn an_archived_day_is_refused_restored_and_brought_back_at_moto() {
    let mut site = Box::new(Kind::Moto, "rotate: {archive: {class: GLACIER}}");
    site.store("CAM-EXT-001", 40, 0..6);
    site.store("CAM-EXT-001", 39, 100..103);
    site.succeeds(&["rotate"]);
    let (day, next) = (date(40).to_string(), date(39).to_string());
    let bundle = format!("CAM-EXT-001/archive/{day}.tar");
    assert_eq!((site.store.status_of_get(&bundle), &*site.store.class(&bundle)), (403, "GLACIER"));
    let listed = site.succeeds(&["list", "CAM-EXT-001", &day]);
    assert!(site.pictures.keys().filter(|key| key.contains(&day)).all(|key| listed.contains(key)), "{listed}");

    let (one, whole) = (site.path("one"), site.path("whole"));
    let file = site.pictures.keys().next().unwrap().rsplit('/').next().unwrap().to_owned();
    let get = ["get", "CAM-EXT-001", &day, &file, "--to", one.to_str().unwrap()];
    let (code, said) = site.run(&get);
    assert!(code == 1 && said.contains("hk-aws restore CAM-EXT-001"), "{said}");
    assert!(files(&one).is_empty());

    let range = format!("{day}..{next}");
    let restored =
        site.succeeds(&["restore", "CAM-EXT-001", &range, "--yes", "--wait", "--to", whole.to_str().unwrap()]);
    assert!(!restored.contains('$'), "what it costs there is not known: {restored}");
    site.were_brought_back(&whole.join(date(40).to_string()), "CAM-EXT-001", 40);
    site.were_brought_back(&whole.join(date(39).to_string()), "CAM-EXT-001", 39);
    assert_eq!(site.store.status_of_get(&bundle), 200);
    site.succeeds(&get);
    let picture = &site.pictures[&format!("CAM-EXT-001/{}/{file}", date(40))];
    assert!(fs::read(one.join(&file)).unwrap() == picture.bytes);
    // Asked again it begins nothing anew.
    site.succeeds(&["restore", "CAM-EXT-001", &range, "--yes"]);
}

#[test]
fn an_archived_day_is_read_at_seaweedfs_where_glacier_is_a_mere_label() {
    for (class, format) in [("GLACIER", "tar"), ("DEEP_ARCHIVE", "tar.zst")] {
        let mut site = Box::new(Kind::SeaweedFs, &format!("rotate: {{archive: {{class: {class}, format: {format}}}}}"));
        site.store("CAM-EXT-001", 40, 0..6);
        site.succeeds(&["rotate"]);
        let day = date(40).to_string();
        assert_eq!(site.store.class(&format!("CAM-EXT-001/archive/{day}.{format}")), class);
        for command in ["get", "restore"] {
            let to = site.path(command);
            let said = site.succeeds(&[command, "CAM-EXT-001", &day, "--to", to.to_str().unwrap()]);
            assert!(!said.contains("restore it first"), "{said}");
            site.were_brought_back(&to, "CAM-EXT-001", 40);
        }
        let said = site.succeeds(&["restore", "CAM-EXT-001", &day, "--wait"]);
        assert!(said.contains("readable as it is"), "{said}");
    }
}

#[test]
fn a_bucket_that_locks_or_keeps_versions_at_moto_is_not_rotated_in_vain() {
    let mut site = Box::new(Kind::Moto, "rotate: {archive: null, transition: {after: 30d, min_size: 0}}");
    site.store("CAM-EXT-001", 40, 0..2);
    site.store.keep_versions();
    let said = site.succeeds(&["rotate"]);
    assert!(said.contains("makes a new version"), "{said}");
    assert!(site.store.keys().iter().all(|key| site.store.class(key) == "STANDARD"));

    site.store.make_bucket_with_lock("locked");
    let mut site = site.with("locked", "rotate: {archive: {after: 30d}}");
    site.pictures.clear();
    site.store("CAM-EXT-001", 40, 10..12);
    let said = site.succeeds(&["rotate"]);
    assert!(said.contains("the bucket locks objects"), "{said}");
}

#[test]
fn classes_change_in_place_at_moto_and_tags_and_metadata_stay() {
    let mut site = Box::new(Kind::Moto, "rotate: {transition: {after: 30d, class: GLACIER_IR, min_size: 0}}");
    site.store("CAM-EXT-001", 40, 0..3);
    site.store("CAM-EXT-001", 20, 10..11);
    let before: Vec<_> = site.store.keys().iter().map(|key| site.store.get(key).metadata).collect();
    site.succeeds(&["rotate"]);
    for (key, metadata) in site.store.keys().iter().zip(before) {
        let moved = key.contains(&date(40).to_string());
        assert_eq!(site.store.class(key) == "GLACIER_IR", moved, "{key}");
        let object = site.store.get(key);
        assert!(object.bytes == site.pictures[key].bytes && object.metadata == metadata, "{key}");
    }
}

#[test]
fn i4_local_copies_on_a_disk_that_dies_are_fetched_and_a_dead_disk_of_state_loses_nothing() {
    let volume = Volume::ext4(64);
    let mut site = Box::new(Kind::SeaweedFs, "");
    site.kept = volume.path().join("kept");
    let settings = "rotate: {archive: {after: 30d}}";
    site = site.with(BUCKET, settings);
    site.store("CAM-EXT-001", 40, 0..5);
    assert_eq!(files(&site.kept).len(), 5);
    volume.cut_power();
    let said = site.succeeds(&["rotate"]);
    assert!(said.contains("downloaded"), "{said}");
    site.holds_all_in_bundles();

    // The disk of the state: nothing can be written down, so nothing is deleted.
    let state = Volume::ext4(64);
    (site.state, site.kept) = (state.path(), site.path("kept"));
    site = site.with(BUCKET, settings);
    site.store("CAM-EXT-001", 41, 20..23);
    state.remount("ro");
    let (code, said) = site.run(&["rotate"]);
    assert!(code != 0 && said.contains("failed to write ledger"), "{said}");
    let loose = |site: &Box| site.store.keys().iter().filter(|key| !key.contains("/archive/")).count();
    assert_eq!(loose(&site), 3, "{said}");
    state.remount("rw");
    site.succeeds(&["rotate"]);
    site.holds_all_in_bundles();
}

fn names_that_stores_and_command_lines_take_for_something_else_are_listed_and_brought_back(kind: Kind) {
    let site = Box::new(kind, "max_clock_skew: null\nrotate: {archive: {after: 30d}}");
    let day = "2024-01-02";
    let names = [r"pir\20240102-030405.jpg", r"\20240102-030406.jpg", "-x-20240102-030407.jpg"];
    // As a folder is called, and as its camera is.
    for (folder, camera) in [(r"back\yard", "back%5Cyard"), ("-front", "-front"), (r"--to\", "--to%5C")] {
        let files: BTreeMap<&str, String> = names.map(|name| (name, format!("{folder} {name}"))).into();
        for (name, bytes) in &files {
            fs::create_dir_all(site.path("drop").join(folder)).unwrap();
            fs::write(site.path("drop").join(folder).join(name), bytes).unwrap();
        }
        site.succeeds(&["-q", "upload"]);
        assert!(site.succeeds(&["cameras"]).lines().any(|line| line == camera));
        assert!(site.succeeds(&["days", camera]).contains(day));
        for bundled in [false, true] {
            if bundled {
                site.succeeds(&["archive", camera, day]);
            }
            let listed = site.succeeds(&["list", camera, day]);
            let one = site.path(&format!("one {camera} {bundled}"));
            for (name, bytes) in &files {
                let name = name.replace('\\', "%5C");
                assert!(listed.contains(&name), "{listed}");
                site.succeeds(&["get", camera, day, &name, "--to", one.to_str().unwrap()]);
                assert_eq!(fs::read(one.join(&name)).unwrap(), bytes.as_bytes(), "{name}");
            }
            let all = site.path(&format!("all {camera} {bundled}"));
            site.succeeds(&["get", camera, day, "--to", all.to_str().unwrap()]);
            assert_eq!(files_of(&all), files_of(&one), "{camera}");
            site.succeeds(&["verify", camera, "--deep"]);
        }
    }
}

/// The contents of the files below a folder, by their names.
fn files_of(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(folder).iter().map(|path| (path.file_name().unwrap().into(), fs::read(path).unwrap())).collect()
}

#[test]
fn names_with_backslashes_and_dashes_are_listed_and_brought_back_at_seaweedfs() {
    names_that_stores_and_command_lines_take_for_something_else_are_listed_and_brought_back(Kind::SeaweedFs);
}

#[test]
fn names_with_backslashes_and_dashes_are_listed_and_brought_back_at_moto() {
    names_that_stores_and_command_lines_take_for_something_else_are_listed_and_brought_back(Kind::Moto);
}
