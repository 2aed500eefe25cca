//! What whoever has the box's keys can do to the evidence, and whether it can be undone: a table with a row for each deed.
//!
//! Each deed is tried with the keys themselves, on the probe. A row fails if evidence can be erased by it, and warns if
//! that cannot be told, or if the keys may do more than the box needs.

use std::time::Duration;

use serde::Serialize;

use super::{Check, CheckOutcome};
use crate::bucket::{Deleted, Erasing, May, OldVersions, Right, SettingTrial, Touched, TriedPut};
use crate::config::{Access, LockMode, ObjectLock};
use crate::site::Site;

/// What a thief may want to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deed {
    /// The deed, as a text that continues "can a thief".
    pub what: &'static str,
    /// The right that it needs, by AWS's name.
    pub right: &'static str,
}

/// The deeds in the order of the table's rows.
pub const DEEDS: [Deed; 8] = [
    Deed { what: "overwrite captures", right: "s3:PutObject" },
    Deed { what: "delete captures", right: "s3:DeleteObject" },
    Deed { what: "erase old versions of captures", right: "s3:DeleteObjectVersion" },
    Deed { what: "list captures", right: "s3:ListBucket" },
    Deed { what: "read captures", right: "s3:GetObject" },
    Deed { what: "stop the keeping of versions", right: "s3:PutBucketVersioning" },
    Deed { what: "change the bucket's lifecycle", right: "s3:PutLifecycleConfiguration" },
    Deed { what: "change the bucket's policy", right: "s3:PutBucketPolicy" },
];

/// A row of the table: a deed, and what the trial says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "name", rename = "thief")]
pub struct Power {
    /// The deed, as a text that continues "can a thief".
    pub what: &'static str,
    /// The right that it needs, by AWS's name.
    pub right: &'static str,
    /// How good the finding is.
    pub outcome: CheckOutcome,
    /// Whether the keys may do it.
    pub may: &'static str,
    /// Whether it can be undone, and for how long; empty if there is nothing to undo.
    pub undo: String,
    /// What to do about it; empty if there is nothing to do.
    pub mend: String,
}

/// What the trials found.
#[derive(Debug, Clone)]
pub(super) struct Findings {
    overwrite: May,
    pub(super) delete: May,
    erase: Erasing,
    pub(super) list: May,
    pub(super) read: May,
    versioning: May,
    lifecycle: SettingTrial,
    policy: SettingTrial,
    /// Whether the bucket keeps versions, if that is known.
    keeps_versions: Option<bool>,
    old_versions: OldVersions,
}

/// What of an object stays in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Remains {
    Nothing,
    /// Old versions, hidden.
    Versions,
    /// The object itself.
    Object,
}

/// The settings by which findings are judged.
#[derive(Debug, Clone, Copy)]
struct Terms {
    access: Access,
    undo: Duration,
    lock: Option<ObjectLock>,
}

/// A judgement of a deed that the keys may do.
type Judged = (CheckOutcome, String);

/// Tries each deed on the sample that `put` left in the bucket.
pub(super) async fn try_all(site: &Site, put: &TriedPut) -> Findings {
    let bucket = &site.bucket;
    let read = bucket.has_right(Right::Read, &put.key).await.into();
    let list = bucket.has_right(Right::List, &put.key).await.into();
    let deleted = bucket.try_delete(&put.key).await;
    let erase = bucket.try_erase(&put.key, put.version.as_deref()).await;
    let shown = put.version.is_some() || matches!(deleted, Ok(Deleted::Hidden(_)));
    let keeps_versions = match bucket.keeps_versions().await {
        Ok(Some(told)) => Some(told || shown),
        // A bucket with versions names the version of what is stored or deleted.
        _ if shown => Some(true),
        _ if put.overwrote || matches!(deleted, Ok(Deleted::Unmarked)) => Some(false),
        _ => None,
    };
    Findings {
        overwrite: match put.conditions {
            _ if put.overwrote => May::Yes,
            conditions if conditions.shortcoming().is_none() => May::No,
            _ => May::NotKnown("the store does not honour If-None-Match for uploads in parts".to_owned()),
        },
        delete: match deleted {
            Ok(Deleted::Denied) => May::No,
            Ok(_) => May::Yes,
            Err(refusal) => May::NotKnown(refusal.reason),
        },
        erase,
        list,
        read,
        versioning: bucket.may_suspend_versions().await,
        lifecycle: bucket.may_change_lifecycle().await,
        policy: bucket.may_change_policy().await,
        keeps_versions,
        old_versions: bucket.old_versions().await,
    }
}

