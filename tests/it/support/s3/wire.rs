//! The HTTP layer: records every request and carries out the scripted faults round the store.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{NaiveDateTime, TimeDelta, Utc};
use hk_aws::bucket::PROBE;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{HeaderMap, Method, Response, StatusCode, service::service_fn};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{HttpError, StdError};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{OWNERS_ACCESS_KEY, REGION, Request, Shared, State, store};

/// A failure that strikes the next requests for one operation (`*`: for any).
pub(crate) struct Fault {
    pub(crate) operation: &'static str,
    key: Box<dyn Fn(&str) -> bool + Send + Sync>,
    effect: Effect,
    left: usize,
}

#[derive(Clone)]
enum Effect {
    Fail { status: StatusCode, code: &'static str, message: String },
    Answer { status: StatusCode, headers: &'static [(&'static str, &'static str)], body: &'static str },
    Delay(Duration),
    Reset,
    CutBody(u64),
    AlterBody,
    Meanwhile(Arc<dyn Fn(&mut State) + Send + Sync>),
    LoseReply,
    FinishLater(Duration),
    Hang,
}

impl Fault {
    /// The daemon's trial of what the store does with conditions is spared, or no test could tell how often a fault strikes.
    fn new(operation: &'static str, effect: Effect) -> Self {
        let key = Box::new(|key: &str| !key.ends_with(PROBE));
        Self { operation, key, effect, left: usize::MAX }
    }

    /// Answers an S3 error instead of carrying the request out, once its body was read; 200 gives an error in the body.
    pub(crate) fn fail(operation: &'static str, status: u16, code: &'static str) -> Self {
        let status = StatusCode::from_u16(status).expect("a valid status");
        Self::new(operation, Effect::Fail { status, code, message: format!("scripted {code}") })
    }

    /// Answers this, whatever it is, instead of carrying the request out, once its body was read.
    pub(crate) fn answer(
        operation: &'static str,
        status: u16,
        headers: &'static [(&'static str, &'static str)],
        body: &'static str,
    ) -> Self {
        let status = StatusCode::from_u16(status).expect("a valid status");
        Self::new(operation, Effect::Answer { status, headers, body })
    }

    /// Carries the request out, but only after `delay`.
    pub(crate) fn delay(operation: &'static str, delay: Duration) -> Self {
        Self::new(operation, Effect::Delay(delay))
    }

    /// Resets the connection after the head of the request, before any of its body is read.
    pub(crate) fn reset(operation: &'static str) -> Self {
        Self::new(operation, Effect::Reset)
    }

    /// Resets the connection once `bytes` of the request's body have been read; the store never sees them whole.
    pub(crate) fn cut_body(operation: &'static str, bytes: u64) -> Self {
        Self::new(operation, Effect::CutBody(bytes))
    }

    /// Changes the bucket before it carries the request out, as somebody else does meanwhile.
    pub(crate) fn meanwhile(operation: &'static str, change: impl Fn(&mut State) + Send + Sync + 'static) -> Self {
        Self::new(operation, Effect::Meanwhile(Arc::new(change)))
    }

    /// Changes the first byte of the request's body on its way to the store.
    pub(crate) fn alter_body(operation: &'static str) -> Self {
        Self::new(operation, Effect::AlterBody)
    }

    /// Carries the request out, then resets the connection without an answer.
    pub(crate) fn lose_reply(operation: &'static str) -> Self {
        Self::new(operation, Effect::LoseReply)
    }

    /// Resets the connection without an answer, and carries the request out only after `delay`.
    pub(crate) fn finish_later(operation: &'static str, delay: Duration) -> Self {
        Self::new(operation, Effect::FinishLater(delay))
    }

    /// Does nothing until the faults are cleared, then carries the request out.
    pub(crate) fn hang(operation: &'static str) -> Self {
        Self::new(operation, Effect::Hang)
    }

    /// Strikes `times` requests; without it, all of them until the faults are cleared.
    pub(crate) fn times(mut self, times: usize) -> Self {
        self.left = times;
        self
    }

    /// Strikes only requests whose key `matches`, those of the trial too.
    pub(crate) fn on_key(mut self, matches: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.key = Box::new(matches);
        self
    }

