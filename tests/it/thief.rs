//! A thief with the box's keys in the bucket of the template, while captures come and are bundled: after whatever
//! sequence, the owner brings back every byte that was confirmed.
//!
//! The number of runs is set by `HK_AWS_THIEVES`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use hk_aws::archive::{Reads, archive_day};
use hk_aws::bucket::{Credentials, Pace};
use hk_aws::bundle::Index;
use hk_aws::config::ArchiveSettings;
use hk_aws::key::ArchiveFormat;
use hk_aws::recover::{LeftHidden, RecoverMode, RecoverOrder, Recovered, Window, recover};
use hk_aws::{daemon, site};

use crate::kill::Chance;
use crate::model::bucket::{Lie, forge};
use crate::support::s3::{ACCESS_KEY, OWNERS_ACCESS_KEY, Object, SECRET_KEY};
use crate::support::site::{Settings, Site, bytes, sha256};

const DATES: [&str; 2] = ["2022-02-24", "2022-02-25"];

/// What happens in a run before the owner acts.
const OPERATIONS: u64 = 30;

#[tokio::test]
async fn i9_whatever_a_thief_does_between_captures_and_bundles_every_confirmed_byte_comes_back() {
    let runs = std::env::var("HK_AWS_THIEVES").map_or(4, |runs| runs.parse().unwrap());
    for run in 0..runs {
        let mut place = Place::new(Chance(run + 1)).await;
        for _ in 0..OPERATIONS {
            place.step().await;
        }
        let told = place.recover(run).await;
        place.check(run);
        let again = place.recover(run).await;
        assert!(again.is_empty(), "run {run}: after {told:#?} comes {again:#?}");
        place.check(run);
    }
}

/// Found by the model of the bucket: what the first one had put in front counted as the newest.
#[tokio::test]
async fn i9_a_second_recover_leaves_in_front_what_was_there_first() {
    let mut place = Place::new(Chance(1)).await;
    while !place.site.s3.keys().iter().any(|key| key.ends_with(".index.json")) {
        place.capture();
        place.rotate().await;
    }
    let archive = || {
        let is_archive = |key: &&String| key.contains("/archive/") && !key.contains("~recovered-");
        let objects = place.site.s3.look(|state| state.objects().clone());
        let archive = objects.iter().filter(|(key, _)| is_archive(key));
        archive.map(|(key, object)| (key.clone(), object.sha256.clone())).collect::<BTreeMap<_, _>>()
    };
    let made = archive();
    for key in made.keys() {
        place.thief().delete_object().bucket("evidence").key(key).send().await.unwrap();
    }
    let date = DATES.into_iter().find(|date| made.keys().all(|key| key.contains(date))).unwrap();
    forge(&place.site.s3, "CAM", date, Lie::InventedCaptures).await;
    assert!(made.iter().all(|(key, sha256)| archive().get(key).is_some_and(|there| there != sha256)));
    for _ in 0..3 {
        place.recover(0).await;
        assert_eq!(archive(), made);
    }
}

struct Place {
    site: Site,
    chance: Chance,
    /// The SHA-256 of what was confirmed, with its key.
    confirmed: BTreeMap<String, String>,
    done: Vec<String>,
    captures: u64,
}

impl Place {
    async fn new(chance: Chance) -> Self {
        let site = Site::new(Settings { rest: "rotate: {cameras: all}", ..Settings::default() }).await;
        site.s3.deny_overwriting();
        Self { site, chance, confirmed: BTreeMap::new(), done: Vec::new(), captures: 0 }
    }

    async fn context(&self, access_key: &str) -> site::Site {
        let credentials = Credentials::new(access_key, SECRET_KEY, None, None, "test");
        let config = Arc::new(self.site.config());
        site::Site::new(config, Some(credentials), Pace::new(daemon::now), daemon::now).await
    }

    fn thief(&self) -> Client {
        self.site.s3.client()
    }

    /// One thing that happens.
    async fn step(&mut self) {
        match self.chance.below(10) {
            0..=3 => self.capture(),
            4 | 5 => self.delete().await,
            6 | 7 => self.put().await,
            _ => self.rotate().await,
        }
    }

