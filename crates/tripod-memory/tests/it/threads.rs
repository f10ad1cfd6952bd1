//! Threads that come and go, managers that come and go, and what is held while they do.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Barrier};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use tripod_memory::{Buffer, MemoryManager, Reservation};

use crate::{Wakes, granted, in_line, manager, poll, poll_with};

/// Takes and gives back buffers of three sizes; answers how many, and for how many bytes.
fn use_some(memory: &MemoryManager, seed: usize) -> (u64, u64) {
    let lens = [100 + seed % 50, 5000, 70_000];
    for len in lens {
        let mut buffer = memory.acquire(len).unwrap();
        buffer[len - 1] = seed as u8;
        assert_eq!(buffer[len - 1], seed as u8);
    }
    (lens.len() as u64, lens.iter().sum::<usize>() as u64)
}

#[track_caller]
fn assert_is_empty(memory: &MemoryManager) {
    let stats = memory.stats();
    assert_eq!((stats.used_bytes, stats.reserved_bytes, stats.waiting), (0, 0, 0), "{stats:?}");
    assert_eq!(memory.trim(), stats.idle_bytes);
    assert_eq!(memory.stats().committed_bytes, 0);
}

#[test]
fn counts_of_a_thousand_threads_that_have_ended_are_exact() {
    let memory = manager(64 << 20);
    let (mut acquired, mut bytes) = (0, 0);
    for wave in 0..125_usize {
        let spawn = |index| {
            let memory = memory.clone();
            thread::spawn(move || use_some(&memory, wave * 8 + index))
        };
        for thread in [0, 1, 2, 3, 4, 5, 6, 7].map(spawn) {
            let used = thread.join().unwrap();
            acquired += used.0;
            bytes += used.1;
        }
    }
    let stats = memory.stats();
    assert_eq!((stats.hits + stats.misses, stats.requested_bytes), (acquired, bytes));
    assert_eq!((acquired, stats.refused), (3000, 0));
    let by_class: u64 = memory.class_stats().iter().map(|class| class.hits + class.misses).sum();
    assert_eq!(by_class, acquired);
    assert_is_empty(&memory);
}

#[test]
fn thousands_of_short_threads_leave_nothing_behind() {
    let memory = manager(16 << 20);
    let (to, from) = channel::<Buffer>();
    let count = if cfg!(debug_assertions) { 3000 } else { 10_000_usize };
    for index in 0..count {
        let (memory, to) = (memory.clone(), to.clone());
        let thread = thread::spawn(move || {
            let kept = memory.acquire(4096).unwrap();
            drop(memory.acquire(4096 << (index % 4)).unwrap());
            // Freed by another thread than the one that took it, which is gone by then.
            to.send(kept).unwrap();
        });
        thread.join().unwrap();
        if index % 3 == 0 {
            from.try_iter().for_each(drop);
        }
    }
    from.try_iter().for_each(drop);
    let stats = memory.stats();
    assert_eq!((stats.hits + stats.misses, stats.used_bytes), (2 * count as u64, 0));
    assert!(stats.committed_bytes < 1 << 20, "{stats:?}");
    assert_is_empty(&memory);
}

thread_local! {
    /// Declared here, used in the order that a test wants.
    static KEPT: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// Gives back, and takes anew, while the thread ends.
struct Kept {
    memory: MemoryManager,
    _buffers: Vec<Buffer>,
    _reservation: Reservation,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut buffer = self.memory.acquire(4096).expect("a thread that ends may still ask");
        buffer.fill(3);
        drop(self.memory.try_reserve(10).expect("and reserve"));
    }
}

fn keep(memory: &MemoryManager, child: bool) {
    let budget = match child {
        true => memory.budget("child").create().unwrap(),
        false => memory.root().clone(),
    };
    let kept = Kept {
        memory: memory.clone(),
        _buffers: [64, 4096, 100_000].map(|len| budget.acquire(len).unwrap()).into(),
        _reservation: budget.try_reserve(500).unwrap(),
    };
    KEPT.with_borrow_mut(|all| all.push(kept));
}

#[test]
fn destructors_of_a_thread_may_give_back_and_take() {
    let memory = manager(64 << 20);
    for is_child in [false, true] {
        for is_first in [false, true] {
            let memory = memory.clone();
            let thread = thread::spawn(move || {
                if is_first {
                    // The destructor of what is used first runs last: after the thread's cache.
                    KEPT.with_borrow(|_| ());
                } else {
                    use_some(&memory, 1);
                }
                keep(&memory, is_child);
                use_some(&memory, 2);
            });
            thread.join().unwrap();
        }
    }
    assert_is_empty(&memory);
}

