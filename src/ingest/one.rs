//! One file, from the drop folder to the bucket: open, classify, put, confirm, write down, dispose of.
//!
//! The order is the promise. Whatever ends the process between two steps, the file is still in the folder or its bytes
//! are in the bucket, and the next scan goes through the same steps again: the put then finds its own object, the
//! ledger its own line, the kept folder its own copy.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::bucket::{About, Bucket, Credentials, Put, Refusal, Source, read_through};
use crate::capture::media::{self, End};
use crate::capture::{self, Capture, Media};
use crate::config::Config;
use crate::drop_folder::{self, DropFolder, OpenError, Opened, Taken, Writer};
use crate::kept::{self, Place};
use crate::key::{self, Layout, ObjectKey, Variant};
use crate::ledger;
use crate::queue::Now;

/// Longest source path in the metadata: percent-encoding may triple it, and S3 allows 2 KB of metadata in all (S3 User
/// Guide, "User-defined object metadata").
const MAX_SOURCE_BYTES: usize = 300;

/// What an upload needs to know; one value a configuration, replaced as a whole by a reload.
#[derive(Debug)]
pub struct Context {
    /// The settings.
    pub config: Arc<Config>,
    /// The drop folder.
    pub folder: DropFolder,
    /// The bucket.
    pub bucket: Bucket,
    /// The shape of keys.
    pub layout: Layout,
    /// Reads the clocks.
    pub clock: fn() -> Now,
}

/// A capture that is in the bucket.
#[derive(Debug, Clone)]
pub struct Stored {
    /// What it is.
    pub capture: Capture,
    /// Where it is.
    pub key: ObjectKey,
    /// Bytes.
    pub size: u64,
    /// From the file's last change to the confirmation.
    pub elapsed: Duration,
    /// Whether it was there before.
    pub again: bool,
    /// Whether it was cut off.
    pub partial: bool,
    /// Why the local file could not be disposed of, if so; it stays, and is found again.
    pub left: Option<String>,
}

/// What became of a file.
#[derive(Debug)]
pub enum Outcome {
    /// In the bucket, and out of the folder unless said otherwise.
    Stored(Box<Stored>),
    /// Cut off: what there is is in the bucket, and the file waits so long for the camera to resume or resend it.
    Partial(Box<Stored>, Duration),
    /// It is not there any more.
    Gone,
    /// Somebody has it open for writing.
    Growing,
    /// It is not what was opened any more: look again.
    Changed,
    /// It holds no byte; it was last changed at this time.
    Empty(SystemTime),
    /// The bucket refuses.
    Refused(Refusal),
    /// This box refuses.
    Unreadable(String),
}

impl Context {
    /// Wires the parts that a configuration names.
    pub async fn new(config: Arc<Config>, credentials: Option<Credentials>, clock: fn() -> Now) -> Self {
        let layout = Layout::new(&config.s3.prefix, config.s3.key.clone());
        let bucket = Bucket::connect(&config.s3, credentials).await;
        Self { folder: DropFolder::new(&config.drop_folder), bucket, layout, config, clock }
    }

    /// Classifies a file of the folder, with a look into it where the path does not tell the time, and gives it its key.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn classify(&self, path: &Path, file: &mut File, modified: SystemTime) -> io::Result<(Capture, ObjectKey)> {
        let sent_as = drop_folder::sent_as(path);
        let sighting = capture::sight(&sent_as, &self.config);
        let content = sighting.ask(file)?;
        let capture = sighting.settle(content, capture::arrival(modified));
        let key = self.layout.render(&capture.fields());
        Ok((capture, key))
    }

    /// Where the ledger lies.
    pub fn ledger(&self) -> PathBuf {
        self.config.state_dir.join("ledger")
    }
}

/// Takes one file through all steps.
pub async fn ingest_one(context: Arc<Context>, path: PathBuf) -> Outcome {
    match attempt(&context, &path).await {
        Ok((stored, None)) => Outcome::Stored(Box::new(stored)),
        Ok((stored, Some(wait))) => Outcome::Partial(Box::new(stored), wait),
        Err(outcome) => outcome,
    }
}

