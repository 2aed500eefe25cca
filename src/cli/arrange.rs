//! `arrange`: unsorted objects into their date folders.

use anyhow::bail;
use clap::Args;
use indicatif::ProgressBar;

use super::{Out, Partly, plain, size, tell};
use crate::arrange::{self, Arranged, Outcome};
use crate::config::Access;
use crate::lock;
use crate::rotate;
use crate::site::Site;

#[derive(Debug, Args)]
pub(super) struct Arrange {
    /// As `cameras` lists it; without it, every camera
    camera: Option<String>,
    /// Say what would be moved where, and touch nothing
    #[arg(long)]
    dry_run: bool,
}

impl Arrange {
    pub(super) async fn run(self, out: &Out, site: &Site) -> anyhow::Result<()> {
        if site.config.s3.access == Access::WriteOnly {
            bail!(
                "s3.access is write-only: objects cannot be looked at, copied and deleted; \
                 run this with a configuration and credentials that may"
            );
        }
        let _lock = if self.dry_run { None } else { Some(lock::command(&site.config.runtime_dir)?) };
        let cameras = match self.camera {
            Some(camera) => vec![camera],
            None => rotate::cameras(site).await?,
        };
        let bar =
            if out.json || out.quiet || self.dry_run { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        let (mut total, mut failed, mut bytes) = (0, 0, 0);
        for camera in &cameras {
            let arranging = arrange::arrange(site, camera, self.dry_run, |object| {
                total += 1;
                failed += usize::from(object.outcome.stays());
                bytes += if object.outcome.stays() { 0 } else { object.size };
                bar.inc(1);
                bar.suspend(|| print(out, &object))
            });
            arranging.await?;
        }
        bar.finish_and_clear();
        if total == 0 {
            out.remark("nothing lies unsorted");
        } else if total > failed {
            let (moved, word) = (total - failed, if self.dry_run { "would be moved" } else { "moved" });
            let objects = if moved == 1 { "object" } else { "objects" };
            out.remark(format_args!("{moved} {objects} {word}, {}", size(bytes)));
        }
        if failed == 0 { Ok(()) } else { Err(Partly { failed, total }.into()) }
    }
}

/// What moves is data; what stays is named on stderr.
fn print(out: &Out, object: &Arranged) -> anyhow::Result<()> {
    let to = object.to.as_deref().map(plain).unwrap_or_default();
    let key = plain(&object.key);
    if object.outcome.stays() {
        let why = object.why.as_deref().unwrap_or_default();
        let meant = if object.outcome == Outcome::Undated { String::new() } else { format!(" (to {to})") };
        tell(format_args!("{key}{meant} stays: {why}"));
        return if out.json { out.item(object, "") } else { Ok(()) };
    }
    let word = if object.outcome == Outcome::Planned { "would be moved to" } else { "moved to" };
    out.item(object, format_args!("{key} {word} {to}"))
}
