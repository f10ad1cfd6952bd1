//! The recorder of the `metrics` facade, through its macros.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, SystemTime};

use std::collections::{BTreeMap, HashMap};

use metrics::{
    Key, Label, Level, Metadata, Recorder, Unit, counter, gauge, histogram, with_local_recorder,
};
use proptest::prelude::*;
use tripod_metrics::MetricsCollector;
use tripod_metrics::facade::{DEFAULT_HELP, FacadeRecorder};

use crate::checker;

const REFUSED: &str = "tripod_metrics_facade_refused_total";

fn facade() -> (MetricsCollector, FacadeRecorder) {
    let collector = MetricsCollector::new();
    let recorder = FacadeRecorder::builder(&collector).build().expect("the collector is new");
    (collector, recorder)
}

/// The page of what `record` records, judged by the strict reader.
fn page_of(
    recorder: &FacadeRecorder,
    collector: &MetricsCollector,
    record: impl FnOnce(),
) -> String {
    with_local_recorder(recorder, record);
    let page = collector.encode_text();
    checker::read(&page);
    page
}

/// The lines of the page that begin with `start`.
fn lines<'a>(page: &'a str, start: &str) -> Vec<&'a str> {
    page.lines().filter(|line| line.starts_with(start)).collect()
}

#[test]
fn every_macro_lands_in_the_collector() {
    let (collector, recorder) = facade();
    let page = page_of(&recorder, &collector, || {
        metrics::describe_counter!("http.requests", "Requests answered.");
        metrics::describe_gauge!("room.celsius", "Of the room.");
        metrics::describe_histogram!("rpc-seconds", Unit::Seconds, "Time of a call.");
        counter!("http.requests", "status" => "200").increment(2);
        counter!("http.requests", "status" => "200").absolute(7);
        counter!("http.requests", "status" => "200").absolute(5);
        gauge!("room.celsius").set(20.0);
        gauge!("room.celsius").increment(2.5);
        gauge!("room.celsius").decrement(1.0);
        histogram!("rpc-seconds").record(0.75);
        histogram!("rpc-seconds").record_many(3.0, 2);
    });
    assert!(page.contains("# HELP http_requests_total Requests answered.\n"), "{page}");
    assert_eq!(lines(&page, "http_requests"), ["http_requests_total{status=\"200\"} 7"]);
    assert_eq!(lines(&page, "room"), ["room_celsius 21.5"]);
    assert_eq!(lines(&page, "rpc_seconds_count"), ["rpc_seconds_count 3"]);
    assert_eq!(lines(&page, "rpc_seconds_sum"), ["rpc_seconds_sum 6.75"]);
    assert!(collector.encode_openmetrics().contains("# UNIT rpc_seconds seconds\n"));
    assert!(lines(&page, REFUSED).is_empty(), "{page}");
}

#[test]
fn labels_in_another_order_are_the_same_series_and_other_values_are_not() {
    let (collector, recorder) = facade();
    let page = page_of(&recorder, &collector, || {
        counter!("x", "a" => "1", "b" => "2", "c" => "3").increment(1);
        counter!("x", "c" => "3", "a" => "1", "b" => "2").increment(1);
        // A thread that remembers nothing yet.
        let record = || counter!("x", "b" => "2", "c" => "3", "a" => "1").increment(1);
        std::thread::scope(|scope| {
            scope.spawn(|| with_local_recorder(&recorder, record));
        });
        counter!("y", "x" => "ab", "y" => "c").increment(1);
        counter!("y", "x" => "a", "y" => "bc").increment(2);
        counter!("y", "x" => "a").increment(3);
        counter!("y", "z" => String::from("\"\\\n,é")).increment(4);
        counter!("y").increment(5);
    });
    assert_eq!(lines(&page, "x_total"), ["x_total{a=\"1\",b=\"2\",c=\"3\"} 3"]);
    assert_eq!(
        lines(&page, "y_total"),
        [
            "y_total{x=\"ab\",y=\"c\"} 1",
            "y_total{x=\"a\",y=\"bc\"} 2",
            "y_total{x=\"a\"} 3",
            "y_total{z=\"\\\"\\\\\\n,é\"} 4",
            "y_total 5",
        ]
    );
}

