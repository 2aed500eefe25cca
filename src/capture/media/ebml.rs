//! Matroska and `WebM`: EBML elements of identifier, length and data (RFC 8794, 4 to 6).
//!
//! Everything except the header is in one Segment (RFC 9559, 4.5). A recorder that cannot go back in its file leaves the
//! length of the Segment unknown, and maybe that of each Cluster: a cut between two elements of such a clip cannot be seen.

use std::io;

use super::{FileEnd, Walk};

const SEGMENT: u64 = 0x1853_8067;
const CLUSTER: u64 = 0x1F43_B675;
const INFO: u64 = 0x1549_A966;
const DATE_UTC: u64 = 0x4461;

/// The elements that may be beside a Segment, or directly in a Segment or a Cluster (RFC 9559, 5.1): EBML, Void, CRC-32; `SeekHead`, Info,
/// Tracks, Cues, Chapters, Tags, Attachments; Timestamp, `SilentTracks`, Position, `PrevSize`, `SimpleBlock`,
/// `BlockGroup`, `EncryptedBlock`.
const ELEMENTS: [u64; 17] = [
    0x1A45_DFA3,
    0xEC,
    0xBF,
    0x114D_9B74,
    0x1549_A966,
    0x1654_AE6B,
    0x1C53_BB6B,
    0x1043_A770,
    0x1254_C367,
    0x1941_A469,
    0xE7,
    0x5854,
    0xA7,
    0xAB,
    0xA3,
    0xA0,
    0xAF,
];

pub(super) fn end(walk: &mut Walk) -> io::Result<FileEnd> {
    let mut inside = false;
    while walk.left() > 0 || !inside {
        let Some((identifier, _)) = number(walk, 4)? else { return Ok(FileEnd::Unknown) };
        if ![SEGMENT, CLUSTER].contains(&identifier) && !ELEMENTS.contains(&identifier) {
            return Ok(FileEnd::Unknown);
        }
        let Some((marked, bits)) = number(walk, 8)? else { return Ok(FileEnd::Unknown) };
        let most = (1 << bits) - 1;
        match (identifier, marked & most) {
            (SEGMENT | CLUSTER, length) if length == most => inside = true,
            (_, length) if length == most => return Ok(FileEnd::Unknown),
            (SEGMENT, length) => return walk.skip(length).map(|()| FileEnd::Whole),
            (_, length) => walk.skip(length)?,
        }
    }
    Ok(FileEnd::Unknown)
}

/// Returns the date of a clip, in nanoseconds since 2001 (RFC 9559, 5.1.2.12 `DateUTC`); `None` if it is not in the Info
/// before the first Cluster.
pub(in crate::capture) fn date(walk: &mut Walk) -> io::Result<Option<i64>> {
    while let Some((identifier, _)) = number(walk, 4)? {
        let Some((marked, bits)) = number(walk, 8)? else { return Ok(None) };
        let most = (1 << bits) - 1;
        match (identifier, marked & most) {
            (SEGMENT | INFO, _) => {}
            (DATE_UTC, 8) => return Ok(Some(i64::from_be_bytes(walk.read()?))),
            (CLUSTER, _) => return Ok(None),
            (_, length) if length == most => return Ok(None),
            (_, length) => walk.skip(length)?,
        }
    }
    Ok(None)
}

/// Reads a number of variable size: returns it with the marker of its size, and the number of bits below that marker;
/// `None` if it has more than `most` bytes.
fn number(walk: &mut Walk, most: u32) -> io::Result<Option<(u64, u32)>> {
    let first = walk.byte()?;
    let size = first.leading_zeros() + 1;
    if size > most {
        return Ok(None);
    }
    let mut number = u64::from(first);
    for _ in 1..size {
        number = number << 8 | u64::from(walk.byte()?);
    }
    Ok(Some((number, 7 * size)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{assert_cut_before_end, end};
    use super::*;

    const HEADER: &[u8] = b"\x1A\x45\xDF\xA3\x84webm";

    /// An element, with its length or with the mark for an unknown one.
    fn element(identifier: u64, known: bool, data: &[u8]) -> Vec<u8> {
        let size = identifier.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
        let length = if known { 1 << 56 | data.len() as u64 } else { (1 << 57) - 1 };
        [&size[..], &length.to_be_bytes(), data].concat()
    }

    fn segment(known: bool) -> Vec<u8> {
        let tracks = element(0x1654_AE6B, true, &[1; 20]);
        let blocks = [element(0xE7, true, b"\x07"), element(0xA3, true, &[2; 30])].concat();
        let cluster = element(CLUSTER, known, &blocks);
        let data = [&tracks[..], &cluster, &cluster, b"\xEC\x80"].concat();
        [HEADER, &element(SEGMENT, known, &data)].concat()
    }

    #[test]
    fn a_clip_of_known_length_is_whole_or_cut() {
        assert_eq!(end(&segment(true)), FileEnd::Whole);
        assert_eq!(end(&[&segment(true), &b"maker's own"[..]].concat()), FileEnd::Whole);
        assert_cut_before_end(&segment(true), 4, &[]);
    }

    #[test]
    fn a_clip_of_unknown_length_is_cut_inside_an_element_and_does_not_tell_between_two() {
        let clip = segment(false);
        assert_eq!(end(&clip), FileEnd::Unknown);
        // Behind the Segment's header and each element; each data's length, and their order, are as above.
        let mut boundaries = vec![HEADER.len() + 12];
        for step in [12 + 20, 12, 9 + 1, 9 + 30, 12, 9 + 1, 9 + 30] {
            boundaries.push(boundaries[boundaries.len() - 1] + step);
        }
        assert_cut_before_end(&clip, 4, &boundaries);
        for tail in [&[0; 9][..], b"maker's own"] {
            assert_eq!(end(&[&clip, tail].concat()), FileEnd::Unknown, "{tail:?}");
        }
    }

    #[test]
    fn foreign_syntax_does_not_tell() {
        for foreign in [&b"\x00"[..], b"\x08\x01\x02\x03\x04", b"\xEC\x00", b"\xEC\xFF", b"\x99\x81?"] {
            assert_eq!(end(&[HEADER, foreign].concat()), FileEnd::Unknown, "{foreign:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_lengths_have_an_answer(elements: Vec<(usize, u64, bool)>) {
            let mut bytes = [HEADER, &element(SEGMENT, false, b"")].concat();
            for (identifier, length, small) in elements {
                let empty = element(ELEMENTS[identifier % ELEMENTS.len()], true, b"");
                bytes.extend(&empty[..empty.len() - 8]);
                bytes.extend((1 << 56 | if small { length % 9 } else { length >> 8 }).to_be_bytes());
            }
            end(&bytes);
        }
    }
}
