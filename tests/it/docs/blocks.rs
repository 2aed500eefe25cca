//! The blocks of code: each is something that works, or is printed.

use std::path::Path;
use std::process::Command;

use clap::Parser as _;
use hk_aws::aws_template::{self, TemplateFormat};
use hk_aws::cli::Cli;
use hk_aws::config::Config;
use serde_json::Value;

use super::document::{Document, root};
use super::promises::sources;

/// The tests that hold the blocks of language `text`, by document.
const HELD_BY: [(&str, &str); 1] =
    [("packaging/doc/old-captures.md", "the_plan_in_the_documents_is_one_that_the_program_prints")];

fn parse(text: &str) -> Config {
    let env = |name: &str| (name == "TZ").then(|| "UTC".to_owned());
    Config::parse(Path::new("config.yaml"), text, &env).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

/// The first configuration in the README.
fn first_configuration() -> String {
    let blocks = Document::read("README.md").blocks();
    blocks.into_iter().find(|block| block.language == "yaml").unwrap().text
}

#[test]
fn every_block_of_code_is_of_a_kind_that_a_test_checks() {
    for document in Document::all() {
        for block in document.blocks() {
            let place = format!("{}:{}", document.path, block.line);
            match block.language.as_str() {
                "sh" | "yaml" | "json" => {}
                "text" => {
                    let held = HELD_BY.iter().find(|(path, _)| *path == document.path);
                    let (_, test) = held.unwrap_or_else(|| panic!("{place}: no test holds this block"));
                    assert!(sources().contains(&format!("fn {test}(")), "{test}");
                }
                other => panic!("{place}: no test checks a block of {other:?}"),
            }
        }
    }
}

#[test]
fn every_example_of_a_configuration_is_one() {
    let mut checked = 0;
    for block in Document::all().iter().flat_map(Document::blocks).filter(|block| block.language == "yaml") {
        parse(&block.text);
        checked += 1;
    }
    assert!(checked >= 4, "{checked}");
}

#[test]
fn every_line_of_a_shell_can_be_typed() {
    let mut checked = 0;
    for document in Document::all() {
        for block in document.blocks().iter().filter(|block| block.language == "sh") {
            for line in block.text.replace("\\\n", " ").lines() {
                let called = check_call(&words(line)).map_err(|wrong| format!("{}: {line}\n{wrong}", document.path));
                called.unwrap_or_else(|wrong| panic!("{wrong}"));
                checked += 1;
            }
        }
    }
    assert!(checked > 30, "{checked}");
}

/// Splits a line as a shell does, at blanks outside of quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None if c == ' ' => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            Some(_) | None => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// Checks that a command of the documents does what this repository makes possible, in each part of a pipe.
fn check_call(words: &[String]) -> Result<(), String> {
    if let Some(pipe) = words.iter().position(|word| word == "|") {
        check_call(&words[..pipe])?;
        return check_call(&words[pipe + 1..]);
    }
    let end = words.iter().position(|word| word == ">").unwrap_or(words.len());
    let words: Vec<&str> = words[..end].iter().map(String::as_str).collect();
    let (program, arguments) = words.split_first().ok_or("an empty line")?;
    let rest = |begin: usize| check_call(&words[begin..].iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let unit = |name: &str| exists(&format!("systemd/{name}.service"));
    match *program {
        "sudo" => rest(1),
        "systemd-run" => rest(words.iter().skip(1).position(|word| !word.starts_with('-')).ok_or("no command")? + 1),
        "hk-aws" => Cli::try_parse_from(&words).map(drop).map_err(|error| error.to_string()),
        "cargo" => check_cargo(arguments),
        "install" => check_install(arguments),
        "systemctl" => match arguments.last().ok_or("no unit")? {
            // The services of the FTP servers' packages.
            &"daemon-reload" | &"pure-ftpd" | &"vsftpd" => Ok(()),
            name => unit(name),
        },
        "journalctl" => match arguments {
            ["-u", name, ..] => unit(name),
            _ => Err("no unit".to_owned()),
        },
        "useradd" => {
            let unit = std::fs::read_to_string(root().join("systemd/hk-aws.service")).unwrap();
            let user = arguments.last().ok_or("no user")?;
            unit.contains(&format!("\nUser={user}\n")).then_some(()).ok_or("not the user of the unit".to_owned())
        }
        "aws" => {
            let template =
                aws_template::render(&parse(&first_configuration()), TemplateFormat::Cloudformation).unwrap();
            let line = words.join(" ").replace("template.yaml", "FILE");
            template.contains(&format!("#   {line}\n")).then_some(()).ok_or("not as the template says".to_owned())
        }
        // Nothing of this project is in them: the tests of the package type them.
        "apt" | "chmod" | "echo" | "ln" | "mkdir" | "nano" | "openssl" | "pure-pw" | "sed" | "tee" => Ok(()),
        path if path.contains('/') => exists(path),
        other => Err(format!("{other} is a program that this test does not know")),
    }
}

fn exists(path: &str) -> Result<(), String> {
    if root().join(path).exists() { Ok(()) } else { Err(format!("there is no {path}")) }
}

/// Whether the manifest has a target of this kind and name.
fn check_target(kind: &str, name: &str) -> Result<(), String> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let there = manifest.contains(&format!("[[{kind}]]\nname = \"{name}\"\n"));
    if there { Ok(()) } else { Err(format!("Cargo.toml has no {kind} {name}")) }
}

fn check_cargo(arguments: &[&str]) -> Result<(), String> {
    if !matches!(arguments.first(), Some(&("build" | "test" | "run" | "bench"))) {
        return Err("no command of cargo".to_owned());
    }
    for pair in arguments.split(|word| *word == "--").next().unwrap_or_default().windows(2) {
        if let [option @ ("--example" | "--bench" | "--test" | "--bin"), name] = *pair {
            check_target(option.trim_start_matches('-'), name)?;
        }
        if let ["--profile", name] = *pair {
            let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
            if !manifest.contains(&format!("\n[profile.{name}]\n")) {
                return Err(format!("Cargo.toml has no profile {name}"));
            }
        }
    }
    Ok(())
}

/// Every file that is installed exists, or is built; a name in capitals stands for a file of the reader's.
fn check_install(arguments: &[&str]) -> Result<(), String> {
    if arguments.contains(&"-d") {
        return Ok(());
    }
    let mut operands = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match *argument {
            "-m" | "-o" | "-g" => drop(arguments.next()),
            option if option.starts_with('-') => {}
            operand => operands.push(operand),
        }
    }
    let (_, sources) = operands.split_last().ok_or("nothing to install")?;
    if sources.is_empty() {
        return Err("nothing to install".to_owned());
    }
    for source in sources {
        let stem = source.split('.').next().unwrap_or_default();
        match source.strip_prefix("target/release/") {
            Some(program) => check_target("bin", program)?,
            None if source.starts_with("/usr/share/doc/hk-aws/") => {
                exists(&source.replacen("/usr/share/doc/hk-aws/", "packaging/doc/", 1))?;
            }
            None if !stem.is_empty() && stem.chars().all(|c| c.is_ascii_uppercase()) => {}
            None => exists(source)?,
        }
    }
    Ok(())
}

