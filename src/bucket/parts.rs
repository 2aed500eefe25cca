//! Large files go up in parts, streamed; a lost part costs no more than itself.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use aws_smithy_types::base64;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::condition::Terms;
use super::stall::{self, Patience, Phase};
use super::{
    About, Bucket, Content, Refusal, Source, Verdict, When, body, code, confirm, is_taken, metadata, no_total_time,
    read_through,
};
use crate::config::Access;
use crate::key::{self, ObjectKey};

/// Bytes of a part; a lost one costs no more than that.
const PART_BYTES: u64 = 8 * 1024 * 1024;

/// Most parts of an upload (S3 User Guide, "Amazon S3 multipart upload limits").
const MAX_PARTS: u64 = 10_000;

/// Bytes of each part, but for the last one, of an object of `size` bytes.
pub fn part_bytes(size: u64) -> u64 {
    PART_BYTES.max(size.div_ceil(MAX_PARTS))
}

/// How often a part is sent, and the wait after its first failure.
const PART_TRIES: u32 = 3;
const PART_AGAIN: Duration = Duration::from_secs(1);

/// A part of an upload.
struct Part<'a> {
    upload: &'a str,
    number: i32,
    at: u64,
    length: u64,
    /// SHA-256 in base64, where the store wants one.
    checksum: Option<String>,
}

impl Bucket {
    /// A multipart upload; false where the key is taken. Parts of an upload that fails are aborted.
    pub(super) async fn put_in_parts(
        &self,
        key: &ObjectKey,
        source: &Source,
        about: &About,
        when: When,
        terms: Terms,
    ) -> Result<bool, Refusal> {
        if self.config.access == Access::ReadWrite
            && let Err(refusal) = self.abort_abandoned(key.as_str()).await
        {
            // Credentials that may only put are enough for a capture; what keeps it from being put shows below.
            tracing::debug!("abandoned uploads of {key} are not aborted: {refusal}");
        }
        let (lock_mode, lock_until) = self.lock(when.now);
        let (sse, sse_key) = self.encryption();
        let created = self
            .client
            .create_multipart_upload()
            .bucket(&self.config.bucket)
            .key(key.as_str())
            .content_type(&about.content_type)
            .set_metadata(Some(metadata(about)))
            .set_tagging(self.tagging(about))
            .storage_class(self.class_of(about))
            .set_checksum_algorithm(self.wants_checksum().then_some(ChecksumAlgorithm::Sha256))
            .set_object_lock_mode(lock_mode)
            .set_object_lock_retain_until_date(lock_until)
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(sse_key)
            .send()
            .await
            .map_err(|error| Refusal::of("create multipart upload", &error))?;
        let upload = created.upload_id().ok_or_else(|| Refusal::later("the store named no upload"))?;
        let done = self.finish_parts(key, source, upload, when.patience, terms).await;
        if !matches!(done, Ok(true)) {
            // What cannot be aborted now is aborted by the next attempt at this key: where the key is taken, let there
            // be one. Who may not read may not abort either, and must not try for ever.
            let aborted = self.abort(key.as_str(), upload).await;
            if done.is_ok() && self.config.access == Access::ReadWrite {
                aborted?;
            }
        }
        done
    }

    async fn finish_parts(
        &self,
        key: &ObjectKey,
        source: &Source,
        upload: &str,
        patience: Patience,
        terms: Terms,
    ) -> Result<bool, Refusal> {
        let Content::File(file) = &source.content else {
            return Err(Refusal::later("only a file goes up in parts"));
        };
        let part_bytes = part_bytes(source.size);
        let mut whole = Sha256::new();
        let mut parts = Vec::new();
        let mut at = 0;
        while at < source.size {
            let length = part_bytes.min(source.size - at);
            let number = i32::try_from(parts.len() + 1).unwrap_or(i32::MAX);
            let (digest, so_far) = hash_slice(file, at, length, whole).await?;
            whole = so_far;
            let checksum = self.wants_checksum().then(|| base64::encode(digest));
            let part = Part { upload, number, at, length, checksum: checksum.clone() };
            let e_tag = self.send_part(key, source, &part, patience).await?;
            parts.push(
                CompletedPart::builder().part_number(number).set_e_tag(e_tag).set_checksum_sha256(checksum).build(),
            );
            at += length;
        }
        // The parts were hashed anew: a file that changed since it was hashed as a whole shows here.
        if whole.finalize()[..] != source.sha256 {
            return Err(Refusal::later("the file changed while it was read"));
        }
        // It took a while to get here: where only we look, we look again.
        if !self.is_free(key, terms).await? {
            return Ok(false);
        }
        let completed = self
            .client
            .complete_multipart_upload()
            .bucket(&self.config.bucket)
            .key(key.as_str())
            .upload_id(upload)
            .set_if_none_match(terms.condition.header())
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .send()
            .await;
        match completed {
            Ok(answer) => {
                confirm("complete multipart upload", answer.e_tag(), None, None)?;
                Ok(true)
            }
            Err(error) if is_taken(&error) => Ok(false),
            Err(error) => Err(Refusal::of("complete multipart upload", &error)),
        }
    }

