//! Checks of the drop folder: whether it can be read, watched and emptied.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::{Access, AtFlags, CWD, inotify};

use super::{Check, show};
use crate::drop_folder::{RenameWay, Sight, Writer};
use crate::set_aside;
use crate::site::Site;

/// The mode bit of a folder in which only a file's owner may rename it (inode(7), `S_ISVTX`).
const STICKY: u32 = 0o1000;

/// A number of paths, and the first of them.
#[derive(Debug, Default)]
struct SomePaths {
    count: u64,
    first: Option<PathBuf>,
}

/// What a scan of the whole folder found.
#[derive(Debug, Default)]
struct FolderSurvey {
    folders: u64,
    files: u64,
    /// A file that can be read.
    sample: Option<PathBuf>,
    /// Files and folders that cannot be read.
    unreadable: SomePaths,
    /// Folders from which nothing can be removed.
    fixed: SomePaths,
}

pub(super) fn examine(site: &Site, shut_out: Option<&str>) -> Vec<Check> {
    let folder = &site.folder;
    let mut survey = FolderSurvey::default();
    // A scan prunes empty folders that are old enough; at the beginning of time, none is.
    let looked = folder.scan(Path::new(""), UNIX_EPOCH, &mut |sight| {
        survey.see(folder.path(), sight);
        ControlFlow::Continue(())
    });
    if let Err(error) = looked {
        let check = Check::fail("drop folder", format!("failed to read {}: {error}", show(folder.path())));
        let mend = match (shut_out, error.kind()) {
            (Some(mend), _) => mend,
            (None, io::ErrorKind::NotFound) => "create it, or correct drop_folder.path",
            (None, _) => "let the daemon's user read it, or correct drop_folder.path",
        };
        return vec![check.mend(mend)];
    }
    let mut checks = vec![survey.rights(folder.path(), shut_out), watching(site, survey.folders)];
    if survey.unreadable.count == 0 && survey.fixed.count == 0 {
        checks.push(renames(site, shut_out));
    }
    checks.extend(survey.sample.and_then(|file| writers(site, &file)));
    checks
}

impl SomePaths {
    fn add(&mut self, path: PathBuf) {
        self.count += 1;
        self.first.get_or_insert(path);
    }

    fn describe(&self, root: &Path) -> String {
        let first = show(&root.join(self.first.as_deref().unwrap_or(Path::new(""))));
        if self.count > 1 { format!("{first} and {} more", self.count - 1) } else { first }
    }
}

impl FolderSurvey {
    fn see(&mut self, root: &Path, sight: Sight) {
        match sight {
            Sight::Folder(path, _) => {
                self.folders += 1;
                let at = root.join(&path);
                if !may(&at, Access::READ_OK | Access::EXEC_OK) {
                    self.unreadable.add(path);
                } else if !may(&at, Access::WRITE_OK) || is_sticky(&at) {
                    self.fixed.add(path);
                }
            }
            Sight::File(found) => {
                self.files += 1;
                if may(&root.join(&found.path), Access::READ_OK) {
                    self.sample.get_or_insert(found.path);
                } else {
                    self.unreadable.add(found.path);
                }
            }
            Sight::Ignored(..) | Sight::LeftAlone(..) => {}
        }
    }

