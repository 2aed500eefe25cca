//! Refusals: what a failed request means, and what to do about it.
//!
//! Codes are those of the S3 API Reference, "Error responses". An unknown answer is left to the operator: a file is
//! given up only if the answer is about that file.

use std::error::Error;
use std::fmt;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::advice::UNSUPPORTED;
use super::answer::NotTheStores;
use super::keys::FOUND_IN;
use crate::credentials::{self, BadKeyFile};
use crate::key::{ObjectKey, printable};

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try again later: the failure passes by itself.
    TryLater,
    /// Set this file aside: S3 never accepts it. Other files are not affected.
    GiveUpOnThisFile,
    /// Wait for the operator: nothing can be stored until the cause is mended.
    NeedsOperator,
}

impl Verdict {
    /// Returns the name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::TryLater => "try_later",
            Self::GiveUpOnThisFile => "give_up",
            Self::NeedsOperator => "needs_operator",
        }
    }
}

/// What a refusal says about the object, for callers that act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// Nothing is known about the object: the store did not answer, or its answer has no error code.
    NoAnswer,
    /// There is no object under the key.
    NoSuchKey,
    /// The object is in a cold class, and must be restored before it can be read.
    Cold,
    /// The store refused for another reason.
    Refused,
}

/// Why a request to the store failed, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What to do about it.
    pub verdict: Verdict,
    /// The store's error code, if the store gave one.
    pub code: Option<String>,
    /// What happened, such as "failed to put object: HTTP 503 `SlowDown`: reduce your request rate".
    pub reason: String,
    /// What the operator should do; empty if there is nothing to do.
    pub advice: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "; {}", self.advice) }
    }
}

impl Error for Refusal {}

/// The advice if something else answers in the store's place.
const NOT_S3: &str = "something between this box and the store answers in its place (a login page, a proxy, a router that \
                      is offline): find out what it is, or correct s3.endpoint_url";

/// The advice for what is wrong with the certificate of the endpoint, by the word that rustls has for it.
const BY_CERTIFICATE: &[(&str, &str)] = &[
    (
        "UnknownIssuer",
        "this box does not trust whoever signed the certificate of the store: if the store has a certificate authority of \
         its own, set s3.ca_bundle to the file of its certificate (PEM); otherwise something between this box and the store \
         answers in its place",
    ),
    (
        "CaUsedAsEndEntity",
        "the store shows the certificate of its authority as its own, which proves nothing: give it a certificate that the \
         authority has signed",
    ),
    ("not valid for name", "the store's certificate is for other names: set s3.endpoint_url to one of them"),
    ("certificate expired", "renew the store's certificate, or set the clock of this box if that is wrong"),
    ("certificate not valid yet", "the clock of this box is probably wrong: set it, and keep it right with NTP"),
];

/// The code, which is this program's own, of an answer that says that the request was too large.
const TOO_LARGE: &str = "RequestTooLarge";

/// What the advice says about a key, so that the place where it was found can be named.
const RENEW: &str = "renew the AWS key";
const CORRECT: &str = "correct one of them";

