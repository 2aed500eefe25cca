//! What brings the circumstances of a case about, and what the model owes no more because of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hk_aws::drop_folder::sent_as;
use rustix::fs::{AtFlags, CWD};
use tokio::process::{Child, Command};

use super::circumstance::{Circumstance, Circumstances};
use super::operation::{Content, PAGES, Place, Rest, Stamp};
use super::world::{SETTINGS, Standing, World};
use crate::commands::hk_aws;
use crate::support::clock::{Clock, Clocked};
use crate::support::refused::refuse_flags_of_rename;
use crate::support::s3::{Conditions, Fault, MemoryS3, Object, State};
use crate::support::site::{DEADLINE, Settings, Site, files, sha256};

/// A folder on a file system that counts time by the second, if there is one.
const COARSE: &str = "HK_AWS_MODEL_COARSE";

/// The first places, whose names carry a time: parts of a file are known by it.
const TIMED: Place = 6;

/// How long a part may take to be stored and taken away.
const TAKEN: Duration = Duration::from_millis(900);

/// Long enough for a second process to meet what is being sent.
const SLOW: Duration = Duration::from_millis(300);

/// What the circumstances of a case have done.
#[derive(Default)]
pub(super) struct Struck {
    pub(super) circumstances: Circumstances,
    /// The bucket as the next roll-back leaves it.
    snapshot: BTreeMap<String, Object>,
    /// The hashes of what a roll-back took out of the bucket.
    pub(super) lost: BTreeSet<String>,
    /// The keys of what a roll-back took out of the bucket.
    pub(super) lost_keys: BTreeSet<String>,
    /// What the ledger had of what a roll-back took: keys, each with the hashes.
    pub(super) written_down: BTreeMap<String, BTreeSet<String>>,
    /// The folder that is not in its place now.
    pub(super) other: Option<Other>,
    pub(super) resumed: Vec<Resumed>,
    upload: Option<Child>,
    folders: u32,
}

/// A drop folder that is not in its place.
pub(super) struct Other {
    pub(super) path: PathBuf,
    standing: Standing,
}

/// A file of which the rest came after its first part was taken.
pub(super) struct Resumed {
    pub(super) place: Place,
    pub(super) rest: Vec<u8>,
    pub(super) whole: Vec<u8>,
}

/// A site with the store and the folder of these circumstances.
pub(super) async fn site(set: &Circumstances, settings: Settings) -> Site {
    let s3 = MemoryS3::start("evidence").await;
    let turn: usize = set.iter().map(|one| *one as usize).sum();
    for circumstance in set {
        match circumstance {
            Circumstance::Overwrites => s3.take_conditions(Conditions::Ignored),
            Circumstance::RefusesConditions => {
                s3.take_conditions([Conditions::Refused, Conditions::CalledInvalid][turn % 2]);
            }
            Circumstance::IgnoresChecksums => s3.ignore_checksums(),
            Circumstance::Cache => s3.cache_looks(),
            // It is there at the start.
            Circumstance::LoginPage => s3.fault(page(turn % PAGES.len(), 3)),
            _ => {}
        }
    }
    let coarse = std::env::var_os(COARSE).filter(|_| set.contains(&Circumstance::CoarseTimes));
    let folder = coarse.map_or_else(tempfile::tempdir, tempfile::tempdir_in).unwrap();
    let site = Site::in_folder(folder, s3, settings);
    fs::create_dir(site.path("backup")).unwrap();
    site
}

/// A daemon to which the kernel answers as it does in these circumstances.
pub(super) async fn start(set: &Circumstances, site: &Site, settings: Settings, clock: &Clock) -> Clocked {
    let config = site.config_of(settings);
    if !set.contains(&Circumstance::NoCarefulRename) {
        return Clocked::start(config, clock).await;
    }
    let knows_links = set.len() == 2;
    Clocked::start_in(config, clock, move || refuse_flags_of_rename(knows_links)).await
}

pub(super) fn page(page: usize, times: usize) -> Fault {
    let (status, headers, body) = PAGES[page];
    Fault::answer("*", status, headers, body).on_key(|_| true).times(times)
}

impl World {
    fn strike(&mut self, circumstance: Circumstance) {
        self.struck.circumstances.insert(circumstance);
    }

    pub(super) fn has(&self, circumstance: Circumstance) -> bool {
        self.circumstances.contains(&circumstance)
    }

    /// What has struck in the whole case.
    pub(super) fn all_that_struck(&self) -> Circumstances {
        let mut struck = self.struck.circumstances.clone();
        let (puts, looks, answers) =
            self.site.s3.look(|state| (state.objects().len(), state.count("HeadObject"), state.strangers_answers()));
        for circumstance in &self.circumstances {
            let has_struck = match circumstance {
                Circumstance::LikeAws
                | Circumstance::Overwrites
                | Circumstance::RefusesConditions
                | Circumstance::IgnoresChecksums
                | Circumstance::NoCarefulRename => puts > 0,
                Circumstance::Cache => looks > 0,
                Circumstance::LoginPage => answers > 0,
                // Its words say which files it met.
                Circumstance::TwoProcesses => self.said_of_upload().lines().count() > 0,
                _ => continue,
            };
            if has_struck {
                struck.insert(*circumstance);
            }
        }
        struck.retain(|circumstance| self.has(*circumstance));
        struck
    }

