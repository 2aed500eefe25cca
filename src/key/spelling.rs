//! How names and paths are spelt in a key: safe for listings, paths and terminals, and short enough.

use std::borrow::Cow;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::heartbeat::HEARTBEATS;

/// The longest camera segment in bytes; it leaves room for a name beside it.
pub(super) const MAX_CAMERA_BYTES: usize = 255;

/// Returns the camera's segment of a key for the name of a folder or device. One that would be the folder of the heartbeats
/// has its first letter escaped.
pub fn camera_segment(raw: &[u8]) -> String {
    let text = escape(raw);
    if text == HEARTBEATS {
        return format!("%{:02X}{}", text.as_bytes()[0], &text[1..]);
    }
    if text.len() <= MAX_CAMERA_BYTES { text } else { bounded(&text, MAX_CAMERA_BYTES) }
}

/// Spells any bytes as one safe segment of a key; two different inputs never have the same spelling.
///
/// Most text stays as it is. These bytes become `%XX`, with hexadecimal digits in upper case:
/// * bytes that are not UTF-8, and `/`;
/// * `\`, because some stores, such as SeaweedFS, take it for a `/`;
/// * characters that a terminal might obey, see [`plays_tricks`];
/// * the two code points that XML cannot carry, because they would break a listing;
/// * a `%` before two such digits, and a `%` that is the whole name;
/// * the dots of a name that has only dots, because HTTP clients resolve `..` in a path.
///
/// The empty name becomes `%`.
pub fn escape(raw: &[u8]) -> String {
    // The usual name. `escape_any` returns the same, more slowly.
    let is_plain = |byte: &u8| (b' '..=b'~').contains(byte) && !matches!(byte, b'%' | b'/' | b'\\');
    match str::from_utf8(raw) {
        Ok(text) if raw.iter().all(is_plain) && raw.iter().any(|byte| *byte != b'.') => text.to_owned(),
        _ => escape_any(raw),
    }
}

fn escape_any(raw: &[u8]) -> String {
    let only_dots = raw.iter().all(|byte| *byte == b'.');
    let mut text = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        let valid = chunk.valid();
        for (at, character) in valid.char_indices() {
            let unsafe_here = match character {
                '%' => looks_escaped(&valid.as_bytes()[at + 1..]) || raw.len() == 1,
                '.' => only_dots,
                '/' | '\\' | '\u{fffe}' | '\u{ffff}' => true,
                other => plays_tricks(other),
            };
            if unsafe_here {
                push_escaped(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(character);
            }
        }
        push_escaped(&mut text, chunk.invalid());
    }
    if text.is_empty() { "%".to_owned() } else { text }
}

/// Returns the bytes that were spelt as `text`.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let digits = (*first == b'%' && looks_escaped(after)).then(|| str::from_utf8(&after[..2]).ok()).flatten();
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        raw.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    raw
}

/// Returns whether a terminal might obey a character instead of showing it: control characters, line separators, and those
/// that embed, override or isolate a direction (Unicode Standard Annex #9, 2.1 to 2.4).
pub fn plays_tricks(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns a text as it can be shown on a terminal: characters that it might obey are escaped.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape_tricks(text, |trick| trick.escape_default().to_string())
}

/// Returns a text in which each character that a terminal might obey is written as `escape` says.
pub fn escape_tricks(text: &str, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    // Nearly always, and ten thousand times in a list.
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if plays_tricks(character) {
            safe.push_str(&escape(character));
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// Spells a path below the drop folder as text: each of its parts by [`escape`].
pub fn escape_path(path: &Path) -> String {
    let parts: Vec<String> = path.iter().map(|part| escape(part.as_encoded_bytes())).collect();
    parts.join("/")
}

/// Returns whether a `%` before these bytes would read as an escape.
fn looks_escaped(after: &[u8]) -> bool {
    let hex = |byte: &u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(byte);
    // Two characters decide even at the end of a valid chunk: the escaped byte that follows begins with `%`, not a digit.
    after.len() >= 2 && after[..2].iter().all(hex)
}

fn push_escaped(text: &mut String, bytes: &[u8]) {
    text.extend(bytes.iter().map(|byte| format!("%{byte:02X}")));
}

/// Cuts a name to at most `max` bytes; a cut name keeps its extension and carries a hash of the whole name.
pub fn bounded(name: &str, max: usize) -> String {
    if name.len() <= max {
        return name.to_owned();
    }
    let hash = hex::encode(Sha256::digest(name.as_bytes()));
    let extension = name.rfind('.').map(|at| &name[at..]).filter(|extension| extension.len() <= 16).unwrap_or_default();
    let mut keep = max.saturating_sub(extension.len() + 9);
    while !name.is_char_boundary(keep) {
        keep -= 1;
    }
    format!("{}~{}{extension}", &name[..keep], &hash[..8])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_spelt_safely() {
        for (raw, expected) in [
            (&b"plain name.jpg"[..], "plain name.jpg"),
            (b"a\nb\x1b[31m.jpg", "a%0Ab%1B[31m.jpg"),
            (b"caf\xe9.jpg", "caf%E9.jpg"),
            (b"..", "%2E%2E"),
            (b"100%0A", "100%250A"),
            (b"Back_Wall%Cam", "Back_Wall%Cam"),
            (b"-rf", "-rf"),
            (b"a\\b.jpg", "a%5Cb.jpg"),
            (b"", "%"),
            (b"%", "%25"),
        ] {
            assert_eq!(escape(raw), expected);
        }
    }

    proptest! {
        #[test]
        fn what_was_spelt_is_read_back(raw: Vec<u8>) {
            prop_assume!(!raw.is_empty());
            prop_assert_eq!(unescape(escape(&raw).as_bytes()), raw);
        }

        #[test]
        fn two_names_never_share_a_spelling(a: Vec<u8>, b: Vec<u8>) {
            prop_assert_eq!(a == b, escape(&a) == escape(&b));
            prop_assert_eq!(escape(&a), escape_any(&a));
        }

        #[test]
        fn what_needs_no_escape_is_left_alone_by_either_way(name in "[ -~]{0,6}") {
            prop_assert_eq!(escape(name.as_bytes()), escape_any(name.as_bytes()));
        }

        #[test]
        fn percent_signs_stay_apart(a in "[%0-9A-F./\n]{0,5}", b in "[%0-9A-F./\n]{0,5}") {
            prop_assert_eq!(a == b, escape(a.as_bytes()) == escape(b.as_bytes()));
        }
    }
}