#[test]
fn what_would_be_one_metric_here_is_refused_and_counted() {
    let (collector, recorder) = facade();
    collector.gauge("own_level", "Not of the facade.").register().unwrap().plain().set(1.0);
    let page = page_of(&recorder, &collector, || {
        counter!("a.b").increment(1);
        counter!("a-b").increment(10);
        gauge!("a.b").set(10.0);
        gauge!("own.level").set(10.0);
        counter!("l", "x.y" => "1").increment(1);
        counter!("l", "x_y" => "1").increment(10);
        counter!("l", "z.z" => "1", "z-z" => "2").increment(10);
        counter!("l", "q" => "1", "q" => "2").increment(10);
        histogram!("a.b").record(1.0);
        metrics::describe_counter!("a.b", "Too late.");
        metrics::describe_gauge!("a.b", "Of another type.");
    });
    assert_eq!(lines(&page, "a_b"), ["a_b_total 1"]);
    assert_eq!(lines(&page, "own"), ["own_level 1"]);
    assert_eq!(lines(&page, "l_total"), ["l_total{x_y=\"1\"} 1"]);
    let mut refused = lines(&page, REFUSED);
    refused.sort_unstable();
    let count = |reason, count| format!("{REFUSED}{{reason=\"{reason}\"}} {count}");
    let expected = [
        count("description", 1),
        count("labels", 3),
        count("name", 1),
        count("taken", 1),
        count("type", 3),
    ];
    assert_eq!(refused, expected);
}

#[test]
fn a_description_comes_first_or_there_is_a_default() {
    let (collector, recorder) = facade();
    let page = page_of(&recorder, &collector, || {
        counter!("plain").increment(1);
        metrics::describe_histogram!("wait", Unit::Milliseconds, "Time in the queue.");
        metrics::describe_gauge!("blank", "  ");
        metrics::describe_counter!("sent", Unit::Bytes, "Never used.");
        metrics::describe_counter!("sent.bytes", Unit::Bytes, "Sent.");
        metrics::describe_counter!("sent.bytes", Unit::Bytes, "Sent so far.");
        histogram!("wait").record(1.0);
        gauge!("blank").set(1.0);
        counter!("sent.bytes").increment(1);
    });
    assert!(page.contains(&format!("# HELP plain_total {DEFAULT_HELP}\n")), "{page}");
    assert!(page.contains("# HELP wait Time in the queue. (Unit: milliseconds.)\n"), "{page}");
    assert!(page.contains(&format!("# HELP blank {DEFAULT_HELP}\n")), "{page}");
    assert!(page.contains("# HELP sent_bytes_total Sent so far.\n"), "{page}");
    assert!(collector.encode_openmetrics().contains("# UNIT sent_bytes bytes\n"));
}

#[test]
fn distributions_are_what_was_asked_for() {
    let collector = MetricsCollector::new();
    let builder = FacadeRecorder::builder(&collector).summaries();
    let recorder = builder.buckets("*.seconds", [0.5]).buckets("*", [1.0, 2.0]).build().unwrap();
    let page = page_of(&recorder, &collector, || {
        histogram!("run.seconds").record(0.5);
        histogram!("size").record(1.5);
    });
    let expected = ["run_seconds_bucket{le=\"0.5\"} 1", "run_seconds_bucket{le=\"+Inf\"} 1"];
    assert_eq!(lines(&page, "run_seconds_bucket"), expected);
    assert_eq!(lines(&page, "size_bucket").len(), 3);

    let collector = MetricsCollector::new();
    let recorder = FacadeRecorder::builder(&collector).summaries().build().unwrap();
    with_local_recorder(&recorder, || histogram!("size").record(8.0));
    let page = collector.encode_text();
    assert!(page.contains("# TYPE size summary\n"), "{page}");
    assert_eq!(lines(&page, "size_count"), ["size_count 1"]);

    let refused = FacadeRecorder::builder(&collector).buckets("*", [2.0, 1.0]).build();
    assert!(refused.unwrap_err().to_string().contains("[2.0, 1.0]"));
    let refused = FacadeRecorder::builder(&collector).exponential(9).build();
    assert!(refused.unwrap_err().to_string().contains("got 9"));
}

