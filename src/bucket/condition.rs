//! Whether the store honours `If-None-Match: *`, found out by trying, and what takes its place where it does not.
//!
//! There are stores that accept the condition and overwrite all the same, stores that refuse it, and stores that honour
//! it for a PUT and not when an upload in parts is completed. AWS honours it for both (S3 User Guide, "How to prevent
//! object overwrites with conditional writes"); any other store is asked once, with an object of its own that holds a
//! few bytes. Where it does not: HEAD before PUT, one upload of a name at a time. Another process can still come in
//! between, and nothing can be done about that. A box that may not read either puts everything under names that carry
//! the hash of the bytes, where whoever overwrites puts the same bytes.
//!
//! Asking by the kind of store (`Server: Garage`) was rejected: versions differ, and proxies stand before them.

use aws_sdk_s3::operation::put_object::{PutObjectError, PutObjectOutput};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use tokio::sync::OnceCell;

use super::{Bucket, Failed, Refusal, Verdict, code, is_taken, status};
use crate::config::Access;
use crate::key::ObjectKey;

/// The name of the object that is put to find out: it lies in no camera's folder, as every capture does.
pub const PROBE: &str = ".hk-aws-probe";

pub(super) const PROBE_BYTES: &[u8] =
    b"hk-aws tries here what the store does with If-None-Match; this may be deleted\n";

/// Two puts tell. The third is for another box that took the object away between them, as it found it there.
const PUTS: usize = 3;

/// What a store does with `If-None-Match: *`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It refuses to overwrite.
    Honoured,
    /// It accepts the condition and overwrites.
    Ignored,
    /// It refuses the condition itself: puts go without it.
    Refused,
}

/// What a store does with the condition of a PUT, and with that of an upload in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// Of `PutObject`.
    pub at_once: Condition,
    /// Of `CompleteMultipartUpload`.
    pub in_parts: Condition,
}

impl Condition {
    /// The header of a put.
    pub(super) fn header(self) -> Option<String> {
        (self != Self::Refused).then(|| "*".to_owned())
    }
}

impl Conditions {
    /// What is amiss, after "the store"; `None` where nothing is.
    pub fn shortcoming(self) -> Option<&'static str> {
        match (self.at_once, self.in_parts) {
            (Condition::Honoured, Condition::Honoured) => None,
            (Condition::Honoured, _) => {
                Some("does not honour If-None-Match where clips of 16 MiB and more are completed")
            }
            (Condition::Ignored, _) => Some("accepts If-None-Match and overwrites all the same"),
            (Condition::Refused, _) => Some("refuses If-None-Match"),
        }
    }
}

/// How an object is put.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// What the store does with the condition on this way.
    pub(super) condition: Condition,
    /// Whether the key carries the hash of the bytes.
    pub(super) hashed: bool,
}

/// What is known of a store, for as long as the process runs.
#[derive(Debug, Default)]
pub(super) struct Known {
    at_once: OnceCell<Condition>,
    in_parts: OnceCell<Condition>,
}

impl Known {
    /// As of AWS, which need not be asked.
    pub(super) fn aws() -> Self {
        let honoured = || OnceCell::new_with(Some(Condition::Honoured));
        Self { at_once: honoured(), in_parts: honoured() }
    }
}

impl Bucket {
    /// What the store does with `If-None-Match: *` of a PUT: asked once, and said in the log.
    ///
    /// # Errors
    /// [`Refusal`]: then it is asked again by the next who wants to know.
    pub async fn condition_at_once(&self) -> Result<Condition, Refusal> {
        let ask = || async {
            let at_once = self.try_at_once().await?;
            self.take_probe_away().await;
            self.say_conditions(Conditions { at_once, in_parts: Condition::Honoured });
            Ok(at_once)
        };
        self.known.at_once.get_or_try_init(ask).await.copied()
    }

    /// The same of an upload in parts: not asked before there is one.
    ///
    /// # Errors
    /// [`Refusal`]: then it is asked again by the next who wants to know.
    pub(super) async fn condition_in_parts(&self) -> Result<Condition, Refusal> {
        let at_once = self.condition_at_once().await?;
        if at_once != Condition::Honoured {
            return Ok(at_once);
        }
        let ask = || async {
            self.put_probe(true).await?;
            let in_parts = self.try_in_parts().await?;
            self.take_probe_away().await;
            self.say_conditions(Conditions { at_once, in_parts });
            Ok(in_parts)
        };
        self.known.in_parts.get_or_try_init(ask).await.copied()
    }

