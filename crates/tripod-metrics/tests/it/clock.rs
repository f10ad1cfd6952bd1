//! A clock that stands until it is moved, and a collector that goes by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tripod_metrics::MetricsCollector;

/// Where the clock stands first, in milliseconds since 1970.
const START_MS: u64 = 1_764_000_000_000;

/// A clock in the hand of a test.
#[derive(Debug, Clone)]
pub(crate) struct Clock(Arc<AtomicU64>);

impl Clock {
    /// Makes a collector with a clock of its own.
    pub(crate) fn with_collector() -> (Self, MetricsCollector) {
        let clock = Self(Arc::new(AtomicU64::new(START_MS)));
        let own = clock.clone();
        let metrics = MetricsCollector::builder().clock(move || own.now()).build();
        (clock, metrics.expect("there are no constant labels"))
    }

    pub(crate) fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    pub(crate) fn advance(&self, duration: Duration) {
        self.0.fetch_add(duration.as_millis() as u64, Ordering::SeqCst);
    }

    pub(crate) fn go_back(&self, duration: Duration) {
        self.0.fetch_sub(duration.as_millis() as u64, Ordering::SeqCst);
    }
}

/// Maintains the collector until `expected` series are removed.
///
/// Once is not always enough: a removal is put off while any thread of the process, and that may be
/// one of another test, is off the processor in the midst of a look-up.
#[track_caller]
pub(crate) fn remove(metrics: &MetricsCollector, expected: usize) {
    let mut removed = 0;
    for _ in 0..100_000 {
        removed += metrics.maintain();
        if removed >= expected {
            break;
        }
        std::thread::yield_now();
    }
    assert_eq!(removed, expected);
}
