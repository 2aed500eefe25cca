//! The S3 server in memory, held against what AWS documents, through the real SDK.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart, Delete, MetadataDirective,
    ObjectIdentifier, ObjectLockMode, ServerSideEncryption, StorageClass,
};
use aws_smithy_types::{DateTime, base64};
use s3s::dto::StorageClass as StoredClass;
use sha2::{Digest, Sha256};

use crate::support::s3::{ACCESS_KEY, Fault, MemoryS3, OWNERS_ACCESS_KEY, SECRET_KEY, Versions};

const SOON: Duration = Duration::from_secs(10);

fn sha256(bytes: &[u8]) -> String {
    base64::encode(Sha256::digest(bytes))
}

/// Returns the error code of an answer, or what went wrong before there was one.
fn code<T, E: ProvideErrorMetadata>(result: Result<T, SdkError<E>>) -> String {
    match result {
        Ok(_) => "OK".to_owned(),
        Err(SdkError::ServiceError(error)) => error.err().code().unwrap_or("none").to_owned(),
        Err(SdkError::DispatchFailure(_)) => "dispatch".to_owned(),
        Err(SdkError::TimeoutError(_)) => "timeout".to_owned(),
        Err(_) => "other".to_owned(),
    }
}

fn status<T, E>(result: Result<T, SdkError<E>>) -> Option<u16> {
    result.err()?.raw_response().map(|response| response.status().as_u16())
}

async fn put(client: &Client, key: &str, bytes: &'static [u8]) -> String {
    let put = client.put_object().bucket("bucket").key(key).checksum_sha256(sha256(bytes)).if_none_match("*");
    code(put.body(ByteStream::from_static(bytes)).send().await)
}

#[tokio::test]
async fn an_object_comes_back_with_all_that_was_sent_with_it() {
    let s3 = MemoryS3::start("bucket").await;
    let client = s3.client();
    client
        .put_object()
        .bucket("bucket")
        .key("CAM 1/2022-02-24/a+b~ü.jpg")
        .body(ByteStream::from_static(b"picture"))
        .checksum_sha256(sha256(b"picture"))
        .content_type("image/jpeg")
        .metadata("camera", "CAM 1")
        .storage_class(StorageClass::GlacierIr)
        .tagging("event=motion%20detection&camera=CAM+1")
        .server_side_encryption(ServerSideEncryption::AwsKms)
        .ssekms_key_id("a-key")
        .object_lock_mode(ObjectLockMode::Governance)
        .object_lock_retain_until_date(DateTime::from_secs(2_000_000_000))
        .send()
        .await
        .unwrap();

    let head = client.head_object().bucket("bucket").key("CAM 1/2022-02-24/a+b~ü.jpg");
    assert_eq!(head.clone().send().await.unwrap().checksum_sha256(), None, "a checksum is told only when asked for");
    let head = head.checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    assert_eq!(head.checksum_sha256(), Some(&*sha256(b"picture")));
    assert_eq!(head.content_length(), Some(7));
    assert_eq!(head.content_type(), Some("image/jpeg"));
    assert_eq!(head.metadata().unwrap()["camera"], "CAM 1");
    assert_eq!(head.storage_class(), Some(&StorageClass::GlacierIr));
    assert_eq!(head.server_side_encryption(), Some(&ServerSideEncryption::AwsKms));
    assert_eq!(head.ssekms_key_id(), Some("a-key"));
    assert_eq!(head.object_lock_mode(), Some(&ObjectLockMode::Governance));
    assert_eq!(head.object_lock_retain_until_date().map(DateTime::secs), Some(2_000_000_000));
    assert!(head.last_modified().is_some());

    let get = client.get_object().bucket("bucket").key("CAM 1/2022-02-24/a+b~ü.jpg").send().await.unwrap();
    assert_eq!(get.tag_count(), Some(2));
    assert_eq!(get.body.collect().await.unwrap().to_vec(), b"picture");
    let tags = client.get_object_tagging().bucket("bucket").key("CAM 1/2022-02-24/a+b~ü.jpg").send().await.unwrap();
    assert_eq!(tags.tag_set()[1].value(), "motion detection");

    let object = s3.object("CAM 1/2022-02-24/a+b~ü.jpg").unwrap();
    assert_eq!(object.sha256, hex::encode(Sha256::digest(b"picture")));
    assert_eq!(object.etag, "5456fc54c74a297ce994998c2873b370");
    assert_eq!(object.tags["camera"], "CAM 1");
    let recorded = &s3.requests()[0];
    assert_eq!((recorded.operation, &*recorded.key), ("PutObject", "CAM 1/2022-02-24/a+b~ü.jpg"));
    assert_eq!((recorded.status, recorded.bytes), (Some(200), 7));
    assert!(recorded.answered.unwrap() >= recorded.received);
}

