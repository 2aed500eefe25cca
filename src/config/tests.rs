//! The defaults, the values that are refused, and the messages about them.

mod refused;

use super::*;

const MINIMAL: &str = "drop_folder: {path: /var/lib/cctv/storage}\ns3: {bucket: my-video-surveillance}\n";

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, Problems> {
    let env = |name: &str| {
        let all = [("TZ", "Europe/Kyiv")].iter().chain(variables).rev();
        all.copied().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
    };
    Config::parse(Path::new("config.yaml"), text, &env)
}

fn parse(text: &str) -> Result<Config, Problems> {
    parse_with(text, &[])
}

fn parsed(more: &str) -> Config {
    parse(&format!("{MINIMAL}{more}")).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn two_keys_are_enough() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.drop_folder.path, Path::new("/var/lib/cctv/storage"));
    assert_eq!(config.drop_folder.ignore.patterns(), super::settings::IGNORE);
    assert_eq!(config.timezone, chrono_tz::Europe::Kyiv);
    assert_eq!(config.keep.path, Path::new("/var/lib/hk-aws/kept"));
    assert_eq!(config.runtime_dir, Path::new("/run/hk-aws"));
    assert_eq!(config.rotate.archive, Some(ArchiveSettings::default()));
    assert_eq!(config.cameras, []);
}

/// Every key, with another value than its default.
const EVERYTHING: &str = r#"
drop_folder:
  path: /srv/ftp/
  rescan: 90s
  settle: 1500ms
  stalled: 20s
  partial_after: 2h
  ignore: ["*.part", "CAM/raw/**"]
cameras:
  - name: "CAM [1]"
    vendor: dahua
    timezone: America/Los_Angeles
    pattern: '^(?P<camera>[^/]+)/(?P<taken>\d{14})\.jpg$'
    taken_format: "%d%m%Y%H%M%S"
    example: ["CAM [1]/05072026122648.jpg", "a b"]
    silent_after: 7d
  - {name: "true", match: "front/**/*.jpg"}
timezone: Europe/Berlin
max_clock_skew: null
s3:
  bucket: "0123"
  region: garage
  profile: "null"
  endpoint_url: http://[::1]:3900
  path_style: true
  prefix: site-1
  key: "{camera}/{date}/{file}"
  storage_class: COLD_2
  access: write-only
  checksum: when_required
  tags: true
  object_lock: {mode: compliance, days: 10}
  sse: {kms_key_id: alias/captures}
  account: 012345678901
  undo: 36h
upload: {concurrency: 256, bandwidth: "23:00 off, 08:00 512KiB/s"}
keep: {path: /srv/kept, days: 0, max_size: null, min_free: 1}
rotate:
  schedule: "0 4 * * MON"
  cameras: [CAM-1, "all"]
  archive: null
  transition: {after: 60d, class: GLACIER, min_size: 1MiB}
  expire: null
alerts: {webhook: "https://user:${PASSWORD}@hooks.example.org/${HOOK}", command: [notify, "-x", "5"], format: ntfy, email: a@b.org, exposure: 20m,
  quiet: "22:00-07:00", digest: "08:05", mute: [camera_clock], body: '{"x": "{text}"}'}
mqtt: {url: "mqtts://[::1]/", user: box, password_file: /etc/hk-aws/mqtt-password, prefix: home/ha}
heartbeat: {every: 7m, url: "https://hc.example.org/${HOOK}", name: porch}
metrics: {listen: "[::]:9187"}
log: {target: stderr, level: trace, captures: off}
state_dir: /srv/state
runtime_dir: /srv/run
"#;

