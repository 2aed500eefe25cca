//! Connections to the store, and to the places where keys are looked for: an HTTP client of the parts that the SDK's own is
//! made of, with two settings that it does not offer.
//!
//! The kernel gives up a connection on which nothing is acknowledged for a while (`TCP_USER_TIMEOUT`, tcp(7)). By
//! default that takes a quarter of an hour, and a time-out above the kernel cannot tell a slow line from a dead one.
//! And each upload has an HTTP/1.1 connection of its own: on a shared HTTP/2 connection a clip would hold up the
//! pictures behind it.

use std::error::Error;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpConnector as Connect, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use crate::trust::{Trust, tls};

/// A host that does not accept a connection within this time is taken for dead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long sent bytes may stay unacknowledged. The slowest lines queue some seconds of data.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a silent peer is left alone before the kernel asks whether it is still there: an answer may take long.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// How long an idle connection is kept. A router may forget it in an outage, which must not cost the first requests
/// after.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// A client for any number of simultaneous requests; clones share its connections.
#[derive(Debug, Clone)]
pub(super) struct Connector(Arc<Client<HttpsConnector<HttpConnector>, SdkBody>>);

/// A client whose answers have to begin within a time.
#[derive(Debug, Clone)]
struct Hasty {
    client: Connector,
    within: Option<Duration>,
}

/// Returns a client that trusts these certificates.
pub(super) fn client(trust: &Trust) -> Connector {
    connecting(tls(trust), CONNECT_TIMEOUT)
}

/// Returns a client that gives up a host that does not accept a connection within a time.
fn connecting(tls: ClientConfig, within: Duration) -> Connector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(within));
    tcp.set_tcp_user_timeout(Some(ACKNOWLEDGE_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_keepalive_retries(Some(3));
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build(https);
    Connector(Arc::new(client))
}

/// Returns a client for the places where keys are looked for, each of which says how long it may take. The certificates of
/// the system are read when one of them is asked: most keys come from a file, and reading them takes longer than to put a
/// capture.
pub(super) fn client_of_keys() -> SharedHttpClient {
    let trusted = OnceLock::<ClientConfig>::new();
    http_client_fn(move |settings, _components| {
        let tls = trusted.get_or_init(|| tls(&Trust::system(None))).clone();
        let client = connecting(tls, settings.connect_timeout().unwrap_or(CONNECT_TIMEOUT));
        SharedHttpConnector::new(Hasty { client, within: settings.read_timeout() })
    })
}

impl Connector {
    /// Returns the client as the SDK uses it.
    pub(super) fn for_sdk(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_settings, _components| connector.clone())
    }

    /// Sends a request, and returns the answer with its body still to be read.
    pub(super) async fn send(&self, request: http::Request<SdkBody>) -> Result<HttpResponse, ConnectorError> {
        let response = self.0.request(request).await.map_err(|error| ConnectorError::io(error.into()))?;
        HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
            .map_err(|error| ConnectorError::other(error.into(), None))
    }
}

impl Connect for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connector = self.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            connector.send(request).await
        })
    }
}

impl Connect for Hasty {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (answer, within) = (self.client.call(request), self.within.unwrap_or(Duration::MAX));
        HttpConnectorFuture::new(async move {
            match tokio::time::timeout(within, answer).await {
                // Only an error that says so is not tried again by those who ask: off EC2 every try costs a second.
                Ok(Err(error)) if is_late(&error) => Err(ConnectorError::timeout(error.into())),
                Ok(answer) => answer,
                Err(elapsed) => Err(ConnectorError::timeout(elapsed.into())),
            }
        })
    }
}

/// Returns whether a host did not accept a connection in time.
fn is_late(error: &ConnectorError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Off EC2 nobody answers at its address, and every command would wait for it.
    #[tokio::test]
    async fn a_place_of_keys_that_does_not_answer_is_given_up_when_it_says() {
        let soon = Duration::from_millis(50);
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = socket.listen(1).unwrap();
        let address = silent.local_addr().unwrap();
        let ask = async |connect, read| {
            let hasty = Hasty { client: connecting(tls(&Trust::Nothing), connect), within: read };
            let asked = hasty.call(HttpRequest::get(format!("http://{address}/latest/api/token")).unwrap());
            tokio::time::timeout(CONNECT_TIMEOUT, asked).await.expect("it is given up earlier").unwrap_err()
        };
        let error = ask(CONNECT_TIMEOUT, Some(soon)).await;
        assert!(error.is_timeout(), "it takes the connection and says nothing: {error}");
        // What it has not taken yet fills its queue, and the kernel lets the next one wait.
        let mut queued = Vec::new();
        while let Ok(connected) = tokio::time::timeout(soon, tokio::net::TcpStream::connect(address)).await {
            queued.push(connected.unwrap());
        }
        let error = ask(soon, None).await;
        assert!(error.is_timeout(), "it takes no connection: {error}");
    }
}
