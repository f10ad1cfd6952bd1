//! Work that one thread does at a time, and that the others leave to it.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whose turn it is. Unlike with a lock nobody waits, so foreign code may run meanwhile: if it comes
/// by again, it finds the work in hand.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    // Acquire and Release pair with each other, as those of a lock that is only tried.
    is_taken: AtomicBool,
}

impl Turn {
    /// Takes the turn, until the answer is dropped; `None` if another has it.
    pub(crate) fn take(&self) -> Option<Taken<'_>> {
        (!self.is_taken.swap(true, Ordering::Acquire)).then_some(Taken(self))
    }

    /// Whether somebody has it now.
    pub(crate) fn is_taken(&self) -> bool {
        self.is_taken.load(Ordering::Relaxed)
    }
}

/// Has the turn.
#[derive(Debug)]
pub(crate) struct Taken<'a>(&'a Turn);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.is_taken.store(false, Ordering::Release);
    }
}
