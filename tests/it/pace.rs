//! `upload.bandwidth` in the running daemon.

use std::time::{Duration, Instant};

use crate::support::site::{DEADLINE, Settings, Site, bytes, key, picture, sha256};

const KIB: u64 = 1024;
const RATE: u64 = 512 * KIB;
const CLIP: &str = "192.168.1.64_01_20260224130000000_1.mp4";

/// The bytes of bodies that the store has read so far.
fn received(site: &Site) -> u64 {
    site.s3.requests().iter().map(|request| request.bytes).sum()
}

#[tokio::test]
async fn i7_the_limit_holds_and_a_fresh_picture_overtakes_the_clips_in_flight() {
    let site = Site::started(Settings { rest: "upload: {bandwidth: 512KiB/s}", ..Settings::default() }).await;
    for number in 0..6 {
        site.write(format!("CAM/{number}{CLIP}"), &bytes(number, 17 << 20));
    }
    site.s3.wait_for(|state| state.requests().iter().map(|request| request.bytes).sum::<u64>() > RATE, DEADLINE).await;
    assert_eq!(site.s3.look(|s3| s3.count("CreateMultipartUpload")), 4, "half of the places are left to pictures");

    let (begin, before) = (Instant::now(), received(&site));
    for number in 1..=4 {
        let contents = bytes(1000 + u64::from(number), 100_000);
        let dropped = Instant::now();
        site.write(format!("CAM/{}", picture(number)), &contents);
        site.wait_for_keys(
            &(1..=number).map(|n| key("CAM", n)).collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .await;
        assert_eq!(site.s3.object(&key("CAM", number)).unwrap().sha256, sha256(&contents));
        // By itself it takes a fifth of a second; behind the clips it would take minutes.
        assert!(dropped.elapsed() < Duration::from_secs(5), "picture {number} took {:?}", dropped.elapsed());
    }
    tokio::time::sleep(Duration::from_secs(4).saturating_sub(begin.elapsed())).await;
    let (seconds, sent) = (begin.elapsed().as_secs_f64(), received(&site) - before);
    #[expect(clippy::cast_precision_loss, reason = "three digits count")]
    let (sent, rate) = (sent as f64, RATE as f64);
    // What was granted before and is still on its way counts here: at most what the limiter gives at once.
    assert!(sent <= rate * (seconds + 1.5), "{sent} bytes in {seconds} s");
    assert!(sent >= rate * (seconds - 1.5) * 0.8, "{sent} bytes in {seconds} s");
}

#[tokio::test]
async fn i7_where_one_upload_at_a_time_is_wanted_a_picture_goes_beside_a_clip() {
    let site =
        Site::started(Settings { rest: "upload: {concurrency: 1, bandwidth: 256KiB/s}", ..Settings::default() }).await;
    for number in 0..2 {
        site.write(format!("CAM/{number}{CLIP}"), &bytes(number, 17 << 20));
    }
    site.s3.wait_for(|state| state.count("UploadPart") == 1, DEADLINE).await;
    site.write(format!("CAM/{}", picture(1)), &bytes(7, 20_000));
    site.wait_for_keys(&[&key("CAM", 1)]).await;
    assert_eq!(site.s3.look(|s3| s3.count("CreateMultipartUpload")), 1);
}
