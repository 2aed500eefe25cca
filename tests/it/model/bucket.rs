//! A reference model of the bucket over the months: two boxes that store, rotate and repair in it, another program beside
//! them, a store that may ignore storage classes, kills, faults, and a thief with the box's keys.
//!
//! It is a model of its own beside that of the ingest loop: nothing here waits for a folder or a timer. Days pass by
//! setting the clocks of boxes and store, so that a case lasts months and takes a fraction of a second.
//!
//! What it demands after each operation and at the end stands in [`check`]. `HK_AWS_BUCKET_CASES` sets the number of cases.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

mod check;
mod operation;
mod thief;
mod world;

pub(crate) use operation::Lie;
pub(crate) use thief::forge;

use operation::{Kind, Operation};
use world::World;

use crate::support::clock::Clock;

/// What is tried where nobody asks for more: some seconds' worth.
const CASES: u32 = 6;

/// Cases that run side by side.
const RUNNERS: u32 = 2;

/// Where cases that failed are kept and tried first.
const KEPT: &str = "tests/it/model/bucket/regressions.txt";

static CASES_RUN: AtomicU64 = AtomicU64::new(0);
static OPERATIONS: AtomicU64 = AtomicU64::new(0);
static FAULTS: AtomicU64 = AtomicU64::new(0);
static THEFTS: AtomicU64 = AtomicU64::new(0);

/// A case: the bucket, what happens, and what happens once a thief has the keys, if one ever does.
type Case = (Kind, Vec<Operation>, Vec<Operation>);

#[test]
fn i4_i9_i10_whatever_happens_to_the_bucket_every_confirmed_byte_is_there_or_comes_back() {
    let cases = std::env::var("HK_AWS_BUCKET_CASES").ok().map_or(CASES, |cases| cases.parse().unwrap());
    let any = || {
        let honest = proptest::collection::vec(operation::honest(20), 1..25);
        let with_a_thief = proptest::collection::vec(operation::with_a_thief(), 1..20);
        (operation::kind(), honest, prop_oneof![Just(Vec::new()), with_a_thief])
    };
    let failures = super::run((cases, RUNNERS), KEPT, any, play);
    let counts = [&CASES_RUN, &OPERATIONS, &FAULTS, &THEFTS].map(|count| count.load(Ordering::Relaxed));
    let [run, operations, faults, thefts] = counts;
    let figures = format!("{run} cases, {operations} operations, {faults} faults, {thefts} of them by a thief");
    assert!(failures.is_empty(), "{figures}; {}", failures.join("\n\n"));
    eprintln!("{figures}");
}

fn play((kind, honest, with_a_thief): &Case) -> Result<(), String> {
    let clock = Clock::default();
    clock.govern_this_thread();
    let of_threads = clock.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .on_thread_start(move || of_threads.govern_this_thread())
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        CASES_RUN.fetch_add(1, Ordering::Relaxed);
        let mut world = World::new(*kind, clock).await;
        carry_out(&mut world, honest).await?;
        if with_a_thief.is_empty() {
            return world.check_end().await;
        }
        world.hand_the_keys_over();
        carry_out(&mut world, with_a_thief).await?;
        world.check_recovered().await
    })
}

async fn carry_out(world: &mut World, operations: &[Operation]) -> Result<(), String> {
    for (number, operation) in operations.iter().enumerate() {
        OPERATIONS.fetch_add(1, Ordering::Relaxed);
        FAULTS.fetch_add(u64::from(operation.is_fault()), Ordering::Relaxed);
        THEFTS.fetch_add(u64::from(operation.is_theft()), Ordering::Relaxed);
        let before = world.before(operation);
        world.carry_out(operation).await;
        world.check(operation, &before).map_err(|wrong| format!("after operation {number}, {operation:?}: {wrong}"))?;
    }
    Ok(())
}
