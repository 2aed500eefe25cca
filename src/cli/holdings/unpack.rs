//! A bundle of which no index tells what is in it: downloaded and unpacked whole.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};

use anyhow::Context as _;
use sha2::{Digest, Sha256};

use super::last_segment;
use super::place::{self, Place, Placed};
use crate::archive::bundle::{self, Found};
use crate::bucket::Object;
use crate::key::ArchiveFormat;
use crate::site::Site;

/// A member that was asked for.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// Its name in the bundle.
    pub(super) name: String,
    /// The key that it had, or would have had.
    pub(super) key: String,
    /// Bytes.
    pub(super) size: u64,
    /// What became of it.
    pub(super) placed: anyhow::Result<Placed>,
}

/// What came out of a bundle.
#[derive(Debug)]
pub(super) struct Whole {
    /// In the order of the bundle.
    pub(super) members: Vec<Unpacked>,
    /// Where it ended too early: why.
    pub(super) broken: Option<io::Error>,
    /// The folder, with their names.
    pub(super) place: Place,
}

/// Downloads a bundle beside the place of its members, and unpacks those that are `wanted` by name or key.
///
/// `prefix` stands before the names of members that do not tell their key.
pub(super) async fn unpack(
    site: &Site,
    object: &Object,
    format: ArchiveFormat,
    place: Place,
    prefix: String,
    wanted: Vec<String>,
) -> anyhow::Result<Whole> {
    let spool = place::begin(place.folder())?;
    let mut file = tokio::fs::File::from_std(spool.reopen()?);
    site.bucket.get(&object.key, None, &mut file).await?.hold_against(object.size)?;
    drop(file);
    let unpacking = tokio::task::spawn_blocking(move || -> io::Result<Whole> {
        let tar = bundle::unpack(format, BufReader::new(File::open(spool.path())?))?;
        let mut whole = Whole { members: Vec::new(), broken: None, place };
        let walked = bundle::walk(tar, |found, content| {
            let key = found.note.as_ref().map(|note| note.key.clone());
            // The scripts that came before packed whole folders: only the last part of a path is a capture's name.
            let file = last_segment(key.as_deref().unwrap_or(&found.name)).to_owned();
            let key = key.unwrap_or_else(|| format!("{prefix}{file}"));
            let is_wanted = |name: &String| *name == file || *name == key || *name == found.name;
            if wanted.is_empty() || wanted.iter().any(is_wanted) {
                let (name, size) = (found.name.clone(), found.size);
                let placed = unpack_one(&found, &file, content, &mut whole.place)?;
                whole.members.push(Unpacked { name, key, size, placed });
            }
            Ok(())
        });
        whole.broken = walked.err();
        Ok(whole)
    });
    unpacking.await.context("unpacking panicked")?.with_context(|| format!("failed to unpack {}", object.key))
}

/// Writes one member; the outer error ends the bundle, the inner one is of that member alone.
fn unpack_one(
    found: &Found,
    file: &str,
    content: &mut dyn Read,
    place: &mut Place,
) -> io::Result<anyhow::Result<Placed>> {
    if !bundle::is_member_name(file) {
        return Ok(Err(anyhow::anyhow!("its name cannot be that of a file")));
    }
    let mut part = match place::begin(place.folder()) {
        Ok(part) => part,
        Err(error) => return Ok(Err(error)),
    };
    let (mut size, mut hash, mut buffer) = (0, Sha256::new(), vec![0; 64 * 1024]);
    loop {
        let read = content.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        part.write_all(&buffer[..read])?;
        size += read as u64;
    }
    if size != found.size {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut off"));
    }
    let sha256 = hex::encode(hash.finalize());
    if found.note.as_ref().is_some_and(|note| (note.size, &note.sha256) != (size, &sha256)) {
        return Ok(Err(anyhow::anyhow!("its bytes are not the ones that were bundled: the bundle was altered")));
    }
    part.as_file().sync_all()?;
    Ok(place.take(part, file, size, &sha256))
}