    fn rights(&self, root: &Path, shut_out: Option<&str>) -> Check {
        let rights = "let the service read and remove them: `sudo usermod -aG GROUP hk-aws` with the group of the FTP \
                      server, or `sudo systemctl edit hk-aws` with the lines of \
                      /usr/share/doc/hk-aws/examples/other-owners.conf (CAP_DAC_OVERRIDE); then restart hk-aws";
        let mend = shut_out.unwrap_or(rights);
        if self.unreadable.count > 0 {
            Check::fail("drop folder", format!("may not read {}", self.unreadable.describe(root))).mend(mend)
        } else if self.fixed.count > 0 {
            let says = format!("captures cannot be removed from {}, and fill the disk", self.fixed.describe(root));
            Check::fail("drop folder", says).mend(mend)
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

/// Checks whether the folder can be watched, and how close that comes to the kernel's limits.
fn watching(site: &Site, folders: u64) -> Check {
    let instead = "it is read again and again instead, so pictures are sent with a delay";
    if !site.folder.has_inotify().unwrap_or(true) {
        let says = format!(
            "the drop folder is on another machine's disk, which does not tell when a picture comes: {instead}"
        );
        return Check::warn("inotify", says).mend("let the FTP server write to a disk of this box");
    }
    let limit =
        |name| -> Option<u64> { fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?.trim().parse().ok() };
    let watches = limit("max_user_watches").unwrap_or(0);
    let instances = limit("max_user_instances").unwrap_or(0);
    if let Err(error) = watch(site.folder.path()) {
        let says = format!("the drop folder cannot be watched ({error}): {instead}");
        let mend = raise(&[("max_user_instances", instances.max(1) * 4), ("max_user_watches", watches.max(1) * 4)]);
        return Check::warn("inotify", says).mend(mend);
    }
    judge_watches(folders, watches)
}

fn judge_watches(folders: u64, watches: u64) -> Check {
    // Half of the limit is left for cameras and dates to come, and for other programs.
    if folders.saturating_mul(2) > watches {
        let says = format!(
            "the cameras have {folders} folders, and this box lets a user watch {watches}: when that is used up, pictures in \
             further folders are sent with a delay"
        );
        return Check::warn("inotify", says).mend(raise(&[("max_user_watches", folders.saturating_mul(4))]));
    }
    Check::ok("inotify", format!("pictures are noticed as they come, in {folders} folders (there may be {watches})"))
}

/// Returns what sets limits of inotify so that they stay after a restart of the box (sysctl.d(5)).
fn raise(limits: &[(&str, u64)]) -> String {
    let lines: Vec<String> = limits.iter().map(|(name, limit)| format!("fs.inotify.{name}={limit}")).collect();
    format!("printf '{}\\n' | sudo tee /etc/sysctl.d/90-hk-aws.conf, then sudo sysctl --system", lines.join("\\n"))
}

fn watch(folder: &Path) -> io::Result<()> {
    let instance = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&instance, folder, inotify::WatchFlags::CREATE)?;
    Ok(())
}

/// Checks how a file is taken out of the folder: under another name first, which replaces no other file.
fn renames(site: &Site, shut_out: Option<&str>) -> Check {
    let at = show(site.folder.path());
    let mend = "let the FTP server write to a disk of this box with a Linux file system, such as ext4";
    match site.folder.try_rename() {
        Ok(RenameWay::InOneStep) => Check::ok("renames", "a stored picture leaves the folder in one step"),
        Ok(RenameWay::ByLink) => Check::ok(
            "renames",
            "a stored picture leaves the folder in two steps, because its file system knows no single one",
        ),
        Ok(RenameWay::ByLook) => {
            let says = format!(
                "the file system of {at} is a simple one: a picture that comes in the moment in which another of its name leaves \
                 could be lost"
            );
            Check::warn("renames", says).mend(mend)
        }
        Err(error) => {
            let says = format!("a file cannot be made and renamed in {at} ({error}): stored pictures cannot leave it");
            Check::fail("renames", says).mend(shut_out.unwrap_or(mend))
        }
    }
}

/// Checks whether files are set aside.
pub(super) fn set_aside(site: &Site) -> Option<Check> {
    let found = set_aside::look(&site.config.state_dir, 1).ok()?;
    let (first, why) = found.named.first()?;
    let why = why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    let more = if found.files > 1 { format!(" and {} more", found.files - 1) } else { String::new() };
    let says = format!("{} files are set aside and not in the bucket: {first}{why}{more}", found.files);
    Some(Check::warn("set aside", says).mend("mend the cause, then send them with `hk-aws upload --set-aside`"))
}

/// Checks whether the kernel tells if somebody still writes a file; `None` if the file cannot be opened any more.
fn writers(site: &Site, file: &Path) -> Option<Check> {
    Some(match site.folder.open(file).ok()?.writer() {
        Writer::Unknown => Check::warn(
            "writers",
            "hk-aws is not told whether a camera still writes a file: each one is sent at once, but leaves the drop folder only \
             when it has not changed for drop_folder.partial_after",
        )
        .mend(
            "let the FTP server write as the user hk-aws, to a disk of this box; or see \"Files of other users\" in \
             /usr/share/doc/hk-aws/ftp.md",
        ),
        Writer::Nobody | Writer::Somebody => {
            Check::ok("writers", "hk-aws is told whether a camera still writes a file")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckOutcome;

    #[test]
    fn watches_that_get_scarce_are_named_with_what_to_set() {
        assert_eq!(judge_watches(10, 8192).outcome, CheckOutcome::Ok);
        let scarce = judge_watches(5000, 8192);
        assert_eq!(scarce.outcome, CheckOutcome::Warn);
        let mend = "printf 'fs.inotify.max_user_watches=20000\\n' | sudo tee /etc/sysctl.d/90-hk-aws.conf, then sudo sysctl --system";
        assert_eq!(scarce.mend, mend);
    }
}
