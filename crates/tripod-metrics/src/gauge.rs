//! Gauges: numbers that go up and down.
//!
//! The one cell holds the bits of an `f64` and may be touched by any thread at any time. All
//! accesses are `Relaxed` and need no partner: the number stands alone and publishes no other
//! memory.

use crate::series::Held;
use crate::sync::{Arc, AtomicU64, Ordering};

/// Holds a number that goes up and down, an `f64`.
///
/// A handle is cheap to clone, and all clones share one number, which starts at 0. Any `f64` may be
/// set, also NaN and the infinities. [`set`](Self::set) is one atomic store; the other updates
/// retry when another thread gets in between, and lose nothing.
///
/// A number that somebody else already keeps is better read when it is exported: see
/// [`Family::observe`](crate::Family::observe).
///
/// # Examples
/// ```
/// # use tripod_metrics::MetricsCollector;
/// let metrics = MetricsCollector::new();
/// let open = metrics.gauge("connections_open", "Connections open now.").register()?.plain();
/// open.set(10.0);
/// open.sub(3.0);
/// assert_eq!(open.get(), 7.0);
/// # Ok::<(), tripod_metrics::RegisterError>(())
/// ```
#[derive(Clone)]
pub struct Gauge {
    bits: Arc<AtomicU64>,
    /// Keeps the series from being removed.
    _held: Held,
}

impl Gauge {
    pub(crate) fn new(bits: Arc<AtomicU64>, held: Held) -> Self {
        Self { bits, _held: held }
    }

    /// Sets the number to `value`.
    #[inline]
    pub fn set(&self, value: f64) {
        self.bits.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds `amount`, which may be negative.
    pub fn add(&self, amount: f64) {
        update(&self.bits, |value| value + amount);
    }

    /// Subtracts `amount`, which may be negative.
    pub fn sub(&self, amount: f64) {
        update(&self.bits, |value| value - amount);
    }

    /// Sets the number to `value` if that is larger: a high-water mark.
    ///
    /// NaN counts as smaller than anything: setting it changes nothing, and any number replaces it.
    ///
    /// # Examples
    /// ```
    /// # use tripod_metrics::MetricsCollector;
    /// let metrics = MetricsCollector::new();
    /// let peak = metrics.gauge("queue_peak", "Longest queue so far.").register()?.plain();
    /// for length in [3.0, 8.0, 5.0] {
    ///     peak.set_max(length);
    /// }
    /// assert_eq!(peak.get(), 8.0);
    /// # Ok::<(), tripod_metrics::RegisterError>(())
    /// ```
    pub fn set_max(&self, value: f64) {
        update(&self.bits, |current| current.max(value));
    }

    /// Returns the number as it is now.
    #[must_use]
    pub fn get(&self) -> f64 {
        f64::from_bits(self.bits.load(Ordering::Relaxed))
    }
}

/// Changes the number that `bits` hold; tries again where another thread got in between.
pub(crate) fn update(bits: &AtomicU64, change: impl Fn(f64) -> f64) {
    let mut current = bits.load(Ordering::Relaxed);
    loop {
        let changed = change(f64::from_bits(current)).to_bits();
        let swapped =
            bits.compare_exchange_weak(current, changed, Ordering::Relaxed, Ordering::Relaxed);
        match swapped {
            Ok(_) => return,
            Err(newer) => current = newer,
        }
    }
}

impl std::fmt::Debug for Gauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Gauge").field(&self.get()).finish()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use crate::MetricsCollector;

    fn gauge() -> super::Gauge {
        MetricsCollector::new().gauge("level", "Level.").register().unwrap().plain()
    }

    #[test]
    fn loses_nothing_when_many_threads_add_and_subtract() {
        let gauge = gauge();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        gauge.add(3.0);
                        gauge.sub(1.0);
                    }
                });
            }
        });
        assert_eq!(gauge.get(), 80_000.0);
    }

    #[test]
    fn keeps_the_largest_of_racing_marks() {
        let gauge = gauge();
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let gauge = &gauge;
                scope.spawn(move || {
                    (0..10_000).for_each(|i| gauge.set_max(f64::from(i * 4 + thread)));
                });
            }
        });
        assert_eq!(gauge.get(), 39_999.0);
    }

    #[test]
    fn a_mark_takes_nan_for_smaller_than_anything() {
        let gauge = gauge();
        gauge.set(-5.0);
        gauge.set_max(f64::NAN);
        assert_eq!(gauge.get(), -5.0);
        gauge.set(f64::NAN);
        gauge.set_max(-7.0);
        assert_eq!(gauge.get(), -7.0);
    }
}
