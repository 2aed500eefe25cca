use chrono::TimeZone;

use super::*;
use crate::config::{ArchiveSettings, ExpireSettings, TransitionSettings};

mod properties;
mod undo;

const DAY: Duration = Duration::from_hours(24);
const GIB: u64 = 1 << 30;

/// The date `day` days after one that is far from both ends of the calendar.
fn date(day: u64) -> NaiveDate {
    NaiveDate::from_ymd_opt(2022, 2, 1).unwrap() + Days::new(day)
}

fn noon(day: u64) -> DateTime<Utc> {
    Utc.from_utc_datetime(&date(day).and_hms_opt(12, 0, 0).unwrap())
}

/// A capture of `day` in STANDARD, stored the same day.
fn capture(day: u64, name: &str, size: u64) -> Candidate {
    Candidate {
        key: format!("A/{}/{name}", date(day)),
        camera: "A".to_owned(),
        date: date(day),
        size,
        class: "STANDARD".to_owned(),
        stored_at: noon(day),
        written_at: noon(day),
        kind: Kind::Capture,
    }
}

fn archived(kind: Kind, day: u64, ending: &str) -> Candidate {
    let class = if kind == Kind::Bundle { "GLACIER" } else { "STANDARD" }.to_owned();
    Candidate { key: format!("A/archive/{}{ending}", date(day)), kind, class, ..capture(day, "", 100) }
}

fn in_class(class: &str, object: Candidate) -> Candidate {
    Candidate { class: class.to_owned(), ..object }
}

fn stored(day: u64, object: Candidate) -> Candidate {
    Candidate { stored_at: noon(day), written_at: noon(day), ..object }
}

/// Bundles in a class that must be restored before they can be read.
fn glacier() -> ArchiveSettings {
    ArchiveSettings { class: "GLACIER".to_owned(), ..ArchiveSettings::default() }
}

fn bundles(days: u32) -> RetentionPolicy {
    RetentionPolicy { archive: Some(ArchiveSettings { after: DAY * days, ..glacier() }), ..RetentionPolicy::default() }
}

fn transitions(days: u32, class: &str) -> RetentionPolicy {
    let transition = TransitionSettings { after: DAY * days, class: class.to_owned(), min_size: 100 };
    RetentionPolicy { transition: Some(transition), ..RetentionPolicy::default() }
}

fn expiry(days: u32) -> RetentionPolicy {
    RetentionPolicy { expire: Some(ExpireSettings { after: DAY * days }), ..RetentionPolicy::default() }
}

/// Plans all camera-days of a bucket, the oldest date first, as the rotation does.
fn plan(objects: &[Candidate], policy: &RetentionPolicy, today: NaiveDate) -> Result<Vec<RotationStep>, Doubt> {
    believed(today, newest(objects))?;
    let mut days: BTreeMap<(NaiveDate, &str), Vec<Candidate>> = BTreeMap::new();
    for object in objects {
        days.entry((object.date, &object.camera)).or_default().push(object.clone());
    }
    Ok(days.values().flat_map(|day| plan_day(day, policy, today)).collect())
}

/// Keeps the bundles of one run, after all other steps, as the rotation does.
fn limit(steps: Vec<RotationStep>, max_days_per_run: u32) -> (Vec<RotationStep>, Later) {
    let (bundles, mut kept): (Vec<_>, Vec<_>) = steps.into_iter().partition(|step| step.action == Action::Archive);
    let mut urgent = Urgent::new(max_days_per_run);
    for bundle in bundles {
        urgent.offer(bundle, Copies::Here);
    }
    let (bundles, later) = urgent.finish();
    kept.extend(bundles);
    (kept, later)
}

/// The actions on a camera-day, with the last segments of the keys.
fn fates(objects: &[Candidate], policy: &RetentionPolicy, today: u64) -> Vec<(Action, Vec<String>)> {
    let name = |key: &String| key.rsplit('/').next().unwrap_or_default().to_owned();
    plan_day(objects, policy, date(today))
        .iter()
        .map(|step| (step.action, step.keys.iter().map(name).collect()))
        .collect()
}

