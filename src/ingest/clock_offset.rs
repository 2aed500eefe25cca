//! Notices a camera whose clock is steadily hours or quarters of an hour off: its zone is probably set wrongly.
//!
//! Pictures arrive seconds after they were taken. Clips tell when they began, and arrive when they have ended, so they show
//! nothing.
//!
//! What was said is kept in a state file, so that a restart does not say it again. One picture that arrives at its own time
//! shows that the clock has been set.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;

use chrono::{DateTime, FixedOffset, NaiveDate, TimeDelta, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};

use crate::capture::{Capture, Media, TakenFrom};
use crate::persist::{self, Purpose};
use crate::status::ClockOffset;

/// The name of the state file that remembers what was said, by camera.
const MEMORY: &str = "clock-offsets.json";

/// A thousand cameras with long names need less.
const LONGEST_MEMORY_BYTES: u64 = 1 << 20;

/// How many pictures must agree.
const ENOUGH: usize = 12;

/// On how many days.
const ENOUGH_DAYS: usize = 2;

/// How many pictures of one day are remembered, and of how many days: a busy day must not push out the day before.
const MOST_A_DAY: usize = ENOUGH;
const MOST_DAYS: usize = 3;

/// The most seconds between the earliest and the latest of those that agree.
const SPREAD_SECONDS: i64 = 60;

/// The step of the offsets of zones.
const QUARTER_SECONDS: i64 = 15 * 60;

/// How many seconds a picture may be under way, and a clock may be wrong beside its zone.
const SLACK_SECONDS: i64 = 90;

/// What the last pictures of a camera show of its clock.
#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    /// The day on which each arrived, and how many seconds after its own time.
    seen: VecDeque<(NaiveDate, i64)>,
    /// What was said of the clock, while nothing shows that it is right.
    said: Option<ClockOffset>,
}

/// Returns the clocks of which something was said before the last stop. If the file cannot be read, it is said once more.
pub(super) fn remembered(state_dir: &Path) -> BTreeMap<String, ClockWatch> {
    let said: BTreeMap<String, ClockOffset> =
        persist::read(&state_dir.join(MEMORY), LONGEST_MEMORY_BYTES).unwrap_or_default();
    said.into_iter()
        .map(|(camera, offset)| (camera, ClockWatch { said: Some(offset), ..ClockWatch::default() }))
        .collect()
}

/// Remembers what was said of these clocks.
///
/// # Errors
/// The state file cannot be written.
pub(super) fn remember(state_dir: &Path, clocks: &BTreeMap<String, ClockWatch>) -> io::Result<()> {
    let said: BTreeMap<&String, &ClockOffset> =
        clocks.iter().filter_map(|(camera, clock)| Some((camera, clock.said()?))).collect();
    persist::write(&state_dir.join(MEMORY), &said, Purpose::NextStart)
}

impl ClockWatch {
    /// Returns how far the clock is off, if that was said and nothing has shown since that it is right.
    pub(super) fn said(&self) -> Option<&ClockOffset> {
        self.said.as_ref()
    }

    /// Takes note of a capture that arrived; returns whether what is to be said of the clock has changed.
    pub(super) fn see(&mut self, capture: &Capture, arrival: DateTime<Utc>) -> bool {
        let tells = matches!(capture.taken_from, TakenFrom::Name | TakenFrom::Folder) && !capture.is_day_only;
        if !tells || capture.media != Media::Picture {
            return false;
        }
        let late = (arrival - capture.taken.to_utc()).num_seconds();
        if late.abs() <= SLACK_SECONDS {
            self.seen.clear();
            return self.said.take().is_some();
        }
        self.keep(arrival.date_naive(), late);
        let Some(offset) = self.offset(capture.taken) else { return false };
        // Summer time changes the offset of a camera without it, but not the zone that fits.
        let is_new = self.said.as_ref().is_none_or(|said| said.timezone != offset.timezone);
        if is_new {
            self.said = Some(offset);
        }
        is_new
    }

    /// Keeps how late a picture of today was, and forgets what is too old or too much.
    fn keep(&mut self, today: NaiveDate, late: i64) {
        let is_full = self.seen.iter().filter(|(day, _)| *day == today).count() >= MOST_A_DAY;
        let days: BTreeSet<NaiveDate> = self.seen.iter().map(|(day, _)| *day).chain([today]).collect();
        if days.len() > MOST_DAYS {
            let oldest = days.first().copied();
            self.seen.retain(|(day, _)| Some(*day) != oldest);
        } else if is_full {
            let oldest = self.seen.iter().position(|(day, _)| *day == today);
            oldest.and_then(|place| self.seen.remove(place));
        }
        self.seen.push_back((today, late));
    }

    /// Returns how far the clock is off and the zone that would fit; `None` if its pictures do not agree.
    fn offset(&self, taken: DateTime<FixedOffset>) -> Option<ClockOffset> {
        let mut late: Vec<(i64, NaiveDate)> = self.seen.iter().map(|(day, late)| (*late, *day)).collect();
        late.sort_unstable();
        let agree = (0..late.len()).map(|first| {
            let group = &late[first..];
            &group[..group.partition_point(|(late, _)| late - group[0].0 < SPREAD_SECONDS)]
        });
        let agree = agree.max_by_key(|group| group.len())?;
        let days: BTreeSet<NaiveDate> = agree.iter().map(|(_, day)| *day).collect();
        if agree.len() < ENOUGH || days.len() < ENOUGH_DAYS || 2 * agree.len() <= late.len() {
            return None;
        }
        let middle = agree[agree.len() / 2].0;
        let behind = (middle + QUARTER_SECONDS / 2).div_euclid(QUARTER_SECONDS) * QUARTER_SECONDS;
        if behind == 0 || (middle - behind).abs() > SLACK_SECONDS {
            return None;
        }
        let fitting = i64::from(taken.offset().local_minus_utc()) - behind;
        Some(ClockOffset { behind_seconds: behind, timezone: zone_of(fitting, taken.to_utc()) })
    }
}

