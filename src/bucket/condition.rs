//! Whether the store honours `If-None-Match: *`, and how overwriting is avoided if it does not.
//!
//! Some stores accept the header and overwrite anyway, some refuse it, and some honour it for a PUT but not for the
//! completion of an upload in parts. AWS honours it for both (S3 User Guide, "How to prevent object overwrites with
//! conditional writes"). Any other store is tried once, with a small object of its own ([`PROBE`]).
//!
//! If the store does not honour the header, a HEAD precedes each put, and uploads of one name go one after the other.
//! Another process can still write in between; nothing prevents that. A box that may not read stores everything under
//! keys that carry the hash of the bytes, so that an overwrite puts the same bytes.
//!
//! Deciding by the kind of store (`Server: Garage`) was rejected: versions differ, and proxies stand in front of them.

use aws_sdk_s3::operation::put_object::{PutObjectError, PutObjectOutput};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use tokio::sync::OnceCell;

use super::parts::BegunUpload;
use super::wire::{Failed, code, is_taken, sha256_base64, status};
use super::{Bucket, Refusal, Verdict};
use crate::config::Access;
use crate::key::ObjectKey;

/// The name of the object that a store is tried with; it is in no camera's folder, unlike every capture.
pub const PROBE: &str = ".hk-aws-probe";

/// The bytes of the probe.
const PROBE_BYTES: &[u8] = b"hk-aws tries here what the store does with If-None-Match; this may be deleted\n";

/// The puts of a trial. The second one decides, unless another box that tries the store deleted the probe in between.
const PUTS: usize = 3;

/// How a store treats `If-None-Match: *`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It refuses to overwrite.
    Honoured,
    /// It accepts the header and overwrites.
    Ignored,
    /// It refuses the header: puts are sent without it.
    Refused,
}

/// How a store treats `If-None-Match: *` in a PUT, and in the completion of an upload in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// In `PutObject`.
    pub put: Condition,
    /// In `CompleteMultipartUpload`.
    pub parts: Condition,
}

/// Whether a request carries `If-None-Match: *`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfNoneMatch {
    Sent,
    Omitted,
}

/// What an object's key is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyForm {
    /// The object's own name: another object may have the same key.
    Own,
    /// The name with the hash of the bytes: an object under that key has the same bytes.
    WithHash,
}

/// How an object is put.
#[derive(Debug, Clone, Copy)]
pub(super) struct PutTerms {
    /// How the store treats the header in the request that stores the object.
    pub(super) condition: Condition,
    pub(super) form: KeyForm,
}

/// The answer to a request that must not overwrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    /// The object is stored.
    Stored,
    /// There is an object under the key already, and it was left as it is.
    KeyTaken,
}

/// What is known about an object before it is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    There,
    Absent,
    /// These credentials may not look.
    Unknown,
}

/// What is known about the conditional writes of a store; each fact is found out once in the life of the process.
#[derive(Debug, Default)]
pub(super) struct KnownConditions {
    put: OnceCell<Condition>,
    parts: OnceCell<Condition>,
}

impl KnownConditions {
    /// Returns the facts about AWS, which need not be tried.
    pub(super) fn aws() -> Self {
        let honoured = || OnceCell::new_with(Some(Condition::Honoured));
        Self { put: honoured(), parts: honoured() }
    }
}

impl Condition {
    /// Returns whether puts carry the header.
    pub(super) fn if_none_match(self) -> IfNoneMatch {
        match self {
            Self::Honoured | Self::Ignored => IfNoneMatch::Sent,
            Self::Refused => IfNoneMatch::Omitted,
        }
    }
}

impl IfNoneMatch {
    /// Returns the value of the header, if it is sent.
    pub(super) fn value(self) -> Option<String> {
        (self == Self::Sent).then(|| "*".to_owned())
    }
}

impl Conditions {
    /// Returns what the store lacks, as a text that continues "the store"; nothing if it honours the header everywhere.
    pub fn shortcoming(self) -> Option<&'static str> {
        match (self.put, self.parts) {
            (Condition::Honoured, Condition::Honoured) => None,
            (Condition::Honoured, _) => {
                Some("does not honour If-None-Match when an upload in parts is completed (clips of 16 MiB and more)")
            }
            (Condition::Ignored, _) => Some("accepts If-None-Match and overwrites all the same"),
            (Condition::Refused, _) => Some("refuses If-None-Match"),
        }
    }
}

