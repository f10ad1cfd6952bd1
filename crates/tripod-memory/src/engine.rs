//! The ledger, the pools and the wakers behind one lock.
//!
//! # Who may touch what
//! All of [`State`] is touched only with the lock held, and a [`Reservation`](crate::Reservation)'s
//! byte count is written only with it held. Under the lock nothing is allocated for a caller, no
//! buffer is freed and no waker is cloned, woken or dropped: wakers are foreign code, and giving
//! 64 MiB back to the system takes long.
//!
//! Every change ends in [`Engine::finish`], which evicts what the ledger owes, frees it with the lock
//! released, and only then wakes those who were granted something. So a buffer is freed before the
//! one that takes its room is made. What is evicted above the need stays counted as *freeing* until
//! it is gone; a caller that would fit then waits for that one `free`, as it would for the lock.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::task::Waker;

use crate::budget::{BudgetError, Record};
use crate::buffer::AcquireError;
use crate::classes::{LEN_MAX, SizeClasses};
use crate::ledger::{Answer, Kind, Ledger, NodeId, ROOT, Refusal, Ticket};
use crate::meter::Meter;
use crate::pool::Pools;
use crate::reserve::ReserveError;
use crate::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering};

#[cfg(all(test, loom))]
mod model;

/// What a manager, its budgets, its reservations and its buffers share.
#[derive(Debug)]
pub(crate) struct Engine {
    state: Mutex<State>,
    /// Told when freeing bytes are back with the system.
    freed: Condvar,
    classes: SizeClasses,
    pub(crate) meter: Meter,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    pools: Pools,
    /// The waker of every request that waits.
    wakers: BTreeMap<Ticket, Waker>,
    /// What the budgets are called; the index is the node.
    records: Vec<Arc<Record>>,
    children: BTreeMap<(NodeId, Arc<str>), NodeId>,
}

/// A buffer's memory and what it is charged as.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) bytes: Vec<u8>,
    /// The pool it belongs to; none above the largest class.
    pub(crate) class: Option<usize>,
}

/// The ledger's sums at one moment, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums {
    pub(crate) reserved: u64,
    pub(crate) used: u64,
    pub(crate) idle: u64,
    pub(crate) peak: u64,
    pub(crate) waiting: usize,
}

impl Engine {
    pub(crate) fn new(budget_bytes: u64, classes: SizeClasses, meter: Meter) -> Self {
        let state = State {
            ledger: Ledger::new(budget_bytes),
            pools: Pools::new(&classes),
            wakers: BTreeMap::new(),
            records: vec![Arc::new(Record::root(budget_bytes))],
            children: BTreeMap::new(),
        };
        Self { state: Mutex::new(state), freed: Condvar::new(), classes, meter }
    }

    pub(crate) fn root(&self) -> Arc<Record> {
        self.lock().records[ROOT].clone()
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
        let node = state.ledger.add_node(parent.node, limit_bytes);
        let record = Arc::new(Record::child(parent, key.1.clone(), node, limit_bytes));
        state.records.push(record.clone());
        state.children.insert(key, node);
        Ok(record)
    }

    /// Hands out a block of at least `len` bytes (`len > 0`), charged to `node`.
    pub(crate) fn acquire(&self, node: NodeId, len: usize) -> Result<Block, AcquireError> {
        if len > LEN_MAX {
            return Err(AcquireError::TooLong { len, max_bytes: LEN_MAX });
        }
        let class = self.classes.class_of(len);
        let size = class.map_or(len, |class| self.classes.size(class));
        if let Some(bytes) = self.charge_buffer(node, class, size as u64)? {
            self.meter.hits.inc();
            return Ok(Block { bytes, class });
        }
        let made = allocate(size).or_else(|| {
            // The system has none, but the pools may be sitting on some.
            self.trim();
            allocate(size)
        });
        let Some(bytes) = made else {
            self.release(Kind::Used, node, size as u64);
            return Err(AcquireError::OutOfMemory { needed_bytes: size as u64 });
        };
        self.meter.misses.inc();
        Ok(Block { bytes, class })
    }

