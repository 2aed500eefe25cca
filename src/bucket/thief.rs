//! Trials of what whoever has these credentials can do to the evidence, on the sample alone, for `hk-aws doctor`.
//!
//! A setting of the whole bucket is tried with a request that changes nothing. S3 decides who may ask before it reads
//! what is asked for (IAM User Guide, "Policy evaluation logic"), so a request that is wrong on purpose is answered with
//! `AccessDenied` to those who may not, and with `Malformed...` or `Invalid...` to those who may. Another store may take
//! the wrong request: such a store is tried only where the setting can be read before, and gets it back if it changed. To turn on the
//! versions of a bucket that keeps them needs the same right as to suspend them, and changes nothing either.
//!
//! To ask IAM what it would allow (`SimulatePrincipalPolicy`) was rejected: it needs a right that no box should have, and
//! does not know what the bucket's policy, the lock and other stores do.

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::put_bucket_lifecycle_configuration::PutBucketLifecycleConfigurationError;
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, BucketVersioningStatus, ExpirationStatus, LifecycleRule, LifecycleRuleFilter,
    VersioningConfiguration,
};
use futures_util::TryStreamExt;

use super::wire::{Failed, NULL_VERSION, code, status};
use super::{Bucket, PROBE, Refusal};

/// A policy that S3 refuses, as it has no statement. Where a store takes it, it allows and denies nothing.
const WRONG_POLICY: &str = r#"{"Version": "2012-10-17", "Id": "hk-aws-doctor", "Statement": []}"#;

/// Whether credentials may do something, as far as a trial shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum May {
    /// It was done, or only the request itself was wrong.
    Yes,
    /// It was refused.
    No,
    /// The answer proves neither; with the reason.
    NotKnown(String),
}

/// What became of an object that was deleted without naming a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deleted {
    /// The credentials may not delete.
    Denied,
    /// It is hidden by a delete marker, which is this version.
    Hidden(String),
    /// It was deleted, and the answer names no marker.
    Unmarked,
}

/// Whether a version of an object can be erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Erasing {
    /// It was erased.
    Now,
    /// The credentials may erase versions, but not one that is locked.
    OnceUnlocked,
    /// It was refused.
    Denied,
    /// The answer proves nothing; with the reason.
    NotKnown(String),
}

/// How long the bucket's lifecycle leaves old versions of captures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldVersions {
    /// The credentials may not read the lifecycle, or the store knows none.
    NotTold,
    /// No rule removes them.
    Kept,
    /// A rule removes them so many days after they were covered or hidden.
    RemovedAfter(u32),
}

/// What the trial of a setting of the bucket found and left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingTrial {
    /// Whether the setting may be changed.
    pub may: May,
    /// What happened to the setting; `None` if it was never touched.
    pub touched: Option<Touched>,
}

/// What happened to a setting of the bucket that the wrong request changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// It is as it was.
    PutBack,
    /// It is not as it was; with the reason.
    Changed(String),
}

/// A setting of the bucket before it is tried.
#[derive(Debug, PartialEq)]
enum Before<T> {
    Set(T),
    Unset,
    /// It cannot be read.
    Hidden,
}

impl May {
    fn of<T, E>(what: &str, answer: Result<T, Failed<E>>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let Err(error) = answer else { return Self::Yes };
        let about_content = |code: &str| ["Malformed", "Invalid", "Illegal"].iter().any(|kind| code.starts_with(kind));
        match status(&error) {
            // What the store does not know (405, 501), nobody can do.
            Some(403 | 405 | 501) => Self::No,
            Some(400) if code(&error).is_some_and(about_content) => Self::Yes,
            _ => Self::NotKnown(Refusal::of(what, &error).reason),
        }
    }
}

impl From<Result<bool, Refusal>> for May {
    fn from(answer: Result<bool, Refusal>) -> Self {
        match answer {
            Ok(true) => Self::Yes,
            Ok(false) => Self::No,
            Err(refusal) => Self::NotKnown(refusal.reason),
        }
    }
}

