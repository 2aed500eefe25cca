//! Files that are stored but cannot be taken out of the drop folder, because its disk has become read-only, for example.
//!
//! A few of them keep their place in the queue, so that it shows when they can be taken away again. The others give their
//! place up to files that are not stored yet; of each only a fingerprint is held, so that it is not uploaded again.

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::Name;
use crate::drop_folder::Stamp;

/// The most stored files that keep their place in the queue.
const MOST_IN_QUEUE: usize = 64;

/// The most fingerprints, of 8 bytes each: the set takes about 5 megabytes.
const MOST_FINGERPRINTS: usize = 256 * 1024;

/// The files that are stored but still in the drop folder.
#[derive(Debug, Default)]
pub(super) struct LeftFiles {
    in_queue: BTreeSet<Name>,
    /// The fingerprints of those that are not in the queue. With a chance of one in 10^13 another capture has one of them,
    /// and waits until they are cleared.
    pub(super) fingerprints: HashSet<u64>,
    hasher: RandomState,
}

impl LeftFiles {
    /// Adds a file of the queue.
    pub(super) fn insert(&mut self, name: Name) {
        self.in_queue.insert(name);
    }

    /// Forgets a file of the queue.
    pub(super) fn remove(&mut self, name: &Name) {
        self.in_queue.remove(name);
    }

    /// Returns how many are in the queue.
    pub(super) fn in_queue(&self) -> usize {
        self.in_queue.len()
    }

    /// Returns whether a file of the queue is one of them.
    pub(super) fn contains(&self, name: &Name) -> bool {
        self.in_queue.contains(name)
    }

    /// Returns a file of the queue that can give up its place and that `may_go`; `None` if none can.
    pub(super) fn spare(&self, capacity: usize, may_go: impl Fn(&Name) -> bool) -> Option<Name> {
        if self.in_queue.len() <= MOST_IN_QUEUE.min(capacity / 4) || self.fingerprints.len() >= MOST_FINGERPRINTS {
            return None;
        }
        self.in_queue.iter().find(|name| may_go(name)).map(Arc::clone)
    }

    /// Remembers the fingerprint of a file that leaves the queue.
    pub(super) fn put_off(&mut self, name: &Name, stamp: &Stamp) {
        self.fingerprints.insert(self.fingerprint(name, stamp));
    }

    /// Returns whether a file has left the queue because it is stored.
    pub(super) fn is_put_off(&self, name: &Name, stamp: &Stamp) -> bool {
        !self.fingerprints.is_empty() && self.fingerprints.contains(&self.fingerprint(name, stamp))
    }

    fn fingerprint(&self, name: &Name, stamp: &Stamp) -> u64 {
        self.hasher.hash_one((name, stamp.inode, stamp.size, stamp.modified, stamp.changed))
    }
}
