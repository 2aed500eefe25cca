//! A box whose credentials may put and nothing else (`s3:PutObject`), on a server that enforces it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use hk_aws::bucket::PROBE;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::camera::{Picture, sha256};
use crate::daemon::{BINARY, Daemon, SOON, wait_for};
use crate::installation::path_of;
use crate::proxy::{Exchange, Proxy};
use crate::store::{BUCKET, Kind, REGION, Store};

/// Three parts of an upload.
const CLIP_BYTES: usize = 17 << 20;

/// A whole clip on a loaded machine.
const LONG: Duration = Duration::from_mins(1);

struct WriteOnly {
    // In the order in which they end: whoever sends before whoever receives.
    daemon: Option<Daemon>,
    proxy: Proxy,
    store: Store,
    keys: (String, String),
    folder: TempDir,
}

impl WriteOnly {
    fn start() -> Self {
        let mut store = Store::start(Kind::Moto);
        let keys = store.restrict(&["s3:PutObject"]);
        let proxy = Proxy::start(&store.endpoint());
        let folder = TempDir::with_prefix("hk-aws-write-only-").unwrap();
        fs::create_dir_all(folder.path().join("drop/CAM")).unwrap();
        let below = folder.path().display();
        let config = format!(
            "drop_folder: {{path: {below}/drop}}\nstate_dir: {below}/state\nruntime_dir: {below}/run\ntimezone: {zone}\n\
             s3: {{bucket: {BUCKET}, region: {REGION}, endpoint_url: '{endpoint}', path_style: true, access: write-only}}\n\
             keep: {{days: 0, min_free: 1MiB}}\nlog: {{target: stderr}}\n",
            zone = crate::camera::ZONE,
            endpoint = proxy.endpoint(),
        );
        fs::write(folder.path().join("config.yaml"), config).unwrap();
        let mut site = Self { daemon: None, proxy, store, keys, folder };
        site.start_daemon();
        site
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = Daemon::command(BINARY);
        command.arg("--config").arg(self.folder.path().join("config.yaml")).args(arguments);
        command.env("AWS_ACCESS_KEY_ID", &self.keys.0).env("AWS_SECRET_ACCESS_KEY", &self.keys.1);
        command
    }

    fn start_daemon(&mut self) {
        let before = self.proxy.probes().len();
        let command = self.command(&["run"]);
        let daemon = self.daemon.insert(Daemon::start(command, self.folder.path()));
        daemon.wait_for_notice("READY=1", 0);
        // It ends when the store refuses to overwrite: nothing may take its object away.
        wait_for("the end of the probe", SOON, || {
            let refused = |probe: &&Exchange| probe.status == Some(412) && probe.answered.is_some();
            self.proxy.probes()[before..].iter().find(refused).map(|_| ())
        });
    }

    fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.signal(Signal::KILL);
        daemon.wait_for_end(SOON);
    }

    /// Lays a file into the drop folder as by renaming; gives back its path.
    fn lay_down(&self, picture: &Picture) -> PathBuf {
        let (elsewhere, path) = (self.folder.path().join("new"), self.folder.path().join("drop").join(picture.path()));
        fs::write(&elsewhere, &picture.bytes).unwrap();
        fs::rename(elsewhere, &path).unwrap();
        path
    }

    fn wait_until_gone(&self, path: &PathBuf) {
        wait_for("the end of the upload", LONG, || (!path.exists()).then_some(()));
        assert!(self.folder.path().exists());
    }

    /// The keys of captures, as the operator lists them.
    fn captures(&self) -> Vec<String> {
        self.store.keys().into_iter().filter(|key| key != PROBE).collect()
    }

    /// Looks that each content is there, and nothing else.
    fn holds(&self, contents: &[&[u8]]) {
        let stored: Vec<String> = self.captures().iter().map(|key| sha256(&self.store.get(key).bytes)).collect();
        for content in contents {
            assert!(stored.contains(&sha256(content)), "{} is not stored", sha256(content));
        }
        let sent: Vec<String> = contents.iter().map(|content| sha256(content)).collect();
        assert!(stored.iter().all(|hash| sent.contains(hash)), "something else is stored");
    }

    /// Every request that was made, by what is allowed: put, and the parts of it.
    fn asked_for_no_more_than_putting(&self) {
        for exchange in self.proxy.exchanges() {
            let put = matches!(exchange.method.as_str(), "PUT" | "POST");
            let abort = exchange.method == "DELETE" && exchange.query.contains("uploadId=");
            assert!(put || abort, "{exchange:?}");
            if put {
                assert!(matches!(exchange.status, Some(200 | 412)), "{exchange:?}");
            } else {
                assert_eq!(exchange.status, Some(403), "to abort is not allowed, and no fault");
            }
        }
    }
}

fn clip(number: u64, seed: u8) -> Picture {
    let picture = Picture::take("CAM", number);
    let bytes: Vec<u8> = (0..CLIP_BYTES).map(|at| seed.wrapping_add(u8::try_from(at % 251).unwrap())).collect();
    Picture { name: picture.name.replace(".jpg", ".mp4"), bytes, ..picture }
}

