//! The line to the store is dead or ill: every file stays, one upload at a time finds out whether it is back, the log
//! says it once, and when it is back all goes up at full speed, the newest first.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hk_aws::status::DaemonState;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::line::{Line, Weather};
use crate::support::s3::Fault;
use crate::support::site::{DEADLINE, Settings, Site, bytes, files, key, picture, sha256};

const PICTURES: u32 = 24;
const PICTURE_BYTES: usize = 20_000;
/// The clip is a multipart upload of three parts.
const CLIP: &str = "192.168.1.64_01_20260224130000000_1.mp4";
const CLIP_BYTES: usize = 17 << 20;

/// Long enough for the pauses between probes to have grown to what they are in a long outage.
const OUTAGE: Duration = Duration::from_secs(12);

/// What the library logs on this thread, on which the runtime of such a test does all but read files.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn listen(&self) -> DefaultGuard {
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(self.clone());
        tracing::subscriber::set_default(subscriber.finish())
    }

    /// The lines of trouble: warnings and errors.
    fn trouble(&self) -> Vec<String> {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        // That the store could not be tried at the start is said beside it.
        let bad = |line: &&str| {
            (line.contains(" WARN ") || line.contains(" ERROR ")) && !line.contains("cannot be tried yet")
        };
        log.lines().filter(bad).map(str::to_owned).collect()
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn contents(number: u32) -> Vec<u8> {
    bytes(u64::from(number), PICTURE_BYTES)
}

fn clip_key() -> String {
    format!("CAM/2026-02-24/{CLIP}")
}

/// Drops the pictures, the oldest first, each with a time of its own; and the clip, older than all of them.
fn drop_captures(site: &Site) {
    let now = std::time::SystemTime::now() - Duration::from_hours(1);
    let put = |name: &str, age: u32, bytes: &[u8]| {
        // Under a name that is ignored until its time is set.
        let path = site.write(format!("CAM/{name}.tmp"), bytes);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(now + Duration::from_secs(u64::from(age))).unwrap();
        std::fs::rename(&path, path.with_extension("")).unwrap();
    };
    put(CLIP, 0, &bytes(99, CLIP_BYTES));
    for number in 1..=PICTURES {
        put(&picture(number), number, &contents(number));
    }
}

/// The outage as seen from the box, for as long as it lasts.
async fn lasts(site: &Site, log: &Log) {
    drop_captures(site);
    site.wait_for_status("the outage", |status| status.state == DaemonState::Degraded).await;
    tokio::time::sleep(OUTAGE).await;
    assert_eq!(files(&site.drop_path("")).len(), usize::try_from(PICTURES).unwrap() + 1, "every file stays");
    assert!(site.s3.keys().is_empty(), "{:?}", site.s3.keys());
    let trouble = log.trouble();
    assert_eq!(trouble.len(), 1, "said once: {trouble:#?}");
    let status = site.wait_for_status("what is said of it", |status| status.state == DaemonState::Degraded).await;
    assert_eq!(status.waiting.set_aside, 0);
    let reason = status.trouble.unwrap().reason;
    assert!(trouble[0].contains(&reason) || status.last_errors.len() == 1, "{reason}");
}

/// The line is back: all goes up, whole, once, the newest first; `first` is how long the first may take.
async fn recovers(site: &Site, first: Duration, what: &str) {
    let (back, requests) = (Instant::now(), site.s3.requests().len());
    site.s3.wait_for(|state| !state.objects().is_empty(), first).await;
    let found = back.elapsed();
    site.s3.wait_for(|state| state.objects().len() > PICTURES as usize, DEADLINE).await;
    eprintln!("{what}: first stored {found:.1?} after the end, all after {:.1?}", back.elapsed());
    site.wait_until_empty().await;
    site.wait_for_status("the end", |status| status.state == DaemonState::Ok && status.trouble.is_none()).await;

    for number in 1..=PICTURES {
        assert_eq!(site.s3.object(&key("CAM", number)).unwrap().sha256, sha256(&contents(number)));
    }
    assert_eq!(site.s3.object(&clip_key()).unwrap().sha256, sha256(&bytes(99, CLIP_BYTES)));
    assert_eq!(site.s3.uploads(), [], "nothing is left half-way");
    let after = &site.s3.requests()[requests..];
    let newest = |name: &str| (PICTURES / 2 + 1..=PICTURES).any(|number| name == key("CAM", number));
    let puts: Vec<&str> =
        after.iter().filter(|request| request.operation == "PutObject").map(|request| &*request.key).collect();
    let early = puts.iter().take(8).filter(|name| newest(name)).count();
    assert!(early >= 5, "the newest go first: {puts:?}");
}

/// The attempts that reached the store since `from`: after the first ones, which were under way together, one at a time.
fn no_storm(site: &Site, from: usize) {
    let asked = site.s3.requests();
    let asked: Vec<_> = asked[from..].iter().map(|request| (request.operation, request.received)).collect();
    assert!((2..=8 + 12 + 6).contains(&asked.len()), "{} requests in {OUTAGE:?}: {asked:?}", asked.len());
}

#[tokio::test]
async fn i3_connections_refused() {
    let log = Log::default();
    let _guard = log.listen();
    let site = Site::started(Settings::default()).await;
    site.s3.refuse().await;
    lasts(&site, &log).await;
    site.s3.accept().await;
    recovers(&site, Duration::from_secs(10), "refused").await;
}

#[tokio::test]
async fn i3_a_black_hole() {
    let log = Log::default();
    let _guard = log.listen();
    let mut site = Site::new(Settings::default()).await;
    // The first failure is quick, so that this takes no minute; what follows are probes into the hole.
    let line = Line::to(&site.s3.endpoint(), Weather::Dead).await;
    site.endpoint = Some(line.endpoint());
    site.s3.refuse().await;
    line.set(Weather::Clear);
    site.start_in_trouble().await;
    site.write(format!("CAM/{}", picture(1)), &contents(1));
    site.wait_for_status("the outage", |status| status.state == DaemonState::Degraded).await;
    line.set(Weather::Dead);
    site.s3.accept().await;
    lasts(&site, &log).await;
    line.set(Weather::Clear);
    // A probe that fell into the hole is given up after 12 s, and the next one follows at most 5 s later.
    recovers(&site, Duration::from_secs(25), "black hole").await;
}

#[tokio::test]
async fn i3_a_name_that_cannot_be_looked_up_and_an_endpoint_that_speaks_no_tls() {
    let log = Log::default();
    let _guard = log.listen();
    for endpoint in ["http://s3.invalid".to_owned(), "https".to_owned()] {
        let before = log.trouble().len();
        let mut site = Site::new(Settings::default()).await;
        site.endpoint =
            Some(if endpoint == "https" { site.s3.endpoint().replace("http:", "https:") } else { endpoint });
        site.start_in_trouble().await;
        drop_captures(&site);
        let status = site.wait_for_status("the outage", |status| status.state == DaemonState::Degraded).await;
        tokio::time::sleep(OUTAGE / 3).await;
        assert_eq!(files(&site.drop_path("")).len(), usize::try_from(PICTURES).unwrap() + 1);
        let said = log.trouble();
        let said: Vec<_> = said[before..].iter().filter(|line| !line.contains("no certificates")).collect();
        assert_eq!(said.len(), 1, "said once: {said:#?}");
        assert!(site.s3.requests().is_empty());
        site.stop().await;
        let reason = status.trouble.unwrap().reason;
        assert!(reason.contains("dns error") || reason.contains("InvalidContentType"), "{reason}");
        site.endpoint = None;
        site.start().await;
        recovers(&site, Duration::from_secs(10), "another endpoint").await;
        site.stop().await;
    }
}

#[tokio::test]
async fn i3_resets_in_mid_body() {
    let log = Log::default();
    let _guard = log.listen();
    let site = Site::started(Settings::default()).await;
    site.s3.fault(Fault::cut_body("PutObject", 5_000));
    site.s3.fault(Fault::cut_body("UploadPart", 1_000_000));
    lasts(&site, &log).await;
    no_storm(&site, 0);
    site.s3.clear_faults();
    recovers(&site, Duration::from_secs(10), "resets in mid-body").await;
}

#[tokio::test]
async fn i2_replies_lost_store_every_capture_once() {
    let log = Log::default();
    let _guard = log.listen();
    let site = Site::started(Settings::default()).await;
    site.s3.fault(Fault::lose_reply("PutObject").times(30));
    site.s3.fault(Fault::lose_reply("CompleteMultipartUpload").times(2));
    drop_captures(&site);
    site.s3.wait_for(|state| state.objects().len() > 4, DEADLINE).await;
    site.s3.clear_faults();
    recovers(&site, DEADLINE, "lost replies").await;
    assert_eq!(site.s3.keys().len(), PICTURES as usize + 1, "no second copy");
    assert!(log.trouble().len() <= 2, "{:#?}", log.trouble());
}

#[tokio::test]
async fn a_line_of_10_kb_a_second_is_no_outage() {
    let log = Log::default();
    let _guard = log.listen();
    let mut site = Site::new(Settings::default()).await;
    let line = Line::to(&site.s3.endpoint(), Weather::Slow(10_000)).await;
    site.endpoint = Some(line.endpoint());
    site.start().await;
    for number in 1..=4 {
        site.write(format!("CAM/{}", picture(number)), &contents(number));
    }
    site.s3.wait_for(|state| state.objects().len() == 4, DEADLINE).await;
    // A part is more than the kernel and the HTTP client hold together: its body is not asked for a piece for minutes.
    site.write(format!("CAM/{CLIP}"), &bytes(99, CLIP_BYTES));
    site.s3.wait_for(|state| state.count("UploadPart") == 1, DEADLINE).await;
    tokio::time::sleep(Duration::from_secs(25)).await;
    line.set(Weather::Clear);
    site.s3.wait_for(|state| state.object(&clip_key()).is_some(), DEADLINE).await;
    let counts =
        ["PutObject", "CreateMultipartUpload", "UploadPart"].map(|operation| site.s3.look(|s3| s3.count(operation)));
    assert_eq!(counts, [4, 1, 3], "nothing was given up");
    assert_eq!(log.trouble(), [""; 0]);
    assert_eq!(site.s3.object(&clip_key()).unwrap().sha256, sha256(&bytes(99, CLIP_BYTES)));
}

#[tokio::test]
async fn i7_a_clip_that_hangs_from_before_an_outage_takes_no_ones_place_after_it() {
    let mut site = Site::new(Settings { rest: "upload: {concurrency: 1}", ..Settings::default() }).await;
    let line = Line::to(&site.s3.endpoint(), Weather::Clear).await;
    site.endpoint = Some(line.endpoint());
    site.start().await;
    site.s3.fault(Fault::hang("UploadPart"));
    site.write(format!("CAM/{CLIP}"), &bytes(99, CLIP_BYTES));
    site.s3.wait_for(|state| state.count("UploadPart") == 1, DEADLINE).await;
    site.s3.fault(Fault::reset("PutObject").times(3));
    for number in 1..=9 {
        site.write(format!("CAM/{}", picture(number)), &contents(number));
    }
    site.s3.wait_for(|state| state.objects().len() == 9, DEADLINE).await;
    site.s3.clear_faults();
    site.wait_until_empty().await;
    assert_eq!(site.s3.look(|s3| s3.count("CreateMultipartUpload")), 1, "the clip went on");
}
