//! What a simple pool gets wrong, each with a test that it would not pass.
//!
//! What is told apart elsewhere: memory that does not go back, and bursts (`residency`), limits
//! passed by many at once (`limits`), wrong refusals (`refusals`), counts that drift and threads that
//! leak (`threads`). Here: hits that are none, and threads that wait for each other.
#![allow(unsafe_code, reason = "faults, signals and forks are the system's")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use std::thread;
use std::time::Duration;

use tripod_memory::{Buffer, MemoryManager, Pooled, Reservation};

use crate::manager;
use crate::own_process::{alone, touch};

const PAGE: u64 = 4096;

/// Page faults of the calling thread that needed no disk.
fn faults() -> u64 {
    // SAFETY: the call fills a struct of this function's.
    unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage), 0);
        u64::try_from(usage.ru_minflt).unwrap()
    }
}

/// A page, a span of several buffers, a span of one, and a large one.
const LENS: [usize; 6] = [64, 4096, 5120, 20 << 10, 64 << 10, 1 << 20];

#[test]
fn a_hit_costs_no_page_fault_and_a_miss_no_more_than_its_span() {
    alone("pitfalls::a_hit_costs_no_page_fault_and_a_miss_no_more_than_its_span", || {
        let builder = MemoryManager::builder().budget_bytes(256 << 20);
        let memory = builder.background_collection(false).build().unwrap();
        let mut held = Vec::with_capacity(1000);
        for len in LENS {
            let count = ((8 << 20) / len).clamp(8, 1000);
            let (before, at_first) = (memory.stats(), faults());
            held.extend((0..count).map(|_| memory.acquire(len).unwrap()));
            held.iter_mut().for_each(|buffer| touch(buffer));
            let (cold, cold_faults) = (memory.stats(), faults() - at_first);
            let committed = (cold.committed_bytes - before.committed_bytes) / PAGE;
            let misses = cold.misses - before.misses;
            // All there was to begin with, and for each miss the pages that it asked for.
            assert!(misses > 0 && committed >= misses, "{len} B: {cold:?}");
            let slack = 64;
            assert!(
                cold_faults <= committed + slack,
                "{len} B: {cold_faults} for {committed} pages"
            );
            held.clear();
            let at_second = faults();
            for _ in 0..3 {
                held.extend((0..count).map(|_| memory.acquire(len).unwrap()));
                held.iter_mut().for_each(|buffer| touch(buffer));
                held.clear();
            }
            let (warm, warm_faults) = (memory.stats(), faults() - at_second);
            assert_eq!(warm.misses, cold.misses, "{len} B");
            assert_eq!(warm.hits - cold.hits, 3 * count as u64);
            assert!(warm_faults <= 8, "{len} B: {warm_faults} faults for {} hits", 3 * count);
        }
    });
}

#[test]
fn what_went_back_is_a_miss_when_it_is_asked_for_again() {
    let memory = manager(64 << 20);
    for round in 1..=5 {
        drop([(); 10].map(|()| memory.acquire(64 << 10).unwrap()));
        assert_eq!(memory.stats().misses, round * 10, "nothing was kept by the trim");
        memory.trim();
    }
    assert_eq!(memory.stats().hits, 0);
}

#[test]
fn buffers_that_flow_one_way_are_hits_and_few() {
    let count: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    let memory = manager(u64::MAX);
    let (to, from) = sync_channel::<Buffer>(64);
    thread::scope(|scope| {
        scope.spawn(move || {
            for (index, buffer) in from.iter().enumerate() {
                assert_eq!(buffer[..8], (index as u64).to_le_bytes(), "overwritten on its way");
            }
        });
        for index in 0..count {
            let mut buffer = memory.acquire(4096).unwrap();
            buffer[..8].copy_from_slice(&index.to_le_bytes());
            to.send(buffer).unwrap();
        }
        drop(to);
    });
    let stats = memory.stats();
    assert_eq!(stats.hits + stats.misses, count);
    assert!(stats.hit_rate() >= 0.99, "{stats:?}");
    // In flight, in two caches of two batches, and in eight places for a batch; each a page.
    let bound = 64 + 2 + 2 * 33 + 8 * 16 + 16;
    assert!(stats.peak_bytes <= bound * PAGE, "{} pages", stats.peak_bytes / PAGE);
}

#[test]
fn one_giant_does_not_make_the_pool_a_giant() {
    let memory = manager(4 << 30);
    for _ in 0..20 {
        let small: Vec<_> = (0..100).map(|_| memory.acquire(4096).unwrap()).collect();
        drop(memory.acquire(1 << 30).unwrap());
        drop(small);
    }
    assert!(memory.stats().committed_bytes <= 200 * PAGE, "{:?}", memory.stats());
}

/// How often a thread was stopped, and let go.
static HALTED: AtomicUsize = AtomicUsize::new(0);
static RESUMED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn halt(_signal: libc::c_int) {
    let round = HALTED.fetch_add(1, Ordering::SeqCst) + 1;
    while RESUMED.load(Ordering::SeqCst) < round {
        std::hint::spin_loop();
    }
}

