//! What the engine says about itself: sums over the ledger, the shelves, the depots and the caches.
//!
//! Threads go on meanwhile, so a buffer that moves from a cache to a depot as the sums are taken may be
//! missed or seen twice; when nothing is under way they are exact.

use std::time::Duration;

use super::{Engine, State, mapping};
use crate::cache::Counts;
use crate::ledger::{NodeId, ROOT};

/// The engine at one moment, in bytes where nothing else is said.
#[derive(Clone, Debug)]
pub(crate) struct Sums {
    pub(crate) reserved: u64,
    pub(crate) used: u64,
    pub(crate) idle: u64,
    pub(crate) peak: u64,
    pub(crate) waiting: usize,
    pub(crate) acquires: u64,
    pub(crate) misses: u64,
    pub(crate) requested: u64,
}

/// One size class at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassSums {
    pub(crate) size: usize,
    pub(crate) used: u64,
    pub(crate) committed: u64,
    pub(crate) counts: Counts,
    pub(crate) misses: u64,
    /// Bytes of all buffers handed out so far, by capacity.
    pub(crate) handed_out: u64,
}

impl Engine {
    pub(crate) fn sums(&self) -> Sums {
        let state = self.lock();
        let classes = (0..self.layouts.len()).map(|class| self.class_sums_of(&state, class));
        let large = self.large_sums_of(&state);
        let mut sums = Sums {
            reserved: state.reserved(),
            used: 0,
            idle: 0,
            peak: state.ledger.peak(),
            waiting: state.ledger.waiting(),
            acquires: 0,
            misses: 0,
            requested: 0,
        };
        for class in classes.chain([large]) {
            sums.used += class.used;
            sums.acquires += class.counts.acquires;
            sums.misses += class.misses;
            sums.requested += class.counts.requested_bytes;
        }
        sums.idle = state.ledger.committed().saturating_sub(sums.used);
        sums
    }

    /// Every class, and last what is above the largest, with size 0.
    pub(crate) fn class_sums(&self) -> Vec<ClassSums> {
        let state = self.lock();
        let classes = (0..self.layouts.len()).map(|class| self.class_sums_of(&state, class));
        classes.chain([self.large_sums_of(&state)]).collect()
    }

    fn class_sums_of(&self, state: &State, class: usize) -> ClassSums {
        let shelf = state.shelves[class].sums();
        let depot = self.depots[class].get().map_or(0, |depot| depot.held());
        let cached: usize = state.caches.iter().map(|known| known.cache.held(class)).sum();
        let out = shelf.taken_slots.saturating_sub((depot + cached) as u64);
        let size = self.classes.size(class);
        ClassSums {
            size,
            used: out * size as u64,
            committed: shelf.committed_bytes + shelf.leaving_bytes,
            counts: state.counts(class),
            misses: state.misses[class],
            handed_out: state.counts(class).acquires * size as u64,
        }
    }

    fn large_sums_of(&self, state: &State) -> ClassSums {
        let last = self.layouts.len();
        ClassSums {
            size: 0,
            used: state.large.bytes,
            committed: state.large.bytes,
            counts: state.retired[last],
            misses: state.misses[last],
            handed_out: state.large.handed_out,
        }
    }

    /// One class, or with the number of classes what is above the largest.
    pub(crate) fn class_sums_at(&self, class: usize) -> ClassSums {
        let state = self.lock();
        if class < self.layouts.len() {
            self.class_sums_of(&state, class)
        } else {
            self.large_sums_of(&state)
        }
    }

    /// What is out: buffers, their bytes, and reserved bytes.
    #[cfg(not(debug_assertions))]
    pub(crate) fn out(&self) -> (u64, u64, u64) {
        let state = self.lock();
        let (mut buffers, mut bytes) = (state.large.count, state.large.bytes);
        for class in 0..self.layouts.len() {
            let sums = self.class_sums_of(&state, class);
            buffers += sums.used / sums.size as u64;
            bytes += sums.used;
        }
        (buffers, bytes, state.reserved())
    }

    /// How long requests have waited in line, all together.
    pub(crate) fn waited(&self) -> Duration {
        let records = self.lock().records.clone();
        records
            .iter()
            .map(|record| record.waited().1)
            .fold(Duration::ZERO, Duration::saturating_add)
    }

    /// Bytes of the pools' regions that have physical pages now; none if the system does not say.
    ///
    /// One region after the other is looked at, with the lock held for as long as one takes.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let mut bytes = 0;
        for class in 0..self.layouts.len() {
            let mut next = 0;
            loop {
                let state = self.lock();
                let Some((index, base)) = state.shelves[class].region_from(next) else { break };
                bytes += mapping::resident_bytes(base, self.layouts[class].region_bytes)?;
                drop(state);
                next = index + 1;
            }
        }
        Some(bytes)
    }

    /// Bytes reserved and handed out through `node` and those below, and the most that were ever
    /// charged to it.
    pub(crate) fn node_bytes(&self, node: NodeId) -> (u64, u64) {
        let peak = self.lock().ledger.node_peak(node);
        if node == ROOT {
            let sums = self.sums();
            return (sums.reserved + sums.used, peak);
        }
        (self.lock().charged(node), peak)
    }
}

impl State {
    /// What is reserved, less what threads have as credit.
    fn reserved(&self) -> u64 {
        let mut credit = 0;
        for known in &self.caches {
            known.cache.each_credit(|_, _, reserved| credit += reserved);
        }
        self.ledger.reserved().saturating_sub(credit)
    }

    /// What is charged to `node`, less what threads have as credit there and below.
    fn charged(&self, node: NodeId) -> u64 {
        let mut credit = 0;
        for known in &self.caches {
            known.cache.each_credit(|other, used, reserved| {
                if self.is_within(other, node) {
                    credit += used + reserved;
                }
            });
        }
        self.ledger.charged(node).saturating_sub(credit)
    }

    fn is_within(&self, mut node: NodeId, above: NodeId) -> bool {
        while node != above {
            match self.records[node].parent {
                Some(parent) => node = parent,
                None => return false,
            }
        }
        true
    }
}
