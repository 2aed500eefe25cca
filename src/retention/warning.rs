//! What the operator should know of a plan. Warnings of one kind are added up, so that a large bucket says few.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Something the operator should know, and how much of it there is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Warning {
    /// What it is about.
    #[serde(flatten)]
    pub why: Why,
    /// How many objects; 0 where it is about the policy.
    pub objects: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// What it costs.
    pub dollars: f64,
}

/// What a warning is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Why {
    /// Left out: it cannot be read without a restore.
    Unreadable {
        /// Its class.
        class: String,
    },
    /// Left out: one request cannot write so much.
    TooLarge {
        /// Bytes at most.
        most: u64,
    },
    /// Left out: below `rotate.transition.min_size`.
    TooSmall {
        /// Bytes at least.
        least: u64,
    },
    /// Left out: whether the target is colder is known of Amazon's classes alone.
    UnknownClass {
        /// Its class.
        class: String,
        /// Where it was to go.
        target: String,
    },
    /// Deleted before its class's minimum, whose rest is charged.
    Early {
        /// Its class.
        class: String,
        /// The minimum.
        minimum_days: u32,
    },
    /// By the policy every bundle goes before its class's minimum.
    ShortLived {
        /// The class of bundles.
        class: String,
        /// Days that a bundle stays.
        days: u64,
        /// The minimum.
        minimum_days: u32,
    },
    /// Counted as free of charge: no price is known.
    Unpriced {
        /// Its class.
        class: String,
    },
}

impl Warning {
    pub(super) fn new(why: Why) -> Self {
        Self { why, objects: 0, bytes: 0, dollars: 0.0 }
    }

    /// A warning about one object of `bytes`.
    pub(super) fn about(why: Why, bytes: u64) -> Self {
        Self { why, objects: 1, bytes, dollars: 0.0 }
    }

    /// Adds another one of the same kind.
    pub(super) fn add(&mut self, other: &Self) {
        self.objects += other.objects;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.dollars += other.dollars;
    }
}

/// One warning of each kind, in a fixed order.
pub(super) fn merge(warnings: impl IntoIterator<Item = Warning>) -> Vec<Warning> {
    let mut merged: BTreeMap<Why, Warning> = BTreeMap::new();
    for warning in warnings {
        let sum = merged.entry(warning.why.clone()).or_insert_with(|| Warning::new(warning.why.clone()));
        sum.add(&warning);
    }
    merged.into_values().collect()
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { objects, dollars, .. } = self;
        let (objects, are, them) = if *objects == 1 {
            ("1 object".to_owned(), "is", "it")
        } else {
            (format!("{objects} objects"), "are", "them")
        };
        match &self.why {
            Why::Unreadable { class } => {
                write!(f, "{objects} {are} left in {class}: S3 cannot read or copy {them} without a restore")
            }
            Why::TooLarge { most } => write!(f, "{objects} {are} left: larger than one request takes, {most} bytes"),
            Why::TooSmall { least } => {
                write!(f, "{objects} {are} left: smaller than rotate.transition.min_size, {least} bytes")
            }
            Why::UnknownClass { class, target } => {
                write!(
                    f,
                    "{objects} {are} left in {class}: whether {target} is colder is known of Amazon's classes alone"
                )
            }
            Why::Early { class, minimum_days } => write!(
                f,
                "{objects} {are} deleted from {class} before its minimum of {minimum_days} days, whose rest costs ${dollars:.4}"
            ),
            Why::ShortLived { class, days, minimum_days } => write!(
                f,
                "bundles are deleted after {days} of the {minimum_days} days that {class} charges for: set \
                 rotate.expire.after to at least {minimum_days}d more than rotate.archive.after, or rotate.archive.class \
                 to a class with a shorter minimum"
            ),
            Why::Unpriced { class } => write!(f, "no price is known for {class}: it counts as free of charge"),
        }
    }
}
