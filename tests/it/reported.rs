//! Names that people reported, and every name of the same kinds: stamps in any spelling, dates in folders, channels, cameras.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::LazyLock;

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use hk_aws::capture::naming::{self, Trial};
use hk_aws::capture::{self, Capture, TakenFrom};
use hk_aws::config::Config;
use hk_aws::key::Layout;
use proptest::prelude::*;

fn config(rest: &str) -> Config {
    let text = format!("drop_folder: {{path: /drop}}\ns3: {{bucket: my-bucket}}\nmax_clock_skew: null\n{rest}");
    Config::parse(Path::new("reported.yaml"), &text, &|_| None).unwrap_or_else(|error| panic!("{error}"))
}

fn utc() -> &'static Config {
    static UTC: LazyLock<Config> = LazyLock::new(|| config("timezone: UTC\n"));
    &UTC
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn key(config: &Config, capture: &Capture) -> String {
    Layout::new("", config.s3.key.clone()).render(&capture.fields()).as_str().to_owned()
}

/// Paths with the camera, time and channel that they tell; `-` for a channel that they do not tell.
const REPORTED: &[(&str, &str, &str, &str)] = &[
    // Begin and end.
    ("cam/NVR_02_20261119235530_20261120000512.mp4", "cam", "2026-11-19T23:55:30", "02"),
    ("NVR_02_20261119235530_20261120000512.mp4", "NVR", "2026-11-19T23:55:30", "02"),
    ("cam/192.168.1.64_01_20261119235530_20261120000512.mp4", "cam", "2026-11-19T23:55:30", "01"),
    ("cam/192.168.1.64_20261119235530-20261120000512.mp4", "cam", "2026-11-19T23:55:30", "-"),
    ("cam/NVR_01_2026-11-19_23-55-30_2026-11-20_00-05-12.mp4", "cam", "2026-11-19T23:55:30", "01"),
    ("cam/2026-11-19-23-55-30-2026-11-20-00-05-12.mp4", "cam", "2026-11-19T23:55:30", "-"),
    ("cam/20261119_235530_20261120_000512.mp4", "cam", "2026-11-19T23:55:30", "-"),
    ("cam/front-20261119T235530-20261120T000512.mkv", "cam", "2026-11-19T23:55:30", "-"),
    ("cam/20261119_235530,20261120_000512.mp4", "cam", "2026-11-19T23:55:30", "-"),
    ("cam/2026.11.19_23.55.30.2026.11.20_00.05.12.mp4", "cam", "2026-11-19T23:55:30", "-"),
    ("cam/20261119_235530_235612.mp4", "cam", "2026-11-19T23:55:30", "-"),
    ("cam/20261119_235530_000012.mp4", "cam", "2026-11-19T23:55:30", "-"),
    // Offsets.
    ("gate_2026-11-09T10_30_54-0300.mp4", "gate", "2026-11-09T13:30:54", "-"),
    ("gate_2026-11-09T10_30_54-0800.mp4", "gate", "2026-11-09T18:30:54", "-"),
    ("gate_2026-11-09T10_30_54+00_00.mp4", "gate", "2026-11-09T10:30:54", "-"),
    ("gate_2026-11-09T10:30:54-05:00.mp4", "gate", "2026-11-09T15:30:54", "-"),
    ("gate_2026-11-09T20_30_54-05_00.mp4", "gate", "2026-11-10T01:30:54", "-"),
    ("gate_20261109T103054+0545.mp4", "gate", "2026-11-09T04:45:54", "-"),
    ("gate_20261109T103054Z.mp4", "gate", "2026-11-09T10:30:54", "-"),
    ("gate_2026-11-09_10-30-54_UTC.mp4", "gate", "2026-11-09T10:30:54", "-"),
    ("10.0.0.1_01_20261109103054000_UTC.jpg", "10.0.0.1", "2026-11-09T10:30:54", "01"),
    ("gate_2026-11-09_10-30-54_UTC+2.mp4", "gate", "2026-11-09T08:30:54", "-"),
    ("gate_2026-11-09_10-30-54 GMT-03:30.mp4", "gate", "2026-11-09T14:00:54", "-"),
    ("gate_20261109T103054z.mp4", "gate", "2026-11-09T10:30:54", "-"),
    ("gate_2026-11-09 10.30.54-3:00.mp4", "gate", "2026-11-09T13:30:54", "-"),
    ("gate_2026-11-09 10.30.54+530.mp4", "gate", "2026-11-09T05:00:54", "-"),
    ("10.0.0.1_01_20261109103054000_UTC-5.jpg", "10.0.0.1", "2026-11-09T15:30:54", "01"),
    // What looks like an offset, and is a counter.
    ("gate_20261109-103054-3.mp4", "gate", "2026-11-09T10:30:54", "-"),
    ("gate_20261109-103054-0007.mp4", "gate", "2026-11-09T10:30:54", "-"),
    ("gate_20261109-103054-0000.mp4", "gate", "2026-11-09T10:30:54", "-"),
    // Date in the folders.
    ("cam/2026-11-09/10-30-54Z.jpg", "cam", "2026-11-09T10:30:54", "-"),
    ("cam/2026-11-09/10-30-54-0300.jpg", "cam", "2026-11-09T13:30:54", "-"),
    ("cam/2026-11-09/10hour/30min/54.jpg", "cam", "2026-11-09T10:30:54", "-"),
    ("cam/2026-11-09/10-30-54.jpg", "cam", "2026-11-09T10:30:54", "-"),
    ("2026-11-09/cam/10-30-54.jpg", "cam", "2026-11-09T10:30:54", "-"),
    ("cam/2026/11/09/front_10-30-54.jpg", "cam", "2026-11-09T10:30:54", "-"),
    ("cam/2026/11-09/front_10.30.54.jpg", "cam", "2026-11-09T10:30:54", "-"),
    ("cam/2026-11/09/103054.jpg", "cam", "2026-11-09T10:30:54", "-"),
    ("cam/20261109/103054.jpg", "cam", "2026-11-09T10:30:54", "-"),
    ("cam/20261109/front_103054_2.jpg", "cam", "2026-11-09T10:30:54", "-"),
    ("cam/20261109/103054468.jpg", "cam", "2026-11-09T10:30:54.468", "-"),
    ("cam/20261109/03.30.54 PM.jpg", "cam", "2026-11-09T15:30:54", "-"),
    ("cam/20261109/20261109_10_30_54.jpg", "cam", "2026-11-09T10:30:54", "-"),
    ("cam/20261109/20261110_10_30_54.jpg", "cam", "2026-11-10T10:30:54", "-"),
    ("cam/2026-11-09/10/30-54.mp4", "cam", "2026-11-09T10:30:54", "-"),
    ("cam/2026-11-09/10/30/54.jpg", "cam", "2026-11-09T10:30:54", "-"),
    ("cam/2026-11-09/10/30/54/1.jpg", "cam", "2026-11-09T10:30:54", "-"),
    ("cam/2026-11-09/00_10_30_54.jpg", "cam", "2026-11-09T00:10:30", "-"),
    ("cam/2026-11-09/front_00_10_30_54.jpg", "cam", "2026-11-09T10:30:54", "-"),
    ("mon/26/11/09/10/30/54/00001-capture.jpg", "mon", "2026-11-09T10:30:54", "-"),
    ("recordings/2026-11-09/10/front/30.54.mp4", "front", "2026-11-09T10:30:54", "-"),
    ("cam/2026110910/30M54S_1794220254.mp4", "cam", "2026-11-09T10:30:54", "-"),
    ("2026110910/30M54S_1794220254.mp4", "unknown", "2026-11-09T10:30:54", "-"),
    ("record/20261109/10/30.mp4", "unknown", "2026-11-09T10:30:00", "-"),
    ("cam/2018/10/09/01.59.10-02.03.13[M][0@0][0].dav", "cam", "2018-10-09T01:59:10", "-"),
    // Clocks of twelve hours, fractions, other spellings.
    ("cam/2026-11-09 03.34.52 PM.jpg", "cam", "2026-11-09T15:34:52", "-"),
    ("cam/2026-11-09 03.34.52 p.m.jpg", "cam", "2026-11-09T15:34:52", "-"),
    ("cam/2026-11-09_12-34-52_A.M._x.jpg", "cam", "2026-11-09T00:34:52", "-"),
    ("cam/2026-11-09 at 3.34.52\u{202f}PM.jpg", "cam", "2026-11-09T15:34:52", "-"),
    ("cam/2026-11-09/3.34.52 PM.jpg", "cam", "2026-11-09T15:34:52", "-"),
    ("cam/[2026-11-09][15-34-52].jpg", "cam", "2026-11-09T15:34:52", "-"),
    ("cam/2026-11-09 at 3.34.52 PM.jpg", "cam", "2026-11-09T15:34:52", "-"),
    ("cam/20261109_033452PM.jpg", "cam", "2026-11-09T15:34:52", "-"),
    ("cam/20261109_123452AM.jpg", "cam", "2026-11-09T00:34:52", "-"),
    ("cam/20261109_123452_pm_2.jpg", "cam", "2026-11-09T12:34:52", "-"),
    ("cam/2026-11-09_15-34-52-468181.jpg", "cam", "2026-11-09T15:34:52.468181", "-"),
    ("cam/20261109_153452_123456.jpg", "cam", "2026-11-09T15:34:52.123456", "-"),
    ("cam/front_20261109_153452_123456.jpg", "cam", "2026-11-09T15:34:52.123456", "-"),
    ("cam/20261109153452.468.jpg", "cam", "2026-11-09T15:34:52.468", "-"),
    ("cam/20261109_122648771.jpg", "cam", "2026-11-09T12:26:48.771", "-"),
    ("cam/20261109122648771123.jpg", "cam", "2026-11-09T12:26:48.771123", "-"),
    ("cam/2026_1109_122648_001F.MP4", "cam", "2026-11-09T12:26:48", "-"),
    ("cam/20261109-12.26.48.jpg", "cam", "2026-11-09T12:26:48", "-"),
    ("cam/2026Y11M09D12H26M48S.mp4", "cam", "2026-11-09T12:26:48", "-"),
    ("cam/20261109_122648.264", "cam", "2026-11-09T12:26:48", "-"),
    ("cam/20261109_122648.jpg.1", "cam", "2026-11-09T12:26:48", "-"),
    // Channels, and folders that are no cameras.
    ("cam/x_CH01_20261109122648.jpg", "cam", "2026-11-09T12:26:48", "01"),
    ("cam/_CH2_20261109122648.jpg", "cam", "2026-11-09T12:26:48", "2"),
    ("cam/ch0_20261109122648.jpg", "cam", "2026-11-09T12:26:48", "0"),
    ("cam/ch1/20261109122648.jpg", "cam", "2026-11-09T12:26:48", "1"),
    ("cam/x_CH_02-20261109122648.jpg", "cam", "2026-11-09T12:26:48", "02"),
    ("cam/chan4/20261109122648.jpg", "cam", "2026-11-09T12:26:48", "4"),
    ("cam/Channel 3/20261109122648.jpg", "cam", "2026-11-09T12:26:48", "3"),
    ("xiaomi_camera_videos/78DF72001122/2026110912/26M48S_1794220008.mp4", "78DF72001122", "2026-11-09T12:26:48", "-"),
    ("alarm/20261109/20261109_12_26_48.jpg", "unknown", "2026-11-09T12:26:48", "-"),
    ("alarm/front_20261109122648.jpg", "front", "2026-11-09T12:26:48", "-"),
    ("recordings/front/20261109122648.jpg", "front", "2026-11-09T12:26:48", "-"),
    ("2026/11/front_20261109122648.jpg", "front", "2026-11-09T12:26:48", "-"),
    ("2026-11/front_20261109122648.jpg", "front", "2026-11-09T12:26:48", "-"),
];

