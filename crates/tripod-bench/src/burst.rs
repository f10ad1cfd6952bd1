//! Bursts: one operation, done over and over by one or more threads at the same moment.
//!
//! Each thread has a processor of its own and starts when all are ready. What counts is the
//! processor time of the threads, so that a burst on a busy machine still tells the cost of the
//! operation. Threads take precedence over all others where the system allows it; without that, a
//! burst in which a thread had to wait is made again, since two threads that take turns do not
//! contend.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::cpu;

/// How often a burst is made again because other processes disturbed it.
const DISTURBED_MAX: u32 = 4;

/// How long the threads of a burst may take beyond their processor time.
const WALL_PER_CPU_MAX: f64 = 1.15;

/// How many threads do how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Burst {
    pub(crate) threads: usize,
    /// Of each thread, warm-up not included.
    pub(crate) operations: u64,
    /// Operations of each thread before the clock starts: caches fill, what is made at first use is.
    pub(crate) warm_up: u64,
}

impl Burst {
    /// Operations that all threads do together, warm-up included.
    pub(crate) fn recorded(self) -> u64 {
        (self.operations + self.warm_up) * self.threads as u64
    }
}

/// What the operations of one burst took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Took {
    /// Time per operation: processor time, the mean of all threads, unless the row says otherwise.
    pub(crate) ns: f64,
    /// Wall time by processor time of the thread that was disturbed most.
    pub(crate) wall_per_cpu: f64,
}

impl Took {
    /// Whether a thread had to wait for its processor.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.wall_per_cpu > WALL_PER_CPU_MAX
    }
}

/// Makes the burst, again if it was disturbed; answers with the least disturbed and how many were
/// made.
pub(crate) fn repeat_until_undisturbed(mut make: impl FnMut() -> Took) -> (Took, u32) {
    let mut best = make();
    let mut made = 1;
    while best.is_disturbed() && made <= DISTURBED_MAX {
        let again = make();
        made += 1;
        if again.wall_per_cpu < best.wall_per_cpu {
            best = again;
        }
    }
    (best, made)
}

/// Lets each thread prepare its operation and do it; the operation is given its own number.
pub(crate) fn run<Operation: FnMut(usize)>(
    burst: Burst,
    prepare: impl Fn() -> Operation + Sync,
) -> Took {
    let start = Start::new(burst.threads);
    let taken: Vec<(Duration, Duration)> = thread::scope(|scope| {
        let spawn = |index| scope.spawn(move_in(index, &start, burst, &prepare));
        let threads: Vec<_> = (0..burst.threads).map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().expect("no operation panics")).collect()
    });
    let cpu: f64 = taken.iter().map(|(cpu, _)| cpu.as_secs_f64()).sum();
    let ratios = taken.iter().map(|(cpu, wall)| wall.as_secs_f64() / cpu.as_secs_f64());
    Took {
        ns: cpu * 1e9 / (burst.operations as f64 * burst.threads as f64),
        wall_per_cpu: ratios.fold(0.0, f64::max),
    }
}

fn move_in<Operation: FnMut(usize)>(
    index: usize,
    start: &Start,
    burst: Burst,
    prepare: &(impl Fn() -> Operation + Sync),
) -> impl FnOnce() -> (Duration, Duration) {
    move || {
        cpu::pin(index);
        let mut operation = prepare();
        let mut began = (Instant::now(), cpu::thread_time());
        // One loop for both: an operation that is called in one place is compiled into it.
        for (is_measured, operations) in [(false, burst.warm_up), (true, burst.operations)] {
            if is_measured {
                cpu::take_precedence();
                start.wait();
                began = (Instant::now(), cpu::thread_time());
            }
            for number in 0..operations as usize {
                operation(number);
            }
        }
        (cpu::thread_time() - began.1, began.0.elapsed())
    }
}

/// Lets threads begin together: they sleep until all are there, and spin until all have woken.
pub(crate) struct Start {
    asleep: Barrier,
    awake: AtomicUsize,
    threads: usize,
}

impl Start {
    pub(crate) fn new(threads: usize) -> Self {
        Self { asleep: Barrier::new(threads), awake: AtomicUsize::new(0), threads }
    }

    pub(crate) fn wait(&self) {
        self.asleep.wait();
        self.awake.fetch_add(1, Ordering::SeqCst);
        while self.awake.load(Ordering::SeqCst) < self.threads {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn every_thread_does_every_operation_and_its_warm_up() {
        let done = AtomicU64::new(0);
        let burst = Burst { threads: 2, operations: 500, warm_up: 20 };
        let took = run(burst, || |_| _ = done.fetch_add(1, Ordering::SeqCst));
        assert_eq!(done.into_inner(), burst.recorded());
        assert!(took.ns > 0.0, "{took:?}");
    }

    #[test]
    fn a_disturbed_burst_is_made_again_and_the_least_disturbed_counts() {
        let took = |wall_per_cpu| Took { ns: wall_per_cpu * 10.0, wall_per_cpu };
        let repeat = |ratios: &[f64]| {
            let mut next = ratios.iter();
            repeat_until_undisturbed(|| took(*next.next().expect("no more than that")))
        };
        assert_eq!(repeat(&[1.0]), (took(1.0), 1));
        assert_eq!(repeat(&[2.0, 1.1]), (took(1.1), 2));
        assert_eq!(repeat(&[3.0, 1.5, 2.0, 2.0, 9.0]), (took(1.5), 5));
    }
}
