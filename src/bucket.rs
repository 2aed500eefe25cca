//! The bucket: put what is new, read what is there. The only module that names the SDK.
//!
//! An object is never overwritten: every put carries `If-None-Match: *`, and S3 answers 412 where the key is taken; of
//! stores that do not, [`Condition`] speaks. That answer alone means nothing, because the retry of a put whose reply was
//! lost meets its own object: the bytes decide, by checksum. The hot path is one request and needs `s3:PutObject` alone.
//!
//! The SDK's own retries are off, so that a failure is judged here and the queue knows of it; the parts of a multipart
//! upload are tried again here, because a clip should not start again for one part.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Builder, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ChecksumMode, ObjectLockMode, ServerSideEncryption, StorageClass};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::base64;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::config::{self, Access, Checksum, LockMode, Sse};
use crate::key::{self, ObjectKey};

mod body;
mod condition;
mod connection;
mod listing;
mod objects;
mod pace;
mod parts;
mod stall;
mod trial;
mod turn;
mod verdict;

pub use aws_credential_types::Credentials;
pub use body::{Content, Reader};
pub use condition::{Condition, Conditions, PROBE};
pub use listing::Object;
pub use objects::{Copied, CopyRequest, Head, MOST_COPIED, Restore, RestoreAsked, Tier, is_cold, poll_interval};
pub use pace::Pace;
pub use parts::part_bytes;
pub use stall::Patience;
pub use trial::Right;
pub use verdict::{Refusal, RefusalKind, Verdict};

use condition::{Known, Terms};
use stall::Phase;
use turn::Turn;

/// A file of this many bytes or more goes up in parts.
pub const MULTIPART_FROM: u64 = 16 * 1024 * 1024;

/// How long a request without a file in its body may take: S3 answers it in fractions of a second.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// The answer to an attempt to put an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is there now.
    Stored,
    /// The same bytes were there before.
    AlreadyThere,
    /// The key holds other bytes, or may not be read to find out.
    Conflict,
}

/// The bytes of an upload, with their checksum.
#[derive(Debug, Clone)]
pub struct Source {
    /// The bytes themselves.
    pub content: Content,
    /// How many they are.
    pub size: u64,
    /// When it was last changed: the newest goes first where the bandwidth is limited. `None`: no capture but what a job
    /// puts, which lets all captures go first.
    pub modified: Option<SystemTime>,
    /// Of those bytes.
    pub sha256: [u8; 32],
}

/// The circumstances of an upload.
#[derive(Debug, Clone, Copy)]
pub struct When {
    /// The time, for locks that count from it.
    pub now: SystemTime,
    /// How long an answer is waited for.
    pub patience: Patience,
}

/// What is stored beside the bytes.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The media type.
    pub content_type: String,
    /// Names and values; what is not printable ASCII is percent-encoded on the way.
    pub metadata: Vec<(&'static str, String)>,
    /// Tags, if tags are on.
    pub tags: Vec<(&'static str, String)>,
    /// The storage class; `None`: that of captures.
    pub class: Option<String>,
}

/// A bucket and how objects are put into it.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: Client,
    config: config::S3Settings,
    pace: Pace,
    /// Known from the beginning of AWS.
    known: Arc<Known>,
    /// Those that were given; otherwise they are looked for.
    credentials: Option<Credentials>,
}

type Failed<E> = SdkError<E, HttpResponse>;

