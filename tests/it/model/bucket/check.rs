//! What must hold of the bucket.
//!
//! After each operation:
//! * (I4) what was confirmed and could be read before can be read now, loose or as a member that is in its bundle, unless a
//!   thief was at work: neither kill nor fault nor lie makes the boxes or the owner take a byte away;
//! * (I10) a box touches no capture, bundle or index of the other one's camera;
//! * (I10) what another program keeps is what it left.
//!
//! At the end, without a thief:
//! * (I10) every capture is in exactly one bundle, every bundle has its index and every index its bundle, and nothing is
//!   wrong for `verify`; where classes are ignored, no capture is in two bundles.
//!
//! At the end, with a thief:
//! * (I9) `recover --all` brings back every byte that was ever confirmed, a second one does nothing, and later rotations
//!   take nothing of it away.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};

use hk_aws::bundle::{self, Index, Member};
use hk_aws::recover::LeftHidden;

use super::operation::{CAMERAS, FOREIGN, Kind, Operation};
use super::world::World;
use crate::support::s3::Object;
use crate::support::site::{files, sha256};

type Wrong = String;

/// What is compared with what is there after an operation.
pub(super) struct Before {
    foreign: BTreeMap<&'static str, String>,
    /// What lies under the camera that the box has which does not rotate, if only one does.
    of_the_other: BTreeMap<String, String>,
}

impl World {
    pub(super) fn before(&self, operation: &Operation) -> Before {
        Before { foreign: self.foreign_objects(), of_the_other: self.of_the_other(operation) }
    }

    fn of_the_other(&self, operation: &Operation) -> BTreeMap<String, String> {
        let Operation::Rotate(rotations) = operation else { return BTreeMap::new() };
        let [(host, _)] = rotations[..] else { return BTreeMap::new() };
        let camera = format!("{}/", CAMERAS[1 - host][0]);
        self.s3().look(|state| {
            let its = state.objects().iter().filter(|(key, _)| key.starts_with(&camera));
            its.map(|(key, object)| (key.clone(), object.version_id.clone())).collect()
        })
    }

    pub(super) fn check(&mut self, operation: &Operation, before: &Before) -> Result<(), Wrong> {
        let readable = self.readable();
        if !operation.is_theft()
            && let Some(lost) = self.there.difference(&readable).next()
        {
            return Err(format!("i4: {lost} is lost; {}", self.told()));
        }
        self.there = self.confirmed.intersection(&readable).cloned().collect();
        if !self.has_thief
            && let Some(lost) = self.confirmed.difference(&readable).next()
        {
            return Err(format!("i4: {lost} is confirmed and not there; {}", self.told()));
        }
        let is_of_others =
            operation.is_theft() || matches!(operation, Operation::Foreign(..) | Operation::Recover { .. });
        if !is_of_others && self.foreign_objects() != before.foreign {
            return Err(format!("i10: of another program {:?} became {:?}", before.foreign, self.foreign_objects()));
        }
        if self.of_the_other(operation) != before.of_the_other {
            return Err(format!("i10: the other box's camera was touched; {}", self.told()));
        }
        for (host, site) in self.hosts.iter().enumerate() {
            let ledger = site.path("state/ledger");
            let other = ledger.join(CAMERAS[1 - host][0]);
            if !files(&other).is_empty() {
                return Err(format!("i10: a box has a ledger of a camera of the other one: {:?}", files(&ledger)));
            }
        }
        Ok(())
    }

    /// The SHA-256 of all that lies loose, and of what is really in the bundles that an index describes.
    pub(super) fn readable(&mut self) -> BTreeSet<String> {
        let objects = self.objects();
        let mut readable: BTreeSet<String> = objects.values().map(|object| object.sha256.clone()).collect();
        for (index_object, index, bundle) in bundles(&objects) {
            let name = [index_object.sha256.clone(), bundle.sha256.clone()];
            let bytes = bundle.bytes.as_deref().unwrap();
            let read = || index.members.iter().filter_map(|member| content(&index, member, bytes)).collect();
            readable.extend(self.seen.entry(name).or_insert_with(read).iter().cloned());
        }
        readable
    }

    /// Everything under the cameras but what is another program's.
    fn objects(&self) -> BTreeMap<String, Object> {
        let is_ours = |key: &str| key.starts_with("CAM-") && !FOREIGN.contains(&key);
        self.s3().look(|state| {
            let ours = state.objects().iter().filter(|(key, _)| is_ours(key));
            ours.map(|(key, object)| (key.clone(), object.clone())).collect()
        })
    }

