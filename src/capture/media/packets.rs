//! The packet streams of Dahua's and Xiongmai's recorders.
//!
//! Each packet has its length, but no field counts the packets: a clip that was cut between two of them looks whole.
//!
//! * A packet of Dahua's .dav (source: the demuxer `dhav` of `FFmpeg`) has `DHAV`, the kind, three bytes, a number, the
//!   length of the whole packet and the date; it ends with `dhav` and the length again. A header, `DAHUA`, may come first.
//! * A packet of Xiongmai's .h264 (sources: python-dvr and go2rtc) has an MPEG start code with a kind that H.264 and H.265
//!   do not use (their first bit is 0), and the length of the data after the header. Packets of whole pictures, with which
//!   every clip starts, also have the date.
//!
//! Both pack a date in the same way, from the lowest bits: six of the second, six of the minute, five of the hour, five of
//! the day, four of the month, six of the year since 2000.

use std::io;

use super::{FileEnd, Walk};

/// The kinds of DHAV packets: sound, data, a part of a picture, a whole picture.
pub(super) const DHAV_KINDS: [u8; 4] = [0xF0, 0xF1, 0xFC, 0xFD];
/// The kinds of Xiongmai's packets: data, sound, a whole picture, a part of a picture, a still.
const XIONGMAI_KINDS: [u8; 5] = [0xF9, 0xFA, 0xFC, 0xFD, 0xFE];
/// Bytes of the header that a .dav may start with.
pub(super) const DAHUA_HEADER: u64 = 0x400;
/// Bytes of a DHAV packet up to its length, and after its data.
const DHAV_FRAME: u32 = 16 + 8;

/// Returns whether a .dav whose packets begin at `start` is whole.
pub(super) fn dhav(walk: &mut Walk, start: u64) -> io::Result<FileEnd> {
    if walk.left() < start {
        return Ok(FileEnd::Unknown);
    }
    walk.skip(start)?;
    let mut closed = false;
    while walk.left() > 0 {
        if !walk.starts(b"DHAV")? {
            return Ok(FileEnd::Unknown);
        }
        walk.skip(8)?;
        let length = walk.read()?;
        let Some(rest) = u32::from_le_bytes(length).checked_sub(DHAV_FRAME) else { return Ok(FileEnd::Unknown) };
        walk.skip(u64::from(rest))?;
        let trailer: [u8; 8] = walk.read()?;
        closed = trailer.starts_with(b"dhav") && trailer.ends_with(&length);
    }
    Ok(if closed { FileEnd::Whole } else { FileEnd::Unknown })
}

/// Returns the packed date of a .dav's first packet; `None` if there is no packet at `start`.
pub(in crate::capture) fn dhav_date(walk: &mut Walk, start: u64) -> io::Result<Option<u32>> {
    walk.skip(start)?;
    if !walk.starts(b"DHAV")? {
        return Ok(None);
    }
    walk.skip(12)?;
    Ok(Some(u32::from_le_bytes(walk.read()?)))
}

/// Returns whether a stream of Xiongmai's is whole.
pub(super) fn xiongmai(walk: &mut Walk) -> io::Result<FileEnd> {
    while walk.left() >= 4 {
        let Some(length) = header(walk)? else { return Ok(FileEnd::Unknown) };
        walk.skip(u64::from(length))?;
    }
    Ok(if walk.left() == 0 { FileEnd::Whole } else { FileEnd::Unknown })
}

/// Returns the packed date of a clip's first picture.
pub(in crate::capture) fn xiongmai_date(walk: &mut Walk) -> io::Result<u32> {
    walk.skip(8)?;
    Ok(u32::from_le_bytes(walk.read()?))
}

/// Reads the header of a packet: returns the bytes that follow it; `None` if no packet starts here.
fn header(walk: &mut Walk) -> io::Result<Option<u32>> {
    let [0, 0, 1, kind] = walk.read()? else { return Ok(None) };
    if !XIONGMAI_KINDS.contains(&kind) {
        return Ok(None);
    }
    let fields: [u8; 4] = walk.read()?;
    Ok(Some(match kind {
        0xFC | 0xFE => {
            walk.skip(4)?;
            u32::from_le_bytes(walk.read()?)
        }
        0xFD => u32::from_le_bytes(fields),
        _ => u32::from(u16::from_le_bytes([fields[2], fields[3]])),
    }))
}

/// Returns whether a packed date exists. It helps to recognise the format, for which a start code alone is too little.
pub(super) fn is_date(packed: [u8; 4]) -> bool {
    let [_, month, day, hour, minute, second] = unpack(u32::from_le_bytes(packed));
    (1..=12).contains(&month) && day > 0 && hour < 24 && minute < 60 && second <= 60
}