impl Bucket {
    /// Prepares requests, signed with `credentials`, else by the configured profile or the standard chain; asks nothing
    /// of S3 yet. Uploads go at `pace`.
    pub async fn connect(config: &config::S3Settings, credentials: Option<Credentials>, pace: Pace) -> Self {
        let http =
            aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(ANSWER_TIMEOUT).build());
        if let Some(region) = &config.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &config.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(credentials) = credentials.clone() {
            loader = loader.credentials_provider(credentials);
        }
        if let Some(endpoint) = &config.endpoint_url {
            loader = loader.endpoint_url(endpoint);
        }
        let shared = loader.load().await;
        let https = !config.endpoint_url.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        // Every upload brings its own SHA-256; the SDK's CRC beside it would break stores that know neither.
        let settings = Builder::from(&shared)
            .http_client(connection::client(https))
            // What it is for uploads is told at [`stall`].
            .stalled_stream_protection(StalledStreamProtectionConfig::enabled().upload_enabled(false).build())
            .force_path_style(config.path_style)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        // The environment can name another store than AWS, too.
        let aws = shared.endpoint_url().is_none() && std::env::var_os("AWS_ENDPOINT_URL_S3").is_none();
        let known = Arc::new(if aws { Known::aws() } else { Known::default() });
        Self { client: Client::from_conf(settings), config: config.clone(), pace, known, credentials }
    }

    /// The same bucket, as whoever starts now would reach it: the SDK reads the AWS files once and never again.
    pub async fn renewed(&self) -> Self {
        let known = Arc::clone(&self.known);
        Self { known, ..Self::connect(&self.config, self.credentials.clone(), self.pace.clone()).await }
    }

    /// Where objects go, for messages: `s3://bucket` and the endpoint if it is not AWS.
    pub fn describe(&self) -> String {
        let at = self.config.endpoint_url.as_ref().map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        format!("s3://{}{at}", self.config.bucket)
    }

    /// Puts an object where there is none.
    ///
    /// # Errors
    /// [`Refusal`], with what to do. Nothing is then known of the object: a reply may have been lost.
    pub async fn put_new(&self, key: &ObjectKey, source: &Source, about: &About, when: When) -> Result<Put, Refusal> {
        if self.put(key, source, about, when, false).await? { Ok(Put::Stored) } else { self.compare(key, source).await }
    }

    /// Puts an object under a key that carries the hash of its bytes: what is there already is the same.
    ///
    /// # Errors
    /// [`Refusal`], as of [`Bucket::put_new`].
    pub async fn put_hashed(
        &self,
        key: &ObjectKey,
        source: &Source,
        about: &About,
        when: When,
    ) -> Result<Put, Refusal> {
        Ok(if self.put(key, source, about, when, true).await? { Put::Stored } else { Put::AlreadyThere })
    }

    /// Puts an object, in one request or in parts; false where the key is taken. Under a `hashed` key it is its own.
    async fn put(
        &self,
        key: &ObjectKey,
        source: &Source,
        about: &About,
        when: When,
        hashed: bool,
    ) -> Result<bool, Refusal> {
        let at_once = source.size < MULTIPART_FROM || matches!(source.content, Content::Stream(_));
        let condition = if at_once { self.condition_at_once().await? } else { self.condition_in_parts().await? };
        let terms = Terms { condition, hashed };
        let _turn = if at_once && condition == Condition::Honoured {
            None
        } else {
            Some(Turn::wait(format!("{}/{}", self.describe(), key::root(key.as_str()))).await)
        };
        if !self.is_free(key, terms).await? {
            return Ok(false);
        }
        if at_once {
            self.put_whole(key, source, about, when, terms).await
        } else {
            self.put_in_parts(key, source, about, when, terms).await
        }
    }

    /// One PUT; false where the key is taken.
    async fn put_whole(
        &self,
        key: &ObjectKey,
        source: &Source,
        about: &About,
        when: When,
        terms: Terms,
    ) -> Result<bool, Refusal> {
        let (lock_mode, lock_until) = self.lock(when.now);
        let (sse, sse_key) = self.encryption();
        let length = i64::try_from(source.size).unwrap_or(i64::MAX);
        let checksum = self.wants_checksum().then(|| base64::encode(source.sha256));
        let phase = watch::Sender::new(Phase::Start);
        let sending = self
            .client
            .put_object()
            .bucket(&self.config.bucket)
            .key(key.as_str())
            .set_if_none_match(terms.condition.header())
            .content_length(length)
            .content_type(&about.content_type)
            .set_metadata(Some(metadata(about)))
            .set_tagging(self.tagging(about))
            .storage_class(self.class_of(about))
            .set_checksum_sha256(checksum.clone())
            .set_object_lock_mode(lock_mode)
            .set_object_lock_retain_until_date(lock_until)
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(sse_key)
            .body(body::slice(source, 0, source.size, &self.pace, &phase))
            .customize()
            .config_override(no_total_time())
            .send();
        match stall::watched("put object", source.size, when.patience, &phase, sending).await? {
            Ok(answer) => {
                confirm("put object", answer.e_tag(), checksum.as_deref(), answer.checksum_sha256())?;
                Ok(true)
            }
            Err(error) if is_taken(&error) => Ok(false),
            Err(error) => Err(Refusal::of("put object", &error)),
        }
    }

    /// Whether the object under a taken key holds the same bytes.
    async fn compare(&self, key: &ObjectKey, source: &Source) -> Result<Put, Refusal> {
        if self.config.access == Access::WriteOnly {
            return Ok(Put::Conflict);
        }
        let head = self
            .client
            .head_object()
            .bucket(&self.config.bucket)
            .key(key.as_str())
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await;
        let head = match head {
            Ok(head) => head,
            // Not allowed to read: then only a name that carries the hash can tell.
            Err(error) if status(&error) == Some(403) => return Ok(Put::Conflict),
            Err(error) if status(&error) == Some(404) => return Err(Refusal::later("the object vanished")),
            Err(error) => return Err(Refusal::of("head object", &error)),
        };
        let same_size = head.content_length().and_then(|length| u64::try_from(length).ok()) == Some(source.size);
        let same_bytes = match full_checksum(head.checksum_sha256(), source.size) {
            Some(checksum) => checksum == base64::encode(source.sha256),
            None => head.metadata().and_then(|metadata| metadata.get("sha256")) == Some(&hex::encode(source.sha256)),
        };
        Ok(if same_size && same_bytes { Put::AlreadyThere } else { Put::Conflict })
    }

    /// Downloads an object, or a range of its bytes that is not empty, into `into`; gives back its size and the SHA-256 of
    /// what was read, and of a whole object what they should be.
    ///
    /// # Errors
    /// [`Refusal`]; what was written so far is then worthless.
    pub async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        into: &mut (impl tokio::io::AsyncWrite + Unpin),
    ) -> Result<Download, Refusal> {
        use tokio::io::AsyncWriteExt;
        let whole = range.is_none();
        let request = self
            .client
            .get_object()
            .bucket(&self.config.bucket)
            .key(key)
            .set_range(range.map(|range| format!("bytes={}-{}", range.start, range.end - 1)))
            .set_checksum_mode(whole.then_some(ChecksumMode::Enabled));
        let mut object = request.send().await.map_err(|error| unread("get object", "s3:GetObject", &error))?;
        let length = object.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0);
        let checksum = full_checksum(object.checksum_sha256(), length).and_then(|sum| base64::decode(sum).ok());
        // Whoever replaces an object brings a checksum that fits; what was written beside the first one may still be there.
        let written = object.metadata().and_then(|metadata| metadata.get("sha256")).cloned();
        let expected = checksum.map(hex::encode).into_iter().chain(written).filter(|_| whole).collect();
        let (mut size, mut hash) = (0, Sha256::new());
        while let Some(chunk) = object.body.next().await {
            let chunk = chunk.map_err(|error| Refusal::later(format!("failed to read object: {error}")))?;
            hash.update(&chunk);
            size += chunk.len() as u64;
            into.write_all(&chunk).await.map_err(|error| Refusal::later(format!("failed to write file: {error}")))?;
        }
        into.flush().await.map_err(|error| Refusal::later(format!("failed to write file: {error}")))?;
        Ok(Download { size, sha256: hex::encode(hash.finalize()), expected })
    }

    fn wants_checksum(&self) -> bool {
        // Object Lock refuses an upload without one (S3 User Guide, "Object Lock considerations").
        self.config.checksum == Checksum::Always || self.config.object_lock.is_some()
    }

    fn storage_class(&self) -> StorageClass {
        StorageClass::from(self.config.storage_class.as_str())
    }

    fn class_of(&self, about: &About) -> StorageClass {
        about.class.as_deref().map_or_else(|| self.storage_class(), StorageClass::from)
    }

    fn tagging(&self, about: &About) -> Option<String> {
        let pairs = about.tags.iter().map(|(name, value)| {
            format!("{name}={}", percent(value.as_bytes(), |b| { b.is_ascii_alphanumeric() || b"-._~".contains(&b) }))
        });
        self.config.tags.then(|| pairs.collect::<Vec<_>>().join("&")).filter(|tags| !tags.is_empty())
    }

    fn lock(&self, now: SystemTime) -> (Option<ObjectLockMode>, Option<DateTime>) {
        let Some(lock) = self.config.object_lock else { return (None, None) };
        let mode = match lock.mode {
            LockMode::Governance => ObjectLockMode::Governance,
            LockMode::Compliance => ObjectLockMode::Compliance,
        };
        // A clock that is years ahead would lock for years. It never does: the same clock signs the request, and S3
        // refuses what was signed more than 15 minutes off ("Error responses": RequestTimeTooSkewed).
        let until = now + Duration::from_secs(u64::from(lock.days) * 24 * 3600);
        (Some(mode), Some(DateTime::from(until)))
    }

    fn encryption(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.config.sse {
            None => (None, None),
            Some(Sse::Aes256) => (Some(ServerSideEncryption::Aes256), None),
            Some(Sse::Kms) => (Some(ServerSideEncryption::AwsKms), None),
            Some(Sse::KmsKey(key)) => (Some(ServerSideEncryption::AwsKms), Some(key.clone())),
        }
    }
}

