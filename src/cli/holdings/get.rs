//! `get`: captures of a day, each checked before it gets its name.
//!
//! Out of a bundle come the bytes of the captures that are asked for, and no others. What is there already counts as done:
//! a run that broke off is run again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use chrono::NaiveDate;
use clap::Args;
use futures_util::StreamExt;
use indicatif::ProgressBar;
use serde::Serialize;

use super::place::{self, Place, Placed};
use super::unpack::{Unpacked, Whole, unpack};
use super::{
    AT_ONCE, Bundle, Content, Day, Identity, Out, Partly, captures, count, last_segment, leave_out_superseded, open,
    plain, size, tell,
};
use crate::archive::{self, Index, Member};
use crate::bucket::{Object, Refusal, Restore, is_cold};
use crate::disk::Room;
use crate::key::ArchiveFormat;
use crate::site::Site;

#[derive(Debug, Args)]
pub(in crate::cli) struct Get {
    #[command(flatten)]
    day: Day,
    /// Names or keys as `list` shows them; without any, the whole day
    #[arg(value_name = "FILE")]
    files: Vec<String>,
    /// The folder to download into
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// What is to be downloaded.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Order<'a> {
    pub(in crate::cli) camera: &'a str,
    pub(in crate::cli) date: NaiveDate,
    /// Names or keys; none: the whole day.
    pub(in crate::cli) files: &'a [String],
    pub(in crate::cli) to: &'a Path,
}

/// What became of an order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::cli) struct Tally {
    /// Captures, and what could not be found.
    pub(in crate::cli) total: usize,
    pub(in crate::cli) failed: usize,
    /// Captures that were there already.
    pub(in crate::cli) already: usize,
    /// Bytes of all captures that are there now.
    pub(in crate::cli) bytes: u64,
}

/// One capture.
struct Item {
    key: String,
    file: String,
    size: u64,
    /// The storage class of the object, or of the bundle.
    class: String,
    source: Source,
}

enum Source {
    Object(Object),
    Member(Arc<Index>, Member),
}

/// What a bucket holds of a day.
#[derive(Default)]
struct Held {
    items: Vec<Item>,
    /// Bundles whose members are not known.
    unknown: Vec<(Object, ArchiveFormat)>,
}

#[derive(Debug, Serialize)]
struct Downloaded<'a> {
    key: &'a str,
    to: &'a Path,
    /// The bundle it came out of.
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<&'a str>,
    /// Whether it was there already.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    already: bool,
}

/// What cannot be read before it was restored.
#[derive(Debug, Default)]
struct Cold {
    captures: usize,
    bundles: BTreeSet<String>,
    classes: BTreeSet<String>,
    under_way: bool,
}

impl Get {
    pub(in crate::cli) async fn run(self, out: &Out, site: &Site) -> anyhow::Result<()> {
        let Day { camera, date } = &self.day;
        let order = Order { camera, date: *date, files: &self.files, to: &self.to };
        let tally = fetch(out, site, order).await?;
        if tally.already > 0 {
            let are = if tally.already == 1 { "is" } else { "are" };
            out.remark(format_args!("{} {are} there already", captures(tally.already)));
        }
        let Tally { failed, total, .. } = tally;
        if failed == 0 { Ok(()) } else { Err(Partly { failed, total }.into()) }
    }
}

/// Downloads captures of a day, out of objects and bundles.
///
/// # Errors
/// Where nothing can be done; the failure of one capture is said and counted.
pub(in crate::cli) async fn fetch(out: &Out, site: &Site, order: Order<'_>) -> anyhow::Result<Tally> {
    let Order { camera, date, files, to } = order;
    let mut held = look(site, order).await?;
    let is = |file: &String, item: &Item| {
        let in_bundle = matches!(&item.source, Source::Member(_, member) if member.name == *file);
        *file == item.file || *file == item.key || in_bundle
    };
    if files.is_empty() {
        let left_out = leave_out_superseded(&mut held.items, |item| &item.key);
        if left_out > 0 {
            out.remark(format_args!("{left_out} cut-off {} left out: the whole ones are there", noun(left_out)));
        }
        if held.items.is_empty() && held.unknown.is_empty() {
            bail!("the bucket holds no captures of {camera} on {date}; `hk-aws days {camera}` lists the days it has");
        }
    } else {
        held.items.retain(|item| files.iter().any(|file| is(file, item)));
    }
    let missing: Vec<String> =
        files.iter().filter(|file| !held.items.iter().any(|item| is(file, item))).cloned().collect();
    if !files.is_empty() && missing.is_empty() {
        // All that is wanted lies elsewhere.
        held.unknown.clear();
    }
    let mut work = Work { out, site, order, place: Place::new(to), tally: Tally::default(), cold: Cold::default() };
    let (wanted, bundles) = work.sort_out(held).await?;
    let unpacked = bundles.iter().map(|(object, _)| 2 * object.size);
    check_room(to, wanted.iter().map(|(item, _)| item.size).chain(unpacked).sum())?;
    if !wanted.is_empty() || !bundles.is_empty() {
        std::fs::create_dir_all(to).with_context(|| format!("failed to create {}", to.display()))?;
    }
    let hidden = out.quiet || out.json;
    let bar = if hidden { ProgressBar::hidden() } else { ProgressBar::new((wanted.len() + bundles.len()) as u64) };
    work.download(wanted, &bar).await?;
    let not_found = work.unpack(bundles, missing, &bar).await?;
    bar.finish_and_clear();
    for file in &not_found {
        work.fail(1, format_args!("{}: no such capture of {camera} on {date}", plain(file)));
    }
    work.say_cold();
    Ok(work.tally)
}

