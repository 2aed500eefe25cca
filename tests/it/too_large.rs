//! A store, or a proxy in front of it, that takes no large requests and answers 413.

use crate::support::s3::Fault;
use crate::support::site::{DEADLINE, Settings, Site, bytes, key, picture, sha256};

const NONE: Settings = Settings { drop: "", s3: "", rest: "" };
const CLIP: &str = "192.168.1.64_01_20260224120000000_1.mp4";
const HTML: &[(&str, &str)] = &[("content-type", "text/html")];
const PAGE: &str = "<html><head><title>413 Request Entity Too Large</title></head></html>";
const TOO_LONG: &str = "<Error><Code>MaxMessageLengthExceeded</Code><Message>too big</Message></Error>";
const XML: &str = "<Error><Code>EntityTooLarge</Code><Message>too large</Message></Error>";

#[tokio::test]
async fn a_clip_that_is_too_large_for_one_request_goes_up_in_smaller_ones() {
    for (size, operation, (status, body), refused, parts) in [
        (12 << 20, "PutObject", (413, PAGE), 1, 2),
        (12 << 20, "PutObject", (413, XML), 1, 2),
        (12 << 20, "PutObject", (413, ""), 1, 2),
        (12 << 20, "PutObject", (400, TOO_LONG), 1, 2),
        (17 << 20, "UploadPart", (413, PAGE), 1, 4),
    ] {
        let mut site = Site::new(NONE).await;
        site.s3.fault(Fault::answer(operation, status, HTML, body).on_key(|key| key.ends_with("mp4")).times(refused));
        let clip = bytes(7, size);
        site.write(format!("CAM/{CLIP}"), &clip);
        site.write(format!("CAM/{}", picture(1)), b"picture");
        site.start().await;
        site.wait_until_empty().await;
        let stored =
            site.s3.look(|state| state.objects().values().map(|object| object.sha256.clone()).collect::<Vec<_>>());
        assert!(stored.contains(&sha256(&clip)) && stored.len() == 2, "{operation} {body}");
        let of_clip = |status: Option<u16>| {
            let requests = site.s3.requests();
            requests.iter().filter(|request| request.operation == "UploadPart" && request.status == status).count()
        };
        assert_eq!(of_clip(Some(200)), parts, "{operation}");
        assert!(site.s3.uploads().is_empty(), "{operation}");
        site.stop().await;
    }
}

#[tokio::test]
async fn a_picture_that_is_too_large_waits_and_others_go_on() {
    let site = Site::started(NONE).await;
    let large = key("CAM", 1);
    let is_large = large.clone();
    site.s3.fault(Fault::answer("PutObject", 413, HTML, PAGE).on_key(move |key| key == is_large));
    site.write(format!("CAM/{}", picture(1)), &bytes(1, 300_000));
    for number in 2..6 {
        site.write(format!("CAM/{}", picture(number)), &bytes(number.into(), 1000));
    }
    site.s3.wait_for(|state| state.objects().len() == 4, DEADLINE).await;
    let status =
        site.wait_for_status("the reason", |status| status.files.iter().any(|file| file.reason.is_some())).await;
    let reason = status.files[0].reason.as_ref().unwrap();
    assert!(reason.contains("at most 299999 bytes a request") && !reason.contains("login page"), "{reason}");
    assert_eq!((status.waiting.backing_off, status.last_errors.len()), (1, 1), "{status:?}");
    let tries = site.s3.requests().iter().filter(|request| request.key == large).count();
    assert!(tries <= 2, "{tries} tries");
    site.s3.clear_faults();
}
