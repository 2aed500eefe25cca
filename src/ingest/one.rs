//! One file, from the drop folder to the bucket: open, classify, put, confirm, write down, dispose of.
//!
//! The order is the promise. Whatever ends the process between two steps, the file is still in the folder or its bytes
//! are in the bucket, and the next scan goes through the same steps again: the put then finds its own object, the
//! ledger its own line, the kept folder its own copy.
//!
//! What fails after the confirmation is this box's trouble, never a reason to send the bytes again: the queue remembers
//! what is stored, and [`dispose_one`] tries the rest. Local copies give way first. Where there is no room for a copy
//! all the same, the file is removed without one; and while the drop folder's own disk runs short, a file that is in
//! the bucket is removed whatever fails, its line in the ledger included: the ledger can be rebuilt from the bucket,
//! while a full drop folder turns away the next capture. Without such need it stays and waits for the mend.

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
use crate::drop_folder::{self, OpenError, Opened, Stamp, Taken, Writer};
use crate::kept::{self, Place};
use crate::key::{self, ObjectKey, Variant};
use crate::ledger;
use crate::site::Site;
use crate::stored::Stored;

/// Longest source path in the metadata: percent-encoding may triple it, and S3 allows 2 KB of metadata in all (S3 User
/// Guide, "User-defined object metadata").
const MAX_SOURCE_BYTES: usize = 300;

/// A write that finds no room makes local copies give way to so many captures of that size: the next ones come soon.
const MAKE_ROOM_FOR: u64 = 8;

/// What became of a file.
#[derive(Debug)]
pub enum Outcome {
    /// In the bucket, and out of the folder unless said otherwise.
    Stored(Box<Stored>),
    /// Cut off: what there is is in the bucket, and the file waits so long for the camera to resume or resend it.
    Partial(Box<Stored>, Duration),
    /// It had been stored before, and nothing was sent; where it still has to wait for the camera, so long.
    Disposed(Box<Stored>, Option<Duration>),
    /// It is not there any more.
    Gone,
    /// Somebody has it open for writing.
    Growing,
    /// It is not what was opened any more: look again.
    Changed,
    /// It holds no byte, and has not for so long.
    Empty(Duration),
    /// The bucket refuses.
    Refused(Refusal),
    /// This box refuses.
    Unreadable(String),
}

/// Takes one file through all steps; `rest` says for how long it has been what it is, where that is known.
pub async fn ingest_one(
    site: Arc<Site>,
    path: PathBuf,
    rest: Option<(Stamp, Duration)>,
    patience: Patience,
) -> Outcome {
    match attempt(&site, &path, rest, patience).await {
        Ok((stored, None)) => Outcome::Stored(Box::new(stored)),
        Ok((stored, Some(wait))) => Outcome::Partial(Box::new(stored), wait),
        Err(outcome) => outcome,
    }
}

/// The capture as stored, and how long its file still waits, if it does.
async fn attempt(
    site: &Arc<Site>,
    path: &Path,
    rest: Option<(Stamp, Duration)>,
    patience: Patience,
) -> Result<(Stored, Option<Duration>), Outcome> {
    let Ready { opened, source, partial, capture, first_key } = open(site, path, rest).await?;
    let stamp = opened.stamp();
    let age = age(&stamp, rest, (site.clock)());
    let about = about(&capture, path, &source.sha256, partial);
    let when = When { now: (site.clock)().wall, patience };
    let put = put(site, &first_key, &source, &about, partial, when).await;
    let (key, put) = match put {
        Ok(done) => done,
        // A body that broke off because the file changed looks like a broken connection.
        Err(_) if !opened.is_unchanged() => return Err(Outcome::Changed),
        Err(refusal) => return Err(Outcome::Refused(refusal)),
    };
    let now = (site.clock)();
    let elapsed = now.wall.duration_since(stamp.modified).unwrap_or_default();
    let stored = Stored {
        capture,
        key,
        size: stamp.size,
        elapsed,
        again: put == Put::AlreadyThere,
        partial,
        stamp,
        sha256: source.sha256,
        written: false,
        left: None,
        not_kept: None,
    };
    let wait = waits(site, &stored, age);
    let site = Arc::clone(site);
    let path = path.to_owned();
    let stored = blocking(move || finish(&site, opened, &path, stored, wait.is_some(), now)).await?;
    Ok((stored, wait))
}

/// How long a file has been what it is: as the queue knows it, whose time does not step, else by the wall clock.
fn age(stamp: &Stamp, rest: Option<(Stamp, Duration)>, now: Now) -> Duration {
    match rest {
        Some((seen, age)) if seen == *stamp => age,
        // It has changed since it was seen.
        Some(_) => Duration::ZERO,
        None => stamp.age(now.wall),
    }
}

