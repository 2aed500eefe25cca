//! The drop folder: whether it can be read, watched and emptied.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::{Access, AtFlags, CWD, inotify};

use super::{Check, show};
use crate::drop_folder::{Sight, Writer};
use crate::site::Site;

/// Mode bit of a folder in which only the owner of a file may rename it (inode(7), `S_ISVTX`).
const STICKY: u32 = 0o1000;

/// Some paths: how many, and the first.
type Paths = (u64, Option<PathBuf>);

/// What a look at the whole folder found.
#[derive(Debug, Default)]
struct Survey {
    folders: u64,
    files: u64,
    a_file: Option<PathBuf>,
    /// Files and folders that cannot be read.
    unreadable: Paths,
    /// Folders that nothing can be taken out of.
    fixed: Paths,
}

pub(super) fn examine(site: &Site) -> Vec<Check> {
    let folder = &site.folder;
    let mut survey = Survey::default();
    // At the beginning of time no folder is old enough to be pruned: nothing is touched.
    let looked = folder.scan(Path::new(""), UNIX_EPOCH, &mut |sight| {
        survey.see(folder.path(), sight);
        ControlFlow::Continue(())
    });
    if let Err(error) = looked {
        let says = format!("failed to read {}: {error}", show(folder.path()));
        let mend = "create it, let the daemon's user read it, or correct drop_folder.path";
        return vec![Check::fail("drop folder", says, mend)];
    }
    let mut checks = vec![survey.rights(folder.path()), watching(site, survey.folders)];
    checks.extend(survey.a_file.and_then(|file| writers(site, &file)));
    checks
}

impl Survey {
    fn see(&mut self, root: &Path, sight: Sight) {
        let note = |paths: &mut Paths, path: PathBuf| {
            paths.0 += 1;
            paths.1.get_or_insert(path);
        };
        match sight {
            Sight::Folder(path) => {
                self.folders += 1;
                let at = root.join(&path);
                if !may(&at, Access::READ_OK | Access::EXEC_OK) {
                    note(&mut self.unreadable, path);
                } else if !may(&at, Access::WRITE_OK) || is_sticky(&at) {
                    note(&mut self.fixed, path);
                }
            }
            Sight::File(found) => {
                self.files += 1;
                if may(&root.join(&found.path), Access::READ_OK) {
                    self.a_file.get_or_insert(found.path);
                } else {
                    note(&mut self.unreadable, found.path);
                }
            }
            Sight::Ignored(..) | Sight::LeftAlone(..) => {}
        }
    }

    fn rights(&self, root: &Path) -> Check {
        let mend = "give the daemon's user the group of the FTP server's, or CAP_DAC_OVERRIDE as its unit does";
        let of = |(count, first): &Paths| {
            let first = show(&root.join(first.as_deref().unwrap_or(Path::new(""))));
            if *count > 1 { format!("{first} and {} more", count - 1) } else { first }
        };
        if self.unreadable.0 > 0 {
            Check::fail("drop folder", format!("may not read {}", of(&self.unreadable)), mend)
        } else if self.fixed.0 > 0 {
            let says = format!("captures cannot be taken away from {}, and fill the disk", of(&self.fixed));
            Check::fail("drop folder", says, mend)
        } else {
            Check::ok("drop folder", format!("{}: {} files wait in {} folders", show(root), self.files, self.folders))
        }
    }
}

fn may(path: &Path, access: Access) -> bool {
    rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

fn is_sticky(folder: &Path) -> bool {
    let us = rustix::process::geteuid();
    let not_ours = |folder: fs::Metadata| folder.mode() & STICKY != 0 && folder.uid() != us.as_raw();
    !us.is_root() && fs::metadata(folder).is_ok_and(not_ours)
}

/// Whether the folder can be watched, and how far the limits of the kernel reach.
fn watching(site: &Site, folders: u64) -> Check {
    let instead = "captures are found by reading the folder again and again, not at once";
    if !site.folder.has_inotify().unwrap_or(true) {
        let says = format!("the drop folder lies on a network file system: {instead}");
        return Check::warn("inotify", says, "let the FTP server write to a disk of this box");
    }
    let limit =
        |name| -> Option<u64> { fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?.trim().parse().ok() };
    let watches = limit("max_user_watches").unwrap_or(0);
    let instances = limit("max_user_instances").unwrap_or(0);
    if let Err(error) = watch(site.folder.path()) {
        let says = format!("the drop folder cannot be watched ({error}): {instead}");
        let mend = format!(
            "raise fs.inotify.max_user_instances ({instances}) or fs.inotify.max_user_watches ({watches}) by sysctl"
        );
        return Check::warn("inotify", says, mend);
    }
    judge_watches(folders, watches, instances)
}

fn judge_watches(folders: u64, watches: u64, instances: u64) -> Check {
    let says = format!("{folders} folders to watch of {watches} that a user may, {instances} instances");
    if folders.saturating_mul(2) > watches {
        let mend = format!("sysctl fs.inotify.max_user_watches={}", folders.saturating_mul(4));
        return Check::warn("inotify", says, mend);
    }
    Check::ok("inotify", says)
}

fn watch(folder: &Path) -> io::Result<()> {
    let instance = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&instance, folder, inotify::WatchFlags::CREATE)?;
    Ok(())
}

/// Whether the kernel tells us if somebody still writes a file.
fn writers(site: &Site, file: &Path) -> Option<Check> {
    Some(match site.folder.open(file).ok()?.writer() {
        Writer::Unknown => Check::warn(
            "writers",
            "the kernel does not tell who has a file of another user open: what still grows is told by its size alone",
            "give the daemon CAP_LEASE, as its unit does",
        ),
        Writer::Nobody | Writer::Somebody => Check::ok("writers", "the kernel tells whether a file is still written"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    #[test]
    fn watches_that_get_scarce_are_named_with_what_to_set() {
        assert_eq!(judge_watches(10, 8192, 128).outcome, Outcome::Ok);
        let scarce = judge_watches(5000, 8192, 128);
        assert_eq!(scarce.outcome, Outcome::Warn);
        assert!(scarce.mend.contains("max_user_watches=20000"), "{scarce:?}");
    }
}
