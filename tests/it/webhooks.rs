//! Webhooks that are hostile or broken: time and memory are bounded, no secret goes elsewhere, and the daemon does its work.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hk_aws::alerts::{self, Message, NotTaken, Service as Told};
use hk_aws::status::{ConditionKind, Snapshot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::alerting::{House, rest};
use crate::support::service::{Answer, Service};
use crate::support::site::{Settings, Site, key, picture};

/// The time limit of a request, and some slack.
const LIMIT: Duration = Duration::from_secs(21);

/// A server that does with each connection as it likes. Dropping it closes its port.
struct Raw {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
    _listening: AbortOnDropHandle<()>,
}

impl Raw {
    async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&connections);
        let listening = AbortOnDropHandle::new(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        }));
        Self { address, connections, _listening: listening }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Takes the head of a request in: a connection that ends before that is reset.
async fn take_head(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n")
        && stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0)
    {}
}

/// Takes the request in, and nothing more.
async fn silent(mut stream: TcpStream) {
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
}

/// Sends a byte each second, for ever.
async fn trickle(mut stream: TcpStream, text: &'static [u8]) {
    for byte in text.iter().chain(std::iter::repeat(&b'a')) {
        if stream.write_all(std::slice::from_ref(byte)).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Delivers a test to a webhook.
async fn deliver(url: &str) -> Result<String, NotTaken> {
    let alerts = format!("alerts: {{webhook: '{url}/s3cret-path'}}");
    let settings = Site::new(rest(alerts.leak())).await.config().alerts;
    let message = Message::test("porch", chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap());
    let delivered = alerts::deliver(&settings, Told::Webhook, &message).await;
    if let Err(not_taken) = &delivered {
        assert!(!not_taken.why.contains("s3cret") && not_taken.why.len() < 400, "{not_taken:?}");
    }
    delivered
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_never_answers_or_trickles_costs_twenty_seconds() {
    let servers = [
        Raw::start(silent).await,
        Raw::start(|stream| trickle(stream, b"HTTP/1.1 200 OK\r\nX-Padding: ")).await,
        Raw::start(|stream| trickle(stream, b"")).await,
    ];
    for server in &servers {
        let began = Instant::now();
        let not_taken = deliver(&server.url()).await.unwrap_err();
        assert!(not_taken.may_pass && began.elapsed() <= LIMIT, "{:?}: {not_taken:?}", began.elapsed());
    }
}

#[tokio::test]
async fn an_answer_without_end_is_read_to_a_limit() {
    let sent = Arc::new(AtomicU64::new(0));
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nX-Padding: ", "HTTP/1.1 500 No\r\n\r\n<html>"] {
        sent.store(0, Ordering::SeqCst);
        let count = Arc::clone(&sent);
        let server = Raw::start(move |mut stream| {
            let count = Arc::clone(&count);
            async move {
                take_head(&mut stream).await;
                stream.write_all(head.as_bytes()).await.ok();
                while stream.write_all(&[b'a'; 4096]).await.is_ok() {
                    count.fetch_add(4096, Ordering::SeqCst);
                }
            }
        })
        .await;
        let began = Instant::now();
        let taken = deliver(&server.url()).await;
        assert_eq!(taken.is_ok(), head.ends_with("OK\r\n\r\n"), "{taken:?}");
        assert!(taken.is_ok_and(|said| said.len() < 300) || !head.ends_with("OK\r\n\r\n"));
        // What the kernel holds for a connection is more than what is read of it.
        let sent = sent.load(Ordering::SeqCst);
        assert!(sent < 16 << 20 && began.elapsed() < LIMIT, "{head:?}: {sent} bytes in {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_wherever_it_leads() {
    let private = Service::start().await;
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        let answer = format!("HTTP/1.1 {status}\r\nLocation: {}/admin\r\nContent-Length: 0\r\n\r\n", private.url());
        let answer: &'static str = answer.leak();
        let server = Raw::start(move |mut stream| async move {
            take_head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.ok();
        })
        .await;
        let not_taken = deliver(&server.url()).await.unwrap_err();
        assert!(not_taken.may_pass && not_taken.why.contains(&status[..3]), "{not_taken:?}");
    }
    assert!(private.posted().is_empty(), "{:?}", private.posted());
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_gets_nothing() {
    let config = crate::support::tls::localhost();
    let heard = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&heard);
    let server = Raw::start(move |stream| {
        let (config, count) = (Arc::clone(&config), Arc::clone(&count));
        async move {
            let stream = stream.into_std().unwrap();
            stream.set_nonblocking(false).unwrap();
            let serve = move || {
                let mut stream = rustls::StreamOwned::new(rustls::ServerConnection::new(config).unwrap(), stream);
                let mut bytes = [0; 4096];
                let read = std::io::Read::read(&mut stream, &mut bytes).unwrap_or(0);
                count.fetch_add(read as u64, Ordering::SeqCst);
            };
            tokio::task::spawn_blocking(serve).await.unwrap();
        }
    })
    .await;
    let not_taken = deliver(&format!("https://localhost:{}", server.address.port())).await.unwrap_err();
    assert!(not_taken.may_pass && not_taken.why.contains("certificate"), "{not_taken:?}");
    assert_eq!((server.connections(), heard.load(Ordering::SeqCst)), (1, 0));
}

fn fails(status: &Snapshot) -> usize {
    status.conditions.iter().filter(|condition| condition.kind == ConditionKind::AlertsFail).count()
}

#[tokio::test]
async fn while_a_webhook_hangs_pictures_are_stored_and_the_daemon_can_stop() {
    let server = Raw::start(silent).await;
    // In place of the house's own.
    let alerts = format!("alerts: {{webhook: '{}/hook'}}", server.url());
    let mut house = House::started(Settings { drop: "partial_after: 0s", ..rest(alerts.leak()) }).await;
    house.site.write(format!("CAM/{}", picture(0)), b"");
    house.site.wait("the condition", || house.remembered(ConditionKind::SetAside)).await;
    house.pass(Duration::from_secs(601));
    house.site.wait("the hanging alert", || (server.connections() > 0).then_some(())).await;
    house.site.write(format!("CAM/{}", picture(1)), b"evidence");
    house.site.wait_for_keys(&[&key("CAM", 1)]).await;
    let began = Instant::now();
    house.site.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// Answers wrongly for an hour: what was to be told is given up then, and what comes later is told in order.
async fn is_tried_for_an_hour(wrong: Answer) {
    let house = House::started(Settings { drop: "partial_after: 0s", ..Settings::default() }).await;
    house.service.answer([wrong]);
    house.site.write(format!("CAM/{}", picture(0)), b"");
    house.told(ConditionKind::SetAside).await;
    let status = house.site.wait_for_status("a warning", |status| fails(status) == 1).await;
    assert_eq!(status.conditions.len(), 2, "{:?}", status.conditions);
    house.service.wait_for(|posted| posted.len() >= 2).await;
    house.pass(Duration::from_mins(61));
    // The next attempt is the last one. Meanwhile the reminder is due.
    let is_reminder = |kind: &(String, String)| kind.1 == "reminder";
    house.service.wait_for(|_| house.all_told().iter().any(is_reminder)).await;
    house.site.write(format!("CAM/{}", picture(1)), b"evidence");
    house.site.wait_for_keys(&[&key("CAM", 1)]).await;
    house.service.answer([Answer::Say(200, "ok".to_owned())]);
    house.site.wait_for_status("the end of it", |status| fails(status) == 0).await;
    let told: Vec<String> = house.all_told().into_iter().map(|(_, state)| state).collect();
    let first = told.iter().position(|state| state == "reminder").unwrap();
    assert!(
        told[..first].iter().all(|state| state == "entered") && told[first..].iter().all(|state| state == "reminder")
    );
}

#[tokio::test]
async fn a_webhook_that_answers_500_for_an_hour_loses_what_is_old_and_no_order() {
    is_tried_for_an_hour(Answer::Echo(500)).await;
}

#[tokio::test]
async fn a_webhook_behind_a_login_page_for_an_hour_loses_what_is_old_and_no_order() {
    is_tried_for_an_hour(Answer::Say(200, "<!DOCTYPE html><title>Log in</title>".to_owned())).await;
}
