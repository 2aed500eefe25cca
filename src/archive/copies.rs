//! Where the bytes of a member come from: the local copy if it holds what the bucket holds, otherwise the bucket.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, FixedOffset, NaiveDate};
use futures_util::future::join_all;
use md5::Md5;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::Reads;
use super::spool::{SpoolFile, spool};
use crate::bucket::{MULTIPART_FROM, Object, Refusal, RefusalKind, is_cold, part_bytes, read_through};
use crate::capture;
use crate::disk::Room;
use crate::holdings::HoldingsError;
use crate::site::Site;
use crate::{kept, ledger};

/// How many copies are looked at together: hashing one keeps a processor busy. No more, because a store that has to be asked
/// about each may have stopped to answer.
pub(super) const TOGETHER: usize = 4;

/// The local copies of one camera-day, and what the ledger knows of it.
#[derive(Debug)]
pub(super) struct LocalCopies<'a> {
    site: &'a Site,
    camera: &'a str,
    date: NaiveDate,
    /// The captures that lie loose, in the order of keys.
    loose: &'a [Object],
    /// What the ledger says of each of them.
    known: Vec<Option<Known>>,
    /// The folder of downloaded members; made when the first one is downloaded.
    spool: Option<TempDir>,
    reads: &'a mut Reads,
    /// What was downloaded.
    pub(super) downloads: Downloads,
}

/// What the ledger says of a capture, as far as it is needed here: there may be very many.
#[derive(Debug)]
struct Known {
    sha256: [u8; 32],
    taken_at: DateTime<FixedOffset>,
    /// One text for all captures with the same event.
    event: Option<Arc<str>>,
}

impl Known {
    /// Returns `None` if the entry has no SHA-256 that could be one. `events` are those of the entries before it.
    fn of(entry: &ledger::LedgerEntry, events: &mut HashSet<Arc<str>>) -> Option<Self> {
        let mut sha256 = [0; 32];
        hex::decode_to_slice(&entry.sha256, &mut sha256).ok()?;
        let event = entry.event.as_deref().map(|event| {
            let event = events.get(event).map_or_else(|| Arc::from(event), Arc::clone);
            events.insert(Arc::clone(&event));
            event
        });
        Some(Self { sha256, taken_at: entry.taken_at, event })
    }
}

/// What had to be downloaded because no local copy has it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Downloads {
    /// How many objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A file on this box that has the bytes of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalBytes {
    /// The file.
    pub(super) path: PathBuf,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub(super) sha256: String,
}

/// What is here of an object.
#[derive(Debug)]
pub(super) enum Local {
    Copy(LocalBytes),
    Absent,
    /// There may be a copy, but the store does not say whether it is one.
    Unknown(Refusal),
}

/// The digests of a file, in hexadecimal.
struct CopyDigests {
    sha256: String,
    /// The `ETag` that S3 gives to these bytes as this program sends them.
    etag: String,
}

impl<'a> LocalCopies<'a> {
    /// Returns the copies of what lies loose on a day, in the order of keys; a ledger that is missing knows nothing.
    pub(super) fn of(
        site: &'a Site,
        camera: &'a str,
        date: NaiveDate,
        loose: &'a [Object],
        reads: &'a mut Reads,
    ) -> Self {
        reads.begin_day();
        let known = std::iter::repeat_with(|| None).take(loose.len()).collect();
        let mut copies = Self { site, camera, date, loose, known, spool: None, reads, downloads: Downloads::default() };
        let path = ledger::path(&site.ledger(), camera, date);
        let mut events = HashSet::new();
        for entry in ledger::entries(&path).into_iter().flatten() {
            if let Some(at) = position(loose, &entry.key) {
                copies.known[at] = Known::of(&entry, &mut events);
            }
        }
        copies
    }

    fn known(&self, key: &str) -> Option<&Known> {
        self.known[position(self.loose, key)?].as_ref()
    }

