//! Objects that exist: they are looked at, copied, deleted, and restored from a cold class.

use std::time::Duration;

use aws_sdk_s3::error::{BuildError, ProvideErrorMetadata};
use aws_sdk_s3::operation::head_object::{HeadObjectError, HeadObjectOutput};
use aws_sdk_s3::types::{
    BucketVersioningStatus, ChecksumAlgorithm, ChecksumMode, Delete, GlacierJobParameters, MetadataDirective,
    ObjectIdentifier, ObjectLockEnabled, ObjectLockLegalHoldStatus, RestoreRequest, StorageClass, TaggingDirective,
};
use aws_smithy_types::base64;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::verdict::element;
use super::wire::{Failed, NULL_VERSION, code, md5_of, percent, status, time, unquoted};
use super::{Bucket, Condition, Object, Refusal, RefusalKind};
use crate::key::printable;

/// The most keys in one request to delete (S3 API Reference, `DeleteObjects`).
pub const MOST_DELETED: usize = 1000;

/// The size of the largest object that one request can copy, in bytes (S3 API Reference, `CopyObject`).
pub const MOST_COPIED: u64 = 5 << 30;

/// One object, as a HEAD describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The number of bytes.
    pub size: u64,
    /// The storage class, as the store spells it.
    pub storage_class: String,
    /// The `ETag` without its quotes.
    pub etag: String,
    /// When it was stored, by the store's clock.
    pub stored_at: DateTime<Utc>,
    /// The SHA-256 that the store computed, in hexadecimal; `None` if it computed none, or only those of the parts.
    pub checksum: Option<String>,
    /// The MD5 of the bytes that the store has, in hexadecimal, if the `ETag` is one.
    pub md5: Option<String>,
    /// The SHA-256 in the metadata that was uploaded with the object, in hexadecimal.
    pub sha256: Option<String>,
    /// When the capture was taken, from the metadata that was uploaded with the object.
    pub taken_at: Option<String>,
    /// Whether it can be read, as its class says; [`Bucket::restore_state`] knows.
    pub(super) restore: RestoreState,
    /// When its lock ends; a legal hold has the latest possible end.
    pub locked_until: Option<DateTime<Utc>>,
    /// The object's version; `None` if the bucket kept none when it was stored.
    pub version: Option<String>,
}

impl Head {
    /// Returns whether the object's SHA-256 is `sha256`, in hexadecimal; `None` if the store has none for it.
    pub fn is(&self, sha256: &str) -> Option<bool> {
        self.checksum.as_deref().or(self.sha256.as_deref()).map(|told| told == sha256)
    }

    /// Returns whether the object has bytes of which both digests are known, in hexadecimal; `None` if nothing tells.
    ///
    /// The SHA-256 that the store computed decides. The one in the metadata says only what was sent: if the `ETag` is the
    /// MD5 of what arrived, that must fit, too.
    pub fn has(&self, sha256: &str, md5: &str) -> Option<bool> {
        let fits = self.md5.as_ref().map(|told| told.eq_ignore_ascii_case(md5));
        match (&self.checksum, self.is(sha256)) {
            (None, Some(true)) => Some(fits != Some(false)),
            (None, None) => fits,
            (_, told) => told,
        }
    }
}

/// Whether an object can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RestoreState {
    /// It can: its class needs no restore.
    Warm,
    /// It cannot: it must be restored, and nobody has asked for that.
    Cold,
    /// It cannot yet: a restore is under way.
    Ongoing,
    /// It can, until the given time if the store named one.
    Done(Option<DateTime<Utc>>),
}

/// The speed of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Cheapest and slowest.
    Bulk,
    /// Some hours.
    Standard,
    /// Some minutes; not possible for `DEEP_ARCHIVE`.
    Expedited,
}

/// The answer to a request to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreAsked {
    /// The restore begins now, or a restored copy stays for longer.
    Begun,
    /// A restore was under way already.
    Ongoing,
    /// There is nothing to restore: the object is not in a cold class.
    NotCold,
}

/// A copy to make within the bucket; metadata and tags are copied too.
#[derive(Debug, Clone, Copy)]
pub struct CopyRequest<'a> {
    /// The object to copy. Nothing is copied if its `ETag` has changed.
    pub source: &'a Object,
    /// The version of the object to copy; `None`: the current one.
    pub version: Option<&'a str>,
    /// The key of the copy. The source's own key moves the object to another class in place.
    pub target: &'a str,
    /// The storage class of the copy.
    pub class: &'a str,
}