#[test]
fn what_people_reported_is_read() {
    for (path, camera, taken, channel) in REPORTED {
        let capture = capture::sight(Path::new(path), utc()).settle_by_path().unwrap_or_else(|| panic!("{path}"));
        assert_eq!(capture.taken.naive_utc(), taken.parse::<NaiveDateTime>().unwrap(), "{path}");
        assert_eq!(capture.camera, *camera, "{path}");
        assert_eq!(capture.channel.as_deref().unwrap_or("-"), *channel, "{path}");
        let key = key(utc(), &capture);
        let stored = capture::read_stored(&capture.camera, key.rsplit('/').next().unwrap(), utc());
        let seconds = |time: DateTime<_>| time.timestamp();
        assert_eq!(stored.taken.map(seconds), Some(seconds(capture.taken)), "{path}: {key}");
    }
}

#[test]
fn what_is_no_clock_does_not_become_one() {
    for path in [
        "cam/2026-11-09/10.20.30.40_01_x.jpg",
        "cam/2026-11-09/10.20.30.140_x.jpg",
        "cam/2026-11-09/img_000123.jpg",
        "cam/2026-11-09/IPC122648.jpg",
        "cam/2026-11-09/25-61-00.jpg",
        "cam/2026110910305412.jpg",
        "cam/x_2026110910305412345.jpg",
        "cam/2026-11-09/861551053998357.jpg",
        "cam/2026_11_09-2026_11_10/10-30-54.jpg",
        "cam/10/30/54.jpg",
    ] {
        assert_eq!(capture::sight(Path::new(path), utc()).reading.stamp, None, "{path}");
    }
}

