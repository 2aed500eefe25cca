//! Archived days asked for out of a cold class, and waited for.
//!
//! All state is S3's: each object says itself whether a restore was asked for, is under way or done. So the work can end at
//! any moment and begin again, after a reboot too, and nothing is asked for or paid for twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::StreamExt;
use serde::Serialize;

use super::AT_ONCE;
use super::day::Day;
use super::error::HoldingsError;
use crate::bucket::{Object, Refusal, RestoreAsked, RestoreState, Tier, Verdict, is_cold, poll_interval};
use crate::retention::Amount;
use crate::retention::prices::{self, STANDARD};
use crate::site::Site;

/// How far a bundle or a capture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// Nobody has asked for it.
    Cold,
    /// It was asked for now.
    Begun,
    /// It was asked for before.
    Ongoing,
    /// It can be read for a while.
    Restored,
    /// It can always be read.
    Readable,
    /// It cannot be had; the events say why.
    Failed,
}

/// A bundle, or a capture that lies in a cold class by itself.
#[derive(Debug, Clone, Serialize)]
pub struct Restorable {
    /// Its key.
    pub key: String,
    /// The camera's segment.
    pub camera: String,
    /// The day, at the camera.
    pub date: NaiveDate,
    /// Its size in bytes.
    pub size: u64,
    /// Its storage class.
    pub class: String,
    /// How far it is.
    pub state: Progress,
    /// Until when it can be read, if it was restored and the store tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Whether it is a bundle.
    #[serde(skip)]
    pub is_bundle: bool,
}

/// What there is of the days that somebody wants back.
#[derive(Debug, Default)]
pub struct Restoration {
    /// Bundles, and captures that are cold by themselves.
    pub objects: Vec<Restorable>,
    /// The days that have anything at all.
    pub days: Vec<NaiveDate>,
    /// The days without a bundle and without anything cold, with the number of captures that they have.
    pub not_archived: BTreeMap<NaiveDate, usize>,
    /// The bytes of all of it.
    pub bytes: u64,
}

/// How to restore.
#[derive(Debug, Clone, Copy)]
pub struct RestoreTerms {
    /// How fast, and how expensive.
    pub tier: Tier,
    /// For how many days it can then be read.
    pub days: u32,
}

/// What the objects of one class cost that nobody has asked for yet, by list prices.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassPrice {
    /// The storage class.
    pub class: String,
    /// How many bundles.
    pub bundles: usize,
    /// How many captures that are cold by themselves.
    pub captures: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Dollars for the restore.
    pub restore: f64,
    /// Dollars for the copy that can then be read.
    pub copy: f64,
    /// How long it takes, for people.
    pub time: &'static str,
}

/// A tier that a class does not offer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("S3 offers no expedited restore from {class}: take --tier standard (12 hours) or --tier bulk (48 hours)")]
pub struct NoSuchTier {
    /// The class.
    pub class: String,
}

/// What happens while a restore is asked for or waited for.
#[derive(Debug)]
pub enum RestoreEvent<'a> {
    /// This many of all can be read.
    Settled {
        /// How many.
        done: usize,
        /// Of how many.
        total: usize,
    },
    /// The store cannot be asked for now; it is tried again.
    Trouble(&'a Refusal),
    /// An object cannot be had: its key, and why.
    Failed {
        /// The object.
        key: &'a str,
        /// Why.
        why: String,
    },
}

impl Restoration {
    /// Finds the bundles of these days, and the captures that are cold by themselves.
    ///
    /// # Errors
    /// [`HoldingsError::Refused`] if the days cannot be listed.
    pub async fn find(site: &Site, camera: &str, dates: &BTreeSet<NaiveDate>) -> Result<Self, HoldingsError> {
        let mut found = Self::default();
        for (date, Day { loose, archive }) in Day::look_at_all(site, camera, dates).await? {
            let bundles = archive.parts.into_values().flat_map(|part| part.bundles).map(|bundle| bundle.object);
            let bundles: Vec<Object> = bundles.collect();
            let captures = loose.len();
            if captures + bundles.len() > 0 {
                found.days.push(date);
            }
            found.bytes += loose.iter().chain(&bundles).map(|object| object.size).sum::<u64>();
            let cold = loose.into_iter().filter(|object| is_cold(&object.storage_class));
            let before = found.objects.len();
            let wanted = bundles.into_iter().map(|bundle| (bundle, true)).chain(cold.map(|capture| (capture, false)));
            let restorable = |(object, is_bundle)| Restorable { is_bundle, ..Restorable::of(camera, date, object) };
            found.objects.extend(wanted.map(restorable));
            if found.objects.len() == before {
                found.not_archived.insert(date, captures);
            }
        }
        Ok(found)
    }

