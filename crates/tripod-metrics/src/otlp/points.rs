//! The data points of OTLP, one a series. Field numbers differ from point to point.

use super::{EXPONENTIAL_BUCKETS_MAX, write_attributes};
use crate::snapshot::{
    Exemplar, ExponentialSnapshot, HistogramSnapshot, SeriesSnapshot, SummarySnapshot, Value,
};
use crate::varint;
use crate::wire::{Message, unix_nanos};

pub(super) fn write(point: &mut Message<'_>, series: &SeriesSnapshot, time_nanos: u64) {
    let attributes_field = match series.value {
        Value::Histogram(_) => 9,
        Value::Exponential(_) => 1,
        _ => 7,
    };
    write_attributes(point, attributes_field, &series.labels);
    if !matches!(series.value, Value::Gauge(_)) {
        point.fixed64(2, unix_nanos(series.created) as u64);
    }
    point.fixed64(3, time_nanos);
    match &series.value {
        Value::Counter(count) => write_count(point, *count),
        Value::FloatCounter(value) | Value::Gauge(value) => point.double(4, *value),
        Value::Histogram(histogram) => write_histogram(point, histogram),
        Value::Exponential(histogram) => {
            let histogram = histogram.clone().reduce_to_width(EXPONENTIAL_BUCKETS_MAX);
            write_exponential(point, &histogram);
        }
        Value::Summary(summary) => write_summary(point, summary),
    }
}

/// Exact as long as it fits; above 2^63 only a double is left.
fn write_count(point: &mut Message<'_>, count: u64) {
    if count <= i64::MAX as u64 {
        point.fixed64(6, count);
    } else {
        point.double(4, count as f64);
    }
}

fn write_histogram(point: &mut Message<'_>, histogram: &HistogramSnapshot) {
    let mut below = 0;
    let own_counts = histogram
        .buckets
        .iter()
        .map(|(_, cumulative)| cumulative - std::mem::replace(&mut below, *cumulative));
    let own_counts: Vec<u64> = own_counts.collect();
    let bounds = histogram.buckets.iter().map(|(bound, _)| *bound);
    let finite: Vec<f64> = bounds.filter(|bound| *bound < f64::INFINITY).collect();
    point.fixed64(4, histogram.count);
    point.double(5, histogram.sum);
    point.packed(6, &own_counts, |out, count| out.extend_from_slice(&count.to_le_bytes()));
    point.packed(7, &finite, |out, bound| out.extend_from_slice(&bound.to_le_bytes()));
    for (_, exemplar) in &histogram.exemplars {
        point.message(8, |message| write_exemplar(message, exemplar));
    }
}

fn write_exponential(point: &mut Message<'_>, histogram: &ExponentialSnapshot) {
    point.fixed64(4, histogram.count);
    point.double(5, histogram.sum);
    point.sint(6, histogram.schema.into());
    point.fixed64(7, histogram.zero_count);
    for (field, buckets) in [(8, &histogram.positive), (9, &histogram.negative)] {
        if let (Some((first, _)), Some((last, _))) = (buckets.first(), buckets.last()) {
            let mut counts = vec![0; (last - first) as usize + 1];
            for (index, count) in buckets {
                counts[(index - first) as usize] = *count;
            }
            point.message(field, |message| {
                // A bucket is named by its lower bound here, by its upper one in the snapshot.
                message.sint(1, i64::from(*first) - 1);
                message.packed(2, &counts, |out, count| varint::put(out, *count));
            });
        }
    }
    for exemplar in &histogram.exemplars {
        point.message(11, |message| write_exemplar(message, exemplar));
    }
    point.double(14, histogram.zero_threshold);
}

fn write_summary(point: &mut Message<'_>, summary: &SummarySnapshot) {
    point.fixed64(4, summary.count);
    point.double(5, summary.sum);
    for (quantile, value) in &summary.quantiles {
        point.message(6, |message| {
            message.double(1, *quantile);
            message.double(2, *value);
        });
    }
}

/// The labels `trace_id` and `span_id` become the fields that lead to the trace, if they are such ids.
fn write_exemplar(message: &mut Message<'_>, exemplar: &Exemplar) {
    message.fixed64(2, unix_nanos(exemplar.time) as u64);
    message.double(3, exemplar.value);
    for label in &exemplar.labels {
        let id = match label.0.as_str() {
            "trace_id" => hex(&label.1, 16).map(|id| (5, id)),
            "span_id" => hex(&label.1, 8).map(|id| (4, id)),
            _ => None,
        };
        match id {
            Some((field, id)) => message.bytes(field, &id),
            None => write_attributes(message, 7, std::slice::from_ref(label)),
        }
    }
}

/// The bytes of an id of `length` bytes, written in twice as many digits.
fn hex(digits: &str, length: usize) -> Option<Vec<u8>> {
    if digits.len() != 2 * length || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    (0..length).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()).collect()
}
