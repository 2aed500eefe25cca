//! The state machine as a function of facts and time.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use proptest::prelude::*;

use super::outbox::{MOST_WAITING, Outbox};
use super::{HOLD, Message, Phase, Rules, State, step};
use crate::config::Config;
use crate::health::{Limits, judge};
use crate::status::{Condition, ConditionKind, Snapshot};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
}

fn rules(alerts: &str) -> Rules {
    let text = format!("drop_folder: {{path: /d}}\ntimezone: UTC\ns3: {{bucket: captures}}\nalerts: {{{alerts}}}\n");
    Rules::of(&Config::parse(std::path::Path::new("c"), &text, &|_| None).unwrap(), "porch")
}

/// What the daemon says if these conditions hold.
fn facts(conditions: Vec<Condition>) -> Snapshot {
    let well = serde_json::json!({
        "version": "1", "pid": 1, "at": at(0), "started_at": at(0), "state": "ok", "bucket": "s3://b", "trouble": null,
        "waiting": crate::status::WaitingCounts::default(), "oldest_only_here": null, "files": [], "not_uploaded": [],
        "stored": {"captures": 0, "bytes": 0}, "cameras": {}, "last_errors": [], "drop_folder_free_bytes": null,
        "state_free_bytes": null, "kept_bytes": null,
    });
    let snapshot: Snapshot = serde_json::from_value(well).unwrap();
    Snapshot { conditions, ..snapshot }
}

fn condition(kind: ConditionKind, camera: Option<&str>, since: i64) -> Condition {
    let condition = Condition::new(kind, at(since), format!("{} of {camera:?}", kind.name()), "do something");
    Condition { camera: camera.map(str::to_owned), ..condition }
}

/// A machine with its time.
struct Machine {
    state: State,
    rules: Rules,
    now: i64,
    messages: Vec<Message>,
}

impl Machine {
    fn new(alerts: &str) -> Self {
        Self { state: State::default(), rules: rules(alerts), now: 0, messages: Vec::new() }
    }

    /// Lets these conditions hold for some minutes.
    fn minutes(&mut self, minutes: i64, conditions: &[Condition]) -> Vec<Phase> {
        let before = self.messages.len();
        for _ in 0..minutes {
            // Each step is as after a restart.
            let text = serde_json::to_string(&self.state).unwrap();
            self.state = serde_json::from_str(&text).unwrap();
            let (state, messages) = step(self.state.clone(), &facts(conditions.to_vec()), &self.rules, at(self.now));
            self.state = state;
            self.messages.extend(messages);
            self.now += 60;
        }
        self.messages[before..].iter().map(|message| message.state).collect()
    }
}

#[test]
fn a_condition_is_told_after_ten_minutes_again_after_an_hour_then_daily_and_once_when_it_is_over() {
    let mut machine = Machine::new("");
    let refused = [condition(ConditionKind::BucketRefuses, None, 0)];
    assert_eq!(machine.minutes(10, &refused), []);
    assert_eq!(machine.minutes(1, &refused), [Phase::Entered]);
    assert_eq!(machine.minutes(59, &refused), []);
    assert_eq!(machine.minutes(1, &refused), [Phase::Reminder]);
    assert_eq!(machine.minutes(24 * 60 - 1, &refused), []);
    assert_eq!(machine.minutes(1 + 2 * 24 * 60, &refused), [Phase::Reminder; 3]);
    assert_eq!(machine.minutes(10, &[]), []);
    assert_eq!(machine.minutes(60, &[]), [Phase::Left]);
    let left = machine.messages.last().unwrap();
    assert!(
        left.title.starts_with("porch: over: bucket_refuses") && left.text.contains("It lasted 3 days"),
        "{left:?}"
    );
    assert_eq!(serde_json::to_value(&machine.state).unwrap()["known"], serde_json::json!([]), "nothing is left of it");
}

#[test]
fn what_comes_and_goes_is_told_once_and_what_was_short_never() {
    let mut machine = Machine::new("");
    let refused = [condition(ConditionKind::BucketRefuses, None, 0)];
    machine.minutes(9, &refused);
    machine.minutes(30, &[]);
    assert_eq!(machine.messages, []);
    for _ in 0..60 {
        machine.minutes(3, &refused);
        machine.minutes(2, &[]);
    }
    machine.minutes(60, &[]);
    let phases: Vec<Phase> = machine.messages.iter().map(|message| message.state).collect();
    assert_eq!(phases.iter().filter(|phase| **phase != Phase::Reminder).count(), 2, "{phases:?}");
}

