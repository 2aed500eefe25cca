//! The man pages and completions of the packages, as [`pages`] writes them.

use std::collections::BTreeSet;
use std::fs;

use super::document::Document;
use super::{commands, spans, table};

#[path = "../../../packaging/pages.rs"]
#[expect(dead_code, reason = "its `main` is for the packages")]
mod pages;

#[test]
fn every_command_and_every_setting_is_in_the_manual_and_every_command_in_the_completions() {
    let root = tempfile::tempdir().unwrap();
    pages::write(root.path()).unwrap();
    let share = root.path().join("usr/share");
    let manual: BTreeSet<String> = fs::read_dir(share.join("man/man1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let commands = commands();
    let wanted = commands.iter().map(|command| format!("hk-aws-{command}.1"));
    assert_eq!(manual, wanted.chain(["hk-aws.1".to_owned()]).collect());

    let settings = fs::read_to_string(share.join("man/man5/hk-aws.yaml.5")).unwrap().replace("\\-", "-");
    for row in table(&Document::read("packaging/doc/configuration.md"), "key") {
        let key = spans(&row[0]).next().unwrap();
        assert!(settings.contains(&format!(".TP\n\\fB{key}\\fR\n")), "{key}");
    }

    for completion in [
        "bash-completion/completions/hk-aws",
        "zsh/vendor-completions/_hk-aws",
        "fish/vendor_completions.d/hk-aws.fish",
    ] {
        let text = fs::read_to_string(share.join(completion)).unwrap();
        for command in &commands {
            assert!(text.contains(command.as_str()), "{completion}: {command}");
        }
    }
}
