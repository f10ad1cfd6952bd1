//! The engine as a whole, over small sources: limits, stopping, errors.

use super::*;
use crate::labels::Labels;
use crate::matcher::Matcher;
use crate::source::{Point, STALE_NAN, SelectError};

/// `x{n="0"}` to `x{n="9"}`, a point each second from 0 to 600 s with the value of the second; and
/// `ended`, which is stale from 100 s on.
struct Ten;

impl Source for Ten {
    fn select(
        &self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        _: i64,
    ) -> Result<Vec<SeriesPoints>, SelectError> {
        let ended = Labels::new([("__name__", "ended")]);
        let numbers =
            (0..10).map(|n: u32| Labels::new([("__name__", "x"), ("n", &*n.to_string())]));
        let meant = [ended].into_iter().chain(numbers);
        let meant = meant.filter(|labels| matchers.iter().all(|matcher| matcher.matches(labels)));
        let series = meant.map(|labels| {
            let last_s = if labels.name() == Some("ended") { 100 } else { 600 };
            let times = (0..=last_s).map(|second| second * 1000);
            let points = times.filter(|time| (start_ms..=end_ms).contains(time)).map(|time_ms| {
                let stale = last_s == 100 && time_ms == 100_000;
                Point { time_ms, value: if stale { STALE_NAN } else { time_ms as f64 / 1000.0 } }
            });
            SeriesPoints { points: points.collect(), labels }
        });
        Ok(series.filter(|series| !series.points.is_empty()).collect())
    }
}

/// A source that fails.
struct Broken;

impl Source for Broken {
    fn select(
        &self,
        _: &[Matcher],
        _: i64,
        _: i64,
        _: i64,
    ) -> Result<Vec<SeriesPoints>, SelectError> {
        Err(SelectError::Read("block 7 is damaged".to_owned()))
    }
}

/// A source that has nothing, and keeps what it was asked for: start, end and step.
#[derive(Default)]
struct Asked(std::sync::Mutex<Vec<(i64, i64, i64)>>);

impl Source for Asked {
    fn select(
        &self,
        _: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<Vec<SeriesPoints>, SelectError> {
        self.0.lock().expect("no panic before").push((start_ms, end_ms, step_ms));
        Ok(Vec::new())
    }
}

fn small(samples_max: usize) -> Engine {
    Engine::new(Limits { samples_max, ..Limits::default() })
}

fn count(value: &QueryValue) -> usize {
    match value {
        QueryValue::Vector(samples) => samples.len(),
        QueryValue::Matrix(matrix) => matrix.iter().map(|series| series.points.len()).sum(),
        _ => 1,
    }
}

#[test]
fn a_series_is_seen_until_its_stale_marker_and_for_the_lookback() {
    let engine = Engine::default();
    let seen = |query: &str, time_ms| count(&engine.instant(&Ten, query, time_ms).expect(query));
    assert_eq!(seen("ended", 99_999), 1);
    assert_eq!(seen("ended", 100_000), 0);
    assert_eq!(seen("x", 900_000), 10);
    assert_eq!(seen("x", 900_001), 0);
    let value = engine.instant(&Ten, "count_over_time(ended[1m])", 120_000).expect("a vector");
    let QueryValue::Vector(samples) = value else { panic!("a vector") };
    assert_eq!(samples[0].point.value, 40.0, "60 to 99 s, both included, without the marker");
}

#[test]
fn a_source_is_asked_for_no_more_than_is_needed() {
    let engine = Engine::default();
    let instant = |query: &str| {
        let source = Asked::default();
        engine.instant(&source, query, 600_000).expect(query);
        source.0.into_inner().expect("no panic before")
    };
    let range = |query: &str| {
        let source = Asked::default();
        engine.range(&source, query, 600_000, 660_000, 15_000).expect(query);
        source.0.into_inner().expect("no panic before")
    };
    assert_eq!(instant("x"), [(300_000, 600_000, 0)]);
    assert_eq!(instant("rate(x[1m] offset 1m)"), [(480_000, 540_000, 0)]);
    assert_eq!(instant("max_over_time(x[5m:1m])"), [(0, 600_000, 60_000)]);
    assert_eq!(instant("1 + time()"), []);
    assert_eq!(range("x"), [(300_000, 660_000, 15_000)]);
    assert_eq!(range("x @ 100 offset -10s"), [(-190_000, 110_000, 15_000)]);
    assert_eq!(range("rate(x[1m])"), [(540_000, 660_000, 3_750)]);
    assert_eq!(range("x / x").len(), 2);
}

#[test]
fn the_limit_counts_what_is_held_and_forgets_what_is_gone() {
    let read = small(10 * 301 + 11);
    assert_eq!(read.instant(&Ten, "x", 300_000).map(|value| count(&value)), Ok(10));
    let too_many = Err(QueryError::TooManySamples { limit: 100 });
    assert_eq!(small(100).instant(&Ten, "x", 300_000), too_many);
    // Each half fits by itself, and what one read is gone when the other reads.
    assert!(read.instant(&Ten, "count(x) + count(x)", 300_000).is_ok());
    let many_steps = small(100).range(&Ten, "1", 0, 100_000, 1_000);
    assert_eq!(many_steps, too_many);
}

#[test]
fn a_subquery_of_endless_steps_ends_at_the_limit() {
    let query = "max_over_time(vector(1)[100y:1ms])";
    let error = Engine::default().instant(&Ten, query, 0).expect_err("too much");
    assert!(matches!(error, QueryError::TooManySamples { .. }), "{error}");
}

#[test]
fn ranges_have_an_end_a_step_and_a_limit() {
    let engine = Engine::default();
    let kind = |start, end, step| {
        engine.range(&Ten, "x", start, end, step).map_err(|error| error.kind()).map(|_| ())
    };
    assert_eq!(kind(0, 11_000, 1), Ok(()));
    assert_eq!(kind(0, 11_001, 1), Err(ErrorKind::BadQuery));
    assert_eq!(kind(1, 0, 1), Err(ErrorKind::BadQuery));
    assert_eq!(kind(0, 1, 0), Err(ErrorKind::BadQuery));
    assert_eq!(kind(i64::MIN, i64::MAX, 1), Err(ErrorKind::BadQuery));
    for query in ["x[5m]", "\"text\""] {
        let error = engine.range(&Ten, query, 0, 1, 1).expect_err("no vector");
        assert_eq!(error.kind(), ErrorKind::BadQuery);
    }
}

#[test]
fn a_source_that_fails_is_an_internal_error() {
    let error = Engine::default().instant(&Broken, "sum(x)", 0).expect_err("it fails");
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains("block 7"), "{error}");
}

