//! Stores that do not honour `If-None-Match: *`: what takes its place, and what is left behind in any.

use hk_aws::bucket::PROBE;

use crate::support::s3::{Conditions, Fault, MemoryS3};
use crate::support::site::{DATE, DEADLINE, Settings, Site, bytes, key, picture, sha256};

const NONE: Settings = Settings { drop: "", s3: "", rest: "" };
const WRITE_ONLY: Settings = Settings { drop: "", s3: "access: write-only", rest: "" };
const BOTH: [Conditions; 2] = [Conditions::Ignored, Conditions::Refused];

/// Two parts of an upload.
const CLIP_BYTES: usize = 16 << 20;

/// The name of a clip.
const CLIP: &str = "192.168.1.64_01_20260224120000000_1.mp4";

async fn site(conditions: Conditions, settings: Settings) -> Site {
    let s3 = MemoryS3::start("evidence").await;
    s3.take_conditions(conditions);
    Site::with(s3, settings)
}

async fn started(conditions: Conditions, settings: Settings) -> Site {
    let mut site = site(conditions, settings).await;
    site.start().await;
    site
}

/// The hashes of all captures in the bucket, sorted.
fn stored(site: &Site) -> Vec<String> {
    let keys = site.s3.keys();
    let captures = keys.iter().filter(|key| !key.ends_with(PROBE));
    let mut hashes: Vec<String> = captures.map(|key| site.s3.object(key).unwrap().sha256).collect();
    hashes.sort_unstable();
    hashes
}

fn hashes(contents: &[&[u8]]) -> Vec<String> {
    let mut hashes: Vec<String> = contents.iter().map(|content| sha256(content)).collect();
    hashes.sort_unstable();
    hashes
}

fn beside(key: &str, content: &[u8]) -> String {
    let (stem, extension) = key.rsplit_once('.').unwrap();
    format!("{stem}~{}.{extension}", &sha256(content)[..8])
}

/// The name where the store may overwrite and nobody may look.
fn beside_by_all(key: &str, content: &[u8]) -> String {
    let (stem, extension) = key.rsplit_once('.').unwrap();
    format!("{stem}~{}.{extension}", sha256(content))
}

fn operations(site: &Site) -> Vec<&'static str> {
    site.s3.requests().iter().map(|request| request.operation).collect()
}

fn probes(site: &Site) -> Vec<(&'static str, Option<u16>)> {
    site.s3.probes().iter().map(|request| (request.operation, request.status)).collect()
}

#[tokio::test]
async fn a_store_is_tried_once_and_nothing_of_it_stays() {
    let (put, completed) = (|status| ("PutObject", Some(status)), |status| ("CompleteMultipartUpload", Some(status)));
    let listed = ("ListMultipartUploads", Some(200));
    let (created, part) = (("CreateMultipartUpload", Some(200)), ("UploadPart", Some(200)));
    for (conditions, at_once, in_parts) in [
        (Conditions::Honoured, vec![put(200), put(412)], vec![completed(412), completed(200)]),
        (Conditions::Ignored, vec![put(200), put(200), put(200)], vec![]),
        (Conditions::IgnoredInParts, vec![put(200), put(412)], vec![completed(200)]),
        (Conditions::Refused, vec![put(501), put(200)], vec![]),
    ] {
        let deleted = vec![("DeleteObject", Some(204))];
        let mut expected = [at_once, deleted.clone()].concat();
        let site = started(conditions, NONE).await;
        for number in 0..4 {
            site.write(format!("CAM/{}", picture(number)), &number.to_be_bytes());
        }
        site.wait_until_empty().await;
        assert_eq!(probes(&site), expected, "{conditions:?}");
        site.wait_for_keys(&[0, 1, 2, 3].map(|number| key("CAM", number)).each_ref().map(String::as_str)).await;
        // Uploads in parts are tried when there is the first one.
        if !in_parts.is_empty() {
            expected.extend([vec![put(200), listed, created, part], in_parts, deleted].concat());
        }
        for camera in ["CAM", "OTHER"] {
            site.write(format!("{camera}/{CLIP}"), &bytes(1, CLIP_BYTES));
            site.wait_until_empty().await;
        }
        assert_eq!(probes(&site), expected, "{conditions:?}");
        assert!(site.s3.uploads().is_empty() && site.s3.object(PROBE).is_none());
    }
}

