//! Bundles a camera-day, from whatever state an earlier run left it in.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};

use super::Reads;
use super::copies::{Downloads, LocalCopies, TOGETHER, position};
use super::put::{IndexObject, PutAt, confirm_bundle, keep_index, put_bundle, put_index};
use crate::bucket::{MOST_DELETED, Object, Put, RefusalKind};
use crate::bundle::{self, Index, Input, Note};
use crate::config::ArchiveSettings;
use crate::holdings::{
    self, ArchivedPart, DayArchive, Found, HoldingsError, LooseStream, PartAt, fetch_member, load_index,
};
use crate::key::{ArchiveFormat, ArchiveObject, BundleId, CameraName};
use crate::ledger;
use crate::message;
use crate::retention::{LARGEST_MEMBER_BYTES, MOST_MEMBERS};
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

/// A day at work. Of a bundle that is done it keeps where each capture is: a day may have more captures than memory holds
/// indexes of.
struct DayWork<'a> {
    site: &'a Site,
    archive: &'a ArchiveSettings,
    camera: &'a str,
    date: NaiveDate,
    /// What lay loose at the begin, in the order of keys.
    loose: &'a [Object],
    /// The key of the confirmed bundle that holds a capture, for each of `loose`.
    bundles: Vec<Option<Arc<str>>>,
    copies: LocalCopies<'a>,
    made: Made,
    /// Whether another rotation is at the day: no bundle is begun then.
    is_of_another: bool,
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
    let mut work = DayWork {
        site,
        archive,
        camera,
        date,
        loose: &loose,
        bundles: vec![None; loose.len()],
        copies: LocalCopies::of(site, camera, date, &loose, reads),
        made: Made::default(),
        is_of_another: false,
    };
    let there = holdings::archive(site, camera, date).await?;
    work.take_up(&there).await?;
    for (number, members) in (there.last_part() + 1..).zip(work.split()) {
        if work.is_of_another {
            break;
        }
        let part = BundleId { camera: CameraName::spell(camera), date, part: number };
        work.make(part, &members).await?;
    }
    work.delete().await?;
    work.made.downloads = work.copies.downloads;
    Ok(work.made)
}

/// Returns the number in `loose`, which is in the order of keys, of the very object that has these: what has the same key
/// and other bytes is another capture.
fn position_of(loose: &[Object], key: &str, size: u64, etag: &str) -> Option<usize> {
    position(loose, key).filter(|at| loose[*at].size == size && loose[*at].etag == etag)
}

/// Returns the number in `loose` of the very object that a member was made of.
fn position_of_member(loose: &[Object], note: &Note) -> Option<usize> {
    position_of(loose, &note.key, note.size, &note.etag)
}

