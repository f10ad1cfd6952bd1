//! The crate `opentelemetry_sdk`, read through `opentelemetry-prometheus`.

use std::hint::black_box;

use ::opentelemetry::KeyValue;
use ::opentelemetry::metrics::{Meter, MeterProvider};
use ::prometheus::{Encoder, Registry, TextEncoder};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{Instrument, SdkMeterProvider, Stream};

use crate::contender::{Contender, Side};
use crate::metrics::page::Page;
use crate::metrics::workload::{
    Around, BOUNDS, METHODS, PAGE_LABELS, PAGE_NAME, STATUSES, page_labels, sum_on_page,
};

const NAME: &str = "opentelemetry_sdk";
/// With its experimental feature of bound instruments.
const NAME_BOUND: &str = "opentelemetry_sdk, bound";

/// A provider and the registry that it is read through.
struct Pipeline {
    provider: SdkMeterProvider,
    registry: Registry,
}

impl Pipeline {
    /// Takes as many series as `limit` for each instrument; its own limit is 2,000.
    fn new(limit: usize) -> Self {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .expect("a new registry has room");
        let view =
            move |_: &Instrument| Stream::builder().with_cardinality_limit(limit).build().ok();
        let provider = SdkMeterProvider::builder()
            .with_resource(Resource::builder_empty().build())
            .with_reader(exporter)
            .with_view(view)
            .build();
        Self { provider, registry }
    }

    fn meter(&self) -> Meter {
        self.provider.meter("bench")
    }

    fn encode(&self, page: &mut Vec<u8>) {
        let encoded = TextEncoder::new().encode(&self.registry.gather(), page);
        encoded.expect("a vector takes all that is written");
    }

    fn sum(&self, name: &str) -> u64 {
        let mut page = Vec::new();
        self.encode(&mut page);
        sum_on_page(&String::from_utf8(page).expect("a page is text"), name)
    }
}

pub(crate) fn counter() -> Contender {
    let pipeline = Pipeline::new(2_000);
    let counter = pipeline.meter().u64_counter("requests").build();
    let prepare = move || {
        let counter = counter.clone();
        move |_| black_box(&counter).add(1, &[])
    };
    Contender::new(NAME, Side::Opponent, prepare).recording(move || pipeline.sum("requests_total"))
}

pub(crate) fn bound_counter() -> Contender {
    let pipeline = Pipeline::new(2_000);
    let counter = pipeline.meter().u64_counter("requests").build().bind(&[]);
    let prepare = move || {
        let counter = counter.clone();
        move |_| black_box(&counter).add(1)
    };
    Contender::new(NAME_BOUND, Side::Opponent, prepare)
        .recording(move || pipeline.sum("requests_total"))
}

pub(crate) fn static_labels() -> Contender {
    let pipeline = Pipeline::new(2_000);
    let counter = pipeline.meter().u64_counter("requests").build();
    let prepare = move || {
        let counter = counter.clone();
        let pairs = Around::label_pairs(|method, status| (METHODS[method], STATUSES[status]));
        move |number| {
            let (method, status) = *black_box(pairs.get(number));
            let labels = [KeyValue::new("method", method), KeyValue::new("status", status)];
            black_box(&counter).add(1, &labels);
        }
    };
    Contender::new(NAME, Side::Opponent, prepare).recording(move || pipeline.sum("requests_total"))
}

/// Its attributes own their strings, so they are copied for each increment.
pub(crate) fn text_labels() -> Contender {
    let pipeline = Pipeline::new(2_000);
    let counter = pipeline.meter().u64_counter("requests").build();
    let prepare = move || {
        let counter = counter.clone();
        let pairs = Around::label_pairs(|method, status| {
            (METHODS[method].to_owned(), STATUSES[status].to_owned())
        });
        move |number| {
            let (method, status) = black_box(pairs.get(number)).clone();
            let labels = [KeyValue::new("method", method), KeyValue::new("status", status)];
            black_box(&counter).add(1, &labels);
        }
    };
    Contender::new(NAME, Side::Opponent, prepare).recording(move || pipeline.sum("requests_total"))
}

fn new_histogram(pipeline: &Pipeline) -> ::opentelemetry::metrics::Histogram<f64> {
    let meter = pipeline.meter();
    meter.f64_histogram("request_seconds").with_boundaries(BOUNDS.to_vec()).build()
}

pub(crate) fn histogram() -> Contender {
    let pipeline = Pipeline::new(2_000);
    let histogram = new_histogram(&pipeline);
    let prepare = move || {
        let (histogram, values) = (histogram.clone(), Around::observations());
        move |number| black_box(&histogram).record(*values.get(number), &[])
    };
    Contender::new(NAME, Side::Opponent, prepare)
        .recording(move || pipeline.sum("request_seconds_count"))
}

pub(crate) fn bound_histogram() -> Contender {
    let pipeline = Pipeline::new(2_000);
    let histogram = new_histogram(&pipeline).bind(&[]);
    let prepare = move || {
        let (histogram, values) = (histogram.clone(), Around::observations());
        move |number| black_box(&histogram).record(*values.get(number))
    };
    Contender::new(NAME_BOUND, Side::Opponent, prepare)
        .recording(move || pipeline.sum("request_seconds_count"))
}

pub(crate) fn page(series: usize, recorded: &[usize]) -> Page {
    let pipeline = Pipeline::new(2 * series);
    let counter = pipeline.meter().u64_counter(PAGE_NAME).build();
    let labels = |number: usize| {
        let [path, pod] = page_labels(number);
        [KeyValue::new(PAGE_LABELS[0], path), KeyValue::new(PAGE_LABELS[1], pod)]
    };
    for number in 0..series {
        counter.add(number as u64, &labels(number));
    }
    let handles: Vec<_> = recorded.iter().map(|number| counter.bind(&labels(*number))).collect();
    Page::new(NAME, Side::Opponent)
        .encoded_by(move |page| pipeline.encode(page))
        .recorded_by(handles, |counter| counter.add(1))
}
