//! The sample: a small object that is put as captures are, at once and in parts, for `hk-aws doctor`.
//!
//! It carries the class, tags, lock, encryption and checksum that the configuration sets. Its name is made of these
//! settings, so that one that a write-only box left behind answers for the same settings only: S3 decides who may put
//! what before it looks whether the key is taken.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ChecksumAlgorithm, StorageClass};
use sha2::{Digest, Sha256};

use super::condition::{Condition, IfNoneMatch};
use super::direct::ObjectTerms;
use super::objects::is_cold;
use super::parts::BegunUpload;
use super::probe::PROBE_BYTES;
use super::uploads::OwnUploads;
use super::wire::{NULL_VERSION, is_taken, sha256_base64};
use super::{About, Bucket, Conditions, PROBE, Refusal, RestoreAsked, Tier, Verdict};

/// The length of the sample's lock: longer than a clock may be off before S3 refuses its requests (15 minutes), and short,
/// as nobody can delete the sample before.
const LOCKED_FOR: Duration = Duration::from_hours(1);

const TAGS_ADVICE: &str =
    "the store refuses tags: allow s3:PutObjectTagging to these credentials, or set s3.tags to false";

const LOCK_ADVICE: &str = "the store does not lock objects: use a bucket that was made with object lock (`hk-aws aws-template` \
                           shows one) and allow s3:PutObjectRetention to these credentials, or remove s3.object_lock";

const PARTS_ADVICE: &str = "the store takes no uploads in parts, in which clips of 16 MiB and more go up: allow s3:PutObject to these \
                            credentials for them too, or use another store";

/// What a put of the sample shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriedPut {
    /// How the store treats `If-None-Match: *`.
    pub conditions: Conditions,
    /// Whether the sample was overwritten by a put without that header.
    pub overwrote: bool,
    /// The version of the sample, if the store named one.
    pub version: Option<String>,
    /// The key of the sample.
    pub key: String,
}

/// What a store does with a bundle of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TriedClass {
    /// It stores it, and gives it back.
    Fits,
    /// It stores it in another class.
    Other(String),
    /// It stores it, but refuses to restore it.
    NoRestore(Refusal),
}

/// What the sample carries, and how it goes up.
#[derive(Debug, Clone, Copy)]
struct Sample<'a> {
    way: Way,
    class: &'a str,
    tags: bool,
    lock_until: Option<SystemTime>,
}

/// The `ETag` of the sample, empty if the answer had none, and its version; no `ETag` if the key was taken.
type SampleAnswer = (Option<String>, Option<String>);

/// How the sample goes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    AtOnce,
    InParts,
}

/// The answer to a put of the sample.
enum SamplePut {
    Stored { version: Option<String> },
    KeyTaken,
}