#[test]
fn the_first_reason_to_stop_stays() {
    let stop = Stop::default();
    let engine = Engine::default().stopped_by(stop.clone());
    assert!(engine.instant(&Ten, "x", 0).is_ok());
    stop.cancel();
    stop.time_out();
    assert_eq!(engine.instant(&Ten, "x", 0), Err(QueryError::Canceled));
}

#[test]
fn the_deepest_queries_are_answered_on_a_small_stack() {
    let small = std::thread::Builder::new().stack_size(2 << 20);
    let run = small.spawn(|| {
        let engine = Engine::default();
        let around = |open: &str, inner: String, close: &str, count: usize| {
            format!("{}{inner}{}", open.repeat(count), close.repeat(count))
        };
        let chain = |link: &str| format!("x{}", link.repeat(128));
        let sums = around("sum by (n) (", chain(" + x"), ")", 63);
        let powers = around("abs(", chain(" ^ x"), ")", 64);
        let clamped = around("clamp_min(", chain(" or x"), ", 1)", 64);
        let nested = around("min_over_time((", "x".to_owned(), ")[2m:1m])", 12);
        for query in [sums, powers, clamped, nested] {
            assert_eq!(engine.instant(&Ten, &query, 300_000).map(|value| count(&value)), Ok(10));
        }
    });
    run.expect("a thread").join().expect("no overflow");
}

#[test]
fn errors_name_the_series_that_clash() {
    let engine = Engine::default();
    let error = engine.instant(&Ten, "label_replace(x, \"n\", \"1\", \"\", \"\")", 0);
    assert_eq!(
        error.expect_err("ten become one").to_string(),
        r#"vector cannot contain metrics with the same labelset: x{n="1"} occurs twice"#
    );
    let error = engine.instant(&Ten, "x + on() x", 0).expect_err("many to many");
    assert!(matches!(error, QueryError::ManyToMany { side: "right", .. }), "{error}");
}

#[test]
fn label_names_are_those_of_prometheus() {
    assert!(["a", "_", "__name__", "a1_B"].into_iter().all(is_label_name));
    assert!(!["", "1a", "a-b", "é", "a:b", "a b"].into_iter().any(is_label_name));
}
