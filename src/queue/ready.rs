//! The files that are ready to be uploaded, by age.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use super::file::{Eligible, SizeClass};
use super::{Aged, Name};

/// Which of two files goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    Newest,
    Oldest,
}

/// The files that are ready to be uploaded. Large ones are held apart, because they may have to wait while small ones go.
#[derive(Debug, Default)]
pub(super) struct ReadyFiles {
    pub(super) small: BTreeSet<Aged>,
    pub(super) large: BTreeSet<Aged>,
}

impl ReadyFiles {
    pub(super) fn insert(&mut self, size: SizeClass, modified: SystemTime, name: &Name) {
        self.of(size).insert((modified, Arc::clone(name)));
    }

    pub(super) fn remove(&mut self, size: SizeClass, modified: SystemTime, name: &Name) {
        self.of(size).remove(&(modified, Arc::clone(name)));
    }

    /// Returns the first eligible file and removes it.
    pub(super) fn pop(&mut self, first: First, eligible: Eligible) -> Option<Name> {
        let pick = |files: &BTreeSet<Aged>| match first {
            First::Newest => files.last().cloned(),
            First::Oldest => files.first().cloned(),
        };
        let small = pick(&self.small);
        let large = if eligible == Eligible::AnySize { pick(&self.large) } else { None };
        let found = match first {
            First::Newest => small.into_iter().chain(large).max(),
            First::Oldest => small.into_iter().chain(large).min(),
        }?;
        if !self.small.remove(&found) {
            self.large.remove(&found);
        }
        Some(found.1)
    }

    /// Returns the file with the fewest failures, the newest of those, and removes it.
    pub(super) fn pop_least_failed(&mut self, failures: impl Fn(&Name) -> u32) -> Option<Name> {
        let least = |files: &BTreeSet<Aged>| files.iter().rev().min_by_key(|(_, name)| failures(name)).cloned();
        let (small, large) = (least(&self.small), least(&self.large));
        // With as many failures the small one goes first: it gives an answer sooner.
        let found = small.into_iter().chain(large).min_by_key(|(_, name)| failures(name))?;
        if !self.small.remove(&found) {
            self.large.remove(&found);
        }
        Some(found.1)
    }

    fn of(&mut self, size: SizeClass) -> &mut BTreeSet<Aged> {
        match size {
            SizeClass::Small => &mut self.small,
            SizeClass::Large => &mut self.large,
        }
    }
}