/// The verdict and the advice for each code that this program knows.
const BY_CODE: &[(&str, Verdict, &str)] = &[
    (
        "AccessDenied",
        Verdict::NeedsOperator,
        "allow s3:PutObject on the bucket to these credentials; if s3.account is set, see that the bucket is still that \
         account's",
    ),
    ("AllAccessDisabled", Verdict::NeedsOperator, "ask AWS why the bucket is disabled"),
    ("InvalidAccessKeyId", Verdict::NeedsOperator, "the access key does not exist or was deleted: renew the AWS key"),
    (
        "SignatureDoesNotMatch",
        Verdict::NeedsOperator,
        "the secret key does not fit the access key: correct one of them",
    ),
    ("ExpiredToken", Verdict::NeedsOperator, "the session token has expired: renew the AWS key"),
    ("InvalidToken", Verdict::NeedsOperator, "the session token is wrong: renew the AWS key"),
    ("TokenRefreshRequired", Verdict::NeedsOperator, "the session token has expired: renew the AWS key"),
    ("NoSuchBucket", Verdict::NeedsOperator, "create the bucket or correct s3.bucket"),
    ("PermanentRedirect", Verdict::NeedsOperator, "the bucket is in another region: correct s3.region"),
    ("AuthorizationHeaderMalformed", Verdict::NeedsOperator, "the bucket is in another region: correct s3.region"),
    (
        "IllegalLocationConstraintException",
        Verdict::NeedsOperator,
        "the bucket is in another region: correct s3.region",
    ),
    (
        "RequestTimeTooSkewed",
        Verdict::NeedsOperator,
        "the clock of this box is wrong: set it, and keep it right with NTP",
    ),
    (
        "TemporaryRedirect",
        Verdict::TryLater,
        "the bucket is new and not known everywhere in S3 yet, which passes; if it lasts, correct s3.region",
    ),
    (
        "InvalidStorageClass",
        Verdict::NeedsOperator,
        "the store does not know this storage class: correct s3.storage_class, rotate.archive.class or \
         rotate.transition.class",
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

/// The codes that the next object would get too.
const OF_THE_STORE: &[&str] = &[
    "AllAccessDisabled",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "NoSuchBucket",
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "RequestTimeTooSkewed",
    "TemporaryRedirect",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "TooManyRequests",
];

impl Refusal {
    /// Returns a refusal without a code, to try later.
    pub fn later(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::TryLater, code: None, reason: reason.into(), advice: String::new() }
    }

    /// Returns what the refusal says about the object.
    pub fn kind(&self) -> RefusalKind {
        match self.code.as_deref() {
            None => RefusalKind::NoAnswer,
            Some("NoSuchKey") => RefusalKind::NoSuchKey,
            Some("InvalidObjectState") => RefusalKind::Cold,
            Some(_) => RefusalKind::Refused,
        }
    }

    /// Returns whether the next request would fail too: the cause is the bucket or the connection, not one object.
    pub fn concerns_all(&self) -> bool {
        self.verdict == Verdict::NeedsOperator || self.kind() == RefusalKind::NoAnswer
    }

    /// Returns whether the code says that the credentials, the bucket or the store as a whole are the cause. Any other
    /// answer to a request for one object may be about that object alone: its key of KMS, its policy, its disk.
    pub fn is_of_the_store(&self) -> bool {
        self.code.as_deref().is_some_and(|code| OF_THE_STORE.contains(&code))
    }

    /// Returns this refusal of a copy, with the advice `instead` if a policy denies it.
    ///
    /// A bucket's policy that demands `If-None-Match` of whatever creates an object denies every copy (S3 User Guide,
    /// "Enforce conditional writes on Amazon S3 buckets").
    #[must_use]
    pub fn of_copy(self, instead: &str) -> Self {
        if self.code.as_deref() != Some("AccessDenied") {
            return self;
        }
        let advice = format!(
            "the policy of `hk-aws aws-template` lets the box copy nothing, so that it can overwrite nothing: {instead}"
        );
        Self { advice, ..self }
    }

    /// Returns whether a request had more bytes than the store, or a proxy in front of it, takes: this says nothing of
    /// smaller files.
    pub fn is_too_large(&self) -> bool {
        self.code.as_deref() == Some(TOO_LARGE)
    }

    /// Returns whether this program knows what the code means.
    pub(super) fn is_known(&self) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        code.starts_with("KMS") || BY_CODE.iter().any(|(known, ..)| *known == code)
    }

    /// Returns this refusal with advice for a request that needs a right other than `s3:PutObject`, such as
    /// `s3:GetObject`.
    pub(super) fn needing(self, permission: &str) -> Self {
        let advice = match self.code.as_deref() {
            Some("AccessDenied") => format!(
                "allow {permission} on the bucket to these credentials; if s3.account is set, see that the bucket is still \
                 that account's"
            ),
            Some("InvalidObjectState") => {
                "the object is in a cold storage class: ask S3 to restore it first".to_owned()
            }
            Some("NoSuchKey") => String::new(),
            _ => return self,
        };
        Self { advice, ..self }
    }

    /// Returns the refusal of a successful answer that cannot be the store's own, because it has no `ETag`.
    ///
    /// `what` is a verb and a noun, such as "put object".
    pub(super) fn without_etag(what: &str) -> Self {
        Self::not_the_stores(what, "it names no object (no ETag)")
    }

    /// Returns the refusal of a successful answer that is not the store's own; `what` is a verb and a noun, `why` says how
    /// that shows.
    pub(super) fn not_the_stores(what: &str, why: &'static str) -> Self {
        let reason = format!("failed to {what}: {}", NotTheStores(why));
        Self { advice: NOT_S3.to_owned(), ..Self::later(reason) }
    }

    /// Returns the refusal of a capture whose last name is taken by an object that is not known to have its bytes.
    pub fn unproven(key: &ObjectKey) -> Self {
        let reason = format!("{key} holds other bytes than its name says, or bytes that this box may not look at");
        let advice = "look at the object with the owner's credentials, and delete it if it is not the capture; the file is \
                      kept until then";
        Self { advice: advice.to_owned(), ..Self::later(reason) }
    }

    /// Returns the refusal of a successful answer that shows that the store received other bytes than were sent.
    ///
    /// `what` is a verb and a noun, such as "put object".
    pub(super) fn altered(what: &str) -> Self {
        let reason = format!(
            "failed to {what}: the checksum in the store's answer is not the one of the bytes that were sent: they were \
             changed on the way"
        );
        let advice = "find out what lies between this box and the store and changes what is sent (a proxy, a virus \
                      scanner, a broken router), and use an endpoint with https";
        Self { advice: advice.to_owned(), ..Self::later(reason) }
    }

    /// Returns the refusal that an SDK error means; `what` is a verb and a noun, such as "put object".
    pub(super) fn of<E>(what: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let SdkError::ServiceError(service) = error else { return Self::without_answer(what, error) };
        let answer = service.raw();
        let status = answer.status().as_u16();
        let code = service.err().code().unwrap_or_default();
        let (verdict, advice) = match BY_CODE.iter().find(|(known, ..)| *known == code) {
            Some((_, verdict, advice)) => (*verdict, (*advice).to_owned()),
            None if code.is_empty() && is_page(answer) => (by_status(status).0, NOT_S3.to_owned()),
            None if code.starts_with("KMS") => {
                (Verdict::NeedsOperator, "allow kms:GenerateDataKey on the key, or correct s3.sse".to_owned())
            }
            None => by_status(status),
        };
        // nginx answers 413 with a page for a browser, and some stores with a code of S3.
        let is_too_large = status == 413 || code == "MaxMessageLengthExceeded";
        let (code, verdict) = if is_too_large { (TOO_LARGE, Verdict::TryLater) } else { (code, verdict) };
        let advice = with_names(advice, answer);
        let message = service.err().message().map_or_else(|| innermost(service.err()), str::to_owned);
        let advice = by_message(&message).filter(|_| verdict == Verdict::NeedsOperator).unwrap_or(advice);
        let code_text = if code.is_empty() { "no code" } else { code };
        // The message of `NotImplemented` and of `InvalidArgument` does not say which header it is about.
        let body = answer.body().bytes().unwrap_or_default();
        let header = element(body, "Header").or_else(|| element(body, "ArgumentName"));
        let header =
            header.filter(|header| !message.contains(header)).map(|header| format!(" ({})", printable(header)));
        Self {
            verdict,
            code: Some(code.to_owned()).filter(|code| !code.is_empty()),
            reason: format!(
                "failed to {what}: HTTP {status} {code_text}: {}{}",
                printable(&message),
                header.unwrap_or_default()
            ),
            advice,
        }
    }

    /// Returns the refusal of a request that cannot be signed, because no key was found; `error` has the
    /// [`CredentialsError`] among its causes.
    pub(super) fn without_key(what: &str, error: &(dyn Error + 'static)) -> Self {
        let chain = causes(error);
        let bad_file = chain.iter().find_map(|error| error.downcast_ref::<BadKeyFile>());
        let of_key = chain.iter().skip_while(|error| !error.is::<CredentialsError>()).skip(1);
        let texts: Vec<String> = of_key.map(ToString::to_string).collect();
        let mend = bad_file.map_or_else(
            || {
                let file = credentials::path();
                format!("put it into {}, or name a profile of the AWS files in s3.profile", file.display())
            },
            |bad| bad.mend.clone(),
        );
        let reason = bad_file.map_or_else(|| texts.join(": "), BadKeyFile::fault);
        let reason = format!("failed to {what}: no AWS key found: {reason}");
        Self { verdict: Verdict::NeedsOperator, code: None, reason, advice: mend }
    }

    fn without_answer<E: Error + 'static>(what: &str, error: &SdkError<E, HttpResponse>) -> Self {
        let chain = causes(error);
        if let Some(stranger) = chain.iter().find_map(|error| error.downcast_ref::<NotTheStores>()) {
            return Self::not_the_stores(what, stranger.0);
        }
        // The outermost text says little ("dispatch failure"); the others say what happened.
        let texts: Vec<String> = chain.iter().skip(1).map(ToString::to_string).collect();
        let mut reason = if texts.is_empty() { error.to_string() } else { texts.join(": ") };
        if chain.iter().any(|error| error.is::<CredentialsError>()) {
            return Self::without_key(what, error);
        }
        let (verdict, advice) = match error {
            _ if reason.contains("region must be set") => (Verdict::NeedsOperator, "set s3.region"),
            SdkError::ConstructionFailure(_) => (Verdict::NeedsOperator, "check the s3 section of the configuration"),
            _ => (Verdict::TryLater, by_certificate(&reason)),
        };
        if matches!(error, SdkError::TimeoutError(_)) && reason.is_empty() {
            "no answer in time".clone_into(&mut reason);
        }
        Self { verdict, code: None, reason: format!("failed to {what}: {reason}"), advice: advice.to_owned() }
    }
}

