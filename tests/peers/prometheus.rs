//! The metrics and the rules, judged by Prometheus, by its own tool, and by the strict parser of OpenMetrics.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::daemon::{Daemon, SOON, wait_for};
use crate::household::{Household, Shot};

const RULES: &str = include_str!("../../packaging/prometheus/alerts.yml");
const DASHBOARD: &str = include_str!("../../packaging/grafana/hk-aws.json");

/// Runs a tool with this on its stdin, and returns what it says; an error if it finds a fault.
fn judge(tool: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut command = Command::new(tool);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut judge = command.spawn().unwrap_or_else(|error| panic!("{tool}: {error}; .ci/run installs it"));
    judge.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = judge.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    if done.status.success() { Ok(said) } else { Err(said) }
}

/// Runs promtool with this on its stdin, and returns what it says if it finds a fault.
fn promtool(arguments: &[&str], input: &str) -> Result<(), String> {
    judge("promtool", arguments, input).map(drop)
}

/// Returns the head and the body of an answer to a client that accepts this.
fn get(port: u16, path: &str, accept: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    // Without chunks.
    let request = format!("GET {path} HTTP/1.0\r\nHost: box\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(head, body)| (head.to_lowercase(), body.to_owned()))
}

/// Returns the metrics once they tell of three cameras.
fn scrape(port: u16, accept: &str) -> (String, String) {
    wait_for("the metrics of three cameras", SOON, || {
        let (head, text) = get(port, "/metrics", accept)?;
        (text.matches("hk_aws_stored_bytes_total{").count() == 3).then_some((head, text))
    })
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A daemon that has stored captures of three cameras and tells its metrics at `port`.
fn at_work(port: u16) -> Household {
    let mut house = Household::new();
    // The sections of a household end with `keep`.
    house.start(&format!("min_free: 0}}\nmetrics: {{listen: '127.0.0.1:{port}'"));
    for (number, camera) in ["CAM-EXT-001", "back \"yard\"", "caf\u{e9}"].into_iter().enumerate() {
        house.lay_down(&Shot::new(camera, number as u64, 2000)).unwrap();
    }
    house.wait_for_objects(3);
    house
}

#[test]
fn promtool_finds_no_fault_with_the_metrics_of_a_daemon_at_work() {
    let port = free_port();
    let _house = at_work(port);
    let (head, text) = scrape(port, "text/plain");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert_eq!(promtool(&["check", "metrics"], &text), Ok(()), "{text}");
    // The dashboard and the rules name no metric that there is not.
    let name = regex::Regex::new("hk_aws_[a-z0-9_]+").unwrap();
    for found in name.find_iter(RULES).chain(name.find_iter(DASHBOARD)) {
        let metric = found.as_str();
        let is_there = text.contains(&format!("# TYPE {} ", metric.trim_end_matches("_bucket")));
        assert!(is_there, "{metric}\n{text}");
    }
}

/// Reads its stdin as strictly as the format is defined, and prints each family with its type and its unit.
const OPENMETRICS: &str = "
import sys
from prometheus_client.openmetrics.parser import text_fd_to_metric_families
for family in text_fd_to_metric_families(sys.stdin):
    print(family.name, family.type, family.unit, len(family.samples))
";

#[test]
fn the_metrics_are_openmetrics_for_whoever_asks_for_them() {
    let port = free_port();
    let _house = at_work(port);
    let (head, text) = scrape(port, "application/openmetrics-text; version=1.0.0");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    let told = judge("python3", &["-X", "utf8", "-c", OPENMETRICS], &text);
    let told = told.unwrap_or_else(|why| panic!("{why}\n{text}"));
    for line in [
        "hk_aws_captures_stored counter  3\n",
        "hk_aws_stored_bytes counter bytes 3\n",
        "hk_aws_capture_to_stored_seconds histogram seconds 15\n",
        "hk_aws_build info  1\n",
    ] {
        assert!(told.contains(line), "{line}{told}");
    }
    let without_end = text.replace("# EOF\n", "");
    assert!(judge("python3", &["-X", "utf8", "-c", OPENMETRICS], &without_end).is_err(), "it finds faults");
}

#[test]
fn prometheus_itself_scrapes_a_daemon_at_work() {
    let (port, own) = (free_port(), free_port());
    let _house = at_work(port);
    scrape(port, "text/plain");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    let text = format!(
        "scrape_configs: [{{job_name: hk-aws, scrape_interval: 1s, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Daemon::command("prometheus");
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{own}"));
    let _prometheus = Daemon::start(command, folder.path());
    let ask = |path: &str| serde_json::from_str::<serde_json::Value>(&get(own, path, "*/*")?.1).ok();
    let found = wait_for("the captures in Prometheus", SOON, || {
        let answer = ask("/api/v1/query?query=sum(hk_aws_captures_stored_total)")?;
        answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    });
    assert_eq!(found, "3");
    let target = &ask("/api/v1/targets").unwrap()["data"]["activeTargets"][0];
    assert_eq!((target["health"].as_str(), target["lastError"].as_str()), (Some("up"), Some("")), "{target}");
    // Only OpenMetrics tells a unit.
    let metadata = ask("/api/v1/targets/metadata").unwrap();
    let told = metadata["data"].as_array().unwrap().iter();
    let bytes: Vec<&str> = told.filter(|of| of["unit"] == "bytes").filter_map(|of| of["metric"].as_str()).collect();
    assert!(bytes.iter().any(|name| name.starts_with("hk_aws_stored_bytes")), "{metadata}");
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
