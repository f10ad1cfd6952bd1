//! The depot: where threads exchange whole batches of buffers of one size class.
//!
//! A few cells, each with room for a batch. A thread that has too many puts a batch into an empty
//! cell, one that has none takes a batch out of a full one. Nobody waits and nothing is allocated: a
//! cell that another thread is just filling or emptying is passed by.
//!
//! # Who may touch a cell, and when
//! `state` tells. *Empty* and *full* cells belong to nobody; whoever changes a cell from one of these
//! to *taken* owns its slots until it stores the next state. The compare-and-swap that takes a cell
//! acquires what the `Release` of the last owner's store published.
//!
//! A thread touches a depot only while it is busy in the sense of [`guard`](crate::guard). So once a
//! reclaimer has revoked the magazines of every thread and found none busy, no cell is taken, and
//! what [`Depot::drain`] finds is all there is.

use std::ptr::NonNull;

use crate::sync::{AtomicPtr, AtomicU32, Ordering};

#[cfg(all(test, loom))]
mod model;

/// The most buffers that are exchanged at once: a cell then fills whole lines of a cache.
#[cfg(not(loom))]
pub(crate) const BATCH_MAX: usize = 31;
#[cfg(loom)]
pub(crate) const BATCH_MAX: usize = 2;

/// How many batches a depot holds at most.
#[cfg(not(loom))]
const CELLS: usize = 8;
#[cfg(loom)]
const CELLS: usize = 2;

const EMPTY: u32 = 0;
const TAKEN: u32 = 1;
const FULL: u32 = 2;
/// The state's bits; above them the number of times that the cell was filled.
const STATE: u32 = 3;
const ROUND: u32 = 4;

/// The batches of one size class.
#[derive(Debug)]
pub(crate) struct Depot {
    cells: [Cell; CELLS],
}

/// Aligned so that two threads at two cells do not share a line.
#[derive(Debug)]
#[repr(align(64))]
struct Cell {
    state: AtomicU32,
    /// How many slots are filled. Like them, of the cell's owner alone.
    held: AtomicU32,
    slots: [AtomicPtr<u8>; BATCH_MAX],
}

/// Buffers on their way.
#[derive(Debug)]
pub(crate) struct Batch {
    slots: [*mut u8; BATCH_MAX],
    len: usize,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self { slots: [std::ptr::null_mut(); BATCH_MAX], len: 0 }
    }

    /// There must be room.
    #[inline]
    pub(crate) fn push(&mut self, slot: NonNull<u8>) {
        self.slots[self.len] = slot.as_ptr();
        self.len += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<NonNull<u8>> {
        self.len = self.len.checked_sub(1)?;
        NonNull::new(self.slots[self.len])
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = NonNull<u8>> + '_ {
        self.slots[..self.len].iter().filter_map(|&slot| NonNull::new(slot))
    }
}

impl Cell {
    fn new() -> Self {
        Self {
            state: AtomicU32::new(EMPTY),
            held: AtomicU32::new(0),
            slots: std::array::from_fn(|_| AtomicPtr::new(std::ptr::null_mut())),
        }
    }

    /// Makes the cell the caller's if it is in `wanted`; answers its round.
    #[inline]
    fn take(&self, wanted: u32) -> Option<u32> {
        let state = self.state.load(Ordering::Relaxed);
        if state & STATE != wanted {
            return None;
        }
        let round = state & !STATE;
        self.state
            .compare_exchange(state, round | TAKEN, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| round)
    }

    fn fill(&self, round: u32, batch: &Batch) {
        for (slot, filled) in batch.iter().zip(&self.slots) {
            filled.store(slot.as_ptr(), Ordering::Relaxed);
        }
        self.held.store(batch.len() as u32, Ordering::Relaxed);
        self.state.store(round.wrapping_add(ROUND) | FULL, Ordering::Release);
    }

    fn empty(&self, round: u32) -> Batch {
        let mut batch = Batch::new();
        let held = self.held.load(Ordering::Relaxed) as usize;
        for filled in &self.slots[..held] {
            batch.slots[batch.len] = filled.load(Ordering::Relaxed);
            batch.len += 1;
        }
        self.state.store(round | EMPTY, Ordering::Release);
        batch
    }
}

impl Depot {
    pub(crate) fn new() -> Self {
        Self { cells: std::array::from_fn(|_| Cell::new()) }
    }

    /// Leaves `batch` in one of the first `cells` cells; false if none of them is free at this moment.
    #[inline]
    pub(crate) fn put(&self, batch: &Batch, cells: usize) -> bool {
        for cell in self.cells.iter().take(cells) {
            if let Some(round) = cell.take(EMPTY) {
                cell.fill(round, batch);
                return true;
            }
        }
        false
    }

    /// Takes a batch, if there is one that nobody else is at.
    #[inline]
    pub(crate) fn take(&self) -> Option<Batch> {
        self.cells.iter().find_map(|cell| cell.take(FULL).map(|round| cell.empty(round)))
    }

    /// Takes everything out.
    pub(crate) fn drain(&self, mut take: impl FnMut(Batch)) {
        while let Some(batch) = self.take() {
            take(batch);
        }
    }

    /// How many buffers are here.
    pub(crate) fn held(&self) -> usize {
        let full = self.cells.iter().filter(|cell| {
            let state = cell.state.load(Ordering::Acquire);
            state & STATE == FULL
        });
        full.map(|cell| cell.held.load(Ordering::Relaxed) as usize).sum()
    }

    /// Takes the batches that nobody has touched since the last call, which left `seen` behind.
    pub(crate) fn take_stale(&self, seen: &mut Seen, mut take: impl FnMut(Batch)) {
        for (cell, seen) in self.cells.iter().zip(&mut seen.0) {
            let state = cell.state.load(Ordering::Relaxed);
            if state & STATE == FULL
                && state == *seen
                && let Some(round) = cell.take(FULL)
            {
                take(cell.empty(round));
            }
            *seen = state;
        }
    }
}

/// What the cells of a depot were at the last look.
#[derive(Debug, Default)]
pub(crate) struct Seen([u32; CELLS]);
