//! Joins a capture that was cut off with the rest that its camera sent after the first part had been disposed of.
//!
//! A camera that resumes (FTP's REST and APPE) finds no file any more, and its server begins a new one: with a hole where
//! the first part was, or with the rest alone. If the first part is among the local copies or in the bucket, and the two
//! together are whole by their format, they are stored as one under the key of the whole. Both parts stay as they are.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::earlier;
use super::outcome::{NotStored, blocking};
use crate::bucket::{Content, RefusalKind, Source};
use crate::capture::Capture;
use crate::capture::media::{self, FileEnd, Readable};
use crate::config::Access;
use crate::kept::{self, CopyOf};
use crate::key::ObjectKey;
use crate::ledger::LedgerEntry;
use crate::message;
use crate::site::Site;

/// The bytes that are read at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// A whole capture, joined of two parts.
pub(super) struct Joined {
    pub(super) source: Source,
    /// Whether it begins with every part that was stored, so that it stands for them all.
    pub(super) stands_for_all: bool,
}

/// Returns the whole capture that a file with the rest of it, which was sent as `source`, makes together with one of the
/// parts before; `None` if it fits none.
///
/// A name can have parts of several captures. A rest says at most how long its first part was, so what the camera sent last
/// under the same path comes first.
///
/// # Errors
/// [`NotStored::Refused`] if the store did not answer: a part may be there.
pub(super) async fn join(
    site: &Arc<Site>,
    rest: &Source,
    source: &str,
    capture: &Capture,
    first_key: &ObjectKey,
) -> Result<Option<Joined>, NotStored> {
    let own = hex::encode(rest.sha256);
    let mut parts = earlier::known(&site.ledger(), capture, first_key).partials;
    parts.retain(|part| part.sha256 != own);
    parts.reverse();
    parts.sort_by_key(|part| part.source != source);
    for part in &parts {
        let Some(first) = find(site, part, capture).await? else { continue };
        let (state_dir, content, size) = (site.config.state_dir.clone(), rest.content.clone(), rest.size);
        let (part, parts, own) = (part.clone(), parts.clone(), own.clone());
        let precedence = rest.precedence;
        let joined = blocking(move || {
            let made = make(&state_dir, first, part.size, &content, size);
            let Some((whole, size, sha256)) = made.unwrap_or_else(|error| {
                tracing::warn!(
                    message_id = message::JOIN_FAILED,
                    "failed to join {} with its rest: {error}; both parts are in the bucket",
                    part.key
                );
                None
            }) else {
                return Ok(None);
            };
            let content = Content::File(Arc::new(whole));
            let stands_for =
                |part: &LedgerEntry| part.sha256 == own || earlier::begins_with(&content, size, part).unwrap_or(false);
            let stands_for_all = parts.iter().all(stands_for);
            let source = Source { content, size, precedence, sha256 };
            Ok(Some(Joined { source, stands_for_all }))
        });
        if let Some(joined) = joined.await? {
            return Ok(Some(joined));
        }
    }
    Ok(None)
}

/// Returns the bytes of a part: of its local copy, otherwise of its object. `None` if neither can be had.
async fn find(site: &Arc<Site>, part: &LedgerEntry, capture: &Capture) -> Result<Option<Arc<File>>, NotStored> {
    let (keep, part_of, camera) = (site.config.keep.path.clone(), part.clone(), capture.camera.clone());
    let date = capture.taken.date_naive();
    let copy = blocking(move || {
        let file = part_of.key.rsplit('/').next().unwrap_or_default();
        let copy = CopyOf { camera: &camera, date, file };
        let candidates = kept::candidates(&keep, copy, Some(&part_of.sha256));
        let is_it = |file: &Arc<File>| {
            let content = Content::File(Arc::clone(file));
            file.metadata().is_ok_and(|found| found.len() == part_of.size)
                && earlier::begins_with(&content, part_of.size, &part_of).unwrap_or(false)
        };
        Ok(candidates.into_iter().filter_map(|path| File::open(path).ok().map(Arc::new)).find(is_it))
    });
    if let Some(copy) = copy.await? {
        return Ok(Some(copy));
    }
    if site.config.s3.access == Access::WriteOnly {
        return Ok(None);
    }
    // It has no name, so a crash leaves nothing.
    let Ok(spool) = tempfile::tempfile_in(&site.config.state_dir) else { return Ok(None) };
    let Ok(again) = spool.try_clone() else { return Ok(None) };
    match site.bucket.get(&part.key, None, &mut tokio::fs::File::from_std(spool)).await {
        Ok(came) if came.size == part.size && came.sha256 == part.sha256 => Ok(Some(Arc::new(again))),
        Err(refusal) if refusal.kind() == RefusalKind::NoAnswer => Err(NotStored::Refused(refusal)),
        Ok(_) | Err(_) => Ok(None),
    }
}

/// Makes a file of the first part and the rest; `None` if they do not fit.
fn make(
    folder: &Path,
    mut first: Arc<File>,
    first_size: u64,
    rest: &Content,
    rest_size: u64,
) -> io::Result<Option<(File, u64, [u8; 32])>> {
    let mut rest = rest.readable()?;
    // A server that was told where to resume leaves a hole before the rest; one that was told to append does not.
    let from = if has_hole(&mut *rest, 0)? { first_size } else { 0 };
    // A hole that is longer was left for a longer part.
    if from > rest_size
        || from > 0 && has_hole(&mut *rest, from)?
        || from > 0 && !fits_over(&mut first, first_size, &mut *rest)?
    {
        return Ok(None);
    }
    let (mut whole, mut hash) = (tempfile::tempfile_in(folder)?, Sha256::new());
    first.seek(SeekFrom::Start(0))?;
    rest.seek(SeekFrom::Start(from))?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut size = 0;
    let parts: [&mut dyn Read; 2] = [&mut first.take(first_size), &mut rest.take(rest_size - from)];
    for part in parts {
        loop {
            let read = part.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
            whole.write_all(&buffer[..read])?;
            size += read as u64;
        }
    }
    let is_whole = size == first_size + rest_size - from && media::end_of(&mut whole)? == FileEnd::Whole;
    Ok(is_whole.then(|| (whole, size, hash.finalize().into())))
}

/// Returns whether a file has nothing but zeros at a place, for longer than captures have; not if it ends before.
fn has_hole(file: &mut dyn Readable, at: u64) -> io::Result<bool> {
    let mut bytes = [1; 12];
    file.seek(SeekFrom::Start(at))?;
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(bytes == [0; 12]),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns whether the rest has a hole where the first part goes: nothing but zeros, or zeros and then the same bytes.
fn fits_over(first: &mut dyn Readable, first_size: u64, rest: &mut dyn Readable) -> io::Result<bool> {
    first.seek(SeekFrom::Start(0))?;
    rest.seek(SeekFrom::Start(0))?;
    let (mut before, mut after) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let (mut left, mut is_in_hole) = (first_size, true);
    while left > 0 {
        let length = CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES));
        let (before, after) = (&mut before[..length], &mut after[..length]);
        first.read_exact(before)?;
        rest.read_exact(after)?;
        let begin = if is_in_hole { after.iter().position(|byte| *byte != 0) } else { Some(0) };
        if let Some(begin) = begin {
            is_in_hole = false;
            if before[begin..] != after[begin..] {
                return Ok(false);
            }
        }
        left -= length as u64;
    }
    Ok(true)
}