impl SettingTrial {
    fn not_tried() -> Self {
        let why =
            "these keys may not read the setting, and without that the store is not tried, so that nothing gets lost";
        Self { may: May::NotKnown(why.to_owned()), touched: None }
    }
}

impl Bucket {
    /// Deletes an object without naming a version, as far as that is allowed.
    ///
    /// # Errors
    /// A [`Refusal`] if the store does not answer, or its answer is neither yes nor no.
    pub async fn try_delete(&self, key: &str) -> Result<Deleted, Refusal> {
        match self.client.delete_object().bucket(&self.config.bucket).key(key).send().await {
            Ok(answer) => Ok(match answer.version_id {
                Some(marker) if answer.delete_marker == Some(true) => Deleted::Hidden(marker),
                _ => Deleted::Unmarked,
            }),
            Err(error) if status(&error) == Some(403) => Ok(Deleted::Denied),
            // Without the right the answer would be 403, whether or not the object exists.
            Err(error) if status(&error) == Some(404) => Ok(Deleted::Unmarked),
            Err(error) => Err(Refusal::of("delete object", &error)),
        }
    }

    /// Tries to erase a version of an object, also past a lock. If that is refused, or no version is known, the version of
    /// a bucket without versions shows whether it is the right that is missing.
    pub async fn try_erase(&self, key: &str, version: Option<&str>) -> Erasing {
        if let Some(version) = version {
            match self.erase(key, version).await {
                May::Yes => return Erasing::Now,
                May::No => {}
                May::NotKnown(why) => return Erasing::NotKnown(why),
            }
        }
        match self.erase_once(key, NULL_VERSION, None).await {
            May::Yes if version.is_some() || self.config.object_lock.is_some() => Erasing::OnceUnlocked,
            May::Yes => Erasing::Now,
            May::No => Erasing::Denied,
            May::NotKnown(why) => Erasing::NotKnown(why),
        }
    }

    /// Erases every version of an object that a listing shows, or else `known`; returns whether none is left.
    pub async fn erase_object(&self, key: &str, known: Option<&str>) -> bool {
        // The key itself comes first of all that start with it.
        let listed = std::pin::pin!(self.versions(key)).try_next().await;
        let (versions, is_all) = match listed {
            Ok(first) => {
                let versions = first.filter(|first| first.key == key).map(|first| first.versions).unwrap_or_default();
                (versions.into_iter().map(|version| version.id).collect(), true)
            }
            Err(_) => (Vec::from_iter(known.map(str::to_owned)), false),
        };
        let mut erased = is_all;
        for version in &versions {
            erased &= self.erase(key, version).await == May::Yes;
        }
        erased
    }

    /// Erases a version, also past a lock.
    async fn erase(&self, key: &str, version: &str) -> May {
        match self.erase_once(key, version, None).await {
            May::No => self.erase_once(key, version, Some(true)).await,
            other => other,
        }
    }

    async fn erase_once(&self, key: &str, version: &str, bypass: Option<bool>) -> May {
        let delete = self.client.delete_object().bucket(&self.config.bucket).key(key).version_id(version);
        match delete.set_bypass_governance_retention(bypass).send().await {
            // Only those who may erase it are told that it does not exist.
            Err(error) if status(&error) == Some(404) => May::Yes,
            answer => May::of("delete object version", answer),
        }
    }

    /// Returns whether these credentials may suspend the bucket's versions.
    pub async fn may_suspend_versions(&self) -> May {
        let wanted = match self.keeps_versions().await {
            Ok(Some(true)) => BucketVersioningStatus::Enabled,
            // A status that does not exist. Should a store take it, the bucket keeps versions as little as before.
            Ok(Some(false)) => BucketVersioningStatus::from("hk-aws"),
            _ if self.is_aws().await == Ok(true) => BucketVersioningStatus::from("hk-aws"),
            _ => return SettingTrial::not_tried().may,
        };
        let versioning = VersioningConfiguration::builder().status(wanted).build();
        let put = self.client.put_bucket_versioning().bucket(&self.config.bucket).versioning_configuration(versioning);
        May::of("put bucket versioning", put.send().await)
    }