/// Returns an error and its causes, the outermost first.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source()).collect()
}

/// Returns the advice with the region or the access key that the answer names, and the place where the key was found.
fn with_names(advice: String, answer: &HttpResponse) -> String {
    let body = answer.body().bytes().unwrap_or_default();
    let advice = match answer.headers().get(FOUND_IN) {
        Some(place) => advice
            .replace(RENEW, &format!("renew the AWS key in {place}"))
            .replace(CORRECT, &format!("both are in {place}: correct one of them")),
        None => advice,
    };
    let region = answer.headers().get("x-amz-bucket-region").or_else(|| element(body, "Region"));
    match (region, element(body, "AWSAccessKeyId")) {
        (Some(region), _) if advice.ends_with("s3.region") => format!("{advice} to {}", printable(region)),
        (_, Some(key)) => advice.replacen("the access key", &format!("the access key {}", printable(key)), 1),
        _ => advice,
    }
}

/// Returns the advice if a connection failed because of a certificate; empty for any other reason.
fn by_certificate(reason: &str) -> &'static str {
    let is_wrong = |(word, _): &&(&str, &str)| reason.contains("invalid peer certificate") && reason.contains(word);
    BY_CERTIFICATE.iter().find(is_wrong).map_or("", |(_, advice)| advice)
}

