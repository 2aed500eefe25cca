//! What Home Assistant is told.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use proptest::prelude::*;

use super::*;
use crate::status::{CameraStatus, ConditionKind, DayCount, Job, OnlyHere};

const NASTY: &str = "back \"yard\"/#+ $SYS\n{{ x }} \u{e9}";

fn config(more: &str) -> Config {
    let text = format!(
        "drop_folder: {{path: /srv/drop}}\ns3: {{bucket: captures}}\ntimezone: UTC\nheartbeat: {{name: porch}}\n\
         mqtt: {{url: 'mqtt://broker'}}\n{more}"
    );
    Config::parse(Path::new("config.yaml"), &text, &|_| None).unwrap_or_else(|problems| panic!("{problems}"))
}

fn topics(config: &Config) -> Topics {
    Topics::of(config, config.mqtt.as_ref().unwrap())
}

fn at(time: &str) -> DateTime<Utc> {
    format!("2026-11-28T{time}Z").parse().unwrap()
}

fn facts() -> Snapshot {
    serde_json::from_value(json!({
        "version": "1", "pid": 1, "at": at("12:00:00"), "started_at": at("08:00:00"), "state": "ok", "bucket": "s3://b",
        "trouble": null, "waiting": crate::status::WaitingCounts { queued: 2, ..Default::default() },
        "oldest_only_here": null, "files": [], "not_uploaded": [],
        "stored": crate::status::StoredTotals::default(), "cameras": {}, "last_errors": [],
        "drop_folder_free_bytes": null, "state_free_bytes": null, "kept_bytes": null, "scanned": true,
    }))
    .unwrap()
}

fn camera(taken: &str, captures: u64) -> CameraStatus {
    let last_taken_at = DateTime::parse_from_rfc3339(taken).unwrap();
    CameraStatus {
        captures,
        newest_day: Some(DayCount { date: last_taken_at.date_naive(), captures }),
        last_taken_at,
        last_stored_at: last_taken_at.to_utc(),
        wrong_clock: None,
        clock_offset: None,
    }
}

fn all(facts: &Snapshot, config: &Config) -> BTreeMap<String, Value> {
    let topics = topics(config);
    let mut messages = entities(facts, config, &topics);
    messages.extend(states(facts, config, &topics));
    assert_eq!(messages.last().unwrap().payload, ONLINE, "the daemon is there once everything is told");
    let count = messages.len();
    let read = |payload: String| serde_json::from_str(&payload).unwrap_or(Value::from(payload));
    let all: BTreeMap<_, _> = messages.into_iter().map(|message| (message.topic, read(message.payload))).collect();
    assert_eq!(all.len(), count, "no topic comes twice");
    all
}

