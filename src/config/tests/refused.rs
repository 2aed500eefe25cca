//! Every kind of bad value, with the message about it.

use super::parse;

/// Text after the two required keys, from line 3, and the start of the message after the file's name.
const ANYWHERE: &[(&str, &str)] = &[
    ("keep:\n  days: many\n", r#"4: keep.days: not a whole number in range ("many"); write 0 to 36500"#),
    ("keep:\n  days: -1\n", r#"4: keep.days: not a whole number in range ("-1"); write 0 to 36500"#),
    ("keep:\n  days: 36501\n", r#"4: keep.days: too large ("36501"); write 0 to 36500"#),
    ("keep:\n  days:\n", "4: keep.days: has no value; write one, or leave the key out to have its default"),
    (
        "keep: {max_size: 50GB}\n",
        r#"3: keep.max_size: not a size ("50GB"); write one whole number and KiB, MiB, GiB or TiB"#,
    ),
    ("keep: {min_free: 2 GiB}\n", r#"3: keep.min_free: not a size ("2 GiB"); write one whole number and KiB"#),
    (
        "keep: {path: kept}\n",
        r#"3: keep.path: a relative path ("kept"); write the whole path from /, such as /var/lib/kept"#,
    ),
    ("keep: {path: ~/kept}\n", r#"3: keep.path: ~ means nothing here ("~/kept"); write the whole path from /"#),
    ("keep: {path: /srv/../x}\n", r#"3: keep.path: a path with .. ("/srv/../x"); write the path without .."#),
    ("keep: {path: //}\n", r#"3: keep.path: the root of the file system ("//"); write a folder below it"#),
    (
        "keep:\n  path: /var/lib/cctv/storage/kept\n",
        r#"4: keep.path: lies inside drop_folder.path "/var/lib/cctv/storage": copies would be uploaded again ("/var/lib/cctv/storage/kept"); write a directory outside it"#,
    ),
    (
        "keep:\n  path: /var/lib/cctv\n",
        r#"4: keep.path: holds drop_folder.path "/var/lib/cctv/storage": what waits there is no copy ("/var/lib/cctv"); write a directory for copies alone"#,
    ),
    (
        "keep:\n  path: /var/lib/hk-aws\n",
        r#"4: keep.path: holds state_dir ("/var/lib/hk-aws"); write a directory for copies alone"#,
    ),
    (
        "state_dir: /var/lib/cctv/storage/.state\n",
        r#"3: state_dir: lies inside drop_folder.path "/var/lib/cctv/storage" ("/var/lib/cctv/storage/.state"); write a directory outside it: what lies there would be uploaded"#,
    ),
    (
        "runtime_dir: /var/lib/cctv/storage\n",
        r#"3: runtime_dir: lies inside drop_folder.path "/var/lib/cctv/storage" ("/var/lib/cctv/storage"); write a directory outside it"#,
    ),
    (
        "runtime_dir: run\n",
        r#"3: runtime_dir: a relative path ("run"); write the whole path from /, such as /var/lib/run"#,
    ),
    ("timezone: Europe/Kyev\n", r#"3: timezone: no time zone of that name ("Europe/Kyev"); did you mean Europe/Kyiv?"#),
    (
        "timezone: +02:00\n",
        r#"3: timezone: no time zone of that name ("+02:00"); write a name of the tz database, such as Europe/Kyiv or UTC"#,
    ),
    (
        "max_clock_skew: 400\n",
        r#"3: max_clock_skew: a duration without a unit ("400"); write its unit: ms, s, m, h or d, such as 400s"#,
    ),
    ("upload: {concurrency: 0}\n", r#"3: upload.concurrency: too small ("0"); write 1 to 256"#),
    ("upload: {concurrency: 257}\n", r#"3: upload.concurrency: too large ("257"); write 1 to 256"#),
    (
        "upload: {bandwidth: 2Mbit/s}\n",
        r#"3: upload.bandwidth: not a rate: "2Mbit/s" ("2Mbit/s"); write bytes a second, such as 512KiB/s or 2MiB/s"#,
    ),
    (
        "upload: {bandwidth: '8 1MiB/s, x'}\n",
        r#"3: upload.bandwidth: no time and limit: "8 1MiB/s" ("8 1MiB/s, x"); write times of day with limits, such as 08:00 512KiB/s, 23:00 off"#,
    ),
    (
        "rotate: {schedule: 30 3 * *}\n",
        r#"3: rotate.schedule: 4 fields instead of five ("30 3 * *"); write minute, hour"#,
    ),
    (
        "rotate: {schedule: 0 30 3 * * *}\n",
        r#"3: rotate.schedule: 6 fields instead of five ("0 30 3 * * *"); write minute, hour"#,
    ),
    ("rotate: {schedule: 61 3 * * *}\n", r"3: rotate.schedule: no cron expression: "),
    (
        "rotate: {schedule: 0 3 31 2 *}\n",
        r#"3: rotate.schedule: a time that never comes ("0 3 31 2 *"); write minute, hour"#,
    ),
    (
        "rotate: {archive: {class: glacier}}\n",
        r#"3: rotate.archive.class: not one of the choices ("glacier"); did you mean GLACIER? The choice is STANDARD, "#,
    ),
    (
        "rotate: {archive: {format: zip}}\n",
        r#"3: rotate.archive.format: not one of the choices ("zip"); the choice is tar, tar.gz, tar.zst"#,
    ),
    (
        "rotate: {archive: {part_size: 1MiB}}\n",
        r#"3: rotate.archive.part_size: too small ("1MiB"); write 5MiB to 5GiB"#,
    ),
    (
        "rotate: {archive: {part_size: 6GiB}}\n",
        r#"3: rotate.archive.part_size: too large ("6GiB"); write 5MiB to 5GiB"#,
    ),
    ("rotate: {archive: {after: 12h}}\n", r#"3: rotate.archive.after: too short ("12h"); write 1d to 36500d"#),
    (
        "rotate: {cameras: knwon}\n",
        r#"3: rotate.cameras: not one of the choices ("knwon"); did you mean known? The choice is known, all"#,
    ),
    (
        "rotate: {cameras: []}\n",
        "3: rotate.cameras: an empty list; write known, all or a list of cameras, such as [CAM-EXT-001]; to rotate nothing",
    ),
    ("rotate: {cameras: [a/b]}\n", r#"3: rotate.cameras[0]: has a / ("a/b"); write one name without /"#),
    (
        "rotate: {archive: {max_days_per_run: 0}}\n",
        r#"3: rotate.archive.max_days_per_run: too small ("0"); write 1 to 36500"#,
    ),
    (
        "rotate: {archive: 30d}\n",
        r#"3: rotate.archive: one value stands where a map is wanted ("30d"); write {after: 30d, class: GLACIER_IR}, or null"#,
    ),
    (
        "rotate:\n  archive: {}\n  transition: {}\n",
        "5: rotate.transition: stands beside rotate.archive; set one of them to null",
    ),
    (
        "rotate: {transition: {min_size: 6TiB}}\n",
        r#"3: rotate.transition.min_size: too large ("6TiB"); write 0 to 5TiB"#,
    ),
    (
        "rotate: {expire: never}\n",
        r#"3: rotate.expire: one value stands where a map is wanted ("never"); write {after: 365d}, or null"#,
    ),
    ("rotate: {expire: {after: 0s}}\n", r#"3: rotate.expire.after: too short ("0s"); write 1d to 36500d"#),
    (
        "alerts: {command: /usr/bin/notify}\n",
        r#"3: alerts.command: one value stands where a list is wanted ("/usr/bin/notify"); write a list such as ["/usr/local/bin/notify", "--now"], or null"#,
    ),
    ("alerts: {command: []}\n", "3: alerts.command: an empty list; write a program and its arguments, or null"),
    (
        "alerts:\n  command:\n  - bin/notify\n  - x\n",
        r#"5: alerts.command[0]: a relative path ("bin/notify"); write the whole path from /"#,
    ),
    (
        "alerts:\n  command: [a, [b]]\n",
        "4: alerts.command[1]: a list stands where one value is wanted; write one value, with quotes around it where it starts with { or [",
    ),
    (
        "alerts: {webhook: hooks.example.org}\n",
        r#"3: alerts.webhook: does not begin with http:// or https:// ("hooks.example.org"); write http:// or https://, a host"#,
    ),
    (
        "alerts: {webhook: 'https://u:hunter2@x y'}\n",
        r#"3: alerts.webhook: has spaces ("https://u:***@x y"); write http"#,
    ),
    (
        "alerts: {webhook: 'u:hunter2@example.org'}\n",
        r#"3: alerts.webhook: does not begin with http:// or https:// ("u:***@example.org"); write http"#,
    ),
    (
        "alerts: {webhook: 'https://u:hunter2@${HOST}'}\n",
        r#"3: alerts.webhook: the environment variable HOST is not set ("https://u:***@${HOST}"); set HOST in the environment"#,
    ),
    (
        "alerts: {webhook: 'https://u:***@example.org'}\n",
        r#"3: alerts.webhook: a part of it was masked when these settings were shown ("https://u:***@example.org"); write it again"#,
    ),
    ("heartbeat: 5m\n", r#"3: heartbeat: one value stands where a map is wanted ("5m"); write {every: 5m}, or null"#),
    (
        "mqtt: mqtt://broker\n",
        r#"3: mqtt: one value stands where a map is wanted ("mqtt://broker"); write {url: mqtt://homeassistant.local:1883}, or null"#,
    ),
    (
        "mqtt: {user: box}\n",
        "3: mqtt.url: is missing; write the address of the broker, such as mqtt://homeassistant.local:1883",
    ),
    (
        "mqtt: {url: 'tcp://broker'}\n",
        r#"3: mqtt.url: does not begin with mqtt:// or mqtts:// ("tcp://broker"); write mqtt:// or mqtts://, a host"#,
    ),
    (
        "mqtt: {url: 'mqtt://u:hunter2@broker'}\n",
        r#"3: mqtt.url: has a user ("mqtt://u:***@broker"); write mqtt.user, and the file of the password as mqtt.password_file"#,
    ),
    ("mqtt: {url: 'mqtt://broker:0'}\n", r#"3: mqtt.url: has a wrong port ("mqtt://broker:0"); write mqtt://"#),
    ("mqtt: {url: 'mqtt://broker/home'}\n", r#"3: mqtt.url: has no right host ("mqtt://broker/home"); write mqtt://"#),
    (
        "mqtt: {url: 'mqtt://broker', password_file: /etc/secret}\n",
        "3: mqtt.password_file: stands without mqtt.user; write the user whose password it is",
    ),
    (
        "mqtt: {url: 'mqtt://broker', prefix: 'home/#'}\n",
        r#"3: mqtt.prefix: has $, #, + or control characters ("home/#"); write the discovery prefix of Home Assistant"#,
    ),
    ("heartbeat: {every: 0s}\n", r#"3: heartbeat.every: too short ("0s"); write 1s to 1d"#),
    (
        "metrics: {listen: ':9187'}\n",
        r#"3: metrics.listen: no address and port (":9187"); write an IP address and a port, such as 127.0.0.1:9187"#,
    ),
    (
        "metrics: {listen: 'localhost:80'}\n",
        r#"3: metrics.listen: no address and port ("localhost:80"); write an IP address and a port, such as 127.0.0.1:80"#,
    ),
    (
        "log: {level: verbose}\n",
        r#"3: log.level: not one of the choices ("verbose"); the choice is error, warn, info, debug, trace"#,
    ),
    (
        "log: {target: journal}\n",
        r#"3: log.target: not one of the choices ("journal"); did you mean journald? The choice is auto, journald, stderr"#,
    ),
    ("log: [a]\n", "3: log: a list stands where a map is wanted; write its keys indented below it, or leave it out"),
    (
        "cameras: {name: a}\n",
        "3: cameras: a map stands where a list is wanted; write a list, each item with a dash: - name: CAM-EXT-001",
    ),
    (
        "cameras:\n- CAM-1\n",
        r#"4: cameras[0]: one value stands where a map is wanted ("CAM-1"); write its keys: - name: CAM-EXT-001"#,
    ),
    (
        "cameras:\n- vendor: yi\n",
        "4: cameras[0].name: is missing; write the camera's name in the bucket, such as CAM-EXT-001",
    ),
    (
        "cameras:\n- name: a\n- name: b\n- name: a\n",
        r#"6: cameras[2].name: is the name of another camera too ("a"); give each camera a name of its own"#,
    ),
    ("cameras:\n- name: a/b\n", r#"4: cameras[0].name: has a / ("a/b"); write one name without /"#),
    ("cameras:\n- name: ''\n", r#"4: cameras[0].name: is empty (""); write the camera's name in the bucket"#),
    ("cameras:\n- name: ..\n", r#"4: cameras[0].name: no name (".."); write a name such as CAM-EXT-001"#),
    ("cameras:\n- name: \"a\\x07\"\n", r#"4: cameras[0].name: has control characters ("a\u{7}"); remove them"#),
    (
        "cameras:\n- name: a\n  match: a\n",
        r#"5: cameras[0].match: matches a single file ("a"); write a/** for all that is in the folder a"#,
    ),
    (
        "cameras:\n- name: a\n  match: a/\n",
        r#"5: cameras[0].match: ends in /, which no path does ("a/"); write a/** for all that is in it"#,
    ),
    (
        "cameras:\n- name: a\n  match: /a/**\n",
        r#"5: cameras[0].match: begins with / ("/a/**"); write the path below the drop folder, such as a/**"#,
    ),
    (
        "cameras:\n- name: a\n  match: 'a/[z'\n",
        r#"5: cameras[0].match: no glob: unclosed character class; missing ']' ("a/[z"); write * and ? within a folder"#,
    ),
    (
        "cameras:\n- name: a\n  vendor: hikvison\n",
        r#"5: cameras[0].vendor: not one of the choices ("hikvison"); did you mean hikvision? The choice is auto, hikvision"#,
    ),
    (
        "cameras:\n- name: a\n  timezone: system\n",
        r#"5: cameras[0].timezone: no time zone of that name ("system"); write a name of the tz database"#,
    ),
    (
        "cameras:\n- name: a\n  pattern: '(?P<taken>\\d+'\n",
        r#"5: cameras[0].pattern: no regular expression: unclosed group ("(?P<taken>\\d+"); mend it (Rust's regex syntax"#,
    ),
    (
        "cameras:\n- name: a\n  pattern: '(?P<when>x)'\n",
        r#"5: cameras[0].pattern: an unknown group when ("(?P<when>x)"); the groups are camera, taken, event, channel"#,
    ),
    (
        "cameras:\n- name: a\n  pattern: '\\d+'\n",
        r#"5: cameras[0].pattern: has none of the groups ("\\d+"); the groups are camera, taken, event, channel"#,
    ),
    (
        "cameras:\n- name: a\n  silent_after: 1.5h\n",
        r#"5: cameras[0].silent_after: not a duration ("1.5h"); write one whole number and one unit, such as 500ms, 30s"#,
    ),
    ("cammeras: []\n", "3: cammeras: unknown key; did you mean cameras?"),
    ("upload:\n  concurency: 4\n", "4: upload.concurency: unknown key; did you mean concurrency?"),
    ("upload:\n  zzz: 4\n", "4: upload.zzz: unknown key; known here: concurrency, bandwidth"),
    ("cameras:\n- name: a\n  zone: Europe/Kyiv\n", "5: cameras[0].zone: unknown key; did you mean timezone?"),
    ("log: {level: info}\nlog: {level: warn}\n", "4: log: is there twice, first in line 3; keep one of them"),
    ("log:\n  level: info\n  level: warn\n", "5: log.level: is there twice, first in line 4; keep one of them"),
    ("log: {level: !!str info}\n", "3: log.level: a YAML tag (\"tag:yaml.org,2002:!str\"); leave the tag out"),
    (
        "log: {level: '${LEVEL}'}\n",
        r#"3: log.level: the environment variable LEVEL is not set ("${LEVEL}"); set LEVEL in the environment of the service, or write the value itself"#,
    ),
    ("log: {level: '${LEVEL'}\n", r#"3: log.level: a variable without an end ("${LEVEL"); write ${NAME}"#),
    (
        "timezone: ${TZ}x\n",
        r#"3: timezone: no time zone of that name ("${TZ}x", which is "Europe/Kyivx"); did you mean Europe/Kyiv?"#,
    ),
];

/// Keys of `s3`, from line 3, and the start of the message.
const IN_S3: &[(&str, &str)] = &[
    ("region: eu-central-1", "2: s3.bucket: is missing; write the name of the bucket, such as my-video-surveillance"),
    ("bucket: ", "3: s3.bucket: is missing; write the name of the bucket"),
    (
        "bucket: ab",
        r#"3: s3.bucket: too short ("ab"); write the name of a general purpose bucket: 3 to 63 of a-z, 0-9, - and ."#,
    ),
    ("bucket: My-Bucket", r#"3: s3.bucket: has characters that no bucket's name has ("My-Bucket"); write the name"#),
    (
        "bucket: captures\n  account: 1111",
        r#"4: s3.account: no account of AWS ("1111"); write the 12 digits of the account that owns the bucket, such as 111122223333, or null"#,
    ),
    (
        "bucket: captures\n  account: 1111-2222-3333",
        r#"4: s3.account: has dashes ("1111-2222-3333"); write 111122223333"#,
    ),
    ("bucket: captures\n  undo: 12h", r#"4: s3.undo: too short ("12h"); write 1d to 36500d"#),
    ("bucket: captures\n  undo: null", "4: s3.undo: has no value; write one, or leave the key out to have its default"),
    ("bucket: a..b", r#"3: s3.bucket: has two dots in a row ("a..b"); write the name"#),
    ("bucket: -ab", r#"3: s3.bucket: starts or ends with - or . ("-ab"); write the name"#),
    (
        "bucket: captures\n  former_keys: [\"{camera}/{dat}/{file}\"]",
        r#"4: s3.former_keys[0]: `{dat}` is no placeholder; known are {camera} {date} {year} {month} {day} {hour} {event} {channel} {file} ("{camera}/{dat}/{file}"); write the whole shape that keys had, such as old/{camera}/{date}/{file}"#,
    ),
    (
        "bucket: captures\n  former_keys: [\"{prefix}{camera}/{date}/{file}\"]",
        r#"4: s3.former_keys: is the shape of present keys, or stands there twice ("{prefix}{camera}/{date}/{file}"); remove it"#,
    ),
    ("bucket: 192.168.0.1", r#"3: s3.bucket: looks like an IP address ("192.168.0.1"); write the name"#),
    ("bucket: xn--abc", r#"3: s3.bucket: starts like a name that AWS keeps for itself ("xn--abc"); write the name"#),
    (
        "bucket: ab--x-s3",
        r#"3: s3.bucket: ends like a name that AWS keeps for other kinds of buckets ("ab--x-s3"); write"#,
    ),
    ("bucket: s3://abc/x", r#"3: s3.bucket: a URL ("s3://abc/x"); write the name alone: abc"#),
    ("bucket: arn:aws:s3:::abc", r#"3: s3.bucket: an ARN ("arn:aws:s3:::abc"); write the name"#),
    ("bucket: [abc]", "3: s3.bucket: a list stands where one value is wanted; write one value"),
    (
        "bucket: abc\n  region: Frankfurt",
        r#"4: s3.region: no region ("Frankfurt"); write a region such as eu-central-1, or null"#,
    ),
    (
        "bucket: abc\n  region: eu-central-1a",
        r#"4: s3.region: an availability zone ("eu-central-1a"); write the region: eu-central-1"#,
    ),
    ("bucket: abc\n  region: ''", r#"4: s3.region: no region (""); write a region such as eu-central-1, or null"#),
    ("bucket: abc\n  profile: ''", r#"4: s3.profile: is empty (""); write a value, or null"#),
    (
        "bucket: abc\n  endpoint_url: minio:9000",
        r#"4: s3.endpoint_url: does not begin with http:// or https:// ("minio:9000"); write http:// or https://, a host, and a port"#,
    ),
    ("bucket: abc\n  endpoint_url: http://", r#"4: s3.endpoint_url: has no right host ("http://"); write http"#),
    (
        "bucket: abc\n  endpoint_url: http://h:99999",
        r#"4: s3.endpoint_url: has a wrong port ("http://h:99999"); write http"#,
    ),
    (
        "bucket: abc\n  endpoint_url: http://k:hunter2@h",
        r#"4: s3.endpoint_url: has credentials ("http://k:***@h"); leave them out: the key is in /etc/hk-aws/credentials, the AWS files or the environment"#,
    ),
    (
        "bucket: abc\n  endpoint_url: http://h/?x=y",
        r#"4: s3.endpoint_url: has a query ("http://h/?x=y"); leave out what follows ? or #"#,
    ),
    ("bucket: abc\n  path_style: yes", r#"4: s3.path_style: neither true nor false ("yes"); write true or false"#),
    ("bucket: abc\n  prefix: /site", r#"4: s3.prefix: begins with / ("/site"); write site/, or "" for none"#),
    (
        "bucket: abc\n  prefix: a//b",
        r#"4: s3.prefix: has an empty part, . or .. ("a//b"); write names with one / between them"#,
    ),
    (
        "bucket: abc\n  key: '{camera}/{date}'",
        r#"4: s3.key: it must end with `{file}` ("{camera}/{date}"); the default is "{camera}/{date}/{file}""#,
    ),
    ("bucket: abc\n  prefix: //", r#"4: s3.prefix: begins with / ("//"); write "" for none"#),
    (
        "bucket: abc\n  key: ",
        r#"4: s3.key: has no value; write one, or leave the key out to have "{camera}/{date}/{file}""#,
    ),
    (
        "bucket: abc\n  key: {camera}",
        "4: s3.key: a map stands where one value is wanted; write one value, with quotes around it where it starts with { or [",
    ),
    (
        "bucket: abc\n  storage_class: STANDARD-IA",
        r#"4: s3.storage_class: not one of the choices ("STANDARD-IA"); did you mean STANDARD_IA? The choice is STANDARD, STANDARD_IA"#,
    ),
    (
        "bucket: abc\n  access: read_write",
        r#"4: s3.access: not one of the choices ("read_write"); did you mean read-write? The choice is read-write, write-only"#,
    ),
    (
        "bucket: abc\n  checksum: never",
        r#"4: s3.checksum: not one of the choices ("never"); the choice is always, when_required"#,
    ),
    ("bucket: abc\n  tags: 1", r#"4: s3.tags: neither true nor false ("1"); write true or false"#),
    (
        "bucket: abc\n  object_lock: governance",
        r#"4: s3.object_lock: one value stands where a map is wanted ("governance"); write {mode: governance, days: 90}, or null"#,
    ),
    (
        "bucket: abc\n  object_lock:\n    mode: legal\n",
        r#"5: s3.object_lock.mode: not one of the choices ("legal"); the choice is governance, compliance"#,
    ),
    ("bucket: abc\n  object_lock: {days: 0}", r#"4: s3.object_lock.days: too small ("0"); write 1 to 36500"#),
    (
        "bucket: abc\n  sse: aes",
        r#"4: s3.sse: no kind of encryption ("aes"); write AES256, aws:kms or {kms_key_id: alias/captures}, or null"#,
    ),
    ("bucket: abc\n  sse: {}", "4: s3.sse.kms_key_id: is missing; write the id, alias or ARN of the key"),
    ("bucket: abc\n  sse: {kms_key_id: a b}", r#"4: s3.sse.kms_key_id: no KMS key ("a b"); write the key's id"#),
    (
        "bucket: abc\n  sse: [AES256]",
        "4: s3.sse: a list stands where a map is wanted; write AES256, aws:kms or {kms_key_id: alias/captures}, or null",
    ),
];

/// Keys of `drop_folder`, from line 2, and the start of the message.
const IN_DROP_FOLDER: &[(&str, &str)] = &[
    (
        "rescan: 1m",
        "1: drop_folder.path: is missing; write the folder the cameras' FTP server writes into, such as /var/lib/cctv/storage",
    ),
    (
        "path: storage",
        r#"2: drop_folder.path: a relative path ("storage"); write the whole path from /, such as /var/lib/storage"#,
    ),
    (
        "path: var/lib/cctv",
        r#"2: drop_folder.path: a relative path ("var/lib/cctv"); write the whole path from /, such as /var/lib/cctv"#,
    ),
    (
        "path: ./lib/cctv",
        r#"2: drop_folder.path: a relative path ("./lib/cctv"); write the whole path from /, such as /var/lib/cctv"#,
    ),
    (
        "path: cctv/storage",
        r#"2: drop_folder.path: a relative path ("cctv/storage"); write the whole path from /, such as /var/lib/cctv/storage"#,
    ),
    ("path: ''", r#"2: drop_folder.path: is empty (""); write the whole path from /, such as /var/lib/cctv/storage"#),
    ("path: /", r#"2: drop_folder.path: the root of the file system ("/"); write a folder below it"#),
    (
        "path: /srv\n  rescan: 60",
        r#"3: drop_folder.rescan: a duration without a unit ("60"); write its unit: ms, s, m, h or d, such as 60s"#,
    ),
    ("path: /srv\n  rescan: 2d", r#"3: drop_folder.rescan: too long ("2d"); write 100ms to 1d"#),
    ("path: /srv\n  settle: 2h", r#"3: drop_folder.settle: too long ("2h"); write 0s to 1h"#),
    ("path: /srv\n  partial_after: 31d", r#"3: drop_folder.partial_after: too long ("31d"); write 0s to 30d"#),
    (
        "path: /srv\n  ignore: '*.tmp'",
        r#"3: drop_folder.ignore: one value stands where a list is wanted ("*.tmp"); write a list of globs such as ["*.tmp", ".*"], or [] for none"#,
    ),
    (
        "path: /srv\n  ignore:",
        r#"3: drop_folder.ignore: has no value; write a list of globs such as ["*.tmp", ".*"], or [] for none"#,
    ),
    (
        "path: /srv\n  ignore:\n  - '*.tmp'\n  - 'a['",
        r#"5: drop_folder.ignore[1]: no glob: unclosed character class; missing ']' ("a["); write * and ? within a folder"#,
    ),
    (
        "path: /srv\n  ignore: ['*']",
        r#"3: drop_folder.ignore[0]: matches every file ("*"); write what is no capture, such as *.tmp"#,
    ),
    (
        "path: /srv\n  ignore: [tmp/]",
        r#"3: drop_folder.ignore[0]: ends in /, which no path does ("tmp/"); write tmp/** for all that is in it"#,
    ),
];

fn refuses(text: &str, message: &str) {
    let messages = parse(text).map(|config| panic!("accepted: {text}\n{config:?}")).unwrap_err().to_string();
    assert!(messages.starts_with(&format!("config.yaml:{message}")), "{text}\n{messages}");
    assert_eq!(messages.lines().count(), 1, "{text}\n{messages}");
    assert!(!messages.contains("hunter2"), "{messages}");
}

#[test]
fn a_bad_value_is_named_with_its_line_and_a_remedy() {
    for (more, message) in ANYWHERE {
        refuses(&format!("{}{more}", super::MINIMAL), message);
    }
}

#[test]
fn a_bad_value_of_the_bucket_is_named_with_its_line_and_a_remedy() {
    for (keys, message) in IN_S3 {
        refuses(&format!("drop_folder: {{path: /srv}}\ns3:\n  {keys}\n"), message);
    }
}

#[test]
fn a_bad_value_of_the_drop_folder_is_named_with_its_line_and_a_remedy() {
    for (keys, message) in IN_DROP_FOLDER {
        refuses(&format!("drop_folder:\n  {keys}\ns3: {{bucket: abc}}\n"), message);
    }
}