/// The number `1690389398` and the like.
#[test]
fn seconds_since_1970_are_believed_near_the_arrival_alone() {
    let judged = |path: &str, arrival: &str| {
        let capture = capture::classify(Path::new(path), at(arrival), utc());
        let key = key(utc(), &capture);
        let stored = capture::read_stored(&capture.camera, key.rsplit('/').next().unwrap(), utc()).taken.unwrap();
        assert_eq!(stored.timestamp(), capture.taken.timestamp(), "{key}");
        (capture.camera.clone(), capture.taken.format("%FT%T%.f").to_string(), capture.taken_from)
    };
    let told = |camera: &str, taken: &str| (camera.to_owned(), taken.to_owned(), TakenFrom::Name);
    let near = "2023-07-26T16:40:00Z";
    assert_eq!(judged("front-1690389398.964135-x.jpg", near), told("front", "2023-07-26T16:36:38.964135"));
    assert_eq!(judged("cam/1690389398964.jpg", near), told("cam", "2023-07-26T16:36:38.964"));
    assert_eq!(judged("cam/x_1690389398964135.jpg", near), told("cam", "2023-07-26T16:36:38.964135"));
    assert_eq!(judged("cam/1690389398-1690389420.mp4", near), told("cam", "2023-07-26T16:36:38"));
    for far in ["2023-07-27T16:36:39Z", "2023-07-25T16:36:37Z", "2026-01-01T00:00:00Z"] {
        assert_eq!(judged("front-1690389398.964135-x.jpg", far).2, TakenFrom::Arrival, "{far}");
    }
    assert!(capture::sight(Path::new("cam/1690389398.jpg"), utc()).settle_by_path().is_none());
}

