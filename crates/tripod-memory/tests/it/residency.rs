//! Memory that really goes back, as the page tables say and not as the manager does.
//!
//! Each in a process of its own. Time is passed in: none of these waits.
#![allow(unsafe_code, reason = "processor time comes from the system")]
#![allow(clippy::print_stdout, reason = "some figures are of interest as they are")]

use std::sync::Barrier;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use tripod_memory::MemoryManager;

use crate::own_process::{alone, mapped_bytes, resident_bytes, touch};
use crate::poll;

/// So long that how long a test takes makes no difference.
const TTL: Duration = Duration::from_secs(8000);
const STEP: Duration = Duration::from_micros(200);
const MIB: u64 = 1 << 20;

/// A manager whose clock is the test's.
struct Clocked {
    memory: MemoryManager,
    now: Instant,
}

impl Clocked {
    fn new(budget_bytes: u64) -> Self {
        let builder = MemoryManager::builder().budget_bytes(budget_bytes).ttl(TTL);
        let memory = builder.background_collection(false).build().unwrap();
        Self { memory, now: Instant::now() }
    }

    /// Lets an eighth of the time to live pass, and does what is due then.
    fn tick(&mut self) {
        self.pass(TTL / 8);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        while !self.memory.collect(self.now, STEP).is_finished {}
    }

    /// As long as it may take until all that is idle is gone: one and a quarter times to live.
    fn wait_out(&mut self) {
        (0..10).for_each(|_| self.tick());
    }

    fn idle(&self) -> u64 {
        self.memory.stats().idle_bytes
    }
}

/// What was resident before a burst, while it was held and after all that is idle was due.
#[derive(Debug)]
struct Burst {
    before: u64,
    held: u64,
    after: u64,
    idle_after: u64,
}

/// 32 MiB in buffers of `len`, each page written, are held by `threads` threads, freed, and the
/// threads block.
fn burst(len: usize, threads: usize) -> Burst {
    let mut clocked = Clocked::new(64 * MIB);
    // All threads and the test stand at the beginning of each step.
    let step = Barrier::new(threads + 1);
    thread::scope(|scope| {
        for _ in 0..threads {
            let (memory, step) = (clocked.memory.clone(), &step);
            scope.spawn(move || {
                // What a thread needs once is not what the burst leaves.
                touch(&mut memory.acquire(len).unwrap());
                step.wait();
                step.wait();
                let count = (32 << 20) / len / threads;
                let mut held: Vec<_> = (0..count).map(|_| memory.acquire(len).unwrap()).collect();
                held.iter_mut().for_each(|buffer| touch(buffer));
                step.wait();
                step.wait();
                drop(held);
                step.wait();
                // Parked, until all is measured.
                step.wait();
            });
        }
        step.wait();
        clocked.memory.trim();
        let before = resident_bytes();
        step.wait();
        step.wait();
        let held = resident_bytes();
        step.wait();
        step.wait();
        clocked.wait_out();
        let (after, idle_after) = (resident_bytes(), clocked.idle());
        step.wait();
        Burst { before, held, after, idle_after }
    })
}

fn check_burst(len: usize) {
    for threads in [1, 4] {
        let burst = burst(len, threads);
        let left = burst.after.saturating_sub(burst.before);
        println!("{len} B, {threads} threads: {} KiB more than before", left >> 10);
        assert!(burst.held >= burst.before + 32 * MIB, "{burst:?}");
        assert!(left <= 2 * MIB && burst.idle_after == 0, "{len} B, {threads} threads: {burst:?}");
    }
}

#[test]
fn a_burst_of_pages_goes_back_while_its_threads_are_blocked() {
    alone("residency::a_burst_of_pages_goes_back_while_its_threads_are_blocked", || {
        check_burst(4096);
    });
}

#[test]
fn a_burst_of_64_kib_goes_back_while_its_threads_are_blocked() {
    alone("residency::a_burst_of_64_kib_goes_back_while_its_threads_are_blocked", || {
        check_burst(64 << 10);
    });
}

#[test]
fn a_burst_of_1_mib_goes_back_while_its_threads_are_blocked() {
    alone("residency::a_burst_of_1_mib_goes_back_while_its_threads_are_blocked", || {
        check_burst(1 << 20);
    });
}

