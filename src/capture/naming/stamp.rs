//! The grammar of time stamps that any vendor may use in a name.
//!
//! A whole stamp is a date and a clock: `YYYY MM DD` and `hh mm ss`, each with any separators or none. A fraction of a
//! second, AM or PM, and an offset from UTC may follow. Stamps are found by their runs of digits, and a run is never cut:
//! a part of a longer number is no stamp. Of two whole stamps the first is the begin and the second is the end.
//!
//! A regular expression for each spelling was rejected: separators, precisions, clocks and offsets multiply.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, TimeDelta};

/// A whole stamp in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The wall clock.
    pub(super) wall: NaiveDateTime,
    /// Its offset from UTC, if the text tells it.
    pub(super) offset: Option<FixedOffset>,
    /// Where the stamp begins.
    pub(super) begins: usize,
    /// Where it ends.
    pub(super) ends: usize,
    /// Whether it is one number with a fraction of a second, as Hikvision writes it.
    pub(super) is_compact_fraction: bool,
}

/// A time of day as a camera writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    hour: u32,
    minute: u32,
    /// Up to 60: recorders write second 60 at the end of a day, which is the start of the next minute.
    second: u32,
    nanosecond: u32,
}

/// The fewest digits of a whole stamp: `2026-1-2 3.4.5`.
pub(super) const FEWEST_DIGITS: usize = 9;

/// The most separators between a date and its clock.
const WIDEST_GAP: usize = 3;

/// The seconds since 1970 that a number of ten digits may mean: the years 2010 to 2099.
const EPOCH_SECONDS: std::ops::Range<i64> = 1_262_304_000..4_102_444_800;

/// The hour within which a clock behind a stamp is the stamp's end, and not a fraction of its second.
const SECONDS_TO_END: u32 = 3600;

impl Clock {
    /// Returns a clock that exists.
    pub(super) fn new(hour: u32, minute: u32, second: u32) -> Option<Self> {
        (hour < 24 && minute < 60 && second <= 60).then_some(Self { hour, minute, second, nanosecond: 0 })
    }

    /// Reads `hhmmss`, and the digits of a fraction of a second behind it.
    fn compact(digits: &[u8]) -> Option<Self> {
        let (clock, fraction) = digits.split_at_checked(6)?;
        let clock = Self::new(number(&clock[..2]), number(&clock[2..4]), number(&clock[4..]))?;
        Some(Self { nanosecond: nanoseconds(fraction), ..clock })
    }

    /// Returns the clock's time on a day.
    pub(super) fn on(self, date: NaiveDate) -> Option<NaiveDateTime> {
        let over = self.second / 60;
        let time = date.and_hms_nano_opt(self.hour, self.minute, self.second - over, self.nanosecond)?;
        time.checked_add_signed(TimeDelta::seconds(i64::from(over)))
    }

    fn seconds(self) -> u32 {
        (self.hour * 60 + self.minute) * 60 + self.second
    }
}

/// Returns the first whole stamp in a text.
pub(super) fn first(text: &[u8]) -> Option<Stamp> {
    runs(text).find_map(|run| stamp(text, run))
}

/// Returns the first clock in a name whose folders tell the date, and its offset from UTC if the name tells it.
///
/// Counters look like clocks without separators: such a number is a clock only where a word begins, and behind another word
/// only if it does not begin with `00`.
pub(super) fn first_clock(name: &[u8]) -> Option<(Clock, Option<FixedOffset>)> {
    runs(name).find_map(|(from, to)| match to - from {
        6 | 9 => {
            let is_word = from == 0 || !name[from - 1].is_ascii_alphanumeric() && !name[from..].starts_with(b"00");
            let mut clock = Clock::compact(&name[from..to]).filter(|_| is_word)?;
            let (offset, _) = tail(name, to, &mut clock, to - from > 6);
            Some((clock, offset))
        }
        2 => {
            let from = last_clock_of_row(name, from);
            let (mut clock, ends) = separated_clock(name, (from, from + 2)).filter(|_| !is_address(name, from))?;
            let (offset, _) = tail(name, ends, &mut clock, false);
            Some((clock, offset))
        }
        // An hour of one digit stands only on clocks of twelve hours.
        1 => {
            let (mut clock, ends) = separated_clock(name, (from, to)).filter(|(clock, _)| clock.hour > 0)?;
            half_of_day(name, ends)?;
            let (offset, _) = tail(name, ends, &mut clock, false);
            Some((clock, offset))
        }
        _ => None,
    })
}

