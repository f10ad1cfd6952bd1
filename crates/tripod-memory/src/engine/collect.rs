//! What has been idle for longer than its time to live goes back to the system, step by step.
//!
//! Time is counted in *ticks*, an eighth of the shortest time to live. Nobody but the collector reads
//! a clock, and it writes down no times on the way of a buffer: for each magazine it looks how few
//! buffers were in it since its last look, for each cell of a depot whether it was touched, and slots
//! come back to a shelf with the tick of the last collection.
//!
//! | where | goes on to the shelf when | and to the system |
//! |---|---|---|
//! | magazine | the oldest, as many as were never needed since the last look | |
//! | depot | a batch that nobody has touched since the last look | |
//! | shelf | | a span that has been free for six ticks, those elsewhere included; and as many as were free at every moment of the last five looks |
//!
//! A look comes with each tick, and idleness begins somewhere between two of them. So memory goes back
//! between five eighths of its time to live and the whole of it after its last use, if
//! collections come at least once a tick. What lies on a shelf is of use to all threads meanwhile, and
//! goes back sooner if memory is needed elsewhere.

use std::time::{Duration, Instant};

use super::reclaim::{ANY_AGE, DISCARD_BYTES_MAX, Eviction};
use super::{Engine, State, mapping};
use crate::depot::Seen;
use crate::guard::{MAGAZINES, heavy_fence};
use crate::sync::MutexGuard;

/// Ticks within one time to live.
const TICKS: u64 = 8;

/// Ticks for which something has to be idle to go back. With the two in which idleness may begin, and
/// be noticed, they are one time to live.
const IDLE_TICKS: u64 = 6;

/// Caches that are looked at without releasing the lock.
const CACHES_AT_ONCE: usize = 32;

/// The first tick, so that there is a time before it.
const FIRST_TICK: u64 = 1 << 16;

/// How long each size class keeps what is idle.
#[derive(Clone, Debug)]
pub(crate) struct Ttl {
    epoch: Instant,
    tick: Duration,
    /// Ticks of a time to live, by class; a multiple of [`TICKS`].
    ticks: Box<[u64]>,
}

/// What the collector remembers.
#[derive(Debug)]
pub(super) struct Notes {
    tick: u64,
    depots: Vec<Seen>,
    /// A run of spans that could not be finished in the last step.
    unfinished: Option<(Eviction, usize)>,
    /// Whether the background collector has nothing to do here.
    pub(super) is_at_rest: bool,
}

/// What one collection did.
///
/// # Examples
/// ```
/// # use std::time::{Duration, Instant};
/// # use tripod_memory::MemoryManager;
/// let memory = MemoryManager::builder().ttl(Duration::from_secs(1)).build()?;
/// let collected = memory.collect(Instant::now(), Duration::from_millis(1));
/// assert_eq!((collected.bytes, collected.is_finished), (0, true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collected {
    /// Bytes that went back to the system.
    pub bytes: u64,
    /// Leases that were over and ended.
    pub leases: u64,
    /// Pooled objects that had been idle for too long and were dropped.
    pub objects: u64,
    /// Bytes that spillers say they gave back.
    pub spilled_bytes: u64,
    /// Whether everything that was due is done; if not, the next call goes on.
    pub is_finished: bool,
}

impl Ttl {
    /// `ttls` has the time to live of each class; none is zero.
    pub(crate) fn new(epoch: Instant, ttls: &[Duration]) -> Self {
        let shortest = ttls.iter().min().copied().unwrap_or(Duration::MAX);
        let tick = (shortest / TICKS as u32).max(Duration::from_nanos(1));
        let ticks = |ttl: &Duration| {
            let each = ttl.as_nanos().div_ceil(tick.as_nanos()).div_ceil(u128::from(TICKS));
            u64::try_from(each).map_or(u64::MAX / 2, |each| each.saturating_mul(TICKS))
        };
        Self { epoch, tick, ticks: ttls.iter().map(ticks).collect() }
    }

    /// How often there is something to look at.
    pub(crate) fn tick(&self) -> Duration {
        self.tick
    }

