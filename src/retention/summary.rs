//! Adds a plan up to a few lines, however large the bucket is, and limits what one run bundles.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::{Serialize, Serializer};

use super::{Action, Amount, Cost, RotationStep, Warning, Why};

/// The sums of a plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    #[serde(serialize_with = "serialize_values")]
    rows: BTreeMap<(Action, String, Option<String>), Row>,
    #[serde(serialize_with = "serialize_values")]
    warnings: BTreeMap<Why, Warning>,
    /// The bundles that are left for later runs.
    pub later: Later,
}

/// The sums of all steps with one action, camera and target class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The action.
    pub action: Action,
    /// The camera's segment of the keys.
    pub camera: String,
    /// The class the objects go to; `None`: the action has no target class.
    pub class: Option<String>,
    /// The first date with something to do.
    pub first: NaiveDate,
    /// The last date with something to do.
    pub last: NaiveDate,
    /// The number of days with something to do; there may be others between them.
    pub days: u64,
    /// The objects of all steps.
    #[serde(flatten)]
    pub amount: Amount,
    /// What all steps cost and save.
    #[serde(flatten)]
    pub cost: Cost,
}

/// The bundles that are left for later runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Later {
    /// The number of camera-days.
    pub days: u64,
    /// The objects of these days.
    #[serde(flatten)]
    pub amount: Amount,
}

impl Summary {
    /// Adds a step and its warnings.
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

    /// Adds a warning to those of its kind.
    pub fn warn(&mut self, warning: &Warning) {
        let sum = self.warnings.entry(warning.why.clone()).or_insert_with(|| Warning::new(warning.why.clone()));
        sum.add(warning);
    }

    /// Removes all rows of an action that the bucket does not allow.
    pub fn remove(&mut self, action: Action) {
        self.rows.retain(|(of, ..), _| *of != action);
    }

    /// Counts what old versions cost if the bucket keeps them, and forgets it otherwise.
    pub fn settle(&mut self, keeps_versions: bool) {
        for row in self.rows.values_mut() {
            if keeps_versions {
                row.cost.now += row.cost.undo;
            } else {
                row.cost.undo = 0.0;
            }
        }
        self.warnings.retain(|why, _| keeps_versions || !matches!(why, Why::LongUndo { .. }));
    }

    /// Returns the rows, sorted by action, camera and class.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// Returns one warning of each kind.
    pub fn warnings(&self) -> impl Iterator<Item = &Warning> {
        self.warnings.values()
    }

    /// Returns what all rows cost and save together.
    pub fn total(&self) -> Cost {
        let mut total = Cost::default();
        self.rows().for_each(|row| total += &row.cost);
        total
    }
}

/// The most urgent bundles of those that are offered one by one.
///
/// Days with local copies go first, the oldest of them before the others, because that is the order in which local copies
/// give way; a day whose copies are gone must be downloaded anyway. Of one date, the first camera by name goes first.
/// Memory is that of the bundles kept, without their keys, however many are offered.
#[derive(Debug)]
pub struct Urgent {
    most: usize,
    /// By urgency and a running number, so that no two share a key and replace each other.
    kept: BTreeMap<(Copies, NaiveDate, String, u64), RotationStep>,
    offered: u64,
    later: Later,
}

/// Whether this box has local copies of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Copies {
    /// It has some.
    Here,
    /// It has none.
    Gone,
}

impl Urgent {
    /// Returns a collection that keeps `most` camera-days.
    pub fn new(most: u32) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Self { most, kept: BTreeMap::new(), offered: 0, later: Later::default() }
    }

    /// Adds a bundle; if there are too many then, the least urgent one is left for later.
    pub fn offer(&mut self, step: RotationStep, copies: Copies) {
        self.offered += 1;
        // A thousand days have millions of keys, and each day is listed again before it is bundled.
        let step = RotationStep { keys: Vec::new(), ..step };
        self.kept.insert((copies, step.date, step.camera.clone(), self.offered), step);
        if self.kept.len() > self.most
            && let Some((_, last)) = self.kept.pop_last()
        {
            self.later.days += 1;
            self.later.amount.add(last.amount());
        }
    }

    /// Returns the bundles that were kept, without their keys, the most urgent first, and the sum of the others.
    pub fn finish(self) -> (Vec<RotationStep>, Later) {
        (self.kept.into_values().collect(), self.later)
    }
}

impl RotationStep {
    /// Returns the number and size of its objects.
    pub fn amount(&self) -> Amount {
        Amount { objects: self.from.values().map(|amount| amount.objects).sum(), bytes: self.bytes }
    }
}

fn serialize_values<K, V: Serialize, S: Serializer>(map: &BTreeMap<K, V>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map.values())
}
