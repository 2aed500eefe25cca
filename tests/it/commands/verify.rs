//! `verify`: the ledger and the indexes against the bucket.

use aws_smithy_types::base64;
use chrono::NaiveDate;
use hk_aws::archive::{Made, Reads, archive_day};
use hk_aws::config::ArchiveSettings;
use hk_aws::holdings::HoldingsError;
use hk_aws::key::ArchiveFormat;
use hk_aws::ledger::{self, Removed};
use md5::Md5;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Said, Site, names};
use crate::support::s3::{Fault, Object};
use crate::support::settings;

const DAY: &str = "2022-02-24";
const INDEX: &str = "CAM/archive/2022-02-24.index.json";

fn date() -> NaiveDate {
    DAY.parse().unwrap()
}

fn name(number: usize) -> String {
    format!("192.168.1.64_01_202202240506{number:02}000_TIMING.jpg")
}

fn key(number: usize) -> String {
    format!("CAM/{DAY}/{}", name(number))
}

fn bundle(format: ArchiveFormat) -> String {
    format!("CAM/archive/{DAY}.{}", format.extension())
}

impl Site {
    /// A site whose bucket, ledger and local copies hold five captures of a day.
    async fn uploaded() -> Self {
        let site = Self::start().await;
        for number in 1..=5 {
            site.drop_file(
                &format!("CAM/{}", name(number)),
                format!("capture {number}").repeat(number * 40).as_bytes(),
            );
        }
        let said = site.run(&["upload"]).await;
        assert_eq!(said.code, 0, "{said:?}");
        site
    }

    async fn try_bundle(&self, format: ArchiveFormat, class: &str) -> Result<Made, HoldingsError> {
        let archive = ArchiveSettings { format, class: class.into(), ..ArchiveSettings::default() };
        archive_day(&self.context().await, &archive, "CAM", date(), &mut Reads::default()).await
    }

    /// A site whose five captures are in a bundle.
    async fn bundled(format: ArchiveFormat, class: &str) -> Self {
        let site = Self::uploaded().await;
        let made = site.try_bundle(format, class).await.unwrap();
        assert_eq!((made.members, made.deleted, made.left), (5, 5, vec![]));
        site
    }

    fn delete(&self, key: &str) {
        self.s3.remove(key);
    }

    /// What `verify` finds, as what and key, with its exit code.
    async fn verify(&self, more: &[&str]) -> (i32, Vec<(String, String)>) {
        let said = self.run(&[&["--json", "verify"], more].concat()).await;
        (said.code, found(&said))
    }
}

fn found(said: &Said) -> Vec<(String, String)> {
    let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    let lines = said.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (text(&line, "what"), text(&line, "key"))).collect()
}

fn findings(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(what, key)| ((*what).to_owned(), (*key).to_owned())).collect()
}

/// Other bytes, as somebody's own PUT would leave them.
fn overwrite(object: &mut Object, bytes: Vec<u8>) {
    alter(object, bytes);
    object.etag = hex::encode(Md5::digest(object.bytes.as_ref().unwrap()));
    object.metadata.clear();
}

/// Other bytes under the same `ETag`: what a listing does not show.
fn alter(object: &mut Object, bytes: Vec<u8>) {
    object.len = bytes.len() as u64;
    object.sha256 = hex::encode(Sha256::digest(&bytes));
    object.checksum.checksum_sha256 = Some(base64::encode(Sha256::digest(&bytes)));
    object.bytes = Some(bytes.into());
}