#[track_caller]
fn near(one: f64, other: f64, tolerance: f64) {
    assert!((one - other).abs() <= tolerance, "{one} is not {other} within {tolerance}");
}

#[test]
fn a_day_is_bundled_once_it_is_so_old() {
    let objects = [capture(1, "b.jpg", 10), capture(1, "a.jpg", 20)];
    let hours = |hours| RetentionPolicy {
        archive: Some(ArchiveSettings { after: Duration::from_hours(hours), ..glacier() }),
        ..RetentionPolicy::default()
    };
    for (policy, today, expected) in [
        (bundles(30), 30, false),
        (bundles(30), 31, true),
        (bundles(30), 400, true),
        (bundles(0), 0, false),
        (bundles(0), 1, true),
        // A day that has only begun counts as a whole one.
        (hours(25), 2, false),
        (hours(25), 3, true),
        (RetentionPolicy::default(), 400, false),
    ] {
        let bundle = (Action::Archive, vec!["a.jpg".to_owned(), "b.jpg".to_owned()]);
        assert_eq!(fates(&objects, &policy, today), expected.then_some(bundle).as_slice(), "{policy:?} {today}");
    }
    let never =
        RetentionPolicy { archive: Some(ArchiveSettings { after: Duration::MAX, ..glacier() }), ..expiry(u32::MAX) };
    assert_eq!(fates(&objects, &never, 36_500), []);
}

#[test]
fn what_cannot_be_read_or_written_at_once_is_left_out_of_a_bundle() {
    let objects = [
        capture(1, "a.jpg", 10),
        in_class("GLACIER", capture(1, "b.jpg", 10)),
        in_class("DEEP_ARCHIVE", capture(1, "c.jpg", 10)),
        in_class("GLACIER_IR", capture(1, "d.jpg", 10)),
        capture(1, "e.mp4", 5 * GIB - (1 << 20)),
        capture(1, "f.mp4", 5 * GIB - (1 << 20) + 1),
        in_class("COLD-STORE", capture(1, "g.jpg", 10)),
        archived(Kind::Bundle, 1, ".tar"),
        archived(Kind::Index, 1, ".index.json"),
    ];
    let steps = plan_day(&objects, &bundles(30), date(31));
    let fates = fates(&objects, &bundles(30), 31);
    assert_eq!(fates[0].1, ["a.jpg", "d.jpg", "e.mp4", "g.jpg"]);
    assert_eq!(fates[1], (Action::Leave, ["b.jpg", "c.jpg", "f.mp4"].map(str::to_owned).to_vec()));
    let said: Vec<String> = steps.iter().flat_map(|step| &step.warnings).map(Warning::to_string).collect();
    assert_eq!(
        said,
        [
            "1 object is deleted from GLACIER_IR before its minimum of 90 days, whose rest costs $0.0000",
            "no price is known for COLD-STORE: it counts as free of charge",
            "1 object is left in DEEP_ARCHIVE: S3 cannot read or copy it without a restore",
            "1 object is left in GLACIER: S3 cannot read or copy it without a restore",
            "1 object is left: larger than one request takes, 5367660544 bytes",
        ]
    );
    assert_eq!((steps[0].class.as_deref(), steps[0].from["STANDARD"].objects), (Some("GLACIER"), 2));
    assert_eq!(steps[1].cost, Cost::default());
}

