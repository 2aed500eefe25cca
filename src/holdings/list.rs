//! Captures in the bucket, loose ones and those in bundles, day by day in the order in which they were taken.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use serde::Serialize;

use super::contents::{Contents, OpenedBundle, open_bundles};
use super::day::{self, DayArchive};
use super::loose::{Found, LooseStream, MOST_HELD};
use super::{HoldingsError, IndexError, Misfits, ObjectIdentity, file_of, last_segment, leave_out_superseded};
use crate::bucket::Object;
use crate::bundle::Member;
use crate::capture;
use crate::key::{self, KeyParts, Variant};
use crate::ledger;
use crate::site::Site;

/// Which captures to list.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The camera's segment.
    pub camera: String,
    /// The day, at the camera; `None`: every day.
    pub date: Option<NaiveDate>,
    /// The event word; `None`: any, and none.
    pub event: Option<String>,
    /// Only captures taken at or after this, at the camera.
    pub from: Option<NaiveDateTime>,
    /// Only captures taken before this, at the camera.
    pub to: Option<NaiveDateTime>,
}

/// A capture in the bucket, or a bundle whose members nobody can tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holding {
    /// The key that it has, or had before it went into a bundle.
    pub key: String,
    /// The last segment of the key.
    pub file: String,
    /// The camera's segment.
    pub camera: String,
    /// The day, at the camera.
    pub date: NaiveDate,
    /// When it was taken, if that is known.
    pub taken_at: Option<DateTime<FixedOffset>>,
    /// The event word.
    pub event: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// The storage class of the object, or of the bundle.
    pub storage_class: Cow<'static, str>,
    /// Whether it is what came of a capture that was cut off.
    pub partial: bool,
    /// When the store took it; of a bundle without an index, when it took the bundle.
    #[serde(skip)]
    pub stored_at: DateTime<Utc>,
    /// The bundle that it is in; its own key for a bundle without an index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
}

/// What was found of one day.
#[derive(Debug, Default)]
pub struct ListedDay {
    /// The captures, in the order in which they were taken.
    pub captures: Vec<Holding>,
    /// Keys of bundles without an index.
    pub without_index: Vec<String>,
    /// Bundles whose members are not listed, because their index cannot be used.
    pub unread: Vec<UnreadBundle>,
}

/// A bundle whose index cannot be used.
#[derive(Debug)]
pub struct UnreadBundle {
    /// The key of the bundle.
    pub key: String,
    /// Why.
    pub error: IndexError,
}

/// A listing under way; it gives one day after the other. Where keys are in the order of days, it holds one day in memory,
/// otherwise 50,000 captures.
pub struct Listing<'a> {
    site: &'a Site,
    selection: Selection,
    stream: LooseStream<'a>,
    ended: bool,
    /// The archive, without days that are not selected.
    archives: BTreeMap<NaiveDate, DayArchive>,
    /// The keys of the bundles that were there at the beginning, of a listing of more than one day.
    bundles: BTreeSet<String>,
    /// What was found loose and not given out yet.
    loose: BTreeMap<NaiveDate, Vec<LooseCapture>>,
    /// How many captures came by that are listed.
    held: usize,
}

/// A loose capture, and what tells whether a bundle has the same.
struct LooseCapture {
    holding: Holding,
    identity: ObjectIdentity,
}

impl std::fmt::Debug for Listing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listing").field("selection", &self.selection).finish_non_exhaustive()
    }
}

impl Selection {
    fn takes(&self, holding: &Holding) -> bool {
        // A capture of which only the day is known counts as one of the day's end.
        let end_of_day = NaiveTime::from_hms_opt(23, 59, 59).unwrap_or_default();
        let taken = holding.taken_at.map_or_else(|| holding.date.and_time(end_of_day), |taken| taken.naive_local());
        self.takes_at_any_time(holding)
            && self.from.is_none_or(|from| taken >= from)
            && self.to.is_none_or(|to| taken < to)
    }

    fn takes_at_any_time(&self, holding: &Holding) -> bool {
        holding.camera == self.camera
            && self.date.is_none_or(|date| date == holding.date)
            && (self.event.is_none() || self.event == holding.event)
    }

    /// Returns whether captures of a day can be among those that are selected.
    fn may_take(&self, date: NaiveDate) -> bool {
        self.date.is_none_or(|selected| selected == date)
            && self.from.is_none_or(|from| date >= from.date())
            && self.to.is_none_or(|to| date.and_time(NaiveTime::MIN) < to)
    }
}