impl Bucket {
    /// Tries how the store treats `If-None-Match: *`, and puts the sample with and without it. Leaves the probe and the
    /// sample in the bucket.
    ///
    /// # Errors
    /// A [`Refusal`] if the store refuses one of them or does not answer: captures cannot be stored either. Its advice names
    /// the setting that the store refuses.
    pub async fn try_put(&self, now: SystemTime) -> Result<TriedPut, Refusal> {
        // Not even what is begun is written down.
        let conditions = Self { uploads: OwnUploads::default(), ..self.clone() }.try_conditions().await?;
        let sample = self.sample(&self.config.storage_class, now);
        let key = self.sample_key(sample);
        self.put_all_of(sample, conditions.put).await?;
        match self.put_sample(sample, IfNoneMatch::Omitted).await {
            Ok(SamplePut::Stored { version }) => Ok(TriedPut { conditions, overwrote: true, version, key }),
            Ok(SamplePut::KeyTaken) => Err(Refusal::later("the store refuses to overwrite without being asked to")),
            // The bucket's policy demands the header. The sample is there: the store refused to overwrite it.
            Err(refusal)
                if conditions.put == Condition::Honoured && refusal.code.as_deref() == Some("AccessDenied") =>
            {
                let version = self.head(&key).await.ok().flatten().and_then(|head| head.version);
                Ok(TriedPut { conditions, overwrote: false, version, key })
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Tries whether the store takes an upload in parts that carries what each clip carries. Returns the key of the sample,
    /// which is left in the bucket, and a [`Refusal`] if clips cannot be stored. Its advice names the setting that the store
    /// refuses.
    pub async fn try_put_in_parts(&self, put: &TriedPut, now: SystemTime) -> (String, Result<(), Refusal>) {
        let sample = Sample { way: Way::InParts, ..self.sample(&self.config.storage_class, now) };
        let tried = self.put_all_of(sample, put.conditions.parts).await;
        (self.sample_key(sample), tried)
    }

    /// Puts the sample, and looks whether it is locked if it was to be.
    ///
    /// # Errors
    /// A [`Refusal`] with advice about the setting because of which the store refuses.
    async fn put_all_of(&self, sample: Sample<'_>, condition: Condition) -> Result<(), Refusal> {
        if let Err(refusal) = self.put_sample(sample, condition.if_none_match()).await {
            return Err(self.blame(sample, refusal).await);
        }
        if sample.lock_until.is_some() && self.is_unlocked(&self.sample_key(sample)).await {
            let reason =
                format!("failed to {}: the store took an object with a lock, and did not lock it", sample.way.verb());
            let advice = LOCK_ADVICE.to_owned();
            return Err(Refusal { verdict: Verdict::NeedsOperator, code: None, reason, advice });
        }
        Ok(())
    }

    /// Tries whether the store knows a class, and gives back what it has in it, with a sample of that class. Returns the key
    /// of the sample, which is left in the bucket, and a [`Refusal`] if the store refuses the sample or a look at it.
    pub async fn try_class(
        &self,
        class: &str,
        put: &TriedPut,
        now: SystemTime,
    ) -> (String, Result<TriedClass, Refusal>) {
        let sample = self.sample(class, now);
        let key = self.sample_key(sample);
        let tried = self.put_and_restore(sample, &key, put.conditions.put).await;
        (key, tried)
    }

    async fn put_and_restore(&self, sample: Sample<'_>, key: &str, put: Condition) -> Result<TriedClass, Refusal> {
        self.put_sample(sample, put.if_none_match()).await?;
        let head = self.head(key).await?.ok_or_else(|| Refusal::later("the object vanished"))?;
        if head.storage_class != sample.class {
            return Ok(TriedClass::Other(head.storage_class));
        }
        if !is_cold(sample.class) {
            return Ok(TriedClass::Fits);
        }
        match self.restore(key, Tier::Bulk, 1).await {
            Ok(RestoreAsked::Begun | RestoreAsked::Ongoing | RestoreAsked::NotCold) => Ok(TriedClass::Fits),
            // The class may be a mere label: then the object can be read as it is.
            Err(refusal) if refusal.verdict == Verdict::NeedsOperator && !self.reads(key).await => {
                Ok(TriedClass::NoRestore(refusal))
            }
            Err(refusal) if refusal.verdict == Verdict::NeedsOperator => Ok(TriedClass::Fits),
            Err(refusal) => Err(refusal),
        }
    }

    /// Returns whether an object is known to have no lock; without the right to look, nothing is known.
    async fn is_unlocked(&self, key: &str) -> bool {
        let no_lock = matches!(self.head(key).await, Ok(Some(head)) if head.locked_until.is_none());
        no_lock && matches!(self.sees_locks(key).await, Ok(true))
    }

    async fn reads(&self, key: &str) -> bool {
        self.client.get_object().bucket(&self.config.bucket).key(key).send().await.is_ok()
    }

    fn sample<'a>(&self, class: &'a str, now: SystemTime) -> Sample<'a> {
        let lock_until = self.config.object_lock.map(|_| now + LOCKED_FOR);
        Sample { way: Way::AtOnce, class, tags: self.config.tags, lock_until }
    }

    fn sample_key(&self, Sample { way, class, tags, lock_until }: Sample<'_>) -> String {
        let lock = lock_until.and(self.config.object_lock).map(|lock| lock.mode);
        let settings = format!("{class} {tags} {lock:?} {:?} {}", self.config.sse, self.wants_checksum());
        let hash = hex::encode(&Sha256::digest(settings)[..4]);
        let way = if way == Way::InParts { "-parts" } else { "" };
        format!("{}{hash}{way}{PROBE}", self.config.prefix)
    }

    async fn put_sample(&self, sample: Sample<'_>, header: IfNoneMatch) -> Result<SamplePut, Refusal> {
        let (etag, version) = match sample.way {
            Way::AtOnce => self.put_at_once(sample, header).await?,
            Way::InParts => self.put_in_one_part(sample, header).await?,
        };
        match etag {
            None => Ok(SamplePut::KeyTaken),
            Some(etag) if etag.is_empty() => Err(Refusal::without_etag(sample.way.verb())),
            Some(_) => Ok(SamplePut::Stored { version: version.filter(|version| version != NULL_VERSION) }),
        }
    }

    async fn put_at_once(&self, sample: Sample<'_>, header: IfNoneMatch) -> Result<SampleAnswer, Refusal> {
        let terms = ObjectTerms {
            tagging: self.tagging_of(sample),
            lock_mode: sample.lock_until.and_then(|until| self.lock(until).0),
            lock_until: sample.lock_until.map(DateTime::from),
            ..self.probe_terms(header, StorageClass::from(sample.class), sha256_base64(PROBE_BYTES))
        };
        match self.send_few(&self.sample_key(sample), terms, PROBE_BYTES).await {
            Ok(answer) => Ok((Some(answer.etag.unwrap_or_default()), answer.version)),
            Err(error) if is_taken(&error) => Ok((None, None)),
            Err(error) => Err(Refusal::of("put object", &error)),
        }
    }

    /// Puts the sample as an upload of one part, which may be as short as the last one of any.
    async fn put_in_one_part(&self, sample: Sample<'_>, header: IfNoneMatch) -> Result<SampleAnswer, Refusal> {
        let (sse, sse_key) = self.encryption();
        let key = self.sample_key(sample);
        let created = self
            .client
            .create_multipart_upload()
            .bucket(&self.config.bucket)
            .key(&key)
            .content_type("text/plain")
            .storage_class(StorageClass::from(sample.class))
            .set_tagging(self.tagging_of(sample))
            .set_checksum_algorithm(self.wants_checksum().then_some(ChecksumAlgorithm::Sha256))
            .set_object_lock_mode(sample.lock_until.and_then(|until| self.lock(until).0))
            .set_object_lock_retain_until_date(sample.lock_until.map(DateTime::from))
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(sse_key)
            .send()
            .await
            .map_err(|error| Refusal::of("create multipart upload", &error))?;
        let id = created.upload_id.ok_or_else(|| Refusal::later("the store named no upload"))?;
        let upload = BegunUpload { key: &key, id: &id };
        let part = self.send_probe_part(upload).await?;
        let completed = match self.complete(upload, vec![part], header).await {
            Ok(answer) => return Ok((Some(answer.e_tag.unwrap_or_default()), answer.version_id)),
            Err(error) if is_taken(&error) => Ok((None, None)),
            Err(error) => Err(Refusal::of("complete multipart upload", &error)),
        };
        let _aborted = self.abort(upload).await;
        completed
    }

    fn tagging_of(&self, sample: Sample<'_>) -> Option<String> {
        let tags = vec![("camera", "hk-aws-doctor".to_owned())];
        self.tagging(&About { tags, ..About::default() }).filter(|_| sample.tags)
    }

    /// Finds the setting because of which the store refuses the sample: without it, the store takes it. Returns the refusal
    /// with advice about that setting.
    async fn blame(&self, sample: Sample<'_>, refusal: Refusal) -> Refusal {
        if refusal.verdict == Verdict::TryLater {
            return refusal;
        }
        let untagged = Sample { tags: false, ..sample };
        let unlocked = Sample { lock_until: None, ..sample };
        for (without, is_on, advice) in
            [(untagged, sample.tags, TAGS_ADVICE), (unlocked, sample.lock_until.is_some(), LOCK_ADVICE)]
        {
            if is_on && self.takes(without).await {
                return Refusal { advice: advice.to_owned(), ..refusal };
            }
        }
        let bare = Sample { lock_until: None, ..untagged };
        if sample.tags && sample.lock_until.is_some() && self.takes(bare).await {
            return Refusal { advice: format!("{TAGS_ADVICE}; {LOCK_ADVICE}"), ..refusal };
        }
        // What goes up at once with the same settings was stored.
        let advice = if sample.way == Way::InParts { PARTS_ADVICE.to_owned() } else { refusal.advice };
        Refusal { advice, ..refusal }
    }

    async fn takes(&self, sample: Sample<'_>) -> bool {
        let taken = match self.put_sample(sample, IfNoneMatch::Omitted).await {
            Ok(_) => true,
            // A bucket's policy may demand the header.
            Err(_) => self.put_sample(sample, IfNoneMatch::Sent).await.is_ok(),
        };
        if taken {
            let _left = self.try_delete(&self.sample_key(sample)).await;
        }
        taken
    }
}

impl Way {
    /// Returns what is done, as a verb and a noun.
    fn verb(self) -> &'static str {
        match self {
            Self::AtOnce => "put object",
            Self::InParts => "upload in parts",
        }
    }
}
