//! What Home Assistant is told: a pure function from what the daemon says of itself to retained messages.
//!
//! Each entity has a message of its own that describes it (Home Assistant, "MQTT", "MQTT Discovery"), and each device, which
//! is the box or a camera, has one with its state. The names of cameras are in the text of messages alone: topics have
//! [`slug`]s.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::config::{Config, MqttSettings};
use crate::schedule::ROTATE;
use crate::status::{Condition, DaemonState, MOST_CAMERAS, Snapshot, Weight};
use crate::{heartbeat, key};

/// What the topic of availability holds (the defaults of Home Assistant).
pub(super) const ONLINE: &str = "online";
pub(super) const OFFLINE: &str = "offline";

/// The age of the oldest capture is told in steps of so many seconds: each step is a line in the history of Home Assistant.
const EXPOSURE_STEP_SECONDS: i64 = 10;

/// The most characters of a sentence or an advice.
const MOST_CHARACTERS: usize = 500;

/// A message that the broker keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it goes.
    pub topic: String,
    /// What it says.
    pub payload: String,
}

/// The topics of a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    host: String,
    prefix: String,
}

impl Topics {
    /// Returns the topics of the box that has this configuration.
    pub fn of(config: &Config, settings: &MqttSettings) -> Self {
        Self { host: heartbeat::host(config.heartbeat.as_ref()), prefix: settings.prefix.clone() }
    }

    /// Returns the name by which the broker knows this box.
    pub(super) fn client_id(&self) -> String {
        format!("hk-aws-{}", slug(&self.host))
    }

    /// Returns the topic that says whether the daemon is there.
    pub(super) fn availability(&self) -> String {
        self.own("availability")
    }

    /// Returns the topics by which Home Assistant says that it has started (Home Assistant, "MQTT", "Birth and last will"):
    /// its own one does not change with the prefix.
    pub(super) fn births(&self) -> BTreeSet<String> {
        [self.prefix.as_str(), "homeassistant"].map(|prefix| format!("{prefix}/status")).into()
    }

    /// Returns the topic of the state of a camera.
    pub(super) fn camera(&self, slug: &str) -> String {
        self.own(&format!("camera/{slug}"))
    }

    fn own(&self, below: &str) -> String {
        format!("hk-aws/{}/{below}", slug(&self.host))
    }
}

/// Returns a word of `[a-zA-Z0-9_-]` for a name, in which every other character is spelt `_XX`: two names never have the same
/// word, and no word has `__` in it.
pub fn slug(name: &str) -> String {
    let mut slug = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            slug.push(byte.into());
        } else {
            // Writing into a String cannot fail.
            let _ = write!(slug, "_{byte:02x}");
        }
    }
    if slug.is_empty() { "_".to_owned() } else { slug }
}

/// Returns the cameras that the daemon knows: those of the configuration, and those that have sent something since the
/// start. There are at most [`MOST_CAMERAS`].
fn known(facts: &Snapshot, config: &Config) -> BTreeSet<String> {
    let configured = config.cameras.iter().map(|camera| key::camera_segment(camera.name.as_bytes()));
    let all: BTreeSet<String> = configured.chain(facts.cameras.keys().cloned()).collect();
    all.into_iter().take(MOST_CAMERAS).collect()
}

/// Returns the messages that describe the entities of the box and of the cameras that the daemon knows.
pub fn entities(facts: &Snapshot, config: &Config, topics: &Topics) -> Vec<Message> {
    let mut messages = box_entities(topics);
    messages.extend(known(facts, config).iter().flat_map(|name| camera_entities(topics, name)));
    messages
}

/// Returns the messages that say how the box and the cameras are, and at last that the daemon is there.
pub fn states(facts: &Snapshot, config: &Config, topics: &Topics) -> Vec<Message> {
    let mut messages = vec![Message { topic: topics.own("state"), payload: box_state(facts).to_string() }];
    for name in known(facts, config) {
        let payload = camera_state(&name, facts).to_string();
        messages.push(Message { topic: topics.camera(&slug(&name)), payload });
    }
    messages.push(Message { topic: topics.availability(), payload: ONLINE.to_owned() });
    messages
}

