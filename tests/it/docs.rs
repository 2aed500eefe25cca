//! The documents, `--help`, the shipped configuration and the code say the same.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use hk_aws::bucket::Tier;
use hk_aws::retention::{Amount, prices};
use regex::Regex;
use serde_yaml::{Mapping, Value};

mod blocks;
mod cameras;
mod catalogue;
mod document;
mod household;
mod links;
mod manual;
mod promises;
mod settings;
mod thief;

use document::{Document, root};

const SHIPPED: &str = include_str!("../../config/config.yaml");

fn help() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_hk-aws")).arg("--help").env_clear().output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The names in the list of commands of `--help`, except `help` itself.
fn commands() -> BTreeSet<String> {
    let help = help();
    let list = help.split("\nCommands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let name = |line: &str| Some(line.strip_prefix("  ")?.split(' ').next()?.to_owned());
    list.lines().filter_map(name).filter(|name| !name.is_empty() && name != "help").collect()
}

/// The rows of the table whose first column has this head, each as its cells.
fn table(document: &Document, head: &str) -> Vec<Vec<String>> {
    let head = format!("| {head} |");
    let rows = document.text.lines().skip_while(|line| !line.starts_with(&head)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|')).map(|row| {
        // A `\|` is no end of a cell.
        let row = row.trim_matches('|').replace("\\|", "\u{0}");
        row.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    assert!(!rows.is_empty(), "{} has no table that begins with {head}", document.path);
    rows
}

/// The code spans of a text.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_command_is_in_the_documents_and_no_other() {
    let commands = commands();
    assert!(commands.len() >= 9, "{commands:?}");
    let rows = table(&Document::read("packaging/doc/commands.md"), "command");
    let listed = rows.iter().flat_map(|row| spans(&row[0])).filter_map(|code| code.split(' ').next());
    let listed: BTreeSet<String> = listed.map(str::to_owned).collect();
    assert_eq!(listed, commands, "commands.md on the left, --help on the right");
    let call = Regex::new(r"^(?:\$ )?(?:sudo )?hk-aws(?: --?[a-z]+(?: [A-Z./]\S*)?)* ([a-z][a-z-]*)").unwrap();
    for document in Document::all() {
        for code in document.code() {
            let Some(called) = call.captures(code.trim()) else { continue };
            assert!(commands.contains(&called[1]), "{}: there is no command {}: {code}", document.path, &called[1]);
        }
    }
}

#[test]
fn every_section_of_the_configuration_is_in_the_documents() {
    let shipped: Mapping = serde_yaml::from_str(SHIPPED).unwrap();
    for key in shipped.keys().filter_map(Value::as_str) {
        let written = Regex::new(&format!(r"(?m)`{key}[`.:]|^{key}:")).unwrap();
        assert!(Document::all().iter().any(|document| written.is_match(&document.text)), "no document has {key}");
    }
}

#[test]
fn the_exit_codes_of_help_are_those_of_the_documents() {
    let help = help();
    let said = help.lines().skip_while(|line| !line.starts_with("Exit codes:")).collect::<Vec<_>>().join(" ");
    let codes = said.trim_start_matches("Exit codes:").trim().trim_end_matches('.').split("; ");
    let codes: Vec<(&str, &str)> = codes.map(|code| code.split_once(' ').unwrap()).collect();
    assert_eq!(codes.iter().map(|code| code.0).collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    let rows = table(&Document::read("packaging/doc/commands.md"), "exit code");
    assert_eq!(rows.len(), codes.len());
    for ((code, meaning), row) in codes.into_iter().zip(rows) {
        let meaning = meaning.split(" (").next().unwrap();
        assert!(row[0] == format!("`{code}`") && row[1].contains(meaning), "exit code {code}, {meaning}: {row:?}");
    }
}

#[test]
fn the_readme_says_how_to_try_it_on_a_few_short_lines() {
    let readme = Document::read("README.md");
    for command in ["cargo run --release --example demo", "cargo test"] {
        assert!(readme.text.lines().any(|line| line.trim() == command), "{command}");
    }
    let lines = readme.text.lines().count();
    assert!(lines <= 150, "{lines} lines: what a newcomer does not need belongs into packaging/doc");
    let long: Vec<&str> = readme.text.lines().filter(|line| line.chars().count() > 140).collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn every_vendor_is_in_the_documents_and_reads_its_example() {
    let rows = table(&Document::read("packaging/doc/cameras.md"), "cameras of");
    let code = |cell: &str| spans(cell).next().unwrap().to_owned();
    let vendors: BTreeSet<String> = rows.iter().map(|row| code(&row[1])).collect();
    let known: BTreeSet<String> = hk_aws::config::VENDORS.iter().skip(1).map(|vendor| (*vendor).to_owned()).collect();
    assert_eq!(vendors, known);
    for row in rows {
        let (vendor, path) = (code(&row[1]), code(&row[3]));
        let reading = hk_aws::capture::naming::read(Path::new(&path), &vendor);
        let found = hk_aws::capture::naming::read(Path::new(&path), "auto");
        assert_eq!(reading, found, "{path}");
        assert_eq!(reading.vendor, Some(if vendor == "amcrest" { "dahua" } else { &vendor }), "{path}");
        let stamp = reading.stamp.map(|stamp| stamp.wall.format("%F %T").to_string());
        assert!(stamp.as_deref() == Some("2024-01-02 03:04:05") || vendor == "mobotix", "{path}: {stamp:?}");
    }
}

#[test]
fn the_classes_in_the_documents_cost_what_the_plans_say() {
    let rows = table(&Document::read("packaging/doc/old-captures.md"), "class");
    assert_eq!(rows.len(), 3, "{rows:?}");
    for row in rows {
        let [class, storage, reading, minimum] = row.as_slice() else { panic!("{row:?}") };
        let class = spans(class).next().unwrap();
        let gigabyte = Amount { objects: 0, bytes: 1 << 30 };
        let month = format!("${:.4}", prices::storage_month(class, gigabyte.bytes));
        assert!(storage == &month, "{class}: {month}");
        let read = match prices::restore(class, Tier::Standard, gigabyte) {
            Some(restore) => format!("{} after a restore, for ${:.2} a GB", restore.time, restore.price),
            None => format!("immediately, for ${:.2} a GB", prices::read(class, gigabyte.bytes)),
        };
        assert_eq!(reading, &read, "{class}");
        assert_eq!(minimum, &format!("{} days", prices::minimum_days(class)), "{class}");
    }
}

#[test]
fn the_workflows_run_what_the_repository_has_and_no_job_that_runs_it_may_write() {
    let pinned = Regex::new(r"^[a-z/-]+@v\d+$").unwrap();
    for (file, job, runs) in [("ci", "run", ".ci/run"), ("release", "build", "packaging/build")] {
        let text = std::fs::read_to_string(root().join(format!(".github/workflows/{file}.yml"))).unwrap();
        let workflow: Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(workflow["permissions"], serde_yaml::from_str::<Value>("contents: read").unwrap());
        let job = &workflow["jobs"][job];
        assert!(job["permissions"].is_null() && job["timeout-minutes"].is_u64());
        let steps = |job: &Value| job["steps"].as_sequence().unwrap().clone();
        assert!(root().join(runs).is_file() && steps(job).iter().any(|step| step["run"] == runs), "{file}");
        for action in workflow["jobs"].as_mapping().unwrap().values().flat_map(steps) {
            let Some(action) = action["uses"].as_str() else { continue };
            assert!(pinned.is_match(action), "{action} is not pinned to a major version");
        }
    }
}

#[test]
fn a_heartbeat_costs_what_its_page_says() {
    let beats = 30.0 * 24.0 * 12.0;
    let month = prices::ALARM_MONTH + beats * prices::request(prices::RequestKind::Put, "STANDARD");
    let page = Document::read("packaging/doc/watching.md");
    assert!(page.text.contains(&format!("about ${month:.2} a month for each box")), "{month}");
    assert!(page.text.contains(&format!("${:.2} for the alarm, the rest for 8,640 heartbeats", prices::ALARM_MONTH)));
}
