//! Where numbers are kept: each writing thread has cells of its own, and readers add them up.
//!
//! A *slot* is the place of one number (or of several in a row) within a collector. For 512 slots
//! there is a [`Group`], and in it one [`Chunk`] of 512 cells for every thread that has written to
//! one of them. The value of a slot is the total over the chunks of its group.
//!
//! Who may touch what:
//! - a cell is written only by the thread that owns its chunk, with a plain load and a plain store;
//!   anybody may read it at any time;
//! - a chunk without an owner (its thread has ended) is written only under the lock of its group; the
//!   next thread that comes adopts it with what it holds, so values never move while they count;
//! - who owns what changes only under the lock of the group, which also orders the last store of one
//!   owner before the first load of the next.
//!
//! So an increment is a load, an addition and a store, on a cache line that no other thread writes,
//! and 20,000 short threads need as many chunks as ran at once.
//!
//! The chunks of a thread are found through a table in thread-local storage ([`local`]), by the
//! number of the group, which is never used twice in a process.
//!
//! Chunks lie on the heap, or in a file that outlives the process; see [`Backing`].

mod backing;
mod block;
mod chunk;
mod group;
mod local;
mod mapping;
#[cfg(all(loom, test))]
mod model;
mod sums;

pub(crate) use backing::{Backing, ChunkRef};
pub(crate) use block::{BLOCK_HEAD, Block, Remains};
pub(crate) use chunk::CHUNK_CELLS;
pub(crate) use group::FloatTotal;
pub(crate) use mapping::{Extent, PAGE_BYTES};
pub(crate) use sums::Sums;

use std::collections::BTreeMap;

use self::chunk::Chunk;
use self::group::Group;
use crate::sync::{Arc, Mutex, RwLock, lock, read, write};

/// The place of a number: which group, and which cell in each of its chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(u32);

impl Slot {
    fn new(group: u32, cell: usize) -> Self {
        debug_assert!(cell < CHUNK_CELLS, "cell {cell} is outside of a chunk");
        let group = group.checked_mul(CHUNK_CELLS as u32).expect("groups are numbered below 2^23");
        Self(group + cell as u32)
    }

    /// The number that stands for the slot; always less than `u32::MAX`.
    #[inline]
    pub(crate) fn to_raw(self) -> u32 {
        self.0
    }

    /// Undoes [`to_raw`](Self::to_raw).
    #[inline]
    pub(crate) fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The number of the group.
    #[inline]
    pub(crate) fn group(self) -> usize {
        self.0 as usize / CHUNK_CELLS
    }

    /// Which cell in each of the group's chunks.
    #[inline]
    pub(crate) fn cell(self) -> usize {
        self.0 as usize % CHUNK_CELLS
    }
}

/// All cells of one collector.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    /// Ascending by number.
    groups: RwLock<Vec<Arc<Group>>>,
    free: Mutex<Free>,
    backing: Option<Arc<dyn Backing>>,
}

/// The slots that are not in use.
#[derive(Debug, Default)]
struct Free {
    /// Freed runs of slots by their length.
    runs: BTreeMap<usize, Vec<Slot>>,
    /// What is left of the newest group: its number and the first cell not given out.
    rest: Option<(u32, usize)>,
}

impl Cells {
    /// Cells whose chunks lie where `backing` says.
    pub(crate) fn backed_by(backing: Arc<dyn Backing>) -> Self {
        Self { groups: RwLock::default(), free: Mutex::default(), backing: Some(backing) }
    }

    /// Takes `count` slots in a row, whose cells are all 0, and returns the first.
    ///
    /// # Panics
    /// If `count` is 0 or more than a chunk has cells; callers check that at registration.
    pub(crate) fn allocate(&self, count: usize) -> Slot {
        assert!((1..=CHUNK_CELLS).contains(&count), "{count} slots do not fit in one chunk");
        let mut free = lock(&self.free);
        if let Some(slot) = free.runs.get_mut(&count).and_then(Vec::pop) {
            return slot;
        }
        let (group, first) = match free.rest {
            Some((group, first)) if first + count <= CHUNK_CELLS => (group, first),
            rest => {
                if let Some((group, first)) = rest.filter(|(_, first)| *first < CHUNK_CELLS) {
                    let left = CHUNK_CELLS - first;
                    free.runs.entry(left).or_default().push(Slot::new(group, first));
                }
                (self.add_group(), 0)
            }
        };
        free.rest = Some((group, first + count));
        Slot::new(group, first)
    }

