//! What writers do to a file while or just after it goes up: they write again within one stamp, stall, resume what is gone,
//! rename and re-date.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use hk_aws::drop_folder::Taken;

use crate::folder::drop_folder;
use crate::support::s3::{Conditions, Fault};
use crate::support::site::{DEADLINE, Settings, Site, bytes, files, key, ledger_text, picture, sha256};

const NONE: Settings = Settings { drop: "", s3: "", rest: "" };

fn jpeg(seed: u64) -> Vec<u8> {
    let scan: Vec<u8> = bytes(seed, 6000).into_iter().map(|byte| byte.min(0xFE)).collect();
    [b"\xFF\xD8\xFF\xDA\x00\x02".as_slice(), &scan, b"\xFF\xD9"].concat()
}

fn beside(key: &str, mark: &str, bytes: &[u8]) -> String {
    let (stem, extension) = key.rsplit_once('.').unwrap();
    format!("{stem}~{mark}{}.{extension}", &sha256(bytes)[..8])
}

fn whole_second() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(492_250)
}

/// Writes other bytes of the same length in place, and gives them the same date.
fn rewrite(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
    file.set_modified(whole_second()).unwrap();
}

#[tokio::test]
async fn i1_bytes_that_came_under_an_equal_stamp_are_neither_removed_nor_kept_under_the_others_name() {
    for (rest, conditions) in [
        ("keep: {days: 0}", Conditions::Honoured),
        ("keep: {days: 9}", Conditions::Honoured),
        ("keep: {days: 0}", Conditions::Ignored),
    ] {
        let mut site = Site::new(Settings { rest, ..NONE }).await;
        site.s3.take_conditions(conditions);
        site.start().await;
        // A backup by hard links, and a client that dates by the second.
        let outside = site.path("backup.jpg");
        fs::write(&outside, b"first").unwrap();
        File::options().write(true).open(&outside).unwrap().set_modified(whole_second()).unwrap();
        site.s3.fault(Fault::hang("PutObject").times(1));
        fs::create_dir(site.drop_path("CAM")).unwrap();
        let path = site.drop_path(format!("CAM/{}", picture(1)));
        let before = site.s3.count("PutObject");
        fs::hard_link(&outside, &path).unwrap();
        site.s3.wait_for(|state| state.count("PutObject") > before, DEADLINE).await;
        rewrite(&path, b"other");
        site.s3.clear_faults();
        site.wait_until_empty().await;
        let second = beside(&key("CAM", 1), "", b"other");
        let stored = |key: &str| site.s3.object(key).map(|object| object.sha256);
        if stored(&key("CAM", 1)) == Some(sha256(b"first")) {
            assert_eq!(stored(&second), Some(sha256(b"other")), "{rest}: {:?}", site.s3.keys());
        } else {
            // The bytes changed before they were sent.
            assert_eq!(stored(&key("CAM", 1)), Some(sha256(b"other")), "{rest}: {:?}", site.s3.keys());
        }
        for copy in files(&site.path("state/kept")) {
            let name = copy.strip_prefix(site.path("state/kept")).unwrap().to_str().unwrap().to_owned();
            assert_eq!(stored(&name), Some(sha256(&fs::read(&copy).unwrap())), "{name}");
        }
    }
}

