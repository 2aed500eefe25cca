//! The box and what the model knows of it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::circumstance::Circumstances;
use super::operation::{Content, Effect, End, Operation, PATHS, Place, Stamp};
use super::strike::{self, Struck};
use crate::support::clock::{Clock, Clocked};
use crate::support::s3::Fault;
use crate::support::site::{Settings, Site, bytes};

/// The model's clock goes far; that no copy gives way before its time is for other tests.
const KEEP: &str = "keep: {days: 36500, max_size: null, min_free: 0}";
const KEEP_AND_ONE: &str = "keep: {days: 36500, max_size: null, min_free: 0}\nupload: {concurrency: 1}";

const DROP: &str = "rescan: 1s, settle: 50ms, partial_after: 300ms";

/// Between what a reload changes.
pub(super) const SETTINGS: [Settings; 4] = [
    Settings { drop: DROP, s3: "", rest: KEEP },
    Settings { drop: DROP, s3: "", rest: KEEP_AND_ONE },
    Settings { drop: "rescan: 1s, settle: 200ms, partial_after: 100ms", s3: "tags: true", rest: KEEP },
    Settings { drop: DROP, s3: "access: write-only", rest: "keep: {days: 0}" },
];

static CASE: AtomicU64 = AtomicU64::new(1);

/// A real box, and beside it what its writers did.
#[expect(clippy::struct_excessive_bools, reason = "each loosens a demand of its own")]
pub(super) struct World {
    pub(super) site: Site,
    pub(super) clock: Clock,
    pub(super) daemon: Option<Clocked>,
    pub(super) circumstances: Circumstances,
    pub(super) struck: Struck,
    pub(super) settings: usize,
    /// What stands, or stood when the daemon took it, under each path: closed, and not undone by its owner.
    pub(super) left: BTreeMap<Place, Vec<u8>>,
    /// Writers at work: what they have written, and what is still to come.
    pub(super) writing: BTreeMap<Place, (File, Vec<u8>, Vec<u8>)>,
    /// All that anybody ever wrote; what was there at any moment is the beginning of one of these.
    pub(super) written: Vec<Vec<u8>>,
    /// Times that a path was touched with.
    pub(super) touched: BTreeMap<Place, Vec<Stamp>>,
    /// The bucket as it was: key, and hash of the bytes.
    pub(super) bucket: BTreeMap<String, String>,
    /// Whether local copies were kept all the time, and parts could be listed.
    pub(super) always_kept: bool,
    /// Whether a file was open for writing at any time: what does not grow goes up as partial, also if it is whole.
    pub(super) has_begun: bool,
    /// Whether a file was renamed at any time: stored just before, it is not stored again under its new name.
    pub(super) has_renamed: bool,
    /// Whether nothing failed, ended or was set otherwise at any time.
    pub(super) is_calm: bool,
    /// What no other case's bytes have: the program remembers what it stored for the whole process, by inodes and bytes.
    salt: u64,
    next: u64,
}

/// What stands in a drop folder that is not in its place.
#[derive(Default)]
pub(super) struct Standing {
    pub(super) left: BTreeMap<Place, Vec<u8>>,
    pub(super) writing: BTreeMap<Place, (File, Vec<u8>, Vec<u8>)>,
}

impl World {
    pub(super) async fn new(circumstances: &Circumstances) -> Self {
        let site = strike::site(circumstances, SETTINGS[0]).await;
        let clock = Clock::default();
        let daemon = Some(strike::start(circumstances, &site, SETTINGS[0], &clock).await);
        Self {
            site,
            clock,
            daemon,
            circumstances: circumstances.clone(),
            struck: Struck::default(),
            settings: 0,
            left: BTreeMap::new(),
            writing: BTreeMap::new(),
            written: Vec::new(),
            touched: BTreeMap::new(),
            bucket: BTreeMap::new(),
            always_kept: true,
            has_begun: false,
            has_renamed: false,
            is_calm: true,
            salt: CASE.fetch_add(1, Ordering::Relaxed) << 32,
            next: 0,
        }
    }

    pub(super) fn path(&self, place: Place) -> PathBuf {
        self.site.drop_path(PATHS[place])
    }

