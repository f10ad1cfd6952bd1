//! The crate `tripod-memory`, held to the bars: every call of it that the comparison makes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tripod_memory::{AcquireError, Buffer, MemoryManager, MemoryManagerBuilder};

use super::replay::Heap;
use super::source::{Held, Source};
use crate::bar::Bar;
use crate::contender::{Contender, Side};

pub(crate) const NAME: &str = "tripod";
const GOOD: &str = "a good description";

/// A hard limit that no row comes near: it is there to be checked.
const BUDGET_BYTES: u64 = 8 << 30;

/// The time to live of the managers of rows: the default of the crate.
const TTL: Duration = Duration::from_secs(30);

/// What a step of a collection is given where its length does not count.
const STEP: Duration = Duration::from_millis(1);

/// Misses among all buffers of a row, in steady state.
const MISSES_MAX: f64 = 0.01;
/// What a row may leave behind: the same buffers that were all hits are not kept for ever.
const KEPT_MIB_MAX: f64 = 1.0;

/// A manager as rows have it: a hard budget, statistics on, and its own collector of garbage.
pub(crate) fn manager() -> MemoryManager {
    builder().build().expect(GOOD)
}

fn builder() -> MemoryManagerBuilder {
    MemoryManager::builder().budget_bytes(BUDGET_BYTES)
}

/// The same, whose idle memory goes back to the system after `ttl`.
pub(crate) fn manager_with_ttl(ttl: Duration) -> MemoryManager {
    builder().ttl(ttl).build().expect(GOOD)
}

/// The same, which collects only when it is told to: time passes as the caller says.
pub(crate) fn manager_without_background(ttl: Duration) -> MemoryManager {
    builder().ttl(ttl).background_collection(false).build().expect(GOOD)
}

/// One bounded step of collection; tells whether there is more to collect.
pub(crate) fn collect_step(memory: &MemoryManager, now: Instant, budget: Duration) -> bool {
    !memory.collect(now, budget).is_finished
}

pub(crate) fn idle_bytes(memory: &MemoryManager) -> u64 {
    memory.stats().idle_bytes
}

fn into_bytes(buffer: Buffer) -> Bytes {
    Bytes::from_owner(buffer)
}

impl Heap for MemoryManager {
    type Held<'a> = Buffer;

    fn allocate(&self, bytes: usize) -> Buffer {
        self.acquire(bytes).expect("no trace comes near the budget")
    }

    fn collect(&self, now: Instant) {
        while collect_step(self, now, STEP) {}
    }

    fn committed_and_used(&self) -> Option<[u64; 2]> {
        let stats = self.stats();
        Some([stats.committed_bytes, stats.used_bytes])
    }
}

/// Buffers of one length.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) memory: MemoryManager,
    pub(crate) len: usize,
}

impl Source for Pool {
    type Held<'a> = Buffer;

    #[inline(always)]
    fn acquire(&self) -> Buffer {
        self.memory.acquire(self.len).expect("no row comes near its budget")
    }
}

