//! What is done to objects that are there: looked at, copied, deleted, and asked for out of a cold class.

use std::time::Duration;

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{
    BucketVersioningStatus, ChecksumAlgorithm, ChecksumMode, Delete, GlacierJobParameters, MetadataDirective,
    ObjectIdentifier, ObjectLockEnabled, ObjectLockLegalHoldStatus, RestoreRequest, StorageClass, TaggingDirective,
};
use aws_smithy_types::base64;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::verdict::element;
use super::{Bucket, Failed, Object, Refusal, code, percent, status, time, unquoted, unread};

/// Most keys of one request to delete (S3 API Reference, `DeleteObjects`).
const MOST_DELETED: usize = 1000;

/// The largest object that can be copied in one request, in bytes (S3 API Reference, `CopyObject`).
pub const MOST_COPIED: u64 = 5 << 30;

/// What the store says of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Bytes.
    pub size: u64,
    /// The storage class, as the store spells it.
    pub storage_class: String,
    /// The `ETag` without its quotes.
    pub etag: String,
    /// When the store took it.
    pub stored_at: DateTime<Utc>,
    /// The SHA-256 of the bytes in hexadecimal, as the store computed it; `None` where it did not, or of parts alone.
    pub checksum: Option<String>,
    /// The SHA-256 that was written beside it.
    pub sha256: Option<String>,
    /// When it was taken, as was written beside it.
    pub taken_at: Option<String>,
    /// Whether it can be read.
    pub restore: Restore,
    /// Until when a lock holds it; a legal hold has no end.
    pub locked_until: Option<DateTime<Utc>>,
    /// Whether the bucket keeps versions.
    pub versioned: bool,
}

impl Head {
    /// Whether its bytes are those of a SHA-256 in hexadecimal, as far as the store tells; `None` where it tells nothing.
    pub fn is(&self, sha256: &str) -> Option<bool> {
        self.checksum.as_deref().or(self.sha256.as_deref()).map(|told| told == sha256)
    }
}

/// Whether an object can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Restore {
    /// Its class can always be read.
    Warm,
    /// Only after a restore that nobody has asked for.
    Cold,
    /// A restore is under way.
    Ongoing,
    /// It can be read, until then if that was told.
    Done(Option<DateTime<Utc>>),
}

/// How fast a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// The cheapest.
    Bulk,
    /// The usual.
    Standard,
    /// Minutes; not out of `DEEP_ARCHIVE`.
    Expedited,
}

/// The answer to a request to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreAsked {
    /// It begins now.
    Begun,
    /// It was asked for before and is under way.
    Ongoing,
    /// It is not in a cold class.
    NotCold,
}

/// A copy of an object within the bucket; its metadata, tags and checksum go with it.
#[derive(Debug, Clone, Copy)]
pub struct CopyRequest<'a> {
    /// The object to copy, if it still has this `ETag`.
    pub source: &'a Object,
    /// The key of the copy; the source's own key changes its class in place.
    pub target: &'a str,
    /// The storage class of the copy.
    pub class: &'a str,
}

/// The answer to a request to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// Done.
    Done,
    /// The source has changed since it was looked at, or is gone; or something came under the target's key.
    Changed,
    /// It is larger than one request can copy.
    TooLarge,
}

