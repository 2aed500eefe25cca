//! A bundle read back: one member alone, all of them, or the index that is lost.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::NOTE;
use super::index::{Index, Note};
use super::write::{Input, lay_out};
use crate::bucket::Reader;
use crate::disk::RoomLimit;
use crate::key::{ArchiveFormat, BundleId};

/// Returns whether a name can be a member: a path that stays below the folder that it is unpacked in.
pub fn is_member_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('\0') && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Returns a reader of the tar in a bundle, or in one of its frames.
///
/// # Errors
/// `io::Error` if the decompressor cannot be made.
pub fn unpack(format: ArchiveFormat, bytes: impl Read + Send + Sync + 'static) -> io::Result<Reader> {
    Ok(match format {
        ArchiveFormat::Tar => Box::new(bytes),
        ArchiveFormat::TarGz => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        ArchiveFormat::TarZst => Box::new(zstd::stream::read::Decoder::new(bytes)?),
    })
}

/// A member, as the bundle itself describes it.
#[derive(Debug)]
pub struct PackedMember {
    /// Its name.
    pub name: String,
    /// What its own header says of it; older scripts wrote no such header.
    pub note: Option<Note>,
    /// Its size in bytes.
    pub size: u64,
    /// Its modification time, in seconds since 1970.
    pub mtime: u64,
}

/// Calls `see` with every regular file of a tar and its content, in order.
///
/// # Errors
/// `io::Error` if the bytes are no tar or end too early, or if `see` fails.
pub fn walk(tar: impl Read, mut see: impl FnMut(PackedMember, &mut dyn Read) -> io::Result<()>) -> io::Result<()> {
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let mut note = None;
        for extension in entry.pax_extensions()?.into_iter().flatten() {
            let extension = extension?;
            if extension.key_bytes() == NOTE.as_bytes() {
                note = serde_json::from_slice(extension.value_bytes()).ok();
            }
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (size, mtime) = (entry.size(), entry.header().mtime()?);
        see(PackedMember { name, note, size, mtime }, &mut entry)?;
    }
    Ok(())
}

/// Copies everything; returns the number of bytes and their SHA-256 in hexadecimal.
///
/// # Errors
/// `io::Error` if reading or writing fails.
pub fn copy_hashed(from: &mut dyn Read, into: &mut dyn Write) -> io::Result<(u64, String)> {
    let (mut size, mut hash, mut buffer) = (0, Sha256::new(), vec![0; 64 * 1024]);
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, hex::encode(hash.finalize())));
        }
        hash.update(&buffer[..read]);
        into.write_all(&buffer[..read])?;
        size += read as u64;
    }
}

/// A bundle that lies downloaded in a file.
#[derive(Debug, Clone)]
pub struct BundleFile {
    /// Camera, date and number.
    pub part: BundleId,
    /// Its key in the bucket.
    pub key: String,
    /// Its format.
    pub format: ArchiveFormat,
    /// The file with its bytes.
    pub path: PathBuf,
}

/// Makes the index of a bundle again; the members are unpacked into `folder`, which must be empty, within `room`.
///
/// The same members always give the same bundle: if these do, the index is right.
///
/// # Errors
/// `io::Error` if the bundle is not whole, if its members do not carry what an index says, or if the disk fails or has no
/// room.
pub fn rebuild_index(bundle: &BundleFile, folder: &Path, room: &RoomLimit) -> io::Result<Index> {
    let mut inputs = Vec::new();
    let file = io::BufReader::new(File::open(&bundle.path)?);
    walk(unpack(bundle.format, file)?, |found, content| {
        let path = folder.join(inputs.len().to_string());
        let (size, sha256) = copy_hashed(content, &mut room.hold(File::create(&path)?))?;
        let Some(note) = found.note else {
            return Err(io::Error::other(format!("{} carries nothing of what an index says", found.name)));
        };
        if (size, &sha256) != (note.size, &note.sha256) {
            return Err(io::Error::other(format!("{} is not what was bundled", found.name)));
        }
        inputs.push(Input { name: found.name, note, path });
        Ok(())
    })?;
    let index = lay_out(&bundle.part, &bundle.key, &inputs.into(), bundle.format)?;
    let (size, sha256) = copy_hashed(&mut File::open(&bundle.path)?, &mut io::sink())?;
    if (size, &sha256) != (index.bundle.size, &index.bundle.sha256) {
        return Err(io::Error::other("its members give another bundle than it is"));
    }
    Ok(index)
}
