//! Listings that break off: nothing is taken from them, whatever was asked for and however they break off.

use std::fmt::Write as _;
use std::time::Duration;

use futures_util::TryStreamExt;

use super::Site;
use crate::support::s3::{Fault, Request};

const DAY: &str = "2022-02-24";

/// What a command lists first.
struct Asked {
    command: &'static [&'static str],
    prefix: &'static str,
    /// Whether folders count, and not objects.
    folders: bool,
}

const ASKED: &[Asked] = &[
    Asked { command: &["cameras"], prefix: "", folders: true },
    Asked { command: &["days", "CAM"], prefix: "CAM/", folders: true },
    Asked { command: &["list", "CAM"], prefix: "CAM/archive/", folders: false },
    Asked { command: &["list", "CAM", DAY], prefix: "CAM/2022-02-24/", folders: false },
    Asked { command: &["get", "CAM", DAY, "--to", "TO"], prefix: "CAM/2022-02-24/", folders: false },
    Asked { command: &["restore", "CAM", DAY, "--to", "TO"], prefix: "CAM/2022-02-24/", folders: false },
    Asked { command: &["verify", "CAM", DAY], prefix: "CAM/2022-02-24/", folders: false },
    Asked { command: &["archive", "CAM", DAY], prefix: "CAM/2022-02-24/", folders: false },
    Asked { command: &["arrange", "CAM"], prefix: "CAM/", folders: false },
];

impl Asked {
    /// Returns a page in XML with these names below the prefix; `ends` is what it says of the next one.
    fn page(&self, names: &[&str], ends: &str) -> String {
        let mut page = format!("<ListBucketResult><Name>captures</Name>{ends}");
        for name in names {
            let key = format!("{}{name}", self.prefix);
            if self.folders {
                write!(page, "<CommonPrefixes><Prefix>{key}/</Prefix></CommonPrefixes>").unwrap();
            } else {
                write!(
                    page,
                    "<Contents><Key>{key}</Key><LastModified>2022-02-25T00:00:00Z</LastModified><ETag>\"e\"</ETag>\
                     <Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>"
                )
                .unwrap();
            }
        }
        page + "</ListBucketResult>"
    }

    fn more(&self, names: &[&str], token: &str) -> String {
        self.page(
            names,
            &format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"),
        )
    }

    fn last(&self, names: &[&str]) -> String {
        self.page(names, "<IsTruncated>false</IsTruncated>")
    }
}