impl Findings {
    /// Takes an object away, as far as the keys may; returns what stays.
    pub(super) async fn take_away(&self, site: &Site, key: &str) -> Remains {
        let deleted = site.bucket.try_delete(key).await;
        let marker = if let Ok(Deleted::Hidden(marker)) = &deleted { Some(marker.as_str()) } else { None };
        if self.erase == Erasing::Now && site.bucket.erase_object(key, marker).await {
            return Remains::Nothing;
        }
        match deleted {
            Ok(Deleted::Unmarked) if self.keeps_versions != Some(true) => Remains::Nothing,
            Ok(Deleted::Unmarked | Deleted::Hidden(_)) => Remains::Versions,
            Ok(Deleted::Denied) | Err(_) => Remains::Object,
        }
    }

    /// Returns a check for each setting of the bucket that a trial touched.
    pub(super) fn touched(&self) -> Vec<Check> {
        let of = |name: &'static str, trial: &SettingTrial| {
            Some(match trial.touched.as_ref()? {
                Touched::PutBack => Check::ok(
                    "trial",
                    format!("the store let a request that was wrong on purpose change {name} of the bucket; it is put back"),
                ),
                Touched::Changed(reason) => Check::fail(
                    "trial",
                    format!(
                        "the store let a request that was wrong on purpose change {name} of the bucket, and it could not be \
                         put back: {reason}"
                    ),
                )
                .mend(format!("set {name} of the bucket again")),
            })
        };
        [of("the lifecycle", &self.lifecycle), of("the policy", &self.policy)].into_iter().flatten().collect()
    }

    /// Returns the table.
    pub(super) fn table(&self, site: &Site) -> Vec<Power> {
        self.rows(Terms::of(site))
    }

    fn rows(&self, terms: Terms) -> Vec<Power> {
        let erase = match &self.erase {
            Erasing::Now | Erasing::OnceUnlocked => May::Yes,
            Erasing::Denied => May::No,
            Erasing::NotKnown(why) => May::NotKnown(why.clone()),
        };
        let trials = [
            (&self.overwrite, self.overwriting(terms)),
            (&self.delete, self.hiding(terms)),
            (&erase, self.erasing(terms)),
            (&self.list, looking(terms)),
            (&self.read, looking(terms)),
            (&self.versioning, self.suspending(terms)),
            (&self.lifecycle.may, changing_lifecycle(terms)),
            (&self.policy.may, changing_policy(terms)),
        ];
        DEEDS.into_iter().zip(trials).map(|(deed, (may, judged))| row(deed, may, judged)).collect()
    }

    /// Judges what is covered or hidden by whether it can be brought back.
    fn undo(&self, Terms { undo, .. }: Terms) -> Judged {
        let wanted = undo.as_secs().div_ceil(24 * 3600);
        match (self.keeps_versions, self.old_versions) {
            (Some(false), _) => (CheckOutcome::Fail, "no: the bucket keeps no versions".to_owned()),
            (None, _) => {
                (CheckOutcome::Warn, "not known: these keys may not ask whether the bucket keeps versions".to_owned())
            }
            (_, OldVersions::Kept) => {
                (CheckOutcome::Ok, "yes, always: no rule of the bucket removes old versions".to_owned())
            }
            (_, OldVersions::RemovedAfter(days)) if u64::from(days) < wanted => {
                (CheckOutcome::Warn, format!("yes, for {days} days, by the bucket's rules; s3.undo is {wanted} days"))
            }
            (_, OldVersions::RemovedAfter(days)) => {
                (CheckOutcome::Ok, format!("yes, for {days} days, by the bucket's rules"))
            }
            (_, OldVersions::NotTold) => (
                CheckOutcome::Ok,
                format!(
                    "yes, for {wanted} days (s3.undo) if the template made the bucket: these keys may not read its rules"
                ),
            ),
        }
    }

    fn overwriting(&self, terms: Terms) -> Judged {
        // The policy of the template denies it, so it is more than the box needs.
        let (outcome, undo) = self.undo(terms);
        (outcome.max(CheckOutcome::Warn), undo)
    }

    fn hiding(&self, terms: Terms) -> Judged {
        let (outcome, undo) = self.undo(terms);
        (if terms.access == Access::WriteOnly { outcome.max(CheckOutcome::Warn) } else { outcome }, undo)
    }

    fn erasing(&self, terms: Terms) -> Judged {
        match (&self.erase, terms.lock) {
            (Erasing::OnceUnlocked, Some(lock)) => (CheckOutcome::Warn, until_unlocked(lock)),
            (Erasing::OnceUnlocked, None) => {
                (CheckOutcome::Warn, "yes, while the lock lasts; after that no".to_owned())
            }
            _ => (CheckOutcome::Fail, "no".to_owned()),
        }
    }

    /// To suspend versions erases nothing. But what is stored after that has no version of its own, and is erased where the
    /// keys may overwrite or delete (S3 User Guide, "Working with objects in a versioning-suspended bucket").
    fn suspending(&self, Terms { lock, .. }: Terms) -> Judged {
        if self.keeps_versions == Some(false) {
            (CheckOutcome::Warn, "the bucket keeps none".to_owned())
        } else if lock.is_some() {
            (CheckOutcome::Warn, "S3 refuses it while objects can be locked".to_owned())
        } else if self.delete == May::No && self.overwrite == May::No {
            (CheckOutcome::Warn, "yes: nothing can be overwritten or deleted".to_owned())
        } else {
            (CheckOutcome::Fail, "no: what is stored after that can be erased".to_owned())
        }
    }
}

