//! The crate `tripod-metrics`, held to the bars.

use std::hint::black_box;
use std::thread;

use tripod_metrics::{Counter, MetricsCollector, label_enum, label_set};

use super::allocator;
use super::page::{Page, Utf8};
use super::workload::{
    Around, BOUNDS, METHODS, PAGE_LABELS, PAGE_NAME_TOTAL, STATUSES, label_pairs, page_labels,
};
use crate::contender::{Contender, Side};

const NAME: &str = "tripod";
const GOOD: &str = "a good description";

label_enum! {
    enum Method { Get => "GET", Post => "POST", Delete => "DELETE" }
}

label_enum! {
    enum Status {
        Ok => "200",
        Created => "201",
        Moved => "301",
        NotFound => "404",
        Failed => "500",
        Unavailable => "503",
    }
}

label_set! {
    struct Request { method: Method, status: Status }
}

impl Request {
    fn of(method: usize, status: usize) -> Self {
        use Status::{Created, Failed, Moved, NotFound, Ok, Unavailable};
        Self {
            method: [Method::Get, Method::Post, Method::Delete][method],
            status: [Ok, Created, Moved, NotFound, Failed, Unavailable][status],
        }
    }
}

pub(crate) fn counter() -> Contender {
    let metrics = MetricsCollector::new();
    let counter = metrics.counter("requests_total", "Requests.").register().expect(GOOD).plain();
    let shared = counter.clone();
    let prepare = move || {
        let counter = shared.clone();
        move |_| black_box(&counter).inc()
    };
    Contender::new(NAME, Side::Tripod, prepare).recording(move || counter.get())
}

pub(crate) fn typed_labels() -> Contender {
    let metrics = MetricsCollector::new();
    let family = metrics.counter("requests_total", "Requests.").labelled_by::<Request>();
    let family = family.register().expect(GOOD);
    let shared = family.clone();
    let prepare = move || {
        let (family, requests) = (shared.clone(), Around::label_pairs(Request::of));
        move |number| black_box(&family).get(black_box(requests.get(number))).inc()
    };
    Contender::new(NAME, Side::Tripod, prepare).recording(move || {
        let count = |(method, status)| family.get(&Request::of(method, status)).get();
        label_pairs().map(count).sum()
    })
}

pub(crate) fn text_labels() -> Contender {
    let metrics = MetricsCollector::new();
    let family = metrics.counter("requests_total", "Requests.").labels(["method", "status"]);
    let family = family.register().expect(GOOD);
    let shared = family.clone();
    let prepare = move || {
        let family = shared.clone();
        let pairs = Around::label_pairs(|method, status| {
            (METHODS[method].to_owned(), STATUSES[status].to_owned())
        });
        move |number| {
            let (method, status) = black_box(pairs.get(number));
            black_box(&family).inc(&[method, status]).expect("two values for two labels");
        }
    };
    Contender::new(NAME, Side::Tripod, prepare).recording(move || {
        let count = |(method, status): (usize, usize)| {
            let counter = family.with(&[METHODS[method], STATUSES[status]]);
            counter.expect("two values for two labels").get()
        };
        label_pairs().map(count).sum()
    })
}

pub(crate) fn histogram() -> Contender {
    let metrics = MetricsCollector::new();
    let family = metrics.histogram("request_seconds", "Time.").buckets(BOUNDS);
    let histogram = family.register().expect(GOOD).plain();
    let shared = histogram.clone();
    let prepare = move || {
        let (histogram, values) = (shared.clone(), Around::observations());
        move |number| black_box(&histogram).observe(*values.get(number))
    };
    Contender::new(NAME, Side::Tripod, prepare).recording(move || histogram.snapshot().count)
}

pub(crate) fn summary() -> Contender {
    let metrics = MetricsCollector::new();
    let summary = metrics.summary("request_seconds", "Time.").register().expect(GOOD).plain();
    let shared = summary.clone();
    let prepare = move || {
        let (summary, values) = (shared.clone(), Around::observations());
        move |number| black_box(&summary).observe(*values.get(number))
    };
    Contender::new(NAME, Side::Tripod, prepare).recording(move || summary.snapshot().count)
}

pub(crate) fn timer() -> Contender {
    let metrics = MetricsCollector::new();
    let family = metrics.timer("request_seconds", "Time.").buckets(BOUNDS);
    let timer = family.register().expect(GOOD).plain();
    let shared = timer.clone();
    let prepare = move || {
        let timer = shared.clone();
        move |_| drop(black_box(black_box(&timer).start()))
    };
    Contender::new(NAME, Side::Tripod, prepare)
        .recording(move || timer.completed().snapshot().count)
}

pub(crate) fn page(series: usize, recorded: &[usize]) -> Page {
    let metrics = MetricsCollector::new();
    let family = metrics.counter(PAGE_NAME_TOTAL, "Requests.").labels(PAGE_LABELS);
    let family = family.max_series(2 * series).register().expect(GOOD);
    let counter = |number: usize| {
        let [path, pod] = &page_labels(number);
        family.with(&[path, pod]).expect("two values for two labels")
    };
    for number in 0..series {
        counter(number).add(number as u64);
    }
    let handles: Vec<Counter> = recorded.iter().map(|number| counter(*number)).collect();
    Page::new(NAME, Side::Tripod)
        .encoded_by(move |page| {
            metrics.write_text(&mut Utf8(page)).expect("a vector takes all that is written");
        })
        .recorded_by(handles, Counter::inc)
}

/// Heap bytes per series of one more thread that increments each of so many.
pub(crate) fn further_thread_bytes(series: usize) -> f64 {
    let metrics = MetricsCollector::new();
    let family = metrics.counter(PAGE_NAME_TOTAL, "Requests.").labels(PAGE_LABELS);
    let family = family.max_series(2 * series).register().expect(GOOD);
    let counter = |number: usize| {
        let [path, pod] = &page_labels(number);
        family.with(&[path, pod]).expect("two values for two labels")
    };
    let counters: Vec<Counter> = (0..series).map(counter).collect();
    counters.iter().for_each(Counter::inc);
    let increment_all = || counters.iter().for_each(Counter::inc);
    let further = || allocator::counted(increment_all).1.net_bytes;
    let bytes = thread::scope(|scope| scope.spawn(further).join());
    bytes.expect("an increment does not panic") as f64 / series as f64
}
