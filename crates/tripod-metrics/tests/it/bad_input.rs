//! What is not to be recorded or registered: each a typed error, or a behaviour that is stated.
//!
//! Names, labels, buckets and conflicts are in [`registration`](super::registration).

use std::time::Duration;

use tripod_metrics::{BUCKETS_MAX, Clash, ExemplarError, MetricsCollector, RegisterError};

use crate::checker;

fn dropped(metrics: &MetricsCollector) -> String {
    let page = metrics.encode_text();
    let line = page.lines().find(|line| line.starts_with("tripod_metrics_observations_dropped"));
    line.and_then(|line| line.rsplit_once(' ')).map(|(_, value)| value.to_owned()).unwrap()
}

#[test]
fn nan_is_dropped_and_counted_wherever_it_is_no_value() {
    let metrics = MetricsCollector::new();
    let classic = metrics.histogram("a", "A.").labels(["x"]).register().unwrap();
    let exponential = metrics.histogram("b", "B.").labels(["x"]).exponential(0).register().unwrap();
    let summaries = metrics.summary("c", "C.").labels(["x"]).register().unwrap();
    let floats = metrics.float_counter("d_total", "D.").labels(["x"]).register().unwrap();
    for nan in [f64::NAN, -f64::NAN, f64::from_bits(0x7ff0_0000_0000_0001)] {
        classic.observe(&["x"], nan).unwrap();
        classic.with(&["x"]).unwrap().observe(nan);
        classic.with(&["x"]).unwrap().observe_with_exemplar(nan, &[("a", "b")]).unwrap();
        exponential.observe(&["x"], nan).unwrap();
        exponential.with(&["x"]).unwrap().observe(nan);
        summaries.observe(&["x"], nan).unwrap();
        summaries.with(&["x"]).unwrap().observe(nan);
        floats.add(&["x"], nan).unwrap();
        floats.with(&["x"]).unwrap().add(nan);
    }
    assert_eq!(dropped(&metrics), "27");
    for histogram in [&classic, &exponential] {
        let snapshot = histogram.with(&["x"]).unwrap().snapshot();
        assert_eq!((snapshot.count, snapshot.sum), (0, 0.0));
    }
    assert_eq!(summaries.with(&["x"]).unwrap().snapshot().count, 0);
    assert_eq!(summaries.with(&["x"]).unwrap().quantile(0.5, Duration::from_secs(9)), None);
    assert_eq!(floats.with(&["x"]).unwrap().get(), 0.0);
    checker::read_openmetrics(&metrics.encode_openmetrics());
}

#[test]
fn infinity_is_counted_in_the_outermost_bucket_and_makes_the_sum_infinite() {
    let metrics = MetricsCollector::new();
    let classic = metrics.histogram("a", "A.").buckets([1.0]).register().unwrap().plain();
    let exponential = metrics.histogram("b", "B.").exponential(3).register().unwrap().plain();
    let summary = metrics.summary("c", "C.").register().unwrap().plain();
    for value in [0.5, f64::INFINITY, 1e300] {
        classic.observe(value);
        exponential.observe(value);
        summary.observe(value);
    }
    assert_eq!(classic.snapshot().buckets, [(1.0, 1), (f64::INFINITY, 3)]);
    let buckets = exponential.snapshot().buckets;
    assert_eq!(buckets.last(), Some(&(f64::INFINITY, 3)));
    let wrong = buckets.iter().find(|(bound, count)| *bound < 1e300 && *count > 1);
    assert_eq!(wrong, None, "1e300 is not up to that bound");
    for snapshot in [classic.snapshot(), exponential.snapshot()] {
        assert_eq!((snapshot.count, snapshot.sum), (3, f64::INFINITY));
    }
    // As stated: what is larger counts as 2^64.
    let top = summary.quantile(1.0, Duration::from_secs(9)).unwrap();
    assert!((top / 2_f64.powi(64) - 1.0).abs() < 0.0193, "{top}");
    classic.observe(f64::NEG_INFINITY);
    exponential.observe(f64::NEG_INFINITY);
    assert!(classic.snapshot().sum.is_nan() && exponential.snapshot().sum.is_nan());
    assert_eq!((classic.snapshot().count, exponential.snapshot().count), (4, 4));
    checker::read(&metrics.encode_text());
    checker::read_openmetrics(&metrics.encode_openmetrics());
}

#[test]
fn counters_of_fractions_do_not_fall() {
    let metrics = MetricsCollector::new();
    let work = metrics.float_counter("work_total", "Work.").register().unwrap().plain();
    work.add(1.5);
    for amount in [-1.0, f64::NEG_INFINITY, -f64::MIN_POSITIVE] {
        work.add(amount);
    }
    work.add(-0.0);
    assert_eq!(work.get(), 1.5);
    assert_eq!(dropped(&metrics), "3");
}

#[test]
fn an_observed_counter_that_says_no_count_is_left_out() {
    let metrics = MetricsCollector::new();
    let work = metrics.float_counter("work_total", "Work.").labels(["x"]).register().unwrap();
    work.observe(&["nan"], || Some(f64::NAN)).unwrap();
    work.observe(&["negative"], || Some(-0.5)).unwrap();
    work.observe(&["right"], || Some(0.5)).unwrap();
    let page = checker::read_openmetrics(&metrics.encode_openmetrics());
    assert_eq!(page[0].values("work_total"), [(vec!["right"], "0.5")]);
    assert_eq!(checker::read(&metrics.encode_text())[0].samples.len(), 1);
}