#[test]
fn a_huge_buffer_among_small_ones_does_not_stay() {
    alone("residency::a_huge_buffer_among_small_ones_does_not_stay", || {
        let mut clocked = Clocked::new(2 << 30);
        let memory = clocked.memory.clone();
        let small = |count: usize| -> Vec<_> {
            (0..count).map(|_| memory.acquire(4096).unwrap()).collect()
        };
        small(20).iter_mut().for_each(|buffer| touch(buffer));
        let before = resident_bytes();
        // The largest class, and one above all classes.
        touch(&mut memory.acquire(64 << 20).unwrap());
        touch(&mut memory.acquire(65 << 20).unwrap()[..32 << 20]);
        drop(memory.acquire(1 << 30).unwrap());
        let after = resident_bytes();
        assert!(after <= before + 65 * MIB, "what is above the classes is not kept: {after}");
        for _ in 0..10 {
            // The traffic goes on.
            (0..1000).for_each(|_| drop(small(20)));
            clocked.tick();
        }
        assert!(clocked.idle() < MIB, "{:?}", memory.stats());
        let left = resident_bytes().saturating_sub(before);
        assert!(left <= 2 * MIB, "{left} bytes stay");
    });
}

#[test]
fn trim_gives_everything_back_but_what_is_held() {
    alone("residency::trim_gives_everything_back_but_what_is_held", || {
        let memory = Clocked::new(u64::MAX).memory;
        drop(memory.acquire(1).unwrap());
        let before = resident_bytes();
        let mut held: Vec<_> = (0..4096).map(|_| memory.acquire(8192).unwrap()).collect();
        held.iter_mut().for_each(|buffer| touch(buffer));
        // One in sixty-four stays, scattered.
        let mut index = 0;
        held.retain(|_| {
            index += 1;
            index % 64 == 0
        });
        memory.trim();
        let (left, used) = (resident_bytes() - before, memory.stats().used_bytes);
        assert_eq!((used, memory.stats().committed_bytes), (64 * 8192, 64 * 8192));
        // A page for the header of each region, and the books; in a debug build the notes of who has
        // what, too.
        let books = if cfg!(debug_assertions) { 3 * MIB / 2 } else { MIB };
        assert!(left <= used + books, "{left} for {used}");
        drop(held);
        memory.trim();
        assert!(resident_bytes() <= before + books);
    });
}

/// Buffers that lie in the thread's cache, in the depot and on the shelf.
const COUNTS: [usize; 3] = [1, 9, 300];

#[test]
fn what_is_idle_stays_for_five_eighths_of_its_time_to_live_and_goes_within_it() {
    for count in COUNTS {
        // How far after a look it comes back.
        for late in [Duration::ZERO, TTL / 16, TTL / 8 - Duration::from_secs(1)] {
            let mut clocked = Clocked::new(u64::MAX);
            let memory = clocked.memory.clone();
            let held: Vec<_> = (0..count).map(|_| memory.acquire(16 << 10).unwrap()).collect();
            // Long enough for every look to be of a cache that was empty.
            (0..20).for_each(|_| clocked.tick());
            clocked.pass(late);
            drop(held);
            let all = clocked.idle();
            assert_eq!(all, (count as u64) << 14);
            let start = clocked.now;
            clocked.pass(TTL / 8 - late);
            while clocked.now + TTL / 8 < start + TTL * 5 / 8 {
                clocked.tick();
                assert_eq!(clocked.idle(), all, "after {:?}, {late:?}", clocked.now - start);
            }
            while clocked.now + TTL / 8 <= start + TTL {
                clocked.tick();
            }
            assert_eq!(clocked.idle(), 0, "{count} came back {late:?} after a look");
        }
    }
}

#[test]
fn what_is_used_in_between_stays_and_what_lies_beside_it_goes() {
    let mut clocked = Clocked::new(u64::MAX);
    let memory = clocked.memory.clone();
    let take = |count: usize| -> Vec<_> {
        (0..count).map(|_| memory.acquire(16 << 10).unwrap()).collect()
    };
    drop(take(300));
    for _ in 0..20 {
        clocked.tick();
        drop(take(3));
    }
    let misses = memory.stats().misses;
    assert_eq!(clocked.idle(), 3 << 14);
    drop(take(3));
    assert_eq!(memory.stats().misses, misses, "the three in use are never given back");
}

