//! The requests that a step makes to S3, and what they cost and save.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use chrono::NaiveDate;
use serde::Serialize;

use super::prices::{self, RequestKind, STANDARD};
use super::warning::{Warning, Why, merge};
use super::{Amount, Candidate, MOST_MEMBERS, RotationStep, config};
use crate::bucket::Tier;

/// Keys in one page of a listing and in one deletion (S3 API Reference, `ListObjectsV2` and `DeleteObjects`).
const KEYS_A_REQUEST: u64 = 1000;

/// Bytes of a tar member's headers: the block that announces its extended header, and its own header (POSIX, "pax").
const MEMBER_HEADERS_BYTES: u64 = 2 * BLOCK_BYTES;

/// Bytes of a member's extended header without its key: size, times, checksums and event as JSON. Measured.
const MEMBER_NOTE_BYTES: u64 = 290;

/// A tar is padded to multiples of this.
const BLOCK_BYTES: u64 = 512;

/// Bytes of the two empty blocks that end a tar.
const TAR_END_BYTES: u64 = 2 * BLOCK_BYTES;

/// Bytes that describe the bundle in an index, without camera and key. Measured.
const INDEX_HEAD_BYTES: u64 = 320;

/// Bytes of a member's entry in an index, without its key and its name in the tar: offset, size, times, checksums and event
/// as JSON. Measured.
const INDEX_ENTRY_BYTES: u64 = 290;

/// What a step costs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cost {
    /// The requests to S3.
    pub requests: Requests,
    /// Dollars once: for the requests, for the bytes that copies read, and for the rest of minimum storage durations. In the
    /// plan of a bucket with versions also those of `undo`.
    pub now: f64,
    /// Dollars once for what is deleted in a bucket with versions and stays there until `s3.undo` is over, as far as no
    /// minimum storage duration charges for these days; 0 in the plan of a bucket without versions.
    pub undo: f64,
    /// Dollars a month on top of today's bill; a negative number is saved.
    pub monthly: f64,
    /// Dollars once, on top of `now`, to download the members that have no copy on this box. It counts all members.
    pub download: f64,
}

impl AddAssign<&Self> for Cost {
    fn add_assign(&mut self, other: &Self) {
        self.requests += &other.requests;
        self.now += other.now;
        self.undo += other.undo;
        self.monthly += other.monthly;
        self.download += other.download;
    }
}

/// What bundles cost in a storage class, and how soon they can be read there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BundleClass {
    /// The class.
    pub class: String,
    /// Dollars a month for all of the bundles.
    pub monthly: f64,
    /// Dollars for each GB that is read, without sending it anywhere.
    pub read_gb: f64,
    /// How long a restore at the standard tier takes before anything can be read; `None`: it can be read immediately.
    pub wait: Option<&'static str>,
}

/// Returns what `bundles` would cost in the configured class and, to compare, in `GLACIER_IR` and `GLACIER`; empty if
/// there are no bundles, or if no price is known for the configured class.
pub fn bundle_classes(bundles: &[RotationStep], archive: &config::ArchiveSettings) -> Vec<BundleClass> {
    if bundles.is_empty() || !prices::is_known(&archive.class) {
        return Vec::new();
    }
    let classes = ["GLACIER_IR", "GLACIER"].into_iter().filter(|class| *class != archive.class);
    let monthly = |class: &str| -> f64 {
        let of_day = |step: &RotationStep| {
            let Amount { objects, bytes } = step.amount();
            let parts = parts(bytes, objects, archive);
            // A capture and the note about it fill half of their last blocks on average.
            let headers = MEMBER_HEADERS_BYTES + MEMBER_NOTE_BYTES + BLOCK_BYTES;
            let tar = bytes.saturating_add(objects * headers + parts * TAR_END_BYTES);
            prices::real(parts) * prices::storage_month(class, tar.div_ceil(parts))
        };
        bundles.iter().map(of_day).sum()
    };
    let choice = |class: &str| {
        let gigabyte = Amount { objects: 0, bytes: 1 << 30 };
        let restore = prices::restore(class, Tier::Standard, gigabyte);
        BundleClass {
            class: class.to_owned(),
            monthly: monthly(class),
            read_gb: restore.map_or_else(|| prices::read(class, gigabyte.bytes), |restore| restore.price),
            wait: restore.map(|restore| restore.time),
        }
    };
    std::iter::once(archive.class.as_str()).chain(classes).map(choice).collect()
}

