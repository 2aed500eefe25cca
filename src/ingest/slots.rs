//! Who may have a place among the uploads at the same time, so that pictures never wait for clips.
//!
//! Large files hold at most half of the places, and one place is always left to small ones: where `upload.concurrency`
//! is 1, a small file goes beside a large one. That is one more connection than asked for, now and then; the other ways
//! are a picture that waits for as long as a clip takes, which at a limited bandwidth is hours, or a clip that waits
//! until no picture comes any more.

use crate::queue::Eligible;

/// Uploads that hang in an outage are not counted, but with them there are never more than so many times `concurrency`.
pub(super) const MOST_FOLD: usize = 2;

/// The uploads under way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UploadSlots {
    small: usize,
    large: usize,
}

impl UploadSlots {
    /// With one more.
    pub(super) fn with(self, large: bool) -> Self {
        let (small, large) = if large { (0, 1) } else { (1, 0) };
        Self { small: self.small + small, large: self.large + large }
    }

    pub(super) fn is_empty(self) -> bool {
        self.small + self.large == 0
    }

    /// What may be begun; `None`: nothing.
    pub(super) fn wanted(self, concurrency: usize) -> Option<Eligible> {
        let most_large = (concurrency / 2).max(1);
        let full = self.small + self.large >= concurrency.max(self.large + 1);
        match () {
            () if full => None,
            () if self.large >= most_large || self.small + self.large >= concurrency => Some(Eligible::SmallOnly),
            () => Some(Eligible::AnySize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Begins what may be begun, for as long as anything may.
    fn fill(mut places: UploadSlots, concurrency: usize, large_first: bool) -> UploadSlots {
        while let Some(wanted) = places.wanted(concurrency) {
            places = places.with(large_first && wanted == Eligible::AnySize);
        }
        places
    }

    #[test]
    fn i7_large_files_hold_at_most_half_of_the_places_and_never_the_last_one() {
        for (concurrency, large, small) in [(1, 1, 1), (2, 1, 1), (3, 1, 2), (8, 4, 4), (9, 4, 5), (256, 128, 128)] {
            let places = fill(UploadSlots::default(), concurrency, true);
            assert_eq!((places.large, places.small), (large, small), "{concurrency}");
            assert_eq!(fill(UploadSlots::default(), concurrency, false).small, concurrency);
        }
    }

    #[test]
    fn a_large_file_takes_a_place_as_soon_as_one_is_free() {
        let seven = (0..7).fold(UploadSlots::default(), |places, _| places.with(false));
        assert_eq!(seven.wanted(8), Some(Eligible::AnySize));
        assert_eq!(UploadSlots::default().with(false).wanted(1), None);
    }
}
