//! Names that begin with `-`: cameras and files may have them, and nobody should need to know of `--`.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// Returns the words of a command line with a `--` before the names, if one of the names begins with `-`.
///
/// A word is a name if it is no flag that the command knows and no value of one. Clap's own setting for such values was
/// rejected: a list of files would then take the flags behind it too.
pub(super) fn set_names_apart(words: Vec<OsString>, program: &mut Command) -> Vec<OsString> {
    program.build();
    let program = &*program;
    let (mut flags, mut names) = (Vec::new(), Vec::new());
    let mut command = None;
    let mut rest = words.iter();
    flags.extend(rest.next().cloned());
    while let Some(word) = rest.next() {
        if word == "--" {
            return words;
        }
        let known = command.unwrap_or(program);
        match flag(word, known) {
            Some(takes_value) => {
                flags.push(word.clone());
                if takes_value {
                    flags.extend(rest.next().cloned());
                }
            }
            None if command.is_none() => {
                let Some(found) = program.find_subcommand(word) else { return words };
                command = Some(found);
                flags.push(word.clone());
            }
            None => names.push(word.clone()),
        }
    }
    if !names.iter().any(|name| begins_with_dash(name)) {
        return words;
    }
    flags.push(OsString::from("--"));
    flags.extend(names);
    flags
}

fn begins_with_dash(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-") && word != "-"
}

/// Returns whether a flag takes the next word as its value; `None` if the word is no flag of the command.
fn flag(word: &OsStr, command: &Command) -> Option<bool> {
    let word = word.to_str()?;
    let takes_value = |arg: &Arg| arg.get_action().takes_values();
    if let Some(long) = word.strip_prefix("--") {
        let (name, has_value) = long.split_once('=').map_or((long, false), |(name, _)| (name, true));
        let is_called = |arg: &&Arg| arg.get_long_and_visible_aliases().is_some_and(|names| names.contains(&name));
        let known = command.get_arguments().find(is_called)?;
        return Some(takes_value(known) && !has_value);
    }
    let letters = word.strip_prefix('-').filter(|letters| !letters.is_empty())?;
    let known = |letter: char| command.get_arguments().find(|arg| arg.get_short() == Some(letter));
    letters.chars().map(known).try_fold(false, |_, arg| Some(takes_value(arg?)))
}
