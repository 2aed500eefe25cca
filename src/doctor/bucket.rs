//! Checks of the bucket: whether captures can be stored, how safe they are there, and what else the credentials may do.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use super::Check;
use crate::bucket::{Conditions, Refusal, Right, WrongChecksum};
use crate::config::Access;
use crate::site::Site;

/// The largest difference to the store's clock that counts as right: an answer takes time, and its date is rounded.
const CLOCK_IS_RIGHT: Duration = Duration::from_secs(30);

/// The difference above which the check fails. S3 refuses requests that are 15 minutes off (`RequestTimeTooSkewed`),
/// and a clock that drifts gets there.
const CLOCK_FAILS: Duration = Duration::from_mins(5);

/// A right, other than to put, that the daemon can use.
struct NamedRight {
    right: Right,
    /// AWS's name of it.
    name: &'static str,
    /// What fails without it.
    without: &'static str,
}

/// The rights in the order of their trials: the last one deletes the object that the others are tried on.
const RIGHTS: [NamedRight; 4] = [
    NamedRight {
        right: Right::Read,
        name: "s3:GetObject",
        without: "captures that are sent twice are stored twice, `get` fails, and nothing is bundled",
    },
    NamedRight {
        right: Right::List,
        name: "s3:ListBucket",
        without: "`cameras`, `days`, `list`, `get` and the rotation fail",
    },
    NamedRight {
        right: Right::ListUploads,
        name: "s3:ListBucketMultipartUploads",
        without: "parts of clips that a crash left behind stay in the bucket",
    },
    NamedRight {
        right: Right::Delete,
        name: "s3:DeleteObject",
        without: "captures that are bundled or should expire stay in the bucket, and so does the small object with which \
                  a store is tried",
    },
];

pub(super) async fn examine(site: &Site) -> Vec<Check> {
    let bucket = &site.bucket;
    let before = (site.clock)().wall;
    let time = bucket.time().await;
    let after = (site.clock)().wall;
    let mut checks = vec![clock(time, before..=after)];
    // An object that an earlier trial left behind would make this one easier, so it is deleted first.
    let may_delete = bucket.has_right(Right::Delete).await;
    let conditions = match bucket.try_put().await {
        Ok(conditions) => conditions,
        Err(refusal) => {
            let says = format!("{}: {}", bucket.describe(), refusal.reason);
            checks.push(Check::fail("put", says).mend(refusal.advice));
            return checks;
        }
    };
    let class = &site.config.s3.storage_class;
    checks.push(Check::ok("put", format!("{} accepts objects of class {class}", bucket.describe())));
    checks.push(conditional_writes(conditions, site.config.s3.access));
    checks.push(checksums(bucket.try_wrong_checksum().await));
    checks.push(rights(site).await);
    checks.extend(super::keys::examine(site).await);
    if !matches!(may_delete, Ok(true)) {
        let says = format!(
            "{} stays in the bucket, as these credentials may not delete it; so may a part of an upload, until a lifecycle \
             rule for abandoned uploads takes it",
            bucket.probe_key()
        );
        checks.push(Check::ok("left behind", says));
    }
    checks
}

/// Compares this box's clock with the store's time, which was asked for between the ends of `during`.
fn clock(time: Result<Option<SystemTime>, Refusal>, during: RangeInclusive<SystemTime>) -> Check {
    let time = match time {
        Ok(Some(time)) => time,
        Ok(None) => {
            let mend = "keep this box's clock right with NTP: the rotation decides by it alone";
            return Check::warn("clock", "not compared: the store's answers have no date").mend(mend);
        }
        Err(refusal) => {
            return Check::fail("clock", format!("not compared: {}", refusal.reason)).mend(refusal.advice);
        }
    };
    // The store rounds its time down to the second.
    let slow = time.duration_since(*during.end());
    let fast = during.start().duration_since(time + Duration::from_secs(1));
    let (off, word) = match (slow, fast) {
        (Ok(slow), _) => (slow, "behind"),
        (_, Ok(fast)) => (fast, "ahead of"),
        _ => (Duration::ZERO, "behind"),
    };
    let says = format!("{} s {word} the store's clock", off.as_secs());
    let mend = "set the clock, and keep it right with NTP: S3 refuses requests that are 15 minutes off";
    if off > CLOCK_FAILS {
        Check::fail("clock", says).mend(mend)
    } else if off > CLOCK_IS_RIGHT {
        Check::warn("clock", says).mend(mend)
    } else {
        Check::ok("clock", says)
    }
}