    pub(super) async fn carry_out(&mut self, operation: &Operation) {
        self.is_calm &= !operation.disturbs();
        match *operation {
            Operation::Drop(place, content) => self.drop_file(place, content),
            Operation::Begin(place, content) => self.begin(place, content),
            Operation::Finish(place) => self.finish(place),
            Operation::CutOff(place) => self.cut_off(place),
            Operation::Grow(place) => self.grow(place),
            Operation::Truncate(place) => self.truncate(place),
            Operation::Rename(from, to) => {
                let _moved = self.rename(from, to);
            }
            Operation::Touch(place, stamp) => {
                let _dated = self.touch(place, stamp);
            }
            Operation::Delete(place) => self.delete(place),
            Operation::MakeFolder(place) => fs::create_dir_all(self.path(place).parent().unwrap()).unwrap(),
            Operation::RemoveFolder(place) => self.remove_folder(place),
            Operation::Step(seconds) => {
                // By a clock that was set forward, a file that is just being written has not grown for long.
                self.has_begun |= seconds > 0;
                self.clock.step(seconds);
            }
            Operation::Boot1970 => self.clock.set(UNIX_EPOCH + Duration::from_secs(20)),
            Operation::Tick(milliseconds) => tokio::time::sleep(Duration::from_millis(milliseconds)).await,
            Operation::Fault(effect, asked, times) => self.site.s3.fault(fault(effect, asked).times(times)),
            Operation::ClearFaults => self.site.s3.clear_faults(),
            Operation::Refuse => self.site.s3.refuse().await,
            Operation::Accept => self.site.s3.accept().await,
            Operation::Reload(settings) => self.reload(settings).await,
            Operation::Look => self.daemon.as_ref().unwrap().look().await,
            Operation::Kill => self.restart(false).await,
            Operation::Restart => self.restart(true).await,
            Operation::Page(page, times) => self.page(page, times).await,
            Operation::Again => self.again().await,
            Operation::Snapshot => self.take_snapshot(),
            Operation::RollBack => self.roll_back().await,
            Operation::AnotherFolder => self.another_folder(),
            Operation::Unmount(milliseconds) => self.unmount(milliseconds).await,
            Operation::Rewrite(place, after) => self.rewrite(place, after).await,
            Operation::Redate(place, after, stamp) => self.redate(place, after, stamp).await,
            Operation::Move(place, after, to) => self.move_after(place, after, to).await,
            Operation::Resume(place, rest) => self.resume(place, rest).await,
            Operation::Upload => self.upload(),
        }
    }

    /// Lets everybody end what they do, and takes every trouble away.
    pub(super) async fn end(&mut self, end: End) {
        self.finish_all();
        self.finish_in_other_folder();
        self.site.s3.clear_faults();
        self.site.s3.accept().await;
        match end {
            End::Alone => {}
            End::Reload => self.reload(self.settings).await,
            End::Restart => self.restart(true).await,
            End::Kill => self.restart(false).await,
        }
    }

    pub(super) fn finish_all(&mut self) {
        for place in 0..PATHS.len() {
            self.finish(place);
        }
    }

    async fn reload(&mut self, settings: usize) {
        self.settings = settings;
        self.always_kept &= !SETTINGS[settings].rest.contains("days: 0");
        self.daemon.as_ref().unwrap().reload(self.site.config_of(SETTINGS[settings])).await;
    }

    async fn restart(&mut self, drains: bool) {
        let daemon = self.daemon.take().unwrap();
        if drains {
            daemon.stop().await;
        } else {
            drop(daemon);
        }
        let settings = SETTINGS[self.settings];
        self.daemon = Some(strike::start(&self.circumstances, &self.site, settings, &self.clock).await);
    }

    /// Bytes that nobody has written before.
    pub(super) fn content(&mut self, content: Content) -> Vec<u8> {
        self.next += 1;
        // Without 0xFF, which begins the marks of a picture.
        let mut body = bytes(self.salt + self.next, 200 + usize::try_from(self.next * 7919 % 5000).unwrap());
        for byte in &mut body {
            *byte &= 0x7F;
        }
        match content {
            Content::Whole => [b"\xFF\xD8\xFF\xDA\x00\x02", body.as_slice(), b"\xFF\xD9"].concat(),
            Content::Cut => [b"\xFF\xD8\xFF\xDA\x00\x02", body.as_slice()].concat(),
            Content::Plain => body,
            Content::Clip => {
                body.resize(17 << 20, 7);
                body
            }
            Content::Empty => Vec::new(),
        }
    }

    /// A whole picture of this length that nobody has written before.
    pub(super) fn content_like(&mut self, length: usize) -> Vec<u8> {
        self.next += 1;
        let body: Vec<u8> = bytes(self.salt + self.next, length - 8).into_iter().map(|byte| byte & 0x7F).collect();
        [b"\xFF\xD8\xFF\xDA\x00\x02", body.as_slice(), b"\xFF\xD9"].concat()
    }

    /// Opens a file as FTP servers do: what stood there is no more.
    pub(super) fn create(&mut self, place: Place) -> File {
        self.writing.remove(&place);
        self.left.remove(&place);
        let path = self.path(place);
        loop {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            // An old empty folder may go in between; a camera makes it again.
            match File::create(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                created => return created.unwrap(),
            }
        }
    }

    pub(super) fn drop_file(&mut self, place: Place, content: Content) {
        let content = self.content(content);
        self.written.push(content.clone());
        let mut file = self.create(place);
        file.write_all(&content).unwrap();
        self.dress(&file);
        self.left.insert(place, content);
    }

