//! How a camera's own pattern reads the time: by the codes of `strftime`, or as a number since 1970.
//!
//! Whether a pattern can give a time at all is decided before any file comes: the texts that its group `taken` matches and
//! the texts that are times are two regular languages, and the pattern is refused if they have no text in common.

use std::collections::HashSet;
use std::fmt;

use chrono::format::{self, Fixed, Item, Numeric, Parsed, StrftimeItems};
use chrono::{DateTime, Datelike, FixedOffset, NaiveDateTime, Offset, TimeZone, Timelike, Utc};
use regex_automata::nfa::thompson::{self, NFA, State, Transition, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_syntax::hir::{Hir, HirKind};
use serde::{Serialize, Serializer};

use super::problem::Fault;

/// How the group `taken` of a camera's pattern tells the time. The end of a recording may follow it.
#[derive(Debug, Clone, PartialEq)]
pub struct TakenFormat {
    text: String,
    clock: TakenClock,
}

#[derive(Debug, Clone, PartialEq)]
enum TakenClock {
    /// Seconds since 1970, with or without a fraction.
    Epoch,
    /// Milliseconds since 1970.
    EpochMillis,
    /// The codes of `strftime`.
    Codes(Vec<Item<'static>>),
}

/// A time whose day, month, hour and minute differ, to try a format with: 2026-11-22T15:22:58Z.
const TRIAL_SECONDS: i64 = 1_795_366_978;

/// The most bytes of a machine for [`can_meet`]; a pattern that needs more is not examined.
const MACHINE_BYTES: usize = 1 << 20;

/// The texts in which a time is found without a format: 14 to 20 digits from a year of four, whatever stands between them;
/// or a date and a clock with separators, whatever stands around them.
const PLAIN_TIMES: &str = r"[^0-9]*(?:1[^0-9]*9[^0-9]*[7-9]|2[^0-9]*0[^0-9]*[0-9])(?:[^0-9]*[0-9]){11,17}[^0-9]*|(?s:.)*(?:19[7-9]|20[0-9])[0-9](?:[^0-9]?[0-9]{4}|[^0-9][0-9]{1,2}[^0-9][0-9]{1,2})(?:[^0-9]+(?:[0-9]{6}|[0-9]{1,2}[^0-9][0-9]{1,2}[^0-9][0-9]{1,2})|[0-9]{6})(?s:.)*";

/// What may follow a time: a separator, and for example the end of the recording.
const AFTER: &str = "(?:[^0-9A-Za-z](?s:.)*)?";

impl TakenFormat {
    /// Reads a format.
    pub(super) fn new(text: &str) -> Result<Self, Fault> {
        let mend = "write date and time by the codes of strftime, such as %d-%m-%Y_%H.%M.%S or %y%m%d %I:%M:%S %p, or epoch, or epoch_ms";
        let clock = match text {
            "epoch" => TakenClock::Epoch,
            "epoch_ms" => TakenClock::EpochMillis,
            codes => {
                let items = StrftimeItems::new(codes).parse_to_owned();
                TakenClock::Codes(items.map_err(|_| Fault::new("has a code that does not exist", mend))?)
            }
        };
        let format = Self { text: text.to_owned(), clock };
        // A format that does not tell the whole time cannot read what it writes.
        let trial = DateTime::from_timestamp(TRIAL_SECONDS, 0).unwrap_or_default().fixed_offset();
        let minute = |time: NaiveDateTime| (time.date(), time.hour(), time.minute());
        let is_whole = match &format.clock {
            TakenClock::Epoch | TakenClock::EpochMillis => true,
            TakenClock::Codes(items) => {
                let written = trial.format_with_items(items.iter()).to_string();
                format.read(&written).is_some_and(|(read, _)| minute(read) == minute(trial.naive_utc()))
            }
        };
        if is_whole { Ok(format) } else { Err(Fault::new("does not tell date and time of day", mend)) }
    }

    /// Returns the wall clock in a text, and its offset from UTC if the text tells it; `None` if the text has another form,
    /// or if the time is before 1970 or after 2099.
    pub fn read(&self, text: &str) -> Option<(NaiveDateTime, Option<FixedOffset>)> {
        let (time, offset, rest) = match &self.clock {
            TakenClock::Epoch => since_1970(text, 9..=10, 1)?,
            TakenClock::EpochMillis => since_1970(text, 12..=13, 1000)?,
            TakenClock::Codes(items) => by_codes(text, items)?,
        };
        let is_end = !rest.starts_with(|first: char| first.is_alphanumeric());
        (is_end && (1970..=2099).contains(&time.year())).then_some((time, offset))
    }

    /// Returns a regular expression for all the texts that have this form, and for others.
    fn language(&self) -> String {
        let items = match &self.clock {
            TakenClock::Epoch => return format!("[0-9]{{9,10}}(?:\\.[0-9]+)?{AFTER}"),
            TakenClock::EpochMillis => return format!("[0-9]{{12,13}}{AFTER}"),
            TakenClock::Codes(items) => items,
        };
        let piece = |item: &Item<'_>| match item {
            Item::Literal(text) => regex_syntax::escape(text),
            Item::OwnedLiteral(text) => regex_syntax::escape(text),
            Item::Space(_) | Item::OwnedSpace(_) => r"\s*".to_owned(),
            Item::Numeric(number, _) => match number {
                Numeric::Month | Numeric::Day | Numeric::Hour | Numeric::Hour12 | Numeric::Minute | Numeric::Second => {
                    r"\s*[0-9]{1,2}".to_owned()
                }
                _ => r"\s*[-+]?[0-9]+".to_owned(),
            },
            Item::Fixed(Fixed::LowerAmPm | Fixed::UpperAmPm) => "[AaPp][Mm]".to_owned(),
            _ => "(?s:.)*".to_owned(),
        };
        let pieces: String = items.iter().map(piece).collect();
        format!("{pieces}{AFTER}")
    }
}

impl fmt::Display for TakenFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for TakenFormat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// A wall clock, its offset, and the rest of the text.
type Reading<'a> = (NaiveDateTime, Option<FixedOffset>, &'a str);

