//! What it costs to read out of a cold class, and how long it takes.

use crate::bucket::Tier;

/// A gigabyte, as prices count it.
const GB: f64 = 1_073_741_824.0;

/// What a gigabyte costs for a month in the standard class, where a restored copy lies, in dollars (list price,
/// us-east-1, October 2025).
const STANDARD_GB_MONTH: f64 = 0.023;

/// What a restore costs in dollars and how long it takes; `None` where the class has no such tier (Amazon S3 pricing,
/// us-east-1, October 2025; S3 User Guide, "Archive retrieval options").
pub(super) fn restore_price(class: &str, tier: Tier, objects: u64, bytes: u64) -> Option<(f64, &'static str)> {
    let (a_gigabyte, a_thousand, time) = match (class, tier) {
        ("GLACIER", Tier::Expedited) => (0.03, 10.0, "1 to 5 minutes"),
        ("GLACIER", Tier::Standard) => (0.01, 0.05, "3 to 5 hours"),
        ("GLACIER", Tier::Bulk) => (0.0, 0.0, "5 to 12 hours"),
        ("DEEP_ARCHIVE", Tier::Standard) => (0.02, 0.10, "12 hours"),
        ("DEEP_ARCHIVE", Tier::Bulk) => (0.0025, 0.025, "48 hours"),
        _ => return None,
    };
    Some((gigabytes(bytes) * a_gigabyte + number(objects) / 1000.0 * a_thousand, time))
}

/// What the copy costs that can be read for so many days, in dollars.
pub(super) fn copy_price(bytes: u64, days: u32) -> f64 {
    gigabytes(bytes) * STANDARD_GB_MONTH * f64::from(days) / 30.0
}

fn gigabytes(bytes: u64) -> f64 {
    number(bytes) / GB
}

#[expect(clippy::cast_precision_loss, reason = "prices are rounded to cents")]
fn number(number: u64) -> f64 {
    number as f64
}

/// Dollars, with as many digits as say something.
pub(super) fn money(dollars: f64) -> String {
    if dollars <= 0.0 {
        "nothing".to_owned()
    } else if dollars < 0.01 {
        "less than $0.01".to_owned()
    } else {
        format!("${dollars:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_and_times_are_those_of_the_list() {
        const GIB: u64 = 1 << 30;
        for (class, tier, objects, bytes, expected) in [
            ("GLACIER", Tier::Expedited, 1000, 100 * GIB, Some((13.0, "1 to 5 minutes"))),
            ("GLACIER", Tier::Standard, 1000, 100 * GIB, Some((1.05, "3 to 5 hours"))),
            ("GLACIER", Tier::Bulk, 1000, 100 * GIB, Some((0.0, "5 to 12 hours"))),
            ("DEEP_ARCHIVE", Tier::Standard, 2000, 100 * GIB, Some((2.2, "12 hours"))),
            ("DEEP_ARCHIVE", Tier::Bulk, 1000, 100 * GIB, Some((0.275, "48 hours"))),
            ("DEEP_ARCHIVE", Tier::Expedited, 1, GIB, None),
            ("STANDARD", Tier::Bulk, 1, GIB, None),
        ] {
            let price = restore_price(class, tier, objects, bytes);
            assert_eq!(price.map(|price| price.1), expected.map(|price| price.1), "{class} {tier:?}");
            let (dollars, wanted) = (price.map_or(0.0, |price| price.0), expected.map_or(0.0, |price| price.0));
            assert!((dollars - wanted).abs() < 1e-9, "{class} {tier:?}: {dollars}");
        }
        assert!((copy_price(30 * GIB, 7) - 0.161).abs() < 1e-9);
        assert_eq!([0.0, 0.001, 1.234].map(money), ["nothing", "less than $0.01", "$1.23"]);
    }
}
