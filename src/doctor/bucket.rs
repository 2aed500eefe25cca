//! The bucket: whether it takes what the daemon puts, how careful it is with it, and what else the credentials may do.

use std::time::{Duration, SystemTime};

use super::Check;
use crate::bucket::{Conditions, Refusal, Right};
use crate::config::Access;
use crate::site::Site;

/// What an answer may take on its way, and be rounded by.
const CLOCK_IS_RIGHT: Duration = Duration::from_secs(30);
/// S3 refuses a request 15 minutes off (`RequestTimeTooSkewed`); a clock that runs away gets there.
const CLOCK_FAILS: Duration = Duration::from_mins(5);

/// What a right is called, and what does not work without it. The last one takes away what the others were tried on.
const RIGHTS: [(Right, &str, &str); 4] = [
    (Right::Read, "s3:GetObject", "captures sent twice are stored twice, `get` fails, and nothing is bundled"),
    (Right::List, "s3:ListBucket", "`cameras`, `days`, `list`, `get` and the rotation fail"),
    (Right::ListUploads, "s3:ListBucketMultipartUploads", "parts of clips that a crash left stay"),
    (Right::Delete, "s3:DeleteObject", "what is bundled or should expire stays, and so does what is tried at a start"),
];

pub(super) async fn examine(site: &Site) -> Vec<Check> {
    let bucket = &site.bucket;
    let before = (site.clock)().wall;
    let time = bucket.time().await;
    let after = (site.clock)().wall;
    let mut checks = vec![clock(time, before, after)];
    // What an earlier trial left would make this one easier.
    let may_delete = bucket.has_right(Right::Delete).await;
    let conditions = match bucket.try_put().await {
        Ok(conditions) => conditions,
        Err(refusal) => {
            checks.push(Check::fail("put", format!("{}: {}", bucket.describe(), refusal.reason), refusal.advice));
            return checks;
        }
    };
    let class = &site.config.s3.storage_class;
    checks.push(Check::ok("put", format!("{} takes objects of class {class}", bucket.describe())));
    checks.push(conditional_writes(conditions, site.config.s3.access));
    checks.push(checksums(bucket.refuses_wrong_checksum().await));
    checks.push(rights(site).await);
    if !matches!(may_delete, Ok(true)) {
        let says = format!("{} stays in the bucket, as these credentials may not delete it", bucket.probe_key());
        checks.push(Check::ok("left behind", says));
    }
    checks
}

/// Holds this box's clock against the store's, which was read between `before` and `after`.
fn clock(time: Result<SystemTime, Refusal>, before: SystemTime, after: SystemTime) -> Check {
    let time = match time {
        Ok(time) => time,
        Err(refusal) => return Check::fail("clock", format!("not compared: {}", refusal.reason), refusal.advice),
    };
    // A date is rounded down to the second.
    let (slow, fast) = (time.duration_since(after), before.duration_since(time + Duration::from_secs(1)));
    let (off, word) = match (slow, fast) {
        (Ok(slow), _) => (slow, "behind"),
        (_, Ok(fast)) => (fast, "ahead of"),
        _ => (Duration::ZERO, "behind"),
    };
    let says = format!("{} s {word} the store's clock", off.as_secs());
    let mend = "set the clock, and keep it set by NTP: S3 refuses requests from 15 minutes off";
    if off > CLOCK_FAILS {
        Check::fail("clock", says, mend)
    } else if off > CLOCK_IS_RIGHT {
        Check::warn("clock", says, mend)
    } else {
        Check::ok("clock", says)
    }
}

fn conditional_writes(conditions: Conditions, access: Access) -> Check {
    let Some(what) = conditions.shortcoming() else {
        return Check::ok("conditional writes", "the store itself refuses to overwrite an object");
    };
    let instead = match access {
        Access::ReadWrite => "each such capture costs a second request that looks first",
        Access::WriteOnly => "each such capture is stored under a name that carries its hash",
    };
    let mend = "let no two boxes write the same cameras, or use a store with conditional writes";
    Check::warn("conditional writes", format!("the store {what}: {instead}"), mend)
}

