//! The formats that are a row of chunks: PNG (W3C "PNG Specification", 5.3 and 11.2) and AVI (Microsoft, "AVI RIFF File
//! Reference"; `OpenDML` "AVI File Format Extensions", 1996, for clips with further RIFF chunks of the form AVIX).

use std::io;

use super::{FileEnd, Walk};

/// Returns whether a PNG is whole: it ends with the chunk IEND.
pub(super) fn png(walk: &mut Walk) -> io::Result<FileEnd> {
    walk.skip(8)?;
    loop {
        let length = u32::from_be_bytes(walk.read()?);
        let kind: [u8; 4] = walk.read()?;
        if length > i32::MAX.cast_unsigned() || !kind.iter().all(u8::is_ascii_alphabetic) {
            return Ok(FileEnd::Unknown);
        }
        // The data and its CRC.
        walk.skip(u64::from(length) + 4)?;
        if &kind == b"IEND" {
            return Ok(FileEnd::Whole);
        }
    }
}

/// Returns whether an AVI is whole: it is one RIFF chunk or several. A cut between two of them cannot be seen.
pub(super) fn avi(walk: &mut Walk) -> io::Result<FileEnd> {
    let mut first = true;
    while first || walk.left() >= 4 {
        if &walk.read()? != b"RIFF" {
            break;
        }
        let length = u32::from_le_bytes(walk.read()?);
        let form: [u8; 4] = walk.read()?;
        if !first && &form != b"AVIX" {
            break;
        }
        match length {
            // A recorder writes the length when it has finished.
            0 => return Ok(FileEnd::Cut),
            // FFmpeg writes this where it cannot come back to write the length, as into a pipe.
            u32::MAX => return Ok(FileEnd::Unknown),
            _ => {}
        }
        let Some(rest) = length.checked_sub(4) else { return Ok(FileEnd::Unknown) };
        walk.skip(u64::from(rest))?;
        // Chunks start at even offsets.
        walk.skip(u64::from(length % 2).min(walk.left()))?;
        first = false;
    }
    Ok(FileEnd::Whole)
}

/// The most chunks that are looked at for a date or EXIF.
const MOST_CHUNKS: usize = 1000;

/// The most bytes of a date's text.
const DATE_BYTES: u64 = 64;

/// The most bytes of EXIF in a PNG.
const EXIF_BYTES: u64 = 128 * 1024;

/// Returns the text of an AVI's date, in the chunk IDIT of its header list, or ICRD of its information list.
pub(in crate::capture) fn avi_date(walk: &mut Walk) -> io::Result<Option<Vec<u8>>> {
    walk.skip(12)?;
    for _ in 0..MOST_CHUNKS {
        let kind: [u8; 4] = walk.read()?;
        let length = u64::from(u32::from_le_bytes(walk.read()?));
        match &kind {
            b"IDIT" | b"ICRD" => return walk.read_most(length.min(DATE_BYTES)).map(Some),
            b"LIST" if length >= 4 => match &walk.read()? {
                b"hdrl" | b"INFO" => {}
                _ => walk.skip(length - 4 + length % 2)?,
            },
            _ => walk.skip(length + length % 2)?,
        }
    }
    Ok(None)
}

/// Returns the EXIF of a PNG, in its chunk eXIf.
pub(in crate::capture) fn png_exif(walk: &mut Walk) -> io::Result<Option<Vec<u8>>> {
    walk.skip(8)?;
    for _ in 0..MOST_CHUNKS {
        let length = u64::from(u32::from_be_bytes(walk.read()?));
        match &walk.read()? {
            b"eXIf" => return walk.read_most(length.min(EXIF_BYTES)).map(Some),
            b"IEND" => return Ok(None),
            _ => walk.skip(length + 4)?,
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{assert_cut_before_end, end};
    use super::*;

    fn chunk(kind: [u8; 4], data: &[u8]) -> Vec<u8> {
        [&u32::try_from(data.len()).unwrap().to_be_bytes(), &kind[..], data, b"CRC!"].concat()
    }

    fn picture() -> Vec<u8> {
        let chunks = [chunk(*b"IHDR", &[0; 13]), chunk(*b"IDAT", &[9; 70]), chunk(*b"IEND", b"")].concat();
        [&b"\x89PNG\r\n\x1a\n"[..], &chunks].concat()
    }

    fn riff(form: [u8; 4], data: &[u8]) -> Vec<u8> {
        [b"RIFF", &u32::try_from(data.len() + 4).unwrap().to_le_bytes(), &form[..], data].concat()
    }

    #[test]
    fn a_png_is_whole_with_its_last_chunk_and_cut_anywhere_before() {
        assert_eq!(end(&picture()), FileEnd::Whole);
        assert_eq!(end(&[&picture(), &b"maker's own"[..]].concat()), FileEnd::Whole);
        assert_cut_before_end(&picture(), 8, &[]);
    }

    #[test]
    fn a_png_of_foreign_syntax_does_not_tell() {
        for chunk in [&b"\0\0\0\0\0\0\0\0"[..], b"\x80\0\0\0IDAT", b"\xFF\xFF\xFF\xFFIDAT", b"\0\0\0\x01ID\nT"] {
            assert_eq!(end(&[&b"\x89PNG\r\n\x1a\n"[..], chunk].concat()), FileEnd::Unknown, "{chunk:?}");
        }
    }

    #[test]
    fn an_avi_is_whole_with_all_its_length_and_cut_anywhere_before() {
        let clip = riff(*b"AVI ", &[5; 80]);
        assert_eq!(end(&clip), FileEnd::Whole);
        assert_cut_before_end(&clip, 12, &[]);
        for tail in [&b"\0"[..], b"maker's own", b"RIF", b"RIFF\xFF\xFF\xFF\xFFWAVE"] {
            assert_eq!(end(&[&clip, tail].concat()), FileEnd::Whole, "{tail:?}");
        }
    }

    #[test]
    fn an_avi_of_several_parts_is_cut_inside_any_of_them() {
        let (first, second) = (riff(*b"AVI ", &[5; 80]), riff(*b"AVIX", &[6; 31]));
        let clip = [&first[..], &second, b"\0", &second].concat();
        assert_eq!(end(&clip), FileEnd::Whole);
        // Where a part has ended and less than the next one's name follows, the format does not tell.
        let (one, two) = (first.len(), first.len() + second.len());
        assert_cut_before_end(&clip, 12, &(one..one + 4).chain(two..two + 5).collect::<Vec<_>>());
    }

    #[test]
    fn an_avi_that_was_never_finished_is_cut_but_a_streamed_one_does_not_tell() {
        assert_eq!(end(b"RIFF\0\0\0\0AVI LIST and so on"), FileEnd::Cut);
        assert_eq!(end(b"RIFF\xFF\xFF\xFF\xFFAVI LIST and so on"), FileEnd::Unknown);
        assert_eq!(end(b"RIFF\x03\0\0\0AVI "), FileEnd::Unknown);
    }

    proptest! {
        #[test]
        fn hostile_lengths_have_an_answer(lengths: Vec<(u32, bool)>, odd: bool) {
            let mut bytes = if odd { b"RIFF\x05\0\0\0AVI ??".to_vec() } else { b"\x89PNG\r\n\x1a\n".to_vec() };
            for (length, small) in lengths {
                let length = if small { length % 9 } else { length };
                bytes.extend(if odd { riff(*b"AVIX", &[])[..4].to_vec() } else { length.to_be_bytes().to_vec() });
                bytes.extend(if odd { length.to_le_bytes() } else { *b"tEXt" });
                bytes.extend(b"AVIX");
            }
            end(&bytes);
        }
    }
}