/// Returns how many bundles so many captures with so many bytes fill.
fn parts(bytes: u64, captures: u64, archive: &config::ArchiveSettings) -> u64 {
    bytes.div_ceil(archive.part_size.max(1)).max(captures.div_ceil(MOST_MEMBERS as u64)).max(1)
}

/// The number of requests of each kind, by storage class where the class sets the price.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Pages of listings.
    pub list: u64,
    /// Uploads, by the class they go into.
    pub put: BTreeMap<String, u64>,
    /// HEAD requests, by the class of their object.
    pub head: BTreeMap<String, u64>,
    /// Copies, by the class they go into.
    pub copy: BTreeMap<String, u64>,
    /// Deletions, of up to 1,000 keys each.
    pub delete: u64,
}

impl Requests {
    /// Returns the number of all requests.
    pub fn count(&self) -> u64 {
        let by_class = [&self.put, &self.head, &self.copy].map(|requests| requests.values().sum::<u64>());
        self.list + self.delete + by_class.iter().sum::<u64>()
    }

    /// Returns the dollars for all requests.
    pub fn price(&self) -> f64 {
        let price = |kind, class: &str, count: u64| prices::request(kind, class) * prices::real(count);
        let by_class =
            [(RequestKind::Put, &self.put), (RequestKind::Head, &self.head), (RequestKind::Copy, &self.copy)];
        let by_class =
            by_class.iter().flat_map(|(kind, classes)| classes.iter().map(|(class, n)| price(*kind, class, *n)));
        price(RequestKind::List, STANDARD, self.list)
            + price(RequestKind::Delete, STANDARD, self.delete)
            + by_class.sum::<f64>()
    }
}

impl AddAssign<&Self> for Requests {
    fn add_assign(&mut self, other: &Self) {
        self.list += other.list;
        self.delete += other.delete;
        for (sum, more) in [(&mut self.put, &other.put), (&mut self.head, &other.head), (&mut self.copy, &other.copy)] {
            for (class, count) in more {
                *sum.entry(class.clone()).or_default() += count;
            }
        }
    }
}

/// Returns the cost and the warnings of bundling the `members` of a camera-day: the day is listed, each part and its index
/// are put and confirmed, the day is listed again, and the members are deleted.
pub(super) fn of_bundle(
    members: &[&Candidate],
    archive: &config::ArchiveSettings,
    today: NaiveDate,
    undo_days: u32,
) -> (Cost, Vec<Warning>) {
    let bytes: u64 = members.iter().map(|member| member.size).sum();
    let parts = parts(bytes, members.len() as u64, archive);
    let pages = pages(members);
    let index_and_bundle = || {
        let mut requests = BTreeMap::from([(STANDARD.to_owned(), parts)]);
        *requests.entry(archive.class.clone()).or_default() += parts;
        requests
    };
    let requests = Requests {
        // One page more, of the archive's folder.
        list: 2 * pages + 1,
        put: index_and_bundle(),
        head: index_and_bundle(),
        copy: BTreeMap::new(),
        delete: pages,
    };

    let tar: u64 = members.iter().map(|member| member_bytes(member)).sum::<u64>() + parts * TAR_END_BYTES;
    let index: u64 = members.iter().map(|member| index_bytes(member)).sum::<u64>() + parts * INDEX_HEAD_BYTES;
    let stored = prices::real(parts) * prices::storage_month(&archive.class, tar.div_ceil(parts))
        + prices::storage_month(STANDARD, index);
    let get = |member: &&Candidate| {
        prices::request(RequestKind::Get, &member.class) + prices::read(&member.class, member.size)
    };
    let download = members.iter().map(get).sum::<f64>() + prices::egress(bytes);
    let (early, warnings) = leaving(members, Some(&archive.class), today);
    let undo = old_versions(members, today, undo_days);
    let now = requests.price() + early;
    (Cost { requests, now, undo, monthly: stored - storage(members), download }, warnings)
}

