//! A camera-day into bundles, from whatever state an earlier run left it in.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use chrono::{DateTime, FixedOffset, NaiveDate, NaiveTime, Utc};

use super::bundle::{self, Input};
use super::index::{Index, Note};
use super::local::{Copies, Fetched};
use super::read::{Shelf, load_index, shelf};
use crate::bucket::{About, Content, Object, Patience, Precedence, Put, Source, When};
use crate::config::Archive;
use crate::key::{ArchiveFormat, ArchiveObject, BundleId, ObjectKey};
use crate::ledger;
use crate::retention::LARGEST_MEMBER_BYTES;
use crate::site::Site;

/// What a member's header takes in the tar at most, in bytes, but for names and events beyond the usual.
const HEADER_BYTES: u64 = 2048;

/// What became of a camera-day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// The bundles that were made now.
    pub bundles: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
    /// Captures that were bundled now.
    pub members: u64,
    /// Objects that were deleted, because a bundle holds them.
    pub deleted: u64,
    /// What was downloaded for want of a local copy.
    pub fetched: Fetched,
    /// What was left as it is, and why.
    pub left: Vec<String>,
}

/// A day at work.
struct Work<'a> {
    site: &'a Site,
    archive: &'a Archive,
    camera: &'a str,
    date: NaiveDate,
    copies: Copies<'a>,
    made: Made,
}

/// A capture that is to be bundled.
#[derive(Debug, Clone)]
struct Wanted {
    object: Object,
    name: String,
    taken: Option<DateTime<FixedOffset>>,
    event: Option<String>,
}

/// Bundles what is loose of a camera-day and deletes what is in a confirmed bundle; whatever was begun before is finished
/// first. Called again it does nothing.
///
/// # Errors
/// Where it cannot be finished now; nothing is lost then, and the next call goes on.
pub async fn archive_day(site: &Site, archive: &Archive, camera: &str, date: NaiveDate) -> anyhow::Result<Made> {
    let loose = list_day(site, camera, date).await?;
    if loose.is_empty() {
        return Ok(Made::default());
    }
    let copies = Copies::of(site, camera, date);
    let mut work = Work { site, archive, camera, date, copies, made: Made::default() };
    let mut there = shelf(site, camera, date).await?;
    let mut indexes = work.take_up(&mut there, &loose).await?;
    let bundled: HashSet<Identity<'_>> = indexes.iter().flat_map(identities).collect();
    let loose: Vec<Object> = loose.iter().filter(|object| !bundled.contains(&identity(object))).cloned().collect();
    for (number, wanted) in (there.last_part() + 1..).zip(work.split(loose)) {
        let part = BundleId { camera: camera.to_owned(), date, part: number };
        indexes.extend(work.make(part, wanted).await?);
    }
    work.delete(&indexes).await?;
    work.made.fetched = work.copies.fetched;
    Ok(work.made)
}

/// The captures that lie loose in the bucket on a camera-day.
///
/// # Errors
/// Where they cannot be listed.
pub async fn list_day(site: &Site, camera: &str, date: NaiveDate) -> anyhow::Result<Vec<Object>> {
    let (prefix, mut objects, mut from) = (site.layout.day_prefix(camera, date), Vec::new(), None);
    loop {
        let page = site.bucket.list(&prefix, false, from).await.with_context(|| site.bucket.describe())?;
        let is_of_day = |object: &Object| {
            site.layout.parse(&object.key).is_some_and(|parts| parts.camera == camera && parts.date == date)
        };
        objects.extend(page.objects.into_iter().filter(is_of_day));
        from = page.next;
        if from.is_none() {
            return Ok(objects);
        }
    }
}

/// What an object is known by to be the one that was bundled.
type Identity<'a> = (&'a str, u64, &'a str);

fn identity(object: &Object) -> Identity<'_> {
    (&object.key, object.size, &object.etag)
}

fn identities(index: &Index) -> impl Iterator<Item = Identity<'_>> {
    index.members.iter().map(|member| (&*member.note.key, member.note.size, &*member.note.etag))
}

/// Whether everything that an index lists lies loose, or in another bundle, if maybe not as it was.
fn are_elsewhere(index: &Index, loose: &[Object], bundled: &[Index]) -> bool {
    let keys: HashSet<&str> = (loose.iter().map(|object| &*object.key))
        .chain(bundled.iter().flat_map(identities).map(|(key, ..)| key))
        .collect();
    identities(index).all(|(key, ..)| keys.contains(key))
}

