//! `unit-paths`: the drop-in that opens the folders of the configuration to the service.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::out::Out;
use crate::config::Config;
use crate::service;

/// What stands in a drop-in that is not needed any more.
const NOTHING: &str = "# The unit opens every folder of the configuration by itself. Made by `hk-aws unit-paths`.\n";

#[derive(Debug, Args)]
pub(super) struct UnitPathsArgs {
    /// Print the drop-in, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// The drop-in to write
    #[arg(long, value_name = "FILE", default_value = service::DROP_IN)]
    file: PathBuf,
}

impl UnitPathsArgs {
    pub(super) fn run(self, out: &Out, config: &Config) -> anyhow::Result<()> {
        let file = self.file.display();
        let needed = service::drop_in(config);
        let text = needed.as_deref().unwrap_or(NOTHING);
        let is_written = !self.dry_run && (needed.is_some() || self.file.exists());
        if is_written {
            write(&self.file, text).with_context(|| {
                format!("failed to write {file}; run this with sudo, or let it only print with --dry-run")
            })?;
        }
        out.item(&json!({"file": self.file, "text": text, "written": is_written}), text.trim_end())?;
        if !is_written {
            return Ok(());
        }
        let is_reloaded = self.file == Path::new(service::DROP_IN) && reload();
        let first = if is_reloaded { "" } else { "`sudo systemctl daemon-reload`, then " };
        out.remark(format_args!("{file} is written; it takes effect with {first}`sudo systemctl restart hk-aws`"));
        Ok(())
    }
}

fn write(file: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, text)
}

/// Lets systemd read its units again; returns whether it did.
fn reload() -> bool {
    let mut systemctl = Command::new("systemctl");
    let done = systemctl.arg("daemon-reload").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.is_ok_and(|done| done.success())
}
