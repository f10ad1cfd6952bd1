//! The chunks of the calling thread, by the number of their group.
//!
//! Two thread-local things: a table of pointers, which the hot path reads and which needs no
//! destructor, so that reading it is one instruction; and the list of owned chunks behind those
//! pointers, whose destructor gives the chunks back when the thread ends. Only the thread itself
//! touches either. Every pointer of the table leads to a chunk in the list, or is null; the table is
//! emptied before the list is.
#![allow(
    unsafe_code,
    reason = "the table of a thread is read without a check of the list behind it"
)]

use std::cell::{Cell, RefCell};
use std::ptr;

use super::backing::ChunkRef;
use super::chunk::Chunk;
use super::group::Group;
use crate::sync::Arc;

/// The table: `len` pointers from `entries` on.
struct Table {
    entries: Cell<*const *const Chunk>,
    len: Cell<usize>,
}

thread_local! {
    static TABLE: Table =
        const { Table { entries: Cell::new(ptr::null()), len: Cell::new(0) } };
    static OWNED: RefCell<Owned> = const { RefCell::new(Owned::new()) };
}

/// What the table leads to.
struct Owned {
    chunks: Vec<(Arc<Group>, ChunkRef)>,
    /// A pointer for each group number, or null.
    entries: Vec<*const Chunk>,
}

/// Runs `write` on the calling thread's chunk in the group of this number; false if it has none.
///
/// `write` only loads and stores cells.
#[inline(always)]
pub(super) fn with_chunk(group: usize, write: impl FnOnce(&Chunk)) -> bool {
    // The compiler puts `with` in place only if as little as this is done in it.
    let (entries, len) = TABLE.with(|table| (table.entries.get(), table.len.get()));
    if group >= len {
        return false;
    }
    // SAFETY: `entries` points to `len` pointers, in the vector of this thread's `OWNED`; whoever
    // changes that vector empties the table first. `group` is less than `len`.
    let chunk = unsafe { *entries.add(group) };
    // SAFETY: an entry is null or leads to a chunk in the list of `OWNED`, which is not changed while
    // `write` runs: only `adopt` and the end of the thread change it.
    match unsafe { chunk.as_ref() } {
        Some(chunk) => {
            write(chunk);
            true
        }
        None => false,
    }
}

/// Makes the calling thread the owner of a chunk of `group`; it must not own one yet.
///
/// `None` if the thread is ending and its thread-local storage is gone.
pub(super) fn adopt(group: &Arc<Group>) -> Option<ChunkRef> {
    OWNED
        .try_with(|owned| {
            // Borrowed already if the allocator below records: then there is no chunk for it yet.
            let mut owned = owned.try_borrow_mut().ok()?;
            owned.let_go_of_ended();
            let chunk = group.adopt();
            owned.chunks.push((Arc::clone(group), chunk.clone()));
            // Nothing leads to the entries while they may move.
            publish(&[]);
            let number = group.number() as usize;
            if owned.entries.len() <= number {
                // The old storage goes in the midst of this, and a global allocator may look.
                publish(&[]);
                owned.entries.resize(number + 1, ptr::null());
            }
            owned.entries[number] = ptr::from_ref(&*chunk);
            publish(&owned.entries);
            Some(chunk)
        })
        .ok()
        .flatten()
}

/// Lets the table lead to `entries`.
fn publish(entries: &[*const Chunk]) {
    TABLE.with(|table| {
        table.entries.set(entries.as_ptr());
        table.len.set(entries.len());
    });
}

impl Owned {
    const fn new() -> Self {
        Self { chunks: Vec::new(), entries: Vec::new() }
    }

    /// Frees the chunks of collectors that are gone.
    fn let_go_of_ended(&mut self) {
        let Self { chunks, entries, .. } = self;
        chunks.retain(|(group, _)| {
            let has_ended = group.has_ended();
            if has_ended {
                entries[group.number() as usize] = ptr::null();
            }
            !has_ended
        });
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        publish(&[]);
        for (group, chunk) in &self.chunks {
            group.release(chunk);
        }
    }
}

