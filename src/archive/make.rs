//! Bundles a camera-day, from whatever state an earlier run left it in.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveTime, TimeDelta, Utc};

use super::Reads;
use super::copies::{Downloads, LocalCopies, TOGETHER};
use super::put::{IndexObject, PutAt, confirm_bundle, keep_index, put_bundle, put_index};
use crate::bucket::{Object, Put, RefusalKind};
use crate::bundle::{self, Index, Input, Note};
use crate::config::ArchiveSettings;
use crate::holdings::{
    self, ArchivedPart, DayArchive, HoldingsError, ObjectIdentity, PartAt, fetch_member, load_index,
};
use crate::key::{ArchiveFormat, ArchiveObject, BundleId, CameraName};
use crate::ledger;
use crate::message;
use crate::retention::LARGEST_MEMBER_BYTES;
use crate::site::Site;

/// The most bytes that a member's header takes in the tar, unless its name or event is unusually long.
const HEADER_BYTES: u64 = 2048;

/// How old an index without a bundle has to be before it is taken back: a rotation of another box that is still at it
/// would have ended long before.
const TAKEN_BACK_AFTER: TimeDelta = TimeDelta::days(1);

/// What became of a camera-day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// The keys of the bundles that were made now.
    pub bundles: Vec<String>,
    /// The bytes of these bundles.
    pub bytes: u64,
    /// How many captures were bundled now.
    pub members: u64,
    /// How many objects were deleted because a bundle holds them.
    pub deleted: u64,
    /// What was downloaded because no local copy had it.
    pub downloads: Downloads,
    /// What was left as it is, and why.
    pub left: Vec<String>,
}

/// A day at work.
struct DayWork<'a> {
    site: &'a Site,
    archive: &'a ArchiveSettings,
    camera: &'a str,
    date: NaiveDate,
    copies: LocalCopies<'a>,
    made: Made,
    /// Whether another rotation is at the day: no bundle is begun then.
    is_of_another: bool,
}

/// A capture that is to be bundled.
#[derive(Debug, Clone)]
struct MemberToBe {
    object: Object,
    name: String,
    taken: Option<DateTime<FixedOffset>>,
    event: Option<String>,
}

/// Bundles the loose captures of a camera-day, and deletes those that are in a confirmed bundle; whatever an earlier run
/// began is finished first. A second call does nothing. `reads` goes from day to day of a run.
///
/// # Errors
/// [`HoldingsError`] if it cannot be finished now; nothing is lost then, and the next call goes on.
pub async fn archive_day(
    site: &Site,
    archive: &ArchiveSettings,
    camera: &str,
    date: NaiveDate,
    reads: &mut Reads,
) -> Result<Made, HoldingsError> {
    let loose = holdings::loose(site, camera, date).await?;
    if loose.is_empty() {
        return Ok(Made::default());
    }
    let copies = LocalCopies::of(site, camera, date, reads);
    let mut work = DayWork { site, archive, camera, date, copies, made: Made::default(), is_of_another: false };
    let there = holdings::archive(site, camera, date).await?;
    let mut indexes = work.take_up(&there, &loose).await?;
    let bundled: HashSet<ObjectIdentity> = indexes.iter().flat_map(identities).collect();
    let loose = loose.into_iter().filter(|object| !bundled.contains(&ObjectIdentity::of(object))).collect();
    for (number, members) in (there.last_part() + 1..).zip(work.split(loose)) {
        if work.is_of_another {
            break;
        }
        let part = BundleId { camera: CameraName::spell(camera), date, part: number };
        indexes.extend(work.make(part, members).await?);
    }
    work.delete(&indexes).await?;
    work.made.downloads = work.copies.downloads;
    Ok(work.made)
}

fn identities(index: &Index) -> impl Iterator<Item = ObjectIdentity> {
    index.members.iter().map(|member| ObjectIdentity::of_note(&member.note))
}

/// Returns whether everything that an index lists lies loose or in another bundle: by key only, the bytes may differ.
fn are_elsewhere(index: &Index, loose: &[Object], bundled: &[Index]) -> bool {
    let members = bundled.iter().flat_map(|index| &index.members).map(|member| member.note.key.as_str());
    let keys: HashSet<&str> = loose.iter().map(|object| object.key.as_str()).chain(members).collect();
    index.members.iter().all(|member| keys.contains(member.note.key.as_str()))
}

