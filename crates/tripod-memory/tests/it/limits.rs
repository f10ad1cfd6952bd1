//! Limits that hold whatever is asked, and answers to what cannot be had.
#![allow(unsafe_code, reason = "a limit on address space is set by a system call")]
#![allow(clippy::print_stdout, reason = "some figures are of interest as they are")]

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use tripod_memory::{AcquireError, BudgetError, BuildError, MemoryManager, ReserveError};

use crate::manager;
use crate::own_process::{alone, mapped_bytes, resident_at_once, touch};
use crate::random::Random;

const MIB: u64 = 1 << 20;

/// Takes buffers, writes every page, keeps up to four and gives some of them to another thread.
fn burden(memory: &MemoryManager, seed: u64, rounds: usize) {
    let mut random = Random(seed);
    let (to, from) = channel();
    thread::scope(|scope| {
        scope.spawn(move || from.iter().for_each(drop));
        let mut held = Vec::new();
        for _ in 0..rounds {
            let pages = 1 << random.below(8);
            if let Ok(mut buffer) = memory.acquire(pages << 12) {
                touch(&mut buffer);
                held.push(buffer);
            }
            if held.len() > random.below(5) as usize {
                to.send(held.swap_remove(random.below(held.len() as u64) as usize)).unwrap();
            }
            if let Ok(reservation) = memory.try_reserve(random.below(MIB)) {
                drop(reservation);
            }
        }
        drop((held, to));
    });
}

#[test]
fn an_observer_never_sees_more_than_the_limit_committed_or_resident() {
    alone("limits::an_observer_never_sees_more_than_the_limit_committed_or_resident", || {
        const THREADS: usize = 32;
        const LIMIT: u64 = 12 * MIB;
        let memory = manager(LIMIT);
        let (start, running) = (Barrier::new(THREADS + 1), AtomicUsize::new(THREADS));
        let (mut committed, mut resident, mut samples) = (0, 0, 0);
        let before = thread::scope(|scope| {
            for index in 0..THREADS {
                let (memory, start, running) = (&memory, &start, &running);
                scope.spawn(move || {
                    burden(memory, 7 + index as u64, 20);
                    start.wait();
                    start.wait();
                    burden(memory, 77 + index as u64, 300);
                    running.fetch_sub(1, Ordering::SeqCst);
                });
            }
            // Every thread has its stack and its cache, and no buffer.
            start.wait();
            memory.trim();
            let before = resident_at_once();
            start.wait();
            while running.load(Ordering::SeqCst) > 0 {
                committed = memory.stats().committed_bytes.max(committed);
                resident = resident_at_once().max(resident);
                samples += 1;
            }
            before
        });
        let more = resident - before;
        println!("{samples} samples: {committed} committed, {more} resident at most");
        assert!(committed <= LIMIT && memory.stats().peak_bytes <= LIMIT);
        assert!(memory.stats().peak_bytes > LIMIT - MIB, "there was no crowd at the limit");
        // The headers of regions, the books, and what the kernel's count is off by.
        assert!(more <= LIMIT + 3 * MIB, "{more} bytes are resident");
    });
}

fn limit_address_space(bytes: u64) {
    // SAFETY: both calls get a struct of this function's to read or write.
    unsafe {
        let mut limit = std::mem::zeroed::<libc::rlimit>();
        assert_eq!(libc::getrlimit(libc::RLIMIT_AS, &raw mut limit), 0);
        limit.rlim_cur = bytes.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &raw const limit), 0);
    }
}

#[test]
fn a_system_without_memory_is_an_error_and_later_forgotten() {
    alone("limits::a_system_without_memory_is_an_error_and_later_forgotten", || {
        let memory = manager(1 << 30);
        let child = memory.budget("child").create().unwrap();
        // A region for buffers of a page is there, and the thread's cache.
        let page = child.acquire(4096).unwrap();
        let before = memory.stats();
        // The books, and the test, may grow a little; a region does not fit.
        limit_address_space(mapped_bytes() + MIB);
        for len in [8192, 64 << 10, 1 << 20, 64 << 20, (64 << 20) + 1, 512 << 20] {
            for budget in [memory.root(), &child] {
                let refused = budget.acquire(len).unwrap_err();
                assert!(
                    matches!(refused, AcquireError::OutOfMemory { needed_bytes } if needed_bytes >= len as u64),
                    "{refused}"
                );
                assert!(budget.try_acquire(len).is_err());
            }
        }
        // What is mapped is still of use, and nothing was charged for the rest.
        let more: Vec<_> = (0..100).map(|_| child.acquire(4096).unwrap()).collect();
        let stats = memory.stats();
        assert_eq!((stats.refused - before.refused, stats.reserved_bytes), (24, 0));
        assert_eq!((stats.used_bytes, child.used_bytes()), (101 << 12, 101 << 12));
        drop((more, page));
        // What is idle is given up before the answer is no.
        memory.acquire(1 << 20).unwrap_err();
        assert_eq!(memory.stats().idle_bytes, 0);
        limit_address_space(u64::MAX);
        for len in [4096, 64 << 10, 64 << 20, 512 << 20] {
            touch(&mut child.acquire(len).unwrap()[..4096]);
        }
    });
}

