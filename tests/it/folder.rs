//! What happens in a drop folder: how files come, how they are named, and what is no file at all.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hk_aws::drop_folder::{DropFolder, Sight, Taken};
use hk_aws::lock::{self, LockError};

use crate::support::s3::MemoryS3;
use crate::support::site::{DATE, DEADLINE, Settings, Site, bytes, files, key, picture, sha256};

const NONE: Settings = Settings { drop: "", s3: "", rest: "" };
/// Nothing is found by waiting: what is stored was seen happening.
const PROMPT_ONLY: Settings = Settings { drop: "rescan: 24h, settle: 1h", ..NONE };

#[tokio::test]
async fn a_closed_file_is_stored_at_once_whatever_settle_says() {
    let site = Site::started(PROMPT_ONLY).await;
    site.write(format!("CAM/{}", picture(1)), b"in a new folder");
    site.wait_for_keys(&[&key("CAM", 1)]).await;
    site.write(format!("CAM/{}", picture(2)), b"in a watched folder");
    site.wait_for_keys(&[&key("CAM", 1), &key("CAM", 2)]).await;
}

#[tokio::test]
async fn a_file_that_is_renamed_when_it_is_whole_is_stored_under_its_last_name() {
    let site = Site::started(PROMPT_ONLY).await;
    let part = site.write("CAM/upload.tmp", b"whole");
    fs::rename(part, site.drop_path(format!("CAM/{}", picture(1)))).unwrap();
    site.wait_for_keys(&[&key("CAM", 1)]).await;
}

#[tokio::test]
async fn a_folder_that_is_moved_in_brings_its_files() {
    let site = Site::started(NONE).await;
    let outside = site.path("outside/2026-02-24/12");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join(picture(1)), b"moved").unwrap();
    fs::rename(site.path("outside"), site.drop_path("CAM")).unwrap();
    site.wait_for_keys(&[&key("CAM", 1)]).await;
    // And it is watched from then on.
    fs::write(site.drop_path(format!("CAM/2026-02-24/12/{}", picture(2))), b"later").unwrap();
    site.wait_for_keys(&[&key("CAM", 1), &key("CAM", 2)]).await;
}

#[tokio::test]
async fn a_file_that_is_linked_in_is_stored() {
    let site = Site::started(NONE).await;
    let outside = site.path("outside.jpg");
    fs::write(&outside, b"linked").unwrap();
    fs::create_dir(site.drop_path("CAM")).unwrap();
    fs::hard_link(&outside, site.drop_path(format!("CAM/{}", picture(1)))).unwrap();
    site.wait_for_keys(&[&key("CAM", 1)]).await;
}

#[tokio::test]
async fn links_to_one_file_do_not_look_like_changes_of_each_other() {
    let mut site = Site::new(Settings { rest: "keep: {days: 0}", ..NONE }).await;
    let first = site.write(format!("CAM/{}", picture(0)), b"one content");
    for number in 1..200 {
        fs::hard_link(&first, site.drop_path(format!("CAM/{}", picture(number)))).unwrap();
    }
    site.start().await;
    site.wait_until_empty().await;
    assert_eq!(site.s3.keys().len(), 200);
    // The last link can become an only one while it is in work, and is then looked at once more: a PUT and a HEAD.
    let requests = site.s3.requests().len();
    assert!((200..=202).contains(&requests), "{requests} requests");
}

