//! The daemon killed at any moment, again and again, while captures come in: nothing is lost and nothing is doubled.
//!
//! The store lives in the test's process and survives. Everything that chance decides comes from one seed, which is
//! printed: `HK_AWS_KILL_SEED` repeats a run as far as the scheduler allows, `HK_AWS_KILLS` sets how many kills there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hk_aws::bucket::PROBE;
use hk_aws::drop_folder::{ASIDE, sent_as};
use hk_aws::ledger::LedgerEntry;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::process::daemon::{BINARY, Daemon, SOON, wait_for};
use crate::support::s3::{ACCESS_KEY, MemoryS3, REGION, SECRET_KEY, State};
use crate::support::site::{files, ledger_text, picture};

/// How often each of the two daemons is killed where nobody asks for more.
const KILLS: usize = 14;

/// A life that reaches no request is ended after so long.
const LONGEST_LIFE: Duration = Duration::from_millis(1500);

/// The size from which on an upload goes in parts; clips are a little larger.
const CLIP: u64 = hk_aws::bucket::MULTIPART_FROM;

/// Every so many captures a clip comes.
const CLIP_EVERY: usize = 80;

/// How long the last daemon may take for what the killed ones left, and all clips.
const COMPLETION: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread")]
async fn i5_killed_anywhere_it_stores_all_once_and_keeps_each_capture() {
    kill_anywhere("keep: {days: 35}").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_killed_anywhere_it_stores_all_once_and_deletes_each_capture() {
    kill_anywhere("keep: {days: 0}").await;
}

async fn kill_anywhere(keep: &'static str) {
    let (seed, kills) = told_of_kills(keep);
    let place = Place::new(MemoryS3::start_without_bytes("captures").await, keep);
    let mut chance = Chance(seed);

    let (more, wanted) = mpsc::channel();
    let (drop_folder, writers) = (place.path("drop"), Chance(chance.next()));
    let flood = thread::spawn(move || Flood::new(drop_folder, writers).write(&wanted));
    let mut fell = BTreeMap::new();
    for _ in 0..kills {
        for _ in 0..chance.below(12) {
            more.send(()).unwrap();
        }
        let before = place.s3.look(|state| state.requests().len());
        let daemon = place.start();
        Moment::random(&mut chance, 30).wait(&place.s3, before, || false);
        // Dropping it is SIGKILL.
        drop(daemon);
        *fell.entry(place.autopsy(before)).or_insert(0) += 1;
    }
    drop(more);
    let sent = flood.join().unwrap();
    let mut daemon = place.start();
    daemon.wait_for_notice("READY=1", 0);
    wait_for("an empty drop folder", COMPLETION, || files(&place.path("drop")).is_empty().then_some(()));
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.wait_for_end(SOON).code(), Some(0));
    let bytes: u64 = sent.iter().map(|capture| capture.size).sum();
    eprintln!("{} captures of {bytes} bytes; {kills} kills, by what they left:", sent.len());
    for (finding, count) in &fell {
        eprintln!("{count:5}  {finding}");
    }
    let torn = place.lines().len() - place.ledger().len();
    eprintln!("{torn:5}  torn lines in the ledger");
    assert!(torn <= kills, "{torn} torn lines");
    place.check(&sent, keep.contains("35"));
}

/// splitmix64: enough for chance, and the same on every machine.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// When a process is killed.
pub(crate) enum Moment {
    /// So long after it was started.
    After(Duration),
    /// So long after its n-th request reached the store.
    Request(usize, Duration),
}

impl Moment {
    /// By time, or at one of the first `requests`.
    pub(crate) fn random(chance: &mut Chance, requests: u64) -> Self {
        match chance.below(10) {
            0..3 => Self::After(Duration::from_micros(chance.below(100_000))),
            3 => Self::After(Duration::from_millis(chance.below(1500))),
            _ => {
                let nth = usize::try_from(1 + chance.below(requests)).unwrap();
                Self::Request(nth, Duration::from_micros(chance.below(5000)))
            }
        }
    }

