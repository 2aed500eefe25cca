//! What must hold.
//!
//! After every few operations:
//! * (I1) what a writer left stands in the folder with its bytes, or these bytes are in the bucket;
//! * (I2) no object changes or vanishes;
//! * what an object holds was written by somebody, or is the beginning of that, as far as it had come when it was read;
//!   its metadata tells its hash, and what is marked as cut off is;
//! * nothing panicked.
//!
//! While trouble lasts (I3) the status accounts for each file that stands. When all trouble is over (I5):
//! * the folder is empty but for what is ignored, and what was empty is set aside;
//! * what was left last under each path is in the bucket, under its camera and its date, marked as cut off if it is;
//! * each of these has one line in the ledger, and its copy where copies are kept; no line or copy is without an object;
//! * no upload in parts is left over for what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, Days, NaiveDate, Utc};
use hk_aws::bucket::PROBE;
use hk_aws::ledger::LedgerEntry;

use super::circumstance::Circumstance;
use super::operation::{PATHS, Place, Stamp};
use super::world::World;
use crate::support::site::{files, ledger_text, sha256};

/// An outage that needs the operator is probed every 30 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// What still goes on once the folder is empty ends within this time, on a busy machine too.
const SETTLED: Duration = Duration::from_mins(1);

/// A write or a read of a page is one; what is longer can change half-way.
const PAGE: usize = 4096;

type Wrong = String;

impl World {
    pub(super) async fn check(&mut self) -> Result<(), Wrong> {
        let daemon = self.daemon.as_ref().unwrap();
        if daemon.has_ended() {
            return Err("the loop panicked".to_owned());
        }
        let panicked =
            daemon.snapshots.borrow().last_errors.iter().find(|error| error.message.contains("panick")).cloned();
        if let Some(error) = panicked {
            return Err(error.message);
        }
        self.i1_what_is_gone_is_stored().await?;
        self.i2_objects_stay_and_are_what_they_say()
    }

    async fn i1_what_is_gone_is_stored(&self) -> Result<(), Wrong> {
        // The folder first: what leaves it in between must have been stored before.
        let mut standing = self.standing();
        let stored = self.hashes();
        let owed = |standing: &[Vec<u8>]| {
            let owed = self.left.iter().filter(|(_, content)| !content.is_empty());
            let is_safe = |hash: &String| stored.contains(hash) || self.struck.lost.contains(hash);
            let mut owed = owed.filter(|(_, content)| !standing.contains(content) && !is_safe(&sha256(content)));
            owed.next().map(|(place, content)| (*place, content.len()))
        };
        // A name that changes while a folder is read may not be seen under either.
        for _ in 0..5 {
            if owed(&standing).is_none() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            standing = self.standing();
        }
        let names = files(&self.site.drop_path(""));
        let owed = owed(&standing).map(|(place, length)| format!("{length} bytes of {}", PATHS[place]));
        owed.map_or(Ok(()), |owed| Err(format!("i1: {owed} are lost; {names:?} stand; {:?}", self.site.s3.keys())))
    }

    /// Whether bytes that look whole may be marked as cut off: a file that is open and does not grow, and one without a header
    /// that follows a part of the same capture.
    fn may_be_partial(&self, key: &str) -> bool {
        let root = key.split('~').next().unwrap();
        let is_part = |other: &String| other.starts_with(root) && other.contains("~partial-");
        let lost = self.struck.lost_keys.iter().any(is_part);
        self.has_begun || lost || self.site.s3.keys().iter().any(|other| other != key && is_part(other))
    }

