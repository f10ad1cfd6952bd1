//! The engine under loom, which tries every interleaving of the threads' steps on the lock.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p tripod-memory --lib --release engine::model`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use loom::thread;

use crate::{MemoryManager, Reserve};

/// Remembers that it was woken. Not loom's: only read when all threads have ended.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn manager(budget_bytes: u64) -> MemoryManager {
    MemoryManager::builder().budget_bytes(budget_bytes).build().unwrap()
}

fn poll(reserve: &mut Reserve, waker: &Waker) -> Poll<u64> {
    let mut cx = Context::from_waker(waker);
    std::pin::Pin::new(reserve).poll(&mut cx).map(|granted| granted.unwrap().bytes())
}

fn pending(memory: &MemoryManager, bytes: u64, waker: &Waker) -> Reserve {
    let mut reserve = memory.reserve(bytes);
    assert!(poll(&mut reserve, waker).is_pending());
    reserve
}

#[test]
fn a_wait_that_is_dropped_while_it_is_granted_loses_nothing() {
    loom::model(|| {
        let memory = manager(1);
        let held = memory.try_reserve(1).unwrap();
        let releaser = thread::spawn(move || drop(held));
        let mut reserve = memory.reserve(1);
        let _ = poll(&mut reserve, Waker::noop());
        drop(reserve);
        releaser.join().unwrap();
        assert!(memory.try_reserve(1).is_ok());
    });
}

#[test]
fn the_next_in_line_gets_what_a_dropped_wait_was_granted() {
    loom::model(|| {
        let memory = manager(1);
        let held = memory.try_reserve(1).unwrap();
        let dropped = pending(&memory, 1, Waker::noop());
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(flag.clone());
        let mut next = pending(&memory, 1, &waker);

        let releaser = thread::spawn(move || drop(held));
        let canceller = thread::spawn(move || drop(dropped));
        releaser.join().unwrap();
        canceller.join().unwrap();

        assert!(flag.0.load(Ordering::SeqCst), "the next in line is woken");
        assert_eq!(poll(&mut next, &waker), Poll::Ready(1));
        assert_eq!(memory.stats().reserved_bytes, 0);
    });
}

#[test]
fn a_buffer_that_comes_back_while_a_reservation_waits_is_freed_for_it() {
    loom::model(|| {
        let memory = manager(64);
        let buffer = memory.acquire(64).unwrap();
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(flag.clone());
        let returner = thread::spawn(move || drop(buffer));
        let mut reserve = memory.reserve(1);
        let first = poll(&mut reserve, &waker);
        returner.join().unwrap();

        if first.is_pending() {
            assert!(flag.0.load(Ordering::SeqCst), "no wakeup is lost");
            assert_eq!(poll(&mut reserve, &waker), Poll::Ready(1));
        }
        assert_eq!((memory.stats().idle_bytes, memory.stats().used_bytes), (0, 0));
    });
}

#[test]
fn an_acquire_waits_out_a_free_that_makes_room_for_it() {
    loom::model(|| {
        let memory = manager(128);
        drop(memory.acquire(128).unwrap());
        let other = memory.clone();
        // Each evicts the one idle buffer of 128 bytes or finds it being freed; both fit.
        let taker = thread::spawn(move || other.acquire(64).map(|buffer| buffer.len()));
        let here = memory.acquire(64).map(|buffer| buffer.len());
        assert_eq!((here, taker.join().unwrap()), (Ok(64), Ok(64)));
        assert!(memory.stats().peak_bytes <= 128);
    });
}
