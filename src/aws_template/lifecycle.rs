//! The bucket's lifecycle rules: what S3 does to objects by their age.

use std::time::Duration;

use super::watch::HEARTBEAT_DAYS;
use crate::config::{Access, Config, Problem, TransitionSettings};
use crate::key;

/// The days after which an upload in parts counts as abandoned: long enough for a clip on the slowest line, and for an
/// outage in the middle of it.
const ABANDONED_AFTER_DAYS: u64 = 7;

/// The fewest days after which S3 moves objects into an IA class (S3 User Guide, "Transitioning objects using Amazon S3
/// Lifecycle").
const IA_DAYS: u64 = 30;

/// The storage classes in the order in which a rule can move objects, to the right only (same page, "Supported
/// transitions").
const WATERFALL: [&str; 7] =
    ["STANDARD", "STANDARD_IA", "INTELLIGENT_TIERING", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"];

const DAY_SECONDS: u64 = 24 * 3600;

/// A rule for all objects below the prefix; `days` count from the upload unless the variant says otherwise.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LifecycleRule {
    /// Aborts uploads in parts that were begun `days` ago: they cost money, and no listing of objects shows them.
    AbortUploads { days: u64 },
    /// Removes old versions `days` after the object was deleted or overwritten, and delete markers without a version.
    RemoveVersions { days: u64 },
    /// Moves objects of more than `larger_than` bytes to another class. Without a size, S3 would move none below 128
    /// KB, and most pictures are smaller.
    Move { days: u64, class: String, larger_than: u64 },
    /// Deletes objects.
    Expire { days: u64 },
    /// Deletes heartbeats.
    ExpireHeartbeats { days: u64 },
}

impl LifecycleRule {
    /// Returns the rule's identifier in AWS.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::AbortUploads { .. } => "abandoned-uploads",
            Self::RemoveVersions { .. } => "old-versions",
            Self::Move { .. } => "transition",
            Self::Expire { .. } => "expire",
            Self::ExpireHeartbeats { .. } => "heartbeats",
        }
    }

    /// Returns the prefix of the objects that it is about; `prefix` is that of the configuration.
    pub(super) fn prefix(&self, prefix: &str) -> String {
        match self {
            Self::ExpireHeartbeats { .. } => key::heartbeat_prefix(prefix, None),
            _ => prefix.to_owned(),
        }
    }
}

/// Returns a comment for the reader of the template about its rules, without a final line break.
pub(super) fn comment(config: &Config) -> String {
    let days = whole_days(config.s3.undo);
    let mut lines = vec![format!(
        "# What is deleted stays as an old version for {days} days (s3.undo). The box's user can erase no version."
    )];
    if config.s3.object_lock.is_some() {
        lines.push("# A locked version stays until its lock ends, whatever the rules say.".to_owned());
    }
    let by_age: &[&str] = match config.s3.access {
        Access::ReadWrite => &[
            "# No rule deletes captures by their age: hk-aws rotates them itself (rotate in its configuration).",
            "# Add none: after a theft nobody makes bundles, and a rule that deletes by age would delete the burglary.",
        ],
        Access::WriteOnly => &[
            "# The box can neither read nor delete, so S3 moves and deletes objects by their age, as rotate.transition",
            "# and rotate.expire in the configuration say. Nothing is bundled.",
        ],
    };
    lines.extend(by_age.iter().map(|line| (*line).to_owned()));
    if config.s3.access == Access::ReadWrite && config.rotate.transition.is_some() {
        lines.push(
            "# S3 moves them to another class, as rotate.transition says: the policy lets the box copy nothing."
                .to_owned(),
        );
    }
    lines.join("\n")
}

/// Returns the rules for a configuration.
///
/// # Errors
/// Every setting that S3 would refuse, or with which it would delete captures that still wait for a bundle.
pub(super) fn rules(config: &Config) -> Result<Vec<LifecycleRule>, Vec<Problem>> {
    let mut rules = vec![
        LifecycleRule::AbortUploads { days: ABANDONED_AFTER_DAYS },
        // With the box's keys a thief can only hide objects: the owner has this long to notice.
        LifecycleRule::RemoveVersions { days: whole_days(config.s3.undo) },
    ];
    let mut problems = Vec::new();
    let rotate = &config.rotate;
    // A box that may read and delete bundles and expires its captures itself: see the comment in the template.
    let expire = rotate.expire.filter(|_| config.s3.access == Access::WriteOnly);
    if rotate.archive.is_some() && expire.is_some() {
        problems.push(Problem {
            wrong:
                "cannot stand beside rotate.archive with s3.access: write-only, where nothing can be bundled: S3 would \
                    delete captures that still wait for their bundle, those of a burglary too"
                    .to_owned(),
            mend: "set rotate.archive: null (and rotate.transition for a colder class), or rotate.expire: null, or \
                   s3.access: read-write"
                .to_owned(),
            ..problem_of("rotate.expire")
        });
    }
    let moved = rotate.transition.as_ref().map(|transition| {
        problems.extend(refuse_transition(transition, &config.s3.storage_class));
        // A rule moves objects of more bytes than it names, and its number must be positive.
        let larger_than = transition.min_size.saturating_sub(1).max(1);
        let days = whole_days(transition.after);
        rules.push(LifecycleRule::Move { days, class: transition.class.clone(), larger_than });
        days
    });
    if let Some(expire) = expire {
        let days = whole_days(expire.after);
        if let Some(moved) = moved.filter(|moved| *moved >= days) {
            problems.push(Problem {
                wrong: format!("deletes objects after {days} days, but rotate.transition moves them after {moved}, which S3 refuses"),
                mend: "write more days than in rotate.transition.after, or set rotate.transition: null".to_owned(),
                ..problem_of("rotate.expire.after")
            });
        }
        rules.push(LifecycleRule::Expire { days });
    }
    if config.heartbeat.is_some() {
        rules.push(LifecycleRule::ExpireHeartbeats { days: HEARTBEAT_DAYS });
    }
    if problems.is_empty() { Ok(rules) } else { Err(problems) }
}

