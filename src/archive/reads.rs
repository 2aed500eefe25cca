//! Reads of single objects that the store refuses, counted over the days of a run.

use crate::bucket::Refusal;

/// After how many days in a row whose reads were all refused alike only one object a day is asked for.
const SEVERAL: u32 = 3;

/// What the store did with the downloads of a run's days.
///
/// One object that cannot be read says nothing of others, so it is left and the next one is asked for. If several days
/// fail alike, the store is probably the cause: then one object of each day shows whether that is over, and the local
/// copies of all days are bundled meanwhile.
#[derive(Debug, Default)]
pub struct Reads {
    /// The code that the store gave on the last days.
    code: Option<String>,
    /// On how many days in a row.
    days: u32,
    day: DayReads,
}

/// The downloads of the day at work.
#[derive(Debug, Default)]
struct DayReads {
    any_came: bool,
    refused: Option<String>,
}

impl Reads {
    /// Returns why no further object of the day is asked for, if so.
    pub(super) fn stopped(&self) -> Option<String> {
        let stopped = self.days >= SEVERAL && !self.day.any_came && self.day.refused.is_some();
        let code = self.code.as_deref().unwrap_or_default();
        stopped.then(|| format!("it is not asked for: the downloads of {} days were refused alike ({code})", self.days))
    }

    /// Records that an object came.
    pub(super) fn came(&mut self) {
        self.day.any_came = true;
    }

    /// Records that the store refused an object.
    pub(super) fn refused(&mut self, refusal: &Refusal) {
        self.day.refused = Some(refusal.code.clone().unwrap_or_else(|| "no answer".to_owned()));
    }

    /// Ends the day before, and begins the next one. A day without downloads proves nothing.
    pub(super) fn begin_day(&mut self) {
        let DayReads { any_came, refused } = std::mem::take(&mut self.day);
        if any_came {
            *self = Self::default();
        } else if refused.is_some() {
            self.days = if refused == self.code { self.days + 1 } else { 1 };
            self.code = refused;
        }
    }
}
