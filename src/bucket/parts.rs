//! Uploads in parts: a large file is streamed in parts of a few MiB, so that a lost part costs no more than itself.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::RequestId;
use aws_sdk_s3::operation::complete_multipart_upload::{CompleteMultipartUploadError, CompleteMultipartUploadOutput};
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use aws_smithy_types::base64;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::answer::Sent;
use super::body::{self, Content, Source};
use super::condition::{IfNoneMatch, PutTerms, WriteOutcome};
use super::listing::UploadUnderWay;
use super::put::{with_total_timeout, without_total_timeout};
use super::stall::{self, Patience, Phase};
use super::uploads::{OwnUploads, UploadInWork};
use super::wire::{Failed, Receipt, code, is_taken, md5_of, metadata, status};
use super::{About, Bucket, Refusal, Verdict, When};
use crate::config::Access;
use crate::key::{self, ObjectKey};

/// The bytes of a part, except in uploads that would have too many parts.
const PART_BYTES: u64 = 8 * 1024 * 1024;

/// The most parts of an upload (S3 User Guide, "Amazon S3 multipart upload limits").
const MAX_PARTS: u64 = 10_000;

/// The attempts to send a part.
const PART_TRIES: u32 = 3;

/// The pause after a part's first failure; it doubles with each further one.
const PART_AGAIN: Duration = Duration::from_secs(1);

/// How long to wait for the end of an upload in parts. S3 takes minutes to put many parts together (S3 API Reference,
/// `CompleteMultipartUpload`), and other stores copy all bytes; a dead peer is noticed by the kernel.
const COMPLETE_TIMEOUT: Duration = Duration::from_hours(1);

/// The attempts to complete an upload whose parts are all there.
const COMPLETE_TRIES: u32 = 3;

/// The attempts if an answer was lost while the store answers other requests: it has two minutes more to finish.
const COMPLETE_TRIES_AT_WORK: u32 = 8;

/// The pause after the first failure to complete; it doubles with each further one.
const COMPLETE_AGAIN: Duration = Duration::from_secs(1);

/// After this long an upload in parts that this box does not know is taken for abandoned.
const ABANDONED: Duration = Duration::from_hours(24);

/// Returns the bytes of each part of an object of `size` bytes; the last part may be shorter.
pub fn part_bytes(size: u64) -> u64 {
    PART_BYTES.max(least_part_bytes(size))
}

/// Returns the bytes of each part of an object of `size` bytes if it has as many parts as it may have.
pub(super) fn least_part_bytes(size: u64) -> u64 {
    size.div_ceil(MAX_PARTS)
}

/// An upload in parts that the store has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct BegunUpload<'a> {
    pub(super) key: &'a str,
    /// The store's name for it.
    pub(super) id: &'a str,
}

/// One part of an upload.
struct UploadPart<'a> {
    upload: BegunUpload<'a>,
    /// Its number, from 1.
    number: i32,
    /// Its bytes in the file.
    range: Range<u64>,
    sha256: [u8; 32],
    /// Its SHA-256 in base64, if checksums are sent.
    checksum: Option<String>,
}

