//! Whether the store honours `If-None-Match: *`, and how overwriting is avoided if it does not.
//!
//! Some stores accept the header and overwrite anyway, some refuse it, and some honour it for a PUT but not for the
//! completion of an upload in parts. AWS honours it for both (S3 User Guide, "How to prevent object overwrites with
//! conditional writes"). Any other store is tried with a small object of its own ([`PROBE`](super::PROBE)): at the start,
//! after each outage, and once a day.
//!
//! If the store does not honour the header, a HEAD precedes each put, and uploads of one name go one after the other.
//! Another process can still write in between; nothing prevents that. A box that may not read stores everything under
//! keys that carry the hash of the bytes, so that an overwrite puts the same bytes.
//!
//! Deciding by the kind of store (`Server: Garage`) was rejected: versions differ, and proxies stand in front of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::wire::status;
use super::{Bucket, Refusal};
use crate::config::Access;
use crate::key::ObjectKey;
use crate::message;

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
    /// The object's own name, or one with the beginning of the hash: another object may have the same key.
    Own,
    /// The name with the whole hash of the bytes: whoever puts under that key puts the same bytes.
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

/// Why a put may not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// There is an object under the key, which the store would overwrite.
    Object,
    /// There may be one: these credentials may not look.
    Unknown,
}

/// What is known about an object before it is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    There,
    Absent,
    /// These credentials may not look.
    Unknown,
}

/// How long what was found out about a store is relied on: it may be replaced or rolled back without an outage.
const ASKED_AGAIN: Duration = Duration::from_hours(24);

/// What is known about the conditional writes of a store.
#[derive(Debug, Default)]
pub(super) struct KnownConditions {
    put: Fact,
    parts: Fact,
    delete: Fact,
    /// Counts how often everything was forgotten.
    round: AtomicU64,
}

/// One thing that a store was asked; whoever wants to know waits while it is asked.
#[derive(Debug, Default)]
struct Fact(Mutex<Option<Answer>>);

#[derive(Debug, Clone, Copy)]
struct Answer {
    condition: Condition,
    at: Instant,
    round: u64,
}

impl KnownConditions {
    /// Asks again whatever is wanted next.
    pub(super) fn forget(&self) {
        self.round.fetch_add(1, Ordering::Relaxed);
    }
}

