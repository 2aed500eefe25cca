//! Captures of a day, downloaded: each is checked before it gets its name.
//!
//! Out of a bundle come the bytes of the captures that are asked for, and no others. A file that is there already, with
//! the right bytes, counts as done: a download that broke off is run again.

mod item;
mod target;
mod whole;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::NaiveDate;
use futures_util::StreamExt;
use serde::Serialize;

use super::contents::{Contents, OpenedBundle, open_bundles};
use super::day::{BundleObject, Day};
use super::{AT_ONCE, HoldingsError, IndexError, ObjectIdentity, last_segment, leave_out_superseded};
use crate::bucket::{Object, RefusalKind, RestoreState, is_cold};
use crate::disk::{Room, RoomLimit};
use crate::site::Site;

use item::{FetchItem, download, is_there};
use target::{Placed, TargetFolder};
use whole::{Unpacked, UnpackedBundle, Unpacking, unpack};

/// What to download, and where to.
#[derive(Debug, Clone, Copy)]
pub struct FetchOrder<'a> {
    /// The camera's segment.
    pub camera: &'a str,
    /// The day, at the camera.
    pub date: NaiveDate,
    /// Names or keys of captures, as a listing shows them; empty: the whole day.
    pub files: &'a [String],
    /// The folder; made if it is missing.
    pub to: &'a Path,
}

/// What happens during a download.
#[derive(Debug)]
pub enum FetchEvent<'a> {
    /// This number of cut-off captures is left out, because the whole ones came later.
    LeftOut(usize),
    /// The index of a bundle cannot be used; the bundle is read without it.
    IndexUnread {
        /// The key of the bundle.
        bundle: &'a str,
        /// Why.
        error: &'a IndexError,
    },
    /// It is known what to do: this number of [`FetchEvent::StepDone`] follows.
    Begins(usize),
    /// A bundle has no usable index: it is downloaded and unpacked as a whole.
    UnpacksWhole {
        /// The key of the bundle.
        bundle: &'a str,
    },
    /// A capture is in the folder.
    Here(&'a FetchedCapture<'a>),
    /// A capture or a bundle could not be had: its key, and why.
    Failed(String),
    /// A capture or a bundle is done with, well or not.
    StepDone,
}

/// A capture that is in the folder now.
#[derive(Debug, Serialize)]
pub struct FetchedCapture<'a> {
    /// Its key.
    pub key: &'a str,
    /// The file.
    pub to: &'a Path,
    /// The bundle that it came out of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<&'a str>,
    /// Whether it was there already.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
}

/// What became of an order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Captures that were asked for, and what could not be found.
    pub total: usize,
    /// How many of them are not in the folder.
    pub failed: usize,
    /// How many were there already.
    pub already: usize,
    /// The bytes of all captures that are in the folder now.
    pub bytes: u64,
    /// What must be restored before it can be read.
    pub cold: ColdHoldings,
}

/// Captures and bundles that cannot be read before a restore.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColdHoldings {
    /// How many captures.
    pub captures: usize,
    /// Keys of the bundles.
    pub bundles: BTreeSet<String>,
    /// Their storage classes.
    pub classes: BTreeSet<String>,
    /// Whether a restore is under way.
    pub under_way: bool,
}

impl ColdHoldings {
    /// Returns whether nothing has to be restored.
    pub fn is_empty(&self) -> bool {
        self.captures == 0 && self.bundles.is_empty()
    }
}

/// Why nothing was downloaded, or not all.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The day cannot be looked at.
    #[error(transparent)]
    Holdings(#[from] HoldingsError),
    /// The bucket holds nothing of the day.
    #[error("the bucket holds no captures of {camera} on {date}; `hk-aws days {camera}` lists the days it has")]
    Nothing {
        /// The camera.
        camera: String,
        /// The day.
        date: NaiveDate,
    },
    /// The disk has no room for it; nothing was downloaded.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// Whoever is told what happens wanted no more.
    #[error("the download was ended")]
    Stopped,
}

