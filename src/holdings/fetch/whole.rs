//! A bundle whose members no index tells: downloaded and unpacked as a whole.

use std::fs::File;
use std::io::{self, BufReader, Read};

use super::target::{self, Placed, TargetFolder, WholeFile};
use crate::bundle::{self, PackedMember, copy_hashed};
use crate::disk::RoomLimit;
use crate::holdings::day::BundleObject;
use crate::holdings::{HoldingsError, last_segment};
use crate::site::Site;

/// A member that was asked for.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// Its name in the bundle.
    pub(super) name: String,
    /// The key that it had, or would have had.
    pub(super) key: String,
    /// Its size in bytes.
    pub(super) size: u64,
    /// What became of it.
    pub(super) placed: Result<Placed, HoldingsError>,
}

/// What came out of a bundle.
#[derive(Debug)]
pub(super) struct UnpackedBundle {
    /// The members that were asked for, in the order of the bundle.
    pub(super) members: Vec<Unpacked>,
    /// Why it ended too early, if it did.
    pub(super) broken: Option<io::Error>,
    /// The folder, with the names that they have now.
    pub(super) target: TargetFolder,
}

/// Which members to unpack, and where to.
#[derive(Debug)]
pub(super) struct Unpacking {
    /// The folder that they go to.
    pub(super) target: TargetFolder,
    /// What stands before the name of a member that does not tell its key.
    pub(super) prefix: String,
    /// Names and keys of the members; empty: all.
    pub(super) files: Vec<String>,
    /// The room that they may use up: the size of a compressed bundle does not tell how much comes out of it.
    pub(super) room: RoomLimit,
}

impl Unpacking {
    fn takes(&self, file: &str, key: &str, name: &str) -> bool {
        self.files.is_empty() || self.files.iter().any(|wanted| [file, key, name].contains(&wanted.as_str()))
    }
}

/// Downloads a bundle into the folder of its members, and unpacks members there.
///
/// # Errors
/// [`HoldingsError`] if the bundle cannot be downloaded or is not what was stored; nothing is unpacked then.
pub(super) async fn unpack(
    site: &Site,
    BundleObject { object, format }: &BundleObject,
    unpacking: Unpacking,
) -> Result<UnpackedBundle, HoldingsError> {
    let failed = |error: io::Error| HoldingsError::local(format_args!("failed to unpack {}", object.key), &error);
    let download = target::begin(unpacking.target.path())?;
    let mut file = tokio::fs::File::from_std(download.reopen().map_err(failed)?);
    let got = site.bucket.get(&object.key, None, &mut file).await?;
    got.hold_against(object.size).map_err(|altered| HoldingsError::Object(altered.to_string()))?;
    drop(file);
    let format = *format;
    let task = tokio::task::spawn_blocking(move || -> io::Result<UnpackedBundle> {
        Ok(unpack_all(bundle::unpack(format, BufReader::new(File::open(download.path())?))?, unpacking))
    });
    task.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed)
}

/// Unpacks the members of a tar that were asked for, until its end or an error. Blocking.
fn unpack_all(tar: impl Read, mut unpacking: Unpacking) -> UnpackedBundle {
    let mut members = Vec::new();
    let walked = bundle::walk(tar, |found, content| {
        members.extend(unpack_one(&found, content, &mut unpacking)?);
        Ok(())
    });
    UnpackedBundle { members, broken: walked.err(), target: unpacking.target }
}

/// Writes one member, if it was asked for. An error ends the bundle; what concerns the member alone is told with it.
fn unpack_one(found: &PackedMember, content: &mut dyn Read, unpacking: &mut Unpacking) -> io::Result<Option<Unpacked>> {
    let key = found.note.as_ref().map(|note| note.key.clone());
    // Older programs packed whole folders: only the last part of a path is a capture's name.
    let file = last_segment(key.as_deref().unwrap_or(&found.name)).to_owned();
    let key = key.unwrap_or_else(|| format!("{}{file}", unpacking.prefix));
    if !unpacking.takes(&file, &key, &found.name) {
        return Ok(None);
    }
    let placed = place(found, &file, content, unpacking)?;
    Ok(Some(Unpacked { name: found.name.clone(), key, size: found.size, placed }))
}

/// Writes one member under the name `file`; the outer error ends the bundle, the inner one concerns this member alone.
fn place(
    found: &PackedMember,
    file: &str,
    content: &mut dyn Read,
    Unpacking { target, room, .. }: &mut Unpacking,
) -> io::Result<Result<Placed, HoldingsError>> {
    if !bundle::is_member_name(file) {
        return Ok(Err(HoldingsError::Object("its name cannot be that of a file".to_owned())));
    }
    let mut part = match target::begin(target.path()) {
        Ok(part) => part,
        Err(error) => return Ok(Err(error)),
    };
    let (size, sha256) = copy_hashed(content, &mut room.hold(&mut part))?;
    if size != found.size {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut off"));
    }
    if found.note.as_ref().is_some_and(|note| (note.size, &note.sha256) != (size, &sha256)) {
        let altered = "its bytes are not the ones that were bundled: the bundle was altered";
        return Ok(Err(HoldingsError::Object(altered.to_owned())));
    }
    part.as_file().sync_all()?;
    Ok(target.take(WholeFile { file: part, name: file, size, sha256: &sha256 }))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::key::ArchiveFormat;

    #[test]
    fn an_archive_that_unpacks_to_a_thousand_times_its_size_leaves_the_room_that_must_stay() {
        const MIB: u64 = 1 << 20;
        let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best()));
        for (name, size) in [("small.jpg", MIB), ("bomb.jpg", 256 * MIB), ("after.jpg", MIB)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(size);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, io::repeat(0).take(size)).unwrap();
        }
        let mut gzip = archive.into_inner().unwrap();
        gzip.flush().unwrap();
        let bytes = gzip.finish().unwrap();
        assert!(bytes.len() < 300_000, "{} bytes", bytes.len());

        // A disk of 64 MiB, of which 16 must stay.
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_owned();
        let used = move || -> u64 {
            let entries = std::fs::read_dir(&place).unwrap();
            entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
        };
        let most = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let seen = std::sync::Arc::clone(&most);
        let free = move || {
            let used = used();
            seen.fetch_max(used, std::sync::atomic::Ordering::Relaxed);
            Some((64 * MIB).saturating_sub(used))
        };
        let unpacking = Unpacking {
            target: TargetFolder::new(folder.path()),
            prefix: String::new(),
            files: Vec::new(),
            room: RoomLimit::of(free, 16 * MIB),
        };
        let unpacked = unpack_all(bundle::unpack(ArchiveFormat::TarGz, io::Cursor::new(bytes)).unwrap(), unpacking);
        assert_eq!(unpacked.members.len(), 1);
        assert_eq!(unpacked.broken.unwrap().kind(), io::ErrorKind::StorageFull);
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["small.jpg"], "what was not whole is gone");
        assert!(most.load(std::sync::atomic::Ordering::Relaxed) <= 48 * MIB);
    }
}
