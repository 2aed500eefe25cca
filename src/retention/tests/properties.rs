use proptest::option::of;
use proptest::prelude::*;

use super::*;
use crate::key::ArchiveFormat;

const CLASSES: [&str; 6] = ["STANDARD", "STANDARD_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE", "COLD-STORE"];

/// Objects of two cameras, with clocks that are wrong both ways, as a bucket lists them: no key twice.
fn some_objects() -> impl Strategy<Value = Vec<Candidate>> {
    let object = (
        "[AB]",
        0u64..30,
        0u64..30,
        0u64..300,
        proptest::sample::select(&CLASSES[..]),
        0u8..6,
        "[a-d]",
        proptest::bool::weighted(0.1),
    );
    let object = object.prop_map(|(camera, on, stored_on, size, class, kind, name, huge)| {
        let (kind, key) = match kind {
            0 => (Kind::Bundle, format!("{camera}/archive/{}.part{name}.tar", date(on))),
            1 => (Kind::Index, format!("{camera}/archive/{}.part{name}.index.json", date(on))),
            _ => (Kind::Capture, format!("{camera}/{}/{name}", date(on))),
        };
        let size = if huge { size + 5 * GIB - (1 << 20) } else { size };
        let object = in_class(class, stored(stored_on, capture(on, "", size)));
        Candidate { key, camera, kind, ..object }
    });
    proptest::collection::vec(object, 0..24).prop_map(|objects| {
        let objects: BTreeMap<String, Candidate> =
            objects.into_iter().map(|object| (object.key.clone(), object)).collect();
        objects.into_values().collect()
    })
}

fn some_policy() -> impl Strategy<Value = RetentionPolicy> {
    let hours = || 0u64..1000;
    let archive = (hours(), proptest::sample::select(&CLASSES[..]), 1u64..600).prop_map(|(hours, class, part_size)| {
        let after = Duration::from_hours(hours);
        ArchiveSettings { after, class: class.to_owned(), format: ArchiveFormat::Tar, max_days_per_run: 3, part_size }
    });
    let transition =
        (hours(), proptest::sample::select(&CLASSES[..]), 0u64..300).prop_map(|(hours, class, min_size)| {
            TransitionSettings { after: Duration::from_hours(hours), class: class.to_owned(), min_size }
        });
    let expire = hours().prop_map(|hours| ExpireSettings { after: Duration::from_hours(hours) });
    (of(archive), of(transition), of(expire)).prop_map(|(archive, transition, expire)| RetentionPolicy {
        archive,
        transition,
        expire,
        undo: None,
    })
}

/// The plan by key, whatever the clock; a key that stands twice is a failure.
fn actions(objects: &[Candidate], policy: &RetentionPolicy, today: u64) -> BTreeMap<String, Action> {
    let mut days: BTreeMap<(NaiveDate, &str), Vec<Candidate>> = BTreeMap::new();
    for object in objects {
        days.entry((object.date, &object.camera)).or_default().push(object.clone());
    }
    let mut actions = BTreeMap::new();
    for step in days.values().flat_map(|day| plan_day(day, policy, date(today))) {
        for key in step.keys {
            assert_eq!(actions.insert(key, step.action), None, "in two steps");
        }
    }
    actions
}

/// `after` in whole days, by another way than the code under test.
fn whole_days(after: Duration) -> u64 {
    (0..1000u32).find(|days| DAY * *days >= after).unwrap_or(u32::MAX).into()
}