/// How long a file that was cut off and is of this `age` still waits for its camera.
fn waits(site: &Site, stored: &Stored, age: Duration) -> Option<Duration> {
    let patience = site.config.drop_folder.partial_after;
    patience.checked_sub(age).filter(|wait| stored.partial && !wait.is_zero())
}

/// Disposes of a file that is stored, without a word to the bucket, if it is the file that was stored.
pub async fn dispose_one(
    site: Arc<Site>,
    path: PathBuf,
    stored: Arc<Stored>,
    rest: Option<(Stamp, Duration)>,
) -> Outcome {
    let done = blocking(move || {
        let opened = site.folder.open(&path).map_err(|error| match error {
            OpenError::Gone => Outcome::Gone,
            other => Outcome::Unreadable(other.to_string()),
        })?;
        if opened.stamp() != stored.stamp {
            return Err(Outcome::Changed);
        }
        if opened.writer() == Writer::Somebody {
            return Err(Outcome::Growing);
        }
        let now = (site.clock)();
        let wait = waits(&site, &stored, age(&stored.stamp, rest, now));
        let stored = Stored { left: None, not_kept: None, ..Stored::clone(&stored) };
        finish(&site, opened, &path, stored, wait.is_some(), now).map(|stored| (stored, wait))
    });
    match done.await {
        Ok((stored, wait)) => Outcome::Disposed(Box::new(stored), wait),
        Err(outcome) => outcome,
    }
}

/// A file that is ready to go.
struct Ready {
    opened: Opened,
    source: Source,
    /// Whether it was cut off.
    partial: bool,
    capture: Capture,
    first_key: ObjectKey,
}

