//! A thief with the box's keys, at a server that enforces the rights that the template gives, and what the doctor says of
//! them. The server does not know the conditions of the bucket's policy, and wants a header with locks that AWS does not:
//! tests in memory hold those.

use std::process::{Command, Output};

use hk_aws::aws_template::{TemplateFormat, render};
use hk_aws::config::Config;
use hk_aws::doctor::DEEDS;
use serde_json::Value;
use tempfile::TempDir;

use crate::daemon::{BINARY, Daemon};
use crate::store::{ACCESS_KEY, BUCKET, Kind, REGION, SECRET_KEY, Store};

/// What the template allows to the box's user.
fn rights(s3: &str) -> Vec<String> {
    let text = format!(
        "drop_folder: {{path: /drop}}\ntimezone: UTC\ns3: {{bucket: captures{s3}}}\nrotate: {{archive: null, expire: null}}\n"
    );
    let config = Config::parse(std::path::Path::new("config.yaml"), &text, &|_| None).unwrap();
    let policy: Value = serde_json::from_str(&render(&config, TemplateFormat::Policy).unwrap()).unwrap();
    let actions = policy["Statement"].as_array().unwrap().iter().flat_map(|of| of["Action"].as_array().unwrap());
    actions.map(|action| action.as_str().unwrap().to_owned()).collect()
}

#[test]
fn whoever_has_the_boxs_keys_erases_nothing_and_does_no_more_than_the_mode_says() {
    let read_write = ["GetObject", "ListObjectsV2", "DeleteObject"];
    for (s3, may) in [
        ("", &read_write[..]),
        (", object_lock: {days: 90}", &read_write[..]),
        (", access: write-only", &[]),
        (", access: write-only, object_lock: {days: 90}", &[]),
    ] {
        let mut store = Store::start(Kind::Moto);
        store.keep_versions();
        let version = store.put_version("CAM/2022-02-24/evidence.jpg", b"evidence");
        let actions = rights(s3);
        let keys = store.restrict(&actions.iter().map(String::as_str).collect::<Vec<_>>());
        for (operation, status) in store.answers_to_a_thief(&keys, "CAM/2022-02-24/evidence.jpg", &version) {
            let allowed = (200..300).contains(&status);
            assert_eq!(allowed, may.contains(&operation), "{s3}: {operation}: {status}");
            assert!(allowed || status == 403, "{s3}: {operation}: {status}");
        }
        assert_eq!(store.get_version("CAM/2022-02-24/evidence.jpg", &version), b"evidence", "{s3}");
    }
}

/// Calls `hk-aws recover` with these keys.
fn recover(store: &Store, folder: &TempDir, (access_key, secret_key): (&str, &str)) -> Output {
    let path = folder.path().display();
    let config = format!(
        "state_dir: {path}/state\nruntime_dir: {path}/run\ntimezone: UTC\ndrop_folder: {{path: {path}/drop}}\n\
         s3: {{bucket: {BUCKET}, region: {REGION}, endpoint_url: '{}', path_style: true}}\n",
        store.endpoint(),
    );
    std::fs::create_dir_all(folder.path().join("drop")).unwrap();
    std::fs::write(folder.path().join("config.yaml"), config).unwrap();
    let mut command: Command = Daemon::command(BINARY);
    command.arg("--config").arg(folder.path().join("config.yaml")).arg("recover");
    command.env("AWS_ACCESS_KEY_ID", access_key).env("AWS_SECRET_ACCESS_KEY", secret_key);
    command.output().unwrap()
}

