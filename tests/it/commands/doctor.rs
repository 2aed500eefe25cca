//! `doctor`: everything is tried for real, nothing stays, and each trouble is named with what to do.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::OnceLock;

use hk_aws::bucket::PROBE;
use hk_aws::doctor::DEEDS;
use serde_json::Value;

use super::{Said, Site, hk_aws, names, run};
use crate::support::s3::{Conditions, Fault, Versions};

/// What one line says.
#[derive(Debug, Clone)]
struct Line {
    name: String,
    outcome: String,
    says: String,
    mend: String,
}

fn lines(said: &Said) -> Vec<Line> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let [name, outcome, says, mend] = ["name", "outcome", "says", "mend"].map(|key| text(&line[key]));
        Line { name, outcome, says, mend }
    };
    said.out.lines().map(line).collect()
}

async fn doctor(site: &Site) -> (i32, Vec<Line>) {
    let said = site.run(&["doctor", "--json"]).await;
    (said.code, lines(&said))
}

fn named(lines: &[Line], name: &str) -> Line {
    lines.iter().find(|line| line.name == name).unwrap_or_else(|| panic!("no {name} in {lines:#?}")).clone()
}

/// What does not depend on the machine that the tests run on.
const OURS: [&str; 11] = [
    "user",
    "drop folder",
    "state",
    "local copies",
    "zone",
    "clock",
    "put",
    "clips",
    "conditional writes",
    "checksums",
    "rights",
];

/// The rows of the table that the doctor prints last: outcome, whether the keys may, whether it can be undone.
fn rows(said: &Said) -> Vec<[String; 3]> {
    let lines = said.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let rows: Vec<Value> = lines.filter(|line| line["name"] == "thief").collect();
    assert_eq!(rows.len(), DEEDS.len(), "{said:?}");
    for (row, deed) in rows.iter().zip(DEEDS) {
        assert_eq!((&row["what"], &row["right"]), (&deed.what.into(), &deed.right.into()));
        assert_eq!(row["mend"] == "", row["outcome"] == "ok", "{row}");
    }
    rows.iter().map(|row| ["outcome", "may", "undo"].map(|key| row[key].as_str().unwrap().to_owned())).collect()
}

/// Gives the site's bucket versions, and the keys no right to erase one.
fn nothing_can_be_erased(site: &Site) {
    site.s3.keep_versions(Versions::Kept);
    site.s3.fault(Fault::fail("DeleteObjectVersion", 403, "AccessDenied").on_key(|_| true));
}

async fn small_disk() -> Site {
    let site = Site::start_with("", "keep: {min_free: 1MiB}\n").await;
    nothing_can_be_erased(&site);
    site
}

/// Fails the first put of the sample, which is put as captures are.
fn refuse_sample_once(site: &Site, status: u16, code: &'static str) {
    let is_sample = |key: &str| key.ends_with(PROBE) && !key.starts_with('.');
    site.s3.fault(Fault::fail("PutObject", status, code).on_key(is_sample).times(1));
}

#[tokio::test]
async fn a_box_that_is_well_is_told_so_and_nothing_stays_behind() {
    let site = small_disk().await;
    site.drop_file("CAM/a.jpg", b"evidence");
    let (code, lines) = doctor(&site).await;
    assert_eq!(code, 0, "{lines:#?}");
    for name in OURS {
        let line = named(&lines, name);
        assert_eq!((line.outcome.as_str(), line.mend.as_str()), ("ok", ""), "{line:?}");
    }
    for name in ["inotify", "writers", "disk of the drop folder", "disk of the state", "disk of the local copies"] {
        assert!(!named(&lines, name).says.is_empty());
    }
    assert!(named(&lines, "drop folder").says.contains("1 files wait in 2 folders"), "{lines:#?}");
    assert!(named(&lines, "zone").says.contains("Europe/Kyiv"), "{lines:#?}");
    assert_eq!(site.s3.keys(), Vec::<String>::new());
    assert_eq!(names(&site.path("")), ["config.yaml", "drop"]);
    assert_eq!(names(&site.path("drop/CAM")), ["a.jpg"]);

    let said = site.run(&["doctor"]).await;
    assert!(said.code == 0 && said.out.contains("ok   conditional writes: "), "{said:?}");
    for deed in DEEDS {
        assert!(said.out.contains(deed.what), "{} is not in {}", deed.what, said.out);
    }
}

