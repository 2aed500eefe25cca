//! A reference model beside the real daemon: whatever writers, clocks, networks, stores and kills do in whatever order,
//! what the model knows of the folder and the bucket must hold.
//!
//! The daemon is the library's own loop on a real folder with real inotify, against the S3 server in memory. The model
//! knows what each writer left under each path, and nothing of the daemon. What it demands after every few operations
//! and at the end stands in [`check`]. What becomes of the bucket over the months is for the model in [`bucket`]. Real threads and a real kernel make a case no more deterministic than they are;
//! so a failure is kept as it was found where it does not come again when it is made smaller.
//!
//! Each case has two or three circumstances of the table in [`circumstance`]. `HK_AWS_MODEL_CASES` sets the number of cases;
//! `HK_AWS_MODEL_PAIRS` plays until each pair of the table was met so many times. `HK_AWS_MODEL_COARSE` names a folder on a
//! disk that counts time by the second, for the cases with such times; without it, files are only dated so.

use std::fs::OpenOptions;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestCaseError, TestError, TestRunner};

pub(crate) mod bucket;
mod check;
mod circumstance;
mod operation;
mod strike;
mod world;

use circumstance::Circumstances;
use operation::{End, Operation};
use world::World;

use crate::support::site::{DEADLINE, Settings, Site, key, picture, sha256};

/// What is tried where nobody asks for more: some ten seconds' worth.
const CASES: u32 = 30;

/// Cases that run side by side, in the short form and in the long one: they wait most of the time.
const RUNNERS: u32 = 8;
const LONG_RUNNERS: u32 = 24;

/// How many cases are played before it is looked which pairs are still to be met.
const ROUND: u32 = 200;

/// For each time that every pair is to be met, at most so many cases are played.
const MOST_CASES: u64 = 200;

/// How many files are resumed as they are taken away.
const RESUMES: u32 = 300;

/// Where cases that failed are kept and tried first.
const KEPT: &str = "tests/it/model/regressions.txt";

static CASES_RUN: AtomicU64 = AtomicU64::new(0);
static OPERATIONS: AtomicU64 = AtomicU64::new(0);
static FAULTS: AtomicU64 = AtomicU64::new(0);

#[test]
fn whatever_happens_in_whatever_order_nothing_is_lost() {
    let asked = |name: &str| std::env::var(name).ok().map(|number| number.parse::<u32>().unwrap());
    let wanted = asked("HK_AWS_MODEL_PAIRS").unwrap_or(0);
    let runners = if wanted > 0 { LONG_RUNNERS } else { RUNNERS };
    let cases = asked("HK_AWS_MODEL_CASES").unwrap_or(if wanted > 0 { ROUND } else { CASES });
    loop {
        let any = move || {
            circumstance::any_set(wanted).prop_flat_map(|set| {
                let operations = circumstance::operations(&set);
                (Just(set), operations, 1_usize..6, operation::any_end())
            })
        };
        let failures =
            run((cases, runners), KEPT, any, |(set, operations, burst, end)| play(set, operations, *burst, *end));
        let [run, operations, faults] = [&CASES_RUN, &OPERATIONS, &FAULTS].map(|count| count.load(Ordering::Relaxed));
        let met = circumstance::times_met();
        let rare: Vec<_> = met.iter().filter(|(_, times)| **times < wanted).collect();
        let figures = format!(
            "{run} cases, {operations} operations, {faults} faults; {} of {} pairs met, {} times in all; below {wanted}: \
             {rare:?}",
            met.values().filter(|times| **times > 0).count(),
            met.len(),
            met.values().sum::<u32>(),
        );
        assert!(failures.is_empty(), "{figures}; {}", failures.join("\n\n"));
        assert!(operations > u64::from(cases), "{operations} operations in {run} cases");
        eprintln!("{figures}");
        if rare.is_empty() {
            return;
        }
        assert!(run < u64::from(wanted) * MOST_CASES, "these pairs are not met");
    }
}

