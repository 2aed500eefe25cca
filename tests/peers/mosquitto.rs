//! What Home Assistant is told, through the broker that its users have.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::Utc;
use hk_aws::status::{ConditionKind, Snapshot};
use serde_json::Value;
use tempfile::TempDir;

use crate::daemon::{SOON, wait_for};
use crate::household::Household;
use crate::server::{Server, free_ports, installed};

const INSTALL: &str = "install Debian's packages mosquitto and mosquitto-clients";

const USER: &str = "box";
const PASSWORD: &str = "hunter2-\u{e9}";

/// A camera whose name means something to brokers, to JSON and to templates.
const NASTY: &str = "back \"yard\" #+ {{ x }}";

/// A broker with a port of its own.
struct Broker {
    server: Option<Server>,
    port: u16,
    /// What its configuration has besides the listener.
    settings: String,
    folder: TempDir,
}

impl Broker {
    /// One that knows one user, and keeps what it retains in memory alone.
    fn start() -> Self {
        Self::start_with("")
    }

    fn start_with(settings: &str) -> Self {
        let folder = TempDir::with_prefix("hk-aws-mosquitto-").unwrap();
        let users = folder.path().join("users");
        let mut passwd = Command::new(installed("mosquitto_passwd", INSTALL));
        assert!(passwd.args(["-b", "-c"]).arg(&users).args([USER, PASSWORD]).status().unwrap().success());
        let settings =
            format!("user root\nallow_anonymous false\npassword_file {}\nlog_dest stderr\n{settings}", users.display());
        let mut broker = Self { server: None, port: free_ports(1).start, settings, folder };
        broker.start_again();
        broker
    }

    fn start_again(&mut self) {
        let file = self.folder.path().join("mosquitto.conf");
        fs::write(&file, format!("listener {} 127.0.0.1\n{}", self.port, self.settings)).unwrap();
        let log = self.folder.path().join("log");
        let program = installed("mosquitto", INSTALL);
        let mut server = Server::start(&program, log.clone(), |command| {
            command.arg("-c").arg(&file).arg("-v");
        });
        server.wait_until_up(|| fs::read_to_string(&log).is_ok_and(|log| log.contains(" running")));
        self.server = Some(server);
    }

    fn kill(&mut self) {
        self.server = None;
    }

    /// The lines of its log that hold `words`.
    fn said(&self, words: &str) -> usize {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
        log.lines().filter(|line| line.contains(words)).count()
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(installed(program, INSTALL));
        command.args(["-h", "localhost", "-p", &self.port.to_string(), "-u", USER, "-P", PASSWORD]);
        if self.settings.contains("certfile") {
            command.arg("--cafile").arg(certificate("authority.pem"));
        }
        command
    }

    /// What somebody finds who comes later: the topics with what the broker has kept.
    fn kept(&self) -> BTreeMap<String, Value> {
        let mut command = self.client("mosquitto_sub");
        let output = command.args(["-t", "#", "-F", "%t\t%p", "--retained-only", "-W", "1"]).output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let read = |line: &str| {
            let (topic, payload) = line.split_once('\t').unwrap();
            let value = serde_json::from_str(payload).unwrap_or(Value::from(payload));
            (topic.to_owned(), value)
        };
        lines.lines().map(read).collect()
    }

    /// Waits until it has kept this at a topic.
    fn wait_for(&self, what: &str, topic: &str, wanted: impl Fn(&Value) -> bool) -> BTreeMap<String, Value> {
        wait_for(what, SOON, || {
            let kept = self.kept();
            kept.get(topic).is_some_and(&wanted).then_some(kept)
        })
    }

    fn wait_for_availability(&self, wanted: &str) {
        self.wait_for(wanted, "hk-aws/porch/availability", |is| is == wanted);
    }
}

fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/tls").join(name)
}