impl Bucket {
    /// Returns how the store treats `If-None-Match: *` in a PUT; the first call tries it, and a shortcoming is logged.
    ///
    /// # Errors
    /// A [`Refusal`] if the store refuses the trial or does not answer: nothing is known, and the next call tries
    /// again.
    pub async fn put_condition(&self) -> Result<Condition, Refusal> {
        let ask = || async {
            let put = self.try_put_condition().await?;
            self.delete_probe().await;
            self.log_conditions(Conditions { put, parts: Condition::Honoured });
            Ok(put)
        };
        self.known.put.get_or_try_init(ask).await.copied()
    }

    /// Returns how the store treats `If-None-Match: *` when an upload in parts is completed; the first such upload
    /// tries it, and a shortcoming is logged.
    ///
    /// # Errors
    /// A [`Refusal`], as [`Bucket::put_condition`] describes.
    pub(super) async fn parts_condition(&self) -> Result<Condition, Refusal> {
        let put = self.put_condition().await?;
        if put != Condition::Honoured {
            return Ok(put);
        }
        let ask = || async {
            self.put_probe(IfNoneMatch::Sent).await?;
            let parts = self.try_parts_condition().await?;
            self.delete_probe().await;
            self.log_conditions(Conditions { put, parts });
            Ok(parts)
        };
        self.known.parts.get_or_try_init(ask).await.copied()
    }

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
    async fn delete_probe(&self) {
        if self.config.access == Access::ReadWrite {
            let _left = self.delete(&self.probe_key()).await;
        }
    }