#[tokio::test]
async fn a_conditional_put_never_overwrites() {
    let s3 = MemoryS3::start("bucket").await;
    assert_eq!(put(&s3.client(), "a", b"one").await, "OK");
    assert_eq!(put(&s3.client(), "a", b"two").await, "PreconditionFailed");
    assert_eq!(s3.object("a").unwrap().bytes.unwrap(), "one");
    assert_eq!(s3.requests()[1].status, Some(412));
    let plain = s3.client().put_object().bucket("bucket").key("a").body(ByteStream::from_static(b"two"));
    plain.send().await.unwrap();
    assert_eq!(s3.object("a").unwrap().bytes.unwrap(), "two");
}

#[tokio::test]
async fn a_body_that_does_not_match_its_checksum_is_refused() {
    let s3 = MemoryS3::start("bucket").await;
    let client = s3.client();
    let put = || client.put_object().bucket("bucket").key("a").body(ByteStream::from_static(b"picture"));
    assert_eq!(code(put().checksum_sha256(sha256(b"other")).send().await), "BadDigest");
    assert_eq!(code(put().checksum_crc32("AAAAAA==").send().await), "BadDigest");
    assert_eq!(code(put().content_md5("AAAAAAAAAAAAAAAAAAAAAA==").send().await), "BadDigest");
    assert_eq!(s3.requests()[0].status, Some(400));
    assert!(s3.look(|state| state.objects().is_empty()));
    // The SDK computes these itself.
    for algorithm in [ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Crc32C, ChecksumAlgorithm::Sha1] {
        assert_eq!(code(put().checksum_algorithm(algorithm).send().await), "OK");
    }
    let sum = s3.look(|state| state.object("a").unwrap().checksum.clone());
    assert!(sum.checksum_sha1.is_some() && sum.checksum_sha256.is_none(), "only what was sent is stored");
}

#[tokio::test]
async fn a_file_is_streamed_with_its_checksum_before_or_behind_it() {
    let s3 = MemoryS3::start("bucket").await;
    let client = s3.client();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.mp4");
    std::fs::write(&file, vec![7; 3 << 20]).unwrap();
    for (key, sum) in [("before", Some(sha256(&vec![7; 3 << 20]))), ("behind", None)] {
        let body = ByteStream::from_path(&file).await.unwrap();
        let put = client.put_object().bucket("bucket").key(key).body(body).set_checksum_sha256(sum);
        assert_eq!(code(put.checksum_algorithm(ChecksumAlgorithm::Sha256).send().await), "OK");
        let object = s3.object(key).unwrap();
        assert_eq!((object.len, object.checksum.checksum_sha256), (3 << 20, Some(sha256(&vec![7; 3 << 20]))));
    }
    let body = ByteStream::from_path(&file).await.unwrap();
    let wrong = client.put_object().bucket("bucket").key("wrong").body(body).checksum_sha256(sha256(b"other"));
    assert_eq!(code(wrong.send().await), "BadDigest");
    assert_eq!(s3.count("PutObject"), 3);
}

