//! The shape of object keys, such as `{camera}/{date}/{file}`.

use std::fmt;
use std::str::FromStr;

use regex::Regex;

/// The most bytes of a template's own text. With a prefix of 513 bytes and the longest of everything else, this leaves 27
/// bytes for a name.
const MAX_LITERAL_BYTES: usize = 64;

/// The placeholders that a template may use.
const PLACEHOLDERS: [&str; 9] = ["camera", "date", "year", "month", "day", "hour", "event", "channel", "file"];

/// The shape of object keys after the prefix: text with placeholders.
#[derive(Debug, Clone)]
pub struct Template {
    pub(super) text: String,
    pub(super) pieces: Vec<Piece>,
    /// Matches the keys of this shape, with a group for each placeholder.
    pub(super) pattern: Regex,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(String),
    /// One of [`PLACEHOLDERS`].
    Placeholder(&'static str),
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Template {
    type Err = String;

    /// Reads and checks a template; the error says what to change.
    fn from_str(text: &str) -> Result<Self, String> {
        let template = Self::read_former(text)?;
        if template.has_date() {
            Ok(template)
        } else {
            Err("it needs `{date}`, or `{year}`, `{month}` and `{day}`".into())
        }
    }
}

impl Template {
    /// Reads and checks a template that needs no date, which a new key must have; the error says what to change.
    pub(super) fn read_former(text: &str) -> Result<Self, String> {
        let pieces = split(text)?;
        check_shape(text, &pieces)?;
        check_neighbours(&pieces)?;
        check_repeats(&pieces)?;
        let pattern = Regex::new(&pattern(&pieces)).map_err(|error| error.to_string())?;
        Ok(Self { text: text.to_owned(), pieces, pattern })
    }

    /// Returns whether keys of this shape tell their day.
    pub(super) fn has_date(&self) -> bool {
        let has = |name| self.pieces.contains(&Piece::Placeholder(name));
        has("date") || has("year") && has("month") && has("day")
    }
}

fn check_shape(text: &str, pieces: &[Piece]) -> Result<(), String> {
    if !text.starts_with("{camera}/") {
        return Err("it must start with `{camera}/`; what comes before that belongs in s3.prefix".into());
    }
    if !text.ends_with("{file}") {
        return Err("it must end with `{file}`".into());
    }
    if text.contains("//") || text.chars().any(char::is_control) {
        return Err("it must not hold an empty folder (`//`) or a control character".into());
    }
    let literal = |piece: &Piece| if let Piece::Literal(text) = piece { text.len() } else { 0 };
    if pieces.iter().map(literal).sum::<usize>() > MAX_LITERAL_BYTES {
        return Err(format!(
            "its own text must have {MAX_LITERAL_BYTES} bytes at most; what all keys share belongs in s3.prefix"
        ));
    }
    Ok(())
}

/// Refuses two placeholders in a row: nothing would tell where one ends and the next begins.
fn check_neighbours(pieces: &[Piece]) -> Result<(), String> {
    for pair in pieces.windows(2) {
        if let [Piece::Placeholder(a), Piece::Placeholder(b)] = pair {
            return Err(format!("`{{{a}}}` and `{{{b}}}` need a character between them"));
        }
    }
    Ok(())
}

fn check_repeats(pieces: &[Piece]) -> Result<(), String> {
    let mut seen = Vec::new();
    for piece in pieces {
        if let Piece::Placeholder(name) = piece {
            if seen.contains(name) {
                return Err(format!("`{{{name}}}` may stand only once"));
            }
            seen.push(name);
        }
    }
    Ok(())
}

/// Splits a template into its pieces.
fn split(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('{') {
            let (name, tail) = after.split_once('}').ok_or("a `{` has no `}`")?;
            let known = PLACEHOLDERS.iter().find(|known| **known == name).ok_or_else(|| {
                format!(
                    "`{{{name}}}` is no placeholder; known are {}",
                    PLACEHOLDERS.map(|p| format!("{{{p}}}")).join(" ")
                )
            })?;
            pieces.push(Piece::Placeholder(known));
            rest = tail;
        } else {
            let end = rest.find('{').unwrap_or(rest.len());
            pieces.push(Piece::Literal(rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    if pieces.iter().any(|piece| matches!(piece, Piece::Literal(text) if text.contains('}'))) {
        return Err("a `}` has no `{`".into());
    }
    Ok(pieces)
}

/// Returns the regular expression that reads keys of these pieces back.
fn pattern(pieces: &[Piece]) -> String {
    let body: String = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Literal(text) => regex::escape(text),
            Piece::Placeholder("date") => "(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})".into(),
            Piece::Placeholder("year") => "(?P<year>[0-9]{4})".into(),
            Piece::Placeholder(name @ ("month" | "day" | "hour")) => format!("(?P<{name}>[0-9]{{2}})"),
            Piece::Placeholder(name) => format!("(?P<{name}>[^/]+)"),
        })
        .collect();
    format!("^{body}$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_templates_say_what_to_change() {
        for (text, hint) in [
            ("{date}/{file}", "must start with `{camera}/`"),
            ("{camera}/{file}", "needs `{date}`"),
            ("{camera}/{date}/x", "must end with `{file}`"),
            ("{camera}/{date}{file}", "need a character between them"),
            ("{camera}/{dat}/{date}/{file}", "`{dat}` is no placeholder"),
            ("{camera}/{date}/{date}/{file}", "only once"),
            ("{camera}//{date}/{file}", "empty folder"),
            ("{camera}/{date}/{file", "has no `}`"),
            ("{camera}/}{date}/{file}", "has no `{`"),
        ] {
            let error = text.parse::<Template>().unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
        let error = format!("{{camera}}/{}/{{date}}/{{file}}", "l".repeat(62)).parse::<Template>().unwrap_err();
        assert!(error.contains("64 bytes at most"), "{error}");
    }
}
