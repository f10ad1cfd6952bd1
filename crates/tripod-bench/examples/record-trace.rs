//! Records what a program asks of its allocator into the file that `tripod-bench memory` replays.
//!
//! ```sh
//! cargo run --release -p tripod-bench --example record-trace -- crates/tripod-bench/traces/monitor.trace
//! ```
//!
//! The program is a small monitoring server, made of what such servers are made of: metrics of the
//! crate `prometheus` are gathered and encoded with each tick, the samples go into a history of
//! `tripod-history`, and dashboards ask for ranges of it, all a hundred times as fast as in
//! life. Answers are kept for a while, as pages are
//! that slow clients have not yet read. Four times a stampede of dashboards comes at once.
//!
//! Only allocations of 64 bytes and more are recorded, the smallest size that a pool gives out.
#![allow(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use prometheus::{Encoder, IntCounterVec, Opts, Registry, TextEncoder};
use tripod_history::{ColumnId, ColumnKind, Labels, SeriesPoints, Source, Store, StoreConfig};

use format::{Event, What, encode};

#[path = "../src/memory/trace/format.rs"]
mod format;

#[global_allocator]
static ALLOCATOR: Recorder<System> = Recorder::new(System);

/// The smallest allocation that is recorded.
const BYTES_MIN: usize = 64;
/// Calls that are recorded at most.
const CALLS_MAX: usize = 4_000_000;

/// An allocator that writes down what it is asked for, between a start and a stop.
struct Recorder<A> {
    inner: A,
    recording: Mutex<Option<Recording>>,
}

struct Recording {
    begin: Instant,
    /// Never grows: that would ask the recorder for memory while it records.
    calls: Vec<Call>,
}

#[derive(Debug, Clone, Copy)]
struct Call {
    time_us: u64,
    address: usize,
    /// 0 if it was freed.
    bytes: usize,
}

impl<A> Recorder<A> {
    const fn new(inner: A) -> Self {
        Self { inner, recording: Mutex::new(None) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Recording>> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) {
        let calls = Vec::with_capacity(CALLS_MAX);
        *self.lock() = Some(Recording { begin: Instant::now(), calls });
    }

    fn stop(&self) -> Vec<Call> {
        let recording = self.lock().take();
        recording.map(|recording| recording.calls).unwrap_or_default()
    }
}

impl Recording {
    fn write(&mut self, address: usize, bytes: usize) {
        assert!(self.calls.len() < self.calls.capacity(), "the program makes too many calls");
        let time_us = u64::try_from(self.begin.elapsed().as_micros()).expect("it is short");
        self.calls.push(Call { time_us, address, bytes });
    }
}

// SAFETY: each call goes to the inner allocator unchanged, and what is written down takes no memory.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Recorder<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`, which is that of the inner one.
        let start = unsafe { self.inner.alloc(layout) };
        if layout.size() >= BYTES_MIN
            && !start.is_null()
            && let Some(recording) = &mut *self.lock()
        {
            recording.write(start.addr(), layout.size());
        }
        start
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        if layout.size() >= BYTES_MIN
            && let Some(recording) = &mut *self.lock()
        {
            // Before it is free, so that no other thread has written it down again.
            recording.write(start.addr(), 0);
        }
        // SAFETY: as above.
        unsafe { self.inner.dealloc(start, layout) }
    }
}

/// Turns addresses into identities. What was allocated before the start is left out.
fn events(calls: &[Call]) -> Vec<Event> {
    let (mut live, mut events, mut allocated) = (HashMap::new(), Vec::new(), 0);
    for Call { time_us, address, bytes } in calls.iter().copied() {
        let what = if bytes > 0 {
            live.insert(address, allocated);
            allocated += 1;
            What::Allocate { bytes: u32::try_from(bytes).expect("none is that large") }
        } else {
            let Some(id) = live.remove(&address) else { continue };
            What::Free { id }
        };
        events.push(Event { time_us, what });
    }
    events
}

