//! What a pool does, seen from all its shards.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::time::{Duration, Instant};

use super::ObjectPoolStats;
use super::shard::Shard;

/// The most shards that a pool has, however many processors there are.
const SHARDS_MAX: usize = 64;

/// How an object is made.
pub(crate) type Make<T> = Box<dyn Fn() -> T + Send + Sync>;

/// What is done to an object that comes back.
pub(crate) type Reset<T> = Box<dyn Fn(&mut T) + Send + Sync>;

/// A pool without its handles. The counts are statistics that guard nothing: Relaxed.
pub(crate) struct Inner<T> {
    /// A power of two of them.
    shards: Box<[Shard<T>]>,
    make: Make<T>,
    reset: Option<Reset<T>>,
    ttl: Duration,
    made: Box<[Made]>,
    detached: AtomicU64,
    dropped: AtomicU64,
    /// Set while a collector sleeps because nothing is here; whoever makes an object wakes it.
    at_rest: AtomicBool,
    wake: OnceLock<fn()>,
}

/// The objects made by the threads of one shard.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Made(AtomicU64);

impl<T> Inner<T> {
    pub(crate) fn new(
        make: Make<T>,
        reset: Option<Reset<T>>,
        ttl: Duration,
        idle_max: usize,
    ) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with_shards(shards_count(processors, idle_max), make, reset, ttl, idle_max)
    }

    /// A pool of `count` shards, a power of two, that have room for `idle_max` objects together.
    pub(crate) fn with_shards(
        count: usize,
        make: Make<T>,
        reset: Option<Reset<T>>,
        ttl: Duration,
        idle_max: usize,
    ) -> Self {
        debug_assert!(count.is_power_of_two(), "{count} shards cannot be masked");
        let room = |index: usize| idle_max / count + usize::from(index < idle_max % count);
        Self {
            shards: (0..count).map(|index| Shard::new(room(index))).collect(),
            made: (0..count).map(|_| Made::default()).collect(),
            make,
            reset,
            ttl,
            detached: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            at_rest: AtomicBool::new(false),
            wake: OnceLock::new(),
        }
    }

    /// The shard that the calling thread starts with.
    #[inline]
    pub(crate) fn home(&self) -> usize {
        this_thread() & (self.shards.len() - 1)
    }

    /// How many homes there are.
    pub(crate) fn homes(&self) -> usize {
        self.shards.len()
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Takes an idle object, or makes one.
    pub(crate) fn take(&self, home: usize) -> T {
        if let Some(object) = self.shards[home].pop().or_else(|| self.take_from_others(home)) {
            return object;
        }
        let object = (self.make)();
        self.made[home].0.fetch_add(1, Ordering::Relaxed);
        self.end_rest();
        object
    }

    /// Wakes the collector if it sleeps because there was nothing here.
    fn end_rest(&self) {
        // Pairs with the fence in `is_to_be_watched`: either that sees the object as made, or this
        // sees the rest.
        fence(Ordering::SeqCst);
        if self.at_rest.load(Ordering::Relaxed) && self.at_rest.swap(false, Ordering::Relaxed) {
            self.wake.get().into_iter().for_each(|wake| wake());
        }
    }

    /// Whether anything is idle or out; if not, `wake` is called once when the next object is made.
    pub(crate) fn is_to_be_watched(&self, wake: fn()) -> bool {
        self.wake.get_or_init(|| wake);
        self.at_rest.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let ObjectPoolStats { idle, out, .. } = self.stats();
        let is_watched = idle + out > 0;
        if is_watched {
            self.at_rest.store(false, Ordering::Relaxed);
        }
        is_watched
    }

    /// Moves half of the first other shard that has any to this one, and takes one of them.
    #[cold]
    fn take_from_others(&self, home: usize) -> Option<T> {
        let mut moved =
            self.from(home).skip(1).map(Shard::pop_half).find(|half| !half.is_empty())?;
        let object = self.shards[home].take_over(&mut moved);
        if !moved.is_empty() {
            self.keep_or_drop(home, moved);
        }
        object
    }

    /// Finds room for objects that lost theirs while they moved: others came back in that moment.
    fn keep_or_drop(&self, home: usize, mut moved: VecDeque<T>) {
        self.from(home).for_each(|shard| shard.keep(&mut moved));
        self.dropped.fetch_add(moved.len() as u64, Ordering::Relaxed);
    }

    /// Resets an object and keeps it, or drops it.
    pub(crate) fn give_back(&self, mut object: T) {
        // Also, a reset that panics now would end the process.
        if std::thread::panicking() {
            self.count_dropped();
            return;
        }
        if let Some(reset) = &self.reset {
            let failed = CountDropped(&self.dropped);
            reset(&mut object);
            std::mem::forget(failed);
        }
        for shard in self.from(self.home()) {
            match shard.push(object) {
                Ok(()) => return,
                Err(refused) => object = refused,
            }
        }
        self.count_dropped();
    }

    /// See [`ObjectPool::collect`](super::ObjectPool::collect).
    pub(crate) fn collect(&self, now: Instant, max: usize) -> usize {
        // All of them first: what `max` cuts off must not make the others' objects look younger.
        self.shards.iter().for_each(|shard| shard.look(now, self.ttl));
        let mut dropped = 0;
        for shard in &self.shards {
            while dropped < max {
                let Some(object) = shard.pop_expired(now, self.ttl) else { break };
                dropped += 1;
                drop(object);
            }
            shard.shrink();
        }
        dropped
    }

    /// Drops what is idle, and from now on all that comes back.
    pub(crate) fn close(&self) {
        for shard in &self.shards {
            drop(shard.close());
        }
    }

    pub(crate) fn count_detached(&self) {
        self.detached.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> ObjectPoolStats {
        let dropped = self.dropped.load(Ordering::Relaxed);
        let mut gone = dropped + self.detached.load(Ordering::Relaxed);
        let mut stats = ObjectPoolStats { dropped, ..ObjectPoolStats::default() };
        for counts in self.shards.iter().map(Shard::counts) {
            stats.hits += counts.hits;
            stats.idle += counts.idle;
            stats.expired += counts.expired;
            gone += counts.returned;
        }
        stats.misses = self.made.iter().map(|made| made.0.load(Ordering::Relaxed)).sum();
        stats.out = (stats.hits + stats.misses).saturating_sub(gone);
        stats
    }

    fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// All shards, from `home` on.
    fn from(&self, home: usize) -> impl Iterator<Item = &Shard<T>> {
        self.shards[home..].iter().chain(&self.shards[..home])
    }
}

/// Counts an object as dropped unless it is forgotten.
struct CountDropped<'a>(&'a AtomicU64);

impl Drop for CountDropped<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One shard for each processor, but none without room for an object.
fn shards_count(processors: usize, idle_max: usize) -> usize {
    let wanted = processors.next_power_of_two().min(SHARDS_MAX);
    let with_room = 1 << idle_max.max(1).ilog2();
    wanted.min(with_room)
}

/// A number of the calling thread. They are given out in turn, so that threads that run at the same time
/// mostly start with different shards.
#[inline]
fn this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        /// Without a destructor, so that objects can come back while their thread ends.
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    NUMBER.with(|number| {
        number.get().unwrap_or_else(|| {
            let new = NEXT.fetch_add(1, Ordering::Relaxed);
            number.set(Some(new));
            new
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_room_and_there_are_not_more_than_processors() {
        for (processors, idle_max, count) in
            [(1, 1024, 1), (2, 1024, 2), (3, 1024, 4), (64, 3, 2), (64, 1, 1), (500, 1024, 64)]
        {
            assert_eq!(shards_count(processors, idle_max), count, "{processors}, {idle_max}");
        }
    }
}