    /// Returns whether these credentials may change the bucket's lifecycle, and what the trial left.
    pub async fn may_change_lifecycle(&self) -> SettingTrial {
        let before = self.lifecycle().await;
        if before == Before::Hidden && self.is_aws().await != Ok(true) {
            return SettingTrial::not_tried();
        }
        let answer = self.put_lifecycle(wrong_rules()).await;
        let taken = answer.is_ok();
        let may = May::of("put bucket lifecycle", answer);
        if may == May::No || !is_changed(&before, &self.lifecycle().await, taken) {
            return SettingTrial { may, touched: None };
        }
        let failed = match &before {
            Before::Set(rules) => {
                let put = self.put_lifecycle(rules.clone()).await;
                put.err().map(|error| Refusal::of("put bucket lifecycle", &error).reason)
            }
            Before::Unset => {
                let delete = self.client.delete_bucket_lifecycle().bucket(&self.config.bucket).send().await;
                delete.err().map(|error| Refusal::of("delete bucket lifecycle", &error).reason)
            }
            Before::Hidden => None,
        };
        SettingTrial { may, touched: Some(touched(&before, &self.lifecycle().await, failed)) }
    }

    /// Returns whether these credentials may change the bucket's policy, and what the trial left.
    pub async fn may_change_policy(&self) -> SettingTrial {
        let before = self.policy().await;
        if before == Before::Hidden && self.is_aws().await != Ok(true) {
            return SettingTrial::not_tried();
        }
        let put = |policy: &str| self.client.put_bucket_policy().bucket(&self.config.bucket).policy(policy).send();
        let answer = put(WRONG_POLICY).await;
        let taken = answer.is_ok();
        let may = May::of("put bucket policy", answer);
        if may == May::No || !is_changed(&before, &self.policy().await, taken) {
            return SettingTrial { may, touched: None };
        }
        let failed = match &before {
            Before::Set(policy) => put(policy).await.err().map(|error| Refusal::of("put bucket policy", &error).reason),
            Before::Unset => {
                let delete = self.client.delete_bucket_policy().bucket(&self.config.bucket).send().await;
                delete.err().map(|error| Refusal::of("delete bucket policy", &error).reason)
            }
            Before::Hidden => None,
        };
        SettingTrial { may, touched: Some(touched(&before, &self.policy().await, failed)) }
    }

    /// Returns how long the bucket's lifecycle leaves old versions of captures.
    pub async fn old_versions(&self) -> OldVersions {
        match self.lifecycle().await {
            Before::Hidden => OldVersions::NotTold,
            Before::Unset => OldVersions::Kept,
            Before::Set(rules) => old_versions(&rules, &self.config.prefix),
        }
    }

    async fn lifecycle(&self) -> Before<Vec<LifecycleRule>> {
        match self.client.get_bucket_lifecycle_configuration().bucket(&self.config.bucket).send().await {
            Ok(answer) => answer.rules.map_or(Before::Unset, Before::Set),
            Err(error) if code(&error) == Some("NoSuchLifecycleConfiguration") => Before::Unset,
            Err(error) if knows_none(&error) => Before::Unset,
            Err(_) => Before::Hidden,
        }
    }

    async fn put_lifecycle(
        &self,
        rules: Vec<LifecycleRule>,
    ) -> Result<(), Failed<PutBucketLifecycleConfigurationError>> {
        let put = self.client.put_bucket_lifecycle_configuration().bucket(&self.config.bucket);
        let lifecycle = BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build();
        // It is whole, as it has rules.
        put.set_lifecycle_configuration(lifecycle.ok()).send().await.map(drop)
    }

    async fn policy(&self) -> Before<String> {
        match self.client.get_bucket_policy().bucket(&self.config.bucket).send().await {
            Ok(answer) => answer.policy.map_or(Before::Unset, Before::Set),
            Err(error) if code(&error) == Some("NoSuchBucketPolicy") => Before::Unset,
            Err(error) if knows_none(&error) => Before::Unset,
            Err(_) => Before::Hidden,
        }
    }
}

