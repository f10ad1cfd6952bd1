//! The store as a whole, on a disk in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::source::{Point, Source, is_stale};

mod crash;
mod damage;
mod failing_disk;
mod limits;
mod model;
mod sim;
mod tiers;

use sim::SimDisk;

const DIR: &str = "/history";

/// Three tiers that fill quickly, in milliseconds: 1 s for 60 s, 5 s for 600 s, 20 s for ever.
fn small() -> StoreConfig {
    let tier =
        |step, keep| Tier { step: Duration::from_secs(step), keep: Duration::from_secs(keep) };
    StoreConfig {
        tiers: vec![tier(1, 80), tier(5, 600), tier(20, 1 << 30)],
        flush_interval: Duration::from_secs(10),
        merge_rows: 30,
        ..StoreConfig::default()
    }
}

fn open(disk: &Arc<SimDisk>, config: StoreConfig, now_ms: i64) -> (Store, Vec<Finding>) {
    let disk: Arc<dyn Disk> = Arc::clone(disk) as _;
    Store::open_on(disk, Path::new(DIR), config, now_ms).expect("a store that opens")
}

fn named(name: &str) -> Labels {
    Labels::new([("__name__", name)])
}

/// The points of the only series with a name.
fn points(store: &Store, name: &str, start_ms: i64, end_ms: i64, step_ms: i64) -> Vec<Point> {
    let matcher = crate::Matcher::new("__name__", crate::MatchOp::Equal, name).expect("a matcher");
    let series = store.select(&[matcher], start_ms, end_ms, step_ms).expect("points");
    assert!(series.len() <= 1);
    let points = series.into_iter().next().map_or(Vec::new(), |series| series.points);
    assert!(points.is_sorted_by(|one, next| one.time_ms < next.time_ms), "{points:?}");
    points
}

fn bits(points: &[Point]) -> Vec<(i64, u64)> {
    points.iter().map(|point| (point.time_ms, point.value.to_bits())).collect()
}

/// What the counter in these tests is at a time.
fn counter(time_ms: i64) -> f64 {
    (time_ms / 1000 * 7 + time_ms / 1000 % 3) as f64
}

/// Appends a tick a second of a counter and a gauge, and maintains after each.
fn run(store: &Store, seconds: std::ops::RangeInclusive<i64>) -> Vec<FlushError> {
    let count = store.column(&named("count"), ColumnKind::Cumulative);
    let gauge = store.column(&named("gauge"), ColumnKind::Gauge);
    let mut errors = Vec::new();
    for second in seconds {
        let time_ms = second * 1000;
        let tick = [(count, counter(time_ms)), (gauge, (second as f64).sqrt())];
        store.append(time_ms, &tick).expect("a tick in order");
        errors.extend(store.maintain(time_ms).err());
    }
    errors
}

#[test]
fn history_is_there_after_opening_again() {
    let disk = Arc::new(SimDisk::default());
    let (store, findings) = open(&disk, small(), 0);
    assert_eq!(findings, []);
    assert!(run(&store, 1..=55).is_empty());
    store.flush(55_000).expect("a disk that works");
    let before = bits(&points(&store, "gauge", 0, 99_000, 0));
    assert_eq!(before.len(), 55);
    drop(store);

    let (store, findings) = open(&disk, small(), 60_000);
    assert_eq!(findings, []);
    assert_eq!(bits(&points(&store, "gauge", 0, 99_000, 0)), before);
    run(&store, 60..=65);
    assert_eq!(points(&store, "gauge", 0, 99_000, 0).len(), 61);
    assert_eq!(store.series(&[], 0, 1000).expect("series").len(), 2);
}

#[test]
fn a_series_may_have_gaps_and_only_those_with_points_in_the_range_are_found() {
    let store = Store::in_memory(small()).expect("a good configuration");
    let a = store.column(&named("a"), ColumnKind::Gauge);
    let b = store.column(&named("b"), ColumnKind::Gauge);
    for second in 1..=20 {
        let both = [(a, second as f64), (b, -0.0)];
        store.append(second * 1000, if second == 5 { &both } else { &both[..1] }).expect("a tick");
    }
    for maintained in [false, true] {
        if maintained {
            store.flush(20_000).expect("no files");
        }
        let names = |start, end| -> Vec<String> {
            let series = store.series(&[], start, end).expect("series");
            let selected = store.select(&[], start, end, 0).expect("points");
            assert_eq!(
                selected.iter().map(|series| series.labels.clone()).collect::<Vec<_>>(),
                series
            );
            series.iter().map(ToString::to_string).collect()
        };
        assert_eq!(names(0, 4999), ["a"]);
        assert_eq!(names(4000, 5000), ["a", "b"]);
        assert_eq!(names(5001, 20_000), ["a"]);
        assert_eq!(names(20_001, 90_000), [""; 0]);
        assert_eq!(bits(&points(&store, "b", 0, 99_000, 0)), [(5000, (-0.0_f64).to_bits())]);
    }
}