/// Found once: an empty file was judged, and the whole one that had come under its name since was set aside for it.
#[test]
fn i1_a_file_that_was_not_judged_is_not_set_aside() {
    use operation::Content::{Empty, Whole};
    use operation::Operation::{Drop, Step};
    let mut operations = vec![Step(3600)];
    for round in 0..70 {
        operations.extend([Drop(round % 7, Empty), Drop(round % 7, Whole)]);
    }
    play(&Circumstances::new(), &operations, 1, End::Reload).unwrap();
}

/// The microseconds in which a file is taken away are aimed at by themselves: chance hardly meets them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_file_resumed_in_the_moment_it_is_taken_away_is_stored_whole() {
    let site = Site::started(Settings { rest: "keep: {days: 0}", ..Settings::default() }).await;
    let mut resumed = Vec::new();
    for number in 0..RESUMES {
        let path = site.write(format!("CAM/{}", picture(number)), &number.to_be_bytes());
        let key = key("CAM", number);
        site.s3.wait_for(|state| state.object(&key).is_some(), DEADLINE).await;
        // It is confirmed; what is left to do takes some ten steps of as many microseconds.
        let (stored, aim) = (Instant::now(), Duration::from_micros(u64::from(number % 50) * 20));
        while stored.elapsed() < aim {
            std::hint::spin_loop();
        }
        let Ok(mut file) = OpenOptions::new().append(true).open(&path) else { continue };
        file.write_all(b"the rest").unwrap();
        resumed.push(sha256(&[number.to_be_bytes().as_slice(), b"the rest"].concat()));
    }
    assert!(!resumed.is_empty());
    let stored = |hash: &String| site.s3.look(|state| state.objects().values().any(|object| object.sha256 == *hash));
    site.wait("every file that was resumed", || resumed.iter().all(stored).then_some(())).await;
}

/// Plays that many cases in that many threads; returns what failed. Cases that fail are kept in a file.
fn run<S>(
    (cases, runners): (u32, u32),
    kept: &'static str,
    strategy: impl Fn() -> S + Clone + Send + 'static,
    play: fn(&S::Value) -> Result<(), String>,
) -> Vec<String>
where
    S: Strategy + 'static,
{
    let config = ProptestConfig {
        cases: cases.div_ceil(runners),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        max_shrink_time: 120_000,
        ..ProptestConfig::default()
    };
    let runner = |_| {
        let (config, strategy) = (config.clone(), strategy.clone());
        std::thread::spawn(move || {
            let played = TestRunner::new(config).run(&strategy(), |case| {
                let played = std::panic::catch_unwind(AssertUnwindSafe(|| play(&case)));
                played
                    .unwrap_or_else(|panic| {
                        let text = panic.downcast_ref::<String>().map(String::as_str);
                        Err(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned())
                    })
                    .map_err(TestCaseError::fail)
            });
            played.map_err(|failure| match failure {
                TestError::Fail(why, case) => format!("{why}\nin the case {case:?}"),
                TestError::Abort(why) => why.to_string(),
            })
        })
    };
    let runners: Vec<_> = (0..runners).map(runner).collect();
    runners.into_iter().filter_map(|runner| runner.join().unwrap().err()).collect()
}

/// Carries out `operations` and looks after each `burst` of them, then lets the dust settle and looks whether all is
/// there.
fn play(set: &Circumstances, operations: &[Operation], burst: usize, end: End) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        CASES_RUN.fetch_add(1, Ordering::Relaxed);
        let mut world = World::new(set).await;
        for (number, operation) in operations.iter().enumerate() {
            OPERATIONS.fetch_add(1, Ordering::Relaxed);
            FAULTS.fetch_add(u64::from(operation.is_fault()), Ordering::Relaxed);
            world.carry_out(operation).await;
            if number % burst == 0 {
                world.check().await.map_err(|wrong| format!("after operation {number}, {operation:?}: {wrong}"))?;
            }
        }
        if end == End::Reload {
            world.i3_status_accounts_for_each_file().await?;
        }
        world.end(end).await;
        world.check_end().await?;
        circumstance::count(&world.all_that_struck());
        Ok(())
    })
}