#[test]
fn i1_a_file_is_taken_away_only_with_the_bytes_that_are_stored_where_its_stamp_does_not_tell() {
    let hash = |bytes: &[u8]| <[u8; 32]>::try_from(hex::decode(sha256(bytes)).unwrap()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let folder = drop_folder(place.path());
    let path = folder.path().join("a.jpg");
    // Another file system than the temporary directory's, too.
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    for target in [None, Some(place.path().join("kept.jpg")), Some(elsewhere.path().join("kept.jpg"))] {
        fs::write(&path, b"first").unwrap();
        fs::hard_link(&path, place.path().join("backup")).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(whole_second()).unwrap();
        let mut opened = folder.open(Path::new("a.jpg")).unwrap();
        rewrite(&path, b"other");
        assert!(opened.is_unchanged(), "the stamp is the same");
        let taken = match &target {
            None => opened.remove(&hash(b"first")),
            Some(target) => opened.move_to(target, Some(&hash(b"first"))),
        };
        assert_eq!(taken.unwrap(), Taken::PutBack);
        assert_eq!(fs::read(&path).unwrap(), b"other");
        assert!(target.as_ref().is_none_or(|target| !target.exists()));
        let mut opened = folder.open(Path::new("a.jpg")).unwrap();
        let taken = match &target {
            None => opened.remove(&hash(b"other")),
            Some(target) => opened.move_to(target, Some(&hash(b"other"))),
        };
        assert_eq!(taken.unwrap(), Taken::Away);
        fs::remove_file(place.path().join("backup")).unwrap();
    }
}

#[tokio::test]
async fn a_file_that_is_open_and_does_not_grow_goes_up_as_partial_and_stays() {
    // Whether or not its format tells that it is cut, and however long files settle.
    for (whole, settings) in
        [(jpeg(1), "stalled: 300ms, partial_after: 1h"), (bytes(1, 6000), "stalled: 300ms, settle: 1h, rescan: 24h")]
    {
        let site = Site::started(Settings { drop: settings, ..NONE }).await;
        let path = site.drop_path(format!("CAM/{}", picture(1)));
        fs::create_dir(path.parent().unwrap()).unwrap();
        let mut writing = OpenOptions::new().create_new(true).write(true).open(&path).unwrap();
        writing.write_all(&whole[..2000]).unwrap();
        let part = beside(&key("CAM", 1), "partial-", &whole[..2000]);
        site.wait_for_keys(&[&part]).await;
        let said = |status: &hk_aws::status::Snapshot| {
            let told = |reason: &String| reason.contains("has not grown") && reason.contains("stored");
            status.files.iter().any(|file| file.reason.as_ref().is_some_and(told))
        };
        site.wait_for_status("a stalled file", said).await;
        assert_eq!(fs::read(&path).unwrap(), whole[..2000], "it stays");
        assert!(site.ledger("CAM")[0].partial);
        // It goes on after all.
        writing.write_all(&whole[2000..]).unwrap();
        drop(writing);
        site.wait_for_keys(&[&key("CAM", 1), &part]).await;
        assert_eq!(site.s3.object(&key("CAM", 1)).unwrap().sha256, sha256(&whole));
        site.wait_until_empty().await;
        assert_eq!(site.s3.count("PutObject"), 2, "nothing is sent while nothing happens");
    }
}

#[tokio::test]
async fn a_stalled_file_that_is_closed_as_it_is_takes_its_ordinary_way() {
    let site = Site::started(Settings { drop: "stalled: 200ms, settle: 1h, rescan: 24h", ..NONE }).await;
    let path = site.drop_path(format!("CAM/{}", picture(1)));
    fs::create_dir(path.parent().unwrap()).unwrap();
    let mut writing = OpenOptions::new().create_new(true).write(true).open(&path).unwrap();
    writing.write_all(b"no format tells whether this is all").unwrap();
    site.s3.wait_for(|state| state.objects().len() == 1, DEADLINE).await;
    drop(writing);
    let part = beside(&key("CAM", 1), "partial-", b"no format tells whether this is all");
    site.wait_for_keys(&[&key("CAM", 1), &part]).await;
    site.wait_until_empty().await;
}

#[tokio::test]
async fn a_rest_that_comes_after_its_first_part_was_disposed_of_is_joined_with_it_and_both_are_kept() {
    let whole = jpeg(7);
    for (rest, has_hole) in
        [("keep: {days: 0}", true), ("keep: {days: 0}", false), ("keep: {days: 9}", true), ("keep: {days: 9}", false)]
    {
        let site = Site::started(Settings { drop: "partial_after: 300ms", rest, ..NONE }).await;
        let path = site.write(format!("CAM/{}", picture(1)), &whole[..2500]);
        site.wait_until_empty().await;
        let first = beside(&key("CAM", 1), "partial-", &whole[..2500]);
        assert_eq!(site.s3.keys(), [first.as_str()]);
        // The camera resumes: by REST, which leaves a hole, or by APPE.
        let sent = if has_hole { [&vec![0; 2500], &whole[2500..]].concat() } else { whole[2500..].to_vec() };
        let elsewhere = site.path("resumed");
        let mut file = File::create(&elsewhere).unwrap();
        let from = if has_hole { 2500 } else { 0 };
        file.seek(SeekFrom::Start(from)).unwrap();
        file.write_all(&whole[2500..]).unwrap();
        drop(file);
        fs::rename(elsewhere, &path).unwrap();
        site.wait_until_empty().await;
        let second = beside(&key("CAM", 1), "partial-", &sent);
        site.wait_for_keys(&[&key("CAM", 1), &first, &second]).await;
        assert_eq!(site.s3.object(&key("CAM", 1)).unwrap().sha256, sha256(&whole), "{rest} {has_hole}");
        assert!(!site.s3.object(&key("CAM", 1)).unwrap().metadata.contains_key("partial"));
        let partial: Vec<bool> = site.ledger("CAM").iter().map(|entry| entry.partial).collect();
        assert_eq!(partial.iter().filter(|partial| !**partial).count(), 1, "{partial:?}");
    }
}

#[tokio::test]
async fn of_several_parts_of_a_name_the_rest_is_joined_with_its_own() {
    let (one, two) = (jpeg(7), jpeg(8));
    // The longer part came first; the rest goes on with the one that came last, or with the one that fits its hole.
    for (hole, expected) in
        [(0, [&two[..2000], &one[4000..]].concat()), (4000, one.clone()), (2000, [&two[..2000], &one[4000..]].concat())]
    {
        let site = Site::started(Settings { drop: "partial_after: 200ms", rest: "keep: {days: 9}", ..NONE }).await;
        for part in [&one[..4000], &two[..2000]] {
            site.write(format!("CAM/{}", picture(1)), part);
            site.wait_until_empty().await;
        }
        let rest = [&vec![0; hole], &one[4000..]].concat();
        site.write(format!("CAM/{}", picture(1)), &rest);
        site.wait_until_empty().await;
        let hashes: BTreeSet<String> =
            site.s3.look(|state| state.objects().values().map(|object| object.sha256.clone()).collect());
        let expected = [expected.as_slice(), &one[..4000], &two[..2000], &rest].map(sha256);
        assert_eq!(hashes, BTreeSet::from(expected), "{hole}");
    }
}

#[tokio::test]
async fn what_begins_with_a_hole_is_cut_and_what_does_not_begin_with_a_part_does_not_hide_it() {
    let site = Site::started(Settings { drop: "partial_after: 200ms", ..NONE }).await;
    let hole = [vec![0; 5000], jpeg(3)[5000..].to_vec()].concat();
    site.write(format!("CAM/{}", picture(1)), &hole);
    site.wait_until_empty().await;
    assert_eq!(site.s3.keys(), [beside(&key("CAM", 1), "partial-", &hole)]);
    // A part, and then another picture under its name.
    let (part, other) = (&jpeg(4)[..3000], jpeg(5));
    let path = site.write(format!("CAM/{}", picture(2)), part);
    site.wait_until_empty().await;
    fs::write(&path, &other).unwrap();
    site.wait_until_empty().await;
    let apart = beside(&key("CAM", 2), "other-", &other);
    let (part, hole) = (beside(&key("CAM", 2), "partial-", part), beside(&key("CAM", 1), "partial-", &hole));
    site.wait_for_keys(&[&apart, &hole, &part]).await;
    // The whole of it comes after all.
    fs::write(&path, jpeg(4)).unwrap();
    site.wait_for_keys(&[&key("CAM", 2), &apart, &hole, &part]).await;
}

/// A kill between the store's answer and the ledger's line leaves it so, and a part of another picture came since.
#[tokio::test]
async fn i5_what_a_killed_run_stored_is_not_stored_again_beside_a_part_of_another() {
    let site = Site::started(Settings { drop: "partial_after: 200ms", ..NONE }).await;
    let (part, other) = (&jpeg(4)[..3000], jpeg(5));
    let path = site.write(format!("CAM/{}", picture(1)), part);
    site.wait_until_empty().await;
    site.s3.insert(&key("CAM", 1), other.clone());
    fs::write(&path, &other).unwrap();
    site.wait_until_empty().await;
    assert_eq!(site.s3.keys(), [key("CAM", 1), beside(&key("CAM", 1), "partial-", part)]);
    let whole: Vec<_> = site.ledger("CAM").into_iter().filter(|entry| !entry.partial).collect();
    assert_eq!((whole.len(), &*whole[0].key, &whole[0].sha256), (1, &*key("CAM", 1), &sha256(&other)));
}

#[tokio::test]
async fn a_file_that_is_renamed_or_dated_anew_while_it_goes_up_is_one_capture() {
    for keep in ["keep: {days: 0}", "keep: {days: 9}"] {
        let site = Site::started(Settings { rest: keep, ..NONE }).await;
        // By its name, in another camera's folder, and by a date alone where the name has none.
        for (number, from, to) in [
            (1, format!("CAM/{}", picture(1)), Some(format!("CAM/{}", picture(2)))),
            (2, format!("CAM/{}", picture(3)), Some(format!("OTHER/{}", picture(3)))),
            (3, "CAM/snapshot.jpg".to_owned(), None),
        ] {
            let (before, objects) = (site.s3.count("PutObject"), site.s3.keys().len());
            site.s3.fault(Fault::hang("PutObject").times(1));
            let path = site.write(&from, &bytes(number, 100));
            site.s3.wait_for(|state| state.count("PutObject") > before, DEADLINE).await;
            match &to {
                Some(to) => {
                    fs::create_dir_all(site.drop_path(to).parent().unwrap()).unwrap();
                    fs::rename(&path, site.drop_path(to)).unwrap();
                    site.wait_for_status("a file that waits for itself", |status| {
                        let waits = |reason: &String| reason.contains("the name that it had before");
                        status.files.iter().any(|file| file.reason.as_ref().is_some_and(waits))
                    })
                    .await;
                }
                None => File::options()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .set_modified(SystemTime::now() - Duration::from_hours(72))
                    .unwrap(),
            }
            site.s3.clear_faults();
            site.wait_until_empty().await;
            assert_eq!(site.s3.keys().len(), objects + 1, "{from}: {:?}", site.s3.keys());
            assert_eq!(site.s3.count("PutObject"), before + 1, "it is not sent again");
        }
        let text: String = files(&site.path("state/ledger/CAM")).iter().map(|path| ledger_text(path)).collect();
        assert!(text.contains(&format!("\"source\":\"CAM/{}\"", picture(2))), "the ledger says so: {text}");
    }
}

/// Found by the model, where `hk-aws upload` and the daemon sent one file together: the bucket had lost what the one stored, and
/// the other, whose file was gone by then, did not write down that it had stored it elsewhere.
#[tokio::test]
async fn i5_what_is_stored_as_somebody_takes_its_file_away_is_written_down() {
    let rename = |path: &Path, site: &Site| fs::rename(path, site.path("taken"));
    let remove = |path: &Path, _: &Site| fs::remove_file(path);
    for takes_away in [rename as fn(&Path, &Site) -> io::Result<()>, remove] {
        let site = Site::started(NONE).await;
        site.s3.fault(Fault::hang("PutObject").times(1));
        let path = site.write(format!("CAM/{}", picture(1)), b"evidence");
        site.s3.wait_for(|state| state.count("PutObject") == 1, DEADLINE).await;
        takes_away(&path, &site).unwrap();
        site.s3.clear_faults();
        site.wait_for_keys(&[&key("CAM", 1)]).await;
        let line = site.wait("a line in the ledger", || site.ledger("CAM").pop()).await;
        assert_eq!((&*line.key, line.sha256), (&*key("CAM", 1), sha256(b"evidence")));
    }
}

#[tokio::test]
async fn the_last_name_wins_where_nothing_was_stored_and_equal_bytes_are_two_captures() {
    let site = Site::started(NONE).await;
    site.s3.fault(Fault::fail("PutObject", 503, "SlowDown"));
    let path = site.write(format!("CAM/{}", picture(1)), b"once");
    site.wait_for_status("a failure", |status| status.waiting.backing_off == 1).await;
    fs::rename(path, site.drop_path(format!("CAM/{}", picture(2)))).unwrap();
    // What was opened under the first name has failed by then.
    site.wait_for_status("the last name alone", |status| {
        let is_last = status.files.iter().all(|file| file.path.ends_with(&picture(2)));
        is_last && status.files.len() == 1 && status.waiting.backing_off == 1
    })
    .await;
    site.s3.clear_faults();
    // A capture that comes now is tried at once, and takes the other with it.
    site.write(format!("FRESH/{}", picture(9)), b"fresh");
    site.wait_until_empty().await;
    assert_eq!(site.s3.keys(), [key("CAM", 2), key("FRESH", 9)]);
    site.write(format!("CAM/{}", picture(3)), b"once");
    site.write(format!("CAM/{}", picture(4)), b"once");
    site.wait_for_keys(&[&key("CAM", 2), &key("CAM", 3), &key("CAM", 4), &key("FRESH", 9)]).await;
}

#[tokio::test]
async fn what_was_put_back_into_the_drop_folder_keeps_its_name() {
    let site = Site::started(NONE).await;
    let first = site.write("CAM/door/snapshot.jpg", b"one");
    File::options().write(true).open(&first).unwrap().set_modified(SystemTime::now()).unwrap();
    site.wait_until_empty().await;
    let [own] = <[String; 1]>::try_from(site.s3.keys()).unwrap();
    let copy = site.path("state/kept").join(&own);
    site.s3.remove(&own);
    // Put back as it lies among the local copies; also the name beside another.
    let back = site.drop_path(&own);
    fs::create_dir_all(back.parent().unwrap()).unwrap();
    fs::rename(copy, &back).unwrap();
    site.wait_until_empty().await;
    assert_eq!(site.s3.keys(), [own.as_str()]);
    let marked = beside(&own, "", b"two");
    site.write(&marked, b"two");
    site.wait_for_keys(&[&own, &marked]).await;
}

#[tokio::test]
async fn what_is_set_aside_is_counted_from_the_disk_and_taken_back_by_upload() {
    let mut site = Site::new(NONE).await;
    site.s3.fault(Fault::fail("PutObject", 400, "EntityTooLarge"));
    site.start_in_trouble().await;
    for (number, content) in [(1, "one"), (2, "two")] {
        site.write(format!("CAM/{}", picture(number)), content.as_bytes());
    }
    site.wait_for_status("two set aside", |status| status.waiting.set_aside == 2).await;
    site.write(format!("CAM/{}", picture(1)), b"one more of the name");
    site.wait_for_status("three set aside", |status| status.waiting.set_aside == 3).await;
    site.stop().await;
    site.s3.clear_faults();
    site.start().await;
    let status = site.wait_for_status("all of them", |status| status.waiting.set_aside == 3).await;
    let named = status.not_uploaded.iter().filter(|file| file.state == "set aside").collect::<Vec<_>>();
    let told = |reason: &String| reason.contains("EntityTooLarge");
    assert!(named.len() == 3 && named.iter().all(|file| file.reason.as_ref().is_some_and(told)), "{named:?}");
    let context = site.context().await;
    for aside in context.set_aside() {
        let tell = |_| std::ops::ControlFlow::Continue(());
        let mode = hk_aws::ingest::PassMode::Upload;
        hk_aws::ingest::pass(&std::sync::Arc::new(aside), Vec::new(), mode, tell).await.unwrap();
    }
    let one_more = beside(&key("CAM", 1), "", b"one more of the name");
    site.wait_for_keys(&[&key("CAM", 1), &key("CAM", 2), &one_more]).await;
    assert!(files(&site.path("state/set-aside")).is_empty());
}
