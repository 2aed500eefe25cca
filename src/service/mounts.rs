//! What a sandbox does with a folder, seen from inside it: in the table of mounts.

use std::path::Path;

use super::{HOMES, MEND, TEMPORARY, used_folders};
use crate::config::Config;
use crate::place::{self, Mount};

/// What a sandbox does with a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shut {
    /// Something empty is in its place.
    Hidden,
    /// It can only be read, although its disk can be written.
    ReadOnly,
}

/// Returns what to do if a sandbox shuts this process out of a folder of the configuration; `None` if it does not.
///
/// Without this, an error such as "Read-only file system" or "No such file or directory" says something untrue about the
/// disk or the folder.
pub fn shut_out(config: &Config) -> Option<String> {
    // systemd.exec(5): set for everything that a unit runs. Elsewhere a mount that can only be read is the owner's wish.
    std::env::var_os("INVOCATION_ID")?;
    let mounts = place::mounts().ok()?;
    used_folders(config).into_iter().find_map(|folder| {
        let (path, key) = (folder.path.display(), folder.key);
        let what = match shut(&folder.path, &mounts)? {
            Shut::Hidden => "hides",
            Shut::ReadOnly => "only lets it read",
        };
        Some(format!("the sandbox of the service {what} {path} ({key}): {MEND}"))
    })
}

fn shut(path: &Path, mounts: &[Mount]) -> Option<Shut> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let above = mounts.iter().enumerate().filter(|(_, mount)| real.starts_with(&mount.point));
    let (_, mount) = above.max_by_key(|(number, mount)| (mount.point.components().count(), *number))?;
    let (root, point) = (mount.place.path(), mount.point.as_path());
    let is_at = |folders: &[&str]| folders.iter().any(|folder| point == Path::new(folder));
    // What systemd puts in the place of a hidden folder, a home, and /tmp (systemd.exec(5)).
    let is_hidden = root.ends_with("systemd/inaccessible/dir")
        || (is_at(&HOMES) && mount.file_system == "tmpfs")
        || (is_at(&TEMPORARY) && root.to_string_lossy().contains("systemd-private-"));
    if is_hidden {
        Some(Shut::Hidden)
    } else {
        (mount.is_read_only && !mount.is_disk_read_only).then_some(Shut::ReadOnly)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_told_from_a_disk_that_can_only_be_read() {
        // As a service of systemd 252 sees them with ProtectSystem=strict, ProtectHome=yes and PrivateTmp=yes.
        let table = "\
            600 500 8:1 / / ro,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n\
            601 600 8:1 /var/lib/cctv/storage /var/lib/cctv/storage rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            602 600 0:25 /systemd/inaccessible/dir /home ro,nosuid,nodev,noexec - tmpfs tmpfs rw,mode=755\n\
            603 600 0:26 / /root ro,nosuid - tmpfs tmpfs ro\n\
            604 600 8:1 /tmp/systemd-private-1f-hk-aws.service-x/tmp /tmp rw,relatime - ext4 /dev/sda1 rw\n\
            605 600 8:17 / /mnt/old ro,relatime - ext4 /dev/sdb1 ro\n\
            606 602 8:1 /home/ftp/cams /home/ftp/cams rw,relatime - ext4 /dev/sda1 rw\n";
        let mounts = place::read_mounts(table.as_bytes());
        for (path, expected) in [
            ("/var/lib/cctv/storage/front", None),
            ("/srv/no/such/folder", Some(Shut::ReadOnly)),
            ("/home/no/such/user", Some(Shut::Hidden)),
            ("/home/ftp/cams", None),
            ("/root/no/such/folder", Some(Shut::Hidden)),
            ("/tmp/no/such/folder", Some(Shut::Hidden)),
            ("/mnt/old/no/such/folder", None),
        ] {
            assert_eq!(shut(Path::new(path), &mounts), expected, "{path}");
        }
    }
}
