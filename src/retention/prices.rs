//! The storage classes of S3 and their list prices: us-east-1 as of October 2025, in dollars.
//!
//! Prices are shown and never decide anything. Free allowances, discounts, taxes and other regions are left out. A class
//! that is not in the table, as other stores have, counts as free of charge; [`is_known`] tells whether a class is in it.

use serde::Serialize;

use super::Amount;
use crate::bucket::Tier;

/// The bytes that S3 bills as one GB.
const GB_BYTES: f64 = 1_073_741_824.0;

const KIB: u64 = 1 << 10;

/// The days by which S3 divides a monthly price.
const MONTH_DAYS: f64 = 30.0;

/// Dollars for each GB that leaves S3 for the internet.
const EGRESS_GB: f64 = 0.09;

/// Dollars for an alarm of Amazon `CloudWatch` on one metric, for each month; the first ten of an account are free.
pub const ALARM_MONTH: f64 = 0.10;

/// The class whose prices apply to listings and to the index that S3 keeps for an archived object.
pub const STANDARD: &str = "STANDARD";

/// One storage class.
struct Class {
    name: &'static str,
    /// Its place among the classes from the warmest to the coldest; of two with one number, neither is colder.
    coldness: u8,
    /// Dollars for each GB and month.
    storage_gb: f64,
    /// Dollars for 1,000 PUT, COPY or LIST requests, and for 1,000 transitions into the class.
    put_1000: f64,
    /// Dollars for 1,000 GET or HEAD requests.
    get_1000: f64,
    /// Dollars for each GB that is read, by GET or as the source of a COPY.
    read_gb: f64,
    /// The minimum storage duration, which is charged even if the object is deleted before.
    minimum_days: u32,
    /// The smallest size that is charged.
    minimum_bytes: u64,
    /// Bytes that S3 adds to each object: those charged at the class's price, and those at [`STANDARD`]'s.
    overhead_bytes: (u64, u64),
    /// The ways to restore an object; empty for a class that can be read without.
    restores: &'static [(Tier, Fee)],
}

/// The price of a restore and the time it takes.
struct Fee {
    /// Dollars for each GB.
    gb: f64,
    /// Dollars for 1,000 objects.
    thousand: f64,
    time: &'static str,
}

/// The class that most others differ from in few fields.
const PLAIN: Class = Class {
    name: STANDARD,
    coldness: 0,
    storage_gb: 0.023,
    put_1000: 0.005,
    get_1000: 0.0004,
    read_gb: 0.0,
    minimum_days: 0,
    minimum_bytes: 0,
    overhead_bytes: (0, 0),
    restores: &[],
};

/// Prices from "Amazon S3 pricing", minimums from "Understanding and managing Amazon S3 storage classes".
///
/// `INTELLIGENT_TIERING` has the price of its first tier, without the fee for monitoring.
static CLASSES: [Class; 8] = [
    PLAIN,
    Class { name: "INTELLIGENT_TIERING", coldness: 1, ..PLAIN },
    Class { name: "REDUCED_REDUNDANCY", coldness: 1, storage_gb: 0.024, ..PLAIN },
    Class {
        name: "STANDARD_IA",
        coldness: 2,
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
        coldness: 3,
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
        coldness: 4,
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
        coldness: 5,
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
        coldness: 6,
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

/// The kinds of requests that have a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// A page of a listing.
    List,
    /// An upload into the class.
    Put,
    /// A copy into the class; a transition by a lifecycle rule costs the same.
    Copy,
    /// A download.
    Get,
    /// A request for an object's metadata.
    Head,
    /// A deletion, which is free.
    Delete,
}

/// The price of making archived objects readable, and the time it takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RestorePrice {
    /// Dollars.
    pub price: f64,
    /// The time, as a text for people.
    pub time: &'static str,
}

/// Returns whether the class is in the table.
pub fn is_known(class: &str) -> bool {
    find(class).is_some()
}

/// Returns a class's place among the classes from the warmest to the coldest; `None`: the class is not in the table.
pub(super) fn coldness(class: &str) -> Option<u8> {
    find(class).map(|class| class.coldness)
}

/// Returns the dollars a month for one object of `size` bytes, with its class's minimum size and overhead.
pub fn storage_month(class: &str, size: u64) -> f64 {
    find(class).map_or(0.0, |class| {
        let (own, standard) = class.overhead_bytes;
        gigabytes(size.max(class.minimum_bytes).saturating_add(own)) * class.storage_gb
            + gigabytes(standard) * PLAIN.storage_gb
    })
}

/// Returns the dollars for one object of `size` bytes that stays for `days`.
pub(super) fn storage_days(class: &str, size: u64, days: u32) -> f64 {
    storage_month(class, size) * f64::from(days) / MONTH_DAYS
}

/// Returns the dollars for one request to an object of `class`, without those for the bytes that it reads (see [`read`]).
pub fn request(kind: RequestKind, class: &str) -> f64 {
    let Some(class) = find(class) else { return 0.0 };
    match kind {
        RequestKind::List => PLAIN.put_1000 / 1000.0,
        RequestKind::Put | RequestKind::Copy => class.put_1000 / 1000.0,
        RequestKind::Get | RequestKind::Head => class.get_1000 / 1000.0,
        RequestKind::Delete => 0.0,
    }
}

/// Returns the dollars for reading `bytes` of `class`, without those for sending them anywhere (see [`egress`]).
pub fn read(class: &str, bytes: u64) -> f64 {
    find(class).map_or(0.0, |class| gigabytes(bytes) * class.read_gb)
}

/// Returns the dollars for `bytes` that leave S3 for the internet; the 100 GB that are free each month are not deducted.
pub fn egress(bytes: u64) -> f64 {
    gigabytes(bytes) * EGRESS_GB
}

/// Returns what restoring `what` takes; `None` if the class needs no restore or does not offer this tier.
pub fn restore(class: &str, tier: Tier, what: Amount) -> Option<RestorePrice> {
    let (_, fee) = find(class)?.restores.iter().find(|(offered, _)| *offered == tier)?;
    let price = gigabytes(what.bytes) * fee.gb + real(what.objects) / 1000.0 * fee.thousand;
    Some(RestorePrice { price, time: fee.time })
}

/// Returns the minimum storage duration of a class, which is charged even if an object is deleted before.
pub fn minimum_days(class: &str) -> u32 {
    find(class).map_or(0, |class| class.minimum_days)
}

/// Returns the dollars for the rest of the minimum storage duration of an object of `size` bytes that is deleted at the
/// age of `days`; `None` if that duration is over.
pub fn early(class: &str, size: u64, days: u32) -> Option<f64> {
    let left = minimum_days(class).checked_sub(days).filter(|left| *left > 0)?;
    Some(storage_days(class, size, left))
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
    fn every_class_that_can_be_configured_has_a_price_and_only_cold_ones_need_a_restore() {
        let mut configured = crate::config::STORAGE_CLASSES;
        let mut priced = CLASSES.each_ref().map(|class| class.name);
        configured.sort_unstable();
        priced.sort_unstable();
        assert_eq!(priced, configured);
        for class in &CLASSES {
            assert_eq!(!class.restores.is_empty(), crate::bucket::is_cold(class.name), "{}", class.name);
        }
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
            let restore = restore(class, tier, Amount { objects: 2, bytes: 2 * GB });
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