/// The sections of a household that uses the broker; they begin within `keep`.
fn sections(house: &Household, broker: &Broker, scheme: &str) -> String {
    let file = house.folder().join("password");
    format!(
        "min_free: 0}}\nheartbeat: {{name: porch, every: 1d}}\nmqtt: {{url: '{scheme}://localhost:{}', user: {USER}, \
         password_file: '{}'",
        broker.port,
        file.display()
    )
}

fn write_password(house: &Household, password: &str) {
    fs::write(house.folder().join("password"), format!("{password}\n")).unwrap();
}

fn is_told(status: &Snapshot) -> bool {
    status.conditions.iter().all(|condition| condition.kind != ConditionKind::MqttFails)
}

/// Lays a picture of this second and camera into the drop folder.
fn take(house: &Household, camera: &str, number: u32) {
    let folder = house.drop_folder.join(camera);
    fs::create_dir_all(&folder).unwrap();
    let name = format!("192.168.1.64_01_{}{number:03}_MOTION_DETECTION.jpg", Utc::now().format("%Y%m%d%H%M%S"));
    fs::write(folder.join(name), format!("\u{0}{camera}{number}")).unwrap();
}

#[test]
fn a_camera_appears_with_its_captures_and_the_box_is_told_to_be_gone_however_it_goes() {
    let broker = Broker::start();
    let mut house = Household::new();
    write_password(&house, PASSWORD);
    let sections = sections(&house, &broker, "mqtt");
    house.start(&sections);
    take(&house, NASTY, 1);
    let topic = format!("hk-aws/porch/camera/{}", hk_aws::mqtt::slug(NASTY));
    let kept = broker.wait_for("the capture", &topic, |state| !state["last_capture"].is_null());
    broker.wait_for_availability("online");
    let object = hk_aws::mqtt::slug(NASTY);
    let described = &kept[&format!("homeassistant/sensor/hk-aws-porch/{object}__last_capture/config")];
    assert_eq!((&described["device"]["name"], &described["state_topic"]), (&NASTY.into(), &topic.as_str().into()));
    assert!(kept.contains_key(&format!("homeassistant/binary_sensor/hk-aws-porch/{object}__problem/config")));
    assert_eq!((&kept[&topic]["camera"], &kept[&topic]["problem"]), (&NASTY.into(), &false.into()));
    let last = kept[&topic]["last_capture"].clone();
    assert_eq!(kept[&topic]["captures_today"], 1);
    broker.wait_for("the box", "hk-aws/porch/state", |state| state["state"] == "ok" && state["waiting"] == 0);
    // Taken: nobody is left to say anything.
    house.kill();
    broker.wait_for_availability("offline");
    // The next start knows it by the ledger, although the camera has sent nothing since.
    house.start(&sections);
    broker.wait_for_availability("online");
    let kept = broker.wait_for("the same", &topic, |state| state["captures_today"] == 1);
    assert_eq!(kept[&topic]["last_capture"], last);
    take(&house, NASTY, 2);
    broker.wait_for("one more", &topic, |state| state["captures_today"] == 2);
    house.stop();
    let kept = broker.kept();
    assert_eq!(kept["hk-aws/porch/availability"], "offline");
    assert_eq!(kept["hk-aws/porch/state"]["state"], "stopping", "the last word is told first");
    let (closed, left) = (broker.said("hk-aws-porch closed its connection"), broker.said("hk-aws-porch disconnected"));
    assert_eq!((closed, left), (1, 1), "it was killed once, and took its leave once");
    assert!(!house.log().contains(PASSWORD));
}

