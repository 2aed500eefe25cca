//! What is wrong is never called `ok`, by a daemon that runs.

use std::cell::Cell;

use hk_aws::persist::{self, Purpose};
use hk_aws::schedule::{self, FILE, JobRecord, JobRecords, ROTATE, RunEnd};
use hk_aws::status::{ConditionKind, DaemonState, Snapshot};

use crate::support::s3::Fault;
use crate::support::site::{Settings, Site, key, picture};

fn kinds(status: &Snapshot) -> Vec<ConditionKind> {
    status.conditions.iter().map(|condition| condition.kind).collect()
}

#[tokio::test]
async fn the_bucket_is_asked_at_the_start_and_until_it_has_answered_nothing_is_ok() {
    let mut site = Site::new(Settings::default()).await;
    site.s3.refuse().await;
    site.start_in_trouble().await;
    let status = site.wait_for_status("the trouble", |status| status.state != DaemonState::Starting).await;
    assert_eq!((kinds(&status), status.state), (vec![ConditionKind::BucketUnreachable], DaemonState::Degraded));
    assert_eq!(status.conditions[0].sentence, "no connection to S3");
    site.s3.accept().await;
    let status = site.wait_for_status("the answer", |status| status.state == DaemonState::Ok).await;
    assert_eq!((kinds(&status), status.stored.captures), (vec![], 0), "no capture had to show it");
    // A bucket that refuses is told before a picture has to wait for it.
    site.stop().await;
    site.s3.fault(Fault::fail("PutObject", 404, "NoSuchBucket").on_key(|_| true));
    site.start_in_trouble().await;
    let status = site.wait_for_status("the trouble", |status| !status.conditions.is_empty()).await;
    assert_eq!(status.conditions[0].sentence, "the bucket does not exist");
}

#[tokio::test]
async fn a_rotation_that_failed_is_not_ok() {
    let mut site = Site::new(Settings::default()).await;
    let at = "2026-11-28T00:00:00Z".parse().ok();
    let record = JobRecord {
        since: at,
        last_begun_at: at,
        last_ended_at: at,
        outcome: Some("failed: the bucket refused to list".to_owned()),
        end: Some(RunEnd::NeedsOperator),
        ..JobRecord::default()
    };
    std::fs::create_dir(site.path("state")).unwrap();
    schedule::write(&site.path("state").join(FILE), &JobRecords::from([(ROTATE.to_owned(), record)])).unwrap();
    site.s3.fault(Fault::fail("ListObjectsV2", 403, "AccessDenied"));
    site.start().await;
    let status = site.wait_for_status("the failure", |status| kinds(status) == [ConditionKind::RotationFailed]).await;
    assert_eq!(status.state, DaemonState::Degraded);
    assert!(status.line().contains("rotate failed"), "{}", status.line());
}

#[tokio::test]
async fn a_file_that_was_set_aside_is_not_ok_until_it_is_sent_or_gone() {
    let site = Site::started(Settings { drop: "partial_after: 0s", ..Settings::default() }).await;
    site.write(format!("CAM/{}", picture(1)), b"");
    let status = site.wait_for_status("the file", |status| kinds(status) == [ConditionKind::SetAside]).await;
    assert_eq!(status.state, DaemonState::Degraded);
    assert!(status.conditions[0].advice.contains("upload --set-aside"), "{status:?}");
}

#[tokio::test]
async fn a_daemon_that_ended_without_being_told_to_says_so_after_the_next_start() {
    let mut site = Site::started(Settings::default()).await;
    let last = site.wait_for_status("a status", |status| status.state == DaemonState::Ok).await;
    site.stop().await;
    // As a kill leaves it.
    persist::write(&site.path("run/status.json"), &last, Purpose::Report).unwrap();
    site.start_keeping_status().await;
    let status =
        site.wait_for_status("the word of it", |status| status.pid != 0 && status.crashed_after.is_some()).await;
    assert_eq!(kinds(&status).last(), Some(&ConditionKind::Restarted));
    let status = site.wait_for_status("its state", |status| status.state == DaemonState::Ok).await;
    assert_eq!(status.trouble, None, "it works");
    site.stop().await;
    site.start_keeping_status().await;
    let status = site.wait_for_status("the start", |status| status.state == DaemonState::Ok).await;
    assert_eq!(status.crashed_after, None, "it was told to stop");
}

#[tokio::test]
async fn a_status_without_news_is_not_written_each_second_but_stays_fresh() {
    let site = Site::started(Settings::default()).await;
    let last = Cell::new(site.wait_for_status("a status", |status| status.state == DaemonState::Ok).await.at);
    let apart = || {
        let at = Snapshot::read(&site.path("run")).ok()?.at;
        let apart = (at - last.replace(at)).num_seconds();
        (apart >= 5).then_some(apart)
    };
    let apart = site.wait("a status that was written five seconds after the one before", apart).await;
    assert!(apart < 60, "{apart} s: `hk-aws status` would take the daemon for dead");
}

#[tokio::test]
async fn a_capture_that_is_only_here_for_too_long_is_told() {
    let rest = "alerts: {exposure: 1s}";
    let site = Site::started(Settings { rest, ..Settings::default() }).await;
    site.s3.fault(Fault::fail("PutObject", 503, "SlowDown").on_key(|key| key.ends_with(".jpg")));
    site.write(format!("CAM/{}", picture(1)), b"evidence");
    site.wait_for_status("the exposure", |status| kinds(status).contains(&ConditionKind::Exposure)).await;
    site.s3.clear_faults();
    site.wait_for_keys(&[&key("CAM", 1)]).await;
    site.wait_for_status("the end", |status| status.state == DaemonState::Ok).await;
}
