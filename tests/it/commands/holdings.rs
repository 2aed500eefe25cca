//! `cameras`, `days`, `list`, `get`: what the bucket holds.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Days, NaiveDate, Utc};
use hk_aws::key::ArchiveFormat;
use serde_json::{Value, json};

use super::{Site, names, run_measured};
use crate::support::s3::Fault;

const DAY: &str = "2022-02-24";

/// What a command that lists may have in memory, whatever lies in the bucket (in KiB).
const MOST_KIB: u64 = 100 * 1024;

fn hikvision(time: &str, event: &str) -> String {
    format!("192.168.1.64_01_20220224{time}000_{event}.jpg")
}

/// A bucket with two cameras, and all that others leave in one.
async fn lived_in() -> Site {
    let site = Site::start().await;
    for (time, event) in [("050607", "MOTION_DETECTION"), ("230000", "LINE_CROSSING"), ("010203", "MOTION_DETECTION")] {
        site.s3.insert(&format!("CAM-1/{DAY}/{}", hikvision(time, event)), format!("{time} {event}"));
    }
    site.s3.insert("CAM-1/2022-02-25/20220225T000000_snap.jpg", "snap");
    site.s3.insert("CAM-2/2022-03-01/clip.mp4", "clip");
    for stranger in [
        "CAM-1/archive/2022-02-23.zip",
        "CAM-1/archive/2022-02-23.index.json",
        "CAM-1/loose.jpg",
        "CAM-1/2022-02-30/x.jpg",
        "CAM-1/2022-2-4/x.jpg",
        "CAM-1/2022-02-24/deeper/x.jpg",
        "CAM-1/2022-02-24/",
        "index.html",
        "/leading.jpg",
        "CAM-10/2022-02-24/20220224T000000_other.jpg",
    ] {
        site.s3.insert(stranger, "strange");
    }
    site
}

