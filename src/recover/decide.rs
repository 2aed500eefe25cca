//! What is done about the versions of one key; pure.
//!
//! Nothing tells whether a version is the box's or a thief's, so every content is kept that was hidden in the time in
//! question. One of them is in front: what is there now, otherwise what the markers hide. The others are copied beside it.
//! An object without bytes is nobody's evidence, and is not brought back.
//!
//! A bundle or an index is of use only under its own key. There the caller names the version that belongs in front.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use crate::bucket::{Version, VersionContent};

/// The time in which something was hidden.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// Its beginning; `None`: as far back as the bucket remembers.
    pub since: Option<DateTime<Utc>>,
    /// Its end, which is not part of it; `None`: now.
    pub until: Option<DateTime<Utc>>,
}

impl Window {
    fn holds(self, at: DateTime<Utc>) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}

/// Where a copy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In front of everything, under its own key.
    Front,
    /// Under a key of its own.
    Beside,
}

/// One thing to do. A version is named by its place among those of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Takes the markers in front of a version away: everything before it.
    Uncover {
        /// The version.
        version: usize,
    },
    /// Copies a version.
    Copy {
        /// The version.
        version: usize,
        /// Where the copy goes.
        to: Place,
    },
}

/// What is to be done about a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// In this order. A later step needs the earlier ones.
    pub(super) steps: Vec<Step>,
    /// How many contents were hidden in the time in question and are left so, because the caller said so.
    pub(super) left: usize,
}

/// Returns when a version was hidden, and whether by a marker; `None` for the one in front.
pub(super) fn hidden(versions: &[Version], version: usize) -> Option<(DateTime<Utc>, bool)> {
    let over = &versions[version.checked_sub(1)?];
    Some((over.stored_at, over.content.is_none()))
}

/// Returns the versions that may be in front when the time in question is undone: the one that is, and those that were
/// hidden in that time; each content once, newest first.
pub(super) fn candidates(versions: &[Version], window: Window) -> Vec<usize> {
    let mut seen = HashSet::new();
    let is_candidate = |at: &usize| hidden(versions, *at).is_none_or(|(hidden_at, _)| window.holds(hidden_at));
    let with_bytes = |at: &usize| versions[*at].content.as_ref().is_some_and(|content| content.size > 0);
    let all = (0..versions.len()).filter(is_candidate).filter(with_bytes);
    all.filter(|at| seen.insert(identity(versions[*at].content.as_ref()))).collect()
}

/// Returns the place of the oldest version that has the content of another.
pub(super) fn first_with_content(versions: &[Version], version: usize) -> usize {
    let content = |at: usize| identity(versions[at].content.as_ref());
    (version..versions.len()).rfind(|at| content(*at) == content(version)).unwrap_or(version)
}

/// Returns whether something of a key was hidden in the time in question.
pub(super) fn has_hidden(versions: &[Version], window: Window) -> bool {
    candidates(versions, window).iter().any(|at| *at > 0)
}

/// Decides about the versions of a key, which are newest first. `in_front` is the id of the candidate that belongs in front,
/// if it matters which one is; `is_left` says of a version, by its place, whether it stays hidden.
pub(super) fn decide(
    versions: &[Version],
    window: Window,
    in_front: Option<&str>,
    is_left: impl Fn(usize) -> bool,
) -> Decision {
    let content = |at: usize| identity(versions[at].content.as_ref());
    let mut decision = Decision::default();
    let mut wanted = Vec::new();
    for at in candidates(versions, window).into_iter().filter(|at| *at > 0) {
        if is_left(at) {
            decision.left += 1;
        } else {
            wanted.push(at);
        }
    }
    let Some(front) = versions.first() else { return decision };
    let named = in_front.and_then(|id| versions.iter().position(|version| version.id == id));
    let named = named.filter(|named| *named == 0 || wanted.iter().any(|at| content(*at) == content(*named)));
    let is_covered = front.content.is_none();
    let chosen = match named {
        Some(named) => Some(named),
        None if is_covered => wanted.first().copied(),
        None => Some(0),
    };
    let Some(chosen) = chosen else { return decision };
    let beside = wanted.into_iter().filter(|at| content(*at) != content(chosen));
    decision.steps.extend(beside.map(|version| Step::Copy { version, to: Place::Beside }));
    if content(chosen) == content(0) {
        return decision;
    }
    let under = versions.iter().position(|version| version.content.is_some());
    match under {
        Some(under) if is_covered && content(under) == content(chosen) => {
            decision.steps.push(Step::Uncover { version: under });
        }
        _ => {
            // What is in front now would become an old version.
            if front.content.as_ref().is_some_and(|content| content.size > 0) {
                decision.steps.push(Step::Copy { version: 0, to: Place::Beside });
            }
            decision.steps.push(Step::Copy { version: chosen, to: Place::Front });
        }
    }
    decision
}

/// Returns what tells the contents of two versions of a key apart, as far as a listing shows it.
fn identity(content: Option<&VersionContent>) -> Option<(u64, &str)> {
    content.map(|content| (content.size, content.etag.as_str()))
}

#[cfg(test)]
mod tests;
