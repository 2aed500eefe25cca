//! Judges what was seen of a camera-day. Pure: nothing here asks the bucket or reads a file.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::NaiveDate;

use super::{Finding, FindingKind};
use crate::bucket::{Head, Object};
use crate::bundle::Index;
use crate::holdings::{BundleObject, ObjectIdentity};
use crate::key::BundleId;
use crate::ledger::{Bundled, LedgerEntry, LedgerLine};

/// Everything that was seen of a camera-day.
#[derive(Debug, Clone)]
pub struct SeenDay {
    /// The camera.
    pub camera: String,
    /// The day.
    pub date: NaiveDate,
    /// What the ledger says.
    pub known: LedgerDay,
    /// The loose objects.
    pub loose: Vec<Object>,
    /// The archive.
    pub parts: Vec<SeenPart>,
}

/// What the ledger says of a camera-day.
#[derive(Debug, Clone, Default)]
pub struct LedgerDay {
    /// Whether the ledger has a file of the day.
    pub of_day: bool,
    /// Whether the ledger has anything of the camera.
    pub of_camera: bool,
    /// The captures that were stored, by key.
    pub records: BTreeMap<String, LedgerRecord>,
    /// The keys whose last line is a deletion, bundles among them.
    pub gone: HashSet<String>,
    /// The bundles that were confirmed, by key.
    pub bundles: BTreeMap<String, Bundled>,
}

/// A capture in the ledger.
#[derive(Debug, Clone)]
pub struct LedgerRecord {
    /// The line that was written when it was stored.
    pub entry: LedgerEntry,
    /// What happened to it last.
    pub since: Since,
    /// Whether it was stored while the day was looked at: the listings need not show it then.
    pub fresh: bool,
}

/// What happened to a capture after it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// Nothing: it should be there.
    Nothing,
    /// It went into this bundle.
    Bundled(String),
    /// It expired.
    Expired,
}

/// One part of the archive.
#[derive(Debug, Clone)]
pub struct SeenPart {
    /// Camera, date and number.
    pub part: BundleId,
    /// The bundle.
    pub bundle: Option<BundleObject>,
    /// The key of the index, whether it is there or not.
    pub index_key: String,
    /// The object of the index, as the listing showed it.
    pub index_object: Option<Object>,
    /// The index.
    pub index: IndexState,
    /// Why the bundle is not the one that the index describes, if it is not.
    pub altered: Option<String>,
    /// Whether older scripts made it.
    pub foreign: bool,
}

/// The state of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexState {
    /// It is not there.
    Absent,
    /// It cannot be used, and why.
    Damaged(String),
    /// It can be used.
    Sound(Box<Index>),
}

/// The judgement of a camera-day.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    /// What was found.
    pub findings: Vec<Finding>,
    /// How many captures are there.
    pub held: usize,
    /// The keys of the captures in the ledger whose bytes are nowhere in the bucket, and whether only a closer look shows
    /// that.
    pub lost: BTreeMap<String, bool>,
    /// How many of the captures in the ledger that are there have these bytes, by SHA-256.
    pub there: HashMap<String, usize>,
}

impl Judged {
    /// Takes bytes off the lost ones that lie under another key, because they were sent again beside what covers them.
    pub(super) fn find_elsewhere(&mut self, seen: &SeenDay) {
        let Self { lost, there, .. } = self;
        lost.retain(|key, _| {
            let bytes = seen.known.records.get(key).map(|record| &record.entry.sha256);
            bytes.is_none_or(|bytes| there.get(bytes).is_none_or(|number| *number == 0))
        });
    }
}