/// Opens, hashes and classifies a file that nobody writes.
async fn open(site: &Arc<Site>, path: &Path, rest: Option<(Stamp, Duration)>) -> Result<Ready, Outcome> {
    let (site, path) = (Arc::clone(site), path.to_owned());
    blocking(move || {
        let opened = site.folder.open(&path).map_err(|error| match error {
            OpenError::Gone => Outcome::Gone,
            // Something else came under the name: a look says what.
            OpenError::NotAFile(_) | OpenError::LeftAlone(_) => Outcome::Changed,
            OpenError::Io(error) => Outcome::Unreadable(error.to_string()),
        })?;
        let stamp = opened.stamp();
        if opened.writer() == Writer::Somebody {
            return Err(Outcome::Growing);
        }
        if stamp.size == 0 {
            return Err(Outcome::Empty(age(&stamp, rest, (site.clock)())));
        }
        let read = opened.reader().and_then(|mut file| {
            let partial = media::end_of(&mut file)? == FileEnd::Cut;
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
        let (source, partial, capture, first_key) = match read {
            // A camera that began to send again meanwhile: what was told of the one content must not go up with the other.
            _ if !opened.is_unchanged() => return Err(Outcome::Changed),
            Ok(read) => read,
            Err(error) => return Err(Outcome::Unreadable(format!("failed to read file: {error}"))),
        };
        Ok(Ready { opened, source, partial, capture, first_key })
    })
    .await
}

fn hash(file: &File, size: u64) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    read_through(file, 0, size, |chunk| hash.update(chunk))?;
    Ok(hash.finalize().into())
}

/// Puts under the capture's own key, or beside it where that holds something else; what was cut off always goes beside
/// it, because the whole may follow.
async fn put(
    site: &Site,
    first_key: &ObjectKey,
    source: &Source,
    about: &About,
    partial: bool,
    when: When,
) -> Result<(ObjectKey, Put), Refusal> {
    let hash = &hex::encode(source.sha256)[..8];
    if partial {
        let beside = first_key.variant(Variant::Partial, hash);
        let put = site.bucket.put_hashed(&beside, source, about, when).await?;
        return Ok((beside, put));
    }
    match site.bucket.put_new(first_key, source, about, when).await? {
        Put::Conflict => {}
        done => return Ok((first_key.clone(), done)),
    }
    let beside = first_key.variant(Variant::Whole, hash);
    let put = site.bucket.put_hashed(&beside, source, about, when).await?;
    Ok((beside, put))
}

/// Writes the ledger and, unless the file `waits`, disposes of it. From here on nothing may keep the capture from
/// counting as stored; a full state disk least of all.
fn finish(
    site: &Site,
    mut opened: Opened,
    path: &Path,
    mut stored: Stored,
    waits: bool,
    now: Now,
) -> Result<Stored, Outcome> {
    if !waits && !opened.is_unchanged() {
        // The bytes that went up may be a mixture. They hurt nobody; what is here now goes up as well.
        return Err(Outcome::Changed);
    }
    let written = if stored.written {
        Ok(())
    } else {
        with_room(site, stored.size, now, || write_down(site, path, &stored, now))
            .map_err(|error| format!("failed to write ledger: {error}"))
    };
    stored.written = written.is_ok();
    let taken = match written {
        Ok(()) | Err(_) if waits => {
            stored.left = written.err();
            return Ok(stored);
        }
        Ok(()) => dispose(site, &mut opened, &mut stored, now),
        Err(reason) => give_in(site, &mut opened, &mut stored, reason),
    };
    stored.stamp = opened.stamp();
    match taken {
        Ok(Taken::Away) => Ok(stored),
        Ok(Taken::PutBack) => Err(Outcome::Changed),
        Err(reason) => {
            stored.left = Some(reason);
            Ok(stored)
        }
    }
}

fn write_down(site: &Site, path: &Path, stored: &Stored, now: Now) -> io::Result<()> {
    let entry = ledger::Entry {
        stored_at: now.wall.into(),
        key: stored.key.as_str().to_owned(),
        size: stored.size,
        sha256: hex::encode(stored.sha256),
        taken_at: stored.capture.taken,
        event: stored.capture.event.clone(),
        source: key::escape_path(&drop_folder::sent_as(path)),
        partial: stored.partial,
    };
    ledger::append(&site.ledger(), &stored.capture.camera, &entry, stored.again)
}

/// Keeps or removes the local file, as the configuration says; removes it where there is no room to keep it.
fn dispose(site: &Site, opened: &mut Opened, stored: &mut Stored, now: Now) -> Result<Taken, String> {
    let size = stored.size;
    match with_room(site, size, now, || keep(site, opened, stored)) {
        Ok(taken) => Ok(taken),
        Err(error) if site.config.keep.days > 0 && (disk::is_full(&error) || disk::is_read_only(&error)) => {
            remove(opened, stored, format!("failed to keep local copy: {error}"))
        }
        Err(error) => give_in(site, opened, stored, format!("failed to dispose of local file: {error}")),
    }
}

fn keep(site: &Site, opened: &mut Opened, stored: &Stored) -> io::Result<Taken> {
    let keep = &site.config.keep;
    if keep.days == 0 {
        return opened.remove();
    }
    let date = stored.capture.taken.date_naive();
    match kept::place(&keep.path, &stored.capture.camera, date, stored.key.file(), &stored.sha256)? {
        Place::Free(target) => {
            let moved = match opened.move_to(&target) {
                // The day's folder gave way in between.
                Err(error) if error.kind() == io::ErrorKind::NotFound => opened.move_to(&target),
                done => done,
            };
            if matches!(moved, Ok(Taken::Away)) {
                site.kept.came(stored.size);
            }
            moved
        }
        Place::Held => opened.remove(),
    }
}

/// Removes the file all the same where the drop folder runs short of room.
fn give_in(site: &Site, opened: &mut Opened, stored: &mut Stored, reason: String) -> Result<Taken, String> {
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

/// Tries once more after local copies gave way, if there was no room for `size` bytes.
fn with_room<T>(site: &Site, size: u64, now: Now, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match work() {
        Err(error) if disk::is_full(&error) => {
            let given = site.kept.give_way(now, size.saturating_mul(MAKE_ROOM_FOR));
            if given.copies > 0 { work() } else { Err(error) }
        }
        done => done,
    }
}

fn about(capture: &Capture, path: &Path, sha256: &[u8; 32], partial: bool) -> About {
    let sent_as = drop_folder::sent_as(path);
    let mut metadata = vec![
        ("camera", capture.camera.clone()),
        ("taken-at", capture.taken.to_rfc3339()),
        ("taken-from", capture.taken_from.as_str().to_owned()),
        ("source", key::bounded(&key::escape_path(&sent_as), MAX_SOURCE_BYTES)),
        ("sha256", hex::encode(sha256)),
    ];
    metadata.extend(capture.camera_time.map(|told| ("camera-time", told.to_rfc3339())));
    metadata.extend(partial.then(|| ("partial", "true".to_owned())));
    metadata.extend(capture.event.clone().map(|event| ("event", event)));
    metadata.extend(capture.channel.clone().map(|channel| ("channel", channel)));
    let mut tags = vec![("camera", capture.camera.clone())];
    tags.extend(capture.event.clone().map(|event| ("event", event)));
    About { content_type: content_type(&sent_as, capture.media), metadata, tags, class: None }
}

fn content_type(path: &Path, media: Media) -> String {
    match (mime_guess::from_path(path).first_raw(), media) {
        (Some(known), _) => known.to_owned(),
        // Cameras that leave the extension out send JPEGs.
        (None, Media::Picture) => mime_guess::mime::IMAGE_JPEG.to_string(),
        (None, _) => mime_guess::mime::APPLICATION_OCTET_STREAM.to_string(),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Outcome> + Send + 'static) -> Result<T, Outcome> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // Let the panic be one of this upload, which the loop sets aside.
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(Outcome::Unreadable(error.to_string())),
    }
}
