//! How many bytes a request may have. S3 takes gigabytes; another store, or a proxy in front of it, may take less, and
//! answers 413.
//!
//! What it takes is learnt from what it refuses: the next requests have half the bytes, as long as the parts of an object
//! may be that small.

use std::sync::atomic::{AtomicU64, Ordering};

use super::parts::{least_part_bytes, part_bytes};
use super::{Bucket, MULTIPART_FROM, Refusal};

/// The least bytes of a part that is not the last one (S3 User Guide, "Amazon S3 multipart upload limits").
const LEAST_PART: u64 = 5 * 1024 * 1024;

/// The fewest bytes that a request had which was refused for its size.
#[derive(Debug)]
pub(super) struct RequestLimit(AtomicU64);

impl Default for RequestLimit {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl RequestLimit {
    fn refused(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns whether an object of `size` bytes goes up in one request.
    pub(super) fn takes_whole(&self, size: u64) -> bool {
        size < MULTIPART_FROM && (size < self.refused() || size <= LEAST_PART)
    }

    /// Returns the bytes of each part of an object of `size` bytes.
    pub(super) fn part_bytes(&self, size: u64) -> u64 {
        least_part_bytes(size).max(part_bytes(size).min((self.refused() / 2).max(LEAST_PART)))
    }

    /// Returns the bytes of the largest request for an object of `size` bytes.
    pub(super) fn request_bytes(&self, size: u64) -> u64 {
        if self.takes_whole(size) { size } else { self.part_bytes(size).min(size) }
    }
}

impl Bucket {
    /// Takes note of a request of `bytes` that was refused for its size, if it was; returns the refusal with what to do.
    pub(super) fn noting_size(&self, refusal: Refusal, bytes: u64) -> Refusal {
        if !refusal.is_too_large() {
            return refusal;
        }
        self.limit.0.fetch_min(bytes, Ordering::Relaxed);
        let advice = format!(
            "this store, or a proxy in front of it, takes at most {} bytes a request: raise its limit \
             (client_max_body_size in nginx); other files are not concerned",
            self.limit.refused() - 1
        );
        Refusal { advice, ..refusal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_is_refused_goes_up_in_parts_of_half_the_size_down_to_the_least_part() {
        for (size, expected) in [
            (12 * MIB, &[12 * MIB, 6 * MIB, 5 * MIB][..]),
            (20 * MIB, &[8 * MIB, 5 * MIB]),
            (6 * MIB, &[6 * MIB, 5 * MIB]),
            // It has no smaller parts.
            (5 * MIB, &[5 * MIB]),
            (MIB, &[MIB]),
        ] {
            let limit = RequestLimit::default();
            let mut tried = vec![limit.request_bytes(size)];
            while let Some(last) = tried.last().copied() {
                limit.0.fetch_min(last, Ordering::Relaxed);
                if limit.request_bytes(size) >= last {
                    break;
                }
                tried.push(limit.request_bytes(size));
            }
            assert_eq!(tried, expected, "{size}");
            assert!(limit.takes_whole(100), "other files are not concerned");
        }
    }
}
