//! The bucket: put what is new, read what is there. The only module that names the SDK.
//!
//! An object is never overwritten: every put carries `If-None-Match: *`, and S3 answers 412 where the key is taken.
//! That answer alone means nothing, because the retry of a put whose reply was lost meets its own object: the bytes
//! decide, by checksum. The hot path is one request and needs `s3:PutObject` alone.
//!
//! The SDK's own retries are off for whole requests, so that a failure is judged here and the queue knows of it; the
//! parts of a multipart upload keep them, because a clip should not start again for one part.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart, ObjectLockMode, ServerSideEncryption,
    StorageClass,
};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::base64;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::config::{self, Access, Checksum, LockMode, Sse};
use crate::key::ObjectKey;

mod body;
mod verdict;

pub use aws_credential_types::Credentials;
pub use verdict::{Refusal, Verdict};

/// A file of this many bytes or more goes up in parts.
pub const MULTIPART_FROM: u64 = 16 * 1024 * 1024;

/// Bytes of a part; a lost one costs no more than that.
const PART_BYTES: u64 = 8 * 1024 * 1024;

/// Most parts of an upload (S3 User Guide, "Amazon S3 multipart upload limits").
const MAX_PARTS: u64 = 10_000;

/// A host that does not answer a connection for so long is taken for dead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The slowest line that is still waited for, in bytes a second, and the time for the answer itself.
const SLOWEST_LINE: u64 = 2048;
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
    /// Open for reading.
    pub file: Arc<File>,
    /// How many bytes of it.
    pub size: u64,
    /// Of those bytes.
    pub sha256: [u8; 32],
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
}

/// What a listing or a HEAD says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// The storage class, as the store spells it.
    pub storage_class: String,
}

/// One page of a listing.
#[derive(Debug, Default)]
pub struct Page {
    /// The objects.
    pub objects: Vec<Object>,
    /// The folders, ending with `/`, where a delimiter was asked for.
    pub folders: Vec<String>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// A bucket and how objects are put into it.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: Client,
    config: config::S3,
    /// The ids of the uploads in parts that are under way here: two clips may want one key at the same time.
    under_way: Arc<Mutex<HashSet<String>>>,
}

type Failed<E> = SdkError<E, HttpResponse>;

impl Bucket {
    /// Prepares requests, signed with `credentials`, else by the configured profile or the standard chain; asks nothing
    /// of S3 yet.
    pub async fn connect(config: &config::S3, credentials: Option<Credentials>) -> Self {
        let http =
            aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build());
        if let Some(region) = &config.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &config.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(credentials) = credentials {
            loader = loader.credentials_provider(credentials);
        }
        if let Some(endpoint) = &config.endpoint_url {
            loader = loader.endpoint_url(endpoint);
        }
        let shared = loader.load().await;
        // Every upload brings its own SHA-256; the SDK's CRC beside it would break stores that know neither.
        let settings = Builder::from(&shared)
            .force_path_style(config.path_style)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Self { client: Client::from_conf(settings), config: config.clone(), under_way: Arc::default() }
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
    pub async fn put_new(
        &self,
        key: &ObjectKey,
        source: &Source,
        about: &About,
        now: SystemTime,
    ) -> Result<Put, Refusal> {
        if self.put(key, source, about, now).await? { Ok(Put::Stored) } else { self.compare(key, source).await }
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
        now: SystemTime,
    ) -> Result<Put, Refusal> {
        Ok(if self.put(key, source, about, now).await? { Put::Stored } else { Put::AlreadyThere })
    }

    /// Puts an object, in one request or in parts; false where the key is taken.
    async fn put(&self, key: &ObjectKey, source: &Source, about: &About, now: SystemTime) -> Result<bool, Refusal> {
        if source.size < MULTIPART_FROM {
            self.put_whole(key, source, about, now).await
        } else {
            self.put_in_parts(key, source, about, now).await
        }
    }

