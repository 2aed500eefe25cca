//! The configuration file as it is shipped, held against the code.

use std::collections::BTreeSet;
use std::path::Path;

use hk_aws::config::Config;
use serde_yaml::Value;

use crate::support::settings;

const SHIPPED: &str = include_str!("../../config/config.yaml");

/// The block in the documentation of the interface.
const DOCUMENTED: &str = r#"
drop_folder:
  path: /var/lib/cctv/storage
  rescan: 60s                # a full look, whatever inotify says
  settle: 3s                 # a file nobody was seen closing is complete after this long unchanged (and not open for writing)
  stalled: 10s               # open for writing and not grown for so long: what there is goes up as partial, and the file stays
  partial_after: 10m         # how long a cut-off file waits here for the camera to resume or resend (what there is goes up at once, marked partial)
  ignore: ["DVRWorkDirectory", "*.idx", "*.tmp", "*_", ".*"] # in any case
cameras:                     # optional: without it the first folder is the camera, the vendor is detected, the zone is the system's
  - name: CAM-EXT-001
    match: "CAM-EXT-001/**"  # glob below the drop folder
    vendor: hikvision        # auto | hikvision | dahua | reolink | ...
    timezone: Europe/Kyiv    # the camera's clock
    pattern: null            # own regex with named groups camera, taken, event, channel
    taken_format: null       # chrono's codes for the group `taken`, where the order is not year to second: "%d-%m-%Y_%I.%M.%S %p", "epoch", "epoch_ms"
    example: []              # paths; `check` shows what each gives
    silent_after: 24h        # alert when nothing came for so long
timezone: system
max_clock_skew: 400d       # a name's time further in the past than this, against the file's arrival, is not believed; null = always believed
s3:
  bucket: my-video-surveillance
  region: eu-central-1
  profile: null              # a profile in the AWS files; else the standard chain
  endpoint_url: null         # S3-compatible stores
  path_style: false
  prefix: ""
  key: "{camera}/{date}/{file}"
  storage_class: STANDARD
  access: read-write         # read-write | write-only: whether the box may read and delete
  checksum: always           # always | when_required
  tags: false
  object_lock: null          # {mode: governance|compliance, days: 90}
  sse: null                  # AES256 | aws:kms | {kms_key_id: ...}
  account: null              # the account that owns the bucket: a bucket of anybody else gets nothing
  undo: 30d                  # how long the template's bucket keeps what was deleted or covered
  former_keys: []            # shapes that keys had before, such as "{prefix}{camera}/{file}": still listed and read
  ca_bundle: null            # a file of certificates to trust besides the system's (else AWS_CA_BUNDLE)
upload:
  concurrency: 8
  bandwidth: null            # 2MiB/s, or a timetable: "08:00 512KiB/s, 23:00 off"
keep:                        # local copies after upload
  path: /var/lib/hk-aws/kept
  days: 35                   # 0 deletes at once; a day that still waits for its bundle goes last
  max_size: 50GiB
  min_free: 2GiB
rotate:
  schedule: null             # cron, system zone; a missed run is made up; null = once a night at a minute of this box's own
  cameras: known             # known (configured, in the ledger, or a folder of the drop folder) | all | [names]: nothing else is touched
  archive: {after: 30d, class: GLACIER_IR, format: tar, max_days_per_run: 1000, part_size: 240MiB}   # format: tar | tar.gz | tar.zst; null = off
  transition: null           # {after: 30d, class: GLACIER_IR, min_size: 128KiB}: each object in place, instead of archive
  expire: null               # {after: 365d}: from the capture or from when it was stored, whichever is later; null = never
alerts:
  webhook: null              # URL: POST on a change of state, never a storm
  format: auto               # auto (by the host) | json | ntfy | gotify | telegram | pushover | slack | mattermost | discord | matrix | apprise | home-assistant
  body: null                 # a template of one's own; values are JSON-escaped
  command: null              # argv, the JSON on stdin
  email: null                # whom the alarm in AWS tells (used by aws-template)
  quiet: null                # "22:00-07:00": only what cannot wait
  digest: null               # "08:00": once a day, counts per camera
  mute: []                   # what is never told
  exposure: 15m              # a capture that is only here for so long is an alert