#[test]
fn constant_labels_keep_their_names() {
    let collector = MetricsCollector::builder().constant_label("zone", "b").build().unwrap();
    let recorder = FacadeRecorder::builder(&collector).build().unwrap();
    let page = page_of(&recorder, &collector, || {
        counter!("x", "zone" => "mine", "le" => "1").increment(1);
    });
    let expected = "x_total{zone=\"b\",exported_le=\"1\",exported_zone=\"mine\"} 1";
    assert_eq!(lines(&page, "x_total"), [expected]);
}

#[test]
fn threads_that_meet_a_label_set_at_once_get_one_series() {
    const THREADS: usize = 8;
    const SETS: u64 = 200;
    let (collector, recorder) = facade();
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                barrier.wait();
                with_local_recorder(&recorder, || {
                    for round in 0..10 * SETS {
                        counter!("x", "set" => (round % SETS).to_string()).increment(1);
                        counter!("raised").absolute(round);
                    }
                });
            });
        }
    });
    let page = collector.encode_text();
    let counts = lines(&page, "x_total{");
    assert_eq!(counts.len() as u64, SETS);
    assert!(counts.iter().all(|line| line.ends_with("} 80")), "{counts:?}");
    assert_eq!(lines(&page, "raised_total"), [format!("raised_total {}", 10 * SETS - 1)]);
}

#[test]
fn label_sets_over_the_limit_keep_their_total_and_are_counted() {
    let collector = MetricsCollector::new();
    let recorder = FacadeRecorder::builder(&collector).max_series(10).build().unwrap();
    let page = page_of(&recorder, &collector, || {
        (0..10_000).for_each(|user: u32| counter!("x", "user" => user.to_string()).increment(1));
    });
    assert_eq!(lines(&page, "x_total{").len(), 11);
    assert!(page.contains("x_total{otel_metric_overflow=\"true\"} 9990\n"), "{page}");
    let overflowed = "tripod_metrics_label_sets_overflowed_total{family=\"x_total\"} 9990\n";
    assert!(page.contains(overflowed), "{page}");
}

/// A collector whose clock is the returned number of seconds.
fn aging() -> (MetricsCollector, FacadeRecorder, Arc<AtomicU64>) {
    let seconds = Arc::new(AtomicU64::new(1_000_000));
    let clock = Arc::clone(&seconds);
    let now = move || SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::Relaxed));
    let collector = MetricsCollector::builder().clock(now).build().expect("no constant labels");
    let builder = FacadeRecorder::builder(&collector).idle_timeout(Duration::from_secs(60));
    (collector, builder.build().expect("the collector is new"), seconds)
}

