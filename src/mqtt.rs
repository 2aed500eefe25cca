//! Home Assistant, told by MQTT discovery: the box and each camera appear there by themselves.
//!
//! The broker keeps the newest state and nothing else is kept for it: after a connection is lost, everything is told again.
//! That the box is gone is told by the broker itself, by the last will.
//!
//! Entities are never deleted: the owner deletes a device in Home Assistant. It comes back only if its camera is in the
//! configuration or sends something. A list of what was told before would have to be kept somewhere, and a camera that is
//! merely broken would lose its history.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rumqttc::{AsyncClient, ClientError, Event, EventLoop, Packet, PublishOptions, QoS, SubscribeFilter};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

mod link;
mod messages;

use link::{ANSWER, Failure, Link};
use messages::{OFFLINE, ONLINE};

use crate::clock::backoff;
use crate::config::MqttSettings;
use crate::credentials;
use crate::health::Board;
use crate::message;
use crate::site::SiteInForce;
use crate::status::{Condition, ConditionKind, Snapshot};

pub use messages::{Message, Topics, entities, slug, states};

/// How often at most Home Assistant is told.
const PAUSE: Duration = Duration::from_secs(1);

/// How soon, and at the latest, a broker is tried again.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// A connection that held for so long is not a failure.
const STEADY: Duration = Duration::from_mins(1);

/// How long the end of a connection may take; less than what is left after the drain of uploads.
const FAREWELL: Duration = Duration::from_secs(2);

/// The task that tells Home Assistant.
#[derive(Debug)]
pub struct Mqtt {
    /// The site in force.
    pub sites: watch::Receiver<SiteInForce>,
    /// How the daemon is.
    pub told: watch::Receiver<Arc<Snapshot>>,
    /// Where it is said that the broker cannot be told.
    pub board: Board,
    /// When to end.
    pub stop: CancellationToken,
}

/// Why a connection ended.
enum End {
    /// The daemon stops.
    Stopped,
    /// The configuration has another broker, or none.
    Changed,
    /// It was lost, or could not be made.
    Lost(Failure),
}

impl Mqtt {
    /// Tells Home Assistant until the daemon stops, as long as the configuration in force has a broker.
    pub async fn run(mut self) {
        let mut before = None;
        loop {
            let link = Link::of(&self.sites.borrow_and_update().site.config);
            if link != before {
                self.board.clear(ConditionKind::MqttFails, None);
                before.clone_from(&link);
            }
            let end = match &link {
                Some(link) => self.tell(link).await,
                None => self.wait_for_a_link().await,
            };
            if let End::Stopped = end {
                return;
            }
        }
    }

    async fn wait_for_a_link(&mut self) -> End {
        tokio::select! {
            () = self.stop.cancelled() => End::Stopped,
            changed = self.sites.changed() => if changed.is_ok() { End::Changed } else { End::Stopped },
        }
    }

    /// Keeps a connection, however often it has to be made, until the configuration has another one.
    async fn tell(&mut self, link: &Link) -> End {
        // How many times there was a reason to tell everything: a new connection, or a start of Home Assistant.
        let (asked, _) = watch::channel(0);
        let transport = link.transport();
        let mut failures = 0;
        loop {
            let begun = steady();
            let failure = match link.connect(transport.clone()) {
                Ok((client, events)) => match self.hold(link, &client, events, &asked).await {
                    End::Lost(failure) => failure,
                    end => return end,
                },
                Err(failure) => failure,
            };
            failures = if begun.elapsed() >= STEADY { 1 } else { failures + 1 };
            // A broker that is started again is back at the first attempt.
            if begun.elapsed() < STEADY {
                self.complain(&failure);
            }
            let wait = backoff(failures, FIRST_WAIT, LONGEST_WAIT, 0.0);
            let (asked, mut sites) = (self.sites.borrow().retries_asked, self.sites.clone());
            tokio::select! {
                () = self.stop.cancelled() => return End::Stopped,
                () = tokio::time::sleep(wait) => {}
                () = mended(&mut self.sites, asked) => return End::Changed,
                () = changed(&mut sites, link) => return End::Changed,
            }
        }
    }

