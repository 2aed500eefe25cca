//! `rotate`, `archive`: what is due, what it costs, and doing it.

use anyhow::bail;
use chrono::NaiveDate;
use clap::Args;
use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

use super::out::{Out, plain, print_line, size, tell};
use super::{Dates, Partly, Waiting};
use crate::key::CameraName;
use crate::lock;
use crate::retention::{Action, BundleClass, Cost, RetentionPolicy, Row};
use crate::rotate::{self, DayStep, NotDue, Plan, Rotated, Scope};
use crate::site::Site;
use crate::{config, holdings};

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// Print the plan with what it costs, and touch nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct ArchiveArgs {
    /// As `cameras` lists it; with --older-than it may be left out: all that `rotate.cameras` allows
    camera: Option<CameraName>,
    /// YYYY-MM-DD, at the camera, or YYYY-MM-DD..YYYY-MM-DD
    #[arg(value_name = "DATE", conflicts_with = "older_than")]
    dates: Vec<Dates>,
    /// Every day that is at least this old, such as 30d
    #[arg(long, value_name = "AGE", value_parser = config::parse_duration)]
    older_than: Option<std::time::Duration>,
    /// Print the plan with what it costs, and touch nothing
    #[arg(long)]
    dry_run: bool,
}

impl RotateArgs {
    pub(super) async fn run(self, out: &Out, site: &Site) -> anyhow::Result<()> {
        let _lock = if self.dry_run { None } else { Some(lock::command(&site.config.runtime_dir)?) };
        let policy = RetentionPolicy::of(&site.config);
        let plan = rotate::plan(site, &policy, Scope::default()).await?;
        if self.dry_run {
            return show(out, site, &plan).await;
        }
        let mut outcome = carry_out(out, site, &policy, &plan).await?;
        rotate::tidy(site, &mut outcome).await;
        conclude(out, &outcome)
    }
}

impl ArchiveArgs {
    pub(super) async fn run(self, out: &Out, site: &Site) -> anyhow::Result<()> {
        let _lock = if self.dry_run { None } else { Some(lock::command(&site.config.runtime_dir)?) };
        // Whoever names days means all of them.
        let configured = site.config.rotate.archive.clone().unwrap_or_default();
        let mut archive = config::ArchiveSettings { max_days_per_run: u32::MAX, ..configured };
        if let Some(age) = self.older_than {
            archive.after = age;
            let policy = RetentionPolicy { archive: Some(archive), ..RetentionPolicy::default() };
            let plan = rotate::plan(site, &policy, Scope { camera: self.camera.as_deref(), dates: &[] }).await?;
            if let Some(camera) = self.camera.as_ref().filter(|_| plan.steps.is_empty()) {
                holdings::must_exist(site, camera).await?;
            }
            return finish(out, site, &policy, &plan, self.dry_run).await;
        }
        let Some(camera) = self.camera.filter(|_| !self.dates.is_empty()) else {
            bail!("name a camera and its days, or --older-than AGE; `hk-aws cameras` lists the cameras");
        };
        let dates: Vec<NaiveDate> = self.dates.iter().flat_map(|dates| dates.days()).collect();
        // Named days are bundled whatever their age.
        archive.after = std::time::Duration::ZERO;
        let policy = RetentionPolicy { archive: Some(archive), ..RetentionPolicy::default() };
        let plan = rotate::plan(site, &policy, Scope { camera: Some(&camera), dates: &dates }).await?;
        if plan.steps.is_empty() {
            holdings::must_exist(site, &camera).await?;
        }
        if let Some(date) = dates.iter().find(|date| **date >= plan.time.today) {
            bail!("{date} is not over yet: a day is bundled once no more captures of it can come");
        }
        for date in dates.iter().filter(|date| !plan.steps.iter().any(|step| step.date == **date)) {
            out.remark(format_args!(
                "{camera} {date}: nothing lies loose there; `hk-aws days {camera}` lists the days it has"
            ));
        }
        finish(out, site, &policy, &plan, self.dry_run).await
    }
}