impl LedgerDay {
    /// Builds the view from lines in the order in which they were written.
    pub fn read(lines: impl Iterator<Item = LedgerLine>) -> Self {
        let mut known = Self { of_day: true, of_camera: true, ..Self::default() };
        for line in lines {
            match line {
                LedgerLine::Stored(entry) => {
                    known.gone.remove(&entry.key);
                    known
                        .records
                        .insert(entry.key.clone(), LedgerRecord { entry: *entry, since: Since::Nothing, fresh: false });
                }
                LedgerLine::Removed(removed) => {
                    if let Some(record) = known.records.get_mut(&removed.key) {
                        record.since = removed.bundle.map_or(Since::Expired, Since::Bundled);
                    }
                    known.gone.insert(removed.key);
                }
            }
        }
        known
    }

    /// Returns whether a capture should still be there, loose or in a bundle.
    fn is_wanted(&self, record: &LedgerRecord) -> bool {
        match &record.since {
            Since::Nothing => true,
            Since::Bundled(bundle) => !self.gone.contains(bundle),
            Since::Expired => false,
        }
    }
}

/// Compares a listed bundle with its index. `Ok(None)`: only a HEAD can tell, because the `ETag` is not the MD5, as with a
/// KMS key.
///
/// # Errors
/// Says why it is not the bundle of the index.
pub fn compare_bundle(listed: &Object, index: &Index) -> Result<Option<()>, String> {
    if listed.size != index.bundle.size {
        return Err(format!("it has {} bytes instead of {}", listed.size, index.bundle.size));
    }
    Ok((listed.etag == index.bundle.md5).then_some(()))
}

/// Compares a bundle with its index, as far as its HEAD tells.
///
/// # Errors
/// Says why it is not the bundle of the index.
pub fn settle(head: &Head, index: &Index) -> Result<(), String> {
    match head.has(&index.bundle.sha256, &index.bundle.md5) {
        _ if head.size != index.bundle.size => {
            Err(format!("it has {} bytes instead of {}", head.size, index.bundle.size))
        }
        Some(true) => Ok(()),
        Some(false) => Err(format!("its SHA-256 is not {}", index.bundle.sha256)),
        None => Err("its ETag is another one, and the store tells no SHA-256".into()),
    }
}

/// Returns a finding about a key of a day, with the usual advice.
pub fn finding(seen: &SeenDay, what: FindingKind, key: &str, detail: impl Into<String>) -> Finding {
    let (camera, date) = (seen.camera.clone(), seen.date);
    let advice = match what {
        FindingKind::Missing => "see who deleted it; a bucket that keeps versions still has it".to_owned(),
        FindingKind::Altered => "see who wrote it; a bucket that keeps versions still has the first one".to_owned(),
        FindingKind::Damaged | FindingKind::NoIndex => {
            format!("`hk-aws verify {camera} {date} --rebuild` makes the index again from the bundle")
        }
        FindingKind::Unfinished => "the next rotation finishes it".to_owned(),
        FindingKind::Twice => "the next rotation deletes the loose one".to_owned(),
        FindingKind::Unproven => {
            format!("`hk-aws restore {camera} {date}` first, then `hk-aws verify {camera} {date} --deep`")
        }
        FindingKind::Unchecked
        | FindingKind::Foreign
        | FindingKind::Extra
        | FindingKind::Rebuilt
        | FindingKind::Resent => String::new(),
    };
    let (key, detail) = (key.to_owned(), detail.into());
    Finding { camera, date, key, what, failure: what.is_failure(), detail, advice }
}

/// The captures that are in bundles.
#[derive(Default)]
struct BundledCaptures<'a> {
    /// The key and the SHA-256 of each member of a sound bundle.
    members: HashSet<(&'a str, &'a str)>,
    /// The keys of these members, with their bundle.
    keys: HashMap<&'a str, &'a str>,
    /// The identities that these members had as loose objects, with their bundle.
    identities: HashMap<ObjectIdentity, &'a str>,
    /// Bundles that something is wrong with: that is said once, and not for each capture.
    troubled: HashSet<&'a str>,
    /// The keys that the indexes of these bundles list.
    covered: HashSet<&'a str>,
}

