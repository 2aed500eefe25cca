//! Which local copies to give up: a pure function of the copies, the free room and the limits.

use chrono::{Days, NaiveDate};

/// The copies of one camera and day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyDay {
    /// The camera.
    pub camera: String,
    /// The date at the camera.
    pub date: NaiveDate,
    /// The bytes of all its copies.
    pub bytes: u64,
    /// Whether any of its copies can still be given up; its bytes count in any case.
    pub open: bool,
    /// Whether its bundle is due but not made. Such a day goes last, and not because of its age: without the copies,
    /// everything would have to be downloaded for the bundle.
    pub waits: bool,
}

/// The limits for local copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyLimits {
    /// The number of days that copies stay.
    pub days: u32,
    /// The most bytes that all copies may take; `None` for no limit.
    pub max_size: Option<u64>,
    /// The bytes to leave free on their file system.
    pub min_free: u64,
    /// The bytes to give up in any case, because a write has just failed.
    pub needed: u64,
}

/// What to give up of one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The index of the day in the list of days.
    pub day: usize,
    /// The least bytes to give up, oldest copies first. All bytes of the day mean the whole day.
    pub bytes: u64,
}

/// Returns what to give up of `days`, oldest first, if `free` bytes are free.
///
/// `today` decides what is too old; with `None`, when the clock is not believed, nothing is. Days that wait for their
/// bundle go after all others. Days with the same date go in the order of their cameras' names. If less than `min_free` is
/// free, an eighth of it is given up on top, so that the next capture does not cause the next run.
pub fn plan(days: &[CopyDay], free: u64, today: Option<NaiveDate>, limits: &CopyLimits) -> Vec<Share> {
    let total: u64 = days.iter().map(|day| day.bytes).sum();
    let over = limits.max_size.map_or(0, |most| total.saturating_sub(most));
    let short = if free < limits.min_free { limits.min_free + limits.min_free / 8 - free } else { 0 };
    let mut wanted = over.max(short).max(limits.needed);

    let mut oldest_first: Vec<usize> = (0..days.len()).filter(|index| days[*index].open).collect();
    oldest_first.sort_by(|one, other| {
        let order = |index: usize| (days[index].waits, days[index].date, &days[index].camera);
        order(*one).cmp(&order(*other))
    });
    let mut shares = Vec::new();
    for day in oldest_first {
        let CopyDay { bytes, date, waits, .. } = days[day];
        let share = if !waits && today.is_some_and(|today| is_too_old(date, today, limits.days)) {
            bytes
        } else if wanted > 0 && bytes > 0 {
            wanted.min(bytes)
        } else {
            continue;
        };
        wanted = wanted.saturating_sub(share);
        shares.push(Share { day, bytes: share });
    }
    shares
}

/// Returns `today` if the clock is believed. It is not if even the newest copy is more than a day past its time.
///
/// While the daemon runs, copies are given up day by day. All of them can be too old together only if this box was off for
/// a long time, or if its clock has jumped ahead. We cannot tell which, so the copies stay until the next capture shows
/// it. A clock that is behind does no harm: it gives up too little.
pub fn believed(today: NaiveDate, days: &[CopyDay], keep_days: u32) -> Option<NaiveDate> {
    let newest = days.iter().map(|day| day.date).max()?;
    // With `keep.days` at 0 every copy is always past its time.
    let jumped = keep_days > 0 && is_too_old(newest, today, keep_days.saturating_add(2));
    (!jumped).then_some(today)
}

