//! The bytes, judged by prost and by a real Prometheus.

use std::time::{Duration, SystemTime};

use prost::Message;

use super::*;
use crate::fixtures::{self, NASTY};
use crate::oracle::{self, Prometheus};

/// The messages as the specification declares them.
mod client {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct LabelPair {
        #[prost(string, optional, tag = "1")]
        pub(super) name: Option<String>,
        #[prost(string, optional, tag = "2")]
        pub(super) value: Option<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Timestamp {
        #[prost(int64, tag = "1")]
        pub(super) seconds: i64,
        #[prost(int32, tag = "2")]
        pub(super) nanos: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Exemplar {
        #[prost(message, repeated, tag = "1")]
        pub(super) label: Vec<LabelPair>,
        #[prost(double, optional, tag = "2")]
        pub(super) value: Option<f64>,
        #[prost(message, optional, tag = "3")]
        pub(super) timestamp: Option<Timestamp>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Gauge {
        #[prost(double, optional, tag = "1")]
        pub(super) value: Option<f64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Counter {
        #[prost(double, optional, tag = "1")]
        pub(super) value: Option<f64>,
        #[prost(message, optional, tag = "2")]
        pub(super) exemplar: Option<Exemplar>,
        #[prost(message, optional, tag = "3")]
        pub(super) created_timestamp: Option<Timestamp>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Quantile {
        #[prost(double, optional, tag = "1")]
        pub(super) quantile: Option<f64>,
        #[prost(double, optional, tag = "2")]
        pub(super) value: Option<f64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Summary {
        #[prost(uint64, optional, tag = "1")]
        pub(super) sample_count: Option<u64>,
        #[prost(double, optional, tag = "2")]
        pub(super) sample_sum: Option<f64>,
        #[prost(message, repeated, tag = "3")]
        pub(super) quantile: Vec<Quantile>,
        #[prost(message, optional, tag = "4")]
        pub(super) created_timestamp: Option<Timestamp>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Bucket {
        #[prost(uint64, optional, tag = "1")]
        pub(super) cumulative_count: Option<u64>,
        #[prost(double, optional, tag = "2")]
        pub(super) upper_bound: Option<f64>,
        #[prost(message, optional, tag = "3")]
        pub(super) exemplar: Option<Exemplar>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct BucketSpan {
        #[prost(sint32, optional, tag = "1")]
        pub(super) offset: Option<i32>,
        #[prost(uint32, optional, tag = "2")]
        pub(super) length: Option<u32>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Histogram {
        #[prost(uint64, optional, tag = "1")]
        pub(super) sample_count: Option<u64>,
        #[prost(double, optional, tag = "2")]
        pub(super) sample_sum: Option<f64>,
        #[prost(message, repeated, tag = "3")]
        pub(super) bucket: Vec<Bucket>,
        #[prost(message, optional, tag = "15")]
        pub(super) created_timestamp: Option<Timestamp>,
        #[prost(sint32, optional, tag = "5")]
        pub(super) schema: Option<i32>,
        #[prost(double, optional, tag = "6")]
        pub(super) zero_threshold: Option<f64>,
        #[prost(uint64, optional, tag = "7")]
        pub(super) zero_count: Option<u64>,
        #[prost(message, repeated, tag = "9")]
        pub(super) negative_span: Vec<BucketSpan>,
        #[prost(sint64, repeated, tag = "10")]
        pub(super) negative_delta: Vec<i64>,
        #[prost(message, repeated, tag = "12")]
        pub(super) positive_span: Vec<BucketSpan>,
        #[prost(sint64, repeated, tag = "13")]
        pub(super) positive_delta: Vec<i64>,
        #[prost(message, repeated, tag = "16")]
        pub(super) exemplars: Vec<Exemplar>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Metric {
        #[prost(message, repeated, tag = "1")]
        pub(super) label: Vec<LabelPair>,
        #[prost(message, optional, tag = "2")]
        pub(super) gauge: Option<Gauge>,
        #[prost(message, optional, tag = "3")]
        pub(super) counter: Option<Counter>,
        #[prost(message, optional, tag = "4")]
        pub(super) summary: Option<Summary>,
        #[prost(message, optional, tag = "7")]
        pub(super) histogram: Option<Histogram>,
        #[prost(int64, optional, tag = "6")]
        pub(super) timestamp_ms: Option<i64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct MetricFamily {
        #[prost(string, optional, tag = "1")]
        pub(super) name: Option<String>,
        #[prost(string, optional, tag = "2")]
        pub(super) help: Option<String>,
        #[prost(int32, optional, tag = "3")]
        pub(super) kind: Option<i32>,
        #[prost(message, repeated, tag = "4")]
        pub(super) metric: Vec<Metric>,
        #[prost(string, optional, tag = "5")]
        pub(super) unit: Option<String>,
    }
}

fn decoded(bytes: &[u8]) -> Vec<client::MetricFamily> {
    let mut rest = bytes;
    let mut families = Vec::new();
    while !rest.is_empty() {
        families.push(client::MetricFamily::decode_length_delimited(&mut rest).unwrap());
    }
    families
}

fn timestamp(time: SystemTime) -> Option<client::Timestamp> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let (seconds, nanos) = (since.as_secs() as i64, since.subsec_nanos() as i32);
    Some(client::Timestamp { seconds, nanos })
}

fn labels(labels: &[(&str, &str)]) -> Vec<client::LabelPair> {
    let pair = |(name, value): &(&str, &str)| client::LabelPair {
        name: Some(name.to_string()),
        value: Some(value.to_string()),
    };
    labels.iter().map(pair).collect()
}

fn exemplar(value: f64) -> client::Exemplar {
    client::Exemplar {
        label: labels(&[("trace_id", &format!("trace of {value}"))]),
        value: Some(value),
        timestamp: timestamp(fixtures::created() + Duration::from_secs(60)),
    }
}

fn span(offset: i32, length: u32) -> client::BucketSpan {
    client::BucketSpan { offset: Some(offset), length: Some(length) }
}

#[test]
fn every_field_comes_back() {
    let families = decoded(&encode(&fixtures::everything(SystemTime::now())));
    let names: Vec<_> = families.iter().map(|family| family.name.as_deref().unwrap()).collect();
    let expected = [
        "fed_joules_total",
        "jobs_total",
        "level",
        "native_seconds",
        "run_seconds",
        "wait_seconds",
    ];
    assert_eq!(names, expected);
    let kinds: Vec<_> = families.iter().map(|family| family.kind.unwrap()).collect();
    assert_eq!(kinds, [0, 0, 1, 4, 4, 2]);
    assert!(families.iter().all(|family| family.help.as_deref() == Some(NASTY)));
    let units: Vec<_> = families.iter().map(|family| family.unit.as_deref()).collect();
    let seconds = Some("seconds");
    assert_eq!(units, [None, None, None, seconds, seconds, seconds]);

    let value = |family: usize, series: usize| {
        let counter = families[family].metric[series].counter.clone().unwrap();
        assert_eq!(counter.created_timestamp, timestamp(fixtures::created()));
        counter.value.unwrap()
    };
    assert_eq!(value(0, 0), 0.1);
    assert_eq!((value(1, 0), value(1, 1)), (9_007_199_254_740_991.0, 2.0));
    assert_eq!(families[1].metric[1].label, labels(&[("x", "a"), ("y", "bc")]));
    let gauges =
        families[2].metric.iter().map(|metric| metric.gauge.clone().unwrap().value.unwrap());
    assert_eq!(format!("{:?}", gauges.collect::<Vec<_>>()), "[-0.5, inf, NaN]");
}

#[test]
fn a_native_histogram_comes_back_as_spans_and_deltas() {
    let families = decoded(&encode(&fixtures::everything(SystemTime::now())));
    let found = families[3].metric[0].histogram.clone().unwrap();
    let expected = client::Histogram {
        sample_count: Some(412),
        sample_sum: Some(900.5),
        bucket: vec![],
        created_timestamp: timestamp(fixtures::created()),
        schema: Some(1),
        zero_threshold: Some(0.001),
        zero_count: Some(5),
        negative_span: vec![span(2, 1)],
        negative_delta: vec![7],
        positive_span: vec![span(1, 3)],
        positive_delta: vec![100, -100, 300],
        exemplars: vec![exemplar(1.25)],
    };
    assert_eq!(found, expected);
}

#[test]
fn classic_histogram_and_summary_come_back() {
    let families = decoded(&encode(&fixtures::everything(SystemTime::now())));
    let histogram = families[4].metric[0].histogram.clone().unwrap();
    assert_eq!((histogram.sample_count, histogram.sample_sum), (Some(4), Some(12.125)));
    assert_eq!((histogram.schema, histogram.positive_span.len()), (None, 0));
    let bucket = |cumulative_count, upper_bound, exemplar| client::Bucket {
        cumulative_count: Some(cumulative_count),
        upper_bound: Some(upper_bound),
        exemplar,
    };
    assert_eq!(
        histogram.bucket,
        [
            bucket(3, 0.1, Some(exemplar(0.05))),
            bucket(3, 1.0, None),
            bucket(4, f64::INFINITY, Some(exemplar(12.0)))
        ]
    );
    let summary = families[5].metric[0].summary.clone().unwrap();
    let quantile =
        |quantile, value| client::Quantile { quantile: Some(quantile), value: Some(value) };
    assert_eq!(summary.quantile, [quantile(0.5, 0.25), quantile(0.99, 2.5)]);
    assert_eq!((summary.sample_count, summary.sample_sum), (Some(10), Some(5.5)));
    assert_eq!(summary.created_timestamp, timestamp(fixtures::created()));
}

#[test]
fn a_native_histogram_is_coarse_enough_and_never_taken_for_a_classic_one() {
    let mut snapshot = fixtures::everything(SystemTime::now());
    snapshot.families.drain(..3);
    snapshot.families.truncate(1);
    let buckets: Vec<(i32, u64)> = (-400..400).map(|index| (index, 1)).collect();
    let wide = ExponentialSnapshot {
        schema: 8,
        positive: buckets,
        count: 800,
        ..ExponentialSnapshot::default()
    };
    snapshot.families[0].series[0].value = Value::Exponential(wide);
    let found = decoded(&encode(&snapshot))[0].metric[0].histogram.clone().unwrap();
    assert_eq!(found.schema, Some(5), "800 buckets become 400, 200 and then 100, give or take");
    assert!(found.positive_delta.len() <= NATIVE_BUCKETS_MAX);
    assert_eq!(found.sample_count, Some(800));

    snapshot.families[0].series[0].value = Value::Exponential(ExponentialSnapshot::default());
    let found = decoded(&encode(&snapshot))[0].metric[0].histogram.clone().unwrap();
    assert_eq!(found.positive_span, [span(0, 0)]);
}

#[test]
fn a_real_prometheus_reads_the_values_that_were_recorded() {
    let page = encode(&fixtures::everything(SystemTime::now()));
    let (port, scrapes) = oracle::serve(move |_| {
        (format!("HTTP/1.1 200 OK\r\nContent-Type: {PROTOBUF_CONTENT_TYPE}"), page.clone())
    });
    let Some(prometheus) = Prometheus::start("protobuf", Some(port)) else {
        return;
    };
    // When the third scrape comes, the first two have been stored.
    for _ in 0..3 {
        let request = scrapes.recv_timeout(Duration::from_secs(60)).expect("a scrape");
        let accept = request.header("accept");
        let format = crate::negotiate::negotiate(accept);
        assert_eq!(format, crate::negotiate::Format::Protobuf, "{accept:?}");
        assert!(crate::negotiate::accepts_gzip(request.header("accept-encoding")));
    }
    for (expression, expected) in [
        ("up", 1.0),
        ("fed_joules_total", 0.1),
        ("jobs_total{x='ab',y='c'}", 9_007_199_254_740_991.0),
        ("jobs_total{x='a',y='bc'}", 2.0),
        ("level{at='rest'}", -0.5),
        ("run_seconds_bucket{le='0.1'}", 3.0),
        ("run_seconds_bucket{le='+Inf'}", 4.0),
        ("run_seconds_sum", 12.125),
        ("wait_seconds{quantile='0.99'}", 2.5),
        ("wait_seconds_count", 10.0),
        ("histogram_count(native_seconds)", 412.0),
        ("histogram_sum(native_seconds)", 900.5),
        // 7 + 5 values up to zero's bucket, then 100 in (1, 2^0.5]: the 62nd is halfway.
        ("histogram_quantile(62/412, native_seconds)", 1.0 + 0.5 * (2_f64.sqrt() - 1.0)),
        // The 100th of 300 in (2, 2^1.5].
        ("histogram_quantile(212/412, native_seconds)", 2.0 + (8_f64.sqrt() - 2.0) / 3.0),
    ] {
        let found = prometheus.value(expression);
        let error = (found - expected).abs() / expected.abs();
        assert!(error < 1e-12, "{expression}: {found}, expected {expected}");
    }
    assert_eq!(prometheus.query("native_seconds")[0].matches("漢").count(), 1);
    let exemplars = prometheus
        .get("/api/v1/query_exemplars?query=run_seconds_bucket&start=1764000000&end=1765000000");
    assert!(exemplars.contains("trace of 0.05"), "{exemplars}");
}
