//! The layer that times spans, under a clock of the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::field::Empty;
use tracing::{info_span, subscriber::with_default};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry;
use tripod_metrics::MetricsCollector;
use tripod_metrics::spans::{SpanTimes, SpanTimesBuilder, VALUE_BYTES_MAX};

use crate::promtool;

/// A clock that stands still until it is moved.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn pass(&self, milliseconds: u64) {
        self.0.fetch_add(milliseconds, Ordering::Relaxed);
    }
}

fn times(collector: &MetricsCollector) -> (SpanTimesBuilder, Hand) {
    let hand = Hand::default();
    let clock = hand.clone();
    let read = move || Duration::from_millis(clock.0.load(Ordering::Relaxed));
    (SpanTimes::builder(collector).clock(read), hand)
}

/// The lines of the page that begin with `start`.
fn lines<'a>(page: &'a str, start: &str) -> Vec<&'a str> {
    page.lines().filter(|line| line.starts_with(start)).collect()
}

#[test]
fn busy_and_idle_make_up_the_whole() {
    let collector = MetricsCollector::new();
    let (builder, hand) = times(&collector);
    let layer = builder.buckets([0.5, 1.0]).register().unwrap();
    with_default(registry().with(layer), || {
        let span = info_span!("load");
        hand.pass(100);
        span.in_scope(|| {
            hand.pass(250);
            // Entered twice is busy once.
            span.in_scope(|| hand.pass(50));
        });
        hand.pass(500);
        span.in_scope(|| hand.pass(100));
        assert!(lines(&collector.encode_text(), "span_seconds").is_empty(), "it is still open");
    });
    let page = collector.encode_text();
    promtool::assert_clean(&page);
    let expected = [
        "span_seconds_bucket{span=\"load\",le=\"0.5\"} 0",
        "span_seconds_bucket{span=\"load\",le=\"1\"} 1",
        "span_seconds_bucket{span=\"load\",le=\"+Inf\"} 1",
        "span_seconds_sum{span=\"load\"} 1",
        "span_seconds_count{span=\"load\"} 1",
    ];
    assert_eq!(lines(&page, "span_seconds"), expected);
    assert_eq!(lines(&page, "span_busy"), ["span_busy_seconds_total{span=\"load\"} 0.4"]);
    assert_eq!(lines(&page, "span_idle"), ["span_idle_seconds_total{span=\"load\"} 0.6"]);
}

#[test]
fn a_span_that_two_threads_are_in_is_busy_once() {
    let collector = MetricsCollector::new();
    let (builder, hand) = times(&collector);
    let layer = builder.register().unwrap();
    with_default(registry().with(layer), || {
        let span = info_span!("shared");
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        let entered = span.enter();
        hand.pass(100);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                tracing::dispatcher::with_default(&dispatch, || {
                    span.in_scope(|| hand.pass(100));
                });
            });
        });
        hand.pass(100);
        drop(entered);
        hand.pass(200);
    });
    let page = collector.encode_text();
    assert_eq!(lines(&page, "span_busy"), ["span_busy_seconds_total{span=\"shared\"} 0.3"]);
    assert_eq!(lines(&page, "span_idle"), ["span_idle_seconds_total{span=\"shared\"} 0.2"]);
}

#[test]
fn only_chosen_fields_become_labels() {
    let collector = MetricsCollector::new();
    let (builder, _) = times(&collector);
    let layer = builder.prefix("rpc").field("outcome").field_as("http.status", "status");
    with_default(registry().with(layer.register().unwrap()), || {
        let span = info_span!("call", outcome = Empty, "http.status" = 200, user = 7);
        span.record("outcome", "ok");
        drop(span);
        drop(info_span!("call", outcome = ?Some("x"), user = 8));
        drop(info_span!("call", outcome = %'y', "http.status" = true));
        drop(info_span!("other"));
    });
    let page = collector.encode_text();
    let expected = [
        "rpc_seconds_count{span=\"call\",outcome=\"ok\",status=\"200\"} 1",
        "rpc_seconds_count{span=\"call\",outcome=\"Some(\\\"x\\\")\",status=\"\"} 1",
        "rpc_seconds_count{span=\"call\",outcome=\"y\",status=\"true\"} 1",
        "rpc_seconds_count{span=\"other\",outcome=\"\",status=\"\"} 1",
    ];
    assert_eq!(lines(&page, "rpc_seconds_count"), expected);
    assert!(!page.contains("user"), "{page}");
}

#[test]
fn series_and_values_are_bounded() {
    let collector = MetricsCollector::new();
    let (builder, _) = times(&collector);
    let layer = builder.field("path").max_series(5).register().unwrap();
    let long = "é".repeat(VALUE_BYTES_MAX);
    with_default(registry().with(layer), || {
        drop(info_span!("get", path = long));
        (0..100).for_each(|path| drop(info_span!("get", path)));
    });
    let page = collector.encode_text();
    let counts = lines(&page, "span_seconds_count");
    let cut = "é".repeat(VALUE_BYTES_MAX / 2);
    assert_eq!(counts[0], format!("span_seconds_count{{span=\"get\",path=\"{cut}\"}} 1"));
    assert_eq!(counts.len(), 6);
    assert_eq!(counts[5], "span_seconds_count{otel_metric_overflow=\"true\"} 96");
}

#[test]
fn a_field_can_be_the_exemplar() {
    let collector = MetricsCollector::new();
    let (builder, hand) = times(&collector);
    let layer = builder.buckets([1.0]).exemplar_field("trace_id").register().unwrap();
    with_default(registry().with(layer), || {
        let _span = info_span!("load", trace_id = "4bf92f35");
        hand.pass(250);
    });
    let page = collector.encode_openmetrics();
    let expected =
        "span_seconds_bucket{span=\"load\",le=\"1.0\"} 1 # {trace_id=\"4bf92f35\"} 0.25 ";
    assert!(page.contains(expected), "{page}");
}

#[test]
fn two_layers_of_one_subscriber_do_not_disturb_each_other() {
    let (one, two) = (MetricsCollector::new(), MetricsCollector::new());
    let (first, hand) = times(&one);
    let (second, _) = times(&two);
    let layers = first.register().unwrap().and_then(second.field("x").register().unwrap());
    with_default(registry().with(layers), || {
        let span = info_span!("load", x = 1);
        span.in_scope(|| hand.pass(1000));
    });
    assert!(one.encode_text().contains("span_busy_seconds_total{span=\"load\"} 1\n"));
    assert!(two.encode_text().contains("span_busy_seconds_total{span=\"load\",x=\"1\"} 0\n"));
}

#[test]
fn names_that_cannot_be_labels_are_refused() {
    let refused = |builder: SpanTimesBuilder| builder.register().unwrap_err().to_string();
    let collector = MetricsCollector::new();
    assert!(refused(times(&collector).0.field("http.status")).contains("http.status"));
    assert!(refused(times(&collector).0.exemplar_field("trace.id")).contains("trace.id"));
    assert!(refused(times(&collector).0.field("span")).contains("span"));
}
