//! The kind of a file, by its name.

use serde::Serialize;

use super::naming::PathReading;

/// The kinds of files that cameras send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Media {
    /// A picture.
    Picture,
    /// A clip.
    Video,
    /// The index of a clip, in a file beside it.
    Index,
    /// A file that is still being written, by the name that a camera or an FTP server gives it until then.
    Partial,
    /// The lock file of a recorder.
    Lock,
    /// The file that a camera sends when its owner presses "test".
    Test,
    /// Any other file; it is stored too.
    Other,
}

/// Returns the kind of file by the parts of its path and what they were read as.
pub(super) fn of(path: &[&[u8]], reading: &PathReading) -> Media {
    let name = path.last().copied().unwrap_or_default();
    if name == b"DVRWorkDirectory" {
        return Media::Lock;
    }
    // The names that pure-ftpd and proftpd give a file that is still arriving.
    if name.ends_with(b"_") || name.starts_with(b".pureftpd-upload") || name.starts_with(b".in.") {
        return Media::Partial;
    }
    // FTP servers add `.1` and so on where a name is taken (STOU).
    let stem = name.rsplitn(2, |byte| *byte == b'.').nth(1);
    let numbered = |last: &[u8]| matches!(last.len(), 1 | 2) && last.iter().all(u8::is_ascii_digit);
    let last = extension(name);
    let extension = if numbered(last) { stem.map_or(&b""[..], extension) } else { last };
    match lowercase(extension, &mut [0; LONGEST]) {
        b"idx" => Media::Index,
        b"tmp" | b"part" | b"filepart" => Media::Partial,
        b"txt" if reading.vendor == Some("reolink") => Media::Test,
        b"jpg" | b"jpeg" | b"png" => Media::Picture,
        b"mp4" | b"mkv" | b"avi" | b"mov" | b"dav" | b"h264" | b"h265" | b"264" | b"265" => Media::Video,
        other => {
            let known = std::str::from_utf8(other).ok().and_then(|known| mime_guess::from_ext(known).first_raw());
            let pictures = |part: &&[u8]| *part == b"jpg" || part.starts_with(b"pic_");
            match known.and_then(|known| known.split('/').next()) {
                Some("image") => Media::Picture,
                Some("video") => Media::Video,
                // Some Dahua cameras leave the extension out.
                _ if reading.vendor == Some("dahua") && path.iter().any(pictures) => Media::Picture,
                _ => Media::Other,
            }
        }
    }
}

/// The length of the longest extension that tells a kind.
const LONGEST: usize = 16;

/// Returns an extension in lower case, in `room`; one that does not fit tells nothing, and becomes empty.
fn lowercase<'a>(extension: &[u8], room: &'a mut [u8; LONGEST]) -> &'a [u8] {
    let Some(room) = room.get_mut(..extension.len()) else { return b"" };
    room.copy_from_slice(extension);
    room.make_ascii_lowercase();
    room
}

/// Returns the text after the last dot, unless that dot is the first character.
fn extension(name: &[u8]) -> &[u8] {
    name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0).map_or(b"", |dot| &name[dot + 1..])
}
