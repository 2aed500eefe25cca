//! Where the bytes of a member come from: the local copy if it holds what the bucket holds, otherwise the bucket.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, FixedOffset, NaiveDate};
use md5::Md5;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::spool::spool;
use crate::bucket::{MULTIPART_FROM, Object, is_cold, part_bytes, read_through};
use crate::capture;
use crate::holdings::HoldingsError;
use crate::site::Site;
use crate::{kept, ledger};

/// The local copies of one camera-day, and what the ledger knows of it.
#[derive(Debug)]
pub(super) struct LocalCopies<'a> {
    site: &'a Site,
    camera: &'a str,
    date: NaiveDate,
    entries: HashMap<String, ledger::LedgerEntry>,
    /// The folder of downloaded members; made when the first one is downloaded.
    spool: Option<TempDir>,
    /// What was downloaded.
    pub(super) downloads: Downloads,
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

/// The digests of a file, in hexadecimal.
struct CopyDigests {
    sha256: String,
    /// The `ETag` that S3 gives to these bytes as this program sends them.
    etag: String,
}

impl<'a> LocalCopies<'a> {
    /// Returns the copies of a day; a ledger that is missing knows nothing.
    pub(super) fn of(site: &'a Site, camera: &'a str, date: NaiveDate) -> Self {
        let path = ledger::path(&site.ledger(), camera, date);
        let entries = ledger::entries(&path).into_iter().flatten().map(|entry| (entry.key.clone(), entry));
        let entries = entries.collect();
        Self { site, camera, date, entries, spool: None, downloads: Downloads::default() }
    }

    /// Returns when a capture was taken and its event, as the ledger says, otherwise as its name says.
    pub(super) fn taken_and_event(&self, key: &str) -> (Option<DateTime<FixedOffset>>, Option<String>) {
        if let Some(entry) = self.entries.get(key) {
            return (Some(entry.taken_at), entry.event.clone());
        }
        let file = key.rsplit('/').next().unwrap_or(key);
        let named = capture::read_stored(self.camera, file, &self.site.config);
        (named.taken, named.event)
    }

    /// Returns the bytes of an object: a local copy that has them, otherwise a download.
    ///
    /// # Errors
    /// [`HoldingsError::Refused`] if the bucket must give them and does not, [`HoldingsError::Object`] if it has other bytes
    /// or the object is cold, [`HoldingsError::Local`] if there is no room for them here.
    pub(super) async fn bytes(&mut self, object: &Object) -> Result<LocalBytes, HoldingsError> {
        match self.local(object).await? {
            Some(bytes) => Ok(bytes),
            None if is_cold(&object.storage_class) => {
                let class = &object.storage_class;
                Err(HoldingsError::Object(format!("it lies in class {class} and has no local copy")))
            }
            None => self.download(object).await,
        }
    }

    /// Removes what was downloaded.
    pub(super) fn clear(&mut self) {
        self.spool = None;
    }

    async fn download(&mut self, object: &Object) -> Result<LocalBytes, HoldingsError> {
        let spool = match self.spool.take() {
            Some(spool) => spool,
            None => spool(&self.site.config.state_dir)?,
        };
        let path = self.spool.insert(spool).path().join(self.downloads.objects.to_string());
        let file = tokio::fs::File::create(&path).await;
        let mut file = file.map_err(|error| HoldingsError::local("failed to make a file to download into", &error))?;
        let got = self.site.bucket.get(&object.key, None, &mut file).await?;
        got.hold_against(object.size).map_err(|altered| HoldingsError::Object(altered.to_string()))?;
        self.downloads.objects += 1;
        self.downloads.bytes += got.size;
        Ok(LocalBytes { path, sha256: got.sha256 })
    }

    async fn local(&self, object: &Object) -> Result<Option<LocalBytes>, HoldingsError> {
        let known = self.entries.get(&object.key).map(|entry| entry.sha256.as_str());
        let file = object.key.rsplit('/').next().unwrap_or(&object.key);
        let copy = kept::CopyOf { camera: self.camera, date: self.date, file };
        for path in kept::candidates(&self.site.config.keep.path, copy, known) {
            let (size, copy) = (object.size, path.clone());
            // A copy that cannot be read is as good as none: the bucket has the bytes.
            let Ok(Ok(Some(digests))) = tokio::task::spawn_blocking(move || digest(&copy, size)).await else {
                continue;
            };
            let same = digests.etag == object.etag || {
                // Encrypted by a KMS key, or put by another program in other parts.
                let head = self.site.bucket.head(&object.key).await?;
                head.is_some_and(|head| head.etag == object.etag && head.is(&digests.sha256) == Some(true))
            };
            if same {
                return Ok(Some(LocalBytes { path, sha256: digests.sha256 }));
            }
        }
        Ok(None)
    }
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