#[test]
fn cameras_that_fall_silent_together_are_told_together() {
    let mut machine = Machine::new("");
    let names: Vec<String> = (1..=12).map(|number| format!("CAM-{number}")).collect();
    let silent = |number: usize| -> Vec<Condition> {
        names[..number].iter().map(|name| condition(ConditionKind::CameraSilent, Some(name), 0)).collect()
    };
    machine.minutes(3, &silent(7));
    machine.minutes(57, &silent(12));
    let told: Vec<_> = machine.messages.iter().map(|message| message.title.clone()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("and 6 more") && told[1].contains("and 4 more"), "{told:?}");
    assert_eq!(machine.messages[0].camera, None);
}

#[test]
fn nights_are_quiet_except_for_what_cannot_wait_and_what_is_muted_is_never_told() {
    // The test begins at 22:13.
    let mut night = Machine::new("quiet: '22:00-07:00', mute: [camera_clock, CAM-2, 'CAM-3: camera_silent']");
    let silent = |camera| condition(ConditionKind::CameraSilent, Some(camera), 0);
    let all = [
        condition(ConditionKind::BucketRefuses, None, 0),
        silent("CAM-1"),
        silent("CAM-2"),
        silent("CAM-3"),
        condition(ConditionKind::CameraClock, Some("CAM-4"), 0),
        condition(ConditionKind::AlertsFail, None, 0),
        condition(ConditionKind::BucketUntried, None, 0),
    ];
    assert_eq!(night.minutes(45, &all), [Phase::Entered]);
    assert_eq!(night.messages[0].kind, "bucket_refuses");
    night.minutes(8 * 60, &all[1..]);
    let kinds: Vec<_> = night.messages.iter().map(|message| (message.kind.as_str(), message.state)).collect();
    assert_eq!(kinds[1], ("bucket_refuses", Phase::Left));
    let morning = night.minutes(60, &all[1..]);
    assert_eq!(morning, [Phase::Entered]);
    let last = night.messages.last().unwrap();
    assert_eq!((last.kind.as_str(), last.camera.as_deref()), ("camera_silent", Some("CAM-1")));
}

#[test]
fn a_digest_comes_once_a_day_with_what_was_stored_since() {
    let mut machine = Machine::new("digest: '08:00'");
    let mut messages = Vec::new();
    let mut captures = 0;
    for hour in 0..72 {
        let mut now = facts(Vec::new());
        // A restart after two days begins to count again.
        if hour == 48 {
            captures = 0;
        }
        now.started_at = at(if hour < 48 { 0 } else { 48 * 3600 });
        captures += 10;
        now.cameras = BTreeMap::from([(
            "CAM".to_owned(),
            serde_json::from_value(serde_json::json!({
                "captures": captures, "last_taken_at": at(0), "last_stored_at": at(0),
            }))
            .unwrap(),
        )]);
        now.stored.bytes = captures * 200_000;
        let (state, told) = step(machine.state, &now, &machine.rules, at(hour * 3600));
        machine.state = state;
        messages.extend(told);
    }
    let titles: Vec<_> = messages.iter().map(|message| message.title.as_str()).collect();
    let of = |count| format!("porch: {count} captures stored since the last digest");
    assert_eq!(titles, [of(110), of(240), of(240)]);
    let text = &messages[1].text;
    assert!(
        text.contains("CAM: 240") && text.contains("Nothing is wrong") && text.contains("$0.0012 to store"),
        "{text}"
    );
}

#[test]
fn a_clock_that_is_set_back_silences_nothing() {
    let mut machine = Machine::new("");
    let refused = [condition(ConditionKind::BucketRefuses, None, 0)];
    machine.now = 400 * 24 * 3600;
    machine.minutes(5, &refused);
    machine.now = 0;
    assert_eq!(machine.minutes(11, &refused), [Phase::Entered]);
    machine.now -= 9 * 60;
    assert_eq!(machine.minutes(62, &refused), [Phase::Reminder]);
}