    /// Waits for it, where the store had received `before` requests when the process began, but no longer than it lives
    /// or should.
    pub(crate) fn wait(&self, s3: &MemoryS3, before: usize, mut has_ended: impl FnMut() -> bool) {
        let started = Instant::now();
        let of_work = |state: &State| state.requests()[before..].iter().filter(|of| !of.is_probe()).count();
        let (pause, since) = match self {
            Self::After(pause) => (*pause, started),
            Self::Request(nth, pause) => {
                while s3.look(of_work) < *nth && started.elapsed() < LONGEST_LIFE && !has_ended() {
                    thread::sleep(Duration::from_micros(200));
                }
                (*pause, Instant::now())
            }
        };
        while since.elapsed() < pause && !has_ended() {
            thread::sleep(Duration::from_micros(200).min(pause.saturating_sub(since.elapsed())));
        }
    }
}

/// What the environment says of the kills: the seed, which is printed, and how many.
pub(crate) fn told_of_kills(what: &str) -> (u64, usize) {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let seed = number("HK_AWS_KILL_SEED").unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        u64::from(since.subsec_nanos())
    });
    let kills = number("HK_AWS_KILLS").map_or(KILLS, |kills| kills.try_into().unwrap());
    eprintln!("HK_AWS_KILL_SEED={seed} HK_AWS_KILLS={kills} ({what})");
    (seed, kills)
}

/// What was sent, as it must be in the bucket.
struct Sent {
    source: String,
    size: u64,
    sha256: String,
    /// Of what was there before the transfer was resumed, if it was cut off.
    cut_sha256: Option<String>,
}

/// The cameras.
struct Flood {
    folder: PathBuf,
    chance: Chance,
    count: usize,
    /// Transfers that were cut off, and what is still to come of them.
    cut_off: Vec<(PathBuf, Vec<u8>)>,
    sent: Vec<Sent>,
}

impl Flood {
    fn new(folder: PathBuf, chance: Chance) -> Self {
        Self { folder, chance, count: 0, cut_off: Vec::new(), sent: Vec::new() }
    }

    /// Sends something for each word of `wanted`, and at its end resumes what is cut off.
    fn write(mut self, wanted: &mpsc::Receiver<()>) -> Vec<Sent> {
        for () in wanted {
            self.send_something();
            if self.chance.below(3) == 0 && !self.cut_off.is_empty() {
                let one = usize::try_from(self.chance.next()).unwrap() % self.cut_off.len();
                let (path, rest) = self.cut_off.swap_remove(one);
                resume(&path, &rest);
            }
            // A camera needs time to send.
            thread::sleep(Duration::from_micros(self.chance.below(20_000)));
        }
        for (path, rest) in std::mem::take(&mut self.cut_off) {
            resume(&path, &rest);
        }
        self.sent
    }

    fn send_something(&mut self) {
        self.count += 1;
        let camera = format!("CAM-EXT-{}", self.chance.below(4));
        let name = picture(u32::try_from(self.count).unwrap());
        if self.count.is_multiple_of(CLIP_EVERY) {
            let name = name.replace(".jpg", ".mp4");
            // Two clips with one key, on their way at the same time.
            self.clip(&format!("{camera}/2026-02-24/{name}"));
            self.clip(&format!("{camera}/2026-02-24/12/{name}"));
            return;
        }
        match self.chance.below(10) {
            0..5 => self.picture(&format!("{camera}/{name}"), false),
            5..7 => self.picture(&format!("{camera}/2026-02-24/12/{name}"), false),
            7 => self.picture(&format!("{camera}/{name}"), true),
            _ => {
                self.picture(&format!("{camera}/2026-02-24/{name}"), false);
                let cut_off = self.chance.below(4) == 0;
                self.picture(&format!("{camera}/2026-02-24/12/{name}"), cut_off);
            }
        }
    }