proptest! {
    #[test]
    fn what_is_due_stays_due_and_later_there_is_only_more(
        objects in some_objects(), policy in some_policy(), today in 0u64..80, later in 0u64..20,
    ) {
        let now = actions(&objects, &policy, today);
        let then = actions(&objects, &policy, today + later);
        for (key, action) in now {
            let after = then.get(&key).copied();
            prop_assert!(after == Some(action) || after == Some(Action::Expire), "{key}: {action:?}, then {after:?}");
        }
    }

    #[test]
    fn nothing_is_both_deleted_and_kept_and_every_step_adds_up(
        objects in some_objects(), policy in some_policy(), today in 0u64..80,
    ) {
        let all: BTreeMap<&str, &Candidate> = objects.iter().map(|object| (object.key.as_str(), object)).collect();
        // Panics where a key stands in two steps.
        let planned = actions(&objects, &policy, today);
        prop_assert!(planned.keys().all(|key| all.contains_key(key.as_str())));
        let Ok(steps) = plan(&objects, &policy, date(today)) else { return Ok(()) };
        prop_assert_eq!(steps.iter().map(|step| step.keys.len()).sum::<usize>(), planned.len());
        for step in &steps {
            let mut bytes = 0;
            for key in &step.keys {
                let object = all[key.as_str()];
                prop_assert_eq!((&object.camera, object.date), (&step.camera, step.date));
                prop_assert_eq!(planned[key], step.action);
                bytes += object.size;
            }
            prop_assert_eq!(step.bytes, bytes);
            let from = step.from.values().fold((0, 0), |sum, amount| (sum.0 + amount.objects, sum.1 + amount.bytes));
            prop_assert_eq!(from, (step.amount().objects, bytes));
            prop_assert!([step.cost.now, step.cost.monthly, step.cost.download].iter().all(|dollars| dollars.is_finite()));
            prop_assert!(step.cost.now >= 0.0 && step.cost.download >= 0.0);
            prop_assert!(step.action != Action::Expire || step.cost.monthly <= 0.0);
            prop_assert!(step.action != Action::Leave || !step.warnings.is_empty());
        }
    }

    #[test]
    fn nothing_younger_than_its_age_is_touched(objects in some_objects(), policy in some_policy(), today in 0u64..80) {
        let planned = actions(&objects, &policy, today);
        for object in &objects {
            let age = |since: NaiveDate| (date(today) - since).num_days();
            let is_old = |since, after: Option<Duration>| {
                after.is_some_and(|after| age(since) >= i64::try_from(whole_days(after)).unwrap_or(i64::MAX))
            };
            let archive = policy.archive.as_ref().map(|archive| archive.after);
            let transition = policy.transition.as_ref().map(|transition| transition.after);
            match planned.get(&object.key) {
                None => {}
                Some(Action::Archive) => prop_assert!(object.kind == Kind::Capture && is_old(object.date, archive)),
                Some(Action::Transition) => {
                    prop_assert!(object.kind != Kind::Index && archive.is_none() && is_old(object.date, transition));
                }
                Some(Action::Leave) => prop_assert!(object.kind != Kind::Index && is_old(object.date, archive.or(transition))),
                Some(Action::Expire) if object.kind == Kind::Index => {
                    let bundle = object.key.replace(".index.json", ".tar");
                    prop_assert_eq!(planned.get(&bundle), Some(&Action::Expire));
                }
                Some(Action::Expire) => prop_assert!(is_old(object.date, policy.expire.map(|expire| expire.after))),
            }
        }
    }

    #[test]
    fn expiring_counts_from_the_later_of_both(
        objects in some_objects(), policy in some_policy(), today in 0u64..80,
    ) {
        let planned = actions(&objects, &policy, today);
        for object in objects.iter().filter(|object| object.kind != Kind::Index) {
            let since = object.date.max(object.stored_at.date_naive());
            let due = policy.expire.is_some_and(|expire| since + Days::new(whole_days(expire.after)) <= date(today));
            prop_assert_eq!(planned.get(&object.key) == Some(&Action::Expire), due, "{:?}", object);
        }
    }

    #[test]
    fn a_clock_far_off_plans_nothing(objects in some_objects(), policy in some_policy(), today in 0u64..2000) {
        let latest = objects.iter().filter(|object| object.kind != Kind::Index)
            .map(|object| if object.date > object.stored_at.date_naive() + ZONES {
                object.stored_at.date_naive()
            } else {
                object.date.max(object.stored_at.date_naive())
            })
            .max();
        let ahead = latest.map_or(0, |latest| (date(today) - latest).num_days());
        prop_assert_eq!(plan(&objects, &policy, date(today)).is_ok(), (-1..=730).contains(&ahead));
    }

    #[test]
    fn a_run_takes_no_more_days_than_it_may_and_loses_none(
        objects in some_objects(), policy in some_policy(), today in 30u64..80, most in 0u32..6,
    ) {
        let Ok(steps) = plan(&objects, &policy, date(today)) else { return Ok(()) };
        let only = |steps: &[RotationStep], bundles: bool| -> Vec<RotationStep> {
            steps.iter().filter(|step| (step.action == Action::Archive) == bundles).cloned().collect()
        };
        let (kept, later) = limit(steps.clone(), most);
        prop_assert_eq!(only(&kept, false), only(&steps, false));
        let all = only(&steps, true);
        let taken = all.len().min(most.try_into().unwrap_or(usize::MAX));
        let without_keys = |step: &RotationStep| RotationStep { keys: Vec::new(), ..step.clone() };
        prop_assert_eq!(only(&kept, true), all[..taken].iter().map(without_keys).collect::<Vec<_>>());
        let rest = &all[taken..];
        let bytes: u64 = rest.iter().map(|step| step.bytes).sum();
        prop_assert_eq!((later.days, later.amount.bytes), (rest.len() as u64, bytes));
    }
}
