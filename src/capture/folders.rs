//! Tells the folders that cameras make from those that people name.
//!
//! Cameras put their captures into folders by date, hour, channel and kind. Such a folder is not the name of a camera, and
//! if it only repeats the capture's own name, the key leaves it out.

use chrono::{Datelike, Months, NaiveDate, NaiveDateTime, Timelike};

use super::Media;

/// The meaning of one folder below the drop folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Folder {
    /// A name that a person gave.
    Given,
    /// A date.
    Date(NaiveDate),
    /// A range of dates, first and last.
    Interval(NaiveDate, NaiveDate),
    /// An hour or a channel.
    Number(u32),
    /// A kind of recording.
    Kind(Media),
    /// A folder that a camera makes, with no other meaning.
    Tree,
}

/// Returns the meaning of each folder. A number is an hour or a channel only below a date; elsewhere a person gave it.
pub(super) fn read(folders: &[&[u8]]) -> Vec<Folder> {
    let mut read: Vec<Folder> = folders.iter().map(|folder| read_one(folder)).collect();
    for place in 1..folders.len() {
        let [first, second] = [place - 1, place].map(|place| folders[place]);
        // A date in two folders, and a month in two.
        if let Some(date) = date_in_two(first, second) {
            read[place - 1..=place].fill(Folder::Date(date));
        } else if let (4, 2, Some(month)) = (first.len(), second.len(), month_of(number(first), number(second))) {
            read[place - 1..=place].fill(month);
        }
        // A date in three folders.
        let third = folders.get(place + 1).filter(|day| first.len() == 4 && second.len() <= 2 && day.len() <= 2);
        if let Some(date) = third.and_then(|day| date_of(number(first), number(second), number(day))) {
            read[place - 1..=place + 1].fill(Folder::Date(date));
        }
    }
    let mut dated = false;
    for (folder, name) in read.iter_mut().zip(folders) {
        dated |= matches!(folder, Folder::Date(_));
        if dated && *folder == Folder::Given && name.len() <= 3 {
            *folder = number(name).map_or(Folder::Given, Folder::Number);
        }
    }
    read
}

/// Returns the hour, minute or second that a folder below a date tells: two digits, `HHhour`, `HHh`, `MMmin` or `MMm`.
pub(super) fn clock_number(folder: &[u8]) -> Option<u32> {
    let (digits, word) = folder.split_at_checked(2)?;
    number(digits).filter(|_| matches!(word, b"" | b"h" | b"H" | b"hour" | b"m" | b"M" | b"min"))
}

/// Returns the hour in the name of a folder that tells a date.
pub(super) fn hour_of_date(folder: &[u8]) -> Option<u32> {
    let digits: Vec<u8> = folder.iter().copied().filter(u8::is_ascii_digit).collect();
    if digits.len() == 10 { number(&digits[8..]) } else { None }
}

/// Returns the date in two folders, such as `2026/11-19` or `2026-11/19`.
fn date_in_two(first: &[u8], second: &[u8]) -> Option<NaiveDate> {
    let is_separator = |byte: &u8| matches!(byte, b'-' | b'_' | b'.');
    let (year, month, day) = match (first.len(), second.len()) {
        (4, 4) => (first, &second[..2], &second[2..]),
        (4, 5) if is_separator(&second[2]) => (first, &second[..2], &second[3..]),
        (6, 2) => (&first[..4], &first[4..], second),
        (7, 2) if is_separator(&first[4]) => (&first[..4], &first[5..], second),
        _ => return None,
    };
    date_of(number(year), number(month), number(day))
}

/// Returns the days of a month.
fn month_of(year: Option<u32>, month: Option<u32>) -> Option<Folder> {
    let first = date_of(year, month, Some(1))?;
    let last = first.checked_add_months(Months::new(1))?.pred_opt()?;
    Some(Folder::Interval(first, last))
}

/// The length of the longest folder name that a camera makes.
const LONGEST: usize = "YYYY_MM_DD-YYYY_MM_DD".len();

