//! How often each camera sends something, learnt from what it sent, so that nobody has to say when its silence is odd.
//!
//! A camera may be silent for twice its longest silence of the last `DAYS` days, at least for `LEAST` and at most for
//! `MOST`. A silence that was told of counts as no longer than what was allowed, so that a camera that was broken for a
//! week does not get a fortnight. A camera is not judged before it is known for `KNOWN`. The time in which this box was
//! off does not count as anybody's silence.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::status::Snapshot;

/// The name of the file in the state folder.
pub const FILE: &str = "cameras.json";

/// Of how many days silences are remembered.
const DAYS: usize = 14;

/// The shortest and the longest silence that is odd.
const LEAST: TimeDelta = TimeDelta::hours(6);
const MOST: TimeDelta = TimeDelta::days(7);

/// How long a camera must be known.
const KNOWN: TimeDelta = TimeDelta::days(3);

/// After how long a camera that sends nothing is forgotten.
const FORGOTTEN: TimeDelta = TimeDelta::days(60);

/// The most cameras that are remembered.
const MOST_CAMERAS: usize = 1000;

/// A shorter absence of this box is not worth a correction.
const PAUSE: TimeDelta = TimeDelta::minutes(10);

/// What is known of all cameras.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rhythms {
    /// When this box looked last.
    alive_at: Option<DateTime<Utc>>,
    cameras: BTreeMap<String, Rhythm>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Rhythm {
    /// When the first capture was stored.
    first: DateTime<Utc>,
    /// When the last one was, moved by the time in which this box was off.
    last: DateTime<Utc>,
    /// The longest silence that ended on a day, in seconds.
    silences: BTreeMap<NaiveDate, i64>,
}

impl Rhythms {
    /// Takes up what was known when the box was alive last.
    #[must_use]
    pub fn resume(mut self, now: DateTime<Utc>) -> Self {
        let off = self.alive_at.map_or(TimeDelta::zero(), |alive| now - alive);
        if off > PAUSE {
            self.cameras.values_mut().for_each(|rhythm| rhythm.last += off);
        }
        self.alive_at = Some(now);
        self
    }

    /// Takes note of what was stored.
    pub fn see(&mut self, facts: &Snapshot) {
        self.alive_at = Some(facts.at);
        for (name, camera) in &facts.cameras {
            let stored = camera.last_stored_at;
            let known = self.cameras.get_mut(name);
            let Some(known) = known else {
                // What was stored before the start does not tell for how long this box was off.
                let last = stored.max(facts.started_at);
                let rhythm = Rhythm { first: stored, last, silences: BTreeMap::new() };
                self.cameras.insert(name.clone(), rhythm);
                continue;
            };
            let silence = (stored - known.last).min(known.limit());
            if silence > TimeDelta::zero() {
                known.last = stored;
                let longest = known.silences.entry(stored.date_naive()).or_default();
                *longest = silence.num_seconds().max(*longest);
                while known.silences.len() > DAYS {
                    known.silences.pop_first();
                }
            }
        }
        // A clock that was wrong must not keep a camera quiet for ever.
        self.cameras.values_mut().for_each(|rhythm| rhythm.last = rhythm.last.min(facts.at));
        self.cameras.retain(|_, rhythm| facts.at - rhythm.last < FORGOTTEN);
        while self.cameras.len() > MOST_CAMERAS {
            let oldest = self.cameras.iter().min_by_key(|(_, rhythm)| rhythm.last).map(|(name, _)| name.clone());
            oldest.and_then(|name| self.cameras.remove(&name));
        }
    }

    /// Returns how long each camera may be silent that is known for long enough.
    pub fn limits(&self) -> impl Iterator<Item = (&String, Duration)> {
        let known = self.cameras.iter().filter(|(_, rhythm)| rhythm.last - rhythm.first >= KNOWN);
        known.filter_map(|(name, rhythm)| Some((name, rhythm.limit().to_std().ok()?)))
    }

    /// Returns when each camera stored something last.
    pub fn last(&self) -> impl Iterator<Item = (&String, DateTime<Utc>)> {
        self.cameras.iter().map(|(name, rhythm)| (name, rhythm.last))
    }
}

impl Rhythm {
    fn limit(&self) -> TimeDelta {
        let longest = self.silences.values().copied().max().unwrap_or(0);
        TimeDelta::seconds(longest.saturating_mul(2)).clamp(LEAST, MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::tests::well;
    use crate::status::CameraStatus;

    fn hour(hour: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + hour * 3600, 0).unwrap()
    }

    fn see(rhythms: &mut Rhythms, at: i64) {
        let mut now = well(0);
        now.at = hour(at);
        let stored = CameraStatus {
            captures: 1,
            newest_day: None,
            last_taken_at: hour(at).fixed_offset(),
            last_stored_at: hour(at),
            wrong_clock: None,
            clock_offset: None,
        };
        now.cameras = BTreeMap::from([("CAM".to_owned(), stored)]);
        rhythms.see(&now);
    }

    fn limit(rhythms: &Rhythms) -> Option<u64> {
        rhythms.limits().next().map(|(_, limit)| limit.as_secs() / 3600)
    }

    #[test]
    fn a_camera_may_be_silent_for_twice_its_longest_silence() {
        let mut busy = Rhythms::default();
        (0..71).for_each(|hour| see(&mut busy, hour));
        assert_eq!(limit(&busy), None, "it is not known for long enough");
        (71..100).for_each(|hour| see(&mut busy, hour));
        assert_eq!(limit(&busy), Some(6));
        // A night of nine hours counts as what was allowed, and then the next one as it is.
        see(&mut busy, 109);
        assert_eq!(limit(&busy), Some(12));
        see(&mut busy, 118);
        assert_eq!(limit(&busy), Some(18));
        (118..118 + 24 * 15).for_each(|hour| see(&mut busy, hour));
        assert_eq!(limit(&busy), Some(6), "old nights are forgotten");
    }

    #[test]
    fn a_week_in_which_it_was_broken_does_not_make_it_quiet_and_the_box_being_off_is_nobodys_silence() {
        let mut rhythms = Rhythms::default();
        (0..100).for_each(|hour| see(&mut rhythms, hour));
        see(&mut rhythms, 100 + 24 * 7);
        assert_eq!(limit(&rhythms), Some(12));
        let back = rhythms.clone().resume(hour(1000));
        assert_eq!(back.last().next().unwrap().1, hour(1000));
        assert_eq!(rhythms.clone().resume(hour(100 + 24 * 7)).last().next().unwrap().1, hour(100 + 24 * 7));
    }

    #[test]
    fn a_camera_that_is_gone_is_forgotten_in_the_end() {
        let mut rhythms = Rhythms::default();
        see(&mut rhythms, 0);
        let mut now = well(0);
        (now.at, now.cameras) = (hour(24 * 60), BTreeMap::new());
        rhythms.see(&now);
        assert_eq!(rhythms.last().count(), 0);
    }
}
