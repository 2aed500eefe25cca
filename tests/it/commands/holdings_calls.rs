//! What the bucket holds, as library calls: without a command line, without a terminal.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use chrono::NaiveDate;
use hk_aws::bucket::Tier;
use hk_aws::holdings::restore::{Progress, Restoration, RestoreEvent, RestoreTerms, Unanswered};
use hk_aws::holdings::{
    self, Day, FetchError, FetchEvent, FetchOrder, HoldingsError, IndexError, Listing, Selection, load_index,
};
use hk_aws::key::ArchiveFormat;

use super::{Site, archive, names};
use crate::support::s3::Fault;

const CAMERA: &str = "CAM";
const DAY: &str = "2022-02-24";
const LOOSE_DAY: &str = "2022-02-25";
const INDEX: &str = "CAM/archive/2022-02-24.index.json";
const BUNDLE: &str = "CAM/archive/2022-02-24.tar";

fn date(day: &str) -> NaiveDate {
    day.parse().unwrap()
}

fn picture(day: &str, number: u32) -> String {
    format!("{}T05060{number}_a.jpg", day.replace('-', ""))
}

/// A day of three pictures in a bundle of that class, one that came late, and a day that is loose.
async fn lived_in(class: &str) -> Site {
    let site = Site::start().await;
    for number in 0..3 {
        site.s3.insert(&format!("{CAMERA}/{DAY}/{}", picture(DAY, number)), format!("picture {number}"));
    }
    site.bundle(CAMERA, DAY, &archive(class, ArchiveFormat::Tar)).await;
    site.s3.insert(&format!("{CAMERA}/{DAY}/{}", picture(DAY, 3)), "late");
    site.s3.insert(&format!("{CAMERA}/{LOOSE_DAY}/{}", picture(LOOSE_DAY, 0)), "loose");
    site
}

