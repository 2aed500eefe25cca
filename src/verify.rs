//! Holds the ledger and the indexes of bundles against the bucket.
//!
//! Listings show most of it: which objects there are, their sizes, and the MD5 of a bundle. A HEAD settles what they leave
//! open. A deep look asks the store for the SHA-256 of every object, and downloads only objects whose SHA-256 the store does
//! not have.
//!
//! A capture that is missing may have its last copy on this box: it is marked, so that the copy stays, and sent again if that
//! is wanted.
//!
//! A finding is a failure if something is wrong: a capture is nowhere, bytes are not the stored ones, nobody can look into a
//! bundle. It is a remark if the next rotation settles it, or if a lost ledger explains it.
//!
//! The daemon may work on a day while it is read. Whatever looks wrong is therefore looked at again, in an order in which no
//! capture that moves into a bundle can be missed: the ledger, the loose objects, the archive, the ledger again.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use chrono::NaiveDate;
use serde::Serialize;

use crate::holdings::{self, DayArchive, HoldingsError};
use crate::key::CameraName;
use crate::ledger::{self, Missing};
use crate::site::Site;

pub mod compare;
mod deep;
mod look;
mod rebuild;
mod resend;
mod settle;

pub use settle::{days_to_settle, settle_ledger};

use compare::{SeenDay, Since, judge};

/// What is found about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingKind {
    /// It was stored, nobody deleted it on purpose, and it is nowhere.
    Missing,
    /// Its bytes are not the ones that were stored.
    Altered,
    /// It is an index that cannot be read, or does not fit its bundle.
    Damaged,
    /// It is a bundle of this program without its index.
    #[serde(rename = "no index")]
    NoIndex,
    /// It could not be looked at.
    Unchecked,
    /// A remark: it is an archive of older scripts, which wrote no index.
    #[serde(rename = "no index")]
    Foreign,
    /// A remark: it is in the bucket and not in the ledger.
    Extra,
    /// A remark: it is an index without its bundle.
    Unfinished,
    /// A remark: it lies loose and in a bundle.
    Twice,
    /// A remark: the store does not have its SHA-256, and it cannot be downloaded now.
    Unproven,
    /// A remark: it is an index that was made again.
    Rebuilt,
    /// A remark: it was missing, and was sent again.
    Resent,
}

impl FindingKind {
    /// Returns whether something is wrong.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Missing | Self::Altered | Self::Damaged | Self::NoIndex | Self::Unchecked)
    }

    /// Returns whether the bytes that were stored are not there.
    fn is_lost(self) -> bool {
        matches!(self, Self::Missing | Self::Altered)
    }

    /// Returns the word that people read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Altered => "altered",
            Self::Damaged => "damaged",
            Self::NoIndex | Self::Foreign => "no index",
            Self::Unchecked => "unchecked",
            Self::Extra => "extra",
            Self::Unfinished => "unfinished",
            Self::Twice => "twice",
            Self::Unproven => "unproven",
            Self::Rebuilt => "rebuilt",
            Self::Resent => "resent",
        }
    }
}

/// Something that is wrong, or worth a remark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The camera.
    pub camera: String,
    /// The day.
    pub date: NaiveDate,
    /// The key that it is about.
    pub key: String,
    /// What is found.
    pub what: FindingKind,
    /// Whether something is wrong.
    pub failure: bool,
    /// What was seen.
    pub detail: String,
    /// What to do about it; empty if nothing.
    pub advice: String,
}

/// How thorough to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether the store is asked for the SHA-256 of every object.
    pub deep: bool,
    /// Whether damaged and lost indexes are made again.
    pub rebuild: bool,
    /// Whether captures that are missing are sent again, out of their local copies.
    pub resend: bool,
}

/// The result of one camera-day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// What was found.
    pub findings: Vec<Finding>,
    /// How many captures are there as they were stored.
    pub held: usize,
    /// How many bytes were downloaded.
    pub downloaded: u64,
}

/// Returns the cameras that this box's ledger knows.
///
/// # Errors
/// [`HoldingsError::Local`] if the ledger cannot be read.
pub fn ledger_cameras(site: &Site) -> Result<Vec<CameraName>, HoldingsError> {
    let folder = site.ledger();
    ledger::cameras(&folder).map_err(|error| unread(&folder, &error))
}

fn unread(ledger: &Path, error: &io::Error) -> HoldingsError {
    HoldingsError::local(format_args!("failed to read ledger {}", ledger.display()), error)
}

/// Returns the days of a camera that the ledger or the bucket knows, with what lies in its archive.
///
/// # Errors
/// [`HoldingsError::Local`] if the ledger cannot be read, [`HoldingsError::Refused`] if the bucket cannot be listed.
pub async fn days(site: &Site, camera: &str) -> Result<BTreeMap<NaiveDate, DayArchive>, HoldingsError> {
    let mut days = holdings::archives(site, camera).await?;
    let folder = site.ledger();
    let known = ledger::days(&folder, camera).map_err(|error| unread(&folder, &error))?;
    let bundled = ledger::bundles(&folder, camera).map(|bundle| bundle.date);
    for date in known.into_iter().chain(bundled).chain(holdings::loose_days(site, camera).await?.dates) {
        days.entry(date).or_default();
    }
    Ok(days)
}

