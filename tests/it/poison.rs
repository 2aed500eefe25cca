//! Files that always fail for a reason of their own: they back off by themselves, are named with their reason, and keep no
//! other file waiting, also where nothing else is left to compare them with.
#![expect(clippy::disallowed_methods, reason = "tests measure real time")]

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hk_aws::bucket::Credentials;
use hk_aws::clock::Now;
use hk_aws::daemon;
use hk_aws::ingest::{Ingest, Report};
use hk_aws::site;
use hk_aws::status::DaemonState;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::answers::Log;
use crate::support::s3::{ACCESS_KEY, Fault, SECRET_KEY};
use crate::support::site::{DEADLINE, Settings, Site, files, key, picture, sha256};

const NONE: Settings = Settings { drop: "", s3: "", rest: "" };

/// Twice what a capture may take, because the machine may be busy; without a turn of its own it would wait for 5 s or 10 s.
const AT_ONCE: Duration = Duration::from_secs(4);

fn poisoned(status: u16, code: &'static str) -> Fault {
    Fault::fail("*", status, code).on_key(|key| key.starts_with("POISON"))
}

#[tokio::test]
async fn i7_a_capture_just_taken_does_not_wait_behind_poison_that_is_all_there_is() {
    let cases =
        [(1, 500, "InternalError"), (1, 400, "InvalidArgument"), (5, 403, "AccessDenied"), (12, 503, "SlowDown")];
    let slowest = join_all(cases.map(async |(poison, status, code)| {
        let site = Site::started(NONE).await;
        site.s3.fault(poisoned(status, code));
        for number in 0..poison {
            site.write(format!("POISON/{}", picture(number)), &number.to_be_bytes());
        }
        // Only now is the next turn of what waits seconds away.
        site.s3.wait_for(|state| state.count("PutObject") >= usize::try_from(poison).unwrap() + 3, DEADLINE).await;
        let mut slowest = Duration::ZERO;
        for number in 0..6 {
            let begin = Instant::now();
            site.write(format!("FRESH/{}", picture(number)), b"fresh");
            site.s3.wait_for(|state| state.object(&key("FRESH", number)).is_some(), DEADLINE).await;
            slowest = slowest.max(begin.elapsed());
        }
        let status = site.wait_for_status("the poison alone", |status| {
            status.state == DaemonState::Ok && status.files.len() == usize::try_from(poison).unwrap()
        });
        assert!(status.await.files.iter().all(|file| file.reason.as_ref().is_some_and(|why| why.contains(code))));
        site.s3.clear_faults();
        site.wait_until_empty().await;
        assert_eq!(site.s3.keys().len(), usize::try_from(poison).unwrap() + 6, "{code}: stored without a restart");
        slowest
    }))
    .await;
    assert!(slowest.iter().all(|slowest| *slowest < AT_ONCE), "{slowest:?}");
}

#[tokio::test]
async fn i7_many_poisoned_files_neither_hold_up_a_flood_nor_fill_the_log() {
    let (log, _guard) = Log::start();
    let site = Site::started(NONE).await;
    site.s3.fault(poisoned(400, "InvalidArgument"));
    for number in 0..20 {
        site.write(format!("POISON/{}", picture(number)), &number.to_be_bytes());
        for part in 0..10 {
            site.write(format!("CAM-{part}/{}", picture(number)), &[number.to_be_bytes(), [part; 4]].concat());
        }
    }
    site.s3.wait_for(|state| state.objects().len() == 200, DEADLINE).await;
    site.write(format!("FRESH/{}", picture(1)), b"fresh");
    site.s3.wait_for(|state| state.object(&key("FRESH", 1)).is_some(), DEADLINE).await;
    let before = site.s3.count("PutObject");
    // Each has had its second and third turn by then.
    site.s3.wait_for(|state| state.count("PutObject") >= before + 40, DEADLINE).await;
    let lines = log.lines();
    let of_one = |number| lines.iter().filter(|line| line.contains(&format!("POISON/{}", picture(number)))).count();
    assert!((0..20).all(|number| of_one(number) <= 2), "{lines:#?}");
    let of_the_link =
        lines.iter().filter(|line| line.contains("can be stored") || line.contains("stores again")).count();
    assert!(of_the_link <= 4, "{lines:#?}");
    assert_eq!(files(&site.drop_path("")).len(), 20);
}

