//! The ledger stays small: days in bundles lose their files, old days are compressed, and nothing is forgotten by that.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use hk_aws::ledger::{self, LedgerEntry};

use super::rotate::{ago, name, stored};
use super::{Site, names};
use crate::process::daemon::{BINARY, Daemon};
use crate::support::s3::{ACCESS_KEY, SECRET_KEY};

fn file(site: &Site, day: u64, ending: &str) -> PathBuf {
    site.path(&format!("state/ledger/CAM-1/{}.jsonl{ending}", ago(day)))
}

/// Compresses as the daemon does every hour.
async fn compress(site: &Site) -> usize {
    site.context().await.compress_ledger(hk_aws::daemon::now()).unwrap()
}

#[tokio::test]
async fn a_days_ledger_goes_once_its_bundle_is_confirmed_and_its_copies_are_gone() {
    let site = stored("keep: {days: 0}\n", &[40, 20]).await;
    let said = site.run(&["rotate"]).await;
    assert!(said.code == 0 && said.out.contains("2 captures of 2 days bundled"), "{said:?}");
    assert!(!file(&site, 40, "").exists() && file(&site, 20, "").exists());
    let said = site.run(&["verify"]).await;
    assert_eq!((said.code, said.out.contains("extra")), (0, false), "{said:?}");
    assert_eq!(site.run(&["list", "CAM-1"]).await.out.lines().count(), 3);
    // The camera is known although only its bundles are in the ledger, and has no folder and no loose day.
    fs::remove_file(file(&site, 20, "")).unwrap();
    fs::remove_dir_all(site.path("drop/CAM-1")).unwrap();
    let said = site.run(&["rotate", "--dry-run"]).await;
    assert!(!said.err.contains("left alone"), "{said:?}");
    // A bundle that is gone is missed, and a capture that comes late is written down and bundled.
    site.drop_file(&format!("CAM-1/{}", name(ago(40), 9)), b"late");
    assert_eq!(site.run(&["upload"]).await.code, 0);
    assert_eq!(fs::read_to_string(file(&site, 40, "")).unwrap().lines().count(), 1);
    assert_eq!(site.run(&["rotate"]).await.code, 0);
    assert!(!file(&site, 40, "").exists());
    site.s3.remove(&format!("CAM-1/archive/{}.tar", ago(40)));
    let said = site.run(&["verify"]).await;
    assert!(said.code == 3 || said.code == 1, "{said:?}");
    assert!(said.out.contains("missing") && said.out.contains(&format!("{}.tar", ago(40))), "{said:?}");
}

#[tokio::test]
async fn a_days_ledger_stays_while_anything_of_it_may_be_needed() {
    // Local copies may go only because the ledger tells of them.
    let site = stored("", &[40]).await;
    assert_eq!(site.run(&["rotate"]).await.code, 0);
    assert!(file(&site, 40, "").exists());
    // The bundle is not what it was.
    fs::remove_dir_all(site.path("state/kept")).unwrap();
    let key = format!("CAM-1/archive/{}.tar", ago(40));
    let whole = site.s3.object(&key).unwrap();
    site.s3.insert(&key, "altered");
    assert_eq!(site.run(&["rotate"]).await.code, 0);
    assert!(file(&site, 40, "").exists());
    // Nor its index there.
    site.s3.insert_with(&key, "", |object| *object = whole);
    let index = format!("CAM-1/archive/{}.index.json", ago(40));
    let there = site.s3.object(&index).unwrap();
    site.s3.remove(&index);
    assert_eq!(site.run(&["rotate"]).await.code, 0);
    assert!(file(&site, 40, "").exists());
    site.s3.insert_with(&index, "", |object| *object = there);
    // It was compressed meanwhile, which changes nothing.
    assert_eq!(compress(&site).await, 1);
    assert!(file(&site, 40, ".gz").exists());
    assert_eq!(site.run(&["rotate"]).await.code, 0);
    assert!(!file(&site, 40, "").exists() && !file(&site, 40, ".gz").exists());
    assert_eq!(site.run(&["verify"]).await.code, 0);
}