/// A disk without room for a download.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk of {} has {} free, and {} are needed: make room, choose a folder on another disk with --to, or name the \
     captures that are wanted",
    folder.display(), indicatif::HumanBytes(*free), indicatif::HumanBytes(*needed)
)]
pub struct NoRoom {
    /// The folder.
    pub folder: PathBuf,
    /// The bytes that are free.
    pub free: u64,
    /// The bytes that are needed.
    pub needed: u64,
}

/// Makes sure that a disk has room, before anything is downloaded or paid for.
///
/// # Errors
/// [`NoRoom`] if fewer than `needed` bytes are free.
pub fn check_room(folder: &Path, needed: u64) -> Result<(), NoRoom> {
    // A relative path has no folders of its own to look at.
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    match Room::at(&absolute) {
        Some(room) if room.free < needed => Err(NoRoom { folder: folder.to_owned(), free: room.free, needed }),
        _ => Ok(()),
    }
}

/// What the bucket has of a day.
#[derive(Default)]
struct DayFound {
    captures: Vec<FetchItem>,
    /// Bundles whose members are not known.
    unindexed: Vec<BundleObject>,
}

/// A capture, and the path that it is to have.
type Targeted = (FetchItem, PathBuf);

/// Downloads captures of a day, out of objects and bundles; `tell` hears of each as it comes, and may end the work.
///
/// # Errors
/// [`FetchError`] if nothing can be done or `tell` ends it. A capture that cannot be had is told and counted instead.
pub async fn fetch(
    site: &Site,
    order: FetchOrder<'_>,
    mut tell: impl FnMut(FetchEvent<'_>) -> ControlFlow<()> + Send,
) -> Result<Fetched, FetchError> {
    let FetchOrder { camera, date, files, to } = order;
    let mut work =
        FetchWork { site, order, target: TargetFolder::new(to), fetched: Fetched::default(), tell: &mut tell };
    let mut found = work.look().await?;
    if files.is_empty() {
        let left_out = leave_out_superseded(&mut found.captures, |capture| (&capture.key, capture.stored_at));
        if left_out > 0 {
            work.tell(FetchEvent::LeftOut(left_out))?;
        }
        if found.captures.is_empty() && found.unindexed.is_empty() {
            return Err(FetchError::Nothing { camera: camera.to_owned(), date });
        }
    } else {
        found.captures.retain(|capture| files.iter().any(|file| capture.is_called(file)));
    }
    let is_found = |file: &String| found.captures.iter().any(|capture| capture.is_called(file));
    let missing: Vec<String> = files.iter().filter(|file| !is_found(file)).cloned().collect();
    if !files.is_empty() && missing.is_empty() {
        // Everything that was asked for lies elsewhere.
        found.unindexed.clear();
    }
    let captures = work.leave_out_what_is_there(found.captures).await?;
    let captures = work.leave_out_cold(captures).await;
    let bundles = work.leave_out_cold_bundles(found.unindexed).await;
    let unpacked = bundles.iter().map(|bundle| bundle.object.size.saturating_mul(2));
    let sizes = captures.iter().map(|(capture, _)| capture.size).chain(unpacked);
    // An index may name any size.
    check_room(to, sizes.fold(0, u64::saturating_add))?;
    if !captures.is_empty() || !bundles.is_empty() {
        std::fs::create_dir_all(to)
            .map_err(|error| HoldingsError::local(format_args!("failed to create {}", to.display()), &error))?;
    }
    work.tell(FetchEvent::Begins(captures.len() + bundles.len()))?;
    work.download(captures).await?;
    for file in work.unpack(bundles, missing).await? {
        work.fail(format!("{file}: no such capture of {camera} on {date}"))?;
    }
    Ok(work.fetched)
}

/// An order at work.
struct FetchWork<'a> {
    site: &'a Site,
    order: FetchOrder<'a>,
    target: TargetFolder,
    fetched: Fetched,
    tell: &'a mut (dyn FnMut(FetchEvent<'_>) -> ControlFlow<()> + Send),
}

