//! `hk-aws rotate` killed at any moment, again and again, while late captures come in and the store fails now and then:
//! no capture is ever nowhere, and in the end each is there once.
//!
//! Seeds and numbers are told and set as for the killed daemon: `HK_AWS_KILL_SEED`, `HK_AWS_KILLS`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use chrono::{Days, NaiveDate, Utc};
use hk_aws::bucket::{MULTIPART_FROM, PROBE};
use hk_aws::bundle::{self, Index, Member};
use hk_aws::key::ArchiveFormat;
use hk_aws::ledger;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::kill::{Chance, Moment, told_of_kills};
use crate::process::daemon::{BINARY, Daemon, SOON, wait_for};
use crate::support::s3::{ACCESS_KEY, Fault, MemoryS3, REGION, SECRET_KEY, State};
use crate::support::site::{files, sha256};

const CAMERAS: [&str; 2] = ["CAM-EXT-1", "CAM-EXT-2"];

/// How many days ago captures were taken: all are old enough to be bundled but those of the last day.
const DAYS_AGO: [u64; 4] = [33, 31, 30, 3];

/// Three of them are more than the 5 MiB that a part holds here, the least that may be set.
const CLIP: u64 = 2 << 20;

/// The requests of a run that has much to do.
const REQUESTS: u64 = 60;

/// A capture: the key under which it was stored, and its SHA-256.
pub(crate) type Capture = (String, String);

#[tokio::test(flavor = "multi_thread")]
async fn i4_i5_a_rotation_killed_anywhere_loses_no_capture_and_in_the_end_has_each_once() {
    let (seed, kills) = told_of_kills("rotate");
    let mut place = Place::new(MemoryS3::start("captures").await, Chance(seed));
    place.come(40);
    let mut fell = BTreeMap::new();
    for _ in 0..kills {
        if place.chance.below(3) == 0 {
            let count = 1 + place.chance.below(12);
            place.come(count);
        }
        place.arm();
        place.configure();
        let before = place.s3.look(|state| state.requests().len());
        let mut rotation = place.start(&["rotate"]);
        Moment::random(&mut place.chance, REQUESTS).wait(&place.s3, before, || rotation.has_ended());
        let ended = rotation.has_ended();
        // SIGKILL.
        drop(rotation);
        let found = place.autopsy(before, ended);
        *fell.entry(found).or_insert(0) += 1;
        place.s3.clear_faults();
        place.check_nothing_is_lost();
    }
    place.configure();
    let mut last = place.start(&["rotate"]);
    assert_eq!(last.wait(), 0, "{}", place.log());
    eprintln!("{} captures; {kills} kills, by what they left:", place.captures.len());
    for (finding, count) in &fell {
        eprintln!("{count:5}  {finding}");
    }
    place.check_the_end();
}

/// A box, its store, and what was ever stored there.
struct Place {
    folder: TempDir,
    s3: MemoryS3,
    chance: Chance,
    count: u32,
    /// Paths below the drop folder and what was sent there, to be sent again.
    sent: Vec<(String, Vec<u8>)>,
    captures: BTreeSet<Capture>,
    /// What is in the bundles that were looked at, by key and SHA-256 of bundle and index.
    seen: HashMap<[String; 3], Vec<Capture>>,
}