#[tokio::test]
async fn old_days_are_compressed_and_are_read_and_appended_to_as_before() {
    let site = stored("keep: {days: 10}\nrotate: {archive: null}\n", &[40, 20, 5]).await;
    let text = fs::read_to_string(file(&site, 20, "")).unwrap();
    assert_eq!(compress(&site).await, 4);
    assert_eq!(compress(&site).await, 0);
    let folder = names(&site.path("state/ledger/CAM-1"));
    let expected = [format!("{}.jsonl.gz", ago(40)), format!("{}.jsonl.gz", ago(20)), format!("{}.jsonl", ago(5))];
    assert_eq!(folder, expected);
    let said = site.run(&["verify"]).await;
    assert!(said.code == 0 && !said.out.contains("extra"), "{said:?}");
    // A crash after the compressed file was made, and before the other one went.
    fs::write(file(&site, 20, ""), &text).unwrap();
    assert_eq!(site.run(&["verify"]).await.code, 0);
    assert_eq!(compress(&site).await, 1);
    // A late line, and one that is there already.
    site.drop_file(&format!("CAM-1/{}", name(ago(20), 9)), b"late");
    site.drop_file(&format!("CAM-1/{}", name(ago(20), 0)), format!("CAM-1 20 {}", "x").as_bytes());
    assert_eq!(site.run(&["upload"]).await.code, 0);
    assert_eq!(fs::read_to_string(file(&site, 20, "")).unwrap().lines().count(), 1);
    let path = file(&site, 20, "");
    assert_eq!(compress(&site).await, 1);
    assert!(!path.exists() && ledger::entries(&path).unwrap().any(|entry| entry.source.ends_with(&name(ago(20), 9))));
    site.s3.remove(&format!("CAM-1/{}/{}", ago(20), name(ago(20), 0)));
    let said = site.run(&["verify"]).await;
    assert!(said.out.contains("missing") && said.out.contains(&name(ago(20), 0)), "{said:?}");
    // Local copies of compressed days still give way.
    let said = site.run(&["rotate"]).await;
    assert!(said.out.contains("local copies gave way"), "{said:?}");
}

/// How long the daemon's start and commands take with a large ledger: `HK_AWS_LEDGER_LINES=1000000 cargo test --test it -- ledger_of_many_lines
/// --nocapture` says it for a million lines; by default there are 1,200.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "it measures")]
async fn a_ledger_of_many_lines_is_read_in_bounded_time() {
    let lines: u64 = std::env::var("HK_AWS_LEDGER_LINES").map_or(1200, |lines| lines.parse().unwrap());
    let site = Site::start().await;
    let days = lines / 300;
    let first: NaiveDate = ago(days + 1);
    for day in 0..days {
        let date = first + Days::new(day);
        let folder = site.path("state/ledger/CAM");
        fs::create_dir_all(&folder).unwrap();
        let mut text = String::new();
        for number in 0..300 {
            let file = name(date, number);
            let taken_at = date.and_time(NaiveTime::MIN).and_utc().fixed_offset();
            let (key, sha256) = (format!("CAM/{date}/{file}"), format!("{day:032x}{number:032x}"));
            let entry = LedgerEntry {
                stored_at: DateTime::<Utc>::UNIX_EPOCH,
                key: key.clone(),
                size: 1,
                sha256,
                taken_at,
                event: Some("MOTION_DETECTION".to_owned()),
                source: format!("CAM/{file}"),
                partial: false,
            };
            text.push_str(&serde_json::to_string(&entry).unwrap());
            text.push('\n');
            site.s3.insert(&key, "x");
        }
        fs::write(folder.join(format!("{date}.jsonl")), text).unwrap();
    }
    let size = || -> u64 {
        let entries = fs::read_dir(site.path("state/ledger/CAM")).unwrap();
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
    println!("{} lines: {} MiB", days * 300, size() >> 20);
    for compressed in [false, true] {
        if compressed {
            let began = Instant::now();
            while compress(&site).await > 0 {}
            println!("compressed in {:?}: {} MiB", began.elapsed(), size() >> 20);
        }
        let mut command = Daemon::command(BINARY);
        command.arg("--config").arg(site.path("config.yaml")).arg("run");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        let began = Instant::now();
        let mut daemon = Daemon::start(command, site.folder.path());
        daemon.wait_for_notice("READY=1", 0);
        println!("start of the daemon until READY=1: {:?}", began.elapsed());
        drop(daemon);
        for command in ["status", "check", "verify"] {
            let began = Instant::now();
            let said = site.run(&[command]).await;
            println!("{command}: {:?}", began.elapsed());
            assert!(command == "status" || said.code == 0, "{said:?}");
        }
    }
}
