//! What a collector finds again, and what it must not.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::directory::find;
use super::ledger::Ledger;
use super::*;
use crate::snapshot::Value;
use crate::sync::Arc;
use crate::{Counter, Family, Histogram, MetricsCollector};

const BOOT: Boot = Boot([1; 16]);

fn open_as(directory: &Path, boot: Boot, zone: &str) -> (MetricsCollector, Resumed) {
    let builder = MetricsCollector::builder().constant_label("zone", zone);
    builder.build_with(|constant| open_in(directory, boot, constant)).unwrap()
}

fn open(directory: &Path) -> (MetricsCollector, Resumed) {
    open_as(directory, BOOT, "a")
}

fn counters(metrics: &MetricsCollector) -> Family<Counter> {
    metrics.counter("jobs_total", "Jobs.").labels(["kind"]).register().unwrap()
}

fn count(metrics: &MetricsCollector, kind: &str) -> u64 {
    counters(metrics).with(&[kind]).unwrap().get()
}

fn classic(metrics: &MetricsCollector, bounds: &[f64]) -> Histogram {
    metrics.histogram("size", "Size.").buckets(bounds).register().unwrap().plain()
}

/// Everything that can be resumed, after `values` were recorded in it.
fn record(metrics: &MetricsCollector, values: &[f64]) {
    let float = metrics.float_counter("busy_total", "Busy.").register().unwrap().plain();
    let native = metrics.histogram("native", "N.").exponential(3).register().unwrap().plain();
    let summary = metrics.summary("summary", "S.").labels(["x"]).register().unwrap();
    let classic = classic(metrics, &[0.0, 1.0, 10.0]);
    for value in values {
        counters(metrics).inc(&["a"]).unwrap();
        counters(metrics).add(&["b"], 10).unwrap();
        float.add(value.abs());
        native.observe(*value);
        summary.observe(&["y"], *value).unwrap();
        classic.observe(*value);
    }
}

/// What `record` makes, but for quantiles.
fn values(metrics: &MetricsCollector) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for family in metrics.snapshot().families {
        for series in family.series {
            let value = match series.value {
                Value::Summary(mut summary) => {
                    summary.quantiles.clear();
                    summary.by_window.clear();
                    Value::Summary(summary)
                }
                value => value,
            };
            all.push((format!("{}{:?}", family.name, series.labels), value));
        }
    }
    all
}

#[test]
fn every_kind_goes_on_where_it_stopped() {
    let place = tempfile::tempdir().unwrap();
    let halves = [[0.5, -3.0, 0.0, 1e-30, 7.25], [2e20, -1e9, 0.1, 0.7, -0.0]];
    let expected = MetricsCollector::builder().constant_label("zone", "a").build().unwrap();
    for (done, half) in halves.iter().enumerate() {
        let (metrics, resumed) = open(place.path());
        assert_eq!(resumed.series, if done == 0 { 0 } else { 6 }, "{resumed:?}");
        assert_eq!(resumed.generation, done as u64 + 1);
        record(&metrics, &[]);
        record(&metrics, half);
        record(&expected, half);
    }
    let (metrics, resumed) = open(place.path());
    assert_eq!(resumed.start, Start::Continued);
    record(&metrics, &[]);
    counters(&metrics).add(&["a"], 0).unwrap();
    counters(&metrics).add(&["b"], 0).unwrap();
    metrics.summary("summary", "S.").labels(["x"]).register().unwrap().with(&["y"]).unwrap();
    let own = |(name, _): &(String, Value)| !name.starts_with("tripod_metrics_resume");
    let found: Vec<_> = values(&metrics).into_iter().filter(own).collect();
    assert_eq!(found, values(&expected));
    assert!(found.len() >= 6, "{found:?}");
}

