//! The daemon's own folders inside the drop folder, by a link: what is ours is never a capture.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::site::{Settings, Site, key, picture};

const QUICK: &str = "rescan: 200ms";

#[tokio::test]
async fn what_is_ours_is_no_capture_wherever_a_link_puts_it() {
    for (link, rest) in [("state", ""), ("run", "keep: {days: 0}"), ("kept", "keep: {path: KEPT}")] {
        let mut site = Site::new(Settings { drop: QUICK, ..Settings::default() }).await;
        let rest: &'static str = rest.replace("KEPT", site.path("kept").to_str().unwrap()).leak();
        site.set(Settings { drop: QUICK, rest, ..Settings::default() });
        fs::create_dir_all(site.drop_path("CAM/ours")).unwrap();
        symlink("drop/CAM/ours", site.path(link)).unwrap();
        site.start().await;
        site.write(format!("CAM/{}", picture(1)), b"one");
        site.wait_for_keys(&[&key("CAM", 1)]).await;
        let status = site
            .wait_for_status("a folder of ours", |status| {
                status.not_uploaded.iter().any(|file| file.path == "CAM/ours" && file.state == "left alone")
            })
            .await;
        assert!(status.not_uploaded[0].reason.as_ref().unwrap().contains("own files"), "{status:?}");
        site.write(format!("CAM/{}", picture(2)), b"two");
        site.wait_for_keys(&[&key("CAM", 1), &key("CAM", 2)]).await;
    }
}

#[tokio::test]
async fn a_folder_that_becomes_ours_while_the_daemon_runs_is_no_capture() {
    let site = Site::started(Settings { drop: QUICK, ..Settings::default() }).await;
    site.write(format!("CAM/{}", picture(1)), b"one");
    site.wait_until_empty().await;
    fs::rename(site.path("state"), site.drop_path("STATE")).unwrap();
    symlink("drop/STATE", site.path("state")).unwrap();
    site.write(format!("CAM/{}", picture(2)), b"two");
    site.wait_for_status("a folder of ours", |status| status.waiting.left_alone == 1).await;
    site.wait_for_keys(&[&key("CAM", 1), &key("CAM", 2)]).await;
    assert_eq!(site.kept(&key("CAM", 2)), b"two");
}
