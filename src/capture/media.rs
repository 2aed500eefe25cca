//! Tells from a file's content whether it is whole or was cut off.
//!
//! FTP sends no length, so a camera that lost its connection looks like one that has finished.
//!
//! A file that begins with zeros has a hole where its beginning was: a camera has resumed a transfer whose first part is
//! not there any more. One that has nothing but zeros is no rest of anything.
//!
//! In doubt, a file counts as whole: it is stored under its own key, and nothing is lost if that is wrong. It counts as cut
//! only if the format proves that bytes are missing: a length goes beyond the end of the file, or an end mark that must be
//! there is missing. Extra bytes after the end, such as a vendor's own, do no harm.
//!
//! Every reader goes forward only, from header to header: whatever lengths they claim, it reads each byte of the file at
//! most once and keeps no more than one header.

use std::io::{self, Read, Seek, SeekFrom};

use serde::Serialize;

pub(in crate::capture) mod boxes;
pub(in crate::capture) mod chunks;
pub(in crate::capture) mod ebml;
mod jpeg;
pub(in crate::capture) mod packets;
mod walk;

pub(in crate::capture) use walk::Walk;

/// The content of a file: on disk or in memory.
pub trait Readable: Read + Seek {}

impl<T: Read + Seek> Readable for T {}

/// Whether a file has its end, by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileEnd {
    /// The end is there.
    Whole,
    /// The end is missing: the file was cut off.
    Cut,
    /// The format is unknown, or does not tell.
    Unknown,
}

/// The format of a file, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::capture) enum MediaFormat {
    Jpeg,
    Png,
    /// MP4, MOV and other formats of boxes.
    Boxes,
    /// Matroska or `WebM`.
    Ebml,
    Avi,
    /// Dahua's .dav.
    Dhav {
        /// Where its first packet begins.
        start: u64,
    },
    /// Xiongmai's .h264.
    Xiongmai,
    /// No format begins with so many zeros: if anything follows, the beginning is missing.
    Hole,
    /// Any other format, and plain H.264 and H.265, whose streams have no end mark (ITU-T H.264 and H.265, annex B).
    Other,
}

impl MediaFormat {
    /// Returns the format of a file.
    pub(in crate::capture) fn of(file: &mut dyn Readable) -> io::Result<Self> {
        file.seek(SeekFrom::Start(0))?;
        let mut head = Vec::with_capacity(12);
        (&mut *file).take(12).read_to_end(&mut head)?;
        Ok(match head.as_slice() {
            [0xFF, 0xD8, 0xFF, ..] => Self::Jpeg,
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Self::Png,
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => Self::Boxes,
            [0x1A, 0x45, 0xDF, 0xA3, ..] => Self::Ebml,
            [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' '] => Self::Avi,
            [b'D', b'H', b'A', b'V', kind, ..] if packets::DHAV_KINDS.contains(kind) => Self::Dhav { start: 0 },
            [b'D', b'A', b'H', b'U', b'A', ..] => Self::Dhav { start: packets::DAHUA_HEADER },
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] => Self::Hole,
            [0, 0, 1, 0xFC | 0xFE, _, _, _, _, a, b, c, d] if packets::is_date([*a, *b, *c, *d]) => Self::Xiongmai,
            _ => Self::Other,
        })
    }
}

/// Returns whether a file is whole, reading it from its start.
///
/// # Errors
/// The file cannot be read.
pub fn end_of(file: &mut dyn Readable) -> io::Result<FileEnd> {
    let format = MediaFormat::of(file)?;
    let mut walk = Walk::over(file)?;
    let end = match format {
        MediaFormat::Jpeg => jpeg::end(&mut walk),
        MediaFormat::Png => chunks::png(&mut walk),
        MediaFormat::Boxes => boxes::end(&mut walk),
        MediaFormat::Ebml => ebml::end(&mut walk),
        MediaFormat::Avi => chunks::avi(&mut walk),
        MediaFormat::Dhav { start } => packets::dhav(&mut walk, start),
        MediaFormat::Xiongmai => packets::xiongmai(&mut walk),
        MediaFormat::Hole => hole(file),
        MediaFormat::Other => Ok(FileEnd::Unknown),
    };
    match end {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(FileEnd::Cut),
        end => end,
    }
}

/// Returns whether a file that begins with zeros is the rest of another one.
fn hole(file: &mut dyn Readable) -> io::Result<FileEnd> {
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(FileEnd::Unknown);
        }
        if buffer[..read].iter().any(|byte| *byte != 0) {
            return Ok(FileEnd::Cut);
        }
    }
}

/// Returns whether a file begins as one of the known formats does.
///
/// # Errors
/// The file cannot be read.
pub fn has_header(file: &mut dyn Readable) -> io::Result<bool> {
    Ok(!matches!(MediaFormat::of(file)?, MediaFormat::Hole | MediaFormat::Other))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    pub(super) fn end(bytes: &[u8]) -> FileEnd {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        end_of(&mut file).unwrap()
    }

    /// Asserts that the file is cut at every length from `known` on, at which its format is recognised, except the
    /// `boundaries`.
    pub(super) fn assert_cut_before_end(whole: &[u8], known: usize, boundaries: &[usize]) {
        for length in 0..whole.len() {
            let expected = known <= length && !boundaries.contains(&length);
            assert_eq!(end(&whole[..length]) == FileEnd::Cut, expected, "{length} of {} bytes", whole.len());
        }
    }

    #[test]
    fn other_content_does_not_tell() {
        for content in [&b""[..], b"x", b"some text", b"RIFF\x04\0\0\0WAVE", b"IMKH", b"\0\0\0\x01\x67\x42\0\0\x01\x68"]
        {
            assert_eq!(end(content), FileEnd::Unknown);
        }
    }

    #[test]
    fn what_begins_with_a_hole_is_cut_unless_there_is_nothing_but_the_hole() {
        for (zeros, rest, expected) in [
            (12, &b"x"[..], FileEnd::Cut),
            (100_000, b"\xFF\xD9", FileEnd::Cut),
            (100_000, b"", FileEnd::Unknown),
            (11, b"x", FileEnd::Unknown),
        ] {
            assert_eq!(end(&[&vec![0; zeros], rest].concat()), expected, "{zeros}");
        }
    }

    #[test]
    fn a_few_bytes_that_might_be_anything_do_not_tell() {
        for content in [
            &b"\xFF\xD8"[..],
            b"\xFF\xD8?",
            b"\x89PNG",
            b"DHAV",
            b"DHAV1234",
            b"\0\0\x01\xFC",
            &[0, 0, 1, 0xFD, 9, 9, 0, 0],
        ] {
            assert_eq!(end(content), FileEnd::Unknown, "{content:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(start in 0usize..9, bytes: Vec<u8>) {
            let head: &[u8] = [
                &b""[..],
                b"\xFF\xD8\xFF",
                b"\x89PNG\r\n\x1a\n",
                b"\0\0\0\x10ftyp",
                b"\x1A\x45\xDF\xA3",
                b"RIFF\x10\0\0\0AVI ",
                b"DHAV\xFD",
                b"DAHUA",
                b"\0\0\x01\xFC\x02\x19\x78\x44\x46\x41\x86\x60",
            ][start];
            end(&[head, &bytes].concat());
        }
    }
}