#[tokio::test]
async fn a_lock_needs_a_checksum() {
    let s3 = MemoryS3::start("bucket").await;
    let config = s3.client().config().to_builder();
    let config = config.request_checksum_calculation(aws_sdk_s3::config::RequestChecksumCalculation::WhenRequired);
    let client = Client::from_conf(config.build());
    let put = || {
        let put = client.put_object().bucket("bucket").key("a").object_lock_mode(ObjectLockMode::Compliance);
        put.object_lock_retain_until_date(DateTime::from_secs(1))
    };
    assert_eq!(code(put().send().await), "InvalidRequest");
    assert_eq!(code(put().checksum_sha256(sha256(b"")).send().await), "OK");
}

#[tokio::test]
async fn what_does_not_exist_is_told_as_by_aws() {
    let s3 = MemoryS3::start("bucket").await;
    let client = s3.client();
    assert_eq!(code(client.put_object().bucket("other").key("a").send().await), "NoSuchBucket");
    assert_eq!(code(client.get_object().bucket("bucket").key("a").send().await), "NoSuchKey");
    assert_eq!(status(client.head_object().bucket("bucket").key("a").send().await), Some(404));
    assert_eq!(code(client.delete_object().bucket("bucket").key("a").send().await), "OK");
    assert_eq!(status(client.head_bucket().bucket("other").send().await), Some(404));
    client.head_bucket().bucket("bucket").send().await.unwrap();
    let abort = client.abort_multipart_upload().bucket("bucket").key("a").upload_id("none").send().await;
    assert_eq!(code(abort), "NoSuchUpload");
}

#[tokio::test]
async fn a_wrong_signature_is_refused() {
    let s3 = MemoryS3::start("bucket").await;
    let wrong_secret = s3.client_signing_with(ACCESS_KEY, "wrong");
    assert_eq!(put(&wrong_secret, "a", b"picture").await, "SignatureDoesNotMatch");
    let unknown_key = s3.client_signing_with("AKIAUNKNOWN", SECRET_KEY);
    assert_eq!(put(&unknown_key, "a", b"picture").await, "InvalidAccessKeyId");
    assert!(s3.requests().iter().all(|request| request.status == Some(403)));
    assert!(s3.keys().is_empty());
}

#[tokio::test]
async fn a_range_brings_those_bytes() {
    let s3 = MemoryS3::start("bucket").await;
    s3.insert("a", "0123456789");
    let get = s3.client().get_object().bucket("bucket").key("a");
    for (range, content_range, bytes) in
        [("bytes=2-4", "bytes 2-4/10", "234"), ("bytes=8-", "bytes 8-9/10", "89"), ("bytes=-1", "bytes 9-9/10", "9")]
    {
        let part = get.clone().range(range).send().await.unwrap();
        assert_eq!(part.content_range(), Some(content_range));
        assert_eq!(part.body.collect().await.unwrap().to_vec(), bytes.as_bytes());
    }
    assert_eq!(s3.requests()[0].status, Some(206));
    assert_eq!(code(get.range("bytes=10-").send().await), "InvalidRange");
}

#[tokio::test]
async fn a_listing_goes_by_prefix_delimiter_and_page() {
    let s3 = MemoryS3::start("bucket").await;
    for key in ["a/1", "a/2", "a/b/3", "a/c/4", "a/c/5", "a/d", "b/6"] {
        s3.insert(key, "");
    }
    let list = s3.client().list_objects_v2().bucket("bucket");
    let mut pages = Vec::new();
    let mut paginator = list.clone().prefix("a/").delimiter("/").into_paginator().page_size(2).send();
    while let Some(page) = paginator.next().await.transpose().unwrap() {
        let keys = page.contents().iter().filter_map(|object| object.key());
        let prefixes = page.common_prefixes().iter().filter_map(|prefix| prefix.prefix());
        pages.push(keys.chain(prefixes).map(str::to_owned).collect::<Vec<_>>());
    }
    assert_eq!(pages, [vec!["a/1", "a/2"], vec!["a/b/", "a/c/"], vec!["a/d"]]);
    let rest = list.start_after("a/c/5").send().await.unwrap();
    assert_eq!(rest.key_count(), Some(2));
    assert_eq!(rest.contents()[0].key(), Some("a/d"));
    assert_eq!(rest.contents()[0].storage_class().map(aws_sdk_s3::types::ObjectStorageClass::as_str), Some("STANDARD"));
}

