//! The certificates that this box trusts where it calls a server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::message;

/// The certificates that a client trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Those of the system.
    System {
        /// A file of more certificates, in PEM.
        besides: Option<PathBuf>,
    },
    /// None: the endpoint is plain HTTP.
    Nothing,
}

impl Trust {
    /// Trusts the certificates of the system, and those of this file or of the one that `AWS_CA_BUNDLE` names.
    pub fn system(ca_bundle: Option<&Path>) -> Self {
        let named = || std::env::var_os("AWS_CA_BUNDLE").map(PathBuf::from);
        Self::System { besides: ca_bundle.map(Path::to_owned).or_else(named) }
    }
}

/// Returns the settings of TLS for a client that trusts these.
///
/// # Panics
/// Never: ring supports the versions that rustls considers safe.
pub fn tls(trust: &Trust) -> ClientConfig {
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
