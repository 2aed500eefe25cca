//! The broker through which Home Assistant is told.

use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

/// Where and how Home Assistant is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MqttSettings {
    /// The broker.
    pub url: BrokerUrl,
    /// The user that the broker knows.
    pub user: Option<String>,
    /// The file with that user's password; only with a user.
    pub password_file: Option<PathBuf>,
    /// What discovery topics begin with.
    pub prefix: String,
}

/// The address of a broker, which holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    /// A name or an address, without the brackets of IPv6.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether the connection is encrypted, and the broker has to show a certificate.
    pub tls: bool,
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        if host.contains(':') { write!(f, "{scheme}://[{host}]:{port}") } else { write!(f, "{scheme}://{host}:{port}") }
    }
}

impl Serialize for BrokerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
