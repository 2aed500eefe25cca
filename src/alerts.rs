//! Alerts: what is wrong is told to the owner, on a change and never as a storm.
//!
//! [`step`] decides what is told. What it says waits in an outbox for each service, is tried for an hour, and goes in order.
//! What is told and what waits is in one file, so that a restart says nothing twice. A service that does not take messages
//! is a condition of its own, which everything else tells of.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

mod format;
mod outbox;
mod step;
#[cfg(test)]
mod tests;
mod words;

use outbox::Outbox;

use crate::config::{AlertsSettings, Config};
use crate::health::Board;
use crate::heartbeat;
use crate::key::printable;
use crate::message;
use crate::persist::{self, Purpose};
use crate::post::{Address, Sender};
use crate::site::SiteInForce;
use crate::status::{Condition, ConditionKind, Snapshot};

pub use step::{HOLD, Rules, State, step};
pub use words::{Message, Phase, Urgency};

/// The name of the file in the state folder.
pub const FILE: &str = "alerts.json";

/// The longest file that is read: two full outboxes and a thousand conditions have less.
const LONGEST_FILE_BYTES: u64 = 4 << 20;

/// How often it is looked whether something is to be told.
const LOOK: Duration = Duration::from_secs(1);

/// How long a program may take.
const PROGRAM: Duration = Duration::from_mins(1);

/// The variables that a program gets: the others may be secrets.
const VARIABLES: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// The services that messages go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `alerts.webhook`.
    Webhook,
    /// `alerts.command`.
    Command,
}

impl Service {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Webhook, Self::Command];

    /// Returns its key in the configuration.
    pub fn key(self) -> &'static str {
        match self {
            Self::Webhook => "alerts.webhook",
            Self::Command => "alerts.command",
        }
    }

    /// Returns whether the configuration has it.
    pub fn is_set(self, settings: &AlertsSettings) -> bool {
        match self {
            Self::Webhook => settings.webhook.is_some(),
            Self::Command => settings.command.is_some(),
        }
    }
}

/// Why a message was not taken, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotTaken {
    /// What went wrong.
    pub why: String,
    /// Whether it may be taken later.
    pub may_pass: bool,
}

/// Gives a message to a service; returns what the service answered.
///
/// # Errors
/// [`NotTaken`] if the service has not taken it.
pub async fn deliver(settings: &AlertsSettings, service: Service, message: &Message) -> Result<String, NotTaken> {
    match service {
        Service::Webhook => post(settings, message).await,
        Service::Command => call(settings.command.as_deref().unwrap_or_default(), message).await,
    }
}

async fn post(settings: &AlertsSettings, message: &Message) -> Result<String, NotTaken> {
    let never = |why| NotTaken { why, may_pass: false };
    let Some(url) = &settings.webhook else { return Err(never("it is not set".to_owned())) };
    let address = Address::new(url).map_err(never)?;
    let (to, letter) = format::write(settings, &address, message);
    let sent = Sender::default().send(&to, letter).await;
    sent.map(|reply| format!("{} {}", reply.status, reply.text).trim_end().to_owned())
        .map_err(|error| NotTaken { may_pass: error.may_pass(), why: error.to_string() })
}

/// Runs a program with the message as JSON on its stdin.
async fn call(words: &[String], message: &Message) -> Result<String, NotTaken> {
    let later = |why: String| NotTaken { why, may_pass: true };
    let Some((program, arguments)) = words.split_first() else { return Err(later("it is not set".to_owned())) };
    let kept = VARIABLES.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(kept).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| later(format!("{program} cannot be run: {error}")))?;
    let json = serde_json::to_vec(message).map_err(|error| later(error.to_string()))?;
    let run = async {
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not read it may be content all the same: its exit code says so.
            let _unread = stdin.write_all(&json).await;
        }
        child.wait_with_output().await
    };
    match tokio::time::timeout(PROGRAM, run).await {
        Err(_) => Err(later(format!("{program} does not end within {} s", PROGRAM.as_secs()))),
        Ok(Err(error)) => Err(later(format!("{program} cannot be waited for: {error}"))),
        Ok(Ok(output)) if output.status.success() => Ok(output.status.to_string()),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said: String = said.lines().next_back().unwrap_or_default().chars().take(200).collect();
            Err(later(format!("{program} ends with {}: {}", output.status, printable(&said))))
        }
    }
}

/// What outlives the daemon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Memory {
    state: State,
    webhook: Outbox,
    command: Outbox,
}

