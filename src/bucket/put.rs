//! Puts: a new object is stored under a key that is free, in one request or in parts.

use std::time::{Duration, SystemTime};

use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ObjectLockMode, StorageClass};
use aws_smithy_types::base64;
use tokio::sync::watch;

use super::answer::Sent;
use super::body::{self, Content, Source};
use super::condition::{Condition, KeyForm, Obstacle, PutTerms, WriteOutcome};
use super::direct::ObjectTerms;
use super::objects::{self, Head};
use super::stall::{self, Phase};
use super::wire::{is_taken, percent, status};
use super::{About, Bucket, Put, Refusal, When};
use crate::config::{Access, LockMode};
use crate::key::{self, ObjectKey};

impl Bucket {
    /// Stores an object under `key`, unless the key is taken.
    ///
    /// # Errors
    /// A [`Refusal`] whose verdict says what to do with the file: put it again ([`TryLater`]), set it aside because S3
    /// never accepts it ([`GiveUpOnThisFile`]), or stop and wait for the operator ([`NeedsOperator`]). The object may
    /// be stored in spite of it, because the reply may have been lost.
    ///
    /// [`TryLater`]: super::Verdict::TryLater
    /// [`GiveUpOnThisFile`]: super::Verdict::GiveUpOnThisFile
    /// [`NeedsOperator`]: super::Verdict::NeedsOperator
    pub async fn put_new(&self, key: &ObjectKey, source: &Source, about: &About, when: When) -> Result<Put, Refusal> {
        self.put(key, source, about, when, KeyForm::Own).await
    }

    /// Stores an object under a key that carries the whole SHA-256 of its bytes, so that nobody means to put other bytes
    /// there.
    ///
    /// # Errors
    /// A [`Refusal`], as [`Bucket::put_new`] describes.
    pub async fn put_hashed(
        &self,
        key: &ObjectKey,
        source: &Source,
        about: &About,
        when: When,
    ) -> Result<Put, Refusal> {
        self.put(key, source, about, when, KeyForm::WithHash).await
    }

    /// Returns whether the store is known to check the SHA-256 that is sent with each object: it has repeated one.
    pub fn checks_sha256(&self) -> bool {
        self.wants_checksum() && self.marks.has_sha256(Sent::Object)
    }

    async fn put(
        &self,
        key: &ObjectKey,
        source: &Source,
        about: &About,
        when: When,
        form: KeyForm,
    ) -> Result<Put, Refusal> {
        loop {
            let before = self.limit.request_bytes(source.size);
            let put = self.put_once(key, source, about, when, form).await;
            let is_too_large = put.as_ref().is_err_and(Refusal::is_too_large);
            // A stream goes up in one request, whatever its size.
            let is_file = !matches!(source.content, Content::Stream(_));
            if !is_too_large || !is_file || self.limit.request_bytes(source.size) >= before {
                return put;
            }
        }
    }

    async fn put_once(
        &self,
        key: &ObjectKey,
        source: &Source,
        about: &About,
        when: When,
        form: KeyForm,
    ) -> Result<Put, Refusal> {
        let in_one_request = self.limit.takes_whole(source.size) || matches!(source.content, Content::Stream(_));
        let condition = if in_one_request { self.put_condition().await? } else { self.parts_condition().await? };
        let terms = PutTerms { condition, form };
        // Where a HEAD decides whether the key is free, or parts can be aborted, no other upload of the name may
        // interfere.
        let _turn = if in_one_request && condition == Condition::Honoured {
            None
        } else {
            Some(self.pace.names().turn(format!("{}/{}", self.describe(), key::root(key.as_str()))).await)
        };
        let outcome = match self.obstacle(key, terms).await? {
            Some(Obstacle::Unknown) => return Ok(Put::Conflict),
            Some(Obstacle::Object) => WriteOutcome::KeyTaken,
            None if in_one_request => self.put_whole(key, source, about, when, condition).await?,
            None => Box::pin(self.put_in_parts(key, source, about, when, terms)).await?,
        };
        match outcome {
            WriteOutcome::Stored => Ok(Put::Stored),
            WriteOutcome::KeyTaken => Box::pin(self.compare(key, source)).await,
        }
    }

    async fn put_whole(
        &self,
        key: &ObjectKey,
        source: &Source,
        about: &About,
        when: When,
        condition: Condition,
    ) -> Result<WriteOutcome, Refusal> {
        let checksum = self.wants_checksum().then(|| base64::encode(source.sha256));
        let promised = self.promised(Sent::Object, source.sha256);
        let phase = watch::Sender::new(Phase::Start);
        let (lock_mode, lock_until) = self.lock(when.now);
        let terms = ObjectTerms {
            header: condition.if_none_match(),
            size: source.size,
            content_type: &about.content_type,
            class: self.class_of(about),
            sha256: checksum.clone(),
            metadata: &about.metadata,
            tagging: self.tagging(about),
            lock_mode,
            lock_until,
        };
        let body = body::slice(source, 0..source.size, promised, &self.pace, &phase);
        let sending = self.send_put(key.as_str(), terms, body.into_inner());
        match stall::watched("put object", source.size, when.patience, &phase, sending).await? {
            Ok(answer) => {
                let receipt = answer.receipt(checksum.as_deref());
                receipt.check(source, 0..source.size, &self.marks).await?;
                Ok(WriteOutcome::Stored)
            }
            Err(error) if is_taken(&error) => Ok(WriteOutcome::KeyTaken),
            Err(error) => Err(self.noting_size(self.naming_settings(Refusal::of("put object", &error)), source.size)),
        }
    }

