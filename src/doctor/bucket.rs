//! Checks of the bucket: whether captures can be stored, how safe they are there, and what else the credentials may do.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::thief::{self, Remains};
use super::{BucketReport, Check};
use crate::bucket::{Conditions, May, PROBE, Refusal, Right, TriedClass, Verdict, WrongChecksum};
use crate::config::{Access, RotateSettings};
use crate::credentials;
use crate::site::Site;

/// The largest difference to the store's clock that counts as right: an answer takes time, and its date is rounded.
const CLOCK_IS_RIGHT: Duration = Duration::from_secs(30);

/// The difference above which the check fails. S3 refuses requests that are 15 minutes off (`RequestTimeTooSkewed`),
/// and a clock that drifts gets there.
const CLOCK_FAILS: Duration = Duration::from_mins(5);

/// A right, other than to put, that the daemon can use.
#[derive(Debug, Clone, Copy)]
struct NamedRight {
    /// AWS's name of it.
    name: &'static str,
    /// What fails without it.
    without: &'static str,
}

const READ: NamedRight = NamedRight {
    name: "s3:GetObject",
    without: "captures that are sent twice are stored twice, `get` fails, and nothing is bundled",
};
const LIST: NamedRight =
    NamedRight { name: "s3:ListBucket", without: "`cameras`, `days`, `list`, `get` and the rotation fail" };
const LIST_UPLOADS: NamedRight = NamedRight {
    name: "s3:ListBucketMultipartUploads",
    without: "parts of clips that a crash left behind stay in the bucket",
};
const DELETE: NamedRight = NamedRight {
    name: "s3:DeleteObject",
    without: "captures that are bundled or should expire stay in the bucket, and so do the small objects with which a store \
              is tried",
};

/// Says where the key is, and whether others may read it there.
fn key(place: &str) -> Check {
    let exposure =
        (credentials::path() == Path::new(place)).then(|| credentials::exposure(&credentials::path())).flatten();
    match exposure {
        Some(exposure) => Check::warn("key", exposure.says).mend(exposure.mend),
        None => Check::ok("key", format!("requests are signed with the key from {place}")),
    }
}

pub(super) async fn examine(site: &Site) -> BucketReport {
    let bucket = &site.bucket;
    let before = (site.clock)().wall;
    let time = bucket.time().await;
    let after = (site.clock)().wall;
    let mut report = BucketReport { checks: vec![clock(time, before..=after)], thief: Vec::new() };
    let checks = &mut report.checks;
    checks.extend(bucket.find_key().await.ok().map(|place| key(&place)));
    // An object that an earlier trial left behind would make this one easier, so it is deleted first.
    let _stays = bucket.try_delete(&bucket.probe_key()).await;
    let put = match bucket.try_put(after).await {
        Ok(put) => put,
        Err(refusal) => {
            let says = format!("{}: {} ({})", bucket.describe(), refusal.sentence(), refusal.reason);
            checks.push(Check::fail("put", says).mend(refusal.advice));
            let _stays = bucket.try_delete(&bucket.probe_key()).await;
            return report;
        }
    };
    let s3 = &site.config.s3;
    checks.push(Check::ok("put", format!("{} accepts objects of class {}", bucket.describe(), s3.storage_class)));
    checks.push(conditional_writes(put.conditions, s3.access));
    checks.push(checksums(bucket.try_wrong_checksum().await));
    let found = thief::try_all(site, &put).await;
    let mut remains = found.take_away(site, &put.key).await.max(found.take_away(site, &bucket.probe_key()).await);
    let (in_parts, tried) = bucket.try_put_in_parts(&put, after).await;
    checks.push(judge_parts(tried));
    remains = remains.max(found.take_away(site, &in_parts).await);
    if s3.access == Access::ReadWrite {
        for (setting, class) in classes(&site.config.rotate) {
            let (key, tried) = bucket.try_class(class, &put, after).await;
            checks.push(judge_class(setting, class, tried));
            remains = remains.max(found.take_away(site, &key).await);
        }
    }
    let uploads = bucket.has_right(Right::ListUploads, &put.key).await.into();
    let rights = [(READ, &found.read), (LIST, &found.list), (LIST_UPLOADS, &uploads), (DELETE, &found.delete)];
    checks.push(judge_rights(&rights, s3.access));
    checks.extend(super::keys::examine(site).await);
    checks.extend(found.touched());
    checks.extend(left_behind(site, remains));
    report.thief = found.table(site);
    report
}

/// Returns the classes that the rotation stores objects in, each with its setting.
fn classes(rotate: &RotateSettings) -> impl Iterator<Item = (&'static str, &str)> {
    let archive = rotate.archive.iter().map(|archive| ("rotate.archive.class", archive.class.as_str()));
    archive.chain(rotate.transition.iter().map(|transition| ("rotate.transition.class", transition.class.as_str())))
}

