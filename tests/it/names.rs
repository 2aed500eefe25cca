//! What cameras call their files, and what is made of it: real names, and every name there can be.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use chrono::{DateTime, Datelike, Duration, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use hk_aws::capture::{self, Capture, TakenFrom};
use hk_aws::config::Config;
use hk_aws::key::Layout;
use proptest::prelude::*;

use crate::support::site::{Settings, Site, files, picture};

/// Real paths and what they say; the last columns are ours. Empty where the path does not say.
const NAMES: &str = include_str!("names.tsv");

fn config(rest: &str) -> Config {
    let text = format!("drop_folder: {{path: /drop}}\ns3: {{bucket: my-bucket}}\n{rest}");
    Config::parse(Path::new("names.yaml"), &text, &|_| None).unwrap()
}

fn utc() -> &'static Config {
    static UTC: LazyLock<Config> = LazyLock::new(|| config("timezone: UTC\nmax_clock_skew: null\n"));
    &UTC
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn key(config: &Config, capture: &Capture) -> String {
    Layout::new(&config.s3.prefix, config.s3.key.clone()).render(&capture.fields()).as_str().to_owned()
}

fn paths() -> impl Iterator<Item = &'static str> {
    NAMES.lines().skip(1).map(|line| line.split('\t').nth(1).unwrap())
}

#[test]
fn every_known_name_is_read_in_full() {
    let config = utc();
    let mut count = 0;
    for line in NAMES.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [vendor, path, taken, event, channel, media, camera, from] = columns[..] else { panic!("{line}") };
        let sighting = capture::sight(Path::new(path), config);
        let reading = &sighting.reading;
        let expected = (!taken.is_empty()).then(|| taken.parse::<NaiveDateTime>().unwrap());
        assert_eq!(reading.stamp.map(|stamp| stamp.wall), expected, "{path}");
        assert_eq!(reading.stamp.map_or("arrival", |stamp| stamp.from.as_str()), from, "{path}");
        assert_eq!(reading.event.as_deref().unwrap_or_default(), event, "{path}");
        assert_eq!(reading.channel.as_deref().unwrap_or_default(), channel, "{path}");
        assert_eq!(reading.vendor.unwrap_or("any"), vendor, "{path}");
        assert_eq!(format!("{:?}", sighting.media).to_lowercase(), media, "{path}");
        assert_eq!(sighting.camera, camera, "{path}");
        let capture = sighting.settle_by_path();
        assert_eq!(capture.map(|capture| capture.taken.naive_local()), expected, "{path}");
        count += 1;
    }
    assert!(count >= 110, "{count} names");
}

#[test]
fn no_two_known_names_share_a_key() {
    let config = utc();
    let mut keys = HashMap::new();
    for path in paths() {
        let capture = capture::classify(Path::new(path), at("2026-11-22T00:00:00Z"), config);
        if let Some(other) = keys.insert(key(config, &capture), path) {
            panic!("{path} and {other} share a key");
        }
    }
}

#[test]
fn folders_that_repeat_the_name_do_not_make_another_source() {
    let config = utc();
    let place = |path: &str| key(config, &capture::classify(Path::new(path), at("2026-11-22T00:00:00Z"), config));
    let plain = place("Den/2018_10_09_14_53_51_0.jpg");
    assert_eq!(plain, "Den/2018-10-09/2018_10_09_14_53_51_0.jpg");
    for path in ["Den/2018/10/09", "2018/10/09/Den", "Den/2018-10-09/14/jpg", "2018_10_08-2018_10_09/Den"] {
        assert_eq!(place(&format!("{path}/2018_10_09_14_53_51_0.jpg")), plain, "{path}");
    }
    for path in ["Den/2018/10/10", "Den/A", "Den/2018-10-09/15", "Den/dav", "Den/2018_10_10-2018_10_10"] {
        assert_ne!(place(&format!("{path}/2018_10_09_14_53_51_0.jpg")), plain, "{path}");
    }
    // A folder that only repeats the device says nothing new, but any other does.
    assert_eq!(place("Den/B/B_00_20260927140305.jpg"), "Den/2026-09-27/B_00_20260927140305.jpg");
    assert_ne!(place("Den/A/B_00_20260927140305.jpg"), place("Den/B/B_00_20260927140305.jpg"));
    // Nor does an hour beside the date if it is the name's, or a folder without a word.
    let of_hour = |folder: &str| place(&format!("Den/{folder}/B_00_20260927140305.jpg"));
    assert_eq!(of_hour("2026-09-27_14"), of_hour("B"));
    assert_ne!(of_hour("2026-09-27_13"), of_hour("2026-09-27_14"));
    assert_ne!(place("Den/_/__00_20260927140305.jpg"), place("Den/__00_20260927140305.jpg"));
    // A stamp made by us is not taken for a camera's.
    assert_ne!(place("Den/20261122T000000_a.jpg"), place("Den/a.jpg"));
}

