//! Reads and writes durations, sizes and numbers as the file has them.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Serializer;

use super::problem::Fault;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const DAY: Duration = Duration::from_hours(24);
/// Longer than anything is kept, and short enough for any calendar.
pub(super) const CENTURY_DAYS: u32 = 36_500;
pub(super) const CENTURY: Duration = Duration::from_hours(24 * CENTURY_DAYS as u64);

/// The units of durations, in milliseconds, the longest first.
const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The units of sizes, in bytes, the largest first.
const SIZE_UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1)];

/// Reads a number with its unit and multiplies them; `None` if the text is not a number and a unit of the table, or if the
/// product is too large.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

/// Writes a number in the largest unit that divides it without a remainder.
fn scale(number: u64, units: &[(&str, u64)]) -> String {
    let fits = units.iter().find(|(_, scale)| number >= *scale && number.is_multiple_of(*scale));
    fits.map_or_else(|| number.to_string(), |(name, scale)| format!("{}{name}", number / scale))
}

/// Reads a duration such as `500ms`, `30s`, `5m`, `12h` or `30d`.
pub(super) fn duration(text: &str) -> Result<Duration, Fault> {
    scaled(text, &DURATION_UNITS).map(Duration::from_millis).ok_or_else(|| {
        let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let mend = if bare {
            format!("write its unit: ms, s, m, h or d, such as {text}s")
        } else {
            "write one whole number and one unit, such as 500ms, 30s, 5m, 12h or 30d".to_owned()
        };
        Fault::new(if bare { "a duration without a unit" } else { "not a duration" }, mend)
    })
}

/// Reads a duration within a range.
pub(super) fn duration_in(range: RangeInclusive<Duration>) -> impl FnOnce(&str) -> Result<Duration, Fault> {
    move |text| {
        let duration = duration(text)?;
        let wrong = Outside { below: "too short", above: "too long" };
        within(&duration, &range, wrong, |end| write_duration(*end))?;
        Ok(duration)
    }
}

/// Writes a duration as [`duration`] reads it, cut to whole milliseconds.
pub(super) fn write_duration(duration: Duration) -> String {
    match u64::try_from(duration.as_millis()).unwrap_or(u64::MAX) {
        0 => "0s".to_owned(),
        millis => scale(millis, &DURATION_UNITS),
    }
}

/// Reads a size such as `512KiB`, `20MiB` or `50GiB`, or plain bytes.
pub(super) fn size(text: &str) -> Result<u64, Fault> {
    scaled(text, &SIZE_UNITS).ok_or_else(|| {
        Fault::new(
            "not a size",
            "write one whole number and KiB, MiB, GiB or TiB (powers of 1024), or plain bytes, such as 20MiB",
        )
    })
}

/// Reads a size within a range.
pub(super) fn size_in(range: RangeInclusive<u64>) -> impl FnOnce(&str) -> Result<u64, Fault> {
    move |text| {
        let size = size(text)?;
        within(&size, &range, TOO_SMALL_OR_LARGE, |end| write_size(*end))?;
        Ok(size)
    }
}

/// Writes a size as [`size`] reads it.
pub(super) fn write_size(bytes: u64) -> String {
    scale(bytes, &SIZE_UNITS)
}

/// Reads a whole number within a range.
pub(super) fn number_in(range: RangeInclusive<u32>) -> impl FnOnce(&str) -> Result<u32, Fault> {
    move |text| {
        let mend = format!("write {} to {}", range.start(), range.end());
        let number = text.parse::<u32>().map_err(|_| Fault::new("not a whole number in range", mend))?;
        within(&number, &range, TOO_SMALL_OR_LARGE, u32::to_string)?;
        Ok(number)
    }
}

/// What is wrong with a value outside a range.
#[derive(Clone, Copy)]
struct Outside {
    below: &'static str,
    above: &'static str,
}

const TOO_SMALL_OR_LARGE: Outside = Outside { below: "too small", above: "too large" };

/// Refuses a value outside a range; `write` writes the ends of the range for the message.
fn within<T: PartialOrd>(
    value: &T,
    range: &RangeInclusive<T>,
    outside: Outside,
    write: impl Fn(&T) -> String,
) -> Result<(), Fault> {
    if range.contains(value) {
        return Ok(());
    }
    let wrong = if value < range.start() { outside.below } else { outside.above };
    Err(Fault::new(wrong, format!("write {} to {}", write(range.start()), write(range.end()))))
}

pub(super) fn serialize_duration<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&write_duration(*duration))
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
pub(super) fn serialize_optional_duration<S: Serializer>(
    duration: &Option<Duration>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serialize_duration(duration, to),
        None => to.serialize_none(),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference to the field")]
pub(super) fn serialize_size<S: Serializer>(bytes: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&write_size(*bytes))
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
pub(super) fn serialize_optional_size<S: Serializer>(bytes: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => serialize_size(bytes, to),
        None => to.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_one_number_and_one_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("0s", 0),
            ("30s", 30_000),
            ("5m", 300_000),
            ("12h", 43_200_000),
            ("30d", 2_592_000_000),
            ("007s", 7_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "s", "-5s", "1.5h", "5 m", "5M", "1h30m", "5w", "99999999999999999999s", "18446744073709551615d", "٣s"]
        {
            assert_eq!(duration(text).unwrap_err().wrong, "not a duration", "{text}");
        }
        assert_eq!(duration("60").unwrap_err().mend, "write its unit: ms, s, m, h or d, such as 60s");
    }

    #[test]
    fn sizes_are_powers_of_1024_or_plain_bytes() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("512KiB", 524_288),
            ("20MiB", 20_971_520),
            ("50GiB", 53_687_091_200),
            ("2TiB", 1 << 41),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "KiB", "5KB", "5k", "5 KiB", "-1", "1.5GiB", "20mib", "99999999TiB"] {
            assert_eq!(size(text).unwrap_err().wrong, "not a size", "{text}");
        }
    }

    #[test]
    fn what_is_out_of_range_hears_the_range() {
        let fault = duration_in(Duration::from_secs(1)..=Duration::from_hours(1))("2h").unwrap_err();
        assert_eq!((fault.wrong.as_str(), fault.mend.as_str()), ("too long", "write 1s to 1h"));
        let fault = size_in(5 << 20..=5 << 30)("1MiB").unwrap_err();
        assert_eq!((fault.wrong.as_str(), fault.mend.as_str()), ("too small", "write 5MiB to 5GiB"));
        for text in ["0", "257", "-1", "many", "1.5", "99999999999"] {
            assert_eq!(number_in(1..=256)(text).unwrap_err().mend, "write 1 to 256", "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_is_read_as_it_was_written(millis in prop_oneof![any::<u64>(), 0..100_000_000_u64, (0..1000_u64).prop_map(|days| days * 86_400_000)]) {
            let it = Duration::from_millis(millis);
            prop_assert_eq!(duration(&write_duration(it)), Ok(it));
        }

        #[test]
        fn a_size_is_read_as_it_was_written(bytes in prop_oneof![any::<u64>(), 0..10_000_u64, (0..10_000_u64).prop_map(|mib| mib << 20)]) {
            prop_assert_eq!(size(&write_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_breaks_the_readers(text in "\\PC{0,12}") {
            let _ = (duration(&text), size(&text));
        }
    }
}
