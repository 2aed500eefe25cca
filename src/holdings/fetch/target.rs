//! A folder that captures are downloaded into: no file in it is ever replaced, and a file that is there already stays.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use md5::Md5;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::bucket::read_through;
use crate::holdings::HoldingsError;
use crate::key::{self, ObjectKey, Variant};

/// Longest file name on the file systems of Linux, in bytes; in the bucket a name may be longer.
const NAME_MAX: usize = 255;

/// The folder, and the names in it that captures of this download have.
#[derive(Debug, Clone)]
pub(super) struct TargetFolder {
    folder: PathBuf,
    given: HashSet<PathBuf>,
}

/// What became of a capture that was to get a name in the folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It was given its name.
    New(PathBuf),
    /// A file with its bytes was there.
    Already(PathBuf),
}

/// The digests of a file, in hexadecimal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileDigests {
    pub(super) sha256: String,
    pub(super) md5: String,
}

impl TargetFolder {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), given: HashSet::new() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// Returns the path for a capture of this name. If another capture of this download has the name, it is the one beside
    /// it that carries the SHA-256, provided that is known.
    pub(super) fn path_for(&mut self, name: &str, sha256: Option<&str>) -> PathBuf {
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

    /// Gives a file that is whole its name, which it shares with no file that has other bytes. Blocking.
    ///
    /// # Errors
    /// [`HoldingsError::Object`] if another file has the name, [`HoldingsError::Local`] if the folder cannot be written.
    pub(super) fn take(&mut self, file: WholeFile<'_>) -> Result<Placed, HoldingsError> {
        let WholeFile { file, name, size, sha256 } = file;
        let is_same = |path: &Path| digest(path, size).is_ok_and(|found| found.is_some_and(|d| d.sha256 == sha256));
        let mut target = self.folder.join(key::bounded(name, NAME_MAX));
        if self.given.contains(&target) && !is_same(&target) {
            target = self.beside(name, sha256);
        }
        self.given.insert(target.clone());
        if is_same(&target) {
            return Ok(Placed::Already(target));
        }
        keep(file, &target)?;
        Ok(Placed::New(target))
    }
}

/// A downloaded file that has no name yet.
#[derive(Debug)]
pub(super) struct WholeFile<'a> {
    pub(super) file: NamedTempFile,
    /// The name that it should have.
    pub(super) name: &'a str,
    /// Its size in bytes.
    pub(super) size: u64,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub(super) sha256: &'a str,
}

/// Makes a file to write into until it is whole, in the folder where it will stay.
///
/// # Errors
/// [`HoldingsError::Local`] if the folder cannot be written.
pub(super) fn begin(folder: &Path) -> Result<NamedTempFile, HoldingsError> {
    // As any file that a program makes: the umask decides who may read it.
    let mode = PermissionsExt::from_mode(0o666);
    let file = tempfile::Builder::new().permissions(mode).tempfile_in(folder);
    file.map_err(|error| HoldingsError::local(format_args!("failed to write in {}", folder.display()), &error))
}

/// Gives a file its name, unless another file has it.
///
/// # Errors
/// As [`TargetFolder::take`].
pub(super) fn keep(file: NamedTempFile, target: &Path) -> Result<(), HoldingsError> {
    match file.persist_noclobber(target) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(in_the_way(target)),
        Err(error) => Err(HoldingsError::local(format_args!("failed to write {}", target.display()), &error.error)),
    }
}

/// Returns the error that a file is in the way.
pub(super) fn in_the_way(target: &Path) -> HoldingsError {
    HoldingsError::Object(format!("{} exists already; remove it or choose another folder", target.display()))
}

/// Reads a regular file of `size` bytes through; returns `None` if there is anything else. Blocking.
///
/// # Errors
/// `io::Error` if the file cannot be read.
pub(super) fn digest(path: &Path, size: u64) -> io::Result<Option<FileDigests>> {
    // Anything but a file is not even opened: a fifo would wait for its writer.
    let metadata = path.symlink_metadata()?;
    if !metadata.is_file() || metadata.len() != size {
        return Ok(None);
    }
    let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
    read_through(&File::open(path)?, 0, size, |chunk| {
        sha256.update(chunk);
        md5.update(chunk);
    })?;
    Ok(Some(FileDigests { sha256: hex::encode(sha256.finalize()), md5: hex::encode(md5.finalize()) }))
}
