//! `restore`: asks for archived days out of a cold class, waits for them, and brings them back.
//!
//! All state is S3's: each object says itself whether a restore was asked for, is under way or done. So the command can be
//! ended at any moment and run again, after a reboot too, and nothing is asked for or paid for twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use clap::Args;
use futures_util::StreamExt;
use indicatif::ProgressBar;
use serde::Serialize;

use super::holdings::{Order, Tally, check_room, count, fetch};
use super::{Dates, Out, Partly, is_silent, plain, size, tell};
use crate::archive;
use crate::bucket::{self, Head, Object, Refusal, RestoreAsked, Tier, Verdict, is_cold, poll_interval};
use crate::retention::Amount;
use crate::retention::prices::{self, STANDARD};
use crate::site::Site;

/// Requests at the same time.
const AT_ONCE: usize = 8;

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// As `cameras` lists it
    camera: String,
    /// Days as YYYY-MM-DD, or from one to another as YYYY-MM-DD..YYYY-MM-DD
    #[arg(required = true, value_name = "DATE")]
    dates: Vec<Dates>,
    /// How fast, and how dear
    #[arg(long, value_enum, default_value_t = Tier::Standard)]
    tier: Tier,
    /// How many days it can then be read
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Wait until all of it can be read
    #[arg(long)]
    wait: bool,
    /// Do not ask before money is spent
    #[arg(long)]
    yes: bool,
    /// Wait, then download as `get` does; several days each into a folder of their own
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// How often to look whether it is there, in milliseconds
    #[arg(long, value_name = "MILLISECONDS", hide = true)]
    poll: Option<u64>,
}

/// How far a bundle or capture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
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
    Failed,
}

/// A bundle, or a capture that lies in a cold class by itself.
#[derive(Debug, Serialize)]
struct Wanted<'a> {
    key: String,
    camera: &'a str,
    date: NaiveDate,
    size: u64,
    class: String,
    state: State,
    /// Until when it can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<DateTime<Utc>>,
    #[serde(skip)]
    is_bundle: bool,
}

/// What there is of the days that were asked for.
#[derive(Debug, Default)]
struct Found<'a> {
    wanted: Vec<Wanted<'a>>,
    /// Days of which there is anything at all.
    days: Vec<NaiveDate>,
    /// Days of which there is no bundle and nothing cold, and the captures they have.
    not_archived: BTreeMap<NaiveDate, usize>,
    /// Bytes of it all.
    bytes: u64,
}

impl Restore {
    pub(super) async fn run(self, out: &Out, site: &Site) -> anyhow::Result<()> {
        let mut found = self.find(site).await?;
        let (mut total, mut failed) = (0, self.name_what_is_not_archived(out, &found)?);
        total += failed;
        self.look(site, &mut found.wanted).await?;
        self.say_price(out, &found.wanted)?;
        if found.wanted.iter().any(|wanted| wanted.state == State::Cold) {
            if let Some(to) = &self.to {
                check_room(to, found.bytes)?;
            }
            if self.asks_first() && !confirmed()? {
                bail!("nothing was asked for");
            }
        }
        self.ask(site, &mut found.wanted).await;
        if self.wait || self.to.is_some() {
            self.wait(out, site, &mut found.wanted).await;
        }
        for wanted in &found.wanted {
            out.item(wanted, self.line(wanted))?;
        }
        total += found.wanted.len();
        failed += found.wanted.iter().filter(|wanted| matches!(wanted.state, State::Cold | State::Failed)).count();
        match &self.to {
            Some(_) => {
                let tally = self.download(out, site, &found.days).await?;
                (total, failed) = (total + tally.total, failed + tally.failed);
            }
            None => self.say_what_next(out, &found.wanted),
        }
        if failed == 0 { Ok(()) } else { Err(Partly { failed, total }.into()) }
    }

