//! `list`: captures, day by day, in the order in which they were taken.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime};
use clap::Args;
use serde::Serialize;

use super::{
    Bundle, Captures, Content, Identity, Out, Partly, has_bundle, last_segment, leave_out_superseded, open, parse_date,
    plain, size, tell,
};
use crate::archive::{self, Index, Member, Shelf};
use crate::bucket::Object;
use crate::capture;
use crate::key::{self, KeyParts, Variant};
use crate::site::Site;

#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    /// As `cameras` lists it
    camera: String,
    /// YYYY-MM-DD, at the camera; without it, every day
    #[arg(value_parser = parse_date)]
    date: Option<NaiveDate>,
    /// Only this event, as `list` spells it
    #[arg(long)]
    event: Option<String>,
    /// Only captures taken at or after this: YYYY-MM-DD or YYYY-MM-DDThh:mm:ss, at the camera
    #[arg(long, value_name = "T", value_parser = parse_time)]
    from: Option<NaiveDateTime>,
    /// Only captures taken before this
    #[arg(long, value_name = "T", value_parser = parse_time)]
    to: Option<NaiveDateTime>,
}

#[derive(Debug, Serialize)]
struct Holding {
    key: String,
    file: String,
    camera: String,
    date: NaiveDate,
    taken_at: Option<DateTime<FixedOffset>>,
    event: Option<String>,
    size: u64,
    storage_class: String,
    partial: bool,
    /// The bundle it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<String>,
}

/// A listing under way: what was found and not printed yet is kept by day.
struct Listing<'a> {
    list: &'a List,
    out: &'a Out,
    site: &'a Site,
    /// The archive, of which only the days that are wanted.
    shelves: BTreeMap<NaiveDate, Shelf>,
    loose: BTreeMap<NaiveDate, Vec<(Holding, String)>>,
    shown: usize,
    unread: usize,
    without_index: Vec<String>,
}

impl List {
    pub(in crate::cli) async fn run(self, out: &Out, site: &Site) -> anyhow::Result<()> {
        let mut shelves = match self.date {
            Some(date) => BTreeMap::from([(date, archive::shelf(site, &self.camera, date).await?)]),
            None => archive::shelves(site, &self.camera).await?,
        };
        shelves.retain(|date, shelf| self.wants_day(*date) && has_bundle(shelf));
        let prefix = match self.date {
            Some(date) => site.layout.day_prefix(&self.camera, date),
            None => site.layout.camera_prefix(&self.camera),
        };
        let mut captures = Captures::below(site, prefix);
        let mut listing = Listing {
            list: &self,
            out,
            site,
            shelves,
            loose: BTreeMap::new(),
            shown: 0,
            unread: 0,
            without_index: Vec::new(),
        };
        while let Some(page) = captures.next().await? {
            for (parts, object) in page {
                listing.see(parts, object).await?;
            }
        }
        listing.print_days(None).await?;
        listing.end()
    }

    fn wants(&self, holding: &Holding) -> bool {
        let taken = holding.taken_at.map_or_else(|| holding.date.and_time(NaiveTime::MIN), |taken| taken.naive_local());
        holding.camera == self.camera
            && self.date.is_none_or(|date| date == holding.date)
            && (self.event.is_none() || self.event == holding.event)
            && self.from.is_none_or(|from| taken >= from)
            && self.to.is_none_or(|to| taken < to)
    }

    /// Whether captures of a day can be wanted at all.
    fn wants_day(&self, date: NaiveDate) -> bool {
        self.date.is_none_or(|wanted| wanted == date)
            && self.from.is_none_or(|from| date >= from.date())
            && self.to.is_none_or(|to| date.and_time(NaiveTime::MIN) < to)
    }
}