fn checksums(refuses: Result<Option<bool>, Refusal>) -> Check {
    match refuses {
        Ok(Some(true)) => Check::ok("checksums", "an object with a wrong SHA-256 is refused"),
        Ok(Some(false)) => Check::warn(
            "checksums",
            "the store accepted an object with a wrong SHA-256",
            "nothing but TLS keeps captures whole on their way: use https, or a store that checks",
        ),
        Ok(None) => Check::warn("checksums", "none are sent", "set s3.checksum to always"),
        Err(refusal) => Check::warn("checksums", format!("could not be tried: {}", refusal.reason), refusal.advice),
    }
}

async fn rights(site: &Site) -> Check {
    let mut had = Vec::new();
    for (right, name, without) in RIGHTS {
        match site.bucket.has_right(right).await {
            Ok(has) => had.push((name, without, has)),
            Err(refusal) => {
                return Check::warn("rights", format!("{name} could not be tried: {}", refusal.reason), refusal.advice);
            }
        }
    }
    judge_rights(&had, site.config.s3.access)
}

fn judge_rights(had: &[(&str, &str, bool)], access: Access) -> Check {
    let names = |wanted: bool| {
        let names: Vec<&str> = had.iter().filter(|(.., has)| *has == wanted).map(|(name, ..)| *name).collect();
        names.join(", ")
    };
    let (has, lacks) = (names(true), names(false));
    match access {
        Access::WriteOnly if has.is_empty() => Check::ok("rights", "s3:PutObject, and nothing else that was tried"),
        Access::WriteOnly => Check::warn(
            "rights",
            format!("s3.access is write-only, but the credentials have {has}, too: so has whoever takes this box"),
            format!("take {has} away from these credentials"),
        ),
        Access::ReadWrite if lacks.is_empty() => Check::ok("rights", format!("s3:PutObject, {has}")),
        Access::ReadWrite => {
            let without: Vec<&str> = had.iter().filter(|(.., has)| !has).map(|(_, without, _)| *without).collect();
            Check::warn(
                "rights",
                format!("no {lacks}: {}", without.join("; ")),
                format!("allow {lacks} to these credentials, or set s3.access to write-only"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    #[test]
    fn a_clock_is_right_within_seconds_and_fails_before_s3_refuses_it() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let by = |seconds: i64| {
            let off = Duration::from_secs(seconds.unsigned_abs());
            let time = if seconds < 0 { now - off } else { now + off };
            let check = clock(Ok(time), now, now + Duration::from_secs(2));
            (check.outcome, check.says)
        };
        for seconds in [-20, -1, 0, 1, 2, 20] {
            assert_eq!(by(seconds).0, Outcome::Ok, "{seconds}");
        }
        assert_eq!(by(100), (Outcome::Warn, "98 s behind the store's clock".into()));
        assert_eq!(by(-100), (Outcome::Warn, "99 s ahead of the store's clock".into()));
        assert_eq!((by(400).0, by(-400).0), (Outcome::Fail, Outcome::Fail));
    }

    #[test]
    fn rights_too_many_and_rights_too_few_are_named() {
        let had = [("s3:GetObject", "a fails", true), ("s3:DeleteObject", "b fails", false)];
        let many = judge_rights(&had, Access::WriteOnly);
        assert!(many.outcome == Outcome::Warn && many.mend.contains("take s3:GetObject away"), "{many:?}");
        let few = judge_rights(&had, Access::ReadWrite);
        assert!(few.outcome == Outcome::Warn && few.says.contains("no s3:DeleteObject: b fails"), "{few:?}");
        assert_eq!(judge_rights(&had[1..], Access::WriteOnly).outcome, Outcome::Ok);
        assert_eq!(judge_rights(&had[..1], Access::ReadWrite).outcome, Outcome::Ok);
    }
}
