//! Histograms: how often values fell into each of a list of buckets.
//!
//! The buckets of a thread and their sum are a block of cells, read as one; see
//! [`crate::cells`]. The count is the total of the buckets, so a reader never sees them
//! disagree.

use crate::bounds::Bounds;
use crate::cells::{self, Slot};
use crate::counter::keep_exemplar;
use crate::exemplars::ExemplarError;
use crate::exponential::{Distribution, EXPONENT_MAX, Exponential};
use crate::series::Held;
use crate::shared::Shared;
use crate::snapshot::{ExponentialSnapshot, HistogramSnapshot};
use crate::sync::Arc;

/// The upper bounds of a histogram for which none are chosen: 5 ms to 10 s, for values in seconds.
///
/// They are the customary defaults of Prometheus clients, so that dashboards carry over.
pub const DEFAULT_BUCKETS: [f64; 11] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Counts observed values in buckets, and adds them up.
///
/// Its buckets are *classic* ones, with fixed upper bounds, or *exponential* ones
/// ([`FamilyBuilder::exponential`](crate::FamilyBuilder::exponential)), which need no bounds and are
/// exported as a Prometheus native histogram. A bound is inclusive: a value of exactly 0.5 falls in
/// the bucket `le="0.5"`. A handle is cheap to clone, and all clones share the same buckets.
///
/// An observation never waits. It allocates only when a thread first updates one of a group of
/// series, and, with exponential buckets, when a value is the first of its series within some
/// doublings.
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
    buckets: Buckets,
    held: Held,
}

#[derive(Clone)]
enum Buckets {
    Classic { bounds: Arc<Bounds>, slot: Slot },
    Exponential(Arc<Exponential>),
}

impl Histogram {
    pub(crate) fn classic(bounds: Arc<Bounds>, slot: Slot, held: Held) -> Self {
        Self { buckets: Buckets::Classic { bounds, slot }, held }
    }

    pub(crate) fn exponential(series: Arc<Exponential>, held: Held) -> Self {
        Self { buckets: Buckets::Exponential(series), held }
    }

    /// Records one value; NaN is dropped and counted as such.
    #[inline]
    pub fn observe(&self, value: f64) {
        if value.is_nan() {
            return self.held.set.shared.drop_nan();
        }
        match &self.buckets {
            Buckets::Classic { bounds, slot } => {
                let bucket = bounds.bucket_of(value);
                if !cells::try_observe(*slot, bucket, value) {
                    self.observe_slowly(*slot, bucket, value);
                }
            }
            Buckets::Exponential(series) => series.observe(value),
        }
    }

    #[cold]
    fn observe_slowly(&self, slot: Slot, bucket: usize, value: f64) {
        self.held.set.shared.cells.observe_slowly(slot, bucket, value);
    }

    /// Records one value and keeps `labels` as the exemplar of its bucket: a trace, say.
    ///
    /// The newest one of a bucket is shown in the OpenMetrics and protobuf formats. This takes a
    /// lock.
    ///
    /// # Errors
    /// [`ExemplarError`] if the labels cannot be shown; the value is recorded all the same.
    ///
    /// # Examples
    /// ```
    /// # use tripod_metrics::MetricsCollector;
    /// let metrics = MetricsCollector::new();
    /// let seconds = metrics.histogram("run_seconds", "Runs.").buckets([1.0]).register()?.plain();
    /// seconds.observe_with_exemplar(0.3, &[("trace_id", "4bf92f35")])?;
    /// let page = metrics.encode_openmetrics();
    /// assert!(page.contains("run_seconds_bucket{le=\"1.0\"} 1 # {trace_id=\"4bf92f35\"} 0.3 "));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn observe_with_exemplar(
        &self,
        value: f64,
        labels: &[(&str, &str)],
    ) -> Result<(), ExemplarError> {
        self.observe(value);
        if value.is_nan() {
            return Ok(());
        }
        let bucket = match &self.buckets {
            Buckets::Classic { bounds, .. } => bounds.bucket_of(value) as i32,
            Buckets::Exponential(series) => series.index_of(value.abs()),
        };
        keep_exemplar(&self.held, bucket, value, labels)
    }

    /// Returns buckets, count and sum as they were together at one moment.
    ///
    /// Exponential buckets are shown by powers of two; see
    /// [`exponential_snapshot`](Self::exponential_snapshot) for all of them.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        match &self.buckets {
            Buckets::Classic { bounds, slot } => read_classic(&self.held.set.shared, bounds, *slot),
            Buckets::Exponential(series) => {
                by_powers_of_two(&series.read(), series.scale().schema())
            }
        }
    }

    /// Returns the exponential buckets, or `None` if the histogram has classic ones.
    #[must_use]
    pub fn exponential_snapshot(&self) -> Option<ExponentialSnapshot> {
        match &self.buckets {
            Buckets::Classic { .. } => None,
            Buckets::Exponential(series) => Some(exponential_snapshot(series)),
        }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let HistogramSnapshot { count, sum, .. } = self.snapshot();
        f.debug_struct("Histogram").field("count", &count).field("sum", &sum).finish()
    }
}

/// Records a value in classic buckets.
#[inline]
pub(crate) fn observe_classic(shared: &Shared, bounds: &Bounds, slot: Slot, value: f64) {
    if value.is_nan() {
        return shared.drop_nan();
    }
    let bucket = bounds.bucket_of(value);
    if !cells::try_observe(slot, bucket, value) {
        shared.cells.observe_slowly(slot, bucket, value);
    }
}

