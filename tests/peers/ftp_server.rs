//! Real FTP servers with one local user, as a camera finds them: chrooted, passive mode.
//!
//! Each runs in a mount and process namespace of its own, where small files of ours lie over the machine's accounts. So
//! it needs root, and changes nothing outside. Debian's packages of the three shut each other out: two of them are run
//! from a folder into which they were unpacked, with their libraries.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::server::{Server, free_ports, installed};

pub(crate) const USER: &str = "camera";
pub(crate) const PASSWORD: &str = "campass";

/// crypt(3) of [`PASSWORD`].
const PASSWORD_HASH: &str =
    "$6$hkawspeers$7sxwors8Y4zlWS4QFoIOk1xjnzSJEk03gw9cycVCDJbS23QB8pw3tp6HbjVO98UCajAuciCOFV0fq7HHZFcxd/";

/// The camera's user; nobody on the machine has this number.
pub(crate) const UID: u32 = 61_021;

/// Passive ports: more than there are sessions at once.
const PASSIVE_PORTS: u16 = 100;

/// Puts our accounts over the machine's for everything started below it, then runs the server and ends with it. With a
/// folder for `/run`, there is a journal of our own too, which nobody on the machine sees.
///
/// It stays as the namespace's process 1. As that, vsftpd itself would inherit the orphans of its sessions, and now and
/// then it ends over them.
const ENTER: &str = r#"
set -eu
folder=$1
shift
mount --bind "$folder/passwd" /etc/passwd
mount --bind "$folder/shadow" /etc/shadow
mount --bind "$folder/group" /etc/group
mount --bind "$folder/shells" /etc/shells
mount --bind "$folder/pam.d" /etc/pam.d
if [ -d "$folder/run" ]; then
  mount --bind "$folder/run" /run
  mkdir -p "$folder/dev" /run/systemd/journal /run/log/journal
  for device in null zero full random urandom; do
    touch "$folder/dev/$device"
    mount --bind "/dev/$device" "$folder/dev/$device"
  done
  ln -s /run/systemd/journal/dev-log "$folder/dev/log"
  mount --rbind "$folder/dev" /dev
  env -u LD_LIBRARY_PATH /lib/systemd/systemd-journald &
  until [ -S /run/systemd/journal/dev-log ]; do sleep 0.1; done
else
  mount -t tmpfs none /run
fi
"$@" &
wait $!
"#;

/// Which server, and how it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In place.
    Vsftpd,
    /// In place.
    PureFtpd,
    /// `-0`: to `.pureftpd-upload.*`, which it renames at the end, whole or not.
    PureFtpdHidden,
    /// In place.
    ProFtpd,
    /// `HiddenStores`: to `.in.NAME.`, which it renames at the end and removes when the camera broke off.
    ProFtpdHidden,
    /// As the documents set it up: the camera is a login that is no user of the machine.
    PureFtpdAsDocumented,
    /// As the documents set it up: the camera is a guest.
    VsftpdAsDocumented,
}

#[derive(Debug)]
pub(crate) struct FtpServer {
    // Declared before the folder, so that the server ends before its folder goes.
    server: Server,
    port: u16,
    folder: TempDir,
}

impl FtpServer {
    /// Starts the server on ports of its own, with an empty root.
    pub(crate) fn start(kind: Kind) -> Self {
        Self::start_as(kind, false)
    }

    /// Starts it with a journal of its own, which can be read in its mount namespace.
    pub(crate) fn start_with_journal(kind: Kind) -> Self {
        let journal = Path::new("/lib/systemd/systemd-journald");
        assert!(journal.exists(), "apt-get install systemd");
        Self::start_as(kind, true)
    }