#[test]
fn the_window_of_a_summary_starts_empty() {
    let place = tempfile::tempdir().unwrap();
    let window = Duration::from_secs(60);
    let summary =
        |metrics: &MetricsCollector| metrics.summary("run", "Runs.").register().unwrap().plain();
    let (metrics, _) = open(place.path());
    summary(&metrics).observe(5.0);
    drop(metrics);
    let (metrics, _) = open(place.path());
    let summary = summary(&metrics);
    assert_eq!(summary.quantile(0.5, window), None);
    assert_eq!((summary.snapshot().count, summary.snapshot().sum), (1, 5.0));
    summary.observe(100.0);
    let median = summary.quantile(0.5, window).unwrap();
    assert!((median - 100.0).abs() < 2.0, "{median}");
}

#[test]
fn a_series_keeps_the_time_when_it_was_first_made() {
    let place = tempfile::tempdir().unwrap();
    for second in [100, 200] {
        let builder = MetricsCollector::builder();
        let builder = builder.clock(move || UNIX_EPOCH + Duration::from_secs(second));
        let (metrics, _) = builder.build_with(|own| open_in(place.path(), BOOT, own)).unwrap();
        counters(&metrics).inc(&["old"]).unwrap();
        let created = |kind: &str| -> SystemTime {
            counters(&metrics).inc(&[kind]).unwrap();
            let families = metrics.snapshot().families;
            let family = families.into_iter().find(|family| family.name == "jobs_total").unwrap();
            let series = family.series.iter().find(|series| series.labels[0].1 == kind);
            series.unwrap().created
        };
        assert_eq!(created("old"), UNIX_EPOCH + Duration::from_secs(100));
        let new = second.to_string();
        assert_eq!(created(&new), UNIX_EPOCH + Duration::from_secs(second));
    }
}

#[test]
fn counting_starts_from_zero_after_a_reboot() {
    let place = tempfile::tempdir().unwrap();
    let (metrics, _) = open(place.path());
    counters(&metrics).add(&["a"], 5).unwrap();
    drop(metrics);
    let (metrics, resumed) = open_as(place.path(), Boot([2; 16]), "a");
    assert_eq!((resumed.start, resumed.series), (Start::Rebooted, 0));
    assert_eq!(count(&metrics, "a"), 0);
    drop(metrics);
    // The files are now of the second boot, and nothing is left of the first.
    let (_, resumed) = open(place.path());
    assert_eq!(resumed.start, Start::Rebooted);
}

#[test]
fn other_constant_labels_are_other_series() {
    let place = tempfile::tempdir().unwrap();
    let (metrics, _) = open(place.path());
    counters(&metrics).add(&["a"], 5).unwrap();
    drop(metrics);
    let (metrics, resumed) = open_as(place.path(), BOOT, "b");
    assert_eq!(resumed.start, Start::OtherLabels);
    assert_eq!(count(&metrics, "a"), 0);
}

#[test]
fn a_copy_of_the_files_is_not_taken_for_them() {
    let place = tempfile::tempdir().unwrap();
    let (metrics, _) = open(place.path());
    counters(&metrics).add(&["a"], 5).unwrap();
    for name in ["tripod-metrics.series", "tripod-metrics.cells.1"] {
        let copy = place.path().join("copy");
        fs::copy(place.path().join(name), &copy).unwrap();
        counters(&metrics).add(&["a"], 1).unwrap();
        fs::rename(&copy, place.path().join(name)).unwrap();
    }
    drop(metrics);
    let (metrics, resumed) = open(place.path());
    assert_eq!(resumed.start, Start::Copied);
    assert_eq!(count(&metrics, "a"), 0);
}