    fn tick_at(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.epoch).as_nanos() / self.tick.as_nanos();
        u64::try_from(passed).unwrap_or(u64::MAX).saturating_add(FIRST_TICK)
    }

    /// How many looks at `class` lie between two ticks.
    fn looks(&self, class: usize, from: u64, to: u64) -> u64 {
        let each = (self.ticks[class] / TICKS).max(1);
        to / each - from / each
    }

    /// The stamp of what has not been needed for `looks`.
    fn unneeded_since(&self, class: usize, tick: u64, looks: u64) -> u64 {
        let each = (self.ticks[class] / TICKS).max(1);
        tick.saturating_sub(looks.saturating_mul(each).saturating_add(1))
    }

    /// A span with a stamp below this has been free for too long.
    fn idle_before(&self, class: usize, tick: u64) -> u64 {
        tick.saturating_sub(self.ticks[class] / TICKS * IDLE_TICKS)
    }
}

impl Default for Notes {
    fn default() -> Self {
        Self { tick: FIRST_TICK, depots: Vec::new(), unfinished: None, is_at_rest: true }
    }
}

impl Notes {
    /// The tick of the last collection.
    pub(super) fn tick(&self) -> u64 {
        self.tick
    }

    /// The bytes of what the last step left.
    pub(super) fn unfinished_bytes(&self) -> u64 {
        let unfinished = self.unfinished.as_ref();
        unfinished.map_or(0, |(eviction, _)| eviction.leaving().len_bytes as u64)
    }

    /// What the last step left, for whoever goes on with it.
    pub(super) fn take_unfinished(&mut self) -> Option<(Eviction, usize)> {
        self.unfinished.take()
    }
}

impl Engine {
    /// Does what is due at `now`, for no longer than `budget` or little more, and what spillers take.
    pub(crate) fn collect(&self, now: Instant, budget: Duration) -> Collected {
        let started = Instant::now();
        let mut collected = Collected::default();
        let is_over = || started.elapsed() >= budget;
        // First, so that what they had is idle memory by now.
        let is_rest_done = self.collect_extras(now, &is_over, &mut collected);
        self.collect_idle(now, &is_over, &mut collected);
        collected.is_finished &= is_rest_done;
        self.meter.collected(started.elapsed(), collected.bytes);
        collected.spilled_bytes = self.look_around(now);
        collected
    }

    /// Gives back what has been idle for too long.
    fn collect_idle(&self, now: Instant, is_over: &impl Fn() -> bool, collected: &mut Collected) {
        let from = self.advance(now);
        if let Some((from, to)) = from {
            self.look_at_shelves(from, to);
            self.look_at_caches(from, to);
            self.look_at_depots(from, to);
        }
        collected.is_finished = self.give_back(is_over, &mut collected.bytes);
        if collected.is_finished && !is_over() {
            self.collapse_one();
        }
    }

    /// Moves the tick on; answers both if it moved.
    fn advance(&self, now: Instant) -> Option<(u64, u64)> {
        let mut state = self.lock();
        let (from, to) = (state.collection.tick, self.ttl.tick_at(now));
        state.collection.tick = to.max(from);
        (to > from).then_some((from, to))
    }

    fn look_at_shelves(&self, from: u64, to: u64) {
        let mut state = self.lock();
        for (class, shelf) in state.shelves.iter_mut().enumerate() {
            let looks = self.ttl.looks(class, from, to);
            if looks > 0 {
                shelf.look(looks);
            }
        }
    }

    fn look_at_caches(&self, from: u64, to: u64) {
        let mut next = 0;
        loop {
            let mut state = self.lock();
            let end = state.caches.len().min(next + CACHES_AT_ONCE);
            if next >= end {
                return;
            }
            state.take_unneeded(&self.ttl, next..end, from, to);
            self.finish(state);
            next = end;
        }
    }

    fn look_at_depots(&self, from: u64, to: u64) {
        for (class, depot) in self.depots.iter().enumerate() {
            let looks = self.ttl.looks(class, from, to);
            let Some(depot) = depot.get().filter(|_| looks > 0) else { continue };
            let mut state = self.lock();
            let since = self.ttl.unneeded_since(class, to, looks);
            let seen = &mut state.collection.depots;
            let missing = self.depots.len() - seen.len();
            if seen.try_reserve(missing).is_err() {
                return;
            }
            seen.resize_with(self.depots.len(), Seen::default);
            let mut seen = std::mem::take(&mut state.collection.depots[class]);
            depot.take_stale(&mut seen, |batch| {
                batch.iter().for_each(|slot| state.put_idle_since(class, slot, since));
            });
            state.collection.depots[class] = seen;
            self.finish(state);
        }
    }

    /// Gives back what has been on the shelves for too long; answers whether that is all.
    fn give_back(&self, is_over: &impl Fn() -> bool, bytes: &mut u64) -> bool {
        loop {
            let mut state = self.lock();
            let Some((eviction, done)) = state.next_due(&self.ttl) else {
                self.finish(state);
                return true;
            };
            let left = self.carry_out_until(state, eviction, done, is_over);
            *bytes += left;
            if is_over() {
                return false;
            }
        }
    }

