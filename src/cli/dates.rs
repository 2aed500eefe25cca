//! Days as they are typed: one, or a range of them.

use chrono::NaiveDate;

use super::parse_date;

/// Most days of one range: more are a slip of the pen.
const MOST_DAYS: usize = 366;

/// One day, or a range with both its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dates {
    from: NaiveDate,
    to: NaiveDate,
}

impl Dates {
    /// Reads `YYYY-MM-DD` or `YYYY-MM-DD..YYYY-MM-DD`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let dates = Self { from: parse_date(from)?, to: parse_date(to)? };
        if dates.from > dates.to {
            return Err(format!("it ends before it begins; write {to}..{from}"));
        }
        if dates.days().count() > MOST_DAYS {
            return Err(format!("more than {MOST_DAYS} days; write several ranges"));
        }
        Ok(dates)
    }

    /// Each of the days, in order.
    pub(super) fn days(self) -> impl Iterator<Item = NaiveDate> + use<> {
        let to = self.to;
        self.from.iter_days().take_while(move |day| *day <= to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_day_or_a_range_is_read_and_nonsense_is_refused() {
        let days = |text: &str| Dates::parse(text).map(|dates| dates.days().count());
        assert_eq!(days("2022-02-24"), Ok(1));
        assert_eq!(days("2022-02-24..2022-03-02"), Ok(7));
        assert_eq!(days("2024-01-01..2024-12-31"), Ok(366));
        for wrong in ["2022-02-30", "2022-02-24..", "..2022-02-24", "2022-02-24...2022-02-25", "2022-02-25..2022-02-24"]
        {
            assert!(days(wrong).is_err(), "{wrong}");
        }
        assert!(days("2022-01-01..2024-01-01").is_err_and(|why| why.contains("366")));
    }
}
