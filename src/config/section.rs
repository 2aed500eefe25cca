//! Maps of the file, read key by key: what is wrong is written down with its place and the reading goes on.

use std::cell::RefCell;

use super::check::mask;
use super::file::{YamlContent, YamlEntry, YamlNode, is_null};
use super::problem::{Fault, Problem, nearest, quote};

/// The environment by name.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One reading of one file: the environment its values draw on, and what was found wrong so far.
pub(super) struct SettingsReader<'a> {
    env: Env<'a>,
    problems: RefCell<Vec<Problem>>,
}

/// Where a value stands.
#[derive(Debug, Clone)]
pub(super) struct KeyPlace {
    pub(super) line: Option<usize>,
    pub(super) key: String,
}

/// A single value with its `${ENV}` substituted.
pub(super) struct Leaf {
    pub(super) text: String,
    /// As it stands in the file.
    pub(super) written: String,
    pub(super) is_null: bool,
}

/// A key's value, by what the file says about it.
pub(super) enum GivenValue<T> {
    /// The key is not there.
    Absent,
    /// It is there as null.
    Null,
    /// It is there.
    Here(T),
    /// It is there and wrong, which was written down.
    Wrong,
}

/// A map of the file, or what stands for it where it is absent: then every key has its default.
pub(super) struct Section<'a> {
    reading: &'a SettingsReader<'a>,
    place: KeyPlace,
    entries: &'a [YamlEntry],
    /// Whether it, or what it lies in, is there in a wrong shape, so that what it lacks is not worth a word.
    wrong: bool,
    /// The keys that were asked for: what is known here.
    known: RefCell<Vec<&'static str>>,
}

impl<'a> SettingsReader<'a> {
    pub(super) fn new(env: Env<'a>) -> Self {
        Self { env, problems: RefCell::default() }
    }

    pub(super) fn env(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }

    pub(super) fn refuse(&self, place: &KeyPlace, value: Option<String>, fault: Fault) {
        let Fault { wrong, mend } = fault;
        self.problems.borrow_mut().push(Problem { line: place.line, key: place.key.clone(), wrong, value, mend });
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// Reads a map with `read`, then refuses the keys it did not ask for.
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
        let section = Section { reading: self, place, entries, wrong, known: RefCell::default() };
        let read = read(&section);
        section.refuse_the_rest();
        read
    }

    /// The items of a list.
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

    /// A single value.
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
        // A variable that is set but empty is not taken for null: it is more likely to be a mistake.
        let is_null = *plain && is_null(&text) && (!text.is_empty() || written.is_empty());
        Some(Leaf { text, written: written.clone(), is_null })
    }

    /// A single value as `parse` understands it.
    pub(super) fn parse<T>(
        &self,
        place: &KeyPlace,
        leaf: &Leaf,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        parse(&leaf.text).map_err(|fault| self.refuse(place, Some(leaf.quoted()), fault)).ok()
    }

    fn substitute(&self, place: &KeyPlace, written: &str) -> Option<String> {
        let (mut text, mut rest, mut whole) = (String::new(), written, true);
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
                whole = false;
            }
            rest = after;
        }
        text.push_str(rest);
        whole.then_some(text)
    }

    fn refuse_shape(&self, place: &KeyPlace, node: &YamlNode, wanted: &str, mend: &str) {
        let (is, value) = match &node.content {
            YamlContent::Scalar { text, .. } => ("one value", Some(quote(text))),
            YamlContent::List(_) => ("a list", None),
            YamlContent::Map(_) => ("a map", None),
        };
        self.refuse(place, value, Fault::new(format!("{is} stands where {wanted} is wanted"), mend));
    }

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
    /// For a message: as written, and what became of it.
    fn quoted(&self) -> String {
        // Where a URL is wrong because it has a password, the message does not spread it.
        let show = |text: &str| if text.contains("://") { quote(&mask(text)) } else { quote(text) };
        if self.text == self.written {
            show(&self.text)
        } else {
            format!("{}, which is {}", show(&self.written), show(&self.text))
        }
    }
}