fn conditional_writes(conditions: Conditions, access: Access) -> Check {
    let Some(shortcoming) = conditions.shortcoming() else {
        return Check::ok("conditional writes", "the store itself refuses to overwrite an object");
    };
    let instead = match access {
        Access::ReadWrite => "each such capture costs a second request, which looks whether its key is free",
        Access::WriteOnly => "each such capture is stored under a name that carries its hash",
    };
    Check::warn("conditional writes", format!("the store {shortcoming}: {instead}"))
        .mend("let no two boxes write the same cameras, or use a store with conditional writes")
}

fn checksums(found: Result<WrongChecksum, Refusal>) -> Check {
    match found {
        Ok(WrongChecksum::Refused) => Check::ok("checksums", "an object with a wrong SHA-256 is refused"),
        Ok(WrongChecksum::Accepted) => Check::warn("checksums", "the store accepted an object with a wrong SHA-256")
            .mend("only TLS protects captures on their way: use https, or a store that checks"),
        Ok(WrongChecksum::NotSent) => Check::warn("checksums", "none are sent").mend("set s3.checksum to always"),
        Err(refusal) => {
            Check::warn("checksums", format!("could not be tried: {}", refusal.reason)).mend(refusal.advice)
        }
    }
}

/// Which of the rights these credentials have.
#[derive(Default)]
struct RightsFound<'a> {
    has: Vec<&'a NamedRight>,
    lacks: Vec<&'a NamedRight>,
}

async fn rights(site: &Site) -> Check {
    let mut found = RightsFound::default();
    for named in &RIGHTS {
        match site.bucket.has_right(named.right).await {
            Ok(true) => found.has.push(named),
            Ok(false) => found.lacks.push(named),
            Err(refusal) => {
                let says = format!("{} could not be tried: {}", named.name, refusal.reason);
                return Check::warn("rights", says).mend(refusal.advice);
            }
        }
    }
    judge_rights(&found, site.config.s3.access)
}

fn judge_rights(found: &RightsFound<'_>, access: Access) -> Check {
    let names = |rights: &[&NamedRight]| rights.iter().map(|right| right.name).collect::<Vec<_>>().join(", ");
    let (has, lacks) = (names(&found.has), names(&found.lacks));
    match access {
        Access::WriteOnly if has.is_empty() => {
            Check::ok("rights", "s3:PutObject, and none of the other rights that were tried")
        }
        Access::WriteOnly => Check::warn(
            "rights",
            format!("s3.access is write-only, but the credentials also have {has}, and so has whoever takes this box"),
        )
        .mend(format!("take {has} away from these credentials")),
        Access::ReadWrite if lacks.is_empty() => Check::ok("rights", format!("s3:PutObject, {has}")),
        Access::ReadWrite => {
            let without: Vec<&str> = found.lacks.iter().map(|right| right.without).collect();
            Check::warn("rights", format!("no {lacks}: {}", without.join("; ")))
                .mend(format!("allow {lacks} to these credentials, or set s3.access to write-only"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckOutcome;

    #[test]
    fn a_clock_is_right_within_seconds_and_fails_before_s3_refuses_it() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let by = |seconds: i64| {
            let off = Duration::from_secs(seconds.unsigned_abs());
            let time = if seconds < 0 { now - off } else { now + off };
            let check = clock(Ok(Some(time)), now..=now + Duration::from_secs(2));
            (check.outcome, check.says)
        };
        for seconds in [-20, -1, 0, 1, 2, 20] {
            assert_eq!(by(seconds).0, CheckOutcome::Ok, "{seconds}");
        }
        assert_eq!(by(100), (CheckOutcome::Warn, "98 s behind the store's clock".into()));
        assert_eq!(by(-100), (CheckOutcome::Warn, "99 s ahead of the store's clock".into()));
        assert_eq!((by(400).0, by(-400).0), (CheckOutcome::Fail, CheckOutcome::Fail));
    }

    #[test]
    fn rights_too_many_and_rights_too_few_are_named() {
        let read = NamedRight { right: Right::Read, name: "s3:GetObject", without: "a fails" };
        let delete = NamedRight { right: Right::Delete, name: "s3:DeleteObject", without: "b fails" };
        let had = RightsFound { has: vec![&read], lacks: vec![&delete] };
        let many = judge_rights(&had, Access::WriteOnly);
        assert!(many.outcome == CheckOutcome::Warn && many.mend.contains("take s3:GetObject away"), "{many:?}");
        let few = judge_rights(&had, Access::ReadWrite);
        assert!(few.outcome == CheckOutcome::Warn && few.says.contains("no s3:DeleteObject: b fails"), "{few:?}");
        assert_eq!(
            judge_rights(&RightsFound { lacks: vec![&delete], ..RightsFound::default() }, Access::WriteOnly).outcome,
            CheckOutcome::Ok
        );
        assert_eq!(
            judge_rights(&RightsFound { has: vec![&read], ..RightsFound::default() }, Access::ReadWrite).outcome,
            CheckOutcome::Ok
        );
    }
}
