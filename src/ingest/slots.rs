//! Which uploads may run at the same time, so that pictures never wait for clips.
//!
//! Large files hold at most half of the slots, and one slot is always left to small ones: if `upload.concurrency` is 1, a
//! small file may be uploaded beside a large one. That is one connection more than asked for, now and then. The
//! alternatives are worse: a picture would wait while a clip goes up, which takes hours at a limited bandwidth, or a clip
//! would wait until no more pictures come.

use crate::queue::{Eligible, SizeClass};

/// The hard cap on all uploads, as a multiple of `concurrency`; uploads that hang in an outage count here, but hold no slot.
pub(super) const MOST_FOLD: usize = 2;

/// The uploads under way that hold a slot.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UploadSlots {
    small: usize,
    large: usize,
}

impl UploadSlots {
    /// Returns the same slots with one more upload.
    pub(super) fn with(self, size: SizeClass) -> Self {
        match size {
            SizeClass::Small => Self { small: self.small + 1, ..self },
            SizeClass::Large => Self { large: self.large + 1, ..self },
        }
    }

    /// Returns whether no upload holds a slot.
    pub(super) fn is_empty(self) -> bool {
        self.small + self.large == 0
    }

    /// Returns which files may be started now; `None` if no slot is free.
    pub(super) fn eligible(self, concurrency: usize) -> Option<Eligible> {
        let most_large = (concurrency / 2).max(1);
        let taken = self.small + self.large;
        // Large files never hold the last slot.
        if taken >= concurrency.max(self.large + 1) {
            None
        } else if self.large >= most_large || taken >= concurrency {
            Some(Eligible::SmallOnly)
        } else {
            Some(Eligible::AnySize)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts uploads until no more may start: large ones first where that is wanted and possible, or only small ones.
    fn fill(mut slots: UploadSlots, concurrency: usize, wanted: SizeClass) -> UploadSlots {
        while let Some(eligible) = slots.eligible(concurrency) {
            slots = slots.with(if eligible == Eligible::AnySize { wanted } else { SizeClass::Small });
        }
        slots
    }

    #[test]
    fn i7_large_files_hold_at_most_half_of_the_places_and_never_the_last_one() {
        for (concurrency, large, small) in [(1, 1, 1), (2, 1, 1), (3, 1, 2), (8, 4, 4), (9, 4, 5), (256, 128, 128)] {
            let slots = fill(UploadSlots::default(), concurrency, SizeClass::Large);
            assert_eq!((slots.large, slots.small), (large, small), "{concurrency}");
            assert_eq!(fill(UploadSlots::default(), concurrency, SizeClass::Small).small, concurrency);
        }
    }

    #[test]
    fn a_large_file_takes_a_place_as_soon_as_one_is_free() {
        let seven = (0..7).fold(UploadSlots::default(), |slots, _| slots.with(SizeClass::Small));
        assert_eq!(seven.eligible(8), Some(Eligible::AnySize));
        assert_eq!(UploadSlots::default().with(SizeClass::Small).eligible(1), None);
    }
}
