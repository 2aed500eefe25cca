//! Trials of the bucket with the probe alone, for `hk-aws doctor`.

use std::time::SystemTime;

use aws_sdk_s3::error::ProvideErrorMetadata;
use chrono::DateTime;

use super::condition::IfNoneMatch;
use super::uploads::OwnUploads;
use super::wire::{Failed, code, sha256_base64, status};
use super::{Bucket, Condition, Conditions, PROBE, Refusal};

/// The rights, other than to put, that credentials may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// `s3:GetObject`.
    Read,
    /// `s3:ListBucket`.
    List,
    /// `s3:ListBucketMultipartUploads`.
    ListUploads,
    /// `s3:DeleteObject`.
    Delete,
}

/// What a store does with an object whose SHA-256 is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongChecksum {
    /// It refuses the object.
    Refused,
    /// It stores the object.
    Accepted,
    /// It is not known: the configuration sends no checksums.
    NotSent,
}

impl Bucket {
    /// Returns the store's time, to the second, from the `Date` of an answer; any answer will do, also one of failure.
    ///
    /// # Errors
    /// A [`Refusal`] if the store does not answer, or its answer has no date: the clocks cannot be compared.
    pub async fn time(&self) -> Result<SystemTime, Refusal> {
        // The SDK gives the headers of an answer only if it is an error, so this asks for an object that does not
        // exist.
        let absent = format!("{}absent{PROBE}", self.config.prefix);
        let head = self.client.head_object().bucket(&self.config.bucket).key(absent);
        let Err(error) = head.send().await else {
            return Err(Refusal::later("there is an object where none should be"));
        };
        let Some(answer) = error.raw_response() else { return Err(Refusal::of("head object", &error)) };
        let date = answer.headers().get("date").and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        date.map(SystemTime::from).ok_or_else(|| Refusal::later("the store's answer has no date"))
    }

    /// Returns how the store treats `If-None-Match: *`, tried now, and leaves the probe in the bucket.
    ///
    /// # Errors
    /// A [`Refusal`] if the store refuses the probe or does not answer: captures cannot be stored either.
    pub async fn try_put(&self) -> Result<Conditions, Refusal> {
        // Not even what is begun is written down.
        let conditions = Self { uploads: OwnUploads::default(), ..self.clone() }.try_conditions().await?;
        match self.put_probe(IfNoneMatch::Omitted).await {
            Ok(_) => Ok(conditions),
            // The bucket's policy demands the header. The probe is there: the store refused to overwrite it.
            Err(refusal)
                if conditions.put == Condition::Honoured && refusal.code.as_deref() == Some("AccessDenied") =>
            {
                Ok(conditions)
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Returns what the store does with an object whose SHA-256 is wrong.
    ///
    /// # Errors
    /// A [`Refusal`] if the store fails or does not answer: nothing is known.
    pub async fn try_wrong_checksum(&self) -> Result<WrongChecksum, Refusal> {
        if !self.wants_checksum() {
            return Ok(WrongChecksum::NotSent);
        }
        let wrong = sha256_base64(b"something else");
        let mut sent = self.send_probe(&self.probe_key(), IfNoneMatch::Omitted, wrong.clone()).await;
        if sent.as_ref().is_err_and(|error| code(error) == Some("AccessDenied")) {
            // The bucket's policy demands the header, which only works on a key that is free.
            sent = self.send_probe(&format!("{}wrong{PROBE}", self.config.prefix), IfNoneMatch::Sent, wrong).await;
        }
        match sent {
            Ok(_) => Ok(WrongChecksum::Accepted),
            // The codes differ from store to store, but the same object is known to be accepted with the right
            // checksum.
            Err(error) if matches!(status(&error), Some(400..=402 | 404..=499)) => Ok(WrongChecksum::Refused),
            Err(error) => Err(Refusal::of("put object", &error)),
        }
    }

    /// Returns whether the credentials have a right, tried on the probe.
    ///
    /// # Errors
    /// A [`Refusal`] if the store does not answer, or its answer is neither yes nor no.
    pub async fn has_right(&self, right: Right) -> Result<bool, Refusal> {
        let (bucket, key) = (&self.config.bucket, self.probe_key());
        match right {
            Right::Read => is_allowed(self.client.head_object().bucket(bucket).key(key).send().await),
            Right::List => {
                let list = self.client.list_objects_v2().bucket(bucket).prefix(key).max_keys(1);
                is_allowed(list.send().await)
            }
            Right::ListUploads => {
                let list = self.client.list_multipart_uploads().bucket(bucket).prefix(key).max_uploads(1);
                is_allowed(list.send().await)
            }
            Right::Delete => {
                let delete = self.client.delete_object().bucket(bucket).key(key);
                is_allowed(delete.send().await)
            }
        }
    }
}

fn is_allowed<T, E>(answer: Result<T, Failed<E>>) -> Result<bool, Refusal>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match answer {
        Ok(_) => Ok(true),
        Err(error) if status(&error) == Some(403) => Ok(false),
        // Without the right the answer would be 403, whether or not the object exists.
        Err(error) if status(&error) == Some(404) => Ok(true),
        Err(error) => Err(Refusal::of("try the bucket", &error)),
    }
}
