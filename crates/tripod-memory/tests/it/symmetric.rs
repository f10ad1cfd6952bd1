//! The stress tests once more where the kernel has no `membarrier`, so that threads make the fences of
//! the guard themselves. A filter of system calls takes it away, as sandboxes do. That each fence is
//! needed is for the models to show: a processor rarely does.
#![allow(unsafe_code, reason = "a filter is set by a system call")]

use std::io;

use crate::own_process::alone;
use crate::stress;

/// From now on `membarrier` is unknown to this thread and to those that it starts.
fn take_membarrier_away() {
    let statement = |code: u32, k| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let number = u32::try_from(libc::SYS_membarrier).unwrap();
    let unknown = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let mut filter = [
        // The number of the call comes first in what a filter sees.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            jf: 1,
            ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number)
        },
        statement(libc::BPF_RET | libc::BPF_K, unknown),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the calls read the program, which lives until they are done, and nothing else of ours.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
        assert_eq!(libc::syscall(libc::SYS_membarrier, 0, 0, 0), -1);
    }
    assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::ENOSYS));
}

#[test]
fn without_membarrier_no_byte_is_lost_and_no_refusal_untrue() {
    alone("symmetric::without_membarrier_no_byte_is_lost_and_no_refusal_untrue", || {
        take_membarrier_away();
        stress::eight_threads_lose_no_byte_and_no_wakeup();
        stress::no_acquire_is_refused_while_at_most_half_is_checked_out();
        stress::the_collector_takes_nothing_from_a_thread_that_is_at_work();
        stress::threads_that_come_and_go_find_their_buffers_as_they_left_them();
    });
}