impl Place {
    fn new(s3: MemoryS3, chance: Chance) -> Self {
        let folder = TempDir::with_prefix("hk-aws-archive-kill-").unwrap();
        fs::create_dir(folder.path().join("drop")).unwrap();
        let (sent, captures) = (Vec::new(), BTreeSet::new());
        let mut place = Self { folder, s3, chance, count: 0, sent, captures, seen: HashMap::new() };
        place.configure();
        place
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Writes the settings, with any of the formats.
    fn configure(&mut self) {
        let format = ArchiveFormat::ALL[usize::try_from(self.chance.below(3)).unwrap()].extension();
        let at = self.folder.path().display();
        let config = format!(
            "state_dir: {at}/state\nruntime_dir: {at}/run\ntimezone: UTC\nmax_clock_skew: null\n\
             drop_folder: {{path: {at}/drop, settle: 0s}}\n\
             s3: {{bucket: captures, region: {REGION}, endpoint_url: '{}', path_style: true}}\n\
             keep: {{min_free: 0}}\nrotate: {{archive: {{format: {format}, part_size: 5MiB}}}}\n",
            self.s3.endpoint()
        );
        fs::write(self.path("config.yaml"), config).unwrap();
    }

    fn start(&self, arguments: &[&str]) -> Process {
        let mut command = Daemon::command(BINARY);
        command.arg("--config").arg(self.path("config.yaml")).arg("--quiet").args(arguments);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        Process::start(command, &File::options().create(true).append(true).open(self.path("log")).unwrap())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Lets captures come and stores them as a person would; then some local copies go or are not what they were.
    fn come(&mut self, count: u64) {
        let mut coming = BTreeMap::new();
        for _ in 0..count {
            let again = (self.chance.below(6) == 0).then(|| self.any()).flatten();
            let (source, bytes) = match again {
                // Sent once more, or another capture under the name of one that is there or in a bundle.
                Some((source, bytes)) if self.chance.below(2) == 0 => (source, bytes),
                Some((source, _)) => (source, self.picture()),
                None => self.new_one(),
            };
            let path = self.path("drop").join(&source);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
            coming.insert(source, bytes);
        }
        let mut upload = self.start(&["upload"]);
        assert_eq!(upload.wait(), 0, "{}", self.log());
        assert_eq!(files(&self.path("drop")), Vec::<PathBuf>::new());
        let stored: Vec<Capture> = self.s3.look(|state| loose(state).collect());
        for (source, bytes) in &coming {
            let sha256 = sha256(bytes);
            assert!(stored.iter().any(|(_, stored)| *stored == sha256), "{source} is not stored\n{}", self.log());
        }
        self.sent.extend(coming);
        self.captures.extend(stored);
        for copy in files(&self.path("state/kept")) {
            let length = fs::metadata(&copy).unwrap().len();
            // Where both names of a copy hold other bytes, what is sent again has to stay in the drop folder.
            let is_second = copy.to_string_lossy().contains('~');
            match self.chance.below(20) {
                0 => fs::remove_file(copy).unwrap(),
                _ if is_second => {}
                1 => File::options().write(true).open(copy).unwrap().write_all(b"XX").unwrap(),
                2 => File::options().write(true).open(copy).unwrap().set_len(length / 2).unwrap(),
                _ => {}
            }
        }
    }

    fn any(&mut self) -> Option<(String, Vec<u8>)> {
        let count = u64::try_from(self.sent.len()).unwrap();
        (count > 0).then(|| self.sent[usize::try_from(self.chance.below(count)).unwrap()].clone())
    }

    fn new_one(&mut self) -> (String, Vec<u8>) {
        self.count += 1;
        let camera = CAMERAS[usize::try_from(self.chance.below(2)).unwrap()];
        let date = ago(DAYS_AGO[usize::try_from(self.chance.below(4)).unwrap()]).format("%Y%m%d");
        let (hour, minute, second) = (self.count / 3600, self.count / 60 % 60, self.count % 60);
        let name = format!("{camera}/192.168.1.64_01_{date}{hour:02}{minute:02}{second:02}000_MOTION_DETECTION");
        if self.count == 1 {
            return (format!("{name}.mp4"), self.clip(MULTIPART_FROM));
        }
        match self.chance.below(4) {
            0 => (format!("{name}.mp4"), self.clip(CLIP)),
            _ => (format!("{name}.jpg"), self.picture()),
        }
    }

    fn picture(&mut self) -> Vec<u8> {
        let length = 40 + self.chance.below(4000);
        let noise: Vec<u8> = (0..length).map(|_| self.chance.next().to_le_bytes()[0] & 0x7F).collect();
        [b"\xFF\xD8\xFF\xDA\x00\x02".as_slice(), &noise, b"\xFF\xD9"].concat()
    }

    /// Mostly nothing: what counts is how it travels.
    fn clip(&mut self, size: u64) -> Vec<u8> {
        let mut clip = format!("clip {}", self.chance.next()).into_bytes();
        clip.resize(usize::try_from(size + self.chance.below(4000)).unwrap(), 0);
        clip
    }

    /// Lets the store fail for once, or hang, or answer into the void.
    fn arm(&mut self) {
        let operations = ["PutObject", "PutObject", "DeleteObjects", "HeadObject", "GetObject", "ListObjectsV2"];
        let operation = operations[usize::try_from(self.chance.below(6)).unwrap()];
        let fault = match self.chance.below(8) {
            0 | 1 => Fault::lose_reply(operation),
            2 => Fault::fail(operation, 503, "SlowDown"),
            3 => Fault::hang(operation),
            4 => Fault::cut_body("PutObject", self.chance.below(100_000)),
            _ => return,
        };
        // So that it strikes later than at the first request of its kind.
        let passes = self.chance.below(10);
        if passes > 0 {
            let by = std::sync::atomic::AtomicU64::new(passes);
            let late = move |_: &str| by.fetch_update(SEQ, SEQ, |left| left.checked_sub(1)).is_err();
            self.s3.fault(fault.on_key(late).times(1));
        } else {
            self.s3.fault(fault.times(1));
        }
    }

    /// What a killed run had under way, of the things that count.
    fn autopsy(&self, before: usize, ended: bool) -> String {
        let asked = self.s3.look(|state| state.requests()[before..].to_vec());
        let mut findings: BTreeSet<&str> =
            asked.iter().filter(|request| request.answered.is_none()).map(|request| request.operation).collect();
        self.s3.look(|state| {
            let stems = |ending: &str| -> BTreeSet<String> {
                let keys = state.objects().keys().filter(|key| key.contains("/archive/"));
                keys.filter_map(|key| Some(key.split_once(ending)?.0.to_owned())).collect()
            };
            let (indexes, bundles) = (stems(".index.json"), stems(".tar"));
            if !indexes.is_subset(&bundles) {
                findings.insert("an index without its bundle");
            }
        });
        let (archived, loose) = self.holdings();
        if archived.iter().any(|(capture, _)| loose.contains(capture)) {
            findings.insert("bundled, not deleted");
        }
        if files(&self.path("state")).iter().any(|path| path.to_string_lossy().contains("spool-")) {
            findings.insert("fetched members left");
        }
        if ended {
            findings.insert("ended by itself");
        } else if asked.is_empty() {
            findings.insert("no request yet");
        }
        let all: Vec<&str> = findings.into_iter().collect();
        if all.is_empty() { "between two requests".to_owned() } else { all.join(", ") }
    }

    /// All captures in bundles whose index is there, with the bundle's key, and all that lie loose; as of one moment.
    fn holdings(&self) -> (Vec<(Capture, String)>, BTreeSet<Capture>) {
        let (objects, loose) = self.s3.look(|state| {
            let archive = state.objects().iter().filter(|(key, _)| key.contains("/archive/"));
            let objects: BTreeMap<_, _> = archive.map(|(key, object)| (key.clone(), object.clone())).collect();
            (objects, loose(state).collect())
        });
        let mut archived = Vec::new();
        for (key, object) in objects.iter().filter(|(key, _)| key.ends_with(".index.json")) {
            let index: Index = serde_json::from_slice(object.bytes.as_deref().unwrap()).unwrap();
            let Some(bundle) = objects.get(&index.bundle.key) else { continue };
            let name = [key.clone(), object.sha256.clone(), bundle.sha256.clone()];
            let members = match self.seen.get(&name) {
                Some(members) => members.clone(),
                None => members_of(&index, bundle.bytes.as_deref().unwrap()),
            };
            archived.extend(members.into_iter().map(|member| (member, index.bundle.key.clone())));
        }
        (archived, loose)
    }

    /// I4: every capture that was ever stored lies loose, or in a bundle that can be read by its index.
    fn check_nothing_is_lost(&mut self) {
        self.remember();
        let (archived, loose) = self.holdings();
        let bundled: HashSet<&Capture> = archived.iter().map(|(capture, _)| capture).collect();
        let removed = self.removed();
        for capture in &self.captures {
            assert!(loose.contains(capture) || bundled.contains(capture), "{capture:?} is nowhere\n{}", self.log());
            assert!(loose.contains(capture) || removed.contains_key(&capture.0), "{capture:?} went without a line");
        }
    }

    /// Notes what is in each bundle: none is read twice.
    fn remember(&mut self) {
        let objects = self.s3.look(|state| {
            let archive = state.objects().iter().filter(|(key, _)| key.contains("/archive/"));
            archive.map(|(key, object)| (key.clone(), object.clone())).collect::<BTreeMap<_, _>>()
        });
        for (key, object) in objects.iter().filter(|(key, _)| key.ends_with(".index.json")) {
            let index: Index = serde_json::from_slice(object.bytes.as_deref().unwrap()).unwrap();
            let Some(bundle) = objects.get(&index.bundle.key) else { continue };
            let name = [key.clone(), object.sha256.clone(), bundle.sha256.clone()];
            self.seen.entry(name).or_insert_with(|| members_of(&index, bundle.bytes.as_deref().unwrap()));
        }
    }

    /// The bundles that the ledger says hold what was deleted, by its key.
    fn removed(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut removed = BTreeMap::<_, BTreeSet<_>>::new();
        for path in files(&self.path("state/ledger")) {
            for line in ledger::removed(&path).unwrap() {
                removed.entry(line.key).or_default().insert(line.bundle.unwrap());
            }
        }
        removed
    }

    fn check_the_end(&mut self) {
        self.check_nothing_is_lost();
        let (archived, loose) = self.holdings();
        let mut all: Vec<&Capture> = archived.iter().map(|(capture, _)| capture).chain(&loose).collect();
        all.sort();
        let twice: Vec<_> = all.windows(2).filter(|two| two[0] == two[1]).map(|two| two[0]).collect();
        assert!(twice.is_empty(), "there more than once: {twice:?}\n{}", self.log());
        assert!(all.iter().copied().eq(&self.captures), "something is there that was never stored");
        let recent = ago(*DAYS_AGO.last().unwrap()).to_string();
        let due: Vec<_> = loose.iter().filter(|(key, _)| !key.contains(&recent)).collect();
        assert!(due.is_empty(), "what is due lies loose: {due:?}");
        assert!(archived.iter().all(|((key, _), _)| !key.contains(&recent)), "not due, and bundled");
        let removed = self.removed();
        for ((key, _), bundle) in &archived {
            assert!(removed.get(key).is_some_and(|bundles| bundles.contains(bundle)), "{key} has no line of {bundle}");
        }
        let bundles: BTreeSet<&String> = archived.iter().map(|(_, bundle)| bundle).collect();
        let keys = self.s3.keys();
        let indexes = keys.iter().filter(|key| key.ends_with(".index.json")).count();
        let there: BTreeSet<&String> = keys.iter().filter(|key| key.contains(".tar")).collect();
        assert_eq!((there, indexes), (bundles.clone(), bundles.len()), "bundles and indexes go together");
        assert!(bundles.iter().any(|key| key.contains(".part2.")), "days of several parts: {bundles:?}");
        assert_eq!(self.s3.uploads(), [], "parts are left behind");
        let state: Vec<PathBuf> =
            fs::read_dir(self.path("state")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!state.iter().any(|path| path.to_string_lossy().contains("spool-")), "{state:?}");
    }
}

const SEQ: std::sync::atomic::Ordering = std::sync::atomic::Ordering::SeqCst;

/// The captures that are no members.
fn loose(state: &State) -> impl Iterator<Item = Capture> {
    let captures = state.objects().iter().filter(|(key, _)| *key != PROBE && !key.contains("/archive/"));
    captures.map(|(key, object)| (key.clone(), object.sha256.clone()))
}

/// The members of a bundle, each of which must be what the index says.
pub(crate) fn members_of(index: &Index, bundle: &[u8]) -> Vec<Capture> {
    assert_eq!(sha256(bundle), index.bundle.sha256, "{}", index.bundle.key);
    let bytes = |member: &Member| {
        let from = usize::try_from(member.offset).unwrap();
        let piece = bundle[from..from + usize::try_from(member.length).unwrap()].to_vec();
        let mut bytes = Vec::new();
        let format = index.bundle.format;
        bundle::unpack(format, std::io::Cursor::new(piece)).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    let member = |member: &Member| {
        let sha256 = sha256(&bytes(member));
        assert_eq!(sha256, member.note.sha256, "{} in {}", member.name, index.bundle.key);
        (member.note.key.clone(), sha256)
    };
    index.members.iter().map(member).collect()
}

pub(crate) fn ago(days: u64) -> NaiveDate {
    Utc::now().date_naive() - Days::new(days)
}

/// A command at work. Dropping it is SIGKILL.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(mut command: Command, log: &File) -> Self {
        let [out, err] = [log, log].map(|log| Stdio::from(log.try_clone().unwrap()));
        Self(command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap())
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.0.id().cast_signed()).unwrap(), signal).unwrap();
    }

    /// The exit code at its end.
    pub(crate) fn wait(&mut self) -> i32 {
        wait_for("the end of a command", 3 * SOON, || self.0.try_wait().unwrap()).code().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
