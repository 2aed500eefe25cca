//! Figures for Prometheus at `/metrics`, and whether all is well at `/healthz`.
//!
//! A scrape reads the last whole snapshot: it asks neither the loop nor a disk nor the bucket, and it holds nothing up: the
//! snapshot is shared, and its text is made in a thread that may block. Whoever can reach the port is
//! not trusted: connections are few, short and small, and what cannot be answered at once is closed. A crate for metrics was
//! rejected: the snapshot has the figures already, and a registry beside it would be a second truth.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue, VARY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::health::Board;
use crate::message;
use crate::site::SiteInForce;
use crate::status::{Condition, ConditionKind, DaemonState, Snapshot};

mod text;

pub use text::{Format, render};

/// The most connections at the same time; any other is closed at once.
const MOST_CONNECTIONS: usize = 16;

/// How long a connection may take from its first byte to its last.
const LONGEST: Duration = Duration::from_secs(10);

/// How long the headers of a request may take.
const HEADERS: Duration = Duration::from_secs(5);

/// The most bytes of a request that are held.
const BUFFER_BYTES: usize = 16 << 10;

/// The most headers of a request.
const MOST_HEADERS: usize = 64;

/// How long to wait until an address that is taken is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// The content type of everything else.
const TEXT: &str = "text/plain; charset=utf-8";

/// What an answer is made of.
type Facts = (watch::Receiver<Arc<Snapshot>>, watch::Receiver<SiteInForce>);

/// Answers at `listen`, for ever. An address that cannot be used is a condition, and is tried again.
pub async fn serve(
    listen: SocketAddr,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    sites: watch::Receiver<SiteInForce>,
    board: Board,
) {
    let listener = bind(listen, &snapshots, &board).await;
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                let facts = (snapshots.clone(), sites.clone());
                tokio::spawn(async move {
                    // A client that is too slow has only its own connection to lose.
                    let _late = tokio::time::timeout(LONGEST, answer(stream, facts)).await;
                    drop(place);
                });
            }
            // Out of descriptors: others need them more.
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// Takes the address, however long that is impossible.
async fn bind(listen: SocketAddr, snapshots: &watch::Receiver<Arc<Snapshot>>, board: &Board) -> TcpListener {
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => {
                if board.clear(ConditionKind::MetricsPort, None) {
                    tracing::info!("metrics can be read at {listen} now");
                }
                return listener;
            }
            Err(error) => {
                let sentence = format!("the metrics cannot be read: {listen} cannot be used");
                let advice = "end what uses that address, or correct metrics.listen and restart hk-aws";
                let is_new = !board.raised().iter().any(|raised| raised.kind == ConditionKind::MetricsPort);
                if is_new {
                    tracing::warn!(message_id = message::METRICS_PORT, "{sentence} ({error}): {advice}");
                }
                let since = snapshots.borrow().at;
                let condition = Condition::new(ConditionKind::MetricsPort, since, sentence, advice);
                board.raise(condition.with_detail(error.to_string()));
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, facts: Facts) {
    let service = service_fn(|request| respond(request, &facts));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(MOST_HEADERS)
        // A scrape a minute needs no connection that stays.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!("a request for the metrics broke off: {error}");
    }
}

/// Returns the answer to a request; its body is never read.
async fn respond(
    request: Request<Incoming>,
    (snapshots, sites): &Facts,
) -> Result<Response<Full<Bytes>>, tokio::task::JoinError> {
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
            let format = accept.map_or(Format::Prometheus, Format::accepted);
            let requests = sites.borrow().site.bucket.request_counts();
            let snapshot = Arc::clone(&snapshots.borrow());
            // The thread that this runs in may be the one of the loop.
            let text = tokio::task::spawn_blocking(move || render(format, &snapshot, &requests)).await?;
            (StatusCode::OK, format.content_type(), text)
        }
        (&Method::GET | &Method::HEAD, "/healthz") => {
            let (status, text) = healthz(&snapshots.borrow());
            (status, TEXT, text)
        }
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, TEXT, "there are /metrics and /healthz\n".to_owned())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

/// Returns whether all is well: 200 if the state is `ok`, otherwise 503 with what is wrong, a line each.
fn healthz(snapshot: &Snapshot) -> (StatusCode, String) {
    let status = match snapshot.state {
        DaemonState::Ok => StatusCode::OK,
        DaemonState::Starting | DaemonState::Degraded | DaemonState::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut text = format!("{}\n", snapshot.headline());
    for condition in &snapshot.conditions {
        let sentence = condition.sentence.replace('\n', " ");
        let _infallible = writeln!(text, "{}: {sentence}", condition.kind.name());
    }
    (status, text)
}
