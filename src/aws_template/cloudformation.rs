//! The template for `aws cloudformation`: YAML, put together by hand so that it can have comments.

use std::fmt::Write as _;

use super::lifecycle::{self, LifecycleRule};
use super::watch::{self, Watch};
use super::{INTRO, advise_name, indent, is_account_regional, lock_mode, policy, quote};
use crate::config::{Config, S3Settings, Sse};

/// Returns the template; it ends with a line break.
pub(super) fn render(config: &Config, rules: &[LifecycleRule]) -> String {
    let s3 = &config.s3;
    let region = s3.region.as_ref().map(|region| format!(" --region {region}")).unwrap_or_default();
    let watches = watch::watches(config);
    let mut resources = vec![bucket(config, rules, &watches), bucket_policy(s3), user(config)];
    if !watches.is_empty() {
        resources.extend([topic_policy(config, &watches), alarm_topic(config)]);
        resources.extend(watches.iter().map(alarm));
    }
    let resources: Vec<String> = resources.iter().map(|resource| indent(resource, 2)).collect();
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

fn bucket(config: &Config, rules: &[LifecycleRule], watches: &[Watch]) -> String {
    let s3 = &config.s3;
    let rules: Vec<String> = rules.iter().map(|rule| indent(&write_rule(rule, &s3.prefix), 8)).collect();
    let lock = lock(s3).map(|lock| indent(&lock, 4) + "\n").unwrap_or_default();
    format!(
        "\
Bucket:
  Type: AWS::S3::Bucket
{after}  # Captures outlive the stack.
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
{lock}{notification}    LifecycleConfiguration:
{comment}
      Rules:
{rules}",
        // The bucket tries to tell the topics as soon as it is made.
        after = if watches.is_empty() { "" } else { "  DependsOn: TopicPolicy\n" },
        notification = notification(watches),
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

/// Returns which new objects the bucket tells of.
fn notification(watches: &[Watch]) -> String {
    if watches.is_empty() {
        return String::new();
    }
    let topic = |Watch { name, prefix, .. }: &Watch| {
        let prefix = quote(prefix);
        format!(
            "        - Event: s3:ObjectCreated:*
          Topic:
            Ref: {name}Topic
          Filter:
            S3Key:
              Rules:
                - Name: prefix
                  Value: {prefix}
"
        )
    };
    let topics: String = watches.iter().map(topic).collect();
    format!("    NotificationConfiguration:\n      TopicConfigurations:\n{topics}")
}

/// Returns the policy by which the bucket, and nobody else, may publish.
fn topic_policy(config: &Config, watches: &[Watch]) -> String {
    let source = quote(&watch::source(config));
    let comment = watch::comment(config, "HeartbeatTopic");
    let topics: Vec<String> = watches.iter().map(|watch| format!("      - Ref: {}Topic", watch.name)).collect();
    let statement = |Watch { name, .. }: &Watch| {
        format!(
            "        - Sid: {name}
          Effect: Allow
          Principal:
            Service: s3.amazonaws.com
          Action: sns:Publish
          Resource:
            Ref: {name}Topic
          Condition:
            StringEquals:
              aws:SourceAccount:
                Ref: AWS::AccountId
            ArnLike:
              aws:SourceArn: {source}"
        )
    };
    let statements: Vec<String> = watches.iter().map(statement).collect();
    format!(
        "\
{comment}
TopicPolicy:
  Type: AWS::SNS::TopicPolicy
  Properties:
    Topics:
{}
    PolicyDocument:
      Version: \"2012-10-17\"
      Statement:
{}",
        topics.join("\n"),
        statements.join("\n"),
    )
}

/// Returns the topic that tells the owner.
fn alarm_topic(config: &Config) -> String {
    match &config.alerts.email {
        Some(email) => format!(
            "\
# AWS sends a letter to this address first, and tells it nothing until its link is followed.
AlarmTopic:
  Type: AWS::SNS::Topic
  Properties:
    Subscription:
      - Protocol: email
        Endpoint: {}",
            quote(email),
        ),
        None => "\
# Nobody is told yet: set alerts.email in the configuration, and make the template again.
AlarmTopic:
  Type: AWS::SNS::Topic"
            .to_owned(),
    }
}

/// Returns a topic that only counts, and its alarm.
fn alarm(watch: &Watch) -> String {
    let Watch { name, period_seconds, periods, description, .. } = watch;
    let description = quote(description);
    format!(
        "\
{name}Topic:
  Type: AWS::SNS::Topic
{name}Alarm:
  Type: AWS::CloudWatch::Alarm
  Properties:
    AlarmDescription: {description}
    Namespace: AWS/SNS
    MetricName: NumberOfMessagesPublished
    Dimensions:
      - Name: TopicName
        Value:
          Fn::GetAtt:
            - {name}Topic
            - TopicName
    Statistic: Sum
    Period: {period_seconds}
    EvaluationPeriods: {periods}
    Threshold: 1
    ComparisonOperator: LessThanThreshold
    # A topic that is told nothing has no figures after a while.
    TreatMissingData: breaching
    AlarmActions:
      - Ref: AlarmTopic
    # Tells when it is back.
    OKActions:
      - Ref: AlarmTopic"
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
    let prefix = rule.prefix(prefix);
    if !prefix.is_empty() {
        let _infallible = writeln!(text, "  Prefix: {}", quote(&prefix));
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
        LifecycleRule::Expire { days } | LifecycleRule::ExpireHeartbeats { days } => {
            format!("  ExpirationInDays: {days}")
        }
    }
}
