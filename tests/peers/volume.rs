//! File systems of a test's own: small, read-only when told, and with a plug that can be pulled.
//!
//! Each is mounted in a mount namespace that holds nothing else of ours, and is reached through the process that keeps
//! that namespace. Mounted in the open, it would be copied into every namespace that another test makes meanwhile, and
//! live on there after it was unmounted here. It ends with the test, however that ends.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::daemon::{SOON, wait_for};
use crate::server::installed;

/// `EXT4_IOC_SHUTDOWN`, which XFS and others share (include/uapi/linux/ext4.h: `_IOR('X', 125, __u32)`).
const SHUTDOWN: libc::Ioctl = 0x8004_587D;

/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: what is not on the disk yet never gets there.
static WITHOUT_FLUSH: u32 = 2;

/// A mounted file system; unmounted when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Volume {
    keeper: Child,
    folder: TempDir,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Memory(String),
    Ext4,
    /// A program serves it from a folder: FUSE.
    Served(Option<Child>),
}

impl Volume {
    /// A file system in memory with these mount options, such as `size=8m`.
    pub(crate) fn memory(options: &str) -> Self {
        Self::mounted(Kind::Memory(options.to_owned()))
    }

    /// An ext4 of so many MiB on a loop device.
    pub(crate) fn ext4(mebibytes: u64) -> Self {
        Self::made_by("mkfs.ext4", &[], mebibytes)
    }

    /// A file system of so many MiB that counts time by the second.
    pub(crate) fn with_coarse_times(make: &str, mebibytes: u64) -> Self {
        Self::made_by(make, &["-I", "128"], mebibytes)
    }

    fn made_by(make: &str, options: &[&str], mebibytes: u64) -> Self {
        let folder = TempDir::with_prefix("hk-aws-volume-").unwrap();
        let image = folder.path().join("image");
        File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        run(Command::new(make).args(["-q", "-F"]).args(options).arg(&image));
        Self::mounted_in(folder, Kind::Ext4)
    }

    /// A folder that `bindfs` serves: a file system that knows no rename without replacing, and no leases.
    pub(crate) fn fuse() -> Self {
        installed("bindfs", "apt-get install bindfs");
        Self::mounted(Kind::Served(None))
    }

    fn mounted(kind: Kind) -> Self {
        Self::mounted_in(TempDir::with_prefix("hk-aws-volume-").unwrap(), kind)
    }

    fn mounted_in(folder: TempDir, kind: Kind) -> Self {
        assert!(rustix::process::geteuid().is_root(), "mounting needs root");
        fs::create_dir(folder.path().join("mounted")).unwrap();
        let mut keeper = Command::new("setpriv");
        keeper.args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--propagation", "private", "--"]);
        let keeper = keeper.args(["sleep", "infinity"]).stdin(Stdio::null()).spawn().unwrap();
        let mut volume = Self { keeper, folder, kind };
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        wait_for("a mount namespace", SOON, || {
            (namespace(&volume.keeper.id().to_string())? != namespace("self")?).then_some(())
        });
        // The namespace is there a moment before nothing spreads from it any more.
        wait_for("a keeper", SOON, || {
            let name = fs::read_to_string(format!("/proc/{}/comm", volume.keeper.id())).unwrap();
            (name.trim() == "sleep").then_some(())
        });
        if matches!(volume.kind, Kind::Served(_)) {
            volume.serve();
        } else {
            volume.mount();
        }
        volume
    }

    /// Where it is mounted, for everybody outside its namespace.
    pub(crate) fn path(&self) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.keeper.id())).join(self.inside().strip_prefix("/").unwrap())
    }

    fn inside(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// A command that runs inside its namespace.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([format!("--mount=/proc/{}/ns/mnt", self.keeper.id()), "--".to_owned(), program.to_owned()]);
        command
    }

    fn serve(&mut self) {
        let source = self.folder.path().join("served");
        fs::create_dir(&source).unwrap();
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.keeper.id());
        let mut server = Command::new("setpriv");
        server.args(["--pdeathsig", "KILL", "--", "nsenter", &namespace, "--", "bindfs", "-f"]);
        server.args([&source, &self.inside()]).stdin(Stdio::null());
        self.kind = Kind::Served(Some(server.spawn().unwrap()));
        // FUSE_SUPER_MAGIC (statfs(2)).
        wait_for("a served folder", SOON, || {
            rustix::fs::statfs(self.path()).is_ok_and(|served| served.f_type == 0x6573_5546).then_some(())
        });
    }

    pub(crate) fn mount(&self) {
        let mut command = self.command("mount");
        match &self.kind {
            Kind::Memory(options) => command.args(["-t", "tmpfs", "-o", options, "tmpfs"]),
            Kind::Served(_) => unreachable!("it is served as long as it is there"),
            Kind::Ext4 => command.args(["-o", "loop"]).arg(self.folder.path().join("image")),
        };
        run(command.arg(self.inside()));
    }

    /// Mounts it anew with `ro` or `rw`, as soon as nobody writes.
    pub(crate) fn remount(&self, how: &str) {
        wait_for("writers that are done", SOON, || {
            let options = format!("remount,{how}");
            self.command("mount")
                .args(["-o", &options])
                .arg(self.inside())
                .output()
                .unwrap()
                .status
                .success()
                .then_some(())
        });
    }

    /// Cuts the power: from now on everything on it fails, and nothing more reaches its disk.
    #[expect(unsafe_code, reason = "no crate wraps this ioctl; it reads the one number that it is given")]
    pub(crate) fn cut_power(&self) {
        let folder = File::open(self.path()).unwrap();
        let answer = unsafe { libc::ioctl(folder.as_raw_fd(), SHUTDOWN, &raw const WITHOUT_FLUSH) };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    }

    /// Unmounts it once nobody has it open any more.
    pub(crate) fn unmount(&self) {
        wait_for("the volume to be free", SOON, || {
            self.command("umount").arg(self.inside()).output().unwrap().status.success().then_some(())
        });
    }

    /// Takes all the room that is left, but for `spare` bytes.
    pub(crate) fn fill(&self, spare: u64) -> PathBuf {
        let ballast = self.path().join("ballast");
        let free = hk_aws::disk::Room::at(&self.path()).unwrap().free;
        let bytes = vec![7; usize::try_from(free.saturating_sub(spare)).unwrap()];
        match fs::write(&ballast, bytes) {
            // Somebody else took some of it meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {}
            written => written.unwrap(),
        }
        ballast
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // With the last process in it the namespace goes, and what is mounted there.
        if let Kind::Served(Some(server)) = &mut self.kind {
            server.kill().ok();
            server.wait().ok();
        }
        self.keeper.kill().ok();
        self.keeper.wait().ok();
    }
}

fn run(command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}
