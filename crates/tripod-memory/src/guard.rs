//! The guard between a thread and whoever reaches into its cache.
//!
//! A thread works on its own cache without an atomic read-modify-write and without a fence: it says
//! that it is busy, and looks whether the cache has been revoked. A *reclaimer* (somebody who wants
//! what the cache holds, with the engine's lock held) revokes the cache, makes every thread of the
//! process pass a full fence with one `membarrier(2)`, and then looks whether the thread is busy. It
//! is Dekker's algorithm with the cost of both fences moved to the side that is rare.
//!
//! # Who may touch the cache, and when
//! | `revoked` has one of the needed flags | `busy` | the cache belongs to |
//! |---|---|---|
//! | no | either | its thread |
//! | yes, fence passed | no | the reclaimer, until it restores |
//! | yes, fence passed | yes | its thread, until it leaves |
//!
//! Nobody waits: a reclaimer that finds the thread busy leaves the flag [`PENDING`], and the thread,
//! which looks once more as it leaves, gives up by itself what was asked for. So everything that a
//! revoked cache holds is seen by somebody, at the latest when its thread has left.
//!
//! # The short way
//! A place that holds one thing, such as the newest buffer of a magazine, is passed without saying
//! busy at all. The thread takes what is there, or puts something there, *and then* looks whether the
//! [way is open](Guard::is_open). If it is, no reclaimer has been at the place, for each one closes the
//! way before its fence. If it is closed, the thread may have been overtaken:
//! - it put something there: it takes it back with a swap, or the reclaimer has taken it with one;
//! - it took something: a reclaimer that had taken the same has left a note of the place.
//!
//! Only the thread opens the way again, with the engine's lock held, when it has read the notes; until
//! then it enters nowhere, so a closed way has nothing new behind it.
//!
//! # Fences
//! [`light_fence`] in the thread pairs with [`heavy_fence`] in the reclaimer: of two who each store
//! and then load what the other stored, one at least sees the other. Where the kernel has no
//! `membarrier`, both are full fences: the flag [`SYMMETRIC`] sends the thread the long way round. The `Release` of `busy = false` pairs with the `Acquire` in
//! [`Guard::is_busy`]: a reclaimer that sees the thread gone sees all that it did. The `Release` of every
//! store to `revoked` pairs with the `Acquire` in [`Guard::enter`], the other way round.

#[cfg(not(loom))]
use crate::sync::compiler_fence;
use crate::sync::{AtomicBool, AtomicU32, Ordering, fence};
use crate::sys;

#[cfg(all(test, loom))]
mod model;

/// The magazines of the thread are not its own now.
pub(crate) const MAGAZINES: u32 = 1;
/// The credits of the thread are not its own now.
pub(crate) const CREDITS: u32 = 2;
/// The thread was busy when it was asked: it gives up what is revoked when it leaves.
pub(crate) const PENDING: u32 = 4;
/// The kernel lacks `membarrier`, so the thread makes full fences itself. Never changes.
const SYMMETRIC: u32 = 8;
/// A reclaimer has been here since the thread has last opened the short way.
const CLOSED: u32 = 16;

/// One for each cache.
#[derive(Debug)]
pub(crate) struct Guard {
    /// Written by the cache's thread alone.
    busy: AtomicBool,
    /// Written with the engine's lock held.
    revoked: AtomicU32,
}

/// Why a thread may not work on its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Revoked {
    /// Whether the thread has been asked to give up what is revoked.
    pub(crate) is_asked: bool,
}

impl Guard {
    pub(crate) fn new() -> Self {
        let fences = if sys::register_barrier() { 0 } else { SYMMETRIC };
        Self { busy: AtomicBool::new(false), revoked: AtomicU32::new(fences) }
    }

    /// Begins work on what `needed` names. The cache's thread alone.
    ///
    /// # Errors
    /// [`Revoked`] if it is revoked. The thread was busy for that moment, so it has to heed the answer
    /// as it would that of [`leave`](Self::leave).
    #[inline(always)]
    pub(crate) fn enter(&self, needed: u32) -> Result<(), Revoked> {
        self.busy.store(true, Ordering::Relaxed);
        light_fence();
        let revoked = self.revoked.load(Ordering::Acquire);
        if revoked & (needed | SYMMETRIC | CLOSED) == 0 {
            return Ok(());
        }
        self.enter_slowly(needed)
    }