/// Returns where the clock begins in a row of two-digit numbers that begins at `from`. `12_30_45_1` begins with it, but
/// behind a word it stands at the end, as in `front_00_12_30_45`.
fn last_clock_of_row(name: &[u8], from: usize) -> usize {
    let separator = name.get(from + 2);
    let numbers = 1
        + (1..name.len())
            .take_while(|place| {
                let at = from + 3 * place;
                name.get(at - 1) == separator && run_at(name, at).is_some_and(|(_, end)| end == at + 2)
            })
            .count();
    if from == 0 || separator == Some(&b'.') { from } else { from + 3 * numbers.saturating_sub(3) }
}

/// Returns the minute and the second at the start of a name whose folders tell date and hour: `mm-ss`, `mmss`, `mmMssS`,
/// or the minute alone.
pub(super) fn minute_and_second(name: &[u8]) -> Option<(u32, u32)> {
    let (from, to) = runs(name).next()?;
    match (from, to, name.get(to)) {
        (0, 4, _) => Some((number(&name[..2]), number(&name[2..4]))),
        (0, 2, Some(b'-' | b'_' | b'.' | b':' | b'M' | b'm')) => match run_at(name, to + 1) {
            Some((at, end)) if end - at == 2 => Some((number(&name[..2]), number(&name[at..end]))),
            _ => Some((number(&name[..2]), 0)),
        },
        (0, 2, _) => Some((number(&name[..2]), 0)),
        _ => None,
    }
}

/// Returns the second at the start of a name whose folders tell all the rest.
pub(super) fn second(name: &[u8]) -> Option<u32> {
    runs(name).next().filter(|run| *run == (0, 2)).map(|(from, to)| number(&name[from..to]))
}

/// Returns the first number that may count the seconds since 1970, or their thousandths or less, as time in UTC, and where
/// it begins.
pub(super) fn epoch(text: &[u8]) -> Option<(NaiveDateTime, usize)> {
    runs(text).find_map(|(from, to)| {
        let fraction = match to - from {
            10 => fraction(text, to).unwrap_or_default(),
            13 => &text[from + 10..to],
            // Not a date and clock with a digit too many or too few.
            16 | 19 if !text[from..].starts_with(b"20") => &text[from + 10..to],
            _ => return None,
        };
        let seconds =
            i64::from(number(&text[from..from + 5])) * 100_000 + i64::from(number(&text[from + 5..from + 10]));
        let time = DateTime::from_timestamp(seconds, nanoseconds(fraction))?.naive_utc();
        EPOCH_SECONDS.contains(&seconds).then_some((time, from))
    })
}

/// Returns the fraction of a second and the offset behind a stamp that ends at `at` with this time.
pub(super) fn behind(text: &[u8], at: usize, wall: NaiveDateTime) -> (NaiveDateTime, Option<FixedOffset>) {
    use chrono::Timelike;
    let Some(mut clock) = Clock::new(wall.hour(), wall.minute(), wall.second()) else { return (wall, None) };
    let at = at + fraction_behind(text, at, &mut clock);
    let exact = wall.with_nanosecond(clock.nanosecond).unwrap_or(wall);
    (exact, zone(text, at).map(|(offset, _)| offset))
}

/// Returns the runs of digits of a text: where each begins, and where it ends.
fn runs(text: &[u8]) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let from = at + text.get(at..)?.iter().position(u8::is_ascii_digit)?;
        let run = run_at(text, from)?;
        at = run.1;
        Some(run)
    })
}

