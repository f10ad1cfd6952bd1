//! The numbers of tokio runtimes.

use std::sync::Arc;

use tokio::runtime::Builder;
use tokio::sync::{Barrier, Notify};
use tripod_metrics::MetricsCollector;
use tripod_metrics::runtime::RuntimeMetrics;

use crate::promtool;

/// The value of the only line that begins with `start`.
fn value(page: &str, start: &str) -> f64 {
    let mut found = page.lines().filter_map(|line| line.strip_prefix(start));
    let value = found.next().unwrap_or_else(|| panic!("no {start} in {page}"));
    assert_eq!(found.next(), None, "{start} twice in {page}");
    value.trim().parse().expect("a number")
}

/// Waits until the only line that begins with `start` has a value that is right.
///
/// A runtime counts some things only after whoever waited for them was told, so the moment that one
/// sees is a matter of luck.
fn await_value(collector: &MetricsCollector, start: &str, is_right: impl Fn(f64) -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !is_right(value(&collector.encode_text(), start)) {
        assert!(std::time::Instant::now() < deadline, "{}", collector.encode_text());
        std::thread::yield_now();
    }
}

#[test]
fn tasks_and_workers_of_each_runtime_are_shown() {
    let collector = MetricsCollector::new();
    let wide = Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let narrow = Builder::new_current_thread().build().unwrap();
    let shown = RuntimeMetrics::register(&collector, "wide", wide.handle()).unwrap();
    let _shown = RuntimeMetrics::register(&collector, "narrow", narrow.handle()).unwrap();

    // Three tasks that are there for as long as nobody notifies them.
    let (started, end) = (Arc::new(Barrier::new(4)), Arc::new(Notify::new()));
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let (started, end) = (Arc::clone(&started), Arc::clone(&end));
            wide.spawn(async move {
                let ended = end.notified();
                started.wait().await;
                ended.await;
            })
        })
        .collect();
    wide.block_on(started.wait());
    let page = collector.encode_text();
    promtool::assert_clean(&page);
    assert_eq!(value(&page, "tokio_workers{runtime=\"wide\"}"), 2.0);
    assert_eq!(value(&page, "tokio_workers{runtime=\"narrow\"}"), 1.0);
    assert_eq!(value(&page, "tokio_tasks_alive{runtime=\"wide\"}"), 3.0);
    assert_eq!(value(&page, "tokio_tasks_alive{runtime=\"narrow\"}"), 0.0);

    end.notify_waiters();
    wide.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    // A task that never waits: none of it goes by parked.
    narrow.spawn(async {});
    assert_eq!(
        value(&collector.encode_text(), "tokio_global_queue_length{runtime=\"narrow\"}"),
        1.0
    );
    await_value(&collector, "tokio_tasks_alive{runtime=\"wide\"}", |alive| alive == 0.0);
    // With nothing left to do, each of them parks in the end.
    for worker in 0..2 {
        let start = format!("tokio_worker_parks_total{{runtime=\"wide\",worker=\"{worker}\"}}");
        await_value(&collector, &start, |parks| parks >= 1.0);
    }

    drop(shown);
    let page = collector.encode_text();
    assert!(!page.contains("wide") && page.contains("narrow"), "{page}");
}

#[test]
fn busy_time_is_that_of_the_task() {
    let collector = MetricsCollector::new();
    let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let _shown = RuntimeMetrics::register(&collector, "one", runtime.handle()).unwrap();
    let busy = std::time::Duration::from_millis(20);
    let work = move || {
        let started = std::time::Instant::now();
        while started.elapsed() < busy {
            std::hint::spin_loop();
        }
    };
    runtime.block_on(async { tokio::spawn(async move { work() }).await }).unwrap();
    // The worker adds up its time when it parks, soon after.
    let start = "tokio_worker_busy_seconds_total{runtime=\"one\",worker=\"0\"}";
    await_value(&collector, start, |seconds| seconds >= busy.as_secs_f64());
}

#[test]
fn other_families_of_these_names_are_an_error() {
    let collector = MetricsCollector::new();
    collector.gauge("tokio_workers", "Something else.").register().unwrap();
    let runtime = Builder::new_current_thread().build().unwrap();
    let refused = RuntimeMetrics::register(&collector, "main", runtime.handle());
    assert!(refused.unwrap_err().to_string().contains("tokio_workers"));
}
