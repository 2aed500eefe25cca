//! The policies: what the box's user may do, what nobody may do to the bucket, and what the box's user may not do there.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bucket::is_cold;
use crate::config::{Access, Config, S3Settings, Sse};

/// A policy, as IAM and S3 read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PolicyDocument {
    version: &'static str,
    statement: Vec<Statement>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    sid: &'static str,
    effect: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<&'static str>,
    action: Vec<&'static str>,
    resource: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    condition: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
}

impl PolicyDocument {
    fn new(statement: Vec<Statement>) -> Self {
        Self { version: "2012-10-17", statement }
    }

    /// Returns the policy in JSON, without a final line break.
    pub(super) fn to_json(&self) -> String {
        // Maps of texts to texts can always be written.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Returns the policy in YAML.
    pub(super) fn to_yaml(&self) -> String {
        let text = serde_yaml::to_string(self).unwrap_or_default();
        // Without quotes, YAML 1.1 reads the version as a date.
        text.replacen(self.version, &format!("\"{}\"", self.version), 1)
    }
}

impl Statement {
    fn allow(sid: &'static str, action: Vec<&'static str>, resource: String) -> Self {
        let resource = vec![resource];
        Self { sid, effect: "Allow", principal: None, action, resource, condition: BTreeMap::new() }
    }
}

/// Returns what the box's user may do.
pub(super) fn of_user(config: &Config) -> PolicyDocument {
    let s3 = &config.s3;
    let bucket = bucket_arn(s3);
    let objects = format!("{bucket}/{}*", escape(&s3.prefix));
    let mut statements = vec![Statement::allow("Captures", on_objects(config), objects)];
    if s3.access == Access::ReadWrite {
        // The condition s3:prefix would be too narrow: a HEAD of an object that does not exist has no prefix, and would
        // be answered with 403 instead of 404.
        let on_bucket = vec![
            "s3:ListBucket",
            "s3:ListBucketMultipartUploads",
            "s3:GetBucketVersioning",
            "s3:GetBucketObjectLockConfiguration",
        ];
        statements.push(Statement::allow("Bucket", on_bucket, bucket));
    }
    statements.extend(s3.sse.as_ref().and_then(|sse| on_key(sse, s3)));
    PolicyDocument::new(statements)
}

fn on_objects(config: &Config) -> Vec<&'static str> {
    let s3 = &config.s3;
    let mut actions = vec!["s3:PutObject"];
    if s3.tags {
        actions.push("s3:PutObjectTagging");
    }
    if s3.object_lock.is_some() {
        actions.push("s3:PutObjectRetention");
    }
    if s3.access == Access::WriteOnly {
        return actions;
    }
    // No right to delete versions: whoever has the box's keys can hide objects, but not erase them.
    actions.extend(["s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]);
    if s3.tags {
        actions.push("s3:GetObjectTagging");
    }
    if s3.object_lock.is_some() {
        actions.extend(["s3:GetObjectRetention", "s3:GetObjectLegalHold"]);
    }
    let archive = config.rotate.archive.iter().map(|archive| &archive.class);
    let transition = config.rotate.transition.iter().map(|transition| &transition.class);
    let mut classes = archive.chain(transition).chain([&s3.storage_class]);
    if classes.any(|class| is_cold(class)) {
        actions.push("s3:RestoreObject");
    }
    actions
}

/// Returns the user's rights to the KMS key, if one is used.
///
/// A write-only box needs the right to decrypt, too: a large file goes up in parts, which S3 decrypts to join them (AWS
/// Knowledge Center, "Why do I need permission to decrypt the AWS KMS key when I run Amazon S3 multipart uploads").
/// That right does not let it read: it holds only for requests through S3, and S3 does not let the box read any object.
fn on_key(sse: &Sse, s3: &S3Settings) -> Option<Statement> {
    let key = match sse {
        Sse::Aes256 => return None,
        Sse::Kms => "alias/aws/s3",
        Sse::KmsKey(key) => key,
    };
    let partition = partition(s3);
    let (owner, name) = match key.rsplit_once(':') {
        Some((owner, name)) => (owner.to_owned(), name),
        None => (format!("arn:{partition}:kms:*:*"), key),
    };
    let mut condition = BTreeMap::from([("StringLike", BTreeMap::from([("kms:ViaService", "s3.*".to_owned())]))]);
    let resource = if name.starts_with("alias/") {
        // IAM identifies a key by its id. A name can only be a condition.
        condition.insert("ForAnyValue:StringEquals", BTreeMap::from([("kms:ResourceAliases", name.to_owned())]));
        format!("{owner}:key/*")
    } else {
        format!("{owner}:key/{}", name.trim_start_matches("key/"))
    };
    let allow = Statement::allow("Encryption", vec!["kms:GenerateDataKey", "kms:Decrypt"], resource);
    Some(Statement { condition, ..allow })
}

/// Returns what is denied in the bucket: to use it without TLS, to anybody; and to overwrite an object, to the box's user.
///
/// An object is created only by a request with `If-None-Match`, which S3 refuses if the key is taken. The parts of an
/// upload carry no such header and create nothing, so they pass. A copy cannot carry it, so the box can copy nothing (S3
/// User Guide, "Enforce conditional writes on Amazon S3 buckets").
///
/// The user is named by a condition: as a principal, S3 would remember a user that was deleted, and not deny its
/// successor of the same name.
pub(super) fn of_bucket(s3: &S3Settings) -> PolicyDocument {
    let bucket = bucket_arn(s3);
    let objects = format!("{bucket}/*");
    let deny = |sid, action, resource, condition| Statement {
        sid,
        effect: "Deny",
        principal: Some("*"),
        action: vec![action],
        resource,
        condition: BTreeMap::from_iter(condition),
    };
    let is = |key, value: &str| BTreeMap::from([(key, value.to_owned())]);
    let user = format!("arn:{}:iam::{}:user/{}", partition(s3), s3.account.as_deref().unwrap_or("*"), s3.bucket);
    let tls_only =
        deny("TlsOnly", "s3:*", vec![bucket, objects.clone()], vec![("Bool", is("aws:SecureTransport", "false"))]);
    let no_overwrite = deny(
        "NoOverwrite",
        "s3:PutObject",
        vec![objects],
        vec![
            ("ArnLike", is("aws:PrincipalArn", &user)),
            ("Bool", is("s3:ObjectCreationOperation", "true")),
            ("Null", is("s3:if-none-match", "true")),
        ],
    );
    PolicyDocument::new(vec![tls_only, no_overwrite])
}

pub(super) fn bucket_arn(s3: &S3Settings) -> String {
    format!("arn:{}:s3:::{}", partition(s3), s3.bucket)
}

/// The partitions of AWS other than `aws`, each with the beginning of its regions' names.
const PARTITIONS: [(&str, &str); 5] = [
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("eusc-", "aws-eusc"),
    ("us-iso-", "aws-iso"),
    ("us-isob-", "aws-iso-b"),
];

/// Returns the partition of AWS in which the configured region is (AWS General Reference, "Amazon Resource Names").
fn partition(s3: &S3Settings) -> &'static str {
    let region = s3.region.as_deref().unwrap_or_default();
    let found = PARTITIONS.iter().find(|(start, _)| region.starts_with(start));
    found.map_or("aws", |(_, partition)| *partition)
}

/// Returns a text in which IAM sees no wildcard and no variable (IAM User Guide, "IAM policy elements: Variables and
/// tags").
fn escape(text: &str) -> String {
    let spell = |c: char| if matches!(c, '*' | '?' | '$') { format!("${{{c}}}") } else { c.to_string() };
    text.chars().map(spell).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    fn policy(s3: &str) -> Value {
        let text = format!("drop_folder: {{path: /drop}}\ntimezone: UTC\ns3: {{bucket: captures, {s3}}}\n");
        let config = Config::parse(Path::new("config.yaml"), &text, &|_| None).unwrap();
        serde_json::from_str(&of_user(&config).to_json()).unwrap()
    }

    #[test]
    fn a_prefix_is_no_pattern() {
        let captures = policy("prefix: 'a*b?c$d'")["Statement"][0]["Resource"][0].clone();
        assert_eq!(captures, "arn:aws:s3:::captures/a${*}b${?}c${$}d/*");
    }

    #[test]
    fn a_bucket_is_in_the_part_of_aws_that_its_region_is_in() {
        for (region, arn) in [
            ("eu-central-1", "arn:aws:s3:::captures/*"),
            ("cn-north-1", "arn:aws-cn:s3:::captures/*"),
            ("us-gov-west-1", "arn:aws-us-gov:s3:::captures/*"),
        ] {
            assert_eq!(policy(&format!("region: {region}"))["Statement"][0]["Resource"][0], arn);
        }
    }

    #[test]
    fn a_key_is_named_as_iam_knows_it() {
        let named = |key: &str| {
            let key = policy(&format!("sse: {key}, access: write-only"))["Statement"][1].clone();
            (key["Resource"][0].clone(), key["Condition"]["ForAnyValue:StringEquals"]["kms:ResourceAliases"].clone())
        };
        assert_eq!(named("{kms_key_id: 1a2b-3c}"), ("arn:aws:kms:*:*:key/1a2b-3c".into(), Value::Null));
        assert_eq!(
            named("{kms_key_id: 'arn:aws:kms:eu-central-1:111122223333:key/1a2b-3c'}"),
            ("arn:aws:kms:eu-central-1:111122223333:key/1a2b-3c".into(), Value::Null)
        );
        assert_eq!(
            named("{kms_key_id: 'arn:aws:kms:eu-central-1:111122223333:alias/captures'}"),
            ("arn:aws:kms:eu-central-1:111122223333:key/*".into(), "alias/captures".into())
        );
        assert_eq!(named("{kms_key_id: alias/captures}"), ("arn:aws:kms:*:*:key/*".into(), "alias/captures".into()));
        assert_eq!(named("aws:kms"), ("arn:aws:kms:*:*:key/*".into(), "alias/aws/s3".into()));
    }
}
