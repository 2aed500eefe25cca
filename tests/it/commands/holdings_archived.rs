//! `cameras`, `days`, `list`, `get` where captures lie in bundles.

use std::io::Write;

use hk_aws::config::ArchiveSettings;
use hk_aws::key::ArchiveFormat;
use serde_json::{Value, json};

use super::{Said, Site, archive, names, run};
use crate::support::s3::Request;

const DAY: &str = "2022-02-24";
const BUNDLE: &str = "CAM/archive/2022-02-24.tar";
const INDEX: &str = "CAM/archive/2022-02-24.index.json";

fn picture(time: &str, event: &str) -> String {
    format!("192.168.1.64_01_20220224{time}000_{event}.jpg")
}

fn key(file: &str) -> String {
    format!("CAM/{DAY}/{file}")
}

/// The day's pictures in the order of time, with as many bytes as no two have.
fn pictures() -> [(String, Vec<u8>); 4] {
    let of = |time, event, byte, length| (picture(time, event), vec![byte; length]);
    [
        of("010203", "MOTION_DETECTION", 1, 3000),
        of("050607", "MOTION_DETECTION", 2, 70_001),
        of("120000", "LINE_CROSSING", 3, 0),
        of("230000", "LINE_CROSSING", 4, 512),
    ]
}

/// A site with a day of four pictures that is bundled.
async fn bundled_as(archive: &ArchiveSettings) -> Site {
    let site = Site::start().await;
    for (file, bytes) in pictures() {
        site.s3.insert(&key(&file), bytes);
    }
    site.bundle("CAM", DAY, archive).await;
    site
}

/// In a class that can be read.
async fn bundled() -> Site {
    bundled_as(&archive("STANDARD", ArchiveFormat::Tar)).await
}

fn files(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["file"].as_str().unwrap()).collect()
}

async fn get(site: &Site, files: &[&str], to: &str) -> Said {
    let to = site.path(to).into_os_string().into_string().unwrap();
    site.run(&[&["get", "CAM", DAY], files, &["--to", &to]].concat()).await
}

fn assert_whole(site: &Site, to: &str) {
    for (file, bytes) in pictures() {
        assert!(std::fs::read(site.path(to).join(&file)).unwrap() == bytes, "{file}");
    }
    assert_eq!(names(&site.path(to)).len(), 4);
}

/// What was read since `before` requests.
fn reads(site: &Site, before: usize) -> Vec<Request> {
    let requests = site.s3.requests().split_off(before);
    requests.into_iter().filter(|request| request.operation == "GetObject").collect()
}

/// A tar as the scripts that came before made it.
fn old_kit(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default()));
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, *bytes).unwrap();
    }
    let mut gzip = archive.into_inner().unwrap();
    gzip.flush().unwrap();
    gzip.finish().unwrap()
}

#[tokio::test]
async fn days_and_captures_in_bundles_are_listed_like_any_other() {
    let site = bundled_as(&archive("GLACIER", ArchiveFormat::TarGz)).await;
    assert!(site.s3.keys().iter().all(|key| key.starts_with("CAM/archive/")), "{:?}", site.s3.keys());
    site.s3.insert("CAM/2022-02-23/20220223T000000_before.jpg", "x");
    site.s3.insert("CAM/2022-02-26/20220226T000000_after.jpg", "x");
    // An intention, and a stranger.
    site.s3.insert("CAM/archive/2022-02-27.index.json", "{}");
    site.s3.insert("CAM/archive/notes.txt", "x");
    assert_eq!(site.run(&["cameras"]).await.out, "CAM\n");
    assert_eq!(site.run(&["days", "CAM"]).await.out, "2022-02-23\n2022-02-24\n2022-02-26\n");

    let all = site.lines(&["list", "CAM"]).await;
    let [a, b, c, d] = &pictures().map(|(file, _)| file);
    assert_eq!(files(&all), ["20220223T000000_before.jpg", a, b, c, d, "20220226T000000_after.jpg"]);
    let expected = json!({
        "key": key(b),
        "file": b,
        "camera": "CAM",
        "date": DAY,
        "taken_at": "2022-02-24T05:06:07+02:00",
        "event": "MOTION_DETECTION",
        "size": 70_001,
        "storage_class": "GLACIER",
        "partial": false,
        "bundle": "CAM/archive/2022-02-24.tar.gz",
    });
    assert_eq!(all[2], expected);
    assert!(all[0].get("bundle").is_none());
    for (narrowed, expected) in [
        (&[DAY][..], &[a, b, c, d][..]),
        (&[DAY, "--event", "LINE_CROSSING"], &[c, d]),
        (&["--from", "2022-02-24T05:06:07", "--to", "2022-02-24T12:00"], &[b]),
    ] {
        let lines = site.lines(&[&["list", "CAM"], narrowed].concat()).await;
        assert_eq!(files(&lines), expected, "{narrowed:?}");
    }
    let text = site.run(&["list", "CAM", DAY]).await;
    assert!(text.out.lines().all(|line| line.ends_with("in 2022-02-24.tar.gz, GLACIER")), "{text:?}");

    // Whoever looks at other days reads no index.
    let before = site.s3.requests().len();
    assert_eq!(site.lines(&["list", "CAM", "--from", "2022-02-25"]).await.len(), 1);
    assert_eq!(site.lines(&["list", "CAM", "2022-02-23"]).await.len(), 1);
    assert_eq!(reads(&site, before).len(), 0);
}