    /// Answers this text with the error.
    pub(crate) fn message(mut self, text: &str) -> Self {
        if let Effect::Fail { message, .. } = &mut self.effect {
            text.clone_into(message);
        }
        self
    }
}

impl State {
    /// Takes what the first fault that matches does, and counts it down.
    fn strike(&mut self, operation: &str, key: &str) -> Option<Effect> {
        let matches = |fault: &Fault| (fault.operation == "*" || fault.operation == operation) && (fault.key)(key);
        let position = self.faults.iter().position(|fault| fault.left > 0 && matches(fault))?;
        let fault = &mut self.faults[position];
        fault.left -= 1;
        Some(fault.effect.clone())
    }

    /// Returns why the bucket's owner or its policy denies a request, if one does.
    fn denies(&self, operation: &str, headers: &HeaderMap, query: &str) -> Option<&'static str> {
        let expected = header(headers, "x-amz-expected-bucket-owner");
        if expected.is_some_and(|expected| expected != self.owner) {
            return Some("Access Denied");
        }
        if !self.ways.denies_overwriting || header(headers, "authorization")?.contains(OWNERS_ACCESS_KEY) {
            return None;
        }
        let denied = match operation {
            "PutObject" | "CompleteMultipartUpload" => !headers.contains_key("if-none-match"),
            "CopyObject" | "ListObjectVersions" => true,
            _ => query.contains("versionId="),
        };
        denied.then_some(
            "User: arn:aws:iam::111122223333:user/captures is not authorized to perform: s3:PutObject on resource: \
             \"arn:aws:s3:::captures\" with an explicit deny in a resource-based policy",
        )
    }
}

/// What every connection shares.
pub(super) struct Wire {
    pub(super) shared: Arc<Shared>,
    service: S3Service,
}

