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

/// The table: `entries` are `len` pointers that live as long as `OWNED` does not change them.
struct Table {
    entries: Cell<*const *const Chunk>,
    len: Cell<usize>,
}

thread_local! {
    static TABLE: Table =
        const { Table { entries: Cell::new(ptr::null()), len: Cell::new(0) } };
    static OWNED: RefCell<Owned> = const { RefCell::new(Owned { chunks: Vec::new(), entries: Vec::new() }) };
}

/// What the table leads to.
struct Owned {
    chunks: Vec<(Arc<Group>, ChunkRef)>,
    /// The storage of the table: a pointer for each group number, or null.
    entries: Vec<*const Chunk>,
}

/// Runs `write` on the calling thread's chunk in the group of this number; false if it has none.
///
/// `write` only loads and stores cells.
#[inline(always)]
pub(super) fn with_chunk(group: usize, write: impl FnOnce(&Chunk)) -> bool {
    TABLE.with(|table| {
        if group >= table.len.get() {
            return false;
        }
        // SAFETY: `entries` points to `len` pointers, in the vector of `OWNED` that belongs to the
        // same thread; whoever changes that vector changes both cells before anything else runs on
        // the thread. `group` is less than `len`.
        let chunk = unsafe { *table.entries.get().add(group) };
        // SAFETY: an entry is null or leads to a chunk in the list of `OWNED`, which is not changed
        // while `write` runs: only `adopt` and the end of the thread change it.
        match unsafe { chunk.as_ref() } {
            Some(chunk) => {
                write(chunk);
                true
            }
            None => false,
        }
    })
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
            let number = group.number() as usize;
            if owned.entries.len() <= number {
                owned.entries.resize(number + 1, ptr::null());
            }
            owned.entries[number] = ptr::from_ref(&*chunk);
            publish(&owned.entries);
            Some(chunk)
        })
        .ok()
        .flatten()
}

fn publish(entries: &[*const Chunk]) {
    TABLE.with(|table| {
        table.entries.set(entries.as_ptr());
        table.len.set(entries.len());
    });
}

impl Owned {
    /// Frees the chunks of collectors that are gone.
    fn let_go_of_ended(&mut self) {
        let Self { chunks, entries } = self;
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
