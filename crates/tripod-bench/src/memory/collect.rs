//! Collection of a million idle buffers, beside a thread that goes on acquiring and releasing.
//!
//! Two figures count: the longest step of the collection, and how late the acquires of the other
//! thread are, in the worst of a thousand, against what they are when nothing is collected. Each
//! thread has a processor of its own. What was idle has to be gone in the end.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::alone::{self, Task};
use super::source::{Held, Source};
use super::tripod::{self, Pool};
use crate::bar::Bar;
use crate::error::BenchError;
use crate::report::{self, note, thousands};
use crate::series::Series;
use crate::{cpu, machine};

const IDLE: usize = 1_000_000;
const IDLE_LEN: usize = 1_024;
const ACQUIRED_LEN: usize = 4_096;
const TTL: Duration = Duration::from_secs(30);
/// What a step is told to take, and what it may take.
const STEP: Duration = Duration::from_micros(500);
const STEP_MS_MAX: f64 = 1.0;
const BESIDE_PER_ALONE_MAX: f64 = 2.0;
/// Steps in a row that find nothing to do while something is still idle.
const VAIN_STEPS_MAX: u32 = 1_000;

/// Measures in a process of its own for each round, and answers with a table and the bars.
///
/// # Errors
/// If a child fails, or leaves idle buffers behind.
pub(crate) fn measure(rounds: u32, alone: Duration) -> Result<(String, Vec<Bar>), BenchError> {
    if machine::processors().get() < 2 {
        return Ok((
            "one processor: no collection beside a thread that acquires\n\n".into(),
            vec![],
        ));
    }
    let mut taken: [Vec<f64>; FIGURES] = Default::default();
    for round in 0..rounds {
        note(&format!("collection, round {round}"));
        let task = Task::Collect { alone_ms: alone.as_millis() as u64 };
        let figures: [f64; FIGURES] = alone::start(task)?.figures()?;
        taken.iter_mut().zip(figures).for_each(|(taken, figure)| taken.push(figure));
    }
    let [longest, steps, total, alone, beside] = taken.map(Series::new);
    let row = |name: &str, series: &Series, decimals: usize| {
        std::iter::once(name.to_owned()).chain(report::cells(series, decimals)).collect()
    };
    let rows: [Vec<String>; 6] = [
        ["", "median", "min", "max", "spread"].map(str::to_owned).to_vec(),
        row("longest step, ms", &longest, 3),
        row("steps", &steps, 0),
        row("all steps, ms", &total, 1),
        row("acquire and release meanwhile, p99.9, ns", &beside, 0),
        row("the same before, ns", &alone, 0),
    ];
    let text = format!(
        "collection of {} idle buffers of {} bytes, {rounds} rounds\n{}\n",
        thousands(IDLE as u64),
        thousands(IDLE_LEN as u64),
        report::table(&rows)
    );
    let ratio = beside.median() / alone.median();
    let bars = vec![
        Bar::at_most("collection: ms of the longest step", longest.max(), STEP_MS_MAX),
        Bar::at_most("collection: p99.9 of acquire, beside / alone", ratio, BESIDE_PER_ALONE_MAX),
    ];
    Ok((text, bars))
}

const FIGURES: usize = 5;

/// The longest step in milliseconds, how many there were, what all took in milliseconds, and the
/// nanoseconds of an acquire and release before and meanwhile.
///
/// # Errors
/// If not all that is idle was collected.
pub(crate) fn run(alone: Duration) -> Result<[f64; FIGURES], BenchError> {
    // The other processor is the neighbour's alone.
    cpu::pin(0);
    let memory = tripod::manager_without_background(TTL);
    let of_len = |len| Pool { memory: memory.clone(), len };
    let (idle, acquired) = (of_len(IDLE_LEN), of_len(ACQUIRED_LEN));
    thread::scope(|scope| scope.spawn(|| fill(&idle)).join().expect("it fills"));
    let neighbour = Neighbour::default();
    thread::scope(|scope| {
        let acquiring = scope.spawn(|| neighbour.acquire(&acquired));
        neighbour.wait_until_it_runs();
        thread::sleep(alone);
        neighbour.is_collecting.store(true, Ordering::SeqCst);
        let collecting = scope.spawn(|| collect(&idle)).join().expect("it collects");
        neighbour.is_over.store(true, Ordering::SeqCst);
        let [alone, beside] = acquiring.join().expect("it acquires");
        let [longest, steps, total] = collecting?;
        Ok([longest, steps, total, alone.p999(), beside.p999()])
    })
}

