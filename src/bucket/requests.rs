//! What comes of the requests to the store: they are counted, and the answers of AWS tell how wrong the clock of this box is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, Metadata};
use aws_smithy_runtime_api::http::Headers;
use chrono::{DateTime, Utc};

use super::Bucket;
use super::answer::has_request_id;
use crate::clock::Now;

/// The number of requests by operation, such as `PutObject`, and by outcome: `ok`, `refused` or `no_answer`.
pub type RequestCounts = BTreeMap<(String, &'static str), u64>;

/// The value that stands for a clock that nobody has told anything about.
const UNKNOWN: i64 = i64::MIN;

/// What is known of the requests of a bucket.
#[derive(Debug)]
pub(super) struct Requests {
    counts: Mutex<RequestCounts>,
    behind_seconds: AtomicI64,
}

impl Default for Requests {
    fn default() -> Self {
        Self { counts: Mutex::default(), behind_seconds: AtomicI64::new(UNKNOWN) }
    }
}

impl Requests {
    /// Counts a request that has ended, by what became of it: what lies between may change a good answer. `answer` has the
    /// headers of the answer, if there was one.
    pub(super) fn count(&self, operation: &str, is_ok: bool, answer: Option<&Headers>, clock: fn() -> Now) {
        let outcome = match answer {
            None => "no_answer",
            Some(_) if is_ok => "ok",
            Some(_) => "refused",
        };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((operation.to_owned(), outcome)).or_default() += 1;
        drop(counts);
        if let Some(headers) = answer.filter(|headers| has_request_id(headers)) {
            let date = headers.get("date").and_then(|date| DateTime::parse_from_rfc2822(date).ok());
            if let Some(date) = date {
                let behind = date.to_utc() - DateTime::<Utc>::from(clock().wall);
                self.behind_seconds.store(behind.num_seconds(), Ordering::Relaxed);
            }
        }
    }
}

/// Counts each request of the SDK when it has ended.
#[derive(Debug)]
pub(super) struct CountRequests {
    pub(super) requests: Arc<Requests>,
    pub(super) clock: fn() -> Now,
}

impl Intercept for CountRequests {
    fn name(&self) -> &'static str {
        "CountRequests"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = settings.load::<Metadata>().map_or("other", Metadata::name);
        let is_ok = context.output_or_error().is_some_and(|end| end.is_ok());
        self.requests.count(operation, is_ok, context.response().map(HttpResponse::headers), self.clock);
        Ok(())
    }
}

impl Bucket {
    /// Returns the requests so far.
    pub fn request_counts(&self) -> RequestCounts {
        self.requests.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns how many seconds the clock of this box is behind that of AWS, negative if it is ahead; `None` if AWS has
    /// not answered yet. No other store is believed: its clock may be the wrong one.
    pub fn clock_behind_seconds(&self) -> Option<i64> {
        let behind = self.requests.behind_seconds.load(Ordering::Relaxed);
        (self.endpoint.get().is_some_and(|endpoint| endpoint.is_aws) && behind != UNKNOWN).then_some(behind)
    }
}
