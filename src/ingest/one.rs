//! One file's way from the drop folder to the bucket: open, classify, put, confirm, write down, dispose of.
//!
//! The order is the promise. Whatever ends the process between two steps, the file is still in the folder or its bytes
//! are in the bucket, and the next scan repeats the same steps: the put then finds its own object, the ledger its own
//! line, and the folder of local copies its own copy.
//!
//! A failure after the confirmation is the trouble of this box and never a reason to send the bytes again: the queue
//! remembers that the file is stored, and [`dispose_one`] tries the other steps again. A write that finds no room first
//! makes older local copies give way. If there is still no room for a copy, the file is removed without one. While the
//! disk of the drop folder itself runs short, a stored file is removed whatever else fails, even without a line in the
//! ledger: the ledger can be rebuilt from the bucket, while a full drop folder turns the next capture away. Otherwise
//! the file stays until the trouble is mended.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::claims::{Claim, StoredUnder};
use super::outcome::{Ingested, NotStored, blocking};
use super::{earlier, join};
use crate::bucket::{About, Content, Patience, Precedence, Put, Refusal, Source, When};
use crate::capture::media::{self, FileEnd};
use crate::capture::{Capture, Media};
use crate::clock::Now;
use crate::config::Access;
use crate::disk;
use crate::drop_folder::{OpenError, Opened, Stamp, Taken, Writer};
use crate::kept::{self, CopyOf, CopyPlace};
use crate::key::{self, ObjectKey, Variant};
use crate::ledger::{self, LedgerEntry};
use crate::message;
use crate::queue::LastSeen;
use crate::service;
use crate::site::Site;
use crate::stored::Stored;

/// The longest source path in the metadata: percent-encoding may triple it, and S3 allows 2 KB of metadata in total (S3
/// User Guide, "User-defined object metadata").
const MAX_SOURCE_BYTES: usize = 300;

/// A write that finds no room makes local copies give way to this many captures of its size, because the next ones come
/// soon.
const MAKE_ROOM_FOR: u64 = 8;

/// Files of up to so many bytes are read once, as a whole; with all uploads at work, they are most of the memory.
const MOST_IN_MEMORY: u64 = 2 << 20;

/// Takes one file through all steps. `last_seen` is the file as the queue knows it, if it does.
///
/// # Errors
/// [`NotStored`]; the file is then where it was.
pub async fn ingest_one(
    site: Arc<Site>,
    path: PathBuf,
    last_seen: Option<LastSeen>,
    patience: Patience,
) -> Result<Ingested, NotStored> {
    let ready = open(&site, &path, last_seen).await?;
    let stamp = ready.opened.stamp();
    if let Some(before) = ready.claim.stored_before(&ready.source.sha256, (site.clock)().steady) {
        return blocking(move || dispose_again(&site, ready, &path, &before)).await;
    }
    let age = age(&stamp, last_seen, (site.clock)());
    let when = When { now: (site.clock)().wall, patience };
    let stored_as = site.folder.stored_as(&path).path;
    let (key, put) = match ready.known_key(&site).await {
        Some(key) => (key, Put::AlreadyThere),
        None => match ready.put(&site, &ready.about(&stored_as), when).await {
            Ok(done) => done,
            // If the file changed while it was sent, the body broke off, which looks like a broken connection.
            Err(_) if !ready.opened.is_unchanged() => return Err(NotStored::Changed),
            Err(refusal) => return Err(NotStored::Refused(refusal)),
        },
    };
    let joined = if ready.headless { ready.put_joined(&site, &path, when).await? } else { None };
    let now = (site.clock)();
    let stored = Stored {
        capture: ready.capture,
        key,
        size: stamp.size,
        elapsed: now.wall.duration_since(stamp.modified).unwrap_or_default(),
        again: put == Put::AlreadyThere,
        partial: ready.partial,
        open: ready.writer == Writer::Somebody,
        stamp,
        sha256: ready.source.sha256,
        written: false,
        left: None,
        not_kept: None,
    };
    // Whoever has opened it since then is found when it is taken away.
    let writer = ready.writer;
    // What has become whole waits for nothing, unless more may come.
    let wait = wait_for_camera(&site, &stored, writer, age).filter(|_| joined.is_none() || writer == Writer::Unknown);
    let (opened, mut claim) = (ready.opened, ready.claim);
    // Whoever has it open may close it with these bytes, and they may then be a whole capture.
    if !stored.open {
        claim.remember(Arc::new(stored.clone()), &path, now.steady);
    }
    blocking(move || {
        if let Some(joined) = &joined
            && let Err(error) = write_down(&site, &path, joined, now)
        {
            tracing::warn!(
                message_id = message::LEDGER,
                "failed to write ledger: {error}; `hk-aws verify --rebuild` finds {}",
                joined.key
            );
        }
        let finished = finish(&site, opened, &path, Ingested { stored: Box::new(stored), joined, wait }, now);
        if finished.as_ref().is_ok_and(Ingested::is_away) {
            claim.forget();
        }
        finished
    })
    .await
}

