//! Logins that fail at the FTP server, with a stand-in for `journalctl` that does what the real one will not do when it is
//! asked. The real one, with real servers, is in the tests with real peers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use hk_aws::status::{ConditionKind, Snapshot};
use rustix::process::Signal;

use crate::process::Place;
use crate::process::daemon::{Daemon, SOON, wait_for};

/// Starts a daemon whose `journalctl` is this script.
fn start(place: &Place, script: &str) -> Daemon {
    let programs = place.path().join("bin");
    fs::create_dir(&programs).unwrap();
    let program = programs.join("journalctl");
    fs::write(&program, format!("#!/bin/sh\ncd '{}'\n{script}\n", place.path().display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    place.configure("http://127.0.0.1:9", "");
    let mut command = place.run();
    command.env("PATH", format!("{}:/usr/bin:/bin", programs.display()));
    let mut daemon = Daemon::start(command, place.path());
    daemon.wait_for_notice("READY=1", 0);
    daemon
}

fn told(place: &Place) -> Option<String> {
    let status = Snapshot::read(&place.path().join("run")).ok()?;
    let is_one = |condition: &&hk_aws::status::Condition| condition.kind == ConditionKind::FtpLogins;
    status.conditions.iter().find(is_one).map(|condition| condition.sentence.clone())
}

/// The most memory that a process has held, in KiB.
fn peak(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_line_without_end_costs_no_memory_and_hides_no_login_and_the_reader_ends_with_the_daemon() {
    let place = Place::new();
    let mut daemon = start(
        &place,
        r#"echo "$@" >arguments
fail() { for try in 1 2 3; do
  printf '{"SYSLOG_IDENTIFIER":"pure-ftpd","MESSAGE":"(?@10.0.0.9) [WARNING] Authentication failed for user [%s]"}\n' "$1"
done; }
fail cam1
until [ -e go ]; do sleep 0.1; done
head -c 100000000 /dev/zero | tr '\0' a
echo
fail cam2
echo $$ >pid
exec sleep 600"#,
    );
    let wait_until_told = |wanted: &str| wait_for(wanted, SOON, || told(&place).filter(|said| said == wanted));
    wait_until_told("logins at the FTP server fail: user cam1 from 10.0.0.9");
    let before = peak(daemon.id());
    fs::write(place.path().join("go"), "").unwrap();
    wait_until_told("logins at the FTP server fail: user cam1 from 10.0.0.9, user cam2 from 10.0.0.9");
    let grown = peak(daemon.id()) - before;
    assert!(grown < 16 << 10, "{grown} KiB");
    let arguments = fs::read_to_string(place.path().join("arguments")).unwrap();
    assert!(arguments.contains("--follow --lines=0 --output=json"), "{arguments}");
    let pid = wait_for("its process", SOON, || {
        fs::read_to_string(place.path().join("pid")).ok().filter(|pid| pid.ends_with('\n'))
    });
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_for_end(SOON).success());
    let process = format!("/proc/{}", pid.trim());
    wait_for("the end of the reader", Duration::from_secs(10), || (!fs::exists(&process).unwrap()).then_some(()));
}

#[test]
fn a_journal_that_may_not_be_read_is_said_once_and_is_no_trouble() {
    let place = Place::new();
    let script = "echo x >>runs\necho 'No journal files were opened due to insufficient permissions.' >&2\nexit 1";
    let _daemon = start(&place, script);
    let log = || fs::read_to_string(place.path().join("log")).unwrap_or_default();
    wait_for("a second attempt", SOON, || {
        fs::read_to_string(place.path().join("runs")).ok().filter(|runs| runs.lines().count() >= 2)
    });
    let said = "INFO logins that fail at the FTP server are not noticed: the journal cannot be read: No journal files were opened";
    assert_eq!(log().matches(said).count(), 1, "{}", log());
    assert_eq!(told(&place), None);
}