/// Judges a day: returns what is wrong or worth a remark.
pub fn judge(seen: &SeenDay) -> Judged {
    let mut findings = Vec::new();
    let loose: HashMap<&str, &Object> = seen.loose.iter().map(|object| (object.key.as_str(), object)).collect();
    let mut archive = BundledCaptures::default();
    for part in &seen.parts {
        findings.extend(judge_part(seen, &loose, part, &mut archive));
    }
    findings.extend(judge_lost(seen, &mut archive));
    let lost_bundles: HashSet<String> =
        findings.iter().filter(|bundle| bundle.what.is_lost()).map(|bundle| bundle.key.clone()).collect();
    let (mut held, mut there, mut lost) = (0, HashMap::new(), BTreeMap::new());
    for record in seen.known.records.values().filter(|record| seen.known.is_wanted(record) && !record.fresh) {
        let key = record.entry.key.as_str();
        match judge_capture(seen, record, &loose, &archive) {
            CaptureFate::Held => {
                held += 1;
                *there.entry(record.entry.sha256.clone()).or_default() += 1;
            }
            CaptureFate::Covered => {
                let is_in_lost = |bundle: &String| lost_bundles.contains(bundle);
                let went_into_lost = matches!(&record.since, Since::Bundled(bundle) if is_in_lost(bundle));
                if went_into_lost || archive.covered.contains(key) {
                    lost.insert(key.to_owned(), false);
                }
            }
            CaptureFate::Wrong(finding) => {
                lost.insert(key.to_owned(), false);
                findings.push(*finding);
            }
        }
    }
    let unknown = |(key, _): &&(&str, &str)| !seen.known.records.contains_key(*key);
    held += archive.members.iter().filter(unknown).count();
    findings.extend(judge_loose(seen, &archive));
    let mut judged = Judged { findings, held, lost, there };
    judged.find_elsewhere(seen);
    judged
}

fn judge_part<'a>(
    seen: &'a SeenDay,
    loose: &HashMap<&str, &Object>,
    part: &'a SeenPart,
    captures: &mut BundledCaptures<'a>,
) -> Option<Finding> {
    match (&part.bundle, &part.index) {
        (Some(bundle), IndexState::Sound(index)) => judge_bundle(seen, part, &bundle.object, index, captures),
        (Some(bundle), IndexState::Damaged(why)) => {
            captures.troubled.insert(&bundle.object.key);
            Some(finding(seen, FindingKind::Damaged, &part.index_key, why))
        }
        (Some(bundle), IndexState::Absent) if part.foreign => {
            let detail = "the scripts that came before made it; `tar` reads it";
            Some(finding(seen, FindingKind::Foreign, &bundle.object.key, detail))
        }
        (Some(bundle), IndexState::Absent) => {
            captures.troubled.insert(&bundle.object.key);
            let detail = format!("{} is not there, or describes another bundle", part.index_key);
            Some(finding(seen, FindingKind::NoIndex, &bundle.object.key, detail))
        }
        (None, IndexState::Sound(index)) => Some(judge_index_alone(seen, loose, part, index, captures)),
        (None, IndexState::Damaged(why)) => {
            let damaged = finding(seen, FindingKind::Damaged, &part.index_key, why);
            Some(Finding { advice: "remove it: there is no bundle to it".to_owned(), ..damaged })
        }
        (None, IndexState::Absent) => None,
    }
}

/// Judges a bundle with its index, and takes note of its members.
fn judge_bundle<'a>(
    seen: &SeenDay,
    part: &'a SeenPart,
    bundle: &'a Object,
    index: &'a Index,
    captures: &mut BundledCaptures<'a>,
) -> Option<Finding> {
    if let Some(why) = &part.altered {
        captures.troubled.insert(&bundle.key);
        captures.covered.extend(index.members.iter().map(|member| member.note.key.as_str()));
        let detail = format!("{why}; {} captures are in it", index.members.len());
        return Some(finding(seen, FindingKind::Altered, &bundle.key, detail));
    }
    for member in &index.members {
        let note = &member.note;
        captures.members.insert((&note.key, &note.sha256));
        captures.keys.insert(&note.key, &bundle.key);
        captures.identities.insert(ObjectIdentity::of_note(note), &bundle.key);
    }
    None
}

