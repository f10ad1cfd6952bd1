//! The crate `measured`: label values become numbers, series stand in a table or a sharded map.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ::measured::label::StaticLabelSet;
use ::measured::metric::MetricFamilyEncoding;
use ::measured::metric::histogram::Thresholds;
use ::measured::metric::name::MetricName;
use ::measured::text::TextEncoder;
use ::measured::{Counter, CounterVec, FixedCardinalityLabel, Histogram, LabelGroup};
use lasso::ThreadedRodeo;

use crate::contender::{Contender, Side};
use crate::metrics::page::Page;
use crate::metrics::workload::{
    Around, BOUNDS, METHODS, PAGE_NAME_TOTAL, STATUSES, label_pairs, page_labels, sum_on_page,
};

const NAME: &str = "measured";

#[derive(Debug, Clone, Copy, FixedCardinalityLabel)]
enum Method {
    Get,
    Post,
    Delete,
}

#[derive(Debug, Clone, Copy, FixedCardinalityLabel)]
enum Status {
    Ok,
    Created,
    Moved,
    NotFound,
    Failed,
    Unavailable,
}

#[derive(Debug, Clone, Copy, LabelGroup)]
#[label(set = RequestSet)]
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

#[derive(Debug, Clone, Copy, LabelGroup)]
#[label(set = TextRequestSet)]
struct TextRequest<'a> {
    #[label(dynamic_with = ThreadedRodeo, default)]
    method: &'a str,
    #[label(dynamic_with = ThreadedRodeo, default)]
    status: &'a str,
}

#[derive(Debug, Clone, Copy, LabelGroup)]
#[label(set = PageSet)]
struct PageLabels<'a> {
    #[label(dynamic_with = ThreadedRodeo, default)]
    path: &'a str,
    #[label(dynamic_with = ThreadedRodeo, default)]
    pod: &'a str,
}

pub(crate) fn counter() -> Contender {
    let counter = Arc::new(Counter::new());
    let shared = Arc::clone(&counter);
    let prepare = move || {
        let counter = Arc::clone(&shared);
        move |_| black_box(&*counter).inc()
    };
    Contender::new(NAME, Side::Opponent, prepare)
        .recording(move || counter.get_metric().count.load(Ordering::SeqCst))
}

pub(crate) fn typed_labels() -> Contender {
    let set = RequestSet { method: StaticLabelSet::new(), status: StaticLabelSet::new() };
    let counters = Arc::new(CounterVec::<RequestSet>::with_label_set(set));
    let shared = Arc::clone(&counters);
    let prepare = move || {
        let (counters, requests) = (Arc::clone(&shared), Around::label_pairs(Request::of));
        move |number| black_box(&*counters).inc(*black_box(requests.get(number)))
    };
    Contender::new(NAME, Side::Opponent, prepare).recording(move || {
        let count = |(method, status)| {
            let id = counters.with_labels(Request::of(method, status));
            counters.get_metric(id).count.load(Ordering::SeqCst)
        };
        label_pairs().map(count).sum()
    })
}

pub(crate) fn text_labels() -> Contender {
    let set = TextRequestSet { method: ThreadedRodeo::default(), status: ThreadedRodeo::default() };
    let counters = Arc::new(CounterVec::<TextRequestSet>::with_label_set(set));
    let shared = Arc::clone(&counters);
    let prepare = move || {
        let counters = Arc::clone(&shared);
        let pairs = Around::label_pairs(|method, status| {
            (METHODS[method].to_owned(), STATUSES[status].to_owned())
        });
        move |number| {
            let (method, status) = black_box(pairs.get(number));
            black_box(&*counters).inc(TextRequest { method, status });
        }
    };
    Contender::new(NAME, Side::Opponent, prepare).recording(move || {
        let count = |(method, status): (usize, usize)| {
            let labels = TextRequest { method: METHODS[method], status: STATUSES[status] };
            counters.get_metric(counters.with_labels(labels)).count.load(Ordering::SeqCst)
        };
        label_pairs().map(count).sum()
    })
}

type Seconds = Histogram<{ BOUNDS.len() }>;

fn new_histogram() -> Arc<Seconds> {
    Arc::new(Histogram::with_metadata(Thresholds::with_buckets(BOUNDS)))
}

fn observed(histogram: &Seconds) -> u64 {
    let mut encoder = TextEncoder::new(Vec::new());
    let name = MetricName::from_str("request_seconds");
    histogram.collect_family_into(name, &mut encoder).expect("a vector takes all");
    let page = String::from_utf8(encoder.writer).expect("names and numbers are text");
    sum_on_page(&page, "request_seconds_count")
}

pub(crate) fn histogram() -> Contender {
    let histogram = new_histogram();
    let shared = Arc::clone(&histogram);
    let prepare = move || {
        let (histogram, values) = (Arc::clone(&shared), Around::observations());
        move |number| black_box(&*histogram).observe(*values.get(number))
    };
    Contender::new(NAME, Side::Opponent, prepare).recording(move || observed(&histogram))
}

pub(crate) fn timer() -> Contender {
    let histogram = new_histogram();
    let shared = Arc::clone(&histogram);
    let prepare = move || {
        let histogram = Arc::clone(&shared);
        move |_| drop(black_box(black_box(&*histogram).start_timer()))
    };
    Contender::new(NAME, Side::Opponent, prepare).recording(move || observed(&histogram))
}

/// `sparse`, as its documentation has it for many series.
pub(crate) fn page(series: usize, recorded: &[usize]) -> Page {
    let set = PageSet { path: ThreadedRodeo::default(), pod: ThreadedRodeo::default() };
    let counters = Arc::new(CounterVec::<PageSet>::sparse_with_label_set(set));
    for number in 0..series {
        let [path, pod] = &page_labels(number);
        counters.inc_by(PageLabels { path, pod }, number as u64);
    }
    let ids: Vec<_> = recorded
        .iter()
        .map(|number| {
            let [path, pod] = &page_labels(*number);
            counters.with_labels(PageLabels { path, pod })
        })
        .collect();
    let shared = Arc::clone(&counters);
    Page::new(NAME, Side::Opponent)
        .encoded_by(move |page| {
            let mut encoder = TextEncoder::new(page);
            let name = MetricName::from_str(PAGE_NAME_TOTAL);
            counters.collect_family_into(name, &mut encoder).expect("a vector takes all");
        })
        .recorded_by(ids, move |id| shared.get_metric(*id).inc())
}