/// Disposes of a file that was stored a moment ago under another name or date, and writes that down.
fn dispose_again(site: &Site, ready: Ready, path: &Path, before: &StoredUnder) -> Result<Ingested, NotStored> {
    let (now, mut claim) = ((site.clock)(), ready.claim);
    let stamp = ready.opened.stamp();
    let stored = Stored { again: true, stamp, left: None, not_kept: None, ..Stored::clone(&before.stored) };
    let wait = wait_for_camera(site, &stored, ready.opened.writer(), stamp.age(now.wall));
    if before.path != path {
        let seen = ledger::SeenAgain {
            seen_again_at: now.wall.into(),
            key: stored.key.as_str().to_owned(),
            source: key::escape_path(&site.folder.stored_as(path).path),
        };
        // Like every line of the ledger, it can be missing where the disk is full.
        let _not_written = ledger::append_seen_again(&site.ledger(), &stored.capture, &seen);
    }
    let ingested = Ingested { stored: Box::new(stored), joined: None, wait };
    let finished = finish(site, ready.opened, &before.path, ingested, now);
    match &finished {
        Ok(done) if done.is_away() => claim.forget(),
        Ok(done) => claim.remember(Arc::new(Stored::clone(&done.stored)), &before.path, now.steady),
        Err(_) => claim.remember(Arc::clone(&before.stored), &before.path, now.steady),
    }
    finished
}

/// Disposes of a file that is stored, without a request to the bucket, if it is still the file that was stored.
///
/// # Errors
/// [`NotStored::Gone`], [`NotStored::Growing`], [`NotStored::Changed`] or [`NotStored::Unreadable`]: the file, if it is
/// there, is no longer the one that was stored, or cannot be opened.
pub async fn dispose_one(
    site: Arc<Site>,
    path: PathBuf,
    stored: Arc<Stored>,
    last_seen: Option<LastSeen>,
) -> Result<Ingested, NotStored> {
    blocking(move || {
        let opened = site.folder.open(&path).map_err(|error| match error {
            OpenError::Gone => NotStored::Gone,
            other => NotStored::Unreadable(other.to_string()),
        })?;
        if opened.stamp() != stored.stamp {
            return Err(NotStored::Changed);
        }
        let writer = opened.writer();
        // Whoever had it open has closed it, so that it may be whole.
        let is_open = writer == Writer::Somebody;
        if stored.open && !is_open {
            return Err(NotStored::Closed);
        }
        if is_open && !stored.open {
            return Err(NotStored::Growing);
        }
        let now = (site.clock)();
        let wait = wait_for_camera(&site, &stored, writer, age(&stored.stamp, last_seen, now));
        let stored = Box::new(Stored { left: None, not_kept: None, ..Stored::clone(&stored) });
        finish(&site, opened, &path, Ingested { stored, joined: None, wait }, now)
    })
    .await
}

/// Returns how long a file has been in its state: as the queue counts it, or by the wall clock if the queue does not
/// know the file.
fn age(stamp: &Stamp, last_seen: Option<LastSeen>, now: Now) -> Duration {
    match last_seen {
        Some(seen) if seen.stamp == *stamp => seen.age,
        // It has changed since it was seen.
        Some(_) => Duration::ZERO,
        None => stamp.age(now.wall),
    }
}

/// Returns how long a file of this `age` still waits for its camera; `None` if it is complete or has waited long
/// enough. A file that may still be open waits like one that was cut off.
fn wait_for_camera(site: &Site, stored: &Stored, writer: Writer, age: Duration) -> Option<Duration> {
    if stored.open {
        return Some(site.config.drop_folder.stalled);
    }
    let patience = site.config.drop_folder.partial_after;
    let waits = stored.partial || writer == Writer::Unknown;
    patience.checked_sub(age).filter(|wait| waits && !wait.is_zero())
}

