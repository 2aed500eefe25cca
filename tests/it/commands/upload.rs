//! `upload`: one pass over the drop folder.

use std::fs::File;
use std::time::Duration;

use serde_json::json;

use super::{Site, names, run};
use crate::support::s3::{Conditions, Fault};
use crate::support::settings;

fn name(number: usize) -> String {
    format!("192.168.1.64_01_202202240506{number:02}000_TIMING.jpg")
}

#[tokio::test]
async fn the_whole_folder_goes_up_and_is_kept_elsewhere() {
    let site = Site::start().await;
    site.drop_file(&format!("CAM-1/{}", name(1)), b"one");
    site.drop_file(&format!("CAM-2/sub/{}", name(2)), b"two");
    site.drop_file("CAM-1/x.tmp", b"ignored");
    let mut lines = site.lines(&["upload"]).await;
    lines.sort_by_key(|line| line["path"].to_string());
    let first = json!({
        "path": format!("CAM-1/{}", name(1)),
        "key": format!("CAM-1/2022-02-24/{}", name(1)),
        "size": 3,
        "outcome": "stored",
    });
    assert_eq!((lines.len(), &lines[0]), (2, &first));
    assert_eq!(site.s3.keys().len(), 2);
    assert_eq!(names(&site.path("drop/CAM-1")), ["x.tmp"]);
    assert_eq!(names(&site.path("state/kept/CAM-2/2022-02-24")), [name(2)]);
    let said = site.run(&["upload"]).await;
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""), "nothing is left to do");
}

#[tokio::test]
async fn files_and_folders_can_be_named() {
    let site = Site::start().await;
    for number in 1..=5 {
        site.drop_file(&format!("CAM-{number}/{}", name(number)), b"x");
    }
    let absolute = site.path("drop").join("CAM-2").join(name(2)).into_os_string().into_string().unwrap();
    let said = site.run(&["upload", &format!("CAM-1/{}", name(1)), &absolute, "./CAM-3"]).await;
    assert_eq!((said.code, said.out.lines().count()), (0, 3), "{said:?}");
    assert!(said.out.contains(&format!("CAM-1/{0} stored CAM-1/2022-02-24/{0}", name(1))), "{said:?}");
    let said = run(site.command(&["upload", "."]).current_dir(site.path("drop/CAM-4"))).await;
    assert_eq!((said.code, said.out.lines().count()), (0, 1), "the folder one stands in: {said:?}");
    assert!(site.path("drop/CAM-5").join(name(5)).exists());
    let said = site.run(&["upload", "."]).await;
    assert_eq!((said.code, said.out.lines().count()), (0, 1), "{said:?}");
}

#[tokio::test]
async fn a_dry_run_touches_nothing() {
    let site = Site::start().await;
    let kept = site.drop_file(&format!("CAM/{}", name(1)), b"one");
    site.drop_file("CAM/empty.jpg", b"");
    let old = site.path("drop/CAM/left behind");
    std::fs::create_dir(&old).unwrap();
    let long_ago = kept.metadata().unwrap().modified().unwrap() - Duration::from_hours(7 * 24);
    File::open(&old).unwrap().set_modified(long_ago).unwrap();
    let lines = site.lines(&["upload", "--dry-run"]).await;
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["outcome"], &lines[0]["size"]), (&json!("would be stored"), &json!(3)));
    assert_eq!(lines[0]["key"], format!("CAM/2022-02-24/{}", name(1)));
    assert_eq!(names(&site.path("drop/CAM")), [&name(1), "empty.jpg", "left behind"]);
    assert_eq!(site.s3.requests().len(), 0);
    assert!(!site.path("state").exists() && !site.path("run").exists());
}

#[tokio::test]
async fn what_fails_is_named_and_stays_and_the_rest_goes_up() {
    let site = Site::start().await;
    for number in 1..=3 {
        site.drop_file(&format!("CAM/{}", name(number)), b"x");
    }
    site.drop_file("CAM/empty.jpg", b"");
    site.s3.fault(Fault::fail("PutObject", 500, "InternalError").on_key(|key| key.ends_with(&name(2))));
    let said = site.run(&["upload"]).await;
    assert_eq!((said.code, said.out.lines().count()), (3, 2), "{said:?}");
    assert!(said.err.contains(&format!("CAM/{}: failed to put object: HTTP 500", name(2))), "{said:?}");
    assert!(said.err.contains("CAM/empty.jpg: is empty") && said.err.contains("2 of 4 failed"), "{said:?}");
    assert_eq!(names(&site.path("drop/CAM")), [&name(2), "empty.jpg"]);
}

#[tokio::test]
async fn paths_that_are_no_captures_are_named() {
    let site = Site::start().await;
    site.drop_file("CAM/x.tmp", b"x");
    site.drop_file(&format!("CAM/{}", name(1)), b"x");
    for (path, why) in [
        ("CAM/no.jpg", "no such file"),
        ("CAM/x.tmp", "matches *.tmp of drop_folder.ignore"),
        ("/elsewhere/x.jpg", "not below the drop folder"),
        ("../x.jpg", "without `..`"),
    ] {
        let said = site.run(&["upload", path]).await;
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
        assert!(said.err.contains(why), "{said:?}");
    }
    let said = site.run(&["upload", "CAM/no.jpg", "CAM"]).await;
    assert_eq!((said.code, said.out.lines().count()), (3, 1), "{said:?}");
}

