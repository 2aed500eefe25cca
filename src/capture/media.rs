//! Is a recording whole? Told by its content, not by its name: FTP has no length, and a camera that lost its connection
//! half-way looks like one that has finished.
//!
//! When in doubt, a file is whole: it is then stored under its own key, and nothing is lost by the mistake. "Cut" is
//! said only where the format itself says that bytes are missing: what it announced does not fit into the file, or the
//! end that it must have is not there. Bytes behind the end, such as a maker's own, do no harm.
//!
//! Every walk goes forward only, from header to header, whatever lengths they claim: it reads no more than the file has
//! and keeps no more than one header.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use serde::Serialize;

pub(in crate::capture) mod boxes;
mod chunks;
mod ebml;
mod jpeg;
pub(in crate::capture) mod packets;
mod walk;

pub(in crate::capture) use walk::Walk;

/// What a file's content says of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileEnd {
    /// It is there.
    Whole,
    /// It is missing: the file was cut off.
    Cut,
    /// The format is not known, or does not tell.
    Unknown,
}

/// What a file is by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::capture) enum MediaFormat {
    Jpeg,
    Png,
    /// MP4, MOV and their kin.
    Boxes,
    /// Matroska or `WebM`.
    Ebml,
    Avi,
    /// Dahua's, with its packets from `start`.
    Dhav {
        start: u64,
    },
    /// Xiongmai's .h264.
    Xiongmai,
    /// Also plain H.264 and H.265, whose streams end wherever they end (ITU-T H.264 and H.265, annex B).
    Other,
}

impl MediaFormat {
    pub(in crate::capture) fn of(file: &mut File) -> io::Result<Self> {
        file.seek(SeekFrom::Start(0))?;
        let mut head = Vec::with_capacity(12);
        file.by_ref().take(12).read_to_end(&mut head)?;
        Ok(match head.as_slice() {
            [0xFF, 0xD8, 0xFF, ..] => Self::Jpeg,
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Self::Png,
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => Self::Boxes,
            [0x1A, 0x45, 0xDF, 0xA3, ..] => Self::Ebml,
            [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' '] => Self::Avi,
            [b'D', b'H', b'A', b'V', kind, ..] if packets::DHAV_KINDS.contains(kind) => Self::Dhav { start: 0 },
            [b'D', b'A', b'H', b'U', b'A', ..] => Self::Dhav { start: packets::DAHUA_HEADER },
            [0, 0, 1, 0xFC | 0xFE, _, _, _, _, a, b, c, d] if packets::is_date([*a, *b, *c, *d]) => Self::Xiongmai,
            _ => Self::Other,
        })
    }
}

/// Reads a file from its start and says whether it is whole.
///
/// # Errors
/// Where it cannot be read.
pub fn end_of(file: &mut File) -> io::Result<FileEnd> {
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
        MediaFormat::Other => Ok(FileEnd::Unknown),
    };
    match end {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(FileEnd::Cut),
        end => end,
    }
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

    /// Cut at every length from `known` on, where the format can be told, but not at the `boundaries`.
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
