//! From what S3, or the way to it, answers to what is to be done about it.
//!
//! Codes are those of the S3 API Reference, "Error responses". What is not known is taken for the operator's: a file
//! is given up only where the answer is about that very file.

use std::error::Error;
use std::fmt;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It passes by itself.
    TryLater,
    /// This file can never be stored; others can.
    GiveUpOnThisFile,
    /// Nothing can be stored until a human acts.
    NeedsOperator,
}

/// What a refusal is about, for callers that go on differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The store did not answer: nothing is known of the object.
    NoAnswer,
    /// There is no object under the key.
    NoSuchKey,
    /// The object lies in a cold class and can be read only after a restore.
    Cold,
    /// The store answered something else.
    Refused,
}

/// A request that did not come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What to do.
    pub verdict: Verdict,
    /// The code that S3 answered with, if it answered.
    pub code: Option<String>,
    /// What happened.
    pub reason: String,
    /// What the operator should do; empty where nothing.
    pub advice: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "; {}", self.advice) }
    }
}

impl Error for Refusal {}

/// What to do where something else answers in the place of the store.
const NOT_S3: &str = "something between this box and the store answers in its place (a login page, a proxy, a router without \
                      a line): see what it wants, or correct s3.endpoint_url";

const BY_CODE: &[(&str, Verdict, &str)] = &[
    ("AccessDenied", Verdict::NeedsOperator, "allow s3:PutObject on the bucket to these credentials"),
    ("AllAccessDisabled", Verdict::NeedsOperator, "ask AWS why the bucket is disabled"),
    ("InvalidAccessKeyId", Verdict::NeedsOperator, "the access key does not exist (any more): renew the credentials"),
    ("SignatureDoesNotMatch", Verdict::NeedsOperator, "the secret key does not fit the access key: check both"),
    ("ExpiredToken", Verdict::NeedsOperator, "the session token has expired: renew the credentials"),
    ("InvalidToken", Verdict::NeedsOperator, "the session token is wrong: renew the credentials"),
    ("TokenRefreshRequired", Verdict::NeedsOperator, "the session token has expired: renew the credentials"),
    ("NoSuchBucket", Verdict::NeedsOperator, "create the bucket or correct s3.bucket"),
    ("PermanentRedirect", Verdict::NeedsOperator, "the bucket lies in another region: correct s3.region"),
    ("AuthorizationHeaderMalformed", Verdict::NeedsOperator, "the bucket lies in another region: correct s3.region"),
    (
        "IllegalLocationConstraintException",
        Verdict::NeedsOperator,
        "the bucket lies in another region: correct s3.region",
    ),
    ("RequestTimeTooSkewed", Verdict::NeedsOperator, "the clock of this box is wrong: set it, and keep it set by NTP"),
    (
        "TemporaryRedirect",
        Verdict::TryLater,
        "S3 does not know everywhere yet where a new bucket lies, and that passes; if it lasts, correct s3.region",
    ),
    (
        "InvalidStorageClass",
        Verdict::NeedsOperator,
        "the store does not know this class: correct s3.storage_class, rotate.archive.class or rotate.transition.class",
    ),
    ("EntityTooLarge", Verdict::GiveUpOnThisFile, ""),
    ("KeyTooLongError", Verdict::GiveUpOnThisFile, ""),
    ("MetadataTooLarge", Verdict::GiveUpOnThisFile, ""),
    ("BadDigest", Verdict::TryLater, ""),
    ("XAmzContentChecksumMismatch", Verdict::TryLater, ""),
    ("IncompleteBody", Verdict::TryLater, ""),
    ("RequestTimeout", Verdict::TryLater, ""),
    ("NoSuchUpload", Verdict::TryLater, ""),
    ("InvalidPart", Verdict::TryLater, ""),
    ("SlowDown", Verdict::TryLater, ""),
];

