//! Turns: uploads of one name go one after the other where they could get in each other's way.
//!
//! An upload holds the turn of its capture's name if a HEAD precedes its put, or if it goes up in parts. No other
//! upload of the process then comes between the HEAD and the put, or aborts parts in the belief that nobody works on
//! them. `hk-aws upload` beside the daemon takes its turn as well: a lock file for each name in the run-time folder is
//! shared by all processes that have the same configuration.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::lock::{self, NameLock};

/// How often a lock that another process holds is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// The names that uploads hold a turn of; all clones are one set.
#[derive(Debug, Clone, Default)]
pub(super) struct NamesInWork(Arc<SharedNames>);

#[derive(Debug, Default)]
struct SharedNames {
    names: Mutex<HashSet<String>>,
    /// The run-time folder in which the processes of this box share their turns.
    folder: OnceLock<PathBuf>,
    /// Told whenever a turn ends.
    ended: Notify,
}

/// The sole right to work on one name; dropping it ends the turn.
#[derive(Debug)]
pub(super) struct NameTurn {
    of: NamesInWork,
    name: String,
    /// Keeps other processes away.
    lock: Option<NameLock>,
}

impl NamesInWork {
    /// Shares the turns with all processes that have this run-time folder.
    pub(super) fn share(&self, folder: &Path) {
        // It changes with a restart only.
        let _known = self.0.folder.set(folder.to_owned());
    }

    /// Waits until nobody else works on `name`, and returns the right to do so.
    pub(super) async fn turn(&self, name: String) -> NameTurn {
        let mut turn = self.own_turn(name).await;
        let Some(folder) = self.0.folder.get() else { return turn };
        while turn.lock.is_none() {
            match lock::try_name(folder, &turn.name) {
                Ok(Some(lock)) => turn.lock = Some(lock),
                Ok(None) => tokio::time::sleep(TRY_AGAIN).await,
                Err(error) => {
                    tracing::debug!("failed to lock a name in {}: {error}", folder.display());
                    break;
                }
            }
        }
        turn
    }

    /// Waits until no other upload of this process works on `name`.
    async fn own_turn(&self, name: String) -> NameTurn {
        loop {
            let mut ended = pin!(self.0.ended.notified());
            // Listens before it looks, so that it hears of a turn that ends in between.
            ended.as_mut().enable();
            if self.names().insert(name.clone()) {
                return NameTurn { of: self.clone(), name, lock: None };
            }
            ended.await;
        }
    }

    fn names(&self) -> MutexGuard<'_, HashSet<String>> {
        // A panic elsewhere leaves the set whole: insert and remove are all that is done to it.
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NameTurn {
    fn drop(&mut self) {
        // Before the next one of this process tries to take it.
        drop(self.lock.take());
        self.of.names().remove(&self.name);
        self.of.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn those_of_one_name_go_one_after_the_other_and_others_do_not_wait() {
        let inside = Arc::new(AtomicUsize::new(0));
        let names = NamesInWork::default();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (inside, names) = (Arc::clone(&inside), names.clone());
            tasks.spawn(async move {
                let _turn = names.turn("turn-test/one".to_owned()).await;
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
            });
        }
        let _other = names.turn("turn-test/other".to_owned()).await;
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }

    #[tokio::test]
    async fn those_of_several_processes_go_one_after_the_other_and_leave_no_lock_behind() {
        let folder = tempfile::tempdir().unwrap();
        let inside = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            // A process has one of its own.
            let (inside, names) = (Arc::clone(&inside), NamesInWork::default());
            names.share(folder.path());
            tasks.spawn(async move {
                for _ in 0..4 {
                    let _turn = names.turn("one".to_owned()).await;
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path().join("names")).unwrap().count(), 0);
    }
}
