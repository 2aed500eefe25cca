//! A camera-day of 10,000 captures into a bundle: by `hk-aws archive` from the local copies, and the way of the scripts
//! that came before, which read every object back, packed them and deleted them one by one.
//!
//! Both are processes of their own against the same server in memory, one after the other; the server, in this process,
//! takes its share of the machine. `HK_AWS_BENCH_CAPTURES` sets how many captures there are.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use aws_smithy_types::base64;
use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use hk_aws::ledger;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::s3::{ACCESS_KEY, MemoryS3, REGION, SECRET_KEY, plain_http};

const CAPTURES: usize = 10_000;
const CAPTURE_BYTES: usize = 200_000;
pub(crate) const CAMERA: &str = "CAM-EXT-001";
pub(crate) const BUCKET: &str = "figures";
/// Runs of each way.
const RUNS: usize = 3;
/// What the old way puts at once: the size of a part that the AWS command line takes.
const PART_BYTES: usize = 8 << 20;
/// How often a process's memory is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) seconds: f64,
    pub(crate) peak_mib: f64,
    requests: f64,
    egress: f64,
}

/// Measures and prints.
pub(crate) async fn measure() -> anyhow::Result<()> {
    let count = match std::env::var("HK_AWS_BENCH_CAPTURES") {
        Ok(count) => count.parse()?,
        Err(_) => CAPTURES,
    };
    println!(
        "\nbundle: a day of {count} captures of {CAPTURE_BYTES} bytes, {RUNS} runs; server and program share the machine"
    );
    let (mut new, mut old) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let folder = tempfile::tempdir().context("failed to make a folder")?;
        let server = MemoryS3::start(BUCKET).await;
        let date = fill(&server, folder.path(), count)?;
        let mut command = command(&server, folder.path())?;
        command.args(["archive", CAMERA, &date.to_string()]);
        new.push(run(command, &server, folder.path(), count).await?);
        let left = server.keys();
        ensure!(left.iter().all(|key| key.contains("/archive/")), "members are left: {}", left.len());
        let client = server.client();
        for key in left {
            client.delete_object().bucket(BUCKET).key(key).send().await?;
        }
        put_captures(&server, date, count);
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("bundle-old").args([&server.endpoint(), &date.to_string()]).arg(folder.path());
        old.push(run(command, &server, folder.path(), count).await?);
        ensure!(server.keys() == [format!("{CAMERA}/archive/{date}.tar")], "the old way left {}", server.keys().len());
    }
    println!(
        "{:<42}{:>18}{:>18}{:>24}{:>24}",
        "min/median/max", "seconds", "VmHWM MiB", "requests/capture", "egress/capture"
    );
    row("hk-aws archive, from local copies", &new);
    row("GET all, tar, PUT in parts, DELETE each", &old);
    let worst = |of: fn(&Run) -> f64| new.iter().map(of).fold(0.0, f64::max);
    println!(
        "marks: requests <= 0.01: {}; egress 0: {}; memory <= 64 MiB: {}",
        worst(|run| run.requests) <= 0.01,
        worst(|run| run.egress) == 0.0,
        worst(|run| run.peak_mib) <= 64.0
    );
    Ok(())
}

fn row(name: &str, runs: &[Run]) {
    let three = |of: fn(&Run) -> f64, digits: usize| {
        let mut values: Vec<f64> = runs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| format!("{:.digits$}", values[index]);
        format!("{}/{}/{}", at(0), at(values.len() / 2), at(values.len() - 1))
    };
    println!(
        "{name:<42}{:>18}{:>18}{:>24}{:>24}",
        three(|run| run.seconds, 1),
        three(|run| run.peak_mib, 1),
        three(|run| run.requests, 4),
        three(|run| run.egress, 0)
    );
}

/// Runs a program to its end, and looks at it and at what the server was asked.
pub(crate) async fn run(mut command: Command, server: &MemoryS3, folder: &Path, count: usize) -> anyhow::Result<Run> {
    let log = File::create(folder.join("log"))?;
    command.env_clear().env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", folder);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
    let (before, began) = (server.requests().len(), Instant::now());
    let mut child = command.spawn()?;
    let status = format!("/proc/{}/status", child.id().context("it has just begun")?);
    let mut peak_kib = 0.0_f64;
    let ended = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        peak_kib = peak_kib.max(peak.unwrap_or(0.0));
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        tokio::time::sleep(LOOK).await;
    };
    let seconds = began.elapsed().as_secs_f64();
    ensure!(ended.success(), "{ended}: {}", fs::read_to_string(folder.join("log"))?);
    let asked = server.requests().split_off(before);
    let mut counts = BTreeMap::<&str, usize>::new();
    for request in &asked {
        *counts.entry(request.operation).or_default() += 1;
    }
    println!("{seconds:.1} s, {:.1} MiB, {counts:?}", peak_kib / 1024.0);
    let sent: u64 = asked.iter().filter(|request| request.operation == "GetObject").map(|request| request.sent).sum();
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let each = |sum: u64| sum as f64 / count as f64;
    Ok(Run { seconds, peak_mib: peak_kib / 1024.0, requests: each(asked.len() as u64), egress: each(sent) })
}

