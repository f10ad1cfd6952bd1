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
        lock(&self.inner).sum_float(cell)
    }

    /// The totals of all cells at once.
    pub(crate) fn sums(&self, totals: &mut [u64; CHUNK_CELLS]) {
        totals.fill(0);
        let inner = lock(&self.inner);
        for chunk in inner.chunks() {
            for (cell, total) in totals.iter_mut().enumerate() {
                *total = total.wrapping_add(chunk.get(cell));
            }
        }
        for (cell, total) in totals.iter_mut().enumerate() {
            if is_float(&inner.floats, cell) {
                *total = inner.sum_float(cell).to_bits();
            }
        }
    }

    /// Adds the counts of a block to `buckets` and returns its sum.
    pub(crate) fn read_block(&self, first: usize, buckets: &mut [u64]) -> f64 {
        let mut scratch = [0; CHUNK_CELLS];
        let scratch = &mut scratch[..buckets.len()];
        let inner = lock(&self.inner);
        let mut sum = FloatTotal::default();
        for chunk in inner.chunks() {
            // One by one: added up here they would be rounded twice.
            Block::at(chunk, first).read(buckets, scratch).into_iter().for_each(|own| sum.add(own));
        }
        sum.value()
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

    fn sum_float(&self, cell: usize) -> f64 {
        let mut sum = FloatTotal::default();
        self.chunks().for_each(|chunk| sum.add(f64::from_bits(chunk.get(cell))));
        sum.value()
    }
}

type Floats = [u64; CHUNK_CELLS.div_ceil(64)];

impl Chunk {
    /// Adds all cells of `other`; neither has an owner, and the group's lock is held.
    fn absorb(&self, other: &Self, floats: &Floats) {
        for cell in 0..CHUNK_CELLS {
            let (own, others) = (self.get(cell), other.get(cell));
            let both = if is_float(floats, cell) {
                add_upwards(f64::from_bits(own), f64::from_bits(others)).to_bits()
            } else {
                own.wrapping_add(others)
            };
            self.set(cell, both);
        }
    }
}

fn is_float(floats: &Floats, cell: usize) -> bool {
    floats[cell / 64] & (1 << (cell % 64)) != 0
}

/// The total of floats, rounded once, so that it is the same in any order.
///
/// Chunks come and go and change places. Added up plainly, 0.1, 0.2 and 0.3 are one bit less in
/// another order, and a total that falls by one bit reads as a counter that was reset. (A. Neumaier,
/// "Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen", ZAMM 54, 1974.)
#[derive(Debug, Default)]
pub(crate) struct FloatTotal {
    sum: f64,
    /// What was lost by rounding.
    lost: f64,
}

impl FloatTotal {
    pub(crate) fn add(&mut self, number: f64) {
        self.lost += lost_by_adding(self.sum, number);
        self.sum += number;
    }

    pub(crate) fn value(&self) -> f64 {
        let exact = self.sum + self.lost;
        // Infinities lose what is no number.
        if exact.is_nan() { self.sum } else { exact }
    }
}

/// What `a + b` loses by rounding, exactly (D. Knuth, The Art of Computer Programming 2, 4.2.2).
fn lost_by_adding(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let own = sum - b;
    (a - own) + (b - (sum - own))
}

/// Adds, and rounds up where it has to round: a total may not fall because two chunks become one.
fn add_upwards(a: f64, b: f64) -> f64 {
    let sum = a + b;
    if lost_by_adding(a, b) > 0.0 { sum.next_up() } else { sum }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const CELL: usize = 3;

    /// A group with a chunk for each of `numbers`, in that order.
    fn group_of(numbers: &[f64]) -> (Group, Vec<ChunkRef>) {
        let group = Group::new(None);
        group.mark_floats([CELL].into_iter());
        let chunks = numbers.iter().map(|number| {
            let chunk = group.adopt();
            chunk.add_float(CELL, *number);
            chunk
        });
        let chunks = chunks.collect();
        (group, chunks)
    }

    #[test]
    fn a_total_of_floats_does_not_fall_when_threads_end_in_any_order() {
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        for numbers in [[0.1, 0.2, 0.3], [1e16, 1.0, 1.0], [1e-300, 1e300, 7.0]] {
            for order in orders {
                let (group, chunks) = group_of(&numbers);
                let mut last = group.sum_float(CELL);
                for place in order {
                    group.release(&chunks[place]);
                    let mut totals = [0; CHUNK_CELLS];
                    group.sums(&mut totals);
                    let total = group.sum_float(CELL);
                    assert_eq!(f64::from_bits(totals[CELL]), total);
                    assert!(total >= last, "{total} after {last} of {numbers:?} in {order:?}");
                    last = total;
                }
            }
        }
    }

    #[test]
    fn totals_of_floats_are_exact_to_one_rounding() {
        let (group, _chunks) = group_of(&[1e16, 1.0, -1e16, 1.0]);
        assert_eq!(group.sum_float(CELL), 2.0);
        for (numbers, expected) in [
            ([f64::INFINITY, 1.0, 2.0], f64::INFINITY),
            ([f64::MAX, f64::MAX, 1.0], f64::INFINITY),
            ([1.0, f64::NEG_INFINITY, 1.0], f64::NEG_INFINITY),
        ] {
            let (group, chunks) = group_of(&numbers);
            assert_eq!(group.sum_float(CELL), expected);
            chunks.iter().for_each(|chunk| group.release(chunk));
            assert_eq!(group.sum_float(CELL), expected);
        }
        let (group, _chunks) = group_of(&[f64::INFINITY, f64::NEG_INFINITY]);
        assert!(group.sum_float(CELL).is_nan());
    }

    #[test]
    fn threads_that_end_leave_one_chunk_at_most() {
        let (group, chunks) = group_of(&[0.5; 9]);
        chunks.iter().for_each(|chunk| group.release(chunk));
        assert_eq!(lock(&group.inner).members.len(), 1);
        assert_eq!(group.sum_float(CELL), 4.5);
        // It is adopted with what it holds.
        group.adopt().add_float(CELL, 0.5);
        assert_eq!(lock(&group.inner).members.len(), 1);
        assert_eq!(group.sum_float(CELL), 5.0);
    }

    /// The lock of a group is for readers, and for threads that come and go.
    #[test]
    fn a_thread_that_has_a_chunk_goes_on_while_the_group_is_locked() {
        use std::sync::mpsc::channel;
        use std::time::Duration;

        let cells = super::super::Cells::default();
        let counter = cells.allocate(1);
        let block = cells.allocate(4);
        let write = || {
            cells.add(counter, 1);
            cells.add_float(counter, 0.0);
            assert!(super::super::try_observe(block, 1, 2.0), "the thread has a chunk");
        };
        let (touched, is_touched) = channel();
        let (may_go_on, go_on) = channel::<()>();
        let (done, is_done) = channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                write();
                touched.send(()).unwrap();
                go_on.recv().unwrap();
                (0..99).for_each(|_| write());
                done.send(()).unwrap();
            });
            is_touched.recv().unwrap();
            let group = cells.group(counter);
            let locked = lock(&group.inner);
            may_go_on.send(()).unwrap();
            let outcome = is_done.recv_timeout(Duration::from_secs(20));
            drop(locked);
            outcome.expect("a writer waited for the lock");
        });
        let mut buckets = [0; 2];
        assert_eq!((cells.sum(counter), cells.read_block(block, &mut buckets)), (100, 200.0));
        assert_eq!(buckets, [0, 100]);
    }
}
