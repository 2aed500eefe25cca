//! Names in the bucket that lead out of folders or play tricks on terminals.

use hk_aws::key::ArchiveFormat;

use super::{Said, Site, archive};
use crate::support::s3::Fault;
use crate::support::site::files;

const DAY: &str = "2022-02-24";

/// Clears the screen, turns text round, and begins a line; a listing cannot carry the escape character itself.
const TRICKS: &str = "a\u{9b}2J\u{202e}b\nhk-aws: done";

fn assert_plain(said: &Said) {
    for text in [&said.out, &said.err] {
        let trick = text.chars().find(|character| *character != '\n' && hk_aws::key::plays_tricks(*character));
        assert_eq!(trick, None, "{said:?}");
        assert!(!text.lines().any(|line| line == "hk-aws: done"), "{said:?}");
    }
}

#[tokio::test]
async fn a_name_that_no_camera_can_have_is_no_camera_and_leads_nowhere() {
    let site = Site::start_with("", "rotate: {cameras: all, archive: {after: 1d, class: STANDARD}}\n").await;
    for camera in ["..", ".", TRICKS, "CAM"] {
        site.s3.insert(&format!("{camera}/{DAY}/20220224T050607_a.jpg"), "x");
        site.s3.insert(&format!("{camera}/archive/2022-02-23.tar.gz"), "x");
    }
    assert_eq!(site.run(&["cameras"]).await.out, "CAM\n");
    let said = site.run(&["rotate"]).await;
    assert!(said.code == 0 && said.out.contains("1 captures of 1 days"), "{said:?}");
    let state: Vec<_> = files(&site.path("state")).into_iter().filter(|path| path.ends_with(".jsonl")).collect();
    assert!(state.iter().all(|path| path.starts_with(site.path("state/ledger/CAM"))), "{state:?}");
    assert!(site.s3.keys().contains(&format!("../{DAY}/20220224T050607_a.jpg")), "{:?}", site.s3.keys());
    for command in ["days", "list", "arrange", "verify"] {
        let said = site.run(&[command, ".."]).await;
        assert!(said.code == 2 && said.err.contains("no camera can have this name"), "{said:?}");
    }
    for camera in ["..", "a/b", TRICKS] {
        for line in [&["get", camera, DAY, "--to", "x"][..], &["archive", camera, DAY], &["restore", camera, DAY]] {
            assert_eq!(site.run(line).await.code, 2, "{line:?}");
        }
    }
    // Nor out of an index, or out of the ledger's folder.
    let index = format!("CAM/archive/{DAY}.index.json");
    site.s3.edit(&index, |index| {
        let text = String::from_utf8(index.bytes.take().unwrap().to_vec()).unwrap();
        index.bytes = Some(text.replace("\"camera\":\"CAM\"", "\"camera\":\"..\"").into());
        index.len = index.bytes.as_ref().unwrap().len() as u64;
        index.checksum = s3s::dto::Checksum::default();
        index.metadata.clear();
    });
    let said = site.run(&["list", "CAM", DAY]).await;
    assert!(said.code == 1 && said.err.contains("no camera can have this name"), "{said:?}");
    std::fs::create_dir_all(site.path(&format!("state/ledger/{TRICKS}"))).unwrap();
    let said = site.run(&["verify"]).await;
    assert_plain(&said);
    assert!(!said.out.contains("2J"), "{said:?}");
}

#[tokio::test]
async fn no_name_of_the_bucket_plays_tricks_whatever_is_said_of_it() {
    let site = Site::start_with("", "rotate: {cameras: all, archive: {after: 1d, class: STANDARD}}\n").await;
    site.s3.insert(&format!("CAM/{DAY}/{TRICKS}.jpg"), "x");
    site.s3.insert(&format!("CAM/{TRICKS}.jpg"), "x");
    site.bundle("CAM", DAY, &archive("STANDARD", ArchiveFormat::Tar)).await;
    site.s3.insert(&format!("CAM/{DAY}/{TRICKS}2.jpg"), "x");
    site.s3.insert(&format!("CAM/archive/{DAY}.part2.index.json"), "{}");
    site.s3.edit(&format!("CAM/archive/{DAY}.tar"), |object| TRICKS.clone_into(&mut object.storage_class));
    let to = site.path("to").into_os_string().into_string().unwrap();
    let lines = [
        &["cameras"][..],
        &["days", "CAM"],
        &["list", "CAM"],
        &["get", "CAM", DAY, "--to", &to],
        &["get", "CAM", DAY, TRICKS, "--to", &to],
        &["get", "CAM", DAY, "--to", TRICKS],
        &["verify"],
        &["verify", "--deep", "--rebuild"],
        &["arrange", "--dry-run"],
        &["rotate", "--dry-run"],
        &["archive", "CAM", DAY],
        &["restore", "CAM", DAY, "--yes"],
        &["rotate"],
        &["-v", "rotate"],
        &["status"],
    ];
    for failing in ["GetObject", "PutObject", "DeleteObjects", ""] {
        site.s3.clear_faults();
        site.s3.fault(Fault::fail(failing, 403, "AccessDenied"));
        for line in lines {
            assert_plain(&run_in(&site, line).await);
        }
    }
    for line in lines {
        assert_plain(&run_in(&site, &[&["--json"], line].concat()).await);
    }
    assert!(site.s3.count("PutObject") > 0);
}

/// Runs a command in the site's own folder, for what it makes there.
async fn run_in(site: &Site, line: &[&str]) -> Said {
    super::run(site.command(line).current_dir(site.path(""))).await
}
