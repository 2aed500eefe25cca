//! `classify`: files and names, however they are given.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{Site, run};

const NAME: &str = "192.168.1.64_01_20220224050607089_MOTION_DETECTION.jpg";

#[tokio::test]
async fn a_name_alone_is_judged_where_there_is_no_file() {
    let site = Site::start().await;
    let lines = site.lines(&["classify", &format!("CAM-EXT-001/{NAME}"), "CAM/snap.jpg"]).await;
    let full = json!({
        "path": format!("CAM-EXT-001/{NAME}"),
        "camera": "CAM-EXT-001",
        "taken_at": "2022-02-24T05:06:07.089+02:00",
        "taken_from": "name",
        "event": "MOTION_DETECTION",
        "channel": "01",
        "vendor": "hikvision",
        "media": "picture",
        "ignored": null,
        "key": format!("CAM-EXT-001/2022-02-24/{NAME}"),
        "camera_time": null,
        "end": null,
    });
    assert_eq!(lines[0], full);
    assert_eq!((&lines[1]["taken_at"], &lines[1]["key"]), (&Value::Null, &Value::Null));
    let said = site.run(&["classify", "CAM/snap.jpg"]).await;
    assert!(said.code == 0 && said.out.contains("there is no such file"), "{said:?}");
    assert_eq!(site.s3.requests().len(), 0, "the bucket is not asked");
}

#[tokio::test]
async fn a_file_without_a_time_in_its_name_is_judged_by_its_arrival() {
    let site = Site::start().await;
    let path = site.drop_file("CAM/sub/snap.mp4", b"x");
    let arrival = SystemTime::UNIX_EPOCH + Duration::from_secs(1_645_671_967);
    File::options().write(true).open(&path).unwrap().set_modified(arrival).unwrap();
    let here = site.path("drop/CAM");
    for (folder, typed) in [
        (site.path(""), OsStr::new("CAM/sub/snap.mp4")),
        (site.path(""), OsStr::new("./CAM/sub/snap.mp4")),
        (site.path(""), path.as_os_str()),
        (here.clone(), OsStr::new("sub/snap.mp4")),
        (here.join("sub"), OsStr::new("./snap.mp4")),
    ] {
        let mut command = site.command(&[OsStr::new("classify"), OsStr::new("--json"), typed]);
        let said = run(command.current_dir(folder)).await;
        let found: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(found["path"], "CAM/sub/snap.mp4", "{typed:?}");
        assert_eq!(
            (&found["taken_at"], &found["taken_from"]),
            (&json!("2022-02-24T05:06:07+02:00"), &json!("arrival"))
        );
        assert_eq!(found["key"], "CAM/2022-02-24/20220224T050607_sub_snap~in-e4f375fa.mp4");
        assert_eq!(found["media"], "video");
    }
    assert!(path.exists());
}

#[tokio::test]
async fn what_the_configuration_ignores_says_so_with_the_pattern() {
    let site = Site::start().await;
    site.drop_file("CAM/a.tmp", b"x");
    for (path, pattern) in [("CAM/a.tmp", "*.tmp"), ("DVRWorkDirectory/x.jpg", "DVRWorkDirectory"), (".x/y.jpg", ".*")]
    {
        assert_eq!(site.lines(&["classify", path]).await[0]["ignored"], pattern);
        let said = site.run(&["classify", path]).await;
        assert!(said.out.contains(&format!("matches {pattern} of drop_folder.ignore")), "{said:?}");
        assert!(!said.out.contains("no such file"), "{said:?}");
    }
}

#[tokio::test]
async fn a_path_that_is_not_utf8_is_taken_and_shown_escaped() {
    let site = Site::start().await;
    let path = OsStr::from_bytes(b"c\xffm/20220224\x1b.jpg");
    let said = site.run(&[OsStr::new("--json"), OsStr::new("classify"), path]).await;
    let found: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&found["path"], &found["camera"]), (&json!("c%FFm/20220224%1B.jpg"), &json!("c%FFm")));
}

#[tokio::test]
async fn what_is_no_capture_is_named_and_the_rest_is_still_judged() {
    let site = Site::start().await;
    let file = site.drop_file("CAM/a.jpg", b"x");
    symlink(&file, site.path("drop/CAM/link.jpg")).unwrap();
    for (path, why) in [
        ("/elsewhere/a.jpg", "not below the drop folder"),
        ("CAM/../../a.jpg", "without `..`"),
        ("CAM", "is a folder"),
        ("CAM/link.jpg", "not a regular file"),
    ] {
        let said = site.run(&["classify", path, "CAM/a.jpg"]).await;
        assert_eq!(said.code, 3, "{said:?}");
        assert!(said.err.contains(why), "{said:?}");
        assert!(said.out.starts_with("CAM/a.jpg\n"), "{said:?}");
        assert_eq!(site.run(&["classify", path]).await.code, 1);
    }
    let many: Vec<OsString> = ["classify", "--json", "A/1.jpg", "A/2.jpg"].map(OsString::from).into();
    assert_eq!(site.run(&many).await.out.lines().count(), 2, "one object a line");
}

#[tokio::test]
async fn every_rule_says_what_it_read_or_why_it_did_not() {
    let site = Site::start().await;
    let path = "2026/09/27/Den_00_20260927140305.jpg";
    let lines = site.lines(&["classify", "--explain", path]).await;
    let explain = &lines[0]["explain"];
    assert_eq!((&explain["camera_from"], &explain["zone"]), (&json!("device"), &json!("Europe/Kyiv")));
    let rules = explain["rules"].as_array().unwrap();
    let reads: Vec<&Value> = rules.iter().filter(|rule| rule["reads"] == true).collect();
    assert_eq!(reads.len(), 1);
    assert_eq!(reads[0]["vendor"], "reolink");
    assert_eq!(reads[0]["why"], "reads time 2026-09-27 14:03:05 from the name, device Den, channel 00");
    assert!(rules.iter().any(|rule| rule["why"] == "the path has another shape"));
    assert!(rules.iter().any(|rule| rule["why"] == "would read the path, but a rule before it does"));

    let said = site.run(&["classify", "--explain", "CAM/10.0.0.1_01_20231312182012676_TIMING.jpg"]).await;
    for line in ["  the camera is the first folder", "20231312182012676 is no time", "> hikvision  NAME_TIMING.jpg"] {
        assert!(said.out.contains(line), "{line}: {said:?}");
    }
}

#[tokio::test]
async fn a_file_that_was_cut_off_says_so() {
    let site = Site::start().await;
    site.drop_file(&format!("CAM/{NAME}"), b"\xFF\xD8\xFF\xE0\0\x10half");
    let found = &site.lines(&["classify", &format!("CAM/{NAME}")]).await[0];
    assert_eq!(found["end"], "cut");
    let said = site.run(&["classify", &format!("CAM/{NAME}")]).await;
    assert!(said.out.contains("stored as a partial"), "{said:?}");
}
