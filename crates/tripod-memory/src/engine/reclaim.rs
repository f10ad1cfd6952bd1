//! Making room: calling back what threads have cached, and giving idle memory back to the system.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Effort, Engine, State, Waiter, mapping};
use crate::budget::Record;
use crate::cache::Of;
use crate::classes::CLASSES_MAX;
use crate::guard::{CREDITS, MAGAZINES, heavy_fence};
use crate::ledger::{Charge, ROOT, Refusal};
use crate::shelf::Leaving;
use crate::sync::MutexGuard;

/// The most that goes back to the system in one call of it.
pub(super) const DISCARD_BYTES_MAX: usize = 2 << 20;

/// What may be committed before something idle goes back for it.
const DEBT_BYTES: u64 = 256 << 10;

/// Stamps of idle memory are less than this.
pub(super) const ANY_AGE: u64 = u64::MAX;

/// A run of spans that is on its way back to the system.
#[derive(Debug)]
pub(super) struct Eviction {
    class: usize,
    leaving: Leaving,
}

impl Eviction {
    pub(super) fn leaving(&self) -> &Leaving {
        &self.leaving
    }
}

impl Engine {
    /// Runs `attempt` until it succeeds or is truly refused, for `needed` bytes.
    ///
    /// The first refusal makes it give idle memory back that lies on the shelves; the second revokes
    /// all caches, so that from then on everything that happens happens under the lock, takes what
    /// they had, waits for threads that were just at work and for what is leaving, and gives back
    /// with the lock held. What is refused after that has no room indeed.
    pub(super) fn insist<'a, T>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        needed: u64,
        effort: Effort,
        mut attempt: impl FnMut(&mut State) -> Result<T, Refusal>,
    ) -> (MutexGuard<'a, State>, Result<T, Refusal>) {
        let first = attempt(&mut state);
        let Err(Refusal::Short { node, free }) = first else { return (state, first) };
        if effort == Effort::AtHand {
            return (state, first);
        }
        if node == ROOT {
            state = self.evict(state, needed.saturating_sub(free));
        }
        match attempt(&mut state) {
            Err(Refusal::Short { .. }) => self.insist_exactly(state, needed, attempt),
            outcome => (state, outcome),
        }
    }

    fn insist_exactly<'a, T>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        needed: u64,
        mut attempt: impl FnMut(&mut State) -> Result<T, Refusal>,
    ) -> (MutexGuard<'a, State>, Result<T, Refusal>) {
        state.holds += 1;
        state.adjust_level();
        while state.caches.iter().any(|registered| registered.cache.guard.is_pending()) {
            state = self.wait(state);
        }
        self.empty_depots(&mut state);
        let outcome = loop {
            match attempt(&mut state) {
                Err(Refusal::Short { node: ROOT, free }) => {
                    let lacking = needed.saturating_sub(free);
                    if let Some(eviction) = state.choose_eviction(lacking, ANY_AGE) {
                        // With the lock held: nobody gets in between.
                        mapping::discard(&eviction.leaving);
                        state.complete(eviction);
                    } else if state.leaving_bytes > 0 {
                        state = self.wait(state);
                    } else {
                        break Err(Refusal::Short { node: ROOT, free });
                    }
                }
                outcome => break outcome,
            }
        };
        state.holds -= 1;
        (state, outcome)
    }

    /// Gives at least `bytes` of idle memory on the shelves back, if there are so many.
    pub(super) fn evict<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        bytes: u64,
    ) -> MutexGuard<'a, State> {
        let mut rest = bytes;
        while rest > 0
            && let Some(eviction) = state.choose_eviction(rest, ANY_AGE)
        {
            rest = rest.saturating_sub(eviction.leaving.len_bytes as u64);
            state = self.carry_out(state, eviction);
        }
        state
    }

    /// Gives about as much back as was just committed, of what was idle since before the last tick: so
    /// the sum follows what is in use, whichever classes that moves between, long before its time to
    /// live is over. Who commits pays for it, since it is that thread that makes the sum grow.
    pub(super) fn pay_for_miss<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        bytes: u64,
    ) -> MutexGuard<'a, State> {
        state.debt_bytes += bytes;
        if state.debt_bytes < DEBT_BYTES {
            return state;
        }
        let mut debt = std::mem::take(&mut state.debt_bytes);
        let before = state.collection.tick();
        while debt > 0
            && let Some(eviction) = state.choose_stale(debt, before)
        {
            debt = debt.saturating_sub(eviction.leaving.len_bytes as u64);
            state = self.carry_out(state, eviction);
        }
        state
    }

    /// Gives a run of spans back with the lock released.
    pub(super) fn carry_out<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        eviction: Eviction,
    ) -> MutexGuard<'a, State> {
        state.leaving_bytes += eviction.leaving.len_bytes as u64;
        drop(state);
        mapping::discard(&eviction.leaving);
        let mut state = self.lock();
        state.leaving_bytes -= eviction.leaving.len_bytes as u64;
        state.complete(eviction);
        self.changed.notify_all();
        state
    }

    /// Ends a change: settles what follows from it, then wakes whom it helped.
    pub(super) fn finish<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        let mut granted: Vec<(Waiter, Arc<Record>)> = Vec::new();
        loop {
            if state.adjust_level() {
                self.empty_depots(&mut state);
            }
            if state.take_granted(&mut granted) {
                // The line is shorter now, which may let the caches go.
                continue;
            }
            let deficit = state.ledger.deficit();
            // Less than the deficit would help nobody, and be missed by those who come next.
            let reclaimable = state.reclaimable_bytes();
            // A closed engine keeps nothing.
            let wanted = if state.is_closed { reclaimable } else { deficit };
            if wanted == 0 || reclaimable < wanted {
                break;
            }
            state = self.evict(state, wanted);
        }
        let last = state.kept_if_done();
        drop(state);
        if !granted.is_empty() {
            self.serve(granted);
        }
        drop(last);
    }

    /// Notes how long those in line have waited, and wakes them, whatever the wakers do: those behind
    /// one that panics were granted something, too, and nobody else would tell them. Nor does a panic
    /// go on from here: who called may just hold a slot or a charge, or be a drop.
    #[cold]
    fn serve(&self, granted: Vec<(Waiter, Arc<Record>)>) {
        let now = Instant::now();
        for (waiter, record) in &granted {
            if let Some(since) = waiter.since {
                self.meter.waited(record, now.saturating_duration_since(since));
            }
        }
        for (waiter, _) in granted {
            if catch_unwind(AssertUnwindSafe(|| waiter.waker.wake())).is_err() {
                self.extras.waker_panics.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Puts what the depots hold on the shelves.
    pub(super) fn empty_depots(&self, state: &mut State) {
        for (class, depot) in self.depots.iter().enumerate() {
            if let Some(depot) = depot.get() {
                depot.drain(|batch| batch.iter().for_each(|slot| state.put(class, slot)));
            }
        }
    }
}

impl State {
    /// Revokes and restores what the line and those at work call for; answers whether magazines are
    /// revoked.
    pub(super) fn adjust_level(&mut self) -> bool {
        let level = self.wanted_level();
        let more = level & !self.level;
        self.level = level;
        if more != 0 {
            self.call_back(more);
        }
        for registered in &self.caches {
            let guard = &registered.cache.guard;
            if guard.revoked() != level {
                guard.restore(level);
            }
        }
        level & MAGAZINES != 0
    }

    fn wanted_level(&self) -> u32 {
        let waits = self.ledger.waits();
        if self.holds > 0 || self.is_closed || waits.at_root {
            MAGAZINES | CREDITS
        } else if waits.any {
            CREDITS
        } else {
            0
        }
    }

    /// Takes from each cache what `flags` names; threads that are at work give it up by themselves.
    fn call_back(&mut self, flags: u32) {
        for registered in &self.caches {
            registered.cache.guard.revoke(flags);
        }
        if self.caches.is_empty() {
            return;
        }
        heavy_fence();
        for index in 0..self.caches.len() {
            let cache = self.caches[index].cache.clone();
            if !cache.guard.is_busy() {
                // All that is revoked: the thread may still owe what it was asked for before.
                self.give_up(&cache, cache.guard.revoked());
                cache.guard.settle();
            }
        }
    }

    /// Takes what `flags` names out of a cache that belongs to the caller.
    pub(super) fn give_up(&mut self, cache: &crate::cache::Cache, flags: u32) {
        if flags & MAGAZINES != 0 {
            cache.drain_magazines(|class, slot| self.put(class, slot));
        }
        if flags & CREDITS != 0 {
            cache.drain_credits(|of, node, bytes| {
                let charge = match of {
                    Of::Buffers => Charge::Used,
                    Of::Reservations => Charge::Reserved,
                };
                self.ledger.release(charge, node, bytes);
            });
        }
    }

    /// Bytes on the shelves that could go back to the system, with what a collection has left half
    /// done.
    pub(super) fn reclaimable_bytes(&self) -> u64 {
        let idle: u64 = self.shelves.iter().map(|shelf| shelf.sums().reclaimable_bytes).sum();
        idle + self.collection.unfinished_bytes()
    }

    /// Picks idle spans of at most about `bytes`: of the smallest class that covers them, or else of
    /// the one that has most.
    pub(super) fn choose_eviction(&mut self, bytes: u64, idle_before: u64) -> Option<Eviction> {
        // What a collection left half done is the first to go; to discard it again harms nothing.
        if let Some((unfinished, _)) = self.collection.take_unfinished() {
            return Some(unfinished);
        }
        let of = |shelf: &crate::shelf::Shelf| shelf.sums().reclaimable_bytes;
        let filled = || self.shelves.iter().enumerate().filter(|(_, shelf)| of(shelf) > 0);
        let class = filled()
            .find(|(_, shelf)| of(shelf) >= bytes)
            .or_else(|| filled().max_by_key(|(_, shelf)| of(shelf)))
            .map(|(class, _)| class)?;
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(DISCARD_BYTES_MAX);
        let leaving = self.shelves[class].leave(idle_before, bytes)?;
        Some(Eviction { class, leaving })
    }

    /// Picks spans of at most about `bytes` that are free since before the tick `before`, of the class
    /// that has most.
    fn choose_stale(&mut self, bytes: u64, before: u64) -> Option<Eviction> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(DISCARD_BYTES_MAX);
        let mut filled = [(0, 0); CLASSES_MAX];
        let mut count = 0;
        for (class, shelf) in self.shelves.iter().enumerate() {
            let reclaimable = shelf.sums().reclaimable_bytes;
            if reclaimable > 0 {
                filled[count] = (reclaimable, class);
                count += 1;
            }
        }
        filled[..count].sort_unstable_by(|one, other| other.cmp(one));
        filled[..count].iter().find_map(|&(_, class)| {
            let leaving = self.shelves[class].leave(before, bytes)?;
            Some(Eviction { class, leaving })
        })
    }

    /// As [`choose_eviction`](Self::choose_eviction), of one class.
    pub(super) fn choose_of(
        &mut self,
        class: usize,
        idle_before: u64,
        bytes: usize,
    ) -> Option<Eviction> {
        let leaving = self.shelves[class].leave(idle_before, bytes)?;
        Some(Eviction { class, leaving })
    }

    /// Accounts for spans that are back with the system, and unmaps their region if it is empty.
    pub(super) fn complete(&mut self, eviction: Eviction) {
        let left = self.shelves[eviction.class].left(eviction.leaving);
        if let Some((base, len)) = left.region {
            mapping::unmap(base, len);
        }
        self.ledger.uncommit(left.bytes);
    }

    /// Answers whether anybody was granted something.
    fn take_granted(&mut self, waiters: &mut Vec<(Waiter, Arc<Record>)>) -> bool {
        let granted = self.ledger.drain_granted();
        waiters.extend(granted.iter().filter_map(|ticket| {
            let waiter = self.waiters.remove(ticket)?;
            let record = Arc::clone(&self.records[waiter.node]);
            Some((waiter, record))
        }));
        !granted.is_empty()
    }
}