/// A file that is ready to be put.
struct Ready {
    opened: Opened,
    claim: Claim,
    source: Source,
    /// Whether it was cut off, or is open for writing.
    partial: bool,
    /// Who had it open for writing when it was opened; if somebody, he has been quiet for long.
    writer: Writer,
    /// Whether its beginning is missing: a camera has resumed a transfer whose first part had been disposed of.
    headless: bool,
    /// Whether it is whole, but does not begin with what was stored of a cut-off capture of its name.
    is_other: bool,
    capture: Capture,
    /// The key that the whole capture gets if no other object has it.
    first_key: ObjectKey,
    /// The keys of this capture's name under which this box has written down that something was stored, each with the
    /// SHA-256 in hexadecimal.
    written: HashMap<String, String>,
    /// The line of the same bytes, if they were stored before this start.
    stored: Option<LedgerEntry>,
}

impl Ready {
    /// Puts the file under the capture's own key, or beside it if another object is there. A file that was cut off
    /// always goes beside it, because the whole one may follow.
    async fn put(&self, site: &Site, about: &About, when: When) -> Result<(ObjectKey, Put), Refusal> {
        let variant = if self.partial {
            Variant::Partial
        } else if self.is_other {
            Variant::Other
        } else {
            Variant::Whole
        };
        self.put_as(variant, site, &self.source, about, when).await
    }

    /// Puts bytes of the capture under a key of this variant; those of a whole one under its own, if that is free.
    async fn put_as(
        &self,
        variant: Variant,
        site: &Site,
        source: &Source,
        about: &About,
        when: When,
    ) -> Result<(ObjectKey, Put), Refusal> {
        // A run that was killed before it wrote its line may have put it there: no part of the other was known then.
        if variant == Variant::Other && site.bucket.holds(&self.first_key, source).await? == Some(true) {
            return Ok((self.first_key.clone(), Put::AlreadyThere));
        }
        let hash = hex::encode(source.sha256);
        let own = (variant == Variant::Whole).then(|| self.first_key.clone());
        // Another object can have the beginning of the hash, by chance or on purpose.
        let last = self.first_key.variant(variant, &hash);
        let keys: Vec<ObjectKey> = own.into_iter().chain([self.first_key.variant(variant, &hash[..8])]).collect();
        // AWS itself tells when a key is taken. Any other store may have been replaced or rolled back since it was asked.
        let is_believed = site.bucket.is_aws().await?;
        let mut written = if is_believed { None } else { Some(self.written.clone()) };
        for key in keys {
            if written.as_ref().is_some_and(|written| has_same(written, &key, &hash) == Some(false)) {
                continue;
            }
            match site.bucket.put_new(&key, source, about, when).await? {
                Put::Unseen => {
                    // Somebody else may have written his line since this file was read.
                    let told = self.written_down(site).await;
                    if has_same(&told, &key, &hash) == Some(true) {
                        return Ok((key, Put::AlreadyThere));
                    }
                    written = Some(told);
                }
                Put::Conflict => {}
                done => return Ok((key, done)),
            }
        }
        match site.bucket.put_hashed(&last, source, about, when).await? {
            // A store that checks the SHA-256 has these bytes: no other box means to put anything else there.
            Put::Unseen if site.bucket.checks_sha256() => Ok((last, Put::AlreadyThere)),
            Put::Unseen if has_same(&self.written_down(site).await, &last, &hash) == Some(true) => {
                Ok((last, Put::AlreadyThere))
            }
            Put::Conflict | Put::Unseen => Err(Refusal::unproven(&last)),
            done => Ok((last, done)),
        }
    }

    /// Returns what this box has written down of this capture's name by now, as `written` has it.
    async fn written_down(&self, site: &Site) -> HashMap<String, String> {
        let (ledger, capture, first_key) = (site.ledger(), self.capture.clone(), self.first_key.clone());
        let reading = tokio::task::spawn_blocking(move || earlier::known(&ledger, &capture, &first_key).keys);
        reading.await.unwrap_or_default()
    }