    /// One PUT; false where the key is taken.
    async fn put_whole(
        &self,
        key: &ObjectKey,
        source: &Source,
        about: &About,
        now: SystemTime,
    ) -> Result<bool, Refusal> {
        let (lock_mode, lock_until) = self.lock(now);
        let (sse, sse_key) = self.encryption();
        let length = i64::try_from(source.size).unwrap_or(i64::MAX);
        let sent = self
            .client
            .put_object()
            .bucket(&self.config.bucket)
            .key(key.as_str())
            .if_none_match("*")
            .content_length(length)
            .content_type(&about.content_type)
            .set_metadata(Some(metadata(about)))
            .set_tagging(self.tagging(about))
            .storage_class(self.storage_class())
            .set_checksum_sha256(self.wants_checksum().then(|| base64::encode(source.sha256)))
            .set_object_lock_mode(lock_mode)
            .set_object_lock_retain_until_date(lock_until)
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(sse_key)
            .body(body::slice(&source.file, 0, source.size))
            .customize()
            .config_override(patience(source.size))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(true),
            Err(error) if is_taken(&error) => Ok(false),
            Err(error) => Err(Refusal::of("put object", &error)),
        }
    }

    /// A multipart upload; false where the key is taken. Parts of an upload that fails are aborted.
    async fn put_in_parts(
        &self,
        key: &ObjectKey,
        source: &Source,
        about: &About,
        now: SystemTime,
    ) -> Result<bool, Refusal> {
        let upload = self.create_upload(key, about, now).await?;
        let done = self.finish_parts(key, source, &upload).await;
        if !matches!(done, Ok(true)) {
            // What cannot be aborted now is aborted by the next attempt at this key.
            let _aborted = self.abort(key, &upload).await;
        }
        self.under_way.lock().await.remove(&upload);
        done
    }

    /// Begins a multipart upload, once what earlier attempts left is gone; answers its id.
    async fn create_upload(&self, key: &ObjectKey, about: &About, now: SystemTime) -> Result<String, Refusal> {
        // Held until the new id is known: else another upload of the same key would take it for abandoned.
        let mut under_way = self.under_way.lock().await;
        if self.config.access == Access::ReadWrite {
            self.abort_abandoned(key, &under_way).await?;
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
            .customize()
            .config_override(patience(0))
            .send()
            .await
            .map_err(|error| Refusal::of("create multipart upload", &error))?;
        let upload = created.upload_id().ok_or_else(|| Refusal::later("the store named no upload"))?;
        under_way.insert(upload.to_owned());
        Ok(upload.to_owned())
    }

    async fn finish_parts(&self, key: &ObjectKey, source: &Source, upload: &str) -> Result<bool, Refusal> {
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
        let completed = self
            .client
            .complete_multipart_upload()
            .bucket(&self.config.bucket)
            .key(key.as_str())
            .upload_id(upload)
            .if_none_match("*")
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

    /// Aborts what earlier attempts at this very key left: a crash in mid-upload comes by here again.
    async fn abort_abandoned(&self, key: &ObjectKey, under_way: &HashSet<String>) -> Result<(), Refusal> {
        let listed = self
            .client
            .list_multipart_uploads()
            .bucket(&self.config.bucket)
            .prefix(key.as_str())
            .customize()
            .config_override(patience(0))
            .send()
            .await
            .map_err(|error| Refusal::of("list multipart uploads", &error))?;
        for upload in listed.uploads().iter().filter(|upload| upload.key() == Some(key.as_str())) {
            if let Some(id) = upload.upload_id().filter(|id| !under_way.contains(*id)) {
                self.abort(key, id).await?;
            }
        }
        Ok(())
    }

    async fn abort(&self, key: &ObjectKey, upload: &str) -> Result<(), Refusal> {
        let aborted =
            self.client.abort_multipart_upload().bucket(&self.config.bucket).key(key.as_str()).upload_id(upload);
        match aborted.customize().config_override(patience(0)).send().await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some("NoSuchUpload") => Ok(()),
            Err(error) => Err(Refusal::of("abort multipart upload", &error)),
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

    /// One page of what starts with `prefix`; with `folders`, what lies deeper is summed up.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn list(&self, prefix: &str, folders: bool, from: Option<String>) -> Result<Page, Refusal> {
        let listed = self
            .client
            .list_objects_v2()
            .bucket(&self.config.bucket)
            .prefix(prefix)
            .set_delimiter(folders.then(|| "/".to_owned()))
            .set_continuation_token(from)
            .send()
            .await
            .map_err(|error| unread("list objects", "s3:ListBucket", &error))?;
        let objects = listed.contents().iter().map(|object| Object {
            key: object.key().unwrap_or_default().to_owned(),
            size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            storage_class: object.storage_class().map_or("STANDARD", |class| class.as_str()).to_owned(),
        });
        Ok(Page {
            objects: objects.collect(),
            folders: listed.common_prefixes().iter().filter_map(|folder| folder.prefix()).map(str::to_owned).collect(),
            next: listed.next_continuation_token().map(str::to_owned),
        })
    }

    /// Downloads an object into `into`; gives back its size and the SHA-256 of what was read, and what they should be.
    ///
    /// # Errors
    /// [`Refusal`]; what was written so far is then worthless.
    pub async fn get(&self, key: &str, into: &mut (impl tokio::io::AsyncWrite + Unpin)) -> Result<Download, Refusal> {
        use tokio::io::AsyncWriteExt;
        let request =
            self.client.get_object().bucket(&self.config.bucket).key(key).checksum_mode(ChecksumMode::Enabled);
        let mut object = request.send().await.map_err(|error| unread("get object", "s3:GetObject", &error))?;
        let length = object.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0);
        let checksum = full_checksum(object.checksum_sha256(), length).and_then(|sum| base64::decode(sum).ok());
        // Whoever replaces an object brings a checksum that fits; what was written beside the first one may still be there.
        let written = object.metadata().and_then(|metadata| metadata.get("sha256")).cloned();
        let expected = checksum.map(hex::encode).into_iter().chain(written).collect();
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

fn patience(bytes: u64) -> Builder {
    let timeout = ANSWER_TIMEOUT + Duration::from_secs(bytes / SLOWEST_LINE);
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(timeout).build();
    aws_sdk_s3::Config::builder().timeout_config(timeouts)
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

fn status<E>(error: &Failed<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn code<E: ProvideErrorMetadata>(error: &Failed<E>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

fn is_taken<E: ProvideErrorMetadata>(error: &Failed<E>) -> bool {
    status(error) == Some(412) || code(error) == Some("PreconditionFailed")
}
