//! Histograms are whole at every moment: 100,000 looks while three threads observe.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use tripod_metrics::snapshot::HistogramSnapshot;
use tripod_metrics::{Family, Histogram, MetricsCollector};

use crate::checker;

const WRITERS: usize = 3;
/// Looks at each of the three histograms through its handle.
const HANDLE_LOOKS: u64 = 32_000;
/// Looks at all of them through a page; each has all three.
const PAGE_LOOKS: u64 = 1_400;

struct Watched {
    metrics: MetricsCollector,
    classic: Histogram,
    exponential: Histogram,
    /// Observed by look-up only.
    looked_up: Family<Histogram>,
}

fn watched() -> Watched {
    let metrics = MetricsCollector::new();
    let classic = metrics.histogram("classic", "Classic.").buckets([0.5, 1.0, 2.0]);
    let classic = classic.register().unwrap().plain();
    let exponential = metrics.histogram("exponential", "Exponential.").exponential(3);
    let exponential = exponential.register().unwrap().plain();
    let looked_up = metrics.histogram("looked_up", "Looked up.").labels(["x"]).register().unwrap();
    Watched { metrics, classic, exponential, looked_up }
}

impl Watched {
    fn observe(&self) {
        self.classic.observe(1.0);
        self.exponential.observe(1.0);
        self.looked_up.observe(&["a"], 1.0).unwrap();
    }
}

/// Every value was 1, so count, sum, and all buckets from 1 on are the same number.
#[track_caller]
fn check_whole(snapshot: &HistogramSnapshot, last: &mut u64) {
    let HistogramSnapshot { buckets, count, sum, .. } = snapshot;
    assert_eq!(*sum, *count as f64, "{snapshot:?}");
    for (bound, in_bucket) in buckets {
        assert_eq!(*in_bucket, if *bound < 1.0 { 0 } else { *count }, "{snapshot:?}");
    }
    assert_eq!(buckets.last().map(|(bound, _)| *bound), Some(f64::INFINITY));
    assert!(count >= last, "{count} after {last}");
    *last = *count;
}

fn look_through_handles(watched: &Watched) {
    let looked_up = watched.looked_up.with(&["a"]).unwrap();
    let mut last = [0; 3];
    for _ in 0..HANDLE_LOOKS {
        for (place, histogram) in
            [&watched.classic, &watched.exponential, &looked_up].into_iter().enumerate()
        {
            check_whole(&histogram.snapshot(), &mut last[place]);
        }
    }
}

fn look_through_pages(watched: &Watched) {
    let mut last = [0; 3];
    for look in 0..PAGE_LOOKS {
        // The checker sees to the rest: monotone buckets, and +Inf the same as the count.
        let families = if look % 2 == 0 {
            checker::read(&watched.metrics.encode_text())
        } else {
            checker::read_openmetrics(&watched.metrics.encode_openmetrics())
        };
        for (family, last) in families.iter().zip(&mut last) {
            let only = |suffix: &str| {
                let name = format!("{}{suffix}", family.name);
                family.values(&name).first().map(|(_, value)| value.parse::<u64>().unwrap())
            };
            let (sum, count) = (only("_sum"), only("_count"));
            assert_eq!(sum, count, "{family:?}");
            assert!(count >= Some(*last), "{count:?} after {last}");
            *last = count.unwrap_or(0);
        }
    }
}

#[test]
fn no_histogram_is_torn_in_a_hundred_thousand_looks() {
    let watched = watched();
    watched.observe();
    let (stop, observed) = (AtomicBool::new(false), AtomicU64::new(1));
    thread::scope(|scope| {
        let write = || {
            while !stop.load(Ordering::Relaxed) {
                watched.observe();
                observed.fetch_add(1, Ordering::Relaxed);
            }
        };
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(write)).collect();
        let lookers = [
            scope.spawn(|| look_through_handles(&watched)),
            scope.spawn(|| look_through_pages(&watched)),
        ];
        let looked: Vec<_> = lookers.into_iter().map(|looker| looker.join()).collect();
        // Also if a look failed, or the writers would never end.
        stop.store(true, Ordering::Relaxed);
        looked.into_iter().for_each(|looked| looked.unwrap());
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
    let observed = observed.into_inner();
    assert!(observed > 1000, "{observed} observations are too few to show anything");
    for histogram in
        [&watched.classic, &watched.exponential, &watched.looked_up.with(&["a"]).unwrap()]
    {
        assert_eq!(histogram.snapshot().count, observed);
    }
}
