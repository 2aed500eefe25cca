//! How FTP servers put a camera's uploads on the disk, and that each way ends with the whole capture in the bucket.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::camera::{End, Picture, Session, sha256};
use crate::daemon::{BINARY, Daemon, SOON, wait_for};
use crate::ftp_server::{FtpServer, Kind};
use crate::household::{Household, Shot};
use crate::installation::{BURST, files};
use crate::memory_s3::{ACCESS_KEY, Fault, MemoryS3, Object, REGION, SECRET_KEY};

/// Runs each test through each server.
macro_rules! through {
    ($($module:ident: $kind:expr, $tests:tt;)+) => { $(mod $module { through!(@ $kind, $tests); })+ };
    (@ $kind:expr, [$($test:ident),+ $(,)?]) => { $(#[test] fn $test() { super::$test($kind); })+ };
}

through! {
    vsftpd: super::Kind::Vsftpd, [
        a_rest_that_comes_after_its_part_was_disposed_of_is_joined_with_it,
        a_transfer_that_stalls_is_stored_as_far_as_it_came_and_then_whole,
        what_the_camera_renames_or_dates_anew_while_it_goes_up_is_one_capture,
        a_transfer_that_breaks_off_and_comes_again_ends_whole, a_transfer_that_is_resumed_ends_whole,
        a_rename_by_the_camera_ends_under_the_last_name, a_trickle_with_long_stalls_is_stored_once,
        both_contents_of_a_name_are_stored, two_clients_at_one_name_leave_the_last_content,
        a_name_made_up_by_the_server_is_stored, eight_sessions_into_twelve_cameras_lose_nothing,
        i1_no_version_that_was_acknowledged_is_lost_in_a_race_for_its_name,
    ];
    pure_ftpd: super::Kind::PureFtpd, [
        a_rest_that_comes_after_its_part_was_disposed_of_is_joined_with_it,
        a_transfer_that_stalls_is_stored_as_far_as_it_came_and_then_whole,
        what_the_camera_renames_or_dates_anew_while_it_goes_up_is_one_capture,
        a_transfer_that_breaks_off_and_comes_again_ends_whole, a_transfer_that_is_resumed_ends_whole,
        a_rename_by_the_camera_ends_under_the_last_name, a_trickle_with_long_stalls_is_stored_once,
        both_contents_of_a_name_are_stored, two_clients_at_one_name_leave_the_last_content,
        a_name_made_up_by_the_server_is_stored, eight_sessions_into_twelve_cameras_lose_nothing,
        i1_no_version_that_was_acknowledged_is_lost_in_a_race_for_its_name,
    ];
    pure_ftpd_hidden: super::Kind::PureFtpdHidden, [
        a_transfer_that_breaks_off_and_comes_again_ends_whole, a_transfer_that_is_resumed_ends_whole,
        a_rename_by_the_camera_ends_under_the_last_name, a_trickle_with_long_stalls_is_stored_once,
        both_contents_of_a_name_are_stored, two_clients_at_one_name_leave_the_last_content,
        a_name_made_up_by_the_server_is_stored, eight_sessions_into_twelve_cameras_lose_nothing,
        i1_no_version_that_was_acknowledged_is_lost_in_a_race_for_its_name,
    ];
    proftpd: super::Kind::ProFtpd, [
        a_rest_that_comes_after_its_part_was_disposed_of_is_joined_with_it,
        a_transfer_that_stalls_is_stored_as_far_as_it_came_and_then_whole,
        what_the_camera_renames_or_dates_anew_while_it_goes_up_is_one_capture,
        a_transfer_that_breaks_off_and_comes_again_ends_whole, a_transfer_that_is_resumed_ends_whole,
        a_rename_by_the_camera_ends_under_the_last_name, a_trickle_with_long_stalls_is_stored_once,
        both_contents_of_a_name_are_stored, two_clients_at_one_name_leave_the_last_content,
        a_name_made_up_by_the_server_is_stored, eight_sessions_into_twelve_cameras_lose_nothing,
        i1_no_version_that_was_acknowledged_is_lost_in_a_race_for_its_name,
    ];
    // It refuses to resume: a hidden file starts at its beginning.
    proftpd_hidden: super::Kind::ProFtpdHidden, [
        a_transfer_that_breaks_off_and_comes_again_ends_whole,
        a_rename_by_the_camera_ends_under_the_last_name, a_trickle_with_long_stalls_is_stored_once,
        both_contents_of_a_name_are_stored, two_clients_at_one_name_leave_the_last_content,
        a_name_made_up_by_the_server_is_stored, eight_sessions_into_twelve_cameras_lose_nothing,
        i1_no_version_that_was_acknowledged_is_lost_in_a_race_for_its_name,
    ];
}

const BUCKET: &str = "captures";

/// How long a file rests before it counts as complete where nobody was seen closing it.
const SETTLE: Duration = Duration::from_millis(500);

/// Cameras that push to one server, and the daemon that stores in memory what lies in its root.
struct Site {
    // In the order in which they end.
    daemon: Option<Daemon>,
    ftp: FtpServer,
    s3: MemoryS3,
    runtime: Runtime,
    folder: TempDir,
}

impl Site {
    fn without_daemon(kind: Kind) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let s3 = runtime.block_on(MemoryS3::start(BUCKET));
        let folder = TempDir::with_prefix("hk-aws-uploads-").unwrap();
        Self { daemon: None, ftp: FtpServer::start(kind), s3, runtime, folder }
    }

    fn start(kind: Kind) -> Self {
        Self::start_with(kind, "")
    }

    /// With `more` keys of the drop folder (`, key: value`).
    fn start_with(kind: Kind, more: &str) -> Self {
        let mut site = Self::without_daemon(kind);
        site.start_daemon_with(more);
        site
    }

    fn start_daemon_with(&mut self, more: &str) {
        let (below, settle) = (self.folder.path().display(), SETTLE.as_millis());
        let config = format!(
            "state_dir: {below}/state\nruntime_dir: {below}/run\ntimezone: {zone}\n\
             drop_folder: {{path: {root}, settle: {settle}ms, rescan: 1h{more}}}\n\
             s3: {{bucket: {BUCKET}, region: {REGION}, endpoint_url: '{endpoint}', path_style: true}}\n\
             keep: {{days: 0}}\nlog: {{target: stderr}}\n",
            zone = crate::camera::ZONE,
            root = self.ftp.root().display(),
            endpoint = self.s3.endpoint(),
        );
        let file = self.folder.path().join("config.yaml");
        fs::write(&file, config).unwrap();
        let mut command = Daemon::command(BINARY);
        command.arg("--config").arg(file).arg("run");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        self.daemon.insert(Daemon::start(command, self.folder.path())).wait_for_notice("READY=1", 0);
    }

    fn session(&self) -> Session {
        Session::open(&self.ftp)
    }

    /// A session that has made the picture's folder.
    fn session_for(&self, picture: &Picture) -> Session {
        let mut session = self.session();
        session.make_folders(picture);
        session
    }

    fn waiting_files(&self) -> Vec<PathBuf> {
        files(&self.ftp.root())
    }

    /// Every object with its key.
    fn objects(&self) -> Vec<(String, Object)> {
        self.s3.look(|state| state.objects().iter().map(|(key, object)| (key.clone(), object.clone())).collect())
    }

    fn holds(&self, bytes: &[u8]) -> bool {
        let wanted = sha256(bytes);
        self.s3.look(|state| state.objects().values().any(|object| object.sha256 == wanted))
    }

    /// Breaks a picture's upload off; answers how much of it the server has, once that is in the bucket as well.
    fn leave_part(&self, picture: &Picture) -> usize {
        self.session_for(picture).push_cut_off(picture, picture.bytes.len() / 2, End::PowerLost);
        let path = self.ftp.root().join(picture.path());
        wait_for("the part in the bucket", BURST, || {
            // It waits on the disk for its camera.
            let part = fs::read(&path).ok().filter(|part| !part.is_empty())?;
            assert!(picture.bytes.starts_with(&part));
            self.holds(&part).then_some(part.len())
        })
    }

    /// Waits until the bucket holds each of the pictures and nothing waits in the drop folder, then stops the daemon.
    fn finish(mut self, pictures: &[&Picture]) -> Vec<(String, Object)> {
        let missing = || pictures.iter().filter(|picture| !self.holds(&picture.bytes)).count();
        wait_for("every picture in the bucket", BURST, || (missing() == 0).then_some(()));
        wait_for("an empty drop folder", SOON, || self.waiting_files().is_empty().then_some(()));
        let mut daemon = self.daemon.take().unwrap();
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.wait_for_end(SOON).code(), Some(0));
        let objects = self.objects();
        // In the order in which they end.
        drop(self.ftp);
        self.runtime.shutdown_background();
        objects
    }
}