    /// Finds out what is under way or done already, and what can be read although its class is a cold one.
    ///
    /// # Errors
    /// [`HoldingsError::Refused`] if the store cannot be asked.
    pub async fn look(
        &mut self,
        site: &Site,
        mut tell: impl FnMut(RestoreEvent<'_>) + Send,
    ) -> Result<(), HoldingsError> {
        let cold = self.objects.iter_mut().filter(|object| object.state == Progress::Cold);
        let looked = futures_util::stream::iter(cold).map(|object| async move {
            let state = site.bucket.restore_state(&object.key).await;
            (object, state)
        });
        let mut looked = std::pin::pin!(looked.buffered(AT_ONCE));
        while let Some((object, state)) = looked.next().await {
            let state = state.map_err(|refusal| HoldingsError::from(refusal).about(site.bucket.describe()))?;
            match state {
                Some(state) => (object.state, object.until) = progress(&state),
                None => object.fail(GONE.to_owned(), &mut tell),
            }
        }
        Ok(())
    }

    /// Returns what a restore of everything costs that nobody has asked for yet, by class.
    ///
    /// # Errors
    /// [`NoSuchTier`] if a class does not offer the tier: nothing should be asked for then.
    pub fn price(&self, terms: RestoreTerms) -> Result<Vec<ClassPrice>, NoSuchTier> {
        let mut classes: BTreeMap<&str, Vec<&Restorable>> = BTreeMap::new();
        for object in self.in_state(Progress::Cold) {
            classes.entry(&object.class).or_default().push(object);
        }
        let price = |(class, objects): (&str, Vec<&Restorable>)| {
            let bytes = objects.iter().map(|object| object.size).sum();
            let Some(price) = prices::restore(class, terms.tier, Amount { objects: objects.len() as u64, bytes })
            else {
                return Err(NoSuchTier { class: class.to_owned() });
            };
            let bundles = objects.iter().filter(|object| object.is_bundle).count();
            Ok(ClassPrice {
                class: class.to_owned(),
                bundles,
                captures: objects.len() - bundles,
                bytes,
                restore: price.price,
                copy: prices::storage_month(STANDARD, bytes) * f64::from(terms.days) / 30.0,
                time: price.time,
            })
        };
        classes.into_iter().map(price).collect()
    }

    /// Returns the objects that are in one state.
    pub fn in_state(&self, state: Progress) -> impl Iterator<Item = &Restorable> {
        self.objects.iter().filter(move |object| object.state == state)
    }

    /// Asks for everything that nobody has asked for; `unanswered` says what becomes of a request that may succeed later.
    pub async fn ask(
        &mut self,
        site: &Site,
        terms: RestoreTerms,
        unanswered: Unanswered,
        mut tell: impl FnMut(RestoreEvent<'_>) + Send,
    ) {
        let cold = self.objects.iter_mut().filter(|object| object.state == Progress::Cold);
        let asked = futures_util::stream::iter(cold).map(|object| async move {
            let asked = site.bucket.restore(&object.key, terms.tier, terms.days).await;
            (object, asked)
        });
        let mut asked = std::pin::pin!(asked.buffered(AT_ONCE));
        while let Some((object, asked)) = asked.next().await {
            match asked {
                Ok(asked) => object.state = asked.into(),
                Err(refusal) if unanswered == Unanswered::StaysCold && refusal.verdict == Verdict::TryLater => {}
                Err(refusal) => object.fail(refusal.to_string(), &mut tell),
            }
        }
    }

    /// Waits until nothing is under way any more. A failure that passes costs time only. `poll` is how often to look;
    /// `None`: ever more rarely as the wait goes on.
    pub async fn wait(
        &mut self,
        site: &Site,
        terms: RestoreTerms,
        poll: Option<Duration>,
        mut tell: impl FnMut(RestoreEvent<'_>) + Send,
    ) {
        let since = (site.clock)().steady;
        let (mut told, mut trouble) = (None, String::new());
        loop {
            let total = self.objects.len();
            let done = self.objects.iter().filter(|object| object.is_readable()).count();
            if told.replace(done) != Some(done) {
                tell(RestoreEvent::Settled { done, total });
            }
            if !self.objects.iter().any(Restorable::is_open) {
                return;
            }
            let elapsed = (site.clock)().steady.saturating_duration_since(since);
            tokio::time::sleep(poll.unwrap_or_else(|| poll_interval(elapsed))).await;
            let open = self.objects.iter_mut().filter(|object| object.is_open());
            let looked = futures_util::stream::iter(open).map(|object| async move {
                let looked = look_again(site, object, terms).await;
                (object, looked)
            });
            let mut looked = std::pin::pin!(looked.buffered(AT_ONCE));
            while let Some((object, looked)) = looked.next().await {
                match looked {
                    Ok(Some((state, until))) => (object.state, object.until) = (state, until),
                    Ok(None) => object.fail(GONE.to_owned(), &mut tell),
                    Err(refusal) if refusal.verdict == Verdict::TryLater => {
                        let why = refusal.to_string();
                        if why != trouble {
                            tell(RestoreEvent::Trouble(&refusal));
                            trouble = why;
                        }
                    }
                    Err(refusal) => object.fail(refusal.to_string(), &mut tell),
                }
            }
        }
    }
}

/// What becomes of a request to restore that the store cannot answer now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// The object stays cold: whoever waits asks again.
    StaysCold,
    /// The object counts as failed: nobody waits.
    Fails,
}

const GONE: &str = "it is not there any more";

/// Looks at one object again, and asks for it again if nobody has; returns `None` if the object is gone.
async fn look_again(
    site: &Site,
    object: &Restorable,
    terms: RestoreTerms,
) -> Result<Option<(Progress, Option<DateTime<Utc>>)>, Refusal> {
    let Some(state) = site.bucket.restore_state(&object.key).await? else { return Ok(None) };
    let (state, until) = progress(&state);
    let state = match state {
        // The request did not come about, or the wait was so long that the copy is gone again.
        Progress::Cold => site.bucket.restore(&object.key, terms.tier, terms.days).await?.into(),
        // It is still what it was: asked for now, or before.
        Progress::Ongoing if object.state != Progress::Cold => object.state,
        other => other,
    };
    Ok(Some((state, until)))
}

fn progress(state: &RestoreState) -> (Progress, Option<DateTime<Utc>>) {
    match state {
        RestoreState::Warm => (Progress::Readable, None),
        RestoreState::Cold => (Progress::Cold, None),
        RestoreState::Ongoing => (Progress::Ongoing, None),
        RestoreState::Done(until) => (Progress::Restored, *until),
    }
}

impl Restorable {
    fn of(camera: &str, date: NaiveDate, object: Object) -> Self {
        Self {
            key: object.key,
            camera: camera.to_owned(),
            date,
            size: object.size,
            state: if is_cold(&object.storage_class) { Progress::Cold } else { Progress::Readable },
            class: object.storage_class.into_owned(),
            until: None,
            is_bundle: false,
        }
    }

    /// Returns whether it is still to be waited for.
    fn is_open(&self) -> bool {
        matches!(self.state, Progress::Cold | Progress::Begun | Progress::Ongoing)
    }

    fn is_readable(&self) -> bool {
        matches!(self.state, Progress::Restored | Progress::Readable)
    }

    fn fail(&mut self, why: String, tell: &mut impl FnMut(RestoreEvent<'_>)) {
        self.state = Progress::Failed;
        tell(RestoreEvent::Failed { key: &self.key, why });
    }
}

impl From<RestoreAsked> for Progress {
    fn from(asked: RestoreAsked) -> Self {
        match asked {
            RestoreAsked::Begun => Self::Begun,
            RestoreAsked::Ongoing => Self::Ongoing,
            RestoreAsked::NotCold => Self::Readable,
        }
    }
}
