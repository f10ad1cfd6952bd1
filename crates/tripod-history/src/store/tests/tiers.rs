//! Days of history in a moment.

use super::*;

fn increase(points: &[Point]) -> f64 {
    let grown = |pair: &[Point]| {
        if pair[1].value < pair[0].value { pair[1].value } else { pair[1].value - pair[0].value }
    };
    points.windows(2).map(grown).sum()
}

/// A counter that starts from 0 again every 1000 ticks.
fn resetting(tick: i64) -> f64 {
    (tick % 1000 * 3) as f64
}

#[test]
fn thirty_days_fit_the_tiers_and_growth_stays_what_it_was() {
    // A tick every 15 s keeps the test short; the tiers are the default ones.
    let disk = Arc::new(SimDisk::default());
    let (store, _) = open(&disk, StoreConfig::default(), 0);
    let count = store.column(&named("count"), ColumnKind::Cumulative);
    let ticks = 31 * 24 * 3600 / 15;
    for tick in 1..=ticks {
        store.append(tick * 15_000, &[(count, resetting(tick))]).expect("a tick");
        store.maintain(tick * 15_000).expect("a disk that works");
    }
    let end = ticks * 15_000;
    let hour = 3_600_000;
    let spacing = |from: i64, to: i64, step: i64| {
        let points = points(&store, "count", from, to, step);
        let truth: f64 = (from / 15_000 + 1..=to / 15_000)
            .skip_while(|tick| tick * 15_000 <= points[0].time_ms)
            .take_while(|tick| tick * 15_000 <= points[points.len() - 1].time_ms)
            .map(|tick| if tick % 1000 == 0 { 0.0 } else { 3.0 })
            .sum();
        assert_eq!(increase(&points), truth);
        let mut steps: Vec<_> =
            points.windows(2).map(|pair| pair[1].time_ms - pair[0].time_ms).collect();
        steps.sort_unstable();
        steps[steps.len() / 2]
    };
    assert_eq!(spacing(end - 10 * 60_000, end, 0), 15_000);
    assert_eq!(spacing(end - 23 * hour, end, 0), 15_000);
    assert_eq!(spacing(end - 23 * hour, end, 60_000), 15_000);
    assert_eq!(spacing(end - 23 * hour, end - hour, 300_000), 300_000);
    assert_eq!(spacing(end - 29 * 24 * hour, end - 3 * 24 * hour, 0), 300_000);
    assert_eq!(spacing(end - 29 * 24 * hour, end, 300_000), 300_000);

    let all = points(&store, "count", 0, end, 0);
    let first = all[0].time_ms;
    assert!(end - first >= 30 * 24 * hour && end - first < 33 * 24 * hour, "{}", end - first);
    assert_eq!(store.stats().samples, ticks as u64);
    let stats = store.stats();
    assert!(stats.blocks < 100 && stats.disk_bytes < 100_000, "{stats:?}");
}

#[test]
fn a_query_takes_the_coarsest_tier_that_suffices_and_each_moment_once() {
    let store = Store::in_memory(small()).expect("a good configuration");
    run(&store, 1..=400);
    let steps = |start: i64, end: i64, step: i64| -> Vec<i64> {
        let points = points(&store, "gauge", start * 1000, end * 1000, step);
        let mut steps: Vec<i64> =
            points.windows(2).map(|pair| (pair[1].time_ms - pair[0].time_ms) / 1000).collect();
        steps.dedup();
        steps
    };
    assert_eq!(steps(370, 400, 0), [1]);
    assert_eq!(steps(200, 290, 5000), [5]);
    assert_eq!(steps(200, 290, 19_999), [5]);
    assert_eq!(steps(100, 200, 20_000), [20]);
    // Of what the coarse tier does not have yet, the finer ones give the rest up to now.
    let mixed = steps(200, 400, 20_000);
    assert_eq!(mixed.first(), Some(&20));
    assert!(mixed.is_sorted_by(|one, next| one > next), "{mixed:?}");
    let last = points(&store, "gauge", 0, 400_000, 20_000).last().map(|point| point.time_ms);
    assert_eq!(last, Some(400_000));
    // And of what the finest has no more, the coarser ones.
    let mixed = steps(200, 400, 0);
    assert_eq!((mixed.first(), mixed.last()), (Some(&5), Some(&1)));
    assert!(mixed.is_sorted_by(|one, next| one > next), "{mixed:?}");
}

#[test]
fn tiers_may_be_configured_anew() {
    let disk = Arc::new(SimDisk::default());
    let (store, _) = open(&disk, small(), 0);
    run(&store, 1..=300);
    store.flush(300_000).expect("a disk that works");
    let before = bits(&points(&store, "gauge", 0, 300_000, 0));
    drop(store);

    let mut config = small();
    config.tiers[1].step = Duration::from_secs(4);
    config.tiers[2].step = Duration::from_secs(30);
    let (store, findings) = open(&disk, config, 300_000);
    assert_eq!(findings, []);
    assert_eq!(bits(&points(&store, "gauge", 0, 300_000, 0)), before);
    assert!(run(&store, 301..=500).is_empty());
    let found = points(&store, "count", 0, 500_000, 0);
    assert!(found.iter().all(|point| point.value == counter(point.time_ms)));

    let mut config = small();
    config.tiers.truncate(1);
    let (store, findings) = open(&disk, config, 500_000);
    assert_eq!(findings, []);
    assert!(!points(&store, "count", 0, 500_000, 0).is_empty());
}
