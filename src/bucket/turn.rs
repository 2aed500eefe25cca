//! Turns: uploads that could get in each other's way go one after the other.
//!
//! What is looked for before it is put, and what goes up in parts, has the turn of its capture's name while it is in
//! work: no other upload of this process comes between a look and a put, or takes parts in work for abandoned ones.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Those that are in work, for the whole process: after a reload, uploads of the bucket before it are still in work.
static IN_WORK: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
static ENDED: Notify = Notify::const_new();

/// The right to work on what has one name; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn(String);

impl Turn {
    /// Waits until nobody works on `name`.
    pub(super) async fn wait(name: String) -> Self {
        loop {
            let mut ended = pin!(ENDED.notified());
            // Listens before it looks: a turn that ends in between is heard.
            ended.as_mut().enable();
            if in_work().insert(name.clone()) {
                return Self(name);
            }
            ended.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        in_work().remove(&self.0);
        ENDED.notify_waiters();
    }
}

fn in_work() -> MutexGuard<'static, HashSet<String>> {
    // Insert and remove leave it whole, whatever panicked elsewhere.
    IN_WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn those_of_one_name_go_one_after_the_other_and_others_do_not_wait() {
        let inside = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let inside = Arc::clone(&inside);
            tasks.spawn(async move {
                let _turn = Turn::wait("turn-test/one".to_owned()).await;
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
            });
        }
        let _other = Turn::wait("turn-test/other".to_owned()).await;
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }
}
