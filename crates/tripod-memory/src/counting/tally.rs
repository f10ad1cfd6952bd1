//! Sums of bytes to which many threads add.
//!
//! A thread adds to one of [`SHARDS`] cache lines, and carries over to the common total what has come
//! together there once it is [`CARRY_BYTES`]; what is as large by itself goes there at once. So the sum of
//! the total and the shards is exact once nothing is under way, the total alone is never far from it, and
//! the peak can be followed by who carries over, without a common write for each small allocation.
//!
//! All accesses are Relaxed: nothing else is read on the strength of a count. Each addition is a
//! read-modify-write, because threads beyond the number of shards share one.

use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize};

/// How many threads count on a cache line of their own.
const SHARDS: usize = 16;

/// At how many bytes, more or less, a shard carries over.
const CARRY_BYTES: i64 = 4096;

/// How many bytes and allocations there are.
pub(super) struct Tally {
    /// What has been carried over.
    total: AtomicI64,
    /// The most that there has been when somebody carried over.
    peak: AtomicI64,
    shards: [Shard; SHARDS],
}

/// What one thread, or a few, have added since they last carried over.
#[repr(align(128))]
struct Shard {
    /// Less than nothing where more was freed than allocated.
    pending: AtomicI64,
    /// The most that was pending since the last carry.
    high: AtomicI64,
    allocations: AtomicU64,
}

impl Tally {
    pub(super) const fn new() -> Self {
        let shards = [const {
            Shard {
                pending: AtomicI64::new(0),
                high: AtomicI64::new(0),
                allocations: AtomicU64::new(0),
            }
        }; SHARDS];
        Self { total: AtomicI64::new(0), peak: AtomicI64::new(0), shards }
    }

    /// Adds a new allocation of `size` bytes.
    #[inline]
    pub(super) fn count(&self, size: usize) {
        let shard = self.shard();
        shard.allocations.fetch_add(1, Relaxed);
        self.add(shard, size as i64);
    }

    /// Takes away an allocation of `size` bytes.
    #[inline]
    pub(super) fn uncount(&self, size: usize) {
        self.add(self.shard(), -(size as i64));
    }

    /// Adds what an allocation has grown by, or takes away what it has shrunk by.
    #[inline]
    pub(super) fn recount(&self, old_size: usize, new_size: usize) {
        self.add(self.shard(), new_size as i64 - old_size as i64);
    }

    pub(super) fn bytes(&self) -> u64 {
        let pending: i64 = self.shards.iter().map(|shard| shard.pending.load(Relaxed)).sum();
        not_negative(self.total.load(Relaxed) + pending)
    }

    pub(super) fn peak_bytes(&self) -> u64 {
        let high: i64 = self.shards.iter().map(|shard| shard.high.load(Relaxed)).sum();
        not_negative(self.peak.load(Relaxed).max(self.total.load(Relaxed) + high))
    }

    pub(super) fn allocations(&self) -> u64 {
        self.shards.iter().map(|shard| shard.allocations.load(Relaxed)).sum()
    }

    /// No size is above `isize::MAX`, so none is cut by the conversion to `i64`.
    #[inline]
    fn add(&self, shard: &Shard, bytes: i64) {
        if bytes.abs() >= CARRY_BYTES {
            return self.add_to_total(shard, bytes);
        }
        let pending = shard.pending.fetch_add(bytes, Relaxed) + bytes;
        if pending > shard.high.load(Relaxed) {
            shard.high.fetch_max(pending, Relaxed);
        }
        if pending.abs() >= CARRY_BYTES {
            self.carry(shard);
        }
    }

    /// Carries what is pending over to the total.
    #[cold]
    fn carry(&self, shard: &Shard) {
        // Swapped, so that of two threads that share the shard one carries it and the other nothing.
        let pending = shard.pending.swap(0, Relaxed);
        let before = self.total.fetch_add(pending, Relaxed);
        self.peak.fetch_max(before + shard.high.swap(0, Relaxed), Relaxed);
    }

    /// Adds what is large by itself in one step: a reader never finds it missing.
    fn add_to_total(&self, shard: &Shard, bytes: i64) {
        let pending = shard.pending.load(Relaxed);
        let before = self.total.fetch_add(bytes, Relaxed);
        // What was high before this came is not to be added to it.
        let high = shard.high.swap(pending, Relaxed);
        self.peak.fetch_max(before + high.max(pending + bytes), Relaxed);
    }

    #[inline]
    fn shard(&self) -> &Shard {
        &self.shards[this_thread() % SHARDS]
    }
}

/// Bytes of a sum that can be below zero only while somebody adds to it.
fn not_negative(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or(0)
}

/// A number of the calling thread, given out in turn. It allocates nothing.
#[inline]
fn this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        /// Without a destructor, so that a thread can free memory while it ends.
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    let number = NUMBER.get();
    if number != usize::MAX {
        return number;
    }
    let number = NEXT.fetch_add(1, Relaxed);
    NUMBER.set(number);
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One step after the other on a tally and on two plain numbers.
    struct Model {
        tally: Tally,
        bytes: u64,
        peak: u64,
    }

    impl Model {
        fn new() -> Self {
            Self { tally: Tally::new(), bytes: 0, peak: 0 }
        }

        #[track_caller]
        fn change(&mut self, old: usize, new: usize) {
            match (old, new) {
                (0, _) => self.tally.count(new),
                (_, 0) => self.tally.uncount(old),
                _ => self.tally.recount(old, new),
            }
            self.bytes = self.bytes + new as u64 - old as u64;
            self.peak = self.peak.max(self.bytes);
            assert_eq!((self.tally.bytes(), self.tally.peak_bytes()), (self.bytes, self.peak));
        }
    }

    #[test]
    fn the_peak_of_one_thread_is_exact_around_the_point_of_carrying() {
        let mut model = Model::new();
        for size in [1, 4095, 1, 4096, 4097, 100_000, 4095] {
            model.change(0, size);
            model.change(size, size + 1);
            model.change(size + 1, 1);
        }
        for _ in 0..7 {
            model.change(1, 0);
        }
        assert_eq!(model.tally.allocations(), 7);
    }

    #[test]
    fn threads_that_free_what_others_allocated_leave_nothing_behind() {
        const STEPS: usize = if cfg!(miri) { 20 } else { 10_000 };
        let tally = Tally::new();
        // More threads than shards; half of them allocate, half of them free.
        std::thread::scope(|scope| {
            for thread in 0..SHARDS + 4 {
                let tally = &tally;
                scope.spawn(move || {
                    for step in 0..STEPS {
                        let size = [24, 700, 5000][step % 3];
                        if thread % 2 == 0 { tally.count(size) } else { tally.uncount(size) }
                    }
                });
            }
        });
        assert_eq!(tally.bytes(), 0);
        assert_eq!(tally.allocations(), (SHARDS as u64 + 4) / 2 * STEPS as u64);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..Default::default()
        })]

        #[test]
        fn bytes_and_peak_of_one_thread_are_exact(
            steps in proptest::collection::vec((0_usize..8, 0_usize..10_000), 1..300),
        ) {
            let mut model = Model::new();
            let mut sizes = [0; 8];
            for (place, size) in steps {
                if sizes[place] != size {
                    model.change(sizes[place], size);
                    sizes[place] = size;
                }
            }
        }
    }
}