#[test]
fn a_broker_or_a_home_assistant_that_starts_again_is_told_everything() {
    let mut broker = Broker::start();
    let mut house = Household::new();
    write_password(&house, PASSWORD);
    house.start(&sections(&house, &broker, "mqtt"));
    broker.wait_for_availability("online");
    let before = broker.kept();
    let configs = |kept: &BTreeMap<String, Value>| kept.keys().filter(|topic| topic.ends_with("/config")).count();
    assert_eq!(configs(&before), 4);
    // What Home Assistant has lost: an owner has deleted it, or the broker forgot.
    let topic = "homeassistant/sensor/hk-aws-porch/state/config";
    assert!(broker.client("mosquitto_pub").args(["-r", "-n", "-t", topic]).status().unwrap().success());
    assert!(!broker.kept().contains_key(topic));
    let birth = ["-t", "homeassistant/status", "-m", "online"];
    assert!(broker.client("mosquitto_pub").args(birth).status().unwrap().success());
    broker.wait_for("the description", topic, Value::is_object);
    // It forgets everything.
    broker.kill();
    house.wait_for_status("an end of the connection to be told", |status| !is_told(status));
    broker.start_again();
    broker.wait_for_availability("online");
    assert_eq!(broker.kept().keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    house.wait_for_status("all to be well", is_told);
}

#[test]
fn a_wrong_password_is_told_and_shown_nowhere_and_a_right_one_is_used_at_once() {
    let broker = Broker::start();
    let mut house = Household::new();
    house.start(&sections(&house, &broker, "mqtt"));
    let told = |words: &str| {
        house.wait_for_status(words, |status| {
            let mut conditions = status.conditions.iter();
            conditions.any(|told| told.kind == ConditionKind::MqttFails && told.sentence.contains(words))
        })
    };
    told("cannot be read");
    write_password(&house, "hunter2-wrong");
    let status = told("refuses the user or the password");
    assert!(!serde_json::to_string(&status).unwrap().contains("hunter2") && !house.log().contains("hunter2"));
    write_password(&house, PASSWORD);
    broker.wait_for_availability("online");
    house.wait_for_status("all to be well", is_told);
    assert_eq!(house.said("Home Assistant is not told"), 1, "once, whatever was wrong: {}", house.log());
    assert!(!house.log().contains(PASSWORD));
}

#[test]
fn a_reload_begins_changes_and_ends_what_home_assistant_is_told() {
    let (first, second) = (Broker::start(), Broker::start());
    let mut house = Household::new();
    write_password(&house, PASSWORD);
    house.start("min_free: 0");
    house.reload(&sections(&house, &first, "mqtt"));
    first.wait_for_availability("online");
    house.reload(&sections(&house, &second, "mqtt"));
    first.wait_for_availability("offline");
    second.wait_for_availability("online");
    house.reload("min_free: 0");
    second.wait_for_availability("offline");
    for broker in [first, second] {
        assert_eq!(broker.said("hk-aws-porch disconnected"), 1, "it took its leave");
    }
}

#[test]
fn a_broker_with_a_certificate_of_a_private_authority_is_believed_only_if_that_is_named() {
    let broker = Broker::start_with(&format!(
        "certfile {}\nkeyfile {}\n",
        certificate("localhost.pem").display(),
        certificate("localhost.key").display()
    ));
    let mut house = Household::new();
    write_password(&house, PASSWORD);
    house.start(&sections(&house, &broker, "mqtts"));
    let status = house.wait_for_status("no trust", |status| !is_told(status));
    let condition = status.conditions.iter().find(|told| told.kind == ConditionKind::MqttFails).unwrap();
    assert!(condition.sentence.contains("no encrypted connection"), "{condition:?}");
    assert!(condition.detail.as_ref().unwrap().contains("UnknownIssuer"), "{condition:?}");
    house.s3_keys = format!(", ca_bundle: '{}'", certificate("authority.pem").display()).leak();
    house.reload(&sections(&house, &broker, "mqtts"));
    broker.wait_for_availability("online");
    house.wait_for_status("all to be well", is_told);
    // What speaks TLS to one that does not hears no answer.
    house.reload(&sections(&house, &broker, "mqtt"));
    house.wait_for_status("no MQTT", |status| !is_told(status));
}