#[test]
fn a_thread_that_is_stopped_anywhere_stops_no_hit_of_another() {
    alone("pitfalls::a_thread_that_is_stopped_anywhere_stops_no_hit_of_another", || {
        // Who waits for a thread that is stopped waits for ever: then this ends the process.
        // SAFETY: always possible.
        unsafe { libc::alarm(60) };
        // SAFETY: the handler touches atomics alone.
        unsafe { libc::signal(libc::SIGUSR1, halt as *const () as libc::sighandler_t) };
        let builder = MemoryManager::builder().background_collection(false);
        let memory = builder.build().unwrap();
        let is_done = AtomicBool::new(false);
        let (to, from) = channel();
        thread::scope(|scope| {
            // It has the manager's lock nearly all the time, so that is where it is stopped.
            scope.spawn(|| {
                // SAFETY: always possible.
                to.send(unsafe { libc::pthread_self() }).unwrap();
                while !is_done.load(Ordering::Relaxed) {
                    drop(memory.acquire(100_000).unwrap());
                    memory.stats();
                }
            });
            let thread = from.recv().unwrap();
            drop(memory.acquire(4096).unwrap());
            let child = memory.budget("child").create().unwrap();
            (0..2)
                .for_each(|_| drop((child.acquire(4096).unwrap(), child.try_reserve(10).unwrap())));
            let before = memory.stats().misses;
            for round in 1..=200 {
                // SAFETY: the thread is in the scope, so it is there.
                assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR1) }, 0);
                while HALTED.load(Ordering::SeqCst) < round {
                    std::hint::spin_loop();
                }
                // With a lock on the way this would hang in one of the first rounds.
                for _ in 0..100 {
                    drop(memory.acquire(4096).unwrap());
                    drop(child.acquire(4096).unwrap());
                    drop(child.try_reserve(10).unwrap());
                }
                RESUMED.store(round, Ordering::SeqCst);
            }
            is_done.store(true, Ordering::Relaxed);
            assert!(memory.stats().misses <= before + 1);
        });
    });
}

#[test]
fn a_child_process_goes_on_with_memory_of_its_own() {
    alone("pitfalls::a_child_process_goes_on_with_memory_of_its_own", || {
        let builder = MemoryManager::builder().budget_bytes(1 << 20);
        let memory = builder.background_collection(false).build().unwrap();
        let mut kept = memory.acquire(4096).unwrap();
        kept.fill(1);
        drop([(); 5].map(|()| memory.acquire(64 << 10).unwrap()));
        // SAFETY: the other threads of this process hold no lock that is needed below.
        let child = unsafe { libc::fork() };
        if child == 0 {
            kept.fill(2);
            let more = memory.acquire(4096).is_ok_and(|buffer| buffer.as_ptr() != kept.as_ptr());
            // Calls back the caches and gives back what is idle.
            let all = memory.acquire(768 << 10).is_ok();
            memory.trim();
            let is_right = more && all && memory.stats().used_bytes == 4096;
            // SAFETY: it returns to nobody.
            unsafe { libc::_exit(if is_right { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: the child is this process's, and the status has a place.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "the child's answer");
        assert!(kept.iter().all(|&byte| byte == 1));
        assert_eq!(memory.stats().idle_bytes, 5 << 16);
    });
}

/// Answers `false` for what is not `Clone`; an inherent constant goes before that of a trait.
struct IsClone<T>(std::marker::PhantomData<T>);

trait Otherwise {
    const ANSWER: bool = false;
}

impl<T> Otherwise for IsClone<T> {}

impl<T: Clone> IsClone<T> {
    const ANSWER: bool = true;
}

#[test]
fn nothing_that_gives_back_when_it_is_dropped_can_be_copied() {
    const { assert!(IsClone::<MemoryManager>::ANSWER) };
    const { assert!(!IsClone::<Buffer>::ANSWER) };
    const { assert!(!IsClone::<Reservation>::ANSWER) };
    const { assert!(!IsClone::<Pooled<Vec<u8>>>::ANSWER) };
}

#[test]
fn collecting_and_trimming_all_the_time_loses_no_byte_of_those_at_work() {
    let builder = MemoryManager::builder().budget_bytes(8 << 20).ttl(Duration::from_nanos(8));
    let memory = builder.build().unwrap();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                memory.collect(std::time::Instant::now(), Duration::from_micros(50));
                memory.trim();
            }
        });
        let workers = [1_u8, 2, 3].map(|mark| {
            let memory = &memory;
            scope.spawn(move || {
                for index in 0..3000_usize {
                    let mut held =
                        [64, 4096, 5120, 100_000].map(|len| memory.acquire(len).unwrap());
                    held.iter_mut().for_each(|buffer| buffer.fill(mark ^ index as u8));
                    assert!(
                        held.iter()
                            .all(|buffer| buffer.iter().all(|&byte| byte == mark ^ index as u8))
                    );
                }
            })
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        is_done.store(true, Ordering::Relaxed);
    });
    let stats = memory.stats();
    assert_eq!((stats.used_bytes, stats.hits + stats.misses), (0, 36_000));
}
