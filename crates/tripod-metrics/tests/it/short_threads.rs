//! What threads that come and go recorded stays, and what they took is used again.

use std::sync::Barrier;
use std::thread;

use tripod_metrics::MetricsCollector;

const THREADS: u64 = 20_000;
/// Threads that run at once.
const AT_ONCE: u64 = 8;
const EACH: u64 = 100;

/// Resident memory of the process.
pub(crate) fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap() * 4096
}

#[test]
fn nothing_is_lost_over_twenty_thousand_short_threads_and_memory_stays() {
    let metrics = MetricsCollector::new();
    let counter = metrics.counter("jobs_total", "Jobs.").register().unwrap().plain();
    let float = metrics.float_counter("work_total", "Work.").register().unwrap().plain();
    let histogram = metrics.histogram("size", "Size.").register().unwrap().plain();
    let family = metrics.counter("by_total", "By.").labels(["x"]).register().unwrap();
    let mut before = 0;
    let mut last = 0.0;
    for round in 0..THREADS / AT_ONCE {
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        counter.inc();
                        float.add(0.1);
                        histogram.observe(0.25);
                        family.inc(&["a"]).unwrap();
                    }
                });
            }
        });
        let total = float.get();
        assert!(total > last, "{total} after {last}");
        last = total;
        if round == 100 {
            before = resident_bytes();
        }
    }
    let total = THREADS * EACH;
    assert_eq!(counter.get(), total);
    assert_eq!(family.with(&["a"]).unwrap().get(), total);
    let snapshot = histogram.snapshot();
    assert_eq!((snapshot.count, snapshot.sum), (total, 0.25 * total as f64));
    let expected = 0.1 * total as f64;
    assert!((float.get() - expected).abs() < 1e-9 * expected, "{} of {expected}", float.get());
    // A chunk for each thread would be 80 MB. Other tests run beside this one, hence the margin.
    let grown = resident_bytes().saturating_sub(before);
    println!("{} KiB more than after 800 threads", grown >> 10);
    assert!(grown < 60 << 20, "{grown} bytes more");
}

#[test]
fn what_a_living_thread_recorded_is_there_at_once() {
    let metrics = MetricsCollector::new();
    let counter = metrics.counter("jobs_total", "Jobs.").register().unwrap().plain();
    let (recorded, seen) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            counter.add(3);
            recorded.wait();
            seen.wait();
        });
        recorded.wait();
        let page = metrics.encode_text();
        seen.wait();
        assert!(page.contains("jobs_total 3\n"), "{page}");
    });
}

#[test]
fn totals_of_fractions_never_fall_while_threads_end() {
    let metrics = MetricsCollector::new();
    let work = metrics.float_counter("work_total", "Work.").register().unwrap().plain();
    let sizes = metrics.histogram("size", "Size.").buckets([1.0]).register().unwrap().plain();
    // Added up in another order, 0.1, 0.2 and 0.3 are one bit less. Each ends when it is told to.
    for order in [[0, 1, 2], [1, 2, 0], [2, 0, 1], [1, 0, 2], [0, 2, 1], [2, 1, 0]] {
        thread::scope(|scope| {
            let threads = [0.1, 0.2, 0.3].map(|amount| {
                let (go, gone) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
                let (work, sizes) = (&work, &sizes);
                let thread = scope.spawn(move || {
                    work.add(amount);
                    sizes.observe(amount);
                    gone.0.send(()).unwrap();
                    let _: Result<(), _> = go.1.recv();
                });
                gone.1.recv().unwrap();
                (go.0, thread)
            });
            let mut threads = threads.map(Some);
            let mut last = (work.get(), sizes.snapshot().sum);
            for place in order {
                let (go, thread) = threads[place].take().unwrap();
                drop(go);
                thread.join().unwrap();
                let now = (work.get(), sizes.snapshot().sum);
                assert!(now.0 >= last.0 && now.1 >= last.1, "{now:?} after {last:?}");
                last = now;
            }
        });
    }
}