fn noun(number: usize) -> &'static str {
    if number == 1 { "capture" } else { "captures" }
}

/// Makes sure that a disk has so much room, before anything is downloaded or paid for.
///
/// # Errors
/// Where it has not.
pub(in crate::cli) fn check_room(to: &Path, needed: u64) -> anyhow::Result<()> {
    // Of a folder to come, its nearest one counts: a path from here has none of its own.
    let absolute = std::path::absolute(to).unwrap_or_else(|_| to.to_owned());
    match Room::at(&absolute) {
        Some(room) if room.free < needed => bail!(
            "the disk of {} has {} free, and {} are needed: make room, choose a folder on another disk with --to, or name \
             the captures that are wanted",
            to.display(),
            size(room.free),
            size(needed),
        ),
        _ => Ok(()),
    }
}

/// Finds out what there is of a day.
async fn look(site: &Site, order: Order<'_>) -> anyhow::Result<Held> {
    let Order { camera, date, .. } = order;
    let mut held = Held::default();
    let mut seen: HashSet<Identity> = HashSet::new();
    for object in archive::list_day(site, camera, date).await? {
        seen.insert((object.key.clone(), object.size, object.etag.clone()));
        held.items.push(Item {
            key: object.key.clone(),
            file: file_of(site, &object.key),
            size: object.size,
            class: object.storage_class.clone(),
            source: Source::Object(object),
        });
    }
    for Bundle { object, format, content } in open(site, archive::shelf(site, camera, date).await?).await {
        match content {
            Content::Known(index) => {
                let index = Arc::new(index);
                for member in &index.members {
                    let note = &member.note;
                    if seen.insert((note.key.clone(), note.size, note.etag.clone())) {
                        held.items.push(Item {
                            key: note.key.clone(),
                            file: file_of(site, &note.key),
                            size: note.size,
                            class: object.storage_class.clone(),
                            source: Source::Member(Arc::clone(&index), member.clone()),
                        });
                    }
                }
            }
            Content::NoIndex => held.unknown.push((object, format)),
            // The store does not answer, or refuses: that says nothing of the index.
            Content::Unread(error) if error.is::<Refusal>() => {
                return Err(error.context(format!("failed to read the index of {}", object.key)));
            }
            Content::Unread(error) => {
                tell(format_args!("{}: {error:#}; the bundle is read without it", plain(&object.key)));
                held.unknown.push((object, format));
            }
        }
    }
    Ok(held)
}

fn file_of(site: &Site, key: &str) -> String {
    site.layout.parse(key).map_or_else(|| last_segment(key).to_owned(), |parts| parts.file)
}

/// An order at work.
struct Work<'a> {
    out: &'a Out,
    site: &'a Site,
    order: Order<'a>,
    place: Place,
    tally: Tally,
    cold: Cold,
}