#[test]
fn a_held_handle_is_never_orphaned_and_an_idle_series_goes() {
    let (collector, recorder, seconds) = aging();
    let held = with_local_recorder(&recorder, || {
        let held = counter!("x", "by" => "handle");
        held.increment(5);
        counter!("x", "by" => "macro").increment(5);
        histogram!("h", "by" => "macro").record(1.0);
        gauge!("busy").set(1.0);
        held
    });
    for _ in 0..10 {
        seconds.fetch_add(60, Ordering::Relaxed);
        collector.maintain();
        // A thread that records something forgets what it does not use.
        with_local_recorder(&recorder, || gauge!("busy").increment(1.0));
    }
    let page = collector.encode_text();
    assert_eq!(lines(&page, "x_total"), ["x_total{by=\"handle\"} 5"]);
    assert_eq!(lines(&page, "busy"), ["busy 11"]);
    assert!(lines(&page, "h_").is_empty(), "{page}");

    held.increment(1);
    with_local_recorder(&recorder, || {
        counter!("x", "by" => "handle").increment(1);
        counter!("x", "by" => "macro").increment(1);
    });
    let page = collector.encode_text();
    let expected = ["x_total{by=\"handle\"} 7", "x_total{by=\"macro\"} 1"];
    let mut found = lines(&page, "x_total");
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn nothing_is_lost_while_series_come_and_go() {
    let (collector, recorder, seconds) = aging();
    let held = with_local_recorder(&recorder, || counter!("held"));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for round in 0..20_000_u32 {
                        held.increment(1);
                        with_local_recorder(&recorder, || {
                            counter!("busy").increment(1);
                            counter!("idle", "round" => (round / 100).to_string()).increment(1);
                        });
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                seconds.fetch_add(100, Ordering::Relaxed);
                collector.maintain();
            }
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    let page = collector.encode_text();
    assert_eq!(lines(&page, "held_total"), ["held_total 40000"]);
    // The threads, and what they remembered, are gone. A removal is put off while a thread, be it of
    // another test, is in the midst of writing.
    let is_idle_left = || !lines(&collector.encode_text(), "idle_total").is_empty();
    for _ in 0..1000 {
        if is_idle_left() {
            seconds.fetch_add(100, Ordering::Relaxed);
            collector.maintain();
        }
    }
    assert!(!is_idle_left(), "idle series stay");
}

#[test]
fn more_keys_than_a_thread_remembers_are_still_exact() {
    let collector = MetricsCollector::new();
    let recorder = FacadeRecorder::builder(&collector).max_series(20_000).build().unwrap();
    let page = page_of(&recorder, &collector, || {
        for _ in 0..2 {
            (0..20_000).for_each(|i: u32| counter!("x", "i" => i.to_string()).increment(1));
        }
    });
    let counts = lines(&page, "x_total{");
    assert_eq!(counts.len(), 20_000);
    assert!(counts.iter().all(|line| line.ends_with("} 2")));
}

/// A key of the facade: whether it is a gauge, its name, its labels.
type Drawn = (bool, String, BTreeMap<String, String>);

fn keys() -> impl Strategy<Value = Vec<Drawn>> {
    let labels =
        prop::collection::btree_map("[a._-]{0,2}|le|exported_le|zone", "[ab\"]{0,2}", 0..4);
    let name = "[a._-]{0,3}(_total)?";
    prop::collection::vec((any::<bool>(), name, labels), 1..50)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Each key adds a bit of its own, so a series of two keys would have two.
    #[test]
    fn no_two_keys_are_ever_one_series(drawn in keys()) {
        const METADATA: Metadata<'_> = Metadata::new("test", Level::INFO, None);
        let collector = MetricsCollector::builder().constant_label("zone", "x").build().unwrap();
        let recorder = FacadeRecorder::builder(&collector).build().unwrap();
        let mut bits: HashMap<Drawn, u64> = HashMap::new();
        for (round, key) in drawn.iter().chain(&drawn).enumerate() {
            let next = 1 << bits.len();
            let (is_first, bit) = match bits.get(key) {
                Some(bit) => (false, *bit),
                None => (bits.insert(key.clone(), next).is_none(), next),
            };
            let (is_gauge, name, labels) = key;
            let mut labels: Vec<Label> = labels.iter().map(Label::from).collect();
            if round % 2 == 1 {
                labels.reverse();
            }
            let amount = if is_first { bit } else { 0 };
            let key = Key::from_parts(name.clone(), labels);
            if *is_gauge {
                recorder.register_gauge(&key, &METADATA).increment(amount as f64);
            } else {
                recorder.register_counter(&key, &METADATA).increment(amount);
            }
        }
        let page = collector.encode_text();
        let families = checker::read(&page);
        let samples = families.iter().flat_map(|family| &family.samples);
        let mut found: Vec<u64> = samples.map(|s| s.value.parse().expect("a whole number")).collect();
        prop_assert!(found.iter().all(|value| value.count_ones() == 1), "{}", page);
        found.sort_unstable();
        prop_assert!(found.is_sorted_by(|a, b| a < b), "{}", page);
        let counts = lines(&page, REFUSED).into_iter().filter_map(|line| line.rsplit_once(' '));
        let refused: usize = counts.map(|(_, count)| count.parse::<usize>().expect("a count")).sum();
        prop_assert_eq!(found.len() + refused, bits.len(), "{}", page);
    }
}
