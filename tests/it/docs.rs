//! README.md, `--help`, the shipped configuration and the code say the same.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use hk_aws::config::Config;
use regex::Regex;
use serde_yaml::{Mapping, Value};

const README: &str = include_str!("../../README.md");
const SHIPPED: &str = include_str!("../../config/config.yaml");

fn help() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_hk-aws")).arg("--help").env_clear().output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The names in the list of commands of `--help`, but for `help` itself.
fn commands() -> BTreeSet<String> {
    let help = help();
    let list = help.split("\nCommands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let name = |line: &str| Some(line.strip_prefix("  ")?.split(' ').next()?.to_owned());
    list.lines().filter_map(name).filter(|name| !name.is_empty() && name != "help").collect()
}

/// What `pattern` captures in README.
fn found(pattern: &str) -> BTreeSet<String> {
    Regex::new(pattern).unwrap().captures_iter(README).map(|captures| captures[1].to_owned()).collect()
}

/// What stands in README as code: the lines of its blocks, and the spans in its text.
fn code() -> Vec<&'static str> {
    let mut code = Vec::new();
    for (place, text) in README.split("\n```").enumerate() {
        if place % 2 == 1 {
            code.extend(text.lines());
        } else {
            code.extend(text.split('`').skip(1).step_by(2));
        }
    }
    code
}

/// The commands in the first cells of the table that begins with a column `command`.
fn table() -> BTreeSet<String> {
    let rows = README.lines().skip_while(|line| !line.starts_with("| command |")).skip(2);
    let cells = rows.take_while(|line| line.starts_with('|')).flat_map(|row| {
        let cell = row.trim_start_matches('|').split('|').next().unwrap_or_default();
        cell.split('`').skip(1).step_by(2).filter_map(|code| code.split(' ').next())
    });
    cells.map(str::to_owned).collect()
}

#[test]
fn every_command_is_in_the_readme_and_no_other() {
    let commands = commands();
    assert!(commands.len() >= 9, "{commands:?}");
    let call = Regex::new(r"^(?:\$ )?(?:sudo )?hk-aws(?: --?[a-z]+(?: [A-Z./]\S*)?)* ([a-z][a-z-]*)").unwrap();
    let called = code().into_iter().filter_map(|code| Some(call.captures(code.trim())?[1].to_owned()));
    let named: BTreeSet<String> = called.chain(table()).collect();
    assert_eq!(named, commands, "README.md on the left, --help on the right");
}

#[test]
fn every_section_of_the_configuration_is_in_the_readme() {
    let shipped: Mapping = serde_yaml::from_str(SHIPPED).unwrap();
    for key in shipped.keys().filter_map(Value::as_str) {
        let written = Regex::new(&format!(r"(?m)`{key}[`.:]|^{key}:")).unwrap();
        assert!(written.is_match(README), "{key} is not in README.md");
    }
}

#[test]
fn every_setting_that_the_readme_names_exists() {
    let shipped: Mapping = serde_yaml::from_str(SHIPPED).unwrap();
    for named in found(r"`([a-z0-9_]+\.[a-z0-9_]+)`") {
        let (section, key) = named.split_once('.').unwrap();
        match shipped.get(section) {
            Some(Value::Mapping(keys)) => assert!(keys.contains_key(key), "{named} is no setting"),
            Some(_) => assert!(SHIPPED.contains(&format!(" {key}: ")), "{named} is no setting"),
            // The name of a file or of a program.
            None => {}
        }
    }
}

#[test]
fn the_exit_codes_of_help_are_those_of_the_readme() {
    let help = help();
    let said = help.lines().skip_while(|line| !line.starts_with("Exit codes:")).collect::<Vec<_>>().join(" ");
    let codes = said.trim_start_matches("Exit codes:").trim().trim_end_matches('.').split("; ");
    let codes: Vec<(&str, &str)> = codes.map(|code| code.split_once(' ').unwrap()).collect();
    assert_eq!(codes.iter().map(|code| code.0).collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    for (code, meaning) in codes {
        let meaning = meaning.split(" (").next().unwrap();
        let row = README.lines().any(|line| line.contains(&format!("| `{code}` |")) && line.contains(meaning));
        assert!(row, "README.md has no row for exit code {code}: {meaning}");
    }
}

#[test]
fn every_example_of_a_configuration_is_one() {
    let blocks: Vec<&str> = README.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let env = |name: &str| (name == "TZ").then(|| "UTC".to_owned());
        let parsed = Config::parse(Path::new("README.md"), block, &env);
        if let Err(problems) = parsed {
            panic!("{problems}\n{block}");
        }
    }
}

#[test]
fn the_readme_says_how_to_try_it() {
    for command in ["cargo run --release --example demo", "cargo test"] {
        assert!(README.lines().any(|line| line.trim() == command), "{command}");
    }
}

#[test]
fn links_within_the_project_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for link in found(r"\]\(([^)#:]+)\)") {
        assert!(root.join(&link).exists(), "README.md links to {link}, which is not there");
    }
}

#[test]
fn every_vendor_is_in_the_readme_and_reads_its_example() {
    let rows = README.lines().skip_while(|line| !line.starts_with("| cameras of |")).skip(2);
    let rows: Vec<Vec<&str>> =
        rows.take_while(|line| line.starts_with('|')).map(|row| row.split('|').collect()).collect();
    let code = |cell: &str| cell.split('`').nth(1).unwrap().to_owned();
    let vendors: BTreeSet<String> = rows.iter().map(|row| code(row[2])).collect();
    let known: BTreeSet<String> = hk_aws::config::VENDORS.iter().skip(1).map(|vendor| (*vendor).to_owned()).collect();
    assert_eq!(vendors, known);
    for row in rows {
        let (vendor, path) = (code(row[2]), code(row[4]));
        let reading = hk_aws::capture::naming::read(Path::new(&path), &vendor);
        let found = hk_aws::capture::naming::read(Path::new(&path), "auto");
        assert_eq!(reading, found, "{path}");
        assert_eq!(reading.vendor, Some(if vendor == "amcrest" { "dahua" } else { &vendor }), "{path}");
        let stamp = reading.stamp.map(|stamp| stamp.wall.format("%F %T").to_string());
        assert!(stamp.as_deref() == Some("2024-01-02 03:04:05") || vendor == "mobotix", "{path}: {stamp:?}");
    }
}

#[test]
fn every_test_that_holds_a_promise_exists() {
    fn sources(folder: &Path) -> String {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries
            .map(|path| match path.extension() {
                _ if path.is_dir() => sources(&path),
                Some(extension) if extension == "rs" => std::fs::read_to_string(&path).unwrap(),
                _ => String::new(),
            })
            .collect()
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: String = ["src", "tests/it", "tests/peers"].map(|folder| sources(&root.join(folder))).concat();
    let promises = README.split("\n## What is promised\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let named = Regex::new("`([a-z0-9]+(?:_[a-z0-9]+){3,})`").unwrap();
    let named: BTreeSet<&str> =
        named.captures_iter(promises).map(|captures| captures.get(1).unwrap().as_str()).collect();
    assert!(named.len() > 40, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let bare: Vec<_> = promises.split("\n- ").skip(1).filter(|promise| !promise.contains('_')).collect();
    assert!(bare.is_empty(), "no test holds {bare:?}");
}