#[test]
fn a_removed_series_and_the_next_one_in_its_cells_have_each_their_own() {
    let place = tempfile::tempdir().unwrap();
    let now_ms = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&now_ms);
    let builder = MetricsCollector::builder()
        .clock(move || UNIX_EPOCH + Duration::from_millis(clock.load(Ordering::Relaxed)));
    let (metrics, _) = builder.build_with(|own| open_in(place.path(), BOOT, own)).unwrap();
    let timeout = Duration::from_secs(1);
    let jobs = metrics.counter("jobs_total", "Jobs.").labels(["kind"]).idle_timeout(timeout);
    let jobs = jobs.register().unwrap();
    let native = metrics.histogram("native", "N.").labels(["kind"]).exponential(0);
    let native = native.idle_timeout(timeout).register().unwrap();
    jobs.add(&["old"], 1000).unwrap();
    native.observe(&["old"], 3.0).unwrap();
    for _ in 0..3 {
        now_ms.fetch_add(2000, Ordering::Relaxed);
        metrics.maintain();
    }
    assert!(!metrics.encode_text().contains("old"), "{}", metrics.encode_text());
    jobs.add(&["new"], 3).unwrap();
    native.observe(&["new"], 50.0).unwrap();
    drop((jobs, native, metrics));

    let builder = MetricsCollector::builder();
    let (metrics, resumed) = builder.build_with(|own| open_in(place.path(), BOOT, own)).unwrap();
    assert_eq!((resumed.start, resumed.series), (Start::Continued, 2));
    assert_eq!((count(&metrics, "old"), count(&metrics, "new")), (0, 3));
    let native = metrics.histogram("native", "N.").labels(["kind"]).exponential(0);
    let native = native.register().unwrap();
    assert_eq!(native.with(&["old"]).unwrap().snapshot().count, 0);
    assert_eq!(native.with(&["new"]).unwrap().snapshot().sum, 50.0);
}

#[test]
fn a_name_that_stood_for_something_else_meanwhile_starts_from_zero() {
    let place = tempfile::tempdir().unwrap();
    let bounds: [&[f64]; 3] = [&[1.0, 2.0], &[1.0, 3.0], &[1.0, 2.0]];
    for bounds in bounds {
        let (metrics, _) = open(place.path());
        let histogram = classic(&metrics, bounds);
        assert_eq!(histogram.snapshot().count, 0, "{bounds:?}");
        histogram.observe(1.5);
    }
    // The same with what does not go on: a gauge, and an observed series.
    let place = tempfile::tempdir().unwrap();
    let (metrics, _) = open(place.path());
    classic(&metrics, &[1.0]).observe(1.5);
    counters(&metrics).inc(&["a"]).unwrap();
    drop(metrics);
    let (metrics, _) = open(place.path());
    metrics.gauge("size", "Size.").register().unwrap().plain().set(3.0);
    counters(&metrics).observe(&["a"], || Some(7)).unwrap();
    drop(metrics);
    let (metrics, _) = open(place.path());
    assert_eq!(classic(&metrics, &[1.0]).snapshot().count, 0);
    assert_eq!(count(&metrics, "a"), 0);
}

#[test]
fn a_series_may_be_left_out_once() {
    let place = tempfile::tempdir().unwrap();
    let (metrics, _) = open(place.path());
    counters(&metrics).add(&["a"], 5).unwrap();
    counters(&metrics).add(&["b"], 5).unwrap();
    drop(metrics);
    for (a, b) in [(None, Some(5)), (Some(5), None), (None, None), (Some(5), Some(0))] {
        let (metrics, resumed) = open(place.path());
        assert_eq!(resumed.start, Start::Continued);
        assert_eq!(count(&metrics, "other"), 0);
        for (kind, expected) in [("a", a), ("b", b)] {
            if let Some(expected) = expected {
                assert_eq!(count(&metrics, kind), expected, "{kind}");
            }
        }
    }
}

#[test]
fn a_directory_has_one_collector_at_a_time() {
    let place = tempfile::tempdir().unwrap();
    let (metrics, _) = open(place.path());
    counters(&metrics).inc(&["a"]).unwrap();
    let second = MetricsCollector::builder().build_resumed(place.path()).unwrap_err();
    let ResumeError::InUse { process, .. } = &second else { panic!("{second}") };
    assert_eq!(*process, Some(std::process::id()));
    assert!(second.to_string().contains(&format!("in use by process {}", std::process::id())));
    drop(metrics);
    // This thread still owns a chunk of the first; that is in nobody's way.
    assert_eq!(open(place.path()).1.start, Start::Continued);
}

