//! A thief with the box's keys, at a server that enforces the rights that the template gives. The server does not know the
//! conditions of the bucket's policy: tests in memory hold those.

use std::process::{Command, Output};

use hk_aws::aws_template::{TemplateFormat, render};
use hk_aws::config::Config;
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
