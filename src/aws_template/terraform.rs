//! The template for Terraform: HCL, laid out as `terraform fmt` would.

use super::lifecycle::{self, LifecycleRule};
use super::policy::{self, PolicyDocument};
use super::watch::{self, Watch};
use super::{INTRO, advise_name, indent, is_account_regional, lock_mode, quote};
use crate::config::{Config, S3Settings, Sse};

/// The part that is the same for every configuration: the bucket is closed to the public, and owns all objects.
const GUARDS: &str = r#"resource "aws_s3_bucket_public_access_block" "captures" {
  bucket                  = aws_s3_bucket.captures.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "captures" {
  bucket = aws_s3_bucket.captures.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}
"#;

/// A deleted object stays as an old version.
const VERSIONING: &str = r#"resource "aws_s3_bucket_versioning" "captures" {
  bucket = aws_s3_bucket.captures.id

  versioning_configuration {
    status = "Enabled"
  }
}
"#;

/// Returns the template; it ends with a line break.
pub(super) fn render(config: &Config, rules: &[LifecycleRule]) -> String {
    let s3 = &config.s3;
    let blocks = [
        Some(intro(s3)),
        provider(s3),
        Some(bucket(s3)),
        Some(GUARDS.to_owned()),
        Some(encryption(s3)),
        Some(VERSIONING.to_owned()),
        lock(s3),
        Some(lifecycle(config, rules)),
        Some(bucket_policy(s3)),
        Some(user(config)),
        watched(config),
    ];
    blocks.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn intro(s3: &S3Settings) -> String {
    let (user, name) = (&s3.bucket, advise_name(s3));
    // The first version that knows `bucket_namespace` is 6.37.
    let provider = if is_account_regional(s3) { "6.37" } else { "5.0" };
    format!(
        r#"{INTRO}#   terraform init && terraform apply
# Then create an access key for the box. It is neither here nor in Terraform's state, where others could read it:
#   aws iam create-access-key --user-name {user}
# Write it into /etc/hk-aws/credentials on the box: [default], aws_access_key_id = ... and aws_secret_access_key = ...
{name}
terraform {{
  required_providers {{
    aws = {{
      source  = "hashicorp/aws"
      version = ">= {provider}"
    }}
  }}
}}
"#
    )
}

fn provider(s3: &S3Settings) -> Option<String> {
    s3.region.as_ref().map(|region| format!("provider \"aws\" {{\n  region = \"{region}\"\n}}\n"))
}

fn bucket(s3: &S3Settings) -> String {
    // `terraform fmt` aligns neighbouring arguments.
    let name = match (&s3.bucket, is_account_regional(s3)) {
        (name, false) => format!("  bucket = \"{name}\""),
        (name, true) => format!("  bucket           = \"{name}\"\n  bucket_namespace = \"account-regional\""),
    };
    let lock = if s3.object_lock.is_some() { "\n  object_lock_enabled = true\n" } else { "" };
    format!(
        r#"resource "aws_s3_bucket" "captures" {{
{name}
{lock}
  lifecycle {{
    prevent_destroy = true
  }}
}}
"#
    )
}

fn encryption(s3: &S3Settings) -> String {
    let rule = indent(&encryption_rule(s3), 4);
    format!(
        r#"resource "aws_s3_bucket_server_side_encryption_configuration" "captures" {{
  bucket = aws_s3_bucket.captures.id

  rule {{
{rule}
  }}
}}
"#
    )
}

fn lifecycle(config: &Config, rules: &[LifecycleRule]) -> String {
    let comment = lifecycle::comment(config);
    let rules: Vec<String> = rules.iter().map(|rule| indent(&write_rule(rule, &config.s3.prefix), 2)).collect();
    let rules = rules.join("\n\n");
    // AWS accepts rules for old versions only after the bucket keeps versions.
    format!(
        r#"{comment}
resource "aws_s3_bucket_lifecycle_configuration" "captures" {{
  bucket = aws_s3_bucket.captures.id

{rules}

  depends_on = [aws_s3_bucket_versioning.captures]
}}
"#
    )
}

