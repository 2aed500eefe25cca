//! Captures that the bucket lost and this box has: they are marked, so that their local copies stay, and sent again.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::compare::{Judged, SeenDay, Since, finding};
use super::{Finding, FindingKind};
use crate::bucket::{About, Content, Patience, Precedence, Put, Source, When, read_through};
use crate::holdings::HoldingsError;
use crate::kept;
use crate::key::{self, ObjectKey, Variant};
use crate::ledger::{self, Found, LedgerEntry, Missing, Removed};
use crate::site::Site;

/// Marks the captures of a day that the bucket lost and that may have a local copy here, and takes the marks of all others
/// away; returns those that are marked now. A mark that needs a closer look stays until one is taken.
///
/// # Errors
/// [`HoldingsError::Local`] if the ledger cannot be read or written: local copies may give way as before.
pub(super) fn mark(
    site: &Site,
    seen: &SeenDay,
    judged: &Judged,
    is_deep: bool,
) -> Result<BTreeMap<String, Missing>, HoldingsError> {
    let (ledger, now) = (site.ledger(), (site.clock)().wall.into());
    let failed = |error: io::Error| {
        HoldingsError::local(format_args!("failed to mark what is missing in ledger {}", ledger.display()), &error)
    };
    let mut marked = ledger::missing(&ledger, &seen.camera, seen.date).map_err(failed)?;
    let is_over = |(key, missing): &(&String, &Missing)| {
        !judged.lost.contains_key(*key) && (is_deep || !missing.deep || !seen.known.records.contains_key(*key))
    };
    let found: Vec<Found> =
        marked.iter().filter(is_over).map(|(key, _)| Found { found_at: now, key: key.clone() }).collect();
    let new: Vec<Missing> = (judged.lost.iter())
        .filter(|(key, _)| !marked.contains_key(*key))
        .filter_map(|(key, deep)| {
            let entry = seen.known.records.get(key)?.entry.clone();
            copy_of(site, seen, &entry).is_some().then_some(Missing { missing_at: now, deep: *deep, entry })
        })
        .collect();
    ledger::append_missing(&ledger, &seen.camera, &new).map_err(failed)?;
    ledger::append_found(&ledger, &seen.camera, &found).map_err(failed)?;
    for Found { key, .. } in found {
        marked.remove(&key);
    }
    marked.extend(new.into_iter().map(|missing| (missing.entry.key.clone(), missing)));
    Ok(marked)
}

/// Returns the local copy that a capture may have, by its name and size.
pub(super) fn copy_of(site: &Site, seen: &SeenDay, entry: &LedgerEntry) -> Option<PathBuf> {
    let copy = kept::CopyOf { camera: &seen.camera, date: seen.date, file: last_segment(&entry.key) };
    let candidates = kept::candidates(&site.config.keep.path, copy, Some(&entry.sha256));
    candidates.into_iter().find(|path| std::fs::metadata(path).is_ok_and(|file| file.len() == entry.size))
}

/// Sends captures again that are marked, out of their local copies; returns a finding for each that was sent.
///
/// # Errors
/// [`HoldingsError::Refused`] if the bucket takes none now, [`HoldingsError::Local`] if the ledger cannot be written: what
/// was sent until then is found by the next look.
pub(super) async fn resend(
    site: &Site,
    seen: &SeenDay,
    marked: &BTreeMap<String, Missing>,
) -> Result<Vec<Finding>, HoldingsError> {
    let mut findings = Vec::new();
    for (key, Missing { entry, .. }) in marked {
        let Some(source) = read_copy(site, seen, entry).await? else { continue };
        // What holds its key is found to be altered.
        let Some(to) = put(site, seen, entry, &source).await? else { continue };
        write_down(site, seen, entry, &to)?;
        let copy = copy_of(site, seen, entry).unwrap_or_default();
        let detail = format!("sent again as {to} from {}", copy.display());
        findings.push(finding(seen, FindingKind::Resent, key, detail));
    }
    Ok(findings)
}

/// Returns the bytes of a local copy, if they are those of the capture. A copy can have been cut by a power cut.
async fn read_copy(site: &Site, seen: &SeenDay, entry: &LedgerEntry) -> Result<Option<Source>, HoldingsError> {
    let Some(path) = copy_of(site, seen, entry) else { return Ok(None) };
    let (size, shown) = (entry.size, path.display().to_string());
    let reading = tokio::task::spawn_blocking(move || {
        let file = File::open(&path)?;
        let mut hash = Sha256::new();
        read_through(&file, 0, size, |chunk| hash.update(chunk))?;
        Ok((file, hash.finalize().into()))
    });
    let (file, sha256): (File, [u8; 32]) = reading
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|error| HoldingsError::local(format_args!("failed to read local copy {shown}"), &error))?;
    let source = Source { content: Content::File(Arc::new(file)), size, precedence: Precedence::Job, sha256 };
    Ok((hex::encode(sha256) == entry.sha256).then_some(source))
}

