//! What is counted since the start, for the metrics. Whoever may push can make up any number of names: what is counted by
//! name is bounded.

use std::collections::BTreeMap;
use std::time::Duration;

/// The most cameras that are counted on their own; all others are [`OTHER`].
pub const MOST_CAMERAS: usize = 200;

/// The most pairs of a camera and an event that are counted on their own.
const MOST_EVENTS: usize = 1000;

/// The name under which everything else is counted.
pub const OTHER: &str = "other";

/// The counts since the start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counters {
    /// The captures stored, by camera and event; the event is empty if the capture has none.
    pub captures: BTreeMap<(String, String), u64>,
    /// The bytes stored, by camera.
    pub bytes: BTreeMap<String, u64>,
    /// How long captures took from their arrival until they were stored.
    pub delays: Delays,
    /// The uploads that failed, by what is done about it.
    pub failures: BTreeMap<&'static str, u64>,
    /// The files that were set aside, by the kind of reason.
    pub set_aside: BTreeMap<&'static str, u64>,
}

impl Counters {
    /// Counts a capture that was stored this long after its arrival.
    pub fn stored(&mut self, camera: &str, event: Option<&str>, bytes: u64, delay: Duration) {
        let is_known = self.bytes.contains_key(camera) || self.bytes.len() < MOST_CAMERAS;
        let camera = if is_known { camera } else { OTHER };
        *self.bytes.entry(camera.to_owned()).or_default() += bytes;
        let key = (camera.to_owned(), event.unwrap_or_default().to_owned());
        let is_known = self.captures.contains_key(&key) || self.captures.len() < MOST_EVENTS;
        let key = if is_known { key } else { (OTHER.to_owned(), OTHER.to_owned()) };
        *self.captures.entry(key).or_default() += 1;
        self.delays.add(delay);
    }

    /// Counts an upload that failed.
    pub fn failed(&mut self, verdict: &'static str) {
        *self.failures.entry(verdict).or_default() += 1;
    }

    /// Counts a file that was set aside.
    pub fn set_aside(&mut self, reason: &'static str) {
        *self.set_aside.entry(reason).or_default() += 1;
    }
}

/// A histogram of durations.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delays {
    /// How many were at most as long as each of [`Delays::BOUNDS`], and not as long as the one before.
    counts: [u64; Self::BOUNDS.len()],
    /// How many there were.
    pub count: u64,
    /// All of them together, in seconds.
    pub sum_seconds: f64,
}

impl Delays {
    /// The upper bounds of the buckets in seconds: from what is promised, a second, to a day of outage.
    pub const BOUNDS: [f64; 12] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3600.0, 21_600.0, 86_400.0];

    fn add(&mut self, delay: Duration) {
        let seconds = delay.as_secs_f64();
        if let Some(bucket) = Self::BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.counts[bucket] += 1;
        }
        self.count += 1;
        self.sum_seconds += seconds;
    }

    /// Returns each bound with the number of durations up to it.
    pub fn cumulated(&self) -> impl Iterator<Item = (f64, u64)> {
        let sums = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        Self::BOUNDS.into_iter().zip(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_pushed_the_counters_stay_small_and_count_all() {
        let mut counters = Counters::default();
        for number in 0..5000_u64 {
            let (camera, event) = (format!("CAM-{}", number % 1500), format!("event {number}"));
            counters.stored(&camera, Some(&event), 10, Duration::from_secs(number));
        }
        assert!(counters.bytes.len() <= MOST_CAMERAS + 1 && counters.captures.len() <= MOST_EVENTS + 1);
        assert_eq!(counters.captures.values().sum::<u64>(), 5000);
        assert_eq!(counters.bytes.values().sum::<u64>(), 50_000);
        assert_eq!(counters.delays.count, 5000);
        let cumulated: Vec<(f64, u64)> = counters.delays.cumulated().collect();
        assert!(cumulated.is_sorted_by_key(|(_, count)| *count), "{cumulated:?}");
        assert!(cumulated.contains(&(60.0, 61)) && cumulated.contains(&(3600.0, 3601)), "{cumulated:?}");
    }
}
