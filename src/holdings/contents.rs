//! What is in a bundle, as its index tells it, and one member of it.

use std::fs::File;
use std::io::{self, Read};

use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::day::{BundleObject, DayArchive};
use super::loose::PartAt;
use super::{AT_ONCE, HoldingsError, IndexError};
use crate::bundle::{Index, Member, copy_hashed, unpack};
use crate::key::ArchiveFormat;
use crate::site::Site;

/// A bundle with what is known of its members.
#[derive(Debug)]
pub struct OpenedBundle {
    /// The bundle.
    pub bundle: BundleObject,
    /// What is known of its members.
    pub contents: Contents,
}

/// What is known of the members of a bundle.
#[derive(Debug)]
pub enum Contents {
    /// The index tells them.
    Indexed(Index),
    /// There is no index: an older program wrote none, or somebody removed it.
    NoIndex,
    /// The index cannot be used.
    Unread(IndexError),
}

/// Returns the bundles of a day, each with its index, in the order of their numbers.
pub async fn open_bundles(site: &Site, archive: DayArchive) -> Vec<OpenedBundle> {
    let bundles = archive.parts.into_iter().flat_map(|(at, archived)| {
        let has_index = archived.index.is_some();
        archived.bundles.into_iter().map(move |bundle| (at.clone(), bundle, has_index))
    });
    let opened = futures_util::stream::iter(bundles).map(|(at, bundle, has_index)| async move {
        let contents = if has_index { contents(site, &at, &bundle).await } else { Contents::NoIndex };
        OpenedBundle { bundle, contents }
    });
    opened.buffered(AT_ONCE).collect().await
}

async fn contents(site: &Site, at: &PartAt, BundleObject { object, format }: &BundleObject) -> Contents {
    match load_index(site, at).await {
        // It describes the bundle of this name in another format; another program made this one.
        Ok(index) if index.bundle.format != *format => Contents::NoIndex,
        Ok(mut index) => {
            // If a bucket was copied below another prefix, the bundle moved together with its index.
            index.bundle.key.clone_from(&object.key);
            Contents::Indexed(index)
        }
        Err(error) => Contents::Unread(error),
    }
}

/// Reads the index of a part, and holds it against the checksum that the bucket has and against itself.
///
/// # Errors
/// [`IndexError::Refused`] if the bucket does not give it, [`IndexError::Damaged`] if it is of no use.
pub async fn load_index(site: &Site, at: &PartAt) -> Result<Index, IndexError> {
    let key = at.index_key();
    let mut text = Vec::new();
    let got = site.bucket.get(&key, None, &mut text).await?;
    if got.expected.iter().any(|expected| *expected != got.sha256) {
        let why = "its bytes are not the ones that were stored".to_owned();
        return Err(IndexError::Damaged { key, why });
    }
    Index::parse(&text, &at.part).map_err(|why| IndexError::Damaged { key, why })
}

/// Downloads one member of a bundle, and only its bytes, into `file`, and makes sure that they are its own.
///
/// # Errors
/// [`HoldingsError::Refused`] if the bundle cannot be read, [`HoldingsError::Object`] if it holds other bytes,
/// [`HoldingsError::Local`] if they cannot be written. What `file` has got is worthless then.
pub async fn fetch_member(site: &Site, index: &Index, member: &Member, file: File) -> Result<(), HoldingsError> {
    let end = member
        .offset
        .checked_add(member.length)
        .ok_or_else(|| HoldingsError::Object(format!("{} lies beyond the end of {}", member.name, index.bundle.key)))?;
    let range = member.offset..end;
    let key = &index.bundle.key;
    let failed = |error: io::Error| HoldingsError::local("failed to write a download", &error);
    let (size, sha256) = if range.is_empty() {
        (0, hex::encode(Sha256::digest(b"")))
    } else if index.bundle.format == ArchiveFormat::Tar {
        let mut file = tokio::fs::File::from_std(file);
        let got = site.bucket.get(key, Some(range), &mut file).await?;
        file.flush().await.map_err(failed)?;
        (got.size, got.sha256)
    } else {
        let frame =
            tempfile::tempfile().map_err(|error| HoldingsError::local("failed to make a temporary file", &error))?;
        let mut into = tokio::fs::File::from_std(frame.try_clone().map_err(failed)?);
        site.bucket.get(key, Some(range), &mut into).await?;
        into.flush().await.map_err(failed)?;
        let (format, most) = (index.bundle.format, member.note.size.saturating_add(1));
        let inflated = tokio::task::spawn_blocking(move || inflate(format, frame, file, most)).await;
        inflated
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|error| HoldingsError::Object(format!("failed to unpack: {error}")))?
    };
    if (size, &sha256) != (member.note.size, &member.note.sha256) {
        return Err(HoldingsError::Object(format!(
            "the bytes of {} in {key} are not the ones that were bundled: the bundle was altered",
            member.name
        )));
    }
    Ok(())
}

/// Unpacks one frame, and no more than `most` bytes: a bundle that was altered must not fill the disk.
fn inflate(format: ArchiveFormat, mut frame: File, mut file: File, most: u64) -> io::Result<(u64, String)> {
    io::Seek::rewind(&mut frame)?;
    copy_hashed(&mut unpack(format, frame)?.take(most), &mut file)
}
