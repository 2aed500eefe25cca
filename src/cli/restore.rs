//! `restore`: archived days asked for out of a cold class, waited for, and downloaded.

use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{NaiveDate, SecondsFormat};
use clap::Args;
use indicatif::ProgressBar;

use super::get::fetch;
use super::out::{Out, count, plain, size, tell};
use super::price::in_words;
use super::{Dates, Partly, is_silent};
use crate::bucket::Tier;
use crate::holdings::restore::{Progress, Restorable, Restoration, RestoreEvent, RestoreTerms, Unanswered};
use crate::holdings::{self, FetchOrder, Fetched, check_room};
use crate::key::CameraName;
use crate::retention::{Amount, prices};
use crate::site::Site;

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// As `cameras` lists it
    camera: CameraName,
    /// Days as YYYY-MM-DD, or from one to another as YYYY-MM-DD..YYYY-MM-DD
    #[arg(required = true, value_name = "DATE")]
    dates: Vec<Dates>,
    /// How fast, and how expensive
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

/// How many things were to be had, and how many could not.
#[derive(Debug, Default)]
struct RestoreSum {
    total: usize,
    failed: usize,
}

impl RestoreArgs {
    pub(super) async fn run(self, out: &Out, site: &Site) -> anyhow::Result<()> {
        let terms = RestoreTerms { tier: self.tier, days: self.days };
        let mut found = Restoration::find(site, &self.camera, &self.all_days()).await?;
        if found.days.is_empty() {
            holdings::must_exist(site, &self.camera).await?;
        }
        let missing = self.name_what_is_not_archived(out, &found)?;
        let mut sum = RestoreSum { total: missing, failed: missing };
        found.look(site, |event| say(out, &ProgressBar::hidden(), event)).await?;
        self.say_price(out, site, &found, terms).await?;
        if found.in_state(Progress::Cold).next().is_some() {
            if let Some(to) = &self.to {
                check_room(to, found.bytes)?;
            }
            if self.asks_first() && !confirmed()? {
                bail!("nothing was asked for");
            }
        }
        let waits = self.wait || self.to.is_some();
        let unanswered = if waits { Unanswered::StaysCold } else { Unanswered::Fails };
        found.ask(site, terms, unanswered, |event| say(out, &ProgressBar::hidden(), event)).await;
        if waits {
            self.wait(out, site, &mut found).await;
        }
        for object in &found.objects {
            out.item(object, self.line(object, site.bucket.is_aws().await?))?;
        }
        sum.total += found.objects.len();
        sum.failed += found.in_state(Progress::Cold).count() + found.in_state(Progress::Failed).count();
        match &self.to {
            Some(to) => self.download(out, site, to, &found.days, &mut sum).await?,
            None => self.say_what_next(out, &found),
        }
        let RestoreSum { total, failed } = sum;
        if failed == 0 { Ok(()) } else { Err(Partly { failed, total }.into()) }
    }