/// Reads a time by the codes of `strftime`.
fn by_codes<'a>(text: &'a str, items: &[Item<'_>]) -> Option<Reading<'a>> {
    let mut parsed = Parsed::new();
    let rest = format::parse_and_remainder(&mut parsed, text, items.iter()).ok()?;
    if parsed.offset().is_some() {
        let time = parsed.to_datetime().ok()?;
        return Some((time.naive_local(), Some(*time.offset()), rest));
    }
    let offset = parsed.timestamp().map(|_| Utc.fix());
    Some((parsed.to_naive_datetime_with_offset(0).ok()?, offset, rest))
}

/// Reads a number of this many digits that counts the `fractions` of a second since 1970.
fn since_1970(text: &str, digits: std::ops::RangeInclusive<usize>, fractions: i64) -> Option<Reading<'_>> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, mut rest) = text.split_at(length);
    let number: i64 = number.parse().ok().filter(|_| digits.contains(&length))?;
    let mut nanoseconds = number % fractions * (1_000_000_000 / fractions);
    if let Some(fraction) = rest.strip_prefix('.').filter(|_| fractions == 1) {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let padded = fraction[..length].bytes().chain(std::iter::repeat(b'0')).take(9);
        nanoseconds = padded.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        rest = &fraction[length..];
    }
    let time = Utc.timestamp_opt(number / fractions, u32::try_from(nanoseconds).ok()?).single()?;
    Some((time.naive_utc(), Some(Utc.fix()), rest))
}

/// Returns whether the group `taken` of a pattern can match a text that tells a time in this format; a pattern that is too
/// large to be examined can. A pattern without that group tells no time and is not asked.
pub(super) fn can_tell_time(pattern: &str, format: Option<&TakenFormat>) -> bool {
    let parse = |text: &str, unicode: bool| {
        regex_syntax::ParserBuilder::new().unicode(unicode).utf8(false).build().parse(text).ok()
    };
    let language = format.map_or_else(|| PLAIN_TIMES.to_owned(), TakenFormat::language);
    let (Some(pattern), Some(times)) = (parse(pattern, true), parse(&language, false)) else { return true };
    match group_taken(&pattern) {
        Some(taken) => can_meet(taken, &times).unwrap_or(true),
        None => true,
    }
}

