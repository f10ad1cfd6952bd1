//! The bytes that arrive, decoded by the messages that OpenTelemetry generates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1 as proto;
use prost::Message as _;
use proto::exponential_histogram_data_point::Buckets;
use proto::metric::Data;
use proto::number_data_point::Value as Point;
use proto::summary_data_point::ValueAtQuantile;

use super::*;
use crate::fixtures::{self, NASTY};
use crate::oracle;
use crate::push::HttpTransport;
use crate::snapshot::{ExponentialSnapshot, Kind};

const TIME_NANOS: u64 = 1_764_000_123_456_789_000;
const CREATED_NANOS: u64 = 1_764_000_000_123_456_789;

fn time() -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(TIME_NANOS)
}

fn attributes(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    let attribute = |(name, value): &(&str, &str)| KeyValue {
        key: name.to_string(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_string())) }),
        ..KeyValue::default()
    };
    pairs.iter().map(attribute).collect()
}

fn decoded(body: &[u8]) -> proto::ResourceMetrics {
    let mut request = ExportMetricsServiceRequest::decode(body).unwrap();
    assert_eq!(request.resource_metrics.len(), 1);
    request.resource_metrics.remove(0)
}

fn metrics(snapshot: &Snapshot) -> Vec<proto::Metric> {
    let mut resource_metrics = decoded(&encode(snapshot, &[])[0]);
    resource_metrics.scope_metrics.remove(0).metrics
}

fn everything() -> Vec<proto::Metric> {
    metrics(&fixtures::everything(time()))
}

fn number(pairs: &[(&str, &str)], created_nanos: u64, value: Point) -> proto::NumberDataPoint {
    proto::NumberDataPoint {
        attributes: attributes(pairs),
        start_time_unix_nano: created_nanos,
        time_unix_nano: TIME_NANOS,
        value: Some(value),
        ..proto::NumberDataPoint::default()
    }
}

fn exemplar(value: f64) -> proto::Exemplar {
    proto::Exemplar {
        filtered_attributes: attributes(&[("trace_id", &format!("trace of {value}"))]),
        time_unix_nano: CREATED_NANOS + 60_000_000_000,
        value: Some(proto::exemplar::Value::AsDouble(value)),
        ..proto::Exemplar::default()
    }
}

const LABELS: [(&str, &str); 3] = [("zone", "eu"), ("nasty", NASTY), ("a", "1")];

#[test]
fn what_is_posted_says_who_and_what() {
    let (port, requests) = oracle::serve(|_| ("HTTP/1.1 200 OK".to_owned(), vec![]));
    let resource = [("service.name", "mail"), ("note", NASTY)];
    let url = format!("http://127.0.0.1:{port}/v1/metrics");
    let limits = QueueLimits::default();
    let mut pusher = OtlpPusher::new(url, resource, limits, HttpTransport::default());
    pusher.push(&fixtures::everything(time()));
    assert_eq!(pusher.step(Instant::now()), Step::Delivered);
    assert_eq!(pusher.step(Instant::now()), Step::Idle);

    let request = requests.recv().unwrap();
    assert!(request.head.starts_with("POST /v1/metrics HTTP/1.1\r\n"), "{}", request.head);
    assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
    let found = decoded(&request.body);
    assert_eq!(found.resource.unwrap().attributes, attributes(&resource));
    let scope = found.scope_metrics[0].scope.clone().unwrap();
    assert_eq!(scope.name, "tripod-metrics");
    let owned = resource.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(request.body, encode(&fixtures::everything(time()), &owned)[0]);
    let heads = everything().into_iter().map(|metric| (metric.name, metric.unit));
    let expected = [
        ("fed_joules_total", ""),
        ("jobs_total", ""),
        ("level", ""),
        ("native_seconds", "s"),
        ("run_seconds", "s"),
        ("wait_seconds", "s"),
    ];
    assert!(heads.eq(expected.map(|(name, unit)| (name.to_owned(), unit.to_owned()))));
    assert!(everything().iter().all(|metric| metric.description == NASTY));
}

