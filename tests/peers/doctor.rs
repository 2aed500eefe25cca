//! The doctor at real stores: what it tries it takes away again.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::daemon::{BINARY, Daemon};
use crate::store::{ACCESS_KEY, BUCKET, Kind, REGION, SECRET_KEY, Store};

/// The lines of the doctor, each with its name, outcome and mend.
fn doctor(store: &Store, bucket: &str, s3: &str) -> Vec<[String; 4]> {
    let folder = TempDir::with_prefix("hk-aws-doctor-").unwrap();
    fs::create_dir(folder.path().join("drop")).unwrap();
    let below = folder.path().display();
    let config = format!(
        "drop_folder: {{path: {below}/drop}}\nstate_dir: {below}/state\nruntime_dir: {below}/run\ntimezone: UTC\n\
         s3: {{bucket: {bucket}, region: {REGION}, endpoint_url: '{endpoint}', path_style: true{s3}}}\n\
         keep: {{min_free: 1MiB}}\nlog: {{target: stderr}}\n",
        endpoint = store.endpoint(),
    );
    fs::write(folder.path().join("config.yaml"), config).unwrap();
    let mut command = Daemon::command(BINARY);
    command.arg("--config").arg(folder.path().join("config.yaml")).args(["doctor", "--json"]);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let lines = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| ["name", "outcome", "says", "mend"].map(|key| text(&line, key))).collect()
}

fn outcome<'a>(lines: &'a [[String; 4]], name: &str) -> &'a str {
    let line = lines.iter().find(|[found, ..]| found == name);
    line.map_or_else(|| panic!("no {name} in {lines:#?}"), |[_, outcome, ..]| outcome)
}

#[test]
fn what_captures_and_clips_carry_is_tried_and_taken_away_again() {
    for kind in [Kind::SeaweedFs, Kind::Moto] {
        let store = Store::start(kind);
        let before = store.keys();
        let lines = doctor(&store, BUCKET, ", tags: true");
        assert_eq!(["put", "clips"].map(|name| outcome(&lines, name)), ["ok", "ok"], "{kind:?}: {lines:#?}");
        assert_eq!((store.keys(), store.uploads()), (before, 0), "{kind:?}");
    }
}
