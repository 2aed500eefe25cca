//! Files that can never be stored: they are moved out of the drop folder, counted, and shown.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::task::JoinHandle;

use super::Ingest;
use super::flood::Flood;
use super::judge::LONGEST_WAIT;
use crate::clock::Now;
use crate::drop_folder::{OpenError, Taken};
use crate::key::escape_path;
use crate::message;
use crate::set_aside::{self, SetAside};
use crate::status::Snapshot;

/// How often what is set aside is counted: commands and people take files out.
const EVERY: Duration = Duration::from_mins(1);

/// The count of what is set aside.
#[derive(Debug)]
pub(super) struct AsideCount {
    run: Option<JoinHandle<std::io::Result<SetAside>>>,
    /// Whether a file was set aside since the run under way began.
    is_late: bool,
    next: Instant,
}

impl AsideCount {
    pub(super) fn new(now: Now) -> Self {
        Self { run: None, is_late: false, next: now.steady }
    }
}

impl Ingest {
    /// Counts what is set aside, on a thread of its own.
    pub(super) fn count_set_aside(&mut self, now: Now) {
        let count = &mut self.aside;
        if let Some(done) = count.run.as_mut().and_then(FutureExt::now_or_never) {
            count.run = None;
            match done {
                Ok(Ok(_)) if std::mem::take(&mut count.is_late) => count.next = now.steady,
                Ok(Ok(found)) => self.tally.know_set_aside(found),
                Ok(Err(error)) => tracing::debug!("failed to count what is set aside: {error}"),
                Err(error) => tracing::debug!("failed to count what is set aside: {error}"),
            }
        }
        let count = &mut self.aside;
        if count.run.is_none() && now.steady >= count.next {
            count.is_late = false;
            count.next = now.steady + EVERY;
            let config = Arc::clone(&self.site.config);
            let look = move || set_aside::look(&config.state_dir, Snapshot::MOST_FILES);
            count.run = Some(tokio::task::spawn_blocking(look));
        }
    }

    /// Moves a file that cannot be stored to the set-aside folder.
    pub(super) fn set_aside(&mut self, path: &Path, reason: &str, now: Now) {
        let state_dir = &self.site.config.state_dir;
        let folder = set_aside::folder(state_dir);
        // What lies in the run-time folder is lost at the next boot.
        let moved = if state_dir.starts_with(&self.site.config.runtime_dir) {
            Err("the state folder cannot be written".to_owned())
        } else {
            set_aside::free_place(state_dir, path)
                .ok_or_else(|| "100 files of this name are set aside already".to_owned())
        };
        let judged = self.queue.last_seen(path, now).map(|seen| seen.stamp);
        let moved = moved.and_then(|target| match self.site.folder.open(path) {
            // Another file has come under the same name, and nobody has judged that one.
            Ok(opened) if judged.is_some_and(|judged| judged != opened.stamp()) => Ok((Taken::PutBack, target)),
            Ok(mut opened) => {
                opened.move_to(&target, None).map(|taken| (taken, target)).map_err(|error| error.to_string())
            }
            Err(OpenError::Gone) => Ok((Taken::Away, target)),
            Err(error) => Err(error.to_string()),
        });
        match moved {
            Ok((Taken::Away, target)) => {
                if let Err(error) = set_aside::note(state_dir, &target, reason, now.wall.into()) {
                    tracing::warn!(
                        message_id = message::SET_ASIDE_NOTE,
                        "failed to write down why {} is set aside: {error}",
                        escape_path(path)
                    );
                }
                let kept = escape_path(target.strip_prefix(&folder).unwrap_or(&target));
                let message = format!(
                    "{} can never be stored as it is ({reason}): it was moved to {} as {kept}; once the cause is mended, send it \
                     with `hk-aws upload --set-aside`",
                    escape_path(path),
                    folder.display()
                );
                self.complain(Flood::SetAside, message, now);
                self.tally.remember_set_aside(&kept, reason);
                self.tally.counters().set_aside(kind_of(reason));
                self.aside.is_late = true;
                self.done(path);
            }
            Ok((Taken::PutBack, _)) => self.settle_again(path, reason, now),
            Err(error) => {
                if self.queue.hold(path, &format!("{reason}; {error}"), now.steady + LONGEST_WAIT) {
                    let message = format!("failed to set aside {} ({reason}): {error}", escape_path(path));
                    self.complain(Flood::NotSetAside, message, now);
                }
            }
        }
    }
}

/// Returns the kind of a reason for which a file is set aside.
fn kind_of(reason: &str) -> &'static str {
    match reason {
        "empty" => "empty",
        _ if reason.starts_with("the upload panicked") => "panic",
        _ => "refused",
    }
}
