//! `check`, and where the configuration comes from.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use hk_aws::config::Config;
use serde_json::Value;

use super::{Site, hk_aws, run};
use crate::support::settings;

/// Feeds what was printed back.
fn reread(text: &str) -> Config {
    Config::parse(Path::new("again.yaml"), text, &|_| None).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

#[tokio::test]
async fn check_prints_settings_that_can_be_fed_back() {
    let site = Site::start_with(", prefix: site-1", "cameras: [{name: CAM-1, silent_after: 1d}]\n").await;
    let written = std::fs::read_to_string(site.path("config.yaml")).unwrap();
    let text = site.run(&["check", "--show"]).await;
    let verdict = text.err.lines().next().unwrap();
    assert!(text.code == 0 && text.err.lines().count() == 1 && verdict.starts_with("ready: "), "{text:?}");
    let json = site.run(&["check", "--show", "--json"]).await;
    assert_eq!((json.code, json.out.lines().count()), (0, 1), "{json:?}");
    for printed in [&text.out, &json.out] {
        let config = Config { source: "again.yaml".into(), ..reread(&written) };
        assert_eq!(reread(printed), config);
    }
    let settings: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(settings["s3"]["prefix"], "site-1/");
    assert_eq!(settings["upload"]["concurrency"], 8, "defaults are said too");
}

#[tokio::test]
async fn check_ends_with_one_line_that_says_whether_all_is_there() {
    let site = Site::start().await;
    let said = site.run(&["check"]).await;
    let drop = site.path("drop");
    let ready = format!(
        "ready: captures from {} go to s3://captures, signed with the key from the environment\n",
        drop.display()
    );
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, ready.as_str(), ""), "{said:?}");
    let json: Value = serde_json::from_str(&site.run(&["check", "--json"]).await.out).unwrap();
    assert_eq!((&json["ready"], &json["missing"]), (&Value::from(true), &Value::Array(vec![])), "{json}");

    std::fs::remove_dir(&drop).unwrap();
    let file = site.path("config.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("bucket: captures", "bucket: my-video-surveillance")).unwrap();
    let mut command = site.command(&["check"]);
    command.env_remove("AWS_ACCESS_KEY_ID").env("HK_AWS_CREDENTIALS", site.path("no-key"));
    let said = run(&mut command).await;
    let verdict = format!(
        "not ready: the drop folder {} is missing; the key is missing or cannot be used; the bucket is still the \
         example's, my-video-surveillance\n",
        drop.display()
    );
    assert_eq!((said.code, said.out.as_str(), said.err.lines().count()), (1, verdict.as_str(), 3), "{said:?}");
    for part in [
        format!(
            "{}:1: drop_folder.path: the drop folder {} is missing; create it with",
            file.display(),
            drop.display()
        ),
        format!("put it into {}", site.path("no-key").display()),
        format!("{}:2: s3.bucket: the bucket is still the example's", file.display()),
    ] {
        assert!(said.err.contains(&part), "{part}: {said:?}");
    }
    assert_eq!(run(command.arg("--quiet")).await.err, said.err, "what is missing is an error");
    let json: Value = serde_json::from_str(&run(command.arg("--json")).await.out).unwrap();
    assert_eq!((&json["ready"], json["missing"].as_array().unwrap().len()), (&Value::from(false), 3), "{json}");
}

#[test]
fn the_bucket_of_the_shipped_configuration_is_the_example() {
    let shipped = include_str!("../../../config/config.yaml");
    assert_eq!(reread(shipped).s3.bucket, hk_aws::config::EXAMPLE_BUCKET);
}

/// A `systemctl` that answers as the real one does for this unit.
fn systemctl(site: &Site, answer: &str) -> std::ffi::OsString {
    let (bin, answer_file) = (site.path("bin"), site.path("answer"));
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::write(&answer_file, answer).unwrap();
    std::fs::write(bin.join("systemctl"), format!("#!/bin/sh\nexec cat {}\n", answer_file.display())).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("systemctl"), executable).unwrap();
    format!("{}:/usr/bin:/bin", bin.display()).into()
}

