//! The command line: what is typed, one short function a command, and the only place that prints.
//!
//! Data goes to stdout, everything else to stderr. With `--json`: one document, or one object a line for lists.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use chrono::NaiveDate;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::aws_template::TemplateFormat;
use crate::bucket::Pace;
use crate::config::Config;
use crate::key::CameraName;
use crate::site::Site;
use crate::{daemon, journal};

mod alerts;
mod arrange;
mod as_service;
mod aws_template;
mod check;
mod classify;
mod dashes;
mod dates;
mod doctor;
mod exit;
mod get;
mod heartbeat;
mod list;
mod out;
mod price;
mod recover;
mod restore;
mod rotate;
mod status;
mod times;
mod unit_paths;
mod upload;
mod verify;

use dates::Dates;
use out::{Out, print_json};

pub use exit::{ExitWith, Partly, Told, Waiting, WrongUsage, exit_code, is_silent};
pub use out::{tell, tell_failure};

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
    /// Read the configuration, report all its problems together, and say in one line whether the service can start
    #[command(
        after_help = "Exit codes: 0 ready, even with warnings; 1 something is missing: the drop folder, the key, the bucket's \
                            name, or a line of the systemd unit; 2 the configuration is wrong. With --json: `ready`, the \
                            `verdict`, what is `missing`, and the `warnings`."
    )]
    Check {
        /// Print the settings in force, with every default; the verdict then goes to stderr
        #[arg(long)]
        show: bool,
    },
    /// Show what paths below the drop folder would become, without touching them
    Classify {
        /// Paths below the drop folder; they need not exist
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Say which rule read what, and why the others did not
        #[arg(long)]
        explain: bool,
    },
    /// Try everything for real and say what to do; called by root, it runs as the service does: its user, rights and sandbox
    Doctor {
        /// Run as whoever calls it, also as root
        #[arg(long)]
        as_caller: bool,
    },
    /// Make one pass over the drop folder, or over some of its files, and exit
    Upload(upload::UploadArgs),
    /// List the cameras that the bucket holds captures of
    Cameras,
    /// List the days that the bucket holds captures of, archived ones too
    Days {
        /// As `cameras` lists it
        camera: CameraName,
    },
    /// List captures in the bucket, loose ones and those in bundles
    #[command(
        after_help = "With --json a capture in a bundle has the bundle's key in the field `bundle`. A bundle without an index \
                            is listed itself; `get` unpacks it whole."
    )]
    List(list::ListArgs),
    /// Download captures, loose ones and those in bundles, of which only their bytes move
    #[command(
        after_help = "What is in the folder already counts as done: a download that broke off can be run again. \
                            No file is ever replaced."
    )]
    Get(get::GetArgs),
    /// File objects that lie unsorted below a camera into their date folders
    Arrange(arrange::ArrangeArgs),
    /// Bundle days into the cold class
    Archive(rotate::ArchiveArgs),
    /// Ask for archived days out of a cold class, wait for them, and download them
    #[command(
        after_help = "What was asked for goes on without this command: run it again to wait for it, and nothing \
                            is asked for twice. With --json: one object a bundle, or a capture that is cold by itself, \
                            with its `key` and its `state`, one of begun, ongoing, restored (then `until`), readable, \
                            failed; with --wait the last one. With --to, then one object a capture, as of `get`."
    )]
    Restore(restore::RestoreArgs),
    /// Run the whole rotation now: bundle, transition, expire, local copies
    Rotate(rotate::RotateArgs),
    /// Hold the ledger and the indexes of bundles against the bucket
    Verify(verify::VerifyArgs),
    /// Bring back what was deleted or covered, in a bucket that keeps versions, with the owner's credentials
    #[command(
        after_help = "What was deleted comes back under its own name. What was covered by other bytes comes back beside them, \
                            as NAME~recovered-HASH. Running it again brings nothing back twice. With --json: one object a \
                            version, with its `key`, what `happened` to it (deleted, covered, in_the_way) and when (`at`), \
                            the key `to` which it came, and its `outcome`, one of recovered, planned, cold, too_large, failed."
    )]
    Recover(recover::RecoverArgs),
    /// Show whether all is well: what is wrong and what to do, the cameras, and what waits
    Status {
        /// Show it again every two seconds, until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// Try whether alerts arrive
    Alerts(alerts::AlertsArgs),
    /// Send a heartbeat now, and show the answers
    Heartbeat(heartbeat::HeartbeatArgs),
    /// Let the systemd service use the folders of the configuration: write the lines that its unit lacks into a drop-in
    #[command(
        after_help = "The service may write only in the folders that its unit names. Run this with sudo after the folders in \
                            the configuration have changed, then restart the service."
    )]
    UnitPaths(unit_paths::UnitPathsArgs),
    /// Print a template for AWS: bucket, least-privilege user, lifecycle and lock
    AwsTemplate {
        /// What reads it
        #[arg(long, value_enum, default_value_t = TemplateFormat::Cloudformation)]
        format: TemplateFormat,
    },
}

/// A camera-day, as commands take it.
#[derive(Debug, Args)]
struct CameraDay {
    /// As `cameras` lists it
    camera: CameraName,
    /// YYYY-MM-DD, at the camera
    #[arg(value_parser = parse_date)]
    date: NaiveDate,
}

fn parse_date(text: &str) -> Result<NaiveDate, &'static str> {
    text.parse().map_err(|_| "not a date as YYYY-MM-DD")
}