#[tokio::test]
async fn what_the_bucket_refuses_is_named_with_what_to_do() {
    for (status, code, mend) in [
        (404, "NoSuchBucket", "s3.bucket"),
        (403, "AccessDenied", "s3:PutObject"),
        (301, "PermanentRedirect", "s3.region"),
    ] {
        let site = small_disk().await;
        site.s3.fault(Fault::fail("*", status, code).on_key(|_| true));
        let (exit, lines) = doctor(&site).await;
        let put = named(&lines, "put");
        assert!(put.outcome == "fail" && put.says.contains(code) && put.mend.contains(mend), "{put:?}");
        assert_eq!((exit, named(&lines, "clock").outcome.as_str()), (1, "ok"), "any answer tells the time");
    }
    let site = small_disk().await;
    let mut command = site.command(&["doctor", "--json"]);
    let said = run(command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7STRANGE")).await;
    let put = named(&lines(&said), "put");
    assert!(said.code == 1 && put.mend.contains("renew the AWS key"), "{put:?}");
    assert!(said.err.contains(" checks failed"), "{said:?}");
}

#[tokio::test]
async fn a_store_that_does_not_answer_fails_and_the_box_is_looked_at_all_the_same() {
    let site = small_disk().await;
    site.s3.refuse().await;
    let (code, lines) = doctor(&site).await;
    assert_eq!((code, named(&lines, "drop folder").outcome.as_str()), (1, "ok"));
    for name in ["clock", "put"] {
        let line = named(&lines, name);
        assert!(line.outcome == "fail" && line.says.contains("refused"), "{line:?}");
    }
}

#[tokio::test]
async fn a_page_that_answers_in_the_place_of_the_store_fails() {
    let site = small_disk().await;
    let page = Fault::answer("PutObject", 200, &[("content-type", "text/html")], "<html>log in</html>");
    site.s3.fault(page.on_key(|_| true));
    let (code, lines) = doctor(&site).await;
    let put = named(&lines, "put");
    assert!(code == 1 && put.outcome == "fail" && put.mend.contains("a login page"), "{put:?}");
}

#[tokio::test]
async fn a_store_without_conditional_writes_is_a_warning() {
    for (conditions, word) in [
        (Conditions::Ignored, "overwrites all the same"),
        (Conditions::Refused, "refuses"),
        (Conditions::IgnoredInParts, "clips"),
    ] {
        let site = small_disk().await;
        site.s3.take_conditions(conditions);
        let (code, lines) = doctor(&site).await;
        let line = named(&lines, "conditional writes");
        assert_eq!((code, line.outcome.as_str()), (0, "warn"), "{line:?}");
        assert!(line.says.contains(word) && line.mend.contains("conditional writes"), "{line:?}");
        assert_eq!(site.s3.keys(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_store_that_takes_wrong_checksums_is_a_warning() {
    let site = small_disk().await;
    site.s3.trust();
    let (code, lines) = doctor(&site).await;
    let line = named(&lines, "checksums");
    assert_eq!((code, line.outcome.as_str()), (0, "warn"), "{line:?}");
}

#[tokio::test]
async fn a_clock_that_is_off_is_told_before_s3_refuses_it() {
    for (ahead, code, outcome) in
        [(0, 0, "ok"), (100, 0, "warn"), (-100, 0, "warn"), (700, 1, "fail"), (-700, 1, "fail")]
    {
        let site = small_disk().await;
        site.s3.date_answers_ahead(ahead);
        let (exit, lines) = doctor(&site).await;
        let line = named(&lines, "clock");
        assert_eq!((exit, line.outcome.as_str()), (code, outcome), "{line:?}");
        assert_eq!(line.mend.contains("NTP"), outcome != "ok", "{line:?}");
    }
}

#[tokio::test]
async fn a_write_only_box_is_told_which_rights_are_too_many_and_what_stays() {
    let site = Site::start_with(", access: write-only", "keep: {min_free: 1MiB}\n").await;
    site.s3.deny_overwriting();
    let said = site.run(&["doctor", "--json"]).await;
    assert_eq!((said.code, named(&lines(&said), "rights").outcome.as_str()), (0, "ok"), "{said:?}");
    let outcomes: Vec<String> = rows(&said).into_iter().map(|[outcome, ..]| outcome).collect();
    assert_eq!(outcomes[..5], ["ok", "warn", "ok", "warn", "warn"], "{said:?}");
    for right in ["s3:DeleteObject", "s3:ListBucket", "s3:GetObject"] {
        assert!(said.out.contains(&format!("take {right} away")), "{said:?}");
    }
    assert_eq!(site.s3.keys(), Vec::<String>::new(), "what may be deleted is");

    for operation in ["HeadObject", "ListObjectsV2", "ListMultipartUploads", "DeleteObject", "GetBucketVersioning"] {
        site.s3.fault(Fault::fail(operation, 403, "AccessDenied").on_key(|_| true));
    }
    // The second time, it is there from the first.
    for _ in 0..2 {
        let said = site.run(&["doctor", "--json"]).await;
        let lines = lines(&said);
        let outcomes = ["put", "conditional writes", "rights"].map(|name| named(&lines, name).outcome);
        assert_eq!((said.code, outcomes), (0, ["ok", "ok", "ok"].map(str::to_owned)), "{lines:#?}");
        for [outcome, may, _] in &rows(&said)[..5] {
            assert_eq!((outcome.as_str(), may.as_str()), ("ok", "no"), "{said:?}");
        }
        assert!(named(&lines, "left behind").says.contains(PROBE));
        let keys = site.s3.keys();
        assert!(keys.len() == 3 && keys.iter().all(|key| key.ends_with(PROBE)), "{keys:?}");
    }
}

#[tokio::test]
async fn the_doctor_fails_where_whoever_has_the_keys_can_erase_evidence() {
    let template = Site::start_with("", "keep: {min_free: 1MiB}\n").await;
    template.s3.deny_overwriting();
    let said = template.run(&["doctor", "--json"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let table = rows(&said);
    assert!(table.iter().all(|[outcome, ..]| outcome == "ok"), "{table:#?}");
    let may: Vec<&str> = table.iter().map(|[_, may, _]| may.as_str()).collect();
    assert_eq!(may, ["no", "yes", "no", "yes", "yes", "no", "no", "no"]);
    assert!(table[1][2].starts_with("yes, "), "{table:#?}");

    // Without the policy, and with versions: captures can be covered, and uncovered.
    let said = small_disk().await.run(&["doctor", "--json"]).await;
    assert_eq!((said.code, rows(&said)[0][0].as_str()), (0, "warn"), "{said:?}");

    // Without versions.
    let site = Site::start_with("", "keep: {min_free: 1MiB}\n").await;
    site.s3.fault(Fault::fail("DeleteObjectVersion", 403, "AccessDenied").on_key(|_| true));
    let said = site.run(&["doctor", "--json"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    for [outcome, may, undo] in &rows(&said)[..2] {
        assert_eq!([outcome, may, undo], ["fail", "yes", "no: the bucket keeps no versions"], "{said:?}");
    }

    // With each right that is too much. A store that refuses only what was asked for would let the thief ask for another.
    for (row, operation, status, code) in [
        (5, "PutBucketVersioning", 400, "IllegalVersioningConfigurationException"),
        (6, "PutBucketLifecycleConfiguration", 400, "MalformedXML"),
        (7, "PutBucketPolicy", 400, "MalformedPolicy"),
    ] {
        let site = small_disk().await;
        site.s3.fault(Fault::fail(operation, status, code).on_key(|_| true));
        let said = site.run(&["doctor", "--json"]).await;
        assert_eq!((said.code, rows(&said)[row][0].as_str()), (1, "fail"), "{operation}: {said:?}");

        // What is neither a refusal nor a proof.
        site.s3.clear_faults();
        nothing_can_be_erased(&site);
        site.s3.fault(Fault::fail(operation, 500, "InternalError").on_key(|_| true));
        let said = site.run(&["doctor", "--json"]).await;
        assert_eq!((said.code, rows(&said)[row][0].as_str()), (0, "warn"), "{operation}: {said:?}");
        assert_eq!(rows(&said)[row][1], "not known");
    }
}

#[tokio::test]
async fn what_each_capture_carries_is_tried_and_the_setting_is_named() {
    for (keys, status, code, setting) in [
        (", tags: true", 501, "NotImplemented", "set s3.tags to false"),
        (", tags: true", 403, "AccessDenied", "set s3.tags to false"),
        (", object_lock: {days: 90}", 400, "InvalidRequest", "remove s3.object_lock"),
        (", tags: true, object_lock: {days: 90}", 400, "InvalidRequest", "set s3.tags to false"),
    ] {
        let site = Site::start_with(keys, "keep: {min_free: 1MiB}\n").await;
        refuse_sample_once(&site, status, code);
        let (exit, lines) = doctor(&site).await;
        let put = named(&lines, "put");
        assert_eq!((exit, put.outcome.as_str()), (1, "fail"), "{keys}: {put:?}");
        assert!(put.says.contains(code) && put.mend.contains(setting), "{keys}: {put:?}");
        assert_eq!(site.s3.keys(), Vec::<String>::new(), "{keys}");
    }
    let site = Site::start_with(", tags: true, object_lock: {days: 90}", "keep: {min_free: 1MiB}\n").await;
    nothing_can_be_erased(&site);
    let (exit, lines) = doctor(&site).await;
    assert_eq!((exit, named(&lines, "put").outcome.as_str()), (0, "ok"), "{lines:#?}");
}

#[tokio::test]
async fn what_each_clip_carries_is_tried_in_parts_and_the_setting_is_named() {
    for (keys, times, operation, status, code, mend) in [
        (", tags: true", 1, "CreateMultipartUpload", 501, "NotImplemented", "set s3.tags to false"),
        (", tags: true", 1, "CreateMultipartUpload", 403, "AccessDenied", "set s3.tags to false"),
        (", object_lock: {days: 90}", 1, "CreateMultipartUpload", 400, "InvalidRequest", "remove s3.object_lock"),
        (
            ", tags: true, object_lock: {days: 90}",
            5,
            "CreateMultipartUpload",
            403,
            "AccessDenied",
            "remove s3.object_lock",
        ),
        (", tags: true", usize::MAX, "CreateMultipartUpload", 501, "NotImplemented", "takes no uploads in parts"),
        ("", usize::MAX, "UploadPart", 501, "NotImplemented", "takes no uploads in parts"),
        ("", usize::MAX, "CompleteMultipartUpload", 501, "NotImplemented", "takes no uploads in parts"),
    ] {
        let site = Site::start_with(keys, "keep: {min_free: 1MiB}\n").await;
        let fault = Fault::fail(operation, status, code).on_key(|key| key.ends_with(&format!("-parts{PROBE}")));
        site.s3.fault(fault.times(times));
        let (exit, lines) = doctor(&site).await;
        let (put, clips) = (named(&lines, "put"), named(&lines, "clips"));
        assert_eq!((exit, put.outcome.as_str(), clips.outcome.as_str()), (1, "ok", "fail"), "{keys}: {clips:?}");
        assert!(clips.says.contains(code) && clips.mend.contains(mend), "{keys}: {clips:?}");
        assert!(site.s3.keys().is_empty() && site.s3.uploads().is_empty(), "{keys}: {:?}", site.s3.keys());
    }
    // What passes is no fault of the configuration.
    let site = small_disk().await;
    site.s3.fault(Fault::fail("UploadPart", 503, "SlowDown").on_key(|key| key.ends_with(&format!("-parts{PROBE}"))));
    let (exit, lines) = doctor(&site).await;
    assert_eq!((exit, named(&lines, "clips").outcome.as_str()), (0, "warn"), "{lines:#?}");
}

#[tokio::test]
async fn a_class_that_the_store_does_not_keep_fails_with_the_setting_to_change() {
    let site = small_disk().await;
    site.s3.ignore_classes();
    let (exit, lines) = doctor(&site).await;
    let class = named(&lines, "class");
    assert_eq!((exit, class.outcome.as_str()), (1, "fail"), "{class:?}");
    assert!(class.mend.contains("rotate.archive.class to STANDARD"), "{class:?}");

    let site = small_disk().await;
    let first = OnceLock::new();
    let is_second =
        move |key: &str| key.ends_with(PROBE) && !key.starts_with('.') && first.get_or_init(|| key.to_owned()) != key;
    site.s3.fault(Fault::fail("PutObject", 400, "InvalidStorageClass").on_key(is_second));
    let (exit, lines) = doctor(&site).await;
    let (put, class) = (named(&lines, "put"), named(&lines, "class"));
    assert_eq!((exit, put.outcome.as_str(), class.outcome.as_str()), (1, "ok", "fail"), "{class:?}");
    assert!(class.says.contains("InvalidStorageClass") && class.mend.contains("rotate.archive.class"), "{class:?}");

    let site = Site::start_with("", "keep: {min_free: 1MiB}\nrotate: {archive: {class: GLACIER}}\n").await;
    nothing_can_be_erased(&site);
    assert_eq!(named(&doctor(&site).await.1, "class").outcome, "ok");
    site.s3.fault(Fault::fail("RestoreObject", 403, "AccessDenied").on_key(|_| true));
    let (exit, lines) = doctor(&site).await;
    let class = named(&lines, "class");
    assert!(exit == 1 && class.mend.contains("s3:RestoreObject"), "{class:?}");
    assert_eq!(site.s3.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn rights_that_are_missing_are_named_with_what_fails_without_them() {
    let site = small_disk().await;
    site.s3.fault(Fault::fail("ListObjectsV2", 403, "AccessDenied").on_key(|_| true));
    let (code, lines) = doctor(&site).await;
    let rights = named(&lines, "rights");
    assert_eq!((code, rights.outcome.as_str()), (0, "warn"), "{rights:?}");
    assert!(rights.says.contains("`list`") && rights.mend.contains("s3:ListBucket"), "{rights:?}");
}

#[tokio::test]
async fn a_drop_folder_or_a_state_folder_that_is_not_there_fails() {
    let site = small_disk().await;
    fs::remove_dir(site.path("drop")).unwrap();
    fs::write(site.path("state"), "in the way").unwrap();
    let (code, lines) = doctor(&site).await;
    for (name, key) in [("drop folder", "drop_folder.path"), ("state", "state_dir"), ("local copies", "keep.path")] {
        let line = named(&lines, name);
        assert!(line.outcome == "fail" && line.mend.contains(key), "{line:?}");
    }
    assert_eq!((code, named(&lines, "put").outcome.as_str()), (1, "ok"));
}

#[tokio::test]
async fn a_folder_that_nothing_can_be_taken_out_of_fails() {
    let site = small_disk().await;
    site.drop_file("CAM/a.jpg", b"evidence");
    let cam = site.path("drop/CAM");
    fs::set_permissions(&cam, Permissions::from_mode(0o555)).unwrap();
    let mut command = site.command(&["doctor", "--json"]);
    if rustix::process::geteuid().is_root() {
        // Root is denied nothing: the doctor becomes somebody else, to whom all but that folder belongs.
        let nobody = 65_534;
        let copy = site.path("hk-aws");
        // By a process of its own: one that another test forks meanwhile would hold our copy open for writing (ETXTBSY).
        let mut cp = std::process::Command::new("cp");
        assert!(cp.arg(env!("CARGO_BIN_EXE_hk-aws")).arg(&copy).status().unwrap().success());
        command = tokio::process::Command::new(copy);
        let like = hk_aws(&["doctor", "--json"]);
        command.args(like.as_std().get_args()).env_clear().kill_on_drop(true);
        command.envs(like.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("HK_AWS_CONFIG", site.path("config.yaml")).uid(nobody).gid(nobody);
        fs::set_permissions(site.path(""), Permissions::from_mode(0o777)).unwrap();
        std::os::unix::fs::chown(site.path("drop"), Some(nobody), Some(nobody)).unwrap();
    }
    let said = run(&mut command).await;
    fs::set_permissions(&cam, Permissions::from_mode(0o755)).unwrap();
    let line = named(&lines(&said), "drop folder");
    assert!(said.code == 1 && line.outcome == "fail" && line.says.contains("/drop/CAM, and fill"), "{line:?}");
    assert!(line.mend.contains("CAP_DAC_OVERRIDE"), "{line:?}");
}
