//! Four threads, many tasks, and whatever can happen to them; the accounts must be exact.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tripod_scheduler::{Drain, Priority, SubmitError, Task, TaskError, TaskScheduler};

use crate::support::{memory, tasks};

const TASKS: u64 = 2000;
const CONCURRENCY: usize = 6;

/// A small generator of repeatable numbers (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

/// What the tasks themselves saw.
#[derive(Default)]
struct Seen {
    inside: AtomicU64,
    most_inside: AtomicU64,
    bytes: AtomicU64,
    most_bytes: AtomicU64,
}

/// Is inside as long as the future of its task exists and has started.
struct Inside(Arc<Seen>, u64);

impl Inside {
    fn enter(seen: Arc<Seen>, bytes: u64) -> Self {
        let inside = seen.inside.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most_inside.fetch_max(inside, Ordering::SeqCst);
        let all = seen.bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        seen.most_bytes.fetch_max(all, Ordering::SeqCst);
        Self(seen, bytes)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
        self.0.bytes.fetch_sub(self.1, Ordering::SeqCst);
    }
}

fn any_task(random: &mut Random, seen: &Arc<Seen>) -> Task<u64> {
    let (kind, turns, bytes) = (random.below(10), random.below(5), random.below(3) * 20);
    let seen = Arc::clone(seen);
    let task = Task::with_context(move |context| async move {
        let _inside = Inside::enter(seen, bytes);
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        match kind {
            0 => panic!("on purpose"),
            1 => std::future::pending().await,
            2 => context.cancelled().await,
            _ => {}
        }
        turns
    });
    let priority = Priority::ALL[random.below(5) as usize];
    let task = task.priority(priority).memory_bytes(bytes);
    match kind {
        1 => task.timeout(Duration::from_micros(random.below(2000))),
        2 => task.timeout(Duration::from_micros(500)).cancel_grace(Duration::from_micros(500)),
        3 => task.cancel_grace(Duration::from_secs(60)),
        _ => task,
    }
}

/// How the tasks of one submitter ended.
#[derive(Default)]
struct Ends {
    accepted: u64,
    values: u64,
    panics: u64,
    cancels: u64,
    timeouts: u64,
}

async fn submit_and_await(scheduler: TaskScheduler, seed: u64, seen: Arc<Seen>) -> Ends {
    let mut random = Random::new(seed);
    let (mut ends, mut handles) = (Ends::default(), Vec::new());
    for _ in 0..TASKS / 4 {
        match scheduler.submit(any_task(&mut random, &seen)) {
            Ok(handle) => handles.push((handle, false)),
            Err(SubmitError::ShuttingDown) => break,
            Err(error) => panic!("seed {seed}: {error}"),
        }
        if random.below(4) == 0 {
            let pick = random.below(handles.len() as u64) as usize;
            let (handle, was_cancelled) = &mut handles[pick];
            *was_cancelled |= handle.cancel();
        }
        if random.below(8) == 0 {
            tokio::task::yield_now().await;
        }
    }
    ends.accepted = handles.len() as u64;
    for (mut handle, was_cancelled) in handles {
        let result = (&mut handle).await;
        assert!(handle.status().is_final());
        assert!(!(was_cancelled && result.is_ok()), "seed {seed}: a cancelled task has a value");
        match result {
            Ok(_) => ends.values += 1,
            Err(TaskError::Panicked { .. }) => ends.panics += 1,
            Err(TaskError::Cancelled) => ends.cancels += 1,
            Err(TaskError::TimedOut { .. }) => ends.timeouts += 1,
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    ends
}

async fn run(seed: u64, early_end: Option<Drain>) {
    let memory = memory(100);
    let builder = TaskScheduler::builder().concurrency(tasks(CONCURRENCY));
    let scheduler = builder.memory(&memory).build().unwrap();
    let seen = Arc::new(Seen::default());
    let submitters: Vec<_> = (0..4)
        .map(|each| {
            let ends = submit_and_await(scheduler.clone(), seed * 4 + each, Arc::clone(&seen));
            tokio::spawn(ends)
        })
        .collect();
    if let Some(drain) = early_end {
        let target = Random::new(seed).below(TASKS);
        while scheduler.stats().submitted < target
            && !submitters.iter().all(|each| each.is_finished())
        {
            tokio::task::yield_now().await;
        }
        scheduler.shutdown(drain).await;
    }
    let mut sum = Ends::default();
    for submitter in submitters {
        let ends = submitter.await.unwrap();
        sum.accepted += ends.accepted;
        sum.values += ends.values;
        sum.panics += ends.panics;
        sum.cancels += ends.cancels;
        sum.timeouts += ends.timeouts;
    }
    let report = scheduler.shutdown(Drain::Finish).await;
    let stats = scheduler.stats();
    assert_eq!(report.total(), sum.accepted, "seed {seed}");
    assert_eq!(report.finished, sum.values + sum.panics + sum.timeouts, "seed {seed}");
    assert_eq!(report.cancelled + report.aborted, sum.cancels, "seed {seed}");
    assert_eq!((stats.submitted, stats.queued, stats.running), (sum.accepted, 0, 0), "seed {seed}");
    assert_eq!((stats.succeeded, stats.failed), (sum.values, sum.panics), "seed {seed}");
    assert_eq!((stats.cancelled, stats.timed_out), (sum.cancels, sum.timeouts), "seed {seed}");
    assert_eq!(memory.root().used_bytes(), 0, "seed {seed}");
    assert!(memory.root().peak_bytes() <= 100, "seed {seed}");
    assert_eq!(seen.inside.load(Ordering::SeqCst), 0, "seed {seed}");
    assert!(seen.most_inside.load(Ordering::SeqCst) <= CONCURRENCY as u64, "seed {seed}");
    assert!(seen.most_bytes.load(Ordering::SeqCst) <= 100, "seed {seed}");
    if early_end.is_none() {
        assert_eq!(sum.accepted, TASKS, "seed {seed}");
    }
}

/// Fails instead of hanging, so that a lost wakeup shows.
async fn with_watchdog(seed: u64, early_end: Option<Drain>) {
    let watchdog = Duration::from_secs(60);
    tokio::time::timeout(watchdog, run(seed, early_end))
        .await
        .unwrap_or_else(|_| panic!("seed {seed} with {early_end:?} hangs"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_task_of_four_threads_is_accounted_for() {
    for seed in 0..3 {
        with_watchdog(seed, None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_shutdown_at_any_moment_loses_no_task() {
    for (seed, drain) in [Drain::Finish, Drain::FinishRunning, Drain::Now].into_iter().enumerate() {
        with_watchdog(seed as u64, Some(drain)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn filling_and_emptying_again_and_again_loses_no_wakeup() {
    let scheduler = TaskScheduler::builder().concurrency(tasks(2)).build().unwrap();
    for round in 0..2000 {
        let handles = [(); 3].map(|()| scheduler.submit(Task::new(async {})).unwrap());
        for handle in handles {
            tokio::time::timeout(Duration::from_secs(30), handle)
                .await
                .unwrap_or_else(|_| panic!("round {round} hangs"))
                .unwrap();
        }
    }
}
