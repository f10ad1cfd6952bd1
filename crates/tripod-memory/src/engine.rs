//! Ledger, shelves and the registry of thread caches behind one lock, and the slow paths that lead
//! to it.
//!
//! # Layers
//! A thread takes and returns buffers of its own [`Cache`] without this lock. Whole batches go through
//! a [`Depot`] per size class, without it either. Behind both stand the shelves: which spans of which
//! regions are committed, and which slots are free. Only they, the ledger and the line of waiters
//! are under the lock.
//!
//! # Under the lock
//! Nothing is mapped and no waker is cloned, woken or dropped: wakers are foreign code. What goes back
//! to the system is discarded with the lock released and counts as *leaving*, so as committed, until
//! it has; the exception is the last attempt before a refusal, which must not be overtaken. Every
//! change ends in [`Engine::finish`], which brings the caches to the level of revocation that the line
//! calls for, makes room for whoever would fit into what is idle, and wakes those who were granted
//! something.
//!
//! # When a refusal is true
//! What threads have cached, in buffers and in credit, is called back before anything is refused, and
//! what others are just giving back to the system is waited for. See [`Engine::insist`].

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::task::Waker;
use std::time::Instant;

use crate::budget::{BudgetError, Record};
use crate::cache::{Cache, Counts};
use crate::classes::{NO_CLASS, SizeClasses};
use crate::depot::{BATCH_MAX, Batch, Depot};
use crate::guard::MAGAZINES;
use crate::header::Header;
use crate::heap;
use crate::layout::ClassLayout;
use crate::leaks::{Leaks, OnLeak};
use crate::ledger::{Charge, Ledger, NodeId, ROOT, Refusal, Ticket};
use crate::local;
use crate::meter::Meter;
use crate::pressure::SystemMemory;
use crate::shelf::{RegionId, Shelf, Slot};
use crate::sync::{Condvar, Mutex, MutexGuard};

mod close;
mod collect;
pub(crate) mod extras;
pub(crate) mod large;
pub(crate) mod mapping;
#[cfg(all(test, loom))]
mod model;
mod numbers;
mod reclaim;
mod registry;
mod reservations;
mod sums;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;

pub use collect::Collected;
pub(crate) use collect::Ttl;
use registry::Registered;
pub(crate) use sums::{ClassSums, Sums};

/// What a manager, its budgets, its reservations and its buffers share.
#[derive(Debug)]
pub(crate) struct Engine {
    own: Weak<Engine>,
    number: numbers::Number,
    pub(crate) classes: SizeClasses,
    layouts: Box<[ClassLayout]>,
    depots: Box<[OnceLock<Box<Depot>>]>,
    state: Mutex<State>,
    /// Told when leaving bytes are back with the system, and when a thread has given something up.
    changed: Condvar,
    pub(crate) meter: Meter,
    pub(crate) ttl: collect::Ttl,
    pub(crate) extras: extras::Extras,
    pub(crate) leaks: Leaks,
    on_leak: Option<OnLeak>,
}

/// A request in line.
#[derive(Debug)]
struct Waiter {
    waker: Waker,
    node: NodeId,
    /// Since when it waits; `None` as long as it may be granted at once.
    since: Option<Instant>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    shelves: Box<[Shelf]>,
    large: large::LargeSums,
    /// Reservations that hold no bytes.
    empty_reservations: u64,
    /// Where the slots of a refill are gathered; kept for its memory.
    slots: Vec<Slot>,
    /// Every request that waits.
    waiters: BTreeMap<Ticket, Waiter>,
    /// What the budgets are called; the index is the node.
    records: Vec<Arc<Record>>,
    children: BTreeMap<(NodeId, Arc<str>), NodeId>,
    caches: Vec<Registered>,
    /// What is revoked on every cache, as flags of [`guard`](crate::guard).
    level: u32,
    /// How many are at work that need everything revoked.
    holds: u32,
    /// Bytes on their way back to the system.
    leaving_bytes: u64,
    /// Bytes committed since something idle went back for it.
    debt_bytes: u64,
    /// Counts of threads that have ended, and of those that have no cache.
    retired: Box<[Counts]>,
    /// Slots that were committed to be handed out, by class.
    misses: Box<[u64]>,
    collection: collect::Notes,
    is_closed: bool,
    /// Keeps a closed engine for as long as something is counted.
    kept: Option<Arc<Engine>>,
}

/// Whether a caller who finds no room has others give up what they do not need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Answers at once.
    AtHand,
    /// Calls back, and waits for what is just going back to the system.
    Everything,
}

/// Why there is no memory for a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// The ledger refused.
    Refused(Refusal),
    /// The system refused.
    System,
}