impl DayWork<'_> {
    /// Notes what the bundles hold that are there and whole. An index without a bundle is carried out, or taken back; its
    /// number is not used again.
    async fn take_up(&mut self, there: &DayArchive) -> Result<(), HoldingsError> {
        let mut whole = Vec::new();
        for (part, archived) in &there.parts {
            let Some(index_object) = &archived.index else { continue };
            let Some(index) = self.read(part, archived, &index_object.key).await? else { continue };
            if archived.bundle_in(index.bundle.format).is_some() {
                let confirmed = match confirm_bundle(self.site, self.archive, &index, PutAt::Earlier).await {
                    Ok(()) => self.prove(&index).await,
                    error => error,
                };
                match confirmed {
                    Ok(()) => {
                        self.note_bundled(&index);
                        whole.push(part);
                    }
                    Err(error) if error.is_about_object() => {
                        self.made.left.push(format!("{error}; nothing of it is deleted"));
                    }
                    Err(error) => return Err(error.about(index.bundle.key)),
                }
            } else if let Some(inputs) = self.inputs_of(&index).await? {
                tracing::info!("finishing {}, which an earlier run began", index.bundle.key);
                self.finish(&index, &IndexObject::of(&index, &index_object.key)?, &inputs).await?;
                whole.push(part);
            } else if !self.are_elsewhere(&index, self.loose, &whole).await? {
                // It is not an intention: it is all that is left of a bundle that somebody took away.
                self.made.left.push(format!(
                    "{}: it is gone, and captures that its index lists lie nowhere else; look at it with `hk-aws verify`",
                    index.bundle.key
                ));
            } else if self.can_be_taken_back(&index, index_object, &whole).await? {
                tracing::info!("{} is begun anew: what it lists is not there any more as it was", index.bundle.key);
                self.delete_one(index_object).await?;
            } else {
                self.leave_to_another();
            }
            self.copies.clear();
        }
        Ok(())
    }

    /// Notes where the captures are that a confirmed bundle holds.
    fn note_bundled(&mut self, index: &Index) {
        let bundle: Arc<str> = index.bundle.key.as_str().into();
        for at in index.members.iter().filter_map(|member| position_of_member(self.loose, &member.note)) {
            self.bundles[at] = Some(Arc::clone(&bundle));
        }
    }

    /// Returns whether everything that an index lists lies loose or in a bundle that is whole: by key only, the bytes may
    /// differ.
    async fn are_elsewhere(&self, index: &Index, loose: &[Object], whole: &[&PartAt]) -> Result<bool, HoldingsError> {
        let keys = index.members.iter().map(|member| member.note.key.as_str());
        let mut missing: HashSet<&str> = keys.filter(|key| position(loose, key).is_none()).collect();
        for part in whole {
            if missing.is_empty() {
                break;
            }
            let read = load_index(self.site, part).await;
            let bundled = read.map_err(|error| HoldingsError::from(error).about(part.index_key()))?;
            for member in &bundled.members {
                missing.remove(member.note.key.as_str());
            }
        }
        Ok(missing.is_empty())
    }

    /// Returns whether an index without a bundle may go: it is older than any rotation under way, and a fresh look shows it
    /// as before and what it lists elsewhere.
    async fn can_be_taken_back(
        &self,
        index: &Index,
        object: &Object,
        whole: &[&PartAt],
    ) -> Result<bool, HoldingsError> {
        // The store dated the index, so its clock decides, if it tells the time.
        let now = self.site.bucket.time().await?.map_or_else(|| self.now(), DateTime::<Utc>::from);
        if now - object.stored_at < TAKEN_BACK_AFTER {
            return Ok(false);
        }
        let loose = holdings::loose(self.site, self.camera, self.date).await?;
        let there = holdings::archive(self.site, self.camera, self.date).await?;
        let alone = |part: &ArchivedPart| part.bundles.is_empty() && part.index.as_ref() == Some(object);
        Ok(there.parts.values().any(alone) && self.are_elsewhere(index, &loose, whole).await?)
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
    async fn inputs_of(&mut self, index: &Index) -> Result<Option<Arc<[Input]>>, HoldingsError> {
        let object = |note: &Note| Some(&self.loose[position_of_member(self.loose, note)?]);
        let objects: Option<Vec<&Object>> = index.members.iter().map(|member| object(&member.note)).collect();
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
    async fn prove(&mut self, index: &Index) -> Result<(), HoldingsError> {
        // The same captures always give the same bundle.
        if self.inputs_of(index).await?.is_some() {
            return Ok(());
        }
        let bundle = &index.bundle;
        for member in &index.members {
            let Some(at) = position_of_member(self.loose, &member.note) else { continue };
            let object = &self.loose[at];
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

    /// Puts the captures that no bundle holds in the order of time, and as many into a part as fit; returns their numbers in
    /// `loose`.
    fn split(&mut self) -> Vec<Vec<usize>> {
        let midnight = self.date.and_time(NaiveTime::MIN).and_utc();
        let mut all: Vec<(DateTime<Utc>, usize)> = Vec::with_capacity(self.loose.len());
        for (at, object) in self.loose.iter().enumerate().filter(|(at, _)| self.bundles[*at].is_none()) {
            if object.size > LARGEST_MEMBER_BYTES {
                self.made.left.push(format!("{}: larger than the 5 GiB that one request can carry", object.key));
            } else if !bundle::is_member_name(self.member_name(object)) {
                self.made.left.push(format!("{}: its name cannot be one in a tar", object.key.escape_debug()));
            } else {
                let (taken, _) = self.copies.taken_and_event(&object.key);
                all.push((taken.map_or(midnight, |taken| taken.to_utc()), at));
            }
        }
        all.sort_unstable();
        into_parts(all.into_iter().map(|(_, at)| (at, self.loose[at].size)), self.archive.part_size)
    }

    /// Returns the name of a capture in the tar.
    fn member_name<'o>(&self, object: &'o Object) -> &'o str {
        let prefix = self.site.layout.day_prefix(self.camera, self.date);
        // Under a former layout another capture may have the same name.
        let is_of_today = self.site.layout.parse(&object.key).is_some();
        if is_of_today { object.key.strip_prefix(&prefix).unwrap_or_default() } else { &object.key }
    }

    /// Makes one part of the captures with these numbers in `loose`: none if the bytes of none of them can be had, or if
    /// another rotation makes it.
    async fn make(&mut self, part: BundleId, members: &[usize]) -> Result<(), HoldingsError> {
        let loose = self.loose;
        let mut inputs = Vec::with_capacity(members.len());
        for some in members.chunks(TOGETHER) {
            let objects = || some.iter().map(|at| &loose[*at]);
            let local = self.copies.look_at_all(objects()).await;
            for (object, local) in objects().zip(local) {
                match self.copies.bytes(object, local).await {
                    Ok(bytes) => {
                        let (taken_at, event) = self.copies.taken_and_event(&object.key);
                        let note = Note {
                            key: object.key.clone(),
                            size: object.size,
                            sha256: bytes.sha256,
                            taken_at,
                            event,
                            stored_at: object.stored_at,
                            etag: object.etag.clone(),
                        };
                        inputs.push(Input { name: self.member_name(object).to_owned(), note, path: bytes.path });
                    }
                    // Another rotation has bundled and deleted it.
                    Err(HoldingsError::Refused { refusal, .. }) if refusal.kind() == RefusalKind::NoSuchKey => {}
                    // It alone stays; the rest of the day need not wait for it.
                    Err(error) if error.is_about_object() => self.made.left.push(format!("{}: {error}", object.key)),
                    Err(error) => return Err(error.about(&object.key)),
                }
            }
        }
        if inputs.is_empty() {
            return Ok(());
        }
        let mut inputs: Arc<[Input]> = inputs.into();
        let key = self.site.layout.archive_key(&part, ArchiveObject::Bundle(self.archive.format));
        let index = match lay_out(&part, &key, &inputs, self.archive.format).await {
            Ok(index) => index,
            Err(error) => {
                inputs = self.leave_changed(&inputs, error).await?;
                if inputs.is_empty() {
                    return Ok(());
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
        }
        self.copies.clear();
        Ok(())
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
        self.note_bundled(index);
        Ok(())
    }

    /// Lists the day again, and deletes what lies loose and is in a bundle, exactly as it is there.
    async fn delete(&mut self) -> Result<(), HoldingsError> {
        if self.bundles.iter().all(Option::is_none) {
            return Ok(());
        }
        let mut again = LooseStream::begin(self.site, self.camera, Some(self.date));
        let mut bundled = Vec::new();
        while let Some(found) = again.next().await? {
            let Found::Loose(_, object) = found else { continue };
            // What changed since it was bundled stays.
            let at = position_of(self.loose, &object.key, object.size, &object.etag);
            if let Some(bundle) = at.and_then(|at| self.bundles[at].clone()) {
                bundled.push((object, bundle));
            }
            if bundled.len() == MOST_DELETED {
                self.delete_bundled(std::mem::take(&mut bundled)).await?;
            }
        }
        self.delete_bundled(bundled).await
    }

    /// Deletes captures, each with the key of the bundle that holds it.
    async fn delete_bundled(&mut self, bundled: Vec<(Object, Arc<str>)>) -> Result<(), HoldingsError> {
        if bundled.is_empty() {
            return Ok(());
        }
        let removed_at = self.now();
        let removed = |(object, bundle): &(Object, Arc<str>)| {
            let bundle = Some(bundle.as_ref().to_owned());
            ledger::Removed { removed_at, key: object.key.clone(), bundle }
        };
        let removed: Vec<ledger::Removed> = bundled.iter().map(removed).collect();
        ledger::append_removed(&self.site.ledger(), self.camera, self.date, &removed)
            .map_err(|error| HoldingsError::local("failed to write ledger; nothing further is deleted", &error))?;
        let objects: Vec<&Object> = bundled.iter().map(|(object, _)| object).collect();
        let failed = self.site.bucket.delete_all(&objects).await?;
        self.made.deleted += (objects.len() - failed.len()) as u64;
        self.made.left.extend(failed.into_iter().map(|(key, why)| format!("{key}: bundled, but not deleted: {why}")));
        Ok(())
    }

    fn now(&self) -> DateTime<Utc> {
        (self.site.clock)().wall.into()
    }
}

/// Puts captures, each a number and a size in bytes, into as few parts as they fit into in their order.
fn into_parts(captures: impl Iterator<Item = (usize, u64)>, part_size: u64) -> Vec<Vec<usize>> {
    let (mut parts, mut bytes) = (Vec::<Vec<usize>>::new(), 0);
    for (at, size) in captures {
        let more = size + HEADER_BYTES;
        match parts.last_mut() {
            Some(part) if bytes + more <= part_size && part.len() < MOST_MEMBERS => {
                bytes += more;
                part.push(at);
            }
            _ => {
                bytes = more;
                parts.push(vec![at]);
            }
        }
    }
    parts
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_so_many_captures_or_so_many_bytes_at_most() {
        let parts = |captures: usize, size, part_size| -> Vec<usize> {
            let parts = into_parts((0..captures).map(|at| (at, size)), part_size);
            assert!(parts.iter().flatten().copied().eq(0..captures), "in their order, each once");
            parts.iter().map(Vec::len).collect()
        };
        assert_eq!(parts(0, 1, 1), [0; 0]);
        assert_eq!(parts(3, 9, 1), [1, 1, 1]);
        assert_eq!(parts(5, 1000, 2 * (1000 + HEADER_BYTES)), [2, 2, 1]);
        assert_eq!(parts(MOST_MEMBERS, 1000, u64::MAX), [MOST_MEMBERS]);
        assert_eq!(parts(2 * MOST_MEMBERS + 1, 1000, u64::MAX), [MOST_MEMBERS, MOST_MEMBERS, 1]);
    }
}