impl Work<'_> {
    fn fail(&mut self, number: usize, why: impl std::fmt::Display) {
        self.tally.total += number;
        self.tally.failed += number;
        tell(why);
    }

    fn succeed(&mut self, bar: &ProgressBar, line: &Downloaded<'_>, size: u64) -> anyhow::Result<()> {
        self.tally.total += 1;
        self.tally.already += usize::from(line.already);
        self.tally.bytes += size;
        bar.suspend(|| self.out.item(line, plain(&line.to.to_string_lossy())))
    }

    /// Tells what is to be downloaded, and where to, from what is there already, is in the way, or cannot be read yet.
    async fn sort_out(&mut self, held: Held) -> anyhow::Result<(Vec<(Item, PathBuf)>, Vec<(Object, ArchiveFormat)>)> {
        let placed: Vec<(Item, PathBuf)> = held
            .items
            .into_iter()
            .map(|item| {
                let sha256 = match &item.source {
                    Source::Object(_) => None,
                    Source::Member(_, member) => Some(member.note.sha256.as_str()),
                };
                let path = self.place.path(&item.file, sha256);
                (item, path)
            })
            .collect();
        let site = self.site;
        let looked = futures_util::stream::iter(placed).map(|(item, path)| async move {
            let there = is_there(site, &item, &path).await;
            (item, path, there)
        });
        let looked: Vec<_> = looked.buffered(AT_ONCE).collect().await;
        let mut wanted = Vec::new();
        for (item, path, there) in looked {
            match there {
                Ok(false) => wanted.push((item, path)),
                Ok(true) => {
                    let line = Downloaded { key: &item.key, to: &path, bundle: item.bundle(), already: true };
                    self.succeed(&ProgressBar::hidden(), &line, item.size)?;
                }
                Err(error) => self.fail(1, format_args!("{}: {error:#}", plain(&item.key))),
            }
        }
        let mut unreadable = HashSet::new();
        let needed: BTreeMap<&str, &str> =
            wanted.iter().filter_map(|(item, _)| Some((item.bundle()?, item.class.as_str()))).collect();
        for (key, class) in needed {
            if is_cold(class) && self.is_cold(key, class).await {
                unreadable.insert(key.to_owned());
            }
        }
        let (cold, wanted): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|(item, _)| item.bundle().is_some_and(|key| unreadable.contains(key)));
        self.cold.captures += cold.len();
        let mut bundles = Vec::new();
        for (object, format) in held.unknown {
            if is_cold(&object.storage_class) && self.is_cold(&object.key, &object.storage_class).await {
                // What it holds cannot be counted: it is one thing that is missing.
                self.tally.total += 1;
                self.tally.failed += 1;
            } else {
                bundles.push((object, format));
            }
        }
        self.tally.total += self.cold.captures;
        self.tally.failed += self.cold.captures;
        Ok((wanted, bundles))
    }

    /// Whether a bundle cannot be read yet; what cannot be found out shows when it is read.
    async fn is_cold(&mut self, key: &str, class: &str) -> bool {
        let Ok(Some(head)) = self.site.bucket.head(key).await else { return false };
        let is_cold = matches!(head.restore, Restore::Cold | Restore::Ongoing);
        if is_cold {
            self.cold.under_way |= head.restore == Restore::Ongoing;
            self.cold.bundles.insert(key.to_owned());
            self.cold.classes.insert(class.to_owned());
        }
        is_cold
    }

    async fn download(&mut self, wanted: Vec<(Item, PathBuf)>, bar: &ProgressBar) -> anyhow::Result<()> {
        let site = self.site;
        let downloads = futures_util::stream::iter(wanted).map(|(item, path)| async move {
            let done = download(site, &item, &path).await;
            (item, path, done)
        });
        let mut downloads = std::pin::pin!(downloads.buffered(AT_ONCE));
        while let Some((item, path, done)) = downloads.next().await {
            match done {
                Ok(()) => {
                    let line = Downloaded { key: &item.key, to: &path, bundle: item.bundle(), already: false };
                    self.succeed(bar, &line, item.size)?;
                }
                Err(error) if is_not_restored(&error) => {
                    (self.tally.total, self.tally.failed) = (self.tally.total + 1, self.tally.failed + 1);
                    self.cold.captures += 1;
                    self.cold.classes.insert(item.class);
                }
                Err(error) => {
                    bar.suspend(|| self.fail(1, format_args!("{}: {error:#}", plain(&item.key))));
                }
            }
            bar.inc(1);
        }
        Ok(())
    }

    /// Unpacks bundles whose members are not known; answers which of the missing files are in none of them.
    async fn unpack(
        &mut self,
        bundles: Vec<(Object, ArchiveFormat)>,
        mut missing: Vec<String>,
        bar: &ProgressBar,
    ) -> anyhow::Result<Vec<String>> {
        for (object, format) in bundles {
            let is_asked_for = |file: &String| *file == object.key || *file == last_segment(&object.key);
            let all = self.order.files.is_empty() || missing.iter().any(is_asked_for);
            let wanted = if all { Vec::new() } else { missing.clone() };
            missing.retain(|file| !is_asked_for(file));
            let what = format_args!("{} has no index: it is unpacked whole", plain(&object.key)).to_string();
            bar.suspend(|| self.out.remark(what));
            let prefix = self.site.layout.day_prefix(self.order.camera, self.order.date);
            let place = self.place.clone();
            let whole = match unpack(self.site, &object, format, place, prefix, wanted).await {
                Ok(whole) => whole,
                Err(error) => {
                    bar.suspend(|| self.fail(1, format_args!("{}: {error:#}", plain(&object.key))));
                    continue;
                }
            };
            self.report(bar, &object.key, whole, &mut missing)?;
            bar.inc(1);
        }
        Ok(missing)
    }

    fn report(
        &mut self,
        bar: &ProgressBar,
        bundle: &str,
        whole: Whole,
        missing: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        self.place = whole.place;
        for Unpacked { name, key, size, placed } in whole.members {
            missing.retain(|file| *file != key && *file != name && *file != last_segment(&key));
            match placed {
                Ok(placed) => {
                    let already = matches!(placed, Placed::Already(_));
                    let (Placed::New(path) | Placed::Already(path)) = placed;
                    let line = Downloaded { key: &key, to: &path, bundle: Some(bundle), already };
                    self.succeed(bar, &line, size)?;
                }
                Err(error) => {
                    bar.suspend(|| self.fail(1, format_args!("{}, {}: {error:#}", plain(bundle), plain(&name))));
                }
            }
        }
        if let Some(error) = whole.broken {
            let why = format!("{} cannot be read to its end: {error}; what came before is there", plain(bundle));
            bar.suspend(|| self.fail(1, why));
        }
        Ok(())
    }

    /// Says once what must be restored first.
    fn say_cold(&self) {
        let Cold { captures: number, bundles, classes, under_way } = &self.cold;
        if *number == 0 && bundles.is_empty() {
            return;
        }
        let Order { camera, date, .. } = self.order;
        let what = match (*number, bundles.len()) {
            (0, 1) => format!("bundle {}", bundles.iter().map(|key| plain(key)).collect::<String>()),
            (0, more) => count(more, "bundle"),
            (number, _) => captures(number),
        };
        let camera = plain(camera);
        let classes: Vec<String> = classes.iter().map(|class| plain(class)).collect();
        let (lie, class) =
            (if number + bundles.len() == 1 || *number == 1 { "lies" } else { "lie" }, classes.join(" and "));
        if *under_way {
            tell(format_args!(
                "{what} of {camera} on {date} {lie} in {class}, and a restore is under way: `hk-aws restore {camera} {date} \
                 --wait` waits for it"
            ));
        } else {
            tell(format_args!(
                "{what} of {camera} on {date} {lie} in {class}: restore it first, with `hk-aws restore {camera} {date}`"
            ));
        }
    }
}