/// The checksum that S3 has of an object, where it is one of its bytes.
///
/// What went up in parts has a checksum of the parts' checksums, which most stores mark with a dash and some do not.
fn full_checksum(checksum: Option<&str>, size: u64) -> Option<&str> {
    checksum.filter(|checksum| size < MULTIPART_FROM && !checksum.contains('-'))
}

/// What a download brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// Bytes.
    pub size: u64,
    /// Of the bytes that came, in hexadecimal.
    pub sha256: String,
    /// What the bucket says it should be, in each place where it says so.
    pub expected: Vec<String>,
}

impl Download {
    /// Makes sure that these are the `size` bytes that were stored.
    ///
    /// # Errors
    /// Where they are not, as far as the bucket tells.
    pub fn hold_against(&self, size: u64) -> Result<(), Altered> {
        let whole = self.size == size && self.expected.iter().all(|expected| *expected == self.sha256);
        if whole { Ok(()) } else { Err(Altered { came: self.size, size, sha256: self.sha256.clone() }) }
    }
}

/// A download that is not what was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the bytes that came are not the ones that were stored: {came} of {size}, SHA-256 {sha256}")]
pub struct Altered {
    came: u64,
    size: u64,
    sha256: String,
}

/// Reads `at..at + length` of a file in pieces.
///
/// # Errors
/// Where the file is shorter, or cannot be read.
pub fn read_through(file: &File, at: u64, length: u64, mut each: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let (mut at, end) = (at, at + length);
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact_at(&mut buffer[..want], at)?;
        each(&buffer[..want]);
        at += want as u64;
    }
    Ok(())
}