/// The answer to a request to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// The copy exists.
    Done,
    /// Nothing was copied: the source has changed or is gone, or the target's key is taken.
    Changed,
    /// Nothing was copied: the object is larger than [`MOST_COPIED`].
    TooLarge,
}

impl Bucket {
    /// Returns what the store knows about an object; `None` if there is no such object.
    ///
    /// # Errors
    /// A [`Refusal`] if the store refuses or does not answer: it is not known whether the object exists. The answer to
    /// a HEAD has no error code, so the kind is always [`NoAnswer`](super::RefusalKind::NoAnswer); go by the verdict.
    pub async fn head(&self, key: &str) -> Result<Option<Head>, Refusal> {
        self.head_version(key, None).await
    }

    /// Returns what the store knows about a version of an object, or about the object itself; `None` if there is no such
    /// version.
    ///
    /// # Errors
    /// As [`Bucket::head`].
    pub async fn head_version(&self, key: &str, version: Option<&str>) -> Result<Option<Head>, Refusal> {
        match self.head_object(key, version).await {
            Ok(head) => Ok(Some(read(&head))),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(Refusal::of("head object", &error).needing("s3:GetObject")),
        }
    }

    /// Asks the store for what it knows about an object, or about a version of it.
    ///
    /// # Errors
    /// The SDK's own error, for callers that look at the status.
    pub(super) async fn head_object(
        &self,
        key: &str,
        version: Option<&str>,
    ) -> Result<HeadObjectOutput, Failed<HeadObjectError>> {
        let head = self.client.head_object().bucket(&self.config.bucket).key(key);
        head.checksum_mode(ChecksumMode::Enabled).set_version_id(version.map(str::to_owned)).send().await
    }

    /// Returns whether an object can be read; `None` if there is no such object.
    ///
    /// A class does not tell: many stores keep `GLACIER` as a mere label, read such objects like any other, and know no
    /// restore. So the first byte of an object of a cold class is read, unless it was asked for before.
    ///
    /// # Errors
    /// A [`Refusal`] if the store refuses for another reason than the class, or does not answer: nothing is known.
    pub async fn restore_state(&self, key: &str) -> Result<Option<RestoreState>, Refusal> {
        self.restore_state_of_version(key, None).await
    }

    /// Returns whether a version of an object, or the object itself, can be read.
    ///
    /// # Errors
    /// As [`Bucket::restore_state`].
    pub async fn restore_state_of_version(
        &self,
        key: &str,
        version: Option<&str>,
    ) -> Result<Option<RestoreState>, Refusal> {
        let Some(Head { restore, .. }) = self.head_version(key, version).await? else { return Ok(None) };
        if restore != RestoreState::Cold {
            return Ok(Some(restore));
        }
        match self.download(key, version, Some(0..1), &mut tokio::io::sink()).await {
            Ok(_) => Ok(Some(RestoreState::Warm)),
            // It has no bytes.
            Err(refusal) if refusal.code.as_deref() == Some("InvalidRange") => Ok(Some(RestoreState::Warm)),
            Err(refusal) => match refusal.kind() {
                RefusalKind::Cold => Ok(Some(RestoreState::Cold)),
                RefusalKind::NoSuchKey => Ok(None),
                RefusalKind::NoAnswer | RefusalKind::Refused => Err(refusal),
            },
        }
    }