#[tokio::test]
async fn in_an_outage_what_needs_no_bucket_neither_waits_for_a_probe_nor_takes_one() {
    let site = Site::started(NONE).await;
    site.s3.fault(Fault::fail("PutObject", 403, "AccessDenied"));
    site.write(format!("CAM/{}", picture(1)), b"evidence");
    site.s3.wait_for(|state| state.count("PutObject") >= 4, DEADLINE).await;
    // The next probe is 4 s away at least.
    let begin = Instant::now();
    for number in 2..50 {
        site.write(format!("CAM/{}", picture(number)), b"");
    }
    let mut growing = OpenOptions::new().create_new(true).write(true).open(site.drop_path("CAM/growing.jpg")).unwrap();
    growing.write_all(b"half").unwrap();
    site.wait_for_status("all the empty ones told apart", |status| {
        status.files.iter().filter(|file| file.reason.as_deref() == Some("empty")).count() == 48
    })
    .await;
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    let asked = site.s3.count("PutObject");
    site.s3.wait_for(|state| state.count("PutObject") > asked, DEADLINE).await;
    site.s3.clear_faults();
    let begin = Instant::now();
    site.write(format!("FRESH/{}", picture(1)), b"fresh");
    site.wait_for_keys(&[&key("CAM", 1), &key("FRESH", 1)]).await;
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
}

/// The task of the loop, in which the clock is sound.
static LOOP: OnceLock<tokio::task::Id> = OnceLock::new();
static SOUND: AtomicBool = AtomicBool::new(true);

/// A clock that panics once, in an upload.
fn unsound_clock() -> Now {
    let in_upload = LOOP.get().zip(tokio::task::try_id()).is_some_and(|(of_loop, here)| *of_loop != here);
    assert!(!in_upload || SOUND.swap(true, Ordering::Relaxed), "the clock broke");
    daemon::now()
}

#[tokio::test]
async fn i3_a_file_whose_upload_panics_is_set_aside_and_the_others_go_on() {
    let site = Site::new(NONE).await;
    let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test");
    let context = site::Site::new(
        Arc::new(site.config()),
        Some(credentials),
        hk_aws::bucket::Pace::new(unsound_clock),
        unsound_clock,
    )
    .await;
    let context = Arc::new(context);
    let ingest = Ingest::new(Arc::clone(&context));
    let (_commands, received) = mpsc::channel(1);
    let (snapshot, mut snapshots) = watch::channel(ingest.snapshot());
    let stop = CancellationToken::new();
    let report = Report { snapshot, beat: Box::new(|_| {}), site: watch::Sender::new(site::SiteInForce::new(context)) };
    let running = tokio::spawn(ingest.run(received, report, stop.clone(), DEADLINE));
    LOOP.set(running.id()).unwrap();
    SOUND.store(false, Ordering::Relaxed);
    let path = site.write(format!("CAM/{}", picture(1)), b"evidence");
    let told = snapshots.wait_for(|status| status.waiting.set_aside == 1);
    let status = tokio::time::timeout(DEADLINE, told).await.unwrap().unwrap().clone();
    assert!(status.not_uploaded[0].reason.as_ref().unwrap().contains("panicked"), "{status:?}");
    assert!(!path.exists());
    let aside = files(&site.path("state/set-aside"));
    assert_eq!(sha256(&std::fs::read(&aside[0]).unwrap()), sha256(b"evidence"));
    site.write(format!("CAM/{}", picture(2)), b"more");
    site.wait_for_keys(&[&key("CAM", 2)]).await;
    stop.cancel();
    running.await.unwrap();
}