#[test]
fn home_assistant_is_told_what_there_is_and_how_it_is() {
    let mut facts = facts();
    facts.cameras.insert("CAM-1".to_owned(), camera("2026-11-28T13:59:58+02:00", 7));
    facts.oldest_only_here = Some(OnlyHere { path: "a.jpg".to_owned(), since: at("11:58:23") });
    facts.jobs.insert(ROTATE.to_owned(), Job { last_success_at: Some(at("03:30:00")), ..Job::default() });
    let silent = Condition::new(ConditionKind::CameraSilent, at("11:00:00"), "it is silent", "look at it");
    facts.conditions = vec![silent.with_detail("for 1 h").of_camera("CAM-2")];
    let config = config("cameras: [{name: CAM-2}]\n");
    let all = all(&facts, &config);
    let last = &all["homeassistant/sensor/hk-aws-porch/CAM-1__last_capture/config"];
    assert_eq!(last["device_class"], "timestamp");
    assert_eq!(last["unique_id"], "hk-aws__porch__CAM-1__last_capture");
    assert_eq!(last["value_template"], "{{ value_json.last_capture }}");
    assert_eq!(last["device"]["via_device"], "hk-aws__porch");
    assert_eq!(last["origin"]["name"], "hk-aws");
    let problem = &all["homeassistant/binary_sensor/hk-aws-porch/CAM-2__problem/config"];
    assert_eq!(problem["device_class"], "problem");
    assert_eq!(problem["value_template"], "{{ 'ON' if value_json.problem else 'OFF' }}");
    // What an entity reads is there.
    for (topic, described) in all.iter().filter(|(topic, _)| topic.ends_with("/config")) {
        let state = &all[described["state_topic"].as_str().unwrap()];
        let object = topic.split('/').nth_back(1).unwrap();
        assert!(state.get(object.rsplit("__").next().unwrap()).is_some(), "{topic}: {state}");
        assert_eq!(all[described["availability_topic"].as_str().unwrap()], "online");
        assert!(described["device"]["identifiers"][0].is_string());
    }
    let first = &all["hk-aws/porch/camera/CAM-1"];
    assert_eq!((&first["last_capture"], &first["captures_today"]), (&json!("2026-11-28T13:59:58+02:00"), &json!(7)));
    assert_eq!((&first["problem"], &first["reason"]), (&json!(false), &Value::Null));
    let second = &all["hk-aws/porch/camera/CAM-2"];
    assert_eq!((&second["last_capture"], &second["captures_today"]), (&Value::Null, &json!(0)));
    assert_eq!((&second["problem"], &second["reason"]), (&json!(true), &json!("it is silent (for 1 h)")));
    let porch = &all["hk-aws/porch/state"];
    assert_eq!((&porch["state"], &porch["waiting"], &porch["exposure"]), (&json!("ok"), &json!(2), &json!(90)));
    assert_eq!((&porch["last_rotation"], &porch["advice"]), (&json!("2026-11-28T03:30:00Z"), &json!("look at it")));
    assert_eq!(all.len(), 4 + 3 + 3 + 1 + 2 + 1);
}

#[test]
fn a_count_ends_with_the_camera_s_day() {
    let mut facts = facts();
    facts.cameras.insert("CAM".to_owned(), camera("2026-11-28T12:30:00+02:00", 5));
    let count = |facts: &Snapshot| all(facts, &config(""))["hk-aws/porch/camera/CAM"]["captures_today"].clone();
    assert_eq!(count(&facts), 5);
    // 22:30 UTC is the next day at the camera.
    facts.at = at("22:30:00");
    assert_eq!(count(&facts), 0);
}

#[test]
fn a_name_is_safe_in_topics_and_whole_in_texts() {
    let mut facts = facts();
    facts.cameras.insert(NASTY.to_owned(), camera("2026-11-28T12:00:00Z", 1));
    let all = all(&facts, &config(""));
    let object = regex::Regex::new("^homeassistant/(binary_)?sensor/[a-zA-Z0-9_-]+/[a-zA-Z0-9_-]+/config$").unwrap();
    for (topic, described) in &all {
        assert!(object.is_match(topic) || topic.starts_with("hk-aws/porch/"), "{topic}");
        assert!(!topic.contains(['#', '+', '"', '\n', ' ']), "{topic}");
        if described["device"]["model"] == "camera" {
            assert_eq!(described["device"]["name"], NASTY);
        }
        // No template holds a name.
        assert!(!described["value_template"].to_string().contains("yard"), "{described}");
    }
    assert_eq!(slug("CAM-EXT-001"), "CAM-EXT-001");
    assert_eq!(slug("front_door"), "front_5fdoor");
}

#[test]
fn memory_is_bounded_whatever_cameras_there_are() {
    let mut facts = facts();
    for number in 0..1000 {
        facts.cameras.insert(format!("CAM-{number}"), camera("2026-11-28T12:00:00Z", 1));
    }
    let kind = ConditionKind::CameraClock;
    facts.conditions = vec![Condition::new(kind, at("11:00:00"), "é".repeat(100_000), "").of_camera("CAM-1")];
    let all = all(&facts, &config(""));
    assert_eq!(all.len(), 4 + 3 * MOST_CAMERAS + 1 + MOST_CAMERAS + 1);
    assert!(all.iter().all(|(topic, payload)| topic.len() + payload.to_string().len() < 4096));
}

proptest! {
    #[test]
    fn two_names_never_have_the_same_word(one in "[a_\u{e9}-]{0,6}", other in "[a_\u{e9}-]{0,6}") {
        prop_assert_eq!(one == other, slug(&one) == slug(&other));
        prop_assert!(!slug(&one).contains("__") && !slug(&one).is_empty());
    }
}
