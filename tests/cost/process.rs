//! What the kernel counts of the program as a process.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::site::Site;

/// What a system call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It waits, or wakes what waits: how often depends on the machine.
    Waiting,
    /// It carries bytes between the program and the store.
    Body,
    Work,
}

/// Returns what a system call is for. `write` and `read` wake and are woken, too (eventfd), but are work: files use them.
pub(crate) fn kind(name: &str) -> Kind {
    match name {
        "futex" | "epoll_wait" | "epoll_pwait" | "sched_yield" | "restart_syscall" | "clock_nanosleep" => Kind::Waiting,
        "sendto" | "recvfrom" | "sendmsg" | "recvmsg" | "writev" | "sendfile" => Kind::Body,
        _ => Kind::Work,
    }
}

/// Returns how often the program and its threads made each system call while they stored the site's pictures.
pub(crate) fn system_calls(site: &Site) -> BTreeMap<String, u64> {
    counted(site, &[], &["--quiet", "upload"])
}

/// Returns how often the daemon and its threads made each system call from its start until it was stopped after so many
/// seconds.
pub(crate) fn system_calls_of_daemon(site: &Site, seconds: u32) -> BTreeMap<String, u64> {
    // In the foreground it signals the daemon alone, and once.
    counted(site, &["timeout", "--foreground", "--preserve-status", &seconds.to_string()], &["run"])
}

/// Counts the system calls of a command of the program; `ending` is what runs it and ends it, if it does not end by itself.
fn counted(site: &Site, ending: &[&str], arguments: &[&str]) -> BTreeMap<String, u64> {
    let table = site.config().with_file_name("system-calls");
    let strace = ["strace", "-f", "-c", "-o", table.to_str().unwrap()];
    let mut command = site.command_of(&[&strace, ending].concat(), arguments);
    let output = command.output().unwrap_or_else(|error| panic!("strace is not installed: {error}"));
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    let table = fs::read_to_string(table).unwrap();
    let counts: BTreeMap<String, u64> = table.lines().filter_map(count).collect();
    assert!(counts.contains_key("openat") && counts.len() > 10, "{table}");
    counts
}

/// Reads a line of the table: share, seconds, microseconds a call, calls, errors if there were any, and the name.
fn count(line: &str) -> Option<(String, u64)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (calls, name) = (fields.get(3)?.parse().ok()?, *fields.last()?);
    (name != "total").then(|| (name.to_owned(), calls))
}

/// Returns how many bytes the program read from files while it stored the site's pictures (proc_pid_io(5), `rchar`).
pub(crate) fn bytes_read(site: &Site) -> u64 {
    let mut child = site.command(&[]).spawn().unwrap();
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    // It is not reaped until it was looked at.
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    let told = fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap();
    assert!(child.wait().unwrap().success());
    told.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// Returns how many instructions the program executed while it stored the site's pictures, as callgrind counts them.
pub(crate) fn instructions(site: &Site) -> u64 {
    let valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"];
    let output = site.command(&valgrind).output().unwrap_or_else(|error| panic!("valgrind is not installed: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    said.split("Collected :").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}
