//! The command line: what is typed, one short function a command, and the only place that prints.
//!
//! Data goes to stdout, everything else to stderr. With `--json`: one document, or one object a line for lists.

use std::fmt::{self, Display};
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use chrono::NaiveDate;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::bucket::Pace;
use crate::config::{Config, Problems};
use crate::ingest::Context;
use crate::{daemon, journal, key};

mod classify;
mod doctor;
mod holdings;
mod restore;
mod status;
mod upload;

/// Sends what IP cameras push into a drop folder to Amazon S3 within a second, and keeps it there.
#[derive(Debug, Parser)]
#[command(
    name = "hk-aws",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 partly done (what failed is named)."
)]
pub struct Cli {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", env = "HK_AWS_CONFIG", default_value = "/etc/hk-aws/config.yaml")]
    config: PathBuf,
    /// Print JSON: one document, or one object a line for lists
    #[arg(long, global = true)]
    json: bool,
    /// Say less: errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    Run,
    /// Read the configuration, report every problem at once, print the effective settings
    Check,
    /// Show what paths below the drop folder would become, without touching them
    Classify {
        /// Paths below the drop folder; they need not exist
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Say which rule read what, and why the others did not
        #[arg(long)]
        explain: bool,
    },
    /// Try everything for real, with the credentials of who runs it, and say what to do
    Doctor,
    /// Make one pass over the drop folder, or over some of its files, and exit
    Upload(upload::Upload),
    /// List the cameras that the bucket holds captures of
    Cameras,
    /// List the days that the bucket holds captures of, archived ones too
    Days {
        /// As `cameras` lists it
        camera: String,
    },
    /// List captures in the bucket, loose ones and those in bundles
    #[command(
        after_help = "With --json a capture in a bundle has the bundle's key in the field `bundle`. A bundle without an index \
                            is listed itself; `get` unpacks it whole."
    )]
    List(holdings::List),
    /// Download captures, loose ones and those in bundles, of which only their bytes move
    #[command(
        after_help = "What is in the folder already counts as done: a download that broke off can be run again. \
                            No file is ever replaced."
    )]
    Get(holdings::Get),
    /// Ask for archived days out of a cold class, wait for them, and download them
    #[command(
        after_help = "What was asked for goes on without this command: run it again to wait for it, and nothing \
                            is asked for twice. With --json: one object a bundle, or a capture that is cold by itself, \
                            with its `key` and its `state`, one of begun, ongoing, restored (then `until`), readable, \
                            failed; with --wait the last one. With --to, then one object a capture, as of `get`."
    )]
    Restore(restore::Restore),
    /// Show what the daemon does now
    Status,
}

/// A camera-day, as commands take it.
#[derive(Debug, Args)]
struct Day {
    /// As `cameras` lists it
    camera: String,
    /// YYYY-MM-DD, at the camera
    #[arg(value_parser = parse_date)]
    date: NaiveDate,
}

fn parse_date(text: &str) -> Result<NaiveDate, &'static str> {
    text.parse().map_err(|_| "not a date as YYYY-MM-DD")
}

/// A day, or all days from one to another, as commands take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dates {
    first: NaiveDate,
    last: NaiveDate,
}

/// Most days between two dates, so that a slip of the pen does not ask for a century.
const MOST_DAYS: i64 = 366;

impl Dates {
    /// Each of them, in order.
    fn days(self) -> impl Iterator<Item = NaiveDate> {
        self.first.iter_days().take_while(move |date| *date <= self.last)
    }

    fn is_one_day(self) -> bool {
        self.first == self.last
    }
}

impl FromStr for Dates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let read = |date: &str| {
            date.parse().map_err(|_| "not a date as YYYY-MM-DD, nor two of them as YYYY-MM-DD..YYYY-MM-DD")
        };
        let dates = Self { first: read(first)?, last: read(last)? };
        match (dates.last - dates.first).num_days() + 1 {
            ..=0 => Err(format!("{last} is before {first}")),
            days if days > MOST_DAYS => Err(format!("{days} days; {MOST_DAYS} at most")),
            _ => Ok(dates),
        }
    }
}

impl Display for Dates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.is_one_day() { Ok(()) } else { write!(f, "..{}", self.last) }
    }
}

/// Some of the work failed; what did was named on stderr.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {total} failed")]
pub struct Partly {
    /// How many.
    pub failed: usize,
    /// Of how many.
    pub total: usize,
}

/// The exit code of an error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Problems>() {
        2
    } else if error.downcast_ref::<Partly>().is_some_and(|partly| partly.failed < partly.total) {
        3
    } else {
        u8::from(!is_silent(error))
    }
}