    /// Whether somebody sits there who can answer, and wants to be asked.
    fn asks_first(&self) -> bool {
        !self.yes && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    fn all_days(&self) -> BTreeSet<NaiveDate> {
        self.dates.iter().flat_map(|dates| dates.days()).collect()
    }

    /// Finds the bundles of these days, and the captures that are cold by themselves.
    async fn find(&self, site: &Site) -> anyhow::Result<Found<'_>> {
        let (days, camera) = (self.all_days(), self.camera.as_str());
        let mut shelves = match days.first() {
            Some(date) if days.len() == 1 => BTreeMap::from([(*date, archive::shelf(site, camera, *date).await?)]),
            _ => archive::shelves(site, camera).await?,
        };
        let listed = futures_util::stream::iter(days)
            .map(|date| async move { archive::list_day(site, camera, date).await.map(|loose| (date, loose)) });
        let mut listed = std::pin::pin!(listed.buffered(AT_ONCE));
        let mut found = Found::default();
        while let Some(day) = listed.next().await {
            let (date, loose) = day?;
            let bundles = shelves.remove(&date).unwrap_or_default().parts.into_values();
            let bundles: Vec<Object> = bundles.filter_map(|held| Some(held.bundle?.0)).collect();
            let number = loose.len();
            if number + bundles.len() > 0 {
                found.days.push(date);
            }
            found.bytes += loose.iter().chain(&bundles).map(|object| object.size).sum::<u64>();
            let before = found.wanted.len();
            let cold = loose.into_iter().filter(|object| is_cold(&object.storage_class));
            for (object, is_bundle) in
                bundles.into_iter().map(|bundle| (bundle, true)).chain(cold.map(|it| (it, false)))
            {
                found.wanted.push(Wanted {
                    key: object.key,
                    camera,
                    date,
                    size: object.size,
                    state: if is_cold(&object.storage_class) { State::Cold } else { State::Readable },
                    class: object.storage_class,
                    until: None,
                    is_bundle,
                });
            }
            if found.wanted.len() == before {
                found.not_archived.insert(date, number);
            }
        }
        Ok(found)
    }

    /// Names the days without an archive; answers how many of those that were named one by one hold nothing at all.
    fn name_what_is_not_archived(&self, out: &Out, found: &Found<'_>) -> anyhow::Result<usize> {
        let camera = plain(&self.camera);
        if found.days.is_empty() {
            bail!("the bucket holds nothing of {camera} on these days; `hk-aws days {camera}` lists the days it has");
        }
        let named =
            |date: &NaiveDate| self.dates.iter().any(|dates| dates.is_one_day() && dates.days().next() == Some(*date));
        let mut missing = 0;
        for (date, loose) in &found.not_archived {
            match loose {
                0 if named(date) => {
                    missing += 1;
                    tell(format_args!("{date}: the bucket holds nothing of {camera}"));
                }
                0 => out.remark(format_args!("{date}: nothing is archived")),
                loose => {
                    let captures = count(*loose, "capture");
                    out.remark(format_args!("{date}: nothing is archived; {captures} can be read as they are"));
                }
            }
        }
        Ok(missing)
    }

