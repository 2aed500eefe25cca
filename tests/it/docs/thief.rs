//! What a thief can do, held against the template.

use std::collections::BTreeSet;
use std::path::Path;

use hk_aws::aws_template::{TemplateFormat, render};
use hk_aws::config::Config;
use hk_aws::doctor::DEEDS;
use serde_json::Value;

use super::document::Document;
use super::{spans, table};

/// The actions that the template allows to the box's user.
fn rights(s3: &str) -> BTreeSet<String> {
    // A class that needs a restore needs a right of its own, which the text below the table names.
    let text = format!(
        "drop_folder: {{path: /drop}}\ntimezone: UTC\ns3: {{bucket: captures, {s3}}}\nrotate: {{archive: null, expire: null}}\n"
    );
    let config = Config::parse(Path::new("config.yaml"), &text, &|_| None).unwrap();
    let policy: Value = serde_json::from_str(&render(&config, TemplateFormat::Policy).unwrap()).unwrap();
    let statements = policy["Statement"].as_array().unwrap().iter();
    let actions = statements.flat_map(|statement| statement["Action"].as_array().unwrap());
    actions.map(|action| action.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_rights_of_each_mode_are_those_that_the_template_gives() {
    let rows = table(&Document::read("packaging/doc/thief.md"), "mode");
    let actions = |text: &str| -> BTreeSet<String> {
        spans(text).filter(|code| code.starts_with("s3:")).map(str::to_owned).collect()
    };
    let [write_only, read_write, lock] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!(spans(&write_only[0]).next().unwrap(), "s3.access: write-only");
    assert_eq!(spans(&read_write[0]).next().unwrap(), "s3.access: read-write");
    let (writes, all) = (actions(&write_only[1]), actions(&read_write[1]));
    assert_eq!(rights("access: write-only"), writes);
    assert_eq!(rights("access: read-write"), all);
    let (first, second) = lock[1].split_once(';').unwrap();
    let locked = |access: &str| rights(&format!("access: {access}, object_lock: {{days: 90}}"));
    let both = |set: &BTreeSet<String>, more: &str| set.union(&actions(more)).cloned().collect::<BTreeSet<_>>();
    assert_eq!(locked("write-only"), both(&writes, first));
    assert_eq!(locked("read-write"), both(&all, &format!("{first}{second}")));
}

/// The doctor's answers with the template, as the page lists them, are those that follow from the rights. Only the policy of
/// the bucket takes one away: that to overwrite.
#[test]
fn what_the_doctor_says_of_the_template_is_what_the_template_allows() {
    let rows = table(&Document::read("packaging/doc/thief.md"), "can a thief ...");
    assert_eq!(rows.len(), DEEDS.len(), "{rows:?}");
    for (row, deed) in rows.iter().zip(DEEDS) {
        assert_eq!((row[0].as_str(), spans(&row[1]).next().unwrap()), (deed.what, deed.right));
        for (cell, access) in [(&row[2], "write-only"), (&row[3], "read-write")] {
            for lock in ["", ", object_lock: {days: 90}"] {
                let may =
                    deed.right != "s3:PutObject" && rights(&format!("access: {access}{lock}")).contains(deed.right);
                assert_eq!(cell, if may { "yes" } else { "no" }, "{access}{lock}: {}", deed.what);
            }
        }
    }
}

#[test]
fn the_days_of_undo_in_the_texts_are_the_default() {
    let config = Config::parse(
        Path::new("config.yaml"),
        "drop_folder: {path: /drop}\ntimezone: UTC\ns3: {bucket: captures}\n",
        &|_| None,
    );
    assert_eq!(config.unwrap().s3.undo, std::time::Duration::from_hours(30 * 24));
    for (document, text) in [
        ("README.md", "for 30 days (`s3.undo`)"),
        ("packaging/doc/thief.md", "`s3.undo`, 30 days unless you set it"),
        ("packaging/doc/thief.md", "there are 30 days in which"),
    ] {
        assert!(Document::read(document).text.replace('\n', " ").contains(text), "{document}: {text}");
    }
}
