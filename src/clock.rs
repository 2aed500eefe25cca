//! The two clocks of a box, and the wait after a failure.

use std::time::{Duration, Instant, SystemTime};

/// Both clocks, read together. The steady clock measures waits; the wall clock tells dates and the age of files.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The clock that never steps.
    pub steady: Instant,
    /// The clock that somebody may set, forward or back.
    pub wall: SystemTime,
}

/// Returns the wait after this number of failures.
///
/// The wait doubles from `first` to `longest`; `jitter` (0 to 1) takes off up to half of it, so that many boxes do not
/// ask at the same moment.
pub fn backoff(failures: u32, first: Duration, longest: Duration, jitter: f64) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(longest);
    doubled.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}
