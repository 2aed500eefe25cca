//! Answers that are the store's own, and looks that only the store can answer.
//!
//! Whatever lies between the box and the store may answer in its place: a login page says 200 to everything, and a cache
//! says what was true yesterday. S3 gives a request id with each answer and repeats the SHA-256 of an object that is put
//! (S3 API Reference, "Common response headers", `PutObject`); not every other store does. So the marks of a store are
//! learned from answers that prove themselves, by the checksum of the bytes that were sent, and from then on an answer
//! without them decides nothing. A refusal is judged by its code, which only the store's XML has. Going by the content type
//! was rejected: some stores call an empty answer a page.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::http::Headers;

use crate::clock::Now;

/// The headers that can hold the id of a request.
const REQUEST_IDS: [&str; 2] = ["x-amz-request-id", "x-amzn-requestid"];

/// The error of an answer that is not the store's own.
#[derive(Debug, thiserror::Error)]
#[error("the answer is not the store's own: {0}")]
pub(super) struct NotTheStores(pub(super) &'static str);

/// What the store's own answers have.
#[derive(Debug, Default)]
pub(super) struct Marks {
    request_id: AtomicBool,
    object_sha256: AtomicBool,
    part_sha256: AtomicBool,
}

/// What an answer is about. A store may repeat the SHA-256 of the one and not of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Object,
    Part,
}

impl Marks {
    /// Takes note that the store is AWS, whose answers have all marks.
    pub(super) fn learn_aws(&self) {
        self.learn(Sent::Object, true, true);
        self.learn(Sent::Part, true, true);
    }

    /// Takes note of an answer that has proved to be the store's own.
    pub(super) fn learn(&self, about: Sent, has_request_id: bool, has_sha256: bool) {
        self.request_id.fetch_or(has_request_id, Ordering::Relaxed);
        self.sha256(about).fetch_or(has_sha256, Ordering::Relaxed);
    }

    /// Checks that an answer which decides by its status alone is the store's own.
    pub(super) fn check(&self, method: &str, status: u16, headers: &Headers) -> Result<(), NotTheStores> {
        // The answer to a HEAD has no body whose code could decide.
        let decides = (200..300).contains(&status) || method == "HEAD" && matches!(status, 404 | 412);
        if decides && self.request_id.load(Ordering::Relaxed) && !has_request_id(headers) {
            return Err(NotTheStores("it has no request id, which the store gives"));
        }
        Ok(())
    }

    /// Forgets everything: another store may answer from now on.
    pub(super) fn forget(&self) {
        for mark in [&self.request_id, &self.object_sha256, &self.part_sha256] {
            mark.store(false, Ordering::Relaxed);
        }
    }

    /// Returns whether the store is known to repeat the SHA-256 that is sent.
    pub(super) fn has_sha256(&self, about: Sent) -> bool {
        self.sha256(about).load(Ordering::Relaxed)
    }

    fn sha256(&self, about: Sent) -> &AtomicBool {
        match about {
            Sent::Object => &self.object_sha256,
            Sent::Part => &self.part_sha256,
        }
    }
}

/// Refuses successes that are not the store's own, and asks every HEAD in a way that no cache can answer.
#[derive(Debug)]
pub(super) struct OwnAnswers {
    pub(super) marks: Arc<Marks>,
    pub(super) clock: fn() -> Now,
    looks: AtomicU64,
}

impl OwnAnswers {
    pub(super) fn new(marks: Arc<Marks>, clock: fn() -> Now) -> Self {
        Self { marks, clock, looks: AtomicU64::new(0) }
    }
}

impl Intercept for OwnAnswers {
    fn name(&self) -> &'static str {
        "OwnAnswers"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        if request.method() == "HEAD" {
            let nanos = (self.clock)().wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let look = self.looks.fetch_add(1, Ordering::Relaxed);
            let joint = if request.uri().contains('?') { '&' } else { '?' };
            // S3 ignores parameters that begin so (S3 User Guide, "Amazon S3 server access log format").
            request.set_uri(format!("{}{joint}x-look={nanos:x}-{look}", request.uri()))?;
            request.headers_mut().try_insert("cache-control", "no-cache")?;
        }
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let method = context.inner().request().map(|request| request.method().to_owned()).unwrap_or_default();
        let answer = context.response();
        Ok(self.marks.check(&method, answer.status().as_u16(), answer.headers())?)
    }
}

/// Returns whether an answer has the id of its request.
pub(super) fn has_request_id(headers: &Headers) -> bool {
    REQUEST_IDS.iter().any(|name| headers.get(*name).is_some_and(|id| !id.is_empty()))
}
