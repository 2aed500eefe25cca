//! Is a recording whole? Told by its content, not by its name: FTP has no length, and a camera that lost its connection
//! half-way looks like one that has finished.
//!
//! When in doubt, a file is whole: it is then stored under its own key, and nothing is lost by the mistake.

use serde::Serialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

/// What a file's content says of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// It is there.
    Whole,
    /// It is missing: the file was cut off.
    Cut,
    /// The format is not known, or does not tell.
    Unknown,
}

/// Longest JPEG end that may follow after padding, in bytes.
const JPEG_TAIL: usize = 64 * 1024;

/// Reads a file from its start and says whether it is whole.
///
/// # Errors
/// Where it cannot be read.
pub fn end_of(file: &mut File) -> io::Result<End> {
    let size = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut head = Vec::with_capacity(12);
    file.by_ref().take(12).read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(0))?;
    match head.as_slice() {
        [0xFF, 0xD8, ..] => jpeg(file, size),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => mp4(file, size),
        _ => Ok(End::Unknown),
    }
}

/// A JPEG ends with the marker EOI (ITU-T T.81, B.1.1.3). One inside a segment, such as a thumbnail's, does not count.
fn jpeg(file: &mut File, size: u64) -> io::Result<End> {
    let mut reader = BufReader::with_capacity(64 * 1024, &mut *file);
    reader.seek_relative(2)?;
    match walk_markers(&mut reader) {
        Ok(Some(end)) => Ok(end),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(End::Cut),
        Err(error) => Err(error),
        // Not the syntax of a JPEG: some cameras' are not. Then the end of the file decides.
        Ok(None) => ends_with_eoi(file, size),
    }
}

/// Goes from marker to marker; `None` where there is none that should be one.
fn walk_markers(reader: &mut (impl BufRead + Seek)) -> io::Result<Option<End>> {
    loop {
        if byte(reader)? != 0xFF {
            return Ok(None);
        }
        let mut marker = byte(reader)?;
        while marker == 0xFF {
            marker = byte(reader)?;
        }
        match marker {
            0xD9 => return Ok(Some(End::Whole)),
            // Markers without a segment: TEM and RSTn.
            0x01 | 0xD0..=0xD7 => continue,
            0x00 | 0x02..=0xBF | 0xD8 => return Ok(None),
            _ => {}
        }
        let length = u16::from_be_bytes([byte(reader)?, byte(reader)?]);
        let Some(rest) = length.checked_sub(2) else { return Ok(None) };
        skip(reader, u64::from(rest))?;
        if marker == 0xDA {
            skip_scan(reader)?;
        }
    }
}

/// Skips the coded data after a start of scan, up to the next marker.
fn skip_scan(reader: &mut (impl BufRead + Seek)) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(at) = buffer.iter().position(|byte| *byte == 0xFF) else {
            let length = buffer.len();
            reader.consume(length);
            continue;
        };
        reader.consume(at + 1);
        match byte(reader)? {
            // A stuffed byte, or a restart: the data goes on.
            0x00 | 0xD0..=0xD7 => {}
            _ => return reader.seek_relative(-2),
        }
    }
}

