//! The Prometheus protobuf exposition: `io.prometheus.client.MetricFamily` messages, each with its
//! length before it (<https://github.com/prometheus/client_model>).
//!
//! It is the only page that carries native histograms: the exponential ones go out with their schema,
//! at most [`NATIVE_BUCKETS_MAX`] buckets each. What it cannot carry: a counter is a double here, so
//! above 2^53 it is rounded (the text pages are exact); Prometheus before 2.50 passes over the created
//! times, and takes a native histogram without values for a classic one.

use crate::snapshot::spans;
use crate::snapshot::{
    Exemplar, ExponentialSnapshot, FamilySnapshot, HistogramSnapshot, Kind, SeriesSnapshot,
    Snapshot, SummarySnapshot, Value,
};
use crate::wire::{Message, put_delimited};

/// The `Content-Type` under which [`encode`]d bytes are to be served.
pub const PROTOBUF_CONTENT_TYPE: &str = "application/vnd.google.protobuf; \
                                         proto=io.prometheus.client.MetricFamily; \
                                         encoding=delimited";

/// The most buckets of a native histogram; one with more is exposed at a lower resolution.
pub const NATIVE_BUCKETS_MAX: usize = 160;

/// Writes all families of a snapshot.
///
/// # Examples
/// ```
/// use tripod_metrics::MetricsCollector;
/// use tripod_metrics::protobuf::{PROTOBUF_CONTENT_TYPE, encode};
///
/// let metrics = MetricsCollector::new();
/// let (content_type, body) = (PROTOBUF_CONTENT_TYPE, encode(&metrics.snapshot()));
/// assert!(!body.is_empty());
/// ```
#[must_use]
pub fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let mut out = Vec::new();
    for family in &snapshot.families {
        put_delimited(&mut out, |message| write_family(message, family));
    }
    out
}

fn write_family(message: &mut Message<'_>, family: &FamilySnapshot) {
    message.text(1, &family.name);
    message.text(2, &family.help);
    message.uint(
        3,
        match family.kind {
            Kind::Counter => 0,
            Kind::Gauge => 1,
            Kind::Summary => 2,
            Kind::Histogram => 4,
        },
    );
    for series in &family.series {
        message.message(4, |message| write_series(message, series));
    }
    if let Some(unit) = &family.unit {
        message.text(5, unit);
    }
}

fn write_series(message: &mut Message<'_>, series: &SeriesSnapshot) {
    write_labels(message, &series.labels);
    match &series.value {
        Value::Counter(count) => write_counter(message, series, *count as f64),
        Value::FloatCounter(value) => write_counter(message, series, *value),
        Value::Gauge(value) => message.message(2, |message| message.double(1, *value)),
        Value::Summary(summary) => message.message(4, |message| {
            write_summary(message, summary);
            message.timestamp(4, series.created);
        }),
        Value::Histogram(histogram) => message.message(7, |message| {
            write_classic(message, histogram);
            message.timestamp(15, series.created);
        }),
        Value::Exponential(histogram) => message.message(7, |message| {
            write_native(message, &histogram.clone().reduce_to(NATIVE_BUCKETS_MAX));
            message.timestamp(15, series.created);
        }),
    }
}

fn write_labels(message: &mut Message<'_>, labels: &[(String, String)]) {
    for (name, value) in labels {
        message.message(1, |message| {
            message.text(1, name);
            message.text(2, value);
        });
    }
}

fn write_counter(message: &mut Message<'_>, series: &SeriesSnapshot, value: f64) {
    message.message(3, |message| {
        message.double(1, value);
        message.timestamp(3, series.created);
    });
}

fn write_summary(message: &mut Message<'_>, summary: &SummarySnapshot) {
    message.uint(1, summary.count);
    message.double(2, summary.sum);
    for (quantile, value) in &summary.quantiles {
        message.message(3, |message| {
            message.double(1, *quantile);
            message.double(2, *value);
        });
    }
}

fn write_classic(message: &mut Message<'_>, histogram: &HistogramSnapshot) {
    message.uint(1, histogram.count);
    message.double(2, histogram.sum);
    for (index, (bound, count)) in histogram.buckets.iter().enumerate() {
        let exemplar = histogram.exemplars.iter().find(|(bucket, _)| *bucket == index);
        message.message(3, |message| {
            message.uint(1, *count);
            message.double(2, *bound);
            if let Some((_, exemplar)) = exemplar {
                message.message(3, |message| write_exemplar(message, exemplar));
            }
        });
    }
}

fn write_native(message: &mut Message<'_>, histogram: &ExponentialSnapshot) {
    message.uint(1, histogram.count);
    message.double(2, histogram.sum);
    message.sint(5, histogram.schema.into());
    message.double(6, histogram.zero_threshold);
    message.uint(7, histogram.zero_count);
    let negative = spans(&histogram.negative);
    let mut positive = spans(&histogram.positive);
    if negative.spans.is_empty() && positive.spans.is_empty() {
        // A span of nothing is the mark of a native histogram without buckets.
        positive.spans.push((0, 0));
    }
    for (field, spans) in [(9, negative), (12, positive)] {
        for (offset, length) in &spans.spans {
            message.message(field, |message| {
                message.sint(1, (*offset).into());
                message.uint(2, (*length).into());
            });
        }
        message.packed_sint(field + 1, &spans.deltas);
    }
    for exemplar in &histogram.exemplars {
        message.message(16, |message| write_exemplar(message, exemplar));
    }
}

fn write_exemplar(message: &mut Message<'_>, exemplar: &Exemplar) {
    write_labels(message, &exemplar.labels);
    message.double(2, exemplar.value);
    message.timestamp(3, exemplar.time);
}

#[cfg(test)]
mod tests;
