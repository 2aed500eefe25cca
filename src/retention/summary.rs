//! A plan in few lines, however large the bucket, and how much of it one run takes on.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::{Serialize, Serializer};

use super::{Action, Amount, Cost, RotationStep, Warning, Why};

/// What a plan comes to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    #[serde(serialize_with = "serialize_values")]
    rows: BTreeMap<(Action, String, Option<String>), Row>,
    #[serde(serialize_with = "serialize_values")]
    warnings: BTreeMap<Why, Warning>,
    /// What there is to bundle beyond this run.
    pub later: Later,
}

/// All steps of one action, camera and target class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What is done.
    pub action: Action,
    /// Whose objects they are.
    pub camera: String,
    /// The class they go to.
    pub class: Option<String>,
    /// The first date.
    pub first: NaiveDate,
    /// The last date.
    pub last: NaiveDate,
    /// How many days have something to do, which may lie apart.
    pub days: u64,
    /// How much there is of it.
    #[serde(flatten)]
    pub amount: Amount,
    /// What it costs and saves.
    #[serde(flatten)]
    pub cost: Cost,
}

/// What is left for later runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Later {
    /// Camera-days.
    pub days: u64,
    /// How much there is in them.
    #[serde(flatten)]
    pub amount: Amount,
}

impl Summary {
    /// Adds one step.
    pub fn add(&mut self, step: &RotationStep) {
        let row = self.rows.entry((step.action, step.camera.clone(), step.class.clone())).or_insert_with(|| Row {
            action: step.action,
            camera: step.camera.clone(),
            class: step.class.clone(),
            first: step.date,
            last: step.date,
            days: 0,
            amount: Amount::default(),
            cost: Cost::default(),
        });
        row.first = row.first.min(step.date);
        row.last = row.last.max(step.date);
        row.days += 1;
        row.amount.add(step.amount());
        row.cost += &step.cost;
        for warning in &step.warnings {
            self.warn(warning);
        }
    }

    /// Adds a warning, to those of its kind.
    pub fn warn(&mut self, warning: &Warning) {
        let sum = self.warnings.entry(warning.why.clone()).or_insert_with(|| Warning::new(warning.why.clone()));
        sum.add(warning);
    }

    /// Takes an action out, because the bucket stands in its way.
    pub fn remove(&mut self, action: Action) {
        self.rows.retain(|(of, ..), _| *of != action);
    }

    /// The rows, by action, camera and class.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// One warning of each kind.
    pub fn warnings(&self) -> impl Iterator<Item = &Warning> {
        self.warnings.values()
    }

    /// What all rows cost and save together.
    pub fn total(&self) -> Cost {
        let mut total = Cost::default();
        self.rows().for_each(|row| total += &row.cost);
        total
    }
}

impl<'a> FromIterator<&'a RotationStep> for Summary {
    fn from_iter<I: IntoIterator<Item = &'a RotationStep>>(steps: I) -> Self {
        let mut summary = Self::default();
        steps.into_iter().for_each(|step| summary.add(step));
        summary
    }
}

/// The bundles of the oldest dates, of as many as are offered one by one, and of one date by camera.
#[derive(Debug)]
pub struct Oldest {
    most: usize,
    // The number tells equal ones apart: nothing that is offered is lost.
    kept: BTreeMap<(NaiveDate, String, u64), RotationStep>,
    offered: u64,
    later: Later,
}

impl Oldest {
    /// Keeps `most` camera-days.
    pub fn new(most: u32) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Self { most, kept: BTreeMap::new(), offered: 0, later: Later::default() }
    }

    /// Takes a bundle on, in place of the newest one where there are enough.
    pub fn offer(&mut self, step: RotationStep) {
        self.offered += 1;
        self.kept.insert((step.date, step.camera.clone(), self.offered), step);
        if self.kept.len() > self.most
            && let Some((_, newest)) = self.kept.pop_last()
        {
            self.later.days += 1;
            self.later.amount.add(newest.amount());
        }
    }

    /// What was kept, the oldest first, and what is left.
    pub fn finish(self) -> (Vec<RotationStep>, Later) {
        (self.kept.into_values().collect(), self.later)
    }
}

/// Keeps the bundles of `max_days_per_run` camera-days, the oldest first, after all other steps; and says what is left.
pub fn limit(steps: impl IntoIterator<Item = RotationStep>, max_days_per_run: u32) -> (Vec<RotationStep>, Later) {
    let mut oldest = Oldest::new(max_days_per_run);
    let mut kept = Vec::new();
    for step in steps {
        if step.action == Action::Archive {
            oldest.offer(step);
        } else {
            kept.push(step);
        }
    }
    let (bundles, later) = oldest.finish();
    kept.extend(bundles);
    (kept, later)
}

impl RotationStep {
    /// How much it is about.
    pub fn amount(&self) -> Amount {
        Amount { objects: u64::try_from(self.keys.len()).unwrap_or(u64::MAX), bytes: self.bytes }
    }
}

fn serialize_values<K, V: Serialize, S: Serializer>(map: &BTreeMap<K, V>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map.values())
}
