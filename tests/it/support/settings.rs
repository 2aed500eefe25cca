//! Configurations as trees, so that a test changes a key and not a text.

use std::path::Path;

use serde_yaml::{Mapping, Value};

/// Reads YAML; no text is an empty map.
pub(crate) fn parse(text: &str) -> Value {
    match serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}")) {
        Value::Null => Value::Mapping(Mapping::new()),
        settings => settings,
    }
}

/// Puts `more` into `settings`: maps are merged key by key, any other value replaces the one that is there.
pub(crate) fn merge(settings: &mut Value, more: Value) {
    match (settings, more) {
        (Value::Mapping(settings), Value::Mapping(more)) => {
            for (key, value) in more {
                merge(settings.entry(key).or_insert(Value::Null), value);
            }
        }
        (settings, more) => *settings = more,
    }
}

/// Writes settings as YAML.
pub(crate) fn write(settings: &Value) -> String {
    serde_yaml::to_string(settings).unwrap()
}

/// Reads a configuration file.
pub(crate) fn load(file: &Path) -> Value {
    parse(&std::fs::read_to_string(file).unwrap())
}

/// Puts `more` into a configuration file.
pub(crate) fn change(file: &Path, more: &str) {
    let mut settings = load(file);
    merge(&mut settings, parse(more));
    std::fs::write(file, write(&settings)).unwrap();
}

/// Takes a key out of a section and returns its value.
pub(crate) fn take(settings: &mut Value, section: &str, key: &str) -> Value {
    settings[section].as_mapping_mut().unwrap().remove(key).unwrap()
}
