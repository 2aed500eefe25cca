//! The template for `aws cloudformation`: YAML, put together by hand so that it can have comments.

use std::fmt::Write as _;

use super::lifecycle::{self, LifecycleRule};
use super::{INTRO, advise_name, indent, is_account_regional, lock_mode, policy, quote};
use crate::config::{Config, S3Settings, Sse};

/// Returns the template; it ends with a line break.
pub(super) fn render(config: &Config, rules: &[LifecycleRule]) -> String {
    let s3 = &config.s3;
    let region = s3.region.as_ref().map(|region| format!(" --region {region}")).unwrap_or_default();
    let resources = [bucket(config, rules), bucket_policy(s3), user(config)].map(|resource| indent(&resource, 2));
    format!(
        r#"{INTRO}#   aws cloudformation deploy --stack-name hk-aws --template-file FILE --capabilities CAPABILITY_NAMED_IAM{region}
# Then create an access key for the box. It is in no template and in no output, where others could read it:
#   aws iam create-access-key --user-name {user}
# Write it into /etc/hk-aws/credentials on the box: [default], aws_access_key_id = ... and aws_secret_access_key = ...
{name}AWSTemplateFormatVersion: "2010-09-09"
Description: A bucket for captures of IP cameras, and the user that stores them
Resources:
{resources}
"#,
        user = s3.bucket,
        name = advise_name(s3),
        resources = resources.join("\n"),
    )
}

fn bucket(config: &Config, rules: &[LifecycleRule]) -> String {
    let s3 = &config.s3;
    let rules: Vec<String> = rules.iter().map(|rule| indent(&write_rule(rule, &s3.prefix), 8)).collect();
    let lock = lock(s3).map(|lock| indent(&lock, 4) + "\n").unwrap_or_default();
    format!(
        "\
Bucket:
  Type: AWS::S3::Bucket
  # Captures outlive the stack.
  DeletionPolicy: Retain
  UpdateReplacePolicy: Retain
  Properties:
    BucketName: {name}
{namespace}    PublicAccessBlockConfiguration:
      BlockPublicAcls: true
      BlockPublicPolicy: true
      IgnorePublicAcls: true
      RestrictPublicBuckets: true
    OwnershipControls:
      Rules:
        - ObjectOwnership: BucketOwnerEnforced
    BucketEncryption:
      ServerSideEncryptionConfiguration:
{encryption}
    VersioningConfiguration:
      Status: Enabled
{lock}    LifecycleConfiguration:
{comment}
      Rules:
{rules}",
        name = quote(&s3.bucket),
        namespace = if is_account_regional(s3) { "    BucketNamespace: account-regional\n" } else { "" },
        encryption = indent(&encryption(s3), 8),
        comment = indent(&lifecycle::comment(config), 6),
        rules = rules.join("\n"),
    )
}

fn bucket_policy(s3: &S3Settings) -> String {
    let document = indent(&policy::of_bucket(s3).to_yaml(), 6);
    format!(
        "\
BucketPolicy:
  Type: AWS::S3::BucketPolicy
  Properties:
    Bucket:
      Ref: Bucket
    PolicyDocument:
{document}"
    )
}

fn user(config: &Config) -> String {
    let (name, document) = (quote(&config.s3.bucket), indent(&policy::of_user(config).to_yaml(), 10));
    format!(
        "\
User:
  Type: AWS::IAM::User
  Properties:
    UserName: {name}
    Policies:
      - PolicyName: hk-aws
        PolicyDocument:
{document}"
    )
}

fn encryption(s3: &S3Settings) -> String {
    let (algorithm, key) = match &s3.sse {
        None | Some(Sse::Aes256) => return "- ServerSideEncryptionByDefault:\n    SSEAlgorithm: AES256".to_owned(),
        Some(Sse::Kms) => ("aws:kms", String::new()),
        Some(Sse::KmsKey(key)) => ("aws:kms", format!("\n    KMSMasterKeyID: {}", quote(key))),
    };
    // Without a bucket key, each picture costs a request to KMS.
    format!("- BucketKeyEnabled: true\n  ServerSideEncryptionByDefault:\n    SSEAlgorithm: {algorithm}{key}")
}

fn lock(s3: &S3Settings) -> Option<String> {
    let lock = s3.object_lock?;
    let (mode, days) = (lock_mode(lock.mode), lock.days);
    Some(format!(
        "\
ObjectLockEnabled: true
ObjectLockConfiguration:
  ObjectLockEnabled: Enabled
  Rule:
    DefaultRetention:
      Mode: {mode}
      Days: {days}"
    ))
}

fn write_rule(rule: &LifecycleRule, prefix: &str) -> String {
    let mut text = format!("- Id: {}\n  Status: Enabled\n", rule.name());
    if !prefix.is_empty() {
        let _infallible = writeln!(text, "  Prefix: {}", quote(prefix));
    }
    text + &match rule {
        LifecycleRule::AbortUploads { days } => {
            format!("  AbortIncompleteMultipartUpload:\n    DaysAfterInitiation: {days}")
        }
        LifecycleRule::RemoveVersions { days } => {
            format!("  NoncurrentVersionExpiration:\n    NoncurrentDays: {days}\n  ExpiredObjectDeleteMarker: true")
        }
        LifecycleRule::Move { days, class, larger_than } => format!(
            "  ObjectSizeGreaterThan: \"{larger_than}\"\n  Transitions:\n    - StorageClass: {class}\n      TransitionInDays: {days}"
        ),
        LifecycleRule::Expire { days } => format!("  ExpirationInDays: {days}"),
    }
}
