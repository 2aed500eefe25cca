//! Puts the captures of a camera together day by day, with bounded memory.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;

use crate::holdings::{LooseStream, MOST_HELD};
use crate::retention::Candidate;

/// The days of one camera that are due and not complete yet. Where keys are in no order of days, it holds at most 50,000
/// captures: of more, the newest days wait for another run.
#[derive(Debug, Default)]
pub(super) struct DaysAtHand {
    days: BTreeMap<NaiveDate, Vec<Candidate>>,
    held: usize,
    waiting: BTreeSet<NaiveDate>,
}

impl DaysAtHand {
    /// Takes a capture of a day that is due; returns the days that are complete before it.
    pub(super) fn take(&mut self, capture: Candidate, stream: &LooseStream<'_>) -> Vec<(NaiveDate, Vec<Candidate>)> {
        let mut complete = Vec::new();
        while let Some(first) = self.days.first_entry()
            && stream.is_complete(*first.key())
        {
            let (date, captures) = first.remove_entry();
            self.held -= captures.len();
            complete.push((date, captures));
        }
        if self.waiting.first().is_some_and(|first| *first <= capture.date) {
            self.waiting.insert(capture.date);
            return complete;
        }
        self.days.entry(capture.date).or_default().push(capture);
        self.held += 1;
        if stream.is_in_no_order()
            && self.held > MOST_HELD
            && self.days.len() > 1
            && let Some((date, captures)) = self.days.pop_last()
        {
            self.held -= captures.len();
            self.waiting.insert(date);
        }
        complete
    }

    /// Returns the days that are left, and how many others have to wait.
    pub(super) fn finish(self) -> (BTreeMap<NaiveDate, Vec<Candidate>>, u64) {
        (self.days, self.waiting.len() as u64)
    }
}