    /// Discards a run in parts, and puts it aside when time is up; answers how much went back.
    fn carry_out_until(
        &self,
        mut state: MutexGuard<'_, State>,
        eviction: Eviction,
        mut done: usize,
        is_over: &impl Fn() -> bool,
    ) -> u64 {
        let len = eviction.leaving().len_bytes;
        state.leaving_bytes += len as u64;
        drop(state);
        while done < len {
            let part = (len - done).min(DISCARD_BYTES_MAX);
            mapping::discard_part(eviction.leaving(), done, part);
            done += part;
            if is_over() {
                break;
            }
        }
        let mut state = self.lock();
        state.leaving_bytes -= len as u64;
        if done < len {
            state.collection.unfinished = Some((eviction, done));
        } else {
            state.complete(eviction);
        }
        self.changed.notify_all();
        self.finish(state);
        if done < len { 0 } else { len as u64 }
    }

    /// Asks for huge pages in one region that has been in use throughout.
    fn collapse_one(&self) {
        let mut state = self.lock();
        let region = state.shelves.iter_mut().find_map(|shelf| shelf.next_to_collapse());
        drop(state);
        if let Some((_, base, len)) = region {
            mapping::collapse(base, len);
        }
    }

    /// Gives everything back that is idle, whatever its age; answers how many bytes that were.
    pub(crate) fn trim(&self) -> u64 {
        let mut state = self.lock();
        state.holds += 1;
        self.finish(state);
        state = self.lock();
        let before = state.ledger.committed();
        while let Some(eviction) = state.choose_eviction(u64::MAX, ANY_AGE) {
            state = self.carry_out(state, eviction);
        }
        let after = state.ledger.committed();
        state.holds -= 1;
        self.finish(state);
        before.saturating_sub(after)
    }
}

impl State {
    /// Takes what was not needed out of some caches, if their threads are not at work in them.
    fn take_unneeded(&mut self, ttl: &Ttl, caches: std::ops::Range<usize>, from: u64, to: u64) {
        let mut found = Vec::new();
        for index in caches {
            let registered = &mut self.caches[index];
            for class in 0..self.shelves.len() {
                let looks = ttl.looks(class, from, to);
                if looks > 0 {
                    let newest = &mut registered.newest[class];
                    let unneeded = registered.cache.take_low(class, newest);
                    registered.cache.looked(class, unneeded > 0);
                    // A thread that owes more than this gives it up by itself, and is waited for.
                    // Without memory for a note they stay a little longer.
                    if unneeded > 0
                        && !registered.cache.guard.is_pending()
                        && found.try_reserve(1).is_ok()
                    {
                        let since = ttl.unneeded_since(class, to, looks);
                        found.push((index, class, unneeded, since));
                    }
                }
            }
        }
        for &(index, ..) in &found {
            self.caches[index].cache.guard.revoke(MAGAZINES);
        }
        if !found.is_empty() {
            heavy_fence();
        }
        // All classes of a cache before it is restored: from then on it is its thread's.
        for of_cache in found.chunk_by(|(one, ..), (other, ..)| one == other) {
            let cache = self.caches[of_cache[0].0].cache.clone();
            // Whoever is at work there comes by again.
            if !cache.guard.is_busy() {
                for &(_, class, unneeded, since) in of_cache {
                    let put = |slot| self.put_idle_since(class, slot, since);
                    cache.take_oldest(class, unneeded, put);
                }
                cache.guard.settle();
            }
            cache.guard.restore(self.level);
        }
    }

    fn next_due(&mut self, ttl: &Ttl) -> Option<(Eviction, usize)> {
        if let Some(unfinished) = self.collection.take_unfinished() {
            return Some(unfinished);
        }
        let tick = self.collection.tick;
        let classes = 0..self.shelves.len();
        let due = classes.clone().find_map(|class| {
            self.choose_of(class, ttl.idle_before(class, tick), DISCARD_BYTES_MAX)
        });
        // Of those that are unneeded the emptiest regions have the most to give.
        let due = due.or_else(|| {
            classes.into_iter().find_map(|class| match self.shelves[class].unneeded_bytes() {
                0 => None,
                bytes => self.choose_of(class, ANY_AGE, bytes.min(DISCARD_BYTES_MAX)),
            })
        })?;
        Some((due, 0))
    }
}