impl Work<'_> {
    /// The indexes of bundles that are there and whole; an index without a bundle is carried out, or taken back.
    async fn take_up(&mut self, there: &mut Shelf, loose: &[Object]) -> anyhow::Result<Vec<Index>> {
        let (mut indexes, mut taken_back) = (Vec::new(), Vec::new());
        for (part, held) in &there.parts {
            let Some(index_object) = &held.index else { continue };
            let index = match load_index(self.site, part).await {
                Ok(index) => index,
                // Whether it is damaged is not known: another bundle would hold its members twice.
                Err(error) if passes(&error) => return Err(error.context(index_object.key.clone())),
                Err(error) if held.bundle.is_some() => {
                    self.made.left.push(format!("{}: {error:#}; nothing of it is deleted", index_object.key));
                    continue;
                }
                // Torn writes do not exist in S3: somebody altered it, and there is no bundle to it.
                Err(error) => bail!("{}: {error:#}; remove it, there is no bundle to it", index_object.key),
            };
            if held.bundle.is_some() {
                match self.confirm(&index, false).await {
                    Ok(()) => indexes.push(index),
                    Err(error) if passes(&error) => return Err(error.context(index.bundle.key)),
                    Err(error) => self.made.left.push(format!("{error:#}; nothing of it is deleted")),
                }
            } else if let Some(inputs) = self.inputs_of(&index, loose).await? {
                tracing::info!("finishing {}, which an earlier run began", index.bundle.key);
                self.put(&index, &inputs).await?;
                indexes.push(index);
            } else if !are_elsewhere(&index, loose, &indexes) {
                // Not an intention but all that is left of a bundle that somebody took away.
                self.made.left.push(format!(
                    "{}: it is gone, and captures that its index lists lie nowhere else; look at it with `hk-aws verify`",
                    index.bundle.key
                ));
            } else {
                tracing::info!("{} is begun anew: what it lists is not there any more as it was", index.bundle.key);
                let failed = self.site.bucket.delete_all(&[&index_object.key]).await?;
                if let Some((key, why)) = failed.first() {
                    bail!("failed to delete {key}: {why}");
                }
                taken_back.push(part.clone());
            }
            self.copies.clear();
        }
        there.parts.retain(|part, _| !taken_back.contains(part));
        Ok(indexes)
    }

    /// What an index without a bundle was made from, if all of it is there and gives the same bundle again.
    async fn inputs_of(&mut self, index: &Index, loose: &[Object]) -> anyhow::Result<Option<Arc<[Input]>>> {
        let there: HashMap<Identity<'_>, &Object> = loose.iter().map(|object| (identity(object), object)).collect();
        let mut inputs = Vec::with_capacity(index.members.len());
        for (identity, member) in identities(index).zip(&index.members) {
            let Some(object) = there.get(&identity) else { return Ok(None) };
            let bytes = match self.copies.bytes(object).await {
                Ok(bytes) => bytes,
                Err(error) if passes(&error) => return Err(error.context(object.key.clone())),
                Err(_) => return Ok(None),
            };
            if bytes.sha256 != member.note.sha256 {
                return Ok(None);
            }
            inputs.push(Input { name: member.name.clone(), note: member.note.clone(), path: bytes.path });
        }
        let inputs: Arc<[Input]> = inputs.into();
        let again = lay_out(&index.part, &index.bundle.key, &inputs, index.bundle.format).await?;
        Ok((again == *index).then_some(inputs))
    }

    /// Puts captures in the order of time, and as many into a part as fit.
    fn split(&mut self, loose: Vec<Object>) -> Vec<Vec<Wanted>> {
        let prefix = self.site.layout.day_prefix(self.camera, self.date);
        let mut all: Vec<Wanted> = Vec::with_capacity(loose.len());
        for object in loose {
            let name = object.key.strip_prefix(&prefix).unwrap_or_default().to_owned();
            if object.size > LARGEST_MEMBER_BYTES {
                self.made.left.push(format!("{}: larger than the 5 GiB that one request can carry", object.key));
            } else if !bundle::is_member_name(&name) {
                self.made.left.push(format!("{}: its name cannot be one in a tar", object.key.escape_debug()));
            } else {
                let (taken, event) = self.copies.told(&object.key);
                all.push(Wanted { object, name, taken, event });
            }
        }
        let midnight = self.date.and_time(NaiveTime::MIN).and_utc();
        let time = |wanted: &Wanted| wanted.taken.map_or(midnight, |taken| taken.to_utc());
        all.sort_by(|a, b| (time(a), &a.object.key).cmp(&(time(b), &b.object.key)));
        let (mut parts, mut bytes) = (Vec::<Vec<Wanted>>::new(), 0);
        for wanted in all {
            let more = wanted.object.size + HEADER_BYTES;
            match parts.last_mut() {
                Some(part) if bytes + more <= self.archive.part_size => {
                    bytes += more;
                    part.push(wanted);
                }
                _ => {
                    bytes = more;
                    parts.push(vec![wanted]);
                }
            }
        }
        parts
    }

    /// Makes one part; `None` where none of its captures can be had.
    async fn make(&mut self, part: BundleId, wanted: Vec<Wanted>) -> anyhow::Result<Option<Index>> {
        let mut inputs = Vec::with_capacity(wanted.len());
        for Wanted { object, name, taken, event } in wanted {
            match self.copies.bytes(&object).await {
                Ok(bytes) => {
                    let note = Note {
                        key: object.key,
                        size: object.size,
                        sha256: bytes.sha256,
                        taken_at: taken,
                        event,
                        stored_at: object.stored_at,
                        etag: object.etag,
                    };
                    inputs.push(Input { name, note, path: bytes.path });
                }
                Err(error) if passes(&error) => return Err(error.context(object.key)),
                // It alone stays; the rest of the day need not wait for it.
                Err(error) => self.made.left.push(format!("{}: {error:#}", object.key)),
            }
        }
        if inputs.is_empty() {
            return Ok(None);
        }
        let inputs: Arc<[Input]> = inputs.into();
        let key = self.site.layout.archive_key(&part, ArchiveObject::Bundle(self.archive.format));
        let index = lay_out(&part, &key, &inputs, self.archive.format).await?;
        self.put(&index, &inputs).await?;
        self.copies.clear();
        Ok(Some(index))
    }

    /// Puts index and bundle, and makes sure of both.
    async fn put(&mut self, index: &Index, inputs: &Arc<[Input]>) -> anyhow::Result<()> {
        let site = self.site;
        let stored = put_index(site, index).await?;

        let mut digest = [0; 32];
        hex::decode_to_slice(&index.bundle.sha256, &mut digest).context("failed to read SHA-256")?;
        let source = stream_of(index.bundle.size, digest, {
            let (index, inputs) = (index.clone(), Arc::clone(inputs));
            move || bundle::open(&index, &inputs)
        });
        let kind = match index.bundle.format {
            ArchiveFormat::Tar => "application/x-tar",
            ArchiveFormat::TarGz => "application/gzip",
            ArchiveFormat::TarZst => "application/zstd",
        };
        let key = ObjectKey::from(index.bundle.key.clone());
        let put = put_one(site, &key, &source, about(index, &source, kind, &self.archive.class));
        put.await.with_context(|| format!("failed to put bundle {key}"))?;

        self.confirm(index, true).await?;
        confirm_index(site, &stored).await?;
        let bundled = ledger::Bundled {
            bundled_at: self.now(),
            key: index.bundle.key.clone(),
            date: self.date,
            members: index.members.len() as u64,
            size: index.bundle.size,
            sha256: index.bundle.sha256.clone(),
        };
        ledger::append_bundle(&site.ledger(), self.camera, &bundled).context("failed to write ledger")?;
        self.made.bundles.push(index.bundle.key.clone());
        self.made.bytes += index.bundle.size;
        self.made.members += index.members.len() as u64;
        Ok(())
    }

    /// Makes sure that the store holds a bundle, whole and in its class; one that is not `fresh` may have moved on.
    async fn confirm(&self, index: &Index, fresh: bool) -> anyhow::Result<()> {
        let bundle = &index.bundle;
        let head = self.site.bucket.head(&bundle.key).await?;
        let head = head.with_context(|| format!("{} is not there", bundle.key))?;
        if head.size != bundle.size || head.is(&bundle.sha256) != Some(true) {
            bail!("{} is not the bundle that its index describes: it was altered", bundle.key);
        }
        let (class, captures) = (&self.archive.class, &self.site.config.s3.storage_class);
        if head.storage_class != *class && (fresh || head.storage_class == *captures) {
            bail!(
                "the store holds {} in class {} instead of {class}, which it may not know: correct rotate.archive.class; \
                 nothing is deleted",
                bundle.key,
                head.storage_class,
            );
        }
        Ok(())
    }

    /// Deletes what lies loose and is in a bundle, exactly as it is there.
    async fn delete(&mut self, indexes: &[Index]) -> anyhow::Result<()> {
        if indexes.is_empty() {
            return Ok(());
        }
        let bundles: BTreeMap<Identity<'_>, &str> = indexes
            .iter()
            .flat_map(|index| identities(index).map(|identity| (identity, index.bundle.key.as_str())))
            .collect();
        // What changed since it was bundled is another capture, and stays.
        let there = list_day(self.site, self.camera, self.date).await?;
        let going: Vec<(&str, &str)> =
            there.iter().filter_map(|object| Some((object.key.as_str(), *bundles.get(&identity(object))?))).collect();
        if going.is_empty() {
            return Ok(());
        }
        let removed_at = self.now();
        let removed = |(key, bundle): &(&str, &str)| ledger::Removed {
            removed_at,
            key: (*key).to_owned(),
            bundle: Some((*bundle).to_owned()),
        };
        let removed: Vec<ledger::Removed> = going.iter().map(removed).collect();
        ledger::append_removed(&self.site.ledger(), self.camera, self.date, &removed)
            .context("failed to write ledger; nothing is deleted")?;
        let keys: Vec<&str> = going.iter().map(|(key, _)| *key).collect();
        let failed = self.site.bucket.delete_all(&keys).await?;
        self.made.deleted += (keys.len() - failed.len()) as u64;
        self.made.left.extend(failed.into_iter().map(|(key, why)| format!("{key}: bundled, but not deleted: {why}")));
        Ok(())
    }

    fn now(&self) -> DateTime<Utc> {
        (self.site.clock)().wall.into()
    }
}