/// Returns the cost and the warnings of moving `objects` to `class`: one copy for each. In a bucket with versions nothing
/// is moved.
pub(super) fn of_transition(objects: &[&Candidate], class: &str, today: NaiveDate) -> (Cost, Vec<Warning>) {
    let copies: u64 = objects.iter().map(|_| 1).sum();
    let requests =
        Requests { list: pages(objects), copy: BTreeMap::from([(class.to_owned(), copies)]), ..Requests::default() };
    let stored: f64 = objects.iter().map(|object| prices::storage_month(class, object.size)).sum();
    let read: f64 = objects.iter().map(|object| prices::read(&object.class, object.size)).sum();
    let (early, warnings) = leaving(objects, Some(class), today);
    let now = requests.price() + read + early;
    (Cost { requests, now, monthly: stored - storage(objects), ..Cost::default() }, warnings)
}

/// Returns the cost and the warnings of deleting `objects`: deletions are free, but the camera-day and its archive are
/// listed.
pub(super) fn of_expiry(objects: &[&Candidate], today: NaiveDate, undo_days: u32) -> (Cost, Vec<Warning>) {
    let pages = pages(objects);
    let requests = Requests { list: pages + 1, delete: pages, ..Requests::default() };
    let (early, warnings) = leaving(objects, None, today);
    let undo = old_versions(objects, today, undo_days);
    let now = requests.price() + early;
    // Not `-storage`: for no bytes that is a negative zero, which would be printed as -0.
    (Cost { requests, now, undo, monthly: 0.0 - storage(objects), download: 0.0 }, warnings)
}

/// Returns what it costs to keep `objects` as old versions for `undo_days` after they are deleted. Days that the minimum
/// storage duration of their class charges for anyhow cost nothing more.
fn old_versions(objects: &[&Candidate], today: NaiveDate, undo_days: u32) -> f64 {
    let cost = |object: &Candidate| {
        let charged = prices::minimum_days(&object.class).saturating_sub(age(object, today));
        prices::storage_days(&object.class, object.size, undo_days.saturating_sub(charged))
    };
    // Not `sum`, which for no objects is a negative zero.
    objects.iter().fold(0.0, |sum, object| sum + cost(object))
}

/// Returns the days since an object was written.
fn age(object: &Candidate, today: NaiveDate) -> u32 {
    u32::try_from((today - object.written_at.date_naive()).num_days()).unwrap_or(0)
}

/// Returns the pages that a listing of these objects takes.
fn pages(objects: &[&Candidate]) -> u64 {
    u64::try_from(objects.len()).unwrap_or(u64::MAX).div_ceil(KEYS_A_REQUEST).max(1)
}

/// Returns what storing the objects costs a month, in their present classes.
fn storage(objects: &[&Candidate]) -> f64 {
    objects.iter().map(|object| prices::storage_month(&object.class, object.size)).sum()
}

/// Returns the bytes that a member takes in a tar.
fn member_bytes(member: &Candidate) -> u64 {
    let note = MEMBER_NOTE_BYTES + length(&member.key);
    member.size.next_multiple_of(BLOCK_BYTES) + note.next_multiple_of(BLOCK_BYTES) + MEMBER_HEADERS_BYTES
}

/// Returns the bytes that a member takes in an index.
fn index_bytes(member: &Candidate) -> u64 {
    // The index repeats the part of the key after the day, which by default is the file's name.
    let name = member.key.rsplit('/').next().unwrap_or(&member.key);
    INDEX_ENTRY_BYTES + length(&member.key) + length(name)
}

fn length(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

/// Returns what it costs to delete or overwrite `objects` before their classes' minimum storage duration, with a warning
/// about each such class and about each class without a known price. `target` is the class they go to, if any.
fn leaving(objects: &[&Candidate], target: Option<&str>, today: NaiveDate) -> (f64, Vec<Warning>) {
    let mut warnings = Vec::new();
    for object in objects {
        let class = object.class.clone();
        if let Some(dollars) = prices::early(&class, object.size, age(object, today)) {
            let why = Why::Early { minimum_days: prices::minimum_days(&class), class };
            warnings.push(Warning { dollars, ..Warning::about(why, object.size) });
        }
    }
    let dollars = warnings.iter().map(|warning| warning.dollars).fold(0.0, |sum, dollars| sum + dollars);
    let classes: BTreeSet<&str> = objects.iter().map(|object| object.class.as_str()).chain(target).collect();
    let unpriced = classes.into_iter().filter(|class| !prices::is_known(class));
    warnings.extend(unpriced.map(|class| Warning::new(Why::Unpriced { class: class.to_owned() })));
    (dollars, merge(warnings))
}