#[tokio::test]
async fn the_days_of_a_bucket_are_listed_in_order_wherever_they_lie() {
    let site = Site::start().await;
    for day in 1..=9 {
        site.s3.insert(&format!("CAM/2022-02-0{day}/2022020{day}T000000_a.jpg"), format!("{day}"));
    }
    for day in [1, 2, 5, 9] {
        let archive = archive("GLACIER", ArchiveFormat::TarZst);
        site.bundle("CAM", &format!("2022-02-0{day}"), &archive).await;
    }
    let lines = site.lines(&["list", "CAM"]).await;
    let days: Vec<&str> = lines.iter().map(|line| line["date"].as_str().unwrap()).collect();
    assert_eq!(days, (1..=9).map(|day| format!("2022-02-0{day}")).collect::<Vec<_>>());
    assert_eq!(lines.iter().filter(|line| line.get("bundle").is_some()).count(), 4);
    assert_eq!(site.run(&["days", "CAM"]).await.out.lines().count(), 9);
}

#[tokio::test]
async fn every_format_gives_its_members_back_and_one_of_them_moves_only_its_bytes() {
    for format in ArchiveFormat::ALL {
        let site = bundled_as(&archive("STANDARD", format)).await;
        let said = get(&site, &[], "day").await;
        assert_eq!((said.code, said.err.as_str(), said.out.lines().count()), (0, "", 4), "{format:?} {said:?}");
        assert_whole(&site, "day");

        let before = site.s3.requests().len();
        let (file, bytes) = &pictures()[1];
        let said = get(&site, &[file], "one").await;
        assert_eq!((said.code, names(&site.path("one"))), (0, vec![file.clone()]), "{said:?}");
        let of_bundle: Vec<u64> =
            reads(&site, before).iter().filter(|read| read.key != INDEX).map(|read| read.sent).collect();
        assert_eq!(of_bundle.len(), 1, "{format:?}");
        if format == ArchiveFormat::Tar {
            assert_eq!(of_bundle[0], bytes.len() as u64);
        } else {
            assert!(of_bundle[0] < 1000, "{of_bundle:?}");
        }
    }
}

#[tokio::test]
async fn a_day_in_parts_and_what_came_after_is_one_day() {
    let site = bundled_as(&ArchiveSettings { part_size: 80_000, ..archive("STANDARD", ArchiveFormat::Tar) }).await;
    assert_eq!(site.s3.keys().len(), 4, "{:?}", site.s3.keys());
    let late = picture("233000", "LATE");
    site.s3.insert(&key(&late), "late");
    let listed = site.lines(&["list", "CAM", DAY]).await;
    assert_eq!(listed.len(), 5);
    assert_eq!(listed[3]["bundle"], "CAM/archive/2022-02-24.part2.tar");
    let (file, _) = &pictures()[3];
    let said = get(&site, &[file, &late, &key(&pictures()[0].0)], "some").await;
    assert_eq!((said.code, names(&site.path("some")).len()), (0, 3), "{said:?}");
    let said = get(&site, &[], "day").await;
    assert_eq!((said.code, names(&site.path("day")).len()), (0, 5), "{said:?}");
}