    /// Gives back slots that nobody will write to any more.
    ///
    /// The caller has seen to it that every write to them happened before this call.
    pub(crate) fn free(&self, first: Slot, count: usize) {
        self.group(first).clear(first.cell()..first.cell() + count);
        lock(&self.free).runs.entry(count).or_default().push(first);
    }

    fn add_group(&self) -> u32 {
        let group = Arc::new(Group::new(self.backing.clone()));
        let number = group.number();
        let mut groups = write(&self.groups);
        // Numbers are given out by a counter, but two threads may get here in another order.
        let place = groups.partition_point(|other| other.number() < number);
        groups.insert(place, group);
        number
    }

    fn group(&self, slot: Slot) -> Arc<Group> {
        let groups = read(&self.groups);
        let number = slot.group() as u32;
        let place = groups.partition_point(|group| group.number() < number);
        let group = groups.get(place).filter(|group| group.number() == number);
        Arc::clone(group.expect("a slot belongs to a group of its cells"))
    }

    /// Adds what cells of an earlier process held to the slots from `first` on, to which nobody has
    /// written yet.
    pub(crate) fn seed(&self, first: Slot, cells: &[u64]) {
        self.group(first).with_unowned(|chunk| {
            for (offset, bits) in cells.iter().enumerate() {
                chunk.set(first.cell() + offset, *bits);
            }
        });
    }

    /// Says that the cells of `first` and the `count - 1` slots behind it hold `f64`.
    pub(crate) fn mark_floats(&self, first: Slot, cells: impl Iterator<Item = usize>) {
        self.group(first).mark_floats(cells.map(|cell| first.cell() + cell));
    }

    /// Adds to the whole number at `slot`.
    #[inline]
    pub(crate) fn add(&self, slot: Slot, amount: u64) {
        if !try_add(slot, amount) {
            self.add_slowly(slot, amount);
        }
    }

    /// As [`add`](Self::add), for when [`try_add`] could not.
    #[cold]
    pub(crate) fn add_slowly(&self, slot: Slot, amount: u64) {
        self.with_new(slot, |chunk| chunk.add(slot.cell(), amount));
    }

    /// Adds to the `f64` at `slot`.
    #[inline]
    pub(crate) fn add_float(&self, slot: Slot, amount: f64) {
        let write = |chunk: &Chunk| chunk.add_float(slot.cell(), amount);
        if !local::with_chunk(slot.group(), write) {
            self.with_new(slot, write);
        }
    }

    /// Records a value in the block at `first`, for when [`try_observe`] could not.
    #[cold]
    pub(crate) fn observe_slowly(&self, first: Slot, bucket: usize, value: f64) {
        self.with_new(first, |chunk| Block::at(chunk, first.cell()).observe(bucket, value));
    }

    /// Runs `write` on a chunk that becomes the calling thread's.
    ///
    /// A thread whose thread-local storage is gone already writes under the group's lock.
    fn with_new(&self, slot: Slot, write: impl FnOnce(&Chunk)) {
        let group = self.group(slot);
        match local::adopt(&group) {
            Some(chunk) => write(&chunk),
            None => group.with_unowned(write),
        }
    }

    /// The whole number at `slot`.
    pub(crate) fn sum(&self, slot: Slot) -> u64 {
        self.group(slot).sum(slot.cell())
    }

    /// The `f64` at `slot`.
    pub(crate) fn sum_float(&self, slot: Slot) -> f64 {
        self.group(slot).sum_float(slot.cell())
    }

    /// Adds what the block at `first` holds to `buckets`, and returns its sum.
    ///
    /// `buckets` has one entry for each bucket of the block. What is added is the same set of
    /// observations as is in the sum.
    pub(crate) fn read_block(&self, first: Slot, buckets: &mut [u64]) -> f64 {
        self.group(first).read_block(first.cell(), buckets)
    }
}

/// Adds to the whole number at `slot`, if the calling thread has a chunk there.
///
/// It needs no collector, so a handle that calls this first touches nothing but the cell.
#[inline(always)]
pub(crate) fn try_add(slot: Slot, amount: u64) -> bool {
    local::with_chunk(slot.group(), |chunk| chunk.add(slot.cell(), amount))
}

/// Records a value in the block at `first`, if the calling thread has a chunk there.
#[inline(always)]
pub(crate) fn try_observe(first: Slot, bucket: usize, value: f64) -> bool {
    local::with_chunk(first.group(), |chunk| {
        Block::at(chunk, first.cell()).observe(bucket, value);
    })
}

impl Drop for Cells {
    fn drop(&mut self) {
        // No handle is left. Threads let go of their chunks when they next look for a new one.
        for group in read(&self.groups).iter() {
            group.end();
        }
    }
}
