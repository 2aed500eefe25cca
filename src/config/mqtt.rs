//! The broker through which Home Assistant is told.

use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::check;
use super::problem::Fault;
use super::reader::Section;

/// The ports of brokers (IANA, "Service Name and Transport Protocol Port Number Registry": `mqtt` and `secure-mqtt`).
const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

/// Home Assistant's own prefix of discovery topics (Home Assistant, "MQTT", "Discovery options").
const PREFIX: &str = "homeassistant";

/// The longest prefix, in bytes: enough for every purpose, and far from the 65,535 of a whole topic.
const PREFIX_BYTES: usize = 200;

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

impl BrokerUrl {
    pub(super) fn new(text: &str) -> Result<Self, Fault> {
        let mend = "write mqtt:// or mqtts://, a host, and a port if it is not the usual one, such as \
                    mqtt://homeassistant.local:1883";
        let wrong = |wrong: &str| Fault::new(wrong, mend);
        let (rest, tls) = match (text.strip_prefix("mqtt://"), text.strip_prefix("mqtts://")) {
            (Some(rest), _) => (rest, false),
            (None, Some(rest)) => (rest, true),
            (None, None) => return Err(wrong("does not begin with mqtt:// or mqtts://")),
        };
        if rest.contains('@') {
            return Err(Fault::new(
                "has a user",
                "write mqtt.user, and the file of the password as mqtt.password_file",
            ));
        }
        let (host, port) = check::host_and_port(rest.strip_suffix('/').unwrap_or(rest)).map_err(wrong)?;
        Ok(Self { host: host.to_owned(), port: port.unwrap_or(if tls { TLS_PORT } else { PORT }), tls })
    }
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

/// Reads the section; `None` only if a problem was recorded.
pub(super) fn mqtt(section: &Section<'_>) -> Option<MqttSettings> {
    let url = section.required(
        "url",
        "write the address of the broker, such as mqtt://homeassistant.local:1883",
        BrokerUrl::new,
    );
    let user = section.optional("user", None, check::text);
    let password_file = section.optional("password_file", None, check::absolute_path);
    if password_file.is_some() && user.is_none() {
        let mend = "write the user whose password it is";
        section.refuse("password_file", None, Fault::new("stands without mqtt.user", mend));
    }
    let prefix = section.value("prefix", PREFIX.to_owned(), prefix);
    Some(MqttSettings { url: url?, user, password_file, prefix })
}

/// Accepts the beginning of a topic (MQTT 3.1.1, 4.7).
fn prefix(text: &str) -> Result<String, Fault> {
    let fault = if text.is_empty() || text.split('/').any(str::is_empty) {
        Fault::new("is empty or has an empty part", "write the discovery prefix of Home Assistant: homeassistant")
    } else if text.starts_with('$') || text.contains(['#', '+']) || text.chars().any(char::is_control) {
        Fault::new("has $, #, + or control characters", "write the discovery prefix of Home Assistant: homeassistant")
    } else if text.len() > PREFIX_BYTES {
        Fault::new("too long", format!("write {PREFIX_BYTES} bytes at most"))
    } else {
        return Ok(text.to_owned());
    };
    Err(fault)
}