#[tokio::test]
async fn several_objects_are_deleted_at_once() {
    let s3 = MemoryS3::start("bucket").await;
    for key in ["a", "b", "c"] {
        s3.insert(key, "");
    }
    let objects = ["a", "c", "missing"].map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    let delete = Delete::builder().set_objects(Some(objects.to_vec())).build().unwrap();
    let done = s3.client().delete_objects().bucket("bucket").delete(delete).send().await.unwrap();
    assert_eq!(done.deleted().len(), 3);
    assert_eq!(s3.keys(), ["b"]);
}

#[tokio::test]
async fn a_copy_onto_itself_changes_class_or_metadata_or_is_refused() {
    let s3 = MemoryS3::start("bucket").await;
    s3.insert("a", "picture");
    s3.edit("a", |object| object.metadata = [("camera".to_owned(), "CAM".to_owned())].into());
    let copy = s3.client().copy_object().bucket("bucket").key("a").copy_source("bucket/a");
    assert_eq!(code(copy.clone().send().await), "InvalidRequest");
    copy.clone().storage_class(StorageClass::GlacierIr).send().await.unwrap();
    let object = s3.object("a").unwrap();
    assert_eq!((&*object.storage_class, &*object.metadata["camera"]), (StoredClass::GLACIER_IR, "CAM"));
    let replace = copy.metadata_directive(MetadataDirective::Replace).metadata("event", "motion");
    replace.send().await.unwrap();
    let object = s3.object("a").unwrap();
    assert_eq!((&*object.storage_class, object.metadata.len()), (StoredClass::STANDARD, 1));
    assert_eq!((&*object.metadata["event"], &*object.bytes.unwrap()), ("motion", &b"picture"[..]));
    s3.client().copy_object().bucket("bucket").key("b c").copy_source("bucket/a").send().await.unwrap();
    s3.client().copy_object().bucket("bucket").key("d").copy_source("bucket/b%20c").send().await.unwrap();
    assert_eq!(s3.keys(), ["a", "b c", "d"]);
}

#[tokio::test]
async fn a_cold_object_is_read_only_once_restored() {
    let s3 = MemoryS3::start("bucket").await;
    s3.insert("a", "bundle");
    s3.edit("a", |object| StoredClass::GLACIER.clone_into(&mut object.storage_class));
    let client = s3.client();
    let get = client.get_object().bucket("bucket").key("a");
    assert_eq!(code(get.clone().send().await), "InvalidObjectState");
    let restore = client.restore_object().bucket("bucket").key("a");
    restore.clone().send().await.unwrap();
    assert_eq!(code(restore.send().await), "RestoreAlreadyInProgress");
    let head = client.head_object().bucket("bucket").key("a").send().await.unwrap();
    assert_eq!(head.restore(), Some("ongoing-request=\"true\""));
    assert_eq!(code(get.clone().send().await), "InvalidObjectState");
    s3.edit("a", |object| object.restore = Some("ongoing-request=\"false\"".to_owned()));
    get.send().await.unwrap();
}

/// Uploads 5 MiB and one byte in two parts; returns the call that completes them.
async fn two_parts(
    client: &Client,
    key: &str,
) -> aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder {
    let create = client.create_multipart_upload().bucket("bucket").key(key).metadata("camera", "CAM");
    let id =
        create.checksum_algorithm(ChecksumAlgorithm::Sha256).send().await.expect("created").upload_id.expect("an id");
    let mut parts = CompletedMultipartUpload::builder();
    for (number, bytes) in [(1, vec![7; 5 << 20]), (2, vec![8])] {
        let part = || client.upload_part().bucket("bucket").key(key).upload_id(&id).part_number(number);
        let wrong = part().checksum_sha256(sha256(b"other")).body(bytes.clone().into());
        assert_eq!(code(wrong.send().await), "BadDigest");
        let sum = sha256(&bytes);
        let done = part().checksum_sha256(&sum).body(bytes.into()).send().await.expect("stored");
        let done = CompletedPart::builder().part_number(number).set_e_tag(done.e_tag).checksum_sha256(sum);
        parts = parts.parts(done.build());
    }
    let complete = client.complete_multipart_upload().bucket("bucket").key(key).upload_id(id).if_none_match("*");
    complete.multipart_upload(parts.build())
}

