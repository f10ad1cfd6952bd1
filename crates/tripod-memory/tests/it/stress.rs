use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tripod_memory::{Budget, Buffer, MemoryManager, Reservation, Reserve};

use crate::manager;
use crate::random::Random;

struct Unpark(Thread, AtomicBool);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.store(true, Ordering::SeqCst);
        self.0.unpark();
    }
}

/// Waits by parking: a lost wakeup hangs the test.
fn block_on(reserve: Reserve) -> Reservation {
    let unpark = Arc::new(Unpark(thread::current(), AtomicBool::new(false)));
    let waker = Waker::from(unpark.clone());
    let mut reserve = pin!(reserve);
    loop {
        match reserve.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(granted) => return granted.expect("requests are within the limit"),
            Poll::Pending => {
                while !unpark.1.swap(false, Ordering::SeqCst) {
                    thread::park();
                }
            }
        }
    }
}

const BUDGET: u64 = 100_000;

/// One thread's mix of everything that may go on at once.
fn work(memory: &MemoryManager, budget: &Budget, held_now: &AtomicU64, seed: u64) {
    let mut random = Random(seed);
    for _ in 0..4000 {
        let bytes = 1 + random.below(30_000);
        match random.below(8) {
            0 | 1 => {
                let reservation = block_on(budget.reserve(bytes));
                let before = held_now.fetch_add(bytes, Ordering::SeqCst);
                assert!(before + bytes <= BUDGET, "seed {seed}: the budget is passed");
                held_now.fetch_sub(bytes, Ordering::SeqCst);
                drop(reservation);
            }
            2 => {
                // Cancelled wherever it stands: in line, granted, or taken.
                let mut reserve = pin!(budget.reserve(bytes));
                let mut cx = Context::from_waker(Waker::noop());
                for _ in 0..=random.below(2) {
                    if reserve.as_mut().poll(&mut cx).is_ready() {
                        break;
                    }
                    thread::yield_now();
                }
            }
            3 => {
                if let Ok(reservation) = budget.try_reserve(bytes) {
                    let _ = reservation.try_grow(random.below(30_000));
                    reservation.shrink(random.below(30_000));
                }
            }
            4 => {
                memory.trim();
            }
            _ => {
                if let Ok(mut buffer) = budget.acquire(bytes as usize) {
                    buffer.fill(seed as u8);
                    thread::yield_now();
                    assert!(
                        buffer.iter().all(|&byte| byte == seed as u8),
                        "two holders, seed {seed}"
                    );
                }
            }
        }
        let stats = memory.stats();
        assert!(stats.committed_bytes <= BUDGET, "seed {seed}: {stats:?}");
    }
}

#[test]
pub(crate) fn eight_threads_lose_no_byte_and_no_wakeup() {
    let memory = manager(BUDGET);
    let outer = memory.budget("outer").limit_bytes(70_000).create().unwrap();
    let inner = outer.budget("inner").limit_bytes(40_000).create().unwrap();
    let budgets = [memory.root().clone(), outer, inner];
    let held_now = AtomicU64::new(0);
    thread::scope(|scope| {
        for index in 0..8 {
            let (memory, held_now, budget) = (&memory, &held_now, &budgets[index % 3]);
            scope.spawn(move || work(memory, budget, held_now, 0x9E37_79B9 + index as u64));
        }
    });
    let stats = memory.stats();
    assert_eq!((stats.reserved_bytes, stats.used_bytes, stats.waiting), (0, 0, 0), "{stats:?}");
    assert!(stats.peak_bytes <= BUDGET);
    assert!(budgets.iter().all(|budget| budget.used_bytes() == 0));
    assert!(budgets.iter().all(|budget| budget.peak_bytes() <= budget.limit_bytes()));
    assert_eq!(memory.trim(), stats.idle_bytes);
    assert_eq!(memory.stats().committed_bytes, 0);
}