/// Takes all that the heap has left, to the last few bytes.
fn exhaust_heap(taken: &mut Vec<Vec<u8>>) {
    let mut len = MIB as usize;
    while len >= 16 {
        let mut piece = Vec::new();
        match piece.try_reserve_exact(len) {
            Ok(()) if taken.len() < taken.capacity() => taken.push(piece),
            Ok(()) => panic!("the heap has no end"),
            Err(_) => len /= 2,
        }
    }
}

#[test]
fn a_thread_whose_heap_is_exhausted_gets_an_error_and_later_a_buffer() {
    alone("limits::a_thread_whose_heap_is_exhausted_gets_an_error_and_later_a_buffer", || {
        let (memory, other) = (manager(1 << 30), manager(1 << 30));
        let lens = [100, 4096, 70_000, 1 << 20, 65 << 20];
        thread::scope(|scope| {
            scope.spawn(|| {
                // The system registers the end of a thread's caches with the first, and has no answer
                // for when it cannot.
                drop(other.acquire(64).unwrap());
                let mut taken = Vec::with_capacity(1 << 16);
                limit_address_space(mapped_bytes());
                exhaust_heap(&mut taken);
                let outcomes = lens.map(|len| memory.acquire(len).map(drop));
                let in_vain = memory.try_reserve(1000).map(drop);
                limit_address_space(u64::MAX);
                drop(taken);
                in_vain.unwrap();
                for outcome in outcomes {
                    assert!(matches!(outcome, Err(AcquireError::OutOfMemory { .. })));
                }
                lens.iter().for_each(|&len| drop(memory.acquire(len).unwrap()));
            });
        });
        assert_eq!((memory.stats().used_bytes, memory.stats().refused), (0, lens.len() as u64));
    });
}

#[test]
fn idle_regions_are_unmapped_for_a_mapping_that_needs_their_addresses() {
    alone("limits::idle_regions_are_unmapped_for_a_mapping_that_needs_their_addresses", || {
        let memory = manager(1 << 30);
        drop([(); 8].map(|()| memory.acquire(16 << 20).unwrap()));
        limit_address_space(mapped_bytes());
        assert!(memory.acquire(100 << 20).is_ok(), "128 MiB were idle");
    });
}

#[test]
fn times_to_live_that_mean_nothing_are_refused() {
    let build = |ttl, class_ttl: Option<(usize, Duration)>| {
        let builder = MemoryManager::builder().ttl(ttl).background_collection(false);
        match class_ttl {
            Some((size, ttl)) => builder.class_ttl(size, ttl).build(),
            None => builder.build(),
        }
    };
    let second = Duration::from_secs(1);
    assert!(matches!(build(Duration::ZERO, None), Err(BuildError::ZeroTtl)));
    assert!(matches!(build(second, Some((4096, Duration::ZERO))), Err(BuildError::ZeroTtl)));
    let no_class = build(second, Some(((64 << 20) + 1, second)));
    assert!(matches!(no_class, Err(BuildError::NoClass { size_bytes: 67_108_865 })));
    assert!(no_class.unwrap_err().to_string().contains("67108865"));
    for ttl in [Duration::from_nanos(1), Duration::MAX] {
        for class_ttl in [Duration::from_nanos(1), Duration::MAX] {
            let memory = build(ttl, Some((4096, class_ttl))).unwrap();
            drop(memory.acquire(4096).unwrap());
            memory.collect(Instant::now(), Duration::MAX);
            assert!(memory.stats().idle_bytes <= 4096);
        }
    }
}