    #[cold]
    fn enter_slowly(&self, needed: u32) -> Result<(), Revoked> {
        fence(Ordering::SeqCst);
        if self.revoked.load(Ordering::Acquire) & (needed | CLOSED) == 0 {
            return Ok(());
        }
        Err(Revoked { is_asked: self.leave() })
    }

    /// Ends the work; true if the thread has been asked to give up what is revoked.
    #[inline(always)]
    pub(crate) fn leave(&self) -> bool {
        self.busy.store(false, Ordering::Release);
        light_fence();
        let revoked = self.revoked.load(Ordering::Acquire);
        revoked & (PENDING | SYMMETRIC) != 0 && self.leave_slowly()
    }

    #[cold]
    fn leave_slowly(&self) -> bool {
        fence(Ordering::SeqCst);
        self.revoked.load(Ordering::Acquire) & PENDING != 0
    }

    /// Whether what the thread has just done at a place of `needed` was done by it alone. The cache's
    /// thread alone.
    #[inline(always)]
    pub(crate) fn is_open(&self, needed: u32) -> bool {
        light_fence();
        let revoked = self.revoked.load(Ordering::Acquire);
        revoked & (needed | SYMMETRIC | CLOSED) == 0 || self.is_open_slowly(needed)
    }

    // Not put in place, nor anything else that is rare: what drops a buffer does so with a handful of
    // instructions, or it would be a call.
    #[cold]
    #[inline(never)]
    fn is_open_slowly(&self, needed: u32) -> bool {
        fence(Ordering::SeqCst);
        self.revoked.load(Ordering::Acquire) & (needed | CLOSED) == 0
    }

    /// Whether the thread has to open the short way before it does anything else.
    pub(crate) fn is_closed(&self) -> bool {
        self.revoked.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// Opens the short way again. The cache's thread alone, with the engine's lock held, and nothing
    /// done half.
    pub(crate) fn open(&self) {
        let before = self.revoked.load(Ordering::Relaxed);
        self.revoked.store(before & !CLOSED, Ordering::Release);
    }

    /// Asks for what `flags` names. Takes effect with the next [`heavy_fence`], which the caller makes
    /// when it has revoked all that it wants.
    pub(crate) fn revoke(&self, flags: u32) {
        let before = self.revoked.load(Ordering::Relaxed);
        // Release, as in `settle`: a thread that needs something else enters by this word, and has to
        // see what was done before that was restored.
        self.revoked.store(before | flags | PENDING | CLOSED, Ordering::Release);
    }

    /// After the fence: whether the thread is at work and will see [`PENDING`] when it leaves.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Whether the thread still has to give something up.
    pub(crate) fn is_pending(&self) -> bool {
        self.revoked.load(Ordering::Relaxed) & PENDING != 0
    }

    /// What was asked for has been given up.
    pub(crate) fn settle(&self) {
        let before = self.revoked.load(Ordering::Relaxed);
        self.revoked.store(before & !PENDING, Ordering::Release);
    }

    /// What is revoked now.
    pub(crate) fn revoked(&self) -> u32 {
        self.revoked.load(Ordering::Relaxed) & (MAGAZINES | CREDITS)
    }

    /// Lets the thread have everything back but `flags`, which must be revoked already.
    pub(crate) fn restore(&self, flags: u32) {
        let kept = self.revoked.load(Ordering::Relaxed) & (PENDING | SYMMETRIC | CLOSED);
        self.revoked.store(flags | kept, Ordering::Release);
    }
}

/// Keeps a store before it from being done after a load behind it, as far as the compiler goes; the
/// processor is told by [`heavy_fence`].
#[inline(always)]
fn light_fence() {
    #[cfg(not(loom))]
    compiler_fence(Ordering::SeqCst);
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// Makes every thread of the process pass a full fence; the calling one, too.
pub(crate) fn heavy_fence() {
    fence(Ordering::SeqCst);
    if sys::register_barrier() {
        sys::heavy_barrier();
    }
}