#[test]
fn a_directory_that_cannot_be_had_is_an_error_that_names_it() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    for directory in [file.join("below"), "/proc/self".into(), "/sys/kernel".into()] {
        let refused = MetricsCollector::builder().build_resumed(&directory).unwrap_err();
        assert!(matches!(refused, ResumeError::Io { .. }), "{refused}");
        assert!(refused.to_string().contains(directory.to_str().unwrap()), "{refused}");
    }
    let refused = MetricsCollector::builder().constant_label("le", "1").build_resumed(&file);
    assert!(matches!(refused, Err(ResumeError::Labels(_))), "{refused:?}");
}

#[test]
fn a_directory_that_everybody_may_write_to_is_refused() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let refused = MetricsCollector::builder().build_resumed(place.path()).unwrap_err();
    assert!(matches!(refused, ResumeError::Exposed { .. }), "{refused}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "and nothing is put there");
}

#[test]
fn a_read_only_directory_is_an_error() {
    let place = tempfile::tempdir().unwrap();
    let mut permissions = fs::metadata(place.path()).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(place.path(), permissions).unwrap();
    if fs::write(place.path().join("probe"), "").is_ok() {
        eprintln!("skipped: this user may write to everything");
        return;
    }
    let refused = MetricsCollector::builder().build_resumed(place.path()).unwrap_err();
    assert!(refused.to_string().starts_with("cannot open "), "{refused}");
}

#[test]
fn without_room_counting_goes_on_and_the_next_process_starts_from_zero() {
    let place = tempfile::tempdir().unwrap();
    let (metrics, _) = open(place.path());
    counters(&metrics).add(&["a"], 5).unwrap();
    metrics.shared().keeper.as_ref().unwrap().fill_up();
    // One more chunk, and one more series.
    std::thread::scope(|scope| {
        scope.spawn(|| counters(&metrics).add(&["a"], 2).unwrap());
    });
    counters(&metrics).add(&["b"], 3).unwrap();
    assert_eq!((count(&metrics, "a"), count(&metrics, "b")), (7, 3));
    let page = metrics.encode_text();
    assert!(page.contains("tripod_metrics_resume_failures_total{zone=\"a\"} 2\n"), "{page}");
    drop(metrics);
    let (metrics, resumed) = open(place.path());
    assert_eq!(resumed.start, Start::GivenUp);
    assert_eq!(count(&metrics, "a"), 0);
    drop(metrics);
    assert_eq!(open(place.path()).1.start, Start::Continued, "that was the end of it");
}

#[test]
fn records_that_no_longer_hold_are_left_out_in_time() {
    const ROUNDS: u64 = 40;
    const SERIES: u64 = 1000;
    let place = tempfile::tempdir().unwrap();
    let now_ms = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&now_ms);
    let builder = MetricsCollector::builder()
        .clock(move || UNIX_EPOCH + Duration::from_millis(clock.load(Ordering::Relaxed)));
    let (metrics, _) = builder.build_with(|own| open_in(place.path(), BOOT, own)).unwrap();
    let jobs = metrics.counter("jobs_total", "Jobs.").labels(["kind"]);
    let jobs = jobs.idle_timeout(Duration::from_secs(1)).register().unwrap();
    let kept = jobs.with(&["kept"]).unwrap();
    for round in 0..ROUNDS {
        (0..SERIES).for_each(|one| jobs.inc(&[&format!("{round}/{one}")]).unwrap());
        kept.inc();
        now_ms.fetch_add(10_000, Ordering::Relaxed);
        metrics.maintain();
        metrics.maintain();
    }
    let length = fs::metadata(place.path().join("tripod-metrics.series")).unwrap().len();
    assert!(length < 3 << 20, "{length} bytes for at most {} series", 2 * SERIES);
    assert!(length > PAGE_BYTES_OF_HEADER, "{length}");
    jobs.add(&["last"], 9).unwrap();
    drop((jobs, kept, metrics));
    let builder = MetricsCollector::builder();
    let (metrics, resumed) = builder.build_with(|own| open_in(place.path(), BOOT, own)).unwrap();
    // Those of the last round have not been idle for long enough.
    let left = SERIES as usize + 2;
    assert_eq!((resumed.start, resumed.series), (Start::Continued, left));
    assert_eq!((count(&metrics, "kept"), count(&metrics, "last")), (ROUNDS, 9));
}

