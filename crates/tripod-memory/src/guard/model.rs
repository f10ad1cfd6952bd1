//! The guard under loom, alone and around a real cache.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p tripod-memory --lib --release guard::model`.
//! The models with three threads or a whole cache try two or three preemptions, all that they get through
//! in seconds; the others are complete.
//!
//! The fences are loom's here: a light one and a heavy one are each a `SeqCst` fence, which is what the
//! barrier makes of them together. Every one of them is needed: without the light one in `enter`, or
//! without the heavy one, `a_cache_is_never_in_two_hands` fails; without the light one in `leave`,
//! `nothing_that_is_revoked_stays_behind` does; without the one in `is_open`, or without the notes of
//! what was taken, the models of the short way.

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex};
use loom::thread;

use super::{CREDITS, Guard, MAGAZINES, Revoked, heavy_fence};
use crate::cache::{Cache, Of, Place};
use crate::classes::SizeClasses;
use crate::layout::ClassLayout;
use crate::ledger::ROOT;

/// What a guard guards, under the name of [`CREDITS`], and where it goes when it is called back.
struct Guarded {
    guard: Guard,
    /// Not atomic, so that loom finds two who are at it.
    kept: UnsafeCell<u32>,
    given_up: Mutex<u32>,
}

impl Guarded {
    fn new() -> Arc<Self> {
        let (kept, given_up) = (UnsafeCell::new(0), Mutex::new(0));
        Arc::new(Self { guard: Guard::new(), kept, given_up })
    }

    /// Work on what is kept; for whom it belongs to.
    #[allow(unsafe_code, reason = "loom checks that nobody else is at it")]
    fn change<T>(&self, change: impl FnOnce(&mut u32) -> T) -> T {
        // SAFETY: loom fails if another access is not ordered before or after this one.
        self.kept.with_mut(|kept| change(unsafe { &mut *kept }))
    }

    /// The thread adds one to what it keeps, or to what is given up if it may not.
    fn add(&self) {
        let is_asked = match self.guard.enter(CREDITS) {
            Ok(()) => {
                self.change(|kept| *kept += 1);
                self.guard.leave()
            }
            Err(Revoked { is_asked }) => {
                *self.given_up.lock().unwrap() += 1;
                is_asked
            }
        };
        if is_asked {
            let mut given_up = self.given_up.lock().unwrap();
            if self.guard.is_pending() {
                if self.guard.revoked() & CREDITS != 0 {
                    *given_up += self.change(std::mem::take);
                }
                self.guard.settle();
            }
        }
    }

    /// A reclaimer calls back what `flags` names, and lets go again at once if `restores`.
    fn call_back(&self, flags: u32, restores: bool) {
        let mut given_up = self.given_up.lock().unwrap();
        self.guard.revoke(flags);
        heavy_fence();
        if !self.guard.is_busy() {
            if flags & CREDITS != 0 {
                *given_up += self.change(std::mem::take);
            }
            self.guard.settle();
        }
        if restores {
            self.guard.restore(0);
        }
    }

    fn sums(&self) -> (u32, u32) {
        (self.change(|kept| *kept), *self.given_up.lock().unwrap())
    }
}

#[test]
fn a_cache_is_never_in_two_hands() {
    loom::model(|| {
        let guarded = Guarded::new();
        let owner = thread::spawn({
            let guarded = Arc::clone(&guarded);
            move || (0..2).for_each(|_| guarded.add())
        });
        guarded.call_back(CREDITS, true);
        owner.join().unwrap();
        assert!(!guarded.guard.is_pending(), "what was asked for is given up");
        let (kept, given_up) = guarded.sums();
        assert_eq!(kept + given_up, 2);
    });
}

#[test]
fn nothing_that_is_revoked_stays_behind() {
    loom::model(|| {
        let guarded = Guarded::new();
        let owner = thread::spawn({
            let guarded = Arc::clone(&guarded);
            move || (0..2).for_each(|_| guarded.add())
        });
        guarded.call_back(CREDITS, false);
        owner.join().unwrap();
        assert!(!guarded.guard.is_pending());
        assert_eq!(guarded.sums(), (0, 2));
    });
}