#[test]
fn a_cameras_own_format_reads_what_no_grammar_can_know() {
    let config = config(
        "timezone: UTC\ncameras:\n\
         - {name: A, pattern: '(?P<taken>\\d\\d-\\d\\d-\\d{4}_[\\d.]+ [AP]M)', taken_format: '%d-%m-%Y_%I.%M.%S %p'}\n\
         - {name: B, match: 'b/**', pattern: '^b/x-(?P<taken>\\d{6}/\\d{6})', taken_format: '%d%m%y/%H%M%S'}\n\
         - {name: C, match: 'c/**', timezone: Asia/Tokyo, pattern: '(?P<taken>\\d{10}-\\d{10})', taken_format: epoch}\n\
         - {name: D, match: 'd/**', pattern: '^d/(?P<taken>\\d{8}_\\d{6})', taken_format: '%d%m%Y_%H%M%S'}\n",
    );
    for (path, taken, file) in [
        ("A/05-07-2026_03.34.52 PM.jpg", "2026-07-05T15:34:52+00:00", "05-07-2026_03.34.52 PM.jpg"),
        ("b/x-050726/153452.jpg", "2026-07-05T15:34:52+00:00", "20260705T153452_x-050726_153452~in-"),
        ("c/1690389398-1690389420.mp4", "2023-07-27T01:36:38+09:00", "1690389398-1690389420.mp4"),
        // In the bucket the pattern does not fit, because the folder there has the camera's name.
        ("d/05072026_153452.jpg", "2026-07-05T15:34:52+00:00", "20260705T153452_05072026_153452.jpg"),
    ] {
        let capture = capture::sight(Path::new(path), &config).settle_by_path().unwrap_or_else(|| panic!("{path}"));
        assert_eq!(capture.taken.to_rfc3339(), taken, "{path}");
        let key = key(&config, &capture);
        let stored = key.rsplit('/').next().unwrap();
        assert!(stored.starts_with(file), "{path}: {key}");
        let told = capture::read_stored(&capture.camera, stored, &config).taken;
        assert_eq!(told.map(|told| told.to_rfc3339()).as_deref(), Some(taken), "{key}");
    }
}

