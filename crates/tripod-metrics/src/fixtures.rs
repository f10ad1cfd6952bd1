//! Snapshots for the tests of the exports.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::snapshot::{
    Exemplar, ExponentialSnapshot, FamilySnapshot, HistogramSnapshot, Kind, SeriesSnapshot,
    Snapshot, SummarySnapshot, Value,
};

/// A text with all that formats stumble over.
pub(crate) const NASTY: &str = "quotes \" and \\ and \n {x=\"1\"}, # é 漢 \u{1F600}";

pub(crate) fn created() -> SystemTime {
    UNIX_EPOCH + Duration::new(1_764_000_000, 123_456_789)
}

fn family(name: &str, kind: Kind, series: Vec<SeriesSnapshot>) -> FamilySnapshot {
    let unit = name.contains("seconds").then(|| "seconds".to_owned());
    FamilySnapshot { name: name.to_owned(), help: NASTY.to_owned(), unit, kind, series }
}

fn series(labels: &[(&str, &str)], value: Value) -> SeriesSnapshot {
    let labels = labels.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    SeriesSnapshot { labels: labels.collect(), created: created(), value }
}

pub(crate) fn exemplar(value: f64) -> Exemplar {
    let labels = vec![("trace_id".to_owned(), format!("trace of {value}"))];
    Exemplar { labels, value, time: created() + Duration::from_secs(60) }
}

/// 100 values in (1, 2^0.5], 300 in (2, 2^1.5], 5 near zero, 7 in [-2, -2^0.5), by schema 1.
pub(crate) fn exponential() -> ExponentialSnapshot {
    ExponentialSnapshot {
        schema: 1,
        zero_threshold: 0.001,
        zero_count: 5,
        positive: vec![(1, 100), (3, 300)],
        negative: vec![(2, 7)],
        count: 412,
        sum: 900.5,
        exemplars: vec![exemplar(1.25)],
    }
}

pub(crate) fn classic() -> HistogramSnapshot {
    HistogramSnapshot {
        buckets: vec![(0.1, 3), (1.0, 3), (f64::INFINITY, 4)],
        count: 4,
        sum: 12.125,
        exemplars: vec![(0, exemplar(0.05)), (2, exemplar(12.0))],
    }
}

pub(crate) fn summary() -> SummarySnapshot {
    SummarySnapshot {
        window: Duration::from_secs(60),
        quantiles: vec![(0.5, 0.25), (0.99, 2.5)],
        by_window: Vec::new(),
        count: 10,
        sum: 5.5,
    }
}

/// One family of each kind of value, with labels.
pub(crate) fn everything(time: SystemTime) -> Snapshot {
    let labels: &[(&str, &str)] = &[("zone", "eu"), ("nasty", NASTY), ("a", "1")];
    let counters = vec![
        series(&[("x", "ab"), ("y", "c")], Value::Counter((1 << 53) - 1)),
        series(&[("x", "a"), ("y", "bc")], Value::Counter(2)),
    ];
    let gauges = vec![
        series(&[("at", "rest")], Value::Gauge(-0.5)),
        series(&[("at", "end")], Value::Gauge(f64::INFINITY)),
        series(&[("at", "odds")], Value::Gauge(f64::NAN)),
    ];
    let families = vec![
        family("fed_joules_total", Kind::Counter, vec![series(&[], Value::FloatCounter(0.1))]),
        family("jobs_total", Kind::Counter, counters),
        family("level", Kind::Gauge, gauges),
        family(
            "native_seconds",
            Kind::Histogram,
            vec![series(labels, Value::Exponential(exponential()))],
        ),
        family("run_seconds", Kind::Histogram, vec![series(labels, Value::Histogram(classic()))]),
        family("wait_seconds", Kind::Summary, vec![series(labels, Value::Summary(summary()))]),
    ];
    Snapshot { time, families }
}