    /// Tries both ways, whatever is known; the probe's object is there afterwards.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(super) async fn try_conditions(&self) -> Result<Conditions, Refusal> {
        let at_once = self.try_at_once().await?;
        let in_parts = if at_once == Condition::Honoured { self.try_in_parts().await? } else { at_once };
        Ok(Conditions { at_once, in_parts })
    }

    /// Deletes the probe's object where that is allowed; one that stays is overwritten with itself the next time.
    async fn take_probe_away(&self) {
        if self.config.access == Access::ReadWrite {
            let _left = self.delete(&self.probe_key()).await;
        }
    }

    async fn try_at_once(&self) -> Result<Condition, Refusal> {
        for _ in 0..PUTS {
            match self.put_probe(true).await {
                Ok(true) => {}
                Ok(false) => return Ok(Condition::Honoured),
                Err(refusal) if may_be_the_condition(&refusal) => {
                    self.put_probe(false).await?;
                    return Ok(Condition::Refused);
                }
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(Condition::Ignored)
    }

    /// Tries an upload in parts over the probe's object, which must be there.
    async fn try_in_parts(&self) -> Result<Condition, Refusal> {
        match self.complete_over_probe().await {
            // A store without such uploads, or what else it may be: the clip itself will tell, and is put with care.
            Err(refusal) if refusal.verdict != Verdict::TryLater => {
                tracing::debug!("an upload in parts cannot be tried: {refusal}");
                Ok(Condition::Ignored)
            }
            tried => tried,
        }
    }

    async fn complete_over_probe(&self) -> Result<Condition, Refusal> {
        if self.config.access == Access::ReadWrite {
            // A kill in the middle of this leaves one, and nothing else comes by here.
            let _aborted = self.abort_abandoned(&self.probe_key()).await;
        }
        let (upload, part) = self.begin_probe().await?;
        let refused = match self.complete_probe(&upload, &part, true).await {
            Ok(true) => return Ok(Condition::Ignored),
            Ok(false) => None,
            Err(refusal) if may_be_the_condition(&refusal) => Some(refusal),
            Err(refusal) => {
                let _aborted = self.abort(&self.probe_key(), &upload).await;
                return Err(refusal);
            }
        };
        // Completed over the same bytes, nothing is left of it, also where nothing may be aborted.
        let without = self.complete_probe(&upload, &part, false).await;
        if without.is_err() {
            let _aborted = self.abort(&self.probe_key(), &upload).await;
        }
        match refused {
            None => Ok(Condition::Honoured),
            Some(_) => without.map(|_| Condition::Refused),
        }
    }

    /// Begins an upload of the probe's object in one part; gives back its id and the part.
    async fn begin_probe(&self) -> Result<(String, CompletedPart), Refusal> {
        let (sse, sse_key) = self.encryption();
        let created = self
            .client
            .create_multipart_upload()
            .bucket(&self.config.bucket)
            .key(self.probe_key())
            .content_type("text/plain")
            .storage_class(self.storage_class())
            .set_checksum_algorithm(self.wants_checksum().then_some(ChecksumAlgorithm::Sha256))
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(sse_key)
            .send()
            .await
            .map_err(|error| Refusal::of("create multipart upload", &error))?;
        let upload = created.upload_id.ok_or_else(|| Refusal::later("the store named no upload"))?;
        let sha256 = self.wants_checksum().then(|| super::sha256_base64(PROBE_BYTES));
        let sent = self
            .client
            .upload_part()
            .bucket(&self.config.bucket)
            .key(self.probe_key())
            .upload_id(&upload)
            .part_number(1)
            .set_checksum_sha256(sha256.clone())
            .body(ByteStream::from_static(PROBE_BYTES))
            .send()
            .await;
        match sent {
            Ok(sent) => {
                let part = CompletedPart::builder().part_number(1).set_e_tag(sent.e_tag).set_checksum_sha256(sha256);
                Ok((upload, part.build()))
            }
            Err(error) => {
                let _aborted = self.abort(&self.probe_key(), &upload).await;
                Err(Refusal::of("upload part", &error))
            }
        }
    }

    /// Completes that upload; false where the store refuses to overwrite.
    async fn complete_probe(&self, upload: &str, part: &CompletedPart, conditional: bool) -> Result<bool, Refusal> {
        let parts = CompletedMultipartUpload::builder().parts(part.clone()).build();
        let completed = self
            .client
            .complete_multipart_upload()
            .bucket(&self.config.bucket)
            .key(self.probe_key())
            .upload_id(upload)
            .set_if_none_match(conditional.then(|| "*".to_owned()))
            .multipart_upload(parts)
            .send()
            .await;
        match completed {
            Ok(_) => Ok(true),
            Err(error) if is_taken(&error) => Ok(false),
            Err(error) => Err(Refusal::of("complete multipart upload", &error)),
        }
    }

    /// Puts the probe's object; false where it is there.
    pub(super) async fn put_probe(&self, conditional: bool) -> Result<bool, Refusal> {
        match self.send_probe(conditional, super::sha256_base64(PROBE_BYTES)).await {
            Ok(_) => Ok(true),
            Err(error) if is_taken(&error) => Ok(false),
            Err(error) => Err(Refusal::of("put object", &error)),
        }
    }

    /// Puts the probe's object as captures are put, but for the lock: it would stay.
    pub(super) async fn send_probe(
        &self,
        conditional: bool,
        sha256: String,
    ) -> Result<PutObjectOutput, Failed<PutObjectError>> {
        let (sse, sse_key) = self.encryption();
        self.client
            .put_object()
            .bucket(&self.config.bucket)
            .key(self.probe_key())
            .set_if_none_match(conditional.then(|| "*".to_owned()))
            .content_type("text/plain")
            .storage_class(self.storage_class())
            .set_checksum_sha256(self.wants_checksum().then_some(sha256))
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(sse_key)
            .body(ByteStream::from_static(PROBE_BYTES))
            .send()
            .await
    }

    /// The key of the probe's object.
    pub fn probe_key(&self) -> String {
        format!("{}{PROBE}", self.config.prefix)
    }

    fn say_conditions(&self, found: Conditions) {
        let Some(what) = found.shortcoming() else {
            return tracing::debug!("{} honours If-None-Match", self.describe());
        };
        let instead = match self.config.access {
            Access::ReadWrite => {
                "each such key is looked at before it is written; let no other box write the same cameras"
            }
            Access::WriteOnly => "as nothing may be read there, each is stored under a name that carries its hash",
        };
        tracing::warn!("{} {what}: {instead}", self.describe());
    }

    /// Whether a put may go to `key`. Where the store itself refuses to overwrite, it may always be tried; a key that
    /// carries the hash holds the same bytes if any.
    pub(super) async fn is_free(&self, key: &ObjectKey, terms: Terms) -> Result<bool, Refusal> {
        if terms.condition == Condition::Honoured {
            return Ok(true);
        }
        // What may not be looked at counts as taken, so that it goes under a hashed key.
        Ok(self.is_there(key).await?.map_or(terms.hashed, |there| !there))
    }

    /// Whether there is an object under `key`; `None` where we may not know.
    async fn is_there(&self, key: &ObjectKey) -> Result<Option<bool>, Refusal> {
        if self.config.access == Access::WriteOnly {
            return Ok(None);
        }
        let head = self.client.head_object().bucket(&self.config.bucket).key(key.as_str());
        match head.send().await {
            Ok(_) => Ok(Some(true)),
            Err(error) if status(&error) == Some(404) => Ok(Some(false)),
            Err(error) if status(&error) == Some(403) => Ok(None),
            Err(error) => Err(Refusal::of("head object", &error)),
        }
    }

    /// Deletes an object; one that is not there is no fault.
    pub(super) async fn delete(&self, key: &str) -> Result<(), Refusal> {
        let delete = self.client.delete_object().bucket(&self.config.bucket).key(key);
        match delete.send().await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some("NoSuchKey") => Ok(()),
            Err(error) => Err(Refusal::of("delete object", &error)),
        }
    }
}

/// Whether a refusal may be about the header: it is about nothing that we know, and does not pass by itself.
fn may_be_the_condition(refusal: &Refusal) -> bool {
    refusal.verdict == Verdict::NeedsOperator && refusal.code.is_some() && !refusal.is_known()
}
