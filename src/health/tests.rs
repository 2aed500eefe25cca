//! The state as a function of the facts.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::{Limits, judge};
use crate::status::{
    CameraStatus, Condition, ConditionKind, DaemonState, Job, OnlyHere, Snapshot, StoredTotals, WaitingCounts, Weight,
    WrongClock,
};

const START: &str = "2026-11-28T00:00:00Z";

fn at(seconds: i64) -> DateTime<Utc> {
    START.parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(seconds)
}

/// A daemon that is well, this many seconds after its start.
pub(crate) fn well(seconds: i64) -> Snapshot {
    serde_json::from_value(serde_json::json!({
        "version": "1", "pid": 1, "at": at(seconds), "started_at": at(0), "state": "starting", "bucket": "s3://b",
        "trouble": null, "waiting": WaitingCounts::default(), "oldest_only_here": null, "files": [], "not_uploaded": [],
        "stored": StoredTotals { captures: 1, bytes: 1 }, "cameras": {}, "last_errors": [],
        "drop_folder_free_bytes": null, "state_free_bytes": null, "kept_bytes": null, "scanned": true,
    }))
    .unwrap()
}

fn limits() -> Limits {
    let silent_after = [("CAM".to_owned(), Duration::from_hours(1))].into();
    Limits { exposure: Duration::from_mins(15), silent_after, ..Limits::default() }
}

fn camera(last_stored: i64) -> CameraStatus {
    let last_taken_at = at(last_stored).fixed_offset();
    CameraStatus {
        captures: 1,
        last_taken_at,
        last_stored_at: at(last_stored),
        wrong_clock: None,
        clock_offset: None,
        newest_day: None,
    }
}

fn judged(mut snapshot: Snapshot) -> Snapshot {
    judge(&mut snapshot, &[], &limits());
    snapshot
}

fn kinds(snapshot: &Snapshot) -> Vec<ConditionKind> {
    snapshot.conditions.iter().map(|condition| condition.kind).collect()
}

/// What the owner has to hear of is never called `ok`.
#[test]
fn each_fault_is_a_condition_and_none_of_them_is_called_ok() {
    type Break = Box<dyn FnOnce(&mut Snapshot)>;
    let job = |job: Job| move |facts: &mut Snapshot| drop(facts.jobs.insert("rotate".to_owned(), job));
    let faults: Vec<(ConditionKind, Break)> = vec![
        (ConditionKind::RotationFailed, Box::new(job(Job { failed: true, ..Job::default() }))),
        (ConditionKind::RotationOverdue, Box::new(job(Job { next_at: Some(at(-3 * 3600)), ..Job::default() }))),
        (ConditionKind::Unreadable, Box::new(|facts| facts.waiting.unreadable = 1)),
        (ConditionKind::SetAside, Box::new(|facts| facts.waiting.set_aside = 2)),
        (ConditionKind::StateShort, Box::new(|facts| facts.state_free_bytes = Some(1 << 20))),
        (ConditionKind::BoxClock, Box::new(|facts| facts.clock_behind_seconds = Some(-301))),
        (ConditionKind::CameraSilent, Box::new(|facts| drop(facts.cameras.insert("CAM".to_owned(), camera(0))))),
        (
            ConditionKind::Exposure,
            Box::new(|facts| {
                facts.oldest_only_here = Some(OnlyHere { path: "CAM/a.jpg".to_owned(), since: at(4 * 3600 - 900) });
            }),
        ),
        (
            ConditionKind::CameraClock,
            Box::new(|facts| {
                let wrong = WrongClock { captures: 1, last_said: at(0).fixed_offset(), is_now: true };
                facts.cameras.insert("OTHER".to_owned(), CameraStatus { wrong_clock: Some(wrong), ..camera(0) });
            }),
        ),
    ];
    let mut healthy = well(4 * 3600);
    healthy.cameras.insert("CAM".to_owned(), camera(4 * 3600));
    assert_eq!((kinds(&judged(healthy.clone())), judged(healthy.clone()).state), (vec![], DaemonState::Ok));
    for (kind, fault) in faults {
        let mut facts = healthy.clone();
        fault(&mut facts);
        let told = judged(facts);
        assert_eq!((kinds(&told), told.state), (vec![kind], DaemonState::Degraded), "{kind:?}");
        let condition = &told.conditions[0];
        assert!(!condition.sentence.is_empty() && !condition.advice.is_empty(), "{condition:?}");
        assert!(told.line().contains(&condition.sentence), "{}", told.line());
        assert!(told.trouble.unwrap().reason.contains(&condition.sentence));
    }
}

