use proptest::prelude::*;

use super::*;
use crate::labels::Labels;
use crate::source::STALE_NAN;

/// Feeds points of one series, and one that ends all intervals, and returns what is kept.
fn kept(kind: ColumnKind, step_ms: i64, points: &[(i64, f64)]) -> Vec<(i64, f64)> {
    let column = |name| Some(Column { labels: Arc::new(Labels::new([("__name__", name)])), kind });
    let table = Arc::new(vec![column("a"), column("end")]);
    let mut rows: Vec<_> =
        points.iter().map(|(time, value)| Arc::new(Row::new(*time, 2, &[(0, *value)]))).collect();
    rows.push(Arc::new(Row::new(1 << 40, 2, &[(1, 0.0)])));
    let mut downsampler = Downsampler::new(step_ms);
    // In pieces, as it comes.
    for rows in rows.chunks(3) {
        downsampler.feed(&Rows { table: Arc::clone(&table), rows: rows.to_vec() });
    }
    let out = downsampler.drain();
    assert_eq!(out.ascending().count(), usize::from(!out.rows.is_empty()));
    out.rows.iter().filter_map(|row| Some((row.time_ms, row.get(0)?))).collect()
}

#[track_caller]
fn check(kind: ColumnKind, points: &[(i64, f64)], expected: &[(i64, f64)]) {
    let bits = |points: &[(i64, f64)]| -> Vec<_> {
        points.iter().map(|(time, value)| (*time, value.to_bits())).collect()
    };
    assert_eq!(bits(&kept(kind, 10, points)), bits(expected), "{points:?}");
}

#[test]
fn of_each_interval_the_last_point_is_kept_where_it_was() {
    let points: Vec<_> = (1..=30).map(|time| (time, time as f64)).collect();
    check(ColumnKind::Gauge, &points, &[(10, 10.0), (20, 20.0), (30, 30.0)]);
    // An interval ends at a whole multiple, so 11 begins the next one.
    check(ColumnKind::Gauge, &[(9, 1.0), (11, 2.0)], &[(9, 1.0), (11, 2.0)]);
    check(ColumnKind::Gauge, &[(-10, 1.0), (-9, 2.0), (0, 3.0)], &[(-10, 1.0), (0, 3.0)]);
}

#[test]
fn a_cumulative_series_keeps_its_first_point_and_those_around_a_reset() {
    let points = [(1, 5.0), (4, 8.0), (6, 1.0), (9, 2.0), (15, 3.0), (16, 0.0), (17, 4.0)];
    let expected = [(1, 5.0), (4, 8.0), (6, 1.0), (9, 2.0), (15, 3.0), (16, 0.0), (17, 4.0)];
    check(ColumnKind::Cumulative, &points, &expected);
    check(ColumnKind::Gauge, &points, &[(9, 2.0), (17, 4.0)]);
}

#[test]
fn a_stale_marker_stays_if_nothing_comes_after_it_in_its_interval() {
    let points = [(5, 1.0), (6, STALE_NAN), (15, STALE_NAN), (18, 2.0), (25, 3.0)];
    let expected = [(5, 1.0), (6, STALE_NAN), (18, 2.0), (25, 3.0)];
    check(ColumnKind::Gauge, &points, &expected);
    // A counter that comes back has not grown meanwhile, whatever it says.
    let points = [(3, 1.0), (5, 4.0), (6, STALE_NAN), (8, 9.0), (9, 10.0)];
    let expected = [(3, 1.0), (5, 4.0), (6, STALE_NAN), (8, 9.0), (9, 10.0)];
    check(ColumnKind::Cumulative, &points, &expected);
}

#[test]
fn a_clock_that_goes_back_begins_anew() {
    let points = [(101, 5.0), (105, 7.0), (11, 8.0), (12, 9.0), (21, 10.0)];
    let column = Column { labels: Arc::default(), kind: ColumnKind::Cumulative };
    let table = Arc::new(vec![Some(column)]);
    let row = |(time, value): &(i64, f64)| Arc::new(Row::new(*time, 1, &[(0, *value)]));
    let mut downsampler = Downsampler::new(10);
    downsampler.feed(&Rows { table, rows: points.iter().map(row).collect() });
    let out = downsampler.drain();
    let times: Vec<Vec<i64>> =
        out.ascending().map(|rows| rows.iter().map(|row| row.time_ms).collect()).collect();
    assert_eq!(times, [vec![101, 105], vec![11, 12]]);
}

#[test]
fn slots_of_series_that_are_gone_are_used_again() {
    let mut downsampler = Downsampler::new(10);
    for round in 0..50_i64 {
        let labels = Arc::new(Labels::new([("round", round.to_string())]));
        let table = Arc::new(vec![Some(Column { labels, kind: ColumnKind::Cumulative })]);
        let rows = (1..=25).map(|tick| Arc::new(Row::new(round * 100 + tick, 1, &[(0, 1.0)])));
        downsampler.feed(&Rows { table, rows: rows.collect() });
        let out = downsampler.drain();
        let last = out.rows.last().expect("rows");
        last.for_each(|slot, _| {
            let column = out.table[slot as usize].as_ref().expect("a series");
            assert_eq!(column.labels.get("round"), Some(&*round.to_string()));
        });
    }
    assert!(downsampler.states.len() < 8, "{}", downsampler.states.len());
}

/// As PromQL counts it: what came after a fall counts from 0.
fn increase(points: &[(i64, f64)]) -> f64 {
    let grown = |pair: &[(i64, f64)]| {
        let (before, after) = (pair[0].1, pair[1].1);
        if after < before { after } else { after - before }
    };
    points.windows(2).map(grown).sum()
}

proptest! {
    #[test]
    fn growth_and_resets_between_interval_ends_are_what_they_were(
        steps in prop::collection::vec((1_i64..9, 0_u32..20), 2..200),
    ) {
        let (mut time, mut value) = (0, 0.0);
        let points: Vec<_> = steps
            .iter()
            .map(|(step, grow)| {
                time += step;
                value = if *grow == 0 { 1.0 } else { value + f64::from(*grow) };
                (time, value)
            })
            .collect();
        let kept = kept(ColumnKind::Cumulative, 20, &points);
        prop_assert!(kept.iter().all(|point| points.contains(point)));
        prop_assert_eq!(kept.first(), points.first());
        prop_assert_eq!(kept.last(), points.last());
        for end in (20..=time).step_by(20) {
            let until = |points: &[(i64, f64)]| -> Vec<_> {
                points.iter().copied().filter(|(time, _)| *time <= end).collect()
            };
            prop_assert_eq!(increase(&until(&kept)), increase(&until(&points)), "until {}", end);
        }
    }
}
