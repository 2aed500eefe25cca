//! Turns: uploads of one name go one after the other where they could get in each other's way.
//!
//! An upload holds the turn of its capture's name if a HEAD precedes its put, or if it goes up in parts. No other
//! upload of the process then comes between the HEAD and the put, or aborts parts in the belief that nobody works on
//! them.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The names that uploads hold a turn of; all clones are one set.
#[derive(Debug, Clone, Default)]
pub(super) struct NamesInWork(Arc<SharedNames>);

#[derive(Debug, Default)]
struct SharedNames {
    names: Mutex<HashSet<String>>,
    /// Told whenever a turn ends.
    ended: Notify,
}

/// The sole right to work on one name; dropping it ends the turn.
#[derive(Debug)]
pub(super) struct NameTurn {
    of: NamesInWork,
    name: String,
}

impl NamesInWork {
    /// Waits until nobody else works on `name`, and returns the right to do so.
    pub(super) async fn turn(&self, name: String) -> NameTurn {
        loop {
            let mut ended = pin!(self.0.ended.notified());
            // Listens before it looks, so that it hears of a turn that ends in between.
            ended.as_mut().enable();
            if self.names().insert(name.clone()) {
                return NameTurn { of: self.clone(), name };
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
}
