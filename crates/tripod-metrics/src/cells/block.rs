//! Several cells that change together: the buckets and the sum of a histogram.
//!
//! A block is a sequence number, two sums, a next sum, and counts, in a row. Its one writer makes the
//! sequence odd,
//! changes a count and the sum, and makes it even again; a reader that saw an odd number, or another
//! one after than before, has read nothing and tries again. (A sequence lock; the fences are those of
//! H.-J. Boehm, "Can seqlocks get along with programming language memory models?", MSPC 2012.)
//!
//! The writer never waits. A reader waits at most for one update, which is a few instructions unless
//! its thread is off the processor just then; so after some tries it lets others run.
//!
//! A writer may also be killed in the midst of an update, with the block in a mapped file. What it
//! left is put right by [`Remains`]: the sequence is twice the number of values, so it tells whether
//! the count was raised, and the sum that goes with it was noted in the block before. This rests on
//! the order in which one processor stores, so fences for the compiler are enough.

use std::ops::Range;
use std::sync::atomic::compiler_fence;

use super::chunk::Chunk;
use crate::sync::{Ordering, fence};

/// Cells of a block in front of its counts.
pub(crate) const BLOCK_HEAD: usize = 4;

/// A block within a chunk.
pub(crate) struct Block<'a> {
    chunk: &'a Chunk,
    first: usize,
}

impl<'a> Block<'a> {
    #[inline]
    pub(super) fn at(chunk: &'a Chunk, first: usize) -> Self {
        Self { chunk, first }
    }

    /// The cells that hold floats. Values are added to one and the other in turn: an addition has to
    /// wait for the one before it to the same cell, 3.3 ns where all else takes 2 (Zen 4, 2026-11).
    pub(crate) const SUMS: Range<usize> = 1..3;
    /// The cell that holds what one of the sums is to be, while the sequence is odd; else it means
    /// nothing.
    pub(crate) const NEXT_SUM: usize = 3;

    /// Counts `value` in `bucket`. Only for the owner of the chunk.
    #[inline(always)]
    pub(super) fn observe(&self, bucket: usize, value: f64) {
        // One check of the range for all cells.
        let cells = self.chunk.row(self.first, BLOCK_HEAD + bucket + 1);
        let (sequence, count) = (&cells[0], &cells[BLOCK_HEAD + bucket]);
        let before = sequence.load(Ordering::Relaxed);
        let sum = &cells[Self::SUMS.start + (before / 2 % 2) as usize];
        let total = (f64::from_bits(sum.load(Ordering::Relaxed)) + value).to_bits();
        cells[Self::NEXT_SUM].store(total, Ordering::Relaxed);
        // Whoever finds an odd number in a file also finds the next sum.
        compiler_fence(Ordering::Release);
        sequence.store(before.wrapping_add(1), Ordering::Relaxed);
        // Pairs with the acquire fence of `try_read`: whoever sees one of the stores below also sees
        // the odd number.
        fence(Ordering::Release);
        count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        // The count before the sum: a count that was not raised means a sum that was not touched.
        compiler_fence(Ordering::Release);
        sum.store(total, Ordering::Relaxed);
        // Pairs with the first load of `try_read`.
        sequence.store(before.wrapping_add(2), Ordering::Release);
    }

    /// Adds the counts to `buckets` and returns the sums, as they were together at one moment.
    ///
    /// `scratch` is as long as `buckets`; its contents do not matter.
    pub(super) fn read(&self, buckets: &mut [u64], scratch: &mut [u64]) -> [f64; 2] {
        for attempt in 0.. {
            if let Some(sums) = self.try_read(scratch) {
                for (bucket, count) in buckets.iter_mut().zip(scratch) {
                    *bucket = bucket.wrapping_add(*count);
                }
                return sums;
            }
            pause(attempt);
        }
        unreachable!("the attempts do not end");
    }