#[test]
fn an_object_moves_towards_a_colder_class_only() {
    for (from, to, expected) in [
        ("STANDARD", "GLACIER_IR", Some(Action::Transition)),
        ("STANDARD", "STANDARD", None),
        ("STANDARD_IA", "GLACIER_IR", Some(Action::Transition)),
        ("STANDARD", "INTELLIGENT_TIERING", Some(Action::Transition)),
        ("REDUCED_REDUNDANCY", "INTELLIGENT_TIERING", None),
        ("INTELLIGENT_TIERING", "REDUCED_REDUNDANCY", None),
        ("ONEZONE_IA", "STANDARD_IA", None),
        ("STANDARD_IA", "ONEZONE_IA", Some(Action::Transition)),
        ("GLACIER_IR", "STANDARD_IA", None),
        ("GLACIER_IR", "DEEP_ARCHIVE", Some(Action::Transition)),
        ("DEEP_ARCHIVE", "GLACIER", None),
        // Colder, but S3 cannot copy what it cannot read.
        ("GLACIER", "DEEP_ARCHIVE", Some(Action::Leave)),
        ("COLD-STORE", "GLACIER", Some(Action::Leave)),
        ("STANDARD", "COLD-STORE", Some(Action::Leave)),
        ("COLD-STORE", "COLD-STORE", None),
    ] {
        let objects = [in_class(from, capture(1, "a.jpg", 100))];
        let fates = fates(&objects, &transitions(30, to), 31);
        assert_eq!(fates.first().map(|(action, _)| *action), expected, "{from} {to}");
    }
}

#[test]
fn an_object_moves_once_it_is_old_and_large_enough() {
    let objects = [
        capture(1, "a.jpg", 99),
        capture(1, "b.jpg", 100),
        capture(1, "c.mp4", 5 * GIB),
        capture(1, "d.mp4", 5 * GIB + 1),
        in_class("STANDARD", archived(Kind::Bundle, 1, ".tar")),
        archived(Kind::Index, 1, ".index.json"),
    ];
    let policy = transitions(30, "GLACIER_IR");
    assert_eq!(fates(&objects, &policy, 30), []);
    let steps = plan_day(&objects, &policy, date(31));
    let bundle = format!("{}.tar", date(1));
    let moved = (Action::Transition, vec!["b.jpg".to_owned(), "c.mp4".to_owned(), bundle]);
    let left = (Action::Leave, vec!["a.jpg".to_owned(), "d.mp4".to_owned()]);
    assert_eq!(fates(&objects, &policy, 31), [moved, left]);
    let said: Vec<String> = steps[1].warnings.iter().map(Warning::to_string).collect();
    assert_eq!(
        said,
        [
            "1 object is left: larger than one request takes, 5368709120 bytes",
            "1 object is left: smaller than rotate.transition.min_size, 100 bytes",
        ]
    );
    assert_eq!(steps[0].cost.requests.copy, BTreeMap::from([("GLACIER_IR".to_owned(), 3)]));
    near(steps[0].cost.now, 0.000_06 + 0.000_005, 1e-9);
    assert!(steps[0].cost.monthly < 0.0);
    let both = RetentionPolicy { archive: bundles(400).archive, ..policy };
    assert_eq!(fates(&objects, &both, 31), [], "bundles stand instead of transitions");
}

#[test]
fn a_capture_expires_by_the_later_of_its_date_and_its_storing() {
    for (object, today, expected) in [
        (capture(1, "a.jpg", 10), 365, false),
        (capture(1, "a.jpg", 10), 366, true),
        // A late import.
        (stored(100, capture(1, "a.jpg", 10)), 464, false),
        (stored(100, capture(1, "a.jpg", 10)), 465, true),
        // A camera that lives in the future.
        (stored(1, capture(100, "a.jpg", 10)), 464, false),
        (stored(1, capture(100, "a.jpg", 10)), 465, true),
    ] {
        let fates = fates(std::slice::from_ref(&object), &expiry(365), today);
        assert_eq!(!fates.is_empty(), expected, "{object:?} {today}");
        assert_eq!(plan_day(&[object], &RetentionPolicy::default(), date(36_500)), [], "null is never");
    }
}

