//! What S3 asks for: list prices of us-east-1 as of October 2025, in dollars.
//!
//! Prices are shown and never decide anything. Free allowances, discounts, taxes and other regions are left out. A class
//! that is not in the table, as other stores have, costs nothing here; [`is_known`] tells the two apart.

use serde::Serialize;

use crate::bucket::Tier;

/// What S3 calls a GB.
const GB_BYTES: f64 = 1_073_741_824.0;

const KIB: u64 = 1 << 10;

/// Days of a month, by which S3 splits a monthly price.
const MONTH_DAYS: f64 = 30.0;

/// Dollars a GB that leaves S3 for the internet.
const EGRESS_GB: f64 = 0.09;

/// The class that listings and an object's overhead are charged at.
pub const STANDARD: &str = "STANDARD";

/// What one storage class costs.
struct Class {
    name: &'static str,
    /// Dollars a GB a month.
    storage_gb: f64,
    /// Dollars for 1,000 PUT, COPY or LIST, and for 1,000 transitions into the class.
    put_1000: f64,
    /// Dollars for 1,000 GET or HEAD.
    get_1000: f64,
    /// Dollars a GB that is read, by GET or as the source of a COPY.
    read_gb: f64,
    /// Days that are charged for in any case.
    minimum_days: u32,
    /// Bytes that are charged for in any case.
    minimum_bytes: u64,
    /// Bytes that S3 adds to each object, at the price of the class and at that of [`STANDARD`].
    overhead_bytes: (u64, u64),
    restores: &'static [(Tier, Fee)],
}

/// What a restore costs and how long it takes.
struct Fee {
    gb: f64,
    thousand: f64,
    time: &'static str,
}

/// Most classes differ from this one in little.
const PLAIN: Class = Class {
    name: STANDARD,
    storage_gb: 0.023,
    put_1000: 0.005,
    get_1000: 0.0004,
    read_gb: 0.0,
    minimum_days: 0,
    minimum_bytes: 0,
    overhead_bytes: (0, 0),
    restores: &[],
};

/// By "Amazon S3 pricing", and for the minimums by "Understanding and managing Amazon S3 storage classes".
///
/// `INTELLIGENT_TIERING` stands at its first tier, without the fee for watching it.
static CLASSES: [Class; 8] = [
    PLAIN,
    Class { name: "INTELLIGENT_TIERING", ..PLAIN },
    Class { name: "REDUCED_REDUNDANCY", storage_gb: 0.024, ..PLAIN },
    Class {
        name: "STANDARD_IA",
        storage_gb: 0.0125,
        put_1000: 0.01,
        get_1000: 0.001,
        read_gb: 0.01,
        minimum_days: 30,
        minimum_bytes: 128 * KIB,
        ..PLAIN
    },
    Class {
        name: "ONEZONE_IA",
        storage_gb: 0.01,
        put_1000: 0.01,
        get_1000: 0.001,
        read_gb: 0.01,
        minimum_days: 30,
        minimum_bytes: 128 * KIB,
        ..PLAIN
    },
    Class {
        name: "GLACIER_IR",
        storage_gb: 0.004,
        put_1000: 0.02,
        get_1000: 0.01,
        read_gb: 0.03,
        minimum_days: 90,
        minimum_bytes: 128 * KIB,
        ..PLAIN
    },
    Class {
        name: "GLACIER",
        storage_gb: 0.0036,
        put_1000: 0.03,
        minimum_days: 90,
        overhead_bytes: (32 * KIB, 8 * KIB),
        restores: &[
            (Tier::Expedited, Fee { gb: 0.03, thousand: 10.0, time: "1 to 5 minutes" }),
            (Tier::Standard, Fee { gb: 0.01, thousand: 0.05, time: "3 to 5 hours" }),
            (Tier::Bulk, Fee { gb: 0.0, thousand: 0.0, time: "5 to 12 hours" }),
        ],
        ..PLAIN
    },
    Class {
        name: "DEEP_ARCHIVE",
        storage_gb: 0.00099,
        put_1000: 0.05,
        minimum_days: 180,
        overhead_bytes: (32 * KIB, 8 * KIB),
        restores: &[
            (Tier::Standard, Fee { gb: 0.02, thousand: 0.10, time: "12 hours" }),
            (Tier::Bulk, Fee { gb: 0.0025, thousand: 0.025, time: "48 hours" }),
        ],
        ..PLAIN
    },
];

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// A page of a listing.
    List,
    /// An upload into the class.
    Put,
    /// A copy into the class: the price of a transition too.
    Copy,
    /// A download.
    Get,
    /// A look at what is told of an object.
    Head,
    /// A deletion: free.
    Delete,
}

/// What it takes to read archived objects again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RestorePrice {
    /// Dollars.
    pub price: f64,
    /// How long it takes, for people.
    pub time: &'static str,
}

/// Whether the table has the class.
pub fn is_known(class: &str) -> bool {
    find(class).is_some()
}

/// Dollars a month for one object of `size` bytes, its class's minimum size and overhead included.
pub fn storage_month(class: &str, size: u64) -> f64 {
    find(class).map_or(0.0, |class| {
        let (own, standard) = class.overhead_bytes;
        gigabytes(size.max(class.minimum_bytes).saturating_add(own)) * class.storage_gb
            + gigabytes(standard) * PLAIN.storage_gb
    })
}

/// Dollars for one request to an object of `class`; what is read costs [`read`] on top.
pub fn request(kind: RequestKind, class: &str) -> f64 {
    let Some(class) = find(class) else { return 0.0 };
    match kind {
        RequestKind::List => PLAIN.put_1000 / 1000.0,
        RequestKind::Put | RequestKind::Copy => class.put_1000 / 1000.0,
        RequestKind::Get | RequestKind::Head => class.get_1000 / 1000.0,
        RequestKind::Delete => 0.0,
    }
}

