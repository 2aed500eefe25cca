//! What lies in a camera's archive, and one capture out of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context as _, bail};
use chrono::NaiveDate;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::bundle::{self, Input};
use super::index::{Index, Member};
use crate::bucket::Object;
use crate::key::ArchiveFormat;
use crate::key::{ArchiveObject, Archived, BundleId};
use crate::site::Site;

/// The archive of one camera-day.
#[derive(Debug, Clone, Default)]
pub struct Shelf {
    /// By number.
    pub parts: BTreeMap<BundleId, Held>,
}

/// What there is of one part.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// The bundle. An index without one counts for nothing yet.
    pub bundle: Option<(Object, ArchiveFormat)>,
    /// The index; the scripts that came before wrote none.
    pub index: Option<Object>,
}

impl Shelf {
    /// The highest number that is taken; 0 where none is.
    pub fn last_part(&self) -> u32 {
        self.parts.keys().map(|part| part.part).max().unwrap_or(0)
    }

    /// Puts an object of the archive in its place.
    pub fn insert(&mut self, Archived { part, what }: Archived, object: Object) {
        let held = self.parts.entry(part).or_default();
        match what {
            ArchiveObject::Bundle(format) => held.bundle = Some((object, format)),
            ArchiveObject::Index => held.index = Some(object),
        }
    }
}

/// The archive of one camera-day.
///
/// # Errors
/// Where it cannot be listed.
pub async fn shelf(site: &Site, camera: &str, date: NaiveDate) -> anyhow::Result<Shelf> {
    let prefix = format!("{}{date}.", site.layout.archive_prefix(camera));
    Ok(list(site, &prefix).await?.remove(&date).unwrap_or_default())
}

/// The archive of a camera, day by day.
///
/// # Errors
/// Where it cannot be listed.
pub async fn shelves(site: &Site, camera: &str) -> anyhow::Result<BTreeMap<NaiveDate, Shelf>> {
    list(site, &site.layout.archive_prefix(camera)).await
}

async fn list(site: &Site, prefix: &str) -> anyhow::Result<BTreeMap<NaiveDate, Shelf>> {
    let (mut shelves, mut from) = (BTreeMap::<NaiveDate, Shelf>::new(), None);
    loop {
        let page = site.bucket.list(prefix, false, from).await.with_context(|| site.bucket.describe())?;
        for object in page.objects {
            if let Some(archived) = site.layout.parse_archive(&object.key) {
                shelves.entry(archived.part.date).or_default().insert(archived, object);
            }
        }
        from = page.next;
        if from.is_none() {
            return Ok(shelves);
        }
    }
}

/// Reads the index of a part.
///
/// # Errors
/// Where it is not there, cannot be read, or is damaged.
pub async fn load_index(site: &Site, part: &BundleId) -> anyhow::Result<Index> {
    let key = site.layout.archive_key(part, ArchiveObject::Index);
    let mut text = Vec::new();
    let got = site.bucket.get(&key, None, &mut text).await?;
    if got.expected.iter().any(|expected| *expected != got.sha256) {
        bail!("index {key} is damaged: its bytes are not the ones that were stored");
    }
    Index::parse(&text, part).map_err(|why| anyhow::anyhow!("index {key} is damaged: {why}"))
}

/// Downloads one member, and only its bytes, into `file`, and makes sure that they are its own.
///
/// # Errors
/// Where the bundle cannot be read, or holds other bytes.
pub async fn fetch_member(site: &Site, index: &Index, member: &Member, file: File) -> anyhow::Result<()> {
    let range = member.offset..member.offset + member.length;
    let (size, sha256) = if range.is_empty() {
        (0, hex::encode(Sha256::digest(b"")))
    } else if index.bundle.format == ArchiveFormat::Tar {
        let mut file = tokio::fs::File::from_std(file);
        let got = site.bucket.get(&index.bundle.key, Some(range), &mut file).await?;
        file.flush().await?;
        (got.size, got.sha256)
    } else {
        let frame = tempfile::tempfile().context("failed to make a temporary file")?;
        let mut into = tokio::fs::File::from_std(frame.try_clone()?);
        site.bucket.get(&index.bundle.key, Some(range), &mut into).await?;
        into.flush().await?;
        let format = index.bundle.format;
        let most = member.note.size + 1;
        tokio::task::spawn_blocking(move || inflate(format, frame, file, most))
            .await
            .context("unpacking panicked")?
            .context("failed to unpack")?
    };
    if (size, &sha256) != (member.note.size, &member.note.sha256) {
        bail!(
            "the bytes of {} in {} are not the ones that were bundled: the bundle was altered",
            member.name,
            index.bundle.key
        );
    }
    Ok(())
}

/// No more than `most` bytes: a bundle that was altered must not fill the disk.
fn inflate(format: ArchiveFormat, mut frame: File, mut file: File, most: u64) -> io::Result<(u64, String)> {
    io::Seek::rewind(&mut frame)?;
    copy(&mut bundle::unpack(format, frame)?.take(most), &mut file)
}

/// Copies all there is; answers how much, and its SHA-256 in hexadecimal.
fn copy(from: &mut dyn Read, into: &mut dyn io::Write) -> io::Result<(u64, String)> {
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

/// Makes an index again from its bundle, which lies downloaded in `file`; `folder` gets the members.
///
/// The same members always give the same bundle: that they do is the proof.
///
/// # Errors
/// Where the bundle is not whole, or its members do not carry what an index says.
pub fn rebuild_index(
    part: &BundleId,
    key: &str,
    format: ArchiveFormat,
    file: &Path,
    folder: &Path,
) -> io::Result<Index> {
    let mut inputs = Vec::new();
    bundle::walk(bundle::unpack(format, io::BufReader::new(File::open(file)?))?, |found, content| {
        let path = folder.join(inputs.len().to_string());
        let (size, sha256) = copy(content, &mut File::create(&path)?)?;
        let Some(note) = found.note else {
            return Err(io::Error::other(format!("{} carries nothing of what an index says", found.name)));
        };
        if (size, &sha256) != (note.size, &note.sha256) {
            return Err(io::Error::other(format!("{} is not what was bundled", found.name)));
        }
        inputs.push(Input { name: found.name, note, path });
        Ok(())
    })?;
    let index = bundle::lay_out(part, key, &inputs.into(), format)?;
    let (size, sha256) = copy(&mut File::open(file)?, &mut io::sink())?;
    if (size, &sha256) != (index.bundle.size, &index.bundle.sha256) {
        return Err(io::Error::other("its members give another bundle than it is"));
    }
    Ok(index)
}