impl Item {
    fn bundle(&self) -> Option<&str> {
        match &self.source {
            Source::Object(_) => None,
            Source::Member(index, _) => Some(&index.bundle.key),
        }
    }
}

fn is_not_restored(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.code.as_deref() == Some("InvalidObjectState"))
}

/// Whether a capture is there already; an error where another file is in its place.
async fn is_there(site: &Site, item: &Item, path: &Path) -> anyhow::Result<bool> {
    if path.symlink_metadata().is_err() {
        return Ok(false);
    }
    let (file, size) = (path.to_owned(), item.size);
    let digests = tokio::task::spawn_blocking(move || place::digest(&file, size)).await.context("reading panicked")?;
    let Some(digests) = digests.with_context(|| format!("failed to read {}", path.display()))? else {
        return place::refuse(path).map(|()| false);
    };
    let same = match &item.source {
        Source::Member(_, member) => member.note.sha256 == digests.sha256,
        Source::Object(object) => {
            let head = site.bucket.head(&object.key).await?;
            // What others stored has no SHA-256; its `ETag` is the MD5 of what went up at once, or nothing like it.
            head.is_some_and(|head| head.is(&digests.sha256).unwrap_or(head.etag == digests.md5))
        }
    };
    if same { Ok(true) } else { place::refuse(path).map(|()| false) }
}

/// Downloads one capture, checks it, and only then gives it its name. A file that is there is never replaced.
async fn download(site: &Site, item: &Item, target: &Path) -> anyhow::Result<()> {
    let folder = target.parent().context("no folder to download into")?;
    let part = place::begin(folder)?;
    match &item.source {
        Source::Object(object) => {
            let mut file = tokio::fs::File::from_std(part.reopen()?);
            site.bucket.get(&object.key, None, &mut file).await?.hold_against(object.size)?;
        }
        Source::Member(index, member) => archive::fetch_member(site, index, member, part.reopen()?).await?,
    }
    tokio::fs::File::from_std(part.reopen()?).sync_all().await?;
    place::keep(part, target)
}
