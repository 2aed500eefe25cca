//! The problems of a configuration file, reported together, each with its place and its remedy.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The most characters of a value that are quoted, so that a message takes one or two lines of a terminal.
const QUOTED_CHARS: usize = 120;

/// All problems of one configuration file, at least one, sorted by line.
///
/// `Display` writes one line for each: `FILE:LINE: key.path: what is wrong ("value"); how to mend it`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problems {
    file: PathBuf,
    problems: Vec<Problem>,
}

/// One problem of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line in the file, from 1; `None`: the problem is with the file as a whole.
    pub line: Option<usize>,
    /// The path of the key, such as `cameras[0].timezone`; empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub wrong: String,
    /// The value, quoted; `None`: the key has no value, or a list or map.
    pub value: Option<String>,
    /// How to mend it.
    pub mend: String,
}

impl Problems {
    pub(crate) fn new(file: &Path, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.line);
        Self { file: file.to_owned(), problems }
    }

    /// Returns the path of the file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the problems, sorted by line.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.problems.iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.problems.iter().enumerate() {
            if place > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:", self.file.display())?;
            if let Some(line) = problem.line {
                write!(f, "{line}:")?;
            }
            write!(f, " {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.wrong)?;
        if let Some(value) = &self.value {
            write!(f, " ({value})")?;
        }
        write!(f, "; {}", self.mend)
    }
}

/// Why a value is refused, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) wrong: String,
    pub(super) mend: String,
}

impl Fault {
    pub(super) fn new(wrong: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { wrong: wrong.into(), mend: mend.into() }
    }
}

/// Quotes a value for a message: on one line, with control characters escaped, and cut if it is long.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Stands for a password in a URL.
pub(super) const MASK: &str = "***";

/// Masks anything that may be a password in a URL, for messages; masks too much rather than too little.
pub(super) fn mask(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", mask_user(rest)),
        None => mask_user(text),
    }
}

/// Masks the text before the last `@`, except a user's name before `:` and a secret that is just a variable.
pub(super) fn mask_user(text: &str) -> String {
    let Some((user, host)) = text.rsplit_once('@') else { return text.to_owned() };
    let is_variable =
        |text: &str| text.strip_prefix("${").and_then(|rest| rest.find('}')) == Some(text.len().wrapping_sub(3));
    let (name, secret) = user.split_once(':').map_or(("", user), |(name, secret)| (name, secret));
    let colon = if user.contains(':') { ":" } else { "" };
    format!("{name}{colon}{}@{host}", if is_variable(secret) { secret } else { MASK })
}

/// Returns the candidate that `text` is probably a misspelling of, if one is similar enough.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Two wrong letters of five are a slip; more are another word.
    const ALIKE: f64 = 0.6;
    let plain = |word: &str| word.to_lowercase().replace('-', "_");
    let text = plain(text);
    candidates
        .into_iter()
        .map(|candidate| {
            let other = plain(candidate);
            let holds = text.len() > 2 && (other.contains(&text) || text.contains(&other));
            let likeness = strsim::normalized_damerau_levenshtein(&text, &other);
            (if holds { likeness.max(ALIKE) } else { likeness }, candidate)
        })
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_named_only_where_one_is_near() {
        let keys = ["path", "rescan", "settle", "stalled", "partial_after", "ignore"];
        for (written, meant) in [
            ("resacn", Some("rescan")),
            ("partial-after", Some("partial_after")),
            ("Settle", Some("settle")),
            ("partial", Some("partial_after")),
            ("ignored", Some("ignore")),
            ("bucket", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, keys), meant, "{written}");
        }
    }

    #[test]
    fn a_problem_is_one_line_whatever_the_value() {
        assert_eq!(quote("a\nb\u{1b}[31m"), r#""a\nb\u{1b}[31m""#);
        assert_eq!(quote(&"ä".repeat(200)), format!("\"{}\"...", "ä".repeat(QUOTED_CHARS)));
    }
}
