//! Totals of many slots, read a group at a time.

use super::chunk::CHUNK_CELLS;
use super::{Cells, Slot};

/// Reads slots of one collector; quick where they come in order.
///
/// A group is read as a whole when the first of its slots is asked for, so the values of its slots
/// are of one moment, and as old as that.
pub(crate) struct Sums<'a> {
    cells: &'a Cells,
    group: Option<usize>,
    totals: Box<[u64; CHUNK_CELLS]>,
}

impl<'a> Sums<'a> {
    pub(crate) fn new(cells: &'a Cells) -> Self {
        Self { cells, group: None, totals: Box::new([0; CHUNK_CELLS]) }
    }

    /// Reads anew from here on. To be called whenever slots may have changed hands: a group that was
    /// read before a series was removed has the value of that series, in a slot that by now may be
    /// another's.
    pub(crate) fn forget(&mut self) {
        self.group = None;
    }

    /// The bits of the number at `slot`: a `u64`, or an `f64` if the slot was marked as one.
    #[inline]
    pub(crate) fn bits(&mut self, slot: Slot) -> u64 {
        if self.group != Some(slot.group()) {
            self.cells.group(slot).sums(&mut self.totals);
            self.group = Some(slot.group());
        }
        self.totals[slot.cell()]
    }
}
