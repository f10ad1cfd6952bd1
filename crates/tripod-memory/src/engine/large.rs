//! Buffers above the largest size class: one mapping each, which goes back when the buffer does.

use std::ptr::NonNull;

use super::{Denied, Effort, Engine, Shortage, State, mapping};
use crate::classes::LEN_MAX;
use crate::header::Header;
use crate::layout::FIRST_SLOT;
use crate::ledger::{Charge, NodeId, ROOT};
use crate::sys::PAGE_BYTES;

/// What is out, in whole pages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LargeSums {
    pub(super) bytes: u64,
    pub(super) count: u64,
    /// Of all so far.
    pub(super) handed_out: u64,
}

/// The bytes that a buffer of `len` bytes occupies; none if no mapping could be so long.
pub(crate) fn capacity(len: usize) -> Option<usize> {
    let capacity = len.checked_next_multiple_of(PAGE_BYTES)?;
    (len <= LEN_MAX).then_some(capacity)
}

impl Engine {
    /// Hands out a buffer of its own.
    #[cold]
    pub(crate) fn acquire_large(
        &self,
        node: NodeId,
        capacity: usize,
        len: usize,
        effort: Effort,
    ) -> Result<NonNull<u8>, Denied> {
        let bytes = capacity as u64;
        if node != ROOT {
            self.charge_buffer(node, bytes, effort)?;
        }
        let made = self.commit_large(bytes, effort).and_then(|()| {
            self.map_or_trim(FIRST_SLOT + capacity).ok_or_else(|| {
                self.uncommit(bytes);
                Denied { shortage: Shortage::System, needed_bytes: bytes }
            })
        });
        let base = made.inspect_err(|_| {
            if node != ROOT {
                self.discharge(Charge::Used, node, bytes);
            }
        })?;
        let slot = mapping::begin(base, Header::new(self, 0, capacity));
        let mut state = self.lock();
        state.large.bytes += bytes;
        state.large.count += 1;
        state.large.handed_out += bytes;
        state.count_large(len);
        drop(state);
        self.meter.watch_class(&self.own, self.layouts.len());
        Ok(slot)
    }

    fn commit_large(&self, bytes: u64, effort: Effort) -> Result<(), Denied> {
        let commit = |state: &mut State| state.ledger.commit(bytes);
        let (state, outcome) = self.insist(self.lock(), bytes, effort, commit);
        self.finish(state);
        outcome.map_err(|refusal| Denied { shortage: refusal.into(), needed_bytes: bytes })
    }

    fn uncommit(&self, bytes: u64) {
        let mut state = self.lock();
        state.ledger.uncommit(bytes);
        self.finish(state);
    }

    pub(super) fn release_large(&self, slot: NonNull<u8>, node: NodeId) {
        let capacity = mapping::header(slot).capacity;
        let bytes = capacity as u64;
        mapping::end(slot, FIRST_SLOT + capacity);
        let mut state = self.lock();
        state.large.bytes -= bytes;
        state.large.count -= 1;
        state.ledger.uncommit(bytes);
        if node != ROOT {
            state.ledger.release(Charge::Used, node, bytes);
        }
        self.finish(state);
    }
}

impl State {
    fn count_large(&mut self, len: usize) {
        let last = self.misses.len() - 1;
        self.misses[last] += 1;
        let counts = &mut self.retired[last];
        counts.acquires += 1;
        counts.requested_bytes += len as u64;
    }
}