impl Bucket {
    /// Stores an object in parts; the parts of an upload that fails are aborted.
    ///
    /// # Errors
    /// A [`Refusal`], as [`Bucket::put_new`] describes.
    pub(super) async fn put_in_parts(
        &self,
        key: &ObjectKey,
        source: &Source,
        about: &About,
        when: When,
        terms: PutTerms,
    ) -> Result<WriteOutcome, Refusal> {
        if self.config.access == Access::ReadWrite
            && let Err(refusal) = self.abort_abandoned(key.as_str(), when.now).await
        {
            // The right to put is enough for a capture. If something else is wrong, the requests below fail as well.
            tracing::debug!("abandoned uploads of {key} are not aborted: {refusal}");
        }
        let intended = self.intend(key.as_str(), when.now).await;
        let id = self.begin_parts(key, about, when).await?;
        let in_work = self.begun(&id).await;
        if let Some(intended) = intended {
            intended.end();
        }
        let upload = BegunUpload { key: key.as_str(), id: &id };
        let outcome = self.finish_parts(key, source, upload, when.patience, terms).await;
        let mut is_over = true;
        if !matches!(outcome, Ok(WriteOutcome::Stored)) {
            let aborted = self.abort(upload).await;
            is_over = aborted.is_ok();
            // Parts that cannot be aborted now are aborted by the next attempt at this key. If the key is taken there
            // would be none, so the upload fails instead. A write-only box may not abort: it must not try for ever.
            if outcome.is_ok() && self.config.access == Access::ReadWrite {
                aborted?;
            }
        }
        if let Some(in_work) = in_work.filter(|_| is_over) {
            in_work.end();
        }
        outcome
    }

    /// Writes down that an upload is about to begin, so that it is known as this box's own after a crash.
    pub(super) async fn intend(&self, key: &str, now: SystemTime) -> Option<UploadInWork> {
        let key = key.to_owned();
        self.write_down(move |uploads| uploads.intend(&key, now)).await
    }

    /// Writes down that an upload has begun, so that it is known as this box's own after a crash.
    pub(super) async fn begun(&self, id: &str) -> Option<UploadInWork> {
        let id = id.to_owned();
        self.write_down(move |uploads| uploads.begin(&id)).await
    }

    async fn write_down(
        &self,
        write: impl FnOnce(OwnUploads) -> std::io::Result<Option<UploadInWork>> + Send + 'static,
    ) -> Option<UploadInWork> {
        let uploads = self.uploads.clone();
        let written = tokio::task::spawn_blocking(move || write(uploads)).await;
        written.unwrap_or_else(|error| Err(error.into())).unwrap_or_else(|error| {
            tracing::debug!("an upload in parts is not written down: {error}");
            None
        })
    }

    /// Begins an upload in parts, and returns its id.
    async fn begin_parts(&self, key: &ObjectKey, about: &About, when: When) -> Result<String, Refusal> {
        let (lock_mode, lock_until) = self.lock(when.now);
        let (sse, sse_key) = self.encryption();
        let created = self
            .client
            .create_multipart_upload()
            .bucket(&self.config.bucket)
            .key(key.as_str())
            .content_type(&about.content_type)
            .set_metadata(Some(metadata(&about.metadata).map(|(name, value)| (name.to_owned(), value)).collect()))
            .set_tagging(self.tagging(about))
            .storage_class(self.class_of(about))
            .set_checksum_algorithm(self.wants_checksum().then_some(ChecksumAlgorithm::Sha256))
            .set_object_lock_mode(lock_mode)
            .set_object_lock_retain_until_date(lock_until)
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(sse_key)
            .send()
            .await
            .map_err(|error| self.naming_settings(Refusal::of("create multipart upload", &error)))?;
        created.upload_id.ok_or_else(|| Refusal::later("the store named no upload"))
    }

