//! A proxy between the daemon and the store that writes down every request, so that requests are counted from outside.
//!
//! It changes nothing: method, target, headers and body pass as they are (the signature covers the Host header), and
//! the daemon's connections stay open as long as the daemon likes.

use std::io;
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

impl Exchange {
    fn is_probe(&self) -> bool {
        self.path.ends_with(hk_aws::bucket::PROBE) || self.query.contains(hk_aws::bucket::PROBE)
    }
}

#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Exchange>>>,
    hold: watch::Sender<Hold>,
    lose: Arc<Mutex<Lose>>,
    // Its end ends every connection.
    _runtime: Runtime,
}

/// What one connection needs.
#[derive(Debug, Clone)]
struct Forward {
    upstream: String,
    log: Arc<Mutex<Vec<Exchange>>>,
    hold: watch::Receiver<Hold>,
    lose: Arc<Mutex<Lose>>,
}

/// Answers to requests whose method and target hold this text are kept back.
type Hold = Option<&'static str>;

/// So many answers to requests whose method and target hold the text are lost, and their connections with them.
type Lose = (usize, &'static str);

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
        let (hold, holding) = watch::channel(None);
        let lose = Arc::new(Mutex::new((0, "")));
        let upstream = upstream.strip_prefix("http://").unwrap().to_owned();
        let forward = Forward { upstream, log: Arc::clone(&log), hold: holding, lose: Arc::clone(&lose) };
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
        Self { address, log, hold, lose, _runtime: runtime }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far but for the probe's, in the order in which they began.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        self.log.lock().unwrap().iter().filter(|exchange| !exchange.is_probe()).cloned().collect()
    }

    /// The requests that try what the store does with conditions, in the order in which they began.
    pub(crate) fn probes(&self) -> Vec<Exchange> {
        self.log.lock().unwrap().iter().filter(|exchange| exchange.is_probe()).cloned().collect()
    }

    /// Keeps answers back from the daemon: requests still reach the store, and are done there.
    pub(crate) fn hold_answers(&self) {
        self.hold_answers_to("");
    }

    /// Keeps back the answers to requests whose method and target hold `text`.
    pub(crate) fn hold_answers_to(&self, text: &'static str) {
        self.hold.send_replace(Some(text));
    }

    pub(crate) fn release_answers(&self) {
        self.hold.send_replace(None);
    }

    /// Loses one answer to a request whose method and target hold `text`: it is done, and the connection ends.
    pub(crate) fn lose_answer_to(&self, text: &'static str) {
        *self.lose.lock().unwrap() = (1, text);
    }

    /// Whether the answer was lost.
    pub(crate) fn has_lost(&self) -> bool {
        self.lose.lock().unwrap().0 == 0
    }
}

impl Forward {
    async fn exchange(self, request: Request<Incoming>) -> io::Result<Response<BoxBody<Bytes, hyper::Error>>> {
        let said = format!("{} {}", request.method(), request.uri());
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
        hold.wait_for(|hold| hold.is_none_or(|text| !said.contains(text))).await.ok();
        {
            let mut lose = self.lose.lock().unwrap();
            if lose.0 > 0 && said.contains(lose.1) {
                lose.0 -= 1;
                return Err(io::Error::other("lost"));
            }
        }
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
