//! A service of the owner's: it takes what is posted to it over HTTP, and answers as it is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// What came.
#[derive(Debug, Clone)]
pub(crate) struct Posted {
    pub(crate) method: String,
    /// The path with its query.
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) body: String,
}

impl Posted {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// How it answers.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// With this status and text.
    Say(u16, String),
    /// With the request's own path in the text.
    Echo(u16),
}

/// A running service. Dropping it closes its port.
pub(crate) struct Service {
    address: std::net::SocketAddr,
    posted: watch::Receiver<Vec<Posted>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    _listening: AbortOnDropHandle<()>,
}

impl Service {
    /// One that answers 200 and `ok`.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, posted) = watch::channel(Vec::new());
        let answers = Arc::new(Mutex::new(VecDeque::from([Answer::Say(200, "ok".to_owned())])));
        let (sender, told) = (Arc::new(sender), Arc::clone(&answers));
        let listening = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (sender, told) = (Arc::clone(&sender), Arc::clone(&told));
                let answer = service_fn(move |request| answer(request, Arc::clone(&sender), Arc::clone(&told)));
                tokio::spawn(async move {
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), answer)
                        .await
                        .ok();
                });
            }
        });
        Self { address, posted, answers, _listening: AbortOnDropHandle::new(listening) }
    }

    /// Its URL without a path.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers so from now on: one after the other, and the last one for ever.
    pub(crate) fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        *self.answers.lock().unwrap() = answers.into_iter().collect();
    }

    /// What came so far.
    pub(crate) fn posted(&self) -> Vec<Posted> {
        self.posted.borrow().clone()
    }

    /// Waits until what came is as wanted.
    pub(crate) async fn wait_for(&self, wanted: impl Fn(&[Posted]) -> bool) -> Vec<Posted> {
        let mut posted = self.posted.clone();
        let waited = tokio::time::timeout(Duration::from_mins(1), posted.wait_for(|posted| wanted(posted))).await;
        match waited {
            Ok(posted) => posted.unwrap().clone(),
            Err(late) => panic!("{late}: what came is not what is wanted: {:#?}", self.posted()),
        }
    }
}

async fn answer(
    request: Request<hyper::body::Incoming>,
    sender: Arc<watch::Sender<Vec<Posted>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (authorization, content_type) = (header("authorization"), header("content-type"));
    let method = request.method().to_string();
    let path = request.uri().path_and_query().unwrap().to_string();
    let body = request.into_body().collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
    let posted = Posted { method, path, authorization, content_type, body: String::from_utf8(body).unwrap() };
    let answer = {
        let mut answers = answers.lock().unwrap();
        if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
    };
    let (status, text) = match answer {
        Answer::Say(status, text) => (status, text),
        Answer::Echo(status) => (status, format!("Cannot {} {}", posted.method, posted.path)),
    };
    sender.send_modify(|all| all.push(posted));
    Ok(Response::builder().status(status).body(Full::from(text)).unwrap())
}
