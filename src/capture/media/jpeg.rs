//! JPEG: segments up to the marker EOI, the end of the image (ITU-T T.81, B.1.1).
//!
//! An EOI inside a segment, such as a thumbnail's, does not count. Anything may follow the picture's own EOI, such as more
//! pictures (CIPA DC-007, "Multi-Picture Format").

use std::io;

use super::{FileEnd, Walk};

const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: u8 = 0xD9;

pub(super) fn end(walk: &mut Walk) -> io::Result<FileEnd> {
    walk.skip(2)?;
    if reaches_end(walk)? {
        return Ok(FileEnd::Whole);
    }
    // Some cameras do not keep to the syntax. Such a picture is cut if no EOI follows at all.
    while marker(walk)? != END_OF_IMAGE {
        walk.skip_until(0xFF)?;
    }
    Ok(FileEnd::Unknown)
}

/// Goes from marker to marker up to the EOI; returns `false` where a marker should be and is not.
fn reaches_end(walk: &mut Walk) -> io::Result<bool> {
    let mut after_scan = None;
    loop {
        let marker = match after_scan.take() {
            Some(marker) => marker,
            None if walk.byte()? != 0xFF => return Ok(false),
            None => marker(walk)?,
        };
        match marker {
            END_OF_IMAGE => return Ok(true),
            // Markers without a segment: TEM and RSTn.
            0x01 | 0xD0..=0xD7 => continue,
            0x00 | 0x02..=0xBF | 0xD8 => return Ok(false),
            _ => {}
        }
        let Some(rest) = u16::from_be_bytes(walk.read()?).checked_sub(2) else { return Ok(false) };
        walk.skip(u64::from(rest))?;
        if marker == START_OF_SCAN {
            after_scan = Some(skip_scan(walk)?);
        }
    }
}

/// Skips the coded data of a scan and returns the marker after it.
fn skip_scan(walk: &mut Walk) -> io::Result<u8> {
    loop {
        walk.skip_until(0xFF)?;
        match marker(walk)? {
            // A stuffed byte, or a restart: the data goes on.
            0x00 | 0xD0..=0xD7 => {}
            marker => return Ok(marker),
        }
    }
}

/// Returns the second byte of a marker, after any fill bytes (B.1.1.2).
fn marker(walk: &mut Walk) -> io::Result<u8> {
    loop {
        match walk.byte()? {
            0xFF => {}
            marker => return Ok(marker),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{assert_cut_before_end, end};
    use super::*;

    /// A picture with a thumbnail in its APP1, and in its two scans stuffed bytes, restarts and fill bytes.
    fn picture() -> Vec<u8> {
        let thumbnail = b"\xFF\xD8\xFF\xDA\x00\x02\x11\xFF\xD9";
        let mut bytes = b"\xFF\xD8\xFF\xE1".to_vec();
        bytes.extend(u16::try_from(thumbnail.len() + 2).unwrap().to_be_bytes());
        bytes.extend(thumbnail);
        bytes.extend(b"\xFF\xFF\xFF\xDB\x00\x04\x01\x02\xFF\xDA\x00\x04\x09\x09scan\xFF\x00data\xFF\xD3more");
        bytes.extend(b"\xFF\xFF\xD4filled\xFF\xFF\x00stuffed\xFF\xC4\x00\x03\x07");
        bytes.extend(b"\xFF\xDA\x00\x03\x08second scan\xFF\xFF\xD9");
        bytes
    }

    #[test]
    fn a_picture_is_whole_with_its_end_and_cut_anywhere_before() {
        assert_eq!(end(&picture()), FileEnd::Whole);
        assert_cut_before_end(&picture(), 3, &[]);
    }

    #[test]
    fn what_follows_the_end_does_no_harm() {
        for tail in [&b"\0\0\0\0"[..], b"maker's own", b"\xFF\xFF\xFF", b"\xFF\xD8\xFF\xE0\x00\x10half of another"] {
            assert_eq!(end(&[&picture(), tail].concat()), FileEnd::Whole, "{tail:?}");
        }
        assert_eq!(end(&[picture(), picture()].concat()), FileEnd::Whole);
    }

    #[test]
    fn foreign_syntax_is_cut_only_without_any_end() {
        assert_eq!(end(b"\xFF\xD8\xFF\xFE\0\x02anything"), FileEnd::Cut);
        assert_eq!(end(b"\xFF\xD8\xFF\xFE\0\x02anything\xFF\xD9"), FileEnd::Unknown);
        assert_eq!(end(b"\xFF\xD8\xFF\xFE\0\x02anything\xFF\xD9maker's own"), FileEnd::Unknown);
        assert_eq!(end(b"\xFF\xD8\xFF\xDA\x00\x02scan\xFF\x17more\xFF\xD9"), FileEnd::Unknown);
        assert_eq!(end(b"\xFF\xD8\xFF\xDA\x00\x02scan\xFF\x17more"), FileEnd::Cut);
    }

    proptest! {
        #[test]
        fn a_whole_picture_stays_whole_whatever_follows(tail: Vec<u8>) {
            prop_assert_eq!(end(&[picture(), tail].concat()), FileEnd::Whole);
        }
    }
}
