//! How values are spelled in requests, and what can be read from an answer of any kind.

use std::fmt::Write;
use std::ops::Range;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::ServerSideEncryption;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::base64;
use sha2::{Digest, Sha256};

use super::answer::{Marks, Sent};
use super::{MULTIPART_FROM, Refusal, Source};

/// The version of an object that was stored while the bucket kept none.
pub(super) const NULL_VERSION: &str = "null";

/// The error of a request whose answers of failure are an `E`.
pub(super) type Failed<E> = SdkError<E, HttpResponse>;

/// The parts of a successful answer that prove what was stored.
#[derive(Debug)]
pub(super) struct Receipt<'a> {
    pub(super) about: Sent,
    /// The `ETag` of the object or part.
    pub(super) etag: Option<&'a str>,
    /// The SHA-256 that was sent, in base64.
    pub(super) sent: Option<&'a str>,
    /// The SHA-256 in the answer, in base64.
    pub(super) repeated: Option<&'a str>,
    /// The MD5 of what the store received, in hexadecimal, if the `ETag` is one.
    pub(super) md5: Option<String>,
    /// Whether the answer names the request.
    pub(super) has_request_id: bool,
}

impl Receipt<'_> {
    /// Checks that the answer is the store's own, and that the store received the bytes that were sent.
    ///
    /// Whatever answers in the store's place (a login page, a cache) may say 200 to anything. S3 gives an `ETag` with
    /// every object and part, and repeats the checksum that was sent (S3 API Reference, `PutObject`); a store that has
    /// done so once always does. One that never does may not have checked it either: then the bytes of `source` in
    /// `range` are held against the MD5. Where the `ETag` is none, the answer must at least name the request. What proves
    /// itself teaches `marks`.
    ///
    /// # Errors
    /// A [`Refusal`] to try later: the bytes may not be in the bucket.
    pub(super) async fn check(self, source: &Source, range: Range<u64>, marks: &Marks) -> Result<(), Refusal> {
        let what = match self.about {
            Sent::Object => "put object",
            Sent::Part => "upload part",
        };
        if self.etag.is_none_or(str::is_empty) {
            return Err(Refusal::without_etag(what));
        }
        let same = match (self.sent, self.repeated, self.md5) {
            (Some(sent), Some(repeated), _) => sent == repeated,
            (Some(_), None, _) if marks.has_sha256(self.about) => {
                return Err(Refusal::not_the_stores(what, "it does not repeat the SHA-256, as the store does"));
            }
            (_, _, Some(md5)) => md5.eq_ignore_ascii_case(&source.md5(range).await?),
            _ if !self.has_request_id => {
                return Err(Refusal::not_the_stores(what, "neither a checksum nor a request id shows that it is"));
            }
            _ => return Ok(()),
        };
        if !same {
            return Err(Refusal::altered(what));
        }
        marks.learn(self.about, self.has_request_id, self.sent.is_some() && self.repeated.is_some());
        Ok(())
    }
}

/// Returns the `ETag` of an object or part if it is the MD5 of its bytes: it is not if the object went up in parts, or if
/// a key of KMS (`encryption`) or of the customer (`customer_key`) encrypts it (S3 API Reference, "Object").
pub(super) fn md5_of(
    etag: Option<&str>,
    encryption: Option<&ServerSideEncryption>,
    customer_key: Option<&str>,
) -> Option<String> {
    let etag = unquoted(etag);
    let is_md5 = etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    let by_s3 = matches!(encryption, None | Some(ServerSideEncryption::Aes256));
    (is_md5 && by_s3 && customer_key.is_none()).then_some(etag)
}

/// Returns the checksum that the store has for an object of `size` bytes, if it is the checksum of the bytes
/// themselves.
///
/// An object that was uploaded in parts has a checksum of its parts' checksums. Most stores mark it with a dash, but
/// some do not, so the size decides too.
pub(super) fn full_checksum(checksum: Option<&str>, size: u64) -> Option<&str> {
    checksum.filter(|checksum| size < MULTIPART_FROM && !checksum.contains('-'))
}

/// Returns the SHA-256 of `bytes`, in base64.
pub(super) fn sha256_base64(bytes: &[u8]) -> String {
    base64::encode(Sha256::digest(bytes))
}

/// Returns `bytes` as text, with every byte percent-encoded that is not `plain`.
pub(super) fn percent(bytes: &[u8], plain: impl Fn(u8) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if plain(*byte) {
            text.push(char::from(*byte));
        } else {
            // Writing into a String never fails.
            let _written = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Returns the metadata with their values as they are sent.
pub(super) fn metadata(given: &[(&'static str, String)]) -> impl Iterator<Item = (&'static str, String)> {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    given.iter().map(move |(name, value)| (*name, percent(value.as_bytes(), plain)))
}

/// Returns an `ETag` without its quotes; empty if there is none.
pub(super) fn unquoted(etag: Option<&str>) -> String {
    etag.unwrap_or_default().trim_matches('"').to_owned()
}

/// Returns a time that the store gave, or the latest possible time if it gave none, so that nothing counts as old.
pub(super) fn time(told: Option<&DateTime>) -> chrono::DateTime<chrono::Utc> {
    let told = told.and_then(|time| chrono::DateTime::from_timestamp(time.secs(), time.subsec_nanos()));
    told.unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC)
}

/// Returns the HTTP status of a failure, if the store answered.
pub(super) fn status<E>(error: &Failed<E>) -> Option<u16> {
    match error {
        SdkError::ServiceError(answer) => Some(answer.raw().status().as_u16()),
        _ => None,
    }
}

/// Returns the store's error code of a failure, if there was one.
pub(super) fn code<E: ProvideErrorMetadata>(error: &Failed<E>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

/// Returns whether the store refused to overwrite an object. The code decides: a proxy can answer 412 as well.
pub(super) fn is_taken<E: ProvideErrorMetadata>(error: &Failed<E>) -> bool {
    code(error) == Some("PreconditionFailed")
}