impl Terms {
    fn of(site: &Site) -> Self {
        let s3 = &site.config.s3;
        Self { access: s3.access, undo: s3.undo, lock: s3.object_lock }
    }
}

fn until_unlocked(lock: ObjectLock) -> String {
    format!("yes, while the lock lasts ({} days from the upload); after that no", lock.days)
}

fn looking(terms: Terms) -> Judged {
    let outcome = if terms.access == Access::WriteOnly { CheckOutcome::Warn } else { CheckOutcome::Ok };
    (outcome, "no, but nothing is lost".to_owned())
}

/// S3 removes no locked version by a rule.
fn changing_lifecycle(terms: Terms) -> Judged {
    match terms.lock {
        Some(lock) => (CheckOutcome::Warn, until_unlocked(lock)),
        None => (CheckOutcome::Fail, "no: a rule can erase everything within days".to_owned()),
    }
}

/// A policy can give the keys any right, also that to bypass a lock in the mode governance.
fn changing_policy(terms: Terms) -> Judged {
    match terms.lock {
        Some(lock) if lock.mode == LockMode::Compliance => (CheckOutcome::Warn, until_unlocked(lock)),
        _ => (CheckOutcome::Fail, "no: a policy can give these keys every other right".to_owned()),
    }
}

fn row(Deed { what, right }: Deed, may: &May, (outcome, undo): Judged) -> Power {
    let away = format!("take {right} away from these keys");
    let row = |may, outcome, undo, mend| Power { what, right, outcome, may, undo, mend };
    match may {
        May::No => row("no", CheckOutcome::Ok, String::new(), String::new()),
        May::NotKnown(why) => row(
            "not known",
            CheckOutcome::Warn,
            why.clone(),
            format!("see in the policies of the user and of the bucket that {right} is not allowed to these keys"),
        ),
        May::Yes => {
            let mend = match (outcome, right) {
                (CheckOutcome::Ok, _) => String::new(),
                (_, "s3:PutObject") => {
                    "add the statement NoOverwrite of `hk-aws aws-template` to the bucket's policy, \
                                        and let the bucket keep versions"
                        .to_owned()
                }
                (_, "s3:DeleteObjectVersion") => {
                    format!("{away}, and s3:BypassGovernanceRetention if they have it")
                }
                (_, "s3:DeleteObject") => {
                    format!("let the bucket keep versions, for s3.undo at least, or {away}")
                }
                _ => away,
            };
            row("yes", outcome, undo, mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    /// The keys of the template for a box that reads, rotates and deletes.
    fn as_the_template_makes_it() -> Findings {
        let untouched = SettingTrial { may: May::No, touched: None };
        Findings {
            overwrite: May::No,
            delete: May::Yes,
            erase: Erasing::Denied,
            list: May::Yes,
            read: May::Yes,
            versioning: May::No,
            lifecycle: untouched.clone(),
            policy: untouched,
            keeps_versions: Some(true),
            old_versions: OldVersions::NotTold,
        }
    }

    fn terms(access: Access, mode: Option<LockMode>) -> Terms {
        Terms { access, undo: 30 * DAY, lock: mode.map(|mode| ObjectLock { mode, days: 90 }) }
    }

    fn outcomes(findings: &Findings, access: Access, mode: Option<LockMode>) -> String {
        let letter = |row: Power| {
            assert_eq!(row.outcome == CheckOutcome::Ok, row.mend.is_empty(), "{row:?}");
            match row.outcome {
                CheckOutcome::Ok => 'o',
                CheckOutcome::Warn => 'w',
                CheckOutcome::Fail => 'F',
            }
        };
        findings.rows(terms(access, mode)).into_iter().map(letter).collect()
    }

    #[test]
    fn what_can_erase_evidence_fails_and_what_cannot_be_told_is_never_well() {
        use Access::{ReadWrite, WriteOnly};
        let template = as_the_template_makes_it;
        let touchy = |may: &May| SettingTrial { may: may.clone(), touched: None };
        let yes = May::Yes;
        let unknown = May::NotKnown("HTTP 500".to_owned());
        let none = Findings { delete: May::No, list: May::No, read: May::No, ..template() };
        for (findings, access, lock, expected) in [
            (template(), ReadWrite, None, "oooooooo"),
            (template(), WriteOnly, None, "owowwooo"),
            (none.clone(), WriteOnly, None, "oooooooo"),
            (Findings { overwrite: May::Yes, ..template() }, ReadWrite, None, "wooooooo"),
            (Findings { keeps_versions: Some(false), ..template() }, ReadWrite, None, "oFoooooo"),
            (
                Findings { keeps_versions: Some(false), overwrite: May::Yes, ..none.clone() },
                WriteOnly,
                None,
                "Fooooooo",
            ),
            (Findings { keeps_versions: None, overwrite: May::Yes, ..template() }, ReadWrite, None, "wwoooooo"),
            (Findings { old_versions: OldVersions::RemovedAfter(3), ..template() }, ReadWrite, None, "owoooooo"),
            (Findings { old_versions: OldVersions::RemovedAfter(30), ..template() }, ReadWrite, None, "oooooooo"),
            (Findings { old_versions: OldVersions::Kept, ..template() }, ReadWrite, None, "oooooooo"),
            (Findings { erase: Erasing::Now, ..template() }, ReadWrite, Some(LockMode::Compliance), "ooFooooo"),
            (
                Findings { erase: Erasing::OnceUnlocked, ..template() },
                ReadWrite,
                Some(LockMode::Governance),
                "oowooooo",
            ),
            (Findings { versioning: yes.clone(), ..template() }, ReadWrite, None, "oooooFoo"),
            (Findings { versioning: yes.clone(), ..none.clone() }, WriteOnly, None, "ooooowoo"),
            (Findings { versioning: yes.clone(), ..template() }, ReadWrite, Some(LockMode::Governance), "ooooowoo"),
            (Findings { lifecycle: touchy(&yes), ..none.clone() }, WriteOnly, None, "ooooooFo"),
            (Findings { lifecycle: touchy(&yes), ..none.clone() }, WriteOnly, Some(LockMode::Governance), "oooooowo"),
            (Findings { policy: touchy(&yes), ..none.clone() }, WriteOnly, Some(LockMode::Governance), "oooooooF"),
            (Findings { policy: touchy(&yes), ..none }, WriteOnly, Some(LockMode::Compliance), "ooooooow"),
            (
                Findings {
                    overwrite: unknown.clone(),
                    delete: unknown.clone(),
                    erase: Erasing::NotKnown("HTTP 500".to_owned()),
                    list: unknown.clone(),
                    read: unknown.clone(),
                    versioning: unknown.clone(),
                    lifecycle: touchy(&unknown),
                    policy: touchy(&unknown),
                    ..template()
                },
                ReadWrite,
                None,
                "wwwwwwww",
            ),
        ] {
            assert_eq!(outcomes(&findings, access, lock), expected, "{access:?} {lock:?} {findings:?}");
        }
    }
}