    /// Charges a buffer, and takes one out of its pool if there is one.
    fn charge_buffer(
        &self,
        node: NodeId,
        class: Option<usize>,
        bytes: u64,
    ) -> Result<Option<Vec<u8>>, AcquireError> {
        let charged = self.charge_now(|state| {
            let Some(class) = class.filter(|&class| state.pools.has(class)) else {
                return state.ledger.take(Kind::Used, node, bytes).map(|()| None);
            };
            state.ledger.take_pooled(node, bytes)?;
            Ok(state.pools.pop(class))
        });
        charged.map_err(|(state, refusal)| match refusal {
            Refusal::Unsatisfiable => AcquireError::Unsatisfiable {
                needed_bytes: bytes,
                budget_bytes: state.records[node].limit_bytes,
                budget: state.records[node].path.clone(),
            },
            Refusal::Short { node, free } | Refusal::Freeing { node, free } => {
                AcquireError::OverBudget {
                    needed_bytes: bytes,
                    free_bytes: free,
                    budget: state.records[node].path.clone(),
                }
            }
        })
    }

    /// Runs `attempt` until it is done or truly refused.
    fn charge_now<T>(
        &self,
        mut attempt: impl FnMut(&mut State) -> Result<T, Refusal>,
    ) -> Result<T, (MutexGuard<'_, State>, Refusal)> {
        let mut state = self.lock();
        loop {
            match attempt(&mut state) {
                Ok(done) => {
                    self.finish(state);
                    return Ok(done);
                }
                Err(Refusal::Freeing { .. }) => {
                    state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Err(refusal) => return Err((state, refusal)),
            }
        }
    }

    /// Takes a block back: into its pool, or to the system if it belongs to none.
    pub(crate) fn take_back(&self, node: NodeId, block: Block) {
        let size = block.bytes.len() as u64;
        if let Some(class) = block.class {
            let mut state = self.lock();
            state.pools.push(class, block.bytes);
            state.ledger.release_to_pool(node, size);
            self.finish(state);
        } else {
            drop(block.bytes);
            self.release(Kind::Used, node, size);
        }
    }

    /// Reserves, or takes a place in line and leaves `waker` there.
    pub(crate) fn request(
        &self,
        node: NodeId,
        bytes: u64,
        waker: Waker,
    ) -> Result<Answer, ReserveError> {
        let mut state = self.lock();
        let answer = match state.ledger.request(node, bytes) {
            Ok(answer) => answer,
            Err(refusal) => return Err(state.reserve_error(refusal, node, bytes)),
        };
        if let Answer::Waiting(ticket) = answer {
            state.wakers.insert(ticket, waker);
            self.meter.waits.inc();
        }
        self.finish(state);
        Ok(answer)
    }

    /// Whether `ticket` still waits; if so, `waker` takes the place of the one it left before.
    pub(crate) fn still_waits(&self, node: NodeId, ticket: Ticket, waker: Waker) -> bool {
        let mut state = self.lock();
        if !state.ledger.is_waiting(node, ticket) {
            return false;
        }
        let replaced = state.wakers.insert(ticket, waker);
        drop(state);
        drop(replaced);
        true
    }

    /// Gives up a place in line, or what was granted there and not taken.
    pub(crate) fn cancel(&self, node: NodeId, ticket: Ticket, bytes: u64) {
        let mut state = self.lock();
        let waker = state.wakers.remove(&ticket);
        if !state.ledger.cancel(node, ticket) {
            state.ledger.release(Kind::Reserved, node, bytes);
        }
        self.finish(state);
        drop(waker);
    }

    pub(crate) fn try_reserve(&self, node: NodeId, bytes: u64) -> Result<(), ReserveError> {
        self.charge_now(|state| state.ledger.try_request(node, bytes))
            .map_err(|(state, refusal)| state.reserve_error(refusal, node, bytes))
    }

    /// Adds `more` bytes to a reservation that holds `held`.
    pub(crate) fn try_grow(
        &self,
        node: NodeId,
        held: &AtomicU64,
        more: u64,
    ) -> Result<(), ReserveError> {
        let mut needed = more;
        let grown = self.charge_now(|state| {
            // Relaxed here and wherever `held` is used: it is written under the lock alone.
            let sum = held.load(Ordering::Relaxed).saturating_add(more);
            if sum > state.records[node].limit_bytes {
                needed = sum;
                return Err(Refusal::Unsatisfiable);
            }
            state.ledger.take(Kind::Reserved, node, more)?;
            held.store(sum, Ordering::Relaxed);
            Ok(())
        });
        grown.map_err(|(state, refusal)| state.reserve_error(refusal, node, needed))
    }

    /// Takes at most `bytes` off a reservation; answers how many it took.
    pub(crate) fn shrink(&self, node: NodeId, held: &AtomicU64, bytes: u64) -> u64 {
        let mut state = self.lock();
        let before = held.load(Ordering::Relaxed);
        let given_back = bytes.min(before);
        held.store(before - given_back, Ordering::Relaxed);
        state.ledger.release(Kind::Reserved, node, given_back);
        self.finish(state);
        given_back
    }

    /// Moves at most `bytes` from one reservation to another of the same budget, so that the sums
    /// do not change and nobody in line can get in between; answers how many it moved.
    pub(crate) fn move_between(&self, from: &AtomicU64, to: &AtomicU64, bytes: u64) -> u64 {
        let _state = self.lock();
        let before = from.load(Ordering::Relaxed);
        let moved = bytes.min(before);
        from.store(before - moved, Ordering::Relaxed);
        to.store(to.load(Ordering::Relaxed) + moved, Ordering::Relaxed);
        moved
    }

    pub(crate) fn release(&self, kind: Kind, node: NodeId, bytes: u64) {
        let mut state = self.lock();
        state.ledger.release(kind, node, bytes);
        self.finish(state);
    }

    /// Frees all idle buffers; answers how many bytes they had.
    pub(crate) fn trim(&self) -> u64 {
        let mut state = self.lock();
        let victims = state.pools.drain();
        let surplus = state.ledger.evict(victims.bytes);
        drop(state);
        drop(victims.buffers);
        self.finish(self.end_freeing(surplus));
        victims.bytes
    }

    pub(crate) fn sums(&self) -> Sums {
        let state = self.lock();
        let ledger = &state.ledger;
        Sums {
            reserved: ledger.reserved(),
            used: ledger.used(),
            idle: ledger.idle(),
            peak: ledger.peak(),
            waiting: ledger.waiting(),
        }
    }

    /// Bytes charged to `node` now, and the most that ever were.
    pub(crate) fn node_bytes(&self, node: NodeId) -> (u64, u64) {
        let state = self.lock();
        (state.ledger.charged(node), state.ledger.node_peak(node))
    }

    /// Does what the ledger asks for after a change: evicts, frees, wakes.
    fn finish<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        let mut wakers = state.take_granted_wakers();
        loop {
            let deficit = state.ledger.deficit();
            if deficit == 0 {
                drop(state);
                break;
            }
            let victims = state.pools.evict(deficit, &self.classes);
            let surplus = state.ledger.evict(victims.bytes);
            drop(state);
            drop(victims.buffers);
            if surplus == 0 {
                break;
            }
            // What was freed may let in a waiter that also takes what became idle meanwhile.
            state = self.end_freeing(surplus);
            wakers.append(&mut state.take_granted_wakers());
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Counts `surplus` as back with the system.
    fn end_freeing(&self, surplus: u64) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.ledger.freed(surplus);
        self.freed.notify_all();
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No foreign code runs under the lock, so only a failed assertion of ours can poison it. Drops
        // come through here too, and a second panic in one would end the process.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_granted_wakers(&mut self) -> Vec<Waker> {
        let granted = self.ledger.drain_granted();
        granted.into_iter().filter_map(|ticket| self.wakers.remove(&ticket)).collect()
    }

    fn reserve_error(&self, refusal: Refusal, node: NodeId, needed_bytes: u64) -> ReserveError {
        match refusal {
            Refusal::Unsatisfiable => ReserveError::Unsatisfiable {
                needed_bytes,
                budget_bytes: self.records[node].limit_bytes,
                budget: self.records[node].path.clone(),
            },
            Refusal::Short { node, free } | Refusal::Freeing { node, free } => {
                ReserveError::WouldWait {
                    needed_bytes,
                    free_bytes: free,
                    waiting: self.ledger.waiting(),
                    budget: self.records[node].path.clone(),
                }
            }
        }
    }
}

/// Asks the system for `size` bytes of zeroes; none if it has none.
fn allocate(size: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).ok()?;
    bytes.resize(size, 0);
    Some(bytes)
}