#[test]
fn counters_are_cumulative_monotonic_sums() {
    let sum = |metric: &proto::Metric| match metric.data.clone() {
        Some(Data::Sum(sum)) => {
            assert!(sum.is_monotonic);
            assert_eq!(sum.aggregation_temporality(), proto::AggregationTemporality::Cumulative);
            sum.data_points
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(sum(&everything()[0]), [number(&[], CREATED_NANOS, Point::AsDouble(0.1))]);
    let first = Point::AsInt((1 << 53) - 1);
    let expected = [
        number(&[("x", "ab"), ("y", "c")], CREATED_NANOS, first),
        number(&[("x", "a"), ("y", "bc")], CREATED_NANOS, Point::AsInt(2)),
    ];
    assert_eq!(sum(&everything()[1]), expected);

    let mut snapshot = fixtures::everything(time());
    snapshot.families[1].series[0].value = Value::Counter(i64::MAX as u64);
    snapshot.families[1].series[1].value = Value::Counter(u64::MAX);
    let values = sum(&metrics(&snapshot)[1]).into_iter().map(|point| point.value.unwrap());
    let expected = [Point::AsInt(i64::MAX), Point::AsDouble(u64::MAX as f64)];
    assert_eq!(values.collect::<Vec<_>>(), expected);
}

#[test]
fn gauges_have_no_start() {
    let Some(Data::Gauge(gauge)) = everything()[2].data.clone() else {
        panic!("{:?}", everything()[2]);
    };
    let rest = number(&[("at", "rest")], 0, Point::AsDouble(-0.5));
    let end = number(&[("at", "end")], 0, Point::AsDouble(f64::INFINITY));
    assert_eq!(gauge.data_points[..2], [rest, end]);
    assert!(matches!(gauge.data_points[2].value, Some(Point::AsDouble(odd)) if odd.is_nan()));
}

#[test]
fn exponential_buckets_are_named_by_their_lower_bounds() {
    let Some(Data::ExponentialHistogram(histogram)) = everything()[3].data.clone() else {
        panic!("{:?}", everything()[3]);
    };
    assert_eq!(histogram.aggregation_temporality, 2);
    let expected = proto::ExponentialHistogramDataPoint {
        attributes: attributes(&LABELS),
        start_time_unix_nano: CREATED_NANOS,
        time_unix_nano: TIME_NANOS,
        count: 412,
        sum: Some(900.5),
        scale: 1,
        zero_count: 5,
        // (2^0, 2^0.5] is bucket 0, and (2, 2^1.5] is bucket 2.
        positive: Some(Buckets { offset: 0, bucket_counts: vec![100, 0, 300] }),
        negative: Some(Buckets { offset: 1, bucket_counts: vec![7] }),
        exemplars: vec![exemplar(1.25)],
        zero_threshold: 0.001,
        ..proto::ExponentialHistogramDataPoint::default()
    };
    assert_eq!(histogram.data_points, [expected]);
}

#[test]
fn far_apart_buckets_are_sent_at_a_lower_resolution() {
    let mut snapshot = fixtures::everything(time());
    let positive = vec![(-8000, 1), (8000, 2)];
    snapshot.families[3].series[0].value = Value::Exponential(ExponentialSnapshot {
        schema: 3,
        positive,
        count: 3,
        ..Default::default()
    });
    let Some(Data::ExponentialHistogram(histogram)) = metrics(&snapshot)[3].data.clone() else {
        panic!("{snapshot:?}");
    };
    let point = &histogram.data_points[0];
    let buckets = point.positive.clone().unwrap();
    // 16,001 buckets become 126 by 7 halvings.
    assert_eq!((point.scale, buckets.offset, buckets.bucket_counts.len()), (-4, -63, 126));
    assert_eq!((buckets.bucket_counts[0], buckets.bucket_counts[125]), (1, 2));
}

#[test]
fn classic_histograms_and_summaries_keep_every_number() {
    let Some(Data::Histogram(histogram)) = everything()[4].data.clone() else {
        panic!("{:?}", everything()[4]);
    };
    assert_eq!(histogram.aggregation_temporality, 2);
    let expected = proto::HistogramDataPoint {
        attributes: attributes(&LABELS),
        start_time_unix_nano: CREATED_NANOS,
        time_unix_nano: TIME_NANOS,
        count: 4,
        sum: Some(12.125),
        bucket_counts: vec![3, 0, 1],
        explicit_bounds: vec![0.1, 1.0],
        exemplars: vec![exemplar(0.05), exemplar(12.0)],
        ..proto::HistogramDataPoint::default()
    };
    assert_eq!(histogram.data_points, [expected]);

    let Some(Data::Summary(summary)) = everything()[5].data.clone() else {
        panic!("{:?}", everything()[5]);
    };
    let expected = proto::SummaryDataPoint {
        attributes: attributes(&LABELS),
        start_time_unix_nano: CREATED_NANOS,
        time_unix_nano: TIME_NANOS,
        count: 10,
        sum: 5.5,
        quantile_values: vec![
            ValueAtQuantile { quantile: 0.5, value: 0.25 },
            ValueAtQuantile { quantile: 0.99, value: 2.5 },
        ],
        flags: 0,
    };
    assert_eq!(summary.data_points, [expected]);
}

#[test]
fn an_exemplar_with_real_ids_leads_to_its_trace() {
    let mut snapshot = fixtures::everything(time());
    let Value::Histogram(histogram) = &mut snapshot.families[4].series[0].value else {
        panic!("{snapshot:?}");
    };
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    histogram.exemplars.truncate(1);
    histogram.exemplars[0].1.labels = vec![
        label("trace_id", "0af7651916cd43dd8448eb211c80319c"),
        label("span_id", "b7ad6b7169203331"),
        label("user", "7"),
    ];
    let Some(Data::Histogram(histogram)) = metrics(&snapshot)[4].data.clone() else {
        panic!("{snapshot:?}");
    };
    let exemplar = &histogram.data_points[0].exemplars[0];
    assert_eq!(exemplar.trace_id[..3], [0x0a, 0xf7, 0x65]);
    assert_eq!((exemplar.trace_id.len(), exemplar.span_id.len()), (16, 8));
    assert_eq!(exemplar.filtered_attributes, attributes(&[("user", "7")]));
}

#[test]
fn many_series_are_cut_into_several_requests() {
    let mut snapshot = fixtures::everything(time());
    let series = |value: u64| SeriesSnapshot {
        labels: vec![("index".to_owned(), value.to_string())],
        created: fixtures::created(),
        value: Value::Counter(value),
    };
    snapshot.families[1].series = (0..4500).map(series).collect();
    snapshot.families[1].kind = Kind::Counter;
    let bodies = encode(&snapshot, &[]);
    let mut values = Vec::new();
    for body in &bodies {
        let request = decoded(body);
        for metric in &request.scope_metrics[0].metrics {
            if let (Some(Data::Sum(sum)), "jobs_total") = (&metric.data, metric.name.as_str()) {
                values.extend(sum.data_points.iter().map(|point| point.value.unwrap()));
            }
        }
    }
    assert_eq!(bodies.len(), 3);
    assert!(values.into_iter().eq((0..4500).map(Point::AsInt)));
    let empty = Snapshot { time: time(), families: vec![] };
    assert!(encode(&empty, &[]).is_empty());
}
