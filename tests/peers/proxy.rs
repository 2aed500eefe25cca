//! A proxy between the daemon and the store that writes down every request, so that requests are counted from outside.
//!
//! It changes nothing: method, target, headers and body pass as they are (the signature covers the Host header), and
//! the daemon's connections stay open as long as the daemon likes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// A request that the daemon sent.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) method: String,
    /// As sent: percent-encoded, with the bucket first.
    pub(crate) path: String,
    pub(crate) query: String,
    /// The store's answer, once it is there.
    pub(crate) status: Option<u16>,
    /// When the answer went on to the daemon.
    pub(crate) answered: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Exchange>>>,
    hold: watch::Sender<bool>,
    // Its end ends every connection.
    _runtime: Runtime,
}

/// What one connection needs.
#[derive(Debug, Clone)]
struct Forward {
    upstream: String,
    log: Arc<Mutex<Vec<Exchange>>>,
    hold: watch::Receiver<bool>,
}

impl Proxy {
    /// Listens on a port of its own and forwards to `upstream`, an `http://` URL without a path.
    pub(crate) fn start(upstream: &str) -> Self {
        Self::listen("127.0.0.1", upstream)
    }

    /// Listens on that address of this machine.
    pub(crate) fn listen(address: &str, upstream: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind((address, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (hold, holding) = watch::channel(false);
        let upstream = upstream.strip_prefix("http://").unwrap().to_owned();
        let forward = Forward { upstream, log: Arc::clone(&log), hold: holding };
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let forward = forward.clone();
                let service = service_fn(move |request| forward.clone().exchange(request));
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                // A connection that the daemon or the store cuts is theirs to judge; the log shows the missing answer.
                tokio::spawn(async { connection.await.ok() });
            }
        });
        Self { address, log, hold, _runtime: runtime }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far, in the order in which they began.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        self.log.lock().unwrap().clone()
    }

    /// Keeps answers back from the daemon: requests still reach the store, and are done there.
    pub(crate) fn hold_answers(&self) {
        self.hold.send_replace(true);
    }

    pub(crate) fn release_answers(&self) {
        self.hold.send_replace(false);
    }
}

impl Forward {
    async fn exchange(self, request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, hyper::Error>>, Infallible> {
        let index = {
            let mut log = self.log.lock().unwrap();
            log.push(Exchange {
                method: request.method().to_string(),
                path: request.uri().path().to_owned(),
                query: request.uri().query().unwrap_or_default().to_owned(),
                status: None,
                answered: None,
            });
            log.len() - 1
        };
        let Ok(response) = send(&self.upstream, request).await else {
            let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            return Ok(response);
        };
        self.log.lock().unwrap()[index].status = Some(response.status().as_u16());
        let mut hold = self.hold.clone();
        hold.wait_for(|hold| !hold).await.ok();
        self.log.lock().unwrap()[index].answered = Some(Instant::now());
        Ok(response.map(BodyExt::boxed))
    }
}

async fn send(upstream: &str, request: Request<Incoming>) -> anyhow::Result<Response<Incoming>> {
    let stream = TcpStream::connect(upstream).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async { connection.await.ok() });
    Ok(sender.send_request(request).await?)
}