#[test]
fn destructors_of_a_thread_may_outlive_the_manager() {
    for is_first in [false, true] {
        let memory = manager(1 << 20);
        let thread = thread::spawn(move || {
            if is_first {
                KEPT.with_borrow(|_| ());
            }
            keep(&memory, true);
        });
        thread.join().unwrap();
    }
}

#[test]
fn a_thread_that_ends_in_a_panic_gives_everything_back() {
    let memory = manager(1 << 20);
    let child = memory.budget("child").limit_bytes(1 << 19).create().unwrap();
    let thread = {
        let (memory, child) = (memory.clone(), child.clone());
        thread::spawn(move || {
            let _buffers = [64, 4096, 100_000].map(|len| child.acquire(len).unwrap());
            let _reservation = child.try_reserve(1000).unwrap();
            let _line = in_line(memory.reserve(1 << 20));
            panic!("with all this in its hands");
        })
    };
    assert!(thread.join().is_err());
    assert_eq!(child.used_bytes(), 0);
    assert_is_empty(&memory);
}

#[test]
fn buffers_and_reservations_outlive_the_manager_on_any_thread() {
    let (to, from) = channel();
    let owner = thread::spawn(move || {
        let memory = manager(16 << 20);
        let child = memory.budget("child").create().unwrap();
        for (index, len) in (0..64_usize).map(|index| (index, 64 << (index % 12))) {
            let budget = [memory.root(), &child][index % 2];
            let mut buffer = budget.acquire(len).unwrap();
            buffer.fill(index as u8);
            to.send((index, buffer, budget.try_reserve(index as u64).unwrap())).unwrap();
        }
        // A large one: its own mapping.
        to.send((200, memory.acquire(8 << 20).unwrap(), memory.try_reserve(1).unwrap())).unwrap();
    });
    owner.join().unwrap();
    let held: Vec<_> = from.iter().collect();
    assert_eq!(held.len(), 65);
    let freer = thread::spawn(move || {
        for (index, mut buffer, reservation) in held {
            if index < 64 {
                assert!(buffer.iter().all(|&byte| byte == index as u8));
            }
            buffer.fill(0xEE);
            assert!(["root", "child"].contains(&reservation.budget_path()));
            reservation.try_grow(10).unwrap();
            reservation.shrink(5);
        }
    });
    freer.join().unwrap();
}

#[test]
fn a_reservation_of_nothing_keeps_what_it_belongs_to() {
    // On a thread of its own, which has nothing else that could keep the manager's memory.
    let reservations = thread::spawn(|| {
        let memory = manager(1000);
        let child = memory.budget("a name that is looked for").create().unwrap();
        let shrunk = child.try_reserve(10).unwrap();
        let moved = child.try_reserve(20).unwrap();
        shrunk.shrink(10);
        let waited = granted(&mut child.reserve(0));
        assert_eq!(moved.move_to(&waited, 20), 20);
        drop(waited);
        [shrunk, moved, child.try_reserve(0).unwrap(), granted(&mut child.reserve(0))]
    });
    let reservations = reservations.join().unwrap();
    let others: Vec<_> = (0..100).map(|_| manager(77)).collect();
    for reservation in &reservations {
        assert_eq!(reservation.bytes(), 0);
        assert_eq!(reservation.budget_path(), "a name that is looked for");
    }
    reservations[0].try_grow(600).unwrap();
    assert!(reservations[1].try_grow(600).is_err(), "they share a budget of 1000");
    assert_eq!(reservations[0].move_to(&reservations[2], 600), 600);
    drop((reservations, others));
}

#[test]
fn the_last_handle_may_go_while_others_are_at_work() {
    for round in 0..200 {
        let memory = manager(1 << 20);
        let (to, from) = sync_channel::<Buffer>(4);
        let start = Arc::new(Barrier::new(3));
        let freer = {
            let start = Arc::clone(&start);
            thread::spawn(move || {
                start.wait();
                from.iter().for_each(drop);
            })
        };
        let collector = {
            let (memory, start) = (memory.clone(), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                memory.collect(Instant::now() + Duration::from_secs(60), Duration::ZERO);
            })
        };
        start.wait();
        for index in 0..20 {
            let buffer = memory.acquire(4096 << (index % 3)).unwrap();
            if round % 2 == 0 || index % 2 == 0 {
                to.send(buffer).unwrap();
            }
        }
        drop((memory, to));
        collector.join().unwrap();
        freer.join().unwrap();
    }
}

