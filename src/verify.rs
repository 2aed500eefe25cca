//! Holds the ledger and the indexes of bundles against the bucket.
//!
//! Listings alone tell most: what is there, its size, and of a bundle the MD5. A HEAD settles what they leave open, and
//! with `deep` asks the store for the SHA-256 of every object; only what the store has no SHA-256 of is downloaded.
//!
//! FindingKind is wrong is a failure: a capture that is nowhere, bytes that are not the stored ones, a bundle that nobody can
//! look into. FindingKind the next rotation does by itself, or a ledger that was lost explains, is a remark.
//!
//! A day is read while the daemon works on it. Whatever looks wrong is therefore looked at again, in an order in which
//! nothing that moves from the bucket into a bundle can be missed: ledger, loose objects, archive, ledger.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use chrono::NaiveDate;
use serde::Serialize;

use crate::holdings::{self, DayArchive, HoldingsError};
use crate::site::Site;
use crate::{kept, ledger};

pub mod compare;
mod deep;
mod look;
mod rebuild;

use compare::{SeenDay, judge};

/// FindingKind is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingKind {
    /// It was stored, was not deleted on purpose, and is nowhere.
    Missing,
    /// It holds other bytes than were stored.
    Altered,
    /// An index that cannot be read, or does not fit its bundle.
    Damaged,
    /// A bundle of ours without its index.
    #[serde(rename = "no index")]
    NoIndex,
    /// It could not be looked at.
    Unchecked,
    /// A remark: an archive of the scripts that came before, which wrote no index.
    #[serde(rename = "no index")]
    Foreign,
    /// A remark: in the bucket, and not in the ledger.
    Extra,
    /// A remark: an index without its bundle.
    Unfinished,
    /// A remark: both loose and in a bundle.
    Twice,
    /// A remark: nothing tells its SHA-256, and it cannot be downloaded now.
    Unproven,
    /// A remark: an index was made again.
    Rebuilt,
}

impl FindingKind {
    /// Whether something is wrong.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Missing | Self::Altered | Self::Damaged | Self::NoIndex | Self::Unchecked)
    }

    /// In a word or two.
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
        }
    }
}

/// One thing that is not as it should be, or worth a remark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The camera.
    pub camera: String,
    /// The day.
    pub date: NaiveDate,
    /// The key that it is about.
    pub key: String,
    /// FindingKind it is.
    pub what: FindingKind,
    /// Whether something is wrong.
    pub failure: bool,
    /// FindingKind was seen.
    pub detail: String,
    /// FindingKind to do.
    pub advice: String,
    /// The bytes that should be there: SHA-256 and size.
    #[serde(skip)]
    pub wanted: Option<(String, u64)>,
}

/// How thorough to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Ask the store for the SHA-256 of every object.
    pub deep: bool,
    /// Make indexes again that are damaged or lost.
    pub rebuild: bool,
}

/// FindingKind a camera-day came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// FindingKind is to be said.
    pub findings: Vec<Finding>,
    /// Captures that are there as they were stored.
    pub held: usize,
    /// FindingKind was downloaded, in bytes.
    pub downloaded: u64,
}

/// Returns the cameras that this box's ledger knows.
///
/// # Errors
/// [`HoldingsError::Local`] if the ledger cannot be read.
pub fn ledger_cameras(site: &Site) -> Result<Vec<String>, HoldingsError> {
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
        rebuilt.explain_refusals(&seen, &mut judged.findings);
    }
    let mut downloaded = rebuilt.downloaded;
    if options.deep {
        downloaded += deep::look_closer(site, &seen, &mut judged).await?;
    }
    for finding in &mut judged.findings {
        advise(site, finding);
    }
    let mut findings = rebuilt.findings;
    findings.append(&mut judged.findings);
    Ok(Verified { findings, held: judged.held, downloaded })
}

/// What became of the indexes that were to be made again.
#[derive(Default)]
struct Rebuilt {
    /// One for each index that was made.
    findings: Vec<Finding>,
    /// Why others were not made, by the key of the index.
    refused: BTreeMap<String, String>,
    /// The bytes that were downloaded.
    downloaded: u64,
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
                rebuilt.refused.insert(part.index_key.clone(), error.to_string());
            }
        }
    }
    rebuilt
}

impl Rebuilt {
    /// Lets the findings about an index that could not be made, or about its bundle, say why.
    fn explain_refusals(&mut self, seen: &SeenDay, findings: &mut [Finding]) {
        for (index_key, why) in std::mem::take(&mut self.refused) {
            let bundle = seen.parts.iter().find(|part| part.index_key == index_key);
            let bundle = bundle.and_then(|part| part.bundle.as_ref()).map(|bundle| bundle.object.key.as_str());
            let is_of = |finding: &&mut Finding| finding.key == index_key || Some(finding.key.as_str()) == bundle;
            for finding in findings.iter_mut().filter(is_of) {
                finding.advice.clone_from(&why);
            }
        }
    }
}

/// Names a local copy of what is gone, if there is one.
fn advise(site: &Site, finding: &mut Finding) {
    let Some((sha256, size)) = &finding.wanted else { return };
    let file = finding.key.rsplit('/').next().unwrap_or(&finding.key);
    let candidates = kept::candidates(&site.config.keep.path, &finding.camera, finding.date, file, Some(sha256));
    let is_copy = |path: &&std::path::PathBuf| std::fs::metadata(path).is_ok_and(|file| file.len() == *size);
    if let Some(path) = candidates.iter().find(is_copy) {
        finding.advice = format!("{} may be a copy of it: keep it safe, and put it back", path.display());
    }
}