    /// Deletes objects, a thousand in a request, and returns the keys that could not be deleted, each with the reason.
    ///
    /// An object that does not exist counts as deleted. One whose `ETag` is no longer the one that `objects` has stays, if
    /// the store can be asked for that (S3 User Guide, "How to perform conditional deletes").
    ///
    /// # Errors
    /// A [`Refusal`] if the store refuses a whole request ([`Refused`](super::RefusalKind::Refused)) or does not answer
    /// ([`NoAnswer`](super::RefusalKind::NoAnswer)). The thousands before it are deleted; those of this request may be.
    pub async fn delete_all(&self, objects: &[&Object]) -> Result<Vec<(String, String)>, Refusal> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let condition = self.delete_condition().await?;
        let mut failed = Vec::new();
        for batch in objects.chunks(MOST_DELETED) {
            let named = batch.iter().map(|object| (object.key.as_str(), object.etag.as_str()));
            failed.extend(self.delete_objects(named, condition).await?.into_iter().filter_map(kept));
        }
        Ok(failed)
    }

    /// Deletes objects, each named by its key and its `ETag`, in one request, and returns the store's errors about single
    /// ones. The `ETag` is sent if the store honours it.
    ///
    /// # Errors
    /// A [`Refusal`] if the store refuses the whole request or does not answer.
    pub(super) async fn delete_objects(
        &self,
        objects: impl Iterator<Item = (&str, &str)>,
        condition: Condition,
    ) -> Result<Vec<aws_sdk_s3::types::Error>, Refusal> {
        let identify = |(key, etag): (&str, &str)| {
            let is_sent = condition == Condition::Honoured && !etag.is_empty();
            ObjectIdentifier::builder().key(key).set_e_tag(is_sent.then(|| format!("\"{etag}\""))).build()
        };
        self.delete_identified(objects.map(identify).collect()).await
    }

    /// Deletes objects or versions of them in one request, and returns the store's errors about single ones.
    ///
    /// # Errors
    /// A [`Refusal`] if the store refuses the whole request or does not answer.
    pub(super) async fn delete_identified(
        &self,
        objects: Result<Vec<ObjectIdentifier>, BuildError>,
    ) -> Result<Vec<aws_sdk_s3::types::Error>, Refusal> {
        let delete = objects.and_then(|objects| Delete::builder().quiet(true).set_objects(Some(objects)).build());
        let delete = delete.map_err(|error| Refusal::later(format!("failed to delete objects: {error}")))?;
        let sent = self.client.delete_objects().bucket(&self.config.bucket).delete(delete).send().await;
        let answer = sent.map_err(|error| Refusal::of("delete objects", &error).needing("s3:DeleteObject"))?;
        Ok(answer.errors.unwrap_or_default())
    }

    /// Copies an object to another key, or onto itself to move it to another class.
    ///
    /// # Errors
    /// A [`Refusal`] with the kind [`Cold`](super::RefusalKind::Cold) if the source must be restored first. With any
    /// other kind the store refused or did not answer, and the copy may have been made all the same.
    pub async fn copy(
        &self,
        CopyRequest { source, version, target, class }: CopyRequest<'_>,
    ) -> Result<Copied, Refusal> {
        let Object { key, size, etag, .. } = source;
        if *size > MOST_COPIED {
            return Ok(Copied::TooLarge);
        }
        let needed =
            if version.is_some() { "s3:PutObject and s3:GetObjectVersion" } else { "s3:PutObject and s3:GetObject" };
        let (sse, sse_key) = self.encryption();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        let version = version.map(|id| format!("?versionId={}", percent(id.as_bytes(), plain))).unwrap_or_default();
        let copy = self
            .client
            .copy_object()
            .bucket(&self.config.bucket)
            .copy_source(format!("{}/{}{version}", self.config.bucket, percent(key.as_bytes(), plain)))
            .copy_source_if_match(format!("\"{etag}\""))
            .key(target)
            // Only AWS is known to honour this header for a copy.
            .set_if_none_match((target != key && self.config.endpoint_url.is_none()).then(|| "*".to_owned()))
            .metadata_directive(MetadataDirective::Copy)
            .tagging_directive(TaggingDirective::Copy)
            .storage_class(StorageClass::from(class))
            .set_checksum_algorithm(self.wants_checksum().then_some(ChecksumAlgorithm::Sha256))
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(sse_key);
        match copy.send().await {
            // S3 may answer 200 and report a failure in the body; then the answer has no result.
            Ok(answer) if answer.copy_object_result().and_then(|result| result.e_tag()).is_some() => Ok(Copied::Done),
            Ok(_) => Err(Refusal::without_etag("copy object")),
            Err(error)
                if matches!(status(&error), Some(404 | 412))
                    && code(&error).is_some_and(|code| code != "NoSuchBucket") =>
            {
                Ok(Copied::Changed)
            }
            Err(error) => Err(Refusal::of("copy object", &error).needing(needed)),
        }
    }

    /// Asks the store to restore an object from a cold class, and to keep it readable for `days`; without the tier if
    /// another store than AWS refuses that.
    ///
    /// # Errors
    /// A [`Refusal`] with the kind [`NoSuchKey`](super::RefusalKind::NoSuchKey) if there is no such object. With any
    /// other kind the store refused, or did not answer and may restore the object all the same.
    pub async fn restore(&self, key: &str, tier: Tier, days: u32) -> Result<RestoreAsked, Refusal> {
        let tier = match tier {
            Tier::Bulk => aws_sdk_s3::types::Tier::Bulk,
            Tier::Standard => aws_sdk_s3::types::Tier::Standard,
            Tier::Expedited => aws_sdk_s3::types::Tier::Expedited,
        };
        let job = GlacierJobParameters::builder().tier(tier).build();
        let job = job.map_err(|error| Refusal::later(format!("failed to restore object: {error}")))?;
        let ask = |job: Option<GlacierJobParameters>| {
            let days = i32::try_from(days).unwrap_or(i32::MAX);
            let wanted = RestoreRequest::builder().days(days).set_glacier_job_parameters(job).build();
            self.client.restore_object().bucket(&self.config.bucket).key(key).restore_request(wanted).send()
        };
        let mut asked = ask(Some(job)).await;
        // Other stores than AWS may know no tiers.
        if self.is_aws().await != Ok(true)
            && asked.as_ref().is_err_and(|error| matches!(status(error), Some(400 | 501)))
        {
            asked = ask(None).await;
        }
        match asked {
            // S3 answers 202 if the restore begins, and 200 if a restored copy only stays for longer. The SDK hides
            // which.
            Ok(_) => Ok(RestoreAsked::Begun),
            Err(error) if code(&error) == Some("RestoreAlreadyInProgress") => Ok(RestoreAsked::Ongoing),
            Err(error) if code(&error) == Some("InvalidObjectState") => Ok(RestoreAsked::NotCold),
            Err(error) if code(&error) == Some("ObjectAlreadyInActiveTierError") => Ok(RestoreAsked::NotCold),
            Err(error) => Err(Refusal::of("restore object", &error).needing("s3:RestoreObject")),
        }
    }

    /// Returns whether the bucket keeps versions, so that a deletion only hides an object; `None` if these credentials
    /// may not ask.
    ///
    /// # Errors
    /// A [`Refusal`] if the store fails or does not answer: nothing is known.
    pub async fn keeps_versions(&self) -> Result<Option<bool>, Refusal> {
        let asked = self.client.get_bucket_versioning().bucket(&self.config.bucket).send().await;
        // moto wraps its answer in an element that the SDK does not expect.
        if let Err(error) = &asked
            && let Some(answer) = error.raw_response().filter(|answer| answer.status().as_u16() == 200)
        {
            return Ok(Some(element(answer.body().bytes().unwrap_or_default(), "Status") == Some("Enabled")));
        }
        if_told("get bucket versioning", asked.map(|answer| answer.status() == Some(&BucketVersioningStatus::Enabled)))
    }

    /// Returns whether these credentials may see the lock of an object. A HEAD shows it only to those who may; to others a
    /// locked object looks like any other.
    ///
    /// # Errors
    /// A [`Refusal`] if the store fails or does not answer: nothing is known.
    pub async fn sees_locks(&self, key: &str) -> Result<bool, Refusal> {
        let bucket = &self.config.bucket;
        let retention = self.client.get_object_retention().bucket(bucket).key(key).send().await;
        let hold = self.client.get_object_legal_hold().bucket(bucket).key(key).send().await;
        let sees_retention = may_see("get object retention", retention.map(drop))?;
        Ok(may_see("get object legal hold", hold.map(drop))? && sees_retention)
    }

    /// Returns whether the bucket can lock objects; `None` if these credentials may not ask.
    ///
    /// # Errors
    /// A [`Refusal`] if the store fails or does not answer: nothing is known.
    pub async fn locks_objects(&self) -> Result<Option<bool>, Refusal> {
        let asked = self.client.get_object_lock_configuration().bucket(&self.config.bucket).send().await;
        let enabled = asked.map(|answer| {
            let configuration = answer.object_lock_configuration();
            configuration.and_then(|lock| lock.object_lock_enabled()) == Some(&ObjectLockEnabled::Enabled)
        });
        match enabled {
            Err(error) if code(&error) == Some("ObjectLockConfigurationNotFoundError") => Ok(Some(false)),
            other => if_told("get object lock configuration", other),
        }
    }
}