#[tokio::test]
async fn parts_become_one_object_with_a_composite_checksum() {
    let s3 = MemoryS3::start("bucket").await;
    let client = s3.client();
    let complete = two_parts(&client, "clip").await;
    let listed = client.list_multipart_uploads().bucket("bucket").send().await.unwrap();
    let id = listed.uploads()[0].upload_id().unwrap();
    let parts = client.list_parts().bucket("bucket").key("clip").upload_id(id).send().await.unwrap();
    assert_eq!(parts.parts().iter().map(|part| part.size().unwrap()).collect::<Vec<_>>(), [5 << 20, 1]);
    assert!(s3.keys().is_empty(), "an upload under way is no object");

    let done = complete.clone().send().await.unwrap();
    let whole: Vec<u8> = [vec![7; 5 << 20], vec![8]].concat();
    let sums = [Sha256::digest(&whole[..5 << 20]), Sha256::digest(&whole[5 << 20..])].concat();
    let composite = format!("{}-2", sha256(&sums));
    assert_eq!(done.checksum_sha256(), Some(&*composite));
    let object = s3.object("clip").unwrap();
    assert_eq!(object.sha256, hex::encode(Sha256::digest(&whole)));
    assert_eq!(object.checksum.checksum_sha256, Some(composite));
    assert!(object.etag.ends_with("-2"));
    assert_eq!(object.metadata["camera"], "CAM");
    assert_eq!(code(complete.send().await), "NoSuchUpload");

    let again = two_parts(&client, "clip").await;
    assert_eq!(code(again.send().await), "PreconditionFailed");
    let (key, id) = s3.uploads().remove(0);
    client.abort_multipart_upload().bucket("bucket").key(key).upload_id(id).send().await.unwrap();
    assert!(s3.uploads().is_empty());
}

#[tokio::test]
async fn a_server_without_bytes_keeps_length_and_digest() {
    let s3 = MemoryS3::start_without_bytes("bucket").await;
    assert_eq!(put(&s3.client(), "a", b"picture").await, "OK");
    two_parts(&s3.client(), "clip").await.send().await.unwrap();
    let objects = ["a", "clip"].map(|key| s3.object(key).unwrap());
    assert!(objects.iter().all(|object| object.bytes.is_none() && object.sha256.len() == 64));
    assert_eq!(objects.map(|object| object.len), [7, (5 << 20) + 1]);
}

#[tokio::test]
async fn a_scripted_error_is_answered_instead() {
    let s3 = MemoryS3::start("bucket").await;
    let client = s3.client();
    for (status, code) in [
        (301, "PermanentRedirect"),
        (307, "TemporaryRedirect"),
        (403, "AccessDenied"),
        (500, "InternalError"),
        (503, "SlowDown"),
    ] {
        s3.fault(Fault::fail("PutObject", status, code).times(1));
        assert_eq!(put(&client, "a", b"picture").await, code);
        assert_eq!(s3.requests().last().unwrap().status, Some(status));
    }
    assert!(s3.keys().is_empty());
    s3.fault(Fault::fail("PutObject", 403, "AccessDenied").message("not today").on_key(|key| key == "b"));
    assert_eq!(put(&client, "a", b"picture").await, "OK");
    for _ in 0..2 {
        let refused = client.put_object().bucket("bucket").key("b").send().await.unwrap_err().into_service_error();
        assert_eq!(refused.message(), Some("not today"));
    }
    s3.clear_faults();
    assert_eq!(put(&client, "b", b"picture").await, "OK");
    let complete = two_parts(&client, "clip").await;
    s3.fault(Fault::fail("CompleteMultipartUpload", 200, "InternalError").times(1));
    assert_eq!(code(complete.send().await), "InternalError");
    assert!(s3.object("clip").is_none());
}