fn box_entities(topics: &Topics) -> Vec<Message> {
    let host = slug(&topics.host);
    let device = json!({
        "identifiers": [format!("hk-aws__{host}")],
        "name": format!("hk-aws {}", topics.host),
        "manufacturer": "hk-aws",
        "model": "camera box",
        "sw_version": env!("CARGO_PKG_VERSION"),
    });
    let states = [DaemonState::Starting, DaemonState::Ok, DaemonState::Degraded, DaemonState::Stopping];
    let entities = [
        ("sensor", "state", json!({"name": "State", "device_class": "enum", "options": states})),
        (
            "sensor",
            "exposure",
            json!({
                "name": "Oldest capture only on this box",
                "device_class": "duration",
                "unit_of_measurement": "s",
                "state_class": "measurement",
            }),
        ),
        (
            "sensor",
            "waiting",
            json!({"name": "Waiting", "unit_of_measurement": "captures", "state_class": "measurement"}),
        ),
        ("sensor", "last_rotation", json!({"name": "Last rotation", "device_class": "timestamp"})),
    ];
    let state = topics.own("state");
    entities.map(|(component, key, about)| entity(topics, component, &[key], &state, &device, about)).into()
}

fn camera_entities(topics: &Topics, name: &str) -> [Message; 3] {
    let (host, camera) = (slug(&topics.host), slug(name));
    let device = json!({
        "identifiers": [format!("hk-aws__{host}__{camera}")],
        "name": name,
        "manufacturer": "hk-aws",
        "model": "camera",
        "via_device": format!("hk-aws__{host}"),
    });
    let state = topics.camera(&camera);
    let entities = [
        ("sensor", "last_capture", json!({"name": "Last capture", "device_class": "timestamp"})),
        (
            "sensor",
            "captures_today",
            json!({"name": "Captures today", "unit_of_measurement": "captures", "state_class": "total_increasing"}),
        ),
        ("binary_sensor", "problem", json!({"name": "Problem", "device_class": "problem"})),
    ];
    entities.map(|(component, key, about)| entity(topics, component, &[&camera, key], &state, &device, about))
}

/// Returns what describes an entity. `place` is its name within the box; its last word is its key in the state.
fn entity(topics: &Topics, component: &str, place: &[&str], state: &str, device: &Value, about: Value) -> Message {
    let (object, host) = (place.join("__"), slug(&topics.host));
    let key = place.last().copied().unwrap_or_default();
    let template = match component {
        "binary_sensor" => format!("{{{{ 'ON' if value_json.{key} else 'OFF' }}}}"),
        _ => format!("{{{{ value_json.{key} }}}}"),
    };
    let mut described = json!({
        "unique_id": format!("hk-aws__{host}__{object}"),
        "state_topic": state,
        "value_template": template,
        "availability_topic": topics.availability(),
        "device": device,
        "origin": {"name": "hk-aws", "sw_version": env!("CARGO_PKG_VERSION")},
    });
    if matches!(key, "state" | "problem") {
        let attributes = "{{ {'reason': value_json.reason, 'advice': value_json.advice} | tojson }}";
        described["json_attributes_topic"] = state.into();
        described["json_attributes_template"] = attributes.into();
    }
    if let (Value::Object(described), Value::Object(about)) = (&mut described, about) {
        described.extend(about);
    }
    let topic = format!("{}/{component}/hk-aws-{host}/{object}/config", topics.prefix);
    Message { topic, payload: described.to_string() }
}

fn box_state(facts: &Snapshot) -> Value {
    let since = facts.oldest_only_here.as_ref().map(|oldest| facts.at - oldest.since);
    let seconds = since.unwrap_or(TimeDelta::zero()).num_seconds().max(0);
    let worst = facts.conditions.iter().find(|condition| condition.kind.weight() > Weight::Notice);
    json!({
        "state": facts.state,
        "exposure": seconds - seconds % EXPOSURE_STEP_SECONDS,
        "waiting": facts.waiting.files(),
        "last_rotation": facts.jobs.get(ROTATE).and_then(|job| job.last_success_at),
        "reason": worst.map(|worst| cut(&worst.in_full())),
        "advice": worst.map(|worst| cut(&worst.advice)),
    })
}

fn camera_state(name: &str, facts: &Snapshot) -> Value {
    let camera = facts.cameras.get(name);
    let is_wrong =
        |condition: &&Condition| condition.camera.as_deref() == Some(name) && condition.kind.weight() > Weight::Notice;
    let worst = facts.conditions.iter().find(is_wrong);
    json!({
        "camera": name,
        "last_capture": camera.map(|camera| camera.last_taken_at),
        "captures_today": camera.map_or(0, |camera| camera.today(facts.at)),
        "problem": worst.is_some(),
        "reason": worst.map(|worst| cut(&worst.in_full())),
        "advice": worst.map(|worst| cut(&worst.advice)),
    })
}

fn cut(text: &str) -> String {
    text.chars().take(MOST_CHARACTERS).collect()
}

#[cfg(test)]
mod tests;
