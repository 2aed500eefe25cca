//! Warnings to the operator about a plan. Those of one kind are added up, so that even a large bucket has few.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// A warning, with the objects it is about.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Warning {
    /// The reason.
    #[serde(flatten)]
    pub why: Why,
    /// The number of objects; 0 for a warning about the policy.
    pub objects: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// The dollars it costs.
    pub dollars: f64,
}

/// The reason for a warning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Why {
    /// The object is left: it cannot be read without a restore.
    Unreadable {
        /// The object's class.
        class: String,
    },
    /// The object is left: it is larger than one request can write.
    TooLarge {
        /// The most bytes that one request writes.
        most: u64,
    },
    /// The object is left: it is smaller than `rotate.transition.min_size`.
    TooSmall {
        /// That size, in bytes.
        least: u64,
    },
    /// The object is left: only for Amazon's classes is it known which of two is colder.
    UnknownClass {
        /// The object's class.
        class: String,
        /// The class it should move to.
        target: String,
    },
    /// The object is deleted before the minimum storage duration of its class is over, whose rest is charged.
    Early {
        /// The object's class.
        class: String,
        /// The minimum storage duration.
        minimum_days: u32,
    },
    /// The policy deletes every bundle, or every object that it moved, before the minimum storage duration of the class is
    /// over.
    ShortLived {
        /// The setting that names the class: `rotate.archive` or `rotate.transition`.
        setting: &'static str,
        /// The class.
        class: String,
        /// The days that an object stays in it.
        days: u64,
        /// The minimum storage duration.
        minimum_days: u32,
    },
    /// The policy takes every capture out of the class that it was stored in before the class's minimum storage duration
    /// is over.
    StoredShortly {
        /// The setting that does, such as `rotate.archive.after`.
        setting: &'static str,
        /// The class.
        class: String,
        /// The days until then.
        days: u64,
        /// The minimum storage duration.
        minimum_days: u32,
    },
    /// In a bucket with versions, what the policy deletes is paid for longer afterwards than before.
    LongUndo {
        /// The setting that deletes first, such as `rotate.archive.after`.
        setting: &'static str,
        /// The days until then.
        days: u64,
        /// The days afterwards.
        undo_days: u64,
    },
    /// No price is known, so the class counts as free of charge.
    Unpriced {
        /// The class.
        class: String,
    },
}

impl Why {
    /// Returns the key of the setting to change; `None` if the warning is about objects.
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Self::ShortLived { .. } => Some("rotate.expire.after"),
            Self::StoredShortly { setting, .. } => Some(setting),
            Self::LongUndo { .. } => Some("s3.undo"),
            Self::Unreadable { .. }
            | Self::TooLarge { .. }
            | Self::TooSmall { .. }
            | Self::UnknownClass { .. }
            | Self::Early { .. }
            | Self::Unpriced { .. } => None,
        }
    }
}

impl Warning {
    /// Returns a warning without objects.
    pub(super) fn new(why: Why) -> Self {
        Self { why, objects: 0, bytes: 0, dollars: 0.0 }
    }

    /// Returns whether it is about a price of AWS alone.
    pub fn is_price(&self) -> bool {
        matches!(self.why, Why::Early { .. } | Why::Unpriced { .. })
    }

    /// Returns a warning about one object of `bytes`.
    pub(super) fn about(why: Why, bytes: u64) -> Self {
        Self { why, objects: 1, bytes, dollars: 0.0 }
    }

    /// Adds the objects of another warning of the same kind.
    pub(super) fn add(&mut self, other: &Self) {
        self.objects += other.objects;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.dollars += other.dollars;
    }
}

/// Adds warnings up to one of each kind, sorted by kind.
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
                    "{objects} {are} left in {class}: {target} may not be colder, which is known only for Amazon's classes"
                )
            }
            Why::Early { class, minimum_days } => write!(
                f,
                "{objects} {are} deleted from {class} before its minimum of {minimum_days} days, whose rest costs ${dollars:.4}"
            ),
            Why::ShortLived { setting, class, days, minimum_days } => {
                let what = if *setting == "rotate.archive" { "bundles" } else { "objects that moved" };
                write!(
                    f,
                    "{what} are deleted after {days} of the {minimum_days} days that {class} charges for: set \
                     rotate.expire.after to at least {minimum_days}d more than {setting}.after, or {setting}.class to a \
                     class with a shorter minimum"
                )
            }
            Why::StoredShortly { setting, class, days, minimum_days } => write!(
                f,
                "captures leave {class} after {days} of the {minimum_days} days that it charges for: set {setting} to \
                 {minimum_days}d or more, or s3.storage_class to a class with a shorter minimum"
            ),
            Why::LongUndo { setting, days, undo_days } => write!(
                f,
                "in a bucket with versions, what is deleted after {days} days ({setting}) is paid for {undo_days} days more: \
                 set s3.undo to {days}d or less if that is more than you want to pay for"
            ),
            Why::Unpriced { class } => write!(f, "no price is known for {class}: it counts as free of charge"),
        }
    }
}
