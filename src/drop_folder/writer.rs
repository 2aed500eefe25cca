//! Who is still writing a file: the kernel tells it, so that nothing has to be guessed from the file's age.
//!
//! The kernel grants a read lease only while nobody has the file open for writing (fcntl(2), "Leases"). So we ask for one
//! and give it back immediately. That needs the file's owner or `CAP_LEASE`, and a local file system. Where it is refused,
//! we still see the record lock that vsftpd holds while it writes.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicBool;

use rustix::process::{Flock, FlockType, fcntl_getlk};
use std::sync::{Arc, Once};

/// Who has a file open for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// Nobody.
    Nobody,
    /// Some process.
    Somebody,
    /// The kernel does not tell: the file is not ours, or not on a local file system.
    Unknown,
}

/// Returns who has a file open for writing; `file` itself must be open for reading only.
pub(super) fn writer(file: &File) -> Writer {
    ignore_lease_breaks();
    match fcntl(file, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => {
            // If it cannot be given back, the lease ends when the descriptor is closed.
            let _released = fcntl(file, libc::F_SETLEASE, libc::F_UNLCK);
            Writer::Nobody
        }
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Writer::Somebody,
        Err(_) if write_locked(file) => Writer::Somebody,
        Err(_) => Writer::Unknown,
    }
}

/// Catches SIGIO, which the kernel sends if a writer opens the file during our lease and which would end the process.
fn ignore_lease_breaks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It can fail only for signals that may not be caught; SIGIO is not one of them.
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