/// Returns the store's answer to a question about the bucket; `None` if these credentials may not ask, and false if the
/// store does not know the question.
fn if_told<E>(what: &str, answer: Result<bool, Failed<E>>) -> Result<Option<bool>, Refusal>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if status(&error) == Some(403) => Ok(None),
        Err(error) if matches!(status(&error), Some(405 | 501)) => Ok(Some(false)),
        Err(error) => Err(Refusal::of(what, &error)),
    }
}

/// Returns whether a question about the lock of an object was allowed: the store's answer may be that there is no lock, or
/// that it does not know the question.
fn may_see<E>(what: &str, answer: Result<(), Failed<E>>) -> Result<bool, Refusal>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match answer {
        Ok(()) => Ok(true),
        Err(error) if status(&error) == Some(403) => Ok(false),
        Err(error) if matches!(status(&error), Some(400 | 404 | 405 | 501)) => Ok(true),
        Err(error) => Err(Refusal::of(what, &error)),
    }
}

/// Returns the key of an object that was not deleted, and why; `None` if there was no such object.
pub(super) fn kept(error: aws_sdk_s3::types::Error) -> Option<(String, String)> {
    let (code, message) = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
    let why = match code {
        "NoSuchKey" => return None,
        "PreconditionFailed" => "it is not the object that was looked at any more".to_owned(),
        _ => printable(format!("{code} {message}").trim()).into_owned(),
    };
    Some((error.key.unwrap_or_default(), why))
}