heartbeat: null              # {every: 5m}: an object that proves from outside that the box lives
mqtt: null                   # {url: mqtt://..., user, password_file, prefix: homeassistant}: Home Assistant discovery
metrics:
  listen: null               # 127.0.0.1:9187: /metrics and /healthz
log:
  target: auto               # auto | journald | stderr
  level: info
  captures: info             # the line for each capture: info | debug | off
"#;

fn parse(text: &str) -> Config {
    let env = |name: &str| (name == "TZ").then(|| "Europe/Kyiv".to_owned());
    Config::parse(Path::new("config.yaml"), text, &env).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

/// The paths of all keys; the items of a list share theirs.
fn keys(text: &str) -> BTreeSet<String> {
    fn walk(path: &str, value: &Value, keys: &mut BTreeSet<String>) {
        match value {
            Value::Mapping(map) => {
                for (key, value) in map {
                    let path = format!("{path}.{}", key.as_str().expect("a key is a text"));
                    walk(&path, value, keys);
                    keys.insert(path);
                }
            }
            Value::Sequence(items) => items.iter().for_each(|item| walk(path, item, keys)),
            _ => {}
        }
    }
    let mut keys = BTreeSet::new();
    walk("", &serde_yaml::from_str(text).expect("it is YAML"), &mut keys);
    keys
}

/// The shipped file, with each value replaced by the example in its comment.
fn with_examples() -> String {
    let with_example = |line: &str| {
        if let Some(example) = line.strip_prefix("#  ") {
            return format!("  {example}");
        }
        if line.starts_with("cameras: []") {
            return "cameras:".to_owned();
        }
        let example = line.split_once("null").and_then(|(before, comment)| {
            let example = &comment[comment.find('{')?..=comment.find('}')?];
            (!comment.contains("${")).then(|| format!("{before}{example}"))
        });
        example.unwrap_or_else(|| line.to_owned())
    };
    SHIPPED.lines().map(with_example).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_file_says_the_defaults() {
    let minimal = "drop_folder: {path: /var/lib/cctv/storage}\ns3: {bucket: my-video-surveillance}\n";
    assert_eq!(parse(SHIPPED), parse(minimal));
}

#[test]
fn the_shipped_file_has_every_key_of_the_code_and_no_other() {
    assert_eq!(keys(SHIPPED), keys(&parse(SHIPPED).effective()));
}

#[test]
fn the_examples_in_the_shipped_file_are_accepted_and_have_every_key_too() {
    let mut examples = settings::parse(&with_examples());
    // Bundles and transitions exclude each other.
    examples["rotate"]["archive"] = Value::Null;
    let examples = settings::write(&examples);
    let config = parse(&examples);
    assert!(config.s3.object_lock.is_some() && config.s3.sse.is_some(), "{examples}");
    assert!(
        config.rotate.transition.is_some() && config.rotate.expire.is_some() && config.heartbeat.is_some(),
        "{examples}"
    );
    assert_eq!(config.cameras.len(), 1, "{examples}");
    assert_eq!(keys(&examples), keys(&config.effective()));
    let bare = "drop_folder: {path: /srv}\ns3: {bucket: abc}\ncameras: [{name: CAM-EXT-001}]\n";
    assert_eq!(config.cameras, parse(bare).cameras, "the example of a camera says the defaults");
}

#[test]
fn every_key_of_the_shipped_file_has_one_comment() {
    let mut previous = "";
    for line in SHIPPED.lines().skip_while(|line| line.starts_with('#')).filter(|line| !line.is_empty()) {
        let line = line.strip_prefix('#').unwrap_or(line);
        let (key, comment) = line.split_once(" # ").unwrap_or_else(|| panic!("no comment: {line}"));
        assert!(key.contains(':') && !comment.trim().is_empty() && !comment.contains(" # "), "{previous}\n{line}");
        assert!(line.len() <= 160, "a comment is short: {line}");
        previous = line;
    }
}

#[test]
fn the_documented_block_is_accepted() {
    let config = parse(DOCUMENTED);
    assert_eq!(config.cameras[0].matches.as_str(), "CAM-EXT-001/**");
    let mut all = keys(&config.effective());
    all.retain(|key| ![".state_dir", ".runtime_dir"].contains(&key.as_str()));
    assert_eq!(keys(DOCUMENTED), all, "the documented block has every key");
}
