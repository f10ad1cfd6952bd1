//! Observed gauges: when they are read, what they may do, and what replaces them.

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tripod_metrics::{LabelError, MetricsCollector};

use crate::checker;

#[test]
fn an_observer_is_read_anew_on_every_export_and_only_then() {
    let metrics = MetricsCollector::new();
    let reads = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&reads);
    let family = metrics.gauge("reads", "Reads.").register().unwrap();
    family
        .observe(&[], move || Some(f64::from(counted.fetch_add(1, Ordering::SeqCst) + 1)))
        .unwrap();
    assert_eq!(reads.load(Ordering::SeqCst), 0);
    for expected in ["1", "2"] {
        assert_eq!(checker::read(&metrics.encode_text())[0].values("reads")[0].1, expected);
    }
}

#[test]
fn an_observer_without_a_value_leaves_its_series_out() {
    let metrics = MetricsCollector::new();
    let family = metrics.gauge("level", "Level.").labels(["tank"]).register().unwrap();
    family.observe(&["empty"], || None).unwrap();
    assert_eq!(checker::read(&metrics.encode_text()), []);
    family.observe(&["full"], || Some(f64::INFINITY)).unwrap();
    family.with(&["set"]).unwrap().set(2.0);
    let page = checker::read(&metrics.encode_text());
    assert_eq!(page[0].values("level"), [(vec!["full"], "+Inf"), (vec!["set"], "2")]);
}

#[test]
fn a_series_is_either_observed_or_set_by_hand() {
    let metrics = MetricsCollector::new();
    let family = metrics.gauge("level", "Level.").labels(["tank"]).register().unwrap();
    family.observe(&["a"], || Some(1.0)).unwrap();
    let refused = family.with(&["a"]).unwrap_err();
    let (name, values) = ("level".to_owned(), vec!["a".to_owned()]);
    assert_eq!(refused, LabelError::Observed { family: name, values });

    let held = family.with(&["b"]).unwrap();
    let refused = family.observe(&["b"], || Some(7.0)).unwrap_err();
    let (name, values) = ("level".to_owned(), vec!["b".to_owned()]);
    assert_eq!(refused, LabelError::SetByHand { family: name, values });
    held.set(2.0);
    let page = checker::read(&metrics.encode_text());
    assert_eq!(page[0].values("level"), [(vec!["a"], "1"), (vec!["b"], "2")]);

    let refused = family.observe(&[], || None).unwrap_err();
    assert_eq!(refused, LabelError::Count { family: "level".to_owned(), expected: 1, got: 0 });
}

#[test]
fn an_observer_may_use_the_collector_and_its_own_family() {
    let metrics = MetricsCollector::new();
    let family = metrics.gauge("level", "Level.").labels(["tank"]).register().unwrap();
    let (inner_metrics, inner_family) = (metrics.clone(), family.clone());
    family
        .observe(&["a"], move || {
            inner_family.with(&["b"]).unwrap().add(1.0);
            let calls = inner_metrics.counter("calls_total", "Calls.").register().unwrap().plain();
            calls.inc();
            Some(calls.get() as f64)
        })
        .unwrap();
    let first = checker::read(&metrics.encode_text());
    assert_eq!(first.len(), 1);
    // The counter stands before the gauge, so the page has it from before this call.
    let page = checker::read(&metrics.encode_text());
    assert_eq!(page[0].values("calls_total")[0].1, "1");
    assert_eq!(page[1].values("level"), [(vec!["a"], "2"), (vec!["b"], "2")]);
}

/// Uses a collector when dropped, as the state of an observer may.
struct CountsOnDrop(MetricsCollector);

impl Drop for CountsOnDrop {
    fn drop(&mut self) {
        let drops = self
            .0
            .gauge("drops", "Drops.")
            .labels(["why"])
            .register()
            .expect("the description is that of the test");
        drops.with(&["dropped"]).expect("it has one label").add(1.0);
    }
}