/// Records a value in exponential buckets.
#[inline]
pub(crate) fn observe_exponential(shared: &Shared, series: &Exponential, value: f64) {
    if value.is_nan() {
        return shared.drop_nan();
    }
    series.observe(value);
}

/// Reads classic buckets.
pub(crate) fn read_classic(shared: &Shared, bounds: &Bounds, slot: Slot) -> HistogramSnapshot {
    let mut counts = vec![0; bounds.buckets()];
    let sum = shared.cells.read_block(slot, &mut counts);
    let mut count = 0_u64;
    let buckets = bounds.finite().iter().copied().chain([f64::INFINITY]).zip(counts);
    let cumulate = |(bound, in_bucket): (f64, u64)| {
        count = count.wrapping_add(in_bucket);
        (bound, count)
    };
    let buckets = buckets.map(cumulate).collect();
    HistogramSnapshot { buckets, count, sum, exemplars: Vec::new() }
}

/// Reads exponential buckets.
pub(crate) fn exponential_snapshot(series: &Exponential) -> ExponentialSnapshot {
    let Distribution { zero, positive, negative, sum } = series.read();
    let mut snapshot = ExponentialSnapshot {
        schema: series.scale().schema(),
        zero_threshold: crate::exponential::Scale::SMALLEST,
        zero_count: zero,
        positive,
        negative,
        count: 0,
        sum,
        exemplars: Vec::new(),
    };
    let buckets = snapshot.positive.iter().chain(&snapshot.negative);
    snapshot.count = buckets.map(|(_, count)| count).fold(zero, |all, own| all.wrapping_add(*own));
    snapshot
}

/// Classic buckets for formats that know no others: a bound at each power of two (and of minus two)
/// from the smallest to the largest value, so bounds are only ever added.
pub(crate) fn by_powers_of_two(distribution: &Distribution, schema: i8) -> HistogramSnapshot {
    let exponent = |index: i32| match u32::try_from(schema) {
        Ok(schema) => (index + (1 << schema) - 1) >> schema,
        Err(_) => index << schema.unsigned_abs(),
    };
    let mut buckets: Vec<(f64, u64)> = Vec::new();
    let mut count = 0;
    // The bucket of -2^e up to the next power is closed below, so its bound is the one nearer to 0,
    // which does not belong to it: up to there lie all values of it, and no other.
    for (index, own) in distribution.negative.iter().rev() {
        count += own;
        push(&mut buckets, -f64::from(exponent(*index) - 1).exp2(), count);
    }
    if distribution.zero > 0 || count > 0 {
        count += distribution.zero;
        push(&mut buckets, 0.0, count);
    }
    if let (Some((first, _)), Some((last, _))) =
        (distribution.positive.first(), distribution.positive.last())
    {
        let mut counts = distribution.positive.iter().peekable();
        for power in exponent(*first)..=exponent(*last) {
            while let Some((_, own)) = counts.next_if(|(index, _)| exponent(*index) <= power) {
                count += own;
            }
            // The outermost bucket also has what lies beyond its bound.
            if power < EXPONENT_MAX {
                push(&mut buckets, f64::from(power).exp2(), count);
            }
        }
    }
    push(&mut buckets, f64::INFINITY, count);
    HistogramSnapshot { buckets, count, sum: distribution.sum, exemplars: Vec::new() }
}

/// Adds a bucket, or raises the last one if it has the same bound.
fn push(buckets: &mut Vec<(f64, u64)>, bound: f64, count: u64) {
    match buckets.last_mut() {
        Some((last, in_last)) if *last == bound => *in_last = count,
        _ => buckets.push((bound, count)),
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::MetricsCollector;

    fn histogram(bounds: &[f64]) -> Histogram {
        let builder = MetricsCollector::new().histogram("size", "Size.").buckets(bounds);
        builder.register().unwrap().plain()
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
        let metrics = MetricsCollector::new();
        let histogram = metrics.histogram("size", "Size.").register().unwrap().plain();
        histogram.observe(f64::NAN);
        histogram.observe(2.0);
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.count, snapshot.sum), (1, 2.0));
        let page = metrics.encode_text();
        assert!(page.contains("tripod_metrics_observations_dropped_total 1\n"), "{page}");
    }

    #[test]
    fn an_infinite_value_is_counted_above_every_bound() {
        let histogram = histogram(&[1.0]);
        histogram.observe(f64::INFINITY);
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.buckets, [(1.0, 0), (f64::INFINITY, 1)]);
        assert_eq!(snapshot.sum, f64::INFINITY);
    }

    #[test]
    fn exponential_buckets_are_shown_by_powers_of_two() {
        let builder = MetricsCollector::new().histogram("size", "Size.").exponential(3);
        let histogram = builder.register().unwrap().plain();
        for value in [-3.0, -1.0, 0.0, 1.0, 1.5, 8.0, 8.25] {
            histogram.observe(value);
        }
        let snapshot = histogram.snapshot();
        let expected = [
            (-2.0, 1),
            (-0.5, 2),
            (0.0, 3),
            (1.0, 4),
            (2.0, 5),
            (4.0, 5),
            (8.0, 6),
            (16.0, 7),
            (f64::INFINITY, 7),
        ];
        assert_eq!(snapshot.buckets, expected);
        let native = histogram.exponential_snapshot().unwrap();
        assert_eq!((native.schema, native.zero_count, native.count), (3, 1, 7));
        assert_eq!(native.positive, [(0, 1), (5, 1), (24, 1), (25, 1)]);
        assert_eq!(native.negative, [(0, 1), (13, 1)]);
        assert_eq!(native.sum, 14.75);
    }
}
