//! The rows that are measured in bursts: which contenders they have, and what Tripod is held to.

use std::hint::black_box;

use bytes::Bytes;
use mimalloc::MiMalloc;
use tikv_jemallocator::Jemalloc;
use tripod_memory::MemoryManager;

use super::floors::{Locked, ThreadStack};
use super::opponents::allocator::Raw;
use super::opponents::commonware::Iobuf;
use super::opponents::slab::{OwnedSlab, Slab};
use super::opponents::{Linear, Mutable, ObjectPool, Opool, Queue, Vector};
use super::source::Source;
use super::tripod::{self, Pool};
use super::{across, budget, source};
use crate::contender::{Contender, Side};
use crate::row::{Limit, Row, Unit};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Each is made when its turn comes, so that none lies in the caches of another.
pub(crate) type MakeRow = fn(&MemoryManager) -> Row;

/// The rows of threads that have nothing to do with each other.
pub(crate) const OWN: [MakeRow; 8] =
    [own_4k, own_64k, own_1m, burst_1m, burst_64k, burst_4k, hand_off, reserve];

/// The rows of two threads that hand buffers on.
pub(crate) const ACROSS: [MakeRow; 4] = [across_4k, across_64k, across_1m, across_64k_touched];

/// What is done with the buffers of a row.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// One is acquired and released.
    Own,
    /// Some are acquired, touched and released.
    Burst(usize),
    /// One is acquired here and released there.
    Across { is_touched: bool },
}