/// Returns why S3 would refuse a rule for a transition of objects whose class is `from`, if it would.
fn refuse_transition(transition: &TransitionSettings, from: &str) -> Option<Problem> {
    let place = |class: &str| WATERFALL.iter().position(|known| *known == class);
    let class = &transition.class;
    if place(class).is_none_or(|to| to <= place(from).unwrap_or(0)) {
        return Some(Problem {
            wrong: format!("{class}, but S3 moves no objects there from {from}"),
            mend: format!("choose a class further to the right: {}", WATERFALL.join(", ")),
            ..problem_of("rotate.transition.class")
        });
    }
    let days = whole_days(transition.after);
    if matches!(class.as_str(), "STANDARD_IA" | "ONEZONE_IA") && days < IA_DAYS {
        return Some(Problem {
            wrong: format!("{days} days, but S3 moves nothing into {class} in the first {IA_DAYS}"),
            mend: format!("write {IA_DAYS}d or more, or another class"),
            ..problem_of("rotate.transition.after")
        });
    }
    None
}

/// Returns a problem of a key, without its texts.
fn problem_of(key: &str) -> Problem {
    Problem { line: None, key: key.to_owned(), wrong: String::new(), value: None, mend: String::new() }
}

/// Returns a duration in days, rounded up: nothing goes earlier than its owner said.
fn whole_days(after: Duration) -> u64 {
    let started = u64::from(after.subsec_nanos() > 0);
    (after.as_secs() + started).div_ceil(DAY_SECONDS)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn rules_of(s3: &str, rotate: &str) -> Result<Vec<LifecycleRule>, Vec<String>> {
        let text = format!(
            "drop_folder: {{path: /drop}}\ntimezone: UTC\ns3: {{bucket: captures{s3}}}\nrotate: {{{rotate}}}\n"
        );
        let config = Config::parse(Path::new("config.yaml"), &text, &|_| None).unwrap();
        rules(&config).map_err(|problems| problems.into_iter().map(|problem| problem.key).collect())
    }

    #[test]
    fn a_box_that_rotates_has_no_rule_that_deletes_by_age() {
        let always = |days| [LifecycleRule::AbortUploads { days: 7 }, LifecycleRule::RemoveVersions { days }];
        for rotate in ["", "archive: null, expire: {after: 1d}"] {
            for (s3, days) in [("", 30), (", undo: 36h", 2), (", object_lock: {days: 90}", 30)] {
                assert_eq!(rules_of(s3, rotate).unwrap(), always(days), "{s3} {rotate}");
            }
        }
        let moved = LifecycleRule::Move { days: 1, class: "GLACIER_IR".into(), larger_than: 128 * 1024 - 1 };
        let found = rules_of("", "transition: {after: 1d}, expire: {after: 1d}").unwrap();
        assert_eq!((&found[..2], &found[2..]), (&always(30)[..], &[moved][..]));
    }

    #[test]
    fn a_box_that_only_writes_leaves_age_to_the_bucket() {
        let only = ", access: write-only";
        let found = rules_of(only, "transition: {after: 25h, min_size: 20KiB}, expire: {after: 365d}").unwrap();
        let moved = LifecycleRule::Move { days: 2, class: "GLACIER_IR".into(), larger_than: 20 * 1024 - 1 };
        assert_eq!(found[2..], [moved, LifecycleRule::Expire { days: 365 }]);
        let found = rules_of(only, "transition: {after: 0s, min_size: 0}, expire: null").unwrap();
        assert_eq!(found[2..], [LifecycleRule::Move { days: 0, class: "GLACIER_IR".into(), larger_than: 1 }]);
        assert_eq!(rules_of(only, "expire: null").unwrap().len(), 2, "bundles that are never made move nothing");
    }

    #[test]
    fn what_would_delete_what_waits_or_what_s3_refuses_is_refused() {
        for (s3, rotate, keys) in [
            ("", "expire: {}", &["rotate.expire"][..]),
            ("", "archive: {class: DEEP_ARCHIVE}, expire: {}", &["rotate.expire"]),
            ("", "transition: {after: 29d, class: STANDARD_IA}", &["rotate.transition.after"]),
            ("", "transition: {class: STANDARD}", &["rotate.transition.class"]),
            (", storage_class: GLACIER", "transition: {class: GLACIER_IR}", &["rotate.transition.class"]),
            ("", "transition: {after: 9d}, expire: {after: 9d}", &["rotate.expire.after"]),
            (
                "",
                "transition: {after: 9d, class: ONEZONE_IA}, expire: {after: 9d}",
                &["rotate.transition.after", "rotate.expire.after"],
            ),
        ] {
            let refused = rules_of(&format!(", access: write-only{s3}"), rotate).unwrap_err();
            assert_eq!(refused, keys, "{s3} {rotate}");
        }
    }

    #[test]
    fn days_are_rounded_up() {
        for (seconds, days) in [(0, 0), (1, 1), (DAY_SECONDS, 1), (DAY_SECONDS + 1, 2)] {
            assert_eq!(whole_days(Duration::from_secs(seconds)), days);
        }
        assert_eq!(whole_days(Duration::from_millis(1)), 1);
    }
}