/// Reads the words of a command line, the program's name first; ends the process if they are wrong or ask for help.
pub fn read(words: impl Iterator<Item = OsString>) -> Cli {
    Cli::parse_from(dashes::set_names_apart(words.collect(), &mut Cli::command()))
}

/// Runs the command that was typed.
///
/// # Errors
/// The error of the command; [`exit_code`] says what the shell is told.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    let out = Out { json: cli.json, quiet: cli.quiet };
    let config = match Config::load(&cli.config) {
        Ok(config) => config,
        Err(problems) => {
            // They are the answer to `check`; without --json people read them on stderr.
            if out.json && matches!(cli.command, Command::Check { .. }) {
                print_json(&problems)?;
            }
            // The daemon runs by the configuration that it has read, whatever is in the file now.
            if let Command::Status { watch } = cli.command {
                out.remark(format_args!("{} is wrong: `hk-aws check` says why", cli.config.display()));
                return status::status(&out, &Config::runtime_dir_of(&cli.config), watch);
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
    // Files are read and hashed on threads of their own: what is left needs one, and no hops between several.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let done = match cli.command {
        Command::Doctor { as_caller: false } if as_service::again(&out, &config)? => Ok(()),
        Command::Run => runtime.block_on(daemon::serve(config)),
        Command::Check { show } => runtime.block_on(check::check(&out, &config, show)),
        Command::UnitPaths(paths) => paths.run(&out, &config),
        Command::Status { watch } => status::status(&out, &config.runtime_dir, watch),
        Command::Alerts(alerts) => runtime.block_on(alerts.run(&out, &config)),
        Command::AwsTemplate { format } => aws_template::aws_template(&out, &config, format),
        Command::Classify { paths, explain } => classify::classify(&out, &config, &paths, explain),
        command => runtime.block_on(async {
            let site = Arc::new(Site::new(Arc::new(config), None, Pace::new(daemon::now), daemon::now).await);
            on_bucket(command, &out, &site).await
        }),
    };
    // A scan of a million files under way has nobody to report to any more; nothing is lost by not waiting for it.
    runtime.shutdown_background();
    done
}

/// Runs the commands that need the bucket.
async fn on_bucket(command: Command, out: &Out, site: &Arc<Site>) -> anyhow::Result<()> {
    match command {
        Command::Doctor { .. } => doctor::doctor(out, site).await,
        Command::Upload(upload) => upload.run(out, Arc::clone(site)).await,
        Command::Cameras => list::cameras(out, site).await,
        Command::Days { camera } => list::days(out, site, &camera).await,
        Command::List(list) => list.run(out, site).await,
        Command::Get(get) => get.run(out, site).await,
        Command::Restore(restore) => restore.run(out, site).await,
        Command::Arrange(arrange) => arrange.run(out, site).await,
        Command::Verify(verify) => verify.run(out, site).await,
        Command::Archive(archive) => archive.run(out, site).await,
        Command::Rotate(rotate) => rotate.run(out, site).await,
        Command::Recover(recover) => recover.run(out, site).await,
        Command::Heartbeat(heartbeat) => heartbeat.run(out, site).await,
        Command::Alerts(_)
        | Command::Run
        | Command::Check { .. }
        | Command::Classify { .. }
        | Command::Status { .. }
        | Command::AwsTemplate { .. }
        | Command::UnitPaths(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_camera_or_a_file_that_begins_with_a_dash_needs_no_separator() {
        for camera in ["-cam", "-vestibule", "--back", "-1", "-"] {
            for line in [
                &["days", camera][..],
                &["list", camera, "2026-01-02", "--event", "VMD"],
                &["get", camera, "2026-01-02", "-a.jpg", "--b.jpg", "--to", "/tmp/x"],
                &["restore", camera, "2026-01-02"],
                &["arrange", camera, "--dry-run"],
                &["archive", camera, "2026-01-02", "--dry-run"],
                &["verify", camera, "2026-01-02"],
                &["upload", camera, "--dry-run"],
                &["classify", camera, "--explain"],
            ] {
                let cli = parse(&[&["--json"], line].concat()).unwrap_or_else(|error| panic!("{line:?}: {error}"));
                let debug = format!("{:?}", cli.command);
                assert!(debug.contains(&format!("\"{camera}\"")) && !debug.contains("dry_run: false"), "{debug}");
                assert!(cli.json, "{line:?}");
            }
        }
        let cli =
            parse(&["--config", "c", "get", "cam", "2026-01-02", "-a.jpg", "--to", "x", "--json", "-q", "b"]).unwrap();
        assert!(cli.json && cli.quiet && cli.config == *"c", "{cli:?}");
        let debug = format!("{:?}", cli.command);
        assert!(debug.contains(r#"files: ["-a.jpg", "b"], to: "x""#), "{debug}");
        for line in [&["--nothing"][..], &["list"], &["list", "-"], &["rotate", "--nothing"], &["-x", "list", "CAM"]] {
            assert_eq!(parse(line).is_ok(), line == ["list", "-"], "{line:?}");
        }
        assert!(parse(&["list", "--", "-cam"]).is_ok());
    }

    fn parse(line: &[&str]) -> Result<Cli, clap::Error> {
        let words = ["hk-aws"].iter().chain(line).map(OsString::from).collect();
        Cli::try_parse_from(dashes::set_names_apart(words, &mut Cli::command()))
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
}
