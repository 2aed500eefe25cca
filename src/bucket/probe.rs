//! The probe: a small object with which a store is tried.

use std::sync::Arc;

use aws_sdk_s3::operation::put_object::PutObjectError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedPart, StorageClass};
use sha2::{Digest, Sha256};

use super::condition::{Condition, Conditions, IfNoneMatch, WriteOutcome};
use super::direct::{ObjectTerms, PutAnswer};
use super::parts::BegunUpload;
use super::uploads::UploadInWork;
use super::wire::{Failed, is_taken, sha256_base64};
use super::{Bucket, Content, Precedence, Refusal, Source, Verdict};
use crate::config::Access;

/// The name of the object that a store is tried with; it is in no camera's folder, unlike every capture.
pub const PROBE: &str = ".hk-aws-probe";

/// The bytes of the probe.
pub(super) const PROBE_BYTES: &[u8] =
    b"hk-aws tries here what the store does with If-None-Match; this may be deleted\n";

/// An `ETag` that the probe never has.
const NO_MD5: &str = "00000000000000000000000000000000";

/// The puts of a trial. The second one decides, unless another box that tries the store deleted the probe in between.
const PUTS: usize = 3;

impl Bucket {
    /// Tries both requests, whatever is known, and leaves the probe in the bucket.
    ///
    /// # Errors
    /// A [`Refusal`] if the store refuses the trial or does not answer: nothing is known.
    pub(super) async fn try_conditions(&self) -> Result<Conditions, Refusal> {
        let put = self.try_put_condition().await?;
        let parts = if put == Condition::Honoured { self.try_parts_condition().await? } else { put };
        Ok(Conditions { put, parts })
    }

    /// Deletes the probe if that is allowed. One that stays does no harm: the next trial overwrites it with the same
    /// bytes.
    pub(super) async fn delete_probe(&self) {
        if self.config.access == Access::ReadWrite {
            let _left = self.try_delete(&self.probe_key()).await;
        }
    }

