//! Reads the maps of the file key by key. A problem is recorded with its place, and the reading goes on.

use std::cell::RefCell;

use super::file::{YamlContent, YamlEntry, YamlNode, is_null};
use super::problem::{Fault, Problem, mask, nearest, quote};

/// Returns the value of an environment variable, if it is set.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads one file: holds the environment for its `${ENV}`, and collects the problems.
pub(super) struct SettingsReader<'a> {
    env: Env<'a>,
    problems: RefCell<Vec<Problem>>,
}

/// Where the value of a key is, or would be.
#[derive(Debug, Clone)]
pub(super) struct KeyPlace {
    pub(super) line: Option<usize>,
    /// The path of the key, such as `cameras[0].timezone`.
    pub(super) key: String,
}

/// A single value.
pub(super) struct Leaf {
    /// The value with its `${ENV}` substituted.
    pub(super) text: String,
    /// The value as it is in the file.
    pub(super) written: String,
    pub(super) is_null: bool,
}

/// What the file says about a key.
pub(super) enum GivenValue<T> {
    /// The file does not have the key.
    Absent,
    /// The value is null.
    Null,
    /// The value.
    Here(T),
    /// The value is wrong, and the problem is recorded.
    Wrong,
}

/// A map of the file. An absent map is one without keys, so that every key has its default.
pub(super) struct Section<'a> {
    reader: &'a SettingsReader<'a>,
    place: KeyPlace,
    entries: &'a [YamlEntry],
    /// Whether the map or one around it is something else than a map, so that missing keys are not reported.
    wrong: bool,
    /// The keys that were asked for, which are all the keys that the map may have.
    known: RefCell<Vec<&'static str>>,
}

impl<'a> SettingsReader<'a> {
    /// Returns a reader without problems.
    pub(super) fn new(env: Env<'a>) -> Self {
        Self { env, problems: RefCell::default() }
    }

    /// Returns the value of an environment variable.
    pub(super) fn env(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }

    /// Records a problem; `value` is the quoted value.
    pub(super) fn refuse(&self, place: &KeyPlace, value: Option<String>, fault: Fault) {
        let Fault { wrong, mend } = fault;
        self.problems.borrow_mut().push(Problem { line: place.line, key: place.key.clone(), wrong, value, mend });
    }

