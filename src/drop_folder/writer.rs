//! Whether somebody is still writing a file: asked of the kernel, not guessed from its age.
//!
//! A read lease is granted only while nobody has the file open for writing (fcntl(2), "Leases"), so asking for one and
//! giving it back at once is the question. It needs the file's owner or `CAP_LEASE`, and a local file system; where it
//! is refused, the record lock that vsftpd holds while it writes still shows.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicBool;

use rustix::process::{Flock, FlockType, fcntl_getlk};
use std::sync::{Arc, Once};

/// Who has a file open for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// Nobody: the kernel says so.
    Nobody,
    /// Some process.
    Somebody,
    /// The kernel does not tell us: not our file, or not a local file system.
    Unknown,
}

/// Asks who has `file`, which must be open for reading only, open for writing.
pub(super) fn writer(file: &File) -> Writer {
    ignore_lease_breaks();
    match fcntl(file, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => {
            // A lease that cannot be given back ends with the descriptor.
            let _released = fcntl(file, libc::F_SETLEASE, libc::F_UNLCK);
            Writer::Nobody
        }
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Writer::Somebody,
        Err(_) if write_locked(file) => Writer::Somebody,
        Err(_) => Writer::Unknown,
    }
}

/// A writer that opens the file in the instant of our lease makes the kernel send SIGIO, which would end the process.
fn ignore_lease_breaks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Registering can fail only for forbidden signals, of which SIGIO is none.
        let _id = signal_hook::flag::register(libc::SIGIO, Arc::new(AtomicBool::new(false)));
    });
}

#[expect(unsafe_code, reason = "neither std, rustix nor nix wraps F_SETLEASE; the call takes no pointer")]
fn fcntl(file: &File, command: libc::c_int, argument: libc::c_int) -> io::Result<()> {
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn write_locked(file: &File) -> bool {
    fcntl_getlk(file, &Flock::from(FlockType::ReadLock)).is_ok_and(|lock| lock.is_some())
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;

    #[test]
    fn a_writer_shows_until_it_closes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let mut writing = OpenOptions::new().create_new(true).write(true).open(&path).unwrap();
        writing.write_all(b"half").unwrap();
        let reading = File::open(&path).unwrap();
        assert_eq!(writer(&reading), Writer::Somebody);
        drop(writing);
        assert_eq!(writer(&reading), Writer::Nobody);
        let again = OpenOptions::new().append(true).open(&path).unwrap();
        assert_eq!(writer(&reading), Writer::Somebody);
        drop(again);
    }
}