    async fn try_put_condition(&self) -> Result<Condition, Refusal> {
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

    /// Tries an upload in parts over the probe, which must be in the bucket.
    async fn try_parts_condition(&self) -> Result<Condition, Refusal> {
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

    async fn complete_over_probe(&self) -> Result<Condition, Refusal> {
        let key = self.probe_key();
        if self.config.access == Access::ReadWrite {
            // A kill in the middle of a trial leaves an upload, which nothing else would find.
            let _aborted = self.abort_abandoned(&key).await;
        }
        let (id, part) = self.begin_probe().await?;
        let upload = BegunUpload { key: &key, id: &id };
        let refused = match self.complete_probe(upload, &part, IfNoneMatch::Sent).await {
            Ok(WriteOutcome::Stored) => return Ok(Condition::Ignored),
            Ok(WriteOutcome::KeyTaken) => None,
            Err(refusal) if may_be_the_header(&refusal) => Some(refusal),
            Err(refusal) => {
                let _aborted = self.abort(upload).await;
                return Err(refusal);
            }
        };
        // Completing it over the same bytes ends the upload even where the box has no right to abort one.
        let without = self.complete_probe(upload, &part, IfNoneMatch::Omitted).await;
        if without.is_err() {
            let _aborted = self.abort(upload).await;
        }
        match refused {
            None => Ok(Condition::Honoured),
            Some(_) => without.map(|_| Condition::Refused),
        }
    }

    /// Begins an upload of the probe in one part, and returns its id and the part.
    async fn begin_probe(&self) -> Result<(String, CompletedPart), Refusal> {
        let (sse, sse_key) = self.encryption();
        let key = self.probe_key();
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
        let sha256 = self.wants_checksum().then(|| sha256_base64(PROBE_BYTES));
        let sent = self
            .client
            .upload_part()
            .bucket(&self.config.bucket)
            .key(&key)
            .upload_id(&id)
            .part_number(1)
            .set_checksum_sha256(sha256.clone())
            .body(ByteStream::from_static(PROBE_BYTES))
            .send()
            .await;
        match sent {
            Ok(sent) => {
                let part = CompletedPart::builder().part_number(1).set_e_tag(sent.e_tag).set_checksum_sha256(sha256);
                Ok((id, part.build()))
            }
            Err(error) => {
                let _aborted = self.abort(BegunUpload { key: &key, id: &id }).await;
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
        let parts = CompletedMultipartUpload::builder().parts(part.clone()).build();
        let completed = self
            .client
            .complete_multipart_upload()
            .bucket(&self.config.bucket)
            .key(upload.key)
            .upload_id(upload.id)
            .set_if_none_match(header.value())
            .multipart_upload(parts)
            .send()
            .await;
        match completed {
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
        match self.send_probe(header, sha256_base64(PROBE_BYTES)).await {
            Ok(_) => Ok(WriteOutcome::Stored),
            Err(error) if is_taken(&error) => Ok(WriteOutcome::KeyTaken),
            Err(error) => Err(Refusal::of("put object", &error)),
        }
    }

    /// Puts the probe as captures are put, except that it gets no lock, which would keep it from being deleted.
    ///
    /// # Errors
    /// The SDK's own error, for callers that look at the status.
    pub(super) async fn send_probe(
        &self,
        header: IfNoneMatch,
        sha256: String,
    ) -> Result<PutObjectOutput, Failed<PutObjectError>> {
        let (sse, sse_key) = self.encryption();
        self.client
            .put_object()
            .bucket(&self.config.bucket)
            .key(self.probe_key())
            .set_if_none_match(header.value())
            .content_type("text/plain")
            .storage_class(self.storage_class())
            .set_checksum_sha256(self.wants_checksum().then_some(sha256))
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(sse_key)
            .body(ByteStream::from_static(PROBE_BYTES))
            .send()
            .await
    }

    /// Returns the key of the probe.
    pub fn probe_key(&self) -> String {
        format!("{}{PROBE}", self.config.prefix)
    }

    fn log_conditions(&self, found: Conditions) {
        let Some(shortcoming) = found.shortcoming() else {
            return tracing::debug!("{} honours If-None-Match", self.describe());
        };
        let instead = match self.config.access {
            Access::ReadWrite => {
                "each such key is looked at before it is written; let no other box write the same cameras"
            }
            Access::WriteOnly => {
                "as the box may not read, each such capture is stored under a name that carries its hash"
            }
        };
        tracing::warn!("{} {shortcoming}: {instead}", self.describe());
    }

    /// Returns whether a put may be sent to `key`.
    ///
    /// It always may if the store itself refuses to overwrite. Otherwise the key must be free. If the box may not look,
    /// a key counts as free only if it carries the hash of the bytes; any other counts as taken, so that the caller
    /// uses one that does.
    ///
    /// # Errors
    /// A [`Refusal`] if the store refuses to say or does not answer: nothing was put.
    pub(super) async fn is_free(&self, key: &ObjectKey, terms: PutTerms) -> Result<bool, Refusal> {
        if terms.condition == Condition::Honoured {
            return Ok(true);
        }
        Ok(match self.presence(key).await? {
            Presence::There => false,
            Presence::Absent => true,
            Presence::Unknown => terms.form == KeyForm::WithHash,
        })
    }

    async fn presence(&self, key: &ObjectKey) -> Result<Presence, Refusal> {
        if self.config.access == Access::WriteOnly {
            return Ok(Presence::Unknown);
        }
        let head = self.client.head_object().bucket(&self.config.bucket).key(key.as_str());
        match head.send().await {
            Ok(_) => Ok(Presence::There),
            Err(error) if status(&error) == Some(404) => Ok(Presence::Absent),
            Err(error) if status(&error) == Some(403) => Ok(Presence::Unknown),
            Err(error) => Err(Refusal::of("head object", &error)),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), Refusal> {
        let delete = self.client.delete_object().bucket(&self.config.bucket).key(key);
        match delete.send().await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some("NoSuchKey") => Ok(()),
            Err(error) => Err(Refusal::of("delete object", &error)),
        }
    }
}

/// Returns whether a refusal may be about the header: the store gave a code that this program does not know, and the
/// failure does not pass by itself.
fn may_be_the_header(refusal: &Refusal) -> bool {
    refusal.verdict == Verdict::NeedsOperator && refusal.code.is_some() && !refusal.is_known()
}