/// Bytes that do not compress and that no other number has.
fn capture(number: usize) -> Vec<u8> {
    let mut state = (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(word).flatten().take(CAPTURE_BYTES).collect()
}

fn taken(date: NaiveDate, number: usize, count: usize) -> DateTime<Utc> {
    let seconds = i64::try_from(number * 86_400 / count).unwrap_or(0);
    let milliseconds = i64::try_from(number % 1000).unwrap_or(0);
    (date.and_time(NaiveTime::MIN) + TimeDelta::seconds(seconds) + TimeDelta::milliseconds(milliseconds)).and_utc()
}

pub(crate) fn key(date: NaiveDate, number: usize, count: usize) -> String {
    let taken = taken(date, number, count).format("%Y%m%d%H%M%S%3f");
    format!("{CAMERA}/{date}/192.168.1.64_01_{taken}_MOTION_DETECTION.jpg")
}

/// Leaves behind what the daemon leaves of a day.
fn fill(server: &MemoryS3, folder: &Path, count: usize) -> anyhow::Result<NaiveDate> {
    let date = Utc::now().date_naive() - Days::new(40);
    put_captures(server, date, count);
    let kept = folder.join("state/kept").join(CAMERA).join(date.to_string());
    fs::create_dir_all(&kept)?;
    for number in 0..count {
        let (key, bytes) = (key(date, number, count), capture(number));
        fs::write(kept.join(key.rsplit('/').next().context("a key has a name")?), &bytes)?;
        let taken = taken(date, number, count);
        let entry = ledger::LedgerEntry {
            stored_at: taken,
            size: bytes.len() as u64,
            sha256: hex::encode(Sha256::digest(&bytes)),
            taken_at: taken.fixed_offset(),
            event: Some("MOTION_DETECTION".to_owned()),
            source: key.clone(),
            partial: false,
            key,
        };
        ledger::append(&folder.join("state/ledger"), CAMERA, &entry)?;
    }
    Ok(date)
}

fn put_captures(server: &MemoryS3, date: NaiveDate, count: usize) {
    for number in 0..count {
        server.insert_with(&key(date, number, count), capture(number), |object| {
            object.last_modified = taken(date, number, count).into();
            let digest = hex::decode(&object.sha256).unwrap_or_default();
            object.checksum.checksum_sha256 = Some(base64::encode(digest));
        });
    }
}

/// Returns the program with its configuration.
pub(crate) fn command(server: &MemoryS3, folder: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hk-aws"));
    command.arg("--config").arg(configure(server, folder)?);
    Ok(command)
}

fn configure(server: &MemoryS3, folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    let at = folder.display();
    let config = format!(
        "drop_folder: {{path: '{at}/drop'}}\nstate_dir: '{at}/state'\nruntime_dir: '{at}/run'\ntimezone: UTC\n\
         s3: {{bucket: {BUCKET}, region: {REGION}, endpoint_url: '{}', path_style: true}}\n",
        server.endpoint()
    );
    fs::create_dir_all(folder.join("drop"))?;
    let file = folder.join("config.yaml");
    fs::write(&file, config).context("failed to write the configuration")?;
    Ok(file)
}

/// The old way, in a process of its own: `bundle-old ENDPOINT DATE FOLDER`. Plain tar, which is faster than the tar.gz of old.
pub(crate) async fn old_way(endpoint: &str, date: &str, folder: &Path) -> anyhow::Result<()> {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(plain_http())
        .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "old"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .region(Region::from_static(REGION))
        .retry_config(RetryConfig::disabled());
    let client = aws_sdk_s3::Client::from_conf(config.build());
    let (mut keys, mut token) = (Vec::new(), None);
    loop {
        let list = client.list_objects_v2().bucket(BUCKET).prefix(format!("{CAMERA}/{date}/"));
        let page = list.set_continuation_token(token).send().await?;
        keys.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
        token = page.next_continuation_token().map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    let path = folder.join("old.tar");
    let mut tar = tar::Builder::new(File::create(&path)?);
    for key in &keys {
        let got = client.get_object().bucket(BUCKET).key(key).send().await?.body.collect().await?.into_bytes();
        let mut header = tar::Header::new_ustar();
        header.set_size(got.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, key.rsplit('/').next().unwrap_or(key), &*got)?;
    }
    tar.into_inner()?;
    let bytes = File::open(&path)?;
    let target = format!("{CAMERA}/archive/{date}.tar");
    let upload = client.create_multipart_upload().bucket(BUCKET).key(&target).storage_class("GLACIER".into());
    let upload = upload.send().await?;
    let id = upload.upload_id().context("an upload has an id")?;
    let (mut parts, mut file) = (Vec::new(), bytes);
    for number in 1.. {
        let mut part = Vec::with_capacity(PART_BYTES);
        std::io::Read::read_to_end(&mut std::io::Read::take(&mut file, PART_BYTES as u64), &mut part)?;
        if part.is_empty() {
            break;
        }
        let put = client.upload_part().bucket(BUCKET).key(&target).upload_id(id).part_number(number);
        let put = put.body(ByteStream::from(part)).send().await?;
        let part =
            CompletedPart::builder().part_number(number).set_e_tag(put.e_tag).set_checksum_crc32(put.checksum_crc32);
        parts.push(part.build());
    }
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let complete = client.complete_multipart_upload().bucket(BUCKET).key(&target).upload_id(id);
    complete.multipart_upload(parts).send().await?;
    for key in &keys {
        client.delete_object().bucket(BUCKET).key(key).send().await?;
    }
    Ok(())
}
