//! Writes the man pages and the shell completions that the packages install, into the tree of the folder that is named.
//!
//! They come from the command line's own definition and from the table of settings in the documents, and are made anew for
//! each package: kept in the repository, they would fall behind.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::Context as _;
use clap::CommandFactory;
use clap_complete::Shell;
use hk_aws::cli::Cli;
use roff::{Inline, Roff, bold, italic, roman};

const SETTINGS: &str = include_str!("doc/configuration.md");

fn main() -> anyhow::Result<()> {
    let root: PathBuf = env::args_os().nth(1).context("name the folder to write into")?.into();
    write(&root)
}

/// Writes all of them below `root`.
pub(crate) fn write(root: &Path) -> anyhow::Result<()> {
    let share = root.join("usr/share");
    write_commands(&folder(&share, "man/man1")?)?;
    fs::write(folder(&share, "man/man5")?.join("hk-aws.yaml.5"), settings()?)
        .context("failed to write hk-aws.yaml.5")?;
    for (shell, place, name) in [
        (Shell::Bash, "bash-completion/completions", "hk-aws"),
        (Shell::Zsh, "zsh/vendor-completions", "_hk-aws"),
        (Shell::Fish, "fish/vendor_completions.d", "hk-aws.fish"),
    ] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "hk-aws", &mut text);
        fs::write(folder(&share, place)?.join(name), text).with_context(|| format!("failed to write {name}"))?;
    }
    Ok(())
}

fn folder(share: &Path, below: &str) -> anyhow::Result<PathBuf> {
    let folder = share.join(below);
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    Ok(folder)
}

/// Writes `hk-aws.1` and a page for each command.
fn write_commands(folder: &Path) -> anyhow::Result<()> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    clap_mangen::generate_to(command, folder).context("failed to write the pages of the commands")
}

/// Returns the page of the configuration file.
fn settings() -> anyhow::Result<String> {
    let mut page = Roff::new();
    page.control("TH", ["hk-aws.yaml", "5", "", concat!("hk-aws ", env!("CARGO_PKG_VERSION")), "hk-aws"]);
    page.control("SH", ["NAME"]).text([roman("hk-aws.yaml - the settings of hk-aws")]);
    page.control("SH", ["SYNOPSIS"]).text([bold("/etc/hk-aws/config.yaml")]);
    page.control("SH", ["DESCRIPTION"]).text([
        roman("One YAML file, read by the daemon and by every command of "),
        bold("hk-aws"),
        roman("(1). Only "),
        bold("drop_folder.path"),
        roman(" and "),
        bold("s3.bucket"),
        roman(" have no default. An unknown key is an error. "),
        bold("hk-aws check"),
        roman(" reports every problem with its line."),
    ]);
    page.control("SH", ["SETTINGS"]);
    for row in rows().context("configuration.md has no table of settings")? {
        let [key, meaning, default] = row;
        page.control("TP", []).text(spans(&key));
        let mut text = spans(&meaning);
        if default == "required" {
            text.push(roman(". Required."));
        } else {
            text.push(roman(". Default: "));
            text.extend(spans(&default));
            text.push(roman("."));
        }
        page.text(text);
    }
    page.control("SH", ["FILES"]);
    for (file, what) in [
        ("/etc/hk-aws/config.yaml", "the settings; the file that is installed there lists each with its default"),
        ("/etc/hk-aws/credentials", "the keys for AWS"),
        ("/etc/hk-aws/environment", "variables for ${NAME} in the settings"),
        ("/var/lib/hk-aws", "the ledger, the local copies and the files that were set aside"),
        ("/run/hk-aws/status.json", "what the daemon does now"),
    ] {
        page.control("TP", []).text([italic(file)]).text([roman(what)]);
    }
    page.control("SH", ["SEE ALSO"]).text([
        bold("hk-aws"),
        roman("(1), the documents in "),
        italic("/usr/share/doc/hk-aws"),
    ]);
    Ok(page.to_roff())
}

/// Returns the rows of the table of settings: key, meaning, default.
fn rows() -> Option<Vec<[String; 3]>> {
    let rows = SETTINGS.lines().skip_while(|line| !line.starts_with("| key |")).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            // A `\|` is no end of a cell.
            let line = line.trim_matches('|').replace("\\|", "\0");
            let cells: Vec<String> = line.split('|').map(|cell| cell.trim().replace('\0', "|")).collect();
            cells.try_into().ok()
        })
        .collect()
}

/// Returns the text of a cell: code in bold, links as their words alone.
fn spans(cell: &str) -> Vec<Inline> {
    let mut words = String::new();
    let mut rest = cell;
    while let Some((before, link)) = rest.split_once('[') {
        let Some((name, after)) = link.split_once("](").and_then(|(name, rest)| Some((name, rest.split_once(')')?.1)))
        else {
            words.extend([before, "["]);
            rest = link;
            continue;
        };
        words.extend([before, name]);
        rest = after;
    }
    words.push_str(rest);
    words.split('`').enumerate().map(|(at, part)| if at % 2 == 1 { bold(part) } else { roman(part) }).collect()
}
