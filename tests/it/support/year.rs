//! Many days of a site in a few minutes: captures of each day as the daemon leaves them, a rotation a night by a moved
//! clock, and at the end every capture read back and the bill held against what the plans said. The bucket keeps versions,
//! so that what is deleted is paid for until `s3.undo` is over.
//!
//! Captures are a few hundred bytes, so that a year of them fits into memory. That is the hardest case for the plans: the
//! headers of a tar and the lines of an index weigh more than the captures.
#![expect(clippy::disallowed_methods, reason = "the steady clock is the real one")]

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use aws_smithy_types::base64;
use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use hk_aws::bucket::{Credentials, PROBE, Pace};
use hk_aws::bundle::{self, Index};
use hk_aws::clock::Now;
use hk_aws::config::Config;
use hk_aws::holdings::{archives, fetch_member, load_index};
use hk_aws::retention::RetentionPolicy;
use hk_aws::retention::prices::{self, RequestKind, STANDARD};
use hk_aws::site;
use hk_aws::{ledger, rotate};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::s3::{ACCESS_KEY, MemoryS3, Object, Older, REGION, SECRET_KEY, Versions};

/// The age at which a day is bundled, as by default.
const BUNDLED_AFTER_DAYS: u64 = 30;

/// The days by which S3 divides a monthly price.
const MONTH_DAYS: f64 = 30.0;

/// By how many seconds the wall clock is ahead of the real one; there is one for the process, because the clock that a
/// context takes is a plain function.
static AHEAD_SECONDS: AtomicI64 = AtomicI64::new(0);

/// Whose clock it is.
static TURN: Mutex<()> = Mutex::const_new(());

fn now() -> Now {
    let ahead = AHEAD_SECONDS.load(Ordering::SeqCst);
    let by = Duration::from_secs(ahead.unsigned_abs());
    let wall = if ahead < 0 { SystemTime::now() - by } else { SystemTime::now() + by };
    Now { steady: Instant::now(), wall }
}

/// A site, and for how long it is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Year {
    /// Cameras.
    pub(crate) cameras: u32,
    /// Captures a day of each.
    pub(crate) captures: u32,
    /// Days.
    pub(crate) days: u32,
    /// The class of bundles.
    pub(crate) class: &'static str,
    /// The age in days at which all is deleted; 0: never.
    pub(crate) expire: u64,
    /// Of how many members one is fetched as a user would; the bytes of all are looked at.
    pub(crate) fetch_one_of: usize,
}

/// A sum of money.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    /// As it was counted, by what the store saw.
    counted: f64,
    /// As the plans had said.
    said: f64,
}

impl Sum {
    /// By how much the plans were off, in percent of what it was.
    fn off(&self) -> f64 {
        100.0 * (self.said - self.counted) / self.counted
    }
}

/// What a site cost, and what the plans had said.
#[derive(Debug, Default)]
pub(crate) struct Bill {
    /// How many requests there were, by operation and class of the object.
    requests: BTreeMap<(&'static str, String), u64>,
    /// How much there is in the end, by class: objects, bytes, dollars a month.
    stored: BTreeMap<String, (u64, u64, f64)>,
    /// Dollars for all requests.
    asked: Sum,
    /// Dollars for what was stored, day by day.
    kept: Sum,
    /// Dollars for what was deleted: until `s3.undo` is over, and the minimum storage duration of its class.
    hidden: Sum,
    /// Dollars a month in the end.
    monthly: Sum,
    /// How much was deleted, by class: objects, bytes.
    deleted: BTreeMap<String, (u64, u64)>,
    /// Captures that were stored.
    stored_captures: u64,
    /// Of these, captures that were read out of bundles, lie loose, and expired.
    pub(crate) members: u64,
    loose: u64,
    expired: u64,
    fetched: u64,
    elapsed: Duration,
}

impl Year {
    fn camera(number: u32) -> String {
        format!("CAM-EXT-{number:03}")
    }

    fn first_day() -> NaiveDate {
        DateTime::<Utc>::from(UNIX_EPOCH + Duration::from_hours(24 * 20_089)).date_naive()
    }

    fn taken(&self, day: u32, number: u32) -> DateTime<Utc> {
        let seconds = i64::from(number) * 86_400 / i64::from(self.captures);
        let date = Self::first_day() + Days::new(day.into());
        (date.and_time(NaiveTime::MIN) + TimeDelta::seconds(seconds)).and_utc()
    }

    fn file(&self, camera: u32, day: u32, number: u32) -> String {
        let taken = self.taken(day, number).format("%Y%m%d%H%M%S%3f");
        format!("192.168.1.{}_01_{taken}_MOTION_DETECTION.jpg", 64 + camera)
    }

