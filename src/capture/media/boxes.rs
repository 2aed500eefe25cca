//! MP4, MOV and other formats that are a row of boxes (ISO/IEC 14496-12, 4.2).
//!
//! A clip can be played only if it has `moov` and a `mdat`, in any order; in a fragmented one, pairs of `moof` and `mdat`
//! follow. Pictures (HEIC, AVIF) have a `meta` instead, and need no `mdat`.

use std::io;

use super::{FileEnd, Walk};

/// The kinds of boxes whose length is believed even if it goes beyond the end of the file. Other bytes there may be a
/// vendor's own, after the end of the clip.
const BELIEVED: [&[u8; 4]; 14] = [
    b"moov", b"mdat", b"moof", b"mfra", b"free", b"skip", b"wide", b"udta", b"uuid", b"meta", b"sidx", b"styp",
    b"emsg", b"prft",
];

pub(super) fn end(walk: &mut Walk) -> io::Result<FileEnd> {
    let (mut index, mut data, mut items) = (false, false, false);
    // Fewer bytes than a header are padding after the clip, or the cut.
    while walk.left() >= 8 {
        let Some((kind, length)) = header(walk)? else {
            return Ok(if index && data { FileEnd::Whole } else { FileEnd::Unknown });
        };
        if length > walk.left() && !BELIEVED.contains(&&kind) {
            break;
        }
        walk.skip(length)?;
        index |= &kind == b"moov";
        data |= &kind == b"mdat";
        items |= &kind == b"meta";
    }
    Ok(match (index && data, items) {
        (true, _) => FileEnd::Whole,
        (false, true) => FileEnd::Unknown,
        (false, false) => FileEnd::Cut,
    })
}

/// Reads the header of a box: returns its kind and the length of its content; `None` if no box starts here.
pub(in crate::capture) fn header(walk: &mut Walk) -> io::Result<Option<([u8; 4], u64)>> {
    let short = u32::from_be_bytes(walk.read()?);
    let kind: [u8; 4] = walk.read()?;
    if !kind.iter().all(|byte| (b' '..=b'~').contains(byte) || *byte == 0xA9) {
        return Ok(None);
    }
    let length = match short {
        // The box goes on to the end of the file.
        0 => Some(walk.left()),
        1 => u64::from_be_bytes(walk.read()?).checked_sub(16),
        length => u64::from(length).checked_sub(8),
    };
    Ok(length.map(|length| (kind, length)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{assert_cut_before_end, end};
    use super::*;

    fn mp4_box(kind: [u8; 4], body: &[u8]) -> Vec<u8> {
        [&u32::try_from(body.len() + 8).unwrap().to_be_bytes(), &kind[..], body].concat()
    }

    fn clip() -> Vec<u8> {
        [mp4_box(*b"ftyp", b"isom0000"), mp4_box(*b"mdat", &[7; 300]), mp4_box(*b"moov", &[1; 40])].concat()
    }

    #[test]
    fn a_clip_is_whole_with_index_and_data_and_cut_anywhere_before() {
        assert_eq!(end(&clip()), FileEnd::Whole);
        assert_cut_before_end(&clip(), 8, &[]);
        // A large box's length has 64 bits; one of length 0 goes on to the end.
        let head = [mp4_box(*b"ftyp", b"isom"), mp4_box(*b"moov", b"x")].concat();
        let long = [&head, &[0, 0, 0, 1][..], b"mdat", &24u64.to_be_bytes(), &[7; 8]].concat();
        assert_eq!(end(&long), FileEnd::Whole);
        assert_cut_before_end(&long, 8, &[]);
        assert_eq!(end(&[&head, &[0, 0, 0, 0][..], b"mdat", &[7; 99]].concat()), FileEnd::Whole);
    }

    #[test]
    fn a_fragmented_clip_is_cut_inside_a_fragment_but_not_between_two() {
        let head = [mp4_box(*b"ftyp", b"iso5"), mp4_box(*b"moov", &[1; 40])].concat();
        let fragment = [mp4_box(*b"moof", &[2; 30]), mp4_box(*b"mdat", &[3; 50])].concat();
        let clip = [&head[..], &fragment, &fragment].concat();
        assert_eq!(end(&clip), FileEnd::Whole);
        // From the first fragment's end a box's end is as good as the clip's, and less than a header is no box.
        let one = head.len() + fragment.len();
        let boundaries: Vec<usize> = (one..one + 8).chain(one + 38..one + 46).collect();
        assert_cut_before_end(&clip, 8, &boundaries);
    }

    #[test]
    fn what_follows_a_clip_does_no_harm() {
        for tail in [&[0; 3][..], &[0; 64], b"abcdefgh", b"maker's own", &[0xFF; 32]] {
            assert_eq!(end(&[&clip(), tail].concat()), FileEnd::Whole, "{tail:?}");
        }
    }

    #[test]
    fn a_picture_of_boxes_is_never_taken_for_a_clip_without_index() {
        let picture = [mp4_box(*b"ftyp", b"heic"), mp4_box(*b"meta", &[1; 30]), mp4_box(*b"mdat", &[2; 30])].concat();
        assert_eq!(end(&picture), FileEnd::Unknown);
        assert_eq!(end(&[&picture, &b"maker's own"[..]].concat()), FileEnd::Unknown);
        assert_eq!(end(&picture[..picture.len() - 1]), FileEnd::Cut);
    }

    proptest! {
        #[test]
        fn hostile_lengths_have_an_answer(boxes: Vec<(u32, u64, bool)>) {
            let mut bytes = mp4_box(*b"ftyp", b"isom");
            for (length, long, index) in boxes {
                bytes.extend((length % 20).to_be_bytes());
                bytes.extend(if index { b"moov" } else { b"mdat" });
                bytes.extend(long.to_be_bytes());
            }
            end(&bytes);
        }
    }
}