/// Returns the text of the innermost cause, for an answer without a message, such as one that is not XML.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Returns the advice that only the message can give, because its code says less.
fn by_message(message: &str) -> Option<String> {
    if let Some((_, rest)) = message.split_once("not authorized to perform: ") {
        let action = rest.split_whitespace().next().map(printable)?;
        return Some(if action.starts_with("kms:") {
            format!("allow {action} on the key to these credentials, or correct s3.sse")
        } else {
            format!("allow {action} on the bucket to these credentials")
        });
    }
    let wants_checksum = message.contains("Content-MD5") && message.contains("required");
    wants_checksum.then(|| "the bucket demands checksums (Object Lock does): set s3.checksum to always".to_owned())
}

/// Returns the text of an XML element of an answer; `None` if it is missing, empty, or longer than expected.
pub(super) fn element<'a>(body: &'a [u8], name: &str) -> Option<&'a str> {
    let (_, rest) = str::from_utf8(body).ok()?.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once("</")?;
    Some(text).filter(|text| !text.is_empty() && text.len() <= 128)
}

/// Returns whether an answer is a page for a browser.
fn is_page(answer: &HttpResponse) -> bool {
    answer.headers().get("content-type").is_some_and(|kind| kind.starts_with("text/html"))
}

/// Returns the verdict and the advice for an answer whose code is not known.
fn by_status(status: u16) -> (Verdict, String) {
    match status {
        401 | 403 => (Verdict::NeedsOperator, "check the credentials and what they may do".to_owned()),
        301 => (Verdict::NeedsOperator, "the bucket is in another region: correct s3.region".to_owned()),
        404 => (Verdict::NeedsOperator, "create the bucket or correct s3.bucket and s3.endpoint_url".to_owned()),
        // A 2xx is a failure if its body reports an error, or cannot be read.
        200..=299 | 408 | 409 | 425 | 429 | 500 | 502..=599 => (Verdict::TryLater, String::new()),
        // A redirect without a code is not from S3, but typical of a login page.
        302 | 303 | 307 | 308 => (Verdict::TryLater, NOT_S3.to_owned()),
        _ => (Verdict::NeedsOperator, UNSUPPORTED.to_owned()),
    }
}
