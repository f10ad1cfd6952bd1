//! The crate `prometheus`: vectors of metrics behind a lock, found by a hash of the values.

use std::hint::black_box;

use ::prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
};

use crate::contender::{Contender, Side};
use crate::metrics::page::Page;
use crate::metrics::workload::{
    Around, BOUNDS, METHODS, PAGE_LABELS, PAGE_NAME_TOTAL, STATUSES, label_pairs, page_labels,
};

const NAME: &str = "prometheus";

pub(crate) fn counter() -> Contender {
    let counter = IntCounter::new("requests_total", "Requests.").expect("a good name");
    let shared = counter.clone();
    let prepare = move || {
        let counter = shared.clone();
        move |_| black_box(&counter).inc()
    };
    Contender::new(NAME, Side::Opponent, prepare).recording(move || counter.get())
}

/// It knows no typed labels; static strings take the way of all others.
pub(crate) fn labels() -> Contender {
    let opts = Opts::new("requests_total", "Requests.");
    let counters = IntCounterVec::new(opts, &["method", "status"]).expect("good names");
    let shared = counters.clone();
    let prepare = move || {
        let counters = shared.clone();
        let pairs = Around::label_pairs(|method, status| {
            [METHODS[method].to_owned(), STATUSES[status].to_owned()]
        });
        move |number| {
            let [method, status] = black_box(pairs.get(number));
            black_box(&counters).with_label_values(&[method.as_str(), status.as_str()]).inc();
        }
    };
    Contender::new(NAME, Side::Opponent, prepare).recording(move || {
        let count = |(method, status): (usize, usize)| {
            counters.with_label_values(&[METHODS[method], STATUSES[status]]).get()
        };
        label_pairs().map(count).sum()
    })
}

fn new_histogram() -> Histogram {
    let opts = HistogramOpts::new("request_seconds", "Time.").buckets(BOUNDS.to_vec());
    Histogram::with_opts(opts).expect("good bounds")
}

pub(crate) fn histogram() -> Contender {
    let histogram = new_histogram();
    let shared = histogram.clone();
    let prepare = move || {
        let (histogram, values) = (shared.clone(), Around::observations());
        move |number| black_box(&histogram).observe(*values.get(number))
    };
    Contender::new(NAME, Side::Opponent, prepare).recording(move || histogram.get_sample_count())
}

pub(crate) fn timer() -> Contender {
    let histogram = new_histogram();
    let shared = histogram.clone();
    let prepare = move || {
        let histogram = shared.clone();
        move |_| drop(black_box(black_box(&histogram).start_timer()))
    };
    Contender::new(NAME, Side::Opponent, prepare).recording(move || histogram.get_sample_count())
}

pub(crate) fn page(series: usize, recorded: &[usize]) -> Page {
    let opts = Opts::new(PAGE_NAME_TOTAL, "Requests.");
    let counters = IntCounterVec::new(opts, &PAGE_LABELS).expect("good names");
    let registry = Registry::new();
    registry.register(Box::new(counters.clone())).expect("a new name");
    for number in 0..series {
        counters.with_label_values(&page_labels(number)).inc_by(number as u64);
    }
    let handles: Vec<_> =
        recorded.iter().map(|number| counters.with_label_values(&page_labels(*number))).collect();
    Page::new(NAME, Side::Opponent)
        .encoded_by(move |page| {
            let encoded = TextEncoder::new().encode(&registry.gather(), page);
            encoded.expect("a vector takes all that is written");
        })
        .recorded_by(handles, IntCounter::inc)
}