#[test]
fn the_effective_settings_can_be_fed_back() {
    let variables = [("PASSWORD", "hunter2"), ("HOOK", "h00k"), ("STATE_DIRECTORY", "/var/lib/private/hk-aws:/x")];
    let sse = |sse: &str| {
        let mut everything: serde_yaml::Value = serde_yaml::from_str(EVERYTHING).unwrap();
        everything["s3"]["sse"] = sse.into();
        serde_yaml::to_string(&everything).unwrap()
    };
    let archive =
        "rotate: {archive: {after: 45d, class: DEEP_ARCHIVE, format: tar.zst, max_days_per_run: 2, part_size: 1GiB}}\n";
    let other = format!("{MINIMAL}{archive}upload: {{bandwidth: 3MiB/s}}\nheartbeat: {{every: 90s}}\n");
    for text in [MINIMAL, EVERYTHING, &sse("AES256"), &sse("aws:kms"), &other] {
        let config = parse_with(text, &variables).unwrap_or_else(|problems| panic!("{problems}"));
        let effective = config.effective();
        assert!(!effective.contains("hunter2") && !effective.contains("h00k"), "{effective}");
        let again = parse_with(&effective, &variables).unwrap_or_else(|problems| panic!("{problems}\n{effective}"));
        assert_eq!(again, config, "{effective}");
        // Without what systemd sets they say the same: directories are written out.
        assert_eq!(parse_with(&effective, &variables[..2]).unwrap(), config);
    }
}

#[test]
fn everything_means_what_it_says() {
    let config = parse_with(EVERYTHING, &[("PASSWORD", "hunter2"), ("HOOK", "a@b?c=d")]).unwrap();
    assert_eq!(config.drop_folder.path, Path::new("/srv/ftp"));
    assert_eq!(config.drop_folder.settle, Duration::from_millis(1500));
    assert_eq!(config.drop_folder.stalled, Duration::from_secs(20));
    assert!(config.cameras[0].matches.is_match(Path::new("CAM [1]/a.jpg")), "{:?}", config.cameras[0].matches.as_str());
    assert!(!config.cameras[0].matches.is_match(Path::new("CAM 1/a.jpg")));
    assert_eq!(config.cameras[1].name, "true");
    assert_eq!(config.max_clock_skew, None);
    assert_eq!((config.s3.bucket.as_str(), config.s3.profile.as_deref()), ("0123", Some("null")));
    assert_eq!(config.s3.prefix, "site-1/");
    assert_eq!((config.s3.account.as_deref(), config.s3.undo), (Some("012345678901"), Duration::from_hours(36)));
    assert_eq!(config.s3.sse, Some(Sse::KmsKey("alias/captures".to_owned())));
    assert_eq!(config.keep, KeepSettings { path: "/srv/kept".into(), days: 0, max_size: None, min_free: 1 });
    let mqtt = config.mqtt.unwrap();
    assert_eq!((mqtt.url.to_string().as_str(), mqtt.url.host.as_str()), ("mqtts://[::1]:8883", "::1"));
    assert_eq!((mqtt.user.as_deref(), mqtt.prefix.as_str()), (Some("box"), "home/ha"));
    let heartbeat = config.heartbeat.unwrap();
    assert_eq!((heartbeat.every, heartbeat.name.as_deref()), (Duration::from_mins(7), Some("porch")));
    let webhook = config.alerts.webhook.unwrap();
    assert_eq!(webhook.url(), "https://user:hunter2@hooks.example.org/a@b?c=d");
    assert_eq!(webhook.shown(), "https://user:${PASSWORD}@hooks.example.org/${HOOK}");
    assert_eq!(config.alerts.command.unwrap(), ["notify", "-x", "5"]);
    assert_eq!(
        config.log,
        LogSettings { target: LogTarget::Stderr, level: tracing::Level::TRACE, captures: CaptureLines::Off }
    );
}

#[test]
fn directories_come_from_the_file_else_from_systemd_else_from_the_defaults() {
    let systemd = [("STATE_DIRECTORY", "/var/lib/one:/var/lib/two"), ("RUNTIME_DIRECTORY", "/run/one")];
    let config = parse_with(MINIMAL, &systemd).unwrap();
    assert_eq!(config.state_dir, Path::new("/var/lib/one"));
    assert_eq!(config.keep.path, Path::new("/var/lib/one/kept"));
    assert_eq!(config.runtime_dir, Path::new("/run/one"));
    let config = parse_with(&format!("{MINIMAL}state_dir: /srv/state\nruntime_dir: /srv/run\n"), &systemd).unwrap();
    assert_eq!(config.keep.path, Path::new("/srv/state/kept"));
    assert_eq!(config.runtime_dir, Path::new("/srv/run"));
    let problems = parse_with(MINIMAL, &[("STATE_DIRECTORY", "state")]).unwrap_err().to_string();
    assert!(
        problems.contains("state_dir: the environment variable STATE_DIRECTORY: a relative path (\"state\")"),
        "{problems}"
    );
}

