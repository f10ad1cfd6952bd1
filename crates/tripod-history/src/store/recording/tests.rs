use super::*;

const LIMIT: usize = 1 << 20;

fn labels(name: &str) -> Arc<Labels> {
    Arc::new(Labels::new([("__name__", name)]))
}

/// All points, as name, time and value, with "stale" for markers.
fn points(rows: &Rows) -> Vec<String> {
    let mut points = Vec::new();
    for row in &rows.rows {
        row.for_each(|slot, value| {
            let column = rows.table[slot as usize].as_ref().expect("a slot with a series");
            let value = if crate::is_stale(value) { "stale".to_owned() } else { value.to_string() };
            points.push(format!("{}@{}={value}", column.labels.name().unwrap_or(""), row.time_ms));
        });
    }
    points
}

#[test]
fn a_tick_that_is_not_after_the_newest_is_dropped_and_counted() {
    let mut recording = Recording::default();
    let a = recording.column(labels("a"), ColumnKind::Gauge);
    assert_eq!(recording.append(100_000, &[(a, 1.0)], LIMIT), Ok(()));
    for time_ms in [100_000, 99_999, 40_000] {
        let error = AppendError::NotAfter { time_ms, newest_ms: 100_000 };
        assert_eq!(recording.append(time_ms, &[(a, 2.0)], LIMIT), Err(error));
    }
    assert_eq!(recording.counts.ticks_dropped, 3);
    assert_eq!(points(&recording.view()), ["a@100000=1"]);

    // Further back than a minute the clock was set; recording goes on there.
    assert_eq!(recording.append(39_999, &[(a, 3.0)], LIMIT), Ok(()));
    assert_eq!(recording.counts.clock_jumps, 1);
    assert_eq!(recording.view().ascending().count(), 2);
}

#[test]
fn the_newest_time_is_known_after_the_rows_have_left() {
    let mut recording = Recording::default();
    let a = recording.column(labels("a"), ColumnKind::Gauge);
    recording.append(5000, &[(a, 1.0)], LIMIT).expect("the first tick");
    let (_, mark) = recording.sealed(false);
    assert_eq!(recording.forget(mark).len(), 1);
    assert_eq!(recording.bytes(), 0);
    assert!(recording.append(5000, &[(a, 1.0)], LIMIT).is_err());
}

#[test]
fn a_retired_series_ends_with_a_marker_and_its_id_means_nothing() {
    let mut recording = Recording::default();
    let (a, b) = (labels("a"), labels("b"));
    let (a, b) = (recording.column(a, ColumnKind::Gauge), recording.column(b, ColumnKind::Gauge));
    recording.append(1000, &[(a, 1.0), (b, 1.0)], LIMIT).expect("a tick");
    assert!(recording.retire(a, 1000));
    assert!(!recording.retire(a, 1000));
    assert_eq!(points(&recording.view()), ["a@1000=1", "b@1000=1", "a@1001=stale"]);
    recording.append(2000, &[(a, 9.0), (b, 2.0)], LIMIT).expect("a tick");
    assert_eq!(recording.counts.samples_of_retired, 1);
    let all = ["a@1000=1", "b@1000=1", "a@1001=stale", "b@2000=2"];
    assert_eq!(points(&recording.view()), all);
}

#[test]
fn a_marker_and_a_tick_of_the_same_time_are_one_row() {
    let mut recording = Recording::default();
    let (a, b) = (labels("a"), labels("b"));
    let (a, b) = (recording.column(a, ColumnKind::Gauge), recording.column(b, ColumnKind::Gauge));
    recording.append(1000, &[(a, 1.0), (b, 1.0)], LIMIT).expect("a tick");
    recording.retire(a, 2000);
    recording.append(2000, &[(b, 2.0)], LIMIT).expect("a tick");
    assert_eq!(points(&recording.view()), ["a@1000=1", "b@1000=1", "a@2000=stale", "b@2000=2"]);
    assert_eq!(recording.row_count(), 2);
}

#[test]
fn a_marker_ahead_of_time_does_not_keep_ticks_away() {
    let mut recording = Recording::default();
    let (a, b) = (labels("a"), labels("b"));
    let (a, b) = (recording.column(a, ColumnKind::Gauge), recording.column(b, ColumnKind::Gauge));
    recording.append(1000, &[(a, 1.0), (b, 1.0)], LIMIT).expect("a tick");
    recording.retire(a, 9000);
    recording.append(2000, &[(b, 2.0)], LIMIT).expect("a tick");
    assert_eq!(points(&recording.view())[2..], ["a@2000=stale", "b@2000=2"]);
}

#[test]
fn a_slot_is_used_again_only_when_no_row_with_the_old_series_is_left() {
    let mut recording = Recording::default();
    let a = recording.column(labels("a"), ColumnKind::Gauge);
    recording.append(1000, &[(a, 1.0)], LIMIT).expect("a tick");
    recording.retire(a, 1000);

    // The marker still waits, so its slot has to as well.
    let (_, mark) = recording.sealed(false);
    recording.forget(mark);
    let b = recording.column(labels("b"), ColumnKind::Gauge);
    assert_ne!(b.slot, a.slot);

    let (rows, mark) = recording.sealed(true);
    assert_eq!(points(&rows), ["a@1001=stale"]);
    recording.forget(mark);
    let c = recording.column(labels("c"), ColumnKind::Gauge);
    assert_eq!(c.slot, a.slot);
    assert_ne!(c, a);
    recording.append(3000, &[(a, 9.0), (c, 3.0)], LIMIT).expect("a tick");
    assert_eq!(points(&recording.view()), ["c@3000=3"]);
}

#[test]
fn rows_that_nobody_seals_are_refused_at_the_limit() {
    let mut recording = Recording::default();
    let a = recording.column(labels("a"), ColumnKind::Gauge);
    let refused = (1..).find(|tick| recording.append(*tick, &[(a, 1.0)], 10_000).is_err());
    assert!(recording.bytes() < 10_200);
    assert!(refused.is_some_and(|tick| tick > 50), "{refused:?}");
    let (_, mark) = recording.sealed(false);
    recording.forget(mark);
    assert_eq!(recording.append(1 << 40, &[(a, 1.0)], 10_000), Ok(()));
}
