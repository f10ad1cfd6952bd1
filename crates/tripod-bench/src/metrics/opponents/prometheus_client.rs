//! The crate `prometheus-client`: families keyed by a label type of the user's, behind a lock.

use std::hint::black_box;
use std::time::Instant;

use ::prometheus_client::encoding::text::encode;
use ::prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use ::prometheus_client::metrics::counter::Counter;
use ::prometheus_client::metrics::family::Family;
use ::prometheus_client::metrics::histogram::Histogram;
use ::prometheus_client::registry::Registry;

use crate::contender::{Contender, Side};
use crate::metrics::page::{Page, Utf8};
use crate::metrics::workload::{
    Around, BOUNDS, METHODS, PAGE_NAME, STATUSES, label_pairs, page_labels, sum_on_page,
};

const NAME: &str = "prometheus-client";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Method {
    Get,
    Post,
    Delete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Status {
    Ok,
    Created,
    Moved,
    NotFound,
    Failed,
    Unavailable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: Method,
    status: Status,
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TextRequest {
    method: String,
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PageLabels {
    path: String,
    pod: String,
}

pub(crate) fn counter() -> Contender {
    let counter = Counter::<u64>::default();
    let shared = counter.clone();
    let prepare = move || {
        let counter = shared.clone();
        move |_| _ = black_box(black_box(&counter).inc())
    };
    Contender::new(NAME, Side::Opponent, prepare).recording(move || counter.get())
}

pub(crate) fn typed_labels() -> Contender {
    let family = Family::<Request, Counter>::default();
    let shared = family.clone();
    let prepare = move || {
        let (family, requests) = (shared.clone(), Around::label_pairs(Request::of));
        move |number| _ = black_box(&family).get_or_create(black_box(requests.get(number))).inc()
    };
    Contender::new(NAME, Side::Opponent, prepare).recording(move || {
        let count = |(method, status)| family.get_or_create(&Request::of(method, status)).get();
        label_pairs().map(count).sum()
    })
}

/// Its families are asked with an owned label set, so the strings are copied for each increment.
pub(crate) fn text_labels() -> Contender {
    let family = Family::<TextRequest, Counter>::default();
    let request = |method: usize, status: usize| TextRequest {
        method: METHODS[method].to_owned(),
        status: STATUSES[status].to_owned(),
    };
    let shared = family.clone();
    let prepare = move || {
        let (family, requests) = (shared.clone(), Around::label_pairs(request));
        move |number| {
            let request = black_box(requests.get(number)).clone();
            black_box(&family).get_or_create(&request).inc();
        }
    };
    Contender::new(NAME, Side::Opponent, prepare).recording(move || {
        let count = |(method, status)| family.get_or_create(&request(method, status)).get();
        label_pairs().map(count).sum()
    })
}

/// A histogram and, since it does not tell its count, a reader of its page.
fn new_histogram() -> (Histogram, impl Fn() -> u64) {
    let histogram = Histogram::new(BOUNDS);
    let mut registry = Registry::default();
    registry.register("request_seconds", "Time", histogram.clone());
    let observed = move || {
        let mut page = String::new();
        encode(&mut page, &registry).expect("a string takes all that is written");
        sum_on_page(&page, "request_seconds_count")
    };
    (histogram, observed)
}

pub(crate) fn histogram() -> Contender {
    let (histogram, observed) = new_histogram();
    let prepare = move || {
        let (histogram, values) = (histogram.clone(), Around::observations());
        move |number| black_box(&histogram).observe(*values.get(number))
    };
    Contender::new(NAME, Side::Opponent, prepare).recording(observed)
}

/// It has no timer: the clock is read by hand.
pub(crate) fn timer_by_hand() -> Contender {
    let (histogram, observed) = new_histogram();
    let prepare = move || {
        let histogram = histogram.clone();
        move |_| {
            let begin = black_box(Instant::now());
            black_box(&histogram).observe(begin.elapsed().as_secs_f64());
        }
    };
    let name = "prometheus-client, by hand";
    Contender::new(name, Side::Beside, prepare).recording(observed)
}

pub(crate) fn page(series: usize, recorded: &[usize]) -> Page {
    let family = Family::<PageLabels, Counter>::default();
    let mut registry = Registry::default();
    registry.register(PAGE_NAME, "Requests", family.clone());
    let labels = |number: usize| {
        let [path, pod] = page_labels(number);
        PageLabels { path, pod }
    };
    for number in 0..series {
        family.get_or_create(&labels(number)).inc_by(number as u64);
    }
    let handles: Vec<_> =
        recorded.iter().map(|number| family.get_or_create_owned(&labels(*number))).collect();
    Page::new(NAME, Side::Opponent)
        .encoded_by(move |page| {
            encode(&mut Utf8(page), &registry).expect("a vector takes all that is written");
        })
        .recorded_by(handles, |counter: &Counter| _ = counter.inc())
}