#[test]
fn what_expires_is_not_bundled_or_moved() {
    let objects = [capture(1, "a.jpg", 100), stored(100, capture(1, "b.jpg", 100))];
    for (policy, action) in [(bundles(30), Action::Archive), (transitions(30, "GLACIER"), Action::Transition)] {
        let policy = RetentionPolicy { expire: expiry(60).expire, ..policy };
        let both = vec!["a.jpg".to_owned(), "b.jpg".to_owned()];
        assert_eq!(fates(&objects, &policy, 60), [(action, both.clone())]);
        let split = [(Action::Expire, vec!["a.jpg".to_owned()]), (action, vec!["b.jpg".to_owned()])];
        assert_eq!(fates(&objects, &policy, 61), split);
        assert_eq!(fates(&objects, &policy, 160), [(Action::Expire, both)]);
    }
}

#[test]
fn a_bundle_and_its_index_expire_together() {
    for (bundle, index) in [
        (".tar", ".index.json"),
        (".tar", ".tar.index.json"),
        (".tar.gz", ".index.json"),
        (".tar.zst", ".tar.zst.index.json"),
        (".part2.tar", ".part2.index.json"),
    ] {
        let objects = [
            archived(Kind::Index, 1, index),
            archived(Kind::Bundle, 1, bundle),
            archived(Kind::Index, 1, ".part9.index.json"),
            stored(50, archived(Kind::Bundle, 1, ".part3.tar")),
            archived(Kind::Index, 1, ".part3.index.json"),
            capture(1, "a.jpg", 10),
        ];
        assert_eq!(fates(&objects, &expiry(365), 365), []);
        let day = date(1);
        let gone = vec![format!("{day}{index}"), format!("{day}{bundle}"), "a.jpg".to_owned()];
        let mut fates = fates(&objects, &expiry(365), 366);
        // Of the two, which one comes first is their keys' order.
        fates[0].1[..2].sort();
        let mut sorted = gone.clone();
        sorted[..2].sort();
        assert_eq!(fates, [(Action::Expire, sorted)], "an index without a bundle, and a younger part, stay");
    }
    let two = [
        archived(Kind::Bundle, 1, ".tar"),
        stored(50, archived(Kind::Bundle, 1, ".tar.gz")),
        archived(Kind::Index, 1, ".index.json"),
    ];
    assert_eq!(fates(&two, &expiry(365), 366), [(Action::Expire, vec![format!("{}.tar", date(1))])]);
    assert_eq!(fates(&two, &expiry(365), 415)[0].1.len(), 3, "an index of two goes with the last");
}

#[test]
fn a_deletion_before_the_minimum_says_what_it_costs() {
    let written = |day, object| Candidate { written_at: noon(day), ..object };
    for (class, day, expected) in [
        ("GLACIER", 276, None),
        ("GLACIER", 277, Some((90, 0.0036 / 30.0))),
        ("GLACIER_IR", 336, Some((90, 0.004 * 2.0))),
        ("DEEP_ARCHIVE", 276, Some((180, 0.00099 * 3.0))),
        ("STANDARD_IA", 336, None),
        ("ONEZONE_IA", 351, Some((30, 0.01 / 2.0))),
        ("STANDARD", 366, None),
    ] {
        let object = written(day, in_class(class, Candidate { size: GIB, ..archived(Kind::Bundle, 1, ".tar") }));
        let steps = plan_day(&[object], &expiry(365), date(366));
        let early = steps[0].warnings.first();
        assert_eq!(early.is_some(), expected.is_some(), "{class}");
        if let (Some(warning), Some((minimum_days, dollars))) = (early, expected) {
            assert_eq!(warning.why, Why::Early { class: class.to_owned(), minimum_days });
            near(warning.dollars, dollars, dollars / 10.0);
            near(steps[0].cost.now - steps[0].cost.requests.price(), warning.dollars, 1e-9);
        }
    }
}

