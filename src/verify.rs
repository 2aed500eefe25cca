//! Holds the ledger and the indexes of bundles against the bucket.
//!
//! Listings alone tell most: what is there, its size, and of a bundle the MD5. A HEAD settles what they leave open, and
//! with `deep` asks the store for the SHA-256 of every object; only what the store has no SHA-256 of is downloaded.
//!
//! What is wrong is a failure: a capture that is nowhere, bytes that are not the stored ones, a bundle that nobody can
//! look into. What the next rotation does by itself, or a ledger that was lost explains, is a remark.
//!
//! A day is read while the daemon works on it. Whatever looks wrong is therefore looked at again, in an order in which
//! nothing that moves from the bucket into a bundle can be missed: ledger, loose objects, archive, ledger.

use std::collections::BTreeMap;

use anyhow::Context as _;
use chrono::NaiveDate;
use serde::Serialize;

use crate::archive::{self, Shelf};
use crate::site::Site;
use crate::{kept, ledger};

pub mod compare;
mod deep;
mod look;
mod rebuild;

use compare::judge;

/// What is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
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

impl What {
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
    /// What it is.
    pub what: What,
    /// Whether something is wrong.
    pub failure: bool,
    /// What was seen.
    pub detail: String,
    /// What to do.
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

/// What a camera-day came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// What is to be said.
    pub findings: Vec<Finding>,
    /// Captures that are there as they were stored.
    pub held: usize,
    /// What was downloaded, in bytes.
    pub downloaded: u64,
}

/// The cameras of which this box's ledger knows.
///
/// # Errors
/// Where the ledger cannot be read.
pub fn ledger_cameras(site: &Site) -> anyhow::Result<Vec<String>> {
    let folder = site.ledger();
    ledger::cameras(&folder).with_context(|| format!("failed to read ledger {}", folder.display()))
}

/// The days of a camera that the ledger or the bucket knows, with what lies in its archive.
///
/// # Errors
/// Where either cannot be read.
pub async fn days(site: &Site, camera: &str) -> anyhow::Result<BTreeMap<NaiveDate, Shelf>> {
    let mut days = archive::shelves(site, camera).await?;
    let folder = site.ledger();
    let known = ledger::days(&folder, camera).with_context(|| format!("failed to read ledger {}", folder.display()))?;
    let bundled = ledger::bundles(&folder, camera).map(|bundle| bundle.date);
    for date in known.into_iter().chain(bundled).chain(look::loose_days(site, camera).await?) {
        days.entry(date).or_default();
    }
    Ok(days)
}

/// Holds one camera-day against the bucket; `shelf` is what was listed of its archive, if it was.
///
/// # Errors
/// Where ledger or bucket cannot be read.
pub async fn verify_day(
    site: &Site,
    camera: &str,
    date: NaiveDate,
    shelf: Option<Shelf>,
    options: Options,
) -> anyhow::Result<Verified> {
    let listed_before = shelf.is_some();
    let mut seen = look::look(site, camera, date, shelf).await?;
    let mut judged = judge(&seen);
    if listed_before && judged.findings.iter().any(|finding| finding.failure || finding.what == What::Extra) {
        seen = look::look(site, camera, date, None).await?;
        judged = judge(&seen);
    }
    let (mut rebuilt, mut downloaded) = (Vec::new(), 0);
    if options.rebuild {
        let mut refused = BTreeMap::new();
        for shelved in &seen.parts {
            let Some(wanted) = rebuild::wanted(shelved) else { continue };
            match rebuild::rebuild(site, shelved, &wanted, &seen.known).await {
                Ok(bytes) => {
                    downloaded += bytes;
                    rebuilt.push(compare::finding(
                        &seen,
                        What::Rebuilt,
                        &shelved.index_key,
                        "made again from its bundle",
                    ));
                }
                Err(error) => {
                    refused.insert(shelved.index_key.clone(), format!("{error:#}"));
                }
            }
        }
        if !rebuilt.is_empty() {
            seen = look::look(site, camera, date, None).await?;
            judged = judge(&seen);
        }
        // What could not be made again says why.
        for (index_key, why) in refused {
            let bundle = seen.parts.iter().find(|shelved| shelved.index_key == index_key);
            let bundle = bundle.and_then(|shelved| shelved.bundle.as_ref()).map(|(object, _)| object.key.as_str());
            let is_of = |finding: &&mut Finding| finding.key == index_key || Some(finding.key.as_str()) == bundle;
            for finding in judged.findings.iter_mut().filter(is_of) {
                finding.advice.clone_from(&why);
            }
        }
    }
    if options.deep {
        downloaded += deep::look_closer(site, &seen, &mut judged).await?;
    }
    for finding in &mut judged.findings {
        advise(site, finding);
    }
    rebuilt.append(&mut judged.findings);
    Ok(Verified { findings: rebuilt, held: judged.held, downloaded })
}

/// Names a local copy of what is gone, if there is one.
fn advise(site: &Site, finding: &mut Finding) {
    let Some((sha256, size)) = &finding.wanted else { return };
    let file = finding.key.rsplit('/').next().unwrap_or(&finding.key);
    let copy = kept::CopyOf { camera: &finding.camera, date: finding.date, file };
    let candidates = kept::candidates(&site.config.keep.path, copy, Some(sha256));
    let is_copy = |path: &&std::path::PathBuf| std::fs::metadata(path).is_ok_and(|file| file.len() == *size);
    if let Some(path) = candidates.iter().find(is_copy) {
        finding.advice = format!("{} may be a copy of it: keep it safe, and put it back", path.display());
    }
}
