//! The bytes, judged by prost and by a real Prometheus.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;

use super::*;
use crate::fixtures::{self, NASTY};
use crate::oracle::{self, Prometheus};
use crate::push::HttpTransport;
use crate::snapshot::{FamilySnapshot, Kind};

/// The messages as the specification declares them.
mod prompb {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Label {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Sample {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
        #[prost(int64, tag = "2")]
        pub(super) timestamp: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Exemplar {
        #[prost(message, repeated, tag = "1")]
        pub(super) labels: Vec<Label>,
        #[prost(double, tag = "2")]
        pub(super) value: f64,
        #[prost(int64, tag = "3")]
        pub(super) timestamp: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct BucketSpan {
        #[prost(sint32, tag = "1")]
        pub(super) offset: i32,
        #[prost(uint32, tag = "2")]
        pub(super) length: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Histogram {
        #[prost(uint64, tag = "1")]
        pub(super) count_int: u64,
        #[prost(double, tag = "3")]
        pub(super) sum: f64,
        #[prost(sint32, tag = "4")]
        pub(super) schema: i32,
        #[prost(double, tag = "5")]
        pub(super) zero_threshold: f64,
        #[prost(uint64, tag = "6")]
        pub(super) zero_count_int: u64,
        #[prost(message, repeated, tag = "8")]
        pub(super) negative_spans: Vec<BucketSpan>,
        #[prost(sint64, repeated, tag = "9")]
        pub(super) negative_deltas: Vec<i64>,
        #[prost(message, repeated, tag = "11")]
        pub(super) positive_spans: Vec<BucketSpan>,
        #[prost(sint64, repeated, tag = "12")]
        pub(super) positive_deltas: Vec<i64>,
        #[prost(int32, tag = "14")]
        pub(super) reset_hint: i32,
        #[prost(int64, tag = "15")]
        pub(super) timestamp: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub(super) labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub(super) samples: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub(super) exemplars: Vec<Exemplar>,
        #[prost(message, repeated, tag = "4")]
        pub(super) histograms: Vec<Histogram>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        pub(super) timeseries: Vec<TimeSeries>,
    }
}

fn decoded(body: &[u8]) -> Vec<prompb::TimeSeries> {
    let bytes = snap::raw::Decoder::new().decompress_vec(body).unwrap();
    prompb::WriteRequest::decode(&*bytes).unwrap().timeseries
}

/// Name, `le` or `quantile`, value.
fn line(series: &prompb::TimeSeries) -> String {
    let label = |name: &str| {
        let mut labels = series.labels.iter().filter(|label| label.name == name);
        labels.next().map_or("", |label| label.value.as_str())
    };
    let (name, extra) = (label("__name__"), format!("{}{}", label("le"), label("quantile")));
    let values: Vec<f64> = series.samples.iter().map(|sample| sample.value).collect();
    format!("{name} {extra} {values:?}")
}

#[test]
fn every_series_comes_back_with_sorted_labels() {
    let time = UNIX_EPOCH + Duration::from_millis(1_764_000_123_456);
    let bodies = encode(&fixtures::everything(time));
    assert_eq!(bodies.len(), 1);
    let series = decoded(&bodies[0]);
    for one in &series {
        assert!(one.labels.is_sorted_by(|a, b| a.name < b.name), "{one:?}");
        assert!(one.samples.iter().all(|sample| sample.timestamp == 1_764_000_123_456));
    }
    assert_eq!(
        series.iter().map(line).collect::<Vec<_>>(),
        [
            "fed_joules_total  [0.1]",
            "jobs_total  [9007199254740991.0]",
            "jobs_total  [2.0]",
            "level  [-0.5]",
            "level  [inf]",
            "level  [NaN]",
            "native_seconds  []",
            "run_seconds_bucket 0.1 [3.0]",
            "run_seconds_bucket 1 [3.0]",
            "run_seconds_bucket +Inf [4.0]",
            "run_seconds_sum  [12.125]",
            "run_seconds_count  [4.0]",
            "wait_seconds 0.5 [0.25]",
            "wait_seconds 0.99 [2.5]",
            "wait_seconds_sum  [5.5]",
            "wait_seconds_count  [10.0]",
        ]
    );
    assert_eq!(series[5].samples[0].value.to_bits(), NAN_BITS);
    let texts = series[7].labels.iter().map(|label| (&*label.name, &*label.value));
    let expected = [
        ("__name__", "run_seconds_bucket"),
        ("a", "1"),
        ("le", "0.1"),
        ("nasty", NASTY),
        ("zone", "eu"),
    ];
    assert_eq!(texts.collect::<Vec<_>>(), expected);
}

#[test]
fn native_histograms_and_exemplars_come_back() {
    let time = UNIX_EPOCH + Duration::from_secs(1_764_000_100);
    let series = decoded(&encode(&fixtures::everything(time))[0]);
    let span = |offset, length| prompb::BucketSpan { offset, length };
    let expected = prompb::Histogram {
        count_int: 412,
        sum: 900.5,
        schema: 1,
        zero_threshold: 0.001,
        zero_count_int: 5,
        negative_spans: vec![span(2, 1)],
        negative_deltas: vec![7],
        positive_spans: vec![span(1, 3)],
        positive_deltas: vec![100, -100, 300],
        reset_hint: 0,
        timestamp: 1_764_000_100_000,
    };
    assert_eq!(series[6].histograms, [expected]);
    let exemplars = |index: usize| {
        let exemplars = series[index].exemplars.iter();
        exemplars.map(|exemplar| (exemplar.value, exemplar.timestamp)).collect::<Vec<_>>()
    };
    let time_ms = 1_764_000_060_123;
    assert_eq!(exemplars(6), [(1.25, time_ms)]);
    assert_eq!(exemplars(7), [(0.05, time_ms)]);
    assert_eq!(exemplars(8), []);
    assert_eq!(exemplars(9), [(12.0, time_ms)]);
    assert_eq!(series[9].exemplars[0].labels[0].value, "trace of 12");
}

#[test]
fn many_series_are_cut_into_several_requests() {
    let series = |index: u64| SeriesSnapshot {
        labels: vec![("index".to_owned(), index.to_string())],
        created: fixtures::created(),
        value: Value::Counter(index),
    };
    let family = FamilySnapshot {
        name: "x_total".to_owned(),
        help: "X.".to_owned(),
        unit: None,
        kind: Kind::Counter,
        series: (0..4001).map(series).collect(),
    };
    let snapshot = Snapshot { time: SystemTime::now(), families: vec![family] };
    let requests: Vec<_> = encode(&snapshot).iter().map(|body| decoded(body)).collect();
    assert_eq!(requests.iter().map(Vec::len).collect::<Vec<_>>(), [2000, 2000, 1]);
    let values = requests.concat().into_iter().map(|series| series.samples[0].value as u64);
    assert!(values.eq(0..4001));
    assert!(encode(&Snapshot { time: SystemTime::now(), families: vec![] }).is_empty());
}

#[test]
fn what_was_sent_while_the_receiver_was_away_arrives_later_and_in_order() {
    let mut answers = vec!["503 Away", "200 OK", "400 Bad Request", "204 No Content"];
    let answers = std::sync::Mutex::new(answers.drain(..).rev().collect::<Vec<_>>());
    let (port, requests) = oracle::serve(move |_| {
        (format!("HTTP/1.1 {}", answers.lock().unwrap().pop().unwrap()), vec![])
    });
    let url = format!("http://127.0.0.1:{port}/api/v1/write");
    let writer = RemoteWriter::new(url, QueueLimits::default(), HttpTransport::default());
    let mut writer = writer.header("Authorization", "Bearer x");
    let times = [1, 2, 3].map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    times.iter().for_each(|time| writer.push(&fixtures::everything(*time)));

    let now = Instant::now();
    assert!(matches!(writer.step(now), Step::Failed { .. }));
    let Step::Waiting { until } = writer.step(now) else {
        panic!("{:?}", writer.queue());
    };
    assert_eq!(writer.step(until), Step::Delivered);
    assert!(matches!(writer.step(until), Step::Rejected { .. }));
    assert_eq!(writer.step(until), Step::Delivered);
    assert_eq!(writer.step(until), Step::Idle);
    let sent = (0..4).map(|_| {
        let request = requests.recv().unwrap();
        for (name, value) in HEADERS {
            assert_eq!(request.header(name), Some(value));
        }
        assert_eq!(request.header("authorization"), Some("Bearer x"));
        decoded(&request.body)[0].samples[0].timestamp
    });
    assert_eq!(sent.collect::<Vec<_>>(), [1000, 1000, 2000, 3000]);
}

#[test]
fn a_series_that_is_gone_is_ended_once() {
    let time = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let (port, requests) = oracle::serve(|_| ("HTTP/1.1 204 No Content".to_owned(), vec![]));
    let url = format!("http://127.0.0.1:{port}/");
    let mut writer = RemoteWriter::new(url, QueueLimits::default(), HttpTransport::default());
    writer.push(&fixtures::everything(time(1)));
    let mut fewer = fixtures::everything(time(2));
    fewer.families.retain(|family| family.name == "level");
    writer.push(&fewer);
    fewer.time = time(3);
    writer.push(&fewer);
    writer.end(time(4));
    writer.end(time(5));
    let mut requests = std::iter::from_fn(|| {
        (writer.step(Instant::now()) == Step::Delivered)
            .then(|| decoded(&requests.recv().unwrap().body))
    });
    let is_end = |series: &prompb::TimeSeries| {
        series.samples.iter().any(|sample| sample.value.to_bits() == STALE_BITS)
    };
    let ends = |request: &Vec<prompb::TimeSeries>| {
        let (ends, rest): (Vec<_>, Vec<_>) = request.iter().partition(|series| is_end(series));
        (ends.len(), rest.len())
    };
    let first = requests.next().unwrap();
    let second = requests.next().unwrap();
    assert_eq!((ends(&first), ends(&second)), ((0, 16), (13, 3)));
    let names = |series: &prompb::TimeSeries| series.labels.clone();
    let mut gone: Vec<_> =
        first.iter().map(names).filter(|labels| labels[0].value != "level").collect();
    let mut ended: Vec<_> = second.iter().filter(|series| is_end(series)).map(names).collect();
    gone.sort_by(|a, b| format!("{a:?}").cmp(&format!("{b:?}")));
    ended.sort_by(|a, b| format!("{a:?}").cmp(&format!("{b:?}")));
    assert_eq!(gone, ended);
    assert_eq!(requests.map(|request| ends(&request)).collect::<Vec<_>>(), [(0, 3), (3, 0)]);
}

#[test]
fn a_real_prometheus_takes_the_values_that_were_recorded() {
    let Some(prometheus) = Prometheus::start("remote-write", None) else {
        return;
    };
    let url = format!("http://127.0.0.1:{}/api/v1/write", prometheus.port);
    let limits = QueueLimits::default();
    let mut writer = RemoteWriter::new(url, limits, HttpTransport::new(Duration::from_secs(60)));
    writer.push(&fixtures::everything(SystemTime::now()));
    assert_eq!(writer.step(Instant::now()), Step::Delivered);
    for (expression, expected) in [
        ("fed_joules_total", 0.1),
        ("jobs_total{x='ab',y='c'}", 9_007_199_254_740_991.0),
        ("jobs_total{x='a',y='bc'}", 2.0),
        ("level{at='end'}", f64::INFINITY),
        ("count(level{at='odds'})", 1.0),
        ("run_seconds_bucket{le='0.1'}", 3.0),
        ("run_seconds_bucket{le='+Inf'}", 4.0),
        ("run_seconds_sum", 12.125),
        ("run_seconds_count", 4.0),
        ("wait_seconds{quantile='0.99'}", 2.5),
        ("histogram_count(native_seconds)", 412.0),
        ("histogram_sum(native_seconds)", 900.5),
        ("histogram_quantile(62/412, native_seconds)", 1.0 + 0.5 * (2_f64.sqrt() - 1.0)),
    ] {
        let found = prometheus.value(expression);
        let is_near = (found - expected).abs() <= expected.abs() * 1e-12;
        assert!(is_near || found == expected, "{expression}: {found}, expected {expected}");
    }
    let exemplars = prometheus
        .get("/api/v1/query_exemplars?query=run_seconds_bucket&start=1764000000&end=1765000000");
    assert!(exemplars.contains("trace of 0.05"), "{exemplars}");

    let mut fewer = fixtures::everything(SystemTime::now());
    fewer.families.retain(|family| family.name == "jobs_total");
    writer.push(&fewer);
    assert_eq!(writer.step(Instant::now()), Step::Delivered);
    assert_eq!(prometheus.value("jobs_total{x='a',y='bc'}"), 2.0);
    for ended in ["run_seconds_bucket", "native_seconds", "level"] {
        assert_eq!(prometheus.query(ended), [""; 0], "{ended} has ended");
    }
}