/// The second reclaimer wants something else, so the thread may enter by its word as well.
#[test]
fn two_reclaimers_and_the_thread_take_turns() {
    for flags in [CREDITS, MAGAZINES] {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let guarded = Guarded::new();
            guarded.add();
            let reclaimers = [CREDITS, flags].map(|flags| {
                let guarded = Arc::clone(&guarded);
                thread::spawn(move || guarded.call_back(flags, true))
            });
            guarded.add();
            reclaimers.into_iter().for_each(|reclaimer| reclaimer.join().unwrap());
            let (kept, given_up) = guarded.sums();
            assert_eq!(kept + given_up, 2);
        });
    }
}

/// A cache with one class, and the slots that are neither in it nor in somebody's hands.
struct Shared {
    cache: crate::heap::Shared<Cache>,
    shelf: Mutex<Vec<usize>>,
}

const SIZE: usize = 64 << 10;

impl Shared {
    fn new(slots: usize) -> Arc<Self> {
        let classes = SizeClasses::new([SIZE]).unwrap();
        let layouts = [ClassLayout::of(SIZE)];
        let cache = Cache::new(&layouts, classes.sure().clone()).unwrap();
        (1..=slots).for_each(|slot| assert!(cache.release(0, address(slot), ROOT).outcome));
        Arc::new(Self { cache, shelf: Mutex::new(Vec::new()) })
    }

    fn heed(&self, is_asked: bool) {
        if !is_asked {
            return;
        }
        let mut shelf = self.shelf.lock().unwrap();
        if self.cache.guard.is_pending() {
            if self.cache.guard.revoked() & MAGAZINES != 0 {
                self.cache.drain_magazines(|_, slot| shelf.push(slot.addr().get()));
            }
            self.cache.guard.settle();
            self.cache.open(None);
        }
    }

    fn is_taken(&self, place: Place) -> bool {
        let _shelf = self.shelf.lock().unwrap();
        self.cache.open(Some(place))
    }

    fn open(&self) {
        if self.cache.guard.is_closed() {
            let _shelf = self.shelf.lock().unwrap();
            self.cache.open(None);
        }
    }

    fn take(&self) -> Option<NonNull<u8>> {
        if let Some((slot, _)) = self.cache.acquire_newest(SIZE, |place| self.is_taken(place)) {
            return Some(slot);
        }
        self.open();
        let attempt = self.cache.acquire(0, SIZE, ROOT);
        self.heed(attempt.is_asked);
        attempt.outcome
    }

    fn give(&self, slot: NonNull<u8>) {
        if self.cache.release_newest(0, slot) {
            return;
        }
        self.open();
        let attempt = self.cache.release(0, slot, ROOT);
        self.heed(attempt.is_asked);
        if !attempt.outcome {
            self.shelf.lock().unwrap().push(slot.addr().get());
        }
    }

    fn reclaim(&self, how_many: Option<usize>) {
        let mut shelf = self.shelf.lock().unwrap();
        let Self { cache, .. } = self;
        cache.guard.revoke(MAGAZINES);
        heavy_fence();
        if !cache.guard.is_busy() {
            let mut take = |slot: NonNull<u8>| shelf.push(slot.addr().get());
            match how_many {
                Some(count) => cache.take_oldest(0, count, take),
                None => cache.drain_magazines(|_, slot| take(slot)),
            }
            cache.guard.settle();
        }
        if how_many.is_some() {
            cache.guard.restore(0);
        }
    }

    /// Every slot, wherever it is now.
    fn slots(&self) -> Vec<usize> {
        let mut slots = self.shelf.lock().unwrap().clone();
        self.cache.drain_magazines(|_, slot| slots.push(slot.addr().get()));
        slots.sort_unstable();
        slots
    }
}

/// A slot that is never looked into.
fn address(slot: usize) -> NonNull<u8> {
    NonNull::without_provenance(NonZeroUsize::new(slot).unwrap())
}

fn check_slots(how_many: Option<usize>) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let shared = Shared::new(3);
        let reclaimer = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.reclaim(how_many)
        });
        let first = shared.take();
        let second = shared.take();
        [first, second].into_iter().flatten().for_each(|slot| shared.give(slot));
        reclaimer.join().unwrap();
        assert!(!shared.cache.guard.is_pending());
        if how_many.is_none() {
            assert_eq!(shared.cache.held(0), 0, "a revoked cache keeps nothing");
        }
        assert_eq!(shared.slots(), [1, 2, 3]);
    });
}