/// Returns the meaning of one folder by its name alone.
fn read_one(name: &[u8]) -> Folder {
    let (mut shape, mut digits, mut count) = ([0; LONGEST], [0; LONGEST], 0);
    let Some(shape) = shape.get_mut(..name.len()) else { return Folder::Given };
    for (byte, place) in name.iter().zip(&mut *shape) {
        *place = if byte.is_ascii_digit() { b'0' } else { byte.to_ascii_lowercase() };
        if byte.is_ascii_digit() {
            digits[count] = *byte;
            count += 1;
        }
    }
    let digits = &digits[..count];
    let date = |from: usize| {
        let part = |from: usize, to: usize| digits.get(from..to).and_then(number);
        date_of(part(from, from + 4), part(from + 4, from + 6), part(from + 6, from + 8))
    };
    match &*shape {
        b"0000-00-00" | b"0000_00_00" | b"0000.00.00" | b"00000000" | b"img_0000-00-00" | b"0000_0000" => {
            date(0).map_or(Folder::Given, Folder::Date)
        }
        b"0000y00m00d00h" | b"0000000000" | b"00000000_00" | b"00000000-00" | b"0000-00-00-00" | b"0000-00-00_00"
        | b"0000-00-00 00" | b"0000_00_00_00" | b"0000_00_00-00" => {
            let has_hour = digits.get(8..).and_then(number).is_some_and(|hour| hour < 24);
            date(0).filter(|_| has_hour).map_or(Folder::Given, Folder::Date)
        }
        b"0000-00" | b"0000_00" | b"0000.00" => {
            month_of(digits.get(..4).and_then(number), digits.get(4..).and_then(number)).unwrap_or(Folder::Given)
        }
        b"0000_00_00-0000_00_00" => match (date(0), date(8)) {
            (Some(first), Some(last)) => Folder::Interval(first, last),
            _ => Folder::Given,
        },
        b"pic_0" | b"pic_00" | b"pic_000" | b"00hour" | b"00h" => number(digits).map_or(Folder::Given, Folder::Number),
        b"jpg" | b"snap" => Folder::Kind(Media::Picture),
        b"dav" | b"record" => Folder::Kind(Media::Video),
        b"images000" if digits == b"000" => Folder::Kind(Media::Picture),
        b"record000" if digits == b"000" => Folder::Kind(Media::Video),
        b"images000" | b"record000" | b"alarm" | b"recording" | b"recordings" | b"xiaomi_camera_videos" => Folder::Tree,
        _ => Folder::Given,
    }
}

impl Folder {
    /// Returns whether a capture of this time, channel and kind says everything in its own name that the folder says.
    pub(super) fn is_implied(self, taken: NaiveDateTime, channel: Option<&str>, media: Media) -> bool {
        match self {
            Self::Given | Self::Tree => false,
            Self::Date(date) => date == taken.date(),
            Self::Interval(first, last) => (first..=last).contains(&taken.date()),
            Self::Number(number) => {
                number == taken.hour() || channel.and_then(|channel| channel.parse().ok()) == Some(number)
            }
            Self::Kind(kind) => kind == media,
        }
    }
}

/// Reads a number of digits alone; one that is too large becomes `u32::MAX`.
fn number(digits: impl AsRef<[u8]>) -> Option<u32> {
    let digits = digits.as_ref();
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all.then(|| digits.iter().fold(0, |sum: u32, digit| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0'))))
}

/// Returns the date, if it exists and is in the years 1970 to 2099.
fn date_of(year: Option<u32>, month: Option<u32>, day: Option<u32>) -> Option<NaiveDate> {
    let date = NaiveDate::from_ymd_opt(i32::try_from(year?).ok()?, month?, day?)?;
    (1970..=2099).contains(&date.year()).then_some(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(path: &str) -> String {
        let folders: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        let letter = |folder: &Folder| match folder {
            Folder::Given => 'g',
            Folder::Date(_) => 'd',
            Folder::Interval(..) => 'i',
            Folder::Number(_) => 'n',
            Folder::Kind(_) => 'k',
            Folder::Tree => 't',
        };
        read(&folders).iter().map(letter).collect()
    }

    #[test]
    fn a_vendors_tree_is_told_from_names() {
        for (path, expected) in [
            ("CAM-EXT-001", "g"),
            ("2019-05-09/001/jpg/06/07", "dnknn"),
            ("cam/2024-08-13/06hour/jpg", "gdnk"),
            ("Den/2026/09/27", "gddd"),
            ("2026/9/7/Den/14", "dddgn"),
            ("5", "g"),
            ("00000005", "g"),
            ("861551053998357/2023/11/2", "gddd"),
            ("shangzhan/2026_06_23-2026_06_23", "gi"),
            ("20250901/images000", "dk"),
            ("20250901/record001", "dt"),
            ("axis-ACCC8EB0662C/20190510/08/20190510_084109_D60B_ACCC8EB0662C/20190510_09", "gdngd"),
            ("Img_2010-08-10", "d"),
            ("2024Y05M06D07H", "d"),
            ("2024-13-01", "g"),
            ("2026/13/01", "ggg"),
            ("2026-11/19/2026/11-19", "dddd"),
            ("2026/11/2026-11-19", "iid"),
            ("2026-11/cam", "ig"),
            ("2026110923", "d"),
            ("2026110924", "g"),
            ("alarm/recordings/record/snap", "ttkk"),
            ("xiaomi_camera_videos/78DF72001122/2026110923", "tgd"),
            ("", "g"),
        ] {
            assert_eq!(kinds(path), expected, "{path}");
        }
    }

    #[test]
    fn what_the_name_says_anyway_is_implied() {
        let taken = "2026-09-27T14:03:05".parse().unwrap();
        let implied = |path: &str| -> Vec<bool> {
            let folders: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
            read(&folders).into_iter().map(|folder| folder.is_implied(taken, Some("01"), Media::Picture)).collect()
        };
        assert_eq!(implied("2026/09/27/14/01/02/jpg/dav"), [true, true, true, true, true, false, true, false]);
        assert_eq!(implied("2026_09_25-2026_09_28/2026_09_25-2026_09_26"), [true, false]);
        assert_eq!(implied("porch/2026-09-28"), [false, false]);
    }
}