    /// 200 to 300 bytes that no other capture has.
    fn bytes(camera: u32, day: u32, number: u32) -> Vec<u8> {
        let mut state = (u64::from(camera) << 48 | u64::from(day) << 24 | u64::from(number)) + 1;
        let length = 200 + (state.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % 100;
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[0]
        };
        (0..length).map(|_| byte()).collect()
    }

    /// Lives through it in `folder`, and holds all captures and the bill against what was expected.
    ///
    /// # Errors
    /// Where anything is not as it should be.
    pub(crate) async fn live(&self, folder: &Path) -> anyhow::Result<Bill> {
        let _mine = TURN.lock().await;
        let began = Instant::now();
        let s3 = MemoryS3::start("year").await;
        s3.keep_versions(Versions::Kept);
        let at = folder.display();
        let expire = if self.expire == 0 { "null".to_owned() } else { format!("{{after: {}d}}", self.expire) };
        let config = format!(
            "drop_folder: {{path: '{at}/drop'}}\nstate_dir: '{at}/state'\nruntime_dir: '{at}/run'\ntimezone: UTC\n\
             s3: {{bucket: year, region: {REGION}, endpoint_url: '{}', path_style: true}}\nkeep: {{min_free: 0}}\n\
             rotate: {{archive: {{after: {BUNDLED_AFTER_DAYS}d, class: {class}}}, expire: {expire}}}\n",
            s3.endpoint(),
            class = self.class,
        );
        std::fs::create_dir_all(folder.join("state"))?;
        let config = Config::parse(Path::new("year.yaml"), &config, &|_| None);
        let config = config.map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let policy = RetentionPolicy::of(&config);
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "year");
        let context = site::Site::new(Arc::new(config), Some(credentials), Pace::new(now), now).await;
        let mut bill = Bill::default();
        let mut seen = 0;
        for day in 0..self.days {
            let date = Self::first_day() + Days::new(day.into());
            self.capture(&s3, &context, day, &mut bill)?;
            // A quarter past three of the next night.
            let night = date.and_time(NaiveTime::MIN) + TimeDelta::minutes(24 * 60 + 195);
            let ahead = night.and_utc().timestamp() - Utc::now().timestamp();
            AHEAD_SECONDS.store(ahead, Ordering::SeqCst);
            s3.date_stored_ahead(ahead);
            s3.date_answers_ahead(ahead);
            let plan = rotate::plan(&context, &policy, rotate::Scope::default()).await?;
            let total = plan.summary.total();
            let requests = total.requests.price();
            bill.asked.said += requests + plan.looks.price();
            // Nothing is moved, which would cost for reading.
            bill.hidden.said += total.now - requests;
            bill.monthly.said += total.monthly;
            let mut outcome = rotate::Rotated::default();
            rotate::apply(&context, &policy, &plan, &mut outcome, &CancellationToken::new(), |_| {}).await?;
            ensure!(outcome.failures.is_empty() && outcome.fetched == 0, "{date}: {outcome:?}");
            rotate::tidy(&context, &mut outcome).await;
            seen = bill.count(&s3, seen);
            bill.count_hidden(&s3, context.config.s3.undo);
            bill.kept.counted += storage_month(&s3) / MONTH_DAYS;
            bill.kept.said += bill.monthly.said / MONTH_DAYS;
        }
        self.look_back(&s3, &context, folder, &mut bill).await?;
        bill.look_at_the_end(&s3);
        bill.elapsed = began.elapsed();
        AHEAD_SECONDS.store(0, Ordering::SeqCst);
        Ok(bill)
    }

    /// Leaves behind what the daemon leaves of one day: objects, local copies, lines of the ledger.
    fn capture(&self, s3: &MemoryS3, context: &site::Site, day: u32, bill: &mut Bill) -> anyhow::Result<()> {
        let date = Self::first_day() + Days::new(day.into());
        for camera in 0..self.cameras {
            let name = Self::camera(camera);
            let kept = context.config.keep.path.join(&name).join(date.to_string());
            std::fs::create_dir_all(&kept)?;
            for number in 0..self.captures {
                let (file, bytes) = (self.file(camera, day, number), Self::bytes(camera, day, number));
                let (key, taken) = (format!("{name}/{date}/{file}"), self.taken(day, number));
                let digest = Sha256::digest(&bytes);
                let (sha256, stored_at) = (hex::encode(digest), taken + TimeDelta::seconds(1));
                std::fs::write(kept.join(&file), &bytes)?;
                let entry = ledger::LedgerEntry {
                    stored_at,
                    key: key.clone(),
                    size: bytes.len() as u64,
                    sha256: sha256.clone(),
                    taken_at: taken.fixed_offset(),
                    event: Some("MOTION_DETECTION".to_owned()),
                    source: format!("{name}/{file}"),
                    partial: false,
                };
                ledger::append(&context.ledger(), &name, &entry)?;
                bill.stored_captures += 1;
                bill.monthly.said += prices::storage_month(STANDARD, bytes.len() as u64);
                s3.insert_with(&key, bytes, |object| {
                    object.checksum.checksum_sha256 = Some(base64::encode(digest));
                    object.last_modified = stored_at.into();
                    object.metadata = BTreeMap::from([
                        ("camera".to_owned(), name.clone()),
                        ("taken-at".to_owned(), taken.to_rfc3339()),
                        ("sha256".to_owned(), sha256),
                    ]);
                });
            }
        }
        Ok(())
    }