    fn start_as(kind: Kind, with_journal: bool) -> Self {
        let program = match kind {
            Kind::Vsftpd | Kind::VsftpdAsDocumented => installed("vsftpd", "apt-get install vsftpd"),
            Kind::PureFtpd | Kind::PureFtpdHidden | Kind::PureFtpdAsDocumented => installed("pure-ftpd", UNPACK),
            Kind::ProFtpd | Kind::ProFtpdHidden => installed("proftpd", UNPACK),
        };
        let unshare = installed("unshare", "apt-get install util-linux");
        assert!(
            rustix::process::geteuid().is_root(),
            "an FTP server needs root: to bind mounts, and to become its user"
        );

        let folder = TempDir::with_prefix("hk-aws-ftp-").unwrap();
        // The server walks to the user's root with the user's own rights.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let port = free_ports(1).start;
        lay_accounts(folder.path());
        if with_journal {
            fs::create_dir(folder.path().join("run")).unwrap();
        }
        if kind == Kind::PureFtpdAsDocumented {
            add_login(&program, folder.path());
        }
        let arguments = configure(kind, folder.path(), port);

        let mut server = Server::start(&unshare, folder.path().join("log"), |command| {
            // The process namespace makes one kill end every session with it.
            command.args(["--mount", "--pid", "--fork", "--kill-child=KILL", "--propagation", "private", "--"]);
            command.args(["sh", "-c", ENTER, "sh"]).arg(folder.path()).arg(&program).args(arguments);
            command.env("LD_LIBRARY_PATH", libraries_beside(&program));
        });
        server.wait_until_up(|| greets(port).is_ok());
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

/// Whether a session begins as FTP's do.
fn greets(port: u16) -> io::Result<()> {
    let mut code = [0; 3];
    TcpStream::connect(("127.0.0.1", port))?.read_exact(&mut code)?;
    if code == *b"220" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// How to come by the servers that cannot be installed beside vsftpd.
const UNPACK: &str = "its package conflicts with vsftpd's; let .ci/run unpack it below target/ci, then add \
                      target/ci/ftp/usr/sbin to the PATH";

/// The folders of libraries that were unpacked together with a program in `usr/sbin`.
fn libraries_beside(program: &Path) -> OsString {
    let unpacked = program.ancestors().nth(3).unwrap_or(Path::new("/"));
    let folders = ["lib", "usr/lib"].into_iter().flat_map(|lib| fs::read_dir(unpacked.join(lib)).into_iter().flatten());
    let paths =
        folders.flatten().map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with("-linux-gnu"));
    std::env::join_paths(paths).unwrap()
}

fn root(folder: &Path) -> PathBuf {
    folder.join("storage")
}

/// Lays out the user's root and the files that are mounted over the machine's accounts.
fn lay_accounts(folder: &Path) {
    let root = root(folder);
    fs::create_dir(&root).unwrap();
    chown(&root, Some(UID), Some(UID)).unwrap();
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

    // Debian's own services and pure-ftpd ask for a login shell, which a camera's user has not.
    write("shells", "/bin/sh\n/usr/sbin/nologin\n");
    fs::create_dir(folder.join("pam.d")).unwrap();
    let service = "auth required pam_unix.so\naccount required pam_unix.so\nsession required pam_permit.so\n";
    write("pam.d/vsftpd-camera", service);
    // The documents' own service asks a module that this machine need not have.
    write("pam.d/vsftpd-cameras", service);
}

/// Makes the camera a login of pure-ftpd's own, as the documents do.
fn add_login(server: &Path, folder: &Path) {
    let mut command = Command::new(server.ancestors().nth(2).unwrap().join("bin/pure-pw"));
    command.env("LD_LIBRARY_PATH", libraries_beside(server));
    command.args(["useradd", USER, "-u", &UID.to_string(), "-g", &UID.to_string(), "-m", "-d"]).arg(root(folder));
    command.arg("-f").arg(folder.join("logins")).arg("-F").arg(folder.join("logins.pdb"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    write!(child.stdin.take().unwrap(), "{PASSWORD}\n{PASSWORD}\n").unwrap();
    assert!(child.wait().unwrap().success(), "{command:?}");
}

/// Writes the server's configuration; answers its arguments.
fn configure(kind: Kind, folder: &Path, port: u16) -> Vec<String> {
    let passive = free_ports(PASSIVE_PORTS);
    let (first, last, below) = (passive.start, passive.end - 1, folder.display());
    let file = folder.join("server.conf").display().to_string();
    match kind {
        Kind::Vsftpd => {
            fs::create_dir(folder.join("empty")).unwrap();
            let text = format!(
                "background=NO\nlisten=YES\nlisten_ipv6=NO\nlisten_address=127.0.0.1\nlisten_port={port}\n\
                 anonymous_enable=NO\nlocal_enable=YES\nwrite_enable=YES\nlocal_umask=022\n\
                 chroot_local_user=YES\nallow_writeable_chroot=YES\nsecure_chroot_dir={below}/empty\n\
                 pam_service_name=vsftpd-camera\n\
                 pasv_enable=YES\npasv_address=127.0.0.1\npasv_min_port={first}\npasv_max_port={last}\n\
                 xferlog_enable=YES\ndual_log_enable=YES\nxferlog_file={below}/xferlog\nvsftpd_log_file={below}/vsftpd.log\n"
            );
            fs::write(&file, text).unwrap();
            vec![file]
        }
        Kind::PureFtpd | Kind::PureFtpdHidden => {
            let options = format!(
                "--ipv4only --chrooteveryone --noanonymous --dontresolve --login unix --bind 127.0.0.1,{port} \
                 --forcepassiveip 127.0.0.1 --passiveportrange {first}:{last} --minuid 1 --umask 022:022 \
                 --maxclientsnumber 100 --pidfile {below}/pid{}",
                if kind == Kind::PureFtpdHidden { " --notruncate" } else { "" }
            );
            options.split(' ').map(str::to_owned).collect()
        }
        Kind::PureFtpdAsDocumented => {
            // What Debian's wrapper makes of the settings in the documents.
            let options = format!(
                "--login puredb:{below}/logins.pdb --tlsciphersuite HIGH --noanonymous --minuid 100 \
                 --altlog clf:{below}/transfer.log --bind 127.0.0.1,{port} --forcepassiveip 127.0.0.1 \
                 --passiveportrange {first}:{last} --pidfile {below}/pid"
            );
            options.split(' ').map(str::to_owned).collect()
        }
        Kind::VsftpdAsDocumented => {
            fs::create_dir(folder.join("empty")).unwrap();
            let documented = include_str!("../../packaging/doc/examples/vsftpd.conf");
            // The later of two lines holds.
            let text = format!(
                "{documented}\nbackground=NO\nlisten_address=127.0.0.1\nlisten_port={port}\nguest_username={USER}\n\
                 local_root={root}\nsecure_chroot_dir={below}/empty\n\
                 pasv_address=127.0.0.1\npasv_min_port={first}\npasv_max_port={last}\n\
                 xferlog_file={below}/xferlog\nvsftpd_log_file={below}/vsftpd.log\n",
                root = root(folder).display(),
            );
            fs::write(&file, text).unwrap();
            vec![file]
        }
        Kind::ProFtpd | Kind::ProFtpdHidden => {
            let hidden = if kind == Kind::ProFtpdHidden { "HiddenStores on\nDeleteAbortedStores on\n" } else { "" };
            let text = format!(
                "ServerType standalone\nServerName cameras\nUseIPv6 off\nDefaultAddress 127.0.0.1\nSocketBindTight on\n\
                 Port {port}\nUseReverseDNS off\nUser nobody\nGroup nogroup\nMaxInstances 100\n\
                 AuthOrder mod_auth_unix.c\nAuthPAM off\nRequireValidShell off\nUseFtpUsers off\nDefaultRoot ~\n\
                 Umask 022\nAllowOverwrite on\nAllowStoreRestart on\nPassivePorts {first} {last}\n\
                 DelayEngine off\nControlsEngine off\nWtmpLog off\n{hidden}\
                 PidFile {below}/pid\nScoreboardFile {below}/scores\nTransferLog {below}/xferlog\nSystemLog {below}/system.log\n"
            );
            fs::write(&file, text).unwrap();
            vec!["-n".to_owned(), "-c".to_owned(), file]
        }
    }
}