    /// Tries whether a PUT overwrites the probe, and leaves it in the bucket.
    ///
    /// # Errors
    /// A [`Refusal`] if the store refuses the trial or does not answer: nothing is known.
    pub(super) async fn try_put_condition(&self) -> Result<Condition, Refusal> {
        for _ in 0..PUTS {
            match self.put_probe(IfNoneMatch::Sent).await {
                Ok(WriteOutcome::Stored) => {}
                Ok(WriteOutcome::KeyTaken) => return Ok(Condition::Honoured),
                Err(refusal) if may_be_the_header(&refusal) => {
                    self.put_probe(IfNoneMatch::Omitted).await?;
                    return Ok(Condition::Refused);
                }
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(Condition::Ignored)
    }

    /// Tries whether an upload in parts overwrites the probe, which must be in the bucket.
    ///
    /// # Errors
    /// A [`Refusal`] to try later if the store fails or does not answer: nothing is known.
    pub(super) async fn try_parts_condition(&self) -> Result<Condition, Refusal> {
        match self.complete_over_probe().await {
            // The store may not know uploads in parts. Then the upload of the clip itself fails and says why; until
            // then the header is not relied on.
            Err(refusal) if refusal.verdict != Verdict::TryLater => {
                tracing::debug!("an upload in parts cannot be tried: {refusal}");
                Ok(Condition::Ignored)
            }
            tried => tried,
        }
    }

    /// Tries whether the store deletes the probe, which must be in the bucket, although its `ETag` is another.
    ///
    /// # Errors
    /// A [`Refusal`] to try later if the store fails or does not answer: nothing is known.
    pub(super) async fn try_delete_condition(&self) -> Result<Condition, Refusal> {
        let key = self.probe_key();
        match self.delete_objects([(key.as_str(), NO_MD5)].into_iter(), Condition::Honoured).await {
            Ok(errors) => Ok(match errors.first() {
                Some(error) if error.code() == Some("PreconditionFailed") => Condition::Honoured,
                Some(_) => Condition::Refused,
                None => Condition::Ignored,
            }),
            Err(refusal) if may_be_the_header(&refusal) => Ok(Condition::Refused),
            Err(refusal) => Err(refusal),
        }
    }

    async fn complete_over_probe(&self) -> Result<Condition, Refusal> {
        let key = self.probe_key();
        if self.config.access == Access::ReadWrite {
            // A kill in the middle of a trial leaves an upload, which nothing else would find.
            let _aborted = self.abort_abandoned(&key, self.now().wall).await;
        }
        let (id, part, in_work) = self.begin_probe().await?;
        let upload = BegunUpload { key: &key, id: &id };
        let tried = self.complete_in_both_ways(upload, &part).await;
        if let Some(in_work) = in_work {
            in_work.end();
        }
        tried
    }

    async fn complete_in_both_ways(&self, upload: BegunUpload<'_>, part: &CompletedPart) -> Result<Condition, Refusal> {
        let refused = match self.complete_probe(upload, part, IfNoneMatch::Sent).await {
            Ok(WriteOutcome::Stored) => return Ok(Condition::Ignored),
            Ok(WriteOutcome::KeyTaken) => None,
            Err(refusal) if may_be_the_header(&refusal) => Some(refusal),
            Err(refusal) => {
                let _aborted = self.abort(upload).await;
                return Err(refusal);
            }
        };
        // Completing it over the same bytes ends the upload even where the box has no right to abort one.
        let without = self.complete_probe(upload, part, IfNoneMatch::Omitted).await;
        if without.is_err() {
            let _aborted = self.abort(upload).await;
        }
        match refused {
            None => Ok(Condition::Honoured),
            Some(_) => without.map(|_| Condition::Refused),
        }
    }

    /// Begins an upload of the probe in one part, and returns its id and the part.
    async fn begin_probe(&self) -> Result<(String, CompletedPart, Option<UploadInWork>), Refusal> {
        let (sse, sse_key) = self.encryption();
        let key = self.probe_key();
        let intended = self.intend(&key, self.now().wall).await;
        let created = self
            .client
            .create_multipart_upload()
            .bucket(&self.config.bucket)
            .key(&key)
            .content_type("text/plain")
            .storage_class(self.storage_class())
            .set_checksum_algorithm(self.wants_checksum().then_some(ChecksumAlgorithm::Sha256))
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(sse_key)
            .send()
            .await
            .map_err(|error| Refusal::of("create multipart upload", &error))?;
        let id = created.upload_id.ok_or_else(|| Refusal::later("the store named no upload"))?;
        let in_work = self.begun(&id).await;
        if let Some(intended) = intended {
            intended.end();
        }
        let part = self.send_probe_part(BegunUpload { key: &key, id: &id }).await?;
        Ok((id, part, in_work))
    }

    /// Sends the bytes of the probe as the one part of an upload, which is aborted if that fails.
    pub(super) async fn send_probe_part(&self, upload: BegunUpload<'_>) -> Result<CompletedPart, Refusal> {
        let sha256 = self.wants_checksum().then(|| sha256_base64(PROBE_BYTES));
        let sent = self
            .client
            .upload_part()
            .bucket(&self.config.bucket)
            .key(upload.key)
            .upload_id(upload.id)
            .part_number(1)
            .set_checksum_sha256(sha256.clone())
            .body(ByteStream::from_static(PROBE_BYTES))
            .send()
            .await;
        match sent {
            Ok(sent) => {
                let part = CompletedPart::builder().part_number(1).set_e_tag(sent.e_tag).set_checksum_sha256(sha256);
                Ok(part.build())
            }
            Err(error) => {
                let _aborted = self.abort(upload).await;
                Err(Refusal::of("upload part", &error))
            }
        }
    }

    async fn complete_probe(
        &self,
        upload: BegunUpload<'_>,
        part: &CompletedPart,
        header: IfNoneMatch,
    ) -> Result<WriteOutcome, Refusal> {
        match self.complete(upload, vec![part.clone()], header).await {
            Ok(_) => Ok(WriteOutcome::Stored),
            Err(error) if is_taken(&error) => Ok(WriteOutcome::KeyTaken),
            Err(error) => Err(Refusal::of("complete multipart upload", &error)),
        }
    }

    /// Puts the probe.
    ///
    /// # Errors
    /// A [`Refusal`] if the store refuses or does not answer: the probe may be in the bucket all the same.
    pub(super) async fn put_probe(&self, header: IfNoneMatch) -> Result<WriteOutcome, Refusal> {
        let sha256 = sha256_base64(PROBE_BYTES);
        match self.send_probe(&self.probe_key(), header, sha256.clone()).await {
            Ok(answer) => {
                let sent = Some(sha256.as_str()).filter(|_| self.wants_checksum());
                let receipt = answer.receipt(sent);
                receipt.check(&probe(), 0..PROBE_BYTES.len() as u64, &self.marks).await?;
                Ok(WriteOutcome::Stored)
            }
            Err(error) if is_taken(&error) => Ok(WriteOutcome::KeyTaken),
            Err(error) => Err(self.naming_settings(Refusal::of("put object", &error))),
        }
    }

    /// Puts the probe's bytes as captures are put, except that they get no lock, which would keep them from being deleted.
    ///
    /// # Errors
    /// The SDK's own error, for callers that look at the status.
    pub(super) async fn send_probe(
        &self,
        key: &str,
        header: IfNoneMatch,
        sha256: String,
    ) -> Result<PutAnswer, Failed<PutObjectError>> {
        self.send_few(key, self.probe_terms(header, self.storage_class(), sha256), PROBE_BYTES).await
    }

    /// Returns what the probe's bytes are put with where there is neither tag nor lock.
    pub(super) fn probe_terms(&self, header: IfNoneMatch, class: StorageClass, sha256: String) -> ObjectTerms<'static> {
        ObjectTerms {
            header,
            size: PROBE_BYTES.len() as u64,
            content_type: "text/plain",
            class,
            sha256: self.wants_checksum().then_some(sha256),
            metadata: &[],
            tagging: None,
            lock_mode: None,
            lock_until: None,
        }
    }

    /// Returns the key of the probe.
    pub fn probe_key(&self) -> String {
        format!("{}{PROBE}", self.config.prefix)
    }
}

/// Returns the probe as what is put.
fn probe() -> Source {
    Source {
        content: Content::Stream(Arc::new(|| Ok(Box::new(PROBE_BYTES)))),
        size: PROBE_BYTES.len() as u64,
        precedence: Precedence::Job,
        sha256: Sha256::digest(PROBE_BYTES).into(),
    }
}

/// Returns whether a refusal may be about the header: the store gave a code that this program does not know, and the
/// failure does not pass by itself.
fn may_be_the_header(refusal: &Refusal) -> bool {
    refusal.verdict == Verdict::NeedsOperator && refusal.code.is_some() && !refusal.is_known()
}