    async fn finish_parts(
        &self,
        key: &ObjectKey,
        source: &Source,
        upload: BegunUpload<'_>,
        patience: Patience,
        terms: PutTerms,
    ) -> Result<WriteOutcome, Refusal> {
        let parts = self.send_parts(source, upload, patience).await?;
        // Sending took a while: where only a HEAD tells whether the key is free, it is asked again.
        if self.obstacle(key, terms).await?.is_some() {
            return Ok(WriteOutcome::KeyTaken);
        }
        let (mut wait, mut tries, mut was_lost) = (COMPLETE_AGAIN, 0, false);
        loop {
            let refusal = match self.complete(upload, parts.clone(), terms.condition.if_none_match()).await {
                // The checksum of an upload in parts is not that of its bytes; each part's was checked when it was sent.
                Ok(answer) if answer.e_tag().is_some_and(|etag| !etag.is_empty()) => return Ok(WriteOutcome::Stored),
                Ok(_) => Refusal::without_etag("complete multipart upload"),
                Err(error) if is_taken(&error) => return Ok(WriteOutcome::KeyTaken),
                Err(error) => {
                    let is_lost = matches!(error, SdkError::DispatchFailure(_) | SdkError::TimeoutError(_));
                    was_lost |= is_lost || status(&error) == Some(504);
                    Refusal::of("complete multipart upload", &error)
                }
            };
            if refusal.verdict != Verdict::TryLater {
                return Err(refusal);
            }
            // The store may have done it or be at it still, and only the answer was lost; or it may not have done it, and
            // the parts are there. Each is cheaper than to send them again.
            let held = self.holds(key, source).await?;
            if held == Some(true) {
                return Ok(WriteOutcome::Stored);
            }
            tries += 1;
            let is_at_work = was_lost && held == Some(false) && patience == Patience::Ordinary;
            if tries >= if is_at_work { COMPLETE_TRIES_AT_WORK } else { COMPLETE_TRIES } {
                return Err(refusal);
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    /// Makes an object of the parts that were sent.
    ///
    /// # Errors
    /// The SDK's own error, for callers that look at whether the key is taken.
    pub(super) async fn complete(
        &self,
        upload: BegunUpload<'_>,
        parts: Vec<CompletedPart>,
        header: IfNoneMatch,
    ) -> Result<CompleteMultipartUploadOutput, Failed<CompleteMultipartUploadError>> {
        self.client
            .complete_multipart_upload()
            .bucket(&self.config.bucket)
            .key(upload.key)
            .upload_id(upload.id)
            .set_if_none_match(header.value())
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .customize()
            .config_override(with_total_timeout(COMPLETE_TIMEOUT))
            .send()
            .await
    }

    /// Sends all parts, and returns what completes the upload.
    async fn send_parts(
        &self,
        source: &Source,
        upload: BegunUpload<'_>,
        patience: Patience,
    ) -> Result<Vec<CompletedPart>, Refusal> {
        let part_bytes = self.limit.part_bytes(source.size);
        let mut whole = Sha256::new();
        let mut parts = Vec::new();
        let mut at = 0;
        while at < source.size {
            let range = at..(at + part_bytes).min(source.size);
            at = range.end;
            let number = i32::try_from(parts.len() + 1).unwrap_or(i32::MAX);
            let (digest, so_far) = hash_part(source.content.clone(), range.clone(), whole).await?;
            whole = so_far;
            let checksum = self.wants_checksum().then(|| base64::encode(digest));
            let part = UploadPart { upload, number, range, sha256: digest, checksum };
            let e_tag = self.send_part(source, &part, patience).await?;
            let completed = CompletedPart::builder().part_number(number).set_e_tag(e_tag);
            parts.push(completed.set_checksum_sha256(part.checksum).build());
        }
        // The parts were hashed anew, so a file that changed after it was hashed as a whole shows here.
        if whole.finalize()[..] == source.sha256 {
            Ok(parts)
        } else {
            Err(Refusal::later("the file changed while it was read"))
        }
    }

    /// Sends one part, again if need be, and returns its `ETag`.
    async fn send_part(
        &self,
        source: &Source,
        part: &UploadPart<'_>,
        patience: Patience,
    ) -> Result<Option<String>, Refusal> {
        let tries = if patience == Patience::Probe { 1 } else { PART_TRIES };
        let mut wait = PART_AGAIN;
        for _ in 1..tries {
            match self.try_part(source, part, patience).await {
                Err(refusal)
                    if refusal.verdict == Verdict::TryLater
                        && !refusal.is_too_large()
                        && refusal.code.as_deref() != Some("NoSuchUpload") =>
                {
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                done => return done,
            }
        }
        self.try_part(source, part, patience).await
    }

    async fn try_part(
        &self,
        source: &Source,
        part: &UploadPart<'_>,
        patience: Patience,
    ) -> Result<Option<String>, Refusal> {
        let phase = watch::Sender::new(Phase::Start);
        let length = part.range.end - part.range.start;
        let promised = self.promised(Sent::Part, part.sha256);
        let sending = self
            .client
            .upload_part()
            .bucket(&self.config.bucket)
            .key(part.upload.key)
            .upload_id(part.upload.id)
            .part_number(part.number)
            .content_length(i64::try_from(length).unwrap_or(i64::MAX))
            .set_checksum_sha256(part.checksum.clone())
            .body(body::slice(source, part.range.clone(), promised, &self.pace, &phase))
            .customize()
            .config_override(without_total_timeout())
            .send();
        let sent = stall::watched("upload part", length, patience, &phase, sending).await?;
        let answer =
            sent.map_err(|error| self.noting_size(self.naming_settings(Refusal::of("upload part", &error)), length))?;
        let (etag, sent, repeated) = (answer.e_tag(), part.checksum.as_deref(), answer.checksum_sha256());
        let md5 = md5_of(etag, answer.server_side_encryption(), answer.sse_customer_algorithm());
        let has_request_id = answer.request_id().is_some();
        let receipt = Receipt { about: Sent::Part, etag, sent, repeated, md5, has_request_id };
        receipt.check(source, part.range.clone(), &self.marks).await?;
        Ok(answer.e_tag)
    }

    /// Aborts the uploads in parts that earlier attempts at this capture left behind, such as a crash in the middle of
    /// one.
    ///
    /// The capture may have been cut off then and be whole now, so all keys of its name count. Only uploads that this box
    /// has begun and does not work on are aborted, and any that is older than a day: another box may send the same name.
    ///
    /// # Errors
    /// A [`Refusal`] if the store refuses to list or abort, or does not answer: the rest of the parts stays.
    pub(super) async fn abort_abandoned(&self, key: &str, now: SystemTime) -> Result<(), Refusal> {
        let root = key::root(key);
        let mut uploads = std::pin::pin!(self.uploads_under_way(key::stem(&root)));
        while let Some(UploadUnderWay { key, id, begun }) = uploads.try_next().await? {
            if key::root(&key) != root {
                continue;
            }
            let intended = || self.uploads.take_over_intended(&key, begun);
            let own = self.uploads.take_over(&id).or_else(intended);
            let age = DateTime::<Utc>::from(now) - begun;
            if own.is_some() || age.to_std().is_ok_and(|age| age > ABANDONED) {
                self.abort(BegunUpload { key: &key, id: &id }).await?;
            }
            if let Some(own) = own {
                own.end();
            }
        }
        Ok(())
    }

    /// Aborts an upload in parts; one that no longer exists counts as aborted.
    ///
    /// # Errors
    /// A [`Refusal`] if the store refuses or does not answer: the parts stay, and cost money.
    pub(super) async fn abort(&self, upload: BegunUpload<'_>) -> Result<(), Refusal> {
        let abort = self.client.abort_multipart_upload().bucket(&self.config.bucket);
        match abort.key(upload.key).upload_id(upload.id).send().await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some("NoSuchUpload") => Ok(()),
            Err(error) => Err(Refusal::of("abort multipart upload", &error)),
        }
    }
}

/// Returns the SHA-256 of a part, and the hash of the whole file with that part added.
async fn hash_part(content: Content, range: Range<u64>, whole: Sha256) -> Result<([u8; 32], Sha256), Refusal> {
    let hashing = tokio::task::spawn_blocking(move || {
        let (mut part, mut whole) = (Sha256::new(), whole);
        content.read_through(range.start, range.end - range.start, |chunk| {
            part.update(chunk);
            whole.update(chunk);
        })?;
        Ok::<_, std::io::Error>((part.finalize().into(), whole))
    });
    let hashed = hashing.await.map_err(|error| Refusal::later(format!("failed to read file: {error}")))?;
    hashed.map_err(|error| Refusal::later(format!("failed to read file: {error}")))
}
