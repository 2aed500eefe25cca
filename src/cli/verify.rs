//! `verify`: a line for each finding.

use anyhow::bail;
use chrono::NaiveDate;
use clap::Args;
use indicatif::ProgressBar;

use super::out::{Out, count, plain, size};
use super::{Partly, parse_date};
use crate::config::Access;
use crate::holdings::HoldingsError;
use crate::key::CameraName;
use crate::site::Site;
use crate::verify::{Finding, FindingKind, Options, Verified, days, ledger_cameras, verify_day};
use crate::{archive, holdings, lock};

/// The command ends after this number of days in a row that could not be looked at.
const UNCHECKED: usize = 3;

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// As `cameras` lists it; without it, every camera
    camera: Option<CameraName>,
    /// YYYY-MM-DD, at the camera; without it, every day
    #[arg(value_parser = parse_date)]
    date: Option<NaiveDate>,
    /// Ask the store for the SHA-256 of every object, and download what it has none of
    #[arg(long)]
    deep: bool,
    /// Make lost and damaged indexes again, from bundles that can be read
    #[arg(long)]
    rebuild: bool,
    /// Send captures again that the bucket lost, out of their local copies
    #[arg(long)]
    resend: bool,
}

/// The sum of all days.
#[derive(Debug, Default)]
struct VerifySum {
    days: usize,
    held: usize,
    failed: usize,
    downloaded: u64,
    unchecked_in_a_row: usize,
}

impl VerifyArgs {
    pub(super) async fn run(self, out: &Out, site: &Site) -> anyhow::Result<()> {
        let options = Options { deep: self.deep, rebuild: self.rebuild, resend: self.resend };
        let _lock = if self.rebuild || self.resend {
            if site.config.s3.access == Access::WriteOnly {
                bail!(
                    "s3.access is write-only: run this with a configuration and credentials that may read and delete"
                );
            }
            let lock = lock::command(&site.config.runtime_dir)?;
            archive::clear_spools(&site.config.state_dir);
            Some(lock)
        } else {
            None
        };
        let bar = out.spinner();
        let mut sum = VerifySum::default();
        match (&self.camera, self.date) {
            (Some(camera), Some(date)) => {
                let verified = verify_day(site, camera, date, None, options).await?;
                if verified.held == 0 && verified.findings.is_empty() {
                    holdings::must_exist(site, camera).await?;
                }
                sum.add(out, &bar, (camera, date), Ok(verified))?;
            }
            (Some(camera), None) => {
                if verify_camera(out, site, camera, options, &bar, &mut sum).await? == 0 {
                    holdings::must_exist(site, camera).await?;
                    bail!("neither the ledger nor the bucket has captures of {camera}");
                }
            }
            (None, _) => {
                let mut cameras = holdings::cameras(site).await?;
                cameras.extend(ledger_cameras(site)?);
                cameras.sort_unstable();
                cameras.dedup();
                for camera in &cameras {
                    verify_camera(out, site, camera, options, &bar, &mut sum).await?;
                }
            }
        }
        bar.finish_and_clear();
        sum.tell(out)
    }
}

async fn verify_camera(
    out: &Out,
    site: &Site,
    camera: &str,
    options: Options,
    bar: &ProgressBar,
    sum: &mut VerifySum,
) -> anyhow::Result<usize> {
    let days = days(site, camera).await?;
    let number = days.len();
    for (date, archive) in days {
        let verified = verify_day(site, camera, date, Some(archive), options).await;
        sum.add(out, bar, (camera, date), verified)?;
    }
    Ok(number)
}

impl VerifySum {
    fn add(
        &mut self,
        out: &Out,
        bar: &ProgressBar,
        (camera, date): (&str, NaiveDate),
        verified: Result<Verified, HoldingsError>,
    ) -> anyhow::Result<()> {
        self.days += 1;
        bar.inc(1);
        let verified = match verified {
            Ok(verified) => {
                self.unchecked_in_a_row = 0;
                verified
            }
            Err(error) => {
                self.unchecked_in_a_row += 1;
                // If the bucket cannot be reached, that is so for every day.
                if self.unchecked_in_a_row >= UNCHECKED {
                    return Err(error.about(format_args!("{camera} {date} cannot be looked at")).into());
                }
                Verified { findings: vec![unchecked(camera, date, &error)], ..Verified::default() }
            }
        };
        self.held += verified.held;
        self.downloaded += verified.downloaded;
        for finding in &verified.findings {
            self.failed += usize::from(finding.failure);
            bar.suspend(|| print(out, finding))?;
        }
        Ok(())
    }

    fn tell(&self, out: &Out) -> anyhow::Result<()> {
        let (captures, days) = (count(self.held, "capture"), count(self.days, "day"));
        let end = if self.failed == 0 { "all there" } else { "these are there" };
        out.remark(format_args!("{captures} of {days} checked: {end}"));
        if self.downloaded > 0 {
            out.remark(format_args!("{} downloaded", size(self.downloaded)));
        }
        let (failed, total) = (self.failed, self.failed + self.held);
        if failed == 0 { Ok(()) } else { Err(Partly { failed, total }.into()) }
    }
}

fn unchecked(camera: &str, date: NaiveDate, error: &HoldingsError) -> Finding {
    let (what, key) = (FindingKind::Unchecked, date.to_string());
    let (camera, detail) = (camera.to_owned(), error.to_string());
    Finding { camera, date, key, what, failure: true, detail, advice: String::new() }
}

fn print(out: &Out, finding: &Finding) -> anyhow::Result<()> {
    let Finding { camera, date, key, what, detail, advice, .. } = finding;
    let advice = if advice.is_empty() { String::new() } else { format!("; {advice}") };
    let line = format!("{camera} {date} {}: {key}: {detail}{advice}", what.as_str());
    out.item(finding, plain(&line))
}