/// Judges an index whose bundle is not there.
fn judge_index_alone<'a>(
    seen: &SeenDay,
    loose: &HashMap<&str, &Object>,
    part: &'a SeenPart,
    index: &'a Index,
    captures: &mut BundledCaptures<'a>,
) -> Finding {
    let key = index.bundle.key.as_str();
    if seen.known.gone.contains(key) {
        return finding(seen, FindingKind::Unfinished, &part.index_key, "its bundle has expired");
    }
    let is_lost = |key: &str| !loose.contains_key(key) && !seen.known.gone.contains(key);
    let lost = index.members.iter().filter(|member| is_lost(&member.note.key)).count();
    if lost == 0 && !is_confirmed(seen, key) {
        return finding(seen, FindingKind::Unfinished, &part.index_key, "its bundle is not there yet");
    }
    captures.troubled.insert(key);
    captures.covered.extend(index.members.iter().map(|member| member.note.key.as_str()));
    let detail = format!("the bundle of {} captures is not there", index.members.len());
    finding(seen, FindingKind::Missing, key, detail)
}

/// Returns whether the ledger says that a bundle was confirmed.
fn is_confirmed(seen: &SeenDay, bundle: &str) -> bool {
    let went_into = |record: &LedgerRecord| record.since == Since::Bundled(bundle.to_owned());
    seen.known.bundles.contains_key(bundle) || seen.known.records.values().any(went_into)
}

/// Finds bundles that the ledger names, if neither the bundle nor its index is there.
fn judge_lost<'a>(seen: &'a SeenDay, archive: &mut BundledCaptures<'a>) -> Vec<Finding> {
    let went_into = seen.known.records.values().filter_map(|record| match &record.since {
        Since::Bundled(bundle) => Some(bundle.as_str()),
        _ => None,
    });
    let told: BTreeSet<&str> = seen.known.bundles.keys().map(String::as_str).chain(went_into).collect();
    let is_there =
        |key: &str| seen.parts.iter().any(|part| part.bundle.as_ref().is_some_and(|bundle| bundle.object.key == key));
    let mut findings = Vec::new();
    for key in told {
        if seen.known.gone.contains(key) || is_there(key) || !archive.troubled.insert(key) {
            continue;
        }
        findings.push(finding(seen, FindingKind::Missing, key, "the ledger tells of this bundle, and it is not there"));
    }
    findings
}

/// What became of a capture.
enum CaptureFate {
    Held,
    /// Another finding covers it: something is wrong with its bundle.
    Covered,
    Wrong(Box<Finding>),
}

fn judge_capture(
    seen: &SeenDay,
    LedgerRecord { entry, since, .. }: &LedgerRecord,
    loose: &HashMap<&str, &Object>,
    archive: &BundledCaptures<'_>,
) -> CaptureFate {
    let key = entry.key.as_str();
    let wrong = |what, detail: String| CaptureFate::Wrong(Box::new(finding(seen, what, key, detail)));
    if let Some(object) = loose.get(key) {
        if object.size != entry.size {
            return wrong(FindingKind::Altered, format!("it has {} bytes instead of {}", object.size, entry.size));
        }
        return CaptureFate::Held;
    }
    if archive.members.contains(&(key, &entry.sha256)) {
        return CaptureFate::Held;
    }
    if let Some(bundle) = archive.keys.get(key) {
        return wrong(FindingKind::Altered, format!("{bundle} holds other bytes under its key"));
    }
    let is_troubled = matches!(since, Since::Bundled(bundle) if archive.troubled.contains(bundle.as_str()));
    if is_troubled || archive.covered.contains(key) {
        return CaptureFate::Covered;
    }
    match since {
        Since::Bundled(bundle) => {
            wrong(FindingKind::Missing, format!("it went into {bundle}, whose index does not list it"))
        }
        _ => wrong(
            FindingKind::Missing,
            format!("stored {} with {} bytes, and nowhere now", entry.stored_at, entry.size),
        ),
    }
}

