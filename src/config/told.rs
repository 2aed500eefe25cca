//! Reads who is told what, and how the box shows that it lives.

use std::time::Duration;

use chrono::NaiveTime;

use super::alerts::{
    AlertFormat, AlertsSettings, BodyTemplate, HeartbeatSettings, Quiet, SecretUrl, TIME_OF_DAY, mask_url,
};
use super::mqtt::{BrokerUrl, MqttSettings};
use super::notation::{CENTURY, DAY, SECOND};
use super::problem::{Fault, MASK, quote};
use super::reader::{GivenValue, Leaf, Section};
use super::{check, notation};

const EXPOSURE: Duration = Duration::from_mins(15);
const HEARTBEAT: Duration = Duration::from_mins(5);

/// The ports of brokers (IANA, "Service Name and Transport Protocol Port Number Registry": `mqtt` and `secure-mqtt`).
const MQTT_PORT: u16 = 1883;
const MQTTS_PORT: u16 = 8883;

/// Home Assistant's own prefix of discovery topics (Home Assistant, "MQTT", "Discovery options").
const MQTT_PREFIX: &str = "homeassistant";

/// The longest prefix, in bytes: enough for every purpose, and far from the 65,535 of a whole topic.
const MQTT_PREFIX_BYTES: usize = 200;

pub(super) fn alerts(section: &Section<'_>) -> AlertsSettings {
    let webhook = secret_url(section, "webhook");
    let formats = AlertFormat::ALL.map(|(name, format)| (name, Some(format)));
    let formats = [&[("auto", None)], &formats[..]].concat();
    let alerts = AlertsSettings {
        webhook,
        format: section.value("format", None, check::choice(&formats)),
        body: section.optional("body", None, BodyTemplate::new),
        command: command(section),
        email: section.optional("email", None, email),
        exposure: section.value("exposure", EXPOSURE, notation::duration_in(SECOND..=CENTURY)),
        quiet: section.optional("quiet", None, Quiet::new),
        digest: section.optional("digest", None, time_of_day),
        mute: mute(section),
    };
    if alerts.body.is_some() && alerts.webhook.is_none() {
        section.refuse(
            "body",
            None,
            Fault::new("stands without alerts.webhook", "set the webhook, or remove the body"),
        );
    }
    alerts
}

pub(super) fn heartbeat(section: &Section<'_>) -> HeartbeatSettings {
    let every = notation::duration_in(SECOND..=DAY);
    HeartbeatSettings {
        every: section.value("every", HEARTBEAT, every),
        url: secret_url(section, "url"),
        name: section.optional("name", None, check::camera_name),
    }
}

fn command(section: &Section<'_>) -> Option<Vec<String>> {
    let example = "a list such as [\"/usr/local/bin/notify\", \"--now\"], or null";
    match section.texts("command", example, check::command_word) {
        GivenValue::Here(words) if words.is_empty() => {
            section.refuse("command", None, Fault::new("an empty list", "write a program and its arguments, or null"));
            None
        }
        GivenValue::Here(words) => Some(words),
        GivenValue::Absent | GivenValue::Null | GivenValue::Wrong => None,
    }
}

fn mute(section: &Section<'_>) -> Vec<String> {
    let example = "a list such as [camera_clock, CAM-EXT-001, \"CAM-EXT-002: camera_silent\"], or [] for none";
    let word = |_: usize, text: &str| {
        let mend = format!("write {example}");
        if text.trim().is_empty() { Err(Fault::new("is empty", mend)) } else { Ok(text.trim().to_owned()) }
    };
    match section.texts("mute", example, word) {
        GivenValue::Here(words) => words,
        GivenValue::Absent | GivenValue::Null | GivenValue::Wrong => Vec::new(),
    }
}

fn time_of_day(text: &str) -> Result<NaiveTime, Fault> {
    let wrong = |_| Fault::new("no time of day", "write hours and minutes, such as \"08:00\"");
    NaiveTime::parse_from_str(text, TIME_OF_DAY).map_err(wrong)
}