#[tokio::test]
async fn a_store_that_could_not_be_tried_at_the_start_is_tried_by_the_first_capture() {
    let mut site = site(Conditions::Ignored, NONE).await;
    site.s3.fault(Fault::fail("PutObject", 503, "SlowDown").on_key(|key| key.ends_with(PROBE)));
    site.s3.insert(&key("CAM", 1), "somebody else's");
    site.start_in_trouble().await;
    site.write(format!("CAM/{}", picture(1)), b"ours");
    site.wait_for_status("the trouble", |status| status.trouble.is_some()).await;
    assert_eq!(site.s3.count("PutObject"), 0, "nothing is put before it is known what that may do");
    site.s3.clear_faults();
    site.wait_until_empty().await;
    assert_eq!(stored(&site), hashes(&[b"somebody else's", b"ours"]));
}

#[tokio::test]
async fn i2_an_object_with_other_bytes_is_not_overwritten_where_the_store_would() {
    for conditions in BOTH {
        let site = started(conditions, NONE).await;
        site.s3.insert(&key("CAM", 1), "somebody else's");
        site.write(format!("CAM/{}", picture(1)), b"ours");
        site.wait_until_empty().await;
        assert_eq!(site.s3.object(&key("CAM", 1)).unwrap().sha256, sha256(b"somebody else's"), "{conditions:?}");
        assert_eq!(site.s3.object(&beside(&key("CAM", 1), b"ours")).unwrap().sha256, sha256(b"ours"));
        assert_eq!(operations(&site), ["HeadObject", "HeadObject", "HeadObject", "PutObject"]);
    }
}

#[tokio::test]
async fn i2_two_captures_with_one_key_are_both_stored_where_the_store_would_overwrite() {
    for conditions in BOTH {
        let mut site = site(conditions, NONE).await;
        let folders = ["a", "b", "c", "d", "e", "f"];
        for (folder, content) in folders.iter().zip(1_u64..) {
            site.write(format!("CAM/{folder}/{}", picture(1)), &bytes(content, 1000));
        }
        // Whoever looked before another has put would find nothing.
        site.s3.fault(Fault::delay("HeadObject", std::time::Duration::from_millis(50)));
        site.start().await;
        site.wait_until_empty().await;
        let contents: Vec<Vec<u8>> = (1..=6).map(|content| bytes(content, 1000)).collect();
        assert_eq!(stored(&site), hashes(&contents.iter().map(Vec::as_slice).collect::<Vec<_>>()), "{conditions:?}");
    }
}

#[tokio::test]
async fn i2_a_clip_is_not_overwritten_by_another_that_comes_meanwhile() {
    for conditions in [Conditions::Ignored, Conditions::IgnoredInParts, Conditions::Refused] {
        let site = started(conditions, NONE).await;
        let ours = bytes(1, CLIP_BYTES);
        site.s3.fault(Fault::hang("UploadPart").times(1));
        site.write(format!("CAM/{CLIP}"), &ours);
        site.s3.wait_for(|state| state.count("UploadPart") == 1, DEADLINE).await;
        let own = format!("CAM/{DATE}/{CLIP}");
        // Another box: this one's own uploads take turns.
        site.s3.insert(&own, "somebody else's");
        site.s3.clear_faults();
        site.wait_until_empty().await;
        assert_eq!(stored(&site), hashes(&[b"somebody else's", &ours]), "{conditions:?}");
        assert_eq!(site.s3.object(&own).unwrap().sha256, sha256(b"somebody else's"));
        assert!(site.s3.uploads().is_empty(), "parts are left behind");
    }
}