const PAGE_BYTES_OF_HEADER: u64 = crate::cells::PAGE_BYTES as u64;

#[test]
fn threads_that_come_and_go_use_the_same_pages() {
    let place = tempfile::tempdir().unwrap();
    let (metrics, _) = open(place.path());
    let jobs = counters(&metrics).with(&["a"]).unwrap();
    for _ in 0..200 {
        std::thread::scope(|scope| drop(scope.spawn(|| jobs.inc())));
    }
    let length = fs::metadata(place.path().join("tripod-metrics.cells.1")).unwrap().len();
    assert_eq!(length, 8 * PAGE_BYTES_OF_HEADER);
    drop((jobs, metrics));
    assert_eq!(count(&open(place.path()).0, "a"), 200);
}

/// What is found in a directory: everything, or nothing.
fn found(place: &Path) -> Option<Ledger> {
    let found = find(place, BOOT, "zone=\"a\"").unwrap();
    let is_continued = found.start == Start::Continued;
    assert!(is_continued || found.ledger == Ledger::default(), "{:?}", found.start);
    is_continued.then_some(found.ledger)
}

#[test]
fn a_byte_that_changed_never_changes_a_number() {
    let place = tempfile::tempdir().unwrap();
    let (metrics, _) = open(place.path());
    record(&metrics, &[0.5, -3.0, 0.0]);
    drop(metrics);
    let (metrics, _) = open(place.path());
    // Some series are registered and some are not, so that there are records of every type.
    record(&metrics, &[]);
    counters(&metrics).inc(&["a"]).unwrap();
    drop(metrics);

    let path = place.path().join("tripod-metrics.series");
    let bytes = fs::read(&path).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    let expected = found(place.path()).expect("nothing is damaged yet");
    let mut noticed = 0;
    for (offset, byte) in bytes.iter().enumerate() {
        // Where nothing is written, every hundredth is enough.
        if (80..4096).contains(&offset) && offset % 100 != 0 {
            continue;
        }
        for flip in [1, 0x80, 0xff] {
            file.write_all_at(&[byte ^ flip], offset as u64).unwrap();
            match found(place.path()) {
                Some(ledger) => assert_eq!(ledger, expected, "{flip} at {offset}"),
                None => noticed += 1,
            }
        }
        file.write_all_at(&[*byte], offset as u64).unwrap();
    }
    assert!(noticed > 3 * 500, "{noticed} of {} bytes", bytes.len());
    for length in 0..bytes.len() as u64 {
        if (80..4096).contains(&length) && length % 100 != 0 {
            continue;
        }
        file.set_len(length).unwrap();
        assert_eq!(found(place.path()), None, "{length} bytes");
        file.write_all_at(&bytes, 0).unwrap();
    }
    assert_eq!(found(place.path()), Some(expected));
}

#[test]
fn damaged_files_are_put_aside() {
    let place = tempfile::tempdir().unwrap();
    let cells = |place: &Path| place.join("tripod-metrics.cells.1");
    let (metrics, _) = open(place.path());
    counters(&metrics).add(&["a"], 5).unwrap();
    drop(metrics);
    let file = fs::File::options().write(true).open(cells(place.path())).unwrap();
    file.set_len(4095).unwrap();
    let (metrics, resumed) = open(place.path());
    let Start::Damaged { kept_as, .. } = &resumed.start else { panic!("{resumed:?}") };
    assert!(kept_as.exists() && !cells(place.path()).exists());
    assert_eq!(
        fs::metadata(place.path().join("tripod-metrics.damaged-cells")).unwrap().len(),
        4095
    );
    counters(&metrics).add(&["a"], 1).unwrap();
    drop(metrics);
    let (metrics, resumed) = open(place.path());
    assert_eq!(resumed.start, Start::Continued);
    assert_eq!(count(&metrics, "a"), 1);
    drop(metrics);
    // Without its cells, a series is not worth anything.
    fs::remove_file(place.path().join("tripod-metrics.cells.3")).unwrap();
    assert!(matches!(open(place.path()).1.start, Start::Damaged { .. }));
}