    /// Returns the key of the object if the ledger has the file as stored before this start, and the bucket still has it.
    ///
    /// A box that may not read has nothing but the ledger.
    async fn known_key(&self, site: &Site) -> Option<ObjectKey> {
        let entry = self.stored.as_ref()?;
        let variants = [Variant::Whole, Variant::Other, Variant::Partial];
        let own = variants.into_iter().flat_map(|variant| {
            [&entry.sha256[..8], entry.sha256.as_str()].map(|hash| self.first_key.variant(variant, hash))
        });
        let mut keys = std::iter::once(self.first_key.clone()).chain(own);
        let key = keys.find(|key| key.as_str() == entry.key)?;
        if entry.partial != self.partial || entry.size != self.source.size {
            return None;
        }
        if site.config.s3.access == Access::WriteOnly {
            return Some(key);
        }
        (site.bucket.holds(&key, &self.source).await == Ok(Some(true))).then_some(key)
    }

    /// Puts the whole capture that the file makes together with its first part, if that can be had.
    async fn put_joined(&self, site: &Arc<Site>, path: &Path, when: When) -> Result<Option<Box<Stored>>, NotStored> {
        let stored_as = site.folder.stored_as(path).path;
        let from = key::escape_path(&stored_as);
        let Some(joined) = join::join(site, &self.source, &from, &self.capture, &self.first_key).await? else {
            return Ok(None);
        };
        let whole = joined.source;
        let about = self.about_bytes(&stored_as, &whole.sha256, false);
        let variant = if joined.stands_for_all { Variant::Whole } else { Variant::Other };
        let (key, put) = self.put_as(variant, site, &whole, &about, when).await.map_err(NotStored::Refused)?;
        let now = (site.clock)();
        Ok(Some(Box::new(Stored {
            capture: self.capture.clone(),
            key,
            size: whole.size,
            elapsed: now.wall.duration_since(self.opened.stamp().modified).unwrap_or_default(),
            again: put == Put::AlreadyThere,
            partial: false,
            open: false,
            stamp: self.opened.stamp(),
            sha256: whole.sha256,
            written: false,
            left: None,
            not_kept: None,
        })))
    }

    /// Returns the content type, metadata and tags of the object, for a file that is stored as this path.
    fn about(&self, stored_as: &Path) -> About {
        self.about_bytes(stored_as, &self.source.sha256, self.partial)
    }

    fn about_bytes(&self, stored_as: &Path, sha256: &[u8; 32], partial: bool) -> About {
        let capture = &self.capture;
        let mut metadata = vec![
            ("camera", capture.camera.clone()),
            ("taken-at", capture.taken.to_rfc3339()),
            ("taken-from", capture.taken_from.as_str().to_owned()),
            ("source", key::bounded(&key::escape_path(stored_as), MAX_SOURCE_BYTES)),
            ("sha256", hex::encode(sha256)),
        ];
        metadata.extend(capture.is_day_only.then(|| ("time-of-day", "unknown".to_owned())));
        metadata.extend(capture.camera_time.map(|told| ("camera-time", told.to_rfc3339())));
        metadata.extend(partial.then(|| ("partial", "true".to_owned())));
        metadata.extend(capture.event.clone().map(|event| ("event", event)));
        metadata.extend(capture.channel.clone().map(|channel| ("channel", channel)));
        let mut tags = vec![("camera", capture.camera.clone())];
        tags.extend(capture.event.clone().map(|event| ("event", event)));
        About { content_type: content_type(stored_as, capture.media), metadata, tags, class: None }
    }
}

fn content_type(path: &Path, media: Media) -> String {
    match (mime_guess::from_path(path).first_raw(), media) {
        (Some(known), _) => known.to_owned(),
        // Cameras that leave the extension out send JPEGs.
        (None, Media::Picture) => mime_guess::mime::IMAGE_JPEG.to_string(),
        (None, _) => mime_guess::mime::APPLICATION_OCTET_STREAM.to_string(),
    }
}