#[tokio::test]
async fn i2_a_lost_reply_stores_no_second_copy_where_the_store_would_overwrite() {
    for (conditions, lost, content) in [
        (Conditions::Ignored, "PutObject", bytes(1, 1000)),
        (Conditions::Refused, "PutObject", bytes(2, 1000)),
        (Conditions::Ignored, "CompleteMultipartUpload", bytes(3, CLIP_BYTES)),
    ] {
        let site = started(conditions, NONE).await;
        site.s3.fault(Fault::lose_reply(lost).times(1));
        site.write(format!("CAM/{CLIP}"), &content);
        site.wait_until_empty().await;
        site.wait_for_keys(&[&format!("CAM/{DATE}/{CLIP}")]).await;
        assert_eq!(stored(&site), hashes(&[&content]), "{conditions:?}");
        assert_eq!(site.s3.count(lost), 1, "found, not put again");
    }
}

#[tokio::test]
async fn i5_a_crash_between_put_and_answer_is_completed_where_the_store_would_overwrite() {
    for conditions in BOTH {
        let mut site = started(conditions, NONE).await;
        site.s3.fault(Fault::lose_reply("PutObject"));
        site.write(format!("CAM/{}", picture(1)), b"evidence");
        site.wait_for_keys(&[&key("CAM", 1)]).await;
        site.abort().await;
        site.s3.clear_faults();
        site.start().await;
        site.wait_until_empty().await;
        site.wait_for_keys(&[&key("CAM", 1)]).await;
        assert_eq!(site.s3.object(&key("CAM", 1)).unwrap().sha256, sha256(b"evidence"));
    }
}

#[tokio::test]
async fn i2_a_write_only_box_stores_under_hashed_names_where_the_store_would_overwrite() {
    for conditions in BOTH {
        let mut site = site(conditions, WRITE_ONLY).await;
        site.write(format!("CAM/2026-02-24/{}", picture(1)), b"one");
        site.write(format!("CAM/{}", picture(1)), b"two");
        let clip = bytes(3, CLIP_BYTES);
        site.write(format!("CAM/{CLIP}"), &clip);
        site.s3.fault(Fault::lose_reply("PutObject").times(1).on_key(|key| !key.ends_with(PROBE)));
        site.start().await;
        site.wait_until_empty().await;
        assert_eq!(stored(&site), hashes(&[b"one", b"two", &clip]), "{conditions:?}");
        let own = key("CAM", 1);
        let mut keys = vec![beside_by_all(&own, b"one"), beside_by_all(&own, b"two")];
        keys.push(beside_by_all(&format!("CAM/{DATE}/{CLIP}"), &clip));
        keys.push(PROBE.to_owned());
        keys.sort_unstable();
        assert_eq!(site.s3.keys(), keys);
        let reads = |operation: &&str| operation.starts_with("Head") || operation.starts_with("Get");
        assert_eq!(operations(&site).into_iter().find(reads), None, "nothing is read");
    }
}

#[tokio::test]
async fn i2_credentials_that_may_not_read_after_all_lose_and_overwrite_nothing() {
    let site = started(Conditions::Ignored, NONE).await;
    site.s3.fault(Fault::fail("HeadObject", 403, "AccessDenied"));
    site.s3.insert(&key("CAM", 1), "somebody else's");
    site.write(format!("CAM/{}", picture(1)), b"ours");
    site.wait_until_empty().await;
    assert_eq!(stored(&site), hashes(&[b"somebody else's", b"ours"]));
}

#[tokio::test]
async fn i5_parts_of_a_clip_that_was_cut_off_then_and_is_whole_now_are_not_left_behind() {
    let mut site = Site::started(NONE).await;
    // A picture is never so large, but tells by its end whether it is whole.
    let whole = [b"\xFF\xD8\xFF\xDA\x00\x02".as_slice(), &vec![7; CLIP_BYTES], b"\xFF\xD9"].concat();
    let path = site.write(format!("CAM/{}", picture(1)), &whole[..CLIP_BYTES]);
    site.s3.fault(Fault::hang("UploadPart"));
    site.s3.wait_for(|state| state.count("UploadPart") == 1, DEADLINE).await;
    site.abort().await;
    assert!(site.s3.uploads()[0].0.contains("~partial-"), "{:?}", site.s3.uploads());
    // A second one, of a capture whose name begins with the same letters, is somebody else's.
    let other = key("CAM", 1).replace(".jpg", "-2.jpg");
    let foreign = site.s3.client().create_multipart_upload().bucket("evidence").key(&other).send().await.unwrap();
    site.s3.clear_faults();
    std::fs::write(path, &whole).unwrap();
    site.start().await;
    site.wait_until_empty().await;
    site.wait_for_keys(&[&key("CAM", 1)]).await;
    assert_eq!(site.s3.object(&key("CAM", 1)).unwrap().sha256, sha256(&whole));
    assert_eq!(site.s3.uploads(), [(other, foreign.upload_id.unwrap())]);
}

