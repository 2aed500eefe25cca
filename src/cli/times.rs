//! Times as they are typed for a camera: a day, a day with a time, or the time of day alone.

use std::fmt::{self, Display};
use std::str::FromStr;

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

use super::WrongUsage;

/// A time at the camera, as commands take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CameraTime {
    /// A day and a time.
    On(NaiveDateTime),
    /// A time of the day that the command names.
    OfDay(NaiveTime),
}

impl CameraTime {
    /// Returns the moment that is meant in a command that names `date`.
    fn on(self, date: Option<NaiveDate>) -> Result<NaiveDateTime, WrongUsage> {
        match (self, date) {
            (Self::On(moment), _) => Ok(moment),
            (Self::OfDay(time), Some(date)) => Ok(date.and_time(time)),
            (Self::OfDay(_), None) => {
                Err(WrongUsage(format!("{self} is a time of day: name the DATE too, or write YYYY-MM-DDT{self}")))
            }
        }
    }
}

/// Returns the two ends of a span of time, in a command that names `date`.
///
/// # Errors
/// [`WrongUsage`] if a time of day has no date, or if the span ends before it begins.
pub(super) fn span(
    date: Option<NaiveDate>,
    from: Option<CameraTime>,
    until: Option<CameraTime>,
) -> Result<(Option<NaiveDateTime>, Option<NaiveDateTime>), WrongUsage> {
    let resolve = |time: Option<CameraTime>| time.map(|time| time.on(date)).transpose();
    match (resolve(from)?, resolve(until)?) {
        (Some(from), Some(until)) if until <= from => {
            Err(WrongUsage(format!("nothing can be from {from} and before {until}: write the earlier time first")))
        }
        ends => Ok(ends),
    }
}

impl FromStr for CameraTime {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(date) = text.parse::<NaiveDate>() {
            return Ok(Self::On(date.and_time(NaiveTime::MIN)));
        }
        let moment = |format: &&str| NaiveDateTime::parse_from_str(text, format).ok();
        let time = |format: &&str| NaiveTime::parse_from_str(text, format).ok();
        None.or_else(|| ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"].iter().find_map(moment).map(Self::On))
            .or_else(|| ["%H:%M:%S", "%H:%M"].iter().find_map(time).map(Self::OfDay))
            .ok_or("none of hh:mm, YYYY-MM-DD and YYYY-MM-DDThh:mm:ss")
    }
}

impl Display for CameraTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On(moment) => write!(f, "{}", moment.format("%FT%T")),
            Self::OfDay(time) => write!(f, "{time}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_day_a_moment_or_a_time_of_the_day_that_is_named() {
        let date = Some("2022-02-24".parse().unwrap());
        for (text, expected) in [
            ("2022-02-25", "2022-02-25T00:00:00"),
            ("2022-02-24T05:06", "2022-02-24T05:06:00"),
            ("2022-02-23T05:06:07", "2022-02-23T05:06:07"),
            ("15:00", "2022-02-24T15:00:00"),
            ("7:05:09", "2022-02-24T07:05:09"),
        ] {
            let moment = text.parse::<CameraTime>().unwrap().on(date).unwrap();
            assert_eq!(moment.format("%FT%T").to_string(), expected);
        }
        for text in ["", "noon", "15", "25:00", "2022-02-30", "2022-02-24 05:06", "15:00Z"] {
            assert!(text.parse::<CameraTime>().is_err(), "{text}");
        }
        let without_date = "15:00".parse::<CameraTime>().unwrap().on(None).unwrap_err();
        assert!(without_date.0.contains("DATE") && without_date.0.contains("YYYY-MM-DDT15:00"), "{without_date}");
    }

    #[test]
    fn a_span_that_ends_before_it_begins_is_refused() {
        let (date, time) = (Some("2022-02-24".parse().unwrap()), |text: &str| Some(text.parse().unwrap()));
        assert!(span(date, time("15:00"), time("16:00")).is_ok());
        assert!(span(date, time("15:00"), None).is_ok());
        assert!(span(date, time("15:00"), time("15:00")).is_err());
        assert!(span(date, time("2022-02-25"), time("15:00")).is_err());
    }
}
