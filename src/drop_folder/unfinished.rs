//! The names that files have until they are complete.
//!
//! Cameras and FTP servers write under such a name and rename the file when it is whole. A file that keeps its temporary
//! name is the last that a camera sent before somebody cut its cable or smashed it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The endings of names that are temporary whatever stands before them, in lower case: FTP clients and browsers.
const ALWAYS: [&str; 3] = [".part", ".filepart", ".crdownload"];

/// The endings of names that are temporary behind the name of a picture or a clip: Dahua and Amcrest write `.mp4_`.
const BEHIND_CAPTURE: [&str; 2] = [".tmp", "_"];

/// The start of the names that proftpd gives to files that are still arriving; a point ends them (its directive
/// `HiddenStores`).
const PROFTPD: &str = ".in.";

/// The extensions of pictures and clips, in lower case.
const CAPTURES: [&str; 16] = [
    "jpg", "jpeg", "png", "webp", "mp4", "mkv", "avi", "mov", "webm", "ts", "dav", "h264", "h265", "264", "265",
    "mjpeg",
];

/// Returns the path that a file with a temporary name was to have in the end; `None` if its name is not temporary.
pub(super) fn final_path(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.as_bytes();
    let without = |ending: &str| strip_ending(name, ending);
    let is_capture = |name: &&[u8]| has_extension(name, &CAPTURES);
    let hidden = name.strip_prefix(PROFTPD.as_bytes()).and_then(|name| name.strip_suffix(b"."));
    let name = (ALWAYS.iter().find_map(|ending| without(ending)))
        .or_else(|| BEHIND_CAPTURE.iter().find_map(|ending| without(ending)).filter(is_capture))
        .or(hidden.filter(is_capture))?;
    // Anybody can write such a name; it must not lead to another folder.
    (![&b""[..], b".", b".."].contains(&name)).then(|| path.with_file_name(OsStr::from_bytes(name)))
}

fn strip_ending<'a>(name: &'a [u8], ending: &str) -> Option<&'a [u8]> {
    let (rest, end) = name.split_at_checked(name.len().checked_sub(ending.len())?)?;
    end.eq_ignore_ascii_case(ending.as_bytes()).then_some(rest)
}

fn has_extension(name: &[u8], extensions: &[&str]) -> bool {
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0);
    dot.is_some_and(|dot| extensions.iter().any(|known| name[dot + 1..].eq_ignore_ascii_case(known.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_tells_the_final_one() {
        for (name, expected) in [
            ("cam/12.00.00-12.00.00[M][0@0][0].mp4_", Some("cam/12.00.00-12.00.00[M][0@0][0].mp4")),
            ("cam/a.jpg.tmp", Some("cam/a.jpg")),
            ("cam/A.JPG.TMP", Some("cam/A.JPG")),
            ("cam/a.mp4.part", Some("cam/a.mp4")),
            ("cam/a.part", Some("cam/a")),
            ("cam/a.mp4.filepart", Some("cam/a.mp4")),
            ("cam/a.mp4.CrDownload", Some("cam/a.mp4")),
            ("cam/.in.a.jpg.", Some("cam/a.jpg")),
            ("cam/a.tmp", None),
            ("cam/lock_", None),
            ("cam/.jpg_", None),
            ("cam/.part", None),
            ("cam/..part", None),
            ("cam/...part", None),
            ("cam/.in.a.", None),
            ("cam/a.jpg", None),
            ("", None),
        ] {
            assert_eq!(final_path(Path::new(name)), expected.map(PathBuf::from), "{name}");
        }
    }
}