    /// Returns the SHA-256 that this box itself checks as the bytes are sent: the one that is announced, unless the store is
    /// known to check it.
    pub(super) fn promised(&self, about: Sent, sha256: [u8; 32]) -> Option<[u8; 32]> {
        let is_checked = self.wants_checksum() && self.marks.has_sha256(about);
        (!is_checked).then_some(sha256)
    }

    /// Returns whether the object under a taken key has the same bytes.
    async fn compare(&self, key: &ObjectKey, source: &Source) -> Result<Put, Refusal> {
        if self.config.access == Access::WriteOnly {
            return Ok(Put::Unseen);
        }
        let head = match self.head_object(key.as_str(), None).await {
            Ok(head) => objects::read(&head),
            // Without the right to read, the bytes cannot be compared: they go under a key that carries their hash.
            Err(error) if status(&error) == Some(403) => return Ok(Put::Unseen),
            // A cache says so, or it was deleted just now: another name is free in any case.
            Err(error) if status(&error) == Some(404) => return Ok(Put::Conflict),
            Err(error) => return Err(Refusal::of("head object", &error)),
        };
        Ok(if holds(&head, source).await? { Put::AlreadyThere } else { Put::Conflict })
    }

    /// Returns whether the object under `key` has the bytes of `source`; `None` if that cannot be found out now.
    ///
    /// # Errors
    /// A [`Refusal`] to try later if the bytes of `source` cannot be read.
    pub async fn holds(&self, key: &ObjectKey, source: &Source) -> Result<Option<bool>, Refusal> {
        if self.config.access == Access::WriteOnly {
            return Ok(None);
        }
        match self.head_object(key.as_str(), None).await {
            Ok(head) => holds(&objects::read(&head), source).await.map(Some),
            Err(error) => Ok((status(&error) == Some(404)).then_some(false)),
        }
    }

    pub(super) fn class_of(&self, about: &About) -> StorageClass {
        about.class.as_deref().map_or_else(|| self.storage_class(), StorageClass::from)
    }

    pub(super) fn tagging(&self, about: &About) -> Option<String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let pairs = about.tags.iter().map(|(name, value)| format!("{name}={}", percent(value.as_bytes(), plain)));
        self.config.tags.then(|| pairs.collect::<Vec<_>>().join("&")).filter(|tags| !tags.is_empty())
    }

    /// Returns the mode of the configured lock and the end of a lock that begins `now`.
    pub(super) fn lock(&self, now: SystemTime) -> (Option<ObjectLockMode>, Option<DateTime>) {
        let Some(lock) = self.config.object_lock else { return (None, None) };
        let mode = match lock.mode {
            LockMode::Governance => ObjectLockMode::Governance,
            LockMode::Compliance => ObjectLockMode::Compliance,
        };
        // A clock that is years ahead cannot lock for years: the same clock signs the request, and S3 refuses a
        // signature that is more than 15 minutes off ("Error responses": RequestTimeTooSkewed).
        let until = now + Duration::from_secs(u64::from(lock.days) * 24 * 3600);
        (Some(mode), Some(DateTime::from(until)))
    }
}

/// Returns whether an object has the bytes of `source`.
///
/// Its length and the SHA-256 that the store computed decide. Where the store has none, the one in the metadata says only
/// what was sent: if the `ETag` is the MD5 of what arrived, it must fit too, and is enough alone.
///
/// # Errors
/// A [`Refusal`] to try later if the bytes of `source` cannot be read.
async fn holds(head: &Head, source: &Source) -> Result<bool, Refusal> {
    let sha256 = hex::encode(source.sha256);
    if head.size != source.size || head.is(&sha256) == Some(false) {
        return Ok(false);
    }
    match (&head.checksum, &head.md5) {
        (Some(_), _) => Ok(true),
        (None, Some(md5)) => Ok(md5.eq_ignore_ascii_case(&source.md5(0..source.size).await?)),
        (None, None) => Ok(head.sha256.is_some()),
    }
}

/// Returns settings for a request with a file in its body: it has no total time-out, because [`stall::watched`] ends it
/// when it no longer makes progress.
pub(super) fn without_total_timeout() -> Builder {
    aws_sdk_s3::Config::builder().timeout_config(TimeoutConfig::builder().disable_operation_attempt_timeout().build())
}

/// Returns settings for a request that may take this long.
pub(super) fn with_total_timeout(timeout: Duration) -> Builder {
    aws_sdk_s3::Config::builder().timeout_config(TimeoutConfig::builder().operation_attempt_timeout(timeout).build())
}