impl FetchWork<'_> {
    fn tell(&mut self, event: FetchEvent<'_>) -> Result<(), FetchError> {
        match (self.tell)(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(FetchError::Stopped),
        }
    }

    fn fail(&mut self, why: String) -> Result<(), FetchError> {
        self.fetched.total += 1;
        self.fetched.failed += 1;
        self.tell(FetchEvent::Failed(why))
    }

    fn succeed(&mut self, capture: &FetchedCapture<'_>, size: u64) -> Result<(), FetchError> {
        self.fetched.total += 1;
        self.fetched.already += usize::from(capture.already);
        self.fetched.bytes += size;
        self.tell(FetchEvent::Here(capture))
    }

    /// Finds out what the bucket has of the day, each capture once.
    async fn look(&mut self) -> Result<DayFound, FetchError> {
        let Day { loose, archive } = Day::look(self.site, self.order.camera, self.order.date).await?;
        let mut found = DayFound::default();
        let mut seen: HashSet<ObjectIdentity> = loose.iter().map(ObjectIdentity::of).collect();
        found.captures.extend(loose.into_iter().map(|object| FetchItem::of_object(self.site, object)));
        for OpenedBundle { bundle, contents } in open_bundles(self.site, archive).await {
            match contents {
                Contents::Indexed(index) => {
                    let index = Arc::new(index);
                    let new = index.members.iter().filter(|member| seen.insert(ObjectIdentity::of_note(&member.note)));
                    let class = &bundle.object.storage_class;
                    found.captures.extend(new.map(|member| FetchItem::of_member(self.site, &index, member, class)));
                }
                Contents::NoIndex => found.unindexed.push(bundle),
                // That the store does not answer, or refuses, says nothing of the index.
                Contents::Unread(IndexError::Refused(refusal)) => {
                    let what = format_args!("failed to read the index of {}", bundle.object.key).to_string();
                    return Err(HoldingsError::from(refusal).about(what).into());
                }
                Contents::Unread(error) => {
                    self.tell(FetchEvent::IndexUnread { bundle: &bundle.object.key, error: &error })?;
                    found.unindexed.push(bundle);
                }
            }
        }
        Ok(found)
    }

    /// Gives each capture its path, and leaves out what is in the folder already or has another file in its way.
    async fn leave_out_what_is_there(&mut self, captures: Vec<FetchItem>) -> Result<Vec<Targeted>, FetchError> {
        let mut targets = Vec::with_capacity(captures.len());
        for capture in captures {
            let path = self.target.path_for(&capture.file, capture.known_sha256());
            targets.push((capture, path));
        }
        let site = self.site;
        let looked = futures_util::stream::iter(targets).map(|(capture, path)| async move {
            let there = is_there(site, &capture, &path).await;
            (capture, path, there)
        });
        let looked: Vec<_> = looked.buffered(AT_ONCE).collect().await;
        let mut wanted = Vec::new();
        for (capture, path, there) in looked {
            match there {
                Ok(false) => wanted.push((capture, path)),
                Ok(true) => {
                    let here = FetchedCapture { key: &capture.key, to: &path, bundle: capture.bundle(), already: true };
                    self.succeed(&here, capture.size)?;
                }
                Err(error) => self.fail(format!("{}: {error}", capture.key))?,
            }
        }
        Ok(wanted)
    }

    /// Leaves out the members of bundles that must be restored first.
    async fn leave_out_cold(&mut self, captures: Vec<Targeted>) -> Vec<Targeted> {
        let bundles: BTreeMap<&str, &str> =
            captures.iter().filter_map(|(capture, _)| Some((capture.bundle()?, capture.class.as_str()))).collect();
        let mut cold_bundles = HashSet::new();
        for (key, class) in bundles {
            if is_cold(class) && self.is_cold(key, class).await {
                cold_bundles.insert(key.to_owned());
            }
        }
        let is_in_cold_bundle =
            |(capture, _): &Targeted| capture.bundle().is_some_and(|bundle| cold_bundles.contains(bundle));
        let (cold, warm): (Vec<_>, Vec<_>) = captures.into_iter().partition(is_in_cold_bundle);
        self.fetched.cold.captures += cold.len();
        self.fetched.total += cold.len();
        self.fetched.failed += cold.len();
        warm
    }

    /// Leaves out bundles that must be restored first. What such a bundle holds cannot be counted: it fails as one.
    async fn leave_out_cold_bundles(&mut self, bundles: Vec<BundleObject>) -> Vec<BundleObject> {
        let mut warm = Vec::new();
        for bundle in bundles {
            let Object { key, storage_class, .. } = &bundle.object;
            if is_cold(storage_class) && self.is_cold(key, storage_class).await {
                self.fetched.total += 1;
                self.fetched.failed += 1;
            } else {
                warm.push(bundle);
            }
        }
        warm
    }

    /// Returns whether a bundle cannot be read yet; if that cannot be found out, reading it will show.
    async fn is_cold(&mut self, key: &str, class: &str) -> bool {
        let Ok(Some(state)) = self.site.bucket.restore_state(key).await else { return false };
        let is_cold = matches!(state, RestoreState::Cold | RestoreState::Ongoing);
        if is_cold {
            let cold = &mut self.fetched.cold;
            cold.under_way |= state == RestoreState::Ongoing;
            cold.bundles.insert(key.to_owned());
            cold.classes.insert(class.to_owned());
        }
        is_cold
    }

    async fn download(&mut self, captures: Vec<Targeted>) -> Result<(), FetchError> {
        let site = self.site;
        let downloads = futures_util::stream::iter(captures).map(|(capture, path)| async move {
            let done = download(site, &capture, &path).await;
            (capture, path, done)
        });
        let mut downloads = std::pin::pin!(downloads.buffered(AT_ONCE));
        while let Some((capture, path, done)) = downloads.next().await {
            match done {
                Ok(()) => {
                    let here =
                        FetchedCapture { key: &capture.key, to: &path, bundle: capture.bundle(), already: false };
                    self.succeed(&here, capture.size)?;
                }
                Err(HoldingsError::Refused { refusal, .. }) if refusal.kind() == RefusalKind::Cold => {
                    self.fetched.total += 1;
                    self.fetched.failed += 1;
                    self.fetched.cold.captures += 1;
                    self.fetched.cold.classes.insert(capture.class);
                }
                Err(error) => self.fail(format!("{}: {error}", capture.key))?,
            }
            self.tell(FetchEvent::StepDone)?;
        }
        Ok(())
    }

    /// Unpacks bundles whose members are not known; returns which of the `missing` files are in none of them.
    async fn unpack(
        &mut self,
        bundles: Vec<BundleObject>,
        mut missing: Vec<String>,
    ) -> Result<Vec<String>, FetchError> {
        for bundle in bundles {
            let key = &bundle.object.key;
            let is_bundle_itself = |file: &String| file == key || file == last_segment(key);
            let all = self.order.files.is_empty() || missing.iter().any(is_bundle_itself);
            let files = if all { Vec::new() } else { missing.clone() };
            missing.retain(|file| !is_bundle_itself(file));
            self.tell(FetchEvent::UnpacksWhole { bundle: key })?;
            let prefix = self.site.layout.day_prefix(self.order.camera, self.order.date);
            let room = RoomLimit::in_folder(self.order.to, self.site.config.keep.min_free);
            match unpack(self.site, &bundle, Unpacking { target: self.target.clone(), prefix, files, room }).await {
                Ok(unpacked) => {
                    self.report(key, unpacked, &mut missing)?;
                    self.tell(FetchEvent::StepDone)?;
                }
                Err(error) => self.fail(format!("{key}: {error}"))?,
            }
        }
        Ok(missing)
    }

    fn report(&mut self, bundle: &str, unpacked: UnpackedBundle, missing: &mut Vec<String>) -> Result<(), FetchError> {
        self.target = unpacked.target;
        for Unpacked { name, key, size, placed } in unpacked.members {
            missing.retain(|file| *file != key && *file != name && *file != last_segment(&key));
            match placed {
                Ok(placed) => {
                    let already = matches!(placed, Placed::Already(_));
                    let (Placed::New(to) | Placed::Already(to)) = placed;
                    self.succeed(&FetchedCapture { key: &key, to: &to, bundle: Some(bundle), already }, size)?;
                }
                Err(error) => self.fail(format!("{bundle}, {name}: {error}"))?,
            }
        }
        match unpacked.broken {
            Some(error) => self.fail(format!("{bundle} cannot be read to its end: {error}; what came before is there")),
            None => Ok(()),
        }
    }
}