#[tokio::test]
async fn a_capture_that_is_loose_and_in_a_bundle_is_one() {
    let site = bundled().await;
    let [(a, bytes), (b, _), ..] = &pictures();
    // A run that ended before the deletion leaves it; another picture of the same name is another capture.
    site.s3.insert(&key(a), bytes.clone());
    site.s3.insert(&key(b), "another one");
    let listed = site.lines(&["list", "CAM", DAY]).await;
    assert_eq!(listed.len(), 5);
    assert!(listed[0]["file"] == *a && listed[0].get("bundle").is_none());
    let said = get(&site, &[], "day").await;
    assert_eq!((said.code, said.out.lines().count()), (0, 5), "{said:?}");
    assert_eq!(std::fs::read(site.path("day").join(b)).unwrap(), b"another one");
    let hash = crate::support::site::sha256(&pictures()[1].1);
    let beside = b.replace(".jpg", &format!("~{}.jpg", &hash[..8]));
    assert_eq!(std::fs::read(site.path("day").join(beside)).unwrap(), pictures()[1].1);
}

#[tokio::test]
async fn what_is_not_restored_is_said_once_with_the_command_that_helps() {
    let site = bundled_as(&archive("GLACIER", ArchiveFormat::Tar)).await;
    site.s3.insert(&key(&picture("233000", "LATE")), "late");
    let said = get(&site, &[], "day").await;
    assert_eq!((said.code, said.out.lines().count()), (3, 1), "{said:?}");
    assert_eq!(said.err.matches("hk-aws restore CAM 2022-02-24").count(), 1, "{said:?}");
    assert!(said.err.contains("4 captures of CAM on 2022-02-24 lie in GLACIER"), "{said:?}");
    assert_eq!(said.err.lines().count(), 2, "{said:?}");
    let said = get(&site, &[&pictures()[0].0], "day").await;
    assert_eq!(said.code, 1, "{said:?}");
    let restore = |header: &'static str| site.s3.edit(BUNDLE, |bundle| bundle.restore = Some(header.into()));
    restore("ongoing-request=\"true\"");
    let said = get(&site, &[], "day").await;
    assert!(said.code == 3 && said.err.contains("`hk-aws restore CAM 2022-02-24 --wait`"), "{said:?}");
    restore("ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2029 00:00:00 GMT\"");
    let said = get(&site, &[], "day").await;
    assert_eq!((said.code, names(&site.path("day")).len()), (0, 5), "{said:?}");
    assert!(said.err.contains("1 capture is there already"), "{said:?}");
}