impl Listing<'_> {
    /// Takes a loose capture.
    async fn see(&mut self, parts: KeyParts, object: Object) -> anyhow::Result<()> {
        // Keys come day by day: no more than a day is held, however many years the bucket has.
        if self.site.layout.has_date_folders() {
            self.print_days(Some(parts.date)).await?;
        }
        let etag = object.etag.clone();
        let holding = loose(self.site, parts, object);
        // Whatever is wanted of it, it stands for what a bundle has of it.
        if self.shelves.contains_key(&holding.date) && holding.camera == self.list.camera || self.list.wants(&holding) {
            self.loose.entry(holding.date).or_default().push((holding, etag));
        }
        Ok(())
    }

    /// Prints all days, or those before one.
    async fn print_days(&mut self, before: Option<NaiveDate>) -> anyhow::Result<()> {
        let first = |this: &Self| {
            let dates = this.loose.keys().next().into_iter().chain(this.shelves.keys().next());
            dates.min().copied().filter(|date| before.is_none_or(|before| *date < before))
        };
        while let Some(date) = first(self) {
            let loose = self.loose.remove(&date).unwrap_or_default();
            let found = match self.shelves.remove(&date) {
                Some(archived) => self.merge(date, loose, archived).await,
                None => loose.into_iter().map(|(holding, _)| holding).collect(),
            };
            self.shown += print(self.out, found)?;
        }
        Ok(())
    }

    /// All that is wanted of a day, once each.
    async fn merge(&mut self, date: NaiveDate, loose: Vec<(Holding, String)>, archived: Shelf) -> Vec<Holding> {
        let identity = |(holding, etag): &(Holding, String)| (holding.key.clone(), holding.size, etag.clone());
        let mut seen: HashSet<Identity> = loose.iter().map(identity).collect();
        let mut found: Vec<Holding> = loose.into_iter().map(|(holding, _)| holding).collect();
        for Bundle { object, content, .. } in open(self.site, archived).await {
            match content {
                Content::Known(index) => {
                    let Index { part, members, .. } = index;
                    for member in members {
                        if seen.insert((member.note.key.clone(), member.note.size, member.note.etag.clone())) {
                            found.push(bundled(self.site, &part.camera, date, member, &object));
                        }
                    }
                }
                Content::NoIndex => {
                    self.without_index.push(object.key.clone());
                    if self.list.event.is_none() {
                        found.push(whole(&self.list.camera, date, object));
                    }
                }
                Content::Unread(error) => {
                    self.unread += 1;
                    tell(format_args!("{}: {error:#}; what is in it is not listed", plain(&object.key)));
                }
            }
        }
        // The day of a bundle was looked at before; when its members were taken nobody knows.
        found.retain(|holding| holding.bundle.as_ref() == Some(&holding.key) || self.list.wants(holding));
        found
    }

    fn end(self) -> anyhow::Result<()> {
        let camera = plain(&self.list.camera);
        if let [first, more @ ..] = &*self.without_index {
            let (first, has) = (plain(first), if more.is_empty() { "has" } else { "have" });
            let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
            self.out.remark(format_args!(
                "{first}{more} {has} no index: what is in it nobody can tell, and `hk-aws get {camera} DATE` unpacks it whole"
            ));
        }
        if self.unread > 0 {
            return Err(Partly { failed: self.unread, total: self.unread + self.shown }.into());
        }
        if self.shown == 0 && self.without_index.is_empty() {
            self.out
                .remark(format_args!("nothing found; `hk-aws cameras` and `hk-aws days {camera}` list what there is"));
        }
        Ok(())
    }
}

/// Prints captures of whole days in the order in which they were taken: a vendor's names sort by device first. Answers
/// how many.
fn print(out: &Out, mut found: Vec<Holding>) -> anyhow::Result<usize> {
    leave_out_superseded(&mut found, |holding| &holding.key);
    found.sort_by(|a, b| (a.taken_at, &a.key).cmp(&(b.taken_at, &b.key)));
    for holding in &found {
        let taken = holding.taken_at.map_or_else(|| holding.date.to_string(), |taken| taken.to_rfc3339());
        let event = plain(holding.event.as_deref().unwrap_or("-"));
        let bytes = size(holding.size).to_string();
        let mark = if holding.partial { "  partial" } else { "" };
        let place = match &holding.bundle {
            Some(bundle) if *bundle != holding.key => {
                format!("  in {}, {}", plain(last_segment(bundle)), plain(&holding.storage_class))
            }
            Some(_) => format!("  no index, {}", plain(&holding.storage_class)),
            None => String::new(),
        };
        out.item(holding, format_args!("{taken:<29}  {bytes:>10}  {event:<24}  {}{mark}{place}", plain(&holding.key)))?;
    }
    Ok(found.len())
}

fn is_partial(key: &str) -> bool {
    matches!(key::read_variant(key), Some((_, Variant::Partial)))
}

fn loose(site: &Site, parts: KeyParts, object: Object) -> Holding {
    let named = capture::read_stored(&parts.camera, &parts.file, &site.config);
    Holding {
        partial: is_partial(&object.key),
        key: object.key,
        file: parts.file,
        camera: parts.camera,
        date: parts.date,
        taken_at: named.taken,
        event: named.event,
        size: object.size,
        storage_class: object.storage_class,
        bundle: None,
    }
}

fn bundled(site: &Site, camera: &str, date: NaiveDate, member: Member, bundle: &Object) -> Holding {
    let key = member.note.key;
    let file = site.layout.parse(&key).map_or_else(|| last_segment(&key).to_owned(), |parts| parts.file);
    Holding {
        partial: is_partial(&key),
        key,
        file,
        camera: camera.to_owned(),
        date,
        taken_at: member.note.taken_at,
        event: member.note.event,
        size: member.note.size,
        storage_class: bundle.storage_class.clone(),
        bundle: Some(bundle.key.clone()),
    }
}

/// A bundle as it is, where nobody can tell what is in it.
fn whole(camera: &str, date: NaiveDate, bundle: Object) -> Holding {
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
        partial: false,
    }
}

fn parse_time(text: &str) -> Result<NaiveDateTime, String> {
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(date.and_time(NaiveTime::MIN));
    }
    ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .ok_or_else(|| "neither YYYY-MM-DD nor YYYY-MM-DDThh:mm:ss".to_owned())
}
