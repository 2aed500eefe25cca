//! Versions, and settings that cost more than they need to.

use super::*;

#[test]
fn what_is_deleted_in_a_bucket_with_versions_is_paid_for_undo_longer() {
    let with = |policy: &RetentionPolicy, days: u32| RetentionPolicy { undo: Some(DAY * days), ..policy.clone() };
    let gigabyte = Candidate { size: GIB, ..capture(1, "a.mp4", 0) };
    for (policy, today) in [(bundles(30), 31), (expiry(30), 31)] {
        let step = |policy: &RetentionPolicy| plan_day(std::slice::from_ref(&gigabyte), policy, date(today)).remove(0);
        let plain = step(&policy).cost;
        assert_eq!(plain.undo.to_bits(), 0.0_f64.to_bits());
        for (days, dollars) in [(30, 0.023), (15, 0.0115), (90, 0.069)] {
            let versioned = step(&with(&policy, days));
            near(versioned.cost.undo, dollars, 1e-9);
            near(versioned.cost.now, plain.now, 1e-9);
            let mut summary = Summary::default();
            summary.add(&versioned);
            for (keeps_versions, undo) in [(true, dollars), (false, 0.0)] {
                let mut settled = summary.clone();
                settled.settle(keeps_versions);
                near(settled.total().now, plain.now + undo, 1e-9);
                near(settled.total().undo, undo, 1e-9);
            }
            assert_eq!(versioned.cost.monthly.to_bits(), plain.monthly.to_bits(), "in the end it is gone all the same");
            assert_eq!(versioned.cost.requests, plain.requests);
        }
    }
    // It is 60 days old, and its class charges for 30 more in any case.
    let bundle = Candidate { size: GIB, written_at: noon(306), ..archived(Kind::Bundle, 1, ".tar") };
    let step = |undo| plan_day(std::slice::from_ref(&bundle), &with(&expiry(365), undo), date(366)).remove(0);
    let day = prices::storage_month("GLACIER", GIB) / 30.0;
    for (undo, more) in [(1, 0.0), (30, 0.0), (40, 10.0)] {
        let step = step(undo);
        near(step.warnings[0].dollars, 30.0 * day, 1e-9);
        near(step.cost.now - step.cost.requests.price(), 30.0 * day, 1e-9);
        near(step.cost.undo, more * day, 1e-9);
    }
    let mut sum = step(40).cost;
    sum += &step(40).cost;
    near(sum.undo, 20.0 * day, 1e-9);
}

#[test]
fn settings_that_cost_more_than_they_need_to_are_warned_of() {
    let keys = |s3: &str, rotate: &str| -> Vec<&'static str> {
        let text = format!(
            "drop_folder: {{path: /drop}}\ntimezone: UTC\ns3: {{bucket: captures{s3}}}\nrotate: {{{rotate}}}\n"
        );
        let config = Config::parse(std::path::Path::new("config.yaml"), &text, &|_| None).unwrap();
        warnings(&config).iter().filter_map(|warning| warning.why.key()).collect()
    };
    let none: [&str; 0] = [];
    for (s3, rotate, expected) in [
        ("", "", &none[..]),
        ("", "archive: {class: DEEP_ARCHIVE}, expire: {after: 209d}", &["rotate.expire.after"]),
        ("", "archive: {class: DEEP_ARCHIVE}, expire: {after: 210d}", &none),
        ("", "transition: {after: 30d, class: GLACIER_IR}, expire: {after: 119d}", &["rotate.expire.after"]),
        ("", "transition: {after: 30d, class: GLACIER_IR}, expire: {after: 120d}", &none),
        (", storage_class: STANDARD_IA", "archive: {after: 29d}, expire: null", &["s3.undo", "rotate.archive.after"]),
        (", storage_class: STANDARD_IA", "transition: {after: 29d}, expire: null", &["rotate.transition.after"]),
        (", storage_class: GLACIER_IR", "archive: null, expire: {after: 89d}", &["rotate.expire.after"]),
        (", storage_class: GLACIER_IR", "archive: null, expire: null", &none),
        (", undo: 31d", "expire: null", &["s3.undo"]),
        (", undo: 30d", "expire: null", &none),
        (", undo: 50d", "archive: null, expire: {after: 49d}", &["s3.undo"]),
        (", undo: 50d", "archive: null, expire: null", &none),
        // A box that only writes bundles nothing, and its bucket expires.
        (", undo: 50d, access: write-only", "expire: null", &none),
        (", undo: 50d, access: write-only", "archive: null, expire: {after: 49d}", &["s3.undo"]),
    ] {
        assert_eq!(keys(s3, rotate), expected, "{s3} {rotate}");
    }
    // What the plan for a bucket with versions warns of is among it.
    let policy = RetentionPolicy { undo: Some(DAY * 31), ..bundles(30) };
    let step = plan_day(&[capture(1, "a.jpg", 10)], &policy, date(31)).remove(0);
    let [Warning { why: Why::LongUndo { days: 30, undo_days: 31, .. }, .. }] = step.warnings.as_slice() else {
        panic!("{:?}", step.warnings)
    };
    assert!(step.warnings[0].to_string().contains("set s3.undo to 30d or less"), "{}", step.warnings[0]);
    assert_eq!(RetentionPolicy { undo: None, ..policy }.warnings(), []);
}
