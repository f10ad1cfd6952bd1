//! Label sets: which are the same, how many there may be, and what happens beyond.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Barrier;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tripod_metrics::{Counter, DEFAULT_SERIES_MAX, Family, MetricsCollector};

use crate::checker;
use crate::clock::{Clock, remove};
use crate::short_threads::resident_bytes;

fn counters(metrics: &MetricsCollector) -> Family<Counter> {
    metrics.counter("jobs_total", "Jobs.").labels(["x", "y"]).register().unwrap()
}

#[test]
fn the_same_pairs_are_the_same_series_and_the_order_is_that_of_the_names() {
    let metrics = MetricsCollector::new();
    let family = counters(&metrics);
    family.inc(&["1", "2"]).unwrap();
    family.inc(&["2", "1"]).unwrap();
    family.with(&["1", "2"]).unwrap().inc();
    let page = checker::read(&metrics.encode_text());
    assert_eq!(page[0].values("jobs_total"), [(vec!["1", "2"], "2"), (vec!["2", "1"], "1")]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Texts that could be confused: of few characters, among them all that separate something.
    #[test]
    fn label_sets_are_the_same_only_if_all_values_are(
        sets in prop::collection::vec(
            (r#"[ab,="\\\n}é]{0,4}"#, r#"[ab,="\\\n}é]{0,4}"#), 1..200),
    ) {
        let metrics = MetricsCollector::new();
        let family = counters(&metrics);
        for (x, y) in &sets {
            family.inc(&[x, y]).unwrap();
            family.with(&[x, y]).unwrap().inc();
        }
        let distinct: BTreeSet<_> = sets.iter().collect();
        for (x, y) in &distinct {
            let times = sets.iter().filter(|set| (&set.0, &set.1) == (x, y)).count();
            prop_assert_eq!(family.with(&[x, y]).unwrap().get(), 2 * times as u64);
        }
        let page = checker::read(&metrics.encode_text());
        prop_assert_eq!(page[0].samples.len(), distinct.len());
    }
}

#[test]
fn a_megabyte_of_label_is_looked_up_like_any_other() {
    let metrics = MetricsCollector::new();
    let family = counters(&metrics);
    let long = "\"é\n".repeat(1 << 18);
    let almost = format!("{long}a");
    for _ in 0..3 {
        family.inc(&[&long, ""]).unwrap();
        family.inc(&["", &long]).unwrap();
        family.inc(&[&almost, ""]).unwrap();
    }
    for page in [
        checker::read(&metrics.encode_text()),
        checker::read_openmetrics(&metrics.encode_openmetrics()),
    ] {
        let values = page[0].values("jobs_total");
        let expected = [(vec![&*long, ""], "3"), (vec!["", &long], "3"), (vec![&almost, ""], "3")];
        assert!(values == expected, "{} series", values.len());
    }
}

#[test]
fn eight_threads_that_look_up_the_same_new_label_set_share_one_series() {
    const THREADS: usize = 8;
    const EACH: u64 = 10_000;
    for round in 0..20 {
        let metrics = MetricsCollector::new();
        let family = counters(&metrics);
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    (0..EACH / 20).for_each(|_| family.inc(&["new", "one"]).unwrap());
                });
            }
        });
        let page = checker::read(&metrics.encode_text());
        let expected = (THREADS as u64 * EACH / 20).to_string();
        assert_eq!(page[0].values("jobs_total"), [(vec!["new", "one"], &*expected)], "{round}");
    }
}

#[test]
fn a_million_label_sets_are_two_thousand_series_and_the_total_is_kept() {
    const SETS: u64 = 1_000_000;
    let metrics = MetricsCollector::new();
    let family = counters(&metrics);
    let before = resident_bytes();
    let threads = 4;
    thread::scope(|scope| {
        for thread in 0..threads {
            let family = &family;
            scope.spawn(move || {
                let mut value = String::new();
                for n in (thread..SETS).step_by(threads as usize) {
                    value.clear();
                    write!(value, "{n}").unwrap();
                    family.inc(&[&value, "y"]).unwrap();
                }
            });
        }
    });
    // All of them would be more than 100 MB. Other tests run beside this one, hence the margin.
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 60 << 20, "{grown} bytes more");
    let page = metrics.encode_text();
    let families = checker::check(&page).unwrap();
    let jobs = families.iter().find(|family| family.name == "jobs_total").unwrap();
    let values = jobs.values("jobs_total");
    assert_eq!(values.len(), DEFAULT_SERIES_MAX + 1);
    let total: u64 = values.iter().map(|(_, value)| value.parse::<u64>().unwrap()).sum();
    assert_eq!(total, SETS);
    let overflow = jobs.samples.iter().find(|sample| sample.labels[0].0 == "otel_metric_overflow");
    let beyond = (SETS - DEFAULT_SERIES_MAX as u64).to_string();
    assert_eq!(overflow.map(|sample| &sample.value), Some(&beyond));
    let tells = "tripod_metrics_label_sets_overflowed_total{family=\"jobs_total\"}";
    assert!(page.contains(&format!("{tells} {beyond}\n")), "{tells} must say {beyond}");
}