#[test]
fn i8_a_box_that_may_only_put_stores_pictures_and_clips() {
    let site = WriteOnly::start();
    let pictures: Vec<Picture> = (0..20).map(|number| Picture::take("CAM", number)).chain([clip(20, 1)]).collect();
    let paths: Vec<PathBuf> = pictures.iter().map(|picture| site.lay_down(picture)).collect();
    for path in &paths {
        site.wait_until_gone(path);
    }
    let mut keys: Vec<String> = pictures.iter().map(Picture::key).collect();
    keys.sort();
    assert_eq!(site.captures(), keys);
    for picture in &pictures {
        assert!(site.store.get(&picture.key()).bytes == picture.bytes, "{} has other bytes", picture.key());
    }
    site.asked_for_no_more_than_putting();
    assert_eq!(site.proxy.exchanges().len(), 20 + 1 + 3 + 1, "one request a picture; create, three parts, complete");
    assert_eq!(site.store.answers_to_reading(&site.keys, &pictures[0].key()), [403; 4], "the keys may really not read");

    // Without versions, captures could be overwritten for good here, as the server does not know the template's policy.
    site.store.keep_versions();
    let doctor = site.command(&["doctor", "--json"]).output().unwrap();
    let said = String::from_utf8(doctor.stdout).unwrap();
    let outcome = |name: &str| {
        let lines = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let line = lines.into_iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("no {name} in {said}"));
        line["outcome"].as_str().unwrap().to_owned()
    };
    let outcomes = ["clock", "put", "conditional writes", "checksums", "rights"].map(outcome);
    // The server takes what it is sent, whatever its checksum.
    assert_eq!(outcomes, ["ok", "ok", "ok", "warn", "ok"], "{said}");
    assert_eq!(doctor.status.code(), Some(0), "{said}");
}

#[test]
fn i2_a_lost_reply_and_a_resend_of_other_bytes_overwrite_nothing_where_only_put_is_allowed() {
    let site = WriteOnly::start();
    let first = Picture::take("CAM", 0);
    site.proxy.lose_answer_to("PutObject");
    site.wait_until_gone(&site.lay_down(&first));
    assert!(site.proxy.has_lost());
    assert!(site.store.get(&first.key()).bytes == first.bytes);
    let second = first.taken_again(1);
    site.wait_until_gone(&site.lay_down(&second));
    assert!(site.store.get(&first.key()).bytes == first.bytes, "the first one is overwritten");
    assert!(site.store.get(&second.key_beside("", &second.bytes)).bytes == second.bytes);

    let one = clip(2, 1);
    site.proxy.lose_answer_to(".mp4?uploadId=");
    site.wait_until_gone(&site.lay_down(&one));
    assert!(site.proxy.has_lost());
    let two = clip(2, 2);
    // The ledger would tell beforehand that the key is taken.
    fs::remove_dir_all(site.folder.path().join("state/ledger")).unwrap();
    site.wait_until_gone(&site.lay_down(&two));
    assert!(site.store.get(&one.key()).bytes == one.bytes, "the first clip is overwritten");
    site.holds(&[&first.bytes, &second.bytes, &one.bytes, &two.bytes]);
    site.asked_for_no_more_than_putting();
    let aborts = site.proxy.exchanges().iter().filter(|exchange| exchange.method == "DELETE").count();
    assert!(aborts > 0, "the taken key was found out at the end, and the abort refused");
}

#[test]
fn i5_a_box_killed_in_mid_upload_stores_it_all_after_its_restart_where_only_put_is_allowed() {
    let mut site = WriteOnly::start();
    let (picture, clip) = (Picture::take("CAM", 0), clip(1, 1));
    site.proxy.hold_answers_to("partNumber=2");
    let clip_path = site.lay_down(&clip);
    wait_for("the second part", LONG, || {
        site.proxy.exchanges().iter().find(|exchange| exchange.query.contains("partNumber=2")).map(|_| ())
    });
    site.kill_daemon();
    assert!(clip_path.exists() && site.captures().is_empty());
    site.proxy.release_answers();
    site.start_daemon();
    site.wait_until_gone(&clip_path);

    site.proxy.hold_answers_to("PutObject");
    let picture_path = site.lay_down(&picture);
    let path = path_of(&picture.key());
    wait_for("the picture in the bucket", SOON, || {
        site.proxy.exchanges().iter().find(|exchange| exchange.path == path && exchange.status.is_some()).map(|_| ())
    });
    site.kill_daemon();
    assert!(picture_path.exists());
    site.proxy.release_answers();
    site.start_daemon();
    site.wait_until_gone(&picture_path);
    assert!(site.store.get(&picture.key()).bytes == picture.bytes && site.store.get(&clip.key()).bytes == clip.bytes);
    site.holds(&[&picture.bytes, &clip.bytes]);
}