#[test]
fn a_manager_of_a_year_gives_back_as_on_its_first_day() {
    // The last is more ticks than 32 bits count, and a year with this time to live.
    const TICK: Duration = Duration::from_micros(450);
    let builder = MemoryManager::builder().ttl(TICK * 8).background_collection(false);
    let mut clocked = Clocked { memory: builder.build().unwrap(), now: Instant::now() };
    for ticks in [0, 1 << 32, 1 << 36] {
        clocked.pass(Duration::from_micros(TICK.as_micros() as u64 * ticks));
        drop(clocked.memory.acquire(64 << 10).unwrap());
        for tick in 1..=4 {
            clocked.pass(TICK);
            assert_ne!(clocked.idle(), 0, "tick {tick} after {ticks}");
        }
        (0..5).for_each(|_| clocked.pass(TICK));
        assert_eq!(clocked.idle(), 0, "after {ticks} ticks");
    }
}

#[test]
fn each_class_has_the_time_to_live_that_was_set_for_it() {
    let builder = MemoryManager::builder().ttl(TTL).class_ttl(64 << 10, TTL * 4);
    let memory = builder.background_collection(false).build().unwrap();
    let mut clocked = Clocked { memory: memory.clone(), now: Instant::now() };
    drop([64 << 10, 32 << 10].map(|len| [(); 20].map(|()| memory.acquire(len).unwrap())));
    clocked.wait_out();
    assert_eq!(clocked.idle(), 20 << 16, "those of 32 KiB are gone");
    (0..13).for_each(|_| clocked.tick());
    assert_eq!(clocked.idle(), 20 << 16, "not five eighths of their own");
    (0..10).for_each(|_| clocked.tick());
    assert_eq!(clocked.idle(), 0);
}

/// Buffers of one page; none of it is ever written, so it costs no memory.
fn a_million_idle(memory: &MemoryManager) {
    let count = if cfg!(debug_assertions) { 250_000 } else { 1_000_000 };
    drop((0..count).map(|_| memory.acquire(4096).unwrap()).collect::<Vec<_>>());
}

#[test]
fn a_collection_goes_in_bounded_steps_however_much_is_idle() {
    let mut clocked = Clocked::new(u64::MAX);
    let memory = clocked.memory.clone();
    a_million_idle(&memory);
    let all = clocked.idle();
    (0..9).for_each(|_| clocked.tick());
    // Everything is due. With no time each call does the least that it can do at once.
    clocked.now += TTL / 2;
    let (mut left, mut calls) = (clocked.idle(), 0);
    assert!(left > all / 100 * 99 || left == 0, "{left} of {all}");
    if left == 0 {
        a_million_idle(&memory);
        clocked.now += TTL * 2;
        left = clocked.idle();
    }
    loop {
        // Another thread takes and returns between any two steps.
        thread::scope(|scope| {
            if calls % 64 == 0 {
                scope.spawn(|| drop(memory.acquire(100).unwrap()));
            }
        });
        let collected = memory.collect(clocked.now, Duration::ZERO);
        assert!(collected.bytes <= 2 * MIB, "{collected:?} in one step");
        calls += 1;
        if collected.is_finished {
            break;
        }
        assert!(collected.bytes > 0, "a step does something");
    }
    assert!(calls >= left / (2 * MIB), "{calls} steps for {left} bytes");
    assert!(clocked.idle() < MIB);
}

