//! The limit of all uploads together: one rate, or a timetable of rates.

use chrono::NaiveTime;
use serde::{Serialize, Serializer};

use super::notation;
use super::problem::Fault;

/// The times of day in a timetable.
const TIME_OF_DAY: &str = "%H:%M";

/// How many bytes a second all uploads together may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bandwidth {
    /// Bytes a second, day and night.
    Always(u64),
    /// The changes of a day, at least one, sorted by time; the last one holds over midnight until the first.
    Timetable(Vec<BandwidthChange>),
}

/// One change of a timetable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BandwidthChange {
    /// When it begins, in the system's time zone.
    pub from: NaiveTime,
    /// Bytes a second; `None`: no limit.
    pub limit: Option<u64>,
}

impl Serialize for Bandwidth {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&write(self))
    }
}

/// Reads a limit: `2MiB/s`, or a timetable such as `08:00 512KiB/s, 23:00 off`.
pub(super) fn read(text: &str) -> Result<Bandwidth, Fault> {
    if !text.contains([':', ',']) {
        return rate(text).map(Bandwidth::Always);
    }
    let mut changes = text.split(',').map(|change| read_change(change.trim())).collect::<Result<Vec<_>, _>>()?;
    changes.sort_by_key(|change| change.from);
    if let Some(twice) = changes.windows(2).find(|pair| pair[0].from == pair[1].from) {
        let wrong = format!("{} is there twice", twice[0].from.format(TIME_OF_DAY));
        return Err(Fault::new(wrong, "give each time one limit"));
    }
    Ok(Bandwidth::Timetable(changes))
}

/// Reads one change of a timetable, such as `08:00 512KiB/s`.
fn read_change(text: &str) -> Result<BandwidthChange, Fault> {
    let wrong = || {
        Fault::new(
            format!("no time and limit: {text:?}"),
            "write times of day with limits, such as 08:00 512KiB/s, 23:00 off",
        )
    };
    let (time, limit) = text.split_once(' ').ok_or_else(wrong)?;
    let from = NaiveTime::parse_from_str(time, TIME_OF_DAY).map_err(|_| wrong())?;
    let limit = match limit.trim() {
        "off" => None,
        limit => Some(rate(limit)?),
    };
    Ok(BandwidthChange { from, limit })
}

/// Reads bytes a second, such as `2MiB/s`.
fn rate(text: &str) -> Result<u64, Fault> {
    // With less, a single clip would take days: it is more likely a slip, or meant as bits.
    const LEAST: u64 = 1024;
    let mend = "write bytes a second, such as 512KiB/s or 2MiB/s (a line of 16 Mbit/s carries about 2MiB/s), or null for no limit";
    let rate = text.strip_suffix("/s").and_then(|size| notation::size(size).ok());
    let rate = rate.ok_or_else(|| Fault::new(format!("not a rate: {text:?}"), mend))?;
    if rate < LEAST { Err(Fault::new("too slow", "write 1KiB/s or more")) } else { Ok(rate) }
}

/// Writes a limit as [`read`] reads it.
fn write(bandwidth: &Bandwidth) -> String {
    let write_rate = |bytes: u64| format!("{}/s", notation::write_size(bytes));
    match bandwidth {
        Bandwidth::Always(bytes) => write_rate(*bytes),
        Bandwidth::Timetable(changes) => {
            let write_change = |change: &BandwidthChange| {
                let limit = change.limit.map_or_else(|| "off".to_owned(), write_rate);
                format!("{} {limit}", change.from.format(TIME_OF_DAY))
            };
            changes.iter().map(write_change).collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bandwidth_is_a_rate_or_a_timetable() {
        assert_eq!(read("2MiB/s"), Ok(Bandwidth::Always(2 << 20)));
        for text in ["08:00 512KiB/s, 23:00 off", "23:00 off,08:00  512KiB/s"] {
            assert_eq!(write(&read(text).unwrap()), "08:00 512KiB/s, 23:00 off", "{text}");
        }
        for (text, wrong) in [
            ("", "not a rate"),
            ("off", "not a rate"),
            ("2MiB", "not a rate"),
            ("2Mbit/s", "not a rate"),
            ("0KiB/s", "too slow"),
            ("08:00", "no time and limit"),
            ("25:00 off", "no time and limit"),
            ("08:00 off,", "no time and limit"),
            ("08:00 fast", "not a rate: \"fast\""),
            ("08:00 off, 08:00 1MiB/s", "08:00 is there twice"),
        ] {
            let fault = read(text).unwrap_err();
            assert!(fault.wrong.contains(wrong), "{text}: {fault:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "\\PC{0,12}") {
            let _ = read(&text);
        }
    }
}