    fn picture(&mut self, source: &str, cut_off: bool) {
        let path = self.path(source);
        let noise = (0..40 + self.chance.below(4000)).map(|_| self.chance.next().to_le_bytes()[0] & 0x7F);
        let noise: Vec<u8> = noise.collect();
        let bytes = [b"\xFF\xD8\xFF\xDA\x00\x02".as_slice(), source.as_bytes(), &noise, b"\xFF\xD9"].concat();
        let mut sent = Sent {
            source: source.to_owned(),
            size: bytes.len() as u64,
            sha256: hex::encode(Sha256::digest(&bytes)),
            cut_sha256: None,
        };
        if cut_off {
            let (part, rest) = bytes.split_at(bytes.len() / 2);
            fs::write(&path, part).unwrap();
            sent.cut_sha256 = Some(hex::encode(Sha256::digest(part)));
            self.cut_off.push((path, rest.to_owned()));
        } else if self.chance.below(4) == 0 {
            let temporary = path.with_extension("tmp");
            fs::write(&temporary, &bytes).unwrap();
            fs::rename(temporary, &path).unwrap();
        } else {
            fs::write(&path, &bytes).unwrap();
        }
        self.sent.push(sent);
    }

    /// Sends a clip that is nearly all hole: what counts is how it travels.
    fn clip(&mut self, source: &str) {
        let path = self.path(source);
        let size = CLIP + self.chance.below(4000);
        let mut file = File::create(&path).unwrap();
        file.write_all(source.as_bytes()).unwrap();
        file.set_len(size).unwrap();
        drop(file);
        let mut hash = Sha256::new();
        hash.update(source);
        let hole = vec![0; usize::try_from(size).unwrap() - source.len()];
        hash.update(&hole);
        let sha256 = hex::encode(hash.finalize());
        self.sent.push(Sent { source: source.to_owned(), size, sha256, cut_sha256: None });
    }

    fn path(&self, source: &str) -> PathBuf {
        let path = self.folder.join(source);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }
}

/// Resumes a transfer as FTP's APPE does: what was cut off must still be there.
fn resume(path: &Path, rest: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(rest).unwrap();
}

/// A daemon's folders and its store.
struct Place {
    folder: TempDir,
    s3: MemoryS3,
}

