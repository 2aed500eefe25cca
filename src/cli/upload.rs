//! `upload`: one pass over the drop folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::Partly;
use super::classify::below;
use super::out::{Out, Printing, tell};
use crate::ingest::{self, Ingested, NotStored, PassEvent, PassMode};
use crate::key::escape_path;
use crate::lock;
use crate::site::Site;

#[derive(Debug, Args)]
pub(super) struct UploadArgs {
    /// Files or folders of the drop folder; without any, all of it
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// What was set aside, instead of the drop folder
    #[arg(long, conflicts_with = "paths")]
    set_aside: bool,
    /// Say what would be uploaded, and touch nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct UploadLine<'a> {
    path: &'a str,
    key: &'a str,
    size: u64,
    outcome: &'a str,
}

/// Said of a file that is not uploaded.
const EMPTY: &str = "is empty; it stays";

/// How many files were tried or could not be, and how many of them are not stored.
#[derive(Debug, Default)]
struct UploadSum {
    total: usize,
    failed: usize,
}

impl UploadArgs {
    pub(super) async fn run(self, out: &Out, site: Arc<Site>) -> anyhow::Result<()> {
        let _lock = if self.dry_run { None } else { Some(lock::command(&site.config.runtime_dir)?) };
        let bar = if self.dry_run { ProgressBar::hidden() } else { out.spinner() };
        let mode = if self.dry_run { PassMode::DryRun } else { PassMode::Upload };
        let (mut sum, mut paths) = (UploadSum::default(), Vec::new());
        if self.set_aside {
            let mut refused = 0;
            for site in site.set_aside() {
                let mut printing = Printing::default();
                let passed = ingest::pass(&Arc::new(site), Vec::new(), mode, |event| {
                    printing.go_on(sum.print(out, &bar, event))
                })
                .await;
                refused = printing.or(passed)?;
            }
            return sum.end(&bar, refused, &site);
        }
        for path in &self.paths {
            match below(&site.folder, path) {
                Ok(path) => paths.push(path),
                Err(why) => sum.no_file(path, &why),
            }
        }
        let mut refused_in_a_row = 0;
        // Paths that are all wrong are no order for the whole folder.
        if self.paths.is_empty() || !paths.is_empty() {
            let mut printing = Printing::default();
            let passed = ingest::pass(&site, paths, mode, |event| printing.go_on(sum.print(out, &bar, event))).await;
            refused_in_a_row = printing.or(passed)?;
        }
        sum.end(&bar, refused_in_a_row, &site)
    }
}

impl UploadSum {
    fn end(self, bar: &ProgressBar, refused_in_a_row: usize, site: &Site) -> anyhow::Result<()> {
        bar.finish_and_clear();
        let Self { total, failed } = self;
        if failed == total && refused_in_a_row > 0 {
            tell(format_args!("nothing can be stored in {}; every file is kept", site.bucket.describe()));
        }
        if failed == 0 { Ok(()) } else { Err(Partly { failed, total }.into()) }
    }

    fn no_file(&mut self, path: &Path, why: &str) {
        self.total += 1;
        self.failed += 1;
        tell(format_args!("{}: {why}", escape_path(path)));
    }

    fn print(&mut self, out: &Out, bar: &ProgressBar, event: PassEvent) -> anyhow::Result<()> {
        match event {
            PassEvent::NoFile { path, why } => self.no_file(&path, &why),
            PassEvent::Empty(path) => out.remark(format_args!("{}: {EMPTY}", escape_path(&path))),
            PassEvent::Planned { path, key, size } => {
                let line =
                    UploadLine { path: &escape_path(&path), key: key.as_str(), size, outcome: "would be stored" };
                line.print(out, bar)?;
            }
            PassEvent::Done { path, outcome } => {
                self.total += 1;
                self.failed += usize::from(!report(out, bar, &path, outcome)?);
            }
            PassEvent::GaveUp(failures) => {
                tell(format_args!("stopped after {failures} failures in a row; what was not tried stays"));
            }
        }
        Ok(())
    }
}

/// Prints what became of a file; returns whether it is stored.
fn report(out: &Out, bar: &ProgressBar, path: &Path, outcome: Result<Ingested, NotStored>) -> anyhow::Result<bool> {
    let path = &escape_path(path);
    let why = match outcome {
        Ok(Ingested { stored, wait: Some(_), .. }) => {
            let outcome = if stored.open {
                "is open and does not grow; stored as far as it came:"
            } else {
                "is cut off; stored as far as it came:"
            };
            UploadLine { path, key: stored.key.as_str(), size: stored.size, outcome }.print(out, bar)?;
            return Ok(true);
        }
        Ok(Ingested { stored, joined, wait: None }) => {
            if let Some(whole) = joined {
                let outcome = "is the rest of a capture that was cut off; stored with its first part:";
                UploadLine { path, key: whole.key.as_str(), size: whole.size, outcome }.print(out, bar)?;
            }
            let outcome = if stored.again { "was stored before" } else { "stored" };
            UploadLine { path, key: stored.key.as_str(), size: stored.size, outcome }.print(out, bar)?;
            if let Some(reason) = &stored.not_kept {
                tell(format_args!("{path}: no local copy is kept: {reason}"));
            }
            let Some(left) = stored.left else { return Ok(true) };
            format!("stored, but stays in the drop folder: {left}")
        }
        // Somebody else, most likely the daemon, took it.
        Err(NotStored::Gone) => return Ok(true),
        Err(NotStored::Growing) => "is still being written; it stays".to_owned(),
        Err(NotStored::InWork) => "is being uploaded under the name that it had before; it stays".to_owned(),
        Err(NotStored::Changed | NotStored::Closed) => "changed while it was read; it stays".to_owned(),
        Err(NotStored::Empty(_)) => EMPTY.to_owned(),
        Err(NotStored::Refused(refusal)) => refusal.to_string(),
        Err(NotStored::Unreadable(reason)) => reason,
    };
    bar.suspend(|| tell(format_args!("{path}: {why}")));
    Ok(false)
}

impl UploadLine<'_> {
    fn print(&self, out: &Out, bar: &ProgressBar) -> anyhow::Result<()> {
        bar.inc(1);
        bar.suspend(|| out.item(self, format_args!("{} {} {}", self.path, self.outcome, self.key)))
    }
}