async fn finish(out: &Out, site: &Site, policy: &RetentionPolicy, plan: &Plan, dry_run: bool) -> anyhow::Result<()> {
    if dry_run {
        return show(out, site, plan).await;
    }
    let outcome = carry_out(out, site, policy, plan).await?;
    conclude(out, &outcome)
}

/// Prints what is due and what it costs.
async fn show(out: &Out, site: &Site, plan: &Plan) -> anyhow::Result<()> {
    if out.json {
        return out.item(plan, "");
    }
    let rows: Vec<&Row> = plan.summary.rows().collect();
    if rows.is_empty() {
        out.remark(match plan.not_due {
            Some(NotDue { date, from }) => {
                format!("nothing is old enough: the first day is {date}, and its turn is on {from}")
            }
            None => "nothing is due: there are no captures whose turn is still to come".to_owned(),
        });
    } else {
        let (total, is_aws) = (plan.summary.total(), site.bucket.is_aws().await?);
        print_line(table(&rows, &total, is_aws))?;
        if is_aws && saves_next_to_nothing(total.monthly) {
            out.remark("that saves less than $0.01 a month");
        }
    }
    let later = plan.summary.later;
    if later.days > 0 {
        let (days, bytes) = (later.days, size(later.amount.bytes));
        out.remark(format_args!("{days} camera-days of {bytes} wait for later runs (rotate.archive.max_days_per_run)"));
    }
    remark_on(out, site, plan).await
}

/// Says what the operator should know of a plan.
async fn remark_on(out: &Out, site: &Site, plan: &Plan) -> anyhow::Result<()> {
    let is_aws = site.bucket.is_aws().await?;
    for (at, class) in plan.bundle_classes.iter().enumerate().filter(|_| is_aws) {
        out.remark(in_class(class, at == 0));
    }
    if let Some(others) = plan.others.line() {
        out.remark(others);
    }
    if let Some(misfits) = plan.misfits.line() {
        out.remark(misfits);
    }
    for warning in plan.summary.warnings().filter(|warning| is_aws || !warning.is_price()) {
        tell(format_args!("warning: {warning}"));
    }
    for note in &plan.notes {
        tell(format_args!("warning: {note}"));
    }
    if plan.to_download.bytes > 0 {
        let why = if site.config.keep.days == 0 { " (keep.days is 0)" } else { "" };
        let cost = if is_aws { format!(", which costs about ${:.2}", plan.to_download.dollars) } else { String::new() };
        tell(format_args!(
            "warning: {} have no local copy{why}: they are downloaded to be bundled{cost}",
            size(plan.to_download.bytes),
        ));
    }
    Ok(())
}

/// Returns what bundles cost in a class, and how they can be read there.
fn in_class(class: &BundleClass, is_configured: bool) -> String {
    let BundleClass { class, monthly, read_gb, wait } = class;
    let cost = if is_configured { "the bundles cost" } else { "they would cost" };
    let digits = if *monthly < 0.01 { 6 } else { 2 };
    let read = match wait {
        None => "can be read immediately".to_owned(),
        Some(wait) => format!("can be read {wait} after `hk-aws restore`"),
    };
    format!("in {class} {cost} ${monthly:.digits$} a month and {read}, for ${read_gb:.2} a GB")
}

/// Returns whether an amount of dollars is nothing with the digits that are shown.
fn is_nothing(dollars: f64) -> bool {
    dollars.abs() < 0.000_05
}

/// Returns whether less is paid every month, and the table shows no amount.
fn saves_next_to_nothing(monthly: f64) -> bool {
    is_nothing(monthly) && monthly < 0.0
}

/// The headings of the columns.
const HEAD: [&str; 9] = ["", "camera", "days", "objects", "bytes", "class", "requests", "$ now", "$ a month"];

