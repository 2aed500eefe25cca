//! Captures of an exact size that are whole JPEGs: a cut-off one would be treated differently.

use std::io;

use jpeg_encoder::{ColorType, Encoder};

/// The size of a camera's snapshot, in bytes; a 2-megapixel Hikvision picture is about that large.
pub(crate) const CAPTURE_BYTES: usize = 200_000;
/// The most a JPEG segment holds, marker not counted (ITU-T T.81, B.1.1.4).
const SEGMENT_BYTES: usize = 65_535;

/// Returns a JPEG of [`CAPTURE_BYTES`] with `number` in it, so that no two are alike.
pub(crate) fn capture(number: usize) -> io::Result<Vec<u8>> {
    capture_of(number, CAPTURE_BYTES)
}

/// Returns such a JPEG of another size, which is at least 1,000 bytes.
pub(crate) fn capture_of(number: usize, bytes: usize) -> io::Result<Vec<u8>> {
    let mut jpeg = Vec::with_capacity(bytes);
    let picture = [40, 44, 52].repeat(16 * 16);
    Encoder::new(&mut jpeg, 75).encode(&picture, 16, 16, ColorType::Rgb).map_err(io::Error::other)?;
    let (start, rest) = jpeg.split_at(2);
    let mut padding = bytes - jpeg.len();
    let mut capture = start.to_vec();
    while padding > 0 {
        // A comment needs 4 bytes; none may be left over that could not hold one.
        let mut segment = padding.min(SEGMENT_BYTES + 2);
        if (1..4).contains(&(padding - segment)) {
            segment -= 4;
        }
        padding -= segment;
        capture.extend([0xFF, 0xFE]);
        capture.extend(u16::try_from(segment - 2).map_err(io::Error::other)?.to_be_bytes());
        let text = format!("{number:08} ").into_bytes();
        capture.extend(text.iter().cycle().take(segment - 4));
    }
    capture.extend(rest);
    Ok(capture)
}
