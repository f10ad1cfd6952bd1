//! Reservations: granted at once, in line, grown, shrunk, moved and given back.

use std::task::Waker;
use std::time::Instant;

use super::{Effort, Engine, State, Waiter};
use crate::ledger::{Answer, Charge, NodeId, Refusal, Ticket};
use crate::reserve::ReserveError;
use crate::sync::{AtomicU64, MutexGuard, Ordering};

impl Engine {
    /// Reserves, or takes a place in line and leaves `waker` there.
    pub(crate) fn request(
        &self,
        node: NodeId,
        bytes: u64,
        priority: u8,
        waker: Waker,
    ) -> Result<Answer, ReserveError> {
        let mut state = self.lock();
        let answer = match state.ledger.request(node, bytes, priority) {
            Ok(answer) => answer,
            Err(refusal) => return Err(state.reserve_error(refusal, node, bytes)),
        };
        let Answer::Waiting(ticket) = answer else {
            state.empty_reservations += u64::from(bytes == 0);
            self.finish(state);
            return Ok(answer);
        };
        state.waiters.insert(ticket, Waiter { waker, node, since: None });
        // Calls back what others have cached and gives back what is idle, which may be all it takes.
        self.finish(state);
        if !self.begin_wait(node, ticket) {
            return Ok(Answer::Granted);
        }
        self.wake_for_line();
        Ok(answer)
    }

    /// Notes that a request waits, unless it has been granted.
    fn begin_wait(&self, node: NodeId, ticket: Ticket) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        if !state.ledger.is_waiting(node, ticket) {
            return false;
        }
        if let Some(waiter) = state.waiters.get_mut(&ticket) {
            waiter.since = Some(now);
        }
        self.meter.waits.inc();
        true
    }

    /// Whether `ticket` still waits; if so, `waker` takes the place of the one it left before.
    pub(crate) fn still_waits(&self, node: NodeId, ticket: Ticket, waker: Waker) -> bool {
        let mut state = self.lock();
        if !state.ledger.is_waiting(node, ticket) {
            return false;
        }
        let place = state.waiters.get_mut(&ticket);
        let replaced = place.map(|waiter| std::mem::replace(&mut waiter.waker, waker));
        drop(state);
        drop(replaced);
        true
    }

    /// Gives up a place in line, or what was granted there and not taken.
    pub(crate) fn cancel(&self, node: NodeId, ticket: Ticket, bytes: u64) {
        let mut state = self.lock();
        let waiter = state.waiters.remove(&ticket);
        if !state.ledger.cancel(node, ticket) {
            state.ledger.release(Charge::Reserved, node, bytes);
        }
        self.finish(state);
        drop(waiter);
    }

    #[cold]
    pub(crate) fn try_reserve(&self, node: NodeId, bytes: u64) -> Result<(), ReserveError> {
        let request = |state: &mut State| {
            state.ledger.try_request(node, bytes)?;
            state.empty_reservations += u64::from(bytes == 0);
            Ok(())
        };
        let insisted = self.insist(self.lock(), bytes, Effort::Everything, request);
        self.conclude(insisted, node, bytes)
    }

    /// Adds `more` bytes to a reservation that holds `held`.
    pub(crate) fn try_grow(
        &self,
        node: NodeId,
        held: &AtomicU64,
        more: u64,
    ) -> Result<(), ReserveError> {
        let mut needed = more;
        let grow = |state: &mut State| {
            // Relaxed here and wherever `held` is used: it is written under the lock alone.
            let before = held.load(Ordering::Relaxed);
            let sum = before.saturating_add(more);
            if sum > state.records[node].limit_bytes {
                needed = sum;
                return Err(Refusal::Unsatisfiable);
            }
            state.ledger.take(Charge::Reserved, node, more)?;
            state.set_held(held, before, sum);
            Ok(())
        };
        let insisted = self.insist(self.lock(), more, Effort::Everything, grow);
        self.conclude(insisted, node, needed)
    }

    fn conclude(
        &self,
        (state, outcome): (MutexGuard<'_, State>, Result<(), Refusal>),
        node: NodeId,
        needed: u64,
    ) -> Result<(), ReserveError> {
        let outcome = outcome.map_err(|refusal| state.reserve_error(refusal, node, needed));
        self.finish(state);
        outcome
    }

    /// Takes at most `bytes` off a reservation; answers how many it took.
    pub(crate) fn shrink(&self, node: NodeId, held: &AtomicU64, bytes: u64) -> u64 {
        let mut state = self.lock();
        let before = held.load(Ordering::Relaxed);
        let given_back = bytes.min(before);
        state.set_held(held, before, before - given_back);
        state.ledger.release(Charge::Reserved, node, given_back);
        self.finish(state);
        given_back
    }

    /// Moves at most `bytes` from one reservation to another of the same budget, so that the sums
    /// do not change and nobody in line can get in between; answers how many it moved.
    pub(crate) fn move_between(&self, from: &AtomicU64, to: &AtomicU64, bytes: u64) -> u64 {
        let mut state = self.lock();
        let (left, right) = (from.load(Ordering::Relaxed), to.load(Ordering::Relaxed));
        let moved = bytes.min(left);
        state.set_held(from, left, left - moved);
        state.set_held(to, right, right + moved);
        moved
    }

    /// Gives a whole reservation back that the thread's cache had no place for. The caller has a
    /// [hold](Self::hold).
    #[cold]
    pub(crate) fn unreserve_slowly(&self, node: NodeId, bytes: u64) {
        if bytes == 0 {
            let mut state = self.lock();
            state.empty_reservations -= 1;
            return self.finish(state);
        }
        let cache = self.own_cache();
        self.discharge_opening(cache.as_deref(), Charge::Reserved, node, bytes);
    }

    /// Begins a reservation that has no bytes.
    pub(crate) fn begin_empty(&self) {
        self.lock().empty_reservations += 1;
    }
}

impl State {
    /// Changes what a reservation holds, and notes if that is nothing now, or was: such a reservation
    /// is not in the ledger, and needs the engine like any other.
    fn set_held(&mut self, held: &AtomicU64, before: u64, after: u64) {
        held.store(after, Ordering::Relaxed);
        self.empty_reservations += u64::from(after == 0);
        self.empty_reservations -= u64::from(before == 0);
    }

    fn reserve_error(&self, refusal: Refusal, node: NodeId, needed_bytes: u64) -> ReserveError {
        match refusal {
            Refusal::Unsatisfiable => ReserveError::Unsatisfiable {
                needed_bytes,
                budget_bytes: self.records[node].limit_bytes,
                budget: self.records[node].path.clone(),
            },
            Refusal::Short { node, free } => ReserveError::WouldWait {
                needed_bytes,
                free_bytes: free,
                waiting: self.ledger.waiting(),
                budget: self.records[node].path.clone(),
            },
        }
    }
}