/// Opens, hashes and classifies a file that nobody is writing, or that is open for writing and does not grow.
async fn open(site: &Arc<Site>, path: &Path, last_seen: Option<LastSeen>) -> Result<Ready, NotStored> {
    let (site, path) = (Arc::clone(site), path.to_owned());
    blocking(move || {
        let opened = site.folder.open(&path).map_err(|error| match error {
            OpenError::Gone => NotStored::Gone,
            // Something else has come under the name: the next look tells what it is.
            OpenError::NotAFile(_) | OpenError::LeftAlone(_) => NotStored::Changed,
            OpenError::Io(error) => NotStored::Unreadable(error.to_string()),
        })?;
        let stamp = opened.stamp();
        let quiet_for = age(&stamp, last_seen, (site.clock)());
        let writer = opened.writer();
        let open = writer == Writer::Somebody;
        // The FTP server may hold the file of a camera that is gone for minutes: the cut may be the burglar's.
        if open && (quiet_for < site.config.drop_folder.stalled || stamp.size == 0) {
            return Err(NotStored::Growing);
        }
        if stamp.size == 0 {
            return Err(NotStored::Empty(quiet_for));
        }
        let claim = Claim::of(opened.id(), site.folder.path().join(&path)).ok_or(NotStored::InWork)?;
        let read = content(&opened).and_then(|content| {
            let mut file = content.readable()?;
            let is_cut = media::end_of(&mut *file)? == FileEnd::Cut || site.folder.stored_as(&path).is_unfinished;
            let (capture, first_key) = site.classify(&path, &mut *file, stamp.modified)?;
            let sha256 = content.sha256(stamp.size)?;
            let known = earlier::known(&site.ledger(), &capture, &first_key);
            let parts = &known.partials;
            let mut continued = 0;
            for part in parts {
                continued += usize::from(earlier::begins_with(&content, stamp.size, part)?);
            }
            let headless = !open && !parts.is_empty() && continued == 0 && !media::has_header(&mut *file)?;
            let partial = open || is_cut || headless;
            let is_other = !partial && continued < parts.len();
            let precedence = Precedence::Capture(stamp.modified);
            let source = Source { content, size: stamp.size, precedence, sha256 };
            // A file that could not be taken away before this start is not sent again.
            let is_old = stamp.changed < site.since;
            let stored = is_old.then(|| earlier::stored(&site.ledger(), &capture, &source.sha256)).flatten();
            Ok((source, (partial, headless, is_other), (capture, first_key), (known.keys, stored)))
        });
        // If the camera has begun to send the file again meanwhile, what was read of the two contents must not be
        // mixed.
        if !opened.is_unchanged() {
            return Err(NotStored::Changed);
        }
        let (source, (partial, headless, is_other), (capture, first_key), (written, stored)) =
            read.map_err(|error| NotStored::Unreadable(format!("failed to read file: {error}")))?;
        Ok(Ready { opened, claim, source, partial, writer, headless, is_other, capture, first_key, written, stored })
    })
    .await
}

/// Returns whether a key has bytes of this SHA-256 by what this box has written down; `None` if it has nothing of the key.
fn has_same(written: &HashMap<String, String>, key: &ObjectKey, sha256: &str) -> Option<bool> {
    written.get(key.as_str()).map(|told| told == sha256)
}

/// Returns the content of a file: its bytes, read once, unless it is a large one.
fn content(opened: &Opened) -> io::Result<Content> {
    if opened.stamp().size <= MOST_IN_MEMORY {
        Ok(Content::Bytes(opened.bytes()?.into()))
    } else {
        Ok(Content::File(Arc::new(opened.reader()?)))
    }
}

/// Writes the ledger and, unless the file waits for its camera, disposes of it.
///
/// From here on nothing may keep the capture from counting as stored, least of all a full state disk.
fn finish(
    site: &Site,
    mut opened: Opened,
    path: &Path,
    mut ingested: Ingested,
    now: Now,
) -> Result<Ingested, NotStored> {
    let stored = &mut *ingested.stored;
    if ingested.wait.is_none() && !opened.is_unchanged() {
        if opened.has_same_bytes() {
            // Renamed or gone. Whoever has taken it away may have stored it elsewhere, and written down only that.
            let _not_written = write_down(site, path, &Stored { again: true, ..stored.clone() }, now);
        }
        // Otherwise the bytes that were sent may be a mixture. They do no harm, and the file is uploaded again as it is now.
        return Err(NotStored::Changed);
    }
    let written = if stored.written {
        Ok(())
    } else {
        with_room(site, stored.size, now, || write_down(site, path, stored, now))
            .map_err(|error| format!("failed to write ledger: {error}"))
    };
    stored.written = written.is_ok();
    if ingested.wait.is_some() {
        stored.left = written.err();
        return Ok(ingested);
    }
    let taken = match written {
        Ok(()) => dispose(site, &mut opened, stored, now),
        Err(reason) => remove_if_short(site, &mut opened, stored, reason),
    };
    stored.stamp = opened.stamp();
    match taken {
        Ok(Taken::Away) => Ok(ingested),
        Ok(Taken::PutBack) => Err(NotStored::Changed),
        Err(reason) => {
            stored.left = Some(reason);
            Ok(ingested)
        }
    }
}