#[tokio::test]
async fn a_download_that_broke_off_is_run_again() {
    let site = bundled().await;
    let (ours, theirs) = (picture("233000", "OURS"), picture("233001", "THEIRS"));
    site.drop_file(&format!("CAM/{ours}"), b"ours");
    assert_eq!(site.run(&["upload"]).await.code, 0);
    // Stored by a hand that wrote no SHA-256 beside it.
    site.s3.insert(&key(&theirs), "theirs");
    assert_eq!(get(&site, &[], "day").await.code, 0);
    let cut = site.path("day").join(&pictures()[1].0);
    std::fs::remove_file(&cut).unwrap();
    let before = site.s3.requests().len();
    let lines = site.lines(&["get", "CAM", DAY, "--to", site.path("day").to_str().unwrap()]).await;
    assert_eq!(lines.len(), 6);
    assert_eq!(lines.iter().filter(|line| line["already"] == true).count(), 5);
    let moved: Vec<String> = reads(&site, before).into_iter().map(|read| read.key).filter(|key| key != INDEX).collect();
    assert_eq!(moved, [BUNDLE], "one member is moved, nothing else");
    // Another file of that name is nobody's.
    for file in [&ours, &theirs, &pictures()[0].0] {
        let path = site.path("day").join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[0] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    let said = get(&site, &[], "day").await;
    assert_eq!((said.code, said.err.matches("exists already").count()), (3, 3), "{said:?}");
}

#[tokio::test]
async fn a_bundle_that_was_altered_gives_nothing_of_what_was_altered() {
    let site = bundled().await;
    site.s3.edit(BUNDLE, |bundle| {
        let mut bytes = bundle.bytes.take().unwrap().to_vec();
        let at = bytes.windows(3000).position(|window| *window == [1; 3000]).unwrap();
        bytes[at + 1500] ^= 1;
        bundle.bytes = Some(bytes.into());
    });
    let said = get(&site, &[], "day").await;
    assert_eq!((said.code, said.out.lines().count()), (3, 3), "{said:?}");
    assert!(said.err.contains(&pictures()[0].0) && said.err.contains("altered"), "{said:?}");
    assert_eq!(names(&site.path("day")).len(), 3);
}

#[tokio::test]
async fn the_archives_of_the_scripts_that_came_before_are_listed_and_unpacked_into_one_folder() {
    let site = Site::start().await;
    let (one, two) = (picture("010203", "A"), picture("050607", "B"));
    let deep = format!("mnt/s3/{DAY}/{one}");
    let bundle = old_kit(&[
        (&deep, b"one"),
        (&two, b"two"),
        ("../../../evil.jpg", b"evil"),
        ("/etc/absolute.jpg", b"absolute"),
        ("nothing/..", b"dots"),
        ("again/evil.jpg", b"other"),
    ]);
    site.s3.insert("CAM/archive/2022-02-24.tar.gz", bundle);
    assert_eq!(site.run(&["days", "CAM"]).await.out, "2022-02-24\n");
    let said = site.run(&["--json", "list", "CAM"]).await;
    let listed: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, said.err.lines().count()), (0, 1), "{said:?}");
    assert!(said.err.contains("no index") && said.err.contains("hk-aws get CAM"), "{said:?}");
    assert_eq!(listed["file"], "2022-02-24.tar.gz");
    assert_eq!((&listed["bundle"], &listed["event"]), (&json!("CAM/archive/2022-02-24.tar.gz"), &Value::Null));

    let said = get(&site, &[], "deep/day").await;
    assert_eq!((said.code, said.out.lines().count()), (3, 5), "{said:?}");
    assert!(said.err.contains("nothing/.."), "{said:?}");
    let to = site.path("deep/day");
    let hash = crate::support::site::sha256(b"other");
    let beside = format!("evil~{}.jpg", &hash[..8]);
    let mut expected = vec![one.clone(), two.clone(), "absolute.jpg".into(), "evil.jpg".into(), beside];
    expected.sort();
    assert_eq!(names(&to), expected);
    assert_eq!(std::fs::read(to.join(&one)).unwrap(), b"one");
    assert!(!site.path("evil.jpg").exists());

    // Again, and only what is asked for.
    let said = get(&site, &[], "deep/day").await;
    assert!(said.code == 3 && said.err.contains("5 captures are there already"), "{said:?}");
    let said = get(&site, &[&two, &key(&one)], "some").await;
    assert_eq!((said.code, names(&site.path("some"))), (0, vec![one, two.clone()]), "{said:?}");
    let said = get(&site, &["no.jpg", &two], "some").await;
    assert!(said.code == 3 && said.err.contains("no.jpg: no such capture"), "{said:?}");
    // A file in the way is nobody's.
    std::fs::write(site.path("some").join(&two), "mine").unwrap();
    let said = get(&site, &[&two], "some").await;
    assert!(said.code == 1 && said.err.contains("exists already"), "{said:?}");
    assert_eq!(std::fs::read(site.path("some").join(&two)).unwrap(), b"mine");
}

#[tokio::test]
async fn a_bundle_and_an_archive_of_the_scripts_of_one_day_do_not_mask_each_other() {
    // In the order of keys one comes before theirs, and the other after.
    for format in [ArchiveFormat::Tar, ArchiveFormat::TarZst] {
        let site = bundled_as(&archive("STANDARD", format)).await;
        let (late, theirs) = (picture("233000", "LATE"), "CAM/archive/2022-02-24.tar.gz");
        site.s3.insert(theirs, old_kit(&[(&late, b"late")]));
        let said = site.run(&["list", "CAM", DAY]).await;
        assert_eq!((said.code, said.out.lines().count()), (0, 5), "{format:?} {said:?}");
        assert_eq!(said.out.matches(&format!("in {DAY}.{}, STANDARD", format.extension())).count(), 4, "{said:?}");
        assert!(said.out.contains("2022-02-24.tar.gz  no index") && said.err.contains(theirs), "{said:?}");
        let said = get(&site, &[], "day").await;
        assert_eq!((said.code, said.out.lines().count()), (0, 5), "{said:?}");
        assert_eq!(std::fs::read(site.path("day").join(&late)).unwrap(), b"late");
        let said = get(&site, &[&pictures()[1].0, &late], "some").await;
        assert_eq!((said.code, names(&site.path("some")).len()), (0, 2), "{said:?}");
        // What is archived already is bundled no second time, and what is new gets a part of its own.
        site.s3.insert(&key(&picture("234500", "NEW")), "new");
        site.bundle("CAM", DAY, &archive("STANDARD", format)).await;
        assert_eq!(site.lines(&["list", "CAM", DAY]).await.len(), 6);
        for bundle in [format.extension(), "tar.gz"].map(|extension| format!("CAM/archive/{DAY}.{extension}")) {
            site.s3.edit(&bundle, |object| "GLACIER".clone_into(&mut object.storage_class));
        }
        let said = site.run(&["restore", "CAM", DAY, "--yes"]).await;
        assert_eq!((said.code, site.s3.count("RestoreObject")), (0, 2), "{said:?}");
        // Their archive does not stand for a bundle that somebody took away.
        site.s3.remove(&format!("CAM/archive/{DAY}.{}", format.extension()));
        let listed = site.lines(&["list", "CAM", DAY]).await;
        assert_eq!(files(&listed), ["2022-02-24.tar.gz".to_owned(), picture("234500", "NEW")]);
    }
}