    pub(super) fn told(&self) -> String {
        let objects = self.objects();
        let line = |(key, object): (&String, &Object)| format!("{key} {} {}", object.version_id, &object.sha256[..8]);
        format!("the bucket holds {:#?}", objects.iter().map(line).collect::<Vec<_>>())
    }

    pub(super) async fn check_end(&mut self) -> Result<(), Wrong> {
        self.settle().await?;
        let objects = self.objects();
        let (mut bundled, mut halves) = (BTreeMap::<_, u32>::new(), BTreeSet::new());
        for (key, object) in &objects {
            if key.ends_with(".index.json") {
                let index: Index = serde_json::from_slice(object.bytes.as_deref().unwrap()).unwrap();
                if !halves.remove(&index.bundle.key) {
                    halves.insert(index.bundle.key);
                }
            } else if key.contains("/archive/") && !halves.remove(key) {
                halves.insert(key.clone());
            }
        }
        if !halves.is_empty() {
            return Err(format!("i10: a bundle or an index is alone: {halves:?}; {}", self.told()));
        }
        for (_, index, _) in bundles(&objects) {
            for member in index.members {
                *bundled.entry((member.note.key, member.note.sha256)).or_default() += 1;
            }
        }
        if let Some((twice, _)) = bundled.iter().find(|(_, count)| **count > 1) {
            return Err(format!("i10: {twice:?} is in several bundles; {}", self.told()));
        }
        let loose: Vec<&String> = objects.keys().filter(|key| !key.contains("/archive/")).collect();
        if self.kind != Kind::WithoutClasses && !loose.is_empty() {
            return Err(format!("i10: not everything is bundled: {loose:?}"));
        }
        for host in 0..2 {
            let wrong = self.verify(host, false).await.map_err(|error| error.to_string())?;
            if !wrong.is_empty() {
                return Err(format!("verify finds {wrong:#?}; {}", self.told()));
            }
        }
        Ok(())
    }

    pub(super) async fn check_recovered(&mut self) -> Result<(), Wrong> {
        self.s3().clear_faults();
        for host in 0..2 {
            self.store(host).await;
        }
        let (told, left) = self.recover(true).await.map_err(|error| error.to_string())?;
        if told.iter().any(|recovered| recovered.outcome.stays()) || left != LeftHidden::default() {
            return Err(format!("i9: something stays: {told:#?} {left:?}"));
        }
        let readable = self.readable();
        if let Some(lost) = self.confirmed.difference(&readable).next() {
            return Err(format!("i9: {lost} does not come back; {told:#?}; {}", self.told()));
        }
        let (again, _) = self.recover(true).await.map_err(|error| error.to_string())?;
        if !again.is_empty() {
            return Err(format!("i9: recovered a second time: {again:#?} after {told:#?}"));
        }
        self.settle().await
    }

    /// Lets days pass until everything is due, and both boxes rotate until all is done.
    async fn settle(&mut self) -> Result<(), Wrong> {
        self.s3().clear_faults();
        for host in 0..2 {
            self.store(host).await;
        }
        self.there.clone_from(&self.confirmed);
        for (days, host) in [(40, 0), (2, 1), (2, 0), (2, 1)] {
            self.pass(days);
            let rotation = Operation::Rotate(vec![(host, None)]);
            let before = self.before(&rotation);
            self.carry_out(&rotation).await;
            self.check(&rotation, &before).map_err(|wrong| format!("in the end: {wrong}"))?;
        }
        Ok(())
    }
}

/// The indexes that can be read, each with its bundle, whatever that holds.
fn bundles(objects: &BTreeMap<String, Object>) -> impl Iterator<Item = (&Object, Index, &Object)> {
    objects.iter().filter(|(key, _)| key.ends_with(".index.json")).filter_map(|(_, object)| {
        let index: Index = serde_json::from_slice(object.bytes.as_deref().unwrap()).ok()?;
        let bundle = objects.get(&index.bundle.key)?;
        Some((object, index, bundle))
    })
}

/// The SHA-256 of what a bundle holds where an index says that a member is.
fn content(index: &Index, member: &Member, bundle: &[u8]) -> Option<String> {
    let from = usize::try_from(member.offset).ok()?;
    let piece = bundle.get(from..from.checked_add(usize::try_from(member.length).ok()?)?)?.to_vec();
    let mut bytes = Vec::new();
    bundle::unpack(index.bundle.format, Cursor::new(piece)).ok()?.read_to_end(&mut bytes).ok()?;
    Some(sha256(&bytes))
}