    fn i2_objects_stay_and_are_what_they_say(&mut self) -> Result<(), Wrong> {
        let objects = self.site.s3.look(|state| state.objects().clone());
        for (key, hash) in &self.bucket {
            if objects.get(key).is_none_or(|object| object.sha256 != *hash) {
                return Err(format!("i2: {key} is not what it was"));
            }
        }
        for (key, object) in objects {
            if self.bucket.contains_key(&key) || key == PROBE {
                continue;
            }
            let bytes = object.bytes.unwrap();
            if object.metadata.get("sha256") != Some(&object.sha256) {
                let is = self.written.iter().position(|written| written.starts_with(&bytes));
                let says = object.metadata.get("sha256");
                let meant = self.written.iter().position(|written| Some(&sha256(written)) == says);
                return Err(format!(
                    "{key} holds {} bytes of content {is:?}, and says that it holds {says:?}, which is content {meant:?}",
                    bytes.len()
                ));
            }
            let was_written = self.written.iter().any(|written| written.starts_with(&bytes));
            if bytes.len() <= PAGE && !was_written && !self.is_joined(&bytes) {
                return Err(format!("nobody wrote the {} bytes of {key}", bytes.len()));
            }
            let partial = object.metadata.contains_key("partial");
            if partial != key.contains("~partial-") || partial && !is_cut(&bytes) && !self.may_be_partial(&key) {
                return Err(format!("{key} is marked wrongly as cut off or whole"));
            }
            if self.struck.written_down.get(&key).is_some_and(|told| !told.contains(&object.sha256)) {
                return Err(format!("i2: {key} has other bytes than the ledger says"));
            }
            self.bucket.insert(key, object.sha256);
        }
        Ok(())
    }

    /// Whether these may be a part and a rest. A rest alone does not say of which part: any of the same name may fit.
    fn is_joined(&self, bytes: &[u8]) -> bool {
        let alike = |written: &Vec<u8>| written.iter().zip(bytes).take_while(|(one, other)| one == other).count();
        let rest = &bytes[self.written.iter().map(alike).max().unwrap_or(0)..];
        !self.struck.resumed.is_empty() && self.written.iter().any(|written| written.ends_with(rest))
    }

    /// Waits until the status accounts for each file that stands, whatever trouble there is.
    pub(super) async fn i3_status_accounts_for_each_file(&mut self) -> Result<(), Wrong> {
        let since = Instant::now();
        loop {
            let daemon = self.daemon.as_mut().unwrap();
            daemon.look().await;
            // Told once a second.
            let _told = daemon.snapshots.changed().await;
            let status = daemon.snapshots.borrow_and_update().clone();
            let told: BTreeSet<String> =
                status.files.into_iter().chain(status.not_uploaded).map(|file| file.path).collect();
            let drop_folder = self.site.drop_path("");
            let standing = files(&drop_folder).into_iter().filter(|path| !is_aside(path));
            let path = |path: &Path| path.strip_prefix(&drop_folder).unwrap().to_str().unwrap().to_owned();
            let untold: Vec<String> = standing.map(|file| path(&file)).filter(|path| !told.contains(path)).collect();
            if untold.is_empty() {
                return Ok(());
            }
            if since.elapsed() > PATIENCE {
                return Err(format!("i3: the status does not tell of {untold:?}"));
            }
        }
    }

    pub(super) async fn check_end(&mut self) -> Result<(), Wrong> {
        self.end_upload().await?;
        self.check_folder().await?;
        if self.struck.other.is_some() {
            self.another_folder();
            self.check_folder().await?;
        }
        self.point_10_one_capture_is_one_object()?;
        self.wait_until_no_parts_are_left().await?;
        self.send_again().await
    }

    /// What was written and re-dated or renamed while nothing failed is one object.
    fn point_10_one_capture_is_one_object(&self) -> Result<(), Wrong> {
        let mut whole = self.bucket.iter().filter(|(key, _)| self.is_calm && !key.contains('~'));
        let mut seen = BTreeMap::new();
        let twice = whole.find_map(|(key, hash)| seen.insert(hash, key).map(|before| (before, key)));
        twice.map_or(Ok(()), |twice| Err(format!("{twice:?} are one capture")))
    }

    /// Waits until the folder that is in its place now is empty, and looks for what was left there.
    async fn check_folder(&mut self) -> Result<(), Wrong> {
        self.wait_until_drained().await?;
        self.check().await?;
        if PATHS.iter().enumerate().any(|(place, _)| is_ignored(place) && self.left.contains_key(&place)) {
            self.i3_status_accounts_for_each_file().await?;
        }
        // The bucket last: what is on its way out of another folder is stored before it is written down.
        let told = self.ledger_texts();
        self.i2_objects_stay_and_are_what_they_say()?;
        let ledger = self.ledger(&told)?;
        let kept: BTreeSet<String> =
            files(&self.site.path("state/kept")).iter().map(|copy| sha256(&fs::read(copy).unwrap())).collect();
        let stored = self.hashes();
        if let Some(copy) = kept.difference(&stored).find(|copy| !self.struck.lost.contains(*copy)) {
            return Err(format!("a copy is kept of what is not in the bucket: {copy}"));
        }
        for (place, content) in &self.left {
            self.i5_is_settled(*place, content, &ledger, &kept)?;
        }
        self.i5_what_was_resumed_is_joined()
    }

