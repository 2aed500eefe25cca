//! Days as they are typed: one, or a range of them.

use std::fmt::{self, Display};
use std::str::FromStr;

use chrono::NaiveDate;

/// A day, or all days from one to another, as commands take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dates {
    first: NaiveDate,
    last: NaiveDate,
}

/// The most days between two dates, so that a typing error does not ask for a century.
const MOST_DAYS: i64 = 366;

impl Dates {
    /// Returns each day, in order.
    pub(super) fn days(self) -> impl Iterator<Item = NaiveDate> {
        self.first.iter_days().take_while(move |date| *date <= self.last)
    }

    pub(super) fn is_one_day(self) -> bool {
        self.first == self.last
    }
}

impl FromStr for Dates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let read = |date: &str| {
            date.parse().map_err(|_| "not a date as YYYY-MM-DD, nor two of them as YYYY-MM-DD..YYYY-MM-DD")
        };
        let dates = Self { first: read(first)?, last: read(last)? };
        match (dates.last - dates.first).num_days() + 1 {
            ..=0 => Err(format!("{last} is before {first}")),
            days if days > MOST_DAYS => Err(format!("{days} days; {MOST_DAYS} at most")),
            _ => Ok(dates),
        }
    }
}

impl Display for Dates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.is_one_day() { Ok(()) } else { write!(f, "..{}", self.last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_one_day_or_all_from_one_to_another() {
        let read = |text: &str| text.parse::<Dates>();
        for (text, days) in [("2022-02-24", 1), ("2022-02-27..2022-03-02", 4), ("2022-02-24..2022-02-24", 1)] {
            let dates = read(text).unwrap();
            assert_eq!(dates.days().count(), days, "{text}");
            assert_eq!(read(&dates.to_string()), Ok(dates));
        }
        assert_eq!(read("2024-01-01..2024-12-31").unwrap().days().count(), 366);
        for text in
            ["2022-02-30", "2022-02-24..", "..2022-02-24", "2022-02-24..2022-02-23", "2022-01-01..2023-01-02", "x"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