/// Returns the rows under their headings, numbers aligned to the right, and their sum; money only if the prices are known.
fn table(rows: &[&Row], total: &Cost, has_prices: bool) -> String {
    let monthly = |cost: &Cost| if is_nothing(cost.monthly) { "0".to_owned() } else { format!("{:+.4}", cost.monthly) };
    let money = |cost: &Cost| [cost.requests.count().to_string(), format!("{:.4}", cost.now), monthly(cost)];
    let cells = |row: &&Row| {
        let days = if row.first == row.last { row.first.to_string() } else { format!("{}..{}", row.first, row.last) };
        let [requests, now, monthly] = money(&row.cost);
        [
            row.action.verb().to_owned(),
            plain(&row.camera).into_owned(),
            format!("{} ({days})", row.days),
            row.amount.objects.to_string(),
            size(row.amount.bytes).to_string(),
            row.class.clone().unwrap_or_else(|| "-".to_owned()),
            requests,
            now,
            monthly,
        ]
    };
    let mut lines: Vec<[String; 9]> = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let [requests, now, monthly] = money(total);
    let none = String::new;
    lines.push(["total".to_owned(), none(), none(), none(), none(), none(), requests, now, monthly]);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let text = |line: &[String; 9]| {
        let cell = |(column, text): (usize, &String)| {
            let width = widths[column];
            if matches!(column, 3 | 4 | 6..) { format!("{text:>width$}") } else { format!("{text:<width$}") }
        };
        let shown = if has_prices { HEAD.len() } else { HEAD.len() - 2 };
        line.iter().take(shown).enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(text).collect::<Vec<_>>().join("\n")
}

async fn carry_out(out: &Out, site: &Site, policy: &RetentionPolicy, plan: &Plan) -> anyhow::Result<Rotated> {
    remark_on(out, site, plan).await?;
    let bar = if out.quiet || out.json { ProgressBar::hidden() } else { ProgressBar::new(plan.steps.len() as u64) };
    let mut outcome = Rotated::default();
    let is_terminal = !bar.is_hidden();
    let said = |step: &DayStep| {
        bar.inc(1);
        if !is_terminal {
            out.remark(format_args!("{} {} {}", step.action.verb(), plain(&step.camera), step.date));
        }
    };
    // A run may end anywhere, so Ctrl-C needs no handling.
    let done = rotate::apply(site, policy, plan, &mut outcome, &CancellationToken::new(), said).await;
    bar.finish_and_clear();
    if let Err(error) = done {
        tell(&error);
        bail!("broken off, and nothing is lost; run it again to go on (done so far: {})", outcome.line());
    }
    Ok(outcome)
}

fn conclude(out: &Out, outcome: &Rotated) -> anyhow::Result<()> {
    out.item(outcome, outcome.line())?;
    for failure in &outcome.failures {
        tell(plain(failure));
    }
    let failed = outcome.failures.len();
    match (failed, outcome.waiting) {
        (0, 0) => return Ok(()),
        (0, days) => return Err(Waiting { days }.into()),
        _ => {}
    }
    let done = outcome.bundled + outcome.transitioned + outcome.expired;
    Err(Partly { failed, total: failed + usize::try_from(done).unwrap_or(usize::MAX) }.into())
}

impl Action {
    /// Returns the verb that people read.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Archive => "bundle",
            Self::Transition => "transition",
            Self::Expire => "expire",
            Self::Leave => "leave",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saving_that_the_table_does_not_show_is_told_in_words() {
        assert_eq!([-0.000_04, 0.0, 0.000_04, -0.01].map(saves_next_to_nothing), [true, false, false, false]);
    }

    #[test]
    fn a_table_has_money_only_where_prices_are_known() {
        let total = Cost { now: 0.25, monthly: -0.5, ..Cost::default() };
        let last = |has_prices| table(&[], &total, has_prices).lines().map(str::to_owned).collect::<Vec<_>>();
        assert!(
            last(true)[0].ends_with("requests   $ now  $ a month") && last(true)[1].ends_with("0  0.2500    -0.5000")
        );
        assert!(last(false)[0].ends_with("requests") && last(false)[1].ends_with('0'), "{:?}", last(false));
    }
}