/// Returns whether the store does not know a question, so that it has nothing to lose by the trial.
fn knows_none<E>(error: &Failed<E>) -> bool {
    matches!(status(error), Some(405 | 501))
}

/// Returns a rule that S3 refuses, as it does nothing and names twice what it is for. Where a store takes it, it is switched
/// off.
fn wrong_rules() -> Vec<LifecycleRule> {
    let filter = LifecycleRuleFilter::builder().prefix(PROBE).build();
    let rule = LifecycleRule::builder().id("hk-aws-doctor").filter(filter).status(ExpirationStatus::Disabled);
    #[expect(deprecated, reason = "a rule with both is wrong")]
    let rule = rule.prefix(PROBE).build();
    rule.into_iter().collect()
}

/// Returns whether the wrong request changed a setting. A store may even forget what was set and then refuse the request, as
/// moto does with the rules of a lifecycle.
fn is_changed<T: PartialEq>(before: &Before<T>, after: &Before<T>, taken: bool) -> bool {
    if *before == Before::Hidden { taken } else { before != after }
}

fn touched<T: PartialEq>(before: &Before<T>, after: &Before<T>, failed: Option<String>) -> Touched {
    match failed {
        Some(reason) => Touched::Changed(reason),
        None if *before != Before::Hidden && before == after => Touched::PutBack,
        None => Touched::Changed("it is not what it was before".to_owned()),
    }
}

/// Returns how long the rules leave old versions of what lies below `prefix`: the least of the rules that may apply, as a
/// rule's tags and sizes are not looked at.
fn old_versions(rules: &[LifecycleRule], prefix: &str) -> OldVersions {
    let days = rules.iter().filter(|rule| rule.status() == &ExpirationStatus::Enabled && applies(rule, prefix));
    let days = days.filter_map(|rule| rule.noncurrent_version_expiration()?.noncurrent_days());
    let least = days.filter_map(|days| u32::try_from(days).ok()).min();
    least.map_or(OldVersions::Kept, OldVersions::RemovedAfter)
}

fn applies(rule: &LifecycleRule, prefix: &str) -> bool {
    let filter = rule.filter();
    let of_filter = filter.and_then(|filter| filter.prefix().or_else(|| filter.and()?.prefix()));
    #[expect(deprecated, reason = "old rules have it")]
    let below = of_filter.or(rule.prefix()).unwrap_or_default();
    below.starts_with(prefix) || prefix.starts_with(below)
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::NoncurrentVersionExpiration;

    use super::*;

    fn rule(prefix: &str, status: ExpirationStatus, days: Option<i32>) -> LifecycleRule {
        let expiration = days.map(|days| NoncurrentVersionExpiration::builder().noncurrent_days(days).build());
        let filter = LifecycleRuleFilter::builder().prefix(prefix).build();
        let rule = LifecycleRule::builder().filter(filter).status(status);
        rule.set_noncurrent_version_expiration(expiration).build().unwrap()
    }

    #[test]
    fn old_versions_stay_until_the_first_rule_that_is_on_and_is_about_captures() {
        use ExpirationStatus::{Disabled, Enabled};
        for (rules, expected) in [
            (vec![], OldVersions::Kept),
            (vec![rule("", Enabled, None)], OldVersions::Kept),
            (vec![rule("", Enabled, Some(30))], OldVersions::RemovedAfter(30)),
            (vec![rule("", Disabled, Some(30))], OldVersions::Kept),
            (vec![rule("", Enabled, Some(30)), rule("cctv/CAM/", Enabled, Some(3))], OldVersions::RemovedAfter(3)),
            (vec![rule("backups/", Enabled, Some(3)), rule("cc", Enabled, Some(9))], OldVersions::RemovedAfter(9)),
        ] {
            assert_eq!(old_versions(&rules, "cctv/"), expected, "{rules:?}");
        }
    }
}