#[test]
fn a_cache_that_is_drained_loses_no_slot_and_doubles_none() {
    check_slots(None);
}

#[test]
fn a_cache_whose_oldest_are_taken_loses_no_slot_and_doubles_none() {
    check_slots(Some(2));
}

/// One slot comes and goes the short way, while it is called back twice; the thread gets it again from
/// where it went.
#[test]
fn the_newest_is_in_one_hand() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let shared = Shared::new(1);
        let reclaimer = thread::spawn({
            let shared = Arc::clone(&shared);
            move || (0..2).for_each(|_| shared.reclaim(Some(1)))
        });
        for _ in 0..2 {
            let cached = shared.take();
            let mut shelf = shared.shelf.lock().unwrap();
            let shelved = shelf.pop();
            drop(shelf);
            assert!(cached.is_none() || shelved.is_none(), "it is in one place");
            cached.or(shelved.map(address)).into_iter().for_each(|slot| shared.give(slot));
        }
        reclaimer.join().unwrap();
        assert_eq!(shared.slots(), [1]);
    });
}

/// That a slot was taken out of a place once says nothing of the next time.
#[test]
fn what_was_taken_before_is_forgotten() {
    loom::model(move || {
        let shared = Shared::new(1);
        shared.reclaim(Some(1));
        assert_eq!(shared.take(), None);
        let slot = shared.shelf.lock().unwrap().pop().unwrap();
        shared.give(address(slot));
        let reclaimer = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.reclaim(Some(1))
        });
        shared.take().into_iter().for_each(|slot| shared.give(slot));
        reclaimer.join().unwrap();
        assert_eq!(shared.slots(), [1]);
    });
}

/// A cache with credit, and the bytes that are free in the ledger.
struct Account {
    cache: crate::heap::Shared<Cache>,
    free: Mutex<u64>,
}

const BYTES: u64 = 100;
const NODE: usize = 1;

impl Account {
    fn is_taken(&self, place: Place) -> bool {
        let _free = self.free.lock().unwrap();
        self.cache.open(Some(place))
    }

    fn release(&self) {
        if self.cache.unreserve_last(NODE, BYTES) {
            return;
        }
        let mut free = self.free.lock().unwrap();
        self.cache.open(None);
        *free += BYTES;
    }

    fn reserve(&self) -> bool {
        if self.cache.reserve_last(NODE, BYTES, |place| self.is_taken(place)) {
            return true;
        }
        let mut free = self.free.lock().unwrap();
        self.cache.open(None);
        let is_granted = *free >= BYTES;
        *free -= if is_granted { BYTES } else { 0 };
        is_granted
    }

    fn call_back(&self, restores: bool) {
        let mut free = self.free.lock().unwrap();
        self.cache.guard.revoke(CREDITS);
        heavy_fence();
        assert!(!self.cache.guard.is_busy(), "the short way is not busy");
        self.cache.drain_credits(|of, node, bytes| {
            assert_eq!((of, node), (Of::Reservations, NODE));
            *free += bytes;
        });
        self.cache.guard.settle();
        if restores {
            self.cache.guard.restore(0);
        }
    }
}

/// Whoever calls credit back finds all of it, and none of it twice.
fn check_bytes(restores: bool) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let classes = SizeClasses::new([SIZE]).unwrap();
        let cache = Cache::new(&[ClassLayout::of(SIZE)], classes.sure().clone()).unwrap();
        assert!(!cache.open_credit(NODE, 2 * BYTES as u32).is_asked);
        let account = Arc::new(Account { cache, free: Mutex::new(0) });
        let reclaimer = thread::spawn({
            let account = Arc::clone(&account);
            move || (0..2).for_each(|_| account.call_back(restores))
        });
        account.release();
        if account.reserve() {
            account.release();
        }
        reclaimer.join().unwrap();
        let mut credit = 0;
        account.cache.each_credit(|_, _, reserved| credit += reserved);
        assert!(restores || credit == 0, "revoked credit stays with nobody");
        assert_eq!(*account.free.lock().unwrap() + credit, BYTES);
    });
}

#[test]
fn a_reservation_that_is_left_is_credit_once() {
    check_bytes(true);
}

#[test]
fn a_reservation_that_is_left_while_revoked_is_free() {
    check_bytes(false);
}