/// Parts of paths that are alike once `/` has become `_`.
fn part() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "a",
        "b",
        "a_b",
        "b_a",
        "_",
        "2019-05-09",
        "2019-05-09_001",
        "001",
        "pic",
        "pic_001",
        "jpg",
        "dav",
        "06",
        "07",
        "06_07",
        "2019-05-09_07",
        "5",
        "current",
        "27[M][0@0][0]",
        "a~in-1a2b3c4d",
        "20261122T000000",
        "20261122T000000_a",
    ])
}

fn file() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "a.jpg",
        "a_b.jpg",
        "b.jpg",
        "TIMING.jpg",
        "current_TIMING.jpg",
        "27[M][0@0][0].jpg",
        "07_27[M][0@0][0].jpg",
        "06_07_27[M][0@0][0].jpg",
        "06.07.27[M][0@0][0].jpg",
        "001_06.07.27-06.07.28[M][0@0][0].jpg",
        "a",
        "a.",
        "10.0.0.1_01_20190509060727000_TIMING.jpg",
        "a_10.0.0.1_01_20190509060727000_TIMING.jpg",
        "b_10.0.0.1_01_20190509060727000_TIMING~in-1a2b3c4d.jpg",
        "001_20190509060727_[M][0@0][0].jpg",
        "20261122T000000_a.jpg",
        "20190509_060727.jpg",
    ])
}