fn metadata(about: &About) -> std::collections::HashMap<String, String> {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    about.metadata.iter().map(|(name, value)| ((*name).to_owned(), percent(value.as_bytes(), plain))).collect()
}

fn percent(bytes: &[u8], plain: impl Fn(u8) -> bool) -> String {
    let spell = |byte: &u8| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    bytes.iter().map(spell).collect()
}

/// A request with a file in its body may take as long as it goes on: [`stall::watched`] sees to that.
fn no_total_time() -> Builder {
    aws_sdk_s3::Config::builder().timeout_config(TimeoutConfig::builder().disable_operation_attempt_timeout().build())
}

fn sha256_base64(bytes: &[u8]) -> String {
    base64::encode(Sha256::digest(bytes))
}

/// Makes sure that an answer of success is the store's: whatever answers in its place (a login page, a cache) says 200 to
/// anything. S3 gives an `ETag` with every object and part, and repeats the checksum that was sent (S3 API Reference,
/// `PutObject`); stores that do not repeat it are left to their `ETag`.
fn confirm(what: &str, etag: Option<&str>, sent: Option<&str>, repeated: Option<&str>) -> Result<(), Refusal> {
    if etag.is_none_or(str::is_empty) {
        return Err(Refusal::not_s3(what, "it names no object (no ETag)"));
    }
    match (sent, repeated) {
        (Some(sent), Some(repeated)) if sent != repeated => {
            Err(Refusal::later(format!("failed to {what}: the store says that it holds other bytes than were sent")))
        }
        _ => Ok(()),
    }
}

/// What a failure to read means; [`Refusal::of`] advises those who write.
fn unread<E>(what: &str, permission: &str, error: &Failed<E>) -> Refusal
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let refusal = Refusal::of(what, error);
    let advice = match refusal.code.as_deref() {
        Some("AccessDenied") => format!("allow {permission} on the bucket to these credentials"),
        Some("InvalidObjectState") => "it lies in a cold storage class: ask S3 to restore it first".to_owned(),
        Some("NoSuchKey") => String::new(),
        _ => return refusal,
    };
    Refusal { advice, ..refusal }
}

fn unquoted(etag: Option<&str>) -> String {
    etag.unwrap_or_default().trim_matches('"').to_owned()
}

/// A time of the store's; what it does not tell is as late as can be, so that nothing counts as old.
fn time(told: Option<&DateTime>) -> chrono::DateTime<chrono::Utc> {
    let told = told.and_then(|time| chrono::DateTime::from_timestamp(time.secs(), time.subsec_nanos()));
    told.unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC)
}

fn status<E>(error: &Failed<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn code<E: ProvideErrorMetadata>(error: &Failed<E>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

fn is_taken<E: ProvideErrorMetadata>(error: &Failed<E>) -> bool {
    status(error) == Some(412) || code(error) == Some("PreconditionFailed")
}