impl Way {
    fn of<S: Source>(self, name: &'static str, side: Side, len: usize, from: S) -> Contender
    where
        for<'a> S::Held<'a>: Send,
    {
        match self {
            Self::Own => source::own(name, side, len, from),
            Self::Burst(count) => source::burst(name, side, len, count, from),
            Self::Across { is_touched } => across::contender(name, side, len, is_touched, from),
        }
    }

    /// Guards that borrow the slab are quicker, but stay on their thread.
    fn slab(self, name: &'static str, len: usize) -> Contender {
        let side = Side::Opponent;
        match self {
            Self::Own => source::own(name, side, len, Slab::new(len)),
            Self::Burst(count) => source::burst(name, side, len, count, Slab::new(len)),
            Self::Across { .. } => self.of(name, side, len, OwnedSlab::new(len)),
        }
    }

    fn floor(self, len: usize) -> Contender {
        match self {
            Self::Own | Self::Burst(_) => {
                self.of("(a stack of the thread)", Side::Beside, len, ThreadStack(len))
            }
            Self::Across { .. } => across::ring_alone(),
        }
    }
}

const MALLOC: &str = "malloc, as called";
const MIMALLOC: &str = "mimalloc";
const JEMALLOC: &str = "jemalloc";
const ALLOCATORS: [&str; 3] = [MALLOC, MIMALLOC, JEMALLOC];

fn contenders(memory: &MemoryManager, len: usize, way: Way) -> Vec<Contender> {
    let opponent = Side::Opponent;
    let pool = Pool { memory: memory.clone(), len };
    vec![
        way.of(tripod::NAME, Side::Tripod, len, pool),
        way.of("malloc, Vec", opponent, len, Vector(len)),
        way.of(MALLOC, opponent, len, Raw::new(std::alloc::System, len)),
        way.of(MIMALLOC, opponent, len, Raw::new(MiMalloc, len)),
        way.of(JEMALLOC, opponent, len, Raw::new(Jemalloc, len)),
        way.of("opool", opponent, len, Opool::new(len)),
        way.of("commonware iobuf", opponent, len, Iobuf::new(len)),
        way.of("lockfree-object-pool", opponent, len, Linear::new(len)),
        way.of("object-pool", opponent, len, ObjectPool::new(len)),
        way.slab("sharded-slab", len),
        way.of("crossbeam ArrayQueue", opponent, len, Queue::new(len)),
        way.of("BytesMut", opponent, len, Mutable(len)),
        way.of("(a mutex of vectors)", Side::Beside, len, Locked::new(len)),
        way.floor(len),
    ]
}

fn own(memory: &MemoryManager, title: &'static str, len: usize, limits: &[(usize, f64)]) -> Row {
    let limit =
        |(threads, at_most): &(usize, f64)| Limit::OfBest { threads: *threads, at_most: *at_most };
    Row {
        title,
        threads: &[1, 2],
        contenders: contenders(memory, len, Way::Own),
        unit: Unit::CPU_NANOS,
        limits: limits.iter().map(limit).collect(),
    }
}

fn own_4k(memory: &MemoryManager) -> Row {
    let mut row = own(memory, "4 KiB", 4 * KIB, &[(1, 0.6), (2, 0.65)]);
    row.contenders.extend(tripod::other_ways::<{ 4 * KIB }>(memory));
    row
}

fn own_64k(memory: &MemoryManager) -> Row {
    own(memory, "64 KiB", 64 * KIB, &[(1, 0.45)])
}

fn own_1m(memory: &MemoryManager) -> Row {
    own(memory, "1 MiB", MIB, &[(1, 0.45), (2, 0.45)])
}

/// Of an operation that takes milliseconds where memory goes back to the system each time.
fn micros_per_buffer(count: usize) -> Unit {
    Unit {
        name: "us of CPU time per buffer",
        ns: 1e3 * count as f64,
        operations_min: 3,
        warm_up: 2,
    }
}

fn burst(
    memory: &MemoryManager,
    title: &'static str,
    (count, len): (usize, usize),
    limits: Vec<Limit>,
) -> Row {
    let contenders = contenders(memory, len, Way::Burst(count));
    Row { title, threads: &[1], contenders, unit: micros_per_buffer(count), limits }
}

/// The bar counts the allocators. What the row asks is whether memory stays where it was touched:
/// every pool does that, and then a buffer costs the 256 writes to its pages, whoever gave it out.
fn burst_1m(memory: &MemoryManager) -> Row {
    let limits = vec![Limit::OfBestAmong { threads: 1, at_most: 0.85, names: &ALLOCATORS }];
    burst(memory, "burst of 16 x 1 MiB, each page touched", (16, MIB), limits)
}

fn burst_64k(memory: &MemoryManager) -> Row {
    burst(memory, "burst of 64 x 64 KiB, each page touched", (64, 64 * KIB), Vec::new())
}

fn burst_4k(memory: &MemoryManager) -> Row {
    burst(memory, "burst of 64 x 4 KiB, each page touched", (64, 4 * KIB), Vec::new())
}

fn across(
    memory: &MemoryManager,
    title: &'static str,
    (len, is_touched): (usize, bool),
    at_most: f64,
) -> Row {
    let name = "ns of wall time per buffer of the slower thread";
    Row {
        title,
        threads: &[2],
        contenders: contenders(memory, len, Way::Across { is_touched }),
        unit: Unit { name, ns: 1.0, operations_min: 1_000, warm_up: 500 },
        limits: vec![Limit::OfBestByRound { threads: 2, at_most }],
    }
}

fn across_4k(memory: &MemoryManager) -> Row {
    across(memory, "4 KiB, acquired here and released there", (4 * KIB, false), 0.6)
}

fn across_64k(memory: &MemoryManager) -> Row {
    across(memory, "64 KiB, acquired here and released there", (64 * KIB, false), 1.0)
}

fn across_1m(memory: &MemoryManager) -> Row {
    across(memory, "1 MiB, acquired here and released there", (MIB, false), 1.0)
}

fn across_64k_touched(memory: &MemoryManager) -> Row {
    let title = "64 KiB, acquired and each page touched here, released there";
    across(memory, title, (64 * KIB, true), 1.0)
}

fn hand_off(memory: &MemoryManager) -> Row {
    const LEN: usize = 64 * KIB;
    let copy = || {
        let from = vec![7_u8; LEN];
        move |_| {
            let bytes = Bytes::copy_from_slice(black_box(&from));
            let clone = black_box(&bytes).clone();
            drop(bytes);
            drop(black_box(clone));
        }
    };
    Row {
        title: "64 KiB to Bytes, cloned, both dropped",
        threads: &[1],
        contenders: vec![
            tripod::hand_off(memory, LEN),
            Contender::new("Bytes, copied", Side::Opponent, copy),
            source::own("(commonware iobuf alone)", Side::Beside, LEN, Iobuf::new(LEN)),
        ],
        unit: Unit::CPU_NANOS,
        limits: vec![Limit::OfBest { threads: 1, at_most: 0.1 }],
    }
}

fn reserve(memory: &MemoryManager) -> Row {
    const BYTES: u64 = 4_096;
    Row {
        title: "4,096 bytes reserved and released",
        threads: &[1, 2],
        contenders: vec![
            tripod::reserve(memory, BYTES),
            budget::one_counter(BYTES),
            budget::one_mutex(BYTES),
        ],
        unit: Unit::CPU_NANOS,
        limits: vec![Limit::Figure { threads: 2, at_most: 2.5 }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::burst::Burst;

    /// In a run for real this costs minutes; here each contender shows that it works at all.
    #[test]
    fn every_contender_of_every_row_does_its_work() {
        for make in OWN.iter().chain(&ACROSS) {
            let row = make(&tripod::manager());
            for contender in &row.contenders {
                contender.check().unwrap_or_else(|error| panic!("{}: {error}", row.title));
                for threads in row.threads.iter().copied() {
                    let burst = Burst { threads, operations: 20, warm_up: 2 };
                    let sample = contender.measure(burst);
                    let sample = sample.unwrap_or_else(|error| panic!("{}: {error}", row.title));
                    assert!(sample.ns > 0.0, "{}, {}", row.title, contender.name);
                }
            }
        }
    }
}