/// How a listing breaks off: its pages, the last of them again and again, and what is said.
type Broken = (fn(&Asked) -> Vec<String>, &'static str);

const BROKEN: &[Broken] = &[
    (|asked| vec![asked.page(&["a", "b"], "<IsTruncated>true</IsTruncated>")], "not where"),
    (|asked| vec![asked.more(&["a"], "1"), asked.more(&["b"], "")], "not where"),
    (|asked| vec![asked.more(&["a"], "1"), asked.more(&[], "1")], "same token"),
    (|asked| vec![asked.more(&[], "1"), asked.more(&[], "2"), asked.more(&[], "1")], "same token"),
    (|asked| vec![asked.more(&["a", "b"], "1")], "is due"),
    (|asked| vec![asked.more(&["b"], "1"), asked.more(&["c"], "2"), asked.last(&["a"])], "is due"),
    (|asked| vec![asked.more(&["a", "b"], "1"), asked.last(&["b", "c"])], "is due"),
    (|asked| vec![Asked { prefix: "ELSE/", ..*asked }.last(&["a"])], "is listed below"),
    (|asked| vec![asked.more(&["a"], "1"), Asked { prefix: "ELSE/", ..*asked }.last(&["a"])], "is listed below"),
    (|asked| vec![asked.page(&["a"], "")], "IsTruncated"),
    (|asked| vec![asked.last(&["a", "b"]).replace("</ListBucketResult>", "")], "cut off"),
    (|asked| vec![asked.last(&["a", "b"]).split('b').next().unwrap().to_owned()], "cut off"),
    (|asked| vec![asked.more(&["a"], "1"), asked.last(&["b", "c\u{1}", "d"])], "cut off"),
];

impl Site {
    /// Answers the next listing with these pages, and whatever follows with the last of them.
    fn list_as(&self, pages: &[String]) {
        for (number, page) in pages.iter().enumerate() {
            let answer = Fault::answer("ListObjectsV2", 200, &[], page.clone().leak());
            self.s3.fault(if number + 1 < pages.len() { answer.times(1) } else { answer });
        }
    }
}

/// Whether a listing can break off in this way: below no prefix there is nothing outside of it.
fn is_possible(asked: &Asked, why: &str) -> bool {
    !(asked.prefix.is_empty() && why == "is listed below")
}

#[tokio::test]
async fn a_listing_that_breaks_off_is_an_error_whatever_is_listed() {
    let site = Site::start().await;
    let bucket = site.context().await.bucket;
    for asked in ASKED {
        for (pages, why) in BROKEN.iter().filter(|(_, why)| is_possible(asked, why)) {
            let pages = pages(asked);
            site.list_as(&pages);
            let listed = async {
                if asked.folders {
                    bucket.folders(asked.prefix).map_ok(drop).try_for_each(async |()| Ok(())).await
                } else {
                    bucket.objects(asked.prefix).map_ok(drop).try_for_each(async |()| Ok(())).await
                }
            };
            let listed = tokio::time::timeout(Duration::from_secs(20), listed).await.expect("an end");
            let said = listed.expect_err(&format!("{pages:?}")).to_string();
            assert!(said.contains(why), "{pages:?}: {said}");
            site.s3.clear_faults();
        }
    }
}

#[tokio::test]
async fn no_command_takes_a_listing_that_breaks_off_for_a_whole_one() {
    let site = Site::start().await;
    for number in 0..20 {
        site.s3.insert(&format!("CAM/{DAY}/20220224T0506{number:02}_a.jpg"), "x");
    }
    let to = site.path("to");
    // Each command meets another of the ways.
    for (asked, (pages, why)) in ASKED.iter().zip(BROKEN.iter().cycle().skip(1)) {
        let pages = pages(asked);
        site.list_as(&pages);
        let arguments: Vec<&str> =
            asked.command.iter().map(|word| if *word == "TO" { to.to_str().unwrap() } else { word }).collect();
        let said = tokio::time::timeout(Duration::from_secs(20), site.run(&arguments)).await.expect("an end");
        assert!(said.code != 0 && said.err.contains(why), "{arguments:?}, {pages:?}: {said:?}");
        assert!(!to.exists(), "nothing is downloaded");
        site.s3.clear_faults();
    }
    let touched = |request: &Request| !matches!(request.operation, "ListObjectsV2" | "HeadObject");
    let touched: Vec<_> = site.s3.requests().into_iter().filter(touched).collect();
    assert!(touched.is_empty(), "{touched:?}");
}

#[tokio::test]
async fn uploads_that_are_listed_for_ever_hold_no_clip_back_and_no_others_upload_is_aborted() {
    for (pages, why) in [
        (vec![uploads("<IsTruncated>true</IsTruncated>", &["CAM/a"])], "no marker"),
        (vec![uploads("<IsTruncated>true</IsTruncated><NextKeyMarker>CAM</NextKeyMarker>", &[])], "the same marker"),
        (vec![uploads("<IsTruncated>false</IsTruncated>", &["OTHER/clip"])], "a stranger's"),
    ] {
        let site = Site::start().await;
        let clip = site.drop_file("CAM/192.168.1.64_01_20220224050607000_1.mp4", &vec![7; 17 << 20]);
        for page in &pages {
            site.s3.fault(Fault::answer("ListMultipartUploads", 200, &[], page.clone().leak()));
        }
        let said = tokio::time::timeout(Duration::from_secs(20), site.run(&["upload"])).await.expect("an end");
        assert_eq!(said.code, 0, "{why}: {said:?}");
        assert!(!clip.exists() && site.s3.keys().len() == 1, "{why}");
        assert_eq!(site.s3.count("AbortMultipartUpload"), 0, "{why}");
    }
}

/// Returns a page of uploads in parts.
fn uploads(ends: &str, keys: &[&str]) -> String {
    let mut page = format!("<ListMultipartUploadsResult>{ends}");
    for key in keys {
        write!(page, "<Upload><Key>{key}</Key><UploadId>1</UploadId></Upload>").unwrap();
    }
    page + "</ListMultipartUploadsResult>"
}
