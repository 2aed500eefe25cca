//! The bucket's lifecycle: what S3 does to objects by their age.

use std::time::Duration;

use crate::config::{Access, Config, Problem, S3Settings, TransitionSettings};

/// Long enough for a clip on the slowest line, and for an outage in the midst of one.
const ABANDONED_AFTER_DAYS: u64 = 7;

/// S3 moves nothing into the IA classes earlier (S3 User Guide, "Transitioning objects using Amazon S3 Lifecycle").
const IA_DAYS: u64 = 30;

/// Lifecycle moves objects only to the right (same page, "Supported transitions").
const WATERFALL: [&str; 7] =
    ["STANDARD", "STANDARD_IA", "INTELLIGENT_TIERING", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"];

const DAY_SECONDS: u64 = 24 * 3600;

/// One rule, for everything below the prefix.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Ends uploads in parts that nobody finished: they cost money and are in no listing.
    AbortUploads { days: u64 },
    /// Removes versions so long after they were deleted or overwritten, and the marks of what has no version left.
    RemoveVersions { days: u64 },
    /// Moves objects of more than so many bytes. Without a size S3 moves none below 128 KB, which most pictures are.
    Move { days: u64, class: String, larger_than: u64 },
    /// Deletes captures.
    Expire { days: u64 },
}

impl Rule {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::AbortUploads { .. } => "abandoned-uploads",
            Self::RemoveVersions { .. } => "old-versions",
            Self::Move { .. } => "transition",
            Self::Expire { .. } => "expire",
        }
    }
}

/// What a reader of the template should know of its rules, as lines of a comment.
pub(super) fn comment(s3: &S3Settings) -> String {
    let mut lines = match s3.access {
        Access::ReadWrite => vec![
            "# No rule deletes or moves captures by their age: hk-aws rotates them itself (rotate in its configuration).",
            "# Add none: after a theft nobody bundles any more, and a rule that deletes by age would delete the burglary.",
        ],
        Access::WriteOnly => vec![
            "# The box can neither read nor delete, so S3 does what rotate.transition and rotate.expire in the",
            "# configuration say, by the age of each object. Nothing is bundled.",
        ],
    };
    if s3.object_lock.is_some() {
        lines.push("# What is deleted or overwritten stays as an old version for the days of the lock.");
    }
    lines.join("\n")
}

/// The rules for a configuration, or everything that speaks against them.
pub(super) fn rules(config: &Config) -> Result<Vec<Rule>, Vec<Problem>> {
    let mut rules = vec![Rule::AbortUploads { days: ABANDONED_AFTER_DAYS }];
    if let Some(lock) = config.s3.object_lock {
        // A thief's deletion only hides: its owner has as long to notice as the lock would have held.
        rules.push(Rule::RemoveVersions { days: u64::from(lock.days) });
    }
    // Who may read and delete rotates; see the comment in the template.
    if config.s3.access == Access::ReadWrite {
        return Ok(rules);
    }
    let mut problems = Vec::new();
    let rotate = &config.rotate;
    if rotate.archive.is_some() && rotate.expire.is_some() {
        problems.push(problem(
            "rotate.expire",
            "stands beside rotate.archive with s3.access: write-only, where nothing can be bundled: after its days S3 would \
             delete captures that wait for their bundle, a burglary's too",
            "set rotate.archive: null (and rotate.transition for a colder class), or rotate.expire: null, or s3.access: \
             read-write",
        ));
    }
    let moved = rotate.transition.as_ref().map(|transition| {
        problems.extend(refuse_transition(transition, &config.s3.storage_class));
        // A rule says "more than"; an object of one byte is no capture.
        let larger_than = transition.min_size.saturating_sub(1).max(1);
        let days = whole_days(transition.after);
        rules.push(Rule::Move { days, class: transition.class.clone(), larger_than });
        days
    });
    if let Some(expire) = rotate.expire {
        let days = whole_days(expire.after);
        if let Some(moved) = moved.filter(|moved| *moved >= days) {
            problems.push(problem(
                "rotate.expire.after",
                format!("deletes after {days} days what rotate.transition moves after {moved}, which S3 refuses"),
                "write more days than in rotate.transition.after, or set rotate.transition: null",
            ));
        }
        rules.push(Rule::Expire { days });
    }
    if problems.is_empty() { Ok(rules) } else { Err(problems) }
}