fn flipped(object: &Object) -> Vec<u8> {
    let mut bytes = object.bytes.as_ref().unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

#[tokio::test]
async fn what_is_as_it_was_stored_holds_loose_and_in_every_format() {
    let site = Site::uploaded().await;
    for more in [&[][..], &["CAM"], &["CAM", DAY], &["--deep"]] {
        let said = site.run(&[&["verify"], more].concat()).await;
        assert_eq!((said.code, said.out.as_str()), (0, ""), "{said:?}");
        assert_eq!(said.err, "5 captures of 1 day checked: all there\n", "{more:?}");
    }
    assert_eq!(site.s3.count("GetObject"), 0);
    for format in ArchiveFormat::ALL {
        let site = Site::bundled(format, "GLACIER").await;
        site.drop_file("CAM/192.168.1.64_01_20220224230000000_TIMING.jpg", b"late");
        assert_eq!(site.run(&["upload"]).await.code, 0);
        let heads = site.s3.count("HeadObject");
        let said = site.run(&["verify"]).await;
        assert_eq!(
            (said.code, said.out.as_str(), said.err.as_str()),
            (0, "", "6 captures of 1 day checked: all there\n"),
            "{said:?}"
        );
        assert_eq!(site.s3.count("HeadObject"), heads, "listings tell all");
        let said = site.run(&["verify", "--deep"]).await;
        assert_eq!((said.code, said.out.as_str()), (0, ""), "{said:?}");
    }
}

#[tokio::test]
async fn captures_that_were_deleted_or_changed_behind_our_back_are_named() {
    let site = Site::uploaded().await;
    site.delete(&key(2));
    site.s3.edit(&key(4), |object| overwrite(object, b"short".to_vec()));
    site.s3.edit(&key(5), |object| overwrite(object, flipped(object)));
    let said = site.run(&["verify"]).await;
    assert_eq!((said.code, said.out.lines().count()), (3, 2), "{said:?}");
    let missing = said.out.lines().next().unwrap();
    assert!(missing.starts_with(&format!("CAM {DAY} missing: {}: stored ", key(2))), "{missing}");
    assert!(missing.contains("state/kept/CAM") && missing.contains("--resend` sends it again"), "{missing}");
    assert!(
        said.err.contains("3 captures of 1 day checked: these are there") && said.err.contains("2 of 5 failed"),
        "{said:?}"
    );
    let (code, found) = site.verify(&["CAM", DAY, "--deep"]).await;
    let expected = findings(&[("missing", &key(2)), ("altered", &key(4)), ("altered", &key(5))]);
    assert_eq!((code, found), (3, expected));
    for number in [1, 3, 4, 5] {
        site.delete(&key(number));
    }
    let (code, found) = site.verify(&[]).await;
    assert_eq!((code, found.len()), (1, 5), "nothing is left");
}

#[tokio::test]
async fn what_was_deleted_on_purpose_is_not_missed() {
    let site = Site::uploaded().await;
    let expired = |number| Removed { removed_at: chrono::DateTime::UNIX_EPOCH, key: key(number), bundle: None };
    ledger::append_removed(&site.path("state/ledger"), "CAM", date(), &[expired(1), expired(2)]).unwrap();
    site.delete(&key(1));
    let said = site.run(&["verify"]).await;
    assert_eq!(
        (said.code, said.out.as_str(), said.err.as_str()),
        (0, "", "3 captures of 1 day checked: all there\n"),
        "{said:?}"
    );

    let site = Site::bundled(ArchiveFormat::Tar, "GLACIER").await;
    let bundle = bundle(ArchiveFormat::Tar);
    let expired = Removed { removed_at: chrono::DateTime::UNIX_EPOCH, key: bundle.clone(), bundle: None };
    ledger::append_removed(&site.path("state/ledger"), "CAM", date(), &[expired]).unwrap();
    site.delete(&bundle);
    assert_eq!(site.verify(&[]).await, (0, findings(&[("unfinished", INDEX)])));
    site.delete(INDEX);
    assert_eq!(site.verify(&[]).await, (0, vec![]));
}

#[tokio::test]
async fn what_the_ledger_does_not_know_is_a_remark_and_a_lost_ledger_none() {
    let site = Site::uploaded().await;
    let extra = format!("CAM/{DAY}/20220224T120000_extra.jpg");
    site.s3.insert(&extra, "extra");
    site.s3.insert("CAM/2022-02-25/20220225T120000_extra.jpg", "extra");
    site.s3.insert("CAM/2022-02-25/20220225T120001_extra.jpg", "extra");
    site.s3.insert("OTHER/2022-02-25/20220225T120001_extra.jpg", "extra");
    assert_eq!(site.verify(&[]).await, (0, findings(&[("extra", &extra), ("extra", "2022-02-25")])));
    std::fs::remove_dir_all(site.path("state")).unwrap();
    let said = site.run(&["verify"]).await;
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{said:?}");
    let said = site.run(&["verify", "NOBODY"]).await;
    assert!(said.code == 1 && said.err.contains("no camera NOBODY"), "{said:?}");

    // A bundle is held against its index without any ledger.
    let site = Site::bundled(ArchiveFormat::Tar, "GLACIER").await;
    std::fs::remove_dir_all(site.path("state")).unwrap();
    assert_eq!(site.run(&["verify"]).await.err, "5 captures of 1 day checked: all there\n");
    site.delete(&bundle(ArchiveFormat::Tar));
    assert_eq!(site.verify(&[]).await, (1, findings(&[("missing", &bundle(ArchiveFormat::Tar))])));
}

#[tokio::test]
async fn a_bundle_with_another_byte_is_found_by_its_etag_and_else_by_a_closer_look() {
    for format in ArchiveFormat::ALL {
        let (site, bundle) = (Site::bundled(format, "GLACIER").await, bundle(format));
        let whole = site.s3.object(&bundle).unwrap();
        site.s3.edit(&bundle, |object| overwrite(object, flipped(object)));
        assert_eq!(site.verify(&[]).await, (1, findings(&[("altered", &bundle)])), "said once, not of every capture");

        site.s3.edit(&bundle, |object| *object = whole.clone());
        site.s3.edit(&bundle, |object| alter(object, flipped(object)));
        assert_eq!(site.verify(&[]).await, (0, vec![]));
        assert_eq!(site.verify(&["--deep"]).await, (1, findings(&[("altered", &bundle)])));

        // One byte less shows in the listing, whatever else.
        site.s3.edit(&bundle, |object| *object = whole.clone());
        site.s3.edit(&bundle, |object| alter(object, flipped(object)[1..].to_vec()));
        assert_eq!(site.verify(&[]).await, (1, findings(&[("altered", &bundle)])));
    }
}

#[tokio::test]
async fn another_etag_is_settled_by_one_look_where_a_kms_key_is_used() {
    let site = Site::bundled(ArchiveFormat::Tar, "GLACIER").await;
    site.s3.edit(&bundle(ArchiveFormat::Tar), |object| object.etag = "0123456789abcdef0123456789abcdef".into());
    let heads = site.s3.count("HeadObject");
    assert_eq!(site.verify(&[]).await, (0, vec![]));
    assert_eq!(site.s3.count("HeadObject"), heads + 1);
}

#[tokio::test]
async fn what_the_store_has_no_sha256_of_is_downloaded_by_a_closer_look_alone() {
    let site = Site::uploaded().await;
    for number in [1, 2, 3] {
        site.s3.edit(&key(number), |object| object.checksum.checksum_sha256 = None);
    }
    site.s3.edit(&key(2), |object| {
        let bytes = flipped(object);
        alter(object, bytes);
        object.checksum.checksum_sha256 = None;
    });
    site.s3.edit(&key(3), |object| object.storage_class = "DEEP_ARCHIVE".into());
    assert_eq!(site.verify(&[]).await, (0, vec![]));
    assert_eq!(site.s3.count("GetObject"), 0);
    let said = site.run(&["--json", "verify", "--deep"]).await;
    let mut found = found(&said);
    found.sort();
    assert_eq!((said.code, found), (3, findings(&[("altered", &key(2)), ("unproven", &key(3))])));
    assert!(said.err.contains("downloaded") && site.s3.count("GetObject") == 3, "{said:?}");
}

#[tokio::test]
async fn a_lost_or_damaged_index_is_made_again_in_every_format() {
    for format in ArchiveFormat::ALL {
        let (site, bundle) = (Site::bundled(format, "STANDARD").await, bundle(format));
        let first = site.s3.object(INDEX).unwrap();
        site.delete(INDEX);
        let said = site.run(&["verify"]).await;
        assert_eq!((said.code, said.out.lines().count()), (1, 1), "{said:?}");
        assert!(said.out.contains("no index") && said.out.contains(&format!("verify CAM {DAY} --rebuild")), "{said:?}");
        let said = site.run(&["--json", "verify", "--rebuild"]).await;
        assert_eq!((said.code, found(&said)), (0, findings(&[("rebuilt", INDEX)])), "{said:?}");
        let again = site.s3.object(INDEX).unwrap();
        assert_eq!(
            (&again.bytes, &again.metadata, &again.storage_class),
            (&first.bytes, &first.metadata, &first.storage_class)
        );

        for damage in [b"{".to_vec(), b"{}".to_vec(), flipped(&first)] {
            site.s3.edit(INDEX, |object| overwrite(object, damage));
            let (code, found) = site.verify(&[]).await;
            assert!(code == 1 && !found.is_empty(), "{found:?}");
            let said = site.run(&["verify", "--rebuild"]).await;
            if found == findings(&[("damaged", INDEX)]) {
                assert!(said.code == 0 && said.out.contains("rebuilt"), "{said:?}");
            }
            site.s3.edit(INDEX, |object| *object = first.clone());
        }
        assert_eq!(site.verify(&["--deep"]).await, (0, vec![]));
        assert!(!names(&site.path("state")).iter().any(|name| name.starts_with("spool-")), "nothing is left behind");
        assert!(site.s3.object(&bundle).is_some());
    }
}

#[tokio::test]
async fn an_index_is_made_again_from_a_cold_bundle_only_after_a_restore() {
    let site = Site::bundled(ArchiveFormat::TarZst, "GLACIER").await;
    site.s3.edit(INDEX, |object| overwrite(object, b"garbage".to_vec()));
    let said = site.run(&["verify", "--rebuild"]).await;
    assert_eq!((said.code, said.out.lines().count()), (1, 1), "{said:?}");
    assert!(said.out.contains(&format!("lies in GLACIER: `hk-aws restore CAM {DAY}` first")), "{said:?}");
    assert_eq!(site.s3.object(INDEX).unwrap().bytes.unwrap(), "garbage", "nothing is touched");
    site.s3.edit(&bundle(ArchiveFormat::TarZst), |object| {
        object.restore = Some("ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2032 00:00:00 GMT\"".into());
    });
    assert_eq!(site.verify(&["CAM", DAY, "--rebuild"]).await, (0, findings(&[("rebuilt", INDEX)])));
    assert_eq!(site.verify(&["--deep"]).await, (0, vec![]));
}

#[tokio::test]
async fn no_index_is_made_of_a_bundle_that_was_altered() {
    let (site, bundle) = (Site::bundled(ArchiveFormat::Tar, "STANDARD").await, bundle(ArchiveFormat::Tar));
    site.s3.edit(&bundle, |object| overwrite(object, flipped(object)));
    site.s3.edit(INDEX, |object| overwrite(object, b"garbage".to_vec()));
    let said = site.run(&["verify", "--rebuild"]).await;
    assert!(said.code == 1 && said.out.contains("was altered, and nothing is made of it"), "{said:?}");
    assert_eq!(site.s3.object(INDEX).unwrap().bytes.unwrap(), "garbage");
    std::fs::remove_dir_all(site.path("state/ledger")).unwrap();
    let said = site.run(&["verify", "--rebuild"]).await;
    assert!(said.code == 1 && said.out.contains("is damaged as well"), "{said:?}");
    assert_eq!(site.s3.object(INDEX).unwrap().bytes.unwrap(), "garbage");
}

#[tokio::test]
async fn an_index_of_a_later_hand_does_not_stand_for_the_one_that_was_confirmed() {
    let site = Site::bundled(ArchiveFormat::Tar, "STANDARD").await;
    site.s3.edit(INDEX, |object| {
        let mut index: Value = serde_json::from_slice(object.bytes.as_ref().unwrap()).unwrap();
        index["bundle"]["sha256"] = "00".repeat(32).into();
        overwrite(object, serde_json::to_vec(&index).unwrap());
    });
    assert_eq!(site.verify(&[]).await, (1, findings(&[("damaged", INDEX)])));
    assert_eq!(site.verify(&["--rebuild"]).await, (0, findings(&[("rebuilt", INDEX)])));
    site.s3.edit(INDEX, |object| {
        let mut index: Value = serde_json::from_slice(object.bytes.as_ref().unwrap()).unwrap();
        index["members"][2]["sha256"] = "00".repeat(32).into();
        overwrite(object, serde_json::to_vec(&index).unwrap());
    });
    assert_eq!(site.verify(&[]).await, (3, findings(&[("altered", &key(3))])));
}

#[tokio::test]
async fn a_rebuild_that_is_ended_between_deletion_and_put_is_made_up() {
    let site = Site::bundled(ArchiveFormat::TarGz, "STANDARD").await;
    site.s3.edit(INDEX, |object| overwrite(object, b"garbage".to_vec()));
    site.s3.fault(Fault::fail("PutObject", 500, "InternalError"));
    let said = site.run(&["verify", "--rebuild"]).await;
    assert!(said.code == 1 && site.s3.object(INDEX).is_none(), "{said:?}");
    site.s3.clear_faults();
    assert_eq!(site.verify(&["--rebuild"]).await, (0, findings(&[("rebuilt", INDEX)])));
    assert_eq!(site.verify(&[]).await, (0, vec![]));
}

#[tokio::test]
async fn what_a_killed_rotation_left_is_a_remark() {
    // Ended after the index.
    let (site, key_of_bundle) = (Site::uploaded().await, bundle(ArchiveFormat::Tar));
    let wanted = key_of_bundle.clone();
    site.s3.fault(Fault::fail("PutObject", 500, "InternalError").on_key(move |key| key == wanted));
    site.try_bundle(ArchiveFormat::Tar, "GLACIER").await.unwrap_err();
    assert_eq!(site.verify(&[]).await, (0, findings(&[("unfinished", INDEX)])));
    site.s3.clear_faults();
    // Ended before the deletion.
    site.s3.fault(Fault::fail("DeleteObjects", 500, "InternalError"));
    site.try_bundle(ArchiveFormat::Tar, "GLACIER").await.unwrap_err();
    let twice: Vec<_> = (1..=5).map(|number| ("twice".to_owned(), key(number))).collect();
    assert_eq!(site.verify(&[]).await, (0, twice));
    site.s3.clear_faults();
    // Deleted in part.
    site.delete(&key(1));
    assert_eq!(site.verify(&[]).await.1.len(), 4);
    site.try_bundle(ArchiveFormat::Tar, "GLACIER").await.unwrap();
    assert_eq!(site.verify(&["--deep"]).await, (0, vec![]));
}

#[tokio::test]
async fn a_bundle_that_is_gone_is_said_once_with_or_without_its_index() {
    let (site, bundle) = (Site::bundled(ArchiveFormat::Tar, "GLACIER").await, bundle(ArchiveFormat::Tar));
    site.delete(&bundle);
    assert_eq!(site.verify(&[]).await, (1, findings(&[("missing", &bundle)])));
    site.delete(INDEX);
    assert_eq!(site.verify(&[]).await, (1, findings(&[("missing", &bundle)])));
    // The ledger of bundles alone, or that of the day alone, is enough to know.
    let (day, bundles) = (site.path("state/ledger/CAM/2022-02-24.jsonl"), site.path("state/ledger/CAM/bundles.jsonl"));
    let (of_day, of_bundles) = (std::fs::read(&day).unwrap(), std::fs::read(&bundles).unwrap());
    std::fs::remove_file(&day).unwrap();
    assert_eq!(site.verify(&[]).await, (1, findings(&[("missing", &bundle)])));
    std::fs::write(&day, of_day).unwrap();
    std::fs::remove_file(&bundles).unwrap();
    assert_eq!(site.verify(&[]).await, (1, findings(&[("missing", &bundle)])));
    std::fs::write(&bundles, of_bundles).unwrap();
}

#[tokio::test]
async fn archives_of_the_scripts_that_came_before_are_a_remark() {
    let site = Site::uploaded().await;
    let old = "CAM/archive/2020-01-01.tar.gz";
    site.s3.insert(old, "old");
    site.s3.insert("CAM/archive/2020-01-02.tar.gz", "old, in parts");
    site.s3.edit("CAM/archive/2020-01-02.tar.gz", |object| object.etag.push_str("-2"));
    site.s3.insert("CAM/archive/2020-01-03.tar", "not theirs");
    let said = site.run(&["--json", "verify", "--rebuild"]).await;
    let expected =
        [("no index", old), ("no index", "CAM/archive/2020-01-02.tar.gz"), ("no index", "CAM/archive/2020-01-03.tar")];
    assert_eq!((said.code, found(&said)), (3, findings(&expected)));
    let is_failure = |line| serde_json::from_str::<Value>(line).unwrap()["failure"] == true;
    assert_eq!(said.out.lines().map(is_failure).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(site.s3.object(old).unwrap().bytes.unwrap(), "old");
}

#[tokio::test]
async fn a_bundle_and_an_archive_of_the_scripts_of_one_day_are_verified_on_their_own() {
    for format in [ArchiveFormat::Tar, ArchiveFormat::TarZst] {
        let (site, ours, theirs) =
            (Site::bundled(format, "STANDARD").await, bundle(format), bundle(ArchiveFormat::TarGz));
        site.s3.insert(&theirs, "theirs");
        // What is said of ours, beside the remark about theirs; in the order of keys.
        let verify = async |more: &[&str], ours: &[(&str, &str)]| {
            let (code, mut found) = site.verify(more).await;
            let mut expected = findings(&[ours, &[("no index", theirs.as_str())]].concat());
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{format:?} {more:?}");
            code
        };
        for more in [&[][..], &["--deep"], &["--rebuild"]] {
            assert_eq!(verify(more, &[]).await, 0);
        }
        let whole = site.s3.object(&ours).unwrap();
        site.s3.edit(&ours, |object| overwrite(object, flipped(object)));
        assert_eq!(verify(&[], &[("altered", &ours)]).await, 1);
        site.s3.edit(&ours, |object| *object = whole.clone());
        // An index that is lost or damaged is made again from the bundle that it was of.
        let index = site.s3.object(INDEX).unwrap();
        site.delete(INDEX);
        assert_eq!(verify(&["--rebuild"], &[("rebuilt", INDEX)]).await, 0);
        site.s3.edit(INDEX, |object| overwrite(object, b"garbage".to_vec()));
        assert_eq!(verify(&[], &[("damaged", INDEX)]).await, 1);
        assert_eq!(verify(&["--rebuild"], &[("rebuilt", INDEX)]).await, 0);
        assert_eq!(site.s3.object(INDEX).unwrap().bytes, index.bytes);
        site.delete(&ours);
        assert_eq!(verify(&[], &[("missing", &ours)]).await, 1);
    }
}

#[tokio::test]
async fn captures_that_were_stored_by_another_layout_are_found_where_they_are() {
    let site = Site::uploaded().await;
    settings::change(&site.path("config.yaml"), "s3: {key: '{camera}/{year}/{month}/{day}/{file}'}");
    assert_eq!(site.verify(&["--deep"]).await, (0, vec![]));
    site.delete(&key(1));
    assert_eq!(site.verify(&[]).await, (3, findings(&[("missing", &key(1))])));
}

#[tokio::test]
async fn a_bucket_that_is_away_ends_it_and_a_day_that_fails_alone_does_not() {
    let site = Site::bundled(ArchiveFormat::Tar, "GLACIER").await;
    site.s3.insert("CAM/2022-02-25/20220225T120000_extra.jpg", "extra");
    site.s3.fault(Fault::fail("GetObject", 500, "InternalError"));
    let said = site.run(&["verify"]).await;
    assert!(said.code == 1 && said.out.contains("unchecked") && said.out.contains("extra"), "{said:?}");
    site.s3.clear_faults();
    site.s3.refuse().await;
    for more in [&[][..], &["CAM"], &["CAM", DAY]] {
        let said = site.run(&[&["verify"], more].concat()).await;
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
        assert!(said.err.contains("refused"), "{said:?}");
    }
}
