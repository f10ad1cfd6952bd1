//! Child processes: who watches over them, how they are started, reaped, measured and stopped.
//!
//! `tripod map` is two processes. The **guard** is the one that the user started; it forks the
//! **engine**, which does all the work. Both are child subreapers, so a process that loses its
//! parent becomes a child of the engine, or of the guard once the engine is gone, and never of
//! init. Whichever of the two dies, even by `kill -9`, the other one stops every process below
//! it. `PR_SET_PDEATHSIG` alone would reach only the shell of a command, not what the shell runs.

use std::io;

pub(crate) mod cgroup;
pub(crate) mod descriptors;
pub(crate) mod guard;
pub(crate) mod reaper;
pub(crate) mod tree;
pub(crate) mod urgency;

/// Whether the system has too little of something, which others may give back.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    let shortages = [libc::EAGAIN, libc::EMFILE, libc::ENFILE, libc::ENOMEM];
    error.raw_os_error().is_some_and(|number| shortages.contains(&number))
}
