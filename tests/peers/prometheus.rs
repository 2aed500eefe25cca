//! The metrics and the rules, judged by Prometheus' own tool.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::daemon::{SOON, wait_for};
use crate::household::{Household, Shot};

const RULES: &str = include_str!("../../packaging/prometheus/alerts.yml");
const DASHBOARD: &str = include_str!("../../packaging/grafana/hk-aws.json");

/// Runs promtool with this on its stdin, and returns what it says if it finds a fault.
fn promtool(arguments: &[&str], input: &str) -> Result<(), String> {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tool = command.spawn().unwrap_or_else(|error| panic!("install Debian's package prometheus: {error}"));
    tool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = tool.wait_with_output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
}

/// Returns the body of an answer.
fn scrape(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: box\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

#[test]
fn promtool_finds_no_fault_with_the_metrics_of_a_daemon_at_work() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut house = Household::new();
    // The sections of a household end with `keep`.
    house.start(&format!("min_free: 0}}\nmetrics: {{listen: '127.0.0.1:{port}'"));
    for (number, camera) in ["CAM-EXT-001", "back \"yard\"", "caf\u{e9}"].into_iter().enumerate() {
        house.lay_down(&Shot::new(camera, number as u64, 2000)).unwrap();
    }
    house.wait_for_objects(3);
    let text = wait_for("the metrics of three cameras", SOON, || {
        let text = scrape(port)?;
        (text.matches("hk_aws_stored_bytes_total{").count() == 3).then_some(text)
    });
    assert_eq!(promtool(&["check", "metrics"], &text), Ok(()), "{text}");
    // The dashboard and the rules name no metric that there is not.
    let name = regex::Regex::new("hk_aws_[a-z0-9_]+").unwrap();
    for found in name.find_iter(RULES).chain(name.find_iter(DASHBOARD)) {
        let metric = found.as_str();
        let is_there = text.contains(&format!("# TYPE {} ", metric.trim_end_matches("_bucket")));
        assert!(is_there, "{metric}\n{text}");
    }
}

#[test]
fn the_rules_for_prometheus_say_what_they_should_and_nothing_while_all_is_well() {
    let folder = tempfile::tempdir().unwrap();
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus/alerts.yml");
    let rules = rules.to_str().unwrap();
    assert_eq!(promtool(&["check", "rules", rules], ""), Ok(()));
    let trial = folder.path().join("alerts_test.yml");
    std::fs::write(&trial, include_str!("prometheus/alerts_test.yml").replace("RULES", rules)).unwrap();
    assert_eq!(promtool(&["test", "rules", trial.to_str().unwrap()], ""), Ok(()));
}