#[test]
fn a_name_out_of_a_camera_breaks_no_message() {
    let mut machine = Machine::new("");
    let name = format!("a\"b\n\u{1b}[31m{}", "x".repeat(2000));
    machine.minutes(11, &[condition(ConditionKind::CameraSilent, Some(&name), 0)]);
    let message = &machine.messages[0];
    assert!(message.title.chars().count() <= 150 && message.text.chars().count() <= 900);
    assert!(!message.title.contains(['\n', '\u{1b}']) && !message.text.contains('\u{1b}'), "{message:?}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "any moment will do")]
fn an_outbox_is_bounded_and_keeps_its_order() {
    let message = |number: i64| Message { title: number.to_string(), ..Message::test("porch", at(number)) };
    let mut outbox = Outbox::default();
    outbox.add(&(0..1000).map(message).collect::<Vec<_>>());
    assert_eq!(outbox.len(), MOST_WAITING);
    let now = tokio::time::Instant::now();
    assert_eq!(outbox.due(now).unwrap().title, "900");
    assert_eq!(outbox.failed(at(950 + 3600), now), 51, "an hour is enough");
    assert!(outbox.due(now).is_none(), "not so soon again");
    let later = now + std::time::Duration::from_secs(2);
    assert_eq!(outbox.due(later).unwrap().title, "951");
    outbox.done();
    assert_eq!(outbox.due(now).unwrap().title, "952");
}

/// When which conditions hold, minute by minute: for each of some subjects, the minutes at which it changes.
fn changes() -> impl Strategy<Value = Vec<Vec<u16>>> {
    prop::collection::vec(prop::collection::vec(0..3000_u16, 0..40), 6)
}

fn subject(number: usize) -> Condition {
    let kinds = [ConditionKind::BucketRefuses, ConditionKind::CameraSilent, ConditionKind::StateShort];
    let camera = (number % 3 == 1).then(|| format!("CAM-{number}"));
    condition(kinds[number % 3], camera.as_deref(), 0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn no_kind_speaks_twice_within_the_hold_and_whatever_was_told_is_told_to_be_over(changes in changes()) {
        let mut machine = Machine::new("");
        for minute in 0..3000_u16 {
            let holds = |number: &usize| changes[*number].iter().filter(|at| **at <= minute).count() % 2 == 1;
            let now: Vec<Condition> = (0..changes.len()).filter(holds).map(subject).collect();
            machine.minutes(1, &now);
        }
        machine.minutes(60, &[]);
        let mut last: BTreeMap<&str, DateTime<Utc>> = BTreeMap::new();
        for message in &machine.messages {
            let before = last.insert(&message.kind, message.at);
            prop_assert!(before.is_none_or(|before| message.at - before >= HOLD), "{message:?} after {before:?}");
        }
        // Each subject is told of by name: entering and leaving take turns, and leaving comes last.
        for number in 0..changes.len() {
            let name = subject(number).sentence;
            let mut open = false;
            for message in machine.messages.iter().filter(|message| message.text.contains(&name)) {
                match message.state {
                    Phase::Entered => { prop_assert!(!open, "{name} is told twice"); open = true; }
                    Phase::Left => { prop_assert!(open, "{name} is over and was never told"); open = false; }
                    _ => prop_assert!(open, "{name} is told again and was never told"),
                }
            }
            prop_assert!(!open, "{name} never ends");
        }
        // Whatever changes at the worst moments makes a message in ten minutes.
        for hour in 0..50 {
            let of = |message: &&Message| (message.at - at(0)).num_hours() == hour && message.kind == "bucket_refuses";
            prop_assert!(machine.messages.iter().filter(of).count() <= 7);
        }
    }
}

/// A week of twelve cameras: an outage a day, a camera that falls silent, a restart a day, 40 changes of state.
#[test]
fn a_week_of_twelve_cameras_tells_of_each_change_once() {
    let mut machine = Machine::new("");
    let week = 7 * 24 * 60;
    // Each lasts for two hours: every camera is silent three times, and the bucket is away four times.
    let spans: Vec<(i64, Condition)> = (0..40)
        .map(|number| {
            let begin = 30 + number * (week - 300) / 40;
            let camera = format!("CAM-{:02}", number % 12);
            let condition = if number % 10 == 9 {
                condition(ConditionKind::BucketUnreachable, None, begin * 60)
            } else {
                condition(ConditionKind::CameraSilent, Some(&camera), begin * 60)
            };
            (begin, condition)
        })
        .collect();
    for minute in 0..week {
        let now: Vec<Condition> = spans
            .iter()
            .filter(|(begin, _)| (*begin..begin + 120).contains(&minute))
            .map(|(_, of)| of.clone())
            .collect();
        machine.minutes(1, &now);
    }
    machine.minutes(30, &[]);
    for phase in [Phase::Entered, Phase::Left, Phase::Reminder] {
        let count = machine.messages.iter().filter(|message| message.state == phase).count();
        assert_eq!(count, 40, "{phase:?}");
    }
    assert_eq!(machine.messages.len(), 120);
}

/// Minute by minute from the facts of a daemon: twelve cameras that push every ten minutes, 32 of their silences, eight
/// outages, a restart a day, and one crash.
#[test]
fn a_week_of_twelve_cameras_is_told_from_its_facts_with_nothing_missed_and_nothing_twice() {
    let week = 7 * 24 * 60;
    let slot = week / 40;
    let is_outage = |number: i64| number % 5 == 4;
    let names: Vec<String> = (0..12).map(|number| format!("CAM-{number:02}")).collect();
    let mut limits = Limits { exposure: Duration::from_mins(15), ..Limits::default() };
    limits.silent_after = names.iter().map(|name| (name.clone(), Duration::from_hours(1))).collect();
    let mut machine = Machine::new("");
    let (mut before, mut started, mut crashed) = (Vec::new(), 0, None);
    let mut last: BTreeMap<String, i64> = names.iter().map(|name| (name.clone(), 0)).collect();
    for minute in 0..week {
        if minute % (24 * 60) == 5 {
            // The third of them was no stop.
            started = minute;
            crashed = (minute / (24 * 60) == 3).then(|| at((minute - 1) * 60));
            before.clear();
        }
        let (number, into) = (minute / slot, minute % slot);
        let is_down = is_outage(number) && (30..150).contains(&into);
        for (camera, name) in (0_i64..).zip(&names) {
            let is_silent = !is_outage(number) && number % 12 == camera && (30..210).contains(&into);
            if minute % 10 == camera % 10 && !is_silent && !is_down || is_outage(number) && into == 150 {
                last.insert(name.clone(), minute);
            }
        }
        let mut now = facts(Vec::new());
        (now.at, now.started_at, now.scanned, now.link_down) = (at(minute * 60), at(started * 60), true, is_down);
        now.crashed_after = crashed;
        now.stored.captures = 1;
        // What came before the start is known from the file alone.
        limits.last_seen = last.iter().map(|(name, minute)| (name.clone(), at(minute * 60))).collect();
        now.cameras = (last.iter().filter(|(_, stored)| **stored >= started))
            .map(|(name, minute)| {
                let times = serde_json::json!({"captures": 1, "last_taken_at": at(minute * 60), "last_stored_at": at(minute * 60)});
                (name.clone(), serde_json::from_value(times).unwrap())
            })
            .collect();
        if is_down {
            now.raised = vec![condition(ConditionKind::BucketUnreachable, None, minute * 60)];
            let since = at((minute - into + 30) * 60);
            now.oldest_only_here =
                serde_json::from_value(serde_json::json!({"path": "CAM-00/a.jpg", "since": since})).unwrap();
        }
        judge(&mut now, &before, &limits);
        before.clone_from(&now.conditions);
        machine.minutes(1, &now.conditions);
    }
    machine.minutes(30, &[]);
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for message in &machine.messages {
        *counts.entry((&message.kind, message.state.name())).or_default() += 1;
    }
    let each = |kind, count| ["entered", "left", "reminder"].map(|state| ((kind, state), count));
    let mut expected: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    expected.extend(each("bucket_unreachable", 8));
    expected.extend(each("camera_silent", 32));
    expected.extend(each("exposure", 8));
    expected.extend([(("restarted", "entered"), 1), (("restarted", "left"), 1)]);
    assert_eq!(counts, expected);
}

#[test]
fn a_hundred_thousand_failures_in_an_hour_make_at_most_three_messages() {
    let (mut state, rules, mut messages) = (State::default(), rules(""), Vec::new());
    let refused = facts(vec![condition(ConditionKind::BucketRefuses, None, 0)]);
    let fine = facts(Vec::new());
    // After each failure a success, and after the hour only successes.
    for number in 0..200_000_i64 {
        let now = at(0) + chrono::TimeDelta::milliseconds(number * 18);
        let (next, told) = step(state, if number % 2 == 0 { &refused } else { &fine }, &rules, now);
        state = next;
        messages.extend(told);
    }
    for minute in 60..90 {
        let (next, told) = step(state, &fine, &rules, at(minute * 60));
        state = next;
        messages.extend(told);
    }
    let phases: Vec<Phase> = messages.iter().map(|message| message.state).collect();
    assert!(
        phases.len() <= 3 && phases.first() == Some(&Phase::Entered) && phases.last() == Some(&Phase::Left),
        "{phases:?}"
    );
}