impl Refusal {
    /// A failure that passes by itself.
    pub fn later(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::TryLater, code: None, reason: reason.into(), advice: String::new() }
    }

    /// Returns what it is about.
    pub fn kind(&self) -> RefusalKind {
        match self.code.as_deref() {
            None => RefusalKind::NoAnswer,
            Some("NoSuchKey") => RefusalKind::NoSuchKey,
            Some("InvalidObjectState") => RefusalKind::Cold,
            Some(_) => RefusalKind::Refused,
        }
    }

    /// Returns whether it concerns the bucket, or the way to it, more than one object: the next request would meet it too.
    pub fn concerns_all(&self) -> bool {
        self.verdict == Verdict::NeedsOperator || self.kind() == RefusalKind::NoAnswer
    }

    /// Whether its code is one that says what it is about.
    pub(super) fn is_known(&self) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        code.starts_with("KMS") || BY_CODE.iter().any(|(known, ..)| *known == code)
    }

    /// An answer of success that is not the store's.
    pub(super) fn not_s3(what: &str, why: &str) -> Self {
        Self {
            advice: NOT_S3.to_owned(),
            ..Self::later(format!("failed to {what}: the answer is not the store's: {why}"))
        }
    }

    /// What an SDK error about `what` (a verb and a noun) means.
    pub(super) fn of<E>(what: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let SdkError::ServiceError(service) = error else { return Self::without_answer(what, error) };
        let status = service.raw().status().as_u16();
        let code = service.err().code().unwrap_or_default();
        let (verdict, advice) = match BY_CODE.iter().find(|(known, ..)| *known == code) {
            Some((_, verdict, advice)) => (*verdict, (*advice).to_owned()),
            None if code.is_empty() && is_page(service.raw()) => (by_status(status).0, NOT_S3.to_owned()),
            None if code.starts_with("KMS") => {
                (Verdict::NeedsOperator, "allow kms:GenerateDataKey on the key, or correct s3.sse".to_owned())
            }
            None => by_status(status),
        };
        let body = service.raw().body().bytes().unwrap_or_default();
        let region = service.raw().headers().get("x-amz-bucket-region").or_else(|| element(body, "Region"));
        let advice = match (region, element(body, "AWSAccessKeyId")) {
            (Some(region), _) if advice.ends_with("s3.region") => format!("{advice} to {}", region.escape_debug()),
            (_, Some(key)) => advice.replacen("the access key", &format!("the access key {}", key.escape_debug()), 1),
            _ => advice,
        };
        let message = service.err().message().map_or_else(|| innermost(service.err()), str::to_owned);
        let advice = by_message(&message).filter(|_| verdict == Verdict::NeedsOperator).unwrap_or(advice);
        let code_text = if code.is_empty() { "no code" } else { code };
        Self {
            verdict,
            code: Some(code.to_owned()).filter(|code| !code.is_empty()),
            reason: format!("failed to {what}: HTTP {status} {code_text}: {}", message.escape_debug()),
            advice,
        }
    }

    fn without_answer<E: Error + 'static>(what: &str, error: &SdkError<E, HttpResponse>) -> Self {
        let mut chain: Vec<&(dyn Error + 'static)> = Vec::new();
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = next {
            chain.push(error);
            next = error.source();
        }
        // The outermost sentence says the least ("dispatch failure"), the innermost the most.
        let texts: Vec<String> = chain.iter().skip(1).map(ToString::to_string).collect();
        let mut reason = if texts.is_empty() { error.to_string() } else { texts.join(": ") };
        let credentials = chain.iter().any(|error| error.is::<CredentialsError>());
        let (verdict, advice) = match error {
            _ if credentials => (
                Verdict::NeedsOperator,
                "give the daemon credentials: s3.profile, the environment, or the files below ~/.aws of its user",
            ),
            _ if reason.contains("region must be set") => (Verdict::NeedsOperator, "set s3.region"),
            SdkError::ConstructionFailure(_) => (Verdict::NeedsOperator, "check the s3 section of the configuration"),
            _ => (Verdict::TryLater, ""),
        };
        if matches!(error, SdkError::TimeoutError(_)) && reason.is_empty() {
            "no answer in time".clone_into(&mut reason);
        }
        Self { verdict, code: None, reason: format!("failed to {what}: {reason}"), advice: advice.to_owned() }
    }
}

/// What lies at the bottom of an error that carries no message, such as an answer that is no XML.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// What S3 says to do in words alone: these come with codes that say less.
fn by_message(message: &str) -> Option<String> {
    if let Some((_, rest)) = message.split_once("not authorized to perform: ") {
        let action = rest.split_whitespace().next()?.escape_debug().to_string();
        return Some(if action.starts_with("kms:") {
            format!("allow {action} on the key to these credentials, or correct s3.sse")
        } else {
            format!("allow {action} on the bucket to these credentials")
        });
    }
    let wants_checksum = message.contains("Content-MD5") && message.contains("required");
    wants_checksum.then(|| "the bucket demands a checksum (Object Lock does): set s3.checksum to always".to_owned())
}

/// The text of an element of S3's errors; what is none of ours to read has none.
pub(super) fn element<'a>(body: &'a [u8], name: &str) -> Option<&'a str> {
    let (_, rest) = str::from_utf8(body).ok()?.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once("</")?;
    Some(text).filter(|text| !text.is_empty() && text.len() <= 128)
}

/// Whether an answer is meant for a browser.
fn is_page(answer: &HttpResponse) -> bool {
    answer.headers().get("content-type").is_some_and(|kind| kind.starts_with("text/html"))
}

fn by_status(status: u16) -> (Verdict, String) {
    match status {
        401 | 403 => (Verdict::NeedsOperator, "check the credentials and what they may do".to_owned()),
        301 => (Verdict::NeedsOperator, "the bucket lies in another region: correct s3.region".to_owned()),
        404 => (Verdict::NeedsOperator, "create the bucket or correct s3.bucket and s3.endpoint_url".to_owned()),
        // 200 with an error, or nothing that can be read, in the body.
        200..=299 | 408 | 409 | 425 | 429 | 500 | 502..=599 => (Verdict::TryLater, String::new()),
        // S3 sends nobody elsewhere without a code; login pages do.
        302 | 303 | 307 | 308 => (Verdict::TryLater, NOT_S3.to_owned()),
        413 => {
            (Verdict::NeedsOperator, "what stands before the store refuses so many bytes: raise its limit".to_owned())
        }
        _ => (
            Verdict::NeedsOperator,
            "check the s3 section of the configuration against what the store supports".to_owned(),
        ),
    }
}