    /// Finds every day of it, and brings every capture back that did not expire.
    async fn look_back(
        &self,
        s3: &MemoryS3,
        context: &site::Site,
        folder: &Path,
        bill: &mut Bill,
    ) -> anyhow::Result<()> {
        // The last rotation was in the night after the last day.
        let today = u64::from(self.days);
        for camera in 0..self.cameras {
            let name = Self::camera(camera);
            let mut archives = archives(context, &name).await?;
            for day in 0..self.days {
                let date = Self::first_day() + Days::new(day.into());
                let (age, archived) = (today - u64::from(day), archives.remove(&date));
                let raw = (0..self.captures).map(|number| (number, self.file(camera, day, number)));
                if age < BUNDLED_AFTER_DAYS || self.expire > 0 && age >= self.expire {
                    let expired = age >= BUNDLED_AFTER_DAYS;
                    ensure!(archived.is_none(), "{name} {date} has a bundle");
                    for (number, file) in raw {
                        let object = s3.object(&format!("{name}/{date}/{file}")).and_then(|object| object.bytes);
                        let expected = (!expired).then(|| Self::bytes(camera, day, number));
                        ensure!(object.as_deref() == expected.as_deref(), "{name} {date} {file}");
                        (*if expired { &mut bill.expired } else { &mut bill.loose }) += 1;
                    }
                    continue;
                }
                let archived = archived.with_context(|| format!("{name} {date} has no bundle"))?;
                let mut expected: BTreeMap<String, u32> = raw.map(|(number, file)| (file, number)).collect();
                for part in archived.parts.keys() {
                    let index = load_index(context, part).await?;
                    // As it is once somebody asked for it and waited.
                    s3.edit(&index.bundle.key, |object| {
                        object.restore = Some("ongoing-request=\"false\"".to_owned());
                    });
                    self.open(s3, context, folder, &index, bill, |file| {
                        expected.remove(file).map(|number| Self::bytes(camera, day, number))
                    })
                    .await?;
                }
                ensure!(expected.is_empty(), "{name} {date} misses {expected:?}");
            }
        }
        Ok(())
    }

    /// Looks at all members of a bundle, and fetches some as `hk-aws get` does.
    async fn open(
        &self,
        s3: &MemoryS3,
        context: &site::Site,
        folder: &Path,
        index: &Index,
        bill: &mut Bill,
        mut expected: impl FnMut(&str) -> Option<Vec<u8>>,
    ) -> anyhow::Result<()> {
        let bundle = s3.object(&index.bundle.key).and_then(|object| object.bytes).context("a bundle has bytes")?;
        for member in &index.members {
            let wanted = expected(&member.name).with_context(|| format!("{} was never stored", member.name))?;
            let (from, length) = (usize::try_from(member.offset)?, usize::try_from(member.length)?);
            let piece = bundle.slice(from..from + length);
            let mut bytes = Vec::new();
            bundle::unpack(index.bundle.format, std::io::Cursor::new(piece))?.read_to_end(&mut bytes)?;
            ensure!(bytes == wanted, "{} in {} is not what was stored", member.name, index.bundle.key);
            bill.members += 1;
            if bill.members.is_multiple_of(self.fetch_one_of as u64) {
                let mut file =
                    File::options().create(true).write(true).read(true).truncate(true).open(folder.join("got"))?;
                fetch_member(context, index, member, file.try_clone()?).await?;
                file.rewind()?;
                bytes.clear();
                file.read_to_end(&mut bytes)?;
                ensure!(bytes == wanted, "{} came back as something else", member.name);
                bill.fetched += 1;
            }
        }
        Ok(())
    }
}

