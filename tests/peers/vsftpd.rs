//! A real vsftpd with one local user, as a camera finds it: chrooted, passive mode, writing in place.
//!
//! It runs in a mount and process namespace of its own, where small files of ours lie over the machine's accounts. So it
//! needs root, and changes nothing outside.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::server::{Server, free_ports, installed};

pub(crate) const USER: &str = "camera";
pub(crate) const PASSWORD: &str = "campass";

/// crypt(3) of [`PASSWORD`].
const PASSWORD_HASH: &str =
    "$6$hkawspeers$7sxwors8Y4zlWS4QFoIOk1xjnzSJEk03gw9cycVCDJbS23QB8pw3tp6HbjVO98UCajAuciCOFV0fq7HHZFcxd/";

/// The camera's user; nobody on the machine has this number.
const UID: u32 = 61_021;

/// Passive ports: more than there are sessions at once.
const PASSIVE_PORTS: u16 = 100;

/// Puts our accounts over the machine's for everything started below it, then runs vsftpd and ends with it.
///
/// It stays as the namespace's process 1. As that, vsftpd itself would inherit the orphans of its sessions, and now and
/// then it ends over them.
const ENTER: &str = r#"
set -eu
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/shadow" /etc/shadow
mount --bind "$1/group" /etc/group
mount --bind "$1/pam.d" /etc/pam.d
"$2" "$1/vsftpd.conf" &
wait $!
"#;

#[derive(Debug)]
pub(crate) struct Vsftpd {
    // Declared before the folder, so that the server ends before its folder goes.
    server: Server,
    port: u16,
    folder: TempDir,
}

impl Vsftpd {
    /// Starts the server on ports of its own, with an empty root.
    pub(crate) fn start() -> Self {
        let vsftpd = installed("vsftpd", "apt-get install vsftpd");
        let unshare = installed("unshare", "apt-get install util-linux");
        assert!(rustix::process::geteuid().is_root(), "vsftpd needs root here: to bind mounts, and to become its user");

        let folder = TempDir::with_prefix("hk-aws-vsftpd-").unwrap();
        // vsftpd walks to the user's root with the user's own rights.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let port = free_ports(1).start;
        configure(folder.path(), port);

        let mut server = Server::start(&unshare, folder.path().join("log"), |command| {
            // The process namespace makes one kill end every session with it.
            command.args(["--mount", "--pid", "--fork", "--kill-child=KILL", "--propagation", "private", "--"]);
            command.args(["sh", "-c", ENTER, "sh"]).arg(folder.path()).arg(vsftpd);
        });
        server.wait_until_up(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { server, port, folder }
    }

    /// Where the control connection goes.
    pub(crate) fn address(&self) -> (&'static str, u16) {
        ("127.0.0.1", self.port)
    }

    /// The camera user's root, which is the daemon's drop folder.
    pub(crate) fn root(&self) -> PathBuf {
        root(self.folder.path())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }
}

fn root(folder: &Path) -> PathBuf {
    folder.join("storage")
}

fn configure(folder: &Path, port: u16) {
    let root = root(folder);
    fs::create_dir(&root).unwrap();
    chown(&root, Some(UID), Some(UID)).unwrap();
    fs::create_dir(folder.join("empty")).unwrap();

    let home = root.display();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write(
        "passwd",
        &format!(
            "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n\
             {USER}:x:{UID}:{UID}::{home}:/usr/sbin/nologin\n"
        ),
    );
    write("group", &format!("root:x:0:\nnogroup:x:65534:\n{USER}:x:{UID}:\n"));
    write("shadow", &format!("root:*:19000::::::\nnobody:*:19000::::::\n{USER}:{PASSWORD_HASH}:19000::::::\n"));
    fs::set_permissions(folder.join("shadow"), fs::Permissions::from_mode(0o600)).unwrap();

    // Debian's own service asks for a login shell, which a camera's user has not.
    let service = "auth required pam_unix.so\naccount required pam_unix.so\nsession required pam_permit.so\n";
    fs::create_dir(folder.join("pam.d")).unwrap();
    write("pam.d/vsftpd-camera", service);

    let passive = free_ports(PASSIVE_PORTS);
    let (first, last, below) = (passive.start, passive.end - 1, folder.display());
    write(
        "vsftpd.conf",
        &format!(
            "background=NO\nlisten=YES\nlisten_ipv6=NO\nlisten_address=127.0.0.1\nlisten_port={port}\n\
             anonymous_enable=NO\nlocal_enable=YES\nwrite_enable=YES\nlocal_umask=022\n\
             chroot_local_user=YES\nallow_writeable_chroot=YES\nsecure_chroot_dir={below}/empty\n\
             pam_service_name=vsftpd-camera\n\
             pasv_enable=YES\npasv_address=127.0.0.1\npasv_min_port={first}\npasv_max_port={last}\n\
             xferlog_enable=YES\ndual_log_enable=YES\nxferlog_file={below}/xferlog\nvsftpd_log_file={below}/vsftpd.log\n"
        ),
    );
}