/// Holds one camera-day against the bucket; `listed` is its archive, if that was listed before.
///
/// # Errors
/// As [`days`]: nothing is known of the day then.
pub async fn verify_day(
    site: &Site,
    camera: &str,
    date: NaiveDate,
    listed: Option<DayArchive>,
    options: Options,
) -> Result<Verified, HoldingsError> {
    let was_listed = listed.is_some();
    let mut seen = look::look(site, camera, date, listed).await?;
    let mut judged = judge(&seen);
    if was_listed && judged.findings.iter().any(|finding| finding.failure || finding.what == FindingKind::Extra) {
        seen = look::look(site, camera, date, None).await?;
        judged = judge(&seen);
    }
    let mut rebuilt = Rebuilt::default();
    if options.rebuild {
        rebuilt = rebuild_indexes(site, &seen).await;
        if !rebuilt.findings.is_empty() {
            seen = look::look(site, camera, date, None).await?;
            judged = judge(&seen);
        }
        rebuilt.explain_refusals(&mut judged.findings);
    }
    let mut downloaded = rebuilt.downloaded;
    if options.deep {
        downloaded += deep::look_closer(site, &seen, &mut judged).await?;
    }
    let mut findings = rebuilt.findings;
    let (mut marked, mut unmarked) = match resend::mark(site, &seen, &judged, options.deep) {
        Ok(marked) => (marked, None),
        Err(error) => (BTreeMap::new(), Some(error)),
    };
    if options.resend && judged.findings.iter().any(|finding| finding.failure) {
        match resend::resend(site, &seen, &marked).await {
            Ok(mut resent) => findings.append(&mut resent),
            Err(error) => {
                let detail = format!("not everything was sent again: {error}");
                findings.push(compare::finding(&seen, FindingKind::Unchecked, &date.to_string(), detail));
            }
        }
        seen = look::look(site, camera, date, None).await?;
        judged = judge(&seen);
        if resend::close_bundles(site, &seen, &judged)? {
            seen = look::look(site, camera, date, None).await?;
            judged = judge(&seen);
        }
        if options.deep {
            downloaded += deep::look_closer(site, &seen, &mut judged).await?;
        }
        (marked, unmarked) = match resend::mark(site, &seen, &judged, options.deep) {
            Ok(marked) => (marked, None),
            Err(error) => (BTreeMap::new(), Some(error)),
        };
    }
    for finding in &mut judged.findings {
        advise(site, &seen, &marked, finding);
    }
    judged.findings.extend(
        unmarked.map(|error| compare::finding(&seen, FindingKind::Unchecked, &date.to_string(), error.to_string())),
    );
    findings.append(&mut judged.findings);
    Ok(Verified { findings, held: judged.held, downloaded })
}

/// What became of the indexes that were to be made again.
#[derive(Default)]
struct Rebuilt {
    /// One for each index that was made.
    findings: Vec<Finding>,
    /// Why others were not made, by the key of the bundle.
    refused: BTreeMap<String, RefusedRebuild>,
    /// The bytes that were downloaded.
    downloaded: u64,
}

/// An index that was not made again.
struct RefusedRebuild {
    index_key: String,
    why: String,
}

async fn rebuild_indexes(site: &Site, seen: &SeenDay) -> Rebuilt {
    let mut rebuilt = Rebuilt::default();
    for part in &seen.parts {
        let Some(bundle) = rebuild::bundle_to_index(part) else { continue };
        match rebuild::rebuild(site, part, bundle, &seen.known).await {
            Ok(bytes) => {
                rebuilt.downloaded += bytes;
                let detail = "made again from its bundle";
                rebuilt.findings.push(compare::finding(seen, FindingKind::Rebuilt, &part.index_key, detail));
            }
            Err(error) => {
                let refused = RefusedRebuild { index_key: part.index_key.clone(), why: error.to_string() };
                rebuilt.refused.insert(bundle.object.key.clone(), refused);
            }
        }
    }
    rebuilt
}

impl Rebuilt {
    /// Lets the findings about an index that could not be made, or about its bundle, say why.
    fn explain_refusals(&mut self, findings: &mut [Finding]) {
        for (bundle, RefusedRebuild { index_key, why }) in std::mem::take(&mut self.refused) {
            let is_of = |finding: &&mut Finding| finding.key == index_key || finding.key == bundle;
            for finding in findings.iter_mut().filter(is_of) {
                finding.advice.clone_from(&why);
            }
        }
    }
}

/// Says where the bytes are that are missing in the bucket, if they are here.
fn advise(site: &Site, seen: &SeenDay, marked: &BTreeMap<String, Missing>, finding: &mut Finding) {
    let (camera, date) = (&finding.camera, finding.date);
    let resend = format!("`hk-aws verify {camera} {date} --resend` sends");
    let went_into = |missing: &&Missing| {
        let record = seen.known.records.get(&missing.entry.key);
        record.is_some_and(|record| record.since == Since::Bundled(finding.key.clone()))
    };
    let of_bundle = marked.values().filter(went_into).count();
    if of_bundle > 0 {
        finding.advice = format!("local copies of {of_bundle} of its captures stay here: {resend} them again");
    } else if let Some(missing) = marked.get(&finding.key)
        && let Some(path) = resend::copy_of(site, seen, &missing.entry)
    {
        finding.advice = format!("its local copy {} stays: {resend} it again", path.display());
    }
}
