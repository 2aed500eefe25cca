//! The catalogue of the journal, held against the messages of the code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use hk_aws::status::ConditionKind;
use regex::Regex;

use super::document::root;

const CATALOGUE: &str = include_str!("../../../packaging/usr/lib/systemd/catalog/hk-aws.catalog");
const IDS: &str = include_str!("../../../src/message.rs");

/// The ids of the code by name.
fn ids() -> BTreeMap<&'static str, &'static str> {
    let line = Regex::new("(?m)^pub const ([A-Z_]+): &str = \"([^\"]*)\";$").unwrap();
    line.captures_iter(IDS).map(|found| found.extract::<2>().1).map(|[name, id]| (name, id)).collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

#[test]
fn every_warning_and_error_has_an_id_that_never_changes_and_an_entry_in_the_catalogue() {
    let ids = ids();
    assert!(ids.len() > 30 && ids.len() == IDS.matches("pub const ").count());
    let hex = Regex::new("^[0-9a-f]{32}$").unwrap();
    assert!(ids.values().all(|id| hex.is_match(id)), "{ids:?}");
    let entries: Vec<&str> = CATALOGUE.split("\n-- ").skip(1).collect();
    let told: BTreeSet<&str> = entries.iter().map(|entry| &entry[..32]).collect();
    assert_eq!((told.len(), &told), (entries.len(), &ids.values().copied().collect()), "one entry for each id");
    for entry in entries {
        // The format: headers, an empty line, and what it means and what to do.
        let (head, text) = entry.split_once("\n\n").unwrap_or_else(|| panic!("{entry}"));
        assert!(head.contains("\nSubject: ") && head.contains("\nDefined-By: hk-aws"), "{entry}");
        assert_eq!(text.trim().split("\n\n").count(), 2, "what it means, and what to do: {entry}");
        assert!(text.lines().all(|line| line.len() <= 100), "{entry}");
    }
    let call = Regex::new(r"(?s)tracing::(?:warn|error)!\(\s*(message_id = (?:crate::)?message::([A-Z_]+),)?").unwrap();
    let mut used = BTreeSet::new();
    for path in sources(&root().join("src")) {
        let text = std::fs::read_to_string(&path).unwrap();
        for found in call.captures_iter(&text) {
            let name = found.get(2).unwrap_or_else(|| panic!("a message without an id in {}", path.display())).as_str();
            used.insert(name.to_owned());
        }
    }
    let unused: Vec<_> = ids.keys().filter(|name| !used.contains(**name)).collect();
    assert!(unused.is_empty(), "nothing says {unused:?}");
}

#[test]
fn every_kind_of_condition_and_every_metric_is_on_the_page() {
    let page = std::fs::read_to_string(root().join("packaging/doc/watching.md")).unwrap();
    let row = Regex::new("(?m)^\\| `([a-z_]+)` \\| ").unwrap();
    let rows: BTreeSet<&str> = row.captures_iter(&page).map(|found| found.extract::<1>().1[0]).collect();
    for kind in ConditionKind::ALL {
        assert!(rows.contains(kind.name()), "{kind:?}");
    }
    let code = std::fs::read_to_string(root().join("src/metrics/text.rs")).unwrap();
    let code = code.split("#[cfg(test)]").next().unwrap();
    let metric = Regex::new("\"(hk_aws_[a-z0-9_]+)\"").unwrap();
    let metrics: BTreeSet<&str> = metric.captures_iter(code).map(|found| found.extract::<1>().1[0]).collect();
    assert!(metrics.len() > 15, "{metrics:?}");
    for metric in metrics {
        assert!(page.contains(&format!("`{metric}`")) || page.contains(&format!("`{metric}{{")), "{metric}");
    }
}