impl From<Refusal> for Shortage {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What a refused charge was for, for the message.
pub(crate) struct Denied {
    pub(crate) shortage: Shortage,
    pub(crate) needed_bytes: u64,
}

impl Engine {
    pub(crate) fn new(
        budget_bytes: u64,
        classes: SizeClasses,
        layouts: Box<[ClassLayout]>,
        ttl: collect::Ttl,
        meter: Meter,
        (system, on_leak): (SystemMemory, Option<OnLeak>),
    ) -> Arc<Self> {
        let count = classes.count();
        Arc::new_cyclic(|own| {
            let number = numbers::Number::take();
            let root =
                Arc::new(Record::root(own.as_ptr(), local::entry(number.get()), budget_bytes));
            let state = State {
                ledger: Ledger::new(budget_bytes),
                shelves: layouts.iter().map(|layout| Shelf::new(*layout)).collect(),
                large: large::LargeSums::default(),
                empty_reservations: 0,
                slots: Vec::with_capacity(BATCH_MAX),
                waiters: BTreeMap::new(),
                records: vec![root],
                children: BTreeMap::new(),
                caches: Vec::new(),
                level: 0,
                holds: 0,
                leaving_bytes: 0,
                debt_bytes: 0,
                retired: vec![Counts::default(); count + 1].into(),
                misses: vec![0; count + 1].into(),
                collection: collect::Notes::default(),
                is_closed: false,
                kept: None,
            };
            Self {
                own: own.clone(),
                number,
                classes,
                layouts,
                depots: (0..count).map(|_| new_depot()).collect(),
                state: Mutex::new(state),
                changed: Condvar::new(),
                meter,
                ttl,
                extras: extras::Extras::new(system, budget_bytes),
                leaks: Leaks::default(),
                on_leak,
            }
        })
    }

    pub(crate) fn number(&self) -> u32 {
        self.number.get()
    }

    /// A reference to hold while something is given back that may be the last that is counted. It is
    /// held around the call, not in it: an engine must not go while a method borrows it.
    pub(crate) fn hold(&self) -> Option<Arc<Self>> {
        self.own.upgrade()
    }

    pub(crate) fn root(&self) -> Arc<Record> {
        self.lock().records[ROOT].clone()
    }

    pub(crate) fn record(&self, node: NodeId) -> Arc<Record> {
        self.lock().records[node].clone()
    }

    /// Finds the child of `parent` called `name`, or makes it.
    pub(crate) fn child(
        &self,
        parent: &Record,
        name: &str,
        limit_bytes: u64,
    ) -> Result<Arc<Record>, BudgetError> {
        let mut state = self.lock();
        let key = (parent.node, Arc::from(name));
        if let Some(&node) = state.children.get(&key) {
            let existing = state.records[node].clone();
            existing.check_same_limit(limit_bytes)?;
            return Ok(existing);
        }
        if state.records.len() > Record::NODE_MAX {
            return Err(BudgetError::TooMany { max: Record::NODE_MAX });
        }
        let node = state.ledger.add_node(parent.node, limit_bytes);
        let record = Arc::new(Record::child(parent, key.1.clone(), node, limit_bytes));
        state.records.push(record.clone());
        state.children.insert(key, node);
        Ok(record)
    }

    /// Finds a buffer of `class` for `len` bytes when the thread's cache had none for the asking.
    #[cold]
    pub(crate) fn acquire_slowly(
        &self,
        node: NodeId,
        class: usize,
        len: usize,
        effort: Effort,
    ) -> Result<NonNull<u8>, Denied> {
        let size = self.classes.size(class) as u64;
        let cache = self.own_cache();
        let cache = cache.as_deref();
        if node != ROOT {
            self.charge_buffer(node, size, effort)?;
        }
        self.find_slot(cache, class, len, effort).inspect_err(|_| {
            if node != ROOT {
                self.discharge(Charge::Used, node, size);
            }
        })
    }

    fn charge_buffer(&self, node: NodeId, size: u64, effort: Effort) -> Result<(), Denied> {
        let charge = |state: &mut State| state.ledger.take(Charge::Used, node, size);
        match self.insist(self.lock(), size, effort, charge) {
            (state, Ok(())) => {
                self.finish(state);
                Ok(())
            }
            (state, Err(refusal)) => {
                self.finish(state);
                Err(Denied { shortage: refusal.into(), needed_bytes: size })
            }
        }
    }

