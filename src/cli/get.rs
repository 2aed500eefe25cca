//! `get`: captures of a day, downloaded.

use std::path::PathBuf;

use anyhow::bail;
use chrono::NaiveDate;
use clap::Args;
use indicatif::ProgressBar;

use super::out::{Out, Printing, count, plain, tell};
use super::times::{CameraTime, span};
use super::{CameraDay, Partly, WrongUsage};
use crate::holdings::{self, ColdHoldings, FetchError, FetchEvent, FetchOrder, Fetched, Holding, Listing, Selection};
use crate::site::Site;

#[derive(Debug, Args)]
pub(super) struct GetArgs {
    #[command(flatten)]
    day: CameraDay,
    /// Names or keys as `list` shows them; without any, the whole day
    #[arg(value_name = "FILE", conflicts_with_all = ["from", "until"])]
    files: Vec<String>,
    /// The folder to download into
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Only captures taken at or after this, at the camera: hh:mm, or YYYY-MM-DDThh:mm:ss
    #[arg(long, value_name = "T")]
    from: Option<CameraTime>,
    /// Only captures taken before this
    #[arg(long, value_name = "T")]
    until: Option<CameraTime>,
}

impl GetArgs {
    pub(super) async fn run(self, out: &Out, site: &Site) -> anyhow::Result<()> {
        let CameraDay { camera, date } = &self.day;
        let files = if self.from.is_some() || self.until.is_some() {
            self.files_in_time(out, site).await?
        } else {
            self.files.clone()
        };
        let order = FetchOrder { camera, date: *date, files: &files, to: &self.to };
        let Fetched { total, failed, already, .. } = fetch(out, site, order).await?;
        if already > 0 {
            let are = if already == 1 { "is" } else { "are" };
            out.remark(format_args!("{} {are} there already", count(already, "capture")));
        }
        if failed == 0 { Ok(()) } else { Err(Partly { failed, total }.into()) }
    }

    /// Returns the keys of the captures that were taken in the span of time.
    async fn files_in_time(&self, out: &Out, site: &Site) -> anyhow::Result<Vec<String>> {
        let CameraDay { camera, date } = &self.day;
        if let Some(time) = self.to.to_str().filter(|to| to.parse::<CameraTime>().is_ok()) {
            let mend =
                format!("write --until {time} for the end of the time, or --to ./{time} for a folder of that name");
            return Err(WrongUsage(format!("--to {time}: --to is the folder to download into; {mend}")).into());
        }
        let (from, to) = span(Some(*date), self.from, self.until)?;
        let selection = Selection { camera: camera.to_string(), date: Some(*date), event: None, from, to };
        let mut listing = Listing::begin(site, selection).await?;
        let mut files = Vec::new();
        while let Some(day) = listing.next_day().await? {
            for bundle in day.unread.iter().map(|bundle| &bundle.key).chain(&day.without_index) {
                out.remark(format_args!(
                    "{}: its captures are not among them: when they were taken is unknown",
                    plain(bundle)
                ));
            }
            let is_capture = |holding: &Holding| holding.bundle.as_ref() != Some(&holding.key);
            files.extend(day.captures.into_iter().filter(is_capture).map(|holding| holding.key));
        }
        if files.is_empty() {
            holdings::must_exist(site, camera).await?;
            bail!(
                "nothing of {camera} on {date} was taken in that time; `hk-aws list {camera} {date}` lists what there is"
            );
        }
        Ok(files)
    }
}

/// Downloads captures of a day, and prints each as it comes.
pub(super) async fn fetch(out: &Out, site: &Site, order: FetchOrder<'_>) -> anyhow::Result<Fetched> {
    let mut printing = Printing::default();
    let mut bar = ProgressBar::hidden();
    let fetched = holdings::fetch(site, order, |event| printing.go_on(print(out, &mut bar, event))).await;
    if matches!(fetched, Err(FetchError::Nothing { .. })) {
        holdings::must_exist(site, order.camera).await?;
    }
    let fetched = printing.or(fetched)?;
    bar.finish_and_clear();
    say_cold(order.camera, order.date, &fetched.cold);
    Ok(fetched)
}

fn print(out: &Out, bar: &mut ProgressBar, event: FetchEvent<'_>) -> anyhow::Result<()> {
    match event {
        FetchEvent::LeftOut(number) => {
            let captures = if number == 1 { "capture" } else { "captures" };
            out.remark(format_args!("{number} cut-off {captures} left out: the whole ones are there"));
        }
        FetchEvent::IndexUnread { bundle, error } => {
            tell(format_args!("{}: {error}; the bundle is read without it", plain(bundle)));
        }
        FetchEvent::Begins(steps) => {
            *bar = if out.hides_bars() { ProgressBar::hidden() } else { ProgressBar::new(steps as u64) };
        }
        FetchEvent::UnpacksWhole { bundle } => {
            bar.suspend(|| out.remark(format_args!("{} has no index: it is unpacked whole", plain(bundle))));
        }
        FetchEvent::Here(capture) => {
            return bar.suspend(|| out.item(capture, plain(&capture.to.to_string_lossy())));
        }
        FetchEvent::Failed(why) => bar.suspend(|| tell(plain(&why))),
        FetchEvent::StepDone => bar.inc(1),
    }
    Ok(())
}

/// Says once what must be restored first.
fn say_cold(camera: &str, date: NaiveDate, cold: &ColdHoldings) {
    if cold.is_empty() {
        return;
    }
    let ColdHoldings { captures, bundles, classes, under_way } = cold;
    let what = match (*captures, bundles.len()) {
        (0, 1) => format!("bundle {}", bundles.iter().map(|key| plain(key)).collect::<String>()),
        (0, more) => count(more, "bundle"),
        (captures, _) => count(captures, "capture"),
    };
    let camera = plain(camera);
    let classes: Vec<_> = classes.iter().map(|class| plain(class)).collect();
    let lie = if captures + bundles.len() == 1 || *captures == 1 { "lies" } else { "lie" };
    let cold = format!("{what} of {camera} on {date} {lie} in {}", classes.join(" and "));
    if *under_way {
        tell(format_args!("{cold}, and a restore is under way: `hk-aws restore {camera} {date} --wait` waits for it"));
    } else {
        tell(format_args!("{cold}: restore it first, with `hk-aws restore {camera} {date}`"));
    }
}