/// Accepts connections until `stop`, then resets them all.
pub(super) async fn listen(listener: TcpListener, wire: Arc<Wire>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(serve(stream, Arc::clone(&wire), stop.child_token()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection until its end, or resets it (RST, not FIN) when `reset` is cancelled.
async fn serve(stream: TcpStream, wire: Arc<Wire>, reset: CancellationToken) {
    // Without it an answer in two segments waits for the client's delayed acknowledgement.
    stream.set_nodelay(true).ok();
    let service = service_fn(|request| Arc::clone(&wire).answer(request, reset.clone()));
    let mut connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // The client may go away at any time: that is its business.
        _ = &mut connection => {}
        () = reset.cancelled() => {
            connection.into_parts().io.into_inner().set_zero_linger().ok();
        }
    }
}

impl Wire {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let mut builder = S3ServiceBuilder::new(store::Store(Arc::clone(&shared)));
        builder.set_auth(store::Keys);
        // Clocks are judged here, see `is_skewed`.
        let mut config = S3Config::default();
        config.presigned_url_max_skew_time_secs = u32::MAX;
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        Self { shared, service: builder.build() }
    }

    async fn answer(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
        reset: CancellationToken,
    ) -> Result<Response<s3s::Body>, HttpError> {
        let (operation, key) = name(&request);
        let (index, effect) = self.shared.change(|state| {
            let effect = state.strike(operation, &key);
            state.strangers_answers += u64::from(matches!(effect, Some(Effect::Answer { .. })));
            let received = Instant::now();
            state.requests.push(Request {
                operation,
                key,
                status: None,
                received,
                answered: None,
                bytes: 0,
                sent: 0,
                expected_owner: header(request.headers(), "x-amz-expected-bucket-owner"),
            });
            (state.requests.len() - 1, effect)
        });
        // A cache that goes by the whole address, and minds no header.
        let look = Some(request.uri().to_string())
            .filter(|_| operation == "HeadObject" && self.shared.state().caches_looks && effect.is_none());
        let cached = look.as_ref().and_then(|look| self.shared.state().cached_looks.get(look).cloned());
        if let Some((status, headers)) = cached {
            let mut response = Response::builder().status(status).body(s3s::Body::empty()).expect("it has no body");
            *response.headers_mut() = headers;
            return Ok(response);
        }
        let (mut limit, mut altered) = (u64::MAX, false);
        match &effect {
            Some(Effect::Reset) => hang_up(&reset).await,
            Some(Effect::Hang) => self.wait_until_cleared().await,
            Some(Effect::Delay(delay)) => tokio::time::sleep(*delay).await,
            Some(Effect::CutBody(bytes)) => limit = *bytes,
            Some(Effect::AlterBody) => altered = true,
            Some(Effect::Meanwhile(change)) => self.shared.change(|state| change(state)),
            Some(Effect::Fail { .. } | Effect::Answer { .. } | Effect::LoseReply | Effect::FinishLater(_)) | None => {}
        }
        let shared = Arc::clone(&self.shared);
        let denied =
            self.shared.state().denies(operation, request.headers(), request.uri().query().unwrap_or_default());
        let request = request.map(|body| Counted { body, index, shared, limit, altered, reset: reset.clone() });
        let (ahead, dated_ahead) = {
            let state = self.shared.state();
            (state.clock_ahead, state.ahead_seconds)
        };
        // Clients sign by the date of an earlier answer: requests are judged only where answers have the real one.
        let mut response = if dated_ahead == 0 && is_skewed(request.headers(), ahead) {
            request.into_body().collect().await.map_err(HttpError::new)?;
            let message = "The difference between the request time and the current time is too large.";
            refusal(StatusCode::FORBIDDEN, "RequestTimeTooSkewed", message)
        } else if let Some(Effect::Fail { status, code, message }) = &effect {
            // S3 reads a body before it refuses it; a client that still writes could miss the answer.
            request.into_body().collect().await.map_err(HttpError::new)?;
            refusal(*status, code, message)
        } else if let Some(message) = denied {
            request.into_body().collect().await.map_err(HttpError::new)?;
            refusal(StatusCode::FORBIDDEN, "AccessDenied", message)
        } else if let Some(Effect::Answer { status, headers, body }) = &effect {
            request.into_body().collect().await.map_err(HttpError::new)?;
            let response = Response::builder().status(*status);
            let response = headers.iter().fold(response, |response, (name, value)| response.header(*name, *value));
            response.body(s3s::Body::from((*body).to_owned())).expect("the headers are valid")
        } else if let Some(Effect::FinishLater(delay)) = effect {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(HttpError::new)?.to_bytes();
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let _nobody_waits = self.service.call(hyper::Request::from_parts(head, body.into())).await;
            });
            hang_up(&reset).await;
            unreachable!("nobody is left to answer")
        } else {
            self.service.call(request.map(s3s::Body::http_body_unsync)).await?
        };
        if matches!(effect, Some(Effect::LoseReply)) {
            hang_up(&reset).await;
        }
        if dated_ahead != 0 {
            let now = chrono::Utc::now() + chrono::TimeDelta::seconds(dated_ahead);
            let date = now.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            response.headers_mut().insert("date", date.parse().expect("a date is ASCII"));
        }
        if !matches!(effect, Some(Effect::Answer { .. })) && !self.shared.state().ways.without_request_ids {
            response.headers_mut().insert("x-amz-request-id", "4442587FB7D0A2F9".parse().expect("it is ASCII"));
        }
        if let Some(look) = look {
            self.shared.change(|state| state.cached_looks.insert(look, head_of(&response)));
        }
        self.shared.change(|state| {
            state.requests[index].status = Some(response.status().as_u16());
            state.requests[index].answered = Some(Instant::now());
            state.requests[index].sent = response.body().size_hint().exact().unwrap_or(0);
        });
        Ok(response)
    }

    async fn wait_until_cleared(&self) {
        let mut changes = self.shared.changed.subscribe();
        let before = self.shared.state().cleared;
        while self.shared.state().cleared == before {
            changes.changed().await.expect("the sender lives in self");
        }
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Resets the connection and never returns: the future that waits here is dropped with it.
async fn hang_up(reset: &CancellationToken) {
    reset.cancel();
    std::future::pending::<()>().await;
}

/// Whether a request was signed by a clock that a server's, so many seconds ahead of ours, refuses
/// (S3 API Reference, "Error responses": `RequestTimeTooSkewed`).
fn is_skewed(headers: &HeaderMap, ahead: i64) -> bool {
    let signed = headers.get("x-amz-date").and_then(|date| date.to_str().ok());
    let signed = signed.and_then(|date| NaiveDateTime::parse_from_str(date, "%Y%m%dT%H%M%SZ").ok());
    let now = Utc::now() + TimeDelta::seconds(ahead);
    signed.is_some_and(|signed| (now - signed.and_utc()).abs() > TimeDelta::minutes(15))
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response<s3s::Body> {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
         <RequestId>4442587FB7D0A2F9</RequestId></Error>"
    );
    let mut response = Response::builder().status(status).header("content-type", "application/xml");
    if status.is_redirection() {
        response = response.header("x-amz-bucket-region", REGION);
    }
    response.body(s3s::Body::from(xml)).expect("the headers are valid")
}

/// Returns operation and key of a path-style request, as the API reference tells operations apart.
fn name<B>(request: &hyper::Request<B>) -> (&'static str, String) {
    let path = request.uri().path().trim_start_matches('/');
    let (_bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let query = request.uri().query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let copies = request.headers().contains_key("x-amz-copy-source");
    let operation = match (request.method(), key.is_empty()) {
        (&Method::PUT, false) if has("partNumber") => "UploadPart",
        (&Method::PUT, false) if copies => "CopyObject",
        (&Method::PUT, false) => "PutObject",
        (&Method::POST, false) if has("uploads") => "CreateMultipartUpload",
        (&Method::POST, false) if has("uploadId") => "CompleteMultipartUpload",
        (&Method::POST, false) if has("restore") => "RestoreObject",
        (&Method::POST, true) if has("delete") => "DeleteObjects",
        (&Method::DELETE, false) if has("uploadId") => "AbortMultipartUpload",
        (&Method::DELETE, false) if has("versionId") => "DeleteObjectVersion",
        (&Method::DELETE, false) => "DeleteObject",
        (&Method::GET, false) if has("uploadId") => "ListParts",
        (&Method::GET, false) if has("tagging") => "GetObjectTagging",
        (&Method::GET, false) if has("retention") => "GetObjectRetention",
        (&Method::GET, false) if has("legal-hold") => "GetObjectLegalHold",
        (&Method::GET, false) => "GetObject",
        (&Method::GET, true) if has("uploads") => "ListMultipartUploads",
        (&Method::GET, true) if has("list-type") => "ListObjectsV2",
        (&Method::GET, true) if has("versions") => "ListObjectVersions",
        (&Method::PUT, true) if has("versioning") => "PutBucketVersioning",
        (&Method::PUT, true) if has("lifecycle") => "PutBucketLifecycleConfiguration",
        (&Method::PUT, true) if has("policy") => "PutBucketPolicy",
        (&Method::GET, true) if has("lifecycle") => "GetBucketLifecycleConfiguration",
        (&Method::GET, true) if has("policy") => "GetBucketPolicy",
        (&Method::GET, true) if has("versioning") => "GetBucketVersioning",
        (&Method::GET, true) if has("object-lock") => "GetObjectLockConfiguration",
        (&Method::HEAD, false) => "HeadObject",
        (&Method::HEAD, true) => "HeadBucket",
        _ => "Other",
    };
    let prefix = || query.split('&').find_map(|pair| pair.strip_prefix("prefix="));
    let key = if operation == "ListMultipartUploads" { prefix().unwrap_or_default() } else { key };
    (operation, percent_decode_str(key).decode_utf8_lossy().into_owned())
}

/// A request's body that is counted as it is read, and cut at `limit`.
struct Counted {
    body: Incoming,
    index: usize,
    shared: Arc<Shared>,
    limit: u64,
    /// Whether the next byte is to be changed.
    altered: bool,
    reset: CancellationToken,
}

fn head_of(response: &Response<s3s::Body>) -> (StatusCode, HeaderMap) {
    (response.status(), response.headers().clone())
}

fn alter_first(data: &Bytes) -> Bytes {
    let mut data = data.to_vec();
    if let Some(first) = data.first_mut() {
        *first ^= 1;
    }
    data.into()
}

impl Body for Counted {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        // Asked once more after the cut, the body would end well, and a part of it would count as the whole.
        if self.reset.is_cancelled() {
            return Poll::Pending;
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            let read = self.shared.change(|state| {
                let bytes = &mut state.requests[self.index].bytes;
                *bytes += data.len() as u64;
                *bytes
            });
            if read >= self.limit {
                self.reset.cancel();
                return Poll::Pending;
            }
        }
        let altered = std::mem::take(&mut self.altered);
        let alter = |data: Bytes| if altered { alter_first(&data) } else { data };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(alter)).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