#[test]
fn a_series_that_is_retired_and_comes_back_in_one_tick_keeps_its_value() {
    let store = Store::in_memory(small()).expect("a good configuration");
    let first = store.column(&named("a"), ColumnKind::Cumulative);
    store.append(1000, &[(first, 1.0)]).expect("a tick");
    store.retire(first, 2000);
    let second = store.column(&named("a"), ColumnKind::Cumulative);
    assert_ne!(first, second);
    store.append(2000, &[(second, 2.0)]).expect("a tick");
    store.append(3000, &[(second, 3.0)]).expect("a tick");
    store.retire(second, 3000);
    let expected = [(1000, 1.0), (2000, 2.0), (3000, 3.0)];
    for maintained in [false, true] {
        if maintained {
            store.flush(3000).expect("no files");
        }
        let points = points(&store, "a", 0, 9000, 0);
        assert!(points.pop_if_stale(3001));
        let values: Vec<_> = points[..3].iter().map(|point| (point.time_ms, point.value)).collect();
        assert_eq!(values, expected);
    }
}

trait EndsStale {
    fn pop_if_stale(&self, time_ms: i64) -> bool;
}

impl EndsStale for Vec<Point> {
    fn pop_if_stale(&self, time_ms: i64) -> bool {
        self.last().is_some_and(|last| last.time_ms == time_ms && is_stale(last.value))
    }
}

#[test]
fn a_query_that_would_read_too_much_is_refused() {
    let config = StoreConfig { select_points_max: 50, ..small() };
    let store = Store::in_memory(config).expect("a good configuration");
    run(&store, 1..=30);
    let error = store.select(&[], 0, 99_000, 0).expect_err("60 points");
    assert_eq!(error, crate::SelectError::TooManyPoints { limit: 50 });
    assert_eq!(store.select(&[], 0, 25_000, 0).expect("50 points").len(), 2);
}

#[test]
fn a_clock_set_back_hides_what_was_recorded_for_the_same_time() {
    let disk = Arc::new(SimDisk::default());
    let (store, _) = open(&disk, small(), 0);
    let a = store.column(&named("a"), ColumnKind::Gauge);
    let record = |store: &Store, column, seconds: std::ops::Range<i64>, value| {
        for second in seconds {
            store.append(second * 1000, &[(column, value)]).expect("a tick");
            store.maintain(second * 1000).expect("a disk that works");
        }
    };
    record(&store, a, 1000..1020, 1.0);
    record(&store, a, 910..915, 2.0);
    record(&store, a, 915..1005, 2.0);
    assert_eq!(store.stats().clock_jumps, 1);
    let expected = |points: &[Point]| {
        assert!(
            points
                .iter()
                .all(|point| point.value == if point.time_ms < 1_005_000 { 2.0 } else { 1.0 })
        );
        assert!(points.iter().any(|point| point.time_ms == 1_004_000 && point.value == 2.0));
        assert!(points.iter().any(|point| point.time_ms == 1_019_000));
    };
    expected(&points(&store, "a", 900_000, 2_000_000, 0));
    store.flush(1_005_000).expect("a disk that works");
    drop(store);
    let (store, _) = open(&disk, small(), 1_005_000);
    expected(&points(&store, "a", 900_000, 2_000_000, 0));
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    let check = |change: fn(&mut StoreConfig), expected: &str| {
        let mut config = small();
        change(&mut config);
        let error = Store::in_memory(config).expect_err("a bad configuration").to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(|config| config.tiers.clear(), "at least one tier");
    check(|config| config.tiers.swap(0, 1), "step of tier 1");
    check(|config| config.tiers[0].step = Duration::from_micros(1), "step of tier 0");
    check(|config| config.tiers[0].keep = Duration::from_secs(10), "tier 0 keeps points for 10s");
    check(|config| config.merge_rows = 0, "merge_rows");
    check(|config| config.flush_interval = Duration::ZERO, "flush_interval");
}

/// Points by time.
type Points = BTreeMap<i64, u64>;