fn refuse_transition(transition: &TransitionSettings, from: &str) -> Option<Problem> {
    let place = |class: &str| WATERFALL.iter().position(|known| *known == class);
    let class = &transition.class;
    if place(class).is_none_or(|to| to <= place(from).unwrap_or(0)) {
        return Some(problem(
            "rotate.transition.class",
            format!("{class}, into which S3 moves nothing from {from}"),
            format!("the way goes one way: {}", WATERFALL.join(", ")),
        ));
    }
    let days = whole_days(transition.after);
    if matches!(class.as_str(), "STANDARD_IA" | "ONEZONE_IA") && days < IA_DAYS {
        return Some(problem(
            "rotate.transition.after",
            format!("{days} days, and S3 moves nothing into {class} before {IA_DAYS}"),
            format!("write {IA_DAYS}d or more, or another class"),
        ));
    }
    None
}

fn problem(key: &str, wrong: impl Into<String>, mend: impl Into<String>) -> Problem {
    Problem { line: None, key: key.to_owned(), wrong: wrong.into(), value: None, mend: mend.into() }
}

/// Rounded up: nothing goes earlier than its owner said.
fn whole_days(after: Duration) -> u64 {
    let started = u64::from(after.subsec_nanos() > 0);
    (after.as_secs() + started).div_ceil(DAY_SECONDS)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn rules_of(s3: &str, rotate: &str) -> Result<Vec<Rule>, Vec<String>> {
        let text = format!(
            "drop_folder: {{path: /drop}}\ntimezone: UTC\ns3: {{bucket: captures{s3}}}\nrotate: {{{rotate}}}\n"
        );
        let config = Config::parse(Path::new("config.yaml"), &text, &|_| None).unwrap();
        rules(&config).map_err(|problems| problems.into_iter().map(|problem| problem.key).collect())
    }

    #[test]
    fn a_box_that_rotates_has_no_rule_by_age() {
        let abort = Rule::AbortUploads { days: 7 };
        for rotate in ["", "transition: {after: 1d, class: GLACIER_IR}", "archive: null, expire: {after: 1d}"] {
            assert_eq!(rules_of("", rotate).unwrap().as_slice(), std::slice::from_ref(&abort), "{rotate}");
        }
        let locked = rules_of(", object_lock: {days: 90}", "").unwrap();
        assert_eq!(locked, [abort, Rule::RemoveVersions { days: 90 }]);
    }

    #[test]
    fn a_box_that_only_writes_leaves_age_to_the_bucket() {
        let only = ", access: write-only";
        let found = rules_of(only, "transition: {after: 25h, min_size: 20KiB}, expire: {after: 365d}").unwrap();
        let moved = Rule::Move { days: 2, class: "GLACIER_IR".into(), larger_than: 20 * 1024 - 1 };
        assert_eq!(found[1..], [moved, Rule::Expire { days: 365 }]);
        let found = rules_of(only, "transition: {after: 0s, min_size: 0}, expire: null").unwrap();
        assert_eq!(found[1..], [Rule::Move { days: 0, class: "GLACIER_IR".into(), larger_than: 1 }]);
        assert_eq!(rules_of(only, "expire: null").unwrap().len(), 1, "bundles that are never made move nothing");
    }

    #[test]
    fn what_would_delete_what_waits_or_what_s3_refuses_is_refused() {
        for (s3, rotate, keys) in [
            ("", "", &["rotate.expire"][..]),
            ("", "archive: {class: DEEP_ARCHIVE}", &["rotate.expire"]),
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