#[tokio::test]
async fn a_connection_is_reset_before_in_the_middle_or_after() {
    let s3 = MemoryS3::start("bucket").await;
    let client = s3.client();
    s3.fault(Fault::reset("PutObject").times(1));
    assert_eq!(put(&client, "a", b"picture").await, "dispatch");
    assert_eq!((s3.requests()[0].status, s3.requests()[0].bytes), (None, 0));

    s3.fault(Fault::cut_body("PutObject", 1 << 20).times(1));
    let large = client.put_object().bucket("bucket").key("a").body(vec![0; 8 << 20].into());
    assert_eq!(code(large.send().await), "dispatch");
    let cut = s3.requests()[1].bytes;
    assert!((1 << 20..8 << 20).contains(&cut), "cut after {cut}");
    assert!(s3.keys().is_empty());

    s3.fault(Fault::lose_reply("PutObject").times(1));
    assert_eq!(put(&client, "a", b"picture").await, "dispatch");
    assert_eq!(s3.requests()[2].status, None);
    assert_eq!(s3.object("a").unwrap().bytes.unwrap(), "picture");
    assert_eq!(put(&client, "a", b"picture").await, "PreconditionFailed", "the retry meets its own success");
}

#[tokio::test]
async fn a_request_is_delayed_or_hangs_until_cleared() {
    let s3 = MemoryS3::start("bucket").await;
    let client = s3.client();
    s3.fault(Fault::delay("PutObject", Duration::from_millis(200)).times(1));
    assert_eq!(put(&client, "a", b"picture").await, "OK");
    let request = &s3.requests()[0];
    assert!(request.answered.unwrap() - request.received >= Duration::from_millis(200));

    s3.fault(Fault::hang("*").times(1));
    let hanging = tokio::spawn(async move { put(&client, "b", b"picture").await });
    s3.wait_for(|state| state.count("PutObject") == 2, SOON).await;
    assert_eq!(put(&s3.client(), "c", b"picture").await, "OK", "others go on");
    assert!(!hanging.is_finished());
    s3.clear_faults();
    assert_eq!(hanging.await.unwrap(), "OK");
    assert_eq!(s3.keys(), ["a", "b", "c"]);
}

#[tokio::test]
async fn an_outage_refuses_and_resets_and_ends_on_the_same_port() {
    let s3 = MemoryS3::start("bucket").await;
    let (client, endpoint) = (s3.client(), s3.endpoint());
    s3.fault(Fault::hang("PutObject").times(1));
    let hanging = tokio::spawn(async move { put(&client, "a", b"picture").await });
    s3.wait_for(|state| state.requests().len() == 1, SOON).await;
    s3.refuse().await;
    assert_eq!(hanging.await.unwrap(), "dispatch");
    let refused = tokio::net::TcpStream::connect(endpoint.trim_start_matches("http://")).await;
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    s3.accept().await;
    assert_eq!(s3.endpoint(), endpoint);
    assert_eq!(put(&s3.client(), "a", b"picture").await, "OK");
    drop(s3);
}

/// Key, version and whether it is an object, of a page of versions; in the order of S3, but for what the SDK takes apart.
async fn versions(client: &Client, page: i32) -> Vec<(String, String, bool)> {
    let (mut found, mut key, mut id) = (Vec::new(), None, None);
    loop {
        let list = client.list_object_versions().bucket("bucket").prefix("a").max_keys(page);
        let page = list.set_key_marker(key).set_version_id_marker(id).send().await.unwrap();
        let text = |text: Option<&str>| text.unwrap().to_owned();
        found.extend(page.versions().iter().map(|version| (text(version.key()), text(version.version_id()), true)));
        let markers = page.delete_markers().iter();
        found.extend(markers.map(|marker| (text(marker.key()), text(marker.version_id()), false)));
        if page.is_truncated() != Some(true) {
            return found;
        }
        (key, id) = (page.next_key_marker, page.next_version_id_marker);
    }
}

