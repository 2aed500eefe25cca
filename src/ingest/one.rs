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
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::bucket::{About, Content, Patience, Precedence, Put, Refusal, Source, When, read_through};
use crate::capture::media::{self, FileEnd};
use crate::capture::{Capture, Media};
use crate::clock::Now;
use crate::disk;
use crate::drop_folder::{OpenError, Opened, Stamp, Taken, Writer};
use crate::kept::{self, CopyOf, CopyPlace};
use crate::key::{self, ObjectKey, Variant};
use crate::ledger;
use crate::queue::LastSeen;
use crate::site::Site;
use crate::stored::Stored;

/// The longest source path in the metadata: percent-encoding may triple it, and S3 allows 2 KB of metadata in total (S3
/// User Guide, "User-defined object metadata").
const MAX_SOURCE_BYTES: usize = 300;

/// A write that finds no room makes local copies give way to this many captures of its size, because the next ones come
/// soon.
const MAKE_ROOM_FOR: u64 = 8;

/// A file whose bytes are in the bucket.
#[derive(Debug)]
pub struct Ingested {
    /// The capture as stored.
    pub stored: Box<Stored>,
    /// How long the file still waits, because it was cut off and the camera may resume or send it again, or because
    /// nobody knows whether it is still being written; `None` if it does not wait.
    pub wait: Option<Duration>,
}

/// Why a file was not stored.
#[derive(Debug, thiserror::Error)]
pub enum NotStored {
    /// The file is not there any more.
    #[error("the file is gone")]
    Gone,
    /// Somebody has it open for writing.
    #[error("the file is open for writing")]
    Growing,
    /// It changed while it was read: it has to be looked at again.
    #[error("the file changed while it was read")]
    Changed,
    /// It has no bytes, and has had none for this long.
    #[error("the file is empty")]
    Empty(Duration),
    /// The bucket refuses it.
    #[error("{0}")]
    Refused(Refusal),
    /// This box cannot read it.
    #[error("{0}")]
    Unreadable(String),
}

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
    let age = age(&stamp, last_seen, (site.clock)());
    let when = When { now: (site.clock)().wall, patience };
    let stored_as = site.folder.stored_as(&path).path;
    let (key, put) = match ready.put(&site, &ready.about(&stored_as), when).await {
        Ok(done) => done,
        // If the file changed while it was sent, the body broke off, which looks like a broken connection.
        Err(_) if !ready.opened.is_unchanged() => return Err(NotStored::Changed),
        Err(refusal) => return Err(NotStored::Refused(refusal)),
    };
    let now = (site.clock)();
    let stored = Stored {
        capture: ready.capture,
        key,
        size: stamp.size,
        elapsed: now.wall.duration_since(stamp.modified).unwrap_or_default(),
        again: put == Put::AlreadyThere,
        partial: ready.partial,
        stamp,
        sha256: ready.source.sha256,
        written: false,
        left: None,
        not_kept: None,
    };
    let opened = ready.opened;
    let wait = wait_for_camera(&site, &stored, opened.writer(), age);
    blocking(move || finish(&site, opened, &path, Ingested { stored: Box::new(stored), wait }, now)).await
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
        if writer == Writer::Somebody {
            return Err(NotStored::Growing);
        }
        let now = (site.clock)();
        let wait = wait_for_camera(&site, &stored, writer, age(&stored.stamp, last_seen, now));
        let stored = Box::new(Stored { left: None, not_kept: None, ..Stored::clone(&stored) });
        finish(&site, opened, &path, Ingested { stored, wait }, now)
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
    let patience = site.config.drop_folder.partial_after;
    let waits = stored.partial || writer == Writer::Unknown;
    patience.checked_sub(age).filter(|wait| waits && !wait.is_zero())
}

/// A file that is ready to be put.
struct Ready {
    opened: Opened,
    source: Source,
    /// Whether it was cut off.
    partial: bool,
    capture: Capture,
    /// The key that the whole capture gets if no other object has it.
    first_key: ObjectKey,
}

impl Ready {
    /// Puts the file under the capture's own key, or beside it if another object is there. A file that was cut off
    /// always goes beside it, because the whole one may follow.
    async fn put(&self, site: &Site, about: &About, when: When) -> Result<(ObjectKey, Put), Refusal> {
        let hash = hex::encode(self.source.sha256);
        let variant = if self.partial { Variant::Partial } else { Variant::Whole };
        let own = (!self.partial).then(|| self.first_key.clone());
        // Another object can have the beginning of the hash, by chance or on purpose.
        let last = self.first_key.variant(variant, &hash);
        let keys: Vec<ObjectKey> = own.into_iter().chain([self.first_key.variant(variant, &hash[..8])]).collect();
        // AWS itself tells when a key is taken. Any other store may have been replaced or rolled back since it was asked.
        let is_believed = site.bucket.is_aws().await?;
        let mut written = if is_believed { None } else { Some(self.written_down(site).await) };
        for key in keys {
            if written.as_ref().and_then(|written| written.get(key.as_str())).is_some_and(|there| *there != hash) {
                continue;
            }
            match site.bucket.put_new(&key, &self.source, about, when).await? {
                Put::Unseen => {
                    let written = match &mut written {
                        Some(written) => written,
                        None => written.insert(self.written_down(site).await),
                    };
                    if written.contains_key(key.as_str()) {
                        return Ok((key, Put::AlreadyThere));
                    }
                }
                Put::Conflict => {}
                done => return Ok((key, done)),
            }
        }
        match site.bucket.put_hashed(&last, &self.source, about, when).await? {
            // A store that checks the SHA-256 has these bytes: no other box means to put anything else there.
            Put::Unseen if site.bucket.checks_sha256() => Ok((last, Put::AlreadyThere)),
            Put::Unseen if self.written_down(site).await.contains_key(last.as_str()) => Ok((last, Put::AlreadyThere)),
            Put::Conflict | Put::Unseen => Err(Refusal::unproven(&last)),
            done => Ok((last, done)),
        }
    }