/// Holds the bucket against the pictures: each under its key, and beside it at most parts of it that say so.
fn assert_whole(objects: &[(String, Object)], pictures: &[&Picture]) {
    for picture in pictures {
        let (_, object) = objects.iter().find(|(key, _)| *key == picture.key()).unwrap();
        assert_eq!(object.sha256, sha256(&picture.bytes), "{}", picture.key());
        assert!(!object.metadata.contains_key("partial"), "{}", picture.key());
    }
    for (key, object) in objects {
        let bytes = object.bytes.as_ref().unwrap();
        let is_whole = pictures.iter().any(|picture| *key == picture.key());
        let is_part = pictures.iter().any(|picture| {
            *key == picture.key_beside("partial-", bytes)
                && picture.bytes.starts_with(bytes)
                && object.metadata.get("partial").is_some_and(|partial| partial == "true")
        });
        assert!(is_whole || is_part, "{key} with {} bytes", bytes.len());
    }
}

fn a_transfer_that_breaks_off_and_comes_again_ends_whole(kind: Kind) {
    let site = Site::start(kind);
    let pictures: Vec<Picture> = (0..2).map(|number| Picture::take("CAM-EXT-001", number)).collect();
    for (picture, end) in pictures.iter().zip([End::PowerLost, End::Killed]) {
        for part in [3, 2] {
            site.session_for(picture).push_cut_off(picture, picture.bytes.len() / part, end);
        }
        site.session().push(picture);
    }
    let pictures: Vec<&Picture> = pictures.iter().collect();
    assert_whole(&site.finish(&pictures), &pictures);
}