#[tokio::test]
async fn folders_that_are_made_and_filled_at_once_lose_nothing() {
    let site = Site::started(NONE).await;
    let mut keys = Vec::new();
    for folder in 0..40 {
        // Folders that only repeat what the name says.
        for (number, day) in (0..).zip(["2026-02-24", "20260224", "2026_02_24", "2026.02.24", "2026-02-24/12"]) {
            site.write(format!("CAM-{folder}/{day}/{}", picture(number)), &[folder, u8::try_from(number).unwrap()]);
            keys.push(key(&format!("CAM-{folder}"), number));
        }
    }
    site.wait_for_keys(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn the_drop_folder_may_be_deleted_and_made_again() {
    let site = Site::started(NONE).await;
    fs::remove_dir_all(site.drop_path("")).unwrap();
    site.wait_for_status("word of it", |status| status.trouble.is_some()).await;
    site.write(format!("CAM/{}", picture(1)), b"found by the scan");
    site.wait_for_keys(&[&key("CAM", 1)]).await;
    site.wait_for_status("an end of the trouble", |status| status.trouble.is_none()).await;
    site.write(format!("CAM/{}", picture(2)), b"seen by the watch");
    site.wait_for_keys(&[&key("CAM", 1), &key("CAM", 2)]).await;
}

#[tokio::test]
async fn the_drop_folder_may_be_deleted_and_made_again_in_the_blink_of_an_eye() {
    let site = Site::started(NONE).await;
    for number in 1..20 {
        fs::remove_dir_all(site.drop_path("")).unwrap();
        site.write(format!("CAM/{}", picture(number)), &number.to_be_bytes());
        site.s3.wait_for(|state| state.object(&key("CAM", number)).is_some(), DEADLINE).await;
        site.wait_until_empty().await;
    }
}

/// Another folder, of another daemon, may get its inode.
#[tokio::test]
async fn the_lock_of_a_drop_folder_that_is_gone_is_given_back() {
    let site = Site::started(NONE).await;
    // While it is open here, nobody else gets the inode.
    let open = File::open(site.drop_path("")).unwrap();
    let gone = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
    assert!(matches!(lock::drop_folder(&gone), Err(LockError::Watched { .. })));
    fs::remove_dir_all(site.drop_path("")).unwrap();
    site.wait("a lock that is free", || lock::drop_folder(&gone).ok()).await;
}

#[tokio::test]
async fn a_cameras_folder_may_be_deleted_and_made_again() {
    let site = Site::started(PROMPT_ONLY).await;
    for number in 1..4 {
        site.write(format!("CAM/2026-02-24/{}", picture(number)), &number.to_be_bytes());
        site.wait_until_empty().await;
        fs::remove_dir_all(site.drop_path("CAM")).unwrap();
    }
    site.wait_for_keys(&[&key("CAM", 1), &key("CAM", 2), &key("CAM", 3)]).await;
}

#[tokio::test]
async fn a_writer_that_goes_without_a_word_is_noticed_at_once() {
    let site = Site::started(PROMPT_ONLY).await;
    let path = site.drop_path(format!("CAM/{}", picture(1)));
    fs::create_dir(path.parent().unwrap()).unwrap();
    let mut told = OpenOptions::new().create_new(true).write(true).open(&path).unwrap();
    told.write_all(b"whole").unwrap();
    // Its close is told of in another folder, as if the kernel's word had come before its count of writers fell.
    let elsewhere = site.path("elsewhere.jpg");
    fs::hard_link(&path, &elsewhere).unwrap();
    let untold = OpenOptions::new().append(true).open(&elsewhere).unwrap();
    drop(told);
    site.wait_for_status("a file that is open", |status| {
        status.files.iter().any(|file| file.reason.as_deref() == Some("open for writing"))
    })
    .await;
    drop(untold);
    site.wait_for_keys(&[&key("CAM", 1)]).await;
}

#[tokio::test]
async fn a_file_is_not_read_while_somebody_writes_it() {
    let site = Site::started(Settings { drop: "rescan: 1s", ..NONE }).await;
    let path = site.drop_path(format!("CAM/{}", picture(1)));
    fs::create_dir(path.parent().unwrap()).unwrap();
    let mut writing = OpenOptions::new().create_new(true).write(true).open(&path).unwrap();
    writing.write_all(&bytes(1, 1000)).unwrap();
    let open = |status: &hk_aws::status::Snapshot| {
        status.files.iter().any(|file| file.reason.as_deref() == Some("open for writing"))
    };
    site.wait_for_status("a growing file", open).await;
    writing.write_all(&bytes(2, 1000)).unwrap();
    assert_eq!(site.s3.requests().len(), 0);
    drop(writing);
    site.wait_until_empty().await;
    let whole = [bytes(1, 1000), bytes(2, 1000)].concat();
    assert_eq!(site.s3.object(&key("CAM", 1)).unwrap().sha256, sha256(&whole));
    assert_eq!(site.s3.requests().len(), 1);
}

#[tokio::test]
async fn any_name_is_stored() {
    let site = Site::started(Settings { drop: "ignore: []", ..NONE }).await;
    let long = format!("{}.jpg", "n".repeat(251));
    let names: [&[u8]; 8] = [
        b"caf\xe9.jpg",
        b"two\nlines.jpg",
        b"a..b",
        b"-rf",
        b"...",
        b" ",
        "\u{202e}gpj.exe".as_bytes(),
        long.as_bytes(),
    ];
    for (number, name) in (0..).zip(names) {
        site.write(Path::new("CAM").join(OsStr::from_bytes(name)), &[number]);
    }
    site.wait_until_empty().await;
    let keys = site.s3.keys();
    assert_eq!(keys.len(), names.len());
    for (number, end) in (0..).zip(["caf%E9.jpg", "two%0Alines.jpg", "a..b", "-rf", "...", " ", "gpj.exe", &long]) {
        let key = keys.iter().find(|key| key.ends_with(&format!("_{end}")) || key.ends_with(end)).unwrap();
        assert_eq!(site.s3.object(key).unwrap().sha256, sha256(&[number]), "{key}");
    }
    // A stamp before a name of 255 bytes is too long for a file here, not for a key.
    assert_eq!(files(&site.path("state/kept")).len(), names.len());
}

#[test]
fn a_file_is_moved_whole_across_file_systems_or_stays() {
    let place = tempfile::tempdir().unwrap();
    let folder = drop_folder(place.path());
    // Another file system than the temporary directory's: any Linux has this one.
    let other = tempfile::tempdir_in("/dev/shm").unwrap();
    let device = |path: &Path| rustix::fs::stat(path).unwrap().st_dev;
    assert_ne!(device(other.path()), device(place.path()), "the test needs two file systems");
    let content = bytes(1, 3_000_000);
    fs::write(folder.path().join("a.jpg"), &content).unwrap();
    let target = other.path().join("CAM/2026-02-24/a.jpg");
    assert_eq!(folder.open(Path::new("a.jpg")).unwrap().move_to(&target, None).unwrap(), Taken::Away);
    assert_eq!(fs::read(&target).unwrap(), content);
    assert!(files(folder.path()).is_empty());
    fs::write(folder.path().join("b.jpg"), b"other").unwrap();
    assert!(folder.open(Path::new("b.jpg")).unwrap().move_to(&target, None).is_err(), "a copy was replaced");
    assert_eq!(fs::read(folder.path().join("b.jpg")).unwrap(), b"other");
    assert_eq!(files(other.path()), [target]);
}

#[test]
fn i1_what_changed_or_is_open_since_is_put_back() {
    let place = tempfile::tempdir().unwrap();
    let folder = drop_folder(place.path());
    let path = folder.path().join("a.jpg");
    fs::write(&path, b"first").unwrap();
    let mut opened = folder.open(Path::new("a.jpg")).unwrap();
    let mut writer = OpenOptions::new().append(true).open(&path).unwrap();
    assert_eq!(opened.remove(&[0; 32]).unwrap(), Taken::PutBack);
    writer.write_all(b", second").unwrap();
    drop(writer);
    assert_eq!(fs::read(&path).unwrap(), b"first, second");
    let mut opened = folder.open(Path::new("a.jpg")).unwrap();
    fs::write(&path, b"third").unwrap();
    assert_eq!(opened.move_to(&place.path().join("kept.jpg"), None).unwrap(), Taken::PutBack);
    assert_eq!(fs::read(&path).unwrap(), b"third");
    // The same name, another file: a rename over it.
    let mut opened = folder.open(Path::new("a.jpg")).unwrap();
    fs::write(folder.path().join("new"), b"third").unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    assert_eq!(opened.remove(&[0; 32]).unwrap(), Taken::PutBack);
    assert_eq!(files(folder.path()), [path]);
}

#[test]
fn empty_folders_are_pruned_when_a_day_old_but_never_a_cameras_own() {
    let place = tempfile::tempdir().unwrap();
    let folder = drop_folder(place.path());
    for path in ["CAM/2026-01-01/05", "CAM/2026-01-02", "EMPTY", "CAM/used"] {
        fs::create_dir_all(folder.path().join(path)).unwrap();
    }
    fs::write(folder.path().join("CAM/used/a.jpg"), b"a").unwrap();
    let left = |now: SystemTime| {
        let mut left: Vec<PathBuf> = Vec::new();
        folder.scan(Path::new(""), now, &mut |_| ControlFlow::Continue(())).unwrap();
        folder
            .scan(Path::new(""), SystemTime::UNIX_EPOCH, &mut |sight| {
                if let Sight::Folder(path, _) = sight {
                    left.push(path);
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        left.sort();
        left.iter().map(|path| path.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let now = SystemTime::now();
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    assert_eq!(
        left(now + hours(23)),
        ["", "CAM", "CAM/2026-01-01", "CAM/2026-01-01/05", "CAM/2026-01-02", "CAM/used", "EMPTY"]
    );
    assert_eq!(left(now + hours(25)), ["", "CAM", "CAM/used", "EMPTY"]);
}

/// Returns what a scan reports of files and folders, in order.
fn seen(folder: &DropFolder, below: &str, now: SystemTime) -> Vec<String> {
    let mut seen = Vec::new();
    let scanned = folder.scan(Path::new(below), now, &mut |sight| {
        // For whoever looks, a folder is a folder.
        let sight = if let Sight::Folder(path, _) = sight { Sight::Folder(path, None) } else { sight };
        seen.push(format!("{sight:?}"));
        ControlFlow::Continue(())
    });
    scanned.unwrap();
    seen.sort();
    seen
}

/// Waits until the clock of the file system has gone on by more than a folder must have been left alone.
fn let_it_settle(place: &Path) {
    let tick = || {
        fs::write(place.join("clock"), "").unwrap();
        fs::metadata(place.join("clock")).unwrap().modified().unwrap()
    };
    let began = tick();
    while tick() < began + Duration::from_millis(250) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_folder_that_was_empty_is_not_opened_again_before_something_comes_into_it() {
    let place = tempfile::tempdir().unwrap();
    let folder = drop_folder(place.path());
    let day = folder.path().join("CAM/day");
    fs::create_dir_all(&day).unwrap();
    let inotify = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::NONBLOCK).unwrap();
    rustix::fs::inotify::add_watch(&inotify, &day, rustix::fs::inotify::WatchFlags::OPEN).unwrap();
    // Equal events that follow each other are one.
    let was_opened = || {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 512];
        rustix::fs::inotify::Reader::new(&inotify, &mut buffer).next().is_ok()
    };
    let metadata = fs::metadata(&day).unwrap();
    let [seconds, nanos] = [metadata.ctime(), metadata.ctime_nsec()].map(|part| u64::try_from(part).unwrap());
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_nanos(nanos);
    // Something could still come at the same time by the clock.
    let soon = changed + Duration::from_millis(150);
    let empty = seen(&folder, "", soon);
    for _ in 0..2 {
        assert!(was_opened());
        assert_eq!(seen(&folder, "", soon), empty);
    }
    let later = changed + Duration::from_secs(1);
    let opened = |_| {
        assert_eq!(seen(&folder, "", later), empty);
        was_opened()
    };
    let opened: Vec<bool> = (0..33).map(opened).skip(1).collect();
    assert_eq!(opened.iter().filter(|opened| **opened).count(), 2, "once in sixteen scans: {opened:?}");
    fs::write(day.join("a.jpg"), "a").unwrap();
    assert!(seen(&folder, "", later).iter().any(|sight| sight.contains("a.jpg")));
}

#[test]
fn i6_whatever_comes_and_goes_a_scan_that_remembers_sees_what_a_first_one_sees() {
    use proptest::prelude::*;
    let paths = ["A", "A/1", "A/2", "A/1/x", "B", "B/1"];
    let step = (0_usize..6, 0_usize..6, 0_usize..8);
    let steps = proptest::collection::vec(step, 1..40);
    let config = ProptestConfig { cases: 12, max_shrink_iters: 16, ..ProptestConfig::default() };
    proptest!(config, |(steps in steps)| {
        let place = tempfile::tempdir().unwrap();
        let remembers = drop_folder(place.path());
        let at = |path: usize| remembers.path().join(paths[path]);
        for (path, other, act) in steps {
            // Each may fail: what is to be removed may not be there.
            let done = match act {
                0 => fs::create_dir_all(at(path)),
                1 => fs::write(at(path).join("a.jpg"), "a"),
                2 => fs::remove_file(at(path).join("a.jpg")),
                3 => fs::remove_dir(at(path)),
                4 => fs::rename(at(path), at(other)),
                // A client that keeps times sets that of a folder back after it has filled it.
                5 => fs::File::open(at(path)).and_then(|open| {
                    let before = open.metadata()?.modified()?;
                    fs::write(at(path).join("b.jpg"), "b")?;
                    open.set_modified(before)
                }),
                6 => fs::remove_file(at(path).join("b.jpg")),
                _ => {
                    let_it_settle(place.path());
                    at(other).read_dir().map(|_| drop(seen(&remembers, paths[other], SystemTime::now())))
                }
            };
            drop(done);
            let now = SystemTime::now();
            prop_assert_eq!(seen(&remembers, "", now), seen(&open_drop_folder(place.path()), "", now));
        }
    });
}

#[tokio::test]
async fn an_empty_file_waits_for_its_bytes_and_is_then_set_aside() {
    let site = Site::started(Settings { drop: "partial_after: 2s", ..NONE }).await;
    site.write(format!("CAM/{}", picture(1)), b"");
    let late = site.write(format!("CAM/{}", picture(2)), b"");
    site.wait_for_status("two empty files", |status| status.waiting.backing_off == 2).await;
    fs::write(&late, b"bytes after all").unwrap();
    site.wait_for_keys(&[&key("CAM", 2)]).await;
    let status = site.wait_for_status("one set aside", |status| status.waiting.set_aside == 1).await;
    assert!(
        status.not_uploaded.iter().any(|file| file.state == "set aside" && file.reason.as_deref() == Some("empty"))
    );
    assert!(site.path(format!("state/set-aside/CAM/{}", picture(1))).exists());
    site.wait_until_empty().await;
}

#[tokio::test]
async fn a_clip_of_100_mb_goes_up_in_parts_and_memory_does_not_grow_with_it() {
    let s3 = MemoryS3::start_without_bytes("evidence").await;
    let site = Site::with(s3, Settings { rest: "keep: {days: 0}", ..NONE });
    let mut site = site;
    let path = site.write("CAM/192.168.1.64_01_20260224120000000_1.mp4", b"begin");
    let length = 100 * 1024 * 1024;
    OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
    site.start().await;
    let key = format!("CAM/{DATE}/192.168.1.64_01_20260224120000000_1.mp4");
    site.s3.wait_for(|state| state.object(&key).is_some_and(|object| object.len == length), DEADLINE * 3).await;
    site.wait_until_empty().await;
    let requests = site.s3.requests();
    assert!(requests.iter().filter(|request| request.operation == "UploadPart").count() > 10);
    assert!(requests.iter().all(|request| request.bytes <= 9 * 1024 * 1024), "no part is larger than it says");
}

#[tokio::test]
async fn files_that_vanish_before_they_are_opened_do_no_harm() {
    let site = Site::started(NONE).await;
    for number in 0..200 {
        let path = site.write(format!("CAM/{}", picture(number)), &number.to_be_bytes());
        // Some are gone before the daemon looks, some while it works.
        let _gone_already = fs::remove_file(path);
    }
    site.write(format!("LAST/{}", picture(1)), b"stored");
    site.s3.wait_for(|state| state.object(&key("LAST", 1)).is_some(), DEADLINE).await;
    site.wait_for_status("nothing that waits", |status| status.files.is_empty() && status.trouble.is_none()).await;
}

pub(crate) fn drop_folder(place: &Path) -> DropFolder {
    fs::create_dir(place.join("drop")).unwrap();
    open_drop_folder(place)
}

fn open_drop_folder(place: &Path) -> DropFolder {
    let text = format!("drop_folder: {{path: '{}'}}\ns3: {{bucket: evidence}}\n", place.join("drop").display());
    let config = hk_aws::config::Config::parse(Path::new("t.yaml"), &text, &|_| None).unwrap();
    DropFolder::new(&config.drop_folder)
}
