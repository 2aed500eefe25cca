//! The template as `aws cloudformation` reads it: YAML, written by hand for the sake of its comments.

use std::fmt::Write as _;

use super::lifecycle::{self, Rule};
use super::{indent, policy, quote};
use crate::config::{Config, LockMode, S3Settings, Sse};

pub(super) fn render(config: &Config, rules: &[Rule]) -> String {
    let s3 = &config.s3;
    let bucket = &s3.bucket;
    let region = s3.region.as_ref().map(|region| format!(" --region {region}")).unwrap_or_default();
    let comment = indent(&lifecycle::comment(s3), 8);
    let rules: Vec<String> = rules.iter().map(|rule| indent(&write_rule(rule, &s3.prefix), 10)).collect();
    let rules = rules.join(
        "
",
    );
    let (lock, encryption) = (indent(&lock(s3), 6), indent(&encryption(s3), 10));
    let lock = if lock.is_empty() { lock } else { lock + "\n" };
    let (of_bucket, of_user) =
        (indent(&policy::of_bucket(s3).to_yaml(), 8), indent(&policy::of_user(config).to_yaml(), 12));
    let name = quote(bucket);
    format!(
        r#"# A bucket for captures, and a user that may do there what hk-aws needs and no more. Made by `hk-aws aws-template`:
# make it again when s3 or rotate change in the configuration. Apply it:
#   aws cloudformation deploy --stack-name hk-aws --template-file FILE --capabilities CAPABILITY_NAMED_IAM{region}
# Then make a key for the box; it stands in no template and no output, where others could read it:
#   aws iam create-access-key --user-name {bucket}
AWSTemplateFormatVersion: "2010-09-09"
Description: A bucket for captures of IP cameras, and the user that stores them
Resources:
  Bucket:
    Type: AWS::S3::Bucket
    # Captures outlive the stack.
    DeletionPolicy: Retain
    UpdateReplacePolicy: Retain
    Properties:
      BucketName: {name}
      PublicAccessBlockConfiguration:
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
{lock}      LifecycleConfiguration:
{comment}
        Rules:
{rules}
  BucketPolicy:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket:
        Ref: Bucket
      PolicyDocument:
{of_bucket}
  User:
    Type: AWS::IAM::User
    Properties:
      UserName: {name}
      Policies:
        - PolicyName: hk-aws
          PolicyDocument:
{of_user}
"#
    )
}

fn encryption(s3: &S3Settings) -> String {
    let (algorithm, key) = match &s3.sse {
        None | Some(Sse::Aes256) => return "- ServerSideEncryptionByDefault:\n    SSEAlgorithm: AES256".to_owned(),
        Some(Sse::Kms) => ("aws:kms", String::new()),
        Some(Sse::KmsKey(key)) => ("aws:kms", format!("\n    KMSMasterKeyID: {}", quote(key))),
    };
    // Without a bucket key each picture costs a request to KMS.
    format!("- BucketKeyEnabled: true\n  ServerSideEncryptionByDefault:\n    SSEAlgorithm: {algorithm}{key}")
}

fn lock(s3: &S3Settings) -> String {
    let Some(lock) = s3.object_lock else { return String::new() };
    let mode = match lock.mode {
        LockMode::Governance => "GOVERNANCE",
        LockMode::Compliance => "COMPLIANCE",
    };
    let days = lock.days;
    format!(
        "VersioningConfiguration:
  Status: Enabled
ObjectLockEnabled: true
ObjectLockConfiguration:
  ObjectLockEnabled: Enabled
  Rule:
    DefaultRetention:
      Mode: {mode}
      Days: {days}"
    )
}

fn write_rule(rule: &Rule, prefix: &str) -> String {
    let mut text = format!("- Id: {}\n  Status: Enabled\n", rule.name());
    if !prefix.is_empty() {
        let _infallible = writeln!(text, "  Prefix: {}", quote(prefix));
    }
    text + &match rule {
        Rule::AbortUploads { days } => format!("  AbortIncompleteMultipartUpload:\n    DaysAfterInitiation: {days}"),
        Rule::RemoveVersions { days } => {
            format!("  NoncurrentVersionExpiration:\n    NoncurrentDays: {days}\n  ExpiredObjectDeleteMarker: true")
        }
        Rule::Move { days, class, larger_than } => format!(
            "  ObjectSizeGreaterThan: \"{larger_than}\"\n  Transitions:\n    - StorageClass: {class}\n      TransitionInDays: {days}"
        ),
        Rule::Expire { days } => format!("  ExpirationInDays: {days}"),
    }
}