    /// Sends one part until it is there, a few times at most; gives back its tag.
    async fn send_part(
        &self,
        key: &ObjectKey,
        source: &Source,
        part: &Part<'_>,
        patience: Patience,
    ) -> Result<Option<String>, Refusal> {
        let tries = if patience == Patience::Probe { 1 } else { PART_TRIES };
        let mut wait = PART_AGAIN;
        for _ in 1..tries {
            match self.try_part(key, source, part, patience).await {
                Err(refusal)
                    if refusal.verdict == Verdict::TryLater && refusal.code.as_deref() != Some("NoSuchUpload") =>
                {
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                done => return done,
            }
        }
        self.try_part(key, source, part, patience).await
    }

    async fn try_part(
        &self,
        key: &ObjectKey,
        source: &Source,
        part: &Part<'_>,
        patience: Patience,
    ) -> Result<Option<String>, Refusal> {
        let phase = watch::Sender::new(Phase::Start);
        let sending = self
            .client
            .upload_part()
            .bucket(&self.config.bucket)
            .key(key.as_str())
            .upload_id(part.upload)
            .part_number(part.number)
            .content_length(i64::try_from(part.length).unwrap_or(i64::MAX))
            .set_checksum_sha256(part.checksum.clone())
            .body(body::slice(source, part.at, part.length, &self.pace, &phase))
            .customize()
            .config_override(no_total_time())
            .send();
        let sent = stall::watched("upload part", part.length, patience, &phase, sending).await?;
        let sent = sent.map_err(|error| Refusal::of("upload part", &error))?;
        confirm("upload part", sent.e_tag(), part.checksum.as_deref(), sent.checksum_sha256())?;
        Ok(sent.e_tag)
    }

    /// Aborts what earlier attempts at this capture left: a crash in mid-upload comes by here again, be it that the file
    /// was cut off then and is whole now. None is in work: whoever works on the capture has its [`super::turn::Turn`].
    pub(super) async fn abort_abandoned(&self, key: &str) -> Result<(), Refusal> {
        let root = key::root(key);
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            let listed = self
                .client
                .list_multipart_uploads()
                .bucket(&self.config.bucket)
                .prefix(key::stem(&root))
                .set_key_marker(key_marker)
                .set_upload_id_marker(id_marker)
                .send()
                .await
                .map_err(|error| Refusal::of("list multipart uploads", &error))?;
            for upload in listed.uploads() {
                if let (Some(of), Some(id)) = (upload.key(), upload.upload_id())
                    && key::root(of) == root
                {
                    self.abort(of, id).await?;
                }
            }
            if listed.is_truncated() != Some(true) || listed.next_key_marker().is_none() {
                return Ok(());
            }
            (key_marker, id_marker) = (listed.next_key_marker, listed.next_upload_id_marker);
        }
    }

    pub(super) async fn abort(&self, key: &str, upload: &str) -> Result<(), Refusal> {
        let aborted = self.client.abort_multipart_upload().bucket(&self.config.bucket).key(key).upload_id(upload);
        match aborted.send().await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some("NoSuchUpload") => Ok(()),
            Err(error) => Err(Refusal::of("abort multipart upload", &error)),
        }
    }
}

async fn hash_slice(file: &Arc<File>, at: u64, length: u64, whole: Sha256) -> Result<([u8; 32], Sha256), Refusal> {
    let file = Arc::clone(file);
    let hashing = tokio::task::spawn_blocking(move || {
        let (mut part, mut whole) = (Sha256::new(), whole);
        read_through(&file, at, length, |chunk| {
            part.update(chunk);
            whole.update(chunk);
        })?;
        Ok::<_, std::io::Error>((part.finalize().into(), whole))
    });
    let hashed = hashing.await.map_err(|error| Refusal::later(format!("failed to read file: {error}")))?;
    hashed.map_err(|error| Refusal::later(format!("failed to read file: {error}")))
}