    fn try_read(&self, counts: &mut [u64]) -> Option<[f64; 2]> {
        let before = self.chunk.cell(self.first).load(Ordering::Acquire);
        if !before.is_multiple_of(2) {
            return None;
        }
        for (bucket, count) in counts.iter_mut().enumerate() {
            *count = self.chunk.get(self.first + BLOCK_HEAD + bucket);
        }
        let sums = [0, 1]
            .map(|place| f64::from_bits(self.chunk.get(self.first + Self::SUMS.start + place)));
        // Pairs with the release fence of `observe`.
        fence(Ordering::Acquire);
        (self.chunk.get(self.first) == before).then_some(sums)
    }
}

/// The cells of a block as its writer left them, perhaps in the midst of an update.
#[derive(Debug, PartialEq)]
pub(crate) struct Remains<'a> {
    pub(crate) sums: [f64; 2],
    pub(crate) counts: &'a [u64],
}

impl<'a> Remains<'a> {
    /// Takes the update that was under way as done if its count was raised, and as not begun
    /// otherwise. `None` if the cells contradict each other, so that they are not those of a block.
    pub(crate) fn of(cells: &'a [u64]) -> Option<Self> {
        let (head, counts) = cells.split_at_checked(BLOCK_HEAD)?;
        let (sequence, counted) =
            (head[0], counts.iter().fold(0, |all: u64, own| all.wrapping_add(*own)));
        let (before, is_odd) = (sequence >> 1, sequence & 1 == 1);
        let mut sums = [0, 1].map(|place| head[Block::SUMS.start + place]);
        if is_odd && counted == before.wrapping_add(1) {
            sums[(before % 2) as usize] = head[Block::NEXT_SUM];
        } else if counted != before {
            return None;
        }
        Some(Self { sums: sums.map(f64::from_bits), counts })
    }
}

/// Waits a little before the next attempt: within the processor first, then by yielding.
fn pause(attempt: u32) {
    const SPINS: u32 = 32;
    #[cfg(all(loom, test))]
    loom::thread::yield_now();
    #[cfg(not(all(loom, test)))]
    if attempt < SPINS {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
    #[cfg(all(loom, test))]
    let _ = (attempt, SPINS);
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    /// A block of two buckets.
    type Cells = [u64; BLOCK_HEAD + 2];

    /// What a block holds after each store of an update, in the order of the stores.
    fn states(before: Cells, bucket: usize, value: f64) -> Vec<Cells> {
        let own = Block::SUMS.start + (before[0] / 2 % 2) as usize;
        let sum = (f64::from_bits(before[own]) + value).to_bits();
        let stores = [
            (Block::NEXT_SUM, sum),
            (0, before[0] + 1),
            (BLOCK_HEAD + bucket, before[BLOCK_HEAD + bucket] + 1),
            (own, sum),
            (0, before[0] + 2),
        ];
        let mut cells = before;
        let after = stores.map(|(cell, bits)| {
            cells[cell] = bits;
            cells
        });
        [before].into_iter().chain(after).collect()
    }

    #[test]
    fn an_update_that_was_cut_off_is_done_or_not_begun() {
        let chunk = Chunk::new();
        let block = Block::at(&chunk, 0);
        block.observe(0, 0.5);
        for last in [2.25, 4.0] {
            let cells = |chunk: &Chunk| -> Cells { std::array::from_fn(|cell| chunk.get(cell)) };
            let begun = cells(&chunk);
            let states = states(begun, 1, last);
            block.observe(1, last);
            assert_eq!(
                states.last(),
                Some(&cells(&chunk)),
                "the stores above are those of `observe`"
            );

            let seen: Vec<(f64, u64)> = states
                .iter()
                .map(|cells| Remains::of(cells).expect("each state can be left behind"))
                .map(|remains| (remains.sums.iter().sum(), remains.counts.iter().sum()))
                .collect();
            let before = seen[0];
            let after = (before.0 + last, before.1 + 1);
            assert_eq!(seen, [before, before, before, after, after, after]);
        }
    }

    #[test]
    fn cells_that_contradict_each_other_are_no_block() {
        for [sequence, first, second] in [[2, 0, 0], [2, 1, 1], [3, 0, 0], [3, 2, 1]] {
            let cells = [sequence, 0, 0, 0, first, second];
            assert_eq!(Remains::of(&cells), None, "{cells:?}");
        }
        assert_eq!(Remains::of(&[0, 0, 0]), None);
    }
}