/// Returns the run of digits that begins at `from`.
fn run_at(text: &[u8], from: usize) -> Option<(usize, usize)> {
    let length = text.get(from..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (length > 0).then_some((from, from + length))
}

/// Returns the run of one or two digits that begins at `from`.
fn short_run_at(text: &[u8], from: usize) -> Option<(usize, usize)> {
    run_at(text, from).filter(|(from, to)| to - from <= 2)
}

/// Returns the whole stamp that begins with a run of digits.
fn stamp(text: &[u8], (from, to): (usize, usize)) -> Option<Stamp> {
    let digits = &text[from..to];
    let (date, mut clock, at) = match digits.len() {
        14 | 17 | 20 => (compact_date(&digits[..8])?, Clock::compact(&digits[8..])?, to),
        8 => {
            let date = compact_date(digits)?;
            let (clock, at) = clock_behind(text, to)?;
            (date, clock, at)
        }
        4 => {
            let (date, at) = separated_date(text, (from, to))?;
            let (clock, at) = clock_behind(text, at)?;
            (date, clock, at)
        }
        _ => return None,
    };
    let is_compact_fraction = digits.len() > 14;
    let has_fraction = is_compact_fraction || clock.nanosecond > 0;
    let (offset, ends) = tail(text, at, &mut clock, has_fraction);
    Some(Stamp { wall: clock.on(date)?, offset, begins: from, ends, is_compact_fraction })
}

/// Reads `YYYYMMDD`.
fn compact_date(digits: &[u8]) -> Option<NaiveDate> {
    date(number(&digits[..4]), number(&digits[4..6]), number(&digits[6..8]))
}

/// Reads the date whose year is a run of digits, such as `YYYY-MM-DD` or `YYYY_MMDD`; returns it and where it ends.
fn separated_date(text: &[u8], (from, to): (usize, usize)) -> Option<(NaiveDate, usize)> {
    let separator =
        text.get(to).filter(|byte| matches!(byte, b'-' | b'_' | b'.' | b':' | b' ' | b'/' | b'Y' | b'y'))?;
    let year = number(&text[from..to]);
    let (month_at, month_end) = run_at(text, to + 1)?;
    if month_end - month_at == 4 {
        return Some((date(year, number(&text[month_at..][..2]), number(&text[month_at + 2..month_end]))?, month_end));
    }
    let same = |byte: &u8| byte == separator || matches!((separator, byte), (b'Y', b'M') | (b'y', b'm'));
    text.get(month_end).filter(|byte| month_end - month_at <= 2 && same(byte))?;
    let (day_at, day_end) = short_run_at(text, month_end + 1)?;
    let marked = matches!(text.get(day_end), Some(b'D' | b'd')) && separator.is_ascii_alphabetic();
    let date = date(year, number(&text[month_at..month_end]), number(&text[day_at..day_end]))?;
    Some((date, day_end + usize::from(marked)))
}

/// Reads the clock behind a date that ends at `at`; returns it and where it ends.
fn clock_behind(text: &[u8], at: usize) -> Option<(Clock, usize)> {
    let gap = |at: usize| {
        let separators = b"-_@ .,:~/()[]";
        text.get(at..).into_iter().flatten().take(WIDEST_GAP).take_while(|byte| separators.contains(byte)).count()
    };
    let mut begins = at + gap(at);
    let word = match text.get(begins..)? {
        [b'T' | b't', ..] => 1,
        [b'a' | b'A', b't' | b'T', ..] => 2,
        _ => 0,
    };
    if word > 0 {
        begins += word;
        begins += gap(begins);
    }
    let is_apart = begins > at || text[at - 1].is_ascii_alphabetic();
    let (from, to) = run_at(text, begins).filter(|_| is_apart)?;
    match to - from {
        6 | 9 | 12 => Some((Clock::compact(&text[from..to])?, to)),
        1 | 2 => separated_clock(text, (from, to)),
        _ => None,
    }
}

/// Reads the clock whose hour is a run of digits, such as `hh-mm-ss`, `hh:mm:ss` or `hhHmmMssS`; returns it and where it
/// ends.
fn separated_clock(text: &[u8], (from, to): (usize, usize)) -> Option<(Clock, usize)> {
    let first = text.get(to).filter(|byte| matches!(byte, b'-' | b'_' | b'.' | b':' | b' ' | b'H' | b'h'))?;
    let (minute_at, minute_end) = short_run_at(text, to + 1)?;
    let second = text.get(minute_end)?;
    if second != first && !matches!((first, second), (b'H', b'M') | (b'h', b'm')) {
        return None;
    }
    let (second_at, end) = run_at(text, minute_end + 1)?;
    // A fraction may follow immediately: `hh_mm_ssfff`.
    let second_end = match end - second_at {
        1 | 2 => end,
        5 | 8 => second_at + 2,
        _ => return None,
    };
    let clock = Clock::new(
        number(&text[from..to]),
        number(&text[minute_at..minute_end]),
        number(&text[second_at..second_end]),
    )?;
    let marked = first.is_ascii_alphabetic() && matches!(text.get(end), Some(b'S' | b's'));
    Some((Clock { nanosecond: nanoseconds(&text[second_end..end]), ..clock }, end + usize::from(marked)))
}

/// Reads what may follow a clock that ends at `at`: a fraction, AM or PM, an offset. Completes the clock, and returns the
/// offset and where all of it ends.
fn tail(text: &[u8], mut at: usize, clock: &mut Clock, has_fraction: bool) -> (Option<FixedOffset>, usize) {
    if !has_fraction {
        at += fraction_behind(text, at, clock);
    }
    // Twelve-hour clocks are never so precise that they are one number with a fraction.
    if let Some((is_afternoon, end)) = half_of_day(text, at).filter(|_| (1..=12).contains(&clock.hour)) {
        clock.hour = clock.hour % 12 + if is_afternoon { 12 } else { 0 };
        at = end;
    }
    match zone(text, at) {
        Some((offset, end)) => (Some(offset), end),
        None => (None, at),
    }
}

/// Reads the fraction of a second behind a clock, and returns how many bytes it takes with its separator.
fn fraction_behind(text: &[u8], at: usize, clock: &mut Clock) -> usize {
    let Some(digits) = fraction(text, at) else { return 0 };
    if let Some(end) = Clock::compact(digits).filter(|_| digits.len() == 6) {
        // Six digits are also a clock. One that is soon after this clock is the end of the recording.
        let length = (end.seconds() + 24 * 3600 - clock.seconds()) % (24 * 3600);
        if text.get(at) != Some(&b'.') && length <= SECONDS_TO_END {
            return 0;
        }
    }
    clock.nanosecond = nanoseconds(digits);
    digits.len() + 1
}

/// Returns the digits of the fraction behind a clock that ends at `at`: any behind a point, and three or six or nine behind
/// another separator, where fewer are a counter.
fn fraction(text: &[u8], at: usize) -> Option<&[u8]> {
    let separator = text.get(at)?;
    let (from, to) = run_at(text, at + 1)?;
    let is_fraction = match (separator, to - from) {
        // Not an extension, such as `.264`, a number that an FTP server adds, such as `.1`, or the next stamp.
        (b'.' | b',', 1..=9) => to < text.len() && stamp(text, (from, to)).is_none(),
        // A letter behind it belongs to a counter, such as `_001F`, unless it begins what may follow.
        (b'-' | b'_' | b':', 3 | 6 | 9) => {
            is_word_end(text, to) || half_of_day(text, to).is_some() || zone(text, to).is_some()
        }
        _ => false,
    };
    is_fraction.then(|| &text[from..to])
}

/// Reads AM or PM, such as `_PM` or ` p.m.`; returns whether it is PM, and where it ends.
fn half_of_day(text: &[u8], at: usize) -> Option<(bool, usize)> {
    let at = at
        + match text.get(at..)? {
            [b' ' | b'_' | b'-' | b'.', ..] => 1,
            // The narrow space before it that computers put there (Unicode CLDR).
            [0xE2, 0x80, 0xAF, ..] => 3,
            _ => 0,
        };
    let is_afternoon = match text.get(at)? {
        b'A' | b'a' => false,
        b'P' | b'p' => true,
        _ => return None,
    };
    let rest = &text[at + 1..];
    let length = usize::from(rest.starts_with(b".")) + 1;
    rest.get(length - 1).filter(|byte| byte.eq_ignore_ascii_case(&b'm'))?;
    let end = at + 1 + length;
    (is_word_end(text, end) || zone(text, end).is_some()).then_some((is_afternoon, end))
}

/// Returns the offset from UTC that is all of a text.
pub(super) fn zone_of(text: &[u8]) -> Option<FixedOffset> {
    zone(text, 0).filter(|(_, end)| *end == text.len()).map(|(offset, _)| offset)
}

/// Reads an offset from UTC, such as `Z`, `_UTC`, `+02`, `-0500`, `+05_30`, `-3:30` or ` GMT-3`; returns it and where it
/// ends.
fn zone(text: &[u8], at: usize) -> Option<(FixedOffset, usize)> {
    let at = at + usize::from(matches!(text.get(at)?, b' ' | b'_'));
    let is_named = |name: &&&[u8]| text.get(at..at + name.len()).is_some_and(|word| word.eq_ignore_ascii_case(name));
    let name: &[u8] = match text.get(at)? {
        b'+' | b'-' => b"",
        b'Z' | b'z' | b'U' | b'u' | b'G' | b'g' => [&b"UTC"[..], b"GMT", b"Z"].iter().find(is_named)?,
        _ => return None,
    };
    let end = at + name.len();
    let utc = || FixedOffset::east_opt(0).filter(|_| !name.is_empty() && is_word_end(text, end)).map(|utc| (utc, end));
    signed_offset(text, end, name.len() > 1).or_else(utc)
}

/// Reads an offset with its sign; behind the name of a zone it may be shorter.
fn signed_offset(text: &[u8], at: usize, is_named: bool) -> Option<(FixedOffset, usize)> {
    let sign = match text.get(at)? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    // A number behind a dash is rather a fraction or a counter.
    let is_clear = is_named || sign == 1;
    let (from, to) = run_at(text, at + 1)?;
    let minutes = run_at(text, to + 1).filter(|(from, to)| to - from == 2);
    let (hours, minutes, end) = match (to - from, text.get(to), minutes) {
        (4, ..) => (&text[from..from + 2], &text[from + 2..to], to),
        (3, ..) if is_clear && is_word_end(text, to) => (&text[from..=from], &text[from + 1..to], to),
        (2, Some(b':' | b'_'), Some((minutes, end))) | (1, Some(b':'), Some((minutes, end))) => {
            (&text[from..to], &text[minutes..end], end)
        }
        (2, ..) if is_clear => (&text[from..to], &b""[..], to),
        (1, ..) if is_clear && is_word_end(text, to) => (&text[from..to], &b""[..], to),
        _ => return None,
    };
    let (hours, minutes) = (number(hours), number(minutes));
    // `-0000` means that the offset is not known (RFC 3339, 4.3), and here it is rather a counter.
    let seconds = (sign == 1 || hours + minutes > 0).then(|| sign * i64::from(hours * 60 + minutes) * 60)?;
    offset(seconds).map(|offset| (offset, end))
}

/// Returns the offset that is this many seconds ahead of UTC; `None` if no zone has it.
pub(in crate::capture) fn offset(ahead: i64) -> Option<FixedOffset> {
    // Offsets of zones are quarters of an hour, from -12:00 to +14:00 (IANA Time Zone Database).
    let is_zone = ahead % 900 == 0 && (-12 * 3600..=14 * 3600).contains(&ahead);
    FixedOffset::east_opt(i32::try_from(ahead).ok().filter(|_| is_zone)?)
}

/// Returns whether three numbers with points, the first at `from`, are rather a part of an IP address.
fn is_address(name: &[u8], from: usize) -> bool {
    if from >= 2 && name[from - 1] == b'.' && name[from - 2].is_ascii_digit() {
        return true;
    }
    let ends = from + "10.20.30".len();
    let points = [from + 2, from + 5, ends].iter().all(|at| name.get(*at) == Some(&b'.'));
    let Some((fourth, end)) = run_at(name, ends + 1).filter(|(_, end)| points && *end < name.len()) else {
        return false;
    };
    // No part of an address begins with a zero or is larger than 255.
    let is_padded = [from, from + 3, from + 6].iter().any(|at| name[*at] == b'0');
    !is_padded && end - fourth <= 3 && number(&name[fourth..end]) <= 255
}

/// Returns whether no letter or digit stands at `at`.
fn is_word_end(text: &[u8], at: usize) -> bool {
    !text.get(at).is_some_and(u8::is_ascii_alphanumeric)
}

fn date(year: u32, month: u32, day: u32) -> Option<NaiveDate> {
    let year = i32::try_from(year).ok().filter(|year| (1970..=2099).contains(year))?;
    NaiveDate::from_ymd_opt(year, month, day)
}

/// Reads a number of at most nine digits.
fn number(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
}

/// Reads the digits of a fraction of a second.
fn nanoseconds(digits: &[u8]) -> u32 {
    digits.iter().chain(&[b'0'; 9]).take(9).fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
}
