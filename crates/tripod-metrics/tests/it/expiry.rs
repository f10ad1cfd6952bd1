//! Series that come and go: what removal may never lose, leak or mix up.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use tripod_metrics::snapshot::{Snapshot, Value};
use tripod_metrics::{Counter, Family, MetricsCollector};

use crate::checker;
use crate::clock::{Clock, remove};

const TIMEOUT: Duration = Duration::from_secs(60);

fn expiring(metrics: &MetricsCollector) -> Family<Counter> {
    let builder = metrics.counter("jobs_total", "Jobs.").labels(["by"]).idle_timeout(TIMEOUT);
    builder.register().unwrap()
}

/// The values of the counters of a family, by the value of their first label.
fn counters(snapshot: &Snapshot, name: &str) -> BTreeMap<String, u64> {
    let family = snapshot.families.iter().find(|family| family.name == name);
    let series = family.into_iter().flat_map(|family| &family.series);
    let pairs = series.map(|series| {
        let Value::Counter(count) = series.value else { panic!("{series:?}") };
        (series.labels[0].1.clone(), count)
    });
    pairs.collect()
}

#[test]
fn a_held_handle_is_never_orphaned() {
    let (clock, metrics) = Clock::with_collector();
    let family = expiring(&metrics);
    let held = family.with(&["held"]).unwrap();
    held.inc();
    for _ in 0..5 {
        clock.advance(10 * TIMEOUT);
        assert_eq!(metrics.maintain(), 0);
    }
    held.inc();
    assert!(metrics.encode_text().contains("jobs_total{by=\"held\"} 2\n"));
    // A clone holds it as well, also beyond the first handle.
    let clone = held.clone();
    drop(held);
    clock.advance(10 * TIMEOUT);
    metrics.maintain();
    clock.advance(10 * TIMEOUT);
    assert_eq!(metrics.maintain(), 0);
    clone.inc();
    assert_eq!(family.with(&["held"]).unwrap().get(), 3);
    drop(clone);
    metrics.maintain();
    clock.advance(TIMEOUT);
    remove(&metrics, 1);
    assert!(!metrics.encode_text().contains("held"));
}

#[test]
fn a_series_is_removed_after_the_timeout_and_not_before() {
    let (clock, metrics) = Clock::with_collector();
    let family = expiring(&metrics);
    family.inc(&["a"]).unwrap();
    metrics.maintain();
    clock.advance(TIMEOUT - Duration::from_millis(1));
    assert_eq!(metrics.maintain(), 0);
    clock.advance(Duration::from_millis(1));
    remove(&metrics, 1);
    family.inc(&["a"]).unwrap();
    assert_eq!(counters(&metrics.snapshot(), "jobs_total"), [("a".to_owned(), 1)].into());
}

#[test]
fn a_clock_that_went_back_does_not_keep_series_for_ever() {
    let (clock, metrics) = Clock::with_collector();
    let family = expiring(&metrics);
    let day = Duration::from_secs(86_400);
    clock.advance(1000 * day);
    family.inc(&["a"]).unwrap();
    metrics.maintain();
    clock.go_back(1000 * day);
    assert_eq!(metrics.maintain(), 0, "nobody knows how long it has been idle");
    clock.advance(TIMEOUT);
    remove(&metrics, 1);
}

/// Takes a page, and lets something happen after its first piece.
struct Interrupted<F: FnMut()> {
    page: String,
    between: Option<F>,
}

impl<F: FnMut()> Write for Interrupted<F> {
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        self.page.push_str(piece);
        if self.page.contains("jobs_total{")
            && let Some(mut between) = self.between.take()
        {
            between();
        }
        Ok(())
    }
}

#[test]
fn a_series_in_the_place_of_a_removed_one_is_not_shown_with_its_value() {
    let (clock, metrics) = Clock::with_collector();
    let builder = metrics.counter("jobs_total", "Jobs.").labels(["by"]).idle_timeout(TIMEOUT);
    let family = builder.max_series(usize::MAX).register().unwrap();
    let mut held: Vec<Counter> =
        (0..3000).map(|n| family.with(&[&n.to_string()]).unwrap()).collect();
    held.iter().for_each(|counter| counter.add(100));
    // Those in the middle go while a page is written, wherever it paused, and others come.
    drop(held.drain(1000..2100));
    metrics.maintain();
    clock.advance(TIMEOUT);
    let between = || {
        remove(&metrics, 1100);
        (0..1100).for_each(|n| drop(family.with(&[&format!("new{n}")]).unwrap()));
    };
    let mut out = Interrupted { page: String::new(), between: Some(between) };
    metrics.write_text(&mut out).unwrap();
    let page = checker::read(&out.page);
    let new = page[0].values("jobs_total").into_iter().filter(|(by, _)| by[0].starts_with("new"));
    let wrong: Vec<_> = new.filter(|(_, value)| *value != "0").collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
