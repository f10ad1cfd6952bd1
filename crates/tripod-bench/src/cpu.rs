//! The processor time of a thread, and its place on a processor of its own.
#![allow(unsafe_code, reason = "clock, affinity and priority of a thread are offered by libc only")]

use std::time::Duration;

/// Processor time that the calling thread has used so far.
///
/// Waiting for a processor does not count, so a busy machine disturbs it far less than wall time.
pub(crate) fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for writing for the length of the call.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(failed, 0, "every thread has a clock of its own");
    let seconds = u64::try_from(time.tv_sec).expect("time used is not negative");
    let nanos = u32::try_from(time.tv_nsec).expect("a fraction of a second is not negative");
    Duration::new(seconds, nanos)
}

/// Keeps the calling thread on processor `index`; tells whether the system allows it.
pub(crate) fn pin(index: usize) -> bool {
    if index >= libc::CPU_SETSIZE as usize {
        return false;
    }
    // SAFETY: all zeroes is the empty set of this plain C type.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid, and `index` is within it.
    unsafe { libc::CPU_SET(index, &mut set) };
    // SAFETY: the pointer is valid for reading `size_of_val(&set)` bytes.
    let failed = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    failed == 0
}

/// Puts the calling thread ahead of all others but those of the kernel, for the rest of its life;
/// tells whether the system allows it, which needs privileges.
///
/// Only for bursts: the thread gives its processor to nobody until it sleeps or ends.
pub(crate) fn take_precedence() -> bool {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer is valid for reading for the length of the call.
    let failed = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
    failed == 0
}

/// Whether the threads of a burst can be disturbed by other processes.
pub(crate) fn precedence() -> &'static str {
    let tried = std::thread::spawn(take_precedence).join();
    if tried.unwrap_or(false) {
        "one on each processor, ahead of all other processes"
    } else {
        "one on each processor, without precedence: bursts that waited are made again"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_processor_time_and_no_more_than_wall_time() {
        std::thread::spawn(|| {
            let wall = std::time::Instant::now();
            let before = thread_time();
            let mut sum = 0_u64;
            for number in 0..2_000_000_u64 {
                sum = std::hint::black_box(sum ^ number);
            }
            let used = thread_time() - before;
            assert!(used > Duration::from_micros(100), "{used:?}");
            // The two clocks may be a tick apart.
            assert!(used <= wall.elapsed() + Duration::from_millis(10), "{used:?}");
        })
        .join()
        .expect("it measures");
    }

    #[test]
    fn a_processor_that_is_not_there_is_refused() {
        std::thread::spawn(|| assert!(!pin(1_000) && !pin(1_000_000)))
            .join()
            .expect("it is refused");
    }
}
