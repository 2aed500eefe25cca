//! `s3.former_keys`: what was stored under other keys is still listed, read, verified and rotated; and what fits no layout
//! is said.

use std::fs;

use serde_json::Value;

use super::rotate::{ago, name};
use super::{Site, names};
use crate::support::settings;

/// A box that stored and bundled pictures before its keys got another shape: of 40 days ago in a bundle, of 20 and 2 days
/// ago loose.
async fn changed(key: &str, prefix: &str) -> Site {
    let site = Site::start().await;
    for day in [40, 20, 2] {
        site.drop_file(&format!("CAM/{}", name(ago(day), 0)), format!("old {day}").as_bytes());
    }
    assert_eq!(site.run(&["upload"]).await.code, 0);
    assert_eq!(site.run(&["rotate"]).await.code, 0);
    settings::change(&site.path("config.yaml"), &format!("s3: {{key: '{key}', prefix: '{prefix}'}}"));
    site.drop_file(&format!("CAM/{}", name(ago(2), 1)), b"new 2");
    assert_eq!(site.run(&["upload"]).await.code, 0);
    site
}

fn former(site: &Site, shapes: &str) {
    settings::change(&site.path("config.yaml"), &format!("s3: {{former_keys: {shapes}}}"));
}

#[tokio::test]
async fn what_was_stored_under_former_keys_is_still_listed_read_verified_and_rotated() {
    for (key, prefix, shapes) in [
        ("{camera}/{date}/{file}", "home/", "['{camera}/{date}/{file}']"),
        ("{camera}/{event}/{date}/{file}", "", "['{prefix}{camera}/{date}/{file}']"),
        ("{camera}/{year}/{month}/{day}/{file}", "home/", "['old/{camera}/{file}', '{camera}/{date}/{file}']"),
    ] {
        let site = changed(key, prefix).await;
        former(&site, shapes);
        let said = site.run(&["cameras"]).await;
        assert_eq!((said.out.as_str(), said.err.as_str()), ("CAM\n", ""), "{shapes}: {said:?}");
        let days = [ago(40), ago(20), ago(2)].map(|day| format!("{day}\n")).concat();
        assert_eq!(site.run(&["days", "CAM"]).await.out, days, "{shapes}");
        let files =
            |lines: &[Value]| lines.iter().map(|line| line["file"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        let listed = files(&site.lines(&["list", "CAM"]).await);
        let all = [name(ago(40), 0), name(ago(20), 0), name(ago(2), 0), name(ago(2), 1)];
        assert_eq!(listed, all, "{shapes}");
        for day in [40, 20, 2] {
            let to = site.path(&format!("got-{day}"));
            let said = site.run(&["get", "CAM", &ago(day).to_string(), "--to", to.to_str().unwrap()]).await;
            assert_eq!((said.code, names(&to).len()), (0, if day == 2 { 2 } else { 1 }), "{shapes}: {said:?}");
            let bytes = fs::read_to_string(to.join(name(ago(day), 0))).unwrap();
            assert_eq!(bytes, format!("old {day}"));
        }
        let said = site.run(&["verify"]).await;
        assert!(said.code == 0 && !said.out.contains("extra"), "{shapes}: {said:?}");
        // A day of both shapes becomes one bundle, and nothing is lost.
        let said = site.run(&["archive", "CAM", &ago(20).to_string(), &ago(2).to_string()]).await;
        assert!(said.code == 0 && said.out.contains("3 captures of 2 days bundled"), "{shapes}: {said:?}");
        let bundle = format!("{prefix}CAM/archive/{}.tar", ago(2));
        assert!(site.s3.object(&bundle).is_some() && site.s3.keys().len() == 6, "{shapes}: {:?}", site.s3.keys());
        assert_eq!(files(&site.lines(&["list", "CAM"]).await), all, "{shapes}");
        let to = site.path("again");
        let said = site.run(&["get", "CAM", &ago(2).to_string(), "--to", to.to_str().unwrap()]).await;
        assert_eq!((said.code, names(&to).len()), (0, 2), "{shapes}: {said:?}");
        assert_eq!(fs::read_to_string(to.join(name(ago(2), 0))).unwrap(), "old 2");
        let said = site.run(&["verify"]).await;
        assert_eq!(said.code, 0, "{shapes}: {said:?}");
        let said = site.run(&["rotate"]).await;
        assert!(said.code == 0 && said.out.contains("0 captures of 0 days bundled"), "{shapes}: {said:?}");
    }
}

#[tokio::test]
async fn keys_without_a_date_are_read_by_the_names_of_the_files() {
    let site = Site::start().await;
    let day = ago(2);
    for key in [format!("CAM/{}", name(day, 0)), format!("CAM/{day}/{}", name(day, 1)), "CAM/readme.txt".to_owned()] {
        site.s3.insert(&key, "x");
    }
    former(&site, "['{prefix}{camera}/{file}']");
    let said = site.run(&["list", "CAM"]).await;
    assert_eq!(said.out.lines().count(), 2, "{said:?}");
    assert!(said.err.contains("1 object fits no layout of keys, such as CAM/readme.txt"), "{said:?}");
    assert_eq!(site.run(&["list", "CAM", &day.to_string()]).await.out.lines().count(), 2);
}

#[tokio::test]
async fn what_fits_no_layout_is_counted_and_named() {
    let site = changed("{camera}/{event}/{date}/{file}", "").await;
    let line = format!("2 objects fit no layout of keys, such as CAM/{}/{}", ago(20), name(ago(20), 0));
    for command in
        [&["list", "CAM"][..], &["list", "CAM", &ago(20).to_string()], &["days", "CAM"], &["rotate", "--dry-run"]]
    {
        let said = site.run(command).await;
        assert!(said.err.contains(&line) && said.err.contains("s3.former_keys"), "{command:?}: {said:?}");
    }
    let said = site.run(&["doctor"]).await;
    assert!(said.out.contains(&line), "{said:?}");
    let ended = hk_aws::rotate::job(site.context().await.into(), tokio_util::sync::CancellationToken::new()).await;
    assert!(ended.outcome.contains(&line), "{ended:?}");
    // By another prefix not even a camera is found.
    settings::change(&site.path("config.yaml"), "s3: {key: '{camera}/{date}/{file}', prefix: home/}");
    let said = site.run(&["cameras"]).await;
    assert!(said.out.is_empty() && said.err.contains("fit no layout of keys, such as CAM/"), "{said:?}");
}