#[test]
fn a_policy_by_which_every_bundle_goes_before_its_minimum_is_warned_of() {
    for (archive, class, expire, expected) in [
        (30, "GLACIER", 120, None),
        (30, "GLACIER", 119, Some(89)),
        (30, "GLACIER", 20, Some(0)),
        (30, "DEEP_ARCHIVE", 209, Some(179)),
        (30, "STANDARD", 31, None),
    ] {
        let mut policy = RetentionPolicy { expire: expiry(expire).expire, ..bundles(archive) };
        policy.archive.as_mut().unwrap().class = class.to_owned();
        let stays = policy.warnings().first().map(|warning| match warning.why {
            Why::ShortLived { days, .. } => days,
            _ => u64::MAX,
        });
        assert_eq!(stays, expected, "{policy:?}");
        if expire > archive {
            let steps = plan_day(&[capture(1, "a.jpg", 10)], &policy, date(u64::from(archive) + 1));
            assert_eq!(steps[0].warnings, policy.warnings());
        }
    }
    assert_eq!(bundles(30).warnings(), []);
    let default = RetentionPolicy { expire: expiry(365).expire, ..bundles(30) };
    assert_eq!(default.warnings(), []);
}

#[test]
fn a_clock_that_is_far_off_is_not_believed() {
    let newest = Some(date(1000));
    for (today, expected) in [
        (date(998), Err(Doubt::Behind { today: date(998), newest: date(1000) })),
        (date(999), Ok(())),
        (date(1730), Ok(())),
        (date(1731), Err(Doubt::Ahead { today: date(1731), newest: date(1000) })),
        (NaiveDate::MIN, Err(Doubt::Behind { today: NaiveDate::MIN, newest: date(1000) })),
        (NaiveDate::MAX, Err(Doubt::Ahead { today: NaiveDate::MAX, newest: date(1000) })),
    ] {
        assert_eq!(believed(today, newest), expected);
        assert_eq!(believed(today, None), Ok(()));
    }
    let doubt = believed(date(998), newest).unwrap_err().to_string();
    assert!(doubt.contains("2024-10-26") && doubt.ends_with("set the clock"), "{doubt}");
    let doubt = believed(date(1731), newest).unwrap_err().to_string();
    assert!(doubt.contains("the next capture settles it"), "{doubt}");
    assert_eq!(
        plan(&[capture(1, "a", 1)], &expiry(365), date(732)),
        Err(Doubt::Ahead { today: date(732), newest: date(1) })
    );
}

#[test]
fn the_newest_is_what_can_be_true() {
    for (objects, expected) in [
        (vec![], None),
        (vec![capture(1, "a", 1), capture(3, "a", 1), capture(2, "a", 1)], Some(3)),
        // A camera's clock that stood at the beginning of time.
        (vec![stored(5, capture(1, "a", 1))], Some(5)),
        // Zones, and a camera that lives in the future.
        (vec![stored(5, capture(6, "a", 1))], Some(6)),
        (vec![stored(5, capture(7, "a", 1))], Some(5)),
        (vec![archived(Kind::Bundle, 4, ".tar"), stored(900, archived(Kind::Index, 4, ".index.json"))], Some(4)),
    ] {
        assert_eq!(newest(&objects), expected.map(date), "{objects:?}");
    }
}