fn bucket_policy(s3: &S3Settings) -> String {
    let document = write_document(&policy::of_bucket(s3));
    format!(
        r#"resource "aws_s3_bucket_policy" "captures" {{
  bucket = aws_s3_bucket.captures.id
  policy = <<-JSON
{document}
  JSON

  depends_on = [aws_s3_bucket_public_access_block.captures]
}}
"#
    )
}

fn user(config: &Config) -> String {
    let (name, document) = (&config.s3.bucket, write_document(&policy::of_user(config)));
    format!(
        r#"resource "aws_iam_user" "captures" {{
  name = "{name}"
}}

resource "aws_iam_user_policy" "captures" {{
  name   = "hk-aws"
  user   = aws_iam_user.captures.name
  policy = <<-JSON
{document}
  JSON
}}
"#
    )
}

fn write_document(policy: &PolicyDocument) -> String {
    indent(&literal(&policy.to_json()), 4)
}

fn encryption_rule(s3: &S3Settings) -> String {
    let (algorithm, key) = match &s3.sse {
        None | Some(Sse::Aes256) => {
            return "apply_server_side_encryption_by_default {\n  sse_algorithm = \"AES256\"\n}".to_owned();
        }
        Some(Sse::Kms) => ("sse_algorithm = \"aws:kms\"", String::new()),
        Some(Sse::KmsKey(key)) => {
            ("sse_algorithm     = \"aws:kms\"", format!("\n  kms_master_key_id = {}", literal(&quote(key))))
        }
    };
    // Without a bucket key, each picture costs a request to KMS.
    format!("bucket_key_enabled = true\n\napply_server_side_encryption_by_default {{\n  {algorithm}{key}\n}}")
}

fn lock(s3: &S3Settings) -> Option<String> {
    let lock = s3.object_lock?;
    let (mode, days) = (lock_mode(lock.mode), lock.days);
    Some(format!(
        r#"resource "aws_s3_bucket_object_lock_configuration" "captures" {{
  bucket = aws_s3_bucket.captures.id

  rule {{
    default_retention {{
      mode = "{mode}"
      days = {days}
    }}
  }}

  depends_on = [aws_s3_bucket_versioning.captures]
}}
"#
    ))
}

fn write_rule(rule: &LifecycleRule, prefix: &str) -> String {
    let prefix = literal(&quote(&rule.prefix(prefix)));
    let filter = match rule {
        LifecycleRule::Move { larger_than, .. } if prefix == "\"\"" => {
            format!("filter {{\n    object_size_greater_than = {larger_than}\n  }}")
        }
        LifecycleRule::Move { larger_than, .. } => format!(
            "filter {{\n    and {{\n      prefix                   = {prefix}\n      object_size_greater_than = {larger_than}\n    }}\n  }}"
        ),
        _ => format!("filter {{\n    prefix = {prefix}\n  }}"),
    };
    let action = match rule {
        LifecycleRule::AbortUploads { days } => {
            format!("abort_incomplete_multipart_upload {{\n    days_after_initiation = {days}\n  }}")
        }
        LifecycleRule::RemoveVersions { days } => format!(
            "noncurrent_version_expiration {{\n    noncurrent_days = {days}\n  }}\n\n  expiration {{\n    expired_object_delete_marker = true\n  }}"
        ),
        LifecycleRule::Move { days, class, .. } => {
            format!("transition {{\n    days          = {days}\n    storage_class = \"{class}\"\n  }}")
        }
        LifecycleRule::Expire { days } | LifecycleRule::ExpireHeartbeats { days } => {
            format!("expiration {{\n    days = {days}\n  }}")
        }
    };
    format!("rule {{\n  id     = \"{}\"\n  status = \"Enabled\"\n\n  {filter}\n\n  {action}\n}}", rule.name())
}