/// Dollars for reading `bytes` of `class`, wherever they go.
pub fn read(class: &str, bytes: u64) -> f64 {
    find(class).map_or(0.0, |class| gigabytes(bytes) * class.read_gb)
}

/// Dollars for `bytes` that leave S3 for the internet; the 100 GB a month that are free are not taken off.
pub fn egress(bytes: u64) -> f64 {
    gigabytes(bytes) * EGRESS_GB
}

/// What it takes to restore `objects` of `bytes` together; `None` where the class needs none or has no such tier.
pub fn restore(class: &str, tier: Tier, objects: u64, bytes: u64) -> Option<RestorePrice> {
    let (_, fee) = find(class)?.restores.iter().find(|(offered, _)| *offered == tier)?;
    Some(RestorePrice { price: gigabytes(bytes) * fee.gb + real(objects) / 1000.0 * fee.thousand, time: fee.time })
}

/// Days that an object of the class is charged for in any case.
pub fn minimum_days(class: &str) -> u32 {
    find(class).map_or(0, |class| class.minimum_days)
}

/// Dollars for the rest of its class's minimum where an object of `size` bytes goes at the age of `days`; `None`: that is over.
pub fn early(class: &str, size: u64, days: u32) -> Option<f64> {
    let left = minimum_days(class).checked_sub(days).filter(|left| *left > 0)?;
    Some(storage_month(class, size) * f64::from(left) / MONTH_DAYS)
}

fn find(class: &str) -> Option<&'static Class> {
    CLASSES.iter().find(|known| known.name == class)
}

fn gigabytes(bytes: u64) -> f64 {
    real(bytes) / GB_BYTES
}

#[expect(clippy::cast_precision_loss, reason = "a sum of money for people needs no 53 bits")]
pub(super) fn real(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(one: f64, other: f64) {
        assert!((one - other).abs() < 1e-9, "{one} {other}");
    }

    const GB: u64 = 1 << 30;

    #[test]
    fn storage_counts_the_minimum_size_and_the_overhead() {
        for (class, size, dollars) in [
            ("STANDARD", GB, 0.023),
            ("STANDARD", 0, 0.0),
            ("STANDARD_IA", 1, 0.0125 / 8192.0),
            ("STANDARD_IA", 128 << 10, 0.0125 / 8192.0),
            ("GLACIER_IR", 256 << 10, 0.004 / 4096.0),
            ("GLACIER", GB, 0.0036 * (1.0 + 1.0 / 32768.0) + 0.023 / 131_072.0),
            ("DEEP_ARCHIVE", 0, 0.00099 / 32768.0 + 0.023 / 131_072.0),
            ("COLD-STORE", GB, 0.0),
        ] {
            near(storage_month(class, size), dollars);
        }
        assert!(is_known("GLACIER") && !is_known("COLD-STORE"));
    }

    #[test]
    fn a_restore_has_the_tiers_of_its_class() {
        for (class, tier, expected) in [
            ("GLACIER", Tier::Expedited, Some((0.06 + 0.02, "1 to 5 minutes"))),
            ("GLACIER", Tier::Standard, Some((0.02 + 0.0001, "3 to 5 hours"))),
            ("GLACIER", Tier::Bulk, Some((0.0, "5 to 12 hours"))),
            ("DEEP_ARCHIVE", Tier::Expedited, None),
            ("DEEP_ARCHIVE", Tier::Standard, Some((0.04 + 0.0002, "12 hours"))),
            ("DEEP_ARCHIVE", Tier::Bulk, Some((0.005 + 0.000_05, "48 hours"))),
            ("GLACIER_IR", Tier::Standard, None),
            ("COLD-STORE", Tier::Standard, None),
        ] {
            let restore = restore(class, tier, 2, 2 * GB);
            assert_eq!(restore.map(|restore| restore.time), expected.map(|(_, time)| time), "{class} {tier:?}");
            if let (Some(restore), Some((price, _))) = (restore, expected) {
                near(restore.price, price);
            }
        }
    }

    #[test]
    fn who_deletes_before_the_minimum_pays_for_the_rest_of_it() {
        near(early("STANDARD_IA", GB, 0).unwrap(), 0.0125);
        near(early("GLACIER_IR", GB, 75).unwrap(), 0.002);
        assert_eq!(early("GLACIER", GB, 90), None);
        assert_eq!(early("STANDARD", GB, 0), None);
        assert_eq!(
            [30, 30, 90, 90, 180],
            ["STANDARD_IA", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"].map(minimum_days)
        );
    }

    #[test]
    fn requests_cost_what_their_class_asks() {
        for (kind, class, thousand) in [
            (RequestKind::List, "GLACIER", 0.005),
            (RequestKind::Put, "STANDARD", 0.005),
            (RequestKind::Put, "GLACIER", 0.03),
            (RequestKind::Copy, "GLACIER_IR", 0.02),
            (RequestKind::Copy, "DEEP_ARCHIVE", 0.05),
            (RequestKind::Head, "GLACIER", 0.0004),
            (RequestKind::Get, "STANDARD", 0.0004),
            (RequestKind::Delete, "GLACIER", 0.0),
            (RequestKind::Put, "COLD-STORE", 0.0),
        ] {
            near(request(kind, class) * 1000.0, thousand);
        }
        near(egress(2 * GB), 0.18);
        near(read("GLACIER_IR", 2 * GB), 0.06);
    }
}