impl Bill {
    /// Takes the requests on that came after the first `seen`; answers how many there are.
    fn count(&mut self, s3: &MemoryS3, seen: usize) -> usize {
        s3.look(|state| {
            for request in state.requests()[seen..].iter().filter(|request| !request.is_probe()) {
                let object = state.object(&request.key).map(|object| object.storage_class.clone());
                let class = object.unwrap_or_else(|| STANDARD.to_owned());
                let kind = match request.operation {
                    "ListObjectsV2" => RequestKind::List,
                    "PutObject" => RequestKind::Put,
                    "HeadObject" => RequestKind::Head,
                    "CopyObject" => RequestKind::Copy,
                    "DeleteObjects" => RequestKind::Delete,
                    // Questions about the bucket cost as much ("Amazon S3 pricing", "GET, SELECT, and all other requests").
                    _ => RequestKind::Get,
                };
                self.asked.counted += prices::request(kind, &class);
                *self.requests.entry((request.operation, class)).or_default() += 1;
            }
            state.requests().len()
        })
    }

    /// Counts what everything that was deleted costs until it is gone, and takes it away now: a year of it would not fit
    /// into memory.
    fn count_hidden(&mut self, s3: &MemoryS3, undo: Duration) {
        for (_, versions) in s3.take_older().iter().filter(|(key, _)| *key != PROBE) {
            for pair in versions.windows(2) {
                let [Older::Object(object), Older::Marker { since, .. }] = pair else { continue };
                let class = &object.storage_class;
                let minimum = Duration::from_hours(24) * prices::minimum_days(class);
                let gone = removed_at(*since, undo).max(object.last_modified + minimum);
                let days = gone.duration_since(*since).unwrap_or_default().as_secs_f64() / 86_400.0;
                self.hidden.counted += prices::storage_month(class, object.len) * days / MONTH_DAYS;
                let (objects, bytes) = self.deleted.entry(class.clone()).or_default();
                (*objects, *bytes) = (*objects + 1, *bytes + object.len);
            }
        }
    }

    fn look_at_the_end(&mut self, s3: &MemoryS3) {
        s3.look(|state| {
            for object in state.objects().values() {
                let month = prices::storage_month(&object.storage_class, object.len);
                let (objects, bytes, dollars) = self.stored.entry(object.storage_class.clone()).or_default();
                (*objects, *bytes, *dollars) = (*objects + 1, *bytes + object.len, *dollars + month);
                self.monthly.counted += month;
            }
        });
    }

    /// The whole bill of all days.
    fn whole(&self) -> Sum {
        let parts = [self.asked, self.kept, self.hidden];
        Sum { counted: parts.iter().map(|part| part.counted).sum(), said: parts.iter().map(|part| part.said).sum() }
    }

    /// By how much the plans were off in each part and in the whole, in percent of what it was.
    pub(crate) fn off(&self) -> [f64; 5] {
        [self.asked, self.kept, self.hidden, self.monthly, self.whole()].map(|sum| sum.off())
    }
}

impl fmt::Display for Bill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stored_captures, members, loose, expired, fetched, .. } = self;
        writeln!(
            f,
            "{stored_captures} captures: {members} read out of bundles ({fetched} of them fetched one by one), {loose} \
             loose, {expired} expired; all as they were stored; {:.1} s",
            self.elapsed.as_secs_f64()
        )?;
        for ((operation, class), count) in &self.requests {
            writeln!(f, "  {operation:<28} {class:<10} {count:>9}")?;
        }
        for (class, (objects, bytes, dollars)) in &self.stored {
            writeln!(f, "  stored in {class:<29} {objects:>9} objects {bytes:>13} bytes  ${dollars:.6} a month")?;
        }
        for (class, (objects, bytes)) in &self.deleted {
            writeln!(f, "  deleted from {class:<26} {objects:>9} objects {bytes:>13} bytes")?;
        }
        for (what, sum) in [
            ("requests", self.asked),
            ("storage, day by day", self.kept),
            ("what was deleted, until it is gone", self.hidden),
            ("the whole", self.whole()),
            ("storage in the end, a month", self.monthly),
        ] {
            writeln!(f, "{what}: ${:.6}, the plans said ${:.6} ({:+.2} %)", sum.counted, sum.said, sum.off())?;
        }
        Ok(())
    }
}

/// Returns when a lifecycle rule removes what was deleted: "S3 calculates the time by adding the number of days specified in
/// the rule to the time when the new successor version of the object is created and rounding up the resulting time to
/// the next day at midnight UTC" (S3 User Guide, "Lifecycle rules: Based on an object's age").
fn removed_at(deleted: SystemTime, undo: Duration) -> SystemTime {
    let due = DateTime::<Utc>::from(deleted + undo).date_naive() + Days::new(1);
    due.and_time(NaiveTime::MIN).and_utc().into()
}

/// Returns the dollars a month for all current objects.
fn storage_month(s3: &MemoryS3) -> f64 {
    let month = |object: &Object| prices::storage_month(&object.storage_class, object.len);
    s3.look(|state| state.objects().values().map(month).sum())
}
