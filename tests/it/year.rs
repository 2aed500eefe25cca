//! Some weeks of a small site: every day is found again, every capture comes back, and the plans told what it costs.
//!
//! The full size, a year, is a figure: `cargo bench --bench figures -- year`. `HK_AWS_YEAR_CAPTURES` lets a year of twelve
//! cameras go by with so many captures a day of each.

use crate::support::year::Year;

/// What the estimates may be off, in percent.
const MOST_OFF: f64 = 5.0;

#[tokio::test]
async fn days_go_by_and_each_comes_back_and_costs_what_the_plans_said() {
    let weeks = [
        (Year { cameras: 2, captures: 12, days: 40, class: "GLACIER", expire: 0, fetch_one_of: 5 }, 11),
        (Year { cameras: 1, captures: 10, days: 45, class: "GLACIER_IR", expire: 38, fetch_one_of: 5 }, 8),
    ];
    let whole = |captures| Year { cameras: 12, captures, days: 365, class: "GLACIER_IR", expire: 0, fetch_one_of: 30 };
    let asked = std::env::var("HK_AWS_YEAR_CAPTURES");
    let years = asked.map_or(weeks.to_vec(), |captures| vec![(whole(captures.parse().unwrap()), 336)]);
    for (year, bundled_days) in years {
        let folder = tempfile::tempdir().unwrap();
        let bill = year.live(folder.path()).await.unwrap();
        eprintln!("{bill}");
        assert_eq!(bill.members, u64::from(year.cameras * year.captures * bundled_days));
        assert!(bill.off().iter().all(|off| off.abs() < MOST_OFF), "{bill}");
    }
}