impl Memory {
    fn outbox(&mut self, service: Service) -> &mut Outbox {
        match service {
            Service::Webhook => &mut self.webhook,
            Service::Command => &mut self.command,
        }
    }
}

/// The task that tells the owner.
#[derive(Debug)]
pub struct Alerts {
    /// The site in force.
    pub sites: watch::Receiver<SiteInForce>,
    /// How the daemon is.
    pub told: watch::Receiver<Arc<Snapshot>>,
    /// Where it is said that alerts fail.
    pub board: Board,
    /// When to end.
    pub stop: CancellationToken,
}

impl Alerts {
    /// Tells the owner until the daemon stops. Nothing runs while the configuration has no service.
    pub async fn run(mut self) {
        let config = self.config();
        let path = config.state_dir.join(FILE);
        let mut memory: Memory = match persist::read(&path, LONGEST_FILE_BYTES) {
            Ok(memory) => memory,
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    tracing::warn!(
                        message_id = message::ALERTS_MEMORY,
                        "failed to read {}: {error}; what is wrong is told again",
                        path.display()
                    );
                }
                Memory::default()
            }
        };
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = look.tick() => {}
            }
            let config = self.config();
            if !Service::ALL.iter().any(|service| service.is_set(&config.alerts)) {
                memory = Memory::default();
                self.board.clear(ConditionKind::AlertsFail, None);
                continue;
            }
            let before = memory.clone();
            let now = self.now();
            let (state, messages) = {
                let facts = self.told.borrow_and_update();
                step(memory.state, &facts, &Rules::of(&config, &host(&config)), now)
            };
            memory.state = state;
            for service in Service::ALL {
                let outbox = memory.outbox(service);
                if service.is_set(&config.alerts) {
                    outbox.add(&messages);
                } else {
                    *outbox = Outbox::default();
                }
            }
            // Before they are sent: what the file does not have is told again after a crash.
            remember(&path, &memory, &before);
            for service in Service::ALL {
                while let Some(message) = memory.outbox(service).due(steady()).cloned() {
                    let before = memory.clone();
                    let taken = tokio::select! {
                        () = self.stop.cancelled() => return,
                        taken = deliver(&config.alerts, service, &message) => taken,
                    };
                    self.see(service, memory.outbox(service), taken);
                    remember(&path, &memory, &before);
                }
            }
        }
    }

    fn config(&mut self) -> Arc<Config> {
        Arc::clone(&self.sites.borrow_and_update().site.config)
    }

    fn now(&self) -> DateTime<Utc> {
        (self.sites.borrow().site.clock)().wall.into()
    }

    /// Takes note of what became of the first message of an outbox.
    fn see(&self, service: Service, outbox: &mut Outbox, taken: Result<String, NotTaken>) {
        let NotTaken { why, may_pass } = match taken {
            Ok(answer) => {
                outbox.done();
                tracing::debug!("{}: taken: {answer}", service.key());
                if self.board.clear(ConditionKind::AlertsFail, None) {
                    tracing::info!("{}: alerts are taken again", service.key());
                }
                return;
            }
            Err(not_taken) => not_taken,
        };
        let now = self.now();
        let given_up = if may_pass {
            outbox.failed(now, steady())
        } else {
            outbox.done();
            1
        };
        let is_new = !self.board.raised().iter().any(|raised| raised.kind == ConditionKind::AlertsFail);
        if is_new {
            tracing::warn!(message_id = message::ALERTS_FAIL, "{}: an alert is not taken: {why}", service.key());
        }
        if given_up > 0 {
            tracing::warn!(
                message_id = message::ALERTS_FAIL,
                "{}: {given_up} alerts are given up: {why}",
                service.key()
            );
        }
        let sentence = format!("alerts are not taken by {}", service.key());
        let condition = Condition::new(ConditionKind::AlertsFail, now, sentence, "try it with `hk-aws alerts test`");
        self.board.raise(condition.with_detail(why));
    }
}

/// Returns the name of the box, as heartbeats have it.
pub fn host(config: &Config) -> String {
    heartbeat::host(config.heartbeat.as_ref())
}

/// Writes the file if something has changed. One that cannot be written costs a repetition after a restart.
fn remember(path: &std::path::Path, memory: &Memory, before: &Memory) {
    if memory == before {
        return;
    }
    if let Err(error) = persist::write(path, memory, Purpose::NextStart) {
        tracing::debug!("failed to write {}: {error}", path.display());
    }
}

/// Returns the time by which tokio waits.
#[expect(clippy::disallowed_methods, reason = "waits go by tokio's clock, which tests hold")]
fn steady() -> Instant {
    Instant::now()
}
