//! Large files go up in parts, streamed; a lost part costs no more than itself.

use std::fs::File;
use std::sync::Arc;
use std::time::SystemTime;

use aws_config::retry::RetryConfig;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use aws_smithy_types::base64;
use sha2::{Digest, Sha256};

use super::condition::Terms;
use super::{About, Bucket, Refusal, Source, body, code, is_taken, metadata, patience, read_through};
use crate::config::Access;
use crate::key::{self, ObjectKey};

/// Bytes of a part; a lost one costs no more than that.
const PART_BYTES: u64 = 8 * 1024 * 1024;

/// Most parts of an upload (S3 User Guide, "Amazon S3 multipart upload limits").
const MAX_PARTS: u64 = 10_000;

impl Bucket {
    /// A multipart upload; false where the key is taken. Parts of an upload that fails are aborted.
    pub(super) async fn put_in_parts(
        &self,
        key: &ObjectKey,
        source: &Source,
        about: &About,
        now: SystemTime,
        terms: Terms,
    ) -> Result<bool, Refusal> {
        if self.config.access == Access::ReadWrite
            && let Err(refusal) = self.abort_abandoned(key.as_str()).await
        {
            // Credentials that may only put are enough for a capture; what keeps it from being put shows below.
            tracing::debug!("abandoned uploads of {key} are not aborted: {refusal}");
        }
        let (lock_mode, lock_until) = self.lock(now);
        let (sse, sse_key) = self.encryption();
        let created = self
            .client
            .create_multipart_upload()
            .bucket(&self.config.bucket)
            .key(key.as_str())
            .content_type(&about.content_type)
            .set_metadata(Some(metadata(about)))
            .set_tagging(self.tagging(about))
            .storage_class(self.storage_class())
            .set_checksum_algorithm(self.wants_checksum().then_some(ChecksumAlgorithm::Sha256))
            .set_object_lock_mode(lock_mode)
            .set_object_lock_retain_until_date(lock_until)
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(sse_key)
            .send()
            .await
            .map_err(|error| Refusal::of("create multipart upload", &error))?;
        let upload = created.upload_id().ok_or_else(|| Refusal::later("the store named no upload"))?;
        let done = self.finish_parts(key, source, upload, terms).await;
        if !matches!(done, Ok(true)) {
            // What cannot be aborted now is aborted by the next attempt at this key.
            let _aborted = self.abort(key.as_str(), upload).await;
        }
        done
    }

    async fn finish_parts(
        &self,
        key: &ObjectKey,
        source: &Source,
        upload: &str,
        terms: Terms,
    ) -> Result<bool, Refusal> {
        let part_bytes = PART_BYTES.max(source.size.div_ceil(MAX_PARTS));
        let mut whole = Sha256::new();
        let mut parts = Vec::new();
        let mut at = 0;
        while at < source.size {
            let length = part_bytes.min(source.size - at);
            let number = i32::try_from(parts.len() + 1).unwrap_or(i32::MAX);
            let (digest, so_far) = hash_slice(&source.file, at, length, whole).await?;
            whole = so_far;
            let checksum = self.wants_checksum().then(|| base64::encode(digest));
            let sent = self
                .client
                .upload_part()
                .bucket(&self.config.bucket)
                .key(key.as_str())
                .upload_id(upload)
                .part_number(number)
                .content_length(i64::try_from(length).unwrap_or(i64::MAX))
                .set_checksum_sha256(checksum.clone())
                .body(body::slice(&source.file, at, length))
                .customize()
                .config_override(patience(length).retry_config(RetryConfig::standard()))
                .send()
                .await
                .map_err(|error| Refusal::of("upload part", &error))?;
            parts.push(
                CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(sent.e_tag)
                    .set_checksum_sha256(checksum)
                    .build(),
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
            .customize()
            .config_override(patience(0))
            .send()
            .await;
        match completed {
            Ok(_) => Ok(true),
            Err(error) if is_taken(&error) => Ok(false),
            Err(error) => Err(Refusal::of("complete multipart upload", &error)),
        }
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
