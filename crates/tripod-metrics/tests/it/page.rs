//! The page: its exact text, its order and its escapes.

use tripod_metrics::{MetricsCollector, TEXT_CONTENT_TYPE};

use crate::checker;

#[test]
fn a_page_with_all_types_is_exactly_this() {
    let metrics = MetricsCollector::builder().constant_label("zone", "b").build().unwrap();
    let seconds = metrics.histogram("run_seconds", "Run time.").buckets([0.1, 2.0]);
    let seconds = seconds.labels(["kind"]).register().unwrap();
    let open = metrics.gauge("open", "Open \\ \"now\"\nor soon.").register().unwrap();
    let jobs = metrics.counter("jobs_total", "Jobs.").labels(["kind", "by"]).register().unwrap();
    metrics.gauge("unused", "Has no series.").register().unwrap();
    jobs.with(&["b", "x"]).unwrap().inc();
    jobs.with(&["a", "line\n\"end\"\\"]).unwrap().add(2);
    open.plain().set(-0.25);
    for value in [0.1, 0.5, 2.5, f64::NAN] {
        seconds.with(&["a"]).unwrap().observe(value);
    }
    let expected = r#"# HELP jobs_total Jobs.
# TYPE jobs_total counter
jobs_total{zone="b",kind="b",by="x"} 1
jobs_total{zone="b",kind="a",by="line\n\"end\"\\"} 2
# HELP open Open \\ "now"\nor soon.
# TYPE open gauge
open{zone="b"} -0.25
# HELP run_seconds Run time.
# TYPE run_seconds histogram
run_seconds_bucket{zone="b",kind="a",le="0.1"} 1
run_seconds_bucket{zone="b",kind="a",le="2"} 2
run_seconds_bucket{zone="b",kind="a",le="+Inf"} 3
run_seconds_sum{zone="b",kind="a"} 3.1
run_seconds_count{zone="b",kind="a"} 3
# HELP tripod_metrics_observations_dropped_total Values that could not be recorded: NaN, or negative ones given to a counter.
# TYPE tripod_metrics_observations_dropped_total counter
tripod_metrics_observations_dropped_total{zone="b"} 1
"#;
    assert_eq!(metrics.encode_text(), expected);
    assert_eq!(TEXT_CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    checker::read(expected);
}

#[test]
fn label_values_that_join_to_the_same_text_are_different_series() {
    let metrics = MetricsCollector::new();
    let family = metrics.counter("reads_total", "Reads.").labels(["x", "y"]).register().unwrap();
    let sets =
        [["ab", "c"], ["a", "bc"], ["", "abc"], ["abc", ""], ["a\",y=\"b", "c"], ["a,b", "c"]];
    for (set, amount) in sets.iter().zip(1..) {
        family.with(set).unwrap().add(amount);
    }
    for (set, amount) in sets.iter().zip(1..) {
        assert_eq!(family.with(set).unwrap().get(), amount, "{set:?}");
    }
    let page = checker::read(&metrics.encode_text());
    assert_eq!(page[0].samples.len(), sets.len());
}

#[test]
fn families_are_sorted_by_name_and_series_are_in_the_order_they_came() {
    let metrics = MetricsCollector::new();
    for name in ["c", "a_b", "B", "a"] {
        metrics.gauge(name, "Any.").register().unwrap().plain();
    }
    let family = metrics.gauge("z", "Any.").labels(["x", "y"]).register().unwrap();
    let sets = [["b", "a"], ["a", "b"], ["a", "é"], ["", "z"], ["a", "B"], ["ab", ""]];
    for set in sets {
        family.with(&set).unwrap();
    }
    let page = checker::read(&metrics.encode_text());
    let names: Vec<_> = page.iter().map(|family| family.name.as_str()).collect();
    assert_eq!(names, ["B", "a", "a_b", "c", "z"]);
    let values: Vec<_> = page[4].values("z").into_iter().map(|(labels, _)| labels).collect();
    assert_eq!(values, sets);
}

#[test]
fn counters_are_exact_to_the_last_digit() {
    let metrics = MetricsCollector::new();
    let family = metrics.counter("big_total", "Big.").labels(["n"]).register().unwrap();
    let numbers = [(1 << 53) + 1, u64::MAX - 1, u64::MAX, 999_999_999_999_999_999];
    for number in numbers {
        let counter = family.with(&[&number.to_string()]).unwrap();
        counter.add(number - 1);
        counter.inc();
        assert_eq!(counter.get(), number);
    }
    for (labels, value) in checker::read(&metrics.encode_text())[0].values("big_total") {
        assert_eq!(labels, [value]);
    }
}

#[test]
fn a_long_label_value_of_any_characters_comes_back_whole() {
    let value: String =
        ('\0'..='\u{3ff}').chain(['\u{2028}', '\u{10ffff}']).cycle().take(1 << 20).collect();
    let metrics = MetricsCollector::new();
    let family = metrics.gauge("long", value.as_str()).labels(["x"]).register().unwrap();
    family.with(&[&value]).unwrap();
    let page = checker::read(&metrics.encode_text());
    assert!(page[0].help == value && page[0].samples[0].labels[0].1 == value);
}

#[test]
fn special_values_of_gauges_are_written_as_the_format_wants() {
    let metrics = MetricsCollector::new();
    let gauge = metrics.gauge("any", "Any.").register().unwrap().plain();
    let cases =
        [(f64::NAN, "NaN"), (f64::INFINITY, "+Inf"), (f64::NEG_INFINITY, "-Inf"), (-0.0, "-0")];
    for (number, expected) in cases {
        gauge.set(number);
        assert_eq!(checker::read(&metrics.encode_text())[0].values("any")[0].1, expected);
    }
}

#[test]
fn the_sum_of_nothing_has_no_sign() {
    let metrics = MetricsCollector::new();
    let _seconds = metrics.histogram("run_seconds", "Runs.").register().unwrap().plain();
    assert!(metrics.encode_text().contains("run_seconds_sum 0\n"), "{}", metrics.encode_text());
}