#[test]
fn a_limit_holds_beyond_removals() {
    let (clock, metrics) = Clock::with_collector();
    let minute = Duration::from_secs(60);
    let builder = metrics.counter("jobs_total", "Jobs.").labels(["x"]);
    let family = builder.max_series(2).idle_timeout(minute).register().unwrap();
    for round in 0..5 {
        ["a", "b", "c", "d"].iter().for_each(|x| family.inc(&[&format!("{x}{round}")]).unwrap());
        let page = checker::read(&metrics.encode_text());
        let values = page[0].values("jobs_total");
        let places = [vec![format!("a{round}")], vec![format!("b{round}")], vec!["true".into()]];
        let found: BTreeSet<Vec<String>> = values
            .iter()
            .map(|(labels, _)| labels.iter().map(|label| (*label).to_owned()).collect())
            .collect();
        assert_eq!(found, places.into_iter().collect());
        assert!(values.contains(&(vec!["true"], "2")), "{values:?}");
        metrics.maintain();
        clock.advance(minute);
        remove(&metrics, 3);
    }
    // One that is removed makes room for one.
    let held = family.with(&["held"]).unwrap();
    ["b", "c"].iter().for_each(|x| family.inc(&[x]).unwrap());
    let overflow = family.with(&["d"]).unwrap();
    metrics.maintain();
    clock.advance(minute);
    remove(&metrics, 1);
    family.inc(&["e"]).unwrap();
    let page = metrics.encode_text();
    assert!(page.contains("jobs_total{x=\"e\"} 1\n"), "{page}");
    drop((held, overflow));
}

/// What comes and goes without a scrape takes the room of what is there at once.
#[test]
fn series_that_come_and_go_leave_no_values_or_exemplars_behind() {
    let (clock, metrics) = Clock::with_collector();
    let minute = Duration::from_secs(60);
    let counters = metrics.counter("jobs_total", "Jobs.").labels(["x"]).idle_timeout(minute);
    let counters = counters.register().unwrap();
    let floats = metrics.float_counter("work_total", "Work.").labels(["x"]).idle_timeout(minute);
    let floats = floats.register().unwrap();
    let gauges = metrics.gauge("level", "Level.").labels(["x"]).idle_timeout(minute);
    let gauges = gauges.register().unwrap();
    let classic = metrics.histogram("size", "Size.").labels(["x"]).idle_timeout(minute);
    let classic = classic.register().unwrap();
    let exponential = metrics.histogram("wait", "Wait.").labels(["x"]).idle_timeout(minute);
    let exponential = exponential.exponential(3).register().unwrap();
    let summaries = metrics.summary("age", "Age.").labels(["x"]).idle_timeout(minute);
    let summaries = summaries.register().unwrap();
    for round in 0..30 {
        for n in 0..100 {
            let x = &*format!("{round}-{n}");
            counters.with(&[x]).unwrap().add_with_exemplar(7, &[("of", x)]).unwrap();
            floats.add(&[x], 0.5).unwrap();
            gauges.set(&[x], 3.0).unwrap();
            classic.with(&[x]).unwrap().observe_with_exemplar(0.3, &[("of", x)]).unwrap();
            exponential.with(&[x]).unwrap().observe(-0.3);
            summaries.observe(&[x], 0.3).unwrap();
        }
        let page = checker::read_openmetrics(&metrics.encode_openmetrics());
        for sample in page.iter().flat_map(|family| &family.samples) {
            assert!(sample.labels[0].1.starts_with(&format!("{round}-")), "{sample:?}");
            let exemplar = sample.exemplar.as_ref().map(|exemplar| &exemplar.labels[0].1);
            assert!(exemplar.is_none_or(|of| *of == sample.labels[0].1), "{sample:?}");
            match sample.name.as_str() {
                "jobs_total" => assert_eq!(sample.value, "7"),
                "work_total" => assert_eq!(sample.value, "0.5"),
                name if name.ends_with("_count") => assert_eq!(sample.value, "1"),
                _ => {}
            }
        }
        metrics.maintain();
        clock.advance(minute);
        remove(&metrics, 600);
    }
    // A new series in the place of an old one has none of its exemplars.
    drop(counters.with(&["new"]).unwrap());
    drop(classic.with(&["new"]).unwrap());
    assert!(!metrics.encode_openmetrics().contains(" # {"));
}

#[test]
fn recorders_go_on_while_a_hundred_thousand_series_are_removed() {
    const SERIES: usize = 100_000;
    let (clock, metrics) = Clock::with_collector();
    let minute = Duration::from_secs(60);
    let builder = metrics.counter("jobs_total", "Jobs.").labels(["x", "y"]);
    let family = builder.max_series(usize::MAX).idle_timeout(minute).register().unwrap();
    (0..SERIES).for_each(|n| family.inc(&[&n.to_string(), "y"]).unwrap());
    metrics.maintain();
    clock.advance(minute);
    let held = family.with(&["held", "y"]).unwrap();
    let (done, is_done) = channel::<()>();
    thread::scope(|scope| {
        let metrics = &metrics;
        let remover = scope.spawn(move || {
            remove(metrics, SERIES);
            drop(done);
        });
        // Counts what goes on meanwhile, through a handle and by look-up; times are only shown.
        let (mut steps, mut longest) = (0_u64, Duration::ZERO);
        while is_done.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            let start = Instant::now();
            held.inc();
            family.inc(&["held", "y"]).unwrap();
            longest = longest.max(start.elapsed());
            steps += 1;
        }
        remover.join().unwrap();
        println!("{steps} steps meanwhile, the longest took {longest:?}");
        assert!(steps > 100, "{steps} steps while {SERIES} series were removed");
        assert_eq!(held.get(), 2 * steps);
    });
    assert_eq!(checker::read(&metrics.encode_text())[0].samples.len(), 1);
}
