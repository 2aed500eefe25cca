//! Connections to the store: the SDK's own HTTP client, with two settings that it does not offer.
//!
//! The kernel gives up a connection on which nothing is acknowledged for a while (`TCP_USER_TIMEOUT`, tcp(7)). By
//! default that takes a quarter of an hour, and a time-out above the kernel cannot tell a slow line from a dead one.
//! And each upload has an HTTP/1.1 connection of its own: on a shared HTTP/2 connection a clip would hold up the
//! pictures behind it.

use std::path::{Path, PathBuf};
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
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::message;

/// A host that does not accept a connection within this time is taken for dead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long sent bytes may stay unacknowledged. The slowest lines queue some seconds of data.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a silent peer is left alone before the kernel asks whether it is still there: an answer may take long.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// How long an idle connection is kept. A router may forget it in an outage, which must not cost the first requests
/// after.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// The certificates that a client trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// Those of the system.
    System {
        /// A file of more certificates, in PEM.
        besides: Option<PathBuf>,
    },
    /// None: the endpoint is plain HTTP.
    Nothing,
}

type Hyper = Client<HttpsConnector<HttpConnector>, SdkBody>;

#[derive(Debug)]
struct Connector(Hyper);

/// Returns a client for any number of simultaneous requests.
pub(super) fn client(trust: &Trust) -> SharedHttpClient {
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
    let connector = SharedHttpConnector::new(Connector(client));
    http_client_fn(move |_settings, _components| connector.clone())
}

fn tls(trust: &Trust) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    if let Trust::System { besides } = trust {
        let found = rustls_native_certs::load_native_certs();
        let (_valid, _unknown) = roots.add_parsable_certificates(found.certs);
        if let Some(path) = besides
            && let Err(why) = add_bundle(&mut roots, path)
        {
            tracing::error!(
                message_id = message::CERTIFICATES,
                "the certificates of {} (s3.ca_bundle, or AWS_CA_BUNDLE) are not trusted: {why}",
                path.display()
            );
        }
        if roots.is_empty() {
            tracing::warn!(
                message_id = message::CERTIFICATES,
                "the system has no certificates to check an https endpoint with: install ca-certificates"
            );
        }
    }
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports the versions that rustls considers safe")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Trusts the certificates in a file, besides others.
///
/// # Errors
/// Says why there are none.
fn add_bundle(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| format!("the file cannot be read: {error}"))?;
    match roots.add_parsable_certificates(found) {
        (0, 0) => Err("the file has no certificate in PEM".to_owned()),
        (0, _) => Err("no certificate in the file is valid".to_owned()),
        _ => Ok(()),
    }
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
