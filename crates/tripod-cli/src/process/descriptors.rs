//! Gives a thread a table of file descriptors of its own, so that the others of the process cannot
//! leave it without any: the limit of open files holds for each table.
//!
//! What was open when the thread left stays open in its table under the same number, for as long
//! as it lives; what others open or close afterwards it does not see. Nor can it be emptied: a
//! signal may be taken on any thread, and its handler writes to a descriptor of the runtime.
#![allow(unsafe_code, reason = "unsharing descriptors is not offered by a safe crate")]

use std::io;

/// Gives the calling thread a copy of the process's table of descriptors, for itself alone.
///
/// It must not be handed a descriptor from then on, nor hand out any.
///
/// # Errors
/// If the system refuses: a filter of system calls, no memory. The table is then shared as before.
pub(crate) fn own_table() -> io::Result<()> {
    // SAFETY: no memory is involved, and descriptors that are open stay valid on both sides.
    let failed = unsafe { libc::unshare(libc::CLONE_FILES) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;

    /// What the descriptor `number` of the calling thread leads to.
    fn target(number: i32) -> Option<std::path::PathBuf> {
        std::fs::read_link(format!("/proc/thread-self/fd/{number}")).ok()
    }

    #[test]
    fn what_was_open_stays_and_what_is_opened_is_the_thread_s_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (before, within) = (folder.path().join("before"), folder.path().join("within"));
        let shared = File::create(&before).unwrap();
        let number = shared.as_raw_fd();
        let in_thread = || {
            own_table().unwrap();
            assert_eq!(target(number).as_deref(), Some(&*before));
            let own = File::create(&within).unwrap();
            let number = own.as_raw_fd();
            assert_eq!(target(number).as_deref(), Some(&*within));
            // Still open here while the other thread looks for it.
            (own, number)
        };
        let (own, number) = std::thread::scope(|scope| {
            let thread = scope.spawn(in_thread);
            thread.join().unwrap()
        });
        assert_ne!(target(number).as_deref(), Some(&*within));
        // Its number means nothing here, or a file of another test.
        std::mem::forget(own);
    }
}