/// Returns the parts of a packed date: years since 2000, month, day, hour, minute, second.
pub(in crate::capture) fn unpack(packed: u32) -> [u32; 6] {
    [(26, 6), (22, 4), (17, 5), (12, 5), (6, 6), (0, 6)].map(|(from, bits)| packed >> from & ((1 << bits) - 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{assert_cut_before_end, end};
    use super::*;

    fn dhav_packet(kind: u8, data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len() + 32).unwrap().to_le_bytes();
        [b"DHAV", &[kind, 0, 0, 0][..], b"numb", &length, b"datemsec", data, b"dhav", &length].concat()
    }

    fn xiongmai_packet(kind: u8, length: u32) -> Vec<u8> {
        let [low, high, ..] = length.to_le_bytes();
        let header = match kind {
            0xFC | 0xFE => [b"\x02\x19\x78\x44\x46\x41\x86\x60", &length.to_le_bytes()[..]].concat(),
            0xFD => length.to_le_bytes().to_vec(),
            _ => vec![14, 2, low, high],
        };
        [&[0, 0, 1, kind], &header[..], &vec![7; length as usize]].concat()
    }

    #[test]
    fn a_dav_is_cut_inside_a_packet_and_looks_whole_between_two() {
        let packets = [dhav_packet(0xFD, &[7; 90]), dhav_packet(0xF0, b""), dhav_packet(0xFC, b"DHAV")];
        let clip = packets.concat();
        assert_eq!(end(&clip), FileEnd::Whole);
        let boundaries = [packets[0].len(), packets[0].len() + packets[1].len()];
        assert_cut_before_end(&clip, 5, &boundaries);
        assert!(boundaries.iter().all(|at| end(&clip[..*at]) == FileEnd::Whole));
        for tail in [&b"\0"[..], b"maker's own", b"DAV"] {
            assert_eq!(end(&[&clip, tail].concat()), FileEnd::Unknown, "{tail:?}");
        }
    }

    #[test]
    fn a_dav_may_have_a_header_of_its_own() {
        let header = [b"DAHUA", &[0; 0x3FB][..]].concat();
        let clip = [&header[..], &dhav_packet(0xFD, &[7; 90])].concat();
        assert_eq!(end(&clip), FileEnd::Whole);
        // The word alone might be anybody's text.
        assert!((0..=header.len()).all(|length| end(&clip[..length]) == FileEnd::Unknown));
        assert_cut_before_end(&clip, header.len() + 1, &[]);
    }

    #[test]
    fn a_dav_of_foreign_syntax_does_not_tell() {
        assert_eq!(end(b"DHAV1234"), FileEnd::Unknown);
        for length in [0u32, 1, 23] {
            let packet = [b"DHAV\xFD\0\0\0numb", &length.to_le_bytes()[..], &[7; 50]].concat();
            assert_eq!(end(&packet), FileEnd::Unknown);
        }
        let open = [b"DHAV\xFD\0\0\0numb", &50u32.to_le_bytes()[..], &[7; 34]].concat();
        assert_eq!(end(&open), FileEnd::Unknown);
        let far = [b"DHAV\xFD\0\0\0numb", &u32::MAX.to_le_bytes()[..], &[7; 50]].concat();
        assert_eq!(end(&far), FileEnd::Cut);
    }

    #[test]
    fn xiongmais_stream_is_cut_inside_a_packet_and_looks_whole_between_two() {
        let packets = [(0xFC, 60), (0xFA, 20), (0xFD, 33), (0xF9, 0), (0xFE, 9)];
        let packets = packets.map(|(kind, length)| xiongmai_packet(kind, length));
        let clip = packets.concat();
        assert_eq!(end(&clip), FileEnd::Whole);
        // Less than a start code might be padding.
        let boundaries = (1..5).map(|count| packets[..count].concat().len()).flat_map(|at| at..at + 4);
        assert_cut_before_end(&clip, 12, &boundaries.collect::<Vec<_>>());
        for tail in [&[0; 2][..], &[0; 9], b"maker's own", b"\0\0\x01\x67an H.264 unit"] {
            assert_eq!(end(&[&clip, tail].concat()), FileEnd::Unknown, "{tail:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_lengths_have_an_answer(packets: Vec<(usize, u32, bool)>, dahua: bool) {
            let mut bytes = if dahua { dhav_packet(0xFD, b"") } else { xiongmai_packet(0xFC, 3) };
            for (kind, length, small) in packets {
                let kind = XIONGMAI_KINDS[kind % 5];
                let mut packet = if dahua { dhav_packet(0xFC, b"") } else { xiongmai_packet(kind, 0) };
                let length = if small { length % 40 } else { length };
                let at = packet.len() - 4 - if dahua { 16 } else { 0 };
                packet[at..at + 4].copy_from_slice(&length.to_le_bytes());
                bytes.extend(packet);
            }
            end(&bytes);
        }
    }
}