impl<'a> Listing<'a> {
    /// Begins a listing: of one day, looks at its loose captures and then at its archive, so that what a rotation moves
    /// meanwhile is seen in one of the two; of more days, looks at the archive, and at the loose captures as they are asked
    /// for.
    ///
    /// # Errors
    /// [`HoldingsError::Refused`] if the bucket cannot be listed.
    pub async fn begin(site: &'a Site, selection: Selection) -> Result<Self, HoldingsError> {
        // While the first answer is under way.
        let _prepared = tokio::task::spawn_blocking(capture::naming::prepare);
        let stream = LooseStream::begin(site, &selection.camera, selection.date);
        let (archives, bundles, loose) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let mut listing = Self { site, selection, stream, ended: false, archives, bundles, loose, held: 0 };
        while listing.selection.date.is_some() && !listing.ended {
            listing.read_on().await?;
        }
        listing.archives = listing.archives_now().await?;
        listing.bundles = bundles_of(&listing.archives);
        Ok(listing)
    }

    /// Looks at the archive of the days that are selected and have a bundle.
    async fn archives_now(&self) -> Result<BTreeMap<NaiveDate, DayArchive>, HoldingsError> {
        let mut archives = match self.selection.date {
            Some(date) => BTreeMap::from([(date, day::archive(self.site, &self.selection.camera, date).await?)]),
            None => day::archives(self.site, &self.selection.camera).await?,
        };
        archives.retain(|date, archive| self.selection.may_take(*date) && archive.has_bundle());
        Ok(archives)
    }

    /// Returns the next day on which there is something; `None` after the last one.
    ///
    /// # Errors
    /// [`HoldingsError::Refused`] if the loose captures cannot be listed further, [`HoldingsError::Local`] if too many
    /// would have to be held to put them in the order of days, or if a rotation has bundled some meanwhile: the listing is
    /// not complete then.
    pub async fn next_day(&mut self) -> Result<Option<ListedDay>, HoldingsError> {
        loop {
            if let Some(date) = self.complete_day() {
                let loose = self.loose.remove(&date).unwrap_or_default();
                let archive = self.archives.remove(&date).unwrap_or_default();
                return Ok(Some(self.merge(date, loose, archive).await));
            }
            if self.ended {
                return Ok(None);
            }
            self.read_on().await?;
            if self.ended {
                self.expect_the_same_bundles().await?;
            }
        }
    }

    /// Takes what the stream gives next.
    async fn read_on(&mut self) -> Result<(), HoldingsError> {
        match self.stream.next().await? {
            Some(Found::Loose(parts, object)) => self.see(parts, object)?,
            Some(Found::Archived(..)) => {}
            None => self.ended = true,
        }
        Ok(())
    }

    /// Looks at the archive again: what went into a new bundle may have been seen nowhere.
    async fn expect_the_same_bundles(&self) -> Result<(), HoldingsError> {
        let now = bundles_of(&self.archives_now().await?);
        match now.difference(&self.bundles).next() {
            None => Ok(()),
            Some(new) => Err(HoldingsError::Local(format!(
                "captures went into {new} while they were listed, so that some may be missing: begin again"
            ))),
        }
    }

    /// Returns the first day that nothing can be added to any more.
    fn complete_day(&self) -> Option<NaiveDate> {
        let first = self.loose.keys().next().into_iter().chain(self.archives.keys().next()).min().copied()?;
        (self.ended || self.stream.is_complete(first)).then_some(first)
    }

    /// Returns the objects among those that were listed that fit no layout.
    pub fn misfits(&self) -> &Misfits {
        &self.stream.misfits
    }

    /// Takes a loose capture.
    fn see(&mut self, parts: KeyParts, object: Object) -> Result<(), HoldingsError> {
        let identity = ObjectIdentity::of(&object);
        let holding = of_object(self.site, parts, object);
        // Even if it is not selected itself, it stands for the same capture in a bundle.
        // The ledger may know its time better than its name tells it.
        let is_selected = self.selection.may_take(holding.date) && self.selection.takes_at_any_time(&holding);
        let may_be_bundled = self.selection.date == Some(holding.date) || self.archives.contains_key(&holding.date);
        if may_be_bundled || is_selected {
            self.loose.entry(holding.date).or_default().push(LooseCapture { holding, identity });
            self.held += 1;
        }
        // A day alone is held whatever its size, as by any layout.
        let is_held_whole = self.stream.is_in_no_order() && self.selection.date.is_none();
        if !is_held_whole || self.held <= MOST_HELD {
            return Ok(());
        }
        let camera = &self.selection.camera;
        Err(HoldingsError::Local(format!(
            "by their keys the captures of {camera} are in no order of days, and more than {MOST_HELD} captures cannot be \
             sorted in memory: name a day, one of those that `hk-aws days {camera}` lists, or narrow the list with \
             --from, --to or --event"
        )))
    }

