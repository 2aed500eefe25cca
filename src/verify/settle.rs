//! Days whose ledger can go, because their bundles hold all its lines.

use std::collections::HashSet;

use chrono::NaiveDate;

use super::compare::{IndexState, LedgerDay, SeenDay, Since, judge};
use super::look::{look, read_ledger};
use super::unread;
use crate::holdings::HoldingsError;
use crate::key::CameraName;
use crate::ledger;
use crate::site::Site;

/// The most days that one call looks at; each costs a few requests.
const MOST_DAYS: usize = 1000;

/// Returns the days that by the ledger lie wholly in bundles, at most 1,000 of them. A day with local copies is none: its
/// file tells that they may go.
///
/// # Errors
/// [`HoldingsError::Local`] if the ledger cannot be read.
pub fn days_to_settle(site: &Site) -> Result<Vec<(CameraName, NaiveDate)>, HoldingsError> {
    let (folder, mut found) = (site.ledger(), Vec::new());
    for camera in super::ledger_cameras(site)? {
        let bundled = ledger::bundled_days(&folder, &camera);
        let days = ledger::days(&folder, &camera).map_err(|error| unread(&folder, &error))?;
        for date in days.into_iter().filter(|date| bundled.contains(date)) {
            if site.kept.bytes_of(&camera, date) == 0 && is_all_bundled(&read_ledger(site, &camera, date)?) {
                found.push((camera.clone(), date));
            }
            if found.len() == MOST_DAYS {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// Removes the ledger's files of [`days_to_settle`] whose bundles and indexes the bucket confirms; returns how many.
///
/// # Errors
/// [`HoldingsError`] if the bucket or the ledger cannot be read further. What is done stays done.
pub async fn settle_ledger(site: &Site) -> Result<usize, HoldingsError> {
    let mut settled = 0;
    for (camera, date) in days_to_settle(site)? {
        settled += usize::from(settle(site, &camera, date).await?);
    }
    Ok(settled)
}

/// Returns whether by the ledger alone nothing of a day lies loose, and none of its bundles was deleted.
fn is_all_bundled(known: &LedgerDay) -> bool {
    let is_bundled = |since: &Since| matches!(since, Since::Bundled(_) | Since::Expired);
    !known.records.is_empty()
        && known.records.values().all(|record| is_bundled(&record.since))
        && known.gone.iter().all(|key| known.records.contains_key(key))
}

async fn settle(site: &Site, camera: &str, date: NaiveDate) -> Result<bool, HoldingsError> {
    let seen = look(site, camera, date, None).await?;
    if !seen.loose.is_empty() || !judge(&seen).findings.is_empty() {
        return Ok(false);
    }
    let Some(members) = members(&seen) else { return Ok(false) };
    let is_held = |known: &LedgerDay| {
        let in_bundle = |key: &str, sha256: &str| members.contains(&(key, sha256));
        is_all_bundled(known)
            && known
                .records
                .values()
                .all(|record| record.since == Since::Expired || in_bundle(&record.entry.key, &record.entry.sha256))
    };
    let folder = site.ledger();
    let now = (site.clock)().wall.into();
    let settled = ledger::settle(&folder, camera, date, now, |lines| is_held(&LedgerDay::read(lines)));
    settled
        .map_err(|error| HoldingsError::local(format_args!("failed to remove old ledger of {camera} {date}"), &error))
}

/// Returns key and SHA-256 of all that the bundles of a day hold; `None` if the ledger does not know all of them.
fn members(seen: &SeenDay) -> Option<HashSet<(&str, &str)>> {
    let mut members = HashSet::new();
    for part in &seen.parts {
        let (Some(_), IndexState::Sound(index)) = (&part.bundle, &part.index) else { return None };
        if !seen.known.bundles.contains_key(&index.bundle.key) {
            return None;
        }
        members.extend(index.members.iter().map(|member| (member.note.key.as_str(), member.note.sha256.as_str())));
    }
    Some(members)
}