    /// Gives a file that was written what its writers and the folder's disk give it.
    pub(super) fn dress(&mut self, file: &File) {
        if self.has(Circumstance::CoarseTimes) {
            file.set_modified(this_second()).unwrap();
            self.strike(Circumstance::CoarseTimes);
        }
        if self.has(Circumstance::HardLink) {
            let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
            let backup = self.site.path(format!("backup/{}", self.written.len()));
            // It may have a link already, or be gone.
            if rustix::fs::linkat(CWD, own, CWD, backup, AtFlags::SYMLINK_FOLLOW).is_ok() {
                self.strike(Circumstance::HardLink);
            }
        }
    }

    pub(super) async fn rewrite(&mut self, place: Place, after: u64) {
        let date = this_second();
        self.drop_file(place, Content::Whole);
        if let Ok(file) = OpenOptions::new().write(true).open(self.path(place)) {
            file.set_modified(date).unwrap();
        }
        let other = self.content_like(self.left[&place].len());
        tokio::time::sleep(Duration::from_millis(after)).await;
        // In place, as vsftpd writes, if it is still there.
        let Ok(mut file) = OpenOptions::new().write(true).open(self.path(place)) else { return };
        self.written.push(other.clone());
        file.write_all(&other).unwrap();
        file.set_modified(date).unwrap();
        self.left.insert(place, other);
        self.strike(Circumstance::Rewrite);
    }

    pub(super) async fn redate(&mut self, place: Place, after: u64, stamp: Stamp) {
        self.drop_file(place, Content::Whole);
        tokio::time::sleep(Duration::from_millis(after)).await;
        if self.touch(place, stamp) {
            self.strike(Circumstance::Redate);
        }
    }

    pub(super) async fn move_after(&mut self, place: Place, after: u64, to: Place) {
        self.drop_file(place, Content::Whole);
        tokio::time::sleep(Duration::from_millis(after)).await;
        if self.rename(place, to) {
            self.strike(Circumstance::Redate);
        }
    }