#[tokio::test]
async fn a_folder_that_the_installed_unit_shuts_is_missing_its_line() {
    let site = Site::start().await;
    let unit = "LoadState=loaded\nProtectSystem=strict\nProtectHome=yes\nPrivateTmp=no\nStateDirectory=hk-aws\n";
    let opened = |folder: &str| format!("{unit}ReadWritePaths={}\n", site.path(folder).display());
    let lacks = format!("hk-aws.service lacks the line ReadWritePaths=-{}", site.path("drop").display());
    for (answer, expected) in [
        (opened("elsewhere"), Some(&lacks)),
        (opened(""), None),
        (unit.replace("loaded", "not-found"), None),
        (String::new(), None),
    ] {
        let said = run(site.command(&["check"]).env("PATH", systemctl(&site, &answer))).await;
        assert_eq!(said.code, i32::from(expected.is_some()), "{answer}: {said:?}");
        match expected {
            Some(lacks) => {
                assert!(said.out.contains(lacks), "{said:?}");
                assert!(
                    said.err.contains(":1: drop_folder.path") && said.err.contains("sudo hk-aws unit-paths"),
                    "{said:?}"
                );
            }
            None => assert_eq!(said.err, ""),
        }
    }
}

#[tokio::test]
async fn unit_paths_writes_the_lines_that_the_unit_lacks() {
    let site = Site::start().await;
    let file = site.path("units/hk-aws.service.d/paths.conf");
    let line = format!("BindPaths=-{}\n", site.path("drop").display());
    let said = site.run(&["unit-paths", "--dry-run", "--file", file.to_str().unwrap()]).await;
    assert!(said.code == 0 && said.out.contains(&line) && !file.exists(), "{said:?}");
    let said = site.run(&["unit-paths", "--file", file.to_str().unwrap()]).await;
    assert!(said.code == 0 && said.err.contains("sudo systemctl restart hk-aws"), "{said:?}");
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written.contains(&line) && said.out == written, "{said:?}");
    // Folders that the unit opens by itself need nothing, and take the lines back.
    let config = "drop_folder: {path: /var/lib/cctv/storage}\ns3: {bucket: other}\ntimezone: UTC\n";
    std::fs::write(site.path("config.yaml"), config).unwrap();
    let said = site.run(&["unit-paths", "--file", file.to_str().unwrap()]).await;
    assert!(said.code == 0 && !std::fs::read_to_string(&file).unwrap().contains('='), "{said:?}");
    let other = site.path("units/never.conf");
    site.run(&["unit-paths", "--file", other.to_str().unwrap()]).await;
    assert!(!other.exists(), "nothing to write");
}