    /// Makes a connection, and tells what there is to tell until it ends.
    async fn hold(&mut self, link: &Link, client: &AsyncClient, events: EventLoop, asked: &watch::Sender<u64>) -> End {
        let before = *asked.borrow();
        let listening = self.listen(link, events, asked);
        let telling = speak(link, client, before, self.sites.clone(), self.told.clone(), asked.subscribe());
        let mut sites = self.sites.clone();
        let mut listening = pin!(listening);
        let end = tokio::select! {
            biased;
            () = self.stop.cancelled() => End::Stopped,
            () = changed(&mut sites, link) => End::Changed,
            failure = &mut listening => return End::Lost(failure),
            Err(failure) = telling => return End::Lost(failure),
        };
        let was_made = *asked.borrow() != before;
        if !was_made {
            return end;
        }
        let farewell = async {
            if self.take_leave(link, client).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        // A broker that does not take it tells the last will.
        let _late = tokio::time::timeout(FAREWELL, async {
            tokio::select! {
                _ended = &mut listening => {}
                () = farewell => {}
            }
        })
        .await;
        end
    }

    /// Tells the last state, and that the daemon is not there any more.
    async fn take_leave(&self, link: &Link, client: &AsyncClient) -> Result<(), ClientError> {
        let config = Arc::clone(&self.sites.borrow().site.config);
        let last = states(&self.told.borrow(), &config, &link.topics);
        let availability = link.topics.availability();
        for Message { topic, payload } in last.into_iter().filter(|message| message.topic != availability) {
            client.publish(topic, payload, kept()).await?;
        }
        client.publish(availability, OFFLINE, kept()).await?;
        client.disconnect().await
    }

    /// Does the work of a connection, takes note of what the broker says, and returns why the connection ended.
    async fn listen(&self, link: &Link, mut events: EventLoop, asked: &watch::Sender<u64>) -> Failure {
        let mut connected = false;
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    connected = true;
                    asked.send_modify(|asked| *asked += 1);
                }
                Ok(Event::Incoming(Packet::PubAck(_))) => self.is_told(link),
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    if publish.payload == ONLINE && link.topics.births().iter().any(|birth| publish.topic == *birth) {
                        asked.send_modify(|asked| *asked += 1);
                    }
                }
                Ok(_) => {}
                Err(error) => return Failure::of(&error, &link.settings.url, connected),
            }
        }
    }

    /// Says once that the broker takes what it is told again.
    fn is_told(&self, link: &Link) {
        if self.board.clear(ConditionKind::MqttFails, None) {
            tracing::info!("Home Assistant is told again through {}", link.settings.url);
        }
    }

    /// Says once why Home Assistant is not told.
    fn complain(&self, failure: &Failure) {
        let Failure { what, advice, detail } = failure;
        let is_new = !self.board.raised().iter().any(|raised| raised.kind == ConditionKind::MqttFails);
        if is_new {
            tracing::warn!(message_id = message::MQTT_FAILS, "Home Assistant is not told: {what} ({detail}); {advice}");
        } else {
            tracing::debug!("Home Assistant is not told: {what} ({detail})");
        }
        let sentence = format!("Home Assistant is not told: {what}");
        let now: DateTime<Utc> = (self.sites.borrow().site.clock)().wall.into();
        self.board.raise(Condition::new(ConditionKind::MqttFails, now, sentence, *advice).with_detail(detail));
    }
}

/// Tells what there is to tell, as soon as everything was asked for more often than `before`, until the broker takes no more.
async fn speak(
    link: &Link,
    client: &AsyncClient,
    before: u64,
    sites: watch::Receiver<SiteInForce>,
    mut told: watch::Receiver<Arc<Snapshot>>,
    mut asked: watch::Receiver<u64>,
) -> Result<Infallible, Failure> {
    let (mut sent, mut answered) = (BTreeMap::<String, String>::new(), before);
    loop {
        // The senders end after this task, or together with it.
        let Ok(now) = asked.wait_for(|asked| *asked != before).await.map(|asked| *asked) else {
            return std::future::pending().await;
        };
        let config = Arc::clone(&sites.borrow().site.config);
        let described = entities(&told.borrow_and_update(), &config, &link.topics);
        if answered == before {
            subscribe(link, client, described.first()).await?;
        }
        if answered != now {
            sent.clear();
            answered = now;
        }
        let states = states(&told.borrow(), &config, &link.topics);
        for Message { topic, payload } in described.into_iter().chain(states) {
            if sent.get(&topic) != Some(&payload) {
                client.publish(topic.clone(), payload.clone(), kept()).await.map_err(unsent(link))?;
                sent.insert(topic, payload);
            }
        }
        tokio::time::sleep(PAUSE).await;
        tokio::select! {
            changed = told.changed() => if changed.is_err() { return std::future::pending().await },
            _ = asked.changed() => {}
        }
    }
}

/// Asks to be told what the broker remembers, and when Home Assistant starts. `first` is sent after that, and its answer
/// waited for: what the broker remembers comes before.
async fn subscribe(link: &Link, client: &AsyncClient, first: Option<&Message>) -> Result<(), Failure> {
    let filters = link.topics.births().into_iter().map(|filter| SubscribeFilter::new(filter, QoS::AtLeastOnce));
    client.subscribe_many(filters).await.map_err(unsent(link))?;
    if let Some(Message { topic, payload }) = first.cloned() {
        let notice = client.publish_tracked(topic, payload, kept()).await.map_err(unsent(link))?;
        let answer = tokio::time::timeout(ANSWER, notice.wait_async()).await;
        answer.map_err(|_| Failure::no_answer(&link.settings.url))?.map_err(unsent(link))?;
    }
    Ok(())
}

/// Returns what it means that something cannot be sent.
fn unsent<E: std::error::Error>(link: &Link) -> impl Fn(E) -> Failure {
    |error| Failure::ended(&link.settings.url, &error)
}

/// Returns how everything is sent: once it is there, the broker keeps it.
fn kept() -> PublishOptions {
    PublishOptions::new(QoS::AtLeastOnce).retained()
}

/// Waits until the configuration asks for another connection than this one.
async fn changed(sites: &mut watch::Receiver<SiteInForce>, link: &Link) {
    let other = |site: &SiteInForce| Link::of(&site.site.config).as_ref() != Some(link);
    if sites.wait_for(other).await.is_err() {
        // The loop has ended: whoever stops it says so.
        std::future::pending::<()>().await;
    }
}

/// Waits until somebody says that something is mended, by a reload or the signal to look.
async fn mended(sites: &mut watch::Receiver<SiteInForce>, asked: u64) {
    if sites.wait_for(|site| site.retries_asked != asked).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns what is wrong with the file of the password, and what to do about it; `None` if there is none, or nothing is
/// wrong. The file is looked at by the user who asks.
pub fn fault_of_password(settings: &MqttSettings) -> Option<String> {
    let file: &Path = settings.password_file.as_deref()?;
    let unread = link::fault_of_password(file).map(|fault| {
        format!("the password in {} cannot be read: {fault}; write it into its first line", file.display())
    });
    unread.or_else(|| credentials::exposure_of("password", file).map(|exposure| exposure.to_string()))
}

/// Returns the time by which tokio waits.
#[expect(clippy::disallowed_methods, reason = "waits go by tokio's clock, which tests hold")]
fn steady() -> Instant {
    Instant::now()
}