    /// Returns when a capture was taken and its event, as the ledger says, otherwise as its name says.
    pub(super) fn taken_and_event(&self, key: &str) -> (Option<DateTime<FixedOffset>>, Option<String>) {
        if let Some(known) = self.known(key) {
            let taken = (!capture::tells_day_alone(key)).then_some(known.taken_at);
            return (taken, known.event.as_deref().map(str::to_owned));
        }
        let file = key.rsplit('/').next().unwrap_or(key);
        let named = capture::read_stored(self.camera, file, &self.site.config);
        (named.taken, named.event)
    }

    /// Returns the bytes of an object: the local copy that was found, otherwise a download.
    ///
    /// # Errors
    /// [`HoldingsError::Refused`] if the store gives no object now, [`HoldingsError::Object`] if it does not give this one,
    /// has other bytes for it, or there is no room for it here, [`HoldingsError::Local`] if this box cannot write it.
    pub(super) async fn bytes(&mut self, object: &Object, found: Local) -> Result<LocalBytes, HoldingsError> {
        let class = &object.storage_class;
        match found {
            Local::Copy(bytes) => Ok(bytes),
            Local::Absent if is_cold(class) => {
                Err(HoldingsError::Object(format!("it lies in class {class} and has no local copy")))
            }
            Local::Unknown(refusal) if is_cold(class) => Err(HoldingsError::Object(format!(
                "it lies in class {class}, and whether the file here is a copy of it is not known: {refusal}"
            ))),
            // If the store does not give the object either, its answer says more.
            Local::Absent | Local::Unknown(_) => self.download(object).await,
        }
    }

    /// Removes what was downloaded.
    pub(super) fn clear(&mut self) {
        self.spool = None;
    }

    async fn download(&mut self, object: &Object) -> Result<LocalBytes, HoldingsError> {
        if let Some(stopped) = self.reads.stopped() {
            return Err(HoldingsError::Object(stopped));
        }
        let (state_dir, min_free) = (&self.site.config.state_dir, self.site.config.keep.min_free);
        if let Some(lack) = Room::at(state_dir).and_then(|room| lack_of_room(room, object.size, min_free)) {
            return Err(HoldingsError::Object(format!("{lack} in {}", state_dir.display())));
        }
        let spool = match self.spool.take() {
            Some(spool) => spool,
            None => spool(&self.site.config.state_dir)?,
        };
        let path = self.spool.insert(spool).path().join(self.downloads.objects.to_string());
        let mut file = SpoolFile::create(&path).await?;
        let got = match self.site.bucket.get(&object.key, None, &mut file).await {
            Ok(got) => got,
            Err(refusal) => {
                return Err(match file.give_up().await {
                    Some(error) => error,
                    None => self.judge(object, refusal).await,
                });
            }
        };
        self.reads.came();
        got.hold_against(object.size).map_err(|altered| HoldingsError::Object(altered.to_string()))?;
        self.downloads.objects += 1;
        self.downloads.bytes += got.size;
        Ok(LocalBytes { path, sha256: got.sha256 })
    }

    /// Returns what it means that the store did not give an object: for this object alone, or for all of them.
    async fn judge(&mut self, object: &Object, refusal: Refusal) -> HoldingsError {
        let of_all = match refusal.kind() {
            RefusalKind::NoSuchKey => return refusal.into(),
            // If the line is dead, it is so for a HEAD as well.
            RefusalKind::NoAnswer => self.site.bucket.head(&object.key).await.is_err(),
            RefusalKind::Cold | RefusalKind::Refused => refusal.is_of_the_store(),
        };
        if of_all {
            return refusal.into();
        }
        self.reads.refused(&refusal);
        HoldingsError::Object(refusal.to_string())
    }

    /// Returns what is here of [`TOGETHER`] objects, in their order.
    pub(super) async fn look_at_all(&self, objects: impl Iterator<Item = &Object>) -> Vec<Local> {
        join_all(objects.map(|object| self.look_at(object))).await
    }