#[tokio::test]
async fn a_list_holds_one_day_in_every_layout_whose_keys_are_in_the_order_of_days() {
    for (layout, folder) in [
        ("{camera}/{date}/{file}", "%Y-%m-%d"),
        ("{camera}/{year}/{month}/{day}/{event}/{file}", "%Y/%m/%d/none"),
        ("{camera}/by-day/{date}.{hour}/{file}", "by-day/%Y-%m-%d.05"),
    ] {
        let site = Site::start_with(&format!(", key: \"{layout}\""), "").await;
        for day in date(DAY).iter_days().take(5) {
            for number in 0..1_000 {
                let (folder, stamp) = (day.format(folder), day.format("%Y%m%d"));
                site.s3.insert(&format!("{CAMERA}/{folder}/{stamp}T050607_{number:04}.jpg"), "x");
            }
        }
        let context = site.context().await;
        let selection = Selection { camera: CAMERA.to_owned(), ..Selection::default() };
        let mut listing = Listing::begin(&context, selection).await.unwrap();
        for (days, date) in (1..).zip(date(DAY).iter_days().take(5)) {
            let day = listing.next_day().await.unwrap().unwrap();
            assert!(day.captures.len() == 1_000 && day.captures.iter().all(|capture| capture.date == date), "{layout}");
            // A page for the archive, one for each day, one more to see that the day is complete, and at the end the archive again.
            let pages = site.s3.count("ListObjectsV2");
            assert!(pages <= 2 + days + days / 5, "{layout}: {pages} pages for {days} days");
        }
        assert!(listing.next_day().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn cameras_days_and_one_day_are_values() {
    let site = lived_in("STANDARD").await;
    let context = site.context().await;
    assert_eq!(holdings::cameras(&context).await.unwrap(), [CAMERA]);
    let days = holdings::days(&context, CAMERA).await.unwrap();
    assert_eq!(days, BTreeSet::from([date(DAY), date(LOOSE_DAY)]));
    let day = Day::look(&context, CAMERA, date(DAY)).await.unwrap();
    assert_eq!(
        day.loose.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(),
        [format!("{CAMERA}/{DAY}/{}", picture(DAY, 3))]
    );
    let (part, archived) = day.archive.parts.first_key_value().unwrap();
    assert_eq!((archived.bundles[0].object.key.as_str(), day.archive.last_part()), (BUNDLE, 1));
    assert_eq!(load_index(&context, part).await.unwrap().members.len(), 3);
    let both = Day::look_at_all(&context, CAMERA, &days).await.unwrap();
    assert_eq!(both.values().map(|day| day.loose.len()).collect::<Vec<_>>(), [1, 1]);
    assert!(both[&date(DAY)].archive.has_bundle() && !both[&date(LOOSE_DAY)].archive.has_bundle());
}

#[tokio::test]
async fn a_listing_gives_one_day_after_the_other_and_names_what_it_cannot_read() {
    let site = lived_in("STANDARD").await;
    let context = site.context().await;
    let selection = || Selection { camera: CAMERA.to_owned(), ..Selection::default() };
    let mut listing = Listing::begin(&context, selection()).await.unwrap();
    let mut files = Vec::new();
    while let Some(day) = listing.next_day().await.unwrap() {
        assert!(day.unread.is_empty() && day.without_index.is_empty());
        files.push(day.captures.into_iter().map(|holding| (holding.file, holding.bundle)).collect::<Vec<_>>());
    }
    let in_bundle = |number| (picture(DAY, number), Some(BUNDLE.to_owned()));
    let first = vec![in_bundle(0), in_bundle(1), in_bundle(2), (picture(DAY, 3), None)];
    assert_eq!(files, [first, vec![(picture(LOOSE_DAY, 0), None)]]);
    // An index that is damaged costs the members of its bundle, and is named with its kind.
    site.s3.insert(INDEX, "{}");
    let one_day = Selection { date: Some(date(DAY)), ..selection() };
    let mut listing = Listing::begin(&context, one_day).await.unwrap();
    let day = listing.next_day().await.unwrap().unwrap();
    assert_eq!((day.captures.len(), day.unread.len(), day.unread[0].key.as_str()), (1, 1, BUNDLE));
    assert!(matches!(day.unread[0].error, IndexError::Damaged { .. }), "{:?}", day.unread);
    assert!(listing.next_day().await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_bundled_while_it_is_listed_is_listed_or_the_listing_says_that_it_is_not_complete() {
    for date in [Some(date(DAY)), None] {
        let site = Site::start().await;
        for number in 0..3 {
            site.s3.insert(&format!("{CAMERA}/{DAY}/{}", picture(DAY, number)), format!("picture {number}"));
        }
        let context = site.context().await;
        let selection = Selection { camera: CAMERA.to_owned(), date, ..Selection::default() };
        let mut listing = Listing::begin(&context, selection).await.unwrap();
        site.bundle(CAMERA, DAY, &archive("STANDARD", ArchiveFormat::Tar)).await;
        match (listing.next_day().await, date) {
            (Ok(Some(day)), Some(_)) => assert_eq!(day.captures.len(), 3),
            (Err(error), None) => assert!(error.to_string().contains(BUNDLE), "{error}"),
            (other, _) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_download_tells_of_each_step_and_ends_when_nobody_wants_more() {
    let site = lived_in("STANDARD").await;
    let context = site.context().await;
    let to = site.path("to");
    let order = FetchOrder { camera: CAMERA, date: date(DAY), files: &[], to: &to };
    let (mut here, mut steps, mut done) = (0, 0, 0);
    let fetched = holdings::fetch(&context, order, |event| {
        match event {
            FetchEvent::Begins(number) => steps = number,
            FetchEvent::Here(capture) => here += usize::from(capture.to.exists()),
            FetchEvent::StepDone => done += 1,
            other => panic!("{other:?}"),
        }
        ControlFlow::Continue(())
    });
    let fetched = fetched.await.unwrap();
    assert_eq!((fetched.total, fetched.failed, fetched.already, fetched.cold.is_empty()), (4, 0, 0, true));
    assert_eq!((here, steps, done, names(&to).len()), (4, 4, 4, 4));

    let elsewhere = site.path("elsewhere");
    let order = FetchOrder { to: &elsewhere, ..order };
    let stopped = holdings::fetch(&context, order, |event| match event {
        FetchEvent::Here(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(stopped.await, Err(FetchError::Stopped)));
    // Those beside it may have been done as well; nothing half lies there.
    for name in names(&elsewhere) {
        assert!(std::fs::read(elsewhere.join(&name)).unwrap() == std::fs::read(to.join(&name)).unwrap(), "{name}");
    }

    let nothing = FetchOrder { date: date("2022-03-01"), ..order };
    let nothing = holdings::fetch(&context, nothing, |_| ControlFlow::Continue(())).await;
    assert!(matches!(nothing, Err(FetchError::Nothing { .. })), "{nothing:?}");
}

#[tokio::test]
async fn a_refusal_keeps_its_kind_on_the_way_up() {
    let site = lived_in("STANDARD").await;
    let context = site.context().await;
    site.s3.fault(Fault::fail("ListObjectsV2", 403, "AccessDenied"));
    let error = Day::look(&context, CAMERA, date(DAY)).await.unwrap_err();
    assert!(matches!(error, HoldingsError::Refused { .. }) && !error.is_about_object(), "{error:?}");
    assert!(
        error.to_string().contains("s3://captures") && error.to_string().contains("allow s3:ListBucket"),
        "{error}"
    );
}

#[tokio::test]
async fn a_restore_is_priced_asked_for_and_waited_for() {
    let site = lived_in("GLACIER").await;
    let context = site.context().await;
    let dates = BTreeSet::from([date(DAY), date(LOOSE_DAY)]);
    let mut found = Restoration::find(&context, CAMERA, &dates).await.unwrap();
    assert_eq!((found.objects.len(), found.days.len(), found.not_archived[&date(LOOSE_DAY)]), (1, 2, 1));
    found.look(&context, |event| panic!("{event:?}")).await.unwrap();
    let terms = |tier| RestoreTerms { tier, days: 7 };
    let price = &found.price(terms(Tier::Standard)).unwrap()[0];
    assert_eq!((price.class.as_str(), price.bundles, price.captures, price.time), ("GLACIER", 1, 0, "3 to 5 hours"));
    assert_eq!(site.s3.count("RestoreObject"), 0, "nothing is asked for before somebody says so");

    found.ask(&context, terms(Tier::Bulk), Unanswered::Fails, |event| panic!("{event:?}")).await;
    assert_eq!(found.objects[0].state, Progress::Begun);
    let mut settled = Vec::new();
    found
        .wait(&context, terms(Tier::Bulk), Some(Duration::from_millis(5)), |event| {
            let RestoreEvent::Settled { done, total } = event else { panic!("{event:?}") };
            settled.push((done, total));
            let restored = "ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2029 00:00:00 GMT\"";
            site.s3.edit(BUNDLE, |bundle| bundle.restore = Some(restored.to_owned()));
        })
        .await;
    assert_eq!(settled, [(0, 1), (1, 1)]);
    assert_eq!((found.objects[0].state, site.s3.count("RestoreObject")), (Progress::Restored, 1));
    assert!(found.objects[0].until.is_some());
    let refused = found.price(terms(Tier::Expedited)).map(|prices| prices.len());
    assert_eq!(refused, Ok(0), "what is restored costs nothing more");
}