    /// Returns the names of this capture under which this box has written down that something was stored, each with the
    /// SHA-256 in hexadecimal.
    async fn written_down(&self, site: &Site) -> HashMap<String, String> {
        let (ledger, camera) = (site.ledger(), self.capture.camera.clone());
        let (date, stem) = (self.capture.taken.date_naive(), key::stem(self.first_key.as_str()).to_owned());
        let reading = tokio::task::spawn_blocking(move || ledger::stored_under(&ledger, &camera, date, &stem));
        reading.await.unwrap_or_default()
    }

    /// Returns the content type, metadata and tags of the object, for a file that is stored as this path.
    fn about(&self, stored_as: &Path) -> About {
        let capture = &self.capture;
        let mut metadata = vec![
            ("camera", capture.camera.clone()),
            ("taken-at", capture.taken.to_rfc3339()),
            ("taken-from", capture.taken_from.as_str().to_owned()),
            ("source", key::bounded(&key::escape_path(stored_as), MAX_SOURCE_BYTES)),
            ("sha256", hex::encode(self.source.sha256)),
        ];
        metadata.extend(capture.is_day_only.then(|| ("time-of-day", "unknown".to_owned())));
        metadata.extend(capture.camera_time.map(|told| ("camera-time", told.to_rfc3339())));
        metadata.extend(self.partial.then(|| ("partial", "true".to_owned())));
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

/// Opens, hashes and classifies a file that nobody is writing.
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
        if opened.writer() == Writer::Somebody {
            return Err(NotStored::Growing);
        }
        if stamp.size == 0 {
            return Err(NotStored::Empty(age(&stamp, last_seen, (site.clock)())));
        }
        let read = opened.reader().and_then(|mut file| {
            let partial = media::end_of(&mut file)? == FileEnd::Cut || site.folder.stored_as(&path).is_unfinished;
            let (capture, first_key) = site.classify(&path, &mut file, stamp.modified)?;
            let sha256 = hash(&file, stamp.size)?;
            let source = Source {
                content: Content::File(Arc::new(file)),
                size: stamp.size,
                precedence: Precedence::Capture(stamp.modified),
                sha256,
            };
            Ok((source, partial, capture, first_key))
        });
        // If the camera has begun to send the file again meanwhile, what was read of the two contents must not be
        // mixed.
        if !opened.is_unchanged() {
            return Err(NotStored::Changed);
        }
        let (source, partial, capture, first_key) =
            read.map_err(|error| NotStored::Unreadable(format!("failed to read file: {error}")))?;
        Ok(Ready { opened, source, partial, capture, first_key })
    })
    .await
}

fn hash(file: &File, size: u64) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    read_through(file, 0, size, |chunk| hash.update(chunk))?;
    Ok(hash.finalize().into())
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
        // The bytes that were sent may be a mixture. They do no harm, and the file is uploaded again as it is now.
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
    let entry = ledger::LedgerEntry {
        stored_at: now.wall.into(),
        key: stored.key.as_str().to_owned(),
        size: stored.size,
        sha256: hex::encode(stored.sha256),
        taken_at: stored.capture.taken,
        event: stored.capture.event.clone(),
        source: key::escape_path(&site.folder.stored_as(path).path),
        partial: stored.partial,
    };
    if stored.again {
        // The object was there before, so its line may be, too.
        ledger::append_once(&site.ledger(), &stored.capture.camera, &entry)
    } else {
        ledger::append(&site.ledger(), &stored.capture.camera, &entry)
    }
}

/// Keeps or removes the local file, as the configuration says; removes it if there is no room to keep it.
fn dispose(site: &Site, opened: &mut Opened, stored: &mut Stored, now: Now) -> Result<Taken, String> {
    let bytes = stored.size;
    match with_room(site, bytes, now, || keep(site, opened, stored)) {
        Ok(taken) => Ok(taken),
        Err(error) if site.config.keep.days > 0 && (disk::is_full(&error) || disk::is_read_only(&error)) => {
            remove(opened, stored, format!("failed to keep local copy: {error}"))
        }
        Err(error) => remove_if_short(site, opened, stored, format!("failed to dispose of local file: {error}")),
    }
}

fn keep(site: &Site, opened: &mut Opened, stored: &Stored) -> io::Result<Taken> {
    let keep = &site.config.keep;
    if keep.days == 0 {
        return opened.remove();
    }
    let copy =
        CopyOf { camera: &stored.capture.camera, date: stored.capture.taken.date_naive(), file: stored.key.file() };
    match kept::place(&keep.path, copy, &stored.sha256)? {
        CopyPlace::Free(target) => {
            site.kept.hold_room(stored.size)?;
            let moved = match opened.move_to(&target) {
                // The folder of the day was removed in between, together with its last copy.
                Err(error) if error.kind() == io::ErrorKind::NotFound => opened.move_to(&target),
                done => done,
            };
            if matches!(moved, Ok(Taken::Away)) {
                site.kept.came(stored.size);
            }
            moved
        }
        CopyPlace::Held => opened.remove(),
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
    let taken = opened.remove().map_err(|error| format!("{reason}; failed to remove local file: {error}"))?;
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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NotStored> + Send + 'static,
) -> Result<T, NotStored> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // The panic becomes one of this upload, whose file the loop sets aside.
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(NotStored::Unreadable(error.to_string())),
    }
}