fn write_down(site: &Site, path: &Path, stored: &Stored, now: Now) -> io::Result<()> {
    let entry = LedgerEntry {
        stored_at: now.wall.into(),
        key: stored.key.as_str().to_owned(),
        size: stored.size,
        sha256: hex::encode(stored.sha256),
        taken_at: stored.capture.taken,
        event: stored.capture.event.clone(),
        source: key::escape_path(&site.folder.stored_as(path).path),
        partial: stored.partial,
    };
    // An object that was there before may have its line, too.
    earlier::write_down(&site.ledger(), &stored.capture, entry, stored.again)
}

/// Keeps or removes the local file, as the configuration says; removes it if there is no room to keep it.
fn dispose(site: &Site, opened: &mut Opened, stored: &mut Stored, now: Now) -> Result<Taken, String> {
    let bytes = stored.size;
    match with_room(site, bytes, now, || keep(site, opened, stored)) {
        Ok(taken) => Ok(taken),
        Err(error)
            if site.config.keep.days > 0
                && (disk::is_full(&error) || disk::is_read_only(&error) || site.kept.missing_disk().is_some()) =>
        {
            let mend = if disk::is_read_only(&error) { service::shut_out(&site.config) } else { None };
            let mend = mend.map(|mend| format!("; {mend}")).unwrap_or_default();
            remove(opened, stored, format!("failed to keep local copy: {error}{mend}"))
        }
        Err(error) => remove_if_short(site, opened, stored, format!("failed to dispose of local file: {error}")),
    }
}

fn keep(site: &Site, opened: &mut Opened, stored: &Stored) -> io::Result<Taken> {
    let keep = &site.config.keep;
    if keep.days == 0 {
        return opened.remove(&stored.sha256);
    }
    if let Some(disk) = site.kept.missing_disk() {
        return Err(io::Error::other(format!("its disk is not mounted at {}", disk.display())));
    }
    let copy =
        CopyOf { camera: &stored.capture.camera, date: stored.capture.taken.date_naive(), file: stored.key.file() };
    match kept::place(&keep.path, copy, &stored.sha256)? {
        CopyPlace::Free(target) => {
            site.kept.hold_room(stored.size)?;
            let moved = match opened.move_to(&target, Some(&stored.sha256)) {
                // The folder of the day was removed in between, together with its last copy.
                Err(error) if error.kind() == io::ErrorKind::NotFound => opened.move_to(&target, Some(&stored.sha256)),
                done => done,
            };
            if matches!(moved, Ok(Taken::Away)) {
                site.kept.came(stored.size);
            }
            moved
        }
        CopyPlace::Held => opened.remove(&stored.sha256),
    }
}

/// Removes the file despite `reason` if the drop folder runs short of room; otherwise the file stays.
fn remove_if_short(site: &Site, opened: &mut Opened, stored: &mut Stored, reason: String) -> Result<Taken, String> {
    if site.shortage().is_none() {
        return Err(reason);
    }
    remove(opened, stored, reason)
}

fn remove(opened: &mut Opened, stored: &mut Stored, reason: String) -> Result<Taken, String> {
    let taken =
        opened.remove(&stored.sha256).map_err(|error| format!("{reason}; failed to remove local file: {error}"))?;
    stored.not_kept = (taken == Taken::Away).then_some(reason);
    Ok(taken)
}

/// Does `work`; if it finds no room for this many bytes, local copies give way and it is done once more.
fn with_room<T>(site: &Site, bytes: u64, now: Now, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match work() {
        Err(error) if disk::is_full(&error) => {
            let given = site.kept.make_room(bytes.saturating_mul(MAKE_ROOM_FOR), now);
            if given.copies > 0 { work() } else { Err(error) }
        }
        done => done,
    }
}
