//! Histograms: how often values fell under each of a fixed list of bounds.
//!
//! Buckets and sum change together under one mutex, and the count is the total of the buckets, so a
//! reader can never see them disagree.

use crate::counter::Counter;
use crate::sync::{Arc, Mutex, lock};

/// The upper bounds of a histogram for which none are chosen: 5 ms to 10 s, for values in seconds.
///
/// They are the customary defaults of Prometheus clients, so that dashboards carry over.
pub const DEFAULT_BUCKETS: [f64; 11] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Counts observed values in buckets with fixed upper bounds, and adds them up.
///
/// A bound is inclusive: a value of exactly 0.5 falls in the bucket `le="0.5"`. A handle is cheap to
/// clone, and all clones share the same buckets. An observation takes a lock of this histogram for
/// two additions.
///
/// NaN belongs in no bucket: it is dropped and counted in
/// `tripod_metrics_observations_dropped_total` of the same collector. An infinite value is counted
/// and makes the sum infinite for good; negative values are counted and lower the sum.
///
/// # Examples
/// ```
/// # use tripod_metrics::MetricsCollector;
/// let metrics = MetricsCollector::new();
/// let sizes = metrics
///     .histogram("request_bytes", "Sizes of requests.")
///     .buckets([100.0, 1000.0])
///     .register()?
///     .plain();
/// sizes.observe(100.0);
/// sizes.observe(5000.0);
///
/// let snapshot = sizes.snapshot();
/// assert_eq!(snapshot.buckets, [(100.0, 1), (1000.0, 1), (f64::INFINITY, 2)]);
/// assert_eq!((snapshot.count, snapshot.sum), (2, 5100.0));
/// # Ok::<(), tripod_metrics::RegisterError>(())
/// ```
#[derive(Clone)]
pub struct Histogram {
    inner: Arc<Inner>,
}

struct Inner {
    /// Finite and strictly ascending; the bucket up to +Inf is implied.
    bounds: Arc<[f64]>,
    cells: Mutex<Cells>,
    dropped: Counter,
}

struct Cells {
    /// Not cumulative; one more than there are bounds.
    buckets: Box<[u64]>,
    sum: f64,
}

/// What a [`Histogram`] held at one moment.
///
/// It is consistent: `count` equals the last bucket, and `sum` is the total of exactly these values.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HistogramSnapshot {
    /// Each upper bound with the number of values up to it, cumulative, ascending; the last bound is
    /// +Inf.
    pub buckets: Vec<(f64, u64)>,
    /// The number of values.
    pub count: u64,
    /// The total of the values, in their unit.
    pub sum: f64,
}

impl Histogram {
    /// Makes an empty histogram; `bounds` were checked at registration.
    pub(crate) fn new(bounds: Arc<[f64]>, dropped: Counter) -> Self {
        debug_assert!(bounds.is_sorted_by(|a, b| a < b), "bounds must ascend: {bounds:?}");
        let buckets = vec![0; bounds.len() + 1].into_boxed_slice();
        let cells = Mutex::new(Cells { buckets, sum: 0.0 });
        Self { inner: Arc::new(Inner { bounds, cells, dropped }) }
    }

    /// Records one value; NaN is dropped and counted as such.
    ///
    /// Finds the bucket by binary search before it takes the lock.
    pub fn observe(&self, value: f64) {
        if value.is_nan() {
            self.inner.dropped.inc();
            return;
        }
        let index = self.inner.bounds.partition_point(|bound| *bound < value);
        let mut cells = lock(&self.inner.cells);
        cells.buckets[index] += 1;
        cells.sum += value;
    }

    /// Returns buckets, count and sum as they were together at one moment.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        let (buckets, sum) = {
            let cells = lock(&self.inner.cells);
            (cells.buckets.clone(), cells.sum)
        };
        let mut count = 0;
        let bounds = self.inner.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets = bounds
            .zip(buckets)
            .map(|(bound, in_bucket)| {
                count += in_bucket;
                (bound, count)
            })
            .collect();
        HistogramSnapshot { buckets, count, sum }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let HistogramSnapshot { count, sum, .. } = self.snapshot();
        f.debug_struct("Histogram").field("count", &count).field("sum", &sum).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(bounds: &[f64]) -> Histogram {
        Histogram::new(bounds.into(), Counter::default())
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let histogram = histogram(&[0.0, 1.0]);
        for value in [-1.0, -0.0, 0.0, f64::from_bits(1), 1.0, 1.0_f64.next_up()] {
            histogram.observe(value);
        }
        assert_eq!(histogram.snapshot().buckets, [(0.0, 3), (1.0, 5), (f64::INFINITY, 6)]);
    }

    #[test]
    fn nan_is_dropped_and_counted() {
        let dropped = Counter::default();
        let histogram = Histogram::new(Arc::new([1.0]), dropped.clone());
        histogram.observe(f64::NAN);
        histogram.observe(2.0);
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.count, snapshot.sum, dropped.get()), (1, 2.0, 1));
    }

    #[test]
    fn an_infinite_value_is_counted_above_every_bound() {
        let histogram = histogram(&[1.0]);
        histogram.observe(f64::INFINITY);
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.buckets, [(1.0, 0), (f64::INFINITY, 1)]);
        assert_eq!(snapshot.sum, f64::INFINITY);
    }
}