    /// Returns whether somebody sits there who can answer, and wants to be asked.
    fn asks_first(&self) -> bool {
        !self.yes && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    fn all_days(&self) -> BTreeSet<NaiveDate> {
        self.dates.iter().flat_map(|dates| dates.days()).collect()
    }

    /// Names the days without an archive; returns how many of those that were typed one by one hold nothing at all.
    fn name_what_is_not_archived(&self, out: &Out, found: &Restoration) -> anyhow::Result<usize> {
        let camera = plain(&self.camera);
        if found.days.is_empty() {
            bail!("the bucket holds nothing of {camera} on these days; `hk-aws days {camera}` lists the days it has");
        }
        let is_typed =
            |date: &NaiveDate| self.dates.iter().any(|dates| dates.is_one_day() && dates.days().next() == Some(*date));
        let mut missing = 0;
        for (date, loose) in &found.not_archived {
            match loose {
                0 if is_typed(date) => {
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

    /// Says what there is, what it costs and how long it takes.
    async fn say_price(&self, out: &Out, site: &Site, found: &Restoration, terms: RestoreTerms) -> anyhow::Result<()> {
        for object in found.in_state(Progress::Readable) {
            let (key, class) = (plain(&object.key), plain(&object.class));
            out.remark(format_args!("{key} is readable as it is, in class {class}"));
        }
        for (state, says) in [(Progress::Ongoing, "under way already"), (Progress::Restored, "restored already")] {
            let number = found.in_state(state).count();
            if number > 0 {
                out.remark(format_args!("{number} of {}: {says}", found.objects.len()));
            }
        }
        let is_aws = site.bucket.is_aws().await?;
        // Which tiers another store has is not known.
        let priced = if is_aws { terms } else { RestoreTerms { tier: Tier::Standard, ..terms } };
        for price in found.price(priced)? {
            let words = in_words(&price, terms, is_aws);
            // Whoever is asked must know the price, even if little else is to be said.
            if self.asks_first() { tell(words) } else { out.remark(words) }
        }
        Ok(())
    }

    async fn wait(&self, out: &Out, site: &Site, found: &mut Restoration) {
        let terms = RestoreTerms { tier: self.tier, days: self.days };
        let hidden = out.hides_bars() || !io::stderr().is_terminal();
        let bar = if hidden { ProgressBar::hidden() } else { ProgressBar::new(found.objects.len() as u64) };
        let mut refused = false;
        let poll = self.poll.map(Duration::from_millis);
        found
            .wait(site, terms, poll, |event| {
                refused |= matches!(event, RestoreEvent::Failed { .. });
                say(out, &bar, event);
            })
            .await;
        bar.finish_and_clear();
        if refused {
            tell("what was asked for goes on without this command: run it again to wait for it");
        }
    }

    fn line(&self, object: &Restorable, is_aws: bool) -> String {
        let price = prices::restore(&object.class, self.tier, Amount { objects: 1, bytes: object.size });
        let state = match (object.state, object.until) {
            (Progress::Cold, _) => "not asked for".to_owned(),
            (Progress::Begun, _) if !is_aws => "asked for".to_owned(),
            (Progress::Begun, _) => {
                format!("asked for: can be read in {}", price.map_or("some hours", |price| price.time))
            }
            (Progress::Ongoing, _) => "was asked for before, and is under way".to_owned(),
            (Progress::Restored, Some(until)) => {
                format!("can be read until {}", until.to_rfc3339_opts(SecondsFormat::Secs, true))
            }
            (Progress::Restored, None) => "can be read for now".to_owned(),
            (Progress::Readable, _) => "is readable as it is".to_owned(),
            (Progress::Failed, _) => "failed".to_owned(),
        };
        let bytes = size(object.size).to_string();
        format!("{}  {bytes:>10}  {}  {state}", plain(&object.key), plain(&object.class))
    }

    fn say_what_next(&self, out: &Out, found: &Restoration) {
        let camera = plain(&self.camera);
        let days: Vec<String> = self.dates.iter().map(ToString::to_string).collect();
        let days = days.join(" ");
        let is_any = |states: [Progress; 2]| found.objects.iter().any(|object| states.contains(&object.state));
        if is_any([Progress::Begun, Progress::Ongoing]) {
            out.remark(format_args!(
                "to wait for it and download it: `hk-aws restore {camera} {days} --to DIR`; it may be ended and run again"
            ));
        } else if is_any([Progress::Restored, Progress::Readable]) {
            out.remark(format_args!("to download it: `hk-aws get {camera} DATE --to DIR`"));
        }
    }

    /// Downloads everything that there is of the days.
    async fn download(
        &self,
        out: &Out,
        site: &Site,
        folder: &Path,
        days: &[NaiveDate],
        sum: &mut RestoreSum,
    ) -> anyhow::Result<()> {
        // What was typed decides, not what was found: a range has its folders even if one day is left of it.
        let several = self.all_days().len() > 1;
        let mut all = Fetched::default();
        for date in days {
            let to = if several { folder.join(date.to_string()) } else { folder.to_owned() };
            match fetch(out, site, FetchOrder { camera: &self.camera, date: *date, files: &[], to: &to }).await {
                Ok(fetched) => {
                    all.total += fetched.total;
                    all.failed += fetched.failed;
                    all.already += fetched.already;
                    all.bytes += fetched.bytes;
                }
                Err(error) if is_silent(&error) => return Err(error),
                Err(error) => {
                    (all.total, all.failed) = (all.total + 1, all.failed + 1);
                    tell(format_args!("{date}: {error:#}"));
                }
            }
        }
        let already = if all.already == 0 { String::new() } else { format!(", {} of them before", all.already) };
        out.remark(format_args!(
            "{} of {}, {}, are whole in {}{already}",
            count(all.total - all.failed, "capture"),
            count(days.len(), "day"),
            size(all.bytes),
            folder.display(),
        ));
        sum.total += all.total;
        sum.failed += all.failed;
        Ok(())
    }
}

/// Prints what happens while the store is asked.
fn say(out: &Out, bar: &ProgressBar, event: RestoreEvent<'_>) {
    match event {
        RestoreEvent::Settled { done, total } => {
            bar.set_position(done as u64);
            if bar.is_hidden() && total > 0 {
                out.remark(format_args!("{done} of {total} can be read"));
            }
        }
        RestoreEvent::Trouble(refusal) => bar.suspend(|| out.remark(format_args!("{refusal}; tried again"))),
        RestoreEvent::Failed { key, why } => bar.suspend(|| tell(format_args!("{}: {why}", plain(key)))),
    }
}

/// Asks whether to go ahead.
fn confirmed() -> anyhow::Result<bool> {
    let mut answer = String::new();
    write!(io::stderr(), "Go ahead? [y/N] ").context("failed to write to the terminal")?;
    io::stdin().lock().read_line(&mut answer).context("failed to read from the terminal")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