#[test]
fn a_bundle_asks_for_what_it_takes_to_make_one() {
    let member = |number: u32| capture(1, &format!("{number:04}.mp4"), 1 << 20);
    let objects: Vec<Candidate> = (0..1001).map(member).collect();
    let step = &plan_day(&objects, &bundles(30), date(31))[0];
    let by_class = BTreeMap::from([("STANDARD".to_owned(), 5), ("GLACIER".to_owned(), 5)]);
    let requests = Requests { list: 5, put: by_class.clone(), head: by_class, copy: BTreeMap::new(), delete: 2 };
    assert_eq!(step.cost.requests, requests);
    assert_eq!((requests.count(), step.bytes, step.keys.len()), (27, 1001 << 20, 1001));
    near(step.cost.now, 5.0 * (0.005 + 0.005 + 0.03 + 0.0008) / 1000.0, 1e-9);
    let mut same = bundles(30);
    same.archive.as_mut().unwrap().class = "STANDARD".to_owned();
    let step = &plan_day(&objects, &same, date(31))[0];
    assert_eq!(step.cost.requests.put, BTreeMap::from([("STANDARD".to_owned(), 10)]));
    assert!(step.cost.monthly > 0.0, "headers and an index come on top");
    // So many small ones are as few bytes as fit into one part, and more captures than it takes.
    let small = |number: usize| capture(1, &format!("{number:05}.jpg"), 1 << 10);
    let objects: Vec<Candidate> = (0..=MOST_MEMBERS).map(small).collect();
    let step = &plan_day(&objects, &bundles(30), date(31))[0];
    assert_eq!(step.cost.requests.put, BTreeMap::from([("STANDARD".to_owned(), 2), ("GLACIER".to_owned(), 2)]));
}

/// A million pictures of 200 KB, as a thousand camera-days of a thousand each.
#[test]
fn a_million_pictures_cost_what_was_worked_out_by_hand() {
    let day: Vec<Candidate> = (0..1000)
        .map(|number| Candidate {
            key: format!("CAM-EXT-001/2022-02-02/{number:040}.jpg"),
            ..capture(1, "", 200 << 10)
        })
        .collect();
    let before = 1e6 * prices::storage_month("STANDARD", 200 << 10);
    near(before, 4.39, 0.01);

    let transition = plan_day(&day, &transitions(30, "GLACIER"), date(31)).remove(0).cost;
    near(before + 1000.0 * transition.monthly, 0.97, 0.01);
    near(1000.0 * transition.now, 30.0, 0.01);

    let bundle = plan_day(&day, &bundles(30), date(31)).remove(0).cost;
    near(before + 1000.0 * bundle.monthly, 0.69, 0.03);
    near(1000.0 * bundle.now, 0.06, 0.01);
    // By hand the 100 GB that are free each month were taken off.
    near(1000.0 * bundle.download - prices::egress(100 * GIB), 8.60, 0.05);

    let expire = plan_day(&day, &expiry(365), date(366)).remove(0).cost;
    near(1000.0 * expire.monthly, -before, 1e-6);
}

#[test]
fn a_summary_folds_days_into_rows_and_warnings_into_kinds() {
    let mut objects = Vec::new();
    for day in [3, 1, 9] {
        objects.extend([capture(day, "a.jpg", 10), in_class("GLACIER", capture(day, "b.jpg", 20))]);
    }
    let on_b = |object: Candidate| Candidate { camera: "B".to_owned(), ..object };
    objects.extend([on_b(capture(2, "a.jpg", 5)), on_b(capture(1, "a.jpg", 5))]);
    let steps = plan(&objects, &bundles(30), date(100)).unwrap();
    let order: Vec<_> = steps.iter().map(|step| (step.date, step.camera.as_str(), step.action)).collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(order, sorted, "the oldest first");

    let mut summary = Summary::default();
    for step in &steps {
        summary.add(step);
    }
    let rows: Vec<_> = summary
        .rows()
        .map(|row| {
            (row.action, row.camera.as_str(), row.first, row.last, row.days, row.amount.objects, row.amount.bytes)
        })
        .collect();
    assert_eq!(
        rows,
        [
            (Action::Archive, "A", date(1), date(9), 3, 3, 30),
            (Action::Archive, "B", date(1), date(2), 2, 2, 10),
            (Action::Leave, "A", date(1), date(9), 3, 3, 60),
        ]
    );
    let total = summary.total();
    assert_eq!(total.requests.put["GLACIER"], 5);
    near(total.now, steps.iter().map(|step| step.cost.now).sum(), 1e-12);
    let said: Vec<String> = summary.warnings().map(Warning::to_string).collect();
    assert_eq!(said, ["3 objects are left in GLACIER: S3 cannot read or copy them without a restore"]);

    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["rows"][0]["action"], "bundle");
    assert_eq!(json["rows"][0]["bytes"], 30);
    assert_eq!(json["rows"][0]["requests"]["put"]["GLACIER"], 3);
    assert_eq!(json["warnings"][0]["why"], "unreadable");
    assert_eq!(json["later"]["days"], 0);
}

