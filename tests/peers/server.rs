//! What every real server here needs: a program that is installed, ports of its own, and an end that leaves nothing behind.

use std::env;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for a server's start on a loaded machine; nothing here waits so long when all is well.
pub(crate) const START_DEADLINE: Duration = Duration::from_mins(1);

/// Below Linux's default range for outgoing connections (32768 and up), so that none of them takes a port in between.
const PORTS: Range<u16> = 15_000..32_000;

/// How many ports are taken together.
const BLOCK: u16 = 10;

/// A running server, killed and reaped when it goes out of scope, and by the kernel when the test process dies first.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `program` with its output in `log`; `configure` adds the arguments.
    pub(crate) fn start(program: &Path, log: PathBuf, configure: impl FnOnce(&mut Command)) -> Self {
        let output = fs::File::create(&log).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        configure(&mut command);
        let child = command.spawn().unwrap_or_else(|error| panic!("failed to start {}: {error}", program.display()));
        Self { child, log }
    }

    /// The process to look for when proving that the server is gone.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `up` holds; a server that has already ended fails the test with what it said.
    pub(crate) fn wait_until_up(&mut self, mut up: impl FnMut() -> bool) {
        let deadline = Instant::now() + START_DEADLINE;
        while !up() {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "server did not come up (ended: {ended:?}):\n{}",
                fs::read_to_string(&self.log).unwrap_or_default()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Finds `name` on the PATH. A peer that is missing fails the test: skipping it would look like a pass.
pub(crate) fn installed(name: &str, how: &str) -> PathBuf {
    let path = env::var("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed, and these tests run against the real one: {how}"))
}

/// Hands out `count` neighbouring ports on which nothing listens, none of them twice on this machine while this process
/// lives.
///
/// A port that is free now is taken between this look and the server's own bind by the next test process that looks. So
/// each block is held by a socket with its name, which the kernel gives up with the process, and which lies in no folder.
pub(crate) fn free_ports(count: u16) -> Range<u16> {
    static HELD: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let blocks = usize::from(count.div_ceil(BLOCK));
    for first in PORTS.step_by(usize::from(BLOCK)) {
        let ports = first..first + count;
        let held: io::Result<Vec<UnixListener>> =
            (first..).step_by(usize::from(BLOCK)).take(blocks).map(hold).collect();
        // Not even tried while another has them: its server may be about to bind.
        let Ok(held) = held else { continue };
        let free: io::Result<Vec<TcpListener>> =
            ports.clone().map(|port| TcpListener::bind(("127.0.0.1", port))).collect();
        if free.is_ok() {
            HELD.lock().unwrap().extend(held);
            return ports;
        }
    }
    panic!("no {count} neighbouring ports are free in {PORTS:?}");
}

/// Takes the block of ports that begins with `first`, unless another test process has it.
fn hold(first: u16) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(format!("hk-aws-peers-ports-{first}"))?)
}