#[test]
fn a_transition_stands_instead_of_the_bundles() {
    let config = parsed("rotate: {transition: {}}\n");
    assert_eq!((config.rotate.archive, config.rotate.transition), (None, Some(TransitionSettings::default())));
}

#[test]
fn sections_whose_keys_are_all_commented_out_have_their_defaults() {
    let nothing = parsed("upload:\n#  concurrency: 4\nkeep:\nalerts:\ncameras:\nlog: ~\nmetrics: null\nrotate:\n");
    assert_eq!(nothing, parse(MINIMAL).unwrap());
}

#[test]
fn variables_stand_for_any_value() {
    let text = "drop_folder: {path: '${BASE}/storage', rescan: \"${N}s\"}\ns3: {bucket: '${B}-${B}', tags: '${YES}', region: '${R}'}\n\
                upload: {concurrency: \"${N}\"}\ncameras:\n- name: ${CAM}\n  pattern: ${NONE}\nheartbeat: {every: '${N}${UNIT}'}\n";
    let variables = [
        ("BASE", "/srv"),
        ("N", "16"),
        ("B", "cctv"),
        ("YES", "true"),
        ("R", "eu-west-1"),
        ("CAM", "C: 1 #"),
        ("NONE", "null"),
        ("UNIT", "m"),
    ];
    let config = parse_with(text, &variables).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.drop_folder.path, Path::new("/srv/storage"));
    assert_eq!(config.drop_folder.rescan, Duration::from_secs(16));
    assert_eq!((config.s3.bucket.as_str(), config.s3.tags, config.upload.concurrency), ("cctv-cctv", true, 16));
    assert_eq!(config.cameras[0].name, "C: 1 #");
    assert!(config.cameras[0].pattern.is_none());
    assert_eq!(config.heartbeat.unwrap().every, Duration::from_mins(16));
}