#[tokio::test]
async fn i2_clips_with_one_key_do_not_abort_each_others_parts() {
    let mut site = Site::new(NONE).await;
    let (one, two) = (bytes(1, CLIP_BYTES), bytes(2, CLIP_BYTES));
    site.write(format!("CAM/2026-02-24/{CLIP}"), &one);
    site.write(format!("CAM/{CLIP}"), &two);
    site.start().await;
    site.wait_until_empty().await;
    assert_eq!(stored(&site), hashes(&[&one, &two]));
    let requests = site.s3.requests();
    assert!(requests.iter().all(|request| request.status != Some(404)), "an upload in work was aborted");
    // The second finds the key taken when it completes, and goes beside it.
    assert_eq!(site.s3.count("CreateMultipartUpload"), 3);
    assert!(site.s3.uploads().is_empty());
}

#[tokio::test]
async fn i8_a_clip_needs_no_right_to_list_or_to_abort() {
    let site = Site::started(NONE).await;
    site.s3.fault(Fault::fail("ListMultipartUploads", 403, "AccessDenied"));
    site.s3.fault(Fault::fail("AbortMultipartUpload", 403, "AccessDenied"));
    site.s3.fault(Fault::fail("CompleteMultipartUpload", 500, "InternalError").times(1));
    let clip = bytes(1, CLIP_BYTES);
    site.write(format!("CAM/{CLIP}"), &clip);
    site.wait_until_empty().await;
    assert_eq!(stored(&site), hashes(&[&clip]));
}

#[tokio::test]
async fn a_store_that_knows_no_uploads_in_parts_takes_pictures() {
    let mut site = site(Conditions::Honoured, NONE).await;
    site.s3.fault(Fault::fail("CreateMultipartUpload", 501, "NotImplemented").on_key(|_| true));
    site.start().await;
    site.write(format!("CAM/{}", picture(1)), b"evidence");
    site.wait_until_empty().await;
    assert_eq!(operations(&site), ["PutObject"]);
}

#[tokio::test]
async fn i5_a_crash_in_the_middle_of_a_trial_leaves_nothing_behind_after_the_next_start() {
    let mut site = site(Conditions::Honoured, NONE).await;
    site.s3.fault(Fault::hang("UploadPart").on_key(|_| true));
    let keys = hk_aws::bucket::Credentials::new(
        crate::support::s3::ACCESS_KEY,
        crate::support::s3::SECRET_KEY,
        None,
        None,
        "test",
    );
    site.start_with(keys).await;
    site.write(format!("CAM/{CLIP}"), &bytes(1, CLIP_BYTES));
    site.s3.wait_for(|state| state.requests().iter().any(|request| request.operation == "UploadPart"), DEADLINE).await;
    site.abort().await;
    assert_eq!((site.s3.keys(), site.s3.uploads().len()), (vec![PROBE.to_owned()], 1));
    site.s3.clear_faults();
    site.start().await;
    site.wait_until_empty().await;
    assert_eq!((site.s3.keys().len(), site.s3.uploads()), (1, vec![]));
}

#[tokio::test]
async fn aws_itself_is_not_asked() {
    let text = "drop_folder: {path: /nowhere}\ns3: {bucket: evidence, region: eu-central-1}\ntimezone: UTC\n";
    let config = hk_aws::config::Config::parse("aws.yaml".as_ref(), text, &|_| None).unwrap();
    let keys = hk_aws::bucket::Credentials::new("key", "secret", None, None, "test");
    // There is no network here: an answer is no answer of AWS.
    let known = hk_aws::bucket::Bucket::connect(&config.s3, Some(keys), hk_aws::bucket::Pace::new(hk_aws::daemon::now))
        .await
        .put_condition()
        .await
        .unwrap();
    assert_eq!(known, hk_aws::bucket::Condition::Honoured);
}