/// Returns what an answer to a HEAD says.
pub(super) fn read(head: &HeadObjectOutput) -> Head {
    let metadata = |name: &str| head.metadata().and_then(|metadata| metadata.get(name)).cloned();
    let storage_class = head.storage_class().map_or("STANDARD", StorageClass::as_str).to_owned();
    // An object that was uploaded in parts has a checksum of the parts' checksums. Not every store marks it with a
    // dash, but the ETag of such an object has one.
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
        md5: md5_of(head.e_tag(), head.server_side_encryption(), head.sse_customer_algorithm()),
        sha256: metadata("sha256"),
        taken_at: metadata("taken-at"),
        locked_until: if hold {
            Some(DateTime::<Utc>::MAX_UTC)
        } else {
            head.object_lock_retain_until_date().map(|until| time(Some(until)))
        },
        version: head.version_id().filter(|version| *version != NULL_VERSION).map(str::to_owned),
    }
}

/// Returns whether an object of the class must be restored before it can be read: at AWS, and at stores that do as AWS
/// does.
///
/// Source: S3 User Guide, "Understanding and managing Amazon S3 storage classes".
pub fn is_cold(class: &str) -> bool {
    matches!(class, "GLACIER" | "DEEP_ARCHIVE")
}

/// Returns whether an object can be read, by its class and its `x-amz-restore` header, which looks like
/// `ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"`.
fn readable(class: &str, restore: Option<&str>) -> RestoreState {
    match restore {
        _ if !is_cold(class) => RestoreState::Warm,
        None => RestoreState::Cold,
        Some(restore) if restore.contains("ongoing-request=\"true\"") => RestoreState::Ongoing,
        Some(restore) => {
            let until = restore.split_once("expiry-date=\"").and_then(|(_, rest)| rest.split_once('"'));
            let until = until.and_then(|(date, _)| DateTime::parse_from_rfc2822(date).ok());
            RestoreState::Done(until.map(|until| until.to_utc()))
        }
    }
}

/// Returns how long to wait before the next look at a restore that was asked for `since` ago; S3 takes minutes at
/// least.
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
            ("STANDARD", None, RestoreState::Warm),
            ("GLACIER_IR", None, RestoreState::Warm),
            ("GLACIER", None, RestoreState::Cold),
            ("DEEP_ARCHIVE", Some("ongoing-request=\"true\""), RestoreState::Ongoing),
            (
                "GLACIER",
                Some("ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\""),
                RestoreState::Done(until),
            ),
            ("GLACIER", Some("ongoing-request=\"false\""), RestoreState::Done(None)),
        ] {
            assert_eq!(readable(class, header), expected, "{class} {header:?}");
        }
    }
}
