//! Any path makes a capture whose key fits and tells camera and date, whatever the names in it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use hk_aws::capture;
use hk_aws::config::Config;
use hk_aws::key::{self, Layout, MAX_KEY_BYTES, Variant};

/// The first byte chooses one of [`SITES`], the next ones are the time of arrival.
const HEAD_BYTES: usize = 6;

/// Arrivals, in seconds since 1970: ext4's first (-2^31), and the last whose year has four digits in every zone.
const ARRIVALS: std::ops::RangeInclusive<i64> = -0x8000_0000..=253_402_128_000;

/// Configurations: the defaults; the longest prefix before every placeholder; cameras with names of their own.
static SITES: LazyLock<Vec<(Config, Layout)>> = LazyLock::new(|| {
    let long = "p".repeat(511);
    [
        "s3: {bucket: captures}",
        &format!(
            "s3: {{bucket: captures, prefix: {long}, \
             key: '{{camera}}/{{year}}/{{month}}/{{day}}/{{hour}}-{{event}}-{{channel}}/{{file}}'}}"
        ),
        "s3: {bucket: captures, key: '{camera}/{event}/{date}-{file}'}\n\
         cameras:\n\
         - {name: Porch, match: 'p/**', timezone: America/New_York, \
            pattern: '(?P<event>[a-z]+)-(?P<taken>[0-9]{8}-[0-9]{6})'}\n\
         - {name: Yard, match: 'y/**', vendor: hikvision, timezone: Australia/Lord_Howe}\n\
         - {name: Day, match: 'd/**', pattern: '(?P<taken>[0-9].*)', taken_format: '%d-%m-%Y_%I.%M.%S %p'}\n\
         - {name: Any, match: '*/x/**', pattern: '(?P<camera>.*)/x/(?P<channel>.*),(?P<event>.*),(?P<taken>.*)'}\n",
    ]
    .map(|text| {
        let text = format!("drop_folder: {{path: /drop}}\ntimezone: Europe/Kyiv\n{text}\n");
        let config = Config::parse(Path::new("fuzz.yaml"), &text, &|_| None).unwrap_or_else(|error| panic!("{error}"));
        let layout = Layout::new(&config.s3.prefix, config.s3.key.clone());
        (config, layout)
    })
    .into()
});

/// Holds one input against what is promised.
pub(crate) fn check(input: &[u8]) {
    let Some((head, path)) = input.split_at_checked(HEAD_BYTES) else { return };
    let (config, layout) = &SITES[usize::from(head[0]) % SITES.len()];
    let number = head[1..].iter().fold(0, |sum, byte| sum << 8 | i64::from(*byte));
    let span = ARRIVALS.end() - ARRIVALS.start() + 1;
    let arrival: DateTime<Utc> = DateTime::from_timestamp(ARRIVALS.start() + number % span, 0).unwrap();

    let capture = capture::classify(Path::new(OsStr::from_bytes(path)), arrival, config);
    let key = layout.render(&capture.fields());
    assert!(key.as_str().len() <= MAX_KEY_BYTES, "{} bytes: {key}", key.as_str().len());
    assert!(!key.as_str().contains(char::is_control), "{key:?}");
    assert!(key.as_str().split('/').all(|part| !matches!(part, "" | "." | "..")), "{key}");
    for kind in [Variant::Partial, Variant::Whole] {
        let beside = key.variant(kind, "12345678");
        assert!(beside.as_str().len() <= MAX_KEY_BYTES, "{} bytes: {beside}", beside.as_str().len());
        assert_eq!(key::read_variant(beside.as_str()), Some((key.as_str().to_owned(), kind)));
        let parts = layout.parse(beside.as_str()).unwrap();
        assert_eq!((&*parts.camera, parts.date), (&*capture.camera, capture.taken.date_naive()), "{beside}");
        capture::read_stored(&parts.camera, &parts.file, config);
    }
    let parts = layout.parse(key.as_str()).unwrap();
    assert_eq!((&*parts.camera, parts.date), (&*capture.camera, capture.taken.date_naive()), "{key}");
    capture::read_stored(&parts.camera, &parts.file, config);

    // A stranger's object may have any key.
    let strange = String::from_utf8_lossy(path);
    let _none_of_ours = layout.parse(&strange);
    let (camera, file) = strange.split_once('/').unwrap_or(("", &strange));
    capture::read_stored(camera, file, config);
}
