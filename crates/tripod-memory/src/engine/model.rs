//! The engine under loom, which tries every interleaving of the threads' steps on the lock, and on the
//! caches of those threads that ask for one.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p tripod-memory --lib --release engine::model`.
//! Loom tries two preemptions, or one in the longest, which is what the lost wakeups found so far took,
//! and all that it gets through in seconds. A thread of a model has a cache only after [`attach`](local::attach).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use loom::thread;

use crate::{Budget, Buffer, MemoryManager, Reserve, local};

const PAGE: usize = 4096;

/// Remembers that it was woken. Not loom's: only read when all threads have ended.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Flag {
    fn new() -> (Arc<Self>, Waker) {
        let flag = Arc::new(Self::default());
        (flag.clone(), Waker::from(flag))
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

fn model(run: impl Fn() + Sync + Send + 'static) {
    model_of(2, run);
}

fn model_of(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 20_000;
    model.check(run);
}

/// A manager with buffers of one page, and of all but one.
fn manager(budget_pages: usize) -> MemoryManager {
    let builder = MemoryManager::builder().budget_bytes((budget_pages * PAGE) as u64);
    let large = budget_pages.saturating_sub(1).max(2) * PAGE;
    builder.size_classes([PAGE, large]).unwrap().ttl(TTL).build().unwrap()
}

const TTL: Duration = Duration::from_secs(8);

fn attach(memory: &MemoryManager) {
    local::attach(memory.root().engine());
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

/// Nothing is out any more, and nothing that is idle is out of reach.
#[track_caller]
fn check_all_is_back(memory: &MemoryManager) {
    let stats = memory.stats();
    assert_eq!((stats.used_bytes, stats.reserved_bytes, stats.waiting), (0, 0, 0));
    assert_eq!(memory.trim(), stats.idle_bytes);
    assert!(stats.peak_bytes <= stats.budget_bytes);
}

#[test]
fn a_wait_that_is_dropped_while_it_is_granted_loses_nothing() {
    model(|| {
        let memory = manager(1);
        let held = memory.try_reserve(PAGE as u64).unwrap();
        let releaser = thread::spawn(move || drop(held));
        let mut reserve = memory.reserve(1);
        let _ = poll(&mut reserve, Waker::noop());
        drop(reserve);
        releaser.join().unwrap();
        check_all_is_back(&memory);
        assert!(memory.try_reserve(PAGE as u64).is_ok());
    });
}

#[test]
fn the_next_in_line_gets_what_a_dropped_wait_was_granted() {
    model(|| {
        let memory = manager(1);
        let whole = PAGE as u64;
        let held = memory.try_reserve(whole).unwrap();
        let dropped = pending(&memory, whole, Waker::noop());
        let (flag, waker) = Flag::new();
        let mut next = pending(&memory, whole, &waker);

        let releaser = thread::spawn(move || drop(held));
        let canceller = thread::spawn(move || drop(dropped));
        releaser.join().unwrap();
        canceller.join().unwrap();

        assert!(flag.is_set(), "the next in line is woken");
        assert_eq!(poll(&mut next, &waker), Poll::Ready(whole));
        check_all_is_back(&memory);
    });
}

fn check_a_buffer_that_comes_back_frees_a_reservation(is_attached: bool) {
    model(move || {
        let memory = manager(1);
        if is_attached {
            attach(&memory);
        }
        let buffer = memory.acquire(PAGE).unwrap();
        let (flag, waker) = Flag::new();
        let waiter = thread::spawn({
            let (memory, waker) = (memory.clone(), waker.clone());
            move || {
                let mut reserve = memory.reserve(1);
                let first = poll(&mut reserve, &waker);
                (reserve, first)
            }
        });
        drop(buffer);
        let (mut reserve, first) = waiter.join().unwrap();
        if first.is_pending() {
            assert!(flag.is_set(), "no wakeup is lost");
            assert_eq!(poll(&mut reserve, &waker), Poll::Ready(1));
        }
        check_all_is_back(&memory);
    });
}

#[test]
fn a_buffer_that_comes_back_while_a_reservation_waits_is_freed_for_it() {
    check_a_buffer_that_comes_back_frees_a_reservation(false);
}

#[test]
fn a_buffer_that_comes_back_to_a_cache_is_freed_for_a_reservation_that_waits() {
    check_a_buffer_that_comes_back_frees_a_reservation(true);
}

#[test]
fn an_acquire_waits_out_a_free_that_makes_room_for_it() {
    model(|| {
        let memory = manager(2);
        drop(memory.acquire(2 * PAGE).unwrap());
        let other = memory.clone();
        // Each evicts the one idle buffer of two pages or finds it being freed; both fit.
        let taker = thread::spawn(move || other.acquire(PAGE).map(|buffer| buffer.len()));
        let here = memory.acquire(PAGE).map(|buffer| buffer.len());
        assert_eq!((here, taker.join().unwrap()), (Ok(PAGE), Ok(PAGE)));
        check_all_is_back(&memory);
    });
}

#[test]
fn what_another_thread_has_cached_is_no_reason_for_a_refusal() {
    model(|| {
        let memory = manager(2);
        attach(&memory);
        let here = memory.acquire(PAGE).unwrap();
        let other = memory.clone();
        // One page is free whatever this thread does, and the other one is idle or out as a page.
        let taker = thread::spawn(move || other.acquire(PAGE).map(|buffer| buffer.len()));
        drop(here);
        let again = memory.acquire(PAGE).map(|buffer| buffer.len());
        assert_eq!((again, taker.join().unwrap()), (Ok(PAGE), Ok(PAGE)));

        let other = memory.clone();
        let taker = thread::spawn(move || other.acquire(2 * PAGE).map(|buffer| buffer.len()));
        assert_eq!(taker.join().unwrap(), Ok(2 * PAGE), "all is idle");
        check_all_is_back(&memory);
    });
}

/// What comes back in time for an insistent acquire is its own, wherever it was put.
#[test]
fn two_threads_with_caches_call_each_other_back() {
    model_of(1, || {
        let memory = manager(2);
        let use_both = |memory: &MemoryManager| {
            attach(memory);
            drop(memory.acquire(PAGE));
            memory.acquire(2 * PAGE).map(drop).is_ok()
        };
        let other = memory.clone();
        let taker = thread::spawn(move || use_both(&other));
        let here = use_both(&memory);
        let there = taker.join().unwrap();
        assert!(here || there, "the last one finds nothing out");
        check_all_is_back(&memory);
    });
}

/// A thread works in its cache as an acquire calls everything back and the collector takes a part. Whoever
/// waits for the thread to give up the rest must get it.
#[test]
fn an_acquire_that_waits_for_a_busy_thread_is_not_forgotten_by_a_collection() {
    model(|| {
        let memory = manager(4);
        attach(&memory);
        let acquire = |count| -> Vec<_> { (0..count).map(|_| memory.acquire(PAGE)).collect() };
        drop(acquire(3));
        let start = Instant::now();
        memory.collect(start + TTL, Duration::from_secs(1));
        // Of the two that are not the newest one is needed and one is not.
        drop(acquire(2));
        let other = memory.clone();
        let taker = thread::spawn(move || other.acquire(3 * PAGE).map(|buffer| buffer.len()));
        let other = memory.clone();
        let collector = thread::spawn(move || {
            other.collect(start + 2 * TTL, Duration::from_secs(1));
        });
        // One page is out at most, which leaves three; or three are, which leaves one.
        drop(memory.acquire(PAGE).unwrap());
        assert_eq!(taker.join().unwrap(), Ok(3 * PAGE));
        collector.join().unwrap();
        check_all_is_back(&memory);
    });
}

/// A thread with credit is asked for that while at work, and for more before it has heard of it.
#[test]
fn credit_that_a_busy_thread_was_asked_for_comes_back_when_more_is_asked_for() {
    const CREDIT: u64 = 100;
    model(|| {
        let memory = manager(3);
        attach(&memory);
        let budget = memory.budget("small").limit_bytes(32 * CREDIT).create().unwrap();
        // The first opens the credit, the second becomes it.
        (0..2).for_each(|_| drop(budget.try_reserve(CREDIT).unwrap()));
        let (flag, waker) = Flag::new();
        let waiter = thread::spawn({
            let (budget, waker): (Budget, _) = (budget.clone(), waker.clone());
            move || {
                let mut reserve = budget.reserve(32 * CREDIT);
                let first = poll(&mut reserve, &waker);
                (reserve, first)
            }
        });
        let other = memory.clone();
        let trimmer = thread::spawn(move || other.trim());
        drop(budget.try_reserve(CREDIT));
        let (mut reserve, first) = waiter.join().unwrap();
        trimmer.join().unwrap();
        if first.is_pending() {
            assert!(flag.is_set(), "no wakeup is lost");
            assert_eq!(poll(&mut reserve, &waker), Poll::Ready(32 * CREDIT));
        }
        check_all_is_back(&memory);
    });
}

#[test]
fn a_thread_that_ends_gives_up_what_is_waited_for() {
    model(|| {
        let memory = manager(2);
        let other = memory.clone();
        let ending = thread::spawn(move || {
            attach(&other);
            drop::<Option<Buffer>>(other.acquire(PAGE).ok());
        });
        let (flag, waker) = Flag::new();
        let mut reserve = memory.reserve(2 * PAGE as u64);
        let first = poll(&mut reserve, &waker);
        ending.join().unwrap();
        if first.is_pending() {
            assert!(flag.is_set(), "no wakeup is lost");
            assert_eq!(poll(&mut reserve, &waker), Poll::Ready(2 * PAGE as u64));
        }
        check_all_is_back(&memory);
    });
}
