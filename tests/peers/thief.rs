//! A thief with the box's keys, at a server that enforces the rights that the template gives. The server does not know the
//! conditions of the bucket's policy: tests in memory hold those.

use hk_aws::aws_template::{TemplateFormat, render};
use hk_aws::config::Config;
use serde_json::Value;

use crate::store::{Kind, Store};

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
