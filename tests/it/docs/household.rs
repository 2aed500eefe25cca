//! What a household pays a month, held against the plan of a night.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Days, NaiveTime, TimeDelta, Utc};
use hk_aws::bucket::{Credentials, Pace};
use hk_aws::clock::Now;
use hk_aws::retention::prices::{self, RequestKind, STANDARD};
use hk_aws::retention::{RetentionPolicy, days};
use hk_aws::{rotate, site};

use super::document::Document;
use super::table;
use crate::support::s3::{ACCESS_KEY, SECRET_KEY, Versions};
use crate::support::site::{Settings, Site};

const CAMERAS: [&str; 2] = ["front-door", "porch"];

/// Captures a day of each camera.
const CAPTURES: u32 = 50;

const CAPTURE_BYTES: u64 = 500 << 10;

/// The nights of a month.
const NIGHTS: f64 = 30.0;

/// A quarter past three of 1 October 2026, after a year of captures.
fn night() -> Now {
    let wall = DateTime::parse_from_rfc3339("2026-10-01T03:15:00Z").unwrap().to_utc();
    Now { steady: Instant::now(), wall: wall.into() }
}

#[tokio::test]
async fn a_household_pays_what_the_plan_says() {
    let place = Site::new(Settings { rest: "rotate: {cameras: all}", ..Settings::default() }).await;
    place.s3.keep_versions(Versions::Kept);
    // The store's clock decides: it is that night there, too.
    let here = DateTime::<Utc>::from(night().wall) - DateTime::<Utc>::from(SystemTime::now());
    place.s3.date_answers_ahead(here.num_seconds());
    let config = place.config();
    let (policy, undo) = (RetentionPolicy::of(&config), days(config.s3.undo));
    let bundled_after = days(policy.archive.as_ref().unwrap().after);
    let bundled = 365 - bundled_after;
    assert_eq!((undo, bundled_after), (30, 30), "a month of undo, and a month of loose captures");
    let today = DateTime::<Utc>::from(night().wall).date_naive();
    for camera in CAMERAS {
        for age in 1..=bundled_after + bundled {
            let date = today - Days::new(age);
            if age > bundled_after {
                for file in ["tar", "index.json"] {
                    let made = date + Days::new(bundled_after + 1);
                    place.s3.insert_with(&format!("{camera}/archive/{date}.{file}"), "", |object| {
                        object.last_modified = made.and_time(NaiveTime::MIN).and_utc().into();
                    });
                }
                continue;
            }
            for number in 0..CAPTURES {
                let taken = date.and_time(NaiveTime::MIN) + TimeDelta::minutes(number.into());
                let name = format!("192.168.1.64_01_{}000_MOTION_DETECTION.jpg", taken.format("%Y%m%d%H%M%S"));
                place.s3.insert_with(&format!("{camera}/{date}/{name}"), "", |object| {
                    object.len = CAPTURE_BYTES;
                    object.last_modified = (taken.and_utc() + Duration::from_secs(1)).into();
                });
            }
        }
    }
    let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test");
    let site = site::Site::new(Arc::new(config), Some(credentials), Pace::new(night), night).await;
    let plan = rotate::plan(&site, &policy, rotate::Scope::default()).await.unwrap();
    let total = plan.summary.total();
    assert_eq!(plan.steps.len(), CAMERAS.len(), "a day of each camera is due");

    let a_day = CAMERAS.map(|_| f64::from(CAPTURES)).iter().sum::<f64>();
    let day = a_day * prices::storage_month(STANDARD, CAPTURE_BYTES);
    // What the bundles of a day cost is what the plan does not save.
    let bundle = total.monthly + day;
    let rows = [
        NIGHTS * a_day * prices::request(RequestKind::Put, STANDARD),
        NIGHTS * day,
        NIGHTS * (total.requests.price() + plan.looks.price()),
        NIGHTS * total.undo,
        f64::from(u32::try_from(bundled).unwrap()) * bundle,
    ];
    let sum = rows.iter().sum();
    let expected = rows.into_iter().chain([sum, 365.0 * bundle]).map(|dollars| format!("${dollars:.3}"));
    let document = Document::read("packaging/doc/old-captures.md");
    let said = table(&document, "for").into_iter().map(|row| row[1].clone());
    assert!(
        said.clone().eq(expected.clone()),
        "{:?}, not {:?}",
        expected.collect::<Vec<_>>(),
        said.collect::<Vec<_>>()
    );
}