    /// Finds a slot that is charged already: in the magazine, in the depot, or on the shelf.
    fn find_slot(
        &self,
        cache: Option<&Cache>,
        class: usize,
        len: usize,
        effort: Effort,
    ) -> Result<NonNull<u8>, Denied> {
        if let Some(cache) = cache {
            self.refill_from_depot(cache, class);
            let attempt = cache.acquire_charged(class, len);
            self.heed(cache, attempt.is_asked);
            if let Some(slot) = attempt.outcome {
                return Ok(slot);
            }
        }
        let cached = cache.filter(|cache| cache.guard.revoked() & MAGAZINES == 0);
        let wanted = cached.map_or(1, |cache| cache.batch(class).max(1));
        let slot = self.obtain(cache, class, wanted, effort)?;
        match cache {
            Some(cache) => cache.count(class, len),
            None => self.count_uncached(class, len),
        }
        Ok(slot)
    }

    fn refill_from_depot(&self, cache: &Cache, class: usize) {
        let Some(depot) = self.depots[class].get() else { return };
        let filled = cache.with_magazine(class, |magazine| {
            let mut batch = if magazine.is_empty() { depot.take()? } else { return None };
            magazine.fill(&mut batch);
            magazine.refilled();
            // It was a batch of a larger magazine, if something is left.
            (batch.len() > 0).then(|| self.put_batch(class, &batch))
        });
        match filled.outcome {
            Some(Some(state)) => self.finish_asked(state, cache, filled.is_asked),
            _ => self.heed(cache, filled.is_asked),
        }
    }

    /// Puts a batch on the shelf; the caller finishes the change. Done while the thread is at work in
    /// its cache, as with a depot: whoever calls back what it has waits for it, so nothing is ever on
    /// the way unseen.
    fn put_batch(&self, class: usize, batch: &Batch) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        batch.iter().for_each(|slot| state.put(class, slot));
        state
    }

    /// Takes a slot off the shelf, after committing a span if it has none, and up to `wanted` in all,
    /// which the cache keeps.
    fn obtain(
        &self,
        cache: Option<&Cache>,
        class: usize,
        wanted: usize,
        effort: Effort,
    ) -> Result<NonNull<u8>, Denied> {
        let needed = self.layouts[class].span_bytes as u64;
        let mut is_miss = false;
        let mut state = self.lock();
        loop {
            let mut batch = state.take(class, wanted);
            if let Some(slot) = batch.pop() {
                let is_asked = state.stash(cache, class, batch);
                match cache {
                    Some(cache) => self.finish_asked(state, cache, is_asked),
                    None => self.finish(state),
                }
                if is_miss {
                    self.meter.watch_class(&self.own, class);
                }
                return Ok(slot);
            }
            let commit = |state: &mut State| match state.shelves[class].sums().free_slots {
                0 => state.ledger.commit(needed).map(|()| true),
                // Came back while room was made.
                _ => Ok(false),
            };
            let (insisted, outcome) = self.insist(state, needed, effort, commit);
            state = insisted;
            match outcome {
                Ok(false) => continue,
                Ok(true) => {}
                Err(refusal) => {
                    self.finish(state);
                    return Err(Denied { shortage: refusal.into(), needed_bytes: needed });
                }
            }
            state = match self.commit_charged(state, class) {
                Ok(state) => {
                    is_miss = true;
                    state
                }
                Err(state) => {
                    self.finish(state);
                    return Err(Denied { shortage: Shortage::System, needed_bytes: needed });
                }
            };
        }
    }