#[tokio::test]
async fn check_shows_what_each_example_of_a_camera_gives_and_refuses_a_pattern_that_gives_no_time() {
    let camera = |pattern: &str, more: &str| {
        format!("cameras:\n  - name: CAM-1\n    timezone: UTC\n    pattern: '{pattern}'\n    {more}\n")
    };
    let day_first = camera("(?P<taken>[0-9]{2}-.*) (?P<event>[a-z]+)", "taken_format: '%d-%m-%Y_%I.%M.%S %p'");
    let examples = "    example: ['CAM-1/05-07-2026_03.34.52 PM cat.jpg', 'CAM-1/x.jpg', 'CAM-2/x.jpg']\n";
    let site = Site::start_with("", &format!("{day_first}{examples}")).await;
    let said = site.run(&["check"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    for part in [
        "example of CAM-1: CAM-1/05-07-2026_03.34.52 PM cat.jpg was taken 2026-07-05T15:34:52+00:00 (from the name), \
         event cat, channel none, key CAM-1/2026-07-05/05-07-2026_03.34.52 PM cat.jpg",
        "warning: example of CAM-1: CAM-1/x.jpg does not tell when it was taken",
        "warning: example of CAM-1: CAM-2/x.jpg belongs to no camera of this file; its match is CAM-1/**",
    ] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    for (pattern, more, wrong) in [
        ("(?P<taken>[0-9]{8})", "", "cameras[0].pattern: its group taken can never give a time"),
        (
            "(?P<taken>[0-9]{8}-[0-9]{6})",
            "taken_format: '%d-%m-%Y_%H.%M.%S'",
            "cameras[0].pattern: its group taken can never match a time written as %d-%m-%Y_%H.%M.%S",
        ),
        ("(?P<event>[a-z]+)", "taken_format: epoch", "cameras[0].taken_format: nothing is read by it"),
        ("(?P<taken>.*)", "taken_format: '%d-%m-%Y'", "cameras[0].taken_format: does not tell date and time of day"),
        ("(?P<taken>.*)", "example: /CAM-1/x.jpg", "cameras[0].example: begins with /"),
    ] {
        let site = Site::start_with("", &camera(pattern, more)).await;
        let said = site.run(&["check"]).await;
        assert!(said.code == 2 && said.err.contains(wrong), "{wrong}: {said:?}");
    }
}

#[tokio::test]
async fn check_warns_of_what_the_plan_warns_of_with_its_line() {
    let site = Site::start_with(
        ", undo: 40d",
        "rotate:\n  cameras: all\n  archive:\n    class: DEEP_ARCHIVE\n  expire:\n    after: 100d\n",
    )
    .await;
    let said = site.run(&["check"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let text = std::fs::read_to_string(site.path("config.yaml")).unwrap();
    let line = |start: &str| 1 + text.lines().position(|line| line.trim_start().starts_with(start)).unwrap();
    let file = site.path("config.yaml");
    for (line, part) in [
        (line("after: 100d"), "rotate.expire.after: bundles are deleted after 70 of the 180 days"),
        (line("s3:"), "s3.undo: in a bucket with versions, what is deleted after 30 days (rotate.archive.after)"),
    ] {
        let part = format!("{}:{line}: warning: {part}", file.display());
        assert!(said.err.contains(&part), "{part}: {said:?}");
    }
    assert_eq!(said.err.lines().count(), 2, "{said:?}");
    site.s3.keep_versions(crate::support::s3::Versions::Kept);
    site.s3.insert("CAM/2020-01-01/20200101T000000_a.jpg", "old");
    site.s3.edit("CAM/2020-01-01/20200101T000000_a.jpg", |object| object.metadata.clear());
    let plan: Value = serde_json::from_str(&site.run(&["rotate", "--dry-run", "--json"]).await.out).unwrap();
    let whys: Vec<&str> =
        plan["warnings"].as_array().unwrap().iter().map(|warning| warning["why"].as_str().unwrap()).collect();
    assert_eq!(whys, ["short_lived", "long_undo"], "{plan}");

    let site = Site::start_with(", storage_class: STANDARD_IA", "rotate: {expire: {after: 9d}, archive: null}\n").await;
    let said = site.run(&["check"]).await;
    assert!(said.err.contains(": rotate.expire.after: captures leave STANDARD_IA after 9 of the 30 days"), "{said:?}");
    assert_eq!(site.run(&["check", "--quiet"]).await.err, "");
}

#[tokio::test]
async fn check_says_beforehand_why_a_plan_would_bundle_nothing_or_download_all() {
    let none: [&str; 0] = [];
    for (s3, sections, expected) in [
        ("", "keep: {days: 29}\n", &["keep.days: local copies go after 29 days, but are bundled after 30"][..]),
        ("", "keep: {days: 0}\nrotate: {archive: null, transition: {}}\n", &none),
        ("", "keep: {days: 30}\n", &none),
        (", object_lock: {}", "", &["rotate.archive: nothing is bundled: the bucket locks objects"]),
        (", object_lock: {}", "rotate: {transition: {}}\n", &["rotate.transition: this box changes no class"]),
        (", access: write-only", "", &["s3.access: s3.access is write-only: this box can neither list nor delete"]),
        (
            ", access: write-only",
            "rotate: {archive: null, expire: {after: 90d}}\n",
            &["s3.access: s3.access is write-only"],
        ),
        (", object_lock: {}, access: write-only", "rotate: {archive: null, expire: null}\n", &none),
    ] {
        let site = Site::start_with(s3, sections).await;
        let said = site.run(&["check"]).await;
        assert_eq!((said.code, said.err.lines().count()), (0, expected.len()), "{said:?}");
        for part in expected {
            assert!(said.err.contains(&format!(": warning: {part}")), "{part}: {said:?}");
        }
    }
}

#[tokio::test]
async fn a_bad_file_is_answered_with_every_problem_and_its_line() {
    let site = Site::start().await;
    let file = site.path("bad.yaml");
    std::fs::write(&file, "drop_folder:\n  path: relative\n  resacn: 60s\nupload: {concurrency: 0}\n").unwrap();
    let file = file.to_str().unwrap();
    for command in [&["check"][..], &["cameras"], &["upload"], &["rotate"], &["run"]] {
        let said = site.run(&[&["--config", file], command].concat()).await;
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
        for part in [":2: drop_folder.path", ":3: drop_folder.resacn", "rescan", ":4: upload.concurrency", "s3"] {
            assert!(said.err.contains(part), "{part}: {said:?}");
        }
        assert!(said.err.contains(file), "{said:?}");
    }
    let said = site.run(&["check", "--json", "--config", file]).await;
    assert_eq!(said.code, 2);
    let problems: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(problems["file"], file);
    assert!(problems["problems"].as_array().unwrap().iter().any(|problem| problem["line"] == 3), "{problems}");
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let said = run(&mut hk_aws(&["--config", "/nowhere/config.yaml", "check"])).await;
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    assert!(said.err.contains("/nowhere/config.yaml"), "{said:?}");
}

#[tokio::test]
async fn the_flag_goes_before_the_environment_wherever_it_stands() {
    let site = Site::start().await;
    let other = site.path("other.yaml");
    std::fs::write(&other, "drop_folder: {path: /other}\ns3: {bucket: other}\ntimezone: UTC\n").unwrap();
    let other = other.to_str().unwrap();
    for line in [["--config", other, "check"], ["check", "--config", other]] {
        let said = site.run(&[&line[..], &["--show"]].concat()).await;
        assert!(said.code == 1 && said.out.contains("bucket: other"), "{said:?}");
        assert!(said.err.ends_with("\nnot ready: the drop folder /other is missing\n"), "{said:?}");
    }
    let said = site.run(&["check", "--show"]).await;
    assert!(said.out.contains("bucket: captures"), "the environment's file: {said:?}");
}

#[tokio::test]
async fn our_own_folders_are_refused_in_the_drop_folder_whatever_link_leads_there() {
    let site = Site::start().await;
    let file = site.path("config.yaml");
    let whole = std::fs::read_to_string(&file).unwrap();
    std::fs::create_dir_all(site.path("drop/CAM/old")).unwrap();
    let link = |to: &str, at: &str| std::os::unix::fs::symlink(site.path(to), site.path(at)).unwrap();
    link("drop/CAM", "into");
    link("drop/CAM/not yet", "dangling");
    link("drop", "other name");
    for (key, value, also) in [
        ("state_dir", "into/state", ""),
        ("state_dir", "dangling", ""),
        ("state_dir", "into/old", "keep: {path: elsewhere}\n"),
        ("runtime_dir", "dangling/run", ""),
        ("keep.path", "into", ""),
        ("keep.path", "dangling/kept", "keep: {days: 0}\n"),
        ("drop_folder.path", "other name/CAM", "state_dir: drop\n"),
    ] {
        let mut settings = crate::support::settings::parse(&whole);
        let path = site.path(value);
        let also = also.replace(": elsewhere", &format!(": {}", site.path("elsewhere").display()));
        let also = also.replace(": drop", &format!(": {}", site.path("drop").display()));
        crate::support::settings::merge(&mut settings, crate::support::settings::parse(&also));
        let more = match key.split_once('.') {
            Some((section, key)) => format!("{section}: {{{key}: '{}'}}", path.display()),
            None => format!("{key}: '{}'", path.display()),
        };
        crate::support::settings::merge(&mut settings, crate::support::settings::parse(&more));
        std::fs::write(&file, crate::support::settings::write(&settings)).unwrap();
        let said = site.run(&["check"]).await;
        let is_allowed = key == "drop_folder.path";
        assert_eq!(said.code, if is_allowed { 0 } else { 2 }, "{key} {value}: {said:?}");
        if !is_allowed {
            assert!(said.err.contains(&format!(": {key}")) && said.err.contains("drop_folder.path"), "{said:?}");
            assert_eq!(said.err.lines().count(), 1, "{said:?}");
        }
    }
}

#[tokio::test]
async fn check_warns_of_a_password_that_is_missing_or_that_everybody_may_read() {
    let site = Site::start().await;
    let password = site.path("password");
    let more = format!("mqtt: {{url: 'mqtt://broker', user: box, password_file: '{}'}}", password.display());
    settings::change(&site.path("config.yaml"), &more);
    let missing = site.run(&["check"]).await;
    assert!(missing.code == 0 && missing.err.contains("mqtt.password_file: the password in "), "{missing:?}");
    std::fs::write(&password, "hunter2\n").unwrap();
    for (mode, words) in [(0o644, "every user of this box may use the password in "), (0o640, "")] {
        std::fs::set_permissions(&password, std::fs::Permissions::from_mode(mode)).unwrap();
        let said = site.run(&["check", "--show"]).await;
        assert!(said.code == 0 && said.err.contains(words) && said.out.contains("password_file"), "{said:?}");
        assert_eq!(said.err.contains("password"), mode == 0o644, "{said:?}");
        assert!(!said.err.contains("hunter2") && !said.out.contains("hunter2"));
    }
}