    /// Returns the problems that were recorded.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// Reads a map with `read`, then refuses the keys that `read` did not ask for. `mend` is the remedy for another shape.
    pub(super) fn section<T>(
        &'a self,
        place: KeyPlace,
        node: Option<&'a YamlNode>,
        mend: &str,
        read: impl FnOnce(&Section<'a>) -> T,
    ) -> T {
        let (entries, wrong): (&[YamlEntry], bool) = match node {
            None => (&[], false),
            Some(node) if node.is_null() => (&[], false),
            Some(YamlNode { content: YamlContent::Map(entries), tag, .. }) => {
                self.refuse_tag(&place, tag.as_deref());
                (entries, false)
            }
            Some(node) => {
                self.refuse_shape(&place, node, "a map", mend);
                (&[], true)
            }
        };
        self.read(place, entries, wrong, read)
    }

    fn read<T>(
        &'a self,
        place: KeyPlace,
        entries: &'a [YamlEntry],
        wrong: bool,
        read: impl FnOnce(&Section<'a>) -> T,
    ) -> T {
        let section = Section { reader: self, place, entries, wrong, known: RefCell::default() };
        let read = read(&section);
        section.refuse_the_rest();
        read
    }

    /// Returns the items of a list; `None` if it is not a list, which is recorded.
    pub(super) fn items(
        &self,
        place: &KeyPlace,
        node: &'a YamlNode,
        mend: &str,
    ) -> Option<Vec<(KeyPlace, &'a YamlNode)>> {
        let YamlContent::List(items) = &node.content else {
            self.refuse_shape(place, node, "a list", mend);
            return None;
        };
        self.refuse_tag(place, node.tag.as_deref());
        let place_of = |(at, item): (usize, &'a YamlNode)| {
            (KeyPlace { line: Some(item.line), key: format!("{}[{at}]", place.key) }, item)
        };
        Some(items.iter().enumerate().map(place_of).collect())
    }

    /// Returns a single value; `None` if it is not one, which is recorded.
    pub(super) fn leaf(&self, place: &KeyPlace, node: &YamlNode) -> Option<Leaf> {
        let YamlContent::Scalar { text: written, plain } = &node.content else {
            let mend = "write one value, with quotes around it where it starts with { or [";
            self.refuse_shape(place, node, "one value", mend);
            return None;
        };
        if !self.refuse_tag(place, node.tag.as_deref()) {
            return None;
        }
        let text = self.substitute(place, written)?;
        // A variable that is set to nothing is more likely a mistake than null.
        let is_null = *plain && is_null(&text) && (!text.is_empty() || written.is_empty());
        Some(Leaf { text, written: written.clone(), is_null })
    }

    /// Returns what `parse` makes of a single value; `None` if it refuses it, which is recorded.
    pub(super) fn parse<T>(
        &self,
        place: &KeyPlace,
        leaf: &Leaf,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        parse(&leaf.text).map_err(|fault| self.refuse(place, Some(leaf.quoted()), fault)).ok()
    }

    /// Substitutes the `${ENV}` of a value; `None` if one is wrong or not set, which is recorded.
    fn substitute(&self, place: &KeyPlace, written: &str) -> Option<String> {
        let (mut text, mut rest, mut complete) = (String::new(), written, true);
        while let Some((before, after)) = rest.split_once("${") {
            text.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                let fault = Fault::new("a variable without an end", "write ${NAME}");
                self.refuse(place, Some(quote(&mask(written))), fault);
                return None;
            };
            if let Some(value) = self.env(name) {
                text.push_str(&value);
            } else {
                let mend = format!("set {name} in the environment of the service, or write the value itself");
                let fault = Fault::new(format!("the environment variable {name} is not set"), mend);
                self.refuse(place, Some(quote(&mask(written))), fault);
                complete = false;
            }
            rest = after;
        }
        text.push_str(rest);
        complete.then_some(text)
    }

    /// Refuses a value of another shape than `wanted`.
    fn refuse_shape(&self, place: &KeyPlace, node: &YamlNode, wanted: &str, mend: &str) {
        let (is, value) = match &node.content {
            YamlContent::Scalar { text, .. } => ("one value", Some(quote(text))),
            YamlContent::List(_) => ("a list", None),
            YamlContent::Map(_) => ("a map", None),
        };
        self.refuse(place, value, Fault::new(format!("{is} stands where {wanted} is wanted"), mend));
    }

    /// Returns whether there is no tag; refuses one.
    fn refuse_tag(&self, place: &KeyPlace, tag: Option<&str>) -> bool {
        if let Some(tag) = tag {
            self.refuse(
                place,
                Some(quote(tag)),
                Fault::new("a YAML tag", "leave the tag out: the key says what it is"),
            );
        }
        tag.is_none()
    }
}

impl Leaf {
    /// Quotes the value for a message: as it was written and, if that differs, with its variables substituted.
    fn quoted(&self) -> String {
        // A URL may be refused because it has a password, which the message must not show.
        let show = |text: &str| if text.contains("://") { quote(&mask(text)) } else { quote(text) };
        if self.text == self.written {
            show(&self.text)
        } else {
            format!("{}, which is {}", show(&self.written), show(&self.text))
        }
    }
}

impl<'a> Section<'a> {
    /// Returns the reader of the whole file.
    pub(super) fn reader(&self) -> &'a SettingsReader<'a> {
        self.reader
    }

    /// Returns the value of `key`, as YAML; the map may have this key from now on.
    pub(super) fn node(&self, key: &'static str) -> Option<&'a YamlNode> {
        if !self.known.borrow().contains(&key) {
            self.known.borrow_mut().push(key);
        }
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Returns the place of `key`: its line, or that of the map if the key is absent.
    pub(super) fn place(&self, key: &str) -> KeyPlace {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        let path = if self.place.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place.key) };
        KeyPlace { line: entry.map_or(self.place.line, |entry| Some(entry.line)), key: path }
    }

    /// Refuses the value of `key`.
    pub(super) fn refuse(&self, key: &str, value: Option<String>, fault: Fault) {
        self.reader.refuse(&self.place(key), value, fault);
    }

    /// Returns what the file says about `key`.
    pub(super) fn given<T>(&self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, Fault>) -> GivenValue<T> {
        let Some(node) = self.node(key) else { return GivenValue::Absent };
        let place = self.place(key);
        match self.reader.leaf(&place, node) {
            None => GivenValue::Wrong,
            Some(leaf) if leaf.is_null => GivenValue::Null,
            Some(leaf) => self.reader.parse(&place, &leaf, parse).map_or(GivenValue::Wrong, GivenValue::Here),
        }
    }

    /// Returns the value of `key`, or its default; refuses null. A wrong value is replaced by the default too, so that the
    /// reading can go on.
    pub(super) fn value<T>(&self, key: &'static str, default: T, parse: impl FnOnce(&str) -> Result<T, Fault>) -> T {
        match self.given(key, parse) {
            GivenValue::Here(value) => value,
            GivenValue::Absent | GivenValue::Wrong => default,
            GivenValue::Null => {
                self.refuse_null(key, "write one, or leave the key out to have its default");
                default
            }
        }
    }