/// Every path of the tests, as a camera's folder with two folders in it would have it.
#[test]
fn two_folders_of_one_camera_have_two_keys_by_every_rule() {
    let known = include_str!("names.tsv").lines().skip(1).map(|line| line.split('\t').nth(1).unwrap());
    let more = [
        "192.168.1.64_01_20230712182012676_AB12CD_VEHICLE_DETECTION.jpg",
        "AB12CD_VEHICLE_DETECTION_20230712182012676.jpg",
        "prefix-20050107_180653.jpg",
        "2019-05-09/jpg/06/07/27[M][0@0][0].jpg",
        "2024Y05M06D07H/E108M10S50.mp4",
        "06.38.38-06.39.06[M][@c3b][1].h264",
        "front-1690389398.964135-x.jpg",
    ];
    let paths: Vec<&str> = known.chain(REPORTED.iter().map(|(path, ..)| *path)).chain(more).collect();
    let mut readers = BTreeMap::<&str, u32>::new();
    for path in &paths {
        let keys: HashSet<String> = ["Front", "Back"]
            .map(|folder| {
                let path = format!("site/{folder}/{path}");
                let capture = capture::classify(Path::new(&path), at("2026-11-22T00:00:00Z"), utc());
                assert_eq!(capture.camera, "site", "{path}");
                key(utc(), &capture)
            })
            .into();
        assert_eq!(keys.len(), 2, "{path}: {keys:?}");
        for (_, shape, trial) in naming::explain(Path::new(path), "auto") {
            *readers.entry(shape).or_default() += u32::from(matches!(trial, Trial::Reads(_)));
        }
    }
    let untried: Vec<&&str> = readers.iter().filter(|(_, reads)| **reads == 0).map(|(shape, _)| shape).collect();
    assert!(untried.is_empty(), "no path of this test is read by {untried:#?}");
}

/// One of these texts.
fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    proptest::sample::select(texts)
}

prop_compose! {
    /// A time, to the microsecond.
    fn time()(seconds in 1_262_304_000_i64..4_000_000_000, micros in 0..1_000_000_u32) -> NaiveDateTime {
        DateTime::from_timestamp(seconds, micros * 1000).unwrap().naive_utc()
    }
}

/// How a fraction of a second is written, and how many digits it keeps.
const FRACTIONS: &[(&str, usize)] =
    &[("", 0), ("%.3f", 3), ("%.6f", 6), ("-%3f", 3), ("_%3f", 3), ("-%6f", 6), ("_%6f", 6), ("%3f", 3)];