#[test]
fn a_clock_that_goes_back_collects_nothing_and_harms_nothing() {
    let now = Instant::now() + Duration::from_secs(1000);
    let memory = MemoryManager::builder().background_collection(false).build().unwrap();
    memory.collect(now, Duration::MAX);
    drop([(); 50].map(|()| memory.acquire(16 << 10).unwrap()));
    for _ in 0..20 {
        let collected = memory.collect(now - Duration::from_secs(900), Duration::MAX);
        assert_eq!((collected.bytes, collected.is_finished), (0, true));
        assert_eq!(memory.collect(now, Duration::MAX).bytes, 0);
    }
    assert_eq!(memory.stats().idle_bytes, 50 << 14);
}

#[test]
fn the_longest_buffer_there_can_be_is_a_buffer() {
    let memory = MemoryManager::builder().build().unwrap();
    let longest = (1_usize << 37) - 1;
    match memory.acquire(longest) {
        Ok(mut buffer) => {
            assert_eq!((buffer.len(), buffer.capacity()), (longest, longest + 1));
            buffer[longest - 1] = 1;
            assert_eq!(buffer[longest - 1], 1);
        }
        // Where the system promises no more than it has.
        Err(error) => assert!(matches!(error, AcquireError::OutOfMemory { .. }), "{error}"),
    }
    for len in [longest + 1, usize::MAX / 2, usize::MAX - 4095, usize::MAX] {
        let error = memory.acquire(len).unwrap_err();
        assert!(matches!(error, AcquireError::TooLong { max_bytes, .. } if max_bytes == longest));
    }
    assert_eq!(memory.stats().committed_bytes, 0);
}

#[test]
fn as_many_classes_as_there_can_be_work_and_one_more_is_refused() {
    let sizes = |count: usize| (1..=count).map(|index| index * 48);
    assert!(MemoryManager::builder().size_classes(sizes(128)).is_err());
    let endless = MemoryManager::builder().size_classes(1..).unwrap_err();
    assert_eq!(endless.to_string(), "there are more than 127 size classes");
    let builder = MemoryManager::builder().size_classes(sizes(127)).unwrap();
    let memory = builder.background_collection(false).build().unwrap();
    for len in 1..=127 * 48 {
        let mut buffer = memory.acquire(len).unwrap();
        assert_eq!(buffer.capacity(), len.next_multiple_of(48));
        buffer.fill(len as u8);
    }
    // Above the largest it is whole pages, of the system's.
    assert_eq!(memory.acquire(127 * 48 + 1).unwrap().capacity(), 8192);
}

#[test]
fn as_many_budgets_as_there_can_be_work_and_one_more_is_refused() {
    let memory = manager(1 << 20);
    let mut budgets = vec![memory.root().clone()];
    loop {
        let parent = &budgets[budgets.len() / 4];
        match parent.budget(&format!("{}", budgets.len())).create() {
            Ok(budget) => budgets.push(budget),
            Err(BudgetError::TooMany { max }) => break assert_eq!(max, budgets.len() - 1),
            Err(error) => panic!("{error}"),
        }
    }
    let last = budgets.last().unwrap();
    let (buffer, reservation) = (last.acquire(4096).unwrap(), last.try_reserve(100).unwrap());
    assert_eq!((last.used_bytes(), memory.root().used_bytes()), (4196, 4196));
    drop((buffer, reservation));
    assert_eq!(last.used_bytes(), 0);
    // An old one is found again all the same.
    assert!(memory.budget("1").create().is_ok());
}

#[test]
fn a_budget_of_one_byte_is_a_budget() {
    let memory = manager(1);
    assert!(matches!(
        memory.acquire(1),
        Err(AcquireError::Unsatisfiable { needed_bytes: 4096, budget_bytes: 1, .. })
    ));
    assert!(memory.acquire(0).unwrap().is_empty());
    let all = memory.try_reserve(1).unwrap();
    assert!(matches!(memory.try_reserve(1), Err(ReserveError::WouldWait { free_bytes: 0, .. })));
    assert!(matches!(memory.try_reserve(2), Err(ReserveError::Unsatisfiable { .. })));
    drop(all);
    let child = memory.budget("child").limit_bytes(1).create().unwrap();
    assert!(child.try_reserve(1).is_ok());
    assert!(child.acquire(usize::MAX).is_err());
}
