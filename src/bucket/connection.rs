//! Connections to the store: the SDK's own HTTP client, with two settings that it does not offer.
//!
//! The kernel gives up a connection on which nothing is acknowledged for a while (`TCP_USER_TIMEOUT`, tcp(7)). By
//! default that takes a quarter of an hour, and a time-out above the kernel cannot tell a slow line from a dead one.
//! And each upload has an HTTP/1.1 connection of its own: on a shared HTTP/2 connection a clip would hold up the
//! pictures behind it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{
    HttpClient as _, HttpConnector as Connect, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
    http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

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

/// Returns a client that trusts these certificates.
pub(super) fn client(trust: &Trust) -> Connector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_tcp_user_timeout(Some(ACKNOWLEDGE_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_keepalive_retries(Some(3));
    let https =
        HttpsConnectorBuilder::new().with_tls_config(tls(trust)).https_or_http().enable_http1().wrap_connector(tcp);
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build(https);
    Connector(Arc::new(client))
}

/// Returns a client for the places where keys are looked for. It is made when one of them is asked: most keys come from a
/// file, and reading the certificates of the system takes longer than to put a capture.
pub(super) fn client_of_keys() -> SharedHttpClient {
    let made = OnceLock::<SharedHttpClient>::new();
    http_client_fn(move |settings, components| {
        let make = || Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        made.get_or_init(make).http_connector(settings, components)
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
