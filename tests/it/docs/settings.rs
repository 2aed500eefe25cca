//! The table of every key in configuration.md, held against the code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hk_aws::config::{Config, Problems};
use regex::Regex;
use serde_yaml::{Mapping, Value};

use super::document::Document;
use super::{SHIPPED, spans, table};

/// What must be set.
const REQUIRED: &str = "{drop_folder: {path: /srv/drop}, s3: {bucket: captures}}";

/// Additions that make every optional section show its keys. Bundles and transitions exclude each other.
const OPTIONAL: [&str; 3] = [
    "rotate: {archive: null}",
    "rotate: {transition: {}, expire: {}}",
    "cameras: [{name: CAM}]\ns3: {bucket: captures, object_lock: {}, sse: {kms_key_id: k}}\nheartbeat: {}\nmqtt: {url: 'mqtt://broker'}",
];

fn parse(settings: &Value) -> Result<Config, Problems> {
    let text = serde_yaml::to_string(settings).unwrap();
    Config::parse(Path::new("config.yaml"), &text, &|name| (name == "TZ").then(|| "UTC".to_owned()))
}

/// Adds the paths of all values, such as `cameras[].name`.
fn add_leaves(path: &str, value: &Value, leaves: &mut BTreeSet<String>) {
    match value {
        Value::Mapping(map) => {
            for (key, value) in map {
                let dot = if path.is_empty() { "" } else { "." };
                add_leaves(&format!("{path}{dot}{}", key.as_str().unwrap()), value, leaves);
            }
        }
        Value::Sequence(items) if items.iter().any(Value::is_mapping) => {
            for item in items {
                add_leaves(&format!("{path}[]"), item, leaves);
            }
        }
        _ => {
            leaves.insert(path.to_owned());
        }
    }
}

/// Every key of the code that can have a value, or be null.
fn keys() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for more in [""].into_iter().chain(OPTIONAL) {
        let mut settings: Mapping = serde_yaml::from_str(REQUIRED).unwrap();
        let more: Option<Mapping> = serde_yaml::from_str(more).unwrap();
        settings.extend(more.unwrap_or_default());
        let effective = parse(&settings.into()).unwrap().effective();
        add_leaves("", &serde_yaml::from_str(&effective).unwrap(), &mut keys);
    }
    keys
}

/// The section that a key is in, made if it is not there.
fn section_of<'a>(settings: &'a mut Value, key: &str) -> (&'a mut Mapping, Value) {
    let (sections, key) = key.rsplit_once('.').unwrap_or(("", key));
    let mut place = settings;
    for section in sections.split('.').filter(|section| !section.is_empty()) {
        if let Some(list) = section.strip_suffix("[]") {
            if place[list].is_null() {
                place[list] = serde_yaml::from_str("[{name: CAM}]").unwrap();
            }
            place = &mut place[list][0];
        } else {
            place = &mut place[section];
            if place.is_null() {
                *place = Mapping::new().into();
                if section == "mqtt" {
                    place["url"] = "mqtt://broker".into();
                }
            }
        }
    }
    (place.as_mapping_mut().unwrap(), key.into())
}

#[test]
fn the_table_has_every_key_of_the_code_with_its_default_and_no_other() {
    let rows = table(&Document::read("packaging/doc/configuration.md"), "key");
    let mut defaults = BTreeMap::new();
    for row in &rows {
        let [key, meaning, default] = row.as_slice() else { panic!("{row:?}") };
        assert!(meaning.len() > 3, "{row:?}");
        let twice = defaults.insert(spans(key).next().unwrap().to_owned(), default);
        assert!(twice.is_none(), "{key} stands there twice");
    }
    assert_eq!(
        defaults.keys().cloned().collect::<BTreeSet<_>>(),
        keys(),
        "the table on the left, the code on the right"
    );
    for (key, default) in defaults {
        let required: Value = serde_yaml::from_str(REQUIRED).unwrap();
        let mut without = required.clone();
        let (section, name) = section_of(&mut without, &key);
        section.remove(&name);
        if default == "required" {
            let Err(problems) = parse(&without) else { panic!("{key} may be left out") };
            assert!(problems.to_string().contains(&key.replace("[]", "[0]")), "{key}: {problems}");
            continue;
        }
        let left_out = parse(&without).unwrap_or_else(|problems| panic!("{key}: {problems}"));
        // The value, and the paths that a null stands for.
        let written = spans(default).enumerate().filter(|(at, text)| *at == 0 || text.starts_with('/'));
        let mut count = 0;
        for (_, text) in written {
            let mut with = required.clone();
            let (section, name) = section_of(&mut with, &key);
            section.insert(name, serde_yaml::from_str(text).unwrap());
            let set = parse(&with).unwrap_or_else(|problems| panic!("{key}: {problems}"));
            assert_eq!(set, left_out, "{key}: the default is not {text}");
            count += 1;
        }
        assert!(count > 0, "{key}: {default:?} names no value");
    }
}

#[test]
fn every_setting_that_the_documents_name_exists() {
    let keys = keys();
    let sections: Mapping = serde_yaml::from_str(SHIPPED).unwrap();
    let setting = Regex::new(r"^([a-z0-9_]+(?:\[\])?(?:\.[a-z0-9_]+)+)(?:: .*)?$").unwrap();
    let mut found = 0;
    for document in Document::all() {
        for code in spans(&document.prose()).filter_map(|code| setting.captures(code)) {
            let named = &code[1];
            // Otherwise it is the name of a file or of a program.
            if sections.contains_key(named.split(['.', '[']).next().unwrap()) {
                assert!(keys.contains(named), "{}: {named} is no setting", document.path);
                found += 1;
            }
        }
    }
    assert!(found > 60, "{found}");
}
