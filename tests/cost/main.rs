//! What a capture costs, counted in what does not depend on how busy a machine is: requests, system calls, allocations
//! and bytes read. Run by name, with strace installed: `cargo test --test cost -- --nocapture` prints the figures.
//!
//! `cargo test --profile dist --test cost -- --nocapture --ignored` counts the instructions of what the packages hold, with
//! valgrind. They have no limit, because each compiler makes others.
//!
//! Each figure is the difference between a folder of few and one of many pictures, a capture, or between a short and a long
//! while of nothing, a second: what a start costs is not in it. Each has a limit in [`limits`].
#![expect(clippy::disallowed_methods, reason = "the pictures are laid down, and the clock is real")]
#![expect(clippy::print_stdout, reason = "the figures are what this is for")]
#![expect(clippy::unwrap_used, reason = "a test ends where its ground gives way")]

mod allocations;
mod limits;
#[path = "../figures/picture.rs"]
mod picture;
mod process;
#[path = "../it/support/s3.rs"]
#[expect(dead_code, reason = "the tests in memory need more of it")]
mod s3;
mod site;

use process::{bytes_read, instructions, system_calls};
use site::Site;

/// The pictures of the smaller and of the larger folder.
const FEW: usize = 100;
const MANY: usize = 300;

/// How many seconds the daemon runs with nothing to do, for a short and for a long while.
const IDLE: [u32; 2] = [5, 20];

/// Returns what one capture more costs.
fn each(few: u64, many: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "the figures are small")]
    let captures = (MANY - FEW) as f64;
    difference(few, many) / captures
}

fn difference(few: u64, many: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "the figures are small")]
    let difference = many as f64 - few as f64;
    difference
}

fn hold(what: &str, cost: f64, limit: f64) {
    println!("{what} a capture: {cost:.2}, at most {limit}");
    assert!(cost <= limit, "a capture costs {cost:.2} {what}, and the limit is {limit}");
}

#[test]
fn a_capture_costs_one_request() {
    let asked = |pictures| {
        let site = Site::new(pictures);
        site.upload();
        site.requests()
    };
    let cost = each(asked(FEW), asked(MANY));
    println!("requests a capture: {cost}, exactly 1");
    assert!((cost - 1.0).abs() < f64::EPSILON, "{cost}");
}

#[test]
fn a_capture_costs_few_system_calls() {
    let [few, many] = [FEW, MANY].map(|pictures| system_calls(&Site::new(pictures)));
    let mut total = 0.0;
    for (name, count) in &many {
        let cost = each(few.get(name).copied().unwrap_or(0), *count);
        let kind = process::kind(name);
        if cost.abs() >= 0.05 {
            println!("{name:<20}{cost:>8.2}  {kind:?}");
        }
        total += if kind == process::Kind::Work { cost } else { 0.0 };
    }
    hold("system calls", total, limits::SYSTEM_CALLS);
}

#[test]
fn an_idle_second_costs_few_system_calls() {
    let calls = |seconds| process::system_calls_of_daemon(&Site::new(0), seconds);
    let [short, long] = IDLE.map(calls);
    let seconds = f64::from(IDLE[1] - IDLE[0]);
    let mut total = 0.0;
    for (name, count) in &long {
        let cost = difference(short.get(name).copied().unwrap_or(0), *count) / seconds;
        if cost.abs() >= 0.2 {
            println!("{name:<20}{cost:>8.2}");
        }
        total += cost;
    }
    println!("system calls an idle second: {total:.1}, at most {}", limits::IDLE_SYSTEM_CALLS);
    assert!(total >= 1.0, "the daemon did nothing, not even its own affairs");
    assert!(total <= limits::IDLE_SYSTEM_CALLS, "an idle second costs {total:.1} system calls");
}

#[test]
fn a_capture_is_read_few_times() {
    let cost = each(bytes_read(&Site::new(FEW)), bytes_read(&Site::new(MANY)));
    #[expect(clippy::cast_precision_loss, reason = "the figures are small")]
    let times = cost / picture::CAPTURE_BYTES as f64;
    hold("bytes read for each of its bytes", times, limits::TIMES_READ);
}

#[test]
fn a_capture_costs_few_allocations() {
    let [few, many] = [FEW, MANY].map(|pictures| allocations::of_a_pass(&Site::new(pictures)));
    hold("allocations", each(few.count, many.count), limits::ALLOCATIONS);
    hold("allocated bytes", each(few.bytes, many.bytes), limits::ALLOCATED_BYTES);
}

#[test]
#[ignore = "needs valgrind, and means something for an optimised program only"]
fn the_instructions_of_a_capture() {
    let cost = each(instructions(&Site::new(FEW)), instructions(&Site::new(MANY)));
    println!("instructions a capture: {cost:.0}");
    assert!(cost > 0.0, "{cost}");
}