/// How an offset is written, and how many seconds it is ahead of UTC.
const OFFSETS: &[(&str, i64)] = &[
    ("", 0),
    ("Z", 0),
    ("_UTC", 0),
    (" UTC", 0),
    ("+00_00", 0),
    ("+0000", 0),
    ("-0800", -28_800),
    ("-05:00", -18_000),
    ("-03_30", -12_600),
    ("+02", 7200),
    ("+0545", 20_700),
    ("+14:00", 50_400),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn a_stamp_is_read_however_it_is_written(
        time in time(),
        before in one_of(&["", "NVR_01_", "192.168.1.64_", "192.168.1.64_01_", "front door ", "_CH2_", "a1-", "x", "(2)_"]),
        date in one_of(&["%Y%m%d", "%Y-%m-%d", "%Y_%m_%d", "%Y.%m.%d", "%Y_%m%d", "%Y-%-m-%-d"]),
        gap in one_of(&["_", "-", "T", " ", "@", ".", "_-_", "--", " at "]),
        clock in one_of(&["%H%M%S", "%H-%M-%S", "%H_%M_%S", "%H.%M.%S", "%H:%M:%S", "%I-%M-%S", "%I%M%S"]),
        fraction in 0..FRACTIONS.len(),
        offset in 0..OFFSETS.len(),
        end in one_of(&["", "_", "-", "--"]),
        length in 1..7200_i64,
        after in one_of(&[".jpg", "_pir.mp4", ".mp4.1", ".264", " (1).jpg", "_r[1].mkv"]),
    ) {
        let ((fraction, digits), (zone, ahead)) = (FRACTIONS[fraction], OFFSETS[offset]);
        // A fraction without a separator follows a clock without separators, and only without AM and PM.
        prop_assume!(fraction != "%3f" || clock == "%H%M%S");
        let half = if clock.contains("%I") { "_%p" } else { "" };
        let format = format!("{date}{gap}{clock}{fraction}{half}");
        let written = |time: NaiveDateTime| format!("{}{zone}", time.format(&format));
        let end = if end.is_empty() { String::new() } else { format!("{end}{}", written(time + TimeDelta::seconds(length))) };
        // Six digits behind a clock may be the end of the recording, which comes within the hour.
        let six = time.format("%6f").to_string();
        let is_end = NaiveDateTime::parse_from_str(&format!("{}{six}", time.format("%Y%m%d")), "%Y%m%d%H%M%S").is_ok();
        prop_assume!(digits != 6 || fraction == "%.6f" || !is_end);
        let name = format!("cam/{before}{}{end}{after}", written(time));
        let digits = if fraction.is_empty() { 0 } else { digits };
        let step = 10_u32.pow(9 - u32::try_from(digits).unwrap());
        let told = capture::sight(Path::new(&name), utc()).settle_by_path().map(|capture| capture.taken.naive_utc());
        let exact = time - TimeDelta::nanoseconds(i64::from(time.and_utc().timestamp_subsec_nanos() % step));
        prop_assert_eq!(told, Some(exact - TimeDelta::seconds(ahead)), "{}", name);
    }

    #[test]
    fn a_date_in_folders_and_a_clock_below_it_are_read_together(
        time in time(),
        above in one_of(&["cam", "site/cam", "cam/alarm", "cam/record"]),
        folders in one_of(&["%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%Y_%m_%d", "%Y/%m-%d", "%Y-%m/%d", "%Y/%m/%Y-%m-%d"]),
        name in one_of(&[
            "%H-%M-%S", "%H.%M.%S", "%H_%M_%S", "%H%M%S", "front_%H-%M-%S", "front %H.%M.%S-x", "%H-%M-%S_2", "%H/%M-%S",
            "%H/%M%S", "%H/%M/%S", "%H/%M.%S_x", "%H/%M/%S/x", "%Hhour/%M-%S", "%H/%H-%M-%S", "%I.%M.%S %p", "%H/front/%M.%S",
        ]),
    ) {
        let path = time.format(&format!("{above}/{folders}/{name}.jpg")).to_string();
        let capture = capture::sight(Path::new(&path), utc()).settle_by_path();
        let told = capture.as_ref().map(|capture| (capture.taken.timestamp(), capture.taken_from));
        prop_assert_eq!(told, Some((time.and_utc().timestamp(), TakenFrom::Folder)), "{}", path);
        let capture = capture.unwrap();
        let key = key(utc(), &capture);
        let stored = capture::read_stored(&capture.camera, key.rsplit('/').next().unwrap(), utc());
        prop_assert_eq!(stored.taken.map(|taken| taken.timestamp()), Some(time.and_utc().timestamp()), "{}", key);
    }

    #[test]
    fn a_date_that_does_not_exist_gives_no_time(year in 1970..2099, month in 13..99, rest in "[0-9]{8}") {
        let path = format!("cam/{year}{month}{rest}.jpg");
        prop_assert_eq!(capture::sight(Path::new(&path), utc()).reading.stamp, None);
        let date = NaiveDate::from_ymd_opt(year, 2, 30);
        prop_assert_eq!(date, None);
    }
}