    /// Finds out what is under way or done already.
    async fn look(&self, site: &Site, wanted: &mut [Wanted<'_>]) -> anyhow::Result<()> {
        let cold = wanted.iter_mut().filter(|wanted| wanted.state == State::Cold);
        let looked = futures_util::stream::iter(cold).map(|wanted| async move {
            let head = site.bucket.head(&wanted.key).await;
            (wanted, head)
        });
        let mut looked = std::pin::pin!(looked.buffered(AT_ONCE));
        while let Some((wanted, head)) = looked.next().await {
            match head {
                Ok(head) => wanted.take(head),
                Err(refusal) => return Err(refusal).with_context(|| site.bucket.describe()),
            }
        }
        Ok(())
    }

    /// Says what there is, what it costs and how long it takes.
    fn say_price(&self, out: &Out, wanted: &[Wanted<'_>]) -> anyhow::Result<()> {
        for wanted in wanted.iter().filter(|wanted| wanted.state == State::Readable) {
            let (key, class) = (plain(&wanted.key), plain(&wanted.class));
            out.remark(format_args!("{key} is readable as it is, in class {class}"));
        }
        let number = |state| wanted.iter().filter(|wanted| wanted.state == state).count();
        for (state, says) in [(State::Ongoing, "under way already"), (State::Restored, "restored already")] {
            if number(state) > 0 {
                out.remark(format_args!("{} of {}: {says}", number(state), wanted.len()));
            }
        }
        let mut classes: BTreeMap<&str, Vec<&Wanted<'_>>> = BTreeMap::new();
        for wanted in wanted.iter().filter(|wanted| wanted.state == State::Cold) {
            classes.entry(&wanted.class).or_default().push(wanted);
        }
        for (class, wanted) in classes {
            let bytes = wanted.iter().map(|wanted| wanted.size).sum();
            let Some(prices::RestorePrice { price: dollars, time }) =
                prices::restore(class, self.tier, Amount { objects: wanted.len() as u64, bytes })
            else {
                bail!(
                    "S3 offers no expedited restore from {class}: take --tier standard (12 hours) or --tier bulk (48 hours)"
                );
            };
            let bundles = wanted.iter().filter(|wanted| wanted.is_bundle).count();
            let captures = wanted.len() - bundles;
            let what = match (bundles, captures) {
                (bundles, 0) => count(bundles, "bundle"),
                (0, captures) => count(captures, "capture"),
                (bundles, captures) => format!("{} and {}", count(bundles, "bundle"), count(captures, "capture")),
            };
            let (copy, days) = (
                prices::storage_month(STANDARD, bytes) * f64::from(self.days) / 30.0,
                count(self.days as usize, "day"),
            );
            let price = format!(
                "{what}, {}, out of {class}: {time}; {} for the restore and {} for the copy that can be read for {days} \
                 (AWS list prices, us-east-1, October 2025)",
                size(bytes),
                money(dollars),
                money(copy),
            );
            // Whoever is asked must know the price, however little else is to be said.
            if self.asks_first() { tell(price) } else { out.remark(price) }
        }
        Ok(())
    }

    /// Asks for what nobody has asked for.
    async fn ask(&self, site: &Site, wanted: &mut [Wanted<'_>]) {
        let waits = self.wait || self.to.is_some();
        let cold = wanted.iter_mut().filter(|wanted| wanted.state == State::Cold);
        let asked = futures_util::stream::iter(cold).map(|wanted| async move {
            let asked = site.bucket.restore(&wanted.key, self.tier, self.days).await;
            (wanted, asked)
        });
        let mut asked = std::pin::pin!(asked.buffered(AT_ONCE));
        while let Some((wanted, asked)) = asked.next().await {
            match asked {
                Ok(asked) => wanted.state = state_of(asked),
                // Asked again while it is waited for.
                Err(refusal) if waits && refusal.verdict == Verdict::TryLater => {}
                Err(refusal) => wanted.fail(&refusal),
            }
        }
    }

    /// Waits until nothing is under way any more. A failure that passes costs time only.
    async fn wait(&self, out: &Out, site: &Site, wanted: &mut [Wanted<'_>]) {
        let is_open = |wanted: &Wanted<'_>| matches!(wanted.state, State::Cold | State::Begun | State::Ongoing);
        let since = (site.clock)().steady;
        let hidden = out.json || out.quiet || !io::stderr().is_terminal();
        let bar = if hidden { ProgressBar::hidden() } else { ProgressBar::new(wanted.len() as u64) };
        let (mut said, mut trouble, mut refused) = (None, String::new(), false);
        loop {
            let (total, open) = (wanted.len(), wanted.iter().filter(|wanted| is_open(wanted)).count());
            bar.set_position((total - open) as u64);
            if said != Some(open) && total > 0 {
                said = Some(open);
                if hidden {
                    out.remark(format_args!("{} of {total} can be read", total - open));
                }
            }
            if open == 0 {
                break;
            }
            let elapsed = (site.clock)().steady.saturating_duration_since(since);
            tokio::time::sleep(self.poll.map_or_else(|| poll_interval(elapsed), Duration::from_millis)).await;
            let open = wanted.iter_mut().filter(|wanted| is_open(wanted));
            let looked = futures_util::stream::iter(open).map(|wanted| async move {
                let looked = self.look_again(site, wanted).await;
                (wanted, looked)
            });
            let mut looked = std::pin::pin!(looked.buffered(AT_ONCE));
            while let Some((wanted, looked)) = looked.next().await {
                match looked {
                    Ok(()) => {}
                    Err(refusal) if refusal.verdict == Verdict::TryLater => {
                        let why = refusal.to_string();
                        if why != trouble {
                            bar.suspend(|| out.remark(format_args!("{why}; tried again")));
                            trouble = why;
                        }
                    }
                    Err(refusal) => {
                        bar.suspend(|| wanted.fail(&refusal));
                        refused = true;
                    }
                }
            }
        }
        bar.finish_and_clear();
        if refused {
            tell("what was asked for goes on without this command: run it again to wait for it");
        }
    }

    async fn look_again(&self, site: &Site, wanted: &mut Wanted<'_>) -> Result<(), Refusal> {
        let before = wanted.state;
        wanted.take(site.bucket.head(&wanted.key).await?);
        match wanted.state {
            // The request did not come about, or it took so long that the copy is gone again.
            State::Cold => wanted.state = state_of(site.bucket.restore(&wanted.key, self.tier, self.days).await?),
            State::Ongoing => wanted.state = if before == State::Cold { State::Ongoing } else { before },
            State::Begun | State::Restored | State::Readable | State::Failed => {}
        }
        Ok(())
    }

    fn line(&self, wanted: &Wanted<'_>) -> String {
        let price = prices::restore(&wanted.class, self.tier, Amount { objects: 1, bytes: wanted.size });
        let state = match (wanted.state, wanted.until) {
            (State::Cold, _) => "not asked for".to_owned(),
            (State::Begun, _) => {
                format!("asked for: can be read in {}", price.map_or("some hours", |price| price.time))
            }
            (State::Ongoing, _) => "was asked for before, and is under way".to_owned(),
            (State::Restored, Some(until)) => {
                format!("can be read until {}", until.to_rfc3339_opts(SecondsFormat::Secs, true))
            }
            (State::Restored, None) => "can be read for now".to_owned(),
            (State::Readable, _) => "is readable as it is".to_owned(),
            (State::Failed, _) => "failed".to_owned(),
        };
        let bytes = size(wanted.size).to_string();
        format!("{}  {bytes:>10}  {}  {state}", plain(&wanted.key), plain(&wanted.class))
    }

    fn say_what_next(&self, out: &Out, wanted: &[Wanted<'_>]) {
        let camera = plain(&self.camera);
        let days: Vec<String> = self.dates.iter().map(ToString::to_string).collect();
        let days = days.join(" ");
        let open = |wanted: &Wanted<'_>| matches!(wanted.state, State::Begun | State::Ongoing);
        if wanted.iter().any(open) {
            out.remark(format_args!(
                "to wait for it and download it: `hk-aws restore {camera} {days} --to DIR`; it may be ended and run again"
            ));
        } else if wanted.iter().any(|wanted| matches!(wanted.state, State::Restored | State::Readable)) {
            out.remark(format_args!("to download it: `hk-aws get {camera} DATE --to DIR`"));
        }
    }

    /// Downloads all there is of the days.
    async fn download(&self, out: &Out, site: &Site, days: &[NaiveDate]) -> anyhow::Result<Tally> {
        let Some(folder) = &self.to else { return Ok(Tally::default()) };
        // What was typed decides, not what was found: a range has its folders even where one day is left of it.
        let several = self.all_days().len() > 1;
        let mut sum = Tally::default();
        for date in days {
            let to = if several { folder.join(date.to_string()) } else { folder.clone() };
            let order = Order { camera: &self.camera, date: *date, files: &[], to: &to };
            match fetch(out, site, order).await {
                Ok(tally) => {
                    sum.total += tally.total;
                    sum.failed += tally.failed;
                    sum.already += tally.already;
                    sum.bytes += tally.bytes;
                }
                Err(error) if is_silent(&error) => return Err(error),
                Err(error) => {
                    (sum.total, sum.failed) = (sum.total + 1, sum.failed + 1);
                    tell(format_args!("{date}: {error:#}"));
                }
            }
        }
        let already = if sum.already == 0 { String::new() } else { format!(", {} of them before", sum.already) };
        out.remark(format_args!(
            "{} of {}, {}, are whole in {}{already}",
            count(sum.total - sum.failed, "capture"),
            count(days.len(), "day"),
            size(sum.bytes),
            folder.display(),
        ));
        Ok(sum)
    }
}

impl Wanted<'_> {
    /// Takes on what the store says of it.
    fn take(&mut self, head: Option<Head>) {
        let Some(head) = head else {
            tell(format_args!("{}: it is not there any more", plain(&self.key)));
            self.state = State::Failed;
            return;
        };
        (self.state, self.until) = match head.restore {
            bucket::Restore::Warm => (State::Readable, None),
            bucket::Restore::Cold => (State::Cold, None),
            bucket::Restore::Ongoing => (State::Ongoing, None),
            bucket::Restore::Done(until) => (State::Restored, until),
        };
    }

    fn fail(&mut self, refusal: &Refusal) {
        self.state = State::Failed;
        tell(format_args!("{}: {refusal}", plain(&self.key)));
    }
}

fn state_of(asked: RestoreAsked) -> State {
    match asked {
        RestoreAsked::Begun => State::Begun,
        RestoreAsked::Ongoing => State::Ongoing,
        RestoreAsked::Done => State::Restored,
        RestoreAsked::NotCold => State::Readable,
    }
}

/// Asks whether to go ahead.
fn confirmed() -> anyhow::Result<bool> {
    let mut answer = String::new();
    write!(io::stderr(), "Go ahead? [y/N] ").context("failed to write to the terminal")?;
    io::stdin().lock().read_line(&mut answer).context("failed to read from the terminal")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Dollars, with as many digits as say something.
fn money(dollars: f64) -> String {
    if dollars <= 0.0 {
        "nothing".to_owned()
    } else if dollars < 0.01 {
        "less than $0.01".to_owned()
    } else {
        format!("${dollars:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_as_many_digits_as_say_something() {
        assert_eq!([0.0, 0.001, 1.234].map(money), ["nothing", "less than $0.01", "$1.23"]);
    }
}
