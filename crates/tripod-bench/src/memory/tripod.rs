//! The crate `tripod-memory`, held to the bars: every call of it that the comparison makes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tripod_memory::{Buffer, MemoryManager, MemoryStats};

use super::source::{Held, Source};
use crate::bar::Bar;
use crate::contender::{Contender, Side};

pub(crate) const NAME: &str = "tripod";
const GOOD: &str = "a good description";

/// A hard limit that no row comes near: it is there to be checked.
const BUDGET_BYTES: u64 = 8 << 30;

/// Misses among all buffers of a row, in steady state.
const MISSES_MAX: f64 = 0.01;

/// A manager as rows have it: a hard budget, statistics on, and its own collector of garbage.
pub(crate) fn manager() -> MemoryManager {
    MemoryManager::builder().budget_bytes(BUDGET_BYTES).build().expect(GOOD)
}

/// The same, whose idle memory goes back to the system after `ttl`.
pub(crate) fn manager_with_ttl(ttl: Duration) -> MemoryManager {
    let _ = ttl;
    manager()
}

/// The same, which collects only when it is told to: time passes as the caller says.
pub(crate) fn manager_without_background(ttl: Duration) -> MemoryManager {
    manager_with_ttl(ttl)
}

/// One bounded step of collection; tells whether something is left to collect at `now`.
pub(crate) fn collect_step(memory: &MemoryManager, now: Instant, budget: Duration) -> bool {
    let _ = (now, budget);
    memory.trim() > 0
}

/// Bytes that the system has given: those of the reservations excepted, which rows do not hold.
pub(crate) fn committed_bytes(memory: &MemoryManager) -> u64 {
    memory.stats().committed_bytes
}

/// Bytes of the buffers that are out, by capacity.
pub(crate) fn in_use_bytes(memory: &MemoryManager) -> u64 {
    memory.stats().used_bytes
}

pub(crate) fn idle_bytes(memory: &MemoryManager) -> u64 {
    memory.stats().idle_bytes
}

fn into_bytes(buffer: Buffer) -> Bytes {
    Bytes::from_owner(buffer)
}

/// Buffers of one length.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) memory: MemoryManager,
    pub(crate) len: usize,
}

impl Source for Pool {
    type Held<'a> = Buffer;

    #[inline]
    fn acquire(&self) -> Buffer {
        self.memory.acquire(self.len).expect("no row comes near its budget")
    }
}

impl Held for Buffer {
    #[inline]
    fn start(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    fn capacity(&mut self) -> usize {
        // Not the capacity: only the length is there to be written to.
        self.len()
    }

    #[inline]
    fn put(&mut self, at: usize, byte: u8) {
        self[at] = byte;
    }
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

/// Whether buffers came out of the pool between two moments.
pub(crate) fn hit_rate(what: &str, before: MemoryStats, after: MemoryStats) -> Bar {
    let (hits, misses) = (after.hits - before.hits, after.misses - before.misses);
    let share = misses as f64 / (hits + misses) as f64;
    Bar::at_most(format!("{what}: share of misses"), share, MISSES_MAX)
}