impl Bucket {
    /// What the store says of an object; `None` where there is none.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn head(&self, key: &str) -> Result<Option<Head>, Refusal> {
        let head = self.client.head_object().bucket(&self.config.bucket).key(key).checksum_mode(ChecksumMode::Enabled);
        match head.send().await {
            Ok(head) => Ok(Some(read(&head))),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(unread("head object", "s3:GetObject", &error)),
        }
    }

    /// Deletes objects, a thousand in a request; answers which could not be deleted, and why. What is gone already counts
    /// as deleted.
    ///
    /// # Errors
    /// [`Refusal`] of a whole request; those before it were carried out.
    pub async fn delete_all(&self, keys: &[&str]) -> Result<Vec<(String, String)>, Refusal> {
        let mut failed = Vec::new();
        for batch in keys.chunks(MOST_DELETED) {
            let identify = |key: &&str| ObjectIdentifier::builder().key(*key).build();
            let objects = batch.iter().map(identify).collect::<Result<_, _>>();
            let delete = objects.and_then(|objects| Delete::builder().quiet(true).set_objects(Some(objects)).build());
            let delete = delete.map_err(|error| Refusal::later(format!("failed to delete objects: {error}")))?;
            let sent = self.client.delete_objects().bucket(&self.config.bucket).delete(delete).send().await;
            let answer = sent.map_err(|error| unread("delete objects", "s3:DeleteObject", &error))?;
            let errors = answer.errors().iter().filter(|error| error.code() != Some("NoSuchKey"));
            failed.extend(errors.map(|error| {
                let why = format!("{} {}", error.code().unwrap_or_default(), error.message().unwrap_or_default());
                (error.key().unwrap_or_default().to_owned(), why.trim().escape_debug().to_string())
            }));
        }
        Ok(failed)
    }

    /// Copies an object to another key, or onto itself into another class.
    ///
    /// # Errors
    /// [`Refusal`] if the store refuses or does not answer: the copy may have been made all the same.
    pub async fn copy(&self, CopyRequest { source, target, class }: CopyRequest<'_>) -> Result<Copied, Refusal> {
        let Object { key, size, etag, .. } = source;
        if *size > MOST_COPIED {
            return Ok(Copied::TooLarge);
        }
        let (sse, sse_key) = self.encryption();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        let copy = self
            .client
            .copy_object()
            .bucket(&self.config.bucket)
            .copy_source(format!("{}/{}", self.config.bucket, percent(key.as_bytes(), plain)))
            .copy_source_if_match(format!("\"{etag}\""))
            .key(target)
            // Of AWS it is known that it looks at this for a copy, too.
            .set_if_none_match((target != key && self.config.endpoint_url.is_none()).then(|| "*".to_owned()))
            .metadata_directive(MetadataDirective::Copy)
            .tagging_directive(TaggingDirective::Copy)
            .storage_class(StorageClass::from(class))
            .set_checksum_algorithm(self.wants_checksum().then_some(ChecksumAlgorithm::Sha256))
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(sse_key);
        match copy.send().await {
            // S3 may answer 200 and say in the body that it failed; then there is no result.
            Ok(answer) if answer.copy_object_result().and_then(|result| result.e_tag()).is_some() => Ok(Copied::Done),
            Ok(_) => Err(Refusal::not_s3("copy object", "it names no object (no ETag)")),
            Err(error) if matches!(status(&error), Some(404 | 412)) && code(&error) != Some("NoSuchBucket") => {
                Ok(Copied::Changed)
            }
            Err(error) => Err(unread("copy object", "s3:PutObject and s3:GetObject", &error)),
        }
    }

    /// Asks for an object out of a cold class, to be readable for so many days.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn restore(&self, key: &str, tier: Tier, days: u32) -> Result<RestoreAsked, Refusal> {
        let tier = match tier {
            Tier::Bulk => aws_sdk_s3::types::Tier::Bulk,
            Tier::Standard => aws_sdk_s3::types::Tier::Standard,
            Tier::Expedited => aws_sdk_s3::types::Tier::Expedited,
        };
        let job = GlacierJobParameters::builder().tier(tier).build();
        let job = job.map_err(|error| Refusal::later(format!("failed to restore object: {error}")))?;
        let wanted =
            RestoreRequest::builder().days(i32::try_from(days).unwrap_or(i32::MAX)).glacier_job_parameters(job);
        let asked = self.client.restore_object().bucket(&self.config.bucket).key(key).restore_request(wanted.build());
        match asked.send().await {
            // 202 Accepted comes where it begins, 200 where it is there and only stays longer; the SDK tells them not apart.
            Ok(_) => Ok(RestoreAsked::Begun),
            Err(error) if code(&error) == Some("RestoreAlreadyInProgress") => Ok(RestoreAsked::Ongoing),
            Err(error) if code(&error) == Some("InvalidObjectState") => Ok(RestoreAsked::NotCold),
            Err(error) if code(&error) == Some("ObjectAlreadyInActiveTierError") => Ok(RestoreAsked::NotCold),
            Err(error) => Err(unread("restore object", "s3:RestoreObject", &error)),
        }
    }

    /// Whether the bucket keeps versions, so that a deletion only hides; `None` where these credentials may not know.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn keeps_versions(&self) -> Result<Option<bool>, Refusal> {
        let asked = self.client.get_bucket_versioning().bucket(&self.config.bucket).send().await;
        // moto wraps its answer in an element that the SDK does not know.
        if let Err(error) = &asked
            && let Some(answer) = error.raw_response().filter(|answer| answer.status().as_u16() == 200)
        {
            return Ok(Some(element(answer.body().bytes().unwrap_or_default(), "Status") == Some("Enabled")));
        }
        known("get bucket versioning", asked.map(|answer| answer.status() == Some(&BucketVersioningStatus::Enabled)))
    }

    /// Whether the bucket can lock objects; `None` where these credentials may not know.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn locks_objects(&self) -> Result<Option<bool>, Refusal> {
        let asked = self.client.get_object_lock_configuration().bucket(&self.config.bucket).send().await;
        let enabled = asked.map(|answer| {
            let configuration = answer.object_lock_configuration();
            configuration.and_then(|lock| lock.object_lock_enabled()) == Some(&ObjectLockEnabled::Enabled)
        });
        match enabled {
            Err(error) if code(&error) == Some("ObjectLockConfigurationNotFoundError") => Ok(Some(false)),
            other => known("get object lock configuration", other),
        }
    }
}

