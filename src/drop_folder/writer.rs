//! Who is still writing a file: the kernel tells it, so that nothing has to be guessed from the file's age.
//!
//! The kernel grants a read lease only while nobody has the file open for writing (fcntl(2), "Leases"). So we ask for
//! one and give it back immediately. That needs the file's owner or `CAP_LEASE`, and a local file system: on any other
//! the kernel knows nothing of writers on other machines. Where it does not tell, we still see the record lock that vsftpd
//! holds while it writes, and a file that is stored stays for a while in case it grows.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
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

/// Returns who has a file open for writing; `file` itself must be open for reading only. It is on a file system that
/// [`is_remote`] or not.
pub(super) fn writer(file: &File, is_remote: bool) -> Writer {
    ignore_lease_breaks();
    match fcntl(file, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => {
            // If it cannot be given back, the lease ends when the descriptor is closed.
            let _released = fcntl(file, libc::F_SETLEASE, libc::F_UNLCK);
            if is_remote { Writer::Unknown } else { Writer::Nobody }
        }
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Writer::Somebody,
        Err(_) if write_locked(file) => Writer::Somebody,
        Err(_) => Writer::Unknown,
    }
}

/// Returns whether a file system is shared with other machines, or served by a program that may share it: NFS, SMB, FUSE,
/// 9p, AFS or Ceph.
///
/// # Errors
/// The error of the file system.
pub(super) fn is_remote(file: impl AsFd) -> io::Result<bool> {
    // statfs(2), "f_type": NFS, SMB, CIFS, SMB2, FUSE, 9p, AFS, Ceph.
    const REMOTE: [u32; 8] =
        [0x6969, 0x517B, 0xFF53_4D42, 0xFE53_4D42, 0x6573_5546, 0x0102_1997, 0x5346_414F, 0x00C3_6400];
    let kind = rustix::fs::fstatfs(file)?.f_type;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the magic numbers are 32 bits wide")]
    Ok(REMOTE.contains(&(kind as u32)))
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
        assert_eq!(writer(&reading, false), Writer::Somebody);
        drop(writing);
        assert_eq!(writer(&reading, false), Writer::Nobody);
        assert_eq!(writer(&reading, true), Writer::Unknown);
        let again = OpenOptions::new().append(true).open(&path).unwrap();
        assert_eq!(writer(&reading, false), Writer::Somebody);
        drop(again);
    }
}
