//! Where the commands print: data to stdout, everything else to stderr.
//!
//! Names and answers out of the bucket are chosen by whoever can write there: no character that a terminal might obey
//! passes.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;

use anyhow::Context as _;
use indicatif::ProgressBar;
use serde::Serialize;

use super::{ExitWith, Told};
use crate::config::Problems;
use crate::key;

/// How to print.
#[derive(Debug)]
pub(super) struct Out {
    /// One JSON document, or one object a line for lists.
    pub(super) json: bool,
    /// Errors only.
    pub(super) quiet: bool,
}

impl Out {
    /// Prints one document, or one item of a list: the object with `--json`, the text without.
    pub(super) fn item(&self, object: &impl Serialize, text: impl Display) -> anyhow::Result<()> {
        if self.json { print_json(object) } else { print_line(text) }
    }

    /// Adds one item of a list as [`Out::item`] prints it to `lines`: a list of thousands is printed in few pieces.
    pub(super) fn add_line(
        &self,
        lines: &mut String,
        object: &impl Serialize,
        text: fmt::Arguments<'_>,
    ) -> anyhow::Result<()> {
        let begin = lines.len();
        if self.json {
            lines.push_str(&json(object)?);
        } else {
            lines.write_fmt(text).context("failed to format a line")?;
            if let Cow::Owned(safe) = plain_lines(&lines[begin..]) {
                lines.replace_range(begin.., &safe);
            }
        }
        lines.push('\n');
        Ok(())
    }

    /// Prints what stands above items; nothing with `--json`.
    pub(super) fn heading(&self, text: impl Display) -> anyhow::Result<()> {
        if self.json { Ok(()) } else { print_line(text) }
    }

    /// Prints a remark, which is not data, on stderr.
    pub(super) fn remark(&self, line: impl Display) {
        if !self.quiet {
            tell(line);
        }
    }

    /// Returns whether bars are to be hidden.
    pub(super) fn hides_bars(&self) -> bool {
        self.json || self.quiet
    }

    /// Returns a bar for work whose length is not known.
    pub(super) fn spinner(&self) -> ProgressBar {
        if self.hides_bars() { ProgressBar::hidden() } else { ProgressBar::new_spinner() }
    }
}

/// What a command prints while the library works; the first failure to print ends the work, and is kept.
#[derive(Debug, Default)]
pub(super) struct Printing {
    failed: Option<anyhow::Error>,
}

impl Printing {
    /// Takes note of whether something could be printed; tells the library whether to go on.
    pub(super) fn go_on(&mut self, printed: anyhow::Result<()>) -> ControlFlow<()> {
        match printed {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Returns the failure to print, if there was one, otherwise the result of the work.
    pub(super) fn or<T, E: Into<anyhow::Error>>(self, done: Result<T, E>) -> anyhow::Result<T> {
        match self.failed {
            Some(error) => Err(error),
            None => done.map_err(Into::into),
        }
    }
}

/// Prints lines that [`Out::add_line`] put together.
pub(super) fn print_lines(lines: &str) -> anyhow::Result<()> {
    io::stdout().write_all(lines.as_bytes()).context("failed to write to stdout")
}

/// Prints data: one line, or several that were made here.
pub(super) fn print_line(line: impl Display) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{}", plain_lines(&line.to_string())).context("failed to write to stdout")
}

/// A colour for a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Red,
    Yellow,
    Green,
    Bold,
}

/// Returns whether stdout takes colours: it is a terminal that can show them, and nobody has said that he wants none
/// (<https://no-color.org>).
pub(super) fn has_colours() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Prints data: one line in a colour.
pub(super) fn print_in(colour: Colour, line: &str) -> anyhow::Result<()> {
    let code = match colour {
        Colour::Red => "1;31",
        Colour::Yellow => "33",
        Colour::Green => "32",
        Colour::Bold => "1",
    };
    writeln!(io::stdout(), "\u{1b}[{code}m{}\u{1b}[0m", plain_lines(line)).context("failed to write to stdout")
}

/// Clears the terminal that stdout is; nothing anywhere else.
pub(super) fn clear_screen() -> anyhow::Result<()> {
    if !io::stdout().is_terminal() {
        return Ok(());
    }
    write!(io::stdout(), "\u{1b}[H\u{1b}[2J").context("failed to write to stdout")
}

/// Prints data as JSON on one line; what a terminal might obey is escaped in it.
pub(super) fn print_json(object: &impl Serialize) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{}", json(object)?).context("failed to write to stdout")
}

/// Returns an object as JSON on one line.
fn json(object: &impl Serialize) -> anyhow::Result<String> {
    let text = serde_json::to_string(object)?;
    Ok(key::escape_tricks(&text, |trick| format!("\\u{:04x}", u32::from(trick))).into_owned())
}

/// Says something on stderr, on one line; if nobody listens any more, that is no reason to panic as `eprintln` does.
pub fn tell(line: impl Display) {
    let _unheard = writeln!(io::stderr(), "{}", plain(&line.to_string()));
}

/// Says why a command failed, on stderr: on one line, except for the problems of a configuration.
pub fn tell_failure(error: &anyhow::Error) {
    if error.is::<Told>() || error.is::<ExitWith>() {
        return;
    }
    let text = format!("hk-aws: {error:#}");
    let text = if error.is::<Problems>() { plain_lines(&text) } else { plain(&text) };
    let _unheard = writeln!(io::stderr(), "{text}");
}

/// Returns text out of the bucket on one line: whoever can store an object there must not play tricks on a terminal.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    key::printable(text)
}

/// Returns text whose lines were made here, with everything else escaped as [`plain`] does.
fn plain_lines(text: &str) -> Cow<'_, str> {
    key::escape_tricks(text, |trick| if trick == '\n' { trick.to_string() } else { trick.escape_default().to_string() })
}

/// Returns bytes for people: `1.5 MiB`.
pub(super) fn size(bytes: u64) -> impl Display {
    indicatif::HumanBytes(bytes)
}

/// Returns a number with its noun: `1 capture`, `2 captures`.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