    /// Commits a span that is charged already, in a new region if need be; takes the charge back if
    /// the system has none.
    fn commit_charged<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        class: usize,
    ) -> Result<MutexGuard<'a, State>, MutexGuard<'a, State>> {
        // Before the span is there, which would look idle itself until it is taken.
        state = self.pay_for_miss(state, self.layouts[class].span_bytes as u64);
        if !state.shelves[class].has_vacant_span() {
            drop(state);
            let len = self.layouts[class].region_bytes;
            let mapped = self.map_or_trim(len);
            state = self.lock();
            let added = mapped.map(|base| (base, state.shelves[class].add_region(base)));
            let Some((base, Some(region))) = added else {
                added.inspect(|(base, _)| mapping::unmap(*base, len));
                state.ledger.uncommit(self.layouts[class].span_bytes as u64);
                return Err(state);
            };
            let size = self.classes.size(class);
            mapping::begin(base, Header::new(self, region.0, size));
        }
        let is_committed = state.shelves[class].commit();
        debug_assert!(is_committed, "there is a vacant span");
        state.misses[class] += 1;
        if std::mem::take(&mut state.collection.is_at_rest) {
            self.wake_collector();
        }
        Ok(state)
    }

    /// Takes a buffer back that the thread's cache had no place for. The caller has a
    /// [hold](Self::hold).
    #[cold]
    pub(crate) fn release_slowly(&self, slot: NonNull<u8>, class: usize, node: NodeId) {
        if class == NO_CLASS {
            return self.release_large(slot, node);
        }
        let size = self.classes.size(class) as u64;
        let cache = self.own_cache();
        if node != ROOT {
            self.discharge_opening(cache.as_deref(), Charge::Used, node, size);
        }
        let Some(cache) = cache else {
            return self.shelve_one(class, slot);
        };
        let placed = cache.with_magazine(class, |magazine| {
            let (depot, cells) = (self.depot(class), magazine.depot_cells());
            let put = |batch: &Batch| depot.is_some_and(|depot| depot.put(batch, cells));
            let spilled = magazine.spill().filter(|batch| !put(batch));
            // The collector may have lowered the limit since there was room.
            let is_kept = magazine.push(slot);
            if is_kept && spilled.is_none() {
                return None;
            }
            let mut state = self.lock();
            let batch = spilled.iter().flat_map(Batch::iter);
            batch.chain((!is_kept).then_some(slot)).for_each(|slot| state.put(class, slot));
            Some(state)
        });
        match placed.outcome {
            Some(Some(state)) => self.finish_asked(state, &cache, placed.is_asked),
            Some(None) => self.heed(&cache, placed.is_asked),
            None => {
                self.heed(&cache, placed.is_asked);
                self.shelve_one(class, slot);
            }
        }
    }

    fn shelve_one(&self, class: usize, slot: NonNull<u8>) {
        let mut state = self.lock();
        state.put(class, slot);
        self.finish(state);
    }

    /// None if there is none and no memory for one.
    fn depot(&self, class: usize) -> Option<&Depot> {
        let place = &self.depots[class];
        if place.get().is_none() {
            // Another thread may be the first; its depot is as good.
            let _ = place.set(heap::boxed(Depot::new())?);
        }
        place.get().map(Box::as_ref)
    }

    pub(crate) fn discharge(&self, charge: Charge, node: NodeId, bytes: u64) {
        let mut state = self.lock();
        state.ledger.release(charge, node, bytes);
        self.finish(state);
    }

    /// As [`discharge`](Self::discharge); next time the bytes may become credit of the thread.
    fn discharge_opening(&self, cache: Option<&Cache>, charge: Charge, node: NodeId, bytes: u64) {
        let mut state = self.lock();
        let credit_max = state.records[node].credit_max;
        state.ledger.release(charge, node, bytes);
        self.finish(state);
        if let Some(cache) = cache {
            let opened = cache.open_credit(node, credit_max);
            self.heed(cache, opened.is_asked);
        }
    }

    fn count_uncached(&self, class: usize, len: usize) {
        let mut state = self.lock();
        state.retired[class].add(Counts { acquires: 1, requested_bytes: len as u64 });
    }

    fn wake_collector(&self) {
        crate::collector::wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No foreign code runs under the lock, so only a failed assertion of ours can poison it. Drops
        // come through here too, and a second panic in one would end the process.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Made when it is first needed. In a model it is there from the start: loom does not see that who
/// finds it comes after who made it.
fn new_depot() -> OnceLock<Box<Depot>> {
    let depot = OnceLock::new();
    if cfg!(loom) {
        depot.get_or_init(|| Box::new(Depot::new()));
    }
    depot
}

impl State {
    /// Takes up to `wanted` free slots of `class` off the shelf.
    fn take(&mut self, class: usize, wanted: usize) -> Batch {
        let shelf = &mut self.shelves[class];
        shelf.take(wanted, &mut self.slots);
        let mut batch = Batch::new();
        for slot in self.slots.drain(..) {
            let offset = shelf.layout().slot_offset(slot.index);
            batch.push(mapping::slot(shelf.base(slot.region), offset));
        }
        batch
    }

    /// Leaves a batch in the cache, and on the shelf what there is no place for; answers whether the
    /// thread is asked for something.
    ///
    /// With the lock held, so that a reclaimer finds each slot in one of the two.
    fn stash(&mut self, cache: Option<&Cache>, class: usize, mut batch: Batch) -> bool {
        if batch.len() == 0 {
            return false;
        }
        let filled =
            cache.map(|cache| cache.with_magazine(class, |magazine| magazine.fill(&mut batch)));
        batch.iter().for_each(|slot| self.put(class, slot));
        filled.is_some_and(|filled| filled.is_asked)
    }

    fn put(&mut self, class: usize, slot: NonNull<u8>) {
        self.put_idle_since(class, slot, self.collection.tick());
    }

    fn put_idle_since(&mut self, class: usize, slot: NonNull<u8>, tick: u64) {
        let shelf = &mut self.shelves[class];
        let region = RegionId(mapping::header(slot).region);
        let offset = slot.addr().get() - shelf.base(region).get().addr().get();
        let index = shelf.layout().slot_at(offset);
        let index = index.unwrap_or_else(|| unreachable!("a buffer begins where a slot does"));
        shelf.put(Slot { region, index }, tick);
    }
}