fn a_transfer_that_is_resumed_ends_whole(kind: Kind) {
    let site = Site::start(kind);
    let pictures: Vec<Picture> = (0..2).map(|number| Picture::take("CAM-EXT-001", number)).collect();
    let lengths: Vec<usize> = pictures.iter().map(|picture| site.leave_part(picture)).collect();
    match kind {
        // Its APPE throws away what was there: the file becomes what is appended.
        Kind::PureFtpdHidden => site.session().restart_from(&pictures[0], lengths[0]),
        _ => site.session().append_from(&pictures[0], lengths[0]),
    }
    site.session().restart_from(&pictures[1], lengths[1]);
    let pictures: Vec<&Picture> = pictures.iter().collect();
    let objects = site.finish(&pictures);
    assert_whole(&objects, &pictures);
    assert_eq!(objects.len(), 4, "each picture and its first part");
}

fn a_rename_by_the_camera_ends_under_the_last_name(kind: Kind) {
    let site = Site::start(kind);
    let first = Picture::take("CAM-EXT-001", 0);
    let mut session = site.session_for(&first);
    session.push_and_rename(&first, "picture.tmp");
    wait_for("the first in the bucket", BURST, || site.holds(&first.bytes).then_some(()));
    let second = Picture::take("CAM-EXT-001", 1);
    if kind != Kind::ProFtpdHidden {
        // Where the name is taken, by a part that waits for its camera, the rename goes over it.
        site.leave_part(&second);
    }
    session.push_and_rename(&second, "picture.tmp");
    let pictures = [&first, &second];
    assert_whole(&site.finish(&pictures), &pictures);
}