impl Place {
    fn new(s3: MemoryS3, keep: &str) -> Self {
        let folder = TempDir::with_prefix("hk-aws-kill-").unwrap();
        fs::create_dir(folder.path().join("drop")).unwrap();
        let at = folder.path().display();
        let config = format!(
            "state_dir: {at}/state\nruntime_dir: {at}/run\ntimezone: UTC\nmax_clock_skew: null\n\
             drop_folder: {{path: {at}/drop, settle: 100ms}}\n\
             s3: {{bucket: captures, region: {REGION}, endpoint_url: '{}', path_style: true}}\n\
             {keep}\nlog: {{target: stderr, level: warn}}\n",
            s3.endpoint()
        );
        fs::write(folder.path().join("config.yaml"), config).unwrap();
        Self { folder, s3 }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn start(&self) -> Daemon {
        let mut command = Daemon::command(BINARY);
        command.arg("--config").arg(self.path("config.yaml")).arg("run");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        Daemon::start(command, self.folder.path())
    }

    /// What a killed daemon had under way, of the things that count.
    fn autopsy(&self, before: usize) -> String {
        let mut findings = BTreeSet::new();
        let (asked, lines) = (self.s3.look(|state| state.requests()[before..].to_vec()), self.ledger());
        findings.extend(asked.iter().filter(|request| request.answered.is_none()).map(|request| request.operation));
        let written: BTreeSet<&str> = lines.iter().map(|line| &*line.key).collect();
        let put = asked.iter().filter(|request| request.status == Some(200) && request.operation != "UploadPart");
        if put.filter(|request| self.s3.object(&request.key).is_some()).any(|put| !written.contains(&*put.key)) {
            findings.insert("stored, not in the ledger");
        }
        let done: BTreeSet<&str> = lines.iter().filter(|line| !line.partial).map(|line| &*line.source).collect();
        for file in files(&self.path("drop")) {
            let source = sent_as(file.strip_prefix(self.path("drop")).unwrap());
            if file.file_name().unwrap().to_string_lossy().starts_with(ASIDE) {
                findings.insert("renamed aside, not gone");
            } else if done.contains(source.to_str().unwrap()) {
                findings.insert("in the ledger, not disposed of");
            }
        }
        if asked.is_empty() {
            findings.insert("no request yet");
        }
        let all: Vec<&str> = findings.into_iter().collect();
        if all.is_empty() { "between two requests".to_owned() } else { all.join(", ") }
    }

    fn ledger(&self) -> Vec<LedgerEntry> {
        // Read as the program does, because a day may be compressed meanwhile.
        let day =
            |path: PathBuf| PathBuf::from(path.to_str().unwrap().split(".jsonl").next().unwrap().to_owned() + ".jsonl");
        let days: BTreeSet<PathBuf> = files(&self.path("state/ledger")).into_iter().map(day).collect();
        let entries = days.iter().flat_map(|day| hk_aws::ledger::entries(day).into_iter().flatten());
        // A kill meanwhile leaves the same lines twice.
        let lines: BTreeSet<String> = entries.map(|entry| serde_json::to_string(&entry).unwrap()).collect();
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The lines of the ledger, torn ones too: the kernel ends a dying process's write at the end of a page.
    fn lines(&self) -> Vec<String> {
        let texts = files(&self.path("state/ledger")).into_iter().map(|path| ledger_text(&path));
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// Holds bucket, ledger and local copies against what was sent.
    fn check(&self, sent: &[Sent], kept: bool) {
        let captures: BTreeMap<(&str, &str), u64> =
            sent.iter().map(|capture| ((&*capture.source, &*capture.sha256), capture.size)).collect();
        let cut: BTreeSet<(&str, &str)> =
            sent.iter().filter_map(|capture| Some((&*capture.source, capture.cut_sha256.as_deref()?))).collect();
        let lines = self.ledger();
        self.s3.look(|state| {
            let (mut whole, mut parts) = (BTreeMap::new(), BTreeSet::new());
            for (key, object) in state.objects().iter().filter(|(key, _)| *key != PROBE) {
                let is = (&*object.metadata["source"], &*object.sha256);
                let mine: Vec<&LedgerEntry> = lines.iter().filter(|line| line.key == *key).collect();
                if object.metadata.contains_key("partial") {
                    assert!(cut.contains(&is), "{key} was never sent so");
                    assert!(parts.insert(is), "{key} is there twice");
                    // What was resumed before its line was written has none: the whole one follows at once.
                    assert!(mine.len() <= 1, "{key} has {} lines", mine.len());
                } else {
                    assert_eq!(whole.insert(is, object.len), None, "{key} is there twice");
                    assert_eq!(mine.len(), 1, "lines of {key}");
                }
                for line in mine {
                    assert_eq!((&*line.source, &*line.sha256, line.size), (is.0, is.1, object.len), "{key}");
                }
            }
            assert_eq!(whole, captures);
            assert!(lines.iter().all(|line| state.object(&line.key).is_some()), "a line without an object");
        });
        assert_eq!(self.s3.uploads(), [], "parts are left behind");
        let mut run = files(&self.path("run"));
        run.retain(|path| !["run.lock", "status.json"].iter().any(|name| path.ends_with(name)));
        assert!(run.is_empty(), "files of dead processes: {run:?}");
        let mut copies: Vec<String> = files(&self.path("state/kept"))
            .iter()
            .map(|path| hex::encode(Sha256::digest(fs::read(path).unwrap())))
            .collect();
        let mut expected: Vec<&str> =
            if kept { captures.keys().map(|(_, sha256)| *sha256).collect() } else { Vec::new() };
        copies.sort_unstable();
        expected.sort_unstable();
        assert_eq!(copies, expected, "local copies");
    }
}