    /// The rest of a file is joined with its first part if nobody has touched either, and the part can be had.
    fn i5_what_was_resumed_is_joined(&self) -> Result<(), Wrong> {
        let stored = self.hashes();
        for resumed in &self.struck.resumed {
            let is_there = self.left.get(&resumed.place) == Some(&resumed.rest);
            // The part and the rest may be sent by two processes in the same moment.
            let by_another = self.has(Circumstance::TwoProcesses);
            // A rest that waited in a folder out of its place comes after the parts that were sent in the other one.
            let name = Path::new(PATHS[resumed.place]).file_stem().unwrap().to_str().unwrap();
            let is_part = |key: &&String| key.contains("~partial-") && key.contains(name);
            let came_late = self.has(Circumstance::AnotherMount) && self.bucket.keys().filter(is_part).count() > 1;
            let can_be = self.always_kept
                && !by_another
                && !came_late
                && self.struck.lost.is_empty()
                && !self.touched.contains_key(&resumed.place);
            if is_there && can_be && !stored.contains(&sha256(&resumed.whole)) {
                return Err(format!("{} was not joined with its first part: {:?}", PATHS[resumed.place], self.bucket));
            }
        }
        Ok(())
    }

    async fn wait_until_no_parts_are_left(&self) -> Result<(), Wrong> {
        // Parts of a file that its owner took back stay until the bucket's own rules clear them away.
        let is_whole = |key: &str| {
            let hash = self.bucket.get(key);
            self.left.values().any(|content| content.len() > 16 << 20 && Some(&sha256(content)) == hash)
        };
        let since = Instant::now();
        loop {
            let uploads = self.site.s3.uploads();
            let Some(upload) = uploads.iter().find(|(key, _)| self.always_kept && is_whole(key)) else { return Ok(()) };
            // Where the clock went back, what is being taken away looks left behind, and is put once more.
            if since.elapsed() > SETTLED {
                return Err(format!("parts are left over: {upload:?}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn i5_is_settled(
        &self,
        place: Place,
        content: &[u8],
        ledger: &BTreeSet<(String, String)>,
        kept: &BTreeSet<String>,
    ) -> Result<(), Wrong> {
        let path = PATHS[place];
        if is_ignored(place) {
            let standing = fs::read(self.path(place)).ok();
            return if standing.as_deref() == Some(content) {
                Ok(())
            } else {
                Err(format!("{path} is ignored, but gone"))
            };
        }
        if content.is_empty() {
            let aside = self.site.path("state/set-aside").join(path);
            return if aside.exists() { Ok(()) } else { Err(format!("{path} was empty and is not set aside")) };
        }
        let hash = sha256(content);
        if self.struck.lost.contains(&hash) && !self.hashes().contains(&hash) {
            return Ok(());
        }
        let camera = path.split('/').next().unwrap();
        let at_home = |key: &str| {
            let [found, date, _] = key.split('/').collect::<Vec<_>>()[..] else { return false };
            found == camera && date.parse().is_ok_and(|date| self.dates(place).contains(&date))
        };
        let keys = self
            .bucket
            .iter()
            .filter(|(key, found)| **found == hash && (at_home(key) || self.has_renamed))
            .filter(|(key, _)| key.contains("~partial-") == is_cut(content) || self.may_be_partial(key));
        let keys: Vec<&String> = keys.map(|(key, _)| key).collect();
        let told = |key: &&&String| ledger.contains(&((**key).clone(), hash.clone()));
        if keys.is_empty() {
            let elsewhere: Vec<_> = self.bucket.iter().filter(|(_, found)| **found == hash).collect();
            return Err(format!("i5: {} bytes of {path} are not in the bucket, but {elsewhere:?}", content.len()));
        }
        if !keys.iter().any(|key| told(&key)) {
            return Err(format!("{keys:?} have no line in the ledger"));
        }
        if self.always_kept && !kept.contains(&hash) {
            return Err(format!("{keys:?} have no local copy"));
        }
        Ok(())
    }

    async fn wait_until_drained(&mut self) -> Result<(), Wrong> {
        let (since, mut waited) = (Instant::now(), false);
        loop {
            let ignored = |path: &Path| path.extension().is_some_and(|extension| extension == "tmp") && !is_aside(path);
            let mut standing = files(&self.site.drop_path(""));
            standing.retain(|path| !ignored(path));
            if standing.is_empty() {
                return Ok(());
            }
            // What a crash left aside is taken up again minutes later.
            if !waited && since.elapsed() > Duration::from_secs(1) && standing.iter().all(|path| is_aside(path)) {
                waited = true;
                self.clock.step(400);
                self.daemon.as_ref().unwrap().look().await;
            }
            if since.elapsed() > PATIENCE {
                let status = self.daemon.as_ref().unwrap().snapshots.borrow().clone();
                return Err(format!("i5: {standing:?} do not go; {status:#?}"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Key and hash of every line; each has its object, and is there once.
    fn ledger(&self, texts: &[String]) -> Result<BTreeSet<(String, String)>, Wrong> {
        let mut lines = BTreeSet::new();
        // A kill while a day is compressed leaves the same lines in both files.
        let told: BTreeSet<&str> = texts.iter().flat_map(|text| text.lines()).collect();
        // Other lines say that a file came again under another name.
        for line in told.into_iter().filter(|line| !line.starts_with("{\"seen_again_at\"")) {
            let entry: LedgerEntry = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
            let is_lost = self.struck.lost.contains(&entry.sha256);
            if self.bucket.get(&entry.key) != Some(&entry.sha256) && !is_lost {
                return Err(format!("the ledger tells of {}, which is not in the bucket", entry.key));
            }
            // Each of two processes that send a file together may be the one that stored it.
            let are_two = self.has(Circumstance::TwoProcesses);
            if !lines.insert((entry.key, entry.sha256)) && !is_lost && !are_two {
                return Err(format!("the ledger tells twice: {line}"));
            }
        }
        Ok(lines)
    }

    /// Key and hash of every line that can be read now.
    pub(super) fn ledger_lines(&self) -> BTreeSet<(String, String)> {
        let texts = self.ledger_texts();
        let entries = texts.iter().flat_map(|text| text.lines()).filter_map(|line| serde_json::from_str(line).ok());
        entries.map(|entry: LedgerEntry| (entry.key, entry.sha256)).collect()
    }

    fn ledger_texts(&self) -> Vec<String> {
        files(&self.site.path("state/ledger")).iter().map(|file| ledger_text(file)).collect()
    }

    /// The content of every file that stands in a drop folder.
    fn standing(&self) -> Vec<Vec<u8>> {
        let other = self.struck.other.iter().flat_map(|other| files(&other.path));
        files(&self.site.drop_path("")).into_iter().chain(other).filter_map(|path| fs::read(path).ok()).collect()
    }

    /// The hashes of all objects.
    pub(super) fn hashes(&self) -> BTreeSet<String> {
        self.site.s3.look(|state| state.objects().values().map(|object| object.sha256.clone()).collect())
    }

    /// The dates under which what was left at a place may be filed.
    fn dates(&self, place: Place) -> BTreeSet<NaiveDate> {
        let date = |time| DateTime::<Utc>::from(time).date_naive();
        let touched: BTreeMap<bool, BTreeSet<NaiveDate>> =
            self.touched.get(&place).into_iter().flatten().fold(BTreeMap::new(), |mut dates, stamp| {
                dates.entry(matches!(stamp, Stamp::Year2015)).or_default().insert(date(stamp.time()));
                dates
            });
        let of = |is_before: bool| touched.get(&is_before).cloned().unwrap_or_default();
        // A name's time lies ahead of such an arrival, and is not believed.
        let mut dates = of(true);
        if PATHS[place].contains("20260224") {
            dates.insert(NaiveDate::from_ymd_opt(2026, 2, 24).unwrap());
        } else {
            let today = Utc::now().date_naive();
            dates.extend(of(false));
            dates.extend([today, today - Days::new(1)]);
        }
        dates
    }
}

fn is_ignored(place: Place) -> bool {
    Path::new(PATHS[place]).extension().is_some_and(|extension| extension == "tmp")
}

fn is_aside(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_str().unwrap().starts_with(".hk-aws-"))
}

/// Whether it is a picture without its end.
fn is_cut(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0; 12])
        || bytes.starts_with(b"\xFF\xD8\xFF") && !bytes.windows(2).any(|pair| pair == b"\xFF\xD9")
}