#[test]
fn units_are_checked() {
    let metrics = MetricsCollector::new();
    for (name, unit) in [
        ("run", "seconds"),
        ("run_seconds", "second"),
        ("runseconds", "seconds"),
        ("_seconds", "seconds"),
        ("run_", ""),
        ("run_a-b", "a-b"),
    ] {
        let error = metrics.gauge(name, "Run.").unit(unit).register().unwrap_err();
        let is_named =
            matches!(&error, RegisterError::UnitName { .. } | RegisterError::InvalidName { .. });
        assert!(is_named, "{name} {unit}: {error}");
    }
    let error = metrics.counter("run_total_seconds", "Run.").unit("seconds").register();
    assert!(matches!(error.unwrap_err(), RegisterError::CounterName { .. }));
    metrics.counter("run_seconds_total", "Run.").unit("seconds").register().unwrap();
    metrics.gauge("size_bytes", "Size.").unit("bytes").register().unwrap();
    let conflict = metrics.gauge("size_bytes", "Size.").register().unwrap_err();
    assert!(matches!(conflict, RegisterError::Conflict { clash: Clash::Unit, .. }), "{conflict}");
    let error = metrics.timer("step", "Steps.").register().unwrap_err();
    assert!(matches!(error, RegisterError::UnitName { .. }), "{error}");
}

#[test]
fn buckets_schemas_quantiles_and_windows_are_checked() {
    let metrics = MetricsCollector::new();
    let bounds = |count: usize| (0..count).map(|n| n as f64).collect::<Vec<_>>();
    metrics.histogram("most", "Most.").buckets(bounds(BUCKETS_MAX)).register().unwrap();
    let error = metrics.histogram("more", "More.").buckets(bounds(BUCKETS_MAX + 1)).register();
    assert!(matches!(error.unwrap_err(), RegisterError::InvalidBuckets { .. }));
    let error = metrics.histogram("fine", "Fine.").exponential(6).register().unwrap_err();
    assert_eq!(error, RegisterError::InvalidSchema { name: "fine".to_owned(), schema: 6 });
    let second = Duration::from_secs(1);
    let refused: [(&[f64], &[Duration]); 8] = [
        (&[1.1], &[second]),
        (&[-0.1], &[second]),
        (&[f64::NAN], &[second]),
        (&[0.9, 0.5], &[second]),
        (&[0.5, 0.5], &[second]),
        (&[0.5], &[]),
        (&[0.5], &[Duration::from_millis(999)]),
        (&[0.5], &[2 * second, second]),
    ];
    for (quantiles, windows) in refused {
        let builder = metrics.summary("wait", "Wait.").quantiles(quantiles).windows(windows);
        let error = builder.register().unwrap_err();
        assert!(matches!(error, RegisterError::InvalidSummary { .. }), "{error}");
    }
    let builder = metrics.summary("wait", "Wait.").quantiles([]).windows([second, Duration::MAX]);
    let summary = builder.register().unwrap().plain();
    summary.observe(1.0);
    for quantile in [-0.1, 1.1, f64::NAN] {
        assert_eq!(summary.quantile(quantile, second), None);
    }
    assert!(summary.quantile(0.5, Duration::MAX).is_some());
}

#[test]
fn exemplars_that_cannot_be_shown_are_refused_and_the_value_is_recorded() {
    let metrics = MetricsCollector::new();
    let jobs = metrics.counter("jobs_total", "Jobs.").register().unwrap().plain();
    let size = metrics.histogram("size", "Size.").buckets([1.0]).register().unwrap().plain();
    let long = "é".repeat(128);
    let refused: [&[(&str, &str)]; 6] = [
        &[("", "a")],
        &[("a-b", "a")],
        &[("__a", "a")],
        &[("a", "1"), ("a", "2")],
        &[("a", &long)],
        &[("a", &long[2..]), ("b", "")],
    ];
    for labels in refused {
        let errors = [jobs.add_with_exemplar(1, labels), size.observe_with_exemplar(0.5, labels)];
        for error in errors.map(Result::unwrap_err) {
            let is_named =
                matches!(error, ExemplarError::InvalidLabel { .. } | ExemplarError::TooLong { .. });
            assert!(is_named, "{error}");
        }
    }
    assert_eq!((jobs.get(), size.snapshot().count), (6, 6));
    let page = metrics.encode_openmetrics();
    assert!(!page.contains(" # {"), "{page}");
    jobs.add_with_exemplar(1, &[("a", &long[2..])]).unwrap();
    checker::read_openmetrics(&metrics.encode_openmetrics());
}

#[test]
fn names_that_only_openmetrics_would_confuse_conflict_as_well() {
    let pairs: [(&str, &str); 3] = [
        ("jobs_total", "jobs"),
        ("jobs_total", "jobs_created"),
        ("jobs_seconds_total", "jobs_seconds"),
    ];
    for (counter, gauge) in pairs {
        let metrics = MetricsCollector::new();
        metrics.counter(counter, "Jobs.").register().unwrap();
        let error = metrics.gauge(gauge, "Jobs.").register().unwrap_err();
        assert!(matches!(error, RegisterError::Conflict { clash: Clash::Lines, .. }), "{error}");
        let metrics = MetricsCollector::new();
        metrics.gauge(gauge, "Jobs.").register().unwrap();
        let error = metrics.counter(counter, "Jobs.").register().unwrap_err();
        assert!(matches!(error, RegisterError::Conflict { clash: Clash::Lines, .. }), "{error}");
    }
}
