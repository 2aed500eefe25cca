//! The template as Terraform reads it: HCL, laid out as `terraform fmt` would.

use super::lifecycle::{self, Rule};
use super::{indent, policy, quote};
use crate::config::{Config, LockMode, S3Settings, Sse};

pub(super) fn render(config: &Config, rules: &[Rule]) -> String {
    let s3 = &config.s3;
    let bucket = &s3.bucket;
    let provider = s3.region.as_ref().map(|region| format!("provider \"aws\" {{\n  region = \"{region}\"\n}}\n\n"));
    let provider = provider.unwrap_or_default();
    let comment = lifecycle::comment(s3);
    let rules: Vec<String> = rules.iter().map(|rule| indent(&write_rule(rule, &s3.prefix), 2)).collect();
    let rules = rules.join(
        "

",
    );
    let is_locked = s3.object_lock.is_some();
    // Rules for old versions are taken only where there are versions.
    let after_versioning =
        if is_locked { "\n  depends_on = [aws_s3_bucket_versioning.captures]\n" } else { Default::default() };
    let locked = if is_locked { "\n  object_lock_enabled = true\n" } else { Default::default() };
    let (lock, encryption) = (lock(s3), indent(&encryption(s3), 4));
    let document = |policy: &policy::Policy| indent(&literal(&policy.to_json()), 4);
    let (of_bucket, of_user) = (document(&policy::of_bucket(s3)), document(&policy::of_user(config)));
    format!(
        r#"# A bucket for captures, and a user that may do there what hk-aws needs and no more. Made by `hk-aws aws-template`:
# make it again when s3 or rotate change in the configuration. Apply it:
#   terraform init && terraform apply
# Then make a key for the box; it stands neither here nor in Terraform's state, where others could read it:
#   aws iam create-access-key --user-name {bucket}

terraform {{
  required_providers {{
    aws = {{
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }}
  }}
}}

{provider}resource "aws_s3_bucket" "captures" {{
  bucket = "{bucket}"
{locked}
  lifecycle {{
    prevent_destroy = true
  }}
}}

resource "aws_s3_bucket_public_access_block" "captures" {{
  bucket                  = aws_s3_bucket.captures.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}}

resource "aws_s3_bucket_ownership_controls" "captures" {{
  bucket = aws_s3_bucket.captures.id

  rule {{
    object_ownership = "BucketOwnerEnforced"
  }}
}}

resource "aws_s3_bucket_server_side_encryption_configuration" "captures" {{
  bucket = aws_s3_bucket.captures.id

  rule {{
{encryption}
  }}
}}

{lock}{comment}
resource "aws_s3_bucket_lifecycle_configuration" "captures" {{
  bucket = aws_s3_bucket.captures.id

{rules}
{after_versioning}}}

resource "aws_s3_bucket_policy" "captures" {{
  bucket = aws_s3_bucket.captures.id
  policy = <<-JSON
{of_bucket}
  JSON

  depends_on = [aws_s3_bucket_public_access_block.captures]
}}

resource "aws_iam_user" "captures" {{
  name = "{bucket}"
}}

resource "aws_iam_user_policy" "captures" {{
  name   = "hk-aws"
  user   = aws_iam_user.captures.name
  policy = <<-JSON
{of_user}
  JSON
}}
"#
    )
}

fn encryption(s3: &S3Settings) -> String {
    let (algorithm, key) = match &s3.sse {
        None | Some(Sse::Aes256) => {
            return "apply_server_side_encryption_by_default {\n  sse_algorithm = \"AES256\"\n}".to_owned();
        }
        Some(Sse::Kms) => ("sse_algorithm = \"aws:kms\"", String::new()),
        Some(Sse::KmsKey(key)) => {
            ("sse_algorithm     = \"aws:kms\"", format!("\n  kms_master_key_id = {}", literal(&quote(key))))
        }
    };
    // Without a bucket key each picture costs a request to KMS.
    format!("bucket_key_enabled = true\n\napply_server_side_encryption_by_default {{\n  {algorithm}{key}\n}}")
}

fn lock(s3: &S3Settings) -> String {
    let Some(lock) = s3.object_lock else { return String::new() };
    let mode = match lock.mode {
        LockMode::Governance => "GOVERNANCE",
        LockMode::Compliance => "COMPLIANCE",
    };
    let days = lock.days;
    format!(
        r#"resource "aws_s3_bucket_versioning" "captures" {{
  bucket = aws_s3_bucket.captures.id

  versioning_configuration {{
    status = "Enabled"
  }}
}}

resource "aws_s3_bucket_object_lock_configuration" "captures" {{
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
    )
}

fn write_rule(rule: &Rule, prefix: &str) -> String {
    let prefix = literal(&quote(prefix));
    let filter = match rule {
        Rule::Move { larger_than, .. } if prefix == "\"\"" => {
            format!("filter {{\n    object_size_greater_than = {larger_than}\n  }}")
        }
        Rule::Move { larger_than, .. } => format!(
            "filter {{\n    and {{\n      prefix                   = {prefix}\n      object_size_greater_than = {larger_than}\n    }}\n  }}"
        ),
        _ => format!("filter {{\n    prefix = {prefix}\n  }}"),
    };
    let action = match rule {
        Rule::AbortUploads { days } => {
            format!("abort_incomplete_multipart_upload {{\n    days_after_initiation = {days}\n  }}")
        }
        Rule::RemoveVersions { days } => format!(
            "noncurrent_version_expiration {{\n    noncurrent_days = {days}\n  }}\n\n  expiration {{\n    expired_object_delete_marker = true\n  }}"
        ),
        Rule::Move { days, class, .. } => {
            format!("transition {{\n    days          = {days}\n    storage_class = \"{class}\"\n  }}")
        }
        Rule::Expire { days } => format!("expiration {{\n    days = {days}\n  }}"),
    };
    format!("rule {{\n  id     = \"{}\"\n  status = \"Enabled\"\n\n  {filter}\n\n  {action}\n}}", rule.name())
}

/// JSON as HCL takes it literally, in a document or as a quoted text: without templates.
fn literal(json: &str) -> String {
    json.replace("${", "$${").replace("%{", "%%{")
}
