//! What can be tried of the bucket with the probe's object alone, for those who ask what is wrong.

use std::time::SystemTime;

use aws_sdk_s3::error::ProvideErrorMetadata;
use chrono::DateTime;

use super::{Bucket, Condition, Conditions, Failed, PROBE, Refusal, sha256_base64, status};

/// What credentials may be needed for beside putting.
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

impl Bucket {
    /// What time it is at the store, to the second, by the `Date` of an answer; it need not be a friendly one.
    ///
    /// # Errors
    /// [`Refusal`] where there is no answer, or no date in it.
    pub async fn time(&self) -> Result<SystemTime, Refusal> {
        // Of an answer that is an error, the SDK gives the headers.
        let absent = format!("{}absent{PROBE}", self.config.prefix);
        let head = self.client.head_object().bucket(&self.config.bucket).key(absent);
        let Err(error) = head.send().await else {
            return Err(Refusal::later("there is an object where none should be"));
        };
        let Some(answer) = error.raw_response() else { return Err(Refusal::of("head object", &error)) };
        let date = answer.headers().get("date").and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        date.map(SystemTime::from).ok_or_else(|| Refusal::later("the answer of the store has no date"))
    }

    /// What the store does with `If-None-Match: *`, tried now; the probe's object is there afterwards.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn try_put(&self) -> Result<Conditions, Refusal> {
        let conditions = self.try_conditions().await?;
        match self.put_probe(false).await {
            // It is there since an earlier trial, and the bucket's policy demands the condition.
            Err(refusal)
                if conditions.at_once == Condition::Honoured && refusal.code.as_deref() == Some("AccessDenied") => {}
            other => _ = other?,
        }
        Ok(conditions)
    }

    /// Whether the store refuses an object whose SHA-256 is wrong; `None` where none is sent.
    ///
    /// # Errors
    /// [`Refusal`] for another reason.
    pub async fn refuses_wrong_checksum(&self) -> Result<Option<bool>, Refusal> {
        if !self.wants_checksum() {
            return Ok(None);
        }
        match self.send_probe(false, sha256_base64(b"something else")).await {
            Ok(_) => Ok(Some(false)),
            // The codes differ from store to store, but the same object with the right one is known to be taken.
            Err(error) if matches!(status(&error), Some(400..=402 | 404..=499)) => Ok(Some(true)),
            Err(error) => Err(Refusal::of("put object", &error)),
        }
    }

    /// Whether the credentials have a right, tried on the probe's object.
    ///
    /// # Errors
    /// [`Refusal`] where the answer is neither yes nor no.
    pub async fn has_right(&self, right: Right) -> Result<bool, Refusal> {
        let (bucket, key) = (&self.config.bucket, self.probe_key());
        match right {
            Right::Read => answer(self.client.head_object().bucket(bucket).key(key).send().await),
            Right::List => {
                let list = self.client.list_objects_v2().bucket(bucket).prefix(key).max_keys(1);
                answer(list.send().await)
            }
            Right::ListUploads => {
                let list = self.client.list_multipart_uploads().bucket(bucket).prefix(key).max_uploads(1);
                answer(list.send().await)
            }
            Right::Delete => {
                let delete = self.client.delete_object().bucket(bucket).key(key);
                answer(delete.send().await)
            }
        }
    }
}

fn answer<T, E>(answer: Result<T, Failed<E>>) -> Result<bool, Refusal>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match answer {
        Ok(_) => Ok(true),
        Err(error) if status(&error) == Some(403) => Ok(false),
        // Only who may look is told that there is nothing.
        Err(error) if status(&error) == Some(404) => Ok(true),
        Err(error) => Err(Refusal::of("try the bucket", &error)),
    }
}
