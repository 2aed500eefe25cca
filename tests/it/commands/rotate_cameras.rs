//! `rotate.cameras`: whose captures the rotation may touch, in a bucket that others use too.

use hk_aws::rotate;
use hk_aws::schedule::RunEnd;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use super::rotate::{ago, name, stored};
use super::{Site, run};

/// Two files of another program and one of another box's camera, all of them old.
fn strangers() -> Vec<String> {
    vec![
        format!("OTHER-BOX/{}/{}", ago(140), name(ago(140), 1)),
        format!("backups/{}/db.dump", ago(140)),
        format!("backups/archive/{}.tar.gz", ago(500)),
    ]
}

/// Stores what others keep in the bucket, as it would have been stored on its day.
fn insert_strangers(site: &Site) {
    for key in strangers() {
        site.s3.insert_with(&key, "not ours", |object| {
            object.last_modified -= std::time::Duration::from_hours(24 * 500);
        });
    }
}

/// Asserts that nothing of what others keep has changed.
fn assert_untouched(site: &Site, said: &impl std::fmt::Debug) {
    let keys = site.s3.keys();
    let theirs: Vec<&String> = keys.iter().filter(|key| !key.starts_with("CAM-") && key.contains('/')).collect();
    assert_eq!(theirs, strangers().iter().collect::<Vec<_>>(), "{said:?}");
}

const EXPIRES: &str = "rotate: {expire: {after: 365d}}\n";

#[tokio::test]
async fn i10_what_others_keep_in_the_bucket_is_named_and_never_touched() {
    let site = stored(EXPIRES, &[40]).await;
    insert_strangers(&site);
    let words =
        "2 folders in the bucket are none of rotate.cameras and left alone: OTHER-BOX (1 object), backups (2 objects)";
    let said = site.run(&["rotate", "--dry-run"]).await;
    assert!(said.code == 0 && said.err.contains(words) && !said.out.contains("backups"), "{said:?}");
    let said = site.run(&["rotate", "--dry-run", "--json"]).await;
    let plan: Value = serde_json::from_str(&said.out).unwrap();
    let named = json!([
        {"name": "OTHER-BOX", "objects": 1, "more": false},
        {"name": "backups", "objects": 2, "more": false},
    ]);
    assert_eq!(plan["others"], json!({"folders": 2, "named": named}), "{said:?}");
    let said = site.run(&["archive", "--older-than", "1d"]).await;
    assert!(said.code == 0 && said.out.contains("2 captures of 2 days") && said.err.contains(words), "{said:?}");
    assert_untouched(&site, &said);
    let ended = rotate::job(Arc::new(site.context().await), CancellationToken::new()).await;
    assert!(ended.end == RunEnd::Done && ended.outcome.contains(words), "for status and log: {ended:?}");
    assert_untouched(&site, &ended);
}

#[tokio::test]
async fn a_camera_that_a_command_names_is_bundled_and_is_not_known_from_then_on() {
    let site = stored("", &[40]).await;
    insert_strangers(&site);
    let day = ago(140).to_string();
    let said = site.run(&["archive", "OTHER-BOX", &day]).await;
    assert!(said.code == 0 && said.out.contains("1 captures of 1 days"), "{said:?}");
    let another = format!("OTHER-BOX/{}/{}", ago(139), name(ago(139), 1));
    site.s3.insert(&another, "not ours either");
    let said = site.run(&["rotate"]).await;
    assert!(said.code == 0 && said.err.contains("OTHER-BOX"), "{said:?}");
    assert!(site.s3.object(&another).is_some(), "{:?}", site.s3.keys());
}

#[tokio::test]
async fn a_camera_is_known_from_the_configuration_the_ledger_or_the_drop_folder() {
    let of = |camera: &str| format!("{camera}/{}/{}", ago(40), name(ago(40), 1));
    for (sections, expected) in [
        ("cameras: [{name: By configuration, match: 'x/**'}]\n", &["By configuration", "by-folder", "by-ledger"][..]),
        ("", &["by-folder", "by-ledger"]),
        ("rotate: {cameras: all}\n", &["2026-01-01", "By configuration", "by-folder", "by-ledger", "foreign"]),
        ("rotate: {cameras: [foreign, by-folder]}\n", &["by-folder", "foreign"]),
    ] {
        let site = Site::start_with("", sections).await;
        site.drop_file(&format!("by-ledger/{}", name(ago(40), 1)), b"stored here");
        assert_eq!(site.run(&["upload"]).await.code, 0);
        std::fs::remove_dir(site.path("drop/by-ledger")).ok();
        for camera in ["2026-01-01", "By configuration", "by-folder", "foreign"] {
            site.s3.insert(&of(camera), "stored elsewhere");
        }
        // A folder of a date is no camera, and a file is no folder.
        for folder in ["by-folder", "2026-01-01", ".foreign"] {
            std::fs::create_dir(site.path(&format!("drop/{folder}"))).unwrap();
        }
        std::fs::write(site.path("drop/foreign"), "").unwrap();
        let said = site.run(&["rotate"]).await;
        assert_eq!(said.code, 0, "{said:?}");
        let bundled = ["2026-01-01", "By configuration", "by-folder", "by-ledger", "foreign"];
        let bundled: Vec<&str> = bundled.into_iter().filter(|camera| site.s3.object(&of(camera)).is_none()).collect();
        assert_eq!(bundled, expected, "{sections}: {said:?}");
    }
}

#[tokio::test]
async fn i10_two_boxes_on_one_bucket_leave_each_others_cameras_alone() {
    let site = stored(EXPIRES, &[40]).await;
    // The second box: a camera, a state and a drop folder of its own.
    let config = std::fs::read_to_string(site.path("config.yaml")).unwrap();
    let config = ["drop", "state", "run"].iter().fold(config, |config, folder| {
        config.replace(&*site.path(folder).to_string_lossy(), &site.path(&format!("second/{folder}")).to_string_lossy())
    });
    std::fs::create_dir_all(site.path("second/drop/porch")).unwrap();
    std::fs::write(site.path("second/config.yaml"), config).unwrap();
    std::fs::write(site.path(&format!("second/drop/porch/{}", name(ago(40), 1))), "of the second box").unwrap();
    let second = async |arguments: &[&str]| {
        let mut command = site.command(arguments);
        run(command.env("HK_AWS_CONFIG", site.path("second/config.yaml"))).await
    };
    let said = second(&["upload"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let said = second(&["rotate"]).await;
    assert!(said.code == 0 && said.out.contains("1 captures of 1 days"), "{said:?}");
    let loose = |camera: &str| site.s3.keys().iter().filter(|key| key.starts_with(&format!("{camera}/2"))).count();
    assert_eq!(["CAM-1", "CAM-2", "porch"].map(loose), [1, 1, 0]);
    let said = site.run(&["rotate"]).await;
    assert!(said.code == 0 && said.out.contains("2 captures of 2 days") && said.err.contains("porch"), "{said:?}");
}
