//! Where the bytes of a member come from: the local copy, if it holds what the bucket holds; else the bucket.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chrono::{DateTime, FixedOffset, NaiveDate};
use md5::Md5;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::bucket::{MULTIPART_FROM, Object, part_bytes, read_through};
use crate::capture;
use crate::site::Site;
use crate::{kept, ledger};

/// The copies of one camera-day, and what the ledger knows of it.
#[derive(Debug)]
pub(super) struct Copies<'a> {
    site: &'a Site,
    camera: &'a str,
    date: NaiveDate,
    entries: HashMap<String, ledger::LedgerEntry>,
    /// Where fetched members lie; made when the first one is.
    spool: Option<TempDir>,
    /// What was fetched.
    pub(super) fetched: Fetched,
}

/// What had to be downloaded for want of a local copy.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The bytes of an object, here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bytes {
    /// The file.
    pub(super) path: PathBuf,
    /// Of its bytes, in hexadecimal.
    pub(super) sha256: String,
}

/// The digests of a file.
struct Digests {
    sha256: String,
    /// The `ETag` that S3 gives to these bytes as we send them.
    etag: String,
}

impl<'a> Copies<'a> {
    /// The copies of a day; a ledger that is not there knows nothing.
    pub(super) fn of(site: &'a Site, camera: &'a str, date: NaiveDate) -> Self {
        let path = ledger::path(&site.ledger(), camera, date);
        let entries = ledger::entries(&path).into_iter().flatten().map(|entry| (entry.key.clone(), entry));
        let entries = entries.collect();
        Self { site, camera, date, entries, spool: None, fetched: Fetched::default() }
    }

    /// When a capture was taken and what of, by the ledger, else by its name.
    pub(super) fn told(&self, key: &str) -> (Option<DateTime<FixedOffset>>, Option<String>) {
        if let Some(entry) = self.entries.get(key) {
            return (Some(entry.taken_at), entry.event.clone());
        }
        let file = key.rsplit('/').next().unwrap_or(key);
        let named = capture::read_stored(self.camera, file, &self.site.config);
        (named.taken, named.event)
    }

    /// The bytes of an object: those of a local copy that has them, else those that the bucket gives.
    ///
    /// # Errors
    /// Where the bucket must give them and does not, or they find no place here.
    pub(super) async fn bytes(&mut self, object: &Object) -> anyhow::Result<Bytes> {
        if let Some(bytes) = self.local(object).await? {
            return Ok(bytes);
        }
        if crate::bucket::is_cold(&object.storage_class) {
            bail!("it lies in class {} and has no local copy", object.storage_class);
        }
        if self.spool.is_none() {
            self.spool = Some(spool(&self.site.config.state_dir)?);
        }
        let spool = self.spool.as_ref().context("no folder to download into")?;
        let path = spool.path().join(self.fetched.objects.to_string());
        let mut file = tokio::fs::File::create(&path).await.context("failed to make a file to download into")?;
        let got = self.site.bucket.get(&object.key, None, &mut file).await?;
        got.hold_against(object.size)?;
        self.fetched.objects += 1;
        self.fetched.bytes += got.size;
        Ok(Bytes { path, sha256: got.sha256 })
    }

    /// Lets go of what was fetched.
    pub(super) fn clear(&mut self) {
        self.spool = None;
    }

    async fn local(&self, object: &Object) -> anyhow::Result<Option<Bytes>> {
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
                // Encrypted by a KMS key, or put by another hand in other parts.
                let head = self.site.bucket.head(&object.key).await?;
                head.is_some_and(|head| head.etag == object.etag && head.is(&digests.sha256) == Some(true))
            };
            if same {
                return Ok(Some(Bytes { path, sha256: digests.sha256 }));
            }
        }
        Ok(None)
    }
}

/// What the name of a folder of fetched members begins with.
const SPOOL: &str = "spool-";

/// Makes a folder for what is downloaded, which goes with the value.
///
/// # Errors
/// Where it cannot be made.
pub fn spool(state_dir: &Path) -> anyhow::Result<TempDir> {
    std::fs::create_dir_all(state_dir).with_context(|| format!("failed to create {}", state_dir.display()))?;
    let made = tempfile::Builder::new().prefix(SPOOL).tempdir_in(state_dir);
    made.with_context(|| format!("failed to make a folder in {}", state_dir.display()))
}

/// Removes what runs that were killed had fetched.
pub fn clear_spools(state_dir: &Path) {
    for entry in std::fs::read_dir(state_dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(SPOOL) {
            // Not reachable by any capture's name; a folder that stays costs room and is tried again.
            let _next_time = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Reads a regular file of `size` bytes through; `None` where it is not one.
fn digest(path: &Path, size: u64) -> io::Result<Option<Digests>> {
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
    Ok(Some(Digests { sha256: hex::encode(sha256.finalize()), etag }))
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
