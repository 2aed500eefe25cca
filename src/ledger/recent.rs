//! What the ledger knows of the cameras' last days, for a daemon that has just started.
//!
//! Of each camera the file of its newest day is read whole, because its lines are counted; of the days before only the end,
//! because a backlog is stored newest first, so that an older day may have the line that was written last.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use chrono::{DateTime, FixedOffset, NaiveDate, Utc};
use serde::Deserialize;

use super::{cameras, days, lines, old, parse, path};

/// The most cameras that are told of, those with the newest days.
const MOST_CAMERAS: usize = 1000;

/// How much of the end of a file is read: some hundred lines.
const TAIL_BYTES: u64 = 64 << 10;

/// The last captures of a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recent {
    /// The newest day of which there is a capture, at the camera.
    pub day: NaiveDate,
    /// How many there are of that day.
    pub captures: u64,
    /// When the newest one was taken.
    pub last_taken_at: DateTime<FixedOffset>,
    /// When the last one was stored.
    pub last_stored_at: DateTime<Utc>,
}

/// What is read of a line.
#[derive(Deserialize)]
struct Times {
    stored_at: DateTime<Utc>,
    taken_at: DateTime<FixedOffset>,
}

/// Returns the last captures of each camera that has any since a day; `folder` is the ledger's.
///
/// Only lines of which `counts` is true of when they were stored count. It is asked for each line, so it can also end the
/// reading. What cannot be read is not told of.
pub fn recent(folder: &Path, since: NaiveDate, counts: &dyn Fn(DateTime<Utc>) -> bool) -> BTreeMap<String, Recent> {
    let mut found: Vec<(Vec<NaiveDate>, String)> = Vec::new();
    for camera in cameras(folder).unwrap_or_default() {
        let mut days = days(folder, &camera).unwrap_or_default();
        days.retain(|day| *day >= since);
        days.reverse();
        if !days.is_empty() {
            found.push((days, camera.into()));
        }
    }
    found.sort_unstable_by(|one, other| other.cmp(one));
    found.truncate(MOST_CAMERAS);
    let of_camera = |(days, camera): (Vec<NaiveDate>, String)| {
        let mut recent: Option<Recent> = None;
        for day in days {
            let path = path(folder, &camera, day);
            match &mut recent {
                None => recent = whole(&path, day, counts).ok().flatten(),
                Some(recent) => {
                    let last = last_stored(&path, counts).ok().flatten();
                    recent.last_stored_at = recent.last_stored_at.max(last.unwrap_or_default());
                }
            }
        }
        Some((camera, recent?))
    };
    found.into_iter().filter_map(of_camera).collect()
}

/// Returns what the file of a day tells; `None` if no line of it counts.
fn whole(path: &Path, day: NaiveDate, counts: &dyn Fn(DateTime<Utc>) -> bool) -> io::Result<Option<Recent>> {
    let times = lines(old::read(path)?).filter_map(|line| parse::<Times>(&line));
    Ok(times.filter(|times| counts(times.stored_at)).fold(None, |recent: Option<Recent>, times| {
        let Times { stored_at, taken_at } = times;
        let first = Recent { day, captures: 0, last_taken_at: taken_at, last_stored_at: stored_at };
        let before = recent.unwrap_or(first);
        Some(Recent {
            day,
            captures: before.captures + 1,
            last_taken_at: before.last_taken_at.max(taken_at),
            last_stored_at: before.last_stored_at.max(stored_at),
        })
    }))
}

/// Returns when the last capture at the end of a day's file was stored. A compressed file is too old to have it.
fn last_stored(path: &Path, counts: &dyn Fn(DateTime<Utc>) -> bool) -> io::Result<Option<DateTime<Utc>>> {
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let times = lines(file.take(TAIL_BYTES)).filter_map(|line| parse::<Times>(&line));
    Ok(times.map(|times| times.stored_at).filter(|stored_at| counts(*stored_at)).max())
}

#[cfg(test)]
mod tests {
    use super::super::{LedgerEntry, Removed, append, append_removed, compress_old};
    use super::*;

    fn time(text: &str) -> DateTime<FixedOffset> {
        DateTime::parse_from_rfc3339(text).unwrap()
    }

    fn add(folder: &Path, camera: &str, taken: &str, stored: &str) {
        let entry = LedgerEntry {
            stored_at: time(stored).to_utc(),
            key: taken.into(),
            size: 1,
            sha256: "ab".into(),
            taken_at: time(taken),
            event: None,
            source: String::new(),
            partial: false,
        };
        append(folder, camera, &entry).unwrap();
    }

    #[test]
    fn the_newest_day_is_counted_and_a_backlog_of_older_days_tells_when_the_last_capture_was_stored() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let since = "2026-03-01".parse().unwrap();
        let all = |_| true;
        assert!(recent(folder, since, &all).is_empty(), "there is no ledger");
        for (taken, stored) in [
            ("2026-03-04T08:00:00+02:00", "2026-03-04T06:00:01Z"),
            ("2026-03-04T07:00:00+02:00", "2026-03-04T06:00:03Z"),
            // The backlog comes after it.
            ("2026-03-03T07:00:00+02:00", "2026-03-04T06:00:09Z"),
        ] {
            add(folder, "CAM", taken, stored);
        }
        append_removed(
            folder,
            "CAM",
            "2026-03-04".parse().unwrap(),
            &[Removed { removed_at: time("2026-03-05T00:00:00Z").to_utc(), key: "x".into(), bundle: None }],
        )
        .unwrap();
        add(folder, "GONE", "2026-02-28T23:59:59+02:00", "2026-03-04T06:00:00Z");
        let told = recent(folder, since, &all);
        let expected = Recent {
            day: "2026-03-04".parse().unwrap(),
            captures: 2,
            last_taken_at: time("2026-03-04T08:00:00+02:00"),
            last_stored_at: time("2026-03-04T06:00:09Z").to_utc(),
        };
        assert_eq!(told, BTreeMap::from([("CAM".to_owned(), expected)]));
        // Compressed, it tells the same but for the older days' ends, and nothing that does not count is told.
        compress_old(folder, 0, "2026-03-20".parse().unwrap()).unwrap();
        let last_stored_at = time("2026-03-04T06:00:03Z").to_utc();
        assert_eq!(recent(folder, since, &all)["CAM"], Recent { last_stored_at, ..expected });
        let before = |at: DateTime<Utc>| at < time("2026-03-04T06:00:02Z");
        assert_eq!(recent(folder, since, &before)["CAM"].captures, 1);
        assert!(recent(folder, since, &|_| false).is_empty());
    }
}
