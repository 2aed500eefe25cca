//! What S3, or something in its place, answers: every file is kept, one probe at a time, one line in the log, and work goes
//! on by itself with the right bytes and nothing left behind.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::support::s3::{Fault, MemoryS3};
use crate::support::site::{DATE, DEADLINE, Settings, Site, bytes, files, key, picture, sha256};

const NONE: Settings = Settings { drop: "", s3: "", rest: "" };

/// An answer that is no success, and what must be said of it.
struct Answer {
    fault: fn(&'static str) -> Fault,
    said: &'static str,
}

const PAGE: &str = "<!DOCTYPE html><html><head><title>Welcome<br></head><body>Please log in & pay";
const HTML: &[(&str, &str)] = &[("content-type", "text/html; charset=utf-8")];
const SOMEBODY_ELSE: &str = "answers in its place";

const ANSWERS: &[Answer] = &[
    Answer { fault: |of| Fault::fail(of, 500, "InternalError"), said: "InternalError" },
    Answer { fault: |of| Fault::fail(of, 503, "SlowDown"), said: "SlowDown" },
    Answer { fault: |of| Fault::fail(of, 503, "ServiceUnavailable"), said: "ServiceUnavailable" },
    Answer { fault: |of| Fault::fail(of, 400, "RequestTimeout"), said: "RequestTimeout" },
    Answer { fault: |of| Fault::fail(of, 409, "ConditionalRequestConflict"), said: "ConditionalRequestConflict" },
    Answer { fault: |of| Fault::fail(of, 200, "InternalError"), said: "failed to" },
    Answer { fault: |of| Fault::fail(of, 403, "RequestTimeTooSkewed"), said: "clock" },
    Answer { fault: |of| Fault::fail(of, 400, "ExpiredToken"), said: "renew the AWS key" },
    Answer { fault: |of| Fault::fail(of, 411, "MissingContentLength"), said: "s3 section" },
    // An SDK that followed would find nobody there, and say that.
    Answer {
        fault: |of| Fault::answer(of, 307, &[("location", "http://127.0.0.1:1/elsewhere")], REDIRECT),
        said: "s3.region",
    },
    Answer { fault: |of| Fault::answer(of, 500, &[], "<Error><Code>Intern"), said: "HTTP 500" },
    Answer { fault: |of| Fault::answer(of, 502, HTML, PAGE), said: SOMEBODY_ELSE },
    Answer { fault: |of| Fault::answer(of, 302, &[("location", "http://127.0.0.1:1/login")], ""), said: SOMEBODY_ELSE },
    Answer { fault: |of| Fault::answer(of, 200, HTML, PAGE), said: "failed to" },
    Answer { fault: |of| Fault::answer(of, 200, HTML, "<html></html>"), said: "failed to" },
    Answer { fault: |of| Fault::answer(of, 200, &[], ""), said: "failed to" },
    Answer { fault: |of| Fault::answer(of, 204, &[("etag", "")], ""), said: "failed to" },
];

const REDIRECT: &str = "<Error><Code>TemporaryRedirect</Code><Message>Please re-send</Message></Error>";

/// What is logged on this thread, from `info` on.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub(crate) fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("hk_aws=info"))
            .with_ansi(false)
            .with_writer(move || writer.clone());
        (log, tracing::subscriber::set_default(subscriber.finish()))
    }

    /// The lines that are neither about one stored capture nor about the start.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let unusual = |line: &&str| {
            ![" stored CAM", " stored FRESH", " stored before", "watching "].iter().any(|word| line.contains(word))
        };
        text.lines().filter(unusual).map(str::to_owned).collect()
    }
}

/// Runs each case on a thread of its own, a few at a time: most of them wait.
fn run_all<T: Sync>(cases: &[T], run: impl Fn(&T) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    run(case);
                }
            });
        }
    });
}

