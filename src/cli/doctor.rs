//! `doctor`: every check on a line.

use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::out::Out;
use crate::doctor::{self, Check, CheckOutcome};
use crate::site::Site;

pub(super) async fn doctor(out: &Out, site: &Arc<Site>) -> anyhow::Result<()> {
    let box_of = Arc::clone(site);
    let checks = tokio::task::spawn_blocking(move || doctor::examine_box(&box_of)).await.context("a check panicked")?;
    print(out, &checks)?;
    let of_bucket = doctor::examine_bucket(site).await;
    print(out, &of_bucket)?;
    let failed = checks.iter().chain(&of_bucket).filter(|check| check.outcome == CheckOutcome::Fail).count();
    if failed > 0 {
        bail!("{failed} of {} checks failed", checks.len() + of_bucket.len());
    }
    Ok(())
}

fn print(out: &Out, checks: &[Check]) -> anyhow::Result<()> {
    for check in checks {
        let outcome = match check.outcome {
            CheckOutcome::Ok => "ok",
            CheckOutcome::Warn => "warn",
            CheckOutcome::Fail => "fail",
        };
        let mend = if check.mend.is_empty() { String::new() } else { format!("; {}", check.mend) };
        out.item(check, format_args!("{outcome:<4} {}: {}{mend}", check.name, check.says))?;
    }
    Ok(())
}