fn is_too_old(date: NaiveDate, today: NaiveDate, days: u32) -> bool {
    date.checked_add_days(Days::new(days.into())).is_some_and(|last| last <= today)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn date(day: u64) -> NaiveDate {
        NaiveDate::from_ymd_opt(2022, 2, 1).unwrap() + Days::new(day)
    }

    fn day(camera: &str, on: u64, bytes: u64) -> CopyDay {
        CopyDay { camera: camera.to_owned(), date: date(on), bytes, open: true, waits: false }
    }

    const ALL: CopyLimits = CopyLimits { days: 1000, max_size: None, min_free: 0, needed: 0 };

    fn planned(days: &[CopyDay], free: u64, today: u64, limits: CopyLimits) -> Vec<(usize, u64)> {
        plan(days, free, Some(date(today)), &limits).iter().map(|share| (share.day, share.bytes)).collect()
    }

    #[test]
    fn copies_go_by_age_by_size_and_by_what_is_free() {
        let days = [day("B", 2, 10), day("A", 2, 20), day("A", 1, 30), day("A", 9, 40)];
        for (free, today, limits, expected) in [
            (0, 9, ALL, vec![]),
            (0, 9, CopyLimits { days: 8, ..ALL }, vec![(2, 30)]),
            (0, 9, CopyLimits { days: 7, ..ALL }, vec![(2, 30), (1, 20), (0, 10)]),
            (0, 9, CopyLimits { days: 0, ..ALL }, vec![(2, 30), (1, 20), (0, 10), (3, 40)]),
            (0, 9, CopyLimits { max_size: Some(100), ..ALL }, vec![]),
            (0, 9, CopyLimits { max_size: Some(65), ..ALL }, vec![(2, 30), (1, 5)]),
            // What is too old counts towards what is to be freed.
            (0, 9, CopyLimits { max_size: Some(75), days: 8, ..ALL }, vec![(2, 30)]),
            (16, 9, CopyLimits { min_free: 16, ..ALL }, vec![]),
            (15, 9, CopyLimits { min_free: 16, ..ALL }, vec![(2, 3)]),
            (0, 9, CopyLimits { min_free: 32, ..ALL }, vec![(2, 30), (1, 6)]),
            (99, 9, CopyLimits { needed: 31, ..ALL }, vec![(2, 30), (1, 1)]),
        ] {
            assert_eq!(planned(&days, free, today, limits), expected, "{limits:?}");
        }
    }

    #[test]
    fn a_day_of_which_nothing_can_go_is_passed_over_but_counts() {
        let days = [CopyDay { open: false, ..day("A", 1, 30) }, day("A", 2, 20)];
        assert_eq!(planned(&days, 0, 9, CopyLimits { max_size: Some(40), days: 5, ..ALL }), [(1, 20)]);
        assert_eq!(planned(&days, 0, 9, CopyLimits { max_size: Some(40), ..ALL }), [(1, 10)]);
    }

    #[test]
    fn a_day_that_waits_for_its_bundle_goes_last_and_not_by_age() {
        let days = [CopyDay { waits: true, ..day("A", 1, 30) }, day("A", 2, 20), day("A", 9, 40)];
        assert_eq!(planned(&days, 0, 9, CopyLimits { days: 5, ..ALL }), [(1, 20)]);
        assert_eq!(planned(&days, 0, 9, CopyLimits { max_size: Some(5), ..ALL }), [(1, 20), (2, 40), (0, 25)]);
    }

    #[test]
    fn a_clock_that_jumps_gives_nothing_up_by_age() {
        let days = [day("A", 1, 30), day("A", 20, 20)];
        let keep = |keep_days, today| believed(date(today), &days, keep_days);
        assert_eq!(keep(5, 0), Some(date(0)), "behind, it gives up too little by itself");
        assert_eq!(keep(5, 25), Some(date(25)));
        assert_eq!(keep(5, 26), Some(date(26)));
        assert_eq!(keep(5, 27), None);
        assert_eq!(keep(5, 7000), None);
        assert_eq!(keep(0, 7000), Some(date(7000)));
        assert_eq!(believed(date(1), &[], 5), None);
        let free = CopyLimits { max_size: Some(45), days: 5, ..ALL };
        assert_eq!(plan(&days, 0, None, &free), [Share { day: 0, bytes: 5 }], "room is made all the same");
    }

    fn some_days() -> impl Strategy<Value = Vec<CopyDay>> {
        let day = ("[AB]", 0u64..20, 0u64..50, proptest::bool::weighted(0.9), proptest::bool::weighted(0.2))
            .prop_map(|(camera, on, bytes, open, waits)| CopyDay { open, waits, ..day(&camera, on, bytes) });
        proptest::collection::vec(day, 0..12)
    }

    fn some_limits() -> impl Strategy<Value = CopyLimits> {
        (0u32..25, proptest::option::of(0u64..300), 0u64..200, 0u64..60)
            .prop_map(|(days, max_size, min_free, needed)| CopyLimits { days, max_size, min_free, needed })
    }

    fn given(days: &[CopyDay], shares: &[Share]) -> Vec<u64> {
        let mut given = vec![0; days.len()];
        for share in shares {
            given[share.day] += share.bytes;
        }
        given
    }

    proptest! {
        #[test]
        fn oldest_first_and_no_more_than_needed(
            days in some_days(), limits in some_limits(), free in 0u64..200, today in 0u64..40,
        ) {
            let today = Some(date(today));
            let shares = plan(&days, free, today, &limits);
            let given = given(&days, &shares);
            let old = |day: &CopyDay| !day.waits && today.is_some_and(|today| is_too_old(day.date, today, limits.days));
            let by_age: u64 = days.iter().filter(|day| day.open && old(day)).map(|day| day.bytes).sum();
            let total: u64 = days.iter().map(|day| day.bytes).sum();
            let open: u64 = days.iter().filter(|day| day.open).map(|day| day.bytes).sum();
            let over = limits.max_size.map_or(0, |most| total.saturating_sub(most));
            let short = if free < limits.min_free { limits.min_free * 9 / 8 - free } else { 0 };
            let needed = over.max(short).max(limits.needed).min(open);
            prop_assert_eq!(given.iter().sum::<u64>(), by_age.max(needed));
            for (index, day) in days.iter().enumerate() {
                prop_assert!(given[index] <= day.bytes && (day.open || given[index] == 0));
                prop_assert!(!day.open || !old(day) || given[index] == day.bytes);
                // Whatever is older than something given up is given up as a whole, and what waits only after all else.
                let newer = days.iter().enumerate().any(|(other, that)| {
                    given[other] > 0 && !old(that) && (that.waits, that.date, &that.camera) > (day.waits, day.date, &day.camera)
                });
                prop_assert!(!newer || !day.open || given[index] == day.bytes);
            }
        }

        #[test]
        fn who_wants_more_room_gives_up_no_less(
            days in some_days(), limits in some_limits(), free in 0u64..200, today in 0u64..40,
            tighter in (0u32..5, 0u64..50, 0u64..50, 0u64..50, 0u64..5),
        ) {
            let (fewer, smaller, freer, taken, later) = tighter;
            let before = given(&days, &plan(&days, free, Some(date(today)), &limits));
            let strict = CopyLimits {
                days: limits.days.saturating_sub(fewer),
                max_size: limits.max_size.map(|most| most.saturating_sub(smaller)),
                min_free: limits.min_free + freer,
                ..limits
            };
            let after = given(&days, &plan(&days, free.saturating_sub(taken), Some(date(today + later)), &strict));
            prop_assert!(before.iter().zip(&after).all(|(before, after)| before <= after), "{before:?} {after:?}");
        }

        #[test]
        fn what_is_done_is_not_asked_for_again(
            days in some_days(), limits in some_limits(), free in 0u64..200, today in 0u64..40,
        ) {
            let limits = CopyLimits { needed: 0, ..limits };
            let given = given(&days, &plan(&days, free, Some(date(today)), &limits));
            let left: Vec<CopyDay> = days.iter().zip(&given)
                .map(|(day, given)| CopyDay { bytes: day.bytes - given, ..day.clone() })
                .filter(|day| day.bytes > 0)
                .collect();
            let open: u64 = left.iter().filter(|day| day.open).map(|day| day.bytes).sum();
            let again = plan(&left, free + given.iter().sum::<u64>(), Some(date(today)), &limits);
            prop_assert!(open == 0 || again.is_empty(), "{again:?}");
        }
    }
}