#[test]
fn three_hundred_managers_at_once_keep_to_themselves() {
    let managers: Vec<_> = (0..300).map(|index| manager((index + 1) << 16)).collect();
    let check = |seed: usize| {
        for (index, memory) in managers.iter().enumerate() {
            let child = memory.budget("child").create().unwrap();
            let (mut one, mut other) = (memory.acquire(4096).unwrap(), child.acquire(64).unwrap());
            (one[0], other[0]) = (index as u8, seed as u8);
            let reservation = child.try_reserve(index as u64).unwrap();
            assert_eq!((one[0], other[0]), (index as u8, seed as u8));
            drop((one, other, reservation));
        }
    };
    thread::scope(|scope| (0..3).for_each(|seed| drop(scope.spawn(move || check(seed)))));
    check(3);
    for memory in &managers {
        let stats = memory.stats();
        assert_eq!(stats.hits + stats.misses, 8);
        assert_is_empty(memory);
    }
}

#[test]
fn a_manager_that_follows_another_finds_nothing_of_it_in_its_threads() {
    let (to, work) = sync_channel::<MemoryManager>(0);
    let (done, is_done) = sync_channel::<()>(0);
    // A thread that stays, and so has caches of managers that are gone.
    let worker = thread::spawn(move || {
        for memory in work {
            use_some(&memory, 7);
            drop(memory);
            done.send(()).unwrap();
        }
    });
    let mut kept = None;
    for round in 0..2000 {
        let memory = manager(1 << 20);
        to.send(memory.clone()).unwrap();
        is_done.recv().unwrap();
        use_some(&memory, round);
        let stats = memory.stats();
        assert_eq!((stats.hits + stats.misses, stats.refused), (6, 0));
        assert_eq!(stats.used_bytes, 0);
        // One in seven leaves a buffer behind for the next.
        if round % 7 == 0 {
            kept = Some(memory.acquire(4096).unwrap());
        }
    }
    drop((to, kept));
    worker.join().unwrap();
}

#[test]
fn two_and_twenty_managers_on_one_thread_are_each_served_from_its_cache() {
    for count in [2, 20] {
        let managers: Vec<_> = (0..count).map(|_| manager(1 << 20)).collect();
        for _ in 0..1000 {
            for memory in &managers {
                drop(memory.acquire(4096).unwrap());
            }
        }
        for memory in &managers {
            let stats = memory.stats();
            assert_eq!((stats.hits, stats.misses, stats.committed_bytes), (999, 1, 4096));
        }
    }
}

/// A waker that stays in its call until it is let go.
struct Stuck(Barrier, Barrier);

impl Wake for Stuck {
    fn wake(self: Arc<Self>) {
        self.0.wait();
        self.1.wait();
    }
}

#[test]
fn a_thread_that_is_held_up_in_a_waker_holds_up_nobody() {
    let memory = manager(1 << 20);
    let held = memory.try_reserve(1 << 20).unwrap();
    let stuck = Arc::new(Stuck(Barrier::new(2), Barrier::new(2)));
    let waker = Waker::from(Arc::clone(&stuck));
    let mut waits = Box::pin(memory.reserve(4096));
    assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let releaser = thread::spawn(move || drop(held));
    stuck.0.wait();
    // Its thread is in the waker now. Everything goes on.
    thread::scope(|scope| {
        scope.spawn(|| {
            use_some(&memory, 1);
            assert_eq!(memory.stats().reserved_bytes, 4096);
            memory.trim();
            memory.collect(Instant::now() + Duration::from_secs(100), Duration::from_millis(1));
            drop(memory.budget("child").create().unwrap().acquire(4096).unwrap());
        });
    });
    stuck.1.wait();
    releaser.join().unwrap();
    assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

#[test]
fn a_waker_that_panics_leaves_the_manager_as_it_should_be() {
    struct Panics(AtomicBool);
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
            panic!("a waker");
        }
    }
    let memory = manager(10_000);
    let held = memory.try_reserve(10_000).unwrap();
    let panics = Arc::new(Panics(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&panics));
    let mut waits = Box::pin(memory.reserve(5000));
    assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let (wakes, waker) = Wakes::new();
    let mut behind = memory.reserve(2000);
    assert!(poll_with(&mut behind, &waker).is_pending());
    // Within a drop: it would end the process if it came from one during another panic.
    assert!(thread::spawn(move || drop(held)).join().is_ok());
    assert!(panics.0.load(Ordering::SeqCst));
    assert_eq!(memory.stats().panics, 1, "it is told");
    assert_eq!(wakes.count(), 1, "the one behind was granted, too, and is told");
    assert!(poll(&mut behind).is_ready());
    assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    drop((waits, behind));
    assert_is_empty(&memory);
}
