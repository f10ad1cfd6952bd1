//! The end of an engine: its last handle is gone, but buffers may still be out.
//!
//! All caches are revoked for good, so that everything that comes back comes under the lock. As long as
//! something is counted the engine holds a reference to itself; what comes back last takes it out.

use std::sync::Arc;

use super::{Engine, State};

impl Engine {
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Ends the engine, which nobody can ask for anything any more.
    pub(crate) fn close(&self) {
        let Some(own) = self.hold() else { return };
        let mut state = self.lock();
        state.is_closed = true;
        state.kept = Some(own);
        self.finish(state);
    }
}

impl State {
    /// The engine's reference to itself, once nothing is left that needs it.
    pub(super) fn kept_if_done(&mut self) -> Option<Arc<Engine>> {
        if self.kept.is_none() || self.is_counted() {
            return None;
        }
        self.kept.take()
    }

    fn is_counted(&self) -> bool {
        self.ledger.reserved() > 0
            || self.hollow > 0
            || self.large.count > 0
            || self.leaving_bytes > 0
            || self.shelves.iter().any(|shelf| shelf.sums().taken_slots > 0)
    }
}

impl Drop for Engine {
    /// Unmaps every region; nothing of them is out.
    fn drop(&mut self) {
        let mut state = self.lock();
        while let Some(eviction) =
            (0..self.layouts.len()).find_map(|class| state.choose_of(class, u32::MAX))
        {
            state.complete(eviction);
        }
    }
}
