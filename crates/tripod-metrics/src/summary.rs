//! Summaries: quantiles of the recent past.

use std::time::Duration;

use crate::definition::Shape;
use crate::exponential::{Distribution, Scale};
use crate::series::{Held, WindowedSummary};
use crate::snapshot::SummarySnapshot;
use crate::sync::Arc;

/// The quantiles of a summary for which none are chosen.
pub const DEFAULT_QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// The windows of a summary for which none are chosen: 10 s, 1 min and 5 min.
pub const DEFAULT_WINDOWS: [Duration; 3] =
    [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(300)];

/// Answers quantiles of what was observed within sliding windows, and keeps lifetime sum and count.
///
/// A quantile is that of nearest rank, off by at most 1.93 % of its value, for absolute values from
/// 2^-64 to 2^64 (5e-20 to 1.8e19); smaller ones count as 0, and larger ones as 2^64. One recording
/// serves every window. A window holds the values of its own length and of up to two fifths more,
/// since it slides in steps; it slides when it is read, and at every tick of a
/// [`Sampler`](crate::Sampler), without which what came since the last reading counts as recent.
///
/// An observation costs what that of a [`Histogram`](crate::Histogram) does. NaN is dropped and
/// counted in `tripod_metrics_observations_dropped_total`.
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # use tripod_metrics::MetricsCollector;
/// let metrics = MetricsCollector::new();
/// let seconds = metrics.summary("run_seconds", "Runs.").register()?.plain();
/// for value in 1..=1000 {
///     seconds.observe(f64::from(value));
/// }
/// let p99 = seconds.quantile(0.99, Duration::from_secs(60)).expect("it has values");
/// assert!((p99 - 990.0).abs() < 0.02 * 990.0);
/// # Ok::<(), tripod_metrics::RegisterError>(())
/// ```
#[derive(Clone)]
pub struct Summary {
    series: Arc<WindowedSummary>,
    held: Held,
}

impl Summary {
    pub(crate) fn new(series: Arc<WindowedSummary>, held: Held) -> Self {
        Self { series, held }
    }

    /// Records one value; NaN is dropped and counted as such.
    #[inline]
    pub fn observe(&self, value: f64) {
        if value.is_nan() {
            return self.held.set.shared.drop_nan();
        }
        self.series.distribution.observe(value);
    }

    /// Returns a quantile (0 to 1) of the values within the shortest declared window that is at
    /// least `window` long, or the longest there is.
    ///
    /// `None` if nothing was observed within it, or `quantile` is out of range.
    #[must_use]
    pub fn quantile(&self, quantile: f64, window: Duration) -> Option<f64> {
        if !(0.0..=1.0).contains(&quantile) {
            return None;
        }
        let windows = windows(&self.held.set.definition.shape);
        let place = windows.partition_point(|own| *own < window).min(windows.len() - 1);
        let within = self.series.within(self.held.set.shared.now_ms(), place);
        let value = within.quantile(quantile, Scale::of_summaries());
        (within.count() > 0).then_some(value)
    }

    /// Returns the declared quantiles of every window, with lifetime sum and count.
    #[must_use]
    pub fn snapshot(&self) -> SummarySnapshot {
        let set = &self.held.set;
        summary_snapshot(&set.definition.shape, &self.series, set.shared.now_ms())
    }
}

impl std::fmt::Debug for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Distribution { sum, .. } = self.series.distribution.read();
        f.debug_struct("Summary").field("sum", &sum).finish_non_exhaustive()
    }
}

fn windows(shape: &Shape) -> &[Duration] {
    match shape {
        Shape::Summary(summary) => &summary.windows,
        _ => &DEFAULT_WINDOWS,
    }
}

/// Reads a summary as it is exported.
pub(crate) fn summary_snapshot(
    shape: &Shape,
    series: &WindowedSummary,
    now_ms: u64,
) -> SummarySnapshot {
    let (state, within) = series.read(now_ms);
    let scale = Scale::of_summaries();
    let quantiles = match shape {
        Shape::Summary(summary) => &summary.quantiles[..],
        _ => &[],
    };
    let of = |within: &Distribution| -> Vec<(f64, f64)> {
        quantiles.iter().map(|q| (*q, within.quantile(*q, scale))).collect()
    };
    let by_window: Vec<_> = windows(shape).iter().copied().zip(within.iter().map(of)).collect();
    let (window, quantiles) = by_window.last().cloned().unwrap_or_default();
    SummarySnapshot { window, quantiles, by_window, count: state.count(), sum: state.sum }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::MetricsCollector;

    #[test]
    fn a_snapshot_has_the_quantiles_of_every_window() {
        let seconds = Arc::new(AtomicU64::new(1000));
        let clock = Arc::clone(&seconds);
        let now = move || UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst));
        let metrics = MetricsCollector::builder().clock(now).build().unwrap();
        let windows = [10, 60].map(Duration::from_secs);
        let builder = metrics.summary("run_seconds", "Runs.").quantiles([0.5]).windows(windows);
        let summary = builder.register().unwrap().plain();
        (0..10).for_each(|_| summary.observe(1.0));
        for _ in 0..30 {
            seconds.fetch_add(1, Ordering::SeqCst);
            metrics.maintain();
        }
        (0..9).for_each(|_| summary.observe(100.0));
        let snapshot = summary.snapshot();
        let near = |found: f64, wanted: f64| (found - wanted).abs() < 0.02 * wanted;
        let [(short, of_short), (long, of_long)] = &snapshot.by_window[..] else {
            panic!("{snapshot:?}")
        };
        assert_eq!([*short, *long], windows);
        assert!(near(of_short[0].1, 100.0) && near(of_long[0].1, 1.0), "{snapshot:?}");
        assert_eq!((snapshot.window, &snapshot.quantiles), (windows[1], of_long));
        assert_eq!((snapshot.count, snapshot.sum), (19, 910.0));
    }
}
