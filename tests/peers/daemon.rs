//! The daemon's own binary as a child process, under a service manager that we play: its notifications are heard.

use std::fs::{self, File};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_hk-aws");

/// How long anything may take that is no work, on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// Waits until `condition` answers; fails with `what` once `limit` has passed.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A child process, killed and reaped when it goes out of scope; when a test fails, what it said is printed.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    notices: Arc<Mutex<Vec<String>>>,
    gone: Arc<AtomicBool>,
    /// The socket that the notices come by.
    address: PathBuf,
    log: PathBuf,
}

/// What we say ourselves once the process has ended: a socket keeps the order, so whatever it said was heard before.
const ENDED: &str = "the process has ended";

impl Daemon {
    /// A command in an environment that holds nothing of ours: no keys, no zone, no service manager.
    ///
    /// The kernel ends it when the test process dies first.
    pub(crate) fn command(program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    /// Starts the command with a notification socket in `folder` and no terminal; its log goes to a file there.
    pub(crate) fn start(command: Command, folder: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log_file(folder)).unwrap();
        Self::start_logging_to(command, folder, Stdio::from(log))
    }

    /// Starts the command as [`Self::start`] does, with its log to `log`.
    pub(crate) fn start_logging_to(mut command: Command, folder: &Path, log: Stdio) -> Self {
        let address = folder.join("notify");
        // A second daemon in the same folder takes the first one's place.
        fs::remove_file(&address).ok();
        let socket = UnixDatagram::bind(&address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let notices = Arc::new(Mutex::new(Vec::new()));
        let gone = Arc::new(AtomicBool::new(false));
        let (heard, ended) = (Arc::clone(&notices), Arc::clone(&gone));
        thread::spawn(move || listen(&socket, &heard, &ended));

        command.env("NOTIFY_SOCKET", &address).env("HOME", folder);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { child, notices, gone, address, log: log_file(folder) }
    }

    /// Every line that was notified so far, in order.
    pub(crate) fn notices(&self) -> Vec<String> {
        self.notices.lock().unwrap().clone()
    }

    /// Waits for a line that begins with `beginning` among those after the first `after`; answers how many there are then.
    pub(crate) fn wait_for_notice(&mut self, beginning: &str, after: usize) -> usize {
        wait_for(&format!("the notice {beginning}"), SOON, || {
            let notices = self.notices();
            let found = notices.iter().skip(after).position(|line| line.starts_with(beginning));
            if found.is_none()
                && let Some(ended) = self.child.try_wait().unwrap()
            {
                let heard_all = notices.iter().any(|line| line == ENDED);
                assert!(!heard_all, "the daemon ended ({ended}) without the notice {beginning}");
                UnixDatagram::unbound().unwrap().send_to(ENDED.as_bytes(), &self.address).unwrap();
            }
            found.map(|index| after + index + 1)
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until the process has ended by itself.
    pub(crate) fn wait_for_end(&mut self, limit: Duration) -> ExitStatus {
        wait_for("the daemon's end", limit, || self.child.try_wait().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        self.gone.store(true, Ordering::Relaxed);
        if thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("notices: {:#?}\nthe daemon's output:\n{log}", self.notices());
        }
    }
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("log")
}

/// Empties the socket all the time: a full one would hold the daemon up.
fn listen(socket: &UnixDatagram, heard: &Mutex<Vec<String>>, ended: &AtomicBool) {
    let mut datagram = [0; 4096];
    while !ended.load(Ordering::Relaxed) {
        match socket.recv(&mut datagram) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&datagram[..length]);
                heard.lock().unwrap().extend(text.lines().map(str::to_owned));
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => panic!("failed to read the notification socket: {error}"),
        }
    }
}
