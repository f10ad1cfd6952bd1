//! The chunks of all threads for one range of slots.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::backing::{Backing, ChunkRef};
use super::block::Block;
use super::chunk::{CHUNK_CELLS, Chunk};
use crate::sync::{Arc, Mutex, lock};

/// The number of the next group. A number is never used twice, since threads keep tables by it.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The chunks of one range of slots; see [`cells`](super).
#[derive(Debug)]
pub(crate) struct Group {
    number: u32,
    /// Whether the collector is gone.
    ended: AtomicBool,
    /// Where new chunks come from; `None` for the heap.
    backing: Option<Arc<dyn Backing>>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    members: Vec<Member>,
    /// A bit for each cell that holds an `f64`.
    floats: [u64; CHUNK_CELLS.div_ceil(64)],
}

#[derive(Debug)]
struct Member {
    chunk: ChunkRef,
    is_owned: bool,
}

impl Group {
    pub(crate) fn new(backing: Option<Arc<dyn Backing>>) -> Self {
        let inner = Inner { members: Vec::new(), floats: [0; CHUNK_CELLS.div_ceil(64)] };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { number, ended: AtomicBool::new(false), backing, inner: Mutex::new(inner) }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Says that nobody will read or write here any more.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Makes the calling thread the owner of a chunk: one that lost its owner, or a new one.
    pub(crate) fn adopt(&self) -> ChunkRef {
        let mut inner = lock(&self.inner);
        let member = self.unowned(&mut inner);
        member.is_owned = true;
        member.chunk.clone()
    }

    /// Ends the ownership of a chunk. It must be the owner that calls this.
    ///
    /// On the heap at most one chunk without an owner is kept; what another held is added to it. In
    /// a file all are kept, for threads to come: a process that is killed in the midst of such an
    /// addition would leave numbers that are in both.
    pub(crate) fn release(&self, chunk: &ChunkRef) {
        let mut inner = lock(&self.inner);
        let place = inner.members.iter().position(|member| member.chunk.is(chunk));
        let place = place.expect("an owned chunk is a member of its group");
        if self.backing.is_none() && inner.members.iter().any(|member| !member.is_owned) {
            let ended = inner.members.swap_remove(place);
            let floats = inner.floats;
            self.unowned(&mut inner).chunk.absorb(&ended.chunk, &floats);
        } else {
            inner.members[place].is_owned = false;
        }
    }

    /// Runs `write` on a chunk without an owner, under the lock.
    pub(crate) fn with_unowned(&self, write: impl FnOnce(&Chunk)) {
        write(&self.unowned(&mut lock(&self.inner)).chunk);
    }

    /// The whole number in `cell`.
    pub(crate) fn sum(&self, cell: usize) -> u64 {
        let inner = lock(&self.inner);
        inner.chunks().map(|chunk| chunk.get(cell)).fold(0, u64::wrapping_add)
    }

    /// The `f64` in `cell`.
    pub(crate) fn sum_float(&self, cell: usize) -> f64 {
        let inner = lock(&self.inner);
        add(inner.chunks().map(|chunk| f64::from_bits(chunk.get(cell))))
    }

    /// The totals of all cells at once.
    pub(crate) fn sums(&self, totals: &mut [u64; CHUNK_CELLS]) {
        totals.fill(0);
        let inner = lock(&self.inner);
        for chunk in inner.chunks() {
            chunk.add_to(totals, &inner.floats);
        }
    }

    /// Adds the counts of a block to `buckets` and returns its sum.
    pub(crate) fn read_block(&self, first: usize, buckets: &mut [u64]) -> f64 {
        let mut scratch = [0; CHUNK_CELLS];
        let scratch = &mut scratch[..buckets.len()];
        let inner = lock(&self.inner);
        add(inner.chunks().map(|chunk| Block::at(chunk, first).read(buckets, scratch)))
    }

    /// Makes cells that nobody writes 0, in every chunk.
    pub(crate) fn clear(&self, cells: Range<usize>) {
        let mut inner = lock(&self.inner);
        for cell in cells {
            inner.chunks().for_each(|chunk| chunk.set(cell, 0));
            inner.floats[cell / 64] &= !(1 << (cell % 64));
        }
    }

    pub(crate) fn mark_floats(&self, cells: impl Iterator<Item = usize>) {
        let mut inner = lock(&self.inner);
        cells.for_each(|cell| inner.floats[cell / 64] |= 1 << (cell % 64));
    }

    /// A chunk without an owner, which is made if there is none.
    fn unowned<'a>(&self, inner: &'a mut Inner) -> &'a mut Member {
        let place = inner.members.iter().position(|member| !member.is_owned);
        let place = place.unwrap_or_else(|| {
            let backed = self.backing.as_ref().and_then(|backing| backing.chunk(self.number));
            let chunk = backed.unwrap_or_else(ChunkRef::on_heap);
            inner.members.push(Member { chunk, is_owned: false });
            inner.members.len() - 1
        });
        &mut inner.members[place]
    }

    #[cfg(all(loom, test))]
    pub(crate) fn chunks_count(&self) -> usize {
        lock(&self.inner).members.len()
    }
}

impl Inner {
    fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.members.iter().map(|member| &*member.chunk)
    }
}

type Floats = [u64; CHUNK_CELLS.div_ceil(64)];

impl Chunk {
    /// Adds all cells of `other`; neither has an owner, and the group's lock is held.
    fn absorb(&self, other: &Self, floats: &Floats) {
        for cell in 0..CHUNK_CELLS {
            let both = total(self.get(cell), other.get(cell), is_float(floats, cell));
            self.set(cell, both);
        }
    }

    /// Adds all cells to `totals`.
    fn add_to(&self, totals: &mut [u64; CHUNK_CELLS], floats: &Floats) {
        for (word, totals) in totals.chunks_mut(64).enumerate() {
            if floats[word] == 0 {
                for (offset, total) in totals.iter_mut().enumerate() {
                    *total = total.wrapping_add(self.get(word * 64 + offset));
                }
            } else {
                for (offset, sum) in totals.iter_mut().enumerate() {
                    let cell = word * 64 + offset;
                    *sum = total(*sum, self.get(cell), is_float(floats, cell));
                }
            }
        }
    }
}

/// The total in the order given; of nothing it is 0, and not the -0 of the standard library.
fn add(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.fold(0.0, |total, number| total + number)
}

fn is_float(floats: &Floats, cell: usize) -> bool {
    floats[cell / 64] & (1 << (cell % 64)) != 0
}

fn total(a: u64, b: u64, is_float: bool) -> u64 {
    if is_float { (f64::from_bits(a) + f64::from_bits(b)).to_bits() } else { a.wrapping_add(b) }
}
