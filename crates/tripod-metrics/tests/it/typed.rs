//! Typed label sets and timers: every label set has its series, every end of a run is counted.

use std::collections::BTreeMap;
use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use tripod_metrics::{
    LabelSet, LabelValue, MetricsCollector, label_enum, label_set, label_strings,
};

use crate::checker;

label_enum! { enum Method { Get => "GET", Post => "POST", Put => "PUT \"it\"" } }
label_strings! { struct Route(at most 4); }
label_set! { struct Request { method: Method, route: Route, is_cached: bool } }

const METHODS: [Method; 3] = [Method::Get, Method::Post, Method::Put];

#[test]
fn every_label_set_has_a_series_of_its_own_whichever_thread_comes_first() {
    const THREADS: u64 = 8;
    let routes = ["/", "/a", "/b", "/one too many", "/and another"].map(Route::intern);
    let metrics = MetricsCollector::new();
    let family = metrics.counter("requests_total", "Requests.").labelled_by::<Request>();
    let family = family.register().unwrap();
    let sets: Vec<Request> = METHODS
        .iter()
        .flat_map(|method| routes.iter().map(move |route| (*method, *route)))
        .flat_map(|(method, route)| {
            [false, true].map(|is_cached| Request { method, route, is_cached })
        })
        .collect();
    let start = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                (1..).zip(&sets).for_each(|(amount, set)| family.get(set).add(amount));
            });
        }
    });
    let mut expected = BTreeMap::new();
    for (amount, set) in (1..).zip(&sets) {
        assert!(set.index() < Request::CARDINALITY);
        *expected.entry(set.texts()).or_insert(0_u64) += THREADS * amount;
    }
    // Two routes share the place of all others.
    assert_eq!(expected.len(), 3 * 4 * 2);
    assert_eq!(routes[3].text(), "other");
    let page = checker::read(&metrics.encode_text());
    let found: BTreeMap<Vec<&str>, u64> = page[0]
        .values("requests_total")
        .into_iter()
        .map(|(labels, value)| (labels, value.parse().unwrap()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn typed_and_dynamic_families_of_one_description_share_their_series() {
    let metrics = MetricsCollector::new();
    let typed = metrics.counter("runs_total", "Runs.").labelled_by::<Request>().register().unwrap();
    let labels = ["method", "route", "is_cached"];
    let dynamic = metrics.counter("runs_total", "Runs.").labels(labels).register().unwrap();
    let request = Request { method: Method::Put, route: Route::intern("/"), is_cached: true };
    typed.get(&request).add(2);
    dynamic.inc(&["PUT \"it\"", "/", "true"]).unwrap();
    assert_eq!(typed.get(&request).get(), 3);
}

/// Polls a future once.
fn poll<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_timer_tells_what_ended_from_what_was_given_up() {
    let metrics = MetricsCollector::new();
    let timer = metrics.timer("run_seconds", "Runs.").labels(["x"]).register().unwrap();
    let timer = timer.with(&["a"]).unwrap();
    let counts = || (timer.completed().snapshot().count, timer.cancelled().snapshot().count);
    assert!(timer.start().stop() < Duration::from_secs(60));
    drop(timer.start());
    assert_eq!(timer.time(|| 7), 7);
    timer.record(Duration::from_millis(3));
    assert_eq!(poll(timer.timed(ready(8))), Poll::Ready(8));
    assert_eq!(counts(), (5, 0));
    timer.start().discard();
    drop(timer.timed(ready(())));
    assert_eq!(counts(), (5, 0), "discarded, and never polled");
    assert_eq!(poll(timer.timed(pending::<()>())), Poll::Pending);
    let panicking = catch_unwind(AssertUnwindSafe(|| timer.time(|| panic!("as intended"))));
    assert!(panicking.is_err());
    let panicking = catch_unwind(AssertUnwindSafe(|| {
        let _running = timer.start();
        panic!("as intended")
    }));
    assert!(panicking.is_err());
    assert_eq!(counts(), (5, 3));
    let page = checker::read_openmetrics(&metrics.encode_openmetrics());
    assert_eq!(page[0].unit.as_deref(), Some("seconds"));
    let ends = [(vec!["a", "completed"], "5"), (vec!["a", "cancelled"], "3")];
    assert_eq!(page[0].values("run_seconds_count"), ends);
}