/// The capture as stored, and how long its file still waits, if it does.
async fn attempt(context: &Arc<Context>, path: &Path) -> Result<(Stored, Option<Duration>), Outcome> {
    let Ready { opened, source, partial, capture, first_key } = open(context, path).await?;
    let stamp = opened.stamp();
    let about = about(&capture, path, &source.sha256, partial);
    let put = put(context, &first_key, &source, &about, partial).await;
    let (key, put) = match put {
        Ok(done) => done,
        // A body that broke off because the file changed looks like a broken connection.
        Err(_) if !opened.is_unchanged() => return Err(Outcome::Changed),
        Err(refusal) => return Err(Outcome::Refused(refusal)),
    };
    let now = (context.clock)();
    let again = put == Put::AlreadyThere;
    let elapsed = now.wall.duration_since(stamp.modified).unwrap_or_default();
    let mut stored = Stored { capture, key, size: stamp.size, elapsed, again, partial, left: None };
    // A clock that went back makes it wait longer, never shorter.
    let wait = if partial { context.config.drop_folder.partial_after.checked_sub(elapsed) } else { None };
    let opened = if wait.is_none() { Some(opened) } else { None };
    stored.left = finish(context, opened, source.sha256, path, &stored, now).await?;
    Ok((stored, wait))
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
async fn open(context: &Arc<Context>, path: &Path) -> Result<Ready, Outcome> {
    let (context, path) = (Arc::clone(context), path.to_owned());
    blocking(move || {
        let opened = context.folder.open(&path).map_err(|error| match error {
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
            return Err(Outcome::Empty(stamp.modified));
        }
        let read = opened.reader().and_then(|mut file| {
            let partial = media::end_of(&mut file)? == End::Cut;
            let (capture, first_key) = context.classify(&path, &mut file, stamp.modified)?;
            let sha256 = hash(&file, stamp.size)?;
            let source = Source { file: Arc::new(file), size: stamp.size, sha256 };
            Ok((source, partial, capture, first_key))
        });
        let (source, partial, capture, first_key) = match read {
            Ok(read) => read,
            Err(_) if !opened.is_unchanged() => return Err(Outcome::Changed),
            Err(error) => return Err(Outcome::Unreadable(format!("failed to read file: {error}"))),
        };
        // A camera that began to send again while the file was read: a mixture of two captures is nobody's.
        if !opened.is_unchanged() {
            return Err(Outcome::Changed);
        }
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
    context: &Context,
    first_key: &ObjectKey,
    source: &Source,
    about: &About,
    partial: bool,
) -> Result<(ObjectKey, Put), Refusal> {
    let now = (context.clock)().wall;
    let hash = &hex::encode(source.sha256)[..8];
    if partial {
        let beside = first_key.variant(Variant::Partial, hash);
        let put = context.bucket.put_hashed(&beside, source, about, now).await?;
        return Ok((beside, put));
    }
    match context.bucket.put_new(first_key, source, about, now).await? {
        Put::Conflict => {}
        done => return Ok((first_key.clone(), done)),
    }
    let beside = first_key.variant(Variant::Whole, hash);
    let put = context.bucket.put_hashed(&beside, source, about, now).await?;
    Ok((beside, put))
}

/// Writes the ledger and disposes of the local file if it is given; says why it is left, if it is against our will.
async fn finish(
    context: &Arc<Context>,
    opened: Option<Opened>,
    sha256: [u8; 32],
    path: &Path,
    stored: &Stored,
    now: Now,
) -> Result<Option<String>, Outcome> {
    let (context, path, stored) = (Arc::clone(context), path.to_owned(), stored.clone());
    blocking(move || {
        if opened.as_ref().is_some_and(|opened| !opened.is_unchanged()) {
            // The bytes that went up may be a mixture. They hurt nobody; what is here now goes up as well.
            return Err(Outcome::Changed);
        }
        let date = stored.capture.taken.date_naive();
        let entry = ledger::Entry {
            stored_at: now.wall.into(),
            key: stored.key.as_str().to_owned(),
            size: stored.size,
            sha256: hex::encode(sha256),
            taken_at: stored.capture.taken,
            event: stored.capture.event.clone(),
            source: key::escape_path(&drop_folder::sent_as(&path)),
            partial: stored.partial,
        };
        // From here on nothing may keep the capture from counting as stored; a full state disk least of all.
        let written = ledger::append(&context.ledger(), &stored.capture.camera, &entry, stored.again)
            .map_err(|error| format!("failed to write ledger: {error}"));
        let gone = written.and_then(|()| {
            let Some(opened) = opened else { return Ok(Taken::Away) };
            dispose(&context.config.keep, opened, &stored, date, &sha256)
                .map_err(|error| format!("failed to dispose of local file: {error}"))
        });
        match gone {
            Ok(Taken::Away) => Ok(None),
            Ok(Taken::PutBack) => Err(Outcome::Changed),
            Err(reason) => Ok(Some(reason)),
        }
    })
    .await
}

fn dispose(
    keep: &crate::config::Keep,
    opened: Opened,
    stored: &Stored,
    date: chrono::NaiveDate,
    sha256: &[u8; 32],
) -> io::Result<Taken> {
    if keep.days == 0 {
        return opened.remove();
    }
    match kept::place(&keep.path, &stored.capture.camera, date, stored.key.file(), sha256)? {
        Place::Free(target) => opened.move_to(&target),
        Place::Held => opened.remove(),
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
    About { content_type: content_type(&sent_as, capture.media), metadata, tags }
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
