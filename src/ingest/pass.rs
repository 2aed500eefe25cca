//! One pass over the drop folder, or over some of it, for whoever does not want to wait for the daemon.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::one::{Ingested, NotStored, ingest_one};
use crate::bucket::Patience;
use crate::drop_folder::{FoundFile, Sight};
use crate::key::ObjectKey;
use crate::site::Site;

/// The pass ends after this number of failures in a row that are no fault of the files.
const REFUSALS: usize = 10;

/// Files that were found and wait for an upload to end: memory does not grow with the folder.
const FOUND_AHEAD: usize = 64;

/// What a pass does with each file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassMode {
    /// It is uploaded.
    Upload,
    /// It is only said where it would go; nothing is touched.
    DryRun,
}

/// What happens during a pass.
#[derive(Debug)]
pub enum PassEvent {
    /// A path is no file that can be uploaded.
    NoFile {
        /// Below the drop folder.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A file would get this key.
    Planned {
        /// Below the drop folder.
        path: PathBuf,
        /// Its key.
        key: ObjectKey,
        /// Its size in bytes.
        size: u64,
    },
    /// A file is empty, and would stay.
    Empty(PathBuf),
    /// A file went through all steps, well or not.
    Done {
        /// Below the drop folder.
        path: PathBuf,
        /// What became of it.
        outcome: Result<Ingested, NotStored>,
    },
    /// This number of failures in a row ended the pass; what was not tried stays.
    GaveUp(usize),
}

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The drop folder cannot be read.
    #[error("failed to read drop folder {}: {source}", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A task of the pass panicked; its file is still in the drop folder.
    #[error("{0}")]
    Panicked(String),
    /// Whoever is told what happens wanted no more.
    #[error("the pass was ended")]
    Stopped,
}

/// Goes through `paths` below the drop folder, or all of it if there are none; `tell` hears of each file, and may end the
/// pass. Returns the number of failures in a row, no fault of the files, that it ended with.
///
/// # Errors
/// [`PassError`]; every file that was not stored is still in the drop folder.
pub async fn pass(
    site: &Arc<Site>,
    paths: Vec<PathBuf>,
    mode: PassMode,
    mut tell: impl FnMut(PassEvent) -> ControlFlow<()> + Send,
) -> Result<usize, PassError> {
    let unreadable = |source| PassError::Unreadable { path: site.folder.path().to_owned(), source };
    std::fs::read_dir(site.folder.path()).map_err(unreadable)?;
    let mut told = |event| if tell(event).is_break() { Err(PassError::Stopped) } else { Ok(()) };
    let (send, mut found) = mpsc::channel(FOUND_AHEAD);
    // In 1970 no folder is old enough to be pruned: a dry run touches nothing.
    let now = if mode == PassMode::DryRun { SystemTime::UNIX_EPOCH } else { (site.clock)().wall };
    let scanning = Arc::clone(site);
    let scan = tokio::task::spawn_blocking(move || find(&scanning, &paths, now, &send));
    let mut uploads = JoinSet::new();
    let (mut more, mut refused_in_a_row) = (true, 0);
    while more || !uploads.is_empty() {
        tokio::select! {
            finding = found.recv(), if more && uploads.len() < site.config.upload.concurrency => match finding {
                None => more = false,
                Some(Err(NoFile { path, why })) => told(PassEvent::NoFile { path, why })?,
                Some(Ok(found)) if mode == PassMode::DryRun => told(planned(site, found))?,
                Some(Ok(found)) => {
                    let site = Arc::clone(site);
                    uploads.spawn(async move { (found.path.clone(), settle_and_ingest(site, found).await) });
                }
            },
            Some(done) = uploads.join_next() => {
                let (path, outcome) = done.map_err(|error| PassError::Panicked(format!("an upload panicked: {error}")))?;
                refused_in_a_row = match &outcome {
                    Err(NotStored::Refused(refusal)) if refusal.concerns_all() => refused_in_a_row + 1,
                    Ok(Ingested { wait: None, .. }) => 0,
                    _ => refused_in_a_row,
                };
                told(PassEvent::Done { path, outcome })?;
                // Every attempt reads a file and waits for the network: a dead link is not asked once a file.
                if refused_in_a_row >= REFUSALS && more {
                    more = false;
                    found.close();
                    told(PassEvent::GaveUp(refused_in_a_row))?;
                }
            }
        }
    }
    let scanned = scan.await.map_err(|error| PassError::Panicked(format!("the scan panicked: {error}")))?;
    scanned.map_err(unreadable)?;
    Ok(refused_in_a_row)
}

/// A path that is no file that can be uploaded.
struct NoFile {
    path: PathBuf,
    why: String,
}

/// Sends every file of `paths`, or of the whole folder. If nobody receives any more, the pass has ended.
fn find(
    site: &Site,
    paths: &[PathBuf],
    now: SystemTime,
    send: &mpsc::Sender<Result<FoundFile, NoFile>>,
) -> io::Result<()> {
    let mut see = |sight| {
        let is_heard = match sight {
            Sight::File(found) => send.blocking_send(Ok(found)).is_ok(),
            _ => true,
        };
        if is_heard { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    if paths.is_empty() {
        return site.folder.scan(Path::new(""), now, &mut see);
    }
    for path in paths {
        if path.as_os_str().is_empty() {
            site.folder.scan(Path::new(""), now, &mut see)?;
            continue;
        }
        let why = match site.folder.look(path, now)? {
            Some(Sight::Folder(folder)) => {
                site.folder.scan(&folder, now, &mut see)?;
                continue;
            }
            Some(file @ Sight::File(_)) => {
                let _end = see(file);
                continue;
            }
            Some(Sight::Ignored(_, pattern)) => format!("matches {pattern} of drop_folder.ignore"),
            Some(Sight::LeftAlone(_, reason)) => reason,
            None => format!("no such file below {}", site.folder.path().display()),
        };
        let _unheard = send.blocking_send(Err(NoFile { path: path.clone(), why }));
    }
    Ok(())
}

/// Returns where a file would go; reads no more than its start.
fn planned(site: &Site, found: FoundFile) -> PassEvent {
    if found.stamp.size == 0 {
        return PassEvent::Empty(found.path);
    }
    let key = || {
        let opened = site.folder.open(&found.path).map_err(|error| error.to_string())?;
        let mut file = opened.reader().map_err(|error| error.to_string())?;
        let classified = site.classify(&found.path, &mut file, found.stamp.modified);
        classified.map(|(_, key)| key).map_err(|error| error.to_string())
    };
    match key() {
        Ok(key) => PassEvent::Planned { path: found.path, key, size: found.stamp.size },
        Err(why) => PassEvent::NoFile { path: found.path, why },
    }
}

/// Uploads a file once it has been quiet for as long as the daemon would wait.
async fn settle_and_ingest(site: Arc<Site>, found: FoundFile) -> Result<Ingested, NotStored> {
    let settle = site.config.drop_folder.settle;
    let now = (site.clock)().wall;
    let age = now.duration_since(found.stamp.changed).unwrap_or(Duration::ZERO);
    tokio::time::sleep(settle.saturating_sub(age)).await;
    // Boxed: the compiler limits how deep futures may nest.
    Box::pin(ingest_one(site, found.path, None, Patience::Ordinary)).await
}
