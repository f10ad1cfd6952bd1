use std::time::{Duration, Instant};

use tripod_memory::{MemoryManager, SystemMemory};
use tripod_metrics::MetricsCollector;

use crate::{granted, in_line};

fn lines(metrics: &MetricsCollector) -> Vec<String> {
    let page = metrics.encode_text();
    let ours = page.lines().filter(|line| line.starts_with("tripod_memory_"));
    ours.map(str::to_owned).collect()
}

#[test]
fn the_page_says_what_the_stats_say() {
    let metrics = MetricsCollector::new();
    let builder = MemoryManager::builder().budget_bytes(20_000).metrics(&metrics);
    let memory = builder.background_collection(false).build().unwrap();
    let child = memory.budget("child").limit_bytes(5000).create().unwrap();

    drop(memory.acquire(4096).unwrap());
    let _hit = memory.acquire(4000).unwrap();
    drop(memory.acquire(8192).unwrap());
    memory.acquire(20_001).unwrap_err();
    let _held = child.try_reserve(5000).unwrap();
    let _waits = in_line(child.reserve(1));

    let expected = [
        r#"tripod_memory_acquires_total{result="hit"} 1"#,
        r#"tripod_memory_acquires_total{result="miss"} 2"#,
        r#"tripod_memory_acquires_total{result="refused"} 1"#,
        r#"tripod_memory_budget_bytes{budget="child"} 5000"#,
        r#"tripod_memory_budget_bytes{budget="root"} 20000"#,
        r#"tripod_memory_budget_peak_bytes{budget="child"} 5000"#,
        r#"tripod_memory_budget_peak_bytes{budget="root"} 17288"#,
        r#"tripod_memory_budget_used_bytes{budget="child"} 5000"#,
        r#"tripod_memory_budget_used_bytes{budget="root"} 9096"#,
        r#"tripod_memory_bytes{state="idle"} 8192"#,
        r#"tripod_memory_bytes{state="reserved"} 5000"#,
        r#"tripod_memory_bytes{state="used"} 4096"#,
        r#"tripod_memory_class_acquires_total{size="4096",result="hit"} 1"#,
        r#"tripod_memory_class_acquires_total{size="4096",result="miss"} 1"#,
        r#"tripod_memory_class_acquires_total{size="8192",result="hit"} 0"#,
        r#"tripod_memory_class_acquires_total{size="8192",result="miss"} 1"#,
        r#"tripod_memory_class_bytes{size="4096",state="committed"} 4096"#,
        r#"tripod_memory_class_bytes{size="4096",state="used"} 4096"#,
        r#"tripod_memory_class_bytes{size="8192",state="committed"} 8192"#,
        r#"tripod_memory_class_bytes{size="8192",state="used"} 0"#,
        r#"tripod_memory_class_handed_out_bytes_total{size="4096"} 8192"#,
        r#"tripod_memory_class_handed_out_bytes_total{size="8192"} 8192"#,
        r#"tripod_memory_class_requested_bytes_total{size="4096"} 8096"#,
        r#"tripod_memory_class_requested_bytes_total{size="8192"} 8192"#,
        "tripod_memory_collected_bytes_total 0",
        "tripod_memory_expired_leases_total 0",
        "tripod_memory_leases 0",
        "tripod_memory_panics_total 0",
        "tripod_memory_peak_bytes 17288",
        "tripod_memory_pressure 0",
        "tripod_memory_reservation_waits_total 1",
        "tripod_memory_spilled_bytes_total 0",
        "tripod_memory_uncharged_bytes 0",
    ];
    let mut lines = lines(&metrics);
    lines.retain(|line| !line.starts_with("tripod_memory_collection_seconds"));
    lines.sort();
    assert_eq!(lines, expected);
    let stats = memory.stats();
    assert_eq!((stats.hits, stats.misses, stats.refused, stats.waits), (1, 2, 1, 1));
    assert_eq!((stats.reserved_bytes, stats.used_bytes, stats.idle_bytes), (5000, 4096, 8192));
    assert_eq!((stats.committed_bytes, stats.peak_bytes, stats.waiting), (17_288, 17_288, 1));
    assert_eq!((stats.requested_bytes, stats.fragmentation()), (16_288, 3.0));
}

