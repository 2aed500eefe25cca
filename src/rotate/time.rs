//! The time by which a rotation decides.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::holdings::HoldingsError;
use crate::site::Site;

/// The clocks of the box and of the store may differ by this much: a store that refuses requests by wrong clocks does so
/// from 15 minutes on, and no age is counted in hours.
const CLOCKS_APART: TimeDelta = TimeDelta::hours(1);

/// The time by which a rotation decides what is due: the box's or, if the store's own clock differs by more than an hour,
/// the store's. It is asked for once, so that a run decides all days alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RotationTime {
    /// The time.
    pub now: DateTime<Utc>,
    /// The date at the cameras then.
    pub today: NaiveDate,
    /// What both clocks say, if they differ.
    pub differ: Option<String>,
}

impl RotationTime {
    /// Asks the store for its time; the box's is used if the store tells none.
    ///
    /// # Errors
    /// [`HoldingsError::Refused`] if the store does not answer: nothing may be decided.
    pub(super) async fn ask(site: &Site) -> Result<Self, HoldingsError> {
        let told =
            site.bucket.time().await.map_err(|error| HoldingsError::from(error).about(site.bucket.describe()))?;
        Ok(Self::of((site.clock)().wall.into(), told.map(DateTime::from), site.config.timezone))
    }

    fn of(here: DateTime<Utc>, store: Option<DateTime<Utc>>, zone: chrono_tz::Tz) -> Self {
        let other = store.filter(|store| (*store - here).abs() > CLOCKS_APART);
        let differ = other.map(|store| {
            let (here, store) = (here.format("%F %T"), store.format("%F %T"));
            format!(
                "this box's clock says {here} UTC and the store's {store} UTC: the store's decides what is due; set the \
                 clock of the one that is wrong"
            )
        });
        let now = other.unwrap_or(here);
        Self { now, today: now.with_timezone(&zone).date_naive(), differ }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_clock_decides_if_it_is_more_than_an_hour_off() {
        let here = DateTime::parse_from_rfc3339("2026-02-24T23:30:00Z").unwrap().to_utc();
        let at = |store: Option<TimeDelta>| RotationTime::of(here, store.map(|by| here + by), chrono_tz::Europe::Kyiv);
        let date = |day| NaiveDate::from_ymd_opt(2026, 2, day).unwrap();
        for by in [None, Some(TimeDelta::minutes(60)), Some(TimeDelta::minutes(-60))] {
            assert_eq!(at(by), RotationTime { now: here, today: date(25), differ: None }, "{by:?}");
        }
        for (by, today) in
            [(TimeDelta::minutes(-61), date(25)), (TimeDelta::hours(-2), date(24)), (TimeDelta::days(1), date(26))]
        {
            let time = at(Some(by));
            assert_eq!((time.now, time.today, time.differ.is_some()), (here + by, today, true), "{by:?}");
        }
    }
}
