//! One connection to the broker: how it is made, and what it means when it cannot be.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, EventLoop, LastWill, MqttOptions, NetworkOptions, QoS, StateError,
    TlsConfiguration, Transport,
};
use tokio::net::TcpStream;

use super::messages::{OFFLINE, Topics};
use crate::config::{BrokerUrl, Config, MqttSettings};
use crate::trust::{Trust, tls};

/// How long the broker may take for an answer.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// After so many seconds of silence each side asks whether the other is there. The broker tells the last will after one and
/// a half times as long (MQTT 3.1.1, 3.1.2.10).
const KEEP_ALIVE_SECONDS: u16 = 30;

/// The longest packet, either way. What is sent is far below it.
const PACKET_BYTES: usize = 64 << 10;

/// The most requests that wait for the connection.
const REQUESTS: usize = 10;

/// The longest password that is read, in bytes (MQTT 3.1.1, 3.1.3.5).
const PASSWORD_BYTES: u64 = 65_535;

/// What a connection is made with. Two of the same make no difference to the broker.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Link {
    pub(super) settings: MqttSettings,
    pub(super) topics: Topics,
    trust: Trust,
}

impl Link {
    /// Returns the link of a configuration; `None` if it has none.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let settings = config.mqtt.clone()?;
        let topics = Topics::of(config, &settings);
        let trust = if settings.url.tls { Trust::system(config.s3.ca_bundle.as_deref()) } else { Trust::Nothing };
        Some(Self { settings, topics, trust })
    }

    /// Returns how to speak with the broker, or to encrypt what is spoken.
    pub(super) fn transport(&self) -> Transport {
        match self.trust {
            Trust::Nothing => Transport::tcp(),
            Trust::System { .. } => Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls(&self.trust)))),
        }
    }

    /// Returns a client and the loop that connects it. The file of the password is read each time.
    ///
    /// # Errors
    /// [`Failure`] if there is no password where one should be.
    pub(super) fn connect(&self, transport: Transport) -> Result<(AsyncClient, EventLoop), Failure> {
        let BrokerUrl { host, port, .. } = self.settings.url.clone();
        // A name of its own: when the box comes back, the broker ends what is left of the connection before, and tells
        // its last will, before it answers. Without it, that will would come later and hide the box.
        let mut options = MqttOptions::new(self.topics.client_id(), (host.clone(), port));
        options.set_transport(transport);
        options.set_keep_alive(KEEP_ALIVE_SECONDS).set_max_packet_size(PACKET_BYTES, PACKET_BYTES);
        options.set_last_will(LastWill::new(self.topics.availability(), OFFLINE, QoS::AtLeastOnce, true));
        // An address of IPv6 has brackets before a port, and none in a certificate.
        options.set_socket_connector(move |_, _| {
            let host = host.clone();
            async move { TcpStream::connect((host.as_str(), port)).await }
        });
        if let Some(user) = &self.settings.user {
            match &self.settings.password_file {
                Some(file) => options.set_credentials(user, password(file)?),
                None => options.set_username(user),
            };
        }
        let (client, mut events) = AsyncClient::builder(options).capacity(REQUESTS).build();
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(ANSWER.as_secs());
        events.set_network_options(network);
        Ok((client, events))
    }
}

/// Reads a password: the first line of its file.
fn password(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |why: String| Failure {
        what: format!("the password in {} cannot be read", file.display()),
        advice: "write the password into it (mqtt.password_file), and let the service read it: it should belong to root:hk-aws \
                 with mode 0640, and be in no home",
        detail: why,
    };
    read_password(file).map_err(|error| failed(error.to_string()))
}

fn read_password(file: &Path) -> io::Result<Vec<u8>> {
    // A pipe would never end.
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = Vec::new();
    File::open(file)?.take(PASSWORD_BYTES).read_to_end(&mut text)?;
    let line = text.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    if line.is_empty() { Err(io::Error::other("its first line is empty")) } else { Ok(line.to_vec()) }
}

/// Returns what is wrong with the file of the password; `None` if the daemon can use it.
pub(super) fn fault_of_password(file: &Path) -> Option<String> {
    read_password(file).err().map(|error| error.to_string())
}

/// Why Home Assistant is not told. No text of it has the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// What is wrong.
    pub(super) what: String,
    /// What the owner can do.
    pub(super) advice: &'static str,
    /// The error's own words.
    pub(super) detail: String,
}

impl Failure {
    /// Returns that a broker which had let the box in is lost.
    pub(super) fn ended(broker: &BrokerUrl, error: &dyn std::error::Error) -> Self {
        Self {
            what: format!("the connection to the broker {broker} ended"),
            advice: "look at the broker's log; if another box has this one's name, set heartbeat.name",
            detail: in_full(error),
        }
    }

    /// Returns that nothing is heard from what should be a broker.
    pub(super) fn no_answer(broker: &BrokerUrl) -> Self {
        let what = format!("{broker} does not answer within {} s", ANSWER.as_secs());
        Self { what, advice: PORTS, detail: "no answer".to_owned() }
    }

    /// Returns what an error means; `connected` says whether the broker had let the box in.
    pub(super) fn of(error: &ConnectionError, broker: &BrokerUrl, connected: bool) -> Self {
        let detail = in_full(error);
        let of = |what: String, advice: &'static str| Self { what, advice, detail: detail.clone() };
        match error {
            _ if connected => Self::ended(broker, error),
            ConnectionError::ConnectionRefused(
                ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
            ) => of(
                format!("the broker {broker} refuses the user or the password"),
                "compare mqtt.user and the file mqtt.password_file with the broker's users",
            ),
            ConnectionError::ConnectionRefused(_) => {
                of(format!("the broker {broker} refuses this box"), "look at the broker's log")
            }
            ConnectionError::NotConnAck(_) | ConnectionError::MqttState(StateError::Deserialization(_)) => {
                of(format!("what answers at {broker} is no MQTT broker"), PORTS)
            }
            ConnectionError::MqttState(_) => of(format!("{broker} ends the connection without an answer"), PORTS),
            ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => Self::no_answer(broker),
            ConnectionError::Tls(_) => of(
                format!("no encrypted connection to {broker} can be made"),
                "if the broker's certificate is of a private authority, name its file in s3.ca_bundle; if the broker \
                 speaks no TLS, write mqtt://",
            ),
            _ => of(
                format!("the broker {broker} cannot be reached"),
                "check that the broker runs, and that mqtt.url names it",
            ),
        }
    }
}

/// What the owner can do if something else answers than a broker, or nothing.
const PORTS: &str =
    "compare mqtt.url with the broker's settings: most listen at port 1883, and with TLS (mqtts://) at 8883";

/// Returns an error with its causes, each said once.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        for (text, wanted) in [("hunter2", "hunter2"), ("hunter 2\n", "hunter 2"), ("p\u{e9}\r\n# home\n", "p\u{e9}")] {
            fs::write(&file, text).unwrap();
            assert_eq!((password(&file), fault_of_password(&file)), (Ok(wanted.as_bytes().to_vec()), None), "{text:?}");
        }
        fs::write(&file, "\nhunter2\n").unwrap();
        for wrong in [&file, folder.path(), &folder.path().join("missing")] {
            let failure = password(wrong).unwrap_err();
            assert!(failure.what.contains(wrong.to_str().unwrap()), "{failure:?}");
            assert!(!format!("{failure:?}").contains("hunter2") && fault_of_password(wrong).is_some());
        }
    }
}
