//! `arrange`: unsorted objects into their date folders.

use anyhow::bail;
use clap::Args;
use indicatif::ProgressBar;

use super::Partly;
use super::out::{Out, Printing, plain, size, tell};
use crate::arrange::{self, ArrangeMode, ArrangeOutcome, Arranged};
use crate::config::Access;
use crate::key::CameraName;
use crate::site::Site;
use crate::{holdings, lock};

#[derive(Debug, Args)]
pub(super) struct ArrangeArgs {
    /// As `cameras` lists it; without it, every camera
    camera: Option<CameraName>,
    /// Say what would be moved where, and touch nothing
    #[arg(long)]
    dry_run: bool,
}

impl ArrangeArgs {
    pub(super) async fn run(self, out: &Out, site: &Site) -> anyhow::Result<()> {
        if site.config.s3.access == Access::WriteOnly {
            bail!(
                "s3.access is write-only: objects cannot be looked at, copied and deleted; \
                 run this with a configuration and credentials that may"
            );
        }
        let _lock = if self.dry_run { None } else { Some(lock::command(&site.config.runtime_dir)?) };
        let mode = if self.dry_run { ArrangeMode::DryRun } else { ArrangeMode::Move };
        let cameras = match self.camera {
            Some(camera) => vec![camera],
            None => holdings::cameras(site).await?,
        };
        let bar = if self.dry_run { ProgressBar::hidden() } else { out.spinner() };
        let (mut total, mut failed, mut bytes) = (0, 0, 0);
        for camera in &cameras {
            let mut printing = Printing::default();
            let arranging = arrange::arrange(site, camera, mode, |object| {
                total += 1;
                failed += usize::from(object.outcome.stays());
                bytes += if object.outcome.stays() { 0 } else { object.size };
                bar.inc(1);
                printing.go_on(bar.suspend(|| print(out, &object)))
            });
            let arranged = arranging.await;
            printing.or(arranged)?;
        }
        bar.finish_and_clear();
        if total == 0 {
            if let [camera] = &*cameras {
                holdings::must_exist(site, camera).await?;
            }
            out.remark("nothing lies unsorted");
        } else if total > failed {
            let (moved, word) = (total - failed, if self.dry_run { "would be moved" } else { "moved" });
            let objects = if moved == 1 { "object" } else { "objects" };
            out.remark(format_args!("{moved} {objects} {word}, {}", size(bytes)));
        }
        if failed == 0 { Ok(()) } else { Err(Partly { failed, total }.into()) }
    }
}

/// Prints what moves as data; what stays is named on stderr.
fn print(out: &Out, object: &Arranged) -> anyhow::Result<()> {
    let to = object.to.as_deref().map(plain).unwrap_or_default();
    let key = plain(&object.key);
    if object.outcome.stays() {
        let why = object.why.as_deref().unwrap_or_default();
        let meant = if object.outcome == ArrangeOutcome::Undated { String::new() } else { format!(" (to {to})") };
        tell(format_args!("{key}{meant} stays: {why}"));
        return if out.json { out.item(object, "") } else { Ok(()) };
    }
    let word = if object.outcome == ArrangeOutcome::Planned { "would be moved to" } else { "moved to" };
    out.item(object, format_args!("{key} {word} {to}"))
}