/// How much processor time `work` takes; what others do on the machine meanwhile does not count.
fn processor_time(work: impl FnOnce()) -> Duration {
    let now = || {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: there is room for the answer.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let before = now();
    work();
    now() - before
}

/// Collects buffers of `len` bytes, each of which was written to, for a whole time to live; answers
/// how many steps that were and how long the longest took.
fn longest_step(count: usize, len: usize) -> (u64, Duration) {
    let mut clocked = Clocked::new(u64::MAX);
    let take = |_| {
        let mut buffer = clocked.memory.acquire(len).unwrap();
        buffer[0] = 1;
        buffer
    };
    drop((0..count).map(take).collect::<Vec<_>>());
    assert!(clocked.idle() >= (count * len) as u64);
    let (mut steps, mut longest) = (0, Duration::ZERO);
    for _ in 0..9 {
        clocked.now += TTL / 8;
        let mut is_finished = false;
        while !is_finished {
            let collect = || clocked.memory.collect(clocked.now, Duration::ZERO).is_finished;
            longest = longest.max(processor_time(|| is_finished = collect()));
            steps += 1;
        }
    }
    assert!(clocked.idle() < MIB, "{} bytes stay", clocked.idle());
    (steps, longest)
}

#[test]
fn no_step_takes_a_millisecond_with_a_million_idle_buffers() {
    alone("residency::no_step_takes_a_millisecond_with_a_million_idle_buffers", || {
        let (count, most) = match cfg!(debug_assertions) {
            true => (100_000, Duration::from_millis(10)),
            false => (1_000_000, Duration::from_millis(1)),
        };
        // The system has its bad moments; what is slow by itself is slow each time.
        let mut rounds = (0..5).map(|_| longest_step(count, 256));
        let found = rounds.find(|&(steps, longest)| {
            println!("{count} buffers: {steps} steps, the longest took {longest:?}");
            longest <= most
        });
        assert!(found.is_some(), "a step takes more than {most:?}");
    });
}

#[test]
fn threads_take_and_return_while_a_large_collection_goes_on() {
    let clocked = Clocked::new(u64::MAX);
    let memory = &clocked.memory;
    a_million_idle(memory);
    let (to, from) = sync_channel::<u64>(0);
    thread::scope(|scope| {
        scope.spawn(move || {
            for served in 1.. {
                // One that has nothing to do with what is collected, and one of that class.
                drop([100_000, 4096].map(|len| memory.acquire(len).unwrap()));
                if to.send(served).is_err() {
                    break;
                }
            }
        });
        let now = clocked.now + TTL * 2;
        let mut steps = 0;
        while !memory.collect(now, Duration::ZERO).is_finished {
            // If it were held up until the collection ends, this would wait for ever.
            from.recv().unwrap();
            steps += 1;
        }
        assert!(steps > 300, "{steps}");
        drop(from);
    });
}

#[test]
fn a_collection_that_was_left_half_done_is_in_nobodys_way() {
    alone("residency::a_collection_that_was_left_half_done_is_in_nobodys_way", || {
        let half_done = || {
            let mut clocked = Clocked::new(64 * MIB);
            touch(&mut clocked.memory.acquire(64 << 20).unwrap());
            clocked.now += TTL;
            (0..12).for_each(|_| {
                clocked.now += TTL / 8;
                clocked.memory.collect(clocked.now, Duration::ZERO);
            });
            assert!(!clocked.memory.collect(clocked.now, Duration::ZERO).is_finished);
            clocked
        };
        drop(half_done());
        let before = resident_bytes();
        // It counts until it is back, and goes back at once for whoever needs it.
        let clocked = half_done();
        assert_eq!(clocked.idle(), 64 * MIB);
        assert!(clocked.memory.try_acquire(4096).is_err(), "who wants no effort is refused");
        assert!(poll(&mut clocked.memory.reserve(1)).is_ready(), "{:?}", clocked.memory.stats());
        drop(clocked);
        assert!(half_done().memory.acquire(64 << 20).is_ok());
        assert_eq!(half_done().memory.trim(), 64 * MIB);
        // And it goes with its manager.
        drop(half_done());
        let left = resident_bytes().saturating_sub(before);
        assert!(left <= 2 * MIB, "{left} bytes stay");
    });
}

#[test]
fn managers_that_are_gone_leave_nothing_mapped() {
    alone("residency::managers_that_are_gone_leave_nothing_mapped", || {
        let round = || {
            let clocked = Clocked::new(u64::MAX);
            let (memory, start) = (&clocked.memory, Barrier::new(4));
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        start.wait();
                        // All of them find no region, and each maps one.
                        for len in [4096, 64 << 10, 1 << 20] {
                            touch(&mut memory.acquire(len).unwrap());
                            start.wait();
                        }
                    });
                }
            });
        };
        (0..20).for_each(|_| round());
        let before = (mapped_bytes(), resident_bytes());
        (0..200).for_each(|_| round());
        let after = (mapped_bytes(), resident_bytes());
        let more = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
        assert!(more.0 <= 16 * MIB && more.1 <= 2 * MIB, "{more:?} bytes after 200 managers");
    });
}