/// Puts a capture under its key, or beside it if that holds other bytes; returns where it is, or nothing if it can be
/// nowhere.
async fn put(
    site: &Site,
    seen: &SeenDay,
    entry: &LedgerEntry,
    source: &Source,
) -> Result<Option<ObjectKey>, HoldingsError> {
    let first = ObjectKey::verbatim(entry.key.clone());
    let (when, about) = (When { now: (site.clock)().wall, patience: Patience::Ordinary }, about(seen, entry));
    // What holds its key, and may not be looked at, need not be the capture.
    let is_there = |put| matches!(put, Put::Stored | Put::AlreadyThere);
    if is_there(site.bucket.put_new(&first, source, &about, when).await?) {
        return Ok(Some(first));
    }
    if key::read_variant(&entry.key).is_some() {
        return Ok(None);
    }
    let beside = first.variant(Variant::Whole, &entry.sha256[..entry.sha256.len().min(8)]);
    let put = site.bucket.put_new(&beside, source, &about, when).await?;
    Ok(is_there(put).then_some(beside))
}

/// Returns what is stored with a capture, as far as its line tells.
fn about(seen: &SeenDay, entry: &LedgerEntry) -> About {
    let mut metadata = vec![
        ("camera", seen.camera.clone()),
        ("taken-at", entry.taken_at.to_rfc3339()),
        ("source", entry.source.clone()),
        ("sha256", entry.sha256.clone()),
    ];
    metadata.extend(entry.partial.then(|| ("partial", "true".to_owned())));
    metadata.extend(entry.event.clone().map(|event| ("event", event)));
    let mut tags = vec![("camera", seen.camera.clone())];
    tags.extend(entry.event.clone().map(|event| ("event", event)));
    let content_type = mime_guess::from_path(&entry.source).first_or_octet_stream().to_string();
    About { content_type, metadata, tags, class: None }
}

/// Writes down that a capture is in the bucket again, and takes its mark away: in this order, so that no crash leaves it
/// without both.
fn write_down(site: &Site, seen: &SeenDay, entry: &LedgerEntry, to: &ObjectKey) -> Result<(), HoldingsError> {
    let (ledger, now) = (site.ledger(), (site.clock)().wall.into());
    let stored = LedgerEntry { stored_at: now, key: to.as_str().to_owned(), ..entry.clone() };
    let found = Found { found_at: now, key: entry.key.clone() };
    ledger::append(&ledger, &seen.camera, &stored)
        .and_then(|()| ledger::append_found(&ledger, &seen.camera, &[found]))
        .map_err(|error| HoldingsError::local(format_args!("failed to write ledger {}", ledger.display()), &error))
}

/// Writes down that bundles are gone which the bucket lost, once every capture that went into them lies loose again; returns
/// whether there were any.
///
/// # Errors
/// [`HoldingsError::Local`] if the ledger cannot be read or written.
pub(super) fn close_bundles(site: &Site, seen: &SeenDay, judged: &Judged) -> Result<bool, HoldingsError> {
    let (ledger, mut any) = (site.ledger(), false);
    let failed =
        |error: io::Error| HoldingsError::local(format_args!("failed to write ledger {}", ledger.display()), &error);
    let lost = judged.findings.iter().filter(|finding| finding.what == FindingKind::Missing);
    for bundle in lost.filter_map(|finding| seen.known.bundles.get(&finding.key)) {
        let path = ledger::path(&ledger, &seen.camera, seen.date);
        let removed = ledger::removed(&path).into_iter().flatten();
        let went: HashSet<String> =
            removed.filter(|removed| removed.bundle.as_ref() == Some(&bundle.key)).map(|removed| removed.key).collect();
        let lies_loose = |key: &String| {
            let record = seen.known.records.get(key)?;
            let is_there = seen.loose.iter().any(|object| object.key == *key && object.size == record.entry.size);
            is_there.then_some(record)
        };
        let loose: Vec<_> = went.iter().filter_map(lies_loose).collect();
        if loose.len() as u64 != bundle.members || loose.len() != went.len() {
            continue;
        }
        for record in loose.into_iter().filter(|record| record.since != Since::Nothing) {
            ledger::append(&ledger, &seen.camera, &record.entry).map_err(failed)?;
        }
        let gone = Removed { removed_at: (site.clock)().wall.into(), key: bundle.key.clone(), bundle: None };
        ledger::append_removed(&ledger, &seen.camera, seen.date, &[gone]).map_err(failed)?;
        any = true;
    }
    Ok(any)
}

fn last_segment(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}
