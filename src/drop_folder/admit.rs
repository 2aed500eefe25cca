//! Which regular files may be captures.
//!
//! Whoever may write into the folder is not trusted. A hard link makes somebody else's file look like one of the folder,
//! and a sparse file costs its maker nothing but us hours of reading.

use rustix::fs::Stat;

/// The size of the largest possible object: 10,000 parts of 5 GiB (S3 User Guide, "Amazon S3 multipart upload limits").
const LARGEST_OBJECT_BYTES: u64 = 10_000 * (5 << 30);

/// Files below this size are not compared with the size of their file system.
const LARGE_BYTES: u64 = 1 << 30;

/// The longest path of a folder that is read, in bytes. The paths of waiting files are held in memory, and a file that is
/// set aside must fit under the state folder as well (limits.h, `PATH_MAX`).
const LONGEST_PATH_BYTES: usize = 1024;

/// The deepest folder that is read: each level holds a descriptor open.
const DEEPEST: usize = 128;

/// Returns why a file is no capture; `None` if it may be one.
///
/// `owner` returns the owner of its folder, and `capacity` the size of its file system in bytes. A file with several
/// names is accepted if it has the owner of its folder: an FTP server that creates the final name by a link (pure-ftpd's
/// STOU) writes as the user who owns the folder.
pub(super) fn refuse(
    stat: &Stat,
    owner: impl FnOnce() -> Option<u32>,
    capacity: impl FnOnce() -> Option<u64>,
) -> Option<String> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if stat.st_nlink > 1 && owner() != Some(stat.st_uid) {
        let owner = stat.st_uid;
        return Some(format!(
            "has other names, and its owner {owner} is not its folder's: it may be somebody else's file"
        ));
    }
    if size > LARGEST_OBJECT_BYTES {
        return Some(format!("{size} bytes are more than any object can have"));
    }
    if size >= LARGE_BYTES && capacity().is_some_and(|capacity| size > capacity) {
        return Some(format!("claims {size} bytes, more than its file system holds: it consists of holes"));
    }
    None
}

/// Returns why a folder is not read; `None` if it is.
pub(super) fn refuse_folder(path: &std::path::Path) -> Option<String> {
    if path.components().count() > DEEPEST {
        return Some(format!("folder is nested more than {DEEPEST} deep"));
    }
    let long = path.as_os_str().len() > LONGEST_PATH_BYTES;
    long.then(|| format!("folder's path has more than {LONGEST_PATH_BYTES} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_of_the_folders_owner_may_have_other_names_and_none_may_be_larger_than_what_holds_it() {
        const GIB: i64 = 1 << 30;
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut stat = rustix::fs::stat(file.path()).unwrap();
        for (names, user, size, refused) in [
            (1, 7, 9, None),
            (2, 7, 9, None),
            // Also a file of root.
            (2, 0, 9, Some("somebody else's")),
            (1, 0, 9, None),
            (1, 7, 10 * GIB, None),
            (1, 7, 10 * GIB + 1, Some("holes")),
            (1, 7, 10_000 * 5 * GIB + 1, Some("any object")),
        ] {
            (stat.st_nlink, stat.st_uid, stat.st_size) = (names, user, size);
            let reason = refuse(&stat, || Some(7), || Some(10 << 30));
            assert_eq!(reason.is_some(), refused.is_some(), "{names} {user} {size}: {reason:?}");
            assert!(reason.unwrap_or_default().contains(refused.unwrap_or_default()));
        }
        (stat.st_nlink, stat.st_uid) = (2, 7);
        assert!(refuse(&stat, || None, || None).is_some(), "a folder whose owner is not known");
    }
}
