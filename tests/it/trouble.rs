//! What keeps captures from being stored: the link, the bucket, the credentials. Every file is kept, it is said once
//! what to do, and work goes on by itself.

use std::time::Duration;

use futures_util::future::join_all;
use hk_aws::bucket::Credentials;
use hk_aws::status::DaemonState;

use crate::support::s3::{ACCESS_KEY, Fault};
use crate::support::site::{DEADLINE, Settings, Site, files, key, picture, sha256};

const NONE: Settings = Settings { drop: "", s3: "", rest: "" };

/// Drops a picture into a site in trouble, and looks that it is kept and what is said.
async fn is_kept_and_said(site: &Site, advice: &str) {
    let path = site.write(format!("CAM/{}", picture(1)), b"evidence");
    let status =
        site.wait_for_status("the trouble", |status| status.trouble.is_some() && !status.last_errors.is_empty()).await;
    let trouble = status.trouble.clone().unwrap();
    assert!(format!("{} {}", trouble.reason, trouble.advice).contains(advice), "{trouble:?}");
    assert_eq!(status.state, DaemonState::Degraded);
    assert!(status.line().starts_with("NOT STORING since"), "{}", status.line());
    assert_eq!(status.last_errors.len(), 1, "said once: {:?}", status.last_errors);
    assert_eq!(std::fs::read(path).unwrap(), b"evidence");
    assert!(site.s3.keys().is_empty());
}

async fn recovers(site: &Site) {
    site.wait_for_keys(&[&key("CAM", 1)]).await;
    assert_eq!(site.s3.object(&key("CAM", 1)).unwrap().sha256, sha256(b"evidence"));
    site.wait_for_status("the end of the trouble", |status| {
        status.state == DaemonState::Ok && status.trouble.is_none()
    })
    .await;
    site.wait_until_empty().await;
}

#[tokio::test]
async fn an_endpoint_that_is_down_at_the_start_is_no_failed_start() {
    let mut site = Site::new(NONE).await;
    site.s3.refuse().await;
    site.start_in_trouble().await;
    is_kept_and_said(&site, "refused").await;
    site.s3.accept().await;
    recovers(&site).await;
}

#[tokio::test]
async fn refusals_that_a_human_must_mend_name_the_mend() {
    let cases = [
        (403, "AccessDenied", "", "s3:PutObject"),
        (
            403,
            "AccessDenied",
            "User: arn:aws:iam::1:user/box is not authorized to perform: s3:PutObjectTagging on",
            "allow s3:PutObjectTagging",
        ),
        (
            403,
            "AccessDenied",
            "User: x is not authorized to perform: kms:GenerateDataKey on resource: y",
            "kms:GenerateDataKey on the key",
        ),
        (403, "InvalidAccessKeyId", "", "renew the AWS key"),
        (403, "RequestTimeTooSkewed", "", "clock"),
        (400, "ExpiredToken", "", "renew the AWS key"),
        (301, "PermanentRedirect", "", "s3.region to eu-central-1"),
        (400, "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong", "s3.region"),
        (404, "NoSuchBucket", "", "s3.bucket"),
        (400, "KMS.DisabledException", "", "kms:GenerateDataKey"),
        (
            400,
            "InvalidRequest",
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters",
            "s3.checksum",
        ),
        (400, "SomethingNobodyKnows", "", "s3 section"),
    ];
    join_all(cases.map(async |(status, code, message, advice)| {
        let site = Site::started(NONE).await;
        // Once could be chance: it is said when a probe meets it again.
        site.s3.fault(Fault::fail("PutObject", status, code).message(message).times(2));
        is_kept_and_said(&site, advice).await;
        recovers(&site).await;
    }))
    .await;
}

