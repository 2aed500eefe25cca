//! Notices a camera whose clock is steadily hours or quarters of an hour off: its zone is probably set wrongly.
//!
//! Pictures arrive seconds after they were taken. Clips tell when they began, and arrive when they have ended, so they show
//! nothing.

use std::collections::{BTreeSet, VecDeque};

use chrono::{DateTime, FixedOffset, NaiveDate, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};

use crate::capture::{Capture, Media, TakenFrom};
use crate::status::ClockOffset;

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

/// The last pictures of a camera: the day on which each arrived, and how many seconds after its own time.
#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    seen: VecDeque<(NaiveDate, i64)>,
}

impl ClockWatch {
    /// Takes note of a capture that arrived; returns whether it says something about its camera's clock.
    pub(super) fn see(&mut self, capture: &Capture, arrival: DateTime<Utc>) -> bool {
        let tells = matches!(capture.taken_from, TakenFrom::Name | TakenFrom::Folder) && !capture.is_day_only;
        if !tells || capture.media != Media::Picture {
            return false;
        }
        let today = arrival.date_naive();
        let is_full = self.seen.iter().filter(|(day, _)| *day == today).count() >= MOST_A_DAY;
        let days: BTreeSet<NaiveDate> = self.seen.iter().map(|(day, _)| *day).chain([today]).collect();
        if days.len() > MOST_DAYS {
            let oldest = days.first().copied();
            self.seen.retain(|(day, _)| Some(*day) != oldest);
        } else if is_full {
            let oldest = self.seen.iter().position(|(day, _)| *day == today);
            oldest.and_then(|place| self.seen.remove(place));
        }
        self.seen.push_back((today, (arrival - capture.taken.to_utc()).num_seconds()));
        true
    }

    /// Returns how far the clock is off and the zone that would fit; `None` if it is right, or if its pictures do not agree.
    pub(super) fn offset(&self, taken: DateTime<FixedOffset>) -> Option<ClockOffset> {
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
            let is_fitting = |zone: &Tz| {
                let offset = at.with_timezone(zone).fixed_offset();
                i64::from(offset.offset().local_minus_utc()) == ahead && zone.name().contains('/')
            };
            TZ_VARIANTS.into_iter().find(is_fitting).map(|zone| zone.name().to_owned())
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
        let mut last = None;
        for (time, ahead, late) in pictures {
            let shown = at(time) + chrono::TimeDelta::seconds(*ahead);
            let name = shown.format("cam/x_00_%Y%m%d%H%M%S.jpg").to_string();
            let arrival = at(time) + chrono::TimeDelta::seconds(*late);
            let capture = crate::capture::classify(Path::new(&name), arrival, &config);
            if watch.see(&capture, arrival) {
                last = watch.offset(capture.taken);
            }
        }
        last.map(|offset| (offset.behind_seconds, offset.timezone.unwrap_or_default()))
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
