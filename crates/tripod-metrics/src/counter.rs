//! Counters: numbers that only grow.
//!
//! The one cell may be touched by any thread at any time. All accesses are `Relaxed` and need no
//! partner: the number stands alone and publishes no other memory.

use crate::sync::{Arc, AtomicU64, Ordering};

/// Counts events, exactly, in a `u64`.
///
/// A handle is cheap to clone, and all clones share one number, which starts at 0. It is exported
/// to its last digit, never through a float. Past `u64::MAX` it wraps to 0, which Prometheus takes
/// for a restart. An update is one atomic addition and never waits.
///
/// # Examples
/// ```
/// # use tripod_metrics::MetricsCollector;
/// let metrics = MetricsCollector::new();
/// let jobs = metrics.counter("jobs_total", "Jobs taken.").register()?.plain();
/// jobs.inc();
/// jobs.add(2);
/// assert_eq!(jobs.get(), 3);
/// # Ok::<(), tripod_metrics::RegisterError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Counter {
    cell: Arc<AtomicU64>,
}

impl Counter {
    /// Adds one.
    ///
    /// It does not return the number, so that the number may one day be spread over several cells.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `events`, which may be 0.
    pub fn add(&self, events: u64) {
        self.cell.fetch_add(events, Ordering::Relaxed);
    }

    /// Returns the number of events so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.cell.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_one_number() {
        let counter = Counter::default();
        let clone = counter.clone();
        counter.add(2);
        clone.inc();
        assert_eq!((counter.get(), clone.get()), (3, 3));
    }

    #[test]
    fn wraps_to_zero_past_the_largest_number() {
        let counter = Counter::default();
        counter.add(u64::MAX);
        counter.inc();
        assert_eq!(counter.get(), 0);
    }

    #[test]
    fn loses_nothing_when_many_threads_add() {
        let counter = Counter::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| counter.inc()));
            }
        });
        assert_eq!(counter.get(), 40_000);
    }
}
