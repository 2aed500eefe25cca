//! A stand-in for the alarm that `aws-template` makes in Amazon `CloudWatch`, by its documentation: it counts what is put
//! in each period, and looks at the last periods that are over. One without any figure counts as breaching.

use chrono::{DateTime, NaiveDateTime, Utc};

/// What the template sets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Alarm {
    pub(crate) period_seconds: i64,
    pub(crate) periods: i64,
}

impl Alarm {
    /// Whether it rings at a time, if these heartbeats and no others were put.
    pub(crate) fn rings(self, heartbeats: &[DateTime<Utc>], at: DateTime<Utc>) -> bool {
        let period = |time: &DateTime<Utc>| time.timestamp().div_euclid(self.period_seconds);
        let now = period(&at);
        // The period under way is not over yet.
        !heartbeats.iter().map(period).any(|of| (now - self.periods..now).contains(&of))
    }

    /// The longest time from the last heartbeat until it rings: the rest of its period, and the silent ones.
    pub(crate) fn latest_seconds(self) -> i64 {
        self.period_seconds * (self.periods + 1)
    }
}

/// When the heartbeats among these keys were made, by their names.
pub(crate) fn times<'a>(keys: impl IntoIterator<Item = &'a String>) -> Vec<DateTime<Utc>> {
    let time = |key: &String| {
        let (_, below) = key.split_once("heartbeat/")?;
        let (_host, stamp) = below.split_once('/')?;
        NaiveDateTime::parse_from_str(stamp, "%Y-%m-%d/%H%M%S.json").ok().map(|time| time.and_utc())
    };
    keys.into_iter().filter_map(time).collect()
}