fn a_trickle_with_long_stalls_is_stored_once(kind: Kind) {
    let site = Site::start(kind);
    let picture = Picture::take("CAM-EXT-001", 0);
    site.session_for(&picture).push_slowly(&picture, 4, || {
        thread::sleep(3 * SETTLE);
        assert!(site.s3.requests().is_empty(), "nothing is sent of a picture that still comes");
    });
    let objects = site.finish(&[&picture]);
    assert_whole(&objects, &[&picture]);
    assert_eq!(objects.len(), 1);
}

fn both_contents_of_a_name_are_stored(kind: Kind) {
    let site = Site::start(kind);
    let first = Picture::take("CAM-EXT-001", 0);
    let second = first.taken_again(1);
    let mut session = site.session_for(&first);
    session.push(&first);
    wait_for("the first in the bucket", BURST, || site.holds(&first.bytes).then_some(()));
    session.push(&second);
    let objects = site.finish(&[&first, &second]);
    let keys: Vec<&String> = objects.iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [&first.key(), &first.key_beside("", &second.bytes)]);
}

/// Two clients send to one name, one all the while that the other one does.
fn push_crosswise(site: &Site, long: &Picture, short: &Picture) {
    let mut session = site.session_for(long);
    thread::scope(|scope| {
        let mut other = None;
        session.push_slowly(long, 2, || {
            // vsftpd lets the second one wait for the first, proftpd with hidden files refuses it.
            other.get_or_insert_with(|| scope.spawn(|| site.session().push_unless_refused(short)));
            thread::sleep(SETTLE);
        });
    });
}

fn two_clients_at_one_name_leave_the_last_content(kind: Kind) {
    let long = Picture::take("CAM-EXT-001", 0);
    let short = long.taken_again(1);
    let site = Site::without_daemon(kind);
    push_crosswise(&site, &long, &short);
    let last = fs::read(site.ftp.root().join(long.path())).unwrap();
    drop(site);

    let site = Site::start(kind);
    push_crosswise(&site, &long, &short);
    let last = Picture { bytes: last, ..long.clone() };
    for (key, object) in site.finish(&[&last]) {
        let bytes = object.bytes.unwrap();
        let known = [&last, &long, &short].iter().any(|picture| picture.bytes.starts_with(&bytes));
        assert!(known, "{key} is what nobody sent");
    }
}

fn a_name_made_up_by_the_server_is_stored(kind: Kind) {
    let site = Site::start(kind);
    let pictures: Vec<Picture> = (0..3).map(|number| Picture::take("CAM-EXT-001", number)).collect();
    let mut session = site.session_for(&pictures[0]);
    for picture in &pictures {
        session.push_unique(picture);
    }
    let objects = site.finish(&pictures.iter().collect::<Vec<_>>());
    assert_eq!(objects.len(), pictures.len(), "{:?}", objects.iter().map(|(key, _)| key).collect::<Vec<_>>());
}

