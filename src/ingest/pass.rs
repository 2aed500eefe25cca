//! One pass over the drop folder, or over parts of it, for a command that does not wait for the daemon.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::one::ingest_one;
use super::outcome::{Ingested, NotStored};
use crate::bucket::Patience;
use crate::drop_folder::{FoundFile, Sight};
use crate::key::ObjectKey;
use crate::site::Site;

/// The pass ends after this many failures in a row that are not the fault of a file.
const REFUSALS: usize = 10;

/// The most files that have been found and wait for a free upload, so that memory does not grow with the folder.
const FOUND_AHEAD: usize = 64;

/// What a pass does with each file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassMode {
    /// Each file is uploaded.
    Upload,
    /// The pass only tells which key each file would get; it changes nothing.
    DryRun,
}

/// What happens during a pass.
#[derive(Debug)]
pub enum PassEvent {
    /// A path leads to nothing that can be uploaded.
    NoFile {
        /// The path below the drop folder.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// A file would get this key.
    Planned {
        /// Its path below the drop folder.
        path: PathBuf,
        /// The key.
        key: ObjectKey,
        /// Its size in bytes.
        size: u64,
    },
    /// A file is empty, and would stay in the folder.
    Empty(PathBuf),
    /// A file was tried.
    Done {
        /// Its path below the drop folder.
        path: PathBuf,
        /// The capture as stored, or why it was not stored.
        outcome: Result<Ingested, NotStored>,
    },
    /// This many failures in a row ended the pass; files that were not tried stay in the folder.
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
        /// The error of the file system.
        source: io::Error,
    },
    /// The scan or an upload panicked; the file is still in the drop folder.
    #[error("{0}")]
    Panicked(String),
    /// The caller's `tell` ended the pass.
    #[error("the pass was ended")]
    Stopped,
}

/// Uploads the files at `paths` below the drop folder, or the whole folder if there are none.
///
/// `tell` gets every event and may end the pass. Returns how many failures in a row that are not the fault of a file
/// there were at the end.
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
    // In 1970 no folder is old enough to be removed, so that a dry run changes nothing.
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
                // Every attempt reads a file and waits for the network, so a dead link is not tried for every file.
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

/// A path that leads to nothing that can be uploaded.
struct NoFile {
    path: PathBuf,
    why: String,
}

/// Sends every file of `paths`, or of the whole folder, until the pass has ended.
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
            Some(Sight::Folder(folder, _)) => {
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

/// Returns the key that a file would get, and reads only the start of the file.
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

/// Uploads a file as soon as it has not changed for as long as the daemon would wait.
async fn settle_and_ingest(site: Arc<Site>, found: FoundFile) -> Result<Ingested, NotStored> {
    let settle = site.config.drop_folder.settle;
    let now = (site.clock)().wall;
    let age = now.duration_since(found.stamp.changed).unwrap_or(Duration::ZERO);
    tokio::time::sleep(settle.saturating_sub(age)).await;
    // Boxed: the compiler limits how deep futures may nest.
    Box::pin(ingest_one(site, found.path, None, Patience::Ordinary)).await
}
