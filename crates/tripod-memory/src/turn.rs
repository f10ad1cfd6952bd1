//! Work that one thread does at a time, and that the others leave to it.

use crate::sync::{AtomicBool, Ordering};

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
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        let free = self.is_taken.compare_exchange(false, true, acquire, relaxed);
        // Made only if it was: when it is dropped it ends the turn, whoever has it.
        free.is_ok().then(|| Taken(self))
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_in_vain_leaves_the_turn_where_it_is() {
        let turn = Turn::default();
        let taken = turn.take();
        assert!(taken.is_some());
        for _ in 0..3 {
            assert!(turn.take().is_none());
            assert!(turn.is_taken());
        }
        drop(taken);
        assert!(!turn.is_taken() && turn.take().is_some());
    }
}

#[cfg(all(test, loom))]
#[allow(unsafe_code, reason = "loom checks that nobody else is at it")]
mod model {
    use std::sync::Arc;

    use loom::cell::UnsafeCell;
    use loom::thread;

    use super::*;

    /// What only one may do at a time, and each sees of the one before.
    struct Work {
        turn: Turn,
        done: UnsafeCell<u32>,
    }

    // SAFETY: `done` is touched by who has the turn.
    unsafe impl Sync for Work {}

    impl Work {
        /// Answers whether it was this thread's turn.
        fn attempt(&self) -> bool {
            let taken = self.turn.take();
            if taken.is_some() {
                // SAFETY: the pointer is ours while we have the turn; loom checks that.
                self.done.with_mut(|done| unsafe { *done += 1 });
            }
            taken.is_some()
        }
    }

    #[test]
    fn nobody_works_while_another_has_the_turn() {
        loom::model(|| {
            let work = Arc::new(Work { turn: Turn::default(), done: UnsafeCell::new(0) });
            let others = [(); 2].map(|()| {
                let work = Arc::clone(&work);
                thread::spawn(move || u32::from(work.attempt()) + u32::from(work.attempt()))
            });
            let own = u32::from(work.attempt());
            let all = others.map(|other| other.join().unwrap()).iter().sum::<u32>() + own;
            // SAFETY: the others are done.
            assert_eq!(work.done.with(|done| unsafe { *done }), all);
            assert!(all > 0 && work.turn.take().is_some());
        });
    }
}