    /// Returns what is here of an object.
    pub(super) async fn look_at(&self, object: &Object) -> Local {
        let mut found = Local::Absent;
        let known = self.known(&object.key).map(|known| hex::encode(known.sha256));
        let file = object.key.rsplit('/').next().unwrap_or(&object.key);
        let copy = kept::CopyOf { camera: self.camera, date: self.date, file };
        for path in kept::candidates(&self.site.config.keep.path, copy, known.as_deref()) {
            let (size, copy) = (object.size, path.clone());
            // A copy that cannot be read is as good as none: the bucket has the bytes.
            let Ok(Ok(Some(digests))) = tokio::task::spawn_blocking(move || digest(&copy, size)).await else {
                continue;
            };
            // Otherwise encrypted by a KMS key, or put by another program in other parts.
            let same = digests.etag == object.etag
                || match self.site.bucket.head(&object.key).await {
                    Ok(head) => head.is_some_and(|head| {
                        head.etag == object.etag && head.has(&digests.sha256, &digests.etag) == Some(true)
                    }),
                    Err(refusal) => {
                        found = Local::Unknown(refusal);
                        false
                    }
                };
            if same {
                return Local::Copy(LocalBytes { path, sha256: digests.sha256 });
            }
        }
        found
    }
}

/// Returns the number of the object with this key in `loose`, which is in the order of keys.
pub(super) fn position(loose: &[Object], key: &str) -> Option<usize> {
    loose.binary_search_by(|object| object.key.as_str().cmp(key)).ok()
}

/// Returns why `size` bytes cannot be downloaded, if they would leave less than `min_free`: the FTP server needs that room.
fn lack_of_room(room: Room, size: u64, min_free: u64) -> Option<String> {
    let lack = size.saturating_add(min_free) > room.free;
    lack.then(|| {
        format!(
            "it has no local copy and cannot be downloaded: it has {} MiB, keep.min_free is {} MiB, and {} MiB are free",
            size >> 20,
            min_free >> 20,
            room.free >> 20
        )
    })
}

/// Reads a regular file of `size` bytes through; returns `None` if there is anything else.
fn digest(path: &Path, size: u64) -> io::Result<Option<CopyDigests>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() != size {
        return Ok(None);
    }
    let mut sha256 = Sha256::new();
    let step = if size < MULTIPART_FROM { size.max(1) } else { part_bytes(size) };
    let (mut at, mut parts, mut of_parts) = (0, 0, Md5::new());
    let mut last = Md5::new().finalize();
    while at < size {
        let mut part = Md5::new();
        let length = step.min(size - at);
        read_through(&file, at, length, |chunk| {
            sha256.update(chunk);
            part.update(chunk);
        })?;
        last = part.finalize();
        of_parts.update(last);
        (at, parts) = (at + length, parts + 1);
    }
    let etag =
        if size < MULTIPART_FROM { hex::encode(last) } else { format!("{}-{parts}", hex::encode(of_parts.finalize())) };
    Ok(Some(CopyDigests { sha256: hex::encode(sha256.finalize()), etag }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_leaves_the_room_that_is_to_stay_free() {
        let room = Room { free: 3 << 30, size: 1 << 40, free_inodes: 9, inodes: 9 };
        for (size, min_free, fits) in [
            (1 << 30, 2 << 30, true),
            ((1 << 30) + 1, 2 << 30, false),
            (3 << 30, 0, true),
            (4 << 30, 0, false),
            (1, u64::MAX, false),
        ] {
            assert_eq!(lack_of_room(room, size, min_free).is_none(), fits, "{size} {min_free}");
        }
    }

    #[test]
    fn the_etag_of_a_file_is_the_one_that_s3_gives_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "hello").unwrap();
        assert_eq!(digest(&path, 5).unwrap().unwrap().etag, "5d41402abc4b2a76b9719d911017c592");
        assert!(digest(&path, 4).unwrap().is_none());
        std::fs::write(&path, "").unwrap();
        assert_eq!(digest(&path, 0).unwrap().unwrap().etag, "d41d8cd98f00b204e9800998ecf8427e");
        let clip = vec![7; 17 << 20];
        std::fs::write(&path, &clip).unwrap();
        let parts: Vec<u8> = clip.chunks(8 << 20).flat_map(|part| Md5::digest(part).to_vec()).collect();
        let expected = format!("{}-3", hex::encode(Md5::digest(&parts)));
        assert_eq!(digest(&path, 17 << 20).unwrap().unwrap().etag, expected);
        assert!(digest(folder.path(), 4096).unwrap().is_none());
    }
}
