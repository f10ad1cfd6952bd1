//! Counters: numbers that only grow.
//!
//! An increment is a plain load and store on a cell of the calling thread; see [`crate::cells`].

use std::time::SystemTime;

use crate::cells::{self, Slot};
use crate::exemplars::{self, ExemplarError};
use crate::series::Held;
use crate::snapshot::Exemplar;

/// Counts events, exactly, in a `u64`.
///
/// A handle is cheap to clone, and all clones share one number, which starts at 0. It is exported
/// to its last digit, never through a float. Past `u64::MAX` it wraps to 0, which Prometheus takes
/// for a restart.
///
/// An update costs a load and a store on memory that no other thread writes, at any number of
/// threads. It never waits, and it allocates only when a thread first updates one of a group of
/// 512 series. It must not be called from within a global allocator or a signal handler.
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
#[derive(Clone)]
pub struct Counter {
    slot: Slot,
    held: Held,
}

impl Counter {
    pub(crate) fn new(slot: Slot, held: Held) -> Self {
        Self { slot, held }
    }

    /// Adds one.
    ///
    /// It does not return the number, which is spread over the cells of many threads.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `events`, which may be 0.
    #[inline]
    pub fn add(&self, events: u64) {
        if !cells::try_add(self.slot, events) {
            self.add_slowly(events);
        }
    }

    #[cold]
    fn add_slowly(&self, events: u64) {
        self.held.set.shared.cells.add_slowly(self.slot, events);
    }

    /// Adds `events` and keeps `labels` as the exemplar of the series: a trace, say.
    ///
    /// The newest one is shown in the OpenMetrics and protobuf formats. This takes a lock.
    ///
    /// # Errors
    /// [`ExemplarError`] if the labels cannot be shown; the events are counted all the same.
    pub fn add_with_exemplar(
        &self,
        events: u64,
        labels: &[(&str, &str)],
    ) -> Result<(), ExemplarError> {
        self.add(events);
        keep_exemplar(&self.held, 0, events as f64, labels)
    }

    /// Returns the number of events so far, as the total over all threads.
    ///
    /// It is at least what was counted before this call. It takes a short lock that no update takes.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.held.set.shared.cells.sum(self.slot)
    }
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Counter").field(&self.get()).finish()
    }
}

/// Counts in fractions, such as seconds or bytes per something, in an `f64`.
///
/// As [`Counter`], but exact only as far as an `f64` is. What is added must not be negative.
///
/// # Examples
/// ```
/// # use tripod_metrics::MetricsCollector;
/// let metrics = MetricsCollector::new();
/// let busy = metrics.float_counter("busy_seconds_total", "Time at work.").register()?.plain();
/// busy.add(0.25);
/// busy.add(-1.0); // Ignored, and counted as dropped.
/// assert_eq!(busy.get(), 0.25);
/// # Ok::<(), tripod_metrics::RegisterError>(())
/// ```
#[derive(Clone)]
pub struct FloatCounter {
    slot: Slot,
    held: Held,
}

impl FloatCounter {
    pub(crate) fn new(slot: Slot, held: Held) -> Self {
        Self { slot, held }
    }

    /// Adds `amount`.
    ///
    /// A negative amount and NaN are ignored and counted in
    /// `tripod_metrics_observations_dropped_total`, since a counter that falls reads as a restart.
    #[inline]
    pub fn add(&self, amount: f64) {
        if amount >= 0.0 {
            self.held.set.shared.cells.add_float(self.slot, amount);
        } else {
            self.held.set.shared.drop_nan();
        }
    }

    /// Returns the total so far, over all threads.
    #[must_use]
    pub fn get(&self) -> f64 {
        self.held.set.shared.cells.sum_float(self.slot)
    }
}

impl std::fmt::Debug for FloatCounter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FloatCounter").field(&self.get()).finish()
    }
}

/// Checks an exemplar and keeps it for the bucket of a series.
pub(crate) fn keep_exemplar(
    held: &Held,
    bucket: i32,
    value: f64,
    labels: &[(&str, &str)],
) -> Result<(), ExemplarError> {
    let labels = exemplars::checked(labels)?;
    let time: SystemTime = held.set.shared.now();
    held.set.exemplars.put(held.position, bucket, Exemplar { labels, value, time });
    Ok(())
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use crate::MetricsCollector;

    fn counter() -> super::Counter {
        let family = MetricsCollector::new().counter("jobs_total", "Jobs.").register();
        family.unwrap().plain()
    }

    #[test]
    fn clones_share_one_number() {
        let counter = counter();
        let clone = counter.clone();
        counter.add(2);
        clone.inc();
        assert_eq!((counter.get(), clone.get()), (3, 3));
    }

    #[test]
    fn wraps_to_zero_past_the_largest_number() {
        let counter = counter();
        counter.add(u64::MAX);
        counter.inc();
        assert_eq!(counter.get(), 0);
    }

    #[test]
    fn loses_nothing_when_many_threads_add() {
        let counter = counter();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| counter.inc()));
            }
        });
        assert_eq!(counter.get(), 40_000);
    }
}
