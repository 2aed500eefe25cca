//! `doctor` called by root: run again as the service runs, because what root can do says nothing about it.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};

use anyhow::{Context as _, bail};

use super::out::Out;
use super::{ExitWith, Told};
use crate::config::Config;
use crate::service;

/// The lowest exit status that systemd gives itself, if it cannot set up what the unit asks for (systemd.exec(5), "Process
/// Exit Codes").
const SYSTEMD_FAILED: i32 = 200;

/// Runs this command again as the service does, if root calls it and the service is not root's; returns whether it ran.
///
/// # Errors
/// The exit code of the command that ran.
pub(super) fn again(out: &Out, config: &Config) -> anyhow::Result<bool> {
    if !rustix::process::geteuid().is_root() {
        return Ok(false);
    }
    let done = match service::unit_text() {
        Some(unit) => match service::user_of(&unit) {
            Some(user) => in_sandbox(out, config, &unit, &user)?,
            None => return Ok(false),
        },
        None => match config.state_dir.metadata() {
            Ok(state) if state.uid() != 0 => as_user(out, config, state.uid(), state.gid())?,
            _ => return Ok(false),
        },
    };
    match done.code() {
        Some(0) => Ok(true),
        Some(code) => Err(ExitWith(u8::try_from(code).unwrap_or(1)).into()),
        None => Err(Told.into()),
    }
}

/// The words of the command that runs again.
fn words(out: &Out, config: &Config) -> anyhow::Result<Vec<OsString>> {
    let file = std::path::absolute(&config.source).context("failed to find the configuration")?;
    let mut words: Vec<OsString> = vec!["--config".into(), file.into(), "doctor".into(), "--as-caller".into()];
    words.extend(out.json.then(|| "--json".into()));
    words.extend(out.quiet.then(|| "--quiet".into()));
    Ok(words)
}

fn in_sandbox(out: &Out, config: &Config, unit: &str, user: &str) -> anyhow::Result<ExitStatus> {
    let program = std::env::current_exe().context("failed to find this program")?;
    out.remark(format_args!(
        "running as {} does: as {user}, with the rights and the sandbox of its unit",
        service::UNIT
    ));
    let mut command = Command::new("systemd-run");
    command.args(service::as_service(unit, &config.runtime_dir)).arg("--").arg(&program).args(words(out, config)?);
    let done = command.status().context("failed to start systemd-run")?;
    if let Some(status) = done.code().filter(|status| *status >= SYSTEMD_FAILED) {
        bail!(
            "systemd cannot run {} as {} does (status {status}; systemd.exec(5) lists them): look at `systemctl status \
             hk-aws`; 203 says that the sandbox hides this program, and 226 that a folder of the unit is missing",
            program.display(),
            service::UNIT
        );
    }
    Ok(done)
}

fn as_user(out: &Out, config: &Config, user: u32, group: u32) -> anyhow::Result<ExitStatus> {
    out.remark(format_args!(
        "running as user {user}, to whom {} belongs; there is no systemd with the unit {}: its rights and its sandbox are not \
         tried",
        config.state_dir.display(),
        service::UNIT
    ));
    // Whatever leads to the program may be closed to that user; the kernel's own link is not.
    let mut command = Command::new("/proc/self/exe");
    // Root's AWS files are not the service's.
    command.uid(user).gid(group).env_remove("HOME").args(words(out, config)?);
    command.status().context("failed to run as the service's user")
}