/// Two paths have two keys. Where a name tells its time, folders may differ that say again what it says.
fn keys_are_apart(first: &Path, second: &Path) -> Result<(), TestCaseError> {
    let config = utc();
    let [one, other] = [first, second].map(|path| capture::classify(path, at("2026-11-22T00:00:00Z"), config));
    if first != second && key(config, &one) == key(config, &other) {
        let told = |path: &Path| -> Vec<OsString> {
            let implied = ["2019-05-09", "2019-05-09_06", "jpg", "06", "001", "pic_001"];
            path.iter().filter(|part| !implied.iter().any(|known| known == part)).map(OsString::from).collect()
        };
        prop_assert_eq!(one.taken_from, TakenFrom::Name);
        prop_assert_eq!(first.file_name(), second.file_name());
        prop_assert_eq!(told(first), told(second));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn two_sources_never_share_a_key(
        first in (proptest::collection::vec(part(), 0..5), file()),
        second in (proptest::collection::vec(part(), 0..5), file()),
    ) {
        let path = |(folders, file): &(Vec<&str>, &str)| {
            ["cam"].iter().chain(folders).chain([file]).collect::<PathBuf>()
        };
        keys_are_apart(&path(&first), &path(&second))?;
    }

    #[test]
    fn any_path_makes_a_capture_whose_key_reads_back(bytes: Vec<u8>, folders in proptest::collection::vec(part(), 0..4)) {
        let config = utc();
        let mut path: PathBuf = folders.iter().collect();
        path.push(OsString::from_vec(bytes));
        let capture = capture::classify(&path, at("2026-11-22T00:00:00Z"), config);
        let key = key(config, &capture);
        prop_assert!(key.len() <= 1024);
        let parts = Layout::new("", config.s3.key.clone()).parse(&key).unwrap();
        prop_assert_eq!(&*parts.camera, &*capture.camera);
        prop_assert_eq!(parts.date, capture.taken.date_naive());
        let told = capture::read_stored(&parts.camera, &parts.file, config);
        if let Some(taken) = told.taken {
            // Our own stamps have no fractions.
            prop_assert_eq!(taken.naive_local().date(), parts.date, "{}", key);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Where paths are likeliest to meet: they are one text but for what is `/` and what is `_` in nine places.
    #[test]
    fn paths_that_join_to_one_text_never_share_a_key(
        parts in (proptest::collection::vec(part(), 0..5), file()),
        skipped in 0..6_usize,
    ) {
        let config = utc();
        let text = parts.0.iter().chain([&parts.1]).copied().collect::<Vec<_>>().join("/");
        let places: Vec<usize> = text.match_indices(['/', '_']).map(|(at, _)| at).skip(skipped).take(9).collect();
        let mut known = HashMap::<String, PathBuf>::new();
        for way in 0..1_u32 << places.len() {
            let mut text = text.clone().into_bytes();
            for (bit, at) in places.iter().enumerate() {
                text[*at] = if way >> bit & 1 == 1 { b'/' } else { b'_' };
            }
            let text = String::from_utf8(text).unwrap();
            let path: PathBuf = Path::new("cam").join(text.trim_matches('/')).components().collect();
            let capture = capture::classify(&path, at("2026-11-22T00:00:00Z"), config);
            if let Some(other) = known.insert(key(config, &capture), path.clone()) {
                keys_are_apart(&other, &path)?;
            }
        }
    }
}

const ZONES: [Tz; 10] = [
    Tz::Europe__Kyiv,
    Tz::Europe__London,
    Tz::America__New_York,
    Tz::America__Sao_Paulo,
    Tz::America__St_Johns,
    Tz::Australia__Lord_Howe,
    Tz::Asia__Tehran,
    Tz::Africa__Casablanca,
    Tz::Pacific__Apia,
    Tz::Antarctica__Troll,
];

/// The instants at which a zone's offset changes, over twenty years.
fn changes(zone: Tz) -> Vec<DateTime<Utc>> {
    let offset = |at: DateTime<Utc>| zone.offset_from_utc_datetime(&at.naive_utc()).fix();
    let (mut found, mut at, end) = (Vec::new(), at("2010-01-01T00:00:00Z"), self::at("2030-01-01T00:00:00Z"));
    while at < end {
        let next = at + Duration::hours(6);
        if offset(at) != offset(next) {
            let (mut before, mut after) = (at, next);
            while after - before > Duration::minutes(1) {
                let middle = before + (after - before) / 2;
                if offset(middle) == offset(before) { before = middle } else { after = middle }
            }
            found.push(after);
        }
        at = next;
    }
    found
}

#[test]
fn a_cameras_time_is_the_instant_it_was_taken_at_around_every_change_of_its_clock() {
    let mut count = 0;
    for zone in ZONES {
        let config = config(&format!("timezone: {zone}\nmax_clock_skew: null\n"));
        for change in changes(zone) {
            count += 1;
            for minutes in (-240..=240).step_by(10) {
                let taken = change + Duration::minutes(minutes);
                let name = taken.with_timezone(&zone).format("cam/x_00_%Y%m%d%H%M%S.jpg").to_string();
                // A picture comes seconds later, a clip up to minutes.
                for late in [1, 300] {
                    let capture = capture::classify(Path::new(&name), taken + Duration::seconds(late), &config);
                    let lost = (taken - capture.taken.to_utc()).abs();
                    assert!(lost < Duration::minutes(1), "{zone} {taken}: {}", capture.taken);
                }
            }
            // A camera without DST writes the times that spring leaves out: read with the offset of before.
            let offset = |at: DateTime<Utc>| zone.offset_from_utc_datetime(&at.naive_utc()).fix();
            let (before, after) = (offset(change - Duration::hours(1)), offset(change));
            let gap = after.local_minus_utc() - before.local_minus_utc();
            if gap > 600 {
                let taken = change + Duration::seconds(i64::from(gap) / 2);
                let name = taken.with_timezone(&before).format("cam/x_00_%Y%m%d%H%M%S.jpg").to_string();
                let capture = capture::classify(Path::new(&name), taken, &config);
                assert!((taken - capture.taken.to_utc()).abs() < Duration::minutes(1), "{zone} {taken}");
            }
        }
    }
    assert!(count > 200, "{count} changes");
}

#[test]
fn a_time_that_cannot_be_is_filed_by_arrival() {
    let arrival = at("2025-02-18T12:00:00Z");
    let judged = |rest: &str, stamp: &str| {
        let path = format!("cam/192.168.1.64_01_{stamp}000_ALARM_INPUT.jpg");
        let capture = capture::classify(Path::new(&path), arrival, &config(&format!("timezone: UTC\n{rest}")));
        (capture.taken_from, capture.taken.year(), capture.camera_time.map(|told| told.year()))
    };
    let believed = |year| (TakenFrom::Name, year, None);
    let doubted = |year| (TakenFrom::Arrival, 2025, Some(year));
    for (rest, stamp, expected) in [
        ("", "20250218115958", believed(2025)),
        ("", "20250219115958", believed(2025)),
        ("", "20250219120002", doubted(2025)),
        ("", "20240115120000", believed(2024)),
        ("", "20240114115959", doubted(2024)),
        ("", "19700510061241", doubted(1970)),
        ("", "20000101000000", doubted(2000)),
        ("", "20990101000000", doubted(2099)),
        ("max_clock_skew: 36500d", "20110101000000", believed(2011)),
        ("max_clock_skew: 36500d", "20091231235959", doubted(2009)),
        ("max_clock_skew: 1h", "20250218105958", doubted(2025)),
        ("max_clock_skew: null", "19700510061241", believed(1970)),
        ("max_clock_skew: null", "20990101000000", doubted(2099)),
    ] {
        assert_eq!(judged(rest, stamp), expected, "{rest} {stamp}");
    }
    // What was never there is judged by its name alone.
    let path = Path::new("cam/192.168.1.64_01_19700510061241836_ALARM_INPUT.jpg");
    let capture = capture::sight(path, &config("")).settle_by_path().unwrap();
    assert_eq!((capture.taken.year(), capture.taken_from), (1970, TakenFrom::Name));
}

#[test]
fn a_folder_that_names_a_day_files_what_came_later() {
    let config = utc();
    let judged = |path: &str, arrival: &str| {
        let capture = capture::classify(Path::new(path), at(arrival), config);
        (capture.taken.to_rfc3339(), capture.taken_from)
    };
    for path in ["cam/2025-02-17/a.jpg", "2025/02/17/cam/a.jpg", "cam/20250217/12/a.jpg"] {
        // Nothing tells the time of day: never midnight, but the end of the day, and said to be unknown.
        let end_of_day = ("2025-02-17T23:59:59+00:00".to_owned(), TakenFrom::Folder);
        assert_eq!(judged(path, "2025-02-18T12:00:00Z"), end_of_day, "{path}");
        let capture = capture::classify(Path::new(path), at("2025-02-18T12:00:00Z"), config);
        assert!(capture.is_day_only, "{path}");
        let key = key(config, &capture);
        assert!(
            key.starts_with("cam/2025-02-17/20250217Txxxxxx_") && *key > *"cam/2025-02-17/20250217T235959_",
            "{key}"
        );
        let file = key.rsplit('/').next().unwrap();
        assert_eq!(capture::read_stored("cam", file, config).taken, None, "{path}");
        let arrival = ("2025-02-17T12:00:00+00:00".to_owned(), TakenFrom::Arrival);
        assert_eq!(judged(path, "2025-02-17T12:00:00Z"), arrival, "{path}");
    }
    // The days of a filing interval can be those of another time.
    assert_eq!(judged("cam/2025_02_17-2025_02_17/a.jpg", "2025-02-18T12:00:00Z").1, TakenFrom::Arrival);
}

#[tokio::test]
async fn every_known_name_goes_its_way() {
    let mut site = Site::new(Settings::default()).await;
    let config = site.config();
    let (beside, captures): (Vec<_>, Vec<_>) =
        paths().partition(|path| config.drop_folder.ignore.matches(Path::new(path)).is_some());
    for path in paths() {
        site.write(path, path.as_bytes());
    }
    site.start().await;
    let all = captures.len() as u64;
    let status = site.wait_for_status("all stored", |status| status.stored.captures == all).await;
    assert_eq!(status.waiting.ignored, beside.len() as u64);
    assert_eq!(files(&site.drop_path("")).len(), beside.len());
    // Each under a key of its own: nobody had to give way to another.
    assert_eq!(site.s3.requests().len(), captures.len());
    assert_eq!(site.s3.keys().len(), captures.len());
}

fn mp4_box(kind: &[u8], body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len() + 8).unwrap().to_be_bytes(), kind, body].concat()
}

/// A clip whose header was made at `created`, in the clip's own way of writing it.
fn clip(created: DateTime<Utc>) -> Vec<u8> {
    let since_1904 = u32::try_from(created.timestamp() + 2_082_844_800).unwrap().to_be_bytes();
    let header = [&[0; 4][..], &since_1904, &since_1904, &[0; 88]].concat();
    let movie = mp4_box(b"moov", &mp4_box(b"mvhd", &header));
    [mp4_box(b"ftyp", b"isom0000"), mp4_box(b"mdat", b"video"), movie].concat()
}

#[tokio::test]
async fn where_the_path_does_not_tell_the_time_the_content_does() {
    let rest = "cameras: [{name: UTC-CLIP, timezone: Asia/Tokyo}, {name: WALL-CLIP, timezone: Asia/Tokyo}]";
    let mut site = Site::new(Settings { rest, ..Settings::default() }).await;
    let text = b"DAT=2026-02-24\r\nTIM=12:00:01.250\r\n";
    let length = u16::try_from(text.len() + 2).unwrap().to_be_bytes();
    let picture = [b"\xFF\xD8\xFF\xFE", &length[..], text, b"\xFF\xD9"].concat();
    site.write("MOBOTIX/000/123/E00000.jpg", &picture);
    let now = Utc::now();
    let started = now - Duration::seconds(90);
    site.write("UTC-CLIP/clip.mp4", &clip(started));
    site.write("WALL-CLIP/clip.mp4", &clip(started + Duration::hours(9)));
    // A clip in a name that tells the time is not asked.
    site.write("NAMED/192.168.1.64_01_20260224120000000_1.mp4", &clip(started));
    site.start().await;
    site.wait_until_empty().await;
    let object = |key: &str| site.s3.object(key).unwrap_or_else(|| panic!("{key} is not among {:?}", site.s3.keys()));
    let mobotix = object("MOBOTIX/2026-02-24/20260224T120001_000_123_E00000~in-ccffdb34.jpg");
    assert_eq!(mobotix.metadata["taken-from"], "content");
    assert_eq!(mobotix.metadata["taken-at"], "2026-02-24T12:00:01.250+00:00");
    let tokyo = started.with_timezone(&Tz::Asia__Tokyo).format("%Y-%m-%d/%Y%m%dT%H%M%S");
    for camera in ["UTC-CLIP", "WALL-CLIP"] {
        assert_eq!(object(&format!("{camera}/{tokyo}_clip.mp4")).metadata["taken-from"], "content");
    }
    assert_eq!(object("NAMED/2026-02-24/192.168.1.64_01_20260224120000000_1.mp4").metadata["taken-from"], "name");
}

#[tokio::test]
async fn a_reset_camera_loses_nothing_and_its_clock_is_reported_once() {
    let mut site = Site::new(Settings { rest: "max_clock_skew: 400d", ..Settings::default() }).await;
    let mut expected = Vec::new();
    for number in 0..3 {
        let name = format!("192.168.1.64_01_1970010100000{number}000_TIMING.jpg");
        let path = site.write(format!("CAM/{name}"), name.as_bytes());
        let arrival: DateTime<Utc> = path.metadata().unwrap().modified().unwrap().into();
        expected.push(format!("CAM/{}_{name}", arrival.format("%Y-%m-%d/%Y%m%dT%H%M%S")));
    }
    site.write(format!("RIGHT/192.168.1.65_01_{}_TIMING.jpg", Utc::now().format("%Y%m%d%H%M%S%3f")), b"right");
    site.start().await;
    site.wait_until_empty().await;
    for (number, key) in expected.iter().enumerate() {
        let object = site.s3.object(key).unwrap_or_else(|| panic!("{key} is not among {:?}", site.s3.keys()));
        assert_eq!(object.metadata["taken-from"], "arrival");
        assert_eq!(object.metadata["camera-time"], format!("1970-01-01T00:00:0{number}+00:00"));
    }
    let status = site.wait_for_status("all stored", |status| status.stored.captures == 4).await;
    let wrong = status.cameras["CAM"].wrong_clock.as_ref().unwrap();
    assert_eq!(wrong.captures, 3);
    assert_eq!(status.cameras["RIGHT"].wrong_clock, None);
    let said = status.last_errors.iter().filter(|error| error.message.contains("clock of camera CAM is wrong"));
    assert_eq!(said.count(), 1);
}

#[tokio::test]
async fn what_cameras_and_servers_write_beside_captures_is_counted_and_named() {
    let mut site = Site::new(Settings::default()).await;
    let day = "cam/2026-02-24/001/dav/12";
    let beside = [
        format!("{day}/12.00.00-12.00.30[M][0@0][0].idx"),
        format!("{day}/12.00.00-12.00.00[M][0@0][0].mp4_"),
        "cam/DVRWorkDirectory".to_owned(),
        "cam/.pureftpd-upload.5f1e.15.1a2b.3c4d".to_owned(),
        "cam/.in.x.jpg.".to_owned(),
        "cam/x.tmp".to_owned(),
    ];
    for path in &beside {
        site.write(path, b"beside");
    }
    site.write(format!("{day}/12.00.00-12.00.30[M][0@0][0].mp4"), b"clip");
    site.write(format!("CAM/{}", picture(1)), b"picture");
    site.start().await;
    let status = site.wait_for_status("two stored", |status| status.stored.captures == 2).await;
    assert_eq!(status.waiting.ignored, beside.len() as u64);
    for path in &beside {
        let named = status.not_uploaded.iter().find(|file| file.path == *path).unwrap_or_else(|| panic!("{path}"));
        assert!(named.reason.as_ref().unwrap().contains("drop_folder.ignore"));
    }
    assert_eq!(files(&site.drop_path("")).len(), beside.len());
}

#[tokio::test]
async fn what_a_smashed_camera_left_under_a_temporary_name_is_stored_as_a_part_under_its_final_name() {
    let drop = "partial_after: 300ms, rescan: 100ms";
    let site = Site::started(Settings { drop, ..Settings::default() }).await;
    let left = [
        (
            "CAM/192.168.1.64_01_20260224120000000_TIMING.jpg.tmp",
            "CAM/2026-02-24/192.168.1.64_01_20260224120000000_TIMING",
        ),
        (
            "CAM/2026-02-24/001/dav/12/12.00.00-12.00.00[M][0@0][0].mp4_",
            "CAM/2026-02-24/20260224T120000_2026-02-24_001_dav_12_12.00.00-12.00.00[M][0@0][0]",
        ),
        ("CAM/x_00_20260224120001.mp4.PART", "CAM/2026-02-24/x_00_20260224120001"),
    ];
    let beside = ["CAM/lock_", "CAM/a.tmp", "CAM/Thumbs.db", "CAM/empty.jpg.tmp", "CAM/@eaDir/x.jpg"];
    for (path, _) in left {
        // Whole by its content: the name alone says that it is not.
        site.write(path, b"\xFF\xD8\xFF\xD9");
    }
    for path in beside {
        site.write(path, if path.contains("empty") { b"" } else { b"x" });
    }
    let status = site.wait_for_status("three stored", |status| status.stored.captures == 3).await;
    let keys = site.s3.keys();
    for (path, stem) in left {
        let key = keys
            .iter()
            .find(|key| key.starts_with(&format!("{stem}~partial-")))
            .unwrap_or_else(|| panic!("{path}: {keys:?}"));
        let object = site.s3.object(key).unwrap();
        assert_eq!(object.metadata["partial"], "true", "{key}");
        assert!(path.starts_with(&object.metadata["source"]) && object.metadata["source"].len() < path.len(), "{key}");
    }
    site.wait("only what is beside", || (files(&site.drop_path("")).len() == beside.len()).then_some(())).await;
    assert_eq!(status.waiting.set_aside, 0);
}
