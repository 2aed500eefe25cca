//! Reads the time of a path whose folders tell the date, and whose further folders and name tell the clock.

use chrono::{FixedOffset, NaiveDateTime};

use super::stamp::{self, Clock};
use crate::capture::folders::{self, Folder};

/// The time of such a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dated {
    /// The wall clock.
    pub(super) wall: NaiveDateTime,
    /// Its offset from UTC, if the name tells it.
    pub(super) offset: Option<FixedOffset>,
}

/// Returns the time of such a path; `None` if it tells no date or no clock.
pub(super) fn read(path: &[u8]) -> Option<Dated> {
    let name_at = super::name_at(path);
    let (folders, name) = (path[..name_at].split(|byte| *byte == b'/'), &path[name_at..]);
    let folders: Vec<&[u8]> = folders.collect();
    // The last one is the empty text behind the last slash.
    let folders = &folders[..folders.len() - 1];
    let kinds = folders::read(folders);
    let date_of = |folder: &Folder| if let Folder::Date(date) = folder { Some(*date) } else { None };
    let (place, date) = kinds.iter().enumerate().rev().find_map(|(place, folder)| Some((place, date_of(folder)?)))?;
    let below = folders[place + 1..].iter().filter_map(|folder| folders::clock_number(folder));
    let numbers: Vec<u32> = folders::hour_of_date(folders[place]).into_iter().chain(below).collect();
    let (clock, offset) = match (stamp::first_clock(name), &*numbers) {
        (Some(told), _) => told,
        (None, [hour]) => {
            let (minute, second) = stamp::minute_and_second(name)?;
            (Clock::new(*hour, minute, second)?, None)
        }
        (None, [hour, minute]) => (Clock::new(*hour, *minute, stamp::second(name)?)?, None),
        (None, [hour, minute, second, ..]) => (Clock::new(*hour, *minute, *second)?, None),
        (None, []) => return None,
    };
    Some(Dated { wall: clock.on(date)?, offset })
}