#[test]
fn a_replaced_or_refused_observer_is_dropped_outside_of_any_lock() {
    let metrics = MetricsCollector::new();
    let family = metrics.gauge("drops", "Drops.").labels(["why"]).register().unwrap();
    let observe = |value: &'static str| {
        let state = CountsOnDrop(metrics.clone());
        family.observe(&[value], move || {
            let _held = &state;
            Some(5.0)
        })
    };
    observe("observed").unwrap();
    family.observe(&["observed"], || Some(6.0)).unwrap();
    observe("dropped").unwrap_err();
    let page = checker::read(&metrics.encode_text());
    assert_eq!(page[0].values("drops"), [(vec!["observed"], "6"), (vec!["dropped"], "2")]);
    family.observe(&["observed"], || None).unwrap();
}

#[test]
fn a_panic_in_an_observer_leaves_the_collector_usable() {
    let metrics = MetricsCollector::new();
    let family = metrics.gauge("level", "Level.").register().unwrap();
    family.observe(&[], || panic!("no level")).unwrap();
    catch_unwind(AssertUnwindSafe(|| metrics.encode_text())).unwrap_err();
    family.observe(&[], || Some(1.0)).unwrap();
    assert_eq!(checker::read(&metrics.encode_text())[0].values("level")[0].1, "1");
}

/// Uses the collector on every write, and fails at the end of its room.
struct BusyWriter {
    metrics: MetricsCollector,
    room: usize,
}

impl Write for BusyWriter {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let written = self
            .metrics
            .counter("written_total", "Bytes.")
            .register()
            .expect("the description is that of the test");
        written.plain().add(text.len() as u64);
        self.room = self.room.checked_sub(text.len()).ok_or(std::fmt::Error)?;
        Ok(())
    }
}

#[test]
fn a_page_is_written_without_locks_and_a_failed_write_is_reported() {
    let metrics = MetricsCollector::new();
    let written = metrics.counter("written_total", "Bytes.").register().unwrap().plain();
    let length = metrics.encode_text().len();
    let mut roomy = BusyWriter { metrics: metrics.clone(), room: length + 20 };
    metrics.write_text(&mut roomy).unwrap();
    assert!(written.get() >= length as u64);
    let mut narrow = BusyWriter { metrics: metrics.clone(), room: 30 };
    metrics.write_text(&mut narrow).unwrap_err();
}

/// The clock is code of the user too: it is not asked under a lock.
#[test]
fn a_clock_may_use_the_collector() {
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicBool;
    use std::time::{Duration, SystemTime};

    let used: Arc<OnceLock<MetricsCollector>> = Arc::default();
    let (own, is_asked) = (Arc::clone(&used), AtomicBool::new(false));
    let clock = move || {
        // Once within itself is enough.
        if let Some(metrics) = own.get().filter(|_| !is_asked.swap(true, Ordering::SeqCst)) {
            for set in 0..3 {
                let family = metrics.counter("asked_total", "Asked.").labels(["x"]);
                family.register().unwrap().inc(&[&format!("clock {set}")]).unwrap();
                let family = metrics.summary("took_seconds", "Took.").labels(["x"]);
                family.register().unwrap().observe(&["clock"], 1.0).unwrap();
            }
            drop(metrics.encode_text());
            is_asked.store(false, Ordering::SeqCst);
        }
        SystemTime::now()
    };
    let metrics = MetricsCollector::builder().clock(clock).build().unwrap();
    let asked = metrics.counter("asked_total", "Asked.").labels(["x"]).register().unwrap();
    let took = metrics.summary("took_seconds", "Took.").labels(["x"]).register().unwrap();
    used.set(metrics.clone()).unwrap();
    // In a thread, so that a deadlock fails and does not hang.
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        asked.inc(&["new"]).unwrap();
        took.observe(&["new"], 1.0).unwrap();
        asked.observe(&["observed"], || Some(1)).unwrap();
        metrics.maintain();
        done.send(metrics.encode_openmetrics()).unwrap();
    });
    let page = is_done.recv_timeout(Duration::from_secs(20)).expect("the clock waited for a lock");
    assert!(page.contains("asked_total{x=\"clock 2\"}"), "{page}");
}