#[test]
fn a_wait_is_timed_from_the_line_to_the_grant_and_by_its_budget() {
    let metrics = MetricsCollector::new();
    let memory = MemoryManager::builder().budget_bytes(1000).metrics(&metrics).build().unwrap();
    let child = memory.budget("child").create().unwrap();
    let held = memory.try_reserve(1000).unwrap();
    let mut waits = in_line(child.reserve(600));
    let cancelled = in_line(memory.reserve(1));
    let entered = Instant::now();
    let is_timed = |lines: Vec<String>| lines.iter().any(|line| line.contains("wait_seconds"));
    assert!(!is_timed(lines(&metrics)), "nobody has waited to the end");
    while entered.elapsed() < Duration::from_millis(2) {
        std::hint::spin_loop();
    }
    drop(cancelled);
    drop(held);
    // It is over now, whenever the future is polled.
    let stats = child.stats();
    assert_eq!((stats.waits, memory.root().stats().waits), (1, 0));
    assert!(stats.waited >= Duration::from_millis(2), "{:?}", stats.waited);
    assert_eq!((memory.stats().waited, memory.stats().waits), (stats.waited, 2));
    drop(granted(&mut waits));
    assert_eq!(child.stats().waits, 1);
    let count = r#"tripod_memory_reservation_wait_seconds_count{budget="child"} 1"#;
    assert!(lines(&metrics).iter().any(|line| line == count));
    // What is granted at once is no wait.
    drop(granted(&mut child.reserve(600)));
    assert_eq!(child.stats().waits, 1);
}

#[test]
fn what_is_above_the_largest_class_has_a_series_of_its_own() {
    let metrics = MetricsCollector::new();
    let builder = MemoryManager::builder().metrics(&metrics).size_classes([4096]).unwrap();
    let memory = builder.build().unwrap();
    let large = memory.acquire(5000).unwrap();
    let lines = lines(&metrics);
    let has = |wanted: &str| lines.iter().any(|line| line == wanted);
    assert!(has(r#"tripod_memory_class_bytes{size="larger",state="used"} 8192"#), "{lines:?}");
    assert!(has(r#"tripod_memory_class_requested_bytes_total{size="larger"} 5000"#), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("size=\"4096\"")), "it was never used");
    drop(large);
}

#[test]
fn leases_pressure_and_spills_are_on_the_page() {
    let metrics = MetricsCollector::new();
    let builder = MemoryManager::builder().budget_bytes(10_000).metrics(&metrics);
    let builder = builder.system_memory(SystemMemory::at("/none")).background_collection(false);
    let memory = builder.build().unwrap();
    let page = || lines(&metrics);
    let (step, start) = (Duration::from_secs(10), Instant::now());
    memory.lease(8192, step).unwrap();
    let _held = memory.try_reserve(1500).unwrap();
    page();
    memory.collect(start, step);
    let has = |wanted: &str| page().iter().any(|line| line == wanted);
    assert!(has("tripod_memory_leases 1") && has("tripod_memory_pressure 2"), "{:?}", page());
    memory.collect(start + 2 * step, step);
    memory.collect(start + 3 * step, step);
    assert!(has("tripod_memory_leases 0") && has("tripod_memory_pressure 0"), "{:?}", page());
    assert!(has("tripod_memory_expired_leases_total 1"));
}

#[test]
fn a_manager_that_is_gone_leaves_no_gauge_behind() {
    let metrics = MetricsCollector::new();
    // The background collector may hold on to a manager for the moment of a step.
    let builder = MemoryManager::builder().metrics(&metrics).background_collection(false);
    let memory = builder.build().unwrap();
    assert!(lines(&metrics).iter().any(|line| line.starts_with("tripod_memory_bytes")));
    assert!(
        !lines(&metrics).iter().any(|line| line.starts_with("tripod_memory_budget_bytes")),
        "an unlimited budget has no limit to show"
    );
    drop(memory);
    let left = lines(&metrics);
    let counted = |line: &String| line.contains("_total") || line.contains("_seconds");
    assert!(left.iter().all(counted), "{left:?}");
}

#[test]
fn a_name_that_is_taken_is_an_error_of_the_build() {
    let metrics = MetricsCollector::new();
    metrics.gauge("tripod_memory_bytes", "Something else.").register().unwrap();
    let error = MemoryManager::builder().metrics(&metrics).build().unwrap_err();
    assert!(error.to_string().starts_with("memory manager has no metrics: "), "{error}");
}
