//! `upload`: one pass over the drop folder.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::classify::below;
use super::{Out, Partly, tell};
use crate::bucket::{Patience, Refusal, Verdict};
use crate::drop_folder::{FoundFile, Sight};
use crate::ingest::{Ingested, NotStored, ingest_one};
use crate::key::{ObjectKey, escape_path};
use crate::lock;
use crate::site::Site;

#[derive(Debug, Args)]
pub(super) struct Upload {
    /// Files or folders of the drop folder; without any, all of it
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Say what would be uploaded, and touch nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    path: &'a str,
    key: &'a str,
    size: u64,
    outcome: &'a str,
}

/// Said of a file that is not uploaded.
const EMPTY: &str = "is empty; it stays";

/// So many failures in a row that are no fault of the files end the pass.
const REFUSALS: usize = 10;

/// A file that was found, or a path at which there is none.
type Finding = Result<FoundFile, (PathBuf, String)>;

impl Upload {
    pub(super) async fn run(self, out: &Out, site: Arc<Site>) -> anyhow::Result<()> {
        std::fs::read_dir(site.folder.path())
            .with_context(|| format!("failed to read drop folder {}", site.folder.path().display()))?;
        let _lock = if self.dry_run { None } else { Some(lock::command(&site.config.runtime_dir)?) };
        let bar =
            if out.json || out.quiet || self.dry_run { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        // The scan waits while enough is under way: memory does not grow with the folder.
        let (send, mut found) = mpsc::channel(64);
        // At the beginning of time no folder is old enough to be pruned: a dry run touches nothing.
        let now = if self.dry_run { SystemTime::UNIX_EPOCH } else { (site.clock)().wall };
        let (scanning, paths) = (Arc::clone(&site), self.paths);
        let scan = tokio::task::spawn_blocking(move || find(&scanning, &paths, now, &send));
        let mut uploads = JoinSet::new();
        let (mut total, mut failed, mut refused_in_a_row) = (0, 0, 0);
        let concurrency = site.config.upload.concurrency;
        let mut more = true;
        while more || !uploads.is_empty() {
            tokio::select! {
                finding = found.recv(), if more && uploads.len() < concurrency => match finding {
                    None => more = false,
                    Some(Err((path, reason))) => {
                        total += 1;
                        failed += 1;
                        tell(format_args!("{}: {reason}", escape_path(&path)));
                    }
                    Some(Ok(found)) if self.dry_run && found.stamp.size == 0 => {
                        out.remark(format_args!("{}: {EMPTY}", escape_path(&found.path)));
                    }
                    Some(Ok(found)) if self.dry_run => {
                        match planned_key(&site, &found) {
                            Ok(key) => print(out, &bar, &found.path, key.as_str(), found.stamp.size, "would be stored")?,
                            Err(reason) => {
                                (total, failed) = (total + 1, failed + 1);
                                tell(format_args!("{}: {reason}", escape_path(&found.path)));
                            }
                        }
                    }
                    Some(Ok(found)) => {
                        total += 1;
                        let site = Arc::clone(&site);
                        uploads.spawn(async move { (found.path.clone(), settle_and_ingest(site, found).await) });
                    }
                },
                Some(done) = uploads.join_next() => {
                    let (path, outcome) = done.context("an upload panicked; its file is still in the drop folder")?;
                    refused_in_a_row = match &outcome {
                        Err(NotStored::Refused(refusal)) if concerns_all(refusal) => refused_in_a_row + 1,
                        Ok(Ingested { wait: None, .. }) => 0,
                        _ => refused_in_a_row,
                    };
                    failed += usize::from(!report(out, &bar, &path, outcome)?);
                    // Every attempt reads a file and waits for the network: a dead link is not asked once a file.
                    if refused_in_a_row >= REFUSALS && more {
                        more = false;
                        found.close();
                        tell(format_args!("stopped after {refused_in_a_row} failures in a row; what was not tried stays"));
                    }
                }
            }
        }
        bar.finish_and_clear();
        scan.await.context("the scan panicked")?.context("failed to read the drop folder")?;
        if failed == total && refused_in_a_row > 0 {
            tell(format_args!("nothing can be stored in {}; every file is kept", site.bucket.describe()));
        }
        if failed == 0 { Ok(()) } else { Err(Partly { failed, total }.into()) }
    }
}

/// Whether a refusal says more of the bucket, or the way to it, than of one file.
fn concerns_all(refusal: &Refusal) -> bool {
    refusal.verdict == Verdict::NeedsOperator || refusal.code.is_none()
}

fn find(site: &Site, paths: &[PathBuf], now: SystemTime, send: &mpsc::Sender<Finding>) -> std::io::Result<()> {
    // Where nobody receives any more, the command has ended.
    let mut see = |sight| match sight {
        Sight::File(found) => match send.blocking_send(Ok(found)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        },
        _ => ControlFlow::Continue(()),
    };
    if paths.is_empty() {
        return site.folder.scan(Path::new(""), now, &mut see);
    }
    for typed in paths {
        let path = match below(&site.folder, typed) {
            Ok(path) => path,
            Err(reason) => {
                let _unheard = send.blocking_send(Err((typed.clone(), reason)));
                continue;
            }
        };
        if path.as_os_str().is_empty() {
            site.folder.scan(Path::new(""), now, &mut see)?;
            continue;
        }
        let absent = match site.folder.look(&path, now)? {
            Some(Sight::Folder(folder)) => {
                site.folder.scan(&folder, now, &mut see)?;
                continue;
            }
            Some(Sight::Ignored(_, pattern)) => format!("matches {pattern} of drop_folder.ignore"),
            Some(Sight::LeftAlone(_, reason)) => reason,
            Some(file) => {
                let _end = see(file);
                continue;
            }
            None => format!("no such file below {}", site.folder.path().display()),
        };
        let _unheard = send.blocking_send(Err((path, absent)));
    }
    Ok(())
}

/// Reads no more than the start of the file.
fn planned_key(site: &Site, found: &FoundFile) -> Result<ObjectKey, String> {
    let opened = site.folder.open(&found.path).map_err(|error| error.to_string())?;
    let mut file = opened.reader().map_err(|error| error.to_string())?;
    let classified = site.classify(&found.path, &mut file, found.stamp.modified);
    classified.map(|(_, key)| key).map_err(|error| error.to_string())
}

/// Uploads a file once it has been quiet for as long as the daemon would wait.
async fn settle_and_ingest(site: Arc<Site>, found: FoundFile) -> Result<Ingested, NotStored> {
    let settle = site.config.drop_folder.settle;
    let now = (site.clock)().wall;
    let age = now.duration_since(found.stamp.changed).unwrap_or(Duration::ZERO);
    tokio::time::sleep(settle.saturating_sub(age)).await;
    ingest_one(site, found.path, None, Patience::Ordinary).await
}

/// Prints what became of a file; says whether it is stored.
fn report(out: &Out, bar: &ProgressBar, path: &Path, outcome: Result<Ingested, NotStored>) -> anyhow::Result<bool> {
    let why = match outcome {
        Ok(Ingested { stored, wait: Some(_) }) => {
            print(out, bar, path, stored.key.as_str(), stored.size, "is cut off; stored as far as it came:")?;
            return Ok(true);
        }
        Ok(Ingested { stored, wait: None }) => {
            let word = if stored.again { "was stored before" } else { "stored" };
            print(out, bar, path, stored.key.as_str(), stored.size, word)?;
            if let Some(reason) = &stored.not_kept {
                tell(format_args!("{}: no local copy is kept: {reason}", escape_path(path)));
            }
            let Some(left) = stored.left else { return Ok(true) };
            format!("stored, but stays in the drop folder: {left}")
        }
        // Somebody else, most likely the daemon, took it.
        Err(NotStored::Gone) => return Ok(true),
        Err(NotStored::Growing) => "is still being written; it stays".to_owned(),
        Err(NotStored::Changed) => "changed while it was read; it stays".to_owned(),
        Err(NotStored::Empty(_)) => EMPTY.to_owned(),
        Err(NotStored::Refused(refusal)) => refusal.to_string(),
        Err(NotStored::Unreadable(reason)) => reason,
    };
    bar.suspend(|| tell(format_args!("{}: {why}", escape_path(path))));
    Ok(false)
}

fn print(out: &Out, bar: &ProgressBar, path: &Path, key: &str, size: u64, outcome: &str) -> anyhow::Result<()> {
    bar.inc(1);
    let path = &escape_path(path);
    bar.suspend(|| out.item(&Line { path, key, size, outcome }, format_args!("{path} {outcome} {key}")))
}