#[test]
pub(crate) fn no_acquire_is_refused_while_at_most_half_is_checked_out() {
    const THREADS: usize = 32;
    let classes = [1024, 2048, 4096, 8192];
    // Each thread has at most one buffer out, so half of the budget suffices for all of them.
    let memory = manager((2 * THREADS * 8192) as u64);
    let start = Barrier::new(THREADS);
    let refused = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for index in 0..THREADS {
            let (memory, start, refused, over) = (&memory, &start, &refused, &over);
            scope.spawn(move || {
                let mut random = Random(1 + index as u64);
                start.wait();
                for _ in 0..2000 {
                    match memory.acquire(classes[random.below(4) as usize]) {
                        Ok(buffer) => drop(buffer),
                        Err(_) => drop(refused.fetch_add(1, Ordering::Relaxed)),
                    }
                    let stats = memory.stats();
                    over.fetch_or(stats.committed_bytes > stats.budget_bytes, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(refused.into_inner(), 0);
    assert!(!over.into_inner());
    let stats = memory.stats();
    assert_eq!(stats.hits + stats.misses, THREADS as u64 * 2000, "every acquire is counted once");
    assert_eq!(stats.used_bytes, 0);
}

#[test]
fn with_idle_buffers_of_the_wrong_class_filling_the_budget_none_is_refused() {
    const THREADS: usize = 32;
    // Large enough that giving one back to the system takes long, so that others look meanwhile.
    const IDLE: usize = 1 << 20;
    let memory = manager((THREADS * IDLE) as u64);
    let start = Barrier::new(THREADS);
    for round in 0..20 {
        let fill = [(); THREADS].map(|()| memory.acquire(IDLE).unwrap());
        drop(fill);
        assert_eq!(memory.stats().idle_bytes, memory.stats().budget_bytes);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                let (memory, start) = (&memory, &start);
                scope.spawn(move || {
                    start.wait();
                    let buffers = [IDLE / 4; 2].map(|len| memory.acquire(len));
                    assert!(buffers.iter().all(Result::is_ok), "round {round}: {buffers:?}");
                });
            }
        });
    }
}

#[test]
pub(crate) fn the_collector_takes_nothing_from_a_thread_that_is_at_work() {
    // What is idle in many classes at once, so that there is much to take from one cache.
    const CLASSES: usize = 16;
    const ROUNDS: u64 = 250;
    let ttl = Duration::from_secs(8);
    let sizes = (1..=CLASSES).map(|pages| pages << 12);
    let builder = MemoryManager::builder().size_classes(sizes).unwrap();
    let memory = builder.ttl(ttl).background_collection(false).build().unwrap();
    let (is_done, start) = (AtomicBool::new(false), Instant::now());
    let take = |count: usize, class: usize| -> Vec<_> {
        (0..count).map(|_| memory.acquire(class << 12).unwrap()).collect()
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for passed in 1.. {
                memory.collect(start + ttl * passed, Duration::from_millis(1));
                if is_done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for round in 0..ROUNDS {
            (1..=CLASSES).for_each(|class| drop(take(6, class)));
            for mark in 0..300 {
                let mut held = take(4, CLASSES);
                for (index, buffer) in held.iter_mut().enumerate() {
                    buffer[..8]
                        .copy_from_slice(&(round << 32 | mark << 8 | index as u64).to_le_bytes());
                }
                for (index, buffer) in held.iter().enumerate() {
                    let expected = (round << 32 | mark << 8 | index as u64).to_le_bytes();
                    assert_eq!(buffer[..8], expected, "two holders in round {round}");
                }
            }
        }
        is_done.store(true, Ordering::Relaxed);
    });
    assert_eq!(memory.stats().used_bytes, 0);
    memory.trim();
    assert_eq!(memory.stats().committed_bytes, 0);
}

/// A buffer full of its owner's pattern.
struct Marked {
    buffer: Buffer,
    mark: u8,
}

impl Marked {
    fn new(mut buffer: Buffer, owner: u64, turn: u64) -> Self {
        let mark = (owner * 31 + turn) as u8;
        buffer.fill(mark);
        Self { buffer, mark }
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        let is_own = self.buffer.iter().all(|&byte| byte == self.mark);
        // Not while unwinding: the first such buffer says enough.
        assert!(is_own || thread::panicking(), "another holder wrote to {:?}", self.buffer);
    }
}

/// What all threads of the great stress share.
struct Stress {
    memory: MemoryManager,
    budgets: [Budget; 3],
    start: Instant,
    /// An eighth of a time to live each.
    ticks: AtomicU64,
    /// Where buffers go that another thread is to free.
    to: [Sender<Marked>; 8],
    from: [Mutex<Receiver<Marked>>; 8],
}

impl Stress {
    const LIMIT: u64 = 4 << 20;
    const TTL: Duration = Duration::from_secs(800);

    fn new() -> Self {
        let builder = MemoryManager::builder().budget_bytes(Self::LIMIT).ttl(Self::TTL);
        let memory = builder.background_collection(false).build().unwrap();
        let child = memory.budget("child").limit_bytes(2 << 20).create().unwrap();
        let grandchild = child.budget("grandchild").limit_bytes(1 << 20).create().unwrap();
        let channels = [(); 8].map(|()| channel());
        let mut to = Vec::new();
        let from = channels.map(|(sender, receiver)| {
            to.push(sender);
            Mutex::new(receiver)
        });
        Self {
            budgets: [memory.root().clone(), child, grandchild],
            memory,
            start: Instant::now(),
            ticks: AtomicU64::new(0),
            to: to.try_into().unwrap_or_else(|_| unreachable!("there are eight")),
            from,
        }
    }

    /// The life of one short thread.
    fn work(&self, owner: usize, seed: u64) {
        let mut random = Random(seed);
        let mut held = Vec::new();
        for turn in 0..250 {
            let budget = &self.budgets[random.below(3) as usize];
            match random.below(24) {
                0 => drop(self.memory.trim()),
                1..3 => self.collect(random.below(200)),
                3 => {
                    // Whoever waits holds nothing that others may wait for.
                    held.clear();
                    self.free_all();
                    let bytes = random.below(300_000);
                    drop(block_on(budget.reserve(bytes).priority(turn as u8 % 3)));
                }
                4 => drop(budget.try_reserve(random.below(100_000))),
                5 => {
                    let mut reserve = pin!(budget.reserve(random.below(1 << 20)));
                    drop(reserve.as_mut().poll(&mut Context::from_waker(Waker::noop())));
                }
                6..9 => self.from[owner].lock().unwrap().try_iter().take(3).for_each(drop),
                9..12 if !held.is_empty() => {
                    let marked = held.swap_remove(random.below(held.len() as u64) as usize);
                    self.to[random.below(8) as usize].send(marked).unwrap();
                }
                _ => {
                    let bits = random.below(11);
                    let len = 1 + random.below(64 << bits) as usize;
                    let buffer = budget.acquire(len);
                    held.extend(buffer.map(|buffer| Marked::new(buffer, owner as u64, turn)));
                }
            }
            held.truncate(random.below(8) as usize);
            let stats = self.memory.stats();
            assert!(stats.committed_bytes <= Self::LIMIT, "seed {seed}: {stats:?}");
        }
        drop(held);
        self.free_all();
    }

    /// Frees what is on its way to anybody.
    fn free_all(&self) {
        self.from.iter().for_each(|from| from.lock().unwrap().try_iter().for_each(drop));
    }

    fn collect(&self, micros: u64) {
        let tick = self.ticks.fetch_add(1, Ordering::SeqCst);
        let now = self.start + Self::TTL / 8 * u32::try_from(tick).unwrap();
        self.memory.collect(now, Duration::from_micros(micros));
    }
}

#[test]
pub(crate) fn threads_that_come_and_go_find_their_buffers_as_they_left_them() {
    let stress = Stress::new();
    thread::scope(|scope| {
        for owner in 0..8 {
            let stress = &stress;
            scope.spawn(move || {
                // Eight at a time, twelve after each other.
                for life in 0..12 {
                    let seed = 0x51_7CC1_B727 + owner as u64 * 1000 + life;
                    thread::scope(|scope| drop(scope.spawn(|| stress.work(owner, seed))));
                }
            });
        }
    });
    let stats = stress.memory.stats();
    assert_eq!((stats.used_bytes, stats.reserved_bytes, stats.waiting), (0, 0, 0), "{stats:?}");
    for budget in &stress.budgets {
        assert_eq!(budget.used_bytes(), 0, "{}", budget.path());
        assert!(budget.peak_bytes() <= budget.limit_bytes(), "{}", budget.path());
    }
    assert!(stats.peak_bytes <= Stress::LIMIT);
    assert_eq!(stress.memory.trim(), stats.idle_bytes);
    assert_eq!(stress.memory.stats().committed_bytes, 0);
}
