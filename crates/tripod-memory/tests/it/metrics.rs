use tripod_memory::MemoryManager;
use tripod_metrics::MetricsCollector;

use crate::in_line;

fn lines(metrics: &MetricsCollector) -> Vec<String> {
    let page = metrics.encode_text();
    let ours = page.lines().filter(|line| line.starts_with("tripod_memory_"));
    ours.map(str::to_owned).collect()
}

#[test]
fn the_page_says_what_the_stats_say() {
    let metrics = MetricsCollector::new();
    let memory = MemoryManager::builder().budget_bytes(10_000).metrics(&metrics).build().unwrap();
    let child = memory.budget("child").limit_bytes(5000).create().unwrap();

    drop(memory.acquire(1024).unwrap());
    let _hit = memory.acquire(1024).unwrap();
    drop(memory.acquire(256).unwrap());
    memory.acquire(20_000).unwrap_err();
    let _held = child.try_reserve(5000).unwrap();
    let _waits = in_line(child.reserve(1));

    let expected = [
        r#"tripod_memory_acquires_total{result="hit"} 1"#,
        r#"tripod_memory_acquires_total{result="miss"} 2"#,
        r#"tripod_memory_acquires_total{result="refused"} 1"#,
        r#"tripod_memory_budget_bytes{budget="child"} 5000"#,
        r#"tripod_memory_budget_bytes{budget="root"} 10000"#,
        r#"tripod_memory_budget_used_bytes{budget="child"} 5000"#,
        r#"tripod_memory_budget_used_bytes{budget="root"} 6024"#,
        r#"tripod_memory_bytes{state="idle"} 256"#,
        r#"tripod_memory_bytes{state="reserved"} 5000"#,
        r#"tripod_memory_bytes{state="used"} 1024"#,
        "tripod_memory_peak_bytes 6280",
        "tripod_memory_reservation_waits_total 1",
    ];
    let mut lines = lines(&metrics);
    lines.sort();
    assert_eq!(lines, expected);
    let stats = memory.stats();
    assert_eq!((stats.hits, stats.misses, stats.refused, stats.waits), (1, 2, 1, 1));
    assert_eq!((stats.reserved_bytes, stats.used_bytes, stats.idle_bytes), (5000, 1024, 256));
    assert_eq!((stats.committed_bytes, stats.peak_bytes, stats.waiting), (6280, 6280, 1));
}

#[test]
fn a_manager_that_is_gone_leaves_no_gauge_behind() {
    let metrics = MetricsCollector::new();
    let memory = MemoryManager::builder().metrics(&metrics).build().unwrap();
    assert!(lines(&metrics).iter().any(|line| line.starts_with("tripod_memory_bytes")));
    assert!(
        !lines(&metrics).iter().any(|line| line.starts_with("tripod_memory_budget_bytes")),
        "an unlimited budget has no limit to show"
    );
    drop(memory);
    assert!(lines(&metrics).iter().all(|line| line.contains("_total")));
}

#[test]
fn a_name_that_is_taken_is_an_error_of_the_build() {
    let metrics = MetricsCollector::new();
    metrics.gauge("tripod_memory_bytes", "Something else.").register().unwrap();
    let error = MemoryManager::builder().metrics(&metrics).build().unwrap_err();
    assert!(error.to_string().starts_with("memory manager has no metrics: "), "{error}");
}