    pub(super) async fn resume(&mut self, place: Place, how: Rest) {
        let place = place % TIMED;
        self.drop_file(place, Content::Cut);
        let first = self.left[&place].clone();
        let since = Instant::now();
        while self.path(place).exists() {
            if since.elapsed() > TAKEN {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut more = self.content(Content::Plain);
        more.extend(b"\xFF\xD9");
        let whole = [first.as_slice(), &more].concat();
        let hole = if how == Rest::BehindAHole { first.len() } else { 0 };
        let rest = [&vec![0; hole], more.as_slice()].concat();
        self.written.extend([whole.clone(), rest.clone()]);
        let mut file = self.create(place);
        file.seek(SeekFrom::Start(hole as u64)).unwrap();
        file.write_all(&more).unwrap();
        self.dress(&file);
        self.left.insert(place, rest.clone());
        self.struck.resumed.push(Resumed { place, rest, whole });
        self.strike(Circumstance::Resume);
    }

    /// Something else answers, at least once.
    pub(super) async fn page(&mut self, number: usize, times: usize) {
        let answers = |world: &Self| world.site.s3.look(State::strangers_answers);
        let before = answers(self);
        self.site.s3.fault(page(number, times));
        self.drop_file(0, Content::Whole);
        self.wait_until(|world| answers(world) > before).await;
    }

    pub(super) async fn again(&mut self) {
        self.drop_file(0, Content::Whole);
        self.wait_until(|world| !world.path(0).exists()).await;
        self.drop_file(0, Content::Whole);
    }

    /// Waits for as long as a part may take.
    async fn wait_until(&self, done: impl Fn(&Self) -> bool) {
        let since = Instant::now();
        while !done(self) && since.elapsed() < TAKEN {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) fn take_snapshot(&mut self) {
        self.struck.snapshot = self.site.s3.look(|state| state.objects().clone());
    }

    /// Takes from the bucket what came after the snapshot, as soon as there is such a thing.
    pub(super) async fn roll_back(&mut self) {
        self.drop_file(0, Content::Whole);
        let is_new = |world: &Self, key: &String| !world.struck.snapshot.contains_key(key);
        self.wait_until(|world| world.site.s3.look(|state| state.objects().keys().any(|key| is_new(world, key)))).await;
        let (told, standing) = (self.ledger_lines(), self.standing_names());
        let before = self.site.s3.roll_back(self.struck.snapshot.clone());
        for (key, object) in before {
            if self.struck.snapshot.get(&key).is_some_and(|there| there.sha256 == object.sha256) {
                continue;
            }
            self.bucket.remove(&key);
            self.struck.lost_keys.insert(key.clone());
            // A file of the same name that is being sent may have asked the ledger before the line was written.
            let is_alone = !standing.iter().any(|name| key.contains(name));
            if is_alone && told.contains(&(key.clone(), object.sha256.clone())) {
                self.struck.written_down.entry(key).or_default().insert(object.sha256.clone());
            }
            self.struck.lost.insert(object.sha256);
            self.strike(Circumstance::RollsBack);
        }
    }

    /// The names, without extension, of the files that stand in the drop folder.
    fn standing_names(&self) -> Vec<String> {
        let standing = files(&self.site.drop_path(""));
        standing.iter().filter_map(|path| Some(sent_as(path).file_stem()?.to_str()?.to_owned())).collect()
    }

    pub(super) fn another_folder(&mut self) {
        let here = self.site.drop_path("");
        let aside = self.site.path(format!("folder-{}", self.struck.folders));
        self.struck.folders += 1;
        fs::rename(&here, &aside).unwrap();
        let other = if let Some(other) = self.struck.other.take() {
            fs::rename(other.path, &here).unwrap();
            other.standing
        } else {
            fs::create_dir(&here).unwrap();
            Standing::default()
        };
        let standing = Standing {
            left: std::mem::replace(&mut self.left, other.left),
            writing: std::mem::replace(&mut self.writing, other.writing),
        };
        self.struck.other = Some(Other { path: aside, standing });
        self.strike(Circumstance::AnotherMount);
    }

    /// The other folder has every file whole as well.
    pub(super) fn finish_in_other_folder(&mut self) {
        if self.struck.other.is_some() {
            self.another_folder();
            self.finish_all();
            self.another_folder();
        }
    }

    pub(super) async fn unmount(&mut self, milliseconds: u64) {
        let (here, disk) = (self.site.drop_path(""), self.site.path("disk"));
        fs::rename(&here, &disk).unwrap();
        fs::create_dir(&here).unwrap();
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        let below = self.site.path(format!("below-{}", self.struck.folders));
        self.struck.folders += 1;
        fs::rename(&here, &below).unwrap();
        fs::rename(&disk, &here).unwrap();
        assert!(files(&below).is_empty(), "something lies under the mount point: {:?}", files(&below));
        self.strike(Circumstance::Unmounts);
    }

    /// Begins to upload in another process, unless one is at it.
    pub(super) fn upload(&mut self) {
        if self.struck.upload.as_mut().is_some_and(|upload| upload.try_wait().unwrap().is_none()) {
            return;
        }
        let log = OpenOptions::new().create(true).append(true).open(self.site.path("upload.log")).unwrap();
        self.site.s3.fault(Fault::delay("PutObject", SLOW).times(4));
        let mut command = self.command(&["upload"]);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.struck.upload = Some(command.spawn().unwrap());
        for place in 0..4 {
            self.drop_file(place, Content::Whole);
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let config = self.site.path("config.yaml");
        fs::write(&config, self.site.text_of(SETTINGS[self.settings])).unwrap();
        let mut command = hk_aws(arguments);
        command.env("HK_AWS_CONFIG", config).stdin(Stdio::null());
        command
    }

    fn said_of_upload(&self) -> String {
        fs::read_to_string(self.site.path("upload.log")).unwrap_or_default()
    }

    /// Waits until the other process has ended.
    pub(super) async fn end_upload(&mut self) -> Result<(), String> {
        let Some(mut upload) = self.struck.upload.take() else { return Ok(()) };
        // A clip takes long on a busy machine.
        let ended = tokio::time::timeout(3 * DEADLINE, upload.wait()).await;
        let said = self.said_of_upload();
        match ended {
            Ok(_) if !said.contains("panicked") => Ok(()),
            Ok(ended) => Err(format!("the upload ended with {ended:?}: {said}")),
            Err(_) => Err(format!("the upload does not end: {said}")),
        }
    }

    /// Sends what the bucket has lost from the local copies, and looks whether it is all there.
    pub(super) async fn send_again(&mut self) -> Result<(), String> {
        if self.struck.lost.is_empty() || !self.always_kept {
            return Ok(());
        }
        let said = self.command(&["verify", "--resend"]).output().await.unwrap();
        let (stored, hidden) = (self.hashes(), self.hidden_lines());
        for copy in files(&self.site.path("state/kept")) {
            let hash = sha256(&fs::read(&copy).unwrap());
            if !stored.contains(&hash) && !hidden.contains(&hash) {
                let [out, err] = [&said.stdout, &said.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
                return Err(format!("{} was not sent again: {out}{err}", copy.display()));
            }
        }
        Ok(())
    }
}

impl World {
    /// The hashes of lines behind which the ledger has another one of the same key. Two captures of one key get them if the
    /// store is rolled back in the moment between them: neither knew of the other's line when it chose the key.
    fn hidden_lines(&self) -> BTreeSet<String> {
        let mut by_key = BTreeMap::<String, BTreeSet<String>>::new();
        for (key, hash) in self.ledger_lines() {
            by_key.entry(key).or_default().insert(hash);
        }
        by_key.into_values().filter(|hashes| hashes.len() > 1).flatten().collect()
    }
}

/// The time now, as a file system counts it that counts by the second.
fn this_second() -> SystemTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UNIX_EPOCH + Duration::from_secs(now.as_secs())
}
