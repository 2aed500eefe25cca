//! `doctor`: every check on a line, then the table of what a thief can do.

use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::out::Out;
use crate::doctor::{self, Check, CheckOutcome, DEEDS, Power};
use crate::site::Site;

/// What stands above the deeds of the table.
const TITLE: &str = "With the box's keys, can a thief ...";

pub(super) async fn doctor(out: &Out, site: &Arc<Site>) -> anyhow::Result<()> {
    let box_of = Arc::clone(site);
    let checks = tokio::task::spawn_blocking(move || doctor::examine_box(&box_of)).await.context("a check panicked")?;
    print(out, &checks)?;
    let at_bucket = doctor::examine_bucket(site).await;
    print(out, &at_bucket.checks)?;
    print_table(out, &at_bucket.thief)?;
    let outcomes = checks.iter().chain(&at_bucket.checks).map(|check| check.outcome);
    let outcomes: Vec<_> = outcomes.chain(at_bucket.thief.iter().map(|power| power.outcome)).collect();
    let failed = outcomes.iter().filter(|outcome| **outcome == CheckOutcome::Fail).count();
    if failed > 0 {
        bail!("{failed} of {} checks failed", outcomes.len());
    }
    Ok(())
}

fn print(out: &Out, checks: &[Check]) -> anyhow::Result<()> {
    for check in checks {
        let mend = if check.mend.is_empty() { String::new() } else { format!("; {}", check.mend) };
        out.item(check, format_args!("{:<4} {}: {}{mend}", word(check.outcome), check.name, check.says))?;
    }
    Ok(())
}

fn print_table(out: &Out, powers: &[Power]) -> anyhow::Result<()> {
    if powers.is_empty() {
        return Ok(());
    }
    let wide = DEEDS.iter().map(|deed| deed.what.len()).chain([TITLE.len()]).max().unwrap_or_default();
    out.heading(format_args!("\n     {TITLE:wide$}  can?       can it be undone, and for how long?"))?;
    for power in powers {
        let undo = if power.undo.is_empty() { "-" } else { &power.undo };
        let mend = if power.mend.is_empty() { String::new() } else { format!("\n       to do: {}", power.mend) };
        let (outcome, what, may) = (word(power.outcome), power.what, power.may);
        out.item(power, format_args!("{outcome:<4} {what:wide$}  {may:<9}  {undo}{mend}"))?;
    }
    Ok(())
}

fn word(outcome: CheckOutcome) -> &'static str {
    match outcome {
        CheckOutcome::Ok => "ok",
        CheckOutcome::Warn => "warn",
        CheckOutcome::Fail => "fail",
    }
}
