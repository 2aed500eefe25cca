//! The invariants of the design, each by its name.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::Duration;

use hk_aws::bucket::PROBE;
use hk_aws::status::Snapshot;
use rustix::fs::FlockOperation;

use crate::support::clock::{Clock, Clocked};
use crate::support::s3::{Fault, MemoryS3};
use crate::support::site::{DATE, DEADLINE, Settings, Site, bytes, files, key, picture, sha256};

const NONE: Settings = Settings { drop: "", s3: "", rest: "" };

#[tokio::test]
async fn a_capture_is_stored_with_all_that_is_known_of_it_and_kept_here() {
    let site = Site::started(NONE).await;
    let content = bytes(1, 200_000);
    site.write(format!("CAM-EXT-001/{}", picture(7)), &content);
    site.wait_until_empty().await;
    let object = site.s3.object(&key("CAM-EXT-001", 7)).unwrap();
    assert_eq!((object.sha256, object.storage_class), (sha256(&content), "STANDARD".into()));
    assert_eq!(object.content_type.as_deref(), Some("image/jpeg"));
    for (name, value) in [
        ("camera", "CAM-EXT-001".into()),
        ("taken-at", format!("{DATE}T12:00:07+00:00")),
        ("taken-from", "name".into()),
        ("event", "MOTION_DETECTION".into()),
        ("channel", "01".into()),
        ("source", format!("CAM-EXT-001/{}", picture(7))),
        ("sha256", sha256(&content)),
    ] {
        assert_eq!(object.metadata.get(name), Some(&value), "{name}");
    }
    assert_eq!(site.kept(&key("CAM-EXT-001", 7)), content);
    let ledger = site.ledger("CAM-EXT-001");
    assert_eq!((ledger.len(), &ledger[0].key, ledger[0].size), (1, &key("CAM-EXT-001", 7), 200_000));
}

#[tokio::test]
async fn i1_a_file_stays_until_its_bytes_are_confirmed() {
    let site = Site::started(Settings { rest: "keep: {days: 0}", ..NONE }).await;
    site.s3.fault(Fault::fail("PutObject", 500, "InternalError").times(2));
    site.s3.fault(Fault::hang("PutObject").times(1));
    let path = site.write(format!("CAM/{}", picture(1)), b"evidence");
    site.s3.wait_for(|state| state.count("PutObject") == 3, DEADLINE).await;
    assert_eq!(std::fs::read(&path).unwrap(), b"evidence");
    assert!(site.s3.keys().is_empty());
    site.s3.clear_faults();
    site.wait_until_empty().await;
    assert_eq!(site.s3.object(&key("CAM", 1)).unwrap().sha256, sha256(b"evidence"));
    assert!(!site.path("state/kept").exists());
}

#[tokio::test]
async fn i1_a_file_that_changes_while_it_is_uploaded_goes_up_as_it_is_then() {
    let site = Site::started(NONE).await;
    site.s3.fault(Fault::hang("PutObject").times(1));
    let path = site.write(format!("CAM/{}", picture(1)), b"before");
    site.s3.wait_for(|state| state.count("PutObject") == 1, DEADLINE).await;
    std::fs::write(&path, b"after, and longer").unwrap();
    site.s3.clear_faults();
    site.wait_until_empty().await;
    let stored: Vec<String> = site.s3.keys().iter().map(|key| site.s3.object(key).unwrap().sha256).collect();
    assert!(stored.contains(&sha256(b"after, and longer")), "{:?}", site.s3.keys());
    for key in site.s3.keys() {
        let object = site.s3.object(&key).unwrap();
        assert_eq!(object.metadata["sha256"], object.sha256, "{key} is what it says");
    }
}

