//! A folder that captures are downloaded into: nothing in it is ever replaced, and what is there already stays.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use md5::Md5;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::bucket::read_through;
use crate::key::{self, ObjectKey, Variant};

/// Longest file name on the file systems of Linux, in bytes; in the bucket a name may be longer.
const NAME_MAX: usize = 255;

/// The folder, and the names in it that belong to captures of this run.
#[derive(Debug, Clone)]
pub(super) struct Place {
    folder: PathBuf,
    given: HashSet<PathBuf>,
}

/// What became of a capture that was to get a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It was given its name.
    New(PathBuf),
    /// A file with its bytes was there.
    Already(PathBuf),
}

/// The digests of a file, in hexadecimal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) sha256: String,
    pub(super) md5: String,
}

impl Place {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), given: HashSet::new() }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path for a capture of this name; beside it, by its SHA-256 if that is known, where another capture of this run
    /// has it.
    pub(super) fn path(&mut self, name: &str, sha256: Option<&str>) -> PathBuf {
        let own = self.folder.join(key::bounded(name, NAME_MAX));
        if !self.given.contains(&own) {
            self.given.insert(own.clone());
            return own;
        }
        sha256.map_or(own, |sha256| self.beside(name, sha256))
    }

    fn beside(&self, name: &str, sha256: &str) -> PathBuf {
        let hash = sha256.get(..8).unwrap_or(sha256);
        let variant = ObjectKey::verbatim(name.to_owned()).variant(Variant::Whole, hash);
        self.folder.join(key::bounded(variant.as_str(), NAME_MAX))
    }

    /// Gives a file that is whole a name, which it shares with none that has other bytes. Blocking.
    pub(super) fn take(&mut self, part: NamedTempFile, name: &str, size: u64, sha256: &str) -> anyhow::Result<Placed> {
        let is_same = |path: &Path| digest(path, size).is_ok_and(|found| found.is_some_and(|d| d.sha256 == sha256));
        let mut target = self.folder.join(key::bounded(name, NAME_MAX));
        if self.given.contains(&target) && !is_same(&target) {
            target = self.beside(name, sha256);
        }
        self.given.insert(target.clone());
        if is_same(&target) {
            return Ok(Placed::Already(target));
        }
        keep(part, &target)?;
        Ok(Placed::New(target))
    }
}

/// A file to write into until it is whole, in the folder where it will stay.
pub(super) fn begin(folder: &Path) -> anyhow::Result<NamedTempFile> {
    // As any file that a program makes: the umask decides who may read it.
    let mode = PermissionsExt::from_mode(0o666);
    let part = tempfile::Builder::new().permissions(mode).tempfile_in(folder);
    part.with_context(|| format!("failed to write in {}", folder.display()))
}

/// Gives a file its name, if no other has that.
pub(super) fn keep(part: NamedTempFile, target: &Path) -> anyhow::Result<()> {
    match part.persist_noclobber(target) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => refuse(target),
        Err(error) => Err(error.error).with_context(|| format!("failed to write {}", target.display())),
    }
}

/// Says that a file is in the way.
pub(super) fn refuse(target: &Path) -> anyhow::Result<()> {
    bail!("{} exists already; remove it or choose another folder", target.display())
}

/// Reads a regular file of `size` bytes through; `None` where it is not one. Blocking.
pub(super) fn digest(path: &Path, size: u64) -> io::Result<Option<Digests>> {
    // Not even opened where it is no file: a fifo would wait for its writer.
    let metadata = path.symlink_metadata()?;
    if !metadata.is_file() || metadata.len() != size {
        return Ok(None);
    }
    let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
    read_through(&File::open(path)?, 0, size, |chunk| {
        sha256.update(chunk);
        md5.update(chunk);
    })?;
    Ok(Some(Digests { sha256: hex::encode(sha256.finalize()), md5: hex::encode(md5.finalize()) }))
}