/// The class of indexes: they are read whenever somebody looks for a picture.
const INDEX_CLASS: &str = "STANDARD";

/// An index as it was put.
struct StoredIndex {
    key: ObjectKey,
    size: u64,
    sha256: [u8; 32],
}

/// Puts an index that is not there, and makes sure of it.
///
/// # Errors
/// Where it cannot be put, or the key holds other bytes.
pub async fn store_index(site: &Site, index: &Index) -> anyhow::Result<()> {
    let stored = put_index(site, index).await?;
    confirm_index(site, &stored).await
}

async fn put_index(site: &Site, index: &Index) -> anyhow::Result<StoredIndex> {
    let text: Arc<[u8]> = index.to_json()?.into();
    let key = ObjectKey::from(site.layout.archive_key(&index.part, ArchiveObject::Index));
    let (size, sha256) = (text.len() as u64, sha256(&text));
    let source = stream_of(size, sha256, move || Ok(Box::new(std::io::Cursor::new(Arc::clone(&text)))));
    let put = put_one(site, &key, &source, about(index, &source, "application/json", INDEX_CLASS));
    put.await.with_context(|| format!("failed to put index {key}"))?;
    Ok(StoredIndex { key, size, sha256 })
}

async fn confirm_index(site: &Site, StoredIndex { key, size, sha256 }: &StoredIndex) -> anyhow::Result<()> {
    let head = site.bucket.head(key.as_str()).await?.context("the index is not there after it was put")?;
    if head.size != *size || head.is(&hex::encode(sha256)) != Some(true) {
        bail!("the store does not hold index {key} as it was put; nothing is deleted");
    }
    Ok(())
}

