//! The catalogue of the messages, compiled by systemd's own tool.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const CATALOGUE: &str = "usr/lib/systemd/catalog/hk-aws.catalog";

/// Runs journalctl on the files of a system below a folder, and returns what it says.
fn journalctl(root: &Path, argument: &str) -> String {
    let mut command = Command::new("journalctl");
    command.arg(format!("--root={}", root.display())).arg(argument).env("LC_ALL", "C.UTF-8");
    let done = command.output().unwrap_or_else(|error| panic!("install systemd: {error}"));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(String::from_utf8_lossy(&done.stderr), "", "it warns of nothing");
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn the_catalogue_compiles_and_has_each_text_as_it_was_written() {
    let root = TempDir::with_prefix("hk-aws-catalogue-").unwrap();
    for folder in ["usr/lib/systemd/catalog", "var/lib/systemd/catalog"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(CATALOGUE);
    fs::copy(&ours, root.path().join(CATALOGUE)).unwrap();
    journalctl(root.path(), "--update-catalog");
    let compiled = journalctl(root.path(), "--dump-catalog");
    let text = fs::read_to_string(&ours).unwrap();
    let entries: Vec<&str> = text.split("\n-- ").skip(1).collect();
    assert_eq!(compiled.matches("\nSubject: ").count(), entries.len());
    for entry in entries {
        assert!(compiled.contains(entry.trim()), "{entry}\n{compiled}");
    }
}
