//! A thread that records allocates nothing once it has touched a series.
#![allow(unsafe_code, reason = "the trait of allocators is unsafe; it is passed through")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tripod_metrics::{MetricsCollector, label_enum, label_set};

/// The system's allocator, which counts what each thread asks of it.
pub(crate) struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: everything is passed through to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as our caller promises.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// Asserts that `record` allocates nothing but in its first call.
#[track_caller]
fn check(what: &str, mut record: impl FnMut()) {
    record();
    let before = ALLOCATIONS.get();
    (0..1000).for_each(|_| record());
    assert_eq!(ALLOCATIONS.get() - before, 0, "allocations of {what}");
}

label_enum! { enum Method { Get => "GET", Post => "POST" } }
label_set! { struct Request { method: Method, is_cached: bool } }

#[test]
fn the_counting_allocator_counts() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(ALLOCATIONS.get() - before, 1);
}

#[test]
fn handles_allocate_nothing_after_the_first_touch() {
    let metrics = MetricsCollector::new();
    let counter = metrics.counter("a_total", "A.").register().unwrap().plain();
    check("a counter", || counter.inc());
    let float = metrics.float_counter("b_total", "B.").register().unwrap().plain();
    check("a counter of fractions", || float.add(0.5));
    let gauge = metrics.gauge("c", "C.").register().unwrap().plain();
    check("a gauge", || gauge.set_max(1.0));
    let classic = metrics.histogram("d", "D.").register().unwrap().plain();
    check("a histogram", || classic.observe(0.3));
    let exponential = metrics.histogram("e", "E.").exponential(3).register().unwrap().plain();
    check("an exponential histogram", || exponential.observe(0.3));
    check("its negative values", || exponential.observe(-0.3));
    check("its zeros", || exponential.observe(0.0));
    check("what is dropped", || exponential.observe(f64::NAN));
    let summary = metrics.summary("f", "F.").register().unwrap().plain();
    check("a summary", || summary.observe(0.3));
    let timer = metrics.timer("g_seconds", "G.").register().unwrap().plain();
    check("a timer", || drop(timer.start()));
}

#[test]
fn look_ups_allocate_nothing_after_the_first_touch() {
    let metrics = MetricsCollector::new();
    let values = &["GET", "/a/long/path/that/does/not/fit/in/a/few/bytes"];
    let counters = metrics.counter("a_total", "A.").labels(["x", "y"]).register().unwrap();
    check("a counter", || counters.inc(values).unwrap());
    let expiring = metrics.counter("b_total", "B.").labels(["x", "y"]);
    let expiring = expiring.idle_timeout(std::time::Duration::from_secs(9)).register().unwrap();
    check("a counter that may be removed", || expiring.inc(values).unwrap());
    let gauges = metrics.gauge("c", "C.").labels(["x", "y"]).register().unwrap();
    check("a gauge", || gauges.set(values, 1.0).unwrap());
    let histograms = metrics.histogram("d", "D.").labels(["x", "y"]).register().unwrap();
    check("a histogram", || histograms.observe(values, 0.3).unwrap());
    let summaries = metrics.summary("e", "E.").labels(["x", "y"]).register().unwrap();
    check("a summary", || summaries.observe(values, 0.3).unwrap());
    let typed = metrics.counter("f_total", "F.").labelled_by::<Request>().register().unwrap();
    check("a typed counter", || {
        typed.get(&Request { method: Method::Post, is_cached: true }).inc()
    });
}

/// A page costs some buffers, however many series it has.
#[test]
fn a_page_allocates_nothing_for_each_series() {
    let metrics = MetricsCollector::new();
    let counters = metrics.counter("a_total", "A.").labels(["x"]).max_series(50_000);
    let counters = counters.register().unwrap();
    let gauges = metrics.gauge("b", "B.").labels(["x"]).max_series(50_000).register().unwrap();
    let page = |series: usize| {
        for n in 0..series {
            counters.inc(&[&n.to_string()]).unwrap();
            gauges.set(&[&n.to_string()], 0.5).unwrap();
        }
        let before = ALLOCATIONS.get();
        drop(std::hint::black_box(metrics.encode_text()));
        ALLOCATIONS.get() - before
    };
    let (few, many) = (page(10), page(20_000));
    assert!(many < few + 40, "{few} allocations for 20 series, {many} for 40,000");
}