fn eight_sessions_into_twelve_cameras_lose_nothing(kind: Kind) {
    const SESSIONS: usize = 8;
    let site = Site::start(kind);
    // Every picture lies in a folder that is made just before it.
    let pictures: Vec<Picture> = (0..96)
        .map(|number| {
            let picture = Picture::take_small(&format!("CAM-EXT-{:03}", number % 12 + 1), number);
            picture.clone().called(&picture.camera, &format!("{number}/{}", picture.name))
        })
        .collect();
    let together = Barrier::new(SESSIONS);
    let pushed: Vec<(String, Instant)> = thread::scope(|scope| {
        let bursts: Vec<_> = pictures
            .chunks(pictures.len() / SESSIONS)
            .map(|burst| {
                let (mut session, together) = (site.session(), &together);
                scope.spawn(move || {
                    together.wait();
                    let push = |picture: &Picture| {
                        session.make_folders(picture);
                        (sha256(&picture.bytes), session.push(picture))
                    };
                    burst.iter().map(push).collect::<Vec<_>>()
                })
            })
            .collect();
        bursts.into_iter().flat_map(|burst| burst.join().unwrap()).collect()
    });
    let requests = {
        wait_for("every picture in the bucket", BURST, || (site.objects().len() == pictures.len()).then_some(()));
        site.s3.requests()
    };
    let objects = site.finish(&pictures.iter().collect::<Vec<_>>());
    assert_eq!(objects.len(), pictures.len(), "each once");
    let mut delays: Vec<Duration> = pushed
        .iter()
        .map(|(hash, end)| {
            let (key, _) = objects.iter().find(|(_, object)| object.sha256 == *hash).unwrap();
            let request = requests.iter().find(|request| request.key == *key).unwrap();
            request.answered.unwrap().saturating_duration_since(*end)
        })
        .collect();
    delays.sort();
    // Written past the test runner's capture: a measurement is for reading, also when all is well.
    writeln!(
        std::io::stderr().lock(),
        "{kind:?}: {} pictures in {SESSIONS} sessions at once; 226 to stored: p50 {:.0?}, p99 {:.0?}",
        delays.len(),
        delays[delays.len() / 2],
        delays[delays.len() * 99 / 100]
    )
    .unwrap();
}

fn a_rest_that_comes_after_its_part_was_disposed_of_is_joined_with_it(kind: Kind) {
    let site = Site::start_with(kind, ", partial_after: 300ms");
    let pictures: Vec<Picture> = (0..2).map(|number| Picture::take("CAM-EXT-001", number)).collect();
    for (number, picture) in pictures.iter().enumerate() {
        site.session_for(picture).push_cut_off(picture, picture.bytes.len() / 2, End::PowerLost);
        let part = wait_for("a part that is disposed of", BURST, || {
            let objects = site.objects();
            let part =
                objects.iter().rev().find(|(key, _)| key.starts_with(picture.key().strip_suffix(".jpg").unwrap()))?;
            site.waiting_files().is_empty().then_some(part.1.len)
        });
        let part = usize::try_from(part).unwrap();
        // vsftpd alone lets a camera resume where there is no file.
        if kind == Kind::Vsftpd && number == 0 {
            site.session().restart_from(picture, part);
        } else {
            site.session().append_from(picture, part);
        }
    }
    let objects = site.finish(&pictures.iter().collect::<Vec<_>>());
    for picture in &pictures {
        let whole = objects.iter().find(|(key, _)| *key == picture.key()).unwrap();
        assert_eq!(whole.1.sha256, sha256(&picture.bytes));
    }
    assert_eq!(objects.len(), 6, "each with both of its parts");
}

fn a_transfer_that_stalls_is_stored_as_far_as_it_came_and_then_whole(kind: Kind) {
    let site = Site::start_with(kind, ", stalled: 300ms");
    let picture = Picture::take("CAM-EXT-001", 1);
    let mut parts = 0;
    site.session_for(&picture).push_slowly(&picture, 2, || {
        parts += 1;
        // Nothing tells the server that the cable is cut.
        if parts == 1 {
            let is_part = |(key, _): &(String, Object)| key.contains("~partial-");
            wait_for("the part in the bucket", BURST, || site.objects().iter().any(is_part).then_some(()));
            assert_eq!(site.waiting_files().len(), 1, "it stays where it is");
        }
    });
    assert_whole(&site.finish(&[&picture]), &[&picture]);
}