/// With few steps, so that Miri and ThreadSanitizer get through them.
#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::cell::RefCell;
    use std::sync::{Arc, Barrier};
    use std::thread;

    use super::super::{BLOCK_HEAD, Block, Cells, Slot, try_add, try_observe};

    const THREADS: usize = 3;
    const STEPS: u64 = if cfg!(miri) { 20 } else { 2_000 };

    /// Adds to a number and to a block of two buckets.
    fn write(cells: &Cells, number: Slot, block: Slot) {
        cells.add(number, 1);
        if !try_observe(block, 1, 0.5) {
            cells.observe_slowly(block, 1, 0.5);
        }
    }

    #[track_caller]
    fn check(cells: &Cells, number: Slot, block: Slot, expected: u64) {
        let mut buckets = [0; 2];
        let sum = cells.read_block(block, &mut buckets);
        assert_eq!((cells.sum(number), buckets), (expected, [0, expected]));
        assert_eq!(sum, 0.5 * expected as f64);
    }

    fn number_and_block(cells: &Cells) -> (Slot, Slot) {
        let (number, block) = (cells.allocate(1), cells.allocate(BLOCK_HEAD + 2));
        cells.mark_floats(block, Block::SUMS);
        (number, block)
    }

    #[test]
    fn threads_that_come_and_go_leave_what_they_wrote() {
        let cells = Cells::default();
        let (number, block) = number_and_block(&cells);
        for round in 1..=3 {
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| (0..STEPS).for_each(|_| write(&cells, number, block)));
                }
                let mut buckets = [0; 2];
                let sum = cells.read_block(block, &mut buckets);
                assert_eq!(sum, 0.5 * buckets[1] as f64, "never torn");
            });
            check(&cells, number, block, round * THREADS as u64 * STEPS);
        }
    }

    #[test]
    fn a_thread_outlives_collectors_and_finds_its_way_in_each() {
        for round in 1..=5 {
            // Two at once, in each of which the thread has a chunk of its own.
            let (one, other) = (Cells::default(), Cells::default());
            let (number, block) = number_and_block(&one);
            let (other_number, other_block) = number_and_block(&other);
            assert!(!try_add(number, 1), "nobody has a chunk of a group that is new");
            for _ in 0..round {
                write(&one, number, block);
                write(&other, other_number, other_block);
                write(&other, other_number, other_block);
            }
            assert!(try_add(number, 0), "the thread has a chunk by now");
            check(&one, number, block, round);
            check(&other, other_number, other_block, 2 * round);
        }
    }

    #[test]
    fn a_collector_may_end_before_the_threads_that_wrote_to_it() {
        let (written, dropped) = (Barrier::new(2), Barrier::new(2));
        let first = Arc::new(Cells::default());
        let own = Arc::clone(&first);
        thread::scope(|scope| {
            scope.spawn(|| {
                let (number, block) = number_and_block(&own);
                write(&own, number, block);
                drop(own);
                written.wait();
                dropped.wait();
                // Lets go of the chunks of the first when it looks for one in the second.
                let second = Cells::default();
                let (number, block) = number_and_block(&second);
                write(&second, number, block);
                check(&second, number, block, 1);
            });
            written.wait();
            drop(first);
            dropped.wait();
        });
    }

    #[test]
    fn what_a_destructor_of_the_thread_writes_is_kept() {
        /// Writes when it is dropped, which is after or before the chunks are given back.
        struct Late(Arc<Cells>, Slot, Slot);

        impl Drop for Late {
            fn drop(&mut self) {
                write(&self.0, self.1, self.2);
            }
        }

        thread_local! {
            static EARLY: RefCell<Option<Late>> = const { RefCell::new(None) };
            static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
        }

        let cells = Arc::new(Cells::default());
        let (number, block) = number_and_block(&cells);
        for _ in 0..2 {
            let cells = Arc::clone(&cells);
            let thread = thread::spawn(move || {
                // One is registered before the thread has a chunk, the other after.
                EARLY.set(Some(Late(Arc::clone(&cells), number, block)));
                write(&cells, number, block);
                LATE.set(Some(Late(cells, number, block)));
            });
            thread.join().unwrap();
        }
        check(&cells, number, block, 6);
    }
}
