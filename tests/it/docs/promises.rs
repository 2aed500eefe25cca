//! The promises and the tests that hold them.

use std::collections::BTreeSet;
use std::path::Path;

use regex::Regex;

use super::document::{Document, root};

/// The text of all tests.
pub(super) fn sources() -> String {
    fn read(folder: &Path) -> String {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries
            .map(|path| match path.extension() {
                _ if path.is_dir() => read(&path),
                Some(extension) if extension == "rs" || extension == "sh" => std::fs::read_to_string(&path).unwrap(),
                _ => String::new(),
            })
            .collect()
    }
    ["src", "tests/it", "tests/peers", "tests/system"].map(|folder| read(&root().join(folder))).concat()
}

#[test]
fn every_test_that_holds_a_promise_exists() {
    let sources = sources();
    let promises = Document::read("packaging/doc/promises.md").text;
    let named = Regex::new("`(case(?:_[a-z0-9]+)+|[a-z0-9]+(?:_[a-z0-9]+){3,})`").unwrap();
    let named: BTreeSet<&str> =
        named.captures_iter(&promises).map(|captures| captures.get(1).unwrap().as_str()).collect();
    assert!(named.len() > 40, "{named:?}");
    let is_there =
        |name: &str| [format!("fn {name}("), format!("\n{name}() {{")].iter().any(|way| sources.contains(way));
    let missing: Vec<_> = named.iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let bare: Vec<_> = promises.split("\n- ").skip(1).filter(|promise| !promise.contains('_')).collect();
    assert!(bare.is_empty(), "no test holds {bare:?}");
}

#[test]
fn the_readme_promises_in_eight_sentences_with_a_link_each() {
    let readme = Document::read("README.md").text;
    let promises = readme.split("\n## What is promised\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let sentence = Regex::new(r"(?m)^\d\. .*\(packaging/doc/promises\.md#[a-z-]+\)").unwrap();
    assert_eq!(sentence.find_iter(promises).count(), 8, "{promises}");
}