fn judge_parts(tried: Result<(), Refusal>) -> Check {
    match tried {
        Ok(()) => Check::ok("clips", "an upload in parts is taken with all that a clip carries"),
        Err(refusal) if refusal.verdict == Verdict::TryLater => {
            Check::warn("clips", format!("an upload in parts could not be tried: {}", refusal.reason))
                .mend("try again later")
        }
        Err(refusal) => {
            Check::fail("clips", format!("clips cannot be stored: {}", refusal.reason)).mend(refusal.advice)
        }
    }
}

fn judge_class(setting: &'static str, class: &str, tried: Result<TriedClass, Refusal>) -> Check {
    match tried {
        Ok(TriedClass::Fits) => Check::ok("class", format!("{setting} {class} can be stored and read")),
        Ok(TriedClass::Other(other)) => {
            Check::fail("class", format!("{setting} is {class}, but the store put an object into {other}"))
                .mend(format!("set {setting} to {other}"))
        }
        Ok(TriedClass::NoRestore(refusal)) => {
            Check::fail("class", format!("{setting} {class} cannot be read again: {}", refusal.reason)).mend(format!(
                "allow s3:RestoreObject to these credentials, or set {setting} to a class that needs no restore"
            ))
        }
        Err(refusal) if refusal.verdict == Verdict::TryLater => {
            Check::warn("class", format!("{setting} {class} could not be tried: {}", refusal.reason))
                .mend("try again later")
        }
        Err(refusal) => Check::fail("class", format!("{setting} {class}: {}", refusal.reason))
            .mend(format!("set {setting} to a class that the store knows")),
    }
}

fn left_behind(site: &Site, remains: Remains) -> Option<Check> {
    let lock = if site.config.s3.object_lock.is_some() { ", some of them locked for an hour" } else { "" };
    let says = match remains {
        Remains::Nothing => return None,
        Remains::Versions => format!(
            "old versions of the small objects that end in {PROBE} stay in the bucket{lock}, hidden, as these keys may not \
             erase versions; the bucket's lifecycle removes them, as it does all old versions"
        ),
        Remains::Object => format!(
            "small objects that end in {PROBE} stay in the bucket{lock}, as these keys may not delete them; so may a part of an \
             upload, until a lifecycle rule for abandoned uploads takes it"
        ),
    };
    Some(Check::ok("left behind", says))
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
            return Check::fail("clock", format!("not compared: {} ({})", refusal.sentence(), refusal.reason))
                .mend(refusal.advice);
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

fn judge_rights(rights: &[(NamedRight, &May)], access: Access) -> Check {
    if access == Access::WriteOnly {
        return Check::ok("rights", "s3:PutObject, and a write-only box needs no other");
    }
    let names = |rights: &[NamedRight]| rights.iter().map(|right| right.name).collect::<Vec<_>>().join(", ");
    let lacks: Vec<NamedRight> = rights.iter().filter(|(_, may)| **may == May::No).map(|(right, _)| *right).collect();
    if !lacks.is_empty() {
        let without: Vec<&str> = lacks.iter().map(|right| right.without).collect();
        let lacks = names(&lacks);
        return Check::warn("rights", format!("no {lacks}: {}", without.join("; ")))
            .mend(format!("allow {lacks} to these credentials, or set s3.access to write-only"));
    }
    for (right, may) in rights {
        if let May::NotKnown(why) = may {
            return Check::warn("rights", format!("{} could not be tried: {why}", right.name)).mend("try again later");
        }
    }
    let has: Vec<NamedRight> = rights.iter().map(|(right, _)| *right).collect();
    Check::ok("rights", format!("s3:PutObject, {}", names(&has)))
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
    fn rights_that_are_missing_are_named_with_what_fails_without_them() {
        let read = NamedRight { name: "s3:GetObject", without: "a fails" };
        let delete = NamedRight { name: "s3:DeleteObject", without: "b fails" };
        let unknown = May::NotKnown("HTTP 500".to_owned());
        let few = judge_rights(&[(read, &May::Yes), (delete, &May::No)], Access::ReadWrite);
        assert!(few.outcome == CheckOutcome::Warn && few.says.contains("no s3:DeleteObject: b fails"), "{few:?}");
        for (access, may, outcome) in [
            (Access::ReadWrite, &May::Yes, CheckOutcome::Ok),
            (Access::ReadWrite, &unknown, CheckOutcome::Warn),
            (Access::WriteOnly, &May::No, CheckOutcome::Ok),
            (Access::WriteOnly, &May::Yes, CheckOutcome::Ok),
        ] {
            assert_eq!(judge_rights(&[(read, may)], access).outcome, outcome, "{access:?} {may:?}");
        }
    }
}
