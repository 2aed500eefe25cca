//! What people type: a camera with a slip in its name, and the time of day alone.

use super::{Site, names};

/// Pictures of two cameras, one each hour.
async fn site() -> Site {
    let site = Site::start().await;
    for camera in ["CAM-EXT-001", "hall"] {
        for hour in 13..18 {
            site.s3.insert(&format!("{camera}/2022-02-24/20220224T{hour}0000_a.jpg"), "x");
        }
    }
    site
}

#[tokio::test]
async fn a_mistyped_camera_is_an_error_that_names_the_nearest() {
    let site = site().await;
    for line in [
        &["days", "CAM-EXT-01"][..],
        &["list", "CAM-EXT-01"],
        &["list", "CAM-EXT-01", "2022-02-24", "--from", "15:00"],
        &["get", "CAM-EXT-01", "2022-02-24", "--to", "/nowhere"],
        &["get", "CAM-EXT-01", "2022-02-24", "--from", "15:00", "--to", "/nowhere"],
        &["restore", "CAM-EXT-01", "2022-02-24"],
        &["archive", "CAM-EXT-01", "2022-02-24"],
        &["archive", "CAM-EXT-01", "--older-than", "1d"],
        &["arrange", "CAM-EXT-01"],
        &["verify", "CAM-EXT-01"],
        &["verify", "CAM-EXT-01", "2022-02-24"],
    ] {
        let said = site.run(line).await;
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{line:?}: {said:?}");
        let part = "the bucket holds no camera CAM-EXT-01 (did you mean CAM-EXT-001?)";
        assert!(said.err.contains(part), "{line:?}: {said:?}");
    }
    let said = site.run(&["list", "garage"]).await;
    assert!(said.code == 1 && said.err.contains("no camera garage; `hk-aws cameras` lists"), "{said:?}");
    let said = site.run(&["list", "hall", "2022-02-25"]).await;
    assert_eq!(said.code, 0, "a day without captures is no error: {said:?}");
}

#[tokio::test]
async fn a_time_of_day_is_one_of_the_day_that_is_named() {
    let site = site().await;
    for (line, hours) in [
        (&["--from", "15:00"][..], 15..18),
        (&["--to", "15:00"], 13..15),
        (&["--from", "14:00", "--to", "2022-02-24T15:30"], 14..16),
        (&["--from", "14:00:01", "--until", "15:00:01"], 15..16),
    ] {
        let listed = site.lines(&[&["list", "hall", "2022-02-24"], line].concat()).await;
        let files: Vec<&str> = listed.iter().map(|capture| capture["file"].as_str().unwrap()).collect();
        let expected: Vec<String> = hours.map(|hour| format!("20220224T{hour}0000_a.jpg")).collect();
        assert_eq!(files, expected, "{line:?}");
    }
    let to = site.path("got").into_os_string().into_string().unwrap();
    let said = site.run(&["get", "hall", "2022-02-24", "--from", "14:00", "--until", "16:00", "--to", &to]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(names(&site.path("got")), ["20220224T140000_a.jpg", "20220224T150000_a.jpg"]);
    let said = site.run(&["get", "hall", "2022-02-24", "--from", "18:00", "--to", &to]).await;
    assert!(said.code == 1 && said.err.contains("`hk-aws list hall 2022-02-24`"), "{said:?}");
    for (line, part) in [
        (&["list", "hall", "--from", "15:00"][..], "name the DATE"),
        (&["list", "hall", "2022-02-24", "--from", "15:00", "--to", "14:00"], "write the earlier time first"),
        (&["get", "hall", "2022-02-24", "--from", "15:00", "--to", "16:00"], "write --until 16:00"),
        (&["get", "hall", "2022-02-24", "a.jpg", "--from", "15:00", "--to", &to], "cannot be used with"),
    ] {
        let said = site.run(line).await;
        assert!(said.code == 2 && said.err.contains(part), "{line:?}: {said:?}");
    }
}
