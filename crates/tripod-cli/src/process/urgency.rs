//! Asks that the calling thread runs soon after it wakes, however busy the processors are.
#![allow(unsafe_code, reason = "scheduling attributes are not offered by a safe crate")]

use std::io;

/// How the thread is scheduled from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Before all ordinary threads. Needs a privilege (`CAP_SYS_NICE` or `RLIMIT_RTPRIO`).
    RealTime,
    /// As an ordinary thread that asks for short turns, and so gets them sooner (Linux 6.12).
    ShortSlice,
    /// As before.
    Ordinary,
}

/// The turn that is asked for: the shortest that the kernel grants.
const SLICE_NANOS: u64 = 100_000;

/// Makes the calling thread as urgent as the system lets it be. Its work must be short.
pub(crate) fn raise() -> Urgency {
    if set_real_time().is_ok() {
        Urgency::RealTime
    } else if set_slice().is_ok() {
        Urgency::ShortSlice
    } else {
        Urgency::Ordinary
    }
}

fn set_real_time() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // No child is started by this thread; if one ever is, it is an ordinary one.
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: 0 means the calling thread, and the pointer is valid for reading during the call.
    let failed = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set_slice() -> io::Result<()> {
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).expect("a small struct"),
        sched_policy: u32::try_from(libc::SCHED_OTHER).expect("it is 0"),
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: SLICE_NANOS,
        sched_deadline: 0,
        sched_period: 0,
    };
    let (this_thread, no_flags) = (0, 0);
    // SAFETY: sched_setattr(2) reads `size` bytes of the struct, which is valid during the call.
    let failed = unsafe {
        libc::syscall(libc::SYS_sched_setattr, this_thread, &raw const attributes, no_flags)
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_ask_and_still_runs() {
        let urgency = std::thread::spawn(raise).join().unwrap();
        // A short slice needs no privilege; only a filter of system calls could refuse it.
        assert_ne!(urgency, Urgency::Ordinary);
        std::thread::spawn(|| assert!(set_slice().is_ok())).join().unwrap();
    }
}
