//! What holds while many threads use one collector.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tripod_metrics::MetricsCollector;

use crate::checker;

const THREADS: usize = 8;

#[test]
fn threads_that_race_on_new_series_share_them_and_lose_nothing() {
    const SERIES: usize = 1_000;
    let metrics = MetricsCollector::new();
    let family = metrics.counter("raced_total", "Raced.").labels(["a", "b"]).register().unwrap();
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for series in 0..SERIES {
                    // All threads arrive at each new label set together.
                    start.wait();
                    family.with(&["new", &series.to_string()]).unwrap().inc();
                }
            });
        }
    });
    let page = checker::read(&metrics.encode_text());
    let values = page[0].values("raced_total");
    assert_eq!(values.len(), SERIES);
    assert!(values.iter().all(|(_, value)| *value == "8"), "{values:?}");
}

#[test]
fn threads_that_race_to_register_a_name_get_one_family() {
    for _ in 0..200 {
        let metrics = MetricsCollector::new();
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    metrics.counter("raced_total", "Raced.").register().unwrap().plain().inc();
                });
            }
        });
        assert_eq!(checker::read(&metrics.encode_text())[0].values("raced_total")[0].1, "8");
    }
}

/// Ends the writers also when an assertion of the reader fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_histogram_is_never_torn_while_threads_observe() {
    const WRITERS: usize = 3;
    const CHANGED_SNAPSHOTS: u64 = 2_000;
    let metrics = MetricsCollector::new();
    let family = metrics.histogram("watched", "Watched.").buckets([0.5, 1.0, 2.0]);
    let histogram = family.register().unwrap().plain();
    let stop = AtomicBool::new(false);
    let observed: u64 = thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        let write = || {
            let mut observed = 0;
            while !stop.load(Ordering::SeqCst) {
                histogram.observe(1.0);
                observed += 1;
            }
            observed
        };
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(write)).collect();
        let (mut last, mut changed) = (0, 0);
        while changed < CHANGED_SNAPSHOTS {
            let snapshot = histogram.snapshot();
            let count = snapshot.count;
            assert_eq!(snapshot.sum, count as f64);
            let expected = [(0.5, 0), (1.0, count), (2.0, count), (f64::INFINITY, count)];
            assert_eq!(snapshot.buckets, expected);
            assert!(count >= last, "{count} after {last}");
            if count == last {
                thread::yield_now();
                continue;
            }
            (last, changed) = (count, changed + 1);
            // Reading a page back is slow, so it is done only now and then.
            if changed % 50 == 0 {
                let page = checker::read(&metrics.encode_text());
                assert_eq!(page[0].values("watched_sum")[0], page[0].values("watched_count")[0]);
            }
        }
        stop.store(true, Ordering::SeqCst);
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert_eq!(histogram.snapshot().count, observed);
}

#[test]
fn pages_made_while_series_appear_are_whole_and_counters_never_fall() {
    let metrics = MetricsCollector::new();
    let family = metrics.counter("grown_total", "Grown.").labels(["n"]).register().unwrap();
    thread::scope(|scope| {
        let grow = || {
            for n in 0..2_000_u64 {
                family.with(&[&(n % 500).to_string()]).unwrap().add(n);
            }
        };
        let growing = [scope.spawn(grow), scope.spawn(grow)];
        let mut last = 0;
        loop {
            let finished = growing.iter().all(|thread| thread.is_finished());
            let page = checker::read(&metrics.encode_text());
            let values = page.first().map_or(Vec::new(), |family| family.values("grown_total"));
            let total = values.iter().map(|(_, value)| value.parse::<u64>().unwrap()).sum();
            assert!(total >= last, "{total} after {last}");
            last = total;
            if finished {
                break;
            }
        }
        assert_eq!(last, 2 * (0..2_000).sum::<u64>());
    });
}