fn byte(reader: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    reader.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn skip(reader: &mut impl Read, length: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.take(length), &mut io::sink())?;
    if skipped == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn ends_with_eoi(file: &mut File, size: u64) -> io::Result<End> {
    let tail = size.min(JPEG_TAIL as u64);
    file.seek(SeekFrom::Start(size - tail))?;
    let mut bytes = Vec::new();
    file.take(tail).read_to_end(&mut bytes)?;
    let content = bytes.iter().rposition(|byte| *byte != 0).map_or(&[][..], |last| &bytes[..=last]);
    Ok(if content.ends_with(&[0xFF, 0xD9]) { End::Whole } else { End::Cut })
}

/// An MP4 or MOV is a row of boxes (ISO/IEC 14496-12, 4.2); it can be played only with `moov` and some `mdat`.
fn mp4(file: &mut File, size: u64) -> io::Result<End> {
    let (mut at, mut index, mut data) = (0, false, false);
    while at < size {
        file.seek(SeekFrom::Start(at))?;
        let mut header = Vec::with_capacity(16);
        file.by_ref().take(16).read_to_end(&mut header)?;
        let Some((length, kind)) = header.split_at_checked(4).and_then(|(l, rest)| Some((l, rest.get(..4)?))) else {
            // Less than a header: padding behind a whole clip, or the cut.
            break;
        };
        let length = match (u32::from_be_bytes([length[0], length[1], length[2], length[3]]), header.get(8..16)) {
            (0, _) => size - at,
            (1, Some(long)) => long.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            (1, None) => break,
            (short, _) => u64::from(short),
        };
        if length < 8 || !kind.iter().all(|byte| (b' '..=b'~').contains(byte) || *byte == 0xA9) {
            // No box: trailing bytes of the maker's own, if what matters came before.
            return Ok(if index && data { End::Whole } else { End::Unknown });
        }
        if length > size - at {
            return Ok(End::Cut);
        }
        index |= kind == b"moov";
        data |= kind == b"mdat";
        at += length;
    }
    Ok(if index && data { End::Whole } else { End::Cut })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn end(bytes: &[u8]) -> End {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        end_of(&mut file).unwrap()
    }

    /// A picture with a thumbnail in its APP1, stuffed bytes and a restart in its scan.
    fn picture() -> Vec<u8> {
        let thumbnail = b"\xFF\xD8\xFF\xDA\x00\x02\x11\xFF\xD9";
        let mut bytes = b"\xFF\xD8\xFF\xE1".to_vec();
        bytes.extend(u16::try_from(thumbnail.len() + 2).unwrap().to_be_bytes());
        bytes.extend(thumbnail);
        bytes.extend(b"\xFF\xDB\x00\x04\x01\x02\xFF\xDA\x00\x04\x09\x09scan\xFF\x00data\xFF\xD3more\xFF\xFF\xD9");
        bytes
    }

    fn mp4_box(kind: [u8; 4], body: &[u8]) -> Vec<u8> {
        [&u32::try_from(body.len() + 8).unwrap().to_be_bytes(), &kind[..], body].concat()
    }

    fn clip() -> Vec<u8> {
        [mp4_box(*b"ftyp", b"isom0000"), mp4_box(*b"mdat", &[7; 300]), mp4_box(*b"moov", &[1; 40])].concat()
    }

    #[test]
    fn a_picture_is_whole_with_its_end_and_cut_anywhere_before() {
        let whole = picture();
        assert_eq!(end(&whole), End::Whole);
        assert_eq!(end(&[whole.as_slice(), b"\0\0maker's own"].concat()), End::Whole);
        for length in 2..whole.len() {
            assert_eq!(end(&whole[..length]), End::Cut, "{length} of {} bytes", whole.len());
        }
    }

    #[test]
    fn a_clip_is_whole_with_index_and_data_and_cut_anywhere_before() {
        let whole = clip();
        assert_eq!(end(&whole), End::Whole);
        assert_eq!(end(&[whole.as_slice(), &[0, 0, 0]].concat()), End::Whole);
        for length in 12..whole.len() {
            assert_eq!(end(&whole[..length]), End::Cut, "{length} of {} bytes", whole.len());
        }
        // A large box's length has 64 bits; one of length 0 goes on to the end.
        let long = [&[0, 0, 0, 1][..], b"mdat", &24u64.to_be_bytes(), &[7; 8]].concat();
        assert_eq!(end(&[mp4_box(*b"ftyp", b"isom"), mp4_box(*b"moov", b"x"), long].concat()), End::Whole);
        let open = [&[0, 0, 0, 0][..], b"mdat", &[7; 99]].concat();
        assert_eq!(end(&[mp4_box(*b"ftyp", b"isom"), mp4_box(*b"moov", b"x"), open].concat()), End::Whole);
    }

    #[test]
    fn other_content_does_not_tell() {
        for content in [&b""[..], b"x", b"some text", b"\x89PNG\r\n\x1a\n", b"DHAV1234"] {
            assert_eq!(end(content), End::Unknown);
        }
        // JPEG by its first bytes alone: its last ones decide.
        assert_eq!(end(b"\xFF\xD8anything\xFF\xD9\0\0"), End::Whole);
        assert_eq!(end(b"\xFF\xD8anything"), End::Cut);
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(start in 0usize..3, bytes: Vec<u8>) {
            let head: &[u8] = [&b""[..], b"\xFF\xD8\xFF", b"\0\0\0\x10ftyp"][start];
            end(&[head, &bytes].concat());
        }
    }
}