fn files(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["file"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn cameras_and_days_are_listed_among_strangers_objects() {
    let site = lived_in().await;
    assert_eq!(site.run(&["cameras"]).await.out, "CAM-1\nCAM-10\nCAM-2\n");
    assert_eq!(site.lines(&["cameras"]).await[0], json!({"camera": "CAM-1"}));
    assert_eq!(site.run(&["days", "CAM-1"]).await.out, "2022-02-24\n2022-02-25\n");
    assert_eq!(site.lines(&["days", "CAM-2"]).await, [json!({"camera": "CAM-2", "date": "2022-03-01"})]);
    let said = site.run(&["days", "CAM-3"]).await;
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    assert!(said.err.contains("CAM-3") && said.err.contains("`hk-aws cameras`"), "{said:?}");
}

#[tokio::test]
async fn an_empty_bucket_is_no_failure() {
    let site = Site::start().await;
    let said = site.run(&["cameras"]).await;
    assert!(said.code == 0 && said.out.is_empty() && said.err.contains("s3://captures"), "{said:?}");
    assert_eq!(site.run(&["-q", "cameras"]).await.err, "");
    let said = site.run(&["list", "CAM-1", "--json"]).await;
    assert!(said.code == 0 && said.out.is_empty() && said.err.contains("`hk-aws cameras`"), "{said:?}");
}

#[tokio::test]
async fn a_list_is_in_the_order_of_time_and_can_be_narrowed() {
    let site = lived_in().await;
    let (early, middle, late) = (
        hikvision("010203", "MOTION_DETECTION"),
        hikvision("050607", "MOTION_DETECTION"),
        hikvision("230000", "LINE_CROSSING"),
    );
    let all = site.lines(&["list", "CAM-1"]).await;
    assert_eq!(files(&all), [&early, &middle, &late, "20220225T000000_snap.jpg"]);
    let first = json!({
        "key": format!("CAM-1/{DAY}/{early}"),
        "file": early,
        "camera": "CAM-1",
        "date": DAY,
        "taken_at": "2022-02-24T01:02:03+02:00",
        "event": "MOTION_DETECTION",
        "size": 23,
        "storage_class": "STANDARD",
        "partial": false,
    });
    assert_eq!(all[0], first);
    for (narrowed, expected) in [
        (&[DAY][..], &[&early, &middle, &late][..]),
        (&[DAY, "--event", "LINE_CROSSING"], &[&late]),
        (&["--event", "LINE_CROSSING", "--from", "2022-02-25"], &[]),
        (&["--from", "2022-02-24T05:06:07", "--to", "2022-02-24T23:00"], &[&middle]),
        (&[DAY, "--to", "2022-02-24T05:06"], &[&early]),
    ] {
        let lines = site.lines(&[&["list", "CAM-1"], narrowed].concat()).await;
        assert_eq!(files(&lines), expected, "{narrowed:?}");
    }
    let text = site.run(&["list", "CAM-1", DAY]).await;
    let first = text.out.lines().next().unwrap();
    let columns: Vec<&str> = first.split_whitespace().collect();
    assert_eq!(columns, ["2022-02-24T01:02:03+02:00", "23", "B", "MOTION_DETECTION", &format!("CAM-1/{DAY}/{early}")]);
}

#[tokio::test]
async fn listings_go_on_beyond_a_thousand_objects() {
    let site = Site::start().await;
    let first = NaiveDate::from_ymd_opt(2019, 1, 1).unwrap();
    for (number, date) in first.iter_days().take(1100).enumerate() {
        site.s3.insert(&format!("CAM/{date}/{}T050607_a.jpg", date.format("%Y%m%d")), "x");
        site.s3.insert(&format!("CAM-{number:04}/{DAY}/20220224T050607_a.jpg"), "x");
        site.s3.insert(&format!("FULL/{DAY}/20220224T050607_{number}.jpg"), "x");
    }
    assert_eq!(site.lines(&["cameras"]).await.len(), 1102);
    let days = site.lines(&["days", "CAM"]).await;
    assert_eq!(days.len(), 1100);
    assert_eq!(days[1099]["date"], (first + Days::new(1099)).to_string());
    assert_eq!(site.s3.count("ListObjectsV2"), 8, "once for the names, and once for what fits no layout");
    let listed = site.lines(&["list", "CAM"]).await;
    assert!(listed.len() == 1100 && listed.is_sorted_by_key(|line| line["date"].to_string()));
    assert_eq!(site.lines(&["list", "FULL", DAY]).await.len(), 1100);
}

#[tokio::test]
async fn a_whole_day_or_named_captures_are_downloaded() {
    let site = lived_in().await;
    let (day, some) = (site.path("day"), site.path("deep/some"));
    let lines = site.lines(&["get", "CAM-1", DAY, "--to", day.to_str().unwrap()]).await;
    assert_eq!((lines.len(), names(&day).len()), (3, 3));
    let file = hikvision("050607", "MOTION_DETECTION");
    let key = format!("CAM-1/{DAY}/{file}");
    let line = lines.iter().find(|line| line["key"] == key).unwrap();
    assert_eq!(line["to"].as_str(), day.join(&file).to_str());
    assert_eq!(std::fs::read_to_string(day.join(&file)).unwrap(), "050607 MOTION_DETECTION");

    // By name, and by key as `list` prints it.
    let key = format!("CAM-1/{DAY}/{}", hikvision("230000", "LINE_CROSSING"));
    let said = site.run(&["get", "CAM-1", DAY, &file, &key, &file, "--to", some.to_str().unwrap()]).await;
    assert_eq!((said.code, said.err.as_str(), said.out.lines().count()), (0, "", 2), "{said:?}");
    assert_eq!(names(&some).len(), 2);
}

#[tokio::test]
async fn what_is_there_already_is_never_replaced() {
    let site = lived_in().await;
    let to = site.path("got");
    std::fs::create_dir(&to).unwrap();
    let file = hikvision("050607", "MOTION_DETECTION");
    std::fs::write(to.join(&file), "mine").unwrap();
    let said = site.run(&["get", "CAM-1", DAY, "--to", to.to_str().unwrap()]).await;
    assert_eq!((said.code, said.out.lines().count()), (3, 2), "{said:?}");
    assert!(said.err.contains(&file) && said.err.contains("exists already"), "{said:?}");
    assert!(said.err.contains("1 of 3 failed"), "{said:?}");
    assert_eq!(std::fs::read_to_string(to.join(&file)).unwrap(), "mine");
    assert_eq!(names(&to).len(), 3, "no unfinished file is left");
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let site = lived_in().await;
    let to = site.path("got");
    let to = to.to_str().unwrap();
    let file = hikvision("050607", "MOTION_DETECTION");
    let said = site.run(&["get", "CAM-1", DAY, &file, "no.jpg", "--to", to]).await;
    assert_eq!((said.code, said.out.lines().count()), (3, 1), "{said:?}");
    assert!(said.err.contains("no.jpg: no such capture of CAM-1 on 2022-02-24"), "{said:?}");
    for (camera, date, part) in [("CAM-9", DAY, "`hk-aws cameras`"), ("CAM-1", "2022-02-26", "`hk-aws days CAM-1`")] {
        let said = site.run(&["get", camera, date, "--to", to]).await;
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
        assert!(said.err.contains(part), "{said:?}");
    }
    let nowhere = site.path("nothing");
    let said = site.run(&["get", "CAM-1", DAY, "no.jpg", "--to", nowhere.to_str().unwrap()]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(!nowhere.exists(), "no folder for nothing");
}

#[tokio::test]
async fn an_object_that_was_altered_in_the_bucket_is_refused() {
    let site = Site::start().await;
    let names = ["a", "b", "c"].map(|name| format!("192.168.1.64_01_20220224050607089_{name}.jpg"));
    for name in &names {
        site.drop_file(&format!("CAM/{name}"), b"as it was");
    }
    assert_eq!(site.run(&["upload"]).await.code, 0);
    // One is altered below S3; one is replaced by somebody who brings a checksum that fits.
    let key = |name: &str| format!("CAM/{DAY}/{name}");
    site.s3.edit(&key(&names[0]), |object| object.bytes = Some("as it is.".into()));
    site.s3.edit(&key(&names[1]), |object| {
        object.bytes = Some("as it is.".into());
        object.checksum = s3s::dto::Checksum::default();
    });
    let to = site.path("got");
    let said = site.run(&["get", "CAM", DAY, "--to", to.to_str().unwrap()]).await;
    assert_eq!((said.code, said.out.lines().count()), (3, 1), "{said:?}");
    for name in &names[..2] {
        assert!(said.err.contains(&key(name)) && said.err.contains("not the ones that were stored"), "{said:?}");
    }
    assert_eq!(super::names(&to), [names[2].clone()]);
    let said = site.run(&["get", "CAM", DAY, &names[0], "--to", to.to_str().unwrap()]).await;
    assert_eq!(said.code, 1, "{said:?}");
}

#[tokio::test]
async fn what_went_up_in_parts_comes_back_whole_or_not_at_all() {
    let site = Site::start().await;
    let clip: Vec<u8> = (0..17 << 20).map(|at: u32| at.to_le_bytes()[at as usize % 3]).collect();
    site.drop_file("CAM/192.168.1.64_01_20220224050607089.mp4", &clip);
    let said = site.run(&["upload"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(site.s3.count("CompleteMultipartUpload"), 1);
    let to = site.path("got");
    let said = site.run(&["get", "CAM", DAY, "--to", to.to_str().unwrap()]).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    let file = to.join("192.168.1.64_01_20220224050607089.mp4");
    assert!(std::fs::read(&file).unwrap() == clip);

    let altered: Vec<u8> = clip.iter().rev().copied().collect();
    site.s3.edit("CAM/2022-02-24/192.168.1.64_01_20220224050607089.mp4", |object| object.bytes = Some(altered.into()));
    let again = site.path("again");
    let said = site.run(&["get", "CAM", DAY, "--to", again.to_str().unwrap()]).await;
    assert!(said.code == 1 && said.err.contains("not the ones that were stored"), "{said:?}");
    assert!(names(&again).is_empty(), "no unfinished file is left");
}

#[tokio::test]
async fn a_refusal_to_read_says_what_would_help() {
    let site = lived_in().await;
    let to = site.path("got");
    let to = to.to_str().unwrap();
    site.s3.fault(Fault::fail("ListObjectsV2", 403, "AccessDenied"));
    let said = site.run(&["list", "CAM-1"]).await;
    assert!(said.code == 1 && said.err.contains("allow s3:ListBucket"), "{said:?}");
    site.s3.clear_faults();
    site.s3.fault(Fault::fail("GetObject", 403, "AccessDenied"));
    let said = site.run(&["get", "CAM-2", "2022-03-01", "--to", to]).await;
    assert!(said.code == 1 && said.err.contains("allow s3:GetObject"), "{said:?}");
    site.s3.clear_faults();
    site.s3.edit("CAM-2/2022-03-01/clip.mp4", |object| "GLACIER".clone_into(&mut object.storage_class));
    assert_eq!(site.lines(&["list", "CAM-2"]).await[0]["storage_class"], "GLACIER");
    let said = site.run(&["get", "CAM-2", "2022-03-01", "--to", to]).await;
    assert!(said.code == 1 && said.err.contains("restore it first"), "{said:?}");
}

#[tokio::test]
async fn a_list_shows_the_time_that_a_capture_was_filed_by() {
    let site = Site::start().await;
    let drop = |path: &str, bytes: &[u8], arrival: &str| {
        let path = site.drop_file(path, bytes);
        let arrival: DateTime<Utc> = arrival.parse().unwrap();
        File::options().write(true).open(path).unwrap().set_modified(arrival.into()).unwrap();
    };
    // In the hour that autumn repeats only the arrival tells which of the two it was.
    drop("CAM/x_00_20241027033000.jpg", b"second", "2024-10-27T01:30:05Z");
    // The content tells an offset that is not the camera's zone: 12:00:01 at +07:00.
    let text = b"DAT=2024-10-27\r\nTIM=12:00:01.250\r\nTIT=1730005201.250\r\n";
    let length = u16::try_from(text.len() + 2).unwrap().to_be_bytes();
    drop("CAM/snap.jpg", &[b"\xFF\xD8\xFF\xFE", &length[..], text, b"\xFF\xD9"].concat(), "2024-10-27T05:00:05Z");
    drop("CAM/2024-10-27T07_00_02+02_00.jpg", b"offset", "2024-10-27T05:00:05Z");
    // Only the day is known.
    drop("CAM/2024-10-27/a.jpg", b"day", "2024-10-28T05:00:05Z");
    let classified = site.lines(&["classify", "CAM/snap.jpg"]).await[0]["taken_at"].clone();
    assert_eq!(site.run(&["upload"]).await.code, 0);
    let instants = |lines: &[Value]| -> Vec<Option<i64>> {
        let time = |line: &Value| Some(DateTime::parse_from_rfc3339(line["taken_at"].as_str()?).unwrap().timestamp());
        lines.iter().map(time).collect()
    };
    let lines = site.lines(&["list", "CAM", "2024-10-27"]).await;
    let at = |time: &str| Some(time.parse::<DateTime<Utc>>().unwrap().timestamp());
    let expected = ["2024-10-27T01:30:00Z", "2024-10-27T05:00:01Z", "2024-10-27T05:00:02Z"].map(at);
    assert_eq!(instants(&lines), [&expected[..], &[None]].concat(), "{lines:?}");
    assert_eq!(instants(&[json!({ "taken_at": classified })]), [expected[1]], "as classify says");
    let said = site.run(&["list", "CAM", "2024-10-27", "--from", "2024-10-27T23:00"]).await;
    assert!(said.out.starts_with("2024-10-27 time unknown") && said.out.lines().count() == 1, "{said:?}");
    // Without the ledger the names tell the same, except which of the two hours it was.
    std::fs::remove_dir_all(site.path("state/ledger")).unwrap();
    let lines = site.lines(&["list", "CAM", "2024-10-27"]).await;
    assert_eq!(instants(&lines)[1..], [&expected[1..], &[None]].concat(), "{lines:?}");
}

#[tokio::test]
async fn another_layout_is_read_as_it_was_written() {
    let layout = ", prefix: site-1, key: \"{camera}/{year}/{month}/{day}/{hour}-{event}/{file}\"";
    let site = Site::start_with(layout, "").await;
    let (late, early) = (hikvision("230000", "A"), hikvision("050607", "MOTION_DETECTION"));
    site.drop_file(&format!("CAM/{late}"), b"late");
    site.drop_file(&format!("CAM/{early}"), b"early");
    site.s3.insert("CAM/2022-02-24/outside-of-the-prefix.jpg", "x");
    site.s3.insert("site-1/CAM/archive/2022-02-24.tar.old", "x");
    assert_eq!(site.run(&["upload"]).await.code, 0);
    assert!(site.s3.object(&format!("site-1/CAM/2022/02/24/05-MOTION_DETECTION/{early}")).is_some());
    assert_eq!(site.run(&["cameras"]).await.out, "CAM\n");
    assert_eq!(site.run(&["days", "CAM"]).await.out, "2022-02-24\n");
    assert_eq!(files(&site.lines(&["list", "CAM"]).await), [&early, &late]);
    assert_eq!(files(&site.lines(&["list", "CAM", DAY]).await), [&early, &late]);
    assert_eq!(site.run(&["days", "site-1"]).await.code, 1);
    let to = site.path("got");
    let said = site.run(&["get", "CAM", DAY, &late, "--to", to.to_str().unwrap()]).await;
    assert_eq!((said.code, names(&to)), (0, vec![late]), "{said:?}");
}

/// `HK_AWS_LISTED_OBJECTS=200000 cargo test --test it -- no_order_of_days --nocapture` says how much memory it takes where
/// there are more.
#[tokio::test]
async fn where_keys_are_in_no_order_of_days_a_list_that_would_not_fit_says_what_to_do() {
    let objects = std::env::var("HK_AWS_LISTED_OBJECTS").map_or(50_001, |objects| objects.parse().unwrap());
    let site = Site::start_with(", key: \"{camera}/{event}/{date}/{file}\"", "").await;
    for number in 0..objects {
        let event = if number % 5_000 == 0 { "RARE" } else { "MOTION" };
        let day = 1 + number % 28;
        site.s3.insert(&format!("CAM/{event}/2022-02-{day:02}/202202{day:02}T050607_{number}.jpg"), "x");
    }
    let (said, peak) = run_measured(&mut site.command(&["list", "CAM"])).await;
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    assert!(said.err.contains("more than 50000 captures") && said.err.contains("name a day"), "{said:?}");
    assert!(peak < MOST_KIB, "{peak} KiB");
    eprintln!("{objects} objects, list without a date: {} MiB", peak >> 10);
    // What is narrowed fits.
    let until = if objects > 50_001 { "2022-02-07" } else { "2022-02-02" };
    let lines = [
        (&["list", "CAM", "--to", until][..], 0..until[9..].parse::<usize>().unwrap() - 1),
        (&["list", "CAM", DAY], 23..24),
    ];
    for (line, days) in lines.into_iter().take(if objects > 50_001 { 2 } else { 1 }) {
        let (said, peak) = run_measured(&mut site.command(line)).await;
        let listed = (0..objects).filter(|number| days.contains(&(number % 28))).count();
        assert!(said.out.lines().count() == listed && peak < MOST_KIB, "{peak} KiB: {}", said.err);
        eprintln!("{objects} objects, {line:?}: {listed} captures, {} MiB", peak >> 10);
    }
    if objects > 50_001 {
        return;
    }
    // A rotation plans what fits, the oldest first.
    std::fs::create_dir(site.path("drop/CAM")).unwrap();
    site.s3.insert(&format!("CAM/MOTION/{today}/later.jpg", today = chrono::Utc::now().date_naive()), "x");
    let said = site.run(&["rotate", "--dry-run"]).await;
    assert!(said.out.contains("27 (2022-02-01..2022-02-27)") && said.out.contains("48216"), "{said:?}");
    assert!(said.err.contains("1 days wait; run `hk-aws rotate` again"), "{said:?}");
}

#[tokio::test]
async fn a_key_cannot_play_tricks_on_a_terminal() {
    let site = Site::start().await;
    site.s3.insert("CAM/2022-02-24/a\nb\u{9b}31m.jpg", "x");
    let said = site.run(&["list", "CAM"]).await;
    assert_eq!(said.out.lines().count(), 1, "{said:?}");
    assert!(said.out.contains("a\\nb\\u{9b}31m.jpg"), "{said:?}");
    assert_eq!(site.lines(&["list", "CAM"]).await[0]["file"], "a\nb\u{9b}31m.jpg");
}

/// A day with cut-off captures: two followed by whole ones, one of them beside its key, and three that were not.
async fn with_partials() -> Site {
    let site = Site::start().await;
    for (key, bytes) in [
        ("2022-02-24/20220224T010000_a~partial-00000001.jpg", "sup"),
        ("2022-02-24/20220224T010000_a.jpg", "superseded"),
        ("2022-02-24/20220224T020000_b~partial-00000002.jpg", "bes"),
        ("2022-02-24/20220224T020000_b~0a1b2c3d.jpg", "beside"),
        ("2022-02-24/20220224T030000_c~partial-00000003.jpg", "on"),
        ("2022-02-24/20220224T030000_c~partial-00000004.jpg", "only"),
        // Neither another day's, nor another name's, nor one that only looks alike.
        ("2022-02-24/20220224T040000_d~partial-00000005.jpg", "alone"),
        ("2022-02-25/20220224T040000_d.jpg", "tomorrow"),
        ("2022-02-24/20220224T040000_d.mp4", "clip"),
        ("2022-02-24/20220224T040000_d~copy.jpg", "copy"),
    ] {
        // What was cut off came before the whole ones.
        let before = Duration::from_mins(u64::from(key.contains("~partial-")));
        site.s3.insert_with(&format!("CAM/{key}"), bytes, |object| object.last_modified -= before);
    }
    site
}

const SHOWN: [&str; 7] = [
    "20220224T010000_a.jpg",
    "20220224T020000_b~0a1b2c3d.jpg",
    "20220224T030000_c~partial-00000003.jpg",
    "20220224T030000_c~partial-00000004.jpg",
    "20220224T040000_d.mp4",
    "20220224T040000_d~copy.jpg",
    "20220224T040000_d~partial-00000005.jpg",
];

#[tokio::test]
async fn a_cut_off_capture_is_listed_only_where_no_whole_one_followed() {
    let site = with_partials().await;
    let day = site.lines(&["list", "CAM", DAY]).await;
    assert_eq!(files(&day), SHOWN);
    let partial: Vec<bool> = day.iter().map(|line| line["partial"].as_bool().unwrap()).collect();
    assert_eq!(partial, SHOWN.map(|file| file.contains("~partial-")));
    let all = site.lines(&["list", "CAM"]).await;
    assert_eq!(files(&all), [&SHOWN[..], &["20220224T040000_d.jpg"]].concat());
    let narrowed = site.lines(&["list", "CAM", "--to", "2022-02-24T03:30"]).await;
    assert_eq!(files(&narrowed), SHOWN[..4]);
    let text = site.run(&["list", "CAM", DAY]).await.out;
    let marked: Vec<bool> = text.lines().map(|line| line.ends_with(".jpg  partial")).collect();
    assert_eq!(marked, partial, "{text}");
    assert_eq!(site.run(&["days", "CAM"]).await.out, "2022-02-24\n2022-02-25\n");
}

#[tokio::test]
async fn a_day_is_downloaded_as_it_is_listed_and_a_cut_off_capture_by_its_name() {
    let site = with_partials().await;
    let (day, some) = (site.path("day"), site.path("some"));
    let said = site.run(&["get", "CAM", DAY, "--to", day.to_str().unwrap()]).await;
    assert_eq!((said.code, names(&day)), (0, SHOWN.map(str::to_owned).to_vec()), "{said:?}");
    assert!(said.err.starts_with("2 cut-off captures left out") && said.err.lines().count() == 1, "{said:?}");
    let file = "20220224T010000_a~partial-00000001.jpg";
    let said = site.run(&["get", "CAM", DAY, file, "--to", some.to_str().unwrap()]).await;
    assert_eq!((said.code, said.err.as_str(), names(&some)), (0, "", vec![file.to_owned()]), "{said:?}");
}

#[tokio::test]
async fn a_cut_off_capture_is_hidden_only_by_a_whole_one_that_was_stored_later() {
    let site = Site::start().await;
    let now = SystemTime::now();
    // A camera whose counter began anew: the whole picture is another one, from before. The last two pairs are as old as
    // each other, and beside its key.
    for (file, minutes_ago) in [
        ("20220224T010000_1.jpg", 60),
        ("20220224T010000_1~partial-00000001.jpg", 30),
        ("20220224T020000_2.jpg", 30),
        ("20220224T020000_2~partial-00000002.jpg", 60),
        ("20220224T030000_3.jpg", 30),
        ("20220224T030000_3~partial-00000003.jpg", 30),
        ("20220224T040000_4.jpg", 90),
        ("20220224T040000_4~0a1b2c3d.jpg", 60),
        ("20220224T040000_4~partial-00000004.jpg", 30),
    ] {
        site.s3.insert_with(&format!("CAM/{DAY}/{file}"), file.to_owned(), |object| {
            object.last_modified = now - Duration::from_mins(minutes_ago);
        });
    }
    let (loose, hidden) = (site.lines(&["list", "CAM", DAY]).await, "20220224T020000_2~partial-00000002.jpg");
    assert!(loose.len() == 8 && !files(&loose).contains(&hidden), "{loose:?}");
    let said = site.run(&["get", "CAM", DAY, "--to", site.path("loose").to_str().unwrap()]).await;
    assert!(said.code == 0 && said.err.starts_with("1 cut-off capture left out"), "{said:?}");
    // In a bundle, the index knows when each was stored.
    site.bundle("CAM", DAY, &super::archive("STANDARD", ArchiveFormat::Tar)).await;
    assert_eq!(files(&site.lines(&["list", "CAM", DAY]).await), files(&loose));
    let said = site.run(&["get", "CAM", DAY, "--to", site.path("bundled").to_str().unwrap()]).await;
    assert_eq!((said.code, names(&site.path("bundled"))), (0, names(&site.path("loose"))), "{said:?}");
    assert_eq!(names(&site.path("bundled")).len(), 8);
}

#[tokio::test]
async fn a_name_that_was_escaped_and_cut_to_fit_hides_its_partial_too() {
    let site = Site::start().await;
    // Neither part of the path is text: 480 bytes become 1,440 in a key that has 1,024.
    let folder = site.path("drop/CAM").join(OsStr::from_bytes(&[0xE9; 240]));
    let send = async |end: &str, bytes: &[u8]| {
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(OsStr::from_bytes(&[&[0xE9; 240], end.as_bytes()].concat()));
        std::fs::write(&path, bytes).unwrap();
        let modified = SystemTime::UNIX_EPOCH + Duration::from_hours(457_000);
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert_eq!(site.run(&["upload"]).await.code, 0);
    };
    let whole = b"\xFF\xD8\xFF\xDA\x00\x04\x09\x09scan\xFF\xD9";
    send("1.jpg", &whole[..10]).await;
    send("2.jpg", &whole[..10]).await;
    let partials = site.lines(&["list", "CAM"]).await;
    assert!(partials.len() == 2 && partials.iter().all(|line| line["partial"] == true), "{partials:?}");
    send("1.jpg", whole).await;
    let listed = site.lines(&["list", "CAM"]).await;
    assert_eq!((site.s3.keys().len(), listed.len()), (3, 2), "{listed:?}");
    assert!(listed.iter().any(|line| line["partial"] == false), "{listed:?}");
}
