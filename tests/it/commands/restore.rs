//! `restore`: asking for archived days, waiting for them, bringing them back.

use std::process::Stdio;

use hk_aws::config::ArchiveSettings;
use hk_aws::key::ArchiveFormat;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::{Said, Site, archive, names};
use crate::support::s3::Fault;
use crate::support::site::DEADLINE;

const DAY: &str = "2022-02-24";
const BUNDLE: &str = "CAM/archive/2022-02-24.tar";
const DONE: &str = "ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2029 00:00:00 GMT\"";

/// A site with days of two pictures that are bundled.
async fn archived(days: &[&str], archive: &ArchiveSettings) -> Site {
    let site = Site::start().await;
    for day in days {
        for number in 0..2 {
            let file = format!("{}T05060{number}_a.jpg", day.replace('-', ""));
            site.s3.insert(&format!("CAM/{day}/{file}"), format!("{day} {number}"));
        }
        site.bundle("CAM", day, archive).await;
    }
    site
}

fn glacier() -> ArchiveSettings {
    archive("GLACIER", ArchiveFormat::Tar)
}

fn thaw(site: &Site, key: &str) {
    site.s3.edit(key, |bundle| bundle.restore = Some(DONE.to_owned()));
}

/// Runs a command that waits, and lets it go on once it has looked after a request for each bundle.
async fn run_until_thawed(site: &Site, line: &[&str], bundles: &[&str]) -> Said {
    let looked = site.s3.count("HeadObject");
    let line = [line, &["--poll", "10"]].concat();
    let child = site.command(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let rounds = looked + 3 * bundles.len();
    site.s3.wait_for(|state| state.count("HeadObject") >= rounds, DEADLINE).await;
    for key in bundles {
        thaw(site, key);
    }
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

#[tokio::test]
async fn a_restore_says_what_it_is_about_and_asks_once() {
    let site = archived(&[DAY], &glacier()).await;
    let said = site.run(&["restore", "CAM", DAY]).await;
    assert_eq!((said.code, said.out.lines().count()), (0, 1), "{said:?}");
    assert!(said.out.starts_with(BUNDLE) && said.out.contains("  asked for\n"), "{said:?}");
    for part in ["1 bundle", "out of GLACIER", "--to DIR"] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    // It is not AWS, whose prices and hours are known.
    for part in ["hours", "$", "AWS"] {
        assert!(!format!("{said:?}").contains(part), "{part}: {said:?}");
    }
    assert!(site.s3.object(BUNDLE).unwrap().restore.is_some());
    // Asked for already, after a reboot too.
    let said = site.run(&["restore", "CAM", DAY, "--json"]).await;
    let line: Value = serde_json::from_str(&said.out).unwrap();
    let bytes = site.s3.object(BUNDLE).unwrap().len;
    let expected =
        json!({"key": BUNDLE, "camera": "CAM", "date": DAY, "size": bytes, "class": "GLACIER", "state": "ongoing"});
    assert_eq!((said.code, line), (0, expected));
    thaw(&site, BUNDLE);
    let line = &site.lines(&["restore", "CAM", DAY]).await[0];
    assert_eq!((&line["state"], &line["until"]), (&json!("restored"), &json!("2029-12-21T00:00:00Z")));
    assert_eq!(site.s3.count("RestoreObject"), 1);
}

#[tokio::test]
async fn ranges_parts_and_days_without_an_archive() {
    let small = ArchiveSettings { part_size: 1, ..glacier() };
    let site = archived(&["2022-02-26", "2022-02-28", "2022-03-01"], &small).await;
    site.s3.insert("CAM/2022-02-27/20220227T000000_loose.jpg", "x");
    site.s3.insert("CAM/2022-02-27/20220227T000001_cold.jpg", "x");
    let lines =
        |said: &Said| -> Vec<Value> { said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let said = site.run(&["--json", "restore", "CAM", "2022-02-25..2022-02-28", "2022-02-28", "--tier", "bulk"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let keys: Vec<Value> = lines(&said).iter().map(|line| line["key"].clone()).collect();
    let expected = ["26.tar", "26.part2.tar", "28.tar", "28.part2.tar"].map(|end| format!("CAM/archive/2022-02-{end}"));
    assert_eq!(keys, expected);
    assert!(said.err.contains("4 bundles"), "{said:?}");
    assert!(said.err.contains("2022-02-25: nothing is archived"), "{said:?}");
    assert!(said.err.contains("2022-02-27: nothing is archived; 2 captures can be read as they are"), "{said:?}");
    // A capture that is cold by itself is asked for as well.
    site.s3
        .edit("CAM/2022-02-27/20220227T000001_cold.jpg", |object| "DEEP_ARCHIVE".clone_into(&mut object.storage_class));
    let said = site.run(&["--json", "restore", "CAM", "2022-02-27", "2022-02-24"]).await;
    assert_eq!((said.code, lines(&said).len()), (3, 1), "{said:?}");
    assert_eq!(lines(&said)[0]["key"], "CAM/2022-02-27/20220227T000001_cold.jpg");
    assert!(said.err.contains("1 capture, 1 B, out of DEEP_ARCHIVE"), "{said:?}");
    assert!(said.err.contains("2022-02-24: the bucket holds nothing of CAM"), "{said:?}");
    let said = site.run(&["restore", "CAM", "2021-02-24..2021-03-01"]).await;
    assert!(said.code == 1 && said.err.contains("`hk-aws days CAM`"), "{said:?}");
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_wrong_usage_or_refused_with_the_reason() {
    let site = archived(&[DAY], &archive("DEEP_ARCHIVE", ArchiveFormat::Tar)).await;
    for dates in ["2022-02-30", "2022-02-24..2022-02-23", "2020-01-01..2022-02-24", "yesterday"] {
        let said = site.run(&["restore", "CAM", dates]).await;
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{dates}: {said:?}");
    }
    for line in
        [&["restore", "CAM"][..], &["restore", "CAM", DAY, "--tier", "fast"], &["restore", "CAM", DAY, "--days", "0"]]
    {
        assert_eq!(site.run(line).await.code, 2, "{line:?}");
    }
    assert_eq!(site.s3.count("RestoreObject"), 0);
    site.s3.fault(Fault::fail("RestoreObject", 403, "AccessDenied"));
    let said = site.run(&["restore", "CAM", DAY]).await;
    assert!(said.code == 1 && said.err.contains("allow s3:RestoreObject"), "{said:?}");
}

#[tokio::test]
async fn what_is_not_cold_is_readable_as_it_is() {
    let site = archived(&[DAY], &archive("GLACIER_IR", ArchiveFormat::Tar)).await;
    let line = &site.lines(&["restore", "CAM", DAY]).await[0];
    assert_eq!((&line["class"], &line["state"]), (&json!("GLACIER_IR"), &json!("readable")));
    let said = site.run(&["restore", "CAM", DAY, "--wait"]).await;
    assert!(said.code == 0 && said.err.contains("is readable as it is"), "{said:?}");
    assert_eq!(site.s3.count("RestoreObject"), 0);
}

#[tokio::test]
async fn a_restore_waits_through_failures_that_pass_and_brings_the_day_back() {
    let site = archived(&[DAY], &glacier()).await;
    site.s3.fault(Fault::fail("RestoreObject", 503, "SlowDown").times(1));
    let to = site.path("back");
    let to = to.to_str().unwrap();
    let looked = async {
        // The first look must succeed: what it finds decides what is paid.
        site.s3.wait_for(|state| state.count("RestoreObject") >= 2, DEADLINE).await;
        site.s3.fault(Fault::fail("HeadObject", 500, "InternalError").times(2));
    };
    let line = ["restore", "CAM", DAY, "--to", to];
    let (said, ()) = tokio::join!(run_until_thawed(&site, &line, &[BUNDLE]), looked);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("0 of 1 can be read") && said.err.contains("1 of 1 can be read"), "{said:?}");
    assert!(said.err.contains("2 captures of 1 day") && said.err.contains(to), "{said:?}");
    assert!(said.out.starts_with(BUNDLE) && said.out.lines().count() == 3, "{said:?}");
    assert_eq!(names(&site.path("back")), ["20220224T050600_a.jpg", "20220224T050601_a.jpg"]);
    assert_eq!(std::fs::read(site.path("back/20220224T050601_a.jpg")).unwrap(), b"2022-02-24 1");
    // Once more: nothing is asked for, nothing moves.
    let before = site.s3.count("RestoreObject");
    let said = site.run(&["restore", "CAM", DAY, "--to", to]).await;
    assert!(said.code == 0 && said.err.contains("2 of them before"), "{said:?}");
    assert_eq!(site.s3.count("RestoreObject"), before);
}

#[tokio::test]
async fn several_days_come_back_into_folders_of_their_own_and_what_failed_is_named() {
    let days = ["2022-02-24", "2022-02-25", "2022-02-26"];
    let site = archived(&days, &archive("GLACIER", ArchiveFormat::TarZst)).await;
    let keys = days.map(|day| format!("CAM/archive/{day}.tar.zst"));
    site.s3.fault(Fault::fail("RestoreObject", 403, "AccessDenied").on_key(|key| key.contains("02-25")));
    let to = site.path("back");
    let line = ["restore", "CAM", "2022-02-24..2022-02-26", "--to", to.to_str().unwrap()];
    let said = run_until_thawed(&site, &line, &[&keys[0], &keys[2]]).await;
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("CAM/archive/2022-02-25.tar.zst: failed to restore object"), "{said:?}");
    assert!(said.err.contains("4 captures of 3 days"), "{said:?}");
    assert_eq!(names(&to), ["2022-02-24", "2022-02-26"]);
    assert_eq!(names(&to.join("2022-02-26")).len(), 2);
}

#[tokio::test]
async fn a_wait_that_was_ended_is_taken_up_again() {
    let site = archived(&[DAY], &glacier()).await;
    let mut child = site
        .command(&["restore", "CAM", DAY, "--wait", "--poll", "10"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    site.s3.wait_for(|state| state.count("HeadObject") >= 3, DEADLINE).await;
    child.kill().await.unwrap();
    let said = run_until_thawed(&site, &["--json", "restore", "CAM", DAY, "--wait"], &[BUNDLE]).await;
    let line: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &line["state"]), (0, &json!("restored")), "{said:?}");
    assert_eq!(site.s3.count("RestoreObject"), 1);
}

#[tokio::test]
async fn too_little_room_is_said_before_anything_is_paid_for() {
    let site = archived(&[DAY], &glacier()).await;
    site.s3.edit(BUNDLE, |bundle| bundle.len = 1 << 60);
    let to = site.path("back");
    let said = site.run(&["restore", "CAM", DAY, "--to", to.to_str().unwrap()]).await;
    assert!(said.code == 1 && said.err.contains("1.00 EiB are needed"), "{said:?}");
    assert_eq!(site.s3.count("RestoreObject"), 0);
}

/// Runs a command on a terminal of its own, where somebody types.
async fn on_a_terminal(site: &Site, line: &str, typed: &[u8]) -> Said {
    let line = format!("{} {line}", env!("CARGO_BIN_EXE_hk-aws"));
    // The system's own way to a terminal, as the system's own tar reads bundles elsewhere.
    let mut command = tokio::process::Command::new("script");
    command
        .args(["-qec", &line, "/dev/null"])
        .envs(site.command(&[""]).as_std().get_envs().filter_map(|(k, v)| Some((k, v?))));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("`script` is part of util-linux");
    child.stdin.as_mut().unwrap().write_all(typed).await.unwrap();
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

#[tokio::test]
async fn money_is_spent_only_after_a_yes_on_a_terminal() {
    let site = archived(&["2022-02-24", "2022-02-25"], &glacier()).await;
    for typed in [&b"n\n"[..], b"\n", b"maybe\n"] {
        let said = on_a_terminal(&site, "-q restore CAM 2022-02-24", typed).await;
        assert!(said.code == 1 && said.out.contains("Go ahead? [y/N]"), "{said:?}");
        assert!(said.out.contains("out of GLACIER") && said.out.contains("nothing was asked for"), "{said:?}");
    }
    assert_eq!(site.s3.count("RestoreObject"), 0);
    let said = on_a_terminal(&site, "restore CAM 2022-02-24", b"y\n").await;
    assert_eq!((said.code, site.s3.count("RestoreObject")), (0, 1), "{said:?}");
    let said = on_a_terminal(&site, "restore CAM 2022-02-25 --yes", b"").await;
    assert!(said.code == 0 && !said.out.contains("[y/N]"), "{said:?}");
    assert_eq!(site.s3.count("RestoreObject"), 2);
    // What is under way costs nothing more.
    let said = on_a_terminal(&site, "restore CAM 2022-02-25", b"").await;
    assert!(said.code == 0 && !said.out.contains("[y/N]"), "{said:?}");
}

#[tokio::test]
async fn a_day_in_a_class_that_is_a_mere_label_is_read_and_never_asked_for() {
    for (class, format, has_index) in [
        ("GLACIER", ArchiveFormat::Tar, true),
        ("DEEP_ARCHIVE", ArchiveFormat::TarZst, true),
        ("GLACIER", ArchiveFormat::TarGz, false),
    ] {
        let site = archived(&[DAY], &archive(class, format)).await;
        site.s3.keep_classes_as_labels();
        let loose = format!("CAM/{DAY}/20220224T080000_loose.jpg");
        site.s3.insert_with(&loose, "loose", |object| class.clone_into(&mut object.storage_class));
        if !has_index {
            site.s3.remove(&format!("CAM/archive/{DAY}.index.json"));
        }
        let [day, one, back] = ["day", "one", "back"].map(|to| site.path(to));
        for line in [
            &["get", "CAM", DAY, "--to", day.to_str().unwrap()][..],
            &["get", "CAM", DAY, "20220224T050601_a.jpg", "--to", one.to_str().unwrap()],
            &["restore", "CAM", DAY, "--to", back.to_str().unwrap()],
            &["restore", "CAM", DAY, "--wait"],
        ] {
            let said = site.run(line).await;
            assert!(said.code == 0 && !said.err.contains("restore it"), "{class} {line:?}: {said:?}");
        }
        assert_eq!([&day, &one, &back].map(|to| names(to).len()), [3, 1, 3], "{class}");
        assert_eq!(std::fs::read(one.join("20220224T050601_a.jpg")).unwrap(), format!("{DAY} 1").as_bytes());
        assert_eq!(site.s3.count("RestoreObject"), 0, "{class}");
        let said = site.run(&["verify", "CAM", DAY, "--deep", "--rebuild"]).await;
        assert!(said.code == 0 && !said.out.contains("unproven"), "{class}: {said:?}");
    }
}

#[tokio::test]
async fn what_the_store_refuses_to_restore_is_not_counted_as_readable() {
    for (status, code) in [(405, "MethodNotAllowed"), (501, "NotImplemented"), (403, "AccessDenied")] {
        let site = archived(&[DAY], &glacier()).await;
        site.s3.fault(Fault::fail("RestoreObject", status, code));
        let to = site.path("back");
        for more in [&["--wait"][..], &["--to", to.to_str().unwrap()]] {
            let said = site.run(&[&["restore", "CAM", DAY], more].concat()).await;
            assert!(said.code != 0 && said.err.contains(code), "{more:?}: {said:?}");
            assert!(said.err.contains("0 of 1 can be read") && !said.err.contains("1 of 1 can"), "{more:?}: {said:?}");
        }
        assert!(!to.exists(), "{code}");
    }
}

#[tokio::test]
async fn a_store_that_knows_no_tiers_is_asked_without_one() {
    for (class, tier, status, code) in [
        ("GLACIER", "standard", 400, "MalformedXML"),
        ("GLACIER", "bulk", 501, "NotImplemented"),
        // Whether another store has what AWS does not have is for that store to say.
        ("DEEP_ARCHIVE", "expedited", 400, "InvalidArgument"),
    ] {
        let site = archived(&[DAY], &archive(class, ArchiveFormat::Tar)).await;
        site.s3.fault(Fault::fail("RestoreObject", status, code).times(1));
        let said = site.run(&["restore", "CAM", DAY, "--tier", tier]).await;
        assert!(said.code == 0 && said.out.contains("asked for"), "{class} {tier}: {said:?}");
        assert_eq!(site.s3.count("RestoreObject"), 2, "{class} {tier}");
        assert!(site.s3.object(BUNDLE).unwrap().restore.is_some(), "{class} {tier}");
    }
}
