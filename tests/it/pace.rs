//! `upload.bandwidth` in the running daemon.

use std::time::Instant;

use crate::support::site::{DEADLINE, Settings, Site, bytes, key, picture, sha256};

const KIB: u64 = 1024;
const RATE: u64 = 512 * KIB;
const CLIP: &str = "192.168.1.64_01_20260224130000000_1.mp4";

/// The bytes of bodies that the store has read so far, of clips and of pictures.
fn received(site: &Site) -> [u64; 2] {
    let requests = site.s3.requests();
    let of =
        |operation: &str| requests.iter().filter(|request| request.operation == operation).map(|put| put.bytes).sum();
    [of("UploadPart"), of("PutObject")]
}

#[tokio::test]
async fn i7_the_limit_holds_and_a_fresh_picture_overtakes_the_clips_in_flight() {
    const PICTURE: u64 = 600_000;
    let site = Site::started(Settings { rest: "upload: {bandwidth: 512KiB/s}", ..Settings::default() }).await;
    let begin = Instant::now();
    for number in 0..6 {
        site.write(format!("CAM/{number}{CLIP}"), &bytes(number, 17 << 20));
    }
    site.s3.wait_for(|state| state.count("UploadPart") == 4, DEADLINE).await;

    for number in 1..=2 {
        let contents = bytes(1000 + u64::from(number), 600_000);
        site.write(format!("CAM/{}", picture(number)), &contents);
        site.s3.wait_for(|state| state.count("PutObject") == number as usize, DEADLINE).await;
        let [before, _] = received(&site);
        site.s3.wait_for(|state| state.object(&key("CAM", number)).is_some(), DEADLINE).await;
        assert_eq!(site.s3.object(&key("CAM", number)).unwrap().sha256, sha256(&contents));
        // A quarter of the limit is the clips', and some of what was theirs before was still on its way. Behind them the
        // picture would see fifteen times its own bytes pass.
        let [after, _] = received(&site);
        assert!(after - before < 3 * PICTURE, "{} bytes of clips passed picture {number}", after - before);
    }
    assert_eq!(site.s3.look(|s3| s3.count("CreateMultipartUpload")), 4, "half of the places are left to pictures");
    let sent = received(&site).iter().sum::<u64>();
    let most = u128::from(RATE) * (begin.elapsed().as_millis() + 1500) / 1000;
    assert!(u128::from(sent) <= most, "{sent} bytes in {:?}", begin.elapsed());
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