/// Leaves a million buffers idle.
fn fill(pool: &Pool) {
    let acquire = |_| {
        let mut buffer = pool.acquire();
        buffer.put(0, 1);
        buffer
    };
    let all: Vec<_> = (0..IDLE).map(acquire).collect();
    drop(all);
    let idle = tripod::idle_bytes(&pool.memory);
    assert!(idle >= (IDLE * IDLE_LEN) as u64, "{idle} bytes are idle");
}

fn collect(pool: &Pool) -> Result<[f64; 3], BenchError> {
    cpu::take_precedence();
    let memory = &pool.memory;
    // Time jumps ahead, and goes on in seconds: who marks what is idle when it first looks finds
    // that it has been so for long when it looks again.
    let mut now = Instant::now() + TTL * 2;
    let (mut longest, mut total) = (Duration::ZERO, Duration::ZERO);
    let (mut steps, mut vain) = (0_u32, 0_u32);
    let left_max = (IDLE * IDLE_LEN / 100) as u64;
    while tripod::idle_bytes(memory) > left_max {
        now += Duration::from_secs(1);
        let begin = Instant::now();
        let has_freed = tripod::collect_step(memory, now, STEP);
        let took = begin.elapsed();
        (longest, total, steps) = (longest.max(took), total + took, steps + 1);
        vain = if has_freed { 0 } else { vain + 1 };
        if vain > VAIN_STEPS_MAX {
            let how = format!("{} bytes stay idle", tripod::idle_bytes(memory));
            return Err(BenchError::Differs { command: tripod::NAME.to_owned(), how });
        }
    }
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    Ok([ms(longest), f64::from(steps), ms(total)])
}

/// A thread that acquires and releases, first alone and then beside the collection.
#[derive(Debug, Default)]
struct Neighbour {
    acquired: AtomicU64,
    is_collecting: AtomicBool,
    is_over: AtomicBool,
}

impl Neighbour {
    fn wait_until_it_runs(&self) {
        while self.acquired.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
    }

    /// Latencies alone and beside the collection.
    fn acquire(&self, pool: &Pool) -> [Latencies; 2] {
        cpu::pin(1);
        let mut all = [Latencies::new(), Latencies::new()];
        for _ in 0..1_000 {
            drop(black_box(pool.acquire()));
        }
        cpu::take_precedence();
        self.acquired.store(1, Ordering::SeqCst);
        while !self.is_over.load(Ordering::Relaxed) {
            let latencies = &mut all[usize::from(self.is_collecting.load(Ordering::Relaxed))];
            let begin = Instant::now();
            drop(black_box(pool.acquire()));
            latencies.add(begin.elapsed());
        }
        all
    }
}

/// How many took how many nanoseconds.
#[derive(Debug)]
struct Latencies(Box<[u64]>);

impl Latencies {
    /// Longer ones count as this long.
    const NANOS_MAX: usize = 1_000_000;

    fn new() -> Self {
        Self(vec![0; Self::NANOS_MAX + 1].into())
    }

    fn add(&mut self, took: Duration) {
        self.0[(took.as_nanos() as usize).min(Self::NANOS_MAX)] += 1;
    }

    /// The nanoseconds that 999 of 1,000 do not pass.
    fn p999(&self) -> f64 {
        let count: u64 = self.0.iter().sum();
        let mut left = count.div_ceil(1_000);
        let mut nanos = (0..self.0.len()).rev();
        let found = nanos.find(|nanos| {
            let here = self.0[*nanos];
            let is_here = here >= left;
            left = left.saturating_sub(here);
            is_here
        });
        found.map_or(f64::NAN, |nanos| nanos as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_a_thousand_is_found() {
        let mut latencies = Latencies::new();
        (0..2_000).for_each(|_| latencies.add(Duration::from_nanos(20)));
        assert_eq!(latencies.p999(), 20.0);
        (0..2).for_each(|_| latencies.add(Duration::from_nanos(700)));
        assert_eq!(latencies.p999(), 20.0);
        latencies.add(Duration::from_secs(5));
        assert_eq!(latencies.p999(), 700.0);
        (0..3).for_each(|_| latencies.add(Duration::from_secs(5)));
        assert_eq!(latencies.p999(), 1e6);
    }
}