const SERIES: usize = 29;
/// Ticks of the history that the server starts with, at no pace.
const PAST: i64 = 500;
/// Ticks while it serves.
const TICKS: i64 = 600;
const TICK_MS: i64 = 1_000;
/// How long a tick takes while it is recorded.
const PACE: Duration = Duration::from_millis(10);
/// A page is encoded every so many ticks.
const PAGE_EVERY: i64 = 10;
/// A dashboard asks every so many ticks.
const QUERY_EVERY: i64 = 20;
/// Answers that wait to be read.
const ANSWERS: usize = 10;
/// Pages that wait to be read.
const PAGES: usize = 30;
/// Ticks at which many dashboards ask at once, and how many do.
const STAMPEDES: [i64; 4] = [150, 260, 370, 480];
const STAMPEDE: i64 = 8;
/// How long their answers wait to be read.
const STAMPEDE_TICKS: i64 = 14;

/// Gathers, stores and answers.
///
/// It ends when the recording does, with all that is live then.
fn monitor() -> Result<Vec<Call>, Box<dyn Error>> {
    let registry = Registry::new();
    let requests = IntCounterVec::new(Opts::new("requests_total", "Requests."), &["path", "pod"])?;
    registry.register(Box::new(requests.clone()))?;
    let store = Store::in_memory(StoreConfig::default())?;
    let columns: Vec<_> = (0..SERIES)
        .map(|number| {
            let labels =
                Labels::new([("__name__", "requests_total".into()), ("path", path(number))]);
            store.column(&labels, ColumnKind::Cumulative)
        })
        .collect();
    for tick in -PAST..0 {
        append(&store, &columns, tick)?;
    }
    let (mut pages, mut answers, mut stampede) = (VecDeque::new(), VecDeque::new(), Vec::new());
    let begin = Instant::now();
    for tick in 0..TICKS {
        let due = begin + PACE * u32::try_from(tick)?;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        for number in 0..SERIES {
            let labels = [&path(number), "pod-00000001"];
            requests.with_label_values(&labels).inc_by(number as u64 * 31 % 17);
        }
        if tick % PAGE_EVERY == 0 {
            let mut page = Vec::new();
            TextEncoder::new().encode(&registry.gather(), &mut page)?;
            keep(&mut pages, page, PAGES);
        }
        append(&store, &columns, tick)?;
        if tick % QUERY_EVERY == 0 {
            keep(&mut answers, answer(&store, tick, 300 + tick * 37 % 300)?, ANSWERS);
        }
        for begin in STAMPEDES {
            if (begin..begin + STAMPEDE).contains(&tick) {
                stampede.push(answer(&store, tick, 1_000)?);
            } else if tick == begin + STAMPEDE + STAMPEDE_TICKS {
                stampede = Vec::new();
            }
        }
    }
    Ok(ALLOCATOR.stop())
}

/// Milliseconds since 1970, as those of a server are.
fn time_ms(tick: i64) -> i64 {
    1_764_028_800_000 + tick * TICK_MS
}

/// The samples of a tick.
fn append(store: &Store, columns: &[ColumnId], tick: i64) -> Result<(), Box<dyn Error>> {
    let points: Vec<_> = columns.iter().map(|column| (*column, (tick * 7) as f64)).collect();
    store.append(time_ms(tick), &points)?;
    store.maintain(time_ms(tick))?;
    Ok(())
}

fn path(number: usize) -> String {
    format!("/api/v1/resource/{number:07}")
}

fn keep<T>(queue: &mut VecDeque<T>, one: T, count_max: usize) {
    if queue.len() == count_max {
        queue.pop_front();
    }
    queue.push_back(one);
}

/// The last `seconds`, as text.
fn answer(store: &Store, tick: i64, seconds: i64) -> Result<String, Box<dyn Error>> {
    let found = store.select(&[], time_ms(tick - seconds), time_ms(tick), 0)?;
    let mut text = String::new();
    for SeriesPoints { labels, points, .. } in &found {
        write!(text, "{{\"labels\":\"{labels:?}\",\"values\":[")?;
        for point in points {
            write!(text, "[{},\"{}\"],", point.time_ms, point.value)?;
        }
        text.push_str("]}");
    }
    Ok(text)
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: record-trace FILE")?;
    ALLOCATOR.start();
    let events = events(&monitor()?);
    let file = encode(&events);
    fs::write(&path, &file)?;
    let seconds = events.last().map_or(0.0, |event| event.time_us as f64 / 1e6);
    eprintln!("{path}: {} events in {seconds:.1} s, {} bytes", events.len(), file.len());
    Ok(())
}