/// Returns the name of a zone that is this many seconds ahead of UTC, all year long if there is such a zone.
fn zone_of(ahead: i64, at: DateTime<Utc>) -> Option<String> {
    let (hours, rest) = (ahead / 3600, ahead % 3600);
    match (hours, rest) {
        (0, 0) => Some("UTC".to_owned()),
        // The names count the hours behind UTC (IANA Time Zone Database, `etcetera`).
        (-12..=14, 0) => Some(format!("Etc/GMT{:+}", -hours)),
        _ => {
            let is_fitting = |zone: &Tz, at: DateTime<Utc>| {
                let offset = at.with_timezone(zone).fixed_offset();
                i64::from(offset.offset().local_minus_utc()) == ahead && zone.name().contains('/')
            };
            let half_a_year_before = at - TimeDelta::days(182);
            let fitting = TZ_VARIANTS.into_iter().filter(|zone| is_fitting(zone, at));
            fitting.min_by_key(|zone| !is_fitting(zone, half_a_year_before)).map(|zone| zone.name().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// What is said after pictures of these days and times of day in UTC, each with the clock of its name so many seconds
    /// ahead of UTC, and how many seconds it was under way.
    fn said(zone: &str, pictures: &[(&str, i64, i64)]) -> Option<(i64, String)> {
        let text = format!("drop_folder: {{path: /drop}}\ns3: {{bucket: my-bucket}}\ntimezone: {zone}\n");
        let config = Config::parse(Path::new("test.yaml"), &text, &|_| None).unwrap();
        let mut watch = ClockWatch::default();
        for (time, ahead, late) in pictures {
            let shown = at(time) + chrono::TimeDelta::seconds(*ahead);
            let name = shown.format("cam/x_00_%Y%m%d%H%M%S.jpg").to_string();
            let arrival = at(time) + chrono::TimeDelta::seconds(*late);
            let capture = crate::capture::classify(Path::new(&name), arrival, &config);
            watch.see(&capture, arrival);
        }
        let said = watch.said()?;
        Some((said.behind_seconds, said.timezone.clone().unwrap_or_default()))
    }

    fn pictures(days: &[u32], each: u32, ahead: i64, late: impl Fn(u32) -> i64) -> Vec<(&'static str, i64, i64)> {
        let time = |day: u32, number: u32| &*format!("2026-07-{day:02}T09:{number:02}:00Z").leak();
        days.iter().flat_map(|day| (0..each).map(|number| (time(*day, number), ahead, late(number)))).collect()
    }

    #[test]
    fn a_steady_offset_of_hours_or_quarters_is_said_with_the_zone_that_fits() {
        for (zone, ahead, expected) in [
            ("Europe/Kyiv", 3 * 3600, None),
            ("Europe/Kyiv", 0, Some((3 * 3600, "UTC"))),
            // A camera without DST.
            ("Europe/Kyiv", 2 * 3600, Some((3600, "Etc/GMT-2"))),
            ("UTC", -5 * 3600, Some((5 * 3600, "Etc/GMT+5"))),
            ("UTC", 8 * 3600, Some((-8 * 3600, "Etc/GMT-8"))),
            ("UTC", 5 * 3600 + 1800, Some((-19_800, "Asia/Calcutta"))),
            ("UTC", 5 * 3600 + 2700, Some((-20_700, "Asia/Kathmandu"))),
            // Neither hours nor quarters.
            ("UTC", 3000, None),
        ] {
            let expected = expected.map(|(behind, zone)| (behind, zone.to_owned()));
            let pictures = pictures(&[1, 2], 6, ahead, |number| 2 + i64::from(number) * 5);
            assert_eq!(said(zone, &pictures), expected, "{zone} {ahead}");
        }
    }

    #[test]
    fn few_pictures_one_day_or_a_wide_spread_say_nothing() {
        let off = 3600;
        assert_eq!(said("UTC", &pictures(&[1, 2], 5, off, |_| 3)), None, "ten pictures");
        assert_eq!(said("UTC", &pictures(&[1], 40, off, |_| 3)), None, "one day");
        assert_eq!(said("UTC", &pictures(&[1, 2], 12, off, |number| i64::from(number) * 70)), None, "a wide spread");
        // A few that were late change nothing, nor does a busy day.
        assert!(said("UTC", &pictures(&[1, 2], 12, off, |number| if number == 3 { 500 } else { 3 })).is_some());
        assert!(said("UTC", &[pictures(&[1], 6, off, |_| 3), pictures(&[2], 59, off, |_| 3)].concat()).is_some());
        // The clock was set.
        let set = [pictures(&[1, 2], 12, off, |_| 3), pictures(&[3, 4], 12, 0, |_| 3)].concat();
        assert_eq!(said("UTC", &set), None);
    }
}