/// Returns what the group `taken` matches.
fn group_taken(hir: &Hir) -> Option<&Hir> {
    match hir.kind() {
        HirKind::Capture(group) if group.name.as_deref() == Some("taken") => Some(&group.sub),
        HirKind::Capture(group) => group_taken(&group.sub),
        HirKind::Repetition(repeated) => group_taken(&repeated.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().find_map(group_taken),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => None,
    }
}

/// Returns whether there is a text that both expressions match as a whole; `None` if they are too large to tell.
///
/// Walks both machines together, a byte that both accept at a time. Assertions such as `$` count as true.
fn can_meet(one: &Hir, other: &Hir) -> Option<bool> {
    let (one, other) = (machine(one)?, machine(other)?);
    let start = (one.start_anchored(), other.start_anchored());
    let (mut seen, mut open) = (HashSet::<(StateID, StateID)>::from([start]), vec![start]);
    while let Some((at, beside)) = open.pop() {
        let (here, there) = (Step::of(one.state(at)), Step::of(other.state(beside)));
        let next: Vec<(StateID, StateID)> = match (here, there) {
            (Step::Match, Step::Match) => return Some(true),
            (Step::Free(next), _) => next.into_iter().map(|next| (next, beside)).collect(),
            (_, Step::Free(next)) => next.into_iter().map(|next| (at, next)).collect(),
            (Step::Bytes(here), Step::Bytes(there)) => {
                let meet = |one: &Transition, other: &Transition| one.start <= other.end && other.start <= one.end;
                let pairs = here.iter().flat_map(|one| there.iter().map(move |other| (one, other)));
                pairs.filter(|(one, other)| meet(one, other)).map(|(one, other)| (one.next, other.next)).collect()
            }
            _ => Vec::new(),
        };
        open.extend(next.into_iter().filter(|next| seen.insert(*next)));
    }
    Some(false)
}

/// What leads on from a state of a machine.
enum Step {
    /// A byte of one of these ranges.
    Bytes(Vec<Transition>),
    /// Nothing is needed.
    Free(Vec<StateID>),
    /// The text has matched.
    Match,
}

impl Step {
    fn of(state: &State) -> Self {
        match state {
            State::ByteRange { trans } => Self::Bytes(vec![*trans]),
            State::Sparse(sparse) => Self::Bytes(sparse.transitions.to_vec()),
            State::Dense(dense) => {
                let transition = |(byte, next): (u8, &StateID)| Transition { start: byte, end: byte, next: *next };
                let known = (0..=u8::MAX).zip(&dense.transitions).filter(|(_, next)| **next != StateID::ZERO);
                Self::Bytes(known.map(transition).collect())
            }
            State::Look { next, .. } | State::Capture { next, .. } => Self::Free(vec![*next]),
            State::Union { alternates } => Self::Free(alternates.to_vec()),
            State::BinaryUnion { alt1, alt2 } => Self::Free(vec![*alt1, *alt2]),
            State::Fail => Self::Free(Vec::new()),
            State::Match { .. } => Self::Match,
        }
    }
}

/// Compiles an expression into a state machine; `None` if that is too large.
fn machine(expression: &Hir) -> Option<NFA> {
    let config =
        thompson::Config::new().utf8(false).which_captures(WhichCaptures::None).nfa_size_limit(Some(MACHINE_BYTES));
    thompson::Compiler::new().configure(config).build_from_hir(expression).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: &str, text: &str) -> Option<String> {
        let (time, offset) =
            TakenFormat::new(format).unwrap_or_else(|fault| panic!("{format}: {}", fault.wrong)).read(text)?;
        let zone = offset.map_or(String::new(), |offset| offset.to_string());
        Some(format!("{}{zone}", time.format("%Y-%m-%dT%H:%M:%S%.f")))
    }

    #[test]
    fn a_time_is_read_by_its_format() {
        for (format, text, expected) in [
            ("%d-%m-%Y_%H.%M.%S", "05-07-2026_12.26.48", "2026-07-05T12:26:48"),
            ("%d%m%y%H%M%S", "050726122648", "2026-07-05T12:26:48"),
            ("%m/%d/%Y %I:%M:%S %p", "07/05/2026 03:34:52 PM", "2026-07-05T15:34:52"),
            ("%d-%m-%Y_%I.%M.%S %p", "05-07-2026_12.34.52 am", "2026-07-05T00:34:52"),
            ("%d.%m.%Y %H-%M", "05.07.2026 12-26", "2026-07-05T12:26:00"),
            ("%Y-%m-%dT%H_%M_%S%z", "2026-11-09T10_30_54-0300", "2026-11-09T10:30:54-03:00"),
            ("%d%b%Y-%H%M%S%.3f", "05Jul2026-122648.468", "2026-07-05T12:26:48.468"),
            ("%d-%m-%Y_%H.%M.%S", "05-07-2026_12.26.48-05-07-2026_12.27.48", "2026-07-05T12:26:48"),
            ("%s", "1690389398", "2023-07-26T16:36:38+00:00"),
            ("epoch", "1690389398", "2023-07-26T16:36:38+00:00"),
            ("epoch", "1690389398.964135-x", "2023-07-26T16:36:38.964135+00:00"),
            ("epoch", "1690389398-1690389420", "2023-07-26T16:36:38+00:00"),
            ("epoch_ms", "1690389398964_1690389420001", "2023-07-26T16:36:38.964+00:00"),
        ] {
            assert_eq!(read(format, text).as_deref(), Some(expected), "{format} {text}");
        }
        for (format, text) in [
            ("%d-%m-%Y_%H.%M.%S", "32-07-2026_12.26.48"),
            ("%d-%m-%Y_%H.%M.%S", "05-07-1926_12.26.48"),
            ("%d-%m-%Y_%H.%M.%S", "05-07-2026_12.26.48x"),
            ("epoch", "16903893981"),
            ("epoch_ms", "1690389398"),
            ("epoch", "front"),
        ] {
            assert_eq!(read(format, text), None, "{format} {text}");
        }
    }

    #[test]
    fn a_format_that_does_not_tell_the_whole_time_is_refused() {
        for format in ["%d-%m-%Y", "%H:%M:%S", "%d-%m-%Y %I:%M", "%d-%m %H:%M:%S", "taken", "", "%Q", "%d-%m-%Y %H"] {
            assert!(TakenFormat::new(format).is_err(), "{format}");
        }
    }

    #[test]
    fn a_pattern_that_can_never_give_a_time_is_known() {
        for (pattern, format, can) in [
            (r"(?P<taken>\d{14})", None, true),
            (r"(?P<taken>[0-9]{8}-[0-9]{6})", None, true),
            (r"(?P<taken>\d+)", None, true),
            (r"(?P<taken>.*)", None, true),
            (r"(?P<taken>\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d)", None, true),
            (r"(?P<taken>\d{14}-\d{14})", None, true),
            (r"x(?:(?P<taken>20\d\d_\d{4}_\d{6}))?", None, true),
            (r"(?P<event>[a-z]+)", None, true),
            (r"(?P<taken>\d{8})", None, false),
            (r"(?P<taken>\d{12})", None, false),
            (r"(?P<taken>\d{10})", None, false),
            (r"(?P<taken>[a-z]+)", None, false),
            (r"(?P<taken>\d\d-\d\d-\d\d_\d{6})", None, false),
            (r"(?P<taken>3\d{13})", None, false),
            (r"(?P<taken>\d{8}-\d{6})", Some("%d-%m-%Y_%H.%M.%S"), false),
            (r"(?P<taken>\d\d-\d\d-\d{4}_[\d.]+)", Some("%d-%m-%Y_%H.%M.%S"), true),
            (r"(?P<taken>\d{8}_\d{6})", Some("%d%m%Y_%H%M%S"), true),
            (r"(?P<taken>[\d:]+)", Some("%d%m%Y %I:%M:%S %p"), false),
            (r"(?P<taken>.+ [AP]M)", Some("%d%m%Y %I:%M:%S %p"), true),
            (r"(?P<taken>\d{10})", Some("epoch"), true),
            (r"(?P<taken>\d{10})", Some("epoch_ms"), false),
            (r"(?P<taken>\d{13}-\d{13})", Some("epoch_ms"), true),
            (r"(?P<taken>\d{6})", Some("epoch"), false),
        ] {
            let format = format.map(|text| TakenFormat::new(text).unwrap_or_else(|fault| panic!("{}", fault.wrong)));
            assert_eq!(can_tell_time(pattern, format.as_ref()), can, "{pattern}");
        }
    }
}