#[test]
fn a_file_that_is_wrong_as_a_whole_says_so() {
    for (text, message) in [
        (
            "",
            "1: nothing is set in the file; write at least drop_folder: {path: /var/lib/cctv/storage} and s3: {bucket: my-video-surveillance}",
        ),
        ("# one\n# two\n", "1: nothing is set in the file; write at least"),
        (
            "- a\n",
            "1: a list stands where a map is wanted; write drop_folder:, s3: and so on, each with its keys indented below it",
        ),
        ("hello\n", r#"1: one value stands where a map is wanted ("hello"); write drop_folder:"#),
        ("s3: {bucket: abc}\ndrop_folder:\n\tpath: /srv\n", "3: not YAML: "),
        ("s3:\n  key: {camera}/{date}\n", "2: not YAML: "),
        ("s3: {bucket: abc}\n---\ns3: {}\n", "2: a second document starts here; keep one document in the file"),
    ] {
        let messages = parse(text).unwrap_err().to_string();
        assert!(messages.starts_with(&format!("config.yaml:{message}")), "{text}\n{messages}");
        assert_eq!(messages.lines().count(), 1, "{text}\n{messages}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_reason_and_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let refused = |path: &Path| Config::load(path).unwrap_err().to_string();
    let expected = |path: &Path, rest: &str| format!("{}:{rest}", path.display());
    assert_eq!(
        refused(&file),
        expected(
            &file,
            " failed to read the file: No such file or directory (os error 2); create it, or name another file with --config or HK_AWS_CONFIG"
        )
    );
    assert_eq!(
        refused(folder.path()),
        expected(
            folder.path(),
            " failed to read the file: Is a directory (os error 21); name the file itself, such as config.yaml in it"
        )
    );
    std::fs::write(&file, b"# caf\xc3\xa9\ns3: {bucket: caf\xe9}\n").unwrap();
    assert_eq!(refused(&file), expected(&file, "2: not UTF-8; save the file as UTF-8"));
    std::fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert_eq!(refused(&file), expected(&file, " more than 1MiB; name a configuration file"));
    std::fs::write(&file, format!("\u{feff}{}timezone: UTC\r\n", MINIMAL.replace('\n', "\r\n"))).unwrap();
    assert_eq!(Config::load(&file).unwrap().timezone, chrono_tz::Tz::UTC);
}

#[test]
fn all_problems_are_said_at_once_by_line() {
    let text = "drop_folder:\n  rescan: 60\n  setle: 3s\nupload: {concurrency: 0}\nlog: {level: loud}\nlog: {}\n\
                cameras:\n- name: a\n- name: a\n  vendor: x\n  pattern: ${P}${Q}\nkeep: 5\n";
    let problems = parse(text).unwrap_err();
    let places: Vec<_> = problems.iter().map(|problem| (problem.line.unwrap(), problem.key.as_str())).collect();
    let expected = [
        (1, "drop_folder.path"),
        (1, "s3.bucket"),
        (2, "drop_folder.rescan"),
        (3, "drop_folder.setle"),
        (4, "upload.concurrency"),
        (5, "log.level"),
        (6, "log"),
        (9, "cameras[1].name"),
        (10, "cameras[1].vendor"),
        (11, "cameras[1].pattern"),
        (11, "cameras[1].pattern"),
        (12, "keep"),
    ];
    assert_eq!(places, expected, "{problems}");
    assert_eq!(problems.to_string().lines().count(), expected.len());
    let json = serde_json::to_value(&problems).unwrap();
    assert_eq!(json["problems"][2]["value"], "\"60\"");
}

#[test]
fn each_host_has_a_minute_of_the_night_of_its_own() {
    let minutes = |hosts: u32| -> std::collections::BTreeSet<String> {
        (0..hosts).map(|host| Schedule::nightly(&format!("box-{host}")).as_str().to_owned()).collect()
    };
    assert!(minutes(10).len() >= 9 && minutes(1000).len() > 200, "{:?}", minutes(1000));
    for text in minutes(1000) {
        let hour: u32 = text.split(' ').nth(1).unwrap().parse().unwrap();
        assert!((1..5).contains(&hour) && check::schedule(&text).is_ok(), "{text}");
    }
    assert_eq!(Schedule::nightly("porch"), Schedule::nightly("porch"));
    assert_eq!(parsed("rotate: {schedule: null}\n").rotate.schedule, None);
}

#[test]
fn a_literal_password_is_shown_nowhere() {
    for (url, shown) in [
        ("https://u:hunter2@example.org/hunter2", "https://u:***@example.org/***"),
        ("https://hunter2@example.org", "https://***@example.org"),
        ("https://u:hunter2x@example.org", "https://u:***@example.org"),
        ("https://example.org/a:hunter2@c", "https://example.org/***"),
    ] {
        let config = parsed(&format!("alerts: {{webhook: '{url}'}}\n"));
        assert_eq!(config.alerts.webhook.as_ref().unwrap().shown(), shown);
        assert!(!format!("{config:?}{}", config.effective()).contains("hunter2"));
        assert!(!serde_json::to_string(&config).unwrap().contains("hunter2"));
    }
}

#[test]
fn other_stores_have_names_of_their_own() {
    for (settings, accepted) in [
        ("region: us-gov-west-1", true),
        ("region: eusc-de-east-1", true),
        ("region: auto", false),
        ("region: auto, endpoint_url: https://x.r2.cloudflarestorage.com", true),
        ("region: 'a b', endpoint_url: https://x.example.org", false),
        ("storage_class: COLD, endpoint_url: https://x.example.org", true),
        ("storage_class: cold, endpoint_url: https://x.example.org", false),
        ("storage_class: EXPRESS_ONEZONE", false),
        ("storage_class: DEEP_ARCHIVE", true),
    ] {
        let result = parse(&format!("drop_folder: {{path: /srv}}\ns3: {{bucket: abc, {settings}}}\n"));
        assert_eq!(result.is_ok(), accepted, "{settings}: {result:?}");
    }
}