#[tokio::test]
async fn i1_a_file_that_is_opened_again_while_it_is_uploaded_is_not_taken_away() {
    let site = Site::started(Settings { rest: "keep: {days: 0}", ..NONE }).await;
    site.s3.fault(Fault::hang("PutObject").times(1));
    let path = site.write(format!("CAM/{}", picture(1)), b"first half, ");
    site.s3.wait_for(|state| state.count("PutObject") == 1, DEADLINE).await;
    let mut resumed = OpenOptions::new().append(true).open(&path).unwrap();
    site.s3.clear_faults();
    site.wait_for_keys(&[&key("CAM", 1)]).await;
    site.wait_for_status("a file that waits for its writer", |status| {
        status.files.iter().any(|file| file.reason.as_deref() == Some("open for writing"))
    })
    .await;
    resumed.write_all(b"second half").unwrap();
    drop(resumed);
    site.wait_until_empty().await;
    let hash = sha256(b"first half, second half");
    let whole = key("CAM", 1).replace(".jpg", &format!("~{}.jpg", &hash[..8]));
    assert_eq!(site.s3.object(&whole).unwrap().sha256, hash);
}

#[tokio::test]
async fn i2_an_object_with_other_bytes_is_never_overwritten() {
    let site = Site::started(NONE).await;
    site.s3.insert(&key("CAM", 1), "somebody else's");
    site.write(format!("CAM/{}", picture(1)), b"ours");
    site.wait_until_empty().await;
    let beside = key("CAM", 1).replace(".jpg", &format!("~{}.jpg", &sha256(b"ours")[..8]));
    site.wait_for_keys(&[&key("CAM", 1), &beside]).await;
    assert_eq!(site.s3.object(&key("CAM", 1)).unwrap().sha256, sha256(b"somebody else's"));
    assert_eq!(site.s3.object(&beside).unwrap().sha256, sha256(b"ours"));
}

#[tokio::test]
async fn i2_two_captures_with_one_key_are_both_stored() {
    let mut site = Site::new(NONE).await;
    site.write(format!("CAM/2026-02-24/{}", picture(1)), b"one");
    site.write(format!("CAM/{}", picture(1)), b"two");
    site.start().await;
    site.wait_until_empty().await;
    let mut stored: Vec<String> = site.s3.keys().iter().map(|key| site.s3.object(key).unwrap().sha256).collect();
    stored.sort_unstable();
    let mut sent = vec![sha256(b"one"), sha256(b"two")];
    sent.sort_unstable();
    assert_eq!(stored, sent);
    assert_eq!(files(&site.path("state/kept")).len(), 2);
}

#[tokio::test]
async fn i2_the_retry_of_a_put_whose_reply_was_lost_finds_its_own_object() {
    let site = Site::started(NONE).await;
    site.s3.fault(Fault::lose_reply("PutObject").times(1));
    site.write(format!("CAM/{}", picture(1)), b"evidence");
    site.wait_until_empty().await;
    site.wait_for_keys(&[&key("CAM", 1)]).await;
    let asked: Vec<&str> = site.s3.requests().iter().map(|request| request.operation).collect();
    assert_eq!(asked, ["PutObject", "PutObject", "HeadObject"]);
    assert_eq!(site.ledger("CAM").len(), 1);
}

#[tokio::test]
async fn i2_a_clip_whose_completion_was_not_answered_is_stored_once() {
    let site = Site::started(NONE).await;
    site.s3.fault(Fault::lose_reply("CompleteMultipartUpload").times(1));
    let content = bytes(5, 17 * 1024 * 1024);
    site.write("CAM/192.168.1.64_01_20260224120000000_1.mp4", &content);
    site.wait_until_empty().await;
    let key = format!("CAM/{DATE}/192.168.1.64_01_20260224120000000_1.mp4");
    site.wait_for_keys(&[&key]).await;
    let object = site.s3.object(&key).unwrap();
    assert_eq!((object.sha256, object.content_type.as_deref()), (sha256(&content), Some("video/mp4")));
    assert!(site.s3.uploads().is_empty(), "parts are left behind");
}