fn judge_loose(seen: &SeenDay, archive: &BundledCaptures<'_>) -> Vec<Finding> {
    let (mut findings, mut unknown) = (Vec::new(), 0);
    for object in &seen.loose {
        let key = object.key.as_str();
        if let Some(bundle) = archive.identities.get(&ObjectIdentity::of(object)) {
            findings.push(finding(seen, FindingKind::Twice, key, format!("it is in {bundle}, too")));
        } else if !seen.known.records.contains_key(key) && !seen.known.gone.contains(key) {
            if seen.known.of_day {
                findings.push(finding(seen, FindingKind::Extra, key, "this box's ledger does not tell of it"));
            }
            unknown += 1;
        }
    }
    if seen.known.of_camera && !seen.known.of_day && unknown > 0 {
        let captures = if unknown == 1 { "capture" } else { "captures" };
        let detail = format!("this box's ledger has nothing of the day, and the bucket {unknown} {captures}");
        findings.push(finding(seen, FindingKind::Extra, &seen.date.to_string(), detail));
    }
    findings
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::bundle::{Bundle, Member, Note, VERSION};
    use crate::key::{ArchiveFormat, CameraName};
    use crate::ledger::Removed;

    fn entry(key: &str) -> LedgerEntry {
        let stored_at = DateTime::<Utc>::UNIX_EPOCH;
        let (key, sha256) = (key.to_owned(), format!("sha of {key}"));
        let taken_at = stored_at.fixed_offset();
        LedgerEntry { stored_at, source: key.clone(), key, size: 7, sha256, taken_at, event: None, partial: false }
    }

    fn stored(key: &str) -> LedgerLine {
        LedgerLine::Stored(Box::new(entry(key)))
    }

    fn removed(key: &str, bundle: Option<&str>) -> LedgerLine {
        let (key, bundle) = (key.to_owned(), bundle.map(str::to_owned));
        LedgerLine::Removed(Removed { removed_at: DateTime::UNIX_EPOCH, key, bundle })
    }

    fn object(key: &str) -> Object {
        let (storage_class, etag) = ("STANDARD".into(), format!("etag of {key}"));
        Object { key: key.to_owned(), size: 7, storage_class, etag, stored_at: DateTime::UNIX_EPOCH }
    }

    fn part() -> BundleId {
        BundleId { camera: CameraName::spell("CAM"), date: NaiveDate::default(), part: 1 }
    }

    fn index(members: &[&str]) -> IndexState {
        let member = |key: &&str| {
            let LedgerEntry { key, size, sha256, stored_at, .. } = entry(key);
            let etag = format!("etag of {key}");
            let note = Note { key, size, sha256, taken_at: None, event: None, stored_at, etag };
            Member { name: "m".into(), offset: 0, length: 7, note }
        };
        let (sha256, md5) = ("s".into(), "m".into());
        let bundle = Bundle { key: "bundle".into(), format: ArchiveFormat::Tar, size: 7, sha256, md5 };
        let members = members.iter().map(member).collect();
        IndexState::Sound(Box::new(Index { version: VERSION, part: part(), bundle, members }))
    }

    fn seen_part(has_bundle: bool, index: IndexState, altered: Option<&str>) -> SeenPart {
        let bundle = has_bundle.then(|| BundleObject { object: object("bundle"), format: ArchiveFormat::Tar });
        let altered = altered.map(str::to_owned);
        SeenPart { part: part(), bundle, index_key: "index".into(), index_object: None, index, altered, foreign: false }
    }

    /// Returns what is found, as words and keys, and how many captures are held.
    fn judged(lines: Vec<LedgerLine>, loose: &[&str], parts: Vec<SeenPart>) -> (Vec<(&'static str, String)>, usize) {
        let known = LedgerDay::read(lines.into_iter());
        let loose = loose.iter().map(|key| object(key)).collect();
        let Judged { findings, held, .. } =
            judge(&SeenDay { camera: "CAM".into(), date: NaiveDate::default(), known, loose, parts });
        (findings.into_iter().map(|finding| (finding.what.as_str(), finding.key)).collect(), held)
    }

    fn said(what: &'static str, key: &str) -> (&'static str, String) {
        (what, key.to_owned())
    }

    #[test]
    fn a_capture_is_loose_or_in_a_sound_bundle_or_was_deleted_on_purpose() {
        let sound = || vec![seen_part(true, index(&["b"]), None)];
        assert_eq!(judged(vec![stored("a"), stored("b")], &["a"], sound()), (vec![], 2));
        assert_eq!(judged(vec![stored("a")], &[], vec![]), (vec![said("missing", "a")], 0));
        assert_eq!(judged(vec![stored("a"), removed("a", None)], &[], vec![]), (vec![], 0));
        // Stored again after it was deleted, it should be there.
        let again = || vec![stored("a"), removed("a", None), stored("a")];
        assert_eq!(judged(again(), &[], vec![]), (vec![said("missing", "a")], 0));
        assert_eq!(judged(again(), &["a"], vec![]), (vec![], 1));
        // A line that was never written, or was lost, changes nothing in the bucket.
        assert_eq!(judged(vec![stored("b"), removed("b", Some("bundle"))], &[], sound()), (vec![], 1));
        assert_eq!(judged(vec![stored("b")], &["b"], sound()), (vec![said("twice", "b")], 1));
        assert_eq!(judged(vec![], &[], sound()), (vec![], 1));
        let went = vec![stored("c"), removed("c", Some("bundle"))];
        assert_eq!(judged(went, &[], sound()), (vec![said("missing", "c")], 1));
    }

    #[test]
    fn what_is_wrong_with_a_bundle_is_said_once() {
        let went = || vec![stored("b"), removed("b", Some("bundle"))];
        let damaged = IndexState::Damaged("why".into());
        for (parts, expected) in [
            (vec![seen_part(true, index(&["b"]), Some("why"))], said("altered", "bundle")),
            (vec![seen_part(true, damaged.clone(), None)], said("damaged", "index")),
            (vec![seen_part(true, IndexState::Absent, None)], said("no index", "bundle")),
            (vec![seen_part(false, index(&["b"]), None)], said("missing", "bundle")),
            (vec![], said("missing", "bundle")),
        ] {
            assert_eq!(judged(went(), &[], parts), (vec![expected], 0));
        }
        let begun = || vec![seen_part(false, index(&["b"]), None)];
        assert_eq!(judged(vec![stored("b")], &["b"], begun()), (vec![said("unfinished", "index")], 1));
        assert_eq!(judged(vec![], &["b"], begun()).0[0], said("unfinished", "index"));
        assert_eq!(judged(vec![], &[], begun()), (vec![said("missing", "bundle")], 0));
        let expired = vec![stored("b"), removed("b", Some("bundle")), removed("bundle", None)];
        assert_eq!(judged(expired, &[], vec![]), (vec![], 0));
    }

    #[test]
    fn a_bundle_is_compared_by_size_then_md5_and_else_by_a_closer_look() {
        let IndexState::Sound(index) = index(&[]) else { unreachable!() };
        let listed = |size, etag: &str| Object { size, etag: etag.into(), ..object("bundle") };
        assert_eq!(compare_bundle(&listed(7, "m"), &index), Ok(Some(())));
        assert_eq!(compare_bundle(&listed(7, "k"), &index), Ok(None));
        assert!(compare_bundle(&listed(8, "m"), &index).is_err());
    }
}
