//! How the store is connected to: the SDK's own HTTP client but for two things that it does not let one set.
//!
//! The kernel gives up a connection on which it gets no acknowledgement for a while (`TCP_USER_TIMEOUT`, tcp(7)); without
//! it that takes a quarter of an hour, and every guess from outside mistakes a slow line for a dead one. And uploads go
//! over HTTP/1.1, a connection each: over one connection of HTTP/2 a clip would hold up the pictures behind it.

use std::sync::Arc;
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
use rustls::{ClientConfig, RootCertStore};

/// A host that does not answer a connection for so long is taken for dead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// So long nothing of what was sent may be acknowledged. The slowest lines queue some seconds of data.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(20);

/// An idle connection is kept for so long: a router that forgot it in an outage must not cost the first requests after it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

type Hyper = Client<HttpsConnector<HttpConnector>, SdkBody>;

#[derive(Debug)]
struct Connector(Hyper);

/// A client for any number of requests at a time; `https` where it needs certificates.
pub(super) fn client(https: bool) -> SharedHttpClient {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_tcp_user_timeout(Some(ACKNOWLEDGE_TIMEOUT));
    let https =
        HttpsConnectorBuilder::new().with_tls_config(tls(https)).https_or_http().enable_http1().wrap_connector(tcp);
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build(https);
    let connector = SharedHttpConnector::new(Connector(client));
    http_client_fn(move |_settings, _components| connector.clone())
}

/// Trusts what the system trusts, if anything is to be trusted.
fn tls(needed: bool) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    if needed {
        let found = rustls_native_certs::load_native_certs();
        let (_valid, _unknown) = roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::warn!("the system has no certificates to know an https endpoint by: install ca-certificates");
        }
    }
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows the versions that rustls takes for safe")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

impl Connect for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let response = client.request(request).await.map_err(|error| ConnectorError::io(error.into()))?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}