/// Returns what watches the heartbeat and cameras, if anything does.
fn watched(config: &Config) -> Option<String> {
    let watches = watch::watches(config);
    if watches.is_empty() {
        return None;
    }
    let (bucket, source) = (config.s3.bucket.replace('.', "-"), watch::source(config));
    let subscription = match &config.alerts.email {
        Some(email) => format!(
            r#"
# AWS sends a letter to this address first, and tells it nothing until its link is followed.
resource "aws_sns_topic_subscription" "alarm" {{
  topic_arn = aws_sns_topic.alarm.arn
  protocol  = "email"
  endpoint  = {}
}}
"#,
            quote(email),
        ),
        None => {
            "# Nobody is told yet: set alerts.email in the configuration, and make the template again.\n".to_owned()
        }
    };
    let topic = |Watch { name, prefix, .. }: &Watch| {
        let (name, prefix) = (name.to_lowercase(), literal(&quote(prefix)));
        format!(
            r#"  topic {{
    topic_arn     = aws_sns_topic.{name}.arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = {prefix}
  }}

"#
        )
    };
    let topics: String = watches.iter().map(topic).collect();
    let policies: Vec<String> =
        watches.iter().map(|watch| format!("aws_sns_topic_policy.{}", watch.name.to_lowercase())).collect();
    let policies = policies.join(", ");
    let alarms: Vec<String> = watches.iter().map(|watch| alarm(watch, &bucket, &source)).collect();
    Some(format!(
        r#"{comment}
data "aws_caller_identity" "current" {{}}

resource "aws_sns_topic" "alarm" {{
  name = "hk-aws-{bucket}-alarm"
}}
{subscription}
resource "aws_s3_bucket_notification" "captures" {{
  bucket = aws_s3_bucket.captures.id

{topics}  depends_on = [{policies}]
}}

{alarms}"#,
        comment = watch::comment(config, &format!("hk-aws-{bucket}-heartbeat")),
        alarms = alarms.join("\n"),
    ))
}

/// Returns a topic that only counts, its policy and its alarm.
fn alarm(watch: &Watch, bucket: &str, source: &str) -> String {
    let Watch { period_seconds, periods, description, .. } = watch;
    let (name, description) = (watch.name.to_lowercase(), literal(&quote(description)));
    format!(
        r#"resource "aws_sns_topic" "{name}" {{
  name = "hk-aws-{bucket}-{name}"
}}

resource "aws_sns_topic_policy" "{name}" {{
  arn    = aws_sns_topic.{name}.arn
  policy = jsonencode({{
    Version   = "2012-10-17"
    Statement = [{{
      Effect    = "Allow"
      Principal = {{ Service = "s3.amazonaws.com" }}
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.{name}.arn
      Condition = {{
        StringEquals = {{ "aws:SourceAccount" = data.aws_caller_identity.current.account_id }}
        ArnLike      = {{ "aws:SourceArn" = "{source}" }}
      }}
    }}]
  }})
}}

resource "aws_cloudwatch_metric_alarm" "{name}" {{
  alarm_name          = "hk-aws-{bucket}-{name}"
  alarm_description   = {description}
  namespace           = "AWS/SNS"
  metric_name         = "NumberOfMessagesPublished"
  dimensions          = {{ TopicName = aws_sns_topic.{name}.name }}
  statistic           = "Sum"
  period              = {period_seconds}
  evaluation_periods  = {periods}
  threshold           = 1
  comparison_operator = "LessThanThreshold"

  # A topic that is told nothing has no figures after a while.
  treat_missing_data = "breaching"
  alarm_actions      = [aws_sns_topic.alarm.arn]

  # Tells when it is back.
  ok_actions = [aws_sns_topic.alarm.arn]
}}
"#
    )
}

/// Returns JSON escaped for HCL, in a heredoc or in quotes, so that nothing in it is taken for a template.
fn literal(json: &str) -> String {
    json.replace("${", "$${").replace("%{", "%%{")
}
