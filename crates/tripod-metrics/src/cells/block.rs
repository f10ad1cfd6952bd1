//! Several cells that change together: the buckets and the sum of a histogram.
//!
//! A block is a sequence number, two sums, and counts, in a row. Its one writer makes the sequence odd,
//! changes a count and the sum, and makes it even again; a reader that saw an odd number, or another
//! one after than before, has read nothing and tries again. (A sequence lock; the fences are those of
//! H.-J. Boehm, "Can seqlocks get along with programming language memory models?", MSPC 2012.)
//!
//! The writer never waits. A reader waits at most for one update, which is a few instructions unless
//! its thread is off the processor just then; so after some tries it lets others run.

use std::ops::Range;

use super::chunk::Chunk;
use crate::sync::{Ordering, fence};

/// Cells of a block in front of its counts.
pub(crate) const BLOCK_HEAD: usize = 3;

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

    /// Counts `value` in `bucket`. Only for the owner of the chunk.
    #[inline(always)]
    pub(super) fn observe(&self, bucket: usize, value: f64) {
        // One check of the range for all cells.
        let cells = self.chunk.row(self.first, BLOCK_HEAD + bucket + 1);
        let (sequence, count) = (&cells[0], &cells[BLOCK_HEAD + bucket]);
        let before = sequence.load(Ordering::Relaxed);
        let sum = &cells[Self::SUMS.start + (before / 2 % 2) as usize];
        sequence.store(before.wrapping_add(1), Ordering::Relaxed);
        // Pairs with the acquire fence of `try_read`: whoever sees one of the stores below also sees
        // the odd number.
        fence(Ordering::Release);
        count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        let total = f64::from_bits(sum.load(Ordering::Relaxed)) + value;
        sum.store(total.to_bits(), Ordering::Relaxed);
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