/// What a store says of itself, where it knows the question and lets us ask.
fn known<E>(what: &str, answer: Result<bool, Failed<E>>) -> Result<Option<bool>, Refusal>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if status(&error) == Some(403) => Ok(None),
        // A store without such things.
        Err(error) if matches!(status(&error), Some(405 | 501)) => Ok(Some(false)),
        Err(error) => Err(Refusal::of(what, &error)),
    }
}

fn read(head: &HeadObjectOutput) -> Head {
    let metadata = |name: &str| head.metadata().and_then(|metadata| metadata.get(name)).cloned();
    let storage_class = head.storage_class().map_or("STANDARD", StorageClass::as_str).to_owned();
    // Of what went up in parts there is a checksum of the parts' checksums, marked with a dash, or not.
    let etag = unquoted(head.e_tag());
    let in_parts = etag.contains('-');
    let checksum = head.checksum_sha256().filter(|checksum| !in_parts && !checksum.contains('-'));
    let hold = head.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On);
    Head {
        size: head.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0),
        restore: readable(&storage_class, head.restore()),
        storage_class,
        etag,
        stored_at: time(head.last_modified()),
        checksum: checksum.and_then(|checksum| base64::decode(checksum).ok()).map(hex::encode),
        sha256: metadata("sha256"),
        taken_at: metadata("taken-at"),
        locked_until: if hold {
            Some(DateTime::<Utc>::MAX_UTC)
        } else {
            head.object_lock_retain_until_date().map(|until| time(Some(until)))
        },
        versioned: head.version_id().is_some_and(|version| version != "null"),
    }
}

/// Whether a class can be read only after a restore (S3 User Guide, "Understanding and managing Amazon S3 storage classes").
pub fn is_cold(class: &str) -> bool {
    matches!(class, "GLACIER" | "DEEP_ARCHIVE")
}

/// Reads `x-amz-restore`, such as `ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"`.
fn readable(class: &str, restore: Option<&str>) -> Restore {
    match restore {
        _ if !is_cold(class) => Restore::Warm,
        None => Restore::Cold,
        Some(restore) if restore.contains("ongoing-request=\"true\"") => Restore::Ongoing,
        Some(restore) => {
            let until = restore.split_once("expiry-date=\"").and_then(|(_, rest)| rest.split_once('"'));
            let until = until.and_then(|(date, _)| DateTime::parse_from_rfc2822(date).ok());
            Restore::Done(until.map(|until| until.to_utc()))
        }
    }
}

/// How long to wait until a restore is asked after again; S3 takes minutes at the least.
pub fn poll_interval(since: Duration) -> Duration {
    (since / 20).clamp(Duration::from_secs(5), Duration::from_mins(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_restore_is_read() {
        let until = DateTime::from_timestamp(1_356_048_000, 0);
        for (class, header, expected) in [
            ("STANDARD", None, Restore::Warm),
            ("GLACIER_IR", None, Restore::Warm),
            ("GLACIER", None, Restore::Cold),
            ("DEEP_ARCHIVE", Some("ongoing-request=\"true\""), Restore::Ongoing),
            (
                "GLACIER",
                Some("ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\""),
                Restore::Done(until),
            ),
            ("GLACIER", Some("ongoing-request=\"false\""), Restore::Done(None)),
        ] {
            assert_eq!(readable(class, header), expected, "{class} {header:?}");
        }
    }
}
