//! A site as a test wants it: a drop folder, an S3 in memory, and the library's daemon between them.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hk_aws::bucket::Credentials;
use hk_aws::config::{Access, Config};
use hk_aws::status::Snapshot;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::s3::{ACCESS_KEY, MemoryS3, REGION, Request, SECRET_KEY};
use super::{clock, settings};

/// Longer than anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// The date in the names of [`picture`].
pub(crate) const DATE: &str = "2026-02-24";

pub(crate) struct Site {
    pub(crate) s3: MemoryS3,
    /// Where the daemon looks for the store, if not where it is.
    pub(crate) endpoint: Option<String>,
    folder: TempDir,
    settings: Settings,
    running: Option<(CancellationToken, JoinHandle<anyhow::Result<()>>)>,
}

/// The settings that a test adds to those of every site, as YAML: keys of the two sections, and whole sections.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settings {
    pub(crate) drop: &'static str,
    pub(crate) s3: &'static str,
    pub(crate) rest: &'static str,
}

impl Site {
    /// A site whose daemon is not started.
    pub(crate) async fn new(settings: Settings) -> Self {
        Self::with(MemoryS3::start("evidence").await, settings)
    }

    /// A site with an S3 of its own kind.
    pub(crate) fn with(s3: MemoryS3, settings: Settings) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), s3, settings)
    }

    /// A site whose folders lie in this one.
    pub(crate) fn in_folder(folder: TempDir, s3: MemoryS3, settings: Settings) -> Self {
        std::fs::create_dir(folder.path().join("drop")).unwrap();
        Self { s3, endpoint: None, folder, settings, running: None }
    }

    /// A site with a running daemon.
    pub(crate) async fn started(settings: Settings) -> Self {
        let mut site = Self::new(settings).await;
        site.start().await;
        site
    }

    /// Changes the settings from the next start on.
    pub(crate) fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(below)
    }

    pub(crate) fn drop_path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.path("drop").join(below)
    }

    /// Writes a file below the drop folder, its folders too.
    pub(crate) fn write(&self, below: impl AsRef<Path>, bytes: &[u8]) -> PathBuf {
        let path = self.drop_path(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn config(&self) -> Config {
        self.config_of(self.settings)
    }

    /// The site's configuration with other settings.
    pub(crate) fn config_of(&self, settings: Settings) -> Config {
        let text = self.text_of(settings);
        Config::parse(Path::new("site.yaml"), &text, &|_| None).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
    }

    /// The configuration with other settings, as it stands in a file.
    pub(crate) fn text_of(&self, Settings { drop, s3, rest }: Settings) -> String {
        let mut all = settings::parse(&format!(
            "drop_folder: {{path: '{folder}', settle: 300ms, rescan: 1h}}\n\
             s3: {{bucket: evidence, region: {REGION}, endpoint_url: '{endpoint}', path_style: true}}\n\
             state_dir: '{state}'\nruntime_dir: '{run}'\ntimezone: UTC\n\
             # The names of `picture` have old dates.\nmax_clock_skew: null\n\
             # The machine's disk may be full.\nkeep: {{min_free: 0}}\n",
            folder = self.path("drop").display(),
            endpoint = self.endpoint.clone().unwrap_or_else(|| self.s3.endpoint()),
            state = self.path("state").display(),
            run = self.path("run").display(),
        ));
        for more in [&format!("drop_folder: {{{drop}}}"), &format!("s3: {{{s3}}}"), rest] {
            settings::merge(&mut all, settings::parse(more));
        }
        settings::write(&all)
    }

    /// Starts the daemon, and waits until the folder is watched and was scanned and the bucket was tried.
    pub(crate) async fn start(&mut self) {
        let before = self.s3.look(|state| state.requests().len());
        self.start_in_trouble().await;
        let write_only = self.config().s3.access == Access::WriteOnly;
        self.s3.wait_for(|state| was_tried(&state.requests()[before..], write_only), DEADLINE).await;
    }

    /// Starts the daemon where it cannot try the bucket.
    pub(crate) async fn start_in_trouble(&mut self) {
        self.start_with(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test")).await;
    }

    /// Starts the daemon with credentials that may be wrong.
    pub(crate) async fn start_with(&mut self, credentials: Credentials) {
        let _stale = std::fs::remove_file(self.path("run/status.json"));
        self.start_as_it_is(credentials).await;
    }

    /// Starts the daemon, which finds the status that the one before has left.
    pub(crate) async fn start_keeping_status(&mut self) {
        self.start_as_it_is(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test")).await;
    }

    async fn start_as_it_is(&mut self, credentials: Credentials) {
        let stop = CancellationToken::new();
        let running = hk_aws::daemon::run(self.config(), Some(credentials), clock::now, stop.clone());
        let daemon = tokio::spawn(async move {
            // Whoever waits for what it does would not learn why it did nothing.
            running.await.inspect_err(|error| eprintln!("the daemon ended: {error:#}"))
        });
        self.running = Some((stop, daemon));
        self.wait_for_status("the first scan", |status| status.state != hk_aws::status::DaemonState::Starting).await;
    }

    /// Stops the daemon as SIGTERM does.
    pub(crate) async fn stop(&mut self) {
        let (stop, daemon) = self.running.take().unwrap();
        stop.cancel();
        tokio::time::timeout(DEADLINE, daemon).await.unwrap().unwrap().unwrap();
    }

    /// Ends the daemon wherever it is.
    pub(crate) async fn abort(&mut self) {
        let (_, daemon) = self.running.take().unwrap();
        daemon.abort();
        assert!(daemon.await.unwrap_err().is_cancelled());
    }

    /// Waits until the bucket holds exactly `keys`.
    pub(crate) async fn wait_for_keys(&self, keys: &[&str]) {
        let mut expected: Vec<&str> = keys.to_vec();
        expected.sort_unstable();
        self.s3.wait_for(|state| state.objects().keys().eq(expected.iter()), DEADLINE).await;
    }

    /// Waits until the drop folder holds no file any more.
    pub(crate) async fn wait_until_empty(&self) {
        self.wait("an empty drop folder", || files(&self.drop_path("")).is_empty().then_some(())).await;
    }

    /// Waits until what the daemon says of itself is as wanted.
    pub(crate) async fn wait_for_status(&self, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        self.wait(what, || Snapshot::read(&self.path("run")).ok().filter(|status| wanted(status))).await
    }

    /// Waits for something that only looking can find.
    pub(crate) async fn wait<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let waited = tokio::time::timeout(DEADLINE, async {
            loop {
                if let Some(found) = look() {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        waited.await.unwrap_or_else(|_| {
            let status = std::fs::read_to_string(self.path("run/status.json")).unwrap_or_default();
            let files = files(&self.drop_path(""));
            panic!("no {what}; bucket: {:?}; drop folder: {files:?}; status: {status}", self.s3.keys())
        })
    }

    /// The library's view of this site, as a command has it.
    pub(crate) async fn context(&self) -> hk_aws::site::Site {
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test");
        let pace = hk_aws::bucket::Pace::new(hk_aws::daemon::now);
        hk_aws::site::Site::new(std::sync::Arc::new(self.config()), Some(credentials), pace, hk_aws::daemon::now).await
    }

    /// The local copy of a key.
    pub(crate) fn kept(&self, key: &str) -> Vec<u8> {
        std::fs::read(self.path("state/kept").join(key)).unwrap()
    }

    /// The lines of the ledger of a camera on [`DATE`].
    pub(crate) fn ledger(&self, camera: &str) -> Vec<hk_aws::ledger::LedgerEntry> {
        let path = self.path(format!("state/ledger/{camera}/{DATE}.jsonl"));
        // The day is old, so that its lines may be compressed by now. Whoever does it holds the lock of the file until the
        // other one is in its place.
        let text: String = loop {
            let held = std::fs::File::open(&path).ok();
            if let Some(held) = &held {
                rustix::fs::flock(held, rustix::fs::FlockOperation::LockShared).unwrap();
            }
            if held.is_some() == path.exists() {
                break [path.with_extension("jsonl.gz"), path].iter().map(|path| ledger_text(path)).collect();
            }
        };
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some((_, daemon)) = self.running.take() {
            // A daemon that takes its time to stop would hold the lock of its drop folder, which goes by the inode, while
            // another test's folder gets that inode.
            daemon.abort();
        }
    }
}

/// Whether the daemon has found out by these requests what the bucket does with conditions.
fn was_tried(requests: &[Request], write_only: bool) -> bool {
    let answers: Vec<_> = requests
        .iter()
        .filter(|request| request.is_probe())
        .map(|request| (request.operation, request.status))
        .collect();
    if !write_only {
        // It takes its object away last.
        return answers.contains(&("DeleteObject", Some(204)));
    }
    let puts = |status| answers.iter().filter(|answer| **answer == ("PutObject", Some(status))).count();
    // Honoured; ignored, which takes three to believe; refused, and put without it. A reply of a capture that is lost in the
    // meantime has it tried again.
    puts(412) > 0 || puts(200) >= 3 || puts(501) > 0 && puts(200) > 0
}

/// The text of a file of the ledger, also of one that is compressed because its day is old; empty if there is none, or only
/// one that a kill left half made.
pub(crate) fn ledger_text(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    match path.extension().and_then(std::ffi::OsStr::to_str) {
        Some("new") => String::new(),
        Some("gz") if !bytes.is_empty() => {
            let mut text = String::new();
            flate2::read::MultiGzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
            text
        }
        _ => String::from_utf8(bytes).unwrap(),
    }
}

/// Every file below a folder, links and fifos too.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(_) => found.push(entry.path()),
            Err(_) => {}
        }
    }
    found
}

/// The name of a Hikvision picture taken on [`DATE`].
pub(crate) fn picture(number: u32) -> String {
    let (minute, second) = (number / 60 % 60, number % 60);
    format!("192.168.1.64_01_2026022412{minute:02}{second:02}{:03}_MOTION_DETECTION.jpg", number / 3600)
}

/// The key of [`picture`] of a camera.
pub(crate) fn key(camera: &str, number: u32) -> String {
    format!("{camera}/{DATE}/{}", picture(number))
}

/// Bytes that no other seed gives, and of which no two blocks are alike.
pub(crate) fn bytes(seed: u64, length: usize) -> Vec<u8> {
    // Clips are long and tests are not optimised: the blocks after the first one differ from it in their number alone.
    const BLOCK: usize = 4096;
    let mut bytes = vec![0; length];
    let (first, others) = bytes.split_at_mut(length.min(BLOCK));
    // Knuth's generator of 64 bits.
    let mut state = seed;
    for piece in first.chunks_mut(4) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        piece.copy_from_slice(&state.to_be_bytes()[..piece.len()]);
    }
    for (number, block) in (1_u32..).zip(others.chunks_mut(BLOCK)) {
        block.copy_from_slice(&first[..block.len()]);
        block.iter_mut().zip(number.to_le_bytes()).for_each(|(byte, of)| *byte ^= of);
    }
    bytes
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