#[tokio::test]
async fn a_wrong_secret_is_the_operators() {
    let mut site = Site::new(NONE).await;
    site.start_with(Credentials::new(ACCESS_KEY, "wrong", None, None, "test")).await;
    is_kept_and_said(&site, "secret key").await;
    site.stop().await;
    site.start().await;
    recovers(&site).await;
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_the_operators() {
    let site = Site::started(Settings { s3: "prefix: x", ..NONE }).await;
    site.s3.fault(Fault::fail("*", 404, "NoSuchBucket"));
    is_kept_and_said(&site, "create the bucket").await;
}

#[tokio::test]
async fn what_passes_by_itself_is_tried_again() {
    let faults = [
        Fault::fail("PutObject", 500, "InternalError"),
        Fault::fail("PutObject", 503, "SlowDown"),
        Fault::fail("PutObject", 409, "ConditionalRequestConflict"),
        Fault::fail("PutObject", 400, "RequestTimeout"),
        Fault::reset("PutObject"),
        Fault::cut_body("PutObject", 3),
        Fault::lose_reply("PutObject"),
    ];
    join_all(faults.map(async |fault| {
        let site = Site::started(NONE).await;
        site.s3.fault(fault.times(2));
        site.write(format!("CAM/{}", picture(1)), b"evidence");
        recovers(&site).await;
    }))
    .await;
}

#[tokio::test]
async fn a_part_that_fails_is_sent_again_without_the_others() {
    let site = Site::started(NONE).await;
    site.s3.fault(Fault::reset("UploadPart").times(2));
    site.write("CAM/192.168.1.64_01_20260224120000000_1.mp4", &vec![7; 17 << 20]);
    site.wait_until_empty().await;
    assert_eq!(site.s3.count("CreateMultipartUpload"), 1);
    assert_eq!(site.s3.count("UploadPart"), 3 + 2);
}

#[tokio::test]
async fn during_an_outage_there_is_one_probe_at_a_time_and_the_backlog_drains_after_it() {
    let site = Site::started(NONE).await;
    site.s3.fault(Fault::fail("PutObject", 503, "SlowDown"));
    for number in 0..50 {
        site.write(format!("CAM/{}", picture(number)), &number.to_be_bytes());
    }
    site.s3.wait_for(|state| state.count("PutObject") >= 12, DEADLINE).await;
    let asked = site.s3.requests();
    // The first eight were under way together; after them, one at a time with a pause before each.
    let probes = &asked[8..];
    for pair in probes.windows(2) {
        assert!(pair[1].received - pair[0].received > Duration::from_millis(400), "a storm");
    }
    assert_eq!(files(&site.drop_path("")).len(), 50);
    site.s3.clear_faults();
    site.s3.wait_for(|state| state.objects().len() == 50, DEADLINE).await;
    site.wait_until_empty().await;
}

#[tokio::test]
async fn one_file_that_always_fails_blocks_no_other_and_shows_its_reason() {
    let site = Site::started(NONE).await;
    site.s3.fault(Fault::fail("PutObject", 500, "InternalError").on_key(|key| key.starts_with("POISON")));
    site.write(format!("POISON/{}", picture(1)), b"poison");
    for number in 0..30 {
        site.write(format!("CAM/{}", picture(number)), &number.to_be_bytes());
    }
    site.s3.wait_for(|state| state.objects().len() == 30, DEADLINE).await;
    let status = site
        .wait_for_status("the poison alone", |status| status.files.len() == 1 && status.state == DaemonState::Ok)
        .await;
    assert!(status.files[0].path.starts_with("POISON") && status.files[0].reason.as_ref().unwrap().contains("500"));
}

#[tokio::test]
async fn a_key_that_s3_will_never_take_is_set_aside_with_its_bytes() {
    let site = Site::started(NONE).await;
    site.s3.fault(Fault::fail("PutObject", 400, "KeyTooLongError").times(1));
    site.write(format!("CAM/{}", picture(1)), b"evidence");
    site.wait_for_status("one set aside", |status| status.waiting.set_aside == 1).await;
    assert_eq!(std::fs::read(site.path(format!("state/set-aside/CAM/{}", picture(1)))).unwrap(), b"evidence");
}

#[tokio::test]
async fn a_state_disk_that_cannot_be_written_keeps_no_capture_from_the_bucket() {
    let mut site = Site::new(NONE).await;
    // A file where the ledger's folder should be: no right, not even root's, makes it one.
    std::fs::create_dir(site.path("state")).unwrap();
    std::fs::write(site.path("state/ledger"), b"in the way").unwrap();
    site.start().await;
    let path = site.write(format!("CAM/{}", picture(1)), b"evidence");
    site.wait_for_keys(&[&key("CAM", 1)]).await;
    let status =
        site.wait_for_status("the reason", |status| status.files.iter().any(|file| file.reason.is_some())).await;
    assert!(status.files[0].reason.as_ref().unwrap().starts_with("stored; failed to write ledger"), "{status:?}");
    assert!(path.exists());
}
