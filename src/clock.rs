//! The two clocks of a box, and how long to wait after a failure.

use std::time::{Duration, Instant, SystemTime};

/// Both clocks, read together: the steady one for waiting, the wall clock for a file's age.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Never steps.
    pub steady: Instant,
    /// May step.
    pub wall: SystemTime,
}

/// Returns the wait after this number of failures: it doubles from `first` to `longest`, and `jitter` (0..1) takes off up
/// to half of it.
pub fn backoff(failures: u32, first: Duration, longest: Duration, jitter: f64) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(longest);
    doubled.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}