#[tokio::test]
async fn i2_two_clips_with_one_key_do_not_abort_each_other() {
    let mut site = Site::new(NONE).await;
    let name = "192.168.1.64_01_20260224120000000_1.mp4";
    let clips = [bytes(5, 17 * 1024 * 1024), bytes(6, 17 * 1024 * 1024)];
    // Folders that only repeat what the name says.
    for (folder, clip) in ["2026-02-24", "2026-02-24/12"].iter().zip(&clips) {
        site.write(format!("CAM/{folder}/{name}"), clip);
    }
    site.s3.fault(Fault::delay("UploadPart", Duration::from_millis(200)));
    // One is in the middle of its parts, and the other is due.
    site.start().await;
    site.s3.wait_for(|state| state.count("UploadPart") == 1, DEADLINE).await;
    site.wait_until_empty().await;
    let mut stored: Vec<String> = site.s3.keys().iter().map(|key| site.s3.object(key).unwrap().sha256).collect();
    let mut sent = clips.map(|clip| sha256(&clip));
    stored.sort_unstable();
    sent.sort_unstable();
    assert_eq!(stored, sent);
    assert!(site.s3.requests().iter().all(|request| request.status != Some(404)), "an upload was aborted under way");
    assert!(site.s3.uploads().is_empty(), "parts are left behind");
}

#[tokio::test]
async fn i2_a_write_only_box_never_reads_and_never_overwrites() {
    let site = Site::started(Settings { s3: "access: write-only", ..NONE }).await;
    site.s3.fault(Fault::lose_reply("PutObject").times(1));
    site.write(format!("CAM/{}", picture(1)), b"evidence");
    site.wait_until_empty().await;
    let keys = site.s3.keys();
    let mut captures = keys.iter().filter(|key| !key.ends_with(PROBE));
    assert!(captures.all(|key| site.s3.object(key).unwrap().sha256 == sha256(b"evidence")), "{keys:?}");
    let putting = ["PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"];
    assert!(site.s3.probes().iter().all(|request| putting.contains(&request.operation)));
    assert!(site.s3.requests().iter().all(|request| request.operation == "PutObject"));
}

#[tokio::test]
async fn i3_status_names_every_file_that_waits_or_does_not_count_and_says_why() {
    let site = Site::started(NONE).await;
    site.write("CAM/note.tmp", b"ignored");
    site.write("CAM/empty.jpg", b"");
    std::os::unix::fs::symlink("/etc/hostname", site.drop_path("CAM/link.jpg")).unwrap();
    let mut growing = OpenOptions::new().create_new(true).write(true).open(site.drop_path("CAM/growing.jpg")).unwrap();
    growing.write_all(b"half").unwrap();
    let mut expected = vec![
        ("CAM/note.tmp".to_owned(), "ignored", "*.tmp"),
        ("CAM/empty.jpg".into(), "backing off", "empty"),
        ("CAM/link.jpg".into(), "left alone", "symbolic link"),
        // It is looked at again and again.
        ("CAM/growing.jpg".into(), "settling queued uploading", "open for writing"),
    ];
    let says_all = |status: &Snapshot, expected: &[(String, &str, &str)]| {
        status.files.len() + status.not_uploaded.len() == expected.len()
            && expected.iter().all(|(path, states, reason)| {
                status.files.iter().chain(&status.not_uploaded).any(|file| {
                    file.path == *path
                        && states.contains(&file.state)
                        && file.reason.as_ref().is_some_and(|why| why.contains(reason))
                })
            })
    };
    site.wait_for_status("four files with their reasons", |status| says_all(status, &expected)).await;
    site.s3.fault(Fault::fail("PutObject", 403, "AccessDenied"));
    site.write(format!("CAM/{}", picture(1)), b"refused");
    expected.push((format!("CAM/{}", picture(1)), "backing off", "s3:PutObject"));
    let status = site.wait_for_status("five files with their reasons", |status| says_all(status, &expected)).await;
    let oldest = status.oldest_only_here.unwrap();
    assert!(files(&site.drop_path("CAM")).iter().any(|file| file.ends_with(oldest.path.trim_start_matches("CAM/"))));
}