/// Accepts an address that a template can have in quotes.
fn email(text: &str) -> Result<String, Fault> {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '$' | '%' | '<' | '>' | ',');
    match text.split_once('@') {
        Some((name, host)) if !name.is_empty() && host.contains('.') && text.chars().all(is_plain) => {
            Ok(text.to_owned())
        }
        _ => Err(Fault::new("no e-mail address", "write one address, such as owner@example.org")),
    }
}

/// Reads a URL that no message may show.
fn secret_url(section: &Section<'_>, key: &'static str) -> Option<SecretUrl> {
    let node = section.node(key)?;
    let place = section.place(key);
    let leaf = section.reader().leaf(&place, node)?;
    if leaf.is_null {
        return None;
    }
    let refuse = |fault| section.reader().refuse(&place, Some(quote(&mask_url(&leaf.written))), fault);
    read_secret_url(&leaf).map_err(refuse).ok()
}

fn read_secret_url(leaf: &Leaf) -> Result<SecretUrl, Fault> {
    check::web_address(&leaf.text)?;
    if leaf.text.contains(MASK) {
        let mend = "write it again, or write ${NAME} and set that variable for the service";
        return Err(Fault::new("a part of it was masked when these settings were shown", mend));
    }
    Ok(SecretUrl::new(&leaf.text, &leaf.written))
}

/// Reads how Home Assistant is told; `None` only if a problem was recorded.
pub(super) fn mqtt(section: &Section<'_>) -> Option<MqttSettings> {
    let mend = "write the address of the broker, such as mqtt://homeassistant.local:1883";
    let url = section.required("url", mend, broker);
    let user = section.optional("user", None, check::text);
    let password_file = section.optional("password_file", None, check::absolute_path);
    if password_file.is_some() && user.is_none() {
        let mend = "write the user whose password it is";
        section.refuse("password_file", None, Fault::new("stands without mqtt.user", mend));
    }
    let prefix = section.value("prefix", MQTT_PREFIX.to_owned(), mqtt_prefix);
    Some(MqttSettings { url: url?, user, password_file, prefix })
}

/// Accepts the address of a broker.
fn broker(text: &str) -> Result<BrokerUrl, Fault> {
    let mend = "write mqtt:// or mqtts://, a host, and a port if it is not the usual one, such as mqtt://homeassistant.local:1883";
    let (rest, tls) = match (text.strip_prefix("mqtt://"), text.strip_prefix("mqtts://")) {
        (Some(rest), _) => (rest, false),
        (None, Some(rest)) => (rest, true),
        (None, None) => return Err(Fault::new("does not begin with mqtt:// or mqtts://", mend)),
    };
    if rest.contains('@') {
        return Err(Fault::new("has a user", "write mqtt.user, and the file of the password as mqtt.password_file"));
    }
    let (host, port) =
        check::host_and_port(rest.strip_suffix('/').unwrap_or(rest)).map_err(|wrong| Fault::new(wrong, mend))?;
    Ok(BrokerUrl { host: host.to_owned(), port: port.unwrap_or(if tls { MQTTS_PORT } else { MQTT_PORT }), tls })
}

/// Accepts the beginning of a topic (MQTT 3.1.1, 4.7).
fn mqtt_prefix(text: &str) -> Result<String, Fault> {
    let mend = "write the discovery prefix of Home Assistant, which is homeassistant if nobody changed it";
    if text.split('/').any(str::is_empty) {
        Err(Fault::new("is empty or has an empty part", mend))
    } else if text.starts_with('$') || text.contains(['#', '+']) || text.chars().any(char::is_control) {
        Err(Fault::new("has $, #, + or control characters", mend))
    } else if text.len() > MQTT_PREFIX_BYTES {
        Err(Fault::new("too long", format!("write {MQTT_PREFIX_BYTES} bytes at most")))
    } else {
        Ok(text.to_owned())
    }
}