#[test]
fn every_json_is_what_the_command_before_it_prints() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    std::fs::write(&config, first_configuration()).unwrap();
    for document in Document::all() {
        let blocks = document.blocks();
        for pair in blocks.windows(2).filter(|pair| pair[1].language == "json") {
            let [command, printed] = pair else { unreachable!() };
            let words = words(command.text.lines().last().unwrap());
            assert_eq!(words[0], "hk-aws", "{}", command.text);
            let mut program = Command::new(env!("CARGO_BIN_EXE_hk-aws"));
            program.args(&words[1..]).env_clear().env("HK_AWS_CONFIG", &config).env("TZ", "UTC");
            let output = program.output().unwrap();
            let said: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&printed.text).unwrap(), said, "{}: {said}", document.path);
        }
    }
}

#[test]
fn a_wrong_line_of_a_shell_is_refused() {
    for line in [
        "hk-aws lst front-door",
        "sudo systemd-run --pipe hk-aws doctor --deep",
        "cargo run --example dmeo",
        "cargo nextest",
        "cargo bench --profile dits --bench peers",
        "sudo install -m 644 config/config.yml /etc/hk-aws/config.yaml",
        "install target/release/hk-awz /usr/bin/hk-aws",
        "sudo systemctl enable hk-awz",
        "sudo useradd --system hkaws",
        "aws iam delete-user --user-name my-video-surveillance",
        "./configure",
        "make",
    ] {
        assert!(check_call(&words(line)).is_err(), "{line}");
    }
    assert_eq!(words("a --b='c d' \"e f\"  g"), ["a", "--b=c d", "e f", "g"]);
}
