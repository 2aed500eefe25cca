//! Threads to which the kernel answers as it does on a file system that knows no rename without replacing.
//!
//! It is the kernel itself that refuses (seccomp(2)), so the code under test is the whole of it. `strace` shows the same
//! in the tests with real peers, where it can only be had for a whole process.
#![expect(unsafe_code, reason = "no crate here wraps seccomp(2); the filter lives as long as the call")]

use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter, sock_fprog};

/// Where the number of the call and the low half of its fifth argument stand in `struct seccomp_data`.
const NUMBER: u32 = 0;
const FLAGS: u32 = 16 + 4 * 8 + if cfg!(target_endian = "big") { 4 } else { 0 };

/// Refuses this thread, and all that it starts, every rename with flags from now on, and links too if they are unknown.
pub(crate) fn refuse_flags_of_rename(knows_links: bool) {
    let instruction = |code: u32, k: u32, (jt, jf)| sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
    let load = |at| instruction(BPF_LD | BPF_W | BPF_ABS, at, (0, 0));
    let skip_unless = |value, by| instruction(BPF_JMP | BPF_JEQ | BPF_K, value, (0, by));
    let skip_if = |value, by| instruction(BPF_JMP | BPF_JEQ | BPF_K, value, (by, 0));
    let end = |action| instruction(BPF_RET | BPF_K, action, (0, 0));
    let error = |errno: i32| libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap();
    let number = |call: libc::c_long| u32::try_from(call).unwrap();
    let refused_link = if knows_links { libc::SECCOMP_RET_ALLOW } else { error(libc::EPERM) };
    let mut filter = [
        load(NUMBER),
        skip_unless(number(libc::SYS_linkat), 1),
        end(refused_link),
        skip_unless(number(libc::SYS_renameat2), 3),
        load(FLAGS),
        skip_if(0, 1),
        end(error(libc::EINVAL)),
        end(libc::SECCOMP_RET_ALLOW),
    ];
    let program = sock_fprog { len: u16::try_from(filter.len()).unwrap(), filter: filter.as_mut_ptr() };
    let set = |option, one: libc::c_ulong, two: *const sock_fprog| unsafe { libc::prctl(option, one, two, 0, 0) };
    // Without rights, a process may only filter what gains none (seccomp(2), `SECCOMP_SET_MODE_FILTER`).
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0, "{}", std::io::Error::last_os_error());
    let answer = set(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER.into(), &raw const program);
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}
