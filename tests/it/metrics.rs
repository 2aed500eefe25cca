//! The metrics and `/healthz` of a running daemon, and clients that mean no good.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use hk_aws::status::{ConditionKind, DaemonState, Snapshot};

use crate::support::s3::Fault;
use crate::support::site::{DEADLINE, Settings, Site, key, picture};

/// An address that is free now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn settings(port: u16) -> Settings {
    let rest = format!("metrics: {{listen: '127.0.0.1:{port}'}}");
    Settings { rest: rest.leak(), ..Settings::default() }
}

/// Sends a request as it stands, and returns the status and the body of the answer; `None` if there is none.
fn ask(port: u16, request: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

async fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: box\r\n\r\n");
    tokio::task::spawn_blocking(move || ask(port, &request)).await.unwrap()
}

/// Asks until the answer is as wanted.
async fn wait_for(port: u16, path: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
    let begun = Instant::now();
    loop {
        let answer = get(port, path).await;
        match &answer {
            Some((status, body)) if wanted(*status, body) => return body.clone(),
            _ => assert!(begun.elapsed() < DEADLINE, "{path}: {answer:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn healthz_is_200_while_all_is_well_and_503_with_the_reason_while_it_is_not() {
    let port = free_port();
    let site = Site::started(settings(port)).await;
    let body = wait_for(port, "/healthz", |status, _| status == 200).await;
    assert_eq!(body, "OK\n");
    site.s3.fault(Fault::fail("PutObject", 403, "AccessDenied"));
    site.write(format!("CAM/{}", picture(1)), b"evidence");
    let body = wait_for(port, "/healthz", |status, _| status == 503).await;
    assert!(body.starts_with("NOT STORING since ") && body.contains("\nbucket_refuses: "), "{body}");
    let metrics = wait_for(port, "/metrics", |_, body| body.contains("hk_aws_healthy 0\n")).await;
    assert!(metrics.contains("hk_aws_conditions{kind=\"bucket_refuses\"} 1\n"), "{metrics}");
    assert!(metrics.contains("hk_aws_upload_failures_total{verdict=\"needs_operator\"} "), "{metrics}");
    site.s3.clear_faults();
    site.wait_for_keys(&[&key("CAM", 1)]).await;
    wait_for(port, "/healthz", |status, _| status == 200).await;
    let metrics =
        wait_for(port, "/metrics", |_, body| body.contains("hk_aws_captures_stored_total{camera=\"CAM\"")).await;
    assert!(metrics.contains("hk_aws_stored_bytes_total{camera=\"CAM\"} 8\n"), "{metrics}");
    assert!(metrics.contains("hk_aws_s3_requests_total{operation=\"PutObject\",outcome=\"ok\"} "), "{metrics}");
    assert!(metrics.contains("hk_aws_s3_requests_total{operation=\"PutObject\",outcome=\"refused\"} "), "{metrics}");
}

#[tokio::test]
async fn a_slow_or_hostile_client_harms_nothing() {
    let port = free_port();
    let site = Site::started(settings(port)).await;
    wait_for(port, "/healthz", |status, _| status == 200).await;
    for (request, expected) in [
        ("POST /metrics HTTP/1.1\r\nHost: box\r\nContent-Length: 0\r\n\r\n".to_owned(), Some(405)),
        ("GET /../../etc/passwd HTTP/1.1\r\nHost: box\r\n\r\n".to_owned(), Some(404)),
        ("HEAD /metrics HTTP/1.1\r\nHost: box\r\n\r\n".to_owned(), Some(200)),
        (format!("GET /metrics HTTP/1.1\r\nHost: box\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)), Some(431)),
        (format!("GET /metrics HTTP/1.1\r\nHost: box\r\n{}\r\n", "X: y\r\n".repeat(5000)), Some(431)),
        ("\u{16}\u{3}\u{1}".repeat(100), Some(400)),
    ] {
        let shown = request[..30].to_owned();
        let answer = tokio::task::spawn_blocking(move || ask(port, &request)).await.unwrap();
        let status = answer.map(|(status, _)| status);
        // What is too long may be cut off before the answer is read.
        assert!(status == expected || expected == Some(431) && status.is_none(), "{shown}: {status:?}");
    }
    // More connections than there are places, and none of them says anything.
    let silent: Vec<_> = (0..100).filter_map(|_| TcpStream::connect(("127.0.0.1", port)).ok()).collect();
    site.write(format!("CAM/{}", picture(1)), b"evidence");
    site.wait_for_keys(&[&key("CAM", 1)]).await;
    drop(silent);
    wait_for(port, "/healthz", |status, _| status == 200).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_stops_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = Site::started(settings(taken.local_addr().unwrap().port())).await;
    site.write(format!("CAM/{}", picture(1)), b"evidence");
    site.wait_for_keys(&[&key("CAM", 1)]).await;
    let is_the_port = |kind: ConditionKind| kind == ConditionKind::MetricsPort;
    let first = |status: &Snapshot| status.conditions.first().map(|condition| condition.kind);
    let status = site.wait_for_status("the port", |status| first(status).is_some_and(is_the_port)).await;
    let condition = &status.conditions[0];
    assert_eq!((condition.kind, status.state), (ConditionKind::MetricsPort, DaemonState::Degraded));
    assert!(condition.advice.contains("metrics.listen"), "{condition:?}");
}