#[tokio::test]
async fn a_bucket_that_keeps_versions_loses_only_what_is_deleted_by_version() {
    let s3 = MemoryS3::start("bucket").await;
    let client = s3.client();
    s3.insert("a", "before");
    s3.keep_versions(Versions::Kept);
    let body = |text: &'static str| ByteStream::from_static(text.as_bytes());
    let put = |text| client.put_object().bucket("bucket").key("a").body(body(text));
    assert_eq!(code(put("if free").if_none_match("*").send().await), "PreconditionFailed");
    let second = put("over").send().await.unwrap().version_id.unwrap();
    let hidden = client.delete_object().bucket("bucket").key("a").send().await.unwrap();
    assert_eq!(hidden.delete_marker(), Some(true));
    let marker = hidden.version_id.unwrap();
    assert_eq!(code(client.get_object().bucket("bucket").key("a").send().await), "NoSuchKey");
    put("after the marker").if_none_match("*").send().await.unwrap();
    client.delete_object().bucket("bucket").key("ab").send().await.unwrap();

    let whole = versions(&client, 1000).await;
    assert_eq!(whole.len(), 5, "{whole:?}");
    for page in 1..5 {
        let mut paged = versions(&client, page).await;
        paged.sort();
        let mut whole = whole.clone();
        whole.sort();
        assert_eq!(paged, whole, "pages of {page}");
    }
    for (version, text) in [("null", "before"), (&second, "over")] {
        let get = client.get_object().bucket("bucket").key("a").version_id(version).send().await.unwrap();
        assert_eq!(get.body.collect().await.unwrap().to_vec(), text.as_bytes());
        let copy = client.copy_object().bucket("bucket").key(format!("copy of {version}"));
        copy.copy_source(format!("bucket/a?versionId={version}")).send().await.unwrap();
        assert_eq!(s3.object(&format!("copy of {version}")).unwrap().bytes.unwrap(), text);
    }
    let get = client.get_object().bucket("bucket").key("a").version_id(&marker);
    assert_eq!(status(get.send().await), Some(405));
    let missing = client.get_object().bucket("bucket").key("a").version_id("version-999");
    assert_eq!(code(missing.send().await), "NoSuchVersion");

    // Without its newest version and without the marker, the one under them is in front.
    let newest = s3.object("a").unwrap().version_id;
    for version in [newest, marker] {
        client.delete_object().bucket("bucket").key("a").version_id(version).send().await.unwrap();
    }
    assert_eq!(s3.object("a").unwrap().bytes.unwrap(), "over");
    let markers = ObjectIdentifier::builder().key("ab").version_id(versions(&client, 1000).await.pop().unwrap().1);
    let delete = Delete::builder().objects(markers.build().unwrap()).build().unwrap();
    client.delete_objects().bucket("bucket").delete(delete).send().await.unwrap();
    s3.look(|state| assert_eq!(state.older().keys().collect::<Vec<_>>(), ["a"]));
}

#[tokio::test]
async fn in_the_templates_bucket_the_owner_may_do_what_the_box_may_not() {
    let s3 = MemoryS3::start("bucket").await;
    s3.insert("a", "picture");
    s3.deny_overwriting();
    for (client, may) in [(s3.client(), false), (s3.client_signing_with(OWNERS_ACCESS_KEY, SECRET_KEY), true)] {
        let expected = if may { "OK" } else { "AccessDenied" };
        assert_eq!(code(client.list_object_versions().bucket("bucket").send().await), expected);
        assert_eq!(code(client.get_object().bucket("bucket").key("a").version_id("null").send().await), expected);
        let copy = client.copy_object().bucket("bucket").key("b").copy_source("bucket/a");
        assert_eq!(code(copy.send().await), expected);
        assert_eq!(code(client.delete_object().bucket("bucket").key("a").version_id("null").send().await), expected);
    }
    assert_eq!(s3.keys(), ["b"]);
}
