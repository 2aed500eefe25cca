//! The YAML of the file, as a tree in which every key and value knows its line.
//!
//! The tree is built from parser events. Deserialising into structs was rejected because it stops at the first mistake and
//! forgets the lines; a second parser for the lines alone could disagree with the first. A value is kept as text: its type
//! depends on its key, which this file does not know.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::problem::{Problem, quote};

/// The deepest nesting of lists and maps; the settings need five.
const DEPTH: usize = 32;

/// A value of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct YamlNode {
    pub(super) line: usize,
    pub(super) content: YamlContent,
    /// Its YAML tag, such as `!!str`; no setting allows one.
    pub(super) tag: Option<String>,
}

/// The three shapes of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum YamlContent {
    Scalar {
        text: String,
        /// Whether it is written without quotes, so that `null` means null.
        plain: bool,
    },
    List(Vec<YamlNode>),
    Map(Vec<YamlEntry>),
}

/// A key with its value. A map may have a key twice; the reader of the map reports that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct YamlEntry {
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) value: YamlNode,
}

impl YamlNode {
    /// Returns the line of a key below this map, such as `s3.undo`, or of the last map on the way to it.
    pub(super) fn line_of(&self, key: &str) -> Option<usize> {
        let (mut node, mut line) = (self, None);
        for name in key.split('.') {
            let YamlContent::Map(entries) = &node.content else { break };
            let Some(entry) = entries.iter().find(|entry| entry.key == name) else { break };
            (node, line) = (&entry.value, Some(entry.line));
        }
        line
    }

    /// Returns the text of a key of this map; `None` if it is missing, null, or no text.
    pub(super) fn text_of(&self, key: &str) -> Option<&str> {
        let YamlContent::Map(entries) = &self.content else { return None };
        let value = &entries.iter().find(|entry| entry.key == key)?.value;
        match &value.content {
            YamlContent::Scalar { text, .. } if !value.is_null() => Some(text),
            _ => None,
        }
    }

    /// Returns whether this is the null value, written as nothing, `~` or `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.content, YamlContent::Scalar { text, plain: true } if is_null(text))
    }
}

/// Returns whether a scalar without quotes is the null value (YAML 1.2.2, "Core Schema").
pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The largest file that is read, in bytes; one with a thousand cameras has a quarter of it.
const FILE_BYTES: u64 = 1 << 20;

/// Reads the text of a file.
pub(super) fn open(path: &Path) -> Result<String, Problem> {
    let problem = |wrong: String, mend: &str| Problem {
        line: None,
        key: String::new(),
        wrong,
        value: None,
        mend: mend.to_owned(),
    };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| {
        let mend = match error.kind() {
            ErrorKind::NotFound => "create it, or name another file with --config or HK_AWS_CONFIG",
            ErrorKind::PermissionDenied => "let the user that hk-aws runs as read it and enter the folders above it",
            ErrorKind::IsADirectory => "name the file itself, such as config.yaml in it",
            _ => "check that the file can be read, for instance with cat",
        };
        problem(format!("failed to read the file: {error}"), mend)
    })?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(problem("more than 1MiB".to_owned(), "name a configuration file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let upto = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..upto].split(|byte| *byte == b'\n').count();
        refuse(line, "not UTF-8", "save the file as UTF-8")
    })
}

/// Parses the text of a file; `None` if it holds no value, because it is empty or has only comments.
pub(super) fn read(text: &str) -> Result<Option<YamlNode>, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut tree = Tree::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let line = error.marker().line();
            let shown = text.lines().nth(line.saturating_sub(1)).map(|shown| quote(shown.trim()));
            Problem {
                line: Some(line),
                key: String::new(),
                wrong: format!("not YAML: {}", error.info()),
                value: shown,
                mend: "mend the indentation (spaces, no tabs), and put quotes around a value that starts with \
                       { [ * & ! | > % @ or holds \": \" or \" #\""
                    .to_owned(),
            }
        })?;
        tree.take(event, span)?;
    }
    Ok(tree.root)
}

/// A tree that is built from parser events.
#[derive(Default)]
struct Tree<'input> {
    root: Option<YamlNode>,
    /// The lists and maps around the next value, the innermost last.
    open: Vec<Open>,
    /// The text of each scalar with an anchor and whether it is plain, for its aliases.
    anchors: std::collections::HashMap<usize, (std::borrow::Cow<'input, str>, bool)>,
}

/// A list or map that has not ended yet.
struct Open {
    node: YamlNode,
    /// In a map, the line and text of the key whose value comes next.
    key: Option<(usize, String)>,
}