#[test]
fn nothing_is_ok_before_the_bucket_has_answered() {
    let mut facts = well(1);
    facts.stored.captures = 0;
    facts.raised = vec![Condition::new(ConditionKind::BucketUntried, at(0), "not yet", "")];
    let told = judged(facts.clone());
    assert_eq!((told.state, told.trouble), (DaemonState::Starting, None));
    // A capture that is stored says more than any question.
    facts.stored.captures = 1;
    assert_eq!(judged(facts).state, DaemonState::Ok);
}

#[test]
fn a_camera_is_silent_only_if_the_bucket_would_have_heard_of_it() {
    let mut facts = well(2 * 3600);
    assert_eq!(kinds(&judged(facts.clone())), [ConditionKind::CameraSilent], "it has sent nothing since the start");
    facts.link_down = true;
    assert_eq!(kinds(&judged(facts)), []);
}

fn raised() -> impl Strategy<Value = Condition> {
    let kinds = proptest::sample::select(&ConditionKind::ALL[..]);
    let camera = proptest::option::of(proptest::sample::select(&["CAM", "OTHER"][..]));
    (kinds, camera, 0..9000_i64).prop_map(|(kind, camera, since)| {
        let condition = Condition::new(kind, at(since), "something is wrong", "mend it");
        match camera {
            Some(camera) => condition.of_camera(camera),
            None => condition,
        }
    })
}

proptest! {
    #[test]
    fn the_state_follows_from_the_facts_alone(
        raised in proptest::collection::vec(raised(), 0..6),
        scanned in any::<bool>(),
        stopping in any::<bool>(),
        later in 0..9000_i64,
    ) {
        let mut facts = well(9000);
        facts.cameras.insert("CAM".to_owned(), camera(9000));
        (facts.raised, facts.scanned, facts.stopping) = (raised.clone(), scanned, stopping);
        let told = judged(facts.clone());
        // The worst first, and one of a subject.
        prop_assert!(told.conditions.iter().map(|condition| condition.kind).is_sorted());
        let mut subjects: Vec<_> = told.conditions.iter().map(Condition::subject).collect();
        subjects.sort_unstable();
        subjects.dedup();
        prop_assert_eq!(subjects.len(), told.conditions.len());
        // None is lost, except that the bucket was tried.
        for condition in &raised {
            let is_told = told.conditions.iter().any(|found| found.subject() == condition.subject());
            prop_assert_eq!(is_told, condition.kind != ConditionKind::BucketUntried);
        }
        let is_wrong = told.conditions.iter().any(|condition| condition.kind.weight() > Weight::Notice);
        let expected = match (stopping, scanned, is_wrong) {
            (true, ..) => DaemonState::Stopping,
            (_, false, _) => DaemonState::Starting,
            (.., true) => DaemonState::Degraded,
            _ => DaemonState::Ok,
        };
        prop_assert_eq!(told.state, expected);
        prop_assert_eq!(told.trouble.is_some(), is_wrong);
        // Judging again changes nothing, and what goes on keeps the time at which it began.
        let mut again = told.clone();
        again.at += TimeDelta::seconds(later.min(899));
        again.cameras.insert("CAM".to_owned(), camera(9000 + later.min(899)));
        judge(&mut again, &told.conditions, &limits());
        prop_assert_eq!(again.conditions, told.conditions);
    }
}