    /// Returns the value of `key`, or of its default, which is parsed as if it were in the file; refuses null. `None` if the
    /// value is wrong, which is recorded.
    pub(super) fn parsed<T>(
        &self,
        key: &'static str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        match self.given(key, &parse) {
            GivenValue::Here(value) => Some(value),
            GivenValue::Wrong => None,
            GivenValue::Absent => parse(default).map_err(|fault| self.refuse(key, Some(quote(default)), fault)).ok(),
            GivenValue::Null => {
                self.refuse_null(key, &format!("write one, or leave the key out to have {default:?}"));
                None
            }
        }
    }

    /// Refuses `key` without a value.
    pub(super) fn refuse_null(&self, key: &str, mend: &str) {
        self.refuse(key, None, Fault::new("has no value", mend));
    }

    /// Returns the value of `key`, `None` for null, or its default if it is absent.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        default: Option<T>,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        match self.given(key, parse) {
            GivenValue::Absent => default,
            GivenValue::Here(value) => Some(value),
            GivenValue::Null | GivenValue::Wrong => None,
        }
    }

    /// Returns the value of a `key` without a default; `None` if it is missing or wrong, which is recorded.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        mend: &str,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        match self.given(key, parse) {
            GivenValue::Here(value) => Some(value),
            GivenValue::Wrong => None,
            GivenValue::Absent | GivenValue::Null => {
                if !self.wrong {
                    self.refuse(key, None, Fault::new("is missing", mend));
                }
                None
            }
        }
    }

    /// Reads the map below `key`; absent and null are a map without keys.
    pub(super) fn section<T>(&self, key: &'static str, read: impl FnOnce(&Section<'a>) -> T) -> T {
        match self.node(key) {
            None => self.reader.read(self.place(key), &[], self.wrong, read),
            node => {
                self.reader.section(self.place(key), node, "write its keys indented below it, or leave it out", read)
            }
        }
    }

    /// Reads the map below `key`; returns `None` for null, and `default` if it is absent. `example` shows how to write it.
    pub(super) fn optional_section<T>(
        &self,
        key: &'static str,
        default: Option<T>,
        example: &str,
        read: impl FnOnce(&Section<'a>) -> T,
    ) -> Option<T> {
        match self.node(key) {
            None => default,
            Some(node) if node.is_null() => None,
            node => Some(self.reader.section(self.place(key), node, &format!("write {example}, or null"), read)),
        }
    }

    /// Returns the items of the list below `key`; `example` shows how to write it.
    pub(super) fn list(&self, key: &'static str, example: &str) -> GivenValue<Vec<(KeyPlace, &'a YamlNode)>> {
        match self.node(key) {
            None => GivenValue::Absent,
            Some(node) if node.is_null() => GivenValue::Null,
            Some(node) => self
                .reader
                .items(&self.place(key), node, &format!("write {example}"))
                .map_or(GivenValue::Wrong, GivenValue::Here),
        }
    }

    /// Returns the values of the list below `key`, each as `parse` reads it; wrong ones are recorded and left out.
    pub(super) fn texts<T>(
        &self,
        key: &'static str,
        example: &str,
        parse: impl Fn(usize, &str) -> Result<T, Fault>,
    ) -> GivenValue<Vec<T>> {
        let items = match self.list(key, example) {
            GivenValue::Here(items) => items,
            GivenValue::Absent => return GivenValue::Absent,
            GivenValue::Null => return GivenValue::Null,
            GivenValue::Wrong => return GivenValue::Wrong,
        };
        let text_of = |(at, (place, node)): (usize, (KeyPlace, &YamlNode))| {
            let leaf = self.reader.leaf(&place, node)?;
            self.reader.parse(&place, &leaf, |text| parse(at, text))
        };
        GivenValue::Here(items.into_iter().enumerate().filter_map(text_of).collect())
    }

    /// Refuses the keys that nobody asked for, and keys that are there twice.
    fn refuse_the_rest(&self) {
        let known = self.known.borrow();
        for (at, entry) in self.entries.iter().enumerate() {
            let place = KeyPlace { line: Some(entry.line), ..self.place(&entry.key) };
            if let Some(first) = self.entries[..at].iter().find(|first| first.key == entry.key) {
                let wrong = format!("is there twice, first in line {}", first.line);
                self.reader.refuse(&place, None, Fault::new(wrong, "keep one of them"));
            } else if !known.contains(&entry.key.as_str()) {
                let mend = match nearest(&entry.key, known.iter().copied()) {
                    Some(meant) => format!("did you mean {meant}?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                self.reader.refuse(&place, None, Fault::new("unknown key", mend));
            }
        }
    }
}