    fn begin(&mut self, place: Place, content: Content) {
        self.has_begun = true;
        let mut content = self.content(content);
        self.written.push(content.clone());
        let rest = content.split_off(content.len() / 2);
        let mut file = self.create(place);
        file.write_all(&content).unwrap();
        self.writing.insert(place, (file, content, rest));
    }

    fn finish(&mut self, place: Place) {
        let Some((mut file, mut content, rest)) = self.writing.remove(&place) else { return };
        file.write_all(&rest).unwrap();
        self.dress(&file);
        content.extend(rest);
        self.left.insert(place, content);
    }

    fn cut_off(&mut self, place: Place) {
        let Some((_, content, _)) = self.writing.remove(&place) else { return };
        self.left.insert(place, content);
    }

    /// Where the file is there to be opened, it is what was left: nobody else writes here.
    fn grow(&mut self, place: Place) {
        if self.writing.contains_key(&place) {
            return;
        }
        let Ok(mut file) = OpenOptions::new().append(true).open(self.path(place)) else { return };
        let mut more = self.content(Content::Plain);
        more.extend(b"\xFF\xD9");
        file.write_all(&more).unwrap();
        self.dress(&file);
        drop(file);
        let mut content = self.left.remove(&place).unwrap();
        content.extend(more);
        self.written.push(content.clone());
        self.left.insert(place, content);
    }

    fn truncate(&mut self, place: Place) {
        if self.writing.contains_key(&place) {
            return;
        }
        let Ok(file) = OpenOptions::new().write(true).open(self.path(place)) else { return };
        let content = self.left.get_mut(&place).unwrap();
        content.truncate(content.len() / 2);
        file.set_len(content.len() as u64).unwrap();
    }

    /// Renames a file if it is still there; returns whether it was.
    pub(super) fn rename(&mut self, from: Place, to: Place) -> bool {
        self.has_renamed = true;
        // An old empty folder may go in between; then the file stays where it is.
        let _made = fs::create_dir_all(self.path(to).parent().unwrap());
        if from == to || fs::rename(self.path(from), self.path(to)).is_err() {
            return false;
        }
        self.writing.remove(&to);
        self.left.remove(&to);
        if let Some(writing) = self.writing.remove(&from) {
            self.writing.insert(to, writing);
        }
        if let Some(left) = self.left.remove(&from) {
            self.left.insert(to, left);
        }
        let touched = self.touched.get(&from).cloned().unwrap_or_default();
        self.touched.entry(to).or_default().extend(touched);
        true
    }

    /// Dates a file if it is still there; returns whether it was.
    pub(super) fn touch(&mut self, place: Place, stamp: Stamp) -> bool {
        let Ok(file) = File::open(self.path(place)) else { return false };
        file.set_modified(stamp.time()).unwrap();
        self.touched.entry(place).or_default().push(stamp);
        true
    }

    fn delete(&mut self, place: Place) {
        // What is not there was taken, and is still owed.
        if fs::remove_file(self.path(place)).is_ok() {
            self.writing.remove(&place);
            self.left.remove(&place);
        }
    }

    fn remove_folder(&mut self, place: Place) {
        let folder = self.path(place).parent().unwrap().to_owned();
        for place in 0..PATHS.len() {
            if self.path(place).starts_with(&folder) {
                self.delete(place);
            }
        }
        // What the daemon has renamed aside is not for others to delete; then the folder stays.
        for folder in [folder.join("sub/deeper"), folder.join("sub"), folder.join("2026-02-24"), folder.clone()] {
            let _full = fs::remove_dir(folder);
        }
    }
}

impl Stamp {
    pub(super) fn time(self) -> SystemTime {
        let days = |days: u64| UNIX_EPOCH + Duration::from_secs(days * 86_400 + 60);
        match self {
            Self::Present => SystemTime::now(),
            Self::Boot1970 => days(0),
            Self::Year2015 => days(16_437),
            Self::March2026 => days(20_513),
            Self::Year2037 => days(24_600),
        }
    }
}

fn fault(effect: Effect, asked: &'static str) -> Fault {
    match effect {
        Effect::Unavailable => Fault::fail(asked, 500, "InternalError"),
        Effect::SlowDown => Fault::fail(asked, 503, "SlowDown"),
        Effect::Denied => Fault::fail(asked, 403, "AccessDenied"),
        Effect::Skewed => Fault::fail(asked, 403, "RequestTimeTooSkewed"),
        Effect::ErrorIn200 => Fault::fail(asked, 200, "InternalError"),
        Effect::Hang => Fault::hang(asked),
        Effect::LoseReply => Fault::lose_reply(asked),
        Effect::Reset => Fault::reset(asked),
        Effect::CutBody => Fault::cut_body(asked, 10),
        Effect::Delay => Fault::delay(asked, Duration::from_millis(30)),
    }
}