#[tokio::test]
async fn a_bucket_that_is_away_is_not_asked_once_a_file() {
    let site = Site::start().await;
    for number in 0..40 {
        site.drop_file(&format!("CAM/{}", name(number)), b"x");
    }
    site.s3.refuse().await;
    let said = site.run(&["upload"]).await;
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    assert!(said.err.contains("refused") && said.err.contains("s3://captures at http://127.0.0.1:"), "{said:?}");
    assert!(said.err.contains("stopped after") && said.err.lines().count() < 30, "{said:?}");
    assert_eq!(names(&site.path("drop/CAM")).len(), 40);

    site.s3.accept().await;
    site.s3.fault(Fault::fail("PutObject", 403, "AccessDenied"));
    let said = site.run(&["upload"]).await;
    assert!(said.code == 1 && said.err.contains("allow s3:PutObject"), "{said:?}");
    assert!(site.s3.count("PutObject") < 30);
    site.s3.clear_faults();
    assert_eq!(site.run(&["upload"]).await.out.lines().count(), 40);
}

#[tokio::test]
async fn a_missing_drop_folder_is_named() {
    let site = Site::start().await;
    std::fs::remove_dir(site.path("drop")).unwrap();
    let said = site.run(&["upload"]).await;
    assert!(said.code == 1 && said.err.contains(site.path("drop").to_str().unwrap()), "{said:?}");
}

#[tokio::test]
async fn a_store_that_only_the_environment_names_is_not_taken_for_aws() {
    for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"] {
        let site = Site::start().await;
        site.s3.take_conditions(Conditions::Ignored);
        let mut config = settings::load(&site.path("config.yaml"));
        assert_eq!(settings::take(&mut config, "s3", "endpoint_url"), site.s3.endpoint());
        std::fs::write(site.path("config.yaml"), settings::write(&config)).unwrap();
        site.drop_file("CAM/20220224T050607.jpg", b"ours");
        let said = run(site.command(&["upload"]).env(name, site.s3.endpoint())).await;
        assert!(said.code == 0 && said.err.contains("overwrites all the same"), "{said:?}");
        assert!(!site.s3.probes().is_empty());
        assert_eq!(site.s3.count("HeadObject"), 1);
    }
}

#[tokio::test]
async fn an_upload_beside_a_slow_one_of_the_same_name_waits_and_both_are_stored() {
    for keys in ["", ", access: write-only"] {
        let site = Site::start_with(keys, "keep: {days: 0}\n").await;
        site.s3.take_conditions(Conditions::Ignored);
        let path = site.drop_file(&format!("CAM/{}", name(1)), b"first");
        // The first to come is the slowest, as the daemon's may be.
        site.s3.fault(Fault::hang("PutObject").on_key(|key| key.ends_with(".jpg")).times(1));
        let mut slow = site.command(&["upload"]);
        let slow = tokio::spawn(async move { run(&mut slow).await });
        let puts = |state: &crate::support::s3::State| {
            state
                .requests()
                .iter()
                .filter(|request| request.operation == "PutObject" && request.key.ends_with(".jpg"))
                .count()
        };
        site.s3.wait_for(|state| puts(state) == 1, crate::support::site::DEADLINE).await;
        std::fs::write(&path, b"other").unwrap();
        // Another run-time folder would be another box; the lock of commands is not the daemon's.
        let context = std::sync::Arc::new(site.context().await);
        let mut beside = tokio::spawn(async move {
            let tell = |_| std::ops::ControlFlow::Continue(());
            hk_aws::ingest::pass(&context, Vec::new(), hk_aws::ingest::PassMode::Upload, tell).await
        });
        let early = tokio::time::timeout(Duration::from_millis(200), &mut beside).await;
        assert!(early.is_err(), "it does not overtake the other one: {:?}", site.s3.keys());
        site.s3.clear_faults();
        beside.await.unwrap().unwrap();
        slow.await.unwrap();
        let stored = |bytes: &[u8]| {
            let wanted = crate::support::site::sha256(bytes);
            site.s3.look(|state| state.objects().values().any(|object| object.sha256 == wanted))
        };
        assert!(stored(b"other") || path.exists(), "{:?}", site.s3.keys());
        assert!(site.run(&["upload"]).await.code == 0 && stored(b"other"), "{:?}", site.s3.keys());
    }
}

#[tokio::test]
async fn what_was_set_aside_is_taken_back_and_the_doctor_tells_of_it() {
    let site = Site::start().await;
    let aside = site.path("state/set-aside/CAM");
    std::fs::create_dir_all(&aside).unwrap();
    std::fs::create_dir_all(site.path("state/set-aside/.1/CAM")).unwrap();
    std::fs::write(aside.join(name(1)), b"one").unwrap();
    std::fs::write(site.path("state/set-aside/.1/CAM").join(name(1)), b"two").unwrap();
    let said = site.run(&["doctor"]).await;
    assert!(said.out.contains("2 files are set aside") && said.out.contains("upload --set-aside"), "{said:?}");
    let lines = site.lines(&["upload", "--set-aside", "--dry-run"]).await;
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line["key"] == format!("CAM/2022-02-24/{}", name(1))), "{lines:?}");
    let said = site.run(&["upload", "--set-aside"]).await;
    assert_eq!((said.code, said.out.lines().count(), site.s3.keys().len()), (0, 2, 2), "{said:?}");
    assert!(!site.run(&["doctor"]).await.out.contains("set aside"));
    assert_eq!(site.run(&["upload", "--set-aside", "CAM"]).await.code, 2);
}