#[tokio::test]
async fn i5_what_a_stop_interrupted_is_completed_by_the_next_start() {
    let mut site = Site::started(NONE).await;
    site.s3.fault(Fault::hang("PutObject"));
    let clip = bytes(3, 20 * 1024 * 1024);
    site.s3.fault(Fault::hang("UploadPart"));
    site.write("CAM/192.168.1.64_01_20260224120000000_1.mp4", &clip);
    for number in 0..5 {
        site.write(format!("CAM/{}", picture(number)), &bytes(number.into(), 1000));
    }
    site.s3.wait_for(|state| state.count("PutObject") == 5 && state.count("UploadPart") == 1, DEADLINE).await;
    site.abort().await;
    // What was under way when the daemon went is carried out or not; the next one cannot know.
    site.s3.clear_faults();
    site.start().await;
    site.wait_until_empty().await;
    let mut keys: Vec<String> = (0..5).map(|number| key("CAM", number)).collect();
    keys.push(format!("CAM/{DATE}/192.168.1.64_01_20260224120000000_1.mp4"));
    site.wait_for_keys(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for number in 0..5 {
        assert_eq!(site.s3.object(&key("CAM", number)).unwrap().sha256, sha256(&bytes(number.into(), 1000)));
    }
    assert_eq!(site.s3.object(&keys[5]).unwrap().sha256, sha256(&clip));
    assert!(site.s3.uploads().is_empty(), "parts of the interrupted clip are left behind");
    assert_eq!(site.ledger("CAM").len(), 6);
}

#[tokio::test]
async fn i5_a_file_left_aside_by_a_crash_takes_its_ordinary_way_at_once() {
    let mut site = Site::new(NONE).await;
    site.write(format!("CAM/.hk-aws-1f-{}", picture(1)), b"evidence");
    let taken = site.write(format!("CAM/.hk-aws-2f-{}", picture(2)), b"in work");
    let at_work = File::open(&taken).unwrap();
    rustix::fs::flock(&at_work, FlockOperation::LockShared).unwrap();
    site.start().await;
    site.wait_for_keys(&[&key("CAM", 1)]).await;
    site.wait("an end of the first", || (files(&site.drop_path("")) == [taken.clone()]).then_some(())).await;
    assert_eq!(site.kept(&key("CAM", 1)), b"evidence");
    // Whoever worked on it dies, and the next scan takes it up.
    drop(at_work);
    site.stop().await;
    site.start().await;
    site.wait_until_empty().await;
    site.wait_for_keys(&[&key("CAM", 1), &key("CAM", 2)]).await;
}

#[tokio::test]
async fn i6_more_files_than_the_queue_holds_are_all_stored() {
    const CAPACITY: usize = 100;
    let s3 = MemoryS3::start_without_bytes("evidence").await;
    let site = Site::with(s3, Settings { rest: "keep: {days: 0}\nupload: {concurrency: 32}", ..NONE });
    for number in 0..400 {
        site.write(format!("CAM/{}", picture(number)), &number.to_be_bytes());
    }
    site.s3.fault(Fault::hang("PutObject"));
    let mut daemon = Clocked::start_with_capacity(site.config(), &Clock::default(), CAPACITY).await;
    daemon.wait_for("files that found no place", |status| status.waiting.on_disk > 0).await;
    site.s3.clear_faults();
    site.s3.wait_for(|state| state.objects().len() == 400, DEADLINE).await;
    site.wait_until_empty().await;
    assert_eq!(site.s3.count("PutObject"), 400);
}

#[tokio::test]
async fn i7_a_fresh_capture_overtakes_the_backlog() {
    let mut site = Site::new(Settings { rest: "upload: {concurrency: 1}", ..NONE }).await;
    for number in 0..100 {
        site.write(format!("CAM/{}", picture(number)), &number.to_be_bytes());
    }
    site.s3.fault(Fault::delay("PutObject", Duration::from_millis(10)));
    site.start().await;
    site.s3.wait_for(|state| state.objects().len() > 5, DEADLINE).await;
    site.write(format!("FRESH/{}", picture(1)), b"fresh");
    site.s3.wait_for(|state| state.object(&key("FRESH", 1)).is_some(), DEADLINE).await;
    assert!(site.s3.keys().len() < 90, "the backlog went first");
}

#[tokio::test]
async fn i8_a_capture_costs_one_request() {
    let site = Site::started(NONE).await;
    for number in 0..40 {
        site.write(format!("CAM-{}/{}", number % 4, picture(number)), &bytes(number.into(), 30_000));
    }
    site.wait_until_empty().await;
    let asked = site.s3.requests();
    assert_eq!(asked.len(), 40);
    assert!(asked.iter().all(|request| request.operation == "PutObject" && request.status == Some(200)));
}

#[tokio::test]
async fn a_recording_that_was_cut_off_goes_up_at_once_beside_its_key_and_the_whole_one_follows() {
    let site = Site::started(NONE).await;
    let whole = [b"\xFF\xD8\xFF\xDA\x00\x02".as_slice(), &[7; 5000], b"\xFF\xD9"].concat();
    let part = &whole[..3000];
    let path = site.write(format!("CAM/{}", picture(1)), part);
    let beside = key("CAM", 1).replace(".jpg", &format!("~partial-{}.jpg", &sha256(part)[..8]));
    site.wait_for_keys(&[&beside]).await;
    assert_eq!(site.s3.object(&beside).unwrap().metadata.get("partial").map(String::as_str), Some("true"));
    let waits = |status: &Snapshot| {
        status.files.iter().any(|file| file.reason.as_ref().is_some_and(|why| why.contains("waits for the camera")))
    };
    site.wait_for_status("the part that waits", waits).await;
    OpenOptions::new().append(true).open(&path).unwrap().write_all(&whole[3000..]).unwrap();
    site.wait_until_empty().await;
    site.wait_for_keys(&[&key("CAM", 1), &beside]).await;
    assert_eq!(site.s3.object(&key("CAM", 1)).unwrap().sha256, sha256(&whole));
    assert_eq!(site.s3.requests().len(), 2, "a part costs one request, and so does the whole");
    assert_eq!(site.ledger("CAM").iter().map(|entry| entry.partial).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn a_recording_that_is_resumed_while_its_part_goes_up_does_not_wait() {
    let site = Site::started(NONE).await;
    site.s3.fault(Fault::hang("PutObject").times(1));
    let path = site.write(format!("CAM/{}", picture(1)), b"\xFF\xD8\xFF\xDA\x00\x02half");
    site.s3.wait_for(|state| state.count("PutObject") == 1, DEADLINE).await;
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b", whole\xFF\xD9").unwrap();
    // The word of its closing must have come while the part is in work, so that nothing else tells of it.
    let later = site.write(format!("LATER/{}", picture(1)), b"later");
    site.wait("the later one", || (!later.exists()).then_some(())).await;
    site.s3.clear_faults();
    site.s3.wait_for(|state| state.object(&key("CAM", 1)).is_some(), DEADLINE).await;
    site.wait_until_empty().await;
}

#[tokio::test]
async fn a_recording_that_stays_cut_off_is_disposed_of_as_such() {
    let site = Site::started(Settings { drop: "partial_after: 1s", ..NONE }).await;
    let part = b"\xFF\xD8\xFF\xDA\x00\x02half";
    site.write(format!("CAM/{}", picture(1)), part);
    site.wait_until_empty().await;
    let beside = key("CAM", 1).replace(".jpg", &format!("~partial-{}.jpg", &sha256(part)[..8]));
    site.wait_for_keys(&[&beside]).await;
    assert_eq!(site.kept(&beside), part);
    assert_eq!(site.ledger("CAM").len(), 1);
    assert_eq!(site.s3.requests().len(), 1, "what is stored is not sent again to be disposed of");
}
