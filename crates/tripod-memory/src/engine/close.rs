//! The end of an engine: its last handle is gone, but buffers may still be out.
//!
//! First all leases end and nobody follows the pressure any more; then it is told what is out.
//! All caches are revoked for good, so that everything that comes back comes under the lock. As long as
//! something is counted the engine holds a reference to itself; what comes back last takes it out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{Engine, State, mapping};
use crate::leaks::OnLeak;

impl Engine {
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Ends the engine, which nobody can ask for anything any more.
    pub(crate) fn close(&self) {
        let Some(own) = self.hold() else { return };
        self.close_extras();
        self.tell_leaks();
        let mut state = self.lock();
        state.is_closed = true;
        state.kept = Some(own);
        self.finish(state);
    }

    /// Tells of what is out, if anybody wants to know.
    fn tell_leaks(&self) {
        let Some(OnLeak(tell)) = &self.on_leak else { return };
        let report = self.outstanding();
        if !report.is_empty() {
            // This is within a drop: a second panic would end the process.
            drop(catch_unwind(AssertUnwindSafe(|| tell(&report))));
        }
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
            || self.empty_reservations > 0
            || self.large.count > 0
            || self.leaving_bytes > 0
            || self.shelves.iter().any(|shelf| shelf.sums().taken_slots > 0)
    }
}

impl Drop for Engine {
    /// Unmaps every region, those too that nothing was ever committed in or that the collector left
    /// half done; nothing of them is out.
    fn drop(&mut self) {
        for shelf in &mut self.lock().shelves {
            shelf.drain_regions().for_each(|(base, len)| mapping::unmap(base, len));
        }
    }
}