async fn put_one(site: &Site, key: &ObjectKey, source: &Source, about: About) -> anyhow::Result<()> {
    let when = When { now: (site.clock)().wall, patience: Patience::Ordinary };
    match site.bucket.put_new(key, source, &about, when).await? {
        Put::Stored | Put::AlreadyThere => Ok(()),
        Put::Conflict => Err(anyhow!("the key holds other bytes; look at it with `hk-aws verify`, nothing is deleted")),
    }
}

fn about(index: &Index, source: &Source, content_type: &str, class: &str) -> About {
    let metadata = vec![
        ("camera", index.part.camera.clone()),
        ("archive", index.part.date.to_string()),
        ("members", index.members.len().to_string()),
        ("sha256", hex::encode(source.sha256)),
    ];
    let tags = vec![("camera", index.part.camera.clone()), ("archive", index.part.date.to_string())];
    About { content_type: content_type.to_owned(), metadata, tags, class: Some(class.to_owned()) }
}

/// Whether a failure passes by itself, or is about more than one object.
fn passes(error: &anyhow::Error) -> bool {
    error.downcast_ref::<crate::bucket::Refusal>().is_some_and(|refusal| refusal.code.as_deref() != Some("NoSuchKey"))
        || error.chain().any(<dyn std::error::Error>::is::<std::io::Error>)
}

async fn lay_out(part: &BundleId, key: &str, inputs: &Arc<[Input]>, format: ArchiveFormat) -> anyhow::Result<Index> {
    let (part, key, inputs) = (part.clone(), key.to_owned(), Arc::clone(inputs));
    let laid_out = tokio::task::spawn_blocking(move || bundle::lay_out(&part, &key, &inputs, format));
    laid_out.await.context("a bundle panicked")?.context("failed to read a local copy")
}

fn stream_of(
    size: u64,
    sha256: [u8; 32],
    open: impl Fn() -> std::io::Result<crate::bucket::Reader> + Send + Sync + 'static,
) -> Source {
    Source { content: Content::Stream(Arc::new(open)), size, precedence: Precedence::Job, sha256 }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).into()
}