/// Whether an error is only the reader of our output having gone (`hk-aws list | head`).
pub fn is_silent(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Runs what was typed.
///
/// # Errors
/// Whatever the command fails with; [`exit_code`] says what that is to the shell.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    let out = Out { json: cli.json, quiet: cli.quiet };
    let config = match Config::load(&cli.config) {
        Ok(config) => config,
        Err(problems) => {
            // They are what `check` was asked for; people read them on stderr.
            if out.json && matches!(cli.command, Command::Check) {
                print_line(serde_json::to_string(&problems)?)?;
            }
            return Err(problems.into());
        }
    };
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => "error".to_owned(),
        (_, true) => "debug".to_owned(),
        _ if matches!(cli.command, Command::Run) => config.log.level.to_string().to_lowercase(),
        _ => "warn".to_owned(),
    };
    journal::init(config.log.target, &level);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let done = match cli.command {
        Command::Run => runtime.block_on(daemon::serve(config)),
        Command::Check => check(&out, &config),
        Command::Status => status::status(&out, &config),
        Command::Classify { paths, explain } => classify::classify(&out, &config, &paths, explain),
        command => runtime.block_on(async {
            let context = Arc::new(Context::new(Arc::new(config), None, Pace::new(daemon::now), daemon::now).await);
            on_bucket(command, &out, &context).await
        }),
    };
    // A scan of a million files under way has nobody to report to any more; nothing is lost by not waiting for it.
    runtime.shutdown_background();
    done
}

/// The commands that deal with the bucket.
async fn on_bucket(command: Command, out: &Out, context: &Arc<Context>) -> anyhow::Result<()> {
    match command {
        Command::Doctor => doctor::doctor(out, context).await,
        Command::Upload(upload) => upload.run(out, Arc::clone(context)).await,
        Command::Cameras => holdings::cameras(out, context).await,
        Command::Days { camera } => holdings::days(out, context, &camera).await,
        Command::List(list) => list.run(out, context).await,
        Command::Get(get) => get.run(out, context).await,
        Command::Restore(restore) => restore.run(out, context).await,
        Command::Run | Command::Check | Command::Classify { .. } | Command::Status => Ok(()),
    }
}

fn check(out: &Out, config: &Config) -> anyhow::Result<()> {
    for key in config.not_in_effect() {
        out.remark(format_args!("{}: {key} has no effect in this version", config.source.display()));
    }
    out.item(config, config.effective().trim_end())
}

/// Where data is printed.
#[derive(Debug)]
struct Out {
    json: bool,
    quiet: bool,
}

impl Out {
    /// One document, or one item of a list: the object, or the text.
    fn item(&self, object: &impl Serialize, text: impl Display) -> anyhow::Result<()> {
        if self.json { print_line(serde_json::to_string(object)?) } else { print_line(text) }
    }

    /// A remark, not data.
    fn remark(&self, line: impl Display) {
        if !self.quiet {
            tell(line);
        }
    }
}

/// Prints data.
fn print_line(line: impl Display) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{line}").context("failed to write to stdout")
}

/// Says something on stderr; where nobody listens any more, that is no reason to panic as `eprintln` does.
pub fn tell(line: impl Display) {
    let _unheard = writeln!(io::stderr(), "{line}");
}

/// Text out of the bucket on one line: whoever can store an object there must not play tricks on a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if key::plays_tricks(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Bytes for people: `1.5 MiB`.
fn size(bytes: u64) -> impl Display {
    indicatif::HumanBytes(bytes)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_may_stand_before_or_after_the_command() {
        for line in [
            ["hk-aws", "--json", "--config", "c.yaml", "cameras"],
            ["hk-aws", "cameras", "--config", "c.yaml", "--json"],
        ] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert!(cli.json && cli.config == *"c.yaml");
        }
    }

    #[test]
    fn dates_are_one_day_or_all_from_one_to_another() {
        let read = |text: &str| text.parse::<Dates>();
        for (text, days) in [("2022-02-24", 1), ("2022-02-27..2022-03-02", 4), ("2022-02-24..2022-02-24", 1)] {
            let dates = read(text).unwrap();
            assert_eq!(dates.days().count(), days, "{text}");
            assert_eq!(read(&dates.to_string()), Ok(dates));
        }
        assert_eq!(read("2024-01-01..2024-12-31").unwrap().days().count(), 366);
        for text in
            ["2022-02-30", "2022-02-24..", "..2022-02-24", "2022-02-24..2022-02-23", "2022-01-01..2023-01-02", "x"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn exit_codes_are_those_of_the_interface() {
        let partly = |failed, total| anyhow::Error::new(Partly { failed, total });
        assert_eq!(exit_code(&partly(1, 2)), 3);
        assert_eq!(exit_code(&partly(2, 2)), 1);
        assert_eq!(exit_code(&anyhow::anyhow!("no")), 1);
        assert_eq!(exit_code(&anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe))), 0);
    }
}