impl<'input> Tree<'input> {
    /// Adds what one event says.
    fn take(&mut self, event: Event<'input>, span: Span) -> Result<(), Problem> {
        let line = span.start.line();
        match event {
            Event::DocumentStart(_) if self.root.is_some() => Err(refuse(
                line,
                "a second document starts here",
                "keep one document in the file: remove the line \"---\" and the other document",
            )),
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                if anchor != 0 {
                    self.anchors.insert(anchor, (text.clone(), plain));
                }
                let tag = tag.map(|tag| tag.to_string());
                self.add(YamlNode { line, content: YamlContent::Scalar { text: text.into_owned(), plain }, tag });
                Ok(())
            }
            Event::Alias(anchor) => {
                let Some((text, plain)) = self.anchors.get(&anchor).cloned() else {
                    return Err(refuse(
                        line,
                        "an alias stands for a list or a map",
                        "write out the list or map: an alias can only stand for one value here",
                    ));
                };
                self.add(YamlNode { line, content: YamlContent::Scalar { text: text.into_owned(), plain }, tag: None });
                Ok(())
            }
            Event::SequenceStart(_, tag) => {
                self.open(line, YamlContent::List(Vec::new()), tag.map(|tag| tag.to_string()))
            }
            Event::MappingStart(_, tag) => {
                self.open(line, YamlContent::Map(Vec::new()), tag.map(|tag| tag.to_string()))
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    self.add(open.node);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Begins a list or a map.
    fn open(&mut self, line: usize, content: YamlContent, tag: Option<String>) -> Result<(), Problem> {
        let as_key =
            self.open.last().is_some_and(|open| matches!(open.node.content, YamlContent::Map(_)) && open.key.is_none());
        if as_key {
            return Err(refuse(
                line,
                "a list or a map stands where a key is wanted",
                "write KEY: VALUE, with quotes around a value that starts with { or [",
            ));
        }
        if self.open.len() == DEPTH {
            return Err(refuse(
                line,
                "lists and maps are nested too deep",
                "remove this: no setting has that many levels",
            ));
        }
        self.open.push(Open { node: YamlNode { line, content, tag }, key: None });
        Ok(())
    }

    /// Adds a value that is complete to the list or map around it.
    fn add(&mut self, node: YamlNode) {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match (&mut open.node.content, open.key.take(), node) {
            (YamlContent::List(items), _, node) => items.push(node),
            (YamlContent::Map(entries), Some((line, key)), value) => entries.push(YamlEntry { line, key, value }),
            // `open` refuses lists and maps as keys.
            (YamlContent::Map(_), None, YamlNode { line, content: YamlContent::Scalar { text, .. }, .. }) => {
                open.key = Some((line, text));
            }
            _ => {}
        }
    }
}

/// Returns a problem with the YAML of a line.
fn refuse(line: usize, wrong: &str, mend: &str) -> Problem {
    Problem { line: Some(line), key: String::new(), wrong: wrong.to_owned(), value: None, mend: mend.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(node: &YamlNode) -> serde_yaml::Value {
        match &node.content {
            YamlContent::Scalar { text, plain: false } => text.as_str().into(),
            YamlContent::Scalar { text, plain: true } => serde_yaml::from_str(text).unwrap(),
            YamlContent::List(items) => items.iter().map(resolve).collect(),
            YamlContent::Map(entries) => entries
                .iter()
                .map(|entry| (serde_yaml::from_str::<serde_yaml::Value>(&entry.key).unwrap(), resolve(&entry.value)))
                .collect::<serde_yaml::Mapping>()
                .into(),
        }
    }

    #[test]
    fn the_tree_says_what_another_reader_of_yaml_says() {
        for text in [
            "a: 1\nb: [x, 'y', \"z\\n\"]\nc:\n  d: ~\n  e:\nf: {g: h, i: [j]}\n",
            "- a\n- b: c\n  d: |\n    e\n    f\n- - g\n",
            "a: &x 5s\nb: *x\n",
            "a: >-\n  b\n  c\nd: \"${E}\"\n",
            "\u{feff}a: b # c\n",
            "a: b\r\nc:\r\n- d\r\n",
        ] {
            let tree = read(text).unwrap().unwrap();
            let expected: serde_yaml::Value = serde_yaml::from_str(text.trim_start_matches('\u{feff}')).unwrap();
            assert_eq!(resolve(&tree), expected, "{text}");
        }
    }

    fn list_lines(node: &YamlNode, lines: &mut Vec<(String, usize)>) {
        match &node.content {
            YamlContent::Scalar { .. } => {}
            YamlContent::List(items) => items.iter().for_each(|item| list_lines(item, lines)),
            YamlContent::Map(entries) => {
                for entry in entries {
                    lines.push((entry.key.clone(), entry.line));
                    list_lines(&entry.value, lines);
                }
            }
        }
    }

    #[test]
    fn every_key_knows_its_line() {
        let tree =
            read("# one\na:\n  b: 1\n\n  c: {d: 2,\n      e: 3}\nf:\n  - g: 4\n    h:\n  - i: 5\n").unwrap().unwrap();
        let mut lines = Vec::new();
        list_lines(&tree, &mut lines);
        let lines: Vec<_> = lines.iter().map(|(key, line)| (key.as_str(), *line)).collect();
        assert_eq!(lines, [("a", 2), ("b", 3), ("c", 5), ("d", 5), ("e", 6), ("f", 7), ("g", 8), ("h", 9), ("i", 10)]);
    }

    #[test]
    fn what_is_no_yaml_names_its_line() {
        for (text, line, wrong) in [
            ("a: b\nc: [d\n", 3, "not YAML"),
            ("a: 1\nb:\n\tc: 2\n", 3, "not YAML"),
            ("a: 1\n  b: 2\n", 2, "not YAML"),
            ("a: {b}/{c}\n", 1, "not YAML"),
            ("a: *.jpg\n", 1, "not YAML"),
            ("a: 1\n---\nb: 2\n", 2, "a second document"),
            ("a: 1\n[b]: 2\n", 2, "a list or a map stands where a key is wanted"),
            ("a: &x [b]\nc: *x\n", 2, "an alias stands for a list"),
            (&format!("a:\n {}", "[".repeat(100)), 2, "too deep"),
        ] {
            let problem = read(text).unwrap_err();
            assert!(problem.wrong.contains(wrong), "{text}: {problem:?}");
            assert_eq!(problem.line, Some(line), "{text}: {problem:?}");
        }
    }

    #[test]
    fn nothing_but_comments_is_nothing() {
        for text in ["", "\n\n", "# a\n", "\u{feff}"] {
            assert_eq!(read(text).unwrap(), None, "{text:?}");
        }
    }
}
