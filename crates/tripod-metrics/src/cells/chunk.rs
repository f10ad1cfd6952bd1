//! A row of cells that one thread writes.

use crate::sync::{AtomicU64, Ordering};

/// Cells in a chunk. Few under loom, which tracks each, and under Miri, which is slow.
pub(crate) const CHUNK_CELLS: usize = if cfg!(all(loom, test)) {
    8
} else if cfg!(miri) {
    64
} else {
    512
};

/// The cells of one thread in one group.
///
/// All accesses are `Relaxed`: a number stands alone. What orders owners is the group's lock, and
/// what holds several cells together is the sequence of a [`Block`](super::Block).
#[derive(Debug)]
// Two cache lines, since processors fetch them in pairs. In the order of C, since a chunk may lie in a
// mapped file, where it is its cells and nothing else.
#[repr(C, align(128))]
pub(crate) struct Chunk {
    cells: [AtomicU64; CHUNK_CELLS],
}

impl Chunk {
    pub(crate) fn new() -> Self {
        Self { cells: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// The cells from `first` on, `count` of them.
    #[inline(always)]
    pub(super) fn row(&self, first: usize, count: usize) -> &[AtomicU64] {
        &self.cells[first..first + count]
    }

    #[inline]
    pub(super) fn cell(&self, cell: usize) -> &AtomicU64 {
        &self.cells[cell]
    }

    #[inline]
    pub(super) fn get(&self, cell: usize) -> u64 {
        self.cell(cell).load(Ordering::Relaxed)
    }

    /// Only for the owner of the chunk; or under the group's lock if it has none.
    #[inline]
    pub(super) fn set(&self, cell: usize, value: u64) {
        self.cell(cell).store(value, Ordering::Relaxed);
    }

    /// Only for the owner, as [`set`](Self::set).
    #[inline]
    pub(super) fn add(&self, cell: usize, amount: u64) {
        self.set(cell, self.get(cell).wrapping_add(amount));
    }

    /// Only for the owner, as [`set`](Self::set).
    #[inline]
    pub(super) fn add_float(&self, cell: usize, amount: f64) {
        self.set(cell, (f64::from_bits(self.get(cell)) + amount).to_bits());
    }
}