impl DayWork<'_> {
    /// Returns the indexes of the bundles that are there and whole. An index without a bundle is carried out, or taken back;
    /// its number is not used again.
    async fn take_up(&mut self, there: &DayArchive, loose: &[Object]) -> Result<Vec<Index>, HoldingsError> {
        let mut indexes = Vec::new();
        for (part, archived) in &there.parts {
            let Some(index_object) = &archived.index else { continue };
            let Some(index) = self.read(part, archived, &index_object.key).await? else { continue };
            if archived.bundle_in(index.bundle.format).is_some() {
                let confirmed = match confirm_bundle(self.site, self.archive, &index, PutAt::Earlier).await {
                    Ok(()) => self.prove(&index, loose).await,
                    error => error,
                };
                match confirmed {
                    Ok(()) => indexes.push(index),
                    Err(error) if error.is_about_object() => {
                        self.made.left.push(format!("{error}; nothing of it is deleted"));
                    }
                    Err(error) => return Err(error.about(index.bundle.key)),
                }
            } else if let Some(inputs) = self.inputs_of(&index, loose).await? {
                tracing::info!("finishing {}, which an earlier run began", index.bundle.key);
                self.finish(&index, &IndexObject::of(&index, &index_object.key)?, &inputs).await?;
                indexes.push(index);
            } else if !are_elsewhere(&index, loose, &indexes) {
                // It is not an intention: it is all that is left of a bundle that somebody took away.
                self.made.left.push(format!(
                    "{}: it is gone, and captures that its index lists lie nowhere else; look at it with `hk-aws verify`",
                    index.bundle.key
                ));
            } else if self.can_be_taken_back(&index, index_object, &indexes).await? {
                tracing::info!("{} is begun anew: what it lists is not there any more as it was", index.bundle.key);
                self.delete_one(index_object).await?;
            } else {
                self.leave_to_another();
            }
            self.copies.clear();
        }
        Ok(indexes)
    }

    /// Returns whether an index without a bundle may go: it is older than any rotation under way, and a fresh look shows it
    /// as before and what it lists elsewhere.
    async fn can_be_taken_back(
        &self,
        index: &Index,
        object: &Object,
        bundled: &[Index],
    ) -> Result<bool, HoldingsError> {
        // The store dated the index, so its clock decides, if it tells the time.
        let now = self.site.bucket.time().await?.map_or_else(|| self.now(), DateTime::<Utc>::from);
        if now - object.stored_at < TAKEN_BACK_AFTER {
            return Ok(false);
        }
        let loose = holdings::loose(self.site, self.camera, self.date).await?;
        let there = holdings::archive(self.site, self.camera, self.date).await?;
        let alone = |part: &ArchivedPart| part.bundles.is_empty() && part.index.as_ref() == Some(object);
        Ok(there.parts.values().any(alone) && are_elsewhere(index, &loose, bundled))
    }

    fn leave_to_another(&mut self) {
        tracing::warn!(
            message_id = message::LOCK,
            "{} {}: another rotation is at this day, or was until lately: it is left",
            self.camera,
            self.date
        );
        self.is_of_another = true;
    }

    /// Reads the index of a part; returns `None` if it is damaged and its bundle is left as it is.
    async fn read(
        &mut self,
        part: &PartAt,
        archived: &ArchivedPart,
        key: &str,
    ) -> Result<Option<Index>, HoldingsError> {
        let error = match load_index(self.site, part).await {
            Ok(index) => return Ok(Some(index)),
            Err(error) => HoldingsError::from(error),
        };
        if !error.is_about_object() {
            // Whether it is damaged is not known: another bundle would hold its members twice.
            let of_this_one = matches!(&error, HoldingsError::Refused { refusal, .. }
                if refusal.kind() == RefusalKind::Refused && !refusal.is_of_the_store());
            let error = error.about(key);
            return Err(if of_this_one { HoldingsError::Object(error.to_string()) } else { error });
        }
        if archived.bundles.is_empty() {
            // S3 tears no writes: somebody altered it, and there is no bundle to make it from.
            return Err(HoldingsError::Object(format!("{key}: {error}; remove it, there is no bundle to it")));
        }
        self.made.left.push(format!("{key}: {error}; nothing of it is deleted"));
        Ok(None)
    }

    async fn delete_one(&self, object: &Object) -> Result<(), HoldingsError> {
        let failed = self.site.bucket.delete_all(&[object]).await?;
        match failed.first() {
            Some((key, why)) => Err(HoldingsError::Object(format!("failed to delete {key}: {why}"))),
            None => Ok(()),
        }
    }

    /// Returns what an index without a bundle was made from, if all of it is there and gives the same bundle again.
    async fn inputs_of(&mut self, index: &Index, loose: &[Object]) -> Result<Option<Arc<[Input]>>, HoldingsError> {
        let there: HashMap<ObjectIdentity, &Object> =
            loose.iter().map(|object| (ObjectIdentity::of(object), object)).collect();
        let objects: Option<Vec<&Object>> = identities(index).map(|identity| there.get(&identity).copied()).collect();
        let Some(objects) = objects else { return Ok(None) };
        let mut inputs = Vec::with_capacity(index.members.len());
        for (objects, members) in objects.chunks(TOGETHER).zip(index.members.chunks(TOGETHER)) {
            let local = self.copies.look_at_all(objects.iter().copied()).await;
            for ((object, local), member) in objects.iter().zip(local).zip(members) {
                let bytes = match self.copies.bytes(object, local).await {
                    Ok(bytes) => bytes,
                    Err(error) if error.is_about_object() => return Ok(None),
                    Err(error) => return Err(error.about(&object.key)),
                };
                if bytes.sha256 != member.note.sha256 {
                    return Ok(None);
                }
                inputs.push(Input { name: member.name.clone(), note: member.note.clone(), path: bytes.path });
            }
        }
        let inputs: Arc<[Input]> = inputs.into();
        match lay_out(&index.part, &index.bundle.key, &inputs, index.bundle.format).await {
            Ok(again) => Ok((again == *index).then_some(inputs)),
            Err(_) if !changed(&inputs).await.is_empty() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes sure that a bundle which was there before holds the captures that its index lists and that lie loose: whoever
    /// has the box's keys can put a bundle and an index that agree with each other.
    ///
    /// # Errors
    /// [`HoldingsError::Object`] if it does not, or if nobody can tell: nothing of it may be deleted then.
    async fn prove(&mut self, index: &Index, loose: &[Object]) -> Result<(), HoldingsError> {
        // The same captures always give the same bundle.
        if self.inputs_of(index, loose).await?.is_some() {
            return Ok(());
        }
        let bundle = &index.bundle;
        let there: HashMap<ObjectIdentity, &Object> =
            loose.iter().map(|object| (ObjectIdentity::of(object), object)).collect();
        for (identity, member) in identities(index).zip(&index.members) {
            let Some(object) = there.get(&identity) else { continue };
            let local = self.copies.look_at(object).await;
            let loose = match self.copies.bytes(object, local).await {
                Ok(bytes) => bytes.sha256,
                // Another rotation has deleted it.
                Err(HoldingsError::Refused { refusal, .. }) if refusal.kind() == RefusalKind::NoSuchKey => continue,
                Err(error) => return Err(error.about(&object.key)),
            };
            if loose != member.note.sha256 {
                return Err(HoldingsError::Object(format!(
                    "{} does not hold {} as it lies loose",
                    bundle.key, object.key
                )));
            }
            let file = tempfile::tempfile()
                .map_err(|error| HoldingsError::local("failed to make a temporary file", &error))?;
            match fetch_member(self.site, index, member, file).await {
                Ok(()) => {}
                // It cannot be read; then what this box noted when it made the bundle counts.
                Err(HoldingsError::Refused { refusal, .. }) if refusal.kind() == RefusalKind::Cold => {
                    let is_it = |made: ledger::Bundled| made.key == bundle.key && made.sha256 == bundle.sha256;
                    if ledger::bundles(&self.site.ledger(), self.camera).any(is_it) {
                        return Ok(());
                    }
                    return Err(HoldingsError::Object(format!(
                        "{} has to be restored before it is known whether it holds {}",
                        bundle.key, object.key
                    )));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Puts captures in the order of time, and as many into a part as fit.
    fn split(&mut self, loose: Vec<Object>) -> Vec<Vec<MemberToBe>> {
        let prefix = self.site.layout.day_prefix(self.camera, self.date);
        let mut all: Vec<MemberToBe> = Vec::with_capacity(loose.len());
        for object in loose {
            let is_of_today = self.site.layout.parse(&object.key).is_some();
            // Under a former layout another capture may have the same name.
            let name = if is_of_today { object.key.strip_prefix(&prefix).unwrap_or_default() } else { &object.key };
            let name = name.to_owned();
            if object.size > LARGEST_MEMBER_BYTES {
                self.made.left.push(format!("{}: larger than the 5 GiB that one request can carry", object.key));
            } else if !bundle::is_member_name(&name) {
                self.made.left.push(format!("{}: its name cannot be one in a tar", object.key.escape_debug()));
            } else {
                let (taken, event) = self.copies.taken_and_event(&object.key);
                all.push(MemberToBe { object, name, taken, event });
            }
        }
        let midnight = self.date.and_time(NaiveTime::MIN).and_utc();
        let time = |member: &MemberToBe| member.taken.map_or(midnight, |taken| taken.to_utc());
        all.sort_by(|a, b| (time(a), &a.object.key).cmp(&(time(b), &b.object.key)));
        let (mut parts, mut bytes) = (Vec::<Vec<MemberToBe>>::new(), 0);
        for member in all {
            let more = member.object.size + HEADER_BYTES;
            match parts.last_mut() {
                Some(part) if bytes + more <= self.archive.part_size => {
                    bytes += more;
                    part.push(member);
                }
                _ => {
                    bytes = more;
                    parts.push(vec![member]);
                }
            }
        }
        parts
    }

    /// Makes one part; returns `None` if the bytes of none of its captures can be had, or if another rotation makes it.
    async fn make(&mut self, part: BundleId, members: Vec<MemberToBe>) -> Result<Option<Index>, HoldingsError> {
        let mut inputs = Vec::with_capacity(members.len());
        let mut members = members.into_iter().peekable();
        while members.peek().is_some() {
            let some: Vec<MemberToBe> = members.by_ref().take(TOGETHER).collect();
            let local = self.copies.look_at_all(some.iter().map(|member| &member.object)).await;
            for (MemberToBe { object, name, taken, event }, local) in some.into_iter().zip(local) {
                match self.copies.bytes(&object, local).await {
                    Ok(bytes) => {
                        let note = Note {
                            key: object.key,
                            size: object.size,
                            sha256: bytes.sha256,
                            taken_at: taken,
                            event,
                            stored_at: object.stored_at,
                            etag: object.etag,
                        };
                        inputs.push(Input { name, note, path: bytes.path });
                    }
                    // Another rotation has bundled and deleted it.
                    Err(HoldingsError::Refused { refusal, .. }) if refusal.kind() == RefusalKind::NoSuchKey => {}
                    // It alone stays; the rest of the day need not wait for it.
                    Err(error) if error.is_about_object() => self.made.left.push(format!("{}: {error}", object.key)),
                    Err(error) => return Err(error.about(object.key)),
                }
            }
        }
        if inputs.is_empty() {
            return Ok(None);
        }
        let mut inputs: Arc<[Input]> = inputs.into();
        let key = self.site.layout.archive_key(&part, ArchiveObject::Bundle(self.archive.format));
        let index = match lay_out(&part, &key, &inputs, self.archive.format).await {
            Ok(index) => index,
            Err(error) => {
                inputs = self.leave_changed(&inputs, error).await?;
                if inputs.is_empty() {
                    return Ok(None);
                }
                lay_out(&part, &key, &inputs, self.archive.format).await?
            }
        };
        let index_key = self.site.layout.archive_key(&part, ArchiveObject::Index);
        let object = IndexObject::of(&index, &index_key)?;
        if put_index(self.site, &index, &object).await? == Put::Stored {
            self.finish(&index, &object, &inputs).await?;
        } else {
            // It was not there when the day was listed.
            self.leave_to_another();
            return Ok(None);
        }
        self.copies.clear();
        Ok(Some(index))
    }

    /// Leaves the captures whose local bytes changed since they were compared with the bucket, and returns the others;
    /// returns `error` if none changed.
    async fn leave_changed(
        &mut self,
        inputs: &Arc<[Input]>,
        error: HoldingsError,
    ) -> Result<Arc<[Input]>, HoldingsError> {
        let changed = changed(inputs).await;
        if changed.is_empty() {
            return Err(error);
        }
        let why = "its copy on this box changed while it was bundled; it stays, and the next run reads it again";
        self.made.left.extend(changed.iter().map(|key| format!("{key}: {why}")));
        Ok(inputs.iter().filter(|input| !changed.contains(&input.note.key)).cloned().collect())
    }

    /// Puts the bundle of an index that was put, confirms both, and writes the ledger's line.
    async fn finish(
        &mut self,
        index: &Index,
        object: &IndexObject,
        inputs: &Arc<[Input]>,
    ) -> Result<(), HoldingsError> {
        if let Err(error) = put_bundle(self.site, self.archive, index, inputs).await {
            // The store has nothing to do with it, and the next day need not wait.
            let changed = changed(inputs).await;
            return Err(match changed.iter().next() {
                Some(key) => HoldingsError::Local(format!("{key}: its copy on this box changed while it was bundled")),
                None => error,
            });
        }
        confirm_bundle(self.site, self.archive, index, PutAt::Now).await?;
        keep_index(self.site, index, object).await?;
        let bundled = ledger::Bundled {
            bundled_at: self.now(),
            key: index.bundle.key.clone(),
            date: self.date,
            members: index.members.len() as u64,
            size: index.bundle.size,
            sha256: index.bundle.sha256.clone(),
        };
        ledger::append_bundle(&self.site.ledger(), self.camera, &bundled)
            .map_err(|error| HoldingsError::local("failed to write ledger", &error))?;
        self.made.bundles.push(index.bundle.key.clone());
        self.made.bytes += index.bundle.size;
        self.made.members += index.members.len() as u64;
        Ok(())
    }

    /// Deletes what lies loose and is in a bundle, exactly as it is there.
    async fn delete(&mut self, indexes: &[Index]) -> Result<(), HoldingsError> {
        if indexes.is_empty() {
            return Ok(());
        }
        let bundle_of = |index: &Index| {
            let bundle = index.bundle.key.clone();
            identities(index).map(|identity| (identity, bundle.clone())).collect::<Vec<_>>()
        };
        let bundles: BTreeMap<ObjectIdentity, String> = indexes.iter().flat_map(bundle_of).collect();
        // What changed since it was bundled is another capture, and stays.
        let there = holdings::loose(self.site, self.camera, self.date).await?;
        let removed_at = self.now();
        let bundled = |object: &&Object| bundles.contains_key(&ObjectIdentity::of(object));
        let bundled: Vec<&Object> = there.iter().filter(bundled).collect();
        if bundled.is_empty() {
            return Ok(());
        }
        let removed = |object: &&Object| {
            let bundle = bundles.get(&ObjectIdentity::of(object)).cloned();
            ledger::Removed { removed_at, key: object.key.clone(), bundle }
        };
        let removed: Vec<ledger::Removed> = bundled.iter().map(removed).collect();
        ledger::append_removed(&self.site.ledger(), self.camera, self.date, &removed)
            .map_err(|error| HoldingsError::local("failed to write ledger; nothing is deleted", &error))?;
        let failed = self.site.bucket.delete_all(&bundled).await?;
        self.made.deleted += (bundled.len() - failed.len()) as u64;
        self.made.left.extend(failed.into_iter().map(|(key, why)| format!("{key}: bundled, but not deleted: {why}")));
        Ok(())
    }

    fn now(&self) -> DateTime<Utc> {
        (self.site.clock)().wall.into()
    }
}

/// Returns the keys of the captures whose local bytes are not, or no longer, the ones that were compared with the bucket.
async fn changed(inputs: &Arc<[Input]>) -> HashSet<String> {
    let inputs = Arc::clone(inputs);
    let changed = tokio::task::spawn_blocking(move || {
        let changed = inputs.iter().filter(|input| !input.is_unchanged());
        changed.map(|input| input.note.key.clone()).collect()
    });
    changed.await.unwrap_or_default()
}

async fn lay_out(
    part: &BundleId,
    key: &str,
    inputs: &Arc<[Input]>,
    format: ArchiveFormat,
) -> Result<Index, HoldingsError> {
    let (part, key, inputs) = (part.clone(), key.to_owned(), Arc::clone(inputs));
    let laid_out = tokio::task::spawn_blocking(move || bundle::lay_out(&part, &key, &inputs, format)).await;
    laid_out
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|error| HoldingsError::local("failed to read a local copy", &error))
}