#[test]
fn one_run_bundles_the_oldest_days_and_counts_the_rest() {
    let mut objects: Vec<Candidate> = [5, 2, 9, 1].into_iter().map(|day| capture(day, "a.jpg", day)).collect();
    objects.push(Candidate { camera: "B".to_owned(), ..capture(2, "a.jpg", 7) });
    objects.push(in_class("GLACIER", capture(9, "b.jpg", 1)));
    let days = |most: u32| {
        let mut steps = plan(&objects, &bundles(30), date(100)).unwrap();
        // Camera by camera, as a bucket is gone through.
        steps.sort_by(|one, other| (&one.camera, other.date).cmp(&(&other.camera, one.date)));
        let (steps, later) = limit(steps, most);
        let kept: Vec<_> = steps.iter().map(|step| (step.action, step.camera.clone(), step.date)).collect();
        (kept, (later.days, later.amount.objects, later.amount.bytes))
    };
    let left = (Action::Leave, "A".to_owned(), date(9));
    let bundle = |camera: &str, day| (Action::Archive, camera.to_owned(), date(day));
    assert_eq!(days(2), (vec![left.clone(), bundle("A", 1), bundle("A", 2)], (3, 3, 21)));
    assert_eq!(days(3), (vec![left.clone(), bundle("A", 1), bundle("A", 2), bundle("B", 2)], (2, 2, 14)));
    assert_eq!(days(0), (vec![left], (5, 5, 24)));
    assert_eq!(days(9).1, (0, 0, 0));
}

#[test]
fn days_whose_local_copies_give_way_first_are_bundled_first() {
    let day = |day: u64| plan_day(&[capture(day, "a.jpg", 10)], &bundles(30), date(100)).remove(0);
    let mut urgent = Urgent::new(3);
    for (number, copies) in
        [(1, Copies::Gone), (7, Copies::Here), (2, Copies::Gone), (5, Copies::Here), (9, Copies::Gone)]
    {
        urgent.offer(day(number), copies);
    }
    let (steps, later) = urgent.finish();
    assert_eq!(steps.iter().map(|step| step.date).collect::<Vec<_>>(), [date(5), date(7), date(1)]);
    assert_eq!((later.days, later.amount.objects, later.amount.bytes), (2, 2, 20));
    assert!(steps.iter().all(|step| step.keys.is_empty() && step.amount().objects == 1), "{steps:?}");
}

#[test]
fn the_policy_is_what_the_configuration_says() {
    let parse = |rotate: &str| {
        let text =
            format!("drop_folder: {{path: /srv/ftp}}\ns3: {{bucket: captures}}\ntimezone: UTC\nrotate: {rotate}\n");
        RetentionPolicy::of(&Config::parse(std::path::Path::new("config.yaml"), &text, &|_| None).unwrap())
    };
    let default = RetentionPolicy { archive: Some(ArchiveSettings::default()), ..RetentionPolicy::default() };
    assert_eq!(parse("{}"), default, "nothing is ever deleted, unless somebody says so");
    assert_eq!(default.archive.unwrap().class, "GLACIER_IR");
    assert_eq!(
        parse("{archive: {class: GLACIER}, expire: {}}"),
        RetentionPolicy { expire: expiry(365).expire, ..bundles(30) }
    );
    assert_eq!(parse("{archive: null, expire: null}"), RetentionPolicy::default());
    let moved = transitions(40, "STANDARD_IA");
    assert_eq!(parse("{transition: {after: 40d, class: STANDARD_IA, min_size: 100}, expire: null}"), moved);
}