    fn capture(&mut self) {
        let date = self.any_date();
        self.captures += 1;
        let (key, bytes) = (format!("CAM/{date}/{:03}.jpg", self.captures), bytes(self.captures, 100));
        self.confirmed.insert(sha256(&bytes), key.clone());
        self.done.push(format!("capture {key}"));
        self.site.s3.insert(&key, bytes);
    }

    fn any_date(&mut self) -> &'static str {
        DATES[usize::try_from(self.chance.below(2)).unwrap()]
    }

    /// A key of a capture, a bundle or an index that is there, or was.
    fn any_key(&mut self) -> Option<String> {
        let keys: BTreeSet<String> = self.site.s3.look(|state| {
            let current = state.objects().keys().chain(state.older().keys());
            current.filter(|key| key.starts_with("CAM/")).cloned().collect()
        });
        let at = self.chance.below(keys.len().max(1) as u64);
        keys.into_iter().nth(usize::try_from(at).unwrap())
    }

    async fn delete(&mut self) {
        let Some(key) = self.any_key() else { return };
        self.thief().delete_object().bucket("evidence").key(&key).send().await.unwrap();
        self.done.push(format!("delete {key}"));
    }

    async fn put(&mut self) {
        let Some(key) = self.any_key() else { return };
        let junk = ["", "{}", "junk", "more junk"][usize::try_from(self.chance.below(4)).unwrap()];
        let put = self.thief().put_object().bucket("evidence").key(&key).if_none_match("*");
        // Under a key that is taken nothing can be put.
        if put.body(ByteStream::from_static(junk.as_bytes())).send().await.is_ok() {
            self.done.push(format!("put {junk:?} to {key}"));
        }
    }

    async fn rotate(&mut self) {
        let date = self.any_date();
        let archive = ArchiveSettings {
            after: Duration::ZERO,
            class: "GLACIER_IR".to_owned(),
            format: ArchiveFormat::Tar,
            max_days_per_run: 31,
            part_size: 240 << 20,
        };
        // It may find what a thief left, and give the day up.
        let context = self.context(ACCESS_KEY).await;
        let made = archive_day(&context, &archive, "CAM", date.parse().unwrap(), &mut Reads::default()).await;
        self.done.push(format!("rotate {date}: {made:?}"));
    }

    async fn recover(&self, run: u64) -> Vec<Recovered> {
        let mut told = Vec::new();
        let order = RecoverOrder { camera: None, window: Window::default(), all: false, mode: RecoverMode::Recover };
        let owner = self.context(OWNERS_ACCESS_KEY).await;
        let recovering = recover(&owner, order, |recovered| {
            told.push(recovered);
            ControlFlow::Continue(())
        });
        let left: LeftHidden = recovering.await.unwrap();
        assert_eq!(left.others, 0, "run {run}: {left:?}");
        assert!(told.iter().all(|recovered| !recovered.outcome.stays()), "run {run}: {told:#?}");
        told
    }

    /// What was confirmed is there as an object, or in a bundle that an index describes.
    fn check(&self, run: u64) {
        let objects = self.site.s3.look(|state| state.objects().clone());
        let text = |object: &Object| String::from_utf8_lossy(object.bytes.as_ref().unwrap()).into_owned();
        let indexes = objects.iter().filter(|(key, _)| key.ends_with(".index.json"));
        let indexes = indexes.filter_map(|(_, object)| serde_json::from_str::<Index>(&text(object)).ok());
        let whole = indexes
            .filter(|index| objects.get(&index.bundle.key).is_some_and(|bundle| bundle.sha256 == index.bundle.sha256));
        let bundled = whole.flat_map(|index| index.members).map(|member| member.note.sha256);
        let there: BTreeSet<String> = objects.values().map(|object| object.sha256.clone()).chain(bundled).collect();
        for (sha256, key) in &self.confirmed {
            assert!(there.contains(sha256), "run {run}: {key} is not there; {:#?}; {:#?}", self.done, objects.keys());
        }
    }
}