#[tokio::test]
async fn a_bundle_that_is_cut_off_gives_what_it_has_and_says_so() {
    let site = Site::start().await;
    let noise = crate::support::site::bytes(7, 100_000);
    let bundle = old_kit(&[(&picture("010203", "A"), b"one"), (&picture("050607", "B"), &noise)]);
    site.s3.insert("CAM/archive/2022-02-24.tar.gz", bundle[..bundle.len() / 2].to_vec());
    let said = get(&site, &[], "day").await;
    assert_eq!((said.code, said.out.lines().count()), (3, 1), "{said:?}");
    assert!(said.err.contains("cannot be read to its end"), "{said:?}");
    assert_eq!(names(&site.path("day")), [picture("010203", "A")]);
}

#[tokio::test]
async fn a_lost_index_costs_a_larger_download_and_nothing_else() {
    let site = bundled().await;
    site.s3.edit(INDEX, |index| index.len = 0);
    let client = site.s3.client();
    client.delete_object().bucket("captures").key(INDEX).send().await.unwrap();
    let said = get(&site, &[&pictures()[1].0], "one").await;
    assert_eq!((said.code, names(&site.path("one")).len()), (0, 1), "{said:?}");
    assert!(said.err.contains("no index"), "{said:?}");
    assert_eq!(get(&site, &[], "day").await.code, 0);
    assert_whole(&site, "day");
    // One look shows that it is cold, and nothing is downloaded.
    site.s3.edit(BUNDLE, |bundle| "DEEP_ARCHIVE".clone_into(&mut bundle.storage_class));
    let before = site.s3.count("GetObject");
    let said = get(&site, &[], "again").await;
    assert!(said.code == 1 && said.err.contains("hk-aws restore CAM 2022-02-24"), "{said:?}");
    assert_eq!(site.s3.count("GetObject"), before + 1);
}

#[tokio::test]
async fn a_damaged_index_is_named_and_what_else_there_is_is_listed() {
    let site = bundled().await;
    site.s3.insert(&key(&picture("233000", "LATE")), "late");
    site.s3.insert(INDEX, "{\"version\": 1");
    let said = site.run(&["list", "CAM"]).await;
    assert_eq!((said.code, said.out.lines().count()), (3, 1), "{said:?}");
    assert!(said.err.contains(INDEX) && said.err.contains("damaged"), "{said:?}");
    let said = get(&site, &[], "day").await;
    assert_eq!((said.code, names(&site.path("day")).len()), (0, 5), "{said:?}");
    assert!(said.err.contains(INDEX) && said.err.contains("damaged"), "{said:?}");
}

#[tokio::test]
async fn a_disk_with_too_little_room_is_said_before_anything_is_downloaded() {
    let site = bundled().await;
    let (large, file) = (key(&picture("233000", "LARGE")), picture("010203", "MOTION_DETECTION"));
    site.s3.insert(&large, "x");
    site.s3.edit(&large, |object| object.len = 1 << 60);
    let before = site.s3.requests().len();
    // As it is typed: a folder to come, named from here.
    let said = run(site.command(&["get", "CAM", DAY, "--to", "day"]).current_dir(site.path(""))).await;
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    assert!(said.err.contains("free") && said.err.contains("1.00 EiB") && said.err.contains("--to"), "{said:?}");
    assert!(reads(&site, before).iter().all(|read| read.key == INDEX) && !site.path("day").exists());
    assert_eq!(get(&site, &[&file], "day").await.code, 0, "what fits can be had");
}