fn on_one_thread(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// Drops files while `operation` is answered so, and goes on when it is not any more.
async fn is_survived(answer: &Answer, operation: &'static str) {
    let (log, _guard) = Log::start();
    let mut site = Site::with(MemoryS3::start_without_bytes("evidence").await, NONE);
    site.start().await;
    site.s3.fault((answer.fault)(operation));
    let mut stored = Vec::new();
    if operation == "PutObject" {
        for number in 0..12 {
            let content = bytes(number.into(), 1000);
            site.write(format!("CAM/{}", picture(number)), &content);
            stored.push((key("CAM", number), sha256(&content)));
        }
    } else {
        let content = bytes(1, 17 << 20);
        site.write(format!("CAM/{CLIP}"), &content);
        stored.push((format!("CAM/{DATE}/{CLIP}"), sha256(&content)));
    }
    let trouble = site.wait_for_status("the trouble", |status| status.trouble.is_some()).await.trouble.unwrap();
    let what = format!("{operation} answered {}, {trouble:?}", answer.said);
    assert!(format!("{} {}", trouble.reason, trouble.advice).contains(answer.said), "{what}");
    if operation == "PutObject" {
        let asked = site.s3.count(operation);
        site.s3.wait_for(|state| state.count(operation) > asked, DEADLINE).await;
    }
    assert_eq!(files(&site.drop_path("")).len(), stored.len(), "{what}: every file is kept");
    assert!(site.s3.keys().is_empty(), "{what}");
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{what}: said once: {lines:#?}");
    assert!(lines[0].contains(answer.said) && lines[0].contains("s3://evidence"), "{what}: {lines:#?}");
    // The SDK sends a part again by itself.
    if operation != "UploadPart" {
        let of_this: Vec<_> = site.s3.requests().into_iter().filter(|request| request.operation == operation).collect();
        let probes = &of_this[stored.len().min(8)..];
        assert!(
            probes.windows(2).all(|pair| pair[1].received - pair[0].received > Duration::from_millis(400)),
            "{what}"
        );
    }

    site.s3.clear_faults();
    // A capture that comes now is tried at once, and takes the others with it.
    site.write(format!("FRESH/{}", picture(99)), b"fresh");
    site.wait_until_empty().await;
    stored.push((key("FRESH", 99), sha256(b"fresh")));
    for (key, hash) in &stored {
        assert_eq!(&site.s3.object(key).unwrap().sha256, hash, "{what}");
    }
    assert_eq!(site.s3.keys().len(), stored.len(), "{what}: nothing twice");
    assert_eq!(site.ledger("CAM").len() + 1, stored.len(), "{what}");
    assert!(site.s3.uploads().is_empty(), "{what}: parts are left behind");
    site.wait_for_status("the end of the trouble", |status| status.trouble.is_none()).await;
    assert_eq!(log.lines().len(), 2, "{what}: {:#?}", log.lines());
    site.stop().await;
}

const CLIP: &str = "192.168.1.64_01_20260224120000000_1.mp4";

#[test]
fn i1_no_answer_but_the_stores_own_success_counts_for_a_picture() {
    run_all(ANSWERS, |answer| on_one_thread(is_survived(answer, "PutObject")));
}

#[test]
fn i1_no_answer_but_the_stores_own_success_counts_for_a_clip() {
    // At one step each: all of them share what judges an answer. The last ones are the strangest.
    let operations = ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"].into_iter().cycle();
    let failed_in_body =
        ANSWERS.iter().find(|answer| answer.said == "failed to").map(|it| (it, "CompleteMultipartUpload"));
    let cases = ANSWERS.iter().rev().take(6).zip(operations).chain(failed_in_body);
    run_all(&cases.collect::<Vec<_>>(), |(answer, operation)| on_one_thread(is_survived(answer, operation)));
}

#[tokio::test]
async fn i2_a_success_that_names_other_bytes_is_looked_at_again() {
    let site = Site::started(NONE).await;
    let wrong = &[("etag", "\"0\""), ("x-amz-checksum-sha256", "AAAA")];
    site.s3.fault(Fault::answer("PutObject", 200, wrong, "").times(1));
    site.write(format!("CAM/{}", picture(1)), b"evidence");
    site.wait_until_empty().await;
    assert_eq!(site.s3.object(&key("CAM", 1)).unwrap().sha256, sha256(b"evidence"));
    assert_eq!(site.s3.count("PutObject"), 2);
}

#[tokio::test]
async fn i8_one_refusal_that_is_not_repeated_costs_a_moment_and_no_line() {
    let (log, _guard) = Log::start();
    let site = Site::started(NONE).await;
    site.s3.fault(Fault::fail("PutObject", 503, "SlowDown").times(1));
    site.write(format!("CAM/{}", picture(1)), b"evidence");
    site.wait_until_empty().await;
    assert_eq!(log.lines(), Vec::<String>::new());
}