impl Fact {
    /// Returns the answer, and whether it is another than before; `ask` is called if it is not known any more.
    async fn get<E>(
        &self,
        round: u64,
        now: Instant,
        ask: impl Future<Output = Result<Condition, E>>,
    ) -> Result<(Condition, bool), E> {
        let mut known = self.0.lock().await;
        let is_fresh =
            |answer: &Answer| answer.round == round && now.saturating_duration_since(answer.at) < ASKED_AGAIN;
        if let Some(answer) = known.filter(is_fresh) {
            return Ok((answer.condition, false));
        }
        let condition = ask.await?;
        let is_news =
            known.replace(Answer { condition, at: now, round }).is_none_or(|before| before.condition != condition);
        Ok((condition, is_news))
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
    /// Returns how the store treats `If-None-Match: *` in a PUT. It is tried if it is not known, or not known any more; a
    /// shortcoming is logged.
    ///
    /// # Errors
    /// A [`Refusal`] if the store refuses the trial or does not answer: nothing is known, and the next call tries
    /// again.
    pub async fn put_condition(&self) -> Result<Condition, Refusal> {
        // A trial is rare, and its requests are large: they must not make every put as large.
        let ask = Box::pin(async {
            let put = self.try_put_condition().await?;
            self.delete_probe().await;
            Ok(put)
        });
        let (put, is_news) = self.ask(&self.known.put, ask).await?;
        if is_news {
            self.log_conditions(Conditions { put, parts: Condition::Honoured });
        }
        Ok(put)
    }

    /// Returns how the store treats `If-None-Match: *` when an upload in parts is completed, as
    /// [`Bucket::put_condition`] does.
    ///
    /// # Errors
    /// A [`Refusal`], as [`Bucket::put_condition`] describes.
    pub(super) async fn parts_condition(&self) -> Result<Condition, Refusal> {
        let put = self.put_condition().await?;
        if put != Condition::Honoured {
            return Ok(put);
        }
        let ask = Box::pin(async {
            self.put_probe(IfNoneMatch::Sent).await?;
            let parts = self.try_parts_condition().await?;
            self.delete_probe().await;
            Ok(parts)
        });
        let (parts, is_news) = self.ask(&self.known.parts, ask).await?;
        if is_news {
            self.log_conditions(Conditions { put, parts });
        }
        Ok(parts)
    }

    /// Returns how the store treats the `ETag` of an object that is to be deleted, as [`Bucket::put_condition`] does.
    ///
    /// # Errors
    /// A [`Refusal`], as [`Bucket::put_condition`] describes: nothing is deleted.
    pub(super) async fn delete_condition(&self) -> Result<Condition, Refusal> {
        let put = self.put_condition().await?;
        let ask = Box::pin(async {
            self.put_probe(put.if_none_match()).await?;
            let delete = self.try_delete_condition().await?;
            self.delete_probe().await;
            Ok(delete)
        });
        let (delete, is_news) = self.ask(&self.known.delete, ask).await?;
        if is_news && delete != Condition::Honoured {
            tracing::debug!("{} deletes an object whatever its ETag is", self.describe());
        }
        Ok(delete)
    }

    /// Returns a fact about the store, and whether it is another than before; AWS is known to honour all conditions.
    async fn ask(
        &self,
        fact: &Fact,
        ask: impl Future<Output = Result<Condition, Refusal>>,
    ) -> Result<(Condition, bool), Refusal> {
        if self.is_aws().await? {
            return Ok((Condition::Honoured, false));
        }
        fact.get(self.known.round.load(Ordering::Relaxed), self.now().steady, ask).await
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
        tracing::warn!(message_id = message::STORE_OVERWRITES, "{} {shortcoming}: {instead}", self.describe());
    }

    /// Returns why a put may not be sent to `key`; `None` if it may.
    ///
    /// It always may if the store itself refuses to overwrite. Otherwise the key must be free. If the box may not look,
    /// only a key that carries the whole hash of the bytes counts as free.
    ///
    /// # Errors
    /// A [`Refusal`] if the store refuses to say or does not answer: nothing was put.
    pub(super) async fn obstacle(&self, key: &ObjectKey, terms: PutTerms) -> Result<Option<Obstacle>, Refusal> {
        if terms.condition == Condition::Honoured {
            return Ok(None);
        }
        Ok(match self.presence(key).await? {
            Presence::There => Some(Obstacle::Object),
            Presence::Absent => None,
            Presence::Unknown => (terms.form == KeyForm::Own).then_some(Obstacle::Unknown),
        })
    }

    async fn presence(&self, key: &ObjectKey) -> Result<Presence, Refusal> {
        if self.config.access == Access::WriteOnly {
            return Ok(Presence::Unknown);
        }
        match self.head_object(key.as_str(), None).await {
            Ok(_) => Ok(Presence::There),
            Err(error) if status(&error) == Some(404) => Ok(Presence::Absent),
            Err(error) if status(&error) == Some(403) => Ok(Presence::Unknown),
            Err(error) => Err(Refusal::of("head object", &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[tokio::test]
    async fn what_a_store_does_is_asked_again_after_a_day_and_when_it_was_forgotten() {
        use Condition::{Honoured, Ignored};
        #[expect(clippy::disallowed_methods, reason = "only the distances count")]
        let start = Instant::now();
        let fact = Fact::default();
        let after = async |hours, round, told| {
            let now = start + Duration::from_hours(hours);
            fact.get(round, now, async { Ok::<_, Infallible>(told) }).await.unwrap()
        };
        assert_eq!(after(0, 0, Honoured).await, (Honoured, true));
        assert_eq!(after(23, 0, Ignored).await, (Honoured, false), "it is not asked");
        assert_eq!(after(24, 0, Ignored).await, (Ignored, true));
        assert_eq!(after(25, 1, Honoured).await, (Honoured, true), "it was forgotten");
        assert_eq!(after(49, 1, Honoured).await, (Honoured, false), "asked, and nothing new");
    }
}