impl<'a> Section<'a> {
    pub(super) fn reading(&self) -> &'a SettingsReader<'a> {
        self.reading
    }

    /// The node below `key`, which becomes known here.
    pub(super) fn node(&self, key: &'static str) -> Option<&'a YamlNode> {
        if !self.known.borrow().contains(&key) {
            self.known.borrow_mut().push(key);
        }
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Where `key` stands, or would stand.
    pub(super) fn place(&self, key: &str) -> KeyPlace {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        let path = if self.place.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place.key) };
        KeyPlace { line: entry.map_or(self.place.line, |entry| Some(entry.line)), key: path }
    }

    /// Refuses the value of `key`.
    pub(super) fn refuse(&self, key: &str, value: Option<String>, fault: Fault) {
        self.reading.refuse(&self.place(key), value, fault);
    }

    /// The value of `key`, told apart by how it is given.
    pub(super) fn given<T>(&self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, Fault>) -> GivenValue<T> {
        let Some(node) = self.node(key) else { return GivenValue::Absent };
        let place = self.place(key);
        match self.reading.leaf(&place, node) {
            None => GivenValue::Wrong,
            Some(leaf) if leaf.is_null => GivenValue::Null,
            Some(leaf) => self.reading.parse(&place, &leaf, parse).map_or(GivenValue::Wrong, GivenValue::Here),
        }
    }

    /// The value of `key`, or its default; null is refused. What is wrong has its default too, so that the reading can go on.
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

    /// The value of `key`, or of its default as it would be written; null is refused. `None` where it is wrong.
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

    /// Refuses that `key` stands there without a value.
    pub(super) fn refuse_null(&self, key: &str, mend: &str) {
        self.refuse(key, None, Fault::new("has no value", mend));
    }

    /// The value of `key`, `None` for null, or its default.
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

    /// The value of a `key` that has no default.
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

    /// The section below `key`; absent and null are a section without keys.
    pub(super) fn section<T>(&self, key: &'static str, read: impl FnOnce(&Section<'a>) -> T) -> T {
        match self.node(key) {
            None => self.reading.read(self.place(key), &[], self.wrong, read),
            node => {
                self.reading.section(self.place(key), node, "write its keys indented below it, or leave it out", read)
            }
        }
    }

    /// The section below `key` where that may be null; `example` is how to write it.
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
            node => Some(self.reading.section(self.place(key), node, &format!("write {example}, or null"), read)),
        }
    }

    /// The items of the list below `key`; `example` is how to write it.
    pub(super) fn list(&self, key: &'static str, example: &str) -> GivenValue<Vec<(KeyPlace, &'a YamlNode)>> {
        match self.node(key) {
            None => GivenValue::Absent,
            Some(node) if node.is_null() => GivenValue::Null,
            Some(node) => self
                .reading
                .items(&self.place(key), node, &format!("write {example}"))
                .map_or(GivenValue::Wrong, GivenValue::Here),
        }
    }

    /// The texts of the list below `key`, each as `parse` understands it; those that are wrong are left out.
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
            let leaf = self.reading.leaf(&place, node)?;
            self.reading.parse(&place, &leaf, |text| parse(at, text))
        };
        GivenValue::Here(items.into_iter().enumerate().filter_map(text_of).collect())
    }

    fn refuse_the_rest(&self) {
        let known = self.known.borrow();
        for (at, entry) in self.entries.iter().enumerate() {
            let place = KeyPlace { line: Some(entry.line), ..self.place(&entry.key) };
            if let Some(first) = self.entries[..at].iter().find(|first| first.key == entry.key) {
                let wrong = format!("is there twice, first in line {}", first.line);
                self.reading.refuse(&place, None, Fault::new(wrong, "keep one of them"));
            } else if !known.contains(&entry.key.as_str()) {
                let mend = match nearest(&entry.key, known.iter().copied()) {
                    Some(meant) => format!("did you mean {meant}?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                self.reading.refuse(&place, None, Fault::new("unknown key", mend));
            }
        }
    }
}
