//! The crates `metrics` and `metrics-exporter-prometheus`: a facade, and a recorder behind it.
//!
//! Look-ups go through a recorder that is installed for the whole process, as programs do it.

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::Instant;

use ::metrics::{counter, histogram, set_global_recorder, with_local_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::contender::{Contender, Side};
use crate::metrics::page::Page;
use crate::metrics::workload::{
    Around, BOUNDS, METHODS, PAGE_NAME_TOTAL, STATUSES, page_labels, sum_on_page,
};

const NAME: &str = "metrics";

/// The recorder of this process: buckets for the names that end in `_seconds`, quantiles for others.
fn recorder() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let seconds = Matcher::Suffix("_seconds".to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(seconds, &BOUNDS);
        let recorder = builder.expect("there are bounds").build_recorder();
        let handle = recorder.handle();
        assert!(set_global_recorder(recorder).is_ok(), "no other recorder was installed");
        handle
    })
}

fn recording(name: &'static str) -> impl Fn() -> u64 {
    || sum_on_page(&recorder().render(), name)
}

pub(crate) fn counter() -> Contender {
    recorder();
    let prepare = || {
        let counter = counter!("resolved_total");
        move |_| black_box(&counter).increment(1)
    };
    Contender::new(NAME, Side::Opponent, prepare).recording(recording("resolved_total"))
}

/// Static strings are as typed as its labels get.
pub(crate) fn static_labels() -> Contender {
    recorder();
    let prepare = || {
        let pairs = Around::label_pairs(|method, status| (METHODS[method], STATUSES[status]));
        move |number| {
            let (method, status) = *black_box(pairs.get(number));
            counter!("typed_total", "method" => method, "status" => status).increment(1);
        }
    };
    Contender::new(NAME, Side::Opponent, prepare).recording(recording("typed_total"))
}

/// Its keys own their strings, so they are copied for each increment.
pub(crate) fn text_labels() -> Contender {
    recorder();
    let prepare = || {
        let pairs = Around::label_pairs(|method, status| {
            (METHODS[method].to_owned(), STATUSES[status].to_owned())
        });
        move |number| {
            let (method, status) = black_box(pairs.get(number)).clone();
            counter!("text_total", "method" => method, "status" => status).increment(1);
        }
    };
    Contender::new(NAME, Side::Opponent, prepare).recording(recording("text_total"))
}

fn observing(name: &'static str, counted: &'static str) -> Contender {
    recorder();
    let prepare = move || {
        let (histogram, values) = (histogram!(name), Around::observations());
        move |number| black_box(&histogram).record(*values.get(number))
    };
    Contender::new(NAME, Side::Opponent, prepare)
        .drained_by(|| recorder().run_upkeep())
        .recording(recording(counted))
}

pub(crate) fn histogram() -> Contender {
    observing("request_seconds", "request_seconds_count")
}

pub(crate) fn summary() -> Contender {
    observing("request_quantiles", "request_quantiles_count")
}

/// It has no timer: the clock is read by hand.
pub(crate) fn timer_by_hand() -> Contender {
    recorder();
    let prepare = || {
        let histogram = histogram!("timed_seconds");
        move |_| {
            let begin = black_box(Instant::now());
            black_box(&histogram).record(begin.elapsed());
        }
    };
    Contender::new("metrics, by hand", Side::Beside, prepare)
        .drained_by(|| recorder().run_upkeep())
        .recording(recording("timed_seconds_count"))
}

pub(crate) fn page(series: usize, recorded: &[usize]) -> Page {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let counter = |number: usize| {
        let [path, pod] = page_labels(number);
        counter!(PAGE_NAME_TOTAL, "path" => path, "pod" => pod)
    };
    let handles = with_local_recorder(&recorder, || {
        (0..series).for_each(|number| counter(number).increment(number as u64));
        recorded.iter().map(|number| counter(*number)).collect::<Vec<_>>()
    });
    Page::new(NAME, Side::Opponent)
        .encoded_by(move |page| {
            handle.render_to_write(page).expect("a vector takes all that is written");
        })
        .recorded_by(handles, |counter| counter.increment(1))
}