fn what_the_camera_renames_or_dates_anew_while_it_goes_up_is_one_capture(kind: Kind) {
    let site = Site::start(kind);
    let renamed = Picture::take("CAM-EXT-001", 1);
    let dated = Picture::take("CAM-EXT-001", 2).called("CAM-EXT-001", "snapshot.jpg");
    for picture in [&renamed, &dated] {
        let before = site.s3.count("PutObject");
        site.s3.fault(Fault::hang("PutObject").times(1));
        let mut session = site.session_for(picture);
        session.push(picture);
        wait_for("its upload", BURST, || (site.s3.count("PutObject") > before).then_some(()));
        if picture.name == dated.name {
            session.date_anew(picture, kind);
        } else {
            session.rename(picture, &format!("{}/other-{}", picture.camera, picture.name));
        }
        site.s3.clear_faults();
        wait_for("an empty drop folder", BURST, || site.waiting_files().is_empty().then_some(()));
    }
    let objects = site.finish(&[&renamed, &dated]);
    assert_eq!(objects.len(), 2, "{:?}", objects.iter().map(|(key, _)| key).collect::<Vec<_>>());
}

/// A camera sends ever new content under one name while the daemon takes versions away. What was acknowledged is
/// stored, unless the camera itself wrote over it.
fn i1_no_version_that_was_acknowledged_is_lost_in_a_race_for_its_name(kind: Kind) {
    const TIME: Duration = Duration::from_secs(2);
    const RACES: usize = 10;
    let site = Site::start(kind);
    let first = Picture::take_small("CAM-EXT-001", 0);
    let mut session = site.session_for(&first);
    let (mut taken_away, mut last) = (Vec::new(), first.clone());
    let begin = Instant::now();
    for number in 0.. {
        last = Picture { bytes: Picture::take_small("", number).bytes, ..first.clone() };
        session.push(&last);
        // On a busy machine the daemon seldom comes in between.
        if begin.elapsed() > TIME && (taken_away.len() > RACES || begin.elapsed() > BURST) {
            break;
        }
        // From at once to long after the daemon has taken it, and most often in the midst of that.
        thread::sleep(Duration::from_micros(number * 1_733 % 23_000));
        // Neither under its name nor aside: the next upload can't write over it.
        if site.waiting_files().is_empty() {
            taken_away.push(last.clone());
        }
    }
    let expected: Vec<&Picture> = taken_away.iter().chain([&last]).collect();
    let versions = expected.len();
    let objects = site.finish(&expected);
    assert!(versions > RACES, "only {versions} versions were taken away: this was no race");
    assert!(objects.iter().all(|(key, _)| !key.contains("partial")), "every version was whole when it was stored");
}

/// Leads the name of AWS's own endpoint to this machine, for one program alone.
const AT_HOME: &str = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";

#[test]
fn i1_a_write_only_box_at_aws_stores_both_contents_of_a_name() {
    let mut house = Household::new();
    let hosts = tempfile::NamedTempFile::new().unwrap();
    fs::write(&hosts, "127.0.0.1 localhost s3.eu-central-1.amazonaws.com\n").unwrap();
    let port = house.s3.endpoint().rsplit(':').next().unwrap().to_owned();
    house.endpoint = Some(format!("http://s3.eu-central-1.amazonaws.com:{port}"));
    house.s3_keys = ", access: write-only";
    let hosts = hosts.path().to_str().unwrap();
    let end = ["setpriv", "--pdeathsig", "KILL", "--"];
    let through = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", AT_HOME, hosts];
    house.start_through(&[&end[..], &through].concat(), "days: 0, min_free: 0");
    let first = Shot::new("CAM", 1, 3000);
    house.lay_down(&first).unwrap();
    house.wait_until_empty();
    assert!(house.holds(&first));
    assert!(house.s3.look(|state| state.requests().iter().all(|request| !request.is_probe())), "it is taken for AWS");
    let mut second = first.clone();
    second.bytes = Shot::new("CAM", 2, 3000).bytes;
    house.lay_down(&second).unwrap();
    house.wait_until_empty();
    let stored = |sha256: &str| house.s3.look(|state| state.objects().values().any(|object| object.sha256 == sha256));
    assert!(stored(&first.sha256()) && stored(&second.sha256()), "{:?}", house.s3.keys());
}