#[test]
fn i9_what_a_thief_hides_at_moto_comes_back_with_the_owners_credentials() {
    let mut store = Store::start(Kind::Moto);
    store.keep_versions();
    let [deleted, covered, again] = ["a", "b", "c"].map(|name| format!("CAM/2022-02-24/{name}.jpg"));
    for key in [&deleted, &covered, &again] {
        store.put_version(key, b"evidence");
    }
    let actions = rights("");
    let keys = store.restrict(&actions.iter().map(String::as_str).collect::<Vec<_>>());
    store.hide_with(&keys, &deleted, None);
    store.hide_with(&keys, &covered, Some(b"junk"));
    store.hide_with(&keys, &again, Some(b"junk"));
    store.hide_with(&keys, &again, None);
    assert_eq!(store.keys(), [covered.as_str()]);

    let folder = TempDir::with_prefix("hk-aws-recover-").unwrap();
    let refused = recover(&store, &folder, (&keys.0, &keys.1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("s3:ListBucketVersions"), "{said}");
    store.trust();
    for lines in [4, 0] {
        let done = recover(&store, &folder, (ACCESS_KEY, SECRET_KEY));
        let said = format!("{done:?}");
        assert!(done.status.success() && String::from_utf8_lossy(&done.stdout).lines().count() == lines, "{said}");
        assert_eq!(store.get(&deleted).bytes, b"evidence");
        let evidence = store.keys().iter().filter(|key| store.get(key).bytes == b"evidence").count();
        assert_eq!((store.keys().len(), evidence), (5, 3), "{said}");
    }
}

const WHAT_IS_STORED: &str = "CAM/2022-02-24/evidence.jpg";

/// The table of the doctor, each row as its outcome and whether the keys may, and the exit code.
fn doctor(store: &Store, keys: &(String, String), s3: &str) -> (Vec<[String; 2]>, Option<i32>) {
    let folder = TempDir::with_prefix("hk-aws-thief-").unwrap();
    std::fs::create_dir(folder.path().join("drop")).unwrap();
    let below = folder.path().display();
    let config = format!(
        "drop_folder: {{path: {below}/drop}}\nstate_dir: {below}/state\nruntime_dir: {below}/run\ntimezone: UTC\n\
         s3: {{bucket: {BUCKET}, region: {REGION}, endpoint_url: '{}', path_style: true{s3}}}\nkeep: {{min_free: 1MiB}}\n",
        store.endpoint()
    );
    std::fs::write(folder.path().join("config.yaml"), config).unwrap();
    let mut command = Daemon::command(BINARY);
    command.arg("--config").arg(folder.path().join("config.yaml")).args(["doctor", "--json"]);
    command.env("AWS_ACCESS_KEY_ID", &keys.0).env("AWS_SECRET_ACCESS_KEY", &keys.1);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let rows = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let rows = rows.filter(|line| line["name"] == "thief");
    let rows: Vec<_> = rows.map(|row| ["outcome", "may"].map(|key| row[key].as_str().unwrap().to_owned())).collect();
    assert_eq!(rows.len(), DEEDS.len(), "{said}");
    (rows, output.status.code())
}

/// The rows of the table of deeds on the page about thieves: for each deed, what a box of each mode may.
fn page() -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/doc/thief.md")).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("| can a thief")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn the_doctor_says_of_each_template_what_the_page_says_and_leaves_the_bucket_as_it_was() {
    let page = page();
    for (column, s3, config) in [
        (2, ", access: write-only", ", access: write-only"),
        (3, "", ""),
        // The lock's own rights; the server takes no lock as AWS does.
        (3, ", object_lock: {days: 90}", ""),
        (2, ", access: write-only, object_lock: {days: 90}", ", access: write-only"),
    ] {
        let mut store = Store::start(Kind::Moto);
        store.furnish();
        let version = store.put_version(WHAT_IS_STORED, b"evidence");
        let before = store.settings();
        let actions = rights(s3);
        let keys = store.restrict(&actions.iter().map(String::as_str).collect::<Vec<_>>());
        // The second time, what a write-only box left is there.
        for _ in 0..2 {
            let (rows, code) = doctor(&store, &keys, config);
            for (deed, (row, said)) in DEEDS.iter().zip(rows.iter().zip(&page)) {
                // The server does not know the condition by which the policy denies it.
                let expected = if deed.what == "overwrite captures" { ["warn", "yes"] } else { ["ok", &said[column]] };
                // Another store than AWS is not tried where the setting cannot be read.
                let unread = ["s3:PutBucketVersioning", "s3:PutLifecycleConfiguration", "s3:PutBucketPolicy"];
                let unread = unread.contains(&deed.right) && row[1] == "not known" && row[0] == "warn";
                assert!(unread || *row == expected, "{s3}: {deed:?}: {row:?}, not {expected:?}");
            }
            assert_eq!(code, Some(0), "{s3}");
        }
        assert_eq!(store.settings(), before, "{s3}");
        assert_eq!(store.get_version(WHAT_IS_STORED, &version), b"evidence", "{s3}");
        assert!(store.keys().iter().all(|key| key == WHAT_IS_STORED || key.ends_with(hk_aws::bucket::PROBE)));
    }
}

#[test]
fn the_doctor_fails_for_each_right_by_which_evidence_can_be_erased_and_puts_back_what_it_changed() {
    let template = rights("");
    for (row, more) in [
        (2, &["s3:DeleteObjectVersion"][..]),
        (2, &["s3:DeleteObjectVersion", "s3:ListBucketVersions"]),
        (5, &["s3:PutBucketVersioning"]),
        (6, &["s3:GetLifecycleConfiguration", "s3:PutLifecycleConfiguration"]),
        (7, &["s3:GetBucketPolicy", "s3:PutBucketPolicy"]),
    ] {
        let mut store = Store::start(Kind::Moto);
        store.furnish();
        let version = store.put_version(WHAT_IS_STORED, b"evidence");
        let before = store.settings();
        let actions: Vec<&str> = template.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let keys = store.restrict(&actions);
        let (rows, code) = doctor(&store, &keys, "");
        assert_eq!(rows[row], ["fail", "yes"], "{more:?}: {rows:?}");
        let failed = rows.iter().filter(|[outcome, _]| outcome == "fail").count();
        assert_eq!((failed, code), (1, Some(1)), "{more:?}: {rows:?}");
        assert_eq!(store.settings(), before, "{more:?}");
        assert_eq!(store.get_version(WHAT_IS_STORED, &version), b"evidence", "{more:?}");
        if more.contains(&"s3:ListBucketVersions") {
            assert_eq!(store.versions(), 1, "the trial took all its versions away again");
        }
    }
}
