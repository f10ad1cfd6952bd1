//! What holds while many threads use one collector.

use std::sync::Barrier;
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