impl Held for Buffer {
    #[inline(always)]
    fn start(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    fn capacity(&mut self) -> usize {
        // Not the capacity: only the length is there to be written to.
        self.len()
    }

    #[inline(always)]
    fn put(&mut self, at: usize, byte: u8) {
        self[at] = byte;
    }
}

/// Other ways to the same buffers, shown beside: what the design page says of them is read from here.
pub(crate) fn other_ways<const LEN: usize>(memory: &MemoryManager) -> Vec<Contender> {
    vec![length_known::<LEN>(memory), in_turn(memory, LEN), of_a_child(memory, LEN)]
}

/// The compiler knows the length, as it does in most programs.
fn length_known<const LEN: usize>(memory: &MemoryManager) -> Contender {
    let memory = memory.clone();
    let prepare = move || {
        let memory = memory.clone();
        move |_| drop(taken(black_box(&memory).acquire(LEN)))
    };
    Contender::new("(tripod, length known)", Side::Beside, prepare)
}

/// Two managers, one after the other.
fn in_turn(memory: &MemoryManager, len: usize) -> Contender {
    let (memory, other) = (memory.clone(), manager());
    let prepare = move || {
        let managers = [memory.clone(), other.clone()];
        move |number: usize| drop(taken(black_box(&managers)[number % 2].acquire(black_box(len))))
    };
    Contender::new("(tripod, two in turn)", Side::Beside, prepare)
}

/// Charged to a budget below the root, too.
fn of_a_child(memory: &MemoryManager, len: usize) -> Contender {
    let child = memory.budget("row").limit_bytes(BUDGET_BYTES / 8).create().expect(GOOD);
    let prepare = move || {
        let child = child.clone();
        move |_| drop(taken(black_box(&child).acquire(black_box(len))))
    };
    Contender::new("(tripod, of a child)", Side::Beside, prepare)
}

/// The buffer, which somebody might look at.
#[inline(always)]
fn taken(buffer: Result<Buffer, AcquireError>) -> Buffer {
    let mut buffer = buffer.expect("no row comes near its budget");
    black_box(buffer.as_mut_ptr());
    buffer
}

/// Hands a buffer on as `Bytes`, of which there are two for a while.
pub(crate) fn hand_off(memory: &MemoryManager, len: usize) -> Contender {
    let memory = memory.clone();
    let checked = memory.clone();
    let prepare = move || {
        let memory = memory.clone();
        move |_| {
            let buffer = black_box(&memory).acquire(len).expect("no row comes near its budget");
            let bytes = into_bytes(buffer);
            let clone = black_box(&bytes).clone();
            drop(bytes);
            drop(black_box(clone));
        }
    };
    Contender::new(NAME, Side::Tripod, prepare).checked_by(move || {
        let mut buffer = checked.acquire(len).map_err(|error| error.to_string())?;
        buffer.fill(7);
        let start = buffer.as_ptr();
        let bytes = into_bytes(buffer);
        match bytes.as_ptr() == start && bytes.len() == len && bytes.iter().all(|byte| *byte == 7) {
            true => Ok(()),
            false => Err("its bytes are not those of the buffer".to_owned()),
        }
    })
}

/// Reserves bytes and releases them.
pub(crate) fn reserve(memory: &MemoryManager, bytes: u64) -> Contender {
    let memory = memory.clone();
    let checked = memory.clone();
    let prepare = move || {
        let memory = memory.clone();
        move |_| {
            let reservation = black_box(&memory).try_reserve(bytes);
            drop(black_box(reservation.expect("no row comes near its budget")));
        }
    };
    Contender::new(NAME, Side::Tripod, prepare).checked_by(move || {
        let limit = checked.root().limit_bytes();
        let most = checked.try_reserve(limit - bytes).map_err(|error| error.to_string())?;
        let last = checked.try_reserve(bytes).map_err(|error| error.to_string())?;
        let is_hard = checked.try_reserve(1).is_err();
        drop((most, last));
        if is_hard { Ok(()) } else { Err("its limit is not hard".to_owned()) }
    })
}

/// What was handed out until a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HandedOut {
    hits: u64,
    misses: u64,
}

impl HandedOut {
    pub(crate) fn until_now(memory: &MemoryManager) -> Self {
        let stats = memory.stats();
        Self { hits: stats.hits, misses: stats.misses }
    }

    /// Whether buffers came out of the pool since then, and whether they are given back when nobody
    /// needs them any more; no bars if there were none.
    pub(crate) fn bars(self, what: &str, memory: &MemoryManager) -> Vec<Bar> {
        let now = Self::until_now(memory);
        let (hits, misses) = (now.hits - self.hits, now.misses - self.misses);
        if hits + misses == 0 {
            return Vec::new();
        }
        let share = misses as f64 / (hits + misses) as f64;
        let kept = kept_after_ttl(memory) as f64 / f64::from(1 << 20);
        vec![
            Bar::at_most(format!("{what}: share of misses"), share, MISSES_MAX),
            Bar::at_most(format!("{what}: MiB kept after the TTL"), kept, KEPT_MIB_MAX),
        ]
    }
}

/// Bytes that are still idle when the TTL has passed and all steps are done.
fn kept_after_ttl(memory: &MemoryManager) -> u64 {
    // From the next TTL on in seconds, so that it does not matter when idleness was first seen.
    let begin = Instant::now() + TTL;
    for second in 0..2 * TTL.as_secs() {
        Heap::collect(memory, begin + Duration::from_secs(second));
    }
    idle_bytes(memory)
}