    /// Returns what is selected of a day, each capture once.
    async fn merge(&self, date: NaiveDate, loose: Vec<LooseCapture>, archive: DayArchive) -> ListedDay {
        let mut seen: HashSet<ObjectIdentity> = loose.iter().map(|loose| loose.identity.clone()).collect();
        let mut day = ListedDay::default();
        day.captures.extend(loose.into_iter().map(|loose| loose.holding));
        let path = ledger::path(&self.site.ledger(), &self.selection.camera, date);
        let keys = day.captures.iter().map(|holding| holding.key.clone()).collect();
        // Both take a while, the one here and the other on its way.
        let times = tokio::task::spawn_blocking(move || times_of(&path, keys));
        let bundles = open_bundles(self.site, archive).await;
        let times = times.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        for (place, taken_at) in times {
            day.captures[place].taken_at = Some(taken_at);
        }
        for OpenedBundle { bundle, contents } in bundles {
            let bundle = bundle.object;
            match contents {
                Contents::Indexed(index) => {
                    let new =
                        index.members.into_iter().filter(|member| seen.insert(ObjectIdentity::of_note(&member.note)));
                    day.captures
                        .extend(new.map(|member| of_member(self.site, &index.part.camera, date, member, &bundle)));
                }
                Contents::NoIndex => {
                    day.without_index.push(bundle.key.clone());
                    if self.selection.event.is_none() {
                        day.captures.push(of_bundle(&self.selection.camera, date, bundle));
                    }
                }
                Contents::Unread(error) => day.unread.push(UnreadBundle { key: bundle.key, error }),
            }
        }
        // The day of a bundle without an index was selected before; when its members were taken nobody knows.
        day.captures.retain(|holding| holding.bundle.as_ref() == Some(&holding.key) || self.selection.takes(holding));
        leave_out_superseded(&mut day.captures, |holding| (&holding.key, holding.stored_at));
        // The names of some vendors sort by device first.
        day.captures.sort_by(|a, b| (a.order(), &a.key).cmp(&(b.order(), &b.key)));
        day
    }
}

impl Holding {
    /// Returns its place in a day: by its time, or at the end if that is not known. A bundle that nobody can look into
    /// comes first.
    fn order(&self) -> (bool, Option<DateTime<FixedOffset>>) {
        let is_bundle = self.bundle.as_ref() == Some(&self.key);
        (self.taken_at.is_none() && !is_bundle, self.taken_at)
    }
}

/// Returns the keys of all bundles.
fn bundles_of(archives: &BTreeMap<NaiveDate, DayArchive>) -> BTreeSet<String> {
    let parts = archives.values().flat_map(|archive| archive.parts.values());
    parts.flat_map(|part| &part.bundles).map(|bundle| bundle.object.key.clone()).collect()
}

/// Returns the times by which captures were filed, where the ledger of this box has them, each with its place in `keys`.
fn times_of(ledger: &Path, keys: Vec<String>) -> Vec<(usize, DateTime<FixedOffset>)> {
    let Ok(times) = ledger::times(ledger) else { return Vec::new() };
    let mut places: HashMap<String, usize> = keys.into_iter().enumerate().map(|(place, key)| (key, place)).collect();
    let mut known = Vec::new();
    for (key, taken_at) in times {
        // Of a day that is bundled nothing is asked for, or not much.
        if places.is_empty() {
            break;
        }
        if let Some(place) = places.remove(&key).filter(|_| !capture::tells_day_alone(&key)) {
            known.push((place, taken_at));
        }
    }
    known
}

fn is_partial(key: &str) -> bool {
    matches!(key::read_variant(key), Some((_, Variant::Partial)))
}

fn of_object(site: &Site, parts: KeyParts, object: Object) -> Holding {
    let named = capture::read_stored(&parts.camera, &parts.file, &site.config);
    Holding {
        partial: is_partial(&object.key),
        key: object.key,
        file: parts.file,
        camera: parts.camera.into(),
        date: parts.date,
        taken_at: named.taken,
        event: named.event,
        size: object.size,
        storage_class: object.storage_class,
        stored_at: object.stored_at,
        bundle: None,
    }
}

fn of_member(site: &Site, camera: &str, date: NaiveDate, member: Member, bundle: &Object) -> Holding {
    let key = member.note.key;
    Holding {
        partial: is_partial(&key),
        file: file_of(site, &key),
        key,
        camera: camera.to_owned(),
        date,
        taken_at: member.note.taken_at,
        event: member.note.event,
        size: member.note.size,
        storage_class: bundle.storage_class.clone(),
        stored_at: member.note.stored_at,
        bundle: Some(bundle.key.clone()),
    }
}

/// A bundle as a whole, where nobody can tell what is in it.
fn of_bundle(camera: &str, date: NaiveDate, bundle: Object) -> Holding {
    Holding {
        file: last_segment(&bundle.key).to_owned(),
        bundle: Some(bundle.key.clone()),
        key: bundle.key,
        camera: camera.to_owned(),
        date,
        taken_at: None,
        event: None,
        size: bundle.size,
        storage_class: bundle.storage_class,
        stored_at: bundle.stored_at,
        partial: false,
    }
}
